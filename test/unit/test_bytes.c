/*
 * test/unit/test_bytes.c - core/bytes: buffers, cursors, counted memory, digests.
 */
#include "core/bytes.h"
#include "unit.h"

TEST(views_compare_by_content)
{
	CHECK(bytes_equal(bytes_str("abc"), bytes_of("abcd", 3)));
	CHECK(!bytes_equal(bytes_str("abc"), bytes_str("abd")));
	CHECK(!bytes_equal(bytes_str("abc"), bytes_str("ab")));
	CHECK(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
	CHECK(bytes_equal_str(bytes_of("x\0y", 1), "x"));
	CHECK(!bytes_equal_str(bytes_of("x\0y", 3), "x"));
}

TEST(memory_is_counted)
{
	size_t		before = mem_used();
	char	   *p = mem_zalloc(100);

	CHECK(p != NULL && p[0] == 0 && p[99] == 0);
	CHECK_EQ_INT(mem_used() - before, 100);
	p = mem_realloc(p, 100, 300);
	CHECK(p != NULL);
	CHECK_EQ_INT(mem_used() - before, 300);
	mem_free(p, 300);
	CHECK_EQ_INT(mem_used() - before, 0);
	mem_free(NULL, 12345);
	CHECK_EQ_INT(mem_used() - before, 0);
	p = mem_realloc(NULL, 0, 8);
	CHECK_EQ_INT(mem_used() - before, 8);
	mem_free(p, 8);
	CHECK_EQ_INT(mem_used() - before, 0);
}

TEST(memory_of_size_zero)
{
	size_t		before = mem_used();
	void	   *p = mem_alloc(0);
	void	   *q = mem_zalloc(0);

	CHECK(p != NULL && q != NULL && p != q);
	CHECK_EQ_INT(mem_used() - before, 0);
	p = mem_realloc(p, 0, 0);
	CHECK(p != NULL);
	mem_free(p, 0);
	mem_free(q, 0);
	CHECK_EQ_INT(mem_used() - before, 0);
}

TEST(memory_that_cannot_be_had)
{
	volatile size_t huge = SIZE_MAX / 2;
	size_t		before = mem_used();
	void	   *p;

	CHECK(mem_alloc(huge) == NULL);
	CHECK(mem_zalloc(huge) == NULL);
	CHECK_EQ_INT(mem_used() - before, 0);
	p = mem_alloc(10);
	CHECK(mem_realloc(p, 10, huge) == NULL);
	CHECK_EQ_INT(mem_used() - before, 10);
	mem_free(p, 10);
}

TEST(copies_are_strings)
{
	size_t		before = mem_used();
	char	   *s = bytes_copy(bytes_of("hello world", 5));
	char	   *empty = bytes_copy(bytes_of(NULL, 0));
	char	   *cut = bytes_copy(bytes_of("ab\0cd", 5));

	CHECK(s != NULL && strcmp(s, "hello") == 0);
	CHECK(empty != NULL && strcmp(empty, "") == 0);
	CHECK(cut != NULL && strcmp(cut, "ab") == 0);
	CHECK_EQ_INT(mem_used() - before, 6 + 1 + 3);
	mem_free_str(s);
	mem_free_str(empty);
	mem_free_str(cut);
	mem_free_str(NULL);
	CHECK_EQ_INT(mem_used() - before, 0);
}

TEST(buffer_grows_by_powers_of_two)
{
	size_t		before = mem_used();
	ByteBuffer	b = {0};
	int			i;

	buffer_put_u8(&b, 'x');
	CHECK_EQ_INT(b.size, 256);
	for (i = 0; i < 256; i++)
		buffer_put_u8(&b, (uint8_t) i);
	CHECK_EQ_INT(b.size, 512);
	CHECK_EQ_INT(buffer_len(&b), 257);
	CHECK_EQ_INT(buffer_view(&b).data[0], 'x');
	CHECK_EQ_INT(buffer_view(&b).data[256], 255);
	CHECK(buffer_reserve(&b, 1000));
	CHECK_EQ_INT(b.size, 2048);
	CHECK_EQ_INT(buffer_view(&b).data[256], 255);
	CHECK_EQ_INT(mem_used() - before, 2048);
	buffer_free(&b);
	CHECK(b.data == NULL && b.size == 0 && !b.failed);
	CHECK_EQ_INT(mem_used() - before, 0);
}

TEST(buffer_writes_network_order)
{
	ByteBuffer	b = {0};

	buffer_put_u8(&b, 0xab);
	buffer_put_u16(&b, 0x0102);
	buffer_put_u32(&b, 0x03040506);
	buffer_put_cstr(&b, bytes_str("hi"));
	buffer_put_cstr(&b, bytes_of(NULL, 0));
	buffer_put(&b, NULL, 0);
	CHECK_BYTES_LIT(b.data, buffer_len(&b), "\xab\x01\x02\x03\x04\x05\x06hi\0\0");
	buffer_free(&b);
}

/* A queue that always holds some bytes must keep their order and stop growing. */
TEST(buffer_is_a_queue)
{
	ByteBuffer	b = {0};
	uint32_t	put = 0;
	uint32_t	taken = 0;
	bool		same = true;
	int			round;
	int			i;

	for (round = 0; round < 5000; round++)
	{
		for (i = 0; i < 1 + round % 13; i++)
			buffer_put_u32(&b, put++);
		while (buffer_len(&b) > 4 * (size_t) (round % 40))
		{
			const uint8_t *first = buffer_view(&b).data;

			same = same && first != NULL && get_u32(first) == taken++;
			buffer_consume(&b, 4);
		}
	}
	CHECK(same);
	CHECK_EQ_INT((put - taken) * 4, buffer_len(&b));
	CHECK(b.size <= 1024);
	buffer_free(&b);
}

TEST(buffer_reserve_gives_room)
{
	ByteBuffer	b = {0};
	size_t		n;

	for (n = 0; n < 3000; n += 7)
	{
		CHECK(buffer_reserve(&b, n));
		CHECK(b.size - b.end >= n);
		buffer_put(&b, "0123456789", 10);
		buffer_consume(&b, 9);
	}
	buffer_free(&b);
}

TEST(buffer_consume_and_trim)
{
	size_t		before = mem_used();
	ByteBuffer	b = {0};

	buffer_put(&b, "abcdef", 6);
	buffer_consume(&b, 2);
	CHECK_BYTES_LIT(buffer_view(&b).data, buffer_len(&b), "cdef");
	buffer_trim(&b);
	CHECK(b.data != NULL);
	buffer_consume(&b, 4);
	CHECK_EQ_INT(b.start, 0);
	CHECK_EQ_INT(buffer_len(&b), 0);
	buffer_trim(&b);
	CHECK(b.data == NULL && b.size == 0);
	CHECK_EQ_INT(mem_used() - before, 0);
	buffer_trim(&b);
	buffer_put(&b, "again", 5);
	CHECK_BYTES_LIT(buffer_view(&b).data, buffer_len(&b), "again");
	buffer_wipe_free(&b);
	CHECK(b.data == NULL);
	buffer_wipe_free(&b);
	CHECK_EQ_INT(mem_used() - before, 0);
}

TEST(buffer_refuses_what_is_over_the_limit)
{
	ByteBuffer	b = {0};

	buffer_put(&b, "abc", 3);
	CHECK(!buffer_reserve(&b, (size_t) BUFFER_LIMIT - 2));
	CHECK(b.failed);
	CHECK_EQ_INT(buffer_len(&b), 3);
	buffer_put(&b, "def", 3);
	CHECK_EQ_INT(buffer_len(&b), 3);
	CHECK(!buffer_reserve(&b, 1));
	buffer_free(&b);
	CHECK(!buffer_reserve(&b, SIZE_MAX));
	CHECK(b.failed && b.data == NULL);
	buffer_put_u32(&b, 1);
	CHECK(b.data == NULL);
	buffer_free(&b);
	CHECK(!b.failed);
}

TEST(reader_reads_network_order)
{
	ByteReader	r = reader_of(bytes_of("\x01\x02\x03\x04\x05\x06\x07xyz\0rest", 15));

	CHECK_EQ_INT(read_u8(&r), 1);
	CHECK_EQ_INT(read_u16(&r), 0x0203);
	CHECK_EQ_INT(read_u32(&r), 0x04050607);
	CHECK(bytes_equal_str(read_cstr(&r), "xyz"));
	CHECK(bytes_equal_str(read_bytes(&r, 2), "re"));
	CHECK_EQ_INT(reader_left(&r), 2);
	CHECK(bytes_equal_str(read_bytes(&r, 2), "st"));
	CHECK(bytes_equal_str(read_bytes(&r, 0), ""));
	CHECK(!r.bad);
	CHECK_EQ_INT(read_u8(&r), 0);
	CHECK(r.bad);
}

TEST(reader_stays_bad)
{
	ByteReader	r = reader_of(bytes_of("\x01\x02\x03", 3));
	Bytes		s;

	CHECK_EQ_INT(read_u32(&r), 0);
	CHECK(r.bad);
	CHECK_EQ_INT(read_u8(&r), 0);
	s = read_cstr(&r);
	CHECK(s.data != NULL && s.len == 0);
	s = read_bytes(&r, 0);
	CHECK(s.data != NULL && s.len == 0);
	CHECK_EQ_INT(reader_left(&r), 0);
	CHECK(r.bad);
}

TEST(reader_refuses_hostile_lengths)
{
	ByteReader	r = reader_of(bytes_of("abc", 3));
	Bytes		s = read_bytes(&r, SIZE_MAX);

	CHECK(r.bad);
	CHECK_EQ_INT(s.len, 0);
	r = reader_of(bytes_of("abc", 3));
	CHECK_EQ_INT(read_cstr(&r).len, 0);
	CHECK(r.bad);
	r = reader_of(bytes_of(NULL, 0));
	CHECK_EQ_INT(reader_left(&r), 0);
	CHECK_EQ_INT(read_cstr(&r).len, 0);
	CHECK(r.bad);
	r = reader_of(bytes_of("a", 1));
	CHECK_EQ_INT(read_u16(&r), 0);
	CHECK(r.bad);
}

TEST(numbers_survive_the_wire)
{
	uint8_t		raw[4];

	set_u32(raw, 0xfedcba98u);
	CHECK_BYTES_LIT(raw, 4, "\xfe\xdc\xba\x98");
	CHECK(get_u32(raw) == 0xfedcba98u);
	CHECK_EQ_INT(get_u16(raw), 0xfedc);
}

static void
digest_bytes(Digest128 d, uint8_t out[16])
{
	int			i;

	for (i = 0; i < 8; i++)
	{
		out[i] = (uint8_t) (d.lo >> (8 * i));
		out[i + 8] = (uint8_t) (d.hi >> (8 * i));
	}
}

/* The reference vectors of SipHash-2-4-128: key 00..0f, input empty and 00..0e. */
TEST(digest_matches_the_reference)
{
	static const uint8_t of_0[16] = {
		0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
		0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93
	};
	static const uint8_t of_15[16] = {
		0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11,
		0x7e, 0x08, 0xec, 0x0f, 0x97, 0xcf, 0xc3, 0xd9
	};
	uint8_t		key[16];
	uint8_t		out[16];
	int			i;

	for (i = 0; i < 16; i++)
		key[i] = (uint8_t) i;
	digest_seed(key);
	digest_bytes(digest_of(bytes_of(NULL, 0)), out);
	CHECK_BYTES(out, 16, of_0, 16);
	digest_bytes(digest_of(bytes_of(key, 15)), out);
	CHECK_BYTES(out, 16, of_15, 16);
}

TEST(digest_sees_every_bit_and_the_length)
{
	uint8_t		text[40] = {0};
	Digest128	seen[321 + 40];
	int			n = 0;
	int			i;
	int			j;
	bool		distinct = true;

	for (i = 0; i < 320; i++)
	{
		text[i / 8] ^= (uint8_t) (1 << i % 8);
		seen[n++] = digest_of(bytes_of(text, 40));
		text[i / 8] ^= (uint8_t) (1 << i % 8);
	}
	for (i = 0; i <= 40; i++)
		seen[n++] = digest_of(bytes_of(text, i));
	for (i = 0; i < n; i++)
		for (j = 0; j < i; j++)
			distinct = distinct && seen[i].lo != seen[j].lo && seen[i].hi != seen[j].hi;
	CHECK(distinct);
}

TEST(digest_does_not_depend_on_alignment)
{
	uint8_t		room[80];
	Digest128	d = {0, 0};
	int			at;

	for (at = 0; at < 8; at++)
	{
		memcpy(room + at, "select * from orders where id = $1 and region = $2", 50);
		if (at == 0)
			d = digest_of(bytes_of(room, 50));
		CHECK(digest_equal(d, digest_of(bytes_of(room + at, 50))));
	}
}

TEST(digest_depends_on_the_key)
{
	uint8_t		key[16] = {0};
	Digest128	a;
	Digest128	b;

	digest_seed(key);
	a = digest_of(bytes_str("x"));
	key[15] = 1;
	digest_seed(key);
	b = digest_of(bytes_str("x"));
	CHECK(!digest_equal(a, b));
	CHECK(digest_equal(b, digest_of(bytes_str("x"))));
}
