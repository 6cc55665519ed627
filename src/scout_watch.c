/*
 * scout_watch.c - one CatalogWatch an origin, and writes in doubt that no watch can see to.
 *
 * A watch belongs to the origin that has the slot. When that is dropped, its watch goes on as an orphan while its connection is open and
 * writes of it are in doubt. Doubts that nobody can see to (no connection, and no credential any more) stay up for ORPHANED_FOR: as long as they do,
 * nothing that hangs on what they wrote is kept or answered from the cache. How they ended cannot be learnt then; by that time a statement
 * whose client has gone has nearly always ended. They are settled, with SLOT_GLOBAL moved first, and the log says so.
 *
 * Owns the watches. Never: waits.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "host/gucs.h"
#include "host/versions.h"
#include "origin/catalog.h"
#include "scout_internal.h"

#define SECOND			INT64CONST(1000000)
#define ORPHANED_FOR	(600 * SECOND)
#define ORPHANS_EVERY	SECOND
#define ORPHANS_MAX		16
#define LOOKED_AT_MAX	256		/* doubts, at a time */

typedef struct WatchSlot
{
	Oid			oid;			/* of the origin; 0 = there is none */
	CatalogWatch *watch;
} WatchSlot;

static WatchSlot *slots = NULL;
static WatchSlot orphans[ORPHANS_MAX];	/* by no order; watch NULL = free */
static int	orphan_slots[ORPHANS_MAX];	/* the origin slot each had */
static bool seen_directory = false;
static int64 due;
static int64 orphans_due;

void
scout_watch_init(void)
{
	slots = MemoryContextAllocZero(TopMemoryContext, sizeof(WatchSlot) * hyperpool_max_origins);
}

/* ---- which doubts nobody sees to ---- */

static bool
is_minded(const Doubt *d)
{
	int			i;

	if (d->origin_slot >= 0 && d->origin_slot < hyperpool_max_origins && slots[d->origin_slot].watch != NULL &&
		catalog_watch_minds(slots[d->origin_slot].watch, d->since))
		return true;
	for (i = 0; i < ORPHANS_MAX; i++)
	{
		if (orphans[i].watch != NULL && orphan_slots[i] == d->origin_slot && catalog_watch_minds(orphans[i].watch, d->since))
			return true;
	}
	return false;
}

static void
settle_unminded(int64 now)
{
	Doubt		doubts[LOOKED_AT_MAX];
	int			n = Min(versions_doubts(-1, doubts, LOOKED_AT_MAX), LOOKED_AT_MAX);
	int			settled = 0;
	int			i;

	for (i = 0; i < n; i++)
	{
		if (is_minded(&doubts[i]) || now - doubts[i].since < ORPHANED_FOR)
			continue;
		if (settled++ == 0)
			versions_move(SLOT_GLOBAL);
		versions_settle(doubts[i].record);
	}
	if (settled > 0)
		ereport(LOG, (errcode(ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN), errmsg("hyperpool: the outcome of %d writes at an origin that is gone was never learnt", settled)));
}

/* ---- origins come and go ---- */

static bool
has_doubt(int slot, const CatalogWatch *watch)
{
	Doubt		doubts[LOOKED_AT_MAX];
	int			n = Min(versions_doubts(slot, doubts, LOOKED_AT_MAX), LOOKED_AT_MAX);
	int			i;

	for (i = 0; i < n; i++)
	{
		if (catalog_watch_minds(watch, doubts[i].since))
			return true;
	}
	return false;
}

static void
release(int slot, int64 now)
{
	CatalogWatch *watch = slots[slot].watch;
	int			i;

	slots[slot].watch = NULL;
	slots[slot].oid = InvalidOid;
	if (watch == NULL)
		return;
	catalog_watch_step(watch, NULL, NULL, now); /* what comes in doubt in this slot from now on is another origin's */
	for (i = 0; i < ORPHANS_MAX && catalog_watch_is_open(watch); i++)
	{
		if (orphans[i].watch == NULL && has_doubt(slot, watch))
		{
			orphans[i].watch = watch;
			orphan_slots[i] = slot;
			return;
		}
	}
	catalog_watch_free(watch);
}

/* Watches of origins that are no longer in their slots. */
static void
release_dropped(Directory *directory, int64 now)
{
	int			i;

	for (i = 0; i < hyperpool_max_origins; i++)
	{
		const DirectoryOrigin *origin;

		if (slots[i].watch == NULL)
			continue;
		origin = directory_origin_by_oid(directory, slots[i].oid);
		if (origin == NULL || origin->slot != i)
			release(i, now);
	}
}

/* ---- steps ---- */

static void
note_due(const CatalogWatch *watch)
{
	due = Min(due, catalog_watch_due(watch));
}

static void
step_origin(Directory *directory, const DirectoryOrigin *origin, int64 now)
{
	WatchSlot  *slot = &slots[origin->slot];

	if (slot->watch == NULL)
	{
		/* those that were there when this process began may have had their slots for long */
		slot->watch = catalog_watch_create(origin->slot, seen_directory ? now : 0);
		slot->oid = origin->oid;
	}
	catalog_watch_step(slot->watch, origin, directory_any_credential(directory, origin), now);
	note_due(slot->watch);
}

static void
step_orphans(int64 now)
{
	int			i;

	for (i = 0; i < ORPHANS_MAX; i++)
	{
		if (orphans[i].watch == NULL)
			continue;
		catalog_watch_step(orphans[i].watch, NULL, NULL, now);
		note_due(orphans[i].watch);
		if (catalog_watch_is_open(orphans[i].watch))
			continue;
		catalog_watch_free(orphans[i].watch);
		orphans[i].watch = NULL;
	}
}

void
scout_watch_step(Directory *directory, int64 now)
{
	int			i;

	due = now + SECOND;
	if (directory == NULL)
		return;
	release_dropped(directory, now);
	for (i = 0; i < directory_origin_count(directory); i++)
		step_origin(directory, directory_origin_at(directory, i), now);
	seen_directory = true;
	step_orphans(now);
	if (now >= orphans_due)
	{
		settle_unminded(now);
		orphans_due = now + ORPHANS_EVERY;
	}
}

int64
scout_watch_due(void)
{
	return due;
}

static int
add_socket(const CatalogWatch *watch, ScoutSocket *out, int n, int max)
{
	if (watch == NULL || n == max)
		return n;
	out[n].fd = catalog_watch_socket(watch, &out[n].for_write);
	return out[n].fd < 0 ? n : n + 1;
}

int
scout_watch_sockets(ScoutSocket *out, int max)
{
	int			n = 0;
	int			i;

	for (i = 0; i < hyperpool_max_origins; i++)
		n = add_socket(slots[i].watch, out, n, max);
	for (i = 0; i < ORPHANS_MAX; i++)
		n = add_socket(orphans[i].watch, out, n, max);
	return n;
}
