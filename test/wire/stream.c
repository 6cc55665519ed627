/*
 * stream.c: one connection as bytes in and out.
 *
 * It answers: what has come, what has gone, where does the next message end? It owns the socket, its TLS and both buffers. It never logs in and judges nothing;
 * no libpq.
 */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_MESSAGE (1024L * 1024 * 1024)

/* ---- where to ---- */

static void
target_option(Target *t, const char *name, const char *text)
{
	const struct
	{
		const char *name;
		char	   *place;
	}			places[] = {{"host", t->host}, {"port", t->port}, {"dbname", t->dbname}, {"user", t->user}, {"password", t->password}};

	if (strcmp(name, "sslmode") == 0)
	{
		t->tls = strcmp(text, "disable") != 0;
		return;
	}
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (strcmp(name, places[i].name) == 0)
		{
			snprintf(places[i].place, TARGET_TEXT, "%s", text);
			return;
		}
	fail("conninfo: \"%s\" is not known", name);
}

void
read_target(Target *t, const char *conninfo)
{
	char		name[64], text[TARGET_TEXT];
	int			n = 0;

	while ((sscanf(conninfo, " %63[^= ]=\"%255[^\"]\"%n", name, text, &n) == 2 && n > 0) || sscanf(conninfo, " %63[^= ]=%255[^ ]%n", name, text, &n) == 2)
	{
		target_option(t, name, text);
		conninfo += n;
		n = 0;
	}
	if (conninfo[strspn(conninfo, " ")] != '\0')
		fail("conninfo: not understood from \"%.10s\" on", conninfo);
}

/* ---- connecting ---- */

static int
open_unix(const Target *t, const struct timeval *limit)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if ((size_t) snprintf(a.sun_path, sizeof(a.sun_path), "%s/.s.PGSQL.%s", t->host, t->port) >= sizeof(a.sun_path))
		fail("socket path too long");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof(*limit));
	return connect(fd, (struct sockaddr *) &a, sizeof(a)) == 0 ? fd : (close(fd), -1);
}

static int
open_tcp(const Target *t, const struct timeval *limit)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	int			one = 1;
	int			fd;

	if (getaddrinfo(t->host, t->port, &hints, &found) != 0)
		fail("host \"%s\" not found", t->host);
	fd = socket(found->ai_family, SOCK_STREAM, 0);
	/* the send timeout also bounds connect() */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof(*limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, found->ai_addr, found->ai_addrlen) != 0)
	{
		close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd;
}

bool
stream_open(Stream *s, const Target *t, long limit_ms)
{
	struct timeval limit = {limit_ms / 1000, (limit_ms % 1000) * 1000};

	s->eof = s->write_dead = false;
	s->fd = t->host[0] == '/' ? open_unix(t, &limit) : open_tcp(t, &limit);
	return s->fd >= 0 && fcntl(s->fd, F_SETFL, O_NONBLOCK) == 0;
}

void
stream_close(Stream *s)
{
	if (s->ssl)
		SSL_free(s->ssl);
	if (s->fd >= 0)
		close(s->fd);
	s->ssl = NULL;
	s->fd = -1;
	clear(&s->in);
	clear(&s->out);
}

/* ---- bytes in and out ---- */

static bool
may_go_on(const Stream *s, ssize_t result)
{
	int			e;

	if (s->ssl == NULL)
		return result < 0 && (errno == EAGAIN || errno == EINTR);
	e = SSL_get_error(s->ssl, (int) result);
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

ssize_t
stream_read(Stream *s)
{
	ssize_t		n;

	if (s->eof)
		return 0;
	reserve(&s->in, 65536);
	if (s->ssl)
		n = SSL_read(s->ssl, s->in.data + s->in.len, 65536);
	else
		n = recv(s->fd, s->in.data + s->in.len, 65536, 0);
	if (n > 0)
	{
		s->in.len += n;
		return n;
	}
	if (may_go_on(s, n))
		return 0;
	s->eof = true;
	return -1;
}

ssize_t
stream_write(Stream *s, size_t most)
{
	size_t		len = s->out.len - s->out.start;
	ssize_t		n;

	if (len > most)
		len = most;
	if (len == 0)
		return 0;
	if (s->ssl)
		n = SSL_write(s->ssl, s->out.data + s->out.start, (int) len);
	else
		n = send(s->fd, s->out.data + s->out.start, len, MSG_NOSIGNAL);
	if (n > 0)
	{
		s->out.start += n;
		return n;
	}
	if (may_go_on(s, n))
		return 0;
	s->write_dead = true;
	s->out.start = s->out.len;
	return -1;
}

bool
stream_wait(const Stream *s, short events, long deadline)
{
	struct pollfd p = {s->fd, events, 0};
	long		left = deadline - now_ms();

	return left > 0 && poll(&p, 1, (int) left) != 0;
}

/* ---- TLS ---- */

static SSL_CTX *tls_context;

static void
make_tls_context(void)
{
	tls_context = SSL_CTX_new(TLS_client_method());
}

void
stream_ask_for_tls(Stream *s)
{
	put32(&s->out, 8);
	put32(&s->out, 80877103);
}

bool
stream_start_tls(Stream *s, long deadline)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int			result;

	if (s->in.len - s->in.start != 1 || s->in.data[s->in.start] != 'S')
		return false;
	clear(&s->in);
	pthread_once(&once, make_tls_context);
	s->ssl = SSL_new(tls_context);
	SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_fd(s->ssl, s->fd);
	while ((result = SSL_connect(s->ssl)) != 1)
		if (!may_go_on(s, result) || !stream_wait(s, SSL_want_write(s->ssl) ? POLLOUT : POLLIN, deadline))
			return false;
	return true;
}

/* ---- messages in ---- */

long
stream_message_length(const Stream *s)
{
	size_t		have = s->in.len - s->in.start;
	Cursor		head;
	uint32_t	len;

	if (have < 5)
		return 0;
	head = cursor_of(s->in.data + s->in.start + 1, 4);
	len = get_uint(&head, 4);
	if (len < 4 || len > MAX_MESSAGE)
		return -1;
	return have < (size_t) len + 1 ? 0 : (long) len + 1;
}

char
stream_take_message(Stream *s, Cursor *body)
{
	const char *message = s->in.data + s->in.start;
	long		len = stream_message_length(s);

	*body = cursor_of(message + 5, len - 5);
	s->in.start += len;
	return *message;
}
