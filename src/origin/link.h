/*
 * origin/link.h - one connection to an origin.                                    floor 5
 *
 * Answers: how does an exchange get to the origin and its answer back? Owns the PGconn (libpq opens it, then only keeps it), the
 * transport, the outbound buffer, the FIFO of exchanges in flight, what is prepared on it, the
 * settings vector it is in and the parameters the origin has reported. Never: chooses a link, knows clients.
 *
 * A link's answers go to the exchange at the head of the FIFO, message runs uncopied, by on_message. States and edges: origin/README.md.
 */
#ifndef HYPERPOOL_ORIGIN_LINK_H
#define HYPERPOOL_ORIGIN_LINK_H

#include "postgres.h"
#include "core/exchange.h"
#include "core/portal.h"
#include "core/sharing.h"
#include "core/settings.h"
#include "core/statement.h"
#include "host/counters.h"
#include "net/reactor.h"
#include "net/transport.h"

typedef struct OriginLink OriginLink;
typedef struct LinkExchange LinkExchange;

typedef enum LinkState
{
	LINK_CONNECTING,			/* libpq is at work */
	LINK_IDLE,					/* ready, nothing in flight, clean, in the pool's hands */
	LINK_BUSY,					/* checked out: exchanges in flight, in a transaction, or bound to a client */
	LINK_SHARED,				/* carries exchanges of several sessions, plain reads alone; in the pool's hands */
	LINK_RESETTING,				/* the reset is in flight */
	LINK_CLOSING,				/* Terminate is sent; waits for the origin's end of stream */
	LINK_BROKEN					/* gone; to be freed at the end of the turn */
} LinkState;

/* Everything needed to open one; views and strings are copied. */
typedef struct LinkTarget
{
	int			worker;
	int			origin_slot;
	int			pool_row;
	const char *origin_name;
	const char *const *keywords;	/* libpq options, NULL-terminated, with host/hostaddr/port lists, user, password */
	const char *const *values;
	bool		require_password;	/* 2F003 unless the origin has asked for the password */
	bool		pooled;			/* the origin is a transaction pooler */
	bool		gateway;		/* it is a hyperpool: the process number it tells is of no backend */
	int64		connect_timeout;	/* of this attempt, microseconds; 0 = none */
	uint32		max_statements;
	StatementTable *statements;
	SettingsTable *settings;
	const SettingsVector *empty;	/* the empty vector: what a fresh link is in */
	OriginCounters *counters;
	/* upward news to the pool: connected, reset done, closed, broken */
	void		(*on_ready) (OriginLink *link, LinkState from);
	void		(*on_room) (OriginLink *link);	/* SHARED: an exchange has ended; maybe it was the last */
	void		(*on_stuck) (OriginLink *link); /* SHARED: the oldest exchange is taking too long for those behind it; told again and again */
	void	   *pool;
} LinkTarget;

typedef enum LinkNewsKind
{
	LINK_BYTES,					/* whole or partial messages for the client, in order */
	LINK_ERROR,					/* an ErrorResponse of the origin: `bytes` is its body; ask: the one it ended */
	LINK_ASK,					/* an ask with a note is over: see outcome */
	LINK_TAG,					/* a CommandComplete passed: `bytes` is its tag (it comes in LINK_BYTES too) */
	LINK_PARAMETER,				/* a ParameterStatus passed (it comes in LINK_BYTES too, unless ready_held) */
	LINK_SWALLOWED,				/* a RowDescription that the client did not ask for, whole: `bytes` is its body; if e->tell_swallowed */
	LINK_END,					/* ReadyForQuery passed, the exchange is done: status. It is freed after this call returns */
	LINK_LOST,					/* the link broke: the exchange is over and freed after this call; `bytes` is the body of the origin's own
								 * last ErrorResponse if it sent one (FATAL), else len 0; see unsent, cut, behind */
	LINK_WAITS,					/* the origin waits for copy data (CopyInResponse has been passed on), or for the Sync of a batch that has failed, but its
								 * client has said something else, which was not sent (see `ended`) */
	LINK_MOVED					/* SHARED: it stands behind one that does not move, nothing of its answer has come: to be asked elsewhere. The owner
								 * disowns it, and all of its own behind it */
} LinkNewsKind;

typedef enum LinkOutcome		/* of an ask */
{
	OUTCOME_ANSWERED,			/* well */
	OUTCOME_FAILED,				/* with an error of its own; LINK_ERROR came before */
	OUTCOME_SKIPPED				/* never looked at: an error before it, or the link was lost */
} LinkOutcome;

typedef struct LinkNews
{
	LinkNewsKind kind;
	Bytes		bytes;
	const Ask  *ask;
	LinkOutcome outcome;
	bool		first;			/* LINK_ERROR: nothing of the answer came before it */
	bool		unsent;			/* LINK_LOST: nothing of it was sent, or nothing that the origin would have looked at */
	bool		cut;			/* LINK_LOST: a message was passed on in part; its rest will not come */
	bool		behind;			/* LINK_LOST: others stood before it, the origin had not come to it */
	bool		at_query;		/* LINK_LOST: a Query in a batch without a Sync was at work, which is owed a ReadyForQuery of its own */
	bool		batch_behind;	/* LINK_LOST: and behind that more of the batch */
	uint8		status;
} LinkNews;

/* One exchange in the FIFO. Allocated by link_ask, freed by the link. */
struct LinkExchange
{
	Exchange	x;
	LinkExchange *next;
	OriginLink *link;
	void	   *owner;			/* the session; NULL: ours, or its client has gone: the answer is dropped */
	void		(*on_message) (LinkExchange *e, const LinkNews *news);
	uint32		effects;		/* StatementEffect bits, gathered while it is asked */
	int64		asked_at;		/* reactor time */
	uint64		starts_at;		/* place of its first byte in all that the link has sent */
	uint8		purpose;		/* the link's own: LinkPurpose */
	const SettingsVector *vector;	/* what the link is brought into by it, a reference; or NULL */
	bool		failed;			/* the origin answered it with an error */
	bool		muted;			/* the owner has told its client an error of its own: nothing more of the answer is wanted */
	bool		ended;			/* its client has said goodbye, or begun something else, behind it, which the origin has not been sent: LINK_WAITS where that will not go on without it */
	bool		tell_swallowed; /* the owner wants LINK_SWALLOWED */
	bool		ready_held;		/* the owner tells its client ReadyForQuery itself, and before it what parameters have changed (link_tell_parameters) */
	bool		keep_description;	/* the owner wants `description` */
	bool		describing;		/* its ParameterDescription has come, what follows has not */
	Shape		shape;			/* of the statement that was described last */
	ByteBuffer	description;	/* its two messages as they came, if keep_description; empty if they were too long */
	uint8		reason;			/* the owner's: CacheReason */
	bool		runs;			/* the owner's: something is executed */
	bool		unrun;			/* the owner's: refused before anything of it was executed */
	bool		explained;		/* the owner's: what a Parse in front of its Query had to say was passed on; that the Query misses it is no news */
	bool		doubtful;		/* the owner's: the gateway behind does not know whether it took effect */
	bool		again;			/* the owner's: its answer is of no use, it is to be asked again when it has ended */
	bool		shown;			/* the owner's: its client has been given some of the answer although that was parked: it is not asked again any more */
	bool		paced;			/* the owner's: `digest` is set */
	Digest128	digest;			/* the owner's: of the statement, for its pace */
	uint32		work;			/* what it adds to the load of the link, by its pace; microseconds */
	uint32		asked_len;		/* the owner's: how much of what it keeps to ask again is of this exchange */
	uint64		answer_bytes;	/* of its answer so far */
	int64		service;		/* at LINK_END: how long the origin was at it, as far as can be told from here; microseconds */
	int32		stats_row;		/* the owner's: host/querystats */
};

extern void links_init(Reactor *reactor);
/* Who frees the notes of asks whose owner has gone. */
extern void links_free_notes_by(void (*free_note) (void *note));
/* The time of this turn as the views show it; read from the clock once in a while, not once a query. */
extern TimestampTz link_wall_clock(void);

/* Begins to connect; NULL: no memory or no row (the reason is in link_open_error()). */
extern OriginLink *link_open(const LinkTarget *target);
extern const char *link_open_error(void);

extern LinkState link_state(const OriginLink *link);
extern void link_set_busy(OriginLink *link);	/* IDLE -> BUSY, at checkout */
extern void link_set_shared(OriginLink *link);	/* IDLE -> SHARED, for the first of several */
/* BUSY or SHARED -> IDLE, RESETTING (then on_ready when done) or CLOSING, as `after` says. Only when quiet (link_is_quiet). */
extern void link_give_back(OriginLink *link, LinkAfter after);
/*
 * Its client has gone (or was closed) in the middle: disowns what is in flight, cancels a running statement, then ROLLBACK and the
 * reset, then IDLE by on_ready. Where the client stopped inside a batch or a copy the connection is closed, which rolls it back.
 */
extern void link_abandon(OriginLink *link);
/* Nothing in flight, outside a transaction, nothing half-said. */
extern bool link_is_quiet(const OriginLink *link);
extern uint8 link_status(const OriginLink *link);	/* last transaction status; see link_begin */
/* Ends it: politely (Terminate, wait for the origin's end) when idle, at once when not. Exchanges in flight get LINK_LOST. */
extern void link_close(OriginLink *link);
extern void link_free(OriginLink *link);	/* after BROKEN only, by the pool */
/* After a failure: SQLSTATE (5 characters) and text, from the origin or our own. */
extern const char *link_failure(const OriginLink *link, char sqlstate[6]);
/*
 * An ERROR was caught that may have come through a link being read: what had been read of it is lost, and with it whose answer comes next. First the owner who was being told
 * something then, or NULL: it is to give up the link, which is used by nobody any more. Then the link breaks.
 */
extern void *links_interrupted(void);
extern void links_after_error(void);
extern bool link_hung(const OriginLink *link);	/* it could not be opened because a place did not answer: others begin with the next place now */

/* ---- sharing: a SHARED link has no holder, each exchange has its own ---- */
/* What is on it; `worth` riding or not is the pool's business. */
extern ShareLoad link_load(const OriginLink *link);
/* No more exchanges of others now: it is being cancelled or read slowly, or its outbound buffer is full. */
extern bool link_is_shut(const OriginLink *link);
extern bool link_is_held(const OriginLink *link);	/* a client does not take its answer */
extern bool link_is_empty(const OriginLink *link);	/* nothing in flight */
/* A cancel has been sent since it was shared: neighbours may be hit by it, and a reset must stand behind it. */
extern bool link_is_stirred(const OriginLink *link);
/* The exchange that has just been asked is of another client than those before it; work: see LinkExchange. */
extern void link_ride(LinkExchange *e, uint32 work);
extern LinkExchange *link_oldest_of(const OriginLink *link, const void *owner);	/* NULL: it has none */
extern bool link_is_head(const LinkExchange *e);	/* the origin is at it, or comes to it next */
extern bool link_is_last(const OriginLink *link, const void *owner);	/* nobody else's exchange stands behind its oldest */
extern void link_disown_all(OriginLink *link, const void *owner);	/* their answers are dropped */
/* Tells all but this owner that they are to be asked elsewhere (LINK_MOVED). */
extern void link_move_others(OriginLink *link, const void *stays);
extern const void *link_owner_of_head(const OriginLink *link);	/* NULL: nothing is in flight, or nobody's */

/* What is asked next, beginning with a message of this type, shall not be taken for a part of the exchange before (exchange_is_unsure, exchange_is_doubtful). False: no memory. */
extern bool link_ask_apart(OriginLink *link, uint8 type);
/* A new exchange at the tail. NULL: no memory. */
extern LinkExchange *link_ask(OriginLink *link, void *owner, void (*on_message) (LinkExchange *e, const LinkNews *news));
/* Notes one message of exchange e (the tail) that is being sent or is to be made; see exchange_add. */
extern bool link_note(LinkExchange *e, AskKind kind, AskFor whose, uint16 flags, uint32 number, void *note);
/* Where to append the bytes of the tail exchange; link_flush sends them at the end of this turn. */
extern ByteBuffer *link_outbound(OriginLink *link);
extern void link_flush(OriginLink *link);
/* Made answers at the head of the ring are due now even if the origin owes nothing before them. */
extern void link_make_answers(LinkExchange *e);
/* Who holds it, for the views: the number of a client row + 1, or 0. */
extern void link_set_client(OriginLink *link, uint32 client_row);
/* Called once when the link breaks, after the LINK_LOST of what was in flight: the pointer is dead for the holder then. NULL: nobody. */
extern void link_on_lost(OriginLink *link, void (*on_lost) (void *owner), void *owner);
extern void link_break_now(OriginLink *link);	/* memory ran out in the middle of asking */
/*
 * Sends a BEGIN (or START TRANSACTION) of a client in front of what is asked next; its answer is seen by nobody, and the link counts as in a transaction at once. There is no Sync
 * behind it: if it fails the origin ignores what follows, the link breaks, and what was asked behind it gets LINK_LOST with the error, `unsent`. That holds for
 * one exchange: ask no other while link_beginning. keep_portal: the unnamed portal stays, as after an extended BEGIN of the client's.
 */
extern bool link_begin(OriginLink *link, Bytes text, bool keep_portal);
extern bool link_beginning(const OriginLink *link);
/* Puts the link into a failed transaction, as its client believes it is in one: begins one (begin), or fails the one it is in. */
extern bool link_fail_transaction(OriginLink *link, bool begin);
/* A client message was sent only in part (true) or its rest has followed (false). */
extern void link_set_cut(OriginLink *link, bool cut);
/* Messages that come while nothing is asked (notifications to a bound client) go here; true = taken. NULL: dropped. */
extern void link_on_stray(OriginLink *link, bool (*on_stray) (void *owner, Bytes raw), void *owner);
/* More than this waits in the outbound buffer: stop feeding; on_drained is called when it is below half. */
#define LINK_HIGH_WATER		(256 * 1024)
extern bool link_is_full(const OriginLink *link);
extern void link_on_drained(OriginLink *link, void (*on_drained) (void *owner), void *owner);
extern bool link_is_draining(const OriginLink *link);	/* on_drained is to be called */
/* The client does not take its answer: stop (or go on) reading the origin. */
extern void link_hold_reading(OriginLink *link, bool hold);
/* The owner has gone: answers are dropped from now on; on_message is not called again. */
extern void link_disown(LinkExchange *e);

/* ---- settings ---- */
extern const SettingsVector *link_settings(const OriginLink *link);
/* Queues what brings the link into `vector`; the exchange asked next runs in it. An error of the origin retires the link: the exchanges behind it get LINK_LOST. */
extern bool link_apply_settings(OriginLink *link, const SettingsVector *vector);
/* The link's settings are what its client has made of them (read back from the origin). */
extern void link_settings_are(OriginLink *link, const SettingsVector *vector);
/* DISCARD ALL or DEALLOCATE ALL (settings_too = false) was executed on it. */
extern void link_discarded(OriginLink *link, bool settings_too);
extern bool link_applying(const OriginLink *link);	/* its answer has not come yet */
/* The parameters the origin has reported, in order: appended as ParameterStatus messages. */
extern void link_put_parameters(const OriginLink *link, ByteBuffer *out);
extern const char *link_parameter(const OriginLink *link, const char *name);	/* or NULL */
/* Appends the parameters that have changed since its client was told last, if that was put off: see ready_held. */
extern void link_tell_parameters(OriginLink *link, ByteBuffer *out);

/* ---- statements ---- */
extern LinkStatements *link_statements(OriginLink *link);
extern Statement *link_unnamed(const OriginLink *link);	/* the statement now unnamed on the link; NULL: none, or not known (its Parse is another client's and not answered yet) */
extern void link_set_unnamed(OriginLink *link, Statement *s);	/* takes its own reference; NULL: from now on not known */
extern bool link_has_no_unnamed(const OriginLink *link);	/* there is certainly none */
extern void link_unnamed_closed(OriginLink *link);	/* a Close of it was sent */
extern void link_read_otherwise(OriginLink *link);	/* its client sets what decides what a text means, if only for a transaction: others do not use what is parsed there meanwhile */
/* May be used on, but not by another client. */
extern void link_wear_out(OriginLink *link);

/* ---- cancel ---- */
/* Asks the origin to cancel what the link is doing, on a connection of its own; the link is not given back before that connection has closed. */
extern void link_cancel(OriginLink *link);

extern int	link_origin_pid(const OriginLink *link);	/* of its backend; 0: not known */
/* A message has been passed on to this owner in part: its rest is still to come. */
extern bool link_is_within_answer(const OriginLink *link, const void *owner);
extern bool link_to_gateway(const OriginLink *link);	/* the origin is itself a hyperpool */
extern const char *link_login_user(const OriginLink *link);	/* as whom it was opened */
extern int	link_row(const OriginLink *link);	/* its row in the links view */
extern void *link_pool(const OriginLink *link);
extern int64 link_opened_at(const OriginLink *link);
extern const char *link_state_name(LinkState state);

#endif
