/*
 * host/options_rules.c - the rules of an origin's cache as the text of one option. floor 5
 *
 * Answers: what does the option "rules" of a foreign server say, and how is it written? One rule after the other, divided by semicolons; names always
 * in double quotes, so that nothing is folded twice and any character may be in them:
 *	relation "public"."orders" cache=off max_age=5s; function "audit" writes=no
 * Everybody who owns the server may write the option by ALTER SERVER, so whatever stands there is checked.
 *
 * Owns nothing. Never: looks at an origin, judges whether a name exists.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "host/options.h"
#include "host/text.h"

typedef struct RuleReader
{
	const char *at;
	CacheRule  *rule;
} RuleReader;

static void
refuse(const char *at)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("option \"rules\" of an origin cannot be read at \"%s\"", text_start(at, 40)),
					errhint("It is written by hyperpool.set_rule."),
					errhidestmt(true), errhidecontext(true)));
}

static void
skip_blanks(RuleReader *r)
{
	while (*r->at == ' ' || *r->at == '\n' || *r->at == '\t')
		r->at++;
}

/* A word up to the next blank, semicolon or quote. */
static char *
read_word(RuleReader *r)
{
	size_t		len = strcspn(r->at, " \n\t;\"");
	char	   *word = pnstrdup(r->at, len);

	if (len == 0)
		refuse(r->at);
	r->at += len;
	return word;
}

/* A name in double quotes; one that is part of it is doubled. */
static char *
read_name(RuleReader *r)
{
	const char *start = r->at;
	bool		closed = false;
	StringInfoData name;

	initStringInfo(&name);
	if (*r->at != '"')
		refuse(start);
	for (r->at++; *r->at != '\0' && !closed;)
	{
		closed = *r->at == '"' && r->at[1] != '"';
		if (!closed)
			appendStringInfoChar(&name, *r->at);
		r->at += *r->at == '"' && !closed ? 2 : 1;
	}
	if (!closed || name.len == 0 || name.len >= NAMEDATALEN)
		refuse(start);
	return name.data;
}

static int64
max_age_of(const char *text)
{
	DirectoryOrigin origin;

	memset(&origin, 0, sizeof(origin));
	option_set(&origin, option_of("max_age"), text);
	return origin.max_age;
}

static void
set_property(CacheRule *rule, const char *word)
{
	if (!rule->function && strcmp(word, "cache=off") == 0)
		rule->cache_off = true;
	else if (!rule->function && strcmp(word, "cache=on") == 0)
		rule->cache_off = false;
	else if (!rule->function && strncmp(word, "max_age=", 8) == 0)
		rule->max_age = max_age_of(word + 8);
	else if (rule->function && strcmp(word, "writes=no") == 0)
		rule->quiet = true;
	else if (rule->function && strcmp(word, "writes=yes") == 0)
		rule->quiet = false;
	else
		refuse(word);
}

static void
read_rule(RuleReader *r)
{
	const char *start = r->at;
	char	   *kind = read_word(r);

	r->rule->function = strcmp(kind, "function") == 0;
	r->rule->max_age = -1;
	r->rule->schema = "";
	if (!r->rule->function && strcmp(kind, "relation") != 0)
		refuse(start);
	skip_blanks(r);
	r->rule->name = read_name(r);
	if (*r->at == '.')
	{
		r->at++;
		r->rule->schema = r->rule->name;
		r->rule->name = read_name(r);
	}
	for (skip_blanks(r); *r->at != '\0' && *r->at != ';'; skip_blanks(r))
		set_property(r->rule, read_word(r));
}

CacheRule *
option_rules(const char *text, int *n)
{
	RuleReader	r = {.at = text};
	CacheRule  *rules = NULL;
	int			room = 0;

	*n = 0;
	for (skip_blanks(&r); *r.at != '\0'; skip_blanks(&r))
	{
		if (*n >= RULES_MAX)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an origin has at most %d rules", RULES_MAX),
							errhidestmt(true), errhidecontext(true)));
		if (*n == room)
		{
			room = room == 0 ? 8 : room * 2;
			rules = rules == NULL ? palloc(sizeof(CacheRule) * room) : repalloc(rules, sizeof(CacheRule) * room);
		}
		r.rule = &rules[(*n)++];
		memset(r.rule, 0, sizeof(*r.rule));
		read_rule(&r);
		if (*r.at == ';')
			r.at++;
	}
	return rules;
}

static void
append_name(StringInfo text, const char *name)
{
	const char *at;

	appendStringInfoChar(text, '"');
	for (at = name; *at != '\0'; at++)
	{
		if (*at == '"')
			appendStringInfoChar(text, '"');
		appendStringInfoChar(text, *at);
	}
	appendStringInfoChar(text, '"');
}

static void
append_rule(StringInfo text, const CacheRule *rule)
{
	appendStringInfoString(text, rule->function ? "function " : "relation ");
	if (rule->schema[0] != '\0')
	{
		append_name(text, rule->schema);
		appendStringInfoChar(text, '.');
	}
	append_name(text, rule->name);
	if (rule->function)
		appendStringInfoString(text, rule->quiet ? " writes=no" : " writes=yes");
	else
		appendStringInfoString(text, rule->cache_off ? " cache=off" : " cache=on");
	if (!rule->function && rule->max_age >= 0)
		appendStringInfo(text, " max_age=%s", option_interval_text(rule->max_age));
}

char *
option_rules_text(const CacheRule *rules, int n)
{
	StringInfoData text;
	int			i;

	initStringInfo(&text);
	for (i = 0; i < n; i++)
	{
		if (i > 0)
			appendStringInfoString(&text, "; ");
		append_rule(&text, &rules[i]);
	}
	return text.data;
}
