/*
 * core/sharing.h - may this read share a link with others, and behind how much?    floor 1
 *
 * Answers: how long does a statement take, lately (Pace)? Is it quick enough to be sent behind others, and is this link in a
 * state to take it? Owns the table of paces of a worker and the numbers of the policy. Never: chooses among links (origin/pool does), knows what is
 * a read (client/session_share does).
 *
 * The policy. An origin's backend that finds its next query waiting does not go to sleep, so near origins gain when a few exchanges follow one another on one
 * link, and far ones when many do. Nobody is to wait long for a stranger: what stands before an exchange on a link must take little time altogether, by
 * what its statements have taken lately; what is not known to be quick has a link to itself.
 */
#ifndef HYPERPOOL_CORE_SHARING_H
#define HYPERPOOL_CORE_SHARING_H

#include "core/bytes.h"

/* ---- paces ---- */

typedef struct Pace				/* of a statement; all zero: not known */
{
	uint64_t	key;			/* Digest128.hi of what it is of */
	uint32_t	us;				/* what the origin needs for it when nothing else delays it; microseconds */
	uint32_t	bytes;			/* length of its answer, smoothed */
	uint32_t	seen;			/* how often, 2^32 - 1 at most */
} Pace;

typedef struct PaceTable PaceTable;

/* rows: a power of two. NULL: no memory. The newer statement pushes out the older where two meet in a row. */
extern PaceTable *pace_table_create(uint32_t rows);
extern void pace_table_destroy(PaceTable *table);
extern Pace pace_of(const PaceTable *table, Digest128 digest);	/* all zero if it is not known */
/* An answer has come to its end: it took the origin so long, and was so long. */
extern void pace_observe(PaceTable *table, Digest128 digest, int64_t us, uint64_t bytes);

/* ---- ways ---- */

typedef struct Way				/* to an origin, by one link or by any; all zero: not known */
{
	int64_t		rtt;			/* shortest answer lately, microseconds */
	int64_t		measured_at;
} Way;

/* Is it known, and not for so long that it may have become another? */
extern bool way_is_fresh(const Way *way, int64_t now);
/* An answer that nothing else delayed, here or at the origin: the way is as long as that, whatever it was. */
extern void way_measure(Way *way, int64_t us, int64_t now);
/* An answer to a statement: the way is not longer than that. */
extern void way_shorten(Way *way, int64_t us, int64_t now);

/* ---- the policy ---- */

typedef struct ShareLoad		/* what is on a link now */
{
	uint32_t	depth;			/* exchanges asked and not ended */
	uint64_t	work;			/* what they will take by their paces, microseconds */
	int64_t		rtt;			/* of its way; 0 = not known yet */
	int64_t		head_for;		/* how long the oldest has been waited for since it was its turn, microseconds; 0 if there is none */
} ShareLoad;

typedef enum ShareHow
{
	SHARE_PACKED,				/* though an idle link may be there: few, quick, and nothing stands still */
	SHARE_CROWDED				/* because no idle link is there */
} ShareHow;

/* May a statement of this pace be sent behind others at all? */
extern bool sharing_is_quick(const Pace *pace, int64_t rtt);
/* May it be put on a link with this load? max_depth: the origin's share_depth. */
extern bool sharing_has_room(const ShareLoad *load, const Pace *pace, ShareHow how, uint32_t max_depth);
/* After how long is the oldest exchange of a shared link taken to be stuck, so that those behind it go elsewhere? Microseconds. */
extern int64_t sharing_patience(int64_t rtt);

#endif
