/*
 * net/reactor.c - who is ready?  Descriptors, timers, the end of the turn.
 *
 * Owns the epoll descriptor (level-triggered), the batch of events being delivered, a pairing heap
 * of timers threaded through the timers themselves, and two queues of tasks. Nothing is allocated after creation, so
 * nothing here fails for want of memory once a worker runs.
 * Never: sleeps, reads or writes a socket, frees what it was given.
 *
 * A callback may leave a turn by longjmp. The state is whole before every callback: the task or timer that runs is already out
 * of its queue, undelivered events are level-triggered and come again, the lanes keep what they hold.
 */
#include "net/reactor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH			256		/* events of one turn: bounds how long clients wait for links' flushes */
#define TASKS_A_TURN	65536	/* a task that queues itself for ever must not keep us from polling */

struct Reactor
{
	int			epoll;
	int			nevents;		/* of the batch being delivered; 0 outside a turn */
	int			next_event;		/* the first not yet delivered */
	int64_t		now;
	ReactorTimer *timers;		/* root of the heap: the earliest */
	ReactorTask *heads[REACTOR_LANES];
	ReactorTask **tails[REACTOR_LANES]; /* where the next one is hung */
	struct epoll_event events[BATCH];
};

int64_t
reactor_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

Reactor *
reactor_create(void)
{
	Reactor    *reactor = calloc(1, sizeof(Reactor));

	if (reactor == NULL)
		return NULL;
	reactor->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (reactor->epoll < 0)
	{
		free(reactor);
		return NULL;
	}
	for (int lane = 0; lane < REACTOR_LANES; lane++)
		reactor->tails[lane] = &reactor->heads[lane];
	reactor->now = reactor_clock();
	return reactor;
}

void
reactor_destroy(Reactor *reactor)
{
	if (reactor == NULL)
		return;
	close(reactor->epoll);
	free(reactor);
}

int
reactor_fd(const Reactor *reactor)
{
	return reactor->epoll;
}

int64_t
reactor_now(const Reactor *reactor)
{
	return reactor->now;
}

/* ---- descriptors ---- */

static bool
control(Reactor *reactor, int op, ReactorSource *source, int events)
{
	struct epoll_event event = {0};

	event.data.ptr = source;
	if (events & REACTOR_READ)
		event.events |= EPOLLIN;
	if (events & REACTOR_WRITE)
		event.events |= EPOLLOUT;
	if (events == 0)
		event.events = EPOLLONESHOT;	/* a hang-up cannot be left unwatched: level-triggered it would wake us for ever */
	if (epoll_ctl(reactor->epoll, op, source->fd, &event) != 0)
		return false;
	source->watching = (uint8_t) events;
	return true;
}

bool
reactor_add(Reactor *reactor, ReactorSource *source, int events)
{
	if (control(reactor, EPOLL_CTL_ADD, source, events))
		return true;

	/* libpq may have put another socket under a number we knew */
	return errno == EEXIST && control(reactor, EPOLL_CTL_MOD, source, events);
}

bool
reactor_watch(Reactor *reactor, ReactorSource *source, int events)
{
	if (source->fd < 0)
	{
		errno = EBADF;
		return false;
	}
	if (source->watching == events)
		return true;
	return control(reactor, EPOLL_CTL_MOD, source, events);
}

void
reactor_remove(Reactor *reactor, ReactorSource *source)
{
	struct epoll_event unused = {0};

	if (source->fd < 0)
		return;
	/* fails harmlessly when the descriptor was closed under us: the kernel has forgotten it then */
	(void) epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, source->fd, &unused);
	source->fd = -1;
	source->watching = 0;

	/* its memory may be freed next: take it out of what is still to be delivered */
	for (int i = reactor->next_event; i < reactor->nevents; i++)
	{
		if (reactor->events[i].data.ptr == source)
			reactor->events[i].data.ptr = NULL;
	}
}

/* What to tell a source of; an error or hang-up is told as whatever it watches, so that its next call meets it. */
static int
events_for(const ReactorSource *source, uint32_t ready)
{
	int			events = 0;

	if (ready & EPOLLIN)
		events |= REACTOR_READ;
	if (ready & EPOLLOUT)
		events |= REACTOR_WRITE;
	events &= source->watching;
	if (ready & (EPOLLERR | EPOLLHUP))
		events |= source->watching ? source->watching : REACTOR_READ;
	return events;
}

static int
deliver_events(Reactor *reactor)
{
	int			delivered = 0;

	while (reactor->next_event < reactor->nevents)
	{
		struct epoll_event *event = &reactor->events[reactor->next_event++];
		ReactorSource *source = event->data.ptr;
		int			events;

		if (source == NULL)
			continue;			/* removed in this turn */
		events = events_for(source, event->events);
		if (events == 0)
			continue;			/* no longer watched for that */
		delivered++;
		source->on_ready(source, events);
	}
	return delivered;
}

/* ---- timers: a pairing heap ---- */

/* Joins two heaps: the later root becomes the first child of the earlier. */
static ReactorTimer *
meld(ReactorTimer *a, ReactorTimer *b)
{
	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	if (b->due < a->due)
	{
		ReactorTimer *swap = a;

		a = b;
		b = swap;
	}
	b->prev = a;
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	return a;
}

/* The children of a removed root as one heap: in pairs from the left, then all of them together. */
static ReactorTimer *
meld_siblings(ReactorTimer *first)
{
	ReactorTimer *pairs = NULL;
	ReactorTimer *root = NULL;

	while (first)
	{
		ReactorTimer *second = first->next;
		ReactorTimer *rest = second ? second->next : NULL;
		ReactorTimer *pair;

		first->next = first->prev = NULL;
		if (second)
			second->next = second->prev = NULL;
		pair = meld(first, second);
		pair->next = pairs;
		pairs = pair;
		first = rest;
	}
	while (pairs)
	{
		ReactorTimer *rest = pairs->next;

		pairs->next = NULL;
		root = meld(root, pairs);
		pairs = rest;
	}
	return root;
}

static void
unlink_timer(Reactor *reactor, ReactorTimer *timer)
{
	ReactorTimer *children = meld_siblings(timer->child);

	timer->child = NULL;
	if (timer == reactor->timers)
		reactor->timers = children;
	else
	{
		if (timer->prev->child == timer)
			timer->prev->child = timer->next;
		else
			timer->prev->next = timer->next;
		if (timer->next)
			timer->next->prev = timer->prev;
		reactor->timers = meld(reactor->timers, children);
	}
	timer->next = timer->prev = NULL;
}

void
reactor_set_timer(Reactor *reactor, ReactorTimer *timer, int64_t due)
{
	reactor_clear_timer(reactor, timer);
	/* not within the turn that sets it: a timer that always sets itself anew must not hold the loop */
	timer->due = due > reactor->now ? due : reactor->now + 1;
	timer->child = timer->next = timer->prev = NULL;
	reactor->timers = meld(reactor->timers, timer);
}

void
reactor_clear_timer(Reactor *reactor, ReactorTimer *timer)
{
	if (timer->due == 0)
		return;
	unlink_timer(reactor, timer);
	timer->due = 0;
}

static void
run_timers(Reactor *reactor)
{
	while (reactor->timers && reactor->timers->due <= reactor->now)
	{
		ReactorTimer *timer = reactor->timers;

		reactor_clear_timer(reactor, timer);
		timer->on_time(timer);
	}
}

long
reactor_sleep_ms(const Reactor *reactor)
{
	int64_t		left;

	if (reactor->heads[REACTOR_LINKS] || reactor->heads[REACTOR_CLIENTS])
		return 0;
	if (reactor->timers == NULL)
		return -1;
	left = reactor->timers->due - reactor_clock();
	if (left <= 0)
		return 0;
	/* rounded up: waking early would only spin */
	return left > INT64_C(86400000000) ? 86400000L : (long) ((left + 999) / 1000);
}

/* ---- the end of the turn ---- */

void
reactor_at_end(Reactor *reactor, ReactorTask *task, ReactorLane lane)
{
	if (task->prev)
		return;
	task->next = NULL;
	task->prev = reactor->tails[lane];
	*reactor->tails[lane] = task;
	reactor->tails[lane] = &task->next;
}

void
reactor_not_at_end(Reactor *reactor, ReactorTask *task)
{
	if (task->prev == NULL)
		return;
	*task->prev = task->next;
	if (task->next)
		task->next->prev = task->prev;
	else
	{
		for (int lane = 0; lane < REACTOR_LANES; lane++)
		{
			if (reactor->tails[lane] == &task->next)
				reactor->tails[lane] = task->prev;
		}
	}
	task->next = NULL;
	task->prev = NULL;
}

static ReactorTask *
first_task(const Reactor *reactor)
{
	for (int lane = 0; lane < REACTOR_LANES; lane++)
	{
		if (reactor->heads[lane])
			return reactor->heads[lane];
	}
	return NULL;
}

static void
run_tasks(Reactor *reactor)
{
	ReactorTask *task;

	for (int i = 0; i < TASKS_A_TURN && (task = first_task(reactor)) != NULL; i++)
	{
		reactor_not_at_end(reactor, task);
		task->run(task);
	}
}

int
reactor_turn(Reactor *reactor)
{
	int			n;
	int			delivered;

	/* what a turn left by longjmp had not delivered is forgotten: it is told again */
	reactor->nevents = reactor->next_event = 0;
	n = epoll_wait(reactor->epoll, reactor->events, BATCH, 0);
	reactor->nevents = n > 0 ? n : 0;	/* EINTR: nothing, this time */
	reactor->now = reactor_clock();

	delivered = deliver_events(reactor);
	reactor->nevents = reactor->next_event = 0;
	run_timers(reactor);
	run_tasks(reactor);
	return delivered;
}
