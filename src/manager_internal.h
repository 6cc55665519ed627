/*
 * manager_internal.h - between the parts of manager*.c; nobody else includes it.
 */
#ifndef HYPERPOOL_MANAGER_INTERNAL_H
#define HYPERPOOL_MANAGER_INTERNAL_H

#include "postgres.h"
#include "host/directory.h"

/* ---- manager_hba.c: pg_hba.conf ---- */
extern void manager_hba_reload(void);	/* the file is to be read again, by the next draft */
extern bool manager_hba_must_read(void);
/* Reads the file if it must. published may be NULL: its lines count where this process has none that are good. */
extern void manager_hba_draft(DirectoryDraft *draft, const Directory *published);

/* ---- manager_catalogs.c: what the catalogs say. In a transaction, with SPI and an active snapshot; an ERROR leaves no copy of a secret. ---- */
extern void manager_catalogs_draft(DirectoryDraft *draft);

#endif
