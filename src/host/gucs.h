/*
 * host/gucs.h - the settings of the server's configuration.                       floor 3
 *
 * Owns the variables, their bounds and units. All hyperpool.* names of postgresql.conf are here; what belongs to one origin
 * is an option of the origin (host/directory). Read-only for everybody else.
 */
#ifndef HYPERPOOL_HOST_GUCS_H
#define HYPERPOOL_HOST_GUCS_H

#include "core/bytes.h"

#define HYPERPOOL_MAX_WORKERS	16

/* need a restart */
extern int	hyperpool_port;				/* 6432 */
extern char *hyperpool_listen_addresses;	/* 'localhost' */
extern char *hyperpool_unix_socket_directories;	/* NULL or unset: the server's */
extern int	hyperpool_workers;			/* 1, 1..16 */
extern char *hyperpool_database;		/* 'postgres': where the extension is created */
extern int	hyperpool_max_clients;		/* 10000 */
extern int	hyperpool_max_links;		/* 1000: rows of the links view, all origins together */
extern int	hyperpool_max_origins;		/* 64 */
extern int	hyperpool_max_pools;		/* 256: (origin, origin user) pairs */
extern int	hyperpool_directory_size;	/* kB, 4 MB: published origins, roles, hba lines */
extern int	hyperpool_cache_size;		/* kB, 128 MB: the result cache; 0 = none */
extern int	hyperpool_facts_size;		/* kB, 16 MB: what is known of the origins' catalogs */
extern int	hyperpool_query_stats;		/* 1000: rows of stat_queries; 0 = none */

/* reload */
extern int	hyperpool_worker_memory;	/* MB, 1024: at the cap stop reading, refuse logins */
extern int	hyperpool_max_prepared_statements;	/* 200: kept on one link */
extern int	hyperpool_max_session_statements;	/* 5000: names one client may hold */
extern int	hyperpool_max_settings;		/* 1000: distinct settings vectors a worker holds */
extern int	hyperpool_max_statement_size;	/* kB, 1 MB: longer Parse texts bind the link */
extern int	hyperpool_share_buffer;		/* kB, 1 MB: parked answer of a client that does not read (shared links) */
extern int	hyperpool_login_backlog;	/* 1000: clients in login at once, per worker */
extern int	hyperpool_login_address_limit;	/* 500: of one address, per worker; 0 = no limit */
extern int	hyperpool_failed_login_delay;	/* ms, 500: the answer to a failed proof is held back; 0 = it is not */
extern int	hyperpool_max_scram_iterations; /* 100000: that an origin may ask for */
extern int	hyperpool_tcp_user_timeout;	/* ms, 0: for clients */
extern int	hyperpool_tcp_keepalives_idle;	/* s, 0: system default; for clients */
extern int	hyperpool_drain_timeout;	/* s, 5: at shutdown, wait for open transactions */
extern int	hyperpool_directory_refresh;	/* s, 60: the manager looks at roles, origins and pg_hba.conf at least this often */
extern bool hyperpool_log_connections;	/* as the server's log_connections unless set */
extern bool hyperpool_log_disconnections;
extern char *hyperpool_test_fault;		/* '' ; superuser, restart: deliberately broken builds for the tests; see docs/settings.md */

extern void gucs_define(void);			/* in _PG_init only */

#endif
