/*
 * host/listen.c - where do clients come in?
 *
 * A listener is a TCP address, a Unix socket or the mailbox for handed-over clients; each has one of three conditions: open and watched,
 * open and put aside (no descriptors left, or nobody more wanted), closed and due to be tried again.
 *
 * Several workers share the TCP port by SO_REUSEPORT, which is set only then: it would let another server of the same user
 * join the port unnoticed. A Unix socket cannot be shared like that, so worker 0 owns its file. Which of them gets an accepted client
 * listen_handover.c decides.
 * Never: blocks after the start, exits, reads from a client.
 */
#include "postgres.h"

#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utime.h>

#include "common/file_utils.h"
#include "common/ip.h"
#include "host/gucs.h"
#include "host/listen_internal.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#define MAX_LISTENERS		64
#define ACCEPTS_A_TURN		64
#define RETRY_AFTER			INT64CONST(5000000) /* microseconds: a taken address */
#define PAUSE_FOR			INT64CONST(1000000) /* no descriptors left */
#define COMPLAIN_EVERY		INT64CONST(60000000)
#define TOUCH_EVERY			INT64CONST(3480000000)	/* 58 minutes, as the server touches its own */
#define BACKLOG_LIMIT		10000

typedef enum ListenerKind
{
	LISTENER_TCP,
	LISTENER_UNIX,
	LISTENER_HANDOVER
} ListenerKind;

typedef struct Listener
{
	ReactorSource source;		/* first: on_ready gets it */
	ListenerKind kind;
	struct sockaddr_storage address;
	socklen_t	address_len;
	char		name[128];		/* for the log */
	bool		complained;		/* said once that it cannot be opened */
	bool		aside;			/* open but not watched */
	int64		resume_at;		/* not before */
	int64		retry_at;		/* closed: try again then */
} Listener;

static Reactor *reactor;
static int	my_worker;
static ListenTarget target;
static Listener listeners[MAX_LISTENERS];
static int	nlisteners = 0;
static int64 complained_at = 0;
static int64 touched_at = 0;

static void on_connection(ReactorSource *source, int events);
static void on_handover(ReactorSource *source, int events);

/* ---- opening ---- */

static const char *
unix_path(const Listener *l)
{
	return ((const struct sockaddr_un *) &l->address)->sun_path;
}

/* A socket in the abstract namespace has no file. */
static bool
has_file(const Listener *l)
{
	return l->kind != LISTENER_TCP && unix_path(l)[0] != '\0';
}

/* Does somebody listen at this path? If nobody does, a file that was left behind is removed. */
static bool
unix_is_taken(const Listener *l)
{
	int			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool		taken;

	if (fd < 0)
		return false;			/* bind tells more */
	taken = connect(fd, (const struct sockaddr *) &l->address, l->address_len) == 0 || errno == EAGAIN;
	if (!taken && errno == ECONNREFUSED && has_file(l))
		(void) unlink(unix_path(l));
	close(fd);
	return taken;
}

/* Group and permissions of the Unix socket, as the server gives its own. */
static bool
set_file_rights(const Listener *l)
{
	if (!has_file(l))
		return true;
	if (l->kind == LISTENER_HANDOVER)
		return chmod(unix_path(l), S_IRUSR | S_IWUSR) == 0;
	if (Unix_socket_group[0] != '\0')
	{
		char	   *end;
		unsigned long gid = strtoul(Unix_socket_group, &end, 10);

		if (*end != '\0')
		{
			struct group *group = getgrnam(Unix_socket_group);

			if (group == NULL)
			{
				errno = EINVAL;
				return false;
			}
			gid = group->gr_gid;
		}
		if (chown(unix_path(l), -1, gid) != 0)
			return false;
	}
	return chmod(unix_path(l), Unix_socket_permissions) == 0;
}

/* Its clients' sockets inherit TCP_NODELAY and SO_KEEPALIVE. */
static void
set_tcp_options(const Listener *l, int fd)
{
	int			on = 1;

	(void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (hyperpool_workers > 1)
		(void) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	if (l->address.ss_family == AF_INET6)
		(void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* A bound socket, or -1 and errno. */
static int
bound_socket(const Listener *l)
{
	int			type = l->kind == LISTENER_HANDOVER ? SOCK_DGRAM : SOCK_STREAM;
	int			fd;
	int			error;

	if (l->kind == LISTENER_UNIX && unix_is_taken(l))
	{
		errno = EADDRINUSE;
		return -1;
	}
	fd = socket(l->address.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (l->kind == LISTENER_TCP)
		set_tcp_options(l, fd);
	if (l->kind == LISTENER_HANDOVER)
		(void) unlink(unix_path(l));	/* our predecessor's */
	if (bind(fd, (const struct sockaddr *) &l->address, l->address_len) == 0)
	{
		if (set_file_rights(l))
			return fd;
		error = errno;
		if (has_file(l))
			(void) unlink(unix_path(l));
		errno = error;
	}
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* One line when it fails, one when it works (again); in between it is tried in silence. */
static void
complain(Listener *l)
{
	int			error = errno;

	if (l->complained)
		return;
	l->complained = true;
	errno = error;
	ereport(LOG,
			(errcode_for_socket_access(),
			 errmsg("hyperpool could not listen on %s: %m", l->name),
			 error == EADDRINUSE ?
			 errhint("Is another process using it? Free it, or change hyperpool.port. It is tried again every %d seconds.",
					 (int) (RETRY_AFTER / 1000000)) :
			 errhint("Check hyperpool.listen_addresses and hyperpool.unix_socket_directories. It is tried again every %d seconds.",
					 (int) (RETRY_AFTER / 1000000))));
}

static bool
open_listener(Listener *l)
{
	int			fd = bound_socket(l);

	l->retry_at = reactor_clock() + RETRY_AFTER;
	if (fd < 0)
	{
		complain(l);
		return false;
	}
	l->source.fd = fd;
	if ((l->kind != LISTENER_HANDOVER && listen(fd, Min(hyperpool_max_clients * 2, BACKLOG_LIMIT)) != 0) ||
		!reactor_add(reactor, &l->source, REACTOR_READ))
	{
		int			error = errno;

		l->source.fd = -1;
		close(fd);
		errno = error;
		complain(l);
		return false;
	}
	l->aside = false;
	l->complained = false;
	if (l->kind == LISTENER_HANDOVER)
		handover_open(true);
	else
		ereport(LOG,
				(errmsg("hyperpool is listening on %s", l->name)));
	return true;
}

/* ---- what to open ---- */

static Listener *
new_listener(ListenerKind kind)
{
	Listener   *l;

	if (nlisteners >= MAX_LISTENERS)
	{
		ereport(LOG,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("hyperpool listens on no more than %d addresses", MAX_LISTENERS),
				 errhint("Shorten hyperpool.listen_addresses.")));
		return NULL;
	}
	l = &listeners[nlisteners++];
	memset(l, 0, sizeof(*l));
	l->kind = kind;
	l->source.fd = -1;
	l->source.on_ready = kind == LISTENER_HANDOVER ? on_handover : on_connection;
	return l;
}

static void
add_tcp_address(const struct addrinfo *info)
{
	Listener   *l;
	char		host[NI_MAXHOST];

	if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
		return;
	for (int i = 0; i < nlisteners; i++)
	{
		/* two names of one address */
		if (listeners[i].address_len == info->ai_addrlen &&
			memcmp(&listeners[i].address, info->ai_addr, info->ai_addrlen) == 0)
			return;
	}
	l = new_listener(LISTENER_TCP);
	if (l == NULL)
		return;
	memcpy(&l->address, info->ai_addr, info->ai_addrlen);
	l->address_len = info->ai_addrlen;
	if (getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof(host), NULL, 0, NI_NUMERICHOST) != 0)
		strlcpy(host, "?", sizeof(host));
	snprintf(l->name, sizeof(l->name), "%s address \"%.80s\", port %d",
			 info->ai_family == AF_INET ? "IPv4" : "IPv6", host, hyperpool_port);
	(void) open_listener(l);
}

static void
add_tcp_name(const char *name)
{
	struct addrinfo hints = {0};
	struct addrinfo *found = NULL;
	char		port[12];
	int			error;

	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE;
	snprintf(port, sizeof(port), "%d", hyperpool_port);
	error = getaddrinfo(strcmp(name, "*") == 0 ? NULL : name, port, &hints, &found);
	if (error != 0)
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("hyperpool could not translate \"%s\" to an address: %s", name, gai_strerror(error)),
				 errhint("Check hyperpool.listen_addresses.")));
		return;
	}
	for (struct addrinfo *info = found; info; info = info->ai_next)
		add_tcp_address(info);
	freeaddrinfo(found);
}

/* A directory, or @name for the abstract namespace, as the server takes them. */
static void
add_unix_directory(const char *directory)
{
	Listener   *l;
	struct sockaddr_un *un;
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/.s.PGSQL.%d", directory, hyperpool_port);
	if (strlen(path) >= sizeof(un->sun_path))
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("Unix-domain socket path \"%s\" is too long (maximum %d bytes)",
						path, (int) sizeof(un->sun_path) - 1),
				 errhint("Set hyperpool.unix_socket_directories.")));
		return;
	}
	l = new_listener(LISTENER_UNIX);
	if (l == NULL)
		return;
	un = (struct sockaddr_un *) &l->address;
	un->sun_family = AF_UNIX;
	strlcpy(un->sun_path, path, sizeof(un->sun_path));
	l->address_len = sizeof(*un);
	if (path[0] == '@')
	{
		un->sun_path[0] = '\0';
		l->address_len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	}
	snprintf(l->name, sizeof(l->name), "Unix socket \"%s\"", path);
	(void) open_listener(l);
}

static void
add_handover(void)
{
	Listener   *l = new_listener(LISTENER_HANDOVER);

	if (l == NULL)
		return;
	handover_address((struct sockaddr_un *) &l->address, my_worker);
	l->address_len = sizeof(struct sockaddr_un);
	snprintf(l->name, sizeof(l->name), "its own socket \"%s\"", unix_path(l));
	(void) open_listener(l);
}

/* Calls add for each word of a list setting; the words are palloc'd and left to the caller's context. */
static void
add_list(const char *setting, const char *value, bool directories, void (*add) (const char *word))
{
	char	   *words = pstrdup(value);
	List	   *list = NIL;
	ListCell   *cell;
	bool		sound = directories ? SplitDirectoriesString(words, ',', &list) : SplitGUCList(words, ',', &list);

	if (!sound)
	{
		ereport(LOG,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("invalid list syntax in parameter \"%s\"", setting),
				 errhint("Separate the entries by commas.")));
		return;
	}
	foreach(cell, list)
		add(lfirst(cell));
}

static void
add_unix_listeners(void)
{
	const char *own = hyperpool_unix_socket_directories;

	if (own)
		add_list("hyperpool.unix_socket_directories", own, true, add_unix_directory);
	else if (Unix_socket_directories)
		add_list("unix_socket_directories", Unix_socket_directories, true, add_unix_directory);
}

void
listen_start(Reactor *r, int worker, const ListenTarget *t)
{
	reactor = r;
	my_worker = worker;
	target = *t;
	nlisteners = 0;
	touched_at = reactor_clock();
	if (hyperpool_listen_addresses && hyperpool_listen_addresses[0] != '\0')
		add_list("hyperpool.listen_addresses", hyperpool_listen_addresses, false, add_tcp_name);
	if (worker == 0)
		handover_forget_others();
	if (hyperpool_workers > 1)
	{
		handover_start(worker);
		add_handover();
	}
	if (worker == 0)
		add_unix_listeners();
}

/* ---- accepting ---- */

static void
set_aside(Listener *l, bool aside)
{
	l->aside = aside;
	(void) reactor_watch(reactor, &l->source, aside ? 0 : REACTOR_READ);
	if (l->kind == LISTENER_HANDOVER)
		handover_open(!aside);
}

static void
put_aside(Listener *l, int64 resume_at)
{
	l->resume_at = resume_at;
	set_aside(l, true);
}

/* What a reload may change. */
static void
set_client_options(int fd)
{
	if (hyperpool_tcp_keepalives_idle > 0)
		(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &hyperpool_tcp_keepalives_idle, sizeof(int));
	if (hyperpool_tcp_user_timeout > 0)
		(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &hyperpool_tcp_user_timeout, sizeof(int));
}

/* accept4 or recvmsg has failed. True: the next one may work. */
static bool
accept_goes_on(Listener *l, int error)
{
	int64		now = reactor_now(reactor);

	switch (error)
	{
		case EAGAIN:
			return false;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			/* watched, it would wake us at once, for ever */
			put_aside(l, now + PAUSE_FOR);
			if (complained_at == 0 || now - complained_at > COMPLAIN_EVERY)
			{
				complained_at = now;
				errno = error;
				ereport(LOG,
						(errcode_for_socket_access(),
						 errmsg("hyperpool could not accept a client on %s: %m", l->name),
						 errhint("Raise the limit on open files, or lower hyperpool.max_clients.")));
			}
			return false;
		default:
			/* this client has gone, or its network: accept(2) has a list */
			return true;
	}
}

/* One client off a listener that is ready. False: no more of them in this turn. */
static bool
accept_one(Listener *l)
{
	Arrival		arrival = {.local = l->kind == LISTENER_UNIX};
	socklen_t	len = sizeof(arrival.from);
	int			fd = accept4(l->source.fd, (struct sockaddr *) &arrival.from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	HandoverVerdict verdict = HANDOVER_KEEP;

	if (fd < 0)
		return accept_goes_on(l, errno);
	if (arrival.local)
		arrival.from.ss_family = AF_UNIX;
	else
		set_client_options(fd);
	if (hyperpool_workers > 1)
		verdict = handover_offer(fd, &arrival);
	if (verdict != HANDOVER_GONE)
		target.on_client(fd, &arrival.from, arrival.local);
	/* the emptiest is to come up with us: who waits in the kernel's queue can still be given to it */
	return verdict != HANDOVER_FULL;
}

static bool
take_one(Listener *l)
{
	Arrival		arrival;
	int			fd = handover_take(l->source.fd, &arrival);

	if (fd < 0)
		return accept_goes_on(l, errno);
	target.on_client(fd, &arrival.from, arrival.local);
	return true;
}

static void
serve(Listener *l, bool (*take) (Listener *l))
{
	for (int i = 0; i < ACCEPTS_A_TURN && l->source.fd >= 0; i++)
	{
		if (!target.accepting())
		{
			put_aside(l, 0);
			return;
		}
		if (!take(l))
			return;
	}
}

static void
on_connection(ReactorSource *source, int events)
{
	serve((Listener *) source, accept_one);
}

static void
on_handover(ReactorSource *source, int events)
{
	serve((Listener *) source, take_one);
}

/* ---- the turn, the end ---- */

/* Cleaners of temporary directories remove what looks old. */
static void
touch_files(void)
{
	for (int i = 0; i < nlisteners; i++)
	{
		if (listeners[i].source.fd >= 0 && has_file(&listeners[i]))
			(void) utime(unix_path(&listeners[i]), NULL);
	}
}

void
listen_turn(void)
{
	int64		now = reactor_now(reactor);

	for (int i = 0; i < nlisteners; i++)
	{
		Listener   *l = &listeners[i];

		if (l->source.fd < 0)
		{
			if (now >= l->retry_at)
				(void) open_listener(l);
		}
		else if (l->aside && now >= l->resume_at && target.accepting())
		{
			set_aside(l, false);
		}
	}
	if (now - touched_at > TOUCH_EVERY)
	{
		touched_at = now;
		touch_files();
	}
}

void
listen_stop(void)
{
	for (int i = 0; i < nlisteners; i++)
	{
		Listener   *l = &listeners[i];
		int			fd = l->source.fd;

		if (fd < 0)
			continue;
		/* the file first: whoever finds it must find us behind it */
		if (has_file(l))
			(void) unlink(unix_path(l));
		reactor_remove(reactor, &l->source);
		close(fd);
	}
	nlisteners = 0;
	handover_stop();
}
