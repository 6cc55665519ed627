/*
 * scout_names.c - the scout's look-ups of host names.
 *
 * Looks up the host names of every origin and publishes the addresses, so that no worker ever waits for a name: when an origin is
 * new or has moved, when a worker asks for it (a connection failed), and every half minute. A look-up that does not answer is given
 * up at a deadline; what was found before stays in use meanwhile. Look-ups of all origins run side by side.
 *
 * Owns: per slot what was looked up last and when, and the look-up that is under way. Never: waits.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "host/gucs.h"
#include "host/versions.h"
#include "net/resolve.h"
#include "scout_internal.h"

/* By versions_clock(): the time of day may be set. */
#define SECOND			INT64CONST(1000000)
#define REFRESH_EVERY	(30 * SECOND)
#define DEADLINE		(10 * SECOND)
#define WISHES_EVERY	SECOND	/* a wish is granted at most this often */

typedef struct NameSlot			/* what this process knows of a slot */
{
	Oid			oid;
	int64		looked;			/* when the last look-up ended */
	bool		failing;		/* said so */
	bool		looking;
	uint32		generation;		/* of the origin whose places they are */
	int64		until;
	int			nplaces;
	Place		places[PLACES_MAX];
} NameSlot;

static NameSlot *slots = NULL;

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
say_failure(NameSlot *slot, const char *name, const DirectoryAddresses *addresses)
{
	if (addresses->failed && !slot->failing)
		ereport(LOG, (errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
					  errmsg("hyperpool: origin \"%s\": %s", name, addresses->error)));
	slot->failing = addresses->failed;
}

/* ---- one origin ---- */

static void
begin(const DirectoryOrigin *origin, NameSlot *slot)
{
	slot->oid = origin->oid;
	slot->generation = origin->generation;
	slot->until = versions_clock() + DEADLINE;
	slot->nplaces = places_read(option_of_origin(origin, "host"), option_of_origin(origin, "hostaddr"), option_of_origin(origin, "port"), slot->places);
	places_start(slot->places, slot->nplaces);
	slot->looking = true;
}

static void
give_up(NameSlot *slot)
{
	places_end(slot->places, slot->nplaces);
	slot->nplaces = 0;
	slot->looking = false;
}

/* Publishes what was found; true if the origin's addresses have changed. */
static bool
finish(const Directory *directory, const DirectoryOrigin *origin, NameSlot *slot)
{
	DirectoryAddresses found;
	DirectoryAddresses after;
	DirectoryAddresses before;

	directory_get_addresses(origin->slot, &before);
	if (!collect(slot->places, slot->nplaces, &found))
		keep_former(origin->slot, &found);
	give_up(slot);
	if (!directory_set_addresses(directory, origin->slot, &found))
	{
		slot->looked = 0;		/* a newer directory is out: look again by that */
		return false;
	}
	slot->looked = versions_clock();
	say_failure(slot, origin->name, &found);
	directory_get_addresses(origin->slot, &after);
	return after.generation != before.generation;
}

static bool
is_due(const DirectoryOrigin *origin, const NameSlot *slot)
{
	DirectoryAddresses known;
	int64		age = versions_clock() - slot->looked;

	directory_get_addresses(origin->slot, &known);
	if (known.generation == 0 || slot->oid != origin->oid)
		return true;
	if (age >= REFRESH_EVERY)
		return true;
	/* a wish that comes too soon stays there for the next turn */
	return age >= WISHES_EVERY && directory_addresses_wanted(origin->slot);
}

static bool
step(const Directory *directory, const DirectoryOrigin *origin, NameSlot *slot)
{
	/* the places of another origin, or of one that has been altered meanwhile */
	if (slot->looking && (slot->oid != origin->oid || slot->generation != origin->generation))
		give_up(slot);
	if (!slot->looking && is_due(origin, slot))
		begin(origin, slot);
	if (slot->looking && (places_done(slot->places, slot->nplaces) || versions_clock() >= slot->until))
		return finish(directory, origin, slot);
	return false;
}

/* ---- all of them ---- */

void
scout_names_init(void)
{
	slots = MemoryContextAllocZero(TopMemoryContext, sizeof(NameSlot) * hyperpool_max_origins);
}

bool
scout_names_step(const Directory *directory)
{
	bool		changed = false;
	int			i;

	for (i = 0; i < directory_origin_count(directory) && !directory_changed(directory); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(directory, i);

		if (step(directory, origin, &slots[origin->slot]))
			changed = true;
	}
	return changed;
}

bool
scout_names_pending(const Directory *directory)
{
	int			i;

	for (i = 0; i < directory_origin_count(directory); i++)
	{
		if (slots[directory_origin_at(directory, i)->slot].looking)
			return true;
	}
	return false;
}
