/*
 * core/login.h - the first packets of a connection, as steps.                     floor 3
 *
 * Bytes in, verdict out. Knows the order of SSLRequest, GSSENCRequest, direct TLS, CancelRequest
 * and StartupMessage, and reads the startup parameters. Authentication itself is
 * host/identity's. Owns nothing; never sends.
 */
#ifndef HYPERPOOL_CORE_LOGIN_H
#define HYPERPOOL_CORE_LOGIN_H

#include "core/bytes.h"
#include "core/message.h"

typedef struct LoginState
{
	bool		ssl_asked;		/* SSLRequest was answered, or TLS is on */
	bool		gss_asked;
	bool		tls;			/* the connection is encrypted now */
	bool		first_byte_seen;
} LoginState;

typedef enum LoginVerdict
{
	LOGIN_MORE,					/* not enough bytes */
	LOGIN_SSL_REQUEST,			/* answer 'S' or 'N'; bytes may not follow 'S' unencrypted (CVE-2021-23214 class) */
	LOGIN_GSS_REQUEST,			/* answer 'N' */
	LOGIN_DIRECT_TLS,			/* first byte 0x16: a TLS handshake begins at once; nothing used up */
	LOGIN_CANCEL,				/* a CancelRequest: `cancel` holds pid and key */
	LOGIN_STARTUP,				/* a StartupMessage: `startup` is filled */
	LOGIN_CLOSE,				/* no packet of this protocol (an impossible length): close without a word, as PostgreSQL does */
	LOGIN_BAD					/* refuse: `refusal` and `refusal_arg` */
} LoginVerdict;

#define LOGIN_MAX_PARAMETERS	64
#define LOGIN_MAX_PROTOCOL_OPTIONS	16

typedef struct StartupRequest
{
	uint32_t	version;		/* as asked: major << 16 | minor */
	Bytes		user;
	Bytes		database;		/* the user's name if none was given */
	Bytes		application_name;
	Bytes		options;
	Bytes		replication;	/* len 0 when absent */
	bool		wants_replication;	/* true, on, yes, 1, database … (not a false word) */
	uint32_t	count;			/* other parameters: the settings */
	Bytes		names[LOGIN_MAX_PARAMETERS];
	Bytes		values[LOGIN_MAX_PARAMETERS];
	uint32_t	protocol_option_count;	/* _pq_.* names, unknown to us */
	Bytes		protocol_options[LOGIN_MAX_PROTOCOL_OPTIONS];
	bool		negotiate;		/* a NegotiateProtocolVersion is due */
	uint32_t	minor;			/* the minor version to speak: 0 or 2 */
} StartupRequest;

typedef struct LoginStep
{
	size_t		used;			/* bytes used up */
	uint32_t	cancel_pid;
	Bytes		cancel_key;		/* 4..256 bytes */
	StartupRequest startup;
	Refusal		refusal;
	const char *refusal_arg;	/* static or inside arg_text */
	char		arg_text[64];
} LoginStep;

/* Views in *step borrow from `in`. Advances *state. */
extern LoginVerdict login_step(LoginState *state, Bytes in, LoginStep *step);

#endif
