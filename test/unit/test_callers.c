/* core/callers: how many of one address, who counts as one, how long failures are held back and remembered. */
#include "core/callers.h"
#include "unit.h"

#define SECOND INT64_C(1000000)

static const uint8_t one[16] = {192, 0, 2, 1};
static const uint8_t two[16] = {192, 0, 2, 2};
static const uint8_t six[16] = {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t same_net[16] = {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9};
static const uint8_t next_net[16] = {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1};

TEST(a_limit_holds_for_each_address)
{
	CallerTable *table = callers_create(10);
	Caller	   *first = callers_enter(table, 4, one, 2, 0);
	Caller	   *second = callers_enter(table, 4, one, 2, 0);
	Caller	   *other;

	CHECK(first != NULL && second == first);
	CHECK(callers_enter(table, 4, one, 2, 0) == NULL);
	other = callers_enter(table, 4, two, 2, 0);
	CHECK(other != NULL && other != first);
	CHECK_EQ_INT(callers_count(table), 2);
	callers_leave(table, first, 0);
	CHECK(callers_enter(table, 4, one, 2, 0) == first);
	CHECK(callers_enter(table, 4, one, 0, 0) == first);
	callers_destroy(table);
	CHECK_EQ_INT(mem_used(), 0);
}

TEST(of_ipv6_the_first_64_bits_count)
{
	CallerTable *table = callers_create(10);
	Caller	   *caller = callers_enter(table, 6, six, 1, 0);

	CHECK(caller != NULL);
	CHECK(callers_enter(table, 6, same_net, 1, 0) == NULL);
	CHECK(callers_enter(table, 6, next_net, 1, 0) != NULL);
	/* the same bytes in another family are another address */
	CHECK(callers_enter(table, 4, six, 1, 0) != NULL);
	callers_destroy(table);
}

TEST(who_was_never_wrong_is_forgotten)
{
	CallerTable *table = callers_create(10);

	for (int i = 0; i < 1000; i++)
	{
		uint8_t		address[4] = {10, 0, (uint8_t) (i >> 8), (uint8_t) i};

		callers_leave(table, callers_enter(table, 4, address, 1, i), i);
	}
	CHECK_EQ_INT(callers_count(table), 0);
	callers_destroy(table);
}

TEST(failures_are_held_back_longer_and_longer)
{
	CallerTable *table = callers_create(10);
	Caller	   *caller = callers_enter(table, 4, one, 0, 0);
	static const int times[] = {1, 2, 4, 8, 16, 16, 16};

	for (size_t i = 0; i < sizeof(times) / sizeof(*times); i++)
		CHECK_EQ_INT(callers_failed(caller, 500, (int64_t) i * 30 * SECOND), 500 * times[i]);
	CHECK_EQ_INT(callers_failed(caller, 0, 200 * SECOND), 0);
	/* gone and back within the minute: not forgotten */
	callers_leave(table, caller, 201 * SECOND);
	caller = callers_enter(table, 4, one, 0, 230 * SECOND);
	CHECK_EQ_INT(callers_failed(caller, 500, 230 * SECOND), 500 * 16);
	/* a minute without one */
	CHECK_EQ_INT(callers_failed(caller, 500, 291 * SECOND), 500);
	callers_leave(table, caller, 291 * SECOND);
	CHECK_EQ_INT(callers_count(table), 1);
	caller = callers_enter(table, 4, two, 0, 400 * SECOND);
	CHECK_EQ_INT(callers_count(table), 1);
	callers_leave(table, caller, 400 * SECOND);
	CHECK_EQ_INT(callers_count(table), 0);
	callers_destroy(table);
}

TEST(only_so_many_are_remembered_and_the_oldest_go)
{
	CallerTable *table = callers_create(100);
	Caller	   *there = callers_enter(table, 4, one, 0, 0);

	callers_failed(there, 1, 0);
	for (int i = 0; i < 1000; i++)
	{
		uint8_t		address[4] = {10, 0, (uint8_t) (i >> 8), (uint8_t) i};
		Caller	   *caller = callers_enter(table, 4, address, 0, i);

		callers_failed(caller, 1, i);
		callers_leave(table, caller, i);
	}
	/* who has a client stays */
	CHECK_EQ_INT(callers_count(table), 101);
	CHECK(callers_enter(table, 4, one, 0, 1000) == there);
	CHECK_EQ_INT(callers_failed(callers_enter(table, 4, (const uint8_t[]) {10, 0, 999 >> 8, 999 & 255}, 0, 1000), 1, 1000), 2);
	CHECK_EQ_INT(callers_failed(callers_enter(table, 4, (const uint8_t[]) {10, 0, 0, 1}, 0, 1000), 1, 1000), 1);
	callers_destroy(table);
	CHECK_EQ_INT(mem_used(), 0);
}
