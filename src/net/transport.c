/*
 * net/transport.c - a non-blocking pipe of bytes: plain or TLS.
 *
 * One ops table a kind; a test brings its own. Owns the descriptor and the SSL object unless they are borrowed from libpq.
 * Never: waits, buffers beyond OpenSSL's own, raises an error, leaves anything on OpenSSL's error queue (it belongs to
 * the whole process, and libpq and PostgreSQL read it too). SIGPIPE is ignored by the process: OpenSSL writes with write(2).
 */
#include "net/transport.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * A partly written answer is continued from wherever its buffer has moved to, and an idle
 * connection keeps no record buffers.
 */
#define TLS_MODES	(SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS)

static char last_error[256];

static void
remember_errno(const char *what, int error)
{
	snprintf(last_error, sizeof(last_error), "%s: %s", what, strerror(error));
}

/* The oldest entry of OpenSSL's queue is the cause; the rest says where. */
static void
remember_tls(const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	if (reason)
		snprintf(last_error, sizeof(last_error), "%s: %s", what, reason);
	else if (code)
		snprintf(last_error, sizeof(last_error), "%s: TLS error %lx", what, code);
	else
		snprintf(last_error, sizeof(last_error), "%s: TLS error", what);
	ERR_clear_error();
}

const char *
transport_error(void)
{
	return last_error[0] ? last_error : "no error";
}

/* ---- plain ---- */

static ssize_t
plain_failed(const char *what)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return TRANSPORT_AGAIN;
	remember_errno(what, errno);
	return TRANSPORT_FAILED;
}

static ssize_t
plain_read(Transport *t, void *into, size_t n)
{
	ssize_t		got;

	if (n == 0)
		return TRANSPORT_AGAIN; /* 0 would mean the end of the stream */
	do
		got = recv(t->fd, into, n, 0);
	while (got < 0 && errno == EINTR);
	return got >= 0 ? got : plain_failed("could not receive");
}

static ssize_t
plain_write(Transport *t, const void *from, size_t n)
{
	ssize_t		put;

	if (n == 0)
		return 0;
	do
		put = send(t->fd, from, n, MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	return put >= 0 ? put : plain_failed("could not send");
}

static bool
plain_pending(const Transport *t)
{
	(void) t;
	return false;
}

static void
plain_close(Transport *t)
{
	if (!t->borrowed && t->fd >= 0)
		close(t->fd);
}

static const TransportOps plain_ops = {"plain", plain_read, plain_write, plain_pending, plain_close};

/* ---- TLS ---- */

/*
 * What a call that returned n <= 0 means. A peer that closes its socket without close_notify has ended the stream all the
 * same: our messages carry their own lengths, so nothing cut short passes for whole.
 */
static ssize_t
tls_failed(Transport *t, int n, int error, const char *what)
{
	switch (SSL_get_error(t->ssl, n))
	{
		case SSL_ERROR_WANT_READ:
			return TRANSPORT_AGAIN;
		case SSL_ERROR_WANT_WRITE:
			t->wants_write = true;
			return TRANSPORT_AGAIN;
		case SSL_ERROR_ZERO_RETURN:
			return 0;
		case SSL_ERROR_SYSCALL:
			if (error == 0)
				return 0;
			remember_errno(what, error);
			break;
		default:
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
			if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
			{
				ERR_clear_error();
				return 0;
			}
#endif
			remember_tls(what);
			return TRANSPORT_FAILED;
	}
	ERR_clear_error();
	return TRANSPORT_FAILED;
}

static ssize_t
tls_read(Transport *t, void *into, size_t n)
{
	int			got;

	if (n == 0)
		return TRANSPORT_AGAIN;
	t->wants_write = false;
	ERR_clear_error();
	errno = 0;
	got = SSL_read(t->ssl, into, n > INT_MAX ? INT_MAX : (int) n);
	t->dry = got <= 0;
	return got > 0 ? got : tls_failed(t, got, errno, "could not receive");
}

static ssize_t
tls_write(Transport *t, const void *from, size_t n)
{
	bool		read_waits = t->wants_write;
	ssize_t		result;
	int			put;

	if (n == 0)
		return 0;
	ERR_clear_error();
	errno = 0;
	put = SSL_write(t->ssl, from, n > INT_MAX ? INT_MAX : (int) n);
	if (put > 0)
		return put;
	result = tls_failed(t, put, errno, "could not send");
	t->wants_write = read_waits;	/* it speaks of reads; a writer that got AGAIN waits anyway */
	if (result == 0)
	{
		/* the end of the stream is a read's business; a write has failed */
		snprintf(last_error, sizeof(last_error), "could not send: connection closed");
		result = TRANSPORT_FAILED;
	}
	return result;
}

static bool
tls_pending(const Transport *t)
{
	/* the beginning of a record counts as pending, but nothing can be read of it */
	return !t->dry && SSL_has_pending(t->ssl);
}

static void
tls_close(Transport *t)
{
	if (t->borrowed)
		return;
	/* in the middle of a handshake there is nobody to say goodbye to */
	if (!SSL_in_init(t->ssl))
		(void) SSL_shutdown(t->ssl);
	SSL_free(t->ssl);
	ERR_clear_error();
	if (t->fd >= 0)
		close(t->fd);
}

static const TransportOps tls_ops = {"TLS", tls_read, tls_write, tls_pending, tls_close};

/* ---- beginning and end ---- */

void
transport_init_plain(Transport *t, int fd)
{
	memset(t, 0, sizeof(*t));
	t->ops = &plain_ops;
	t->fd = fd;
}

bool
transport_init_tls_server(Transport *t, int fd, void *ssl_ctx)
{
	SSL		   *ssl;

	ERR_clear_error();
	ssl = SSL_new(ssl_ctx);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1)
	{
		remember_tls("could not begin TLS");
		SSL_free(ssl);			/* NULL is fine; the descriptor stays the caller's */
		return false;
	}
	SSL_set_mode(ssl, TLS_MODES);
	SSL_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
	SSL_set_accept_state(ssl);

	memset(t, 0, sizeof(*t));
	t->ops = &tls_ops;
	t->fd = fd;
	t->ssl = ssl;
	return true;
}

bool
transport_init_borrowed(Transport *t, int fd, void *ssl)
{
	memset(t, 0, sizeof(*t));
	t->ops = ssl ? &tls_ops : &plain_ops;
	t->fd = fd;
	t->borrowed = true;
	t->ssl = ssl;
	if (ssl == NULL)
		return true;

	/* libpq's own BIO reads through its PGconn: put a plain one in its place */
	ERR_clear_error();
	if (SSL_set_fd(ssl, fd) != 1)
	{
		remember_tls("could not take over TLS");
		return false;
	}
	SSL_set_mode(ssl, TLS_MODES);
	/* a renegotiation could make a write wait for a read, which no caller here expects */
	SSL_set_options(ssl, SSL_OP_NO_RENEGOTIATION);
	return true;
}

HandshakeVerdict
transport_handshake(Transport *t)
{
	ssize_t		result;
	int			n;

	if (t->ops != &tls_ops)
		return HANDSHAKE_DONE;
	t->wants_write = false;
	ERR_clear_error();
	errno = 0;
	n = SSL_do_handshake(t->ssl);
	if (n == 1)
		return HANDSHAKE_DONE;
	result = tls_failed(t, n, errno, "could not do the TLS handshake");
	if (result == TRANSPORT_AGAIN)
		return HANDSHAKE_AGAIN;
	if (result == 0)
		snprintf(last_error, sizeof(last_error), "connection closed during the TLS handshake");
	return HANDSHAKE_FAILED;
}

void
transport_close(Transport *t)
{
	if (t->ops == NULL || t->fd < 0)
		return;
	t->ops->close(t);
	t->fd = -1;
	t->ssl = NULL;
}

void
transport_read_ahead(Transport *t)
{
	if (t->ops == &tls_ops)
		SSL_set_read_ahead(t->ssl, 1);
}

bool
transport_is_tls(const Transport *t)
{
	return t->ops == &tls_ops;
}
