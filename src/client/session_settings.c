/*
 * client/session_settings.c - what SET has left behind.
 *
 * A client's SET lives on although its next query may run on another link: after an exchange that may have changed settings, and before
 * anything else runs, the origin itself is asked what is set in this session now. That is its settings vector from then on. No
 * SET is imitated, so transactions, savepoints, functions and RESET need no rules here.
 */
#include "postgres.h"

#include "client/session_internal.h"

/*
 * role and session_authorization are not in pg_settings. Custom settings (a.b) are not either; the analysis binds the link for them. What SET TRANSACTION
 * sets is there, and may look as if it were the session's, but no transaction begins with it.
 * No name in it, of an operator or a type neither, is looked up by the search_path, which is the client's.
 */
static const char query[] =
"SELECT name, setting FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session' "
"AND NOT name OPERATOR(pg_catalog.=) ANY (ARRAY['transaction_isolation', 'transaction_read_only', 'transaction_deferrable']) "
"UNION ALL SELECT 'session_authorization', session_user::pg_catalog.text WHERE session_user::pg_catalog.text OPERATOR(pg_catalog.<>) $1 "
"UNION ALL SELECT 'role', pg_catalog.current_setting('role') WHERE pg_catalog.current_setting('role') OPERATOR(pg_catalog.<>) 'none'";

typedef struct SessionSettings
{
	SettingsDraft draft;
	FrameReader reader;
	ByteBuffer	partial;
	bool		failed;
} SessionSettings;

static void
read_row(SessionSettings *reading, Bytes body)
{
	ByteReader	r = reader_of(body);
	Bytes		column[2];

	if (read_u16(&r) != 2)
		r.bad = true;
	for (int i = 0; i < 2; i++)
	{
		uint32		len = read_u32(&r);

		column[i] = read_bytes(&r, len == 0xffffffff ? 0 : len);
	}
	if (r.bad)
		reading->failed = true;
	else
		settings_draft_put(&reading->draft, column[0], column[1]);
}

static void
read_answer(SessionSettings *reading, Bytes bytes)
{
	Frame		frame;
	size_t		used = 0;
	Bytes		all;

	/* what is not understood is not kept: it may have no end */
	if (reading->failed)
		return;
	buffer_put(&reading->partial, bytes.data, bytes.len);
	all = buffer_view(&reading->partial);
	for (;;)
	{
		FrameVerdict verdict = frame_next(&reading->reader, bytes_of(all.data + used, all.len - used), 65536, &frame);

		if (verdict != FRAME_WHOLE)
		{
			reading->failed |= verdict != FRAME_MORE;
			break;
		}
		used += frame.raw.len;
		if (frame.type == ANS_DATA_ROW)
			read_row(reading, frame.body);
	}
	buffer_consume(&reading->partial, used);
	reading->failed |= reading->partial.failed;
	if (reading->failed)
		buffer_free(&reading->partial);
}

void
session_settings_forget(ClientSession *s)
{
	SessionSettings *reading = s->reading;

	if (reading == NULL)
		return;
	settings_draft_free(&reading->draft);
	buffer_free(&reading->partial);
	mem_free(reading, sizeof(SessionSettings));
	s->reading = NULL;
}

/*
 * What the client gave at startup is to the origin a SET like any other, so RESET has undone it there. To the client it is what RESET
 * returns to: whatever of it is not set now is wanted again.
 */
static const SettingsVector *
with_startup(const SettingsVector *there, const SettingsVector *startup)
{
	SettingsDraft draft = {0};

	settings_draft_put_vector(&draft, startup);
	settings_draft_put_vector(&draft, there);
	return settings_intern(pools_settings(), &draft);
}

/* The answer is complete: this is what the session has set. */
static void
settings_known(ClientSession *s, bool failed)
{
	SessionSettings *reading = s->reading;
	const SettingsVector *there = NULL;
	const SettingsVector *wanted = NULL;

	if (!failed && !reading->failed)
		there = settings_intern(pools_settings(), &reading->draft);
	session_settings_forget(s);
	if (there)
		wanted = with_startup(there, s->startup_settings);
	if (wanted == NULL)
	{
		/* not known, or too many vectors: then only this link has them */
		if (there)
			settings_unref(pools_settings(), there);
		s->effects |= EFFECT_BIND;
		return;
	}
	settings_unref(pools_settings(), s->settings);
	s->settings = wanted;
	link_settings_are(s->link, there);
	settings_unref(pools_settings(), there);
}

static void
on_news(LinkExchange *e, const LinkNews *news)
{
	ClientSession *s = e->owner;

	switch (news->kind)
	{
		case LINK_BYTES:
			read_answer(s->reading, news->bytes);
			break;
		case LINK_END:
			s->inflight--;
			settings_known(s, e->failed);
			s->effects &= ~EFFECT_SETTINGS;
			session_quiet(s);
			session_resume(s);
			break;
		case LINK_LOST:
			s->inflight--;
			break;
		case LINK_ERROR:
		case LINK_ASK:
		case LINK_TAG:
		case LINK_PARAMETER:
		case LINK_SWALLOWED:
		case LINK_WAITS:
		case LINK_MOVED:
			break;
	}
}

/* ---- what RESET returns to ---- */

/*
 * RESET has undone at the origin what the client gave at login, and the origin reports what is set instead. That is not so for the client, nor does it last: it is told
 * what has changed, and ReadyForQuery, when its settings are back on the link.
 */
void
session_settings_will_return(ClientSession *s)
{
	s->tail->ready_held = s->startup_settings->count > 0 && !pool_origin_is_pooled(s->pool);
}

void
session_tell_ready(ClientSession *s, uint8 status)
{
	s->ready_due = false;
	if (s->link)
	{
		link_tell_parameters(s->link, &s->out);
		session_note_parameters(s);
	}
	message_put_ready(&s->out, status);
	session_flush(s);
}

/* Within a transaction it is as the origin says. */
void
session_settings_ended(ClientSession *s, const LinkExchange *e)
{
	if (e->x.status == TX_IDLE && s->inflight == 0)
		s->ready_due = true;
	else
		session_tell_ready(s, e->x.status);
}

static void
on_returned(LinkExchange *e, const LinkNews *news)
{
	ClientSession *s = e->owner;

	if (news->kind == LINK_LOST)
		s->inflight--;
	if (news->kind != LINK_END)
		return;
	s->inflight--;
	s->holding_messages = false;
	session_quiet(s);
	session_resume(s);
}

bool
session_settings_return(ClientSession *s)
{
	LinkExchange *e;

	if (link_settings(s->link) == s->settings)
	{
		session_tell_ready(s, TX_IDLE);
		return false;
	}
	if (!link_apply_settings(s->link, s->settings) || (e = link_ask(s->link, s, on_returned)) == NULL || !link_note(e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL))
	{
		link_break_now(s->link);
		return true;
	}
	message_put_empty(link_outbound(s->link), MSG_SYNC);
	link_flush(s->link);
	s->inflight++;
	s->holding_messages = true;
	return true;
}

/* ---- asked ---- */

static bool
ask_settings(LinkExchange *e, OriginLink *link)
{
	ByteBuffer *out = link_outbound(link);
	Bytes		none = bytes_of("", 0);
	Bytes		parameters[1];

	parameters[0] = bytes_str(link_login_user(link));
	message_put_parse(out, none, bytes_str(query), none);
	message_put_bind_text(out, none, none, parameters, 1);
	message_put_execute(out, none, 0);
	message_put_named(out, MSG_CLOSE, 'S', none);	/* or the client would find it, if the link stays with it */
	message_put_empty(out, MSG_SYNC);
	link_unnamed_closed(link);
	link_flush(link);
	return link_note(e, ASK_PARSE, ASK_FOR_US, 0, 0, NULL) && link_note(e, ASK_BIND, ASK_FOR_US, 0, 0, NULL) &&
		link_note(e, ASK_EXECUTE, ASK_FOR_CLIENT, 0, 0, NULL) && link_note(e, ASK_CLOSE, ASK_FOR_US, 0, 0, NULL) &&
		link_note(e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL);
}

bool
session_settings_read(ClientSession *s)
{
	LinkExchange *e;

	s->reading = mem_zalloc(sizeof(SessionSettings));
	if (s->reading == NULL)
	{
		/* the link that has them stays its own */
		s->effects |= EFFECT_BIND;
		return false;
	}
	s->reading->reader.side = FRAME_FROM_ORIGIN;
	e = link_ask(s->link, s, on_news);
	if (e == NULL || !ask_settings(e, s->link))
	{
		session_settings_forget(s);
		link_break_now(s->link);
		return true;
	}
	s->inflight++;
	return true;
}
