/*
 * core/exchange.c - what is asked and not yet answered?
 *
 * The ring holds the asks in the order in which the origin will answer them. An answer looks only
 * at the oldest ask. Two kinds of ask are never answered by bytes: ASK_MADE ones (the gateway makes the
 * answer) and ASK_COPY_END (a mark: here the client ended its copy data).
 */
#include "core/exchange.h"

#define INLINE_ASKS	(sizeof(((Exchange *) 0)->inline_ring) / sizeof(Ask))

void
exchange_init(Exchange *x)
{
	memset(x, 0, offsetof(Exchange, inline_ring));
}

void
exchange_free(Exchange *x)
{
	if (x->ring)
		mem_free(x->ring, x->size * sizeof(Ask));
	x->ring = NULL;
	x->size = 0;
	x->count = 0;
}

/* ---- the ring ---- */

static uint32_t
ring_size(const Exchange *x)
{
	return x->ring ? x->size : INLINE_ASKS;
}

static Ask *
ask_at(const Exchange *x, uint32_t i)
{
	Ask		   *ring = x->ring ? x->ring : (Ask *) x->inline_ring;
	uint32_t	place = x->head + i;

	if (place >= ring_size(x))
		place -= ring_size(x);
	return &ring[place];
}

static bool
ring_grow(Exchange *x)
{
	uint32_t	size = ring_size(x) * 2;
	Ask		   *ring;

	if (x->count >= EXCHANGE_MAX_ASKS)
		return false;
	if (size > EXCHANGE_MAX_ASKS)
		size = EXCHANGE_MAX_ASKS;
	ring = mem_alloc(size * sizeof(Ask));
	if (ring == NULL)
		return false;
	for (uint32_t i = 0; i < x->count; i++)
		ring[i] = *ask_at(x, i);
	if (x->ring)
		mem_free(x->ring, x->size * sizeof(Ask));
	x->ring = ring;
	x->size = size;
	x->head = 0;
	return true;
}

static void
ring_pop(Exchange *x)
{
	if (++x->head >= ring_size(x))
		x->head = 0;
	x->count--;
}

/* Removes the asks [from, to), keeping the order of the rest. */
static void
ring_remove(Exchange *x, uint32_t from, uint32_t to)
{
	for (uint32_t i = to; i < x->count; i++)
		*ask_at(x, from + i - to) = *ask_at(x, i);
	x->count -= to - from;
}

/* The place of the first ask of this kind that has at least `from` before it, or count. */
static uint32_t
ring_find_from(const Exchange *x, uint32_t from, AskKind kind)
{
	uint32_t	i;

	for (i = from; i < x->count; i++)
		if (ask_at(x, i)->kind == kind)
			break;
	return i;
}

static uint32_t
ring_find(const Exchange *x, AskKind kind)
{
	return ring_find_from(x, 0, kind);
}

/* Marks of ended copies mean nothing once no copy is going on. */
static void
ring_settle(Exchange *x)
{
	while (x->count > 0 && !x->copy_in && ask_at(x, 0)->kind == ASK_COPY_END)
		ring_pop(x);
}

static bool
may_copy(const Exchange *x)
{
	return x->copy_in || (x->may_copy && (ring_find(x, ASK_EXECUTE) < x->count || ring_find(x, ASK_QUERY) < x->count));
}

/* ---- the client's side ---- */

/* What a type is to the table below. */
typedef enum MessageClass
{
	CLASS_QUERY,				/* Query, FunctionCall */
	CLASS_EXTENDED,				/* Parse, Bind, Describe, Execute, Close */
	CLASS_FLUSH,
	CLASS_SYNC,
	CLASS_COPY,					/* CopyData, CopyDone, CopyFail */
	CLASS_TERMINATE,
	CLASS_NONE,
	CLASS_COUNT
} MessageClass;

typedef enum Situation
{
	IN_NOTHING,					/* no exchange, or the last is done */
	IN_BATCH,					/* extended messages without Sync */
	IN_BATCH_BEHIND_QUERY,		/* the same behind a Query that decides what names mean: the batch ends with it */
	IN_SKIP,					/* the same after an error: the origin ignores all up to Sync */
	IN_FAILED_COPY,				/* a batch whose copy has failed, and a Sync was sent behind the last data */
	IN_COPY,					/* the origin waits for copy data */
	IN_COPY_OF_BATCH,			/* the same, asked for by extended messages without Sync */
	IN_FLIGHT,					/* all is asked, not all answered */
	SITUATION_COUNT
} Situation;

/* PostgresMain and CopyGetData as a table. */
static const uint8_t verdicts[SITUATION_COUNT][CLASS_COUNT] = {
	[IN_NOTHING] = {ASK_FORWARD, ASK_FORWARD, ASK_IGNORE, ASK_FORWARD, ASK_IGNORE, ASK_TERMINATE, ASK_REFUSE},
	[IN_BATCH] = {ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_TERMINATE, ASK_REFUSE},
	[IN_BATCH_BEHIND_QUERY] = {ASK_NEXT, ASK_NEXT, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_TERMINATE, ASK_REFUSE},
	[IN_SKIP] = {ASK_IGNORE, ASK_IGNORE, ASK_IGNORE, ASK_FORWARD, ASK_IGNORE, ASK_TERMINATE, ASK_REFUSE},
	[IN_FAILED_COPY] = {ASK_NEXT, ASK_NEXT, ASK_IGNORE, ASK_FORWARD, ASK_IGNORE, ASK_TERMINATE, ASK_REFUSE},
	[IN_COPY] = {ASK_NEXT, ASK_NEXT, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_TERMINATE, ASK_REFUSE},
	[IN_COPY_OF_BATCH] = {ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_FORWARD, ASK_TERMINATE, ASK_REFUSE},
	[IN_FLIGHT] = {ASK_NEXT, ASK_NEXT, ASK_IGNORE, ASK_NEXT, ASK_FORWARD, ASK_TERMINATE, ASK_REFUSE},
};

static MessageClass
class_of(uint8_t type)
{
	switch (type)
	{
		case MSG_QUERY:
		case MSG_FUNCTION_CALL:
			return CLASS_QUERY;
		case MSG_PARSE:
		case MSG_BIND:
		case MSG_DESCRIBE:
		case MSG_EXECUTE:
		case MSG_CLOSE:
			return CLASS_EXTENDED;
		case MSG_FLUSH:
			return CLASS_FLUSH;
		case MSG_SYNC:
			return CLASS_SYNC;
		case MSG_COPY_DATA:
		case MSG_COPY_DONE:
		case MSG_COPY_FAIL:
			return CLASS_COPY;
		case MSG_TERMINATE:
			return CLASS_TERMINATE;
		default:
			return CLASS_NONE;
	}
}

static Situation
situation_of(const Exchange *x)
{
	if (exchange_copies(x))
		return x->phase == EXCHANGE_OPEN && !x->sync_behind ? IN_COPY_OF_BATCH : IN_COPY;
	switch ((ExchangePhase) x->phase)
	{
		case EXCHANGE_EMPTY:
		case EXCHANGE_DONE:
			return IN_NOTHING;
		case EXCHANGE_OPEN:
			if (x->unsure > 0 && x->sync_behind && !x->copy_in)
				return IN_FAILED_COPY;
			/* a Sync that was sent during a copy may have ended what is skipped */
			if (exchange_skips(x))
				return IN_SKIP;
			return x->names_unsure ? IN_BATCH_BEHIND_QUERY : IN_BATCH;
		case EXCHANGE_CLOSED:
			return IN_FLIGHT;
	}
	return IN_NOTHING;
}

AskVerdict
exchange_ask(const Exchange *x, uint8_t type)
{
	MessageClass class = class_of(type);
	Situation	situation = situation_of(x);

	/* copy data outside a copy is read and dropped by the origin; send it only where a copy may begin */
	if (class == CLASS_COPY && situation != IN_COPY && !may_copy(x))
		return ASK_IGNORE;
	/* what is asked may turn out to be a copy, and this Sync one that is read and ignored there: only x can tell */
	if (class == CLASS_SYNC && situation == IN_FLIGHT && may_copy(x))
		return ASK_FORWARD;
	return (AskVerdict) verdicts[situation][class];
}

bool
exchange_add(Exchange *x, AskKind kind, AskFor whose, uint16_t flags, uint32_t number, void *note)
{
	Ask		   *ask;

	if (kind == ASK_COPY_END)
		x->sync_behind = false;
	/* no mark where the copy is known and nothing else stands behind it, nor where none can begin (the origin drops the message) */
	if (kind == ASK_COPY_END && ((exchange_copies(x) && x->count == 1) || !may_copy(x)))
	{
		x->copy_ended = x->copy_in;
		return true;
	}
	if (x->count >= ring_size(x) && !ring_grow(x))
		return false;
	ask = ask_at(x, x->count++);
	ask->kind = kind;
	ask->whose = whose;
	ask->flags = flags;
	ask->number = number;
	ask->note = note;
	if (x->doubtful == 0 && kind != ASK_SYNC && kind != ASK_COPY_END && (x->unsure > 0 || x->reopened))
		x->doubtful = kind + 1;

	switch (kind)
	{
		case ASK_SYNC:
			x->phase = EXCHANGE_CLOSED;
			break;
		case ASK_QUERY:
		case ASK_FUNCTION_CALL:
			if (x->phase == EXCHANGE_EMPTY)
				x->phase = EXCHANGE_CLOSED;
			break;
		case ASK_COPY_END:
			exchange_copy_data(x);
			break;
		default:
			x->phase = EXCHANGE_OPEN;
			x->extended = true;
			break;
	}
	return true;
}

void
exchange_copy_data(Exchange *x)
{
	uint32_t	copying = x->copy_in ? 1 : 0;	/* nothing is gained by data for a copy that others have been asked behind */

	x->sync_behind = false;
	if (x->phase != EXCHANGE_CLOSED || ring_find_from(x, copying, ASK_EXECUTE) >= x->count)
		return;
	x->phase = EXCHANGE_OPEN;
	x->reopened = true;
}

/* Whatever was asked behind the copy, but data, ends it in one way or another before this. */
bool
exchange_sync_in_copy(Exchange *x)
{
	if (!exchange_copies(x) || x->count != 1)
		return false;
	x->unsure++;
	x->sync_behind = true;
	return true;
}

AskKind
exchange_kind_of(uint8_t type, uint8_t what)
{
	switch (type)
	{
		case MSG_PARSE:
			return ASK_PARSE;
		case MSG_BIND:
			return ASK_BIND;
		case MSG_DESCRIBE:
			return what == 'S' ? ASK_DESCRIBE_STATEMENT : ASK_DESCRIBE_PORTAL;
		case MSG_EXECUTE:
			return ASK_EXECUTE;
		case MSG_CLOSE:
			return ASK_CLOSE;
		case MSG_SYNC:
			return ASK_SYNC;
		case MSG_FUNCTION_CALL:
			return ASK_FUNCTION_CALL;
		case MSG_COPY_DONE:
		case MSG_COPY_FAIL:
			return ASK_COPY_END;
		default:
			return ASK_QUERY;
	}
}

/* ---- the origin's side ---- */

/* The ask at the head is answered in full. */
static AnswerVerdict
complete(Exchange *x, Ask *out, bool *answered)
{
	*out = *ask_at(x, 0);
	*answered = true;
	ring_pop(x);
	ring_settle(x);
	return out->whose == ASK_FOR_CLIENT ? ANSWER_PASS : ANSWER_SWALLOW;
}

/* A part of the answer to the head. */
static AnswerVerdict
part(const Exchange *x)
{
	return ask_at(x, 0)->whose == ASK_FOR_CLIENT ? ANSWER_PASS : ANSWER_SWALLOW;
}

static bool
status_is_known(uint8_t status)
{
	return status == TX_IDLE || status == TX_OPEN || status == TX_FAILED;
}

/* Nothing that is certain is owed any more. */
static void
ring_is_empty(Exchange *x)
{
	x->phase = x->unsure > 0 ? EXCHANGE_CLOSED : EXCHANGE_DONE;
}

/* Drops the asks [0, n), newest first; those before `told_from` without telling. */
static void
drop_front(Exchange *x, uint32_t told_from, uint32_t n, void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	for (uint32_t i = n; i-- > told_from;)
		dropped(arg, ask_at(x, i));
	ring_remove(x, 0, n);
}

/* ---- a copy that has failed ---- */

/* This ReadyForQuery answers a Sync that was sent during the copy, which nothing in the ring stands for. Or the one that ends what was asked behind that. */
static bool
is_ready_after_copy(const Exchange *x)
{
	if (x->unsure == 0)
		return false;
	if (x->count == 0)
		return x->skipping || exchange_is_unsure(x);
	return x->copy_failed && ask_at(x, 0)->kind != ASK_SYNC;
}

static AnswerVerdict
on_ready_after_copy(Exchange *x, uint8_t status)
{
	if (!status_is_known(status))
		return ANSWER_VIOLATION;
	/* without a Sync behind them they cannot have been skipped: the batch goes on */
	x->in_doubt |= x->skipping && ring_find(x, ASK_SYNC) < x->count;
	x->unsure--;
	x->readies++;
	x->skipping = false;
	x->status = status;
	if (x->count == 0)
		ring_is_empty(x);
	return ANSWER_PASS;
}

static void
copy_is_over(Exchange *x)
{
	x->unsure = 0;
	x->copy_failed = x->in_doubt = false;
}

/* More Syncs have been answered than were sent during the copy. So what was in doubt has been skipped, and these are the Syncs behind it. */
static void
skip_doubtful(Exchange *x, void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	drop_front(x, 0, ring_find(x, ASK_SYNC), dropped, arg);
	for (; x->readies > 0 && x->count > 0 && ask_at(x, 0)->kind == ASK_SYNC; x->readies--)
		ring_pop(x);
	x->in_doubt = false;
}

bool
exchange_over_by(Exchange *x, uint8_t type, void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	if (!exchange_is_unsure(x) || type == ANS_READY || (x->in_doubt && type != exchange_mark(x)))
		return false;
	drop_front(x, 0, x->count, dropped, arg);
	copy_is_over(x);
	x->phase = EXCHANGE_DONE;
	return true;
}

static AnswerVerdict
on_ready_for_query(Exchange *x, uint8_t status, Ask *out, bool *answered)
{
	AskKind		kind = ask_at(x, 0)->kind;
	AnswerVerdict verdict;

	if (kind != ASK_SYNC && kind != ASK_QUERY && kind != ASK_FUNCTION_CALL)
		return ANSWER_VIOLATION;
	if (x->copy_in || !status_is_known(status))
		return ANSWER_VIOLATION;
	x->skipping = false;
	x->status = status;
	x->copy_failed = kind == ASK_QUERY && x->unsure > 0;
	verdict = complete(x, out, answered);
	if (x->count == 0)
		ring_is_empty(x);
	return verdict;
}

static AnswerVerdict
on_error(Exchange *x, Ask *out, bool *answered, void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	AskKind		kind = ask_at(x, 0)->kind;

	*out = *ask_at(x, 0);
	x->copy_failed = x->copy_in && x->unsure > 0 && kind == ASK_EXECUTE;
	x->readies = 0;
	x->copy_in = false;
	if (kind == ASK_QUERY || kind == ASK_FUNCTION_CALL || kind == ASK_SYNC)
		return out->whose == ASK_MADE ? ANSWER_VIOLATION : ANSWER_PASS_ERROR;

	/* extended: the origin ignores what follows, up to the Sync, which may be one that was sent during the copy */
	*answered = true;
	drop_front(x, 1, x->copy_failed ? 1 : ring_find(x, ASK_SYNC), dropped, arg);
	if (x->count == 0 || x->copy_failed)
		x->skipping = true;
	return ANSWER_PASS_ERROR;
}

/*
 * Removes the Syncs behind which there was only data: the origin reads and ignores them. Unless the copy fails before it has read them:
 * then it answers them, and nobody can tell from outside. What else was asked stands behind the end of the copy, well or not.
 */
static void
remove_syncs(Exchange *x)
{
	uint32_t	end = 1;

	while (end < x->count && ask_at(x, end)->kind == ASK_SYNC)
		end++;
	if (end == 1)
		return;
	ring_remove(x, 1, end);
	x->unsure += end - 1;
	/* a Query ends itself; anything else needs a Sync that is read after the copy */
	if (ring_find(x, ASK_SYNC) >= x->count)
		x->phase = x->count == 1 && ask_at(x, 0)->kind == ASK_QUERY ? EXCHANGE_CLOSED : EXCHANGE_OPEN;
}

/* The origin waits for data. */
static AnswerVerdict
on_copy_in(Exchange *x)
{
	if (x->copy_in)
		return ANSWER_VIOLATION;
	x->copy_in = true;
	remove_syncs(x);
	x->copy_ended = x->count > 1 && ask_at(x, 1)->kind == ASK_COPY_END;
	if (x->copy_ended)
		ring_remove(x, 1, 2);
	return part(x);
}

static AnswerVerdict
on_command_complete(Exchange *x, Ask *out, bool *answered)
{
	AskKind		kind = ask_at(x, 0)->kind;

	/* the copy ended well, so a Sync sent during it was read and ignored there */
	x->copy_in = false;
	copy_is_over(x);
	if (kind == ASK_QUERY)
		return part(x);
	return kind == ASK_EXECUTE ? complete(x, out, answered) : ANSWER_VIOLATION;
}

/* An answer that completes exactly asks of this kind. */
static AnswerVerdict
only_for(Exchange *x, AskKind kind, Ask *out, bool *answered)
{
	return ask_at(x, 0)->kind == kind ? complete(x, out, answered) : ANSWER_VIOLATION;
}

static AnswerVerdict
on_description(Exchange *x, uint8_t type, Ask *out, bool *answered)
{
	switch ((AskKind) ask_at(x, 0)->kind)
	{
		case ASK_DESCRIBE_STATEMENT:
			if (type == ANS_PARAMETER_DESCRIPTION)
				return part(x);
			return complete(x, out, answered);
		case ASK_DESCRIBE_PORTAL:
			return type == ANS_PARAMETER_DESCRIPTION ? ANSWER_VIOLATION : complete(x, out, answered);
		case ASK_QUERY:
			return type == ANS_ROW_DESCRIPTION ? part(x) : ANSWER_VIOLATION;
		default:
			return ANSWER_VIOLATION;
	}
}

/* Answers that belong to something being executed. */
static AnswerVerdict
on_execution(Exchange *x, uint8_t type)
{
	AskKind		kind = ask_at(x, 0)->kind;

	if (kind != ASK_EXECUTE && kind != ASK_QUERY)
		return ANSWER_VIOLATION;
	return type == ANS_COPY_IN ? on_copy_in(x) : part(x);
}

static AnswerVerdict
answered_at_head(Exchange *x, uint8_t type, uint8_t status, Ask *out, bool *answered,
				 void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	switch (type)
	{
		case ANS_DATA_ROW:
		case ANS_COPY_IN:
		case ANS_COPY_OUT:
		case MSG_COPY_DATA:
		case MSG_COPY_DONE:
			return on_execution(x, type);
		case ANS_COMMAND_COMPLETE:
			return on_command_complete(x, out, answered);
		case ANS_READY:
			return on_ready_for_query(x, status, out, answered);
		case ANS_ERROR:
			return on_error(x, out, answered, dropped, arg);
		case ANS_PARSE_COMPLETE:
			return only_for(x, ASK_PARSE, out, answered);
		case ANS_BIND_COMPLETE:
			return only_for(x, ASK_BIND, out, answered);
		case ANS_CLOSE_COMPLETE:
			return only_for(x, ASK_CLOSE, out, answered);
		case ANS_PORTAL_SUSPENDED:
			return only_for(x, ASK_EXECUTE, out, answered);
		case ANS_EMPTY_QUERY:
			return ask_at(x, 0)->kind == ASK_QUERY ? part(x) : only_for(x, ASK_EXECUTE, out, answered);
		case ANS_PARAMETER_DESCRIPTION:
		case ANS_ROW_DESCRIPTION:
		case ANS_NO_DATA:
			return on_description(x, type, out, answered);
		case ANS_FUNCTION_RESULT:
			return ask_at(x, 0)->kind == ASK_FUNCTION_CALL ? part(x) : ANSWER_VIOLATION;
		default:
			return ANSWER_VIOLATION;
	}
}

AnswerVerdict
exchange_answered(Exchange *x, uint8_t type, uint8_t status, Ask *out, bool *answered,
				  void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	AnswerVerdict verdict;

	*answered = false;
	if (type == ANS_READY && is_ready_after_copy(x))
		return on_ready_after_copy(x, status);
	if (type == ANS_READY && x->in_doubt)
		skip_doubtful(x, dropped, arg);
	if (x->copy_failed && type != ANS_READY && !x->skipping)
		copy_is_over(x);		/* it is for what was in doubt */
	if (x->count == 0 || ask_at(x, 0)->whose == ASK_MADE)
		return ANSWER_VIOLATION;
	verdict = answered_at_head(x, type, status, out, answered, dropped, arg);
	if (verdict == ANSWER_PASS || verdict == ANSWER_PASS_ERROR)
		x->begun = true;
	return verdict;
}

bool
exchange_made(Exchange *x, Ask *out)
{
	if (x->count == 0 || ask_at(x, 0)->whose != ASK_MADE || x->copy_failed)
		return false;
	*out = *ask_at(x, 0);
	ring_pop(x);
	ring_settle(x);
	x->begun = true;
	return true;
}

const Ask *
exchange_pending(const Exchange *x, uint32_t i)
{
	return i < x->count ? ask_at(x, i) : NULL;
}

void
exchange_drop_all(Exchange *x, void (*dropped) (void *arg, const Ask *ask), void *arg)
{
	drop_front(x, 0, x->count, dropped, arg);
}
