/*
 * test/unit/test_eviction.c - core/eviction: order, second chances, ghosts, and books that agree after much churn.
 */
#include "core/eviction.h"
#include "unit.h"

#include <stdlib.h>

#define NODES	400

typedef struct Row
{
	EvictionNode node;
	uint32_t	size;
	uint32_t	hash;
} Row;

static Row	rows[NODES];

static EvictionNode *
row_node(void *arg, uint32_t number)
{
	return &((Row *) arg)[number].node;
}

static uint32_t
row_size(void *arg, uint32_t number)
{
	return ((Row *) arg)[number].size;
}

static uint32_t
row_hash(void *arg, uint32_t number)
{
	return ((Row *) arg)[number].hash;
}

static const EvictionNodes nodes = {row_node, row_size, row_hash, rows};

static Eviction *
fresh(uint32_t ghosts)
{
	void	   *block = malloc(eviction_size(ghosts));

	memset(rows, 0, sizeof(rows));
	for (uint32_t i = 0; i < NODES; i++)
	{
		rows[i].size = 1;
		rows[i].hash = i * 7919;
	}
	return eviction_init(block, ghosts);
}

TEST(empty_has_no_victim)
{
	Eviction   *e = fresh(16);

	CHECK_EQ_INT(eviction_victim(e, &nodes), 0);
	CHECK_EQ_INT(eviction_total(e), 0);
	eviction_remove(e, &nodes, 5);
	CHECK_EQ_INT(eviction_total(e), 0);
	free(e);
}

TEST(the_oldest_goes_first)
{
	Eviction   *e = fresh(16);

	for (uint32_t i = 1; i <= 20; i++)
		eviction_insert(e, &nodes, i);
	for (uint32_t i = 1; i <= 20; i++)
	{
		CHECK_EQ_INT(eviction_victim(e, &nodes), i);
		eviction_remove(e, &nodes, i);
	}
	CHECK_EQ_INT(eviction_victim(e, &nodes), 0);
	free(e);
}

TEST(what_was_used_outlives_a_scan)
{
	Eviction   *e = fresh(64);
	bool		kept = true;

	for (uint32_t i = 1; i <= 20; i++)
	{
		eviction_insert(e, &nodes, i);
		eviction_used(&rows[i].node);
	}
	for (uint32_t i = 100; i < 350; i++)
	{
		eviction_insert(e, &nodes, i);
		if (eviction_total(e) > 40)
		{
			uint32_t	victim = eviction_victim(e, &nodes);

			kept = kept && victim >= 100;
			eviction_remove(e, &nodes, victim);
		}
	}
	CHECK(kept);
	free(e);
}

TEST(what_comes_back_soon_goes_to_the_main_queue)
{
	Eviction   *e = fresh(16);

	eviction_insert(e, &nodes, 1);
	CHECK_EQ_INT(rows[1].node.queue, 1);
	CHECK_EQ_INT(eviction_victim(e, &nodes), 1);
	eviction_remove(e, &nodes, 1);
	eviction_insert(e, &nodes, 1);
	CHECK_EQ_INT(rows[1].node.queue, 2);
	eviction_remove(e, &nodes, 1);
	eviction_insert(e, &nodes, 1);	/* it was remembered once */
	CHECK_EQ_INT(rows[1].node.queue, 1);
	free(e);
}

TEST(what_comes_back_late_is_new)
{
	Eviction   *e = fresh(16);

	for (uint32_t i = 1; i < 200; i++)
	{
		eviction_insert(e, &nodes, i);
		CHECK_EQ_INT(eviction_victim(e, &nodes), i);
		eviction_remove(e, &nodes, i);
	}
	eviction_insert(e, &nodes, 1);
	CHECK_EQ_INT(rows[1].node.queue, 1);
	free(e);
}

TEST(uses_saturate)
{
	Eviction   *e = fresh(16);

	eviction_insert(e, &nodes, 1);
	for (int i = 0; i < 10; i++)
		eviction_used(&rows[1].node);
	CHECK_EQ_INT(rows[1].node.uses, 3);
	CHECK_EQ_INT(eviction_victim(e, &nodes), 1);	/* alone, it goes all the same */
	free(e);
}

/* Both ways along the queues: every node once, totals right. */
static bool
books_agree(Eviction *e, const bool *in)
{
	uint64_t	total = 0;

	for (uint32_t i = 1; i < NODES; i++)
	{
		EvictionNode *n = &rows[i].node;

		if (in[i] != (n->queue != 0))
			return false;
		if (!in[i])
			continue;
		total += rows[i].size;
		if ((n->next && (rows[n->next].node.prev != i || rows[n->next].node.queue != n->queue)) ||
			(n->prev && (rows[n->prev].node.next != i || rows[n->prev].node.queue != n->queue)))
			return false;
	}
	return total == eviction_total(e);
}

TEST(churn_with_moves)
{
	Eviction   *e = fresh(64);
	bool		in[NODES] = {false};
	uint32_t	random = 1;
	bool		agree = true;

	for (int step = 0; step < 200000 && agree; step++)
	{
		uint32_t	n;
		uint32_t	to;

		random = random * 1664525 + 1013904223;
		n = 1 + (random >> 8) % (NODES - 1);
		switch (random >> 28)
		{
			case 0:
			case 1:
				n = eviction_victim(e, &nodes);
				if (n == 0)
					break;
				/* fall through */
			case 2:
				eviction_remove(e, &nodes, n);
				in[n] = false;
				break;
			case 3:
				for (to = 1; to < NODES && in[to]; to++)
					;
				if (!in[n] || to == NODES)
					break;
				rows[to] = rows[n];
				memset(&rows[n].node, 0, sizeof(EvictionNode));
				in[to] = true;
				in[n] = false;
				eviction_moved(e, &nodes, n, to);
				break;
			case 4:
			case 5:
			case 6:
			case 7:
				eviction_used(&rows[n].node);
				break;
			default:
				if (in[n])
					break;
				rows[n].size = 1 + (random >> 16) % 50;
				eviction_insert(e, &nodes, n);
				in[n] = true;
		}
		if (step % 100 == 0)
			agree = books_agree(e, in);
	}
	CHECK(agree);
	free(e);
}
