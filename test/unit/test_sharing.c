/*
 * test/unit/test_sharing.c - core/sharing: paces that settle, and who may be sent behind whom.
 */
#include "core/sharing.h"
#include "unit.h"

static Digest128
digest(uint64_t n)
{
	return (Digest128) {.lo = n, .hi = n * 31 + 7};
}

static Pace
settled(int64_t (*sample) (int i), int n)
{
	PaceTable  *table = pace_table_create(64);
	Pace		pace;

	for (int i = 0; i < n; i++)
		pace_observe(table, digest(1), sample(i), 100);
	pace = pace_of(table, digest(1));
	pace_table_destroy(table);
	return pace;
}

TEST(unknown_is_zero_and_not_quick)
{
	PaceTable  *table = pace_table_create(64);
	Pace		pace = pace_of(table, digest(5));

	CHECK_EQ_INT(pace.seen, 0);
	CHECK(!sharing_is_quick(&pace, 100));
	pace_observe(table, digest(5), 30, 200);
	pace = pace_of(table, digest(5));
	CHECK_EQ_INT(pace.us, 30);
	CHECK_EQ_INT(pace.bytes, 200);
	CHECK(sharing_is_quick(&pace, 100));
	/* the same row, another statement */
	CHECK_EQ_INT(pace_of(table, digest(5 + 64)).seen, 0);
	pace_observe(table, digest(5 + 64), 1000000, 1);
	CHECK_EQ_INT(pace_of(table, digest(5)).seen, 0);
	CHECK_EQ_INT(pace_of(table, digest(5 + 64)).us, 1000000);
	pace_table_destroy(table);
}

/* One in three answers is late by a time slice. */
static int64_t
late_at_times(int i)
{
	return i % 3 == 1 ? 5000 : 40;
}

static int64_t
always_slow(int i)
{
	return 4000 + i % 7;
}

/* The first one found its table cold. */
static int64_t
cold_first(int i)
{
	return i == 0 ? 80000 : 60;
}

/* Answers that come together: the first has the whole gap. */
static int64_t
in_batches(int i)
{
	return i % 4 == 0 ? 4000 : 0;
}

TEST(late_answers_do_not_make_a_statement_slow)
{
	Pace		pace = settled(late_at_times, 1000);

	CHECK(pace.us < 100);
	CHECK(sharing_is_quick(&pace, 100));
}

TEST(a_slow_statement_is_slow)
{
	Pace		pace = settled(always_slow, 100);

	CHECK(pace.us >= 4000 && pace.us <= 4007);
	CHECK(!sharing_is_quick(&pace, 100));
	/* over a long way it is not */
	CHECK(sharing_is_quick(&pace, 300000));
}

TEST(a_cold_start_is_forgotten)
{
	Pace		pace = settled(cold_first, 80);

	CHECK(sharing_is_quick(&pace, 100));
}

TEST(batches_settle_low)
{
	Pace		pace = settled(in_batches, 200);

	CHECK(pace.us < 100);
}

TEST(values_out_of_range)
{
	PaceTable  *table = pace_table_create(8);

	pace_observe(table, digest(1), -5, UINT64_MAX);
	CHECK_EQ_INT(pace_of(table, digest(1)).us, 0);
	pace_observe(table, digest(1), INT64_MAX, UINT64_MAX);
	pace_observe(table, digest(1), 0, 0);
	CHECK(pace_of(table, digest(1)).bytes > 32768);
	pace_table_destroy(table);
}

TEST(a_way_may_become_longer)
{
	Way			way = {0};
	int64_t		now = 1000000000;

	CHECK(!way_is_fresh(&way, now));
	/* a slow statement comes first: it shows no more than that the way is not longer */
	way_shorten(&way, 5000, now);
	CHECK_EQ_INT(way.rtt, 5000);
	way_shorten(&way, 300, now);
	way_shorten(&way, 9000, now);
	CHECK_EQ_INT(way.rtt, 300);
	CHECK(way_is_fresh(&way, now + 1000000));
	CHECK(!way_is_fresh(&way, now + 60000000));
	way_measure(&way, 125000, now + 60000000);
	CHECK_EQ_INT(way.rtt, 125000);
	CHECK(way_is_fresh(&way, now + 61000000));
	/* never taken for unknown */
	way_shorten(&way, 0, now);
	CHECK_EQ_INT(way.rtt, 1);
}

TEST(large_answers_go_alone)
{
	Pace		pace = {.us = 10, .bytes = 100000, .seen = 5};

	CHECK(!sharing_is_quick(&pace, 100));
	CHECK(!sharing_is_quick(&pace, 125000));
}

static uint32_t
room(ShareHow how, int64_t rtt, uint32_t us, uint32_t max_depth)
{
	Pace		pace = {.us = us, .bytes = 100, .seen = 5};
	ShareLoad	load = {.rtt = rtt};

	while (load.depth < 100000 && sharing_has_room(&load, &pace, how, max_depth))
	{
		load.depth++;
		load.work += us;
	}
	return load.depth;
}

TEST(depth_grows_with_the_way)
{
	CHECK_EQ_INT(room(SHARE_PACKED, 60, 20, 1024), 8);
	CHECK_EQ_INT(room(SHARE_CROWDED, 60, 20, 1024), 16);
	CHECK_EQ_INT(room(SHARE_PACKED, 125000, 20, 1024), 16);
	CHECK(room(SHARE_CROWDED, 30000, 20, 1024) >= 250);
	CHECK(room(SHARE_CROWDED, 125000, 20, 1024) >= 1000);
	/* 20 links over 125 ms carry 1,000 clients */
	CHECK(room(SHARE_CROWDED, 125000, 20, 1024) * 20 >= 1000);
}

TEST(share_depth_bounds)
{
	CHECK_EQ_INT(room(SHARE_PACKED, 60, 20, 3), 3);
	CHECK_EQ_INT(room(SHARE_CROWDED, 125000, 20, 50), 50);
	CHECK_EQ_INT(room(SHARE_CROWDED, 125000, 20, 1), 1);
}

TEST(work_before_one_is_bounded)
{
	CHECK_EQ_INT(room(SHARE_PACKED, 60, 250, 1024), 4);
	CHECK_EQ_INT(room(SHARE_PACKED, 60, 500, 1024), 2);
	/* an empty link takes anything */
	CHECK_EQ_INT(room(SHARE_PACKED, 60, 5000, 1024), 1);
	CHECK_EQ_INT(room(SHARE_CROWDED, 60, 500, 1024), 10);
}

TEST(nothing_behind_one_that_stands_still)
{
	Pace		pace = {.us = 20, .bytes = 100, .seen = 5};
	ShareLoad	load = {.depth = 1, .work = 20, .rtt = 100, .head_for = 1300};

	CHECK(!sharing_has_room(&load, &pace, SHARE_PACKED, 1024));
	CHECK(sharing_has_room(&load, &pace, SHARE_CROWDED, 1024));
	load.head_for = sharing_patience(load.rtt) + 1;
	CHECK(!sharing_has_room(&load, &pace, SHARE_CROWDED, 1024));
	/* far away an answer that has been due for a round trip is not late */
	load.rtt = 125000;
	load.head_for = 200000;
	CHECK(sharing_has_room(&load, &pace, SHARE_PACKED, 1024));
}
