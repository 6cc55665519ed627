/*
 * test/fuzz/fuzz_message.c - core/message: readers take any body; what a writer wrote reads back as it was; errors stay well-formed whatever is put in them.
 *
 * Input: what to do, then a body or the texts for one.
 */
#include "core/message.h"
#include "fuzz.h"

/* The one message in the buffer: its body. */
static Bytes
only_message(const ByteBuffer *b, uint8_t type)
{
	FrameReader reader = {.side = FRAME_FROM_ORIGIN};
	Frame		frame;

	FUZZ_CHECK(!b->failed);
	FUZZ_CHECK(frame_next(&reader, buffer_view(b), BUFFER_LIMIT, &frame) == FRAME_WHOLE);
	FUZZ_CHECK(frame.type == type && frame.raw.len == buffer_len(b));
	return frame.body;
}

static Bytes
without_nul(Bytes view)
{
	const uint8_t *nul = view.len > 0 ? memchr(view.data, 0, view.len) : NULL;

	return nul ? bytes_of(view.data, nul - view.data) : view;
}

/* ---- readers ---- */

static void
read_parse(Bytes body)
{
	ParseMessage m;
	ParseMessage again;
	ByteBuffer	b = {0};

	if (!message_read_parse(body, &m))
		return;
	FUZZ_CHECK(fuzz_is_inside(m.name, body) && fuzz_is_inside(m.text, body) && fuzz_is_inside(m.types, body) && m.types.len % 4 == 0);
	message_put_parse(&b, m.name, m.text, m.types);
	FUZZ_CHECK(bytes_equal(only_message(&b, MSG_PARSE), body));
	FUZZ_CHECK(message_read_parse(only_message(&b, MSG_PARSE), &again));
	buffer_free(&b);
	FUZZ_REACHED("types in a Parse", m.types.len / 4);
}

/* A Bind whose front was cut off with its names inside reads as the whole does. */
static void
read_bind(Bytes body)
{
	BindMessage m;
	BindMessage front;
	ByteBuffer	b = {0};
	size_t		names;

	if (!message_read_bind(body, &m))
		return;
	FUZZ_CHECK(fuzz_is_inside(m.portal, body) && fuzz_is_inside(m.statement, body) && fuzz_is_inside(m.rest, body));
	message_put_bind_head(&b, m.portal, m.statement, m.rest.len);
	buffer_put(&b, m.rest.data, m.rest.len);
	FUZZ_CHECK(bytes_equal(only_message(&b, MSG_BIND), body));
	buffer_free(&b);
	names = body.len - m.rest.len;
	FUZZ_CHECK(message_read_bind(bytes_of(body.data, names), &front) && bytes_equal(front.statement, m.statement));
	FUZZ_CHECK(!message_read_bind(bytes_of(body.data, names - 1), &front));
}

static void
read_named(Bytes body)
{
	NamedMessage m;
	ByteBuffer	b = {0};

	if (!message_read_named(body, &m))
		return;
	message_put_named(&b, MSG_CLOSE, m.what, m.name);
	FUZZ_CHECK(bytes_equal(only_message(&b, MSG_CLOSE), body));
	buffer_free(&b);
}

static void
read_execute(Bytes body)
{
	ExecuteMessage m;
	ByteBuffer	b = {0};

	if (!message_read_execute(body, &m))
		return;
	message_put_execute(&b, m.portal, m.max_rows);
	FUZZ_CHECK(bytes_equal(only_message(&b, MSG_EXECUTE), body));
	buffer_free(&b);
}

static void
read_texts(Bytes body)
{
	Bytes		name;
	Bytes		value;
	ByteBuffer	b = {0};

	if (message_read_query(body, &value))
	{
		message_put_query(&b, value);
		FUZZ_CHECK(bytes_equal(only_message(&b, MSG_QUERY), body));
		buffer_free(&b);
	}
	if (message_read_parameter_status(body, &name, &value))
	{
		message_put_parameter_status(&b, name, value);
		FUZZ_CHECK(bytes_equal(only_message(&b, ANS_PARAMETER_STATUS), body));
		buffer_free(&b);
	}
}

/* ---- row shapes: where a column comes from, and its format, do not count; all else does ---- */

static void
check_shape(Bytes body, uint8_t which)
{
	uint8_t    *changed = (uint8_t *) (uintptr_t) fuzz_copy(body).data;
	ByteReader	r = reader_of(body);
	uint16_t	columns = read_u16(&r);
	size_t		table[3] = {0};		/* of some column: table OID, type OID, format */

	for (uint16_t i = 0; i < columns && !r.bad; i++)
	{
		bool		chosen = i == 0 || i == which;

		read_cstr(&r);
		if (chosen)
			table[0] = r.at - body.data;
		read_bytes(&r, 6);
		if (chosen)
			table[1] = r.at - body.data;
		read_bytes(&r, 10);
		if (chosen)
			table[2] = r.at - body.data;
		read_u16(&r);
	}
	if (!r.bad && columns > 0)
	{
		changed[table[0] + which % 6] ^= 1;
		changed[table[2] + which % 2] ^= 0x40;
		FUZZ_CHECK(digest_equal(message_row_shape(body), message_row_shape(bytes_of(changed, body.len))));
		changed[table[1] + which % 10] ^= 1;
		FUZZ_CHECK(!digest_equal(message_row_shape(body), message_row_shape(bytes_of(changed, body.len))));
		FUZZ_REACHED("columns in a RowDescription", columns);
	}
	(void) message_row_shape(body);
	free(changed);
}

/* ---- errors ---- */

/* Fields, each a code and a text, then the terminator, then nothing. How many; the texts of M in *primary. */
static int
fields_of(Bytes body, Bytes *primary)
{
	ByteReader	r = reader_of(body);
	uint8_t		code;
	int			n = 0;

	*primary = bytes_of(NULL, 0);
	while ((code = read_u8(&r)) != 0)
	{
		Bytes		text = read_cstr(&r);

		FUZZ_CHECK(!r.bad);
		if (code == 'M' && primary->data == NULL)
			*primary = text;
		n++;
	}
	FUZZ_CHECK(!r.bad && reader_left(&r) == 0);
	return n;
}

/* How often a text stands in another, as names do. */
static size_t
count_of(Bytes text, Bytes name)
{
	size_t		n = 0;

	for (size_t at = 0; name.len > 0 && at + name.len <= text.len; at++)
		n += memcmp(text.data + at, name.data, name.len) == 0;
	return n;
}

static void
rewrite_error(Bytes body, Bytes from, Bytes to)
{
	ByteBuffer	b = {0};
	Bytes		before = message_error_field(body, 'M');
	Bytes		primary;
	int			n;

	message_put_error_renamed(&b, body, from, to);
	n = fields_of(only_message(&b, ANS_ERROR), &primary);
	FUZZ_CHECK(bytes_equal(message_error_field(body, 'C'), message_error_field(only_message(&b, ANS_ERROR), 'C')));
	if (count_of(before, from) == 0)
		FUZZ_CHECK(bytes_equal(before, primary));
	FUZZ_REACHED("names replaced in an error", bytes_equal(before, primary) ? 0 : count_of(before, from));
	buffer_free(&b);

	message_put_error_as(&b, body, "ERROR");
	FUZZ_CHECK(fields_of(only_message(&b, ANS_ERROR), &primary) == n && bytes_equal(before, primary));
	FUZZ_CHECK(!message_error_is_fatal(only_message(&b, ANS_ERROR)));
	buffer_free(&b);
	if (message_error_field(body, 'V').len > 0)
	{
		message_put_error_as(&b, body, "FATAL");
		FUZZ_CHECK(message_error_is_fatal(only_message(&b, ANS_ERROR)));
		buffer_free(&b);
	}
	(void) message_error_is_fatal(body);
}

static void
write_refusal(FuzzInput *in)
{
	Refusal		refusal = (Refusal) fuzz_u8(in);	/* some are none */
	uint16_t	times = fuzz_u16(in) % 300;
	Bytes		piece = without_nul(fuzz_bytes(in, 64));
	ByteBuffer	arg = {0};
	ByteBuffer	b = {0};
	Bytes		primary;

	for (uint32_t i = 0; i < times; i++)
		buffer_put(&arg, piece.data, piece.len);
	buffer_put_u8(&arg, 0);
	message_put_refusal(&b, "FATAL", refusal, times % 7 == 6 ? NULL : (const char *) buffer_view(&arg).data);
	FUZZ_CHECK(fields_of(only_message(&b, ANS_ERROR), &primary) >= 4);
	FUZZ_CHECK(primary.len <= 8192 && message_error_is_fatal(only_message(&b, ANS_ERROR)));
	FUZZ_CHECK(message_error_field(only_message(&b, ANS_ERROR), 'C').len == 5);
	buffer_free(&b);
	buffer_free(&arg);
	FUZZ_REACHED("bytes in a refusal", primary.len);
}

/* ---- writers of lists ---- */

static void
write_bind_text(FuzzInput *in)
{
	Bytes		values[16];
	size_t		n = fuzz_below(in, 17);
	Bytes		portal = without_nul(fuzz_bytes(in, fuzz_u8(in)));
	Bytes		statement = without_nul(fuzz_bytes(in, fuzz_u8(in)));
	ByteBuffer	b = {0};
	BindMessage m;
	ByteReader	r;

	for (size_t i = 0; i < n; i++)
		values[i] = fuzz_u8(in) % 5 == 0 ? bytes_of(NULL, 0) : fuzz_bytes(in, fuzz_u8(in));
	message_put_bind_text(&b, portal, statement, values, n);
	FUZZ_CHECK(message_read_bind(only_message(&b, MSG_BIND), &m));
	FUZZ_CHECK(bytes_equal(m.portal, portal) && bytes_equal(m.statement, statement));
	r = reader_of(m.rest);
	FUZZ_CHECK(read_u16(&r) == 0 && read_u16(&r) == n);
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	len = read_u32(&r);

		FUZZ_CHECK((len == UINT32_MAX) == (values[i].data == NULL));
		if (len != UINT32_MAX)
			FUZZ_CHECK(bytes_equal(read_bytes(&r, len), values[i]));
	}
	FUZZ_CHECK(read_u16(&r) == 0 && !r.bad && reader_left(&r) == 0);
	buffer_free(&b);
}

static void
write_negotiate(FuzzInput *in)
{
	Bytes		options[16];
	size_t		n = fuzz_below(in, 17);
	ByteBuffer	b = {0};
	ByteReader	r;

	for (size_t i = 0; i < n; i++)
		options[i] = without_nul(fuzz_bytes(in, fuzz_u8(in)));
	message_put_negotiate(&b, 2, options, n);
	r = reader_of(only_message(&b, ANS_NEGOTIATE));
	FUZZ_CHECK(read_u32(&r) == (3 << 16 | 2) && read_u32(&r) == n);
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECK(bytes_equal(read_cstr(&r), options[i]));
	FUZZ_CHECK(!r.bad && reader_left(&r) == 0);
	buffer_free(&b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	uint8_t		what = fuzz_u8(&in);
	uint8_t		choice = fuzz_u8(&in);
	Bytes		body;

	switch (what % 4)
	{
		case 0:
			write_refusal(&in);
			break;
		case 1:
			write_bind_text(&in);
			break;
		case 2:
			write_negotiate(&in);
			break;
		default:
			body = fuzz_copy(fuzz_bytes(&in, size));
			read_parse(body);
			read_bind(body);
			read_named(body);
			read_execute(body);
			read_texts(body);
			check_shape(body, choice);
			rewrite_error(body, without_nul(bytes_of(body.data, body.len < choice % 16 ? body.len : choice % 16)), bytes_str(choice % 2 ? "" : "name of a client"));
			rewrite_error(body, bytes_str("hyperpool_00000000_1"), bytes_str("s"));
			fuzz_free(body);
	}
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
