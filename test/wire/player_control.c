/*
 * player_control.c: what is said to the origin beside the script.
 *
 * It answers: has this state been reached; and, live, has an answer ended, so that a script can wait for just that? It owns nothing: the connections beside the
 * script are the play's. It never says anything on a connection of the script.
 */
#include "player.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

void
open_control(Play *p, Connection *c, const char *name, const Target *target, const char *options)
{
	Cursor		line = line_of(options);
	char		type;

	connection_init(c, p, name);
	connection_open(c, target);
	put_startup_line(c, &line);
	while ((type = read_message(c, "the login of the control connection")) != 'Z')
	{
		fflush(c->trace.file);
		if (type == 'E' || type == 0)
			fail("%s connection: %s", name, c->trace.text);
	}
}

/* ---- queries ---- */

/* The first column of a DataRow; empty if it is null. */
static void
first_column(Cursor row, Buffer *result)
{
	int32_t		len;

	get16(&row);
	len = get32(&row);
	clear(result);
	if (!row.bad && len > 0 && len <= row.end - row.p)
		put(result, row.p, len);
}

/* The first column of the last row goes to result, if there is one. */
static bool
control_answer(Connection *c, const Buffer *sql, Buffer *result, bool may_fail)
{
	Buffer		body = {0};
	bool		ok = true;
	char		type;

	put(&body, sql->data, sql->len);
	put(&body, "", 1);
	put_message(&c->stream.out, 'Q', &body);
	free(body.data);
	do
	{
		type = read_message(c, "the control connection");
		if (type == 'E' || type == 0)
		{
			fflush(c->trace.file);
			if (!may_fail)
				fprintf(stderr, "%.*s: %s\n", (int) sql->len, sql->data, c->trace.text);
			ok = false;
		}
		else if (type == 'D')
			first_column(c->last, result);
	} while (type != 'Z' && type != 0);
	rewind(c->trace.file);
	return ok;
}

bool
control_query(Connection *c, const char *text, bool may_fail)
{
	Buffer		sql = {0}, ignored = {0};
	bool		ok;

	put(&sql, text, strlen(text));
	ok = control_answer(c, &sql, &ignored, may_fail);
	free(sql.data);
	free(ignored.data);
	return ok;
}

bool
control_line(Connection *c, Cursor *line)
{
	Buffer		sql = {0};
	bool		ok;

	value(line, &sql);
	put(&sql, "", 1);
	ok = control_query(c, sql.data, false);
	free(sql.data);
	return ok;
}

/* control "sql": something that happens at the origin, beside all the script's connections. */
void
do_control(Play *p, Cursor *c)
{
	if (!control_line(&p->control, c))
		fail("failed on the control connection");
}

static bool
is_equal(const Buffer *a, const Buffer *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Polls until the query's first column is the value. */
void
do_wait(Play *p, Cursor *c)
{
	Buffer		sql = {0}, wanted = {0}, got = {0};
	long		deadline = now_ms() + p->timeout_ms;

	value(c, &sql);
	value(c, &wanted);
	if (p->current)
		flush_out(p->current);
	for (;;)
	{
		if (!control_answer(&p->control, &sql, &got, false))
			fail("the query of wait failed");
		if (is_equal(&got, &wanted))
			break;
		if (now_ms() > deadline)
			timed_out("waited in vain; last value \"%.*s\"", (int) got.len, got.data);
		pause_ms(10);
	}
	free(sql.data);
	free(wanted.data);
	free(got.data);
}

/* ---- live: when has an answer ended? ---- */

typedef enum Awaited
{
	NOTHING,					/* it works */
	CLIENT,
	LOCK
} Awaited;

/* What the origin's process waits for, once it has read all that was sent. */
static Awaited
what_is_awaited(Play *p, Connection *c)
{
	Buffer		sql = {0}, event = {0};
	int			unread = 1;
	Awaited		awaited = NOTHING;

	/* of a Unix socket: bytes that the other side has not read yet */
	if (c->stream.out.start < c->stream.out.len || ioctl(c->stream.fd, SIOCOUTQ, &unread) != 0 || unread > 0)
		return NOTHING;
	put_text(&sql, "select case when wait_event = 'ClientRead' then 'Client' else nullif(wait_event_type, 'Client') end "
			 "from pg_stat_activity where pid = %u", c->key.pid);
	if (!control_answer(&p->control, &sql, &event, false))
		fail("pg_stat_activity cannot be read");
	put(&event, "", 1);
	if (strcmp(event.data, "Client") == 0)
		awaited = CLIENT;
	else if (strcmp(event.data, "Lock") == 0)
		awaited = LOCK;
	free(sql.data);
	free(event.data);
	return awaited;
}

/* Prints what is new in the trace of the connection, and by which command a script waits for just that. */
static void
show_step(Connection *c, Awaited awaited)
{
	trace_print(&c->trace);
	if (c->stream.fd < 0)
		printf("== expect closed\n");
	else if (awaited == LOCK)
		printf("== locked\n");
	else if (c->step_last)
		printf("== expect %c %ld\n", c->step_last, c->step_count[(unsigned char) c->step_last]);
	else
		printf("== send\n");
	fflush(stdout);
	forget_step(c);
}

/* Reads until the origin has nothing more to say: it waits for us, for a lock, or it has closed. */
void
do_settle(Play *p, Cursor *ignored)
{
	Connection *c = p->current;
	long		deadline = now_ms() + p->timeout_ms;
	Awaited		awaited = NOTHING;

	if (!p->live || c->target->host[0] != '/')
		fail("settle needs --live and a Unix socket");
	while (c->stream.fd >= 0 && awaited == NOTHING)
	{
		read_what_is_there(c);
		if (c->stream.eof)
		{
			note_closed(c);
			break;
		}
		awaited = what_is_awaited(p, c);
		if (now_ms() > deadline)
			timed_out("it does not settle");
		if (awaited == NOTHING)
			pause_ms(0);
	}
	if (c->stream.fd >= 0)
		read_what_is_there(c);
	show_step(c, awaited);
}
