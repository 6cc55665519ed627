/*
 * origin/link_ride.c - a link that carries exchanges of several sessions: how much is on it, does it go on, who is to leave.
 *
 * A SHARED link has no holder. Its exchanges are plain reads, each asked in full at once, so none of them can leave anything behind for the next, and none waits for
 * its client. They are answered in order; whoever stands behind one that does not end is told to go elsewhere (LINK_MOVED): nothing of its answer has come, and
 * a read may be asked twice.
 */
#include "postgres.h"

#include "origin/link_internal.h"

static LinkExchange *
next_of_client(LinkExchange *e)
{
	while (e && (e->purpose != PURPOSE_CLIENT || e->owner == NULL))
		e = e->next;
	return e;
}

/* ---- load ---- */

static int64
head_for(const OriginLink *link)
{
	return link->head ? reactor_now(link_reactor) - link->head_since : 0;
}

ShareLoad
link_load(const OriginLink *link)
{
	return (ShareLoad) {
		.depth = link->depth,
		.work = link->work,
		.rtt = link->way.rtt,
		.head_for = head_for(link)
	};
}

bool
link_is_shut(const OriginLink *link)
{
	return link->state != LINK_SHARED || link->stirred || link->held || link->poisoned || link->worn || link_is_full(link);
}

bool
link_is_held(const OriginLink *link)
{
	return link->held;
}

bool
link_is_empty(const OriginLink *link)
{
	return link->head == NULL;
}

bool
link_is_stirred(const OriginLink *link)
{
	return link->stirred;
}

/* ---- does it go on? ---- */

/*
 * An empty exchange in front of the first one, and of one from time to time, tells how long the way is, before a long answer could be taken for a long way.
 */
void
link_ping(OriginLink *link)
{
	LinkExchange *e;

	if (link->target.pooled || way_is_fresh(&link->way, reactor_now(link_reactor)))
		return;
	e = link_ask_own(link, PURPOSE_PING);
	if (e == NULL || !link_note(e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
	{
		link->poisoned = true;
		return;
	}
	message_put_empty(&link->out, MSG_SYNC);
	link_flush(link);
}

/* The origin came to it when it had ended the one before, or when it arrived. What came alone tells the way, too. */
void
link_exchange_measure(LinkExchange *e)
{
	OriginLink *link = e->link;
	int64		now = reactor_now(link_reactor);
	int64		took = now - e->asked_at;

	if (link->head_since == e->asked_at)
	{
		if (e->purpose == PURPOSE_PING)
			way_measure(&link->way, took, now);
		else
			way_shorten(&link->way, took, now);
	}
	e->service = Max(now - Max(link->head_since, e->asked_at + link->way.rtt), 0);
}

static void
on_patience(ReactorTimer *timer)
{
	OriginLink *link = (OriginLink *) ((char *) timer - offsetof(OriginLink, timer));
	int64		left = sharing_patience(link->way.rtt) - head_for(link);

	if (link->state != LINK_SHARED || link->head == NULL)
		return;
	if (left <= 0)
	{
		left = sharing_patience(link->way.rtt);
		/* what nobody waits for any more shall not keep the others waiting */
		if (link->head->purpose == PURPOSE_CLIENT && link->head->owner == NULL)
			link_cancel(link);
		if (link->head->next)
			link->target.on_stuck(link);
	}
	if (link->state == LINK_SHARED && link->head)
		reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + left);
}

/* The timer is left alone while the heads come and go: when it rings it looks how old the one of then is. */
static void
watch_head(OriginLink *link)
{
	if (link->state != LINK_SHARED || link->timer.due != 0)
		return;
	link->timer.on_time = on_patience;
	reactor_set_timer(link_reactor, &link->timer, reactor_now(link_reactor) + sharing_patience(link->way.rtt));
}

void
link_head_began(OriginLink *link, int64 since)
{
	link->head_since = since;
	if (link->head)
		watch_head(link);
}

/* ---- who is on it ---- */

void
link_ride(LinkExchange *e, uint32 work)
{
	OriginLink *link = e->link;

	e->work = work;
	link->work += work;
	link->ride++;
	link_statements_settle(link->statements);
}

LinkExchange *
link_oldest_of(const OriginLink *link, const void *owner)
{
	LinkExchange *e = link->head;

	while (e && e->owner != owner)
		e = e->next;
	return e;
}

/* Exchanges of the link's own before it do not count: they are short. */
bool
link_is_head(const LinkExchange *e)
{
	const LinkExchange *head = e->link->head;

	while (head && head->purpose != PURPOSE_CLIENT)
		head = head->next;
	return head == e;
}

bool
link_is_last(const OriginLink *link, const void *owner)
{
	for (const LinkExchange *e = link_oldest_of(link, owner); e; e = e->next)
	{
		if (e->owner && e->owner != owner)
			return false;
	}
	return true;
}

void
link_disown_all(OriginLink *link, const void *owner)
{
	for (LinkExchange *e = link->head; e; e = e->next)
	{
		if (e->owner == owner)
			link_disown(e);
	}
}

const void *
link_owner_of_head(const OriginLink *link)
{
	return link->head ? link->head->owner : NULL;
}

void
link_move_others(OriginLink *link, const void *stays)
{
	LinkNews	news = {.kind = LINK_MOVED};

	for (LinkExchange *e = next_of_client(link->head); e; e = next_of_client(e->next))
	{
		if (e->owner != stays)
			link_tell_owner(e, &news);
		/* what one is told may lead to anything, but exchanges end only when this link is read or breaks */
		if (link->state != LINK_SHARED)
			return;
	}
}

/* ---- statements that others have sent to be parsed ---- */

void
link_ride_note_parse(OriginLink *link, uint32 number)
{
	if (number != 0)
	{
		link_statements_asked(link->statements, number);
		return;
	}
	link->unnamed_asked++;
	link->unnamed_ride = link->ride;
}

void
link_ride_parsed(OriginLink *link, uint32 number, bool well)
{
	if (number != 0)
	{
		link_statements_answered(link->statements, number, well);
		return;
	}
	link->unnamed_asked--;
	if (!well)
		link_set_unnamed(link, NULL);
}
