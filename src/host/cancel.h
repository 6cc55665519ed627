/*
 * host/cancel.h - cancel keys -> session, and other notes to a worker.               floor 5
 *
 * A CancelRequest lands on any worker; the key is found in the client rows (the place number is inside the pid
 * the client was told, the rest is random) and a note goes to the worker that owns the session.
 * Owns the mailboxes in shared memory (one LWLock each, never held over I/O) and the workers' latches.
 */
#ifndef HYPERPOOL_HOST_CANCEL_H
#define HYPERPOOL_HOST_CANCEL_H

#include "postgres.h"
#include "storage/latch.h"
#include "host/counters.h"

typedef enum NoteKind
{
	NOTE_CANCEL,				/* place, generation */
	NOTE_DISCONNECT,			/* place, generation */
	NOTE_RESTART_ORIGIN,		/* place = origin slot: retire its links when they are free */
	NOTE_DIRECTORY				/* the directory has changed (pause and resume too) */
} NoteKind;

typedef struct Note
{
	NoteKind	kind;
	int			place;
	uint32		generation;
} Note;

extern Size cancel_shmem_size(void);
extern void cancel_shmem_init(void);

/* A worker announces (MyLatch) or withdraws (NULL) its latch. Withdraw in before_shmem_exit. */
extern void cancel_set_latch(int worker, Latch *latch);
extern void cancel_set_manager_latch(Latch *latch);
extern void cancel_set_scout_latch(Latch *latch);
extern void cancel_wake_manager(void);
extern void cancel_wake_scout(void);
extern void cancel_wake_worker(int worker);	/* without a note: something it waits for in shared memory has come */
extern void cancel_wake_workers(void);
extern int	cancel_workers_running(void);	/* workers that have announced their latch */

/* The client of a cancel request's pid and key, compared in constant time; notes its worker. False: no such client (the caller just closes). */
extern bool cancel_request(uint32 pid, Bytes key);
/* False: no such client. */
extern bool cancel_disconnect(int64 client_id);
extern void cancel_note_all(NoteKind kind, int place);	/* to all workers, wakes them */
/* The next note for this worker; false: none. */
extern bool cancel_next_note(int worker, Note *note);
/* What a client is told: a pid that carries its row number, and its key (4 bytes for protocol 3.0, 32 for 3.2). Chosen by client_row_take and this. */
extern void cancel_key_make(ClientRow *row, bool long_key);

#endif
