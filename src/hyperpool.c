/*
 * hyperpool.c - what happens when the server loads the library.
 *
 * Defines the settings, asks for shared memory, fills it, registers the processes. Runs in the postmaster; what it sets there (the digest key)
 * the other processes have by being its children. A restart after a crash runs the start-up hook again, on
 * fresh memory, with a fresh key.
 * Never: opens a socket in the postmaster (every child would inherit it).
 */
#include "postgres.h"

#include "core/bytes.h"
#include "fmgr.h"
#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/facts.h"
#include "host/gucs.h"
#include "host/querystats.h"
#include "host/store.h"
#include "host/versions.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#ifdef PG_MODULE_MAGIC_EXT
PG_MODULE_MAGIC_EXT(.name = "hyperpool",.version = "1.0");
#else
PG_MODULE_MAGIC;
#endif

extern PGDLLEXPORT void _PG_init(void);

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static void
request_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(counters_shmem_size());
	RequestAddinShmemSpace(cancel_shmem_size());
	RequestAddinShmemSpace(directory_shmem_size());
	RequestAddinShmemSpace(versions_shmem_size());
	RequestAddinShmemSpace(facts_shmem_size());
	RequestAddinShmemSpace(querystats_shmem_size());
	RequestAddinShmemSpace(store_shmem_size());
}

static void
start_memory(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	counters_shmem_init();
	cancel_shmem_init();
	directory_shmem_init();
	versions_shmem_init();
	facts_shmem_init();
	querystats_shmem_init();
	store_shmem_init();
	LWLockRelease(AddinShmemInitLock);
	digest_seed(counters_digest_key());
}

static void
register_process(const char *type, const char *function, int flags, int number)
{
	BackgroundWorker process = {0};

	process.bgw_flags = flags;
	/* a gateway in front of a standby is as good as any */
	process.bgw_start_time = BgWorkerStart_ConsistentState;
	process.bgw_restart_time = 1;
	strlcpy(process.bgw_library_name, "hyperpool", sizeof(process.bgw_library_name));
	strlcpy(process.bgw_function_name, function, sizeof(process.bgw_function_name));
	strlcpy(process.bgw_type, type, sizeof(process.bgw_type));
	if (number > 0)
		snprintf(process.bgw_name, BGW_MAXLEN, "%s %d", type, number);
	else
		strlcpy(process.bgw_name, type, sizeof(process.bgw_name));
	process.bgw_main_arg = Int32GetDatum(number);
	RegisterBackgroundWorker(&process);
}

static void
register_processes(void)
{
	int			flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;

	register_process("hyperpool manager", "hyperpool_manager_main", flags, 0);
	register_process("hyperpool scout", "hyperpool_scout_main", flags, 0);
	for (int i = 0; i < hyperpool_workers; i++)
		register_process("hyperpool worker", "hyperpool_worker_main", flags, i);
}

void
_PG_init(void)
{
	/* loaded by a backend alone there is no shared memory to work on; the functions say so */
	if (!process_shared_preload_libraries_in_progress)
		return;

	gucs_define();
	MarkGUCPrefixReserved("hyperpool");

	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_memory;

	/* pg_upgrade starts both clusters with our library; single-user mode has no postmaster to start a process */
	if (!IsBinaryUpgrade && IsPostmasterEnvironment)
		register_processes();
}
