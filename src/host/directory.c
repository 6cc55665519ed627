/*
 * host/directory.c - origins, credentials, roles, hba lines.                      floor 4
 *
 * Answers: what do the catalogs and pg_hba.conf say, for processes that may not look? The manager collects a draft, turns it
 * into a flat image and publishes it; a reader copies the image, decodes its copy and finds things in that.
 * Here: the shared area, the origins' slots, publication and its tickets. directory_write.c makes the image, directory_read.c
 * takes it apart, directory_places.c says in which order the places of an origin are tried.
 *
 * Owns: the area "hyperpool directory" in shared memory: two halves for the image, the generation, the origins' slots with their
 * run-time flags and addresses. Never: touches a catalog, opens a file, decodes an image.
 *
 * How a publication happens: the manager (the only writer) writes the half that is not current, without a lock, then takes
 * image_lock exclusively for the one store that makes it current. Readers copy the current half under image_lock shared, so when
 * the manager holds the lock nobody is in the other half; after that it may be wiped and used again.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "host/directory_internal.h"
#include "host/gucs.h"

DirectoryShared *directory_shared = NULL;

/* ---- shared memory ---- */

static Size
half_size(void)
{
	Size		page = sysconf(_SC_PAGESIZE);

	return TYPEALIGN(page, mul_size(hyperpool_directory_size, 1024));
}

static Size
head_size(void)
{
	return add_size(offsetof(DirectoryShared, slots), mul_size(sizeof(OriginSlot), hyperpool_max_origins));
}

Size
directory_shmem_size(void)
{
	/* one page more: the halves begin on a page of their own */
	return add_size(add_size(MAXALIGN(head_size()), sysconf(_SC_PAGESIZE)), mul_size(2, half_size()));
}

static void
init_locks(void)
{
	directory_shared->tranche = LWLockNewTrancheId();
	LWLockInitialize(&directory_shared->image_lock, directory_shared->tranche);
	LWLockInitialize(&directory_shared->address_lock, directory_shared->tranche);
	ConditionVariableInit(&directory_shared->published);
}

static void
init_slots(void)
{
	int			i;

	directory_shared->nslots = hyperpool_max_origins;
	for (i = 0; i < directory_shared->nslots; i++)
	{
		directory_shared->slots[i].oid = InvalidOid;
		pg_atomic_init_u32(&directory_shared->slots[i].paused, 0);
		pg_atomic_init_u32(&directory_shared->slots[i].wanted, 0);
	}
}

static void
init_halves(void)
{
	Size		page = sysconf(_SC_PAGESIZE);
	char	   *start = (char *) TYPEALIGN(page, (char *) directory_shared + head_size());

	directory_shared->half_size = half_size();
	directory_shared->halves[0] = (uint8 *) start;
	directory_shared->halves[1] = (uint8 *) start + directory_shared->half_size;
	/* secrets stay out of core dumps; huge pages may refuse, which costs nothing but that */
	(void) madvise(start, 2 * directory_shared->half_size, MADV_DONTDUMP);
}

void
directory_shmem_init(void)
{
	bool		found;

	directory_shared = ShmemInitStruct("hyperpool directory", directory_shmem_size(), &found);
	if (!found)
	{
		memset(directory_shared, 0, head_size());
		init_locks();
		pg_atomic_init_u64(&directory_shared->generation, 0);
		pg_atomic_init_u64(&directory_shared->asked, 0);
		pg_atomic_init_u64(&directory_shared->done, 0);
		pg_atomic_init_u32(&directory_shared->manager, 0);
		pg_atomic_init_u32(&directory_shared->database_missing, 0);
		init_slots();
		init_halves();
	}
	LWLockRegisterTranche(directory_shared->tranche, "hyperpool_directory");
}

OriginSlot *
directory_slot_at(int slot)
{
	if (directory_shared == NULL || slot < 0 || slot >= directory_shared->nslots)
		return NULL;
	return &directory_shared->slots[slot];
}

/* ---- run-time flags ---- */

int
directory_published_slot(Oid oid)
{
	int			i;

	/* no lock: a slot's oid is one aligned word, written by the manager only */
	for (i = 0; directory_shared != NULL && OidIsValid(oid) && i < directory_shared->nslots; i++)
	{
		if (*(volatile Oid *) &directory_shared->slots[i].oid == oid)
			return i;
	}
	return -1;
}

bool
directory_is_paused(int slot)
{
	OriginSlot *s = directory_slot_at(slot);

	return s != NULL && pg_atomic_read_u32(&s->paused) != 0;
}

void
directory_set_paused(int slot, bool paused)
{
	OriginSlot *s = directory_slot_at(slot);

	if (s != NULL)
		pg_atomic_write_u32(&s->paused, paused ? 1 : 0);
}

void
directory_get_addresses(int slot, DirectoryAddresses *out)
{
	OriginSlot *s = directory_slot_at(slot);

	memset(out, 0, sizeof(*out));
	if (s == NULL)
		return;
	LWLockAcquire(&directory_shared->address_lock, LW_SHARED);
	memcpy(out, &s->addresses, sizeof(*out));
	LWLockRelease(&directory_shared->address_lock);
	out->hosts[sizeof(out->hosts) - 1] = out->hostaddrs[sizeof(out->hostaddrs) - 1] = '\0';
	out->ports[sizeof(out->ports) - 1] = out->error[sizeof(out->error) - 1] = '\0';
}

static bool
lists_equal(const DirectoryAddresses *a, const DirectoryAddresses *b)
{
	return strcmp(a->hosts, b->hosts) == 0 && strcmp(a->hostaddrs, b->hostaddrs) == 0 && strcmp(a->ports, b->ports) == 0;
}

static bool
addresses_equal(const DirectoryAddresses *a, const DirectoryAddresses *b)
{
	return a->failed == b->failed && lists_equal(a, b) && strcmp(a->error, b->error) == 0;
}

bool
directory_set_addresses(const Directory *d, int slot, const DirectoryAddresses *in)
{
	OriginSlot *s = directory_slot_at(slot);
	bool		current;
	int			first;

	if (s == NULL)
		return true;
	/* the manager publishes under the same lock, so addresses of a former host cannot follow a newer directory */
	LWLockAcquire(&directory_shared->address_lock, LW_EXCLUSIVE);
	current = !directory_changed(d);
	if (current && (s->addresses.generation == 0 || !addresses_equal(&s->addresses, in)))
	{
		first = lists_equal(&s->addresses, in) ? s->addresses.first : 0;
		memcpy(&s->addresses, in, sizeof(*in));
		s->addresses.first = first;
		if (++s->address_count == 0)
			s->address_count = 1;
		s->addresses.generation = s->address_count;
	}
	LWLockRelease(&directory_shared->address_lock);
	return current;
}

void
directory_want_addresses(int slot)
{
	OriginSlot *s = directory_slot_at(slot);

	if (s != NULL)
		pg_atomic_write_u32(&s->wanted, 1);
}

bool
directory_addresses_wanted(int slot)
{
	OriginSlot *s = directory_slot_at(slot);

	return s != NULL && pg_atomic_exchange_u32(&s->wanted, 0) != 0;
}

/* ---- the manager: slots ---- */

static void
take_slot(OriginSlot *slot, Oid oid)
{
	pg_atomic_write_u32(&slot->paused, 0);
	pg_atomic_write_u32(&slot->wanted, 1);
	LWLockAcquire(&directory_shared->address_lock, LW_EXCLUSIVE);
	memset(&slot->addresses, 0, sizeof(slot->addresses));
	LWLockRelease(&directory_shared->address_lock);
	slot->oid = oid;
}

/* A slot just freed may still be in a worker's old copy, so the one free for longest is taken. */
int
directory_slot_of(Oid oid)
{
	int			best = -1;
	int			i;

	for (i = 0; i < directory_shared->nslots; i++)
	{
		if (directory_shared->slots[i].oid == oid)
			return i;
		if (directory_shared->slots[i].oid == InvalidOid && (best < 0 || directory_shared->slots[i].freed < directory_shared->slots[best].freed))
			best = i;
	}
	if (best >= 0)
		take_slot(&directory_shared->slots[best], oid);
	return best;
}

static void
free_slots(const DirectoryDraft *draft)
{
	int			i;

	for (i = 0; i < directory_shared->nslots; i++)
	{
		OriginSlot *slot = &directory_shared->slots[i];

		if (slot->oid == InvalidOid || directory_draft_has_origin(draft, slot->oid))
			continue;
		slot->oid = InvalidOid;
		slot->freed = ++directory_shared->slots_freed;
	}
}

/* ---- the manager: publication ---- */

static void
forget_addresses(OriginSlot *slot)
{
	memset(&slot->addresses, 0, sizeof(slot->addresses));
	pg_atomic_write_u32(&slot->wanted, 1);
}

/* Lock order: address_lock, image_lock. Readers never hold both. */
static void
make_current(const DirectoryDraft *draft, uint64 generation, int half, Size used)
{
	ListCell   *cell;

	LWLockAcquire(&directory_shared->address_lock, LW_EXCLUSIVE);
	foreach(cell, draft->moved)
	{
		OriginSlot *slot = directory_slot_at(lfirst_int(cell));

		if (slot != NULL)
			forget_addresses(slot);
	}
	LWLockAcquire(&directory_shared->image_lock, LW_EXCLUSIVE);
	directory_shared->used[half] = used;
	pg_write_barrier();
	pg_atomic_write_u64(&directory_shared->generation, generation);
	LWLockRelease(&directory_shared->image_lock);
	LWLockRelease(&directory_shared->address_lock);
}

bool
directory_publish(DirectoryDraft *draft)
{
	uint64		generation = pg_atomic_read_u64(&directory_shared->generation);
	int			current = (int) (generation & 1);
	int			idle = 1 - current;
	Directory  *was = generation != 0 ? directory_read() : NULL;
	Size		used;
	bool		changed;

	directory_number_draft(draft, was);
	directory_forget(was);
	used = directory_write_half(draft, idle);
	changed = generation == 0 || used != directory_shared->used[current] || memcmp(directory_shared->halves[0], directory_shared->halves[1], used) != 0;
	if (changed)
	{
		/* the lowest bit names the half: from 0 the first publication goes to half 1 */
		make_current(draft, generation + 1, idle, used);
		explicit_bzero(directory_shared->halves[current], directory_shared->half_size);
	}
	else
		explicit_bzero(directory_shared->halves[idle], used);
	free_slots(draft);
	return changed;
}

uint64
directory_ask_publication(void)
{
	return directory_shared != NULL ? pg_atomic_fetch_add_u64(&directory_shared->asked, 1) + 1 : 0;
}

uint64
directory_publication_asked(void)
{
	/* a full barrier: catalogs are looked at after the ticket has been read */
	return pg_atomic_fetch_add_u64(&directory_shared->asked, 0);
}

void
directory_publication_done(uint64 ticket)
{
	pg_atomic_write_u64(&directory_shared->done, ticket);
	ConditionVariableBroadcast(&directory_shared->published);
}

void
directory_set_manager(bool present)
{
	if (directory_shared != NULL)
		pg_atomic_write_u32(&directory_shared->manager, present ? 1 : 0);
}

bool
directory_has_manager(void)
{
	return directory_shared != NULL && pg_atomic_read_u32(&directory_shared->manager) != 0;
}

void
directory_set_database_missing(bool missing)
{
	pg_atomic_write_u32(&directory_shared->database_missing, missing ? 1 : 0);
}

bool
directory_is_database_missing(void)
{
	return pg_atomic_read_u32(&directory_shared->database_missing) != 0;
}

static bool
is_published(uint64 ticket)
{
	return pg_atomic_read_u64(&directory_shared->done) >= ticket;
}

/* Not by the time of day: if that is set back, whoever commits would wait so much longer, and cannot be interrupted. */
static long
milliseconds_since(instr_time began)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, began);
	return (long) INSTR_TIME_GET_MILLISEC(now);
}

bool
directory_wait_published(uint64 asked, int timeout_ms)
{
	instr_time	began;
	bool		out;

	if (!directory_has_manager())
		return false;
	INSTR_TIME_SET_CURRENT(began);
	ConditionVariablePrepareToSleep(&directory_shared->published);
	while (!(out = is_published(asked)))
	{
		long		left = timeout_ms - milliseconds_since(began);

		if (left <= 0)
			break;
		(void) ConditionVariableTimedSleep(&directory_shared->published, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return out;
}
