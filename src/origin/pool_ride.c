/*
 * origin/pool_ride.c - shared links: which of them takes a plain read, and when is one to become free?
 *
 * Answers: where does a quick read go? Packed onto the shared link that has been shared longest, as long as little stands before it; else onto an idle link, which is
 * shared from then on; else onto the one with the least on it. Owns what decides that for a pool; the numbers are core/sharing's.
 *
 * Shared links carry on without a break while reads come. Whoever needs a link alone and finds none idle has one cleared: nobody else boards it, and it is idle
 * when its last exchange has ended. One link is left to the riders for a while, if there is more than one. What stands still is not worth clearing: it may do so for long.
 */
#include "postgres.h"

#include "origin/pool_internal.h"

#define RIDE_SCAN	128			/* shared links looked at for one */
#define KEPT_US		100000		/* who has waited for a link to himself for so long is given the last one that riders have: the others may be bound, or held for ever */

bool
pool_rider_is_quick(const LinkPool *pool, const PoolWaiter *waiter)
{
	Pace		pace;

	if (!waiter->rides || !pool_shares(pool))
		return false;
	pace = pace_of(pools.paces, waiter->digest);
	return sharing_is_quick(&pace, pool->way.rtt);
}

/* ---- choosing ---- */

static bool
may_board(const PoolLink *l)
{
	return !l->clearing && !link_is_shut(l->link);
}

/* The longest shared first, so that those behind fall idle when less is asked. */
static PoolLink *
find_packed(const LinkPool *pool, const SettingsVector *settings, const Pace *pace)
{
	PoolLink   *l = pool->lists[PLACE_SHARED].tail;

	for (int i = 0; l != NULL && i < RIDE_SCAN; i++, l = l->prev)
	{
		ShareLoad	load;

		if (!may_board(l) || link_settings(l->link) != settings)
			continue;
		load = link_load(l->link);
		if (sharing_has_room(&load, pace, SHARE_PACKED, pool->share_depth))
			return l;
	}
	return NULL;
}

/* The one with the fewest on it. same: in these settings; otherwise it will have to be brought into them, behind all that is on it. */
static PoolLink *
find_crowded(const LinkPool *pool, const SettingsVector *settings, const Pace *pace, bool same)
{
	PoolLink   *best = NULL;
	PoolLink   *l = pool->lists[PLACE_SHARED].tail;
	uint32		least = UINT32_MAX;

	for (int i = 0; l != NULL && i < RIDE_SCAN; i++, l = l->prev)
	{
		ShareLoad	load;

		if (!may_board(l) || (same && link_settings(l->link) != settings))
			continue;
		load = link_load(l->link);
		if (load.depth >= least || !sharing_has_room(&load, pace, SHARE_CROWDED, pool->share_depth))
			continue;
		best = l;
		least = load.depth;
	}
	return best;
}

/* There are as many links as there may be, or none can be opened. */
static bool
is_full(const LinkPool *pool)
{
	return pool_row_links(pool->row) >= (uint32) pool->pool_size || pool->retry_at > pools_now();
}

PoolLink *
pool_board(LinkPool *pool, const PoolWaiter *waiter, bool may_take_idle)
{
	Pace		pace = pace_of(pools.paces, waiter->digest);
	PoolLink   *l = find_packed(pool, waiter->settings, &pace);

	if (l != NULL)
		return l;
	if (may_take_idle && (l = pool_best_idle(pool, waiter->settings)) != NULL)
	{
		link_set_shared(l->link);
		link_place_set(l, PLACE_SHARED);
		return l;
	}
	if (!is_full(pool))
		pool_open_for_riders(pool);
	l = find_crowded(pool, waiter->settings, &pace, true);
	if (l == NULL && is_full(pool))
		l = find_crowded(pool, waiter->settings, &pace, false);
	return l;
}

/* ---- on board ---- */

void
pool_ride(LinkExchange *e, const PoolWaiter *waiter)
{
	PoolLink   *l = link_pool(e->link);
	Pace		pace = pace_of(pools.paces, waiter->digest);

	link_ride(e, pace.us);
	pool_publish_riders(l);
	counter_add(l->pool->counters, COUNT_SHARED, 1);
}

bool
pool_may_follow(OriginLink *link, Digest128 digest)
{
	PoolLink   *l = link_pool(link);
	Pace		pace = pace_of(pools.paces, digest);
	ShareLoad	load = link_load(link);

	return pool_is_open(l->pool) && may_board(l) && sharing_is_quick(&pace, l->pool->way.rtt) && sharing_has_room(&load, &pace, SHARE_CROWDED, l->pool->share_depth);
}

void
pool_observe(const LinkExchange *e)
{
	PoolLink   *l = link_pool(e->link);
	Way		   *way = &l->pool->way;
	int64		rtt = link_load(e->link).rtt;

	pace_observe(pools.paces, e->digest, e->service, e->answer_bytes);
	if (rtt == 0)
		return;
	if (way_is_fresh(way, pools_now()))
		way_shorten(way, rtt, pools_now());
	else
		way_measure(way, rtt, pools_now());
}

/* ---- clearing ---- */

/* Will what is on it end soon? */
static bool
goes_on(const PoolLink *l)
{
	ShareLoad	load = link_load(l->link);

	return !link_is_held(l->link) && load.head_for <= sharing_patience(load.rtt);
}

static PoolLink *
least_loaded(const LinkPool *pool)
{
	PoolLink   *best = NULL;
	uint32		least = UINT32_MAX;

	/* from the one shared last: packing comes to it last, too */
	for (PoolLink *l = pool->lists[PLACE_SHARED].head; l != NULL; l = l->next)
	{
		uint32		depth = link_load(l->link).depth;

		if (l->clearing || depth >= least || !goes_on(l))
			continue;
		best = l;
		least = depth;
	}
	return best;
}

void
pool_clear_one(LinkPool *pool)
{
	PoolLink   *l = least_loaded(pool);

	if (l != NULL)
		l->clearing = true;
}

static uint32
count_clearing(const LinkPool *pool)
{
	uint32		n = 0;

	for (const PoolLink *l = pool->lists[PLACE_SHARED].head; l != NULL; l = l->next)
		n += l->clearing && goes_on(l) ? 1 : 0;
	return n;
}

/* Its first one, by now: nothing was known of its statement when it came, or another is slow meanwhile. Those behind wait for it. */
static bool
needs_link_alone(const LinkPool *pool, PoolQueueKind kind)
{
	const PoolWaiter *first = queue_head(pool, kind);

	return first != NULL && !pool_rider_is_quick(pool, first);
}

static uint32
count_alone(const LinkPool *pool)
{
	return (needs_link_alone(pool, QUEUE_ALONE) ? pool->queues[QUEUE_ALONE].count : 0) + needs_link_alone(pool, QUEUE_RIDERS);
}

static uint32
count_kept(const LinkPool *pool)
{
	const PoolWaiter *first = queue_head(pool, needs_link_alone(pool, QUEUE_ALONE) ? QUEUE_ALONE : QUEUE_RIDERS);

	return pool_usable(pool) > 1 && pools_now() - first->since < KEPT_US ? 1 : 0;
}

/* For each who waits for a link to himself one is cleared, but for the last link if there are others. */
void
pool_clear_for_waiters(LinkPool *pool)
{
	uint32		wanted = count_alone(pool);
	uint32		shared = pool_count(pool, PLACE_SHARED);
	uint32		kept = wanted > 0 ? count_kept(pool) : 0;
	uint32		clearing;

	if (wanted == 0 || shared <= kept || pool_count(pool, PLACE_IDLE) > 0)
		return;
	clearing = count_clearing(pool);
	while (clearing < wanted && clearing < shared - kept)
	{
		pool_clear_one(pool);
		clearing++;
	}
}

/* ---- news ---- */

static void
leave_shared(PoolLink *l)
{
	LinkPool   *pool = l->pool;
	bool		was_held = pool->held;
	bool		owed = l->clearing && pool_owes_link(pool);

	l->clearing = false;
	pool->held = true;
	if (!link_is_quiet(l->link) || owed)
	{
		l->given = owed;
		pool_retire(l);
	}
	else
	{
		link_give_back(l->link, link_is_stirred(l->link) ? LINK_AFTER_RESET : LINK_AFTER_CLEAN);
		pool_follow(l);
	}
	pool->held = was_held;
}

/* An exchange has ended: whoever waits may have its place, or the whole link if it was the last. */
void
pool_on_room(OriginLink *link)
{
	PoolLink   *l = link_pool(link);
	LinkPool   *pool = l->pool;

	if (link_is_empty(link))
		leave_shared(l);
	pool_publish_riders(l);
	if (pool->waiting > 0)
		pool_settle(pool);
}

void
pool_left(OriginLink *link)
{
	if (link_state(link) == LINK_SHARED && link_is_empty(link))
		pool_on_room(link);
}

/* Where could those go who stand behind one that does not end? */
static bool
is_room_elsewhere(LinkPool *pool, const PoolLink *stuck)
{
	if (pool_count(pool, PLACE_IDLE) > 0)
		return true;
	for (const PoolLink *l = pool->lists[PLACE_SHARED].head; l != NULL; l = l->next)
	{
		ShareLoad	load = link_load(l->link);

		if (l != stuck && may_board(l) && load.head_for < sharing_patience(load.rtt))
			return true;
	}
	return !is_full(pool);
}

void
pool_on_stuck(OriginLink *link)
{
	PoolLink   *l = link_pool(link);

	if (is_room_elsewhere(l->pool, l))
		link_move_others(link, link_owner_of_head(link));
}
