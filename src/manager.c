/*
 * manager.c - the process that may look at catalogs and files.                    floor 8
 *
 * Reads origins (foreign servers), credentials (user mappings), roles, memberships, rights and pg_hba.conf, and publishes them by
 * host/directory; then wakes whoever reads it. It looks when it is asked to (a ticket), when the caches are told of a change, at
 * a reload, and every hyperpool.directory_refresh seconds.
 *
 * Owns the parsed hba lines between two reloads. Never: waits on a client's or origin's socket; holds a snapshot while idle;
 * calls load_hba() (the parsed lines of a forked process are gone with the postmaster's context).
 *
 * What can go wrong is waited out with one clear line: no database yet, no extension yet, a statement that fails, a directory
 * that is too small. What was published stays in force meanwhile.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "catalog/pg_user_mapping.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "libpq/hba.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "host/cancel.h"
#include "host/counters.h"
#include "host/directory.h"
#include "host/gucs.h"
#include "host/options.h"
#include "host/store.h"
#include "host/versions.h"
#include "worker.h"

#define LOOK_MS			1000	/* how often an idle manager hears of changes in catalogs; a message in the queue wakes nobody */
#define FIRST_RETRY_MS	1000
#define LAST_RETRY_MS	60000
#define VERIFIER_MAX	2048	/* bytes; PostgreSQL makes up to 140, and takes 512 from 18 on */

static volatile sig_atomic_t in_round = false;
static bool catalogs_changed = true;
static bool hba_stale = true;	/* pg_hba.conf is to be read: at start and at each reload, as the server does */
static MemoryContext hba_context = NULL;
static List *hba_lines = NIL;	/* of GatewayHbaLine, in hba_context */
static bool hba_usable = false;
static bool connected = false;
static bool extension_missed = false;	/* said so */
static Directory *published = NULL;

/* ---- signals and exit ---- */

/* While idle the loop sees the request and leaves quietly; a round may wait for a lock, so it is interrupted. */
static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (in_round)
	{
		InterruptPending = true;
		ProcDiePending = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
on_exit_callback(int code, Datum arg)
{
	directory_set_manager(false);
	cancel_set_manager_latch(NULL);
	if (!connected)
		directory_set_database_missing(true);
}

static void
on_catalog_change(Datum arg, int cache, uint32 hash)
{
	catalogs_changed = true;
}

/* Exit code 1: the postmaster starts a manager again, unless it is shutting down. */
static void
leave_if_asked(void)
{
	if (ShutdownRequestPending)
		proc_exit(1);
}

static void
rest(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	leave_if_asked();
}

/* ---- the database ---- */

/*
 * Reads pg_database from end to end, as autovacuum's launcher does: without a database there may be no index to go by (the first
 * process of a new cluster finds no relcache file), and the name cache would want one.
 */
static bool
database_is_there(void)
{
	bool		there = false;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while (!there && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		there = database->datallowconn && strcmp(NameStr(database->datname), hyperpool_database) == 0;
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	return there;
}

/*
 * The last manager failed to connect, and a process may choose its database once only. So this one looks at the shared
 * catalogs alone until the database is there, then gives way to a manager that connects to it.
 */
static void
wait_for_database(void)
{
	long		pause = FIRST_RETRY_MS;

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	if (!database_is_there())
		ereport(LOG, (errcode(ERRCODE_UNDEFINED_DATABASE),
					  errmsg("hyperpool waits for database \"%s\"", hyperpool_database),
					  errhint("Create it, or set hyperpool.database to the database that has the extension and restart the server.")));
	while (!database_is_there())
	{
		rest(pause);
		pause = Min(pause * 2, 10000);
	}
	connected = true;
	directory_set_database_missing(false);
	proc_exit(1);
}

static void
connect_database(void)
{
	if (directory_is_database_missing())
		wait_for_database();
	BackgroundWorkerInitializeConnection(hyperpool_database, NULL, 0);
	connected = true;
	/* operators and functions are PostgreSQL's own, whatever the database's settings say; limits meant for clients do not count */
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("idle_in_transaction_session_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("IntervalStyle", "postgres", PGC_SUSET, PGC_S_OVERRIDE);
}

static void
watch_catalogs(void)
{
	static const int caches[] = {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID, AUTHMEMMEMROLE, AUTHMEMROLEMEM};
	size_t		i;

	for (i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], on_catalog_change, (Datum) 0);
}

/* ---- pg_hba.conf ---- */

static HbaType
type_of(ConnType type)
{
	switch (type)
	{
		case ctLocal:
			return HBA_LOCAL;
		case ctHost:
			return HBA_HOST;
		case ctHostSSL:
			return HBA_HOSTSSL;
		case ctHostNoSSL:
			return HBA_HOSTNOSSL;
		case ctHostGSS:
			return HBA_HOSTGSSENC;
		case ctHostNoGSS:
			return HBA_HOSTNOGSSENC;
	}
	return HBA_HOST;
}

static HbaMethod
method_of(UserAuth method)
{
	switch (method)
	{
		case uaReject:
		case uaImplicitReject:
			return HBA_METHOD_REJECT;
		case uaTrust:
			return HBA_METHOD_TRUST;
		case uaMD5:
			return HBA_METHOD_MD5;
		case uaSCRAM:
			return HBA_METHOD_SCRAM;
		case uaCert:
			return HBA_METHOD_CERT;
		default:
			return HBA_METHOD_OTHER;
	}
}

static void
copy_sockaddr(uint8_t *bytes, const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		memcpy(bytes, &((const struct sockaddr_in *) address)->sin_addr, 4);
	else if (address->ss_family == AF_INET6)
		memcpy(bytes, &((const struct sockaddr_in6 *) address)->sin6_addr, 16);
}

static void
set_address(GatewayHbaLine *line, const HbaLine *parsed)
{
	line->address = HBA_ADDRESS_ALL;
	if (parsed->conntype == ctLocal || parsed->ip_cmp_method == ipCmpAll)
		return;
	if (parsed->ip_cmp_method == ipCmpSameHost)
		line->address = HBA_ADDRESS_SAMEHOST;
	else if (parsed->ip_cmp_method == ipCmpSameNet)
		line->address = HBA_ADDRESS_SAMENET;
	else if (parsed->hostname != NULL)
		line->address = HBA_ADDRESS_NAME;
	else
	{
		line->address = HBA_ADDRESS_MASK;
		line->family = parsed->addr.ss_family == AF_INET6 ? 6 : 4;
		copy_sockaddr(line->addr, &parsed->addr);
		copy_sockaddr(line->mask, &parsed->mask);
	}
}

static bool
is_keyword(const AuthToken *token, const char *word)
{
	return !token->quoted && strcmp(token->string, word) == 0;
}

static bool
is_regex(const AuthToken *token)
{
#if PG_VERSION_NUM >= 160000
	return token->regex != NULL;
#else
	return false;
#endif
}

static void
set_token_text(HbaToken *to, HbaTokenKind kind, const char *text)
{
	to->kind = kind;
	to->text = bytes_str(pstrdup(text));
}

/* The order of the questions is check_db's and check_role's. */
static void
set_token(HbaToken *to, const AuthToken *token, bool database)
{
	if (!database && !token->quoted && token->string[0] == '+')
		set_token_text(to, HBA_TOKEN_GROUP, token->string + 1);
	else if (is_keyword(token, "all"))
		set_token_text(to, HBA_TOKEN_ALL, "");
	else if (database && is_keyword(token, "sameuser"))
		set_token_text(to, HBA_TOKEN_SAMEUSER, "");
	else if (database && (is_keyword(token, "samegroup") || is_keyword(token, "samerole")))
		set_token_text(to, HBA_TOKEN_SAMEROLE, "");
	else if (database && is_keyword(token, "replication"))
		set_token_text(to, HBA_TOKEN_REPLICATION, "");
	else if (is_regex(token))
		set_token_text(to, HBA_TOKEN_REGEX, token->string + 1);	/* behind its slash */
	else
		set_token_text(to, HBA_TOKEN_NAME, token->string);
}

static HbaToken *
convert_tokens(List *tokens, uint32_t *n, bool database)
{
	HbaToken   *converted = palloc0(sizeof(HbaToken) * (list_length(tokens) + 1));
	ListCell   *cell;

	*n = 0;
	foreach(cell, tokens)
		set_token(&converted[(*n)++], lfirst(cell), database);
	return converted;
}

static GatewayHbaLine *
convert_line(const HbaLine *parsed)
{
	GatewayHbaLine *line = palloc0(sizeof(GatewayHbaLine));

	line->type = type_of(parsed->conntype);
	line->method = method_of(parsed->auth_method);
	set_address(line, parsed);
	line->clientcert = parsed->clientcert == clientCertFull ? 2 : parsed->clientcert == clientCertCA ? 1 : 0;
	line->clientname_dn = parsed->clientcertname == clientCertDN;
	line->line_number = parsed->linenumber;
	line->method_name = bytes_str(pstrdup(hba_authname(parsed->auth_method)));
	if (parsed->usermap != NULL)
		line->map = bytes_str(pstrdup(parsed->usermap));
	line->databases = convert_tokens(parsed->databases, &line->ndatabases, true);
	line->users = convert_tokens(parsed->roles, &line->nusers, false);
	return line;
}

/* False if any line is wrong: then none of the file counts, as in the server. */
static bool
parse_lines(List *tokenized, List **lines)
{
	ListCell   *cell;
	bool		good = true;

	foreach(cell, tokenized)
	{
		TokenizedAuthLine *tokens = lfirst(cell);
		HbaLine    *parsed = tokens->err_msg == NULL ? parse_hba_line(tokens, LOG) : NULL;

		if (parsed == NULL)
			good = false;
		else
			*lines = lappend(*lines, convert_line(parsed));
	}
	return good && *lines != NIL;
}

/* Reads the file into `lines`, in the current context. */
static bool
parse_hba_file(List **lines)
{
	List	   *tokenized = NIL;
	bool		good;
	FILE	   *file;

#if PG_VERSION_NUM >= 160000
	file = open_auth_file(HbaFileName, LOG, 0, NULL);
	if (file == NULL)
		return false;
	tokenize_auth_file(HbaFileName, file, &tokenized, LOG, 0);
	good = parse_lines(tokenized, lines);
	free_auth_file(file, 0);
#else
	MemoryContext tokens;

	file = AllocateFile(HbaFileName, "r");
	if (file == NULL)
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("could not open configuration file \"%s\": %m", HbaFileName)));
		return false;
	}
	tokens = tokenize_auth_file(HbaFileName, file, &tokenized, LOG);
	FreeFile(file);
	good = parse_lines(tokenized, lines);
	MemoryContextDelete(tokens);
#endif
	return good;
}

static void
keep_lines(MemoryContext context, List *lines, bool usable)
{
	if (hba_context != NULL)
		MemoryContextDelete(hba_context);
	hba_context = context;
	hba_lines = lines;
	hba_usable = usable;
}

static Bytes
copy_view(Bytes view)
{
	return view.data != NULL ? bytes_str(pnstrdup((const char *) view.data, view.len)) : view;
}

static HbaToken *
copy_tokens(const HbaToken *tokens, uint32 n)
{
	HbaToken   *copy = palloc0(sizeof(HbaToken) * (n + 1));
	uint32		i;

	for (i = 0; i < n; i++)
	{
		copy[i].kind = tokens[i].kind;
		copy[i].text = copy_view(tokens[i].text);
	}
	return copy;
}

static GatewayHbaLine *
copy_line(const GatewayHbaLine *line)
{
	GatewayHbaLine *copy = palloc(sizeof(GatewayHbaLine));

	*copy = *line;
	copy->method_name = copy_view(line->method_name);
	copy->map = copy_view(line->map);
	copy->databases = copy_tokens(line->databases, line->ndatabases);
	copy->users = copy_tokens(line->users, line->nusers);
	return copy;
}

/* A manager that has just started has no lines of its own, but those its predecessor published may be there. */
static void
take_published_lines(void)
{
	MemoryContext context;
	MemoryContext before;
	const GatewayHbaLine *lines;
	List	   *list = NIL;
	size_t		n;
	bool		usable;
	size_t		i;

	lines = directory_hba(published, &n, &usable);
	if (hba_context != NULL || !usable)
		return;
	context = AllocSetContextCreate(TopMemoryContext, "hyperpool hba lines", ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	for (i = 0; i < n; i++)
		list = lappend(list, copy_line(&lines[i]));
	MemoryContextSwitchTo(before);
	keep_lines(context, list, true);
}

static void
read_hba(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "hyperpool hba lines", ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	List	   *lines = NIL;
	bool		good = parse_hba_file(&lines);

	MemoryContextSwitchTo(before);
	hba_stale = false;
	if (good)
	{
		keep_lines(context, lines, true);
		return;
	}
	MemoryContextDelete(context);
	take_published_lines();
	ereport(LOG, (errcode(ERRCODE_CONFIG_FILE_ERROR),
				  hba_usable ? errmsg("hyperpool keeps the former lines of \"%s\"", HbaFileName)
				  : errmsg("hyperpool lets nobody in: \"%s\" could not be read", HbaFileName),
				  errhint("Correct the file and reload the configuration.")));
}

static void
draft_hba(DirectoryDraft *draft)
{
	ListCell   *cell;

	if (hba_stale)
		read_hba();
	foreach(cell, hba_lines)
		directory_draft_hba(draft, lfirst(cell));
	directory_draft_hba_usable(draft, hba_usable);
}

/* ---- the catalogs ---- */

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

/* In texts like password=secret. */
static void
set_credential_options(DirectoryCredential *credential, char **texts, int n)
{
	for (int i = 0; i < n; i++)
	{
		char	   *equals = strchr(texts[i], '=');

		if (equals == NULL)
			continue;
		*equals = '\0';
		set_credential_option(credential, texts[i], equals + 1);
	}
}

static void
take_credential(HeapTuple row, TupleDesc columns, DirectoryDraft *draft, const Drafted *drafted)
{
	Form_pg_user_mapping mapping = (Form_pg_user_mapping) GETSTRUCT(row);
	/* what does not say otherwise needs its password: a superuser alone may write the option */
	DirectoryCredential credential = {.origin = place_of(drafted->origins, mapping->umserver), .role = mapping->umuser, .require_password = true};
	bool		null;
	Datum		options = heap_getattr(row, Anum_pg_user_mapping_umoptions, columns, &null);
	ArrayType  *array;
	Datum	   *elements;
	char	  **texts;
	Size	   *lengths;
	int			n;

	if (credential.origin < 0 || null)
		return;
	array = DatumGetArrayTypePCopy(options);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	texts = palloc(sizeof(char *) * (n + 1));
	lengths = palloc(sizeof(Size) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		texts[i] = TextDatumGetCString(elements[i]);
		lengths[i] = strlen(texts[i]);
	}
	set_credential_options(&credential, texts, n);
	/* whoever owns the origin may turn it to another host, this one for instance, that trusts the server */
	if (!list_member_oid(drafted->of_superusers, mapping->umserver))
		credential.require_password = true;
	if (credential.user != NULL)
		directory_draft_credential(draft, &credential);
	for (int i = 0; i < n; i++)
		explicit_bzero(texts[i], lengths[i]);
	explicit_bzero(array, VARSIZE(array));
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
	directory_draft_role(draft, &role);
	if (verifier != NULL)
		explicit_bzero(verifier, strlen(verifier));
}

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

/* ---- a round: look, publish, tell ---- */

static void
draft_all(DirectoryDraft *draft)
{
	Drafted		drafted = {NIL, NIL};

	draft_hba(draft);
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

/* Numbers of a slot belong to its origin: a new one begins at zero, and what a dropped one has left is given back. */
static void
settle_counters(Directory *was, Directory *now)
{
	int			i;

	for (i = 0; i < directory_origin_count(was); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(was, i);

		if (directory_origin_by_oid(now, origin->oid) == NULL)
			pool_rows_forget_origin(origin->oid);
	}
	for (i = 0; i < directory_origin_count(now); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(now, i);

		if (directory_origin_by_oid(was, origin->oid) == NULL)
			counters_reset(origin->slot);
	}
}

static void
tell_all(void)
{
	cancel_note_all(NOTE_DIRECTORY, 0);
	cancel_wake_scout();
}

static bool
look_and_publish(void)
{
	MemoryContext round;
	DirectoryDraft *draft;
	bool		changed;

	StartTransactionCommand();
	round = CurrentMemoryContext;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, "reading origins, roles and pg_hba.conf");
	draft = directory_draft();
	PG_TRY();
	{
		draft_all(draft);
		changed = directory_publish(draft);
	}
	PG_FINALLY();
	{
		directory_wipe_draft(draft);
	}
	PG_END_TRY();
	SPI_finish();
	PopActiveSnapshot();
	MemoryContextSwitchTo(round);
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return changed;
}

static void
after_publication(void)
{
	Directory  *was = published;

	published = NULL;
	published = directory_refresh(NULL);
	settle_counters(was, published);
	directory_forget(was);
	tell_all();
}

/* One look; false: it failed, the log says why, what was published stays. */
static bool
run_round(void)
{
	MemoryContext before = CurrentMemoryContext;
	volatile bool good = false;
	uint64		ticket = directory_publication_asked();

	catalogs_changed = false;
	in_round = true;
	PG_TRY();
	{
		if (look_and_publish())
			after_publication();
		directory_publication_done(ticket);
		good = true;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(before);
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	PG_END_TRY();
	in_round = false;
	MemoryContextSwitchTo(before);
	return good;
}

/* ---- the loop ---- */

static void
reload_if_asked(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	hba_stale = true;
}

/* An empty transaction reads the queue of invalidations; it holds nothing afterwards. */
static void
hear_of_changes(void)
{
	StartTransactionCommand();
	CommitTransactionCommand();
}

static bool
must_look(int64 last, uint64 served)
{
	if (catalogs_changed || hba_stale || directory_publication_asked() != served)
		return true;
	/* not by the time of day, which may be set back */
	return versions_clock() - last >= hyperpool_directory_refresh * INT64CONST(1000000);
}

static void
manager_loop(void)
{
	int64		last = 0;
	long		pause = FIRST_RETRY_MS;
	uint64		served = 0;

	for (;;)
	{
		leave_if_asked();
		reload_if_asked();
		hear_of_changes();
		if (must_look(last, served))
		{
			uint64		asked = directory_publication_asked();

			if (!run_round())
			{
				rest(pause);
				pause = Min(pause * 2, LAST_RETRY_MS);
				catalogs_changed = true;
				continue;
			}
			pause = FIRST_RETRY_MS;
			last = versions_clock();
			served = asked;
		}
		rest(LOOK_MS);
	}
}

void
hyperpool_manager_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	before_shmem_exit(on_exit_callback, (Datum) 0);
	BackgroundWorkerUnblockSignals();
	connect_database();
	watch_catalogs();
	cancel_set_manager_latch(MyLatch);
	published = directory_refresh(NULL);
	directory_set_manager(true);
	store_prefault();
	manager_loop();
}
