/*
 * functions/statistics_internal.h - what the files of the views share.            floor 8
 *
 *	statistics.c		clients, links, pools, origins; what acts on them
 *	statistics_cache.c	the cache: stat_cache, cache_entries, stat_queries
 *	statistics_rows.c	building rows; this backend's copy of the directory
 *
 * Owns nothing. Never: included outside these three files.
 */
#ifndef HYPERPOOL_FUNCTIONS_STATISTICS_INTERNAL_H
#define HYPERPOOL_FUNCTIONS_STATISTICS_INTERNAL_H

#include "postgres.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

#include "host/directory.h"

#define MAX_COLUMNS		80

/* A row under construction; columns are put in the order of the SQL declaration. */
typedef struct RowDraft
{
	ReturnSetInfo *set;
	int			n;
	Datum		values[MAX_COLUMNS];
	bool		nulls[MAX_COLUMNS];
} RowDraft;

extern void statistics_check_ready(void);	/* ERROR 55000 without shared memory */
/* Begins the set; the library may be newer or older than the SQL objects that call it. */
extern RowDraft rows_begin(FunctionCallInfo fcinfo, int columns);
extern void row_put(RowDraft *row, Datum value);
extern void row_put_null(RowDraft *row);
extern void row_put_oid(RowDraft *row, Oid oid);	/* InvalidOid: null */
/* Text that a client or an origin has a hand in: whatever this database cannot hold is shown as question marks. */
extern void row_put_text(RowDraft *row, const char *s);
extern void row_put_text_or_null(RowDraft *row, const char *s);	/* "" too is null */
extern void row_end(RowDraft *row);

extern Directory *statistics_directory; /* NULL until published */
extern void statistics_look_at_directory(void);
extern int	statistics_origin_count(void);
extern Oid	statistics_oid_of_slot(int slot);	/* InvalidOid: none */

#endif
