/*
 * test/unit/test_login.c - core/login: the first packets, well-formed and hostile.
 */
#include "core/login.h"
#include "unit.h"

#define LIT(s)	bytes_of(s, sizeof(s) - 1)

static uint8_t packet_room[16384];
static LoginStep step;

/* A packet of a code and what follows it, length in front. */
static Bytes
packet(uint32_t code, Bytes rest)
{
	set_u32(packet_room, (uint32_t) (8 + rest.len));
	set_u32(packet_room + 4, code);
	if (rest.data != NULL)
		memcpy(packet_room + 8, rest.data, rest.len);
	return bytes_of(packet_room, 8 + rest.len);
}

static LoginVerdict
first_step(uint32_t code, Bytes rest)
{
	LoginState	state = {0};

	return login_step(&state, packet(code, rest), &step);
}

static bool
refused(Refusal refusal, const char *arg)
{
	return step.refusal == refusal &&
		(arg == NULL || (step.refusal_arg != NULL && strcmp(step.refusal_arg, arg) == 0));
}

TEST(startup_of_a_usual_client)
{
	StartupRequest *s = &step.startup;

	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0,
							LIT("user\0bob\0database\0shop\0application_name\0psql\0"
								"client_encoding\0UTF8\0options\0-c x=y\0TimeZone\0UTC\0\0")),
				 LOGIN_STARTUP);
	CHECK_EQ_INT(step.used, get_u32(packet_room));
	CHECK(s->version == STARTUP_PROTOCOL_3_0);
	CHECK(bytes_equal_str(s->user, "bob"));
	CHECK(bytes_equal_str(s->database, "shop"));
	CHECK(bytes_equal_str(s->application_name, "psql"));
	CHECK(bytes_equal_str(s->options, "-c x=y"));
	CHECK_EQ_INT(s->replication.len, 0);
	CHECK(!s->wants_replication);
	CHECK_EQ_INT(s->count, 2);
	CHECK(bytes_equal_str(s->names[0], "client_encoding") && bytes_equal_str(s->values[0], "UTF8"));
	CHECK(bytes_equal_str(s->names[1], "TimeZone") && bytes_equal_str(s->values[1], "UTC"));
	CHECK(!s->negotiate);
	CHECK_EQ_INT(s->minor, 0);
	CHECK_EQ_INT(s->protocol_option_count, 0);
}

TEST(startup_in_pieces)
{
	Bytes		whole = packet(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0"));
	LoginState	state = {0};
	size_t		n;

	for (n = 0; n < whole.len; n++)
	{
		CHECK_EQ_INT(login_step(&state, bytes_of(whole.data, n), &step), LOGIN_MORE);
		CHECK_EQ_INT(step.used, 0);
	}
	CHECK_EQ_INT(login_step(&state, whole, &step), LOGIN_STARTUP);
	CHECK_EQ_INT(step.used, whole.len);
}

TEST(startup_leaves_what_follows)
{
	Bytes		whole = packet(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0"));
	LoginState	state = {0};

	CHECK_EQ_INT(login_step(&state, bytes_of(whole.data, whole.len + 7), &step), LOGIN_STARTUP);
	CHECK_EQ_INT(step.used, whole.len);
}

TEST(database_defaults_to_the_user)
{
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0")), LOGIN_STARTUP);
	CHECK(bytes_equal_str(step.startup.database, "bob"));
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("database\0\0user\0bob\0\0")), LOGIN_STARTUP);
	CHECK(bytes_equal_str(step.startup.database, "bob"));
}

TEST(user_is_required)
{
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("database\0shop\0\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_NO_USER, NULL));
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("user\0\0\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_NO_USER, NULL));
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_NO_USER, NULL));
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("User\0bob\0\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_NO_USER, NULL));
}

TEST(names_are_cut_like_identifiers)
{
	static const char rest[] =
	"user\0" "u123456789u123456789u123456789u123456789u123456789u123456789u123456789\0"
	"database\0" "d123456789d123456789d123456789d123456789d123456789d123456789d123456789\0\0";

	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT(rest)), LOGIN_STARTUP);
	CHECK_BYTES_LIT(step.startup.user.data, step.startup.user.len,
					"u123456789u123456789u123456789u123456789u123456789u123456789u12");
	CHECK_EQ_INT(step.startup.database.len, 63);
}

TEST(last_of_a_repeated_parameter_counts)
{
	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0,
							LIT("user\0a\0user\0b\0application_name\0x\0Application_Name\0y\0\0")),
				 LOGIN_STARTUP);
	CHECK(bytes_equal_str(step.startup.user, "b"));
	CHECK(bytes_equal_str(step.startup.application_name, "y"));
	CHECK_EQ_INT(step.startup.count, 0);
}

TEST(layout_errors)
{
	static const char text[] = "invalid startup packet layout: expected terminator as last byte";
	static const Bytes rests[] = {
		{(const uint8_t *) "", 0},
		{(const uint8_t *) "user\0bob\0", 9},
		{(const uint8_t *) "user\0bob", 8},
		{(const uint8_t *) "user\0", 5},
		{(const uint8_t *) "user", 4},
		{(const uint8_t *) "u", 1},
		{(const uint8_t *) "user\0bob\0\0\0", 11},
		{(const uint8_t *) "user\0bob\0\0x", 11},
		{(const uint8_t *) "\0user\0bob\0\0", 11},
		{(const uint8_t *) "user\0bob\0options\0", 17},
	};
	size_t		i;

	for (i = 0; i < sizeof(rests) / sizeof(rests[0]); i++)
	{
		if (!CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, rests[i]), LOGIN_BAD) ||
			!CHECK(refused(REFUSE_PROTOCOL_VIOLATION, text)))
			printf("#   row %zu\n", i);
	}
}

TEST(lengths)
{
	LoginState	state = {0};

	CHECK_EQ_INT(login_step(&state, LIT("\0\0\0\7\0\3\0\0"), &step), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&state, LIT("\xff\xff\xff\xff"), &step), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&state, LIT("\0\1\0\0"), &step), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&state, LIT("GET / HTTP/1.1\r\n"), &step), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&state, LIT(""), &step), LOGIN_MORE);
}

TEST(versions)
{
	static const struct
	{
		uint32_t	version;
		bool		negotiate;
		uint32_t	minor;
	}			rows[] = {
		{0x00030000, false, 0}, {0x00030001, true, 0}, {0x00030002, false, 2},
		{0x00030003, true, 2}, {0x0003270f, true, 2}, {0x0003ffff, true, 2}
	};
	size_t		i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		CHECK_EQ_INT(first_step(rows[i].version, LIT("user\0bob\0\0")), LOGIN_STARTUP);
		CHECK_EQ_INT(step.startup.version, rows[i].version);
		CHECK_EQ_INT(step.startup.negotiate, rows[i].negotiate);
		CHECK_EQ_INT(step.startup.minor, rows[i].minor);
	}
}

TEST(versions_that_are_not_served)
{
	CHECK_EQ_INT(first_step(0x00020000, LIT("user\0bob\0\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "2.0: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(first_step(0x00040001, LIT("user\0bob\0\0")), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "4.1: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(first_step(0xffffffff, LIT("")), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "65535.65535: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(first_step(0, LIT("")), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "0.0: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(first_step(80877105, LIT("")), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, NULL));
}

TEST(protocol_options_are_negotiated)
{
	CHECK_EQ_INT(first_step(0x0003270f, LIT("user\0bob\0_pq_.test_protocol_negotiation\0\0\0")),
				 LOGIN_STARTUP);
	CHECK(step.startup.negotiate);
	CHECK_EQ_INT(step.startup.minor, 2);
	CHECK_EQ_INT(step.startup.protocol_option_count, 1);
	CHECK(bytes_equal_str(step.startup.protocol_options[0], "_pq_.test_protocol_negotiation"));
	CHECK_EQ_INT(step.startup.count, 0);

	CHECK_EQ_INT(first_step(STARTUP_PROTOCOL_3_0, LIT("_pq_.\0on\0user\0bob\0_pq_x\0on\0\0")),
				 LOGIN_STARTUP);
	CHECK(step.startup.negotiate);
	CHECK_EQ_INT(step.startup.minor, 0);
	CHECK_EQ_INT(step.startup.protocol_option_count, 1);
	CHECK_EQ_INT(step.startup.count, 1);
}

/* A packet with a user and n more parameters called `name`. */
static LoginVerdict
step_with_many(const char *name, int n)
{
	ByteBuffer	b = {0};
	LoginVerdict verdict;
	int			i;

	buffer_put(&b, "user\0bob\0", 9);
	for (i = 0; i < n; i++)
	{
		buffer_put_cstr(&b, bytes_str(name));
		buffer_put_cstr(&b, bytes_str("v"));
	}
	buffer_put_u8(&b, 0);
	verdict = first_step(STARTUP_PROTOCOL_3_0, buffer_view(&b));
	buffer_free(&b);
	return verdict;
}

TEST(parameters_are_bounded)
{
	CHECK_EQ_INT(step_with_many("x.y", LOGIN_MAX_PARAMETERS), LOGIN_STARTUP);
	CHECK_EQ_INT(step.startup.count, LOGIN_MAX_PARAMETERS);
	CHECK_EQ_INT(step_with_many("x.y", LOGIN_MAX_PARAMETERS + 1), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VIOLATION, NULL));
	CHECK_EQ_INT(step_with_many("_pq_.z", LOGIN_MAX_PROTOCOL_OPTIONS), LOGIN_STARTUP);
	CHECK_EQ_INT(step.startup.protocol_option_count, LOGIN_MAX_PROTOCOL_OPTIONS);
	CHECK_EQ_INT(step_with_many("_pq_.z", LOGIN_MAX_PROTOCOL_OPTIONS + 1), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VIOLATION, NULL));
}

static LoginVerdict
step_with_replication(const char *value)
{
	ByteBuffer	b = {0};
	LoginVerdict verdict;

	buffer_put(&b, "user\0bob\0replication\0", 21);
	buffer_put_cstr(&b, bytes_str(value));
	buffer_put_u8(&b, 0);
	verdict = first_step(STARTUP_PROTOCOL_3_0, buffer_view(&b));
	buffer_free(&b);
	return verdict;
}

TEST(replication_words)
{
	static const char *const yes[] = {"database", "true", "t", "TR", "yes", "y", "on", "ON", "1"};
	static const char *const no[] = {"false", "f", "no", "N", "off", "of", "0"};
	static const char *const bad[] = {"", "o", "2", "10", "truee", "Database", "maybe"};
	size_t		i;

	for (i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
	{
		CHECK_EQ_INT(step_with_replication(yes[i]), LOGIN_STARTUP);
		CHECK(step.startup.wants_replication);
		CHECK(bytes_equal_str(step.startup.replication, yes[i]));
	}
	for (i = 0; i < sizeof(no) / sizeof(no[0]); i++)
	{
		CHECK_EQ_INT(step_with_replication(no[i]), LOGIN_STARTUP);
		CHECK(!step.startup.wants_replication);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		CHECK_EQ_INT(step_with_replication(bad[i]), LOGIN_BAD);
		CHECK(refused(REFUSE_SETTING, NULL));
	}
	CHECK_EQ_INT(step_with_replication("a\x80\n%s"), LOGIN_BAD);
	CHECK(refused(REFUSE_SETTING, "invalid value for parameter \"replication\": \"a??%s\""));
	CHECK_EQ_INT(step_with_replication("a value that is much longer than what can be shown of it"), LOGIN_BAD);
	CHECK(strlen(step.refusal_arg) < sizeof(step.arg_text));
	CHECK(step.refusal_arg[strlen(step.refusal_arg) - 1] == '"');
}

TEST(encryption_requests_come_once_each)
{
	LoginState	state = {0};
	uint8_t		ssl[8];
	uint8_t		gss[8];

	memcpy(gss, packet(STARTUP_GSSENC, LIT("")).data, 8);
	memcpy(ssl, packet(STARTUP_SSL, LIT("")).data, 8);
	CHECK_EQ_INT(login_step(&state, bytes_of(gss, 8), &step), LOGIN_GSS_REQUEST);
	CHECK_EQ_INT(step.used, 8);
	CHECK(state.gss_asked && !state.ssl_asked);
	CHECK_EQ_INT(login_step(&state, bytes_of(ssl, 8), &step), LOGIN_SSL_REQUEST);
	CHECK_EQ_INT(step.used, 8);
	CHECK(state.ssl_asked);
	CHECK_EQ_INT(login_step(&state, bytes_of(ssl, 8), &step), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "1234.5679: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(login_step(&state, bytes_of(gss, 8), &step), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, "1234.5680: server supports 3.0 to 3.2"));
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0")), &step), LOGIN_STARTUP);
}

TEST(encryption_requests_under_tls_are_refused)
{
	LoginState	state = {.tls = true};

	CHECK_EQ_INT(login_step(&state, packet(STARTUP_SSL, LIT("")), &step), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, NULL));
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_GSSENC, LIT("")), &step), LOGIN_BAD);
	CHECK(refused(REFUSE_PROTOCOL_VERSION, NULL));
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0")), &step), LOGIN_STARTUP);
}

TEST(ssl_request_in_pieces)
{
	Bytes		whole = packet(STARTUP_SSL, LIT(""));
	LoginState	state = {0};
	size_t		n;

	for (n = 0; n < 8; n++)
	{
		CHECK_EQ_INT(login_step(&state, bytes_of(whole.data, n), &step), LOGIN_MORE);
		CHECK(!state.ssl_asked);
	}
	CHECK_EQ_INT(login_step(&state, whole, &step), LOGIN_SSL_REQUEST);
}

TEST(direct_tls_is_the_first_byte)
{
	LoginState	state = {0};
	LoginState	later = {0};
	LoginState	inside = {.tls = true};

	CHECK_EQ_INT(login_step(&state, LIT(""), &step), LOGIN_MORE);
	CHECK_EQ_INT(login_step(&state, LIT("\x16"), &step), LOGIN_DIRECT_TLS);
	CHECK_EQ_INT(step.used, 0);
	state.tls = true;
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_SSL, LIT("")), &step), LOGIN_BAD);
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_PROTOCOL_3_0, LIT("user\0bob\0\0")), &step), LOGIN_STARTUP);

	CHECK_EQ_INT(login_step(&later, packet(STARTUP_SSL, LIT("")), &step), LOGIN_SSL_REQUEST);
	CHECK_EQ_INT(login_step(&later, LIT("\x16\3\1\2\0\1"), &step), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&inside, LIT("\x16\3\1\2\0\1"), &step), LOGIN_CLOSE);
}

TEST(cancel_requests)
{
	static uint8_t rest[4 + 300];
	LoginState	state = {.tls = true, .ssl_asked = true, .first_byte_seen = true};
	size_t		key;

	set_u32(rest, 0x80000001);
	memset(rest + 4, 'k', 300);
	for (key = 0; key <= 300; key++)
	{
		LoginVerdict verdict = first_step(STARTUP_CANCEL, bytes_of(rest, 4 + key));

		if (key >= 4 && key <= 256)
		{
			CHECK_EQ_INT(verdict, LOGIN_CANCEL);
			CHECK_EQ_INT(step.cancel_pid, 0x80000001);
			CHECK_BYTES(step.cancel_key.data, step.cancel_key.len, rest + 4, key);
			CHECK_EQ_INT(step.used, 12 + key);
		}
		else
		{
			CHECK_EQ_INT(verdict, LOGIN_CLOSE);
		}
	}
	CHECK_EQ_INT(first_step(STARTUP_CANCEL, bytes_of(rest, 2)), LOGIN_CLOSE);
	CHECK_EQ_INT(login_step(&state, packet(STARTUP_CANCEL, bytes_of(rest, 8)), &step), LOGIN_CANCEL);
}

/* Every one-byte change and every cut of a packet: no verdict but the known ones, views inside the packet. */
TEST(damaged_packets)
{
	uint8_t		in[256];
	Bytes		whole = packet(0x0003270f, LIT("user\0bob\0database\0shop\0_pq_.a\0b\0replication\0off\0x\0y\0\0"));
	size_t		len = whole.len;
	size_t		at;
	int			v;
	uint32_t	i;
	bool		sound = true;

	for (at = 0; at < len; at++)
	{
		for (v = 0; v < 256; v++)
		{
			LoginState	state = {0};
			LoginVerdict verdict;

			memcpy(in, whole.data, len);
			in[at] = (uint8_t) v;
			verdict = login_step(&state, bytes_of(in, len), &step);
			sound = sound && verdict <= LOGIN_BAD && step.used <= len;
			sound = sound && (verdict != LOGIN_BAD || refusal_row(step.refusal)->sqlstate != NULL);
			for (i = 0; i < step.startup.count; i++)
				sound = sound && step.startup.names[i].data >= in &&
					step.startup.values[i].data + step.startup.values[i].len < in + len;
		}
	}
	CHECK(sound);
}
