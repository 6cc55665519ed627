/*
 * functions/statistics_cache.c - the views of the cache.
 *
 * Answers: what lies in the cache, how well does it do, which texts does it serve or not, and why? A set-returning function for each of cache_entries, stat_cache
 * and stat_queries. Texts hold what users wrote: they are for their own role (and who has it), and for
 * pg_read_all_stats; others see that there is one. Values of parameters are shown to nobody.
 * Owns nothing. Never: shows an answer; holds a lock while it builds rows.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "core/cachekey.h"
#include "fmgr.h"
#include "functions/statistics_internal.h"
#include "host/counters.h"
#include "host/gucs.h"
#include "host/querystats.h"
#include "host/store.h"
#include "host/versions.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define HIDDEN		"<insufficient privilege>"	/* as in pg_stat_statements */

PG_FUNCTION_INFO_V1(hyperpool_cache_entries);
PG_FUNCTION_INFO_V1(hyperpool_stat_cache);
PG_FUNCTION_INFO_V1(hyperpool_stat_queries);

extern PGDLLEXPORT Datum hyperpool_cache_entries(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_stat_cache(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_stat_queries(PG_FUNCTION_ARGS);

/* ---- who may see a text ---- */

static bool
sees_all_texts(void)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);
}

static bool
may_see(bool all_texts, Oid role)
{
	return all_texts || has_privs_of_role(GetUserId(), role);
}

static Datum
interval_of(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = Max(microseconds, 0);
	return IntervalPGetDatum(interval);
}

/* ---- cache_entries ---- */

typedef struct EntriesWalk
{
	RowDraft	row;
	int64		now;
	bool		all_texts;
	MemoryContext context;		/* of one row */
} EntriesWalk;

static void
put_entry(EntriesWalk *walk, const StoreEntryInfo *info, const CacheKeyView *key)
{
	RowDraft   *row = &walk->row;

	row_put_oid(row, info->origin);
	row_put_text(row, may_see(walk->all_texts, store_scope_role(key->scope)) ? pnstrdup((const char *) key->text.data, key->text.len) : HIDDEN);
	row_put_text(row, key->form == CACHE_DESCRIPTION ? "description" : "rows");
	row_put(row, Int64GetDatum((int64) info->len));
	row_put(row, Int64GetDatum((int64) info->occupied));
	row_put(row, interval_of(walk->now - info->born));
	row_put(row, Int64GetDatum((int64) info->hits));
	row_put(row, BoolGetDatum(info->valid));
	row_end(row);
}

static bool
visit_entry(void *arg, const StoreEntryInfo *info, Bytes key)
{
	EntriesWalk *walk = arg;
	CacheKeyView view;
	MemoryContext before;

	CHECK_FOR_INTERRUPTS();
	if (!cachekey_read(key, &view))
		return true;
	before = MemoryContextSwitchTo(walk->context);
	put_entry(walk, info, &view);
	MemoryContextSwitchTo(before);
	MemoryContextReset(walk->context);
	return true;
}

Datum
hyperpool_cache_entries(PG_FUNCTION_ARGS)
{
	EntriesWalk walk = {.row = rows_begin(fcinfo, 8), .now = versions_clock(), .all_texts = sees_all_texts()};

	walk.context = AllocSetContextCreate(CurrentMemoryContext, "hyperpool cache entry", ALLOCSET_DEFAULT_SIZES);
	if (store_enabled())
		store_walk(visit_entry, &walk);
	MemoryContextDelete(walk.context);
	return (Datum) 0;
}

/* ---- stat_cache ---- */

static int64
sum_of_all(Counter which)
{
	int64		sum = 0;

	for (int slot = 0; slot < hyperpool_max_origins; slot++)
		sum += (int64) counter_sum(slot, which);
	return sum;
}

Datum
hyperpool_stat_cache(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 14);
	StoreStatistics s = {0};

	if (store_enabled())
		store_statistics(&s);
	row_put(&row, Int64GetDatum((int64) s.size));
	row_put(&row, Int64GetDatum((int64) s.used));
	row_put(&row, Int64GetDatum((int64) s.value_bytes));
	row_put(&row, Int64GetDatum((int64) s.entries));
	row_put(&row, Int64GetDatum((int64) s.inserts));
	row_put(&row, Int64GetDatum((int64) s.evictions));
	row_put(&row, Int64GetDatum((int64) s.purged));
	row_put(&row, Int64GetDatum((int64) s.outdated));
	row_put(&row, Int64GetDatum((int64) s.too_large));
	row_put(&row, Int64GetDatum((int64) s.joined));
	row_put(&row, Int64GetDatum((int64) s.flights));
	row_put(&row, Int64GetDatum((int64) s.pinned));
	row_put(&row, Int64GetDatum(sum_of_all(COUNT_CACHE_HIT)));
	row_put(&row, Int64GetDatum(sum_of_all(COUNT_CACHE_MISS)));
	row_end(&row);
	return (Datum) 0;
}

/* ---- stat_queries ---- */

static uint64
misses_of(const QueryStats *q)
{
	uint64		misses = 0;

	for (int i = 0; i < REASON_LIMIT; i++)
	{
		if (reason_status((CacheReason) i) == CACHE_MISS)
			misses += q->reasons[i];
	}
	return misses;
}

/* {"words": count, ...} of what went to the origin for another reason than a plain miss. */
static char *
reasons_json(const QueryStats *q)
{
	StringInfoData json;

	initStringInfo(&json);
	for (int i = 0; i < REASON_LIMIT; i++)
	{
		if (i == REASON_CACHEABLE || q->reasons[i] == 0)
			continue;
		appendStringInfoString(&json, json.len == 0 ? "{" : ", ");
		escape_json(&json, reason_words((CacheReason) i));
		appendStringInfo(&json, ": " UINT64_FORMAT, q->reasons[i]);
	}
	appendStringInfoString(&json, json.len == 0 ? "{}" : "}");
	return json.data;
}

static void
put_query(RowDraft *row, QueryStats *q, bool visible)
{
	q->text[QUERY_STATS_TEXT - 1] = '\0';
	row_put_oid(row, q->origin);
	row_put_oid(row, q->role);
	row_put_text(row, visible ? q->text : HIDDEN);
	row_put(row, Int64GetDatum((int64) q->calls));
	row_put(row, Int64GetDatum((int64) q->hits));
	row_put(row, Int64GetDatum((int64) misses_of(q)));
	row_put_text(row, reasons_json(q));
	row_put(row, Int64GetDatum((int64) q->flushes));
	row_put(row, Float8GetDatum(q->origin_us / 1000.0));
	row_put(row, Float8GetDatum(q->p50_us / 1000.0));
	row_put(row, Float8GetDatum(q->p99_us / 1000.0));
	row_put(row, Float8GetDatum(q->saved_us / 1000.0));
	row_end(row);
}

Datum
hyperpool_stat_queries(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 12);
	bool		all_texts = sees_all_texts();

	for (int i = 0; i < querystats_rows(); i++)
	{
		QueryStats	q;

		CHECK_FOR_INTERRUPTS();
		if (querystats_read(i, &q))
			put_query(&row, &q, may_see(all_texts, q.role));
	}
	return (Datum) 0;
}
