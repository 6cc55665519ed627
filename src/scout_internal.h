/*
 * scout_internal.h - between the parts of scout*.c; nobody else includes it.
 */
#ifndef HYPERPOOL_SCOUT_INTERNAL_H
#define HYPERPOOL_SCOUT_INTERNAL_H

#include "postgres.h"
#include "host/directory.h"

/* ---- scout_names.c: host names ---- */
extern void scout_names_init(void);
/* Begins and ends look-ups; true if addresses have changed. directory may be NULL. */
extern bool scout_names_step(const Directory *directory);
extern bool scout_names_pending(const Directory *directory);	/* a look-up is under way; it has no descriptor to wait for */

/* ---- scout_watch.c: catalogs and writes in doubt ---- */
extern void scout_watch_init(void);
extern void scout_watch_step(Directory *directory, int64 now);
extern int64 scout_watch_due(void); /* when to step again at the latest */
/* The descriptors of all connections, for one wait: at most max. */
typedef struct ScoutSocket
{
	int			fd;
	bool		for_write;
} ScoutSocket;
extern int	scout_watch_sockets(ScoutSocket *out, int max);

#endif
