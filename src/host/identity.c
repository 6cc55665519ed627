/*
 * host/identity.c - may this client in?
 *
 * Answers with PostgreSQL's rules in PostgreSQL's order: hba line, client certificate, method, password exchange,
 * then role, origin, right, credential. The password work is PostgreSQL's own code (pg_be_scram_mech,
 * md5_crypt_verify) over the directory's verifiers.
 *
 * Owns one memory context a login and one resource owner a process. The directory may be replaced while the client
 * thinks, so whatever is needed later is copied: line and verifier at the beginning; what the role may do, anew with each step.
 * Every step runs guarded: an ERROR of PostgreSQL's code becomes a refusal of this client.
 * Never: waits, touches a catalog, tells the client what the server would not tell it, logs a secret.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "commands/user.h"
#include "lib/stringinfo.h"
#include "libpq/crypt.h"
#include "libpq/libpq-be.h"
#include "libpq/sasl.h"
#include "libpq/scram.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "host/counters.h"
#include "host/gucs.h"
#include "host/identity.h"
#include "host/tls.h"

/* Codes of the Authentication message (protocol documentation, "Message Formats"). */
#define AUTH_OK				0
#define AUTH_MD5			5
#define AUTH_SASL			10
#define AUTH_SASL_CONTINUE	11
#define AUTH_SASL_FINAL		12

/* The server's bounds, the length word included. */
#define SASL_MESSAGE_MAX	1024
#define PASSWORD_MESSAGE_MAX	65535

#define MD5_SALT_LEN		4
#define CERTIFICATE_NAME_MAX	4096

typedef enum IdentityStage
{
	STAGE_OVER,					/* a verdict was given: nothing more may come */
	STAGE_MD5,
	STAGE_SASL_FIRST,			/* a SASLInitialResponse is due */
	STAGE_SASL_NEXT
} IdentityStage;

struct Identity
{
	MemoryContext memory;		/* this very struct lies in it */
	IdentityStage stage;
	Port	   *port;			/* what PostgreSQL's code wants to know of a client, no more */
	void	   *ssl;
	char	   *user;
	char	   *database;
	char	   *who;			/* host, user, database, encryption: as the server says it */

	/* of the hba line */
	HbaMethod	method;
	int			line_number;
	bool		name_must_match;	/* the certificate must name the user */
	bool		name_is_dn;

	/* of the role */
	Oid			role;			/* InvalidOid: none */
	bool		can_login;
	int			connection_limit;
	char	   *verifier;		/* NULL: doomed, whatever the client sends */
	const char *doom;			/* why, for the log */

	/* of the origin */
	bool		has_origin;
	bool		may_use;
	bool		has_credential;
	bool		allow_trust;

	uint8		salt[MD5_SALT_LEN];
	void	   *sasl;			/* pg_be_scram_mech's state */
};

/* What one guarded step works on. */
typedef struct IdentityTask
{
	Directory  *directory;		/* as it is now */
	const IdentityClient *client;	/* first step only */
	Bytes		body;			/* further steps */
	ByteBuffer *out;
} IdentityTask;

typedef IdentityVerdict (*IdentityWork) (Identity *identity, const IdentityTask *task);

static ResourceOwner identity_owner = NULL;

/* ---- refusals ---- */

static int
sqlstate_number(const char *s)
{
	return MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4]);
}

/* The line in the server's log; detail is what the client is not told, or NULL. */
static void
log_refusal(const Identity *identity, const char *sqlstate, const char *primary, const char *detail)
{
	ereport(LOG,
			(errcode(sqlstate_number(sqlstate)),
			 errmsg("hyperpool: login refused: %s", primary),
			 detail != NULL ? errdetail_log("%s", detail) : 0,
			 errcontext("login from %s%s", identity->who,
						identity->line_number > 0 ? psprintf(", line %d of pg_hba.conf", identity->line_number) : "")));
}

/* A refusal in the words of the table. */
static IdentityVerdict
refuse(Identity *identity, ByteBuffer *out, Refusal refusal, const char *arg, const char *log_detail)
{
	const RefusalRow *row = refusal_row(refusal);
	MemoryContext caller = MemoryContextSwitchTo(identity->memory);

	identity->stage = STAGE_OVER;
	message_put_refusal(out, "FATAL", refusal, arg);
	log_refusal(identity, row->sqlstate, psprintf(row->primary, arg != NULL ? arg : ""), log_detail);
	MemoryContextSwitchTo(caller);
	return IDENTITY_REFUSED;
}

/* A refusal in the words of the server, where clients know them by heart. */
static IdentityVerdict
refuse_saying(Identity *identity, ByteBuffer *out, const char *sqlstate, const char *primary, const char *hint)
{
	identity->stage = STAGE_OVER;
	message_put_error(out, ANS_ERROR, "FATAL", sqlstate, primary, NULL, hint);
	log_refusal(identity, sqlstate, primary, NULL);
	return IDENTITY_REFUSED;
}

/* The one answer to every failed proof, whatever failed. */
static IdentityVerdict
refuse_proof(Identity *identity, ByteBuffer *out, const char *log_detail)
{
	Refusal		refusal = identity->method == HBA_METHOD_CERT ? REFUSE_CERTIFICATE : REFUSE_AUTHENTICATION;

	(void) refuse(identity, out, refusal, identity->user, log_detail);
	return IDENTITY_FAILED;
}

static IdentityVerdict
refuse_malformed(Identity *identity, ByteBuffer *out, const char *what)
{
	return refuse(identity, out, REFUSE_PROTOCOL_VIOLATION, what, NULL);
}

/* ---- guard ---- */

/*
 * The hash and HMAC code of PostgreSQL remembers what it holds in CurrentResourceOwner, without looking whether there
 * is one. After an ERROR what it held is released; since 17 an owner cannot be used again then.
 */
static void
renew_owner(void)
{
	ResourceOwner old = identity_owner;

	identity_owner = NULL;
	CurrentResourceOwner = old;
	ResourceOwnerRelease(old, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
	ResourceOwnerRelease(old, RESOURCE_RELEASE_LOCKS, false, true);
	ResourceOwnerRelease(old, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
	CurrentResourceOwner = NULL;
	ResourceOwnerDelete(old);
	identity_init();
}

/* An ERROR of PostgreSQL's code: this client is told as the server would tell it. */
static IdentityVerdict
refuse_error(Identity *identity, ByteBuffer *out)
{
	ErrorData  *error;
	const char *sqlstate;

	MemoryContextSwitchTo(identity->memory);
	error = CopyErrorData();
	FlushErrorState();
	renew_owner();

	identity->stage = STAGE_OVER;
	sqlstate = unpack_sql_state(error->sqlerrcode);
	message_put_error(out, ANS_ERROR, "FATAL", sqlstate, error->message != NULL ? error->message : "login failed",
					  error->detail, error->hint);
	log_refusal(identity, sqlstate, error->message != NULL ? error->message : "login failed", error->detail);
	return IDENTITY_REFUSED;
}

/*
 * Since 18 a good SCRAM exchange leaves its keys in MyProcPort, which a background worker does not have. It is lent
 * for the length of the step.
 */
static void
lend_port(Port *port)
{
#if PG_VERSION_NUM >= 180000
	MyProcPort = port;
#endif
}

static IdentityVerdict
run_guarded(Identity *identity, IdentityWork work, const IdentityTask *task)
{
	MemoryContext caller = MemoryContextSwitchTo(identity->memory);
	ResourceOwner owner = CurrentResourceOwner;
	Port	   *port = MyProcPort;
	volatile IdentityVerdict verdict = IDENTITY_REFUSED;

	identity_init();			/* it may have failed after an ERROR */
	CurrentResourceOwner = identity_owner;
	PG_TRY();
	{
		lend_port(identity->port);
		verdict = work(identity, task);
		lend_port(port);
	}
	PG_CATCH();
	{
		lend_port(port);
		verdict = refuse_error(identity, task->out);
	}
	PG_END_TRY();
	CurrentResourceOwner = owner;
	MemoryContextSwitchTo(caller);
	return verdict;
}

/* A copy with a NUL behind its last byte; the bytes may hold others (SASL messages may). */
static char *
copy_terminated(Bytes view)
{
	char	   *copy = palloc(view.len + 1);

	if (view.len > 0)
		memcpy(copy, view.data, view.len);
	copy[view.len] = '\0';
	return copy;
}

/* ---- after the proof ---- */

/* A client may think for as long as authentication_timeout, and the role be gone by then. */
static void
remember_rights(Identity *identity, const Directory *directory)
{
	const DirectoryRole *role = directory_role_by_oid(directory, identity->role);
	const DirectoryOrigin *origin = directory_origin(directory, bytes_str(identity->database));

	identity->role = role != NULL ? role->oid : InvalidOid;
	identity->can_login = role != NULL && role->can_login;
	identity->connection_limit = role != NULL ? role->connection_limit : -1;
	identity->has_origin = origin != NULL;
	identity->allow_trust = origin != NULL && origin->allow_trust;
	identity->may_use = role != NULL && directory_may_use(directory, role->oid, origin);
	identity->has_credential = role != NULL && directory_credential(directory, origin, role->oid) != NULL;
}

static const char *
address_text(const HbaClient *client, char *buf, size_t size)
{
	if (client->local)
		return "[local]";
	if (inet_ntop(client->family == 6 ? AF_INET6 : AF_INET, client->addr, buf, size) == NULL)
		return "???";
	return buf;
}

static bool
role_is_full(const Identity *identity)
{
	return identity->connection_limit >= 0 && client_rows_of_role(identity->role) >= identity->connection_limit;
}

static void
log_authorized(const Identity *identity)
{
	if (!hyperpool_log_connections)
		return;
	if (identity->ssl != NULL)
		ereport(LOG,
				(errmsg("hyperpool: connection authorized: user=%s origin=%s SSL enabled (%s)",
						identity->user, identity->database, tls_describe(identity->ssl))));
	else
		ereport(LOG,
				(errmsg("hyperpool: connection authorized: user=%s origin=%s",
						identity->user, identity->database)));
}

/*
 * The client is who it says. As in the server it is told so first; what the role may do comes after, and only now
 * is it told whether the origin exists.
 */
static IdentityVerdict
admit(Identity *identity, ByteBuffer *out)
{
	message_put_authentication(out, AUTH_OK, bytes_of("", 0));
	if (!OidIsValid(identity->role))
		return refuse_saying(identity, out, "28000", psprintf("role \"%s\" does not exist", identity->user), NULL);
	if (!identity->can_login)
		return refuse(identity, out, REFUSE_LOGIN_DISABLED, identity->user, NULL);
	if (role_is_full(identity))
		return refuse(identity, out, REFUSE_ROLE_LIMIT, identity->user, NULL);
	if (!identity->has_origin)
		return refuse(identity, out, REFUSE_NO_ORIGIN, identity->database, NULL);
	if (!identity->may_use)
		return refuse(identity, out, REFUSE_NO_RIGHT, identity->database, NULL);
	if (!identity->has_credential)
		return refuse(identity, out, REFUSE_NO_CREDENTIAL, identity->database, NULL);
	identity->stage = STAGE_OVER;
	log_authorized(identity);
	return IDENTITY_IN;
}

/* Does the certificate name the user? Only asked where the line wants it (cert, clientcert=verify-full). */
static IdentityVerdict
admit_named(Identity *identity, ByteBuffer *out)
{
	char	   *name;

	if (!identity->name_must_match)
		return admit(identity, out);
	name = palloc(CERTIFICATE_NAME_MAX);
	if (!tls_client_name(identity->ssl, identity->name_is_dn, name, CERTIFICATE_NAME_MAX))
		return refuse_proof(identity, out, "The client certificate contains no user name.");
	if (strcmp(name, identity->user) != 0)
		return refuse_proof(identity, out, identity->name_is_dn ?
							"The client certificate's distinguished name is not the user name." :
							"The client certificate's common name is not the user name.");
	return admit(identity, out);
}

/* ---- passwords ---- */

static IdentityVerdict
ask_md5(Identity *identity, ByteBuffer *out)
{
	if (!pg_strong_random(identity->salt, MD5_SALT_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random MD5 salt")));
	identity->stage = STAGE_MD5;
	message_put_authentication(out, AUTH_MD5, bytes_of(identity->salt, MD5_SALT_LEN));
	return IDENTITY_CONTINUE;
}

/* The list of mechanisms: names, each with its NUL, then an empty one. */
static IdentityVerdict
ask_sasl(Identity *identity, ByteBuffer *out)
{
	StringInfoData mechanisms;

	initStringInfo(&mechanisms);
	pg_be_scram_mech.get_mechanisms(identity->port, &mechanisms);
	appendStringInfoChar(&mechanisms, '\0');
	identity->stage = STAGE_SASL_FIRST;
	message_put_authentication(out, AUTH_SASL, bytes_of(mechanisms.data, mechanisms.len));
	return IDENTITY_CONTINUE;
}

/*
 * A line that says md5 means: what the verifier is made for. Where there is no verifier, the client sees what a new
 * role's would ask, so that it does not learn which names exist.
 */
static IdentityVerdict
ask_password(Identity *identity, ByteBuffer *out)
{
	PasswordType type = identity->verifier != NULL ?
	get_password_type(identity->verifier) : (PasswordType) Password_encryption;

	if (identity->method == HBA_METHOD_MD5 && type == PASSWORD_TYPE_MD5)
		return ask_md5(identity, out);
	return ask_sasl(identity, out);
}

/* A PasswordMessage holds one string. */
static IdentityVerdict
take_md5(Identity *identity, Bytes body, ByteBuffer *out)
{
	const char *detail = identity->doom;
	const char *answer = (const char *) body.data;

	if (body.len == 0 || memchr(body.data, '\0', body.len) != body.data + body.len - 1)
		return refuse_malformed(identity, out, "invalid password packet size");
	if (body.len == 1)
		return refuse_saying(identity, out, "28P01", "empty password returned by client", NULL);
	/* the salt is char * before 18 and uint8 * from then on */
	if (identity->verifier != NULL &&
		md5_crypt_verify(identity->user, identity->verifier, answer, (const void *) identity->salt,
						 MD5_SALT_LEN, &detail) == STATUS_OK)
		return admit_named(identity, out);
	return refuse_proof(identity, out, detail);
}

/* One message of the exchange; input is NULL when the client sent no initial response. */
static IdentityVerdict
take_sasl(Identity *identity, const char *input, int len, ByteBuffer *out)
{
	char	   *answer = NULL;
	int			answer_len = 0;
	const char *detail = identity->doom;
	int			result;

	result = pg_be_scram_mech.exchange(identity->sasl, input, len, &answer, &answer_len, &detail);
	if (answer != NULL && answer_len >= 0 && result != PG_SASL_EXCHANGE_FAILURE)
		message_put_authentication(out, result == PG_SASL_EXCHANGE_SUCCESS ? AUTH_SASL_FINAL : AUTH_SASL_CONTINUE,
								   bytes_of(answer, answer_len));
	if (result == PG_SASL_EXCHANGE_CONTINUE)
	{
		identity->stage = STAGE_SASL_NEXT;
		return IDENTITY_CONTINUE;
	}
	/* a doomed exchange cannot succeed; were it to, it still would not let anybody in */
	if (result == PG_SASL_EXCHANGE_SUCCESS && identity->verifier != NULL)
		return admit_named(identity, out);
	return refuse_proof(identity, out, detail);
}

/* SASLInitialResponse: the mechanism, a length that may be -1, the first message. */
static IdentityVerdict
take_sasl_first(Identity *identity, Bytes body, ByteBuffer *out)
{
	ByteReader	r = reader_of(body);
	Bytes		mechanism = read_cstr(&r);
	uint32_t	len = read_u32(&r);
	bool		absent = len == PG_UINT32_MAX;
	Bytes		first = absent ? bytes_of("", 0) : read_bytes(&r, len);

	if (r.bad || reader_left(&r) != 0)
		return refuse_malformed(identity, out, "invalid SASL response");
	identity->sasl = pg_be_scram_mech.init(identity->port, copy_terminated(mechanism), identity->verifier);
	return take_sasl(identity, absent ? NULL : copy_terminated(first), absent ? -1 : (int) first.len, out);
}

static IdentityVerdict
take_message(Identity *identity, const IdentityTask *task)
{
	size_t		limit = identity->stage == STAGE_MD5 ? PASSWORD_MESSAGE_MAX : SASL_MESSAGE_MAX;

	remember_rights(identity, task->directory);
	if (identity->stage != STAGE_OVER && task->body.len > limit - 4)
		return refuse_malformed(identity, task->out, "invalid message length");
	switch (identity->stage)
	{
		case STAGE_MD5:
			return take_md5(identity, task->body, task->out);
		case STAGE_SASL_FIRST:
			return take_sasl_first(identity, task->body, task->out);
		case STAGE_SASL_NEXT:
			return take_sasl(identity, copy_terminated(task->body), (int) task->body.len, task->out);
		case STAGE_OVER:
			break;
	}
	return refuse_malformed(identity, task->out, "unexpected password message");
}

/* ---- the first step ---- */

/* What get_role_password() looks at: none of these is told to the client. */
static void
remember_verifier(Identity *identity, const DirectoryRole *role)
{
	if (role == NULL)
		identity->doom = "The role does not exist.";
	else if (role->verifier == NULL)
		identity->doom = "The user has no password assigned.";
	else if (role->valid_until < GetCurrentTimestamp())
		identity->doom = "The user has an expired password.";
	else
		identity->verifier = pstrdup(role->verifier);
}

static void
remember_role(Identity *identity, const Directory *directory)
{
	const DirectoryRole *role = directory_role(directory, bytes_str(identity->user));

	if (role != NULL)
		identity->role = role->oid;
	remember_verifier(identity, role);
	remember_rights(identity, directory);
}

static void
remember_client(Identity *identity, const IdentityClient *client)
{
	char		address[INET6_ADDRSTRLEN];

	identity->ssl = client->ssl;
	identity->user = copy_terminated(client->hba.user);
	identity->database = copy_terminated(client->hba.database);
	identity->who = psprintf("host \"%s\", user \"%s\", database \"%s\", %s",
							 address_text(&client->hba, address, sizeof(address)),
							 identity->user, identity->database,
							 client->hba.tls ? "SSL encryption" : "no encryption");
	identity->port->user_name = identity->user;
	identity->port->database_name = identity->database;
	identity->port->sock = PGINVALID_SOCKET;
	identity->port->ssl_in_use = client->ssl != NULL;
	identity->port->ssl = client->ssl;
}

/* trust asks for nothing, so an origin must have said that it agrees. */
static IdentityVerdict
admit_trusted(Identity *identity, ByteBuffer *out)
{
	if (identity->has_origin && identity->allow_trust)
		return admit_named(identity, out);
	return refuse_saying(identity, out, "28000",
						 psprintf("trust authentication is not allowed for origin \"%s\"", identity->database),
						 "Allow it with hyperpool.alter_origin(..., allow_trust => true), or use another method in pg_hba.conf.");
}

/* A line of method cert, or with clientcert=, wants a certificate; whose it is, is looked at last. */
static IdentityVerdict
check_certificate(Identity *identity, ByteBuffer *out)
{
	if (!tls_has_client_ca())
		return refuse_saying(identity, out, "F0000",
							 "client certificates can only be checked if a root certificate store is available",
							 "Set ssl_ca_file and reload the server.");
	if (!tls_client_verified(identity->ssl))
		return refuse_saying(identity, out, "28000", "connection requires a valid client certificate", NULL);
	return IDENTITY_CONTINUE;
}

static IdentityVerdict
begin_method(Identity *identity, const GatewayHbaLine *line, ByteBuffer *out)
{
	switch (identity->method)
	{
		case HBA_METHOD_REJECT:
			return refuse(identity, out, REFUSE_HBA_REJECT, identity->who, NULL);
		case HBA_METHOD_TRUST:
			return admit_trusted(identity, out);
		case HBA_METHOD_MD5:
		case HBA_METHOD_SCRAM:
			return ask_password(identity, out);
		case HBA_METHOD_CERT:
			if (line->map.len == 0)
				return admit_named(identity, out);
			return refuse(identity, out, REFUSE_HBA_METHOD, "cert map=", "User name maps are not done.");
		case HBA_METHOD_OTHER:
			break;
	}
	return refuse(identity, out, REFUSE_HBA_METHOD, copy_terminated(line->method_name), NULL);
}

static IdentityVerdict
begin_line(Identity *identity, const GatewayHbaLine *line, ByteBuffer *out)
{
	bool		cert = line->method == HBA_METHOD_CERT;

	identity->line_number = line->line_number;
	identity->method = (HbaMethod) line->method;
	identity->name_must_match = cert || line->clientcert == 2;
	identity->name_is_dn = line->clientname_dn;
	if ((cert || line->clientcert != 0) && check_certificate(identity, out) == IDENTITY_REFUSED)
		return IDENTITY_REFUSED;
	return begin_method(identity, line, out);
}

static IdentityVerdict
begin(Identity *identity, const IdentityTask *task)
{
	const GatewayHbaLine *lines;
	const GatewayHbaLine *line;
	size_t		n = 0;
	bool		usable = false;
	bool		undecidable = false;

	remember_client(identity, task->client);
	if (task->directory == NULL)
		return refuse(identity, task->out, REFUSE_STARTING, NULL, NULL);
	remember_role(identity, task->directory);

	lines = directory_hba(task->directory, &n, &usable);
	if (!usable)
		return refuse(identity, task->out, REFUSE_HBA_NO_ENTRY, identity->who, "pg_hba.conf could not be read.");
	line = hba_match(lines, n, &task->client->hba, directory_hba_world(task->directory), &undecidable);
	if (line == NULL)
		return refuse(identity, task->out, REFUSE_HBA_NO_ENTRY, identity->who, NULL);
	if (!undecidable)
		return begin_line(identity, line, task->out);
	identity->line_number = line->line_number;
	return refuse(identity, task->out, REFUSE_HBA_REJECT, identity->who,
				  "Whether the line matches cannot be decided here: host names are not looked up.");
}

/* ---- the contract ---- */

void
identity_init(void)
{
	if (identity_owner == NULL)
		identity_owner = ResourceOwnerCreate(NULL, "hyperpool login");
}

IdentityVerdict
identity_begin(Directory *directory, const IdentityClient *client, Identity **identity, ByteBuffer *out)
{
	IdentityTask task = {.directory = directory, .client = client, .out = out};
	MemoryContext memory = AllocSetContextCreate(TopMemoryContext, "hyperpool login", ALLOCSET_SMALL_SIZES);
	Identity   *made = MemoryContextAllocExtended(memory, sizeof(Identity), MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);
	Port	   *port = MemoryContextAllocExtended(memory, sizeof(Port), MCXT_ALLOC_NO_OOM | MCXT_ALLOC_ZERO);

	*identity = NULL;
	if (made == NULL || port == NULL)
	{
		MemoryContextDelete(memory);
		message_put_refusal(out, "FATAL", REFUSE_MEMORY, NULL);
		return IDENTITY_REFUSED;
	}
	made->memory = memory;
	made->port = port;
	made->connection_limit = -1;
	made->who = "an unknown client";
	*identity = made;
	return run_guarded(made, begin, &task);
}

IdentityVerdict
identity_step(Directory *directory, Identity *identity, Bytes body, ByteBuffer *out)
{
	IdentityTask task = {.directory = directory, .body = body, .out = out};

	return run_guarded(identity, take_message, &task);
}

Oid
identity_role(const Identity *identity)
{
	return identity->role;
}

void
identity_end(Identity *identity)
{
	if (identity == NULL)
		return;
	if (identity->verifier != NULL)
		explicit_bzero(identity->verifier, strlen(identity->verifier));
	explicit_bzero(identity->port, sizeof(Port));	/* since 18 it holds the client's SCRAM keys */
	MemoryContextDelete(identity->memory);
}
