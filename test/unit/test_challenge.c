/* core/challenge: a challenge that is too hard is never passed, however it is cut; a login has an end. */
#include "core/challenge.h"
#include "unit.h"

#define MAX_ROUNDS 100000

#define ASK_SASL	"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
#define ASK_MD5		"R\0\0\0\x0c\0\0\0\5salt"
#define OK			"R\0\0\0\x08\0\0\0\0"

static ByteBuffer sent;

static Bytes
challenge(const char *text)
{
	buffer_free(&sent);
	buffer_put_u8(&sent, 'R');
	buffer_put_u32(&sent, (uint32_t) (8 + strlen(text)));
	buffer_put_u32(&sent, 11);
	buffer_put(&sent, text, strlen(text));
	return buffer_view(&sent);
}

static ChallengeVerdict
look(ChallengeReader *reader, Bytes in, bool exact)
{
	return challenge_look(reader, in, MAX_ROUNDS, exact);
}

#define LIT(text) bytes_of(text, sizeof(text) - 1)

TEST(usual_logins_pass)
{
	ChallengeReader scram = {0};
	ChallengeReader md5 = {0};
	ChallengeReader trust = {0};
	ChallengeReader refused = {0};

	CHECK_EQ_INT(look(&scram, LIT(ASK_SASL), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&scram, challenge("r=abcdef,s=c2FsdA==,i=4096"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&scram, LIT("whatever libpq checks by itself"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&md5, LIT(ASK_MD5), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&md5, LIT(OK "S\0\0\0\x0a" "a\0b\0xx"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&trust, LIT(OK "K\0\0\0\x0c"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&refused, LIT("E\0\0\x20\0SFATAL"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&refused, LIT("more of its text"), false), CHALLENGE_PASS);
}

/* Kerberos before, and behind a proof that was asked for first; who may be asked for anything is. */
TEST(a_password_alone)
{
	static const char gss[] = "R\0\0\0\x08\0\0\0\x07";
	static const char sspi[] = "R\0\0\0\x08\0\0\0\x09";
	ChallengeReader any = {0};
	ChallengeReader first = {.password_only = true};
	ChallengeReader second = {.password_only = true};

	CHECK_EQ_INT(look(&any, LIT(gss), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&first, LIT(gss), false), CHALLENGE_NO_PASSWORD);
	CHECK_EQ_INT(look(&first, LIT(sspi), true), CHALLENGE_NO_PASSWORD);
	CHECK_EQ_INT(look(&first, LIT(ASK_MD5), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&first, LIT(OK "S\0\0\0\x0a" "a\0b\0xx"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&second, LIT(ASK_SASL), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&second, challenge("r=abcdef,s=c2FsdA==,i=1"), false), CHALLENGE_PASS);
	CHECK_EQ_INT(look(&second, LIT(gss), false), CHALLENGE_NO_PASSWORD);
}

TEST(too_many_rounds)
{
	static const char *const hard[] = {
		"r=abc,s=c2FsdA==,i=100001", "r=abc,s=c2FsdA==,i=2147483647", "r=abc,s=c2FsdA==,i=99999999999999999999",
		"r=abc,s=c2FsdA==,i=", "r=abc,s=c2FsdA==", "", "r=abc,s=c2FsdA==,i=+100001", "r=abc,s=c2FsdA==,i= 4096", "r=abc,s=c2FsdA==,i=0x7fffffff",
		"r=abc,s=c2FsdA==,i=4294967297", "r=abc,s=c2FsdA==,i=4096,x=y", "4096", "i=4096",
	};
	static const char *const bearable[] = {"r=abc,s=c2FsdA==,i=100000", "r=abc,s=c2FsdA==,i=1", "r=abc,s=c2FsdA==,i=000004096"};

	for (size_t i = 0; i < sizeof(hard) / sizeof(*hard); i++)
	{
		ChallengeReader reader = {0};

		CHECK_EQ_INT(look(&reader, LIT(ASK_SASL), false), CHALLENGE_PASS);
		if (look(&reader, challenge(hard[i]), false) != CHALLENGE_TOO_HARD)
			CHECK(strcmp(hard[i], "is not too hard") == 0);
	}
	for (size_t i = 0; i < sizeof(bearable) / sizeof(*bearable); i++)
	{
		ChallengeReader reader = {0};

		CHECK_EQ_INT(look(&reader, challenge(bearable[i]), false), CHALLENGE_PASS);
	}
}

/* In pieces of any size, from TLS: the last piece is not passed. */
TEST(pieces_that_are_read_exactly)
{
	Bytes		whole = challenge("r=abcdefghijklmnopqrstuvwx,s=c2FsdA==,i=2147483647");

	for (size_t size = 1; size < whole.len; size++)
	{
		ChallengeReader reader = {0};
		ChallengeVerdict verdict = CHALLENGE_PASS;
		size_t		at = 0;

		CHECK_EQ_INT(look(&reader, LIT(ASK_SASL), true), CHALLENGE_PASS);
		for (; at < whole.len && verdict == CHALLENGE_PASS; at += size)
			verdict = look(&reader, bytes_of(whole.data + at, whole.len - at < size ? whole.len - at : size), true);
		CHECK_EQ_INT(verdict, CHALLENGE_TOO_HARD);
		CHECK(at >= whole.len);
	}
}

/* The same from a plain socket: nothing is passed before the whole has come, and what was shown is shown again. */
TEST(pieces_that_wait)
{
	Bytes		whole = challenge("r=abcdefghijklmnopqrstuvwx,s=c2FsdA==,i=2147483647");
	ChallengeReader reader = {0};

	CHECK_EQ_INT(look(&reader, LIT(ASK_SASL), false), CHALLENGE_PASS);
	for (size_t len = 1; len < whole.len; len++)
		CHECK_EQ_INT(look(&reader, bytes_of(whole.data, len), false), CHALLENGE_WAIT);
	CHECK_EQ_INT(look(&reader, whole, false), CHALLENGE_TOO_HARD);
}

/* A head of a challenge that came together with the question for SCRAM. */
TEST(a_head_sent_ahead)
{
	Bytes		whole = challenge("r=abcdefghijklmnopqrstuvwx,s=c2FsdA==,i=2147483647");

	if (!CHECK(whole.data != NULL))
		return;
	for (size_t ahead = 1; ahead < 12; ahead++)
	{
		ChallengeReader seen = {0};
		uint8_t		first[64];
		size_t		asked = sizeof(ASK_SASL) - 1;

		memcpy(first, ASK_SASL, asked);
		memcpy(first + asked, whole.data, ahead);
		CHECK_EQ_INT(look(&seen, bytes_of(first, asked + ahead), false), CHALLENGE_PASS);
		CHECK_EQ_INT(look(&seen, bytes_of(whole.data + ahead, 6), false), CHALLENGE_WAIT);
		CHECK_EQ_INT(look(&seen, bytes_of(whole.data + ahead, whole.len - ahead), false), CHALLENGE_TOO_HARD);
	}
	/* and one that was never shown: libpq had it before the first look */
	for (size_t ahead = 1; ahead < 12; ahead++)
	{
		ChallengeReader unseen = {0};

		CHECK_EQ_INT(look(&unseen, bytes_of(whole.data + ahead, whole.len - ahead), false), CHALLENGE_ODD);
	}
}

TEST(odd_messages)
{
	static const char *const odd[] = {"HTTP/1.1 400", "R\xff\xff\xff\xff", "E\0\0\0\3xxxx", "S\0\0\0\x08" "a\0b\0"};
	static const size_t lengths[] = {12, 5, 9, 9};

	for (size_t i = 0; i < 4; i++)
	{
		ChallengeReader reader = {0};

		CHECK_EQ_INT(look(&reader, bytes_of(odd[i], lengths[i]), i & 1), CHALLENGE_ODD);
	}
}

TEST(a_login_has_an_end)
{
	static uint8_t flood[16384];
	ChallengeReader reader = {0};
	int			n = 0;

	CHECK_EQ_INT(look(&reader, LIT(OK), false), CHALLENGE_PASS);
	while (n < 1000 && look(&reader, bytes_of(flood, sizeof(flood)), false) == CHALLENGE_PASS)
		n++;
	CHECK_EQ_INT(n, CHALLENGE_LOGIN_MAX / sizeof(flood) - 1);
	CHECK_EQ_INT(look(&reader, bytes_of(flood, sizeof(flood)), false), CHALLENGE_TOO_LONG);
	buffer_free(&sent);
}
