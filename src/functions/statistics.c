/*
 * functions/statistics.c - the functions behind the views, and the few that act on what is shown.
 *
 * Each view is a set-returning function here, which reads shared memory and the published directory, and a SQL view that puts the
 * names of catalogs to its OIDs. Owns this backend's copy of the directory. Rights are the SQL script's:
 * nothing is granted to PUBLIC.
 * Never: shows a key or a secret; waits for a worker; holds a lock while it builds rows.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "fmgr.h"
#include "funcapi.h"
#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "mb/pg_wchar.h"
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
PG_FUNCTION_INFO_V1(hyperpool_reset_stats);
PG_FUNCTION_INFO_V1(hyperpool_status);
PG_FUNCTION_INFO_V1(hyperpool_disconnect);

extern PGDLLEXPORT Datum hyperpool_clients(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_links(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_pools(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_stat_origins(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_reset_stats(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_status(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_disconnect(PG_FUNCTION_ARGS);

static Directory *directory = NULL;

/* ---- rows ---- */

#define MAX_COLUMNS		64

/* A row under construction; columns are put in the order of the SQL declaration. */
typedef struct RowDraft
{
	ReturnSetInfo *set;
	int			n;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} RowDraft;

static void
check_ready(void)
{
	if (!counters_ready())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hyperpool must be loaded via shared_preload_libraries"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
}

/* Begins the set; the library may be newer or older than the SQL objects that call it. */
static RowDraft
begin_rows(FunctionCallInfo fcinfo, int columns)
{
	RowDraft	row = {0};

	check_ready();
	InitMaterializedSRF(fcinfo, 0);
	row.set = (ReturnSetInfo *) fcinfo->resultinfo;
	if (row.set->setDesc->natts != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the SQL objects of hyperpool are not of the version of its library"),
				 errhint("Restart the server if the library is older, or use ALTER EXTENSION hyperpool UPDATE.")));
	return row;
}

static void
put(RowDraft *row, Datum value)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

static void
put_null(RowDraft *row)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

static void
put_oid(RowDraft *row, Oid oid)
{
	if (OidIsValid(oid))
		put(row, ObjectIdGetDatum(oid));
	else
		put_null(row);
}

/* Text that a client or an origin has a hand in: whatever this database cannot hold is shown as question marks. */
static void
put_text(RowDraft *row, const char *s)
{
	int			len = strlen(s);
	char	   *clean;

	if (pg_verify_mbstr(GetDatabaseEncoding(), s, len, true))
	{
		put(row, PointerGetDatum(cstring_to_text_with_len(s, len)));
		return;
	}
	clean = pstrdup(s);
	for (char *p = clean; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
	put(row, CStringGetTextDatum(clean));
}

static void
put_text_or_null(RowDraft *row, const char *s)
{
	if (s && s[0] != '\0')
		put_text(row, s);
	else
		put_null(row);
}

static void
end_row(RowDraft *row)
{
	tuplestore_putvalues(row->set->setResult, row->set->setDesc, row->values, row->nulls);
	row->n = 0;
}

/* ---- the directory ---- */

static void
look_at_directory(void)
{
	directory = directory_refresh(directory);
}

static int
origin_count(void)
{
	return directory ? directory_origin_count(directory) : 0;
}

static Oid
oid_of_slot(int slot)
{
	for (int i = 0; i < origin_count(); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(directory, i);

		if (origin->slot == slot)
			return origin->oid;
	}
	return InvalidOid;
}

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
		put_null(row);			/* a Unix socket: as pg_stat_activity has it */
		put(row, Int32GetDatum(-1));
		return;
	}
	put(row, CStringGetTextDatum(text));
	put(row, Int32GetDatum(c->port));
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
		put(row, Int64GetDatum(link_id(&link, number)));
	else
		put_null(row);
}

static int64
client_id(const ClientRow *c, int number)
{
	return ((int64) c->generation << ID_ROW_BITS) | number;
}

static void
put_client(RowDraft *row, const ClientRow *c, int number)
{
	put(row, Int64GetDatum(client_id(c, number)));
	put_oid(row, c->role);
	put_oid(row, oid_of_slot(c->origin_slot));
	put_text(row, client_state_name(c->state));
	put(row, BoolGetDatum(c->bound));
	put_text(row, c->application_name);
	put_client_address(row, c);
	put(row, BoolGetDatum(c->tls));
	put(row, TimestampTzGetDatum(c->connect_time));
	put(row, TimestampTzGetDatum(c->state_since));
	put(row, Int64GetDatum(c->exchanges));
	put_link_of_client(row, c, number);
	put(row, Int32GetDatum(c->worker));
	end_row(row);
}

Datum
hyperpool_clients(PG_FUNCTION_ARGS)
{
	RowDraft	row = begin_rows(fcinfo, 14);

	look_at_directory();
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
		put(row, Int64GetDatum(client_id(&c, number)));
	else
		put_null(row);
}

static void
put_link(RowDraft *row, LinkRow *link, int number)
{
	PoolRow    *pool = pool_row_at(link->pool_row);
	char		user[NAMEDATALEN] = "";

	if (pool && pool->used)
		strlcpy(user, pool->user, sizeof(user));
	link->address[sizeof(link->address) - 1] = '\0';

	put(row, Int64GetDatum(link_id(link, number)));
	put_oid(row, oid_of_slot(link->origin_slot));
	put_text_or_null(row, user);
	put_text(row, link_state_name((LinkState) (link->state - 1)));
	if (link->origin_pid != 0)
		put(row, Int32GetDatum(link->origin_pid));
	else
		put_null(row);
	put_text_or_null(row, link->address);
	put(row, BoolGetDatum(link->tls));
	put(row, TimestampTzGetDatum(link->connect_time));
	put(row, TimestampTzGetDatum(link->state_since));
	put(row, Int64GetDatum(link->exchanges));
	put(row, Int32GetDatum(link->statements));
	put(row, Int64GetDatum(link->settings_id));
	put_client_of_link(row, link);
	put(row, Int32GetDatum(link->worker));
	end_row(row);
}

Datum
hyperpool_links(PG_FUNCTION_ARGS)
{
	RowDraft	row = begin_rows(fcinfo, 14);

	look_at_directory();
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
	const DirectoryOrigin *origin = directory ? directory_origin_by_oid(directory, pool->origin_oid) : NULL;
	PoolSums	sums = sum_shares(pool);
	char		user[NAMEDATALEN];

	strlcpy(user, pool->user, sizeof(user));
	put_oid(row, pool->origin_oid);
	put_text(row, user);
	put_text_or_null(row, origin ? mode_name(origin->pool_mode) : NULL);
	put(row, Int32GetDatum(sums.clients));
	put(row, Int32GetDatum(sums.waiting));
	put(row, Int32GetDatum(sums.active));
	put(row, Int32GetDatum(sums.idle));
	put(row, Int32GetDatum(sums.opening));
	put(row, Int32GetDatum(sums.bound));
	put(row, wait_since(sums.oldest_wait));
	if (origin)
	{
		put(row, Int32GetDatum(origin->pool_size));
		put(row, BoolGetDatum(directory_is_paused(origin->slot)));
	}
	else
	{
		put_null(row);			/* dropped; the last links are still closing */
		put_null(row);
	}
	end_row(row);
}

Datum
hyperpool_pools(PG_FUNCTION_ARGS)
{
	RowDraft	row = begin_rows(fcinfo, 12);

	look_at_directory();
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
		put(row, Float8GetDatum(histogram_percentile(slot, which, fractions[i]) / 1000.0));
}

static void
put_origin(RowDraft *row, const DirectoryOrigin *origin)
{
	put_oid(row, origin->oid);
	for (int i = 0; i < COUNT_LIMIT; i++)
		put(row, Int64GetDatum((int64) counter_sum(origin->slot, (Counter) i)));
	for (int i = 0; i < HISTOGRAM_LIMIT; i++)
		put_percentiles(row, origin->slot, (HistogramKind) i);
	put(row, TimestampTzGetDatum(counters_reset_time(origin->slot)));
	end_row(row);
}

Datum
hyperpool_stat_origins(PG_FUNCTION_ARGS)
{
	RowDraft	row = begin_rows(fcinfo, 1 + COUNT_LIMIT + 3 * HISTOGRAM_LIMIT + 1);

	look_at_directory();
	for (int i = 0; i < origin_count(); i++)
		put_origin(&row, directory_origin_at(directory, i));
	return (Datum) 0;
}

/* ---- acting ---- */

Datum
hyperpool_reset_stats(PG_FUNCTION_ARGS)
{
	const DirectoryOrigin *origin;
	text	   *name;

	check_ready();
	if (PG_ARGISNULL(0))
	{
		counters_reset(-1);
		PG_RETURN_VOID();
	}
	look_at_directory();
	name = PG_GETARG_TEXT_PP(0);
	origin = directory ? directory_origin(directory, bytes_of(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name))) : NULL;
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
	RowDraft	row = begin_rows(fcinfo, 8);
	int			workers = cancel_workers_running();

	look_at_directory();
	put(&row, Int32GetDatum(workers));
	put(&row, Int32GetDatum(client_rows_used()));
	put(&row, Int32GetDatum(link_rows_used()));
	put(&row, Int32GetDatum(origin_count()));
	put(&row, Int32GetDatum(hyperpool_max_clients));
	put(&row, TimestampTzGetDatum(counters_started_at()));
	/* clients can be let in: all workers run, and know whom to let in. No origin is asked. */
	put(&row, BoolGetDatum(workers == hyperpool_workers && directory != NULL));
	put(&row, Int64GetDatum((int64) directory_generation(directory)));
	end_row(&row);
	return (Datum) 0;
}

Datum
hyperpool_disconnect(PG_FUNCTION_ARGS)
{
	check_ready();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BOOL(cancel_disconnect(PG_GETARG_INT64(0)));
}
