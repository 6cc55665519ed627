/*
 * client/session_ask.c - a client's message on its way to the origin.
 *
 * Every message is shown to the exchange it would belong to (exchange_ask); what begins an exchange needs a link first. Then the
 * same bytes go out, but for the names of prepared statements: a client's name stands for a statement (text, types), a
 * statement has one name of ours on each link where it is prepared. What the link lacks is prepared just before, in the same send, and that
 * answer is swallowed.
 *
 * A name that would be refused by the origin must be refused by the origin (its transaction has to fail too), so such messages are sent in a
 * form that fails there for the same reason.
 */
#include "postgres.h"

#include <ctype.h>

#include "host/analyze.h"

#include "client/session_internal.h"

#define EFFECTS_OF_THE_UNSEEN	(EFFECT_UNKNOWN | EFFECT_WRITES | EFFECT_DIRTY | EFFECT_LOCKS)

static const Exchange nothing_asked;

/* ---- notes ---- */

SessionNote *
session_note_make(NoteWhat what, Bytes name, Statement *prior, uint32 number)
{
	SessionNote *note = mem_alloc(sizeof(SessionNote) + name.len);

	if (note == NULL)
		return NULL;
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
	mem_free(note, sizeof(SessionNote) + note->name_len);
}

void
session_free_note(void *note)
{
	session_note_free(note);
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
	link_on_lost(link, session_on_link_lost, s);
	link_set_client(link, client_row_number(s->row) + 1);
	if (!link_apply_settings(link, s->settings) || (s->failed_transaction && !link_fail_transaction(link, true)))
		link_break_now(link);
	s->failed_transaction = false;
}

/* Who one is decides what one may do: a link whose role could not be set must not run anything. */
static bool
settings_are_identity(const SettingsVector *settings)
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
	return STEP_HOLD;
}

static SessionStep
begin_exchange(ClientSession *s)
{
	/*
	 * Names given or taken in the exchange before may not have been, and what RESET returns to is ours to put back: what comes
	 * next depends on how that ends.
	 */
	if (s->inflight > 0 && (s->risky > 0 || (s->effects & (EFFECT_SETTINGS | EFFECT_UNBIND))))
	{
		s->holding_messages = true;
		return STEP_HOLD;
	}
	if (s->link == NULL)
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
	}
	if (s->inflight == 0 && link_settings(s->link) != s->settings && link_status(s->link) == TX_IDLE &&
		!link_apply_settings(s->link, s->settings))
	{
		link_break_now(s->link);
		return STEP_GONE;
	}
	if (s->inflight == 0 && link_applying(s->link) && settings_are_identity(s->settings))
		return wait_for_settings(s);
	s->tail = link_ask(s->link, s, session_on_message);
	if (s->tail == NULL)
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	s->inflight++;
	if (s->state != SESSION_RELAYING || s->inflight == 1)
	{
		session_set_state(s, SESSION_RELAYING);
		s->answered_at = reactor_now(session_reactor);
		s->asked_whole = link_status(s->link) == TX_IDLE && !s->bound;
		session_arm(s);
	}
	return STEP_TAKEN;
}

/* ---- sending ---- */

/* Notes the ask and, if that went well, says so. Otherwise the session is closed. */
static bool
note(ClientSession *s, AskKind kind, AskFor whose, uint32 number, void *what)
{
	if (link_note(s->tail, kind, whose, 0, number, what))
	{
		s->risky += what != NULL;
		return true;
	}
	if (what)
		session_note_free(what);
	session_fatal(s, REFUSE_TOO_MANY_PENDING, NULL);
	return false;
}

/* The bytes as they came; a message that came in part goes on in session_ask. */
static void
send_raw(ClientSession *s, const Frame *frame)
{
	buffer_put(link_outbound(s->link), frame->raw.data, frame->raw.len);
	link_set_cut(s->link, !frame->last);
	s->piece = PIECE_FORWARD;
	link_flush(s->link);
}

static SessionStep
forward(ClientSession *s, const Frame *frame, uint8 what)
{
	if (!note(s, exchange_kind_of(frame->type, what), ASK_FOR_CLIENT, 0, NULL))
		return STEP_GONE;
	send_raw(s, frame);
	return STEP_TAKEN;
}

/* ---- statements ---- */

/* The statement of a text; one reference. NULL: no memory. */
static Statement *
statement_of(Bytes text, Bytes types)
{
	bool		fresh;

	return statement_intern(pools_statements(), text, types, &fresh);
}

/* SQL can name what is prepared on the link for everybody: then what we know of the link is no longer true. */
static uint32
reaches_ours(const StatementFacts *facts)
{
	return facts->target && link_name_is_ours(bytes_str(facts->target)) ? EFFECT_RETIRE : EFFECT_NONE;
}

/*
 * A simple Query is not prepared, so its text need not be kept: only what was found out about it is, by digest, in a table where
 * the newer pushes out the older.
 */
#define REMEMBERED_QUERIES	4096	/* a power of two */

typedef struct RememberedQuery
{
	Digest128	digest;
	uint16		effects;
	uint8		kind;
	bool		known;
} RememberedQuery;

static RememberedQuery remembered[REMEMBERED_QUERIES];

static bool
joins_a_word(uint8 c)
{
	return c >= 0x80 || isalnum(c) || strchr("_$.\"'", c) != NULL;
}

/*
 * The text with every number that stands by itself as 0: queries that differ in them alone do the same to a session, and programs that
 * put values into texts send them by the thousand. What touches a letter, a quote or a dot is left as it is. Valid until the next call.
 */
static Bytes
without_numbers(Bytes text)
{
	static uint8 masked[1024];
	size_t		n = 0;

	if (text.len > sizeof(masked))
		return text;
	for (size_t i = 0; i < text.len;)
	{
		size_t		from = i++;

		if (isdigit(text.data[from]) && (from == 0 || !joins_a_word(text.data[from - 1])))
		{
			while (i < text.len && isdigit(text.data[i]))
				i++;
			if (i == text.len || !joins_a_word(text.data[i]))
			{
				masked[n++] = '0';
				continue;
			}
		}
		memcpy(masked + n, text.data + from, i - from);
		n += i - from;
	}
	return bytes_of(masked, n);
}

static const RememberedQuery *
query_facts(const ClientSession *s, Bytes text)
{
	static RememberedQuery unsafe;
	Digest128	digest = digest_of(without_numbers(text));
	RememberedQuery *row = s->safe_encoding ? &remembered[digest.lo & (REMEMBERED_QUERIES - 1)] : &unsafe;
	StatementFacts facts = {0};

	if (row != &unsafe && row->known && digest_equal(row->digest, digest))
		return row;
	analyze_text(text, s->safe_encoding, &facts);
	row->digest = digest;
	row->effects = facts.effects | reaches_ours(&facts);
	mem_free_str(facts.target);
	row->kind = facts.kind;
	row->known = true;
	return row;
}

static uint32
effects_of(const ClientSession *s, Statement *statement)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	return facts->effects | reaches_ours(facts);
}

static void
add_effects(ClientSession *s, uint32 effects)
{
	s->tail->effects |= effects;
	s->effects |= effects;
}

/*
 * Asks for the description of a statement that was just sent to be parsed under `name`; the client does not see the answer. After its
 * own Parse the shape is learnt (NOTE_LEARN); after ours it must be the one the client was told (NOTE_COMPARE), or it would decode rows by
 * a wrong description.
 */
static bool
ask_shape(ClientSession *s, NoteWhat what, Bytes client_name, Bytes name, uint32 number)
{
	SessionNote *shape_note = session_note_make(what, client_name, NULL, number);

	if (shape_note == NULL)
		return false;
	message_put_named(link_outbound(s->link), MSG_DESCRIBE, 'S', name);
	if (!note(s, ASK_DESCRIBE_STATEMENT, ASK_FOR_US, number, shape_note))
		return false;
	s->risky--;					/* it gives and takes no name */
	return true;
}

/* The link's unnamed statement is to be this one: sends its Parse if it is not. */
static bool
prepare_unnamed(ClientSession *s, Statement *statement)
{
	if (link_unnamed(s->link) == statement)
		return true;
	message_put_parse(link_outbound(s->link), bytes_of("", 0), statement_text(statement), statement_types(statement));
	link_set_unnamed(s->link, statement);
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	return note(s, ASK_PARSE, ASK_FOR_US, 0, NULL);
}

/* No statement of another client may be found behind the unnamed name. */
static bool
forget_unnamed(ClientSession *s)
{
	if (link_has_no_unnamed(s->link))
		return true;
	message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', bytes_of("", 0));
	link_unnamed_closed(s->link);
	return note(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
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
		*ok &= note(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
	}
	return number;
}

/*
 * Sees to it that the statement is prepared on the link when the next message is read there; *name is what it is called.
 * Behind a pooler every exchange may meet another session: there it is always the unnamed one, prepared anew.
 */
static bool
prepare_on_link(ClientSession *s, Bytes client_name, Statement *statement, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number)
{
	const Shape *told = names_shape(&s->names, client_name);
	bool		ok = true;

	*number = 0;
	*name = bytes_of("", 0);
	if (pool_origin_is_pooled(s->pool))
	{
		link_set_unnamed(s->link, NULL);
		return prepare_unnamed(s, statement);
	}
	*number = link_statements_find(link_statements(s->link), statement, s->settings);
	if (*number != 0)
	{
		*name = link_statement_name(*number, buf);
		if (!shapes_differ(told, link_statements_shape(link_statements(s->link), *number)))
			return true;
		/* the link or the client is behind the times: the origin knows which */
		message_put_named(link_outbound(s->link), MSG_CLOSE, 'S', *name);
		ok = note(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
	}
	else
		*number = enter_on_link(s, statement, &ok);
	if (!ok)
		return false;
	*name = link_statement_name(*number, buf);
	message_put_parse(link_outbound(s->link), *name, statement_text(statement), statement_types(statement));
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	return note(s, ASK_PARSE, ASK_FOR_US, *number, NULL) &&
		(told == NULL || !told->known || ask_shape(s, NOTE_COMPARE, client_name, *name, *number));
}

/*
 * A name this client has not given: the origin shall say that it does not exist, unless the link is bound (then SQL
 * PREPARE may have made it). A name that looks like ours is sent as one that cannot exist.
 */
static bool
unknown_name(ClientSession *s, Bytes name, Bytes *sent, void **what)
{
	*sent = name;
	*what = NULL;
	if (s->bound)
		add_effects(s, EFFECTS_OF_THE_UNSEEN);
	if (name.len == 0)
		return s->bound || forget_unnamed(s);
	if (link_name_is_ours(name))
	{
		*what = session_note_make(NOTE_RENAMED, name, NULL, 0);
		*sent = bytes_str("hyperpool_0");
		return *what != NULL;
	}
	return true;
}

/* What a Bind, Describe or Close of a statement name must say on the link. */
static bool
resolve_name(ClientSession *s, Bytes name, char buf[LINK_NAME_MAX], Bytes *sent, uint32 *number, void **what)
{
	Statement  *statement = name.len == 0 ? s->unnamed : names_get(&s->names, name);

	*number = 0;
	*what = NULL;
	if (statement == NULL)
		return unknown_name(s, name, sent, what);
	add_effects(s, effects_of(s, statement));
	if (name.len > 0)
		return prepare_on_link(s, name, statement, buf, sent, number);
	*sent = name;
	return prepare_unnamed(s, statement);
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
	void	   *what;

	*done = false;
	if (statement == NULL || pool_origin_is_pooled(s->pool))
		return true;
	if (!prepare_on_link(s, target, statement, buf, &name, &number))
		return false;
	if (s->tail->x.count > 0 && s->tail->x.phase == EXCHANGE_OPEN)
	{
		/* a Sync of ours, or a failed Parse would make the origin skip the Query */
		message_put_empty(link_outbound(s->link), MSG_SYNC);
		if (!note(s, ASK_SYNC, ASK_FOR_US, 0, NULL))
			return false;
	}
	if (!analyze_rename(query, facts->target, name, &text))
		return true;
	what = session_note_make(facts->kind == STATEMENT_DEALLOCATE ? NOTE_DEALLOCATE : NOTE_RENAMED, target, NULL, number);
	message_put_query(link_outbound(s->link), buffer_view(&text));
	buffer_free(&text);
	link_flush(s->link);
	*done = true;
	return what && note(s, ASK_QUERY, ASK_FOR_CLIENT, 0, what);
}

static bool
query_renamed(ClientSession *s, Bytes query, bool *done)
{
	StatementFacts facts = {0};
	bool		ok;

	analyze_text(query, s->safe_encoding, &facts);
	ok = rename_query(s, query, &facts, done);
	mem_free_str(facts.target);
	return ok;
}

/* The origin forgets the unnamed statement when it runs a simple Query. */
static void *
drop_unnamed(ClientSession *s)
{
	void	   *what = NULL;

	if (s->unnamed && s->tail->x.count > 0)
	{
		/* asks before it may fail: then it is skipped and the statement stays */
		what = session_note_make(NOTE_UNNAMED, bytes_of("", 0), s->unnamed, 0);
		s->unnamed = NULL;
	}
	if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = NULL;
	link_set_unnamed(s->link, NULL);
	return what;
}

static SessionStep
ask_query(ClientSession *s, const Frame *frame)
{
	Bytes		text;
	bool		done = false;
	bool		ok = true;
	void	   *what = NULL;
	uint32		effects = EFFECTS_OF_THE_UNSEEN;

	if (frame->last && message_read_query(frame->body, &text) && text.len <= ANALYZE_MAX_TEXT)
	{
		const RememberedQuery *facts = query_facts(s, text);

		effects = facts->effects;
		if (facts->kind == STATEMENT_DEALLOCATE || facts->kind == STATEMENT_EXECUTE)
			ok = query_renamed(s, text, &done);
		/* DEALLOCATE ALL: which names are left is known when it has ended */
		if (facts->kind == STATEMENT_DEALLOCATE && !done)
			what = session_note_make(NOTE_DEALLOCATE, bytes_of("", 0), NULL, 0);
	}
	if (ok && !done)
	{
		void	   *unnamed = drop_unnamed(s);

		ok = note(s, ASK_QUERY, ASK_FOR_CLIENT, 0, unnamed ? unnamed : what);
		if (ok)
			send_raw(s, frame);
	}
	if (ok)
		add_effects(s, effects);
	return ok ? STEP_TAKEN : STEP_GONE;
}

/* ---- Parse ---- */

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
	if (!prepare_on_link(s, target, meant, buf, &name, &number))
		return false;
	if (!analyze_rename(statement_text(statement), facts->target, name, &text))
		return true;
	message_put_parse(link_outbound(s->link), bytes_of("", 0), buffer_view(&text), statement_types(statement));
	buffer_free(&text);
	link_flush(s->link);
	*done = true;
	if (facts->kind == STATEMENT_DEALLOCATE && s->deallocating == NULL)
		s->deallocating = session_note_make(NOTE_DEALLOCATE, target, NULL, number);
	return true;
}

static SessionStep
parse_unnamed(ClientSession *s, const Frame *frame, Statement *statement)
{
	void	   *what = NULL;
	bool		done;

	if (s->tail->x.count > 0)
		what = session_note_make(NOTE_UNNAMED, bytes_of("", 0), s->unnamed, 0);
	else if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = statement;
	if (!parse_renamed(s, statement, &done))
		return STEP_GONE;
	link_set_unnamed(s->link, statement);
	if (!note(s, ASK_PARSE, ASK_FOR_CLIENT, 0, what))
		return STEP_GONE;
	if (!done)
		send_raw(s, frame);
	return STEP_TAKEN;
}

/* The name is taken: so is its name on the link, and the origin will say so. */
static SessionStep
parse_taken_name(ClientSession *s, const ParseMessage *m)
{
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	void	   *what;

	if (!prepare_on_link(s, m->name, names_get(&s->names, m->name), buf, &name, &number))
		return STEP_GONE;
	what = session_note_make(NOTE_RENAMED, m->name, NULL, number);
	if (what == NULL || !note(s, ASK_PARSE, ASK_FOR_CLIENT, 0, what))
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
	return note(s, ASK_CLOSE, ASK_FOR_US, 0, NULL);
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
		session_fatal(s, REFUSE_MEMORY, NULL);
		return STEP_GONE;
	}
	if (!name_for_parse(s, statement, buf, &name, &number))
		return STEP_GONE;
	message_put_parse(link_outbound(s->link), name, m->text, m->types);
	link_flush(s->link);
	counter_add(s->counters, COUNT_LINK_PARSES, 1);
	if (!note(s, ASK_PARSE, ASK_FOR_CLIENT, number, what) || !ask_shape(s, NOTE_LEARN, m->name, name, number))
		return STEP_GONE;
	return STEP_TAKEN;
}

/* Too long to be remembered (hyperpool.max_statement_size): it lives on this link alone, which stays with the client. */
static SessionStep
parse_too_long(ClientSession *s, const Frame *frame)
{
	add_effects(s, EFFECTS_OF_THE_UNSEEN | EFFECT_BIND);
	if (s->unnamed)
		statement_unref(pools_statements(), s->unnamed);
	s->unnamed = NULL;
	link_set_unnamed(s->link, NULL);
	return forward(s, frame, 0);
}

static SessionStep
ask_parse(ClientSession *s, const Frame *frame)
{
	ParseMessage m;
	Statement  *statement;

	counter_add(s->counters, COUNT_CLIENT_PARSES, 1);
	if (!frame->last)
		return parse_too_long(s, frame);
	if (!message_read_parse(frame->body, &m))
	{
		link_set_unnamed(s->link, NULL);
		return forward(s, frame, 0);
	}
	/* a bound link has the names of this client alone: they are used there as they are, for SQL EXECUTE and Parse to share them */
	if (m.name.len > 0 && s->bound)
	{
		add_effects(s, EFFECTS_OF_THE_UNSEEN);
		return forward(s, frame, 0);
	}
	if (m.name.len > 0 && names_get(&s->names, m.name))
		return parse_taken_name(s, &m);
	if (m.name.len > 0 && s->names.count >= (uint32) hyperpool_max_session_statements)
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
	add_effects(s, effects_of(s, statement));
	return m.name.len == 0 ? parse_unnamed(s, frame, statement) : parse_named(s, &m, statement);
}

/* ---- Bind, Describe, Close ---- */

static SessionStep
ask_bind(ClientSession *s, const Frame *frame)
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
			return forward(s, frame, 0);
		session_fatal(s, REFUSE_PROTOCOL_VIOLATION, "portal or statement name is too long");
		return STEP_GONE;
	}
	if (!resolve_name(s, m.statement, buf, &name, &number, &what) || !note(s, ASK_BIND, ASK_FOR_CLIENT, number, what))
		return STEP_GONE;
	if (bytes_equal(name, m.statement))
	{
		send_raw(s, frame);
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

static SessionStep
ask_describe(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	char		buf[LINK_NAME_MAX];
	Bytes		name;
	uint32		number;
	void	   *what;

	if (!frame->last || !message_read_named(frame->body, &m) || m.what == 'P')
		return forward(s, frame, 'P');
	if (!resolve_name(s, m.name, buf, &name, &number, &what) ||
		!note(s, ASK_DESCRIBE_STATEMENT, ASK_FOR_CLIENT, number, what))
		return STEP_GONE;
	message_put_named(link_outbound(s->link), MSG_DESCRIBE, 'S', name);
	link_flush(s->link);
	return STEP_TAKEN;
}

/* Close of a statement: the client's name goes, what the link has prepared stays for others. */
static SessionStep
ask_close(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	Statement  *prior;
	void	   *what;

	if (!frame->last || !message_read_named(frame->body, &m) || m.what == 'P')
		return forward(s, frame, 'P');
	if (m.name.len == 0)
	{
		prior = s->unnamed;
		s->unnamed = NULL;
		link_set_unnamed(s->link, NULL);
		what = prior ? session_note_make(NOTE_UNNAMED, m.name, prior, 0) : NULL;
		if (!note(s, ASK_CLOSE, ASK_FOR_CLIENT, 0, what))
			return STEP_GONE;
		send_raw(s, frame);
		return STEP_TAKEN;
	}
	prior = names_take(&s->names, m.name);
	if (prior == NULL && s->bound)
		return forward(s, frame, 'S');
	what = prior ? session_note_make(NOTE_CLOSED, m.name, prior, 0) : NULL;
	if (!note(s, ASK_CLOSE, ASK_MADE, 0, what))
		return STEP_GONE;
	link_make_answers(s->tail);
	return STEP_TAKEN;
}

/* ---- the rest ---- */

static SessionStep
ask_copy(ClientSession *s, const Frame *frame)
{
	if (frame->type != MSG_COPY_DATA)
	{
		if (!note(s, ASK_COPY_END, ASK_FOR_CLIENT, 0, NULL))
			return STEP_GONE;
	}
	else
		exchange_copy_data(&s->tail->x);
	send_raw(s, frame);
	return STEP_TAKEN;
}

static SessionStep
ask_sync(ClientSession *s, const Frame *frame)
{
	if (s->tail->x.copy_in && !s->tail->x.copy_ended)
		exchange_sync_in_copy(&s->tail->x);
	else if (!note(s, ASK_SYNC, ASK_FOR_CLIENT, 0, NULL))
		return STEP_GONE;
	send_raw(s, frame);
	return STEP_TAKEN;
}

static SessionStep
ask_function_call(ClientSession *s, const Frame *frame)
{
	add_effects(s, EFFECTS_OF_THE_UNSEEN);
	return forward(s, frame, 0);
}

static SessionStep
forward_by_type(ClientSession *s, const Frame *frame)
{
	switch (frame->type)
	{
		case MSG_QUERY:
			return ask_query(s, frame);
		case MSG_PARSE:
			return ask_parse(s, frame);
		case MSG_BIND:
			return ask_bind(s, frame);
		case MSG_DESCRIBE:
			return ask_describe(s, frame);
		case MSG_EXECUTE:
			return forward(s, frame, 0);
		case MSG_CLOSE:
			return ask_close(s, frame);
		case MSG_SYNC:
			return ask_sync(s, frame);
		case MSG_FUNCTION_CALL:
			return ask_function_call(s, frame);
		case MSG_COPY_DATA:
		case MSG_COPY_DONE:
		case MSG_COPY_FAIL:
			return ask_copy(s, frame);
		default:				/* Flush */
			send_raw(s, frame);
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

	if (fresh)
	{
		Bytes		error = buffer_view(&s->refusal);

		buffer_put(&s->out, error.data, error.len);
		buffer_free(&s->refusal);
	}
	s->skip_local = true;
	if (frame->type == MSG_SYNC || (fresh && alone))
	{
		message_put_ready(&s->out, s->failed_transaction ? TX_FAILED : TX_IDLE);
		s->skip_local = false;
	}
	session_flush(s);
	s->piece = PIECE_DROP;
	return STEP_TAKEN;
}

/* PostgreSQL answers with an error and then finds its stream out of step. */
static SessionStep
refuse_in_copy(ClientSession *s, uint8 type)
{
	char		text[64];

	snprintf(text, sizeof(text), "unexpected message type 0x%02X during COPY from stdin", type);
	message_put_refusal(&s->out, "ERROR", REFUSE_PROTOCOL_VIOLATION, text);
	session_fatal(s, REFUSE_PROTOCOL_VIOLATION, "terminating connection because protocol synchronization was lost");
	return STEP_GONE;
}

static SessionStep
terminate(ClientSession *s)
{
	if (s->tail && s->tail->x.copy_in && !s->tail->x.copy_ended)
		return refuse_in_copy(s, MSG_TERMINATE);
	/* what is asked in full is answered before the connection closes, as the origin would */
	if (s->inflight == 0 || s->tail == NULL || s->tail->x.phase != EXCHANGE_CLOSED)
		session_close_after_flush(s);
	else
		session_set_state(s, SESSION_LEAVING);
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
	if (s->inflight != 1 || !frame->last || buffer_len(&s->asked) + frame->raw.len > ASKED_MAX)
		s->asked_whole = false;
	if (s->asked_whole)
		buffer_put(&s->asked, frame->raw.data, frame->raw.len);
}

/* ---- the front ---- */

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
		case ASK_REFUSE_IN_COPY:
			return refuse_in_copy(s, frame->type);
		case ASK_NEXT:
		case ASK_FORWARD:
			break;
	}
	if (s->skip_local || buffer_len(&s->refusal) > 0)
		return answer_refused(s, frame);
	if (s->tail == NULL || verdict == ASK_NEXT)
	{
		step = begin_exchange(s);
		if (step != STEP_TAKEN)
			return step;
	}
	s->heard_at = reactor_now(session_reactor);
	remember_asked(s, frame);
	step = forward_by_type(s, frame);
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
