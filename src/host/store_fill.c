/*
 * host/store_fill.c - flights and fills: how an answer comes into the store.
 *
 * A flight says that one worker asks the origin for one key; it holds the pages its answer is written to, so what a worker leaves behind can be
 * given back. The pages are the worker's alone until the commit: bytes are copied into them under no lock. An entry is made of them in one go,
 * under the partition's lock, and only if the versions are still those of the lookup.
 *
 * An id of a flight is the count of its uses and its number; it is over when the place has another id.
 */
#include "postgres.h"

#include "host/store_internal.h"

static void (*on_wake) (int worker) = NULL;

/* ---- flights ---- */

static Flight *
flight_at(int number)
{
	return (Flight *) ((char *) store_shared + store_shared->flights_at) + number;
}

static int
flights_total(void)
{
	return store_shared->partitions * store_shared->flights;
}

/* The flight an id speaks of, over or not; NULL: there is none such. */
static Flight *
flight_of(uint32 id)
{
	int			number = (int) (id & ((1 << FLIGHT_NUMBER_BITS) - 1)) - 1;

	return store_shared && number >= 0 && number < flights_total() ? flight_at(number) : NULL;
}

static int
partition_of(const Flight *flight)
{
	return (int) (flight - flight_at(0)) / store_shared->flights;
}

static void
put_free(Partition *part, int32 number)
{
	flight_at(number)->next = NO_FLIGHT;
	if (part->free_flight == NO_FLIGHT)
		part->free_flight = number;
	else
		flight_at(part->free_last)->next = number;
	part->free_last = number;
}

void
store_flights_init(void)
{
	for (int i = 0; i < store_shared->partitions; i++)
	{
		Partition  *part = store_part(i);

		part->free_flight = part->free_last = NO_FLIGHT;
		for (int bucket = 0; bucket < FLIGHT_BUCKETS; bucket++)
			part->flights[bucket] = NO_FLIGHT;
		for (int n = 0; n < store_shared->flights; n++)
			put_free(part, i * store_shared->flights + n);
	}
}

Flight *
store_flight_find(int partition, uint32 hash, Digest128 digest)
{
	int32		number = store_part(partition)->flights[hash % FLIGHT_BUCKETS];

	while (number != NO_FLIGHT && !digest_equal(flight_at(number)->digest, digest))
		number = flight_at(number)->next;
	return number == NO_FLIGHT ? NULL : flight_at(number);
}

/* A free place in the bucket of its hash, under the lock; NULL: too many are up. */
static Flight *
take_flight(int partition, uint32 hash)
{
	Partition  *part = store_part(partition);
	int32		number = part->free_flight;
	Flight	   *flight;

	if (number == NO_FLIGHT)
		return NULL;
	flight = flight_at(number);
	part->free_flight = flight->next;
	flight->next = part->flights[hash % FLIGHT_BUCKETS];
	part->flights[hash % FLIGHT_BUCKETS] = number;
	return flight;
}

static void
unlink_flight(Partition *part, Flight *flight)
{
	int32		number = (int32) (flight - flight_at(0));
	int32	   *place = &part->flights[flight->hash % FLIGHT_BUCKETS];

	while (*place != NO_FLIGHT && *place != number)
		place = &flight_at(*place)->next;
	if (*place == number)
		*place = flight->next;
}

/* Under the lock: it is over; whom to wake. The exchange comes after the id is gone: see store_join. */
static uint32
end_flight(Flight *flight)
{
	Partition  *part = store_part(partition_of(flight));

	unlink_flight(part, flight);
	flight->first = 0;
	pg_atomic_exchange_u32(&flight->id, 0);
	put_free(part, (int32) (flight - flight_at(0)));
	return pg_atomic_exchange_u32(&flight->waiting, 0);
}

static void
wake_all(uint32 waiting)
{
	for (int worker = 0; waiting != 0 && worker < store_shared->workers; worker++)
	{
		if ((waiting >> worker & 1) != 0 && on_wake)
			on_wake(worker);
		waiting &= ~((uint32) 1 << worker);
	}
}

bool
store_flight_over(uint32 id)
{
	Flight	   *flight = flight_of(id);

	return flight == NULL || pg_atomic_read_u32(&flight->id) != id;
}

bool
store_flight_held(uint32 id)
{
	Flight	   *flight = flight_of(id);

	return flight && pg_atomic_read_u32(&flight->id) == id && pg_atomic_read_u32(&flight->held) != 0;
}

/* Our bit first, then the look at the id; who ends it takes the id away first and then looks at the bits: one of us sees the other. */
void
store_join(int worker, uint32 id)
{
	Flight	   *flight = flight_of(id);

	if (store_shared == NULL || worker < 0 || worker >= store_shared->workers)
		return;
	pg_atomic_fetch_add_u64(&store_shared->joined, 1);
	if (flight)
		pg_atomic_fetch_or_u32(&flight->waiting, (uint32) 1 << worker);
	pg_memory_barrier();
	if (store_flight_over(id) && on_wake)
		on_wake(worker);
}

void
store_on_wake(void (*wake) (int worker))
{
	on_wake = wake;
}

int
store_flights_open(void)
{
	int			n = 0;

	for (int i = 0; i < flights_total(); i++)
		n += pg_atomic_read_u32(&flight_at(i)->id) != 0;
	return n;
}

/* ---- opening one ---- */

/* What the flight is of. Under the lock. */
static void
describe_flight(Flight *flight, const StoreLook *look, uint32 page)
{
	const StoreRequest *request = look->request;
	uint32		number = (uint32) (flight - flight_at(0)) + 1;

	flight->worker = (int16) request->worker;
	flight->origin = look->origin;
	flight->hash = look->hash;
	flight->digest = request->digest;
	flight->key_len = (uint32) request->key.len;
	flight->first = page;
	flight->sum = look->sum;
	flight->nslots = (uint8) request->nslots;
	for (int i = 0; i < request->nslots; i++)
		flight->slots[i] = (uint16) request->slots[i];
	/* a count of 0 would make an id of 0 possible with the place that follows the last */
	flight->uses = (flight->uses + 1) & (PG_UINT32_MAX >> FLIGHT_NUMBER_BITS);
	pg_atomic_write_u32(&flight->waiting, 0);
	pg_atomic_write_u32(&flight->held, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&flight->id, flight->uses << FLIGHT_NUMBER_BITS | number);
}

FlightOpened
store_flight_open(const StoreLook *look, StoreFill *fill)
{
	LWLock	   *lock = &store_part(look->partition)->lock;
	uint32		page = store_page();
	FlightOpened opened = FLIGHT_BUSY;
	Flight	   *flight;

	if (page == 0)
		return FLIGHT_NO_ROOM;
	memcpy(shelf_page_data(store_view(0).pool, page), look->request->key.data, look->request->key.len);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (store_flight_find(look->partition, look->hash, look->request->digest) == NULL && !store_entry_serves(look))
	{
		flight = take_flight(look->partition, look->hash);
		opened = flight ? FLIGHT_OPENED : FLIGHT_NO_ROOM;
		if (flight)
		{
			describe_flight(flight, look, page);
			fill->flight = pg_atomic_read_u32(&flight->id);
			fill->last = page;
		}
	}
	LWLockRelease(lock);
	if (opened != FLIGHT_OPENED)
		shelf_page_give(store_view(0).pool, page);
	return opened;
}

/* ---- filling ---- */

/* The flight of a fill that is still up and this worker's; NULL otherwise. */
static Flight *
flight_of_fill(int worker, const StoreFill *fill)
{
	Flight	   *flight = fill->flight ? flight_of(fill->flight) : NULL;

	if (flight == NULL || pg_atomic_read_u32(&flight->id) != fill->flight || flight->worker != worker || flight->first == 0)
		return NULL;
	return flight;
}

void
store_hold(int worker, StoreFill *fill, bool held)
{
	Flight	   *flight = store_shared ? flight_of_fill(worker, fill) : NULL;

	if (flight)
		pg_atomic_write_u32(&flight->held, held);
}

/* No answer takes more than half of the pages, whatever the origin's option says. */
static bool
too_long(const Flight *flight, const StoreFill *fill, size_t more)
{
	uint64		limit = (uint64) shelf_pool_pages(store_view(0).pool) * SHELF_PAGE / 2;

	limit = Min(limit, (uint64) PG_INT32_MAX);
	return more > limit || fill->len + more > fill->max_len || flight->key_len + fill->len + more > limit;
}

/* The page that byte `at` of key and value goes to; 0: no room. */
static uint32
page_for(StoreFill *fill, uint64 at)
{
	ShelfPool  *pool = store_view(0).pool;
	uint32		page;

	if (at % SHELF_PAGE != 0)
		return fill->last;
	page = store_page();
	if (page != 0)
	{
		shelf_page_tie(pool, fill->last, page);
		fill->last = page;
	}
	return page;
}

static bool
copy_in(Flight *flight, StoreFill *fill, Bytes bytes)
{
	while (bytes.len > 0)
	{
		uint64		at = flight->key_len + fill->len;
		uint32		page = page_for(fill, at);
		size_t		n = Min(bytes.len, SHELF_PAGE - at % SHELF_PAGE);

		if (page == 0)
			return false;
		memcpy(shelf_page_data(store_view(0).pool, page) + at % SHELF_PAGE, bytes.data, n);
		fill->len += n;
		bytes.data += n;
		bytes.len -= n;
	}
	return true;
}

bool
store_append(int worker, StoreFill *fill, Bytes bytes)
{
	Flight	   *flight = store_shared ? flight_of_fill(worker, fill) : NULL;

	if (flight && !too_long(flight, fill, bytes.len) && copy_in(flight, fill, bytes))
		return true;
	if (flight)
		pg_atomic_fetch_add_u64(&store_shared->too_large, 1);
	store_abort(worker, fill);
	return false;
}

/* Ends the flight, gives its pages back and wakes whoever waits. */
static void
give_up(Flight *flight)
{
	LWLock	   *lock = &store_part(partition_of(flight))->lock;
	uint32		chain = flight->first;
	uint32		waiting;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	waiting = end_flight(flight);
	LWLockRelease(lock);
	shelf_chain_give(store_view(0).pool, chain);
	wake_all(waiting);
}

void
store_abort(int worker, StoreFill *fill)
{
	Flight	   *flight = store_shared ? flight_of_fill(worker, fill) : NULL;

	if (flight)
		give_up(flight);
	memset(fill, 0, sizeof(*fill));
}

void
store_clear_flights(int worker)
{
	for (int i = 0; i < flights_total(); i++)
	{
		Flight	   *flight = flight_at(i);

		if (pg_atomic_read_u32(&flight->id) == 0)
			continue;
		pg_read_barrier();		/* others open theirs meanwhile: whose it is was written before its id */
		if (flight->worker == worker)
			give_up(flight);
	}
}

/* ---- commit ---- */

static void
describe_item(const Flight *flight, ShelfItem *item)
{
	memset(item, 0, sizeof(*item));
	item->hash = flight->hash;
	item->origin = flight->origin;
	item->sum = flight->sum;
	item->key_len = flight->key_len;
	item->nties = flight->nslots;
	memcpy(item->ties, flight->slots, flight->nslots * sizeof(uint16));
}

/*
 * R2. Under the lock: nobody puts another in between. If the versions have moved, nobody could find it: it is not put at all, and so an older sum never
 * takes the place of a newer one. (One of later versions than those just read cannot be there; if it is, it stays.)
 */
static bool
may_put(const Flight *flight, const ShelfView *view, Bytes key)
{
	uint32		slots[PROOF_SLOTS];
	uint64		sum;
	uint32		older;
	ShelfItem	item;

	for (int i = 0; i < flight->nslots; i++)
		slots[i] = flight->slots[i];
	if (!versions_read(slots, flight->nslots, &sum) || sum != flight->sum)
		return false;
	older = shelf_find(view, flight->hash, key);
	if (older == 0)
		return true;
	shelf_tell(view, older, &item);
	if (item.sum > sum && store_entry_holds(&item, slots, flight->nslots, item.sum))
		return false;
	shelf_drop(view, older);
	return true;
}

/* Ends the flight and makes its pages an entry, if that may be; else gives them back. */
static void
put_and_end(Flight *flight, const ShelfItem *item, uint32 *spare)
{
	int			partition = partition_of(flight);
	ShelfView	view = store_view(partition);
	LWLock	   *lock = &store_part(partition)->lock;
	uint32		chain = flight->first;
	Bytes		key = bytes_of(shelf_page_data(view.pool, chain), item->key_len);
	uint32		waiting;
	bool		put;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	put = may_put(flight, &view, key) && shelf_put(&view, item, chain, spare);
	waiting = end_flight(flight);
	LWLockRelease(lock);
	if (put)
		pg_atomic_fetch_add_u64(&store_shared->inserts, 1);
	else
		shelf_chain_give(view.pool, chain);
	wake_all(waiting);
}

/* Deliberately broken, for the test that must catch it (hyperpool.test_fault): the versions of now are said to be those of before. */
static void
take_versions_late(Flight *flight)
{
	uint32		slots[PROOF_SLOTS];
	uint64		sum;

	for (int i = 0; i < flight->nslots; i++)
		slots[i] = flight->slots[i];
	if (versions_read(slots, flight->nslots, &sum))
		flight->sum = sum;
}

void
store_commit(int worker, StoreFill *fill, uint32 head_len, uint64 shape, uint32 cost, int64 now)
{
	Flight	   *flight = store_shared ? flight_of_fill(worker, fill) : NULL;
	ShelfItem	item;
	uint32		spare = 0;

	if (flight == NULL)
	{
		memset(fill, 0, sizeof(*fill));
		return;
	}
	if (unlikely(hyperpool_test_fault && strcmp(hyperpool_test_fault, "versions_after_send") == 0))
		take_versions_late(flight);
	describe_item(flight, &item);
	item.len = (uint32) fill->len;
	item.head_len = (uint32) Min(head_len, fill->len);
	item.shape = shape;
	item.cost = cost;
	item.born = now;
	if (shelf_put_may_need_spare(&item))
		spare = store_page();
	put_and_end(flight, &item, &spare);
	if (spare != 0)
		shelf_page_give(store_view(0).pool, spare);
	memset(fill, 0, sizeof(*fill));
}
