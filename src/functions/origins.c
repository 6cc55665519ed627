/*
 * functions/origins.c - the SQL functions that make, change and check origins.    floor 8
 *
 * An origin is a foreign server of the wrapper "hyperpool", a credential a user mapping; these functions are the front door to
 * CREATE SERVER and its kin. They run as their caller, whose rights PostgreSQL's own commands check.
 *
 * create_origin, alter_origin and set_credential first write the catalogs and then really connect with what stands there now: an error
 * undoes the transaction, so nothing is left behind, and rights are checked before anybody may probe a network.
 * The commands are called as C functions, not as SQL texts: no statement with a password exists that could be logged, counted or put
 * into an error's context. Every error raised here or below hides the statement it happened in.
 *
 * Owns: the mark that this transaction changes origins (the manager is woken at its commit). Never: keeps a connection.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "host/cancel.h"
#include "host/directory.h"
#include "host/options.h"
#include "origin/probe.h"

#define PUBLICATION_MS	2000	/* how long a commit waits until the workers have been told */

extern PGDLLEXPORT Datum hyperpool_validator(PG_FUNCTION_ARGS);
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

PG_FUNCTION_INFO_V1(hyperpool_validator);
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

static void
begin_hiding(ErrorContextCallback *callback)
{
	callback->callback = hide_statement;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

static void
end_hiding(ErrorContextCallback *callback)
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

static void
note_change(void)
{
	if (!callback_registered)
	{
		RegisterXactCallback(on_transaction_end, NULL);
		callback_registered = true;
	}
	origins_changed = true;
}

/* What the commands would have checked had they been SQL. */
static void
require_writable(void)
{
	PreventCommandIfReadOnly("changing an origin of hyperpool");
	PreventCommandDuringRecovery("changing an origin of hyperpool");
}

/* ---- names and rights ---- */

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

static ForeignServer *
find_origin(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" does not exist", name),
						errhint("The view hyperpool.origins lists them; hyperpool.create_origin makes one.")));
	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "hyperpool") != 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("foreign server \"%s\" is not an origin of hyperpool", name)));
	return server;
}

static bool
is_owner(const ForeignServer *server)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ForeignServerRelationId, server->serverid, GetUserId());
#else
	return pg_foreign_server_ownercheck(server->serverid, GetUserId());
#endif
}

static void
require_owner(const ForeignServer *server)
{
	if (!is_owner(server))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, server->servername);
}

static void
require_usage(const ForeignServer *server)
{
#if PG_VERSION_NUM >= 160000
	AclResult	right = object_aclcheck(ForeignServerRelationId, server->serverid, GetUserId(), ACL_USAGE);
#else
	AclResult	right = pg_foreign_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE);
#endif

	if (right != ACLCHECK_OK)
		aclcheck_error(right, OBJECT_FOREIGN_SERVER, server->servername);
}

/* "public" is everybody; any other name is a role. */
static RoleSpec *
role_spec(const char *name)
{
	RoleSpec   *spec = makeNode(RoleSpec);

	spec->location = -1;
	if (strcmp(name, "public") == 0)
		spec->roletype = ROLESPEC_PUBLIC;
	else
	{
		spec->roletype = ROLESPEC_CSTRING;
		spec->rolename = pstrdup(name);
	}
	return spec;
}

static Oid
role_oid(const char *name)
{
	return strcmp(name, "public") == 0 ? InvalidOid : get_role_oid(name, false);
}

/* ---- lists of options ---- */

static const char *
option_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0)
			return defGetString(option);
	}
	return NULL;
}

static DefElem *
make_option(const char *name, const char *value, DefElemAction action)
{
	return makeDefElemExtended(NULL, pstrdup(name), value != NULL ? (Node *) makeString(pstrdup(value)) : NULL, action, -1);
}

/* One more change of what stands in `before` (NIL for something new); value NULL takes the option away. */
static List *
change_option(List *changes, List *before, const char *name, const char *value)
{
	bool		there = option_value(before, name) != NULL;

	if (value == NULL)
		return there ? lappend(changes, make_option(name, NULL, DEFELEM_DROP)) : changes;
	return lappend(changes, make_option(name, value, there ? DEFELEM_SET : DEFELEM_ADD));
}

static bool
is_credential_option(const char *name)
{
	return strcmp(name, "user") == 0 || strcmp(name, "password") == 0 || strcmp(name, "sslpassword") == 0;
}

/* ---- the validator: what may stand in a server or a mapping ---- */

static bool
is_libpq_option(const char *name)
{
	PQconninfoOption *known = PQconninfoParse("", NULL);
	PQconninfoOption *at;
	bool		found = false;

	if (known == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	for (at = known; at->keyword != NULL && !found; at++)
		found = strcmp(at->keyword, name) == 0;
	PQconninfoFree(known);
	/* a replication connection is no place for queries */
	return found && strcmp(name, "replication") != 0;
}

/* Names files of this machine, or speaks with the server's own identity. */
static bool
is_privileged_option(const char *name, const char *value)
{
	static const char *const names[] = {
		"sslcert", "sslkey", "sslcrl", "sslcrldir", "sslkeylogfile", "passfile", "service", "servicefile", "krbsrvname", "gsslib",
		"gssdelegation", "requirepeer", "scram_client_key", "scram_server_key", "require_auth"
	};
	size_t		i;

	if (strcmp(name, "sslrootcert") == 0)
		return strcmp(value, "system") != 0;
	if (strcmp(name, "gssencmode") == 0)
		return strcmp(value, "disable") != 0;
	if (strncmp(name, "oauth_", 6) == 0)
		return true;
	for (i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

/* A host list with a Unix socket, or with an empty entry (which is libpq's default socket). */
static bool
names_socket(const char *hosts)
{
	const char *at = hosts;

	for (;;)
	{
		if (*at == '/' || *at == '@' || *at == ',' || *at == '\0')
			return true;
		at = strchr(at, ',');
		if (at == NULL)
			return false;
		at++;
	}
}

static void
refuse_privileged(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("only superusers may set %s of an origin", what),
					errdetail("It reaches into files, sockets or the identity of this server.")));
}

static void
check_connection_option(const char *name, const char *value)
{
	if (is_credential_option(name))
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("option \"%s\" belongs to a credential, not to an origin", name),
						errhint("Everybody may read the options of a server; use hyperpool.set_credential or CREATE USER MAPPING.")));
	if (!is_libpq_option(name))
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("origins have no option \"%s\"", name),
						errhint("They have libpq's connection options and those of hyperpool.create_origin.")));
	if (superuser())
		return;
	if (is_privileged_option(name, value))
		refuse_privileged(psprintf("option \"%s\"", name));
	/* an empty entry of either list is libpq's default socket */
	if ((strcmp(name, "host") == 0 || strcmp(name, "hostaddr") == 0) && names_socket(value))
		refuse_privileged("a Unix socket as the host");
}

static void
validate_origin(List *options)
{
	DirectoryOrigin origin;
	ListCell   *cell;

	memset(&origin, 0, sizeof(origin));
	options_set_initial(&origin);
	foreach(cell, options)
	{
		DefElem    *given = lfirst(cell);
		const OriginOption *own = option_of(given->defname);

		if (own != NULL)
			option_set(&origin, own, defGetString(given));
		else
			check_connection_option(given->defname, defGetString(given));
	}
	if (option_value(options, "host") == NULL && option_value(options, "hostaddr") == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("an origin needs a host"),
						errhint("Name it in the connection string, as host=... or in the URI.")));
	if (origin.min_pool_size > origin.pool_size)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("min_pool_size (%d) must not exceed pool_size (%d)",
																		origin.min_pool_size, origin.pool_size)));
}

static void
validate_mapping_option(const char *name, const char *value)
{
	bool		required;

	if (is_credential_option(name))
		return;
	if (strcmp(name, "password_required") != 0)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("credentials have no option \"%s\"", name),
						errhint("They have user, password, sslpassword and password_required.")));
	if (!parse_bool(value, &required))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("option \"password_required\" must be true or false")));
	if (!required && !superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("only superusers may have password_required=false in a credential")));
}

static void
validate_mapping(List *options)
{
	ListCell   *cell;

	foreach(cell, options)
		validate_mapping_option(((DefElem *) lfirst(cell))->defname, defGetString(lfirst(cell)));
	if (option_value(options, "user") == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("a credential needs a user"),
						errhint("Name it in the connection string: user=... or user:password@ in the URI.")));
}

Datum
hyperpool_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ErrorContextCallback hiding;

	begin_hiding(&hiding);
	if (catalog == ForeignServerRelationId)
		validate_origin(options);
	else if (catalog == UserMappingRelationId)
		validate_mapping(options);
	else if (options != NIL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("option \"%s\" has no meaning here", ((DefElem *) linitial(options))->defname),
						errhint("Origins (servers) and credentials (user mappings) have options.")));
	end_hiding(&hiding);
	PG_RETURN_VOID();
}

/* ---- the connection string ---- */

typedef struct ConnectionString
{
	List	   *options;		/* DefElems for the server; connect_timeout as a time of ours */
	char	   *user;			/* or NULL: not said */
	char	   *password;
	char	   *sslpassword;
} ConnectionString;

/* libpq counts whole seconds, 0 or less for ever. */
static char *
connect_timeout_text(const char *seconds)
{
	long		n = strtol(seconds, NULL, 10);

	return n > 0 ? psprintf("%lds", n) : pstrdup("0");
}

static void
take_option(ConnectionString *string, const char *name, const char *value)
{
	if (strcmp(name, "user") == 0)
		string->user = pstrdup(value);
	else if (strcmp(name, "password") == 0)
		string->password = pstrdup(value);
	else if (strcmp(name, "sslpassword") == 0)
		string->sslpassword = pstrdup(value);
	else if (strcmp(name, "connect_timeout") == 0)
		string->options = lappend(string->options, make_option(name, connect_timeout_text(value), DEFELEM_UNSPEC));
	else
		string->options = lappend(string->options, make_option(name, value, DEFELEM_UNSPEC));
}

/* libpq's own message would quote the string, password and all. */
static void
parse_connection_string(const char *origin, const char *text, ConnectionString *string)
{
	PQconninfoOption *parsed = PQconninfoParse(text, NULL);
	PQconninfoOption *at;

	memset(string, 0, sizeof(*string));
	if (parsed == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the connection string for origin \"%s\" cannot be read", origin),
						errhint("It is a URI (postgresql://user:password@host:5432/database?sslmode=verify-full) or keyword=value pairs, as for psql; special characters in a URI are percent-encoded.")));
	for (at = parsed; at->keyword != NULL; at++)
	{
		if (at->val != NULL)
			take_option(string, at->keyword, at->val);
	}
	PQconninfoFree(parsed);
}

/* ---- writing servers and mappings ---- */

/* Hyperpool's own options in the order of the functions' arguments, which is the table's up to connect_timeout. */
static const char *const option_args[] = {
	"pool_size", "min_pool_size", "pool_mode", "queue_timeout", "idle_timeout", "max_lifetime", "query_timeout",
	"idle_transaction_timeout", "connect_timeout", "cache", "max_age", "stale_while_revalidate", "max_result_size", "allow_trust"
};

#define FIRST_OPTION_ARG	3

static int64
interval_arg(FunctionCallInfo fcinfo, int n)
{
	Interval   *interval = PG_GETARG_INTERVAL_P(n);
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	/* out of any bounds the validator will say so */
	if (days < -1000 || days > 1000 || interval->time > INT64CONST(1000) * USECS_PER_DAY || interval->time < INT64CONST(-1000) * USECS_PER_DAY)
		return INT64CONST(1000) * USECS_PER_DAY;
	return days * USECS_PER_DAY + interval->time;
}

static char *
option_arg_text(FunctionCallInfo fcinfo, int n, const OriginOption *option)
{
	switch (option->kind)
	{
		case OPTION_COUNT:
			return psprintf("%d", PG_GETARG_INT32(n));
		case OPTION_SIZE:
			return psprintf("%lld", (long long) PG_GETARG_INT64(n));
		case OPTION_INTERVAL:
			return option_interval_text(interval_arg(fcinfo, n));
		case OPTION_BOOLEAN:
			return pstrdup(PG_GETARG_BOOL(n) ? "true" : "false");
		case OPTION_POOL_MODE:
			return text_to_cstring(PG_GETARG_TEXT_PP(n));
	}
	return NULL;
}

/* The changes the arguments ask for; what the connection string has said already is not said twice. */
static List *
option_changes(FunctionCallInfo fcinfo, List *changes, List *before)
{
	size_t		i;

	for (i = 0; i < lengthof(option_args); i++)
	{
		int			n = FIRST_OPTION_ARG + (int) i;

		if (!PG_ARGISNULL(n) && option_value(changes, option_args[i]) == NULL)
			changes = change_option(changes, before, option_args[i], option_arg_text(fcinfo, n, option_of(option_args[i])));
	}
	return changes;
}

static List *
connection_changes(const ConnectionString *string, List *before)
{
	List	   *changes = NIL;
	ListCell   *cell;

	foreach(cell, string->options)
		changes = change_option(changes, before, ((DefElem *) lfirst(cell))->defname, defGetString(lfirst(cell)));
	/* another host leaves its former address behind */
	if (before != NIL && option_value(string->options, "host") != NULL && option_value(string->options, "hostaddr") == NULL)
		changes = change_option(changes, before, "hostaddr", NULL);
	return changes;
}

static void
create_server(const char *name, List *options)
{
	CreateForeignServerStmt *stmt = makeNode(CreateForeignServerStmt);

	if (GetForeignServerByName(name, true) != NULL)
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT), errmsg("origin \"%s\" already exists", name),
						errhint("Change it with hyperpool.alter_origin.")));
	stmt->servername = pstrdup(name);
	stmt->fdwname = pstrdup("hyperpool");
	stmt->options = options;
	(void) CreateForeignServer(stmt);
	CommandCounterIncrement();
}

static void
alter_server(const char *name, List *changes)
{
	AlterForeignServerStmt *stmt = makeNode(AlterForeignServerStmt);

	if (changes == NIL)
		return;
	stmt->servername = pstrdup(name);
	stmt->options = changes;
	(void) AlterForeignServer(stmt);
	CommandCounterIncrement();
}

/* The options of the mapping of exactly this role; *there false: it has none. */
static List *
mapping_options(Oid role, Oid server, bool *there)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	List	   *options = NIL;
	bool		null;
	Datum		value;

	*there = HeapTupleIsValid(tuple);
	if (!*there)
		return NIL;
	value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &null);
	if (!null)
		options = untransformRelOptions(value);
	ReleaseSysCache(tuple);
	return options;
}

static void
create_mapping(const char *server, const char *role, List *options)
{
	CreateUserMappingStmt *stmt = makeNode(CreateUserMappingStmt);

	stmt->user = role_spec(role);
	stmt->servername = pstrdup(server);
	stmt->options = options;
	(void) CreateUserMapping(stmt);
	CommandCounterIncrement();
}

static void
alter_mapping(const char *server, const char *role, List *changes)
{
	AlterUserMappingStmt *stmt = makeNode(AlterUserMappingStmt);

	stmt->user = role_spec(role);
	stmt->servername = pstrdup(server);
	stmt->options = changes;
	(void) AlterUserMapping(stmt);
	CommandCounterIncrement();
}

typedef struct Secrets			/* NULL user or passwords: as before, unless `whole` */
{
	const char *user;
	const char *password;
	const char *sslpassword;
	bool		whole;			/* what is NULL is taken away */
} Secrets;

static List *
secret_changes(const Secrets *secrets, List *before)
{
	List	   *changes = NIL;

	if (secrets->user != NULL)
		changes = change_option(changes, before, "user", secrets->user);
	if (secrets->password != NULL || secrets->whole)
		changes = change_option(changes, before, "password", secrets->password);
	if (secrets->sslpassword != NULL)
		changes = change_option(changes, before, "sslpassword", secrets->sslpassword);
	return change_option(changes, before, "password_required", superuser() ? "false" : "true");
}

static void
write_mapping(const ForeignServer *server, const char *role, const Secrets *secrets)
{
	bool		there;
	List	   *before = mapping_options(role_oid(role), server->serverid, &there);
	List	   *changes = secret_changes(secrets, before);

	if (there)
		alter_mapping(server->servername, role, changes);
	else
		create_mapping(server->servername, role, changes);
}

/* ---- really connecting ---- */

static int64
connect_timeout_of(List *options)
{
	DirectoryOrigin origin;
	const char *given = option_value(options, "connect_timeout");

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
	const char *required = option_value(mapping, "password_required");

	memset(target, 0, sizeof(*target));
	target->origin = server->servername;
	set_target_options(target, server->options);
	target->user = option_value(mapping, "user");
	target->password = option_value(mapping, "password");
	target->sslpassword = option_value(mapping, "sslpassword");
	target->require_password = true;
	if (required != NULL)
		(void) parse_bool(required, &target->require_password);
	target->timeout = connect_timeout_of(server->options);
}

static void
raise_failure(const ProbeResult *result)
{
	ereport(ERROR, (errcode(result->sqlstate), errmsg("%s", result->message),
					result->detail != NULL ? errdetail_internal("%s", result->detail) : 0,
					result->hint != NULL ? errhint("%s", result->hint) : 0,
					errhidestmt(true), errhidecontext(true)));
}

/* Keeps what the connection has told: whether the origin is itself behind a pooler. */
static void
keep_pooled(const ForeignServer *server, bool pooled)
{
	const char *before = option_value(server->options, "pooled");
	bool		was = false;

	if (before != NULL)
		(void) parse_bool(before, &was);
	if (pooled == was)
		return;
	alter_server(server->servername, change_option(NIL, server->options, "pooled", pooled ? "true" : NULL));
	if (pooled)
		ereport(NOTICE, (errmsg("origin \"%s\" is behind a connection pooler", server->servername),
						 errdetail("hyperpool keeps no prepared statements and no session state on its links."),
						 errhint("Connecting to PostgreSQL itself is faster.")));
}

/* Connects with what stands in the catalogs now; raises why it could not. */
static void
connect_origin(const char *name, List *mapping, bool write)
{
	ForeignServer *server = find_origin(name);
	ProbeTarget target;
	ProbeResult result;

	set_target(&target, server, mapping);
	if (target.user == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" has no credential to connect with", name),
						errhint("Give one by hyperpool.set_credential.")));
	if (!probe_origin(&target, &result))
		raise_failure(&result);
	if (write)
		keep_pooled(server, result.pooled);
}

/* ---- create, alter, drop ---- */

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) >= NAMEDATALEN)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("the name of an origin has 1 to %d bytes", NAMEDATALEN - 1)));
}

/* One origin more than hyperpool.max_origins would be kept, but never served. */
static void
require_room_for_origin(void)
{
	Oid			wrapper = get_foreign_data_wrapper_oid("hyperpool", false);
	Relation	catalog = table_open(ForeignServerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	int			count = 0;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		count += ((Form_pg_foreign_server) GETSTRUCT(tuple))->srvfdw == wrapper;
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (count >= hyperpool_max_origins)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many origins"),
				 errdetail("There are %d already.", count),
				 errhint("Raise hyperpool.max_origins and restart the server, or drop an origin that is not used."),
				 errhidestmt(true)));
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

	begin_hiding(&hiding);
	require_writable();
	require_arguments(fcinfo, FIRST_OPTION_ARG);
	name = text_arg(fcinfo, 0);
	role = text_arg(fcinfo, 2);
	check_name(name);
	require_room_for_origin();
	parse_connection_string(name, text_arg(fcinfo, 1), &string);
	create_server(name, option_changes(fcinfo, connection_changes(&string, NIL), NIL));
	secrets.user = string.user;
	secrets.password = string.password;
	secrets.sslpassword = string.sslpassword;
	write_mapping(find_origin(name), role, &secrets);
	connect_origin(name, mapping_options(role_oid(role), find_origin(name)->serverid, &there), true);
	note_change();
	end_hiding(&hiding);
	PG_RETURN_VOID();
}

/* The credential to try an origin with: the role's, else everybody's, else the first there is. */
static List *
any_mapping(Oid role, Oid server)
{
	bool		there;
	List	   *options = mapping_options(role, server, &there);
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData key;

	if (!there)
		options = mapping_options(InvalidOid, server, &there);
	if (there)
		return options;
	catalog = table_open(UserMappingRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_user_mapping_umserver, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(server));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		options = mapping_options(((Form_pg_user_mapping) GETSTRUCT(tuple))->umuser, server, &there);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return options;
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

	begin_hiding(&hiding);
	require_writable();
	require_arguments(fcinfo, 1);
	server = find_origin(text_arg(fcinfo, 0));
	require_owner(server);
	role = PG_ARGISNULL(2) ? pstrdup("public") : text_arg(fcinfo, 2);
	if (!PG_ARGISNULL(1))
		parse_connection_string(server->servername, text_arg(fcinfo, 1), &string);
	alter_server(server->servername, option_changes(fcinfo, connection_changes(&string, server->options), server->options));
	if (has_secrets(&string))
	{
		Secrets		secrets = {string.user, string.password, string.sslpassword, false};

		write_mapping(server, role, &secrets);
	}
	if (!PG_ARGISNULL(1))
		connect_origin(server->servername, any_mapping(role_oid(role), server->serverid), true);
	note_change();
	end_hiding(&hiding);
	PG_RETURN_VOID();
}

static void
drop_mappings(Oid server)
{
	Relation	catalog = table_open(UserMappingRelationId, RowExclusiveLock);
	ObjectAddresses *found = new_object_addresses();
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData key;

	ScanKeyInit(&key, Anum_pg_user_mapping_umserver, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(server));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		ObjectAddress address = {UserMappingRelationId, ((Form_pg_user_mapping) GETSTRUCT(tuple))->oid, 0};

		add_exact_object_address(&address, found);
	}
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
	performMultipleDeletions(found, DROP_RESTRICT, 0);
	free_object_addresses(found);
	CommandCounterIncrement();
}

/* Credentials go with their origin; a foreign table that somebody has made on it stands in the way. */
Datum
hyperpool_drop_origin(PG_FUNCTION_ARGS)
{
	ForeignServer *server;
	DropStmt   *stmt = makeNode(DropStmt);

	require_writable();
	require_arguments(fcinfo, 1);
	server = find_origin(text_arg(fcinfo, 0));
	require_owner(server);
	drop_mappings(server->serverid);
	stmt->removeType = OBJECT_FOREIGN_SERVER;
	stmt->objects = list_make1(makeString(pstrdup(server->servername)));
	stmt->behavior = DROP_RESTRICT;
	RemoveObjects(stmt);
	CommandCounterIncrement();
	note_change();
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

	begin_hiding(&hiding);
	require_writable();
	require_arguments(fcinfo, 3);
	server = find_origin(text_arg(fcinfo, 0));
	role = text_arg(fcinfo, 1);
	secrets.user = text_arg(fcinfo, 2);
	secrets.password = text_arg(fcinfo, 3);
	write_mapping(server, role, &secrets);
	connect_origin(server->servername, mapping_options(role_oid(role), server->serverid, &there), false);
	note_change();
	end_hiding(&hiding);
	PG_RETURN_VOID();
}

Datum
hyperpool_drop_credential(PG_FUNCTION_ARGS)
{
	DropUserMappingStmt *stmt = makeNode(DropUserMappingStmt);
	ForeignServer *server;
	char	   *role;
	bool		there;

	require_writable();
	require_arguments(fcinfo, 2);
	server = find_origin(text_arg(fcinfo, 0));
	role = text_arg(fcinfo, 1);
	(void) mapping_options(role_oid(role), server->serverid, &there);
	if (!there)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" has no credential for role \"%s\"", server->servername, role)));
	stmt->user = role_spec(role);
	stmt->servername = pstrdup(server->servername);
	(void) RemoveUserMapping(stmt);
	CommandCounterIncrement();
	note_change();
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
	values[3] = note != NULL ? CStringGetTextDatum(note) : (Datum) 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The owner may try any credential, others their own, else everybody's. */
static List *
usable_mapping(const ForeignServer *server)
{
	bool		there;
	List	   *options;

	if (is_owner(server))
		return any_mapping(GetUserId(), server->serverid);
	options = mapping_options(GetUserId(), server->serverid, &there);
	return there ? options : mapping_options(InvalidOid, server->serverid, &there);
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

	begin_hiding(&hiding);
	require_arguments(fcinfo, 1);
	server = find_origin(text_arg(fcinfo, 0));
	require_usage(server);
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
	end_hiding(&hiding);
	return (Datum) 0;
}

/* ---- pause, resume, restart ---- */

static int
owned_slot(FunctionCallInfo fcinfo)
{
	ForeignServer *server;
	int			slot;

	require_arguments(fcinfo, 1);
	server = find_origin(text_arg(fcinfo, 0));
	require_owner(server);
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
