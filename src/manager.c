/*
 * manager.c - the process that may look at catalogs and files.                    floor 8
 *
 * Reads origins (foreign servers), credentials (user mappings), roles, memberships, rights and pg_hba.conf, and publishes them by
 * host/directory; then wakes whoever reads it. It looks when it is asked to (a ticket), when the caches are told of a change, at
 * a reload, and every hyperpool.directory_refresh seconds.
 *
 * Reading is the matter of manager_catalogs.c and manager_hba.c; here are the process, its database, its rounds.
 *
 * Owns: the directory it published last. Never: waits on a client's or origin's socket; holds a snapshot while idle.
 *
 * What can go wrong is waited out with one clear line: no database yet, no extension yet, a statement that fails, a directory
 * that is too small. What was published stays in force meanwhile.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "host/store.h"
#include "host/versions.h"
#include "manager_internal.h"
#include "worker.h"

#define LOOK_MS			1000	/* how often an idle manager hears of changes in catalogs; a message in the queue wakes nobody */
#define FIRST_RETRY_MS	1000
#define LAST_RETRY_MS	60000

static volatile sig_atomic_t in_round = false;
static bool catalogs_changed = true;
static bool connected = false;
static Directory *published = NULL;

/* ---- signals and exit ---- */

/* While idle the loop sees the request and leaves quietly; a round may wait for a lock, so it is interrupted. */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (in_round)
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
on_exit_callback(int code, Datum arg)
{
	directory_set_manager(false);
	cancel_set_manager_latch(NULL);
	if (!connected)
		directory_set_database_missing(true);
}

static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	catalogs_changed = true;
}

/* Exit code 1: the postmaster starts a manager again, unless it is shutting down. */
static void
leave_if_asked(void)
{
	if (ShutdownRequestPending)
		proc_exit(1);
}

static void
rest(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	leave_if_asked();
}

/* ---- the database ---- */

/*
 * Reads pg_database from end to end, as autovacuum's launcher does: without a database there may be no index to go by (the first
 * process of a new cluster finds no relcache file), and the name cache would want one.
 */
static bool
database_is_there(void)
{
	bool		there = false;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (!there && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		there = database->datallowconn && strcmp(NameStr(database->datname), hyperpool_database) == 0;
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	return there;
}

/*
 * Settings that hold whatever the server's or the database's say. Operators and functions are PostgreSQL's own; limits meant for clients do not count; and a
 * standby takes no serializable transaction, nor would one that is deferrable begin before others have ended.
 */
static void
be_undisturbed(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"statement_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"IntervalStyle", "postgres"},
	};

	/* these two are settings as well, and the owner of a database may set them for all who connect to it */
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * The last manager failed to connect, and a process may choose its database once only. So this one looks at the shared
 * catalogs alone until the database is there, then gives way to a manager that connects to it.
 */
static void
wait_for_database(void)
{
	long		pause = FIRST_RETRY_MS;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	be_undisturbed();
	if (!database_is_there())
		ereport(LOG, (errcode(ERRCODE_UNDEFINED_DATABASE),
					  errmsg("hyperpool waits for database \"%s\"", hyperpool_database),
					  errhint("Create it, or set hyperpool.database to the database that has the extension and restart the server.")));
	while (!database_is_there())
	{
		rest(pause);
		pause = Min(pause * 2, 10000);
	}
	connected = true;
	directory_set_database_missing(false);
	proc_exit(1);
}

static void
connect_database(void)
{
	if (directory_is_database_missing())
		wait_for_database();
	BackgroundWorkerInitializeConnection(hyperpool_database, NULL, 0);
	connected = true;
	be_undisturbed();
}

static void
watch_catalogs(void)
{
	static const int caches[] = {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID, AUTHMEMMEMROLE, AUTHMEMROLEMEM};
	size_t		i;

	for (i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], on_catalog_change, (Datum) 0);
}

/* ---- a round: look, publish, tell ---- */

/* Numbers of a slot belong to its origin: a new one begins at zero. */
static void
settle_counters(Directory *was, Directory *now)
{
	int			i;

	for (i = 0; i < directory_origin_count(now); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(now, i);

		if (directory_origin_by_oid(was, origin->oid) == NULL)
			counters_reset(origin->slot);
	}
}

static void
tell_all(void)
{
	cancel_note_all(NOTE_DIRECTORY, 0);
	cancel_wake_scout();
}

static bool
look_and_publish(void)
{
	MemoryContext round;
	DirectoryDraft *draft;
	bool		changed;

	StartTransactionCommand();
	round = CurrentMemoryContext;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "reading origins, roles and pg_hba.conf");
	draft = directory_draft();
	PG_TRY();
	{
		manager_hba_draft(draft, published);
		manager_catalogs_draft(draft);
		changed = directory_publish(draft);
	}
	PG_FINALLY();
	{
		directory_wipe_draft(draft);
	}
	PG_END_TRY();
	SPI_finish();
	PopActiveSnapshot();
	MemoryContextSwitchTo(round);
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return changed;
}

static void
after_publication(void)
{
	Directory  *now = directory_refresh(NULL);

	/* without memory for it what is new is settled after the next */
	if (now != NULL)
	{
		settle_counters(published, now);
		directory_forget(published);
		published = now;
	}
	tell_all();
}

/* One look; false: it failed, the log says why, what was published stays. */
static bool
run_round(void)
{
	MemoryContext before = CurrentMemoryContext;
	volatile bool good = false;
	uint64		ticket = directory_publication_asked();

	catalogs_changed = false;
	in_round = true;
	PG_TRY();
	{
		if (look_and_publish())
			after_publication();
		directory_publication_done(ticket);
		good = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(before);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_END_TRY();
	in_round = false;
	MemoryContextSwitchTo(before);
	return good;
}

/* ---- the loop ---- */

static void
reload_if_asked(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	manager_hba_reload();
}

/* An empty transaction reads the queue of invalidations; it holds nothing afterwards. */
static void
hear_of_changes(void)
{
	StartTransactionCommand();
	CommitTransactionCommand();
}

static bool
must_look(int64 last, uint64 served)
{
	if (catalogs_changed || manager_hba_must_read() || directory_publication_asked() != served)
		return true;
	/* not by the time of day, which may be set back */
	return versions_clock() - last >= hyperpool_directory_refresh * INT64CONST(1000000);
}

static void
manager_loop(void)
{
	int64		last = 0;
	long		pause = FIRST_RETRY_MS;
	uint64		served = 0;

	for (;;)
	{
		leave_if_asked();
		reload_if_asked();
		hear_of_changes();
		if (must_look(last, served))
		{
			uint64		asked = directory_publication_asked();

			if (!run_round())
			{
				rest(pause);
				pause = Min(pause * 2, LAST_RETRY_MS);
				catalogs_changed = true;
				continue;
			}
			pause = FIRST_RETRY_MS;
			last = versions_clock();
			served = asked;
		}
		/* in parts: memory for a large cache takes a minute to come, and others are not to wait for it */
		rest(store_prefault_some() ? 0 : LOOK_MS);
	}
}

void
hyperpool_manager_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	before_shmem_exit(on_exit_callback, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	connect_database();
	watch_catalogs();
	cancel_set_manager_latch(MyLatch);
	published = directory_refresh(NULL);
	directory_set_manager(true);
	manager_loop();
}
