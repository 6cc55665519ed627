/*
 * test/bench/eviction.c - how often does core/eviction keep what is asked for next?
 *
 * Three kinds of traces with fixed seeds, each at several capacities: hit ratio of core/eviction, of plain LRU (least recently used), and of the offline
 * optimum (Belady: throws out what is asked for last in the future; no policy can do better). Entries have one size. Prints a
 * markdown table; the same on every machine.
 */
#include "core/eviction.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUESTS	1000000
#define KEYS		100000		/* that may be asked for again */
#define KEYS_MAX	(KEYS + REQUESTS)	/* and those of scans, asked for once */
#define NEVER		UINT32_MAX

static uint32_t trace[REQUESTS];	/* keys, from 1 */
static uint32_t next_use[REQUESTS];

/* ---- traces ---- */

static uint64_t random_state;

static uint64_t
random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static double
random_unit(void)
{
	return (double) (random_next() >> 11) / 9007199254740992.0;
}

static double cumulated[KEYS];

static void
zipf_prepare(double skew)
{
	double		sum = 0;

	for (int i = 0; i < KEYS; i++)
		cumulated[i] = sum += 1 / pow(i + 1, skew);
	for (int i = 0; i < KEYS; i++)
		cumulated[i] /= sum;
}

/* A rank, 0 the most popular. */
static uint32_t
zipf_next(void)
{
	double		at = random_unit();
	uint32_t	low = 0;
	uint32_t	high = KEYS - 1;

	while (low < high)
	{
		uint32_t	middle = (low + high) / 2;

		if (cumulated[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void
trace_zipf(double skew)
{
	zipf_prepare(skew);
	for (int i = 0; i < REQUESTS; i++)
		trace[i] = 1 + zipf_next();
}

/* Every 100,000 requests a report goes through 20,000 keys once, in turn with the others. */
static void
trace_scans(double skew)
{
	uint32_t	fresh = KEYS + 1;
	int			left = 0;

	zipf_prepare(skew);
	for (int i = 0; i < REQUESTS; i++)
	{
		if (i % 100000 == 50000)
			left = 20000;
		if (left > 0 && i % 2 == 0)
		{
			trace[i] = fresh++;
			left--;
		}
		else
			trace[i] = 1 + zipf_next();
	}
}

/* What is popular drifts: one rank further every 50 requests. */
static void
trace_shifting(double skew)
{
	zipf_prepare(skew);
	for (int i = 0; i < REQUESTS; i++)
		trace[i] = 1 + (zipf_next() + (uint32_t) i / 50) % KEYS;
}

/* The keys of a loop a little larger than a small cache, among others: what LRU is worst at. */
static void
trace_loop(double skew)
{
	zipf_prepare(skew);
	for (int i = 0; i < REQUESTS; i++)
		trace[i] = i % 2 ? 1 + (uint32_t) (i / 2) % 12000 : 1 + zipf_next();
}

static void
find_next_uses(void)
{
	uint32_t   *seen = malloc((KEYS_MAX + 1) * sizeof(uint32_t));

	for (uint32_t i = 0; i <= KEYS_MAX; i++)
		seen[i] = NEVER;
	for (int i = REQUESTS - 1; i >= 0; i--)
	{
		next_use[i] = seen[trace[i]];
		seen[trace[i]] = (uint32_t) i;
	}
	free(seen);
}

/* ---- ours; the key is the node's number ---- */

static EvictionNode ours_nodes[KEYS_MAX + 1];

static EvictionNode *
ours_node(void *arg, uint32_t number)
{
	(void) arg;
	return &ours_nodes[number];
}

static uint32_t
ours_size(void *arg, uint32_t number)
{
	(void) arg;
	(void) number;
	return 1;
}

static uint32_t
ours_hash(void *arg, uint32_t number)
{
	(void) arg;
	return number * 2654435761u;
}

static double
hits_of_ours(uint32_t capacity)
{
	static const EvictionNodes nodes = {ours_node, ours_size, ours_hash, NULL};
	uint32_t	ghosts = capacity * 4 / 5;	/* as host/store has them for entries of 400 bytes */
	void	   *block = malloc(eviction_size(ghosts));
	Eviction   *e = eviction_init(block, ghosts);
	int			hits = 0;

	memset(ours_nodes, 0, sizeof(ours_nodes));
	for (int i = 0; i < REQUESTS; i++)
	{
		if (ours_nodes[trace[i]].queue != 0)
		{
			eviction_used(&ours_nodes[trace[i]]);
			hits++;
			continue;
		}
		if (eviction_total(e) >= capacity)
			eviction_remove(e, &nodes, eviction_victim(e, &nodes));
		eviction_insert(e, &nodes, trace[i]);
	}
	free(block);
	return (double) hits / REQUESTS;
}

/* ---- LRU: a ring through all, 0 is its head ---- */

static uint32_t older[KEYS_MAX + 1];
static uint32_t newer[KEYS_MAX + 1];

static void
lru_unlink(uint32_t key)
{
	newer[older[key]] = newer[key];
	older[newer[key]] = older[key];
}

static void
lru_push(uint32_t key)
{
	older[key] = older[0];
	newer[key] = 0;
	newer[older[0]] = key;
	older[0] = key;
}

static double
hits_of_lru(uint32_t capacity)
{
	static bool in[KEYS_MAX + 1];
	uint32_t	held = 0;
	int			hits = 0;

	memset(in, 0, sizeof(in));
	older[0] = newer[0] = 0;
	for (int i = 0; i < REQUESTS; i++)
	{
		uint32_t	key = trace[i];

		hits += in[key];
		if (in[key])
			lru_unlink(key);
		else if (held == capacity)
		{
			in[newer[0]] = false;
			lru_unlink(newer[0]);
		}
		else
			held++;
		in[key] = true;
		lru_push(key);
	}
	return (double) hits / REQUESTS;
}

/* ---- the optimum: a heap of (next use, key), latest on top; entries that have been asked for since are out of date and skipped ---- */

typedef struct Future
{
	uint32_t	use;
	uint32_t	key;
} Future;

static Future heap[REQUESTS + 1];
static uint32_t heap_len;

static void
heap_push(Future f)
{
	uint32_t	at = ++heap_len;

	while (at > 1 && heap[at / 2].use < f.use)
	{
		heap[at] = heap[at / 2];
		at /= 2;
	}
	heap[at] = f;
}

static Future
heap_pop(void)
{
	Future		top = heap[1];
	Future		last = heap[heap_len--];
	uint32_t	at = 1;

	while (at * 2 <= heap_len)
	{
		uint32_t	child = at * 2;

		if (child < heap_len && heap[child + 1].use > heap[child].use)
			child++;
		if (heap[child].use <= last.use)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return top;
}

static double
hits_of_optimum(uint32_t capacity)
{
	static uint32_t uses[KEYS_MAX + 1];	/* the next use of what is in; 0 = it is not */
	uint32_t	held = 0;
	int			hits = 0;

	memset(uses, 0, sizeof(uses));
	heap_len = 0;
	for (int i = 0; i < REQUESTS; i++)
	{
		uint32_t	key = trace[i];

		if (uses[key] != 0)
			hits++;
		else if (held == capacity)
		{
			Future		f = heap_pop();

			while (uses[f.key] != f.use)
				f = heap_pop();
			uses[f.key] = 0;
		}
		else
			held++;
		uses[key] = next_use[i];
		heap_push((Future) {next_use[i], key});
	}
	return (double) hits / REQUESTS;
}

/* ---- the table ---- */

static void
print_rows(const char *name)
{
	static const uint32_t capacities[] = {1000, 5000, 20000};

	find_next_uses();
	for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++)
		printf("| %s | %u | %.1f %% | %.1f %% | %.1f %% |\n", name, capacities[i], 100 * hits_of_ours(capacities[i]),
			   100 * hits_of_lru(capacities[i]), 100 * hits_of_optimum(capacities[i]));
	fflush(stdout);
}

static void
run(const char *name, void (*make) (double skew), double skew)
{
	random_state = 88172645463325252u;
	make(skew);
	print_rows(name);
}

int
main(void)
{
	printf("| trace (1,000,000 requests, 100,000 keys) | entries that fit | hyperpool | LRU | optimum |\n|---|--:|--:|--:|--:|\n");
	run("Zipf 0.8", trace_zipf, 0.8);
	run("Zipf 1.0", trace_zipf, 1.0);
	run("Zipf 1.0 with scans", trace_scans, 1.0);
	run("Zipf 1.0, shifting", trace_shifting, 1.0);
	run("Zipf 1.0 and a loop of 12,000", trace_loop, 1.0);
	return 0;
}
