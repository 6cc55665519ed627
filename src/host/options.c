/*
 * host/options.c - what do the options of an origin mean?                         floor 5
 *
 * One table: a row an option, for the validator, the SQL functions and the manager alike, so that what one accepts the
 * others understand. Owns nothing. Never: reads a catalog, connects.
 */
#include "postgres.h"

#include <limits.h>

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "host/options.h"

#define FIELD(name)		offsetof(DirectoryOrigin, name)
#define LONGEST			((int64) 366 * USECS_PER_DAY)	/* of any time limit: keeps sums of times far from overflow */

static const OriginOption options[] = {
	{"pool_size", OPTION_COUNT, FIELD(pool_size), "20", 1, 10000},
	{"min_pool_size", OPTION_COUNT, FIELD(min_pool_size), "0", 0, 10000},
	{"pool_mode", OPTION_POOL_MODE, FIELD(pool_mode), "transaction", 0, 0},
	{"queue_timeout", OPTION_INTERVAL, FIELD(queue_timeout), "15s", 0, LONGEST},
	{"idle_timeout", OPTION_INTERVAL, FIELD(idle_timeout), "10min", 0, LONGEST},
	{"max_lifetime", OPTION_INTERVAL, FIELD(max_lifetime), "1h", 0, LONGEST},
	{"query_timeout", OPTION_INTERVAL, FIELD(query_timeout), "0", 0, LONGEST},
	{"idle_transaction_timeout", OPTION_INTERVAL, FIELD(idle_transaction_timeout), "0", 0, LONGEST},
	{"connect_timeout", OPTION_INTERVAL, FIELD(connect_timeout), "15s", 0, LONGEST},
	{"allow_trust", OPTION_BOOLEAN, FIELD(allow_trust), "false", 0, 0},
	{"pooled", OPTION_BOOLEAN, FIELD(pooled), "false", 0, 0},
	{"gateway", OPTION_BOOLEAN, FIELD(gateway), "false", 0, 0},
	{"cache", OPTION_BOOLEAN, FIELD(cache), "true", 0, 0},
	{"max_age", OPTION_AGE, FIELD(max_age), "60s", 0, LONGEST},
	{"stale_while_revalidate", OPTION_AGE, FIELD(stale_while_revalidate), "15s", 0, LONGEST},
	{"stale_if_error", OPTION_AGE, FIELD(stale_if_error), "0", 0, LONGEST},
	{"max_result_size", OPTION_SIZE, FIELD(max_result_size), "52428800", 0, INT64CONST(1) << 40},
	{"share", OPTION_BOOLEAN, FIELD(share), "true", 0, 0},
	{"share_depth", OPTION_COUNT, FIELD(share_depth), "1024", 1, 10000},
	{"rules", OPTION_RULES, FIELD(rules), "", 0, 0},
};

const OriginOption *
option_of(const char *name)
{
	size_t		i;

	for (i = 0; i < lengthof(options); i++)
	{
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

static void
check_bounds(const OriginOption *option, int64 value, const char *text)
{
	if (value >= option->least && value <= option->most)
		return;
	if (option->kind == OPTION_INTERVAL || option->kind == OPTION_AGE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" of an origin is out of range: \"%s\"", option->name, text),
						option->kind == OPTION_AGE ? errhint("It is a time between 0 and 366 days.")
						: errhint("It is a time between 0 (no limit) and 366 days."),
						errhidestmt(true), errhidecontext(true)));
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"%s\" of an origin is out of range: \"%s\"", option->name, text),
					errhint("It is a number between %lld and %lld.", (long long) option->least, (long long) option->most),
					errhidestmt(true), errhidecontext(true)));
}

static int64
integer_of(const OriginOption *option, const char *text)
{
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" of an origin must be a number, not \"%s\"", option->name, text),
						errhidestmt(true), errhidecontext(true)));
	check_bounds(option, value, text);
	return value;
}

static int64
interval_of(const OriginOption *option, const char *text)
{
	Interval   *interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
																 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	/* bounds on the parts first: the sum then fits */
	if (days < -1000 || days > 1000 || interval->time > INT64CONST(1000) * USECS_PER_DAY || interval->time < INT64CONST(-1000) * USECS_PER_DAY)
		check_bounds(option, -1, text);
	check_bounds(option, days * USECS_PER_DAY + interval->time, text);
	return days * USECS_PER_DAY + interval->time;
}

static bool
boolean_of(const OriginOption *option, const char *text)
{
	bool		value;

	if (!parse_bool(text, &value))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"%s\" of an origin must be true or false, not \"%s\"", option->name, text),
						errhidestmt(true), errhidecontext(true)));
	return value;
}

static PoolMode
pool_mode_of(const char *text)
{
	if (strcmp(text, "transaction") == 0)
		return POOL_TRANSACTION;
	if (strcmp(text, "session") == 0)
		return POOL_SESSION;
	if (strcmp(text, "statement") == 0)
		return POOL_STATEMENT;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"pool_mode\" of an origin cannot be \"%s\"", text),
					errhint("It is transaction, session or statement."),
					errhidestmt(true), errhidecontext(true)));
}

void
option_set(DirectoryOrigin *origin, const OriginOption *option, const char *value)
{
	char	   *field = (char *) origin + option->offset;

	switch (option->kind)
	{
		case OPTION_COUNT:
			*(int *) field = (int) integer_of(option, value);
			break;
		case OPTION_SIZE:
			*(int64 *) field = integer_of(option, value);
			break;
		case OPTION_INTERVAL:
		case OPTION_AGE:
			*(int64 *) field = interval_of(option, value);
			break;
		case OPTION_BOOLEAN:
			*(bool *) field = boolean_of(option, value);
			break;
		case OPTION_POOL_MODE:
			*(PoolMode *) field = pool_mode_of(value);
			break;
		case OPTION_RULES:
			*(CacheRule **) field = option_rules(value, &origin->nrules);
			break;
	}
}

void
options_set_initial(DirectoryOrigin *origin)
{
	size_t		i;

	for (i = 0; i < lengthof(options); i++)
		option_set(origin, &options[i], options[i].initial);
}

char *
option_interval_text(int64 microseconds)
{
	if (microseconds == 0)
		return pstrdup("0");
	if (microseconds % USECS_PER_HOUR == 0)
		return psprintf("%lldh", (long long) (microseconds / USECS_PER_HOUR));
	if (microseconds % USECS_PER_MINUTE == 0)
		return psprintf("%lldmin", (long long) (microseconds / USECS_PER_MINUTE));
	if (microseconds % USECS_PER_SEC == 0)
		return psprintf("%llds", (long long) (microseconds / USECS_PER_SEC));
	if (microseconds % 1000 == 0)
		return psprintf("%lldms", (long long) (microseconds / 1000));
	return psprintf("%lldus", (long long) microseconds);
}
