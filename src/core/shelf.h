/*
 * core/shelf.h - where do entries lie, and under which key?                         floor 2
 *
 * Answers: which entry has this key; where is room for the next? Owns the pages of the cache and, per shelf (a partition), an index, a
 * policy (core/eviction) and its page lists. Memory is a pool of pages of 16 kB that all shelves draw from. A short entry is one slot of a page that is
 * cut in k equal slots; a long one has whole pages and its rest in such a slot. Entries that nobody has pinned can be moved, so
 * that half-empty pages are emptied for others: no mix of sizes wears it out.
 *
 * Locks are the caller's: "shared" or "exclusive" below is what a function needs of the lock of its shelf. The pool needs none. All of it lies
 * in blocks the caller gives (shared memory), holds numbers and no pointers, and allocates nothing.
 */
#ifndef HYPERPOOL_CORE_SHELF_H
#define HYPERPOOL_CORE_SHELF_H

#include "core/bytes.h"
#include "core/eviction.h"

#define SHELF_PAGE		16384
#define SHELF_KEY_MAX	SHELF_PAGE	/* a key lies in one page */
#define SHELF_TIES_MAX	32		/* numbers an entry hangs on */

typedef struct ShelfPool ShelfPool;
typedef struct Shelf Shelf;

/* What every function works on; made anew in each process. */
typedef struct ShelfView
{
	ShelfPool  *pool;
	Shelf	   *shelf;
	uint8_t		number;			/* of the shelf */
} ShelfView;

/* ---- pages; page numbers start at 1 ---- */
extern size_t shelf_pool_size(uint32_t pages);
extern ShelfPool *shelf_pool_init(void *block, uint32_t pages);	/* the data of the pages is not touched */
extern uint32_t shelf_pool_pages(const ShelfPool *pool);
extern uint32_t shelf_pool_free(const ShelfPool *pool);
extern uint32_t shelf_pool_pinned(const ShelfPool *pool);	/* of pinned entries, but for their slots */
extern uint32_t shelf_page_take(ShelfPool *pool);	/* 0: none is free */
extern void shelf_page_give(ShelfPool *pool, uint32_t page);
extern uint8_t *shelf_page_data(ShelfPool *pool, uint32_t page);
/* Chains of pages, as a fill makes them. */
extern uint32_t shelf_page_next(ShelfPool *pool, uint32_t page);
extern void shelf_page_tie(ShelfPool *pool, uint32_t page, uint32_t next);
extern void shelf_chain_give(ShelfPool *pool, uint32_t first);

/* ---- entries ---- */

typedef struct ShelfItem		/* what an entry says of itself */
{
	uint32_t	hash;
	uint16_t	origin;			/* the caller's number of it */
	uint64_t	sum;			/* below 2^48 */
	uint64_t	shape;
	int64_t		born;			/* microseconds; kept in steps of 1.024 ms, rounded down */
	uint32_t	cost;			/* microseconds; kept to 1 part in 1000 */
	uint32_t	hits;
	uint32_t	key_len;
	uint32_t	head_len;
	uint32_t	len;			/* of the value */
	uint8_t		nties;
	uint16_t	ties[SHELF_TIES_MAX];
} ShelfItem;

extern size_t shelf_size(uint32_t buckets, uint32_t ghosts);
extern Shelf *shelf_init(void *block, uint32_t buckets, uint32_t ghosts);

/* shared: the number of the entry with that key; 0 = none. */
extern uint32_t shelf_find(const ShelfView *view, uint32_t hash, Bytes key);
/* shared, or pinned: everything but hits is as it was put. */
extern void shelf_tell(const ShelfView *view, uint32_t number, ShelfItem *item);
extern Bytes shelf_key(const ShelfView *view, uint32_t number);
extern uint32_t shelf_occupied(const ShelfView *view, uint32_t number);	/* bytes: its slot and pages */
/* shared: the entry after `number` in its bucket; with number 0 the first of the bucket. 0 = end. */
extern uint32_t shelf_walk(const ShelfView *view, uint32_t bucket, uint32_t number);
extern uint32_t shelf_buckets(const ShelfView *view);

/*
 * exclusive: makes an entry of key and value as they stand one after the other in the chain, each page full but the last. Takes the chain. spare is a free
 * page of the caller's, or 0; it is set to 0 if it was used. Does not look for an older entry of that key. False: it needs a spare page.
 */
extern bool shelf_put(const ShelfView *view, const ShelfItem *item, uint32_t chain, uint32_t *spare);
extern bool shelf_put_may_need_spare(const ShelfItem *item);
/* exclusive: it is not found any more; its memory is free now, or at the last unpin. */
extern void shelf_drop(const ShelfView *view, uint32_t number);
/* exclusive: throws out entries, or moves some together, until a page more is free. False: it cannot. *evicted counts what was thrown out. */
extern bool shelf_yield(const ShelfView *view, uint64_t *evicted);

/*
 * shared: pinned memory does not move or change. False: pinned too often, or with its pages more than half of all would be. However many pin and do not let
 * go, the rest goes on being used, and what is pinned already may be pinned again.
 */
extern bool shelf_pin(const ShelfView *view, uint32_t number);
extern bool shelf_is_long(const ShelfView *view, uint32_t number);	/* shared: it has pages of its own */
/* No lock. True: it had been dropped, and the caller is the last: shelf_free it. */
extern bool shelf_unpin(const ShelfView *view, uint32_t number);
extern void shelf_free(const ShelfView *view, uint32_t number);	/* exclusive */
extern void shelf_hit(const ShelfView *view, uint32_t number);	/* shared: counts it, tells the policy */

/* pinned: the piece of the value that starts at byte `at`; *page is where the last one was (0 at the start). */
extern Bytes shelf_piece(const ShelfView *view, uint32_t number, uint32_t at, uint32_t *page);
/* Is that a number of an entry of some shelf? For numbers that are not beyond doubt. */
extern bool shelf_number_is_sound(const ShelfPool *pool, uint32_t number);
extern uint8_t shelf_number_of(const ShelfPool *pool, uint32_t number);	/* the shelf an entry is on */

typedef struct ShelfTotals		/* kept under the exclusive lock */
{
	uint64_t	entries;
	uint64_t	bytes;			/* keys and values proper */
	uint64_t	occupied;		/* slots and pages of entries */
} ShelfTotals;

extern ShelfTotals shelf_totals(const ShelfView *view);

#endif
