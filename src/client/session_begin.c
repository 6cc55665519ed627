/*
 * client/session_begin.c - BEGIN, answered before the origin has seen it.
 *
 * A BEGIN alone does nothing, so it need not cost a trip, nor hold a link while its client thinks. A session without a link answers it and keeps its text, which goes out in
 * front of whatever needs a link next, in the same write (link_begin). Until then the session is IDLE, but its client is in a transaction, and every
 * ReadyForQuery says so (session_status). An error that it is told meanwhile has failed that transaction.
 *
 * Owns s->begin. Never: answers a BEGIN that the origin might refuse or say more to; keeps one that has more behind it, since that needs a link at once.
 */
#include "postgres.h"

#include "client/session_internal.h"

#define BEGIN_TEXT_MAX	1024	/* comments and all */

/* ---- may it? ---- */

static bool
origin_is_primary(const ClientSession *s)
{
	const char *value = pool_link_parameter(s->pool, "in_hot_standby");

	return value && strcmp(value, "off") == 0;
}

/*
 * Who has set what messages it wants may be told something about a BEGIN too. What stands behind a pooler is not known, nor whether that keeps together what is sent
 * without a Sync.
 */
bool
session_begin_may(const ClientSession *s, uint8 traits)
{
	return (traits & BEGIN_ALONE) && s->begin == NULL && pool_mode(s->pool) == POOL_TRANSACTION && !pool_origin_is_pooled(s->pool) &&
		settings_get(s->settings, "client_min_messages") == NULL && (!(traits & BEGIN_NOT_ON_STANDBY) || origin_is_primary(s));
}

/* ---- answered ---- */

static void
put_answer(ClientSession *s, const BeginRequest *request)
{
	const char *tag = request->traits & BEGIN_BY_START ? "START TRANSACTION" : "BEGIN";

	if (request->describe_statement)
	{
		message_put(&s->out, ANS_PARAMETER_DESCRIPTION, bytes_of("\0\0", 2));
		message_put_empty(&s->out, ANS_NO_DATA);
	}
	if (request->extended)
		message_put_empty(&s->out, ANS_BIND_COMPLETE);
	if (request->describe_portal)
		message_put_empty(&s->out, ANS_NO_DATA);
	message_put(&s->out, ANS_COMMAND_COMPLETE, bytes_of(tag, strlen(tag) + 1));
}

static void
count(ClientSession *s, const BeginRequest *request)
{
	counter_add(s->counters, COUNT_EXCHANGES, 1);
	if (s->row)
		s->row->exchanges++;
	session_cache_count(s, store_enabled() ? REASON_NOT_A_READ : REASON_NO_MEMORY, request->stats_row, 0);
}

bool
session_begin_run(ClientSession *s, const BeginRequest *request)
{
	if (request->text.len > BEGIN_TEXT_MAX || (s->begin = bytes_copy(request->text)) == NULL)
		return false;
	s->begin_portal = request->extended;
	put_answer(s, request);
	count(s, request);
	s->heard_at = reactor_now(session_reactor);
	session_set_timer(s, pool_idle_transaction_timeout(s->pool));
	session_set_state(s, SESSION_IDLE);
	return true;
}

/* ---- until it is sent ---- */

/* What touches nothing. A Parse does: a snapshot may be taken for it, and with that the transaction has its place in time. */
bool
session_begin_admits(ClientSession *s, uint8 type)
{
	if (s->begin == NULL)
		return true;
	s->heard_at = reactor_now(session_reactor);
	return type == MSG_QUERY || type == MSG_CLOSE || type == MSG_FLUSH || type == MSG_SYNC;
}

bool
session_begin_send(ClientSession *s)
{
	bool		sent;

	if (s->begin == NULL)
		return true;
	sent = link_begin(s->link, bytes_str(s->begin), s->begin_portal);
	session_begin_forget(s);
	s->effects |= EFFECT_BEGIN;
	return sent;
}

/* It will not be sent any more: to its client the transaction has failed. */
void
session_begin_fail(ClientSession *s)
{
	if (s->begin == NULL)
		return;
	session_begin_forget(s);
	s->failed_transaction = true;
	session_set_timer(s, 0);
	session_set_state(s, s->state);
}

void
session_begin_forget(ClientSession *s)
{
	mem_free_str(s->begin);
	s->begin = NULL;
}
