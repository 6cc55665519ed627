/*
 * tokens.c: many clients at once, each of which knows every byte it must be told.
 *
 * It answers: does a client among others get its own answers, all of them, in order and with the right ReadyForQuery, whatever the others do?
 * One thread a client, sockets of its own, no libpq. A client makes random requests from a seed (simple, extended, prepared; pipelined; in and
 * out of transactions; under its own TimeZone, DateStyle and search_path) together with the answer of a direct connection, computed
 * beforehand. Each request has a token, ~client.request~, that is in everything it makes the other side say; a token of somebody else is an error
 * in every mode, and so is silence.
 *
 *   tokens --direct CONNINFO --setup                                  makes the tables, then ends
 *   tokens --direct CONNINFO --through CONNINFO [--through …] [--seed N] [--seconds N] [--clients N] [--victims N] [--stallers N]
 *         [--leavers N] [--lockers N] [--kill MS] [--control FIFO --reset MS] [--patience MS]
 *
 * --victims are cancelled all the time and may say so; the others must not notice. --stallers stop reading in the middle of a large answer.
 * --leavers go without a word. --lockers wait for each other's locks. --kill: every so often the origin ends a link; --control, --reset: of a relay.
 * Only then may a request fail with 08001, 08006, 08007 or 57P01, and a connection end.
 *
 * It prints counts as "name number" lines. Exit status: 0 no violation, 1 some, 2 it could not run.
 * It never decides what a gateway may do beyond that; docs/protocol.md does.
 */
#define _GNU_SOURCE
#include "tokens.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ROWS			10000	/* of hpc_own */
#define PIPELINE_MAX	8
#define UNWRITTEN		"nothing yet"

Run			run = {
	.seed = 1,
	.seconds = 10,
	.patience_ms = 10000,
	.count_of = {8},
	.keys_lock = PTHREAD_MUTEX_INITIALIZER,
	.report_lock = PTHREAD_MUTEX_INITIALIZER,
};

const char *const zones[ZONES] = {"UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"};
const char *const styles[STYLES] = {"ISO, MDY", "German, DMY", "SQL, MDY"};
const char *const places[PLACES] = {"hpc_a", "hpc_b"};

static const char *const role_names[ROLES] = {"steady", "victim", "staller", "leaver", "locker"};

void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

void
violation(Client *c, const char *format,...)
{
	va_list		args;

	pthread_mutex_lock(&run.report_lock);
	if (run.violations++ < 3)
	{
		fprintf(stderr, "client %d (%s, %s, %s, %s, seed %llu): ", c->number, role_names[c->role], zones[c->zone], styles[c->style], places[c->place],
				(unsigned long long) run.seed);
		va_start(args, format);
		vfprintf(stderr, format, args);
		va_end(args);
		fprintf(stderr, "\nit has said:\n%.*s\n", (int) c->said.len, c->said.data ? c->said.data : "");
	}
	run.stopping = true;
	pthread_mutex_unlock(&run.report_lock);
}

/* ---- judging an answer ---- */

static bool
may_fail_so(const Client *c, const char *line)
{
	if (c->role == VICTIM && strncmp(line, "E 57014", 7) == 0)
	{
		run.cancelled++;
		return true;
	}
	/*
	 * Z E: a known difference. Who loses his link behind the end of a transaction, in the same pipeline, is told that his transaction has
	 * failed, though he is in none.
	 */
	if (run.losses_allowed && (strcmp(line, "Z E") == 0 || strncmp(line, "E 0800", 6) == 0 || strncmp(line, "E 57P01", 7) == 0))
	{
		run.lost++;
		return true;
	}
	return false;
}

/* Something failed that was allowed to: only tokens and the number of answers count for the rest. False: the connection has ended. */
static bool
drain(Client *c, int ready_seen)
{
	char		line[4096];

	while (ready_seen < c->exchanges)
	{
		if (!next_line(c, line, sizeof(line)))
			return false;
		if (line[0] == 'Z')
		{
			ready_seen++;
			c->status = line[2];
		}
	}
	return true;
}

/* A staller takes the beginning, and nothing for a while. */
static void
stall(Client *c)
{
	if (c->wanted.len > 200 * 1024)
	{
		receive(c);
		pause_ms(100 + chance(c, 700));
	}
}

typedef enum Outcome
{
	AS_WANTED, FAILED, ENDED, WRONG
} Outcome;

static Outcome
hear(Client *c)
{
	char	   *at = c->wanted.data;
	char	   *end;
	char		line[4096];
	int			ready_seen = 0;

	while (at < c->wanted.data + c->wanted.len)
	{
		end = strchr(at, '\n');
		*end = '\0';
		if (!next_line(c, line, sizeof(line)))
			return run.stopping ? WRONG : ENDED;
		if (strcmp(line, at) != 0)
		{
			if (may_fail_so(c, line))
				return drain(c, ready_seen + (line[0] == 'Z')) ? FAILED : ENDED;
			violation(c, "wanted \"%s\", got \"%s\"", at, line);
			return WRONG;
		}
		ready_seen += line[0] == 'Z';
		at = end + 1;
	}
	run.answered += c->exchanges;
	return AS_WANTED;
}

/* ---- after a failure: what holds now? ---- */

static void
clear_pipeline(Client *c)
{
	clear(&c->stream.out);
	clear(&c->wanted);
	clear(&c->said);
	c->exchanges = 0;
}

/* One request by hand; the row of the answer, or "" . */
static bool
ask_plainly(Client *c, const char *sql, char *row, size_t size)
{
	char		line[4096];

	clear_pipeline(c);
	say(c, "Q \"%s\"", sql);
	row[0] = '\0';
	if (!send_out(c, SIZE_MAX))
		return false;
	while (next_line(c, line, sizeof(line)))
	{
		if (line[0] == 'D')
			snprintf(row, size, "%s", line + 2);
		else if (line[0] == 'E' && !may_fail_so(c, line))
		{
			violation(c, "after a failure: %s", line);
			return false;
		}
		else if (line[0] == 'Z')
		{
			c->status = line[2];
			return true;
		}
	}
	return false;
}

static bool
is_possible(const Client *c, const char *value)
{
	for (int i = 0; i < c->possible_count; i++)
		if (strcmp(c->possible[i], value) == 0)
			return true;
	return false;
}

static void
use_another_row(Client *c)
{
	c->row = (c->row + CLIENTS_MAX) % ROWS;
	strcpy(c->own, UNWRITTEN);
	strcpy(c->committed, UNWRITTEN);
}

/*
 * Back to a known state: no transaction, the own row as it may be, or another one. False: connect anew. What was lost may be carried out later than
 * now, so that nothing is known of the row for good.
 */
static bool
recover(Client *c)
{
	char		row[256];
	char		sql[128];

	for (int tries = 0; tries < 20 && !run.stopping; tries++)
	{
		if (!ask_plainly(c, "rollback", row, sizeof(row)))
			return false;
		if (c->status != 'I')
			continue;
		snprintf(sql, sizeof(sql), "select v from public.hpc_own where c = %d", c->row);
		if (!ask_plainly(c, sql, row, sizeof(row)))
			return false;
		if (row[0] == '\0')
			continue;
		if (!is_possible(c, row))
		{
			violation(c, "the row holds \"%s\", which it may not", row);
			return false;
		}
		strcpy(c->own, row);
		strcpy(c->committed, row);
		if (c->possible_count > 1)
			use_another_row(c);
		return true;
	}
	return false;
}

/* ---- clients ---- */

static void
leave_in_the_middle(Client *c)
{
	struct linger l = {1, 0};

	if (chance(c, 2) == 0)
		setsockopt(c->stream.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	pause_ms(chance(c, 20));
}

static Outcome
converse(Client *c)
{
	int			n = 1 + (chance(c, 3) == 0 ? (int) chance(c, PIPELINE_MAX) : 0);
	size_t		part;

	clear_pipeline(c);
	/* unknown until all has been answered: its value before, and each it is given */
	c->possible_count = 0;
	add_possible(c, c->committed);
	if (strcmp(c->own, c->committed) != 0)
		add_possible(c, c->own);	/* of a transaction that goes on */
	for (int i = 0; i < n && c->possible_count < POSSIBLE_MAX; i++)
		ask_something(c);
	part = chance(c, 3) == 0 ? chance(c, (uint32_t) c->stream.out.len) : 0;
	if (!send_out(c, part))
		return ENDED;
	if (c->role == LEAVER && chance(c, 8) == 0)
	{
		leave_in_the_middle(c);
		return ENDED;
	}
	if (!send_out(c, SIZE_MAX))
		return ENDED;
	if (c->role == STALLER)
		stall(c);
	return hear(c);
}

static bool
may_end(const Client *c)
{
	return run.losses_allowed || c->role == LEAVER;
}

static void *
client_main(void *arg)
{
	Client	   *c = arg;
	long		until = now_ms() + run.seconds * 1000;
	bool		sure = true;

	c->stream.fd = -1;
	while (!run.stopping && now_ms() < until)
	{
		if (c->stream.fd < 0)
		{
			c->zone = (int) chance(c, ZONES);
			c->style = (int) chance(c, STYLES);
			c->place = (int) chance(c, PLACES);
			run.reconnected++;
			if (!log_in(c) || (!sure && !recover(c)))
			{
				hang_up(c);
				pause_ms(20);
				continue;
			}
			sure = true;
		}
		switch (converse(c))
		{
			case AS_WANTED:
				if (c->status == 'I' && chance(c, 40) == 0)
				{
					say(c, "X");
					send_out(c, SIZE_MAX);
					hang_up(c);
				}
				break;
			case FAILED:
				sure = recover(c);
				hang_up(c);		/* the settings are not certain */
				break;
			case ENDED:
				if (!may_end(c))
					violation(c, "the connection was closed");
				sure = false;
				hang_up(c);
				break;
			case WRONG:
				hang_up(c);
				return NULL;
		}
	}
	hang_up(c);
	return NULL;
}

/* ---- trouble makers ---- */

static void
cancel(const Target *target, const CancelKey *key)
{
	Stream		s = {.fd = -1};

	if (stream_open(&s, target, run.patience_ms))
	{
		put_cancel(&s.out, key);
		if (stream_write(&s, SIZE_MAX) > 0 && stream_wait(&s, POLLIN, now_ms() + 2000) && stream_read(&s) < 0)
			run.cancels_sent++;
	}
	stream_close(&s);
	free(s.in.data);
	free(s.out.data);
}

static void *
canceller_main(void *arg)
{
	Client		dice = {.random = run.seed ^ 0xcace};
	CancelKey	key;

	while (!run.stopping)
	{
		Client	   *c = &run.clients[chance(&dice, (uint32_t) run.client_count)];

		if (c->role != VICTIM)
			continue;
		pthread_mutex_lock(&run.keys_lock);
		key = c->key;
		pthread_mutex_unlock(&run.keys_lock);
		if (key.len > 0)
			cancel(c->target, &key);
		pause_ms(chance(&dice, 30));
	}
	return NULL;
}

static void
ask_origin(Client *c, const char *sql)
{
	char		row[256];

	if (!ask_plainly(c, sql, row, sizeof(row)))
		fail("a connection has ended");
}

static void
connect_by(Client *c, const Target *target)
{
	c->target = target;
	c->role = STEADY;
	if (!log_in(c))
		fail("no connection");
}

static void *
killer_main(void *arg)
{
	Client		c = {.random = run.seed, .number = 999};

	connect_by(&c, &run.direct);
	while (!run.stopping)
	{
		pause_ms(run.kill_every_ms);
		ask_origin(&c, "select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null and pid <> pg_backend_pid() "
				   "and application_name <> 'hyperpool scout' order by random() limit 1");
		run.kills++;
	}
	hang_up(&c);
	return NULL;
}

static void *
resetter_main(void *arg)
{
	FILE	   *f = fopen(run.control_fifo, "w");

	if (f == NULL)
		fail("%s: %s", run.control_fifo, strerror(errno));
	while (!run.stopping)
	{
		pause_ms(run.reset_every_ms);
		fputs("reset\n", f);
		fflush(f);
		run.kills++;
	}
	fclose(f);
	return NULL;
}

/* ---- before ---- */

static void
set_up(Client *c)
{
	char		sql[256];

	ask_origin(c, "drop schema if exists hpc_a, hpc_b cascade");
	ask_origin(c, "drop table if exists public.hpc_own, public.hpc_lock");
	ask_origin(c, "create table public.hpc_own (c int primary key, v text)");
	ask_origin(c, "create table public.hpc_lock (id int primary key)");
	ask_origin(c, "insert into public.hpc_lock values (1)");
	for (int i = 0; i < PLACES; i++)
	{
		snprintf(sql, sizeof(sql), "create schema %s create table place (id int primary key, who text)", places[i]);
		ask_origin(c, sql);
		snprintf(sql, sizeof(sql), "insert into %s.place select n, '%s-' || n from generate_series(1, 9) n", places[i], places[i]);
		ask_origin(c, sql);
	}
	snprintf(sql, sizeof(sql), "insert into public.hpc_own select n, '" UNWRITTEN "' from generate_series(0, %d) n", ROWS - 1);
	ask_origin(c, sql);
}

static void
learn_moments(Client *c)
{
	for (int z = 0; z < ZONES; z++)
		for (int s = 0; s < STYLES; s++)
		{
			char		sql[256];

			snprintf(sql, sizeof(sql), "set timezone = '%s'; set datestyle = '%s'; select " MOMENT, zones[z], styles[s]);
			if (!ask_plainly(c, sql, run.moments[z][s], sizeof(run.moments[z][s])) || !run.moments[z][s][0])
				fail("the direct connection does not answer");
		}
}

/* What a run before has left in the rows goes, by each way that clients will read them. */
static void
begin_rows(void)
{
	for (int i = 0; i < run.through_count; i++)
	{
		Client		c = {.number = 997};

		connect_by(&c, &run.through[i]);
		ask_origin(&c, "update public.hpc_own set v = '" UNWRITTEN "' where v <> '" UNWRITTEN "'");
		hang_up(&c);
	}
}

static void
make_clients(void)
{
	for (int role = 0; role < ROLES; role++)
		for (int i = 0; i < run.count_of[role]; i++)
		{
			Client	   *c = &run.clients[run.client_count];

			if (run.client_count == CLIENTS_MAX)
				fail("too many clients");
			c->number = run.client_count;
			c->role = (Role) role;
			c->target = &run.through[run.client_count % run.through_count];
			c->random = run.seed * UINT64_C(2654435761) + (uint64_t) run.client_count * UINT64_C(40503);
			c->row = run.client_count;
			strcpy(c->own, UNWRITTEN);
			strcpy(c->committed, UNWRITTEN);
			run.client_count++;
		}
}

/* ---- the command line ---- */

/* Is it only to be set up? */
static bool
read_options(int argc, char **argv)
{
	const struct
	{
		const char *name;
		long	   *place;
	}			numbers[] = {
		{"--seconds", &run.seconds}, {"--clients", &run.count_of[STEADY]}, {"--victims", &run.count_of[VICTIM]},
		{"--stallers", &run.count_of[STALLER]}, {"--leavers", &run.count_of[LEAVER]}, {"--lockers", &run.count_of[LOCKER]},
		{"--kill", &run.kill_every_ms}, {"--reset", &run.reset_every_ms}, {"--patience", &run.patience_ms}, {NULL}
	};
	int			setup = argc > 1 && strcmp(argv[argc - 1], "--setup") == 0;
	int			k;

	for (int i = 1; i < argc - setup; i += 2)
	{
		const char *name = argv[i];
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		for (k = 0; numbers[k].name && strcmp(name, numbers[k].name) != 0; k++)
			;
		if (numbers[k].name)
			*numbers[k].place = strtol(value, NULL, 10);
		else if (strcmp(name, "--direct") == 0)
			read_target(&run.direct, value);
		else if (strcmp(name, "--through") == 0 && run.through_count < THROUGH_MAX)
			read_target(&run.through[run.through_count++], value);
		else if (strcmp(name, "--seed") == 0)
			run.seed = strtoull(value, NULL, 10);
		else if (strcmp(name, "--control") == 0)
			run.control_fifo = value;
		else
			fail("%s: what is that? See the head of tokens.c", name);
	}
	run.losses_allowed = run.kill_every_ms > 0 || run.reset_every_ms > 0;
	return setup;
}

static void
start(pthread_t *threads, int *count, void *(*main) (void *), void *arg)
{
	if (pthread_create(&threads[(*count)++], NULL, main, arg) != 0)
		fail("no thread");
}

static void
run_clients(void)
{
	pthread_t	threads[CLIENTS_MAX];
	pthread_t	trouble[3];
	int			count = 0;
	int			trouble_count = 0;

	for (int i = 0; i < run.client_count; i++)
		start(threads, &count, client_main, &run.clients[i]);
	if (run.count_of[VICTIM] > 0)
		start(trouble, &trouble_count, canceller_main, NULL);
	if (run.kill_every_ms > 0)
		start(trouble, &trouble_count, killer_main, NULL);
	if (run.reset_every_ms > 0 && run.control_fifo)
		start(trouble, &trouble_count, resetter_main, NULL);
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	run.stopping = true;
	for (int i = 0; i < trouble_count; i++)
		pthread_join(trouble[i], NULL);
}

int
main(int argc, char **argv)
{
	Client		control = {.number = 998};
	bool		setup = read_options(argc, argv);

	connect_by(&control, &run.direct);
	if (setup)
	{
		set_up(&control);
		return 0;
	}
	if (run.through_count == 0)
		fail("--through is missing");
	learn_moments(&control);
	begin_rows();
	make_clients();
	run_clients();
	printf("violations %ld\nanswered %ld\nlost %ld\ncancelled %ld\nconnections %ld\ncancels %ld\nkills %ld\n", (long) run.violations, (long) run.answered,
		   (long) run.lost, (long) run.cancelled, (long) run.reconnected, (long) run.cancels_sent, (long) run.kills);
	return run.violations > 0 ? 1 : 0;
}
