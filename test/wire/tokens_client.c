/*
 * tokens_client.c: the connection of a client.
 *
 * It answers: what does the other side say next, in a line; and is a token of somebody else in it? It owns the client's socket and login. It never knows what
 * should have been said.
 */
#define _GNU_SOURCE
#include "language.h"
#include "tokens.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t
chance(Client *c, uint32_t below)
{
	return (uint32_t) (next_random(&c->random) >> 33) % below;
}

/* ---- messages out ---- */

static void
say_line(Client *c, char *line)
{
	Cursor		arguments = line_of(line + 1);
	Buffer		body = {0};

	message_body(line[0], &arguments, &body);
	put_message(&c->stream.out, line[0], &body);
	free(body.data);
	put_text(&c->said, "%s\n", line);
	if (line[0] == 'Q' || line[0] == 'S')
		c->exchanges++;
}

void
say(Client *c, const char *format,...)
{
	char		lines[4096];
	char	   *save;
	va_list		args;

	va_start(args, format);
	vsnprintf(lines, sizeof(lines), format, args);
	va_end(args);
	for (char *line = strtok_r(lines, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		say_line(c, line);
}

bool
send_out(Client *c, size_t most)
{
	Stream	   *s = &c->stream;
	long		deadline = now_ms() + run.patience_ms;
	ssize_t		n;

	for (; most > 0 && s->out.start < s->out.len; most -= n)
	{
		n = stream_write(s, most);
		if (n < 0)
			return false;
		if (n == 0 && !stream_wait(s, POLLOUT, deadline))
		{
			violation(c, "nothing was taken within %ld ms", run.patience_ms);
			return false;
		}
	}
	return true;
}

/* ---- messages in ---- */

/* More bytes, in time. */
bool
receive(Client *c)
{
	Stream	   *s = &c->stream;
	long		deadline = now_ms() + run.patience_ms;
	ssize_t		n;

	while ((n = stream_read(s)) == 0 && !s->eof)
		if (!stream_wait(s, POLLIN, deadline))
		{
			violation(c, "no answer within %ld ms", run.patience_ms);
			s->eof = true;
		}
	return n > 0;
}

/* Somebody else's token anywhere in the message. */
static bool
has_foreign_token(const Client *c, Cursor body)
{
	const char *p = (const char *) body.p;
	const char *end = (const char *) body.end;
	char		mine[16];

	snprintf(mine, sizeof(mine), "~%d.", FIRST_NUMBER + c->number);
	while ((p = memchr(p, '~', (size_t) (end - p))) != NULL)
	{
		if (end - p < 5 || p[4] != '.')
		{
			p++;				/* the end of a token */
			continue;
		}
		if (memcmp(p, mine, 5) != 0)
			return true;
		p += 5;
	}
	return false;
}

static bool
has_message(Client *c)
{
	long		len = stream_message_length(&c->stream);

	if (len < 0 && !c->stream.eof)
	{
		violation(c, "a message of impossible length");
		c->stream.eof = true;
	}
	return len > 0;
}

static void
row_to_text(Cursor body, char *line, size_t size)
{
	size_t		at = (size_t) snprintf(line, size, "D ");
	int			columns = get16(&body);

	for (int i = 0; i < columns && !body.bad; i++)
	{
		int32_t		len = get32(&body);

		if (i > 0 && at + 1 < size)
			line[at++] = '|';
		for (; len > 0 && body.p < body.end; len--, body.p++)
			if (at + 1 < size)
				line[at++] = (char) *body.p;
	}
	line[at] = '\0';
}

static void
error_to_text(char type, Cursor body, char *line, size_t size)
{
	const char *code = "?";
	const char *message = "?";
	uint32_t	field;

	while ((field = get_uint(&body, 1)) != 0)
	{
		const char *text = get_string(&body);

		if (field == 'C')
			code = text;
		else if (field == 'M')
			message = text;
	}
	snprintf(line, size, "%c %s|%s", type, code, message);
}

/* A line of copy data, without its end. */
static void
copy_to_text(Cursor body, char *line, size_t size)
{
	int			len = (int) (body.end - body.p);

	if (len > 0 && body.p[len - 1] == '\n')
		len--;
	snprintf(line, size, "d %.*s", len, (const char *) body.p);
}

static void
learn_key(Client *c, Cursor body)
{
	pthread_mutex_lock(&run.keys_lock);
	get_cancel_key(&c->key, body);
	pthread_mutex_unlock(&run.keys_lock);
}

/* The next message as a line. */
bool
next_line(Client *c, char *line, size_t size)
{
	Cursor		body;
	const char *name;
	char		type;

	while (!has_message(c))
		if (c->stream.eof || !receive(c))
			return false;
	type = stream_take_message(&c->stream, &body);
	if (type != 'K' && has_foreign_token(c, body))	/* the key is of random bytes */
		violation(c, "somebody else's token in %c: %.*s", type, body.end - body.p > 200 ? 200 : (int) (body.end - body.p), (const char *) body.p);
	snprintf(line, size, "%c", type);
	switch (type)
	{
		case 'D': row_to_text(body, line, size); break;
		case 'E':
		case 'N': error_to_text(type, body, line, size); break;
		case 'C': snprintf(line, size, "C %s", get_string(&body)); break;
		case 'Z': snprintf(line, size, "Z %c", (int) get_uint(&body, 1)); break;
		case 'S':
			name = get_string(&body);
			snprintf(line, size, "S %s=%s", name, get_string(&body));
			break;
		case 'd': copy_to_text(body, line, size); break;
		case 'T': snprintf(line, size, "T %d", get16(&body)); break;
		case 'K': learn_key(c, body); break;
		case 'R': login_answer(&c->login, c->target, body, &c->stream.out); break;
	}
	return true;
}

/* ---- connecting ---- */

static void
say_startup(Client *c)
{
	Buffer		parameters = {0};
	char		name[16];
	const char *const pairs[] = {"user", c->target->user, "database", c->target->dbname, "TimeZone", zones[c->zone], "DateStyle", styles[c->style],
	"search_path", places[c->place], "application_name", name};

	snprintf(name, sizeof(name), "tokens %d", c->number % 5);
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		put_string(&parameters, pairs[i]);
	put_startup(&c->stream.out, 3, 0, &parameters);
	free(parameters.data);
}

static bool
start_tls(Client *c)
{
	stream_ask_for_tls(&c->stream);
	return send_out(c, SIZE_MAX) && receive(c) && stream_start_tls(&c->stream, now_ms() + run.patience_ms);
}

bool
log_in(Client *c)
{
	char		line[1024];

	c->prepared = false;
	c->status = 'I';
	if (!stream_open(&c->stream, c->target, run.patience_ms) || (c->target->tls && !start_tls(c)))
		return false;
	say_startup(c);
	while (send_out(c, SIZE_MAX) && next_line(c, line, sizeof(line)))
	{
		if (line[0] == 'Z')
			return true;
		if (line[0] == 'E')
		{
			if (!run.losses_allowed)
				violation(c, "the login failed: %s", line);
			return false;
		}
	}
	return false;
}

void
hang_up(Client *c)
{
	pthread_mutex_lock(&run.keys_lock);
	c->key.len = 0;
	pthread_mutex_unlock(&run.keys_lock);
	stream_close(&c->stream);
}
