/*
 * test/unit/test_portal.c - a client's names, and what a link has prepared.
 */
#include "core/portal.h"
#include "unit.h"

static Statement *
intern(StatementTable *table, const char *text)
{
	bool		fresh;

	return statement_intern(table, bytes_str(text), bytes_of(NULL, 0), &fresh);
}

static Statement *
intern_number(StatementTable *table, int i)
{
	char		text[32];

	snprintf(text, sizeof(text), "SELECT %d", i);
	return intern(table, text);
}

static bool
is_this(void *arg, Bytes name, const Statement *s)
{
	return s == arg && name.len > 0;
}

TEST(names)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(0);
	StatementNames map = {0};
	Statement  *a = intern(table, "SELECT 1");

	CHECK(names_get(&map, bytes_str("x")) == NULL);
	CHECK(names_take(&map, bytes_str("x")) == NULL);
	CHECK(names_put(&map, bytes_str("x"), a));
	CHECK(names_put(&map, bytes_str(""), intern(table, "SELECT 2")));
	CHECK(names_get(&map, bytes_str("x")) == a);
	CHECK(names_get(&map, bytes_str("X")) == NULL);
	CHECK(names_get(&map, bytes_str("")) != NULL);
	CHECK(names_take(&map, bytes_str("x")) == a);
	CHECK(names_get(&map, bytes_str("x")) == NULL);
	CHECK_EQ_INT(map.count, 1);
	statement_unref(table, a);
	names_clear(&map, table);
	CHECK(map.names == NULL && map.count == 0 && map.size == 0);
	names_clear(&map, table);
	CHECK_EQ_INT(statement_table_count(table), 0);
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

/* Longer names that begin alike are one, as in PostgreSQL, which shows it as it was given. */
TEST(names_beyond_what_counts)
{
	StatementTable *table = statement_table_create(0);
	StatementNames map = {0};
	uint8_t		name[NAME_THAT_COUNTS + 2];
	Bytes		long_name = bytes_of(name, sizeof(name));
	Statement  *a = intern(table, "SELECT 1");

	memset(name, 'x', sizeof(name));
	CHECK(names_put(&map, long_name, a));
	CHECK(names_get(&map, bytes_of(name, NAME_THAT_COUNTS)) == a);
	CHECK(names_get(&map, bytes_of(name, NAME_THAT_COUNTS + 1)) == a);
	CHECK(names_get(&map, bytes_of(name, NAME_THAT_COUNTS - 1)) == NULL);
	CHECK_EQ_INT(names_find(&map, is_this, a).len, sizeof(name));
	CHECK(names_take(&map, bytes_of(name, NAME_THAT_COUNTS)) == a);
	CHECK_EQ_INT(map.count, 0);
	statement_unref(table, a);
	statement_table_destroy(table);
}

/* Of a name given anew nothing is known, whatever was known of it before, or lay there. */
TEST(names_fresh_shape)
{
	StatementTable *table = statement_table_create(0);
	StatementNames map = {0};

	CHECK(names_put(&map, bytes_str("a"), intern(table, "SELECT 1")));
	CHECK(names_put(&map, bytes_str("b"), intern(table, "SELECT 2")));
	*names_shape(&map, bytes_str("a")) = (Shape) {.known = true, .unconfirmed = true, .rows = 7};
	statement_unref(table, names_take(&map, bytes_str("a")));
	CHECK(names_put(&map, bytes_str("a"), intern(table, "SELECT 3")));
	CHECK(!names_shape(&map, bytes_str("a"))->known);
	CHECK(!names_shape(&map, bytes_str("a"))->unconfirmed);
	names_clear(&map, table);
	statement_table_destroy(table);
}

static bool
is_the_second(void *arg, Bytes name, const Statement *s)
{
	return s == arg && bytes_equal_str(name, "b");
}

/* All are taken away and given back, but for those given anew meanwhile. */
TEST(names_put_back)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(0);
	StatementNames map = {0};
	StatementNames all;
	Statement  *one = intern(table, "SELECT 1");
	Statement  *two = intern(table, "SELECT 2");

	CHECK(names_put(&map, bytes_str("a"), one));
	CHECK(names_put(&map, bytes_str("b"), two));
	CHECK(bytes_equal_str(names_find(&map, is_the_second, two), "b"));
	CHECK_EQ_INT(names_find(&map, is_the_second, one).len, 0);
	*names_shape(&map, bytes_str("b")) = (Shape) {.known = true, .rows = 7};
	all = map;
	memset(&map, 0, sizeof(map));
	CHECK(names_put(&map, bytes_str("a"), intern(table, "SELECT 3")));
	names_put_back(&map, &all, table);
	CHECK(all.names == NULL && all.count == 0);
	CHECK_EQ_INT(map.count, 2);
	CHECK(names_get(&map, bytes_str("a")) != NULL && names_get(&map, bytes_str("a")) != one);
	CHECK(names_get(&map, bytes_str("b")) == two);
	CHECK_EQ_INT(names_shape(&map, bytes_str("b"))->rows, 7);
	names_put_back(&map, &all, table);
	CHECK_EQ_INT(map.count, 2);
	names_clear(&map, table);
	CHECK_EQ_INT(statement_table_count(table), 0);
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

/* Every second name is taken out while others go in; a model array tells what must be found. */
TEST(names_churn)
{
	size_t		before = mem_used();
	StatementTable *table = statement_table_create(0);
	StatementNames map = {0};
	static Statement *model[500];
	uint32_t	random = 12345;
	int			step;
	int			wrong = 0;

	for (step = 0; step < 40000; step++)
	{
		char		name[16];
		int			i;

		random = random * 1664525u + 1013904223u;
		i = (int) (random >> 8) % (step < 20000 ? 500 : 40);
		snprintf(name, sizeof(name), "s%d", i);
		wrong += names_get(&map, bytes_str(name)) != model[i];
		if (model[i] == NULL)
		{
			model[i] = intern_number(table, i);
			wrong += !names_put(&map, bytes_str(name), model[i]);
		}
		else if (names_take(&map, bytes_str(name)) == model[i])
		{
			statement_unref(table, model[i]);
			model[i] = NULL;
		}
		else
			wrong++;
	}
	CHECK_EQ_INT(wrong, 0);
	CHECK_EQ_INT(map.count, statement_table_count(table));
	names_clear(&map, table);
	memset(model, 0, sizeof(model));
	statement_table_destroy(table);
	CHECK_EQ_INT(mem_used(), before);
}

typedef struct Rig
{
	size_t		before;
	StatementTable *statements;
	SettingsTable *settings;
	const SettingsVector *vector;
	LinkStatements *map;
} Rig;

static Rig
rig_create(uint32_t capacity)
{
	Rig			rig;
	SettingsDraft draft = {0};

	rig.before = mem_used();
	rig.statements = statement_table_create(0);
	rig.settings = settings_table_create(10);
	rig.vector = settings_intern(rig.settings, &draft);
	rig.map = link_statements_create(rig.statements, rig.settings, capacity);
	return rig;
}

/* With the map gone, no reference may be left but the rig's own. */
static void
rig_destroy(Rig *rig)
{
	link_statements_destroy(rig->map);
	CHECK_EQ_INT(statement_table_count(rig->statements), 0);
	CHECK_EQ_INT(rig->vector->refs, 1);
	settings_unref(rig->settings, rig->vector);
	CHECK_EQ_INT(settings_table_count(rig->settings), 0);
	settings_table_destroy(rig->settings);
	statement_table_destroy(rig->statements);
	CHECK_EQ_INT(mem_used(), rig->before);
}

static uint32_t
add(Rig *rig, int i, uint32_t *evicted)
{
	Statement  *s = intern_number(rig->statements, i);
	uint32_t	number = link_statements_add(rig->map, s, rig->vector, evicted);

	statement_unref(rig->statements, s);
	return number;
}

static uint32_t
find(Rig *rig, int i)
{
	Statement  *s = intern_number(rig->statements, i);
	uint32_t	number = link_statements_find(rig->map, s, rig->vector);

	statement_unref(rig->statements, s);
	return number;
}

TEST(link_least_recently_used_goes)
{
	Rig			rig = rig_create(3);
	uint32_t	evicted = 9;
	uint32_t	one = add(&rig, 1, &evicted);
	uint32_t	two = add(&rig, 2, &evicted);
	uint32_t	three = add(&rig, 3, &evicted);

	CHECK(one > 0 && two > one && three > two && evicted == 0);
	link_statements_settle(rig.map);
	CHECK_EQ_INT(find(&rig, 1), one);
	CHECK(add(&rig, 4, &evicted) > three);
	CHECK_EQ_INT(evicted, two);
	CHECK_EQ_INT(find(&rig, 2), 0);
	CHECK_EQ_INT(find(&rig, 3), three);
	CHECK_EQ_INT(link_statements_count(rig.map), 3);
	rig_destroy(&rig);
}

TEST(link_in_flight_is_not_evicted)
{
	Rig			rig = rig_create(2);
	uint32_t	evicted;
	uint32_t	one = add(&rig, 1, &evicted);

	add(&rig, 2, &evicted);
	add(&rig, 3, &evicted);
	CHECK_EQ_INT(evicted, 0);
	CHECK_EQ_INT(link_statements_count(rig.map), 3);
	link_statements_settle(rig.map);
	add(&rig, 4, &evicted);
	CHECK_EQ_INT(evicted, one);
	rig_destroy(&rig);
}

TEST(link_settings_are_part_of_the_key)
{
	Rig			rig = rig_create(4);
	SettingsDraft draft = {0};
	const SettingsVector *other;
	Statement  *s = intern(rig.statements, "SELECT 1");
	uint32_t	evicted;
	uint32_t	one;

	settings_draft_put(&draft, bytes_str("search_path"), bytes_str("x"));
	other = settings_intern(rig.settings, &draft);
	one = link_statements_add(rig.map, s, rig.vector, &evicted);
	CHECK_EQ_INT(link_statements_find(rig.map, s, other), 0);
	CHECK(link_statements_add(rig.map, s, other, &evicted) != one);
	CHECK_EQ_INT(link_statements_find(rig.map, s, rig.vector), one);
	CHECK_EQ_INT(other->refs, 2);
	settings_unref(rig.settings, other);
	statement_unref(rig.statements, s);
	rig_destroy(&rig);
}

TEST(link_remove_and_clear)
{
	Rig			rig = rig_create(1000);
	uint32_t	evicted;
	uint32_t	number = 0;
	int			i;

	for (i = 0; i < 300; i++)
		number = add(&rig, i, &evicted);
	CHECK_EQ_INT(number, 300);
	for (i = 0; i < 300; i += 2)
		link_statements_remove(rig.map, i + 1);
	link_statements_remove(rig.map, 1);
	link_statements_remove(rig.map, 77777);
	CHECK_EQ_INT(link_statements_count(rig.map), 150);
	for (i = 0; i < 300; i++)
		CHECK_EQ_INT(find(&rig, i), i % 2 == 0 ? 0 : i + 1);
	link_statements_clear(rig.map);
	CHECK_EQ_INT(link_statements_count(rig.map), 0);
	CHECK_EQ_INT(add(&rig, 1, &evicted), 301);
	rig_destroy(&rig);
}

/* A Parse of another client is under way: it may fail. */
TEST(link_pending)
{
	Rig			rig = rig_create(1000);
	uint32_t	evicted;
	uint32_t	number = add(&rig, 1, &evicted);

	CHECK(!link_statements_pending(rig.map, number));
	link_statements_asked(rig.map, number);
	CHECK(!link_statements_pending(rig.map, number));	/* one's own */
	link_statements_settle(rig.map);
	CHECK(link_statements_pending(rig.map, number));
	/* the next client parses it anew behind the first: the last answer decides */
	link_statements_asked(rig.map, number);
	CHECK(!link_statements_pending(rig.map, number));
	link_statements_answered(rig.map, number, false);
	CHECK_EQ_INT(find(&rig, 1), number);
	link_statements_answered(rig.map, number, true);
	link_statements_settle(rig.map);
	CHECK(!link_statements_pending(rig.map, number));
	CHECK_EQ_INT(find(&rig, 1), number);
	link_statements_asked(rig.map, number);
	link_statements_answered(rig.map, number, false);
	CHECK_EQ_INT(find(&rig, 1), 0);
	/* what is not there is nobody's */
	link_statements_asked(rig.map, number);
	link_statements_answered(rig.map, number, false);
	CHECK(!link_statements_pending(rig.map, number));
	rig_destroy(&rig);
}

/* Parsed while a client had settings of its own: good for that client, as long as it stays. */
TEST(link_astray)
{
	Rig			rig = rig_create(1000);
	uint32_t	evicted;
	uint32_t	before = add(&rig, 1, &evicted);
	uint32_t	number = add(&rig, 2, &evicted);

	link_statements_asked(rig.map, before);
	link_statements_answered(rig.map, before, true);
	link_statements_stray(rig.map);
	link_statements_asked(rig.map, number);
	link_statements_answered(rig.map, number, true);
	link_statements_settle(rig.map);
	CHECK(!link_statements_pending(rig.map, number));
	CHECK(link_statements_part(rig.map));
	CHECK(link_statements_pending(rig.map, number));
	CHECK(!link_statements_pending(rig.map, before));
	/* the next one has it parsed anew, and strays nowhere */
	link_statements_asked(rig.map, number);
	CHECK(!link_statements_part(rig.map));
	link_statements_answered(rig.map, number, true);
	CHECK(!link_statements_pending(rig.map, number));
	rig_destroy(&rig);
}

TEST(link_names)
{
	char		buf[LINK_NAME_MAX];
	Bytes		name;

	link_names_seed(0x5f0c2a91);
	name = link_statement_name(12, buf);
	CHECK_BYTES_LIT(name.data, name.len, "hyperpool_5f0c2a91_12");
	CHECK(link_name_is_ours(name));
	name = link_statement_name(UINT32_MAX, buf);
	CHECK(link_name_is_ours(name) && name.len < LINK_NAME_MAX);
	CHECK(!link_name_is_ours(bytes_str("")));
	CHECK(!link_name_is_ours(bytes_str("hyperpool_5f0c2a91_")));
	CHECK(!link_name_is_ours(bytes_str("hyperpool_5f0c2a91_1x")));
	CHECK(!link_name_is_ours(bytes_str("hyperpool_5f0c2a92_1")));	/* another hyperpool's */
	CHECK(!link_name_is_ours(bytes_str("Hyperpool_5f0c2a91_1")));
}
