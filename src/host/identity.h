/*
 * host/identity.h - may this client in?                                           floor 5
 *
 * One login: hba line, method, password exchange by PostgreSQL's own SCRAM and MD5 code over the directory's verifiers, role rules.
 * Steps only: a password message in, an authentication message out, a verdict. Owns the SCRAM
 * state of one login (its own memory context). Never: waits, touches a catalog, tells the client which part was wrong.
 */
#ifndef HYPERPOOL_HOST_IDENTITY_H
#define HYPERPOOL_HOST_IDENTITY_H

#include "postgres.h"
#include "core/bytes.h"
#include "core/login.h"
#include "core/message.h"
#include "host/directory.h"

typedef struct Identity Identity;

typedef enum IdentityVerdict
{
	IDENTITY_CONTINUE,			/* `out` holds what to send; wait for a 'p' message */
	IDENTITY_IN,				/* let in: `out` may hold the last SASL message; AuthenticationOk is included */
	IDENTITY_REFUSED,			/* `out` holds the FATAL ErrorResponse; log line already written */
	IDENTITY_FAILED				/* the same, as the proof was wrong: a guess, maybe */
} IdentityVerdict;

typedef struct IdentityClient
{
	HbaClient	hba;			/* address, tls, user, database = origin name */
	void	   *ssl;			/* SSL * or NULL: channel binding, client certificate */
} IdentityClient;

/* Begins; *identity is made. Views in client must last until identity_end. */
extern IdentityVerdict identity_begin(Directory *directory, const IdentityClient *client, Identity **identity, ByteBuffer *out);
/* One PasswordMessage / SASL response body. What the role may do is looked up in this directory: it may be a newer one. */
extern IdentityVerdict identity_step(Directory *directory, Identity *identity, Bytes body, ByteBuffer *out);
extern Oid	identity_role(const Identity *identity);	/* after IDENTITY_IN */
extern void identity_end(Identity *identity);	/* wipes and frees; NULL is fine */
/* Once per worker: resource owner and what PostgreSQL's code needs. */
extern void identity_init(void);

#endif
