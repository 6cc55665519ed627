/*
 * checker.c - does a cache ever show what was overwritten? Clients that write registers by every route there is, and clients that read them.
 *
 * Answers: is every read as new as the last write that was acknowledged before it was sent, and as every read that had ended before it
 * was sent? One thread a client, libpq, blocking. A register is a value in the database that has one writer and only grows; a route is a
 * way of writing it together with the texts that read it.
 *
 *   checker --setup CONNINFO                       makes the tables, then ends
 *   checker --through CONNINFO [--through CONNINFO ...] [--watch CONNINFO] [--second-user NAME] [--seconds N] [--readers N] [--writers N]
 *           [--routes NAME,NAME] [--rest MS] [--control FIFO --reset-every MS] [--stop-at-violation]
 *
 * --through: ways to one and the same database; readers take them by turns, each route has one of them or all. --watch: the database itself,
 * to learn when a write of unknown outcome is over. --rest: so much of each second nobody begins to write (half of the routes may change anything,
 * so that nothing is kept while they are at it). --control: of a relay, which is told to reset all connections now and then.
 *
 * What it counts is printed as "name number" lines. Exit status 0: no violation; 1: some; 2: it could not run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define READS_MAX		5
#define THREADS_MAX		64
#define THROUGH_MAX		8
#define TEXT_MAX_LEN	2048
#define BURST_READS		40		/* of one text, one after another, so that a cache can show what it keeps … */
#define BURST_MS		30		/* … and no longer than this */
#define SHOWN_VIOLATIONS 20
#define NOTHING			(-1)	/* a read that had no row, or a null */

/* ---- what is written, and how ---- */

typedef enum Way
{
	WAY_SIMPLE,					/* steps, each a simple Query */
	WAY_EXTENDED,				/* steps, each an unnamed statement; {v} is a parameter */
	WAY_PREPARED,				/* the same with a named statement */
	WAY_PIPELINE,				/* several exchanges without waiting for an answer */
	WAY_PIPELINE_ONE,			/* several statements and one Sync */
	WAY_PIPELINE_READ,			/* a write and a read behind it, without waiting */
	WAY_FLUSH,					/* Execute and Flush, and some time later the Sync that commits */
	WAY_COPY,
	WAY_CALL,					/* takes two values: the one before a COMMIT inside, and the last */
	WAY_TWO_PHASE,
	WAY_DIE						/* every other time the client shuts its socket instead of waiting for an answer */
} Way;

typedef enum Where
{
	BY_TURNS,					/* any --through */
	FIRST,
	SECOND,
	OTHER_USER
} Where;

/* {v}: the value; {r}: the key of the row that is read, 1. Steps are separated by |. */
typedef struct Route
{
	const char *name;
	Way			way;
	Where		where;
	int			period;			/* ms from one write to the next */
	bool		guarded;		/* an older write that ends later does no harm */
	const char *setup;
	const char *write;
	const char *reads[READS_MAX];
} Route;

#define REGISTER(t) "CREATE TABLE " t " (r int PRIMARY KEY, v bigint NOT NULL); INSERT INTO " t " VALUES (1, 0), (2, 0)"
#define READ(t) "SELECT v FROM " t " WHERE r = {r}"
#define JOIN(t) "SELECT a.v FROM " t " a JOIN " t " b USING (r) WHERE a.r = {r}"
#define SET(t) "UPDATE " t " SET v = {v} WHERE r = 1 AND v < {v}"

static const Route routes[] = {
	{"simple", WAY_SIMPLE, BY_TURNS, 120, true, REGISTER("r_simple"), SET("r_simple"),
	{READ("r_simple"), JOIN("r_simple"), "SELECT v, (SELECT count(*) FROM generate_series(1, 20000)) FROM r_simple WHERE r = {r}"}},
	{"transaction", WAY_SIMPLE, BY_TURNS, 150, true, REGISTER("r_transaction"), "BEGIN|" SET("r_transaction") "|SELECT 1|COMMIT", {READ("r_transaction")}},
	{"transaction_in_one", WAY_SIMPLE, BY_TURNS, 200, true, REGISTER("r_one"), "BEGIN; " SET("r_one") "; COMMIT", {READ("r_one")}},
	{"several", WAY_SIMPLE, BY_TURNS, 200, true, REGISTER("r_several"), "SELECT 1; " SET("r_several") "; SELECT 2", {READ("r_several")}},
	{"rolled_back", WAY_SIMPLE, BY_TURNS, 250, true, REGISTER("r_back"),
		"BEGIN|UPDATE r_back SET v = {v} + 1000000000000000 WHERE r = 1|ROLLBACK|BEGIN|SAVEPOINT a|UPDATE r_back SET v = {v} + 1000000000000000 WHERE r = 1|ROLLBACK TO a|"
	SET("r_back") "|COMMIT AND CHAIN|UPDATE r_back SET v = {v} + 1000000000000000 WHERE r = 1|ROLLBACK", {READ("r_back"), JOIN("r_back")}},
	{"extended", WAY_EXTENDED, BY_TURNS, 120, true, REGISTER("r_extended"), SET("r_extended"), {READ("r_extended")}},
	{"extended_transaction", WAY_EXTENDED, BY_TURNS, 200, true, REGISTER("r_extended_t"), "BEGIN|" SET("r_extended_t") "|COMMIT", {READ("r_extended_t")}},
	{"prepared", WAY_PREPARED, BY_TURNS, 120, true, REGISTER("r_prepared"), SET("r_prepared"), {READ("r_prepared")}},
	{"pipeline", WAY_PIPELINE, BY_TURNS, 150, true, REGISTER("r_pipeline"), SET("r_pipeline"), {READ("r_pipeline"), JOIN("r_pipeline")}},
	{"pipeline_one_sync", WAY_PIPELINE_ONE, BY_TURNS, 150, true, REGISTER("r_pipeline_one"), SET("r_pipeline_one"), {READ("r_pipeline_one")}},
	{"pipeline_with_read", WAY_PIPELINE_READ, BY_TURNS, 100, true, REGISTER("r_pipeline_read"), SET("r_pipeline_read"), {READ("r_pipeline_read")}},
	{"flush", WAY_FLUSH, BY_TURNS, 100, true, REGISTER("r_flush"), SET("r_flush"), {READ("r_flush"), JOIN("r_flush")}},
	{"second_user", WAY_SIMPLE, OTHER_USER, 150, true, REGISTER("r_user"), SET("r_user"), {READ("r_user")}},
	{"first_origin", WAY_SIMPLE, FIRST, 60, true, REGISTER("r_first"), SET("r_first"), {READ("r_first"), JOIN("r_first")}},
	{"second_origin", WAY_EXTENDED, SECOND, 150, true, REGISTER("r_second"), SET("r_second"), {READ("r_second")}},
	{"insert_delete", WAY_EXTENDED, BY_TURNS, 200, true, "CREATE TABLE r_insert (v bigint PRIMARY KEY); INSERT INTO r_insert VALUES (0)",
		"INSERT INTO r_insert VALUES ({v})|DELETE FROM r_insert WHERE v < {v}", {"SELECT max(v) FROM r_insert", "SELECT v FROM r_insert ORDER BY v DESC LIMIT 1"}},
	{"copy", WAY_COPY, BY_TURNS, 200, true, "CREATE TABLE r_copy (v bigint); INSERT INTO r_copy VALUES (0)", "COPY r_copy FROM STDIN", {"SELECT max(v) FROM r_copy"}},
	{"merge", WAY_SIMPLE, BY_TURNS, 200, true, REGISTER("r_merge"),
	"MERGE INTO r_merge t USING (VALUES (1, {v})) s (r, v) ON t.r = s.r WHEN MATCHED AND t.v < s.v THEN UPDATE SET v = s.v", {READ("r_merge")}},
	{"cte", WAY_EXTENDED, BY_TURNS, 200, true, REGISTER("r_cte"), "WITH w AS (" SET("r_cte") " RETURNING v) SELECT count(*) FROM w", {READ("r_cte")}},
	{"view", WAY_EXTENDED, BY_TURNS, 200, true, REGISTER("r_viewed") "; CREATE VIEW v_viewed AS SELECT r, v FROM r_viewed; CREATE VIEW v_twice AS SELECT r, v FROM v_viewed WHERE v >= 0",
	SET("v_viewed"), {READ("r_viewed"), READ("v_viewed"), READ("v_twice")}},
	{"base_of_view", WAY_SIMPLE, BY_TURNS, 200, true, REGISTER("r_based") "; CREATE VIEW v_based AS SELECT r, sum(v)::bigint AS v FROM r_based GROUP BY r", SET("r_based"), {READ("v_based")}},
	{"partitioned_parent", WAY_SIMPLE, BY_TURNS, 200, true,
		"CREATE TABLE p_up (r int, v bigint) PARTITION BY LIST (r); CREATE TABLE p_up_1 PARTITION OF p_up FOR VALUES IN (1); CREATE TABLE p_up_2 PARTITION OF p_up DEFAULT; INSERT INTO p_up VALUES (1, 0), (2, 0)",
	SET("p_up"), {READ("p_up_1"), READ("p_up")}},
	{"partition", WAY_EXTENDED, BY_TURNS, 200, true,
		"CREATE TABLE p_down (r int, v bigint) PARTITION BY LIST (r); CREATE TABLE p_down_1 PARTITION OF p_down FOR VALUES IN (1) PARTITION BY RANGE (v); "
		"CREATE TABLE p_down_11 PARTITION OF p_down_1 FOR VALUES FROM (0) TO (MAXVALUE); CREATE TABLE p_down_2 PARTITION OF p_down DEFAULT; INSERT INTO p_down VALUES (1, 0), (2, 0)",
	SET("p_down_11"), {READ("p_down"), READ("p_down_1")}},
	{"inherits_parent", WAY_SIMPLE, BY_TURNS, 250, true, "CREATE TABLE i_up (r int, v bigint); CREATE TABLE i_up_child () INHERITS (i_up); INSERT INTO i_up_child VALUES (1, 0), (2, 0)",
	SET("i_up"), {READ("i_up_child"), READ("i_up")}},
	{"inherits_child", WAY_SIMPLE, BY_TURNS, 250, true, "CREATE TABLE i_down (r int, v bigint); CREATE TABLE i_down_child () INHERITS (i_down); INSERT INTO i_down_child VALUES (1, 0), (2, 0)",
	SET("i_down_child"), {READ("i_down")}},
	{"foreign_key_cascade", WAY_SIMPLE, BY_TURNS, 250, true,
		"CREATE TABLE f_parent (k bigint PRIMARY KEY); CREATE TABLE f_child (r int, v bigint REFERENCES f_parent ON UPDATE CASCADE); INSERT INTO f_parent VALUES (0); INSERT INTO f_child VALUES (1, 0)",
	"UPDATE f_parent SET k = {v} WHERE k < {v}", {READ("f_child"), "SELECT c.v FROM f_child c JOIN f_parent p ON p.k = c.v WHERE c.r = {r}"}},

	/* What may change anything: each empties the cache, so they are slower. */
	{"trigger", WAY_EXTENDED, BY_TURNS, 900, true,
		REGISTER("t_source") "; " REGISTER("t_target") "; CREATE FUNCTION t_carry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t_target SET v = NEW.v WHERE r = NEW.r; RETURN NULL; END $$; "
	"CREATE TRIGGER carry AFTER UPDATE ON t_source FOR EACH ROW EXECUTE FUNCTION t_carry()", SET("t_source"), {READ("t_target"), READ("t_source")}},
	{"chain", WAY_SIMPLE, BY_TURNS, 1100, true,
		REGISTER("c_source") "; CREATE TABLE c_key (k bigint PRIMARY KEY); INSERT INTO c_key VALUES (0); "
		"CREATE TABLE c_part (r int, v bigint REFERENCES c_key ON UPDATE CASCADE) PARTITION BY LIST (r); CREATE TABLE c_part_1 PARTITION OF c_part FOR VALUES IN (1); INSERT INTO c_part VALUES (1, 0); "
		"CREATE VIEW c_view AS SELECT r, v FROM c_part; CREATE FUNCTION c_carry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE c_key SET k = NEW.v; RETURN NULL; END $$; "
	"CREATE TRIGGER carry AFTER UPDATE ON c_source FOR EACH ROW EXECUTE FUNCTION c_carry()", SET("c_source"), {READ("c_view"), READ("c_part_1")}},
	{"rule", WAY_SIMPLE, BY_TURNS, 1000, true,
		REGISTER("u_source") "; " REGISTER("u_target") "; CREATE RULE carry AS ON UPDATE TO u_source DO ALSO UPDATE u_target SET v = NEW.v WHERE r = NEW.r AND v < NEW.v",
	"UPDATE u_source SET v = {v} WHERE r = 1", {READ("u_target")}},
	{"truncate_cascade", WAY_SIMPLE, BY_TURNS, 1200, false,
		"CREATE TABLE tr_parent (k bigint PRIMARY KEY); CREATE TABLE tr_child (r int, v bigint REFERENCES tr_parent); INSERT INTO tr_parent VALUES (0); INSERT INTO tr_child VALUES (1, 0)",
	"BEGIN|TRUNCATE tr_parent CASCADE|INSERT INTO tr_parent VALUES ({v})|INSERT INTO tr_child VALUES (1, {v})|COMMIT", {READ("tr_child"), "SELECT max(k) FROM tr_parent"}},
	{"function_sql", WAY_SIMPLE, BY_TURNS, 1000, true,
	REGISTER("fs") "; CREATE FUNCTION put_sql(bigint) RETURNS void LANGUAGE sql AS $$ UPDATE fs SET v = $1 WHERE r = 1 AND v < $1 $$", "SELECT put_sql({v})", {READ("fs")}},
	{"function_plpgsql", WAY_EXTENDED, BY_TURNS, 1000, true,
	REGISTER("fp") "; CREATE FUNCTION put_plpgsql(bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE fp SET v = $1 WHERE r = 1 AND v < $1; END $$", "SELECT put_plpgsql({v})", {READ("fp")}},
	{"function_from", WAY_PREPARED, BY_TURNS, 1000, true,
		REGISTER("ff") "; CREATE FUNCTION put_from(bigint) RETURNS SETOF bigint LANGUAGE plpgsql AS $$ BEGIN UPDATE ff SET v = $1 WHERE r = 1 AND v < $1; RETURN NEXT 1; END $$",
	"SELECT f FROM put_from({v}) f WHERE f > 0", {READ("ff")}},
	{"do", WAY_SIMPLE, BY_TURNS, 1000, true, REGISTER("r_do"), "DO $$ BEGIN " SET("r_do") "; END $$", {READ("r_do")}},
	{"call_commits", WAY_CALL, BY_TURNS, 1000, true,
		REGISTER("r_call") "; CREATE PROCEDURE put_twice(bigint, bigint) LANGUAGE plpgsql AS $$ BEGIN UPDATE r_call SET v = $1 WHERE r = 1 AND v < $1; COMMIT; PERFORM pg_sleep(0.02); "
	"UPDATE r_call SET v = $2 WHERE r = 1 AND v < $2; END $$", "CALL put_twice({w}, {v})", {READ("r_call")}},
	{"two_phase", WAY_TWO_PHASE, BY_TURNS, 1000, false, REGISTER("r_two"), "BEGIN|" SET("r_two") "|PREPARE TRANSACTION 'checker {v}'|SELECT 1|COMMIT PREPARED 'checker {v}'", {READ("r_two")}},
	{"refresh", WAY_SIMPLE, BY_TURNS, 1200, false,
		REGISTER("m_base") "; CREATE MATERIALIZED VIEW m_view AS SELECT r, v FROM m_base; CREATE VIEW m_above AS SELECT r, v FROM m_view",
	"UPDATE m_base SET v = {v} WHERE r = 1|REFRESH MATERIALIZED VIEW m_view", {READ("m_view"), READ("m_above")}},
	{"explain_analyze", WAY_SIMPLE, BY_TURNS, 1300, true, REGISTER("r_explain"), "EXPLAIN ANALYZE " SET("r_explain"), {READ("r_explain")}},
	{"alter_table", WAY_SIMPLE, BY_TURNS, 1500, false, REGISTER("d_table"),
	"BEGIN|ALTER TABLE d_table DROP COLUMN v|ALTER TABLE d_table ADD COLUMN v bigint NOT NULL DEFAULT {v}|COMMIT", {READ("d_table")}},
	{"replaced_view", WAY_SIMPLE, BY_TURNS, 1500, false, "CREATE VIEW d_view AS SELECT 1 AS r, 0::bigint AS v",
	"BEGIN|DROP VIEW d_view|CREATE VIEW d_view AS SELECT 1 AS r, {v}::bigint AS v|GRANT SELECT ON d_view TO PUBLIC|COMMIT", {READ("d_view")}},

	/* Writes whose client does not wait, or whose link is often at work when the links are reset. */
	{"client_dies", WAY_DIE, BY_TURNS, 300, true, REGISTER("x_dies"), "SELECT pg_sleep(0.05); " SET("x_dies"), {READ("x_dies"), JOIN("x_dies")}},
	{"client_dies_extended", WAY_DIE, BY_TURNS, 300, true, REGISTER("x_dies_e"),
	"WITH s AS MATERIALIZED (SELECT pg_sleep(0.05) IS NOT NULL AS slept) UPDATE x_dies_e SET v = {v} FROM s WHERE slept AND r = 1 AND v < {v}", {READ("x_dies_e")}},
	{"client_dies_do", WAY_DIE, BY_TURNS, 5000, true, REGISTER("x_dies_do"), "DO $$ BEGIN PERFORM pg_sleep(0.1); " SET("x_dies_do") "; END $$", {READ("x_dies_do")}},
	{"slow", WAY_EXTENDED, BY_TURNS, 250, true, REGISTER("x_slow"),
	"WITH s AS MATERIALIZED (SELECT pg_sleep(0.15) IS NOT NULL AS slept) UPDATE x_slow SET v = {v} FROM s WHERE slept AND r = 1 AND v < {v}", {READ("x_slow")}},
};

#define ROUTES ((int) (sizeof(routes) / sizeof(routes[0])))

typedef struct Register
{
	pthread_mutex_t lock;
	int64_t		attempted;		/* the newest value that was ever sent */
	int64_t		acknowledged;
	int64_t		acknowledged_at;
	int64_t		seen;			/* the newest value a read has ended with */
	int64_t		seen_at;
	char		seen_by[64];
	int64_t		due;			/* its writer's */
	uint64_t	writes;
	uint64_t	turns;
	bool		chosen;
} Register;

static Register registers[ROUTES];

static struct
{
	const char *through[THROUGH_MAX];
	int			nthrough;
	const char *setup;
	const char *watch;
	const char *second_user;
	const char *control;
	int			seconds;
	int			readers;
	int			writers;
	int			reset_every;
	int			rest;			/* milliseconds */
	bool		stop_at_violation;
	int64_t		began;
}			run = {.seconds = 10, .readers = 8, .writers = 6};

static atomic_bool over;
static atomic_uint_fast64_t reads, writes, unknown, violations, read_errors, write_errors, connects, resets;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
sleep_us(int64_t us)
{
	struct timespec t = {us / 1000000, us % 1000000 * 1000};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fprintf(stderr, "checker: ");
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

/* A number below the limit; 0 if there is none. */
static uint32_t
chance(uint64_t *state, uint32_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return limit > 0 ? (uint32_t) ((*state >> 16) % limit) : 0;
}

/* ---- texts ---- */

/* Copies a text with {v}, {w} (the value before) and {r} filled in; as parameters when `parameters`. */
static void
fill_in(char *to, const char *from, size_t len, int64_t value, bool parameters)
{
	char	   *end = to + TEXT_MAX_LEN - 32;
	const char *stop = from + len;

	while (from < stop && to < end)
	{
		if (stop - from >= 3 && from[0] == '{' && from[2] == '}')
		{
			if (parameters)
				to += sprintf(to, from[1] == 'r' ? "$1::int" : "$1::bigint");
			else
				to += sprintf(to, "%" PRId64, from[1] == 'r' ? 1 : from[1] == 'w' ? value - 1 : value);
			from += 3;
		}
		else
			*to++ = *from++;
	}
	*to = '\0';
}

static bool
mentions(const char *text, size_t len, const char *what)
{
	return memmem(text, len, what, strlen(what)) != NULL;
}

/* The next step of `|`-separated steps; false: none is left. */
static bool
next_step(const char **at, const char **step, size_t *len)
{
	if (**at == '\0')
		return false;
	*step = *at;
	*len = strcspn(*at, "|");
	*at += *len;
	if (**at == '|')
		(*at)++;
	return true;
}

/* ---- connections ---- */

typedef struct Client
{
	PGconn	   *connection;
	int			through;		/* index, or -1: none yet */
	bool		second_user;
	uint32_t	used;
	uint64_t	chance;
	uint64_t	prepared[ROUTES];	/* bits of the reads that are prepared; bit 63: the write */
	char		name[16];
} Client;

static void
close_client(Client *c)
{
	PQfinish(c->connection);
	c->connection = NULL;
	memset(c->prepared, 0, sizeof(c->prepared));
	c->used = 0;
}

static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static bool
open_client(Client *c, int through, bool second_user)
{
	char		conninfo[1024];

	if (c->connection && PQstatus(c->connection) == CONNECTION_OK && c->through == through && c->second_user == second_user)
		return true;
	close_client(c);
	snprintf(conninfo, sizeof(conninfo), "%s connect_timeout=10%s%s", run.through[through], second_user ? " user=" : "", second_user ? run.second_user : "");
	c->connection = PQconnectdb(conninfo);
	c->through = through;
	c->second_user = second_user;
	atomic_fetch_add(&connects, 1);
	if (PQstatus(c->connection) == CONNECTION_OK)
	{
		PQsetNoticeReceiver(c->connection, ignore_notice, NULL);
		return true;
	}
	close_client(c);
	sleep_us(50000);
	return false;
}

/* ---- registers ---- */

typedef struct Bound
{
	int64_t		value;			/* no read sent from now on may show less */
	bool		by_read;
	int64_t		at;
	char		by[64];
} Bound;

static Bound
bound_of(Register *g)
{
	Bound		b = {0};

	pthread_mutex_lock(&g->lock);
	b.by_read = g->seen > g->acknowledged;
	b.value = b.by_read ? g->seen : g->acknowledged;
	b.at = b.by_read ? g->seen_at : g->acknowledged_at;
	if (b.by_read)
		snprintf(b.by, sizeof(b.by), "%s", g->seen_by);
	pthread_mutex_unlock(&g->lock);
	return b;
}

static int64_t
next_value(Register *g)
{
	int64_t		value;

	pthread_mutex_lock(&g->lock);
	value = ++g->attempted;
	pthread_mutex_unlock(&g->lock);
	return value;
}

static void
acknowledge(Register *g, int64_t value)
{
	pthread_mutex_lock(&g->lock);
	if (value > g->acknowledged)
	{
		g->acknowledged = value;
		g->acknowledged_at = now_us();
	}
	g->writes++;
	pthread_mutex_unlock(&g->lock);
	atomic_fetch_add(&writes, 1);
}

static double
when(int64_t us)
{
	return (double) (us - run.began) / 1e6;
}

static void
violation(int route, const Client *c, const char *how, const char *text, int64_t began, int64_t got, int64_t wanted, const char *why)
{
	uint64_t	n = atomic_fetch_add(&violations, 1);

	pthread_mutex_lock(&printing);
	if (n < SHOWN_VIOLATIONS)
		printf("violation: route %s: %s through %d%s, %s, asked at %.6f s, answered at %.6f s: got %" PRId64 ", wanted %" PRId64 " (%s): %s\n",
			   routes[route].name, c->name, c->through, c->second_user ? " (second user)" : "", how, when(began), when(now_us()), got, wanted, why, text);
	fflush(stdout);
	pthread_mutex_unlock(&printing);
	if (run.stop_at_violation)
		atomic_store(&over, true);
}

/* A read that was sent at `began`, when nothing below `bound` was allowed any more, has ended with `value`. */
static void
check_read(int route, const Client *c, const char *how, const char *text, int64_t began, const Bound *bound, int64_t value)
{
	Register   *g = &registers[route];
	int64_t		attempted;
	char		why[160];

	pthread_mutex_lock(&g->lock);
	attempted = g->attempted;
	if (value > g->seen)
	{
		g->seen = value;
		g->seen_at = now_us();
		snprintf(g->seen_by, sizeof(g->seen_by), "%s through %d, %s", c->name, c->through, how);
	}
	pthread_mutex_unlock(&g->lock);
	atomic_fetch_add(&reads, 1);
	if (value < bound->value)
	{
		snprintf(why, sizeof(why), bound->by_read ? "read at %.6f s by %s" : "acknowledged at %.6f s%s", when(bound->at), bound->by);
		violation(route, c, how, text, began, value, bound->value, why);
	}
	else if (value > attempted)
		violation(route, c, how, text, began, value, attempted, "the newest ever sent");
}

/* ---- reading ---- */

static int64_t
value_of(const PGresult *result)
{
	uint64_t	v = 0;
	const unsigned char *bytes;

	if (PQntuples(result) == 0 || PQgetisnull(result, 0, 0))
		return NOTHING;
	if (PQfformat(result, 0) == 0)
		return strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	bytes = (const unsigned char *) PQgetvalue(result, 0, 0);
	for (int i = 0; i < PQgetlength(result, 0, 0); i++)
		v = v << 8 | bytes[i];
	return (int64_t) v;
}

typedef enum Form
{
	FORM_SIMPLE, FORM_TEXT, FORM_BINARY, FORM_PREPARED, FORM_PREPARED_BINARY, FORM_PIPELINE, FORM_LIMIT
} Form;

static const char *const form_names[] = {"simple", "extended", "extended binary", "prepared", "prepared binary", "pipelined"};

static const char *const one[] = {"1"};

static bool
prepare(Client *c, int route, int bit, const char *name, const char *text)
{
	PGresult   *result;
	bool		good;

	if (c->prepared[route] & (UINT64_C(1) << bit))
		return true;
	result = PQprepare(c->connection, name, text, 0, NULL);
	good = PQresultStatus(result) == PGRES_COMMAND_OK;
	if (good)
		c->prepared[route] |= UINT64_C(1) << bit;
	PQclear(result);
	return good;
}

static PGresult *
ask(Client *c, int route, int which, Form form, const char *text, int nparams)
{
	char		name[64];

	if (form == FORM_SIMPLE)
		return PQexec(c->connection, text);
	if (form == FORM_TEXT || form == FORM_BINARY)
		return PQexecParams(c->connection, text, nparams, NULL, one, NULL, NULL, form == FORM_BINARY);
	snprintf(name, sizeof(name), "read_%d_%d", route, which);
	if (!prepare(c, route, which, name, text))
		return NULL;
	return PQexecPrepared(c->connection, name, nparams, one, NULL, NULL, form == FORM_PREPARED_BINARY);
}

static void
note_read_error(Client *c, int route, const char *text, const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	if (atomic_fetch_add(&read_errors, 1) < 20)
	{
		pthread_mutex_lock(&printing);
		printf("read failed: route %s, %s through %d at %.3f s: %s %s\n", routes[route].name, c->name, c->through, when(now_us()), state ? state : "-",
			   result ? PQresultErrorMessage(result) : PQerrorMessage(c->connection));
		pthread_mutex_unlock(&printing);
		(void) text;
	}
	if (PQstatus(c->connection) != CONNECTION_OK || PQtransactionStatus(c->connection) != PQTRANS_IDLE)
		close_client(c);
	sleep_us(5000);
}

/* False: no answer. */
static bool
read_once(Client *c, int route, int which, Form form, const char *text, int nparams)
{
	Bound		bound = bound_of(&registers[route]);
	int64_t		began = now_us();
	PGresult   *result = ask(c, route, which, form, text, nparams);
	bool		good = PQresultStatus(result) == PGRES_TUPLES_OK;

	if (good)
		check_read(route, c, form_names[form], text, began, &bound, value_of(result));
	else
		note_read_error(c, route, text, result);
	PQclear(result);
	return good;
}

/* Takes the results of one statement or Sync of a pipeline; false: an error, or the connection is gone. */
static bool
take_piped(PGconn *connection, int64_t *value)
{
	PGresult   *result;
	bool		good = true;

	while ((result = PQgetResult(connection)) != NULL)
	{
		ExecStatusType status = PQresultStatus(result);

		if (status == PGRES_TUPLES_OK && value)
			*value = value_of(result);
		good = good && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK || status == PGRES_PIPELINE_SYNC);
		PQclear(result);
		if (status == PGRES_PIPELINE_SYNC || PQstatus(connection) != CONNECTION_OK)
			return good && PQstatus(connection) == CONNECTION_OK;
	}
	return good && PQstatus(connection) == CONNECTION_OK;
}

/* Four reads sent at once, a Sync behind each; none may show less than the one before it. */
static bool
read_pipelined(Client *c, int route, const char *text, int nparams)
{
	Bound		bound = bound_of(&registers[route]);
	int64_t		began = now_us();
	int64_t		before = INT64_MIN;
	bool		good = PQenterPipelineMode(c->connection);

	for (int i = 0; i < 4 && good; i++)
		good = PQsendQueryParams(c->connection, text, nparams, NULL, one, NULL, NULL, i % 2) && PQpipelineSync(c->connection);
	for (int i = 0; i < 4 && good; i++)
	{
		int64_t		value = NOTHING;

		good = take_piped(c->connection, &value) && take_piped(c->connection, NULL);
		if (!good)
			break;
		check_read(route, c, form_names[FORM_PIPELINE], text, began, &bound, value);
		if (value < before)
			violation(route, c, "pipelined", text, began, value, before, "the one before it in the same pipeline");
		before = value;
	}
	if (good && PQexitPipelineMode(c->connection))
		return true;
	note_read_error(c, route, text, NULL);
	close_client(c);
	return false;
}

static int
choose_route(Client *c)
{
	int			route;

	do
		route = (int) chance(&c->chance, ROUTES);
	while (!registers[route].chosen);
	return route;
}

/* One text in one form, for as long as a burst is. */
static void
read_burst(Client *c)
{
	int			route = choose_route(c);
	int			nreads = 0;
	int			which;
	Form		form = (Form) chance(&c->chance, FORM_LIMIT);
	char		text[TEXT_MAX_LEN];
	bool		has_parameter;
	int64_t		until = now_us() + BURST_MS * 1000;

	while (nreads < READS_MAX && routes[route].reads[nreads])
		nreads++;
	if (nreads == 0)
		fail("route %s has nothing to read", routes[route].name);
	which = (int) chance(&c->chance, (uint32_t) nreads);
	has_parameter = form != FORM_SIMPLE && strstr(routes[route].reads[which], "{r}") != NULL;
	fill_in(text, routes[route].reads[which], strlen(routes[route].reads[which]), 0, form != FORM_SIMPLE);
	for (int i = 1 + (int) chance(&c->chance, BURST_READS); i > 0 && !atomic_load(&over) && now_us() < until; i--)
	{
		bool		good = form == FORM_PIPELINE ? read_pipelined(c, route, text, has_parameter) : read_once(c, route, which, form, text, has_parameter);

		if (!good)
			return;
	}
}

static void *
reader(void *arg)
{
	int			number = (int) (intptr_t) arg;
	Client		c = {.through = -1, .chance = UINT64_C(88172645463325252) + (uint64_t) number * UINT64_C(7919) * 104729};

	snprintf(c.name, sizeof(c.name), "reader %d", number);
	while (!atomic_load(&over))
	{
		/* now and then it comes anew, perhaps to another worker */
		if (c.used++ > 200)
			close_client(&c);
		if (open_client(&c, number % run.nthrough, run.second_user && number % 4 == 3))
			read_burst(&c);
	}
	close_client(&c);
	return NULL;
}

/* ---- writing ---- */

/* Waits until every transaction at the database that may hold this write is over: nobody else can tell its end. */
static void
wait_for_older_transactions(void)
{
	PGconn	   *watch;

	sleep_us(200000);
	if (!run.watch)
	{
		sleep_us(1000000);
		return;
	}
	watch = PQconnectdb(run.watch);
	PQclear(PQexec(watch, "SELECT set_config('checker.since', clock_timestamp()::text, false)"));
	for (int i = 0; i < 200; i++)
	{
		PGresult   *result = PQexec(watch, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start <= current_setting('checker.since')::timestamptz AND pid <> pg_backend_pid()");
		bool		gone = PQresultStatus(result) == PGRES_TUPLES_OK && value_of(result) == 0;

		PQclear(result);
		if (gone)
			break;
		sleep_us(20000);
	}
	PQfinish(watch);
}

static void
note_write_error(Client *c, int route, const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	if (atomic_fetch_add(&write_errors, 1) < 20)
	{
		pthread_mutex_lock(&printing);
		printf("write failed: route %s, %s through %d at %.3f s: %s %s\n", routes[route].name, c->name, c->through, when(now_us()), state ? state : "-",
			   result ? PQresultErrorMessage(result) : PQerrorMessage(c->connection));
		pthread_mutex_unlock(&printing);
	}
}

static PGresult *
send_step(Client *c, int route, const char *step, size_t len, int64_t value)
{
	char		text[TEXT_MAX_LEN];
	char		shown[32];
	const char *values[] = {shown};
	bool		with = routes[route].way != WAY_SIMPLE && mentions(step, len, "{v}");
	char		name[64];

	snprintf(shown, sizeof(shown), "%" PRId64, value);
	if (routes[route].way == WAY_EXTENDED || routes[route].way == WAY_PREPARED)
	{
		fill_in(text, step, len, value, true);
		if (routes[route].way == WAY_EXTENDED)
			return PQexecParams(c->connection, text, with, NULL, values, NULL, NULL, 0);
		snprintf(name, sizeof(name), "write_%d", route);
		return prepare(c, route, 63, name, text) ? PQexecPrepared(c->connection, name, with, values, NULL, NULL, 0) : NULL;
	}
	fill_in(text, step, len, value, false);
	return PQexec(c->connection, text);
}

/* Each step and its answer. False: the outcome is not known. */
static bool
write_steps(Client *c, int route, int64_t value)
{
	const char *at = routes[route].write;
	const char *step;
	size_t		len;
	bool		good = true;

	while (good && next_step(&at, &step, &len))
	{
		PGresult   *result = send_step(c, route, step, len, value);
		ExecStatusType status = PQresultStatus(result);

		good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
		if (!good)
			note_write_error(c, route, result);
		PQclear(result);
	}
	return good;
}

static bool
write_copy(Client *c, const char *text, int64_t value)
{
	PGresult   *result = PQexec(c->connection, text);
	char		line[32];
	int			len = snprintf(line, sizeof(line), "%" PRId64 "\n", value);
	bool		good = PQresultStatus(result) == PGRES_COPY_IN && PQputCopyData(c->connection, line, len) == 1 && PQputCopyEnd(c->connection, NULL) == 1;

	PQclear(result);
	if (!good)
		return false;
	result = PQgetResult(c->connection);
	good = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	while ((result = PQgetResult(c->connection)) != NULL)
		PQclear(result);
	return good;
}

static bool
send_piped(Client *c, int route, int64_t value)
{
	char		text[TEXT_MAX_LEN];
	char		shown[32];
	const char *values[] = {shown};

	snprintf(shown, sizeof(shown), "%" PRId64, value);
	fill_in(text, routes[route].write, strlen(routes[route].write), value, true);
	return PQsendQueryParams(c->connection, text, 1, NULL, values, NULL, NULL, 0);
}

/* Three values, all sent before the first answer is read. */
static bool
write_pipeline(Client *c, int route)
{
	Register   *g = &registers[route];
	bool		each = routes[route].way == WAY_PIPELINE;
	int64_t		values[3];
	bool		good = PQenterPipelineMode(c->connection);

	for (int i = 0; i < 3 && good; i++)
	{
		values[i] = next_value(g);
		good = send_piped(c, route, values[i]) && (!each || PQpipelineSync(c->connection));
	}
	good = good && (each || PQpipelineSync(c->connection));
	for (int i = 0; i < 3 && good; i++)
	{
		good = take_piped(c->connection, NULL) && (!each || take_piped(c->connection, NULL));
		if (good && each)
			acknowledge(g, values[i]);
	}
	if (good && !each && (good = take_piped(c->connection, NULL)))
		acknowledge(g, values[2]);
	return good && PQexitPipelineMode(c->connection);
}

/* The read goes out behind the write, and must show it. */
static bool
write_and_read(Client *c, int route)
{
	Register   *g = &registers[route];
	char		text[TEXT_MAX_LEN];
	Bound		bound = {.value = next_value(g), .at = now_us()};
	int64_t		value = NOTHING;
	bool		good = PQenterPipelineMode(c->connection);

	fill_in(text, routes[route].reads[0], strlen(routes[route].reads[0]), 0, true);
	good = good && send_piped(c, route, bound.value) && PQpipelineSync(c->connection)
		&& PQsendQueryParams(c->connection, text, 1, NULL, one, NULL, NULL, 0) && PQpipelineSync(c->connection);
	good = good && take_piped(c->connection, NULL) && take_piped(c->connection, NULL);
	if (good)
		acknowledge(g, bound.value);
	good = good && take_piped(c->connection, &value) && take_piped(c->connection, NULL);
	if (good)
		check_read(route, c, "behind its own write", text, bound.at, &bound, value);
	return good && PQexitPipelineMode(c->connection);
}

/* The answer of Execute has come, but what commits is the Sync. */
static bool
write_flush(Client *c, int route, int64_t value)
{
	PGresult   *result;
	bool		good = PQenterPipelineMode(c->connection) && send_piped(c, route, value) && PQsendFlushRequest(c->connection) && PQflush(c->connection) == 0;

	if (!good)
		return false;
	result = PQgetResult(c->connection);
	good = PQresultStatus(result) == PGRES_COMMAND_OK;
	PQclear(result);
	good = good && PQgetResult(c->connection) == NULL;
	sleep_us(10000 + chance(&c->chance, 30000));
	return good && PQpipelineSync(c->connection) && take_piped(c->connection, NULL) && PQexitPipelineMode(c->connection);
}

static bool
is_lost(const Client *c, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return PQstatus(c->connection) != CONNECTION_OK || (state && (strncmp(state, "08", 2) == 0 || strncmp(state, "57P", 3) == 0));
}

/* A transaction prepared, if it was, must not keep its locks for ever; nor may it be ended behind the cache's back. */
static void
forget_prepared(Client *c, int64_t value)
{
	char		text[64];
	bool		lost = true;

	snprintf(text, sizeof(text), "ROLLBACK PREPARED 'checker %" PRId64 "'", value);
	for (int i = 0; i < 100 && lost && !atomic_load(&over); i++)
	{
		PGresult   *result;

		if (!open_client(c, 0, false))
			continue;
		result = PQexec(c->connection, text);
		lost = is_lost(c, result);
		PQclear(result);
	}
}

/* Sends and is gone, at once or a little later. */
static void
write_and_die(Client *c, int route, int64_t value)
{
	char		text[TEXT_MAX_LEN];
	char		shown[32];
	const char *values[] = {shown};
	bool		extended = strstr(routes[route].write, "MATERIALIZED") != NULL;

	snprintf(shown, sizeof(shown), "%" PRId64, value);
	fill_in(text, routes[route].write, strlen(routes[route].write), value, extended);
	if (extended)
		PQsendQueryParams(c->connection, text, 1, NULL, values, NULL, NULL, 0);
	else
		PQsendQuery(c->connection, text);
	PQflush(c->connection);
	if (chance(&c->chance, 2))
		sleep_us(chance(&c->chance, 80000));
	shutdown(PQsocket(c->connection), SHUT_RDWR);
	close_client(c);
	atomic_fetch_add(&unknown, 1);
}

static bool
write_value(Client *c, int route, int64_t value)
{
	const Route *r = &routes[route];

	if (r->way == WAY_FLUSH)
		return write_flush(c, route, value);
	if (r->way == WAY_COPY)
		return write_copy(c, r->write, value);
	return write_steps(c, route, value);
}

static void
outcome_unknown(Client *c, int route, int64_t value)
{
	atomic_fetch_add(&unknown, 1);
	close_client(c);
	if (routes[route].way == WAY_TWO_PHASE)
	{
		wait_for_older_transactions();
		forget_prepared(c, value);
	}
	if (!routes[route].guarded)
		wait_for_older_transactions();
}

static void
write_route(Client *c, int route)
{
	Register   *g = &registers[route];
	const Route *r = &routes[route];
	bool		good;
	int64_t		value = 0;

	g->turns++;
	if (r->way == WAY_PIPELINE || r->way == WAY_PIPELINE_ONE)
		good = write_pipeline(c, route);
	else if (r->way == WAY_PIPELINE_READ)
		good = write_and_read(c, route);
	else
	{
		value = next_value(g);
		if (r->way == WAY_CALL)
			value = next_value(g);
		if (r->way == WAY_DIE && g->turns % 2)
		{
			write_and_die(c, route, value);
			return;
		}
		good = write_value(c, route, value);
		if (good)
			acknowledge(g, value);
	}
	if (!good)
		outcome_unknown(c, route, value);
}

static int
through_of(const Route *r, Client *c)
{
	if (r->where == SECOND)
		return run.nthrough > 1 ? 1 : 0;
	return r->where == BY_TURNS ? (int) chance(&c->chance, (uint32_t) run.nthrough) : 0;
}

/* A writer has the routes whose number leaves its own; a client of its own for each way of going, so that none has to log in each time. */
static void *
writer(void *arg)
{
	int			number = (int) (intptr_t) arg;
	Client		clients[THROUGH_MAX + 1];

	for (int i = 0; i <= THROUGH_MAX; i++)
	{
		clients[i] = (Client) {.through = -1, .chance = UINT64_C(362436069362436069) + (uint64_t) (number * 31 + i) * 15485863};
		snprintf(clients[i].name, sizeof(clients[i].name), "writer %d", number);
	}
	while (!atomic_load(&over))
	{
		bool		idle = true;

		for (int route = number; route < ROUTES && !atomic_load(&over); route += run.writers)
		{
			const Route *r = &routes[route];
			int			through = through_of(r, &clients[0]);
			bool		second = r->where == OTHER_USER && run.second_user;
			Client	   *c = &clients[second ? THROUGH_MAX : through];

			if (!registers[route].chosen || registers[route].due > now_us() || now_us() / 1000 % 1000 < run.rest)
				continue;
			idle = false;
			if (c->used++ > 100)
				close_client(c);
			if (!open_client(c, through, second))
				continue;
			write_route(c, route);
			registers[route].due = now_us() + r->period * 500 + chance(&clients[0].chance, (uint32_t) r->period * 1000);
		}
		if (idle)
			sleep_us(1000);
	}
	for (int i = 0; i <= THROUGH_MAX; i++)
		close_client(&clients[i]);
	return NULL;
}

/* ---- the path to the origin breaks ---- */

static void *
breaker(void *arg)
{
	int			fd = open(run.control, O_WRONLY);
	int64_t		next = now_us() + run.reset_every * INT64_C(1000);

	(void) arg;
	if (fd < 0)
		fail("%s: %s", run.control, strerror(errno));
	while (!atomic_load(&over))
	{
		sleep_us(10000);
		if (now_us() < next)
			continue;
		next += run.reset_every * INT64_C(1000);
		if (write(fd, "reset\n", 6) == 6)
			atomic_fetch_add(&resets, 1);
	}
	close(fd);
	return NULL;
}

/* ---- the run ---- */

static void
make_tables(void)
{
	PGconn	   *connection = PQconnectdb(run.setup);

	for (int i = 0; i < ROUTES; i++)
	{
		PGresult   *result = PQexec(connection, routes[i].setup);

		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			fail("setup of %s: %s", routes[i].name, PQerrorMessage(connection));
		PQclear(result);
	}
	PQclear(PQexec(connection, "GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC"));
	PQfinish(connection);
}

static void
choose(char *names)
{
	for (int i = 0; i < ROUTES; i++)
		registers[i].chosen = names == NULL;
	for (char *name = names ? strtok(names, ",") : NULL; name; name = strtok(NULL, ","))
	{
		int			i = 0;

		while (i < ROUTES && strcmp(routes[i].name, name) != 0)
			i++;
		if (i == ROUTES)
			fail("no route is called %s", name);
		registers[i].chosen = true;
	}
}

static char *
read_options(int argc, char **argv)
{
	char	   *names = NULL;

	for (int i = 1; i < argc; i++)
	{
		char	   *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--stop-at-violation") == 0)
		{
			run.stop_at_violation = true;
			continue;
		}
		i++;
		if (strcmp(argv[i - 1], "--through") == 0 && run.nthrough < THROUGH_MAX)
			run.through[run.nthrough++] = value;
		else if (strcmp(argv[i - 1], "--setup") == 0)
			run.setup = value;
		else if (strcmp(argv[i - 1], "--watch") == 0)
			run.watch = value;
		else if (strcmp(argv[i - 1], "--second-user") == 0)
			run.second_user = value;
		else if (strcmp(argv[i - 1], "--routes") == 0)
			names = value;
		else if (strcmp(argv[i - 1], "--control") == 0)
			run.control = value;
		else if (strcmp(argv[i - 1], "--seconds") == 0)
			run.seconds = (int) strtol(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--readers") == 0)
			run.readers = (int) strtol(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--writers") == 0)
			run.writers = (int) strtol(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--rest") == 0)
			run.rest = (int) strtol(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--reset-every") == 0)
			run.reset_every = (int) strtol(value, NULL, 10);
		else
			fail("option %s is not known", argv[i - 1]);
	}
	return names;
}

static void
report(void)
{
	for (int i = 0; i < ROUTES; i++)
	{
		if (registers[i].chosen)
			printf("route %s %" PRIu64 "\n", routes[i].name, registers[i].writes);
	}
	printf("connects %" PRIuFAST64 "\nresets %" PRIuFAST64 "\nread_errors %" PRIuFAST64 "\nwrite_errors %" PRIuFAST64 "\nunknown %" PRIuFAST64 "\n",
		   connects, resets, read_errors, write_errors, unknown);
	printf("seconds %.1f\nreads %" PRIuFAST64 "\nwrites %" PRIuFAST64 "\nviolations %" PRIuFAST64 "\n", when(now_us()), reads, writes, violations);
}

/* Above all values of earlier runs, of which each took more than a microsecond; also of one that ended in the same second. */
static int64_t
first_value(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((int64_t) t.tv_sec - 1700000000) * 1000000 + t.tv_nsec / 1000;
}

/* Nobody is waited for for ever: an answer that does not come is a failure too. */
static void
join_all(const pthread_t *threads, int n)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	for (int i = 0; i < n; i++)
	{
		if (pthread_timedjoin_np(threads[i], NULL, &until) != 0)
		{
			report();
			fail("a client still waits for an answer");
		}
	}
}

int
main(int argc, char **argv)
{
	pthread_t	threads[2 * THREADS_MAX + 1];
	int			n = 0;
	char	   *names = read_options(argc, argv);

	if (run.setup)
	{
		make_tables();
		return 0;
	}
	if (run.nthrough == 0 || run.readers < 1 || run.readers > THREADS_MAX || run.writers < 1 || run.writers > THREADS_MAX)
		fail("--through is needed, and 1 to %d readers and writers", THREADS_MAX);
	choose(names);
	run.began = now_us();
	for (int i = 0; i < ROUTES; i++)
	{
		pthread_mutex_init(&registers[i].lock, NULL);
		registers[i].attempted = first_value();
	}
	for (int i = 0; i < run.writers; i++)
		pthread_create(&threads[n++], NULL, writer, (void *) (intptr_t) i);
	for (int i = 0; i < run.readers; i++)
		pthread_create(&threads[n++], NULL, reader, (void *) (intptr_t) i);
	if (run.control && run.reset_every > 0)
		pthread_create(&threads[n++], NULL, breaker, NULL);
	while (!atomic_load(&over) && now_us() < run.began + run.seconds * INT64_C(1000000))
		sleep_us(10000);
	atomic_store(&over, true);
	join_all(threads, n);
	report();
	return violations ? 1 : 0;
}
