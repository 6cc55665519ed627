/*
 * functions/origins_rules.c - what a user says about relations and functions of an origin. floor 8
 *
 * Answers: hyperpool.set_rule(), and the rows behind the view hyperpool.rules. The rules of an origin are one option of its server (host/options_rules), so they
 * are dumped, dropped and published with it, and who may alter the server may write them.
 *
 * Owns nothing. Never: asks an origin whether it has what a rule names; a rule may come before its table.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "functions/origins_internal.h"
#include "host/options.h"

extern PGDLLEXPORT Datum hyperpool_set_rule(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_rules(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_set_rule);
PG_FUNCTION_INFO_V1(hyperpool_rules);

enum RuleArgument { ARG_ORIGIN, ARG_RELATION, ARG_FUNCTION, ARG_CACHE, ARG_MAX_AGE, ARG_WRITES };

static void
refuse(const char *message, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message), errhint("%s", hint)));
}

static void
check_arguments(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(ARG_ORIGIN))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("argument %d must not be null", ARG_ORIGIN + 1)));
	if (PG_ARGISNULL(ARG_RELATION) == PG_ARGISNULL(ARG_FUNCTION))
		refuse("a rule is about one relation or one function", "Give either relation or function.");
	if (!PG_ARGISNULL(ARG_FUNCTION) && (!PG_ARGISNULL(ARG_CACHE) || !PG_ARGISNULL(ARG_MAX_AGE)))
		refuse("a rule about a function has no cache and no max_age", "It says whether the function writes; rules about relations have cache and max_age.");
	if (!PG_ARGISNULL(ARG_RELATION) && !PG_ARGISNULL(ARG_WRITES))
		refuse("a rule about a relation does not say whether it writes", "Use writes with a function.");
}

/* The name as SQL reads it: folded unless quoted, one or two parts. */
static void
set_name(CacheRule *rule, const char *text)
{
#if PG_VERSION_NUM >= 160000
	List	   *parts = stringToQualifiedNameList(text, NULL);
#else
	List	   *parts = stringToQualifiedNameList(text);
#endif

	if (list_length(parts) > 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME), errmsg("\"%s\" has more parts than a schema and a name", text),
						errhint("An origin is one database; leave its name out.")));
	rule->schema = list_length(parts) == 2 ? strVal(linitial(parts)) : "";
	rule->name = strVal(llast(parts));
}

static void
set_rule_of(FunctionCallInfo fcinfo, CacheRule *rule)
{
	memset(rule, 0, sizeof(*rule));
	rule->function = !PG_ARGISNULL(ARG_FUNCTION);
	rule->max_age = PG_ARGISNULL(ARG_MAX_AGE) ? -1 : origins_interval_arg(fcinfo, ARG_MAX_AGE);
	rule->cache_off = !PG_ARGISNULL(ARG_CACHE) && !PG_GETARG_BOOL(ARG_CACHE);
	rule->quiet = !PG_ARGISNULL(ARG_WRITES) && !PG_GETARG_BOOL(ARG_WRITES);
	set_name(rule, text_to_cstring(PG_GETARG_TEXT_PP(rule->function ? ARG_FUNCTION : ARG_RELATION)));
	if (!PG_ARGISNULL(ARG_MAX_AGE) && rule->max_age < 0)
		refuse("max_age of a rule is out of range", "It is a time between 0 and 366 days.");
}

static bool
same_subject(const CacheRule *a, const CacheRule *b)
{
	return a->function == b->function && strcmp(a->schema, b->schema) == 0 && strcmp(a->name, b->name) == 0;
}

/* The rules without the one about the same subject, and with the new one unless it says nothing. */
static char *
changed_rules(const char *before, const CacheRule *rule, bool says_nothing)
{
	int			n;
	int			kept = 0;
	int			i;
	CacheRule  *rules = option_rules(before != NULL ? before : "", &n);
	CacheRule  *after = palloc0(sizeof(CacheRule) * (n + 1));

	for (i = 0; i < n; i++)
	{
		if (!same_subject(&rules[i], rule))
			after[kept++] = rules[i];
	}
	if (!says_nothing)
		after[kept++] = *rule;
	return kept > 0 ? option_rules_text(after, kept) : NULL;
}

/*
 * A rule says what the call that made it said, and no more: a second call about the same subject replaces it.
 * ALTER SERVER checks the text (the validator), so a max_age out of bounds is refused there.
 */
Datum
hyperpool_set_rule(PG_FUNCTION_ARGS)
{
	ForeignServer *server;
	CacheRule	rule;
	bool		says_nothing;
	char	   *written;

	origins_require_writable();
	check_arguments(fcinfo);
	server = origins_find(text_to_cstring(PG_GETARG_TEXT_PP(ARG_ORIGIN)));
	origins_require_owner(server);
	set_rule_of(fcinfo, &rule);
	says_nothing = PG_ARGISNULL(ARG_CACHE) && PG_ARGISNULL(ARG_MAX_AGE) && PG_ARGISNULL(ARG_WRITES);
	written = changed_rules(origins_option_value(server->options, "rules"), &rule, says_nothing);
	origins_alter_server(server->servername, origins_change_option(NIL, server->options, "rules", written));
	origins_note_change();
	PG_RETURN_VOID();
}

/* ---- the view ---- */

static Datum
interval_datum(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

static void
put_rule(ReturnSetInfo *set, const CacheRule *rule)
{
	Datum		values[6] = {0};
	bool		nulls[6] = {false};

	values[0] = CStringGetTextDatum(rule->function ? "function" : "relation");
	nulls[1] = rule->schema[0] == '\0';
	if (!nulls[1])
		values[1] = CStringGetTextDatum(rule->schema);
	values[2] = CStringGetTextDatum(rule->name);
	nulls[3] = rule->function;
	values[3] = BoolGetDatum(!rule->cache_off);
	nulls[4] = rule->function || rule->max_age < 0;
	if (!nulls[4])
		values[4] = interval_datum(rule->max_age);
	nulls[5] = !rule->function;
	values[5] = BoolGetDatum(!rule->quiet);
	tuplestore_putvalues(set->setResult, set->setDesc, values, nulls);
}

/* The rules in the text of the option, a row each. */
Datum
hyperpool_rules(PG_FUNCTION_ARGS)
{
	CacheRule  *rules;
	int			n;
	int			i;

	InitMaterializedSRF(fcinfo, 0);
	rules = option_rules(text_to_cstring(PG_GETARG_TEXT_PP(0)), &n);
	for (i = 0; i < n; i++)
		put_rule((ReturnSetInfo *) fcinfo->resultinfo, &rules[i]);
	return (Datum) 0;
}
