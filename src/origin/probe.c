/*
 * origin/probe.c - can this origin be reached, and if not, why?                   floor 5
 *
 * First a connection of our own to each place in turn (resolver, connect, SSLRequest), so that the errors of these steps are known
 * by themselves; then libpq connects as a link would. A TLS failure is told apart by trying again with less verification
 * and stopping before a startup packet, let alone a password, is sent.
 *
 * Owns, while it runs: look-ups, one socket, one PGconn; all are closed in one place. Never: matches a message text.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libpq-fe.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "net/resolve.h"
#include "origin/guard.h"
#include "origin/probe.h"

#define OLDEST_VERSION	120000
#define OPTIONS_EXTRA	16
#define RECEIVES_MAX	100		/* for the answer to the test query */

typedef struct Probe
{
	const ProbeTarget *target;
	ProbeResult *result;
	TimestampTz until;			/* DT_NOEND = no limit */
	TimestampTz step_began;
	Place		places[PLACES_MAX];
	int			nplaces;
	int			fd;				/* of our own connection, or -1 */
	char		where[320];		/* the place and address tried last, for messages */
	bool		refused;		/* the last place refused */
	bool		timed_out;		/* the last place did not answer in time */
	int			error;			/* errno of the last place */
	PGconn	   *conn;
	LoginGuard	guard;			/* of its login */
	bool		refused_login;	/* by the guard */
	bool		tls_passed;		/* libpq's handshake was finished */
	char		hosts[1024];	/* the places that can be tried, for libpq */
	char		hostaddrs[1024];
	char		ports[512];
} Probe;

static const char *const step_names[PROBE_STEPS] = {"resolve", "TCP", "TLS", "authentication", "query"};

const char *
probe_step_name(ProbeStep step)
{
	return step < PROBE_STEPS ? step_names[step] : "unknown";
}

/* ---- time and waiting ---- */

static long
milliseconds_left(const Probe *p)
{
	TimestampTz left;

	if (p->until == DT_NOEND)
		return 3600 * 1000L;
	left = (p->until - GetCurrentTimestamp() + 999) / 1000;
	return left > 0 ? (long) left : 0;
}

static void
step_begin(Probe *p, ProbeStep step)
{
	p->result->done[step] = true;
	p->step_began = GetCurrentTimestamp();
}

static void
step_end(Probe *p, ProbeStep step)
{
	p->result->milliseconds[step] = (double) (GetCurrentTimestamp() - p->step_began) / 1000.0;
}

/* The first failure is what is reported; false, so that a caller may return it. */
static bool
fail(Probe *p, ProbeStep step, int sqlstate, const char *message, const char *detail, const char *hint)
{
	step_end(p, step);
	p->result->failed = step;
	p->result->sqlstate = sqlstate;
	p->result->message = message;
	p->result->detail = detail;
	p->result->hint = hint;
	return false;
}

/* True: the socket is ready. False: the time is over. */
static bool
wait_socket(const Probe *p, int fd, int events)
{
	for (;;)
	{
		long		left = milliseconds_left(p);
		int			rc;

		if (left == 0)
			return false;
		rc = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | events, fd, left, PG_WAIT_EXTENSION);
		if (rc & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (rc & events)
			return true;
	}
}

static void
nap(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* ---- options ---- */

static const char *
option(const ProbeTarget *target, const char *name)
{
	int			i;

	for (i = 0; i < target->noptions; i++)
	{
		if (strcmp(target->names[i], name) == 0)
			return target->values[i];
	}
	return NULL;
}

static const char *
sslmode(const ProbeTarget *target)
{
	const char *mode = option(target, "sslmode");

	return mode != NULL ? mode : "prefer";
}

static bool
verifies(const char *mode)
{
	return strncmp(mode, "verify-", 7) == 0;
}

static bool
demands_tls(const ProbeTarget *target)
{
	return verifies(sslmode(target)) || strcmp(sslmode(target), "require") == 0;
}

/* ---- step 1: names ---- */

static bool
resolve_failed(Probe *p, const Place *place)
{
	struct addrinfo *list;
	bool		done = place->lookup != NULL && resolve_done(place->lookup);

	return fail(p, PROBE_RESOLVE, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				psprintf("could not resolve host name \"%s\" of origin \"%s\"", place->host, p->target->origin),
				done ? pstrdup(gai_strerror(resolve_result(place->lookup, &list))) : "The name service did not answer in time.",
				"Check the host in the connection string and the name service of this machine.");
}

static bool
has_address(const Place *place)
{
	struct addrinfo *list;

	if (!place_needs_lookup(place))
		return true;
	return place->lookup != NULL && resolve_done(place->lookup) && resolve_result(place->lookup, &list) == 0 && list != NULL;
}

static bool
resolve_places(Probe *p)
{
	long		pause = 1;
	int			i;

	step_begin(p, PROBE_RESOLVE);
	p->nplaces = places_read(option(p->target, "host"), option(p->target, "hostaddr"), option(p->target, "port"), p->places);
	places_start(p->places, p->nplaces);
	while (!places_done(p->places, p->nplaces) && milliseconds_left(p) > 0)
	{
		nap(pause);
		pause = Min(pause * 2, 50);
	}
	step_end(p, PROBE_RESOLVE);
	for (i = 0; i < p->nplaces; i++)
	{
		if (has_address(&p->places[i]))
			return true;
	}
	if (p->nplaces > 0)
		return resolve_failed(p, &p->places[0]);
	return fail(p, PROBE_RESOLVE, ERRCODE_INVALID_PARAMETER_VALUE, psprintf("origin \"%s\" has no host", p->target->origin), NULL,
				"Name it in the connection string: host=...");
}

/* ---- step 2: a connection of our own ---- */

static void
close_socket(Probe *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static bool
note_errno(Probe *p, int error)
{
	p->error = error;
	p->refused = error == ECONNREFUSED || error == ENOENT;
	p->timed_out = error == ETIMEDOUT;
	close_socket(p);
	return false;
}

static bool
connect_address(Probe *p, const struct sockaddr *address, socklen_t size)
{
	int			error = 0;
	socklen_t	error_size = sizeof(error);

	p->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		return note_errno(p, errno);
	if (connect(p->fd, address, size) == 0)
		return true;
	if (errno != EINPROGRESS)
		return note_errno(p, errno);
	if (!wait_socket(p, p->fd, WL_SOCKET_WRITEABLE))
		return note_errno(p, ETIMEDOUT);
	if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
		return note_errno(p, errno);
	return error == 0 || note_errno(p, error);
}

static bool
connect_unix(Probe *p, const Place *place)
{
	struct sockaddr_un address;
	int			n;

	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.%s", place->host, place->port);
	snprintf(p->where, sizeof(p->where), "%s/.s.PGSQL.%s", place->host, place->port);
	if (n < 0 || n >= (int) sizeof(address.sun_path))
		return note_errno(p, ENAMETOOLONG);
	if (place->host[0] != '@')
		return connect_address(p, (struct sockaddr *) &address, sizeof(address));
	address.sun_path[0] = '\0';	/* abstract: the name counts by its length */
	return connect_address(p, (struct sockaddr *) &address, offsetof(struct sockaddr_un, sun_path) + n);
}

static bool
connect_list(Probe *p, const Place *place, const struct addrinfo *list)
{
	char		text[64];

	for (; list != NULL; list = list->ai_next)
	{
		if (!resolve_address_text(list, text, sizeof(text)))
			continue;
		if (place->host[0] != '\0' && strcmp(place->host, text) != 0)
			snprintf(p->where, sizeof(p->where), "%s (%s) port %s", place->host, text, place->port);
		else
			snprintf(p->where, sizeof(p->where), "%s port %s", text, place->port);
		if (connect_address(p, list->ai_addr, list->ai_addrlen))
			return true;
	}
	return false;
}

/* hostaddr is numeric, so this look-up asks nobody. */
static bool
connect_literal(Probe *p, const Place *place)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	bool		good;

	snprintf(p->where, sizeof(p->where), "%s port %s", place->hostaddr, place->port);
	if (getaddrinfo(place->hostaddr, place->port, &hints, &list) != 0)
		return note_errno(p, EINVAL);
	/* an interrupt here would lose the few bytes of the list, once */
	good = connect_list(p, place, list);
	freeaddrinfo(list);
	return good;
}

static bool
connect_place(Probe *p, const Place *place)
{
	struct addrinfo *list;

	if (place_is_socket(place))
		return connect_unix(p, place);
	if (place->hostaddr[0] != '\0')
		return connect_literal(p, place);
	(void) resolve_result(place->lookup, &list);
	return connect_list(p, place, list);
}

static bool
connect_failed(Probe *p)
{
	const char *origin = p->target->origin;

	if (p->refused)
		return fail(p, PROBE_TCP, ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION,
					psprintf("origin \"%s\" refuses connections at %s", origin, p->where), NULL,
					"Check that PostgreSQL runs there and listens on that address and port.");
	if (p->timed_out)
		return fail(p, PROBE_TCP, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("origin \"%s\" does not answer at %s", origin, p->where), NULL,
					"A firewall or a wrong address is likely; the time allowed is the origin's connect_timeout.");
	return fail(p, PROBE_TCP, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				psprintf("origin \"%s\" cannot be reached at %s", origin, p->where), pstrdup(strerror(p->error)),
				"Check the host and port in the connection string and the route to it.");
}

/* One that does not answer leaves time for those behind it. */
static bool
connect_in_part(Probe *p, int i)
{
	TimestampTz until = p->until;
	bool		good;

	if (until != DT_NOEND)
		p->until = GetCurrentTimestamp() + Max(until - GetCurrentTimestamp(), 0) / (p->nplaces - i);
	good = connect_place(p, &p->places[i]);
	p->until = until;
	return good;
}

static bool
connect_first(Probe *p, int *place)
{
	int			i;

	step_begin(p, PROBE_TCP);
	for (i = 0; i < p->nplaces; i++)
	{
		if (!has_address(&p->places[i]) || !connect_in_part(p, i))
			continue;
		step_end(p, PROBE_TCP);
		p->result->notes[PROBE_TCP] = pstrdup(p->where);
		*place = i;
		return true;
	}
	return connect_failed(p);
}

/* ---- step 3: one byte that says whether there is TLS, or PostgreSQL at all ---- */

/* The answer to an SSLRequest; 0: none (closed or too late). */
static char
ask_tls(Probe *p)
{
	static const uint8 request[8] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};
	char		answer;

	if (send(p->fd, request, sizeof(request), MSG_NOSIGNAL) != sizeof(request) || !wait_socket(p, p->fd, WL_SOCKET_READABLE))
		return 0;
	return recv(p->fd, &answer, 1, 0) == 1 ? answer : 0;
}

/* A host that offers TLS without being asked (sslnegotiation=direct) may know no SSLRequest. */
static bool
check_tls_offer(Probe *p, const Place *place)
{
	const char *negotiation = option(p->target, "sslnegotiation");
	char		answer;

	if (place_is_socket(place) || strcmp(sslmode(p->target), "disable") == 0 || (negotiation != NULL && strcmp(negotiation, "direct") == 0))
		return true;
	step_begin(p, PROBE_TLS);
	answer = ask_tls(p);
	if (answer == 0 && milliseconds_left(p) == 0)
		return fail(p, PROBE_TLS, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("origin \"%s\" accepts connections at %s but says nothing", p->target->origin, p->where), NULL,
					"Is it overloaded, or something else than PostgreSQL? The time allowed is the origin's connect_timeout.");
	if (answer != 'S' && answer != 'N' && answer != 'E')
		return fail(p, PROBE_TLS, ERRCODE_PROTOCOL_VIOLATION,
					psprintf("what answers for origin \"%s\" at %s does not speak PostgreSQL's protocol", p->target->origin, p->where), NULL,
					"Check the host and port in the connection string.");
	if (answer != 'S' && demands_tls(p->target))
		return fail(p, PROBE_TLS, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("origin \"%s\" offers no TLS, but sslmode is %s", p->target->origin, sslmode(p->target)), NULL,
					"Turn TLS on at the origin, or choose sslmode=prefer if the way to it is trusted.");
	return true;
}

/* ---- step 4: libpq connects ---- */

static void
append_item(char *list, size_t size, const char *item, bool first)
{
	size_t		used = strlen(list);

	snprintf(list + used, size - used, "%s%s", first ? "" : ",", item);
}

static void
append_place(Probe *p, const Place *place, const char *hostaddr, bool *first)
{
	append_item(p->hosts, sizeof(p->hosts), place->host, *first);
	append_item(p->hostaddrs, sizeof(p->hostaddrs), hostaddr, *first);
	append_item(p->ports, sizeof(p->ports), place->port, *first);
	*first = false;
}

/* Names stay for verification, addresses are those found, so libpq asks no name service. The place that has answered comes first: libpq stays with one that does not. */
static void
list_places(Probe *p, int answered)
{
	bool		first = true;
	int			n;

	for (n = 0; n < p->nplaces; n++)
	{
		int			i = (answered + n) % p->nplaces;
		struct addrinfo *list;
		char		text[64];

		if (!has_address(&p->places[i]))
			continue;
		if (!place_needs_lookup(&p->places[i]))
		{
			append_place(p, &p->places[i], p->places[i].hostaddr, &first);
			continue;
		}
		(void) resolve_result(p->places[i].lookup, &list);
		for (; list != NULL && strlen(p->hosts) + strlen(p->places[i].host) + 2 < sizeof(p->hosts); list = list->ai_next)
		{
			if (resolve_address_text(list, text, sizeof(text)))
				append_place(p, &p->places[i], text, &first);
		}
	}
}

typedef struct Keywords
{
	const char **names;
	const char **values;
	int			n;
} Keywords;

/* The last of a name counts. */
static void
keyword(Keywords *k, const char *name, const char *value)
{
	int			i;

	for (i = 0; i < k->n; i++)
	{
		if (strcmp(k->names[i], name) == 0)
			break;
	}
	k->names[i] = name;
	k->values[i] = value;
	k->n = Max(k->n, i + 1);
}

static void
initial_keywords(Probe *p, Keywords *k)
{
	int			i;

	k->names = palloc0(sizeof(char *) * (p->target->noptions + OPTIONS_EXTRA));
	k->values = palloc0(sizeof(char *) * (p->target->noptions + OPTIONS_EXTRA));
	k->n = 0;
	/* what libpq would otherwise find in the server's own environment */
	keyword(k, "gssencmode", "disable");
	keyword(k, "passfile", "/dev/null/none");
	if (p->target->require_password)
		keyword(k, "sslcert", "/dev/null/none");
	keyword(k, "application_name", "hyperpool");
	for (i = 0; i < p->target->noptions; i++)
		keyword(k, p->target->names[i], p->target->values[i]);
	keyword(k, "host", p->hosts);
	keyword(k, "hostaddr", p->hostaddrs);
	keyword(k, "port", p->ports);
	keyword(k, "user", p->target->user);
}

/* One step of libpq's connecting; the descriptor may be another after each. */
static PostgresPollingStatusType
poll_conn(Probe *p, PostgresPollingStatusType status)
{
	int			events = status == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;

	GuardVerdict verdict = GUARD_WAIT;

	while (verdict == GUARD_WAIT)
	{
		if (PQsocket(p->conn) < 0 || !wait_socket(p, PQsocket(p->conn), events))
			return PGRES_POLLING_FAILED;
		verdict = guard_look(&p->guard, p->conn);
	}
	p->refused_login = verdict == GUARD_REFUSE;
	return p->refused_login ? PGRES_POLLING_FAILED : PQconnectPoll(p->conn);
}

static void
end_conn(Probe *p)
{
	if (p->conn != NULL)
		PQfinish(p->conn);
	p->conn = NULL;
}

/* libpq would write it to the server's log. */
static void
ignore_notice(void *arg, const char *message)
{
}

static bool
start_conn(Probe *p, const Keywords *k)
{
	p->conn = PQconnectStartParams(k->names, k->values, 0);
	if (p->conn == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"), errhidestmt(true), errhidecontext(true)));
	PQsetErrorVerbosity(p->conn, PQERRORS_VERBOSE);
	PQsetNoticeProcessor(p->conn, ignore_notice, NULL);
	return PQstatus(p->conn) != CONNECTION_BAD;
}

/* When libpq is about to send the startup packet over TLS, the handshake and its verification are behind it. */
static bool
handshake_is_over(const Probe *p)
{
	return PQstatus(p->conn) == CONNECTION_MADE && PQsslInUse(p->conn);
}

static void
note_handshake(Probe *p)
{
	if (p->tls_passed || !handshake_is_over(p))
		return;
	p->tls_passed = true;
	step_end(p, PROBE_TLS);
	p->result->notes[PROBE_TLS] = psprintf("%s, %s", PQsslAttribute(p->conn, "protocol"), PQsslAttribute(p->conn, "cipher"));
	step_begin(p, PROBE_AUTHENTICATION);
}

static bool
connect_libpq(Probe *p)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	Keywords	k;

	initial_keywords(p, &k);
	if (p->target->password != NULL)
		keyword(&k, "password", p->target->password);
	if (p->target->sslpassword != NULL)
		keyword(&k, "sslpassword", p->target->sslpassword);
	step_begin(p, PROBE_TLS);
	if (!start_conn(p, &k))
		return false;
	while (status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		status = poll_conn(p, status);
		note_handshake(p);
	}
	if (!p->tls_passed)
	{
		double		spent = (double) (GetCurrentTimestamp() - p->step_began) / 1000.0;

		/* no TLS: what was spent belongs to the authentication, so its clock is not set again */
		p->result->done[PROBE_AUTHENTICATION] = true;
		p->result->milliseconds[PROBE_AUTHENTICATION] = spent;
		p->result->milliseconds[PROBE_TLS] = 0;
		p->result->notes[PROBE_TLS] = "not used";
	}
	return status == PGRES_POLLING_OK;
}

/* Does the handshake pass with this sslmode? Nothing but TLS is sent. */
static bool
handshake_passes(Probe *p, const char *mode)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	bool		passed = false;
	Keywords	k;

	end_conn(p);
	initial_keywords(p, &k);
	keyword(&k, "password", "");
	keyword(&k, "sslmode", mode);
	/* with a root file even "require" verifies; this one does not exist */
	if (!verifies(mode))
		keyword(&k, "sslrootcert", "/dev/null/none");
	if (p->target->sslpassword != NULL)
		keyword(&k, "sslpassword", p->target->sslpassword);
	if (start_conn(p, &k))
	{
		while (!passed && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
		{
			status = poll_conn(p, status);
			passed = handshake_is_over(p);
		}
	}
	end_conn(p);
	return passed;
}

/* ---- why libpq has failed ---- */

/* The first SQLSTATE of a verbose message: two spaces, five letters or digits, a colon. The same in every language. */
static bool
find_sqlstate(const char *text, char *sqlstate)
{
	const char *at;

	for (at = strstr(text, ":  "); at != NULL; at = strstr(at + 1, ":  "))
	{
		if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':')
		{
			memcpy(sqlstate, at + 3, 5);
			sqlstate[5] = '\0';
			return true;
		}
	}
	return false;
}

static char *
first_line(const char *text)
{
	return pnstrdup(text, strcspn(text, "\n"));
}

static bool
tls_failed(Probe *p, const char *said)
{
	const char *origin = p->target->origin;
	const char *mode = sslmode(p->target);

	if (strcmp(mode, "verify-full") == 0 && handshake_passes(p, "verify-ca"))
		return fail(p, PROBE_TLS, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("the certificate of origin \"%s\" is for another host name", origin), said,
					"Use the host name that is in the certificate, or sslmode=verify-ca if the name does not matter.");
	if (handshake_passes(p, "require"))
		return fail(p, PROBE_TLS, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("the certificate of origin \"%s\" is not trusted", origin), said,
					PQlibVersion() >= 160000
					? "Name the file of its certificate authority by sslrootcert (or sslrootcert=system), have it renewed if it has expired, or choose sslmode=require to go unverified."
					: "Name the file of its certificate authority by sslrootcert, have it renewed if it has expired, or choose sslmode=require to go unverified.");
	return fail(p, PROBE_TLS, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				psprintf("the TLS handshake with origin \"%s\" failed", origin), said,
				"Check the ssl options of the connection string.");
}

static int
code_of(const char *sqlstate)
{
	return MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4]);
}

static bool
refused_with(Probe *p, const char *sqlstate, const char *said)
{
	const char *origin = p->target->origin;
	const char *user = p->target->user;
	const char *dbname = option(p->target, "dbname");
	int			code = code_of(sqlstate);

	if (code == ERRCODE_INVALID_PASSWORD)
		return fail(p, PROBE_AUTHENTICATION, code, psprintf("password authentication failed for user \"%s\" at origin \"%s\"", user, origin), NULL,
					"Give the right user and password in the connection string, or by hyperpool.set_credential.");
	if (code == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION)
		return fail(p, PROBE_AUTHENTICATION, code, psprintf("origin \"%s\" does not let user \"%s\" in", origin, user), said,
					"Check the role and pg_hba.conf of the origin.");
	if (code == ERRCODE_UNDEFINED_DATABASE)
		return fail(p, PROBE_AUTHENTICATION, code,
					psprintf("database \"%s\" does not exist at origin \"%s\"", dbname != NULL ? dbname : user, origin), NULL,
					"Correct dbname in the connection string.");
	return fail(p, PROBE_AUTHENTICATION, code, psprintf("origin \"%s\" refused the connection", origin), said, NULL);
}

static bool
libpq_failed(Probe *p)
{
	const char *said = first_line(PQerrorMessage(p->conn));
	const char *origin = p->target->origin;
	char		sqlstate[6];

	if (p->refused_login)
		return fail(p, PROBE_AUTHENTICATION, code_of(p->guard.sqlstate), psprintf("could not log in to origin \"%s\"", origin),
					p->guard.refusal, NULL);
	if (find_sqlstate(PQerrorMessage(p->conn), sqlstate))
		return refused_with(p, sqlstate, said);
	if (PQconnectionNeedsPassword(p->conn))
		return fail(p, PROBE_AUTHENTICATION, ERRCODE_INVALID_PASSWORD,
					psprintf("origin \"%s\" asks for a password of user \"%s\"", origin, p->target->user), NULL,
					"Add password to the connection string, or give it by hyperpool.set_credential.");
	if (milliseconds_left(p) == 0)
		return fail(p, PROBE_AUTHENTICATION, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("origin \"%s\" did not finish the login in time", origin), NULL,
					"The time allowed is the origin's connect_timeout.");
	if (!p->tls_passed && (demands_tls(p->target) || option(p->target, "sslrootcert") != NULL || option(p->target, "sslcert") != NULL))
		return tls_failed(p, said);
	return fail(p, PROBE_AUTHENTICATION, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				psprintf("could not log in to origin \"%s\"", origin), said, NULL);
}

/* ---- what is asked of an open connection ---- */

static bool
check_password_use(Probe *p)
{
	if (!p->target->require_password || PQconnectionUsedPassword(p->conn))
		return true;
	return fail(p, PROBE_AUTHENTICATION, ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
				psprintf("origin \"%s\" did not ask for the password", p->target->origin),
				"A credential made by a non-superuser must be used with its password.",
				"Change the origin's authentication method, or let a superuser make the credential.");
}

static bool
check_version(Probe *p)
{
	const char *version = PQparameterStatus(p->conn, "server_version");

	p->result->version = PQserverVersion(p->conn);
	if (p->result->version >= OLDEST_VERSION)
		return true;
	return fail(p, PROBE_AUTHENTICATION, ERRCODE_FEATURE_NOT_SUPPORTED,
				psprintf("origin \"%s\" runs PostgreSQL %s", p->target->origin, version != NULL ? version : "of an unknown version"), NULL,
				"hyperpool works with origins of PostgreSQL 12 and newer.");
}

static bool
query_failed(Probe *p, const PGresult *result)
{
	const char *sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	const char *said = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	int			code = ERRCODE_CONNECTION_FAILURE;

	if (sqlstate != NULL && strlen(sqlstate) == 5)
		code = code_of(sqlstate);
	return fail(p, PROBE_QUERY, code, psprintf("the test query failed at origin \"%s\"", p->target->origin),
				said != NULL ? pstrdup(said) : first_line(PQerrorMessage(p->conn)), NULL);
}

/* The next result, waited for; NULL: no more, or the connection, the time or our patience is over (*over). It is one number: libpq must not be given gigabytes to keep. */
static PGresult *
next_result(Probe *p, bool *over)
{
	int			receives = 0;

	*over = false;
	while (PQisBusy(p->conn))
	{
		if (++receives > RECEIVES_MAX || !wait_socket(p, PQsocket(p->conn), WL_SOCKET_READABLE) || !PQconsumeInput(p->conn))
		{
			*over = true;
			return NULL;
		}
	}
	return PQgetResult(p->conn);
}

/* The whole answer; NULL: the reason why there is none has been told. */
static PGresult *
ask(Probe *p, const char *query)
{
	PGresult   *result;
	PGresult   *more;
	bool		over;

	if (!PQsendQuery(p->conn, query))
	{
		(void) query_failed(p, NULL);
		return NULL;
	}
	result = next_result(p, &over);
	while (!over && (more = next_result(p, &over)) != NULL)
		PQclear(more);
	if (!over && result != NULL)
		return result;
	PQclear(result);
	if (over)
		(void) fail(p, PROBE_QUERY, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					psprintf("the test query at origin \"%s\" was not answered", p->target->origin), NULL,
					"The time allowed is the origin's connect_timeout.");
	else
		(void) query_failed(p, NULL);
	return NULL;
}

static bool
is_one_value(const PGresult *result)
{
	return PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && PQnfields(result) == 1;
}

/* Is it the process number that was told at login? */
static bool
is_told_number(const Probe *p, const PGresult *result)
{
	char		told[16];

	snprintf(told, sizeof(told), "%d", PQbackendPID(p->conn));
	return is_one_value(result) && strcmp(PQgetvalue(result, 0, 0), told) == 0;
}

/* A hyperpool that keeps its clients' sessions shows a client the number it has told him; one behind something else has told another. Nobody else knows this setting. */
static bool
find_gateway(Probe *p)
{
	PGresult   *result = ask(p, "SHOW hyperpool.client");

	if (result == NULL)
		return false;
	p->result->gateway = is_told_number(p, result);
	PQclear(result);
	return true;
}

/* A pooler gives out process numbers of its own, so the one told at login is not the one that runs the query. */
static bool
run_query(Probe *p)
{
	PGresult   *result;
	bool		good;
	bool		same;

	step_begin(p, PROBE_QUERY);
	result = ask(p, "SELECT pg_catalog.pg_backend_pid()");
	if (result == NULL)
		return false;
	good = is_one_value(result) || query_failed(p, result);
	same = is_told_number(p, result);
	PQclear(result);
	if (!good || (!same && !find_gateway(p)))
		return false;
	p->result->pooled = !same && !p->result->gateway;
	step_end(p, PROBE_QUERY);
	return true;
}

/* ---- all of it ---- */

static void
note_version(Probe *p)
{
	const char *version = PQparameterStatus(p->conn, "server_version");

	p->result->notes[PROBE_AUTHENTICATION] = psprintf("PostgreSQL %s", version != NULL ? version : "?");
	if (p->tls_passed)
		step_end(p, PROBE_AUTHENTICATION);
}

/* Without TLS no handshake stands in the list as a step that was begun. */
static bool
log_in(Probe *p, int place)
{
	if (p->target->require_password && (p->target->password == NULL || p->target->password[0] == '\0'))
	{
		step_begin(p, PROBE_AUTHENTICATION);
		return fail(p, PROBE_AUTHENTICATION, ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
					psprintf("origin \"%s\" needs a password", p->target->origin),
					"A credential made by a non-superuser must be used with its password.",
					"Add password to the connection string, or give it by hyperpool.set_credential.");
	}
	list_places(p, place);
	if (!connect_libpq(p))
		return libpq_failed(p);
	note_version(p);
	return check_password_use(p) && check_version(p);
}

static bool
run(Probe *p)
{
	int			place;
	bool		good;

	if (!resolve_places(p) || !connect_first(p, &place))
		return false;
	good = check_tls_offer(p, &p->places[place]);
	close_socket(p);
	return good && log_in(p, place) && run_query(p);
}

static void
clean_up(Probe *p)
{
	close_socket(p);
	end_conn(p);
	places_end(p->places, p->nplaces);
	ReleaseExternalFD();
}

bool
probe_origin(const ProbeTarget *target, ProbeResult *result)
{
	Probe	   *p = palloc0(sizeof(Probe));
	volatile bool good = false;

	memset(result, 0, sizeof(*result));
	result->failed = PROBE_STEPS;
	p->target = target;
	p->result = result;
	p->fd = -1;
	p->guard.password_only = target->require_password;
	p->until = target->timeout > 0 ? GetCurrentTimestamp() + target->timeout : DT_NOEND;
	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("could not connect to origin \"%s\"", target->origin),
						errdetail("There are too many open files."), errhint("Raise max_files_per_process."),
						errhidestmt(true), errhidecontext(true)));
	PG_TRY();
	{
		good = run(p);
	}
	PG_FINALLY();
	{
		clean_up(p);
	}
	PG_END_TRY();
	return good;
}
