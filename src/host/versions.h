/*
 * host/versions.h - version and writers in flight of what is in a database.        floor 4
 *
 * Answers: has anything that this was read from been written since, or is it being written now? Owns, in shared memory, the slots, the records of writes in
 * flight (one a link that writes), and the doubts: writes whose outcome is not known. Lock-free for readers and for raise/settle of slots;
 * one LWLock for the records, held for a few instructions.
 *
 * The protocol (test/model/ is its model; steps W1-W4, R1-R3):
 *   W1 raise: writers of every slot + 1, visible before the first byte of the write (or COMMIT) is sent.
 *   W2 the ReadyForQuery with status I that ends the transaction has come: every version + 1 …
 *   W3 … then every writers - 1, and only then may its client be told.
 *   W4 outcome unknown: the record goes in doubt, writers stay up, until the scout has seen that backend gone; then W2, W3.
 *   R1 before a read is sent: writers are 0 and the versions are summed. (Versions only grow: sums are equal only if each is.)
 *   R2 its answer may be kept under that sum.
 *   R3 a hit: writers are 0 (looked at first), then the sum is that of the entry.
 */
#ifndef HYPERPOOL_HOST_VERSIONS_H
#define HYPERPOOL_HOST_VERSIONS_H

#include "postgres.h"
#include "core/bytes.h"

#define VERSION_SLOTS	65536

/* A database of a cluster; system 0: not known. */
typedef struct DatabaseId
{
	uint64		system;			/* system identifier */
	Oid			database;
} DatabaseId;

/* Fixed slots. Everything known hangs on SLOT_GLOBAL, on its cluster's and on its catalog's. */
#define SLOT_GLOBAL		0		/* moved by writes through origins whose database is not known */
extern uint32 version_slot_cluster(DatabaseId id);	/* moved by whatever may change anything: DDL, GRANT, roles, unknown functions */
extern uint32 version_slot_catalog(DatabaseId id);	/* moved by the scout: DDL was made elsewhere */
extern uint32 version_slot_catalog_rows(DatabaseId id); /* the rows of the system catalogs, as data */
extern uint32 version_slot_any(DatabaseId id);		/* moved by every write to that database */
extern uint32 version_slot_relation(DatabaseId id, Oid family); /* relations of one inheritance family share theirs */

extern Size versions_shmem_size(void);
extern void versions_shmem_init(void);

/* R1, R3. False: a writer is in flight or in doubt on one of them; *sum is the sum of their versions. */
extern bool versions_read(const uint32 *slots, int n, uint64 *sum);
/* One + 1 at once, for what was done already (DDL seen elsewhere, invalidate, a failover). */
extern void versions_move(uint32 slot);

/* ---- writes in flight ---- */

#define WRITE_SLOTS_MAX	24

typedef int32 WriteRecord;		/* a record's number + 1; 0 = none */

/*
 * W1. The record is this worker's until settled, dropped or in doubt. n <= WRITE_SLOTS_MAX. Always succeeds: when the records are used up,
 * writers of SLOT_GLOBAL are raised instead (a record set aside for that).
 * pid: of the backend at the origin, 0 = not known (behind a pooler or a gateway); database: of the origin slot.
 */
extern WriteRecord versions_raise(int worker, int origin_slot, int pid, const uint32 *slots, int n);
/* More slots for a record that is up. False: no room in it; raise another. */
extern bool versions_raise_more(WriteRecord record, const uint32 *slots, int n);
extern void versions_settle(WriteRecord record);	/* W2, W3 */
extern void versions_drop(WriteRecord record);	/* W3 alone: nothing can have been committed */
extern void versions_moved(WriteRecord record);	/* W2 alone: something was, and more is under way */
extern void versions_doubt(WriteRecord record); /* W4; wakes nobody: the caller wakes the scout */
/* A worker has ended or starts anew: what it had raised goes in doubt. */
extern void versions_clear_worker(int worker);

/* ---- doubts, for the scout ---- */
typedef struct Doubt
{
	WriteRecord record;
	int			origin_slot;
	int			pid;			/* 0: not known */
	int64		since;			/* versions_clock() when it came into doubt */
} Doubt;

extern int	versions_doubts(int origin_slot, Doubt *out, int max);	/* how many there are (may exceed max); -1 = of all origins */
extern int64 versions_clock(void);	/* microseconds, monotonic, the same in all processes */

#endif
