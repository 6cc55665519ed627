/*
 * functions/origins_internal.h - what the files of the origins' functions share.  floor 8
 *
 *	origins.c			the SQL functions, really connecting, telling the manager
 *	origins_options.c	the validator, connection strings, the options a call changes
 *	origins_catalog.c	names, rights, servers and mappings
 *	origins_rules.c		set_rule() and the view of the rules
 *
 * Lists of options are Lists of DefElem. What is returned is palloc'd in CurrentMemoryContext.
 * Owns nothing. Never: included outside these four files.
 */
#ifndef HYPERPOOL_FUNCTIONS_ORIGINS_INTERNAL_H
#define HYPERPOOL_FUNCTIONS_ORIGINS_INTERNAL_H

#include "postgres.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "nodes/parsenodes.h"

#define FIRST_OPTION_ARG	3	/* of create_origin and alter_origin: where the options begin */

typedef struct ConnectionString
{
	List	   *options;		/* DefElems for the server; connect_timeout as a time of ours */
	char	   *user;			/* or NULL: not said */
	char	   *password;
	char	   *sslpassword;
} ConnectionString;

typedef struct Secrets			/* NULL user or passwords: as before, unless `whole` */
{
	const char *user;
	const char *password;
	const char *sslpassword;
	bool		whole;			/* what is NULL is taken away */
} Secrets;

/* ---- origins.c: from one to the other every error hides the statement it happened in ---- */

extern void origins_begin_hiding(ErrorContextCallback *callback);
extern void origins_end_hiding(ErrorContextCallback *callback);
extern void origins_require_writable(void);
extern void origins_note_change(void);	/* the manager is told when this transaction commits */

/* ---- origins_options.c ---- */

extern const char *origins_option_value(List *options, const char *name);	/* or NULL */
/* One more change of what stands in `before` (NIL for something new); value NULL takes the option away. */
extern List *origins_change_option(List *changes, List *before, const char *name, const char *value);
/* ERROR without the text, which may hold a password. */
extern void origins_parse_connection(const char *origin, const char *text, ConnectionString *string);
extern List *origins_connection_changes(const ConnectionString *string, List *before);
extern int64 origins_interval_arg(FunctionCallInfo fcinfo, int n);	/* microseconds; out of any bounds if there are too many */
/* `changes` and those the arguments ask for; what the connection string has said already is not said twice. */
extern List *origins_option_changes(FunctionCallInfo fcinfo, List *changes, List *before);

/* ---- origins_catalog.c ---- */

extern ForeignServer *origins_find(const char *name);	/* ERROR when there is none, or it is not of hyperpool */
extern bool origins_is_owner(const ForeignServer *server);
extern void origins_require_owner(const ForeignServer *server);
extern void origins_require_usage(const ForeignServer *server);
/* "public" is everybody; any other name is a role. */
extern RoleSpec *origins_role_spec(const char *name);
extern Oid	origins_role_oid(const char *name);
extern void origins_require_room(void);	/* ERROR when hyperpool.max_origins are there */
extern void origins_create_server(const char *name, List *options);
extern void origins_alter_server(const char *name, List *changes);
/* The options of the mapping of exactly this role; *there false: it has none. */
extern List *origins_mapping_options(Oid role, Oid server, bool *there);
/* The credential to try an origin with: the role's, else everybody's, else the first there is. */
extern List *origins_any_mapping(Oid role, Oid server);
extern void origins_write_mapping(const ForeignServer *server, const char *role, const Secrets *secrets);	/* creates or alters */
extern void origins_drop_mappings(Oid server);	/* all of a server */

#endif
