/*
 * host/store_list.c - the store as views and functions see it: its entries, its numbers, and taking entries away.
 *
 * Runs in any process. A list is not of one instant: what comes, goes or moves while it is made may be told once, twice or not at all.
 */
#include "postgres.h"

#include "host/store_internal.h"
#include "miscadmin.h"

/* ---- one entry ---- */

/* Under the lock. */
static Bytes
tell_entry(const ShelfView *view, uint32 number, StoreEntryInfo *info)
{
	ShelfItem	item;
	KnownOrigin *origin;
	uint64		sum;

	shelf_tell(view, number, &item);
	origin = store_origin_at(item.origin);
	memset(info, 0, sizeof(*info));
	info->origin_slot = origin->slot;
	info->origin = origin->origin;
	info->len = item.len;
	info->key_len = item.key_len;
	info->occupied = shelf_occupied(view, number);
	info->born = item.born;
	info->hits = item.hits;
	info->shape = item.shape;
	info->nslots = Min(item.nties, PROOF_SLOTS);
	for (uint32 i = 0; i < info->nslots; i++)
		info->slots[i] = item.ties[i];
	info->valid = versions_read(info->slots, (int) info->nslots, &sum) && sum == item.sum;
	return shelf_key(view, number);
}

/* ---- walk ---- */

typedef struct Copy
{
	StoreEntryInfo info;
	uint8	   *key;			/* STORE_KEY_MAX bytes */
} Copy;

/* A copy of the entry that is `nth` of its bucket; false: there are no more. */
static bool
copy_nth(int partition, uint32 bucket, int nth, Copy *copy)
{
	ShelfView	view = store_view(partition);
	LWLock	   *lock = &store_part(partition)->lock;
	uint32		number;
	Bytes		key;

	LWLockAcquire(lock, LW_SHARED);
	number = shelf_walk(&view, bucket, 0);
	for (int i = 0; number != 0 && i < nth; i++)
		number = shelf_walk(&view, bucket, number);
	if (number != 0)
	{
		key = tell_entry(&view, number, &copy->info);
		memcpy(copy->key, key.data, Min(key.len, STORE_KEY_MAX));
	}
	LWLockRelease(lock);
	return number != 0;
}

void
store_walk(bool (*visit) (void *arg, const StoreEntryInfo *info, Bytes key), void *arg)
{
	Copy		copy;
	bool		more = true;

	if (store_shared == NULL)
		return;
	copy.key = palloc(STORE_KEY_MAX);
	for (int partition = 0; partition < store_shared->partitions && more; partition++)
	{
		ShelfView	view = store_view(partition);
		uint32		buckets = shelf_buckets(&view);

		for (uint32 bucket = 0; bucket < buckets && more; bucket++)
		{
			CHECK_FOR_INTERRUPTS();
			for (int nth = 0; more && copy_nth(partition, bucket, nth, &copy); nth++)
				more = visit(arg, &copy.info, bytes_of(copy.key, copy.info.key_len));
		}
	}
	pfree(copy.key);
}

/* ---- purge ---- */

static bool
bucket_is_empty(int partition, uint32 bucket)
{
	ShelfView	view = store_view(partition);
	bool		empty;

	LWLockAcquire(&store_part(partition)->lock, LW_SHARED);
	empty = shelf_walk(&view, bucket, 0) == 0;
	LWLockRelease(&store_part(partition)->lock);
	return empty;
}

static uint64
purge_bucket(int partition, uint32 bucket, bool (*which) (void *arg, const StoreEntryInfo *info, Bytes key), void *arg)
{
	ShelfView	view = store_view(partition);
	LWLock	   *lock = &store_part(partition)->lock;
	StoreEntryInfo info;
	uint64		purged = 0;
	uint32		number;
	uint32		next;
	Bytes		key;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (number = shelf_walk(&view, bucket, 0); number != 0; number = next)
	{
		next = shelf_walk(&view, bucket, number);
		key = tell_entry(&view, number, &info);
		if (which(arg, &info, key))
		{
			shelf_drop(&view, number);
			purged++;
		}
	}
	LWLockRelease(lock);
	return purged;
}

uint64
store_purge(bool (*which) (void *arg, const StoreEntryInfo *info, Bytes key), void *arg)
{
	uint64		purged = 0;

	for (int partition = 0; store_shared && partition < store_shared->partitions; partition++)
	{
		ShelfView	view = store_view(partition);
		uint32		buckets = shelf_buckets(&view);

		for (uint32 bucket = 0; bucket < buckets; bucket++)
		{
			CHECK_FOR_INTERRUPTS();
			/* most are empty: no need to hold up the hits of the partition for them */
			if (!bucket_is_empty(partition, bucket))
				purged += purge_bucket(partition, bucket, which, arg);
		}
	}
	if (store_shared)
		pg_atomic_fetch_add_u64(&store_shared->purged, purged);
	return purged;
}

/* ---- numbers ---- */

void
store_statistics(StoreStatistics *out)
{
	memset(out, 0, sizeof(*out));
	if (store_shared == NULL)
		return;
	out->size = store_shared->size;
	for (int i = 0; i < store_shared->partitions; i++)
	{
		ShelfView	view = store_view(i);
		ShelfTotals totals;

		LWLockAcquire(&store_part(i)->lock, LW_SHARED);
		totals = shelf_totals(&view);
		LWLockRelease(&store_part(i)->lock);
		out->used += totals.occupied;
		out->value_bytes += totals.bytes;
		out->entries += totals.entries;
	}
	out->inserts = pg_atomic_read_u64(&store_shared->inserts);
	out->evictions = pg_atomic_read_u64(&store_shared->evictions);
	out->purged = pg_atomic_read_u64(&store_shared->purged);
	out->outdated = pg_atomic_read_u64(&store_shared->outdated);
	out->too_large = pg_atomic_read_u64(&store_shared->too_large);
	out->joined = pg_atomic_read_u64(&store_shared->joined);
	out->flights = store_flights_open();
	out->pinned = store_pins_held();
}

void
store_reset_statistics(void)
{
	if (store_shared == NULL)
		return;
	pg_atomic_write_u64(&store_shared->inserts, 0);
	pg_atomic_write_u64(&store_shared->evictions, 0);
	pg_atomic_write_u64(&store_shared->purged, 0);
	pg_atomic_write_u64(&store_shared->outdated, 0);
	pg_atomic_write_u64(&store_shared->too_large, 0);
	pg_atomic_write_u64(&store_shared->joined, 0);
}
