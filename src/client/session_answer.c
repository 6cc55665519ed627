/*
 * client/session_answer.c - the news of pool and link on their way to the client.
 *
 * The bytes of an answer pass unchanged. What this file adds is what they mean for the session: names that came to be or did not,
 * settings that changed, and, when nothing is in flight any more, whether the link goes back, stays with the client, or is lost.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "client/session_internal.h"

/* ---- deliberately broken builds, for the tests that must catch them (hyperpool.test_fault) ---- */

static ClientSession *swap_with;
static int	ready_seen;

static bool
fault_is(const char *name)
{
	return hyperpool_test_fault && hyperpool_test_fault[0] && strcmp(hyperpool_test_fault, name) == 0;
}

/* As if PostgreSQL's code had raised it, in whatever is going on: an ERROR now and then, or a FATAL much more seldom. */
void
session_fault_raise(void)
{
	static int	times;

	times++;
	if (fault_is("raise_error") && times % 211 == 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("hyperpool.test_fault raises an error")));
	if (fault_is("raise_fatal") && times % 2003 == 0)
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("hyperpool.test_fault ends the worker")));
}

/* Every seventh answer goes to the session that was served before. */
static ClientSession *
fault_owner(ClientSession *s)
{
	ClientSession *other = swap_with;

	swap_with = s;
	if (other && other != s && other->state != SESSION_CLOSED && ++ready_seen % 7 == 0)
		return other;
	return s;
}

/* ---- bytes ---- */

static void
pass_bytes(ClientSession *s, LinkExchange *e, Bytes bytes)
{
	if (e->muted)
		return;
	session_cache_bytes(s, e, bytes);
	if (unlikely(hyperpool_test_fault && hyperpool_test_fault[0]))
	{
		session_fault_raise();
		if (fault_is("versions_at_complete"))
			session_writes_answered(s);
		if (fault_is("swap_answers"))
			s = fault_owner(s);
		if (fault_is("lose_ready") && bytes.len >= 6 && bytes.data[bytes.len - 6] == ANS_READY && ++ready_seen % 7 == 0)
			bytes.len -= 6;
	}
	if (unlikely(session_ride_parks(s, e)))
	{
		session_ride_park(s, e, bytes);
		return;
	}
	/* parked until its client has cancelled it, or said goodbye */
	if (unlikely(buffer_len(&s->parked) > 0))
	{
		e->shown = true;
		session_ride_unpark(s);
	}
	buffer_put(&s->out, bytes.data, bytes.len);
	session_flush(s);
}

static bool
is_query_timeout(ClientSession *s, Bytes body)
{
	return s->timed_out && bytes_equal_str(message_error_field(body, 'C'), "57014");
}

static void
put_error_renamed(ClientSession *s, Bytes body, uint32 number, Bytes name)
{
	char		buf[LINK_NAME_MAX];

	message_put_error_renamed(&s->out, body, number ? link_statement_name(number, buf) : bytes_str("hyperpool_0"), name);
}

/* The first note that is it, of asks not answered yet. What gives or takes names is in the newest exchange, as none is begun behind it: see must_wait. */
static SessionNote *
find_note(const ClientSession *s, bool (*is_it) (void *arg, const SessionNote *note), void *arg)
{
	const Ask  *ask;

	for (uint32 i = 0; s->risky > 0 && s->tail && (ask = exchange_pending(&s->tail->x, i)) != NULL; i++)
	{
		if (ask->note && is_it(arg, ask->note))
			return ask->note;
	}
	return NULL;
}

typedef struct Wanted
{
	ClientSession *s;
	const Ask  *ask;
} Wanted;

static bool
is_wanted(void *arg, Bytes name, const Statement *statement)
{
	const Wanted *wanted = arg;

	return session_name_tag(name) == wanted->ask->flags &&
		link_statements_find(link_statements(wanted->s->link), statement, wanted->s->settings) == wanted->ask->number;
}

static Bytes
wanted_of_note(Wanted *wanted, const SessionNote *note)
{
	Bytes		name = bytes_of(note->name, note->name_len);

	if (note->what == NOTE_CLOSED || note->what == NOTE_DEALLOCATE)
		return note->prior && is_wanted(wanted, name, note->prior) ? name : bytes_of(NULL, 0);
	return names_find(&note->names, is_wanted, wanted);
}

static bool
note_has_wanted(void *arg, const SessionNote *note)
{
	return wanted_of_note(arg, note).len > 0;
}

/* What the client has called the statement of this ask: it may have taken the name away since, in the same write. */
static Bytes
name_in_ask(ClientSession *s, const Ask *ask)
{
	Wanted		wanted = {s, ask};
	Bytes		name = names_find(&s->names, is_wanted, &wanted);
	SessionNote *note = name.len > 0 ? NULL : find_note(s, note_has_wanted, &wanted);

	return note ? wanted_of_note(&wanted, note) : name;
}

/* A Bind or Describe of a named statement failed: the text may name the statement, or it may have gone from the link. */
static void
pass_error_of_statement(ClientSession *s, const LinkNews *news)
{
	Bytes		name = name_in_ask(s, news->ask);

	if (name.len > 0)
		put_error_renamed(s, news->bytes, news->ask->number, name);
	else
		message_put(&s->out, ANS_ERROR, news->bytes);
	if (bytes_equal_str(message_error_field(news->bytes, 'C'), "26000"))
		link_statements_remove(link_statements(s->link), news->ask->number);
}

/*
 * An error of PostgreSQL's parser or analysis (class 42, with the place in the text), not from within a function (no context), before a byte of any other answer: nothing of
 * the exchange was executed. Without a place it may come from a function of C at work, behind one that has written by a connection of its own.
 */
static bool
is_refused_unrun(const LinkExchange *e, const LinkNews *news)
{
	Bytes		code = message_error_field(news->bytes, 'C');

	return news->first && !(e->effects & (EFFECT_BEGIN | EFFECT_END)) && code.len == 5 && memcmp(code.data, "42", 2) == 0 &&
		message_error_field(news->bytes, 'P').len > 0 && message_error_field(news->bytes, 'W').len == 0;
}

static bool
is_unnamed_of(void *arg, const SessionNote *note)
{
	return note->what == NOTE_UNNAMED && note->prior && note->prior_in == arg;
}

/* A Parse of the unnamed statement that fails leaves none: also where a later one has been sent behind it and does not come to be. */
static void
forget_failed_unnamed(ClientSession *s, LinkExchange *e)
{
	SessionNote *later = find_note(s, is_unnamed_of, e);
	Statement **failed = later ? &later->prior : s->unnamed_in == e ? &s->unnamed : NULL;

	if (failed && *failed)
	{
		statement_unref(pools_statements(), *failed);
		*failed = NULL;
	}
}

/*
 * A gateway behind the link has lost its own link. What it had bound to ours (names of statements, temporary tables, custom settings) is gone, so ours is not used any
 * longer than this transaction; and a write may be committed yet.
 */
static void
heed_loss_behind(ClientSession *s, LinkExchange *e, Bytes code)
{
	bool		unknown = bytes_equal_str(code, "08007");

	if (!link_to_gateway(e->link) || (!unknown && !bytes_equal_str(code, "08006")))
		return;
	e->doubtful = unknown;
	link_wear_out(e->link);
	s->emptied_behind = !s->riding;
}

static bool
is_execute(void *arg, const SessionNote *note)
{
	return note->what == NOTE_RENAMED;
}

/*
 * An EXECUTE as a Query, and the Parse of ours in front of it, behind which is a Sync: where the Parse fails, so does the Query, but the client has asked for
 * one thing. In a failed transaction the Query says the very words; else what is wrong with the statement is said by the Parse.
 */
static bool
is_said_twice(const ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	const Ask  *ask = news->ask;

	if (ask == NULL || e != s->tail)
		return false;
	if (ask->kind == ASK_QUERY)
		return e->explained && ask->note && is_execute(NULL, ask->note);
	if (ask->kind != ASK_PARSE || ask->whose != ASK_FOR_US || find_note(s, is_execute, NULL) == NULL)
		return false;
	e->explained = !bytes_equal_str(message_error_field(news->bytes, 'C'), "25P02");
	return !e->explained;
}

static void
pass_error(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	SessionNote *note = news->ask ? news->ask->note : NULL;

	if (is_said_twice(s, e, news) || session_ride_hit_by_stray(s, e, news))
		return;
	session_ride_unpark(s);
	if (note)
		note->failed = true;
	e->unrun = is_refused_unrun(e, news);
	heed_loss_behind(s, e, message_error_field(news->bytes, 'C'));

	if (is_query_timeout(s, news->bytes))
	{
		message_put_refusal(&s->out, "ERROR", REFUSE_QUERY_TIMEOUT, pool_origin_name(s->pool));
	}
	else if (note && (note->what == NOTE_RENAMED || note->what == NOTE_DEALLOCATE))
		put_error_renamed(s, news->bytes, note->number, bytes_of(note->name, note->name_len));
	else if (news->ask && news->ask->number != 0 && news->ask->kind != ASK_PARSE)
		pass_error_of_statement(s, news);
	else
		message_put(&s->out, ANS_ERROR, news->bytes);

	if (news->ask && news->ask->kind == ASK_PARSE && news->ask->whose == ASK_FOR_CLIENT && news->ask->number == 0 &&
		(note == NULL || note->what == NOTE_UNNAMED))
		forget_failed_unnamed(s, e);
	session_flush(s);
}

/* ---- notes ---- */

/* The unnamed statement of before was not replaced. */
static void
bring_unnamed_back(ClientSession *s, SessionNote *note)
{
	if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = note->prior;
	s->unnamed_in = note->prior_in;
	note->prior = NULL;
}

/* The client's name was not taken away after all. */
static void
give_name_back(ClientSession *s, SessionNote *note)
{
	Bytes		name = bytes_of(note->name, note->name_len);

	if (note->prior == NULL || names_get(&s->names, name) || !names_put(&s->names, name, note->prior))
		return;
	*names_shape(&s->names, name) = note->shape;
	note->prior = NULL;
}

static void
undo(ClientSession *s, SessionNote *note, LinkOutcome outcome)
{
	Bytes		name = bytes_of(note->name, note->name_len);
	Statement  *other;

	switch (note->what)
	{
		case NOTE_NAMED:
			other = names_take(&s->names, name);
			if (other)
				statement_unref(pools_statements(), other);
			break;
		case NOTE_CLOSED:
		case NOTE_DEALLOCATE:
			give_name_back(s, note);
			break;
		case NOTE_UNNAMED:
			/* the origin drops the old one before it looks at the new */
			if (outcome != OUTCOME_FAILED)
				bring_unnamed_back(s, note);
			break;
		case NOTE_EMPTIED:
			s->emptying--;
			names_put_back(&s->names, &note->names, pools_statements());
			if (note->prior && outcome != OUTCOME_FAILED)
				bring_unnamed_back(s, note);
			break;
		case NOTE_RENAMED:
		case NOTE_LEARN:
		case NOTE_COMPARE:
		case NOTE_DESCRIBED:
		case NOTE_AWAITED:
			break;
	}
}

/*
 * The statement looks otherwise than this client was told, because DDL has come between: as on a direct connection it fails. What
 * has been sent behind it must not be seen; what it may have done must not last, so an autocommit write is let pass. Not so a read of which it is only not known that it writes
 * nothing, as of a table that has just been made: its client would decode rows of another shape.
 */
static void
refuse_shape(ClientSession *s, LinkExchange *e)
{
	/* with the routine's name: drivers (asyncpg, JDBC) know the error by it, and prepare anew */
	static const char body[] = "SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0Fplancache.c\0RRevalidateCachedQuery\0";

	session_catalog_moved(s);
	if (e->muted || (link_status(s->link) == TX_IDLE && (s->effects & EFFECT_WRITES)))
		return;
	message_put(&s->out, ANS_ERROR, bytes_of(body, sizeof(body)));
	session_flush(s);
	e->muted = true;
}

/* The description of a statement just prepared on the link has come. */
static void
on_shape(ClientSession *s, LinkExchange *e, const SessionNote *note)
{
	Shape	   *told = note->name_len == 0 ? &s->unnamed_shape : names_shape(&s->names, bytes_of(note->name, note->name_len));
	Shape	   *there = note->number == 0 ? NULL : link_statements_shape(link_statements(s->link), note->number);

	if (there)
		*there = e->shape;
	if (note->what == NOTE_COMPARE && shapes_differ(told, &e->shape))
		refuse_shape(s, e);
	else if (note->what != NOTE_COMPARE && told && (note->name_len > 0 || s->unnamed == note->prior))
		*told = e->shape;
}

/* The end of an exchange whose answer was replaced by an error of ours. */
static void
end_muted(ClientSession *s, LinkExchange *e)
{
	bool		fails = e->x.status == TX_OPEN;

	if (fails && !link_fail_transaction(s->link, false))
		fails = false;
	message_put_ready(&s->out, fails ? TX_FAILED : e->x.status);
	session_flush(s);
}

static void
fulfil(ClientSession *s, LinkExchange *e, SessionNote *note)
{
	if (note->what == NOTE_LEARN || note->what == NOTE_COMPARE || note->what == NOTE_DESCRIBED)
	{
		on_shape(s, e, note);
		session_cache_end_description(buffer_view(&e->description), &note->fill, e->asked_at);
		return;
	}
	if (note->what == NOTE_EMPTIED)
	{
		s->emptying--;
		if (!s->emptied)
			names_put_back(&s->names, &note->names, pools_statements());
		s->emptied = false;
	}
	if (note->what == NOTE_DEALLOCATE && note->failed)
		give_name_back(s, note);
	else if (note->what == NOTE_DEALLOCATE && s->link)
		link_statements_remove(link_statements(s->link), note->number);
}

static void
on_ask(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	SessionNote *note = news->ask->note;

	if (note->what != NOTE_LEARN && note->what != NOTE_DESCRIBED)
		s->risky--;
	if (news->outcome == OUTCOME_ANSWERED)
		fulfil(s, e, note);
	else
		undo(s, note, news->outcome);
	session_note_free(note);
}

/* ---- what was said about the session ---- */

/* The names it had are gone. Where that was foreseen they have been taken away when it was asked, and the client may have given others since. */
static void
on_emptied(ClientSession *s)
{
	if (s->emptying > 0)
		s->emptied = true;
	else
		names_clear(&s->names, pools_statements());
}

/* Nothing is left of what it has set, or has made on its link, but for what comes behind in the same batch, and the unnamed statement. */
static void
on_discarded(ClientSession *s, const LinkExchange *e)
{
	settings_ref(s->startup_settings);
	settings_unref(pools_settings(), s->settings);
	s->settings = s->startup_settings;
	s->cache_choice = s->startup_cache_choice;
	s->max_age = s->startup_max_age;
	session_unbind(s);
	if (!(e->effects & EFFECT_BIND))
		s->effects &= ~EFFECT_BIND;
}

static void
on_tag(ClientSession *s, const LinkExchange *e, Bytes tag)
{
	bool		discarded = bytes_equal_str(tag, "DISCARD ALL");

	if (!discarded && !bytes_equal_str(tag, "DEALLOCATE ALL"))
		return;
	on_emptied(s);
	link_discarded(s->link, discarded);
	if (discarded)
		on_discarded(s, e);
}

/* How it reads a text, and spells a name: by what the origin reports. */
void
session_read_as(ClientSession *s, const char *client_encoding, const char *conforming, const char *server_encoding)
{
	s->safe_encoding = (client_encoding == NULL || analyze_encoding_is_safe(client_encoding)) &&
		(conforming == NULL || strcmp(conforming, "on") == 0);
	/* a database of single bytes folds letters beyond ASCII, too */
	s->utf8 = client_encoding && strcmp(client_encoding, "UTF8") == 0 && server_encoding && strcmp(server_encoding, "UTF8") == 0;
}

void
session_note_parameters(ClientSession *s)
{
	session_read_as(s, link_parameter(s->link, "client_encoding"), link_parameter(s->link, "standard_conforming_strings"),
					link_parameter(s->link, "server_encoding"));
}

/* ---- ends ---- */

static void
count_exchange(ClientSession *s, const LinkExchange *e)
{
	int64		took = reactor_now(session_reactor) - e->asked_at;

	counter_add(s->counters, COUNT_EXCHANGES, 1);
	counter_add(s->counters, COUNT_QUERY_US, took);
	histogram_add(s->counters, HISTOGRAM_QUERY, took);
	if (s->row)
		s->row->exchanges++;
}

/* The link goes back to the pool. */
static void
return_link(ClientSession *s)
{
	OriginLink *link = s->link;
	LinkAfter	after = s->emptied_behind ? LINK_AFTER_RETIRE : effects_link_after(s->effects & ~EFFECT_UNBIND);

	if (after == LINK_AFTER_CLEAN && session_settings_are_identity(s->settings))
		after = LINK_AFTER_RESET;

	if (s->holding_link)
		link_hold_reading(link, false);
	s->holding_link = false;
	if (s->emptied_behind)
		session_unbind(s);
	s->emptied_behind = false;
	s->link = NULL;
	s->effects = 0;
	session_writes_leave_link(s);
	s->timed_out = false;
	session_set_timer(s, 0);
	session_set_state(s, SESSION_IDLE);
	pool_return(link, after);
}

static bool
on_stray(void *owner, Bytes raw)
{
	ClientSession *s = owner;

	buffer_put(&s->out, raw.data, raw.len);
	session_flush(s);
	return true;
}

/* The link stays: what the client has made there exists nowhere else. */
static void
keep_link(ClientSession *s)
{
	if (!s->bound)
	{
		counter_add(s->counters, COUNT_BOUND, 1);
		pool_count_bound(s->pool, 1);
	}
	s->bound = true;
	s->effects = 0;
	session_set_timer(s, 0);
	link_on_stray(s->link, on_stray, s);
	session_set_state(s, SESSION_IDLE);
}

static void
stay_in_transaction(ClientSession *s)
{
	if (pool_mode(s->pool) == POOL_STATEMENT)
	{
		session_fatal(s, REFUSE_STATEMENT_MODE, NULL);
		return;
	}
	session_set_state(s, SESSION_RELAYING);
	session_arm(s);
}

void
session_unbind(ClientSession *s)
{
	if (s->bound)
		pool_count_bound(s->pool, -1);
	s->bound = false;
	s->unnamed_too_long = false;
	session_writes_leave_link(s);
}

static bool
must_bind(const ClientSession *s)
{
	return !s->emptied_behind && (s->bound || (s->effects & EFFECT_BIND) || pool_mode(s->pool) == POOL_SESSION);
}

void
session_quiet(ClientSession *s)
{
	if (s->state == SESSION_LEAVING && !s->ready_due)
	{
		session_close_after_flush(s);
		return;
	}
	if (s->riding)
	{
		counter_add(s->counters, COUNT_TRANSACTIONS, 1);
		counter_add(s->counters, COUNT_TRANSACTION_US, reactor_now(session_reactor) - s->active_since);
		session_ride_over(s);
		return;
	}
	if (link_status(s->link) != TX_IDLE)
	{
		stay_in_transaction(s);
		return;
	}
	if ((s->effects & EFFECT_SETTINGS) && !pool_origin_is_pooled(s->pool) && session_settings_read(s))
		return;
	if (s->ready_due && session_settings_return(s))
		return;
	if (s->state == SESSION_LEAVING)
	{
		session_close_after_flush(s);
		return;
	}
	counter_add(s->counters, COUNT_TRANSACTIONS, 1);
	counter_add(s->counters, COUNT_TRANSACTION_US, reactor_now(session_reactor) - s->active_since);
	if (must_bind(s))
		keep_link(s);
	else
		return_link(s);
}

/* What a renamed statement was about is known in the exchange that parsed it, and on this link, only. */
static void
forget_renamed(ClientSession *s)
{
	if (s->deallocating)
		session_note_free(s->deallocating);
	s->deallocating = NULL;
	if (s->renamed_in && s->link)
		link_set_unnamed(s->link, NULL);
	s->renamed_in = NULL;
}

static void
on_end(ClientSession *s, LinkExchange *e)
{
	count_exchange(s, e);
	if (e->again)
	{
		session_ride_again(s);
		return;
	}
	if (e->paced && e->runs && !e->failed && !e->muted)
		pool_observe(e);
	if (s->riding)
		session_ride_ended(s, e);
	session_cache_ended(s, e);
	if (e == s->renamed_in)
		forget_renamed(s);
	s->failed_transaction = false;
	s->cancelled = false;
	if (e->muted)
		end_muted(s, e);
	if (e == s->tail)
		s->tail = NULL;
	s->answered_at = reactor_now(session_reactor);
	s->inflight--;
	if (!s->safe_encoding && s->inflight == 0 && s->link)
		session_note_parameters(s);
	session_writes_ended(s, e);
	if (e->ready_held && !e->muted)
		session_settings_ended(s, e);
	if (s->inflight > 0)
	{
		if (s->timed_out)
			session_arm(s);
		s->timed_out = false;
		/* it has left in the middle of the next batch */
		if (s->state == SESSION_LEAVING && session_is_half_said(s))
			session_close_after_flush(s);
		return;
	}
	s->holding_messages = false;
	s->timed_out = false;
	/* a message that belongs to nothing any more is still on its way to the link: see session_ask */
	if (frame_inside(&s->reader) && s->piece == PIECE_FORWARD)
		return;
	session_forget_asked(s);
	session_quiet(s);
	if (s->state != SESSION_CLOSED && (buffer_len(&s->in) > 0 || s->headless))
		session_resume(s);
}

/* ---- loss ---- */

/* May it have taken effect at the origin without our knowing? */
static bool
outcome_unknown(const LinkExchange *e, const LinkNews *news)
{
	return !news->unsent && (e->effects & (EFFECT_WRITES | EFFECT_PERHAPS | EFFECT_END | EFFECT_UNKNOWN));
}

/* The batch goes on behind its Query, but not at the origin. */
static void
put_loss_of_rest(ClientSession *s)
{
	message_put_refusal(&s->out, "ERROR", REFUSE_LINK_LOST, pool_origin_name(s->pool));
	s->skip_local = true;
}

void
session_put_loss(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	if (e->failed || e->muted)
		;						/* it has had its error */
	else if (outcome_unknown(e, news))
	{
		counter_add(s->counters, COUNT_UNKNOWN_OUTCOMES, 1);
		message_put_refusal(&s->out, "ERROR", REFUSE_UNKNOWN_OUTCOME, pool_origin_name(s->pool));
	}
	else if (news->bytes.len > 0)
		message_put_error_as(&s->out, news->bytes, "ERROR");
	else
		message_put_refusal(&s->out, "ERROR", REFUSE_LINK_LOST, pool_origin_name(s->pool));
	if (exchange_is_unsure(&e->x))
		;						/* all that is certain has been said */
	else if (e->x.phase == EXCHANGE_CLOSED || news->at_query)
		message_put_ready(&s->out, s->failed_transaction ? TX_FAILED : TX_IDLE);
	else
		s->skip_local = true;
	if (news->batch_behind)
		put_loss_of_rest(s);
	session_flush(s);
}

void
session_forget_asked(ClientSession *s)
{
	buffer_free(&s->asked);
	s->asked_whole = false;
	s->repeats = 0;
	s->lost_at = 0;
	s->moves = 0;
	s->alone = false;
}

bool
session_put_back_asked(ClientSession *s)
{
	Bytes		rest = buffer_view(&s->in);

	/* its messages are being taken out of there: the link broke under them, for want of memory */
	if (s->consuming)
		return false;
	buffer_put(&s->asked, rest.data, rest.len);
	if (s->asked.failed)
		return false;
	buffer_free(&s->in);
	s->in = s->asked;
	memset(&s->asked, 0, sizeof(s->asked));
	return true;
}

#define REPEATS_MAX	2

/* What breaks one link mostly breaks all that are open by then, one after the other. Only one opened since says something about the statement. */
static bool
is_another_loss(const ClientSession *s, const OriginLink *link)
{
	return link_opened_at(link) >= s->lost_at;
}

void
session_count_repeat(ClientSession *s, const OriginLink *link)
{
	if (is_another_loss(s, link))
	{
		s->repeats++;
		s->lost_at = reactor_now(session_reactor);
	}
	counter_add(s->counters, COUNT_REPEATED, 1);
}

/*
 * A plain read outside a transaction of which the client has not seen a byte: it is asked again, with the client's own bytes put back in front of
 * what it has sent since. Whatever its asks had noted was undone when they were dropped. Not when an administrator has ended the backend that
 * was at work (57P01): he may have meant this very query.
 */
bool
session_may_repeat(const ClientSession *s, const LinkExchange *e, const LinkNews *news)
{
	if (!s->asked_whole || s->timed_out || s->cancelled || e->x.begun || e->failed || e->muted || e->x.phase != EXCHANGE_CLOSED || s->state != SESSION_RELAYING || frame_inside(&s->reader))
		return false;
	if (s->repeats >= REPEATS_MAX && is_another_loss(s, e->link))
		return false;
	if (news->unsent)
		return true;
	return effects_may_repeat(s->effects) && (news->behind || !bytes_equal_str(message_error_field(news->bytes, 'C'), "57P01"));
}

static bool
repeat(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	if (!session_may_repeat(s, e, news) || !session_put_back_asked(s))
		return false;
	session_count_repeat(s, e->link);
	return true;
}

/* The origin has been sent what may not come during a copy, and ends the connection: directly it would have been the client's. */
static bool
is_out_of_step(const LinkExchange *e, const LinkNews *news)
{
	return e->x.may_copy && news->bytes.len > 0 && message_error_is_fatal(news->bytes) && bytes_equal_str(message_error_field(news->bytes, 'C'), "08P01");
}

/* The origin waits for copy data, or for a Sync. What the client has said instead has been held back, or was its last word. */
static void
on_held_wanted(ClientSession *s)
{
	if (s->state == SESSION_LEAVING)
	{
		session_terminate_link(s);
		return;
	}
	s->holding_messages = false;
	session_resume(s);
}

/* An exchange whose answer will not come. Its client stays connected. */
static void
on_lost(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	bool		in_transaction = link_status(e->link) != TX_IDLE || (e->effects & EFFECT_BEGIN) || s->failed_transaction;

	if (s->riding)
	{
		session_ride_lost(s, e, news);
		return;
	}
	if (s->cache && s->cache->exchange == e)
		session_cache_abort(s);
	/* the oldest comes first: what is in doubt by it is no longer told apart from what was not sent behind it */
	if (!news->unsent)
		session_writes_lost(s);
	else if (s->inflight == 1)
		session_writes_unsent(s);
	if (e == s->tail)
		s->tail = NULL;
	if (s->closing || s->state == SESSION_CLOSED)
		return;
	s->inflight--;
	if (news->cut || e->x.in_doubt)
	{
		/* half a message has gone out, or nobody knows what has been answered: nothing can follow it */
		session_close_after_flush(s);
		return;
	}
	if (is_out_of_step(e, news))
	{
		message_put(&s->out, ANS_ERROR, news->bytes);
		session_close_after_flush(s);
		return;
	}
	if (!in_transaction && repeat(s, e, news))
		return;
	session_forget_asked(s);
	s->loss_told = true;
	if (in_transaction)
		s->failed_transaction = true;
	session_put_loss(s, e, news);
}

/* The link has broken; what was in flight on it has been told already. */
void
session_on_link_lost(void *owner)
{
	ClientSession *s = owner;
	bool		told = s->loss_told;
	bool		in_transaction = !told && s->link && link_status(s->link) != TX_IDLE;
	bool		settings_lost = s->reading != NULL;

	session_writes_lost(s);
	s->link = NULL;
	s->tail = NULL;
	s->emptied_behind = false;
	forget_renamed(s);
	s->cancelled = false;
	s->inflight = 0;
	s->effects = 0;
	s->holding_link = false;
	s->timed_out = false;
	s->holding_messages = false;
	s->risky = 0;
	session_settings_forget(s);
	session_set_timer(s, 0);
	if (s->state == SESSION_CLOSED || s->closing)
		return;
	if (s->state == SESSION_LEAVING)
	{
		session_close_after_flush(s);
		return;
	}
	if (settings_lost)
	{
		/* a SET was acknowledged, but what it made of the session is not known: going on could run in another schema */
		session_fatal(s, REFUSE_LINK_LOST, pool_origin_name(s->pool));
		return;
	}
	if (s->ready_due)
		session_tell_ready(s, TX_IDLE);
	if (in_transaction)
		s->failed_transaction = true;
	s->loss_told = false;
	if ((s->bound && !told) || in_transaction)
	{
		buffer_free(&s->refusal);
		message_put_refusal(&s->refusal, "ERROR", REFUSE_LINK_LOST, pool_origin_name(s->pool));
	}
	session_unbind(s);
	session_set_state(s, SESSION_IDLE);
	session_resume(s);
}

/* ---- the three callbacks ---- */

void
session_on_message(LinkExchange *e, const LinkNews *news)
{
	ClientSession *s = e->owner;

	if (unlikely(hyperpool_test_fault && hyperpool_test_fault[0]) && news->kind == LINK_END)
		session_fault_raise();
	switch (news->kind)
	{
		case LINK_BYTES:
			pass_bytes(s, e, news->bytes);
			break;
		case LINK_ERROR:
			if (!e->muted)
				pass_error(s, e, news);
			break;
		case LINK_ASK:
			on_ask(s, e, news);
			break;
		case LINK_TAG:
			on_tag(s, e, news->bytes);
			break;
		case LINK_PARAMETER:
			session_note_parameters(s);
			break;
		case LINK_SWALLOWED:
			session_cache_swallowed(s, e, news->bytes);
			break;
		case LINK_END:
			on_end(s, e);
			break;
		case LINK_LOST:
			on_lost(s, e, news);
			break;
		case LINK_WAITS:
			on_held_wanted(s);
			break;
		case LINK_MOVED:
			session_ride_moved(s);
			break;
	}
}

/* The next exchange is answered here, with this error. */
void
session_refuse_next(ClientSession *s, Refusal refusal, const char *arg)
{
	counter_add(s->counters, COUNT_REFUSED, 1);
	session_cache_abort(s);
	buffer_free(&s->refusal);
	message_put_refusal(&s->refusal, "ERROR", refusal, arg);
	session_set_state(s, SESSION_IDLE);
	session_resume(s);
}

static void
refuse_with_failure(ClientSession *s)
{
	char		sqlstate[6];
	const char *text = pool_failure(s->pool, sqlstate);

	counter_add(s->counters, COUNT_REFUSED, 1);
	session_cache_abort(s);
	buffer_free(&s->refusal);
	message_put_error(&s->refusal, ANS_ERROR, "ERROR", sqlstate, text, NULL, HINT_NO_LINK);
	session_set_state(s, SESSION_IDLE);
	session_resume(s);
}

void
session_on_checkout(PoolWaiter *waiter, OriginLink *link)
{
	ClientSession *s = (ClientSession *) ((char *) waiter - offsetof(ClientSession, waiter));

	if (s->state == SESSION_STARTING)
	{
		session_login_link(s, link);
		return;
	}
	if (link == NULL)
	{
		if (waiter->refusal != REFUSE_LIMIT)
			session_refuse_next(s, waiter->refusal, pool_origin_name(s->pool));
		else
			refuse_with_failure(s);
		return;
	}
	session_set_state(s, SESSION_IDLE);
	session_attach(s, link);
	if (s->link == NULL)
		return;					/* it broke at once; session_on_link_lost has seen to the rest */
	if (s->riding)
		s->ride_left = 0;		/* what is known of the catalog may have changed while it waited */
	session_resume(s);
	/* its message was not one for the origin after all */
	if (s->state == SESSION_IDLE && s->link == link && s->inflight == 0 && !s->bound && !s->reading)
		session_quiet(s);
}
