/*
 * origin/pool_hope.c - who waits for a link to himself only because too little is known of the origin's catalog.
 *
 * Answers: who comes to ride now that more is known? A read that looks like a plain one waits among those who need a link alone as long as nothing proves it: the
 * origin is new, or asleep, or something may have changed it. When the scout has looked again (facts_renewals) each of them is asked once, and whoever rides
 * by now moves to the riders, with the time he has waited. So many in a turn: a worker with ten thousand of them goes on with its other work.
 *
 * Owns the list of those who hope. It is in the order in which they were looked at: who has not been asked since the last renewal stands in front.
 */
#include "postgres.h"

#include "host/facts.h"

#include "origin/pool_internal.h"

#define LOOKS_A_TURN	128		/* at one to fifty microseconds each */

void
hope_join(PoolWaiter *waiter)
{
	if (!waiter->hopes)
		return;
	waiter->renewals = waiter->pool->renewals;
	dlist_push_tail(&waiter->pool->hoping, &waiter->hope);
}

void
hope_leave(PoolWaiter *waiter)
{
	if (waiter->hopes)
		dlist_delete(&waiter->hope);
}

/* NULL: nobody, or all have been. */
static PoolWaiter *
first_to_ask(LinkPool *pool)
{
	PoolWaiter *waiter;

	if (dlist_is_empty(&pool->hoping))
		return NULL;
	waiter = dlist_container(PoolWaiter, hope, pool->hoping.head.next);
	return waiter->renewals != pool->renewals ? waiter : NULL;
}

/* Out of the list first: should the session raise an ERROR, it waits on as one that does not hope. */
static void
ask(PoolWaiter *waiter)
{
	dlist_delete(&waiter->hope);
	waiter->hopes = false;
	waiter->on_facts(waiter);
	hope_join(waiter);
	if (pool_rider_is_quick(waiter->pool, waiter))
		queue_move(waiter, QUEUE_RIDERS);
}

/* So many more may be asked. */
static int
ask_some(LinkPool *pool, int left)
{
	PoolWaiter *waiter;
	int			asked = 0;

	/* heard of before they are asked: what is renewed meanwhile is another time */
	pool->renewals = facts_renewals_of(pool->slot);
	while (asked < left && (waiter = first_to_ask(pool)) != NULL)
	{
		ask(waiter);
		asked++;
	}
	if (asked > 0)
		pool_settle(pool);
	return left - asked;
}

static void
ask_all(void)
{
	int			left = LOOKS_A_TURN;

	for (LinkPool *pool = pools.first; pool != NULL && left > 0; pool = pool->next)
		left = ask_some(pool, left);
	if (left == 0)
		reactor_set_timer(pools.reactor, &pools.hope_timer, pools_now() + 1);
}

void
hope_on_time(ReactorTimer *timer)
{
	ask_all();
}

void
pools_on_facts(void)
{
	uint64		renewals = facts_renewals();

	if (renewals == pools.renewals)
		return;
	pools.renewals = renewals;
	ask_all();
}
