/*
 * player_connection.c: a connection of a play.
 *
 * It answers: what does this address say next? It owns the connection's pace (splitting, cutting, deadlines), its login, and what --record keeps. It never
 * knows what a script is.
 */
#include "player_connection.h"
#include "player.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPLIT_BELOW (256 * 1024)	/* a longer queue goes out in large writes even when split */
#define WRITE_MAX (1 << 20)

void
connection_init(Connection *c, const Play *play, const char *name)
{
	*c = (Connection) {.play = play, .stream.fd = -1};
	trace_open(&c->trace, name, play->brief);
}

void
connection_free(Connection *c)
{
	connection_close(c);
	trace_close(&c->trace);
	free(c->stream.in.data);
	free(c->stream.out.data);
}

void
connection_close(Connection *c)
{
	trace_end_run(&c->trace);
	stream_close(&c->stream);
}

/* ---- bytes in and out ---- */

/* With --record: what a connection of the play sent and what it got, in files named after script and connection. */
static void
record(const Connection *c, const char *way, const void *data, size_t len)
{
	char		path[512];
	FILE	   *f;

	if (c->play->record_folder == NULL || c->target != &c->play->played)
		return;
	snprintf(path, sizeof(path), "%s/%s.%s.%s", c->play->record_folder, c->play->script_name, c->trace.name, way);
	f = fopen(path, "ab");
	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
		fail("%s: %s", path, strerror(errno));
}

/* A length from 1 to len, short ones more often than long ones, and now and then a rest, so that the pieces arrive apart. */
static size_t
cut_length(Connection *c, size_t len)
{
	static const size_t most[] = {2, 9, 60, 700, 9000};
	size_t		limit = most[(next_random(&c->cut) >> 33) % 5];

	if (((c->cut >> 40) & 7) == 0)
		pause_ms(1);
	return 1 + (c->cut >> 45) % (limit < len ? limit : len);
}

static bool
write_some(Connection *c)
{
	Stream	   *s = &c->stream;
	size_t		len = s->out.len - s->out.start;
	ssize_t		n;

	if (len == 0)
		return false;
	if (c->split > 0 && len > (size_t) c->split && len <= SPLIT_BELOW)
		len = c->split;
	else if (c->cut != 0 && len <= SPLIT_BELOW)
		len = cut_length(c, len);
	n = stream_write(s, len < WRITE_MAX ? len : WRITE_MAX);
	if (n > 0)
		record(c, "sent", s->out.data + s->out.start - n, n);
	return n != 0;
}

static bool
read_some(Connection *c)
{
	ssize_t		n = stream_read(&c->stream);

	if (n > 0)
		record(c, "got", c->stream.in.data + c->stream.in.len - n, n);
	return n != 0;
}

/* One step of both directions. */
static void
move_bytes(Connection *c, long *deadline, const char *waiting_for)
{
	Stream	   *s = &c->stream;
	bool		moved = write_some(c);

	if (read_some(c) || moved)
	{
		*deadline = now_ms() + c->play->timeout_ms;
		return;
	}
	if (stream_wait(s, s->out.start < s->out.len ? POLLIN | POLLOUT : POLLIN, *deadline < c->play->deadline ? *deadline : c->play->deadline))
		return;
	trace_event(&c->trace, "timeout waiting for %s", waiting_for);
	timed_out("connection %s: timeout waiting for %s", c->trace.name, waiting_for);
}

void
flush_out(Connection *c)
{
	Stream	   *s = &c->stream;
	long		deadline = now_ms() + c->play->timeout_ms;

	if (s->fd < 0 || s->write_dead)
		clear(&s->out);
	while (s->out.start < s->out.len)
		move_bytes(c, &deadline, "the socket to take bytes");
}

static void
start_tls(Connection *c)
{
	Stream	   *s = &c->stream;
	long		deadline = now_ms() + c->play->timeout_ms;

	stream_ask_for_tls(s);
	flush_out(c);
	while (s->in.len == s->in.start && !s->eof)
		move_bytes(c, &deadline, "the answer to SSLRequest");
	if (s->eof || !stream_start_tls(s, deadline))
		fail("connection %s: no TLS", c->trace.name);
}

void
connection_open(Connection *c, const Target *target)
{
	c->target = target;
	c->split = 0;
	c->cut = 0;
	if (!stream_open(&c->stream, target, c->play->timeout_ms))
		fail("connect to %s port %s: %s", target->host, target->port, strerror(errno));
	if (target->tls)
		start_tls(c);
	if (target == &c->play->played)
		c->split = c->play->split;
}

/* ---- messages in ---- */

/* Is there a whole message? */
static bool
has_message(Connection *c)
{
	Stream	   *s = &c->stream;
	long		len = stream_message_length(s);

	if (len < 0 && !s->eof)
	{
		s->eof = s->write_dead = true;
		trace_event(&c->trace, "a message of impossible length");
	}
	return len > 0;
}

/* Of the login only AuthenticationOk is traced: which method is asked for is a matter of the address's own pg_hba.conf, not of the conversation. */
char
read_message(Connection *c, const char *waiting_for)
{
	long		deadline = now_ms() + c->play->timeout_ms;
	char		type;

	if (c->stream.fd < 0)
		return 0;
	while (!has_message(c))
	{
		if (c->stream.eof)
			return 0;
		move_bytes(c, &deadline, waiting_for);
	}
	type = stream_take_message(&c->stream, &c->last);
	if (type == 'R' && !login_answer(&c->login, c->target, c->last, &c->stream.out))
		return type;
	if (type == 'K')
		get_cancel_key(&c->key, c->last);
	c->step_count[(unsigned char) type]++;
	c->step_last = type;
	trace_answer(&c->trace, type, c->last);
	return type;
}

void
note_closed(Connection *c)
{
	if (c->stream.fd >= 0)
		trace_closed(&c->trace, &c->stream.in);
	stream_close(&c->stream);
}

void
forget_step(Connection *c)
{
	memset(c->step_count, 0, sizeof(c->step_count));
	c->step_last = 0;
}

void
read_until(Connection *c, char type, int n)
{
	char		waiting_for[64] = "the end of the connection";
	char		got;

	if (type)
		snprintf(waiting_for, sizeof(waiting_for), "%d x '%c' (line %d)", n, type, c->play->line);
	flush_out(c);
	while (n > 0)
	{
		got = read_message(c, waiting_for);
		if (got == 0)
		{
			note_closed(c);
			return;
		}
		if (got == type)
			n--;
	}
	trace_end_run(&c->trace);
	forget_step(c);
}

void
read_what_is_there(Connection *c)
{
	long		deadline = now_ms() + c->play->timeout_ms;

	while (read_some(c) || has_message(c))
		while (has_message(c))
			read_message(c, "nothing");
	if (!c->stream.eof && c->stream.out.start < c->stream.out.len)
		move_bytes(c, &deadline, "the socket to take bytes");
}
