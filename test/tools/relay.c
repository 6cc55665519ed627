/*
 * relay.c - a TCP relay that is far away, and that can be told to fail.
 *
 * Answers: what does a client see when its server is RTT milliseconds off, or when the path between them breaks?
 * One process, one epoll loop. Each byte arrives half a round trip after it was read, in each direction, in order,
 * and so do the end of a stream and a reset. What a client sends first waits one round trip more, since over a real
 * ocean the TCP handshake would have cost that (here connect() returns at once). Bandwidth is not limited.
 *
 *   relay --listen 127.0.0.1:PORT --to HOST:PORT [--rtt-ms 125] [--control FIFO] [--cut-after BYTES] [--refuse]
 *
 * PORT 0 picks a free one; the first line printed names it. The near side is who connects to it, the far side where it connects to. WAY is `asked` (from
 * near to far) or `answered`. The control FIFO is made if need be and takes lines:
 *   rtt MS               from now on
 *   stall [WAY]          bytes stop, one way or both, connections stay;  resume  lets them go on
 *   drip BYTES           so many bytes a millisecond and connection, each way;  drip off  ends that
 *   half-open            of the open connections the far side is closed, the near side hears nothing, now or later
 *   vanish               the same the other way round: the near side is closed, the far side hears nothing
 *   reset                the open connections are reset on both sides, at once
 *   cut [WAY] BYTES      each connection (open or new) is reset after BYTES more bytes that way (answered);  cut off  ends that
 *   truncate [WAY] BYTES the same, but the streams end as if the other side had closed them
 *   refuse               new connections are refused
 *   deaf                 new connections are neither accepted nor refused, as if the machine was gone
 *   accept               ends both
 *   summary              prints the counts
 * The counts are also printed at SIGINT and SIGTERM, which end the relay. A trip is counted each time a client
 * speaks first or after it was answered.
 *
 * For tests, demo and measurements on one machine; not for untrusted networks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE		65536
#define HELD_LIMIT		(16u << 20)	/* bytes on their way in one direction; beyond it, not read */
#define EVENTS			256
#define NOT_QUEUED		SIZE_MAX
#define UNLIMITED		UINT64_MAX
#define DRIP_EVERY		1000000	/* nanoseconds */
#define DEAF_FILLERS	4		/* connections that nobody accepts: more than a backlog of 0 has room for */

typedef enum ChunkKind
{
	CHUNK_BYTES,
	CHUNK_END,					/* the sender closed its half */
	CHUNK_RESET					/* the sender's connection broke */
} ChunkKind;

typedef struct Chunk
{
	struct Chunk *next;
	int64_t		due;			/* nanoseconds, monotonic */
	ChunkKind	kind;
	size_t		len;
	size_t		sent;
	char		bytes[];
} Chunk;

struct Pair;

/* What travels from one socket of a pair to the other. */
typedef struct Flow
{
	struct Pair *pair;
	int			from;			/* 0 client, 1 target: index into the pair's ends */
	Chunk	   *first;
	Chunk	   *last;
	size_t		held;
	size_t		place;			/* in the heap, NOT_QUEUED if absent */
	bool		read_ended;
	bool		blocked;		/* the receiver's socket is full */
} Flow;

typedef struct End
{
	struct Pair *pair;
	int			index;
	int			fd;
	bool		connecting;
	bool		unwatched;		/* out of epoll: nothing more to hear from it */
	uint32_t	interest;		/* what epoll was told */
} End;

typedef struct Pair
{
	struct Pair *next;
	struct Pair *prev;
	End			ends[2];
	Flow		flows[2];		/* flows[i] reads ends[i] */
	int64_t		established;	/* when a real handshake would have been over */
	uint64_t	left[2];		/* bytes of each flow before a cut */
	bool		answered;		/* the target spoke since the client did (true at first) */
	bool		half_open;
	bool		dead;
} Pair;

static struct
{
	int			epoll;
	int			timer;
	int			listener;
	int			control;
	int			signals;
	struct sockaddr_storage listen_address;
	socklen_t	listen_len;
	struct sockaddr_storage target;
	socklen_t	target_len;
	int			deaf;			/* listens, but nobody accepts */
	int			fillers[DEAF_FILLERS];
	int64_t		half;			/* half a round trip, nanoseconds */
	uint64_t	cut_after[2];	/* for new pairs */
	bool		cut_ends;		/* by the end of the streams instead of a reset */
	size_t		drip;			/* bytes at a time; 0 = no limit */
	bool		stalled[2];		/* flows of that way are not in the heap */
	bool		refusing;
	Pair	   *pairs;
	Pair	   *graveyard;		/* freed at the end of the turn: events may still name them */
	Flow	  **heap;			/* by due time of the first chunk */
	size_t		heap_len;
	size_t		heap_size;
	char		command[256];
	size_t		command_len;
	uint64_t	connections;
	uint64_t	open;
	uint64_t	most_open;
	uint64_t	asked_bytes;
	uint64_t	answer_bytes;
	uint64_t	trips;
	uint64_t	resets;
}			relay;

static char LISTENER,
			TIMER,
			CONTROL,
			SIGNALS;			/* their addresses tell events of no pair apart */

static void
die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- the heap of flows, soonest first ---- */

static void
heap_put(size_t place, Flow *flow)
{
	relay.heap[place] = flow;
	flow->place = place;
}

static void
heap_up(size_t place)
{
	Flow	   *flow = relay.heap[place];

	while (place > 0)
	{
		size_t		parent = (place - 1) / 2;

		if (relay.heap[parent]->first->due <= flow->first->due)
			break;
		heap_put(place, relay.heap[parent]);
		place = parent;
	}
	heap_put(place, flow);
}

static void
heap_down(size_t place)
{
	Flow	   *flow = relay.heap[place];

	for (;;)
	{
		size_t		child = 2 * place + 1;

		if (child >= relay.heap_len)
			break;
		if (child + 1 < relay.heap_len && relay.heap[child + 1]->first->due < relay.heap[child]->first->due)
			child++;
		if (flow->first->due <= relay.heap[child]->first->due)
			break;
		heap_put(place, relay.heap[child]);
		place = child;
	}
	heap_put(place, flow);
}

static void
heap_add(Flow *flow)
{
	if (flow->place != NOT_QUEUED || relay.stalled[flow->from])
		return;
	if (relay.heap_len == relay.heap_size)
	{
		relay.heap_size = relay.heap_size > 0 ? relay.heap_size * 2 : 64;
		relay.heap = realloc(relay.heap, relay.heap_size * sizeof(Flow *));
		if (relay.heap == NULL)
			die("memory");
	}
	heap_put(relay.heap_len, flow);
	heap_up(relay.heap_len++);
}

static void
heap_remove(Flow *flow)
{
	size_t		place = flow->place;
	Flow	   *last;

	if (place == NOT_QUEUED)
		return;
	last = relay.heap[--relay.heap_len];
	flow->place = NOT_QUEUED;
	if (last == flow)
		return;
	heap_put(place, last);
	heap_up(place);
	heap_down(last->place);
}

/* ---- pairs ---- */

static void
end_watch(End *end, uint32_t interest)
{
	struct epoll_event ev = {.events = interest,.data.ptr = end};

	if (end->fd < 0 || end->unwatched || end->interest == interest)
		return;
	if (epoll_ctl(relay.epoll, EPOLL_CTL_MOD, end->fd, &ev) < 0)
		die("epoll_ctl");
	end->interest = interest;
}

/* Reading stops when too much is on its way or the stream has ended; writing is asked for only when a send was short. */
static void
end_update(End *end)
{
	Flow	   *out = &end->pair->flows[end->index];
	Flow	   *in = &end->pair->flows[1 - end->index];
	uint32_t	interest = 0;

	if (!end->connecting && !out->read_ended && out->held < HELD_LIMIT)
		interest |= EPOLLIN;
	if (end->connecting || in->blocked)
		interest |= EPOLLOUT;
	end_watch(end, interest);
}

static void
end_close(End *end, bool with_reset)
{
	struct linger l = {1, 0};

	if (end->fd < 0)
		return;
	if (with_reset)
		setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(end->fd);
	end->fd = -1;
}

static void
flow_clear(Flow *flow)
{
	heap_remove(flow);
	while (flow->first != NULL)
	{
		Chunk	   *chunk = flow->first;

		flow->first = chunk->next;
		free(chunk);
	}
	flow->last = NULL;
	flow->held = 0;
}

static void
pair_close(Pair *pair, bool with_reset)
{
	if (pair->dead)
		return;
	pair->dead = true;
	relay.open--;
	relay.resets += with_reset;
	for (int i = 0; i < 2; i++)
	{
		end_close(&pair->ends[i], with_reset);
		flow_clear(&pair->flows[i]);
	}
	if (pair->prev != NULL)
		pair->prev->next = pair->next;
	else
		relay.pairs = pair->next;
	if (pair->next != NULL)
		pair->next->prev = pair->prev;
	pair->next = relay.graveyard;
	relay.graveyard = pair;
}

/* ---- what travels ---- */

static void
flow_append(Flow *flow, ChunkKind kind, const char *bytes, size_t len)
{
	Pair	   *pair = flow->pair;
	Chunk	   *chunk = malloc(sizeof(Chunk) + len);
	int64_t		sent = now_ns();

	if (chunk == NULL)
		die("memory");
	if (sent < pair->established)
		sent = pair->established;
	chunk->next = NULL;
	chunk->due = sent + relay.half;
	if (flow->last != NULL && chunk->due < flow->last->due)
		chunk->due = flow->last->due;	/* a shorter round trip does not overtake */
	chunk->kind = kind;
	chunk->len = len;
	chunk->sent = 0;
	if (len > 0)
		memcpy(chunk->bytes, bytes, len);
	flow->held += len;
	if (flow->last != NULL)
		flow->last->next = chunk;
	else
		flow->first = chunk;
	flow->last = chunk;
	if (!flow->blocked && !pair->ends[1 - flow->from].connecting)
		heap_add(flow);
}

static void
flow_drop_first(Flow *flow)
{
	Chunk	   *chunk = flow->first;

	flow->first = chunk->next;
	if (flow->first == NULL)
		flow->last = NULL;
	flow->held -= chunk->len;
	free(chunk);
}

static void
count_bytes(Flow *flow, size_t n)
{
	Pair	   *pair = flow->pair;

	if (flow->from == 1)
	{
		relay.answer_bytes += n;
		pair->answered = true;
		return;
	}
	relay.asked_bytes += n;
	relay.trips += pair->answered;
	pair->answered = false;
}

/* Sends what it can of one chunk; false when the receiver is full or the pair is gone. */
static bool
flow_send(Flow *flow, Chunk *chunk)
{
	Pair	   *pair = flow->pair;
	End		   *to = &pair->ends[1 - flow->from];
	size_t		len = chunk->len - chunk->sent;
	ssize_t		n;

	if (relay.drip > 0 && len > relay.drip)
		len = relay.drip;
	if (len > pair->left[flow->from])
		len = pair->left[flow->from];
	n = len > 0 ? send(to->fd, chunk->bytes + chunk->sent, len, MSG_NOSIGNAL) : 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
	{
		flow->blocked = true;
		end_update(to);
		return false;
	}
	if (n < 0)
	{
		pair_close(pair, true);
		return false;
	}
	chunk->sent += n;
	if (pair->left[flow->from] != UNLIMITED)
	{
		pair->left[flow->from] -= n;
		if (pair->left[flow->from] == 0)
		{
			pair_close(pair, !relay.cut_ends);
			return false;
		}
	}
	return true;
}

/* Delivers what is due. The flow is not in the heap while this runs. */
static void
flow_deliver(Flow *flow, int64_t now)
{
	Pair	   *pair = flow->pair;
	End		   *to = &pair->ends[1 - flow->from];

	while (flow->first != NULL && flow->first->due <= now)
	{
		Chunk	   *chunk = flow->first;

		if (pair->half_open)
		{
			flow_drop_first(flow);
			continue;
		}
		if (chunk->kind == CHUNK_RESET)
		{
			pair_close(pair, true);
			return;
		}
		if (chunk->kind == CHUNK_END)
		{
			shutdown(to->fd, SHUT_WR);
			flow_drop_first(flow);
			if (pair->flows[0].read_ended && pair->flows[1].read_ended &&
				pair->flows[0].first == NULL && pair->flows[1].first == NULL)
			{
				pair_close(pair, false);
				return;
			}
			continue;
		}
		if (!flow_send(flow, chunk))
			return;
		if (chunk->sent == chunk->len)
			flow_drop_first(flow);
		if (relay.drip > 0 && flow->first != NULL && flow->first->due < now + DRIP_EVERY)
			flow->first->due = now + DRIP_EVERY;
	}
	end_update(&pair->ends[flow->from]);
	if (flow->first != NULL)
		heap_add(flow);
}

/* ---- events of a pair ---- */

static void
end_readable(End *end)
{
	static char bytes[READ_SIZE];
	Flow	   *flow = &end->pair->flows[end->index];
	ssize_t		n = recv(end->fd, bytes, sizeof(bytes), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
	{
		if (end->pair->half_open)
			return;				/* into the void */
		count_bytes(flow, n);
		flow_append(flow, CHUNK_BYTES, bytes, n);
	}
	else
	{
		flow->read_ended = true;
		if (end->pair->half_open)
		{
			pair_close(end->pair, false);
			return;
		}
		flow_append(flow, n == 0 ? CHUNK_END : CHUNK_RESET, NULL, 0);
	}
	end_update(end);
}

static void
target_connected(Pair *pair)
{
	End		   *end = &pair->ends[1];
	int			error = 0;
	socklen_t	len = sizeof(error);

	getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	end->connecting = false;
	if (error != 0)
	{
		/* nobody there: the client hears it when a real connect() would have */
		pair->flows[1].read_ended = true;
		end_watch(end, 0);
		end_close(end, false);
		flow_clear(&pair->flows[0]);
		pair->flows[0].read_ended = true;
		pair->established -= relay.half;
		end_update(&pair->ends[0]);
		flow_append(&pair->flows[1], CHUNK_RESET, NULL, 0);
		return;
	}
	end_update(end);
	if (pair->flows[0].first != NULL)
		heap_add(&pair->flows[0]);
}

static void
end_event(End *end, uint32_t events)
{
	Pair	   *pair = end->pair;
	Flow	   *out = &pair->flows[end->index];
	Flow	   *in = &pair->flows[1 - end->index];

	if (pair->dead || end->fd < 0)
		return;
	if (end->connecting)
	{
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			target_connected(pair);
		return;
	}
	if ((events & EPOLLOUT) && in->blocked)
	{
		in->blocked = false;
		end_update(end);
		if (in->first != NULL)
			heap_add(in);
	}
	if ((events & EPOLLIN) || ((events & (EPOLLERR | EPOLLHUP)) && !out->read_ended))
		end_readable(end);
	else if (events & (EPOLLERR | EPOLLHUP))
	{
		/* Reported whether asked for or not, for ever: take it out. The other side still gets what is on its way. */
		epoll_ctl(relay.epoll, EPOLL_CTL_DEL, end->fd, NULL);
		end->unwatched = true;
		if (events & EPOLLERR)
			flow_append(out, CHUNK_RESET, NULL, 0);
	}
}

/* ---- accepting ---- */

static bool
end_open(Pair *pair, int index, int fd, bool connecting)
{
	End		   *end = &pair->ends[index];
	struct epoll_event ev = {.events = connecting ? EPOLLOUT : EPOLLIN,.data.ptr = end};
	int			one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	end->pair = pair;
	end->index = index;
	end->fd = fd;
	end->connecting = connecting;
	end->interest = ev.events;
	pair->flows[index].pair = pair;
	pair->flows[index].from = index;
	pair->flows[index].place = NOT_QUEUED;
	return epoll_ctl(relay.epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static void
accept_one(int fd)
{
	Pair	   *pair = calloc(1, sizeof(Pair));
	int			target = socket(relay.target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (pair == NULL || target < 0)
	{
		fprintf(stderr, "relay: connection dropped: %s\n", strerror(errno));
		free(pair);
		close(fd);
		return;
	}
	/* the answer of connect() comes with the socket's first event, success or not */
	if (connect(target, (struct sockaddr *) &relay.target, relay.target_len) < 0 && errno != EINPROGRESS)
		fprintf(stderr, "relay: connect: %s\n", strerror(errno));
	if (!end_open(pair, 0, fd, false) || !end_open(pair, 1, target, true))
		die("epoll_ctl");
	pair->established = now_ns() + 2 * relay.half;
	pair->left[0] = relay.cut_after[0];
	pair->left[1] = relay.cut_after[1];
	pair->answered = true;
	pair->next = relay.pairs;
	if (relay.pairs != NULL)
		relay.pairs->prev = pair;
	relay.pairs = pair;
	relay.connections++;
	if (++relay.open > relay.most_open)
		relay.most_open = relay.open;
}

static void
accept_all(void)
{
	for (;;)
	{
		int			fd = accept4(relay.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		accept_one(fd);
	}
}

static int
listener_open(int backlog)
{
	int			fd = socket(relay.listen_address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			one = 1;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *) &relay.listen_address, relay.listen_len) < 0)
		die("bind");
	/* a port that was chosen for us is kept when listening starts again */
	getsockname(fd, (struct sockaddr *) &relay.listen_address, &relay.listen_len);
	if (listen(fd, backlog) < 0)
		die("listen");
	return fd;
}

/* A backlog that is full and that nobody empties: the kernel drops what asks to connect. */
static void
deaf_start(void)
{
	if (relay.deaf >= 0)
		return;
	relay.deaf = listener_open(0);
	for (int i = 0; i < DEAF_FILLERS; i++)
	{
		relay.fillers[i] = socket(relay.listen_address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (relay.fillers[i] < 0 ||
			(connect(relay.fillers[i], (struct sockaddr *) &relay.listen_address, relay.listen_len) < 0 && errno != EINPROGRESS))
			die("deaf");
	}
}

static void
deaf_stop(void)
{
	if (relay.deaf < 0)
		return;
	for (int i = 0; i < DEAF_FILLERS; i++)
		close(relay.fillers[i]);
	close(relay.deaf);
	relay.deaf = -1;
}

static void
listen_start(void)
{
	struct epoll_event ev = {.events = EPOLLIN,.data.ptr = &LISTENER};

	deaf_stop();
	if (relay.listener >= 0)
		return;
	relay.listener = listener_open(4096);
	if (epoll_ctl(relay.epoll, EPOLL_CTL_ADD, relay.listener, &ev) < 0)
		die("listen");
}

static void
listen_stop(void)
{
	if (relay.listener >= 0)
		close(relay.listener);
	relay.listener = -1;
}

/* ---- control ---- */

static void
print_summary(void)
{
	printf("relay: connections %" PRIu64 ", open %" PRIu64 ", most open %" PRIu64 ", trips %" PRIu64
		   ", bytes asked %" PRIu64 ", bytes answered %" PRIu64 ", resets %" PRIu64 "\n",
		   relay.connections, relay.open, relay.most_open, relay.trips,
		   relay.asked_bytes, relay.answer_bytes, relay.resets);
	fflush(stdout);
}

static void
reset_all(void)
{
	while (relay.pairs != NULL)
		pair_close(relay.pairs, true);
}

/* One end is closed, the other one hears nothing of it. */
static void
half_open_all(int closed)
{
	Pair	   *pair;

	for (pair = relay.pairs; pair != NULL; pair = pair->next)
	{
		pair->half_open = true;
		flow_clear(&pair->flows[0]);
		flow_clear(&pair->flows[1]);
		end_close(&pair->ends[closed], false);
	}
}

static void
cut_all(int way, uint64_t bytes, bool ends)
{
	Pair	   *pair;

	relay.cut_ends = ends;
	relay.cut_after[way] = bytes;
	for (pair = relay.pairs; pair != NULL; pair = pair->next)
		pair->left[way] = bytes;
}

static void
stall(int way)
{
	Pair	   *pair;

	relay.stalled[way] = true;
	for (pair = relay.pairs; pair != NULL; pair = pair->next)
		heap_remove(&pair->flows[way]);
}

static void
resume(void)
{
	Pair	   *pair;

	relay.stalled[0] = relay.stalled[1] = false;
	for (pair = relay.pairs; pair != NULL; pair = pair->next)
	{
		for (int way = 0; way < 2; way++)
		{
			Flow	   *flow = &pair->flows[way];

			if (flow->first != NULL && !flow->blocked && !pair->ends[1 - way].connecting)
				heap_add(flow);
		}
	}
}

static bool
parse_number(const char *text, double least, double most, double *value)
{
	char	   *end;

	*value = strtod(text, &end);
	return end != text && *end == '\0' && *value >= least && *value <= most;
}

/* Takes "asked " or "answered " off the front of the text; without either it is the answers' way. */
static int
parse_way(const char **text)
{
	if (strncmp(*text, "asked ", 6) == 0)
	{
		*text += 6;
		return 0;
	}
	if (strncmp(*text, "answered ", 9) == 0)
		*text += 9;
	return 1;
}

static bool
cut_line(const char *text, bool ends)
{
	int			way = parse_way(&text);
	double		value;

	if (!parse_number(text, 1, 1e15, &value))
		return false;
	cut_all(way, (uint64_t) value, ends);
	return true;
}

/* Commands with a number. */
static bool
measure_line(const char *line)
{
	double		value;

	if (strncmp(line, "rtt ", 4) == 0 && parse_number(line + 4, 0, 60000, &value))
		relay.half = (int64_t) (value * 1e6 / 2);
	else if (strncmp(line, "drip ", 5) == 0 && parse_number(line + 5, 1, 1e9, &value))
		relay.drip = (size_t) value;
	else if (strncmp(line, "cut ", 4) == 0)
		return cut_line(line + 4, false);
	else if (strncmp(line, "truncate ", 9) == 0)
		return cut_line(line + 9, true);
	else
		return false;
	return true;
}

/* Commands that are a word or two. */
static bool
word_line(const char *line)
{
	if (strcmp(line, "stall") == 0)
	{
		stall(0);
		stall(1);
	}
	else if (strcmp(line, "stall asked") == 0)
		stall(0);
	else if (strcmp(line, "stall answered") == 0)
		stall(1);
	else if (strcmp(line, "resume") == 0)
		resume();
	else if (strcmp(line, "drip off") == 0)
		relay.drip = 0;
	else if (strcmp(line, "half-open") == 0)
		half_open_all(1);
	else if (strcmp(line, "vanish") == 0)
		half_open_all(0);
	else if (strcmp(line, "reset") == 0)
		reset_all();
	else if (strcmp(line, "cut off") == 0)
	{
		cut_all(0, UNLIMITED, false);
		cut_all(1, UNLIMITED, false);
	}
	else if (strcmp(line, "refuse") == 0)
		listen_stop();
	else if (strcmp(line, "deaf") == 0)
	{
		listen_stop();
		deaf_start();
	}
	else if (strcmp(line, "accept") == 0)
		listen_start();
	else if (strcmp(line, "summary") == 0)
		print_summary();
	else
		return false;
	return true;
}

static void
control_line(const char *line)
{
	if (line[0] != '\0' && !word_line(line) && !measure_line(line))
		fprintf(stderr, "relay: unknown command \"%s\"\n", line);
}

static void
control_readable(void)
{
	char		byte;

	while (read(relay.control, &byte, 1) == 1)
	{
		if (byte != '\n')
		{
			if (relay.command_len < sizeof(relay.command) - 1)
				relay.command[relay.command_len++] = byte;
			continue;
		}
		relay.command[relay.command_len] = '\0';
		relay.command_len = 0;
		control_line(relay.command);
	}
}

static void
control_open(const char *path)
{
	struct epoll_event ev = {.events = EPOLLIN,.data.ptr = &CONTROL};

	if (mkfifo(path, 0600) < 0 && errno != EEXIST)
		die(path);
	/* read and write, so that it never sees an end of file between two writers */
	relay.control = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (relay.control < 0 || epoll_ctl(relay.epoll, EPOLL_CTL_ADD, relay.control, &ev) < 0)
		die(path);
}

/* ---- the loop ---- */

/* Absolute, so a time already past fires at once; 0 disarms. */
static void
timer_set(void)
{
	struct itimerspec t = {0};
	int64_t		due = relay.heap_len > 0 ? relay.heap[0]->first->due : 0;

	t.it_value.tv_sec = due / 1000000000;
	t.it_value.tv_nsec = due % 1000000000;
	timerfd_settime(relay.timer, TFD_TIMER_ABSTIME, &t, NULL);
}

static void
deliver_due(void)
{
	int64_t		now = now_ns();

	while (relay.heap_len > 0 && relay.heap[0]->first->due <= now)
	{
		Flow	   *flow = relay.heap[0];

		heap_remove(flow);
		flow_deliver(flow, now);
	}
}

static void
bury(void)
{
	while (relay.graveyard != NULL)
	{
		Pair	   *pair = relay.graveyard;

		relay.graveyard = pair->next;
		free(pair);
	}
}

/* False when a signal asks for the end. */
static bool
handle_event(struct epoll_event *ev)
{
	uint64_t	ticks;

	if (ev->data.ptr == &SIGNALS)
		return false;
	if (ev->data.ptr == &LISTENER)
		accept_all();
	else if (ev->data.ptr == &CONTROL)
		control_readable();
	else if (ev->data.ptr == &TIMER)
	{
		if (read(relay.timer, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
			die("timer");
	}
	else
		end_event(ev->data.ptr, ev->events);
	return true;
}

static void
run(void)
{
	struct epoll_event events[EVENTS];
	bool		more = true;

	while (more)
	{
		int			n = epoll_wait(relay.epoll, events, EVENTS, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			more = handle_event(&events[i]) && more;
		deliver_due();
		timer_set();
		bury();
	}
}

/* ---- start ---- */

static void
resolve(const char *text, struct sockaddr_storage *address, socklen_t *len)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found;
	char		host[256];
	const char *colon = strrchr(text, ':');
	int			rc;

	if (colon == NULL || (size_t) (colon - text) >= sizeof(host))
	{
		fprintf(stderr, "relay: \"%s\" is not HOST:PORT\n", text);
		exit(2);
	}
	memcpy(host, text, colon - text);
	host[colon - text] = '\0';
	rc = getaddrinfo(host, colon + 1, &hints, &found);
	if (rc != 0)
	{
		fprintf(stderr, "relay: \"%s\": %s\n", text, gai_strerror(rc));
		exit(2);
	}
	memcpy(address, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
}

static void
usage(void)
{
	fprintf(stderr, "usage: relay --listen HOST:PORT --to HOST:PORT [--rtt-ms MS] [--control FIFO] [--cut-after BYTES] [--refuse]\n");
	exit(2);
}

static const char *
read_options(int argc, char **argv)
{
	const char *control = NULL;
	double		value;

	for (int i = 1; i < argc; i++)
	{
		const char *next = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--refuse") == 0)
		{
			relay.refusing = true;
			continue;
		}
		if (next == NULL)
			usage();
		i++;
		if (strcmp(argv[i - 1], "--listen") == 0)
			resolve(next, &relay.listen_address, &relay.listen_len);
		else if (strcmp(argv[i - 1], "--to") == 0)
			resolve(next, &relay.target, &relay.target_len);
		else if (strcmp(argv[i - 1], "--control") == 0)
			control = next;
		else if (strcmp(argv[i - 1], "--rtt-ms") == 0 && parse_number(next, 0, 60000, &value))
			relay.half = (int64_t) (value * 1e6 / 2);
		else if (strcmp(argv[i - 1], "--cut-after") == 0 && parse_number(next, 1, 1e15, &value))
			relay.cut_after[1] = (uint64_t) value;
		else
			usage();
	}
	if (relay.listen_len == 0 || relay.target_len == 0)
		usage();
	return control;
}

static void
watch_signals_and_timer(void)
{
	struct epoll_event ev = {.events = EPOLLIN,.data.ptr = &SIGNALS};
	sigset_t	set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	relay.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	relay.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (relay.signals < 0 || relay.timer < 0 || epoll_ctl(relay.epoll, EPOLL_CTL_ADD, relay.signals, &ev) < 0)
		die("signals");
	ev.data.ptr = &TIMER;
	if (epoll_ctl(relay.epoll, EPOLL_CTL_ADD, relay.timer, &ev) < 0)
		die("timer");
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	char		host[NI_MAXHOST];
	char		port[NI_MAXSERV];
	const char *control;

	relay.listener = relay.deaf = -1;
	relay.cut_after[0] = relay.cut_after[1] = UNLIMITED;
	relay.half = 125 * 1000000 / 2;
	control = read_options(argc, argv);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
	{
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	relay.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (relay.epoll < 0)
		die("epoll_create1");
	watch_signals_and_timer();
	if (control != NULL)
		control_open(control);
	listen_start();
	if (getnameinfo((struct sockaddr *) &relay.listen_address, relay.listen_len, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		printf("relay: listening on %s:%s, round trip %.3f ms\n", host, port, relay.half * 2 / 1e6);
	fflush(stdout);
	if (relay.refusing)
		listen_stop();
	run();
	print_summary();
	return 0;
}
