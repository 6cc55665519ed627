/*
 * origin/link_cancel.c - asks an origin to cancel what a link is doing.
 *
 * A CancelRequest needs a connection of its own. The link it is for is not used for anything new until that connection has
 * been closed by the origin (which it does after the signal was sent): a late cancel must not hit the next client's query.
 * With libpq 17 and newer its asynchronous cancel is used (TLS as on the link); before, a CancelRequest in clear text, as libpq's own PQcancel sends it.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "origin/link_internal.h"

#define CANCEL_WAIT		INT64CONST(10000000)	/* microseconds until a cancel connection is given up */
#define CANCEL_PACKET	16
#define CANCEL_AGAIN	INT64CONST(100000)	/* beyond two round trips: when what an abandoned client has asked should have ended */

struct LinkCancel
{
	ReactorSource source;		/* MUST BE FIRST */
	ReactorTimer timer;
	OriginLink *link;			/* NULL: the link has gone meanwhile */
#ifdef LIBPQ_HAS_ASYNC_CANCEL
	PGcancelConn *conn;
#else
	uint8		packet[CANCEL_PACKET];
	bool		sent;
#endif
};

/* A cancel that arrives between two statements hits neither. What a client has left behind is cancelled until it has ended. */
static void
cancel_again(ReactorTimer *timer)
{
	OriginLink *link = (OriginLink *) ((char *) timer - offsetof(OriginLink, cancel_again));

	if (link->abandoned && link->head)
		link_cancel(link);
}

static void
cancel_end(struct LinkCancel *c)
{
	OriginLink *link = c->link;

	reactor_clear_timer(link_reactor, &c->timer);
	if (c->source.fd >= 0)
	{
#ifndef LIBPQ_HAS_ASYNC_CANCEL
		int			fd = c->source.fd;
#endif

		reactor_remove(link_reactor, &c->source);
#ifndef LIBPQ_HAS_ASYNC_CANCEL
		close(fd);
#endif
	}
#ifdef LIBPQ_HAS_ASYNC_CANCEL
	if (c->conn)
		PQcancelFinish(c->conn);
#endif
	mem_free(c, sizeof(struct LinkCancel));
	if (link)
	{
		link->cancel = NULL;
		if (link->abandoned && link->head)
		{
			link->cancel_again.on_time = cancel_again;
			reactor_set_timer(link_reactor, &link->cancel_again, reactor_now(link_reactor) + CANCEL_AGAIN + 2 * link->way.rtt);
		}
		link_go_on(link);
	}
}

static void
cancel_timed_out(ReactorTimer *timer)
{
	struct LinkCancel *c = (struct LinkCancel *) ((char *) timer - offsetof(struct LinkCancel, timer));

	OriginLink *link = c->link;

	/* It may still arrive: nobody may use the link next. And an origin that does not take a cancel request answers nothing else. */
	c->link = NULL;
	if (link)
	{
		link->cancel = NULL;
		link_break(link, "08006", "the origin took neither the statement nor a request to cancel it");
	}
	cancel_end(c);
}

#ifdef LIBPQ_HAS_ASYNC_CANCEL

static void
cancel_step(ReactorSource *source, int events)
{
	struct LinkCancel *c = (struct LinkCancel *) source;
	PostgresPollingStatusType status;

	reactor_remove(link_reactor, &c->source);
	status = PQcancelPoll(c->conn);
	if (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING)
	{
		c->source.fd = PQcancelSocket(c->conn);
		if (reactor_add(link_reactor, &c->source, status == PGRES_POLLING_READING ? REACTOR_READ : REACTOR_WRITE))
			return;
		c->source.fd = -1;
	}
	cancel_end(c);
}

static bool
cancel_begin(struct LinkCancel *c)
{
	c->conn = PQcancelCreate(c->link->conn);
	if (c->conn == NULL || !PQcancelStart(c->conn))
		return false;
	c->source.fd = PQcancelSocket(c->conn);
	return reactor_add(link_reactor, &c->source, REACTOR_WRITE);
}

#else

static void
cancel_step(ReactorSource *source, int events)
{
	struct LinkCancel *c = (struct LinkCancel *) source;
	char		rest[16];

	if (!c->sent)
	{
		/* 16 bytes into a fresh socket go out at once or not at all */
		if (send(c->source.fd, c->packet, CANCEL_PACKET, MSG_NOSIGNAL) != CANCEL_PACKET)
		{
			cancel_end(c);
			return;
		}
		c->sent = true;
		reactor_watch(link_reactor, &c->source, REACTOR_READ);
		return;
	}
	if (recv(c->source.fd, rest, sizeof(rest), 0) < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	cancel_end(c);
}

static bool
cancel_begin(struct LinkCancel *c)
{
	struct sockaddr_storage to = {0};
	socklen_t	len = sizeof(to);
	int			fd;

	if (!c->link->has_key || getpeername(c->link->source.fd, (struct sockaddr *) &to, &len) != 0)
		return false;
	fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	set_u32(c->packet, CANCEL_PACKET);
	set_u32(c->packet + 4, STARTUP_CANCEL);
	set_u32(c->packet + 8, c->link->origin_pid);
	set_u32(c->packet + 12, c->link->origin_key);
	c->source.fd = fd;
	if ((connect(fd, (struct sockaddr *) &to, len) == 0 || errno == EINPROGRESS) &&
		reactor_add(link_reactor, &c->source, REACTOR_WRITE))
		return true;
	close(fd);
	c->source.fd = -1;
	return false;
}
#endif

void
link_cancel(OriginLink *link)
{
	struct LinkCancel *c;

	if (link->cancel || link->state == LINK_BROKEN || link->state == LINK_CONNECTING)
		return;
	/* what is ours is not to be cancelled: the client's turn comes when it has ended */
	link->cancel_due = link->head && !link_may_cancel(link);
	if (link->cancel_due)
		return;
	c = mem_zalloc(sizeof(struct LinkCancel));
	if (c == NULL)
		return;
	c->link = link;
	c->source.fd = -1;
	c->source.on_ready = cancel_step;
	c->timer.on_time = cancel_timed_out;
	if (!cancel_begin(c))
	{
		c->link = NULL;
		cancel_end(c);
		return;
	}
	link->cancel = c;
	link->stirred = true;
	counter_add(link->target.counters, COUNT_CANCELS, 1);
	reactor_set_timer(link_reactor, &c->timer, reactor_now(link_reactor) + CANCEL_WAIT);
}

void
link_cancel_forget(OriginLink *link)
{
	reactor_clear_timer(link_reactor, &link->cancel_again);
	if (link->cancel)
		link->cancel->link = NULL;
	link->cancel = NULL;
}
