/*
 * test/fuzz/fuzz_challenge.c - core/challenge: what an origin says in its login, in whatever pieces it comes.
 *
 * Looks at a stream piece by piece as origin/guard does, and reads what has been passed like libpq: message by message. No challenge may be among it whole that asks for more rounds
 * than are borne, or whose rounds cannot be read; what is not passed is not read, and a refusal ends it.
 * Input: exact or not, lengths of pieces, what the origin says.
 */
#include "core/challenge.h"
#include "fuzz.h"

#define MAX_ROUNDS	100000u
#define PIECES		8

/* libpq's own way: strtol of what stands behind "i=", the last attribute. */
static bool
is_hard(Bytes challenge)
{
	char		text[CHALLENGE_MAX + 1];
	char	   *at;
	char	   *end;
	long long	rounds;

	FUZZ_CHECK(challenge.len < sizeof(text));
	memcpy(text, challenge.data, challenge.len);
	text[challenge.len] = '\0';
	if (strlen(text) != challenge.len)
		return false;			/* libpq takes no zero in it */
	at = strrchr(text, ',');
	if (at == NULL || strncmp(at, ",i=", 3) != 0)
		return true;
	rounds = strtoll(at + 3, &end, 10);
	return end == at + 3 || *end != '\0' || rounds > MAX_ROUNDS;
}

/* All whole messages of what may be read, up to the one behind which libpq only checks. */
static void
read_like_libpq(Bytes in)
{
	uint32_t	messages = 0;

	while (in.len >= 5)
	{
		uint32_t	length = get_u32(in.data + 1);

		if (length < 4 || length > in.len - 1)
			return;
		if (in.data[0] == 'R' && length >= 8)
		{
			uint32_t	code = get_u32(in.data + 5);

			if (code == 11)
				FUZZ_CHECK(!is_hard(bytes_of(in.data + 9, length - 8)));
			FUZZ_REACHED("challenges borne", code == 11);
			if (code == 11 || code == 0)
				return;
		}
		in = bytes_of(in.data + length + 1, in.len - length - 1);
		messages++;
		FUZZ_REACHED("messages before the challenge", messages);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	bool		exact = fuzz_u8(&in) & 1;
	ChallengeReader reader = {0};
	ChallengeVerdict verdict = CHALLENGE_PASS;
	size_t		pieces[PIECES];
	Bytes		stream;
	size_t		passed = 0;
	size_t		shown = 0;

	for (int i = 0; i < PIECES; i++)
		pieces[i] = fuzz_u8(&in);
	stream = bytes_of(in.at, fuzz_left(&in));
	for (int i = 0; shown < stream.len && (verdict == CHALLENGE_PASS || verdict == CHALLENGE_WAIT); i++)
	{
		ChallengeReader before = reader;
		size_t		more = i < PIECES ? pieces[i] + 1 : stream.len;

		shown = more < stream.len - shown ? shown + more : stream.len;
		verdict = challenge_look(&reader, bytes_of(stream.data + passed, shown - passed), MAX_ROUNDS, exact);
		FUZZ_CHECK(reader.kept_len <= CHALLENGE_MAX && reader.total <= CHALLENGE_LOGIN_MAX);
		FUZZ_CHECK(!exact || verdict != CHALLENGE_WAIT);
		if (verdict == CHALLENGE_PASS)
			passed = shown;
		else
			FUZZ_CHECK(memcmp(&before, &reader, sizeof(reader)) == 0);
	}
	read_like_libpq(bytes_of(stream.data, passed));
	FUZZ_REACHED("bytes passed", passed);
	return 0;
}
