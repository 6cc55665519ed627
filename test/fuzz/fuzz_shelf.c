/*
 * test/fuzz/fuzz_shelf.c - core/shelf and core/eviction against a plain table of what was put.
 *
 * Few pages, so that almost every put throws something out or moves it. What is found must be as it was put; what is pinned stays where it is, dropped or not;
 * what was dropped is not found; the totals are those of a walk over all buckets; in the end every page is back.
 * Input: how many pages, then operations.
 */
#include "core/shelf.h"
#include "fuzz.h"

#define IDS			48
#define PAGES_MAX	40
#define BUCKETS		16
#define GHOSTS		16

typedef struct Put
{
	bool		in;				/* put, and not dropped by us; it may have been thrown out */
	ShelfItem	item;
	uint32_t	number;			/* while pinned */
	uint32_t	pins;
} Put;

typedef struct Gone				/* dropped while pinned: its memory stays */
{
	Put			put;
	uint8_t		id;
} Gone;

static ShelfView view;
static Put	table[IDS];
static Gone gone[IDS];
static int	ngone;
static uint64_t evicted;

/* ---- keys and values ---- */

static size_t
key_of(uint8_t id, uint32_t len, uint8_t *key)
{
	memset(key, 'k', len);
	key[0] = id;
	return len;
}

/* Runs of a byte that changes every 64, so that a page in the wrong place is seen. */
static uint8_t
byte_at(uint8_t id, uint32_t at)
{
	return (uint8_t) (id * 37 + at / 64);
}

static void
write_bytes(uint8_t *to, uint8_t id, uint32_t key_len, uint32_t from, uint32_t n)
{
	static uint8_t key[SHELF_KEY_MAX];

	uint32_t	i = 0;

	key_of(id, key_len, key);
	if (from < key_len)
	{
		i = n < key_len - from ? n : key_len - from;
		memcpy(to, key + from, i);
	}
	while (i < n)
	{
		uint32_t	at = from + i - key_len;
		uint32_t	run = 64 - at % 64 < n - i ? 64 - at % 64 : n - i;

		memset(to + i, byte_at(id, at), run);
		i += run;
	}
}

static bool
value_is_whole(uint32_t number, uint8_t id, uint32_t len)
{
	uint32_t	page = 0;
	uint32_t	at = 0;
	Bytes		piece;

	while ((piece = shelf_piece(&view, number, at, &page)).len > 0)
	{
		/* every byte at the ends of a piece, some of each run between them */
		for (size_t i = 0; i < piece.len; i += i < 128 || piece.len - i <= 128 ? 1 : 16)
			if (piece.data[i] != byte_at(id, at + (uint32_t) i))
				return false;
		at += (uint32_t) piece.len;
	}
	return at == len;
}

static void
check_entry(uint32_t number, uint8_t id, const ShelfItem *want)
{
	static uint8_t key[SHELF_KEY_MAX];
	ShelfItem	got;

	shelf_tell(&view, number, &got);
	FUZZ_CHECK(got.hash == want->hash && got.origin == want->origin && got.sum == want->sum && got.shape == want->shape && got.born == want->born);
	FUZZ_CHECK(got.key_len == want->key_len && got.len == want->len && got.head_len == want->head_len && got.nties == want->nties);
	FUZZ_CHECK(memcmp(got.ties, want->ties, want->nties * sizeof(uint16_t)) == 0);
	FUZZ_CHECK(got.cost <= want->cost && want->cost - got.cost <= want->cost / 1000);
	FUZZ_CHECK(bytes_equal(shelf_key(&view, number), bytes_of(key, key_of(id, want->key_len, key))));
	FUZZ_CHECK(shelf_number_is_sound(view.pool, number) && shelf_number_of(view.pool, number) == view.number);
	FUZZ_CHECK(shelf_occupied(&view, number) >= want->key_len + want->len);
	FUZZ_CHECK(value_is_whole(number, id, want->len));
}

static uint32_t
find(uint8_t id)
{
	static uint8_t key[SHELF_KEY_MAX];
	Put		   *p = &table[id];
	uint32_t	number = shelf_find(&view, p->item.hash, bytes_of(key, key_of(id, p->item.key_len, key)));

	FUZZ_CHECK(p->in || number == 0);
	FUZZ_CHECK(p->pins == 0 || number == p->number);
	if (p->in && number == 0)
		p->in = false;			/* thrown out */
	return number;
}

/* ---- operations ---- */

static uint32_t
take_page(void)
{
	uint32_t	page = shelf_page_take(view.pool);

	while (page == 0 && shelf_yield(&view, &evicted))
		page = shelf_page_take(view.pool);
	return page;
}

static uint32_t
write_chain(uint8_t id, uint32_t key_len, uint32_t len)
{
	uint32_t	first = 0;
	uint32_t	last = 0;
	uint32_t	total = key_len + len;

	for (uint32_t at = 0; at < total; at += SHELF_PAGE)
	{
		uint32_t	page = take_page();

		if (page == 0)
		{
			shelf_chain_give(view.pool, first);
			return 0;
		}
		write_bytes(shelf_page_data(view.pool, page), id, key_len, at, total - at < SHELF_PAGE ? total - at : SHELF_PAGE);
		if (last)
			shelf_page_tie(view.pool, last, page);
		else
			first = page;
		last = page;
	}
	return first;
}

static void
read_item(FuzzInput *in, uint8_t id, ShelfItem *item)
{
	uint8_t		shape = fuzz_u8(in);
	uint32_t	size = fuzz_u16(in);

	memset(item, 0, sizeof(*item));
	item->hash = shape & 1 ? id % 4 : id * 2654435761u;
	item->origin = id;
	item->sum = (uint64_t) size << 32 | id;
	item->shape = ~(uint64_t) size;
	item->born = (int64_t) size << 20;
	item->cost = (uint32_t) size << (shape % 16);
	item->nties = shape % 33;
	for (int i = 0; i < item->nties; i++)
		item->ties[i] = (uint16_t) (size + i);
	item->key_len = 1 + (shape & 2 ? size * 7 % SHELF_KEY_MAX : size % 100);
	/* around the edges of a page, short ones, long ones */
	item->len = shape & 4 ? (uint32_t) (shape / 16 % 4 + 1) * SHELF_PAGE + size % 512 - 256 : shape & 8 ? size : size % 600;
	if ((shape & 12) == 12 && item->len > item->key_len)
		item->len -= item->key_len;
	item->head_len = item->len / 3;
}

static void
drop(uint8_t id)
{
	uint32_t	number = find(id);

	if (number == 0)
		return;
	if (table[id].pins > 0)
	{
		if (ngone == IDS)
			return;
		gone[ngone++] = (Gone) {table[id], id};
	}
	shelf_drop(&view, number);
	table[id].in = false;
	table[id].pins = 0;
	FUZZ_CHECK(find(id) == 0);
}

static void
put(FuzzInput *in, uint8_t id)
{
	ShelfItem	item;
	uint32_t	chain;
	uint32_t	spare = 0;

	drop(id);
	if (find(id) != 0)
		return;
	read_item(in, id, &item);
	chain = write_chain(id, item.key_len, item.len);
	if (chain == 0)
		return;
	if (shelf_put_may_need_spare(&item))
		spare = take_page();
	if (shelf_put(&view, &item, chain, &spare))
	{
		table[id].in = true;
		table[id].item = item;
		FUZZ_CHECK(find(id) != 0);
		check_entry(find(id), id, &item);
	}
	else
	{
		FUZZ_CHECK(shelf_put_may_need_spare(&item) && spare == 0);
		shelf_chain_give(view.pool, chain);
	}
	if (spare)
		shelf_page_give(view.pool, spare);
}

static void
pin(uint8_t id)
{
	uint32_t	number = find(id);

	if (number == 0 || !shelf_pin(&view, number))
		return;
	table[id].pins++;
	table[id].number = number;
}

static void
unpin(uint8_t id)
{
	if (table[id].pins == 0)
		return;
	FUZZ_CHECK(!shelf_unpin(&view, table[id].number));
	table[id].pins--;
}

static void
unpin_gone(int i)
{
	Gone	   *g = &gone[i];

	check_entry(g->put.number, g->id, &g->put.item);
	FUZZ_CHECK(shelf_unpin(&view, g->put.number) == (g->put.pins == 1));
	if (--g->put.pins > 0)
		return;
	shelf_free(&view, g->put.number);
	*g = gone[--ngone];
}

static void
check_all(void)
{
	ShelfTotals totals = shelf_totals(&view);
	uint64_t	entries = 0;
	uint64_t	bytes = 0;
	uint64_t	occupied = 0;

	for (uint32_t bucket = 0; bucket < shelf_buckets(&view); bucket++)
		for (uint32_t number = shelf_walk(&view, bucket, 0); number; number = shelf_walk(&view, bucket, number))
		{
			uint8_t		id = shelf_key(&view, number).data[0];

			FUZZ_CHECK(id < IDS && table[id].in && find(id) == number && ++entries <= IDS);
			check_entry(number, id, &table[id].item);
			bytes += table[id].item.key_len + table[id].item.len;
			occupied += shelf_occupied(&view, number);
		}
	for (uint8_t id = 0; id < IDS; id++)
		(void) find(id);
	for (int i = 0; i < ngone; i++)
		occupied += shelf_occupied(&view, gone[i].put.number);
	FUZZ_CHECK(totals.entries == entries && totals.bytes == bytes && totals.occupied == occupied);
	FUZZ_CHECK(occupied <= (uint64_t) SHELF_PAGE * (shelf_pool_pages(view.pool) - shelf_pool_free(view.pool)));
	FUZZ_REACHED("entries at once", entries);
	FUZZ_REACHED("entries thrown out in one input", evicted);
	FUZZ_REACHED("dropped entries that are pinned", ngone);
}

static void
operate(FuzzInput *in)
{
	uint8_t		op = fuzz_u8(in);
	uint8_t		id = fuzz_u8(in) % IDS;

	switch (op % 8)
	{
		case 0:
		case 1:
		case 2:
			put(in, id);
			break;
		case 3:
			drop(id);
			break;
		case 4:
			if (find(id) != 0)
				shelf_hit(&view, find(id));
			break;
		case 5:
			pin(id);
			break;
		case 6:
			if (op & 8 && ngone > 0)
				unpin_gone(id % ngone);
			else
				unpin(id);
			break;
		case 7:
			if (op & 8)
				check_all();
			else
				(void) shelf_yield(&view, &evicted);
			(void) shelf_number_is_sound(view.pool, fuzz_u32(in));
			break;
	}
}

static void
give_all_back(uint32_t pages)
{
	while (ngone > 0)
		unpin_gone(0);
	for (uint8_t id = 0; id < IDS; id++)
	{
		while (table[id].pins > 0)
			unpin(id);
		drop(id);
	}
	check_all();
	FUZZ_CHECK(shelf_totals(&view).entries == 0 && shelf_totals(&view).occupied == 0);
	FUZZ_CHECK(shelf_pool_free(view.pool) == pages);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void *blocks[2];
	FuzzInput	in = {data, data + size};
	uint32_t	pages = 4 + fuzz_u8(&in) % (PAGES_MAX - 3);

	if (blocks[0] == NULL)
	{
		blocks[0] = aligned_alloc(4096, (shelf_pool_size(PAGES_MAX) + 4095) & ~(size_t) 4095);
		blocks[1] = malloc(shelf_size(BUCKETS, GHOSTS));
		FUZZ_CHECK(blocks[0] && blocks[1]);
	}
	view.pool = shelf_pool_init(blocks[0], pages);
	view.shelf = shelf_init(blocks[1], BUCKETS, GHOSTS);
	view.number = (uint8_t) pages;
	memset(table, 0, sizeof(table));
	ngone = 0;
	evicted = 0;
	for (int i = 0; i < 400 && fuzz_left(&in) > 0; i++)
		operate(&in);
	check_all();
	give_all_back(pages);
	return 0;
}
