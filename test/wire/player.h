/*
 * player.h: a play: one script, the connections it has opened, and those beside it to the origin itself.
 *
 * player.c owns the one Play and its script; player_commands.c does the lines; player_control.c asks the origin itself. fail and timed_out end the play: what was
 * traced is printed, and the teardown is run.
 */
#ifndef WIRE_PLAYER_H
#define WIRE_PLAYER_H

#include "player_connection.h"
#include "language.h"

#define MAX_CONNECTIONS 64

typedef struct Play
{
	Target		played;
	Target		to_control;
	Target		to_setup;		/* no host: the control connection does it */
	Target		to_ready;		/* no host: there is nothing to ask before a play */
	const char *record_folder;	/* NULL: nothing is recorded */
	const char *script_name;
	long		timeout_ms;
	long		deadline;		/* of it all */
	int			split;			/* of each new connection */
	bool		brief;
	bool		replayable;
	bool		live;
	bool		teardown_due;
	const char *last_write;		/* SQL, run before the last play; it may fail */
	const char *ready_query;	/* SQL, run before each play: when it is answered, the gateway knows what the setup has made */
	char	  **lines;
	int			line_count;
	int			line;			/* the number of the one that is done now */
	Connection	control;		/* waits for states of the origin; setup and teardown */
	Connection	setter;			/* runs setup and teardown, if they go another way */
	Connection	readier;		/* runs ready_query */
	Connection *connections[MAX_CONNECTIONS];
	int			connection_count;
	Connection *current;
} Play;

/* As fail, but it was an answer that did not come in time. */
extern void timed_out(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

/* player.c */
extern void keep_line(Play *p, const char *line);

/* player_commands.c */
extern void run_line(Play *p, const char *line);
extern void put_startup_line(Connection *c, Cursor *options);

/* player_control.c; false on an error, which is shown unless it may fail */
extern void open_control(Play *p, Connection *c, const char *name, const Target *target, const char *options);
extern bool control_query(Connection *c, const char *sql, bool may_fail);
extern bool control_line(Connection *c, Cursor *line);
extern void do_wait(Play *p, Cursor *c);
extern void do_control(Play *p, Cursor *c);
extern void do_settle(Play *p, Cursor *c);

#endif
