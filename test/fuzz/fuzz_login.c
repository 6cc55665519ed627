/*
 * test/fuzz/fuzz_login.c - core/login: the first packets of a client, in whatever order and however cut.
 *
 * What a connection says is stepped through twice: as soon as a byte more has come, and with everything in hand. Both must come to the same verdicts, use up
 * the same bytes and end in the same state. On the origin's side the login is libpq's; what core reads of it afterwards (ParameterStatus, errors) is
 * fuzz_message's and fuzz_link's.
 * Input: what is answered to requests, what the connection says.
 */
#include "core/login.h"
#include "fuzz.h"

#define STEPS_MAX	16

typedef struct Walk
{
	LoginState	state;
	size_t		used;
	int			steps;
	LoginVerdict verdicts[STEPS_MAX];
	LoginStep	last;
} Walk;

static void
check_startup(const StartupRequest *s, Bytes in)
{
	FUZZ_CHECK(s->version >> 16 == 3 && (s->minor == 0 || s->minor == 2));
	FUZZ_CHECK(s->negotiate == ((s->version & 0xffff) != s->minor || s->protocol_option_count > 0));
	FUZZ_CHECK(s->user.len > 0 && s->user.len <= 63 && s->database.len > 0 && s->database.len <= 63);
	FUZZ_CHECK(s->count <= LOGIN_MAX_PARAMETERS && s->protocol_option_count <= LOGIN_MAX_PROTOCOL_OPTIONS);
	FUZZ_CHECK(fuzz_is_inside(s->user, in) && fuzz_is_inside(s->database, in) && fuzz_is_inside(s->options, in) &&
			   fuzz_is_inside(s->application_name, in) && fuzz_is_inside(s->replication, in));
	for (uint32_t i = 0; i < s->count; i++)
		FUZZ_CHECK(s->names[i].len > 0 && fuzz_is_inside(s->names[i], in) && fuzz_is_inside(s->values[i], in));
	for (uint32_t i = 0; i < s->protocol_option_count; i++)
		FUZZ_CHECK(fuzz_is_inside(s->protocol_options[i], in) && s->protocol_options[i].len >= 5);
	FUZZ_REACHED("parameters", s->count);
	FUZZ_REACHED("protocol options", s->protocol_option_count);
}

static void
check_step(LoginVerdict verdict, const LoginStep *step, Bytes in)
{
	FUZZ_CHECK(step->used <= in.len);
	FUZZ_CHECK((verdict == LOGIN_MORE || verdict == LOGIN_DIRECT_TLS) == (step->used == 0) || verdict == LOGIN_CLOSE);
	switch (verdict)
	{
		case LOGIN_STARTUP:
			check_startup(&step->startup, in);
			break;
		case LOGIN_CANCEL:
			FUZZ_CHECK(step->cancel_key.len >= 4 && step->cancel_key.len <= 256 && fuzz_is_inside(step->cancel_key, in));
			break;
		case LOGIN_BAD:
			FUZZ_CHECK((unsigned) step->refusal < REFUSE_LIMIT);
			FUZZ_CHECK(step->refusal_arg == NULL || strlen(step->refusal_arg) < 128);
			break;
		default:
			break;
	}
}

/* One step with what lies between used and arrived. False: the walk is over, or has to wait. */
static bool
take_step(Walk *w, Bytes stream, size_t arrived, bool tls)
{
	Bytes		in = fuzz_copy(bytes_of(stream.data + w->used, arrived - w->used));
	LoginVerdict verdict = login_step(&w->state, in, &w->last);

	check_step(verdict, &w->last, in);
	fuzz_free(in);
	if (verdict == LOGIN_MORE)
		return false;
	FUZZ_CHECK(w->steps < STEPS_MAX);	/* each request is granted once */
	w->verdicts[w->steps++] = verdict;
	w->used += w->last.used;
	if (verdict != LOGIN_SSL_REQUEST && verdict != LOGIN_GSS_REQUEST && verdict != LOGIN_DIRECT_TLS)
		return false;
	if (verdict == LOGIN_DIRECT_TLS || (verdict == LOGIN_SSL_REQUEST && tls))
		w->state.tls = true;
	return true;
}

static bool
is_over(const Walk *w)
{
	LoginVerdict last = w->steps > 0 ? w->verdicts[w->steps - 1] : LOGIN_MORE;

	return last == LOGIN_CANCEL || last == LOGIN_STARTUP || last == LOGIN_CLOSE || last == LOGIN_BAD;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	in = {data, data + size};
	uint8_t		flags = fuzz_u8(&in);
	bool		tls = flags & 1;
	Walk		slow = {.state.tls = (flags & 2) != 0};
	Walk		quick = slow;
	Bytes		stream = fuzz_bytes(&in, 12000);
	size_t		stride = 1 + (flags >> 4);

	while (!is_over(&quick) && take_step(&quick, stream, stream.len, tls))
		;
	for (size_t arrived = 0; arrived < stream.len && !is_over(&slow);)
	{
		/* long packets: from byte to byte only at their ends */
		arrived += stream.len > 600 && arrived > 40 && arrived + 40 < stream.len && arrived % 97 != 0 ? 7 * stride : stride;
		if (arrived > stream.len)
			arrived = stream.len;
		while (!is_over(&slow) && take_step(&slow, stream, arrived, tls))
			;
	}
	FUZZ_CHECK(slow.steps == quick.steps && slow.used == quick.used);
	FUZZ_CHECK(memcmp(slow.verdicts, quick.verdicts, slow.steps * sizeof(LoginVerdict)) == 0);
	FUZZ_CHECK(memcmp(&slow.state, &quick.state, sizeof(LoginState)) == 0);
	FUZZ_CHECK(!slow.state.tls || slow.state.ssl_asked || (flags & 2));
	FUZZ_REACHED("packets of one login", slow.steps);
	return 0;
}
