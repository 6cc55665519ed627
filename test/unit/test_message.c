/*
 * test/unit/test_message.c - core/message: bodies read and written, refusals.
 */
#include "core/message.h"
#include "unit.h"

#define LIT(s)	bytes_of(s, sizeof(s) - 1)

/* Reads back the one message in b; false unless it is exactly one of that type. */
static bool
only_message(const ByteBuffer *b, FrameSide side, uint8_t type, Bytes *body)
{
	FrameReader reader = {0};
	Frame		f;

	*body = bytes_of("", 0);
	reader.side = (uint8_t) side;
	if (b->failed || frame_next(&reader, buffer_view(b), 1 << 20, &f) != FRAME_WHOLE)
		return false;
	*body = f.body;
	return f.type == type && f.raw.len == buffer_len(b);
}

TEST(query_read)
{
	Bytes		text;

	CHECK(message_read_query(LIT("select 1\0"), &text));
	CHECK(bytes_equal_str(text, "select 1"));
	CHECK(message_read_query(LIT("\0"), &text));
	CHECK_EQ_INT(text.len, 0);
	CHECK(!message_read_query(LIT("select 1"), &text));
	CHECK(!message_read_query(LIT("select 1\0x"), &text));
	CHECK(!message_read_query(LIT("a\0\0"), &text));
	CHECK(!message_read_query(LIT(""), &text));
	CHECK(!message_read_query(bytes_of(NULL, 0), &text));
}

TEST(parse_read)
{
	ParseMessage m;

	CHECK(message_read_parse(LIT("s1\0select $1\0\0\1\0\0\0\x17"), &m));
	CHECK(bytes_equal_str(m.name, "s1"));
	CHECK(bytes_equal_str(m.text, "select $1"));
	CHECK_BYTES_LIT(m.types.data, m.types.len, "\0\0\0\x17");
	CHECK(message_read_parse(LIT("\0\0\0\0"), &m));
	CHECK_EQ_INT(m.types.len, 0);
	CHECK(!message_read_parse(LIT("s1\0select $1\0\0\2\0\0\0\x17"), &m));
	CHECK(!message_read_parse(LIT("s1\0select $1\0\0\0\0\0\0\x17"), &m));
	CHECK(!message_read_parse(LIT("s1\0select $1\0\xff\xff"), &m));
	CHECK(!message_read_parse(LIT("s1\0select $1\0\0"), &m));
	CHECK(!message_read_parse(LIT("s1\0select $1"), &m));
	CHECK(!message_read_parse(LIT(""), &m));
}

TEST(bind_read)
{
	BindMessage m;

	CHECK(message_read_bind(LIT("p\0s\0\0\0\0\0\0\0"), &m));
	CHECK(bytes_equal_str(m.portal, "p"));
	CHECK(bytes_equal_str(m.statement, "s"));
	CHECK_EQ_INT(m.rest.len, 6);
	CHECK(message_read_bind(LIT("\0\0"), &m));
	CHECK_EQ_INT(m.rest.len, 0);
	CHECK(!message_read_bind(LIT("p\0s"), &m));
	CHECK(!message_read_bind(LIT("p"), &m));
	CHECK(!message_read_bind(LIT(""), &m));
}

TEST(describe_and_close_read)
{
	NamedMessage m;

	CHECK(message_read_named(LIT("Sabc\0"), &m));
	CHECK_EQ_INT(m.what, 'S');
	CHECK(bytes_equal_str(m.name, "abc"));
	CHECK(message_read_named(LIT("P\0"), &m));
	CHECK_EQ_INT(m.what, 'P');
	CHECK(!message_read_named(LIT("Xabc\0"), &m));
	CHECK(!message_read_named(LIT("Sabc"), &m));
	CHECK(!message_read_named(LIT("Sabc\0\0"), &m));
	CHECK(!message_read_named(LIT(""), &m));
}

TEST(execute_read)
{
	ExecuteMessage m;

	CHECK(message_read_execute(LIT("p\0\0\0\1\0"), &m));
	CHECK(bytes_equal_str(m.portal, "p"));
	CHECK_EQ_INT(m.max_rows, 256);
	CHECK(!message_read_execute(LIT("p\0\0\0\1"), &m));
	CHECK(!message_read_execute(LIT("p\0\0\0\1\0\0"), &m));
	CHECK(!message_read_execute(LIT("p"), &m));
}

TEST(parameter_status_read)
{
	Bytes		name;
	Bytes		value;

	CHECK(message_read_parameter_status(LIT("TimeZone\0UTC\0"), &name, &value));
	CHECK(bytes_equal_str(name, "TimeZone"));
	CHECK(bytes_equal_str(value, "UTC"));
	CHECK(!message_read_parameter_status(LIT("TimeZone\0UTC"), &name, &value));
	CHECK(!message_read_parameter_status(LIT("TimeZone\0"), &name, &value));
	CHECK(!message_read_parameter_status(LIT("a\0b\0c\0"), &name, &value));
}

TEST(error_fields_read)
{
	Bytes		body = LIT("SERROR\0VERROR\0C42P01\0Mgone\0\0");

	CHECK(bytes_equal_str(message_error_field(body, 'C'), "42P01"));
	CHECK(bytes_equal_str(message_error_field(body, 'M'), "gone"));
	CHECK_EQ_INT(message_error_field(body, 'D').len, 0);
	CHECK_EQ_INT(message_error_field(LIT(""), 'C').len, 0);
	CHECK_EQ_INT(message_error_field(LIT("C42P01"), 'C').len, 0);
	CHECK_EQ_INT(message_error_field(LIT("SERROR\0\0C42P01\0"), 'C').len, 0);
}

TEST(error_is_fatal)
{
	CHECK(message_error_is_fatal(LIT("SFATAL\0VFATAL\0\0")));
	CHECK(message_error_is_fatal(LIT("SPANIC\0VPANIC\0\0")));
	CHECK(message_error_is_fatal(LIT("SFATAL\0\0")));
	CHECK(message_error_is_fatal(LIT("SFATAL\0")));
	CHECK(!message_error_is_fatal(LIT("SERROR\0VERROR\0\0")));
	CHECK(!message_error_is_fatal(LIT("SFATAL\0VERROR\0\0")));
	CHECK(message_error_is_fatal(LIT("SFATALE\0VFATAL\0\0")));
	CHECK(!message_error_is_fatal(LIT("SFATALE\0\0")));
	CHECK(!message_error_is_fatal(LIT("")));
}

TEST(plain_messages_written)
{
	ByteBuffer	b = {0};

	message_put_empty(&b, MSG_SYNC);
	message_put(&b, ANS_COMMAND_COMPLETE, LIT("SELECT 1\0"));
	message_put_ready(&b, TX_OPEN);
	message_put_parameter_status(&b, LIT("a"), LIT("bc"));
	message_put_backend_key(&b, 0x01020304, LIT("keykey"));
	message_put_authentication(&b, 0, bytes_of(NULL, 0));
	message_put_authentication(&b, 5, LIT("salt"));
	CHECK(!b.failed);
	CHECK_BYTES_LIT(b.data, buffer_len(&b),
					"S\0\0\0\4"
					"C\0\0\0\x0dSELECT 1\0"
					"Z\0\0\0\5T"
					"S\0\0\0\x09" "a\0bc\0"
					"K\0\0\0\x0e\1\2\3\4keykey"
					"R\0\0\0\x08\0\0\0\0"
					"R\0\0\0\x0c\0\0\0\5salt");
	buffer_free(&b);
}

TEST(negotiate_written)
{
	ByteBuffer	b = {0};
	Bytes		options[2] = {LIT("_pq_.a"), LIT("_pq_.bb")};

	message_put_negotiate(&b, 2, options, 2);
	message_put_negotiate(&b, 0, NULL, 0);
	CHECK_BYTES_LIT(b.data, buffer_len(&b),
					"v\0\0\0\x1b\0\3\0\2\0\0\0\2_pq_.a\0_pq_.bb\0"
					"v\0\0\0\x0c\0\3\0\0\0\0\0\0");
	buffer_free(&b);
}

TEST(extended_messages_are_read_back)
{
	ByteBuffer	b = {0};
	Bytes		body;
	ParseMessage parse;
	NamedMessage named;
	ExecuteMessage execute;
	Bytes		text;

	message_put_parse(&b, LIT("n"), LIT("select $1, $2"), LIT("\0\0\0\x17\0\0\0\x19"));
	CHECK(only_message(&b, FRAME_FROM_CLIENT, MSG_PARSE, &body));
	CHECK(message_read_parse(body, &parse));
	CHECK(bytes_equal_str(parse.name, "n") && bytes_equal_str(parse.text, "select $1, $2"));
	CHECK_BYTES_LIT(parse.types.data, parse.types.len, "\0\0\0\x17\0\0\0\x19");
	buffer_consume(&b, buffer_len(&b));

	message_put_named(&b, MSG_CLOSE, 'S', LIT("n"));
	CHECK(only_message(&b, FRAME_FROM_CLIENT, MSG_CLOSE, &body));
	CHECK(message_read_named(body, &named) && named.what == 'S' && bytes_equal_str(named.name, "n"));
	buffer_consume(&b, buffer_len(&b));

	message_put_execute(&b, LIT("p"), 77);
	CHECK(only_message(&b, FRAME_FROM_CLIENT, MSG_EXECUTE, &body));
	CHECK(message_read_execute(body, &execute) && execute.max_rows == 77);
	CHECK(bytes_equal_str(execute.portal, "p"));
	buffer_consume(&b, buffer_len(&b));

	message_put_query(&b, LIT("select 1"));
	CHECK(only_message(&b, FRAME_FROM_CLIENT, MSG_QUERY, &body));
	CHECK(message_read_query(body, &text) && bytes_equal_str(text, "select 1"));
	buffer_free(&b);
}

TEST(bind_written)
{
	ByteBuffer	b = {0};
	Bytes		values[3] = {LIT("abc"), LIT(""), {NULL, 0}};

	message_put_bind_text(&b, LIT(""), LIT("st"), values, 3);
	CHECK_BYTES_LIT(b.data, buffer_len(&b),
					"B\0\0\0\x1d" "\0st\0" "\0\0" "\0\3"
					"\0\0\0\3abc" "\0\0\0\0" "\xff\xff\xff\xff" "\0\0");
	buffer_consume(&b, buffer_len(&b));
	message_put_bind_text(&b, LIT(""), LIT(""), NULL, 0);
	CHECK_BYTES_LIT(b.data, buffer_len(&b), "B\0\0\0\x0c\0\0\0\0\0\0\0\0");
	buffer_free(&b);
}

TEST(bind_head_counts_what_follows)
{
	ByteBuffer	b = {0};
	Bytes		body;
	BindMessage bind;

	message_put_bind_head(&b, LIT("p"), LIT("other"), 6);
	buffer_put(&b, "\0\0\0\0\0\0", 6);
	CHECK(only_message(&b, FRAME_FROM_CLIENT, MSG_BIND, &body));
	CHECK(message_read_bind(body, &bind));
	CHECK(bytes_equal_str(bind.portal, "p") && bytes_equal_str(bind.statement, "other"));
	CHECK_EQ_INT(bind.rest.len, 6);
	buffer_free(&b);
}

TEST(messages_that_cannot_be_are_not_written)
{
	static uint8_t many[4 * 65536];
	ByteBuffer	b = {0};

	message_put_bind_head(&b, LIT(""), LIT(""), SIZE_MAX);
	CHECK(b.failed && buffer_len(&b) == 0);
	buffer_free(&b);
	message_put_bind_head(&b, LIT(""), LIT(""), 0x7fffffff - 5);
	CHECK(b.failed && buffer_len(&b) == 0);
	buffer_free(&b);
	message_put_parse(&b, LIT(""), LIT(""), bytes_of(many, sizeof(many)));
	CHECK(b.failed && buffer_len(&b) == 0);
	buffer_free(&b);
	message_put_bind_text(&b, LIT(""), LIT(""), NULL, 65536);
	CHECK(b.failed && buffer_len(&b) == 0);
	message_put_refusal(&b, "ERROR", REFUSE_CANCELED, NULL);
	message_put_error_as(&b, LIT("SERROR\0\0"), "FATAL");
	CHECK_EQ_INT(buffer_len(&b), 0);
	buffer_free(&b);
}

TEST(error_written)
{
	ByteBuffer	b = {0};

	buffer_put(&b, "kept", 4);
	message_put_error(&b, ANS_NOTICE, "NOTICE", "00000", "hello", NULL, NULL);
	CHECK_BYTES_LIT(b.data, buffer_len(&b),
					"keptN\0\0\0\x23SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
	buffer_consume(&b, buffer_len(&b));
	message_put_error(&b, ANS_ERROR, "ERROR", "22023", "m", "D.", "H.");
	CHECK_BYTES_LIT(b.data, buffer_len(&b),
					"E\0\0\0\x25SERROR\0VERROR\0C22023\0Mm\0DD.\0HH.\0\0");
	buffer_free(&b);
}

/* An error is written behind bytes that were consumed and moved: its length must land in the right place. */
TEST(error_written_while_the_buffer_moves)
{
	ByteBuffer	b = {0};
	Bytes		body;
	size_t		n;

	for (n = 0; n < 600; n++)
	{
		size_t		i;

		for (i = 0; i < n; i++)
			buffer_put_u8(&b, 'x');
		buffer_consume(&b, n > 0 ? n - 1 : 0);
		message_put_refusal(&b, "FATAL", REFUSE_SHUTDOWN, NULL);
		buffer_consume(&b, n > 0 ? 1 : 0);
		CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &body));
		CHECK(bytes_equal_str(message_error_field(body, 'C'), "57P01"));
		buffer_free(&b);
	}
}

TEST(long_texts_are_cut)
{
	static char text[20001];
	ByteBuffer	b = {0};
	Bytes		body;
	Bytes		m;
	int			i;

	for (i = 0; i + 3 <= 20000; i += 3)
		memcpy(text + i, "\xe2\x82\xac", 3);
	message_put_error(&b, ANS_ERROR, "ERROR", "XX000", text, text, "hint");
	CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &body));
	m = message_error_field(body, 'M');
	CHECK(m.len <= 8192 && m.len > 8180);
	CHECK_EQ_INT(m.len % 3, 0);
	CHECK(bytes_equal_str(message_error_field(body, 'H'), "hint"));
	buffer_consume(&b, buffer_len(&b));

	message_put_refusal(&b, "ERROR", REFUSE_NO_ORIGIN, text);
	CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &body));
	m = message_error_field(body, 'M');
	CHECK(m.len <= 8192 && m.len > 8180);
	CHECK_BYTES_LIT(m.data + m.len - 16, 16, "\" does not exist");
	CHECK_EQ_INT((m.len - strlen("origin \"\" does not exist")) % 3, 0);
	CHECK(message_error_field(body, 'H').len > 0);
	buffer_free(&b);
}

TEST(error_renamed)
{
	static const struct
	{
		const char *from;
		const char *to;
		const char *message;
		const char *expected;
	}			rows[] = {
		{"hp_1", "s1", "prepared statement \"hp_1\" does not exist", "prepared statement \"s1\" does not exist"},
		{"hp_1", "s1", "prepared statement \"hp_12\" does not exist", "prepared statement \"hp_12\" does not exist"},
		{"hp_1", "s1", "my_hp_1 and hp_1", "my_hp_1 and s1"},
		{"hp_1", "", "hp_1", ""},
		{"hp_1", "a longer one", "hp_1hp_1 hp_1", "hp_1hp_1 a longer one"},
		{"\"hp_1\"", "\"x\"", "statement \"hp_1\"", "statement \"x\""},
		{"hp_1", "s1", "hp_", "hp_"},
		{"", "s1", "unchanged", "unchanged"},
	};
	ByteBuffer	b = {0};
	ByteBuffer	in = {0};
	Bytes		body;
	Bytes		m;
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		buffer_put(&in, "SERROR\0C26000\0M", 15);
		buffer_put_cstr(&in, bytes_str(rows[i].message));
		buffer_put(&in, "Dhp_1\0", 7);
		message_put_error_renamed(&b, buffer_view(&in), bytes_str(rows[i].from), bytes_str(rows[i].to));
		CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &body));
		m = message_error_field(body, 'M');
		CHECK_BYTES(m.data, m.len, rows[i].expected, strlen(rows[i].expected));
		CHECK(bytes_equal_str(message_error_field(body, 'D'), "hp_1"));
		CHECK(bytes_equal_str(message_error_field(body, 'C'), "26000"));
		buffer_free(&in);
		buffer_free(&b);
	}
}

TEST(error_with_another_severity)
{
	ByteBuffer	b = {0};

	message_put_error_as(&b, LIT("SFATAL\0VFATAL\0C57P01\0Mbye\0\0"), "ERROR");
	CHECK_BYTES_LIT(b.data, buffer_len(&b), "E\0\0\0\x1f" "SERROR\0VERROR\0C57P01\0Mbye\0\0");
	buffer_free(&b);
}

TEST(malformed_errors_are_copied_soundly)
{
	static const char body[] = "SERROR\0VERROR\0C57P01\0Mhp_1 bye\0\0";
	ByteBuffer	b = {0};
	Bytes		got;
	size_t		n;

	for (n = 0; n < sizeof(body); n++)
	{
		message_put_error_renamed(&b, bytes_of(body, n), LIT("hp_1"), LIT("s"));
		CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &got));
		CHECK(got.len > 0 && got.data[got.len - 1] == 0);
		buffer_consume(&b, buffer_len(&b));
		message_put_error_as(&b, bytes_of(body, n), "FATAL");
		CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &got));
		CHECK(got.len > 0 && got.data[got.len - 1] == 0);
		buffer_consume(&b, buffer_len(&b));
	}
	buffer_free(&b);
}

static int
count_marks(const char *text, const char *mark)
{
	int			n = 0;

	for (; text != NULL && (text = strstr(text, mark)) != NULL; text += strlen(mark))
		n++;
	return n;
}

/* Details and hints are sentences: a capital (or the name of a function), a full stop. */
static bool
is_sentence(const char *text)
{
	size_t		len = text != NULL ? strlen(text) : 0;

	if (text == NULL)
		return true;
	return len > 10 && text[len - 1] == '.' &&
		((text[0] >= 'A' && text[0] <= 'Z') || strncmp(text, "hyperpool.", 10) == 0);
}

TEST(every_refusal_is_a_good_row)
{
	const RefusalRow *row;
	int			i;
	size_t		len;

	for (i = 0; i < REFUSE_LIMIT; i++)
	{
		row = refusal_row((Refusal) i);
		if (!CHECK(row->sqlstate != NULL && row->primary != NULL))
		{
			printf("#   refusal %d\n", i);
			continue;
		}
		len = strlen(row->primary);
		if (!CHECK(strlen(row->sqlstate) == 5 &&
				   strspn(row->sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
				   len > 0 && row->primary[len - 1] != '.' &&
				   !(row->primary[0] >= 'A' && row->primary[0] <= 'Z') &&
				   count_marks(row->primary, "%s") <= 1 &&
				   count_marks(row->primary, "%") == count_marks(row->primary, "%s") &&
				   count_marks(row->detail, "%s") <= 1 &&
				   count_marks(row->detail, "%") == count_marks(row->detail, "%s") &&
				   count_marks(row->hint, "%") == 0 &&
				   is_sentence(row->detail) && is_sentence(row->hint)))
			printf("#   refusal %d: %s\n", i, row->primary);
	}
}

TEST(refusals_have_the_documented_states)
{
	static const struct
	{
		Refusal		refusal;
		const char *sqlstate;
		const char *arg;
		const char *primary;
	}			rows[] = {
		{REFUSE_PROTOCOL_VIOLATION, "08P01", "bad thing", "bad thing"},
		{REFUSE_PROTOCOL_VIOLATION, "08P01", NULL, "invalid message format"},
		{REFUSE_MESSAGE_TYPE, "08P01", "66", "invalid frontend message type 66"},
		{REFUSE_PROTOCOL_VERSION, "0A000", "2.0: server supports 3.0 to 3.2",
		"unsupported frontend protocol 2.0: server supports 3.0 to 3.2"},
		{REFUSE_NO_USER, "28000", NULL, "no PostgreSQL user name specified in startup packet"},
		{REFUSE_REPLICATION, "0A000", NULL, NULL},
		{REFUSE_NO_ORIGIN, "3D000", "o%sx", "origin \"o%sx\" does not exist"},
		{REFUSE_NO_RIGHT, "42501", "o", "permission denied for origin \"o\""},
		{REFUSE_NO_CREDENTIAL, "28000", "o", NULL},
		{REFUSE_NO_PASSWORD_USED, "2F003", NULL, NULL},
		{REFUSE_HBA_REJECT, "28000", "host \"h\"", "pg_hba.conf rejects connection for host \"h\""},
		{REFUSE_HBA_NO_ENTRY, "28000", "host \"h\"", "no pg_hba.conf entry for host \"h\""},
		{REFUSE_HBA_METHOD, "28000", "ldap", NULL},
		{REFUSE_AUTHENTICATION, "28P01", "u", "password authentication failed for user \"u\""},
		{REFUSE_CERTIFICATE, "28000", "u", "certificate authentication failed for user \"u\""},
		{REFUSE_LOGIN_DISABLED, "28000", "u", "role \"u\" is not permitted to log in"},
		{REFUSE_ROLE_LIMIT, "53300", "u", "too many connections for role \"u\""},
		{REFUSE_TOO_MANY_CLIENTS, "53300", NULL, NULL},
		{REFUSE_TOO_MANY_FILES, "53300", NULL, NULL},
		{REFUSE_TOO_MANY_LOGINS_OF_ADDRESS, "53300", NULL, NULL},
		{REFUSE_TOO_MANY_LOGINS, "53300", NULL, "too many clients are logging in"},
		{REFUSE_MEMORY, "53200", NULL, NULL},
		{REFUSE_LOGIN_TIMEOUT, "57014", NULL, "canceling authentication due to timeout"},
		{REFUSE_QUEUE_TIMEOUT, "53300", "o", "timed out waiting for a link to origin \"o\""},
		{REFUSE_PAUSED, "57P03", "o", "origin \"o\" is paused"},
		{REFUSE_ORIGIN_DROPPED, "57P01", "o", "origin \"o\" was dropped"},
		{REFUSE_DISCONNECTED, "57P01", NULL, NULL},
		{REFUSE_SHUTDOWN, "57P01", NULL, "terminating connection due to administrator command"},
		{REFUSE_STARTING, "57P03", NULL, "hyperpool is starting up"},
		{REFUSE_CANCELED, "57014", NULL, "canceling statement due to user request"},
		{REFUSE_QUERY_TIMEOUT, "57014", "o", "canceling statement due to query_timeout of origin \"o\""},
		{REFUSE_IDLE_TRANSACTION, "25P03", "o",
		"terminating connection due to idle_transaction_timeout of origin \"o\""},
		{REFUSE_UNKNOWN_OUTCOME, "08007", "o", NULL},
		{REFUSE_LINK_LOST, "08006", "o", NULL},
		{REFUSE_ORIGIN_UNREACHABLE, "08001", "timeout", "could not connect to origin: timeout"},
		{REFUSE_STATEMENT_MODE, "25001", NULL, "transactions are not allowed with pool_mode statement"},
		{REFUSE_SLOW_READER, "57P01", NULL, NULL},
		{REFUSE_TOO_MANY_POOLS, "53400", "o", "no room for another pool of links to origin \"o\""},
		{REFUSE_TOO_MANY_STATEMENTS, "53400", NULL, "too many prepared statements in this session"},
		{REFUSE_TOO_MANY_SETTINGS, "53400", NULL, "too many distinct settings"},
		{REFUSE_TOO_MANY_PENDING, "54000", NULL, NULL},
		{REFUSE_SETTING, "22023", "invalid value", "invalid value"},
		{REFUSE_TLS_REQUIRED, "28000", NULL, NULL},
		{REFUSE_ORIGIN_VIOLATION, "08P01", "o", "origin \"o\" sent an unexpected message"},
	};
	bool		seen[REFUSE_LIMIT] = {false};
	ByteBuffer	b = {0};
	Bytes		body;
	Bytes		m;
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		seen[rows[i].refusal] = true;
		message_put_refusal(&b, "FATAL", rows[i].refusal, rows[i].arg);
		CHECK(only_message(&b, FRAME_FROM_ORIGIN, ANS_ERROR, &body));
		CHECK(message_error_is_fatal(body));
		m = message_error_field(body, 'C');
		CHECK_BYTES(m.data, m.len, rows[i].sqlstate, 5);
		m = message_error_field(body, 'M');
		if (rows[i].primary != NULL)
			CHECK_BYTES(m.data, m.len, rows[i].primary, strlen(rows[i].primary));
		CHECK(m.len > 0);
		buffer_consume(&b, buffer_len(&b));
	}
	for (i = 0; i < REFUSE_LIMIT; i++)
		CHECK(seen[i]);
	buffer_free(&b);
}

TEST(refusals_name_what_changes_them)
{
	static const struct
	{
		Refusal		refusal;
		const char *hint;
	}			rows[] = {
		{REFUSE_NO_ORIGIN, "hyperpool.create_origin("},
		{REFUSE_NO_RIGHT, "GRANT USAGE ON FOREIGN SERVER"},
		{REFUSE_NO_CREDENTIAL, "hyperpool.set_credential("},
		{REFUSE_NO_PASSWORD_USED, "hyperpool.set_credential("},
		{REFUSE_HBA_METHOD, "scram-sha-256, md5, cert or trust"},
		{REFUSE_TOO_MANY_CLIENTS, "hyperpool.max_clients"},
		{REFUSE_MEMORY, "hyperpool.worker_memory"},
		{REFUSE_LOGIN_TIMEOUT, "authentication_timeout"},
		{REFUSE_QUEUE_TIMEOUT, "pool_size or queue_timeout with hyperpool.alter_origin("},
		{REFUSE_PAUSED, "hyperpool.resume_origin("},
		{REFUSE_QUERY_TIMEOUT, "hyperpool.alter_origin("},
		{REFUSE_IDLE_TRANSACTION, "hyperpool.alter_origin("},
		{REFUSE_STATEMENT_MODE, "hyperpool.alter_origin("},
		{REFUSE_SLOW_READER, "hyperpool.share_buffer"},
		{REFUSE_TOO_MANY_LOGINS, "hyperpool.login_backlog"},
		{REFUSE_TOO_MANY_LOGINS_OF_ADDRESS, "hyperpool.login_address_limit"},
		{REFUSE_TOO_MANY_POOLS, "hyperpool.max_pools"},
		{REFUSE_TOO_MANY_STATEMENTS, "hyperpool.max_session_statements"},
		{REFUSE_TOO_MANY_SETTINGS, "hyperpool.max_settings"},
	};
	const RefusalRow *row;
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		row = refusal_row(rows[i].refusal);
		CHECK(row->hint != NULL && strstr(row->hint, rows[i].hint) != NULL);
	}
	CHECK(refusal_row((Refusal) 9999) != NULL);
}

TEST(the_shape_of_rows_is_not_where_they_come_from)
{
	static const uint8_t one[] = {0, 1, 'a', 0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 0};
	uint8_t		other[sizeof(one)];

	memcpy(other, one, sizeof(one));
	other[7] = 10;				/* another table */
	other[9] = 2;				/* another column of it */
	CHECK(digest_equal(message_row_shape(bytes_of(one, sizeof(one))), message_row_shape(bytes_of(other, sizeof(other)))));
	other[13] = 25;				/* another type */
	CHECK(!digest_equal(message_row_shape(bytes_of(one, sizeof(one))), message_row_shape(bytes_of(other, sizeof(other)))));
	memcpy(other, one, sizeof(one));
	other[2] = 'b';				/* another name */
	CHECK(!digest_equal(message_row_shape(bytes_of(one, sizeof(one))), message_row_shape(bytes_of(other, sizeof(other)))));
	CHECK(!digest_equal(message_row_shape(bytes_of(one, sizeof(one))), message_row_shape(bytes_of(one, sizeof(one) - 1))));
}
