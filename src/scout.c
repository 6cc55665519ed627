/*
 * scout.c - the process that asks remote things for the workers.                  floor 8
 *
 * Host names (scout_names.c), and the catalogs of the origins and writes in doubt (scout_watch.c), so that no worker ever waits for either. One loop
 * waits for its latch, the postmaster, the sockets of all control connections and the next thing that is due; nothing in it blocks, so an origin that is
 * dead keeps nobody else waiting.
 *
 * Owns: the directory it works by, and the wait. Never: carries client traffic, touches a catalog of this server.
 */
#include "postgres.h"

#include <sys/resource.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "host/cancel.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "host/versions.h"
#include "scout_internal.h"
#include "worker.h"

#define REST_MS			1000	/* how often wishes of workers are looked for, should a wake-up be lost */
#define NAP_MS			50		/* while the resolver works: it has no descriptor to wait for */
#define SOCKETS_MAX		512

static Directory *directory = NULL;

static void
on_exit_callback(int code, Datum arg)
{
	cancel_set_scout_latch(NULL);
}

/* ---- waiting ---- */

/* Made anew for each wait: the sockets are others nearly every time, and a set cannot forget one. */
static WaitEventSet *
make_set(int nsockets)
{
#if PG_VERSION_NUM >= 170000
	WaitEventSet *set = CreateWaitEventSet(NULL, nsockets + 2);
#else
	WaitEventSet *set = CreateWaitEventSet(TopMemoryContext, nsockets + 2);
#endif

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	return set;
}

static void
wait_for_news(long milliseconds)
{
	static ScoutSocket sockets[SOCKETS_MAX];
	int			n = scout_watch_sockets(sockets, SOCKETS_MAX);
	WaitEventSet *set = make_set(n);
	WaitEvent	event;
	int			i;

	for (i = 0; i < n; i++)
		AddWaitEventToSet(set, sockets[i].for_write ? WL_SOCKET_WRITEABLE | WL_SOCKET_READABLE : WL_SOCKET_READABLE, sockets[i].fd, NULL, NULL);
	(void) WaitEventSetWait(set, milliseconds, &event, 1, PG_WAIT_EXTENSION);
	FreeWaitEventSet(set);
}

/* Exit code 1: the postmaster starts a scout again, unless it is shutting down. */
static void
rest(long milliseconds)
{
	wait_for_news(milliseconds);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ShutdownRequestPending)
		proc_exit(1);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ---- the loop ---- */

static long
time_to_rest(void)
{
	int64		left = scout_watch_due() - versions_clock();
	long		milliseconds = left <= 0 ? 0 : (long) Min((left + 999) / 1000, REST_MS);

	if (directory_changed(directory))
		return 1;
	return scout_names_pending(directory) ? Min(milliseconds, NAP_MS) : milliseconds;
}

/*
 * libpq keeps a row of an answer until it is whole, and an origin may announce one of a gigabyte. Beyond this libpq gets no memory, says so, and that origin's connection ends;
 * what a catalog takes is bounded by hyperpool.facts_size, and a directory, of which there are two for a moment, by hyperpool.directory_size.
 */
#define MEMORY_MAX		(UINT64CONST(256) * 1024 * 1024)
#define TIMES_FACTS		16		/* what is known of catalogs may take so many times as much while it is read */
#define TIMES_DIRECTORY	8		/* the same of two directories, decoded */

static void
limit_memory(void)
{
	unsigned long long pages = 0;
	struct rlimit limit;
	FILE	   *file = fopen("/proc/self/statm", "r");

	/* the sixth number is of data */
	if (file == NULL)
		return;
	/* the kernel has written it: NOLINTNEXTLINE(cert-err34-c) */
	if (fscanf(file, "%*u %*u %*u %*u %*u %llu", &pages) == 1 && getrlimit(RLIMIT_DATA, &limit) == 0)
	{
		uint64		kilobytes = (uint64) TIMES_FACTS * hyperpool_facts_size + (uint64) TIMES_DIRECTORY * hyperpool_directory_size;
		rlim_t		most = (rlim_t) (pages * sysconf(_SC_PAGESIZE) + MEMORY_MAX + kilobytes * 1024);

		limit.rlim_cur = Min(limit.rlim_max, most);
		if (setrlimit(RLIMIT_DATA, &limit) != 0)
			elog(DEBUG1, "could not limit the memory of hyperpool's scout: %m");
	}
	fclose(file);
}

void
hyperpool_scout_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	before_shmem_exit(on_exit_callback, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	/* no database: this only makes the process visible in pg_stat_activity and reachable for barriers */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	limit_memory();
	scout_names_init();
	scout_watch_init();
	cancel_set_scout_latch(MyLatch);
	for (;;)
	{
		directory = directory_refresh(directory);
		if (scout_names_step(directory))
			cancel_note_all(NOTE_DIRECTORY, 0);
		if (!directory_changed(directory))
			scout_watch_step(directory, versions_clock());
		rest(time_to_rest());
	}
}
