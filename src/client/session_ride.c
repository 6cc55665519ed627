/*
 * client/session_ride.c - a session on a link that it shares with others.
 *
 * Answers: may the exchange that lies at the front of `in` ride, and what happens to a session whose exchanges are on a shared link when it is cancelled, closed, moved,
 * stalls, or loses the link? An exchange may ride if all of it lies in memory and it is nothing but plain reads by what the origin's catalog says: then
 * it leaves nothing behind, waits for nobody, and can be asked twice.
 *
 * While it rides a session holds nothing: `link` says where its exchanges are, `inflight` how many. What it has asked is kept until it is answered, so
 * that it can be asked again elsewhere.
 */
#include "postgres.h"

#include "host/analyze.h"

#include "client/session_internal.h"

#define RIDE_MAX_LEN	8192	/* a longer exchange has a link to itself */
#define RIDE_MAX_ASKED	65536	/* more is not kept of a session that pipelines */
#define MOVES_MAX		2		/* whoever was moved so often has a link to himself */

/* ---- may it? ---- */

typedef enum RideVerdict
{
	RIDE_NO,
	RIDE_MORE,					/* maybe, when the rest has come */
	RIDE_UNPROVEN,				/* maybe, when more is known of the catalog */
	RIDE_YES
} RideVerdict;

typedef struct RideScan			/* of the messages of one exchange */
{
	size_t		len;
	Digest128	digest;			/* of the statement whose pace counts */
	bool		paced;
	bool		blind;			/* nothing that is known of the catalog counts now: nothing is proved */
	bool		unproven;		/* what reads like a plain read is not known to be one */
	bool		begins_bound;	/* binds what an earlier exchange has parsed */
	bool		uses_unnamed;	/* and that has no name */
	bool		drops_unnamed;	/* another is unnamed behind it, or none */
	bool		parses;
	bool		flushed;
	uint32		executes;
	Bytes		parsed_name;
	Statement  *parsed;			/* a reference */
} RideScan;

static bool
proves_plain_read(const Proof *proof)
{
	return proof && proof->clean && !proof->dirties && proof->writes == WRITES_NOTHING;
}

static bool
query_rides(ClientSession *s, const Frame *frame, RideScan *scan)
{
	Bytes		text;
	QueryFacts *facts;

	if (!message_read_query(frame->body, &text) || text.len > ANALYZE_MAX_TEXT)
		return false;
	facts = session_query_facts(s, text);
	scan->digest = facts->digest;
	scan->paced = true;
	scan->drops_unnamed = true;
	if (facts->kind != STATEMENT_READ || facts->gateway || facts->effects != EFFECT_NONE)
		return false;
	scan->unproven = scan->blind || !proves_plain_read(session_query_proof(s, text, facts));
	return true;
}

static bool
statement_rides(ClientSession *s, Statement *statement, RideScan *scan)
{
	const StatementFacts *facts;

	if (statement == NULL)
		return false;
	facts = analyze_facts(statement, s->safe_encoding);
	scan->digest = statement->digest;
	scan->paced = true;
	if (facts->kind != STATEMENT_READ || session_effects_of(s, statement) != EFFECT_NONE)
		return false;
	scan->unproven |= scan->blind || !proves_plain_read(session_statement_proof(s, statement));
	return true;
}

static void
forget_parsed(RideScan *scan)
{
	if (scan->parsed)
		statement_unref(pools_statements(), scan->parsed);
	scan->parsed = NULL;
}

/*
 * A name that is taken or one too many goes by the ordinary route, where the origin says so. So does what takes the unnamed statement away that it has used: it could not be asked
 * again.
 */
static bool
parse_rides(ClientSession *s, const Frame *frame, RideScan *scan)
{
	ParseMessage m;
	bool		fresh;

	if (scan->parses || !message_read_parse(frame->body, &m) || m.text.len > ANALYZE_MAX_TEXT)
		return false;
	if (m.name.len > 0 && (names_get(&s->names, m.name) != NULL || s->names.count >= session_max_statements()))
		return false;
	if (m.name.len == 0 && scan->uses_unnamed)
		return false;
	scan->parses = true;
	scan->drops_unnamed = m.name.len == 0;
	scan->parsed_name = m.name;
	scan->parsed = statement_intern(pools_statements(), m.text, m.types, &fresh);
	return statement_rides(s, scan->parsed, scan);
}

static Statement *
statement_meant(const ClientSession *s, RideScan *scan, Bytes name)
{
	if (scan->parses && bytes_equal(name, scan->parsed_name))
		return scan->parsed;
	scan->begins_bound = true;
	scan->uses_unnamed |= name.len == 0;
	return name.len == 0 ? s->unnamed : names_get(&s->names, name);
}

static bool
bind_rides(ClientSession *s, const Frame *frame, RideScan *scan)
{
	BindMessage m;

	if (!message_read_bind(frame->body, &m))
		return false;
	return statement_rides(s, statement_meant(s, scan, m.statement), scan);
}

static bool
describe_rides(ClientSession *s, const Frame *frame, RideScan *scan)
{
	NamedMessage m;

	if (!message_read_named(frame->body, &m))
		return false;
	if (m.what == 'P')
		return true;
	return statement_rides(s, statement_meant(s, scan, m.name), scan);
}

/* Of a portal; what names of statements are taken away by is looked after by the ordinary route. */
static bool
close_rides(const Frame *frame)
{
	NamedMessage m;

	return message_read_named(frame->body, &m) && m.what == 'P';
}

static bool
message_rides(ClientSession *s, const Frame *frame, RideScan *scan)
{
	switch (frame->type)
	{
		case MSG_PARSE:
			return parse_rides(s, frame, scan);
		case MSG_BIND:
			return bind_rides(s, frame, scan);
		case MSG_DESCRIBE:
			return describe_rides(s, frame, scan);
		case MSG_EXECUTE:
			return ++scan->executes == 1;
		case MSG_CLOSE:
			return close_rides(frame);
		case MSG_FLUSH:
			scan->flushed = true;
			return true;
		default:
			return false;
	}
}

static RideVerdict
verdict_of(const RideScan *scan)
{
	if (!scan->paced)
		return RIDE_NO;
	return scan->unproven ? RIDE_UNPROVEN : RIDE_YES;
}

static RideVerdict
scan_exchange(ClientSession *s, Bytes in, RideScan *scan)
{
	FrameReader reader = {.side = FRAME_FROM_CLIENT};

	for (;;)
	{
		Frame		frame;
		FrameVerdict verdict = frame_next(&reader, bytes_of(in.data + scan->len, in.len - scan->len), SESSION_WHOLE_MAX, &frame);

		/* the client may wait for what it has flushed before it sends the rest */
		if (verdict == FRAME_MORE)
			return scan->flushed || in.len > RIDE_MAX_LEN ? RIDE_NO : RIDE_MORE;
		if (verdict != FRAME_WHOLE || (scan->len += frame.raw.len) > RIDE_MAX_LEN)
			return RIDE_NO;
		if (frame.type == MSG_SYNC)
			return verdict_of(scan);
		if (frame.type == MSG_QUERY && scan->len == frame.raw.len)
			return query_rides(s, &frame, scan) ? verdict_of(scan) : RIDE_NO;
		if (!message_rides(s, &frame, scan))
			return RIDE_NO;
	}
}

/* Who one is decides what one may do: such settings are waited for, and are nobody else's. */
static bool
may_share(ClientSession *s)
{
	return pool_shares(s->pool) && pool_mode(s->pool) != POOL_SESSION && !s->bound && !s->headless && !s->failed_transaction && s->begin == NULL && !s->alone && !s->closing &&
		!s->settings->refused && !session_settings_are_identity(s->settings);
}

static RideVerdict
look(ClientSession *s, Bytes in, RideScan *scan)
{
	RideVerdict verdict = RIDE_NO;

	memset(scan, 0, sizeof(*scan));
	if (may_share(s))
	{
		scan->blind = session_facts_state(s) != FACTS_FRESH;
		verdict = scan_exchange(s, in, scan);
	}
	forget_parsed(scan);
	return verdict;
}

static void
found(ClientSession *s, const RideScan *scan)
{
	s->waiter.digest = scan->digest;
	s->ride_left = scan->len;
	s->next_uses_unnamed = scan->uses_unnamed;
}

void
session_ride_look(ClientSession *s, Bytes in)
{
	RideScan	scan;
	RideVerdict verdict = look(s, in, &scan);

	s->waiter.rides = verdict == RIDE_YES;
	s->waiter.hopes = verdict == RIDE_UNPROVEN;
	found(s, &scan);
	if (verdict < RIDE_UNPROVEN)
		s->ride_left = 0;
}

void
session_ride_on_facts(PoolWaiter *waiter)
{
	ClientSession *s = (ClientSession *) ((char *) waiter - offsetof(ClientSession, waiter));

	session_ride_look(s, buffer_view(&s->in));
}

/*
 * Parses of an earlier exchange may fail, and what is bound in this one is then another thing. And all in flight may be asked again from the first on: what that needs must
 * be there still. Where rights or a pause are to be looked at all must have ended first.
 */
static bool
may_follow(ClientSession *s, const RideScan *scan)
{
	if (s->inflight == 0)
		return true;
	return s->risky == 0 && !s->rights_stale && !(scan->begins_bound && s->ride_parses) && !(scan->drops_unnamed && s->ride_uses_unnamed) && buffer_len(&s->asked) + scan->len <= RIDE_MAX_ASKED &&
		pool_may_follow(s->link, scan->digest);
}

bool
session_ride_on(ClientSession *s, Bytes in)
{
	RideScan	scan;
	RideVerdict verdict = look(s, in, &scan);

	if (verdict == RIDE_YES && may_follow(s, &scan))
	{
		found(s, &scan);
		return true;
	}
	if (s->inflight == 0)
		session_ride_over(s);	/* given a place, but what it has to ask by now is no ride */
	else if (verdict != RIDE_MORE)
		s->holding_messages = true;
	return s->inflight == 0;
}

/* ---- on board ---- */

void
session_ride_begun(ClientSession *s)
{
	/* how quick it is, is worth knowing before it is known that it rides */
	s->tail->paced = (s->waiter.rides || s->waiter.hopes) && s->ride_left > 0;
	s->tail->digest = s->waiter.digest;
	if (!s->riding)
		return;
	s->ride_uses_unnamed |= s->next_uses_unnamed;
	pool_ride(s->tail, &s->waiter);
}

void
session_ride_over(ClientSession *s)
{
	OriginLink *link = s->link;

	/* the catalog may have moved since it was found to be a read: then it was counted as a write, and its end has not been seen */
	session_writes_lost(s);
	if (s->holding_link)
		link_hold_reading(link, false);
	s->holding_link = false;
	s->riding = false;
	s->ride_parses = false;
	s->ride_uses_unnamed = false;
	s->ride_left = 0;
	s->link = NULL;
	s->tail = NULL;
	s->inflight = 0;
	s->effects = 0;
	s->risky = 0;
	s->timed_out = s->cancelled = false;
	s->holding_messages = false;
	session_set_timer(s, 0);
	if (s->state == SESSION_RELAYING)
		session_set_state(s, SESSION_IDLE);
	pool_left(link);
}

/* Whatever of it is in flight is answered to nobody. */
void
session_ride_leave(ClientSession *s)
{
	OriginLink *link = s->link;
	bool		half_said = s->tail && s->tail->x.phase == EXCHANGE_OPEN;

	buffer_free(&s->parked);
	link_disown_all(link, s);
	session_ride_over(s);
	if (half_said)
		link_break_now(link);	/* the rest will not come, and those behind must not be its rest */
}

/* ---- asked again ---- */

/* The names that so much of what was asked has given; each was free before. */
static void
take_names_back(ClientSession *s, size_t len)
{
	FrameReader reader = {.side = FRAME_FROM_CLIENT};
	Bytes		asked = bytes_of(buffer_view(&s->asked).data, Min(len, buffer_len(&s->asked)));
	Frame		frame;

	while (frame_next(&reader, asked, SESSION_WHOLE_MAX, &frame) == FRAME_WHOLE)
	{
		ParseMessage m;
		Statement  *gone;

		asked = bytes_of(asked.data + frame.raw.len, asked.len - frame.raw.len);
		if (frame.type != MSG_PARSE || !message_read_parse(frame.body, &m) || m.name.len == 0)
			continue;
		gone = names_take(&s->names, m.name);
		if (gone)
			statement_unref(pools_statements(), gone);
	}
}

/* All that is asked and not answered is put back in front of what the client has sent since, and goes its whole way again. */
static void
ask_again(ClientSession *s)
{
	session_cache_abort(s);
	buffer_free(&s->parked);
	link_disown_all(s->link, s);
	take_names_back(s, buffer_len(&s->asked));
	if (!session_put_back_asked(s))
	{
		session_fatal(s, REFUSE_MEMORY, NULL);
		return;
	}
	/* who has said goodbye is asked again, too, and leaves when it is seen once more that nothing comes any more */
	if (s->state == SESSION_LEAVING)
		session_set_state(s, SESSION_RELAYING);
	session_ride_over(s);
	session_resume(s);
}

void
session_ride_moved(ClientSession *s)
{
	counter_add(s->counters, COUNT_MOVED, s->inflight);
	if (++s->moves >= MOVES_MAX)
		s->alone = true;
	if (s->state == SESSION_LEAVING)
		return;					/* it has said goodbye: what it asked may take its time */
	ask_again(s);
}

/*
 * A cancel is sent only while its own statement is the oldest on the link, so nothing of the answers of those behind it has come by then: they are parked until
 * they have ended, and whoever is hit by mistake is asked again. Not so what is longer than may be parked.
 */
bool
session_ride_parks(const ClientSession *s, const LinkExchange *e)
{
	return s->riding && !e->shown && !s->cancelled && !s->timed_out && link_is_stirred(s->link);
}

void
session_ride_park(ClientSession *s, LinkExchange *e, Bytes bytes)
{
	buffer_put(&s->parked, bytes.data, bytes.len);
	if (buffer_len(&s->parked) < (size_t) hyperpool_share_buffer * 1024)
		return;
	e->shown = true;
	session_ride_unpark(s);
}

void
session_ride_unpark(ClientSession *s)
{
	Bytes		parked = buffer_view(&s->parked);

	if (parked.len == 0 && !s->parked.failed)
		return;
	buffer_put(&s->out, parked.data, parked.len);
	s->out.failed |= s->parked.failed;
	buffer_free(&s->parked);
	session_flush(s);
}

/* A cancel that was meant for a neighbour. */
bool
session_ride_hit_by_stray(const ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	if (!session_ride_parks(s, e) || !bytes_equal_str(message_error_field(news->bytes, 'C'), "57014"))
		return false;
	e->muted = true;
	e->again = true;
	return true;
}

void
session_ride_again(ClientSession *s)
{
	counter_add(s->counters, COUNT_REPEATED, 1);
	ask_again(s);
}

/* One of its exchanges has ended, the oldest. */
void
session_ride_ended(ClientSession *s, const LinkExchange *e)
{
	session_ride_unpark(s);
	buffer_consume(&s->asked, Min(e->asked_len, buffer_len(&s->asked)));
}

/* ---- lost ---- */

void
session_ride_lost(ClientSession *s, LinkExchange *e, const LinkNews *news)
{
	if (s->cache && s->cache->exchange == e)
		session_cache_abort(s);
	if (news->cut)
	{
		/* half a message has gone out: nothing can follow it */
		session_close_after_flush(s);
		return;
	}
	if (session_may_repeat(s, e, news))
	{
		session_count_repeat(s, e->link);
		ask_again(s);
		return;
	}
	session_ride_unpark(s);
	session_put_loss(s, e, news);
	session_ride_ended(s, e);
	if (e == s->tail)
		s->tail = NULL;
	if (--s->inflight > 0)
		return;
	session_forget_asked(s);
	if (s->state == SESSION_LEAVING)
		session_close_after_flush(s);
	else
	{
		session_ride_over(s);
		session_resume(s);
	}
}

/* ---- cancelled ---- */

/*
 * The origin has not come to it, and need not: it is answered here. False: the origin is at it, and must be told. The answer it will give all the
 * same is dropped.
 */
bool
session_ride_cancel(ClientSession *s, Refusal refusal)
{
	LinkExchange *e = link_oldest_of(s->link, s);

	if (e == NULL || link_is_head(e))
		return false;
	if (s->cache && s->cache->exchange == e)
		session_cache_abort(s);
	link_disown(e);
	if (e == s->tail)
		s->tail = NULL;
	take_names_back(s, e->asked_len);
	session_ride_ended(s, e);
	message_put_refusal(&s->out, "ERROR", refusal, pool_origin_name(s->pool));
	message_put_ready(&s->out, TX_IDLE);
	session_flush(s);
	counter_add(s->counters, COUNT_REFUSED, 1);
	if (--s->inflight > 0)
	{
		/* the next one's time begins now, as if the origin had answered */
		s->answered_at = reactor_now(session_reactor);
		session_arm(s);
		return true;
	}
	s->holding_messages = false;
	session_forget_asked(s);
	session_quiet(s);
	session_resume(s);
	return true;
}

/* ---- its client does not read ---- */

/* May the link's reading be held until the client has taken more? Those behind go elsewhere first, once enough is parked. */
bool
session_ride_may_hold(ClientSession *s)
{
	LinkExchange *e = link_oldest_of(s->link, s);

	/* the answers that come are another's */
	if (e == NULL || !link_is_head(e))
		return false;
	if (link_is_last(s->link, s))
		return true;
	if (buffer_len(&s->out) < (size_t) hyperpool_share_buffer * 1024)
		return false;
	/* held before they look for another place, or it would be this one */
	link_hold_reading(s->link, true);
	link_move_others(s->link, s);
	return true;
}
