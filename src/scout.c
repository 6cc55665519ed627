/*
 * scout.c - the process that asks remote things for the workers.                  floor 8
 *
 * Looks up the host names of every origin and publishes the addresses, so that no worker ever waits for a name: when an origin is
 * new or has moved, when a worker asks for it (a connection failed), and every half minute. A look-up that does not answer is given
 * up at a deadline; what was found before stays in use meanwhile.
 *
 * Owns: per slot what was looked up last and when. Never: touches a catalog, carries client traffic.
 */
#include "postgres.h"

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
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "host/cancel.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "net/resolve.h"
#include "worker.h"

#define REFRESH_MS		30000
#define DEADLINE_MS		10000
#define REST_MS			1000	/* how often wishes of workers are looked for, should a wake-up be lost */
#define WISH_MS			1000	/* a wish is granted at most this often */

typedef struct ScoutSlot		/* what this process knows of a slot */
{
	Oid			oid;
	TimestampTz looked;			/* when the last look-up ended */
	bool		failing;		/* said so */
} ScoutSlot;

static ScoutSlot *slots = NULL;
static Directory *directory = NULL;

/* ---- exit ---- */

static void
on_exit_callback(int code, Datum arg)
{
	cancel_set_scout_latch(NULL);
}

/* Exit code 1: the postmaster starts a scout again, unless it is shutting down. */
static void
rest(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
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

/* ---- the places ---- */

static const char *
option_of_origin(const DirectoryOrigin *origin, const char *name)
{
	int			i;

	for (i = 0; i < origin->noptions; i++)
	{
		if (strcmp(origin->options[i].name, name) == 0)
			return origin->options[i].value;
	}
	return "";
}

/* The resolver has no descriptor to wait for: short naps that grow. */
static void
wait_for_lookups(const Place *places, int n)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DEADLINE_MS);
	long		nap = 1;

	while (!places_done(places, n) && GetCurrentTimestamp() < until)
	{
		rest(nap);
		nap = Min(nap * 2, 50);
	}
}

/* ---- the answer ---- */

static bool
append(char *list, size_t size, const char *item, bool first)
{
	size_t		used = strlen(list);
	size_t		more = strlen(item) + (first ? 0 : 1);

	if (used + more >= size)
		return false;
	if (!first)
		list[used++] = ',';
	strcpy(list + used, item);
	return true;
}

/* One more of the three lists, which must match one to one: what does not fit into all of them is left out. */
static void
add_address(DirectoryAddresses *out, int *count, const Place *place, const char *hostaddr)
{
	DirectoryAddresses longer = *out;
	bool		first = *count == 0;

	if (append(longer.hosts, sizeof(longer.hosts), place->host, first) &&
		append(longer.hostaddrs, sizeof(longer.hostaddrs), hostaddr, first) &&
		append(longer.ports, sizeof(longer.ports), place->port, first))
	{
		*out = longer;
		(*count)++;
	}
}

static void
note_failure(DirectoryAddresses *out, const Place *place, const char *why)
{
	snprintf(out->error, sizeof(out->error), "could not resolve host name \"%s\": %s", place->host, why);
}

static void
add_lookup(DirectoryAddresses *out, int *count, const Place *place)
{
	struct addrinfo *list;
	struct addrinfo *at;
	char		text[64];
	int			rc;

	if (place->lookup == NULL || !resolve_done(place->lookup))
	{
		note_failure(out, place, "the name service does not answer");
		return;
	}
	rc = resolve_result(place->lookup, &list);
	if (rc != 0)
	{
		note_failure(out, place, gai_strerror(rc));
		return;
	}
	for (at = list; at != NULL; at = at->ai_next)
	{
		if (resolve_address_text(at, text, sizeof(text)))
			add_address(out, count, place, text);
	}
}

/* True if there is at least one place to connect to. */
static bool
collect(Place *places, int n, DirectoryAddresses *out)
{
	int			count = 0;
	int			i;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < n; i++)
	{
		if (place_needs_lookup(&places[i]))
			add_lookup(out, &count, &places[i]);
		else
			add_address(out, &count, &places[i], places[i].hostaddr);
	}
	if (count > 0)
		out->error[0] = '\0';	/* one dead name of several is no failure */
	return count > 0;
}

/* What was found before serves on; only the failure is new. */
static void
keep_former(int slot, DirectoryAddresses *addresses)
{
	DirectoryAddresses former;

	directory_get_addresses(slot, &former);
	memcpy(addresses->hosts, former.hosts, sizeof(former.hosts));
	memcpy(addresses->hostaddrs, former.hostaddrs, sizeof(former.hostaddrs));
	memcpy(addresses->ports, former.ports, sizeof(former.ports));
	addresses->failed = true;
}

static void
say_failure(ScoutSlot *slot, const char *name, const DirectoryAddresses *addresses)
{
	if (addresses->failed && !slot->failing)
		ereport(LOG, (errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					  errmsg("hyperpool: origin \"%s\": %s", name, addresses->error)));
	slot->failing = addresses->failed;
}

/* Looks one origin up; true if its addresses have changed. The origin's place in the directory holds until the directory is refreshed. */
static bool
look_up(const DirectoryOrigin *origin, ScoutSlot *slot)
{
	Place	places[PLACES_MAX];
	DirectoryAddresses found;
	DirectoryAddresses after;
	DirectoryAddresses before;
	int			n = places_read(option_of_origin(origin, "host"), option_of_origin(origin, "hostaddr"), option_of_origin(origin, "port"), places);

	directory_get_addresses(origin->slot, &before);
	places_start(places, n);
	wait_for_lookups(places, n);
	if (!collect(places, n, &found))
		keep_former(origin->slot, &found);
	places_end(places, n);
	if (!directory_set_addresses(directory, origin->slot, &found))
		return false;
	slot->oid = origin->oid;
	slot->looked = GetCurrentTimestamp();
	say_failure(slot, origin->name, &found);
	directory_get_addresses(origin->slot, &after);
	return after.generation != before.generation;
}

/* ---- the loop ---- */

static bool
is_due(const DirectoryOrigin *origin, const ScoutSlot *slot)
{
	DirectoryAddresses known;
	TimestampTz now = GetCurrentTimestamp();

	directory_get_addresses(origin->slot, &known);
	if (known.generation == 0 || slot->oid != origin->oid)
		return true;
	if (TimestampDifferenceExceeds(slot->looked, now, REFRESH_MS))
		return true;
	/* a wish that comes too soon stays there for the next turn */
	return TimestampDifferenceExceeds(slot->looked, now, WISH_MS) && directory_addresses_wanted(origin->slot);
}

/* One turn; a directory that has changed meanwhile ends it. True if anything was found that was not known. */
static bool
look_around(void)
{
	bool		changed = false;
	int			i;

	for (i = 0; i < directory_origin_count(directory) && !directory_changed(directory); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(directory, i);
		ScoutSlot  *slot = &slots[origin->slot];

		if (is_due(origin, slot) && look_up(origin, slot))
			changed = true;
	}
	return changed;
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
	slots = MemoryContextAllocZero(TopMemoryContext, sizeof(ScoutSlot) * hyperpool_max_origins);
	cancel_set_scout_latch(MyLatch);
	for (;;)
	{
		directory = directory_refresh(directory);
		if (look_around())
			cancel_note_all(NOTE_DIRECTORY, 0);
		if (!directory_changed(directory))
			rest(REST_MS);
	}
}
