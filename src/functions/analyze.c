/*
 * functions/analyze.c - what hyperpool sees in a query string, for SQL.          floor 8
 *
 * Answers: how does the gateway classify this text, what does it speak of, as what is it counted; and what does the answer of
 * each built-in function depend on? Owns nothing. Never: runs the text.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/builtin.h"
#include "host/analyze.h"
#include "host/querystats.h"

typedef struct BitName
{
	uint32		bit;
	const char *name;
} BitName;

static const BitName effect_names[] = {
	{EFFECT_WRITES, "writes"},
	{EFFECT_DIRTY, "dirty"},
	{EFFECT_SETTINGS, "settings"},
	{EFFECT_BIND, "bind"},
	{EFFECT_UNBIND, "unbind"},
	{EFFECT_RETIRE, "retire"},
	{EFFECT_BEGIN, "begin"},
	{EFFECT_END, "end"},
	{EFFECT_COPY, "copy"},
	{EFFECT_LOCKS, "locks"},
	{EFFECT_UNKNOWN, "unknown"},
	{EFFECT_RESETS, "resets"},
	{EFFECT_SETS_NAMED, "binds by parameter"},
	{EFFECT_REREADS, "rereads"},
};

static const BitName flag_names[] = {
	{TEXT_TIME, "time"},
	{TEXT_LOCKING, "locking"},
	{TEXT_INTO, "into"},
	{TEXT_WRITES_ANYTHING, "writes anything"},
	{TEXT_WRITES_CATALOG, "writes catalog"},
	{TEXT_TOO_MUCH, "too much"},
};

extern PGDLLEXPORT Datum hyperpool_analyze_text(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_analyze_mentions(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_normalise_text(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum hyperpool_builtin_classes(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_analyze_text);
PG_FUNCTION_INFO_V1(hyperpool_analyze_mentions);
PG_FUNCTION_INFO_V1(hyperpool_normalise_text);
PG_FUNCTION_INFO_V1(hyperpool_builtin_classes);

static ArrayType *
bits_array(uint32 bits, const BitName *rows, int nrows)
{
	Datum		names[Max(lengthof(effect_names), lengthof(flag_names))];
	int			n = 0;
	int			i;

	for (i = 0; i < nrows; i++)
	{
		if (bits & rows[i].bit)
			names[n++] = CStringGetTextDatum(rows[i].name);
	}
	return construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT);
}

static Bytes
text_bytes(const text *t)
{
	return bytes_of(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

/* The result row of a function with two OUT parameters. */
static Datum
two_columns(FunctionCallInfo fcinfo, Datum first, Datum second)
{
	TupleDesc	tupdesc;
	Datum		values[2] = {first, second};
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE || tupdesc->natts != 2)
		elog(ERROR, "a function of hyperpool must return two columns");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

Datum
hyperpool_analyze_text(PG_FUNCTION_ARGS)
{
	StatementFacts facts;
	Datum		kind;
	ArrayType  *effects;

	analyze_text(text_bytes(PG_GETARG_TEXT_PP(0)), true, &facts);
	kind = CStringGetTextDatum(statement_kind_name(facts.kind));
	effects = bits_array(facts.effects, effect_names, lengthof(effect_names));
	analyze_forget(&facts);
	PG_RETURN_DATUM(two_columns(fcinfo, kind, PointerGetDatum(effects)));
}

static const char *
mention_kind_name(MentionKind kind)
{
	switch (kind)
	{
		case MENTION_READS:
			return "reads";
		case MENTION_WRITES:
			return "writes";
		case MENTION_FUNCTION:
			return "function";
		case MENTION_OPERATOR:
			return "operator";
		case MENTION_TYPE:
			return "type";
		case MENTION_FIELD:
			return "field";
		case MENTION_TEMP:
			return "temporary";
	}
	return "unknown";
}

/* The mentions in the order of the text, "reads schema.name" and so on. */
static ArrayType *
mentions_array(const Mentions *mentions)
{
	Datum	   *texts = palloc(sizeof(Datum) * (mentions != NULL ? mentions->count + 1 : 1));
	Mention		mention;
	uint32_t	at = 0;
	int			n = 0;

	while (mentions != NULL && n < (int) mentions->count && mentions_next(mentions, &at, &mention))
		texts[n++] = CStringGetTextDatum(psprintf("%s %.*s%s%.*s", mention_kind_name(mention.kind),
												  (int) mention.schema.len, (const char *) mention.schema.data,
												  mention.schema.len > 0 ? "." : "",
												  (int) mention.name.len, (const char *) mention.name.data));
	return construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* A text that was not analysed is marked as such: of it nothing may be concluded. */
Datum
hyperpool_analyze_mentions(PG_FUNCTION_ARGS)
{
	StatementFacts facts;
	ArrayType  *names;
	uint32		flags;

	analyze_text(text_bytes(PG_GETARG_TEXT_PP(0)), true, &facts);
	flags = facts.mentions != NULL ? facts.mentions->flags : 0;
	if (facts.kind == STATEMENT_UNKNOWN)
		flags |= TEXT_TOO_MUCH;
	names = mentions_array(facts.mentions);
	analyze_forget(&facts);
	PG_RETURN_DATUM(two_columns(fcinfo, PointerGetDatum(names),
								PointerGetDatum(bits_array(flags, flag_names, lengthof(flag_names)))));
}

Datum
hyperpool_normalise_text(PG_FUNCTION_ARGS)
{
	ByteBuffer	out = {0};
	text	   *result;

	querystats_normalise(text_bytes(PG_GETARG_TEXT_PP(0)), &out);
	if (out.failed)
	{
		buffer_free(&out);
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	}
	result = cstring_to_text_with_len(buffer_len(&out) > 0 ? (const char *) buffer_view(&out).data : "", buffer_len(&out));
	buffer_free(&out);
	PG_RETURN_TEXT_P(result);
}

Datum
hyperpool_builtin_classes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *name;
	BuiltinClass class;
	size_t		i;

	InitMaterializedSRF(fcinfo, 0);
	for (i = 0; builtin_at(i, &name, &class); i++)
	{
		Datum		values[2] = {CStringGetTextDatum(name), CStringGetTextDatum(builtin_class_name(class))};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
