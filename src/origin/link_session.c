/*
 * origin/link_session.c - the session at the origin: settings, parameters, statements, transaction, reset.
 *
 * Settings are applied by pg_catalog.set_config with bound parameters: no quoting rule, no list syntax, nothing a client's value
 * could break out of. What a fresh link is in (its startup constants) is what RESET ALL returns to.
 */
#include "postgres.h"

#include "origin/link_internal.h"

/*
 * RESET SESSION AUTHORIZATION first: it brings back the right to do the rest, and resets the role too. What no reset undoes
 * (LOAD, custom settings, sequences' currval in functions) retires the link instead: see effects_link_after.
 */
static const char reset_query[] =
"RESET SESSION AUTHORIZATION; RESET ALL; CLOSE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); "
"DISCARD SEQUENCES; DISCARD TEMP";

static const char settings_reset_query[] = "RESET SESSION AUTHORIZATION; RESET ALL";

static const char set_query[] = "SELECT pg_catalog.set_config($1, $2, false)";

/* ---- parameters ---- */

static LinkParameter *
find_parameter(const OriginLink *link, Bytes name)
{
	for (uint32 i = 0; i < link->nparameters; i++)
		if (bytes_equal_str(name, link->parameters[i].name))
			return (LinkParameter *) &link->parameters[i];
	return NULL;
}

void
link_note_parameter(OriginLink *link, Bytes name, Bytes value)
{
	LinkParameter *p = find_parameter(link, name);
	char	   *copy = bytes_copy(value);

	if (copy == NULL)
		return;
	if (p == NULL)
	{
		char	   *name_copy;

		if (link->nparameters >= LINK_MAX_PARAMETERS || (name_copy = bytes_copy(name)) == NULL)
		{
			mem_free_str(copy);
			return;
		}
		p = &link->parameters[link->nparameters++];
		p->name = name_copy;
		p->value = NULL;
		p->told = NULL;
	}
	if (link->parameters_held && p->told == NULL)
		p->told = p->value ? p->value : bytes_copy(bytes_of("", 0));
	else
		mem_free_str(p->value);
	p->value = copy;
}

void
link_release_parameters(OriginLink *link)
{
	for (uint32 i = 0; link->parameters_held && i < link->nparameters; i++)
	{
		mem_free_str(link->parameters[i].told);
		link->parameters[i].told = NULL;
	}
	link->parameters_held = false;
}

void
link_tell_parameters(OriginLink *link, ByteBuffer *out)
{
	for (uint32 i = 0; i < link->nparameters; i++)
	{
		LinkParameter *p = &link->parameters[i];

		if (p->told && strcmp(p->told, p->value) != 0)
			message_put_parameter_status(out, bytes_str(p->name), bytes_str(p->value));
	}
	link_release_parameters(link);
}

const char *
link_parameter(const OriginLink *link, const char *name)
{
	LinkParameter *p = find_parameter(link, bytes_str(name));

	return p ? p->value : NULL;
}

void
link_put_parameters(const OriginLink *link, ByteBuffer *out)
{
	for (uint32 i = 0; i < link->nparameters; i++)
		message_put_parameter_status(out, bytes_str(link->parameters[i].name), bytes_str(link->parameters[i].value));
}

/* ---- statements ---- */

LinkStatements *
link_statements(OriginLink *link)
{
	return link->statements;
}

Statement *
link_unnamed(const OriginLink *link)
{
	return link->unnamed_asked > 0 && link->unnamed_ride != link->ride ? NULL : link->unnamed;
}

bool
link_has_no_unnamed(const OriginLink *link)
{
	return link->unnamed_none;
}

void
link_unnamed_closed(OriginLink *link)
{
	link_set_unnamed(link, NULL);
	link->unnamed_none = true;
}

void
link_set_unnamed(OriginLink *link, Statement *s)
{
	link->unnamed_none = false;
	if (s == link->unnamed)
		return;
	if (s)
		statement_ref(s);
	if (link->unnamed)
		statement_unref(link->target.statements, link->unnamed);
	link->unnamed = s;
}

void
link_read_otherwise(OriginLink *link)
{
	link_statements_stray(link->statements);
}

void
link_part(OriginLink *link)
{
	if (link->statements && link_statements_part(link->statements))
		link_set_unnamed(link, NULL);
}

/* ---- settings ---- */

const SettingsVector *
link_settings(const OriginLink *link)
{
	return link->settings;
}

bool
link_applying(const OriginLink *link)
{
	return link->applying > 0;
}

static void
now_in(OriginLink *link, const SettingsVector *vector)
{
	settings_ref(vector);
	settings_unref(link->target.settings, link->settings);
	link->settings = vector;
}

void
link_settings_are(OriginLink *link, const SettingsVector *vector)
{
	now_in(link, vector);
}

void
link_discarded(OriginLink *link, bool settings_too)
{
	link_statements_clear(link->statements);
	if (settings_too)
	{
		link_set_unnamed(link, NULL);
		now_in(link, link->target.empty);
	}
}

static bool
ask_own_query(OriginLink *link, LinkPurpose purpose, const char *text)
{
	LinkExchange *e = link_ask_own(link, purpose);

	if (e == NULL || !link_note(e, ASK_QUERY, ASK_FOR_US, 0, 0, NULL))
		return false;
	message_put_query(&link->out, bytes_str(text));
	link_set_unnamed(link, NULL);
	link_flush(link);
	return true;
}

typedef struct Applying
{
	OriginLink *link;
	LinkExchange *e;
	bool		identity;		/* now: role and session_authorization; otherwise all the others */
	uint32		count;
	bool		failed;
} Applying;

/* Who one is changes what one may set, so it comes last. */
static bool
is_identity(const char *name)
{
	return strcmp(name, "role") == 0 || strcmp(name, "session_authorization") == 0;
}

static void
apply_one(void *arg, const char *name, const char *value)
{
	Applying   *a = arg;
	ByteBuffer *out = &a->link->out;
	Bytes		parameters[2] = {bytes_str(name), bytes_str(value)};
	Bytes		none = bytes_of("", 0);

	if (is_identity(name) != a->identity)
		return;
	if (a->count++ == 0)
	{
		message_put_parse(out, none, bytes_str(set_query), none);
		a->failed |= !link_note(a->e, ASK_PARSE, ASK_FOR_US, 0, 0, NULL);
	}
	message_put_bind_text(out, none, none, parameters, 2);
	a->failed |= !link_note(a->e, ASK_BIND, ASK_FOR_US, 0, 0, NULL);
	message_put_execute(out, none, 0);
	a->failed |= !link_note(a->e, ASK_EXECUTE, ASK_FOR_US, 0, 0, NULL);
}

bool
link_apply_settings(OriginLink *link, const SettingsVector *vector)
{
	const SettingsVector *from = link->settings;
	Applying	a = {.link = link};

	if (from == vector)
		return true;
	if (settings_need_reset(from, vector))
	{
		if (!ask_own_query(link, PURPOSE_SETTINGS, settings_reset_query))
			return false;
		link->applying++;
		from = NULL;
	}
	if (vector->count == 0)
	{
		now_in(link, vector);
		return true;
	}
	a.e = link_ask_own(link, PURPOSE_SETTINGS);
	if (a.e == NULL)
		return false;
	a.e->vector = vector;
	settings_ref(vector);
	link->applying++;
	settings_difference(from, vector, apply_one, &a);
	a.identity = true;
	settings_difference(from, vector, apply_one, &a);
	now_in(link, vector);		/* which may be the end of `from` */
	message_put_named(&link->out, MSG_CLOSE, 'S', bytes_of("", 0));
	message_put_empty(&link->out, MSG_SYNC);
	a.failed |= !link_note(a.e, ASK_CLOSE, ASK_FOR_US, 0, 0, NULL) || !link_note(a.e, ASK_SYNC, ASK_FOR_US, 0, 0, NULL);
	link_unnamed_closed(link);
	link_flush(link);
	counter_add(link->target.counters, COUNT_SETTINGS_APPLIED, 1);
	return !a.failed;
}

/* ---- transaction ---- */

bool
link_begin(OriginLink *link, Bytes text, bool keep_portal)
{
	LinkExchange *e = link_ask_own(link, PURPOSE_BEGIN);
	ByteBuffer *out = &link->out;
	Bytes		none = bytes_of("", 0);

	if (e == NULL || !link_note(e, ASK_PARSE, ASK_FOR_US, 0, 0, NULL) || !link_note(e, ASK_BIND, ASK_FOR_US, 0, 0, NULL) ||
		!link_note(e, ASK_EXECUTE, ASK_FOR_US, 0, 0, NULL) || (!keep_portal && !link_note(e, ASK_CLOSE, ASK_FOR_US, 0, 0, NULL)))
		return false;
	message_put_parse(out, none, text, none);
	message_put_bind_text(out, none, none, NULL, 0);
	message_put_execute(out, none, 0);
	if (!keep_portal)
		message_put_named(out, MSG_CLOSE, 'P', none);
	link_set_unnamed(link, NULL);
	link->beginning = true;
	link->status = TX_OPEN;
	link_flush(link);
	return true;
}

bool
link_beginning(const OriginLink *link)
{
	return link->beginning;
}

/* ---- reset ---- */

bool
link_ask_reset(OriginLink *link)
{
	link->reset_due = false;
	counter_add(link->target.counters, COUNT_RESETS, 1);
	now_in(link, link->target.empty);
	return ask_own_query(link, PURPOSE_RESET, reset_query);
}

bool
link_ask_rollback(OriginLink *link)
{
	return ask_own_query(link, PURPOSE_ROLLBACK, "ROLLBACK");
}

bool
link_fail_transaction(OriginLink *link, bool begin)
{
	return ask_own_query(link, PURPOSE_FAIL, begin ? "BEGIN; SELECT 1 OPERATOR(pg_catalog./) 0" : "SELECT 1 OPERATOR(pg_catalog./) 0");
}

void
link_own_ended(OriginLink *link, LinkPurpose purpose, bool failed)
{
	if (purpose == PURPOSE_SETTINGS)
	{
		link->applying--;
		if (failed)
		{
			/* What was to run under these settings must not run, or must not be believed. */
			link_break(link, link->sqlstate[0] ? link->sqlstate : "22023", "the origin refused a setting");
			return;
		}
	}
	else if (purpose == PURPOSE_BEGIN)
	{
		link->beginning = false;
		if (failed)
		{
			link->unheeded = true;
			link_break(link, link->sqlstate[0] ? link->sqlstate : "25000", "the origin refused to begin a transaction");
			return;
		}
	}
	else if (failed && purpose != PURPOSE_FAIL)
		link->poisoned = true;
	if (link->head)
		link_make_answers(link->head);
}

void
link_free_session(OriginLink *link)
{
	for (uint32 i = 0; i < link->nparameters; i++)
	{
		mem_free_str(link->parameters[i].name);
		mem_free_str(link->parameters[i].value);
		mem_free_str(link->parameters[i].told);
	}
	link_set_unnamed(link, NULL);
	if (link->statements)
		link_statements_destroy(link->statements);
	settings_unref(link->target.settings, link->settings);
}
