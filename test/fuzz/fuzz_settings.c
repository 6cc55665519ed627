/*
 * test/fuzz/fuzz_settings.c - core/settings against plain lists of names and values, and the options parameter against PostgreSQL's own rules, written anew.
 *
 * Input: size of the table, then operations on a draft and on the vectors made of it.
 */
#include "core/settings.h"
#include "fuzz.h"

#define ENTRIES_MAX	1000
#define VECTORS		6
#define DRAFT_LIMIT	65536

typedef struct Entry
{
	char	   *name;			/* folded */
	char	   *value;
} Entry;

/* A plain list: each name once. */
typedef struct List
{
	int			count;
	Entry		entries[ENTRIES_MAX];
	bool		failed;
} List;

typedef struct Held				/* a vector with a reference of ours */
{
	const SettingsVector *vector;
	List		list;
} Held;

static SettingsTable *table;
static uint32_t table_max;
static SettingsDraft draft;
static List model;				/* what the draft holds */
static Held held[VECTORS];

/* ---- lists ---- */

static char *
text_of(Bytes view, bool fold)
{
	char	   *s = malloc(view.len + 1);

	FUZZ_CHECK(s != NULL);
	for (size_t i = 0; i < view.len; i++)
		s[i] = fold && view.data[i] >= 'A' && view.data[i] <= 'Z' ? (char) (view.data[i] | 0x20) : (char) view.data[i];
	s[view.len] = '\0';
	return s;
}

static int
list_find(const List *list, const char *name)
{
	for (int i = 0; i < list->count; i++)
		if (strcmp(list->entries[i].name, name) == 0)
			return i;
	return -1;
}

static void
list_remove(List *list, const char *name)
{
	int			i = list_find(list, name);

	if (i < 0)
		return;
	free(list->entries[i].name);
	free(list->entries[i].value);
	list->entries[i] = list->entries[--list->count];
}

static size_t
list_bytes(const List *list)
{
	size_t		n = 0;

	for (int i = 0; i < list->count; i++)
		n += strlen(list->entries[i].name) + strlen(list->entries[i].value) + 2;
	return n;
}

static void
list_put(List *list, Bytes name, Bytes value)
{
	char	   *folded;

	if ((name.len > 0 && memchr(name.data, 0, name.len)) || (value.len > 0 && memchr(value.data, 0, value.len)))
	{
		list->failed = true;
		return;
	}
	folded = text_of(name, true);
	list_remove(list, folded);
	if (list->count == ENTRIES_MAX || list_bytes(list) + name.len + value.len + 2 > DRAFT_LIMIT)
	{
		list->failed = true;
		free(folded);
		return;
	}
	list->entries[list->count++] = (Entry) {folded, text_of(value, false)};
}

static void
list_clear(List *list)
{
	while (list->count > 0)
		list_remove(list, list->entries[0].name);
	list->failed = false;
}

static bool
list_has(const List *list, const Entry *e)
{
	int			i = list_find(list, e->name);

	return i >= 0 && strcmp(list->entries[i].value, e->value) == 0;
}

static bool
lists_equal(const List *a, const List *b)
{
	bool		equal = a->count == b->count;

	for (int i = 0; equal && i < a->count; i++)
		equal = list_has(b, &a->entries[i]);
	return equal;
}

static void
list_copy(List *to, const List *from)
{
	for (int i = 0; i < from->count; i++)
		list_put(to, bytes_str(from->entries[i].name), bytes_str(from->entries[i].value));
}

/* ---- the options parameter, as pg_split_opts cuts it and process_postgres_switches reads it ---- */

#define WORDS_MAX	256

static int
split_words(Bytes options, char **words)
{
	int			n = 0;
	size_t		at = 0;

	while (n < WORDS_MAX)
	{
		char	   *word;
		size_t		len = 0;
		bool		escape = false;

		while (at < options.len && strchr(" \t\n\v\f\r", options.data[at]))
			at++;
		if (at == options.len)
			break;
		word = malloc(options.len + 1);
		FUZZ_CHECK(word != NULL);
		for (; at < options.len && (escape || !strchr(" \t\n\v\f\r", options.data[at])); at++)
		{
			if (!escape && options.data[at] == '\\')
				escape = true;
			else
			{
				word[len++] = (char) options.data[at];
				escape = false;
			}
		}
		word[len] = '\0';
		words[n++] = word;
	}
	return n;
}

static bool
put_long_option(List *list, char *word)
{
	char	   *equal = strchr(word, '=');

	if (equal == NULL || equal == word)
		return false;
	for (char *p = word; p < equal; p++)
		*p = *p == '-' ? '_' : *p;
	list_put(list, bytes_of(word, equal - word), bytes_str(equal + 1));
	return true;
}

static bool
put_words(List *list, char **words, int n)
{
	for (int i = 0; i < n; i++)
	{
		char	   *word = words[i];

		if (strcmp(word, "--") == 0)
			return i == n - 1;
		if (strncmp(word, "--", 2) == 0)
			word += 2;
		else if (strncmp(word, "-c", 2) == 0 && word[2])
			word += 2;
		else if (strcmp(word, "-c") == 0 && i + 1 < n)
			word = words[++i];
		else
			return false;
		if (!put_long_option(list, word))
			return false;
	}
	return true;
}

static void
put_options(FuzzInput *in)
{
	Bytes		options = fuzz_copy(fuzz_bytes(in, fuzz_u8(in)));
	char	   *words[WORDS_MAX];
	Bytes		bad;
	bool		good;

	if (options.len > 0 && memchr(options.data, 0, options.len))
	{
		FUZZ_CHECK(!settings_draft_put_options(&draft, options, &bad));
		fuzz_free(options);
		return;
	}
	good = settings_draft_put_options(&draft, options, &bad);
	FUZZ_CHECK(fuzz_is_inside(bad, options));
	if (options.len > 0)
	{
		int			n = split_words(options, words);

		FUZZ_CHECK(put_words(&model, words, n) == good);
		FUZZ_CHECK(good || bad.len > 0);
		FUZZ_REACHED("words of one options parameter", n);
		while (n > 0)
			free(words[--n]);
	}
	else
		FUZZ_CHECK(good);
	fuzz_free(options);
}

/* ---- vectors ---- */

static void
check_vector(const SettingsVector *v, const List *list)
{
	FUZZ_CHECK(v->count == (uint32_t) list->count && v->id != 0 && v->refs > 0);
	for (uint32_t i = 0; i < v->count; i++)
	{
		Entry		e = {(char *) (uintptr_t) v->settings[i].name, (char *) (uintptr_t) v->settings[i].value};

		FUZZ_CHECK(list_has(list, &e));
		FUZZ_CHECK(i == 0 || strcmp(v->settings[i - 1].name, v->settings[i].name) < 0);
		FUZZ_CHECK(settings_get(v, e.name) == e.value);
	}
}

static void
let_go(Held *h)
{
	settings_unref(table, h->vector);
	h->vector = NULL;
	list_clear(&h->list);
}

static uint32_t
distinct_held(void)
{
	uint32_t	n = 0;

	for (int i = 0; i < VECTORS; i++)
	{
		bool		first = held[i].vector != NULL;

		for (int j = 0; j < i; j++)
			first &= held[j].vector != held[i].vector;
		n += first;
	}
	return n;
}

static void
intern(Held *h)
{
	bool		is_known = false;
	bool		failed = model.failed;
	bool		full = settings_table_count(table) >= table_max;

	if (h->vector)
		let_go(h);
	full = settings_table_count(table) >= table_max;
	for (int i = 0; i < VECTORS; i++)
		is_known |= held[i].vector && lists_equal(&held[i].list, &model);
	h->vector = settings_intern(table, &draft);
	FUZZ_CHECK((h->vector == NULL) == (failed || (full && !is_known)));
	if (h->vector)
	{
		list_copy(&h->list, &model);
		check_vector(h->vector, &h->list);
	}
	for (int i = 0; h->vector && i < VECTORS; i++)
	{
		if (held[i].vector == NULL || &held[i] == h)
			continue;
		FUZZ_CHECK((held[i].vector == h->vector) == lists_equal(&held[i].list, &h->list));
		FUZZ_CHECK((held[i].vector == h->vector) == (held[i].vector->id == h->vector->id));
	}
	list_clear(&model);
	FUZZ_CHECK(settings_table_count(table) == distinct_held() && settings_table_count(table) <= table_max);
	FUZZ_REACHED("vectors at once", settings_table_count(table));
}

static void
note_change(void *arg, const char *name, const char *value)
{
	list_put(arg, bytes_str(name), bytes_str(value));
}

/* `from` with the changes, and without what is only in `from` where a reset is needed, is `to`. */
static void
check_difference(const Held *from, const Held *to)
{
	static List changes;
	bool		reset = false;

	settings_difference(from->vector, to->vector, note_change, &changes);
	for (int i = 0; i < to->list.count; i++)
		FUZZ_CHECK(list_has(&from->list, &to->list.entries[i]) != list_has(&changes, &to->list.entries[i]));
	for (int i = 0; i < changes.count; i++)
		FUZZ_CHECK(list_has(&to->list, &changes.entries[i]));
	for (int i = 0; i < from->list.count; i++)
		reset |= list_find(&to->list, from->list.entries[i].name) < 0 ||
			(strcmp(from->list.entries[i].name, "datestyle") == 0 && !list_has(&to->list, &from->list.entries[i]));
	FUZZ_CHECK(settings_need_reset(from->vector, to->vector) == reset);
	list_clear(&changes);
}

/* ---- operations ---- */

static Bytes
pick_name(FuzzInput *in)
{
	static const char *const names[] = {"search_path", "Search_Path", "DateStyle", "work_mem", "a", "A", "my.setting", "role"};
	uint8_t		c = fuzz_u8(in);

	return c < 128 ? bytes_str(names[c % 8]) : fuzz_bytes(in, c % 32);
}

static void
check_get(FuzzInput *in)
{
	Bytes		name = pick_name(in);
	char	   *folded = text_of(name, true);
	char		value[40];
	int			i = name.len > 0 && memchr(name.data, 0, name.len) ? -1 : list_find(&model, folded);

	if (!model.failed)
	{
		FUZZ_CHECK(settings_draft_get(&draft, name, value, sizeof(value)) == (i >= 0));
		FUZZ_CHECK(i < 0 || strncmp(value, model.entries[i].value, sizeof(value) - 1) == 0);
	}
	free(folded);
}

static void
operate(FuzzInput *in)
{
	uint8_t		op = fuzz_u8(in);
	Held	   *one = &held[op / 16 % VECTORS];
	Held	   *other = &held[fuzz_u8(in) % VECTORS];
	Bytes		name;
	Bytes		value;
	char	   *folded;

	switch (op % 11)
	{
		case 0:
		case 1:
		case 2:
			name = pick_name(in);
			value = fuzz_bytes(in, op & 16 ? fuzz_u16(in) : fuzz_u8(in));
			settings_draft_put(&draft, name, value);
			list_put(&model, name, value);
			break;
		case 3:
			name = pick_name(in);
			settings_draft_remove(&draft, name);
			folded = text_of(name, true);
			if (name.len == strlen(folded))
				list_remove(&model, folded);
			free(folded);
			break;
		case 4:
			settings_draft_put_vector(&draft, other->vector);
			if (other->vector)
				list_copy(&model, &other->list);
			break;
		case 5:
			put_options(in);
			break;
		case 6:
			intern(one);
			break;
		case 7:
			if (one->vector && one != other)
			{
				if (other->vector)
					let_go(other);
				settings_ref(one->vector);
				other->vector = one->vector;
				list_copy(&other->list, &one->list);
			}
			break;
		case 8:
			if (one->vector)
				let_go(one);
			break;
		case 9:
			check_difference(one, other);
			break;
		case 10:
			check_get(in);
			break;
	}
	FUZZ_CHECK(model.failed || draft.count == (uint32_t) model.count);
	FUZZ_REACHED("settings in one draft", model.count);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();

	table_max = 1 + fuzz_u8(&in) % 8;
	table = settings_table_create(table_max);
	while (fuzz_left(&in) > 0 && model.count < ENTRIES_MAX / 4)
		operate(&in);
	for (int i = 0; i < VECTORS; i++)
	{
		if (held[i].vector)
		{
			check_vector(held[i].vector, &held[i].list);
			let_go(&held[i]);
		}
	}
	FUZZ_CHECK(settings_table_count(table) == 0);
	settings_draft_free(&draft);
	list_clear(&model);
	settings_table_destroy(table);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
