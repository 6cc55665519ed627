/*
 * libpq.c - libpq itself: pipelines, rows one by one, binary, COPY, describe, large objects, cancel.
 * README.md has the list of checks.
 */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
hear_nothing(void *arg, const char *message)
{
	(void) arg;
	(void) message;
}

static PGconn *
connect_now(void)
{
	PGconn	   *c = PQconnectdb("");	/* PGHOST and its kin */

	if (PQstatus(c) != CONNECTION_OK)
	{
		printf("not ok - %s", PQerrorMessage(c));
		exit(1);
	}
	PQsetNoticeProcessor(c, hear_nothing, NULL);
	return c;
}

/* What a result says: status, SQLSTATE, command tag, values. */
static void
say(PGresult *r)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	printf(" %s", PQresStatus(PQresultStatus(r)) + strlen("PGRES_"));
	if (state)
		printf(" %s", state);
	if (PQcmdStatus(r)[0])
		printf(" '%s'", PQcmdStatus(r));
	for (int i = 0; i < PQntuples(r) && i < 3; i++)
	{
		for (int j = 0; j < PQnfields(r); j++)
			printf("%s%.60s", j ? "," : " ", PQgetisnull(r, i, j) ? "null" : PQgetvalue(r, i, j));
	}
	PQclear(r);
}

static void
say_all(PGconn *c)
{
	PGresult   *r;

	while ((r = PQgetResult(c)) != NULL)
		say(r);
}

static void
login(PGconn *c)
{
	printf(" %d %s tls=%d %s", PQserverVersion(c), PQparameterStatus(c, "server_encoding"), PQsslInUse(c), PQparameterStatus(c, "integer_datetimes"));
	say(PQexec(c, "SELECT current_user, current_database()"));
}

static void
simple(PGconn *c)
{
	PQsendQuery(c, "SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i; ; SELECT 1 / 0; SELECT 'not run'");
	say_all(c);
	say(PQexec(c, ""));
}

static void
types(PGconn *c)
{
	static const char *const text = "SELECT $1::int2, $2::int8, $3::numeric, $4::float8, $5::bool, $6::text, $7::bytea, $8::timestamptz, $9::jsonb, $10::int4[], $11::text";
	static const char *const values[] = {"7", "9007199254740993", "12345.6789", "0.1", "t", "Grüße 'x' \\ %", "\\x00ff10",
	"2024-02-29 23:59:58.123456+00", "{\"a\": [1, null]}", "{1,2,3}", NULL};
	static const char big_endian[4] = {0, 0, 1, 2};
	const char *binary_values[1] = {big_endian};
	const Oid	oids[1] = {23};
	const int	lengths[1] = {4};
	const int	formats[1] = {1};
	PGresult   *r = PQexecParams(c, text, 11, NULL, values, NULL, NULL, 0);

	for (int i = 0; i < PQnfields(r); i++)
		printf(" %u/%d", PQftype(r, i), PQfmod(r, i));
	say(r);
	r = PQexecParams(c, text, 11, NULL, values, NULL, NULL, 1);
	for (int i = 0; i < PQnfields(r); i++)
		printf(" %d", PQgetlength(r, 0, i));
	PQclear(r);
	say(PQexecParams(c, "SELECT $1", 1, oids, binary_values, lengths, formats, 0));
}

static void
prepared(PGconn *c)
{
	const char *values[1] = {"41"};
	PGresult   *r;

	say(PQprepare(c, "plus", "SELECT $1::int + 1", 0, NULL));
	for (int i = 0; i < 20; i++)
		PQclear(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0));
	say(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0));
	r = PQdescribePrepared(c, "plus");
	printf(" %d:%u %d:%s:%u", PQnparams(r), PQparamtype(r, 0), PQnfields(r), PQfname(r, 0), PQftype(r, 0));
	PQclear(r);
	say(PQprepare(c, "plus", "SELECT 1", 0, NULL));
	say(PQexec(c, "EXECUTE plus (1)"));
	say(PQexec(c, "DEALLOCATE plus"));
	say(PQexecPrepared(c, "plus", 1, values, NULL, NULL, 0));
	say(PQdescribePrepared(c, "none"));
	say(PQprepare(c, "", "SELECT $1::text", 0, NULL));
	say(PQexecPrepared(c, "", 1, values, NULL, NULL, 0));
}

static void
transaction(PGconn *c)
{
	say(PQexec(c, "DROP TABLE IF EXISTS visits; CREATE TABLE visits (id int PRIMARY KEY, page text)"));
	say(PQexec(c, "BEGIN"));
	printf(" (%d)", PQtransactionStatus(c));
	say(PQexec(c, "INSERT INTO visits VALUES (1, 'kept') RETURNING page"));
	say(PQexec(c, "SAVEPOINT s"));
	say(PQexec(c, "INSERT INTO visits VALUES (1, 'again')"));
	printf(" (%d)", PQtransactionStatus(c));
	say(PQexec(c, "SELECT 1"));
	say(PQexec(c, "ROLLBACK TO s"));
	say(PQexec(c, "COMMIT"));
	say(PQexec(c, "BEGIN; INSERT INTO visits VALUES (2, 'gone'); ROLLBACK; SELECT * FROM visits"));
	printf(" (%d)", PQtransactionStatus(c));
}

static void
pipeline(PGconn *c)
{
	char		number[12];
	const char *values[1] = {number};

	PQenterPipelineMode(c);
	PQsendPrepare(c, "double", "SELECT $1::int * 2", 0, NULL);
	for (int i = 0; i < 12; i++)
	{
		snprintf(number, sizeof(number), "%d", i);
		if (i % 5 == 4)
			PQsendQueryParams(c, "SELECT 1 / ($1::int - $1::int)", 1, NULL, values, NULL, NULL, 0);
		else
			PQsendQueryPrepared(c, "double", 1, values, NULL, NULL, 0);
		if (i % 3 == 2)
			PQpipelineSync(c);
	}
	PQsendDescribePrepared(c, "double");
	PQsendQueryParams(c, "INSERT INTO visits VALUES (60, 'with the error')", 0, NULL, NULL, NULL, NULL, 0);
	PQsendQueryParams(c, "SELECT 1 / 0", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(c);
	PQsendQueryParams(c, "SELECT count(*) FROM visits", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(c);
	for (int syncs = 0; syncs < 6;)
	{
		PGresult   *r = PQgetResult(c);

		if (r == NULL)
			continue;
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC)
			syncs++;
		say(r);
	}
	printf(" left=%d", PQexitPipelineMode(c));
}

/* An answer is asked for by Flush, before any Sync. */
static void
flush(PGconn *c)
{
	PQenterPipelineMode(c);
	PQsendQueryParams(c, "INSERT INTO visits VALUES (70, 'flushed')", 0, NULL, NULL, NULL, NULL, 0);
	PQsendFlushRequest(c);
	PQflush(c);
	say(PQgetResult(c));
	PQclear(PQgetResult(c));
	PQsendQueryParams(c, "SELECT page FROM visits WHERE id = 70", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(c);
	say(PQgetResult(c));
	PQclear(PQgetResult(c));
	say(PQgetResult(c));
	PQexitPipelineMode(c);
}

static void
copy(PGconn *c)
{
	char		line[40];
	char	   *row;
	int			rows = 0;

	say(PQexec(c, "COPY visits FROM STDIN"));
	for (int i = 100; i < 20100; i++)
		PQputCopyData(c, line, snprintf(line, sizeof(line), "%d\tpage %d\n", i, i));
	PQputCopyEnd(c, NULL);
	say_all(c);
	say(PQexec(c, "COPY visits TO STDOUT (FORMAT binary)"));
	for (; PQgetCopyData(c, &row, 0) > 0; rows++)
		PQfreemem(row);
	say_all(c);
	printf(" %d rows", rows);
	say(PQexec(c, "COPY visits FROM STDIN"));
	PQputCopyEnd(c, "no more");
	say_all(c);
	say(PQexec(c, "COPY visits FROM STDIN"));
	PQputCopyData(c, "x\ty\n", 4);
	PQputCopyEnd(c, NULL);
	say_all(c);
}

static void
rows_one_by_one(PGconn *c)
{
	PGresult   *r;
	int			rows = 0;

	PQsendQuery(c, "SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i");
	PQsetSingleRowMode(c);
	for (; (r = PQgetResult(c)) && PQresultStatus(r) == PGRES_SINGLE_TUPLE; rows++)
		PQclear(r);
	PQclear(r);
	say_all(c);
	printf(" %d rows", rows);
}

static void
large(PGconn *c)
{
	char	   *text = malloc(8000001);
	const char *values[1] = {text};
	PGresult   *r;

	memset(text, 'b', 8000000);
	text[8000000] = 0;
	r = PQexecParams(c, "SELECT $1::text", 1, NULL, values, NULL, NULL, 0);
	printf(" %d %d", PQgetlength(r, 0, 0), strcmp(PQgetvalue(r, 0, 0), text));
	PQclear(r);
	free(text);
}

static void
large_object(PGconn *c)
{
	char		bytes[9999] = {0};
	int			fd;

	PQclear(PQexec(c, "BEGIN"));
	fd = lo_open(c, lo_create(c, 0), INV_READ | INV_WRITE);
	printf(" %d", lo_write(c, fd, bytes, sizeof(bytes)));
	printf(" %d", lo_lseek(c, fd, 5000, SEEK_SET));
	printf(" %d", lo_read(c, fd, bytes, sizeof(bytes)));
	say(PQexec(c, "ROLLBACK"));
}

static void
settings(PGconn *c)
{
	PGconn	   *other = PQconnectdb("options='-c search_path=pg_catalog -c extra_float_digits=0' application_name=check client_encoding=LATIN1");

	say(PQexec(c, "SET TIME ZONE 'Asia/Tokyo'; SET search_path TO pg_catalog, public"));
	say(PQexec(c, "SELECT '2024-01-01 00:00+00'::timestamptz, current_setting('search_path')"));
	say(PQexec(c, "SET search_path TO nowhere; SELECT 1 / 0"));
	say(PQexec(c, "BEGIN; SET LOCAL search_path TO nowhere; SHOW search_path; COMMIT; SHOW search_path; RESET search_path; SHOW search_path"));
	say(PQexec(other, "SELECT current_setting('search_path'), current_setting('extra_float_digits'), current_setting('client_encoding')"));
	printf(" %s %s %s", PQparameterStatus(c, "TimeZone"), PQparameterStatus(other, "client_encoding"), PQparameterStatus(other, "is_superuser"));
	PQfinish(other);
}

static void
cancel(PGconn *c)
{
	char		error[256];
	PGcancel   *key = PQgetCancel(c);

	PQsendQuery(c, "SELECT pg_sleep(10)");
	usleep(300000);
	printf(" %d", PQcancel(key, error, sizeof(error)));
	say_all(c);
	say(PQexec(c, "SELECT 'still here'"));
	PQfreeCancel(key);
}

static void
short_connections(PGconn *c)
{
	int			good = 0;

	for (int i = 0; i < 30; i++)
	{
		PGconn	   *one = connect_now();
		PGresult   *r = PQexec(one, "SELECT 1");

		good += PQntuples(r);
		PQclear(r);
		PQfinish(one);
	}
	PQreset(c);
	printf(" %d", good);
	say(PQexec(c, "SELECT 'and the first again'"));
}

static int
one_of_many(int n)
{
	PGconn	   *c = connect_now();
	char		text[200];
	int			good = 0;

	for (int i = 0; i < 10; i++)
	{
		PGresult   *r;

		PQclear(PQexec(c, "BEGIN"));
		snprintf(text, sizeof(text), "UPDATE visits SET page = page || '.' WHERE id = %d RETURNING pg_backend_pid()", 100 + n);
		r = PQexec(c, text);
		snprintf(text, sizeof(text), "SELECT pg_backend_pid() = %s", PQgetvalue(r, 0, 0));
		PQclear(r);
		r = PQexec(c, text);
		good += PQgetvalue(r, 0, 0)[0] == 't';
		PQclear(r);
		PQclear(PQexec(c, "COMMIT"));
	}
	PQfinish(c);
	return good;
}

static void
at_once(PGconn *c)
{
	int			good = 0;
	int			status;

	fflush(stdout);
	for (int n = 0; n < 8; n++)
	{
		if (fork() == 0)
			_exit(one_of_many(n));
	}
	while (wait(&status) > 0)
		good += WEXITSTATUS(status);
	printf(" %d", good);
	say(PQexec(c, "SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107"));
}

int
main(void)
{
	static const struct { const char *name; void (*work) (PGconn *c); } checks[] = {
		{"login", login}, {"simple", simple}, {"types", types}, {"prepared", prepared}, {"transaction", transaction},
		{"pipeline", pipeline}, {"flush", flush}, {"copy", copy}, {"rows_one_by_one", rows_one_by_one}, {"large", large},
		{"large_object", large_object}, {"settings", settings}, {"cancel", cancel}, {"short_connections", short_connections},
		{"at_once", at_once},
	};

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
	{
		PGconn	   *c = connect_now();

		printf("ok - %s:", checks[i].name);
		checks[i].work(c);
		printf("\n");
		PQfinish(c);
	}
	return 0;
}
