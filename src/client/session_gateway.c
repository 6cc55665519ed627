/*
 * client/session_gateway.c - SET, RESET and SHOW of the settings that are the gateway's own.
 *
 * hyperpool.cache (on, off) and hyperpool.max_age (a time) are a session's. They never reach the origin, so no transaction takes them back and no link
 * carries them. hyperpool.client can only be shown: it is the process number that this client was told, so that another hyperpool may know who keeps its session.
 * Owns their names, values and the answers.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"

#include "host/analyze.h"

#include "client/session_internal.h"

#define SETTING_CACHE	"hyperpool.cache"
#define SETTING_MAX_AGE	"hyperpool.max_age"
#define SETTING_CLIENT	"hyperpool.client"

bool
session_gateway_is(Bytes setting)
{
	return bytes_equal_str(setting, SETTING_CACHE) || bytes_equal_str(setting, SETTING_MAX_AGE) || bytes_equal_str(setting, SETTING_CLIENT);
}

/* ---- values ---- */

/* A time as postgresql.conf has them; seconds where no unit is said. False: it is none. */
static bool
read_age(const char *text, int64 *age)
{
	int			milliseconds;
	char	   *end;
	double		seconds;

	errno = 0;
	seconds = strtod(text, &end);
	if (end != text && *end == '\0' && errno == 0 && seconds >= 0 && seconds < INT_MAX)
	{
		*age = (int64) (seconds * 1000000);
		return true;
	}
	if (!parse_int(text, &milliseconds, GUC_UNIT_MS, NULL) || milliseconds < 0)
		return false;
	*age = (int64) milliseconds * 1000;
	return true;
}

static bool
set_value(ClientSession *s, const char *name, const char *value)
{
	bool		on;
	int64		age;

	if (strcmp(name, SETTING_CACHE) == 0)
	{
		if (!parse_bool(value, &on))
			return false;
		s->cache_choice = on ? CACHE_BY_SESSION_ON : CACHE_BY_SESSION_OFF;
		return true;
	}
	if (!read_age(value, &age))
		return false;
	s->max_age = age;
	return true;
}

/* To what the client had asked for when it connected. */
static void
reset_value(ClientSession *s, const char *name)
{
	if (strcmp(name, SETTING_CACHE) == 0)
		s->cache_choice = s->startup_cache_choice;
	else
		s->max_age = s->startup_max_age;
}

static void
show_value(const ClientSession *s, const char *name, char *out, size_t size)
{
	bool		on = s->cache_choice == CACHE_BY_DEFAULT ? pool_cache(s->pool)->on : s->cache_choice == CACHE_BY_SESSION_ON;

	if (strcmp(name, SETTING_CACHE) == 0)
		strlcpy(out, on ? "on" : "off", size);
	else if (strcmp(name, SETTING_CLIENT) == 0)
		snprintf(out, size, "%u", pool_origin_is_pooled(s->pool) ? 0 : s->row->key_pid);	/* behind a pooler no session is kept */
	else
		snprintf(out, size, INT64_FORMAT "ms", (s->max_age >= 0 ? s->max_age : pool_cache(s->pool)->max_age) / 1000);
}

bool
session_gateway_take(ClientSession *s, SettingsDraft *draft, char *complaint, size_t size)
{
	static const char *const names[] = {SETTING_CACHE, SETTING_MAX_AGE};

	for (size_t i = 0; i < lengthof(names); i++)
	{
		char		value[GATEWAY_VALUE_SIZE];

		if (!settings_draft_get(draft, bytes_str(names[i]), value, sizeof(value)))
			continue;
		settings_draft_remove(draft, bytes_str(names[i]));
		if (!set_value(s, names[i], value))
		{
			snprintf(complaint, size, "invalid value for parameter \"%s\": \"%s\"", names[i], value);
			return false;
		}
	}
	s->startup_cache_choice = s->cache_choice;
	s->startup_max_age = s->max_age;
	return true;
}

/* ---- answers ---- */

static void
put_column(ByteBuffer *out, const char *name)
{
	ByteBuffer	body = {0};

	buffer_put_u16(&body, 1);
	buffer_put_cstr(&body, bytes_str(name));
	buffer_put_u32(&body, 0);	/* no table */
	buffer_put_u16(&body, 0);
	buffer_put_u32(&body, 25);	/* text */
	buffer_put_u16(&body, 0xffff);
	buffer_put_u32(&body, 0xffffffff);
	buffer_put_u16(&body, 0);
	message_put(out, ANS_ROW_DESCRIPTION, buffer_view(&body));
	buffer_free(&body);
}

static void
put_value(ByteBuffer *out, const char *value)
{
	ByteBuffer	body = {0};

	buffer_put_u16(&body, 1);
	buffer_put_u32(&body, strlen(value));
	buffer_put(&body, value, strlen(value));
	message_put(out, ANS_DATA_ROW, buffer_view(&body));
	buffer_free(&body);
}

static void
put_tag(ByteBuffer *out, const char *tag)
{
	message_put(out, ANS_COMMAND_COMPLETE, bytes_of(tag, strlen(tag) + 1));
}

static void
put_description(ByteBuffer *out, const GatewaySetting *setting)
{
	if (setting->what == GATEWAY_SHOW)
		put_column(out, setting->name);
	else
		message_put_empty(out, ANS_NO_DATA);
}

static void
put_answer(ClientSession *s, const GatewaySetting *setting)
{
	char		value[64];

	switch (setting->what)
	{
		case GATEWAY_SET:
			put_tag(&s->out, "SET");
			break;
		case GATEWAY_RESET:
			put_tag(&s->out, "RESET");
			break;
		case GATEWAY_SHOW:
			show_value(s, setting->name, value, sizeof(value));
			put_value(&s->out, value);
			put_tag(&s->out, "SHOW");
			break;
	}
}

/* A value that is wrong leaves everything as it was. */
static bool
carry_out(ClientSession *s, const GatewaySetting *setting)
{
	/* SET LOCAL ends with its transaction, and inside one nothing comes from the cache */
	if (setting->what == GATEWAY_SHOW)
		return true;
	if (strcmp(setting->name, SETTING_CLIENT) == 0)
		return false;
	if (setting->is_local)
		return true;
	if (setting->what == GATEWAY_SET)
		return set_value(s, setting->name, setting->value);
	reset_value(s, setting->name);
	return true;
}

/* Sent to the origin, which knows nothing of it: in a transaction in the extended form, behind other requests. It counts all the same. */
void
session_gateway_heed(ClientSession *s, Bytes text)
{
	GatewaySetting setting;

	if (analyze_gateway_setting(text, &setting) && session_gateway_is(bytes_str(setting.name)))
		(void) carry_out(s, &setting);
}

static void
put_complaint(ClientSession *s, const GatewaySetting *setting)
{
	char		complaint[256];

	if (strcmp(setting->name, SETTING_CLIENT) == 0)
	{
		message_put_error(&s->out, ANS_ERROR, "ERROR", "55P02", "parameter \"" SETTING_CLIENT "\" cannot be changed", NULL, NULL);
		return;
	}
	snprintf(complaint, sizeof(complaint), "invalid value for parameter \"%s\": \"%s\"", setting->name, setting->value);
	message_put_error(&s->out, ANS_ERROR, "ERROR", "22023", complaint, NULL,
					  strcmp(setting->name, SETTING_CACHE) == 0 ? "Available values: on, off." : "A time such as 5s or 500ms.");
}

bool
session_gateway_run(ClientSession *s, Bytes text, bool extended, bool describe_statement, bool describe_portal, bool *failed)
{
	GatewaySetting setting;

	if (!analyze_gateway_setting(text, &setting) || !session_gateway_is(bytes_str(setting.name)))
		return false;
	if (describe_statement)
	{
		message_put(&s->out, ANS_PARAMETER_DESCRIPTION, bytes_of("\0\0", 2));
		put_description(&s->out, &setting);
	}
	if (extended)
		message_put_empty(&s->out, ANS_BIND_COMPLETE);
	*failed = !carry_out(s, &setting);
	if (*failed)
	{
		put_complaint(s, &setting);
		return true;
	}
	if (describe_portal && (extended || setting.what == GATEWAY_SHOW))
		put_description(&s->out, &setting);
	put_answer(s, &setting);
	return true;
}
