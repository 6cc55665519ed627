/*
 * test/fuzz/fuzz_portal.c - core/portal against two plain lists: a client's names, and what is prepared on a link.
 *
 * Input: capacity of the link, then operations.
 */
#include "core/portal.h"
#include "fuzz.h"

#define TEXTS		24
#define VECTORS		4
#define NAMES_MAX	600
#define LINKED_MAX	700

/* What the maps must hold. */
typedef struct Named
{
	char		name[24];
	int			text;
	uint64_t	told;			/* the shape its client was told */
} Named;

typedef struct Linked			/* oldest use first */
{
	uint32_t	number;
	int			text;
	int			vector;
	uint64_t	flight;			/* of its last use */
	uint32_t	asked;			/* Parses under way */
	uint64_t	asked_in;
} Linked;

static StatementTable *statements;
static SettingsTable *settings;
static Statement *text[TEXTS];
static const SettingsVector *vector[VECTORS];

static Named named[NAMES_MAX];
static int	nnamed;
static Linked linked[LINKED_MAX];
static int	nlinked;
static uint64_t flight;
static uint32_t last_number;

static void
make_objects(void)
{
	statements = statement_table_create(0);
	settings = settings_table_create(VECTORS);
	for (int i = 0; i < TEXTS; i++)
	{
		char		s[24];
		bool		fresh;

		snprintf(s, sizeof(s), "SELECT %d", i);
		text[i] = statement_intern(statements, bytes_str(s), bytes_of(NULL, 0), &fresh);
	}
	for (int i = 0; i < VECTORS; i++)
	{
		SettingsDraft draft = {0};
		char		s[24];

		snprintf(s, sizeof(s), "%d", i);
		settings_draft_put(&draft, bytes_str("work_mem"), bytes_str(s));
		vector[i] = settings_intern(settings, &draft);
	}
}

static void
free_objects(void)
{
	for (int i = 0; i < TEXTS; i++)
	{
		FUZZ_CHECK(text[i]->refs == 1);
		statement_unref(statements, text[i]);
	}
	for (int i = 0; i < VECTORS; i++)
	{
		FUZZ_CHECK(vector[i]->refs == 1);
		settings_unref(settings, vector[i]);
	}
	FUZZ_CHECK(statement_table_count(statements) == 0 && settings_table_count(settings) == 0);
	statement_table_destroy(statements);
	settings_table_destroy(settings);
}

/* ---- names ---- */

static int
find_named(const char *name)
{
	for (int i = 0; i < nnamed; i++)
		if (strcmp(named[i].name, name) == 0)
			return i;
	return -1;
}

static Shape
shape_of(uint64_t told)
{
	return (Shape) {.known = true, .digest = {told, ~told}, .rows = told};
}

static void
put_name(StatementNames *map, const char *name, int t, uint64_t told)
{
	if (nnamed == NAMES_MAX || find_named(name) >= 0)
		return;
	statement_ref(text[t]);
	FUZZ_CHECK(names_put(map, bytes_str(name), text[t]));
	FUZZ_CHECK(!names_shape(map, bytes_str(name))->known);
	*names_shape(map, bytes_str(name)) = shape_of(told);
	snprintf(named[nnamed].name, sizeof(named[0].name), "%s", name);
	named[nnamed].told = told;
	named[nnamed++].text = t;
	FUZZ_REACHED("names of one client", nnamed);
}

static void
take_name(StatementNames *map, const char *name)
{
	int			i = find_named(name);
	Statement  *s = names_take(map, bytes_str(name));

	FUZZ_CHECK(s == (i < 0 ? NULL : text[named[i].text]));
	if (i < 0)
		return;
	statement_unref(statements, s);
	named[i] = named[--nnamed];
}

static bool
is_text(void *arg, Bytes name, const Statement *s)
{
	FUZZ_CHECK(name.data != NULL);
	return s == arg;
}

static void
check_names(const StatementNames *map)
{
	FUZZ_CHECK(map->count == (uint32_t) nnamed && (nnamed > 0 || map->names == NULL));
	for (int i = 0; i < nnamed; i++)
	{
		Shape		told = shape_of(named[i].told);

		FUZZ_CHECK(names_get(map, bytes_str(named[i].name)) == text[named[i].text]);
		FUZZ_CHECK(!shapes_differ(names_shape(map, bytes_str(named[i].name)), &told));
	}
}

static void
check_name_of(const StatementNames *map, int t)
{
	Bytes		name = names_find(map, is_text, text[t]);
	bool		is_there = false;

	for (int i = 0; i < nnamed; i++)
		is_there |= named[i].text == t;
	FUZZ_CHECK(is_there == (name.data != NULL));
	FUZZ_CHECK(!is_there || names_get(map, name) == text[t]);
}

/* ---- the link ---- */

static int
find_linked(int t, int v)
{
	for (int i = 0; i < nlinked; i++)
		if (linked[i].text == t && linked[i].vector == v)
			return i;
	return -1;
}

static int
find_number(uint32_t number)
{
	for (int i = 0; i < nlinked; i++)
		if (linked[i].number == number)
			return i;
	return -1;
}

static Linked
unlink_at(int i)
{
	Linked		l = linked[i];

	memmove(&linked[i], &linked[i + 1], (--nlinked - i) * sizeof(Linked));
	return l;
}

static uint32_t
find_on_link(LinkStatements *map, int t, int v)
{
	int			i = find_linked(t, v);
	uint32_t	number = link_statements_find(map, text[t], v < VECTORS ? vector[v] : NULL);
	Linked		used;

	FUZZ_CHECK(number == (i < 0 ? 0 : linked[i].number));
	if (i < 0)
		return 0;
	used = unlink_at(i);
	used.flight = flight;
	linked[nlinked++] = used;
	return number;
}

static void
add_to_link(LinkStatements *map, uint32_t capacity, int t, int v)
{
	uint32_t	evicted;
	uint32_t	number;
	uint32_t	expected = 0;

	if (nlinked == LINKED_MAX || find_on_link(map, t, v) != 0)
		return;
	if ((uint32_t) nlinked >= capacity && linked[0].flight != flight)
		expected = unlink_at(0).number;
	number = link_statements_add(map, text[t], v < VECTORS ? vector[v] : NULL, &evicted);
	FUZZ_CHECK(number == ++last_number && evicted == expected);
	*link_statements_shape(map, number) = shape_of(number);
	linked[nlinked++] = (Linked) {.number = number, .text = t, .vector = v, .flight = flight};
	FUZZ_REACHED("statements on one link", nlinked);
}

static void
remove_from_link(LinkStatements *map, uint32_t number)
{
	int			i = find_number(number);

	FUZZ_CHECK((link_statements_shape(map, number) != NULL) == (i >= 0));
	link_statements_remove(map, number);
	if (i >= 0)
		(void) unlink_at(i);
}

/* A Parse is sent, or one is answered. */
static void
parse_on_link(LinkStatements *map, uint32_t number, bool is_asked, bool well)
{
	int			i = find_number(number);

	if (is_asked)
		link_statements_asked(map, number);
	else
		link_statements_answered(map, number, well);
	if (i < 0)
		return;
	if (is_asked)
	{
		linked[i].asked++;
		linked[i].asked_in = flight;
	}
	else
		linked[i].asked -= linked[i].asked > 0;
	if (!is_asked && !well && linked[i].asked == 0)
		(void) unlink_at(i);
	FUZZ_REACHED("Parses of one statement under way", is_asked ? linked[i].asked : 0);
}

static void
check_link(LinkStatements *map)
{
	FUZZ_CHECK(link_statements_count(map) == (uint32_t) nlinked);
	for (int i = 0; i < nlinked; i++)
	{
		Shape	   *shape = link_statements_shape(map, linked[i].number);

		FUZZ_CHECK(shape != NULL && shape->rows == linked[i].number);
		FUZZ_CHECK(link_statements_pending(map, linked[i].number) == (linked[i].asked > 0 && linked[i].asked_in != flight));
	}
}

static void
check_link_name(uint32_t number)
{
	char		buf[LINK_NAME_MAX];
	Bytes		name = link_statement_name(number, buf);

	FUZZ_CHECK(name.len < LINK_NAME_MAX && link_name_is_ours(name) && strlen(buf) == name.len);
	FUZZ_CHECK(!link_name_is_ours(bytes_of(name.data, name.len - 11)));
}

/* ---- operations ---- */

static void
operate(FuzzInput *in, StatementNames *names, LinkStatements *link, uint32_t capacity)
{
	uint8_t		op = fuzz_u8(in);
	int			t = fuzz_u8(in) % TEXTS;
	int			v = op / 16 % (VECTORS + 1);
	Bytes		foreign;
	char		name[24];

	snprintf(name, sizeof(name), "%s%u", op & 16 ? "a longer name " : "", (unsigned) (op & 32 ? fuzz_u16(in) : fuzz_u8(in) % 32));
	switch (op % 13)
	{
		case 0:
		case 1:
		case 2:
			put_name(names, op & 64 ? "" : name, t, fuzz_u8(in));
			break;
		case 3:
			take_name(names, name);
			break;
		case 4:
			check_name_of(names, t);
			break;
		case 5:
			if (op / 12 < 2)
			{
				names_clear(names, statements);
				nnamed = 0;
			}
			break;
		case 6:
		case 7:
			add_to_link(link, capacity, t, v);
			break;
		case 8:
			(void) find_on_link(link, t, v);
			break;
		case 9:
			remove_from_link(link, last_number - fuzz_u8(in) % 32);
			break;
		case 10:
			link_statements_settle(link);
			flight++;
			break;
		case 11:
			if (op / 12 < 2)
			{
				link_statements_clear(link);
				nlinked = 0;
			}
			foreign = fuzz_bytes(in, t);
			(void) link_name_is_ours(foreign);
			check_link_name(fuzz_u32(in));
			break;
		case 12:
			parse_on_link(link, last_number - fuzz_u8(in) % 8, op & 1, t & 1);
			break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	uint32_t	capacity = fuzz_u8(&in) % 64;
	StatementNames names = {0};
	LinkStatements *link;

	nnamed = nlinked = 0;
	last_number = 0;
	flight = 1;
	make_objects();
	link = link_statements_create(statements, settings, capacity);
	capacity = capacity > 0 ? capacity : 1;
	while (fuzz_left(&in) > 0)
	{
		operate(&in, &names, link, capacity);
		if (fuzz_left(&in) % 8 == 0)
		{
			check_names(&names);
			check_link(link);
		}
	}
	check_names(&names);
	check_link(link);
	names_clear(&names, statements);
	link_statements_destroy(link);
	free_objects();
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
