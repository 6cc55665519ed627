/*
 * origin/link.c - one connection to an origin: its life, its FIFO of exchanges, its bytes.
 *
 * Writing: everything asked in one turn of the loop goes out in one send at the end of it. Reading is in link_read.c.
 *
 * A link that breaks tells every exchange in flight (LINK_LOST), then the pool (on_ready). Its memory goes
 * when the pool says so, never from inside a callback.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "utils/timestamp.h"

#include "origin/link_internal.h"

#define RESET_WAIT		INT64CONST(15000000) /* for the answer to our own reset, microseconds */
#define CLOSE_WAIT		INT64CONST(5000000) /* for the origin's end of stream, microseconds */

Reactor    *link_reactor;
OriginLink *link_reading;
static void *telling;			/* the owner who is being told something, or NULL */
static void (*link_free_note) (void *note);

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
	[LINK_SHARED] = "shared",
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
	if (link->state == LINK_RESETTING || link->state == LINK_SHARED)
		reactor_clear_timer(link_reactor, &link->timer);
	if (state == LINK_RESETTING)
	{
		link->timer.on_time = reset_timeout;
		reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + RESET_WAIT);
	}
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
	link_ping(link);
}

void
link_set_shared(OriginLink *link)
{
	Assert(link->state == LINK_IDLE);
	link->stirred = false;
	link_set_state(link, LINK_SHARED);
	link_ping(link);
}

/* A ping keeps nobody from the link: what is asked next stands behind it. */
static bool
is_pinging(const OriginLink *link)
{
	return link->head && link->head == link->tail && link->head->purpose == PURPOSE_PING;
}

bool
link_is_quiet(const OriginLink *link)
{
	bool		silent = is_pinging(link) || (link->head == NULL && buffer_len(&link->out) == 0);

	return silent && link->status == TX_IDLE && !link->poisoned && !link->cut_message;
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
	link_release_parameters(link);
	link_part(link);
	link_set_client(link, 0);
}

void
link_give_back(OriginLink *link, LinkAfter after)
{
	Assert(link->state == LINK_BUSY || link->state == LINK_SHARED);
	link->cancel_due = false;
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
	if (from == LINK_CONNECTING || (link->head != NULL && !is_pinging(link)) || frame_inside(&link->reader))
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
	if (link->head == e)
		link_head_began(link, e->asked_at);
	return e;
}

/* The oldest exchange is over: the one behind it is the oldest. The caller still has it. */
void
link_take_head(OriginLink *link)
{
	LinkExchange *e = link->head;

	link->head = e->next;
	if (link->head == NULL)
		link->tail = NULL;
	if (e->purpose == PURPOSE_CLIENT)
		link->depth--;
	link->work -= e->work;
	link_head_began(link, reactor_now(link_reactor));
}

void
link_exchange_free(LinkExchange *e)
{
	exchange_free(&e->x);
	buffer_free(&e->description);
	settings_unref(e->link->target.settings, e->vector);
	mem_free(e, sizeof(LinkExchange));
}

/* A Close of nothing, behind a Parse of nothing if that is what tells. Not inside of a batch, whose rest would be looked at although it has failed. */
bool
link_ask_mark(OriginLink *link)
{
	bool		parses = link->tail && exchange_mark(&link->tail->x) == ANS_PARSE_COMPLETE;
	LinkExchange *e = link_ask_own(link, PURPOSE_PING);
	Bytes		name = bytes_str("hyperpool_0");

	if (e == NULL || (parses && !link_note(e, ASK_PARSE, ASK_FOR_US, 0, 0, NULL)) || !link_note(e, ASK_CLOSE, ASK_FOR_US, 0, 0, NULL) ||
		!link_note(e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
		return false;
	if (parses)
		message_put_parse(&link->out, name, bytes_of("", 0), bytes_of("", 0));
	message_put_named(&link->out, MSG_CLOSE, 'S', name);
	message_put_empty(&link->out, MSG_SYNC);
	link_flush(link);
	return true;
}

bool
link_ask_apart(OriginLink *link, uint8 type)
{
	const Exchange *before = link->tail ? &link->tail->x : NULL;

	if (before == NULL || before->phase != EXCHANGE_CLOSED || !(exchange_is_doubtful(before) || (type == MSG_SYNC && before->unsure > 0)))
		return true;
	return link_ask_mark(link);
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
		link->depth++;
		link->row->exchanges++;
		/* behind a pooler each may meet another session */
		if (link->target.pooled)
			link_set_unnamed(link, NULL);
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
link_note(LinkExchange *e, AskKind kind, AskFor whose, uint16 flags, uint32 number, void *note)
{
	if (!exchange_add(&e->x, kind, whose, flags, number, note))
		return false;
	if (kind == ASK_PARSE)
		link_ride_note_parse(e->link, number);
	return true;
}

void
link_disown(LinkExchange *e)
{
	e->owner = NULL;
}

static void
tell(LinkExchange *e, const LinkNews *news)
{
	void	   *before = telling;

	telling = e->owner;
	e->on_message(e, news);
	telling = before;
}

void
link_tell_owner(LinkExchange *e, const LinkNews *news)
{
	if (e->owner)
		tell(e, news);
}

void
link_tell_ask(LinkExchange *e, const Ask *ask, LinkOutcome outcome)
{
	LinkNews	news = {.kind = LINK_ASK, .ask = ask, .outcome = outcome};

	if (e->owner)
		tell(e, &news);
	else
		link_free_note(ask->note);
}

/* An ask was not fulfilled: what it would have prepared is not there. */
void
link_not_fulfilled(LinkExchange *e, const Ask *ask, LinkOutcome outcome)
{
	OriginLink *link = e->link;

	if (ask->kind == ASK_PARSE)
		link_ride_parsed(link, ask->number, false);
	/* a statement that was to go is still there, under a number nobody knows, or under none: that one could be bound */
	if (ask->kind == ASK_CLOSE && ask->whose == ASK_FOR_US)
	{
		link->worn = true;
		if (link->unnamed_none)
			link_set_unnamed(link, NULL);
	}
	if (ask->note)
		link_tell_ask(e, ask, outcome);
}

void
link_on_dropped(void *arg, const Ask *ask)
{
	link_not_fulfilled(arg, ask, OUTCOME_SKIPPED);
}

/* ---- breaking ---- */

/* A Query in a batch that has no Sync ends with a ReadyForQuery of its own, if the batch has not failed before it. */
static void
note_query(const Exchange *x, LinkNews *news)
{
	const Ask  *ask = x->phase == EXCHANGE_OPEN && !x->skipping ? exchange_pending(x, 0) : NULL;

	news->at_query = ask && (ask->kind == ASK_QUERY || ask->kind == ASK_FUNCTION_CALL);
	news->batch_behind = news->at_query && exchange_pending(x, 1) != NULL;
}

static bool
passes_piece(const OriginLink *link)
{
	return frame_inside(&link->reader) && link->piece_passes;
}

/* The exchange at the head is over without its end. */
static void
lose_head(OriginLink *link, bool behind)
{
	LinkExchange *e = link->head;
	LinkNews	news = {.kind = LINK_LOST, .behind = behind};

	link_take_head(link);
	note_query(&e->x, &news);
	exchange_drop_all(&e->x, link_on_dropped, e);
	news.bytes = buffer_view(&link->last_error);
	news.unsent = link->unheeded || link->sent <= e->starts_at;
	news.cut = passes_piece(link);
	link->piece_passes = false;
	link_tell_owner(e, &news);
	link_exchange_free(e);
}

void
link_break(OriginLink *link, const char *sqlstate, const char *text)
{
	LinkState	from = link->state;
	bool		behind = false;

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
	for (; link->head; behind = true)
		lose_head(link, behind);
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

void *
links_interrupted(void)
{
	void	   *told = telling;

	telling = NULL;
	if (link_reading)
		link_reading->poisoned = true;
	return told;
}

void
links_after_error(void)
{
	OriginLink *link = link_reading;

	link_reading = NULL;
	if (link == NULL)
		return;
	if (link->ended)
		link_exchange_free(link->ended);
	link->ended = NULL;
	link_break(link, "XX000", "hyperpool met an error of its own while it read from the link");
}

void
link_free(OriginLink *link)
{
	reactor_not_at_end(link_reactor, &link->flush_task);
	reactor_clear_timer(link_reactor, &link->timer);
	reactor_clear_timer(link_reactor, &link->cancel_again);
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

bool
link_hung(const OriginLink *link)
{
	return link->hung;
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

bool
link_is_draining(const OriginLink *link)
{
	return link->on_drained != NULL;
}

void
link_watch(OriginLink *link)
{
	int			events = 0;

	if (link->source.fd < 0 || link->state == LINK_CONNECTING)
		return;
	if (!link->held)
		events |= REACTOR_READ;
	/* what is sent at the end of this turn need not be polled for yet */
	if ((buffer_len(&link->out) > 0 && link->flush_task.prev == NULL) || link->transport.wants_write)
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

void
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

	return e && e->purpose == PURPOSE_CLIENT && (e->x.phase == EXCHANGE_EMPTY || e->x.phase == EXCHANGE_OPEN || e->x.copy_in);
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

int
link_origin_pid(const OriginLink *link)
{
	return link->target.pooled || link->target.gateway ? 0 : (int) link->origin_pid;
}

bool
link_is_within_answer(const OriginLink *link, const void *owner)
{
	return link->head && link->head->owner == owner && passes_piece(link);
}

bool
link_to_gateway(const OriginLink *link)
{
	return link->target.gateway;
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
