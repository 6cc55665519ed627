/*
 * origin/catalog_watch.h - between catalog.c, catalog_connect.c and catalog_look.c; nobody else includes it.
 *
 * A CatalogWatch is one origin's control connection and what was last seen over it. Its states, and who moves it, are in README.md.
 */
#ifndef HYPERPOOL_ORIGIN_CATALOG_WATCH_H
#define HYPERPOOL_ORIGIN_CATALOG_WATCH_H

#include "origin/catalog_internal.h"
#include "origin/guard.h"

#define MS				INT64CONST(1000)
#define SECOND			INT64CONST(1000000)

typedef enum WatchState
{
	WATCH_CLOSED,
	WATCH_CONNECTING,
	WATCH_IDLE,
	WATCH_ASKING				/* at most one question is out */
} WatchState;

struct CatalogWatch
{
	int			slot;
	int64		born;			/* doubts that are older are not its own … */
	int64		ended;			/* … nor those since it was dropped */
	MemoryContext context;
	Oid			oid;			/* of the origin; 0 = not seen yet */
	char		name[NAMEDATALEN];	/* for the log */
	Digest128	target;			/* of all that the connection is made with */
	Digest128	quiet;			/* of the rules that closures depend on */
	uint32		generation;		/* of the origin's options */
	uint32		addresses;		/* generation of those connected to */

	WatchState	state;
	PGconn	   *conn;
	LoginGuard	guard;			/* of its login */
	bool		for_write;
	int64		deadline;		/* of what is under way */
	int64		last_deadline;	/* which no progress moves */
	int64		due;			/* when to step again */
	int64		used_at;		/* the connection served something last */

	CatalogQuestion question;
	int64		asked_at;
	int			results;		/* that have ended */
	const char *wrong;			/* with a row of the answer */
	CatalogLook fresh;			/* being answered */
	CatalogPrint fresh_print;
	CatalogRead *read;
	CatalogDoubts doubts;

	/* the present look: began, and for which ticket */
	int64		look_began;
	uint64		ticket;
	FactsBefore before;			/* the look */
	uint64		cleared;		/* of the suspicions, by looks before */

	CatalogLook known;			/* answered: who it was last time */
	FactsIdentity identity;
	bool		has_print;
	CatalogPrint print;
	char		sum[64];		/* that of `print`, or "" */
	int64		printed_at;
	int64		print_cost;
	int64		read_cost;
	int64		silence;		/* that is borne during a read, if more than what is always */
	bool		read_again;		/* whatever the fingerprint says */

	uint64		tickets_done;
	int64		looked_at;		/* well; 0 = never */
	int64		retry_at;
	int64		backoff;
	int64		doubts_at;
	bool		failing;		/* said so */
	bool		introduced;		/* this connection has been asked whose it is */
	bool		denied;			/* it will not say: then doubts are watched all the same */
};

/* ---- catalog.c ---- */

extern bool watch_is_wanted(const CatalogWatch *w, int64 now);
extern bool watch_has_doubts(const CatalogWatch *w);
extern bool watch_serves(const DirectoryOrigin *origin);	/* what is known of the catalog decides something there */
extern void watch_finish_ticket(CatalogWatch *w);	/* of the look that has ended */

/* ---- catalog_connect.c ---- */

extern void watch_open(CatalogWatch *w, const DirectoryOrigin *origin, const DirectoryCredential *credential, int64 now);
extern void watch_connect_step(CatalogWatch *w, const DirectoryCredential *credential, int64 now);
extern void watch_close(CatalogWatch *w);
/* Closes it; what it was asked for has failed. text: may be libpq's own. hint: may be NULL. */
extern void watch_fail(CatalogWatch *w, int64 now, const char *text, const char *hint);
extern bool watch_is_late(const CatalogWatch *w, int64 now);	/* with what is under way */

/* ---- catalog_look.c ---- */

/* Of a connection that is idle. whole: what is known of the catalog too, not only whose it is. */
extern void watch_ask_look(CatalogWatch *w, bool whole, int64 now);
extern void watch_ask_doubts(CatalogWatch *w, int64 now);
extern void watch_answer_step(CatalogWatch *w, const DirectoryOrigin *origin, int64 now);

#endif
