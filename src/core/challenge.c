/*
 * core/challenge.c - what does an origin ask for in its login, and is that bearable?
 *
 * Messages of a login until its challenge: R (authentication), E (refusal), v (another protocol version). Their order is libpq's business; here
 * only the one is read through that makes work, AuthenticationSASLContinue: r=nonce,s=salt,i=rounds (RFC 5802), and where a password is all that
 * may be asked for, what asks for something else is found. What libpq would not take for a message is odd, except at the very beginning, where libpq itself has the better words for what is no PostgreSQL at all.
 */
#include "core/challenge.h"

#define HEAD			5u		/* type and length word */
#define CODE			4u
#define AUTH_OK			0u
#define AUTH_GSS		7u
#define AUTH_GSS_NEXT	8u
#define AUTH_SSPI		9u
#define AUTH_CONTINUE	11u
#define OTHER_MAX		30000u	/* libpq's limit for messages that are not of data */
#define ROUNDS_DIGITS	9

/* The rounds at the end of a challenge; UINT32_MAX if they cannot be read, or are more than nine digits. */
static uint32_t
rounds_of(Bytes challenge)
{
	size_t		at = challenge.len;
	uint32_t	rounds = 0;

	while (at > 0 && challenge.data[at - 1] >= '0' && challenge.data[at - 1] <= '9')
		at--;
	if (at == challenge.len || challenge.len - at > ROUNDS_DIGITS)
		return UINT32_MAX;
	if (at < 3 || memcmp(challenge.data + at - 3, ",i=", 3) != 0)
		return UINT32_MAX;
	for (; at < challenge.len; at++)
		rounds = rounds * 10 + (challenge.data[at] - '0');
	return rounds;
}

/* A whole authentication message, its body behind the length word. */
static ChallengeVerdict
judge(ChallengeReader *reader, Bytes body, uint32_t max_rounds)
{
	uint32_t	code = get_u32(body.data);

	if (reader->password_only && (code == AUTH_GSS || code == AUTH_GSS_NEXT || code == AUTH_SSPI))
		return CHALLENGE_NO_PASSWORD;
	if (code == AUTH_CONTINUE && rounds_of(bytes_of(body.data + CODE, body.len - CODE)) > max_rounds)
		return CHALLENGE_TOO_HARD;
	/* behind either comes what libpq only checks; but before the end it lets itself be asked for something else */
	reader->settled = (code == AUTH_CONTINUE && !reader->password_only) || code == AUTH_OK;
	return CHALLENGE_PASS;
}

/* One message at the start of `in`; *used 0: its rest has not come. */
static ChallengeVerdict
look_at_message(ChallengeReader *reader, Bytes in, uint32_t max_rounds, size_t *used)
{
	uint32_t	length;

	*used = 0;
	if (in.len < HEAD)
		return CHALLENGE_PASS;
	length = get_u32(in.data + 1);
	if (in.data[0] == 'E' || in.data[0] == 'v')
	{
		if (length < 4 || length > OTHER_MAX)
			return CHALLENGE_ODD;
		*used = in.len < length + 1 ? in.len : length + 1;
		reader->skip = (uint32_t) (length + 1 - *used);
		return CHALLENGE_PASS;
	}
	if (in.data[0] != 'R' || length < 4 + CODE || length > CHALLENGE_MAX - 1)
		return CHALLENGE_ODD;
	if (in.len < length + 1)
		return CHALLENGE_PASS;
	*used = length + 1;
	return judge(reader, bytes_of(in.data + HEAD, length - 4), max_rounds);
}

/* All messages in `in`; *rest is what is left of it without an end. */
static ChallengeVerdict
look_at_messages(ChallengeReader *reader, Bytes in, uint32_t max_rounds, Bytes *rest)
{
	ChallengeVerdict verdict = CHALLENGE_PASS;
	size_t		used = 1;

	*rest = in;
	while (verdict == CHALLENGE_PASS && used > 0 && rest->len > 0 && !reader->settled)
	{
		verdict = look_at_message(reader, *rest, max_rounds, &used);
		*rest = bytes_of(rest->data + used, rest->len - used);
	}
	return verdict;
}

/* What was kept of a message, and behind it as much of `in` as could be its rest. */
static size_t
join(const ChallengeReader *reader, Bytes in, uint8_t *joined)
{
	size_t		n = CHALLENGE_MAX - reader->kept_len < in.len ? CHALLENGE_MAX - reader->kept_len : in.len;

	memcpy(joined, reader->kept, reader->kept_len);
	memcpy(joined + reader->kept_len, in.data, n);
	return reader->kept_len + n;
}

/* Puts the message together that began in an earlier look; *in moves behind it. *whole: it has come to its end. */
static ChallengeVerdict
look_at_kept(ChallengeReader *reader, Bytes *in, uint32_t max_rounds, bool *whole)
{
	uint8_t		joined[CHALLENGE_MAX];
	size_t		len = join(reader, *in, joined);
	size_t		used;
	ChallengeVerdict verdict = look_at_message(reader, bytes_of(joined, len), max_rounds, &used);

	*whole = used > reader->kept_len;
	if (verdict != CHALLENGE_PASS || !*whole)
		return verdict;
	/* what is skipped of it may lie in `in`, too */
	*in = bytes_of(in->data + (used - reader->kept_len), in->len - (used - reader->kept_len));
	reader->kept_len = 0;
	return CHALLENGE_PASS;
}

static void
skip(ChallengeReader *reader, Bytes *in)
{
	size_t		n = reader->skip < in->len ? reader->skip : in->len;

	reader->skip -= (uint32_t) n;
	*in = bytes_of(in->data + n, in->len - n);
}

static bool
keep(ChallengeReader *reader, Bytes rest)
{
	if (rest.len > CHALLENGE_MAX - reader->kept_len)
		return false;
	memcpy(reader->kept + reader->kept_len, rest.data, rest.len);
	reader->kept_len += (uint32_t) rest.len;
	return true;
}

static ChallengeVerdict
look(ChallengeReader *reader, Bytes in, uint32_t max_rounds, bool exact)
{
	Bytes		rest;
	bool		whole = true;
	bool		kept = reader->kept_len > 0;
	ChallengeVerdict verdict = CHALLENGE_PASS;

	skip(reader, &in);
	if (kept)
		verdict = look_at_kept(reader, &in, max_rounds, &whole);
	skip(reader, &in);
	if (verdict != CHALLENGE_PASS)
		return verdict;
	rest = in;
	if (whole)
		verdict = look_at_messages(reader, in, max_rounds, &rest);
	if (verdict != CHALLENGE_PASS || reader->settled)
		return verdict;
	/* nothing but a part of a message: libpq is not to join it with what nobody has seen */
	if (!exact && rest.len > 0 && (kept ? !whole : rest.len == in.len))
		return CHALLENGE_WAIT;
	return keep(reader, rest) ? CHALLENGE_PASS : CHALLENGE_ODD;
}

ChallengeVerdict
challenge_look(ChallengeReader *reader, Bytes in, uint32_t max_rounds, bool exact)
{
	ChallengeReader before = *reader;
	ChallengeVerdict verdict = CHALLENGE_PASS;

	if (in.len > CHALLENGE_LOGIN_MAX - reader->total)
		return CHALLENGE_TOO_LONG;
	reader->total += (uint32_t) in.len;
	if (!reader->settled && in.len > 0)
		verdict = look(reader, in, max_rounds, exact);
	if (verdict != CHALLENGE_PASS)
		*reader = before;
	return verdict;
}
