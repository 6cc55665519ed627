/*
 * core/cachekey.h - when are two requests the same?                               floor 3
 *
 * A key is the full bytes of a request: whose it is (a number given by the store for origin, database, users and settings vector), its form, the text
 * without what surrounds it, parameter types, parameter values, result formats. Formats are brought into one spelling, so that a simple Query and a
 * Bind that asks for the same find the same entry. Owns the layout. Never: decides what may be kept.
 */
#ifndef HYPERPOOL_CORE_CACHEKEY_H
#define HYPERPOOL_CORE_CACHEKEY_H

#include "core/bytes.h"

#define CACHE_KEY_MAX	(16 * 1024) /* longer requests are not kept: oversizedquery */

typedef enum CacheForm
{
	CACHE_ROWS = 'R',			/* RowDescription, rows, CommandComplete */
	CACHE_DESCRIPTION = 'D'		/* ParameterDescription and RowDescription or NoData of a statement */
} CacheForm;

typedef struct CacheKeyView
{
	uint32_t	scope;
	uint8_t		form;			/* CacheForm */
	Bytes		types;			/* 4 bytes each */
	Bytes		text;			/* trimmed */
	Bytes		values;			/* as in a Bind: formats, values, result formats, then the row limit if there is one; len 0 for a description */
} CacheKeyView;

/* What a Bind says after its names. */
typedef struct BindValues
{
	uint16_t	nformats;
	Bytes		formats;		/* 2 bytes each */
	uint16_t	nvalues;
	Bytes		values;			/* each a length and so many bytes */
	uint16_t	nresults;
	Bytes		results;		/* 2 bytes each */
} BindValues;

/* The text without blanks, comments and semicolons around it. Of a text in an unsafe encoding: do not call. */
extern Bytes cachekey_trim(Bytes text);
/* False: malformed; `rest` is that of a whole Bind. */
extern bool cachekey_read_bind(Bytes rest, BindValues *out);
/* The next value of text format; len may be 0, NULLs and binary values are passed over. *at starts at 0, *n counts values. False: no more. */
extern bool cachekey_next_text(const BindValues *bind, size_t *at, uint16_t *n, Bytes *value);
/* The key, appended to an empty buffer. text is trimmed already; bind NULL: a simple Query (rows) or a description. max_rows: of Execute, 0 = all. False: longer than CACHE_KEY_MAX, or no memory. */
extern bool cachekey_make(ByteBuffer *out, uint32_t scope, CacheForm form, Bytes text, Bytes types, const BindValues *bind, uint32_t max_rows);
/* False: not a key. */
extern bool cachekey_read(Bytes key, CacheKeyView *out);

#endif
