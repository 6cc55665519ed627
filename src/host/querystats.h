/*
 * host/querystats.h - the shared numbers behind stat_queries.                      floor 4
 *
 * Answers: how often, how long, from where? One row an (origin, role, normalised text); hyperpool.query_stats rows, the least lately used goes when full.
 * Counts are atomics: any worker adds without a lock. One LWLock for taking rows. Texts are shown by the view to their own role alone.
 */
#ifndef HYPERPOOL_HOST_QUERYSTATS_H
#define HYPERPOOL_HOST_QUERYSTATS_H

#include "postgres.h"
#include "core/statement.h"

#define QUERY_STATS_TEXT	1024	/* normalised texts are cut here */

extern Size querystats_shmem_size(void);
extern void querystats_shmem_init(void);

/*
 * The row of a text, as a handle for the functions below (raw: it is normalised here, only when it is not known by its digest); 0 = none
 * (statistics are off, no memory). A handle whose row has gone to another text counts nothing.
 */
extern int32 querystats_row(int16 origin_slot, Oid origin, Oid role, Bytes text, Digest128 digest);
/* Is the handle, taken for this digest, still good, and of (origin, role)? A few reads; false: take it anew. */
extern bool querystats_row_is(int32 row, Oid origin, Oid role, Digest128 digest);
extern void querystats_hit(int32 row, uint32 saved_us);
/* An exchange that went to the origin: why (REASON_CACHEABLE: a miss that was kept or could be), and how long. */
extern void querystats_asked(int32 row, CacheReason reason, int64 took_us);
extern void querystats_flushed(int32 row);	/* it has written anything: the whole cache of its cluster went */

typedef struct QueryStats		/* a copy */
{
	int16		origin_slot;
	Oid			origin;
	Oid			role;
	char		text[QUERY_STATS_TEXT];
	uint64		calls;
	uint64		hits;
	uint64		reasons[REASON_LIMIT];	/* of those that went to the origin */
	uint64		flushes;
	int64		origin_us;
	int64		p50_us;
	int64		p99_us;
	int64		saved_us;
} QueryStats;

extern int	querystats_rows(void);
extern bool querystats_read(int number, QueryStats *out);	/* 0 .. rows - 1; false: free */
extern void querystats_reset(void);
/* Appends the text with literals as $1, $2 …; what cannot be told apart safely stays out (ends in …). Pure. */
extern void querystats_normalise(Bytes text, ByteBuffer *out);

#endif
