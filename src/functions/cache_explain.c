/*
 * functions/cache_explain.c - why a text is answered from the cache, or not.      floor 8
 *
 * Answers: explain_query(origin, query): what the gateway would make of this text now, by the same analysis, facts and rules as a worker.
 * What hangs on one session (a transaction, its settings, bound state) or on values of parameters is not known here. Of answers that are there only those count whose
 * role the caller has, or any for pg_read_all_stats: whether somebody else has asked this is not told.
 *
 * Owns nothing. Never: sends the text anywhere, looks at an answer.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/cachekey.h"
#include "functions/cache_internal.h"
#include "host/analyze.h"
#include "host/store.h"
#include "host/text.h"
#include "host/versions.h"

#define COLUMNS			11

extern PGDLLEXPORT Datum hyperpool_explain_query(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_explain_query);

/* What is said of one text. */
typedef struct Explanation
{
	const DirectoryOrigin *origin;
	Bytes		text;			/* trimmed */
	TextHints	hints;			/* of the comments before it */
	StatementFacts statement;
	FactsState	state;
	const Facts *facts;			/* NULL: none */
	Proof		proof;
	char		culprit[128];	/* "" or the name at fault */
	CacheReason reason;
	int64		max_age;		/* microseconds */
	int64		now;
	bool		all_entries;	/* else those of the caller's roles */
	int64		entries;		/* that hold */
	int64		youngest;		/* its birth; 0 = none */
} Explanation;

/* ---- the verdict ---- */

/* In the order of session_cache_reason. */
static CacheReason
find_reason(const Explanation *e)
{
	CacheReason reason = (CacheReason) e->proof.reason;

	if (!store_enabled())
		return REASON_NO_MEMORY;
	if (reason == REASON_NOT_A_READ || reason == REASON_SEVERAL || reason == REASON_NOT_PARSED)
		return reason;
	if (!e->origin->cache)
		return REASON_DISABLED;
	if (e->hints.cache_off)
		return REASON_DISABLED_HINT;
	if (e->text.len > CACHE_KEY_MAX)
		return REASON_OVERSIZED_QUERY;
	/* while the origin is down what is known holds, for entries that are there */
	if (e->state != FACTS_FRESH && e->state != FACTS_DOWN)
		return REASON_FACTS_UNKNOWN;
	return reason;
}

/* A hint goes before rules, a rule before the origin. */
static int64
find_max_age(const Explanation *e)
{
	if (e->hints.max_age >= 0)
		return e->hints.max_age;
	return e->proof.max_age >= 0 ? e->proof.max_age : e->origin->max_age;
}

static bool
may_be_told(const Explanation *e, uint32 scope)
{
	return e->all_entries || has_privs_of_role(GetUserId(), store_scope_role(scope));
}

static bool
visit_entry(void *arg, const StoreEntryInfo *info, Bytes key)
{
	Explanation *e = arg;
	CacheKeyView view;

	if (info->origin != e->origin->oid || !info->valid || !cachekey_read(key, &view))
		return true;
	if (view.form != CACHE_ROWS || !bytes_equal(view.text, e->text) || !may_be_told(e, view.scope))
		return true;
	e->entries++;
	e->youngest = Max(e->youngest, info->born);
	return true;
}

static void
explain(Explanation *e)
{
	e->state = cache_wait_facts(e->origin, FACTS_PATIENCE_MS);
	e->facts = facts_of(e->origin->slot, e->origin->oid);
	/* a server encoding has no character with an ASCII trail byte */
	analyze_text(e->text, true, &e->statement);
	facts_prove(e->facts, &e->statement, e->origin->rules, e->origin->nrules, &e->proof, e->culprit);
	e->culprit[sizeof(e->culprit) - 1] = '\0';
	e->reason = find_reason(e);
	e->max_age = find_max_age(e);
	e->now = versions_clock();
	e->all_entries = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
	if (store_enabled())
		store_walk(visit_entry, e);
}

/* ---- arrays of names ---- */

static Datum
text_array(ArrayBuildState *names)
{
	if (names == NULL)
		return PointerGetDatum(construct_empty_array(TEXTOID));
	return makeArrayResult(names, CurrentMemoryContext);
}

static ArrayBuildState *
add_name(ArrayBuildState *names, const char *name)
{
	return accumArrayResult(names, CStringGetTextDatum(text_clean(name)), false, TEXTOID, CurrentMemoryContext);
}

static Datum
relations_read(const Explanation *e)
{
	ArrayBuildState *names = NULL;
	FactsRelation relation;
	uint32		at = 0;

	while (e->facts != NULL && facts_next_relation(e->facts, &e->statement, &at, &relation))
		names = add_name(names, quote_qualified_identifier(relation.schema, relation.name));
	return text_array(names);
}

static bool
is_fault_of_name(uint8 reason)
{
	return reason == REASON_FUNCTION || reason == REASON_TIME || reason == REASON_OPERATOR || reason == REASON_TYPE || reason == REASON_UNKNOWN_FUNCTION;
}

/* A text that speaks of this name alone: what would the facts say to that? */
static bool
is_at_fault(const Explanation *e, const Mention *mention)
{
	Size		size = offsetof(Mentions, bytes) + 3 + mention->schema.len + mention->name.len;
	Mentions   *alone = palloc0(size);
	StatementFacts statement = {.known = true, .kind = STATEMENT_READ, .mentions = alone};
	Proof		proof = {0};

	alone->size = size;
	alone->count = 1;
	alone->bytes[0] = (uint8) mention->kind;
	alone->bytes[1] = (uint8) mention->schema.len;
	alone->bytes[2] = (uint8) mention->name.len;
	if (mention->schema.len > 0)
		memcpy(alone->bytes + 3, mention->schema.data, mention->schema.len);
	if (mention->name.len > 0)
		memcpy(alone->bytes + 3 + mention->schema.len, mention->name.data, mention->name.len);
	facts_prove(e->facts, &statement, e->origin->rules, e->origin->nrules, &proof, NULL);
	pfree(alone);
	return is_fault_of_name(proof.reason);
}

static const char *
mention_text(const Mention *mention)
{
	const char *name = pnstrdup((const char *) mention->name.data, mention->name.len);

	if (mention->schema.len == 0)
		return name;
	return psprintf("%s.%s", pnstrdup((const char *) mention->schema.data, mention->schema.len), name);
}

/* Those of the text, one by one; one inside a view is known as the culprit only. */
static Datum
functions_at_fault(const Explanation *e)
{
	ArrayBuildState *names = NULL;
	Mention		mention;
	uint32		at = 0;

	while (e->facts != NULL && e->statement.mentions != NULL && mentions_next(e->statement.mentions, &at, &mention))
	{
		if (mention.kind != MENTION_READS && mention.kind != MENTION_WRITES && is_at_fault(e, &mention))
			names = add_name(names, mention_text(&mention));
	}
	if (names == NULL && is_fault_of_name(e->proof.reason) && e->culprit[0] != '\0')
		names = add_name(names, e->culprit);
	return text_array(names);
}

/* ---- the row ---- */

static const char *
state_name(FactsState state)
{
	static const char *const names[] = {[FACTS_UNKNOWN] = "unknown", [FACTS_FRESH] = "fresh", [FACTS_SUSPECT] = "suspect", [FACTS_ASLEEP] = "asleep", [FACTS_DOWN] = "down"};

	return names[state];
}

static const char *
writes_name(uint8 writes)
{
	static const char *const names[] = {[WRITES_NOTHING] = "nothing", [WRITES_RELATIONS] = "relations", [WRITES_ANYTHING] = "anything"};

	return writes <= WRITES_ANYTHING ? names[writes] : "anything";
}

static CacheStatus
status_of(const Explanation *e)
{
	if (e->reason == REASON_CACHEABLE && e->youngest != 0 && e->now - e->youngest < e->max_age)
		return CACHE_HIT;
	return reason_status(e->reason);
}

static const char *
words_of(const Explanation *e)
{
	if (e->culprit[0] == '\0' || e->reason != (CacheReason) e->proof.reason)
		return reason_words(e->reason);
	return psprintf("%s: %s", reason_words(e->reason), e->culprit);
}

static Datum
interval_of(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = Max(microseconds, 0);
	return IntervalPGetDatum(interval);
}

static Datum
make_row(const Explanation *e, TupleDesc columns)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	values[0] = BoolGetDatum(e->reason == REASON_CACHEABLE);
	values[1] = CStringGetTextDatum(text_clean(words_of(e)));
	values[2] = CStringGetTextDatum(cache_status_name(status_of(e)));
	values[3] = relations_read(e);
	values[4] = functions_at_fault(e);
	values[5] = CStringGetTextDatum(writes_name(e->proof.writes));
	values[6] = interval_of(e->max_age);
	nulls[6] = e->reason != REASON_CACHEABLE;
	values[7] = Int64GetDatum(e->entries);
	values[8] = interval_of(e->now - e->youngest);
	values[9] = interval_of(e->max_age - (e->now - e->youngest));
	nulls[8] = nulls[9] = e->youngest == 0;
	values[10] = CStringGetTextDatum(state_name(e->state));
	return HeapTupleGetDatum(heap_form_tuple(columns, values, nulls));
}

Datum
hyperpool_explain_query(PG_FUNCTION_ARGS)
{
	Explanation e = {0};
	TupleDesc	columns;
	volatile Datum row = (Datum) 0;

	cache_require_argument(fcinfo, 0);
	cache_require_argument(fcinfo, 1);
	if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE || columns->natts != COLUMNS)
		elog(ERROR, "hyperpool.explain_query must return %d columns", COLUMNS);
	e.origin = cache_find_origin(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	e.text = bytes_str(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	analyze_hints(e.text, &e.hints);
	e.text = cachekey_trim(e.text);
	PG_TRY();
	{
		explain(&e);
		row = make_row(&e, BlessTupleDesc(columns));
	}
	PG_FINALLY();
	{
		/* it is not palloc'd */
		analyze_forget(&e.statement);
	}
	PG_END_TRY();
	PG_RETURN_DATUM(row);
}
