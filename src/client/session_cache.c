/*
 * client/session_cache.c - answers from the cache, and into it.
 *
 * A request for rows that lies complete in memory, outside a transaction, with nothing of its session unanswered, is looked up before a link is thought of. A hit is
 * put into s->out. A miss is asked of the origin by the ordinary route and recorded on its way back (client/reply). Who finds that another client is asking the same
 * waits for it (JOINED), then looks again: so an answer is only ever given under the versions that hold when it is given.
 *
 * Owns a session's dealings with the cache (SessionCache) and the list of those who have joined a flight.
 */
#include "postgres.h"

#include "host/analyze.h"
#include "host/cancel.h"
#include "host/querystats.h"

#include "client/session_internal.h"

static ClientSession *joined;	/* of this worker */
static bool flight_ended;		/* since they were looked at */

/* ---- one's dealings ---- */

static SessionCache *
dealings(ClientSession *s)
{
	if (s->cache == NULL)
		s->cache = mem_zalloc(sizeof(SessionCache));
	return s->cache;
}

static void
forget_dealings(ClientSession *s)
{
	if (s->cache)
		mem_free(s->cache, sizeof(SessionCache));
	s->cache = NULL;
}

static void
leave_flight(ClientSession *s)
{
	if (s->cache == NULL || s->cache->flight == 0)
		return;
	s->cache->flight = 0;
	session_set_timer(s, 0);
	if (s->next_joined)
		s->next_joined->prev_joined = s->prev_joined;
	if (s->prev_joined)
		s->prev_joined->next_joined = s->next_joined;
	else
		joined = s->next_joined;
	s->next_joined = s->prev_joined = NULL;
}

void
session_cache_abort(ClientSession *s)
{
	if (s->cache == NULL)
		return;
	leave_flight(s);
	recording_abort(session_worker, &s->cache->recording);
	/* REPLAYING, or was until a moment ago (session_close_after_flush); without a hit this does nothing */
	store_release(session_worker, &s->cache->hit);
	forget_dealings(s);
}

/* ---- may it? ---- */

CacheReason
session_cache_reason(const ClientSession *s, const Proof *proof, const TextHints *hints)
{
	FactsState	state;

	if (!store_enabled())
		return REASON_NO_MEMORY;
	if (proof == NULL)
		return REASON_NOT_PARSED;
	/* what the text itself says comes first: a write is a write whatever is switched off */
	if (proof->reason == REASON_NOT_A_READ || proof->reason == REASON_SEVERAL || proof->reason == REASON_NOT_PARSED)
		return proof->reason;
	if (s->cache_choice == CACHE_BY_SESSION_OFF)
		return REASON_DISABLED_SESSION;
	if (!pool_cache(s->pool)->on && s->cache_choice != CACHE_BY_SESSION_ON)
		return REASON_DISABLED;
	if (hints && hints->cache_off)
		return REASON_DISABLED_HINT;
	state = session_facts_state(s);
	if (proof->reason == REASON_CACHEABLE && state != FACTS_FRESH && state != FACTS_DOWN)
		return REASON_FACTS_UNKNOWN;
	return proof->reason;
}

/* ---- whose ---- */

/* What a client may set without changing a byte of any answer. */
static bool
is_indifferent(const char *setting)
{
	static const char *const names[] = {
		"application_name", "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout", "statement_timeout", "transaction_timeout"
	};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (strcmp(setting, names[i]) == 0)
			return true;
	}
	return false;
}

static void
put_part(ByteBuffer *b, const char *part)
{
	buffer_put_cstr(b, bytes_str(part));
}

/* Everything but the request itself that an answer depends on. 0: not known, or no memory. */
static uint32
session_scope(ClientSession *s)
{
	static ByteBuffer bytes;
	uint64		directory = session_directory ? directory_generation(session_directory) : 0;
	const DirectoryOrigin *origin;
	FactsIdentity id;

	if (s->scope != 0 && s->scope_settings == s->settings->id && s->scope_directory == directory)
		return s->scope;
	origin = session_directory ? directory_origin_by_oid(session_directory, pool_origin_oid(s->pool)) : NULL;
	if (origin == NULL || !facts_identity(pool_origin_slot(s->pool), origin->oid, &id))
		return 0;
	buffer_consume(&bytes, buffer_len(&bytes));
	buffer_put(&bytes, &id.system, sizeof(id.system));
	buffer_put(&bytes, &id.database, sizeof(id.database));
	buffer_put(&bytes, &origin->oid, sizeof(origin->oid));
	buffer_put(&bytes, &origin->generation, sizeof(origin->generation));
	put_part(&bytes, pool_user(s->pool));
	for (uint32 i = 0; i < s->settings->count; i++)
	{
		const Setting *setting = &s->settings->settings[i];

		if (is_indifferent(setting->name))
			continue;
		put_part(&bytes, setting->name);
		put_part(&bytes, setting->value);
	}
	if (bytes.failed)
	{
		buffer_free(&bytes);
		return 0;
	}
	s->scope = store_scope(s->role, buffer_view(&bytes));
	s->scope_settings = s->settings->id;
	s->scope_directory = directory;
	return s->scope;
}

/* ---- looking up ---- */

static Bytes
make_key(ClientSession *s, CacheForm form, Bytes text, Bytes types, const BindValues *bind, uint32 max_rows)
{
	static ByteBuffer key;
	uint32		scope = session_scope(s);

	key.start = key.end = 0;
	if (scope == 0 || !cachekey_make(&key, scope, form, text, types, bind, max_rows))
	{
		key.failed = false;
		return bytes_of("", 0);
	}
	return buffer_view(&key);
}

static void
set_ages(const ClientSession *s, const CacheRequest *request, StoreRequest *store)
{
	const PoolCache *options = pool_cache(s->pool);

	store->max_age = options->max_age;
	store->stale_for = options->stale_for;
	if (request->proof->max_age >= 0)
		store->max_age = request->proof->max_age;
	/* who says for himself how old an answer may be does not want an older one */
	if (s->max_age >= 0 || request->hints.max_age >= 0)
	{
		store->max_age = request->hints.max_age >= 0 ? request->hints.max_age : s->max_age;
		store->stale_for = 0;
	}
	store->if_error = session_facts_state(s) == FACTS_DOWN ? options->if_error : 0;
}

/* ---- a hit ---- */

static void
count_hit(ClientSession *s, const CacheRequest *request, const StoreHit *hit)
{
	counter_add(s->counters, COUNT_EXCHANGES, 1);
	counter_add(s->counters, COUNT_CACHE_HIT, 1);
	counter_add(s->counters, COUNT_CACHE_SAVED_US, hit->cost);
	if (s->row)
		s->row->exchanges++;
	querystats_hit(request->stats_row, hit->cost);
}

static void
put_ends(ClientSession *s, uint32 closes)
{
	while (closes-- > 0)
		message_put_empty(&s->out, ANS_CLOSE_COMPLETE);
	message_put_ready(&s->out, TX_IDLE);
	session_flush(s);
}

static LocalVerdict
replay(ClientSession *s, const CacheRequest *request, StoreHit *hit)
{
	bool		with_head = request->bind == NULL || request->describe;
	uint32		skipped = 0;
	SessionCache *cache;

	count_hit(s, request, hit);
	s->joined_once = false;
	if (request->parse)
		message_put_empty(&s->out, ANS_PARSE_COMPLETE);
	if (request->bind)
		message_put_empty(&s->out, ANS_BIND_COMPLETE);
	if (reply_put(hit, with_head, &skipped, &s->out, session_high_water()))
	{
		store_release(session_worker, hit);
		put_ends(s, request->closes);
		return LOCAL_DONE;
	}
	cache = dealings(s);
	if (cache == NULL)
	{
		store_release(session_worker, hit);
		session_fatal(s, REFUSE_MEMORY, NULL);
		return LOCAL_GONE;
	}
	cache->hit = *hit;
	cache->with_head = with_head;
	cache->skipped = skipped;
	cache->closes = request->closes;
	session_set_state(s, SESSION_REPLAYING);
	session_flush(s);
	return LOCAL_HELD;
}

void
session_cache_go_on(ClientSession *s)
{
	SessionCache *cache = s->cache;

	if (!reply_put(&cache->hit, cache->with_head, &cache->skipped, &s->out, SESSION_HIGH_WATER))
	{
		session_flush(s);
		return;
	}
	store_release(session_worker, &cache->hit);
	put_ends(s, cache->closes);
	forget_dealings(s);
	session_set_state(s, SESSION_IDLE);
	session_resume(s);
}

/* ---- asking the origin ---- */

/*
 * The flight has taken its versions. If DDL was settled just before, they are those of after, but the request was proved by what was known before: the suspicion
 * comes first, so it is seen here.
 */
static bool
proof_holds_still(const ClientSession *s, const CacheRequest *request)
{
	return session_facts_state(s) == FACTS_FRESH && session_proof_is_current(s, request->proof);
}

static bool
start_recording(ClientSession *s, const CacheRequest *request, const StoreFill *fill)
{
	StoreFill	mine = *fill;
	SessionCache *cache = proof_holds_still(s, request) ? dealings(s) : NULL;

	if (cache == NULL)
	{
		store_abort(session_worker, &mine);
		return false;
	}
	recording_begin(&cache->recording, fill, request->bind != NULL, request->max_rows > 0, pool_cache(s->pool)->max_result_size);
	cache->exchange = NULL;
	cache->describe = request->bind != NULL && !request->describe;
	return true;
}

/* Asks the same by a session without a client; the answer goes into the cache alone. */
static void
refresh(ClientSession *s, const CacheRequest *request, const StoreFill *fill)
{
	StoreFill	mine = *fill;
	ClientSession *r = session_make_headless(s);
	CacheRequest described = *request;

	if (r == NULL)
	{
		store_abort(session_worker, &mine);
		return;
	}
	described.describe = true;
	if (!start_recording(r, &described, fill))
	{
		session_close(r);
		return;
	}
	counter_add(s->counters, COUNT_CACHE_REFRESHED, 1);
	if (request->bind == NULL)
		message_put_query(&r->in, request->text);
	else
	{
		message_put_parse(&r->in, bytes_of("", 0), request->text, request->types);
		message_put_bind_head(&r->in, bytes_of("", 0), bytes_of("", 0), request->bind_rest.len);
		buffer_put(&r->in, request->bind_rest.data, request->bind_rest.len);
		message_put_named(&r->in, MSG_DESCRIBE, 'P', bytes_of("", 0));
		message_put_execute(&r->in, bytes_of("", 0), request->max_rows);
		message_put_empty(&r->in, MSG_SYNC);
	}
	if (r->in.failed)
		session_close(r);
	else
		session_resume(r);
}

#define JOINED_LOOK		INT64CONST(1000000)	/* how often who waits looks whether its flight stands still; microseconds */

static LocalVerdict
join(ClientSession *s, uint32 flight)
{
	SessionCache *cache = dealings(s);

	if (cache == NULL)
		return LOCAL_FORWARD;
	counter_add(s->counters, COUNT_CACHE_JOINED, 1);
	cache->flight = flight;
	s->joined_once = true;
	s->next_joined = joined;
	if (joined)
		joined->prev_joined = s;
	joined = s;
	store_join(session_worker, flight);
	session_set_state(s, SESSION_JOINED);
	session_set_timer(s, JOINED_LOOK);
	/* it may have ended before we had said that we wait */
	if (store_flight_over(flight))
		flight_ended = true;
	return LOCAL_HELD;
}

/* ---- the lookup ---- */

LocalVerdict
session_cache_answer(ClientSession *s, const CacheRequest *request, bool *taken)
{
	StoreRequest store = {.worker = session_worker, .origin_slot = pool_origin_slot(s->pool), .origin = pool_origin_oid(s->pool)};
	Bytes		key = make_key(s, CACHE_ROWS, request->text, request->types, request->bind, request->max_rows);
	StoreHit	hit;
	StoreFill	fill;
	uint32		flight;

	*taken = false;
	if (key.len == 0)
	{
		s->reason = s->scope == 0 ? REASON_FACTS_UNKNOWN : REASON_OVERSIZED_QUERY;
		return LOCAL_FORWARD;
	}
	store.key = key;
	store.digest = digest_of(key);
	store.slots = request->proof->reads;
	store.nslots = request->proof->nreads;
	store.now = reactor_now(session_reactor);
	store.may_fill = session_facts_state(s) == FACTS_FRESH;
	store.may_join = !s->joined_once;
	set_ages(s, request, &store);
	s->reason = REASON_CACHEABLE;
	switch (store_lookup(&store, &hit, &fill, &flight))
	{
		case STORE_HIT_REFRESH:
			refresh(s, request, &fill);
			/* FALLTHROUGH */
		case STORE_HIT:
			if (request->told && request->told->known && request->told->rows != hit.shape)
			{
				/* the client would read these rows by another description: the origin shall say what has happened */
				store_release(session_worker, &hit);
				return LOCAL_FORWARD;
			}
			*taken = true;
			return replay(s, request, &hit);
		case STORE_MISS:
			(void) start_recording(s, request, &fill);
			return LOCAL_FORWARD;
		case STORE_JOIN:
			if (!store_flight_held(flight))
				return join(s, flight);
			break;
		case STORE_ALONE:
			break;
	}
	s->reason = REASON_WRITES_IN_FLIGHT;
	return LOCAL_FORWARD;
}

/* ---- recording ---- */

void
session_cache_begun(ClientSession *s)
{
	s->joined_once = false;
	if (s->cache && s->cache->exchange == NULL && recording_on(&s->cache->recording))
		s->cache->exchange = s->tail;
}

static Recording *
recording_of(ClientSession *s, const LinkExchange *e)
{
	return s->cache && s->cache->exchange == e && recording_on(&s->cache->recording) ? &s->cache->recording : NULL;
}

bool
session_cache_wants_head(const ClientSession *s)
{
	return s->cache && s->cache->exchange == s->tail && s->cache->describe && recording_on(&s->cache->recording);
}

void
session_cache_bytes(ClientSession *s, LinkExchange *e, Bytes bytes)
{
	Recording  *r = recording_of(s, e);

	if (r)
		recording_feed(session_worker, r, bytes);
}

void
session_cache_swallowed(ClientSession *s, LinkExchange *e, Bytes body)
{
	Recording  *r = recording_of(s, e);

	if (r)
		recording_head(session_worker, r, body);
}

static bool
is_standby(const ClientSession *s)
{
	const char *value = s->link ? link_parameter(s->link, "in_hot_standby") : NULL;

	return value && strcmp(value, "on") == 0;
}

static const Counter counter_of_status[CACHE_STATUS_LIMIT] = {
	[CACHE_DISABLED] = COUNT_CACHE_DISABLED,
	[CACHE_HIT] = COUNT_CACHE_HIT,
	[CACHE_MISS] = COUNT_CACHE_MISS,
	[CACHE_UNCACHEABLE] = COUNT_CACHE_UNCACHEABLE,
	[CACHE_MULTIPLE_STATEMENTS] = COUNT_CACHE_MULTIPLE_STATEMENTS,
	[CACHE_NOT_A_QUERY] = COUNT_CACHE_NOT_A_QUERY,
	[CACHE_OVERSIZED_QUERY] = COUNT_CACHE_OVERSIZED_QUERY,
	[CACHE_OVERSIZED_RESULT] = COUNT_CACHE_OVERSIZED_RESULT,
	[CACHE_PARSE_ERROR] = COUNT_CACHE_PARSE_ERROR,
	[CACHE_TRANSACTION] = COUNT_CACHE_TRANSACTION,
	[CACHE_VOLATILE] = COUNT_CACHE_VOLATILE,
};

static CacheStatus
status_of(CacheReason reason)
{
	return reason == REASON_CACHEABLE || reason == REASON_WRITES_IN_FLIGHT ? CACHE_MISS : reason_status(reason);
}

void
session_cache_count(ClientSession *s, CacheReason reason, int32 stats_row, int64 took)
{
	counter_add(s->counters, counter_of_status[status_of(reason)], 1);
	querystats_asked(stats_row, reason, took);
}

void
session_cache_ended(ClientSession *s, LinkExchange *e)
{
	int64		took = reactor_now(session_reactor) - e->asked_at;
	CacheReason reason = e->reason;

	if (s->cache && s->cache->exchange == e)
	{
		Recording  *r = &s->cache->recording;
		bool		well = !e->failed && !e->muted && e->x.status == TX_IDLE && !is_standby(s);

		if (is_standby(s))
			reason = REASON_STANDBY;
		/* as old as the question */
		if (!recording_end(session_worker, r, well, Min(took, PG_UINT32_MAX), e->asked_at) && reason == REASON_CACHEABLE)
			reason = r->large ? REASON_OVERSIZED_RESULT : REASON_ANSWER;
		forget_dealings(s);
	}
	if (!e->runs || s->headless)
		return;
	session_cache_count(s, reason, e->stats_row, took);
	if (session_writes_flush(s))
		querystats_flushed(e->stats_row);
}

bool
session_cache_survives(const ClientSession *s)
{
	return s->cache && s->cache->exchange && s->cache->exchange == s->tail && recording_on(&s->cache->recording) && s->inflight == 1 &&
		s->tail->x.phase == EXCHANGE_CLOSED && !frame_inside(&s->reader);
}

/* ---- descriptions ---- */

static bool
ask_description(ClientSession *s, Statement *statement, StoreRequest *store)
{
	static uint32 slots[3];
	FactsIdentity id;

	/* whatever the client has said of results: what a statement looks like is compared before it is relied on */
	if (!store_enabled() || !pool_cache(s->pool)->on)
		return false;
	if (!facts_identity(pool_origin_slot(s->pool), pool_origin_oid(s->pool), &id))
		return false;
	store->key = make_key(s, CACHE_DESCRIPTION, statement_text(statement), statement_types(statement), NULL, 0);
	if (store->key.len == 0)
		return false;
	slots[0] = SLOT_GLOBAL;
	slots[1] = id.cluster_slot;
	slots[2] = id.catalog_slot;
	store->worker = session_worker;
	store->origin_slot = pool_origin_slot(s->pool);
	store->origin = pool_origin_oid(s->pool);
	store->digest = digest_of(store->key);
	store->slots = slots;
	store->nslots = lengthof(slots);
	store->now = reactor_now(session_reactor);
	store->max_age = PG_INT64_MAX / 4;
	return true;
}

/*
 * A description that is too old is never believed: what a statement looks like on a link is compared with what its client was told, and the rows of an
 * entry too.
 */
bool
session_cache_describes(ClientSession *s, Statement *statement, ByteBuffer *out)
{
	StoreRequest store = {0};
	StoreHit	hit;
	StoreFill	fill;
	uint32		flight;
	uint32		skipped = 0;
	FactsState	state = session_facts_state(s);

	if ((state != FACTS_FRESH && state != FACTS_DOWN) || !ask_description(s, statement, &store) ||
		store_lookup(&store, &hit, &fill, &flight) != STORE_HIT)
		return false;
	if (out)
		(void) reply_put(&hit, true, &skipped, out, BUFFER_LIMIT);
	store_release(session_worker, &hit);
	return true;
}

void
session_cache_begin_description(ClientSession *s, Statement *statement, StoreFill *fill)
{
	StoreRequest store = {0};
	StoreHit	hit;
	uint32		flight;
	const StatementFacts *facts = analyze_facts(statement, s->safe_encoding);

	memset(fill, 0, sizeof(*fill));
	if ((facts->kind != STATEMENT_READ && facts->kind != STATEMENT_WRITE) || session_facts_state(s) != FACTS_FRESH ||
		link_status(s->link) != TX_IDLE || s->bound || s->inflight != 1 || s->tail->runs || !ask_description(s, statement, &store))
		return;
	store.may_fill = true;
	switch (store_lookup(&store, &hit, fill, &flight))
	{
		case STORE_HIT:
			store_release(session_worker, &hit);
			break;
		case STORE_MISS:
			fill->max_len = 65536;
			return;
		default:
			break;
	}
	memset(fill, 0, sizeof(*fill));
}

void
session_cache_end_description(Bytes description, StoreFill *fill, int64 asked_at)
{
	int64		now = reactor_now(session_reactor);

	if (fill->flight == 0)
		return;
	if (description.len == 0)
		store_abort(session_worker, fill);
	else if (store_append(session_worker, fill, description))
		store_commit(session_worker, fill, 0, 0, Min(now - asked_at, PG_UINT32_MAX), now);
	memset(fill, 0, sizeof(*fill));
}

/* ---- who waits for another's answer ---- */

void
session_cache_hold(ClientSession *s, bool held)
{
	if (s->cache && recording_on(&s->cache->recording))
		store_hold(session_worker, &s->cache->recording.fill, held);
}

static void
go_on(ClientSession *s)
{
	leave_flight(s);
	forget_dealings(s);
	session_set_state(s, SESSION_IDLE);
	session_resume(s);
}

/* A client that does not read its answer does not keep others from theirs. */
void
session_cache_wait_on(ClientSession *s)
{
	if (store_flight_held(s->cache->flight))
		go_on(s);
	else
		session_set_timer(s, JOINED_LOOK);
}

/* The store calls it in whatever worker ends a flight, for each worker that waits. */
static void
wake(int worker)
{
	if (worker == session_worker)
		flight_ended = true;
	else
		cancel_wake_worker(worker);
}

void
session_cache_init(void)
{
	store_on_wake(wake);
}

/* latched: another process may have ended a flight. */
void
sessions_on_flights(bool latched)
{
	ClientSession *next;

	if (!latched && !flight_ended)
		return;
	flight_ended = false;
	for (ClientSession *s = joined; s; s = next)
	{
		next = s->next_joined;
		if (store_flight_over(s->cache->flight))
			go_on(s);
	}
}
