/*
 * functions/statistics.c - the functions behind the views, and the few that act on what is shown.
 *
 * Each view is a set-returning function here, which reads shared memory and the published statistics_directory, and a SQL view that puts the
 * names of catalogs to its OIDs. Rights are the SQL script's: nothing is granted to PUBLIC. statistics_cache.c has the views of the
 * cache, statistics_rows.c what all of them build rows with.
 * Never: shows a key or a secret; waits for a worker; holds a lock while it builds rows.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "fmgr.h"
#include "funcapi.h"
#include "functions/statistics_internal.h"
#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/facts.h"
#include "host/gucs.h"
#include "host/querystats.h"
#include "host/store.h"
#include "host/versions.h"
#include "miscadmin.h"
#include "origin/link.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define ID_ROW_BITS		20		/* of link_id, as of client_id */

PG_FUNCTION_INFO_V1(hyperpool_clients);
PG_FUNCTION_INFO_V1(hyperpool_links);
PG_FUNCTION_INFO_V1(hyperpool_pools);
PG_FUNCTION_INFO_V1(hyperpool_stat_origins);
PG_FUNCTION_INFO_V1(hyperpool_stat_logins);
PG_FUNCTION_INFO_V1(hyperpool_reset_stats);
PG_FUNCTION_INFO_V1(hyperpool_status);
PG_FUNCTION_INFO_V1(hyperpool_disconnect);

extern PGDLLEXPORT Datum hyperpool_clients(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_links(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_pools(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_stat_origins(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_stat_logins(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_reset_stats(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_status(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_disconnect(PG_FUNCTION_ARGS);

static const char *
mode_name(PoolMode mode)
{
	switch (mode)
	{
		case POOL_TRANSACTION:
			return "transaction";
		case POOL_SESSION:
			return "session";
		case POOL_STATEMENT:
			return "statement";
	}
	return "unknown";
}

/* ---- clients ---- */

static void
put_client_address(RowDraft *row, const ClientRow *c)
{
	char		text[INET6_ADDRSTRLEN];

	if ((c->family != 4 && c->family != 6) ||
		inet_ntop(c->family == 4 ? AF_INET : AF_INET6, c->addr, text, sizeof(text)) == NULL)
	{
		row_put_null(row);			/* a Unix socket: as pg_stat_activity has it */
		row_put(row, Int32GetDatum(-1));
		return;
	}
	row_put(row, CStringGetTextDatum(text));
	row_put(row, Int32GetDatum(c->port));
}

static int64
link_id(const LinkRow *link, int number)
{
	return ((int64) link->generation << ID_ROW_BITS) | number;
}

/* The client's link by its row; the two rows are read one after the other, and may have parted in between. */
static void
put_link_of_client(RowDraft *row, const ClientRow *c, int client_number)
{
	int			number = (int) c->link_row - 1;
	LinkRow		link;

	if (c->link_row > 0 && link_row_read(number, &link) && link.client_row == (uint32) client_number + 1)
		row_put(row, Int64GetDatum(link_id(&link, number)));
	else
		row_put_null(row);
}

static int64
client_id(const ClientRow *c, int number)
{
	return ((int64) c->generation << ID_ROW_BITS) | number;
}

static void
put_client(RowDraft *row, const ClientRow *c, int number)
{
	row_put(row, Int64GetDatum(client_id(c, number)));
	row_put_oid(row, c->role);
	row_put_oid(row, statistics_oid_of_slot(c->origin_slot));
	row_put_text(row, client_state_name(c->state));
	row_put(row, BoolGetDatum(c->bound));
	row_put_text(row, c->application_name);
	put_client_address(row, c);
	row_put(row, BoolGetDatum(c->tls));
	row_put(row, TimestampTzGetDatum(c->connect_time));
	row_put(row, TimestampTzGetDatum(c->state_since));
	row_put(row, Int64GetDatum(c->exchanges));
	put_link_of_client(row, c, number);
	row_put(row, Int32GetDatum(c->worker));
	row_end(row);
}

Datum
hyperpool_clients(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 14);

	statistics_look_at_directory();
	for (int i = 0; i < hyperpool_max_clients; i++)
	{
		ClientRow	c;

		CHECK_FOR_INTERRUPTS();
		if (client_row_read(i, &c))
		{
			c.application_name[NAMEDATALEN - 1] = '\0';
			put_client(&row, &c, i);
		}
	}
	return (Datum) 0;
}

/* ---- links ---- */

static void
put_client_of_link(RowDraft *row, const LinkRow *link)
{
	int			number = (int) link->client_row - 1;
	ClientRow	c;

	if (link->client_row > 0 && client_row_read(number, &c))
		row_put(row, Int64GetDatum(client_id(&c, number)));
	else
		row_put_null(row);
}

static void
put_link(RowDraft *row, LinkRow *link, int number)
{
	PoolRow    *pool = pool_row_at(link->pool_row);
	char		user[NAMEDATALEN] = "";

	if (pool && pool->used)
		strlcpy(user, pool->user, sizeof(user));
	link->address[sizeof(link->address) - 1] = '\0';

	row_put(row, Int64GetDatum(link_id(link, number)));
	row_put_oid(row, statistics_oid_of_slot(link->origin_slot));
	row_put_text_or_null(row, user);
	row_put_text(row, link_state_name((LinkState) (link->state - 1)));
	if (link->origin_pid != 0)
		row_put(row, Int32GetDatum(link->origin_pid));
	else
		row_put_null(row);
	row_put_text_or_null(row, link->address);
	row_put(row, BoolGetDatum(link->tls));
	row_put(row, TimestampTzGetDatum(link->connect_time));
	row_put(row, TimestampTzGetDatum(link->state_since));
	row_put(row, Int64GetDatum(link->exchanges));
	row_put(row, Int32GetDatum(link->statements));
	row_put(row, Int64GetDatum(link->settings_id));
	put_client_of_link(row, link);
	row_put(row, Int32GetDatum(link->worker));
	row_end(row);
}

Datum
hyperpool_links(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 14);

	statistics_look_at_directory();
	for (int i = 0; i < hyperpool_max_links; i++)
	{
		LinkRow		link;

		if (link_row_read(i, &link))
			put_link(&row, &link, i);
	}
	return (Datum) 0;
}

/* ---- pools ---- */

typedef struct PoolSums
{
	int32		links;
	int32		idle;
	int32		opening;
	int32		active;
	int32		bound;
	int32		clients;
	int32		waiting;
	TimestampTz oldest_wait;	/* 0 = nobody waits */
} PoolSums;

static PoolSums
sum_shares(PoolRow *pool)
{
	PoolSums	sums = {0};

	for (int i = 0; i < hyperpool_workers; i++)
	{
		PoolShare  *share = &pool->shares[i];
		TimestampTz wait = (TimestampTz) pg_atomic_read_u64(&share->oldest_wait);

		sums.links += pg_atomic_read_u32(&share->links);
		sums.idle += pg_atomic_read_u32(&share->idle);
		sums.opening += pg_atomic_read_u32(&share->opening);
		sums.active += pg_atomic_read_u32(&share->active);
		sums.bound += pg_atomic_read_u32(&share->bound);
		sums.clients += pg_atomic_read_u32(&share->clients);
		sums.waiting += pg_atomic_read_u32(&share->waiting);
		if (wait != 0 && (sums.oldest_wait == 0 || wait < sums.oldest_wait))
			sums.oldest_wait = wait;
	}
	return sums;
}

static Datum
wait_since(TimestampTz since)
{
	Interval   *wait = palloc0(sizeof(Interval));

	if (since != 0)
		wait->time = Max(GetCurrentTimestamp() - since, 0);
	return IntervalPGetDatum(wait);
}

static void
put_pool(RowDraft *row, PoolRow *pool)
{
	const DirectoryOrigin *origin = statistics_directory ? directory_origin_by_oid(statistics_directory, pool->origin_oid) : NULL;
	PoolSums	sums = sum_shares(pool);
	char		user[NAMEDATALEN];

	strlcpy(user, pool->user, sizeof(user));
	row_put_oid(row, pool->origin_oid);
	row_put_text(row, user);
	row_put_text_or_null(row, origin ? mode_name(origin->pool_mode) : NULL);
	row_put(row, Int32GetDatum(sums.clients));
	row_put(row, Int32GetDatum(sums.waiting));
	row_put(row, Int32GetDatum(sums.active));
	row_put(row, Int32GetDatum(sums.idle));
	row_put(row, Int32GetDatum(sums.opening));
	row_put(row, Int32GetDatum(sums.bound));
	row_put(row, wait_since(sums.oldest_wait));
	if (origin)
	{
		row_put(row, Int32GetDatum(origin->pool_size));
		row_put(row, BoolGetDatum(directory_is_paused(origin->slot)));
	}
	else
	{
		row_put_null(row);			/* dropped; the last links are still closing */
		row_put_null(row);
	}
	row_end(row);
}

Datum
hyperpool_pools(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 12);

	statistics_look_at_directory();
	for (int i = 0; i < hyperpool_max_pools; i++)
	{
		PoolRow    *pool = pool_row_at(i);

		if (pool && pool->used)
			put_pool(&row, pool);
	}
	return (Datum) 0;
}

/* ---- stat_origins ---- */

static void
put_percentiles(RowDraft *row, int slot, HistogramKind which)
{
	static const double fractions[] = {0.5, 0.9, 0.99};

	for (size_t i = 0; i < lengthof(fractions); i++)
		row_put(row, Float8GetDatum(histogram_percentile(slot, which, fractions[i]) / 1000.0));
}

static const char *
facts_state_name(FactsState state)
{
	switch (state)
	{
		case FACTS_UNKNOWN:
			return "unknown";
		case FACTS_FRESH:
			return "fresh";
		case FACTS_SUSPECT:
			return "suspect";
		case FACTS_ASLEEP:
			return "asleep";
		case FACTS_DOWN:
			return "down";
	}
	return "unknown";
}

static void
put_facts(RowDraft *row, const DirectoryOrigin *origin)
{
	char		failure[512];

	row_put_text(row, facts_state_name(facts_state(origin->slot, origin->oid, versions_clock())));
	facts_get_failure(origin->slot, failure, sizeof(failure));
	row_put_text_or_null(row, failure);
}

static void
put_origin(RowDraft *row, const DirectoryOrigin *origin)
{
	row_put_oid(row, origin->oid);
	for (int i = 0; i < COUNT_LIMIT; i++)
		row_put(row, Int64GetDatum((int64) counter_sum(origin->slot, (Counter) i)));
	for (int i = 0; i < HISTOGRAM_LIMIT; i++)
		put_percentiles(row, origin->slot, (HistogramKind) i);
	put_facts(row, origin);
	row_put(row, TimestampTzGetDatum(counters_reset_time(origin->slot)));
	row_end(row);
}

Datum
hyperpool_stat_origins(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 1 + COUNT_LIMIT + 3 * HISTOGRAM_LIMIT + 3);

	statistics_look_at_directory();
	for (int i = 0; i < statistics_origin_count(); i++)
		put_origin(&row, directory_origin_at(statistics_directory, i));
	return (Datum) 0;
}

/* ---- stat_logins ---- */

Datum
hyperpool_stat_logins(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 6);

	for (int worker = 0; worker < hyperpool_workers; worker++)
	{
		LoginCounts *counts = login_counts_of(worker);

		row_put(&row, Int32GetDatum(worker));
		row_put(&row, Int32GetDatum(pg_atomic_read_u32(&counts->unfinished)));
		row_put(&row, Int32GetDatum(pg_atomic_read_u32(&counts->addresses)));
		row_put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&counts->refused_backlog)));
		row_put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&counts->refused_address)));
		row_put(&row, Int64GetDatum((int64) pg_atomic_read_u64(&counts->held_back)));
		row_end(&row);
	}
	return (Datum) 0;
}

/* ---- acting ---- */

Datum
hyperpool_reset_stats(PG_FUNCTION_ARGS)
{
	const DirectoryOrigin *origin;
	text	   *name;

	statistics_check_ready();
	if (PG_ARGISNULL(0))
	{
		counters_reset(-1);
		querystats_reset();
		store_reset_statistics();
		PG_RETURN_VOID();
	}
	statistics_look_at_directory();
	name = PG_GETARG_TEXT_PP(0);
	origin = statistics_directory ? directory_origin(statistics_directory, bytes_of(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name))) : NULL;
	if (origin == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("origin \"%s\" does not exist", text_to_cstring(name)),
				 errhint("The view hyperpool.origins lists them.")));
	counters_reset(origin->slot);
	PG_RETURN_VOID();
}

Datum
hyperpool_status(PG_FUNCTION_ARGS)
{
	RowDraft	row = rows_begin(fcinfo, 8);
	int			workers = cancel_workers_running();

	statistics_look_at_directory();
	row_put(&row, Int32GetDatum(workers));
	row_put(&row, Int32GetDatum(client_rows_used()));
	row_put(&row, Int32GetDatum(link_rows_used()));
	row_put(&row, Int32GetDatum(statistics_origin_count()));
	row_put(&row, Int32GetDatum(hyperpool_max_clients));
	row_put(&row, TimestampTzGetDatum(counters_started_at()));
	/* clients can be let in: all workers run, and know whom to let in. No origin is asked. */
	row_put(&row, BoolGetDatum(workers == hyperpool_workers && statistics_directory != NULL));
	row_put(&row, Int64GetDatum((int64) directory_generation(statistics_directory)));
	row_end(&row);
	return (Datum) 0;
}

Datum
hyperpool_disconnect(PG_FUNCTION_ARGS)
{
	statistics_check_ready();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(cancel_disconnect(PG_GETARG_INT64(0)));
}
