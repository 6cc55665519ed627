/*
 * manager_catalogs.c - the manager's reading of the catalogs: roles, memberships, origins (foreign servers), credentials (user
 * mappings), rights.
 *
 * Owns: nothing beyond a round. Never: leaves a secret in memory that it gives back; reads rows with secrets by the executor, which
 * would.
 *
 * An origin that cannot be published is left out with a line in the log; without the extension there are none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "host/gucs.h"
#include "host/options.h"
#include "manager_internal.h"

#define VERIFIER_MAX	2048	/* bytes; PostgreSQL makes up to 140, and takes 512 from 18 on */

static bool extension_missed = false;	/* said so */

/* ---- rows, by SPI ---- */

static void
select_rows(const char *sql)
{
	int			rc = SPI_execute(sql, true, 0);

	if (rc != SPI_OK_SELECT)
		elog(ERROR, "hyperpool: reading the catalogs gave %s", SPI_result_code_string(rc));
}

/* A text column of the current result, or NULL. */
static char *
text_at(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

static Datum
datum_at(uint64 row, int column, bool *null)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, null);
}

static Oid
oid_at(uint64 row, int column)
{
	bool		null;
	Datum		value = datum_at(row, column, &null);

	return null ? InvalidOid : DatumGetObjectId(value);
}

static bool
bool_at(uint64 row, int column)
{
	bool		null;
	Datum		value = datum_at(row, column, &null);

	return !null && DatumGetBool(value);
}

/* ---- origins ---- */

static void
add_option(DirectoryOrigin *origin, const char *name, const char *value)
{
	const OriginOption *option = option_of(name);

	if (option != NULL)
	{
		option_set(origin, option, value);
		return;
	}
	/* the caller has made room for an option a row */
	origin->options[origin->noptions].name = name;
	origin->options[origin->noptions].value = value;
	origin->noptions++;
}

/* Options of an origin stand in rows first .. end - 1. The parsers used touch no table, so catching needs no subtransaction. */
static bool
set_options(DirectoryOrigin *origin, uint64 first, uint64 end)
{
	MemoryContext before = CurrentMemoryContext;
	volatile bool good = true;

	origin->options = palloc0(sizeof(DirectoryOption) * (end - first));
	PG_TRY();
	{
		uint64		row;

		options_set_initial(origin);
		for (row = first; row < end; row++)
		{
			char	   *name = text_at(row, 3);
			char	   *value = text_at(row, 4);

			if (name != NULL && value != NULL)
				add_option(origin, name, value);
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		EmitErrorReport();
		FlushErrorState();
		good = false;
	}
	PG_END_TRY();
	return good;
}

/* One origin: its slot and its options. False: it cannot be published, and the log says why. */
static bool
draft_origin(DirectoryDraft *draft, uint64 first, uint64 end)
{
	DirectoryOrigin origin = {.oid = oid_at(first, 1), .name = text_at(first, 2)};

	if (!set_options(&origin, first, end))
	{
		ereport(LOG, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					  errmsg("hyperpool leaves out origin \"%s\": its options cannot be read", origin.name),
					  errhint("Correct them with hyperpool.alter_origin or ALTER SERVER.")));
		return false;
	}
	origin.slot = directory_slot_of(origin.oid);
	if (origin.slot < 0)
	{
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("hyperpool leaves out origin \"%s\": there are too many origins", origin.name),
					  errhint("Raise hyperpool.max_origins (now %d) and restart the server.", hyperpool_max_origins)));
		return false;
	}
	directory_draft_origin(draft, &origin);
	return true;
}

/* First row behind those with the same OID in `column`. */
static uint64
end_of_group(uint64 first, int column)
{
	uint64		row = first + 1;

	while (row < SPI_processed && oid_at(row, column) == oid_at(first, column))
		row++;
	return row;
}

typedef struct Drafted
{
	List	   *origins;		/* their OIDs, in their order */
	List	   *of_superusers;	/* those whose owner is one */
} Drafted;

static void
draft_origins(DirectoryDraft *draft, Drafted *drafted)
{
	uint64		first;
	uint64		end;

	select_rows("SELECT s.oid, s.srvname::text, o.option_name, o.option_value,"
				" (SELECT r.rolsuper FROM pg_catalog.pg_authid r WHERE r.oid = s.srvowner)"
				" FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw"
				" LEFT JOIN LATERAL pg_catalog.pg_options_to_table(s.srvoptions) o ON true"
				" WHERE w.fdwname = 'hyperpool' ORDER BY s.oid, o.option_name");
	for (first = 0; first < SPI_processed; first = end)
	{
		end = end_of_group(first, 1);
		if (!draft_origin(draft, first, end))
			continue;
		drafted->origins = lappend_oid(drafted->origins, oid_at(first, 1));
		if (bool_at(first, 5))
			drafted->of_superusers = lappend_oid(drafted->of_superusers, oid_at(first, 1));
	}
}

static int
place_of(List *oids, Oid oid)
{
	ListCell   *cell;

	foreach(cell, oids)
	{
		if (lfirst_oid(cell) == oid)
			return foreach_current_index(cell);
	}
	return -1;
}

/* ---- credentials and roles: rows with secrets ---- */

static void
set_credential_option(DirectoryCredential *credential, const char *name, const char *value)
{
	bool		required;

	if (name == NULL || value == NULL)
		return;
	if (strcmp(name, "user") == 0)
		credential->user = value;
	else if (strcmp(name, "password") == 0)
		credential->password = value;
	else if (strcmp(name, "sslpassword") == 0)
		credential->sslpassword = value;
	else if (strcmp(name, "password_required") == 0 && parse_bool(value, &required))
		credential->require_password = required;
}

/*
 * Rows with secrets are taken from the catalogs themselves: the executor would leave copies of them in memory that it gives back as it is. Those made here
 * are wiped.
 */
static void
read_rows(Oid catalog, Oid index, void (*take) (HeapTuple row, TupleDesc columns, DirectoryDraft *draft, const Drafted *drafted), DirectoryDraft *draft, const Drafted *drafted)
{
	Relation	rows = table_open(catalog, AccessShareLock);
	Relation	order = index_open(index, AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(rows, order, GetActiveSnapshot(), 0, NULL);
	HeapTuple	row;

	while (HeapTupleIsValid(row = systable_getnext_ordered(scan, ForwardScanDirection)))
		take(row, RelationGetDescr(rows), draft, drafted);
	systable_endscan_ordered(scan);
	index_close(order, AccessShareLock);
	table_close(rows, AccessShareLock);
}

/* What a user mapping says, each text like password=secret; copies that are ours, and wiped. */
typedef struct Options
{
	ArrayType  *array;
	char	  **texts;
	Size	   *lengths;
	int			n;				/* texts made so far */
} Options;

static void
copy_options(Options *options, Datum value)
{
	Datum	   *elements;
	int			n;

	options->array = DatumGetArrayTypePCopy(value);
	deconstruct_array(options->array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	options->texts = palloc(sizeof(char *) * (n + 1));
	options->lengths = palloc(sizeof(Size) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		options->texts[i] = TextDatumGetCString(elements[i]);
		options->lengths[i] = strlen(options->texts[i]);
		options->n++;
	}
}

static void
wipe_options(Options *options)
{
	for (int i = 0; i < options->n; i++)
		explicit_bzero(options->texts[i], options->lengths[i]);
	if (options->array != NULL)
		explicit_bzero(options->array, VARSIZE(options->array));
}

static void
set_credential_options(DirectoryCredential *credential, const Options *options)
{
	for (int i = 0; i < options->n; i++)
	{
		char	   *equals = strchr(options->texts[i], '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		set_credential_option(credential, options->texts[i], equals + 1);
	}
}

static void
take_credential(HeapTuple row, TupleDesc columns, DirectoryDraft *draft, const Drafted *drafted)
{
	Form_pg_user_mapping mapping = (Form_pg_user_mapping) GETSTRUCT(row);
	/* what does not say otherwise needs its password: a superuser alone may write the option */
	DirectoryCredential credential = {.origin = place_of(drafted->origins, mapping->umserver), .role = mapping->umuser, .require_password = true};
	Options		options = {0};
	bool		null;
	Datum		value = heap_getattr(row, Anum_pg_user_mapping_umoptions, columns, &null);

	if (credential.origin < 0 || null)
		return;
	PG_TRY();
	{
		copy_options(&options, value);
		set_credential_options(&credential, &options);
		/* whoever owns the origin may turn it to another host, this one for instance, that trusts the server */
		if (!list_member_oid(drafted->of_superusers, mapping->umserver))
			credential.require_password = true;
		if (credential.user != NULL)
			directory_draft_credential(draft, &credential);
	}
	PG_FINALLY();
	{
		wipe_options(&options);
	}
	PG_END_TRY();
}

static void
take_role(HeapTuple row, TupleDesc columns, DirectoryDraft *draft, const Drafted *drafted)
{
	Form_pg_authid form = (Form_pg_authid) GETSTRUCT(row);
	DirectoryRole role = {.oid = form->oid, .name = NameStr(form->rolname), .can_login = form->rolcanlogin};
	bool		null;
	Datum		value = heap_getattr(row, Anum_pg_authid_rolpassword, columns, &null);
	char	   *verifier = null ? NULL : TextDatumGetCString(value);

	/* everybody may set their own, with a salt as long as they like */
	if (verifier != NULL && strlen(verifier) <= VERIFIER_MAX)
		role.verifier = verifier;
	role.connection_limit = form->rolsuper ? -1 : form->rolconnlimit;
	value = heap_getattr(row, Anum_pg_authid_rolvaliduntil, columns, &null);
	role.valid_until = null ? DT_NOEND : DatumGetTimestampTz(value);
	PG_TRY();
	{
		directory_draft_role(draft, &role);
	}
	PG_FINALLY();
	{
		if (verifier != NULL)
			explicit_bzero(verifier, strlen(verifier));
	}
	PG_END_TRY();
}

/* ---- memberships and rights ---- */

static void
draft_members(DirectoryDraft *draft)
{
	uint64		row;

	/* a membership granted twice stands there twice from 16 on */
	select_rows("SELECT DISTINCT member, roleid FROM pg_catalog.pg_auth_members ORDER BY 1, 2");
	for (row = 0; row < SPI_processed; row++)
		directory_draft_member(draft, oid_at(row, 1), oid_at(row, 2));
}

/* A right of PUBLIC is one pair with role 0; the other pairs are worked out by PostgreSQL's own rules (owner, superuser, groups). */
static void
draft_rights(DirectoryDraft *draft, const Drafted *drafted)
{
	uint64		row;

	select_rows("WITH o AS (SELECT s.oid, EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(s.srvacl, pg_catalog.acldefault('S', s.srvowner))) a"
				" WHERE a.grantee = 0 AND a.privilege_type = 'USAGE') AS everybody"
				" FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE w.fdwname = 'hyperpool')"
				" SELECT 0::pg_catalog.oid, o.oid FROM o WHERE o.everybody UNION ALL"
				" SELECT r.oid, o.oid FROM o CROSS JOIN pg_catalog.pg_authid r"
				" WHERE r.rolcanlogin AND NOT o.everybody AND pg_catalog.has_server_privilege(r.oid, o.oid, 'USAGE') ORDER BY 1, 2");
	for (row = 0; row < SPI_processed; row++)
	{
		if (place_of(drafted->origins, oid_at(row, 2)) >= 0)
			directory_draft_right(draft, oid_at(row, 1), oid_at(row, 2));
	}
}

/* ---- all of it ---- */

void
manager_catalogs_draft(DirectoryDraft *draft)
{
	Drafted		drafted = {NIL, NIL};

	read_rows(AuthIdRelationId, AuthIdOidIndexId, take_role, draft, &drafted);
	draft_members(draft);
	/* the foreign data wrapper comes and goes with the extension */
	if (OidIsValid(get_extension_oid("hyperpool", true)))
	{
		draft_origins(draft, &drafted);
		read_rows(UserMappingRelationId, UserMappingUserServerIndexId, take_credential, draft, &drafted);
		draft_rights(draft, &drafted);
		extension_missed = false;
	}
	else if (!extension_missed)
	{
		extension_missed = true;
		ereport(LOG, (errcode(ERRCODE_UNDEFINED_OBJECT),
					  errmsg("hyperpool waits for its extension in database \"%s\"", hyperpool_database),
					  errhint("Connect to that database and run CREATE EXTENSION hyperpool, or set hyperpool.database.")));
	}
}
