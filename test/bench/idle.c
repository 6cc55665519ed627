/*
 * idle.c - clients that have logged in, asked once, and then do nothing.
 *
 *   idle CONNECTION_STRING NUMBER
 *
 * Answers nothing itself: what they cost is read from the server's processes while they are there. Prints "ready" when all are in, and
 * leaves when its input ends.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static void
allow_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static PGconn *
client(const char *connection)
{
	PGconn	   *conn = PQconnectdb(connection);
	PGresult   *result = PQexec(conn, "SELECT abalance FROM pgbench_accounts WHERE aid = 1");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "idle: %s", PQerrorMessage(conn));
		exit(1);
	}
	PQclear(result);
	return conn;
}

int
main(int argc, char **argv)
{
	long		number = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	PGconn	  **clients;

	if (number <= 0 || number > 1000000)
	{
		fprintf(stderr, "idle CONNECTION_STRING NUMBER\n");
		return 2;
	}
	allow_files();
	clients = calloc((size_t) number, sizeof(PGconn *));
	if (clients == NULL)
		return 1;
	for (long i = 0; i < number; i++)
		clients[i] = client(argv[1]);
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	for (long i = 0; i < number; i++)
		PQfinish(clients[i]);
	free(clients);
	return 0;
}
