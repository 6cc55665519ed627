/*
 * client/session_ask.c - a client's message on its way to the origin.
 *
 * Every message is shown to the exchange it would belong to (exchange_ask); what begins an exchange needs a link first. Then the
 * same bytes go out, but for the names of prepared statements: see session_statements.c.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "client/session_internal.h"

static const Exchange nothing_asked;

/* ---- notes ---- */

SessionNote *
session_note_make(NoteWhat what, Bytes name, Statement *prior, uint32 number)
{
	SessionNote *note = mem_alloc(sizeof(SessionNote) + name.len);

	if (note == NULL)
		return NULL;
	memset(&note->fill, 0, sizeof(note->fill));
	memset(&note->names, 0, sizeof(note->names));
	memset(&note->shape, 0, sizeof(note->shape));
	note->failed = false;
	note->prior_in = NULL;
	note->what = what;
	note->number = number;
	note->prior = prior;
	note->name_len = name.len;
	memcpy(note->name, name.data, name.len);
	return note;
}

void
session_note_free(SessionNote *note)
{
	if (note->prior)
		statement_unref(pools_statements(), note->prior);
	names_clear(&note->names, pools_statements());
	if (note->fill.flight != 0)
		store_abort(session_worker, &note->fill);
	mem_free(note, sizeof(SessionNote) + note->name_len);
}

void
session_free_note(void *note)
{
	if (note)
		session_note_free(note);
}

void
session_note_takes_name(ClientSession *s, SessionNote *note)
{
	Bytes		name = bytes_of(note->name, note->name_len);
	const Shape *told = names_shape(&s->names, name);

	if (told == NULL)
		return;
	note->shape = *told;
	note->prior = names_take(&s->names, name);
}

/* ---- beginning an exchange ---- */

/* The link is ours: brings it into our settings. */
void
session_attach(ClientSession *s, OriginLink *link)
{
	s->link = link;
	s->tail = NULL;
	s->effects = 0;
	s->active_since = reactor_now(session_reactor);
	s->riding = link_state(link) == LINK_SHARED;
	if (s->riding)
		return;
	link_on_lost(link, session_on_link_lost, s);
	link_set_client(link, s->row ? client_row_number(s->row) + 1 : 0);
	if (!link_apply_settings(link, s->settings) || (s->failed_transaction && !link_fail_transaction(link, true)))
		link_break_now(link);
}

/*
 * Who one is decides what one may do: a link whose role could not be set must not run anything. And a role is known to a link by OID: dropped and made again
 * it would be another one, so the link is reset before it is used again.
 */
bool
session_settings_are_identity(const SettingsVector *settings)
{
	return settings_get(settings, "role") || settings_get(settings, "session_authorization");
}

static void
on_settled(LinkExchange *e, const LinkNews *news)
{
	ClientSession *s = e->owner;

	if (news->kind == LINK_END)
	{
		s->inflight--;
		s->holding_messages = false;
		session_resume(s);
	}
	else if (news->kind == LINK_LOST)
	{
		s->inflight--;
		buffer_free(&s->refusal);
		if (news->bytes.len > 0)
			message_put_error_as(&s->refusal, news->bytes, "ERROR");
		else
			message_put_refusal(&s->refusal, "ERROR", REFUSE_LINK_LOST, pool_origin_name(s->pool));
	}
}

/* An empty exchange behind the settings comes back when the origin has taken them. */
static SessionStep
wait_for_settings(ClientSession *s)
{
	LinkExchange *e = link_ask(s->link, s, on_settled);

	if (e == NULL || !link_note(e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
	{
		link_break_now(s->link);
		return STEP_GONE;
	}
	message_put_empty(link_outbound(s->link), MSG_SYNC);
	link_flush(s->link);
	s->inflight++;
	s->holding_messages = true;
	session_set_state(s, SESSION_RELAYING);
	s->answered_at = reactor_now(session_reactor);
	session_arm(s);
	return STEP_HOLD;
}

/* Why the exchange that begins now was not answered here. */
static CacheReason
reason_to_ask(const ClientSession *s)
{
	if (link_status(s->link) != TX_IDLE || s->failed_transaction)
		return REASON_TRANSACTION;
	if (s->bound || pool_mode(s->pool) == POOL_SESSION)
		return REASON_BOUND;
	return s->inflight > 0 ? REASON_PIPELINE : s->reason;
}

/* As PostgreSQL answers what may not come during a copy: with an error, and then it finds its stream out of step. */
static SessionStep
refuse_in_copy(ClientSession *s, uint8 type)
{
	char		text[64];

	snprintf(text, sizeof(text), "unexpected message type 0x%02X during COPY from stdin", type);
	message_put_refusal(&s->out, "ERROR", REFUSE_PROTOCOL_VIOLATION, text);
	session_fatal(s, REFUSE_PROTOCOL_VIOLATION, "terminating connection because protocol synchronization was lost");
	return STEP_GONE;
}

/*
 * Names given or taken in the exchange before may not have been, what RESET returns to is ours to put back, and a BEGIN of before it may fail: what
 * comes next depends on how that ends.
 */
static bool
must_wait(const ClientSession *s)
{
	return s->inflight > 0 && (s->risky > 0 || (s->effects & (EFFECT_SETTINGS | EFFECT_UNBIND | EFFECT_RETIRE)) || (s->link && link_beginning(s->link)));
}

/*
 * Nothing is read until the exchanges in flight have ended. If one asks for a copy, and nothing but data was sent behind it, that waits for data for ever, and this message is
 * what comes instead.
 */
static SessionStep
hold_message(ClientSession *s, uint8 type)
{
	if (s->tail && exchange_copies(&s->tail->x) && s->tail->x.count == 1)
		return refuse_in_copy(s, type);
	if (s->tail)
		s->tail->ended = true;
	/* they may wait for what comes behind, to tell what has been answered */
	if (s->link && !link_ask_apart(s->link, type))
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	s->holding_messages = true;
	return STEP_HOLD;
}

/* A link of its own, or room on one that is shared. */
static SessionStep
get_link(ClientSession *s)
{
	OriginLink *link;

	if (s->rights_stale && !session_check_rights(s))
		return STEP_GONE;
	s->waiter.settings = s->settings;
	s->waiter.role = s->role;
	link = pool_checkout(s->pool, &s->waiter);
	if (link == NULL)
	{
		session_set_state(s, SESSION_WAITING);
		return STEP_HOLD;
	}
	session_attach(s, link);
	if (s->link == NULL)
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	return STEP_TAKEN;
}

/* What was asked last is the newest of the link's exchanges. */
static void
exchange_begun(ClientSession *s)
{
	s->tail->reason = reason_to_ask(s);
	s->tail->x.may_copy = session_may_copy(s->effects);	/* by a portal bound before */
	s->inflight++;
	if (s->effects & EFFECT_RESETS)
		session_settings_will_return(s);
	session_ride_begun(s);
	session_cache_begun(s);
	if (s->state == SESSION_RELAYING && s->inflight > 1)
		return;
	session_set_state(s, SESSION_RELAYING);
	s->answered_at = reactor_now(session_reactor);
	buffer_free(&s->asked);
	s->asked_whole = link_status(s->link) == TX_IDLE && !s->bound && !s->failed_transaction;
	session_arm(s);
}

static SessionStep
begin_exchange(ClientSession *s, uint8 type)
{
	SessionStep step = STEP_TAKEN;

	if (must_wait(s))
		return hold_message(s, type);
	if (s->link == NULL)
		step = get_link(s);
	if (step != STEP_TAKEN)
		return step;
	if ((s->inflight == 0 || s->riding) && link_settings(s->link) != s->settings && link_status(s->link) == TX_IDLE &&
		!link_apply_settings(s->link, s->settings))
	{
		link_break_now(s->link);
		return STEP_GONE;
	}
	if (s->inflight == 0 && link_applying(s->link) && session_settings_are_identity(s->settings))
		return wait_for_settings(s);
	if (!session_begin_send(s) || !link_ask_apart(s->link, type))
		s->tail = NULL;
	else
		s->tail = link_ask(s->link, s, session_on_message);
	if (s->tail == NULL)
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	exchange_begun(s);
	return STEP_TAKEN;
}

/* ---- sending ---- */

/* Notes the ask and, if that went well, says so. Otherwise the session is closed. */
static bool
note_ask(ClientSession *s, AskKind kind, AskFor whose, uint16 tag, uint32 number, void *what)
{
	if (link_note(s->tail, kind, whose, tag, number, what))
	{
		s->risky += what != NULL;
		return true;
	}
	if (what)
		session_note_free(what);
	session_fatal(s, REFUSE_TOO_MANY_PENDING, NULL);
	return false;
}

bool
session_note_ask(ClientSession *s, AskKind kind, AskFor whose, uint32 number, void *what)
{
	return note_ask(s, kind, whose, 0, number, what);
}

bool
session_note_ask_of(ClientSession *s, AskKind kind, Bytes name, uint32 number, void *what)
{
	return note_ask(s, kind, ASK_FOR_CLIENT, session_name_tag(name), number, what);
}

/* An error shall say the very name that was used, also where a text has several, but that is no reason to keep it for each Bind. */
uint16
session_name_tag(Bytes name)
{
	uint32		tag = 0;

	name = name_that_counts(name);
	for (size_t i = 0; i < name.len; i++)
		tag = tag * 31 + name.data[i];
	return (uint16) (tag ^ tag >> 16);
}

/* The bytes as they came; a message that came in part goes on in session_ask. */
void
session_send_raw(ClientSession *s, const Frame *frame)
{
	buffer_put(link_outbound(s->link), frame->raw.data, frame->raw.len);
	link_set_cut(s->link, !frame->last);
	s->piece = PIECE_FORWARD;
	link_flush(s->link);
}

SessionStep
session_forward(ClientSession *s, const Frame *frame, uint8 what)
{
	if (!session_note_ask(s, exchange_kind_of(frame->type, what), ASK_FOR_CLIENT, 0, NULL))
		return STEP_GONE;
	session_send_raw(s, frame);
	return STEP_TAKEN;
}

/* ---- Query ---- */

/* DEALLOCATE or EXECUTE of a statement that was named by the protocol: at the origin it has another name. */
static bool
rename_query(ClientSession *s, Bytes query, const StatementFacts *facts, bool *done)
{
	Bytes		target = facts->target ? bytes_str(facts->target) : bytes_of("", 0);
	Statement  *statement = target.len > 0 ? names_get(&s->names, target) : NULL;
	ByteBuffer	text = {0};
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	SessionNote *what;
	bool		behind = exchange_is_half_asked(&s->tail->x);

	*done = false;
	if (statement == NULL || pool_origin_is_pooled(s->pool))
		return true;
	if (!session_prepare_meant(s, facts, statement, buf, &name, &number))
		return false;
	if (!behind && s->tail->x.count > 0 && s->tail->x.phase == EXCHANGE_OPEN)
	{
		/* a Sync of ours, or a failed Parse would make the origin skip the Query; not where it may have to, behind the client's own asks */
		message_put_empty(link_outbound(s->link), MSG_SYNC);
		if (!session_note_ask(s, ASK_SYNC, ASK_FOR_US, 0, NULL))
			return false;
	}
	if (!analyze_rename(query, facts->target, name, &text))
		return true;
	what = session_note_make(facts->kind == STATEMENT_DEALLOCATE ? NOTE_DEALLOCATE : NOTE_RENAMED, target, NULL, number);
	if (what && facts->kind == STATEMENT_DEALLOCATE)
		session_note_takes_name(s, what);
	message_put_query(link_outbound(s->link), buffer_view(&text));
	buffer_free(&text);
	link_flush(s->link);
	*done = true;
	return what && session_note_ask(s, ASK_QUERY, ASK_FOR_CLIENT, 0, what);
}

/* *all: it is about all names. */
static bool
query_renamed(ClientSession *s, Bytes query, bool *done, bool *all)
{
	StatementFacts facts = {0};
	bool		ok;

	analyze_text(query, s->safe_encoding, &facts);
	*all = session_empties(&facts);
	ok = rename_query(s, query, &facts, done);
	mem_free_str(facts.target);
	return ok;
}

void
session_drop_unnamed(ClientSession *s)
{
	if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = NULL;
	s->unnamed_too_long = false;
	memset(&s->unnamed_shape, 0, sizeof(s->unnamed_shape));
}

/* The origin forgets the unnamed statement when it runs a simple Query. */
static SessionNote *
drop_unnamed(ClientSession *s)
{
	SessionNote *what = NULL;

	if (s->unnamed && s->tail->x.count > 0)
	{
		/* asks before it may fail: then it is skipped and the statement stays */
		what = session_note_unnamed(s);
		s->unnamed = NULL;
	}
	session_drop_unnamed(s);
	link_set_unnamed(s->link, NULL);
	return what;
}

/* What takes all names away is asked: whatever is named behind it is not among them. */
static void
take_names(ClientSession *s, SessionNote *what)
{
	what->what = NOTE_EMPTIED;
	what->names = s->names;
	memset(&s->names, 0, sizeof(s->names));
	s->emptying++;
}

static SessionStep
ask_query(ClientSession *s, const Frame *frame)
{
	Bytes		text;
	bool		done = false;
	bool		ok = true;
	bool		all = false;
	uint32		effects = EFFECTS_OF_THE_UNSEEN;
	const Proof *proof = NULL;

	if (frame->last && message_read_query(frame->body, &text) && text.len <= ANALYZE_MAX_TEXT)
	{
		QueryFacts *facts = session_query_facts(s, text);

		proof = session_query_proof(s, text, facts);
		effects = session_effects_by_proof(s, facts->effects, proof);
		s->tail->stats_row = session_query_stats(s, text, facts);
		if (facts->gateway)
		{
			session_gateway_heed(s, text);
			effects |= EFFECT_DIRTY;
		}
		if (facts->kind == STATEMENT_DEALLOCATE || facts->kind == STATEMENT_EXECUTE || facts->kind == STATEMENT_DISCARD_ALL)
			ok = query_renamed(s, text, &done, &all);
	}
	if (ok && done)
	{
		/* behind a Sync of ours it is not skipped; any simple Query takes the unnamed statement away */
		session_drop_unnamed(s);
		link_set_unnamed(s->link, NULL);
	}
	if (ok && !done)
	{
		SessionNote *what = drop_unnamed(s);

		if (all && (what || (what = session_note_make(NOTE_EMPTIED, bytes_of("", 0), NULL, 0))))
			take_names(s, what);
		ok = session_note_ask(s, ASK_QUERY, ASK_FOR_CLIENT, 0, what);
		if (ok)
		{
			/* DEALLOCATE ALL among others: whether it has been reached is seen when all is answered */
			s->tail->x.names_unsure = effects & EFFECT_RETIRE;
			session_send_raw(s, frame);
		}
	}
	if (ok)
	{
		s->tail->runs = true;
		session_add_effects(s, effects);
		session_note_rereads(s, effects);
		session_writes_asked(s, proof, effects);
	}
	return ok ? STEP_TAKEN : STEP_GONE;
}

/* ---- the rest ---- */

static SessionStep
ask_copy(ClientSession *s, const Frame *frame)
{
	if (frame->type != MSG_COPY_DATA)
	{
		if (!session_note_ask(s, ASK_COPY_END, ASK_FOR_CLIENT, 0, NULL))
			return STEP_GONE;
	}
	else
		exchange_copy_data(&s->tail->x);
	session_send_raw(s, frame);
	return STEP_TAKEN;
}

static SessionStep
ask_sync(ClientSession *s, const Frame *frame)
{
	if (!exchange_sync_in_copy(&s->tail->x) && !session_note_ask(s, ASK_SYNC, ASK_FOR_CLIENT, 0, NULL))
		return STEP_GONE;
	session_send_raw(s, frame);
	return STEP_TAKEN;
}

static SessionStep
ask_function_call(ClientSession *s, const Frame *frame)
{
	s->tail->runs = true;
	session_add_effects(s, EFFECTS_OF_THE_UNSEEN);
	session_note_rereads(s, EFFECTS_OF_THE_UNSEEN);
	session_writes_asked(s, NULL, EFFECTS_OF_THE_UNSEEN);
	return session_forward(s, frame, 0);
}

/* The answer is recorded, but the client knows already what its rows look like: the cache wants to know too. */
static bool
ask_head(ClientSession *s, const Frame *frame)
{
	ExecuteMessage m;

	if (!session_cache_wants_head(s) || !message_read_execute(frame->body, &m))
		return true;
	s->tail->tell_swallowed = true;
	message_put_named(link_outbound(s->link), MSG_DESCRIBE, 'P', m.portal);
	return session_note_ask(s, ASK_DESCRIBE_PORTAL, ASK_FOR_US, 0, NULL);
}

static SessionStep
ask_execute(ClientSession *s, const Frame *frame)
{
	/* of a DEALLOCATE that was parsed in this exchange (of all: bound): if it goes well the name is gone */
	SessionNote *what = s->renamed_in == s->tail ? s->deallocating : NULL;
	ExecuteMessage m;

	if (what)
		s->deallocating = NULL;
	if (what && what->what == NOTE_EMPTIED)
		take_names(s, what);
	else if (what)
		session_note_takes_name(s, what);
	s->tail->runs = true;
	session_writes_executed(s, message_read_execute(frame->body, &m) && m.portal.len > 0);
	if (s->link == NULL || !ask_head(s, frame) || !session_note_ask(s, ASK_EXECUTE, ASK_FOR_CLIENT, 0, what))
		return STEP_GONE;
	session_send_raw(s, frame);
	return STEP_TAKEN;
}

static SessionStep
forward_by_type(ClientSession *s, const Frame *frame)
{
	switch (frame->type)
	{
		case MSG_QUERY:
			return ask_query(s, frame);
		case MSG_PARSE:
			return session_ask_parse(s, frame);
		case MSG_BIND:
			return session_ask_bind(s, frame);
		case MSG_DESCRIBE:
			return session_ask_describe(s, frame);
		case MSG_EXECUTE:
			return ask_execute(s, frame);
		case MSG_CLOSE:
			return session_ask_close(s, frame);
		case MSG_SYNC:
			return ask_sync(s, frame);
		case MSG_FUNCTION_CALL:
			return ask_function_call(s, frame);
		case MSG_COPY_DATA:
		case MSG_COPY_DONE:
		case MSG_COPY_FAIL:
			return ask_copy(s, frame);
		default:				/* Flush */
			session_send_raw(s, frame);
			return STEP_TAKEN;
	}
}

/* ---- refused here ---- */

/* The exchange that this message begins is not asked: its error, and its ReadyForQuery. */
static SessionStep
answer_refused(ClientSession *s, const Frame *frame)
{
	bool		fresh = buffer_len(&s->refusal) > 0;
	bool		alone = frame->type == MSG_QUERY || frame->type == MSG_FUNCTION_CALL;

	session_cache_abort(s);
	if (fresh)
	{
		Bytes		error = buffer_view(&s->refusal);

		buffer_put(&s->out, error.data, error.len);
		buffer_free(&s->refusal);
		session_begin_fail(s);
	}
	s->skip_local = true;
	if (frame->type == MSG_SYNC || (fresh && alone))
	{
		message_put_ready(&s->out, session_status(s));
		s->skip_local = false;
	}
	session_flush(s);
	s->piece = PIECE_DROP;
	return STEP_TAKEN;
}

void
session_terminate_link(ClientSession *s)
{
	link_wear_out(s->link);
	message_put_empty(link_outbound(s->link), MSG_TERMINATE);
	link_flush(s->link);
}

/* What is asked in full is answered before the connection closes, as the origin would. */
static SessionStep
terminate(ClientSession *s)
{
	bool		copies = s->tail && exchange_copies(&s->tail->x);

	if (!copies && (s->tail == NULL || session_is_half_said(s)))
	{
		session_close_after_flush(s);
		return STEP_GONE;
	}
	if (copies)
		session_terminate_link(s);
	else
		s->tail->ended = true;	/* it may turn out to have asked for a copy, whose data will never come */
	session_set_state(s, SESSION_LEAVING);
	session_set_timer(s, pool_query_timeout(s->pool));	/* no other limit is its business any more */
	return STEP_GONE;
}

static SessionStep
refuse_type(ClientSession *s, uint8 type)
{
	char		number[8];

	snprintf(number, sizeof(number), "%d", type);
	session_fatal(s, REFUSE_MESSAGE_TYPE, number);
	return STEP_GONE;
}

/* ---- asked again ---- */

#define ASKED_MAX	8192		/* longer requests are not kept */

/*
 * Keeps the client's own bytes of an exchange that stands alone, so that a plain read can be asked again on another link when its
 * own dies before it has answered. What follows it before it has ended, or is too long, ends that.
 */
static void
remember_asked(ClientSession *s, const Frame *frame)
{
	/* what rides is asked in full at once, and is short */
	if (!s->riding && (s->inflight != 1 || !frame->last || buffer_len(&s->asked) + frame->raw.len > ASKED_MAX))
		s->asked_whole = false;
	if (!s->asked_whole)
		return;
	buffer_put(&s->asked, frame->raw.data, frame->raw.len);
	s->tail->asked_len += frame->raw.len;
}

/* ---- the front ---- */

/* SET of one of our own settings while the session holds a link; one that holds none is looked after in session_local.c. */
static bool
answer_gateway(ClientSession *s, const Frame *frame)
{
	Bytes		text;
	bool		failed;
	uint8		status;

	if (frame->type != MSG_QUERY || !frame->last || link_status(s->link) == TX_FAILED || !message_read_query(frame->body, &text) ||
		text.len > ANALYZE_MAX_TEXT || !session_query_facts(s, text)->gateway || !session_gateway_run(s, text, false, false, true, &failed))
		return false;
	status = link_status(s->link);
	if (failed && status == TX_OPEN && link_fail_transaction(s->link, false))
		status = TX_FAILED;
	message_put_ready(&s->out, status);
	session_flush(s);
	s->piece = PIECE_DROP;
	return true;
}

static SessionStep
first_piece(ClientSession *s, const Frame *frame)
{
	const Exchange *x = s->tail ? &s->tail->x : &nothing_asked;
	AskVerdict	verdict = exchange_ask(x, frame->type);
	SessionStep step;

	switch (verdict)
	{
		case ASK_IGNORE:
			s->piece = PIECE_DROP;
			return STEP_TAKEN;
		case ASK_TERMINATE:
			return terminate(s);
		case ASK_REFUSE:
			return refuse_type(s, frame->type);
		case ASK_NEXT:
		case ASK_FORWARD:
			break;
	}
	if (s->skip_local || buffer_len(&s->refusal) > 0)
		return answer_refused(s, frame);
	if (s->tail == NULL && s->link && s->inflight == 0 && answer_gateway(s, frame))
		return STEP_TAKEN;
	step = s->tail == NULL || verdict == ASK_NEXT ? begin_exchange(s, frame->type) : STEP_TAKEN;
	if (step == STEP_TAKEN)
	{
		s->heard_at = reactor_now(session_reactor);
		s->flushed = frame->type == MSG_FLUSH;
		remember_asked(s, frame);
		step = forward_by_type(s, frame);
	}
	/* the message is lost: nobody would answer it */
	if (step == STEP_GONE && !s->closing)
		session_fatal(s, REFUSE_MEMORY, NULL);
	return step;
}

bool
session_refuses_type(ClientSession *s, uint8 type)
{
	if (exchange_ask(&nothing_asked, type) != ASK_REFUSE)
		return false;
	refuse_type(s, type);
	return true;
}

SessionStep
session_ask(ClientSession *s, const Frame *frame)
{
	if (unlikely(hyperpool_test_fault && hyperpool_test_fault[0]))
		session_fault_raise();
	if (frame->first)
		return first_piece(s, frame);
	if (s->piece == PIECE_FORWARD && s->link)
	{
		buffer_put(link_outbound(s->link), frame->raw.data, frame->raw.len);
		link_set_cut(s->link, !frame->last);
		link_flush(s->link);
		s->heard_at = reactor_now(session_reactor);
		/* its exchange had ended before the message had */
		if (frame->last && s->inflight == 0 && s->state == SESSION_RELAYING)
			session_quiet(s);
	}
	return STEP_TAKEN;
}
