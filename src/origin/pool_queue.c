/*
 * origin/pool_queue.c - who waits for a link.
 *
 * First come first served inside a local role, round robin over the roles: a role with a thousand sessions takes
 * one turn like a role with one. Every operation is O(1), but for the timer, which looks at the first of each role, and for a move to another queue, which
 * passes by those who have come later.
 * Owns the role queues; the waiters are the sessions'.
 */
#include "postgres.h"

#include "origin/pool_internal.h"

#define ROLE_BUCKETS	1024	/* a power of two; roles that wait at this worker's pools */

static RoleQueue *role_buckets[ROLE_BUCKETS];

/* ---- the queue of a role ---- */

static RoleQueue **
role_bucket(const PoolQueue *of, Oid role)
{
	uint64		hash = ((uint64) (uintptr_t) of >> 4) * 31 + role;

	return &role_buckets[(hash * UINT64CONST(0x9E3779B97F4A7C15) >> 32) & (ROLE_BUCKETS - 1)];
}

/* Without memory the role shares the pool's spare queue: late in the round, not lost. */
static RoleQueue *
role_queue_get(LinkPool *pool, PoolQueue *of, Oid role)
{
	RoleQueue **bucket = role_bucket(of, role);
	RoleQueue  *q;

	for (q = *bucket; q != NULL; q = q->next_in_bucket)
		if (q->of == of && q->role == role)
			return q;
	q = mem_zalloc(sizeof(RoleQueue));
	if (q == NULL)
		return &of->spare;
	q->pool = pool;
	q->of = of;
	q->role = role;
	q->next_in_bucket = *bucket;
	*bucket = q;
	return q;
}

/* Nobody of the role waits any more. */
static void
role_queue_release(RoleQueue *q)
{
	RoleQueue **at = role_bucket(q->of, q->role);

	if (q == &q->of->spare)
		return;
	while (*at != q)
		at = &(*at)->next_in_bucket;
	*at = q->next_in_bucket;
	mem_free(q, sizeof(RoleQueue));
}

/* ---- the round ---- */

/* Behind all others: just before the one whose turn it is. */
static void
round_join(RoleQueue *q)
{
	RoleQueue  *turn = q->of->turn;

	if (turn == NULL)
	{
		q->next = q->prev = q;
		q->of->turn = q;
		return;
	}
	q->next = turn;
	q->prev = turn->prev;
	turn->prev->next = q;
	turn->prev = q;
}

static void
round_leave(RoleQueue *q)
{
	if (q->of->turn == q)
		q->of->turn = q->next != q ? q->next : NULL;
	q->prev->next = q->next;
	q->next->prev = q->prev;
	q->next = q->prev = NULL;
}

/* ---- waiters ---- */

/* Behind whom of the role is the place of one who has waited since then? Those who are moved come by age, nearly: each is looked for from where the one before him has gone. */
static PoolWaiter *
place_of(const RoleQueue *q, int64 since)
{
	PoolWaiter *before = q->moved != NULL && q->moved->since <= since ? q->moved : NULL;
	PoolWaiter *next = before != NULL ? before->next : q->head;

	if (q->tail == NULL || q->tail->since <= since)
		return q->tail;
	while (next != NULL && next->since <= since)
	{
		before = next;
		next = next->next;
	}
	return before;
}

/* before: of the role, NULL = nobody. */
static void
role_queue_add(RoleQueue *q, PoolWaiter *waiter, PoolWaiter *before)
{
	PoolWaiter *next = before != NULL ? before->next : q->head;

	if (q->head == NULL)
		round_join(q);
	q->of->count++;
	waiter->queue = q;
	waiter->prev = before;
	waiter->next = next;
	if (before != NULL)
		before->next = waiter;
	else
		q->head = waiter;
	if (next != NULL)
		next->prev = waiter;
	else
		q->tail = waiter;
}

static void
role_queue_remove(RoleQueue *q, PoolWaiter *waiter)
{
	if (waiter->prev != NULL)
		waiter->prev->next = waiter->next;
	else
		q->head = waiter->next;
	if (waiter->next != NULL)
		waiter->next->prev = waiter->prev;
	else
		q->tail = waiter->prev;
	if (q->moved == waiter)
		q->moved = waiter->prev;
	waiter->next = waiter->prev = NULL;
	waiter->queue = NULL;
	q->of->count--;
	if (q->head == NULL)
	{
		round_leave(q);
		role_queue_release(q);
	}
}

void
queue_put(LinkPool *pool, PoolWaiter *waiter)
{
	PoolQueueKind kind = pool_rider_is_quick(pool, waiter) ? QUEUE_RIDERS : QUEUE_ALONE;
	RoleQueue  *q = role_queue_get(pool, &pool->queues[kind], waiter->role);

	role_queue_add(q, waiter, q->tail);
	waiter->pool = pool;
	pool->waiting++;
	hope_join(waiter);
	pool_publish(pool);
}

static void
queue_remove(PoolWaiter *waiter)
{
	LinkPool   *pool = waiter->pool;

	hope_leave(waiter);
	role_queue_remove(waiter->queue, waiter);
	waiter->pool = NULL;
	pool->waiting--;
	pool_publish(pool);
}

void
queue_move(PoolWaiter *waiter, PoolQueueKind kind)
{
	LinkPool   *pool = waiter->pool;
	RoleQueue  *q;

	role_queue_remove(waiter->queue, waiter);
	q = role_queue_get(pool, &pool->queues[kind], waiter->role);
	role_queue_add(q, waiter, place_of(q, waiter->since));
	q->moved = waiter;
}

PoolWaiter *
queue_head(const LinkPool *pool, PoolQueueKind kind)
{
	RoleQueue  *q = pool->queues[kind].turn;

	return q != NULL ? q->head : NULL;
}

PoolWaiter *
queue_take(LinkPool *pool, PoolQueueKind kind)
{
	RoleQueue  *q = pool->queues[kind].turn;
	PoolWaiter *waiter;

	if (q == NULL)
		return NULL;
	waiter = q->head;
	pool->queues[kind].turn = q->next;
	queue_remove(waiter);
	return waiter;
}

void
pool_leave_queue(PoolWaiter *waiter)
{
	LinkPool   *pool = waiter->pool;

	if (pool == NULL)
		return;
	queue_remove(waiter);
	if (pool->refs == 0)
		pools_sweep_soon();
}

/* ---- how long ---- */

/* The first of each role is its oldest. */
static PoolWaiter *
oldest_of_round(const PoolQueue *queue, PoolWaiter *first)
{
	RoleQueue  *q = queue->turn;

	if (q == NULL)
		return first;
	do
	{
		if (first == NULL || q->head->since < first->since)
			first = q->head;
		q = q->next;
	} while (q != queue->turn);
	return first;
}

static PoolWaiter *
queue_first(const LinkPool *pool)
{
	return oldest_of_round(&pool->queues[QUEUE_RIDERS], oldest_of_round(&pool->queues[QUEUE_ALONE], NULL));
}

int64
queue_oldest(const LinkPool *pool)
{
	PoolWaiter *first = queue_first(pool);

	return first != NULL ? first->since : 0;
}

/* Not moved when the oldest is served: it then rings early and is set again. */
void
queue_arm(LinkPool *pool)
{
	if (pool->queue_timer.due != 0 || pool->waiting == 0 || pool->queue_timeout <= 0)
		return;
	reactor_set_timer(pools.reactor, &pool->queue_timer, queue_oldest(pool) + pool->queue_timeout);
}

void
queue_on_time(ReactorTimer *timer)
{
	LinkPool   *pool = (LinkPool *) ((char *) timer - offsetof(LinkPool, queue_timer));
	int64		begun = pools_now() - pool->queue_timeout;
	PoolWaiter *waiter;

	if (pool->queue_timeout > 0)
	{
		/* each look starts afresh: a callback may change the queue */
		while ((waiter = queue_first(pool)) != NULL && waiter->since <= begun)
		{
			queue_remove(waiter);
			counter_add(pool->counters, COUNT_QUEUE_TIMEOUTS, 1);
			waiter->refusal = directory_is_paused(pool->slot) ? REFUSE_PAUSED : REFUSE_QUEUE_TIMEOUT;
			waiter->on_checkout(waiter, NULL);
		}
	}
	pool_plan(pool);
}
