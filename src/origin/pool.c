/*
 * origin/pool.c - the links of one (origin, origin user): who gets which, and when.
 *
 * Answers: a link now, or a place in the queue? Owns the pools of this worker, the place of every link and the one
 * function that serves whoever waits (pool_settle). Never: looks at a message, opens a link itself (pool_open.c).
 *
 * Two pools of one (origin, user) exist side by side where the secrets differ: nobody rides on links
 * opened with a password that is not his. They share one row, so the cap holds over both.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "origin/pool_internal.h"

PoolsState	pools;

static PoolLink *gone_links;	/* broken, to be freed at the end of the turn */
static bool sweep_pools;		/* a pool may have lost its last holder */
static ReactorTask sweep_task;

static void pools_sweep(ReactorTask *task);
static void pool_wake(ReactorTimer *timer);

void
pools_init(Reactor *reactor, int worker)
{
	SettingsDraft nothing = {0};

	memset(&pools, 0, sizeof(pools));
	pools.reactor = reactor;
	pools.worker = worker;
	pools.wall_offset = GetCurrentTimestamp() - pools_now();
	pools.statements = statement_table_create(POOL_STATEMENT_BYTES);
	pools.settings = settings_table_create(hyperpool_max_settings);
	pools.paces = pace_table_create(POOL_PACES);
	if (pools.settings != NULL)
		pools.empty = settings_intern(pools.settings, &nothing);
	if (pools.statements == NULL || pools.empty == NULL || pools.paces == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for the pools of a hyperpool worker")));
	sweep_task.run = pools_sweep;
	pools.hope_timer.on_time = hope_on_time;
}

StatementTable *
pools_statements(void)
{
	return pools.statements;
}

SettingsTable *
pools_settings(void)
{
	return pools.settings;
}

/* ---- pools come and go ---- */

static void
pool_free(LinkPool *pool)
{
	reactor_clear_timer(pools.reactor, &pool->wake);
	reactor_clear_timer(pools.reactor, &pool->queue_timer);
	pool_publish(pool);
	pool_row_leave(pool->row, pools.worker);
	pool_parameters_clear(pool);
	pool_config_free(pool);
	mem_free(pool, sizeof(LinkPool));
}

static LinkPool *
pool_make(const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	LinkPool   *pool = mem_zalloc(sizeof(LinkPool));

	if (pool == NULL)
		return NULL;
	pool->row = -1;
	pool->origin_oid = origin->oid;
	pool->slot = origin->slot;
	pool->counters = counters_of(pools.worker, origin->slot);
	pool->wake.on_time = pool_wake;
	pool->queue_timer.on_time = queue_on_time;
	dlist_init(&pool->hoping);
	for (int kind = 0; kind < QUEUE_KINDS; kind++)
	{
		pool->queues[kind].spare.pool = pool;
		pool->queues[kind].spare.of = &pool->queues[kind];
	}
	if (pool_config_add_role(pool, credential->role) &&
		pool_config_take(pool, origin, credential))
		pool->row = pool_row_join(pools.worker, origin->slot, origin->oid, credential->user);
	if (pool->row < 0)
	{
		pool_free(pool);
		return NULL;
	}
	pool->next = pools.first;
	pools.first = pool;
	return pool;
}

LinkPool *
pool_of(const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	LinkPool   *pool;

	for (pool = pools.first; pool != NULL; pool = pool->next)
		if (pool_config_matches(pool, origin, credential))
			break;
	if (pool == NULL)
		pool = pool_make(origin, credential);
	else if (!pool_config_add_role(pool, credential->role))
		return NULL;
	if (pool != NULL)
		pool_ref(pool);
	return pool;
}

void
pool_ref(LinkPool *pool)
{
	pool->refs++;
}

void
pool_unref(LinkPool *pool)
{
	Assert(pool->refs > 0);
	if (--pool->refs == 0 && (pool->dropped || pool->orphan))
		pools_sweep_soon();
}

static bool
pool_is_over(const LinkPool *pool)
{
	return (pool->dropped || pool->orphan) && pool->refs == 0 && pool->waiting == 0 && pool_links(pool) == 0;
}

void
pools_sweep_soon(void)
{
	sweep_pools = true;
	reactor_at_end(pools.reactor, &sweep_task, REACTOR_LINKS);
}

/* The end of the turn: nothing of a pool or link is on the stack now. */
static void
pools_sweep(ReactorTask *task)
{
	LinkPool  **at = &pools.first;

	while (gone_links != NULL)
	{
		PoolLink   *l = gone_links;

		gone_links = l->next;
		link_free(l->link);
		mem_free(l, sizeof(PoolLink));
	}
	if (!sweep_pools)
		return;
	sweep_pools = false;
	while (*at != NULL)
	{
		LinkPool   *pool = *at;

		if (!pool_is_over(pool))
		{
			at = &pool->next;
			continue;
		}
		*at = pool->next;
		pool_free(pool);
	}
}

/* ---- the place of a link ---- */

static void
list_remove(PoolList *list, PoolLink *l)
{
	if (l->prev != NULL)
		l->prev->next = l->next;
	else
		list->head = l->next;
	if (l->next != NULL)
		l->next->prev = l->prev;
	else
		list->tail = l->prev;
	list->count--;
}

static void
list_push(PoolList *list, PoolLink *l)
{
	l->prev = NULL;
	l->next = list->head;
	if (list->head != NULL)
		list->head->prev = l;
	else
		list->tail = l;
	list->head = l;
	list->count++;
}

/* The one place where a link moves; a new one comes from PLACE_GONE. */
void
link_place_set(PoolLink *l, PoolPlace place)
{
	LinkPool   *pool = l->pool;

	if (l->place == place)
		return;
	if (l->place != PLACE_GONE)
		list_remove(&pool->lists[l->place], l);
	l->place = place;
	if (place == PLACE_IDLE)
		l->idle_since = pools_now();
	if (place != PLACE_GONE)
		list_push(&pool->lists[place], l);
	pool_publish(pool);
}

/* Closes a link that is not (or no longer) anybody's. The pool may be told of its end before this returns. */
void
pool_retire(PoolLink *l)
{
	OriginLink *link = l->link;

	if (l->place != PLACE_OPENING)
		counter_add(l->pool->counters, COUNT_LINKS_RETIRED, 1);
	link_place_set(l, PLACE_CLOSING);
	if (link_state(link) == LINK_BUSY && link_is_quiet(link))
		link_give_back(link, LINK_AFTER_RETIRE);
	else
		link_close(link);
}

/* Only with the pool held: the list must not change under the loop. */
void
pool_retire_list(LinkPool *pool, PoolPlace place)
{
	Assert(pool->held);
	while (pool->lists[place].head != NULL)
		pool_retire(pool->lists[place].head);
}

/* Where the link's own state says it is. */
void
pool_follow(PoolLink *l)
{
	switch (link_state(l->link))
	{
		case LINK_CONNECTING:
		case LINK_BUSY:
		case LINK_SHARED:
			break;				/* an abandoned link is still busy with its end */
		case LINK_IDLE:
			if (pool_link_is_over(l))
				pool_retire(l);
			else
				link_place_set(l, PLACE_IDLE);
			break;
		case LINK_RESETTING:
			link_place_set(l, PLACE_RESETTING);
			break;
		case LINK_CLOSING:
			link_place_set(l, PLACE_CLOSING);
			break;
		case LINK_BROKEN:
			break;				/* pool_link_gone has seen to it */
	}
}

/* ---- news of a link ---- */

/* Only now does the origin no longer hold the connection, so only now is there room for another. */
static void
pool_link_gone(PoolLink *l)
{
	LinkPool   *pool = l->pool;
	PoolPlace	was = l->place;
	char		sqlstate[6];

	if (was == PLACE_GONE)
		return;
	link_place_set(l, PLACE_GONE);
	pool_publish_riders(l);
	pool_row_give_link(pool->row, pools.worker);
	if (l->given)
		pool->yield_until = pools_now() + POOL_YIELD_US;
	if (was == PLACE_OPENING && l->generation == pool->generation)
	{
		const char *text = link_failure(l->link, sqlstate);

		pool->tries_again = pool_tries_again(pool, l);
		pool_open_failed(pool, sqlstate, text);
	}
	else if (was == PLACE_IDLE || was == PLACE_BUSY || was == PLACE_SHARED || was == PLACE_RESETTING)
		pool_link_lost(pool);
	l->next = gone_links;
	gone_links = l;
	pools_sweep_soon();
}

void
pool_on_ready(OriginLink *link, LinkState from)
{
	PoolLink   *l = link_pool(link);
	LinkPool   *pool = l->pool;

	l->link = link;
	if (link_state(link) == LINK_BROKEN)
		pool_link_gone(l);
	else
	{
		if (l->place == PLACE_OPENING)
			pool_opened(l);
		pool_follow(l);
	}
	pool_settle(pool);
}

/* ---- check-out ---- */

bool
pool_is_open(const LinkPool *pool)
{
	return !pool->dropped && !pool->orphan && !directory_is_paused(pool->slot);
}

/* A link already in the right settings saves a round trip; else the warmest. */
PoolLink *
pool_best_idle(const LinkPool *pool, const SettingsVector *settings)
{
	PoolLink   *l = pool->lists[PLACE_IDLE].head;

	for (int i = 0; l != NULL && i < POOL_SETTINGS_SCAN; i++, l = l->next)
		if (link_settings(l->link) == settings)
			return l;
	return pool->lists[PLACE_IDLE].head;
}

static OriginLink *
pool_hand_out(PoolLink *l, PoolWaiter *waiter)
{
	OriginCounters *counters = l->pool->counters;
	int64		waited = Max(pools_now() - waiter->since, 0);

	if (l->place != PLACE_SHARED)
	{
		link_set_busy(l->link);
		link_place_set(l, PLACE_BUSY);
	}
	counter_add(counters, COUNT_CHECKOUTS, 1);
	counter_add(counters, COUNT_WAIT_US, waited);
	histogram_add(counters, HISTOGRAM_WAIT, waited);
	return l->link;
}

/* What this waiter may have now; NULL: nothing. Idle links are for those who have waited longest. */
static PoolLink *
pool_find(LinkPool *pool, const PoolWaiter *waiter, bool may_take_idle)
{
	if (pool_rider_is_quick(pool, waiter))
		return pool_board(pool, waiter, may_take_idle);
	return may_take_idle ? pool_best_idle(pool, waiter->settings) : NULL;
}

OriginLink *
pool_checkout(LinkPool *pool, PoolWaiter *waiter)
{
	PoolLink   *l;

	Assert(waiter->pool == NULL);
	waiter->since = pools_now();
	waiter->refusal = REFUSE_LIMIT;
	if (pool_is_open(pool) && (l = pool_find(pool, waiter, pool->waiting == 0)) != NULL)
		return pool_hand_out(l, waiter);

	counter_add(pool->counters, COUNT_WAITS, 1);
	queue_put(pool, waiter);
	if (!pool->held)
	{
		pool->held = true;
		pool_clear_for_waiters(pool);
		pool_open_for_waiters(pool);
		pool->held = false;
		pool_plan(pool);
	}
	return NULL;
}

/* ---- return ---- */

/* Whoever held it hears nothing more of it, however long its end takes. */
static void
pool_unhook(OriginLink *link)
{
	link_on_lost(link, NULL, NULL);
	link_on_drained(link, NULL, NULL);
	link_on_stray(link, NULL, NULL);
}

void
pool_return(OriginLink *link, LinkAfter after)
{
	PoolLink   *l = link_pool(link);
	LinkPool   *pool = l->pool;
	bool		was_held = pool->held;

	pool_unhook(link);
	if (l->place != PLACE_BUSY || link_state(link) != LINK_BUSY)
		return;					/* it broke under its holder: on_ready tells, or has told */
	if (!link_is_quiet(link))
	{
		/* an answer came before all was said, as when COPY fails while the client goes on */
		pool_abandon(link);
		return;
	}
	pool->held = true;
	if (after == LINK_AFTER_RETIRE || after == LINK_AFTER_BOUND || pool_link_is_over(l))
		pool_retire(l);
	else if (pool_owes_link(pool))
	{
		l->given = true;
		pool_retire(l);
	}
	else
	{
		link_give_back(link, after);
		pool_follow(l);
	}
	pool->held = was_held;
	pool_settle(pool);
}

void
pool_abandon(OriginLink *link)
{
	PoolLink   *l = link_pool(link);
	LinkPool   *pool = l->pool;
	bool		was_held = pool->held;

	pool_unhook(link);
	if (l->place != PLACE_BUSY || link_state(link) != LINK_BUSY)
		return;
	pool->held = true;
	link_place_set(l, PLACE_RESETTING);
	link_abandon(link);
	pool_follow(l);
	pool->held = was_held;
	pool_settle(pool);
}

/* ---- who waits is served ---- */

static bool
pool_serve(LinkPool *pool, PoolQueueKind kind, bool may_take_idle)
{
	PoolWaiter *waiter = queue_head(pool, kind);
	PoolLink   *l = waiter != NULL ? pool_find(pool, waiter, may_take_idle) : NULL;

	if (l == NULL)
		return false;
	(void) queue_take(pool, kind);
	waiter->on_checkout(waiter, pool_hand_out(l, waiter));
	return true;
}

/* An idle link is for who has waited longer: a rider, or one who needs it alone; and so is room on a shared one, if that one's statement is known to be quick by now. */
static bool
pool_serve_one(LinkPool *pool)
{
	const PoolWaiter *rider = queue_head(pool, QUEUE_RIDERS);
	const PoolWaiter *alone = queue_head(pool, QUEUE_ALONE);
	bool		rider_first = alone == NULL || (rider != NULL && rider->since < alone->since);

	if (!rider_first && pool_rider_is_quick(pool, alone) && pool_serve(pool, QUEUE_ALONE, true))
		return true;
	return pool_serve(pool, QUEUE_RIDERS, rider_first) || pool_serve(pool, QUEUE_ALONE, true);
}

static void
pool_serve_queue(LinkPool *pool)
{
	while (pool->waiting > 0 && pool_is_open(pool) && pool_serve_one(pool))
		;
	pool_clear_for_waiters(pool);
}

/* All who wait now; who queues up again meanwhile is not asked twice in this turn. */
static void
pool_refuse_queue(LinkPool *pool, Refusal refusal)
{
	for (uint32 n = pool->waiting; n > 0 && pool->waiting > 0; n--)
	{
		PoolWaiter *waiter = queue_take(pool, pool->queues[QUEUE_ALONE].count > 0 ? QUEUE_ALONE : QUEUE_RIDERS);

		waiter->refusal = refusal;
		waiter->on_checkout(waiter, NULL);
	}
}

static void
pool_settle_queue(LinkPool *pool)
{
	if (pool->dropped)
		pool_refuse_queue(pool, REFUSE_ORIGIN_DROPPED);
	else if (pool->orphan)
		pool_refuse_queue(pool, REFUSE_NO_CREDENTIAL);
	else
	{
		pool_serve_queue(pool);
		pool_open_for_waiters(pool);
		if (pool_is_unreachable(pool))
			pool_refuse_queue(pool, REFUSE_LIMIT);
	}
}

/*
 * Serves or refuses whoever waits, opens links for the rest. A waiter may return its link or check out again
 * from inside its callback: that only changes the lists, the loop here goes on with them.
 */
void
pool_settle(LinkPool *pool)
{
	if (pool->held)
		return;
	if (pool->waiting > 0)
	{
		pool->held = true;
		pool_settle_queue(pool);
		pool->held = false;
		pool_plan(pool);
	}
	if (pool_is_over(pool))
		pools_sweep_soon();
}

static void
pool_wake_at(LinkPool *pool, int64 due)
{
	if (pool->wake.due == 0 || pool->wake.due > due)
		reactor_set_timer(pools.reactor, &pool->wake, due);
}

void
pool_settle_soon(LinkPool *pool)
{
	if (pool->waiting > 0)
		pool_wake_at(pool, pools_now() + 1);
	else if (pool_is_over(pool))
		pools_sweep_soon();
}

/* When must the queue be looked at again if no link brings news? */
void
pool_plan(LinkPool *pool)
{
	int64		now = pools_now();

	if (pool->waiting == 0)
		return;
	queue_arm(pool);
	if (pool->dropped || pool->orphan)
		pool_wake_at(pool, now + 1);
	else if (!pool_is_open(pool))
		return;
	else if (pool_count(pool, PLACE_IDLE) > 0)
		pool_wake_at(pool, now + 1);	/* news that came while the pool was held */
	else if (pool_is_unreachable(pool))
		pool_wake_at(pool, now + POOL_REFUSE_US);
	else if (pool->retry_at > now)
		pool_wake_at(pool, pool->retry_at);
	else if (pool_usable(pool) + pool_count(pool, PLACE_OPENING) == 0)
		pool_wake_at(pool, now + POOL_RETRY_US);
}

/* Whatever a pool was doing was left by longjmp: what is left undone is planned. */
void
pools_after_error(void)
{
	for (LinkPool *pool = pools.first; pool != NULL; pool = pool->next)
	{
		pool->held = false;
		pool_plan(pool);
	}
}

static void
pool_wake(ReactorTimer *timer)
{
	LinkPool   *pool = (LinkPool *) ((char *) timer - offsetof(LinkPool, wake));

	pool_settle(pool);
}

/* ---- what others ask of a pool ---- */

const char *
pool_failure(const LinkPool *pool, char sqlstate[6])
{
	strlcpy(sqlstate, pool->failure_state[0] != '\0' ? pool->failure_state : "08001", 6);
	return pool->failure;
}

int
pool_origin_slot(const LinkPool *pool)
{
	return pool->slot;
}

const char *
pool_origin_name(const LinkPool *pool)
{
	return pool->names->text;
}

PoolMode
pool_mode(const LinkPool *pool)
{
	return pool->mode;
}

const PoolCache *
pool_cache(const LinkPool *pool)
{
	return &pool->cache;
}

Oid
pool_origin_oid(const LinkPool *pool)
{
	return pool->origin_oid;
}

const char *
pool_user(const LinkPool *pool)
{
	return pool->connection.user;
}

int64
pool_query_timeout(const LinkPool *pool)
{
	return pool->query_timeout;
}

int64
pool_idle_transaction_timeout(const LinkPool *pool)
{
	return pool->idle_transaction_timeout;
}

bool
pool_origin_is_pooled(const LinkPool *pool)
{
	return pool->connection.pooled;
}

bool
pool_shares(const LinkPool *pool)
{
	return pool->share && !pool->connection.pooled;
}

bool
pool_is_dropped(const LinkPool *pool)
{
	return pool->dropped;
}
