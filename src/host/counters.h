/*
 * host/counters.h - the shared numbers behind the statistics views.                floor 4
 *
 * Answers: how much, how long, who is there? Owns three tables in shared memory: counters and histograms a (worker,
 * origin slot), one row a client, one row a link; the pool rows that hold the cap of links across workers; how many clients each worker has.
 *
 * Locks: a counter has one writer (its worker) and is read without a lock. Client and link rows are written by
 * their worker under a change count (odd while changing), read by copying until it stands still. Free lists and pool rows:
 * one LWLock, held for a few instructions, never over I/O.
 * Never: read by the route to decide anything but the cap; by the listener, to which worker a client goes.
 */
#ifndef HYPERPOOL_HOST_COUNTERS_H
#define HYPERPOOL_HOST_COUNTERS_H

#include "postgres.h"
#include "port/atomics.h"
#include "datatype/timestamp.h"
#include "core/bytes.h"
#include "host/gucs.h"

/* ---- shared memory ---- */
extern Size counters_shmem_size(void);
extern void counters_shmem_init(void);	/* in shmem_startup_hook, under AddinShmemInitLock */

/* ---- of the whole instance ---- */
extern bool counters_ready(void);		/* false: this process has no shared memory of ours (not preloaded) */
extern const uint8 *counters_digest_key(void);	/* 16 random bytes of this start of the server, for digest_seed */
extern TimestampTz counters_started_at(void);
extern int	client_rows_used(void);
extern int	link_rows_used(void);

/* ---- counters of an origin ---- */

typedef enum Counter
{
	COUNT_LOGINS, COUNT_LOGINS_FAILED, COUNT_EXCHANGES, COUNT_TRANSACTIONS, COUNT_ERRORS /* ErrorResponses of the origin */ ,
	COUNT_BYTES_FROM_CLIENTS, COUNT_BYTES_TO_CLIENTS, COUNT_BYTES_TO_ORIGIN, COUNT_BYTES_FROM_ORIGIN,
	COUNT_CHECKOUTS, COUNT_WAITS /* checkouts that queued */ , COUNT_QUEUE_TIMEOUTS, COUNT_WAIT_US, COUNT_QUERY_US, COUNT_TRANSACTION_US,
	COUNT_LINKS_OPENED, COUNT_LINKS_FAILED, COUNT_LINKS_LOST, COUNT_LINKS_RETIRED, COUNT_RESETS, COUNT_BOUND /* exchanges that bound a link */ ,
	COUNT_CLIENT_PARSES, COUNT_LINK_PARSES, COUNT_BINDS, COUNT_SETTINGS_APPLIED,
	COUNT_CANCELS, COUNT_QUERY_TIMEOUTS, COUNT_IDLE_TRANSACTION_TIMEOUTS, COUNT_REPEATED /* asked again after a link died */ ,
	COUNT_SHARED /* exchanges sent behind, or to be followed by, those of other clients */ , COUNT_MOVED /* of them, asked elsewhere as one before them stood still */ ,
	COUNT_UNKNOWN_OUTCOMES, COUNT_REFUSED, COUNT_NOTICES_DROPPED,
	/* exchanges by what the cache had to say of them: CacheStatus of core/statement.h, in its order */
	COUNT_CACHE_DISABLED, COUNT_CACHE_HIT, COUNT_CACHE_MISS, COUNT_CACHE_UNCACHEABLE, COUNT_CACHE_MULTIPLE_STATEMENTS, COUNT_CACHE_NOT_A_QUERY,
	COUNT_CACHE_OVERSIZED_QUERY, COUNT_CACHE_OVERSIZED_RESULT, COUNT_CACHE_PARSE_ERROR, COUNT_CACHE_TRANSACTION, COUNT_CACHE_VOLATILE,
	COUNT_CACHE_JOINED /* waited for another client's answer */ , COUNT_CACHE_REFRESHED /* in the background */ , COUNT_CACHE_DESCRIBED /* descriptions answered */ ,
	COUNT_CACHE_SAVED_US, COUNT_CACHE_FLUSHES /* writes that may have changed anything */ , COUNT_LIMIT
} Counter;

typedef enum HistogramKind { HISTOGRAM_WAIT, HISTOGRAM_QUERY, HISTOGRAM_LOGIN, HISTOGRAM_LIMIT } HistogramKind;

/* microseconds, 8 buckets an octave, 2^0 .. 2^36 */
#define HISTOGRAM_BUCKETS	(37 * 8)

typedef struct OriginCounters
{
	pg_atomic_uint64 counts[COUNT_LIMIT];
	pg_atomic_uint64 histograms[HISTOGRAM_LIMIT][HISTOGRAM_BUCKETS];
} OriginCounters;

extern OriginCounters *counters_of(int worker, int origin_slot);	/* slots 0 .. hyperpool.max_origins - 1 */

static inline void
counter_add(OriginCounters *c, Counter which, uint64 n)
{
	/* one writer: a plain read and write, no locked instruction */
	pg_atomic_write_u64(&c->counts[which], pg_atomic_read_u64(&c->counts[which]) + n);
}

extern void histogram_add(OriginCounters *c, HistogramKind which, int64 microseconds);
/* The value below which `fraction` of the observations of all workers lie, in microseconds (0 if none). */
extern int64 histogram_percentile(int origin_slot, HistogramKind which, double fraction);
extern uint64 counter_sum(int origin_slot, Counter which);
extern void counters_reset(int origin_slot);	/* -1: all. Any process; a count added meanwhile may be lost */
extern TimestampTz counters_reset_time(int origin_slot);

/* ---- clients ---- */

typedef enum ClientState
{
	CLIENT_FREE, CLIENT_LOGIN, CLIENT_IDLE, CLIENT_WAITING /* for a link */ , CLIENT_ACTIVE, CLIENT_IN_TRANSACTION /* idle in it */ , CLIENT_CLOSING
} ClientState;

#define CANCEL_KEY_MAX	32

typedef struct ClientRow
{
	pg_atomic_uint32 change_count;
	int32		next_free;
	uint32		generation;		/* of this place; with the place number it makes the client_id */
	uint8		state;			/* ClientState */
	uint8		worker;
	bool		tls;
	bool		bound;			/* holds a link by session state */
	int16		origin_slot;	/* -1 in login */
	uint8		family;			/* 0 Unix, 4, 6 */
	uint8		key_len;		/* 4 or CANCEL_KEY_MAX */
	uint16		port;
	Oid			role;
	uint32		link_row;		/* row + 1 of the link it holds, or 0 */
	uint32		key_pid;		/* what the client was told as its process id */
	uint8		addr[16];
	uint8		key[CANCEL_KEY_MAX];	/* never shown */
	TimestampTz connect_time;
	TimestampTz state_since;
	uint64		exchanges;
	char		application_name[NAMEDATALEN];
} ClientRow;

/* A free row, state LOGIN, fresh generation, random key; NULL: hyperpool.max_clients are there. */
extern ClientRow *client_row_take(int worker);
extern void client_row_free(ClientRow *row);	/* wipes the key */
extern int	client_row_number(const ClientRow *row);
extern ClientRow *client_row_at(int number);	/* 0 .. max_clients - 1 */
extern void client_row_set_role(ClientRow *row, Oid role);	/* between begin and end of a change */
extern bool client_row_read(int number, ClientRow *copy);	/* a consistent copy (key wiped); false if free */
/* How many clients of this role are connected (rolconnlimit). */
extern int	client_rows_of_role(Oid role);
extern const char *client_state_name(ClientState state);

static inline void
client_row_begin_change(ClientRow *row)
{
	pg_atomic_write_u32(&row->change_count, pg_atomic_read_u32(&row->change_count) + 1);
	pg_write_barrier();
}

static inline void
client_row_end_change(ClientRow *row)
{
	pg_write_barrier();
	pg_atomic_write_u32(&row->change_count, pg_atomic_read_u32(&row->change_count) + 1);
}

/* ---- workers: who has how many clients ---- */

/* Clients that have a row, and those that are on their way to it. */
extern uint32 worker_load(int worker);
extern void worker_load_coming(int worker, int change);	/* any process */
extern void worker_load_came(int worker);	/* nobody is on the way, whatever was counted */
extern void worker_load_open(int worker, bool open);	/* it takes clients from other workers, or does not */
extern bool worker_is_open(int worker);

/* ---- logins of a worker; written by that worker ---- */

typedef struct LoginCounts
{
	pg_atomic_uint32 unfinished;	/* clients that are logging in now */
	pg_atomic_uint32 addresses; /* that it has in mind */
	pg_atomic_uint64 refused_backlog;	/* hyperpool.login_backlog */
	pg_atomic_uint64 refused_address;	/* hyperpool.login_address_limit */
	pg_atomic_uint64 held_back; /* answers to failed proofs */
} LoginCounts;

extern LoginCounts *login_counts_of(int worker);

/* ---- links ---- */

typedef struct LinkRow
{
	pg_atomic_uint32 change_count;
	int32		next_free;
	uint32		generation;
	uint8		state;			/* LinkState of origin/link.h, + 1; 0 = free */
	uint8		worker;
	bool		tls;
	int16		origin_slot;
	int16		pool_row;
	int32		origin_pid;		/* process id at the origin, 0 unknown */
	uint32		client_row;		/* row + 1 of its client, or 0 */
	uint32		statements;		/* prepared on it */
	uint32		settings_id;
	TimestampTz connect_time;
	TimestampTz state_since;
	uint64		exchanges;
	char		address[64];	/* host:port as connected */
} LinkRow;

extern LinkRow *link_row_take(int worker, int origin_slot, int pool_row);	/* NULL: hyperpool.max_links */
extern void link_row_free(LinkRow *row);
extern int	link_row_number(const LinkRow *row);
extern bool link_row_read(int number, LinkRow *copy);

static inline void
link_row_begin_change(LinkRow *row)
{
	pg_atomic_write_u32(&row->change_count, pg_atomic_read_u32(&row->change_count) + 1);
	pg_write_barrier();
}

static inline void
link_row_end_change(LinkRow *row)
{
	pg_write_barrier();
	pg_atomic_write_u32(&row->change_count, pg_atomic_read_u32(&row->change_count) + 1);
}

/* ---- pools: the cap of links across workers, and the pools view ---- */

typedef struct PoolShare		/* one worker's part of a pool; written by that worker */
{
	pg_atomic_uint32 pools;		/* of the worker that use the row; changed under the lock */
	pg_atomic_uint32 links;		/* open or opening; counts against pool_size until the origin has closed the connection */
	pg_atomic_uint32 idle;
	pg_atomic_uint32 opening;
	pg_atomic_uint32 active;	/* links with an exchange or transaction */
	pg_atomic_uint32 bound;
	pg_atomic_uint32 clients;	/* clients attached to a link */
	pg_atomic_uint32 waiting;	/* clients waiting for one */
	pg_atomic_uint64 oldest_wait;	/* TimestampTz since when the first of them waits, 0 = none */
} PoolShare;

typedef struct PoolRow
{
	bool		used;
	int16		origin_slot;
	Oid			origin_oid;
	char		user[NAMEDATALEN];	/* origin user */
	PoolShare	shares[HYPERPOOL_MAX_WORKERS];
} PoolRow;

/* The row of (origin, user), made if absent, for one pool of this worker; -1: hyperpool.max_pools. It is that row until the last pool of any worker has left it. */
extern int	pool_row_join(int worker, int origin_slot, Oid origin_oid, const char *user);
extern void pool_row_leave(int number, int worker);
extern PoolRow *pool_row_at(int number);	/* 0 .. max_pools - 1 */
/* Counts one more link for this worker if all workers together stay within cap. */
extern bool pool_row_take_link(int number, int worker, uint32 cap);
extern void pool_row_give_link(int number, int worker);
extern uint32 pool_row_links(int number);	/* of all workers */
extern uint32 pool_row_waiting_elsewhere(int number, int worker);	/* clients of other workers that wait */
extern uint32 pool_row_links_of(int number, int worker);

/* A worker that starts clears whatever its predecessor left: clients, links, pool shares. */
extern void counters_clear_worker(int worker);

#endif
