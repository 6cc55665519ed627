/*
 * net/reactor.h - who is ready?  Descriptors, timers, the latch, the end of the turn.   floor 4
 *
 * One per worker (and scout). Owns the epoll set, the timer heap and the two lists of work for
 * the end of a turn. Descriptors belong to who registers them. Never: reads or writes a socket.
 * A source may be removed (and its memory freed) from inside any callback: events
 * of the same turn for it are then not delivered.
 */
#ifndef HYPERPOOL_NET_REACTOR_H
#define HYPERPOOL_NET_REACTOR_H

#include "core/bytes.h"

typedef struct Reactor Reactor;

enum { REACTOR_READ = 1, REACTOR_WRITE = 2 };	/* what to be told of; hang-up and error come as READ|WRITE as watched, or READ */

typedef struct ReactorSource
{
	int			fd;				/* -1 when not registered */
	uint8_t		watching;		/* REACTOR_ bits now asked for */
	void		(*on_ready) (struct ReactorSource *source, int events);
} ReactorSource;

typedef struct ReactorTimer
{
	int64_t		due;			/* monotonic microseconds; 0 = not set */
	struct ReactorTimer *child; /* the heap is threaded through its timers, so setting one needs no memory */
	struct ReactorTimer *next;	/* next sibling */
	struct ReactorTimer *prev;	/* previous sibling, or the parent of a first child */
	void		(*on_time) (struct ReactorTimer *timer);
} ReactorTimer;

/* Work for the end of the turn. Links are flushed before clients (an origin with work to do is worth more). */
typedef enum ReactorLane { REACTOR_LINKS, REACTOR_CLIENTS, REACTOR_LANES } ReactorLane;

typedef struct ReactorTask
{
	struct ReactorTask *next;
	struct ReactorTask **prev;	/* NULL = not queued */
	void		(*run) (struct ReactorTask *task);
} ReactorTask;

extern Reactor *reactor_create(void);	/* NULL: errno */
extern void reactor_destroy(Reactor *reactor);
extern int reactor_fd(const Reactor *reactor);	/* the epoll descriptor, itself pollable */

extern bool reactor_add(Reactor *reactor, ReactorSource *source, int events);	/* source->fd is set; false: errno */
/* Changes what is watched; no system call if nothing changes. events = 0: only an error or hang-up is told, once. */
extern bool reactor_watch(Reactor *reactor, ReactorSource *source, int events);
extern void reactor_remove(Reactor *reactor, ReactorSource *source);	/* before closing the fd; sets fd to -1 */

extern int64_t reactor_now(const Reactor *reactor);	/* monotonic microseconds, read once a turn */
extern int64_t reactor_clock(void);	/* the same, read now */
extern void reactor_set_timer(Reactor *reactor, ReactorTimer *timer, int64_t due);	/* moves it if set; never due before the next turn */
extern void reactor_clear_timer(Reactor *reactor, ReactorTimer *timer);	/* fine if not set */

extern void reactor_at_end(Reactor *reactor, ReactorTask *task, ReactorLane lane);	/* once a turn; fine if queued */
extern void reactor_not_at_end(Reactor *reactor, ReactorTask *task);

/*
 * One turn: deliver what is ready now (never sleeps), due timers, then the end-of-turn lanes until both are
 * empty. Returns the number of events delivered. The caller sleeps (WaitEventSet over reactor_fd and its latch) when it returns 0,
 * at most reactor_sleep_ms (-1: no timer). A callback may leave it by longjmp: the next turn polls again and goes on with the lanes.
 */
extern int reactor_turn(Reactor *reactor);
extern long reactor_sleep_ms(const Reactor *reactor);

#endif
