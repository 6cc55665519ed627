/*
 * client/reply.c - the answer: replay an entry, or record one.
 *
 * Recording looks at the messages on their way to the client and keeps a few kinds of them. Everything it does not expect makes it give up: what is
 * not understood is not kept.
 */
#include "postgres.h"

#include "client/reply.h"

#define PIECE_MAX	(32 * 1024)

/* ---- recording ---- */

void
recording_begin(Recording *r, const StoreFill *fill, bool extended, bool limited, uint64 max_len)
{
	memset(r, 0, sizeof(*r));
	r->fill = *fill;
	r->fill.max_len = max_len;
	r->extended = extended;
	r->bound = !extended;
	r->limited = limited;
	r->reader.side = FRAME_FROM_ORIGIN;
}

void
recording_abort(int worker, Recording *r)
{
	if (recording_on(r))
		store_abort(worker, &r->fill);
	memset(&r->fill, 0, sizeof(r->fill));
}

static void
keep(int worker, Recording *r, Bytes bytes)
{
	if (recording_on(r) && !store_append(worker, &r->fill, bytes))
	{
		r->large = true;
		memset(&r->fill, 0, sizeof(r->fill));
	}
}

/* The first piece of a message. */
static void
on_message(int worker, Recording *r, const Frame *frame)
{
	r->kept = false;
	switch (frame->type)
	{
		case ANS_BIND_COMPLETE:
			r->bound = true;
			return;
		case ANS_PARSE_COMPLETE:
		case ANS_CLOSE_COMPLETE:
		case ANS_PARAMETER_DESCRIPTION:
		case ANS_READY:
			return;
		case ANS_ROW_DESCRIPTION:
			if (!r->bound)
				return;			/* of the statement, not of this portal */
			if (!frame->last || r->head_len != 0 || r->fill.len != 0)
				break;
			r->head_len = frame->raw.len;
			r->shape = message_row_shape(frame->body).lo;
			r->kept = true;
			break;
		case ANS_DATA_ROW:
			r->kept = r->head_len != 0 && !r->complete;
			break;
		case ANS_COMMAND_COMPLETE:
		case ANS_PORTAL_SUSPENDED:
			r->kept = r->head_len != 0 && !r->complete && (frame->type == ANS_COMMAND_COMPLETE || r->limited);
			r->complete = true;
			break;
		default:
			break;
	}
	if (r->kept)
		keep(worker, r, frame->raw);
	else
		recording_abort(worker, r);
}

void
recording_feed(int worker, Recording *r, Bytes run)
{
	size_t		used = 0;

	while (recording_on(r) && used < run.len)
	{
		Frame		frame;
		FrameVerdict verdict = frame_next(&r->reader, bytes_of(run.data + used, run.len - used), PIECE_MAX, &frame);

		if (verdict == FRAME_MORE || verdict == FRAME_BAD_LENGTH)
		{
			recording_abort(worker, r);
			return;
		}
		used += frame.raw.len;
		if (frame.first)
			on_message(worker, r, &frame);
		else if (r->kept)
			keep(worker, r, frame.raw);
	}
}

void
recording_head(int worker, Recording *r, Bytes body)
{
	uint8		head[5] = {ANS_ROW_DESCRIPTION};

	if (!recording_on(r))
		return;
	if (r->head_len != 0 || r->fill.len != 0)
	{
		recording_abort(worker, r);
		return;
	}
	set_u32(head + 1, (uint32) body.len + 4);
	r->head_len = body.len + sizeof(head);
	r->shape = message_row_shape(body).lo;
	keep(worker, r, bytes_of(head, sizeof(head)));
	keep(worker, r, body);
}

bool
recording_end(int worker, Recording *r, bool well, uint32 cost, int64 born)
{
	bool		whole = recording_on(r) && well && r->complete && r->head_len != 0;

	if (whole)
	{
		store_commit(worker, &r->fill, r->head_len, r->shape, cost, born);
		memset(&r->fill, 0, sizeof(r->fill));
	}
	else
		recording_abort(worker, r);
	return whole;
}

/* ---- replaying ---- */

bool
reply_put(StoreHit *hit, bool with_head, uint32 *skipped, ByteBuffer *out, size_t limit)
{
	while (buffer_len(out) < limit)
	{
		Bytes		piece = store_next(hit);

		if (piece.len == 0)
			return true;
		if (!with_head && *skipped < hit->head_len)
		{
			size_t		skip = Min(piece.len, (size_t) (hit->head_len - *skipped));

			*skipped += skip;
			piece = bytes_of(piece.data + skip, piece.len - skip);
		}
		buffer_put(out, piece.data, piece.len);
	}
	return hit->left == 0;
}
