/*
 * player_commands.c: the commands of a script.
 *
 * It answers: what does this line do to the connections of the play? It owns the table of commands, and makes connections. It never looks at an answer, nor at
 * the lines before and behind.
 */
#define _GNU_SOURCE
#include "player.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- commands that queue a message ---- */

static void
queue_message(Play *p, char type, Cursor *c)
{
	Buffer		body = {0};

	message_body(type, c, &body);
	put_message(&p->current->stream.out, type, &body);
	free(body.data);
}

static void
do_msg(Play *p, Cursor *c)
{
	Buffer		body = {0};
	char		type[2];

	word(c, type, sizeof(type));
	if (!at_end(c))
		value(c, &body);
	put_message(&p->current->stream.out, type[0], &body);
	free(body.data);
}

static void
do_raw(Play *p, Cursor *c)
{
	value(c, &p->current->stream.out);
}

static void
put_default(Buffer *body, bool given, const char *name, const char *text)
{
	if (given)
		return;
	put_string(body, name);
	put_string(body, text);
}

/* "3.2" */
static void
read_version(const char *text, int *major, int *minor)
{
	char	   *rest;

	*major = (int) strtol(text, &rest, 10);
	if (*rest == '.')
		*minor = (int) strtol(rest + 1, NULL, 10);
}

void
put_startup_line(Connection *c, Cursor *line)
{
	Buffer		options = {0}, text = {0}, body = {0};
	char		name[64];
	int			major = 3, minor = 0;
	bool		user = false, database = false;

	while (!at_end(line))
	{
		option(line, name, sizeof(name), &text);
		if (strcmp(name, "protocol") == 0)
		{
			read_version(text.data, &major, &minor);
			continue;
		}
		user |= strcmp(name, "user") == 0;
		database |= strcmp(name, "database") == 0;
		put_string(&options, name);
		put(&options, text.data, text.len);
	}
	put_default(&body, user, "user", c->target->user);
	put_default(&body, database, "database", c->target->dbname);
	put(&body, options.data, options.len);
	put_startup(&c->stream.out, major, minor, &body);
	free(options.data);
	free(text.data);
	free(body.data);
}

static void
do_startup(Play *p, Cursor *c)
{
	put_startup_line(p->current, c);
}

/* ---- commands about connections ---- */

static Connection *
find_connection(const Play *p, const char *name)
{
	for (int i = 0; i < p->connection_count; i++)
		if (strcmp(p->connections[i]->trace.name, name) == 0)
			return p->connections[i];
	return NULL;
}

static Connection *
known_connection(const Play *p, Cursor *c)
{
	char		name[32];
	Connection *found;

	word(c, name, sizeof(name));
	found = find_connection(p, name);
	if (found == NULL)
		fail("no connection \"%s\"", name);
	return found;
}

static Connection *
named_connection(Play *p, Cursor *c)
{
	char		name[32];
	Connection *made;

	word(c, name, sizeof(name));
	made = find_connection(p, name);
	if (made != NULL)
		return made;
	made = malloc(sizeof(Connection));
	if (made == NULL || p->connection_count == MAX_CONNECTIONS)
		fail("too many connections");
	connection_init(made, p, name);
	return p->connections[p->connection_count++] = made;
}

static void
do_open(Play *p, Cursor *c)
{
	p->current = named_connection(p, c);
	if (p->current->stream.fd >= 0)
		fail("connection \"%s\" is open", p->current->trace.name);
	connection_open(p->current, &p->played);
}

static void
do_connect(Play *p, Cursor *c)
{
	do_open(p, c);
	do_startup(p, c);
	read_until(p->current, 'Z', 1);
}

static void
do_expect(Play *p, Cursor *c)
{
	char		what[16];

	word(c, what, sizeof(what));
	if (strcmp(what, "closed") == 0)
		read_until(p->current, 0, 1);
	else if (what[0] != '\0' && what[1] == '\0')
		read_until(p->current, what[0], (int) number(c, 1));
	else
		fail("expect a message type or \"closed\"");
}

static void
do_send(Play *p, Cursor *c)
{
	flush_out(p->current);
}

static void
do_split(Play *p, Cursor *c)
{
	flush_out(p->current);
	p->current->split = (int) number(c, 0);
}

static void
do_cut(Play *p, Cursor *c)
{
	flush_out(p->current);
	p->current->cut = (uint64_t) number(c, 0);
}

static void
do_shutdown(Play *p, Cursor *c)
{
	Stream	   *s = &p->current->stream;

	flush_out(p->current);
	if (s->ssl)
		SSL_shutdown(s->ssl);
	shutdown(s->fd, SHUT_WR);
}

static void
do_close(Play *p, Cursor *c)
{
	flush_out(p->current);
	connection_close(p->current);
}

/* Closes with a reset, as a client that was killed with unread bytes does. */
static void
do_reset(Play *p, Cursor *c)
{
	struct linger l = {1, 0};

	flush_out(p->current);
	setsockopt(p->current->stream.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	connection_close(p->current);
}

/* cancel NAME [wrong]: on a connection of its own, which the other side has to close. */
static void
do_cancel(Play *p, Cursor *c)
{
	Connection *whom = known_connection(p, c);
	CancelKey	key = whom->key;
	Connection	canceller;
	char		how[16];

	word(c, how, sizeof(how));
	if (strcmp(how, "wrong") == 0 && key.len > 0)
		key.key[key.len - 1] ^= 1;
	flush_out(whom);
	connection_init(&canceller, p, "cancel");
	connection_open(&canceller, &p->played);
	put_cancel(&canceller.stream.out, &key);
	flush_out(&canceller);
	while (read_message(&canceller, "the end of the cancel connection") != 0)
		;
	connection_free(&canceller);
}

/* ---- others ---- */

static void
do_sleep(Play *p, Cursor *c)
{
	flush_out(p->current);
	pause_ms(number(c, 0));
}

static void
do_timeout(Play *p, Cursor *c)
{
	p->timeout_ms = number(c, p->timeout_ms);
}

/* Live, a setup is run when it comes, and a teardown is kept for the end; of a script that is known both are no part of the play. */
static void
do_section(Play *p, Cursor *c, const char *line)
{
	if (!p->live)
		return;
	p->teardown_due = true;
	if (strncmp(line, "setup", 5) == 0)
		do_control(p, c);
	else
		keep_line(p, line);
}

/* ---- a line ---- */

typedef enum CommandKind
{
	SENDS,						/* queues bytes on the current connection */
	ACTS,						/* anything else */
	SECTION,					/* setup, teardown */
	DECLARES					/* read before the play, not in it */
} CommandKind;

static const struct Command
{
	const char *name;
	CommandKind kind;
	void		(*run) (Play *p, Cursor *c);
}			commands[] = {
	{"msg", SENDS, do_msg},
	{"raw", SENDS, do_raw},
	{"startup", SENDS, do_startup},
	{"connect", ACTS, do_connect},
	{"open", ACTS, do_open},
	{"expect", ACTS, do_expect},
	{"send", ACTS, do_send},
	{"split", ACTS, do_split},
	{"cut", ACTS, do_cut},
	{"settle", ACTS, do_settle},
	{"shutdown", ACTS, do_shutdown},
	{"close", ACTS, do_close},
	{"reset", ACTS, do_reset},
	{"cancel", ACTS, do_cancel},
	{"wait", ACTS, do_wait},
	{"control", ACTS, do_control},
	{"sleep", ACTS, do_sleep},
	{"timeout", ACTS, do_timeout},
	{"setup", SECTION, NULL},
	{"teardown", SECTION, NULL},
	{"allow", DECLARES, NULL},
	{"links", DECLARES, NULL},
	{"brief", DECLARES, NULL},
	{"replayable", DECLARES, NULL},
	{"afresh", DECLARES, NULL},
};

static const struct Command *
find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

void
run_line(Play *p, const char *line)
{
	Cursor		c = line_of(line);
	const struct Command *command;
	char		name[32];

	if (take_char(&c, '@'))
		p->current = known_connection(p, &c);
	if (at_end(&c))
		return;
	word(&c, name, sizeof(name));
	command = find_command(name);
	if (command == NULL && !is_message(name))
		fail("what is \"%s\"?", name);
	if (command == NULL || command->kind == SENDS)
	{
		if (p->current == NULL)
			fail("no connection yet");
		trace_sent(&p->current->trace, line);
	}
	if (command == NULL)
		queue_message(p, name[0], &c);
	else if (command->run)
		command->run(p, &c);
	else if (command->kind == SECTION)
		do_section(p, &c, line);
	if ((command == NULL || command->run) && !at_end(&c))
		fail("not understood: %s", (const char *) c.p);
}
