/*
 * core/hba.c - which pg_hba.conf line matches this client?
 *
 * Answers as PostgreSQL's check_hba() does: the first line whose type, address, database and user all fit. Each
 * column is judged yes, no or unknown: unknown is what cannot be decided here (a host name, a regular expression
 * that did not compile). A line with an unknown column and no column that says no may be the one that the server
 * would take, so the search ends there and the client is rejected. Owns nothing, never opens or resolves.
 */
#include "core/hba.h"

typedef enum HbaFit
{
	FIT_NO, FIT_UNKNOWN, FIT_YES
} HbaFit;

/* ---- type ---- */

/*
 * GSSAPI encryption is not done here, so no client of ours is ever encrypted by it: hostgssenc never matches,
 * hostnogssenc always does.
 */
static bool
type_fits(uint8_t type, const HbaClient *client)
{
	if (client->local)
		return type == HBA_LOCAL;
	switch (type)
	{
		case HBA_HOST:
		case HBA_HOSTNOGSSENC:
			return true;
		case HBA_HOSTSSL:
			return client->tls;
		case HBA_HOSTNOSSL:
			return !client->tls;
		default:
			return false;
	}
}

/* ---- address ---- */

static size_t
address_length(uint8_t family)
{
	return family == 4 ? 4 : family == 6 ? HBA_ADDR_MAX : 0;
}

/* A line of one family never matches a client of the other, IPv4-mapped addresses included. */
static HbaFit
mask_fits(const GatewayHbaLine *line, const HbaClient *client)
{
	size_t		n = address_length(line->family);
	size_t		i;

	if (n == 0 || line->family != client->family)
		return FIT_NO;
	for (i = 0; i < n; i++)
	{
		if (((client->addr[i] ^ line->addr[i]) & line->mask[i]) != 0)
			return FIT_NO;
	}
	return FIT_YES;
}

static HbaFit
own_address_fits(const HbaClient *client, const HbaWorld *world, bool net)
{
	if (world->is_own_address == NULL)
		return FIT_UNKNOWN;
	return world->is_own_address(world->arg, client, net) ? FIT_YES : FIT_NO;
}

static HbaFit
address_fits(const GatewayHbaLine *line, const HbaClient *client, const HbaWorld *world)
{
	if (client->local)
		return FIT_YES;
	switch (line->address)
	{
		case HBA_ADDRESS_ALL:
			return FIT_YES;
		case HBA_ADDRESS_MASK:
			return mask_fits(line, client);
		case HBA_ADDRESS_SAMEHOST:
			return own_address_fits(client, world, false);
		case HBA_ADDRESS_SAMENET:
			return own_address_fits(client, world, true);
		default:
			return FIT_UNKNOWN;
	}
}

/* ---- database and user ---- */

static HbaFit
regex_fits(const HbaToken *token, Bytes text, const HbaWorld *world)
{
	if (token->regex == NULL || world->regex_matches == NULL)
		return FIT_UNKNOWN;
	return world->regex_matches(world->arg, token->regex, text) ? FIT_YES : FIT_NO;
}

static HbaFit
member_fits(Bytes user, Bytes role, const HbaWorld *world)
{
	if (world->is_member == NULL)
		return FIT_UNKNOWN;
	return world->is_member(world->arg, user, role) ? FIT_YES : FIT_NO;
}

static HbaFit
yes_if(bool answer)
{
	return answer ? FIT_YES : FIT_NO;
}

static HbaFit
database_token_fits(const HbaToken *token, const HbaClient *client, const HbaWorld *world)
{
	switch (token->kind)
	{
		case HBA_TOKEN_NAME:
			return yes_if(bytes_equal(token->text, client->database));
		case HBA_TOKEN_ALL:
			return FIT_YES;
		case HBA_TOKEN_SAMEUSER:
			return yes_if(bytes_equal(client->database, client->user));
		case HBA_TOKEN_SAMEROLE:
			return member_fits(client->user, client->database, world);
		case HBA_TOKEN_REPLICATION:
			return FIT_NO;
		case HBA_TOKEN_REGEX:
			return regex_fits(token, client->database, world);
		default:
			return FIT_UNKNOWN;
	}
}

static HbaFit
user_token_fits(const HbaToken *token, const HbaClient *client, const HbaWorld *world)
{
	switch (token->kind)
	{
		case HBA_TOKEN_NAME:
			return yes_if(bytes_equal(token->text, client->user));
		case HBA_TOKEN_ALL:
			return FIT_YES;
		case HBA_TOKEN_GROUP:
			return member_fits(client->user, token->text, world);
		case HBA_TOKEN_REGEX:
			return regex_fits(token, client->user, world);
		default:
			return FIT_UNKNOWN;
	}
}

typedef HbaFit (*TokenFits) (const HbaToken *token, const HbaClient *client, const HbaWorld *world);

/* One token that fits is enough; an unknown one counts only when none fits. */
static HbaFit
tokens_fit(const HbaToken *tokens, uint32_t n, TokenFits fits, const HbaClient *client, const HbaWorld *world)
{
	HbaFit		best = FIT_NO;
	uint32_t	i;

	for (i = 0; i < n && best != FIT_YES; i++)
	{
		HbaFit		fit = fits(&tokens[i], client, world);

		if (fit > best)
			best = fit;
	}
	return best;
}

/* ---- the line ---- */

static HbaFit
worse(HbaFit a, HbaFit b)
{
	return a < b ? a : b;
}

static HbaFit
line_fits(const GatewayHbaLine *line, const HbaClient *client, const HbaWorld *world)
{
	HbaFit		fit;

	if (!type_fits(line->type, client))
		return FIT_NO;
	fit = address_fits(line, client, world);
	if (fit != FIT_NO)
		fit = worse(fit, tokens_fit(line->databases, line->ndatabases, database_token_fits, client, world));
	if (fit != FIT_NO)
		fit = worse(fit, tokens_fit(line->users, line->nusers, user_token_fits, client, world));
	return fit;
}

const GatewayHbaLine *
hba_match(const GatewayHbaLine *lines, size_t n, const HbaClient *client, const HbaWorld *world, bool *undecidable)
{
	size_t		i;

	*undecidable = false;
	for (i = 0; i < n; i++)
	{
		HbaFit		fit = line_fits(&lines[i], client, world);

		if (fit == FIT_NO)
			continue;
		*undecidable = fit == FIT_UNKNOWN;
		return &lines[i];
	}
	return NULL;
}
