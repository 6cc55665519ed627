/*
 * core/settings.c - the settings vector: all that a session has set.
 *
 * Answers: what has this session set, and when are two sessions alike?
 * Owns the table of vectors: one allocation a vector (struct, array of
 * settings, canonical bytes), freed with its last reference. The canonical
 * bytes are name NUL value NUL ... in the order of the names; a draft holds the
 * same form unsorted. Never: knows which values an origin accepts.
 */
#include "core/settings.h"

#include <stdio.h>

#include <stdlib.h>

#define DRAFT_LIMIT		65536	/* bytes of names and values with their NULs */
#define DRAFT_SETTINGS	1000	/* each is looked for among the others: what an origin says it has set is hostile */
#define FIRST_BUCKETS	64

typedef struct Interned
{
	SettingsVector vector;		/* MUST BE FIRST: callers hold a pointer to it */
	struct Interned *next;		/* in its bucket */
	size_t		size;			/* of this allocation */
	size_t		bytes_len;
	const char *bytes;			/* canonical, at the end of this allocation */
	Setting		settings[];
} Interned;

struct SettingsTable
{
	Interned  **buckets;
	uint32_t	nbuckets;		/* a power of two */
	uint32_t	count;
	uint32_t	max_vectors;
	uint32_t	last_id;
	bool		ids_wrapped;	/* from then on an id may be in use already */
};

/* ---- the table ---- */

SettingsTable *
settings_table_create(uint32_t max_vectors)
{
	SettingsTable *table = mem_zalloc(sizeof(SettingsTable));

	if (table == NULL)
		return NULL;
	table->nbuckets = FIRST_BUCKETS;
	table->max_vectors = max_vectors;
	table->buckets = mem_zalloc(table->nbuckets * sizeof(Interned *));
	if (table->buckets == NULL)
	{
		mem_free(table, sizeof(SettingsTable));
		return NULL;
	}
	return table;
}

void
settings_table_destroy(SettingsTable *table)
{
	uint32_t	i;

	if (table == NULL)
		return;
	for (i = 0; i < table->nbuckets; i++)
	{
		Interned   *v = table->buckets[i];

		while (v != NULL)
		{
			Interned   *next = v->next;

			mem_free(v, v->size);
			v = next;
		}
	}
	mem_free(table->buckets, table->nbuckets * sizeof(Interned *));
	mem_free(table, sizeof(SettingsTable));
}

uint32_t
settings_table_count(const SettingsTable *table)
{
	return table->count;
}

static Interned **
bucket_of(const SettingsTable *table, Digest128 digest)
{
	return &table->buckets[digest.lo & (table->nbuckets - 1)];
}

/* Doubles the buckets; without memory the chains just grow longer. */
static void
table_grow(SettingsTable *table)
{
	Interned  **old = table->buckets;
	uint32_t	nold = table->nbuckets;
	Interned  **fresh;
	uint32_t	i;

	if (nold >= UINT32_C(1) << 30)
		return;
	fresh = mem_zalloc((size_t) nold * 2 * sizeof(Interned *));
	if (fresh == NULL)
		return;
	table->buckets = fresh;
	table->nbuckets = nold * 2;
	for (i = 0; i < nold; i++)
	{
		while (old[i] != NULL)
		{
			Interned   *v = old[i];
			Interned  **bucket = bucket_of(table, v->vector.digest);

			old[i] = v->next;
			v->next = *bucket;
			*bucket = v;
		}
	}
	mem_free(old, (size_t) nold * sizeof(Interned *));
}

static bool
id_in_use(const SettingsTable *table, uint32_t id)
{
	const Interned *v;
	uint32_t	i;

	for (i = 0; i < table->nbuckets; i++)
		for (v = table->buckets[i]; v != NULL; v = v->next)
			if (v->vector.id == id)
				return true;
	return false;
}

/* Ids are looked up only after four billion vectors have come and gone. */
static uint32_t
next_id(SettingsTable *table)
{
	do
	{
		table->last_id++;
		if (table->last_id == 0)
		{
			table->ids_wrapped = true;
			table->last_id = 1;
		}
	} while (table->ids_wrapped && id_in_use(table, table->last_id));
	return table->last_id;
}

/* ---- drafts ---- */

static uint8_t
fold(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
}

/* Compares a folded name with one of any case, as strcmp would. */
static int
compare_folded(const char *folded, const char *name)
{
	const uint8_t *a = (const uint8_t *) folded;
	const uint8_t *b = (const uint8_t *) name;

	while (*a != 0 && *a == fold(*b))
	{
		a++;
		b++;
	}
	return (int) *a - (int) fold(*b);
}

static bool
entry_has_name(const char *entry, Bytes name)
{
	size_t		i;

	for (i = 0; i < name.len; i++)
		if ((uint8_t) entry[i] == 0 || (uint8_t) entry[i] != fold(name.data[i]))
			return false;
	return entry[name.len] == 0;
}

/* The length of the entry at p: name NUL value NUL. A draft holds only whole entries. */
static size_t
entry_len(const char *p)
{
	size_t		name = strlen(p) + 1;

	return name + strlen(p + name) + 1;
}

static void
draft_append(SettingsDraft *draft, Bytes name, Bytes value)
{
	size_t		i;

	if (draft->count >= DRAFT_SETTINGS || name.len > DRAFT_LIMIT || value.len > DRAFT_LIMIT ||
		buffer_len(&draft->bytes) + name.len + value.len + 2 > DRAFT_LIMIT)
	{
		draft->failed = true;
		return;
	}
	if (!buffer_reserve(&draft->bytes, name.len + value.len + 2))
	{
		draft->failed = true;
		return;
	}
	for (i = 0; i < name.len; i++)
		buffer_put_u8(&draft->bytes, fold(name.data[i]));
	buffer_put_u8(&draft->bytes, 0);
	buffer_put_cstr(&draft->bytes, value);
	draft->count++;
}

void
settings_draft_put(SettingsDraft *draft, Bytes name, Bytes value)
{
	if (draft->failed)
		return;
	if ((name.len > 0 && memchr(name.data, 0, name.len) != NULL) ||
		(value.len > 0 && memchr(value.data, 0, value.len) != NULL))
	{
		draft->failed = true;
		return;
	}
	settings_draft_remove(draft, name);
	draft_append(draft, name, value);
}

/* Into an empty draft the names need not be searched for: a vector holds each once. */
void
settings_draft_put_vector(SettingsDraft *draft, const SettingsVector *vector)
{
	bool		empty = draft->count == 0;
	uint32_t	i;

	for (i = 0; vector != NULL && i < vector->count && !draft->failed; i++)
	{
		Bytes		name = bytes_str(vector->settings[i].name);
		Bytes		value = bytes_str(vector->settings[i].value);

		if (empty)
			draft_append(draft, name, value);
		else
			settings_draft_put(draft, name, value);
	}
}

void
settings_draft_remove(SettingsDraft *draft, Bytes name)
{
	size_t		at = 0;

	while (at < buffer_len(&draft->bytes))
	{
		uint8_t    *entry = draft->bytes.data + draft->bytes.start + at;
		size_t		len = entry_len((const char *) entry);

		if (entry_has_name((const char *) entry, name))
		{
			memmove(entry, entry + len, buffer_len(&draft->bytes) - at - len);
			draft->bytes.end -= (uint32_t) len;
			draft->count--;
			return;
		}
		at += len;
	}
}

bool
settings_draft_get(const SettingsDraft *draft, Bytes name, char *value, size_t size)
{
	size_t		at = 0;

	while (at < buffer_len(&draft->bytes))
	{
		const char *entry = (const char *) draft->bytes.data + draft->bytes.start + at;

		if (entry_has_name(entry, name))
		{
			snprintf(value, size, "%s", entry + strlen(entry) + 1);
			return true;
		}
		at += entry_len(entry);
	}
	return false;
}

void
settings_draft_free(SettingsDraft *draft)
{
	buffer_free(&draft->bytes);
	draft->count = 0;
	draft->failed = false;
}

/* ---- the options parameter ---- */

/* Words as pg_split_opts cuts them: `raw` views the word as sent, `text` is without its escapes. */
typedef struct OptionWords
{
	const uint8_t *at;
	const uint8_t *end;
	char	   *text;			/* room for the longest word and its NUL */
	size_t		text_len;
	Bytes		raw;
} OptionWords;

static bool
is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
next_word(OptionWords *words)
{
	bool		escaped = false;
	const uint8_t *start;

	while (words->at < words->end && is_space(*words->at))
		words->at++;
	start = words->at;
	words->text_len = 0;
	while (words->at < words->end && (escaped || !is_space(*words->at)))
	{
		if (!escaped && *words->at == '\\')
			escaped = true;
		else
		{
			escaped = false;
			words->text[words->text_len++] = (char) *words->at;
		}
		words->at++;
	}
	words->text[words->text_len] = '\0';
	words->raw = bytes_of(start, words->at - start);
	return words->at > start;
}

/* name=value, with '-' folded to '_' in the name (PostgreSQL's ParseLongOption). */
static bool
put_assignment(SettingsDraft *draft, char *text, size_t len)
{
	char	   *equal = memchr(text, '=', len);
	char	   *p;

	if (equal == NULL || equal == text)
		return false;
	for (p = text; p < equal; p++)
		if (*p == '-')
			*p = '_';
	settings_draft_put(draft, bytes_of(text, equal - text),
					   bytes_of(equal + 1, len - (equal + 1 - text)));
	return true;
}

/* One switch and its argument, in getopt's manner. False: not a setting. */
static bool
put_switch(SettingsDraft *draft, OptionWords *words)
{
	if (words->text_len < 2 || words->text[0] != '-')
		return false;
	if (words->text[1] == '-')
	{
		/* a bare -- ends the switches, and then nothing may follow */
		if (words->text_len == 2)
			return !next_word(words);
		return put_assignment(draft, words->text + 2, words->text_len - 2);
	}
	if (words->text[1] != 'c')
		return false;
	if (words->text_len > 2)
		return put_assignment(draft, words->text + 2, words->text_len - 2);
	/* -c and its argument in the next word, whatever that looks like */
	return next_word(words) && put_assignment(draft, words->text, words->text_len);
}

bool
settings_draft_put_options(SettingsDraft *draft, Bytes options, Bytes *bad)
{
	OptionWords words;
	bool		good = true;

	*bad = options;
	if (options.len == 0)
		return true;
	if (memchr(options.data, 0, options.len) != NULL)
		return false;
	words.text = options.len < DRAFT_LIMIT ? mem_alloc(options.len + 1) : NULL;
	if (words.text == NULL)
	{
		draft->failed = true;
		return true;
	}
	words.at = options.data;
	words.end = options.data + options.len;
	while (good && next_word(&words))
	{
		*bad = words.raw;
		good = put_switch(draft, &words);
		if (!good && words.raw.len > 0)
			*bad = words.raw;	/* the argument was the culprit, not its -c */
	}
	mem_free(words.text, options.len + 1);
	return good;
}

/* ---- interning ---- */

static int
compare_settings(const void *a, const void *b)
{
	return strcmp(((const Setting *) a)->name, ((const Setting *) b)->name);
}

/* Fills the array from the draft's entries, then sorts it by name. */
static void
collect_settings(const SettingsDraft *draft, Setting *settings)
{
	const char *p = (const char *) draft->bytes.data + draft->bytes.start;
	uint32_t	i;

	for (i = 0; i < draft->count; i++)
	{
		settings[i].name = p;
		settings[i].value = p + strlen(p) + 1;
		p += entry_len(p);
	}
	if (draft->count > 1)
		qsort(settings, draft->count, sizeof(Setting), compare_settings);
}

/* Lays the bytes down in the settings' order, and points the settings at them. */
static void
write_canonical(char *to, Setting *settings, uint32_t count)
{
	uint32_t	i;

	for (i = 0; i < count; i++)
	{
		size_t		name_len = strlen(settings[i].name) + 1;
		size_t		value_len = strlen(settings[i].value) + 1;

		memcpy(to, settings[i].name, name_len);
		memcpy(to + name_len, settings[i].value, value_len);
		settings[i].name = to;
		settings[i].value = to + name_len;
		to += name_len + value_len;
	}
}

/* A vector of the draft that is in no table yet. */
static Interned *
make_vector(const SettingsDraft *draft)
{
	size_t		bytes_len = buffer_len(&draft->bytes);
	size_t		size = sizeof(Interned) + draft->count * sizeof(Setting) + bytes_len;
	Interned   *v = mem_zalloc(size);
	char	   *bytes;

	if (v == NULL)
		return NULL;
	bytes = (char *) v + sizeof(Interned) + draft->count * sizeof(Setting);
	if (draft->count > 0)
	{
		collect_settings(draft, v->settings);
		write_canonical(bytes, v->settings, draft->count);
	}
	v->size = size;
	v->bytes = bytes;
	v->bytes_len = bytes_len;
	v->vector.count = draft->count;
	v->vector.settings = v->settings;
	v->vector.digest = digest_of(bytes_of(bytes, bytes_len));
	return v;
}

static Interned *
find_equal(const SettingsTable *table, const Interned *v)
{
	Interned   *at = *bucket_of(table, v->vector.digest);

	while (at != NULL &&
		   !(digest_equal(at->vector.digest, v->vector.digest) &&
			 bytes_equal(bytes_of(at->bytes, at->bytes_len), bytes_of(v->bytes, v->bytes_len))))
		at = at->next;
	return at;
}

static void
enter_vector(SettingsTable *table, Interned *v)
{
	Interned  **bucket;

	if (table->count >= table->nbuckets)
		table_grow(table);
	v->vector.id = next_id(table);
	bucket = bucket_of(table, v->vector.digest);
	v->next = *bucket;
	*bucket = v;
	table->count++;
}

const SettingsVector *
settings_intern(SettingsTable *table, SettingsDraft *draft)
{
	Interned   *v = draft->failed || draft->bytes.failed ? NULL : make_vector(draft);
	Interned   *known;

	settings_draft_free(draft);
	if (v == NULL)
		return NULL;
	known = find_equal(table, v);
	if (known != NULL || table->count >= table->max_vectors)
	{
		mem_free(v, v->size);
		v = known;
	}
	else
		enter_vector(table, v);
	if (v == NULL)
		return NULL;
	v->vector.refs++;
	return &v->vector;
}

/* Vectors are constant to all but this file, which made them and counts their holders. */
void
settings_ref(const SettingsVector *vector)
{
	if (vector != NULL)
		((SettingsVector *) (uintptr_t) vector)->refs++;
}

void
settings_note_refusal(const SettingsVector *vector, bool refused)
{
	((Interned *) (uintptr_t) vector)->vector.refused = refused;
}

void
settings_unref(SettingsTable *table, const SettingsVector *vector)
{
	Interned   *v = (Interned *) (uintptr_t) vector;
	Interned  **at;

	if (v == NULL || --v->vector.refs > 0)
		return;
	at = bucket_of(table, v->vector.digest);
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	table->count--;
	mem_free(v, v->size);
}

/* ---- questions ---- */

const char *
settings_get(const SettingsVector *vector, const char *name)
{
	uint32_t	low = 0;
	uint32_t	high = vector != NULL ? vector->count : 0;

	while (low < high)
	{
		uint32_t	middle = low + (high - low) / 2;
		int			order = compare_folded(vector->settings[middle].name, name);

		if (order == 0)
			return vector->settings[middle].value;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void
settings_difference(const SettingsVector *from, const SettingsVector *to,
					void (*change) (void *arg, const char *name, const char *value), void *arg)
{
	uint32_t	from_count = from != NULL ? from->count : 0;
	uint32_t	to_count = to != NULL ? to->count : 0;
	uint32_t	f = 0;
	uint32_t	t;

	for (t = 0; t < to_count; t++)
	{
		const Setting *want = &to->settings[t];

		while (f < from_count && strcmp(from->settings[f].name, want->name) < 0)
			f++;
		if (f >= from_count || strcmp(from->settings[f].name, want->name) != 0 ||
			strcmp(from->settings[f].value, want->value) != 0)
			change(arg, want->name, want->value);
	}
}

/* Of some settings a new value may say a part alone: after "German", which means DMY too, "ISO" would be something else than "ISO" at first. */
static bool
keeps_a_part(const char *name)
{
	return strcmp(name, "datestyle") == 0;
}

bool
settings_need_reset(const SettingsVector *from, const SettingsVector *to)
{
	uint32_t	from_count = from != NULL ? from->count : 0;
	uint32_t	to_count = to != NULL ? to->count : 0;
	uint32_t	t = 0;
	uint32_t	f;

	for (f = 0; f < from_count; f++)
	{
		while (t < to_count && strcmp(to->settings[t].name, from->settings[f].name) < 0)
			t++;
		if (t >= to_count || strcmp(to->settings[t].name, from->settings[f].name) != 0)
			return true;
		if (keeps_a_part(to->settings[t].name) && strcmp(to->settings[t].value, from->settings[f].value) != 0)
			return true;
	}
	return false;
}
