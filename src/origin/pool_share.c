/*
 * origin/pool_share.c - pools between workers, and over time.
 *
 * Answers: is this link to be closed, for its age, for a change, or for another worker's sake? Owns what a worker publishes of its
 * pools, the rules of the cap, and what happens about once a second. The cap itself is the shared row's.
 *
 * Links cannot move between workers. So a worker whose clients wait while others hold more links is given room: a
 * worker that has more than one link above it closes one when it comes back, and one that would be left without
 * any does so once it has had its only link for a second. Whoever gave, or has more than those who wait, does not take the room again.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "origin/pool_internal.h"

#define SHARE_LAST_US		SECOND_US	/* a worker keeps its only link for so long */
#define SHARE_CLAIM_US		(SECOND_US / 5) /* who has a link and waits for less has no claim to another */
#define SHARE_UNUSED_US		SECOND_US	/* a link idle for so long is not needed here while others wait */

/* ---- publishing ---- */

/* NULL: there was no row for it, and it is to be freed at once. */
static PoolShare *
pool_own_share(const LinkPool *pool)
{
	PoolRow    *row = pool_row_at(pool->row);

	return row != NULL ? &row->shares[pools.worker] : NULL;
}

/* One writer a share, but maybe two pools: each adds its own change. */
static void
share_move(pg_atomic_uint32 *value, uint32 *published, uint32 now)
{
	if (*published == now)
		return;
	pg_atomic_write_u32(value, pg_atomic_read_u32(value) + now - *published);
	*published = now;
}

static void
pool_publish_oldest(LinkPool *pool, PoolShare *share)
{
	int64		oldest = queue_oldest(pool);

	if (share != NULL)
		pg_atomic_write_u64(&share->oldest_wait, oldest == 0 ? 0 : (uint64) (oldest + pools.wall_offset));
}

static void
pool_publish_clients(LinkPool *pool, PoolShare *share)
{
	share_move(&share->clients, &pool->published.clients, pool_count(pool, PLACE_BUSY) + pool->riding);
}

/* Exchanges come and go on shared links without a link or a waiter moving. */
void
pool_publish_riders(PoolLink *l)
{
	LinkPool   *pool = l->pool;
	PoolShare  *share = pool_own_share(pool);
	uint32		riders = l->place == PLACE_SHARED ? link_load(l->link).depth : 0;

	pool->riding += riders - l->riders;
	l->riders = riders;
	if (share != NULL)
		pool_publish_clients(pool, share);
}

void
pool_publish(LinkPool *pool)
{
	PoolPublished *p = &pool->published;
	PoolShare  *share = pool_own_share(pool);
	bool		waited = p->waiting > 0;

	if (share == NULL)
		return;
	share_move(&share->idle, &p->idle, pool_count(pool, PLACE_IDLE));
	share_move(&share->opening, &p->opening, pool_count(pool, PLACE_OPENING));
	share_move(&share->active, &p->active, pool_count(pool, PLACE_BUSY) + pool_count(pool, PLACE_SHARED));
	pool_publish_clients(pool, share);
	share_move(&share->bound, &p->bound, pool->bound);
	share_move(&share->waiting, &p->waiting, pool->waiting);
	if (waited != (pool->waiting > 0))
		pool_publish_oldest(pool, share);
}

void
pool_count_bound(LinkPool *pool, int change)
{
	pool->bound = change < 0 && pool->bound < (uint32) -change ? 0 : pool->bound + change;
	pool_publish(pool);
}

/* ---- another pool of this worker on the same row ---- */

static bool
pool_is_sibling(const LinkPool *pool, const LinkPool *other)
{
	return other != pool && other->row == pool->row && other->origin_oid == pool->origin_oid;
}

static bool
pool_starves(const LinkPool *pool)
{
	return pool->waiting > 0 && pool_usable(pool) + pool_count(pool, PLACE_OPENING) == 0 && pool_is_open(pool) &&
		pool->retry_at <= pools_now();
}

static bool
pool_sibling_starves(const LinkPool *pool)
{
	for (const LinkPool *other = pools.first; other != NULL; other = other->next)
		if (pool_is_sibling(pool, other) && pool_starves(other))
			return true;
	return false;
}

/* The cap is reached: an idle link of the same user under another secret makes room. */
void
pool_ask_siblings(const LinkPool *pool)
{
	if (pool_row_links(pool->row) < (uint32) pool->pool_size || !pool_starves(pool))
		return;
	for (LinkPool *other = pools.first; other != NULL; other = other->next)
	{
		bool		was_held = other->held;

		if (!pool_is_sibling(pool, other) || pool_count(other, PLACE_IDLE) == 0)
			continue;
		other->held = true;
		other->lists[PLACE_IDLE].tail->given = true;
		pool_retire(other->lists[PLACE_IDLE].tail);
		other->held = was_held;
		return;
	}
}

/* ---- the cap between workers ---- */

static uint32
pool_own_links(const LinkPool *pool)
{
	return pool_usable(pool) + pool_count(pool, PLACE_OPENING);
}

/* What other workers still get of what is closing here. */
static uint32
pool_given(const LinkPool *pool)
{
	uint32		n = 0;

	for (const PoolLink *l = pool->lists[PLACE_CLOSING].head; l != NULL; l = l->next)
		n += l->given ? 1 : 0;
	return n;
}

static uint32
pool_waiting_at(const LinkPool *pool, int worker)
{
	return pg_atomic_read_u32(&pool_row_at(pool->row)->shares[worker].waiting);
}

/* Has somebody waited there without a break for a while? (A wait for a reset to end is none.) */
static bool
pool_waits_long_at(const LinkPool *pool, int worker)
{
	uint64		since = pg_atomic_read_u64(&pool_row_at(pool->row)->shares[worker].oldest_wait);

	return since != 0 && (TimestampTz) since + SHARE_CLAIM_US <= pools_now() + pools.wall_offset;
}

/* Has another worker, whose clients wait, a claim to one of this one's links? */
static bool
pool_has_poorer(const LinkPool *pool)
{
	uint32		mine = pool_own_links(pool);
	uint32		given = pool_given(pool);

	for (int w = 0; w < hyperpool_workers; w++)
	{
		uint32		theirs;

		if (w == pools.worker || pool_waiting_at(pool, w) == 0)
			continue;
		theirs = pool_row_links_of(pool->row, w) + given;
		if (theirs == 0 ? mine >= 1 : mine > theirs + 1 && pool_waits_long_at(pool, w))
			return true;
	}
	return false;
}

/* Should the link that is in hand be closed for others' sake? */
bool
pool_owes_link(LinkPool *pool)
{
	if (pool_row_links(pool->row) < (uint32) pool->pool_size)
		return false;
	if (!(hyperpool_workers > 1 && pool_row_waiting_elsewhere(pool->row, pools.worker) > 0 && pool_has_poorer(pool)) &&
		!(pool_given(pool) == 0 && pool_sibling_starves(pool)))
		return false;
	return pool_own_links(pool) > 1 || pools_now() - pool->first_link_at >= SHARE_LAST_US;
}

/* Room is left for every waiting worker that has fewer links, and for all for a moment after one was given. */
bool
pool_may_take_room(const LinkPool *pool)
{
	uint32		links = pool_row_links(pool->row);
	uint32		mine = pool_own_links(pool);
	uint32		poorer = 0;

	if (links >= (uint32) pool->pool_size)
		return false;
	for (int w = 0; w < hyperpool_workers; w++)
	{
		if (w == pools.worker || pool_waiting_at(pool, w) == 0)
			continue;
		if (pool->yield_until > pools_now() || pool_row_links_of(pool->row, w) < mine)
			poorer++;
	}
	if (mine > 0 && pool_sibling_starves(pool))
		poorer++;
	return (uint32) pool->pool_size - links > poorer;
}

/* ---- the end of a link ---- */

static bool
link_is_too_old(const PoolLink *l)
{
	int64		lifetime = l->pool->max_lifetime;

	return lifetime > 0 && pools_now() - l->opened_at >= lifetime + lifetime / 1000 * l->jitter;
}

/* A link that is free now: is it to be closed instead of used again? */
bool
pool_link_is_over(const PoolLink *l)
{
	LinkPool   *pool = l->pool;

	if (l->retire || l->generation != pool->generation || pool->dropped || pool->orphan)
		return true;
	if (pools.draining && pool->waiting == 0)
		return true;
	if (link_is_too_old(l))
		return true;
	/* pool_size was lowered; what is closing already is on its way out */
	return pool_row_links(pool->row) > (uint32) pool->pool_size + pool_count(pool, PLACE_CLOSING);
}

/* ---- about once a second ---- */

/* The oldest idle link, if nobody needs it. */
static bool
pool_idle_is_enough(LinkPool *pool, const PoolLink *l)
{
	int64		idle = pools_now() - l->idle_since;

	if (pool->idle_timeout > 0 && idle >= pool->idle_timeout &&
		(pools.worker != 0 || pool_own_links(pool) > (uint32) pool->min_pool_size))
		return true;
	return idle >= SHARE_UNUSED_US && hyperpool_workers > 1 && pool->waiting == 0 &&
		pool_row_links(pool->row) >= (uint32) pool->pool_size &&
		pool_row_waiting_elsewhere(pool->row, pools.worker) > pool_given(pool);
}

static void
pool_trim_idle(LinkPool *pool)
{
	PoolLink   *l;

	while ((l = pool->lists[PLACE_IDLE].tail) != NULL && pool_idle_is_enough(pool, l))
	{
		l->given = pool_row_links(pool->row) >= (uint32) pool->pool_size;
		pool_retire(l);
	}
	while ((l = pool->lists[PLACE_IDLE].tail) != NULL && pool_owes_link(pool))
	{
		l->given = true;
		pool_retire(l);
	}
	/* riders come and go without a break: a link that is owed is cleared of them first */
	if (pool_count(pool, PLACE_SHARED) > 0 && pool_owes_link(pool))
		pool_clear_one(pool);
}

/* It keeps the texts of statements in mind that its clients may long have forgotten, and there is no memory for them. */
static bool
pool_link_is_heavy(const PoolLink *l)
{
	return mem_used() >= (size_t) hyperpool_worker_memory * 1024 * 1024 && link_statements_count(link_statements(l->link)) > 0;
}

/* Restart, a new generation, age, a worker without memory: wherever they stand in the list. */
static void
pool_retire_over(LinkPool *pool)
{
	PoolLink   *next;

	for (PoolLink *l = pool->lists[PLACE_SHARED].head; l != NULL; l = l->next)
		l->clearing |= pool_link_is_over(l);

	for (PoolLink *l = pool->lists[PLACE_IDLE].head; l != NULL; l = next)
	{
		next = l->next;
		if (pool_link_is_over(l) || pool_link_is_heavy(l))
			pool_retire(l);
	}
}

static void
pool_tick(LinkPool *pool)
{
	pool->held = true;
	pool_retire_over(pool);
	pool_trim_idle(pool);
	if (!pool->dropped && !pool->orphan)
		pool_open_minimum(pool);
	pool->held = false;
	pool_settle(pool);
	pool_publish_oldest(pool, pool_own_share(pool));
}

void
pools_tick(void)
{
	pools.wall_offset = GetCurrentTimestamp() - pools_now();
	for (LinkPool *pool = pools.first; pool != NULL; pool = pool->next)
		pool_tick(pool);
}

/* ---- drain ---- */

bool
pools_drain(void)
{
	bool		none = true;

	pools.draining = true;
	for (LinkPool *pool = pools.first; pool != NULL; pool = pool->next)
	{
		pool->held = true;
		if (pool->waiting == 0)
		{
			pool_retire_list(pool, PLACE_IDLE);
			pool_retire_list(pool, PLACE_OPENING);
		}
		pool->held = false;
		pool_settle(pool);
		if (pool_links(pool) > 0)
			none = false;
	}
	return none;
}

/* ---- restart, pause, resume ---- */

static void
list_mark(PoolList *list)
{
	for (PoolLink *l = list->head; l != NULL; l = l->next)
		l->retire = l->clearing = true;
}

/* Whatever was open before now is not used again. */
static void
pool_restart(LinkPool *pool)
{
	pool->held = true;
	list_mark(&pool->lists[PLACE_BUSY]);
	list_mark(&pool->lists[PLACE_SHARED]);
	list_mark(&pool->lists[PLACE_RESETTING]);
	pool_retire_list(pool, PLACE_IDLE);
	pool_retire_list(pool, PLACE_OPENING);
	pool_parameters_clear(pool);
	pool->backoff = 0;
	pool->retry_at = 0;
	pool->held = false;
}

void
pools_on_note(const Note *note)
{
	if (note->kind != NOTE_RESTART_ORIGIN && note->kind != NOTE_DIRECTORY)
		return;
	for (LinkPool *pool = pools.first; pool != NULL; pool = pool->next)
	{
		if (note->kind == NOTE_RESTART_ORIGIN)
		{
			if (pool->slot != note->place)
				continue;
			pool_restart(pool);
		}
		pool_settle(pool);
	}
}

/* ---- a new directory ---- */

/* Nobody may use it any more: what is free closes now, what is busy when it comes back. */
static void
pool_shut(LinkPool *pool)
{
	pool->held = true;
	pool_retire_list(pool, PLACE_IDLE);
	pool_retire_list(pool, PLACE_OPENING);
	pool->held = false;
}

static void
pool_on_directory(LinkPool *pool, Directory *directory)
{
	const DirectoryOrigin *origin = directory_origin_by_oid(directory, pool->origin_oid);
	const DirectoryCredential *credential = origin != NULL ? pool_config_find(pool, directory, origin) : NULL;

	if (pool->dropped)
		return;
	pool->dropped = origin == NULL;
	pool->orphan = origin != NULL && credential == NULL;
	if (pool->dropped || pool->orphan)
		pool_shut(pool);
	else
	{
		pool->held = true;
		pool_config_take(pool, origin, credential);
		pool_retire_over(pool);
		pool->held = false;
	}
	pool_settle_soon(pool);
}

/* The minimum of an origin is opened before its first client comes, where a credential serves everybody. */
static void
pools_make_minimum(Directory *directory)
{
	for (int i = 0; i < directory_origin_count(directory); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(directory, i);
		const DirectoryCredential *credential;
		LinkPool   *pool;

		if (origin->min_pool_size <= 0)
			continue;
		credential = directory_credential(directory, origin, InvalidOid);
		if (credential == NULL)
			continue;
		pool = pool_of(origin, credential);
		if (pool == NULL)
			continue;
		pool->held = true;
		pool_open_minimum(pool);
		pool->held = false;
		pool_unref(pool);
	}
}

void
pools_on_directory(Directory *directory)
{
	for (LinkPool *pool = pools.first; pool != NULL; pool = pool->next)
		pool_on_directory(pool, directory);
	if (pools.worker == 0)
		pools_make_minimum(directory);
}
