/*
 * core/frame.h - where does the next message begin and end?                      floor 1
 *
 * Owns nothing but the few bytes of FrameReader. Never copies: what it hands
 * out are views into the caller's bytes. May be stopped and resumed at any byte.
 */
#ifndef HYPERPOOL_CORE_FRAME_H
#define HYPERPOOL_CORE_FRAME_H

#include "core/bytes.h"

/* Which side's message lengths are allowed (PostgreSQL's SocketBackend for clients). */
typedef enum FrameSide
{
	FRAME_FROM_CLIENT,			/* Q P B F d: below 1 GB; the others at most 10,000 bytes */
	FRAME_FROM_ORIGIN			/* any length up to 2 GB */
} FrameSide;

typedef enum FrameVerdict
{
	FRAME_MORE,					/* not enough bytes yet; keep them */
	FRAME_WHOLE,				/* one whole message */
	FRAME_PART,					/* a piece of a message longer than whole_max */
	FRAME_BAD_LENGTH			/* the length field is impossible */
} FrameVerdict;

typedef struct FrameReader
{
	uint32_t	left;			/* body bytes of a started message still to come */
	uint32_t	length;			/* body length of the whole of it */
	uint8_t		type;			/* its type */
	uint8_t		side;			/* FrameSide */
} FrameReader;

typedef struct Frame
{
	uint8_t		type;
	bool		first;			/* raw starts with type and length */
	bool		last;			/* the message ends with raw */
	uint32_t	length;			/* body length of the whole message (length field - 4) */
	Bytes		raw;			/* the bytes of this piece, header included when first */
	Bytes		body;			/* raw without the header */
} Frame;

/*
 * Looks at `in` and describes the next message or piece in *out (raw.len bytes
 * of `in` are then used up). A message whose header and body fit in whole_max
 * is handed out only whole. A longer one comes in pieces as they arrive, the first of
 * at least whole_max bytes, so that names at its front can be read; whole_max >= 5.
 * One that is all there comes as a single FRAME_PART, first and last: the verdict depends
 * on the length alone, never on how the bytes arrived.
 */
extern FrameVerdict frame_next(FrameReader *reader, Bytes in, size_t whole_max, Frame *out);

/* True while a message has been handed out in part. */
static inline bool
frame_inside(const FrameReader *reader)
{
	return reader->left > 0;
}

/*
 * The first packet of a connection (no type byte): FRAME_WHOLE with the bytes
 * after the length in *body and the bytes used in *used; lengths outside
 * 8..10000 are bad.
 */
extern FrameVerdict frame_startup(Bytes in, Bytes *body, size_t *used);

#endif
