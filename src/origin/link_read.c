/*
 * origin/link_read.c - what the origin says, split into messages and given to the exchanges they answer.
 *
 * One receive into a scratch area shared by all links of the worker, split into messages in place; runs of messages for one exchange go up
 * in one LINK_BYTES, uncopied. Only the start of a message whose rest has not come is kept (link->in). Every byte is hostile: a message
 * that the exchange at the head does not expect ends the link.
 */
#include "postgres.h"

#include "origin/link_internal.h"

#define SCRATCH_SIZE	(256 * 1024)
#define WHOLE_MAX		(32 * 1024) /* longer messages are handed on in pieces */

static uint8 scratch[SCRATCH_SIZE];

/* A run of bytes that go up unchanged to one exchange. */
typedef struct Run
{
	const uint8 *start;
	const uint8 *end;			/* start == end: empty */
} Run;

static void
run_deliver(LinkExchange *e, Run *run)
{
	if (run->start != run->end && e)
	{
		LinkNews	news = {.kind = LINK_BYTES, .bytes = bytes_of(run->start, run->end - run->start)};

		e->answer_bytes += news.bytes.len;
		link_tell_owner(e, &news);
	}
	run->start = run->end = NULL;
}

static void
run_extend(Run *run, Bytes raw)
{
	if (run->start == run->end)
		run->start = raw.data;
	run->end = raw.data + raw.len;
}

static void
make_answers(LinkExchange *e)
{
	static const uint8 parse_complete[] = {ANS_PARSE_COMPLETE, 0, 0, 0, 4};
	static const uint8 close_complete[] = {ANS_CLOSE_COMPLETE, 0, 0, 0, 4};
	Ask			ask;

	while (exchange_made(&e->x, &ask))
	{
		LinkNews	news = {.kind = LINK_BYTES};

		news.bytes = bytes_of(ask.kind == ASK_PARSE ? parse_complete : close_complete, 5);
		link_tell_owner(e, &news);
		if (ask.note)
			link_tell_ask(e, &ask, OUTCOME_ANSWERED);
	}
}

void
link_make_answers(LinkExchange *e)
{
	if (e->link->head == e)
		make_answers(e);
}

/* The exchange at the head is done: off the FIFO, then told, then freed. */
static void
end_head(OriginLink *link)
{
	LinkExchange *e = link->head;
	LinkNews	news = {.kind = LINK_END, .status = e->x.status};
	LinkPurpose purpose = e->purpose;
	bool		failed = e->failed;

	link_exchange_measure(e);
	if (e->vector)
		settings_note_refusal(e->vector, e->failed);
	link_take_head(link);
	if (link->head == NULL)
		link_statements_settle(link->statements);
	link->ended = e;
	link_tell_owner(e, &news);
	link->ended = NULL;
	link_exchange_free(e);
	if (link->state == LINK_BROKEN)
		return;
	if (link->state == LINK_SHARED && news.status != TX_IDLE)
	{
		/* a plain read cannot do that; whoever stands behind it would run in a stranger's transaction */
		ereport(LOG,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("origin \"%s\" ended a plain read inside a transaction", link->target.origin_name)));
		link_break(link, "08P01", "the origin ended a plain read inside a transaction");
		return;
	}
	if (link->head == NULL)
		link->cancel_due = false;
	if ((link->cancel_due && link_may_cancel(link)) || (link->abandoned && link->head))
		link_cancel(link);
	if (purpose != PURPOSE_CLIENT)
		link_own_ended(link, purpose, failed);
	else if (link->head)
		make_answers(link->head);
	if (link->state == LINK_SHARED)
		link->target.on_room(link);
	link_go_on(link);
}

static void
on_parameter(OriginLink *link, const Frame *frame, bool is_clients)
{
	LinkNews	news = {.kind = LINK_PARAMETER};
	Bytes		name,
				value;

	if (!frame->last || !message_read_parameter_status(frame->body, &name, &value))
		return;
	link_note_parameter(link, name, value);
	if (is_clients)
		link_tell_owner(link->head, &news);
}

/* Messages that belong to no ask. True: handled. */
static bool
on_asynchronous(OriginLink *link, const Frame *frame, Run *run)
{
	LinkExchange *e = link->head;
	bool		is_clients;
	bool		held;
	bool		passes;

	if (frame->type != ANS_PARAMETER_STATUS && frame->type != ANS_NOTICE && frame->type != ANS_NOTIFICATION)
		return false;
	is_clients = e && e->owner && e->purpose == PURPOSE_CLIENT;
	link->parameters_held |= is_clients && e->ready_held;
	held = link->parameters_held && frame->type == ANS_PARAMETER_STATUS;
	passes = is_clients && !held;
	if (frame->type == ANS_PARAMETER_STATUS)
		on_parameter(link, frame, is_clients);
	link->piece_passes = passes;
	if (passes)
		run_extend(run, frame->raw);
	else
	{
		run_deliver(e, run);
		if (!held && link->on_stray && link->on_stray(link->stray_owner, frame->raw))
			link->piece_passes = false;
		else if (frame->type != ANS_PARAMETER_STATUS)
			counter_add(link->target.counters, COUNT_NOTICES_DROPPED, 1);
	}
	return true;
}

/* The origin says why it is about to close: kept for whoever is told that the link is lost. */
static void
on_fatal(OriginLink *link, const Frame *frame)
{
	Bytes		code = message_error_field(frame->body, 'C');
	Bytes		text = message_error_field(frame->body, 'M');

	buffer_free(&link->last_error);
	buffer_put(&link->last_error, frame->body.data, frame->body.len);
	if (link->failure == NULL && code.len == 5)
	{
		memcpy(link->sqlstate, code.data, 5);
		link->failure = bytes_copy(text);
	}
	link->poisoned = true;
}

/* An ErrorResponse goes up by itself: its owner may have to put other names in it. */
static void
pass_error(OriginLink *link, LinkExchange *e, const Frame *frame, const Ask *ask, bool first)
{
	LinkNews	news = {.kind = LINK_ERROR, .bytes = frame->body, .ask = ask, .first = first};

	e->failed = true;
	if (e->purpose == PURPOSE_CLIENT)
		counter_add(link->target.counters, COUNT_ERRORS, 1);
	else if (e->purpose == PURPOSE_SETTINGS || e->purpose == PURPOSE_BEGIN)
		on_fatal(link, frame);
	link_tell_owner(e, &news);
}

static void
note_tag(LinkExchange *e, const Frame *frame)
{
	if (frame->last && frame->body.len > 1 && frame->body.data[0] == 'D')
	{
		LinkNews	news = {.kind = LINK_TAG, .bytes = bytes_of(frame->body.data, frame->body.len - 1)};

		link_tell_owner(e, &news);
	}
}

static void
keep_description(LinkExchange *e, const Frame *frame)
{
	if (frame->last)
		buffer_put(&e->description, frame->raw.data, frame->raw.len);
	if (!frame->last || e->description.failed)
		buffer_free(&e->description);
}

/* What a statement's rows and parameters look like. A ParameterDescription is only ever followed by the rest of its description. */
static void
note_shape(LinkExchange *e, const Frame *frame)
{
	if (frame->type == ANS_PARAMETER_DESCRIPTION)
	{
		e->describing = true;
		e->shape = (Shape) {.known = true, .digest = digest_of(frame->body)};
		buffer_free(&e->description);
	}
	else if (e->describing && (frame->type == ANS_ROW_DESCRIPTION || frame->type == ANS_NO_DATA))
	{
		Digest128	digest = frame->type == ANS_NO_DATA ? digest_of(frame->body) : message_row_shape(frame->body);

		e->describing = false;
		e->shape.rows = frame->type == ANS_NO_DATA ? 0 : digest.lo;
		e->shape.digest.lo = e->shape.digest.lo * 31 + digest.lo;
		e->shape.digest.hi = e->shape.digest.hi * 31 + digest.hi;
		if (buffer_len(&e->description) == 0)
			return;
	}
	else
		return;
	if (e->keep_description)
		keep_description(e, frame);
}

static void
tell_swallowed(LinkExchange *e, const Frame *frame)
{
	LinkNews	news = {.kind = LINK_SWALLOWED, .bytes = frame->body};

	if (e->tell_swallowed && frame->type == ANS_ROW_DESCRIPTION && frame->last)
		link_tell_owner(e, &news);
}

/* What was sent during a copy that has failed may be answered yet: see exchange_wants_mark. */
static void
wait_for_mark(OriginLink *link, LinkExchange *e)
{
	if (exchange_wants_mark(&e->x) && e->next == NULL && !link_ask_mark(link))
		link_break(link, "53200", "out of memory for a request");
}

/* Will the origin wait in vain for copy data? Not where something else was sent behind, which it refuses. */
static bool
is_without_data(const LinkExchange *e)
{
	return e->owner == NULL || e->muted || (e->ended && !e->x.copy_ended && e->x.count == 1);
}

static void
on_no_data(OriginLink *link, LinkExchange *e)
{
	LinkNews	news = {.kind = LINK_WAITS};

	if (e->owner && !e->muted)
		link_tell_owner(e, &news);
	else
		link_break(link, "08006", "its client sends no copy data");
}

/* A batch has failed: all up to its Sync is ignored, and that may stand behind what was held back. */
static void
on_skipping(LinkExchange *e, Run *run)
{
	LinkNews	news = {.kind = LINK_WAITS};

	if (!e->ended || !exchange_skips(&e->x))
		return;
	run_deliver(e, run);
	link_tell_owner(e, &news);
}

/* ---- a message that answers the exchange at the head ---- */

typedef struct Answer			/* what that exchange makes of it */
{
	const Frame *frame;
	AnswerVerdict verdict;
	uint8		status;			/* of a ReadyForQuery, else 0 */
	bool		first;			/* of its exchange */
	bool		answered;		/* all of an ask's answer has come: of this one */
	Ask			ask;			/* or it failed */
} Answer;

/* A message may show that what is at the head was over before it. False: the link is broken. */
static bool
end_unsure(OriginLink *link, const Frame *frame, Run *run)
{
	LinkExchange *e = link->head;

	if (e == NULL || !exchange_is_unsure(&e->x) || !exchange_over_by(&e->x, frame->type, link_on_dropped, e))
		return true;
	run_deliver(e, run);
	end_head(link);
	return link->state != LINK_BROKEN;
}

static Answer
judge(LinkExchange *e, const Frame *frame)
{
	Answer		a = {.frame = frame, .verdict = ANSWER_VIOLATION};

	if (frame->type == ANS_READY && frame->body.len == 1)
		a.status = frame->body.data[0];
	if (e == NULL)
		return a;
	a.first = !e->x.begun;
	a.verdict = exchange_answered(&e->x, frame->type, a.status, &a.ask, &a.answered, link_on_dropped, e);
	return a;
}

static void
break_by(OriginLink *link, const Frame *frame)
{
	ereport(LOG,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("origin \"%s\" sent an unexpected message of type 0x%02X", link->target.origin_name, frame->type)));
	link_break(link, "08P01", "the origin sent an unexpected message");
}

static void
pass(OriginLink *link, LinkExchange *e, const Frame *frame, Run *run)
{
	/* of several ReadyForQuery the last is the end */
	link->piece_passes = frame->type != ANS_READY || !e->ready_held || !exchange_done(&e->x);
	if (link->piece_passes)
		run_extend(run, frame->raw);
	else
		link->parameters_held = true;
	if (frame->type == ANS_PARAMETER_DESCRIPTION || e->describing)
		note_shape(e, frame);
}

static void
swallow(LinkExchange *e, const Frame *frame, Run *run)
{
	run_deliver(e, run);
	if (!e->describing)
		tell_swallowed(e, frame);
	note_shape(e, frame);
}

/* One that is too long to be had whole passes as it is. */
static void
take_error(OriginLink *link, LinkExchange *e, const Answer *a, Run *run)
{
	if (a->frame->last)
	{
		run_deliver(e, run);
		pass_error(link, e, a->frame, &a->ask, a->first);
	}
	else
	{
		link->piece_passes = true;
		run_extend(run, a->frame->raw);
		e->failed = true;
	}
	if (a->answered)
		link_not_fulfilled(e, &a->ask, OUTCOME_FAILED);
}

/* Its bytes go where they belong. False: the link is broken. */
static bool
hand_on(OriginLink *link, LinkExchange *e, const Answer *a, Run *run)
{
	link->piece_passes = false;
	switch (a->verdict)
	{
		case ANSWER_PASS:
			pass(link, e, a->frame, run);
			return true;
		case ANSWER_SWALLOW:
			swallow(e, a->frame, run);
			return true;
		case ANSWER_PASS_ERROR:
			take_error(link, e, a, run);
			return true;
		case ANSWER_VIOLATION:
			break;
	}
	run_deliver(e, run);
	break_by(link, a->frame);
	return false;
}

/* Who has asked is told what came of it, and made answers follow behind. */
static void
tell_answered(LinkExchange *e, const Answer *a, Run *run)
{
	bool		well = a->verdict != ANSWER_PASS_ERROR;

	if (!a->answered)
		return;
	if (well && a->ask.kind == ASK_PARSE)
		link_ride_parsed(e->link, a->ask.number, true);
	if (well && a->ask.note)
		link_tell_ask(e, &a->ask, OUTCOME_ANSWERED);
	if (e->x.count > 0)
	{
		run_deliver(e, run);
		make_answers(e);
	}
}

static void
settle_head(OriginLink *link, LinkExchange *e, uint8 type, Run *run)
{
	if (e->purpose == PURPOSE_BEGIN)
		exchange_end_without_sync(&e->x);
	if (exchange_done(&e->x))
	{
		run_deliver(e, run);
		end_head(link);
	}
	else if (type == ANS_READY)
		wait_for_mark(link, e);
	else if (type == ANS_ERROR)
		on_skipping(e, run);
}

/* One message, or its first piece. False: the link is broken. */
static bool
on_answer(OriginLink *link, const Frame *frame, Run *run)
{
	LinkExchange *e;
	Answer		a;

	if (!end_unsure(link, frame, run))
		return false;
	e = link->head;
	a = judge(e, frame);
	if (!hand_on(link, e, &a, run))
		return false;
	/* what was sent before a BEGIN ends outside its transaction */
	if (frame->type == ANS_READY && !link->beginning)
		link->status = a.status;
	if (frame->type == ANS_COPY_IN && is_without_data(e))
	{
		run_deliver(e, run);
		on_no_data(link, e);
		if (link->state == LINK_BROKEN)
			return false;
	}
	if (frame->type == ANS_COMMAND_COMPLETE)
		note_tag(e, frame);
	tell_answered(e, &a, run);
	settle_head(link, e, frame->type, run);
	return link->state != LINK_BROKEN;
}

static bool
on_frame(OriginLink *link, const Frame *frame, Run *run)
{
	if (!frame->first)
	{
		if (link->piece_passes)
			run_extend(run, frame->raw);
		return true;
	}
	if (on_asynchronous(link, frame, run))
		return link->state != LINK_BROKEN;
	if (frame->type == ANS_ERROR && (link->head == NULL || message_error_is_fatal(frame->body)))
	{
		link->piece_passes = false;
		on_fatal(link, frame);
		return true;
	}
	return on_answer(link, frame, run);
}

/* Splits what is in hand; returns how much was used up. */
static size_t
take_messages(OriginLink *link, Bytes in)
{
	size_t		used = 0;
	Run			run = {NULL, NULL};

	for (;;)
	{
		Frame		frame;
		FrameVerdict verdict = frame_next(&link->reader, bytes_of(in.data + used, in.len - used), WHOLE_MAX, &frame);

		if (verdict == FRAME_MORE)
			break;
		if (verdict == FRAME_BAD_LENGTH)
		{
			run_deliver(link->head, &run);
			link_break(link, "08P01", "the origin sent a message with an impossible length");
			return in.len;
		}
		used += frame.raw.len;
		if (!on_frame(link, &frame, &run))
			return in.len;
	}
	run_deliver(link->head, &run);
	return used;
}

/* Handles `n` fresh bytes that lie in scratch behind the `kept` ones. False: broken. */
static bool
on_bytes(OriginLink *link, size_t kept, size_t n)
{
	size_t		total = kept + n;
	size_t		used;

	counter_add(link->target.counters, COUNT_BYTES_FROM_ORIGIN, n);
	used = take_messages(link, bytes_of(scratch, total));
	if (link->state == LINK_BROKEN)
		return false;
	if (used < total)
		buffer_put(&link->in, scratch + used, total - used);
	if (link->in.failed)
	{
		link_break(link, "53200", "out of memory for an answer");
		return false;
	}
	return true;
}

static void
link_read(OriginLink *link)
{
	int			rounds = 4;		/* then others have their turn */

	do
	{
		Bytes		start = buffer_view(&link->in);
		size_t		kept = start.len;
		ssize_t		n;

		Assert(kept <= WHOLE_MAX + 5);
		if (kept > 0)
		{
			memcpy(scratch, start.data, kept);
			buffer_consume(&link->in, kept);
		}
		n = transport_read(&link->transport, scratch + kept, SCRATCH_SIZE - kept);
		if (n == TRANSPORT_AGAIN)
		{
			buffer_put(&link->in, scratch, kept);
			break;
		}
		if (n <= 0)
		{
			link_break(link, "08006", n == 0 ? "the origin closed the connection" : "the connection to the origin was lost");
			return;
		}
		if (!on_bytes(link, kept, n))
			return;
		if (n < SCRATCH_SIZE / 4 && !transport_pending(&link->transport))
			break;
	} while (--rounds > 0 && !link->held && link->state != LINK_BROKEN);
	if (link->state == LINK_BROKEN)
		return;
	buffer_trim(&link->in);
	/* decrypted bytes wait that no poll will tell of */
	if (!link->held && transport_pending(&link->transport))
		reactor_at_end(link_reactor, &link->flush_task, REACTOR_LINKS);
	link_watch(link);
}

static void
on_ready(OriginLink *link, int events)
{
	if (link->state == LINK_CONNECTING)
	{
		link_connect_step(link);
		return;
	}
	if (events & REACTOR_WRITE)
	{
		link_flush_now(&link->flush_task);
		if (link->state == LINK_BROKEN)
			return;
	}
	if ((events & REACTOR_READ) && !link->held)
		link_read(link);
}

void
link_on_ready(ReactorSource *source, int events)
{
	OriginLink *outer = link_reading;

	link_reading = (OriginLink *) source;
	on_ready(link_reading, events);
	link_reading = outer;
}
