/*
 * copy.c - the least a proxy can do: copies bytes between a client and a connection of its own to the target.
 *
 *   copy --port PORT (--to PORT | --to-socket PATH)
 *
 * Answers: what do the system calls of one query through a middleman cost when it neither pools nor looks at a byte? One process, one
 * thread, one epoll loop; each read is followed by one send. It listens on 127.0.0.1. For measurements on one machine; not for untrusted networks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_SIZE		65536
#define EVENTS			256

/* One of two sockets whose bytes go to each other. */
typedef struct End
{
	struct End *peer;
	struct End *next_dead;
	int			fd;				/* -1: closed, to be freed at the end of the turn */
	char	   *rest;			/* what the socket did not take at once; while there is some, the peer is not read */
	size_t		rest_len;
} End;

static int	epoll_fd;
static End *dead;				/* events of this turn may still name them */
static struct sockaddr_storage target;
static socklen_t target_len;

static void
fail(const char *what)
{
	fprintf(stderr, "copy: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- a pair ---- */

static void
end_close(End *end)
{
	close(end->fd);
	end->fd = -1;
	end->next_dead = dead;
	dead = end;
}

static void
pair_close(End *end)
{
	end_close(end->peer);
	end_close(end);
}

static void
bury(void)
{
	while (dead != NULL)
	{
		End		   *end = dead;

		dead = end->next_dead;
		free(end->rest);
		free(end);
	}
}

/* An end is read while what came from it before has gone out, and is waited for while it does not take more. */
static void
end_watch(End *end, int operation)
{
	struct epoll_event event = {.events = (end->peer->rest == NULL ? EPOLLIN : 0) | (end->rest != NULL ? EPOLLOUT : 0), .data.ptr = end};

	if (epoll_ctl(epoll_fd, operation, end->fd, &event) != 0)
		fail("epoll_ctl");
}

static void
end_keep_rest(End *to, const char *bytes, size_t len)
{
	to->rest = malloc(len);
	if (to->rest == NULL)
		fail("memory");
	memcpy(to->rest, bytes, len);
	to->rest_len = len;
	end_watch(to, EPOLL_CTL_MOD);
	end_watch(to->peer, EPOLL_CTL_MOD);
}

/* False: the pair is to be closed. */
static bool
end_read(End *from)
{
	static char buffer[READ_SIZE];
	ssize_t		n = recv(from->fd, buffer, sizeof(buffer), 0);
	ssize_t		sent;

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	sent = send(from->peer->fd, buffer, (size_t) n, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN)
		return false;
	if (sent < 0)
		sent = 0;
	if (sent < n)
		end_keep_rest(from->peer, buffer + sent, (size_t) (n - sent));
	return true;
}

static bool
end_send_rest(End *to)
{
	ssize_t		sent = send(to->fd, to->rest, to->rest_len, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN;
	to->rest_len -= (size_t) sent;
	if (to->rest_len > 0)
	{
		memmove(to->rest, to->rest + sent, to->rest_len);
		return true;
	}
	free(to->rest);
	to->rest = NULL;
	end_watch(to, EPOLL_CTL_MOD);
	end_watch(to->peer, EPOLL_CTL_MOD);
	return true;
}

static void
end_event(End *end, uint32_t events)
{
	bool		well = true;

	if (end->fd < 0)
		return;
	if (end->rest != NULL)
		well = end_send_rest(end);
	if (well && end->peer->rest == NULL && (events & ~(uint32_t) EPOLLOUT) != 0)
		well = end_read(end);
	if (!well)
		pair_close(end);
}

static End *
end_create(int fd)
{
	End		   *end = calloc(1, sizeof(End));

	if (end == NULL)
		fail("memory");
	end->fd = fd;
	return end;
}

static int
connect_target(void)
{
	int			fd = socket(target.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *) &target, target_len) != 0)
	{
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (target.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) {1}, sizeof(int));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

/* The target is on this machine: connecting does not wait. */
static void
accept_client(int listener)
{
	int			fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int			to;
	End		   *ends[2];

	if (fd < 0)
		return;
	to = connect_target();
	if (to < 0)
	{
		close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) {1}, sizeof(int));
	ends[0] = end_create(fd);
	ends[1] = end_create(to);
	ends[0]->peer = ends[1];
	ends[1]->peer = ends[0];
	end_watch(ends[0], EPOLL_CTL_ADD);
	end_watch(ends[1], EPOLL_CTL_ADD);
}

/* ---- the process ---- */

static int
listen_on(int port)
{
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int) {1}, sizeof(int));
	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 1024) != 0)
		fail("listen");
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		fail("epoll_ctl");
	return fd;
}

static void
serve(int listener)
{
	struct epoll_event events[EVENTS];

	for (;;)
	{
		int			n = epoll_wait(epoll_fd, events, EVENTS, -1);

		for (int i = 0; i < n; i++)
		{
			if (events[i].data.ptr == NULL)
				accept_client(listener);
			else
				end_event(events[i].data.ptr, events[i].events);
		}
		bury();
	}
}

static void
target_port(int port)
{
	struct sockaddr_in *address = (struct sockaddr_in *) &target;

	address->sin_family = AF_INET;
	address->sin_port = htons((uint16_t) port);
	address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	target_len = sizeof(*address);
}

static void
target_path(const char *path)
{
	struct sockaddr_un *address = (struct sockaddr_un *) &target;

	if (strlen(path) >= sizeof(address->sun_path))
	{
		errno = ENAMETOOLONG;
		fail(path);
	}
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, path);
	target_len = sizeof(*address);
}

/* Two descriptors a client. */
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

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'}, {"to", required_argument, NULL, 't'}, {"to-socket", required_argument, NULL, 's'}, {0}
	};
	int			port = 0;
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		if (option == 'p')
			port = (int) strtol(optarg, NULL, 10);
		else if (option == 't')
			target_port((int) strtol(optarg, NULL, 10));
		else if (option == 's')
			target_path(optarg);
		else
			return 2;
	}
	if (port <= 0 || port > 65535 || target_len == 0)
	{
		fprintf(stderr, "copy --port PORT (--to PORT | --to-socket PATH)\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	allow_files();
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		fail("epoll_create1");
	serve(listen_on(port));
}
