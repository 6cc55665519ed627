/*
 * origin/link.c - one connection to an origin: its life, its FIFO of exchanges, its bytes.
 *
 * Reading: one receive into a scratch area shared by all links of the worker, split into messages in
 * place; runs of messages for one exchange go up in one LINK_BYTES. Only the start of a message whose rest has
 * not come is kept (link->in). Writing: everything asked in one turn of the loop goes out in one send at the end of it.
 *
 * A link that breaks tells every exchange in flight (LINK_LOST), then the pool (on_ready). Its memory goes
 * when the pool says so, never from inside a callback.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "utils/timestamp.h"

#include "origin/link_internal.h"

#define SCRATCH_SIZE	(256 * 1024)
#define WHOLE_MAX		(32 * 1024) /* longer messages are handed on in pieces */
#define RESET_WAIT		INT64CONST(15000000) /* for the answer to our own reset, microseconds */
#define CLOSE_WAIT		INT64CONST(5000000) /* for the origin's end of stream, microseconds */

Reactor    *link_reactor;
static void (*link_free_note) (void *note);

static uint8 scratch[SCRATCH_SIZE];

static void link_flush_now(ReactorTask *task);
static void link_close_timeout(ReactorTimer *timer);
static void reset_timeout(ReactorTimer *timer);

void
links_free_notes_by(void (*free_note) (void *note))
{
	link_free_note = free_note;
}

void
links_init(Reactor *reactor)
{
	PQconninfoOption *options = PQconndefaults();

	link_reactor = reactor;
	/* what the server's own environment says is not meant for our origins */
	for (PQconninfoOption *o = options; o && o->keyword; o++)
		if (o->envvar)
			unsetenv(o->envvar);
	PQconninfoFree(options);
}

/* The clock may be set meanwhile, so what lies between the two is looked at anew every second. */
TimestampTz
link_wall_clock(void)
{
	static int64 looked_at;
	static int64 between;
	int64		now = reactor_now(link_reactor);

	if (looked_at == 0 || now - looked_at > 1000000)
	{
		between = GetCurrentTimestamp() - now;
		looked_at = now;
	}
	return now + between;
}

/* ---- states ---- */

static const char *const state_names[] = {
	[LINK_CONNECTING] = "connecting",
	[LINK_IDLE] = "idle",
	[LINK_BUSY] = "active",
	[LINK_RESETTING] = "resetting",
	[LINK_CLOSING] = "closing",
	[LINK_BROKEN] = "broken",
};

const char *
link_state_name(LinkState state)
{
	return state_names[state];
}

LinkState
link_state(const OriginLink *link)
{
	return link->state;
}

/* The one place where a link changes state. */
void
link_set_state(OriginLink *link, LinkState state)
{
	if (message_level_is_interesting(DEBUG2))
		elog(DEBUG2, "hyperpool link %d: %s -> %s", link_row_number(link->row), state_names[link->state], state_names[state]);
	if (link->state == LINK_RESETTING)
		reactor_clear_timer(link_reactor, &link->timer);
	if (state == LINK_RESETTING)
	{
		link->timer.on_time = reset_timeout;
		reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + RESET_WAIT);
	}
	if (state == LINK_IDLE)
		link->idle_since = reactor_now(link_reactor);
	link->state = state;
	link_row_begin_change(link->row);
	link->row->state = state + 1;
	link->row->state_since = link_wall_clock();
	if (link->statements)
		link->row->statements = link_statements_count(link->statements);
	if (link->settings)
		link->row->settings_id = link->settings->id;
	link_row_end_change(link->row);
}

static void
tell_pool(OriginLink *link, LinkState from)
{
	link->target.on_ready(link, from);
}

OriginLink *
link_open(const LinkTarget *target)
{
	OriginLink *link = mem_zalloc(sizeof(OriginLink));

	if (link == NULL)
		return NULL;
	link->row = link_row_take(target->worker, target->origin_slot, target->pool_row);
	if (link->row == NULL)
	{
		mem_free(link, sizeof(OriginLink));
		return NULL;
	}
	link->target = *target;
	link->source.fd = -1;
	link->source.on_ready = link_on_ready;
	link->flush_task.run = link_flush_now;
	link->transport.fd = -1;
	link->reader.side = FRAME_FROM_ORIGIN;
	link->status = TX_IDLE;
	link->unnamed_none = true;
	link->opened_at = reactor_now(link_reactor);
	link->settings = target->empty;
	settings_ref(link->settings);
	link_set_state(link, LINK_CONNECTING);
	if (!link_connect_begin(link))
	{
		link_free(link);
		return NULL;
	}
	return link;
}

const char *
link_open_error(void)
{
	return "no memory for another link, or hyperpool.max_links are open";
}

void
link_set_busy(OriginLink *link)
{
	Assert(link->state == LINK_IDLE);
	link_set_state(link, LINK_BUSY);
}

bool
link_is_quiet(const OriginLink *link)
{
	return link->head == NULL && link->status == TX_IDLE && buffer_len(&link->out) == 0 && !link->poisoned && !link->cut_message;
}

uint8
link_status(const OriginLink *link)
{
	return link->status;
}

void
link_set_client(OriginLink *link, uint32 client_row)
{
	if (link->row->client_row == client_row)
		return;
	link_row_begin_change(link->row);
	link->row->client_row = client_row;
	link_row_end_change(link->row);
}

/* Whoever held it hears nothing more of it. */
static void
let_go(OriginLink *link)
{
	link->on_drained = NULL;
	link->on_stray = NULL;
	link->on_lost = NULL;
	link->held = false;
	link_set_client(link, 0);
}

void
link_give_back(OriginLink *link, LinkAfter after)
{
	Assert(link->state == LINK_BUSY);
	let_go(link);
	if (after == LINK_AFTER_RETIRE || link->poisoned || link->worn)
	{
		link_close(link);
		return;
	}
	/* a cancel on its way could hit the next client's query: the reset comes behind it, as an exchange of ours */
	link->reset_due = (after == LINK_AFTER_RESET || link->cancel) && !link->target.pooled;
	if (!link->reset_due && !link->cancel)
	{
		link_set_state(link, LINK_IDLE);
		return;
	}
	link_set_state(link, LINK_RESETTING);
	link_go_on(link);
}

void
link_close(OriginLink *link)
{
	static const uint8 terminate[] = {MSG_TERMINATE, 0, 0, 0, 4};

	LinkState	from = link->state;

	if (from == LINK_BROKEN || from == LINK_CLOSING)
		return;
	if (from == LINK_CONNECTING || link->head != NULL || frame_inside(&link->reader))
	{
		link_break(link, "08006", "link closed by hyperpool");
		return;
	}
	let_go(link);
	/* Politely: the connection counts against the cap until the origin has closed it. */
	link_set_state(link, LINK_CLOSING);
	buffer_put(&link->out, terminate, sizeof(terminate));
	link_flush(link);
	link_watch(link);
	link->timer.on_time = link_close_timeout;
	reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + CLOSE_WAIT);
	tell_pool(link, from);
}

static void
reset_timeout(ReactorTimer *timer)
{
	OriginLink *link = (OriginLink *) ((char *) timer - offsetof(OriginLink, timer));

	link_break(link, "08006", "the origin did not answer the reset of the session");
}

static void
link_close_timeout(ReactorTimer *timer)
{
	OriginLink *link = (OriginLink *) ((char *) timer - offsetof(OriginLink, timer));

	link_break(link, "08006", "the origin did not end the connection");
}

/* ---- exchanges ---- */

static LinkExchange *
exchange_append(OriginLink *link)
{
	LinkExchange *e = mem_alloc(sizeof(LinkExchange));

	if (e == NULL)
		return NULL;
	memset(e, 0, sizeof(LinkExchange));
	exchange_init(&e->x);
	e->link = link;
	e->asked_at = reactor_now(link_reactor);
	e->starts_at = link->sent + buffer_len(&link->out);
	if (link->tail)
		link->tail->next = e;
	else
		link->head = e;
	link->tail = e;
	return e;
}

static void
exchange_release(LinkExchange *e)
{
	exchange_free(&e->x);
	mem_free(e, sizeof(LinkExchange));
}

LinkExchange *
link_ask(OriginLink *link, void *owner, void (*on_message) (LinkExchange *e, const LinkNews *news))
{
	LinkExchange *e = exchange_append(link);

	if (e)
	{
		e->owner = owner;
		e->on_message = on_message;
		e->purpose = PURPOSE_CLIENT;
		link->row->exchanges++;
	}
	return e;
}

LinkExchange *
link_ask_own(OriginLink *link, LinkPurpose purpose)
{
	LinkExchange *e = exchange_append(link);

	if (e)
		e->purpose = purpose;
	return e;
}

bool
link_note(LinkExchange *e, AskKind kind, AskFor whose, uint8 flags, uint32 number, void *note)
{
	return exchange_add(&e->x, kind, whose, flags, number, note);
}

void
link_disown(LinkExchange *e)
{
	e->owner = NULL;
}

static void
tell_owner(LinkExchange *e, const LinkNews *news)
{
	if (e->owner)
		e->on_message(e, news);
}

static void
tell_ask(LinkExchange *e, const Ask *ask, LinkOutcome outcome)
{
	LinkNews	news = {.kind = LINK_ASK, .ask = ask, .outcome = outcome};

	if (e->owner)
		e->on_message(e, &news);
	else
		link_free_note(ask->note);
}

/* An ask was not fulfilled: what it would have prepared is not there. */
static void
not_fulfilled(LinkExchange *e, const Ask *ask, LinkOutcome outcome)
{
	OriginLink *link = e->link;

	if (ask->kind == ASK_PARSE)
	{
		if (ask->number != 0)
			link_statements_remove(link->statements, ask->number);
		else if (ask->whose != ASK_MADE)
			link_set_unnamed(link, NULL);
	}
	/* a statement that was to go is still there, under a number nobody knows */
	if (ask->kind == ASK_CLOSE && ask->whose == ASK_FOR_US)
		link->worn = true;
	if (ask->note)
		tell_ask(e, ask, outcome);
}

static void
on_dropped(void *arg, const Ask *ask)
{
	not_fulfilled(arg, ask, OUTCOME_SKIPPED);
}

/* ---- breaking ---- */

/* The exchange at the head is over without its end. */
static void
lose_head(OriginLink *link)
{
	LinkExchange *e = link->head;
	LinkNews	news = {.kind = LINK_LOST};

	link->head = e->next;
	if (link->head == NULL)
		link->tail = NULL;
	exchange_drop_all(&e->x, on_dropped, e);
	news.bytes = buffer_view(&link->last_error);
	news.unsent = link->sent <= e->starts_at;
	news.cut = frame_inside(&link->reader) && link->piece_passes;
	link->piece_passes = false;
	if (e->owner)
	{
		void		(*on_message) (LinkExchange *e, const LinkNews *news) = e->on_message;

		on_message(e, &news);
	}
	exchange_release(e);
}

void
link_break(OriginLink *link, const char *sqlstate, const char *text)
{
	LinkState	from = link->state;

	if (from == LINK_BROKEN)
		return;
	if (link->failure == NULL)
	{
		strlcpy(link->sqlstate, sqlstate, sizeof(link->sqlstate));
		link->failure = bytes_copy(bytes_str(text));
	}
	link_set_state(link, LINK_BROKEN);
	reactor_clear_timer(link_reactor, &link->timer);
	reactor_not_at_end(link_reactor, &link->flush_task);
	if (link->source.fd >= 0)
		reactor_remove(link_reactor, &link->source);
	link_cancel_forget(link);
	link_connect_end(link);
	while (link->head)
		lose_head(link);
	if (link->on_lost)
		link->on_lost(link->lost_owner);
	link->on_lost = NULL;
	if (from != LINK_CONNECTING && from != LINK_CLOSING)
		counter_add(link->target.counters, COUNT_LINKS_LOST, 1);

	/* shutdown first, or PQfinish might wait to say goodbye */
	if (link->conn)
	{
		if (PQsocket(link->conn) >= 0)
			shutdown(PQsocket(link->conn), SHUT_RDWR);
		PQfinish(link->conn);
		link->conn = NULL;
	}
	tell_pool(link, from);
}

void
link_free(OriginLink *link)
{
	reactor_not_at_end(link_reactor, &link->flush_task);
	reactor_clear_timer(link_reactor, &link->timer);
	if (link->conn)
		PQfinish(link->conn);
	link_free_session(link);
	buffer_free(&link->out);
	buffer_free(&link->in);
	buffer_free(&link->last_error);
	mem_free_str(link->failure);
	link_row_free(link->row);
	mem_free(link, sizeof(OriginLink));
}

const char *
link_failure(const OriginLink *link, char sqlstate[6])
{
	strlcpy(sqlstate, link->sqlstate[0] ? link->sqlstate : "08006", 6);
	return link->failure ? link->failure : "the link was lost";
}

/* ---- writing ---- */

ByteBuffer *
link_outbound(OriginLink *link)
{
	return &link->out;
}

void
link_flush(OriginLink *link)
{
	reactor_at_end(link_reactor, &link->flush_task, REACTOR_LINKS);
}

bool
link_is_full(const OriginLink *link)
{
	return buffer_len(&link->out) > LINK_HIGH_WATER;
}

void
link_on_drained(OriginLink *link, void (*on_drained) (void *owner), void *owner)
{
	link->on_drained = on_drained;
	link->drained_owner = owner;
}

void
link_watch(OriginLink *link)
{
	int			events = 0;

	if (link->source.fd < 0 || link->state == LINK_CONNECTING)
		return;
	if (!link->held)
		events |= REACTOR_READ;
	if (buffer_len(&link->out) > 0 || link->transport.wants_write)
		events |= REACTOR_WRITE;
	reactor_watch(link_reactor, &link->source, events);
}

void
link_hold_reading(OriginLink *link, bool hold)
{
	if (link->held != hold)
	{
		link->held = hold;
		link_watch(link);
		if (!hold && transport_pending(&link->transport))
			link_flush(link);	/* which reads too, at the end of the turn */
	}
}

static void
tell_drained(OriginLink *link)
{
	void		(*on_drained) (void *owner) = link->on_drained;

	if (on_drained && buffer_len(&link->out) < LINK_HIGH_WATER / 2)
	{
		link->on_drained = NULL;
		on_drained(link->drained_owner);
	}
}

static void
link_flush_now(ReactorTask *task)
{
	OriginLink *link = (OriginLink *) ((char *) task - offsetof(OriginLink, flush_task));

	if (link->state == LINK_BROKEN || link->state == LINK_CONNECTING)
		return;
	if (link->out.failed)
	{
		link_break(link, "53200", "out of memory for a request");
		return;
	}
	while (buffer_len(&link->out) > 0)
	{
		Bytes		view = buffer_view(&link->out);
		ssize_t		n = transport_write(&link->transport, view.data, view.len);

		if (n == TRANSPORT_AGAIN)
			break;
		if (n < 0)
		{
			/* What the origin said before it closed tells more than the failed write. */
			if (link->source.fd >= 0 && !link->held)
				link_on_ready(&link->source, REACTOR_READ);
			link_break(link, "08006", "could not send to the origin");
			return;
		}
		buffer_consume(&link->out, n);
		link->sent += n;
		counter_add(link->target.counters, COUNT_BYTES_TO_ORIGIN, n);
	}
	if (buffer_len(&link->out) == 0 && link->out.size > 16384)
		buffer_trim(&link->out);
	link_watch(link);
	tell_drained(link);
	/* decrypted bytes wait that no poll will tell of */
	if (link->state != LINK_BROKEN && !link->held && transport_pending(&link->transport))
		link_on_ready(&link->source, REACTOR_READ);
}

/* ---- reading ---- */

/* A run of bytes that go up unchanged to one exchange. */
typedef struct Run
{
	const uint8 *start;
	const uint8 *end;			/* start == end: empty */
} Run;

static void
run_deliver(LinkExchange *e, Run *run)
{
	if (run->start != run->end && e)
	{
		LinkNews	news = {.kind = LINK_BYTES, .bytes = bytes_of(run->start, run->end - run->start)};

		tell_owner(e, &news);
	}
	run->start = run->end = NULL;
}

static void
run_extend(Run *run, Bytes raw)
{
	if (run->start == run->end)
		run->start = raw.data;
	run->end = raw.data + raw.len;
}

static void
make_answers(LinkExchange *e)
{
	static const uint8 parse_complete[] = {ANS_PARSE_COMPLETE, 0, 0, 0, 4};
	static const uint8 close_complete[] = {ANS_CLOSE_COMPLETE, 0, 0, 0, 4};
	Ask			ask;

	while (exchange_made(&e->x, &ask))
	{
		LinkNews	news = {.kind = LINK_BYTES};

		news.bytes = bytes_of(ask.kind == ASK_PARSE ? parse_complete : close_complete, 5);
		tell_owner(e, &news);
		if (ask.note)
			tell_ask(e, &ask, OUTCOME_ANSWERED);
	}
}

void
link_make_answers(LinkExchange *e)
{
	if (e->link->head == e)
		make_answers(e);
}

/* The exchange at the head is done: off the FIFO, then told, then freed. */
static void
end_head(OriginLink *link)
{
	LinkExchange *e = link->head;
	LinkNews	news = {.kind = LINK_END, .status = e->x.status};
	LinkPurpose purpose = e->purpose;
	bool		failed = e->failed;

	link->head = e->next;
	if (link->head == NULL)
	{
		link->tail = NULL;
		link_statements_settle(link->statements);
	}
	if (e->x.ambiguous)
		link->poisoned = true;
	tell_owner(e, &news);
	exchange_release(e);
	if (link->state == LINK_BROKEN)
		return;
	if (link->cancel_due && link->head && link->head->purpose == PURPOSE_CLIENT)
		link_cancel(link);
	if (purpose != PURPOSE_CLIENT)
		link_own_ended(link, purpose, failed);
	else if (link->head)
		make_answers(link->head);
	link_go_on(link);
}

/* Messages that belong to no ask. True: handled. */
static bool
on_asynchronous(OriginLink *link, const Frame *frame, Run *run)
{
	LinkExchange *e = link->head;
	bool		passes = e && e->owner && e->purpose == PURPOSE_CLIENT;
	Bytes		name,
				value;

	switch (frame->type)
	{
		case ANS_PARAMETER_STATUS:
			if (frame->last && message_read_parameter_status(frame->body, &name, &value))
			{
				link_note_parameter(link, name, value);
				if (passes)
				{
					LinkNews	news = {.kind = LINK_PARAMETER};

					tell_owner(e, &news);
				}
			}
			break;
		case ANS_NOTICE:
		case ANS_NOTIFICATION:
			break;
		default:
			return false;
	}
	link->piece_passes = passes;
	if (passes)
		run_extend(run, frame->raw);
	else
	{
		run_deliver(e, run);
		if (link->on_stray && link->on_stray(link->stray_owner, frame->raw))
			link->piece_passes = false;
		else if (frame->type != ANS_PARAMETER_STATUS)
			counter_add(link->target.counters, COUNT_NOTICES_DROPPED, 1);
	}
	return true;
}

/* The origin says why it is about to close: kept for whoever is told that the link is lost. */
static void
on_fatal(OriginLink *link, const Frame *frame)
{
	Bytes		code = message_error_field(frame->body, 'C');
	Bytes		text = message_error_field(frame->body, 'M');

	buffer_free(&link->last_error);
	buffer_put(&link->last_error, frame->body.data, frame->body.len);
	if (link->failure == NULL && code.len == 5)
	{
		memcpy(link->sqlstate, code.data, 5);
		link->failure = bytes_copy(text);
	}
	link->poisoned = true;
}

/* An ErrorResponse goes up by itself: its owner may have to put other names in it. */
static void
pass_error(OriginLink *link, LinkExchange *e, const Frame *frame, const Ask *ask)
{
	LinkNews	news = {.kind = LINK_ERROR, .bytes = frame->body, .ask = ask};

	e->failed = true;
	if (e->purpose == PURPOSE_CLIENT)
		counter_add(link->target.counters, COUNT_ERRORS, 1);
	else if (e->purpose == PURPOSE_SETTINGS)
		on_fatal(link, frame);
	tell_owner(e, &news);
}

static void
note_tag(LinkExchange *e, const Frame *frame)
{
	if (frame->last && frame->body.len > 1 && frame->body.data[0] == 'D')
	{
		LinkNews	news = {.kind = LINK_TAG, .bytes = bytes_of(frame->body.data, frame->body.len - 1)};

		tell_owner(e, &news);
	}
}

/* A description that was asked by us: what rows and parameters look like, but for the names of tables and columns. */
static void
note_shape(LinkExchange *e, const Frame *frame)
{
	Digest128	digest;

	switch (frame->type)
	{
		case ANS_PARAMETER_DESCRIPTION:
			e->shape = digest_of(frame->body);
			break;
		case ANS_ROW_DESCRIPTION:
		case ANS_NO_DATA:
			digest = frame->type == ANS_NO_DATA ? digest_of(frame->body) : message_row_shape(frame->body);
			e->shape.lo = e->shape.lo * 31 + digest.lo;
			e->shape.hi = e->shape.hi * 31 + digest.hi;
			break;
	}
}

/* One message (or its first piece) that answers the exchange at the head. False: the link is broken. */
static bool
on_answer(OriginLink *link, const Frame *frame, Run *run)
{
	LinkExchange *e = link->head;
	Ask			ask;
	bool		answered = false;
	uint8		status = frame->type == ANS_READY && frame->body.len == 1 ? frame->body.data[0] : 0;
	AnswerVerdict verdict = ANSWER_VIOLATION;

	if (e)
		verdict = exchange_answered(&e->x, frame->type, status, &ask, &answered, on_dropped, e);
	link->piece_passes = false;
	switch (verdict)
	{
		case ANSWER_PASS:
			link->piece_passes = true;
			run_extend(run, frame->raw);
			break;
		case ANSWER_SWALLOW:
			run_deliver(e, run);
			note_shape(e, frame);
			break;
		case ANSWER_PASS_ERROR:
			if (!frame->last)
			{
				link->piece_passes = true;
				run_extend(run, frame->raw);
				e->failed = true;
			}
			else
			{
				run_deliver(e, run);
				pass_error(link, e, frame, &ask);
			}
			if (answered)
				not_fulfilled(e, &ask, OUTCOME_FAILED);
			break;
		case ANSWER_VIOLATION:
			run_deliver(e, run);
			ereport(LOG,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("origin \"%s\" sent an unexpected message of type 0x%02X", link->target.origin_name, frame->type)));
			link_break(link, "08P01", "the origin sent an unexpected message");
			return false;
	}
	if (frame->type == ANS_READY)
		link->status = status;
	if (frame->type == ANS_COPY_IN && e->owner == NULL)
	{
		link_break(link, "08006", "its client left before it had sent its copy data");
		return false;
	}
	if (frame->type == ANS_COMMAND_COMPLETE)
		note_tag(e, frame);
	if (answered && ask.note && verdict != ANSWER_PASS_ERROR)
		tell_ask(e, &ask, OUTCOME_ANSWERED);
	if (e->x.count > 0 && answered)
	{
		run_deliver(e, run);
		make_answers(e);
	}
	if (exchange_done(&e->x))
	{
		run_deliver(e, run);
		end_head(link);
	}
	return link->state != LINK_BROKEN;
}

static bool
on_frame(OriginLink *link, const Frame *frame, Run *run)
{
	if (!frame->first)
	{
		if (link->piece_passes)
			run_extend(run, frame->raw);
		return true;
	}
	if (on_asynchronous(link, frame, run))
		return link->state != LINK_BROKEN;
	if (frame->type == ANS_ERROR && (link->head == NULL || message_error_is_fatal(frame->body)))
	{
		link->piece_passes = false;
		on_fatal(link, frame);
		return true;
	}
	return on_answer(link, frame, run);
}

/* Splits what is in hand; returns how much was used up. */
static size_t
take_messages(OriginLink *link, Bytes in)
{
	size_t		used = 0;
	Run			run = {NULL, NULL};

	for (;;)
	{
		Frame		frame;
		FrameVerdict verdict = frame_next(&link->reader, bytes_of(in.data + used, in.len - used), WHOLE_MAX, &frame);

		if (verdict == FRAME_MORE)
			break;
		if (verdict == FRAME_BAD_LENGTH)
		{
			run_deliver(link->head, &run);
			link_break(link, "08P01", "the origin sent a message with an impossible length");
			return in.len;
		}
		used += frame.raw.len;
		if (!on_frame(link, &frame, &run))
			return in.len;
	}
	run_deliver(link->head, &run);
	return used;
}

/* Handles `n` fresh bytes that lie in scratch behind the `kept` ones. False: broken. */
static bool
on_bytes(OriginLink *link, size_t kept, size_t n)
{
	size_t		total = kept + n;
	size_t		used;

	counter_add(link->target.counters, COUNT_BYTES_FROM_ORIGIN, n);
	used = take_messages(link, bytes_of(scratch, total));
	if (link->state == LINK_BROKEN)
		return false;
	if (used < total)
		buffer_put(&link->in, scratch + used, total - used);
	if (link->in.failed)
	{
		link_break(link, "53200", "out of memory for an answer");
		return false;
	}
	return true;
}

static void
link_read(OriginLink *link)
{
	int			rounds = 4;		/* then others have their turn */

	do
	{
		size_t		kept = buffer_len(&link->in);
		ssize_t		n;

		Assert(kept <= WHOLE_MAX + 5);
		if (kept > 0)
		{
			memcpy(scratch, buffer_view(&link->in).data, kept);
			buffer_consume(&link->in, kept);
		}
		n = transport_read(&link->transport, scratch + kept, SCRATCH_SIZE - kept);
		if (n == TRANSPORT_AGAIN)
		{
			buffer_put(&link->in, scratch, kept);
			break;
		}
		if (n <= 0)
		{
			link_break(link, "08006", n == 0 ? "the origin closed the connection" : "the connection to the origin was lost");
			return;
		}
		if (!on_bytes(link, kept, n))
			return;
		if (n < SCRATCH_SIZE / 4 && !transport_pending(&link->transport))
			break;
	} while (--rounds > 0 && !link->held && link->state != LINK_BROKEN);
	if (link->state == LINK_BROKEN)
		return;
	buffer_trim(&link->in);
	/* decrypted bytes wait that no poll will tell of */
	if (!link->held && transport_pending(&link->transport))
		reactor_at_end(link_reactor, &link->flush_task, REACTOR_LINKS);
	link_watch(link);
}

void
link_on_ready(ReactorSource *source, int events)
{
	OriginLink *link = (OriginLink *) source;

	if (link->state == LINK_CONNECTING)
	{
		link_connect_step(link);
		return;
	}
	if (events & REACTOR_WRITE)
	{
		link_flush_now(&link->flush_task);
		if (link->state == LINK_BROKEN)
			return;
	}
	if ((events & REACTOR_READ) && !link->held)
		link_read(link);
}

/* ---- ends of exchanges ---- */

void
link_go_on(OriginLink *link)
{
	if (link->head != NULL || link->cancel != NULL || link->state == LINK_BROKEN)
		return;
	if (link->abandoned)
	{
		if (link->poisoned)
		{
			link_close(link);
			return;
		}
		link->abandoned = false;
		if (!link_ask_rollback(link) || !link_ask_reset(link))
			link_close(link);
		return;
	}
	if (link->state == LINK_RESETTING)
	{
		if (link->poisoned || link->status != TX_IDLE)
		{
			link_close(link);
			return;
		}
		if (link->reset_due)
		{
			if (!link_ask_reset(link))
				link_close(link);
			return;
		}
		link_set_state(link, LINK_IDLE);
		tell_pool(link, LINK_RESETTING);
	}
}

/*
 * Has the client stopped in the middle? A Sync in its place would commit what it may not have wanted, and half a copy cannot be
 * ended without guessing: the end of the connection rolls both back.
 */
static bool
half_said(const OriginLink *link)
{
	const LinkExchange *e = link->tail;

	return e && e->purpose == PURPOSE_CLIENT && (e->x.phase == EXCHANGE_OPEN || e->x.copy_in);
}

void
link_abandon(OriginLink *link)
{
	if (link->state != LINK_BUSY)
		return;
	for (LinkExchange *e = link->head; e; e = e->next)
		link_disown(e);
	let_go(link);
	if (link->cut_message || link->target.pooled || link->worn || half_said(link))
	{
		if (link->head)
			link_cancel(link);
		link_break(link, "08006", "its client left in the middle of a request");
		return;
	}
	link->abandoned = true;
	link_set_state(link, LINK_RESETTING);
	if (link->head)
		link_cancel(link);
	link_flush(link);
	link_watch(link);
	link_go_on(link);
}

/* ---- small answers ---- */

void
link_wear_out(OriginLink *link)
{
	link->worn = true;
}

void
link_set_cut(OriginLink *link, bool cut)
{
	link->cut_message = cut;
}

void
link_on_lost(OriginLink *link, void (*on_lost) (void *owner), void *owner)
{
	link->on_lost = on_lost;
	link->lost_owner = owner;
}

void
link_break_now(OriginLink *link)
{
	link_break(link, "53200", "out of memory for a request");
}

void
link_on_stray(OriginLink *link, bool (*on_stray) (void *owner, Bytes raw), void *owner)
{
	link->on_stray = on_stray;
	link->stray_owner = owner;
}

int
link_row(const OriginLink *link)
{
	return link_row_number(link->row);
}

const char *
link_login_user(const OriginLink *link)
{
	return PQuser(link->conn);
}

void *
link_pool(const OriginLink *link)
{
	return link->target.pool;
}

int64
link_opened_at(const OriginLink *link)
{
	return link->opened_at;
}

int64
link_idle_since(const OriginLink *link)
{
	return link->idle_since;
}
