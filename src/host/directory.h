/*
 * host/directory.h - origins, credentials, roles, hba lines.                      floor 4
 *
 * The manager reads them from the catalogs and pg_hba.conf and publishes a snapshot (a flat image) in shared memory; every worker
 * keeps a private decoded copy and takes a new one when the generation moves. So no worker ever
 * touches a catalog or waits for a lock on one.
 *
 * Owns the published image (two halves, a generation, one LWLock held while copying) and the origins' run-time
 * flags (paused, addresses). Secrets are wiped when replaced; the area is kept out of core dumps.
 */
#ifndef HYPERPOOL_HOST_DIRECTORY_H
#define HYPERPOOL_HOST_DIRECTORY_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "core/hba.h"
#include "core/statement.h"

typedef enum PoolMode { POOL_TRANSACTION, POOL_SESSION, POOL_STATEMENT } PoolMode;

typedef struct DirectoryOption	/* a libpq connection option */
{
	const char *name;
	const char *value;
} DirectoryOption;

typedef struct DirectoryOrigin
{
	const char *name;
	Oid			oid;			/* of the foreign server */
	int			slot;			/* 0 .. max_origins - 1, stable while it exists; counters and flags hang on it */
	uint32		generation;		/* moves when anything of it or its credentials changes */
	int			pool_size;
	int			min_pool_size;
	PoolMode	pool_mode;
	int64		queue_timeout;	/* microseconds, all; 0 = none */
	int64		idle_timeout;
	int64		max_lifetime;
	int64		query_timeout;
	int64		idle_transaction_timeout;
	int64		connect_timeout;
	bool		allow_trust;	/* hba trust lines are honoured for this origin */
	bool		pooled;			/* itself behind a transaction pooler (found at creation) */
	bool		gateway;		/* itself a hyperpool, which keeps the session of each of its clients (likewise) */
	bool		cache;			/* the cache's options; times in microseconds */
	int64		max_age;
	int64		stale_while_revalidate;
	int64		stale_if_error; /* 0 = off */
	int64		max_result_size;	/* bytes */
	bool		share;			/* links are shared by plain reads of several clients */
	int			share_depth;	/* so many on one link at most */
	int			nrules;
	CacheRule  *rules;			/* set_rule() */
	int			noptions;		/* connection options (no user, no password) */
	DirectoryOption *options;
} DirectoryOrigin;

typedef struct DirectoryCredential
{
	int			origin;			/* index into origins */
	Oid			role;			/* local role, InvalidOid = public */
	uint32		generation;
	const char *user;			/* at the origin */
	const char *password;		/* or NULL */
	const char *sslpassword;	/* of the client key file, or NULL */
	bool		require_password;	/* made by a non-superuser: the password must have been used (2F003) */
} DirectoryCredential;

typedef struct DirectoryRole
{
	const char *name;
	Oid			oid;
	bool		can_login;
	int			connection_limit;	/* -1 = none */
	TimestampTz valid_until;	/* DT_NOEND = for ever */
	const char *verifier;		/* rolpassword, or NULL */
} DirectoryRole;

typedef struct Directory Directory;

/* ---- shared memory ---- */
extern Size directory_shmem_size(void);
extern void directory_shmem_init(void);

/* ---- the reader's side (workers, scout, backends) ---- */

/* The current decoded directory: `old` itself if nothing changed, else a fresh one (old is wiped and freed: keep no pointers into it). NULL at first until published. */
extern Directory *directory_refresh(Directory *old);
/* The same for who only shows it (backends): passwords and verifiers in it are wiped, and NULL. */
extern Directory *directory_refresh_bare(Directory *old);
extern void directory_forget(Directory *d);	/* wipes and frees; NULL is fine */
extern bool directory_changed(const Directory *mine);	/* one atomic read */
extern uint64 directory_generation(const Directory *d);

extern const DirectoryOrigin *directory_origin(const Directory *d, Bytes name);	/* or NULL */
extern const DirectoryOrigin *directory_origin_by_oid(const Directory *d, Oid oid);
extern int	directory_origin_count(const Directory *d);
extern const DirectoryOrigin *directory_origin_at(const Directory *d, int i);
extern const DirectoryRole *directory_role(const Directory *d, Bytes name);
extern const DirectoryRole *directory_role_by_oid(const Directory *d, Oid oid);
extern bool directory_is_member(const Directory *d, Oid role, Bytes group_name);	/* directly or through others; a role is a member of itself */
extern bool directory_may_use(const Directory *d, Oid role, const DirectoryOrigin *origin);	/* USAGE, as has_server_privilege */
/* The role's own credential, else public's, else NULL. */
extern const DirectoryCredential *directory_credential(const Directory *d, const DirectoryOrigin *origin, Oid role);
/* Public's, else any role's, else NULL: for the control connection. */
extern const DirectoryCredential *directory_any_credential(const Directory *d, const DirectoryOrigin *origin);
/* The hba lines with regexes compiled; *usable false: never parsed, nobody gets in. */
extern const GatewayHbaLine *directory_hba(const Directory *d, size_t *n, bool *usable);
/* HbaWorld callbacks over a directory (arg = Directory *). */
extern const HbaWorld *directory_hba_world(Directory *d);

/* The slot of a published origin, by any process; -1: not published. */
extern int	directory_published_slot(Oid oid);

/* ---- run-time flags of an origin slot: any process writes, atomics ---- */
extern bool directory_is_paused(int slot);
extern void directory_set_paused(int slot, bool paused);

/* Addresses found by the scout for the host list of an origin (libpq's `hostaddr` and matching `host`, `port` lists), "" when none yet. */
typedef struct DirectoryAddresses
{
	uint32		generation;		/* moves when they change; 0 = not looked up yet */
	bool		failed;			/* the last look-up failed: `error` */
	char		hosts[512];
	char		hostaddrs[512];
	char		ports[256];
	char		error[256];
	int			first;			/* the place to begin with, see directory_places_to_try() */
} DirectoryAddresses;

extern void directory_get_addresses(int slot, DirectoryAddresses *out);
/* The same, for who connects: behind the last place that did not answer. Returns how many places there are. */
extern int	directory_places_to_try(int slot, DirectoryAddresses *out);
/* This place does not serve, and libpq does not leave it (one that refuses it does): others begin with the next one of the list. */
extern void directory_avoid_place(int slot, const char *hostaddr, const char *port);
/* The scout, which has seen `d`; false: a newer directory is out, look again. */
extern bool directory_set_addresses(const Directory *d, int slot, const DirectoryAddresses *in);
extern void directory_want_addresses(int slot);	/* a worker: look again soon (connect failed); wakes the scout via the caller */
extern bool directory_addresses_wanted(int slot);	/* the scout: reads and clears */

/* ---- the writer's side (the manager) ---- */
typedef struct DirectoryDraft DirectoryDraft;
extern DirectoryDraft *directory_draft(void);	/* palloc'd in CurrentMemoryContext */
extern void directory_draft_origin(DirectoryDraft *draft, const DirectoryOrigin *origin);
extern void directory_draft_credential(DirectoryDraft *draft, const DirectoryCredential *credential);
extern void directory_draft_role(DirectoryDraft *draft, const DirectoryRole *role);
extern void directory_draft_member(DirectoryDraft *draft, Oid role, Oid group);	/* direct membership */
extern void directory_draft_right(DirectoryDraft *draft, Oid role, Oid origin);	/* USAGE */
extern void directory_draft_hba(DirectoryDraft *draft, const GatewayHbaLine *line);
extern GatewayHbaLine *directory_copy_hba(const GatewayHbaLine *line);	/* all of it, palloc'd in CurrentMemoryContext */
extern void directory_draft_hba_usable(DirectoryDraft *draft, bool usable);
/* The slot of an origin's OID, kept across publications; -1 when hyperpool.max_origins are there. Manager only. */
extern int	directory_slot_of(Oid oid);
/* Publishes if it differs from what is published; true if it did. ERROR with a hint when hyperpool.directory_size is too small (the old stays). */
extern bool directory_publish(DirectoryDraft *draft);
extern void directory_wipe_draft(DirectoryDraft *draft);	/* its secrets: at the end of each round */
/* Waits (in an ordinary backend) until a publication that began after this call is out; false after timeout_ms. */
extern bool directory_wait_published(uint64 asked, int timeout_ms);
extern uint64 directory_ask_publication(void);	/* a ticket for directory_wait_published; the caller wakes the manager */
extern uint64 directory_publication_asked(void);	/* manager: the newest ticket, read before looking at the catalogs */
extern void directory_publication_done(uint64 ticket);
/* Is there a manager that is connected and publishes? Without one nobody need wait. */
extern void directory_set_manager(bool present);
extern bool directory_has_manager(void);
/* A manager could not connect to hyperpool.database: the next one first waits until it is there. */
extern void directory_set_database_missing(bool missing);
extern bool directory_is_database_missing(void);

#endif
