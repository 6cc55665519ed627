/*
 * core/message.h - what does this message say?  Views in, bytes out.              floor 2
 *
 * Owns: the message types of protocol 3, the readers and writers of their
 * bodies, and the one table of refusals (every error this gateway makes itself).
 * Never: keeps a view, decides what to do about a message.
 * Source: PostgreSQL documentation, "Message Formats".
 */
#ifndef HYPERPOOL_CORE_MESSAGE_H
#define HYPERPOOL_CORE_MESSAGE_H

#include "core/bytes.h"
#include "core/frame.h"

/* From the client. */
enum
{
	MSG_QUERY = 'Q', MSG_PARSE = 'P', MSG_BIND = 'B', MSG_DESCRIBE = 'D', MSG_EXECUTE = 'E',
	MSG_CLOSE = 'C', MSG_FLUSH = 'H', MSG_SYNC = 'S', MSG_FUNCTION_CALL = 'F', MSG_TERMINATE = 'X',
	MSG_COPY_DATA = 'd', MSG_COPY_DONE = 'c', MSG_COPY_FAIL = 'f', MSG_PASSWORD = 'p'
};

/* From the origin (CopyData and CopyDone are the same letters). */
enum
{
	ANS_AUTHENTICATION = 'R', ANS_PARAMETER_STATUS = 'S', ANS_BACKEND_KEY = 'K', ANS_READY = 'Z',
	ANS_NEGOTIATE = 'v', ANS_ROW_DESCRIPTION = 'T', ANS_DATA_ROW = 'D', ANS_COMMAND_COMPLETE = 'C',
	ANS_EMPTY_QUERY = 'I', ANS_ERROR = 'E', ANS_NOTICE = 'N', ANS_NOTIFICATION = 'A',
	ANS_PARSE_COMPLETE = '1', ANS_BIND_COMPLETE = '2', ANS_CLOSE_COMPLETE = '3', ANS_NO_DATA = 'n',
	ANS_PARAMETER_DESCRIPTION = 't', ANS_PORTAL_SUSPENDED = 's', ANS_FUNCTION_RESULT = 'V',
	ANS_COPY_IN = 'G', ANS_COPY_OUT = 'H', ANS_COPY_BOTH = 'W'
};

/* Transaction status of ReadyForQuery. */
enum
{
	TX_IDLE = 'I', TX_OPEN = 'T', TX_FAILED = 'E'
};

/* First packet codes. */
#define STARTUP_PROTOCOL_3_0	0x00030000u
#define STARTUP_PROTOCOL_3_2	0x00030002u
#define STARTUP_CANCEL			80877102u
#define STARTUP_SSL				80877103u
#define STARTUP_GSSENC			80877104u

/* ---- readers: false = malformed; views point into the body ---- */

typedef struct ParseMessage
{
	Bytes		name;
	Bytes		text;
	Bytes		types;			/* 4 bytes a parameter type OID, network order, as sent */
} ParseMessage;

typedef struct BindMessage
{
	Bytes		portal;
	Bytes		statement;
	Bytes		rest;			/* from the parameter format count on; may be cut for a FRAME_PART */
} BindMessage;

typedef struct NamedMessage		/* Describe and Close */
{
	uint8_t		what;			/* 'S' or 'P' */
	Bytes		name;
} NamedMessage;

typedef struct ExecuteMessage
{
	Bytes		portal;
	uint32_t	max_rows;
} ExecuteMessage;

extern bool message_read_query(Bytes body, Bytes *text);
extern bool message_read_parse(Bytes body, ParseMessage *out);
extern bool message_read_bind(Bytes body, BindMessage *out);	/* body may be the front of a longer one */
extern bool message_read_named(Bytes body, NamedMessage *out);
extern bool message_read_execute(Bytes body, ExecuteMessage *out);
extern bool message_read_parameter_status(Bytes body, Bytes *name, Bytes *value);
/*
 * What a client must know of a RowDescription to read its rows: names, types, sizes and modifiers, but not which table a column comes from
 * (a table made anew has another OID, and rows that look the same). Of a malformed body: of its bytes.
 */
extern Digest128 message_row_shape(Bytes body);
/* Field `code` ('S','V','C','M','D','H' …) of an ErrorResponse or NoticeResponse; len 0 if absent. */
extern Bytes message_error_field(Bytes body, uint8_t code);
/* True for an ErrorResponse whose severity ends the connection (FATAL, PANIC; 'V' field, else 'S'). */
extern bool message_error_is_fatal(Bytes body);

/* ---- writers: append whole messages ---- */

extern void message_put_empty(ByteBuffer *b, uint8_t type);	/* a message without body */
extern void message_put(ByteBuffer *b, uint8_t type, Bytes body);
extern void message_put_ready(ByteBuffer *b, uint8_t status);
extern void message_put_parameter_status(ByteBuffer *b, Bytes name, Bytes value);
extern void message_put_backend_key(ByteBuffer *b, uint32_t pid, Bytes secret);
extern void message_put_authentication(ByteBuffer *b, uint32_t code, Bytes rest);
extern void message_put_negotiate(ByteBuffer *b, uint32_t newest_minor, const Bytes *options, size_t noptions);
extern void message_put_query(ByteBuffer *b, Bytes text);
extern void message_put_parse(ByteBuffer *b, Bytes name, Bytes text, Bytes types);
/* A Bind of text parameters with text results. A NULL data pointer is an SQL NULL. */
extern void message_put_bind_text(ByteBuffer *b, Bytes portal, Bytes statement, const Bytes *values, size_t n);
extern void message_put_named(ByteBuffer *b, uint8_t type, uint8_t what, Bytes name);	/* Describe, Close */
extern void message_put_execute(ByteBuffer *b, Bytes portal, uint32_t max_rows);
/* type, new length, then the names: the head of a Bind whose rest_len bytes of rest follow by other means. */
extern void message_put_bind_head(ByteBuffer *b, Bytes portal, Bytes statement, size_t rest_len);
/* ErrorResponse or NoticeResponse (type); detail and hint may be NULL. */
extern void message_put_error(ByteBuffer *b, uint8_t type, const char *severity, const char *sqlstate,
							  const char *primary, const char *detail, const char *hint);
/* A copy of an ErrorResponse body with `from` replaced by `to` in its 'M' field (prepared statement names). */
extern void message_put_error_renamed(ByteBuffer *b, Bytes body, Bytes from, Bytes to);
/* A copy of an ErrorResponse body with its severity fields ('S' and 'V') replaced. */
extern void message_put_error_as(ByteBuffer *b, Bytes body, const char *severity);

/*
 * Refusals: every error the gateway itself makes is a row of one table
 * (message.c): SQLSTATE, primary, detail, hint. `%s` in primary is the one argument.
 */
typedef enum Refusal
{
	REFUSE_PROTOCOL_VIOLATION,	/* 08P01 invalid message format; arg: what was wrong */
	REFUSE_MESSAGE_TYPE,		/* 08P01 invalid frontend message type %s */
	REFUSE_PROTOCOL_VERSION,	/* 0A000 unsupported frontend protocol %s */
	REFUSE_NO_USER,				/* 28000 no PostgreSQL user name specified in startup packet */
	REFUSE_REPLICATION,			/* 0A000 replication connections are not served */
	REFUSE_NO_ORIGIN,			/* 3D000 origin "%s" does not exist; hint create_origin / the database name */
	REFUSE_NO_RIGHT,			/* 42501 permission denied for origin "%s"; hint GRANT USAGE ON FOREIGN SERVER */
	REFUSE_NO_CREDENTIAL,		/* 28000 no credential for origin; hint set_credential */
	REFUSE_NO_PASSWORD_USED,	/* 2F003 password or GSSAPI... origin did not ask for the password; non-superuser mapping */
	REFUSE_HBA_REJECT,			/* 28000 pg_hba.conf rejects connection for … %s */
	REFUSE_HBA_NO_ENTRY,		/* 28000 no pg_hba.conf entry for … %s */
	REFUSE_HBA_METHOD,			/* 28000 method "%s" is not done here; hint: scram-sha-256, md5, cert, trust */
	REFUSE_AUTHENTICATION,		/* 28P01 password authentication failed for user "%s" */
	REFUSE_CERTIFICATE,			/* 28000 certificate authentication failed for user "%s" */
	REFUSE_LOGIN_DISABLED,		/* 28000 role "%s" is not permitted to log in */
	REFUSE_ROLE_LIMIT,			/* 53300 too many connections for role "%s" */
	REFUSE_TOO_MANY_CLIENTS,	/* 53300 too many clients; hint hyperpool.max_clients */
	REFUSE_TOO_MANY_FILES,		/* 53300 the same, for want of descriptors */
	REFUSE_TOO_MANY_LOGINS,		/* 53300 too many clients are logging in; hint hyperpool.login_backlog */
	REFUSE_TOO_MANY_LOGINS_OF_ADDRESS,	/* 53300 the same, of one address; hint hyperpool.login_address_limit */
	REFUSE_MEMORY,				/* 53200 worker memory; hint hyperpool.worker_memory */
	REFUSE_LOGIN_TIMEOUT,		/* 57014 canceling authentication due to timeout (authentication_timeout) */
	REFUSE_QUEUE_TIMEOUT,		/* 53300 timed out waiting for a link to origin "%s"; hint pool_size, queue_timeout */
	REFUSE_PAUSED,				/* 57P03 origin "%s" is paused (only when queue_timeout ends in it) */
	REFUSE_ORIGIN_DROPPED,		/* 57P01 origin "%s" was dropped */
	REFUSE_DISCONNECTED,		/* 57P01 disconnected by hyperpool.disconnect() */
	REFUSE_SHUTDOWN,			/* 57P01 terminating connection due to administrator command */
	REFUSE_STARTING,			/* 57P03 hyperpool is starting up */
	REFUSE_CANCELED,			/* 57014 canceling statement due to user request */
	REFUSE_QUERY_TIMEOUT,		/* 57014 canceling statement due to query_timeout of origin "%s" */
	REFUSE_IDLE_TRANSACTION,	/* 25P03 terminating connection due to idle_transaction_timeout of origin "%s" */
	REFUSE_UNKNOWN_OUTCOME,		/* 08007 link to origin "%s" was lost … may or may not have been committed */
	REFUSE_LINK_LOST,			/* 08006 link to origin "%s" was lost before the statement ran / answer complete */
	REFUSE_ORIGIN_UNREACHABLE,	/* 08001 could not connect to origin: %s */
	REFUSE_STATEMENT_MODE,		/* 25001 transactions are not allowed with pool_mode statement */
	REFUSE_SLOW_READER,			/* 57P01 … client does not read; share_buffer */
	REFUSE_TOO_MANY_POOLS,		/* 53400 no pool for origin "%s": hyperpool.max_pools */
	REFUSE_TOO_MANY_STATEMENTS,	/* 53400 too many prepared statements in this session; hint hyperpool.max_session_statements */
	REFUSE_TOO_MANY_SETTINGS,	/* 53400 too many distinct settings; hint hyperpool.max_settings */
	REFUSE_TOO_MANY_PENDING,	/* 54000 too many messages without Sync … */
	REFUSE_SETTING,				/* 22023 / arg: message */
	REFUSE_TLS_REQUIRED,		/* … */
	REFUSE_ORIGIN_VIOLATION,	/* 08P01 origin "%s" sent an unexpected message */
	REFUSE_LIMIT
} Refusal;

typedef struct RefusalRow
{
	const char *sqlstate;
	const char *primary;		/* printf-like with at most one %s */
	const char *detail;			/* or NULL; may hold the same one %s */
	const char *hint;			/* or NULL */
} RefusalRow;

extern const RefusalRow *refusal_row(Refusal refusal);
/* Appends the ErrorResponse. severity is "ERROR" or "FATAL"; arg may be NULL (then "" is used). */
extern void message_put_refusal(ByteBuffer *b, const char *severity, Refusal refusal, const char *arg);

#endif
