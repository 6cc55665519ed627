/*
 * worker.h - the three mains and what _PG_init needs of them.                      floor 8
 */
#ifndef HYPERPOOL_WORKER_H
#define HYPERPOOL_WORKER_H

#include "postgres.h"

extern PGDLLEXPORT void hyperpool_worker_main(Datum arg);	/* arg: worker number */
extern PGDLLEXPORT void hyperpool_manager_main(Datum arg);
extern PGDLLEXPORT void hyperpool_scout_main(Datum arg);

#endif
