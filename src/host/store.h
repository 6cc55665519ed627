/*
 * host/store.h - the shared result cache.                                          floor 5
 *
 * Answers: is there an answer to this request, and may it be given now? Owns hyperpool.cache_size bytes of shared memory, every lock of the cache, the
 * flights (one request at the origin per key, across workers), eviction and the statistics of the cache. In partitions, each with its LWLock, index and policy;
 * values lie in pages of one pool and in slots of such pages (core/shelf), so that any mix of sizes fits. An entry does not change once it can be found.
 * Never: knows SQL, sends anything, holds a lock while the caller does something.
 *
 * What a process holds (pins, fills, flights) is written down per worker: store_clear_worker gives it all back when it has ended.
 */
#ifndef HYPERPOOL_HOST_STORE_H
#define HYPERPOOL_HOST_STORE_H

#include "postgres.h"
#include "core/bytes.h"
#include "core/statement.h"

extern Size store_shmem_size(void);
extern void store_shmem_init(void);
extern bool store_enabled(void);		/* hyperpool.cache_size > 0 and shared memory is there */
extern bool store_prefault_some(void);	/* the manager, again and again: touches the next few megabytes, so that no worker must. False: that was all */
extern void store_clear_worker(int worker);	/* at its start and its end */

/*
 * Whose request it is (local role; origin, its generation, database, user there, settings vector), as a small number: equal role and bytes give the same number, and a number is never
 * given to others. When the table of them is full it begins anew; numbers go on, so older entries are just not found any more. 0 = no memory.
 */
extern uint32 store_scope(Oid role, Bytes bytes);
extern Oid	store_scope_role(uint32 scope);	/* InvalidOid: nobody's any more */

#define STORE_KEY_MAX	16384

typedef struct StoreRequest
{
	int			worker;
	int16		origin_slot;
	Oid			origin;			/* of the foreign server: an entry of a dropped origin is never found by another in its slot */
	Digest128	digest;			/* of key */
	Bytes		key;			/* compared in full; 1 .. STORE_KEY_MAX bytes, longer ones are not kept */
	const uint32 *slots;		/* what it hangs on: 1 .. PROOF_SLOTS version slots */
	int			nslots;
	int64		now;			/* versions_clock() */
	int64		max_age;		/* microseconds from here: how old may it be … */
	int64		stale_for;		/* … and how much older, if it is being refreshed */
	int64		if_error;		/* … and how much older still while the origin is down; 0 = the origin is up, or not allowed */
	bool		may_fill;		/* the caller can record the answer */
	bool		may_join;		/* the caller can wait for another's */
} StoreRequest;

typedef enum StoreVerdict
{
	STORE_HIT,					/* *hit is pinned: store_release it */
	STORE_HIT_REFRESH,			/* the same, and the caller has got the flight to refresh it: *fill too */
	STORE_MISS,					/* the caller has got the flight: ask the origin, record into *fill, commit or abort */
	STORE_JOIN,					/* somebody is asking: *flight; wait until store_flight_over, then look up again */
	STORE_ALONE					/* ask the origin without recording: a writer is in flight, nothing may be kept, no memory */
} StoreVerdict;

typedef struct StoreHit
{
	uint32		entry;			/* opaque */
	uint32		segment;		/* opaque: where store_next is */
	uint64		left;			/* bytes not yet given by store_next */
	uint64		len;			/* of the value */
	uint32		head_len;		/* its first bytes are the RowDescription (0: there is none) */
	uint64		shape;			/* as committed */
	int64		age;			/* microseconds */
	int64		lifetime;		/* microseconds from now until it may not be served any more as fresh */
	uint32		cost;			/* microseconds the origin took */
	uint32		pin;			/* opaque: where it is written down that this worker has it */
} StoreHit;

typedef struct StoreFill
{
	uint32		flight;			/* 0 = none: a zeroed one is inert */
	uint32		entry;			/* opaque */
	uint32		last;			/* opaque: segment being filled */
	uint64		len;
	uint64		max_len;		/* set by the caller before the first append: max_result_size */
} StoreFill;

extern StoreVerdict store_lookup(const StoreRequest *request, StoreHit *hit, StoreFill *fill, uint32 *flight);

/* The next piece of the value of a pinned entry, in shared memory, valid while pinned; len 0 at the end. */
extern Bytes store_next(StoreHit *hit);
extern void store_release(int worker, StoreHit *hit);	/* and zeroes it */

/* False: too long, or no room; the fill is aborted already and inert. */
extern bool store_append(int worker, StoreFill *fill, Bytes bytes);
/* The answer is whole. It is found from now on if the versions are still those of the lookup; joiners go on. */
extern void store_commit(int worker, StoreFill *fill, uint32 head_len, uint64 shape, uint32 cost, int64 now);
extern void store_abort(int worker, StoreFill *fill);	/* joiners go on, each for itself; inert fills are fine */

/* The fill stands still (or goes on): its client does not take the answer. Nobody joins it meanwhile. */
extern void store_hold(int worker, StoreFill *fill, bool held);
extern bool store_flight_held(uint32 flight);
/* Has the flight ended (or never been)? One atomic read. */
extern bool store_flight_over(uint32 flight);
/* A joiner of this worker waits for it: whoever ends it wakes the worker (cancel_wake_worker is called by on_wake). */
extern void store_join(int worker, uint32 flight);
extern void store_on_wake(void (*wake) (int worker));	/* set once a process */

/* ---- for SQL functions and views; any process ---- */

typedef struct StoreEntryInfo
{
	int16		origin_slot;
	Oid			origin;
	uint64		len;			/* of the value */
	uint32		key_len;
	uint32		occupied;		/* bytes of cache_size it takes */
	int64		born;			/* versions_clock() */
	uint64		hits;
	uint64		shape;
	bool		valid;			/* its versions still hold and no writer is in flight */
	uint32		nslots;
	uint32		slots[PROOF_SLOTS];
} StoreEntryInfo;

/* Calls visit with a copy of each entry's info and key (key valid during the call; no lock is held). False from visit ends the walk. */
extern void store_walk(bool (*visit) (void *arg, const StoreEntryInfo *info, Bytes key), void *arg);
/* Removes the entries that `which` picks (called with the partition's lock held: no elog, no allocation); how many. */
extern uint64 store_purge(bool (*which) (void *arg, const StoreEntryInfo *info, Bytes key), void *arg);

typedef struct StoreStatistics
{
	uint64		size;			/* bytes of cache_size */
	uint64		used;			/* in segments of entries */
	uint64		value_bytes;	/* keys and values proper */
	uint64		entries;
	uint64		inserts;
	uint64		evictions;		/* for room */
	uint64		purged;			/* invalidate() */
	uint64		outdated;		/* found with other versions, or too old: removed when looked up */
	uint64		too_large;		/* results over max_result_size or without room */
	uint64		joined;			/* lookups that waited for a flight */
	uint64		flights;		/* at this moment */
	uint64		pinned;			/* entries pinned at this moment */
} StoreStatistics;

extern void store_statistics(StoreStatistics *out);
extern void store_reset_statistics(void);

#endif
