/*
 * test/unit/test_reactor.c - net/reactor: who is told, in what order, and who no longer.
 */
#include "net/reactor.h"
#include "unit.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static Reactor *reactor;

typedef struct Watched
{
	ReactorSource source;
	int			told;
	int			events;			/* of the last call */
	struct Watched *removes;	/* removed when this one is told */
} Watched;

static void
on_ready(ReactorSource *source, int events)
{
	Watched    *w = (Watched *) source;

	w->told++;
	w->events = events;
	if (w->removes)
	{
		reactor_remove(reactor, &w->removes->source);
		memset(w->removes, 0xee, sizeof(*w->removes));	/* as if freed */
	}
}

/* Two ends of a stream; the first is watched. */
static int
watch_pair(Watched *w, int events)
{
	int			pair[2];

	memset(w, 0, sizeof(*w));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
		abort();
	w->source.fd = pair[0];
	w->source.on_ready = on_ready;
	CHECK(reactor_add(reactor, &w->source, events));
	return pair[1];
}

TEST(read_and_write_readiness)
{
	Watched		w;
	int			other;
	int			fd;

	reactor = reactor_create();
	other = watch_pair(&w, REACTOR_READ);
	fd = w.source.fd;
	CHECK_EQ_INT(reactor_turn(reactor), 0);
	CHECK(write(other, "x", 1) == 1);
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	CHECK_EQ_INT(w.events, REACTOR_READ);
	CHECK(reactor_watch(reactor, &w.source, REACTOR_READ | REACTOR_WRITE));
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	CHECK_EQ_INT(w.events, REACTOR_READ | REACTOR_WRITE);
	CHECK(reactor_watch(reactor, &w.source, 0));
	CHECK_EQ_INT(reactor_turn(reactor), 0);
	close(other);				/* a hang-up is told to one that watches nothing */
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	CHECK_EQ_INT(w.events, REACTOR_READ);
	CHECK_EQ_INT(reactor_turn(reactor), 0); /* once: it cannot be told to wait */
	CHECK(reactor_watch(reactor, &w.source, REACTOR_READ));
	CHECK_EQ_INT(reactor_turn(reactor), 1); /* and again to one that watches */
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	reactor_remove(reactor, &w.source);
	CHECK_EQ_INT(w.source.fd, -1);
	CHECK_EQ_INT(reactor_turn(reactor), 0);
	CHECK(!reactor_watch(reactor, &w.source, REACTOR_READ));
	reactor_remove(reactor, &w.source);
	close(fd);
	reactor_destroy(reactor);
}

TEST(removed_in_the_same_turn_is_not_told)
{
	Watched		a;
	Watched		b;
	int			other_a;
	int			other_b;
	int			fds[2];

	reactor = reactor_create();
	other_a = watch_pair(&a, REACTOR_READ);
	other_b = watch_pair(&b, REACTOR_READ);
	fds[0] = a.source.fd;
	fds[1] = b.source.fd;
	a.removes = &b;
	b.removes = &a;
	CHECK(write(other_a, "x", 1) == 1 && write(other_b, "x", 1) == 1);
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	/* whichever came first has wiped the other */
	CHECK((a.told == 1) != (b.told == 1));
	close(fds[0]);
	close(fds[1]);
	close(other_a);
	close(other_b);
	reactor_destroy(reactor);
}

TEST(a_known_number_with_a_new_socket)
{
	Watched		w;
	int			other;
	int			pair[2];
	int			number;

	reactor = reactor_create();
	other = watch_pair(&w, REACTOR_READ);
	number = w.source.fd;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(dup2(pair[0], number) == number); /* closes the watched one under us */
	CHECK(reactor_add(reactor, &w.source, REACTOR_READ));
	CHECK(reactor_add(reactor, &w.source, REACTOR_READ));
	CHECK(write(pair[1], "x", 1) == 1);
	CHECK_EQ_INT(reactor_turn(reactor), 1);
	reactor_remove(reactor, &w.source);
	close(number);
	close(other);
	close(pair[0]);
	close(pair[1]);
	reactor_destroy(reactor);
}

/* ---- timers ---- */

#define TIMERS 3000

typedef struct Alarm
{
	ReactorTimer timer;
	int64_t		wanted;
} Alarm;

static Alarm alarms[TIMERS];
static int64_t last_wanted;
static int	rung;
static int	out_of_order;

static void
on_alarm(ReactorTimer *timer)
{
	Alarm	   *alarm = (Alarm *) timer;

	if (alarm->wanted < last_wanted)
		out_of_order++;
	last_wanted = alarm->wanted;
	rung++;
	alarm->wanted = 0;
}

TEST(timers_ring_in_order)
{
	int64_t		base;
	int			i;
	int			expected = 0;

	reactor = reactor_create();
	base = reactor_now(reactor);
	srandom(1);
	rung = out_of_order = 0;
	last_wanted = 0;
	memset(alarms, 0, sizeof(alarms));
	/* set, move and clear at random; all due by base + 20 ms */
	for (i = 0; i < TIMERS * 20; i++)
	{
		Alarm	   *alarm = &alarms[random() % TIMERS];

		alarm->timer.on_time = on_alarm;
		if (random() % 4 == 0)
		{
			reactor_clear_timer(reactor, &alarm->timer);
			alarm->wanted = 0;
		}
		else
		{
			alarm->wanted = base + 1 + random() % 20000;
			reactor_set_timer(reactor, &alarm->timer, alarm->wanted);
		}
	}
	for (i = 0; i < TIMERS; i++)
		expected += alarms[i].wanted != 0;
	while (reactor_sleep_ms(reactor) >= 0)
		reactor_turn(reactor);
	CHECK_EQ_INT(rung, expected);
	CHECK_EQ_INT(out_of_order, 0);
	CHECK(reactor_clock() >= base);
	reactor_destroy(reactor);
}

static void
on_again(ReactorTimer *timer)
{
	rung++;
	reactor_set_timer(reactor, timer, 1);	/* long past */
}

TEST(a_timer_that_sets_itself_waits_for_the_next_turn)
{
	ReactorTimer timer = {0};

	reactor = reactor_create();
	timer.on_time = on_again;
	rung = 0;
	CHECK_EQ_INT(reactor_sleep_ms(reactor), -1);
	reactor_set_timer(reactor, &timer, reactor_now(reactor) + 50000);
	CHECK(reactor_sleep_ms(reactor) > 0 && reactor_sleep_ms(reactor) <= 50);
	reactor_turn(reactor);
	CHECK_EQ_INT(rung, 0);
	reactor_set_timer(reactor, &timer, 1);
	usleep(1000);
	reactor_turn(reactor);
	CHECK_EQ_INT(rung, 1);
	CHECK(timer.due > 0);
	reactor_clear_timer(reactor, &timer);
	CHECK_EQ_INT(timer.due, 0);
	CHECK_EQ_INT(reactor_sleep_ms(reactor), -1);
	reactor_destroy(reactor);
}

/* ---- the end of the turn ---- */

typedef struct Work
{
	ReactorTask task;
	char		name;
	struct Work *queues;
	ReactorLane lane;
	bool		jumps;
} Work;

static char ran[32];
static jmp_buf out;

static void
run_work(ReactorTask *task)
{
	Work	   *work = (Work *) task;

	ran[strlen(ran)] = work->name;
	if (work->queues)
		reactor_at_end(reactor, &work->queues->task, work->queues->lane);
	if (work->jumps)
	{
		work->jumps = false;
		longjmp(out, 1);
	}
}

TEST(links_before_clients_and_each_once)
{
	Work		a = {{NULL, NULL, run_work}, 'a', NULL, REACTOR_CLIENTS, false};
	Work		b = {{NULL, NULL, run_work}, 'b', NULL, REACTOR_CLIENTS, false};
	Work		c = {{NULL, NULL, run_work}, 'c', NULL, REACTOR_LINKS, false};
	Work		d = {{NULL, NULL, run_work}, 'd', NULL, REACTOR_LINKS, false};

	memset(ran, 0, sizeof(ran));
	reactor = reactor_create();
	reactor_at_end(reactor, &a.task, a.lane);
	reactor_at_end(reactor, &b.task, b.lane);
	reactor_at_end(reactor, &a.task, a.lane);
	reactor_at_end(reactor, &c.task, c.lane);
	CHECK_EQ_INT(reactor_sleep_ms(reactor), 0);
	a.queues = &d;				/* a client's work makes work for a link: done before the next client */
	reactor_turn(reactor);
	CHECK_BYTES_LIT(ran, strlen(ran), "cadb");
	CHECK_EQ_INT(reactor_sleep_ms(reactor), -1);

	/* taken out of the middle, the end and the front */
	memset(ran, 0, sizeof(ran));
	a.queues = NULL;
	reactor_at_end(reactor, &a.task, REACTOR_CLIENTS);
	reactor_at_end(reactor, &b.task, REACTOR_CLIENTS);
	reactor_at_end(reactor, &c.task, REACTOR_CLIENTS);
	reactor_not_at_end(reactor, &c.task);
	reactor_not_at_end(reactor, &a.task);
	reactor_not_at_end(reactor, &a.task);
	reactor_at_end(reactor, &d.task, REACTOR_CLIENTS);
	reactor_turn(reactor);
	CHECK_BYTES_LIT(ran, strlen(ran), "bd");
	reactor_destroy(reactor);
}

TEST(a_turn_left_by_longjmp_is_gone_on_with)
{
	Work		a = {{NULL, NULL, run_work}, 'a', NULL, REACTOR_CLIENTS, true};
	Work		b = {{NULL, NULL, run_work}, 'b', NULL, REACTOR_CLIENTS, false};

	memset(ran, 0, sizeof(ran));
	reactor = reactor_create();
	reactor_at_end(reactor, &a.task, REACTOR_CLIENTS);
	reactor_at_end(reactor, &b.task, REACTOR_CLIENTS);
	if (setjmp(out) == 0)
	{
		reactor_turn(reactor);
		CHECK(false);
	}
	CHECK_BYTES_LIT(ran, strlen(ran), "a");
	reactor_turn(reactor);
	CHECK_BYTES_LIT(ran, strlen(ran), "ab");
	reactor_destroy(reactor);
}

TEST(a_task_that_queues_itself_does_not_hold_the_loop)
{
	Work		a = {{NULL, NULL, run_work}, 'a', &a, REACTOR_CLIENTS, false};

	reactor = reactor_create();
	a.name = '\0';				/* leaves no trace in ran */
	reactor_at_end(reactor, &a.task, REACTOR_CLIENTS);
	reactor_turn(reactor);
	CHECK_EQ_INT(reactor_sleep_ms(reactor), 0);
	reactor_destroy(reactor);
}
