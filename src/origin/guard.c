/*
 * origin/guard.c - may libpq read on in the login of an origin?
 *
 * Over TLS OpenSSL shows the next record decrypted, and libpq's next read gets exactly that. From a plain socket libpq may get more than was shown, as more may come meanwhile:
 * core/challenge knows what to make of it. A socket that holds the start of a message would be ready for ever, so it is told to be ready only when more has come.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include "host/gucs.h"
#include "origin/guard.h"

#define SHOWN_MAX	16384		/* a TLS record, and libpq's buffer */

static uint8 shown[SHOWN_MAX];

/* Nothing that is of the login itself has been read yet; after a fall-back or with the next host it is so again. */
static bool
login_is_ahead(const PGconn *conn)
{
	switch (PQstatus(conn))
	{
		case CONNECTION_STARTED:
		case CONNECTION_MADE:
		case CONNECTION_NEEDED:
		case CONNECTION_SSL_STARTUP:
		case CONNECTION_GSS_STARTUP:
			return true;
		default:
			return false;
	}
}

static void
be_patient(LoginGuard *guard, int fd, int bytes)
{
	guard->patient = bytes > 1;
	(void) setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

/* The other side has said its last word: no more can come than what lies there. */
static bool
is_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static ChallengeVerdict
look_at_socket(LoginGuard *guard, int fd)
{
	bool		ended = is_ended(fd);
	ssize_t		n = recv(fd, shown, SHOWN_MAX, MSG_PEEK | MSG_DONTWAIT);
	ChallengeVerdict verdict;

	if (n <= 0)
		return CHALLENGE_PASS;	/* libpq finds out, and has the words */
	verdict = challenge_look(&guard->reader, bytes_of(shown, n), hyperpool_max_scram_iterations, ended);
	if (verdict == CHALLENGE_WAIT)
		be_patient(guard, fd, (int) n + 1);
	else if (guard->patient)
		be_patient(guard, fd, 1);
	return verdict;
}

static ChallengeVerdict
look_at_tls(LoginGuard *guard, SSL *ssl)
{
	ChallengeVerdict verdict = CHALLENGE_PASS;
	int			n;

	ERR_clear_error();
	n = SSL_peek(ssl, shown, SHOWN_MAX);
	if (n > 0)
		verdict = challenge_look(&guard->reader, bytes_of(shown, n), hyperpool_max_scram_iterations, true);
	else if (SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ)
		verdict = CHALLENGE_WAIT;	/* libpq could find a record there that has come meanwhile */
	ERR_clear_error();
	return verdict;
}

static GuardVerdict
refuse(LoginGuard *guard, const char *sqlstate, const char *text)
{
	guard->sqlstate = sqlstate;
	guard->refusal = text;
	return GUARD_REFUSE;
}

GuardVerdict
guard_look(LoginGuard *guard, PGconn *conn)
{
	SSL		   *ssl = PQsslStruct(conn, "OpenSSL");
	ChallengeVerdict verdict = CHALLENGE_PASS;

	if (login_is_ahead(conn))
	{
		memset(&guard->reader, 0, sizeof(guard->reader));
		guard->reader.password_only = guard->password_only;
		guard->patient = false;
	}
	else if (PQsocket(conn) >= 0 && !PQgssEncInUse(conn))
		verdict = ssl != NULL ? look_at_tls(guard, ssl) : look_at_socket(guard, PQsocket(conn));
	switch (verdict)
	{
		case CHALLENGE_PASS:
			return GUARD_GO;
		case CHALLENGE_WAIT:
			return GUARD_WAIT;
		case CHALLENGE_TOO_HARD:
			return refuse(guard, "53400", "the origin asks for more SCRAM iterations than hyperpool.max_scram_iterations allows");
		case CHALLENGE_TOO_LONG:
			return refuse(guard, "08P01", "the origin says more in its login than a login can be");
		case CHALLENGE_NO_PASSWORD:
			return refuse(guard, "2F003", "the origin asks for this server's own identity, but the credential was not set by a superuser");
		case CHALLENGE_ODD:
			return refuse(guard, "08P01", "the origin sent something in its login that is no message of PostgreSQL");
	}
	return GUARD_GO;
}
