/*
 * test/fuzz/fuzz_link.c - core/frame, core/message and core/exchange together, driven as the session and the link drive them: a client's bytes and an
 * origin's bytes, any of both, in pieces.
 *
 * The client's messages join exchanges in a FIFO; the origin's answers go to the oldest. What is handed to the client must be whole messages in the origin's
 * order, cut only where the origin's bytes were; what is kept of either side stays below a message's limit. Names in errors are replaced, settings noted, long
 * messages passed in pieces. No byte may do more harm than to end the link.
 * Input: how the bytes are cut and mixed, length of the client's, the client's, the origin's.
 */
#include "core/exchange.h"
#include "fuzz.h"

#define WHOLE_MAX		512		/* long messages are rare in small inputs otherwise */
#define EXCHANGES_MAX	256

typedef enum Fate
{
	GOES_ON, CLIENT_ENDED, ORIGIN_ENDED
} Fate;

typedef struct Side
{
	Bytes		bytes;
	size_t		arrived;
	size_t		used;
	FrameReader reader;
} Side;

typedef struct Link
{
	Side		client;
	Side		origin;
	Exchange	fifo[EXCHANGES_MAX];
	int			head;
	int			count;			/* ever asked; fifo[head .. count) are in flight */
	bool		forwards;		/* the piecewise message of the client goes to the origin */
	bool		passes;			/* the piecewise answer goes to the client */
	uint32_t	asked;			/* asks noted, and how many have left */
	uint32_t	left;
	ByteBuffer	to_client;
	ByteBuffer	to_origin;
	uint32_t	violations;
} Link;

static Exchange *
tail_of(Link *l)
{
	static Exchange nothing;

	return l->head < l->count ? &l->fifo[l->count - 1] : &nothing;
}

static void
on_dropped(void *arg, const Ask *ask)
{
	(void) ask;
	((Link *) arg)->left++;
}

/* ---- the client ---- */

static uint8_t
what_of(const Frame *frame)
{
	NamedMessage m;

	return frame->last && message_read_named(frame->body, &m) ? m.what : 'P';
}

/* A Bind goes out under another name of its statement, as it does on a link. */
static void
forward(Link *l, const Frame *frame)
{
	BindMessage m;

	if (frame->type != MSG_BIND || !message_read_bind(frame->body, &m) || m.statement.len == 0)
	{
		buffer_put(&l->to_origin, frame->raw.data, frame->raw.len);
		return;
	}
	message_put_bind_head(&l->to_origin, m.portal, bytes_str("hyperpool_00000000_1"), frame->length - (frame->body.len - m.rest.len));
	buffer_put(&l->to_origin, m.rest.data, m.rest.len);
}

static Fate
note(Link *l, Exchange *x, const Frame *frame)
{
	AskFor		whose = (frame->type == MSG_PARSE || frame->type == MSG_CLOSE) && frame->length % 3 == 0 ? ASK_MADE : ASK_FOR_CLIENT;
	uint16_t	count = x->count;

	if (frame->type == MSG_FLUSH)
		return GOES_ON;
	if (frame->type == MSG_COPY_DATA)
		exchange_copy_data(x);
	else if (frame->type != MSG_SYNC || !exchange_sync_in_copy(x))
	{
		if (!exchange_add(x, exchange_kind_of(frame->type, what_of(frame)), whose, 0, 0, NULL))
			return CLIENT_ENDED;
		l->asked += x->count - count;
	}
	return GOES_ON;
}

static Fate
on_message(Link *l, const Frame *frame)
{
	AskVerdict	verdict = exchange_ask(tail_of(l), frame->type);

	l->forwards = false;
	switch (verdict)
	{
		case ASK_IGNORE:
			return GOES_ON;
		case ASK_TERMINATE:
		case ASK_REFUSE:
			return CLIENT_ENDED;
		case ASK_NEXT:
		case ASK_FORWARD:
			break;
	}
	if (l->head == l->count || verdict == ASK_NEXT)
	{
		if (l->count == EXCHANGES_MAX)
			return CLIENT_ENDED;
		exchange_init(&l->fifo[l->count]);
		l->fifo[l->count++].may_copy = frame->length % 5 > 0;
	}
	l->forwards = true;
	forward(l, frame);
	return note(l, tail_of(l), frame);
}

/* ---- the origin ---- */

static void
make_answers(Link *l)
{
	Exchange   *x = &l->fifo[l->head];
	Ask			ask;

	while (l->head < l->count)
	{
		uint16_t	before = x->count;

		if (!exchange_made(x, &ask))
			return;
		message_put_empty(&l->to_client, ask.kind == ASK_PARSE ? ANS_PARSE_COMPLETE : ANS_CLOSE_COMPLETE);
		l->left += before - x->count;
	}
}

static void
pass_error(Link *l, const Frame *frame)
{
	if (!frame->last)
	{
		l->passes = true;
		buffer_put(&l->to_client, frame->raw.data, frame->raw.len);
	}
	else if (frame->body.len % 2)
		message_put_error_renamed(&l->to_client, frame->body, bytes_str("hyperpool_00000000_1"), bytes_str("s1"));
	else
		message_put_error_as(&l->to_client, frame->body, "ERROR");
}

static bool
is_asynchronous(Link *l, const Frame *frame)
{
	Bytes		name;
	Bytes		value;

	if (frame->type != ANS_PARAMETER_STATUS && frame->type != ANS_NOTICE && frame->type != ANS_NOTIFICATION)
		return false;
	if (frame->last && frame->type == ANS_PARAMETER_STATUS)
		(void) message_read_parameter_status(frame->body, &name, &value);
	l->passes = l->head < l->count;
	if (l->passes)
		buffer_put(&l->to_client, frame->raw.data, frame->raw.len);
	return true;
}

static void
look_into(const Frame *frame)
{
	if (frame->type == ANS_ROW_DESCRIPTION)
		(void) message_row_shape(frame->body);
	if (frame->type == ANS_ERROR)
		(void) message_error_field(frame->body, 'C');
}

/* The exchange that an answer of this type is for; one that was unsure may be over by it. */
static Exchange *
head_for(Link *l, uint8_t type)
{
	uint32_t	asked = l->head < l->count ? l->fifo[l->head].count : 0;
	uint32_t	left = l->left;

	if (l->head < l->count && exchange_over_by(&l->fifo[l->head], type, on_dropped, l))
	{
		FUZZ_CHECK(l->fifo[l->head].count == 0 && exchange_done(&l->fifo[l->head]) && l->left - left == asked);
		exchange_free(&l->fifo[l->head++]);
		make_answers(l);
	}
	return l->head < l->count ? &l->fifo[l->head] : NULL;
}

static Fate
on_answer(Link *l, const Frame *frame)
{
	Exchange   *x = head_for(l, frame->type);
	uint8_t		status = frame->type == ANS_READY && frame->body.len == 1 ? frame->body.data[0] : 0;
	uint32_t	before = x ? x->count : 0;
	uint32_t	left = l->left;
	bool		answered = false;
	Ask			ask;
	AnswerVerdict verdict = x ? exchange_answered(x, frame->type, status, &ask, &answered, on_dropped, l) : ANSWER_VIOLATION;

	l->passes = false;
	look_into(frame);
	l->left += answered;
	switch (verdict)
	{
		case ANSWER_PASS:
			l->passes = true;
			buffer_put(&l->to_client, frame->raw.data, frame->raw.len);
			break;
		case ANSWER_PASS_ERROR:
			pass_error(l, frame);
			break;
		case ANSWER_SWALLOW:
			break;
		case ANSWER_VIOLATION:
			l->violations++;
			return ORIGIN_ENDED;
	}
	/* what left beside those told are Syncs and marks, read and ignored in a copy */
	FUZZ_CHECK(x->count <= before && before - x->count >= l->left - left);
	l->left += before - x->count - (l->left - left);
	make_answers(l);
	if (exchange_done(x))
	{
		FUZZ_CHECK(frame->type == ANS_READY && x->count == 0 && x->status == status);
		exchange_free(x);
		l->head++;
		make_answers(l);
	}
	return GOES_ON;
}

static Fate
on_origin_message(Link *l, const Frame *frame)
{
	if (is_asynchronous(l, frame))
		return GOES_ON;
	if (frame->type == ANS_ERROR && message_error_is_fatal(frame->body))
	{
		l->passes = false;
		return GOES_ON;
	}
	return on_answer(l, frame);
}

/* ---- both ---- */

static Fate
on_piece(Link *l, const Side *s, const Frame *frame)
{
	if (s == &l->client)
	{
		if (frame->first)
			return on_message(l, frame);
		if (l->forwards)
			buffer_put(&l->to_origin, frame->raw.data, frame->raw.len);
		return GOES_ON;
	}
	if (frame->first)
		return on_origin_message(l, frame);
	if (l->passes)
		buffer_put(&l->to_client, frame->raw.data, frame->raw.len);
	return GOES_ON;
}

static Fate
take_messages(Link *l, Side *s)
{
	Bytes		in = fuzz_copy(bytes_of(s->bytes.data + s->used, s->arrived - s->used));
	size_t		used = 0;
	Fate		fate = GOES_ON;

	while (fate == GOES_ON)
	{
		Frame		frame;
		FrameVerdict verdict = frame_next(&s->reader, bytes_of(in.data + used, in.len - used), WHOLE_MAX, &frame);

		if (verdict == FRAME_MORE)
			break;
		if (verdict == FRAME_BAD_LENGTH)
			fate = s == &l->client ? CLIENT_ENDED : ORIGIN_ENDED;
		else
		{
			used += frame.raw.len;
			fate = on_piece(l, s, &frame);
		}
	}
	s->used += used;
	FUZZ_CHECK(fate != GOES_ON || in.len - used < WHOLE_MAX);
	fuzz_free(in);
	return fate;
}

static Fate
arrive(Link *l, Side *s, size_t n)
{
	size_t		left = s->bytes.len - s->arrived;

	s->arrived += n < left ? n : left;
	return take_messages(l, s);
}

/* Whole messages, the last one perhaps with its end missing. */
static uint32_t
check_stream(const ByteBuffer *b, uint8_t side)
{
	FrameReader reader = {.side = side};
	Bytes		in = buffer_view(b);
	uint32_t	n = 0;
	Frame		frame;
	FrameVerdict verdict;

	while ((verdict = frame_next(&reader, in, BUFFER_LIMIT, &frame)) != FRAME_MORE)
	{
		FUZZ_CHECK(verdict == FRAME_WHOLE);
		in = bytes_of(in.data + frame.raw.len, in.len - frame.raw.len);
		n++;
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Link l;
	FuzzInput	in = {data, data + size};
	size_t		before = mem_used();
	uint32_t	roll = fuzz_u8(&in);
	uint8_t		cuts = fuzz_u8(&in);
	Fate		fate = GOES_ON;

	memset(&l, 0, offsetof(Link, fifo));
	memset(&l.head, 0, sizeof(Link) - offsetof(Link, head));
	l.client.bytes = fuzz_bytes(&in, fuzz_u16(&in));
	l.origin.bytes = fuzz_bytes(&in, size);
	l.client.reader.side = FRAME_FROM_CLIENT;
	l.origin.reader.side = FRAME_FROM_ORIGIN;
	while (fate == GOES_ON && l.client.arrived + l.origin.arrived < l.client.bytes.len + l.origin.bytes.len)
	{
		roll = roll * 1664525 + 1013904223;
		fate = arrive(&l, (roll >> 24 & 1) != 0 && (cuts > 7 || l.client.arrived == l.client.bytes.len) ? &l.origin : &l.client,
					  cuts % 8 == 0 ? size : 1 + (roll >> 16) % ((cuts + 1u) * 4));
		make_answers(&l);
	}
	FUZZ_REACHED("answers to one client", check_stream(&l.to_client, FRAME_FROM_ORIGIN));
	FUZZ_REACHED("messages to one origin", check_stream(&l.to_origin, FRAME_FROM_ORIGIN));
	FUZZ_REACHED("exchanges in flight", l.count - l.head);
	FUZZ_REACHED("exchanges answered", l.head);
	for (; l.head < l.count; l.head++)
	{
		exchange_drop_all(&l.fifo[l.head], on_dropped, &l);
		exchange_free(&l.fifo[l.head]);
	}
	FUZZ_CHECK(l.asked == l.left);
	buffer_free(&l.to_client);
	buffer_free(&l.to_origin);
	FUZZ_CHECK(mem_used() == before);
	return 0;
}
