/*
 * test/unit/test_cachekey.c - core/cachekey: requests that are the same have the same key, and no others.
 */
#include "core/cachekey.h"
#include "unit.h"

static void
check_trim(const char *text, const char *expected)
{
	Bytes		got = cachekey_trim(bytes_str(text));

	CHECK_BYTES(got.data, got.len, expected, strlen(expected));
}

TEST(trims_what_surrounds)
{
	check_trim("SELECT 1", "SELECT 1");
	check_trim("  SELECT 1 ;\n ; ", "SELECT 1");
	check_trim("/* a */ -- b\n/* c /* d */ */ SELECT 1", "SELECT 1");
	check_trim("SELECT 1 /* traceparent='00-1' */", "SELECT 1");
	check_trim("SELECT 1 /* a */ ; /* b */", "SELECT 1");
	check_trim("SELECT '/* x' /* y */", "SELECT '/* x'");
	check_trim("", "");
	check_trim(";", "");
	check_trim("/* never closed", "/* never closed");
	check_trim("*/", "*/");
	check_trim("/*/", "/*/");
	check_trim("/**/", "");
}

TEST(leaves_what_it_cannot_tell)
{
	/* the end is in a line comment: the slash-star is in a literal */
	check_trim("SELECT '/*A' -- x */", "SELECT '/*A' -- x */");
	/* nested: the last slash-star is not the one that the end closes */
	check_trim("SELECT 1 /* a /* b */ c */", "SELECT 1 /* a /* b */ c */");
	check_trim("SELECT 1 -- why", "SELECT 1 -- why");
}

/* A Bind's rest: formats, values (NULL pointer: an SQL NULL), result formats. */
static void
put_bind(ByteBuffer *b, int nformats, const uint16_t *formats, int n, const char *const *values, int nresults, const uint16_t *results)
{
	buffer_put_u16(b, (uint16_t) nformats);
	for (int i = 0; i < nformats; i++)
		buffer_put_u16(b, formats[i]);
	buffer_put_u16(b, (uint16_t) n);
	for (int i = 0; i < n; i++)
	{
		buffer_put_u32(b, values[i] ? (uint32_t) strlen(values[i]) : UINT32_MAX);
		if (values[i])
			buffer_put(b, values[i], strlen(values[i]));
	}
	buffer_put_u16(b, (uint16_t) nresults);
	for (int i = 0; i < nresults; i++)
		buffer_put_u16(b, results[i]);
}

static bool
same_key(const ByteBuffer *x, const ByteBuffer *y)
{
	ByteBuffer	a = {0},
				b = {0};
	BindValues	v,
				w;
	bool		same;

	CHECK(cachekey_read_bind(buffer_view(x), &v) && cachekey_read_bind(buffer_view(y), &w));
	CHECK(cachekey_make(&a, 7, CACHE_ROWS, bytes_str("SELECT $1, $2"), bytes_of("", 0), &v, 0));
	CHECK(cachekey_make(&b, 7, CACHE_ROWS, bytes_str("SELECT $1, $2"), bytes_of("", 0), &w, 0));
	same = bytes_equal(buffer_view(&a), buffer_view(&b));
	buffer_free(&a);
	buffer_free(&b);
	return same;
}

static const uint16_t text_formats[] = {0, 0};
static const uint16_t binary_formats[] = {1, 1};
static const uint16_t mixed_formats[] = {0, 1};
static const char *const some_values[] = {"a", "bc"};
static const char *const other_values[] = {"ab", "c"};
static const char *const null_values[] = {"a", NULL};
static const char *const empty_values[] = {"a", ""};

TEST(formats_have_one_spelling)
{
	ByteBuffer	none = {0},
				one = {0},
				all = {0},
				mixed = {0},
				binary = {0},
				both = {0};

	put_bind(&none, 0, NULL, 2, some_values, 0, NULL);
	put_bind(&one, 1, text_formats, 2, some_values, 1, text_formats);
	put_bind(&all, 2, text_formats, 2, some_values, 0, NULL);
	put_bind(&mixed, 2, mixed_formats, 2, some_values, 0, NULL);
	put_bind(&binary, 0, NULL, 2, some_values, 1, binary_formats);
	put_bind(&both, 0, NULL, 2, some_values, 2, binary_formats);
	CHECK(same_key(&none, &one));
	CHECK(same_key(&none, &all));
	CHECK(!same_key(&none, &mixed));
	CHECK(!same_key(&none, &binary));
	/* the same for a query of two columns; for one of three the second is an error */
	CHECK(!same_key(&binary, &both));
	buffer_free(&none);
	buffer_free(&one);
	buffer_free(&all);
	buffer_free(&mixed);
	buffer_free(&binary);
	buffer_free(&both);
}

TEST(values_are_told_apart)
{
	ByteBuffer	some = {0},
				other = {0},
				null = {0},
				empty = {0};

	put_bind(&some, 0, NULL, 2, some_values, 0, NULL);
	put_bind(&other, 0, NULL, 2, other_values, 0, NULL);
	put_bind(&null, 0, NULL, 2, null_values, 0, NULL);
	put_bind(&empty, 0, NULL, 2, empty_values, 0, NULL);
	CHECK(!same_key(&some, &other));
	CHECK(!same_key(&null, &empty));
	buffer_free(&some);
	buffer_free(&other);
	buffer_free(&null);
	buffer_free(&empty);
}

TEST(a_query_is_a_bind_of_nothing)
{
	ByteBuffer	rest = {0},
				a = {0},
				b = {0};
	BindValues	bind;
	CacheKeyView view;

	put_bind(&rest, 0, NULL, 0, NULL, 1, text_formats);
	CHECK(cachekey_read_bind(buffer_view(&rest), &bind));
	CHECK(cachekey_make(&a, 7, CACHE_ROWS, bytes_str("TABLE t"), bytes_of("", 0), NULL, 0));
	CHECK(cachekey_make(&b, 7, CACHE_ROWS, bytes_str("TABLE t"), bytes_of("", 0), &bind, 0));
	CHECK(bytes_equal(buffer_view(&a), buffer_view(&b)));
	CHECK(cachekey_read(buffer_view(&a), &view));
	CHECK_EQ_INT(view.scope, 7);
	CHECK_EQ_INT(view.form, CACHE_ROWS);
	CHECK_BYTES_LIT(view.text.data, view.text.len, "TABLE t");
	buffer_free(&rest);
	buffer_free(&a);
	buffer_free(&b);
}

TEST(a_row_limit_is_part_of_it)
{
	ByteBuffer	all = {0},
				one = {0},
				two = {0};

	CHECK(cachekey_make(&all, 7, CACHE_ROWS, bytes_str("TABLE t"), bytes_of("", 0), NULL, 0));
	CHECK(cachekey_make(&one, 7, CACHE_ROWS, bytes_str("TABLE t"), bytes_of("", 0), NULL, 1));
	CHECK(cachekey_make(&two, 7, CACHE_ROWS, bytes_str("TABLE t"), bytes_of("", 0), NULL, 2));
	CHECK(!bytes_equal(buffer_view(&all), buffer_view(&one)));
	CHECK(!bytes_equal(buffer_view(&two), buffer_view(&one)));
	buffer_free(&all);
	buffer_free(&one);
	buffer_free(&two);
}

TEST(text_values_are_found)
{
	ByteBuffer	rest = {0};
	BindValues	bind;
	size_t		at = 0;
	uint16_t	n = 0;
	Bytes		value;

	put_bind(&rest, 2, mixed_formats, 2, some_values, 0, NULL);
	CHECK(cachekey_read_bind(buffer_view(&rest), &bind));
	CHECK(cachekey_next_text(&bind, &at, &n, &value));
	CHECK_BYTES_LIT(value.data, value.len, "a");
	CHECK(!cachekey_next_text(&bind, &at, &n, &value));
	buffer_free(&rest);
}

TEST(malformed_binds_are_refused)
{
	ByteBuffer	rest = {0};
	BindValues	bind;

	put_bind(&rest, 2, mixed_formats, 2, some_values, 1, text_formats);
	for (size_t len = 0; len < buffer_len(&rest); len++)
		CHECK(!cachekey_read_bind(bytes_of(rest.data, len), &bind));
	buffer_put_u8(&rest, 0);
	CHECK(!cachekey_read_bind(buffer_view(&rest), &bind));
	buffer_free(&rest);
	put_bind(&rest, 2, mixed_formats, 1, some_values, 0, NULL);
	CHECK(!cachekey_read_bind(buffer_view(&rest), &bind));
	buffer_free(&rest);
}

TEST(long_keys_are_refused)
{
	static char text[CACHE_KEY_MAX + 1];
	ByteBuffer	key = {0};

	memset(text, 'x', sizeof(text));
	CHECK(!cachekey_make(&key, 1, CACHE_ROWS, bytes_of(text, CACHE_KEY_MAX), bytes_of("", 0), NULL, 0));
	CHECK(cachekey_make(&key, 1, CACHE_ROWS, bytes_of(text, CACHE_KEY_MAX - 21), bytes_of("", 0), NULL, 0));
	buffer_free(&key);
}
