/*
 * core/bytes.h - views of bytes, bounded buffers, network order, digests.        floor 0
 *
 * Answers: how are bytes held, read and written here?  Owns: the process-wide
 * count of bytes held (mem_used), so a worker can stop reading at its cap.
 * Never: trusts a length, touches a socket, raises an error.  C library only.
 */
#ifndef HYPERPOOL_CORE_BYTES_H
#define HYPERPOOL_CORE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed view: valid as long as whoever lent it says so. */
typedef struct Bytes
{
	const uint8_t *data;
	size_t		len;
} Bytes;

static inline Bytes
bytes_of(const void *data, size_t len)
{
	Bytes		view = {(const uint8_t *) data, len};

	return view;
}

static inline Bytes
bytes_str(const char *s)
{
	return bytes_of(s, strlen(s));
}

static inline bool
bytes_equal(Bytes a, Bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
bytes_equal_str(Bytes a, const char *s)
{
	return bytes_equal(a, bytes_str(s));
}

/* A fresh NUL-terminated copy made by mem_alloc(len + 1), or NULL. */
extern char *bytes_copy(Bytes view);

/* Counted memory.  Sizes must be given back as they were taken. NULL = out of memory. */
extern void *mem_alloc(size_t size);
extern void *mem_zalloc(size_t size);
extern void *mem_realloc(void *old, size_t old_size, size_t new_size);
extern void mem_free(void *p, size_t size);
extern void mem_free_str(char *s);	/* for bytes_copy(); NULL is fine */
extern size_t mem_used(void);

/*
 * An owned byte queue: what was put at the end is consumed from the start.
 * Zeroed memory is an empty buffer. An empty one may be told to give its
 * memory back (buffer_trim), so an idle owner holds nothing.
 */
typedef struct ByteBuffer
{
	uint8_t    *data;
	uint32_t	start;			/* first byte not yet consumed */
	uint32_t	end;			/* one past the last byte */
	uint32_t	size;			/* allocated */
	bool		failed;			/* a put found no memory; contents are cut: give up the owner */
} ByteBuffer;

#define BUFFER_LIMIT	((uint32_t) 0x7fff0000)	/* no buffer grows beyond this */

static inline size_t
buffer_len(const ByteBuffer *b)
{
	return b->end - b->start;
}

static inline Bytes
buffer_view(const ByteBuffer *b)
{
	/* to add even 0 to NULL is undefined in C */
	if (b->data == NULL)
		return bytes_of(NULL, 0);
	return bytes_of(b->data + b->start, b->end - b->start);
}

/* Make room for n more bytes behind end; moves or grows. False (and failed set) if it cannot. */
extern bool buffer_reserve(ByteBuffer *b, size_t n);
extern void buffer_put(ByteBuffer *b, const void *data, size_t n);
extern void buffer_put_u8(ByteBuffer *b, uint8_t v);
extern void buffer_put_u16(ByteBuffer *b, uint16_t v);
extern void buffer_put_u32(ByteBuffer *b, uint32_t v);
extern void buffer_put_cstr(ByteBuffer *b, Bytes s);	/* the bytes, then a NUL; bytes must hold none */
extern void buffer_consume(ByteBuffer *b, size_t n);	/* n <= buffer_len */
extern void buffer_trim(ByteBuffer *b);	/* frees the memory if empty */
extern void buffer_free(ByteBuffer *b);	/* frees and zeroes */
extern void buffer_wipe_free(ByteBuffer *b);	/* the same, overwriting first: for secrets */

/* A cursor over a view. Reading past the end sets bad and returns zero values; check bad once at the end. */
typedef struct ByteReader
{
	const uint8_t *at;
	const uint8_t *end;
	bool		bad;
} ByteReader;

extern ByteReader reader_of(Bytes view);
extern uint8_t read_u8(ByteReader *r);
extern uint16_t read_u16(ByteReader *r);
extern uint32_t read_u32(ByteReader *r);
extern Bytes read_bytes(ByteReader *r, size_t n);
extern Bytes read_cstr(ByteReader *r);	/* without its NUL; bad if there is none */
static inline size_t
reader_left(const ByteReader *r)
{
	return r->end - r->at;
}

static inline uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t) ((p[0] << 8) | p[1]);
}

static inline uint32_t
get_u32(const uint8_t *p)
{
	return ((uint32_t) p[0] << 24) | ((uint32_t) p[1] << 16) | ((uint32_t) p[2] << 8) | p[3];
}

static inline void
set_u32(uint8_t *p, uint32_t v)
{
	p[0] = v >> 24;
	p[1] = v >> 16;
	p[2] = v >> 8;
	p[3] = v;
}

/*
 * A keyed 128-bit digest (SipHash-2-4 with 128-bit output). Not a proof of
 * equality against an adversary who knows the key: compare the full bytes too.
 * digest_seed is called once per server start with 16 random bytes that all
 * processes share; until then the key is zero.
 */
typedef struct Digest128
{
	uint64_t	lo;
	uint64_t	hi;
} Digest128;

extern void digest_seed(const uint8_t key[16]);
extern Digest128 digest_of(Bytes view);
static inline bool
digest_equal(Digest128 a, Digest128 b)
{
	return a.lo == b.lo && a.hi == b.hi;
}

#endif
