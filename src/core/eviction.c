/*
 * core/eviction.c - which entry goes next?
 *
 * S3-FIFO: what is new waits in a small queue; what is asked for again before it reaches the end moves on to the main queue,
 * the rest goes and leaves its hash behind. What comes back while its hash is remembered goes into the main queue at once. The main
 * queue gives what was used another round for each use. So a scan passes through the small queue and moves nothing else.
 *
 * Owns: the order of the nodes. Never: frees one, keeps a pointer, takes a lock (the caller holds its own; only eviction_used
 * runs without it).
 */
#include "core/eviction.h"

#define QUEUE_SMALL		1
#define QUEUE_MAIN		2

#define SMALL_SHARE		10		/* the small queue holds one part in so many */
#define GHOST_WAYS		4

typedef struct EvictionQueue
{
	uint32_t	newest;
	uint32_t	oldest;
	uint64_t	total;			/* units */
} EvictionQueue;

/* A hash, and the count of the thrown-out when it came here: older than `ghosts` of them is forgotten. 0 = empty. */
typedef struct Ghost
{
	uint32_t	hash;
	uint32_t	stamp;
} Ghost;

struct Eviction
{
	EvictionQueue queues[3];	/* by EvictionNode.queue; the first is not used */
	uint32_t	sets;			/* of GHOST_WAYS ghosts */
	uint32_t	thrown_out;		/* runs on; skips 0 */
	Ghost		ghosts[];
};

static uint32_t
sets_of(uint32_t ghosts)
{
	return ghosts / GHOST_WAYS + 1;
}

size_t
eviction_size(uint32_t ghosts)
{
	return sizeof(Eviction) + (size_t) sets_of(ghosts) * GHOST_WAYS * sizeof(Ghost);
}

Eviction *
eviction_init(void *block, uint32_t ghosts)
{
	Eviction   *e = block;

	memset(e, 0, eviction_size(ghosts));
	e->sets = sets_of(ghosts);
	return e;
}

/* ---- the thrown-out ---- */

/* The caller's index may use the same hash: mixed, so that sets fill evenly. */
static Ghost *
ghost_set(Eviction *e, uint32_t hash)
{
	uint32_t	mixed = hash * 2654435769u;

	return &e->ghosts[(size_t) (mixed % e->sets) * GHOST_WAYS];
}

static uint32_t
ghost_age(const Eviction *e, const Ghost *ghost)
{
	return ghost->stamp == 0 ? UINT32_MAX : e->thrown_out - ghost->stamp;
}

static void
ghost_put(Eviction *e, uint32_t hash)
{
	Ghost	   *set = ghost_set(e, hash);
	Ghost	   *place = set;

	for (int i = 0; i < GHOST_WAYS; i++)
	{
		if (set[i].stamp != 0 && set[i].hash == hash)
		{
			place = &set[i];
			break;
		}
		if (ghost_age(e, &set[i]) > ghost_age(e, place))
			place = &set[i];
	}
	if (++e->thrown_out == 0)
		e->thrown_out = 1;
	place->hash = hash;
	place->stamp = e->thrown_out;
}

/* Is it remembered? It is not any more afterwards. */
static bool
ghost_take(Eviction *e, uint32_t hash)
{
	Ghost	   *set = ghost_set(e, hash);

	for (int i = 0; i < GHOST_WAYS; i++)
	{
		if (set[i].stamp != 0 && set[i].hash == hash)
		{
			bool		lately = ghost_age(e, &set[i]) <= e->sets * GHOST_WAYS;

			set[i].stamp = 0;
			return lately;
		}
	}
	return false;
}

/* ---- queues ---- */

static void
queue_push(Eviction *e, const EvictionNodes *nodes, uint32_t number, uint8_t which)
{
	EvictionQueue *queue = &e->queues[which];
	EvictionNode *node = nodes->node(nodes->arg, number);

	node->queue = which;
	node->prev = 0;
	node->next = queue->newest;
	if (queue->newest)
		nodes->node(nodes->arg, queue->newest)->prev = number;
	else
		queue->oldest = number;
	queue->newest = number;
	queue->total += nodes->size(nodes->arg, number);
}

/* Where the chain says `next of prev` and `prev of next`, or the ends, it shall say these. */
static void
queue_tie(Eviction *e, const EvictionNodes *nodes, const EvictionNode *node, uint32_t as_next, uint32_t as_prev)
{
	EvictionQueue *queue = &e->queues[node->queue];

	if (node->prev)
		nodes->node(nodes->arg, node->prev)->next = as_next;
	else
		queue->newest = as_next;
	if (node->next)
		nodes->node(nodes->arg, node->next)->prev = as_prev;
	else
		queue->oldest = as_prev;
}

void
eviction_insert(Eviction *e, const EvictionNodes *nodes, uint32_t number)
{
	bool		came_back = ghost_take(e, nodes->hash(nodes->arg, number));

	nodes->node(nodes->arg, number)->uses = 0;
	queue_push(e, nodes, number, came_back ? QUEUE_MAIN : QUEUE_SMALL);
}

void
eviction_remove(Eviction *e, const EvictionNodes *nodes, uint32_t number)
{
	EvictionNode *node = nodes->node(nodes->arg, number);

	if (node->queue == 0)
		return;
	queue_tie(e, nodes, node, node->next, node->prev);
	e->queues[node->queue].total -= nodes->size(nodes->arg, number);
	node->queue = 0;
	node->next = node->prev = 0;
}

void
eviction_moved(Eviction *e, const EvictionNodes *nodes, uint32_t from, uint32_t to)
{
	(void) from;
	if (nodes->node(nodes->arg, to)->queue != 0)
		queue_tie(e, nodes, nodes->node(nodes->arg, to), to, to);
}

/* ---- who goes ---- */

static void
requeue(Eviction *e, const EvictionNodes *nodes, uint32_t number, uint8_t uses)
{
	eviction_remove(e, nodes, number);
	nodes->node(nodes->arg, number)->uses = uses;
	queue_push(e, nodes, number, QUEUE_MAIN);
}

/* The oldest of the small queue if it may go; what was used moves on. 0: the queue ran empty or short. */
static uint32_t
small_victim(Eviction *e, const EvictionNodes *nodes)
{
	EvictionQueue *small = &e->queues[QUEUE_SMALL];

	while (small->oldest && (small->total > eviction_total(e) / SMALL_SHARE || e->queues[QUEUE_MAIN].oldest == 0))
	{
		uint32_t	number = small->oldest;

		if (nodes->node(nodes->arg, number)->uses == 0)
		{
			ghost_put(e, nodes->hash(nodes->arg, number));
			return number;
		}
		requeue(e, nodes, number, 0);
	}
	return 0;
}

uint32_t
eviction_victim(Eviction *e, const EvictionNodes *nodes)
{
	uint32_t	number = small_victim(e, nodes);
	EvictionQueue *main_queue = &e->queues[QUEUE_MAIN];

	/* every turn takes away one use, so this ends */
	while (number == 0 && main_queue->oldest)
	{
		uint32_t	oldest = main_queue->oldest;
		uint8_t		uses = nodes->node(nodes->arg, oldest)->uses;

		if (uses == 0)
			return oldest;
		requeue(e, nodes, oldest, uses - 1);
	}
	return number;
}

uint64_t
eviction_total(const Eviction *e)
{
	return e->queues[QUEUE_SMALL].total + e->queues[QUEUE_MAIN].total;
}
