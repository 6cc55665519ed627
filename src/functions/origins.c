/*
 * functions/origins.c - the SQL functions that make, change and check origins.    floor 8
 *
 * Answers: what happens when somebody calls one of them? An origin is a foreign server of the wrapper "hyperpool", a credential a
 * user mapping; these functions are the front door to CREATE SERVER and its kin. They run as their caller, whose rights
 * PostgreSQL's own commands check. origins_options.c knows the options, origins_catalog.c writes servers and mappings, origins_rules.c the rules of the cache.
 *
 * create_origin, alter_origin and set_credential first write the catalogs and then really connect with what stands there now: an error
 * undoes the transaction, so nothing is left behind, and rights are checked before anybody may probe a network.
 * Every error raised here or below hides the statement it happened in.
 *
 * Owns: the mark that this transaction changes origins (the manager is woken at its commit). Never: keeps a connection.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "functions/origins_internal.h"
#include "host/cancel.h"
#include "host/directory.h"
#include "host/options.h"
#include "host/text.h"
#include "origin/probe.h"

#define PUBLICATION_MS	2000	/* how long a commit waits until the workers have been told */

extern PGDLLEXPORT Datum hyperpool_create_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_alter_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_drop_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_set_credential(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_drop_credential(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_check_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_pause_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_resume_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_restart_origin(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_is_paused(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_create_origin);
PG_FUNCTION_INFO_V1(hyperpool_alter_origin);
PG_FUNCTION_INFO_V1(hyperpool_drop_origin);
PG_FUNCTION_INFO_V1(hyperpool_set_credential);
PG_FUNCTION_INFO_V1(hyperpool_drop_credential);
PG_FUNCTION_INFO_V1(hyperpool_check_origin);
PG_FUNCTION_INFO_V1(hyperpool_pause_origin);
PG_FUNCTION_INFO_V1(hyperpool_resume_origin);
PG_FUNCTION_INFO_V1(hyperpool_restart_origin);
PG_FUNCTION_INFO_V1(hyperpool_is_paused);

/* ---- errors hide the statement, which may hold a password ---- */

static void
hide_statement(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

void
origins_begin_hiding(ErrorContextCallback *callback)
{
	callback->callback = hide_statement;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
origins_end_hiding(ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}

/* ---- the manager is told at commit ---- */

static bool origins_changed = false;
static bool callback_registered = false;

/*
 * At commit the change is visible but its invalidation is not sent yet; the manager reads by a fresh snapshot. The commit waits a
 * moment for the publication, so that whoever connects next finds the origin; without a manager it does not wait.
 */
static void
on_transaction_end(XactEvent event, void *arg)
{
	bool		tell = origins_changed && event == XACT_EVENT_COMMIT;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	origins_changed = false;
	if (tell && directory_has_manager())
	{
		uint64		ticket = directory_ask_publication();

		cancel_wake_manager();
		if (!directory_wait_published(ticket, PUBLICATION_MS))
			ereport(WARNING, (errcode(ERRCODE_WARNING), errmsg("the change of origins is stored, but not yet in service"),
							  errhint("The server's log says what the manager of hyperpool waits for."),
							  errhidestmt(true), errhidecontext(true)));
	}
}

void
origins_note_change(void)
{
	if (!callback_registered)
	{
		RegisterXactCallback(on_transaction_end, NULL);
		callback_registered = true;
	}
	origins_changed = true;
}

/* What the commands would have checked had they been SQL. */
void
origins_require_writable(void)
{
	PreventCommandIfReadOnly("changing an origin of hyperpool");
	PreventCommandDuringRecovery("changing an origin of hyperpool");
}

/* ---- arguments ---- */

static void
require_arguments(FunctionCallInfo fcinfo, int n)
{
	int			i;

	for (i = 0; i < n; i++)
	{
		if (PG_ARGISNULL(i))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d must not be null", i + 1)));
	}
}

static char *
text_arg(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* ---- really connecting ---- */

static int64
connect_timeout_of(List *options)
{
	DirectoryOrigin origin;
	const char *given = origins_option_value(options, "connect_timeout");

	memset(&origin, 0, sizeof(origin));
	options_set_initial(&origin);
	if (given != NULL)
		option_set(&origin, option_of("connect_timeout"), given);
	return origin.connect_timeout;
}

static void
set_target_options(ProbeTarget *target, List *options)
{
	ListCell   *cell;

	target->names = palloc0(sizeof(char *) * (list_length(options) + 1));
	target->values = palloc0(sizeof(char *) * (list_length(options) + 1));
	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (option_of(option->defname) != NULL)
			continue;
		target->names[target->noptions] = option->defname;
		target->values[target->noptions] = defGetString(option);
		target->noptions++;
	}
}

static void
set_target(ProbeTarget *target, const ForeignServer *server, List *mapping)
{
	const char *required = origins_option_value(mapping, "password_required");

	memset(target, 0, sizeof(*target));
	target->origin = server->servername;
	set_target_options(target, server->options);
	target->user = origins_option_value(mapping, "user");
	target->password = origins_option_value(mapping, "password");
	target->sslpassword = origins_option_value(mapping, "sslpassword");
	target->require_password = true;
	if (required != NULL)
		(void) parse_bool(required, &target->require_password);
	/* as the manager publishes it */
	if (!superuser_arg(server->owner))
		target->require_password = true;
	target->timeout = connect_timeout_of(server->options);
}

static void
raise_failure(const ProbeResult *result)
{
	ereport(ERROR, (errcode(result->sqlstate), errmsg("%s", text_clean(result->message)),
					result->detail != NULL ? errdetail_internal("%s", text_clean(result->detail)) : 0,
					result->hint != NULL ? errhint("%s", result->hint) : 0,
					errhidestmt(true), errhidecontext(true)));
}

/* True: the option was another. */
static bool
keep_found(const ForeignServer *server, const char *option, bool found)
{
	const char *before = origins_option_value(server->options, option);
	bool		was = false;

	if (before != NULL)
		(void) parse_bool(before, &was);
	if (found == was)
		return false;
	origins_alter_server(server->servername, origins_change_option(NIL, server->options, option, found ? "true" : NULL));
	return true;
}

/* Keeps what the connection has told: whether the origin is itself behind a pooler, or a hyperpool. */
static void
keep_kind(const ForeignServer *server, const ProbeResult *result)
{
	if (keep_found(server, "pooled", result->pooled) && result->pooled)
		ereport(NOTICE, (errmsg("origin \"%s\" is behind a connection pooler", server->servername),
						 errdetail("hyperpool keeps no prepared statements and no session state on its links."),
						 errhint("Connecting to PostgreSQL itself is faster.")));
	(void) keep_found(server, "gateway", result->gateway);
}

/* Connects with what stands in the catalogs now; raises why it could not. */
static void
connect_origin(const char *name, List *mapping, bool write)
{
	ForeignServer *server = origins_find(name);
	ProbeTarget target;
	ProbeResult result;

	set_target(&target, server, mapping);
	if (target.user == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" has no credential to connect with", name),
						errhint("Give one by hyperpool.set_credential.")));
	if (!probe_origin(&target, &result))
		raise_failure(&result);
	if (write)
		keep_kind(server, &result);
}

/* ---- create, alter, drop ---- */

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("the name of an origin has 1 to %d bytes", NAMEDATALEN - 1)));
}

Datum
hyperpool_create_origin(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hiding;
	ConnectionString string;
	Secrets		secrets = {0};
	char	   *name;
	char	   *role;
	bool		there;

	origins_begin_hiding(&hiding);
	origins_require_writable();
	require_arguments(fcinfo, FIRST_OPTION_ARG);
	name = text_arg(fcinfo, 0);
	role = text_arg(fcinfo, 2);
	check_name(name);
	origins_require_room();
	origins_parse_connection(name, text_arg(fcinfo, 1), &string);
	origins_create_server(name, origins_option_changes(fcinfo, origins_connection_changes(&string, NIL), NIL));
	secrets.user = string.user;
	secrets.password = string.password;
	secrets.sslpassword = string.sslpassword;
	origins_write_mapping(origins_find(name), role, &secrets);
	connect_origin(name, origins_mapping_options(origins_role_oid(role), origins_find(name)->serverid, &there), true);
	origins_note_change();
	origins_end_hiding(&hiding);
	PG_RETURN_VOID();
}

static bool
has_secrets(const ConnectionString *string)
{
	return string->user != NULL || string->password != NULL || string->sslpassword != NULL;
}

Datum
hyperpool_alter_origin(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hiding;
	ConnectionString string = {0};
	ForeignServer *server;
	char	   *role;

	origins_begin_hiding(&hiding);
	origins_require_writable();
	require_arguments(fcinfo, 1);
	server = origins_find(text_arg(fcinfo, 0));
	origins_require_owner(server);
	role = PG_ARGISNULL(2) ? pstrdup("public") : text_arg(fcinfo, 2);
	if (!PG_ARGISNULL(1))
		origins_parse_connection(server->servername, text_arg(fcinfo, 1), &string);
	origins_alter_server(server->servername, origins_option_changes(fcinfo, origins_connection_changes(&string, server->options), server->options));
	if (has_secrets(&string))
	{
		Secrets		secrets = {string.user, string.password, string.sslpassword, false};

		origins_write_mapping(server, role, &secrets);
	}
	if (!PG_ARGISNULL(1))
		connect_origin(server->servername, origins_any_mapping(origins_role_oid(role), server->serverid), true);
	origins_note_change();
	origins_end_hiding(&hiding);
	PG_RETURN_VOID();
}

/* Credentials go with their origin; a foreign table that somebody has made on it stands in the way. */
Datum
hyperpool_drop_origin(PG_FUNCTION_ARGS)
{
	ForeignServer *server;
	DropStmt   *stmt = makeNode(DropStmt);

	origins_require_writable();
	require_arguments(fcinfo, 1);
	server = origins_find(text_arg(fcinfo, 0));
	origins_require_owner(server);
	origins_drop_mappings(server->serverid);
	stmt->removeType = OBJECT_FOREIGN_SERVER;
	stmt->objects = list_make1(makeString(pstrdup(server->servername)));
	stmt->behavior = DROP_RESTRICT;
	RemoveObjects(stmt);
	CommandCounterIncrement();
	origins_note_change();
	PG_RETURN_VOID();
}

/* ---- credentials ---- */

Datum
hyperpool_set_credential(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hiding;
	ForeignServer *server;
	Secrets		secrets = {.whole = true};
	char	   *role;
	bool		there;

	origins_begin_hiding(&hiding);
	origins_require_writable();
	require_arguments(fcinfo, 3);
	server = origins_find(text_arg(fcinfo, 0));
	role = text_arg(fcinfo, 1);
	secrets.user = text_arg(fcinfo, 2);
	secrets.password = text_arg(fcinfo, 3);
	origins_write_mapping(server, role, &secrets);
	connect_origin(server->servername, origins_mapping_options(origins_role_oid(role), server->serverid, &there), false);
	origins_note_change();
	origins_end_hiding(&hiding);
	PG_RETURN_VOID();
}

Datum
hyperpool_drop_credential(PG_FUNCTION_ARGS)
{
	DropUserMappingStmt *stmt = makeNode(DropUserMappingStmt);
	ForeignServer *server;
	char	   *role;
	bool		there;

	origins_require_writable();
	require_arguments(fcinfo, 2);
	server = origins_find(text_arg(fcinfo, 0));
	role = text_arg(fcinfo, 1);
	(void) origins_mapping_options(origins_role_oid(role), server->serverid, &there);
	if (!there)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" has no credential for role \"%s\"", server->servername, role)));
	stmt->user = origins_role_spec(role);
	stmt->servername = pstrdup(server->servername);
	(void) RemoveUserMapping(stmt);
	CommandCounterIncrement();
	origins_note_change();
	PG_RETURN_VOID();
}

/* ---- check_origin ---- */

static void
put_step(ReturnSetInfo *rsinfo, const ProbeResult *result, ProbeStep step)
{
	bool		failed = result->failed == (int) step;
	const char *note = failed ? result->message : result->notes[step];
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	if (failed && result->detail != NULL)
		note = psprintf("%s: %s", result->message, result->detail);
	values[0] = CStringGetTextDatum(probe_step_name(step));
	values[1] = Float8GetDatum(result->milliseconds[step]);
	values[2] = BoolGetDatum(!failed);
	nulls[3] = note == NULL;
	values[3] = note != NULL ? CStringGetTextDatum(text_clean(note)) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The owner may try any credential, others their own, else everybody's. */
static List *
usable_mapping(const ForeignServer *server)
{
	bool		there;
	List	   *options;

	if (origins_is_owner(server))
		return origins_any_mapping(GetUserId(), server->serverid);
	options = origins_mapping_options(GetUserId(), server->serverid, &there);
	return there ? options : origins_mapping_options(InvalidOid, server->serverid, &there);
}

/* One row a step, up to the one that failed. */
Datum
hyperpool_check_origin(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hiding;
	ForeignServer *server;
	ProbeTarget target;
	ProbeResult result;
	int			step;

	origins_begin_hiding(&hiding);
	require_arguments(fcinfo, 1);
	server = origins_find(text_arg(fcinfo, 0));
	origins_require_usage(server);
	set_target(&target, server, usable_mapping(server));
	if (target.user == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" has no credential for you", server->servername),
						errhint("Give one by hyperpool.set_credential.")));
	InitMaterializedSRF(fcinfo, 0);
	(void) probe_origin(&target, &result);
	for (step = 0; step < PROBE_STEPS; step++)
	{
		if (result.done[step])
			put_step((ReturnSetInfo *) fcinfo->resultinfo, &result, step);
	}
	origins_end_hiding(&hiding);
	return (Datum) 0;
}

/* ---- pause, resume, restart ---- */

static int
owned_slot(FunctionCallInfo fcinfo)
{
	ForeignServer *server;
	int			slot;

	require_arguments(fcinfo, 1);
	server = origins_find(text_arg(fcinfo, 0));
	origins_require_owner(server);
	slot = directory_published_slot(server->serverid);
	if (slot < 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("origin \"%s\" is not in service", server->servername),
						errdetail("The manager of hyperpool has not published it."),
						errhint("Is hyperpool in shared_preload_libraries, and is this the database of hyperpool.database?")));
	return slot;
}

Datum
hyperpool_pause_origin(PG_FUNCTION_ARGS)
{
	int			slot = owned_slot(fcinfo);

	directory_set_paused(slot, true);
	cancel_note_all(NOTE_DIRECTORY, slot);
	PG_RETURN_VOID();
}

Datum
hyperpool_resume_origin(PG_FUNCTION_ARGS)
{
	int			slot = owned_slot(fcinfo);

	directory_set_paused(slot, false);
	cancel_note_all(NOTE_DIRECTORY, slot);
	PG_RETURN_VOID();
}

Datum
hyperpool_restart_origin(PG_FUNCTION_ARGS)
{
	cancel_note_all(NOTE_RESTART_ORIGIN, owned_slot(fcinfo));
	PG_RETURN_VOID();
}

/* For the view: is the origin with this OID paused? */
Datum
hyperpool_is_paused(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(directory_is_paused(directory_published_slot(PG_GETARG_OID(0))));
}
