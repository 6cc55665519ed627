/*
 * functions/origins_options.c - the options of origins and credentials.           floor 8
 *
 * Answers: what may stand in a server or a mapping (the validator), what does a connection string say, and which options does a call
 * change?
 *
 * Owns nothing. Never: writes a catalog, connects, puts a connection string or a password into a message.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "functions/origins_internal.h"
#include "host/directory.h"
#include "host/options.h"

extern PGDLLEXPORT Datum hyperpool_validator(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_validator);

#define OPTION_VALUE_MAX	8192	/* bytes; tokens that are used as passwords have some thousand */

/* ---- lists of options ---- */

const char *
origins_option_value(List *options, const char *name)
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
List *
origins_change_option(List *changes, List *before, const char *name, const char *value)
{
	bool		there = origins_option_value(before, name) != NULL;

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

/*
 * All of them are published in hyperpool.directory_size; who fills that would keep others' changes from being heard. And all are read with each round of
 * the manager, blanks that count for nothing too.
 */
static void
check_length(const char *name, const char *value)
{
	int			most = strcmp(name, "rules") == 0 ? RULES_TEXT_MAX : OPTION_VALUE_MAX;

	if (strlen(value) > (size_t) most)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the value of option \"%s\" is too long", name),
						errdetail("It may have %d bytes.", most)));
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

		check_length(given->defname, defGetString(given));
		if (own != NULL)
			option_set(&origin, own, defGetString(given));
		else
			check_connection_option(given->defname, defGetString(given));
	}
	if (origins_option_value(options, "host") == NULL && origins_option_value(options, "hostaddr") == NULL)
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

	check_length(name, value);
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
	if (origins_option_value(options, "user") == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND), errmsg("a credential needs a user"),
						errhint("Name it in the connection string: user=... or user:password@ in the URI, with special characters percent-encoded.")));
}

Datum
hyperpool_validator(PG_FUNCTION_ARGS)
{
	List	   *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);
	ErrorContextCallback hiding;

	origins_begin_hiding(&hiding);
	if (catalog == ForeignServerRelationId)
		validate_origin(options);
	else if (catalog == UserMappingRelationId)
		validate_mapping(options);
	else if (options != NIL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("option \"%s\" has no meaning here", ((DefElem *) linitial(options))->defname),
						errhint("Origins (servers) and credentials (user mappings) have options.")));
	origins_end_hiding(&hiding);
	PG_RETURN_VOID();
}

/* ---- the connection string ---- */

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
void
origins_parse_connection(const char *origin, const char *text, ConnectionString *string)
{
	PQconninfoOption *parsed = PQconninfoParse(text, NULL);
	PQconninfoOption *at;

	memset(string, 0, sizeof(*string));
	if (parsed == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the connection string for origin \"%s\" cannot be read", origin),
						errhint("It is a URI (postgresql://user:password@host:5432/database?sslmode=verify-full) or keyword=value pairs, as for psql; special characters in a URI are percent-encoded. Options of hyperpool's own, such as pool_size, are arguments of the function.")));
	for (at = parsed; at->keyword != NULL; at++)
	{
		if (at->val != NULL)
			take_option(string, at->keyword, at->val);
	}
	PQconninfoFree(parsed);
}

/* ---- what a connection string and a function's arguments change ---- */

/* Hyperpool's own options in the order of the functions' arguments, which is the table's up to connect_timeout. */
static const char *const option_args[] = {
	"pool_size", "min_pool_size", "pool_mode", "queue_timeout", "idle_timeout", "max_lifetime", "query_timeout",
	"idle_transaction_timeout", "connect_timeout", "cache", "max_age", "stale_while_revalidate", "stale_if_error",
	"max_result_size", "allow_trust", "share", "share_depth"
};

int64
origins_interval_arg(FunctionCallInfo fcinfo, int n)
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
		case OPTION_AGE:
			return option_interval_text(origins_interval_arg(fcinfo, n));
		case OPTION_BOOLEAN:
			return pstrdup(PG_GETARG_BOOL(n) ? "true" : "false");
		case OPTION_POOL_MODE:
		case OPTION_RULES:
			return text_to_cstring(PG_GETARG_TEXT_PP(n));
	}
	return NULL;
}

/* The changes the arguments ask for; what the connection string has said already is not said twice. */
List *
origins_option_changes(FunctionCallInfo fcinfo, List *changes, List *before)
{
	size_t		i;

	for (i = 0; i < lengthof(option_args); i++)
	{
		int			n = FIRST_OPTION_ARG + (int) i;

		if (!PG_ARGISNULL(n) && origins_option_value(changes, option_args[i]) == NULL)
			changes = origins_change_option(changes, before, option_args[i], option_arg_text(fcinfo, n, option_of(option_args[i])));
	}
	return changes;
}

List *
origins_connection_changes(const ConnectionString *string, List *before)
{
	List	   *changes = NIL;
	ListCell   *cell;

	foreach(cell, string->options)
		changes = origins_change_option(changes, before, ((DefElem *) lfirst(cell))->defname, defGetString(lfirst(cell)));
	/* another host leaves its former address behind */
	if (before != NIL && origins_option_value(string->options, "host") != NULL && origins_option_value(string->options, "hostaddr") == NULL)
		changes = origins_change_option(changes, before, "hostaddr", NULL);
	return changes;
}
