/*
 * core/shelf.c - where do entries lie, and under which key?
 *
 * An entry's number is its page * 128 + its slot, so it needs no table beside the pages; when an entry moves, its
 * number changes, and the two things that know it, its bucket and its queue, are told. A header has 54 bytes and two a number it hangs on:
 * what is small on most entries is kept small (see Entry), and a long entry says its lengths in an extension behind them.
 *
 * Never: takes a lock, allocates, moves or changes what is pinned.
 */
#include "core/shelf.h"

#include <stdatomic.h>

#define SLOT_BITS		7
#define SLOTS_MAX		128		/* of a page: k */
#define LONG_ENTRY		0x80	/* in nties: the rest of the lengths stands in a LongEntry */
#define DROPPED			0x8000	/* in pins: not found any more */
#define PINS_MAX		0x7f00
#define YIELD_TRIES		64		/* pinned entries passed over in one yield */
#define LOOK_AT_PAGES	16		/* half-empty pages looked at for one to empty */

/* What is known of a page: it is free, or one of a chain, or cut in k slots that belong to a shelf. */
typedef struct PageInfo
{
	_Atomic uint32_t next;		/* in the pool, the chain, or the list of its shelf's pages with a free slot */
	uint32_t	prev;			/* in that list */
	uint8_t		k;				/* slots; 0 = not cut */
	uint8_t		used;			/* of them */
	uint8_t		shelf;
	uint8_t		listed;
	_Atomic uint64_t taken[SLOTS_MAX / 64];	/* atomic for a look without the lock: shelf_number_is_sound */
} PageInfo;

struct ShelfPool
{
	_Atomic uint64_t head;		/* first free page, and above it a count that tells an old head from a new one */
	_Atomic uint32_t free;
	_Atomic uint32_t pinned;	/* pages of pinned entries */
	uint32_t	pages;
	size_t		data_at;		/* from here: page 1 */
	PageInfo	info[];			/* by page number; 0 is not used */
};

typedef struct Entry
{
	EvictionNode node;			/* its mark: the origin */
	uint32_t	hash;
	uint32_t	chain;			/* next in the bucket */
	uint32_t	sum_low;
	uint32_t	born_low;		/* in steps of 1024 microseconds */
	_Atomic uint32_t hits;
	uint32_t	shape[2];
	uint16_t	sum_high;
	_Atomic uint16_t pins;		/* and DROPPED */
	uint16_t	cost;			/* 11 bits, and 5 of a power of two */
	uint16_t	key_len;		/* of a short entry; see LongEntry */
	uint16_t	head_len;
	uint16_t	len;
	uint8_t		born_high;
	uint8_t		nties;			/* and LONG_ENTRY */
	uint16_t	ties[];			/* then a LongEntry, then the rest of key and value */
} Entry;

typedef struct LongEntry		/* at a multiple of 4 */
{
	uint32_t	key_len;
	uint32_t	head_len;
	uint32_t	len;
	uint32_t	first;			/* page */
	uint32_t	in_pages;		/* bytes of key and value in whole pages; the rest is in the slot */
} LongEntry;

typedef struct SlotClass
{
	uint32_t	first;			/* page with a free slot */
	uint32_t	free;			/* slots, of all its pages */
} SlotClass;

struct Shelf
{
	ShelfTotals totals;
	uint64_t	given;			/* pages given back to the pool so far */
	uint32_t	buckets;
	uint32_t	policy_at;		/* from here */
	SlotClass	classes[SLOTS_MAX + 1];	/* by k */
	uint32_t	first[];		/* of each bucket */
};

_Static_assert(offsetof(Entry, ties) == 54, "an entry of 200 bytes may cost a quarter more");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_SHORT_LOCK_FREE == 2, "atomics work across processes");

/* ---- pages ---- */

static size_t
pool_data_at(uint32_t pages)
{
	size_t		end = sizeof(ShelfPool) + ((size_t) pages + 1) * sizeof(PageInfo);

	return (end + 4095) & ~(size_t) 4095;
}

size_t
shelf_pool_size(uint32_t pages)
{
	return pool_data_at(pages) + (size_t) pages * SHELF_PAGE;
}

ShelfPool *
shelf_pool_init(void *block, uint32_t pages)
{
	ShelfPool  *pool = block;

	memset(pool, 0, sizeof(ShelfPool) + ((size_t) pages + 1) * sizeof(PageInfo));
	pool->pages = pages;
	pool->data_at = pool_data_at(pages);
	for (uint32_t page = pages; page > 0; page--)
		shelf_page_give(pool, page);
	return pool;
}

uint32_t
shelf_pool_pages(const ShelfPool *pool)
{
	return pool->pages;
}

uint32_t
shelf_pool_free(const ShelfPool *pool)
{
	return atomic_load_explicit(&((ShelfPool *) pool)->free, memory_order_relaxed);
}

uint32_t
shelf_pool_pinned(const ShelfPool *pool)
{
	return atomic_load_explicit(&((ShelfPool *) pool)->pinned, memory_order_relaxed);
}

/* Old heads are told from new ones by the count above: a page that went and came back in between is not mistaken for never gone. */
uint32_t
shelf_page_take(ShelfPool *pool)
{
	uint64_t	head = atomic_load(&pool->head);
	uint32_t	page;
	uint64_t	after;

	do
	{
		page = (uint32_t) head;
		if (page == 0)
			return 0;
		after = ((head >> 32) + 1) << 32 | atomic_load(&pool->info[page].next);
	} while (!atomic_compare_exchange_weak(&pool->head, &head, after));
	atomic_fetch_sub(&pool->free, 1);
	atomic_store(&pool->info[page].next, 0);
	return page;
}

void
shelf_page_give(ShelfPool *pool, uint32_t page)
{
	uint64_t	head = atomic_load(&pool->head);
	uint64_t	after;

	pool->info[page].k = 0;
	pool->info[page].listed = 0;
	do
	{
		atomic_store(&pool->info[page].next, (uint32_t) head);
		after = ((head >> 32) + 1) << 32 | page;
	} while (!atomic_compare_exchange_weak(&pool->head, &head, after));
	atomic_fetch_add(&pool->free, 1);
}

uint8_t *
shelf_page_data(ShelfPool *pool, uint32_t page)
{
	return (uint8_t *) pool + pool->data_at + (size_t) (page - 1) * SHELF_PAGE;
}

uint32_t
shelf_page_next(ShelfPool *pool, uint32_t page)
{
	return atomic_load_explicit(&pool->info[page].next, memory_order_relaxed);
}

void
shelf_page_tie(ShelfPool *pool, uint32_t page, uint32_t next)
{
	atomic_store_explicit(&pool->info[page].next, next, memory_order_relaxed);
}

void
shelf_chain_give(ShelfPool *pool, uint32_t first)
{
	while (first)
	{
		uint32_t	next = shelf_page_next(pool, first);

		shelf_page_give(pool, first);
		first = next;
	}
}

/* ---- entries in slots ---- */

static uint32_t
slot_size(uint32_t k)
{
	return SHELF_PAGE / k & ~(uint32_t) 3;
}

static Entry *
entry_at(ShelfPool *pool, uint32_t number)
{
	uint32_t	page = number >> SLOT_BITS;

	return (Entry *) (shelf_page_data(pool, page) + (number & (SLOTS_MAX - 1)) * slot_size(pool->info[page].k));
}

static uint32_t
ties_end(uint32_t nties)
{
	return (uint32_t) offsetof(Entry, ties) + nties * 2;
}

static uint32_t
long_at(uint32_t nties)
{
	return (ties_end(nties) + 3) & ~(uint32_t) 3;
}

static LongEntry *
long_of(Entry *entry)
{
	return (LongEntry *) ((uint8_t *) entry + long_at(entry->nties & ~LONG_ENTRY));
}

static uint32_t
header_size(uint32_t nties, bool is_long)
{
	return is_long ? long_at(nties) + (uint32_t) sizeof(LongEntry) : ties_end(nties);
}

/* Where the bytes of key and value in the slot begin. */
static uint8_t *
rest_of(Entry *entry)
{
	return (uint8_t *) entry + header_size(entry->nties & ~LONG_ENTRY, (entry->nties & LONG_ENTRY) != 0);
}

static uint32_t
key_len_of(Entry *entry)
{
	return entry->nties & LONG_ENTRY ? long_of(entry)->key_len : entry->key_len;
}

static uint32_t
value_len_of(Entry *entry)
{
	return entry->nties & LONG_ENTRY ? long_of(entry)->len : entry->len;
}

static uint32_t
in_pages_of(Entry *entry)
{
	return entry->nties & LONG_ENTRY ? long_of(entry)->in_pages : 0;
}

static uint32_t
pages_of(uint32_t bytes)
{
	return bytes / SHELF_PAGE + (bytes % SHELF_PAGE != 0);
}

static bool
slot_is_taken(const PageInfo *info, uint32_t slot)
{
	return (atomic_load_explicit(&((PageInfo *) info)->taken[slot / 64], memory_order_relaxed) >> (slot % 64) & 1) != 0;
}

uint32_t
shelf_occupied(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint64_t	bytes = slot_size(view->pool->info[number >> SLOT_BITS].k) + (uint64_t) pages_of(in_pages_of(entry)) * SHELF_PAGE;

	return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t) bytes;
}

bool
shelf_number_is_sound(const ShelfPool *pool, uint32_t number)
{
	uint32_t	page = number >> SLOT_BITS;
	uint32_t	slot = number & (SLOTS_MAX - 1);

	return page > 0 && page <= pool->pages && slot < pool->info[page].k && slot_is_taken(&pool->info[page], slot);
}

uint8_t
shelf_number_of(const ShelfPool *pool, uint32_t number)
{
	return pool->info[number >> SLOT_BITS].shelf;
}

/* ---- pages cut in slots ---- */

static void
list_page(const ShelfView *view, uint32_t page)
{
	PageInfo   *info = &view->pool->info[page];
	SlotClass  *class = &view->shelf->classes[info->k];

	info->prev = 0;
	info->listed = 1;
	shelf_page_tie(view->pool, page, class->first);
	if (class->first)
		view->pool->info[class->first].prev = page;
	class->first = page;
}

static void
unlist_page(const ShelfView *view, uint32_t page)
{
	PageInfo   *info = &view->pool->info[page];
	uint32_t	next = shelf_page_next(view->pool, page);

	if (info->prev)
		shelf_page_tie(view->pool, info->prev, next);
	else
		view->shelf->classes[info->k].first = next;
	if (next)
		view->pool->info[next].prev = info->prev;
	info->listed = 0;
	shelf_page_tie(view->pool, page, 0);
}

/* The page becomes one of k slots, all free. */
static void
cut_page(const ShelfView *view, uint32_t page, uint32_t k)
{
	PageInfo   *info = &view->pool->info[page];

	info->k = (uint8_t) k;
	info->used = 0;
	info->shelf = view->number;
	for (int i = 0; i < SLOTS_MAX / 64; i++)
		atomic_store_explicit(&info->taken[i], 0, memory_order_relaxed);
	view->shelf->classes[k].free += k;
	list_page(view, page);
}

static void
uncut_page(const ShelfView *view, uint32_t page)
{
	PageInfo   *info = &view->pool->info[page];

	if (info->listed)
		unlist_page(view, page);
	view->shelf->classes[info->k].free -= info->k;
	view->shelf->given++;
	shelf_page_give(view->pool, page);
}

static uint32_t
first_free_slot(const PageInfo *info)
{
	uint32_t	slot = 0;

	while (slot < info->k && slot_is_taken(info, slot))
		slot++;
	return slot;
}

/* A slot of that page, which has a free one: the number. */
static uint32_t
take_slot(const ShelfView *view, uint32_t page)
{
	PageInfo   *info = &view->pool->info[page];
	uint32_t	slot = first_free_slot(info);

	atomic_fetch_or_explicit(&info->taken[slot / 64], (uint64_t) 1 << (slot % 64), memory_order_relaxed);
	info->used++;
	view->shelf->classes[info->k].free--;
	if (info->used == info->k)
		unlist_page(view, page);
	return page << SLOT_BITS | slot;
}

static void
give_slot(const ShelfView *view, uint32_t number)
{
	uint32_t	page = number >> SLOT_BITS;
	uint32_t	slot = number & (SLOTS_MAX - 1);
	PageInfo   *info = &view->pool->info[page];

	atomic_fetch_and_explicit(&info->taken[slot / 64], ~((uint64_t) 1 << (slot % 64)), memory_order_relaxed);
	info->used--;
	view->shelf->classes[info->k].free++;
	if (!info->listed)
		list_page(view, page);
	if (info->used == 0)
		uncut_page(view, page);
}

/* The most slots a page can be cut in, each of at least so many bytes. */
static uint32_t
class_for(uint32_t bytes)
{
	uint32_t	k = SHELF_PAGE / ((bytes + 3) & ~(uint32_t) 3);

	return k > SLOTS_MAX ? SLOTS_MAX : k;
}

/* ---- index ---- */

static uint32_t *
bucket_of(const ShelfView *view, uint32_t hash)
{
	return &view->shelf->first[hash % view->shelf->buckets];
}

/* The place that names this entry: its bucket's first, or the chain of the one before. */
static uint32_t *
place_of(const ShelfView *view, uint32_t hash, uint32_t number)
{
	uint32_t   *place = bucket_of(view, hash);

	while (*place && *place != number)
		place = &entry_at(view->pool, *place)->chain;
	return place;
}

Bytes
shelf_key(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);

	if (in_pages_of(entry) > 0)
		return bytes_of(shelf_page_data(view->pool, long_of(entry)->first), key_len_of(entry));
	return bytes_of(rest_of(entry), key_len_of(entry));
}

uint32_t
shelf_find(const ShelfView *view, uint32_t hash, Bytes key)
{
	uint32_t	number = *bucket_of(view, hash);

	while (number)
	{
		Entry	   *entry = entry_at(view->pool, number);

		if (entry->hash == hash && bytes_equal(shelf_key(view, number), key))
			return number;
		number = entry->chain;
	}
	return 0;
}

uint32_t
shelf_buckets(const ShelfView *view)
{
	return view->shelf->buckets;
}

uint32_t
shelf_walk(const ShelfView *view, uint32_t bucket, uint32_t number)
{
	if (bucket >= view->shelf->buckets)
		return 0;
	return number ? entry_at(view->pool, number)->chain : view->shelf->first[bucket];
}

/* ---- the policy's view of entries ---- */

static EvictionNode *
policy_node(void *arg, uint32_t number)
{
	return &entry_at(((const ShelfView *) arg)->pool, number)->node;
}

static uint32_t
policy_size(void *arg, uint32_t number)
{
	return shelf_occupied(arg, number);
}

static uint32_t
policy_hash(void *arg, uint32_t number)
{
	return entry_at(((const ShelfView *) arg)->pool, number)->hash;
}

static EvictionNodes
policy_nodes(const ShelfView *view)
{
	EvictionNodes nodes = {policy_node, policy_size, policy_hash, (void *) view};

	return nodes;
}

static Eviction *
policy_of(const ShelfView *view)
{
	return (Eviction *) ((uint8_t *) view->shelf + view->shelf->policy_at);
}

/* ---- a shelf ---- */

static size_t
policy_place(uint32_t buckets)
{
	return (sizeof(Shelf) + (size_t) buckets * sizeof(uint32_t) + 63) & ~(size_t) 63;
}

size_t
shelf_size(uint32_t buckets, uint32_t ghosts)
{
	return policy_place(buckets) + eviction_size(ghosts);
}

Shelf *
shelf_init(void *block, uint32_t buckets, uint32_t ghosts)
{
	Shelf	   *shelf = block;

	memset(shelf, 0, policy_place(buckets));
	shelf->buckets = buckets;
	shelf->policy_at = (uint32_t) policy_place(buckets);
	eviction_init((uint8_t *) block + shelf->policy_at, ghosts);
	return shelf;
}

ShelfTotals
shelf_totals(const ShelfView *view)
{
	return view->shelf->totals;
}

/* ---- what an entry says ---- */

static uint16_t
pack_cost(uint32_t cost)
{
	uint32_t	power = 0;

	while (cost >= 1 << 11)
	{
		cost >>= 1;
		power++;
	}
	return (uint16_t) (power << 11 | cost);
}

static uint32_t
unpack_cost(uint16_t packed)
{
	return (uint32_t) (packed & ((1 << 11) - 1)) << (packed >> 11);
}

static void
write_header(Entry *entry, const ShelfItem *item, bool is_long)
{
	uint64_t	born = (uint64_t) (item->born < 0 ? 0 : item->born) >> 10;

	memset(entry, 0, offsetof(Entry, ties));
	entry->node.mark = item->origin;
	entry->hash = item->hash;
	entry->sum_low = (uint32_t) item->sum;
	entry->sum_high = (uint16_t) (item->sum >> 32);
	entry->born_low = (uint32_t) born;
	entry->born_high = (uint8_t) (born >> 32);
	entry->shape[0] = (uint32_t) item->shape;
	entry->shape[1] = (uint32_t) (item->shape >> 32);
	entry->cost = pack_cost(item->cost);
	entry->nties = item->nties | (is_long ? LONG_ENTRY : 0);
	memcpy(entry->ties, item->ties, item->nties * sizeof(uint16_t));
	if (!is_long)
	{
		entry->key_len = (uint16_t) item->key_len;
		entry->head_len = (uint16_t) item->head_len;
		entry->len = (uint16_t) item->len;
	}
}

void
shelf_tell(const ShelfView *view, uint32_t number, ShelfItem *item)
{
	Entry	   *entry = entry_at(view->pool, number);

	item->hash = entry->hash;
	item->origin = entry->node.mark;
	item->sum = (uint64_t) entry->sum_high << 32 | entry->sum_low;
	item->shape = (uint64_t) entry->shape[1] << 32 | entry->shape[0];
	item->born = (int64_t) (((uint64_t) entry->born_high << 32 | entry->born_low) << 10);
	item->cost = unpack_cost(entry->cost);
	item->hits = atomic_load_explicit(&entry->hits, memory_order_relaxed);
	item->key_len = key_len_of(entry);
	item->len = value_len_of(entry);
	item->head_len = entry->nties & LONG_ENTRY ? long_of(entry)->head_len : entry->head_len;
	item->nties = entry->nties & ~LONG_ENTRY;
	memcpy(item->ties, entry->ties, item->nties * sizeof(uint16_t));
}

/* ---- put ---- */

/* How key and value are laid out: so many bytes stay in whole pages, the rest goes into a slot behind the header. */
typedef struct Layout
{
	bool		is_long;
	uint32_t	in_pages;
	uint32_t	rest;
	uint32_t	k;
} Layout;

static Layout
layout_of(const ShelfItem *item)
{
	Layout		l = {false, 0, item->key_len + item->len, 0};

	if (header_size(item->nties, false) + l.rest > SHELF_PAGE)
	{
		l.is_long = true;
		l.in_pages = l.rest - l.rest % SHELF_PAGE;
		l.rest %= SHELF_PAGE;
		if (header_size(item->nties, true) + l.rest > SHELF_PAGE)
		{
			l.in_pages += l.rest;	/* the last page stays a page of the chain though it is not full */
			l.rest = 0;
		}
	}
	l.k = class_for(header_size(item->nties, l.is_long) + l.rest);
	return l;
}

bool
shelf_put_may_need_spare(const ShelfItem *item)
{
	return layout_of(item).rest == 0;
}

/* The last page of a chain is cut off it. */
static uint32_t
cut_last(ShelfPool *pool, uint32_t *chain, uint32_t pages)
{
	uint32_t	before = *chain;
	uint32_t	last;

	if (pages <= 1)
	{
		last = *chain;
		*chain = 0;
		return last;
	}
	for (uint32_t i = 2; i < pages; i++)
		before = shelf_page_next(pool, before);
	last = shelf_page_next(pool, before);
	shelf_page_tie(pool, before, 0);
	return last;
}

/* A slot of the class; when pages have become rare, also of one a little larger. 0: none is free. */
static uint32_t
free_slot(const ShelfView *view, uint32_t k)
{
	uint32_t	last = shelf_pool_free(view->pool) > 0 ? k : k - k / 16;

	for (uint32_t larger = k; larger >= last; larger--)
	{
		if (view->shelf->classes[larger].first)
			return take_slot(view, view->shelf->classes[larger].first);
	}
	return 0;
}

/*
 * The slot for a rest that stands at the start of `page`, with the rest moved into it. The page is either given back or cut itself:
 * so a put always has room.
 */
static uint32_t
settle_rest(const ShelfView *view, const Layout *l, uint32_t header, uint32_t page)
{
	uint32_t	number = free_slot(view, l->k);

	if (number == 0)
	{
		memmove(shelf_page_data(view->pool, page) + header, shelf_page_data(view->pool, page), l->rest);
		cut_page(view, page, l->k);
		return take_slot(view, page);
	}
	memcpy((uint8_t *) entry_at(view->pool, number) + header, shelf_page_data(view->pool, page), l->rest);
	shelf_page_give(view->pool, page);
	return number;
}

/* The slot of a header without a rest, from the spare page if need be. */
static uint32_t
settle_header(const ShelfView *view, const Layout *l, uint32_t *spare)
{
	uint32_t	number = free_slot(view, l->k);
	uint32_t	page = *spare;

	if (number || page == 0)
		return number;
	*spare = 0;
	cut_page(view, page, l->k);
	return take_slot(view, page);
}

static void
enter(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint32_t   *bucket = bucket_of(view, entry->hash);
	EvictionNodes nodes = policy_nodes(view);
	ShelfTotals *totals = &view->shelf->totals;

	entry->chain = *bucket;
	*bucket = number;
	eviction_insert(policy_of(view), &nodes, number);
	totals->entries++;
	totals->bytes += (uint64_t) key_len_of(entry) + value_len_of(entry);
	totals->occupied += shelf_occupied(view, number);
}

bool
shelf_put(const ShelfView *view, const ShelfItem *item, uint32_t chain, uint32_t *spare)
{
	Layout		l = layout_of(item);
	uint32_t	header = header_size(item->nties, l.is_long);
	uint32_t	number;
	Entry	   *entry;

	if (l.rest > 0)
	{
		uint32_t	last = cut_last(view->pool, &chain, pages_of(l.in_pages) + 1);

		number = settle_rest(view, &l, header, last);
	}
	else
		number = settle_header(view, &l, spare);
	if (number == 0)
		return false;
	entry = entry_at(view->pool, number);
	write_header(entry, item, l.is_long);
	if (l.is_long)
		*long_of(entry) = (LongEntry)
	{
		item->key_len, item->head_len, item->len, chain, l.in_pages
	};
	enter(view, number);
	return true;
}

/* ---- pins ---- */

bool
shelf_is_long(const ShelfView *view, uint32_t number)
{
	return in_pages_of(entry_at(view->pool, number)) > 0;
}

/* A few that do not let go must not have it all: see shelf_pin. The largest entry may be pinned. */
static bool
pay_for_pages(ShelfPool *pool, uint32_t pages)
{
	if (pages == 0 || atomic_fetch_add(&pool->pinned, pages) + pages <= pool->pages / 2 + 1)
		return true;
	atomic_fetch_sub(&pool->pinned, pages);
	return false;
}

/* Who finds no pins pays for the pages, who leaves none gives that back: of those who try at once, only who has set the first has paid. */
bool
shelf_pin(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint32_t	pages = pages_of(in_pages_of(entry));
	uint16_t	pins = atomic_load(&entry->pins);

	while (pins < PINS_MAX)
	{
		uint32_t	due = pins == 0 ? pages : 0;

		if (!pay_for_pages(view->pool, due))
			return false;
		if (atomic_compare_exchange_strong(&entry->pins, &pins, (uint16_t) (pins + 1)))
			return true;
		atomic_fetch_sub(&view->pool->pinned, due);
	}
	return false;
}

/*
 * The bit DROPPED and the count are one word: either the dropper sees no pins and frees, or the last to unpin sees the bit and does.
 * Never both, never none. Once the count is down the entry may be gone.
 */
bool
shelf_unpin(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint32_t	pages = pages_of(in_pages_of(entry));
	uint16_t	pins = atomic_fetch_sub(&entry->pins, 1);

	if ((pins & ~DROPPED) == 1)
		atomic_fetch_sub(&view->pool->pinned, pages);
	return pins == (DROPPED | 1);
}

void
shelf_hit(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);

	atomic_fetch_add_explicit(&entry->hits, 1, memory_order_relaxed);
	eviction_used(&entry->node);
}

/* ---- drop ---- */

void
shelf_free(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);

	view->shelf->totals.occupied -= shelf_occupied(view, number);
	if (in_pages_of(entry) > 0)
	{
		shelf_chain_give(view->pool, long_of(entry)->first);
		view->shelf->given += pages_of(in_pages_of(entry));
	}
	give_slot(view, number);
}

void
shelf_drop(const ShelfView *view, uint32_t number)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint32_t   *place = place_of(view, entry->hash, number);
	EvictionNodes nodes = policy_nodes(view);
	ShelfTotals *totals = &view->shelf->totals;

	if (*place == number)
		*place = entry->chain;
	eviction_remove(policy_of(view), &nodes, number);
	totals->entries--;
	totals->bytes -= (uint64_t) key_len_of(entry) + value_len_of(entry);
	if (atomic_fetch_or(&entry->pins, DROPPED) == 0)
		shelf_free(view, number);
}

/* ---- room ---- */

static bool
page_is_pinned(const ShelfView *view, uint32_t page)
{
	PageInfo   *info = &view->pool->info[page];

	for (uint32_t slot = 0; slot < info->k; slot++)
	{
		if (slot_is_taken(info, slot) &&
			atomic_load(&entry_at(view->pool, page << SLOT_BITS | slot)->pins) != 0)
			return true;
	}
	return false;
}

/* The emptiest of the first few pages of a class whose entries can all be moved; 0 = none. */
static uint32_t
page_to_empty(const ShelfView *view, uint32_t k)
{
	uint32_t	best = 0;
	uint32_t	page = view->shelf->classes[k].first;

	for (int i = 0; page && i < LOOK_AT_PAGES; i++, page = shelf_page_next(view->pool, page))
	{
		if ((best == 0 || view->pool->info[page].used < view->pool->info[best].used) && !page_is_pinned(view, page))
			best = page;
	}
	return best;
}

static void
move_entry(const ShelfView *view, uint32_t from, uint32_t to)
{
	Entry	   *entry = entry_at(view->pool, from);
	EvictionNodes nodes = policy_nodes(view);

	*place_of(view, entry->hash, from) = to;
	memcpy(entry_at(view->pool, to), entry, slot_size(view->pool->info[from >> SLOT_BITS].k));
	eviction_moved(policy_of(view), &nodes, from, to);
}

/* Moves what lies on one page of the class to its others, if they have that many free slots. */
static bool
empty_a_page(const ShelfView *view, uint32_t k)
{
	SlotClass  *class = &view->shelf->classes[k];
	uint32_t	page;
	PageInfo   *info;

	if (class->free < k || (page = page_to_empty(view, k)) == 0)
		return false;
	info = &view->pool->info[page];
	unlist_page(view, page);
	for (uint32_t slot = 0; slot < k; slot++)
	{
		if (slot_is_taken(info, slot))
			move_entry(view, page << SLOT_BITS | slot, take_slot(view, class->first));
	}
	/* its slots count as free now: those that were, and as many as were taken elsewhere */
	class->free += info->used;
	info->used = 0;
	uncut_page(view, page);
	return true;
}

/* The next victim that nobody has pinned; 0 = none, or too many are pinned. */
static uint32_t
free_victim(const ShelfView *view)
{
	EvictionNodes nodes = policy_nodes(view);

	for (int tries = 0; tries < YIELD_TRIES; tries++)
	{
		uint32_t	number = eviction_victim(policy_of(view), &nodes);

		if (number == 0 || atomic_load(&entry_at(view->pool, number)->pins) == 0)
			return number;
		eviction_used(policy_node((void *) view, number));
	}
	return 0;
}

bool
shelf_yield(const ShelfView *view, uint64_t *evicted)
{
	uint64_t	given = view->shelf->given;

	for (uint32_t k = 1; k <= SLOTS_MAX; k++)
	{
		if (empty_a_page(view, k))
			return true;
	}
	while (view->shelf->given == given)
	{
		uint32_t	number = free_victim(view);
		uint32_t	k;

		if (number == 0)
			return false;
		k = view->pool->info[number >> SLOT_BITS].k;
		shelf_drop(view, number);
		(*evicted)++;
		if (view->shelf->given == given)
			(void) empty_a_page(view, k);
	}
	return true;
}

/* ---- reading a value ---- */

/* Bytes of the chain: page number `index` of it, found from where the last piece was. */
static uint32_t
page_of_chain(const ShelfView *view, Entry *entry, uint32_t at, uint32_t *page)
{
	if (*page == 0)
	{
		*page = long_of(entry)->first;
		for (uint32_t i = at / SHELF_PAGE; i > 0; i--)
			*page = shelf_page_next(view->pool, *page);
	}
	else
		*page = shelf_page_next(view->pool, *page);
	return *page;
}

Bytes
shelf_piece(const ShelfView *view, uint32_t number, uint32_t at, uint32_t *page)
{
	Entry	   *entry = entry_at(view->pool, number);
	uint64_t	total = (uint64_t) key_len_of(entry) + value_len_of(entry);
	uint64_t	from = (uint64_t) key_len_of(entry) + at;
	uint32_t	in_pages = in_pages_of(entry);
	uint32_t	offset = (uint32_t) (from % SHELF_PAGE);
	uint64_t	end;

	if (from >= total)
		return bytes_of(NULL, 0);
	if (from >= in_pages)
		return bytes_of(rest_of(entry) + (from - in_pages), (size_t) (total - from));
	end = from - offset + SHELF_PAGE;
	if (end > in_pages)
		end = in_pages;
	return bytes_of(shelf_page_data(view->pool, page_of_chain(view, entry, (uint32_t) from, page)) + offset, (size_t) (end - from));
}
