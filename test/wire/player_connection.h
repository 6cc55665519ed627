/*
 * player_connection.h: a connection of a play: bytes in time, the login on the way, and a trace of what came.
 *
 * Whatever waits here has a deadline, which each byte of progress starts anew; when it passes, the play ends. A connection that is closed (stream.fd is -1) takes
 * and gives nothing.
 */
#ifndef WIRE_PLAYER_CONNECTION_H
#define WIRE_PLAYER_CONNECTION_H

#include "login.h"
#include "player_trace.h"

typedef struct Connection
{
	const struct Play *play;
	const Target *target;
	Stream		stream;
	Login		login;
	CancelKey	key;
	Trace		trace;
	int			split;			/* bytes a write; 0: all at once */
	uint64_t	cut;			/* not 0: writes of random lengths; the state of their generator */
	Cursor		last;			/* the body of the message read last; valid until the next read */
	long		step_count[256];	/* messages since the last command that read, by type */
	char		step_last;
} Connection;

extern void connection_init(Connection *c, const struct Play *play, const char *name);
extern void connection_free(Connection *c);
extern void connection_open(Connection *c, const Target *target);
extern void connection_close(Connection *c);

extern void flush_out(Connection *c);
extern char read_message(Connection *c, const char *waiting_for);	/* its type; 0 when the other side has closed */
extern void read_until(Connection *c, char type, int n);	/* the n-th message of the type; type 0: the end */
extern void read_what_is_there(Connection *c);
extern void note_closed(Connection *c);
extern void forget_step(Connection *c);

#endif
