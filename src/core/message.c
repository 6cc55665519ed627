/*
 * core/message.c - readers and writers of protocol 3 bodies, and the refusals.
 *
 * Answers: what does this message say, and how is one written?  Owns the one
 * table of errors the gateway makes itself.  Never keeps a view, never decides
 * what to do about a message.  A writer that finds no memory leaves the
 * buffer marked failed; its contents are then of no use.
 */
#include "core/message.h"

/* A message's length word is a signed 32-bit number that counts itself. */
#define MESSAGE_BODY_MAX	((size_t) 0x7fffffff - 4)

/* Longest text of one field of an error the gateway makes, without its NUL. */
#define TEXT_MAX			8192u

/* ---- readers ---- */

static bool
reader_done(const ByteReader *r)
{
	return !r->bad && reader_left(r) == 0;
}

bool
message_read_query(Bytes body, Bytes *text)
{
	ByteReader	r = reader_of(body);

	*text = read_cstr(&r);
	return reader_done(&r);
}

bool
message_read_parse(Bytes body, ParseMessage *out)
{
	ByteReader	r = reader_of(body);

	out->name = read_cstr(&r);
	out->text = read_cstr(&r);
	out->types = read_bytes(&r, (size_t) read_u16(&r) * 4);
	return reader_done(&r);
}

bool
message_read_bind(Bytes body, BindMessage *out)
{
	ByteReader	r = reader_of(body);

	out->portal = read_cstr(&r);
	out->statement = read_cstr(&r);
	out->rest = read_bytes(&r, reader_left(&r));
	return !r.bad;
}

bool
message_read_named(Bytes body, NamedMessage *out)
{
	ByteReader	r = reader_of(body);

	out->what = read_u8(&r);
	out->name = read_cstr(&r);
	return reader_done(&r) && (out->what == 'S' || out->what == 'P');
}

bool
message_read_execute(Bytes body, ExecuteMessage *out)
{
	ByteReader	r = reader_of(body);

	out->portal = read_cstr(&r);
	out->max_rows = read_u32(&r);
	return reader_done(&r);
}

Digest128
message_row_shape(Bytes body)
{
	ByteReader	r = reader_of(body);
	ByteBuffer	kept = {0};
	uint16_t	columns = read_u16(&r);
	Digest128	digest;

	while (columns-- > 0 && !r.bad)
	{
		buffer_put_cstr(&kept, read_cstr(&r));
		read_bytes(&r, 6);		/* table OID and column number */
		buffer_put_u32(&kept, read_u32(&r));
		buffer_put_u16(&kept, read_u16(&r));
		buffer_put_u32(&kept, read_u32(&r));
		read_u16(&r);			/* format: not known before Bind */
	}
	digest = digest_of(r.bad || kept.failed ? body : buffer_view(&kept));
	buffer_free(&kept);
	return digest;
}

bool
message_read_parameter_status(Bytes body, Bytes *name, Bytes *value)
{
	ByteReader	r = reader_of(body);

	*name = read_cstr(&r);
	*value = read_cstr(&r);
	return reader_done(&r);
}

/* The next field of an error body; false at its terminator or where it is malformed. */
static bool
error_next_field(ByteReader *r, uint8_t *code, Bytes *value)
{
	*code = read_u8(r);
	if (*code == 0)
		return false;
	*value = read_cstr(r);
	return !r->bad;
}

Bytes
message_error_field(Bytes body, uint8_t code)
{
	ByteReader	r = reader_of(body);
	uint8_t		at;
	Bytes		value;

	while (error_next_field(&r, &at, &value))
	{
		if (at == code)
			return value;
	}
	return bytes_of("", 0);
}

/* 'S' may be translated by the origin's lc_messages; 'V' (since 9.6) never is. */
bool
message_error_is_fatal(Bytes body)
{
	Bytes		severity = message_error_field(body, 'V');

	if (severity.len == 0)
		severity = message_error_field(body, 'S');
	return bytes_equal_str(severity, "FATAL") || bytes_equal_str(severity, "PANIC");
}

/* ---- writers ---- */

/*
 * Type and length of a message of body_len bytes, of which `here` are put
 * next.  One reservation for all of it: either the message goes in whole or
 * the buffer is marked failed and every put that follows does nothing.
 */
static void
put_head(ByteBuffer *b, uint8_t type, size_t body_len, size_t here)
{
	if (body_len > MESSAGE_BODY_MAX)
	{
		b->failed = true;
		return;
	}
	if (!buffer_reserve(b, here + 5))
		return;
	buffer_put_u8(b, type);
	buffer_put_u32(b, (uint32_t) body_len + 4);
}

/*
 * A message whose length is known only at its end: message_begin puts type and
 * an empty length, message_end fills it in.  The position counts from the
 * buffer's start, since growing moves the bytes.
 */
static size_t
message_begin(ByteBuffer *b, uint8_t type)
{
	size_t		position = buffer_len(b);

	buffer_put_u8(b, type);
	buffer_put_u32(b, 0);
	return position;
}

static void
message_end(ByteBuffer *b, size_t position)
{
	if (b->failed)
		return;

	/* BUFFER_LIMIT keeps this below the largest length word. */
	set_u32(b->data + b->start + position + 1, (uint32_t) (buffer_len(b) - position - 1));
}

void
message_put_empty(ByteBuffer *b, uint8_t type)
{
	put_head(b, type, 0, 0);
}

void
message_put(ByteBuffer *b, uint8_t type, Bytes body)
{
	put_head(b, type, body.len, body.len);
	buffer_put(b, body.data, body.len);
}

void
message_put_ready(ByteBuffer *b, uint8_t status)
{
	put_head(b, ANS_READY, 1, 1);
	buffer_put_u8(b, status);
}

void
message_put_parameter_status(ByteBuffer *b, Bytes name, Bytes value)
{
	size_t		len = name.len + 1 + value.len + 1;

	put_head(b, ANS_PARAMETER_STATUS, len, len);
	buffer_put_cstr(b, name);
	buffer_put_cstr(b, value);
}

void
message_put_backend_key(ByteBuffer *b, uint32_t pid, Bytes secret)
{
	put_head(b, ANS_BACKEND_KEY, 4 + secret.len, 4 + secret.len);
	buffer_put_u32(b, pid);
	buffer_put(b, secret.data, secret.len);
}

void
message_put_authentication(ByteBuffer *b, uint32_t code, Bytes rest)
{
	put_head(b, ANS_AUTHENTICATION, 4 + rest.len, 4 + rest.len);
	buffer_put_u32(b, code);
	buffer_put(b, rest.data, rest.len);
}

/*
 * The documentation speaks of the newest minor version; PostgreSQL sends and
 * libpq expects the whole number, major version included.
 */
void
message_put_negotiate(ByteBuffer *b, uint32_t newest_minor, const Bytes *options, size_t noptions)
{
	size_t		position = message_begin(b, ANS_NEGOTIATE);
	size_t		i;

	buffer_put_u32(b, STARTUP_PROTOCOL_3_0 | newest_minor);
	buffer_put_u32(b, (uint32_t) noptions);
	for (i = 0; i < noptions; i++)
		buffer_put_cstr(b, options[i]);
	message_end(b, position);
}

void
message_put_query(ByteBuffer *b, Bytes text)
{
	put_head(b, MSG_QUERY, text.len + 1, text.len + 1);
	buffer_put_cstr(b, text);
}

void
message_put_parse(ByteBuffer *b, Bytes name, Bytes text, Bytes types)
{
	size_t		ntypes = types.len / 4;
	size_t		len = name.len + 1 + text.len + 1 + 2 + ntypes * 4;

	if (ntypes > UINT16_MAX)
	{
		b->failed = true;
		return;
	}
	put_head(b, MSG_PARSE, len, len);
	buffer_put_cstr(b, name);
	buffer_put_cstr(b, text);
	buffer_put_u16(b, (uint16_t) ntypes);
	buffer_put(b, types.data, ntypes * 4);
}

static void
put_bind_value(ByteBuffer *b, Bytes value)
{
	if (value.data == NULL)
	{
		buffer_put_u32(b, UINT32_MAX);	/* -1: NULL */
		return;
	}
	if (value.len > MESSAGE_BODY_MAX)
	{
		b->failed = true;
		return;
	}
	buffer_put_u32(b, (uint32_t) value.len);
	buffer_put(b, value.data, value.len);
}

void
message_put_bind_text(ByteBuffer *b, Bytes portal, Bytes statement, const Bytes *values, size_t n)
{
	size_t		position;
	size_t		i;

	if (n > UINT16_MAX)
	{
		b->failed = true;
		return;
	}
	position = message_begin(b, MSG_BIND);
	buffer_put_cstr(b, portal);
	buffer_put_cstr(b, statement);
	buffer_put_u16(b, 0);		/* no parameter formats: all text */
	buffer_put_u16(b, (uint16_t) n);
	for (i = 0; i < n; i++)
		put_bind_value(b, values[i]);
	buffer_put_u16(b, 0);		/* no result formats: all text */
	message_end(b, position);
}

void
message_put_named(ByteBuffer *b, uint8_t type, uint8_t what, Bytes name)
{
	put_head(b, type, 1 + name.len + 1, 1 + name.len + 1);
	buffer_put_u8(b, what);
	buffer_put_cstr(b, name);
}

void
message_put_execute(ByteBuffer *b, Bytes portal, uint32_t max_rows)
{
	put_head(b, MSG_EXECUTE, portal.len + 1 + 4, portal.len + 1 + 4);
	buffer_put_cstr(b, portal);
	buffer_put_u32(b, max_rows);
}

void
message_put_bind_head(ByteBuffer *b, Bytes portal, Bytes statement, size_t rest_len)
{
	size_t		names = portal.len + 1 + statement.len + 1;

	if (rest_len > MESSAGE_BODY_MAX)
	{
		b->failed = true;
		return;
	}
	put_head(b, MSG_BIND, names + rest_len, names);
	buffer_put_cstr(b, portal);
	buffer_put_cstr(b, statement);
}

/* ---- errors ---- */

/* At most TEXT_MAX bytes of s, not cut inside a UTF-8 character. */
static size_t
text_len(const char *s)
{
	const char *nul = memchr(s, 0, TEXT_MAX + 1);
	size_t		len = TEXT_MAX;
	int			back;

	if (nul != NULL)
		return (size_t) (nul - s);
	for (back = 0; back < 3 && ((uint8_t) s[len] & 0xc0) == 0x80; back++)
		len--;
	return len;
}

static void
put_error_field(ByteBuffer *b, uint8_t code, Bytes value)
{
	buffer_put_u8(b, code);
	buffer_put_cstr(b, value);
}

static void
put_error_text(ByteBuffer *b, uint8_t code, const char *text)
{
	if (text != NULL)
		put_error_field(b, code, bytes_of(text, text_len(text)));
}

void
message_put_error(ByteBuffer *b, uint8_t type, const char *severity, const char *sqlstate,
				  const char *primary, const char *detail, const char *hint)
{
	size_t		position = message_begin(b, type);

	put_error_text(b, 'S', severity);
	put_error_text(b, 'V', severity);
	put_error_text(b, 'C', sqlstate);
	put_error_text(b, 'M', primary);
	put_error_text(b, 'D', detail);
	put_error_text(b, 'H', hint);
	buffer_put_u8(b, 0);
	message_end(b, position);
}

static bool
is_name_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/*
 * Does `from` stand at text[at] as a name of its own?  Not as the front of a
 * longer one: s1 is not in "s12".  The quotes around it depend on the
 * origin's language, so they are not asked for.
 */
static bool
name_stands_at(Bytes text, size_t at, Bytes from)
{
	size_t		after = at + from.len;

	if (memcmp(text.data + at, from.data, from.len) != 0)
		return false;
	if (at > 0 && is_name_byte(text.data[at - 1]) && is_name_byte(from.data[0]))
		return false;
	return after == text.len || !is_name_byte(text.data[after]) ||
		!is_name_byte(from.data[from.len - 1]);
}

/* The text without its NUL, every `from` in it replaced. */
static void
put_renamed(ByteBuffer *b, Bytes text, Bytes from, Bytes to)
{
	size_t		at = 0;
	size_t		kept = 0;

	if (from.len == 0)
	{
		buffer_put(b, text.data, text.len);
		return;
	}
	while (at < text.len && from.len <= text.len - at)
	{
		if (!name_stands_at(text, at, from))
		{
			at++;
			continue;
		}
		buffer_put(b, text.data + kept, at - kept);
		buffer_put(b, to.data, to.len);
		at += from.len;
		kept = at;
	}
	buffer_put(b, text.data + kept, text.len - kept);
}

/* A body without terminator is copied as far as it makes sense, and terminated. */
void
message_put_error_renamed(ByteBuffer *b, Bytes body, Bytes from, Bytes to)
{
	ByteReader	r = reader_of(body);
	size_t		position = message_begin(b, ANS_ERROR);
	uint8_t		code;
	Bytes		value;

	while (error_next_field(&r, &code, &value))
	{
		if (code == 'M')
		{
			buffer_put_u8(b, code);
			put_renamed(b, value, from, to);
			buffer_put_u8(b, 0);
		}
		else
			put_error_field(b, code, value);
	}
	buffer_put_u8(b, 0);
	message_end(b, position);
}

void
message_put_error_as(ByteBuffer *b, Bytes body, const char *severity)
{
	ByteReader	r = reader_of(body);
	size_t		position = message_begin(b, ANS_ERROR);
	uint8_t		code;
	Bytes		value;

	while (error_next_field(&r, &code, &value))
	{
		if (code == 'S' || code == 'V')
			value = bytes_str(severity);
		put_error_field(b, code, value);
	}
	buffer_put_u8(b, 0);
	message_end(b, position);
}

/* ---- refusals ---- */

static const RefusalRow refusal_rows[REFUSE_LIMIT] = {
	[REFUSE_PROTOCOL_VIOLATION] = {
		"08P01", "%s", NULL, NULL
	},
	[REFUSE_MESSAGE_TYPE] = {
		"08P01", "invalid frontend message type %s", NULL, NULL
	},
	[REFUSE_PROTOCOL_VERSION] = {
		"0A000", "unsupported frontend protocol %s", NULL, NULL
	},
	[REFUSE_NO_USER] = {
		"28000", "no PostgreSQL user name specified in startup packet", NULL, NULL
	},
	[REFUSE_REPLICATION] = {
		"0A000", "replication connections are not served by hyperpool",
		NULL,
		"Connect to the origin itself for replication."
	},
	[REFUSE_NO_ORIGIN] = {
		"3D000", "origin \"%s\" does not exist",
		"The database name of a connection names the origin.",
		"Create it with hyperpool.create_origin(...), or connect with the name of an existing origin as the database name."
	},
	[REFUSE_NO_RIGHT] = {
		"42501", "permission denied for origin \"%s\"",
		"The role does not have the USAGE privilege on the foreign server \"%s\".",
		"An owner of the origin can give it with GRANT USAGE ON FOREIGN SERVER ... TO the role."
	},
	[REFUSE_NO_CREDENTIAL] = {
		"28000", "no credential for origin \"%s\"",
		"Neither the role nor PUBLIC has a user mapping for the origin.",
		"Give the role one with hyperpool.set_credential(...)."
	},
	[REFUSE_NO_PASSWORD_USED] = {
		"2F003", "password is required",
		"The origin did not ask for the password of a credential that was not set by a superuser.",
		"Make the origin ask for a password, or let a superuser set the credential with hyperpool.set_credential(...)."
	},
	[REFUSE_HBA_REJECT] = {
		"28000", "pg_hba.conf rejects connection for %s", NULL, NULL
	},
	[REFUSE_HBA_NO_ENTRY] = {
		"28000", "no pg_hba.conf entry for %s",
		NULL,
		"The database column of pg_hba.conf is compared with the name of the origin."
	},
	[REFUSE_HBA_METHOD] = {
		"28000", "authentication method \"%s\" is not supported by hyperpool",
		"The line of pg_hba.conf that matches the connection asks for it.",
		"Put a line with scram-sha-256, md5, cert or trust before it in pg_hba.conf."
	},
	[REFUSE_AUTHENTICATION] = {
		"28P01", "password authentication failed for user \"%s\"", NULL, NULL
	},
	[REFUSE_CERTIFICATE] = {
		"28000", "certificate authentication failed for user \"%s\"", NULL, NULL
	},
	[REFUSE_LOGIN_DISABLED] = {
		"28000", "role \"%s\" is not permitted to log in",
		NULL,
		"Permit it with ALTER ROLE ... LOGIN."
	},
	[REFUSE_ROLE_LIMIT] = {
		"53300", "too many connections for role \"%s\"",
		NULL,
		"Raise the limit with ALTER ROLE ... CONNECTION LIMIT."
	},
	[REFUSE_TOO_MANY_CLIENTS] = {
		"53300", "sorry, too many clients already",
		"The number of clients has reached hyperpool.max_clients.",
		"Raise hyperpool.max_clients, or close connections that are not used."
	},
	[REFUSE_TOO_MANY_FILES] = {
		"53300", "sorry, too many clients already",
		"This worker of hyperpool may open no more files.",
		"Raise the hard limit on open files of the server."
	},
	[REFUSE_MEMORY] = {
		"53200", "out of memory in a hyperpool worker",
		"The worker holds as much as hyperpool.worker_memory allows, or the system gave it no more.",
		"Raise hyperpool.worker_memory or hyperpool.workers."
	},
	[REFUSE_LOGIN_TIMEOUT] = {
		"57014", "canceling authentication due to timeout",
		NULL,
		"The time is set by authentication_timeout."
	},
	[REFUSE_QUEUE_TIMEOUT] = {
		"53300", "timed out waiting for a link to origin \"%s\"",
		"All links were in use for as long as queue_timeout allows.",
		"Raise pool_size or queue_timeout with hyperpool.alter_origin(...)."
	},
	[REFUSE_PAUSED] = {
		"57P03", "origin \"%s\" is paused",
		"It was not resumed within its queue_timeout.",
		"Resume it with hyperpool.resume_origin(...)."
	},
	[REFUSE_ORIGIN_DROPPED] = {
		"57P01", "origin \"%s\" was dropped",
		NULL,
		"Create it again with hyperpool.create_origin(...)."
	},
	[REFUSE_DISCONNECTED] = {
		"57P01", "terminating connection due to administrator command",
		"The client was disconnected with hyperpool.disconnect(...).",
		NULL
	},
	[REFUSE_SHUTDOWN] = {
		"57P01", "terminating connection due to administrator command", NULL, NULL
	},
	[REFUSE_STARTING] = {
		"57P03", "hyperpool is starting up",
		"The origins, roles and pg_hba.conf lines have not been read yet.",
		"Connect again in a moment; the server log tells what hyperpool waits for."
	},
	[REFUSE_CANCELED] = {
		"57014", "canceling statement due to user request", NULL, NULL
	},
	[REFUSE_QUERY_TIMEOUT] = {
		"57014", "canceling statement due to query_timeout of origin \"%s\"",
		NULL,
		"Change query_timeout with hyperpool.alter_origin(...)."
	},
	[REFUSE_IDLE_TRANSACTION] = {
		"25P03", "terminating connection due to idle_transaction_timeout of origin \"%s\"",
		NULL,
		"Change idle_transaction_timeout with hyperpool.alter_origin(...)."
	},
	[REFUSE_UNKNOWN_OUTCOME] = {
		"08007", "link to origin \"%s\" was lost, transaction resolution unknown",
		"The statement or transaction in flight may or may not have been committed.",
		"Look at the data before repeating it; hyperpool.check_origin(...) shows the state of the origin."
	},
	[REFUSE_LINK_LOST] = {
		"08006", "link to origin \"%s\" was lost",
		"The statement was not sent, or its answer was not complete and it changed nothing.",
		"Repeat the transaction; hyperpool.check_origin(...) shows the state of the origin."
	},
	[REFUSE_ORIGIN_UNREACHABLE] = {
		"08001", "could not connect to origin: %s",
		NULL,
		"hyperpool.check_origin(...) shows which step fails; hyperpool.alter_origin(...) changes the connection string."
	},
	[REFUSE_STATEMENT_MODE] = {
		"25001", "transactions are not allowed with pool_mode statement",
		NULL,
		"Set pool_mode to transaction or session with hyperpool.alter_origin(...)."
	},
	[REFUSE_SLOW_READER] = {
		"57P01", "terminating connection because the client does not read its answer",
		"The unread answer has outgrown hyperpool.share_buffer.",
		"Read answers as they arrive, or raise hyperpool.share_buffer."
	},
	[REFUSE_TOO_MANY_POOLS] = {"53400", "no room for another pool of links to origin \"%s\"",
		"Each user at an origin has a pool of its own.", "Raise hyperpool.max_pools."},
	[REFUSE_TOO_MANY_LOGINS] = {"53300", "too many clients are logging in",
		NULL, "Try again in a moment, or raise hyperpool.login_backlog."},
	[REFUSE_TOO_MANY_LOGINS_OF_ADDRESS] = {"53300", "too many clients are logging in from your address",
		"Logins that failed lately count, too.", "Try again in a moment, or raise hyperpool.login_address_limit."},
	[REFUSE_TOO_MANY_STATEMENTS] = {
		"53400", "too many prepared statements in this session",
		NULL,
		"Close statements that are not used, or raise hyperpool.max_session_statements."
	},
	[REFUSE_TOO_MANY_SETTINGS] = {
		"53400", "too many distinct settings",
		"Clients of this worker use more different combinations of settings than hyperpool.max_settings.",
		"Raise hyperpool.max_settings, or let clients use the same settings."
	},
	[REFUSE_TOO_MANY_PENDING] = {
		"54000", "too many messages without an answer",
		NULL,
		"Send Sync and read the answers from time to time."
	},
	[REFUSE_SETTING] = {
		"22023", "%s", NULL, NULL
	},
	[REFUSE_TLS_REQUIRED] = {
		"28000", "connection requires TLS",
		NULL,
		"Connect with sslmode=require or stronger."
	},
	[REFUSE_ORIGIN_VIOLATION] = {
		"08P01", "origin \"%s\" sent an unexpected message",
		"The link was closed.",
		"Look whether the connection string given to hyperpool.create_origin(...) leads to a PostgreSQL server."
	},
};

const RefusalRow *
refusal_row(Refusal refusal)
{
	if ((unsigned int) refusal >= REFUSE_LIMIT)
		return &refusal_rows[REFUSE_PROTOCOL_VIOLATION];
	return &refusal_rows[refusal];
}

/* out, of TEXT_MAX + 1 bytes, gets `format` with its first %s replaced; what is longer is cut. */
static const char *
refusal_text(char *out, const char *format, const char *arg)
{
	const char *mark = format != NULL ? strstr(format, "%s") : NULL;
	size_t		front;
	size_t		len;
	size_t		tail;

	if (mark == NULL)
		return format;
	front = (size_t) (mark - format);
	tail = strlen(mark + 2);
	len = text_len(arg);
	if (front + len + tail > TEXT_MAX)
	{
		len = TEXT_MAX - front - tail;
		while (len > 0 && ((uint8_t) arg[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(out, format, front);
	memcpy(out + front, arg, len);
	memcpy(out + front + len, mark + 2, tail + 1);
	return out;
}

/* What a row that is nothing but its argument says without one. */
static const char *
refusal_default(Refusal refusal)
{
	if (refusal == REFUSE_PROTOCOL_VIOLATION)
		return "invalid message format";
	if (refusal == REFUSE_SETTING)
		return "invalid value for a setting";
	return "";
}

void
message_put_refusal(ByteBuffer *b, const char *severity, Refusal refusal, const char *arg)
{
	const RefusalRow *row = refusal_row(refusal);
	char		primary[TEXT_MAX + 1];
	char		detail[TEXT_MAX + 1];

	if (arg == NULL || arg[0] == '\0')
		arg = refusal_default(refusal);
	message_put_error(b, ANS_ERROR, severity, row->sqlstate,
					  refusal_text(primary, row->primary, arg),
					  refusal_text(detail, row->detail, arg),
					  row->hint);
}
