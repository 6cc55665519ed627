/*
 * host/store.c - the shared result cache: its memory, and looking up.
 *
 * Owns the area in shared memory and cuts it: head and partitions, shelves (index and policy of each partition), flights, pins, scopes, and the
 * pool of pages all partitions draw from, so that one large answer may use what belongs to all. core/shelf says where entries
 * lie; store_fill.c makes them; store_list.c shows and purges them.
 *
 * Locks: see store_internal.h. A hit takes its partition's lock shared once, and pins by an atomic; a pin is given back without a lock.
 * Never: waits, raises an ERROR, trusts the number of an entry that came from outside.
 */
#include "postgres.h"

#include "host/store_internal.h"
#include "storage/shmem.h"

#define PARTITION_BYTES	(16 * 1024 * 1024)	/* of cache_size, before another partition is made */
#define BYTES_A_BUCKET	768
#define BYTES_A_GHOST	512
#define PREFAULT_STEP	(8 * 1024 * 1024)
#define LOOKUPS_MAX		3		/* repeated when another process was in between */
#define CACHE_BYTES_MAX	(UINT64CONST(256) * 1024 * 1024 * 1024) /* what numbers of entries reach */

StoreShared *store_shared = NULL;
static ShelfPool *pool = NULL;

StaticAssertDecl(STORE_KEY_MAX == SHELF_KEY_MAX, "keys of the store fit on a shelf");
StaticAssertDecl(PROOF_SLOTS <= SHELF_TIES_MAX, "slots of a proof fit into an entry");
StaticAssertDecl(STORE_PARTITIONS_MAX * FLIGHTS_MAX < (1 << FLIGHT_NUMBER_BITS), "flights have numbers");
StaticAssertDecl(HYPERPOOL_MAX_WORKERS <= 32, "workers that wait are bits");

/* ---- memory ---- */

typedef struct StoreLayout
{
	int			partitions;
	int			flights;
	uint32		buckets;
	uint32		ghosts;
	uint32		pages;
	Size		shelf_size;
	Size		shelves_at;
	Size		flights_at;
	Size		pins_at;
	Size		scopes_at;
	Size		pool_at;
	Size		total;
} StoreLayout;

static uint64
cache_bytes(void)
{
	return Min((uint64) hyperpool_cache_size * 1024, CACHE_BYTES_MAX);
}

static Size
place(Size *total, Size each, Size n)
{
	Size		at = CACHELINEALIGN(*total);

	*total = add_size(at, mul_size(each, n));
	return at;
}

static uint32
pages_within(uint64 bytes, uint64 taken)
{
	return bytes > taken ? (uint32) ((bytes - taken) / (SHELF_PAGE + 64)) : 0;
}

static StoreLayout
store_layout(void)
{
	StoreLayout l;
	uint64		bytes = cache_bytes();

	l.partitions = (int) Max(1, Min(STORE_PARTITIONS_MAX, bytes / PARTITION_BYTES));
	l.flights = Max(64, Min(FLIGHTS_MAX, 64 + 2 * hyperpool_max_links / l.partitions));
	l.buckets = (uint32) Max(16, bytes / l.partitions / BYTES_A_BUCKET);
	l.ghosts = (uint32) Max(16, bytes / l.partitions / BYTES_A_GHOST);
	l.shelf_size = CACHELINEALIGN(shelf_size(l.buckets, l.ghosts));
	l.pages = pages_within(bytes, (uint64) l.shelf_size * l.partitions);
	l.total = sizeof(StoreShared);
	l.shelves_at = place(&l.total, l.shelf_size, l.partitions);
	l.flights_at = place(&l.total, sizeof(Flight), (Size) l.flights * l.partitions);
	l.pins_at = place(&l.total, sizeof(WorkerPins), hyperpool_workers);
	l.scopes_at = place(&l.total, store_scopes_size(), 1);
	l.total = TYPEALIGN(4096, l.total);
	l.pool_at = place(&l.total, shelf_pool_size(l.pages), 1);
	return l;
}

Size
store_shmem_size(void)
{
	return hyperpool_cache_size > 0 ? store_layout().total : 0;
}

static void
init_pins(WorkerPins *mine)
{
	memset(mine, 0, sizeof(*mine));
	for (int i = 0; i < PINS_OF_WORKER; i++)
		mine->pins[i].next = i + 1 < PINS_OF_WORKER ? i + 2 : 0;
	mine->free = 1;
}

static WorkerPins *
pins_of(int worker)
{
	return (WorkerPins *) ((char *) store_shared + store_shared->pins_at) + worker;
}

static void
init_head(const StoreLayout *l)
{
	memset(store_shared, 0, sizeof(StoreShared));
	store_shared->tranche = LWLockNewTrancheId();
	store_shared->partitions = l->partitions;
	store_shared->workers = hyperpool_workers;
	store_shared->flights = l->flights;
	store_shared->size = cache_bytes();
	store_shared->total = l->total;
	store_shared->pool_at = l->pool_at;
	store_shared->shelves_at = l->shelves_at;
	store_shared->shelf_size = l->shelf_size;
	store_shared->flights_at = l->flights_at;
	store_shared->pins_at = l->pins_at;
	store_shared->scopes_at = l->scopes_at;
	store_shared->scopes_size = store_scopes_size();
	LWLockInitialize(&store_shared->origins_lock, store_shared->tranche);
}

static void
init_area(const StoreLayout *l)
{
	char	   *area = (char *) store_shared;

	init_head(l);
	for (int i = 0; i < l->partitions; i++)
	{
		LWLockInitialize(&store_part(i)->lock, store_shared->tranche);
		shelf_init(area + l->shelves_at + i * l->shelf_size, l->buckets, l->ghosts);
	}
	for (int i = 0; i < store_shared->workers; i++)
		init_pins(pins_of(i));
	memset(area + l->flights_at, 0, sizeof(Flight) * l->flights * l->partitions);
	store_flights_init();
	store_scopes_init();
	shelf_pool_init(area + l->pool_at, l->pages);
}

void
store_shmem_init(void)
{
	StoreLayout l;
	bool		found;

	if (hyperpool_cache_size <= 0)
		return;
	l = store_layout();
	store_shared = ShmemInitStruct("hyperpool cache", l.total, &found);
	if (!found)
		init_area(&l);
	pool = (ShelfPool *) ((char *) store_shared + store_shared->pool_at);
	LWLockRegisterTranche(store_shared->tranche, "hyperpool_cache");
}

bool
store_enabled(void)
{
	return store_shared != NULL;
}

/* By reading, which gives a page its memory and changes nothing under anybody. */
bool
store_prefault_some(void)
{
	static Size touched = 0;
	Size		end;

	if (store_shared == NULL)
		return false;
	end = Min(touched + PREFAULT_STEP, store_shared->total);
	for (; touched < end; touched += 4096)
		(void) *((volatile uint8 *) store_shared + touched);
	return touched < store_shared->total;
}

/* ---- parts ---- */

Partition *
store_part(int partition)
{
	return &store_shared->parts[partition].p;
}

ShelfView
store_view(int partition)
{
	ShelfView	view;

	view.pool = pool;
	view.shelf = (Shelf *) ((char *) store_shared + store_shared->shelves_at + partition * store_shared->shelf_size);
	view.number = (uint8) partition;
	return view;
}

int
store_partition_of(Digest128 digest)
{
	return (int) (digest.hi % store_shared->partitions);
}

/* Every partition makes room in its turn, whoever needs it: so they keep equal shares of the pages. */
uint32
store_page(void)
{
	uint32		page = shelf_page_take(pool);

	for (int tries = 0; page == 0 && tries < 2 * store_shared->partitions; tries++)
	{
		int			turn = (int) (pg_atomic_fetch_add_u32(&store_shared->hand, 1) % store_shared->partitions);
		ShelfView	view = store_view(turn);
		uint64		evicted = 0;

		LWLockAcquire(&store_part(turn)->lock, LW_EXCLUSIVE);
		(void) shelf_yield(&view, &evicted);
		LWLockRelease(&store_part(turn)->lock);
		pg_atomic_fetch_add_u64(&store_shared->evictions, evicted);
		page = shelf_page_take(pool);
	}
	return page;
}

/* ---- origins, as small numbers ---- */

KnownOrigin *
store_origin_at(uint16 number)
{
	return &store_shared->origins[number % ORIGINS_KNOWN];
}

/* Looks from where the origin's hash says; a row that is not ready ends the search. -1: not there. */
static int
find_origin(int16 slot, Oid origin, int *end)
{
	uint32		at = origin * 2654435761u ^ (uint16) slot;

	for (int i = 0; i < ORIGINS_KNOWN; i++, at++)
	{
		KnownOrigin *row = store_origin_at(at % ORIGINS_KNOWN);

		*end = at % ORIGINS_KNOWN;
		if (pg_atomic_read_u32(&row->ready) == 0)
			return -1;
		pg_read_barrier();
		if (row->origin == origin && row->slot == slot)
			return *end;
	}
	*end = -1;
	return -1;
}

/* -1: there have been too many; nothing of this origin is kept until the server starts again. */
static int
origin_number(int16 slot, Oid origin)
{
	int			end;
	int			number = find_origin(slot, origin, &end);

	if (number >= 0 || end < 0)
		return number;
	LWLockAcquire(&store_shared->origins_lock, LW_EXCLUSIVE);
	number = find_origin(slot, origin, &end);
	if (number < 0 && end >= 0)
	{
		store_shared->origins[end].origin = origin;
		store_shared->origins[end].slot = slot;
		pg_write_barrier();
		pg_atomic_write_u32(&store_shared->origins[end].ready, 1);
		number = end;
	}
	LWLockRelease(&store_shared->origins_lock);
	return number;
}

/* ---- pins ---- */

/* Under the lock, shared. False: too many pins. Long answers are held while their clients read: what most hits need for a moment is kept from them. */
static bool
pin(int worker, const ShelfView *view, uint32 number, StoreHit *hit)
{
	WorkerPins *mine = pins_of(worker);
	uint32		at = mine->free;

	if (at == 0 || (mine->used >= PINS_OF_WORKER - PINS_FOR_SHORT && shelf_is_long(view, number)) || !shelf_pin(view, number))
		return false;
	mine->free = mine->pins[at - 1].next;
	mine->pins[at - 1].entry = number;
	mine->used++;
	hit->entry = number;
	hit->pin = at;
	return true;
}

static void
unpin_entry(uint32 number)
{
	int			partition = shelf_number_of(pool, number);
	ShelfView	view = store_view(partition);

	if (!shelf_unpin(&view, number))
		return;
	LWLockAcquire(&store_part(partition)->lock, LW_EXCLUSIVE);
	shelf_free(&view, number);
	LWLockRelease(&store_part(partition)->lock);
}

static void
give_pin(WorkerPins *mine, uint32 at)
{
	uint32		number = mine->pins[at - 1].entry;

	mine->pins[at - 1].entry = 0;
	mine->pins[at - 1].next = mine->free;
	mine->free = at;
	mine->used--;
	unpin_entry(number);
}

/* A look at what others write: near enough for a view. */
uint64
store_pins_held(void)
{
	uint64		n = 0;

	for (int i = 0; i < store_shared->workers; i++)
		n += pins_of(i)->used;
	return n;
}

/* Is that a pin of this worker, on the entry the hit says? */
static bool
hit_is_sound(int worker, const StoreHit *hit)
{
	return store_shared && worker >= 0 && worker < store_shared->workers && hit->entry != 0 &&
		hit->pin > 0 && hit->pin <= PINS_OF_WORKER && pins_of(worker)->pins[hit->pin - 1].entry == hit->entry;
}

void
store_release(int worker, StoreHit *hit)
{
	if (hit_is_sound(worker, hit))
		give_pin(pins_of(worker), hit->pin);
	memset(hit, 0, sizeof(*hit));
}

Bytes
store_next(StoreHit *hit)
{
	ShelfView	view;
	Bytes		piece;

	if (store_shared == NULL || hit->left == 0 || hit->left > hit->len || !shelf_number_is_sound(pool, hit->entry))
		return bytes_of(NULL, 0);
	view = store_view(shelf_number_of(pool, hit->entry));
	piece = shelf_piece(&view, hit->entry, (uint32) (hit->len - hit->left), &hit->segment);
	hit->left -= Min(hit->left, piece.len);
	return piece;
}

void
store_clear_worker(int worker)
{
	WorkerPins *mine;

	if (store_shared == NULL || worker < 0 || worker >= store_shared->workers)
		return;
	store_clear_flights(worker);
	mine = pins_of(worker);
	for (uint32 at = 1; at <= PINS_OF_WORKER; at++)
	{
		if (mine->pins[at - 1].entry != 0)
			give_pin(mine, at);
	}
	init_pins(mine);
}

/* ---- may it be given? ---- */

/* Its sum is of these very slots: sums of other slots say nothing. */
bool
store_entry_holds(const ShelfItem *item, const uint32 *slots, int nslots, uint64 sum)
{
	if (item->nties != nslots || item->sum != sum)
		return false;
	for (int i = 0; i < nslots; i++)
	{
		if (item->ties[i] != slots[i])
			return false;
	}
	return true;
}

typedef enum Served
{
	SERVED_FRESH, SERVED_STALE, SERVED_ERROR, SERVED_NOT
} Served;

static int64
age_of(const ShelfItem *item, int64 now)
{
	return now > item->born ? now - item->born : 0;
}

static bool
within(int64 *age, int64 limit)
{
	if (*age <= limit)
		return true;
	*age -= Max(limit, 0);
	return false;
}

static Served
served_by_age(const StoreRequest *request, int64 age)
{
	if (within(&age, request->max_age))
		return SERVED_FRESH;
	if (request->stale_for > 0 && within(&age, request->stale_for))
		return SERVED_STALE;
	if (request->if_error > 0 && within(&age, request->if_error))
		return SERVED_ERROR;
	return SERVED_NOT;
}

static bool
entry_holds(const StoreLook *look, const ShelfItem *item)
{
	return item->origin == look->origin &&
		store_entry_holds(item, look->request->slots, look->request->nslots, look->sum);
}

bool
store_entry_serves(const StoreLook *look)
{
	ShelfView	view = store_view(look->partition);
	uint32		number = shelf_find(&view, look->hash, look->request->key);
	ShelfItem	item;

	if (number == 0)
		return false;
	shelf_tell(&view, number, &item);
	if (!entry_holds(look, &item))
	{
		/* the sum was read before the lock was had: what others have put meanwhile under a later one stays */
		if (item.sum < look->sum || item.nties != look->request->nslots || item.origin != look->origin)
		{
			shelf_drop(&view, number);
			pg_atomic_fetch_add_u64(&store_shared->outdated, 1);
		}
		return false;
	}
	return !look->replace && served_by_age(look->request, age_of(&item, look->request->now)) != SERVED_NOT;
}

/* ---- lookup ---- */

typedef struct Found
{
	Served		served;
	bool		outdated;		/* it is there and can never be given again */
	bool		pinned;
	uint32		flight;			/* open for this key: its id */
	bool		joinable;
} Found;

static void
fill_hit(const StoreRequest *request, const ShelfItem *item, StoreHit *hit)
{
	hit->len = hit->left = item->len;
	hit->head_len = item->head_len;
	hit->shape = item->shape;
	hit->age = age_of(item, request->now);
	hit->lifetime = Max(request->max_age - hit->age, 0);
	hit->cost = item->cost;
}

/* R3. Under the lock, shared. */
static void
find_entry(const StoreLook *look, Found *found, StoreHit *hit)
{
	ShelfView	view = store_view(look->partition);
	uint32		number = shelf_find(&view, look->hash, look->request->key);
	ShelfItem	item;

	found->served = SERVED_NOT;
	if (number == 0)
		return;
	shelf_tell(&view, number, &item);
	found->outdated = !entry_holds(look, &item);
	if (!found->outdated)
	{
		found->served = served_by_age(look->request, age_of(&item, look->request->now));
		if (found->served == SERVED_NOT)
			pg_atomic_fetch_add_u64(&store_shared->outdated, 1);
	}
	if (found->served == SERVED_NOT || !pin(look->request->worker, &view, number, hit))
		return;
	found->pinned = true;
	shelf_hit(&view, number);
	fill_hit(look->request, &item, hit);
}

/* Whoever joins takes an answer that is asked for already: only if nothing it reads has been written since that was sent. */
static void
find_flight(const StoreLook *look, Found *found)
{
	Flight	   *flight = store_flight_find(look->partition, look->hash, look->request->digest);

	if (flight == NULL)
		return;
	found->flight = pg_atomic_read_u32(&flight->id);
	found->joinable = flight->sum == look->sum && flight->nslots == look->request->nslots && flight->origin == look->origin;
	for (int i = 0; i < look->request->nslots && found->joinable; i++)
		found->joinable = flight->slots[i] == look->request->slots[i];
}

static StoreVerdict
give_hit(StoreLook *look, const Found *found, StoreFill *fill)
{
	if (!found->pinned)
		return STORE_ALONE;
	look->replace = true;
	if (found->served == SERVED_STALE && look->request->may_fill && found->flight == 0 &&
		store_flight_open(look, fill) == FLIGHT_OPENED)
		return STORE_HIT_REFRESH;
	return STORE_HIT;
}

/* It can never be given again; taken away if that does not mean to wait. */
static void
drop_outdated(const StoreLook *look)
{
	LWLock	   *lock = &store_part(look->partition)->lock;

	if (!LWLockConditionalAcquire(lock, LW_EXCLUSIVE))
		return;
	(void) store_entry_serves(look);
	LWLockRelease(lock);
}

/* False: another process was in between; look again. */
static bool
look_once(StoreLook *look, StoreHit *hit, StoreFill *fill, uint32 *flight, StoreVerdict *verdict)
{
	LWLock	   *lock = &store_part(look->partition)->lock;
	const StoreRequest *request = look->request;
	Found		found = {0};
	FlightOpened opened;

	LWLockAcquire(lock, LW_SHARED);
	find_entry(look, &found, hit);
	if (found.served != SERVED_FRESH)
		find_flight(look, &found);
	LWLockRelease(lock);

	*verdict = STORE_ALONE;
	if (found.served != SERVED_NOT)
		*verdict = give_hit(look, &found, fill);
	else if (found.flight != 0 && request->may_join && found.joinable)
	{
		*flight = found.flight;
		*verdict = STORE_JOIN;
	}
	else if (found.flight == 0 && request->may_fill)
	{
		opened = store_flight_open(look, fill);
		if (opened == FLIGHT_BUSY)
			return false;
		*verdict = opened == FLIGHT_OPENED ? STORE_MISS : STORE_ALONE;
	}
	else if (found.outdated)
		drop_outdated(look);
	return true;
}

static bool
request_is_sound(const StoreRequest *request)
{
	return store_shared != NULL && request->worker >= 0 && request->worker < store_shared->workers &&
		request->nslots > 0 && request->nslots <= PROOF_SLOTS &&
		request->key.len > 0 && request->key.len <= STORE_KEY_MAX;
}

StoreVerdict
store_lookup(const StoreRequest *request, StoreHit *hit, StoreFill *fill, uint32 *flight)
{
	StoreLook	look = {.request = request};
	StoreVerdict verdict = STORE_ALONE;
	int			origin;

	memset(hit, 0, sizeof(*hit));
	memset(fill, 0, sizeof(*fill));
	*flight = 0;
	if (!request_is_sound(request))
		return STORE_ALONE;
	origin = origin_number(request->origin_slot, request->origin);
	if (origin < 0)
		return STORE_ALONE;
	look.origin = (uint16) origin;
	look.hash = (uint32) request->digest.lo;
	look.partition = store_partition_of(request->digest);
	for (int i = 0; i < LOOKUPS_MAX; i++)
	{
		/* R1 and R3 in one: nothing has been sent yet, and the moment lies within the request. */
		if (!versions_read(request->slots, request->nslots, &look.sum) || look.sum >> 48 != 0 ||
			look_once(&look, hit, fill, flight, &verdict))
			return verdict;
	}
	return STORE_ALONE;
}
