/*
 * core/exchange.h - what is asked and not yet answered?                          floor 3
 *
 * An exchange is one request and its complete answer: a simple Query up to its
 * ReadyForQuery, or extended messages up to their Sync's ReadyForQuery. This room tracks
 * one: a ring of asks (what the origin still owes), whether the origin is
 * skipping to Sync, copying, done. Each answer takes its ask off the ring, so
 * that answers can be passed on, swallowed (asks of ours) or made (asks that were
 * never sent), always in order.
 *
 * Sources: PostgreSQL documentation "Message Flow"; PostgresMain's ignore_till_sync;
 * CopyGetData's treatment of Flush and Sync.
 * Never: sends, allocates beyond its ring, knows a session or link.
 */
#ifndef HYPERPOOL_CORE_EXCHANGE_H
#define HYPERPOOL_CORE_EXCHANGE_H

#include "core/bytes.h"
#include "core/message.h"
#include "core/statement.h"

/* What was asked. */
typedef enum AskKind
{
	ASK_QUERY, ASK_PARSE, ASK_BIND, ASK_DESCRIBE_STATEMENT, ASK_DESCRIBE_PORTAL, ASK_EXECUTE, ASK_CLOSE,
	ASK_SYNC, ASK_FUNCTION_CALL, ASK_COPY_END
} AskKind;

/* Who sees the answer. */
typedef enum AskFor
{
	ASK_FOR_CLIENT,				/* sent; the answer is passed on */
	ASK_FOR_US,					/* sent by the gateway in between (a replayed Parse); a good answer is swallowed */
	ASK_MADE					/* never sent; the answer is made by the gateway when its turn comes */
} AskFor;

typedef struct Ask
{
	uint8_t		kind;			/* AskKind */
	uint8_t		whose;			/* AskFor */
	uint16_t	flags;			/* the owner's */
	uint32_t	number;			/* link statement number, or 0 */
	void	   *note;			/* the owner's: what to do or undo when it is answered or dropped */
} Ask;

typedef enum ExchangePhase
{
	EXCHANGE_EMPTY,				/* nothing asked yet */
	EXCHANGE_OPEN,				/* extended messages without their Sync yet */
	EXCHANGE_CLOSED,			/* all is asked (Query, FunctionCall, Sync) */
	EXCHANGE_DONE				/* its last ReadyForQuery came */
} ExchangePhase;

typedef struct Exchange
{
	uint8_t		phase;			/* ExchangePhase */
	uint8_t		status;			/* transaction status of its last ReadyForQuery, or 0 */
	bool		skipping;		/* an error was answered; the origin ignores all up to Sync */
	bool		extended;		/* holds an extended message */
	bool		copy_in;		/* the origin waits for copy data */
	bool		copy_ended;		/* the client has sent CopyDone/CopyFail for the copy at the head */
	bool		begun;			/* any byte of answer for the client has come */
	bool		names_unsure;	/* the owner's word: a Query among its asks decides which statements have a name behind it */
	bool		may_copy;		/* the owner's word: what is asked in it may turn out to be a COPY FROM STDIN */
	bool		sync_behind;	/* the last that was sent during a COPY is a Sync: if that fails it was by what stands before, so probably it ends the batch */
	bool		reopened;		/* data was sent behind a Sync, which may be one that was sent during a COPY */
	bool		copy_failed;	/* a COPY of the extended protocol has failed, and nothing has been answered since but Syncs */
	bool		copies_again;	/* and so may what was asked behind such a Sync */
	bool		in_doubt;		/* one of these Syncs was sent during the COPY, or ends the batch: the oldest asks are to be answered, or are skipped */
	uint8_t		doubtful;		/* AskKind + 1 of the first ask that may come to be in doubt; 0: there is none */
	uint32_t	unsure;			/* Syncs sent during a COPY: if that fails each is answered or not; see exchange_is_unsure */
	uint32_t	readies;		/* answers of Syncs since it has failed */
	uint16_t	head;			/* ring */
	uint16_t	count;
	uint16_t	size;			/* 0 = the inline ring */
	Ask		   *ring;
	Ask			inline_ring[6];
} Exchange;

#define EXCHANGE_MAX_ASKS	16384	/* beyond: REFUSE_TOO_MANY_PENDING */

extern void exchange_init(Exchange *x);
extern void exchange_free(Exchange *x);

/*
 * May a message of this type from the client join the exchange, and how?
 * The table [situation][type] is in exchange.c; the verdicts:
 */
typedef enum AskVerdict
{
	ASK_FORWARD,				/* belongs to x: send it (after exchange_add where it is answered) */
	ASK_IGNORE,					/* the origin would read and ignore it: drop it */
	ASK_NEXT,					/* begins another exchange behind x */
	ASK_TERMINATE,				/* Terminate */
	ASK_REFUSE					/* no such message: FATAL 08P01 */
} AskVerdict;

/*
 * During COPY FROM STDIN the origin refuses all but copy data, Sync and Flush, unless the copy has failed before, of which we may not have heard yet. So
 * the message is sent, and the origin says what it makes of it.
 */

extern AskVerdict exchange_ask(const Exchange *x, uint8_t type);

/*
 * Notes that a message was sent (or is to be made). Flush is not noted; CopyData neither.
 * False: ring full or no memory. Query, FunctionCall (without extended messages before them) and Sync close the exchange.
 */
extern bool exchange_add(Exchange *x, AskKind kind, AskFor whose, uint16_t flags, uint32_t number, void *note);
/* CopyData was sent: a Sync sent before it may turn out to be ignored, so the exchange takes further messages. */
extern void exchange_copy_data(Exchange *x);
/* A Sync is sent: true if the origin may read it as a part of a COPY, so that nobody knows yet whether it will be answered; else it is to be added. */
extern bool exchange_sync_in_copy(Exchange *x);
extern AskKind exchange_kind_of(uint8_t type, uint8_t what);	/* of a client message; what: 'S'/'P' of Describe */

/* What to do with an answer. */
typedef enum AnswerVerdict
{
	ANSWER_PASS,				/* to the client */
	ANSWER_SWALLOW,				/* to nobody */
	ANSWER_PASS_ERROR,			/* an ErrorResponse that ended ask `out` (look at its flags: it may need renaming) */
	ANSWER_VIOLATION			/* the origin may not say this now: the link cannot be trusted any more */
} AnswerVerdict;

/*
 * Takes one answer (its first piece) of the origin. If it completes an ask,
 * *out is that ask and *answered is set. An ErrorResponse in extended phase fails the oldest ask (*out, *answered set)
 * and drops those behind it up to the Sync: each is given to dropped(arg, ask), newest first, so that undoing in that order, the
 * failed one last, restores what was. ParameterStatus, Notice and Notification never come here. status: of ReadyForQuery, else 0.
 */
extern AnswerVerdict exchange_answered(Exchange *x, uint8_t type, uint8_t status, Ask *out, bool *answered,
									   void (*dropped) (void *arg, const Ask *ask), void *arg);
/* The ask that has i others before it, or NULL. */
extern const Ask *exchange_pending(const Exchange *x, uint32_t i);
/* If the oldest ask is one to be made, takes it off into *out: the caller makes its answer now. */
extern bool exchange_made(Exchange *x, Ask *out);
/* The origin waits for copy data, as far as we have heard, and the client has not ended it. */
static inline bool
exchange_copies(const Exchange *x)
{
	return x->copy_in && !x->copy_ended;
}

/*
 * A COPY has failed, and Syncs were sent while it went on: the origin has read each of them as a part of it, or behind it, and has answered it then. All that is certain has been
 * answered here. What else comes tells: it is for an ask in doubt, or for the exchange behind (exchange_over_by), which begins with an answer that no such ask has
 * (exchange_mark).
 */
static inline bool
exchange_is_unsure(const Exchange *x)
{
	return x->in_doubt || (x->phase == EXCHANGE_CLOSED && x->count == 0 && x->unsure > 0);
}

/* What is asked in it now may turn out to be a COPY FROM STDIN. */
static inline void
exchange_may_copy(Exchange *x)
{
	x->may_copy = true;
	x->copies_again |= x->unsure > 0 || x->reopened;
}

/* Shall something be sent at once, to see what it is answered behind? Not where that may be read in another copy: then the client's next message has to do. */
static inline bool
exchange_wants_mark(const Exchange *x)
{
	return exchange_is_unsure(x) && !(x->in_doubt && x->copies_again);
}

/* The newest ask is no Sync: if it fails, or one before it, what is asked next is ignored. */
static inline bool
exchange_is_half_asked(const Exchange *x)
{
	return x->count > 0 && exchange_pending(x, x->count - 1)->kind != ASK_SYNC;
}

/* The origin ignores all up to the Sync, which has not been asked yet. */
static inline bool
exchange_skips(const Exchange *x)
{
	return x->phase == EXCHANGE_OPEN && x->skipping && x->unsure == 0;
}

/* It may come to be in doubt: what is asked behind it is to begin with a mark. */
static inline bool
exchange_is_doubtful(const Exchange *x)
{
	return x->doubtful != 0 && x->phase == EXCHANGE_CLOSED;
}

/* What the mark is to be answered with. */
static inline uint8_t
exchange_mark(const Exchange *x)
{
	return x->doubtful == ASK_CLOSE + 1 ? ANS_PARSE_COMPLETE : ANS_CLOSE_COMPLETE;
}

/* An unsure exchange is over when anything comes that is not for it: true, and it is done. What was in doubt has been skipped, and is given to dropped. */
extern bool exchange_over_by(Exchange *x, uint8_t type, void (*dropped) (void *arg, const Ask *ask), void *arg);

static inline bool
exchange_done(const Exchange *x)
{
	return x->phase == EXCHANGE_DONE;
}

/* No Sync was sent behind it: it is done with its last answer. */
static inline void
exchange_end_without_sync(Exchange *x)
{
	if (x->count == 0)
		x->phase = EXCHANGE_DONE;
}

/* Drops every ask (the link was lost or the client gave up), newest first. */
extern void exchange_drop_all(Exchange *x, void (*dropped) (void *arg, const Ask *ask), void *arg);
/* Nothing is owed but the exchange is open: the client's turn. */
static inline bool
exchange_waits_for_client(const Exchange *x)
{
	return (x->phase == EXCHANGE_OPEN && x->count == 0) || exchange_copies(x);
}

#endif
