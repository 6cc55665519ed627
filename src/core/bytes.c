/*
 * core/bytes.c - bounded buffers, counted memory, cursors, digests.
 *
 * Answers: how are bytes held, read and written here?  Owns: the count of
 * bytes held by this process, a few spare blocks and the digest key.  Never: trusts a length,
 * touches a socket, raises an error.
 */
#include "core/bytes.h"

#include <stdlib.h>

#define BUFFER_SMALLEST		256u
#define SPARE_BLOCKS		256u	/* as many as a turn has events */

/* ---- counted memory ---- */

/* What this process holds.  A process is one thread here, so no atomics. */
static size_t held_bytes = 0;

/* Blocks of BUFFER_SMALLEST that no buffer has now. */
static uint8_t *spares[SPARE_BLOCKS];
static uint32_t spare_blocks = 0;

/* A size of 0 takes one byte from the C library but counts as the 0 the caller gives back. */
void *
mem_alloc(size_t size)
{
	void	   *p = malloc(size > 0 ? size : 1);

	if (p != NULL)
		held_bytes += size;
	return p;
}

void *
mem_zalloc(size_t size)
{
	void	   *p = calloc(1, size > 0 ? size : 1);

	if (p != NULL)
		held_bytes += size;
	return p;
}

/* On NULL the old memory is untouched and still the caller's. */
void *
mem_realloc(void *old, size_t old_size, size_t new_size)
{
	void	   *p = realloc(old, new_size > 0 ? new_size : 1);

	if (p == NULL)
		return NULL;
	if (old != NULL)
		held_bytes -= old_size;
	held_bytes += new_size;
	return p;
}

void
mem_free(void *p, size_t size)
{
	if (p == NULL)
		return;
	held_bytes -= size;
	free(p);
}

void
mem_free_str(char *s)
{
	if (s != NULL)
		mem_free(s, strlen(s) + 1);
}

size_t
mem_used(void)
{
	return held_bytes;
}

/*
 * mem_free_str() measures the copy by its NUL, so the copy ends at the first
 * NUL of the view: a view that holds one is cut there and counted that way.
 */
char *
bytes_copy(Bytes view)
{
	const uint8_t *nul = view.len > 0 ? memchr(view.data, 0, view.len) : NULL;
	size_t		len = nul != NULL ? (size_t) (nul - view.data) : view.len;
	char	   *copy;

	if (len == SIZE_MAX)
		return NULL;
	copy = mem_alloc(len + 1);
	if (copy == NULL)
		return NULL;
	if (len > 0)
		memcpy(copy, view.data, len);
	copy[len] = '\0';
	return copy;
}

/* ---- buffers ---- */

/* The power of two from BUFFER_SMALLEST that holds `need`, capped at BUFFER_LIMIT. */
static uint32_t
buffer_size_for(size_t need)
{
	uint32_t	size = BUFFER_SMALLEST;

	while (size < need)
	{
		if (size > BUFFER_LIMIT / 2)
			return BUFFER_LIMIT;
		size *= 2;
	}
	return size;
}

static void
buffer_move_to_front(ByteBuffer *b)
{
	size_t		len = buffer_len(b);

	if (len > 0)
		memmove(b->data, b->data + b->start, len);
	b->start = 0;
	b->end = (uint32_t) len;
}

/*
 * Blocks of the smallest size come and go with every short answer: a few are kept, so that it needs nothing of the C library. They
 * count as given back.
 */
static uint8_t *
block_take(uint32_t size)
{
	if (size != BUFFER_SMALLEST || spare_blocks == 0)
		return mem_alloc(size);
	held_bytes += size;
	return spares[--spare_blocks];
}

static void
block_give(uint8_t *block, uint32_t size)
{
	if (size != BUFFER_SMALLEST || spare_blocks == SPARE_BLOCKS)
	{
		mem_free(block, size);
		return;
	}
	held_bytes -= size;
	spares[spare_blocks++] = block;
}

/*
 * A fresh block instead of realloc(): only the bytes still queued are copied,
 * and they land at the front.
 */
static bool
buffer_grow(ByteBuffer *b, size_t need)
{
	uint32_t	size = buffer_size_for(need);
	size_t		len = buffer_len(b);
	uint8_t    *data = block_take(size);

	if (data == NULL)
		return false;
	if (len > 0)
		memcpy(data, b->data + b->start, len);
	block_give(b->data, b->size);
	b->data = data;
	b->start = 0;
	b->end = (uint32_t) len;
	b->size = size;
	return true;
}

bool
buffer_reserve(ByteBuffer *b, size_t n)
{
	size_t		len = buffer_len(b);
	bool		fits;

	if (b->failed)
		return false;
	if (n <= (size_t) (b->size - b->end))
		return true;
	if (n > BUFFER_LIMIT - len)
	{
		b->failed = true;
		return false;
	}

	fits = len + n <= b->size;

	/*
	 * A move is paid for by the bytes consumed since the last one (len <=
	 * start); a nearly full buffer grows instead, or it would copy itself
	 * again for every few bytes.
	 */
	if (fits && (len <= b->start || b->size > BUFFER_LIMIT / 2))
		buffer_move_to_front(b);
	else if (!buffer_grow(b, fits ? (size_t) b->size + 1 : len + n))
		b->failed = true;
	return !b->failed;
}

void
buffer_put(ByteBuffer *b, const void *data, size_t n)
{
	if (n == 0 || !buffer_reserve(b, n))
		return;
	memcpy(b->data + b->end, data, n);
	b->end += (uint32_t) n;
}

void
buffer_put_u8(ByteBuffer *b, uint8_t v)
{
	buffer_put(b, &v, 1);
}

void
buffer_put_u16(ByteBuffer *b, uint16_t v)
{
	uint8_t		raw[2] = {(uint8_t) (v >> 8), (uint8_t) v};

	buffer_put(b, raw, sizeof(raw));
}

void
buffer_put_u32(ByteBuffer *b, uint32_t v)
{
	uint8_t		raw[4];

	set_u32(raw, v);
	buffer_put(b, raw, sizeof(raw));
}

void
buffer_put_cstr(ByteBuffer *b, Bytes s)
{
	buffer_put(b, s.data, s.len);
	buffer_put_u8(b, 0);
}

/* An emptied buffer starts over at its front, so steady traffic never moves bytes. */
void
buffer_consume(ByteBuffer *b, size_t n)
{
	size_t		len = buffer_len(b);

	if (n >= len)
	{
		b->start = 0;
		b->end = 0;
	}
	else
		b->start += (uint32_t) n;
}

void
buffer_trim(ByteBuffer *b)
{
	if (b->data == NULL || buffer_len(b) > 0)
		return;
	block_give(b->data, b->size);
	b->data = NULL;
	b->start = 0;
	b->end = 0;
	b->size = 0;
}

void
buffer_free(ByteBuffer *b)
{
	block_give(b->data, b->size);
	memset(b, 0, sizeof(*b));
}

/*
 * volatile keeps the compiler from dropping the overwrite of memory that is
 * freed next.  What an earlier growth left behind is not reached: an owner of
 * secrets reserves their room at once.
 */
void
buffer_wipe_free(ByteBuffer *b)
{
	volatile uint8_t *p = b->data;
	uint32_t	i;

	for (i = 0; i < b->size; i++)
		p[i] = 0;
	buffer_free(b);
}

/* ---- cursors ---- */

ByteReader
reader_of(Bytes view)
{
	static const uint8_t nothing[1] = {0};
	ByteReader	r;

	r.at = view.data != NULL ? view.data : nothing;
	r.end = view.data != NULL ? view.data + view.len : nothing;
	r.bad = false;
	return r;
}

/* Steps over n bytes and returns where they begin; NULL (bad, at the end) if they are not there. */
static const uint8_t *
reader_take(ByteReader *r, size_t n)
{
	const uint8_t *at = r->at;

	if (r->bad || n > reader_left(r))
	{
		r->bad = true;
		r->at = r->end;
		return NULL;
	}
	r->at += n;
	return at;
}

uint8_t
read_u8(ByteReader *r)
{
	const uint8_t *p = reader_take(r, 1);

	return p != NULL ? p[0] : 0;
}

uint16_t
read_u16(ByteReader *r)
{
	const uint8_t *p = reader_take(r, 2);

	return p != NULL ? get_u16(p) : 0;
}

uint32_t
read_u32(ByteReader *r)
{
	const uint8_t *p = reader_take(r, 4);

	return p != NULL ? get_u32(p) : 0;
}

Bytes
read_bytes(ByteReader *r, size_t n)
{
	const uint8_t *p = reader_take(r, n);

	return p != NULL ? bytes_of(p, n) : bytes_of("", 0);
}

Bytes
read_cstr(ByteReader *r)
{
	size_t		left = reader_left(r);
	const uint8_t *nul = left > 0 ? memchr(r->at, 0, left) : NULL;
	Bytes		s;

	if (r->bad || nul == NULL)
	{
		r->bad = true;
		r->at = r->end;
		return bytes_of("", 0);
	}
	s = bytes_of(r->at, (size_t) (nul - r->at));
	r->at = nul + 1;
	return s;
}

/* ---- digests: SipHash-2-4 with 128-bit output (Aumasson, Bernstein) ---- */

static uint64_t digest_k0 = 0;
static uint64_t digest_k1 = 0;

/* Little-endian, unaligned; one load on little-endian machines. */
static inline uint64_t
load_le64(const uint8_t *p)
{
	uint64_t	v;

	memcpy(&v, p, sizeof(v));
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

static inline uint64_t
rotl64(uint64_t x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static inline void
sip_round(uint64_t *v0, uint64_t *v1, uint64_t *v2, uint64_t *v3)
{
	*v0 += *v1;
	*v1 = rotl64(*v1, 13) ^ *v0;
	*v0 = rotl64(*v0, 32);
	*v2 += *v3;
	*v3 = rotl64(*v3, 16) ^ *v2;
	*v0 += *v3;
	*v3 = rotl64(*v3, 21) ^ *v0;
	*v2 += *v1;
	*v1 = rotl64(*v1, 17) ^ *v2;
	*v2 = rotl64(*v2, 32);
}

/* The last 0..7 bytes, with the length's low byte on top. */
static inline uint64_t
sip_tail(const uint8_t *p, size_t rest, size_t len)
{
	uint64_t	tail = (uint64_t) (len & 0xff) << 56;

	while (rest > 0)
	{
		rest--;
		tail |= (uint64_t) p[rest] << (8 * rest);
	}
	return tail;
}

void
digest_seed(const uint8_t key[16])
{
	digest_k0 = load_le64(key);
	digest_k1 = load_le64(key + 8);
}

Digest128
digest_of(Bytes view)
{
	uint64_t	v0 = digest_k0 ^ UINT64_C(0x736f6d6570736575);
	uint64_t	v1 = digest_k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee;	/* 0xee: 128-bit output */
	uint64_t	v2 = digest_k0 ^ UINT64_C(0x6c7967656e657261);
	uint64_t	v3 = digest_k1 ^ UINT64_C(0x7465646279746573);
	const uint8_t *p = view.data;
	size_t		words = view.len / 8;
	uint64_t	m;
	Digest128	d;
	int			i;

	for (; words > 0; words--, p += 8)
	{
		m = load_le64(p);
		v3 ^= m;
		sip_round(&v0, &v1, &v2, &v3);
		sip_round(&v0, &v1, &v2, &v3);
		v0 ^= m;
	}
	m = sip_tail(p, view.len % 8, view.len);
	v3 ^= m;
	sip_round(&v0, &v1, &v2, &v3);
	sip_round(&v0, &v1, &v2, &v3);
	v0 ^= m;

	v2 ^= 0xee;
	for (i = 0; i < 4; i++)
		sip_round(&v0, &v1, &v2, &v3);
	d.lo = v0 ^ v1 ^ v2 ^ v3;
	v1 ^= 0xdd;
	for (i = 0; i < 4; i++)
		sip_round(&v0, &v1, &v2, &v3);
	d.hi = v0 ^ v1 ^ v2 ^ v3;
	return d;
}
