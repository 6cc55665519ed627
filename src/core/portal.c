/*
 * core/portal.c - which statements has this client named, and on which link
 * are they prepared?
 *
 * Owns two maps and the references in them. StatementNames is open addressing
 * with backward-shift deletion, so that it needs no tombstones and
 * gives its memory back when its last name goes. LinkStatements keeps each
 * entry in two hash chains (by statement and settings, by number) and in
 * one list by time of use. Never: sends anything.
 */
#include "core/portal.h"

#include <stdio.h>

#define FIRST_NAMES		8
#define FIRST_BUCKETS	16
#define LINK_NAME_PREFIX	"hyperpool_"

/* ---- a client's named statements ---- */

typedef struct StatementName
{
	char	   *name;			/* owned */
	size_t		name_len;
	uint64_t	hash;
	Statement  *statement;		/* NULL: the slot is free */
	Shape		shape;
} StatementName;

static uint64_t
hash_of(Bytes name)
{
	return digest_of(name_that_counts(name)).lo;
}

/* The slot of the name, or the free one where it would go. The map has memory and a free slot. */
static uint32_t
names_slot(const StatementNames *map, Bytes name, uint64_t hash)
{
	uint32_t	i = (uint32_t) hash & (map->size - 1);

	while (map->names[i].statement != NULL &&
		   !(map->names[i].hash == hash &&
			 bytes_equal(name_that_counts(bytes_of(map->names[i].name, map->names[i].name_len)), name_that_counts(name))))
		i = (i + 1) & (map->size - 1);
	return i;
}

Statement *
names_get(const StatementNames *map, Bytes name)
{
	if (map->count == 0)
		return NULL;
	return map->names[names_slot(map, name, hash_of(name))].statement;
}

/* Makes sure that a free slot remains after one more name: at most three quarters are used. */
static bool
names_make_room(StatementNames *map)
{
	uint32_t	size = map->size == 0 ? FIRST_NAMES : map->size * 2;
	StatementNames grown;
	uint32_t	i;

	if (map->size > 0 && map->count + 1 <= map->size - map->size / 4)
		return true;
	if (map->size > UINT32_C(1) << 26)
		return false;
	grown.count = map->count;
	grown.size = size;
	grown.names = mem_zalloc(size * sizeof(StatementName));
	if (grown.names == NULL)
		return false;
	for (i = 0; i < map->size; i++)
	{
		StatementName *old = &map->names[i];

		if (old->statement != NULL)
			grown.names[names_slot(&grown, bytes_of(old->name, old->name_len), old->hash)] = *old;
	}
	mem_free(map->names, map->size * sizeof(StatementName));
	*map = grown;
	return true;
}

static void
names_give_back(StatementNames *map)
{
	mem_free(map->names, map->size * sizeof(StatementName));
	memset(map, 0, sizeof(*map));
}

bool
names_put(StatementNames *map, Bytes name, Statement *s)
{
	StatementName entry = {0};

	entry.name = bytes_copy(name);
	if (entry.name == NULL)
		return false;
	if (!names_make_room(map))
	{
		mem_free_str(entry.name);
		return false;
	}
	entry.name_len = name.len;
	entry.hash = hash_of(name);
	entry.statement = s;
	map->names[names_slot(map, name, entry.hash)] = entry;
	map->count++;
	return true;
}

/* Frees slot i and moves up every later entry of the run that may not stay behind a gap. */
static void
names_close_gap(StatementNames *map, uint32_t i)
{
	uint32_t	mask = map->size - 1;
	uint32_t	j = i;

	for (;;)
	{
		uint32_t	home;

		map->names[i].statement = NULL;
		do
		{
			j = (j + 1) & mask;
			if (map->names[j].statement == NULL)
				return;
			home = (uint32_t) map->names[j].hash & mask;
		} while (((j - home) & mask) < ((j - i) & mask));
		map->names[i] = map->names[j];
		i = j;
	}
}

Shape *
names_shape(const StatementNames *map, Bytes name)
{
	StatementName *entry;

	if (map->count == 0)
		return NULL;
	entry = &map->names[names_slot(map, name, hash_of(name))];
	return entry->statement != NULL ? &entry->shape : NULL;
}

static Bytes
name_of(const StatementName *entry)
{
	return bytes_of(entry->name, entry->name_len);
}

Bytes
names_find(const StatementNames *map, bool (*is_it) (void *arg, Bytes name, const Statement *s), void *arg)
{
	uint32_t	i;

	for (i = 0; i < map->size; i++)
		if (map->names[i].statement != NULL && is_it(arg, name_of(&map->names[i]), map->names[i].statement))
			return name_of(&map->names[i]);
	return bytes_of(NULL, 0);
}

Statement *
names_take(StatementNames *map, Bytes name)
{
	uint32_t	i;
	Statement  *s;

	if (map->count == 0)
		return NULL;
	i = names_slot(map, name, hash_of(name));
	s = map->names[i].statement;
	if (s == NULL)
		return NULL;
	mem_free_str(map->names[i].name);
	names_close_gap(map, i);
	map->count--;
	if (map->count == 0)
		names_give_back(map);
	return s;
}

void
names_clear(StatementNames *map, StatementTable *table)
{
	uint32_t	i;

	for (i = 0; i < map->size; i++)
	{
		StatementName *entry = &map->names[i];

		if (entry->statement != NULL)
		{
			mem_free_str(entry->name);
			statement_unref(table, entry->statement);
		}
	}
	if (map->names != NULL)
		names_give_back(map);
}

void
names_put_back(StatementNames *to, StatementNames *from, StatementTable *table)
{
	uint32_t	i;

	for (i = 0; i < from->size; i++)
	{
		StatementName *entry = &from->names[i];

		if (entry->statement == NULL || names_get(to, name_of(entry)) != NULL || !names_put(to, name_of(entry), entry->statement))
			continue;
		*names_shape(to, name_of(entry)) = entry->shape;
		statement_ref(entry->statement);
	}
	names_clear(from, table);
}

/* ---- what one link has prepared ---- */

typedef struct LinkStatement
{
	Statement  *statement;		/* a reference */
	const SettingsVector *settings; /* a reference, or NULL */
	Shape		shape;
	uint32_t	number;
	uint64_t	used_in;		/* the map's flight when last found or added */
	uint64_t	asked_in;		/* the map's flight when its last Parse was sent */
	uint32_t	asked;			/* Parses sent and not answered */
	uint64_t	strayed_in;		/* the map's stay when its last Parse was sent, if settings had strayed; else 0 */
	struct LinkStatement *next_by_key;
	struct LinkStatement *next_by_number;
	struct LinkStatement *older;	/* list by last use */
	struct LinkStatement *newer;
} LinkStatement;

struct LinkStatements
{
	StatementTable *statements;
	SettingsTable *settings;
	LinkStatement **by_key;		/* nbuckets chains each */
	LinkStatement **by_number;
	uint32_t	nbuckets;		/* a power of two */
	uint32_t	count;
	uint32_t	capacity;
	uint32_t	last_number;
	uint64_t	flight;			/* moves with each settle */
	uint64_t	stay;			/* moves with each part */
	bool		astray;
	LinkStatement *oldest;
	LinkStatement *newest;
};

static uint32_t link_names_random;

static bool
buckets_alloc(LinkStatements *map, uint32_t nbuckets)
{
	LinkStatement **by_key = mem_zalloc(nbuckets * sizeof(LinkStatement *));
	LinkStatement **by_number = mem_zalloc(nbuckets * sizeof(LinkStatement *));

	if (by_key == NULL || by_number == NULL)
	{
		if (by_key != NULL)
			mem_free(by_key, nbuckets * sizeof(LinkStatement *));
		if (by_number != NULL)
			mem_free(by_number, nbuckets * sizeof(LinkStatement *));
		return false;
	}
	map->by_key = by_key;
	map->by_number = by_number;
	map->nbuckets = nbuckets;
	return true;
}

LinkStatements *
link_statements_create(StatementTable *statements, SettingsTable *settings, uint32_t capacity)
{
	LinkStatements *map = mem_zalloc(sizeof(LinkStatements));

	if (map == NULL)
		return NULL;
	if (!buckets_alloc(map, FIRST_BUCKETS))
	{
		mem_free(map, sizeof(LinkStatements));
		return NULL;
	}
	map->statements = statements;
	map->settings = settings;
	map->capacity = capacity > 0 ? capacity : 1;
	map->flight = 1;
	map->stay = 1;
	return map;
}

void
link_statements_destroy(LinkStatements *map)
{
	if (map == NULL)
		return;
	link_statements_clear(map);
	mem_free(map->by_key, map->nbuckets * sizeof(LinkStatement *));
	mem_free(map->by_number, map->nbuckets * sizeof(LinkStatement *));
	mem_free(map, sizeof(LinkStatements));
}

uint32_t
link_statements_count(const LinkStatements *map)
{
	return map->count;
}

/* Both objects are interned, so their digests (keyed, hence not to be aimed at) serve as hashes. */
static LinkStatement **
key_bucket(const LinkStatements *map, const Statement *s, const SettingsVector *settings)
{
	uint64_t	hash = s->digest.lo ^ (settings != NULL ? settings->digest.lo : 0);

	return &map->by_key[hash & (map->nbuckets - 1)];
}

static LinkStatement **
number_bucket(const LinkStatements *map, uint32_t number)
{
	return &map->by_number[number & (map->nbuckets - 1)];
}

static void
buckets_enter(LinkStatements *map, LinkStatement *entry)
{
	LinkStatement **bucket = key_bucket(map, entry->statement, entry->settings);

	entry->next_by_key = *bucket;
	*bucket = entry;
	bucket = number_bucket(map, entry->number);
	entry->next_by_number = *bucket;
	*bucket = entry;
}

static void
buckets_leave(LinkStatements *map, LinkStatement *entry)
{
	LinkStatement **at = key_bucket(map, entry->statement, entry->settings);

	while (*at != entry)
		at = &(*at)->next_by_key;
	*at = entry->next_by_key;
	at = number_bucket(map, entry->number);
	while (*at != entry)
		at = &(*at)->next_by_number;
	*at = entry->next_by_number;
}

/* Doubles the buckets; without memory the chains just grow longer. */
static void
buckets_grow(LinkStatements *map)
{
	LinkStatement **by_key = map->by_key;
	LinkStatement **by_number = map->by_number;
	uint32_t	nold = map->nbuckets;
	LinkStatement *entry;

	if (nold > UINT32_C(1) << 26 || !buckets_alloc(map, nold * 2))
		return;
	mem_free(by_key, nold * sizeof(LinkStatement *));
	mem_free(by_number, nold * sizeof(LinkStatement *));
	for (entry = map->oldest; entry != NULL; entry = entry->newer)
		buckets_enter(map, entry);
}

static void
used_remove(LinkStatements *map, LinkStatement *entry)
{
	if (entry->older != NULL)
		entry->older->newer = entry->newer;
	else
		map->oldest = entry->newer;
	if (entry->newer != NULL)
		entry->newer->older = entry->older;
	else
		map->newest = entry->older;
}

static void
used_append(LinkStatements *map, LinkStatement *entry)
{
	entry->used_in = map->flight;
	entry->older = map->newest;
	entry->newer = NULL;
	if (map->newest != NULL)
		map->newest->newer = entry;
	else
		map->oldest = entry;
	map->newest = entry;
}

static void
entry_drop(LinkStatements *map, LinkStatement *entry)
{
	buckets_leave(map, entry);
	used_remove(map, entry);
	map->count--;
	statement_unref(map->statements, entry->statement);
	settings_unref(map->settings, entry->settings);
	mem_free(entry, sizeof(LinkStatement));
}

uint32_t
link_statements_find(LinkStatements *map, const Statement *s, const SettingsVector *settings)
{
	LinkStatement *entry = *key_bucket(map, s, settings);

	while (entry != NULL && !(entry->statement == s && entry->settings == settings))
		entry = entry->next_by_key;
	if (entry == NULL)
		return 0;
	used_remove(map, entry);
	used_append(map, entry);
	return entry->number;
}

/*
 * Room for one more: the least recently used goes, unless it is in flight. As
 * uses are listed in order, then all the others are in flight too.
 */
static uint32_t
make_room(LinkStatements *map)
{
	LinkStatement *entry = map->oldest;
	uint32_t	number;

	if (map->count < map->capacity || entry == NULL || entry->used_in == map->flight)
		return 0;
	number = entry->number;
	entry_drop(map, entry);
	return number;
}

uint32_t
link_statements_add(LinkStatements *map, Statement *s, const SettingsVector *settings, uint32_t *evicted)
{
	LinkStatement *entry;

	*evicted = 0;
	if (map->last_number == UINT32_MAX)
		return 0;
	entry = mem_zalloc(sizeof(LinkStatement));
	if (entry == NULL)
		return 0;
	statement_ref(s);
	settings_ref(settings);
	entry->statement = s;
	entry->settings = settings;
	*evicted = make_room(map);
	if (map->count >= map->nbuckets)
		buckets_grow(map);
	entry->number = ++map->last_number;
	buckets_enter(map, entry);
	used_append(map, entry);
	map->count++;
	return entry->number;
}

static LinkStatement *
entry_of(LinkStatements *map, uint32_t number)
{
	LinkStatement *entry = *number_bucket(map, number);

	while (entry != NULL && entry->number != number)
		entry = entry->next_by_number;
	return entry;
}

Shape *
link_statements_shape(LinkStatements *map, uint32_t number)
{
	LinkStatement *entry = entry_of(map, number);

	return entry != NULL ? &entry->shape : NULL;
}

void
link_statements_remove(LinkStatements *map, uint32_t number)
{
	LinkStatement *entry = entry_of(map, number);

	if (entry != NULL)
		entry_drop(map, entry);
}

void
link_statements_asked(LinkStatements *map, uint32_t number)
{
	LinkStatement *entry = entry_of(map, number);

	if (entry == NULL)
		return;
	entry->asked++;
	entry->asked_in = map->flight;
	entry->strayed_in = map->astray ? map->stay : 0;
}

void
link_statements_answered(LinkStatements *map, uint32_t number, bool well)
{
	LinkStatement *entry = entry_of(map, number);

	if (entry == NULL)
		return;
	if (entry->asked > 0)
		entry->asked--;
	if (!well && entry->asked == 0)
		entry_drop(map, entry);
}

bool
link_statements_pending(LinkStatements *map, uint32_t number)
{
	LinkStatement *entry = entry_of(map, number);

	return entry != NULL && ((entry->asked > 0 && entry->asked_in != map->flight) || (entry->strayed_in != 0 && entry->strayed_in != map->stay));
}

void
link_statements_stray(LinkStatements *map)
{
	map->astray = true;
}

bool
link_statements_part(LinkStatements *map)
{
	bool		strayed = map->astray;

	map->astray = false;
	map->stay++;
	return strayed;
}

void
link_statements_settle(LinkStatements *map)
{
	map->flight++;
}

void
link_statements_clear(LinkStatements *map)
{
	while (map->oldest != NULL)
		entry_drop(map, map->oldest);
}

/* ---- link names ---- */

void
link_names_seed(uint32_t random)
{
	link_names_random = random;
}

Bytes
link_statement_name(uint32_t number, char buf[LINK_NAME_MAX])
{
	int			len = snprintf(buf, LINK_NAME_MAX, LINK_NAME_PREFIX "%08x_%u",
							   (unsigned int) link_names_random, (unsigned int) number);

	return bytes_of(buf, (size_t) len);
}

static bool
is_number(Bytes text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
	return text.len > 0;
}

/* The prefix, the digits of this process, an underscore, a number. Those of another hyperpool, in front of this one, are names like any. */
bool
link_name_is_ours(Bytes name)
{
	char		buf[LINK_NAME_MAX];
	size_t		prefix = link_statement_name(0, buf).len - 1;

	return name.len > prefix && memcmp(name.data, buf, prefix) == 0 && is_number(bytes_of(name.data + prefix, name.len - prefix));
}
