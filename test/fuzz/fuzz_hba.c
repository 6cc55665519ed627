/*
 * test/fuzz/fuzz_hba.c - core/hba against the rule it stands for: the line it takes is the first that could match.
 *
 * What cannot be decided is tried both ways here. A line that matches in neither is passed over; the first other one is the answer, and it is undecidable
 * when one way it matches and the other it does not.
 * Input: the client, what the world answers, lines.
 */
#include "core/hba.h"
#include "fuzz.h"

#define LINES_MAX	24
#define TOKENS_MAX	6

typedef struct World
{
	HbaClient	client;
	HbaWorld	world;
	uint32_t	answers;		/* bits, by a hash of the question */
} World;

static const char *const names[] = {"", "a", "b", "app", "all", "postgres", "a database with a long name"};

static Bytes
pick_name(FuzzInput *in)
{
	uint8_t		c = fuzz_u8(in);

	return c % 8 == 7 ? fuzz_bytes(in, c / 8) : bytes_str(names[c % 7]);
}

static bool
answer_of(const World *w, Bytes a, Bytes b)
{
	return w->answers >> (digest_of(a).lo * 3 + digest_of(b).lo) % 32 & 1;
}

static bool
is_member(void *arg, Bytes user, Bytes role)
{
	return answer_of(arg, user, role);
}

static bool
regex_matches(void *arg, void *regex, Bytes text)
{
	return answer_of(arg, bytes_of(&regex, sizeof(regex)), text);
}

static bool
is_own_address(void *arg, const HbaClient *client, bool net)
{
	(void) client;
	return ((World *) arg)->answers >> net & 1;
}

/* ---- the plain rule, with what is not known taken as `unknown` ---- */

static bool
token_matches(World *w, const HbaToken *t, Bytes text, bool is_user, bool unknown)
{
	switch (t->kind)
	{
		case HBA_TOKEN_NAME:
			return bytes_equal(t->text, text);
		case HBA_TOKEN_ALL:
			return true;
		case HBA_TOKEN_REGEX:
			return t->regex && w->world.regex_matches ? regex_matches(w, t->regex, text) : unknown;
		case HBA_TOKEN_SAMEUSER:
			return is_user ? unknown : bytes_equal(w->client.user, w->client.database);
		case HBA_TOKEN_SAMEROLE:
			return is_user || !w->world.is_member ? unknown : is_member(w, w->client.user, w->client.database);
		case HBA_TOKEN_REPLICATION:
			return is_user ? unknown : false;
		case HBA_TOKEN_GROUP:
			return !is_user || !w->world.is_member ? unknown : is_member(w, w->client.user, t->text);
		default:
			return unknown;
	}
}

static bool
some_token_matches(World *w, const HbaToken *tokens, uint32_t n, Bytes text, bool is_user, bool unknown)
{
	for (uint32_t i = 0; i < n; i++)
		if (token_matches(w, &tokens[i], text, is_user, unknown))
			return true;
	return false;
}

static bool
address_matches(World *w, const GatewayHbaLine *line, bool unknown)
{
	const HbaClient *c = &w->client;
	int			bytes = line->family == 4 ? 4 : 16;

	switch (line->address)
	{
		case HBA_ADDRESS_ALL:
			return true;
		case HBA_ADDRESS_MASK:
			if ((line->family != 4 && line->family != 6) || line->family != c->family)
				return false;
			for (int i = 0; i < bytes; i++)
				if ((c->addr[i] & line->mask[i]) != (line->addr[i] & line->mask[i]))
					return false;
			return true;
		case HBA_ADDRESS_SAMEHOST:
		case HBA_ADDRESS_SAMENET:
			return w->world.is_own_address ? is_own_address(w, c, line->address == HBA_ADDRESS_SAMENET) : unknown;
		default:
			return unknown;
	}
}

static bool
line_matches(World *w, const GatewayHbaLine *line, bool unknown)
{
	const HbaClient *c = &w->client;

	if (c->local != (line->type == HBA_LOCAL))
		return false;
	if ((line->type == HBA_HOSTSSL && !c->tls) || (line->type == HBA_HOSTNOSSL && c->tls) || line->type == HBA_HOSTGSSENC || line->type > HBA_HOSTNOGSSENC)
		return false;
	return (c->local || address_matches(w, line, unknown)) &&
		some_token_matches(w, line->databases, line->ndatabases, c->database, false, unknown) &&
		some_token_matches(w, line->users, line->nusers, c->user, true, unknown);
}

/* ---- the input ---- */

static void
read_tokens(FuzzInput *in, HbaToken *tokens, uint32_t *n)
{
	*n = fuzz_below(in, TOKENS_MAX + 1);
	for (uint32_t i = 0; i < *n; i++)
	{
		uint8_t		kind = fuzz_u8(in);

		tokens[i].kind = kind % 9;	/* one too many */
		tokens[i].text = pick_name(in);
		tokens[i].regex = kind & 0x80 ? (void *) (uintptr_t) (1 + kind % 3) : NULL;
	}
}

static void
read_address(FuzzInput *in, uint8_t *addr)
{
	for (int i = 0; i < HBA_ADDR_MAX; i++)
		addr[i] = fuzz_u8(in) % 3;
}

static void
read_line(FuzzInput *in, GatewayHbaLine *line, HbaToken tokens[2][TOKENS_MAX])
{
	uint8_t		bits;

	line->type = fuzz_u8(in) % 7;
	line->method = fuzz_u8(in) % 6;
	line->address = fuzz_u8(in) % 6;
	line->family = (uint8_t) (4 + fuzz_below(in, 3));
	read_address(in, line->addr);
	bits = fuzz_u8(in);
	for (int i = 0; i < HBA_ADDR_MAX; i++)
		line->mask[i] = i < bits % 17 ? 0xff : 0;
	line->databases = tokens[0];
	line->users = tokens[1];
	read_tokens(in, line->databases, &line->ndatabases);
	read_tokens(in, line->users, &line->nusers);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static GatewayHbaLine lines[LINES_MAX];
	static HbaToken tokens[LINES_MAX][2][TOKENS_MAX];
	FuzzInput	in = {data, data + size};
	World		w = {0};
	uint8_t		flags = fuzz_u8(&in);
	size_t		n = 0;
	size_t		wanted;
	bool		undecidable;
	const GatewayHbaLine *found;

	w.client.local = (flags & 3) == 0;
	w.client.tls = flags & 4;
	w.client.family = flags & 8 ? 4 : 6;
	w.world = (HbaWorld) {&w, flags & 16 ? NULL : is_member, flags & 32 ? NULL : regex_matches, flags & 64 ? NULL : is_own_address};
	w.answers = fuzz_u32(&in);
	w.client.user = pick_name(&in);
	w.client.database = pick_name(&in);
	read_address(&in, w.client.addr);
	while (n < LINES_MAX && fuzz_left(&in) > 0)
	{
		read_line(&in, &lines[n], tokens[n]);
		n++;
	}
	found = hba_match(lines, n, &w.client, &w.world, &undecidable);
	for (wanted = 0; wanted < n && !line_matches(&w, &lines[wanted], true); wanted++)
		;
	FUZZ_CHECK(found == (wanted < n ? &lines[wanted] : NULL));
	FUZZ_CHECK(undecidable == (found && !line_matches(&w, found, false)));
	FUZZ_REACHED("lines passed over before one matched", found ? wanted : 0);
	return 0;
}
