/*
 * client/reply.h - the answer: replay an entry, or record one.                     floor 6
 *
 * Answers: which bytes of an answer are kept, and how do they become an answer again? A value is a RowDescription, rows and a CommandComplete (or PortalSuspended), as they came;
 * what depends on how it was asked (ParseComplete, BindComplete, ReadyForQuery) is made anew. Owns recordings. Never: decides what may be kept, touches a socket.
 */
#ifndef HYPERPOOL_CLIENT_REPLY_H
#define HYPERPOOL_CLIENT_REPLY_H

#include "postgres.h"
#include "core/frame.h"
#include "core/message.h"
#include "host/store.h"

/* An answer that is being recorded. Zeroed memory is none. */
typedef struct Recording
{
	StoreFill	fill;			/* fill.flight 0: nothing is recorded (any more) */
	FrameReader reader;
	uint64		shape;			/* of its rows */
	uint32		head_len;
	uint8		kept;			/* the message whose further pieces follow is kept */
	bool		extended;		/* what comes before BindComplete is about something else */
	bool		bound;			/* BindComplete has come */
	bool		complete;		/* CommandComplete has come */
	bool		limited;		/* Execute had a row limit: PortalSuspended ends it as well */
	bool		large;			/* given up because the result is too large */
} Recording;

static inline bool
recording_on(const Recording *r)
{
	return r->fill.flight != 0;
}

/* Takes the fill over. max_len: of the value. */
extern void recording_begin(Recording *r, const StoreFill *fill, bool extended, bool limited, uint64 max_len);
/* Bytes that go to the client: whole messages or pieces, in order. */
extern void recording_feed(int worker, Recording *r, Bytes run);
/* The RowDescription that the client did not ask for: the body, before any row. */
extern void recording_head(int worker, Recording *r, Bytes body);
/* The exchange has ended well or not: kept if it is whole. cost: microseconds; born: when it was asked. True: it was committed. */
extern bool recording_end(int worker, Recording *r, bool well, uint32 cost, int64 born);
extern void recording_abort(int worker, Recording *r);

/*
 * Appends the value of a pinned entry to out, with or without its RowDescription, until it is all there or `out` holds limit bytes.
 * True: all of it. *skipped is the state between calls, 0 at first: how much of the head has been passed over.
 */
extern bool reply_put(StoreHit *hit, bool with_head, uint32 *skipped, ByteBuffer *out, size_t limit);

#endif
