/*
 * host/listen_handover.c - which worker gets a client?
 *
 * The kernel spreads connections over the sockets of one port by a hash of their addresses, which is uneven where clients are few, and
 * knows nothing of who has left since; a Unix socket has one owner. So whoever accepts a client looks at how many each worker has, in shared
 * memory, and if the emptiest has fewer, passes the descriptor on before a byte of it is read: one datagram, to a socket in the data directory.
 *
 * Whoever cannot pass a client on keeps it. What lies in the socket of a worker that ends is closed by the kernel, like the rest of its clients.
 * Never: waits, reads from a client.
 */
#include "postgres.h"

#include <sys/un.h>
#include <unistd.h>

#include "host/counters.h"
#include "host/listen_internal.h"
#include "common/file_utils.h"	/* PG_TEMP_FILE_PREFIX, since 17 */
#include "storage/fd.h"			/* before */

/*
 * In the data directory, which no other user can enter. Base backups and checksum runs pass over names that begin
 * like temporary files; they would complain of a socket.
 */
#define HANDOVER_PATH		PG_TEMP_FILE_PREFIX "_hyperpool.%d"

/*
 * A difference of one client, and of one in so many, is left as it is: where clients come and go all the time, passing on costs more than it mends. But nobody is idle
 * while another has a client to give.
 */
#define SLACK				32

static int	my_worker = -1;
static int	sender = -1;

void
handover_address(struct sockaddr_un *un, int worker)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), HANDOVER_PATH, worker);
}

/* A crash leaves them, and the next start may have fewer workers; a worker that is alone has none. */
void
handover_forget_others(void)
{
	struct sockaddr_un un;

	for (int worker = hyperpool_workers > 1 ? hyperpool_workers : 0; worker < HYPERPOOL_MAX_WORKERS; worker++)
	{
		handover_address(&un, worker);
		(void) unlink(un.sun_path);
	}
}

void
handover_start(int worker)
{
	my_worker = worker;
	sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

void
handover_stop(void)
{
	handover_open(false);
	if (sender >= 0)
		close(sender);
	sender = -1;
}

void
handover_open(bool open)
{
	worker_load_open(my_worker, open);
}

/* ---- whose? ---- */

/* The one with the fewest clients, if it has so many fewer than we that it is worth while; else our own. */
static int
worker_for_next(void)
{
	uint32		mine = worker_load(my_worker);
	uint32		least = mine;
	int			emptiest = my_worker;

	for (int i = 1; i < hyperpool_workers; i++)
	{
		int			worker = (my_worker + i) % hyperpool_workers;

		if (worker_is_open(worker) && worker_load(worker) < least)
		{
			emptiest = worker;
			least = worker_load(worker);
		}
	}
	if (least > 0)
		least += 1 + least / SLACK;
	return mine > least ? emptiest : my_worker;
}

/* ---- the way there ---- */

/* The one descriptor that goes with a message. */
typedef union Luggage
{
	struct cmsghdr header;
	char		room[CMSG_SPACE(sizeof(int))];
} Luggage;

static struct msghdr
message_of(struct iovec *iov, Luggage *luggage)
{
	struct msghdr message = {0};

	message.msg_iov = iov;
	message.msg_iovlen = 1;
	message.msg_control = luggage->room;
	message.msg_controllen = sizeof(luggage->room);
	return message;
}

static bool
send_to(int worker, int fd, const Arrival *arrival)
{
	struct sockaddr_un to;
	Luggage		luggage = {0};
	struct iovec iov = {(void *) arrival, sizeof(*arrival)};
	struct msghdr message = message_of(&iov, &luggage);
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);

	handover_address(&to, worker);
	message.msg_name = &to;
	message.msg_namelen = sizeof(to);
	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(part), &fd, sizeof(int));
	return sendmsg(sender, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(*arrival);
}

HandoverVerdict
handover_offer(int fd, const Arrival *arrival)
{
	int			worker = worker_for_next();
	bool		full;

	if (worker == my_worker || sender < 0)
		return HANDOVER_KEEP;
	/* counted before it is sent, or the next one would go there too */
	worker_load_coming(worker, 1);
	if (send_to(worker, fd, arrival))
	{
		close(fd);
		return HANDOVER_GONE;
	}
	full = errno == EAGAIN;
	worker_load_coming(worker, -1);
	return full ? HANDOVER_FULL : HANDOVER_KEEP;
}

static int
descriptor_in(struct msghdr *message)
{
	struct cmsghdr *part = CMSG_FIRSTHDR(message);
	int			fd;

	if (part == NULL || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS ||
		part->cmsg_len != CMSG_LEN(sizeof(int)))
		return -1;
	memcpy(&fd, CMSG_DATA(part), sizeof(int));
	return fd;
}

int
handover_take(int socket, Arrival *arrival)
{
	Luggage		luggage = {0};
	struct iovec iov = {arrival, sizeof(*arrival)};
	struct msghdr message = message_of(&iov, &luggage);
	ssize_t		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int			fd;

	if (n < 0)
	{
		/* who was torn out between counting and sending has left a count behind */
		if (errno == EAGAIN)
			worker_load_came(my_worker);
		return -1;
	}
	worker_load_coming(my_worker, -1);
	fd = descriptor_in(&message);
	if (n == sizeof(*arrival) && fd >= 0)
		return fd;
	if (fd >= 0)
		close(fd);
	errno = fd < 0 ? EMFILE : EBADMSG;	/* without: there was no room for it here, and the kernel has closed it */
	return -1;
}
