/*
 * host/directory_read.c - a reader's private copy of the directory.               floor 4
 *
 * Answers: which origin, role, credential, right or hba line is meant? A reader copies the current half of the image, decodes its
 * copy and finds things in that; the matcher of hba lines asks here for members, regular expressions and own addresses.
 *
 * Owns: each Directory, its memory and the secrets in it, which are wiped when it is forgotten. Never: writes into the shared
 * area, trusts a length it has read, holds a lock for longer than the copy takes.
 */
#include "postgres.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "catalog/pg_collation.h"
#include "libpq/ifaddr.h"
#include "mb/pg_wchar.h"
#include "port/atomics.h"
#include "regex/regex.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "host/directory_internal.h"

/* the least bytes a record takes in the image: bounds a count before memory is taken for it */
#define ORIGIN_MIN		100
#define OPTION_MIN		8
#define RULE_MIN		20
#define CREDENTIAL_MIN	24
#define ROLE_MIN		28
#define PAIR_MIN		8
#define LINE_MIN		56
#define TOKEN_MIN		8

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

static void
decode_rules(ByteReader *r, DirectoryOrigin *origin)
{
	int			i;

	origin->nrules = read_count(r, RULE_MIN);
	origin->rules = palloc0(sizeof(CacheRule) * (origin->nrules + 1));
	for (i = 0; i < origin->nrules && !r->bad; i++)
	{
		CacheRule  *rule = &origin->rules[i];
		uint32		flags = read_u32(r);

		rule->function = (flags & 1) != 0;
		rule->quiet = (flags & 2) != 0;
		rule->cache_off = (flags & 4) != 0;
		rule->schema = read_text(r);
		rule->name = read_text(r);
		rule->max_age = (int64) read_u64(r);
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
	origin->share = (flags & 8) != 0;
	origin->gateway = (flags & 16) != 0;
	origin->max_age = (int64) read_u64(r);
	origin->stale_while_revalidate = (int64) read_u64(r);
	origin->stale_if_error = (int64) read_u64(r);
	origin->max_result_size = (int64) read_u64(r);
	origin->share_depth = (int) read_u32(r);
	if (origin->slot < 0 || origin->slot >= directory_shared->nslots)
		r->bad = true;
	decode_rules(r, origin);
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
		room = directory_shared->used[pg_atomic_read_u64(&directory_shared->generation) & 1] + 4096;
		if (room > directory_shared->half_size)
			room = directory_shared->half_size;
		d->image = MemoryContextAllocHuge(d->context, room);
		LWLockAcquire(&directory_shared->image_lock, LW_SHARED);
		generation = pg_atomic_read_u64(&directory_shared->generation);
		d->image_size = directory_shared->used[generation & 1];
		fits = d->image_size <= room;
		if (fits)
			memcpy(d->image, directory_shared->halves[generation & 1], d->image_size);
		LWLockRelease(&directory_shared->image_lock);
		d->generation = generation;
		if (!fits)
		{
			pfree(d->image);
			d->image = NULL;
		}
	} while (!fits);
}

Directory *
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

/* A text lies in the image, which is this reader's own. */
static void
wipe_text(const char **text)
{
	if (*text != NULL)
		explicit_bzero((char *) *text, strlen(*text));
	*text = NULL;
}

Directory *
directory_refresh_bare(Directory *old)
{
	Directory  *d = directory_refresh(old);

	if (d == old)
		return d;
	for (int i = 0; i < d->ncredentials; i++)
	{
		wipe_text(&d->credentials[i].password);
		wipe_text(&d->credentials[i].sslpassword);
	}
	for (int i = 0; i < d->nroles; i++)
		wipe_text(&d->roles[i].verifier);
	return d;
}

bool
directory_changed(const Directory *mine)
{
	return pg_atomic_read_u64(&directory_shared->generation) != (mine != NULL ? mine->generation : 0);
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

const DirectoryCredential *
directory_find_credential(const Directory *d, int origin, Oid role)
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
	own = directory_find_credential(d, (int) (mine - d->origins), role);
	return own != NULL ? own : directory_find_credential(d, (int) (mine - d->origins), InvalidOid);
}

/* Sorted by origin, then role, and public is role 0: the first of the origin. */
const DirectoryCredential *
directory_any_credential(const Directory *d, const DirectoryOrigin *origin)
{
	int			i;

	for (i = 0; d != NULL && i < d->ncredentials; i++)
	{
		const DirectoryCredential *credential = d->credentials_sorted[i];

		if (d->origins[credential->origin].oid == origin->oid)
			return credential;
	}
	return NULL;
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
