/*
 * test/fuzz/fuzz_cachekey.c - core/cachekey: two requests have one key exactly if they are the same; any key reads back; any Bind is read within its bounds.
 *
 * Input: two requests; the second may be told to be the first with something changed.
 */
#include "core/cachekey.h"
#include "fuzz.h"

typedef struct Request
{
	uint32_t	scope;
	CacheForm	form;
	Bytes		text;
	Bytes		types;
	bool		bound;			/* a Bind, that could be read */
	BindValues	bind;
	uint32_t	max_rows;
} Request;

/* ---- trimming ---- */

/* What is cut off is blanks, semicolons and comments; what is left begins and ends with none of the first two, and trimming it again leaves it. */
static Bytes
trimmed(Bytes text)
{
	Bytes		t = cachekey_trim(text);

	FUZZ_CHECK(fuzz_is_inside(t, text));
	FUZZ_CHECK(bytes_equal(cachekey_trim(t), t));
	if (t.len > 0)
		FUZZ_CHECK(!memchr(" \t\n\v\f\r;", t.data[0], 7) && !memchr(" \t\n\v\f\r;", t.data[t.len - 1], 7));
	return t;
}

/* ---- the input ---- */

static void
check_bind(const BindValues *b, Bytes rest)
{
	size_t		at = 0;
	uint16_t	n = 0;
	uint16_t	before = 0;
	Bytes		value;

	FUZZ_CHECK(fuzz_is_inside(b->formats, rest) && fuzz_is_inside(b->values, rest) && fuzz_is_inside(b->results, rest));
	FUZZ_CHECK(b->formats.len + b->values.len + b->results.len + 6 == rest.len);
	while (cachekey_next_text(b, &at, &n, &value))
	{
		FUZZ_CHECK(n > before && n <= b->nvalues && at <= b->values.len && fuzz_is_inside(value, b->values));
		before = n;
	}
	FUZZ_CHECK(n == b->nvalues && at == b->values.len);
	FUZZ_REACHED("values of a Bind", n);
}

/* Formats and values that are mostly right, from a few choices. */
static void
put_bind(ByteBuffer *b, FuzzInput *in)
{
	uint8_t		shape = fuzz_u8(in);
	uint16_t	nvalues = shape % 6;
	uint16_t	nformats = shape / 6 % 3 == 2 ? nvalues : shape / 6 % 3;
	uint16_t	nresults = shape / 18 % 4;

	buffer_put_u16(b, nformats);
	for (int i = 0; i < nformats; i++)
		buffer_put_u16(b, fuzz_u8(in) % 2);
	buffer_put_u16(b, nvalues);
	for (int i = 0; i < nvalues; i++)
	{
		Bytes		value = fuzz_bytes(in, fuzz_u8(in) % 32);
		bool		null = value.len == 31;

		buffer_put_u32(b, null ? UINT32_MAX : (uint32_t) value.len);
		if (!null)
			buffer_put(b, value.data, value.len);
	}
	buffer_put_u16(b, nresults);
	for (int i = 0; i < nresults; i++)
		buffer_put_u16(b, fuzz_u8(in) % 2);
}

static void
read_request(FuzzInput *in, Request *r, ByteBuffer *room)
{
	uint8_t		flags = fuzz_u8(in);

	r->scope = fuzz_u8(in) % 3;
	r->form = flags & 1 ? CACHE_DESCRIPTION : CACHE_ROWS;
	r->types = fuzz_bytes(in, flags / 64 * 4);
	r->types.len -= r->types.len % 4;
	r->text = trimmed(fuzz_bytes(in, flags & 2 ? fuzz_u16(in) : fuzz_u8(in) % 16));
	r->bound = false;
	r->max_rows = 0;
	if (r->form == CACHE_DESCRIPTION || (flags & 4) == 0)
		return;
	r->max_rows = flags & 16 ? fuzz_u8(in) % 3 : 0;
	if (flags & 8)
	{
		Bytes		raw = fuzz_bytes(in, fuzz_u16(in));

		buffer_put(room, raw.data, raw.len);
	}
	else
		put_bind(room, in);
	r->bound = cachekey_read_bind(buffer_view(room), &r->bind);
	if (r->bound)
		check_bind(&r->bind, buffer_view(room));
}

/* ---- sameness, spelled out ---- */

static uint16_t
format_of(const BindValues *b, uint16_t i)
{
	if (b->nformats == 0)
		return 0;
	return get_u16(b->formats.data + (b->nformats == 1 ? 0 : (size_t) i * 2));
}

static bool
results_are_text(const BindValues *b)
{
	return b->nresults == 0 || (b->nresults == 1 && get_u16(b->results.data) == 0);
}

static bool
binds_alike(const BindValues *a, const BindValues *b)
{
	if (a->nvalues != b->nvalues || !bytes_equal(a->values, b->values))
		return false;
	for (uint16_t i = 0; i < a->nvalues; i++)
		if (format_of(a, i) != format_of(b, i))
			return false;
	if (results_are_text(a) || results_are_text(b))
		return results_are_text(a) && results_are_text(b);
	return bytes_equal(a->results, b->results);
}

static bool
alike(const Request *a, const Request *b)
{
	static const BindValues nothing;

	if (a->scope != b->scope || a->form != b->form || !bytes_equal(a->text, b->text) || !bytes_equal(a->types, b->types) || a->max_rows != b->max_rows)
		return false;
	return a->form == CACHE_DESCRIPTION || binds_alike(a->bound ? &a->bind : &nothing, b->bound ? &b->bind : &nothing);
}

/* ---- keys ---- */

static bool
make(ByteBuffer *out, const Request *r)
{
	CacheKeyView view;
	bool		made = cachekey_make(out, r->scope, r->form, r->text, r->types, r->bound ? &r->bind : NULL, r->max_rows);

	if (!made)
	{
		FUZZ_CHECK(r->text.len + r->types.len + (r->bound ? r->bind.values.len + r->bind.formats.len + r->bind.results.len : 0) + 21 > CACHE_KEY_MAX);
		return false;
	}
	FUZZ_CHECK(buffer_len(out) <= CACHE_KEY_MAX);
	FUZZ_CHECK(cachekey_read(buffer_view(out), &view));
	FUZZ_CHECK(view.scope == r->scope && view.form == r->form && bytes_equal(view.text, r->text) && bytes_equal(view.types, r->types));
	FUZZ_CHECK((view.values.len == 0) == (r->form == CACHE_DESCRIPTION));
	FUZZ_REACHED("bytes in a key", buffer_len(out));
	return true;
}

/* Any bytes. */
static void
read_key(Bytes key)
{
	CacheKeyView view;

	if (!cachekey_read(key, &view))
		return;
	FUZZ_CHECK(fuzz_is_inside(view.types, key) && fuzz_is_inside(view.text, key) && fuzz_is_inside(view.values, key));
	FUZZ_CHECK(view.types.len + view.text.len + view.values.len + 11 == key.len);
}

/* One thing of the first request is changed in the second, or nothing. */
static void
vary(Request *r, FuzzInput *in)
{
	switch (fuzz_u8(in) % 6)
	{
		case 0:
			r->scope++;
			break;
		case 1:
			r->text.len -= r->text.len > 0;
			break;
		case 2:
			r->max_rows = r->form == CACHE_ROWS ? fuzz_u8(in) : 0;
			break;
		case 3:
			r->bound = false;
			break;
		case 4:
			r->types.len -= r->types.len > 0 ? 4 : 0;
			break;
		default:
			break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		before = mem_used();
	Bytes		all = fuzz_copy(bytes_of(data, size));
	FuzzInput	in = {all.data, all.data + all.len};
	ByteBuffer	rooms[2] = {{0}, {0}};
	ByteBuffer	keys[2] = {{0}, {0}};
	Request		a;
	Request		b;
	uint8_t		how = fuzz_u8(&in);

	read_request(&in, &a, &rooms[0]);
	if (how & 1)
	{
		b = a;
		vary(&b, &in);
	}
	else
		read_request(&in, &b, &rooms[1]);
	if (make(&keys[0], &a) && make(&keys[1], &b))
		FUZZ_CHECK(bytes_equal(buffer_view(&keys[0]), buffer_view(&keys[1])) == alike(&a, &b));
	read_key(all);
	for (int i = 0; i < 2; i++)
	{
		buffer_free(&rooms[i]);
		buffer_free(&keys[i]);
	}
	fuzz_free(all);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
