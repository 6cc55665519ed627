/*
 * functions/origins_catalog.c - servers and mappings in the catalogs.             floor 8
 *
 * Answers: which foreign server is this origin, who may do what with it, which mapping is whose? Writes both.
 * The commands are called as C functions, not as SQL texts: no statement with a password exists that could be logged, counted or put
 * into an error's context.
 *
 * Owns nothing: what it writes is the transaction's. Never: connects, judges an option (the validator does), tells the manager.
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
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "functions/origins_internal.h"
#include "host/gucs.h"

/* ---- names and rights ---- */

ForeignServer *
origins_find(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("origin \"%s\" does not exist", name),
						errhint("The view hyperpool.origins lists them; hyperpool.create_origin makes one.")));
	if (strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "hyperpool") != 0)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("foreign server \"%s\" is not an origin of hyperpool", name)));
	return server;
}

bool
origins_is_owner(const ForeignServer *server)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ForeignServerRelationId, server->serverid, GetUserId());
#else
	return pg_foreign_server_ownercheck(server->serverid, GetUserId());
#endif
}

void
origins_require_owner(const ForeignServer *server)
{
	if (!origins_is_owner(server))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_FOREIGN_SERVER, server->servername);
}

void
origins_require_usage(const ForeignServer *server)
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
RoleSpec *
origins_role_spec(const char *name)
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

Oid
origins_role_oid(const char *name)
{
	return strcmp(name, "public") == 0 ? InvalidOid : get_role_oid(name, false);
}

/* ---- servers ---- */

/* One origin more than hyperpool.max_origins would be kept, but never served. */
void
origins_require_room(void)
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

void
origins_create_server(const char *name, List *options)
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

void
origins_alter_server(const char *name, List *changes)
{
	AlterForeignServerStmt *stmt = makeNode(AlterForeignServerStmt);

	if (changes == NIL)
		return;
	stmt->servername = pstrdup(name);
	stmt->options = changes;
	(void) AlterForeignServer(stmt);
	CommandCounterIncrement();
}

/* ---- mappings ---- */

/* The options of the mapping of exactly this role; *there false: it has none. */
List *
origins_mapping_options(Oid role, Oid server, bool *there)
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

/* The credential to try an origin with: the role's, else everybody's, else the first there is. */
List *
origins_any_mapping(Oid role, Oid server)
{
	bool		there;
	List	   *options = origins_mapping_options(role, server, &there);
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;
	ScanKeyData key;

	if (!there)
		options = origins_mapping_options(InvalidOid, server, &there);
	if (there)
		return options;
	catalog = table_open(UserMappingRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_user_mapping_umserver, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(server));
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		options = origins_mapping_options(((Form_pg_user_mapping) GETSTRUCT(tuple))->umuser, server, &there);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return options;
}

static void
create_mapping(const char *server, const char *role, List *options)
{
	CreateUserMappingStmt *stmt = makeNode(CreateUserMappingStmt);

	stmt->user = origins_role_spec(role);
	stmt->servername = pstrdup(server);
	stmt->options = options;
	(void) CreateUserMapping(stmt);
	CommandCounterIncrement();
}

static void
alter_mapping(const char *server, const char *role, List *changes)
{
	AlterUserMappingStmt *stmt = makeNode(AlterUserMappingStmt);

	stmt->user = origins_role_spec(role);
	stmt->servername = pstrdup(server);
	stmt->options = changes;
	(void) AlterUserMapping(stmt);
	CommandCounterIncrement();
}

static List *
secret_changes(const Secrets *secrets, List *before)
{
	List	   *changes = NIL;

	if (secrets->user != NULL)
		changes = origins_change_option(changes, before, "user", secrets->user);
	if (secrets->password != NULL || secrets->whole)
		changes = origins_change_option(changes, before, "password", secrets->password);
	if (secrets->sslpassword != NULL)
		changes = origins_change_option(changes, before, "sslpassword", secrets->sslpassword);
	return origins_change_option(changes, before, "password_required", superuser() ? "false" : "true");
}

void
origins_write_mapping(const ForeignServer *server, const char *role, const Secrets *secrets)
{
	bool		there;
	List	   *before = origins_mapping_options(origins_role_oid(role), server->serverid, &there);
	List	   *changes = secret_changes(secrets, before);

	if (there)
		alter_mapping(server->servername, role, changes);
	else
		create_mapping(server->servername, role, changes);
}

void
origins_drop_mappings(Oid server)
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
