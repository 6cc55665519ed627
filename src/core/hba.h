/*
 * core/hba.h - which pg_hba.conf line matches this client?                        floor 1
 *
 * Plain data in, verdict out. The manager parses the file with PostgreSQL's own code (host/directory carries the lines
 * across); this room only matches, line by line, as PostgreSQL's check_hba does.
 * Fails closed: a line whose match cannot be decided (host name) rejects all who reach it; a line
 * with a method we do not do matches and rejects. Never: opens a file, resolves a name.
 */
#ifndef HYPERPOOL_CORE_HBA_H
#define HYPERPOOL_CORE_HBA_H

#include "core/bytes.h"

typedef enum HbaType
{
	HBA_LOCAL, HBA_HOST, HBA_HOSTSSL, HBA_HOSTNOSSL, HBA_HOSTGSSENC, HBA_HOSTNOGSSENC
} HbaType;

typedef enum HbaMethod
{
	HBA_METHOD_REJECT, HBA_METHOD_TRUST, HBA_METHOD_MD5, HBA_METHOD_SCRAM, HBA_METHOD_CERT,
	HBA_METHOD_OTHER			/* peer, ident, password, ldap, pam, radius, gss, sspi, bsd, oauth: we reject */
} HbaMethod;

typedef enum HbaAddress
{
	HBA_ADDRESS_ALL, HBA_ADDRESS_MASK, HBA_ADDRESS_SAMEHOST, HBA_ADDRESS_SAMENET,
	HBA_ADDRESS_NAME			/* a host name: not decidable here */
} HbaAddress;

typedef enum HbaTokenKind
{
	HBA_TOKEN_NAME,				/* equal names */
	HBA_TOKEN_ALL,
	HBA_TOKEN_SAMEUSER,			/* database only */
	HBA_TOKEN_SAMEROLE,			/* database only; samegroup too */
	HBA_TOKEN_REPLICATION,		/* database only: never matches here (replication is refused before) */
	HBA_TOKEN_GROUP,			/* user only: +role, members of it */
	HBA_TOKEN_REGEX				/* 16+: /regex */
} HbaTokenKind;

typedef struct HbaToken
{
	uint8_t		kind;
	Bytes		text;			/* the name, role or regex source */
	void	   *regex;			/* the caller's compiled regex, or NULL */
} HbaToken;

#define HBA_ADDR_MAX 16

typedef struct GatewayHbaLine
{
	uint8_t		type;			/* HbaType */
	uint8_t		method;			/* HbaMethod */
	uint8_t		address;		/* HbaAddress */
	uint8_t		family;			/* 4 or 6 for HBA_ADDRESS_MASK */
	uint8_t		addr[HBA_ADDR_MAX];
	uint8_t		mask[HBA_ADDR_MAX];
	uint8_t		clientcert;		/* 0 none, 1 verify-ca, 2 verify-full */
	bool		clientname_dn;	/* clientname=DN */
	int			line_number;
	Bytes		method_name;	/* as written, for messages */
	Bytes		map;			/* map=…; non-empty on a cert line we cannot honour rejects */
	uint32_t	ndatabases;
	HbaToken   *databases;
	uint32_t	nusers;
	HbaToken   *users;
} GatewayHbaLine;

typedef struct HbaClient
{
	bool		local;			/* Unix socket */
	bool		tls;
	uint8_t		family;			/* 4 or 6; an IPv4-mapped IPv6 address is given as it came (family 6), as PostgreSQL does */
	uint8_t		addr[HBA_ADDR_MAX];
	Bytes		user;
	Bytes		database;
} HbaClient;

/* What the matcher must ask the outside. */
typedef struct HbaWorld
{
	void	   *arg;
	/* is the user a member (directly or not, superuser status aside) of this role? */
	bool		(*is_member) (void *arg, Bytes user, Bytes role);
	bool		(*regex_matches) (void *arg, void *regex, Bytes text);
	/* the host's own interfaces: same address (net = false) or same network (net = true)? */
	bool		(*is_own_address) (void *arg, const HbaClient *client, bool net);
} HbaWorld;

/* The first line that matches, or NULL (= reject, no entry). *undecidable is set when the line's address is a host name. */
extern const GatewayHbaLine *hba_match(const GatewayHbaLine *lines, size_t n, const HbaClient *client,
									   const HbaWorld *world, bool *undecidable);

#endif
