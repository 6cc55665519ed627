/*
 * core/cachekey.c - when are two requests the same?
 *
 * Answers by one layout: scope (4 bytes), form (1), number of types (2), length of the text (4), types, text, and for rows the
 * values as a Bind has them, with formats in their shortest spelling (none = all text).
 * Never: decides what may be kept, looks at what a text means.
 */
#include "core/cachekey.h"

#define HEAD_LEN	11

/* ---- the text ---- */

static bool
is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Past a comment that begins at `at`, nested ones included; where it began if it does not end. */
static size_t
skip_comment(Bytes text, size_t at)
{
	size_t		from = at;
	int			depth = 0;

	if (text.data[at] == '-')
	{
		while (at < text.len && text.data[at] != '\n' && text.data[at] != '\r')
			at++;
		return at;
	}
	while (at + 1 < text.len)
	{
		if (text.data[at] == '/' && text.data[at + 1] == '*')
		{
			depth++;
			at += 2;
		}
		else if (text.data[at] == '*' && text.data[at + 1] == '/')
		{
			at += 2;
			if (--depth == 0)
				return at;
		}
		else
			at++;
	}
	return from;
}

static size_t
skip_front(Bytes text)
{
	size_t		at = 0;

	for (;;)
	{
		size_t		from = at;

		while (at < text.len && (is_blank(text.data[at]) || text.data[at] == ';'))
			at++;
		if (at + 1 < text.len && ((text.data[at] == '/' && text.data[at + 1] == '*') || (text.data[at] == '-' && text.data[at + 1] == '-')))
			at = skip_comment(text, at);
		if (at == from)
			return at;
	}
}

/*
 * Where the comment that ends the text begins, or its length. A valid text that ends in star-slash ends in a comment; it is the one that
 * the last slash-star opens, unless another one is closed between, or the end lies in a comment of two dashes: then that slash-star may
 * be anything.
 */
static size_t
comment_at_end(Bytes text)
{
	size_t		at;

	if (text.len < 4 || text.data[text.len - 1] != '/' || text.data[text.len - 2] != '*')
		return text.len;
	for (at = text.len - 4;; at--)
	{
		if (text.data[at] == '/' && text.data[at + 1] == '*')
			return at;
		if ((text.data[at] == '*' && text.data[at + 1] == '/') || (text.data[at] == '-' && text.data[at + 1] == '-') || at == 0)
			return text.len;
	}
}

Bytes
cachekey_trim(Bytes text)
{
	size_t		front = skip_front(text);
	Bytes		rest = bytes_of(text.data + front, text.len - front);

	for (;;)
	{
		size_t		len = rest.len;

		while (rest.len > 0 && (is_blank(rest.data[rest.len - 1]) || rest.data[rest.len - 1] == ';'))
			rest.len--;
		rest.len = comment_at_end(rest);
		if (rest.len == len)
			return rest;
	}
}

/* ---- Bind ---- */

static bool
skip_values(ByteReader *r, uint16_t n)
{
	while (n-- > 0 && !r->bad)
	{
		uint32_t	len = read_u32(r);

		if (len != UINT32_MAX)
			read_bytes(r, len);
	}
	return !r->bad;
}

bool
cachekey_read_bind(Bytes rest, BindValues *out)
{
	ByteReader	r = reader_of(rest);
	const uint8_t *from;

	out->nformats = read_u16(&r);
	out->formats = read_bytes(&r, (size_t) out->nformats * 2);
	out->nvalues = read_u16(&r);
	from = r.at;
	if (!skip_values(&r, out->nvalues))
		return false;
	out->values = bytes_of(from, r.at - from);
	out->nresults = read_u16(&r);
	out->results = read_bytes(&r, (size_t) out->nresults * 2);
	return !r.bad && reader_left(&r) == 0 && (out->nformats <= 1 || out->nformats == out->nvalues);
}

bool
cachekey_next_text(const BindValues *bind, size_t *at, uint16_t *n, Bytes *value)
{
	while (*n < bind->nvalues)
	{
		uint32_t	len = get_u32(bind->values.data + *at);
		uint16_t	format = 0;

		if (bind->nformats == 1)
			format = get_u16(bind->formats.data);
		else if (bind->nformats > 1)
			format = get_u16(bind->formats.data + (size_t) *n * 2);
		*at += 4;
		(*n)++;
		if (len == UINT32_MAX)
			continue;
		*value = bytes_of(bind->values.data + *at, len);
		*at += len;
		if (format == 0)
			return true;
	}
	return false;
}

/* ---- the key ---- */

/*
 * All alike: none for text, one for all others; else as they are. Only where their number is known to be right (of_values): two for the results of a query with
 * three columns are an error, one is not.
 */
static void
put_formats(ByteBuffer *out, uint16_t n, Bytes formats, bool of_values)
{
	uint16_t	kept = n > 1 && of_values ? 1 : n;

	for (uint16_t i = 1; i < n && kept == 1; i++)
	{
		if (memcmp(formats.data, formats.data + (size_t) i * 2, 2) != 0)
			kept = n;
	}
	if (kept == 1 && get_u16(formats.data) == 0)
		kept = 0;
	buffer_put_u16(out, kept);
	buffer_put(out, formats.data, (size_t) kept * 2);
}

static void
put_values(ByteBuffer *out, const BindValues *bind)
{
	static const BindValues nothing;

	if (bind == NULL)
		bind = &nothing;
	put_formats(out, bind->nvalues == 0 ? 0 : bind->nformats, bind->formats, true);
	buffer_put_u16(out, bind->nvalues);
	buffer_put(out, bind->values.data, bind->values.len);
	put_formats(out, bind->nresults, bind->results, false);
}

bool
cachekey_make(ByteBuffer *out, uint32_t scope, CacheForm form, Bytes text, Bytes types, const BindValues *bind, uint32_t max_rows)
{
	size_t		len = HEAD_LEN + text.len + types.len + 10;

	if (bind)
		len += bind->formats.len + bind->values.len + bind->results.len;
	if (len > CACHE_KEY_MAX || !buffer_reserve(out, len))
		return false;
	buffer_put_u32(out, scope);
	buffer_put_u8(out, (uint8_t) form);
	buffer_put_u16(out, (uint16_t) (types.len / 4));
	buffer_put_u32(out, (uint32_t) text.len);
	buffer_put(out, types.data, types.len);
	buffer_put(out, text.data, text.len);
	if (form == CACHE_ROWS)
		put_values(out, bind);
	if (max_rows > 0)
		buffer_put_u32(out, max_rows);
	return !out->failed;
}

bool
cachekey_read(Bytes key, CacheKeyView *out)
{
	ByteReader	r = reader_of(key);
	uint32_t	text_len;
	uint16_t	ntypes;

	out->scope = read_u32(&r);
	out->form = read_u8(&r);
	ntypes = read_u16(&r);
	text_len = read_u32(&r);
	out->types = read_bytes(&r, (size_t) ntypes * 4);
	out->text = read_bytes(&r, text_len);
	out->values = bytes_of(r.at, r.bad ? 0 : reader_left(&r));
	return !r.bad;
}
