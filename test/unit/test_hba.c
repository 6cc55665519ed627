/*
 * test/unit/test_hba.c - core/hba: lines and clients in tables, the verdict of PostgreSQL's check_hba() expected.
 *
 * The world of the tests: alice and carol are members of staff, carol by way of team; every role is a member of
 * itself. A regex is a prefix. Our own address is 10.0.0.5, our own network 10.0.0.0/8.
 */
#include "core/hba.h"
#include "unit.h"

#define ANY_ADDRESS		.address = HBA_ADDRESS_ALL
#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

static const uint8_t own[] = {10, 0, 0, 5};

static bool
world_is_member(void *arg, Bytes user, Bytes role)
{
	(void) arg;
	if (bytes_equal(user, role))
		return !bytes_equal_str(user, "ghost");
	if (bytes_equal_str(role, "staff"))
		return bytes_equal_str(user, "alice") || bytes_equal_str(user, "carol") || bytes_equal_str(user, "team");
	return bytes_equal_str(role, "team") && bytes_equal_str(user, "carol");
}

static bool
world_regex_matches(void *arg, void *regex, Bytes text)
{
	const char *prefix = regex;
	size_t		n = strlen(prefix);

	(void) arg;
	return text.len >= n && memcmp(text.data, prefix, n) == 0;
}

static bool
world_is_own_address(void *arg, const HbaClient *client, bool net)
{
	(void) arg;
	return client->family == 4 && memcmp(client->addr, own, net ? 1 : 4) == 0;
}

static const HbaWorld world = {NULL, world_is_member, world_regex_matches, world_is_own_address};

/* "all" and friends as they stand in a file; text beyond them is a name. */
static HbaToken
database_token(const char *text)
{
	HbaToken	token = {HBA_TOKEN_NAME, bytes_str(text), NULL};

	if (strcmp(text, "all") == 0)
		token.kind = HBA_TOKEN_ALL;
	else if (strcmp(text, "sameuser") == 0)
		token.kind = HBA_TOKEN_SAMEUSER;
	else if (strcmp(text, "samerole") == 0)
		token.kind = HBA_TOKEN_SAMEROLE;
	else if (strcmp(text, "replication") == 0)
		token.kind = HBA_TOKEN_REPLICATION;
	else if (text[0] == '/')
	{
		token.kind = HBA_TOKEN_REGEX;
		token.regex = text[1] == '!' ? NULL : (void *) (uintptr_t) (text + 1);
	}
	return token;
}

static HbaToken
user_token(const char *text)
{
	HbaToken	token = database_token(text);

	if (token.kind == HBA_TOKEN_SAMEUSER || token.kind == HBA_TOKEN_SAMEROLE || token.kind == HBA_TOKEN_REPLICATION)
		token.kind = HBA_TOKEN_NAME;
	if (text[0] == '+')
	{
		token.kind = HBA_TOKEN_GROUP;
		token.text = bytes_str(text + 1);
	}
	return token;
}

static void
set_v4(uint8_t *addr, uint32_t v)
{
	memset(addr, 0, HBA_ADDR_MAX);
	set_u32(addr, v);
}

/* One line, one database token, one user token, and one client. */
typedef struct Case
{
	const char *name;
	HbaType		type;
	HbaAddress	address;
	uint8_t		family;			/* of the line */
	uint32_t	addr;
	uint32_t	mask;
	const char *database;
	const char *user;
	bool		local;
	bool		tls;
	uint32_t	from;			/* IPv4 of the client */
	const char *with_database;
	const char *with_user;
	bool		matches;
	bool		undecidable;
} Case;

#define LOCALHOST	0x7f000001u
#define ALL_TO(t)	t, HBA_ADDRESS_ALL, 0, 0, 0, "all", "all"
#define HOST_ALL(d, u)	HBA_HOST, HBA_ADDRESS_ALL, 0, 0, 0, d, u
#define MASKED(a, m)	HBA_HOST, HBA_ADDRESS_MASK, 4, a, m, "all", "all"
#define SOCKET		true, false, 0
#define PLAIN		false, false, LOCALHOST
#define TLS			false, true, LOCALHOST
#define FROM(a)		false, false, a
#define YES			true, false
#define NO			false, false
#define UNKNOWN		true, true

static const Case cases[] = {
	{"local, socket", ALL_TO(HBA_LOCAL), SOCKET, "db", "bob", YES},
	{"local, plain", ALL_TO(HBA_LOCAL), PLAIN, "db", "bob", NO},
	{"local, tls", ALL_TO(HBA_LOCAL), TLS, "db", "bob", NO},
	{"host, socket", ALL_TO(HBA_HOST), SOCKET, "db", "bob", NO},
	{"host, plain", ALL_TO(HBA_HOST), PLAIN, "db", "bob", YES},
	{"host, tls", ALL_TO(HBA_HOST), TLS, "db", "bob", YES},
	{"hostssl, socket", ALL_TO(HBA_HOSTSSL), SOCKET, "db", "bob", NO},
	{"hostssl, plain", ALL_TO(HBA_HOSTSSL), PLAIN, "db", "bob", NO},
	{"hostssl, tls", ALL_TO(HBA_HOSTSSL), TLS, "db", "bob", YES},
	{"hostnossl, socket", ALL_TO(HBA_HOSTNOSSL), SOCKET, "db", "bob", NO},
	{"hostnossl, plain", ALL_TO(HBA_HOSTNOSSL), PLAIN, "db", "bob", YES},
	{"hostnossl, tls", ALL_TO(HBA_HOSTNOSSL), TLS, "db", "bob", NO},
	{"hostgssenc, plain", ALL_TO(HBA_HOSTGSSENC), PLAIN, "db", "bob", NO},
	{"hostgssenc, tls", ALL_TO(HBA_HOSTGSSENC), TLS, "db", "bob", NO},
	{"hostnogssenc, socket", ALL_TO(HBA_HOSTNOGSSENC), SOCKET, "db", "bob", NO},
	{"hostnogssenc, plain", ALL_TO(HBA_HOSTNOGSSENC), PLAIN, "db", "bob", YES},
	{"hostnogssenc, tls", ALL_TO(HBA_HOSTNOGSSENC), TLS, "db", "bob", YES},
	{"a type that does not exist", ALL_TO(99), PLAIN, "db", "bob", NO},

	{"mask, the address", MASKED(LOCALHOST, 0xffffffff), PLAIN, "db", "bob", YES},
	{"mask, the next address", MASKED(LOCALHOST, 0xffffffff), FROM(LOCALHOST + 1), "db", "bob", NO},
	{"mask /8, inside", MASKED(0x7f000000, 0xff000000), FROM(0x7fffffff), "db", "bob", YES},
	{"mask /8, outside", MASKED(0x7f000000, 0xff000000), FROM(0x80000000), "db", "bob", NO},
	{"mask /0", MASKED(0, 0), FROM(0xfffffffe), "db", "bob", YES},
	{"mask /31, last bit", MASKED(0x0a000004, 0xfffffffe), FROM(0x0a000005), "db", "bob", YES},
	{"mask with host bits set in the line", MASKED(0x0a0000ff, 0xffffff00), FROM(0x0a000001), "db", "bob", YES},
	{"mask with holes", MASKED(0x0a000005, 0xff0000ff), FROM(0x0a636305), "db", "bob", YES},
	{"mask of a line without family", HBA_HOST, HBA_ADDRESS_MASK, 0, 0, 0, "all", "all", PLAIN, "db", "bob", NO},
	{"an IPv6 line for all, IPv4 client", HBA_HOST, HBA_ADDRESS_MASK, 6, 0, 0, "all", "all", PLAIN, "db", "bob", NO},
	{"samehost, own", HBA_HOST, HBA_ADDRESS_SAMEHOST, 0, 0, 0, "all", "all", FROM(0x0a000005), "db", "bob", YES},
	{"samehost, net", HBA_HOST, HBA_ADDRESS_SAMEHOST, 0, 0, 0, "all", "all", FROM(0x0a000006), "db", "bob", NO},
	{"samenet, net", HBA_HOST, HBA_ADDRESS_SAMENET, 0, 0, 0, "all", "all", FROM(0x0a000006), "db", "bob", YES},
	{"samenet, elsewhere", HBA_HOST, HBA_ADDRESS_SAMENET, 0, 0, 0, "all", "all", FROM(0x0b000006), "db", "bob", NO},
	{"host name", HBA_HOST, HBA_ADDRESS_NAME, 0, 0, 0, "all", "all", PLAIN, "db", "bob", UNKNOWN},
	{"host name, other database", HBA_HOST, HBA_ADDRESS_NAME, 0, 0, 0, "other", "all", PLAIN, "db", "bob", NO},
	{"host name, other user", HBA_HOST, HBA_ADDRESS_NAME, 0, 0, 0, "all", "other", PLAIN, "db", "bob", NO},
	{"host name, other type", HBA_HOSTSSL, HBA_ADDRESS_NAME, 0, 0, 0, "all", "all", PLAIN, "db", "bob", NO},
	{"an address kind that does not exist", HBA_HOST, 99, 0, 0, 0, "all", "all", PLAIN, "db", "bob", UNKNOWN},

	{"database name", HOST_ALL("db", "all"), PLAIN, "db", "bob", YES},
	{"database other", HOST_ALL("db", "all"), PLAIN, "dbx", "bob", NO},
	{"database shorter", HOST_ALL("db", "all"), PLAIN, "d", "bob", NO},
	{"database case", HOST_ALL("DB", "all"), PLAIN, "db", "bob", NO},
	{"sameuser", HOST_ALL("sameuser", "all"), PLAIN, "bob", "bob", YES},
	{"sameuser, other", HOST_ALL("sameuser", "all"), PLAIN, "db", "bob", NO},
	{"samerole, member", HOST_ALL("samerole", "all"), PLAIN, "staff", "alice", YES},
	{"samerole, by way of another", HOST_ALL("samerole", "all"), PLAIN, "staff", "carol", YES},
	{"samerole, itself", HOST_ALL("samerole", "all"), PLAIN, "bob", "bob", YES},
	{"samerole, no member", HOST_ALL("samerole", "all"), PLAIN, "staff", "bob", NO},
	{"samerole, no such role", HOST_ALL("samerole", "all"), PLAIN, "ghost", "ghost", NO},
	{"replication never", HOST_ALL("replication", "all"), PLAIN, "replication", "bob", NO},
	{"database regex", HOST_ALL("/db", "all"), PLAIN, "db_7", "bob", YES},
	{"database regex, other", HOST_ALL("/db", "all"), PLAIN, "xdb", "bob", NO},
	{"database regex that did not compile", HOST_ALL("/!", "all"), PLAIN, "db", "bob", UNKNOWN},

	{"user name", HOST_ALL("all", "bob"), PLAIN, "db", "bob", YES},
	{"user other", HOST_ALL("all", "bob"), PLAIN, "db", "bobby", NO},
	{"user case", HOST_ALL("all", "Bob"), PLAIN, "db", "bob", NO},
	{"user called sameuser", HOST_ALL("all", "sameuser"), PLAIN, "bob", "bob", NO},
	{"group, member", HOST_ALL("all", "+staff"), PLAIN, "db", "alice", YES},
	{"group, by way of another", HOST_ALL("all", "+staff"), PLAIN, "db", "carol", YES},
	{"group, itself", HOST_ALL("all", "+staff"), PLAIN, "db", "staff", YES},
	{"group, no member", HOST_ALL("all", "+staff"), PLAIN, "db", "bob", NO},
	{"group, unknown group", HOST_ALL("all", "+nobody"), PLAIN, "db", "alice", NO},
	{"user regex", HOST_ALL("all", "/b"), PLAIN, "db", "bob", YES},
	{"user regex, other", HOST_ALL("all", "/b"), PLAIN, "db", "alice", NO},
	{"user regex that did not compile", HOST_ALL("all", "/!"), PLAIN, "db", "bob", UNKNOWN},
};

static const GatewayHbaLine *
match_case(const Case *c, GatewayHbaLine *line, bool *undecidable)
{
	HbaToken	database = database_token(c->database);
	HbaToken	user = user_token(c->user);
	HbaClient	client = {.local = c->local, .tls = c->tls, .family = c->local ? 0 : 4};

	*line = (GatewayHbaLine) {.type = c->type, .method = HBA_METHOD_TRUST, .address = c->address, .family = c->family,
		.ndatabases = 1, .databases = &database, .nusers = 1, .users = &user};
	set_v4(line->addr, c->addr);
	set_v4(line->mask, c->mask);
	set_v4(client.addr, c->from);
	client.database = bytes_str(c->with_database);
	client.user = bytes_str(c->with_user);
	return hba_match(line, 1, &client, &world, undecidable);
}

TEST(one_line)
{
	size_t		i;

	for (i = 0; i < COUNT(cases); i++)
	{
		GatewayHbaLine line;
		bool		undecidable = true;
		const GatewayHbaLine *found = match_case(&cases[i], &line, &undecidable);

		if (!CHECK_EQ_INT(found == &line, cases[i].matches) ||
			!CHECK_EQ_INT(undecidable, cases[i].undecidable))
			printf("# in case: %s\n", cases[i].name);
	}
}

/* All 128 bits count, and a mapped address is an IPv6 address. */
TEST(ipv6)
{
	HbaToken	all = {HBA_TOKEN_ALL, {NULL, 0}, NULL};
	GatewayHbaLine line = {.type = HBA_HOST, .address = HBA_ADDRESS_MASK, .family = 6,
		.ndatabases = 1, .databases = &all, .nusers = 1, .users = &all};
	HbaClient	client = {.family = 6};
	bool		undecidable;

	memset(line.mask, 0xff, sizeof(line.mask));
	line.addr[15] = client.addr[15] = 1;
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == &line);
	client.addr[15] = 2;
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == NULL);
	line.mask[15] = 0xfc;
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == &line);
	client.addr[0] = 0xfe;
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == NULL);

	/* ::ffff:127.0.0.1 against 127.0.0.1/32 */
	line.family = 4;
	set_v4(line.addr, LOCALHOST);
	set_v4(line.mask, 0xffffffff);
	memset(client.addr, 0, sizeof(client.addr));
	client.addr[10] = client.addr[11] = 0xff;
	memcpy(client.addr + 12, line.addr, 4);
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == NULL);
}

static GatewayHbaLine
line_of(HbaAddress address, HbaMethod method, HbaToken *databases, uint32_t nd, HbaToken *users, uint32_t nu)
{
	GatewayHbaLine line = {.type = HBA_HOST, .method = method, .address = address,
		.ndatabases = nd, .databases = databases, .nusers = nu, .users = users};

	return line;
}

static HbaClient
client_of(const char *database, const char *user)
{
	HbaClient	client = {.family = 4};

	client.database = bytes_str(database);
	client.user = bytes_str(user);
	set_v4(client.addr, LOCALHOST);
	return client;
}

/* One token that fits is enough, wherever it stands; an unknown one does not outweigh it. */
TEST(lists_of_tokens)
{
	HbaToken	databases[] = {database_token("one"), database_token("/!"), database_token("two")};
	HbaToken	users[] = {user_token("+staff"), user_token("bob")};
	GatewayHbaLine line = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, databases, 3, users, 2);
	HbaClient	client;
	bool		undecidable;

	client = client_of("two", "bob");
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == &line && !undecidable);
	client = client_of("one", "alice");
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == &line && !undecidable);
	client = client_of("three", "alice");
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == &line && undecidable);
	client = client_of("three", "dave");
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == NULL && !undecidable);
	line.ndatabases = 0;
	client = client_of("one", "bob");
	CHECK(hba_match(&line, 1, &client, &world, &undecidable) == NULL);
}

/* The first line that fits decides, also when a later one would let in. */
TEST(first_match)
{
	HbaToken	all = {HBA_TOKEN_ALL, {NULL, 0}, NULL};
	HbaToken	db = database_token("db");
	HbaToken	bob = user_token("bob");
	GatewayHbaLine lines[4];
	HbaClient	client = client_of("db", "bob");
	bool		undecidable;

	lines[0] = line_of(HBA_ADDRESS_NAME, HBA_METHOD_TRUST, &db, 1, &bob, 1);
	lines[0].type = HBA_HOSTSSL;
	lines[1] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_REJECT, &db, 1, &bob, 1);
	lines[2] = line_of(HBA_ADDRESS_NAME, HBA_METHOD_TRUST, &db, 1, &all, 1);
	lines[3] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &all, 1, &all, 1);

	CHECK(hba_match(lines, 4, &client, &world, &undecidable) == &lines[1] && !undecidable);
	client.tls = true;
	CHECK(hba_match(lines, 4, &client, &world, &undecidable) == &lines[0] && undecidable);
	client = client_of("db", "alice");
	CHECK(hba_match(lines, 4, &client, &world, &undecidable) == &lines[2] && undecidable);
	client = client_of("other", "alice");
	CHECK(hba_match(lines, 4, &client, &world, &undecidable) == &lines[3] && !undecidable);
	CHECK(hba_match(lines, 3, &client, &world, &undecidable) == NULL && !undecidable);
	CHECK(hba_match(NULL, 0, &client, &world, &undecidable) == NULL && !undecidable);
}

/* A world that cannot be asked never lets in. */
TEST(world_without_answers)
{
	static const HbaWorld silent = {NULL, NULL, NULL, NULL};
	HbaToken	all = {HBA_TOKEN_ALL, {NULL, 0}, NULL};
	HbaToken	group = user_token("+staff");
	HbaToken	samerole = database_token("samerole");
	HbaToken	regex = database_token("/db");
	HbaToken	strange = {99, {NULL, 0}, NULL};
	HbaClient	client = client_of("db", "bob");
	GatewayHbaLine lines[6];
	bool		undecidable;
	int			i;

	lines[0] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &all, 1, &group, 1);
	lines[1] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &samerole, 1, &all, 1);
	lines[2] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &regex, 1, &all, 1);
	lines[3] = line_of(HBA_ADDRESS_SAMEHOST, HBA_METHOD_TRUST, &all, 1, &all, 1);
	lines[4] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &strange, 1, &all, 1);
	lines[5] = line_of(HBA_ADDRESS_ALL, HBA_METHOD_TRUST, &all, 1, &strange, 1);
	for (i = 0; i < 6; i++)
		CHECK(hba_match(&lines[i], 1, &client, &silent, &undecidable) == &lines[i] && undecidable);
}
