#!/bin/sh
# Writes src/host/analyze_functions.h: which built-in functions do what to a
# session. Run it against a PostgreSQL of the newest grammar known here, e.g.
#   PGPORT=5432 test/tools/make_analyze_functions.sh > src/host/analyze_functions.h
#
# A name is harmless when every callable function of that name in pg_catalog
# is immutable or stable (side effects excepted below), or was reviewed and is
# in `quiet`. Names in `special` have the effects given there. Any other name
# counts as a function that may do anything.
set -e
cat <<'HEAD'
/*
 * host/analyze_functions.h - built-in function names and what they do.          floor 4
 *
 * Made by test/tools/make_analyze_functions.sh from pg_proc; do not edit. Sorted by
 * strcmp. Private to host/analyze.c. A name that is absent may do anything.
 */
#ifndef HYPERPOOL_HOST_ANALYZE_FUNCTIONS_H
#define HYPERPOOL_HOST_ANALYZE_FUNCTIONS_H

#include "core/statement.h"

typedef struct FunctionEffect
{
	const char *name;
	uint16_t	effects;
} FunctionEffect;

static const FunctionEffect function_effects[] = {
HEAD
psql -X -A -t -v ON_ERROR_STOP=1 "$@" <<'SQL'
WITH special(name, effects) AS (VALUES
	('set_config', 'EFFECT_SETTINGS'),
	('setseed', 'EFFECT_RETIRE'),
	('pg_advisory_lock', 'EFFECT_BIND | EFFECT_LOCKS'),
	('pg_advisory_lock_shared', 'EFFECT_BIND | EFFECT_LOCKS'),
	('pg_try_advisory_lock', 'EFFECT_BIND | EFFECT_LOCKS'),
	('pg_try_advisory_lock_shared', 'EFFECT_BIND | EFFECT_LOCKS'),
	('pg_advisory_xact_lock', 'EFFECT_LOCKS'),
	('pg_advisory_xact_lock_shared', 'EFFECT_LOCKS'),
	('pg_try_advisory_xact_lock', 'EFFECT_LOCKS'),
	('pg_try_advisory_xact_lock_shared', 'EFFECT_LOCKS'),
	('pg_advisory_unlock', 'EFFECT_NONE'),
	('pg_advisory_unlock_shared', 'EFFECT_NONE'),
	('pg_advisory_unlock_all', 'EFFECT_NONE'),
	('nextval', 'EFFECT_WRITES | EFFECT_DIRTY'),
	('setval', 'EFFECT_WRITES | EFFECT_DIRTY'),
	('currval', 'EFFECT_DIRTY'),
	('lastval', 'EFFECT_DIRTY'),
	('pg_sleep', 'EFFECT_LOCKS'),
	('pg_sleep_for', 'EFFECT_LOCKS'),
	('pg_sleep_until', 'EFFECT_LOCKS'),
	('pg_notify', 'EFFECT_WRITES'),
	('pg_cancel_backend', 'EFFECT_WRITES'),
	('pg_terminate_backend', 'EFFECT_WRITES | EFFECT_LOCKS'),
	('pg_reload_conf', 'EFFECT_WRITES'),
	('pg_rotate_logfile', 'EFFECT_WRITES'),
	('pg_logical_emit_message', 'EFFECT_WRITES'),
	('pg_create_restore_point', 'EFFECT_WRITES'),
	('pg_switch_wal', 'EFFECT_WRITES'),
	('pg_export_snapshot', 'EFFECT_WRITES'),
	('pg_log_backend_memory_contexts', 'EFFECT_WRITES'),
	('pg_backup_start', 'EFFECT_BIND | EFFECT_WRITES | EFFECT_LOCKS'),
	('pg_backup_stop', 'EFFECT_WRITES | EFFECT_DIRTY | EFFECT_LOCKS'),
	('pg_replication_origin_session_setup', 'EFFECT_BIND | EFFECT_WRITES'),
	('pg_replication_origin_session_reset', 'EFFECT_WRITES | EFFECT_DIRTY'),
	('loread', 'EFFECT_WRITES'), ('lowrite', 'EFFECT_WRITES')),
-- may run SQL given as text or named by it
runs_sql AS (SELECT DISTINCT proname::text AS name, 'EFFECT_WRITES | EFFECT_DIRTY' AS effects FROM pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace
	AND (proname ~ '^(query|cursor|table|schema|database)_to_xml' OR proname IN ('ts_stat', 'ts_rewrite'))),
large_objects AS (SELECT DISTINCT proname::text AS name, 'EFFECT_WRITES' AS effects FROM pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^lo_'),
-- volatile because their answers change, not because they change anything
quiet(name) AS (SELECT unnest(regexp_split_to_array('random gen_random_uuid clock_timestamp timeofday current_query
	pg_blocking_pids pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked
	pg_collation_actual_version pg_database_collation_actual_version
	pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
	pg_current_logfile pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
	pg_database_size pg_indexes_size pg_relation_size pg_table_size pg_tablespace_size pg_total_relation_size
	pg_get_backend_memory_contexts pg_get_multixact_members pg_get_shmem_allocations
	pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_hba_file_rules pg_ident_file_mappings
	pg_is_in_recovery pg_is_wal_replay_paused pg_jit_available pg_last_committed_xact
	pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status
	pg_ls_archive_statusdir pg_ls_dir pg_ls_logdir pg_ls_logicalmapdir pg_ls_logicalsnapdir
	pg_ls_replslotdir pg_ls_tmpdir pg_ls_waldir pg_notification_queue_usage
	pg_partition_ancestors pg_partition_tree pg_prepared_xact
	pg_read_binary_file pg_read_file pg_replication_origin_progress pg_sequence_last_value
	pg_show_all_file_settings pg_show_replication_origin_status pg_stat_clear_snapshot pg_stat_file
	pg_stat_get_recovery_prefetch pg_stat_have_stats
	pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
	pg_stat_get_xact_function_self_time pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans
	pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated
	pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated
	pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status txid_status',
	'\s+'))),

-- of later grammars, all immutable, stable or as quiet as random()
later(name) AS (SELECT unnest(regexp_split_to_array('any_value array_reverse array_sample array_shuffle array_sort
	casefold crc32 crc32c date_add date_subtract erf erfc gamma lgamma has_largeobject_privilege
	pg_basetype pg_get_acl pg_input_error_info pg_input_is_valid random_normal
	system_user to_bin to_oct to_regtypemod unicode_assigned unicode_version icu_unicode_version
	uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7 xmltext
	json_agg_strict jsonb_agg_strict json_object_agg_strict json_object_agg_unique
	json_object_agg_unique_strict jsonb_object_agg_strict jsonb_object_agg_unique
	jsonb_object_agg_unique_strict', '\s+'))),
callable AS (SELECT proname::text AS name, provolatile FROM pg_proc
	WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a', 'w')
	AND NOT EXISTS (SELECT FROM pg_depend d
		WHERE d.classid = 'pg_proc'::regclass AND d.objid = pg_proc.oid AND d.deptype = 'e')
	AND prorettype NOT IN ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype, 'index_am_handler'::regtype,
		'table_am_handler'::regtype, 'tsm_handler'::regtype, 'fdw_handler'::regtype, 'language_handler'::regtype)
	AND NOT 'internal'::regtype = ANY (proargtypes)),
calm AS (SELECT name FROM callable GROUP BY name HAVING bool_and(provolatile IN ('i', 's'))),
given AS (SELECT * FROM special UNION SELECT * FROM runs_sql UNION SELECT * FROM large_objects),
answer AS (
	SELECT name, effects FROM given
	UNION
	SELECT name, 'EFFECT_NONE' FROM (SELECT name FROM calm UNION SELECT name FROM quiet UNION SELECT name FROM later) harmless
	WHERE name <> '' AND name NOT IN (SELECT name FROM given))
SELECT format(E'\t{"%s", %s},', name, effects) FROM answer ORDER BY name COLLATE "C";
SQL
cat <<'TAIL'
};

#define FUNCTION_EFFECTS_COUNT	(sizeof(function_effects) / sizeof(function_effects[0]))

#endif
TAIL
