/*
 * origin/pool_internal.h - what the files of the pool share.                      floor 6
 *
 *	pool.c				pools, check-out and return, news of links, what serves whom
 *	pool_queue.c		who waits: first come first served within a role, round robin over roles
 *	pool_open.c			opening links: addresses, libpq's options, back-off, the last failure
 *	pool_config.c		the pool's copy of the directory's numbers, options and secret
 *	pool_share.c		between workers and over time: shares, idle and life time, the minimum, drain
 *	pool_parameters.c	what the origin reports to a client of a settings vector
 *	pool_hope.c			who waits and may come to ride once more is known of the catalog
 *	pool_ride.c			shared links: which of them takes a plain read, and when one is to become free for who needs it alone
 *
 * A link's place in its pool is a list, and link_place_set() alone moves it. Callbacks into
 * sessions happen only in pool_settle() and the queue's timer; while pool->held is set none does. Nothing is
 * freed inside a callback: pools_sweep() runs at the end of the turn.
 */
#ifndef HYPERPOOL_ORIGIN_POOL_INTERNAL_H
#define HYPERPOOL_ORIGIN_POOL_INTERNAL_H

#include "origin/pool.h"

#define SECOND_US			INT64CONST(1000000)
#define POOL_RETRY_US		INT64CONST(50000)	/* a worker that waits and has no link looks again */
#define POOL_REFUSE_US		1000	/* in back-off a check-out fails after so long: who asks again at once must not spin */
#define POOL_YIELD_US		(3 * POOL_RETRY_US)	/* a given link's room is left to others for so long */
#define POOL_BACKOFF_MIN_US	INT64CONST(100000)
#define POOL_BACKOFF_MAX_US	(5 * SECOND_US)
#define POOL_MAX_OPENING	4	/* at once: no connect storm */
#define POOL_SETTINGS_SCAN	16	/* idle links looked at for one in the right settings */
#define POOL_MAX_PARAMETERS	64	/* settings vectors whose greeting is kept */
#define POOL_STATEMENT_BYTES	(8 * 1024 * 1024)
#define POOL_PACES			8192	/* statements whose pace a worker knows; a power of two */

typedef enum PoolPlace
{
	PLACE_OPENING,				/* libpq is at work */
	PLACE_IDLE,					/* may be handed out; last returned first */
	PLACE_BUSY,					/* a session has it */
	PLACE_SHARED,				/* several sessions' exchanges are on it */
	PLACE_RESETTING,			/* comes back by on_ready */
	PLACE_CLOSING,				/* counts against the cap until the origin has closed it */
	PLACE_LIMIT,
	PLACE_GONE = PLACE_LIMIT	/* broken, in no list; freed at the end of the turn */
} PoolPlace;

/* What the pool knows of one link; link_pool() of the link points here. */
typedef struct PoolLink
{
	LinkPool   *pool;
	OriginLink *link;
	struct PoolLink *next;		/* in its place's list, or among the gone */
	struct PoolLink *prev;
	PoolPlace	place;
	uint32		generation;		/* of the connection options it was opened with */
	bool		retire;			/* restart asked: close it when it comes back */
	bool		given;			/* closed for another worker's sake */
	bool		clearing;		/* SHARED: nobody else boards, as somebody waits for a link to himself, or it is to close */
	uint32		riders;			/* exchanges on it that `riding` of the pool counts */
	int16		jitter;			/* thousandths of max_lifetime, -100 .. 100 */
	int64		opened_at;
	int64		idle_since;
} PoolLink;

typedef struct PoolList
{
	PoolLink   *head;
	PoolLink   *tail;
	uint32		count;
} PoolList;

/* The waiting sessions of one local role. */
typedef struct RoleQueue
{
	LinkPool   *pool;
	struct PoolQueue *of;
	Oid			role;
	PoolWaiter *head;
	PoolWaiter *tail;
	PoolWaiter *moved;			/* the last that came from another queue, NULL = none or gone */
	struct RoleQueue *next;		/* ring of the roles that wait at this pool */
	struct RoleQueue *prev;
	struct RoleQueue *next_in_bucket;
} RoleQueue;

/* A round of roles. */
typedef struct PoolQueue
{
	RoleQueue  *turn;			/* the role that is served next, or NULL */
	RoleQueue	spare;			/* used by all roles for which there was no memory */
	uint32		count;
} PoolQueue;

/* Who waits for what: a rider is not to wait for links that others need for themselves, nor they for a place on a shared one. */
typedef enum PoolQueueKind
{
	QUEUE_ALONE,
	QUEUE_RIDERS,
	QUEUE_KINDS
} PoolQueueKind;

typedef struct PoolParameters
{
	const SettingsVector *vector;	/* a reference */
	ByteBuffer	messages;
	struct PoolParameters *next;
} PoolParameters;

typedef struct PoolName
{
	struct PoolName *next;
	char	   *text;
} PoolName;

/* How a link is opened. A change of any of it is a new generation. */
typedef struct PoolConnection
{
	char	   *user;
	char	   *password;		/* or NULL */
	char	   *sslpassword;	/* of the client certificate's key, or NULL */
	bool		require_password;
	bool		pooled;
	bool		gateway;
	int			noptions;
	DirectoryOption *options;	/* own copies */
} PoolConnection;

/* What this pool has added to the shared row last. */
typedef struct PoolPublished
{
	uint32		idle;
	uint32		opening;
	uint32		active;
	uint32		bound;
	uint32		waiting;
	uint32		clients;
} PoolPublished;

struct LinkPool
{
	LinkPool   *next;			/* all pools of this worker */
	uint32		refs;			/* sessions */
	Oid			origin_oid;
	int			slot;
	int			row;			/* shared with a pool of the same user and another secret */
	struct PoolName *names;		/* of the origin, the present one first; links may still show former ones */
	OriginCounters *counters;
	bool		dropped;		/* the origin is gone */
	bool		orphan;			/* no credential leads here any more */

	/* copies of the directory (pool_config.c) */
	PoolConnection connection;
	uint32		generation;
	Oid		   *roles;			/* whose credentials lead here; InvalidOid = public's */
	uint32		nroles;
	int			pool_size;
	int			min_pool_size;
	PoolMode	mode;
	int64		queue_timeout;
	int64		idle_timeout;
	int64		max_lifetime;
	int64		query_timeout;
	int64		idle_transaction_timeout;
	int64		connect_timeout;
	PoolCache	cache;
	bool		share;
	uint32		share_depth;

	PoolList	lists[PLACE_LIMIT];
	bool		held;			/* no callback now; who set it settles afterwards */
	ReactorTimer wake;			/* settle again then */

	/* the queue (pool_queue.c) */
	PoolQueue	queues[QUEUE_KINDS];
	uint32		waiting;		/* in both */
	ReactorTimer queue_timer;	/* not later than the oldest waiter's queue_timeout */
	dlist_head	hoping;			/* pool_hope.c; those that were looked at longest ago first */
	uint64		renewals;		/* of the facts of its origin, as far as is heard of */

	/* opening (pool_open.c) */
	int64		backoff;		/* the last one, 0 = the last attempt went well */
	int64		retry_at;		/* nothing is opened before */
	bool		tries_again;	/* nobody is told before the next attempt: the first failure since all was well, and a quick one; or a link in use has just broken; or another place may answer */
	int64		lost_at;		/* when one in use broke, 0 = none has */
	int64		hung_since;		/* places have not answered in a row since the first attempt, begun then; 0 = none */
	int64		addresses_asked;	/* since when they are missing, 0 = they are not */
	char		failure_state[6];
	char		failure[1024];

	/* between workers (pool_share.c) */
	int64		first_link_at;	/* since when it has had any link */
	int64		yield_until;
	uint32		bound;
	uint32		riding;			/* exchanges on shared links */
	Way			way;			/* by the shortest of its links */
	PoolPublished published;

	/* greetings (pool_parameters.c) */
	PoolParameters *parameters; /* newest first */
	uint32		parameters_generation;	/* links of this generation have reported */
	char	   *server_version;
};

/* ---- pool.c ---- */
typedef struct PoolsState
{
	Reactor    *reactor;
	int			worker;
	LinkPool   *first;
	bool		draining;
	int64		wall_offset;	/* TimestampTz minus reactor time, as of the last tick */
	StatementTable *statements;
	SettingsTable *settings;
	const SettingsVector *empty;
	PaceTable  *paces;
	uint64		renewals;		/* of any origin's facts, as far as is heard of */
	ReactorTimer hope_timer;	/* there are more to be looked at */
} PoolsState;

extern PoolsState pools;

extern void link_place_set(PoolLink *l, PoolPlace place);
extern void pool_retire(PoolLink *l);
extern void pool_retire_list(LinkPool *pool, PoolPlace place);
extern void pool_settle(LinkPool *pool);
extern void pool_settle_soon(LinkPool *pool);	/* not from inside this call */
extern PoolLink *pool_best_idle(const LinkPool *pool, const SettingsVector *settings);
extern void pool_follow(PoolLink *l);
extern void pool_plan(LinkPool *pool);
extern bool pool_is_open(const LinkPool *pool);	/* links may be handed out */
extern void pool_on_ready(OriginLink *link, LinkState from);
extern void pools_sweep_soon(void);

static inline int64
pools_now(void)
{
	return reactor_now(pools.reactor);
}

static inline uint32
pool_count(const LinkPool *pool, PoolPlace place)
{
	return pool->lists[place].count;
}

/* Links that serve somebody now or soon. */
static inline uint32
pool_usable(const LinkPool *pool)
{
	return pool_count(pool, PLACE_IDLE) + pool_count(pool, PLACE_BUSY) + pool_count(pool, PLACE_SHARED) + pool_count(pool, PLACE_RESETTING);
}

static inline uint32
pool_links(const LinkPool *pool)
{
	return pool_usable(pool) + pool_count(pool, PLACE_OPENING) + pool_count(pool, PLACE_CLOSING);
}

/* ---- pool_queue.c ---- */
extern void queue_put(LinkPool *pool, PoolWaiter *waiter);
extern PoolWaiter *queue_head(const LinkPool *pool, PoolQueueKind kind);	/* whose turn it is, or NULL */
extern PoolWaiter *queue_take(LinkPool *pool, PoolQueueKind kind);	/* the same; its turn is over */
extern int64 queue_oldest(const LinkPool *pool);	/* since when, 0 = nobody waits */
extern void queue_move(PoolWaiter *waiter, PoolQueueKind kind);	/* to another queue of its pool, behind those who have waited longer */
extern void queue_arm(LinkPool *pool);
extern void queue_on_time(ReactorTimer *timer);

/* ---- pool_hope.c ---- */
extern void hope_join(PoolWaiter *waiter);	/* fine if it does not hope */
extern void hope_leave(PoolWaiter *waiter);
extern void hope_on_time(ReactorTimer *timer);

/* ---- pool_ride.c ---- */
extern bool pool_rider_is_quick(const LinkPool *pool, const PoolWaiter *waiter);	/* by now */
extern PoolLink *pool_board(LinkPool *pool, const PoolWaiter *waiter, bool may_take_idle);	/* NULL: no room */
extern void pool_clear_for_waiters(LinkPool *pool);
extern void pool_clear_one(LinkPool *pool);
extern void pool_on_room(OriginLink *link);
extern void pool_on_stuck(OriginLink *link);

/* ---- pool_open.c ---- */
extern void pool_open_for_waiters(LinkPool *pool);
extern void pool_open_for_riders(LinkPool *pool);
extern void pool_open_minimum(LinkPool *pool);
extern void pool_opened(PoolLink *l);
extern void pool_link_lost(LinkPool *pool);	/* one that was in use */
extern bool pool_tries_again(LinkPool *pool, const PoolLink *l);	/* this one could not be opened: may those who wait wait for another attempt? */
extern void pool_open_failed(LinkPool *pool, const char *sqlstate, const char *text);
extern bool pool_is_unreachable(const LinkPool *pool);	/* in back-off, and nothing else to wait for */

/* ---- pool_config.c ---- */
extern bool pool_config_matches(const LinkPool *pool, const DirectoryOrigin *origin, const DirectoryCredential *credential);
extern bool pool_config_take_name(LinkPool *pool, const char *name);
extern bool pool_config_add_role(LinkPool *pool, Oid role);
extern bool pool_config_take(LinkPool *pool, const DirectoryOrigin *origin, const DirectoryCredential *credential);
extern const DirectoryCredential *pool_config_find(LinkPool *pool, Directory *directory, const DirectoryOrigin *origin);
extern void pool_config_free(LinkPool *pool);

/* ---- pool_share.c ---- */
extern void pool_publish(LinkPool *pool);
extern void pool_publish_riders(PoolLink *l);
extern bool pool_owes_link(LinkPool *pool);
extern bool pool_may_take_room(const LinkPool *pool);
extern void pool_ask_siblings(const LinkPool *pool);
extern bool pool_link_is_over(const PoolLink *l);

/* ---- pool_parameters.c ---- */
extern void pool_parameters_clear(LinkPool *pool);
extern void pool_parameters_see(LinkPool *pool, const OriginLink *link);

#endif
