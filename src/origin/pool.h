/*
 * origin/pool.h - the links of one (origin, origin user).                         floor 6
 *
 * Answers: which link may this session have, and when? Owns the pools of this worker: idle links (last returned first), the queue of
 * waiting sessions (first come first served, fair between local roles), opening, limits, back-off.
 * The cap holds across workers (host/counters' pool rows). Never: looks at a message.
 */
#ifndef HYPERPOOL_ORIGIN_POOL_H
#define HYPERPOOL_ORIGIN_POOL_H

#include "postgres.h"
#include "lib/ilist.h"
#include "host/directory.h"
#include "host/cancel.h"
#include "origin/link.h"

typedef struct LinkPool LinkPool;

/* A session's place in the queue; embedded in the session. */
typedef struct PoolWaiter
{
	struct PoolWaiter *next;
	struct PoolWaiter *prev;
	LinkPool   *pool;			/* NULL = not waiting */
	const SettingsVector *settings;
	Oid			role;			/* fairness */
	bool		rides;			/* what it has to ask is a plain read that lies complete in memory: a shared link will do, if its statement is quick */
	bool		hopes;			/* it looks like one, and may prove to be when more is known of the origin's catalog (never together with rides) */
	Digest128	digest;			/* rides or hopes: of its statement */
	int64		since;
	/* link: it is yours, BUSY, or has room for you, SHARED. NULL: failed; sqlstate and text say why (refusal != REFUSE_LIMIT: one of our own refusals) */
	void		(*on_checkout) (struct PoolWaiter *waiter, OriginLink *link);
	Refusal		refusal;
	void		(*on_facts) (struct PoolWaiter *waiter);	/* more is known: sets rides and hopes anew. Only while it waits and hopes */
	/* the pool's own */
	struct RoleQueue *queue;	/* where it waits */
	dlist_node	hope;			/* hopes: among those that do */
	uint64		renewals;		/* hopes: of the facts, when it was looked at last */
} PoolWaiter;

extern void pools_init(Reactor *reactor, int worker);
extern StatementTable *pools_statements(void);	/* the worker's */
extern SettingsTable *pools_settings(void);

/* The pool for an origin and a credential (made if absent, one reference for the caller). NULL: hyperpool.max_pools. */
extern LinkPool *pool_of(const DirectoryOrigin *origin, const DirectoryCredential *credential);
extern void pool_ref(LinkPool *pool);
extern void pool_unref(LinkPool *pool);

/*
 * A link now (returned, BUSY, or SHARED if the waiter rides; waiter untouched) or a place in the queue (NULL; on_checkout comes later, never from
 * inside this call). Prefers a link already in these settings. Nobody returns a SHARED link: the pool sees its exchanges end.
 */
extern OriginLink *pool_checkout(LinkPool *pool, PoolWaiter *waiter);
/* The exchange just asked on a SHARED link, by whoever was given it or has one in flight there. */
extern void pool_ride(LinkExchange *e, const PoolWaiter *waiter);
/* A session has got off a SHARED link; fine on any. */
extern void pool_left(OriginLink *link);
/* May one more of this statement follow on the SHARED link its session rides on? */
extern bool pool_may_follow(OriginLink *link, Digest128 digest);
/* How long the origin was at a statement, and how much it said: what sharing goes by. */
extern void pool_observe(const LinkExchange *e);
extern void pool_leave_queue(PoolWaiter *waiter);	/* fine if not waiting */
/* The session is done with it: quiet links go back to the pool or to the next waiter, by `after`; others are closed. */
extern void pool_return(OriginLink *link, LinkAfter after);
/* The session goes away with the link not quiet: link_abandon, then back to the pool when clean. */
extern void pool_abandon(OriginLink *link);
/* A client has bound its link by session state (+1), or no longer has (-1): for the pools view. */
extern void pool_count_bound(LinkPool *pool, int change);
/* The last failure to connect: what a client is told. sqlstate is the origin's own if it answered. */
extern const char *pool_failure(const LinkPool *pool, char sqlstate[6]);

/* The cache's options of the origin; times in microseconds. */
typedef struct PoolCache
{
	bool		on;
	int64		max_age;
	int64		stale_for;		/* stale_while_revalidate */
	int64		if_error;		/* stale_if_error, 0 = off */
	int64		max_result_size;
} PoolCache;

extern const PoolCache *pool_cache(const LinkPool *pool);
extern Oid	pool_origin_oid(const LinkPool *pool);
extern const char *pool_user(const LinkPool *pool);	/* at the origin */
extern int	pool_origin_slot(const LinkPool *pool);
extern const char *pool_origin_name(const LinkPool *pool);
extern PoolMode pool_mode(const LinkPool *pool);
extern int64 pool_query_timeout(const LinkPool *pool);
extern int64 pool_idle_transaction_timeout(const LinkPool *pool);
extern bool pool_origin_is_pooled(const LinkPool *pool);
extern bool pool_shares(const LinkPool *pool);	/* the option share is on, and it may be */
/* The pool's origin is gone. (Whether its credential still is the role's: pool_of again after a change of the directory.) */
extern bool pool_is_dropped(const LinkPool *pool);

/*
 * The ParameterStatus messages a client of this vector is greeted with, once known (a link was in that vector). NULL: check out a link, bring it
 * into the vector, then pool_learn_parameters. Borrowed until the next call about this pool.
 */
extern const ByteBuffer *pool_parameters(LinkPool *pool, const SettingsVector *vector);
extern void pool_learn_parameters(LinkPool *pool, const SettingsVector *vector, OriginLink *link);

/* A parameter as an open link has reported it last; NULL: no link is open, or none has. */
extern const char *pool_link_parameter(const LinkPool *pool, const char *name);

/* ---- the worker's loop ---- */
extern void pools_on_directory(Directory *directory);	/* new options, credentials, dropped origins; old pointers die; on_checkout comes later */
extern void pools_on_facts(void);		/* each turn: has more become known of a catalog? Then those who wait for a link to themselves for want of it are looked at again; on_checkout comes from inside */
extern void pools_on_note(const Note *note);	/* NOTE_RESTART_ORIGIN, NOTE_DIRECTORY (pause and resume); others are ignored */
extern void pools_tick(void);			/* about once a second: idle, lifetime, min_pool_size, shares between workers */
extern void pools_after_error(void);	/* an ERROR was caught: before anything else is done with a pool */
extern bool pools_drain(void);			/* shutdown: closes idle links; true when none is left */

#endif
