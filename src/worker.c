/*
 * worker.c - the main of a worker: its loop, reload, drain.
 *
 * Owns the reactor, the wait set it sleeps in, the directory of this worker, the limits of its process. Sockets wait in the
 * reactor's own epoll set; the wait set holds only that, the latch and the postmaster's death, so a busy worker polls with one system call
 * and looks at its latch in memory.
 *
 * An ERROR ends what caused it, not the worker: a turn of the reactor runs under PG_TRY, and the reactor goes on after it. The worker has
 * no database and reads no catalog; its connection to the shared catalogs is there for the procsignal
 * handlers (barriers: DROP DATABASE waits for them) and its row of pg_stat_activity.
 *
 * Never: exits 0, which would tell the postmaster to leave it ended; exit 1 is restarted, except when the server is going down.
 */
#include "postgres.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include "access/xact.h"
#include "client/session.h"
#include "core/portal.h"
#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "host/identity.h"
#include "host/listen.h"
#include "host/store.h"
#include "host/tls.h"
#include "host/versions.h"
#include "miscadmin.h"
#include "net/reactor.h"
#include "origin/link.h"
#include "origin/pool.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"
#include "worker.h"

#define TICK_EVERY			INT64CONST(1000000) /* microseconds */
#define DRAIN_SLEEP_MS		100
#define LAST_WORDS			INT64CONST(1000000) /* what links get for their farewell */
#define ERRORS_IN_A_ROW		1000	/* something raises an ERROR whenever it is touched, and would for ever */
#define SPARE_DESCRIPTORS	128		/* the server's own files in a process without a database, listeners, cancel requests, clients that are being refused */

static struct
{
	int			number;
	Reactor    *reactor;
	WaitEventSet *sleep;
	uint32		wait_event;
	MemoryContext turn_context; /* whatever is palloc'd in a turn ends with it */
	Directory  *directory;
	bool		listening;
	bool		latched;		/* the latch was set since flights were looked at */
	int64		next_tick;
	int64		drain_until;	/* 0: not draining */
} me;

static volatile sig_atomic_t shutdown_asked = false;

static void
on_sigterm(SIGNAL_ARGS)
{
	int			saved = errno;

	shutdown_asked = true;
	SetLatch(MyLatch);
	errno = saved;
}

/* ---- the start ---- */

static void
set_signals(void)
{
	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* pg_cancel_backend would raise an ERROR in whatever session happens to be served */
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGPIPE, SIG_IGN);
	BackgroundWorkerUnblockSignals();
}

/* As many descriptors as the hard limit allows; RLIM_INFINITY when nobody knows. */
static rlim_t
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return RLIM_INFINITY;
	if (limit.rlim_cur != limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
			(void) getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur;
}

/* How many clients there are descriptors for. Where they are short, links keep a quarter: without any, clients would be let in for nothing. */
static void
fit_max_clients(void)
{
	rlim_t		files = raise_file_limit();
	rlim_t		rest = files > SPARE_DESCRIPTORS ? files - SPARE_DESCRIPTORS : 1;
	int			clients;

	if (files == RLIM_INFINITY || rest >= (rlim_t) hyperpool_max_clients + hyperpool_max_links)
		return;
	clients = (int) Max(rest - Min((rlim_t) hyperpool_max_links, rest / 4), 1);
	if (clients >= hyperpool_max_clients)
		return;
	sessions_limit(clients);
	ereport(WARNING,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("hyperpool worker %d accepts no more than %d clients, as it may open no more than %llu files",
					me.number, clients, (unsigned long long) files),
			 errhint("Raise the hard limit on open files of the server, or lower hyperpool.max_clients.")));
}

/* Whom a worker wakes must not cut into its work: batches form, and switches are saved. */
static void
be_a_batch_process(void)
{
	struct sched_param plain = {0};

	if (sched_setscheduler(0, SCHED_BATCH, &plain) != 0)
		elog(DEBUG1, "could not set SCHED_BATCH: %m");
}

static void
make_wait_set(void)
{
#if PG_VERSION_NUM >= 170000
	me.wait_event = WaitEventExtensionNew("HyperpoolMain");
	me.sleep = CreateWaitEventSet(NULL, 3);
#else
	me.wait_event = PG_WAIT_EXTENSION;
	me.sleep = CreateWaitEventSet(TopMemoryContext, 3);
#endif
	AddWaitEventToSet(me.sleep, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(me.sleep, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(me.sleep, WL_SOCKET_READABLE, reactor_fd(me.reactor), NULL, NULL);
}

/* What a predecessor, or we, have left in shared memory. What it was writing is in doubt from now on. */
static void
clear_shared(void)
{
	counters_clear_worker(me.number);
	store_clear_worker(me.number);
	versions_clear_worker(me.number);
	cancel_wake_scout();
}

/* However it ends: nobody sends us notes, nobody finds our socket files, nobody counts our clients. */
static void
on_exit_of_worker(int code, Datum arg)
{
	cancel_set_latch(me.number, NULL);
	listen_stop();
	clear_shared();
}

static void
open_rooms(void)
{
	uint32		random;

	/* digests have the server's key since before the fork; names of prepared statements are each process's own */
	if (!pg_strong_random(&random, sizeof(random)))
		random = (uint32) MyProcPid ^ (uint32) reactor_clock();
	link_names_seed(random);

	me.reactor = reactor_create();
	if (me.reactor == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("hyperpool could not create an epoll set: %m")));
	make_wait_set();
	identity_init();
	tls_reload();
	links_init(me.reactor);
	pools_init(me.reactor, me.number);
	sessions_init(me.reactor, me.number);
	/* who waits for what a predecessor was asking is woken: sessions_init has said how */
	clear_shared();
	before_shmem_exit(on_exit_of_worker, (Datum) 0);
	cancel_set_latch(me.number, MyLatch);
}

/* ---- errors ---- */

/* What an ERROR leaves behind in a process that has no transaction to abort. */
static void
recover(MemoryContext context, ResourceOwner owner)
{
	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	EmitErrorReport();
	FlushErrorState();
	pgstat_report_wait_end();
	LWLockReleaseAll();
	if (IsTransactionState())
		AbortCurrentTransaction();
	/* a file of the server's own code, the configuration's for one */
	AtEOXact_Files(false);
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	RESUME_INTERRUPTS();
}

/* Runs one step; false: it raised an ERROR, which has been logged. */
static bool
guarded(void (*step) (void))
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext context = CurrentMemoryContext;
	volatile bool sound = true;

	PG_TRY();
	{
		step();
	}
	PG_CATCH();
	{
		sound = false;
		recover(context, owner);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return sound;
}

/* Sessions give up the link that was being read before it breaks: nobody else may have it meanwhile. */
static void
end_interrupted(void)
{
	pools_after_error();
	sessions_after_error(links_interrupted());
	links_after_error();
}

/* The same, and who was in the middle of something is ended. */
static bool
careful(void (*step) (void))
{
	if (guarded(step))
		return true;
	(void) guarded(end_interrupted);
	return false;
}

/* ---- news from the rest of the server ---- */

/* The port opens with the first directory: before, nobody could be let in. */
static void
start_listening(void)
{
	static const ListenTarget target = {sessions_accepting, session_accept};

	if (me.listening || me.directory == NULL || me.drain_until != 0)
		return;
	me.listening = true;
	listen_start(me.reactor, me.number, &target);
}

static void
tell_pools(void)
{
	pools_on_directory(me.directory);
}

static void
tell_sessions(void)
{
	sessions_on_directory(me.directory);
}

/* Pools and sessions keep no pointers into the old one: it is gone when they are told, and each is told whatever befalls the other. */
static void
take_directory(void)
{
	me.directory = directory_refresh(me.directory);
	if (me.directory == NULL)
		return;
	(void) careful(tell_pools);
	(void) careful(tell_sessions);
	start_listening();
}

static void
read_notes(void)
{
	Note		note;

	while (cancel_next_note(me.number, &note))
	{
		switch (note.kind)
		{
			case NOTE_CANCEL:
			case NOTE_DISCONNECT:
				sessions_on_note(&note);
				break;
			case NOTE_RESTART_ORIGIN:
				pools_on_note(&note);
				break;
			case NOTE_DIRECTORY:
				take_directory();	/* even if its generation stands: pause and resume are outside it */
				break;
		}
	}
}

static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	tls_reload();
}

static void
heed_latch(void)
{
	me.latched = true;
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	if (ConfigReloadPending)
		reload();
	read_notes();
}

static void
tick(void)
{
	me.next_tick = reactor_now(me.reactor) + TICK_EVERY;
	/* a busy worker never sleeps in the wait set, which would notice */
	if (!PostmasterIsAlive())
		proc_exit(1);
	pools_tick();
}

static void
keep_house(void)
{
	if (MyLatch->is_set)
		heed_latch();
	if (directory_changed(me.directory))
		take_directory();
	if (me.listening)
		listen_turn();
	sessions_on_flights(me.latched);
	me.latched = false;
	pools_on_facts();
	if (reactor_now(me.reactor) >= me.next_tick)
		tick();
}

/* ---- the loop ---- */

static int	delivered;
static int	errors_in_a_row = 0;

static void
turn_reactor(void)
{
	delivered = reactor_turn(me.reactor);
}

static void
turn(void)
{
	delivered = 0;
	if (careful(turn_reactor))
		errors_in_a_row = 0;
	else
	{
		delivered = 1;			/* what was left undone waits: no sleep */
		if (++errors_in_a_row > ERRORS_IN_A_ROW)
			ereport(FATAL,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("hyperpool worker %d starts anew, as each of its last %d turns ended in an error",
							me.number, ERRORS_IN_A_ROW)));
	}
	(void) careful(keep_house);
	/* contexts made below it belong to who made them */
	MemoryContextResetOnly(me.turn_context);
}

static void
sleep_until_ready(void)
{
	long		ms = reactor_sleep_ms(me.reactor);
	long		to_tick = (long) ((me.next_tick - reactor_clock()) / 1000) + 1;
	WaitEvent	events[3];

	to_tick = Max(to_tick, 0);
	if (me.drain_until != 0)
		to_tick = Min(to_tick, DRAIN_SLEEP_MS);
	if (ms < 0 || ms > to_tick)
		ms = to_tick;
	if (ms > 0)
		WaitEventSetWait(me.sleep, ms, events, 3, me.wait_event);
}

static void
begin_drain(void)
{
	ereport(LOG,
			(errmsg("hyperpool worker %d is shutting down", me.number),
			 errdetail("Open transactions get %d seconds to end.", hyperpool_drain_timeout)));
	me.drain_until = reactor_clock() + hyperpool_drain_timeout * INT64CONST(1000000);
	me.listening = false;
	listen_stop();
}

static bool drained;

static void
drain(void)
{
	bool		late = reactor_clock() >= me.drain_until;

	drained = sessions_drain(late);
	if (drained)
		drained = pools_drain();
}

static void
loop(void)
{
	for (;;)
	{
		turn();
		if (shutdown_asked)
		{
			if (me.drain_until == 0)
				begin_drain();
			(void) careful(drain);
			if (drained || reactor_clock() >= me.drain_until + LAST_WORDS)
				return;
		}
		if (delivered == 0)
			sleep_until_ready();
	}
}

void
hyperpool_worker_main(Datum arg)
{
	me.number = DatumGetInt32(arg);
	set_signals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	fit_max_clients();
	be_a_batch_process();
	open_rooms();

	me.turn_context = AllocSetContextCreate(TopMemoryContext, "hyperpool turn", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(me.turn_context);
	loop();
	proc_exit(1);
}
