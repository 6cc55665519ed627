/*
 * client/session.c - one client's life: reading, writing, closing.
 *
 * Reading: one receive into a scratch area shared by all sessions, messages taken in place; only what cannot be taken now (half a
 * message, or the session waits) is kept in s->in. Writing: all answers of a turn go out in one send at its end.
 *
 * A session is closed at any point by session_close; its memory goes at the end of the turn, so that whoever is on the
 * stack may still look at its state.
 */
#include "postgres.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "utils/memutils.h"

#include "client/session_internal.h"

#define SCRATCH_SIZE	(64 * 1024)
#define READ_STEP		(16 * 1024)
#define STATEMENTS_WHEN_FULL	100	/* names of one client */

Reactor    *session_reactor;
int			session_worker;
Directory  *session_directory;

static uint8 scratch[SCRATCH_SIZE];
static ClientSession *sessions;	/* all of this worker */
static ClientSession **by_row;	/* client row number -> session */
static int	count;
static int	limit;				/* of them; 0 = hyperpool.max_clients alone */
static ClientSession *handling; /* whose event is being handled, for sessions_after_error */
static bool draining;

static void on_ready(ReactorSource *source, int events);
static void on_time(ReactorTimer *timer);
static void flush_now(ReactorTask *task);

void
sessions_init(Reactor *reactor, int worker)
{
	session_reactor = reactor;
	session_worker = worker;
	links_free_notes_by(session_free_note);
	session_login_init();
	session_cache_init();
	by_row = MemoryContextAllocZero(TopMemoryContext, hyperpool_max_clients * sizeof(ClientSession *));
}

bool
session_take_row(ClientSession *s)
{
	s->row = client_row_take(session_worker);
	if (s->row)
		by_row[client_row_number(s->row)] = s;
	return s->row != NULL;
}

void
sessions_limit(int most)
{
	limit = most;
}

bool
session_has_descriptor(void)
{
	return limit == 0 || count <= limit;
}

/* At hyperpool.worker_memory nobody is accepted, and those that are there are kept short. */
static bool
is_full(void)
{
	return mem_used() >= (size_t) hyperpool_worker_memory * 1024 * 1024;
}

bool
sessions_accepting(void)
{
	return !draining && !is_full();
}

uint32
session_max_statements(void)
{
	return is_full() ? Min(hyperpool_max_session_statements, STATEMENTS_WHEN_FULL) : hyperpool_max_session_statements;
}

size_t
session_high_water(void)
{
	return is_full() ? READ_STEP : SESSION_HIGH_WATER;
}

/* ---- states ---- */

static ClientState
row_state(SessionState state, const ClientSession *s)
{
	switch (state)
	{
		case SESSION_STARTING:
			return CLIENT_LOGIN;
		case SESSION_IDLE:
			return s->begin ? CLIENT_IN_TRANSACTION : CLIENT_IDLE;
		case SESSION_WAITING:
		case SESSION_JOINED:
			return CLIENT_WAITING;
		case SESSION_REPLAYING:
			return CLIENT_ACTIVE;
		case SESSION_RELAYING:
			return s->inflight > 0 ? CLIENT_ACTIVE : CLIENT_IN_TRANSACTION;
		case SESSION_LEAVING:
		case SESSION_CLOSED:
			return CLIENT_CLOSING;
	}
	return CLIENT_CLOSING;
}

/* The one place where a session changes state. */
void
session_set_state(ClientSession *s, SessionState state)
{
	ClientState shown = row_state(state, s);

	s->state = state;
	if (s->row && (s->row->state != shown || s->row->bound != s->bound))
	{
		client_row_begin_change(s->row);
		s->row->state = shown;
		s->row->bound = s->bound;
		s->row->link_row = s->link ? link_row(s->link) + 1 : 0;
		s->row->state_since = link_wall_clock();
		client_row_end_change(s->row);
	}
}

/* ---- birth and death ---- */

#define SLAB_SESSIONS	64

static ClientSession *unused;	/* by `next` */

/*
 * Sessions lie side by side: taken one by one from malloc they would stand between what each login frees again, and
 * an idle client would cost three times its size.
 */
static ClientSession *
session_take_memory(void)
{
	ClientSession *s = unused;

	if (s == NULL)
	{
		ClientSession *slab = mem_alloc(SLAB_SESSIONS * sizeof(ClientSession));

		if (slab == NULL)
			return NULL;
		for (int i = 0; i < SLAB_SESSIONS; i++)
		{
			slab[i].next = unused;
			unused = &slab[i];
		}
		s = unused;
	}
	unused = s->next;
	memset(s, 0, sizeof(ClientSession));
	return s;
}

static ClientSession *
session_make(int fd)
{
	ClientSession *s = session_take_memory();

	if (s == NULL)
		return NULL;
	s->source.fd = fd;
	s->source.on_ready = on_ready;
	s->flush_task.run = flush_now;
	s->timer.on_time = on_time;
	s->waiter.on_checkout = session_on_checkout;
	s->waiter.on_facts = session_ride_on_facts;
	s->reader.side = FRAME_FROM_CLIENT;
	s->safe_encoding = true;
	s->max_age = s->startup_max_age = -1;
	transport_init_plain(&s->transport, fd);
	s->next = sessions;
	if (sessions)
		sessions->prev = s;
	sessions = s;
	count++;
	return s;
}

ClientSession *
session_make_headless(ClientSession *like)
{
	ClientSession *s = session_make(-1);

	if (s == NULL)
		return NULL;
	s->headless = true;
	s->pool = like->pool;
	pool_ref(s->pool);
	s->settings = like->settings;
	s->startup_settings = like->startup_settings;
	settings_ref(s->settings);
	settings_ref(s->startup_settings);
	s->safe_encoding = like->safe_encoding;
	s->utf8 = like->utf8;
	s->role = like->role;
	s->counters = like->counters;
	session_set_state(s, SESSION_IDLE);
	return s;
}

void
session_accept(int fd, const struct sockaddr_storage *from, bool local)
{
	ClientSession *s = session_make(fd);

	if (s == NULL)
	{
		close(fd);
		return;
	}
	if (!reactor_add(session_reactor, &s->source, REACTOR_READ))
	{
		s->source.fd = -1;
		session_close(s);
		return;
	}
	if (!session_login_begin(s, from, local))
		session_close_after_flush(s);
}

static void
log_disconnection(const ClientSession *s)
{
	const DirectoryRole *role = session_directory ? directory_role_by_oid(session_directory, s->role) : NULL;
	int64		seconds = (link_wall_clock() - s->row->connect_time) / 1000000;

	ereport(LOG,
			(errmsg("hyperpool: disconnection: session time: %d:%02d:%02d user=%s origin=%s",
					(int) (seconds / 3600), (int) (seconds / 60 % 60), (int) (seconds % 60),
					role ? role->name : "", s->pool ? pool_origin_name(s->pool) : "")));
}

/* The connection and its place in the clients view. */
static void
part_from_client(ClientSession *s)
{
	if (s->source.fd >= 0)
	{
		reactor_remove(session_reactor, &s->source);
		transport_close(&s->transport);
		transport_init_plain(&s->transport, -1);
		s->source.fd = -1;
	}
	if (s->row && hyperpool_log_disconnections && OidIsValid(s->role))
		log_disconnection(s);
	if (s->row)
	{
		by_row[client_row_number(s->row)] = NULL;
		client_row_free(s->row);
		s->row = NULL;
	}
}

bool
session_leave_client(ClientSession *s)
{
	if (!session_cache_survives(s))
		return false;
	s->headless = true;
	if (s->link)
		link_set_client(s->link, 0);
	part_from_client(s);
	buffer_free(&s->in);
	buffer_free(&s->out);
	if (s->holding_link)
	{
		s->holding_link = false;
		session_cache_hold(s, false);
		link_hold_reading(s->link, false);
	}
	/* it was LEAVING when its client had said goodbye: the limits of a query are its business again */
	session_set_state(s, SESSION_RELAYING);
	session_arm(s);
	return true;
}

void
session_close(ClientSession *s)
{
	if (s->state == SESSION_CLOSED)
		return;
	reactor_clear_timer(session_reactor, &s->timer);
	pool_leave_queue(&s->waiter);
	session_cache_abort(s);
	session_settings_forget(s);
	session_let_go(s);
	session_login_end(s);
	session_set_state(s, SESSION_CLOSED);
	part_from_client(s);
	/* its memory goes at the end of the turn */
	reactor_at_end(session_reactor, &s->flush_task, REACTOR_CLIENTS);
}

static void
session_free(ClientSession *s)
{
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		sessions = s->next;
	count--;
	names_clear(&s->names, pools_statements());
	if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	if (s->settings)
		settings_unref(pools_settings(), s->settings);
	if (s->startup_settings)
		settings_unref(pools_settings(), s->startup_settings);
	if (s->pool)
		pool_unref(s->pool);
	buffer_free(&s->in);
	buffer_free(&s->out);
	buffer_free(&s->refusal);
	buffer_free(&s->asked);
	session_begin_forget(s);
	buffer_free(&s->parked);
	if (s->deallocating)
		session_note_free(s->deallocating);
	if (handling == s)
		handling = NULL;
	s->next = unused;
	unused = s;
}

/* What was bound to the client goes with it: no reset finds all of it. */
static LinkAfter
after_client(const ClientSession *s)
{
	LinkAfter	after = effects_link_after(s->effects);

	return s->bound || after == LINK_AFTER_BOUND ? LINK_AFTER_RETIRE : after;
}

/* Gives up the link in whatever state it is. */
void
session_let_go(ClientSession *s)
{
	OriginLink *link = s->link;

	if (link == NULL)
		return;
	if (s->riding)
	{
		session_ride_leave(s);
		return;
	}
	s->link = NULL;
	s->tail = NULL;
	s->inflight = 0;
	if (s->holding_link)
		link_hold_reading(link, false);
	s->holding_link = false;
	if (!link_is_quiet(link))
	{
		/* what it writes may be committed yet: only when its backend has gone is that known not to happen any more */
		if (after_client(s) == LINK_AFTER_RETIRE || session_writes_under_way(s))
			link_wear_out(link);
		pool_abandon(link);
	}
	else
		pool_return(link, after_client(s));
	session_writes_lost(s);
	s->effects = 0;
	s->risky = 0;
	s->holding_messages = false;
	session_unbind(s);
}

void
session_close_after_flush(ClientSession *s)
{
	if (s->state == SESSION_CLOSED)
		return;
	s->closing = true;
	if (s->state != SESSION_LEAVING)
		session_set_state(s, SESSION_LEAVING);
	pool_leave_queue(&s->waiter);
	session_cache_abort(s);
	session_settings_forget(s);
	session_let_go(s);
	/* what does not go out within a few seconds is lost */
	session_set_timer(s, INT64CONST(5000000));
	session_flush(s);
}

void
session_fatal(ClientSession *s, Refusal refusal, const char *arg)
{
	if (s->state == SESSION_CLOSED)
		return;
	/* in the middle of a row an error would be read as its rest */
	if (s->state != SESSION_REPLAYING && !(s->link && link_is_within_answer(s->link, s)))
		message_put_refusal(&s->out, "FATAL", refusal, arg);
	session_close_after_flush(s);
}

void
session_set_timer(ClientSession *s, int64 after)
{
	if (after > 0)
		reactor_set_timer(session_reactor, &s->timer, reactor_now(session_reactor) + after);
	else
		reactor_clear_timer(session_reactor, &s->timer);
}

/* It is the client's turn: in a transaction, in the middle of a batch, a copy or a message. Nothing is answered behind what it has not flushed. */
static bool
waits_for_client(const ClientSession *s)
{
	if (s->inflight != 1 || s->tail == NULL)
		return s->inflight == 0;
	return exchange_waits_for_client(&s->tail->x) || (s->tail->x.phase == EXCHANGE_OPEN && !s->flushed) || frame_inside(&s->reader);
}

/* When the limit that applies now is reached; 0 = there is none. */
static int64
limit_at(const ClientSession *s)
{
	bool		idle = waits_for_client(s);
	int64		limit = idle ? pool_idle_transaction_timeout(s->pool) : pool_query_timeout(s->pool);

	if (limit == 0)
		return 0;
	/* it may have more to say, but the origin does not take it */
	if (idle && s->link && link_is_draining(s->link))
		return reactor_now(session_reactor) + limit;
	return limit + (idle ? Max(s->heard_at, s->answered_at) : s->answered_at);
}

void
session_arm(ClientSession *s)
{
	int64		query = pool_query_timeout(s->pool);
	int64		idle = pool_idle_transaction_timeout(s->pool);

	/* whose turn it is when the timer goes off is not known yet: the shorter of the two, looked at again then */
	session_set_timer(s, query == 0 || (idle != 0 && idle < query) ? idle : query);
}

#define CANCEL_GRACE	INT64CONST(10000000)	/* for the answer to a cancel, microseconds */

static void
on_limit(ClientSession *s)
{
	int64		at = limit_at(s);
	int64		now = reactor_now(session_reactor);

	if (at == 0)
		session_arm(s);
	else if (at > now)
		session_set_timer(s, at - now);
	else if (waits_for_client(s))
	{
		counter_add(s->counters, COUNT_IDLE_TRANSACTION_TIMEOUTS, 1);
		session_fatal(s, REFUSE_IDLE_TRANSACTION, pool_origin_name(s->pool));
	}
	else if (!s->timed_out)
	{
		counter_add(s->counters, COUNT_QUERY_TIMEOUTS, 1);
		if (s->riding && session_ride_cancel(s, REFUSE_QUERY_TIMEOUT))
			return;
		s->timed_out = true;
		session_set_timer(s, CANCEL_GRACE);
		link_cancel(s->link);
	}
	else
		link_close(s->link);	/* the cancel was in vain: an origin that answers nothing is gone */
}

static void
on_time(ReactorTimer *timer)
{
	ClientSession *s = (ClientSession *) ((char *) timer - offsetof(ClientSession, timer));

	if (s->closing || s->state == SESSION_LEAVING)
	{
		if (!session_leave_client(s))
			session_close(s);
	}
	else if (s->state == SESSION_STARTING)
		session_login_late(s);
	else if (s->state == SESSION_JOINED)
		session_cache_wait_on(s);
	else if (s->state == SESSION_RELAYING || (s->state == SESSION_IDLE && s->begin))
		on_limit(s);
}

/* ---- watching ---- */

/* May more of its messages be taken now? */
static bool
wants_messages(const ClientSession *s)
{
	if (s->reading || s->holding_messages)
		return false;
	if (s->state == SESSION_IDLE)
		return true;
	/* what rides is sent to its end; nothing more is put on a link that is full */
	return s->state == SESSION_RELAYING && (s->riding || !link_is_full(s->link));
}

static bool
may_read(const ClientSession *s)
{
	return wants_messages(s) && buffer_len(&s->out) < SESSION_HIGH_WATER;
}

/* The link has room again. */
static void
link_drained(void *owner)
{
	ClientSession *s = owner;

	s->heard_at = reactor_now(session_reactor);
	session_resume(s);
}

/* Few clients speak while they wait: who is not to be read is watched until something comes (on_ready), which saves two system calls a query. */
static void
watch(ClientSession *s)
{
	int			events = 0;

	if (s->source.fd < 0 || s->state == SESSION_STARTING)
		return;
	if (s->link && !s->riding && link_is_full(s->link))
		link_on_drained(s->link, link_drained, s);
	if (may_read(s))
	{
		events |= REACTOR_READ;
		/* what TLS has taken already no poll will tell of */
		if (transport_pending(&s->transport))
			reactor_at_end(session_reactor, &s->flush_task, REACTOR_CLIENTS);
	}
	else
		events |= s->source.watching & REACTOR_READ;
	/* what is to be sent at the end of this turn need not be polled for yet */
	if ((buffer_len(&s->out) > 0 && s->flush_task.prev == NULL) || s->transport.wants_write)
		events |= REACTOR_WRITE;
	reactor_watch(session_reactor, &s->source, events);
}

/* ---- reading ---- */

/* Statements are wanted whole, to be remembered and understood; everything else may come in pieces. */
static size_t
whole_max(const ClientSession *s, Bytes in)
{
	if (!frame_inside(&s->reader) && in.len > 0 && (in.data[0] == MSG_PARSE || in.data[0] == MSG_QUERY))
		return Max((size_t) hyperpool_max_statement_size * 1024, SESSION_WHOLE_MAX);
	return SESSION_WHOLE_MAX;
}

typedef enum ConsumeStep
{
	CONSUME_READ,				/* the message at the front */
	CONSUME_AGAIN,				/* look at the front once more */
	CONSUME_STOP
} ConsumeStep;

/* Before a message is read: can it be answered here, or may it ride? used grows by what has been answered. */
static ConsumeStep
look_ahead(ClientSession *s, Bytes rest, size_t *used)
{
	if (!frame_inside(&s->reader) && session_local_may(s))
	{
		size_t		taken = 0;
		LocalVerdict local = session_local(s, rest, &taken);

		*used += taken;
		if (local != LOCAL_FORWARD)
			return local == LOCAL_DONE ? CONSUME_AGAIN : CONSUME_STOP;
		session_ride_look(s, rest);
	}
	else if (s->riding && s->ride_left == 0)
	{
		if (!session_ride_on(s, rest))
			return CONSUME_STOP;
		if (!s->riding)
			return CONSUME_AGAIN;
	}
	else if (s->link == NULL)
		s->waiter.rides = s->waiter.hopes = false;	/* nobody has looked at this one */
	return CONSUME_READ;
}

/* True: there is a message, or a piece of one, to be asked. */
static bool
read_message(ClientSession *s, Bytes rest, Frame *frame)
{
	bool		inside = frame_inside(&s->reader);
	FrameVerdict verdict = frame_next(&s->reader, rest, whole_max(s, rest), frame);

	/* judged by its first byte, as PostgreSQL does: its length may never make sense */
	if (!inside && session_refuses_type(s, rest.data[0]))
		return false;
	if (verdict == FRAME_MORE)
	{
		/* half of it on a link would hold that until the rest has come */
		if (rest.len > SESSION_WHOLE_MAX && is_full())
			session_fatal(s, REFUSE_MEMORY, NULL);
		return false;
	}
	if (verdict == FRAME_BAD_LENGTH)
	{
		/* as PostgreSQL does: the stream is out of step, nothing can be said */
		ereport(LOG, (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("hyperpool: invalid message length from a client")));
		session_close_after_flush(s);
		return false;
	}
	return true;
}

/* Reads and asks one message. False: no more can be taken now. */
static bool
take_message(ClientSession *s, Bytes rest, size_t *used)
{
	FrameReader before = s->reader;
	Frame		frame;
	SessionStep step;

	if (!read_message(s, rest, &frame))
		return false;
	step = session_ask(s, &frame);
	if (step == STEP_HOLD)
	{
		s->reader = before;
		return false;
	}
	*used += frame.raw.len;
	s->ride_left -= Min(s->ride_left, frame.raw.len);
	return step != STEP_GONE;
}

/* Takes messages out of `in`; returns the bytes used up. */
static size_t
session_consume(ClientSession *s, Bytes in)
{
	size_t		used = 0;
	ConsumeStep step = CONSUME_AGAIN;

	s->consuming = true;
	while (step != CONSUME_STOP && used < in.len && wants_messages(s))
	{
		Bytes		rest = bytes_of(in.data + used, in.len - used);

		step = look_ahead(s, rest, &used);
		if (step == CONSUME_READ && !take_message(s, rest, &used))
			step = CONSUME_STOP;
	}
	s->consuming = false;
	return used;
}

void
session_resume(ClientSession *s)
{
	if (s->consuming || s->state == SESSION_CLOSED || s->state == SESSION_STARTING)
		return;
	if (buffer_len(&s->in) > 0)
		buffer_consume(&s->in, session_consume(s, buffer_view(&s->in)));
	buffer_trim(&s->in);
	if (s->headless && s->state == SESSION_IDLE && buffer_len(&s->in) == 0)
		session_close(s);
	watch(s);
}

/*
 * The client has closed its side. It may only have said its last word: what was asked in full is answered if that takes no
 * longer than END_WAIT; then it counts as gone and what runs is cancelled. What it has been answered goes out.
 */
#define END_WAIT	INT64CONST(1000000)

static void
on_end_of_stream(ClientSession *s)
{
	if (s->state == SESSION_RELAYING && s->tail && s->tail->x.phase == EXCHANGE_CLOSED && !frame_inside(&s->reader))
	{
		session_set_state(s, SESSION_LEAVING);
		session_set_timer(s, END_WAIT);
	}
	else if (s->inflight == 0 && buffer_len(&s->out) > 0)
		session_close_after_flush(s);
	else
		session_close(s);
}

static void
session_read(ClientSession *s)
{
	ssize_t		n;

	if (buffer_len(&s->in) == 0)
	{
		size_t		used;

		n = transport_read(&s->transport, scratch, SCRATCH_SIZE);
		if (n <= 0)
			goto nothing;
		used = session_consume(s, bytes_of(scratch, n));
		if (s->state != SESSION_CLOSED && used < (size_t) n)
			buffer_put(&s->in, scratch + used, n - used);
	}
	else
	{
		if (!buffer_reserve(&s->in, READ_STEP))
		{
			session_fatal(s, REFUSE_MEMORY, NULL);
			return;
		}
		n = transport_read(&s->transport, s->in.data + s->in.end, s->in.size - s->in.end);
		if (n <= 0)
			goto nothing;
		s->in.end += n;
		buffer_consume(&s->in, session_consume(s, buffer_view(&s->in)));
		buffer_trim(&s->in);
	}
	if (s->counters)
		counter_add(s->counters, COUNT_BYTES_FROM_CLIENTS, n);
	if (s->in.failed)
		session_fatal(s, REFUSE_MEMORY, NULL);
	return;

nothing:
	if (n == 0)
		on_end_of_stream(s);
	else if (n != TRANSPORT_AGAIN && !session_leave_client(s))
		session_close(s);
}

/* As much as may be taken now. */
static void
read_all(ClientSession *s)
{
	do
		session_read(s);
	while (s->state != SESSION_CLOSED && may_read(s) && transport_pending(&s->transport));
}

static void
on_ready(ReactorSource *source, int events)
{
	ClientSession *s = (ClientSession *) source;

	handling = s;
	if (s->state == SESSION_STARTING)
	{
		session_login_step(s, events);
		handling = NULL;
		return;
	}
	if (events & REACTOR_WRITE)
		flush_now(&s->flush_task);
	if (handling == s && s->state != SESSION_CLOSED && (events & REACTOR_READ))
	{
		if (may_read(s))
			read_all(s);
		else if (source->watching & REACTOR_READ)
			(void) reactor_watch(session_reactor, source, source->watching & ~REACTOR_READ);
		else if (!session_leave_client(s))
			session_close(s);	/* told although not asked for: the connection is broken */
		if (s->state != SESSION_CLOSED)
			watch(s);
	}
	handling = NULL;
}

/* ---- writing ---- */

void
session_flush(ClientSession *s)
{
	reactor_at_end(session_reactor, &s->flush_task, REACTOR_CLIENTS);
	if (s->link && !s->holding_link && buffer_len(&s->out) > SESSION_HIGH_WATER && (!s->riding || session_ride_may_hold(s)))
	{
		s->holding_link = true;
		link_hold_reading(s->link, true);
		session_cache_hold(s, true);
	}
}

/* The client has taken enough: the origin may go on. */
static void
drained(ClientSession *s)
{
	if (s->holding_link && buffer_len(&s->out) < SESSION_HIGH_WATER / 2)
	{
		s->holding_link = false;
		session_cache_hold(s, false);
		if (s->link)
			link_hold_reading(s->link, false);
	}
	if (buffer_len(&s->out) == 0)
		buffer_trim(&s->out);
	if (s->state == SESSION_REPLAYING && buffer_len(&s->out) < SESSION_HIGH_WATER / 2)
		session_cache_go_on(s);
}

/* A socket that is closed over bytes nobody has read resets its connection, and what its client has been sent may be lost with that. A client that goes on and on is not waited for. */
static void
read_away(ClientSession *s)
{
	for (int rounds = 0; rounds < 8; rounds++)
	{
		if (s->source.fd < 0 || transport_read(&s->transport, scratch, SCRATCH_SIZE) <= 0)
			return;
	}
}

static void
flush_now(ReactorTask *task)
{
	ClientSession *s = (ClientSession *) ((char *) task - offsetof(ClientSession, flush_task));

	if (s->state == SESSION_CLOSED)
	{
		session_free(s);
		return;
	}
	if (s->headless)
		buffer_free(&s->out);
	if (s->out.failed)
	{
		session_close(s);
		return;
	}
	while (buffer_len(&s->out) > 0)
	{
		Bytes		view = buffer_view(&s->out);
		ssize_t		n = transport_write(&s->transport, view.data, view.len);

		if (n == TRANSPORT_AGAIN)
			break;
		if (n < 0)
		{
			if (!session_leave_client(s))
				session_close(s);
			return;
		}
		buffer_consume(&s->out, n);
		if (s->counters)
			counter_add(s->counters, COUNT_BYTES_TO_CLIENTS, n);
	}
	if (s->closing && buffer_len(&s->out) == 0)
	{
		read_away(s);
		session_close(s);
		return;
	}
	drained(s);
	if (s->state != SESSION_CLOSED && s->state != SESSION_STARTING && may_read(s) && transport_pending(&s->transport))
		read_all(s);
	if (s->state != SESSION_CLOSED)
		watch(s);
}

/* ---- from outside ---- */

static ClientSession *
find_row(int place, uint32 generation)
{
	ClientSession *s = place >= 0 && place < hyperpool_max_clients ? by_row[place] : NULL;

	return s && s->row->generation == generation ? s : NULL;
}

static void
cancel(ClientSession *s)
{
	switch ((SessionState) s->state)
	{
		case SESSION_WAITING:
			/* nothing was asked of the origin */
			pool_leave_queue(&s->waiter);
			session_refuse_next(s, REFUSE_CANCELED, NULL);
			break;
		case SESSION_JOINED:
			session_refuse_next(s, REFUSE_CANCELED, NULL);
			break;
		case SESSION_RELAYING:
		case SESSION_LEAVING:
			if (s->link == NULL || s->inflight == 0 || s->reading || s->ready_due)
				break;
			if (s->riding && session_ride_cancel(s, REFUSE_CANCELED))
				break;
			s->cancelled = true;
			link_cancel(s->link);
			break;
		case SESSION_STARTING:
		case SESSION_IDLE:
		case SESSION_REPLAYING:
		case SESSION_CLOSED:
			break;
	}
}

void
sessions_on_note(const Note *note)
{
	ClientSession *s;

	if (note->kind != NOTE_CANCEL && note->kind != NOTE_DISCONNECT)
		return;
	s = find_row(note->place, note->generation);
	if (s == NULL)
		return;
	if (note->kind == NOTE_CANCEL)
		cancel(s);
	else
		session_fatal(s, REFUSE_DISCONNECTED, NULL);
}

/* Its credential may be another one now: then its next exchange is asked as another user of the origin. */
static void
take_pool_anew(ClientSession *s, const DirectoryOrigin *origin)
{
	const DirectoryCredential *credential = directory_credential(session_directory, origin, s->role);
	LinkPool   *pool = credential ? pool_of(origin, credential) : NULL;

	if (pool == NULL)
		return;
	/* what was to be recorded would have been asked as the other user */
	session_cache_abort(s);
	pool_unref(s->pool);
	s->pool = pool;
	s->scope = 0;
}

/* Looked at again after each change of the directory, but never in the middle of a transaction. */
bool
session_check_rights(ClientSession *s)
{
	const DirectoryOrigin *origin = directory_origin(session_directory, bytes_str(pool_origin_name(s->pool)));

	s->rights_stale = false;
	if (origin == NULL || pool_is_dropped(s->pool))
		session_fatal(s, REFUSE_ORIGIN_DROPPED, pool_origin_name(s->pool));
	else if (directory_role_by_oid(session_directory, s->role) == NULL || !directory_may_use(session_directory, s->role, origin))
		session_fatal(s, REFUSE_NO_RIGHT, origin->name);
	else if (s->link == NULL)
		take_pool_anew(s, origin);
	return !s->closing;
}

static void
on_directory(ClientSession *s)
{
	if (s->pool == NULL || s->state == SESSION_CLOSED || s->closing)
		return;
	s->rights_stale = true;
	if (s->state == SESSION_IDLE && s->link == NULL)
		session_check_rights(s);
}

void
sessions_on_directory(Directory *directory)
{
	ClientSession *next;

	session_directory = directory;
	for (ClientSession *s = sessions; s; s = next)
	{
		next = s->next;
		on_directory(s);
	}
}

bool
sessions_drain(bool now)
{
	ClientSession *next;

	draining = true;
	for (ClientSession *s = sessions; s; s = next)
	{
		next = s->next;
		if (s->state == SESSION_CLOSED || s->closing)
			continue;
		if (now || s->state == SESSION_IDLE || s->state == SESSION_STARTING || s->state == SESSION_WAITING || s->state == SESSION_JOINED)
			session_fatal(s, REFUSE_SHUTDOWN, NULL);
	}
	return count == 0;
}

void
sessions_after_error(void *told)
{
	ClientSession *hit = handling;
	ClientSession *next;

	handling = NULL;
	/* those whose messages were being taken have been left in the middle, too: one's end may have let another go on */
	for (ClientSession *s = sessions; s; s = next)
	{
		next = s->next;
		if (s->state == SESSION_CLOSED || (s != hit && s != told && !s->consuming))
			continue;
		s->consuming = false;
		session_close(s);
	}
}
