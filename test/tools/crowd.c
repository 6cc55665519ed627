/*
 * crowd.c - thousands of clients in one process.
 *
 * Answers: does a server let in so many, what does each cost it while it is idle, are all of them answered when they ask? One process, one epoll loop.
 *
 *   crowd (--port PORT | --socket FILE) --user USER --database NAME [--query SQL] [--tls] [--at-once 100]
 *
 * Everybody is let in by trust. It obeys lines of its standard input and prints a line when each is done; at the end of its input all leave.
 *   connect N [USER]     N more clients log in            connected N failed N
 *   ask FROM TO TIMES    clients FROM to TO - 1 ask, each so many times, one question after the other
 *   run FROM TO SECONDS  the same, for so long            answers N errors N least N seconds S p50 US p99 US
 *   sum FROM TO          of the last ask or run           sum N
 *   leave FROM TO        they say goodbye                 left N
 * least: of the answers that one client got. Clients are numbered as they came; who is disconnected keeps its number and counts as an error when asked.
 *
 * For tests and measurements on one machine; not for untrusted networks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define EVENTS			512
#define HEAD			5		/* bytes: type and length */
#define READ_SIZE		65536
#define PACKET_SIZE		4096	/* the longest question */
#define USER_SIZE		64		/* as long as a role's name can be, and its end */
#define WORDS			4		/* of a command */
#define PATIENCE		60.0	/* seconds without any news end a command */

typedef enum ClientState
{
	CLIENT_GONE,
	CLIENT_CONNECTING,
	CLIENT_TLS_ASKED,			/* SSLRequest is out */
	CLIENT_HANDSHAKE,
	CLIENT_GREETED,				/* the startup message is out */
	CLIENT_IDLE,
	CLIENT_ASKING
} ClientState;

typedef struct Client
{
	int			fd;
	ClientState state;
	bool		failed;			/* an ErrorResponse in this answer */
	uint8_t		head[HEAD];		/* of a message that has come in part */
	uint8_t		head_len;
	uint32_t	left;			/* bytes of the message's body still to come */
	uint32_t	to_ask;			/* questions of this command, beside the one it waits for */
	uint32_t	answers;
	int64_t		asked_at;
	SSL		   *ssl;
	char		user[USER_SIZE];
} Client;

static struct
{
	struct sockaddr_storage to;
	socklen_t	to_len;
	const char *user;
	const char *database;
	char		question[PACKET_SIZE];
	size_t		question_len;
	bool		tls;
	size_t		at_once;
}			options = {.at_once = 100};

static SSL_CTX *context;
static int	epoll_fd;
static Client *clients;
static size_t nclients;
static size_t size;
static size_t busy;				/* they are logging in, or wait for an answer */

static struct
{
	size_t		answers;
	size_t		errors;
	int64_t		until;			/* microseconds; 0: as often as they were told */
	uint32_t   *took;			/* microseconds of each answer */
	size_t		took_len;
	size_t		took_size;
}			count;

static void
fail(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* ---- one client ---- */

static bool
is_busy(const Client *c)
{
	return c->state != CLIENT_GONE && c->state != CLIENT_IDLE;
}

static void
client_set(Client *c, ClientState state)
{
	busy -= is_busy(c);
	c->state = state;
	busy += is_busy(c);
}

static void
client_gone(Client *c)
{
	if (c->state == CLIENT_GONE)
		return;
	if (is_busy(c))
		count.errors++;
	client_set(c, CLIENT_GONE);
	SSL_free(c->ssl);
	c->ssl = NULL;
	close(c->fd);
	c->fd = -1;
}

/* Questions and goodbyes are short: a socket that does not take one at once is broken. */
static void
client_send(Client *c, const void *bytes, size_t len)
{
	ssize_t		n = c->ssl ? SSL_write(c->ssl, bytes, (int) len) : send(c->fd, bytes, len, MSG_NOSIGNAL);

	if (n != (ssize_t) len)
		client_gone(c);
}

static void
put_number(uint8_t *at, uint32_t n)
{
	n = htonl(n);
	memcpy(at, &n, 4);
}

static void
client_start(Client *c)
{
	uint8_t		packet[PACKET_SIZE];
	int			len = 8 + snprintf((char *) packet + 8, sizeof(packet) - 8, "user%c%s%cdatabase%c%s%c", 0, c->user, 0, 0, options.database, 0);

	if (len >= (int) sizeof(packet))
	{
		client_gone(c);
		return;
	}
	packet[len++] = 0;
	put_number(packet, (uint32_t) len);
	put_number(packet + 4, 3 << 16);
	client_set(c, CLIENT_GREETED);
	client_send(c, packet, (size_t) len);
}

static void
client_ask(Client *c)
{
	c->failed = false;
	c->asked_at = now();
	client_set(c, CLIENT_ASKING);
	client_send(c, options.question, options.question_len);
}

static void
note_time(int64_t took)
{
	if (count.took_len == count.took_size)
	{
		count.took_size = count.took_size ? count.took_size * 2 : 65536;
		count.took = realloc(count.took, count.took_size * sizeof(uint32_t));
		if (count.took == NULL)
			fail("memory");
	}
	count.took[count.took_len++] = took < UINT32_MAX ? (uint32_t) took : UINT32_MAX;
}

static void
client_answered(Client *c)
{
	bool		more = count.until ? now() < count.until : c->to_ask > 0;

	if (c->state == CLIENT_ASKING)
	{
		note_time(now() - c->asked_at);
		count.answers += !c->failed;
		c->answers += !c->failed;
		count.errors += c->failed;
	}
	else
		more = false;
	if (!more)
	{
		client_set(c, CLIENT_IDLE);
		return;
	}
	c->to_ask -= count.until == 0;
	client_ask(c);
}

/* Reads types and lengths, and passes over the rest. */
static void
client_take(Client *c, const uint8_t *at, size_t len)
{
	while (len > 0 && c->state != CLIENT_GONE)
	{
		size_t		n = c->left < len ? c->left : len;

		if (n == 0)
		{
			c->head[c->head_len++] = *at++;
			len--;
			if (c->head_len < HEAD)
				continue;
			c->head_len = 0;
			c->left = ((uint32_t) c->head[1] << 24 | (uint32_t) c->head[2] << 16 | (uint32_t) c->head[3] << 8 | c->head[4]) - 4;
			c->failed |= c->head[0] == 'E';
		}
		at += n;
		len -= n;
		c->left -= (uint32_t) n;
		if (c->left == 0 && c->head_len == 0 && c->head[0] == 'Z')
			client_answered(c);
	}
}

static void
client_read(Client *c)
{
	static uint8_t bytes[READ_SIZE];

	do
	{
		ssize_t		n = c->ssl ? SSL_read(c->ssl, bytes, sizeof(bytes)) : recv(c->fd, bytes, sizeof(bytes), 0);

		if (n > 0)
			client_take(c, bytes, (size_t) n);
		else if (c->ssl ? SSL_get_error(c->ssl, (int) n) == SSL_ERROR_WANT_READ : n < 0 && errno == EAGAIN)
			return;
		else
			client_gone(c);
	} while (c->state != CLIENT_GONE && c->ssl && SSL_pending(c->ssl) > 0);
}

static void
client_handshake(Client *c)
{
	int			done = SSL_do_handshake(c->ssl);

	if (done == 1)
		client_start(c);
	else if (SSL_get_error(c->ssl, done) != SSL_ERROR_WANT_READ)
		client_gone(c);
}

static void
client_begin_tls(Client *c)
{
	uint8_t		answer;

	if (recv(c->fd, &answer, 1, 0) != 1 || answer != 'S' || (c->ssl = SSL_new(context)) == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
	{
		client_gone(c);
		return;
	}
	SSL_set_connect_state(c->ssl);
	client_set(c, CLIENT_HANDSHAKE);
	client_handshake(c);
}

static void
client_connected(Client *c)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t) (c - clients)};
	static const uint8_t ssl_request[] = {0, 0, 0, 8, 4, 210, 22, 47};
	int			error = 0;
	socklen_t	len = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0 || epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
		client_gone(c);
	else if (options.tls)
	{
		client_set(c, CLIENT_TLS_ASKED);
		client_send(c, ssl_request, sizeof(ssl_request));
	}
	else
		client_start(c);
}

static void
client_ready(Client *c)
{
	switch (c->state)
	{
		case CLIENT_GONE:
			break;
		case CLIENT_CONNECTING:
			client_connected(c);
			break;
		case CLIENT_TLS_ASKED:
			client_begin_tls(c);
			break;
		case CLIENT_HANDSHAKE:
			client_handshake(c);
			break;
		case CLIENT_GREETED:
		case CLIENT_IDLE:
		case CLIENT_ASKING:
			client_read(c);
			break;
	}
}

static void
client_new(const char *user)
{
	Client	   *c;
	struct epoll_event event = {.events = EPOLLOUT, .data.u64 = nclients};

	if (nclients == size)
	{
		size = size ? size * 2 : 1024;
		clients = realloc(clients, size * sizeof(Client));
		if (clients == NULL)
			fail("memory");
	}
	c = &clients[nclients++];
	memset(c, 0, sizeof(*c));
	snprintf(c->user, sizeof(c->user), "%s", user);
	c->fd = socket(options.to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket");
	if (options.to.ss_family == AF_INET)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int) {1}, sizeof(int));
	client_set(c, CLIENT_CONNECTING);
	/* a Unix socket whose queue is full says so at once, and cannot be waited for */
	while (connect(c->fd, (struct sockaddr *) &options.to, options.to_len) != 0 && errno != EINPROGRESS)
	{
		if (errno != EAGAIN)
			fail("connect");
		usleep(1000);
	}
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		fail("epoll_ctl");
}

/* ---- the commands ---- */

/* False: nothing has come for too long. */
static bool
turn(void)
{
	struct epoll_event events[EVENTS];
	int			n = epoll_wait(epoll_fd, events, EVENTS, (int) (PATIENCE * 1000));

	for (int i = 0; i < n; i++)
		client_ready(&clients[events[i].data.u64]);
	return n != 0;
}

static void
connect_many(size_t n, const char *user)
{
	size_t		first = nclients;
	size_t		in = 0;

	count.errors = 0;
	while (nclients < first + n || busy > 0)
	{
		while (nclients < first + n && busy < options.at_once)
			client_new(user);
		if (!turn())
			break;
	}
	for (size_t i = first; i < nclients; i++)
		in += clients[i].state == CLIENT_IDLE && !clients[i].failed;
	printf("connected %zu failed %zu\n", in, n - in);
}

static int
compare(const void *a, const void *b)
{
	uint32_t	x = *(const uint32_t *) a;
	uint32_t	y = *(const uint32_t *) b;

	return (x > y) - (x < y);
}

static unsigned
percentile(unsigned n)
{
	return count.took_len ? count.took[(count.took_len - 1) * n / 100] : 0;
}

/* seconds 0: each asks so many times. */
static void
ask_many(size_t from, size_t to, uint32_t times, double seconds)
{
	int64_t		began = now();
	uint32_t	least = UINT32_MAX;

	count.answers = count.errors = count.took_len = 0;
	count.until = seconds > 0 ? began + (int64_t) (seconds * 1e6) : 0;
	for (size_t i = from; i < to; i++)
	{
		clients[i].answers = 0;
		clients[i].to_ask = times - 1;
		if (clients[i].state == CLIENT_IDLE)
			client_ask(&clients[i]);
		else
			count.errors++;
	}
	while (busy > 0 && turn())
		;
	for (size_t i = from; i < to; i++)
		least = clients[i].answers < least ? clients[i].answers : least;
	qsort(count.took, count.took_len, sizeof(uint32_t), compare);
	printf("answers %zu errors %zu least %u seconds %.3f p50 %u p99 %u\n", count.answers, count.errors, least, (double) (now() - began) / 1e6,
		   percentile(50), percentile(99));
}

/* How many answers some of those who asked last have got. */
static void
sum_of(size_t from, size_t to)
{
	size_t		sum = 0;

	for (size_t i = from; i < to; i++)
		sum += clients[i].answers;
	printf("sum %zu\n", sum);
}

static void
leave_many(size_t from, size_t to)
{
	static const uint8_t terminate[] = {'X', 0, 0, 0, 4};
	size_t		left = 0;

	for (size_t i = from; i < to; i++)
	{
		left += clients[i].state != CLIENT_GONE;
		if (clients[i].state != CLIENT_GONE)
			client_send(&clients[i], terminate, sizeof(terminate));
		client_gone(&clients[i]);
	}
	printf("left %zu\n", left);
}

/* The words of a line; "" for those that are missing. */
static void
split(char *line, const char *words[WORDS])
{
	char	   *rest;

	for (int i = 0; i < WORDS; i++)
	{
		const char *found = strtok_r(i == 0 ? line : NULL, " \n", &rest);

		words[i] = found != NULL ? found : "";
	}
}

static void
obey(char *line)
{
	const char *words[WORDS];
	const char *command;
	size_t		from;
	size_t		to;
	bool		some;			/* the clients that are meant are there */

	split(line, words);
	command = words[0];
	from = strtoul(words[1], NULL, 10);
	to = strtoul(words[2], NULL, 10);
	some = words[2][0] != '\0' && from <= to && to <= nclients;
	if (strcmp(command, "connect") == 0)
		connect_many(from, words[2][0] != '\0' ? words[2] : options.user);
	else if (some && strcmp(command, "ask") == 0 && strtoul(words[3], NULL, 10) > 0)
		ask_many(from, to, (uint32_t) strtoul(words[3], NULL, 10), 0);
	else if (some && strcmp(command, "run") == 0 && strtod(words[3], NULL) > 0)
		ask_many(from, to, 1, strtod(words[3], NULL));
	else if (some && strcmp(command, "sum") == 0)
		sum_of(from, to);
	else if (some && strcmp(command, "leave") == 0)
		leave_many(from, to);
	else
		printf("not understood: %s\n", command);
	fflush(stdout);
}

/* ---- the process ---- */

static void
set_question(const char *sql)
{
	size_t		len = strlen(sql) + 1;

	if (len + HEAD > sizeof(options.question))
	{
		fprintf(stderr, "crowd: the query is too long\n");
		exit(2);
	}
	options.question[0] = 'Q';
	put_number((uint8_t *) options.question + 1, (uint32_t) len + 4);
	memcpy(options.question + HEAD, sql, len);
	options.question_len = len + HEAD;
}

static void
set_address(int port, const char *file)
{
	if (file)
	{
		struct sockaddr_un *un = (struct sockaddr_un *) &options.to;

		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", file);
		options.to_len = sizeof(*un);
	}
	else
	{
		struct sockaddr_in *in = (struct sockaddr_in *) &options.to;

		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t) port);
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		options.to_len = sizeof(*in);
	}
}

static void
raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void) setrlimit(RLIMIT_NOFILE, &limit);
}

static void
usage(void)
{
	fprintf(stderr, "crowd (--port PORT | --socket FILE) --user USER --database NAME [--query SQL] [--tls] [--at-once N]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {
		{"port", required_argument, NULL, 'p'}, {"socket", required_argument, NULL, 's'}, {"user", required_argument, NULL, 'u'},
		{"database", required_argument, NULL, 'd'}, {"query", required_argument, NULL, 'q'}, {"tls", no_argument, NULL, 't'},
		{"at-once", required_argument, NULL, 'a'}, {0}
	};
	const char *file = NULL;
	const char *query = "SELECT 1";
	int			port = 0;
	int			option;
	char	   *line = NULL;
	size_t		room = 0;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1)
	{
		switch (option)
		{
			case 'p':
				port = (int) strtol(optarg, NULL, 10);
				break;
			case 's':
				file = optarg;
				break;
			case 'u':
				options.user = optarg;
				break;
			case 'd':
				options.database = optarg;
				break;
			case 'q':
				query = optarg;
				break;
			case 't':
				options.tls = true;
				break;
			case 'a':
				options.at_once = strtoul(optarg, NULL, 10);
				break;
			default:
				usage();
		}
	}
	if ((port <= 0 || port > 65535) == (file == NULL) || options.user == NULL || options.database == NULL || options.at_once == 0)
		usage();
	signal(SIGPIPE, SIG_IGN);
	set_question(query);
	set_address(port, file);
	raise_file_limit();
	context = SSL_CTX_new(TLS_client_method());
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (context == NULL || epoll_fd < 0)
		fail("start");
	while (getline(&line, &room, stdin) > 0)
		obey(line);
	return 0;
}
