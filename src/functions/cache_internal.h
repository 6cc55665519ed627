/*
 * functions/cache_internal.h - what the files of the cache's functions share.     floor 8
 *
 *	cache.c				invalidate(), refresh_catalog(); which origin is meant, who may, waiting for the scout
 *	cache_explain.c		explain_query()
 *
 * Owns nothing. Never: included outside these two files.
 */
#ifndef HYPERPOOL_FUNCTIONS_CACHE_INTERNAL_H
#define HYPERPOOL_FUNCTIONS_CACHE_INTERNAL_H

#include "postgres.h"
#include "fmgr.h"

#include "core/statement.h"
#include "host/directory.h"
#include "host/facts.h"

/* The published origin of this name, which the caller may use; ERROR otherwise. Valid until the next call. */
extern const DirectoryOrigin *cache_find_origin(const char *name);
/* Wants the origin's facts and waits for the scout, up to so many milliseconds, until they are fresh. What they are then. */
extern FactsState cache_wait_facts(const DirectoryOrigin *origin, int milliseconds);
extern void cache_nap(void);	/* a moment; interrupts are served */
extern void cache_require_argument(FunctionCallInfo fcinfo, int n);

#define FACTS_PATIENCE_MS	2000	/* how long explain_query and invalidate wait for the scout */

#endif
