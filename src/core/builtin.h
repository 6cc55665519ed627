/*
 * core/builtin.h - what the answer of a built-in function depends on.              floor 1
 *
 * Answers: may the result of this function of pg_catalog be kept, and until when? Owns the one table of every built-in
 * that is not immutable, each with its reason, PostgreSQL 12 to 18. Pure data: looked up by name, the worst of all functions of the name.
 * Never: knows what a call does to a session (host/analyze_functions.h does).
 */
#ifndef HYPERPOOL_CORE_BUILTIN_H
#define HYPERPOOL_CORE_BUILTIN_H

#include "core/bytes.h"

/* From best to worst. */
typedef enum BuiltinClass
{
	BUILTIN_IMMUTABLE,			/* not in the table: every built-in of that name is immutable (or there is none) */
	BUILTIN_SETTINGS,			/* its arguments and the session's settings, role and database alone: concat, to_char, date_trunc, to_jsonb … */
	BUILTIN_CATALOG,			/* the system catalogs too: pg_get_expr, format_type, has_table_privilege, to_regclass … */
	BUILTIN_TIME,				/* the clock: now, clock_timestamp, age with one argument … */
	BUILTIN_SESSION,			/* this backend, connection or transaction: pg_backend_pid, inet_client_addr, txid_current, current_query … */
	BUILTIN_OTHER,				/* chance, statistics, files, sequences, large objects, the state of the server: random, pg_stat_*, currval … */
	BUILTIN_WRITES				/* may change what other statements read: query_to_xml, ts_stat, pg_import_system_collations, lo_put … */
} BuiltinClass;

extern BuiltinClass builtin_class(Bytes name);
extern const char *builtin_class_name(BuiltinClass c);
/* The whole table, sorted by name: for the test that compares it with pg_proc. False: past the end. */
extern bool builtin_at(size_t i, const char **name, BuiltinClass *c);

#endif
