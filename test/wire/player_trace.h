/*
 * player_trace.h: what one connection was told, as text: a line a message, every field in it.
 *
 * README.md ("The trace") says what the lines look like. In a brief trace a run of DataRow or CopyData is one line, written when the run ends: before anything
 * else is written, or by trace_end_run.
 */
#ifndef WIRE_PLAYER_TRACE_H
#define WIRE_PLAYER_TRACE_H

#include "bytes.h"

#include <stdio.h>

typedef struct Trace
{
	char		name[32];		/* of the connection */
	bool		brief;
	FILE	   *file;			/* writes text and len, when flushed */
	char	   *text;
	size_t		len;
	size_t		shown;			/* so much of it has been printed */
	char		run_type;		/* of the run of messages being counted */
	long		run_count;
	uint64_t	run_hash;
} Trace;

extern void trace_open(Trace *t, const char *name, bool brief);
extern void trace_close(Trace *t);
extern void trace_sent(Trace *t, const char *line);
extern void trace_answer(Trace *t, char type, Cursor body);
extern void trace_event(Trace *t, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void trace_closed(Trace *t, const Buffer *left);
extern void trace_end_run(Trace *t);
extern void trace_print(Trace *t);	/* what has not been printed yet */

#endif
