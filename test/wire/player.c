/*
 * player.c: plays one script of protocol messages and prints the trace of every answer.
 *
 * It answers: what exactly does this address say to these bytes? It owns the play: the script, its turns, the setup before and the teardown behind. It never uses
 * libpq, never judges an answer (run.pl compares two traces), and never waits without a deadline. With --live it takes the script line by line from its standard
 * input and can say when an answer has ended (settle), for those who do not know it before.
 *
 * Exit status: 0 played to the end, 2 an answer did not come in time, 3 the script, its setup or the connection is at fault.
 */
#define _GNU_SOURCE
#include "player.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_TIMEOUT 2
#define EXIT_FAULT 3
#define SCRIPT_SECONDS 240		/* no script plays longer than this */
#define READY_SECONDS 70		/* the query that is asked before a play gives up sooner */

/* The one of this process; fail must find it. */
static Play the_play = {.timeout_ms = 10000, .control.stream.fd = -1};

static bool run_section(Play *p, const char *section);
static void print_traces(Play *p, int turn);

/* ---- ends ---- */

static void
complain(const char *format, va_list args)
{
	if (the_play.line > 0)
		fprintf(stderr, "line %d: ", the_play.line);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

static void __attribute__((noreturn))
stop(int status)
{
	static bool stopping = false;
	Play	   *p = &the_play;

	if (!stopping)
	{
		stopping = true;
		print_traces(p, 0);
		p->deadline = now_ms() + p->timeout_ms;
		if (p->teardown_due && p->control.stream.fd >= 0)
			run_section(p, "teardown");
	}
	fflush(stdout);
	_exit(status);
}

void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	stop(EXIT_FAULT);
}

void
timed_out(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	complain(format, args);
	va_end(args);
	stop(EXIT_TIMEOUT);
}

/* What is still open says goodbye and must be closed by the other side. */
static void
close_all(Play *p)
{
	const Buffer nothing = {0};

	for (int i = 0; i < p->connection_count; i++)
	{
		Connection *c = p->connections[i];

		if (c->stream.fd < 0)
			continue;
		put_message(&c->stream.out, 'X', &nothing);
		read_until(c, 0, 1);
	}
}

static void
print_traces(Play *p, int turn)
{
	for (int i = 0; i < p->connection_count; i++)
	{
		printf("== play %d, connection %s\n", turn, p->connections[i]->trace.name);
		trace_print(&p->connections[i]->trace);
		connection_free(p->connections[i]);
		free(p->connections[i]);
	}
	p->connection_count = 0;
	p->current = NULL;
}

/* ---- the lines of a script ---- */

void
keep_line(Play *p, const char *line)
{
	p->lines = realloc(p->lines, (p->line_count + 1) * sizeof(char *));
	if (p->lines == NULL || (p->lines[p->line_count++] = strdup(line)) == NULL)
		fail("out of memory");
}

static bool
next_line(FILE *f, char **line)
{
	size_t		size = 0;
	ssize_t		n;

	free(*line);
	*line = NULL;
	n = getline(line, &size, f);
	if (n > 0 && (*line)[n - 1] == '\n')
		(*line)[n - 1] = '\0';
	return n >= 0;
}

static bool
line_starts(const char *line, const char *name, Cursor *rest)
{
	char		first[32];

	*rest = line_of(line);
	word(rest, first, sizeof(first));
	return strcmp(first, name) == 0;
}

static void
read_script(Play *p, const char *path)
{
	FILE	   *f = fopen(path, "r");
	char	   *line = NULL;
	Cursor		rest;

	if (f == NULL)
		fail("%s: %s", path, strerror(errno));
	while (next_line(f, &line))
	{
		keep_line(p, line);
		p->brief |= line_starts(line, "brief", &rest);
		p->replayable |= line_starts(line, "replayable", &rest);
	}
	free(line);
	fclose(f);
}

/* The line with each $i replaced by the turn of the innermost repeat. */
static void
run_line_in_turn(Play *p, const char *line, long turn)
{
	Buffer		text = {0};

	for (const char *at = line; *at; at++)
	{
		if (at[0] == '$' && at[1] == 'i' && !isalnum((unsigned char) at[2]))
		{
			put_text(&text, "%ld", turn);
			at++;
		}
		else
			put(&text, at, 1);
	}
	put(&text, "", 1);
	run_line(p, text.data);
	free(text.data);
}

static int
matching_end(Play *p, int i)
{
	int			depth = 1;
	Cursor		rest;

	while (++i < p->line_count)
	{
		if (line_starts(p->lines[i], "repeat", &rest))
			depth++;
		else if (line_starts(p->lines[i], "end", &rest) && --depth == 0)
			return i;
	}
	fail("repeat without end");
}

static void
run_lines(Play *p, int from, int to, long turn)
{
	Cursor		rest;

	for (int i = from; i < to; i++)
	{
		p->line = i + 1;
		if (line_starts(p->lines[i], "repeat", &rest))
		{
			int			end = matching_end(p, i);
			long		times = number(&rest, 1);

			for (long k = 1; k <= times; k++)
				run_lines(p, i + 1, end, k);
			i = end;
		}
		else
			run_line_in_turn(p, p->lines[i], turn);
	}
}

/* ---- before and behind ---- */

/* Who does the setup and what belongs to it. */
static Connection *
setter(Play *p)
{
	return p->to_setup.host[0] ? &p->setter : &p->control;
}

static bool
run_section(Play *p, const char *section)
{
	Cursor		rest;
	bool		ok = true;

	for (int i = 0; i < p->line_count; i++)
	{
		if (!line_starts(p->lines[i], section, &rest))
			continue;
		p->line = i + 1;
		ok &= control_line(setter(p), &rest);
	}
	return ok;
}

static void
set_up(Play *p)
{
	p->teardown_due = true;
	if (!run_section(p, "setup"))
		fail("setup failed");
}

static void
tear_down(Play *p)
{
	if (!p->teardown_due)
		return;
	p->teardown_due = false;
	if (!run_section(p, "teardown"))
		fail("teardown failed");
}

/* What a gateway has to learn first is no answer of the play: on a slow machine it may take longer. */
static void
wait_until_ready(Play *p)
{
	long		patience = p->timeout_ms;

	if (p->to_ready.host[0] == '\0' || p->ready_query == NULL)
		return;
	p->timeout_ms = READY_SECONDS * 1000L;
	if (!control_query(&p->readier, p->ready_query, false))
		fail("not ready for a play");
	p->timeout_ms = patience;
}

/* ---- plays ---- */

static void
play(Play *p, int times)
{
	for (int turn = 1; turn <= times; turn++)
	{
		if (turn == 1 || !p->replayable)
			set_up(p);
		/* what stands between the last play and those before it: the same way as the setup */
		if (turn == times && turn > 1 && p->last_write)
			control_query(setter(p), p->last_write, true);
		wait_until_ready(p);
		run_lines(p, 0, p->line_count, 0);
		close_all(p);
		print_traces(p, turn);
		if (turn == times || !p->replayable)
			tear_down(p);
	}
}

static void
play_live(Play *p)
{
	char	   *line = NULL;

	while (next_line(stdin, &line))
	{
		p->line++;
		run_line(p, line);
	}
	free(line);
	close_all(p);
	print_traces(p, 1);
	tear_down(p);
}

/* ---- the command line ---- */

static void
usage(void)
{
	fail("usage: player --target CONNINFO [--control CONNINFO] [--setup CONNINFO] [--repeat N] [--stay 1] [--write SQL] [--ready CONNINFO --ready-query SQL] [--split N] [--timeout MS] [--record FOLDER] SCRIPT | --live 1 -");
}

static bool
is(const char *option, const char *name)
{
	return strcmp(option, name) == 0;
}

/* How often it is to be played. */
static int
read_options(Play *p, int argc, char **argv)
{
	int			times = 1;
	int			i;

	for (i = 1; i + 1 < argc; i += 2)
	{
		const char *name = argv[i];
		const char *text = argv[i + 1];

		if (is(name, "--target"))
			read_target(&p->played, text);
		else if (is(name, "--control"))
			read_target(&p->to_control, text);
		else if (is(name, "--setup"))
			read_target(&p->to_setup, text);
		else if (is(name, "--repeat"))
			times = (int) strtol(text, NULL, 10);
		else if (is(name, "--record"))
			p->record_folder = text;
		else if (is(name, "--split"))
			p->split = (int) strtol(text, NULL, 10);
		else if (is(name, "--live"))
			p->live = strtol(text, NULL, 10) != 0;
		else if (is(name, "--stay"))
			p->replayable = strtol(text, NULL, 10) != 0;
		else if (is(name, "--write"))
			p->last_write = text;
		else if (is(name, "--ready"))
			read_target(&p->to_ready, text);
		else if (is(name, "--ready-query"))
			p->ready_query = text;
		else if (is(name, "--timeout"))
			p->timeout_ms = strtol(text, NULL, 10);
		else
			usage();
	}
	if (i != argc - 1 || p->played.host[0] == '\0')
		usage();
	if (p->to_control.host[0] == '\0')
		p->to_control = p->played;
	p->script_name = strrchr(argv[i], '/') ? strrchr(argv[i], '/') + 1 : argv[i];
	return times;
}

int
main(int argc, char **argv)
{
	Play	   *p = &the_play;
	int			times;

	/* the last resort, should a deadline be missed */
	alarm(SCRIPT_SECONDS + 30);
	p->deadline = now_ms() + SCRIPT_SECONDS * 1000L;
	times = read_options(p, argc, argv);
	if (!p->live)
		read_script(p, argv[argc - 1]);
	open_control(p, &p->control, "control", &p->to_control, "lock_timeout=5000");
	if (p->to_setup.host[0] != '\0')
		open_control(p, &p->setter, "setup", &p->to_setup, "");
	if (p->to_ready.host[0] != '\0')
		open_control(p, &p->readier, "ready", &p->to_ready, "");
	if (p->live)
		play_live(p);
	else
		play(p, times);
	return 0;
}
