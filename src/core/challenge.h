/*
 * core/challenge.h - what does an origin ask for in its login, and is that bearable?    floor 1
 *
 * libpq answers a SCRAM challenge by as many rounds of HMAC as the origin says, two billion of them if it likes, and nothing can stop it then; it also
 * keeps every parameter that it is told before the login is over. So whoever drives libpq has what the origin says looked at first.
 *
 * Owns the few bytes of a ChallengeReader: the start of a message whose rest has not come. Never: reads from a socket, knows a password.
 */
#ifndef HYPERPOOL_CORE_CHALLENGE_H
#define HYPERPOOL_CORE_CHALLENGE_H

#include "core/bytes.h"

#define CHALLENGE_MAX		2048	/* bytes of a challenge; libpq takes 2000 */
#define CHALLENGE_LOGIN_MAX	(1024 * 1024)	/* bytes of a whole login */

typedef struct ChallengeReader	/* zeroed memory is a fresh one: one for each connection */
{
	uint32_t	total;			/* bytes seen */
	uint32_t	skip;			/* to the end of a message that is of no interest */
	uint32_t	kept_len;
	bool		settled;		/* the challenge has been seen, or there will be none */
	bool		password_only;	/* whose reader it is says: nothing but a password may be asked for */
	uint8_t		kept[CHALLENGE_MAX];
} ChallengeReader;

typedef enum ChallengeVerdict
{
	CHALLENGE_PASS,				/* libpq may read these bytes */
	CHALLENGE_WAIT,				/* not before the rest of the message has come */
	CHALLENGE_TOO_HARD,			/* more rounds than max_rounds */
	CHALLENGE_TOO_LONG,			/* the login has no end */
	CHALLENGE_NO_PASSWORD,		/* it wants another proof than a password */
	CHALLENGE_ODD				/* no login of PostgreSQL */
} ChallengeVerdict;

/*
 * Looks at the bytes that libpq would read next. On PASS the reader has moved behind them; on WAIT it stands where it was, and the same bytes, with more behind them, are
 * shown again. exact: libpq will read these bytes and no others (TLS), so a message may be passed in pieces. Otherwise more may have arrived by the time it reads, and a
 * challenge is passed only whole: a part of it could be joined by what nobody has looked at.
 */
extern ChallengeVerdict challenge_look(ChallengeReader *reader, Bytes in, uint32_t max_rounds, bool exact);

#endif
