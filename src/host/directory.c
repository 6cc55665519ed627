/*
 * host/directory.c - origins, credentials, roles, hba lines.                      floor 4
 *
 * Answers: what do the catalogs and pg_hba.conf say, for processes that may not look? The manager collects a draft, turns it
 * into a flat image and publishes it; a reader copies the image, decodes its copy and finds things in that.
 *
 * Owns: the area "hyperpool directory" in shared memory: two halves for the image, the generation, the origins' slots with their
 * run-time flags and addresses. Never: touches a catalog, opens a file, trusts a length it has read.
 *
 * How a publication happens: the manager (the only writer) writes the half that is not current, without a lock, then takes
 * image_lock exclusively for the one store that makes it current. Readers copy the current half under image_lock shared, so when
 * the manager holds the lock nobody is in the other half; after that it may be wiped and used again.
 *
 * The image is a sequence of records, integers in network order, strings as length + 1 (0 stands for NULL), bytes, NUL. It is
 * read by a cursor that checks every length, though only the manager writes it: a crash would restart somebody's database.
 */
#include "postgres.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "catalog/pg_collation.h"
#include "libpq/ifaddr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "regex/regex.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "host/directory.h"
#include "host/gucs.h"

#define IMAGE_MAGIC		0x48504431	/* HPD1 */

/* the least bytes a record takes in the image: bounds a count before memory is taken for it */
#define ORIGIN_MIN		100
#define OPTION_MIN		8
#define CREDENTIAL_MIN	24
#define ROLE_MIN		28
#define PAIR_MIN		8
#define LINE_MIN		56
#define TOKEN_MIN		8

typedef struct OriginSlot
{
	Oid			oid;			/* InvalidOid = free; manager writes */
	uint64		freed;			/* when it was freed, a count: the longest free is taken first */
	pg_atomic_uint32 paused;
	pg_atomic_uint32 wanted;
	uint32		address_count;	/* generations given; survives a new look-up; address_lock */
	DirectoryAddresses addresses;	/* address_lock */
} OriginSlot;

typedef struct DirectoryShared
{
	int			tranche;
	LWLock		image_lock;
	LWLock		address_lock;
	pg_atomic_uint64 generation;	/* 0 = nothing published; its lowest bit says which half is current */
	pg_atomic_uint64 asked;		/* newest ticket */
	pg_atomic_uint64 done;		/* newest ticket whose publication is out */
	pg_atomic_uint32 manager;	/* a manager is there to do it */
	pg_atomic_uint32 database_missing;
	ConditionVariable published;
	uint32		changes;		/* gives origins and credentials their generations; manager only */
	uint64		slots_freed;	/* manager only */
	Size		used[2];		/* bytes of each half; image_lock */
	Size		half_size;
	uint8	   *halves[2];
	int			nslots;
	OriginSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} DirectoryShared;

typedef struct OidPair
{
	Oid			a;
	Oid			b;
} OidPair;

struct Directory
{
	MemoryContext context;
	uint64		generation;
	uint8	   *image;			/* private copy; strings point into it */
	Size		image_size;
	int			norigins;
	DirectoryOrigin *origins;
	DirectoryOrigin **origins_by_name;
	DirectoryOrigin **origins_by_oid;
	int			ncredentials;
	DirectoryCredential *credentials;
	DirectoryCredential **credentials_sorted;	/* by origin, role */
	int			nroles;
	DirectoryRole *roles;
	DirectoryRole **roles_by_name;
	DirectoryRole **roles_by_oid;
	uint32	   *visited;		/* a mark for each of roles_by_oid: the walk that has seen it */
	uint32	   *walk;			/* walk[0]: number of the newest walk; then the queue */
	int			nmembers;
	OidPair    *members;		/* (role, group), sorted */
	int			nrights;
	OidPair    *rights;			/* (role, origin), sorted; role 0 = everybody */
	int			nlines;
	GatewayHbaLine *lines;
	bool		hba_usable;
	bool		regexes_compiled;
	HbaWorld	world;
};

struct DirectoryDraft
{
	MemoryContext context;
	List	   *origins;
	List	   *credentials;
	List	   *roles;
	List	   *lines;
	List	   *moved;			/* slots of origins with another host than before */
	int			nmembers;
	int			members_size;
	OidPair    *members;
	int			nrights;
	int			rights_size;
	OidPair    *rights;
	bool		hba_usable;
};

static DirectoryShared *shared = NULL;

/* ---- shared memory ---- */

static Size
half_size(void)
{
	Size		page = sysconf(_SC_PAGESIZE);

	return TYPEALIGN(page, mul_size(hyperpool_directory_size, 1024));
}

static Size
head_size(void)
{
	return add_size(offsetof(DirectoryShared, slots), mul_size(sizeof(OriginSlot), hyperpool_max_origins));
}

Size
directory_shmem_size(void)
{
	/* one page more: the halves begin on a page of their own */
	return add_size(add_size(MAXALIGN(head_size()), sysconf(_SC_PAGESIZE)), mul_size(2, half_size()));
}

static void
init_locks(void)
{
	shared->tranche = LWLockNewTrancheId();
	LWLockInitialize(&shared->image_lock, shared->tranche);
	LWLockInitialize(&shared->address_lock, shared->tranche);
	ConditionVariableInit(&shared->published);
}

static void
init_slots(void)
{
	int			i;

	shared->nslots = hyperpool_max_origins;
	for (i = 0; i < shared->nslots; i++)
	{
		shared->slots[i].oid = InvalidOid;
		pg_atomic_init_u32(&shared->slots[i].paused, 0);
		pg_atomic_init_u32(&shared->slots[i].wanted, 0);
	}
}

static void
init_halves(void)
{
	Size		page = sysconf(_SC_PAGESIZE);
	char	   *start = (char *) TYPEALIGN(page, (char *) shared + head_size());

	shared->half_size = half_size();
	shared->halves[0] = (uint8 *) start;
	shared->halves[1] = (uint8 *) start + shared->half_size;
	/* secrets stay out of core dumps; huge pages may refuse, which costs nothing but that */
	(void) madvise(start, 2 * shared->half_size, MADV_DONTDUMP);
}

void
directory_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("hyperpool directory", directory_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, head_size());
		init_locks();
		pg_atomic_init_u64(&shared->generation, 0);
		pg_atomic_init_u64(&shared->asked, 0);
		pg_atomic_init_u64(&shared->done, 0);
		pg_atomic_init_u32(&shared->manager, 0);
		pg_atomic_init_u32(&shared->database_missing, 0);
		init_slots();
		init_halves();
	}
	LWLockRegisterTranche(shared->tranche, "hyperpool_directory");
}

static OriginSlot *
slot_at(int slot)
{
	if (shared == NULL || slot < 0 || slot >= shared->nslots)
		return NULL;
	return &shared->slots[slot];
}

/* ---- order and search ---- */

static int
compare_oids(Oid a, Oid b)
{
	return (a > b) - (a < b);
}

static int
compare_pairs(const void *a, const void *b)
{
	const OidPair *x = a;
	const OidPair *y = b;
	int			order = compare_oids(x->a, y->a);

	return order != 0 ? order : compare_oids(x->b, y->b);
}

static int
compare_bytes(Bytes a, Bytes b)
{
	size_t		common = Min(a.len, b.len);
	int			order = common > 0 ? memcmp(a.data, b.data, common) : 0;

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int
origins_by_name(const void *a, const void *b)
{
	return compare_bytes(bytes_str((*(DirectoryOrigin *const *) a)->name), bytes_str((*(DirectoryOrigin *const *) b)->name));
}

static int
origins_by_oid(const void *a, const void *b)
{
	return compare_oids((*(DirectoryOrigin *const *) a)->oid, (*(DirectoryOrigin *const *) b)->oid);
}

static int
roles_by_name(const void *a, const void *b)
{
	return compare_bytes(bytes_str((*(DirectoryRole *const *) a)->name), bytes_str((*(DirectoryRole *const *) b)->name));
}

static int
roles_by_oid(const void *a, const void *b)
{
	return compare_oids((*(DirectoryRole *const *) a)->oid, (*(DirectoryRole *const *) b)->oid);
}

static int
credentials_by_origin(const void *a, const void *b)
{
	const DirectoryCredential *x = *(DirectoryCredential *const *) a;
	const DirectoryCredential *y = *(DirectoryCredential *const *) b;

	if (x->origin != y->origin)
		return x->origin < y->origin ? -1 : 1;
	return compare_oids(x->role, y->role);
}

/* ---- decoding: every length is checked; `bad` ends it ---- */

static uint64
read_u64(ByteReader *r)
{
	uint64		high = read_u32(r);

	return (high << 32) | read_u32(r);
}

/* A count of records that take at least `least` bytes each: more than the rest can hold is a broken image. */
static int
read_count(ByteReader *r, size_t least)
{
	uint32		n = read_u32(r);

	if (r->bad || n > reader_left(r) / least)
	{
		r->bad = true;
		return 0;
	}
	return (int) n;
}

static Bytes
read_string(ByteReader *r)
{
	uint32		size = read_u32(r);
	Bytes		view = bytes_of(NULL, 0);

	if (size == 0)
		return view;
	view = read_bytes(r, size);
	if (r->bad || view.data == NULL || view.data[size - 1] != '\0')
	{
		r->bad = true;
		return bytes_of(NULL, 0);
	}
	view.len = size - 1;
	return view;
}

/* NULL stays NULL */
static const char *
read_text_or_null(ByteReader *r)
{
	return (const char *) read_string(r).data;
}

static const char *
read_text(ByteReader *r)
{
	const char *text = read_text_or_null(r);

	return text != NULL ? text : "";
}

static void
decode_options(ByteReader *r, DirectoryOrigin *origin)
{
	int			i;

	origin->noptions = read_count(r, OPTION_MIN);
	origin->options = palloc0(sizeof(DirectoryOption) * (origin->noptions + 1));
	for (i = 0; i < origin->noptions && !r->bad; i++)
	{
		origin->options[i].name = read_text(r);
		origin->options[i].value = read_text(r);
	}
}

static PoolMode
read_pool_mode(ByteReader *r)
{
	uint32		mode = read_u32(r);

	if (mode > POOL_STATEMENT)
		r->bad = true;
	return r->bad ? POOL_TRANSACTION : (PoolMode) mode;
}

static void
decode_origin(ByteReader *r, DirectoryOrigin *origin)
{
	uint32		flags;

	origin->name = read_text(r);
	origin->oid = read_u32(r);
	origin->slot = (int) read_u32(r);
	origin->generation = read_u32(r);
	origin->pool_size = (int) read_u32(r);
	origin->min_pool_size = (int) read_u32(r);
	origin->pool_mode = read_pool_mode(r);
	origin->queue_timeout = (int64) read_u64(r);
	origin->idle_timeout = (int64) read_u64(r);
	origin->max_lifetime = (int64) read_u64(r);
	origin->query_timeout = (int64) read_u64(r);
	origin->idle_transaction_timeout = (int64) read_u64(r);
	origin->connect_timeout = (int64) read_u64(r);
	flags = read_u32(r);
	origin->allow_trust = (flags & 1) != 0;
	origin->pooled = (flags & 2) != 0;
	origin->cache = (flags & 4) != 0;
	origin->max_age = (int64) read_u64(r);
	origin->stale_while_revalidate = (int64) read_u64(r);
	origin->max_result_size = (int64) read_u64(r);
	if (origin->slot < 0 || origin->slot >= shared->nslots)
		r->bad = true;
	decode_options(r, origin);
}

static void
decode_origins(ByteReader *r, Directory *d)
{
	int			i;

	d->norigins = read_count(r, ORIGIN_MIN);
	d->origins = palloc0(sizeof(DirectoryOrigin) * (d->norigins + 1));
	d->origins_by_name = palloc0(sizeof(DirectoryOrigin *) * (d->norigins + 1));
	d->origins_by_oid = palloc0(sizeof(DirectoryOrigin *) * (d->norigins + 1));
	for (i = 0; i < d->norigins && !r->bad; i++)
	{
		decode_origin(r, &d->origins[i]);
		d->origins_by_name[i] = d->origins_by_oid[i] = &d->origins[i];
	}
}

static void
decode_credentials(ByteReader *r, Directory *d)
{
	int			i;

	d->ncredentials = read_count(r, CREDENTIAL_MIN);
	d->credentials = palloc0(sizeof(DirectoryCredential) * (d->ncredentials + 1));
	d->credentials_sorted = palloc0(sizeof(DirectoryCredential *) * (d->ncredentials + 1));
	for (i = 0; i < d->ncredentials && !r->bad; i++)
	{
		DirectoryCredential *credential = &d->credentials[i];

		credential->origin = (int) read_u32(r);
		credential->role = read_u32(r);
		credential->generation = read_u32(r);
		credential->user = read_text(r);
		credential->password = read_text_or_null(r);
		credential->sslpassword = read_text_or_null(r);
		credential->require_password = read_u32(r) != 0;
		if (credential->origin < 0 || credential->origin >= d->norigins)
			r->bad = true;
		d->credentials_sorted[i] = credential;
	}
}

static void
decode_roles(ByteReader *r, Directory *d)
{
	int			i;

	d->nroles = read_count(r, ROLE_MIN);
	d->roles = palloc0(sizeof(DirectoryRole) * (d->nroles + 1));
	d->roles_by_name = palloc0(sizeof(DirectoryRole *) * (d->nroles + 1));
	d->roles_by_oid = palloc0(sizeof(DirectoryRole *) * (d->nroles + 1));
	d->visited = palloc0(sizeof(uint32) * (d->nroles + 1));
	d->walk = palloc0(sizeof(uint32) * (d->nroles + 2));
	for (i = 0; i < d->nroles && !r->bad; i++)
	{
		DirectoryRole *role = &d->roles[i];

		role->name = read_text(r);
		role->oid = read_u32(r);
		role->can_login = read_u32(r) != 0;
		role->connection_limit = (int) read_u32(r);
		role->valid_until = (TimestampTz) read_u64(r);
		role->verifier = read_text_or_null(r);
		d->roles_by_name[i] = d->roles_by_oid[i] = role;
	}
}

static OidPair *
decode_pairs(ByteReader *r, int *n)
{
	OidPair    *pairs;
	int			i;

	*n = read_count(r, PAIR_MIN);
	pairs = palloc0(sizeof(OidPair) * (*n + 1));
	for (i = 0; i < *n && !r->bad; i++)
	{
		pairs[i].a = read_u32(r);
		pairs[i].b = read_u32(r);
	}
	if (!r->bad)
		qsort(pairs, *n, sizeof(OidPair), compare_pairs);
	return pairs;
}

static HbaToken *
decode_tokens(ByteReader *r, uint32_t *n)
{
	HbaToken   *tokens;
	uint32		i;

	*n = (uint32_t) read_count(r, TOKEN_MIN);
	tokens = palloc0(sizeof(HbaToken) * (*n + 1));
	for (i = 0; i < *n && !r->bad; i++)
	{
		tokens[i].kind = (uint8_t) read_u32(r);
		tokens[i].text = read_string(r);
		if (tokens[i].kind > HBA_TOKEN_REGEX)
			r->bad = true;
	}
	return tokens;
}

static void
read_address(ByteReader *r, uint8_t *address)
{
	Bytes		view = read_bytes(r, HBA_ADDR_MAX);

	if (!r->bad)
		memcpy(address, view.data, HBA_ADDR_MAX);
}

static void
decode_line(ByteReader *r, GatewayHbaLine *line)
{
	line->type = read_u8(r);
	line->method = read_u8(r);
	line->address = read_u8(r);
	line->family = read_u8(r);
	line->clientcert = read_u8(r);
	line->clientname_dn = read_u8(r) != 0;
	read_address(r, line->addr);
	read_address(r, line->mask);
	line->line_number = (int) read_u32(r);
	line->method_name = read_string(r);
	line->map = read_string(r);
	line->databases = decode_tokens(r, &line->ndatabases);
	line->users = decode_tokens(r, &line->nusers);
	if (line->type > HBA_HOSTNOGSSENC || line->method > HBA_METHOD_OTHER || line->address > HBA_ADDRESS_NAME || line->clientcert > 2)
		r->bad = true;
}

static void
decode_lines(ByteReader *r, Directory *d)
{
	int			i;

	d->nlines = read_count(r, LINE_MIN);
	d->lines = palloc0(sizeof(GatewayHbaLine) * (d->nlines + 1));
	for (i = 0; i < d->nlines && !r->bad; i++)
		decode_line(r, &d->lines[i]);
}

static void
sort_directory(Directory *d)
{
	qsort(d->origins_by_name, d->norigins, sizeof(void *), origins_by_name);
	qsort(d->origins_by_oid, d->norigins, sizeof(void *), origins_by_oid);
	qsort(d->credentials_sorted, d->ncredentials, sizeof(void *), credentials_by_origin);
	qsort(d->roles_by_name, d->nroles, sizeof(void *), roles_by_name);
	qsort(d->roles_by_oid, d->nroles, sizeof(void *), roles_by_oid);
}

static void
decode(Directory *d)
{
	ByteReader	r = reader_of(bytes_of(d->image, d->image_size));

	if (read_u32(&r) != IMAGE_MAGIC)
		r.bad = true;
	d->hba_usable = read_u32(&r) != 0;
	decode_origins(&r, d);
	decode_credentials(&r, d);
	decode_roles(&r, d);
	d->members = decode_pairs(&r, &d->nmembers);
	d->rights = decode_pairs(&r, &d->nrights);
	decode_lines(&r, d);
	if (r.bad || reader_left(&r) != 0)
		elog(ERROR, "hyperpool: the published directory is damaged");
	sort_directory(d);
}

/* ---- the reader's side ---- */

void
directory_forget(Directory *d)
{
	if (d == NULL)
		return;
	if (d->image != NULL)
		explicit_bzero(d->image, d->image_size);
	MemoryContextDelete(d->context);
}

/* Memory is taken before the lock; if the image has grown meanwhile, once more. */
static void
copy_image(Directory *d)
{
	Size		room;
	bool		fits;

	do
	{
		uint64		generation;

		/* a hint only: read without the lock, checked under it */
		room = shared->used[pg_atomic_read_u64(&shared->generation) & 1] + 4096;
		if (room > shared->half_size)
			room = shared->half_size;
		d->image = MemoryContextAllocHuge(d->context, room);
		LWLockAcquire(&shared->image_lock, LW_SHARED);
		generation = pg_atomic_read_u64(&shared->generation);
		d->image_size = shared->used[generation & 1];
		fits = d->image_size <= room;
		if (fits)
			memcpy(d->image, shared->halves[generation & 1], d->image_size);
		LWLockRelease(&shared->image_lock);
		d->generation = generation;
		if (!fits)
		{
			pfree(d->image);
			d->image = NULL;
		}
	} while (!fits);
}

static Directory *
directory_read(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "hyperpool directory", ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Directory  *volatile d = NULL;

	PG_TRY();
	{
		d = palloc0(sizeof(Directory));
		d->context = context;
		copy_image(d);
		decode(d);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		if (d != NULL)
			directory_forget(d);
		else
			MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	return d;
}

Directory *
directory_refresh(Directory *old)
{
	MemoryContext before = CurrentMemoryContext;
	Directory  *volatile fresh = NULL;

	if (!directory_changed(old))
		return old;
	PG_TRY();
	{
		fresh = directory_read();
	}
	PG_CATCH();
	{
		/* out of memory most likely: the old directory serves on, the next turn tries again */
		MemoryContextSwitchTo(before);
		EmitErrorReport();
		FlushErrorState();
		fresh = NULL;
	}
	PG_END_TRY();
	if (fresh == NULL)
		return old;
	directory_forget(old);
	return fresh;
}

bool
directory_changed(const Directory *mine)
{
	return pg_atomic_read_u64(&shared->generation) != (mine != NULL ? mine->generation : 0);
}

uint64
directory_generation(const Directory *d)
{
	return d != NULL ? d->generation : 0;
}

const DirectoryOrigin *
directory_origin(const Directory *d, Bytes name)
{
	int			low = 0;
	int			high = d != NULL ? d->norigins : 0;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_bytes(name, bytes_str(d->origins_by_name[middle]->name));

		if (order == 0)
			return d->origins_by_name[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

const DirectoryOrigin *
directory_origin_by_oid(const Directory *d, Oid oid)
{
	DirectoryOrigin key = {.oid = oid};
	DirectoryOrigin *pointer = &key;
	DirectoryOrigin **found;

	if (d == NULL || d->norigins == 0)
		return NULL;
	found = bsearch(&pointer, d->origins_by_oid, d->norigins, sizeof(void *), origins_by_oid);
	return found != NULL ? *found : NULL;
}

int
directory_origin_count(const Directory *d)
{
	return d != NULL ? d->norigins : 0;
}

const DirectoryOrigin *
directory_origin_at(const Directory *d, int i)
{
	if (d == NULL || i < 0 || i >= d->norigins)
		return NULL;
	return &d->origins[i];
}

const DirectoryRole *
directory_role(const Directory *d, Bytes name)
{
	int			low = 0;
	int			high = d != NULL ? d->nroles : 0;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_bytes(name, bytes_str(d->roles_by_name[middle]->name));

		if (order == 0)
			return d->roles_by_name[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* Its place in roles_by_oid, or -1. */
static int
role_place(const Directory *d, Oid oid)
{
	DirectoryRole key = {.oid = oid};
	DirectoryRole *pointer = &key;
	DirectoryRole **found;

	if (d == NULL || d->nroles == 0)
		return -1;
	found = bsearch(&pointer, d->roles_by_oid, d->nroles, sizeof(void *), roles_by_oid);
	return found != NULL ? (int) (found - d->roles_by_oid) : -1;
}

const DirectoryRole *
directory_role_by_oid(const Directory *d, Oid oid)
{
	int			place = role_place(d, oid);

	return place >= 0 ? d->roles_by_oid[place] : NULL;
}

/* The first pair whose a is not below `a`. */
static int
first_pair(const OidPair *pairs, int n, Oid a)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (pairs[middle].a < a)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Puts the groups of a role that this walk has not seen into the queue; true if `group` is among them. */
static bool
walk_groups(const Directory *d, Oid role, Oid group, uint32 *queued)
{
	int			i;

	for (i = first_pair(d->members, d->nmembers, role); i < d->nmembers && d->members[i].a == role; i++)
	{
		int			place = role_place(d, d->members[i].b);

		if (d->members[i].b == group)
			return true;
		if (place < 0 || d->visited[place] == d->walk[0])
			continue;
		d->visited[place] = d->walk[0];
		d->walk[1 + (*queued)++] = (uint32) place;
	}
	return false;
}

bool
directory_is_member(const Directory *d, Oid role, Bytes group_name)
{
	const DirectoryRole *group = directory_role(d, group_name);
	int			place = role_place(d, role);
	uint32		queued = 0;
	uint32		next;

	if (group == NULL || place < 0)
		return false;
	if (group->oid == role)
		return true;
	if (++d->walk[0] == 0)		/* the marks of 4 billion walks ago must not count */
	{
		memset(d->visited, 0, sizeof(uint32) * d->nroles);
		d->walk[0] = 1;
	}
	/* each role is queued once, so cycles end and the queue cannot overflow */
	d->visited[place] = d->walk[0];
	d->walk[1 + queued++] = (uint32) place;
	for (next = 0; next < queued; next++)
	{
		if (walk_groups(d, d->roles_by_oid[d->walk[1 + next]]->oid, group->oid, &queued))
			return true;
	}
	return false;
}

static bool
has_right(const Directory *d, Oid role, Oid origin)
{
	OidPair		key = {role, origin};

	return d->nrights > 0 && bsearch(&key, d->rights, d->nrights, sizeof(OidPair), compare_pairs) != NULL;
}

bool
directory_may_use(const Directory *d, Oid role, const DirectoryOrigin *origin)
{
	if (d == NULL || origin == NULL)
		return false;
	return has_right(d, role, origin->oid) || has_right(d, InvalidOid, origin->oid);
}

static const DirectoryCredential *
find_credential(const Directory *d, int origin, Oid role)
{
	DirectoryCredential key = {.origin = origin, .role = role};
	DirectoryCredential *pointer = &key;
	DirectoryCredential **found;

	if (d->ncredentials == 0)
		return NULL;
	found = bsearch(&pointer, d->credentials_sorted, d->ncredentials, sizeof(void *), credentials_by_origin);
	return found != NULL ? *found : NULL;
}

const DirectoryCredential *
directory_credential(const Directory *d, const DirectoryOrigin *origin, Oid role)
{
	const DirectoryCredential *own;
	const DirectoryOrigin *mine = origin != NULL ? directory_origin_by_oid(d, origin->oid) : NULL;

	if (mine == NULL)
		return NULL;
	own = find_credential(d, (int) (mine - d->origins), role);
	return own != NULL ? own : find_credential(d, (int) (mine - d->origins), InvalidOid);
}

/* ---- hba: what the matcher asks ---- */

/*
 * As PostgreSQL does in the postmaster: pattern as wide characters of this process's encoding, collation C. Memory is the
 * directory's (16 and later allocate compiled regexes by palloc; before that there are none in pg_hba.conf).
 */
static bool
compile_token(HbaToken *token)
{
	regex_t    *regex = palloc0(sizeof(regex_t));
	pg_wchar   *pattern = palloc((token->text.len + 1) * sizeof(pg_wchar));
	int			length = pg_mb2wchar_with_len((const char *) token->text.data, pattern, (int) token->text.len);

	if (pg_regcomp(regex, pattern, length, REG_ADVANCED, C_COLLATION_OID) != 0)
		return false;
	token->regex = regex;
	return true;
}

static bool
compile_tokens(HbaToken *tokens, uint32 n)
{
	uint32		i;

	for (i = 0; i < n; i++)
	{
		if (tokens[i].kind == HBA_TOKEN_REGEX && tokens[i].regex == NULL && !compile_token(&tokens[i]))
			return false;
	}
	return true;
}

/* A pattern that does not compile here (it did for the manager) may stand on a reject line: then nobody gets in. */
static void
compile_regexes(Directory *d)
{
	MemoryContext before = MemoryContextSwitchTo(d->context);
	int			i;

	for (i = 0; i < d->nlines; i++)
	{
		if (!compile_tokens(d->lines[i].databases, d->lines[i].ndatabases) || !compile_tokens(d->lines[i].users, d->lines[i].nusers))
		{
			ereport(LOG, (errcode(ERRCODE_INVALID_REGULAR_EXPRESSION),
						  errmsg("hyperpool could not compile a regular expression of pg_hba.conf line %d", d->lines[i].line_number)));
			d->hba_usable = false;
		}
	}
	MemoryContextSwitchTo(before);
	d->regexes_compiled = true;
}

const GatewayHbaLine *
directory_hba(const Directory *d, size_t *n, bool *usable)
{
	*n = 0;
	*usable = false;
	if (d == NULL)
		return NULL;
	if (!d->regexes_compiled)
		compile_regexes((Directory *) d);	/* lazily: most readers never ask */
	*usable = d->hba_usable;
	*n = (size_t) d->nlines;
	return d->lines;
}

static bool
world_is_member(void *arg, Bytes user, Bytes role)
{
	const DirectoryRole *who = directory_role(arg, user);

	return who != NULL && directory_is_member(arg, who->oid, role);
}

static bool
world_regex_matches(void *arg, void *regex, Bytes text)
{
	pg_wchar	wide[NAMEDATALEN * 4 + 1];
	int			length;

	/* names of roles and databases are shorter; an origin name too */
	if (regex == NULL || text.len > NAMEDATALEN * 4)
		return false;
	length = pg_mb2wchar_with_len((const char *) text.data, wide, (int) text.len);
	return pg_regexec(regex, wide, length, 0, NULL, 0, NULL, 0) == 0;
}

typedef struct OwnAddressSearch
{
	struct sockaddr_storage client;
	bool		net;
	bool		found;
} OwnAddressSearch;

/* The same rule as the server's: samehost is the interface's address, samenet its network. */
static void
compare_interface(struct sockaddr *address, struct sockaddr *netmask, void *arg)
{
	OwnAddressSearch *search = arg;
	struct sockaddr_storage mask;

	if (search->found || address->sa_family != search->client.ss_family)
		return;
	if (search->net)
		search->found = pg_range_sockaddr(&search->client, (struct sockaddr_storage *) address, (struct sockaddr_storage *) netmask);
	else
	{
		pg_sockaddr_cidr_mask(&mask, NULL, address->sa_family);
		search->found = pg_range_sockaddr(&search->client, (struct sockaddr_storage *) address, &mask);
	}
}

static bool
world_is_own_address(void *arg, const HbaClient *client, bool net)
{
	OwnAddressSearch search = {.net = net};

	if (client->local)
		return false;
	if (client->family == 4)
	{
		search.client.ss_family = AF_INET;
		memcpy(&((struct sockaddr_in *) &search.client)->sin_addr, client->addr, 4);
	}
	else
	{
		search.client.ss_family = AF_INET6;
		memcpy(&((struct sockaddr_in6 *) &search.client)->sin6_addr, client->addr, 16);
	}
	return pg_foreach_ifaddr(compare_interface, &search) >= 0 && search.found;
}

const HbaWorld *
directory_hba_world(Directory *d)
{
	d->world.arg = d;
	d->world.is_member = world_is_member;
	d->world.regex_matches = world_regex_matches;
	d->world.is_own_address = world_is_own_address;
	return &d->world;
}

/* ---- run-time flags ---- */

int
directory_published_slot(Oid oid)
{
	int			i;

	/* no lock: a slot's oid is one aligned word, written by the manager only */
	for (i = 0; shared != NULL && OidIsValid(oid) && i < shared->nslots; i++)
	{
		if (*(volatile Oid *) &shared->slots[i].oid == oid)
			return i;
	}
	return -1;
}

bool
directory_is_paused(int slot)
{
	OriginSlot *s = slot_at(slot);

	return s != NULL && pg_atomic_read_u32(&s->paused) != 0;
}

void
directory_set_paused(int slot, bool paused)
{
	OriginSlot *s = slot_at(slot);

	if (s != NULL)
		pg_atomic_write_u32(&s->paused, paused ? 1 : 0);
}

void
directory_get_addresses(int slot, DirectoryAddresses *out)
{
	OriginSlot *s = slot_at(slot);

	memset(out, 0, sizeof(*out));
	if (s == NULL)
		return;
	LWLockAcquire(&shared->address_lock, LW_SHARED);
	memcpy(out, &s->addresses, sizeof(*out));
	LWLockRelease(&shared->address_lock);
	out->hosts[sizeof(out->hosts) - 1] = out->hostaddrs[sizeof(out->hostaddrs) - 1] = '\0';
	out->ports[sizeof(out->ports) - 1] = out->error[sizeof(out->error) - 1] = '\0';
}

static bool
addresses_equal(const DirectoryAddresses *a, const DirectoryAddresses *b)
{
	return a->failed == b->failed && strcmp(a->hosts, b->hosts) == 0 && strcmp(a->hostaddrs, b->hostaddrs) == 0 &&
		strcmp(a->ports, b->ports) == 0 && strcmp(a->error, b->error) == 0;
}

bool
directory_set_addresses(const Directory *d, int slot, const DirectoryAddresses *in)
{
	OriginSlot *s = slot_at(slot);
	bool		current;

	if (s == NULL)
		return true;
	/* the manager publishes under the same lock, so addresses of a former host cannot follow a newer directory */
	LWLockAcquire(&shared->address_lock, LW_EXCLUSIVE);
	current = !directory_changed(d);
	if (current && (s->addresses.generation == 0 || !addresses_equal(&s->addresses, in)))
	{
		memcpy(&s->addresses, in, sizeof(*in));
		if (++s->address_count == 0)
			s->address_count = 1;
		s->addresses.generation = s->address_count;
	}
	LWLockRelease(&shared->address_lock);
	return current;
}

void
directory_want_addresses(int slot)
{
	OriginSlot *s = slot_at(slot);

	if (s != NULL)
		pg_atomic_write_u32(&s->wanted, 1);
}

bool
directory_addresses_wanted(int slot)
{
	OriginSlot *s = slot_at(slot);

	return s != NULL && pg_atomic_exchange_u32(&s->wanted, 0) != 0;
}

/* ---- the manager: drafts ---- */

DirectoryDraft *
directory_draft(void)
{
	DirectoryDraft *draft = palloc0(sizeof(DirectoryDraft));

	draft->context = CurrentMemoryContext;
	return draft;
}

static const char *
copy_text(const char *text)
{
	return text != NULL ? pstrdup(text) : NULL;
}

static Bytes
copy_bytes(Bytes view)
{
	char	   *copy;

	if (view.data == NULL)
		return view;
	copy = palloc(view.len + 1);
	memcpy(copy, view.data, view.len);
	copy[view.len] = '\0';
	return bytes_of(copy, view.len);
}

void
directory_draft_origin(DirectoryDraft *draft, const DirectoryOrigin *origin)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryOrigin *copy = palloc(sizeof(DirectoryOrigin));
	int			i;

	*copy = *origin;
	copy->name = pstrdup(origin->name);
	copy->options = palloc0(sizeof(DirectoryOption) * (origin->noptions + 1));
	for (i = 0; i < origin->noptions; i++)
	{
		copy->options[i].name = pstrdup(origin->options[i].name);
		copy->options[i].value = pstrdup(origin->options[i].value);
	}
	draft->origins = lappend(draft->origins, copy);
	MemoryContextSwitchTo(before);
}

void
directory_draft_credential(DirectoryDraft *draft, const DirectoryCredential *credential)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryCredential *copy = palloc(sizeof(DirectoryCredential));

	*copy = *credential;
	copy->user = copy_text(credential->user);
	copy->password = copy_text(credential->password);
	copy->sslpassword = copy_text(credential->sslpassword);
	draft->credentials = lappend(draft->credentials, copy);
	MemoryContextSwitchTo(before);
}

void
directory_draft_role(DirectoryDraft *draft, const DirectoryRole *role)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	DirectoryRole *copy = palloc(sizeof(DirectoryRole));

	*copy = *role;
	copy->name = pstrdup(role->name);
	copy->verifier = copy_text(role->verifier);
	draft->roles = lappend(draft->roles, copy);
	MemoryContextSwitchTo(before);
}

static void
add_pair(DirectoryDraft *draft, OidPair **pairs, int *n, int *size, OidPair pair)
{
	if (*n == *size)
	{
		*size = *size == 0 ? 64 : *size * 2;
		if (*pairs == NULL)
			*pairs = MemoryContextAllocHuge(draft->context, sizeof(OidPair) * *size);
		else
			*pairs = repalloc_huge(*pairs, sizeof(OidPair) * *size);
	}
	(*pairs)[(*n)++] = pair;
}

void
directory_draft_member(DirectoryDraft *draft, Oid role, Oid group)
{
	add_pair(draft, &draft->members, &draft->nmembers, &draft->members_size, (OidPair) {role, group});
}

void
directory_draft_right(DirectoryDraft *draft, Oid role, Oid origin)
{
	add_pair(draft, &draft->rights, &draft->nrights, &draft->rights_size, (OidPair) {role, origin});
}

static HbaToken *
copy_tokens(const HbaToken *tokens, uint32 n)
{
	HbaToken   *copy = palloc0(sizeof(HbaToken) * (n + 1));
	uint32		i;

	for (i = 0; i < n; i++)
	{
		copy[i].kind = tokens[i].kind;
		copy[i].text = copy_bytes(tokens[i].text);
	}
	return copy;
}

void
directory_draft_hba(DirectoryDraft *draft, const GatewayHbaLine *line)
{
	MemoryContext before = MemoryContextSwitchTo(draft->context);
	GatewayHbaLine *copy = palloc(sizeof(GatewayHbaLine));

	*copy = *line;
	copy->method_name = copy_bytes(line->method_name);
	copy->map = copy_bytes(line->map);
	copy->databases = copy_tokens(line->databases, line->ndatabases);
	copy->users = copy_tokens(line->users, line->nusers);
	draft->lines = lappend(draft->lines, copy);
	MemoryContextSwitchTo(before);
}

void
directory_draft_hba_usable(DirectoryDraft *draft, bool usable)
{
	draft->hba_usable = usable;
}

static void
wipe_text(const char *text)
{
	if (text != NULL)
		explicit_bzero((char *) text, strlen(text));
}

static void
wipe_draft(DirectoryDraft *draft)
{
	ListCell   *cell;

	foreach(cell, draft->credentials)
	{
		wipe_text(((DirectoryCredential *) lfirst(cell))->password);
		wipe_text(((DirectoryCredential *) lfirst(cell))->sslpassword);
	}
	foreach(cell, draft->roles)
		wipe_text(((DirectoryRole *) lfirst(cell))->verifier);
}

/* ---- the manager: slots ---- */

static void
take_slot(OriginSlot *slot, Oid oid)
{
	pg_atomic_write_u32(&slot->paused, 0);
	pg_atomic_write_u32(&slot->wanted, 1);
	LWLockAcquire(&shared->address_lock, LW_EXCLUSIVE);
	memset(&slot->addresses, 0, sizeof(slot->addresses));
	LWLockRelease(&shared->address_lock);
	slot->oid = oid;
}

/* A slot just freed may still be in a worker's old copy, so the one free for longest is taken. */
int
directory_slot_of(Oid oid)
{
	int			best = -1;
	int			i;

	for (i = 0; i < shared->nslots; i++)
	{
		if (shared->slots[i].oid == oid)
			return i;
		if (shared->slots[i].oid == InvalidOid && (best < 0 || shared->slots[i].freed < shared->slots[best].freed))
			best = i;
	}
	if (best >= 0)
		take_slot(&shared->slots[best], oid);
	return best;
}

static bool
draft_has_origin(const DirectoryDraft *draft, Oid oid)
{
	ListCell   *cell;

	foreach(cell, draft->origins)
	{
		if (((DirectoryOrigin *) lfirst(cell))->oid == oid)
			return true;
	}
	return false;
}

static void
free_slots(const DirectoryDraft *draft)
{
	int			i;

	for (i = 0; i < shared->nslots; i++)
	{
		OriginSlot *slot = &shared->slots[i];

		if (slot->oid == InvalidOid || draft_has_origin(draft, slot->oid))
			continue;
		slot->oid = InvalidOid;
		slot->freed = ++shared->slots_freed;
	}
}

/* ---- the manager: generations of origins and credentials ---- */

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static bool
same_options(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	int			i;

	if (a->noptions != b->noptions)
		return false;
	for (i = 0; i < a->noptions; i++)
	{
		if (!same_text(a->options[i].name, b->options[i].name) || !same_text(a->options[i].value, b->options[i].value))
			return false;
	}
	return true;
}

static bool
same_origin(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	return same_text(a->name, b->name) && a->slot == b->slot && a->pool_size == b->pool_size && a->min_pool_size == b->min_pool_size &&
		a->pool_mode == b->pool_mode && a->queue_timeout == b->queue_timeout && a->idle_timeout == b->idle_timeout &&
		a->max_lifetime == b->max_lifetime && a->query_timeout == b->query_timeout &&
		a->idle_transaction_timeout == b->idle_transaction_timeout && a->connect_timeout == b->connect_timeout &&
		a->allow_trust == b->allow_trust && a->pooled == b->pooled && a->cache == b->cache && a->max_age == b->max_age &&
		a->stale_while_revalidate == b->stale_while_revalidate && a->max_result_size == b->max_result_size && same_options(a, b);
}

static bool
same_credential(const DirectoryCredential *a, const DirectoryCredential *b)
{
	return same_text(a->user, b->user) && same_text(a->password, b->password) && same_text(a->sslpassword, b->sslpassword) &&
		a->require_password == b->require_password;
}

static uint32
next_change(void)
{
	if (++shared->changes == 0)
		shared->changes = 1;
	return shared->changes;
}

static int
count_credentials(const DirectoryDraft *draft, int origin)
{
	ListCell   *cell;
	int			n = 0;

	foreach(cell, draft->credentials)
		n += ((DirectoryCredential *) lfirst(cell))->origin == origin ? 1 : 0;
	return n;
}

static int
count_published_credentials(const Directory *was, int origin)
{
	int			n = 0;
	int			i;

	for (i = 0; i < was->ncredentials; i++)
		n += was->credentials[i].origin == origin ? 1 : 0;
	return n;
}

/* Gives generations to the credentials of one origin; true if none of them is new, changed or gone. */
static bool
number_credentials(DirectoryDraft *draft, int number, const Directory *was, int was_number)
{
	ListCell   *cell;
	bool		same = was_number >= 0 && count_credentials(draft, number) == count_published_credentials(was, was_number);

	foreach(cell, draft->credentials)
	{
		DirectoryCredential *credential = lfirst(cell);
		const DirectoryCredential *before;

		if (credential->origin != number)
			continue;
		before = was_number >= 0 ? find_credential(was, was_number, credential->role) : NULL;
		if (before != NULL && same_credential(before, credential))
			credential->generation = before->generation;
		else
		{
			credential->generation = next_change();
			same = false;
		}
	}
	return same;
}

static const char *
connection_option(const DirectoryOrigin *origin, const char *name)
{
	int			i;

	for (i = 0; i < origin->noptions; i++)
	{
		if (strcmp(origin->options[i].name, name) == 0)
			return origin->options[i].value;
	}
	return NULL;
}

/* The addresses found belong to these three. */
static bool
same_place(const DirectoryOrigin *a, const DirectoryOrigin *b)
{
	return same_text(connection_option(a, "host"), connection_option(b, "host")) &&
		same_text(connection_option(a, "hostaddr"), connection_option(b, "hostaddr")) &&
		same_text(connection_option(a, "port"), connection_option(b, "port"));
}

static void
number_origins(DirectoryDraft *draft, const Directory *was)
{
	ListCell   *cell;
	int			number = 0;

	foreach(cell, draft->origins)
	{
		DirectoryOrigin *origin = lfirst(cell);
		const DirectoryOrigin *before = directory_origin_by_oid(was, origin->oid);
		bool		same = number_credentials(draft, number, was, before != NULL ? (int) (before - was->origins) : -1);

		if (before != NULL && same && same_origin(before, origin))
			origin->generation = before->generation;
		else
			origin->generation = next_change();
		if (before != NULL && !same_place(before, origin))
			draft->moved = lappend_int(draft->moved, origin->slot);
		number++;
	}
}

/* ---- the manager: encoding into the half that is not current ---- */

typedef struct ImageWriter
{
	uint8	   *at;
	uint8	   *end;
	bool		full;			/* it did not fit; nothing more is written */
} ImageWriter;

static void
put(ImageWriter *w, const void *data, size_t n)
{
	if (w->full || n > (size_t) (w->end - w->at))
	{
		w->full = true;
		return;
	}
	if (n > 0)
		memcpy(w->at, data, n);
	w->at += n;
}

static void
put_u32(ImageWriter *w, uint32 value)
{
	uint8		bytes[4];

	set_u32(bytes, value);
	put(w, bytes, 4);
}

static void
put_u64(ImageWriter *w, uint64 value)
{
	put_u32(w, (uint32) (value >> 32));
	put_u32(w, (uint32) value);
}

static void
put_bytes(ImageWriter *w, Bytes view)
{
	if (view.data == NULL)
	{
		put_u32(w, 0);
		return;
	}
	put_u32(w, (uint32) view.len + 1);
	put(w, view.data, view.len);
	put(w, "", 1);
}

static void
put_text(ImageWriter *w, const char *text)
{
	put_bytes(w, text != NULL ? bytes_str(text) : bytes_of(NULL, 0));
}

static void
encode_origin(ImageWriter *w, const DirectoryOrigin *origin)
{
	int			i;

	put_text(w, origin->name);
	put_u32(w, origin->oid);
	put_u32(w, (uint32) origin->slot);
	put_u32(w, origin->generation);
	put_u32(w, (uint32) origin->pool_size);
	put_u32(w, (uint32) origin->min_pool_size);
	put_u32(w, (uint32) origin->pool_mode);
	put_u64(w, (uint64) origin->queue_timeout);
	put_u64(w, (uint64) origin->idle_timeout);
	put_u64(w, (uint64) origin->max_lifetime);
	put_u64(w, (uint64) origin->query_timeout);
	put_u64(w, (uint64) origin->idle_transaction_timeout);
	put_u64(w, (uint64) origin->connect_timeout);
	put_u32(w, (origin->allow_trust ? 1 : 0) | (origin->pooled ? 2 : 0) | (origin->cache ? 4 : 0));
	put_u64(w, (uint64) origin->max_age);
	put_u64(w, (uint64) origin->stale_while_revalidate);
	put_u64(w, (uint64) origin->max_result_size);
	put_u32(w, (uint32) origin->noptions);
	for (i = 0; i < origin->noptions; i++)
	{
		put_text(w, origin->options[i].name);
		put_text(w, origin->options[i].value);
	}
}

static void
encode_credential(ImageWriter *w, const DirectoryCredential *credential)
{
	put_u32(w, (uint32) credential->origin);
	put_u32(w, credential->role);
	put_u32(w, credential->generation);
	put_text(w, credential->user);
	put_text(w, credential->password);
	put_text(w, credential->sslpassword);
	put_u32(w, credential->require_password ? 1 : 0);
}

static void
encode_role(ImageWriter *w, const DirectoryRole *role)
{
	put_text(w, role->name);
	put_u32(w, role->oid);
	put_u32(w, role->can_login ? 1 : 0);
	put_u32(w, (uint32) role->connection_limit);
	put_u64(w, (uint64) role->valid_until);
	put_text(w, role->verifier);
}

static void
encode_pairs(ImageWriter *w, const OidPair *pairs, int n)
{
	int			i;

	put_u32(w, (uint32) n);
	for (i = 0; i < n; i++)
	{
		put_u32(w, pairs[i].a);
		put_u32(w, pairs[i].b);
	}
}

static void
encode_tokens(ImageWriter *w, const HbaToken *tokens, uint32 n)
{
	uint32		i;

	put_u32(w, n);
	for (i = 0; i < n; i++)
	{
		put_u32(w, tokens[i].kind);
		put_bytes(w, tokens[i].text);
	}
}

static void
encode_line(ImageWriter *w, const GatewayHbaLine *line)
{
	uint8		small[6] = {line->type, line->method, line->address, line->family, line->clientcert, line->clientname_dn ? 1 : 0};

	put(w, small, sizeof(small));
	put(w, line->addr, HBA_ADDR_MAX);
	put(w, line->mask, HBA_ADDR_MAX);
	put_u32(w, (uint32) line->line_number);
	put_bytes(w, line->method_name);
	put_bytes(w, line->map);
	encode_tokens(w, line->databases, line->ndatabases);
	encode_tokens(w, line->users, line->nusers);
}

static void
encode(ImageWriter *w, const DirectoryDraft *draft)
{
	ListCell   *cell;

	put_u32(w, IMAGE_MAGIC);
	put_u32(w, draft->hba_usable ? 1 : 0);
	put_u32(w, (uint32) list_length(draft->origins));
	foreach(cell, draft->origins)
		encode_origin(w, lfirst(cell));
	put_u32(w, (uint32) list_length(draft->credentials));
	foreach(cell, draft->credentials)
		encode_credential(w, lfirst(cell));
	put_u32(w, (uint32) list_length(draft->roles));
	foreach(cell, draft->roles)
		encode_role(w, lfirst(cell));
	encode_pairs(w, draft->members, draft->nmembers);
	encode_pairs(w, draft->rights, draft->nrights);
	put_u32(w, (uint32) list_length(draft->lines));
	foreach(cell, draft->lines)
		encode_line(w, lfirst(cell));
}

/* ---- the manager: publication ---- */

/* Writes the draft into the idle half; returns its size, or raises with the idle half wiped. */
static Size
write_idle_half(const DirectoryDraft *draft, int idle)
{
	ImageWriter w = {shared->halves[idle], shared->halves[idle] + shared->half_size, false};

	encode(&w, draft);
	if (w.full)
	{
		explicit_bzero(shared->halves[idle], shared->half_size);
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("origins, roles and pg_hba.conf lines do not fit into the directory of hyperpool"),
						errdetail("%d origins, %d credentials, %d roles and %d lines are to be published; the former ones stay in force.",
								  list_length(draft->origins), list_length(draft->credentials), list_length(draft->roles), list_length(draft->lines)),
						errhint("Raise hyperpool.directory_size (now %d kB) and restart the server.", hyperpool_directory_size)));
	}
	return (Size) (w.at - shared->halves[idle]);
}

static void
forget_addresses(OriginSlot *slot)
{
	memset(&slot->addresses, 0, sizeof(slot->addresses));
	pg_atomic_write_u32(&slot->wanted, 1);
}

/* Lock order: address_lock, image_lock. Readers never hold both. */
static void
make_current(const DirectoryDraft *draft, uint64 generation, int half, Size used)
{
	ListCell   *cell;

	LWLockAcquire(&shared->address_lock, LW_EXCLUSIVE);
	foreach(cell, draft->moved)
	{
		OriginSlot *slot = slot_at(lfirst_int(cell));

		if (slot != NULL)
			forget_addresses(slot);
	}
	LWLockAcquire(&shared->image_lock, LW_EXCLUSIVE);
	shared->used[half] = used;
	pg_write_barrier();
	pg_atomic_write_u64(&shared->generation, generation);
	LWLockRelease(&shared->image_lock);
	LWLockRelease(&shared->address_lock);
}

bool
directory_publish(DirectoryDraft *draft)
{
	uint64		generation = pg_atomic_read_u64(&shared->generation);
	int			current = (int) (generation & 1);
	int			idle = 1 - current;
	Directory  *was = generation != 0 ? directory_read() : NULL;
	Size		used;
	bool		changed;

	number_origins(draft, was);
	directory_forget(was);
	used = write_idle_half(draft, idle);
	wipe_draft(draft);
	changed = generation == 0 || used != shared->used[current] || memcmp(shared->halves[0], shared->halves[1], used) != 0;
	if (changed)
	{
		/* the lowest bit names the half: from 0 the first publication goes to half 1 */
		make_current(draft, generation + 1, idle, used);
		explicit_bzero(shared->halves[current], shared->half_size);
	}
	else
		explicit_bzero(shared->halves[idle], used);
	free_slots(draft);
	return changed;
}

uint64
directory_ask_publication(void)
{
	return shared != NULL ? pg_atomic_fetch_add_u64(&shared->asked, 1) + 1 : 0;
}

uint64
directory_publication_asked(void)
{
	/* a full barrier: catalogs are looked at after the ticket has been read */
	return pg_atomic_fetch_add_u64(&shared->asked, 0);
}

void
directory_publication_done(uint64 ticket)
{
	pg_atomic_write_u64(&shared->done, ticket);
	ConditionVariableBroadcast(&shared->published);
}

void
directory_set_manager(bool present)
{
	if (shared != NULL)
		pg_atomic_write_u32(&shared->manager, present ? 1 : 0);
}

bool
directory_has_manager(void)
{
	return shared != NULL && pg_atomic_read_u32(&shared->manager) != 0;
}

void
directory_set_database_missing(bool missing)
{
	pg_atomic_write_u32(&shared->database_missing, missing ? 1 : 0);
}

bool
directory_is_database_missing(void)
{
	return pg_atomic_read_u32(&shared->database_missing) != 0;
}

static bool
is_published(uint64 ticket)
{
	return pg_atomic_read_u64(&shared->done) >= ticket;
}

bool
directory_wait_published(uint64 asked, int timeout_ms)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	bool		out;

	if (!directory_has_manager())
		return false;
	ConditionVariablePrepareToSleep(&shared->published);
	while (!(out = is_published(asked)))
	{
		long		left = (long) ((until - GetCurrentTimestamp()) / 1000);

		if (left <= 0)
			break;
		(void) ConditionVariableTimedSleep(&shared->published, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return out;
}
