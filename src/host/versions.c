/*
 * host/versions.c - version and writers in flight of what is in a database.
 *
 * Owns one area of shared memory: 65,536 slots of (version, writers), changed by atomic instructions alone, and the records of the
 * writes that are up or in doubt. A record says which slots a write has raised, so that whoever outlives its worker can bring them down.
 *
 * When the records are used up, a write raises SLOT_GLOBAL, on which everything hangs, and is counted in the place set aside for its
 * worker and origin; the doubts of such writes come together in one place an origin. That costs hits, never truth.
 *
 * Locks: `lock` covers the records, the places and their free list; it is held for a few instructions and no ERROR can
 * happen under it. Slots are changed outside it. Never: waits, knows what a slot stands for, trusts a number of a slot or a record.
 */
#include "postgres.h"

#include <time.h>

#include "host/versions.h"
#include "host/gucs.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define SPARE_RECORDS	2048	/* beside one a link: doubts and clients whose link is gone */
#define NO_RECORD		(-1)

/* Numbers of places set aside: bit 30, then whose, or bit 29, the count of changes and the origin. */
#define NUMBER_COUNTED	(1 << 30)
#define NUMBER_MERGED	((1 << 30) | (1 << 29))
#define MERGED_PLACE_BITS	14
#define MERGED_CHANGES	((1 << 15) - 1)

typedef struct VersionSlot
{
	pg_atomic_uint64 version;
	pg_atomic_uint32 writers;
} VersionSlot;

typedef enum RecordState
{
	RECORD_FREE, RECORD_UP, RECORD_DOUBT
} RecordState;

typedef struct Record			/* under the lock, but for its own worker reading what only it changes */
{
	int32		next_free;
	int16		worker;
	int16		origin_slot;
	int32		pid;
	uint8		state;			/* RecordState */
	uint8		n;
	uint16		slots[WRITE_SLOTS_MAX];
	int64		since;
} Record;

typedef struct Merged			/* the doubts of an origin that have no record of their own; under the lock */
{
	uint32		count;			/* writers of SLOT_GLOBAL they hold up */
	uint32		changes;		/* part of its number: who saw it before the last doubt came in cannot settle it */
	int64		since;			/* of the youngest */
} Merged;

typedef struct VersionsShared
{
	int			tranche;
	LWLock		lock;
	int			nrecords;
	int			workers;		/* the last place of each is for numbers out of bounds */
	int			origins;
	int32		free_record;
	int			doubts;			/* records in doubt */
	VersionSlot slots[VERSION_SLOTS];
	Record		records[FLEXIBLE_ARRAY_MEMBER];
} VersionsShared;

static VersionsShared *shared = NULL;
static uint32 *counted;			/* workers * origins: writes up without a record; under the lock */
static Merged *merged;			/* origins */

StaticAssertDecl(VERSION_SLOTS == 65536, "slots are kept in 16 bits");

/* ---- shared memory ---- */

static int
records_wanted(void)
{
	return hyperpool_max_links + SPARE_RECORDS;
}

static int
places_wanted(void)
{
	return (hyperpool_workers + 1) * (hyperpool_max_origins + 1);
}

static Size
counted_at(void)
{
	return MAXALIGN(add_size(offsetof(VersionsShared, records), mul_size(sizeof(Record), records_wanted())));
}

static Size
merged_at(void)
{
	return MAXALIGN(add_size(counted_at(), mul_size(sizeof(uint32), places_wanted())));
}

Size
versions_shmem_size(void)
{
	return add_size(merged_at(), mul_size(sizeof(Merged), hyperpool_max_origins + 1));
}

static void
init_area(void)
{
	memset(shared, 0, versions_shmem_size());
	shared->tranche = LWLockNewTrancheId();
	LWLockInitialize(&shared->lock, shared->tranche);
	shared->nrecords = records_wanted();
	shared->workers = hyperpool_workers + 1;
	shared->origins = hyperpool_max_origins + 1;
	for (int i = 0; i < VERSION_SLOTS; i++)
	{
		pg_atomic_init_u64(&shared->slots[i].version, 0);
		pg_atomic_init_u32(&shared->slots[i].writers, 0);
	}
	for (int i = 0; i < shared->nrecords; i++)
		shared->records[i].next_free = i + 1 < shared->nrecords ? i + 1 : NO_RECORD;
}

void
versions_shmem_init(void)
{
	bool		found;

	StaticAssertStmt((1 << MERGED_PLACE_BITS) > 10000, "an origin's place fits into a number");
	shared = ShmemInitStruct("hyperpool versions", versions_shmem_size(), &found);
	counted = (uint32 *) ((char *) shared + counted_at());
	merged = (Merged *) ((char *) shared + merged_at());
	if (!found)
		init_area();
	LWLockRegisterTranche(shared->tranche, "hyperpool_versions");
}

int64
versions_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- names of slots ---- */

typedef enum SlotKind
{
	KIND_CLUSTER = 1, KIND_CATALOG, KIND_CATALOG_ROWS, KIND_ANY, KIND_RELATION
} SlotKind;

static uint64
mix(uint64 x)
{
	x = (x ^ (x >> 33)) * UINT64CONST(0xff51afd7ed558ccd);
	x = (x ^ (x >> 33)) * UINT64CONST(0xc4ceb9fe1a85ec53);
	return x ^ (x >> 33);
}

/* 1 .. 65535: nothing shares SLOT_GLOBAL. */
static uint32
slot_of(uint64 system, Oid database, SlotKind kind, Oid oid)
{
	uint64		hash = mix(system ^ UINT64CONST(0x9e3779b97f4a7c15));

	hash = mix(hash ^ (((uint64) database << 32) | oid));
	hash = mix(hash + kind);
	return (uint32) (hash % (VERSION_SLOTS - 1)) + 1;
}

uint32
version_slot_cluster(DatabaseId id)
{
	return slot_of(id.system, InvalidOid, KIND_CLUSTER, InvalidOid);
}

uint32
version_slot_catalog(DatabaseId id)
{
	return slot_of(id.system, id.database, KIND_CATALOG, InvalidOid);
}

uint32
version_slot_catalog_rows(DatabaseId id)
{
	return slot_of(id.system, id.database, KIND_CATALOG_ROWS, InvalidOid);
}

uint32
version_slot_any(DatabaseId id)
{
	return slot_of(id.system, id.database, KIND_ANY, InvalidOid);
}

uint32
version_slot_relation(DatabaseId id, Oid family)
{
	return slot_of(id.system, id.database, KIND_RELATION, family);
}

/* ---- reading ---- */

/*
 * R1 and R3. Writers of all slots first, then the versions of all slots.
 *
 * Why this is right with one slot: a write makes version + 1 before writers - 1 (settle_slots). Who sees writers at 0 sees the
 * version of every write that was raised and settled before; a write raised later had not been sent when we looked, so it was not committed.
 *
 * Why it is right with several, though they are not looked at in one instant. Let a be the moment before the first look, t after the
 * last version was read, and let an entry whose sum, taken at r (R1), equals ours answer what the origin knew at g > r. If g lies after
 * a, the entry is of our own time and true at g. Else let a write of slot s have committed between g and a. It was raised before a, so before we
 * looked at s. Either it was not settled by then: we saw writers > 0 and said no. Or it was: its version + 1 lies before t, and not before r
 * (at r it was either raised, and then R1 said no, or not yet raised); versions only grow, so the sums differ. Hence no such write exists
 * and the entry is what the origin knew at a. A writer that is raised between our looks at slot 1 and at slot 2 commits after a: if we
 * see it at slot 2 we say no, if we missed it at slot 1 the answer stands before its write. Dropped writes have changed nothing.
 */
bool
versions_read(const uint32 *slots, int n, uint64 *sum)
{
	uint64		total = 0;

	*sum = 0;
	if (shared == NULL)
		return false;

	/* R3: no look may be older than the request that made us look: it may follow a write that was told as done elsewhere. */
	pg_memory_barrier();
	for (int i = 0; i < n; i++)
	{
		if (slots[i] >= VERSION_SLOTS || pg_atomic_read_u32(&shared->slots[slots[i]].writers) != 0)
			return false;
	}
	/* R3: pairs with the barrier between W2 and W3 in settle_slots: writers at 0 means that the versions are there. */
	pg_read_barrier();
	for (int i = 0; i < n; i++)
		total += pg_atomic_read_u64(&shared->slots[slots[i]].version);

	/* R1: the query is sent after this; on ARM a load could otherwise be done after the store that sends. */
	pg_memory_barrier();
	*sum = total;
	return true;
}

void
versions_move(uint32 slot)
{
	if (shared)
		pg_atomic_fetch_add_u64(&shared->slots[slot < VERSION_SLOTS ? slot : SLOT_GLOBAL].version, 1);
}

/* ---- slots, up and down ---- */

static const uint16 only_global[1] = {SLOT_GLOBAL};

/* W1. The write is sent by the caller afterwards: whoever sees it done sees writers raised. */
static void
raise_slots(const uint16 *slots, int n)
{
	for (int i = 0; i < n; i++)
		pg_atomic_fetch_add_u32(&shared->slots[slots[i]].writers, 1);
	pg_memory_barrier();
}

/* W2 */
static void
move_slots(const uint16 *slots, int n)
{
	for (int i = 0; i < n; i++)
		pg_atomic_fetch_add_u64(&shared->slots[slots[i]].version, 1);
	/* W2 before W3, for every slot of the write; pairs with the one in versions_read. */
	pg_memory_barrier();
}

/* W3. The caller tells its client after this. */
static void
lower_slots(const uint16 *slots, int n, uint32 by)
{
	for (int i = 0; i < n; i++)
		pg_atomic_fetch_sub_u32(&shared->slots[slots[i]].writers, by);
	pg_memory_barrier();
}

/* ---- records ---- */

static int
place_of(int number, int places)
{
	return number >= 0 && number < places - 1 ? number : places - 1;
}

static Record *
record_of(WriteRecord number)
{
	Record	   *record;

	if (shared == NULL || number <= 0 || number > shared->nrecords)
		return NULL;
	record = &shared->records[number - 1];
	return record->state == RECORD_FREE ? NULL : record;
}

static uint32 *
counted_of(WriteRecord number)
{
	int			place = number & ~NUMBER_COUNTED;

	if (shared == NULL || number < NUMBER_COUNTED || place >= shared->workers * shared->origins)
		return NULL;
	return &counted[place];
}

/* NULL too when another doubt has come in since the number was given. */
static Merged *
merged_of(WriteRecord number)
{
	int			place = number & ((1 << MERGED_PLACE_BITS) - 1);

	if (shared == NULL || (number & NUMBER_MERGED) != NUMBER_MERGED || number < 0 || place >= shared->origins ||
		((number >> MERGED_PLACE_BITS) & MERGED_CHANGES) != (int) (merged[place].changes & MERGED_CHANGES))
		return NULL;
	return &merged[place];
}

static WriteRecord
merged_number(int place)
{
	return NUMBER_MERGED | (int) ((merged[place].changes & MERGED_CHANGES) << MERGED_PLACE_BITS) | place;
}

/* A slot out of bounds cannot be; if it is, everything moves. */
static void
copy_slots(Record *record, const uint32 *slots, int n)
{
	for (int i = 0; i < n; i++)
		record->slots[record->n++] = slots[i] < VERSION_SLOTS ? (uint16) slots[i] : SLOT_GLOBAL;
}

/* A free record that is this worker's from now on, or NULL. Under the lock. */
static Record *
take_record(int worker, int origin_slot, int pid)
{
	Record	   *record;

	if (shared->free_record == NO_RECORD)
		return NULL;
	record = &shared->records[shared->free_record];
	shared->free_record = record->next_free;
	record->state = RECORD_UP;
	record->worker = (int16) place_of(worker, shared->workers);
	record->origin_slot = (int16) place_of(origin_slot, shared->origins);
	record->pid = pid;
	record->n = 0;
	return record;
}

/* Under the lock. */
static void
free_record(Record *record)
{
	shared->doubts -= record->state == RECORD_DOUBT;
	record->state = RECORD_FREE;
	record->next_free = shared->free_record;
	shared->free_record = (int32) (record - shared->records);
}

WriteRecord
versions_raise(int worker, int origin_slot, int pid, const uint32 *slots, int n)
{
	Record	   *record = NULL;
	int			place;

	if (shared == NULL)
		return 0;
	place = place_of(worker, shared->workers) * shared->origins + place_of(origin_slot, shared->origins);
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (n >= 0 && n <= WRITE_SLOTS_MAX)
		record = take_record(worker, origin_slot, pid);
	if (record)
		copy_slots(record, slots, n);
	else
		counted[place]++;
	/* W1, before the lock is let go: a record never stands without its writers */
	raise_slots(record ? record->slots : only_global, record ? record->n : 1);
	LWLockRelease(&shared->lock);
	return record ? (WriteRecord) (record - shared->records) + 1 : NUMBER_COUNTED | place;
}

bool
versions_raise_more(WriteRecord number, const uint32 *slots, int n)
{
	Record	   *record = record_of(number);
	bool		room;

	if (record == NULL)
		return counted_of(number) != NULL;	/* SLOT_GLOBAL is up: all are */
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	room = record->state == RECORD_UP && n >= 0 && n <= WRITE_SLOTS_MAX - record->n;
	if (room)
	{
		copy_slots(record, slots, n);
		raise_slots(record->slots + record->n - n, n);	/* W1 */
	}
	LWLockRelease(&shared->lock);
	return room;
}

/* Takes a place's writers away; how many of SLOT_GLOBAL are to be lowered. Under the lock. */
static uint32
take_places(WriteRecord number)
{
	uint32	   *count;
	Merged	   *doubts = merged_of(number);
	uint32		n;

	if (doubts)
	{
		n = doubts->count;
		doubts->count = 0;
		return n;
	}
	count = counted_of(number);
	n = count && *count > 0;
	if (n)
		(*count)--;
	return n;
}

/*
 * Ends a write: takes what it has raised out of the books, then W2 if something may have been committed, then W3. Nothing can
 * interrupt this process between the two: there is no ERROR and no look at interrupts on the way.
 */
static void
end_write(WriteRecord number, bool committed)
{
	uint16		slots[WRITE_SLOTS_MAX];
	int			n = 0;
	uint32		by = 1;
	Record	   *record;

	if (shared == NULL || number <= 0)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	record = record_of(number);
	if (record)
	{
		n = record->n;
		memcpy(slots, record->slots, n * sizeof(uint16));
		free_record(record);
	}
	else
	{
		by = take_places(number);
		n = by > 0;
		slots[0] = SLOT_GLOBAL;
	}
	LWLockRelease(&shared->lock);
	if (committed)
		move_slots(slots, n);	/* W2 */
	lower_slots(slots, n, by);	/* W3 */
}

void
versions_settle(WriteRecord record)
{
	end_write(record, true);
}

void
versions_drop(WriteRecord record)
{
	end_write(record, false);
}

void
versions_moved(WriteRecord number)
{
	Record	   *record = record_of(number);

	/* its own worker's record: nobody else changes it */
	if (record)
		move_slots(record->slots, record->n);	/* W2 */
	else if (shared && number > 0)
		move_slots(only_global, 1);
}

/* ---- doubts ---- */

/* W4. n writes that have no record are in doubt from now on. Under the lock. */
static void
merge_doubt(int origin_place, uint32 n)
{
	Merged	   *doubts = &merged[origin_place];

	doubts->count += n;
	doubts->changes++;
	doubts->since = versions_clock();
}

/* W4. Under the lock. */
static void
doubt_record(Record *record)
{
	if (record->state != RECORD_UP)
		return;
	record->state = RECORD_DOUBT;
	record->since = versions_clock();
	shared->doubts++;
}

void
versions_doubt(WriteRecord number)
{
	Record	   *record;
	uint32	   *count;

	if (shared == NULL || number <= 0)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	record = record_of(number);
	count = (number & NUMBER_MERGED) == NUMBER_MERGED ? NULL : counted_of(number);
	if (record)
		doubt_record(record);
	else if (count && *count > 0)
	{
		(*count)--;
		merge_doubt((int) (count - counted) % shared->origins, 1);
	}
	LWLockRelease(&shared->lock);
}

void
versions_clear_worker(int worker)
{
	if (shared == NULL || worker < 0 || worker >= shared->workers - 1)
		return;
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->nrecords; i++)
	{
		if (shared->records[i].worker == worker)
			doubt_record(&shared->records[i]);
	}
	for (int origin = 0; origin < shared->origins; origin++)
	{
		uint32	   *count = &counted[worker * shared->origins + origin];

		if (*count > 0)
			merge_doubt(origin, *count);
		*count = 0;
	}
	LWLockRelease(&shared->lock);
}

static int
add_doubt(Doubt *out, int n, int max, WriteRecord number, int origin_slot, int pid, int64 since)
{
	if (n < max)
		out[n] = (Doubt)
	{
		number, origin_slot, pid, since
	};
	return n + 1;
}

int
versions_doubts(int origin_slot, Doubt *out, int max)
{
	int			n = 0;
	int			left;

	if (shared == NULL)
		return 0;
	LWLockAcquire(&shared->lock, LW_SHARED);
	left = shared->doubts;
	for (int i = 0; i < shared->nrecords && left > 0; i++)
	{
		Record	   *record = &shared->records[i];

		if (record->state != RECORD_DOUBT)
			continue;
		left--;
		if (origin_slot == -1 || record->origin_slot == origin_slot)
			n = add_doubt(out, n, max, i + 1, record->origin_slot, record->pid, record->since);
	}
	for (int i = 0; i < shared->origins; i++)
	{
		if (merged[i].count > 0 && (origin_slot == -1 || origin_slot == i))
			n = add_doubt(out, n, max, merged_number(i), i, 0, merged[i].since);
	}
	LWLockRelease(&shared->lock);
	return n;
}
