/*
 * origin/pool_open.c - links are opened, or cannot be.
 *
 * Answers: may another link be opened now, and with which of libpq's options? Owns the back-off and the last failure of a
 * pool. The scout resolves the host names: a link is given addresses, so that libpq never waits for a name server.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "origin/pool_internal.h"

#define OPEN_EXTRA_OPTIONS	14	/* what is added to the origin's own, and the final NULL */

typedef struct OpenOptions
{
	const char **keywords;
	const char **values;
	int			n;
	int			size;
} OpenOptions;

/* ---- failure and back-off ---- */

bool
pool_is_unreachable(const LinkPool *pool)
{
	return pool->retry_at > pools_now() && !pool->tries_again && pool_usable(pool) == 0 && pool_count(pool, PLACE_OPENING) == 0 &&
		pool_is_open(pool);
}

/* Links that fail together count as one failure: the pause doubles once. */
static void
pool_back_off(LinkPool *pool)
{
	int64		now = pools_now();

	if (pool->retry_at > now)
		return;
	pool->backoff = pool->backoff == 0 ? POOL_BACKOFF_MIN_US : Min(pool->backoff * 2, POOL_BACKOFF_MAX_US);
	pool->retry_at = now + pool->backoff;
}

static void
pool_want_addresses(const LinkPool *pool)
{
	directory_want_addresses(pool->slot);
	cancel_wake_scout();
}

void
pool_open_failed(LinkPool *pool, const char *sqlstate, const char *text)
{
	counter_add(pool->counters, COUNT_LINKS_FAILED, 1);
	strlcpy(pool->failure_state, sqlstate, sizeof(pool->failure_state));
	strlcpy(pool->failure, text, sizeof(pool->failure));
	pool->addresses_asked = 0;
	pool_back_off(pool);
	pool_want_addresses(pool);
}

/*
 * A link that was in use has broken: whoever waits, or comes to wait because of it, waits for one that is opened since. What has broken it may have broken those
 * that are just being opened as well, and that is no answer to whether the origin can be reached now.
 */
void
pool_link_lost(LinkPool *pool)
{
	pool->lost_at = pools_now();
	pool->retry_at = Min(pool->retry_at, pool->lost_at + POOL_BACKOFF_MIN_US);
	pool->tries_again = true;
}

/* May another place answer? Each gets its part of connect_timeout, so that all have been tried when that is over; then those who wait are told. */
bool
pool_tries_again(LinkPool *pool, const PoolLink *l)
{
	int64		now = pools_now();

	if (!link_hung(l->link))
	{
		pool->hung_since = 0;
		if (l->opened_at <= pool->lost_at)
			return true;
		return pool->backoff == 0 && now - l->opened_at < SECOND_US;
	}
	if (pool->hung_since == 0)
		pool->hung_since = l->opened_at;
	if (now - pool->hung_since >= pool->connect_timeout)
	{
		pool->hung_since = 0;
		return false;
	}
	pool->backoff = 0;
	return true;
}

void
pool_opened(PoolLink *l)
{
	LinkPool   *pool = l->pool;

	pool->backoff = 0;
	pool->hung_since = 0;
	pool->retry_at = 0;
	pool->tries_again = false;
	if (pool_usable(pool) == 0)
		pool->first_link_at = pools_now();
	/* what links of the old options may have reported since the change */
	if (l->generation == pool->generation && pool->parameters_generation != pool->generation)
	{
		pool_parameters_clear(pool);
		pool->parameters_generation = pool->generation;
	}
	pool_parameters_see(pool, l->link);
}

/* ---- addresses ---- */

/* They were never looked up (or the scout is slow): asked once a second, for as long as connecting may take. */
static void
pool_await_addresses(LinkPool *pool)
{
	int64		now = pools_now();

	if (pool->addresses_asked == 0)
		pool->addresses_asked = now;
	else if (pool->connect_timeout > 0 && now - pool->addresses_asked > pool->connect_timeout)
	{
		pool_open_failed(pool, "08001", "the host name of the origin was not resolved within connect_timeout");
		return;
	}
	if ((now - pool->addresses_asked) % SECOND_US < POOL_RETRY_US)
		pool_want_addresses(pool);
}

static bool
pool_find_addresses(LinkPool *pool, DirectoryAddresses *addresses, int *places)
{
	*places = directory_places_to_try(pool->slot, addresses);
	if (addresses->hosts[0] != '\0' || addresses->hostaddrs[0] != '\0')
	{
		pool->addresses_asked = 0;
		return true;
	}
	if (addresses->failed)
		pool_open_failed(pool, "08001", addresses->error);
	else
		pool_await_addresses(pool);
	return false;
}

/* ---- libpq's options ---- */

static void
options_put(OpenOptions *o, const char *keyword, const char *value)
{
	if (value == NULL || value[0] == '\0' || o->n >= o->size - 1)
		return;
	o->keywords[o->n] = keyword;
	o->values[o->n] = value;
	o->n++;
}

static bool
options_have(const OpenOptions *o, const char *keyword)
{
	for (int i = 0; i < o->n; i++)
		if (strcmp(o->keywords[i], keyword) == 0)
			return true;
	return false;
}

static void
options_default(OpenOptions *o, const char *keyword, const char *value)
{
	if (!options_have(o, keyword))
		options_put(o, keyword, value);
}

/* Replaced by the addresses and the credential, or done by us. */
static bool
option_is_ours(const char *keyword)
{
	static const char *const ours[] = {"host", "hostaddr", "port", "user", "password", "sslpassword", "connect_timeout"};

	for (size_t i = 0; i < lengthof(ours); i++)
		if (strcmp(keyword, ours[i]) == 0)
			return true;
	return false;
}

static void
options_fill(OpenOptions *o, const PoolConnection *c, const DirectoryAddresses *addresses)
{
	options_put(o, "host", addresses->hosts);
	options_put(o, "hostaddr", addresses->hostaddrs);
	options_put(o, "port", addresses->ports);
	options_put(o, "user", c->user);
	options_put(o, "password", c->password);
	options_put(o, "sslpassword", c->sslpassword);
	for (int i = 0; i < c->noptions; i++)
		if (!option_is_ours(c->options[i].name))
			options_put(o, c->options[i].name, c->options[i].value);
	options_default(o, "application_name", "hyperpool");
	options_default(o, "gssencmode", "disable");
	/* a link whose network has died in silence shall not lie there for the system's two hours */
	options_default(o, "keepalives_idle", "60");
	options_default(o, "keepalives_interval", "15");
	options_default(o, "keepalives_count", "4");
	/* no file: the password file of the server's own account is not for the users of its credentials */
	options_default(o, "passfile", "/dev/null/none");
	/* nor is its certificate, for credentials that were not set by a superuser */
	if (c->require_password)
		options_default(o, "sslcert", "/dev/null/none");
}

static bool
options_make(OpenOptions *o, const PoolConnection *c)
{
	o->n = 0;
	o->size = c->noptions + OPEN_EXTRA_OPTIONS;
	o->keywords = mem_zalloc(o->size * sizeof(char *));
	o->values = mem_zalloc(o->size * sizeof(char *));
	return o->keywords != NULL && o->values != NULL;
}

static void
options_free(OpenOptions *o)
{
	mem_free(o->keywords, o->size * sizeof(char *));
	mem_free(o->values, o->size * sizeof(char *));
}

/* ---- opening ---- */

/* A single place may take as long as all. */
static int64
part_of_timeout(const LinkPool *pool, int places)
{
	return pool->connect_timeout / Max(places, 1);
}

static void
target_fill(LinkTarget *t, LinkPool *pool, PoolLink *l, const OpenOptions *o, int places)
{
	memset(t, 0, sizeof(LinkTarget));
	t->worker = pools.worker;
	t->origin_slot = pool->slot;
	t->pool_row = pool->row;
	t->origin_name = pool->names->text;
	t->keywords = o->keywords;
	t->values = o->values;
	t->require_password = pool->connection.require_password;
	t->pooled = pool->connection.pooled;
	t->gateway = pool->connection.gateway;
	t->connect_timeout = part_of_timeout(pool, places);
	t->max_statements = Max(hyperpool_max_prepared_statements, 1);
	t->statements = pools.statements;
	t->settings = pools.settings;
	t->empty = pools.empty;
	t->counters = pool->counters;
	t->on_ready = pool_on_ready;
	t->on_room = pool_on_room;
	t->on_stuck = pool_on_stuck;
	t->pool = l;
}

static PoolLink *
pool_link_make(LinkPool *pool)
{
	PoolLink   *l = mem_zalloc(sizeof(PoolLink));

	if (l == NULL)
		return NULL;
	l->pool = pool;
	l->place = PLACE_GONE;
	l->generation = pool->generation;
	l->opened_at = pools_now();
	l->jitter = (int16) (pg_prng_uint64_range(&pg_global_prng_state, 0, 200)) - 100;
	return l;
}

/* The link begins to connect. If it cannot, that is told by on_ready later. False: there is none. */
static bool
pool_begin_link(LinkPool *pool, const DirectoryAddresses *addresses, int places)
{
	PoolLink   *l = pool_link_make(pool);
	OpenOptions options;
	LinkTarget	target;
	OriginLink *link = NULL;

	if (l == NULL)
		return false;
	if (options_make(&options, &pool->connection))
	{
		options_fill(&options, &pool->connection, addresses);
		target_fill(&target, pool, l, &options, places);
		link_place_set(l, PLACE_OPENING);
		link = link_open(&target);
	}
	options_free(&options);
	if (link != NULL)
	{
		l->link = link;
		return true;
	}
	link_place_set(l, PLACE_GONE);
	mem_free(l, sizeof(PoolLink));
	return false;
}

/* Without one libpq looks into a password file that a superuser has named for the origin: any user of it could be chosen by a credential. */
static bool
pool_lacks_password(const LinkPool *pool)
{
	const PoolConnection *c = &pool->connection;

	return c->require_password && (c->password == NULL || c->password[0] == '\0');
}

/* False: not now. */
static bool
pool_open_link(LinkPool *pool)
{
	DirectoryAddresses addresses;
	int			places;

	if (!pool_may_take_room(pool))
		return false;
	if (pool_lacks_password(pool))
	{
		pool_open_failed(pool, "2F003", "the credential has no password, and was not set by a superuser");
		return false;
	}
	if (!pool_find_addresses(pool, &addresses, &places))
		return false;
	if (!pool_row_take_link(pool->row, pools.worker, pool->pool_size))
		return false;
	if (pool_begin_link(pool, &addresses, places))
		return true;
	pool_row_give_link(pool->row, pools.worker);
	pool_open_failed(pool, "53300", link_open_error());
	return false;
}

static bool
pool_may_open(const LinkPool *pool)
{
	return pool_is_open(pool) && pool->retry_at <= pools_now() &&
		pool_count(pool, PLACE_OPENING) < POOL_MAX_OPENING;
}

void
pool_open_for_waiters(LinkPool *pool)
{
	while (pool_count(pool, PLACE_OPENING) < pool->waiting && pool_count(pool, PLACE_IDLE) == 0 && pool_may_open(pool))
		if (!pool_open_link(pool))
		{
			if (pool_usable(pool) + pool_count(pool, PLACE_OPENING) == 0)
				pool_ask_siblings(pool);
			return;
		}
}

/* Shared links are as full as they should be: one more, while those go on. */
void
pool_open_for_riders(LinkPool *pool)
{
	if (pool_count(pool, PLACE_OPENING) == 0 && pool_may_open(pool))
		(void) pool_open_link(pool);
}

/* Worker 0 keeps the minimum for all. */
void
pool_open_minimum(LinkPool *pool)
{
	if (pools.worker != 0 || pools.draining)
		return;
	while (pool_usable(pool) + pool_count(pool, PLACE_OPENING) < (uint32) pool->min_pool_size && pool_may_open(pool))
		if (!pool_open_link(pool))
			return;
}
