/*
 * test/fuzz/fuzz_challenge.c - core/challenge: whatever an origin sends, and whenever, libpq is never let near a challenge that is too hard.
 *
 * libpq is a small model here, with a buffer of its own; it may receive more than was shown, as from a plain socket. The origin sends the input, in pieces; where that has a byte 255
 * it sends the nonce, which it cannot know before it has asked for SCRAM.
 *
 * Input: exact or not, how it is cut, the nonce's letters, the stream.
 */
#include "core/challenge.h"
#include "fuzz.h"

#define ROUNDS_MAX		100000
#define NONCE_LEN		24
#define STREAM_MAX		8192

typedef struct Libpq
{
	uint8_t		buffer[STREAM_MAX];
	size_t		len;
	bool		asked;			/* for SCRAM: it has told its nonce */
	bool		over;			/* it has ended the connection, or the login is behind it */
} Libpq;

static uint8_t nonce[NONCE_LEN];

/* Would this challenge make it compute too long? It looks at the nonce first, then reads the number as strtol() does. */
static bool
is_hard(Bytes body)
{
	char		text[STREAM_MAX];
	char	   *at;

	if (body.len < 2 + NONCE_LEN || memcmp(body.data, "r=", 2) != 0 || memcmp(body.data + 2, nonce, NONCE_LEN) != 0)
		return false;
	memcpy(text, body.data, body.len);
	text[body.len] = '\0';
	if (strlen(text) != body.len || (at = strchr(text, ',')) == NULL || strncmp(at, ",s=", 3) != 0)
		return false;
	if ((at = strchr(at + 1, ',')) == NULL || strncmp(at, ",i=", 3) != 0)
		return false;
	return (int) strtol(at + 3, NULL, 10) > ROUNDS_MAX;
}

static void
take_authentication(Libpq *libpq, uint32_t code, Bytes body)
{
	if (code == 10 && !libpq->asked)
		libpq->asked = true;
	else
	{
		FUZZ_CHECK(!(code == 11 && libpq->asked && is_hard(body)));
		FUZZ_REACHED("bearable challenges", code == 11 && libpq->asked);
		libpq->over = true;
	}
}

static void
libpq_receive(Libpq *libpq, Bytes bytes)
{
	size_t		at = 0;

	memcpy(libpq->buffer + libpq->len, bytes.data, bytes.len);
	libpq->len += bytes.len;
	while (!libpq->over && libpq->len - at >= 9)
	{
		uint32_t	length = get_u32(libpq->buffer + at + 1);

		if (libpq->buffer[at] != 'R' || length < 8 || length > 2000)
			libpq->over = true;
		else if (libpq->len - at < length + 1)
			break;
		else
			take_authentication(libpq, get_u32(libpq->buffer + at + 5), bytes_of(libpq->buffer + at + 9, length - 8));
		at += length + 1;
	}
	if (!libpq->over)
	{
		libpq->len -= at;
		memmove(libpq->buffer, libpq->buffer + at, libpq->len);
	}
}

typedef struct Sender
{
	const uint8_t *at;
	const uint8_t *end;
	uint32_t	roll;
	size_t		sent;
} Sender;

static uint32_t
roll(Sender *s)
{
	s->roll = s->roll * 1664525 + 1013904223;
	return s->roll >> 16;
}

/* So much arrives behind what is there; false: nothing can. */
static bool
arrive(Sender *s, uint8_t *queue, size_t *len, size_t n, bool asked)
{
	size_t		before = *len;

	for (; n > 0 && s->at < s->end && *len + NONCE_LEN < STREAM_MAX / 2 && s->sent + NONCE_LEN < STREAM_MAX; n--)
	{
		if (*s->at != 255)
		{
			queue[(*len)++] = *s->at;
			s->sent++;
		}
		else if (asked)
		{
			memcpy(queue + *len, nonce, NONCE_LEN);
			*len += NONCE_LEN;
			s->sent += NONCE_LEN;
		}
		else
			break;
		s->at++;
	}
	return *len > before;
}

static void
play(Sender *s, bool exact, uint8_t cut)
{
	ChallengeReader reader = {0};
	Libpq		libpq = {.len = 0};
	uint8_t		queue[STREAM_MAX];
	size_t		len = 0;

	while (!libpq.over && arrive(s, queue, &len, 1 + roll(s) % (cut + 1u), libpq.asked))
	{
		Bytes		shown = fuzz_copy(bytes_of(queue, len));
		ChallengeVerdict verdict = challenge_look(&reader, shown, ROUNDS_MAX, exact);

		fuzz_free(shown);
		if (verdict == CHALLENGE_WAIT)
		{
			FUZZ_CHECK(!exact);
			continue;
		}
		if (verdict != CHALLENGE_PASS)
			return;
		/* what comes between the look and the receive */
		if (!exact)
			(void) arrive(s, queue, &len, roll(s) % 16, libpq.asked);
		libpq_receive(&libpq, bytes_of(queue, len));
		len = 0;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	Sender		s;

	if (size < 4 || size > STREAM_MAX / 2)
		return 0;
	s = (Sender) {.at = data + 4, .end = data + size, .roll = data[1] * 2654435761u + data[3]};
	for (int i = 0; i < NONCE_LEN; i++)
		nonce[i] = (uint8_t) letters[(data[2] + i * (data[3] | 1u)) % 64];
	play(&s, data[0] & 1, data[1]);
	return 0;
}
