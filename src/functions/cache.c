/*
 * functions/cache.c - SQL functions that act on the cache.                        floor 8
 *
 * Answers: invalidate() and refresh_catalog(); cache_explain.c has explain_query(). They act on what is published: an origin that is not in service has no entries.
 * Who may execute them may do so for the origins of which he has USAGE.
 *
 * invalidate() first moves a version slot and then removes entries: a read that was sent before the move carries the versions of before, so its answer is not kept
 * (R2 of host/versions), and what is found afterwards was asked for afterwards.
 *
 * Owns this backend's copy of the directory. Never: asks an origin; touches an entry but by way of the store.
 */
#include "postgres.h"

#include "catalog/pg_foreign_server.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/cachekey.h"
#include "functions/cache_internal.h"
#include "host/analyze.h"
#include "host/cancel.h"
#include "host/counters.h"
#include "host/store.h"
#include "host/text.h"
#include "host/versions.h"

#define NAP_MS			20		/* between two looks whether the scout is done: nobody signals a backend */
#define NAME_SLOTS		256		/* of relations of one name; more of them are the whole origin */

extern PGDLLEXPORT Datum hyperpool_invalidate(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_refresh_catalog(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_invalidate);
PG_FUNCTION_INFO_V1(hyperpool_refresh_catalog);

static Directory *directory = NULL;

/* ---- which origin, and who may ---- */

static void
look_at_directory(void)
{
	if (!counters_ready())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("hyperpool must be loaded via shared_preload_libraries"),
						errhint("Add it to shared_preload_libraries and restart the server.")));
	directory = directory_refresh(directory);
}

/* An origin that was dropped a moment ago may still be published: nobody has a right to it. */
static void
require_usage(const DirectoryOrigin *origin)
{
	AclResult	right = ACLCHECK_NO_PRIV;

	if (SearchSysCacheExists1(FOREIGNSERVEROID, ObjectIdGetDatum(origin->oid)))
#if PG_VERSION_NUM >= 160000
		right = object_aclcheck(ForeignServerRelationId, origin->oid, GetUserId(), ACL_USAGE);
#else
		right = pg_foreign_server_aclcheck(origin->oid, GetUserId(), ACL_USAGE);
#endif
	if (right != ACLCHECK_OK)
		aclcheck_error(right, OBJECT_FOREIGN_SERVER, origin->name);
}

const DirectoryOrigin *
cache_find_origin(const char *name)
{
	const DirectoryOrigin *origin;

	look_at_directory();
	origin = directory_origin(directory, bytes_str(name));
	if (origin == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" does not exist, or is not in service", name),
						errhint("The view hyperpool.origins lists them; the manager of hyperpool reads those of the database hyperpool.database.")));
	require_usage(origin);
	return origin;
}

void
cache_require_argument(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d must not be null", n + 1)));
}

/* ---- waiting for the scout ---- */

void
cache_nap(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, NAP_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

FactsState
cache_wait_facts(const DirectoryOrigin *origin, int milliseconds)
{
	int64		until = versions_clock() + (int64) milliseconds * 1000;
	FactsState	state = facts_state(origin->slot, origin->oid, versions_clock());

	facts_want(origin->slot, versions_clock());
	if (state != FACTS_FRESH)
		cancel_wake_scout();
	while (state != FACTS_FRESH && versions_clock() < until)
	{
		cache_nap();
		state = facts_state(origin->slot, origin->oid, versions_clock());
	}
	return state;
}

/* ---- invalidate ---- */

enum InvalidateArgument { ARG_ORIGIN, ARG_RELATION, ARG_QUERY };

/* Which entries go: those that pass every test that is set. */
typedef struct Doomed
{
	Oid			origin;			/* InvalidOid: of any */
	bool		by_text;
	Bytes		text;			/* trimmed */
	bool		by_slots;
	int			nslots;
	uint32		slots[NAME_SLOTS];
} Doomed;

static bool
hangs_on(const StoreEntryInfo *info, const Doomed *doomed)
{
	for (uint32 i = 0; i < info->nslots; i++)
	{
		for (int j = 0; j < doomed->nslots; j++)
		{
			if (info->slots[i] == doomed->slots[j])
				return true;
		}
	}
	return false;
}

/* Under a lock of the store: no error, no allocation. */
static bool
is_doomed(void *arg, const StoreEntryInfo *info, Bytes key)
{
	const Doomed *doomed = arg;
	CacheKeyView view;

	if (OidIsValid(doomed->origin) && info->origin != doomed->origin)
		return false;
	if (doomed->by_slots && !hangs_on(info, doomed))
		return false;
	return !doomed->by_text || (cachekey_read(key, &view) && bytes_equal(view.text, doomed->text));
}

/* Everything read from the origin's database hangs on its catalog; where that is not known, on nothing narrower than everything. */
static void
move_origin(const DirectoryOrigin *origin)
{
	FactsIdentity identity;

	versions_move(facts_identity(origin->slot, origin->oid, &identity) ? identity.catalog_slot : SLOT_GLOBAL);
}

static void
doom_all(FunctionCallInfo fcinfo)
{
	look_at_directory();
	for (int i = 0; i < directory_origin_count(directory); i++)
		require_usage(directory_origin_at(directory, i));
	versions_move(SLOT_GLOBAL);
}

static const char *
schema_of(List *parts, const char *written)
{
	if (list_length(parts) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" has more parts than a schema and a name", written),
						errhint("An origin is one database; leave its name out.")));
	return list_length(parts) == 2 ? strVal(linitial(parts)) : NULL;
}

/*
 * The slots a write to relations of this name would move, and that of the database for entries which hang on that instead. False: they cannot be told one by
 * one (nothing is known of the catalog, or there are too many).
 */
static bool
find_relation(const DirectoryOrigin *origin, const char *written, Doomed *doomed)
{
#if PG_VERSION_NUM >= 160000
	List	   *parts = stringToQualifiedNameList(written, NULL);
#else
	List	   *parts = stringToQualifiedNameList(written);
#endif
	const char *schema = schema_of(parts, written);
	FactsIdentity identity;
	const Facts *facts;

	(void) cache_wait_facts(origin, FACTS_PATIENCE_MS);
	facts = facts_of(origin->slot, origin->oid);
	if (facts == NULL || !facts_identity(origin->slot, origin->oid, &identity))
		return false;
	doomed->nslots = facts_slots_of_relation(facts, schema, strVal(llast(parts)), doomed->slots, NAME_SLOTS - 1);
	if (doomed->nslots == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("origin \"%s\" has no relation \"%s\"", origin->name, written),
						errhint("If it is new, call hyperpool.refresh_catalog first.")));
	if (doomed->nslots >= NAME_SLOTS - 1)
		return false;
	doomed->slots[doomed->nslots++] = identity.any_slot;
	return true;
}

/* The slots moved are those of the database, so entries of its other origins go as well. */
static void
doom_relation(const DirectoryOrigin *origin, const char *written, Doomed *doomed)
{
	if (!find_relation(origin, written, doomed))
	{
		move_origin(origin);
		return;
	}
	doomed->origin = InvalidOid;
	doomed->by_slots = true;
	for (int i = 0; i < doomed->nslots; i++)
		versions_move(doomed->slots[i]);
}

static bool
is_fixed(const FactsIdentity *identity, uint32 slot)
{
	return slot == SLOT_GLOBAL || slot == identity->cluster_slot || slot == identity->catalog_slot;
}

/*
 * One slot that every answer to this text hangs on, the narrowest there is: it must move, or an answer that is under way would be kept after all.
 * False: no answer is kept, or it hangs on the fixed slots alone (it reads no relation, so it cannot differ).
 */
static bool
slot_of_query(const DirectoryOrigin *origin, const Facts *facts, Bytes text, uint32 *slot)
{
	StatementFacts statement;
	FactsIdentity identity;
	Proof		proof = {0};

	if (facts == NULL || !facts_identity(origin->slot, origin->oid, &identity))
		return false;
	/* a server encoding has no character with an ASCII trail byte */
	analyze_text(text, true, &statement);
	facts_prove(facts, &statement, origin->rules, origin->nrules, &proof, NULL);
	analyze_forget(&statement);
	if (proof.reason != REASON_CACHEABLE)
		return false;
	for (int i = 0; i < proof.nreads; i++)
	{
		if (!is_fixed(&identity, proof.reads[i]))
		{
			*slot = proof.reads[i];
			return true;
		}
	}
	return false;
}

static void
doom_query(const DirectoryOrigin *origin, Bytes text, Doomed *doomed)
{
	uint32		slot;

	doomed->by_text = true;
	doomed->text = text;
	if (slot_of_query(origin, facts_of(origin->slot, origin->oid), text, &slot))
		versions_move(slot);
}

static void
check_invalidate_arguments(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(ARG_RELATION) && !PG_ARGISNULL(ARG_QUERY))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("relation and query cannot both be given"),
						errhint("Call the function once for each.")));
	if (PG_ARGISNULL(ARG_ORIGIN) && !(PG_ARGISNULL(ARG_RELATION) && PG_ARGISNULL(ARG_QUERY)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a relation or a query is one of an origin"),
						errhint("Name the origin too.")));
}

/* Two origins of one database share what is read from it; the count is of entries removed, of those of this origin unless a relation was named. */
Datum
hyperpool_invalidate(PG_FUNCTION_ARGS)
{
	Doomed		doomed = {0};

	check_invalidate_arguments(fcinfo);
	if (PG_ARGISNULL(ARG_ORIGIN))
		doom_all(fcinfo);
	else
	{
		const DirectoryOrigin *origin = cache_find_origin(text_to_cstring(PG_GETARG_TEXT_PP(ARG_ORIGIN)));

		doomed.origin = origin->oid;
		if (!PG_ARGISNULL(ARG_RELATION))
			doom_relation(origin, text_to_cstring(PG_GETARG_TEXT_PP(ARG_RELATION)), &doomed);
		else if (!PG_ARGISNULL(ARG_QUERY))
			doom_query(origin, cachekey_trim(bytes_str(text_to_cstring(PG_GETARG_TEXT_PP(ARG_QUERY)))), &doomed);
		else
			move_origin(origin);
	}
	PG_RETURN_INT64(store_enabled() ? (int64) store_purge(is_doomed, &doomed) : 0);
}

/* ---- refresh_catalog ---- */

static int64
interval_us(const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	if (days < 0 || days > 366 || interval->time < 0 || interval->time > 366 * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("timeout is out of range"),
						errhint("It is a time between 0 and 366 days.")));
	return days * USECS_PER_DAY + interval->time;
}

static void
raise_failure(const DirectoryOrigin *origin)
{
	char		failure[512];

	facts_get_failure(origin->slot, failure, sizeof(failure));
	if (failure[0] != '\0')
		ereport(ERROR, (errcode(ERRCODE_FDW_ERROR), errmsg("the catalog of origin \"%s\" could not be read", origin->name),
						errdetail_internal("%s", text_clean(failure)),
						errhint("hyperpool.check_origin tells whether the origin can be reached.")));
}

Datum
hyperpool_refresh_catalog(PG_FUNCTION_ARGS)
{
	const DirectoryOrigin *origin;
	int64		until;
	uint64		ticket;

	cache_require_argument(fcinfo, 0);
	cache_require_argument(fcinfo, 1);
	until = versions_clock() + interval_us(PG_GETARG_INTERVAL_P(1));
	origin = cache_find_origin(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	facts_want(origin->slot, versions_clock());
	ticket = facts_ask_refresh(origin->slot);
	cancel_wake_scout();
	while (!facts_refresh_is_done(origin->slot, ticket))
	{
		if (versions_clock() >= until)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("the catalog of origin \"%s\" was not read in time", origin->name),
							errdetail("The scout of hyperpool will still do it."),
							errhint("Give a longer timeout, or see facts_failure in hyperpool.stat_origins.")));
		cache_nap();
	}
	raise_failure(origin);
	PG_RETURN_VOID();
}
