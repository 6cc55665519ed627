/*
 * host/store_scope.c - whose request it is, as a small number.
 *
 * A table in shared memory: a role and bytes, compared in full, and their number. Nothing is taken out of it; when it is full it is emptied and the
 * numbers go on, so a number never comes to mean other bytes. One lock: shared to look, exclusive to add.
 */
#include "postgres.h"

#include "host/store_internal.h"

#define SCOPE_BYTES_MAX	(1024 * 1024)
#define SCOPE_BYTES_MIN	(64 * 1024)
#define SCOPE_BUCKETS	1024

typedef struct Scope
{
	uint32		next;			/* of its bytes' bucket: offset in the table; 0 = none */
	uint32		next_numbered;	/* of its number's */
	uint32		number;
	Oid			role;
	uint32		len;
	uint8		bytes[FLEXIBLE_ARRAY_MEMBER];
} Scope;

typedef struct ScopeTable
{
	LWLock		lock;
	uint32		size;			/* of bytes[] */
	uint32		used;			/* offset 0 is not used */
	uint32		last;			/* number given last */
	uint32		buckets[SCOPE_BUCKETS];	/* by bytes */
	uint32		numbered[SCOPE_BUCKETS];	/* by number */
	uint64		room[FLEXIBLE_ARRAY_MEMBER];
} ScopeTable;

static ScopeTable *
table(void)
{
	return (ScopeTable *) ((char *) store_shared + store_shared->scopes_at);
}

Size
store_scopes_size(void)
{
	uint64		wanted = (uint64) hyperpool_cache_size * 1024 / 64;

	return MAXALIGN(Max(SCOPE_BYTES_MIN, Min(SCOPE_BYTES_MAX, wanted)));
}

static void
empty_table(ScopeTable *scopes)
{
	memset(scopes->buckets, 0, sizeof(scopes->buckets));
	memset(scopes->numbered, 0, sizeof(scopes->numbered));
	scopes->used = sizeof(uint64);
}

void
store_scopes_init(void)
{
	ScopeTable *scopes = table();

	LWLockInitialize(&scopes->lock, store_shared->tranche);
	scopes->size = (uint32) (store_shared->scopes_size - offsetof(ScopeTable, room));
	scopes->last = 0;
	empty_table(scopes);
}

static Scope *
scope_at(ScopeTable *scopes, uint32 offset)
{
	return (Scope *) ((char *) scopes->room + offset);
}

static uint32
find_scope(ScopeTable *scopes, uint32 bucket, Oid role, Bytes bytes)
{
	for (uint32 at = scopes->buckets[bucket]; at != 0; at = scope_at(scopes, at)->next)
	{
		Scope	   *scope = scope_at(scopes, at);

		if (scope->role == role && bytes_equal(bytes_of(scope->bytes, scope->len), bytes))
			return scope->number;
	}
	return 0;
}

/* Under the exclusive lock. 0: it is too long, or the numbers are used up. */
static uint32
add_scope(ScopeTable *scopes, uint32 bucket, Oid role, Bytes bytes)
{
	uint32		size = (uint32) MAXALIGN(offsetof(Scope, bytes) + bytes.len);
	Scope	   *scope;
	uint32	   *numbered;

	if (scopes->last == PG_UINT32_MAX)
		return 0;
	if (scopes->size - scopes->used < size)
		empty_table(scopes);
	scope = scope_at(scopes, scopes->used);
	scope->next = scopes->buckets[bucket];
	scope->number = ++scopes->last;
	scope->role = role;
	scope->len = (uint32) bytes.len;
	memcpy(scope->bytes, bytes.data, bytes.len);
	scopes->buckets[bucket] = scopes->used;
	numbered = &scopes->numbered[scope->number % SCOPE_BUCKETS];
	scope->next_numbered = *numbered;
	*numbered = scopes->used;
	scopes->used += size;
	return scope->number;
}

/* FNV-1a: the same in every process, whether it has the key of digests or not. */
static uint32
bucket_of(Bytes bytes)
{
	uint32		hash = 2166136261u;

	for (size_t i = 0; i < bytes.len; i++)
		hash = (hash ^ bytes.data[i]) * 16777619u;
	return (hash ^ (hash >> 16)) % SCOPE_BUCKETS;
}

uint32
store_scope(Oid role, Bytes bytes)
{
	ScopeTable *scopes;
	uint32		bucket;
	uint32		number;

	if (store_shared == NULL || bytes.len == 0 || bytes.len > table()->size / 4)
		return 0;
	scopes = table();
	bucket = bucket_of(bytes);
	LWLockAcquire(&scopes->lock, LW_SHARED);
	number = find_scope(scopes, bucket, role, bytes);
	LWLockRelease(&scopes->lock);
	if (number != 0)
		return number;
	LWLockAcquire(&scopes->lock, LW_EXCLUSIVE);
	number = find_scope(scopes, bucket, role, bytes);
	if (number == 0)
		number = add_scope(scopes, bucket, role, bytes);
	LWLockRelease(&scopes->lock);
	return number;
}

Oid
store_scope_role(uint32 number)
{
	Oid			role = InvalidOid;
	ScopeTable *scopes;

	if (store_shared == NULL)
		return InvalidOid;
	scopes = table();
	LWLockAcquire(&scopes->lock, LW_SHARED);
	for (uint32 at = scopes->numbered[number % SCOPE_BUCKETS]; at != 0 && role == InvalidOid; at = scope_at(scopes, at)->next_numbered)
	{
		if (scope_at(scopes, at)->number == number)
			role = scope_at(scopes, at)->role;
	}
	LWLockRelease(&scopes->lock);
	return role;
}
