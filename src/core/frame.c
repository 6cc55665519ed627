/*
 * core/frame.c - where does the next message begin and end?
 *
 * Answers with views into the caller's bytes.  Owns nothing but the few
 * numbers in FrameReader.  Never copies, never looks into a body.
 */
#include "core/frame.h"

#define FRAME_HEADER		5u	/* type byte and length word */
#define FRAME_LENGTH_WORD	4u

/* Limits of the length word, as in PostgreSQL's libpq.h and SocketBackend(). */
#define FRAME_SMALL_MAX		10000u
#define FRAME_LARGE_MAX		0x3ffffffeu /* MaxAllocSize - 1 */
#define FRAME_TOKEN_MAX		65535u	/* PG_MAX_AUTH_TOKEN_LENGTH */
#define FRAME_ORIGIN_MAX	0x7fffffffu
#define FRAME_STARTUP_MIN	8u
#define FRAME_STARTUP_MAX	10000u

/* Types this side does not know count as small; who reads the message refuses them. */
static uint32_t
frame_limit(uint8_t side, uint8_t type)
{
	if (side == FRAME_FROM_ORIGIN)
		return FRAME_ORIGIN_MAX;
	switch (type)
	{
		case 'Q':
		case 'P':
		case 'B':
		case 'F':
		case 'd':
			return FRAME_LARGE_MAX;
		case 'p':
			return FRAME_TOKEN_MAX;
		default:
			return FRAME_SMALL_MAX;
	}
}

/* The next piece of a message handed out in part before. */
static FrameVerdict
frame_continue(FrameReader *reader, Bytes in, Frame *out)
{
	size_t		n = in.len < reader->left ? in.len : reader->left;

	if (n == 0)
		return FRAME_MORE;
	reader->left -= (uint32_t) n;
	out->type = reader->type;
	out->first = false;
	out->last = reader->left == 0;
	out->length = reader->length;
	out->raw = bytes_of(in.data, n);
	out->body = out->raw;
	return FRAME_PART;
}

/* The front of a message: all that is there of it, `n` bytes with the header. */
static void
frame_begin(FrameReader *reader, Bytes in, size_t n, uint32_t length, Frame *out)
{
	reader->type = in.data[0];
	reader->length = length;
	reader->left = (uint32_t) (FRAME_HEADER + (size_t) length - n);
	out->type = in.data[0];
	out->first = true;
	out->last = reader->left == 0;
	out->length = length;
	out->raw = bytes_of(in.data, n);
	out->body = bytes_of(in.data + FRAME_HEADER, n - FRAME_HEADER);
}

FrameVerdict
frame_next(FrameReader *reader, Bytes in, size_t whole_max, Frame *out)
{
	uint32_t	word;
	size_t		total;

	if (reader->left > 0)
		return frame_continue(reader, in, out);
	if (in.len < FRAME_HEADER)
		return FRAME_MORE;
	word = get_u32(in.data + 1);
	if (word < FRAME_LENGTH_WORD || word > frame_limit(reader->side, in.data[0]))
		return FRAME_BAD_LENGTH;

	if (whole_max < FRAME_HEADER)
		whole_max = FRAME_HEADER;
	total = (size_t) word + 1;
	if (in.len < (total < whole_max ? total : whole_max))
		return FRAME_MORE;
	frame_begin(reader, in, in.len < total ? in.len : total, word - FRAME_LENGTH_WORD, out);
	return total <= whole_max ? FRAME_WHOLE : FRAME_PART;
}

FrameVerdict
frame_startup(Bytes in, Bytes *body, size_t *used)
{
	uint32_t	word;

	if (in.len < FRAME_LENGTH_WORD)
		return FRAME_MORE;
	word = get_u32(in.data);
	if (word < FRAME_STARTUP_MIN || word > FRAME_STARTUP_MAX)
		return FRAME_BAD_LENGTH;
	if (in.len < word)
		return FRAME_MORE;
	*body = bytes_of(in.data + FRAME_LENGTH_WORD, word - FRAME_LENGTH_WORD);
	*used = word;
	return FRAME_WHOLE;
}
