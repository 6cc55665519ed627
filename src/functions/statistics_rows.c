/*
 * functions/statistics_rows.c - rows of the statistics functions, and whose they are.
 *
 * Answers: how is a row built, column after column, and which origin is in this slot? Owns this backend's copy of the directory.
 * Never: knows a view.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "functions/statistics_internal.h"
#include "host/counters.h"
#include "host/text.h"

Directory  *statistics_directory = NULL;

/* ---- rows ---- */

void
statistics_check_ready(void)
{
	if (!counters_ready())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("hyperpool must be loaded via shared_preload_libraries"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
}

/* Begins the set; the library may be newer or older than the SQL objects that call it. */
RowDraft
rows_begin(FunctionCallInfo fcinfo, int columns)
{
	RowDraft	row = {0};

	statistics_check_ready();
	InitMaterializedSRF(fcinfo, 0);
	row.set = (ReturnSetInfo *) fcinfo->resultinfo;
	if (row.set->setDesc->natts != columns)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the SQL objects of hyperpool are not of the version of its library"),
				 errhint("Restart the server if the library is older, or use ALTER EXTENSION hyperpool UPDATE.")));
	return row;
}

void
row_put(RowDraft *row, Datum value)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = value;
	row->nulls[row->n++] = false;
}

void
row_put_null(RowDraft *row)
{
	Assert(row->n < MAX_COLUMNS);
	row->values[row->n] = (Datum) 0;
	row->nulls[row->n++] = true;
}

void
row_put_oid(RowDraft *row, Oid oid)
{
	if (OidIsValid(oid))
		row_put(row, ObjectIdGetDatum(oid));
	else
		row_put_null(row);
}

/* Text that a client or an origin has a hand in. */
void
row_put_text(RowDraft *row, const char *s)
{
	row_put(row, CStringGetTextDatum(text_clean(s)));
}

void
row_put_text_or_null(RowDraft *row, const char *s)
{
	if (s && s[0] != '\0')
		row_put_text(row, s);
	else
		row_put_null(row);
}

void
row_end(RowDraft *row)
{
	tuplestore_putvalues(row->set->setResult, row->set->setDesc, row->values, row->nulls);
	row->n = 0;
}

/* ---- the directory ---- */

void
statistics_look_at_directory(void)
{
	statistics_directory = directory_refresh(statistics_directory);
}

int
statistics_origin_count(void)
{
	return statistics_directory ? directory_origin_count(statistics_directory) : 0;
}

Oid
statistics_oid_of_slot(int slot)
{
	for (int i = 0; i < statistics_origin_count(); i++)
	{
		const DirectoryOrigin *origin = directory_origin_at(statistics_directory, i);

		if (origin->slot == slot)
			return origin->oid;
	}
	return InvalidOid;
}
