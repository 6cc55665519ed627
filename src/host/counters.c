/*
 * host/counters.c - the shared numbers behind the statistics views.
 *
 * Owns one area of shared memory: a head, counters and histograms a (worker, origin slot), the client rows, the link
 * rows, the pool rows, the number of clients of each worker. Sized by settings at start; nothing grows.
 *
 * Locks: rows_lock covers both free lists, the numbers in use and the taking of a generation; pools_lock covers the pool rows'
 * names and the sum of their links. Both are held for a few instructions and never together. No ERROR can happen under them.
 * Never: decides anything but the cap, trusts a number from outside (all are checked against the sizes).
 */
#include "postgres.h"

#include "host/counters.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#define DIGEST_KEY_LEN	16
#define NO_ROW			(-1)

StaticAssertDecl(CLIENT_FREE == 0, "a row of state 0 is free");

/* How often a reader looks again at a row that is being changed. A writer changes one in well under a microsecond. */
#define READ_ATTEMPTS	1000

/* The process id a client is told: row number + 1 in the low bits, random ones above; positive as an int32. */
#define KEY_PID_ROW_BITS	20
#define KEY_PID_RANDOM_MASK	((((uint32) 1 << 11) - 1) << KEY_PID_ROW_BITS)

/* A line of the processor's cache each: any worker may read it whenever it accepts a client. */
typedef union WorkerLoad
{
	struct
	{
		pg_atomic_uint32 clients;	/* rows taken; changed under rows_lock */
		pg_atomic_uint32 coming;	/* as an int32: who sends counts first, and may take it back when we have begun anew */
		pg_atomic_uint32 open;
	};
	char		line[PG_CACHE_LINE_SIZE];
} WorkerLoad;

typedef struct CountersShared
{
	int			tranche;
	LWLock		rows_lock;
	LWLock		pools_lock;
	int			workers;		/* the sizes below are of server start and never change */
	int			max_origins;
	int			max_clients;
	int			max_links;
	int			max_pools;
	int			free_client;	/* rows_lock: heads of the free lists, last freed first */
	int			free_link;
	int			clients_used;
	int			links_used;
	int			clients_high;	/* no client row from here on was ever taken */
	uint8		digest_key[DIGEST_KEY_LEN];
	TimestampTz started_at;
} CountersShared;

static CountersShared *shared = NULL;
static TimestampTz *reset_times;	/* max_origins */
static OriginCounters *counters;	/* workers * max_origins */
static ClientRow *clients;
static Oid *roles;				/* of the clients, side by side: counting one's clients looks at all */
static LinkRow *links;
static PoolRow *pools;
static WorkerLoad *loads;		/* workers */
static LoginCounts *logins;		/* workers */

/* Where a number out of bounds is counted: nowhere that matters. */
static OriginCounters nowhere;

/* ---- shared memory ---- */

typedef struct AreaLayout
{
	Size		reset_times;
	Size		counters;
	Size		clients;
	Size		roles;
	Size		links;
	Size		pools;
	Size		loads;
	Size		logins;
	Size		total;
} AreaLayout;

static Size
area_place(Size *total, Size each, int n)
{
	Size		at = CACHELINEALIGN(*total);

	*total = add_size(at, mul_size(each, n));
	return at;
}

static AreaLayout
area_layout(void)
{
	AreaLayout	a;

	a.total = sizeof(CountersShared);
	a.reset_times = area_place(&a.total, sizeof(TimestampTz), hyperpool_max_origins);
	a.counters = area_place(&a.total, mul_size(sizeof(OriginCounters), hyperpool_workers), hyperpool_max_origins);
	a.clients = area_place(&a.total, sizeof(ClientRow), hyperpool_max_clients);
	a.roles = area_place(&a.total, sizeof(Oid), hyperpool_max_clients);
	a.links = area_place(&a.total, sizeof(LinkRow), hyperpool_max_links);
	a.pools = area_place(&a.total, sizeof(PoolRow), hyperpool_max_pools);
	a.loads = area_place(&a.total, sizeof(WorkerLoad), hyperpool_workers);
	a.logins = area_place(&a.total, sizeof(LoginCounts), hyperpool_workers);
	return a;
}

Size
counters_shmem_size(void)
{
	return area_layout().total;
}

static void
init_head(void)
{
	shared->tranche = LWLockNewTrancheId();
	LWLockInitialize(&shared->rows_lock, shared->tranche);
	LWLockInitialize(&shared->pools_lock, shared->tranche);
	shared->workers = hyperpool_workers;
	shared->max_origins = hyperpool_max_origins;
	shared->max_clients = hyperpool_max_clients;
	shared->max_links = hyperpool_max_links;
	shared->max_pools = hyperpool_max_pools;
	shared->started_at = GetCurrentTimestamp();
	if (!pg_strong_random(shared->digest_key, DIGEST_KEY_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes for hyperpool")));
}

static void
init_rows(void)
{
	int			i;

	for (i = 0; i < shared->max_clients; i++)
		clients[i].next_free = i + 1 < shared->max_clients ? i + 1 : NO_ROW;
	for (i = 0; i < shared->max_links; i++)
		links[i].next_free = i + 1 < shared->max_links ? i + 1 : NO_ROW;
	for (i = 0; i < shared->max_origins; i++)
		reset_times[i] = shared->started_at;
	/* both lists begin at row 0; zeroed memory is what an unused row, counter or atomic looks like */
}

void
counters_shmem_init(void)
{
	AreaLayout	a = area_layout();
	bool		found;
	char	   *area = ShmemInitStruct("hyperpool counters", a.total, &found);

	shared = (CountersShared *) area;
	reset_times = (TimestampTz *) (area + a.reset_times);
	counters = (OriginCounters *) (area + a.counters);
	clients = (ClientRow *) (area + a.clients);
	roles = (Oid *) (area + a.roles);
	links = (LinkRow *) (area + a.links);
	pools = (PoolRow *) (area + a.pools);
	loads = (WorkerLoad *) (area + a.loads);
	logins = (LoginCounts *) (area + a.logins);
	if (!found)
	{
		memset(area, 0, a.total);
		init_head();
		init_rows();
	}
	LWLockRegisterTranche(shared->tranche, "hyperpool");
}

bool
counters_ready(void)
{
	return shared != NULL;
}

const uint8 *
counters_digest_key(void)
{
	return shared->digest_key;
}

TimestampTz
counters_started_at(void)
{
	return shared->started_at;
}

/* ---- counters of an origin ---- */

static bool
slot_is_sound(int origin_slot)
{
	return origin_slot >= 0 && origin_slot < shared->max_origins;
}

OriginCounters *
counters_of(int worker, int origin_slot)
{
	if (worker < 0 || worker >= shared->workers || !slot_is_sound(origin_slot))
		return &nowhere;
	return &counters[(Size) worker * shared->max_origins + origin_slot];
}

uint64
counter_sum(int origin_slot, Counter which)
{
	uint64		sum = 0;

	for (int worker = 0; worker < shared->workers; worker++)
		sum += pg_atomic_read_u64(&counters_of(worker, origin_slot)->counts[which]);
	return sum;
}

/* 8 equal steps within each power of two. */
static int
bucket_of(int64 microseconds)
{
	uint64		v = microseconds > 0 ? microseconds : 1;
	int			octave = pg_leftmost_one_pos64(v);
	int			step = (int) ((octave >= 3 ? v >> (octave - 3) : v << (3 - octave)) & 7);
	int			bucket = octave * 8 + step;

	return Min(bucket, HISTOGRAM_BUCKETS - 1);
}

/* The middle of a bucket: what it is told as. */
static int64
bucket_value(int bucket)
{
	int			octave = bucket / 8;
	int64		steps = 8 + bucket % 8;

	if (octave <= 3)
		return (steps << octave) >> 3;
	return (steps << (octave - 3)) + (INT64CONST(1) << (octave - 4));
}

void
histogram_add(OriginCounters *c, HistogramKind which, int64 microseconds)
{
	pg_atomic_uint64 *bucket = &c->histograms[which][bucket_of(microseconds)];

	pg_atomic_write_u64(bucket, pg_atomic_read_u64(bucket) + 1);
}

static uint64
bucket_sum(int origin_slot, HistogramKind which, int bucket)
{
	uint64		sum = 0;

	for (int worker = 0; worker < shared->workers; worker++)
		sum += pg_atomic_read_u64(&counters_of(worker, origin_slot)->histograms[which][bucket]);
	return sum;
}

int64
histogram_percentile(int origin_slot, HistogramKind which, double fraction)
{
	uint64		sums[HISTOGRAM_BUCKETS];
	uint64		total = 0;
	uint64		seen = 0;

	/* summed once: the workers go on counting while we look */
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
		total += sums[i] = bucket_sum(origin_slot, which, i);
	for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
	{
		seen += sums[i];
		if (seen > 0 && seen >= total * fraction)
			return bucket_value(i);
	}
	return 0;
}

/* ---- logins of a worker ---- */

LoginCounts *
login_counts_of(int worker)
{
	return worker >= 0 && worker < shared->workers ? &logins[worker] : NULL;
}

static void
reset_logins(void)
{
	for (int i = 0; i < shared->workers; i++)
	{
		pg_atomic_write_u64(&logins[i].refused_backlog, 0);
		pg_atomic_write_u64(&logins[i].refused_address, 0);
		pg_atomic_write_u64(&logins[i].held_back, 0);
	}
}

static void
reset_slot(int origin_slot)
{
	for (int worker = 0; worker < shared->workers; worker++)
	{
		OriginCounters *c = counters_of(worker, origin_slot);

		for (int i = 0; i < COUNT_LIMIT; i++)
			pg_atomic_write_u64(&c->counts[i], 0);
		for (int which = 0; which < HISTOGRAM_LIMIT; which++)
			for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
				pg_atomic_write_u64(&c->histograms[which][i], 0);
	}
	reset_times[origin_slot] = GetCurrentTimestamp();
}

void
counters_reset(int origin_slot)
{
	if (slot_is_sound(origin_slot))
		reset_slot(origin_slot);
	else if (origin_slot == -1)
	{
		for (int slot = 0; slot < shared->max_origins; slot++)
			reset_slot(slot);
		reset_logins();
	}
}

TimestampTz
counters_reset_time(int origin_slot)
{
	return slot_is_sound(origin_slot) ? reset_times[origin_slot] : shared->started_at;
}

/* ---- reading a row while its worker may be changing it ---- */

static bool
read_row(const void *row, void *copy, Size size, const pg_atomic_uint32 *change_count)
{
	for (int i = 0; i < READ_ATTEMPTS; i++)
	{
		uint32		before = pg_atomic_read_u32((pg_atomic_uint32 *) change_count);

		if (before & 1)
			continue;
		pg_read_barrier();
		memcpy(copy, row, size);
		pg_read_barrier();
		if (pg_atomic_read_u32((pg_atomic_uint32 *) change_count) == before)
			return true;
	}
	return false;
}

static uint32
next_generation(uint32 generation)
{
	return generation == PG_UINT32_MAX ? 1 : generation + 1;
}

/* ---- clients ---- */

static WorkerLoad *
load_of(int worker)
{
	return worker >= 0 && worker < shared->workers ? &loads[worker] : NULL;
}

static void
count_client(int worker, int change)
{
	WorkerLoad *load = load_of(worker);

	if (load)
		pg_atomic_write_u32(&load->clients, pg_atomic_read_u32(&load->clients) + change);
}

static ClientRow *
pop_client(int worker)
{
	ClientRow  *row = NULL;

	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	if (shared->free_client != NO_ROW)
	{
		row = &clients[shared->free_client];
		shared->free_client = row->next_free;
		shared->clients_high = Max(shared->clients_high, client_row_number(row) + 1);
		shared->clients_used++;
		count_client(worker, 1);
	}
	LWLockRelease(&shared->rows_lock);
	return row;
}

static void
push_client(ClientRow *row)
{
	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	row->next_free = shared->free_client;
	shared->free_client = client_row_number(row);
	shared->clients_used--;
	count_client(row->worker, -1);
	LWLockRelease(&shared->rows_lock);
}

/* Everything but what outlives one client: the change count, the list, the generation. */
static void
wipe_client(ClientRow *row)
{
	explicit_bzero(row->key, sizeof(row->key));
	row->state = CLIENT_FREE;
	row->tls = false;
	row->bound = false;
	row->origin_slot = -1;
	row->family = 0;
	row->key_len = 0;
	row->port = 0;
	client_row_set_role(row, InvalidOid);
	row->link_row = 0;
	row->key_pid = 0;
	memset(row->addr, 0, sizeof(row->addr));
	row->exchanges = 0;
	memset(row->application_name, 0, sizeof(row->application_name));
}

ClientRow *
client_row_take(int worker)
{
	uint8		key[CANCEL_KEY_MAX];
	uint32		pid_bits;
	ClientRow  *row;

	/* drawn before the row is taken: nothing can fail from then on */
	if (!pg_strong_random(key, sizeof(key)) || !pg_strong_random(&pid_bits, sizeof(pid_bits)))
		return NULL;
	row = pop_client(worker);
	if (row == NULL)
		return NULL;

	client_row_begin_change(row);
	wipe_client(row);
	memcpy(row->key, key, sizeof(key));
	row->key_len = CANCEL_KEY_MAX;
	row->key_pid = (pid_bits & KEY_PID_RANDOM_MASK) | (client_row_number(row) + 1);
	row->generation = next_generation(row->generation);
	row->worker = worker;
	row->connect_time = row->state_since = GetCurrentTimestamp();
	pg_write_barrier();			/* see is_taken_by */
	row->state = CLIENT_LOGIN;
	client_row_end_change(row);
	explicit_bzero(key, sizeof(key));
	return row;
}

void
client_row_free(ClientRow *row)
{
	if (row == NULL || row->state == CLIENT_FREE)
		return;
	client_row_begin_change(row);
	wipe_client(row);
	client_row_end_change(row);
	push_client(row);
}

int
client_row_number(const ClientRow *row)
{
	return (int) (row - clients);
}

ClientRow *
client_row_at(int number)
{
	return number >= 0 && number < shared->max_clients ? &clients[number] : NULL;
}

void
client_row_set_role(ClientRow *row, Oid role)
{
	row->role = role;
	roles[client_row_number(row)] = role;
}

bool
client_row_read(int number, ClientRow *copy)
{
	ClientRow  *row = client_row_at(number);
	bool		whole;

	if (row == NULL || row->state == CLIENT_FREE)
		return false;
	whole = read_row(row, copy, sizeof(*copy), &row->change_count);
	explicit_bzero(copy->key, sizeof(copy->key));
	return whole && copy->state != CLIENT_FREE;
}

/* Read without a lock: a limit on connections that is off by one login in flight is what the server has, too. */
int
client_rows_of_role(Oid role)
{
	const Oid  *of = roles;
	int			high = shared->clients_high;
	int			n = 0;

	for (int i = 0; i < high; i++)
		n += of[i] == role;
	return n;
}

int
client_rows_used(void)
{
	return shared->clients_used;
}

const char *
client_state_name(ClientState state)
{
	switch (state)
	{
		case CLIENT_FREE:
			return "free";
		case CLIENT_LOGIN:
			return "login";
		case CLIENT_IDLE:
			return "idle";
		case CLIENT_WAITING:
			return "waiting";
		case CLIENT_ACTIVE:
			return "active";
		case CLIENT_IN_TRANSACTION:
			return "idle in transaction";
		case CLIENT_CLOSING:
			return "closing";
	}
	return "unknown";
}

/* ---- how many clients each worker has ---- */

uint32
worker_load(int worker)
{
	WorkerLoad *load = load_of(worker);
	int32		coming = load ? (int32) pg_atomic_read_u32(&load->coming) : 0;

	return load ? pg_atomic_read_u32(&load->clients) + Max(coming, 0) : 0;
}

void
worker_load_coming(int worker, int change)
{
	WorkerLoad *load = load_of(worker);

	if (load)
		pg_atomic_fetch_add_u32(&load->coming, change);
}

void
worker_load_came(int worker)
{
	WorkerLoad *load = load_of(worker);

	if (load && pg_atomic_read_u32(&load->coming) != 0)
		pg_atomic_write_u32(&load->coming, 0);
}

void
worker_load_open(int worker, bool open)
{
	WorkerLoad *load = load_of(worker);

	if (load)
		pg_atomic_write_u32(&load->open, open);
}

bool
worker_is_open(int worker)
{
	WorkerLoad *load = load_of(worker);

	return load && pg_atomic_read_u32(&load->open) != 0;
}

/* ---- links ---- */

static void
wipe_link(LinkRow *row)
{
	row->state = 0;
	row->tls = false;
	row->origin_slot = -1;
	row->pool_row = -1;
	row->origin_pid = 0;
	row->client_row = 0;
	row->statements = 0;
	row->settings_id = 0;
	row->exchanges = 0;
	memset(row->address, 0, sizeof(row->address));
}

LinkRow *
link_row_take(int worker, int origin_slot, int pool_row)
{
	LinkRow    *row = NULL;

	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	if (shared->free_link != NO_ROW)
	{
		row = &links[shared->free_link];
		shared->free_link = row->next_free;
		shared->links_used++;
	}
	LWLockRelease(&shared->rows_lock);
	if (row == NULL)
		return NULL;

	link_row_begin_change(row);
	wipe_link(row);
	row->generation = next_generation(row->generation);
	row->worker = worker;
	row->origin_slot = origin_slot;
	row->pool_row = pool_row;
	row->connect_time = row->state_since = GetCurrentTimestamp();
	pg_write_barrier();			/* see is_taken_by */
	row->state = 1;				/* the first of LinkState, LINK_CONNECTING */
	link_row_end_change(row);
	return row;
}

void
link_row_free(LinkRow *row)
{
	if (row == NULL || row->state == 0)
		return;
	link_row_begin_change(row);
	wipe_link(row);
	link_row_end_change(row);

	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	row->next_free = shared->free_link;
	shared->free_link = link_row_number(row);
	shared->links_used--;
	LWLockRelease(&shared->rows_lock);
}

int
link_row_number(const LinkRow *row)
{
	return (int) (row - links);
}

bool
link_row_read(int number, LinkRow *copy)
{
	LinkRow    *row;

	if (number < 0 || number >= shared->max_links)
		return false;
	row = &links[number];
	return row->state != 0 && read_row(row, copy, sizeof(*copy), &row->change_count) && copy->state != 0;
}

int
link_rows_used(void)
{
	return shared->links_used;
}

/* ---- pools ---- */

static bool
pool_row_is(const PoolRow *row, Oid origin_oid, const char *user)
{
	/* strncmp: a user name longer than ours is cut, and shares its row with its like */
	return row->used && row->origin_oid == origin_oid && strncmp(row->user, user, NAMEDATALEN - 1) == 0;
}

static void
make_pool_row(PoolRow *row, int origin_slot, Oid origin_oid, const char *user)
{
	memset(row, 0, sizeof(*row));
	row->origin_slot = origin_slot;
	row->origin_oid = origin_oid;
	strlcpy(row->user, user, NAMEDATALEN);
	pg_write_barrier();			/* the views look at used without the lock */
	row->used = true;
}

PoolRow *
pool_row_at(int number)
{
	return number >= 0 && number < shared->max_pools ? &pools[number] : NULL;
}

static int
find_pool_row(Oid origin_oid, const char *user, int *unused)
{
	*unused = -1;
	for (int i = 0; i < shared->max_pools; i++)
	{
		if (pool_row_is(&pools[i], origin_oid, user))
			return i;
		if (!pools[i].used && *unused < 0)
			*unused = i;
	}
	return -1;
}

/* Under the lock. */
static void
free_pool_row_if_left(PoolRow *row)
{
	for (int i = 0; i < HYPERPOOL_MAX_WORKERS; i++)
	{
		if (pg_atomic_read_u32(&row->shares[i].pools) > 0)
			return;
	}
	row->used = false;
}

static PoolShare *
share_of(int number, int worker)
{
	PoolRow    *row = pool_row_at(number);

	if (row == NULL || worker < 0 || worker >= HYPERPOOL_MAX_WORKERS)
		return NULL;
	return &row->shares[worker];
}

int
pool_row_join(int worker, int origin_slot, Oid origin_oid, const char *user)
{
	int			unused;
	int			found;
	PoolShare  *share;

	LWLockAcquire(&shared->pools_lock, LW_EXCLUSIVE);
	found = find_pool_row(origin_oid, user, &unused);
	if (found < 0 && unused >= 0)
	{
		make_pool_row(&pools[unused], origin_slot, origin_oid, user);
		found = unused;
	}
	share = share_of(found, worker);
	if (share)
		pg_atomic_write_u32(&share->pools, pg_atomic_read_u32(&share->pools) + 1);
	LWLockRelease(&shared->pools_lock);
	return found;
}

void
pool_row_leave(int number, int worker)
{
	PoolShare  *share = share_of(number, worker);

	if (share == NULL)
		return;
	LWLockAcquire(&shared->pools_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&share->pools) > 0)
		pg_atomic_write_u32(&share->pools, pg_atomic_read_u32(&share->pools) - 1);
	free_pool_row_if_left(&pools[number]);
	LWLockRelease(&shared->pools_lock);
}

static uint32
links_of_all(const PoolRow *row)
{
	uint32		sum = 0;

	for (int i = 0; i < HYPERPOOL_MAX_WORKERS; i++)
		sum += pg_atomic_read_u32((pg_atomic_uint32 *) &row->shares[i].links);
	return sum;
}

bool
pool_row_take_link(int number, int worker, uint32 cap)
{
	PoolShare  *share = share_of(number, worker);
	bool		taken;

	if (share == NULL)
		return false;
	/* the sum and the increment must be one step: this is the cap */
	LWLockAcquire(&shared->pools_lock, LW_EXCLUSIVE);
	taken = links_of_all(&pools[number]) < cap;
	if (taken)
		pg_atomic_write_u32(&share->links, pg_atomic_read_u32(&share->links) + 1);
	LWLockRelease(&shared->pools_lock);
	return taken;
}

void
pool_row_give_link(int number, int worker)
{
	PoolShare  *share = share_of(number, worker);

	if (share == NULL)
		return;
	LWLockAcquire(&shared->pools_lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&share->links) > 0)
		pg_atomic_write_u32(&share->links, pg_atomic_read_u32(&share->links) - 1);
	LWLockRelease(&shared->pools_lock);
}

uint32
pool_row_links(int number)
{
	PoolRow    *row = pool_row_at(number);

	return row ? links_of_all(row) : 0;
}

uint32
pool_row_waiting_elsewhere(int number, int worker)
{
	PoolRow    *row = pool_row_at(number);
	uint32		sum = 0;

	for (int i = 0; row && i < HYPERPOOL_MAX_WORKERS; i++)
	{
		if (i != worker)
			sum += pg_atomic_read_u32(&row->shares[i].waiting);
	}
	return sum;
}

uint32
pool_row_links_of(int number, int worker)
{
	PoolShare  *share = share_of(number, worker);

	return share ? pg_atomic_read_u32(&share->links) : 0;
}

/* ---- after a worker ---- */

/* A worker that was torn out of a change has left its row's count odd: nobody could read it any more. */
static void
settle(pg_atomic_uint32 *change_count)
{
	uint32		n = pg_atomic_read_u32(change_count);

	if (n & 1)
		pg_atomic_write_u32(change_count, n + 1);
}

/* Other workers take rows meanwhile, maybe one that was ours before: whose it is stands there before it counts as taken. */
static bool
is_taken_by(int worker, const volatile uint8 *state, const volatile uint8 *whose)
{
	if (*state == 0)
		return false;
	pg_read_barrier();
	return *whose == worker;
}

static void
clear_share(PoolShare *share)
{
	pg_atomic_write_u32(&share->pools, 0);
	pg_atomic_write_u32(&share->links, 0);
	pg_atomic_write_u32(&share->idle, 0);
	pg_atomic_write_u32(&share->opening, 0);
	pg_atomic_write_u32(&share->active, 0);
	pg_atomic_write_u32(&share->bound, 0);
	pg_atomic_write_u32(&share->clients, 0);
	pg_atomic_write_u32(&share->waiting, 0);
	pg_atomic_write_u64(&share->oldest_wait, 0);
}

void
counters_clear_worker(int worker)
{
	if (worker < 0 || worker >= shared->workers)
		return;
	for (int i = 0; i < shared->max_clients; i++)
	{
		if (is_taken_by(worker, &clients[i].state, &clients[i].worker))
		{
			settle(&clients[i].change_count);
			client_row_free(&clients[i]);
		}
	}
	worker_load_open(worker, false);
	worker_load_came(worker);
	pg_atomic_write_u32(&logins[worker].unfinished, 0);
	pg_atomic_write_u32(&logins[worker].addresses, 0);
	for (int i = 0; i < shared->max_links; i++)
	{
		if (is_taken_by(worker, &links[i].state, &links[i].worker))
		{
			settle(&links[i].change_count);
			link_row_free(&links[i]);
		}
	}
	LWLockAcquire(&shared->pools_lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->max_pools; i++)
	{
		clear_share(&pools[i].shares[worker]);
		free_pool_row_if_left(&pools[i]);
	}
	LWLockRelease(&shared->pools_lock);
}
