/*
 * origin/catalog.h - the control connection's questions and what its answers mean.  floor 6
 *
 * Answers: what can the text of a query reach at this origin, and has its catalog changed? Owns one control connection an origin (libpq, non-blocking, one
 * above pool_size), what it asks, and the closures (views, policies, partitions, foreign keys, triggers, rules, functions) that it
 * publishes by host/facts. It also watches the backends of writes in doubt (host/versions). Lives in the scout, which waits for its sockets.
 * Catalog text is hostile input: numbers are bounded, names are cut at NAMEDATALEN, rows counted.
 * Never: carries client traffic, runs anything that writes.
 */
#ifndef HYPERPOOL_ORIGIN_CATALOG_H
#define HYPERPOOL_ORIGIN_CATALOG_H

#include "postgres.h"
#include "host/directory.h"

typedef struct CatalogWatch CatalogWatch;

/* born: since when this origin has the slot (0 = as long as is known); doubts that are older are of another origin. */
extern CatalogWatch *catalog_watch_create(int slot, int64 born);
extern void catalog_watch_free(CatalogWatch *watch);	/* closes the connection; NULL is fine */
/*
 * One step, never blocking: opens, asks, reads, closes as time and wishes (facts_want, refresh tickets, doubts) say. `origin` and `credential` are
 * looked up by the caller in the current directory each time; credential NULL = there is none (then nothing can be known). now: CLOCK_MONOTONIC, microseconds.
 * origin NULL: it has been dropped; then an open connection still watches the writes in doubt.
 */
extern void catalog_watch_step(CatalogWatch *watch, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now);
/* What to wait for: a socket (or -1) and whether for writing; and when to step again at the latest (now-based microseconds). */
extern int	catalog_watch_socket(const CatalogWatch *watch, bool *for_write);
extern int64 catalog_watch_due(const CatalogWatch *watch);
/* May it find out how a write ended that came in doubt then? False: it is of the origin that had the slot before, or of a server that the origin no longer means. */
extern bool catalog_watch_minds(const CatalogWatch *watch, int64 since);
extern bool catalog_watch_is_open(const CatalogWatch *watch);	/* there is a connection */

#endif
