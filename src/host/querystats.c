/*
 * host/querystats.c - the shared numbers behind stat_queries.
 *
 * Answers: how often, how long, from where? Owns hyperpool.query_stats rows of shared memory, a hash over them, and in
 * each process a small memory of texts whose row is known. A row is an (origin, role, normalised text). When all are
 * taken, a hand goes round: a row is spared as many times as it was lately used, up to USED_MOST.
 *
 * What callers hold is a handle: row number + 1 in the low bits, the row's serial above. A row that was given to another
 * text has another serial, so an old handle counts nothing.
 *
 * Locks: rows_lock covers the hash, the hand, and a row's identity and text; held for finding and taking a row and for
 * copying one, with no ERROR possible under it. Counts are atomics and need none: one that is added while its row is
 * taken away may be lost or land in the new row, which is no more than a statistic out by one.
 * Never: decides anything on the route.
 */
#include "postgres.h"

#include "host/querystats.h"

#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "host/gucs.h"

#define ROW_BITS			17	/* hyperpool.query_stats is at most 100000 */
#define ROW_MASK			((1 << ROW_BITS) - 1)
#define SERIAL_MASK			((1 << (31 - ROW_BITS)) - 1)

#define TIME_OCTAVES		37	/* 1 us .. 2^37 us, 38 hours */
#define TIME_PARTS			4	/* buckets an octave */
#define TIME_BUCKETS		(TIME_OCTAVES * TIME_PARTS)

#define USED_MOST			3
#define HAND_STEPS			256 /* how far the hand goes before it takes what it is at */
#define NORMALISE_MAX		65536	/* bytes of a text that are looked at */
#define KNOWN_TEXTS			1024	/* of a process; a power of two */

typedef struct QueryRow
{
	/* rows_lock for writing; read without it where a stale value does no harm */
	pg_atomic_uint32 serial;
	pg_atomic_uint32 origin;	/* InvalidOid: free */
	pg_atomic_uint32 role;
	Digest128	digest;			/* of the normalised text */
	int32		next;			/* in its bucket, -1 = last */
	int16		origin_slot;
	char		text[QUERY_STATS_TEXT];
	/* no lock */
	pg_atomic_uint32 used;		/* how many times the hand will pass */
	pg_atomic_uint64 hits;
	pg_atomic_uint64 reasons[REASON_LIMIT];
	pg_atomic_uint64 flushes;
	pg_atomic_uint64 origin_us;
	pg_atomic_uint64 saved_us;
	pg_atomic_uint32 times[TIME_BUCKETS];
} QueryRow;

typedef struct QueryStatsShared
{
	LWLock		rows_lock;
	int			nrows;			/* of server start */
	int			nbuckets;		/* a power of two */
	int			taken;			/* rows in use: those before this one, until it is nrows */
	int			hand;
} QueryStatsShared;

/* A text whose row this process has looked up. */
typedef struct KnownText
{
	Digest128	digest;			/* of the raw text */
	int32		handle;			/* its row knows origin and role */
} KnownText;

static QueryStatsShared *shared = NULL;
static int32 *buckets;			/* row numbers, -1 = empty */
static QueryRow *rows;
static KnownText *known = NULL;

/* ---- shared memory ---- */

static int
buckets_for(int nrows)
{
	return nrows > 0 ? (int) pg_nextpower2_32((uint32) nrows) : 0;
}

static Size
rows_offset(int nrows)
{
	return CACHELINEALIGN(add_size(CACHELINEALIGN(sizeof(QueryStatsShared)), mul_size(sizeof(int32), buckets_for(nrows))));
}

Size
querystats_shmem_size(void)
{
	if (hyperpool_query_stats <= 0)
		return 0;
	return add_size(rows_offset(hyperpool_query_stats), mul_size(sizeof(QueryRow), hyperpool_query_stats));
}

/* In zeroed memory an atomic is 0 already. */
static void
init_area(void)
{
	int			i;

	LWLockInitialize(&shared->rows_lock, LWLockNewTrancheId());
	shared->nrows = hyperpool_query_stats;
	shared->nbuckets = buckets_for(hyperpool_query_stats);
	for (i = 0; i < shared->nbuckets; i++)
		buckets[i] = -1;
}

void
querystats_shmem_init(void)
{
	bool		found;
	char	   *area;

	if (hyperpool_query_stats <= 0)
		return;
	area = ShmemInitStruct("hyperpool query statistics", querystats_shmem_size(), &found);
	shared = (QueryStatsShared *) area;
	buckets = (int32 *) (area + CACHELINEALIGN(sizeof(QueryStatsShared)));
	rows = (QueryRow *) (area + rows_offset(hyperpool_query_stats));
	if (!found)
	{
		memset(area, 0, querystats_shmem_size());
		init_area();
	}
	LWLockRegisterTranche(shared->rows_lock.tranche, "hyperpool_query_stats");
}

int
querystats_rows(void)
{
	return shared != NULL ? shared->nrows : 0;
}

/* ---- rows ---- */

static int32
handle_of(const QueryRow *row)
{
	uint32		serial = pg_atomic_read_u32((pg_atomic_uint32 *) &row->serial) & SERIAL_MASK;

	return (int32) (serial << ROW_BITS | (uint32) (row - rows + 1));
}

/* The row of a handle that still is what it was when the handle was given, or NULL. */
static QueryRow *
row_of(int32 handle)
{
	int			number = (handle & ROW_MASK) - 1;

	if (handle <= 0 || shared == NULL || number < 0 || number >= shared->nrows || handle_of(&rows[number]) != handle)
		return NULL;
	return &rows[number];
}

static int32 *
bucket_of(Oid origin, Oid role, Digest128 digest)
{
	uint64		hash = digest.lo ^ ((uint64) origin << 32 | role) * UINT64CONST(0x9E3779B97F4A7C15);

	return &buckets[(hash ^ hash >> 29) & (uint64) (shared->nbuckets - 1)];
}

/* Under rows_lock. */
static QueryRow *
find_row(Oid origin, Oid role, Digest128 digest)
{
	int32		number;

	for (number = *bucket_of(origin, role, digest); number >= 0; number = rows[number].next)
	{
		QueryRow   *row = &rows[number];

		if (digest_equal(row->digest, digest) && pg_atomic_read_u32(&row->origin) == origin &&
			pg_atomic_read_u32(&row->role) == role)
			return row;
	}
	return NULL;
}

static void
unlink_row(QueryRow *row)
{
	int32	   *at = bucket_of(pg_atomic_read_u32(&row->origin), pg_atomic_read_u32(&row->role), row->digest);

	while (*at >= 0 && &rows[*at] != row)
		at = &rows[*at].next;
	if (*at >= 0)
		*at = row->next;
}

static void
clear_counts(QueryRow *row)
{
	int			i;

	pg_atomic_write_u64(&row->hits, 0);
	for (i = 0; i < REASON_LIMIT; i++)
		pg_atomic_write_u64(&row->reasons[i], 0);
	pg_atomic_write_u64(&row->flushes, 0);
	pg_atomic_write_u64(&row->origin_us, 0);
	pg_atomic_write_u64(&row->saved_us, 0);
	for (i = 0; i < TIME_BUCKETS; i++)
		pg_atomic_write_u32(&row->times[i], 0);
}

/* Under rows_lock, exclusively: a row for a new text, out of the hash. */
static QueryRow *
free_row(void)
{
	QueryRow   *row;
	int			steps;

	if (shared->taken < shared->nrows)
		return &rows[shared->taken++];
	for (steps = 0; steps < HAND_STEPS; steps++)
	{
		uint32		used = pg_atomic_read_u32(&rows[shared->hand].used);

		if (used == 0)
			break;
		pg_atomic_write_u32(&rows[shared->hand].used, used - 1);
		shared->hand = (shared->hand + 1) % shared->nrows;
	}
	row = &rows[shared->hand];
	shared->hand = (shared->hand + 1) % shared->nrows;
	unlink_row(row);
	return row;
}

/* Cut where a character of UTF-8 begins; in other encodings perhaps a little early. */
static void
copy_text(char *to, Bytes text)
{
	size_t		len = Min(text.len, QUERY_STATS_TEXT - 1);

	while (len < text.len && len > 0 && (text.data[len] & 0xC0) == 0x80)
		len--;
	memcpy(to, text.data, len);
	to[len] = '\0';
}

/* Under rows_lock, exclusively. */
static QueryRow *
take_row(int16 origin_slot, Oid origin, Oid role, Digest128 digest, Bytes text)
{
	QueryRow   *row = free_row();
	int32	   *bucket = bucket_of(origin, role, digest);

	pg_atomic_fetch_add_u32(&row->serial, 1);
	clear_counts(row);
	pg_atomic_write_u32(&row->origin, origin);
	pg_atomic_write_u32(&row->role, role);
	row->origin_slot = origin_slot;
	row->digest = digest;
	copy_text(row->text, text);
	row->next = *bucket;
	*bucket = (int32) (row - rows);
	return row;
}

static int32
find_or_take(int16 origin_slot, Oid origin, Oid role, Bytes text)
{
	Digest128	digest = digest_of(text);
	QueryRow   *row;
	int32		handle = 0;

	LWLockAcquire(&shared->rows_lock, LW_SHARED);
	row = find_row(origin, role, digest);
	if (row != NULL)
		handle = handle_of(row);
	LWLockRelease(&shared->rows_lock);
	if (handle != 0)
		return handle;
	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	row = find_row(origin, role, digest);
	if (row == NULL)
		row = take_row(origin_slot, origin, role, digest, text);
	row->origin_slot = origin_slot;
	pg_atomic_write_u32(&row->used, 1);
	handle = handle_of(row);
	LWLockRelease(&shared->rows_lock);
	return handle;
}

/* Where this process remembers the row of a raw text; NULL without memory. */
static KnownText *
known_text(Oid origin, Oid role, Digest128 digest)
{
	if (known == NULL)
		known = mem_zalloc(KNOWN_TEXTS * sizeof(KnownText));
	return known != NULL ? &known[(digest.lo ^ origin ^ role) & (KNOWN_TEXTS - 1)] : NULL;
}

int32
querystats_row(int16 origin_slot, Oid origin, Oid role, Bytes text, Digest128 digest)
{
	KnownText  *place;
	ByteBuffer	normal = {0};
	int32		handle = 0;

	if (shared == NULL || !OidIsValid(origin))
		return 0;
	place = known_text(origin, role, digest);
	if (place != NULL && digest_equal(place->digest, digest) && querystats_row_is(place->handle, origin, role, digest))
		return place->handle;
	querystats_normalise(text, &normal);
	if (!normal.failed && buffer_len(&normal) > 0)
		handle = find_or_take(origin_slot, origin, role, buffer_view(&normal));
	buffer_free(&normal);
	if (place != NULL && handle != 0)
	{
		place->digest = digest;
		place->handle = handle;
	}
	return handle;
}

/* The serial vouches for the text: the caller holds the handle because of it. */
bool
querystats_row_is(int32 handle, Oid origin, Oid role, Digest128 digest)
{
	QueryRow   *row = row_of(handle);

	return row != NULL && pg_atomic_read_u32(&row->origin) == origin && pg_atomic_read_u32(&row->role) == role;
}

/* ---- counting ---- */

/* Written only when the hand has been here, so that busy rows are not torn between processors for it. */
static void
mark_used(QueryRow *row)
{
	uint32		used = pg_atomic_read_u32(&row->used);

	if (used < USED_MOST)
		pg_atomic_write_u32(&row->used, used + 1);
}

static int
time_bucket(int64 us)
{
	uint64		v = us > 0 ? (uint64) us : 1;
	int			octave = pg_leftmost_one_pos64(v);

	if (octave >= TIME_OCTAVES)
		return TIME_BUCKETS - 1;
	/* the two bits behind the leading one */
	return octave * TIME_PARTS + (int) (octave >= 2 ? (v >> (octave - 2)) & 3 : (v << (2 - octave)) & 3);
}

/* The middle of a bucket. */
static int64
bucket_time(int bucket)
{
	int			octave = bucket / TIME_PARTS;
	double		base = (double) (UINT64CONST(1) << octave);

	return (int64) (base * (1 + (bucket % TIME_PARTS + (octave >= 2 ? 0.5 : 0)) / TIME_PARTS));
}

void
querystats_hit(int32 handle, uint32 saved_us)
{
	QueryRow   *row = row_of(handle);

	if (row == NULL)
		return;
	mark_used(row);
	pg_atomic_fetch_add_u64(&row->hits, 1);
	pg_atomic_fetch_add_u64(&row->saved_us, saved_us);
}

void
querystats_asked(int32 handle, CacheReason reason, int64 took_us)
{
	QueryRow   *row = row_of(handle);

	if (row == NULL || (unsigned) reason >= REASON_LIMIT)
		return;
	mark_used(row);
	pg_atomic_fetch_add_u64(&row->reasons[reason], 1);
	pg_atomic_fetch_add_u64(&row->origin_us, Max(took_us, 0));
	pg_atomic_fetch_add_u32(&row->times[time_bucket(took_us)], 1);
}

void
querystats_flushed(int32 handle)
{
	QueryRow   *row = row_of(handle);

	if (row != NULL)
		pg_atomic_fetch_add_u64(&row->flushes, 1);
}

/* ---- reading ---- */

/* The time that `part` of all exchanges did not exceed. */
static int64
percentile(const uint32 *times, uint64 total, double part)
{
	uint64		wanted = (uint64) (total * part);
	uint64		seen = 0;
	int			i;

	for (i = 0; i < TIME_BUCKETS; i++)
	{
		seen += times[i];
		if (seen > wanted)
			return bucket_time(i);
	}
	return 0;
}

static void
read_times(QueryRow *row, QueryStats *out)
{
	uint32		times[TIME_BUCKETS];
	uint64		total = 0;
	int			i;

	for (i = 0; i < TIME_BUCKETS; i++)
	{
		times[i] = pg_atomic_read_u32(&row->times[i]);
		total += times[i];
	}
	out->p50_us = percentile(times, total, 0.50);
	out->p99_us = percentile(times, total, 0.99);
}

static void
read_counts(QueryRow *row, QueryStats *out)
{
	int			i;

	out->hits = pg_atomic_read_u64(&row->hits);
	out->calls = out->hits;
	for (i = 0; i < REASON_LIMIT; i++)
	{
		out->reasons[i] = pg_atomic_read_u64(&row->reasons[i]);
		out->calls += out->reasons[i];
	}
	out->flushes = pg_atomic_read_u64(&row->flushes);
	out->origin_us = (int64) pg_atomic_read_u64(&row->origin_us);
	out->saved_us = (int64) pg_atomic_read_u64(&row->saved_us);
}

bool
querystats_read(int number, QueryStats *out)
{
	QueryRow   *row;

	if (shared == NULL || number < 0 || number >= shared->nrows)
		return false;
	row = &rows[number];
	LWLockAcquire(&shared->rows_lock, LW_SHARED);
	out->origin_slot = row->origin_slot;
	out->origin = pg_atomic_read_u32(&row->origin);
	out->role = pg_atomic_read_u32(&row->role);
	memcpy(out->text, row->text, sizeof(out->text));
	read_counts(row, out);
	read_times(row, out);
	LWLockRelease(&shared->rows_lock);
	return OidIsValid(out->origin);
}

/* Every row is free again, and every handle old. */
void
querystats_reset(void)
{
	int			i;

	if (shared == NULL)
		return;
	LWLockAcquire(&shared->rows_lock, LW_EXCLUSIVE);
	for (i = 0; i < shared->nbuckets; i++)
		buckets[i] = -1;
	for (i = 0; i < shared->taken; i++)
	{
		pg_atomic_fetch_add_u32(&rows[i].serial, 1);
		pg_atomic_write_u32(&rows[i].origin, InvalidOid);
		pg_atomic_write_u32(&rows[i].used, 0);
		clear_counts(&rows[i]);
	}
	shared->taken = 0;
	shared->hand = 0;
	LWLockRelease(&shared->rows_lock);
}

/* ---- normalising ---- */

typedef struct Normaliser
{
	const uint8_t *at;
	const uint8_t *end;
	ByteBuffer *out;
	uint32		next_number;	/* of the next literal */
	bool		space;			/* whitespace is due before the next token */
} Normaliser;

static uint8_t
ahead(const Normaliser *n, size_t by)
{
	return (size_t) (n->end - n->at) > by ? n->at[by] : 0;
}

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool
starts_name(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool
is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static void
put_token(Normaliser *n, const void *data, size_t len)
{
	if (n->space && buffer_len(n->out) > 0)
		buffer_put_u8(n->out, ' ');
	n->space = false;
	buffer_put(n->out, data, len);
}

static void
put_number(Normaliser *n)
{
	char		number[16];

	put_token(n, number, (size_t) snprintf(number, sizeof(number), "$%u", n->next_number++));
}

/* Behind a comment; false: it does not end. */
static bool
pass_comment(Normaliser *n)
{
	int			depth = 0;

	n->space = true;
	if (ahead(n, 0) == '-')
	{
		while (n->at < n->end && *n->at != '\n' && *n->at != '\r')
			n->at++;
		return true;
	}
	do
	{
		if (n->at >= n->end)
			return false;
		if (ahead(n, 0) == '/' && ahead(n, 1) == '*')
			depth++, n->at++;
		else if (ahead(n, 0) == '*' && ahead(n, 1) == '/')
			depth--, n->at++;
		n->at++;
	} while (depth > 0);
	return true;
}

/*
 * Behind a quoted thing that starts here. A backslash before the quote ends the literal in some sessions and not in others
 * unless the string says (E''): false then, and where it does not end.
 */
static bool
pass_quoted(Normaliser *n, uint8_t quote, bool escapes, bool strict)
{
	for (n->at++; n->at < n->end; n->at++)
	{
		if (*n->at == '\\' && escapes && ahead(n, 1) != 0)
			n->at++;
		else if (*n->at == '\\' && strict && ahead(n, 1) == quote)
			return false;
		else if (*n->at == quote)
		{
			n->at++;
			if (ahead(n, 0) != quote)
				return true;
		}
	}
	n->at = n->end;
	return false;
}

/* The tag of a dollar quote here, dollars included; len 0: there is none. */
static Bytes
dollar_tag(const Normaliser *n)
{
	const uint8_t *p = n->at + 1;

	if (p < n->end && starts_name(*p))
	{
		while (p < n->end && (starts_name(*p) || is_digit(*p)))
			p++;
	}
	return p < n->end && *p == '$' ? bytes_of(n->at, p + 1 - n->at) : bytes_of(n->at, 0);
}

static bool
pass_dollar_quoted(Normaliser *n, Bytes tag)
{
	for (n->at += tag.len; (size_t) (n->end - n->at) >= tag.len; n->at++)
	{
		if (memcmp(n->at, tag.data, tag.len) == 0)
		{
			n->at += tag.len;
			return true;
		}
	}
	return false;
}

/* 12, 1.5, .5, 1e-3, 0xFF, 1_000. Letters that follow without a blank belong to it: the parser would complain or split there. */
static void
pass_number(Normaliser *n)
{
	while (n->at < n->end)
	{
		uint8_t		c = *n->at;

		if ((c == '+' || c == '-') && (n->at[-1] == 'e' || n->at[-1] == 'E') && is_digit(ahead(n, 1)))
			n->at++;
		else if (is_digit(c) || starts_name(c) || (c == '.' && ahead(n, 1) != '.'))
			n->at++;
		else
			return;
	}
}

/* A name, or the prefix of a literal. */
static bool
take_name(Normaliser *n)
{
	const uint8_t *start = n->at;
	size_t		len;

	while (n->at < n->end && (starts_name(*n->at) || is_digit(*n->at) || *n->at == '$'))
		n->at++;
	len = n->at - start;
	if (len == 1 && ahead(n, 0) == '\'' && strchr("eEbBxXnN", *start) != NULL)
	{
		put_number(n);
		return pass_quoted(n, '\'', *start == 'e' || *start == 'E', true);
	}
	if (len == 1 && (*start == 'u' || *start == 'U') && ahead(n, 0) == '&' && ahead(n, 1) == '\'')
	{
		put_number(n);
		n->at++;
		return pass_quoted(n, '\'', false, true);
	}
	put_token(n, start, len);
	return true;
}

static bool
take_dollar(Normaliser *n)
{
	const uint8_t *start = n->at;
	Bytes		tag;

	if (is_digit(ahead(n, 1)))
	{
		for (n->at++; n->at < n->end && is_digit(*n->at);)
			n->at++;
		put_token(n, start, n->at - start);
		return true;
	}
	tag = dollar_tag(n);
	if (tag.len > 0)
	{
		put_number(n);
		return pass_dollar_quoted(n, tag);
	}
	put_token(n, n->at++, 1);
	return true;
}

/* False: what follows cannot be told apart, and stays out. */
static bool
take_token(Normaliser *n)
{
	uint8_t		c = *n->at;
	const uint8_t *start = n->at;

	if (is_space(c))
	{
		n->space = true;
		n->at++;
		return true;
	}
	if ((c == '-' && ahead(n, 1) == '-') || (c == '/' && ahead(n, 1) == '*'))
		return pass_comment(n);
	if (c == '\'')
	{
		put_number(n);
		return pass_quoted(n, c, false, true);
	}
	if (c == '"')
	{
		if (!pass_quoted(n, c, false, false))
			return false;
		put_token(n, start, n->at - start);
		return true;
	}
	if (is_digit(c) || (c == '.' && is_digit(ahead(n, 1))))
	{
		put_number(n);
		n->at++;
		pass_number(n);
		return true;
	}
	if (starts_name(c))
		return take_name(n);
	if (c == '$')
		return take_dollar(n);
	put_token(n, n->at++, 1);
	return true;
}

/* The highest $n of the text; one within a literal does no harm. */
static uint32
highest_parameter(Bytes text)
{
	uint32		highest = 0;
	size_t		i = 0;

	while (i < text.len)
	{
		uint32		number = 0;

		if (text.data[i++] != '$')
			continue;
		while (i < text.len && is_digit(text.data[i]) && number < 100000)
			number = number * 10 + (text.data[i++] - '0');
		highest = Max(highest, number);
	}
	return highest;
}

void
querystats_normalise(Bytes text, ByteBuffer *out)
{
	Normaliser	n = {.out = out};
	bool		cut = text.len > NORMALISE_MAX;

	if (cut)
		text.len = NORMALISE_MAX;
	n.at = text.data;
	n.end = text.data + text.len;
	n.next_number = highest_parameter(text) + 1;
	while (n.at < n.end)
	{
		if (!take_token(&n))
		{
			cut = true;
			break;
		}
	}
	if (cut)
		buffer_put(out, "\xE2\x80\xA6", 3);	/* an ellipsis */
}
