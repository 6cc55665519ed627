/*
 * core/statement.c - a statement and its facts, as plain data.
 *
 * Answers: what is known of this text, and what does that permit?
 * Owns the worker's table of interned statements and their facts. A statement
 * with references lives; one without waits in the idle list, oldest first to
 * go, because analysing its text again would cost more than keeping it.
 * Never: parses SQL, knows names clients gave.
 */
#include "core/statement.h"

#define FIRST_BUCKETS	256
#define MAX_TYPES_LEN	(65535 * 4)	/* a Parse message counts its types in 16 bits */

struct StatementTable
{
	Statement **buckets;
	size_t		nbuckets;		/* a power of two */
	size_t		count;
	size_t		idle_bytes;
	size_t		max_idle_bytes;
	Statement  *oldest;			/* of the idle list */
	Statement  *newest;
};

StatementTable *
statement_table_create(size_t max_idle_bytes)
{
	StatementTable *table = mem_zalloc(sizeof(StatementTable));

	if (table == NULL)
		return NULL;
	table->nbuckets = FIRST_BUCKETS;
	table->max_idle_bytes = max_idle_bytes;
	table->buckets = mem_zalloc(table->nbuckets * sizeof(Statement *));
	if (table->buckets == NULL)
	{
		mem_free(table, sizeof(StatementTable));
		return NULL;
	}
	return table;
}

static size_t
allocation_size(const Statement *s)
{
	return sizeof(Statement) + s->types_len + (size_t) s->text_len + 1;
}

/* What keeping s costs. Constant while s is idle: only holders of a reference fill in facts. */
static size_t
statement_cost(const Statement *s)
{
	return allocation_size(s) + (s->facts.target != NULL ? strlen(s->facts.target) + 1 : 0);
}

static void
statement_free(Statement *s)
{
	mem_free_str(s->facts.target);
	mem_free(s, allocation_size(s));
}

void
statement_table_destroy(StatementTable *table)
{
	size_t		i;

	if (table == NULL)
		return;
	for (i = 0; i < table->nbuckets; i++)
	{
		Statement  *s = table->buckets[i];

		while (s != NULL)
		{
			Statement  *next = s->next_in_bucket;

			statement_free(s);
			s = next;
		}
	}
	mem_free(table->buckets, table->nbuckets * sizeof(Statement *));
	mem_free(table, sizeof(StatementTable));
}

size_t
statement_table_count(const StatementTable *table)
{
	return table->count;
}

/* ---- buckets ---- */

static Statement **
bucket_of(const StatementTable *table, Digest128 digest)
{
	return &table->buckets[digest.lo & (table->nbuckets - 1)];
}

/* Doubles the buckets; without memory the chains just grow longer. */
static void
table_grow(StatementTable *table)
{
	Statement **old = table->buckets;
	size_t		nold = table->nbuckets;
	Statement **fresh;
	size_t		i;

	if (nold > SIZE_MAX / 4 / sizeof(Statement *))
		return;
	fresh = mem_zalloc(nold * 2 * sizeof(Statement *));
	if (fresh == NULL)
		return;
	table->buckets = fresh;
	table->nbuckets = nold * 2;
	for (i = 0; i < nold; i++)
	{
		while (old[i] != NULL)
		{
			Statement  *s = old[i];
			Statement **bucket = bucket_of(table, s->digest);

			old[i] = s->next_in_bucket;
			s->next_in_bucket = *bucket;
			*bucket = s;
		}
	}
	mem_free(old, nold * sizeof(Statement *));
}

static void
bucket_remove(StatementTable *table, Statement *s)
{
	Statement **at = bucket_of(table, s->digest);

	while (*at != s)
		at = &(*at)->next_in_bucket;
	*at = s->next_in_bucket;
	table->count--;
}

/* ---- the idle list ---- */

static void
idle_append(StatementTable *table, Statement *s)
{
	s->older = table->newest;
	s->newer = NULL;
	if (table->newest != NULL)
		table->newest->newer = s;
	else
		table->oldest = s;
	table->newest = s;
	table->idle_bytes += statement_cost(s);
}

static void
idle_remove(StatementTable *table, Statement *s)
{
	if (s->older != NULL)
		s->older->newer = s->newer;
	else
		table->oldest = s->newer;
	if (s->newer != NULL)
		s->newer->older = s->older;
	else
		table->newest = s->older;
	s->older = NULL;
	s->newer = NULL;
	table->idle_bytes -= statement_cost(s);
}

static void
idle_shrink(StatementTable *table)
{
	while (table->oldest != NULL && table->idle_bytes > table->max_idle_bytes)
	{
		Statement  *s = table->oldest;

		idle_remove(table, s);
		bucket_remove(table, s);
		statement_free(s);
	}
}

/* ---- interning ---- */

/* Both parts are digested by themselves, so that where one ends cannot be mistaken. */
static Digest128
statement_digest(Bytes text, Bytes types)
{
	Digest128	digest = digest_of(text);
	Digest128	of_types;

	if (types.len > 0)
	{
		of_types = digest_of(types);
		digest.lo ^= of_types.lo << 1 | of_types.lo >> 63;
		digest.hi ^= of_types.hi << 1 | of_types.hi >> 63;
	}
	return digest;
}

static Statement *
table_find(const StatementTable *table, Digest128 digest, Bytes text, Bytes types)
{
	Statement  *s = *bucket_of(table, digest);

	while (s != NULL &&
		   !(digest_equal(s->digest, digest) &&
			 bytes_equal(statement_text(s), text) && bytes_equal(statement_types(s), types)))
		s = s->next_in_bucket;
	return s;
}

static Statement *
table_enter(StatementTable *table, Digest128 digest, Bytes text, Bytes types)
{
	Statement  *s;
	Statement **bucket;

	if (text.len > BUFFER_LIMIT || types.len > MAX_TYPES_LEN)
		return NULL;
	s = mem_alloc(sizeof(Statement) + types.len + text.len + 1);
	if (s == NULL)
		return NULL;
	memset(s, 0, sizeof(Statement));
	s->digest = digest;
	s->text_len = (uint32_t) text.len;
	s->types_len = (uint32_t) types.len;
	if (types.len > 0)
		memcpy(s->bytes, types.data, types.len);
	if (text.len > 0)
		memcpy(s->bytes + types.len, text.data, text.len);
	s->bytes[types.len + text.len] = 0;
	if (table->count >= table->nbuckets)
		table_grow(table);
	bucket = bucket_of(table, digest);
	s->next_in_bucket = *bucket;
	*bucket = s;
	table->count++;
	return s;
}

Statement *
statement_intern(StatementTable *table, Bytes text, Bytes types, bool *fresh)
{
	Digest128	digest = statement_digest(text, types);
	Statement  *s = table_find(table, digest, text, types);

	*fresh = s == NULL;
	if (s == NULL)
		s = table_enter(table, digest, text, types);
	else if (s->refs == 0)
		idle_remove(table, s);
	if (s != NULL)
		s->refs++;
	return s;
}

/* The caller holds a reference already, or s would be in the idle list. */
void
statement_ref(Statement *s)
{
	s->refs++;
}

void
statement_unref(StatementTable *table, Statement *s)
{
	if (s == NULL || --s->refs > 0)
		return;
	idle_append(table, s);
	idle_shrink(table);
}

/* ---- what effects permit ---- */

LinkAfter
effects_link_after(uint32_t effects)
{
	/* a union of statements has no order, so a BIND beside an UNBIND still binds */
	if (effects & EFFECT_BIND)
		return LINK_AFTER_BOUND;
	if (effects & EFFECT_RETIRE)
		return LINK_AFTER_RETIRE;
	/* DISCARD ALL took away our own settings too: the reset makes the link's state known again */
	if (effects & (EFFECT_DIRTY | EFFECT_SETTINGS | EFFECT_UNKNOWN | EFFECT_UNBIND))
		return LINK_AFTER_RESET;
	return LINK_AFTER_CLEAN;
}

bool
effects_may_repeat(uint32_t effects)
{
	return (effects & (EFFECT_WRITES | EFFECT_DIRTY | EFFECT_SETTINGS | EFFECT_BIND | EFFECT_UNBIND |
					   EFFECT_RETIRE | EFFECT_BEGIN | EFFECT_END | EFFECT_COPY | EFFECT_UNKNOWN)) == 0;
}

const char *
statement_kind_name(StatementKind kind)
{
	switch (kind)
	{
		case STATEMENT_UNKNOWN:
			return "unknown";
		case STATEMENT_EMPTY:
			return "empty";
		case STATEMENT_READ:
			return "read";
		case STATEMENT_WRITE:
			return "write";
		case STATEMENT_TRANSACTION:
			return "transaction";
		case STATEMENT_SET:
			return "set";
		case STATEMENT_SHOW:
			return "show";
		case STATEMENT_DEALLOCATE:
			return "deallocate";
		case STATEMENT_EXECUTE:
			return "execute";
		case STATEMENT_DISCARD_ALL:
			return "discard all";
		case STATEMENT_COPY:
			return "copy";
		case STATEMENT_OTHER:
			return "other";
		case STATEMENT_SEVERAL:
			return "several";
	}
	return "unknown";
}
