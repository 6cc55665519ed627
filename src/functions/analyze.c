/*
 * functions/analyze.c - what hyperpool sees in a query string, for SQL.          floor 8
 *
 * Answers: how does the gateway classify this text? Owns nothing.
 * Never: runs the text.
 *
 * CREATE FUNCTION hyperpool.analyze_text(text text, OUT kind text, OUT effects text[])
 *     RETURNS record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
 *     AS 'MODULE_PATHNAME', 'hyperpool_analyze_text';
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "host/analyze.h"

typedef struct EffectName
{
	uint32		effect;
	const char *name;
} EffectName;

static const EffectName effect_names[] = {
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
};

extern PGDLLEXPORT Datum hyperpool_analyze_text(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(hyperpool_analyze_text);

static ArrayType *
effects_array(uint32 effects)
{
	Datum		names[lengthof(effect_names)];
	int			n = 0;
	int			i;

	for (i = 0; i < (int) lengthof(effect_names); i++)
	{
		if (effects & effect_names[i].effect)
			names[n++] = CStringGetTextDatum(effect_names[i].name);
	}
	return construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT);
}

Datum
hyperpool_analyze_text(PG_FUNCTION_ARGS)
{
	text	   *input = PG_GETARG_TEXT_PP(0);
	StatementFacts facts;
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE || tupdesc->natts != 2)
		elog(ERROR, "hyperpool.analyze_text must return two columns");
	analyze_text(bytes_of(VARDATA_ANY(input), VARSIZE_ANY_EXHDR(input)), true, &facts);
	mem_free_str(facts.target);
	values[0] = CStringGetTextDatum(statement_kind_name(facts.kind));
	values[1] = PointerGetDatum(effects_array(facts.effects));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
