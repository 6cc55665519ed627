/*
 * core/statement.c - a statement and its facts, as plain data.
 *
 * Answers: what is known of this text, and what does that permit?
 * Owns the worker's table of interned statements, their facts and proofs. A statement
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

/* What keeping s costs. Constant while s is idle: only holders of a reference fill in facts and proof. */
static size_t
statement_cost(const Statement *s)
{
	size_t		cost = allocation_size(s);

	if (s->facts.target != NULL)
		cost += strlen(s->facts.target) + 1;
	if (s->facts.mentions != NULL)
		cost += s->facts.mentions->size;
	if (s->proof != NULL)
		cost += sizeof(Proof);
	return cost;
}

static void
statement_free(Statement *s)
{
	mem_free_str(s->facts.target);
	mentions_free(s->facts.mentions);
	if (s->proof != NULL)
		mem_free(s->proof, sizeof(Proof));
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

/* ---- mentions ---- */

/* Stands still at anything that does not fit, so that a damaged one is merely short. */
bool
mentions_next(const Mentions *m, uint32_t *at, Mention *out)
{
	const uint8_t *p;
	size_t		left;
	size_t		len;

	if (m == NULL || *at > m->size - sizeof(Mentions))
		return false;
	p = m->bytes + *at;
	left = m->size - sizeof(Mentions) - *at;
	if (left < 3 || left - 3 < (size_t) p[1] + p[2])
		return false;
	len = (size_t) p[1] + p[2];
	out->kind = (MentionKind) p[0];
	out->schema = bytes_of(p + 3, p[1]);
	out->name = bytes_of(p + 3 + p[1], p[2]);
	*at += (uint32_t) (3 + len);
	return true;
}

void
mentions_free(Mentions *m)
{
	if (m != NULL)
		mem_free(m, m->size);
}

/* ---- reasons ---- */

typedef struct ReasonRow
{
	CacheStatus status;
	const char *words;
} ReasonRow;

static const ReasonRow reasons[REASON_LIMIT] = {
	[REASON_CACHEABLE] = {CACHE_MISS, "its answer can be kept"},
	[REASON_DISABLED] = {CACHE_DISABLED, "the origin's option cache is off"},
	[REASON_DISABLED_SESSION] = {CACHE_DISABLED, "hyperpool.cache is off in the session"},
	[REASON_DISABLED_HINT] = {CACHE_DISABLED, "a hint in the text turns the cache off"},
	[REASON_DISABLED_RULE] = {CACHE_DISABLED, "a rule excludes what it reads"},
	[REASON_NO_MEMORY] = {CACHE_DISABLED, "hyperpool.cache_size is 0"},
	[REASON_NOT_A_READ] = {CACHE_NOT_A_QUERY, "it is not a plain read"},
	[REASON_SEVERAL] = {CACHE_MULTIPLE_STATEMENTS, "the text holds several statements"},
	[REASON_NOT_PARSED] = {CACHE_PARSE_ERROR, "the text could not be analysed"},
	[REASON_OVERSIZED_QUERY] = {CACHE_OVERSIZED_QUERY, "the text or its parameters are too long"},
	[REASON_OVERSIZED_RESULT] = {CACHE_OVERSIZED_RESULT, "its answer is larger than max_result_size"},
	[REASON_TRANSACTION] = {CACHE_TRANSACTION, "it ran inside a transaction block"},
	[REASON_BOUND] = {CACHE_UNCACHEABLE, "the session holds state of its own at the origin"},
	[REASON_PIPELINE] = {CACHE_UNCACHEABLE, "it was sent in a form or an order that is not cached"},
	[REASON_LOCKING] = {CACHE_UNCACHEABLE, "it locks rows"},
	[REASON_TIME] = {CACHE_VOLATILE, "its answer depends on the clock"},
	[REASON_FUNCTION] = {CACHE_VOLATILE, "it calls a function that is not immutable"},
	[REASON_OPERATOR] = {CACHE_VOLATILE, "it uses an operator that is not immutable"},
	[REASON_TYPE] = {CACHE_VOLATILE, "it uses a type or cast whose functions are not immutable"},
	[REASON_RELATION_KIND] = {CACHE_UNCACHEABLE, "it reads a relation of a kind that is not cached"},
	[REASON_UNKNOWN_RELATION] = {CACHE_UNCACHEABLE, "it names a relation that the origin is not known to have"},
	[REASON_UNKNOWN_FUNCTION] = {CACHE_UNCACHEABLE, "it names a function that the origin is not known to have"},
	[REASON_FACTS_UNKNOWN] = {CACHE_UNCACHEABLE, "the origin's catalog is not known at present"},
	[REASON_STANDBY] = {CACHE_UNCACHEABLE, "the origin answered as a standby"},
	[REASON_WRITES_IN_FLIGHT] = {CACHE_MISS, "a write to what it reads was under way"},
	[REASON_ANSWER] = {CACHE_UNCACHEABLE, "its answer held an error, a notice or something else that is not kept"},
};

CacheStatus
reason_status(CacheReason reason)
{
	return (unsigned) reason < REASON_LIMIT ? reasons[reason].status : CACHE_UNCACHEABLE;
}

const char *
reason_words(CacheReason reason)
{
	return (unsigned) reason < REASON_LIMIT ? reasons[reason].words : "it is not known why";
}

const char *
cache_status_name(CacheStatus status)
{
	switch (status)
	{
		case CACHE_DISABLED:
			return "disabled";
		case CACHE_HIT:
			return "hit";
		case CACHE_MISS:
			return "miss";
		case CACHE_UNCACHEABLE:
			return "uncacheable";
		case CACHE_MULTIPLE_STATEMENTS:
			return "multiplestatements";
		case CACHE_NOT_A_QUERY:
			return "notaquery";
		case CACHE_OVERSIZED_QUERY:
			return "oversizedquery";
		case CACHE_OVERSIZED_RESULT:
			return "oversizedresult";
		case CACHE_PARSE_ERROR:
			return "parseerror";
		case CACHE_TRANSACTION:
			return "transaction";
		case CACHE_VOLATILE:
			return "volatile";
		case CACHE_STATUS_LIMIT:
			break;
	}
	return "uncacheable";
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
					   EFFECT_RETIRE | EFFECT_BEGIN | EFFECT_END | EFFECT_COPY | EFFECT_UNKNOWN | EFFECT_RESETS |
					   EFFECT_PERHAPS | EFFECT_SETS_NAMED)) == 0;
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
