/*
 * host/store_internal.h - what the parts of host/store share.
 *
 * Lock order: a partition's lock, then none. No two partitions' locks are held together, and no other lock under one of them (the pool of
 * pages needs none, versions are read without). Under them there is no ERROR, no allocation and no wait.
 */
#ifndef HYPERPOOL_HOST_STORE_INTERNAL_H
#define HYPERPOOL_HOST_STORE_INTERNAL_H

#include "postgres.h"

#include "core/shelf.h"
#include "host/gucs.h"
#include "host/store.h"
#include "host/versions.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define STORE_PARTITIONS_MAX	16
#define PINS_OF_WORKER		4096
#define PINS_FOR_SHORT		64		/* of them, for answers that lie in one piece */
#define FLIGHT_BUCKETS		64		/* of a partition */
#define FLIGHT_NUMBER_BITS	14
#define FLIGHTS_MAX			1000	/* of a partition: 16 of them stay within the bits */
#define NO_FLIGHT			(-1)
#define ORIGINS_KNOWN		4096	/* origins that ever had an entry since the server started */

typedef struct Flight			/* under its partition's lock; pages and len are its worker's alone while it is up */
{
	pg_atomic_uint32 id;		/* count of its uses and its number; 0 = over. Read without the lock */
	pg_atomic_uint32 waiting;	/* bits: workers to be woken at its end */
	pg_atomic_uint32 held;		/* it stands still: 0 or 1 */
	uint32		uses;
	int32		next;			/* in its bucket or the free list */
	int16		worker;
	uint16		origin;
	uint32		hash;
	uint32		key_len;
	uint32		first;			/* pages: key and value as they come */
	Digest128	digest;
	uint64		sum;			/* R1 */
	uint8		nslots;
	uint16		slots[PROOF_SLOTS];
} Flight;

typedef struct Partition
{
	LWLock		lock;
	int32		free_flight;
	int32		free_last;		/* used in turn, so that an old id is not soon another's */
	int32		flights[FLIGHT_BUCKETS];
} Partition;

typedef struct Pin
{
	uint32		entry;			/* 0 = free */
	uint32		next;			/* free list: place + 1 */
} Pin;

typedef struct WorkerPins		/* its worker's alone */
{
	uint32		free;			/* place + 1 */
	uint32		used;
	Pin			pins[PINS_OF_WORKER];
} WorkerPins;

typedef struct KnownOrigin
{
	pg_atomic_uint32 ready;
	Oid			origin;
	int16		slot;
} KnownOrigin;

typedef struct StoreShared
{
	int			tranche;
	int			partitions;
	int			workers;
	int			flights;		/* of a partition */
	uint64		size;			/* hyperpool.cache_size, as far as it is used */
	uint64		total;			/* of the area */
	uint64		pool_at;		/* offsets from here */
	uint64		shelves_at;
	uint64		shelf_size;
	uint64		flights_at;
	uint64		pins_at;
	uint64		scopes_at;
	uint64		scopes_size;
	pg_atomic_uint32 hand;		/* the partition whose turn it is to make room */
	pg_atomic_uint64 inserts;
	pg_atomic_uint64 evictions;
	pg_atomic_uint64 purged;
	pg_atomic_uint64 outdated;
	pg_atomic_uint64 too_large;
	pg_atomic_uint64 joined;
	LWLock		origins_lock;	/* to add one; a row that is ready does not change */
	KnownOrigin origins[ORIGINS_KNOWN];
	union
	{
		Partition	p;
		char		pad[(sizeof(Partition) + PG_CACHE_LINE_SIZE - 1) / PG_CACHE_LINE_SIZE * PG_CACHE_LINE_SIZE];
	}			parts[STORE_PARTITIONS_MAX];
} StoreShared;

extern StoreShared *store_shared;	/* NULL: none */

/* store.c */
extern ShelfView store_view(int partition);
extern int	store_partition_of(Digest128 digest);
extern Partition *store_part(int partition);
extern uint32 store_page(void);	/* a free page, made by eviction if need be; 0 = cannot be had. No partition's lock is held */
extern bool store_entry_holds(const ShelfItem *item, const uint32 *slots, int nslots, uint64 sum);
extern KnownOrigin *store_origin_at(uint16 number);
extern uint64 store_pins_held(void);

/* store_fill.c */
typedef enum FlightOpened
{
	FLIGHT_OPENED, FLIGHT_BUSY /* another's is open, or there is an entry by now */ , FLIGHT_NO_ROOM
} FlightOpened;

typedef struct StoreLook		/* one lookup on its way */
{
	const StoreRequest *request;
	uint32		hash;
	int			partition;
	uint16		origin;
	uint64		sum;
	bool		replace;		/* the flight is to refresh an entry that still holds */
} StoreLook;

extern void store_flights_init(void);
extern Flight *store_flight_find(int partition, uint32 hash, Digest128 digest);	/* under the lock */
extern FlightOpened store_flight_open(const StoreLook *look, StoreFill *fill);
extern void store_clear_flights(int worker);
extern int	store_flights_open(void);
/* store.c, for store_flight_open: an entry that may be given to this request; drops one that never can be. Under the exclusive lock. */
extern bool store_entry_serves(const StoreLook *look);

/* store_scope.c */
extern Size store_scopes_size(void);
extern void store_scopes_init(void);

#endif
