/*
 * origin/catalog_doubt.c - has the backend of a write in doubt gone?
 *
 * A write whose answer was lost may still be running at the origin, and commit at any time. It is settled when its backend is gone, as
 * a backend leaves pg_stat_activity only after its transaction has ended; or when a backend of that number is younger than the doubt.
 * A backend that is idle proves nothing: the write may still lie in its socket.
 *
 * Behind a pooler or another hyperpool no number is known, and that keeps its backends. There all transactions are waited for that run in that database a while
 * after the doubt began: each holds a lock on its own virtual transaction id, which anybody may see in pg_locks, and gives it up after its
 * end is visible. The while is for a query that the pooler had not passed on; one that has lost its client and has no backend yet is dropped by every pooler known.
 *
 * Owns what is remembered of a question until its answer. Never: decides when to ask.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "origin/catalog_internal.h"

#define SECOND			INT64CONST(1000000)
#define POOLED_PAUSE	(5 * SECOND)

/* A doubt from before this watch, or after its end, is of another origin that had the slot then: its backend would be sought at the wrong place. */
int
catalog_doubts_of(int slot, int64 born, int64 ended, Doubt *out, int max)
{
	Doubt		all[DOUBTS_MAX];
	int			n = Min(versions_doubts(slot, all, DOUBTS_MAX), DOUBTS_MAX);
	int			kept = 0;
	int			i;

	for (i = 0; i < n && kept < max; i++)
	{
		if (all[i].since >= born && all[i].since < ended)
			out[kept++] = all[i];
	}
	return kept;
}

/* Rows: 'p', pid, microseconds since that backend's start (or null); 'x', 0, a transaction. */
char *
catalog_doubts_text(CatalogDoubts *doubts, int slot, int64 born, int64 ended, int64 now)
{
	StringInfoData text;
	int			i;

	doubts->count = catalog_doubts_of(slot, born, ended, doubts->asked, DOUBTS_MAX);
	memset(doubts->seen, 0, sizeof(doubts->seen));
	doubts->asked_at = now;
	doubts->nrunning = 0;
	doubts->too_many = false;
	initStringInfo(&text);
	appendStringInfoString(&text, "begin transaction isolation level read committed, read only; set local search_path to pg_catalog; set local statement_timeout to 10000; "
						   "select 'p', a.pid::text, (extract(epoch from clock_timestamp() - a.backend_start) * 1000000)::bigint::text from pg_stat_activity a "
						   "where a.pid in (0");
	for (i = 0; i < doubts->count; i++)
		appendStringInfo(&text, ", %d", doubts->asked[i].pid);
	appendStringInfoString(&text, ") union all select 'x', '0', l.virtualtransaction || ' ' || l.pid from pg_locks l join pg_stat_activity a on a.pid = l.pid "
						   "where l.locktype = 'virtualxid' and l.virtualxid = l.virtualtransaction and l.pid <> pg_backend_pid() "
						   "and a.datid = (select d.oid from pg_database d where d.datname = current_database()); commit");
	return text.data;
}

static const char *
take_running(CatalogDoubts *doubts, const PGresult *row)
{
	if (doubts->nrunning == DOUBT_STARTERS)
		doubts->too_many = true;
	else
		doubts->running[doubts->nrunning++] = digest_of(bytes_str(PQgetvalue(row, 0, 2))).lo;
	return NULL;
}

/* Two clocks are never compared: the backend's age is by the origin's, read after the question was sent; the doubt's by ours, read before. */
static void
take_backend(CatalogDoubts *doubts, int64 pid, bool has_age, int64 age)
{
	int			i;

	for (i = 0; i < doubts->count; i++)
	{
		const Doubt *d = &doubts->asked[i];

		if (d->pid == pid && !(has_age && age < doubts->asked_at - d->since))
			doubts->seen[i] = true;
	}
}

const char *
catalog_take_doubt(CatalogDoubts *doubts, const PGresult *row)
{
	int64		pid;
	int64		age = 0;
	bool		has_age;

	if (PQnfields(row) != 3 || !catalog_field_int64(row, 1, &pid))
		return "the origin's answer about its sessions is not understood";
	if (PQgetvalue(row, 0, 0)[0] == 'x')
		return take_running(doubts, row);
	has_age = catalog_field_int64(row, 2, &age);
	take_backend(doubts, pid, has_age, age);
	return NULL;
}

/* ---- an origin that is a pooler or a gateway ---- */

static bool
still_runs(const CatalogDoubts *doubts)
{
	int			i;
	int			k;

	for (i = 0; i < doubts->nstarters; i++)
	{
		for (k = 0; k < doubts->nrunning; k++)
		{
			if (doubts->starters[i] == doubts->running[k])
				return true;
		}
	}
	return false;
}

static bool
is_ripe(const Doubt *d, int64 at)
{
	return d->pid == 0 && d->since + POOLED_PAUSE <= at;
}

static void
begin_waiting(CatalogDoubts *doubts)
{
	int			i;
	bool		any = false;

	for (i = 0; i < doubts->count; i++)
		any |= is_ripe(&doubts->asked[i], doubts->asked_at);
	if (!any || doubts->too_many)
		return;
	doubts->waiting = true;
	doubts->waiting_since = doubts->asked_at;
	doubts->nstarters = doubts->nrunning;
	memcpy(doubts->starters, doubts->running, doubts->nrunning * sizeof(uint64));
}

static void
settle_pooled(CatalogDoubts *doubts)
{
	int			i;

	if (!doubts->waiting)
		begin_waiting(doubts);
	if (!doubts->waiting || doubts->too_many || still_runs(doubts))
		return;
	doubts->waiting = false;
	for (i = 0; i < doubts->count; i++)
	{
		if (is_ripe(&doubts->asked[i], doubts->waiting_since))
			versions_settle(doubts->asked[i].record);
	}
}

/* The whole answer has come. */
void
catalog_doubts_answered(CatalogDoubts *doubts)
{
	int			i;

	for (i = 0; i < doubts->count; i++)
	{
		if (doubts->asked[i].pid != 0 && !doubts->seen[i])
			versions_settle(doubts->asked[i].record);
	}
	settle_pooled(doubts);
	doubts->count = 0;
}

/* The postmaster of those backends has ended, and was seen to be another at `ended`: what they had not committed by then never will be. */
void
catalog_doubts_settle_all(CatalogDoubts *doubts, int slot, int64 born, int64 ended)
{
	Doubt		all[DOUBTS_MAX];
	int			n = catalog_doubts_of(slot, born, ended, all, DOUBTS_MAX);
	int			i;

	for (i = 0; i < n; i++)
		versions_settle(all[i].record);
	doubts->waiting = false;
}
