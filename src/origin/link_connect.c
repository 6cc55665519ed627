/*
 * origin/link_connect.c - libpq opens a link, then hands over its socket.
 *
 * libpq knows host lists, TLS modes, certificates and every authentication method; the route needs none of that. So libpq's
 * PQconnectPoll runs until the origin is ready, then the descriptor and the SSL object are driven by net/transport and libpq's
 * own I/O is never called again (it keeps owning them).
 *
 * libpq before 17 has no asynchronous cancel and hides the cancel key, but shows it in its trace: the trace goes to
 * a stream of ours that keeps the one line of BackendKeyData and wipes everything else (passwords pass by there too).
 */
#include "postgres.h"

#include <sys/socket.h>

#include "host/directory.h"
#include "origin/guard.h"
#include "origin/link_internal.h"

typedef struct LinkConnect LinkConnect;

struct LinkConnect
{
	LoginGuard	guard;
	FILE	   *trace;
	char		line[64];		/* the start of the trace line being written */
	size_t		line_len;
	char		stream_buffer[512];
	OriginLink *link;
	int			error;			/* errno of what libpq did last */
};

/* ---- the cancel key ---- */

#ifndef LIBPQ_HAS_ASYNC_CANCEL

/* "B\t12\tBackendKeyData\t <pid> <key>" */
static void
take_trace_line(LinkConnect *connect)
{
	char	   *at;
	int			pid,
				key;

	connect->line[Min(connect->line_len, sizeof(connect->line) - 1)] = '\0';
	at = strstr(connect->line, "BackendKeyData\t");
	/* libpq has just written both by %d: NOLINTNEXTLINE(cert-err34-c) */
	if (at && sscanf(at + strlen("BackendKeyData\t"), "%d %d", &pid, &key) == 2)
	{
		connect->link->origin_pid = (uint32) pid;
		connect->link->origin_key = (uint32) key;
		connect->link->has_key = true;
	}
}

static ssize_t
trace_write(void *cookie, const char *data, size_t n)
{
	LinkConnect *connect = cookie;

	for (size_t i = 0; i < n; i++)
	{
		if (data[i] == '\n')
		{
			take_trace_line(connect);
			connect->line_len = 0;
		}
		else if (connect->line_len < sizeof(connect->line) - 1)
			connect->line[connect->line_len++] = data[i];
	}
	return n;
}

static void
trace_begin(LinkConnect *connect, PGconn *conn)
{
	cookie_io_functions_t io = {.write = trace_write};

	connect->trace = fopencookie(connect, "w", io);
	if (connect->trace == NULL)
		return;					/* then this link cannot be cancelled, which is not an error */
	setvbuf(connect->trace, connect->stream_buffer, _IOLBF, sizeof(connect->stream_buffer));
	PQtrace(conn, connect->trace);
	PQsetTraceFlags(conn, PQTRACE_SUPPRESS_TIMESTAMPS);
}
#endif

void
link_connect_end(OriginLink *link)
{
	LinkConnect *connect = link->connect;

	if (connect == NULL)
		return;
	if (connect->trace)
	{
		if (link->conn)
			PQuntrace(link->conn);
		fclose(connect->trace);
	}
	explicit_bzero(connect, sizeof(LinkConnect));
	mem_free(connect, sizeof(LinkConnect));
	link->connect = NULL;
}

/* libpq would write it to the standard error output, which is the server's log, in the origin's own words and as often as it likes. */
static void
ignore_notice(void *arg, const char *message)
{
}

/* ---- failure ---- */

/*
 * libpq gives a text only. At verbosity VERBOSE the origin's own errors have their SQLSTATE between the (translated)
 * severity and the message, after two spaces: "...: FATAL:  28P01: password ...".
 */
static const char *
find_sqlstate(const char *text, char sqlstate[6])
{
	for (const char *at = strstr(text, ":  "); at; at = strstr(at + 1, ":  "))
	{
		const char *code = at + 3;

		if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':')
		{
			memcpy(sqlstate, code, 5);
			sqlstate[5] = '\0';
			return code + 5 + strspn(code + 5, ": ");
		}
	}
	strcpy(sqlstate, "08001");
	return text;
}

static void
connect_failed(OriginLink *link)
{
	char		sqlstate[6];
	char		text[512];

	strlcpy(text, find_sqlstate(PQerrorMessage(link->conn), sqlstate), sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	/* libpq 18 says nothing of a socket that it cannot make */
	if (text[0] == '\0')
		snprintf(text, sizeof(text), "could not connect: %s", strerror(link->connect->error));
	/* libpq goes on to the next place only if this one refuses; a proxy whose server is gone accepts and closes */
	if (strcmp(sqlstate, "08001") == 0)
		directory_avoid_place(link->target.origin_slot, PQhostaddr(link->conn), PQport(link->conn));
	link_break(link, sqlstate, text);
}

static void
connect_refused(ReactorTimer *timer)
{
	connect_failed((OriginLink *) ((char *) timer - offsetof(OriginLink, timer)));
}

/* libpq goes on to the next place only if this one refuses. */
static void
connect_timed_out(ReactorTimer *timer)
{
	OriginLink *link = (OriginLink *) ((char *) timer - offsetof(OriginLink, timer));
	const char *address = PQhostaddr(link->conn);
	const char *port = PQport(link->conn);
	char		text[256];

	link->hung = true;
	directory_avoid_place(link->target.origin_slot, address, port);
	snprintf(text, sizeof(text), "timeout expired while connecting to the origin at %s port %s (connect_timeout)",
			 address && address[0] ? address : PQhost(link->conn), port);
	link_break(link, "08001", text);
}

/* ---- taking over ---- */

static void
note_address(OriginLink *link)
{
	LinkRow    *row = link->row;
	const char *host = PQhostaddr(link->conn);

	if (host == NULL || host[0] == '\0')
		host = PQhost(link->conn);
	link_row_begin_change(row);
	snprintf(row->address, sizeof(row->address), "%s:%s", host ? host : "", PQport(link->conn) ? PQport(link->conn) : "");
	row->origin_pid = PQbackendPID(link->conn);
	row->tls = PQsslInUse(link->conn);
	link_row_end_change(row);
}

static void
take_parameters(OriginLink *link)
{
	/* everything any version reports; libpq remembers all, but lists none */
	static const char *const names[] = {
		"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
		"integer_datetimes", "IntervalStyle", "is_superuser", "scram_iterations", "search_path", "server_encoding",
		"server_version", "session_authorization", "standard_conforming_strings", "TimeZone",
	};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		const char *value = PQparameterStatus(link->conn, names[i]);

		if (value)
			link_note_parameter(link, bytes_str(names[i]), bytes_str(value));
	}
}

static void
take_over(OriginLink *link)
{
	void	   *ssl = PQsslStruct(link->conn, "OpenSSL");

	PQsetnonblocking(link->conn, 1);
	link->statements = link_statements_create(link->target.statements, link->target.settings, link->target.max_statements);
	if (link->statements == NULL || !transport_init_borrowed(&link->transport, PQsocket(link->conn), ssl))
	{
		link_break(link, "53200", "out of memory for a link");
		return;
	}
	take_parameters(link);
	note_address(link);
	link_connect_end(link);
	reactor_clear_timer(link_reactor, &link->timer);
	link->source.fd = PQsocket(link->conn);
	if (!reactor_add(link_reactor, &link->source, REACTOR_READ))
	{
		link->source.fd = -1;
		link_break(link, "53000", "could not watch the connection");
		return;
	}
	counter_add(link->target.counters, COUNT_LINKS_OPENED, 1);
	link_set_state(link, LINK_IDLE);
	link->target.on_ready(link, LINK_CONNECTING);
}

static void
connected(OriginLink *link)
{
	if (link->target.require_password && !PQconnectionUsedPassword(link->conn))
		link_break(link, "2F003", "the origin did not ask for the password of a credential that was not set by a superuser");
	else
		take_over(link);
}

/* ---- steps ---- */

static bool
wait_for(OriginLink *link, int events)
{
	link->source.fd = PQsocket(link->conn);
	if (link->source.fd >= 0 && reactor_add(link_reactor, &link->source, events))
		return true;
	link->source.fd = -1;
	return false;
}

/* libpq reads and, if the origin is done, is taken over. */
static void
poll_libpq(OriginLink *link)
{
	PostgresPollingStatusType status;

	/* libpq may close this descriptor and open another (next host, next sslmode) */
	reactor_remove(link_reactor, &link->source);
	status = PQconnectPoll(link->conn);
	link->connect->error = errno;
	switch (status)
	{
		case PGRES_POLLING_READING:
		case PGRES_POLLING_WRITING:
			if (!wait_for(link, status == PGRES_POLLING_READING ? REACTOR_READ : REACTOR_WRITE))
				link_break(link, "53000", "could not watch the connection");
			break;
		case PGRES_POLLING_OK:
			connected(link);
			break;
		default:
			connect_failed(link);
			break;
	}
}

void
link_connect_step(OriginLink *link)
{
	LoginGuard *guard = &link->connect->guard;

	switch (guard_look(guard, link->conn))
	{
		case GUARD_GO:
			poll_libpq(link);
			break;
		case GUARD_WAIT:
			break;
		case GUARD_REFUSE:
			link_break(link, guard->sqlstate, guard->refusal);
			break;
	}
}

bool
link_connect_begin(OriginLink *link)
{
	LinkConnect *connect = mem_zalloc(sizeof(LinkConnect));

	if (connect == NULL)
		return false;
	connect->link = link;
	connect->guard.password_only = link->target.require_password;
	link->connect = connect;
	link->conn = PQconnectStartParams(link->target.keywords, link->target.values, 0);
	connect->error = errno;
	if (link->conn == NULL)
	{
		link_connect_end(link);
		return false;
	}
	PQsetErrorVerbosity(link->conn, PQERRORS_VERBOSE);
	PQsetNoticeProcessor(link->conn, ignore_notice, NULL);
#ifndef LIBPQ_HAS_ASYNC_CANCEL
	trace_begin(connect, link->conn);
#endif
	link->target.keywords = link->target.values = NULL;
	link->timer.on_time = connect_timed_out;
	if (link->target.connect_timeout > 0)
		reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + link->target.connect_timeout);
	if (PQstatus(link->conn) == CONNECTION_BAD || !wait_for(link, REACTOR_WRITE))
	{
		/* told from the timer, so that link_open's caller has the link before its first news */
		link->timer.on_time = connect_refused;
		reactor_set_timer(link_reactor, &link->timer, 1);
	}
	return true;
}
