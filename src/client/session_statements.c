/*
 * client/session_statements.c - a client's prepared statements on whatever link it has.
 *
 * A client's name stands for a statement (text, types); a statement has one name of ours on each link where it is prepared. What the link
 * lacks is prepared just before, in the same send, and that answer is swallowed. It is described too: it must look as the client was told.
 *
 * A name that would be refused by the origin must be refused by the origin (its transaction has to fail too), so such messages are sent in a
 * form that fails there for the same reason.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "client/session_internal.h"

static bool parse_renamed(ClientSession *s, Statement *statement, bool *done);
static bool name_for_parse(ClientSession *s, Statement *statement, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number);

/* ---- statements ---- */

/* The link is bound, or will be when its transaction ends: new names are used there as they are, for SQL and protocol to share them. */
static bool
names_are_its_own(const ClientSession *s)
{
	return s->bound || (s->effects & EFFECT_BIND);
}

/* The statement of a text; one reference. NULL: no memory. */
static Statement *
statement_of(Bytes text, Bytes types)
{
	bool		fresh;

	return statement_intern(pools_statements(), text, types, &fresh);
}

void
session_add_effects(ClientSession *s, uint32 effects)
{
	s->tail->effects |= effects;
	s->effects |= effects;
	if (session_may_copy(effects))
		exchange_may_copy(&s->tail->x);
	if (effects & EFFECT_RESETS)
		session_settings_will_return(s);
}

/* The description that answers this note is to be kept in the cache too, if it is not there. */
static void
keep_description(ClientSession *s, SessionNote *note, Statement *statement)
{
	session_cache_begin_description(s, statement, &note->fill);
	if (note->fill.flight != 0)
		s->tail->keep_description = true;
}

/*
 * Asks for the description of a statement that was just sent to be parsed under `name`; the client does not see the answer. After its
 * own Parse the shape is learnt (NOTE_LEARN); after ours it must be the one the client was told (NOTE_COMPARE), or it would decode rows by
 * a wrong description.
 */
static bool
ask_shape(ClientSession *s, NoteWhat what, Statement *statement, Bytes client_name, Bytes name, uint32 number)
{
	SessionNote *shape_note = session_note_make(what, client_name, NULL, number);

	if (shape_note == NULL)
		return false;
	if (what == NOTE_LEARN)
		keep_description(s, shape_note, statement);
	message_put_named(link_outbound(s->link), MSG_DESCRIBE, 'S', name);
	if (!session_note_ask(s, ASK_DESCRIBE_STATEMENT, ASK_FOR_US, number, shape_note))
		return false;
	/* what is learnt changes nothing for what follows; a difference fails what is in flight, so nothing may follow before it is known */
	if (what == NOTE_LEARN)
		s->risky--;
	return true;
}

/*
 * A Parse or Close of ours. Behind other asks of its exchange it may be skipped, and the link then lacks what the next exchange would count on, or still has
 * another client's unnamed statement: that exchange waits until it is known.
 */
static bool
note_ours(ClientSession *s, AskKind kind, uint32 number)
{
	void	   *what = NULL;

	if (s->tail->x.count > 0 && (what = session_note_make(NOTE_AWAITED, bytes_of("", 0), NULL, number)) == NULL)
		return false;
	return session_note_ask(s, kind, ASK_FOR_US, number, what);
}

/* A DEALLOCATE or EXECUTE was parsed here before the client gave the name it speaks of, or took it away: it would now be sent otherwise. */
static bool
means_another(const ClientSession *s, Statement *statement)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	return (facts->kind == STATEMENT_DEALLOCATE || facts->kind == STATEMENT_EXECUTE) && facts->target &&
		(s->renamed_in == s->tail) != (names_get(&s->names, bytes_str(facts->target)) != NULL);
}

/* The link's unnamed statement is to be this one: sends its Parse if it is not. */
static bool
prepare_unnamed(ClientSession *s, Statement *statement)
{
	bool		done;
	bool		anew = statement == s->unnamed && s->unnamed_shape.unconfirmed;

	if (link_unnamed(s->link) == statement && !anew && !means_another(s, statement))
		return true;
	if (anew)
		s->unnamed_shape.unconfirmed = false;
	if (!parse_renamed(s, statement, &done))
		return false;
	if (!done)
		message_put_parse(link_outbound(s->link), bytes_of("", 0), statement_text(statement), statement_types(statement));
	link_set_unnamed(s->link, statement);
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	return note_ours(s, ASK_PARSE, 0) &&
		(statement != s->unnamed || !s->unnamed_shape.known || ask_shape(s, NOTE_COMPARE, statement, bytes_of("", 0), bytes_of("", 0), 0));
}

/* No statement of another client may be found behind the unnamed name. */
static bool
forget_unnamed(ClientSession *s)
{
	if (link_has_no_unnamed(s->link))
		return true;
	message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', bytes_of("", 0));
	link_unnamed_closed(s->link);
	return note_ours(s, ASK_CLOSE, 0);
}

/* Enters a statement into what the link has prepared; what has to go for it is closed. 0: no memory. */
static uint32
enter_on_link(ClientSession *s, Statement *statement, bool *ok)
{
	uint32		evicted = 0;
	uint32		number = link_statements_add(link_statements(s->link), statement, s->settings, &evicted);
	char		buf[LINK_NAME_MAX];

	*ok = number != 0;
	if (evicted != 0)
	{
		message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', link_statement_name(evicted, buf));
		*ok &= session_note_ask(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
	}
	return number;
}

/*
 * Sees to it that the statement is prepared on the link when the next message is read there; *name is what it is called.
 * Behind a pooler every exchange may meet another session: there it is always the unnamed one, prepared anew.
 */
bool
session_prepare_on_link(ClientSession *s, Bytes client_name, Statement *statement, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number)
{
	Shape	   *told = names_shape(&s->names, client_name);
	bool		anew = told && told->unconfirmed;
	bool		ok = true;

	*number = 0;
	*name = bytes_of("", 0);
	if (anew)
		told->unconfirmed = false;
	if (pool_origin_is_pooled(s->pool))
	{
		link_set_unnamed(s->link, NULL);
		return prepare_unnamed(s, statement);
	}
	*number = link_statements_find(link_statements(s->link), statement, s->settings);
	if (*number != 0)
	{
		*name = link_statement_name(*number, buf);
		if (!anew && !link_statements_pending(link_statements(s->link), *number) &&
			!shapes_differ(told, link_statements_shape(link_statements(s->link), *number)))
			return true;
		/* the link or the client is behind the times: the origin knows which. A client that parses anew has it parsed anew. */
		message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', *name);
		ok = session_note_ask(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
	}
	else
		*number = enter_on_link(s, statement, &ok);
	if (!ok)
		return false;
	*name = link_statement_name(*number, buf);
	message_put_parse(link_outbound(s->link), *name, statement_text(statement), statement_types(statement));
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	return note_ours(s, ASK_PARSE, *number) &&
		(told == NULL || !told->known || ask_shape(s, NOTE_COMPARE, statement, client_name, *name, *number));
}

/*
 * A name this client has not given: the origin shall say that it does not exist, unless SQL PREPARE may have made it. A name that looks like ours is
 * sent as one that cannot exist, and nothing is found behind the unnamed one but what this client has put there.
 */
static bool
unknown_name(ClientSession *s, Bytes name, Bytes *sent, void **what)
{
	*sent = name;
	*what = NULL;
	if (names_are_its_own(s))
		session_add_effects(s, EFFECTS_OF_THE_UNSEEN);
	if (name.len == 0)
		return s->unnamed_too_long || forget_unnamed(s);
	if (link_name_is_ours(name))
	{
		*what = session_note_make(NOTE_RENAMED, name, NULL, 0);
		*sent = bytes_str("hyperpool_0");
		return *what != NULL;
	}
	return true;
}

static Statement *
statement_named(const ClientSession *s, Bytes name)
{
	return name.len == 0 ? s->unnamed : names_get(&s->names, name);
}

/* What a Bind, Describe or Close of a statement name must say on the link. */
static bool
resolve_name(ClientSession *s, Bytes name, char buf[LINK_NAME_MAX], Bytes *sent, uint32 *number, void **what)
{
	Statement  *statement = statement_named(s, name);

	*number = 0;
	*what = NULL;
	if (statement == NULL)
		return unknown_name(s, name, sent, what);
	session_add_effects(s, session_effects_by_proof(s, session_effects_of(s, statement), session_statement_proof(s, statement)));
	if (name.len > 0)
		return session_prepare_on_link(s, name, statement, buf, sent, number);
	*sent = name;
	return prepare_unnamed(s, statement);
}

/*
 * A DEALLOCATE under the link's name takes away a statement without text, made for it: that of the client's name stays for others, and need not be on this
 * link, where it could not be had in a failed transaction, or when its tables have gone.
 */
static bool
prepare_nothing(ClientSession *s, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number)
{
	Bytes		none = bytes_of("", 0);
	Statement  *nothing = statement_of(none, none);
	bool		ok;

	if (nothing == NULL)
		return false;
	ok = name_for_parse(s, nothing, buf, name, number);
	statement_unref(pools_statements(), nothing);
	if (!ok)
		return false;
	message_put_parse(link_outbound(s->link), *name, none, none);
	return note_ours(s, ASK_PARSE, *number);
}

bool
session_prepare_meant(ClientSession *s, const StatementFacts *facts, Statement *meant, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number)
{
	if (facts->kind == STATEMENT_DEALLOCATE)
		return prepare_nothing(s, buf, name, number);
	return session_prepare_on_link(s, bytes_str(facts->target), meant, buf, name, number);
}

/* ---- Parse ---- */

SessionNote *
session_note_unnamed(ClientSession *s)
{
	SessionNote *note = session_note_make(NOTE_UNNAMED, bytes_of("", 0), s->unnamed, 0);

	if (note)
		note->prior_in = s->unnamed_in;
	return note;
}

/*
 * DEALLOCATE or EXECUTE of a statement that was named by the protocol, sent as a statement itself (psycopg does): on this link the
 * text must say the link's name. *done: the Parse is sent.
 */
static bool
parse_renamed(ClientSession *s, Statement *statement, bool *done)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);
	Bytes		target = facts->target ? bytes_str(facts->target) : bytes_of("", 0);
	Statement  *meant = target.len > 0 ? names_get(&s->names, target) : NULL;
	ByteBuffer	text = {0};
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;

	*done = false;
	if (meant == NULL || pool_origin_is_pooled(s->pool))
		return true;
	if (!session_prepare_meant(s, facts, meant, buf, &name, &number))
		return false;
	if (!analyze_rename(statement_text(statement), facts->target, name, &text))
		return true;
	message_put_parse(link_outbound(s->link), bytes_of("", 0), buffer_view(&text), statement_types(statement));
	buffer_free(&text);
	link_flush(s->link);
	*done = true;
	s->renamed_in = s->tail;
	if (s->deallocating)
		session_note_free(s->deallocating);
	s->deallocating = facts->kind == STATEMENT_DEALLOCATE ? session_note_make(NOTE_DEALLOCATE, target, NULL, number) : NULL;
	return true;
}

static SessionStep
parse_unnamed(ClientSession *s, const Frame *frame, Statement *statement)
{
	void	   *what = NULL;
	bool		done;

	if (s->tail->x.count > 0)
		what = session_note_unnamed(s);
	else if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = statement;
	s->unnamed_in = s->tail;
	s->unnamed_too_long = false;
	memset(&s->unnamed_shape, 0, sizeof(s->unnamed_shape));
	if (!parse_renamed(s, statement, &done))
	{
		session_free_note(what);
		return STEP_GONE;
	}
	link_set_unnamed(s->link, statement);
	if (!session_note_ask(s, ASK_PARSE, ASK_FOR_CLIENT, 0, what))
		return STEP_GONE;
	if (!done)
		session_send_raw(s, frame);
	return STEP_TAKEN;
}

/*
 * The name is taken. What is wrong with the text is said before that, and only the origin knows: the text is parsed there under a name of the link's own, and once more
 * under the same one. What the client calls so need not be on this link, which in a failed transaction could not be had.
 */
static SessionStep
parse_taken_name(ClientSession *s, const ParseMessage *m)
{
	Statement  *statement = statement_of(m->text, m->types);
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	void	   *what;
	bool		ok;

	if (statement == NULL)
		return STEP_GONE;
	ok = session_prepare_on_link(s, bytes_of("", 0), statement, buf, &name, &number);
	statement_unref(pools_statements(), statement);
	what = ok ? session_note_make(NOTE_RENAMED, m->name, NULL, number) : NULL;
	if (what == NULL || !session_note_ask(s, ASK_PARSE, ASK_FOR_CLIENT, 0, what))
		return STEP_GONE;
	message_put_parse(link_outbound(s->link), name, m->text, m->types);
	link_flush(s->link);
	return STEP_TAKEN;
}

/*
 * What the link calls the statement this Parse makes. One that is prepared there already is closed first and parsed anew, as a
 * direct connection would parse it: the tables may have changed since.
 */
static bool
name_for_parse(ClientSession *s, Statement *statement, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number)
{
	bool		ok = true;

	*number = 0;
	*name = bytes_of("", 0);
	if (pool_origin_is_pooled(s->pool))
	{
		link_set_unnamed(s->link, NULL);
		return true;
	}
	*number = link_statements_find(link_statements(s->link), statement, s->settings);
	if (*number == 0)
	{
		*number = enter_on_link(s, statement, &ok);
		*name = link_statement_name(*number, buf);
		return ok;
	}
	*name = link_statement_name(*number, buf);
	message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', *name);
	return session_note_ask(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
}

static SessionStep
parse_named(ClientSession *s, const ParseMessage *m, Statement *statement)
{
	uint32		number;
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	void	   *what = session_note_make(NOTE_NAMED, m->name, NULL, 0);

	if (what == NULL || !names_put(&s->names, m->name, statement))
	{
		statement_unref(pools_statements(), statement);
		session_free_note(what);
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	if (!name_for_parse(s, statement, buf, &name, &number))
	{
		session_free_note(what);
		return STEP_GONE;
	}
	message_put_parse(link_outbound(s->link), name, m->text, m->types);
	link_flush(s->link);
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	if (!session_note_ask(s, ASK_PARSE, ASK_FOR_CLIENT, number, what) || !ask_shape(s, NOTE_LEARN, statement, m->name, name, number))
		return STEP_GONE;
	return STEP_TAKEN;
}

/* Too long to be remembered (hyperpool.max_statement_size): it lives on this link alone, which stays with the client. */
static SessionStep
parse_too_long(ClientSession *s, const Frame *frame)
{
	session_add_effects(s, EFFECTS_OF_THE_UNSEEN | EFFECT_BIND);
	if (frame->body.len > 0 && frame->body.data[0] == '\0')
	{
		session_drop_unnamed(s);
		s->unnamed_too_long = true;
		link_set_unnamed(s->link, NULL);
	}
	return session_forward(s, frame, 0);
}

SessionStep
session_ask_parse(ClientSession *s, const Frame *frame)
{
	ParseMessage m;
	Statement  *statement;

	counter_add(s->counters, COUNT_CLIENT_PARSES, 1);
	s->ride_parses = s->riding;
	if (!frame->last)
		return parse_too_long(s, frame);
	if (!message_read_parse(frame->body, &m))
	{
		link_set_unnamed(s->link, NULL);
		return session_forward(s, frame, 0);
	}
	if (m.name.len > 0 && names_get(&s->names, m.name))
		return parse_taken_name(s, &m);
	if (m.name.len > 0 && names_are_its_own(s))
	{
		session_add_effects(s, EFFECTS_OF_THE_UNSEEN);
		return session_forward(s, frame, 0);
	}
	if (m.name.len > 0 && s->names.count >= session_max_statements())
	{
		session_fatal(s, REFUSE_TOO_MANY_STATEMENTS, NULL);
		return STEP_GONE;
	}
	statement = statement_of(m.text, m.types);
	if (statement == NULL)
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	session_add_effects(s, session_effects_by_proof(s, session_effects_of(s, statement), session_statement_proof(s, statement)));
	return m.name.len == 0 ? parse_unnamed(s, frame, statement) : parse_named(s, &m, statement);
}

/* ---- Bind, Describe, Close ---- */

/* It takes all names away when it is executed, most likely by the next Execute. */
static void
expect_emptying(ClientSession *s)
{
	if (s->deallocating)
		session_note_free(s->deallocating);
	s->deallocating = session_note_make(NOTE_EMPTIED, bytes_of("", 0), NULL, 0);
	s->renamed_in = s->tail;
}

/* Not all that a transaction sets is set in the settings vector, under which what is parsed meanwhile is known on the link. */
void
session_note_rereads(ClientSession *s, uint32 effects)
{
	if ((effects & (EFFECT_REREADS | EFFECT_UNKNOWN)) == 0)
		return;
	link_read_otherwise(s->link);
	/* how a text behind it in the same pipeline is read is known when it has been answered */
	s->safe_encoding = false;
}

/* What is bound may be executed by any later message. */
static void
note_bound(ClientSession *s, Bytes name)
{
	Statement  *statement = statement_named(s, name);
	const StatementFacts *facts;

	if (statement)
	{
		facts = analyze_facts(statement, s->safe_encoding);
		if (facts->target && session_gateway_is(bytes_str(facts->target)))
		{
			session_gateway_heed(s, statement_text(statement));
			session_add_effects(s, EFFECT_DIRTY);
		}
		if (session_empties(facts))
			expect_emptying(s);
		s->tail->stats_row = session_statement_stats(s, statement);
		session_note_rereads(s, session_effects_of(s, statement));
		session_writes_asked(s, session_statement_proof(s, statement), session_effects_of(s, statement));
	}
	else if (names_are_its_own(s))
		session_writes_asked(s, NULL, EFFECTS_OF_THE_UNSEEN);
}

/* The first value is the name of a setting. Is it a custom one (a.b), for all that can be seen? */
static bool
binds_by_parameter(ClientSession *s, const BindMessage *m)
{
	Statement  *statement = statement_named(s, m->statement);
	BindValues	values;
	size_t		at = 0;
	uint16		n = 0;
	Bytes		name;

	if (statement == NULL || !(session_effects_of(s, statement) & EFFECT_SETS_NAMED))
		return false;
	return !cachekey_read_bind(m->rest, &values) || !cachekey_next_text(&values, &at, &n, &name) || n != 1 || memchr(name.data, '.', name.len) != NULL;
}

SessionStep
session_ask_bind(ClientSession *s, const Frame *frame)
{
	BindMessage m;
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	void	   *what;
	ByteBuffer *out = link_outbound(s->link);

	counter_add(s->counters, COUNT_BINDS, 1);
	if (!message_read_bind(frame->body, &m))
	{
		if (frame->last)
			return session_forward(s, frame, 0);
		session_fatal(s, REFUSE_PROTOCOL_VIOLATION, "portal or statement name is too long");
		return STEP_GONE;
	}
	if (!resolve_name(s, m.statement, buf, &name, &number, &what) || !session_note_ask_of(s, ASK_BIND, m.statement, number, what))
		return STEP_GONE;
	note_bound(s, m.statement);
	if (s->link == NULL)
		return STEP_GONE;
	if (binds_by_parameter(s, &m))
		session_add_effects(s, EFFECT_BIND);
	if (bytes_equal(name, m.statement))
	{
		session_send_raw(s, frame);
		return STEP_TAKEN;
	}
	/* the rest of a long Bind follows as it comes: the length is that of the whole */
	message_put_bind_head(out, m.portal, name, m.rest.len + (frame->length - frame->body.len));
	buffer_put(out, m.rest.data, m.rest.len);
	link_set_cut(s->link, !frame->last);
	s->piece = PIECE_FORWARD;
	link_flush(s->link);
	return STEP_TAKEN;
}

/* What the client is about to be told of a statement is remembered, for it and for others. */
static bool
note_described(ClientSession *s, Bytes name, uint32 number, void **what)
{
	Statement  *statement = statement_named(s, name);
	SessionNote *note;

	if (statement == NULL || *what != NULL)
		return true;
	note = session_note_make(NOTE_DESCRIBED, name, statement, number);
	if (note == NULL)
		return false;
	statement_ref(statement);
	keep_description(s, note, statement);
	*what = note;
	return true;
}

SessionStep
session_ask_describe(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	void	   *what;

	if (!frame->last || !message_read_named(frame->body, &m) || m.what == 'P')
		return session_forward(s, frame, 'P');
	if (!resolve_name(s, m.name, buf, &name, &number, &what) || !note_described(s, m.name, number, &what) ||
		!session_note_ask_of(s, ASK_DESCRIBE_STATEMENT, m.name, number, what))
		return STEP_GONE;
	/* what is told changes nothing for what follows */
	if (what && ((SessionNote *) what)->what == NOTE_DESCRIBED)
		s->risky--;
	message_put_named(link_outbound(s->link), MSG_DESCRIBE, 'S', name);
	link_flush(s->link);
	return STEP_TAKEN;
}

/* Close of a statement: the client's name goes, what the link has prepared stays for others. */
SessionStep
session_ask_close(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	SessionNote *what = NULL;

	if (!frame->last || !message_read_named(frame->body, &m) || m.what == 'P')
		return session_forward(s, frame, 'P');
	if (m.name.len == 0)
	{
		what = s->unnamed ? session_note_unnamed(s) : NULL;
		s->unnamed = NULL;
		s->unnamed_too_long = false;
		link_set_unnamed(s->link, NULL);
		if (!session_note_ask(s, ASK_CLOSE, ASK_FOR_CLIENT, 0, what))
			return STEP_GONE;
		session_send_raw(s, frame);
		return STEP_TAKEN;
	}
	if (names_get(&s->names, m.name))
	{
		if ((what = session_note_make(NOTE_CLOSED, m.name, NULL, 0)) == NULL)
			return STEP_GONE;
		session_note_takes_name(s, what);
	}
	else if (names_are_its_own(s))
		return session_forward(s, frame, 'S');
	/* during a copy the origin shall refuse it, if that has not failed: it is sent, of nothing */
	if (session_may_copy(s->effects))
	{
		message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', bytes_str("hyperpool_0"));
		link_flush(s->link);
		return session_note_ask(s, ASK_CLOSE, ASK_FOR_CLIENT, 0, what) ? STEP_TAKEN : STEP_GONE;
	}
	if (!session_note_ask(s, ASK_CLOSE, ASK_MADE, 0, what))
		return STEP_GONE;
	link_make_answers(s->tail);
	return STEP_TAKEN;
}
