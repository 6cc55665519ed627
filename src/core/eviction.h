/*
 * core/eviction.h - which entry goes next?                                         floor 1
 *
 * A scan-resistant policy (S3-FIFO class): a small probationary queue, a main queue, and a memory of what was lately thrown out. Pure: it
 * knows nodes by number, their sizes and use bits; it has no memory of its own but the block it is given, no locks, no clock. All
 * operations O(1) amortised.
 */
#ifndef HYPERPOOL_CORE_EVICTION_H
#define HYPERPOOL_CORE_EVICTION_H

#include "core/bytes.h"

typedef struct Eviction Eviction;	/* lies in a block given by the caller (shared memory: holds numbers, no pointers) */

/* The policy keeps, per node, links and a use count in this; the caller embeds or arrays them. */
typedef struct EvictionNode
{
	uint32_t	next;			/* node numbers, towards the older one; 0 = none */
	uint32_t	prev;
	uint8_t		queue;			/* 0 = in none, 1 small, 2 main */
	uint8_t		uses;			/* saturating at 3; a hit may raise it without a lock */
	uint16_t	mark;			/* the caller's own: fills what would be padding */
} EvictionNode;

/* How the policy reaches the caller's nodes. Sizes and hashes do not change while a node is in a queue. */
typedef struct EvictionNodes
{
	EvictionNode *(*node) (void *arg, uint32_t number);
	uint32_t	(*size) (void *arg, uint32_t number);	/* in units of the caller's */
	uint32_t	(*hash) (void *arg, uint32_t number);	/* for the memory of the thrown-out */
	void	   *arg;
} EvictionNodes;

extern size_t eviction_size(uint32_t ghosts);	/* bytes of the block; ghosts: how many hashes of the thrown-out are remembered */
extern Eviction *eviction_init(void *block, uint32_t ghosts);
extern void eviction_insert(Eviction *e, const EvictionNodes *nodes, uint32_t number);
extern void eviction_remove(Eviction *e, const EvictionNodes *nodes, uint32_t number);
/* The node `from` is now called `to`: its EvictionNode has been copied there already. */
extern void eviction_moved(Eviction *e, const EvictionNodes *nodes, uint32_t from, uint32_t to);
/* Races with itself cost a count; nothing else depends on it. */
static inline void
eviction_used(EvictionNode *node)
{
	uint8_t		uses = __atomic_load_n(&node->uses, __ATOMIC_RELAXED);

	if (uses < 3)
		__atomic_store_n(&node->uses, uses + 1, __ATOMIC_RELAXED);
}
/* The number of the node that is to go (it stays in until eviction_remove), 0 = none. One that cannot go yet: eviction_used it and ask again. */
extern uint32_t eviction_victim(Eviction *e, const EvictionNodes *nodes);
extern uint64_t eviction_total(const Eviction *e);	/* units held */

#endif
