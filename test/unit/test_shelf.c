/*
 * test/unit/test_shelf.c - core/shelf: what is put is found as it was, whatever its size; no mix of sizes wears the pages out; what is
 * pinned stays; all pages come back.
 */
#include "core/shelf.h"
#include "unit.h"

#include <stdlib.h>

#define PAGES	512				/* 8 MB */

static ShelfView view;
static void *blocks[2];
static uint64_t evicted;

static void
fresh(uint32_t pages)
{
	blocks[0] = aligned_alloc(4096, (shelf_pool_size(pages) + 4095) & ~(size_t) 4095);
	blocks[1] = malloc(shelf_size(8192, 4096));
	view.pool = shelf_pool_init(blocks[0], pages);
	view.shelf = shelf_init(blocks[1], 8192, 4096);
	view.number = 3;
	evicted = 0;
}

static void
done(void)
{
	free(blocks[0]);
	free(blocks[1]);
}

static uint8_t
byte_at(uint32_t id, uint32_t at)
{
	return (uint8_t) (id * 31 + at + (at >> 8) * 7 + (at >> 16) * 3);
}

static uint32_t
hash_of_id(uint32_t id)
{
	return id * 2654435761u;
}

/* Page by page, as a fill does. */
static uint32_t
take_page(void)
{
	uint32_t	page = shelf_page_take(view.pool);

	while (page == 0 && shelf_yield(&view, &evicted))
		page = shelf_page_take(view.pool);
	return page;
}

static size_t
key_of_id(uint32_t id, uint32_t len, uint8_t *key)
{
	memset(key, 'k', len);
	memcpy(key, &id, sizeof(id));
	return len;
}

static void
item_of(uint32_t id, uint32_t key_len, uint32_t len, ShelfItem *item)
{
	memset(item, 0, sizeof(*item));
	item->hash = hash_of_id(id);
	item->origin = (uint16_t) id;
	item->sum = ((uint64_t) id << 20) & (((uint64_t) 1 << 48) - 1);
	item->shape = (uint64_t) id * 0x9e3779b97f4a7c15u;
	item->born = (int64_t) id * 1024 * 1000;
	item->cost = id;
	item->key_len = key_len;
	item->head_len = len / 3;
	item->len = len;
	item->nties = 1 + id % 20;
	for (uint32_t i = 0; i < item->nties; i++)
		item->ties[i] = (uint16_t) (id + i);
}

static uint32_t
write_chain(uint32_t id, uint32_t key_len, uint32_t len)
{
	static uint8_t key[SHELF_PAGE];
	uint32_t	first = take_page();
	uint32_t	last = first;

	key_of_id(id, key_len, key);
	for (uint32_t at = 0; first && at < key_len + len; at++)
	{
		if (at > 0 && at % SHELF_PAGE == 0)
		{
			uint32_t	page = take_page();

			if (page == 0)
			{
				shelf_chain_give(view.pool, first);
				return 0;
			}
			shelf_page_tie(view.pool, last, page);
			last = page;
		}
		shelf_page_data(view.pool, last)[at % SHELF_PAGE] = at < key_len ? key[at] : byte_at(id, at - key_len);
	}
	return first;
}

static bool
put(uint32_t id, uint32_t key_len, uint32_t len)
{
	ShelfItem	item;
	uint32_t	chain = write_chain(id, key_len, len);
	uint32_t	spare = 0;
	bool		ok;

	if (chain == 0)
		return false;
	item_of(id, key_len, len, &item);
	if (shelf_put_may_need_spare(&item))
		spare = take_page();
	ok = shelf_put(&view, &item, chain, &spare);
	if (!ok)
		shelf_chain_give(view.pool, chain);
	if (spare)
		shelf_page_give(view.pool, spare);
	return ok;
}

static uint32_t
find(uint32_t id, uint32_t key_len)
{
	static uint8_t key[SHELF_PAGE];

	return shelf_find(&view, hash_of_id(id), bytes_of(key, key_of_id(id, key_len, key)));
}

static bool
value_is_whole(uint32_t number, uint32_t id, uint32_t len)
{
	uint32_t	page = 0;
	uint32_t	at = 0;
	Bytes		piece;

	while ((piece = shelf_piece(&view, number, at, &page)).len > 0)
	{
		for (size_t i = 0; i < piece.len; i++)
		{
			if (piece.data[i] != byte_at(id, at + (uint32_t) i))
				return false;
		}
		at += (uint32_t) piece.len;
	}
	return at == len;
}

static bool
entry_is_whole(uint32_t id, uint32_t key_len, uint32_t len)
{
	uint32_t	number = find(id, key_len);
	ShelfItem	want;
	ShelfItem	got;

	if (number == 0 || !shelf_number_is_sound(view.pool, number) || shelf_number_of(view.pool, number) != 3)
		return false;
	item_of(id, key_len, len, &want);
	memset(&got, 0, sizeof(got));
	shelf_tell(&view, number, &got);
	return got.hash == want.hash && got.origin == want.origin && got.sum == want.sum && got.shape == want.shape &&
		got.born == want.born && got.key_len == key_len && got.len == len && got.head_len == want.head_len &&
		got.cost <= want.cost && want.cost - got.cost <= want.cost / 1000 &&
		got.nties == want.nties && memcmp(got.ties, want.ties, want.nties * 2) == 0 && value_is_whole(number, id, len);
}

static void
drop_all(void)
{
	for (uint32_t bucket = 0; bucket < shelf_buckets(&view); bucket++)
	{
		uint32_t	number;

		while ((number = shelf_walk(&view, bucket, 0)) != 0)
			shelf_drop(&view, number);
	}
}

static void
check_all_back(uint32_t pages)
{
	ShelfTotals totals;

	drop_all();
	totals = shelf_totals(&view);
	CHECK_EQ_INT(totals.entries, 0);
	CHECK_EQ_INT(totals.bytes, 0);
	CHECK_EQ_INT(totals.occupied, 0);
	CHECK_EQ_INT(shelf_pool_free(view.pool), pages);
}

TEST(all_sizes_around_the_edges)
{
	static const uint32_t edges[] = {0, 1, 100, 1000, 8000, 16000, SHELF_PAGE, 2 * SHELF_PAGE, 3 * SHELF_PAGE, 10 * SHELF_PAGE};
	uint32_t	id = 1;
	bool		whole = true;

	fresh(PAGES);
	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
	{
		for (uint32_t key_len = 4; key_len <= SHELF_KEY_MAX; key_len += key_len < 200 ? 93 : 5393)
		{
			for (int step = -250; step <= 250; step++)
			{
				int64_t		len = (int64_t) edges[i] + step - (step % 2 ? key_len : 0);

				if (len < 0)
					continue;
				whole = whole && put(id, key_len, (uint32_t) len) && entry_is_whole(id, key_len, (uint32_t) len);
				id++;
			}
		}
	}
	whole = whole && put(id, SHELF_KEY_MAX, 5) && entry_is_whole(id, SHELF_KEY_MAX, 5);
	CHECK(whole);
	check_all_back(PAGES);
	done();
}

TEST(keys_are_compared_in_full)
{
	uint8_t		other[110];

	fresh(64);
	CHECK(put(7, 110, 200));
	key_of_id(7, sizeof(other), other);
	CHECK(find(7, 110) != 0);
	other[109] = 'x';
	CHECK_EQ_INT(shelf_find(&view, hash_of_id(7), bytes_of(other, sizeof(other))), 0);
	CHECK_EQ_INT(find(7, 109), 0);
	CHECK_EQ_INT(shelf_find(&view, 8, bytes_of(other, sizeof(other))), 0);
	check_all_back(64);
	done();
}

/* 200 bytes under a key of 110: at most a quarter more, everything counted. */
TEST(overhead_of_short_entries)
{
	ShelfTotals totals;
	ShelfItem	item;
	uint32_t	worst = 0;
	uint32_t	id = 1;
	uint64_t	given;

	fresh(PAGES);
	while (evicted == 0)
	{
		uint32_t	spare = 0;
		uint32_t	chain = write_chain(id, 110, 200);

		item_of(id, 110, 200, &item);
		item.nties = 4;
		CHECK(shelf_put(&view, &item, chain, &spare));
		id++;
	}
	totals = shelf_totals(&view);
	CHECK(totals.occupied * 4 <= totals.bytes * 5);
	/* what the pool gave for them, too, and 4 bytes of index for every 768 of cache, 8 of policy for every 512 */
	given = (uint64_t) PAGES * (SHELF_PAGE + 64 + SHELF_PAGE / 768 * 4 + SHELF_PAGE / 512 * 8);
	CHECK(given * 4 <= totals.bytes * 5);
	printf("# 110 + 200 bytes: occupied %.3f, all of the memory %.3f times the bytes\n", (double) totals.occupied / totals.bytes,
		   (double) given / totals.bytes);
	for (uint32_t len = 150; len < 400; len++)
	{
		uint32_t	over;

		CHECK(put(id, 110, len));
		over = shelf_occupied(&view, find(id, 110)) - (110 + len);
		worst = over > worst ? over : worst;
		id++;
	}
	CHECK(worst <= 130);		/* with up to 20 ties */
	done();
}

static uint64_t
bytes_after_filling(uint32_t *id, uint32_t len, uint32_t times)
{
	for (uint32_t i = 0; i < times; i++)
	{
		CHECK(put(*id, 110, len));
		(*id)++;
	}
	return shelf_totals(&view).bytes;
}

TEST(no_mix_of_sizes_wears_it_out)
{
	uint32_t	id = 1;
	uint64_t	short_ones;
	uint64_t	long_ones;
	uint64_t	all = (uint64_t) PAGES * SHELF_PAGE;

	fresh(PAGES);
	short_ones = bytes_after_filling(&id, 200, 40000);
	CHECK(short_ones * 100 > all * 78);
	long_ones = bytes_after_filling(&id, 1000000, 60);
	CHECK(long_ones * 100 > all * 80);
	CHECK(bytes_after_filling(&id, 200, 60000) * 100 >= short_ones * 97);
	CHECK(bytes_after_filling(&id, 5000, 5000) * 100 > all * 80);
	CHECK(bytes_after_filling(&id, 300, 60000) * 100 > all * 78);
	CHECK(bytes_after_filling(&id, 1000000, 60) * 100 >= long_ones * 97);
	CHECK(bytes_after_filling(&id, 200, 60000) * 100 >= short_ones * 97);
	check_all_back(PAGES);
	done();
}

TEST(half_emptied_pages_are_moved_together)
{
	uint32_t	id;
	uint32_t	free_before;
	bool		whole = true;

	fresh(PAGES);
	for (id = 1; shelf_pool_free(view.pool) > 10; id++)
		CHECK(put(id, 50, 200 + id % 300));
	for (uint32_t i = 1; i < id; i++)
	{
		if (i % 3 != 0)
			shelf_drop(&view, find(i, 50));
	}
	free_before = shelf_pool_free(view.pool);
	/* two thirds of the entries are gone, spread evenly: about that much can be had without throwing out any */
	while (shelf_pool_free(view.pool) < free_before + 250)
		CHECK(shelf_yield(&view, &evicted));
	CHECK_EQ_INT(evicted, 0);
	for (uint32_t i = 3; i < id; i += 3)
		whole = whole && entry_is_whole(i, 50, 200 + i % 300);
	CHECK(whole);
	check_all_back(PAGES);
	done();
}

TEST(pinned_entries_stay)
{
	uint32_t	kept[2];

	fresh(64);
	CHECK(put(1, 110, 200) && put(2, 110, 100000));
	kept[0] = find(1, 110);
	kept[1] = find(2, 110);
	CHECK(shelf_pin(&view, kept[0]) && shelf_pin(&view, kept[1]) && shelf_pin(&view, kept[1]));
	shelf_drop(&view, kept[1]);
	CHECK_EQ_INT(find(2, 110), 0);
	for (uint32_t i = 10; i < 20000; i++)
		CHECK(put(i, 110, i % 50 ? 200 : 30000));
	CHECK_EQ_INT(find(1, 110), kept[0]);
	CHECK(value_is_whole(kept[0], 1, 200));
	CHECK(value_is_whole(kept[1], 2, 100000));
	CHECK(!shelf_unpin(&view, kept[0]));
	CHECK(!shelf_unpin(&view, kept[1]));
	CHECK(shelf_unpin(&view, kept[1]));
	shelf_free(&view, kept[1]);
	check_all_back(64);
	done();
}

TEST(everything_pinned_gives_no_room)
{
	uint32_t	id;

	fresh(16);
	for (id = 1; shelf_pool_free(view.pool) > 1; id++)
	{
		CHECK(put(id, 110, 12000));
		CHECK(shelf_pin(&view, find(id, 110)));
	}
	CHECK(shelf_page_take(view.pool) != 0);
	CHECK(!shelf_yield(&view, &evicted));
	CHECK_EQ_INT(evicted, 0);
	CHECK(!shelf_unpin(&view, find(1, 110)));
	CHECK(shelf_yield(&view, &evicted));
	CHECK_EQ_INT(evicted, 1);
	done();
}

/* Clients that do not read hold long entries pinned: no more than half of the pages, however many they are. */
TEST(pinned_pages_are_bounded)
{
	uint32_t	numbers[4];

	fresh(64);
	for (uint32_t id = 1; id <= 4; id++)
	{
		CHECK(put(id, 110, 12 * SHELF_PAGE));
		numbers[id - 1] = find(id, 110);
	}
	CHECK(shelf_is_long(&view, numbers[0]));
	CHECK(shelf_pin(&view, numbers[0]) && shelf_pin(&view, numbers[1]));
	CHECK_EQ_INT(shelf_pool_pinned(view.pool), 24);
	CHECK(!shelf_pin(&view, numbers[2]));
	CHECK_EQ_INT(shelf_pool_pinned(view.pool), 24);
	CHECK(shelf_pin(&view, numbers[0]));
	CHECK(put(10, 110, 200) && shelf_pin(&view, find(10, 110)));
	shelf_drop(&view, numbers[0]);
	CHECK(!shelf_unpin(&view, numbers[0]));
	CHECK(!shelf_pin(&view, numbers[2]));
	CHECK(shelf_unpin(&view, numbers[0]));
	shelf_free(&view, numbers[0]);
	CHECK(shelf_pin(&view, numbers[2]));
	CHECK(!shelf_unpin(&view, numbers[1]) && !shelf_unpin(&view, numbers[2]) && !shelf_unpin(&view, find(10, 110)));
	CHECK_EQ_INT(shelf_pool_pinned(view.pool), 0);
	check_all_back(64);
	done();
}

/* Random work against a model: what is found is whole, and nothing that was dropped is found. */
TEST(churn)
{
	static uint8_t state[3000];	/* 1 = put and not dropped by us */
	static uint32_t lens[3000];
	uint32_t	random = 99;
	bool		right = true;
	uint32_t	found = 0;

	fresh(128);
	memset(state, 0, sizeof(state));
	for (int step = 0; step < 60000 && right; step++)
	{
		uint32_t	id;
		uint32_t	number;

		random = random * 1664525 + 1013904223;
		id = 1 + (random >> 8) % 2999;
		number = find(id, 60);
		right = number == 0 || (state[id] && entry_is_whole(id, 60, lens[id]));
		found += number != 0;
		if (number && random >> 30 == 0)
		{
			shelf_drop(&view, number);
			state[id] = 0;
		}
		else if (number)
			shelf_hit(&view, number);
		else
		{
			lens[id] = (random >> 4) % 100 == 0 ? (random >> 3) % 200000 : (random >> 3) % 1500;
			right = right && put(id, 60, lens[id]);
			state[id] = 1;
		}
	}
	CHECK(right);
	CHECK(found > 10000);
	check_all_back(128);
	done();
}

TEST(numbers_that_are_none)
{
	fresh(4);
	CHECK(put(1, 10, 10));
	CHECK(!shelf_number_is_sound(view.pool, 0));
	CHECK(!shelf_number_is_sound(view.pool, UINT32_MAX));
	CHECK(!shelf_number_is_sound(view.pool, find(1, 10) + 1));
	CHECK(shelf_number_is_sound(view.pool, find(1, 10)));
	done();
}
