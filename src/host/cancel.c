/*
 * host/cancel.c - cancel keys -> session, and other notes to a worker.
 *
 * A mailbox per worker: a ring of notes about clients, one bit an origin to restart, one flag for the directory. Bits and
 * flag cannot overflow; a note that is already in the ring is not put there twice, so one client cannot crowd out the
 * others; when the ring is full of different clients' notes, the next is refused (a cancel is never a promise).
 * Locks: the mailbox's own, held for a few instructions, never over I/O and never together with another.
 * Never: touches a session; the worker does that when it reads its mail.
 */
#include "postgres.h"

#include "host/cancel.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#define RING_SIZE		1024	/* a power of two */

#define PID_ROW_BITS	20		/* of the process id and of client_id; see counters.c */
#define PID_ROW_MASK	(((uint32) 1 << PID_ROW_BITS) - 1)

#define KEY_ATTEMPTS	1000	/* looks at a client row that is being changed */

typedef struct Mailbox
{
	LWLock		lock;
	Latch	   *latch;			/* the worker's, in shared memory; NULL: it does not run */
	bool		directory;
	uint32		first;			/* of the ring; both run on and are masked */
	uint32		last;
	Note		ring[RING_SIZE];
} Mailbox;

typedef struct CancelShared
{
	int			tranche;
	int			workers;
	int			max_origins;
	LWLock		latch_lock;		/* of the two below */
	Latch	   *manager_latch;
	Latch	   *scout_latch;
	Mailbox		boxes[FLEXIBLE_ARRAY_MEMBER];
} CancelShared;

static CancelShared *shared = NULL;
static uint8 *restarts;			/* workers * max_origins: 1 = to be restarted; under the mailbox's lock */

static Size
boxes_size(void)
{
	return MAXALIGN(add_size(offsetof(CancelShared, boxes), mul_size(sizeof(Mailbox), hyperpool_workers)));
}

Size
cancel_shmem_size(void)
{
	return add_size(boxes_size(), mul_size(hyperpool_workers, hyperpool_max_origins));
}

void
cancel_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("hyperpool notes", cancel_shmem_size(), &found);
	restarts = (uint8 *) shared + boxes_size();
	if (!found)
	{
		memset(shared, 0, cancel_shmem_size());
		shared->tranche = LWLockNewTrancheId();
		shared->workers = hyperpool_workers;
		shared->max_origins = hyperpool_max_origins;
		LWLockInitialize(&shared->latch_lock, shared->tranche);
		for (int i = 0; i < shared->workers; i++)
			LWLockInitialize(&shared->boxes[i].lock, shared->tranche);
	}
	LWLockRegisterTranche(shared->tranche, "hyperpool_notes");
}

static Mailbox *
box_of(int worker)
{
	return shared && worker >= 0 && worker < shared->workers ? &shared->boxes[worker] : NULL;
}

/* ---- latches ---- */

void
cancel_set_latch(int worker, Latch *latch)
{
	Mailbox    *box = box_of(worker);

	if (box == NULL)
		return;
	LWLockAcquire(&box->lock, LW_EXCLUSIVE);
	box->latch = latch;
	LWLockRelease(&box->lock);
}

static void
set_latch_at(Latch **place, Latch *latch)
{
	LWLockAcquire(&shared->latch_lock, LW_EXCLUSIVE);
	*place = latch;
	LWLockRelease(&shared->latch_lock);
}

static void
wake(Latch **place)
{
	Latch	   *latch;

	LWLockAcquire(&shared->latch_lock, LW_SHARED);
	latch = *place;
	LWLockRelease(&shared->latch_lock);
	/* should its process have just gone, the latch is another's by now, who is woken for nothing */
	if (latch)
		SetLatch(latch);
}

void
cancel_set_manager_latch(Latch *latch)
{
	if (shared)
		set_latch_at(&shared->manager_latch, latch);
}

void
cancel_set_scout_latch(Latch *latch)
{
	if (shared)
		set_latch_at(&shared->scout_latch, latch);
}

void
cancel_wake_manager(void)
{
	if (shared)
		wake(&shared->manager_latch);
}

void
cancel_wake_worker(int worker)
{
	Mailbox    *box = box_of(worker);
	Latch	   *latch;

	if (box == NULL)
		return;
	LWLockAcquire(&box->lock, LW_SHARED);
	latch = box->latch;
	LWLockRelease(&box->lock);
	if (latch)
		SetLatch(latch);
}

void
cancel_wake_workers(void)
{
	for (int i = 0; shared && i < shared->workers; i++)
		cancel_wake_worker(i);
}

void
cancel_wake_scout(void)
{
	if (shared)
		wake(&shared->scout_latch);
}

int
cancel_workers_running(void)
{
	int			running = 0;

	for (int i = 0; shared && i < shared->workers; i++)
		running += shared->boxes[i].latch != NULL;
	return running;
}

/* ---- posting ---- */

static bool
ring_holds(const Mailbox *box, const Note *note)
{
	for (uint32 i = box->first; i != box->last; i++)
	{
		const Note *other = &box->ring[i % RING_SIZE];

		if (other->place == note->place && other->kind == note->kind && other->generation == note->generation)
			return true;
	}
	return false;
}

/* Into the mailbox; false if it is full. The lock is held. */
static bool
put_note(Mailbox *box, const Note *note)
{
	switch (note->kind)
	{
		case NOTE_DIRECTORY:
			box->directory = true;
			return true;
		case NOTE_RESTART_ORIGIN:
			if (note->place < 0 || note->place >= shared->max_origins)
				return false;
			restarts[(box - shared->boxes) * shared->max_origins + note->place] = 1;
			return true;
		case NOTE_CANCEL:
		case NOTE_DISCONNECT:
			if (ring_holds(box, note))
				return true;
			if (box->last - box->first >= RING_SIZE)
				return false;
			box->ring[box->last++ % RING_SIZE] = *note;
			return true;
	}
	return false;
}

static bool
post(int worker, const Note *note)
{
	Mailbox    *box = box_of(worker);
	Latch	   *latch;
	bool		put;

	if (box == NULL)
		return false;
	LWLockAcquire(&box->lock, LW_EXCLUSIVE);
	put = put_note(box, note);
	latch = box->latch;
	LWLockRelease(&box->lock);
	if (put && latch)
		SetLatch(latch);
	return put;
}

void
cancel_note_all(NoteKind kind, int place)
{
	Note		note = {kind, place, 0};

	for (int i = 0; shared && i < shared->workers; i++)
		(void) post(i, &note);
}

/* ---- reading the mail ---- */

static bool
next_restart(int worker, Note *note)
{
	uint8	   *mine = restarts + (Size) worker * shared->max_origins;
	uint8	   *found = memchr(mine, 1, shared->max_origins);

	if (found == NULL)
		return false;
	*found = 0;
	*note = (Note)
	{
		NOTE_RESTART_ORIGIN, (int) (found - mine), 0
	};
	return true;
}

bool
cancel_next_note(int worker, Note *note)
{
	Mailbox    *box = box_of(worker);
	bool		got = true;

	if (box == NULL)
		return false;
	LWLockAcquire(&box->lock, LW_EXCLUSIVE);
	if (box->directory)
	{
		box->directory = false;
		*note = (Note)
		{
			NOTE_DIRECTORY, 0, 0
		};
	}
	else if (box->first != box->last)
		*note = box->ring[box->first++ % RING_SIZE];
	else
		got = next_restart(worker, note);
	LWLockRelease(&box->lock);
	return got;
}

/* ---- keys ---- */

/* A whole copy of a row, its key too. */
static bool
read_with_key(ClientRow *row, ClientRow *copy)
{
	for (int i = 0; i < KEY_ATTEMPTS; i++)
	{
		uint32		before = pg_atomic_read_u32(&row->change_count);

		if (before & 1)
			continue;
		pg_read_barrier();
		memcpy(copy, row, sizeof(*copy));
		pg_read_barrier();
		if (pg_atomic_read_u32(&row->change_count) == before)
			return copy->state != CLIENT_FREE;
	}
	return false;
}

/* Takes as long for a wrong first byte as for a wrong last. Lengths are no secret. */
static bool
key_is(const ClientRow *row, uint32 pid, Bytes key)
{
	volatile uint8 differs = 0;

	if (row->key_len == 0 || key.len != row->key_len || key.len > CANCEL_KEY_MAX)
		return false;
	for (size_t i = 0; i < key.len; i++)
		differs |= row->key[i] ^ key.data[i];
	return differs == 0 && row->key_pid == pid;
}

bool
cancel_request(uint32 pid, Bytes key)
{
	uint32		number = pid & PID_ROW_MASK;
	ClientRow  *row = number > 0 ? client_row_at((int) number - 1) : NULL;
	ClientRow	copy;
	bool		ours;
	Note		note;

	if (row == NULL || !read_with_key(row, &copy))
		return false;
	ours = key_is(&copy, pid, key);
	explicit_bzero(copy.key, sizeof(copy.key));
	if (!ours)
		return false;
	note = (Note)
	{
		NOTE_CANCEL, (int) number - 1, copy.generation
	};
	return post(copy.worker, &note);
}

bool
cancel_disconnect(int64 client_id)
{
	int			number = (int) (client_id & PID_ROW_MASK);
	ClientRow	copy;
	Note		note;

	if (client_id <= 0 || !client_row_read(number, &copy) ||
		copy.generation != (uint64) client_id >> PID_ROW_BITS)
		return false;
	note = (Note)
	{
		NOTE_DISCONNECT, number, copy.generation
	};
	return post(copy.worker, &note);
}

void
cancel_key_make(ClientRow *row, bool long_key)
{
	/* row and random bits of the pid, and 32 random bytes, were drawn when the row was taken */
	client_row_begin_change(row);
	row->key_len = long_key ? CANCEL_KEY_MAX : 4;
	client_row_end_change(row);
}
