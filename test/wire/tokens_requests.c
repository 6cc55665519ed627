/*
 * tokens_requests.c: what a client may say, and what it must be told.
 *
 * It answers: which request comes next, and what is the answer of a direct connection to it? Each request is said as lines of a script and wanted as lines of an
 * answer; both have the token. It owns nothing: all that an answer hangs on is the client's. It never sends.
 */
#define _GNU_SOURCE
#include "tokens.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BIG_ROWS 3000
#define EXTENDED "select $1::text, $2::int + 1, " MOMENT
#define PREPARED "select $1::text, who from place where id = $2::int"

static void
want(Client *c, const char *format,...)
{
	char		lines[4096];
	va_list		args;

	va_start(args, format);
	vsnprintf(lines, sizeof(lines), format, args);
	va_end(args);
	put_text(&c->wanted, "%s\n", lines);
}

static void
want_ready(Client *c)
{
	want(c, "Z %c", c->status);
}

static void
new_token(Client *c)
{
	int			who = FIRST_NUMBER + c->number;
	long		which = 100000 + ++c->requests % 900000;

	snprintf(c->token, sizeof(c->token), "~%d.%ld~", who, which);
	snprintf(c->expression, sizeof(c->expression), "'~' || %d || '.' || %ld || '~'", who, which);
}

static const char *
moment(const Client *c)
{
	return run.moments[c->zone][c->style];
}

/* ---- reads ---- */

static void
ask_read(Client *c)
{
	say(c, "Q \"select %s, " MOMENT "\"", c->expression);
	want(c, "T 2\nD %s|%s\nC SELECT 1", c->token, moment(c));
	want_ready(c);
}

static void
ask_place(Client *c)
{
	int			id = 1 + (int) chance(c, 9);

	say(c, "Q \"select %s, who from place where id = %d\"", c->expression, id);
	want(c, "T 2\nD %s|%s-%d\nC SELECT 1", c->token, places[c->place], id);
	want_ready(c);
}

/* The same question from everybody, with an answer for each of the settings. */
static void
ask_common(Client *c)
{
	int			id = 1 + (int) chance(c, 2);

	say(c, "Q \"select who, " MOMENT " from place where id = %d\"", id);
	want(c, "T 2\nD %s-%d|%s\nC SELECT 1", places[c->place], id, moment(c));
	want_ready(c);
}

/* A setting that is not what everybody has, told by SHOW. */
static void
ask_zone(Client *c)
{
	say(c, "Q \"show timezone\"");
	want(c, "T 1\nD %s\nC SHOW", zones[c->zone]);
	want_ready(c);
}

static void
ask_extended(Client *c)
{
	bool		describe = chance(c, 2) == 0;

	say(c, "P \"\" \"" EXTENDED "\"\nB \"\" \"\" [] (\"%s\" \"41\")%s\nE \"\" 0\nS", c->token, describe ? "\nD P \"\"" : "");
	want(c, "1\n2%s\nD %s|42|%s\nC SELECT 1", describe ? "\nT 3" : "", c->token, moment(c));
	want_ready(c);
}

static void
ask_prepared(Client *c)
{
	int			id = 1 + (int) chance(c, 9);

	if (!c->prepared)
	{
		say(c, "P \"where\" \"" PREPARED "\"");
		want(c, "1");
	}
	c->prepared = true;
	say(c, "B \"\" \"where\" [] (\"%s\" \"%d\")\nE \"\" 0\nS", c->token, id);
	want(c, "2\nD %s|%s-%d\nC SELECT 1", c->token, places[c->place], id);
	want_ready(c);
}

static void
ask_suspended(Client *c)
{
	const char *t = c->token;

	say(c, "P \"\" \"select $1::text || '-' || n from generate_series(1, 3) n\"\nB \"\" \"\" [] (\"%s\")\nE \"\" 2\nE \"\" 2\nS", t);
	want(c, "1\n2\nD %s-1\nD %s-2\ns\nD %s-3\nC SELECT 1", t, t, t);
	want_ready(c);
}

static void
ask_big(Client *c, int rows)
{
	char		xs[301];

	memset(xs, 'x', 300);
	xs[300] = '\0';
	say(c, "Q \"select %s || n, repeat('x', 300) from generate_series(1, %d) n\"", c->expression, rows);
	want(c, "T 2");
	for (int i = 1; i <= rows; i++)
		want(c, "D %s%d|%s", c->token, i, xs);
	want(c, "C SELECT %d", rows);
	want_ready(c);
}

static void
ask_copy_out(Client *c)
{
	const char *t = c->token;

	say(c, "Q \"copy (select '%s', n from generate_series(1, 3) n) to stdout\"", t);
	want(c, "H\nd %s\t1\nd %s\t2\nd %s\t3\nc\nC COPY 3", t, t, t);
	want_ready(c);
}

static void
ask_slow(Client *c)
{
	say(c, "Q \"select '%s', pg_sleep(0.%02d)\"", c->token, (int) chance(c, 6));
	want(c, "T 2\nD %s|\nC SELECT 1", c->token);
	want_ready(c);
}

/* ---- errors and notices ---- */

static void
want_error(Client *c, const char *error)
{
	want(c, "E %s", error);
	if (c->status == 'T')
		c->status = 'E';
	want_ready(c);
}

static void
ask_error(Client *c)
{
	char		error[128];

	snprintf(error, sizeof(error), "22P02|invalid input syntax for type integer: \"%s\"", c->token);
	/* what cannot be parsed may be DDL, too */
	switch (chance(c, c->role == LOCKER ? 3 : 2))
	{
		case 0:
			say(c, "Q \"select '%s'::int\"", c->token);
			want_error(c, error);
			break;
		case 1:
			say(c, "P \"\" \"select $1::text::int\"\nB \"\" \"\" [] (\"%s\")\nE \"\" 0\nS", c->token);
			want(c, "1");		/* the value is folded into the plan: Bind fails */
			want_error(c, error);
			break;
		default:
			say(c, "Q \"selec '%s'\"", c->token);
			want_error(c, "42601|syntax error at or near \"selec\"");
			break;
	}
}

/* Only from those who are trouble anyway: a DO may be DDL, so that for a while no gateway knows what is cached, or what may share a link. */
static void
ask_notice(Client *c)
{
	say(c, "Q \"do $$ begin raise notice 'of %s'; end $$\"", c->token);
	want(c, "N 00000|of %s\nC DO", c->token);
	want_ready(c);
}

/* ---- transactions, settings, writes ---- */

static void
ask_begin(Client *c)
{
	bool		begin = chance(c, 2);

	say(c, begin ? "Q \"begin\"" : "Q \"start transaction\"");
	c->status = 'T';
	want(c, begin ? "C BEGIN" : "C START TRANSACTION");
	want_ready(c);
}

static void
ask_end(Client *c)
{
	bool		commit = chance(c, 3) != 0;
	bool		works = commit && c->status == 'T';

	say(c, commit ? "Q \"commit\"" : "Q \"rollback\"");
	c->status = 'I';
	want(c, works ? "C COMMIT" : "C ROLLBACK");
	want_ready(c);
	strcpy(works ? c->committed : c->own, works ? c->own : c->committed);
}

static void
ask_warning(Client *c)
{
	if (c->status != 'I')
		ask_end(c);
	say(c, "Q \"rollback\"");
	want(c, "N 25P01|there is no transaction in progress\nC ROLLBACK");
	want_ready(c);
}

/* In a transaction of its own; the other lockers wait for the same row. */
static void
ask_lock(Client *c)
{
	if (c->status != 'I')
		ask_end(c);
	say(c, "Q \"begin\"\nQ \"select '%s', id from public.hpc_lock where id = 1 for update\"", c->token);
	want(c, "C BEGIN\nZ T\nT 2\nD %s|1\nC SELECT 1\nZ T", c->token);
	say(c, "Q \"select pg_advisory_xact_lock(7), '%s', pg_sleep(0.00%d)\"\nQ \"commit\"", c->token, (int) chance(c, 10));
	want(c, "T 3\nD |%s|\nC SELECT 1\nZ T\nC COMMIT\nZ I", c->token);
}

static void
ask_in_failed(Client *c)
{
	if (chance(c, 2) == 0)
	{
		ask_end(c);
		return;
	}
	say(c, "Q \"select '%s'\"", c->token);
	want_error(c, "25P02|current transaction is aborted, commands ignored until end of transaction block");
}

static void
ask_set(Client *c)
{
	c->zone = (c->zone + 1 + (int) chance(c, ZONES - 1)) % ZONES;
	say(c, "Q \"set timezone = '%s'\"", zones[c->zone]);
	want(c, "C SET\nS TimeZone=%s", zones[c->zone]);
	want_ready(c);
}

void
add_possible(Client *c, const char *value)
{
	if (c->possible_count < POSSIBLE_MAX)
		strcpy(c->possible[c->possible_count++], value);
}

static void
ask_write(Client *c)
{
	if (chance(c, 2) == 0)
		say(c, "Q \"update public.hpc_own set v = '%s' where c = %d\"", c->token, c->row);
	else
	{
		say(c, "P \"\" \"update public.hpc_own set v = $1 where c = $2::int\"\nB \"\" \"\" [] (\"%s\" \"%d\")\nE \"\" 0\nS", c->token, c->row);
		want(c, "1\n2");
	}
	want(c, "C UPDATE 1");
	want_ready(c);
	strcpy(c->own, c->token);
	if (c->status == 'I')
		strcpy(c->committed, c->token);
	add_possible(c, c->token);
}

static void
ask_own(Client *c)
{
	say(c, "Q \"select v, %s from public.hpc_own where c = %d\"", c->expression, c->row);
	want(c, "T 2\nD %s|%s\nC SELECT 1", c->own, c->token);
	want_ready(c);
}

/* ---- which? ---- */

void
ask_something(Client *c)
{
	uint32_t	what = chance(c, 100);

	new_token(c);
	if (c->status == 'E')
		ask_in_failed(c);
	else if (c->role == LOCKER && what < 40)
		ask_lock(c);
	else if (c->role == VICTIM && what < 50)
		ask_slow(c);
	else if (c->role == STALLER && what < 15)
		ask_big(c, BIG_ROWS);
	else if (c->status == 'T' && what < 25)
		ask_end(c);
	else if (what < 18)
		ask_read(c);
	else if (what < 19)
		ask_zone(c);
	else if (what < 25)
		ask_common(c);
	else if (what < 31)
		ask_place(c);
	else if (what < 45)
		ask_extended(c);
	else if (what < 60)
		ask_prepared(c);
	else if (what < 64)
		ask_suspended(c);
	else if (what < 66)
		ask_big(c, 1 + (int) chance(c, 300));
	else if (what < 72)
		ask_error(c);
	else if (what < 74)
		c->role == LOCKER ? ask_notice(c) : ask_warning(c);
	else if (what < 77)
		ask_copy_out(c);
	else if (what < 84)
		ask_write(c);
	else if (what < 92)
		ask_own(c);
	else if (what < 94 && c->status == 'I')
		ask_set(c);
	else if (what < 99 && c->status == 'I')
		ask_begin(c);
	else if (what == 99)
		ask_slow(c);
	else
		ask_read(c);
}
