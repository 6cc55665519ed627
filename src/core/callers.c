/*
 * core/callers.c - from where do clients come, and how often were they wrong?
 *
 * A hash table with chains; who has no client any more stands in a list by the time of leaving, whose oldest make room. Who was never wrong
 * is forgotten at once, others a minute after the last time. Times are the caller's of these functions, in microseconds.
 */
#include "core/callers.h"

#define BUCKETS			1024u	/* a power of two */
#define FORGET_AFTER	INT64_C(60000000)
#define DOUBLINGS		4

struct Caller
{
	struct Caller *next;		/* in its bucket */
	struct Caller *younger;		/* in the list of those without a client */
	struct Caller *older;
	uint8_t		key[9];			/* family, then 4 or 8 bytes of the address */
	uint32_t	bucket;
	uint32_t	clients;
	uint32_t	failures;		/* lately */
	int64_t		failed_at;
};

struct CallerTable
{
	Caller	   *buckets[BUCKETS];
	Caller	   *youngest;		/* without a client */
	Caller	   *oldest;
	uint32_t	count;
	uint32_t	absent;			/* of them, without a client */
	uint32_t	remembered;
};

CallerTable *
callers_create(uint32_t remembered)
{
	CallerTable *table = mem_zalloc(sizeof(CallerTable));

	if (table != NULL)
		table->remembered = remembered;
	return table;
}

void
callers_destroy(CallerTable *table)
{
	if (table == NULL)
		return;
	for (uint32_t i = 0; i < BUCKETS; i++)
	{
		while (table->buckets[i] != NULL)
		{
			Caller	   *caller = table->buckets[i];

			table->buckets[i] = caller->next;
			mem_free(caller, sizeof(Caller));
		}
	}
	mem_free(table, sizeof(CallerTable));
}

uint32_t
callers_count(const CallerTable *table)
{
	return table->count;
}

/* ---- the list of those without a client ---- */

static void
list_put(CallerTable *table, Caller *caller)
{
	caller->younger = NULL;
	caller->older = table->youngest;
	if (table->youngest != NULL)
		table->youngest->younger = caller;
	else
		table->oldest = caller;
	table->youngest = caller;
	table->absent++;
}

static void
list_take(CallerTable *table, Caller *caller)
{
	if (caller->younger != NULL)
		caller->younger->older = caller->older;
	else
		table->youngest = caller->older;
	if (caller->older != NULL)
		caller->older->younger = caller->younger;
	else
		table->oldest = caller->younger;
	table->absent--;
}

/* ---- the table ---- */

static void
forget(CallerTable *table, Caller *caller)
{
	Caller	  **at = &table->buckets[caller->bucket];

	while (*at != caller)
		at = &(*at)->next;
	*at = caller->next;
	table->count--;
	mem_free(caller, sizeof(Caller));
}

static bool
is_past(const Caller *caller, int64_t now)
{
	return now - caller->failed_at > FORGET_AFTER;
}

/* Those who left first go first, when their time has come or there are too many. */
static void
forget_oldest(CallerTable *table, int64_t now)
{
	while (table->oldest != NULL && (table->absent > table->remembered || is_past(table->oldest, now)))
	{
		Caller	   *caller = table->oldest;

		list_take(table, caller);
		forget(table, caller);
	}
}

static void
key_of(uint8_t *key, uint8_t family, const uint8_t *address)
{
	memset(key, 0, sizeof(((Caller *) NULL)->key));
	key[0] = family;
	memcpy(key + 1, address, family == 4 ? 4 : 8);
}

static Caller *
find(const CallerTable *table, const uint8_t *key, uint32_t bucket)
{
	Caller	   *caller = table->buckets[bucket];

	while (caller != NULL && memcmp(caller->key, key, sizeof(caller->key)) != 0)
		caller = caller->next;
	return caller;
}

static Caller *
make(CallerTable *table, const uint8_t *key, uint32_t bucket)
{
	Caller	   *caller = mem_zalloc(sizeof(Caller));

	if (caller == NULL)
		return NULL;
	memcpy(caller->key, key, sizeof(caller->key));
	caller->bucket = bucket;
	caller->next = table->buckets[bucket];
	table->buckets[bucket] = caller;
	table->count++;
	return caller;
}

Caller *
callers_enter(CallerTable *table, uint8_t family, const uint8_t *address, uint32_t limit, int64_t now)
{
	uint8_t		key[sizeof(((Caller *) NULL)->key)];
	uint32_t	bucket;
	Caller	   *caller;

	forget_oldest(table, now);
	key_of(key, family, address);
	/* the digest has a key of its own: nobody can choose addresses that meet in one bucket */
	bucket = (uint32_t) digest_of(bytes_of(key, sizeof(key))).lo & (BUCKETS - 1);
	caller = find(table, key, bucket);
	if (caller != NULL && caller->clients == 0)
		list_take(table, caller);
	if (caller == NULL)
		caller = make(table, key, bucket);
	if (caller == NULL || (limit > 0 && caller->clients >= limit))
		return NULL;
	caller->clients++;
	return caller;
}

void
callers_leave(CallerTable *table, Caller *caller, int64_t now)
{
	if (--caller->clients > 0)
		return;
	if (caller->failures == 0 || is_past(caller, now))
		forget(table, caller);
	else
		list_put(table, caller);
	forget_oldest(table, now);
}

int64_t
callers_failed(Caller *caller, int64_t delay, int64_t now)
{
	uint32_t	before = is_past(caller, now) ? 0 : caller->failures;

	caller->failures = before < UINT32_MAX ? before + 1 : before;
	caller->failed_at = now;
	return delay << (before < DOUBLINGS ? before : DOUBLINGS);
}
