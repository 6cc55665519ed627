/*
 * test/unit/test_frame.c - core/frame: a stream cut anywhere gives the same messages.
 */
#include "core/frame.h"
#include "unit.h"

/* A session's bytes: Parse, Bind, Describe, Execute, Sync, a Query of 300 bytes, Flush, Terminate. */
static void
put_stream(ByteBuffer *b)
{
	static const struct
	{
		uint8_t		type;
		uint32_t	body;
	}			messages[] = {
		{'P', 31}, {'B', 20}, {'D', 3}, {'E', 5}, {'S', 0}, {'Q', 300}, {'d', 64}, {'H', 0}, {'X', 0}
	};
	size_t		i;
	uint32_t	n;

	for (i = 0; i < sizeof(messages) / sizeof(messages[0]); i++)
	{
		buffer_put_u8(b, messages[i].type);
		buffer_put_u32(b, messages[i].body + 4);
		for (n = 0; n < messages[i].body; n++)
			buffer_put_u8(b, (uint8_t) (n * 7 + i));
	}
}

/* What a reader of the stream notes: bytes, message by message. */
typedef struct Notes
{
	ByteBuffer	bytes;			/* all raw views, one after the other */
	ByteBuffer	types;			/* type of each message, at its first piece */
	int			messages;
	int			parts;
	bool		sound;			/* every frame was true to its description */
	uint32_t	body_seen;		/* of the message that is being read */
	bool		inside;
} Notes;

static void
note(Notes *notes, FrameVerdict verdict, const Frame *f, size_t whole_max)
{
	size_t		header = f->first ? 5 : 0;
	bool		small = (size_t) f->length + 5 <= whole_max;

	buffer_put(&notes->bytes, f->raw.data, f->raw.len);
	if (f->first)
	{
		buffer_put_u8(&notes->types, f->type);
		notes->body_seen = 0;
		notes->messages++;
		notes->sound = notes->sound && f->raw.data[0] == f->type &&
			get_u32(f->raw.data + 1) == f->length + 4;
	}
	notes->sound = notes->sound && f->first == !notes->inside && f->raw.len > 0 &&
		f->body.len == f->raw.len - header && f->body.data == f->raw.data + header &&
		f->type == notes->types.data[notes->types.end - 1] &&
		small == (verdict == FRAME_WHOLE);
	if (verdict == FRAME_WHOLE)
		notes->sound = notes->sound && f->first && f->last;
	else
	{
		notes->parts++;
		notes->sound = notes->sound && (!f->first || f->raw.len >= whole_max);
	}
	notes->body_seen += (uint32_t) f->body.len;
	notes->inside = !f->last;
	notes->sound = notes->sound && f->last == (notes->body_seen == f->length);
}

/* Reads all that is there of `in`; returns the bytes used. */
static size_t
drain(FrameReader *reader, Bytes in, size_t whole_max, Notes *notes)
{
	size_t		used = 0;
	Frame		f;
	FrameVerdict verdict;

	for (;;)
	{
		verdict = frame_next(reader, bytes_of(in.data + used, in.len - used), whole_max, &f);
		if (verdict != FRAME_WHOLE && verdict != FRAME_PART)
			break;
		note(notes, verdict, &f, whole_max);
		notes->sound = notes->sound && frame_inside(reader) == notes->inside;
		used += f.raw.len;
	}
	notes->sound = notes->sound && verdict == FRAME_MORE;
	return used;
}

static void
notes_free(Notes *notes)
{
	buffer_free(&notes->bytes);
	buffer_free(&notes->types);
}

/* The stream comes in two pieces, cut at `cut`, or byte by byte (cut 0). */
static void
check_stream(Bytes stream, size_t cut, size_t whole_max)
{
	FrameReader reader = {0};
	Notes		notes = {.sound = true};
	size_t		used = 0;
	size_t		have;

	reader.side = FRAME_FROM_CLIENT;
	for (have = cut > 0 ? cut : 1; have < stream.len; have = cut > 0 ? stream.len : have + 1)
		used += drain(&reader, bytes_of(stream.data + used, have - used), whole_max, &notes);
	used += drain(&reader, bytes_of(stream.data + used, stream.len - used), whole_max, &notes);
	CHECK_EQ_INT(used, stream.len);
	CHECK(notes.sound);
	CHECK(!frame_inside(&reader));
	CHECK_EQ_INT(notes.messages, 9);
	CHECK_BYTES_LIT(notes.types.data, buffer_len(&notes.types), "PBDESQdHX");
	CHECK_BYTES(notes.bytes.data, buffer_len(&notes.bytes), stream.data, stream.len);
	notes_free(&notes);
}

TEST(stream_cut_at_every_byte)
{
	static const size_t whole_maxes[] = {5, 6, 36, 64, 304, 305, 8192};
	ByteBuffer	b = {0};
	size_t		i;
	size_t		cut;

	put_stream(&b);
	for (i = 0; i < sizeof(whole_maxes) / sizeof(whole_maxes[0]); i++)
	{
		for (cut = 0; cut < buffer_len(&b); cut++)
			check_stream(buffer_view(&b), cut, whole_maxes[i]);
	}
	buffer_free(&b);
}

TEST(long_message_comes_in_pieces)
{
	FrameReader reader = {.side = FRAME_FROM_ORIGIN};
	uint8_t		in[105] = "D\0\0\0\x68";
	Frame		f;

	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 19), 20, &f), FRAME_MORE);
	CHECK(!frame_inside(&reader));
	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 25), 20, &f), FRAME_PART);
	CHECK(f.first && !f.last && frame_inside(&reader));
	CHECK_EQ_INT(f.raw.len, 25);
	CHECK_EQ_INT(f.body.len, 20);
	CHECK_EQ_INT(f.length, 100);
	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 0), 20, &f), FRAME_MORE);
	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 1), 20, &f), FRAME_PART);
	CHECK(!f.first && !f.last && f.type == 'D');
	CHECK_EQ_INT(f.length, 100);
	CHECK_EQ_INT(f.raw.len, 1);
	/* The next message's bytes behind it are left alone. */
	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 105), 20, &f), FRAME_PART);
	CHECK(!f.first && f.last && !frame_inside(&reader));
	CHECK_EQ_INT(f.raw.len, 79);
}

TEST(long_message_that_is_all_there_is_still_a_part)
{
	FrameReader reader = {.side = FRAME_FROM_ORIGIN};
	uint8_t		in[25] = "D\0\0\0\x18";
	Frame		f;

	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 25), 25, &f), FRAME_WHOLE);
	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 25), 24, &f), FRAME_PART);
	CHECK(f.first && f.last && !frame_inside(&reader));
	CHECK_EQ_INT(f.raw.len, 25);
}

/* The verdict on a header alone: FRAME_MORE means the length was accepted. */
static FrameVerdict
header_verdict(FrameSide side, uint8_t type, uint32_t word)
{
	FrameReader reader = {0};
	uint8_t		in[5];
	Frame		f;

	reader.side = (uint8_t) side;
	in[0] = type;
	set_u32(in + 1, word);
	return frame_next(&reader, bytes_of(in, 5), 8192, &f);
}

TEST(lengths_of_the_client)
{
	static const char large[] = "QPBFd";
	static const char small[] = "DECHSXcf\0z";
	size_t		i;

	for (i = 0; i < sizeof(large) - 1; i++)
	{
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, (uint8_t) large[i], 0x3ffffffe), FRAME_MORE);
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, (uint8_t) large[i], 0x3fffffff), FRAME_BAD_LENGTH);
	}
	for (i = 0; i < sizeof(small) - 1; i++)
	{
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, (uint8_t) small[i], 10000), FRAME_MORE);
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, (uint8_t) small[i], 10001), FRAME_BAD_LENGTH);
	}
	CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, 'p', 65535), FRAME_MORE);
	CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, 'p', 65536), FRAME_BAD_LENGTH);
}

TEST(lengths_that_are_impossible)
{
	static const uint32_t words[] = {0, 1, 2, 3, 0x80000000u, 0xffffffffu, 0xfffffffcu};
	size_t		i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
	{
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, 'Q', words[i]), FRAME_BAD_LENGTH);
		CHECK_EQ_INT(header_verdict(FRAME_FROM_CLIENT, 'S', words[i]), FRAME_BAD_LENGTH);
		CHECK_EQ_INT(header_verdict(FRAME_FROM_ORIGIN, 'D', words[i]), FRAME_BAD_LENGTH);
	}
	CHECK_EQ_INT(header_verdict(FRAME_FROM_ORIGIN, 'D', 0x7fffffff), FRAME_MORE);
	CHECK_EQ_INT(header_verdict(FRAME_FROM_ORIGIN, 'S', 10001), FRAME_MORE);
	CHECK_EQ_INT(header_verdict(FRAME_FROM_ORIGIN, 'Z', 4), FRAME_WHOLE);
}

TEST(largest_message_of_an_origin)
{
	FrameReader reader = {.side = FRAME_FROM_ORIGIN};
	uint8_t		in[32] = "D\x7f\xff\xff\xff";
	Frame		f;

	CHECK_EQ_INT(frame_next(&reader, bytes_of(in, 32), 16, &f), FRAME_PART);
	CHECK_EQ_INT(f.length, 0x7ffffffb);
	CHECK_EQ_INT(reader.left, 0x7ffffffb - 27);
}

TEST(header_cut_short)
{
	FrameReader reader = {0};
	Frame		f;
	size_t		n;

	CHECK_EQ_INT(frame_next(&reader, bytes_of(NULL, 0), 100, &f), FRAME_MORE);
	for (n = 0; n < 5; n++)
		CHECK_EQ_INT(frame_next(&reader, bytes_of("S\0\0\0\4", n), 100, &f), FRAME_MORE);
	CHECK_EQ_INT(frame_next(&reader, bytes_of("S\0\0\0\4", 5), 0, &f), FRAME_WHOLE);
	CHECK_EQ_INT(f.body.len, 0);
}

TEST(startup_packet_cut_at_every_byte)
{
	static const char in[] = "\0\0\0\x11\0\3\0\0user\0bob\0next";
	Bytes		body;
	size_t		used;
	size_t		n;

	for (n = 0; n < 17; n++)
		CHECK_EQ_INT(frame_startup(bytes_of(in, n), &body, &used), FRAME_MORE);
	for (n = 17; n < sizeof(in) - 1; n++)
	{
		CHECK_EQ_INT(frame_startup(bytes_of(in, n), &body, &used), FRAME_WHOLE);
		CHECK_EQ_INT(used, 17);
		CHECK_BYTES_LIT(body.data, body.len, "\0\3\0\0user\0bob\0");
	}
}

TEST(startup_packet_lengths)
{
	static const uint32_t bad[] = {0, 1, 4, 7, 10001, 0x80000000u, 0xffffffffu, 0x16030100u};
	uint8_t		in[4];
	Bytes		body;
	size_t		used;
	size_t		i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		set_u32(in, bad[i]);
		CHECK_EQ_INT(frame_startup(bytes_of(in, 4), &body, &used), FRAME_BAD_LENGTH);
	}
	set_u32(in, 8);
	CHECK_EQ_INT(frame_startup(bytes_of(in, 4), &body, &used), FRAME_MORE);
	set_u32(in, 10000);
	CHECK_EQ_INT(frame_startup(bytes_of(in, 4), &body, &used), FRAME_MORE);
}
