/*
 * origin/link_internal.h - the link room's own view of a link.                    floor 5
 *
 * link.c: life, FIFO and writing. link_read.c: reading. link_connect.c: libpq opens it and hands it over.
 * link_session.c: settings, parameters, statements, reset. link_cancel.c: cancel connections.
 */
#ifndef HYPERPOOL_ORIGIN_LINK_INTERNAL_H
#define HYPERPOOL_ORIGIN_LINK_INTERNAL_H

#include "origin/link.h"

#include <libpq-fe.h>

/* What an exchange is there for. */
typedef enum LinkPurpose
{
	PURPOSE_CLIENT,
	PURPOSE_SETTINGS,			/* brings the link into a settings vector */
	PURPOSE_RESET,				/* cleans it */
	PURPOSE_BEGIN,				/* begins the transaction of what is asked behind it; without a Sync */
	PURPOSE_FAIL,				/* makes a failed transaction: its error is wanted */
	PURPOSE_ROLLBACK,			/* ends what an abandoned client left open */
	PURPOSE_PING				/* nothing: its answer tells the round trip, or that all before it has been answered */
} LinkPurpose;

typedef struct LinkParameter	/* a ParameterStatus of the origin */
{
	char	   *name;
	char	   *value;
	char	   *told;			/* parameters_held: what its client believes; NULL: the value */
} LinkParameter;

#define LINK_MAX_PARAMETERS	64	/* reported by one origin; more are passed on but not remembered */

struct LinkCancel;

struct OriginLink
{
	ReactorSource source;		/* MUST BE FIRST */
	ReactorTask flush_task;
	ReactorTimer timer;			/* connecting: connect_timeout; closing: how long to wait for the end; shared: whether its head stands still */
	LinkState	state;
	LinkTarget	target;			/* strings of it only while connecting; see link_connect.c */
	PGconn	   *conn;
	struct LinkConnect *connect;	/* while CONNECTING */
	Transport	transport;

	/* out */
	ByteBuffer	out;
	uint64		sent;			/* bytes ever sent; + buffer_len(out) = place of the next byte */
	void		(*on_drained) (void *owner);
	void	   *drained_owner;

	/* in */
	ByteBuffer	in;				/* the start of a message whose rest has not come */
	FrameReader reader;
	bool		piece_passes;	/* the message now handed out in pieces goes to the client */
	bool		held;			/* reading is held: the client does not take its answer */
	LinkExchange *head;			/* oldest in flight */
	LinkExchange *tail;
	LinkExchange *ended;		/* off the FIFO, its owner is being told */

	/* pace and sharing */
	uint32		depth;			/* exchanges of clients in flight */
	uint64		work;			/* of them, by their paces */
	int64		head_since;		/* when the oldest came to be it */
	Way			way;
	bool		stirred;		/* SHARED: a cancel was sent; nobody else boards until it has been given back */

	/* the session at the origin */
	uint8		status;			/* of the last ReadyForQuery; TX_OPEN from link_begin on */
	bool		beginning;		/* its BEGIN is not answered yet */
	bool		unheeded;		/* that has failed: the origin ignores what was sent behind it */
	const SettingsVector *settings; /* once all that is queued has run */
	uint32		applying;		/* settings exchanges in flight */
	LinkParameter parameters[LINK_MAX_PARAMETERS];
	uint32		nparameters;
	bool		parameters_held;	/* from the answer to an exchange that is ready_held until link_tell_parameters */
	LinkStatements *statements;
	Statement  *unnamed;
	uint32		unnamed_asked;	/* Parses of it sent and not answered */
	uint64		unnamed_ride;	/* the ride in which the last of them was sent */
	uint64		ride;			/* number of the ride that is being asked */
	bool		abandoned;		/* its client has gone; see link_abandon */
	ReactorTimer cancel_again;	/* while it is */
	bool		reset_due;		/* RESETTING, but a cancel must end first */
	bool		worn;			/* closes when given back, but may be used until then */
	bool		cancel_due;		/* the client's exchange is to be cancelled when it is at the head */
	bool		unnamed_none;	/* the origin has no unnamed statement; false and unnamed NULL: one we know nothing of */
	bool		poisoned;		/* may not be used again: closes when given back */
	bool		cut_message;	/* the last message sent has not all been sent: only its rest may follow */
	bool		(*on_stray) (void *owner, Bytes raw);	/* a bound link's client wants notifications that come while nothing is asked */
	void	   *stray_owner;
	void		(*on_lost) (void *owner);
	void	   *lost_owner;

	/* cancel */
	struct LinkCancel *cancel;
	uint32		origin_pid;
	uint32		origin_key;
	bool		has_key;

	/* failure */
	bool		hung;			/* CONNECTING: a place neither accepted nor refused in time */
	char		sqlstate[6];
	char	   *failure;		/* palloc'd text, or NULL */
	ByteBuffer	last_error;		/* body of the ErrorResponse that ended it */

	LinkRow    *row;
	int64		opened_at;
};

extern Reactor *link_reactor;
extern OriginLink *link_reading;	/* whose bytes are being handled, or NULL */

/* link.c */
extern void link_set_state(OriginLink *link, LinkState state);
extern void link_break(OriginLink *link, const char *sqlstate, const char *text);
extern LinkExchange *link_ask_own(OriginLink *link, LinkPurpose purpose);
extern void link_on_ready(ReactorSource *source, int events);
extern void link_watch(OriginLink *link);
extern void link_go_on(OriginLink *link);	/* the FIFO has run empty or a cancel has ended: next step of an abandoned or returned link */

extern void link_flush_now(ReactorTask *task);
extern void link_tell_owner(LinkExchange *e, const LinkNews *news); /* nobody is told when the owner has gone */
extern void link_tell_ask(LinkExchange *e, const Ask *ask, LinkOutcome outcome);	/* or frees its note */
extern void link_not_fulfilled(LinkExchange *e, const Ask *ask, LinkOutcome outcome);
extern void link_on_dropped(void *arg, const Ask *ask);	/* arg: the exchange; as exchange_answered wants it */
extern void link_take_head(OriginLink *link);
extern bool link_ask_mark(OriginLink *link);	/* behind an exchange that is unsure: its first answer ends that */
extern void link_exchange_free(LinkExchange *e);

/* link_ride.c */
extern void link_ping(OriginLink *link);
extern void link_head_began(OriginLink *link, int64 since);	/* another exchange is the oldest now */
extern void link_exchange_measure(LinkExchange *e);	/* it has ended: how long it took, and what that says of the link */
extern void link_ride_note_parse(OriginLink *link, uint32 number);
extern void link_ride_parsed(OriginLink *link, uint32 number, bool well);

/* link_connect.c */
extern bool link_connect_begin(OriginLink *link);
extern void link_connect_step(OriginLink *link);
extern void link_connect_end(OriginLink *link);	/* frees what only connecting needs */

/* link_session.c */
extern void link_note_parameter(OriginLink *link, Bytes name, Bytes value);
extern void link_release_parameters(OriginLink *link);	/* nobody is to be told any more */
extern void link_free_session(OriginLink *link);
extern void link_part(OriginLink *link);	/* another client is next: what was read under this one's own settings is not counted on */
extern bool link_ask_reset(OriginLink *link);
extern bool link_ask_rollback(OriginLink *link);
/* An exchange of the link's own has ended; failed: the origin answered with an error. */
extern void link_own_ended(OriginLink *link, LinkPurpose purpose, bool failed);

/* link_cancel.c */
extern void link_cancel_forget(OriginLink *link);	/* the link goes away */

/*
 * Does a cancel sent now reach what the client has asked? A BEGIN in front of that is answered together with it, as the origin has no reason to send before; and if the cancel
 * hits the BEGIN nothing runs.
 */
static inline bool
link_may_cancel(const OriginLink *link)
{
	return link->head && (link->head->purpose == PURPOSE_CLIENT || link->head->purpose == PURPOSE_BEGIN);
}

#endif
