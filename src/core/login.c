/*
 * core/login.c - the first packets of a connection, as steps.
 *
 * Answers: what does the client ask for before it is known?  The rules are
 * those of PostgreSQL's ProcessStartupPacket(); what differs is said where it
 * does.  Owns nothing, never sends, knows nothing of passwords.
 */
#include "core/login.h"

#include <stdio.h>

#define TLS_HANDSHAKE_BYTE	0x16
#define PROTOCOL_MAJOR		3u
#define PROTOCOL_MINOR_NEW	2u

/* PostgreSQL cuts user and database names to NAMEDATALEN - 1 bytes. */
#define LOGIN_NAME_MAX		63u

#define CANCEL_KEY_MIN		4u
#define CANCEL_KEY_MAX		256u

static LoginVerdict
login_refuse(LoginStep *step, Refusal refusal, const char *arg)
{
	step->refusal = refusal;
	step->refusal_arg = arg;
	return LOGIN_BAD;
}

static LoginVerdict
login_refuse_version(LoginStep *step, uint32_t version)
{
	snprintf(step->arg_text, sizeof(step->arg_text), "%u.%u: server supports 3.0 to 3.2",
			 (unsigned int) (version >> 16), (unsigned int) (version & 0xffff));
	return login_refuse(step, REFUSE_PROTOCOL_VERSION, step->arg_text);
}

/* The value is shown as far as it fits, and only what is printable ASCII of it. */
static LoginVerdict
login_refuse_replication(LoginStep *step, Bytes value)
{
	char		shown[16];
	size_t		n = 0;

	while (n < value.len && n < sizeof(shown) - 1)
	{
		shown[n] = value.data[n] >= 0x20 && value.data[n] < 0x7f ? (char) value.data[n] : '?';
		n++;
	}
	shown[n] = '\0';
	snprintf(step->arg_text, sizeof(step->arg_text),
			 "invalid value for parameter \"replication\": \"%s\"", shown);
	return login_refuse(step, REFUSE_SETTING, step->arg_text);
}

static uint8_t
ascii_lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t) (c + ('a' - 'A')) : c;
}

/* Is `word` the front of `full`, in any case?  At least `least` bytes of it. */
static bool
is_word(Bytes word, const char *full, size_t least)
{
	size_t		i;

	if (word.len < least || word.len > strlen(full))
		return false;
	for (i = 0; i < word.len; i++)
	{
		if (ascii_lower(word.data[i]) != (uint8_t) full[i])
			return false;
	}
	return true;
}

/* PostgreSQL's parse_bool(): any unambiguous front of a word. False if it is no boolean. */
static bool
read_boolean(Bytes word, bool *value)
{
	if (is_word(word, "true", 1) || is_word(word, "yes", 1) ||
		is_word(word, "on", 2) || is_word(word, "1", 1))
		*value = true;
	else if (is_word(word, "false", 1) || is_word(word, "no", 1) ||
			 is_word(word, "off", 2) || is_word(word, "0", 1))
		*value = false;
	else
		return false;
	return true;
}

static bool
read_replication(Bytes value, StartupRequest *out)
{
	out->replication = value;
	if (bytes_equal_str(value, "database"))
	{
		out->wants_replication = true;
		return true;
	}
	return read_boolean(value, &out->wants_replication);
}

/* Adds a name and its value where the session will look for them. False = over a bound. */
static bool
startup_take(StartupRequest *out, Bytes name, Bytes value)
{
	if (bytes_equal_str(name, "user"))
		out->user = value;
	else if (bytes_equal_str(name, "database"))
		out->database = value;
	else if (bytes_equal_str(name, "options"))
		out->options = value;
	else if (is_word(name, "application_name", strlen("application_name")))
		out->application_name = value;	/* a setting: its case does not matter */
	else if (name.len >= 5 && memcmp(name.data, "_pq_.", 5) == 0)
	{
		if (out->protocol_option_count >= LOGIN_MAX_PROTOCOL_OPTIONS)
			return false;
		out->protocol_options[out->protocol_option_count++] = name;
	}
	else
	{
		if (out->count >= LOGIN_MAX_PARAMETERS)
			return false;
		out->names[out->count] = name;
		out->values[out->count] = value;
		out->count++;
	}
	return true;
}

/* The pairs up to the terminator, which must be the last byte. */
static LoginVerdict
startup_read_pairs(ByteReader *r, LoginStep *step)
{
	Bytes		name;
	Bytes		value;

	for (;;)
	{
		name = read_cstr(r);
		if (r->bad || name.len == 0)
			break;
		value = read_cstr(r);
		if (r->bad)
			break;
		if (bytes_equal_str(name, "replication"))
		{
			if (!read_replication(value, &step->startup))
				return login_refuse_replication(step, value);
		}
		else if (!startup_take(&step->startup, name, value))
			return login_refuse(step, REFUSE_PROTOCOL_VIOLATION,
								"too many parameters in startup packet");
	}
	if (r->bad || reader_left(r) > 0)
		return login_refuse(step, REFUSE_PROTOCOL_VIOLATION,
							"invalid startup packet layout: expected terminator as last byte");
	return LOGIN_STARTUP;
}

/*
 * Minor versions 0 and 2 exist; 3.1 was never released and is answered like
 * an older one, as is any option we do not know.
 */
static void
startup_choose_minor(StartupRequest *out)
{
	uint32_t	asked = out->version & 0xffff;

	out->minor = asked >= PROTOCOL_MINOR_NEW ? PROTOCOL_MINOR_NEW : 0;
	out->negotiate = asked != out->minor || out->protocol_option_count > 0;
}

static void
startup_cut_name(Bytes *name)
{
	if (name->len > LOGIN_NAME_MAX)
		name->len = LOGIN_NAME_MAX;
}

static LoginVerdict
login_startup(uint32_t version, ByteReader *r, LoginStep *step)
{
	StartupRequest *out = &step->startup;
	LoginVerdict verdict;

	out->version = version;
	if (version >> 16 != PROTOCOL_MAJOR)
		return login_refuse_version(step, version);
	verdict = startup_read_pairs(r, step);
	if (verdict != LOGIN_STARTUP)
		return verdict;
	startup_choose_minor(out);
	if (out->user.len == 0)
		return login_refuse(step, REFUSE_NO_USER, NULL);
	if (out->database.len == 0)
		out->database = out->user;
	startup_cut_name(&out->user);
	startup_cut_name(&out->database);
	return LOGIN_STARTUP;
}

static LoginVerdict
login_cancel(ByteReader *r, LoginStep *step)
{
	step->cancel_pid = read_u32(r);
	step->cancel_key = read_bytes(r, reader_left(r));
	if (r->bad || step->cancel_key.len < CANCEL_KEY_MIN || step->cancel_key.len > CANCEL_KEY_MAX)
		return LOGIN_CLOSE;
	return LOGIN_CANCEL;
}

/*
 * An encryption request that was answered before, or comes under TLS, is read
 * as the version number it looks like, and refused as one.
 */
static LoginVerdict
login_packet(LoginState *state, Bytes body, LoginStep *step)
{
	ByteReader	r = reader_of(body);
	uint32_t	code = read_u32(&r);

	if (code == STARTUP_CANCEL)
		return login_cancel(&r, step);
	if (code == STARTUP_SSL && !state->ssl_asked && !state->tls)
	{
		state->ssl_asked = true;
		return LOGIN_SSL_REQUEST;
	}
	if (code == STARTUP_GSSENC && !state->gss_asked && !state->tls)
	{
		state->gss_asked = true;
		return LOGIN_GSS_REQUEST;
	}
	return login_startup(code, &r, step);
}

/* Only the first byte of a connection can begin a TLS handshake unasked. */
static bool
login_is_direct_tls(LoginState *state, Bytes in)
{
	if (state->first_byte_seen)
		return false;
	state->first_byte_seen = true;
	return !state->tls && in.data[0] == TLS_HANDSHAKE_BYTE;
}

LoginVerdict
login_step(LoginState *state, Bytes in, LoginStep *step)
{
	Bytes		body;

	memset(step, 0, sizeof(*step));
	if (in.len == 0)
		return LOGIN_MORE;
	if (login_is_direct_tls(state, in))
	{
		state->ssl_asked = true;
		return LOGIN_DIRECT_TLS;
	}
	switch (frame_startup(in, &body, &step->used))
	{
		case FRAME_WHOLE:
			return login_packet(state, body, step);
		case FRAME_MORE:
			return LOGIN_MORE;
		default:
			return LOGIN_CLOSE;
	}
}
