/*
 * origin/guard.h - may libpq read on in the login of an origin?                   floor 4
 *
 * Whoever calls PQconnectPoll asks here before: what lies in the socket is looked at and left there (core/challenge judges it). An origin cannot keep a process
 * busy by a challenge without end, nor fill its memory by a login without one.
 *
 * Owns the LoginGuard's reader. Never: reads what libpq is to read, waits, breaks a connection.
 */
#ifndef HYPERPOOL_ORIGIN_GUARD_H
#define HYPERPOOL_ORIGIN_GUARD_H

#include "postgres.h"

#include <libpq-fe.h>

#include "core/challenge.h"

typedef struct LoginGuard		/* zeroed memory is a fresh one; for one PGconn, whatever hosts it tries */
{
	ChallengeReader reader;
	bool		password_only;	/* set by its owner: this server's own identity is not for the origin */
	bool		patient;		/* the socket is ready only when more has come than it holds */
	const char *sqlstate;		/* of a refusal */
	const char *refusal;
} LoginGuard;

typedef enum GuardVerdict
{
	GUARD_GO,					/* call PQconnectPoll */
	GUARD_WAIT,					/* until the socket can be read again */
	GUARD_REFUSE				/* end it; sqlstate and refusal say why */
} GuardVerdict;

extern GuardVerdict guard_look(LoginGuard *guard, PGconn *conn);

#endif
