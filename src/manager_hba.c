/*
 * manager_hba.c - the manager's reading of pg_hba.conf, by PostgreSQL's own parser.
 *
 * The file counts as a whole, as in the server: with a line that is wrong the former lines stay in force, and a manager that has
 * none takes those its predecessor published.
 *
 * Owns: the parsed lines between two reloads, as host/directory publishes them. Never: calls load_hba() (the parsed lines of a
 * forked process are gone with the postmaster's context); decides who may in (host/identity).
 */
#include "postgres.h"

#include <netinet/in.h>

#include "libpq/hba.h"
#include "storage/fd.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "manager_internal.h"

static bool must_read = true;	/* at start and at each reload, as the server does */
static MemoryContext hba_context = NULL;
static List *hba_lines = NIL;	/* of GatewayHbaLine, in hba_context */
static bool hba_usable = false;

/* ---- what PostgreSQL parsed, in our words ---- */

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

/* ---- the file ---- */

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
parse_file(List **lines)
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

/* ---- the lines that are in force ---- */

static void
keep_lines(MemoryContext context, List *lines, bool usable)
{
	if (hba_context != NULL)
		MemoryContextDelete(hba_context);
	hba_context = context;
	hba_lines = lines;
	hba_usable = usable;
}

/* A manager that has just started has no lines of its own, but those its predecessor published may be there. */
static void
take_published_lines(const Directory *published)
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
		list = lappend(list, directory_copy_hba(&lines[i]));
	MemoryContextSwitchTo(before);
	keep_lines(context, list, true);
}

static void
read_file(const Directory *published)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "hyperpool hba lines", ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	List	   *lines = NIL;
	bool		good = parse_file(&lines);

	MemoryContextSwitchTo(before);
	must_read = false;
	if (good)
	{
		keep_lines(context, lines, true);
		return;
	}
	MemoryContextDelete(context);
	take_published_lines(published);
	ereport(LOG, (errcode(ERRCODE_CONFIG_FILE_ERROR),
				  hba_usable ? errmsg("hyperpool keeps the former lines of \"%s\"", HbaFileName)
				  : errmsg("hyperpool lets nobody in: \"%s\" could not be read", HbaFileName),
				  errhint("Correct the file and reload the configuration.")));
}

void
manager_hba_draft(DirectoryDraft *draft, const Directory *published)
{
	ListCell   *cell;

	if (must_read)
		read_file(published);
	foreach(cell, hba_lines)
		directory_draft_hba(draft, lfirst(cell));
	directory_draft_hba_usable(draft, hba_usable);
}

void
manager_hba_reload(void)
{
	must_read = true;
}

bool
manager_hba_must_read(void)
{
	return must_read;
}
