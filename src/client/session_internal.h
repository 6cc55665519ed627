/*
 * client/session_internal.h - the session room's own view of a session.           floor 7
 *
 * session.c: life, reading and writing. session_login.c: from accept to ReadyForQuery. session_ask.c: a client's message on
 * its way to the origin; session_statements.c: its prepared statements on whatever link it has; session_facts.c: what a text does. session_answer.c: the link's news on their way to the client. session_settings.c: what SET has left behind.
 * session_ride.c: its exchanges on a link shared with others.
 * session_local.c: what is answered here, message by message; session_cache.c: answers from the cache and into it; session_gateway.c: SET of our own settings; session_begin.c: BEGIN; session_writes.c: what it writes.
 */
#ifndef HYPERPOOL_CLIENT_SESSION_INTERNAL_H
#define HYPERPOOL_CLIENT_SESSION_INTERNAL_H

#include "client/reply.h"
#include "client/session.h"
#include "core/cachekey.h"
#include "core/exchange.h"
#include "core/frame.h"
#include "core/login.h"
#include "core/portal.h"
#include "host/counters.h"
#include "host/facts.h"
#include "host/identity.h"
#include "host/versions.h"
#include "net/transport.h"
#include "origin/pool.h"

typedef enum SessionState
{
	SESSION_STARTING,			/* startup, TLS, authentication, first parameters: see SessionLogin */
	SESSION_IDLE,				/* logged in; nothing asked; holds a link only if bound */
	SESSION_WAITING,			/* for a link */
	SESSION_JOINED,				/* for the answer to another client's same question */
	SESSION_REPLAYING,			/* a large answer from the cache is on its way */
	SESSION_RELAYING,			/* holds a link: exchanges in flight, or in a transaction */
	SESSION_LEAVING,			/* Terminate came: the answers in flight go out, then it closes */
	SESSION_CLOSED				/* freed at the end of the turn */
} SessionState;

/* What happens to the rest of a message that came in part. */
typedef enum SessionPiece
{
	PIECE_FORWARD,
	PIECE_DROP
} SessionPiece;

struct SessionLogin;
struct SessionSettings;
struct SessionWrites;

/* Its dealings with the cache, while there are any. */
typedef struct SessionCache
{
	Recording	recording;		/* on from the lookup that missed */
	LinkExchange *exchange;		/* whose answer is recorded; NULL until it has begun */
	bool		describe;		/* the client does not ask what the rows look like: we do */
	uint32		flight;			/* JOINED: waited for */
	StoreHit	hit;			/* REPLAYING */
	bool		with_head;
	uint32		skipped;
	uint32		closes;			/* CloseComplete that are due behind the rows */
} SessionCache;

typedef struct ClientSession
{
	ReactorSource source;		/* MUST BE FIRST */
	ReactorTask flush_task;		/* writes; frees when CLOSED */
	ReactorTimer timer;			/* login, query_timeout, idle_transaction_timeout: what the state says */
	Transport	transport;
	struct ClientSession *next; /* of all sessions of this worker */
	struct ClientSession *prev;

	uint8		state;			/* SessionState */
	uint8		piece;			/* SessionPiece */
	bool		consuming;		/* session_consume is on the stack */
	bool		skip_local;		/* an exchange was refused here: ignore all up to Sync */
	bool		bound;			/* the link stays: session state that cannot be replayed */
	bool		shadowed;		/* on its link something temporary has the name of something permanent */
	bool		emptied_behind;	/* a gateway behind its link has lost what the link was bound for */
	bool		unseen;			/* on its link ran what may have done anything */
	bool		made_unseen;	/* and may have made something temporary there … */
	bool		made_unseen_view;	/* … that runs functions when it is read */
	uint64		judged_by;		/* generation of the facts that told so last, if they may not have held any more; else 0 */
	bool		holding_link;	/* the link's reading is held: we do not take its answers */
	bool		cancelled;		/* the client has asked to cancel what is running */
	bool		timed_out;		/* query_timeout has cancelled what is running */
	bool		rights_stale;	/* the directory has changed since they were looked at */
	bool		closing;		/* flush what is in `out`, then close */
	bool		loss_told;		/* the loss of the link was told as the answer to an exchange */
	bool		failed_transaction; /* the link was lost in a transaction: the client is told it failed, and must end it */
	bool		flushed;		/* a Flush is the last that was sent of its batch */
	bool		unnamed_too_long;	/* its unnamed statement is on its link alone; `unnamed` is NULL */
	bool		begin_portal;	/* of `begin`: its unnamed portal is still there */
	bool		safe_encoding;	/* its SQL may be parsed */
	bool		utf8;			/* names in it are as in the origin's catalog, beyond ASCII too */
	uint16		inflight;		/* exchanges asked and not ended */
	bool		asked_whole;	/* `asked` holds all of the exchange */
	uint8		repeats;		/* how often a link was lost with it; links that were there at a loss already count as that one */
	uint8		moves;			/* how often it was asked elsewhere, as it stood behind one that stood still */
	bool		riding;			/* `link` is shared: it is where its exchanges are, but not held */
	bool		ride_parses;	/* one of them holds a Parse */
	bool		ride_uses_unnamed;	/* one of them binds the unnamed statement of an earlier exchange */
	bool		next_uses_unnamed;	/* so does the one found to ride */
	bool		alone;			/* the next exchange does not ride */
	bool		holding_messages;	/* until the exchange in flight has ended */
	bool		ready_due;		/* its client waits for ReadyForQuery until what was given at login is back */
	uint16		risky;			/* asks in flight that give or take names */
	uint16		emptying;		/* of them, those that take all names away (NOTE_EMPTIED) */
	bool		emptied;		/* the oldest of these has gone well */
	uint32		effects;		/* of everything since the link was taken */

	size_t		ride_left;		/* of the exchange found to ride: bytes not taken yet */
	ByteBuffer	in;
	ByteBuffer	out;
	ByteBuffer	asked;			/* the client's messages of the one exchange in flight (riding: of all), as they came, to be asked again; see remember_asked */
	ByteBuffer	parked;			/* riding where a cancel was sent for a neighbour: the answer so far, until it is known not to have been hit */
	ByteBuffer	refusal;		/* an ErrorResponse for the next exchange instead of asking it */
	FrameReader reader;

	char	   *begin;			/* a BEGIN that was answered here: it goes out in front of what needs a link next; NULL: there is none */
	StatementNames names;
	Statement  *unnamed;
	LinkExchange *unnamed_in;	/* the exchange that parsed it; may be gone by now: only to be compared */
	LinkPool   *pool;
	const SettingsVector *settings;
	const SettingsVector *startup_settings;
	OriginLink *link;
	LinkExchange *tail;			/* the newest exchange, while it is not done */
	PoolWaiter	waiter;
	int64		lost_at;		/* the last loss that `repeats` counts */
	int64		active_since;	/* the link was taken */
	int64		heard_at;		/* its last message was taken */
	int64		answered_at;	/* its last exchange ended, or the first of a row began */

	ClientRow  *row;
	Oid			role;
	OriginCounters *counters;
	struct SessionNote *deallocating;	/* the name that the next Execute of renamed_in is about to take away */
	LinkExchange *renamed_in;	/* a DEALLOCATE or EXECUTE was parsed there under the link's name */
	struct SessionLogin *login; /* while STARTING */
	struct SessionSettings *reading;	/* while its settings are read back */

	bool		headless;		/* without a client: it refreshes an entry, or ends what its client had begun */
	bool		joined_once;	/* for this exchange: not again */
	uint8		cache_choice;	/* CacheChoice: SET hyperpool.cache */
	uint8		reason;			/* CacheReason of the exchange that begins next */
	uint32		scope;			/* of its cache keys; see session_scope */
	uint32		scope_settings; /* id of the vector it was made for */
	uint64		scope_directory;	/* generation of the directory it was made for */
	uint64		temp_since;		/* generation of the facts when it made something temporary on its link; 0: it has not */
	uint8		startup_cache_choice;
	int64		max_age;		/* SET hyperpool.max_age; microseconds, -1 = not set */
	int64		startup_max_age;
	Shape		unnamed_shape;	/* what the client was told of the unnamed statement */
	SessionCache *cache;
	struct SessionWrites *writes;	/* what its transaction has written, or is writing */
	struct ClientSession *next_joined;	/* of this worker */
	struct ClientSession *prev_joined;
} ClientSession;

typedef enum CacheChoice
{
	CACHE_BY_DEFAULT,			/* as the origin's option says */
	CACHE_BY_SESSION_OFF,
	CACHE_BY_SESSION_ON
} CacheChoice;

#define SESSION_HIGH_WATER	(256 * 1024)	/* more unsent answer than this holds the link's reading */
#define SESSION_WHOLE_MAX	(32 * 1024) /* longer messages come in pieces (Parse and Query: hyperpool.max_statement_size) */

/* What became of a message. */
typedef enum SessionStep
{
	STEP_TAKEN,
	STEP_HOLD,					/* not now: it stays in the buffer */
	STEP_GONE					/* the session is closed or leaving */
} SessionStep;

extern Reactor *session_reactor;
extern int	session_worker;
extern Directory *session_directory;

/* session.c */
/* What to do about an origin that no link can be opened to. */
#define HINT_NO_LINK	"hyperpool could not connect to the origin. SELECT * FROM hyperpool.check_origin(...) shows the steps."

extern bool session_has_descriptor(void);	/* is there a file for this one, which counts already? */
extern uint32 session_max_statements(void);	/* that a client may name now */
extern size_t session_high_water(void);	/* of what is replayed, now */
extern bool session_take_row(ClientSession *s);	/* false: hyperpool.max_clients */
extern void session_set_state(ClientSession *s, SessionState state);
extern void session_resume(ClientSession *s);	/* goes on with what lies in `in`, and watches what is to be watched */
extern void session_flush(ClientSession *s);	/* at the end of this turn */
extern void session_close(ClientSession *s);	/* now; nothing more is sent */
extern void session_close_after_flush(ClientSession *s);
extern void session_fatal(ClientSession *s, Refusal refusal, const char *arg);	/* FATAL, then close */
extern void session_let_go(ClientSession *s);	/* gives up the link in whatever state it is */
extern ClientSession *session_make_headless(ClientSession *like);	/* for the same pool, role and settings; NULL: no memory */
extern bool session_leave_client(ClientSession *s);	/* the client has gone, what it asked goes on for others; false: it need not */
extern bool session_check_rights(ClientSession *s); /* false: none any more; the client has been told */
extern void session_arm(ClientSession *s);	/* the timer, for whichever limit comes first */
extern void session_set_timer(ClientSession *s, int64 after);	/* microseconds from now; 0 = none */

/* session_login.c */
extern void session_login_init(void);
extern bool session_login_begin(ClientSession *s, const struct sockaddr_storage *from, bool local);
extern void session_login_step(ClientSession *s, int events);
extern void session_login_link(ClientSession *s, OriginLink *link); /* the pool's news while STARTING */
extern void session_login_late(ClientSession *s);	/* its timer has gone off */
extern void session_login_end(ClientSession *s);

/* session_facts.c */
typedef struct QueryFacts		/* of a simple query's text */
{
	uint16		effects;		/* StatementEffect bits */
	uint8		kind;			/* StatementKind */
	uint8		begin;			/* BeginTrait bits */
	bool		gateway;		/* SET, RESET or SHOW of one of our own settings */
	bool		ascii_names;	/* it mentions no other */
	int32		stats_row;
	Digest128	digest;			/* of the text but for its numbers */
	Proof	   *proof;			/* owned; NULL: none drawn */
} QueryFacts;

#define EFFECTS_OF_THE_UNSEEN	(EFFECT_UNKNOWN | EFFECT_WRITES | EFFECT_DIRTY | EFFECT_LOCKS)

extern QueryFacts *session_query_facts(const ClientSession *s, Bytes text);	/* valid until the next call */
extern uint32 session_effects_of(const ClientSession *s, Statement *statement);
/* What the origin's catalog makes of it, drawn anew when that has moved; NULL: the cache is off or there is no memory, count on nothing. */
extern const Proof *session_query_proof(const ClientSession *s, Bytes text, QueryFacts *facts);
extern const Proof *session_statement_proof(const ClientSession *s, Statement *statement);
extern bool session_proof_is_current(const ClientSession *s, const Proof *proof);
extern FactsState session_facts_state(const ClientSession *s);	/* and lets the scout know that they are wanted */
extern int32 session_query_stats(const ClientSession *s, Bytes text, QueryFacts *facts);
extern int32 session_statement_stats(const ClientSession *s, Statement *statement);

/* session_ride.c */
extern void session_ride_look(ClientSession *s, Bytes in);	/* may the exchange at the front of `in` ride? Sets what the pool is asked for, and ride_left */
extern void session_ride_on_facts(PoolWaiter *waiter);	/* the same again while it waits: more is known of the catalog */
extern bool session_ride_on(ClientSession *s, Bytes in);	/* riding: may the next one follow? False: not now; true without riding: it has got off */
extern void session_ride_begun(ClientSession *s);	/* its newest exchange was asked */
extern void session_ride_ended(ClientSession *s, const LinkExchange *e);
extern void session_ride_over(ClientSession *s);	/* nothing of it is in flight any more */
extern void session_ride_leave(ClientSession *s);	/* gives up what is */
extern void session_ride_moved(ClientSession *s);
extern bool session_ride_parks(const ClientSession *s, const LinkExchange *e);	/* its answer is not passed on before it has ended */
extern void session_ride_park(ClientSession *s, LinkExchange *e, Bytes bytes);
extern void session_ride_unpark(ClientSession *s);
extern bool session_ride_hit_by_stray(const ClientSession *s, LinkExchange *e, const LinkNews *news);
extern void session_ride_again(ClientSession *s);
extern void session_ride_lost(ClientSession *s, LinkExchange *e, const LinkNews *news);
extern bool session_ride_cancel(ClientSession *s, Refusal refusal);
extern bool session_ride_may_hold(ClientSession *s);

/* session_writes.c */
/* What is about to be sent writes this (proof NULL: see effects); marks it before the first byte goes out. */
extern void session_writes_asked(ClientSession *s, const Proof *proof, uint32 effects);
extern void session_writes_executed(ClientSession *s, bool named); /* an Execute: of a portal that may have been bound before; named: in an exchange before */
extern bool session_writes_under_way(const ClientSession *s);	/* something is sent that may commit */
extern bool session_writes_flush(const ClientSession *s);	/* it may have written anything */
extern void session_writes_ended(ClientSession *s, const LinkExchange *e);	/* ReadyForQuery has come and was not passed on yet */
extern void session_writes_answered(ClientSession *s);	/* a byte of answer has come: for the test that must fail */
extern void session_writes_unsent(ClientSession *s);	/* the link was lost before any of it was sent */
extern void session_writes_lost(ClientSession *s);	/* the link is lost or given up: in doubt what was under way */
extern void session_writes_leave_link(ClientSession *s);	/* what it had made there is gone */
extern void session_catalog_moved(ClientSession *s);	/* DDL was made elsewhere: here is the proof */

/* session_local.c */
typedef enum LocalVerdict
{
	LOCAL_DONE,					/* *used bytes were answered here */
	LOCAL_MORE,					/* more of the exchange must come before it can be told */
	LOCAL_HELD,					/* it waits for somebody else's answer, or its own is on its way; *used bytes were taken */
	LOCAL_FORWARD,				/* to the origin */
	LOCAL_GONE					/* the session is closed */
} LocalVerdict;

extern bool session_local_may(const ClientSession *s);
extern LocalVerdict session_local(ClientSession *s, Bytes in, size_t *used);

/* session_cache.c */
/* A request for rows that lies complete in memory. */
typedef struct CacheRequest
{
	Bytes		text;
	Bytes		types;
	const BindValues *bind;		/* NULL: a simple Query */
	Bytes		bind_rest;		/* as it came */
	const Proof *proof;
	TextHints	hints;
	int32		stats_row;
	const Shape *told;			/* what the client knows of the rows; NULL: nothing */
	uint32		max_rows;		/* of Execute; 0 = all */
	bool		parse;			/* ParseComplete is due */
	bool		describe;		/* RowDescription is due */
	uint32		closes;			/* CloseComplete are due behind the rows */
} CacheRequest;

/* LOCAL_DONE: the answer is in s->out, with its ReadyForQuery. LOCAL_HELD with *taken: the answer is on its way; without: ask again when woken. */
extern LocalVerdict session_cache_answer(ClientSession *s, const CacheRequest *request, bool *taken);
extern CacheReason session_cache_reason(const ClientSession *s, const Proof *proof, const TextHints *hints);	/* why not, before any lookup */
extern bool session_cache_describes(ClientSession *s, Statement *statement, ByteBuffer *out);	/* false: no description is kept; out NULL: only asks */
extern void session_cache_begin_description(ClientSession *s, Statement *statement, StoreFill *fill);
extern void session_cache_end_description(Bytes description, StoreFill *fill, int64 asked_at);
extern void session_cache_begun(ClientSession *s);	/* the newest exchange is the one that was looked up */
extern void session_cache_bytes(ClientSession *s, LinkExchange *e, Bytes bytes);
extern void session_cache_swallowed(ClientSession *s, LinkExchange *e, Bytes body);
extern bool session_cache_wants_head(const ClientSession *s);	/* the exchange being asked is recorded and the client does not Describe it */
extern void session_cache_ended(ClientSession *s, LinkExchange *e);
extern void session_cache_count(ClientSession *s, CacheReason reason, int32 stats_row, int64 took);	/* an exchange that did not come from the cache */
extern void session_cache_abort(ClientSession *s);	/* and leaves a flight it has joined */
extern void session_cache_go_on(ClientSession *s);	/* REPLAYING: there is room in s->out */
extern void session_cache_init(void);
extern void session_cache_hold(ClientSession *s, bool held);	/* its client does not take its answer (or does again) */
extern void session_cache_wait_on(ClientSession *s);	/* JOINED for a while: is it worth waiting longer? */
extern bool session_cache_survives(const ClientSession *s);	/* its client has gone, others may wait for its answer */

/* session_gateway.c */
extern bool session_gateway_is(Bytes setting);
/* Carries out SET, RESET or SHOW of one of our own settings; the answer without ReadyForQuery goes to s->out. False: not one that we can answer. */
extern bool session_gateway_run(ClientSession *s, Bytes text, bool extended, bool describe_statement, bool describe_portal, bool *failed);
extern void session_gateway_heed(ClientSession *s, Bytes text); /* the same, where the origin answers it */
extern bool session_gateway_take(ClientSession *s, SettingsDraft *draft, char *complaint, size_t size);	/* out of startup settings; false: a value is wrong */

/* session_begin.c */
typedef struct BeginRequest
{
	Bytes		text;
	uint8		traits;			/* BeginTrait bits */
	bool		extended;
	bool		describe_statement;
	bool		describe_portal;
	int32		stats_row;
} BeginRequest;

extern bool session_begin_may(const ClientSession *s, uint8 traits);	/* of a session that session_local looks after */
/* Answers it and keeps it; the answer without ReadyForQuery goes to s->out. False: no memory, or too long. */
extern bool session_begin_run(ClientSession *s, const BeginRequest *request);
extern bool session_begin_admits(ClientSession *s, uint8 type);	/* false: with a BEGIN kept this message is none for session_local */
extern bool session_begin_send(ClientSession *s);	/* in front of the exchange that begins now, if there is one; false: no memory */
extern void session_begin_fail(ClientSession *s);	/* the client has been told an error */
extern void session_begin_forget(ClientSession *s);

/* What ReadyForQuery says of a session that holds no link. */
static inline uint8
session_status(const ClientSession *s)
{
	return s->failed_transaction ? TX_FAILED : s->begin ? TX_OPEN : TX_IDLE;
}

/* All that is owed is the answer to a batch that its client has not finished. */
static inline bool
session_is_half_said(const ClientSession *s)
{
	return s->inflight == 1 && s->tail && s->tail->x.phase == EXCHANGE_OPEN;
}

/* May what has these effects be a COPY FROM STDIN? */
static inline bool
session_may_copy(uint32 effects)
{
	return effects & (EFFECT_COPY | EFFECT_UNKNOWN);
}

/* session_statements.c */
extern void session_add_effects(ClientSession *s, uint32 effects);
extern uint32 session_effects_by_proof(const ClientSession *s, uint32 effects, const Proof *proof);	/* less, where the origin's catalog says so */
/*
 * Sees to it that the statement of a client's name is prepared on the link when the next message is read there; *name is what it
 * is called there. False: the session is closed, or out of memory.
 */
extern bool session_prepare_on_link(ClientSession *s, Bytes client_name, Statement *statement, char buf[LINK_NAME_MAX], Bytes *name,
									uint32 *number);
/* The same for what a DEALLOCATE or EXECUTE of `meant` shall name there. */
extern bool session_prepare_meant(ClientSession *s, const StatementFacts *facts, Statement *meant, char buf[LINK_NAME_MAX], Bytes *name, uint32 *number);
extern SessionStep session_ask_parse(ClientSession *s, const Frame *frame);
extern SessionStep session_ask_bind(ClientSession *s, const Frame *frame);
extern SessionStep session_ask_describe(ClientSession *s, const Frame *frame);
extern SessionStep session_ask_close(ClientSession *s, const Frame *frame);

/* session_ask.c */
/* Notes an ask of the newest exchange; on failure frees `what`, closes the session and returns false. */
extern bool session_note_ask(ClientSession *s, AskKind kind, AskFor whose, uint32 number, void *what);
extern bool session_note_ask_of(ClientSession *s, AskKind kind, Bytes name, uint32 number, void *what);	/* the client's own, of a statement it calls so */
extern uint16 session_name_tag(Bytes name);	/* by which an ask remembers a name, for its error */
extern void session_send_raw(ClientSession *s, const Frame *frame);	/* the bytes as they came; their rest follows */
extern SessionStep session_forward(ClientSession *s, const Frame *frame, uint8 what);	/* noted and sent as it came */
extern SessionStep session_ask(ClientSession *s, const Frame *frame);
extern void session_drop_unnamed(ClientSession *s);	/* a simple Query takes it away; nothing of it is at the origin */
extern bool session_refuses_type(ClientSession *s, uint8 type);	/* true: no such message; the client has been told */
extern void session_attach(ClientSession *s, OriginLink *link);
extern bool session_settings_are_identity(const SettingsVector *settings);

/* session_answer.c */
extern void session_fault_raise(void);	/* hyperpool.test_fault */
extern void session_on_message(LinkExchange *e, const LinkNews *news);
extern void session_on_link_lost(void *owner);
extern void session_on_checkout(PoolWaiter *waiter, OriginLink *link);
extern void session_refuse_next(ClientSession *s, Refusal refusal, const char *arg);
extern void session_forget_asked(ClientSession *s);
extern bool session_put_back_asked(ClientSession *s);	/* in front of `in`; false: no memory */
extern bool session_may_repeat(const ClientSession *s, const LinkExchange *e, const LinkNews *news);
extern void session_count_repeat(ClientSession *s, const OriginLink *link);	/* what was on it is about to be asked again */
extern void session_put_loss(ClientSession *s, LinkExchange *e, const LinkNews *news);	/* the error that says so, and ReadyForQuery, to whom it is owed */
extern void session_unbind(ClientSession *s);
extern void session_note_parameters(ClientSession *s);
extern void session_read_as(ClientSession *s, const char *client_encoding, const char *conforming, const char *server_encoding);	/* what the origin has reported about how SQL is to be read */
extern void session_quiet(ClientSession *s);	/* nothing is in flight any more: return the link, or keep it */

/* session_note: what an ask may have to undo or complete when it is answered or dropped. */
typedef enum NoteWhat
{
	NOTE_NAMED,					/* a Parse gave `name`: take it away */
	NOTE_CLOSED,				/* a Close took `name` from `prior`: give it back */
	NOTE_UNNAMED,				/* the unnamed statement was replaced: `prior` comes back if the ask was skipped */
	NOTE_DEALLOCATE,			/* DEALLOCATE took `name` from `prior`: if it did not go well, give it back */
	NOTE_EMPTIED,				/* DEALLOCATE ALL took `names` (and the unnamed `prior`): if it did not go well they come back */
	NOTE_LEARN,					/* the description is that of the client's own Parse: remember it */
	NOTE_COMPARE,				/* it is that of a Parse of ours on another link: it must be the remembered one */
	NOTE_RENAMED,				/* the error speaks of the link's name: say the client's */
	NOTE_DESCRIBED,				/* the client has asked what a statement looks like: remember what it is told */
	NOTE_AWAITED				/* a Parse or Close of ours that may be skipped: the next exchange waits until it is known */
} NoteWhat;

typedef struct SessionNote
{
	NoteWhat	what;
	uint32		number;			/* link statement, for NOTE_RENAMED and NOTE_DEALLOCATE */
	Statement  *prior;			/* one reference, or NULL; LEARN and DESCRIBED: what is described */
	Shape		shape;			/* CLOSED and DEALLOCATE: what the client was told of it */
	bool		failed;			/* DEALLOCATE in a Query: it has, though that is answered in full */
	LinkExchange *prior_in;		/* NOTE_UNNAMED: the exchange that parsed it; only to be compared */
	StatementNames names;		/* NOTE_EMPTIED */
	StoreFill	fill;			/* LEARN and DESCRIBED: the description is to be kept */
	uint32		name_len;
	char		name[];
} SessionNote;

/* DEALLOCATE ALL, DISCARD ALL */
static inline bool
session_empties(const StatementFacts *facts)
{
	return facts->kind == STATEMENT_DISCARD_ALL || (facts->kind == STATEMENT_DEALLOCATE && facts->target == NULL);
}

extern SessionNote *session_note_unnamed(ClientSession *s);	/* NOTE_UNNAMED of what is unnamed now, whose reference it takes over */
extern void session_terminate_link(ClientSession *s);	/* passes Terminate on: in a copy the origin itself says what it makes of it */
extern SessionNote *session_note_make(NoteWhat what, Bytes name, Statement *prior, uint32 number);
extern void session_note_free(SessionNote *note);
extern void session_note_takes_name(ClientSession *s, SessionNote *note);	/* CLOSED, DEALLOCATE: the name is gone from now on; it may not have been there */
extern void session_free_note(void *note);

/* session_settings.c */
extern bool session_settings_read(ClientSession *s);	/* asks the origin what is set now; session_quiet is called again when known. False: no memory, so the link is bound */
extern void session_settings_forget(ClientSession *s);
extern void session_settings_will_return(ClientSession *s); /* its newest exchange may undo what was given at login */
extern void session_settings_ended(ClientSession *s, const LinkExchange *e);	/* such an exchange has ended */
extern bool session_settings_return(ClientSession *s);	/* false: nothing is to be put back; else session_quiet is called again when it is */
extern void session_tell_ready(ClientSession *s, uint8 status);

#endif
