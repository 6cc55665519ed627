/*
 * origin/pool_config.c - the pool's copy of what the directory says of it.
 *
 * Owns the copies: numbers, connection options, the secret, and the list of roles whose credentials lead to this pool. A change of
 * anything a link is opened with is a new generation of the pool; a change of a number is not.
 * What may hold a secret is wiped when replaced. Keeps no pointer into the directory.
 */
#include "postgres.h"

#include "origin/pool_internal.h"

/* ---- strings that may be secrets ---- */

static void
secret_free(const char *s)
{
	size_t		len;

	if (s == NULL)
		return;
	len = strlen(s);
	explicit_bzero(unconstify(char *, s), len);
	mem_free(unconstify(char *, s), len + 1);
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* ---- what a link is opened with ---- */

static void
connection_free(PoolConnection *c)
{
	secret_free(c->user);
	secret_free(c->password);
	secret_free(c->sslpassword);
	for (int i = 0; i < c->noptions; i++)
	{
		secret_free(c->options[i].name);
		secret_free(c->options[i].value);
	}
	if (c->options != NULL)
		mem_free(c->options, c->noptions * sizeof(DirectoryOption));
	memset(c, 0, sizeof(PoolConnection));
}

static bool
connection_copy_options(PoolConnection *c, const DirectoryOrigin *origin)
{
	if (origin->noptions <= 0)
		return true;
	c->options = mem_zalloc(origin->noptions * sizeof(DirectoryOption));
	if (c->options == NULL)
		return false;
	c->noptions = origin->noptions;
	for (int i = 0; i < c->noptions; i++)
	{
		c->options[i].name = bytes_copy(bytes_str(origin->options[i].name));
		c->options[i].value = bytes_copy(bytes_str(origin->options[i].value));
		if (c->options[i].name == NULL || c->options[i].value == NULL)
			return false;
	}
	return true;
}

static bool
connection_copy(PoolConnection *c, const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	memset(c, 0, sizeof(PoolConnection));
	c->require_password = credential->require_password;
	c->pooled = origin->pooled;
	c->gateway = origin->gateway;
	c->user = bytes_copy(bytes_str(credential->user));
	if (credential->password != NULL)
		c->password = bytes_copy(bytes_str(credential->password));
	if (credential->sslpassword != NULL)
		c->sslpassword = bytes_copy(bytes_str(credential->sslpassword));
	if (c->user != NULL && (c->password != NULL) == (credential->password != NULL) &&
		(c->sslpassword != NULL) == (credential->sslpassword != NULL) &&
		connection_copy_options(c, origin))
		return true;
	connection_free(c);
	return false;
}

static bool
same_secret(const PoolConnection *c, const DirectoryCredential *credential)
{
	return same_text(c->user, credential->user) &&
		same_text(c->password, credential->password) &&
		same_text(c->sslpassword, credential->sslpassword) &&
		c->require_password == credential->require_password;
}

static bool
same_options(const PoolConnection *c, const DirectoryOrigin *origin)
{
	if (c->pooled != origin->pooled || c->gateway != origin->gateway || c->noptions != origin->noptions)
		return false;
	for (int i = 0; i < c->noptions; i++)
		if (!same_text(c->options[i].name, origin->options[i].name) ||
			!same_text(c->options[i].value, origin->options[i].value))
			return false;
	return true;
}

/* ---- the pool's own ---- */

bool
pool_config_matches(const LinkPool *pool, const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	return pool->origin_oid == origin->oid && !pool->dropped && !pool->orphan &&
		same_secret(&pool->connection, credential);
}

static void
pool_take_numbers(LinkPool *pool, const DirectoryOrigin *origin)
{
	pool->pool_size = Max(origin->pool_size, 1);
	pool->min_pool_size = Min(Max(origin->min_pool_size, 0), pool->pool_size);
	pool->mode = origin->pool_mode;
	if (pool->queue_timeout != origin->queue_timeout)
		reactor_clear_timer(pools.reactor, &pool->queue_timer);
	pool->queue_timeout = origin->queue_timeout;
	pool->idle_timeout = origin->idle_timeout;
	pool->max_lifetime = origin->max_lifetime;
	pool->query_timeout = origin->query_timeout;
	pool->cache = (PoolCache) {
		.on = origin->cache,
		.max_age = origin->max_age,
		.stale_for = origin->stale_while_revalidate,
		.if_error = origin->stale_if_error,
		.max_result_size = origin->max_result_size
	};
	pool->share = origin->share;
	pool->share_depth = (uint32) Max(origin->share_depth, 1);
	pool->idle_transaction_timeout = origin->idle_transaction_timeout;
	pool->connect_timeout = origin->connect_timeout;
}

/* An origin may be renamed. Its links have been given the former name, so that stays as long as the pool. */
bool
pool_config_take_name(LinkPool *pool, const char *name)
{
	PoolName   *fresh;

	if (pool->names != NULL && same_text(pool->names->text, name))
		return true;
	fresh = mem_zalloc(sizeof(PoolName));
	if (fresh == NULL)
		return false;
	fresh->text = bytes_copy(bytes_str(name));
	if (fresh->text == NULL)
	{
		mem_free(fresh, sizeof(PoolName));
		return false;
	}
	fresh->next = pool->names;
	pool->names = fresh;
	return true;
}

static void
pool_free_names(LinkPool *pool)
{
	while (pool->names != NULL)
	{
		PoolName   *name = pool->names;

		pool->names = name->next;
		mem_free_str(name->text);
		mem_free(name, sizeof(PoolName));
	}
}

/* The present values. False: no memory; then the old connection options stay. */
bool
pool_config_take(LinkPool *pool, const DirectoryOrigin *origin, const DirectoryCredential *credential)
{
	PoolConnection fresh;

	pool_take_numbers(pool, origin);
	if (!pool_config_take_name(pool, origin->name))
		return false;
	if (same_secret(&pool->connection, credential) && same_options(&pool->connection, origin))
		return true;
	if (!connection_copy(&fresh, origin, credential))
		return false;
	connection_free(&pool->connection);
	pool->connection = fresh;
	pool->generation++;
	pool->backoff = 0;
	pool->retry_at = 0;
	pool->addresses_asked = 0;
	pool_parameters_clear(pool);
	return true;
}

void
pool_config_free(LinkPool *pool)
{
	pool_free_names(pool);
	connection_free(&pool->connection);
	mem_free(pool->roles, pool->nroles * sizeof(Oid));
	pool->roles = NULL;
	pool->nroles = 0;
}

/* ---- whose credentials lead here ---- */

bool
pool_config_add_role(LinkPool *pool, Oid role)
{
	Oid		   *more;

	for (uint32 i = 0; i < pool->nroles; i++)
		if (pool->roles[i] == role)
			return true;
	more = mem_realloc(pool->roles, pool->nroles * sizeof(Oid), (pool->nroles + 1) * sizeof(Oid));
	if (more == NULL)
		return false;
	pool->roles = more;
	pool->roles[pool->nroles++] = role;
	return true;
}

/* The role's own credential (not public's in its stead) for the pool's user, or NULL. */
static const DirectoryCredential *
credential_of_role(const LinkPool *pool, Directory *directory, const DirectoryOrigin *origin, Oid role)
{
	const DirectoryCredential *credential = directory_credential(directory, origin, role);

	if (credential == NULL || credential->role != role || !same_text(credential->user, pool->connection.user))
		return NULL;
	return credential;
}

/*
 * The credential the pool goes on with: one that still has its secret, else one of the same user with a new
 * one, else NULL. Sessions of roles whose credential is another now find their own pool by pool_of.
 */
const DirectoryCredential *
pool_config_find(LinkPool *pool, Directory *directory, const DirectoryOrigin *origin)
{
	const DirectoryCredential *changed = NULL;

	for (uint32 i = 0; i < pool->nroles; i++)
	{
		const DirectoryCredential *credential = credential_of_role(pool, directory, origin, pool->roles[i]);

		if (credential == NULL)
			continue;
		if (same_secret(&pool->connection, credential))
			return credential;
		if (changed == NULL)
			changed = credential;
	}
	return changed;
}
