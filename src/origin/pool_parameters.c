/*
 * origin/pool_parameters.c - what the origin reports to a client of a settings vector.
 *
 * Remembered so that a login costs no trip to the origin. Owns a short list a pool, newest first, each holding its vector. Forgotten when
 * the pool's connection options change, the origin is restarted, or a link shows another server version.
 */
#include "postgres.h"

#include "origin/pool_internal.h"

static void
parameters_free(PoolParameters *p)
{
	buffer_free(&p->messages);
	settings_unref(pools.settings, p->vector);
	mem_free(p, sizeof(PoolParameters));
}

void
pool_parameters_clear(LinkPool *pool)
{
	while (pool->parameters != NULL)
	{
		PoolParameters *p = pool->parameters;

		pool->parameters = p->next;
		parameters_free(p);
	}
	mem_free_str(pool->server_version);
	pool->server_version = NULL;
}

/* Taken out of the list, or NULL. */
static PoolParameters *
parameters_take(LinkPool *pool, const SettingsVector *vector)
{
	for (PoolParameters **at = &pool->parameters; *at != NULL; at = &(*at)->next)
	{
		PoolParameters *p = *at;

		if (p->vector != vector)
			continue;
		*at = p->next;
		return p;
	}
	return NULL;
}

static void
parameters_put(LinkPool *pool, PoolParameters *p)
{
	p->next = pool->parameters;
	pool->parameters = p;
}

/* A vector used again moves to the front, so the list ends with the ones nobody asks for. */
const ByteBuffer *
pool_parameters(LinkPool *pool, const SettingsVector *vector)
{
	PoolParameters *p = parameters_take(pool, vector);

	if (p == NULL)
		return NULL;
	parameters_put(pool, p);
	return &p->messages;
}

static void
parameters_drop_oldest(LinkPool *pool)
{
	PoolParameters **at = &pool->parameters;

	for (int i = 0; *at != NULL && i < POOL_MAX_PARAMETERS; i++)
		at = &(*at)->next;
	while (*at != NULL)
	{
		PoolParameters *p = *at;

		*at = p->next;
		parameters_free(p);
	}
}

/* Another version of the origin (a failover, an upgrade): what was learnt may not hold. */
void
pool_parameters_see(LinkPool *pool, const OriginLink *link)
{
	const char *version = link_parameter(link, "server_version");

	if (version == NULL)
		return;
	if (pool->server_version != NULL && strcmp(pool->server_version, version) == 0)
		return;
	pool_parameters_clear(pool);
	pool->server_version = bytes_copy(bytes_str(version));
}

/* Without memory it stays unknown, and the next login asks again. */
void
pool_learn_parameters(LinkPool *pool, const SettingsVector *vector, OriginLink *link)
{
	PoolParameters *p;

	pool_parameters_see(pool, link);
	p = parameters_take(pool, vector);
	if (p != NULL)
		parameters_free(p);
	p = mem_zalloc(sizeof(PoolParameters));
	if (p == NULL)
		return;
	settings_ref(vector);
	p->vector = vector;
	link_put_parameters(link, &p->messages);
	if (p->messages.failed)
	{
		parameters_free(p);
		return;
	}
	parameters_put(pool, p);
	parameters_drop_oldest(pool);
}

const char *
pool_link_parameter(const LinkPool *pool, const char *name)
{
	static const PoolPlace open[] = {PLACE_IDLE, PLACE_BUSY, PLACE_SHARED};

	for (size_t i = 0; i < lengthof(open); i++)
	{
		const PoolLink *l = pool->lists[open[i]].head;

		if (l)
			return link_parameter(l->link, name);
	}
	return NULL;
}
