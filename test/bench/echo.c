/*
 * echo.c - the least a PostgreSQL server can do: answers recorded bytes, and so is the floor under the cost of a hit.
 *
 *   echo --port PORT [--socket PATH] [--cert FILE --key FILE]
 *
 * Answers: what do the system calls (and the TLS) of one query cost when nothing is thought about? One process, one thread, one epoll loop. Each read
 * is answered by one send, with the fixed bytes that each message of `SELECT abalance FROM pgbench_accounts …` asks for. Everybody is let in.
 * It listens on 127.0.0.1, and on a Unix socket if told. For measurements on one machine; not for untrusted networks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_SIZE		16384	/* also the longest message */
#define ANSWER_SIZE		(READ_SIZE / 5 * 72)	/* the shortest message has 5 bytes, the longest answer to one 66 */
#define EVENTS			64
#define SSL_REQUEST		80877103
#define GSS_REQUEST		80877104
#define PROTOCOL_3		3

typedef struct Client
{
	int			fd;
	SSL		   *ssl;			/* NULL: plain */
	bool		handshake;		/* of TLS, not over yet */
	bool		started;		/* the startup packet has been read */
	size_t		have;			/* bytes of a message that is not whole yet */
	char		in[READ_SIZE + 1];	/* the byte after a message may be looked at */
	size_t		pending;		/* bytes of an answer that did not go out at once … */
	size_t		sent;			/* … and how many of them did */
	char		out[];			/* ANSWER_SIZE */
} Client;

static SSL_CTX *tls;			/* NULL: no TLS */
static int	epoll_fd;
static int	listeners[2];		/* TCP and Unix; epoll knows them by their places here */

/* ---- the recorded answers ---- */

#define MESSAGE(bytes)	bytes, sizeof(bytes) - 1

#define PARSE_COMPLETE	"1\0\0\0\4"
#define BIND_COMPLETE	"2\0\0\0\4"
#define CLOSE_COMPLETE	"3\0\0\0\4"
#define PARAMETERS		"t\0\0\0\6\0\0"
#define ROW_DESCRIPTION	"T\0\0\0\41\0\1abalance\0\0\0\100\0\0\3\0\0\0\27\0\4\377\377\377\377\0\0"
#define DATA_ROW		"D\0\0\0\13\0\1\0\0\0\1" "0"
#define COMPLETE		"C\0\0\0\15SELECT 1\0"
#define READY			"Z\0\0\0\5I"
#define LOGIN			"R\0\0\0\10\0\0\0\0" \
						"S\0\0\0\31client_encoding\0UTF8\0" \
						"S\0\0\0\30server_version\00015.0\0" \
						"S\0\0\0\43standard_conforming_strings\0on\0" \
						"K\0\0\0\14\0\0\0\1\0\0\0\1" READY

static size_t
put(char *to, const char *bytes, size_t len)
{
	memcpy(to, bytes, len);
	return len;
}

/* The answer to one message of a client that is in; its length. */
static size_t
answer(const char *message, char *to)
{
	switch (message[0])
	{
		case 'Q':
			return put(to, MESSAGE(ROW_DESCRIPTION DATA_ROW COMPLETE READY));
		case 'P':
			return put(to, MESSAGE(PARSE_COMPLETE));
		case 'B':
			return put(to, MESSAGE(BIND_COMPLETE));
		case 'C':
			return put(to, MESSAGE(CLOSE_COMPLETE));
		case 'D':
			if (message[5] == 'S')
				return put(to, MESSAGE(PARAMETERS ROW_DESCRIPTION));
			return put(to, MESSAGE(ROW_DESCRIPTION));
		case 'E':
			return put(to, MESSAGE(DATA_ROW COMPLETE));
		case 'S':
			return put(to, MESSAGE(READY));
		default:				/* Flush, passwords nobody asked for */
			return 0;
	}
}

/* ---- one client ---- */

static void
client_close(Client *client)
{
	SSL_free(client->ssl);
	close(client->fd);
	free(client);
}

static uint32_t
length_at(const char *bytes)
{
	uint32_t	n;

	memcpy(&n, bytes, 4);
	return ntohl(n);
}

/* Plain and TLS alike: bytes, 0 = not now, -1 = the client is gone. */
static ssize_t
client_result(Client *client, ssize_t n)
{
	int			why;

	if (n > 0)
		return n;
	if (client->ssl == NULL)
		return n < 0 && errno == EAGAIN ? 0 : -1;
	why = SSL_get_error(client->ssl, (int) n);
	ERR_clear_error();
	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t
client_read(Client *client)
{
	char	   *to = client->in + client->have;
	size_t		room = READ_SIZE - client->have;

	if (room == 0)
		return -1;				/* a longer message than there is room for */
	return client_result(client, client->ssl != NULL ? SSL_read(client->ssl, to, (int) room) : recv(client->fd, to, room, 0));
}

static void
client_watch(Client *client, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = client};

	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/* Sends what is pending; while there is some, nothing is read. */
static bool
client_send(Client *client)
{
	ssize_t		n;
	size_t		rest = client->pending - client->sent;
	const char *from = client->out + client->sent;
	bool		waited = client->sent > 0;

	n = client_result(client, client->ssl != NULL ? SSL_write(client->ssl, from, (int) rest) : send(client->fd, from, rest, MSG_NOSIGNAL));
	if (n < 0)
		return false;
	client->sent += (size_t) n;
	if (client->sent < client->pending)
		client_watch(client, EPOLLOUT);
	else
	{
		client->pending = client->sent = 0;
		if (waited)
			client_watch(client, EPOLLIN);
	}
	return true;
}

/* The first packets, which have no type. False: the client is to be closed. */
static bool
client_start(Client *client, const char *packet)
{
	uint32_t	code = length_at(packet + 4);

	if (code == SSL_REQUEST || code == GSS_REQUEST)
	{
		bool		yes = code == SSL_REQUEST && tls != NULL && client->ssl == NULL;

		if (send(client->fd, yes ? "S" : "N", 1, MSG_NOSIGNAL) != 1)
			return false;
		if (yes)
		{
			client->ssl = SSL_new(tls);
			client->handshake = true;
			return client->ssl != NULL && SSL_set_fd(client->ssl, client->fd) == 1;
		}
		return true;
	}
	if (code >> 16 != PROTOCOL_3)
		return false;
	client->started = true;
	client->pending += put(client->out + client->pending, MESSAGE(LOGIN));
	return true;
}

/* Answers every whole message that has been read and keeps the rest. */
static bool
client_answer(Client *client)
{
	char	   *at = client->in;
	char	   *end = at + client->have;

	while (end - at >= (client->started ? 6 : 8) || (client->started && end - at == 5))
	{
		uint32_t	len = length_at(at + (client->started ? 1 : 0));
		size_t		whole = (size_t) len + (client->started ? 1 : 0);

		if (len < (client->started ? 4u : 8u) || whole > READ_SIZE || (client->started && *at == 'X'))
			return false;
		if ((size_t) (end - at) < whole)
			break;
		if (client->started)
			client->pending += answer(at, client->out + client->pending);
		else if (!client_start(client, at))
			return false;
		at += whole;
	}
	client->have = (size_t) (end - at);
	memmove(client->in, at, client->have);
	return client->pending == 0 || client_send(client);
}

/* The client has something to say. False: it is to be closed. */
static bool
client_ready(Client *client)
{
	ssize_t		n;

	if (client->pending > 0)
	{
		if (!client_send(client))
			return false;
		if (client->pending > 0)
			return true;
	}
	if (client->handshake)
	{
		n = client_result(client, SSL_accept(client->ssl));
		client->handshake = n == 0;
		if (n <= 0)
			return n == 0;
	}
	do
	{
		n = client_read(client);
		if (n < 0)
			return false;
		client->have += (size_t) n;
		if (n > 0 && !client_answer(client))
			return false;
	} while (n > 0 && client->pending == 0 && client->ssl != NULL && !client->handshake && SSL_has_pending(client->ssl));
	return true;
}

/* ---- the process ---- */

static void
fail(const char *what)
{
	fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
accept_client(int listener)
{
	int			fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	Client	   *client;
	struct epoll_event event = {.events = EPOLLIN};

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) {1}, sizeof(int));
	client = calloc(1, sizeof(Client) + ANSWER_SIZE);
	if (client == NULL)
		fail("memory");
	client->fd = fd;
	event.data.ptr = client;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		client_close(client);
}

static void
listen_at(int *listener, const struct sockaddr *address, socklen_t len)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = listener};

	*listener = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (*listener < 0)
		fail("socket");
	setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &(int) {1}, sizeof(int));
	if (bind(*listener, address, len) != 0 || listen(*listener, 1024) != 0)
		fail("listen");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, *listener, &event) != 0)
		fail("epoll_ctl");
}

static void
listen_on_port(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	listen_at(&listeners[0], (struct sockaddr *) &address, sizeof(address));
}

static void
listen_on_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
	{
		errno = ENAMETOOLONG;
		fail(path);
	}
	strcpy(address.sun_path, path);
	unlink(path);
	listen_at(&listeners[1], (struct sockaddr *) &address, sizeof(address));
}

/* Read ahead: one recv a record instead of two. */
static void
load_tls(const char *cert, const char *key)
{
	tls = SSL_CTX_new(TLS_server_method());
	if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, cert) != 1 || SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
	{
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_read_ahead(tls, 1);
	SSL_CTX_set_num_tickets(tls, 0);
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void
serve(void)
{
	struct epoll_event events[EVENTS];

	for (;;)
	{
		int			n = epoll_wait(epoll_fd, events, EVENTS, -1);
		int			i;

		for (i = 0; i < n; i++)
		{
			Client	   *client = events[i].data.ptr;

			if (events[i].data.ptr == &listeners[0] || events[i].data.ptr == &listeners[1])
				accept_client(*(int *) events[i].data.ptr);
			else if (!client_ready(client))
				client_close(client);
		}
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'}, {"socket", required_argument, NULL, 's'}, {"cert", required_argument, NULL, 'c'}, {"key", required_argument, NULL, 'k'}, {0}
	};
	const char *path = NULL;
	const char *cert = NULL;
	const char *key = NULL;
	int			port = 0;
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (option == 'p')
			port = (int) strtol(optarg, NULL, 10);
		else if (option == 's')
			path = optarg;
		else if (option == 'c')
			cert = optarg;
		else if (option == 'k')
			key = optarg;
		else
			return 2;
	}
	if (port <= 0 || port > 65535 || (cert == NULL) != (key == NULL))
	{
		fprintf(stderr, "echo --port PORT [--socket PATH] [--cert FILE --key FILE]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fail("epoll_create1");
	if (cert != NULL)
		load_tls(cert, key);
	listen_on_port(port);
	if (path != NULL)
		listen_on_socket(path);
	serve();
}
