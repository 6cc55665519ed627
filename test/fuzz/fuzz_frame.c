/*
 * test/fuzz/fuzz_frame.c - core/frame: however a stream is cut, the same messages come out of it, as a plain splitter sees them.
 *
 * Input: side, whole_max, how the stream is cut, the stream.
 */
#include "core/frame.h"
#include "fuzz.h"

#define MESSAGES_MAX	4096

/* What a message of the stream must be. */
typedef struct Expected
{
	size_t		at;
	size_t		len;			/* with its header; what is there of it may be less */
	FrameVerdict verdict;
} Expected;

typedef struct Stream
{
	Bytes		bytes;
	size_t		whole_max;
	Expected	messages[MESSAGES_MAX];
	int			count;
} Stream;

static uint32_t
limit_of(uint8_t side, uint8_t type)
{
	if (side == FRAME_FROM_ORIGIN)
		return 0x7fffffff;
	if (strchr("QPBFd", type) && type != 0)
		return 0x3ffffffe;
	return type == 'p' ? 65535 : 10000;
}

/* From left to right, all of it in hand. */
static void
split_plainly(Stream *s, uint8_t side)
{
	size_t		at = 0;

	s->count = 0;
	while (s->bytes.len - at >= 5 && s->count < MESSAGES_MAX)
	{
		Expected   *e = &s->messages[s->count++];
		uint32_t	word = get_u32(s->bytes.data + at + 1);

		e->at = at;
		e->len = (size_t) word + 1;
		e->verdict = word < 4 || word > limit_of(side, s->bytes.data[at]) ? FRAME_BAD_LENGTH : e->len <= s->whole_max ? FRAME_WHOLE : FRAME_PART;
		if (e->verdict == FRAME_BAD_LENGTH || s->bytes.len - at < e->len)
			return;
		at += e->len;
	}
}

static void
check_first_piece(const Stream *s, const Expected *e, const Frame *frame, FrameVerdict verdict)
{
	FUZZ_CHECK(verdict == e->verdict);
	FUZZ_CHECK(frame->type == s->bytes.data[e->at]);
	FUZZ_CHECK(frame->length == e->len - 5);
	FUZZ_CHECK(frame->body.data == frame->raw.data + 5 && frame->body.len == frame->raw.len - 5);
	if (verdict == FRAME_WHOLE)
		FUZZ_CHECK(frame->last && frame->raw.len == e->len);
	else
		FUZZ_CHECK(frame->raw.len >= s->whole_max);
}

/* One piece; `done` is how much of its message came before it. The bytes must be those of the stream, in order. */
static void
check_piece(const Stream *s, const Expected *e, size_t done, const Frame *frame, FrameVerdict verdict)
{
	FUZZ_CHECK(frame->first == (done == 0));
	if (frame->first)
		check_first_piece(s, e, frame, verdict);
	else
		FUZZ_CHECK(verdict == FRAME_PART && frame->raw.len > 0 && bytes_equal(frame->raw, frame->body));
	FUZZ_CHECK(done + frame->raw.len <= e->len);
	FUZZ_CHECK(frame->last == (done + frame->raw.len == e->len));
	FUZZ_CHECK(memcmp(frame->raw.data, s->bytes.data + e->at + done, frame->raw.len) == 0);
}

/* Feeds the stream in pieces as they might arrive, keeping what was not used up, as a link or a session does. */
static void
check_cut(const Stream *s, uint8_t side, uint8_t cuts)
{
	FrameReader reader = {.side = side};
	size_t		used = 0;		/* of the stream */
	size_t		arrived = 0;
	size_t		done = 0;		/* of the message at hand */
	int			n = 0;
	uint32_t	roll = cuts;

	while (arrived < s->bytes.len)
	{
		Frame		frame;
		FrameVerdict verdict;

		roll = roll * 1664525 + 1013904223;
		arrived += cuts == 0 ? s->bytes.len : 1 + (roll >> 16) % (cuts < 8 ? cuts : (uint32_t) cuts * cuts);
		if (arrived > s->bytes.len)
			arrived = s->bytes.len;
		for (;;)
		{
			Bytes		in = fuzz_copy(bytes_of(s->bytes.data + used, arrived - used));

			verdict = frame_next(&reader, in, s->whole_max, &frame);
			if (verdict == FRAME_MORE || verdict == FRAME_BAD_LENGTH || n >= s->count)
			{
				fuzz_free(in);
				break;
			}
			check_piece(s, &s->messages[n], done, &frame, verdict);
			FUZZ_CHECK(frame.raw.data == in.data);
			done += frame.raw.len;
			used += frame.raw.len;
			n += frame.last;
			done = frame.last ? 0 : done;
			FUZZ_CHECK(frame_inside(&reader) == !frame.last);
			fuzz_free(in);
		}
		if (n >= MESSAGES_MAX)
			return;
		if (verdict == FRAME_BAD_LENGTH)
		{
			FUZZ_CHECK(n == s->count - 1 && s->messages[n].verdict == FRAME_BAD_LENGTH);
			return;
		}
		/* nobody need keep more than that */
		FUZZ_CHECK(arrived - used < s->whole_max && (done == 0 || arrived == used));
	}
	/* all that is left is the front of one message */
	FUZZ_CHECK(n == s->count || (n == s->count - 1 && s->messages[n].at + s->messages[n].len > s->bytes.len));
	FUZZ_REACHED("messages in a stream", n);
}

static void
check_startup(Bytes in)
{
	Bytes		body;
	size_t		used = 0;
	FrameVerdict verdict = frame_startup(in, &body, &used);
	uint32_t	word = in.len < 4 ? 0 : get_u32(in.data);

	if (in.len < 4)
		FUZZ_CHECK(verdict == FRAME_MORE);
	else if (word < 8 || word > 10000)
		FUZZ_CHECK(verdict == FRAME_BAD_LENGTH);
	else if (in.len < word)
		FUZZ_CHECK(verdict == FRAME_MORE);
	else
		FUZZ_CHECK(verdict == FRAME_WHOLE && used == word && body.data == in.data + 4 && body.len == word - 4);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t whole_max[] = {5, 6, 9, 64, 1000, 32768};
	static Stream s;
	FuzzInput	in = {data, data + size};
	uint8_t		side = fuzz_u8(&in) % 2 ? FRAME_FROM_ORIGIN : FRAME_FROM_CLIENT;
	uint8_t		cuts;

	s.whole_max = whole_max[fuzz_u8(&in) % 6];
	cuts = fuzz_u8(&in);
	s.bytes = fuzz_copy(fuzz_bytes(&in, size));
	split_plainly(&s, side);
	check_cut(&s, side, 0);
	check_cut(&s, side, cuts);
	check_startup(s.bytes);
	fuzz_free(s.bytes);
	return 0;
}
