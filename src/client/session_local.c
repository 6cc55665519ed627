/*
 * client/session_local.c - what is answered here, without the origin.
 *
 * A session that holds no link and owes nothing is looked after here first: each message, or the whole exchange from its first message to its Sync when rows are asked
 * for. What cannot be answered goes on by the ordinary route (session_ask.c), in the middle of an exchange too: what was answered here has left behind
 * exactly what that route needs (names, the unnamed statement, what the client was told of them).
 *
 * Never waits for more than the rest of an exchange that has begun, and only when its statement is a read, a BEGIN or a setting of ours.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "client/session_internal.h"

/* ---- an exchange in memory ---- */

typedef struct LocalBatch		/* [Parse [Describe S]] Bind [Describe P] Execute [Close ...] Sync */
{
	bool		parse;
	bool		describe_statement;
	bool		describe_portal;
	ParseMessage parsed;
	BindMessage bind;
	uint32		max_rows;		/* of Execute; 0 = all */
	uint32		closes;
	bool		flushed;		/* a Flush among them: the client may wait for answers before it sends the rest */
	bool		last;			/* nothing lies behind it */
	size_t		len;			/* of all of it */
} LocalBatch;

typedef enum BatchVerdict
{
	BATCH_WHOLE,
	BATCH_MORE,					/* such an exchange so far, its end has not come */
	BATCH_OTHER
} BatchVerdict;

/* The next whole message. MORE: it is not all there. */
static BatchVerdict
next_message(Bytes in, size_t *at, Frame *frame)
{
	FrameReader reader = {.side = FRAME_FROM_CLIENT};

	switch (frame_next(&reader, bytes_of(in.data + *at, in.len - *at), SESSION_WHOLE_MAX, frame))
	{
		case FRAME_WHOLE:
			*at += frame->raw.len;
			return BATCH_WHOLE;
		case FRAME_MORE:
			return in.len > SESSION_WHOLE_MAX ? BATCH_OTHER : BATCH_MORE;
		default:
			return BATCH_OTHER;
	}
}

/* What may follow what: a small automaton over the types. */
typedef enum BatchPlace
{
	AT_START, AT_PARSED, AT_DESCRIBED, AT_BOUND, AT_PORTAL_DESCRIBED, AT_EXECUTED, AT_END
} BatchPlace;

static bool
take_describe(LocalBatch *batch, BatchPlace *place, const Frame *frame)
{
	NamedMessage m;

	if (!message_read_named(frame->body, &m))
		return false;
	if (*place == AT_PARSED && m.what == 'S' && bytes_equal(m.name, batch->parsed.name))
	{
		batch->describe_statement = true;
		*place = AT_DESCRIBED;
		return true;
	}
	if (*place == AT_BOUND && m.what == 'P' && bytes_equal(m.name, batch->bind.portal))
	{
		batch->describe_portal = true;
		*place = AT_PORTAL_DESCRIBED;
		return true;
	}
	return false;
}

static bool
take_bind(LocalBatch *batch, BatchPlace *place, const Frame *frame)
{
	if (*place > AT_DESCRIBED || !message_read_bind(frame->body, &batch->bind))
		return false;
	if (batch->parse && !bytes_equal(batch->bind.statement, batch->parsed.name))
		return false;
	*place = AT_BOUND;
	return true;
}

static bool
take_execute(LocalBatch *batch, BatchPlace *place, const Frame *frame)
{
	ExecuteMessage m;

	if ((*place != AT_BOUND && *place != AT_PORTAL_DESCRIBED) || !message_read_execute(frame->body, &m) ||
		!bytes_equal(m.portal, batch->bind.portal))
		return false;
	/* a negative limit is none */
	batch->max_rows = (int32) m.max_rows > 0 ? m.max_rows : 0;
	*place = AT_EXECUTED;
	return true;
}

/* Of the portal: it ends with the Sync anyway. */
static bool
take_close(LocalBatch *batch, BatchPlace *place, const Frame *frame)
{
	NamedMessage m;

	if (*place != AT_EXECUTED || !message_read_named(frame->body, &m) || m.what != 'P')
		return false;
	batch->closes++;
	return true;
}

static bool
take_message(LocalBatch *batch, BatchPlace *place, const Frame *frame)
{
	switch (frame->type)
	{
		case MSG_PARSE:
			batch->parse = *place == AT_START && message_read_parse(frame->body, &batch->parsed);
			*place = AT_PARSED;
			return batch->parse;
		case MSG_DESCRIBE:
			return take_describe(batch, place, frame);
		case MSG_BIND:
			return take_bind(batch, place, frame);
		case MSG_EXECUTE:
			return take_execute(batch, place, frame);
		case MSG_CLOSE:
			return take_close(batch, place, frame);
		case MSG_SYNC:
			if (*place != AT_EXECUTED)
				return false;
			*place = AT_END;
			return true;
		case MSG_FLUSH:
			batch->flushed = true;
			return true;
		default:
			return false;
	}
}

static BatchVerdict
read_batch(Bytes in, LocalBatch *batch)
{
	BatchPlace	place = AT_START;

	memset(batch, 0, sizeof(*batch));
	while (place != AT_END)
	{
		Frame		frame;
		BatchVerdict verdict = next_message(in, &batch->len, &frame);

		if (verdict != BATCH_WHOLE)
			return batch->flushed ? BATCH_OTHER : verdict;
		if (!take_message(batch, &place, &frame))
			return BATCH_OTHER;
	}
	batch->last = batch->len == in.len;
	return BATCH_WHOLE;
}

/* ---- statements ---- */

static Statement *
intern(const ParseMessage *m)
{
	bool		fresh;

	return statement_intern(pools_statements(), m->text, m->types, &fresh);
}

static bool
is_read(ClientSession *s, Statement *statement)
{
	return analyze_facts(statement, s->safe_encoding)->kind == STATEMENT_READ;
}

static bool
is_gateway(ClientSession *s, Statement *statement)
{
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	return facts->target && session_gateway_is(bytes_str(facts->target));
}

static bool
is_begin(ClientSession *s, Statement *statement)
{
	return session_begin_may(s, analyze_facts(statement, s->safe_encoding)->begin);
}

/* Answered here whatever the cache holds. */
static bool
is_ours(ClientSession *s, Statement *statement)
{
	return is_gateway(s, statement) || is_begin(s, statement);
}

/* Takes the reference over: the client's statement of that name. The name is free. False: no memory; the reference is given back. */
static bool
name_statement(ClientSession *s, Bytes name, Statement *statement)
{
	if (name.len == 0)
	{
		session_drop_unnamed(s);
		s->unnamed = statement;
		s->unnamed_in = NULL;
		s->unnamed_shape.unconfirmed = true;
		return true;
	}
	if (names_put(&s->names, name, statement))
	{
		names_shape(&s->names, name)->unconfirmed = true;
		return true;
	}
	statement_unref(pools_statements(), statement);
	return false;
}

/* A name that is taken, or one too many: the origin, or the ordinary route, says so. */
static bool
may_name(const ClientSession *s, Bytes name)
{
	return name.len == 0 || (names_get(&s->names, name) == NULL && s->names.count < session_max_statements());
}

static Shape *
told_shape(ClientSession *s, Bytes name)
{
	return name.len == 0 ? &s->unnamed_shape : names_shape(&s->names, name);
}

/* What the two messages of a description say of its shape; as origin/link notes it. */
static Shape
shape_of(Bytes description)
{
	Shape		shape = {0};
	FrameReader reader = {.side = FRAME_FROM_ORIGIN};
	Frame		first;
	Frame		second;
	Digest128	digest;

	if (frame_next(&reader, description, BUFFER_LIMIT, &first) != FRAME_WHOLE ||
		frame_next(&reader, bytes_of(description.data + first.raw.len, description.len - first.raw.len), BUFFER_LIMIT, &second) != FRAME_WHOLE)
		return shape;
	digest = second.type == ANS_NO_DATA ? digest_of(second.body) : message_row_shape(second.body);
	shape.known = true;
	shape.digest = digest_of(first.body);
	shape.digest.lo = shape.digest.lo * 31 + digest.lo;
	shape.digest.hi = shape.digest.hi * 31 + digest.hi;
	shape.rows = second.type == ANS_NO_DATA ? 0 : digest.lo;
	return shape;
}

/* ---- rows ---- */

/* A parameter that the type's input function would read as a time of today. */
static bool
has_date_word(const BindValues *bind)
{
	BindValues	all = *bind;
	size_t		at = 0;
	uint16		n = 0;
	Bytes		value;

	/* text has the same bytes in binary, and asyncpg sends it so */
	all.nformats = 0;
	while (cachekey_next_text(&all, &at, &n, &value))
	{
		if (analyze_has_date_word(value))
			return true;
	}
	return false;
}

static LocalVerdict
answer_batch(ClientSession *s, const LocalBatch *batch, Statement *statement, bool *taken)
{
	BindValues	values;
	CacheRequest request = {
		.text = cachekey_trim(statement_text(statement)),
		.types = statement_types(statement),
		.bind = &values,
		.bind_rest = batch->bind.rest,
		.max_rows = batch->max_rows,
		.proof = session_statement_proof(s, statement),
		.told = batch->parse ? NULL : told_shape(s, batch->bind.statement),
		.parse = batch->parse,
		.describe = batch->describe_portal,
		.closes = batch->closes
	};

	*taken = false;
	analyze_hints(statement_text(statement), &request.hints);
	s->reason = session_cache_reason(s, request.proof, &request.hints);
	if (s->reason != REASON_CACHEABLE)
		return LOCAL_FORWARD;
	if (!cachekey_read_bind(batch->bind.rest, &values))
		return LOCAL_FORWARD;
	if (has_date_word(&values))
	{
		s->reason = REASON_TIME;
		return LOCAL_FORWARD;
	}
	request.stats_row = session_statement_stats(s, statement);
	return session_cache_answer(s, &request, taken);
}

/* BEGIN, without parameters and by the unnamed portal. What lies behind it needs a link anyway. */
static bool
run_begin(ClientSession *s, const LocalBatch *batch, Statement *statement)
{
	BindValues	values;
	BeginRequest request = {
		.text = statement_text(statement),
		.traits = analyze_facts(statement, s->safe_encoding)->begin,
		.extended = true,
		.describe_statement = batch->describe_statement,
		.describe_portal = batch->describe_portal
	};

	if (!batch->last || batch->closes > 0 || batch->bind.portal.len > 0 || statement_types(statement).len > 0 ||
		!cachekey_read_bind(batch->bind.rest, &values) || values.nvalues > 0)
		return false;
	request.stats_row = session_statement_stats(s, statement);
	return session_begin_run(s, &request);
}

/* BEGIN, or SET of one of our own settings, in the extended form. */
static LocalVerdict
run_ours(ClientSession *s, const LocalBatch *batch, Statement *statement)
{
	size_t		before = buffer_len(&s->out);
	bool		failed = false;
	bool		done;

	if (batch->parse)
		message_put_empty(&s->out, ANS_PARSE_COMPLETE);
	if (is_begin(s, statement))
		done = run_begin(s, batch, statement);
	else
		done = session_gateway_run(s, statement_text(statement), true, batch->describe_statement, batch->describe_portal, &failed);
	if (!done)
	{
		s->out.end = s->out.start + before; /* nothing else was put there */
		return LOCAL_FORWARD;
	}
	for (uint32 i = 0; i < batch->closes && !failed; i++)
		message_put_empty(&s->out, ANS_CLOSE_COMPLETE);
	message_put_ready(&s->out, session_status(s));
	session_flush(s);
	return LOCAL_DONE;
}

/* The exchange from Bind on. `in` begins at the Bind. */
static LocalVerdict
local_bind(ClientSession *s, Bytes in, size_t *used)
{
	LocalBatch	batch;
	BindMessage bind;
	Frame		frame;
	size_t		at = 0;
	BatchVerdict verdict = next_message(in, &at, &frame);
	Statement  *statement;
	LocalVerdict answered;
	bool		taken = false;

	if (verdict != BATCH_WHOLE)
		return verdict == BATCH_MORE ? LOCAL_MORE : LOCAL_FORWARD;
	if (!message_read_bind(frame.body, &bind))
		return LOCAL_FORWARD;
	statement = bind.statement.len == 0 ? s->unnamed : names_get(&s->names, bind.statement);
	s->reason = REASON_NOT_A_READ;
	if (statement == NULL || !(is_read(s, statement) || is_ours(s, statement)))
		return LOCAL_FORWARD;
	s->reason = REASON_PIPELINE;
	verdict = read_batch(in, &batch);
	if (verdict != BATCH_WHOLE)
		return verdict == BATCH_MORE ? LOCAL_MORE : LOCAL_FORWARD;
	if (is_ours(s, statement))
	{
		answered = run_ours(s, &batch, statement);
		taken = answered == LOCAL_DONE;
	}
	else
		answered = answer_batch(s, &batch, statement, &taken);
	if (taken)
	{
		*used = batch.len;
		counter_add(s->counters, COUNT_BINDS, 1);
	}
	return answered;
}

/* ---- Parse ---- */

/* All from Parse to Sync at once. Sets *statement's name when it is taken. */
static LocalVerdict
local_batch(ClientSession *s, const LocalBatch *batch, Statement *statement, size_t *used)
{
	LocalVerdict verdict;
	bool		taken = false;

	if (is_ours(s, statement))
	{
		verdict = run_ours(s, batch, statement);
		taken = verdict == LOCAL_DONE;
	}
	else if (batch->describe_statement)
		return LOCAL_FORWARD;	/* step by step */
	else
		verdict = answer_batch(s, batch, statement, &taken);
	if (!taken)
		return verdict;
	*used = batch->len;
	statement_ref(statement);
	if (!name_statement(s, batch->parsed.name, statement))
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return LOCAL_GONE;
	}
	counter_add(s->counters, COUNT_CLIENT_PARSES, 1);
	counter_add(s->counters, COUNT_BINDS, 1);
	return verdict;
}

/* The Parse alone: the origin has accepted this text before, in these settings. */
static LocalVerdict
parse_alone(ClientSession *s, const ParseMessage *m, Statement *statement, size_t len, size_t *used)
{
	if (!session_cache_describes(s, statement, NULL))
		return LOCAL_FORWARD;
	statement_ref(statement);
	if (!name_statement(s, m->name, statement))
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return LOCAL_GONE;
	}
	counter_add(s->counters, COUNT_CLIENT_PARSES, 1);
	message_put_empty(&s->out, ANS_PARSE_COMPLETE);
	session_flush(s);
	*used = len;
	return LOCAL_DONE;
}

static LocalVerdict
local_parsed(ClientSession *s, Bytes in, const ParseMessage *m, size_t len, Statement *statement, size_t *used)
{
	LocalBatch	batch;
	LocalVerdict verdict;

	s->reason = REASON_PIPELINE;
	if (is_read(s, statement) || is_ours(s, statement))
	{
		switch (read_batch(in, &batch))
		{
			case BATCH_WHOLE:
				verdict = local_batch(s, &batch, statement, used);
				/* a miss is recorded from its first message on */
				if (verdict != LOCAL_FORWARD || (s->cache && recording_on(&s->cache->recording)))
					return verdict;
				break;
			case BATCH_MORE:
				return LOCAL_MORE;
			case BATCH_OTHER:
				break;
		}
	}
	else
		s->reason = REASON_NOT_A_READ;
	return parse_alone(s, m, statement, len, used);
}

static LocalVerdict
local_parse(ClientSession *s, Bytes in, size_t *used)
{
	ParseMessage m;
	Frame		frame;
	size_t		at = 0;
	Statement  *statement;
	LocalVerdict verdict;

	if (next_message(in, &at, &frame) != BATCH_WHOLE || !message_read_parse(frame.body, &m) || m.text.len > ANALYZE_MAX_TEXT || !may_name(s, m.name))
		return LOCAL_FORWARD;
	statement = intern(&m);
	if (statement == NULL)
		return LOCAL_FORWARD;
	verdict = local_parsed(s, in, &m, at, statement, used);
	statement_unref(pools_statements(), statement);
	return verdict;
}

/* ---- the other messages ---- */

static LocalVerdict
local_describe(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	Statement  *statement;
	size_t		before = buffer_len(&s->out);
	Shape	   *told;
	bool		unconfirmed;

	/* a few bytes ask for many: a client that does not read them goes by the route that waits for it */
	if (!message_read_named(frame->body, &m) || m.what != 'S' || before > SESSION_HIGH_WATER)
		return LOCAL_FORWARD;
	statement = m.name.len == 0 ? s->unnamed : names_get(&s->names, m.name);
	if (statement == NULL || !session_cache_describes(s, statement, &s->out))
		return LOCAL_FORWARD;
	told = told_shape(s, m.name);
	unconfirmed = told->unconfirmed;
	*told = shape_of(bytes_of(s->out.data + s->out.start + before, buffer_len(&s->out) - before));
	told->unconfirmed = unconfirmed;
	counter_add(s->counters, COUNT_CACHE_DESCRIBED, 1);
	session_flush(s);
	return LOCAL_DONE;
}

/* The client's name goes; what links have prepared stays for others. */
static LocalVerdict
local_close(ClientSession *s, const Frame *frame)
{
	NamedMessage m;
	Statement  *gone;

	if (!message_read_named(frame->body, &m) || (m.what != 'S' && m.what != 'P'))
		return LOCAL_FORWARD;
	if (m.what == 'P')
		s->begin_portal &= m.name.len > 0;
	else if (m.name.len == 0)
		session_drop_unnamed(s);
	else if ((gone = names_take(&s->names, m.name)) != NULL)
		statement_unref(pools_statements(), gone);
	message_put_empty(&s->out, ANS_CLOSE_COMPLETE);
	session_flush(s);
	return LOCAL_DONE;
}

static LocalVerdict
local_sync(ClientSession *s)
{
	message_put_ready(&s->out, session_status(s));
	session_flush(s);
	return LOCAL_DONE;
}

/* BEGIN as a simple Query; last: nothing lies behind it. */
static bool
query_begins(ClientSession *s, Bytes text, QueryFacts *facts, bool last)
{
	BeginRequest request = {.text = text, .traits = facts->begin};

	if (!last || !session_begin_may(s, facts->begin))
		return false;
	request.stats_row = session_query_stats(s, text, facts);
	return session_begin_run(s, &request);
}

static LocalVerdict
local_query(ClientSession *s, const Frame *frame, bool last)
{
	CacheRequest request = {0};
	QueryFacts *facts;
	Bytes		text;
	bool		taken;
	bool		failed = false;

	if (!message_read_query(frame->body, &text) || text.len > ANALYZE_MAX_TEXT)
	{
		s->reason = REASON_OVERSIZED_QUERY;
		return LOCAL_FORWARD;
	}
	facts = session_query_facts(s, text);
	if (query_begins(s, text, facts, last) || (facts->gateway && session_gateway_run(s, text, false, false, true, &failed)))
	{
		session_drop_unnamed(s);
		if (failed)
			session_begin_fail(s);
		return local_sync(s);
	}
	if (s->begin)
		return LOCAL_FORWARD;
	request.proof = session_query_proof(s, text, facts);
	analyze_hints(text, &request.hints);
	s->reason = session_cache_reason(s, request.proof, &request.hints);
	if (s->reason != REASON_CACHEABLE)
		return LOCAL_FORWARD;
	request.text = cachekey_trim(text);
	request.stats_row = session_query_stats(s, text, facts);
	switch (session_cache_answer(s, &request, &taken))
	{
		case LOCAL_FORWARD:
			return LOCAL_FORWARD;
		case LOCAL_GONE:
			return LOCAL_GONE;
		default:
			break;
	}
	if (!taken)
		return LOCAL_HELD;
	session_drop_unnamed(s);
	return s->state == SESSION_REPLAYING ? LOCAL_HELD : LOCAL_DONE;
}

/* ---- the front ---- */

bool
session_local_may(const ClientSession *s)
{
	return s->state == SESSION_IDLE && s->link == NULL && s->inflight == 0 && !s->bound && !s->failed_transaction && !s->skip_local &&
		!s->headless && !s->closing && s->pool && pool_mode(s->pool) != POOL_SESSION && buffer_len(&s->refusal) == 0 &&
		(s->cache == NULL || !recording_on(&s->cache->recording));
}

static LocalVerdict
local_message(ClientSession *s, const Frame *frame, bool last)
{
	switch (frame->type)
	{
		case MSG_QUERY:
			return local_query(s, frame, last);
		case MSG_DESCRIBE:
			return local_describe(s, frame);
		case MSG_CLOSE:
			return local_close(s, frame);
		case MSG_FLUSH:
			return LOCAL_DONE;
		case MSG_SYNC:
			return local_sync(s);
		default:
			return LOCAL_FORWARD;
	}
}

LocalVerdict
session_local(ClientSession *s, Bytes in, size_t *used)
{
	Frame		frame;
	size_t		at = 0;
	LocalVerdict verdict;
	SessionState before = s->state;

	*used = 0;
	s->reason = REASON_PIPELINE;
	if (s->rights_stale && !session_check_rights(s))
		return LOCAL_GONE;
	if (!session_begin_admits(s, in.data[0]))
		return LOCAL_FORWARD;
	if (in.data[0] == MSG_PARSE)
		verdict = local_parse(s, in, used);
	else if (in.data[0] == MSG_BIND)
		verdict = local_bind(s, in, used);
	else
	{
		if (next_message(in, &at, &frame) != BATCH_WHOLE)
			return LOCAL_FORWARD;
		verdict = local_message(s, &frame, at == in.len);
		if (verdict == LOCAL_DONE || (verdict == LOCAL_HELD && s->state == SESSION_REPLAYING && before != SESSION_REPLAYING))
			*used = at;
	}
	return verdict;
}
