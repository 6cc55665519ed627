/*
 * host/gucs.c - the settings of the server's configuration.
 *
 * One table a type; a row holds name, texts, unit, bounds, default. Owns the variables. Never: acts on a change (who
 * uses a setting reads it when it needs it).
 */
#include "postgres.h"

#include <limits.h>

#include "host/gucs.h"
#include "utils/builtins.h"
#include "utils/guc.h"

int			hyperpool_port = 6432;
char	   *hyperpool_listen_addresses = NULL;
char	   *hyperpool_unix_socket_directories = NULL;
int			hyperpool_workers = 1;
char	   *hyperpool_database = NULL;
int			hyperpool_max_clients = 10000;
int			hyperpool_max_links = 1000;
int			hyperpool_max_origins = 64;
int			hyperpool_max_pools = 256;
int			hyperpool_directory_size = 4096;
int			hyperpool_cache_size = 131072;
int			hyperpool_facts_size = 16384;
int			hyperpool_query_stats = 1000;

int			hyperpool_worker_memory = 1024;
int			hyperpool_max_prepared_statements = 200;
int			hyperpool_max_session_statements = 5000;
int			hyperpool_max_settings = 1000;
int			hyperpool_max_statement_size = 1024;
int			hyperpool_share_buffer = 1024;
int			hyperpool_login_backlog = 1000;
int			hyperpool_login_address_limit = 500;
int			hyperpool_failed_login_delay = 500;
int			hyperpool_max_scram_iterations = 100000;
int			hyperpool_tcp_user_timeout = 0;
int			hyperpool_tcp_keepalives_idle = 0;
int			hyperpool_drain_timeout = 5;
int			hyperpool_directory_refresh = 60;
bool		hyperpool_log_connections = false;
bool		hyperpool_log_disconnections = false;
char	   *hyperpool_test_fault = NULL;

typedef struct IntSetting
{
	const char *name;
	const char *short_text;
	const char *long_text;
	int		   *variable;
	int			boot;
	int			min;
	int			max;
	GucContext	context;
	int			flags;
} IntSetting;

typedef struct StringSetting
{
	const char *name;
	const char *short_text;
	const char *long_text;
	char	  **variable;
	const char *boot;
	int			flags;
	GucStringCheckHook check;
} StringSetting;

typedef struct BoolSetting
{
	const char *name;
	const char *short_text;
	const char *long_text;
	bool	   *variable;
	const char *server_setting; /* where the default comes from */
} BoolSetting;

/* A client_id and the process id a client is told carry the row number in 20 bits. */
#define MAX_CLIENTS_LIMIT	1000000

static const IntSetting int_settings[] = {
	{"hyperpool.port", "TCP port, and number of the Unix socket, on which clients are accepted.",
		NULL,
		&hyperpool_port, 6432, 1, 65535, PGC_POSTMASTER, 0},
	{"hyperpool.workers", "Number of worker processes that carry client traffic.",
		"Each takes one of max_worker_processes; the manager and the scout take two more.",
		&hyperpool_workers, 1, 1, HYPERPOOL_MAX_WORKERS, PGC_POSTMASTER, 0},
	{"hyperpool.max_clients", "Maximum number of clients, all workers together.",
		"The limit on open files of the server's processes must leave room for them.",
		&hyperpool_max_clients, 10000, 1, MAX_CLIENTS_LIMIT, PGC_POSTMASTER, 0},
	{"hyperpool.max_links", "Maximum number of links, all origins and workers together.",
		NULL,
		&hyperpool_max_links, 1000, 1, 100000, PGC_POSTMASTER, 0},
	{"hyperpool.max_origins", "Maximum number of origins.",
		NULL,
		&hyperpool_max_origins, 64, 1, 10000, PGC_POSTMASTER, 0},
	{"hyperpool.max_pools", "Maximum number of pools.",
		"There is one pool for each origin and user at that origin.",
		&hyperpool_max_pools, 256, 1, 10000, PGC_POSTMASTER, 0},
	{"hyperpool.directory_size", "Shared memory for the published origins, credentials, roles and pg_hba.conf lines.",
		NULL,
		&hyperpool_directory_size, 4096, 64, 1024 * 1024, PGC_POSTMASTER, GUC_UNIT_KB},
	{"hyperpool.cache_size", "Shared memory for the result cache.",
		"0 means that nothing is cached.",
		&hyperpool_cache_size, 131072, 0, MAX_KILOBYTES, PGC_POSTMASTER, GUC_UNIT_KB},
	{"hyperpool.facts_size", "Shared memory for what is known of the catalogs of the origins.",
		"An origin whose catalog does not fit is not cached.",
		&hyperpool_facts_size, 16384, 64, 1024 * 1024, PGC_POSTMASTER, GUC_UNIT_KB},
	{"hyperpool.query_stats", "Number of query texts of which hyperpool.stat_queries keeps numbers.",
		"0 turns the view off.",
		&hyperpool_query_stats, 1000, 0, 100000, PGC_POSTMASTER, 0},

	{"hyperpool.worker_memory", "Memory of one worker at which it accepts no more clients.",
		NULL,
		&hyperpool_worker_memory, 1024, 16, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_MB},
	{"hyperpool.max_prepared_statements", "Maximum number of prepared statements kept on one link.",
		"The least recently used one makes room for the next.",
		&hyperpool_max_prepared_statements, 200, 1, 100000, PGC_SIGHUP, 0},
	{"hyperpool.max_session_statements", "Maximum number of prepared statements one client may name.",
		NULL,
		&hyperpool_max_session_statements, 5000, 1, 1000000, PGC_SIGHUP, 0},
	{"hyperpool.max_settings", "Maximum number of distinct combinations of session settings a worker holds.",
		NULL,
		&hyperpool_max_settings, 1000, 1, 1000000, PGC_SIGHUP, 0},
	{"hyperpool.max_statement_size", "Longest text of a prepared statement that is remembered.",
		"A longer one keeps its link for its client alone.",
		&hyperpool_max_statement_size, 1024, 1, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_KB},
	{"hyperpool.share_buffer", "Largest part of an answer that is parked for a client that does not read, on a shared link.",
		"Beyond it those who stand behind that client are asked elsewhere.",
		&hyperpool_share_buffer, 1024, 16, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_KB},
	{"hyperpool.login_backlog", "Maximum number of clients of one worker that are logging in at once.",
		NULL,
		&hyperpool_login_backlog, 1000, 1, MAX_CLIENTS_LIMIT, PGC_SIGHUP, 0},
	{"hyperpool.login_address_limit", "Maximum number of clients of one address that are logging in to one worker at once.",
		"An IPv6 address counts by its first 64 bits. 0 means no limit.",
		&hyperpool_login_address_limit, 500, 0, MAX_CLIENTS_LIMIT, PGC_SIGHUP, 0},
	{"hyperpool.failed_login_delay", "Time for which the answer to a failed login is held back.",
		"Twice as long with each further failure of the same address, up to 16 times. 0 means not at all.",
		&hyperpool_failed_login_delay, 500, 0, 60000, PGC_SIGHUP, GUC_UNIT_MS},
	{"hyperpool.max_scram_iterations", "Maximum number of SCRAM iterations an origin may ask for.",
		"They are computed by the process that connects, which does nothing else meanwhile.",
		&hyperpool_max_scram_iterations, 100000, 1, 100000000, PGC_SIGHUP, 0},
	{"hyperpool.tcp_user_timeout", "TCP user timeout of client connections.",
		"0 leaves it to the system.",
		&hyperpool_tcp_user_timeout, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
	{"hyperpool.tcp_keepalives_idle", "Time between TCP keepalives of client connections.",
		"0 leaves it to the system.",
		&hyperpool_tcp_keepalives_idle, 0, 0, 32767, PGC_SIGHUP, GUC_UNIT_S},
	{"hyperpool.drain_timeout", "Time that open transactions get to end when a worker shuts down.",
		NULL,
		&hyperpool_drain_timeout, 5, 0, 3600, PGC_SIGHUP, GUC_UNIT_S},
	{"hyperpool.directory_refresh", "Longest time between two looks of the manager at origins, roles and pg_hba.conf.",
		NULL,
		&hyperpool_directory_refresh, 60, 1, 86400, PGC_SIGHUP, GUC_UNIT_S},
};

static const char *const test_faults[] = {"", "swap_answers", "lose_ready", "versions_at_complete", "versions_after_send", "raise_error", "raise_fatal"};

static bool
check_test_fault(char **newval, void **extra, GucSource source)
{
	for (size_t i = 0; i < lengthof(test_faults); i++)
	{
		if (strcmp(*newval, test_faults[i]) == 0)
			return true;
	}
	GUC_check_errhint("Available values: swap_answers, lose_ready, versions_at_complete, versions_after_send, raise_error, raise_fatal, or the empty string.");
	return false;
}

static const StringSetting string_settings[] = {
	{"hyperpool.listen_addresses", "Host names or IP addresses on which clients are accepted.",
		"\"*\" stands for all addresses; empty for none, that is the Unix socket alone.",
		&hyperpool_listen_addresses, "localhost", GUC_LIST_INPUT, NULL},
	{"hyperpool.unix_socket_directories", "Directories in which the Unix socket for clients is made.",
		"Unless set, the directories of unix_socket_directories; empty for none.",
		&hyperpool_unix_socket_directories, NULL, GUC_LIST_INPUT | GUC_SUPERUSER_ONLY, NULL},
	{"hyperpool.database", "Database in which the extension is created.",
		"The manager connects to it.",
		&hyperpool_database, "postgres", 0, NULL},
	{"hyperpool.test_fault", "Does one thing wrong on purpose, to show that the tests notice.",
		"Never set it on a server in use.",
		&hyperpool_test_fault, "", GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL | GUC_SUPERUSER_ONLY | GUC_DISALLOW_IN_AUTO_FILE,
		check_test_fault},
};

static const BoolSetting bool_settings[] = {
	{"hyperpool.log_connections", "Logs each login of a client.",
		"Unless set, as log_connections was when the server started.",
		&hyperpool_log_connections, "log_connections"},
	{"hyperpool.log_disconnections", "Logs the end of each client's session, with its duration.",
		"Unless set, as log_disconnections was when the server started.",
		&hyperpool_log_disconnections, "log_disconnections"},
};

/* Is the server's own setting on? From 18 on log_connections is a list, where empty means off. */
static bool
server_setting_is_on(const char *name)
{
	const char *value = GetConfigOption(name, true, false);
	bool		on;

	if (value == NULL || value[0] == '\0')
		return false;
	return !parse_bool(value, &on) || on;
}

void
gucs_define(void)
{
	for (size_t i = 0; i < lengthof(int_settings); i++)
	{
		const IntSetting *s = &int_settings[i];

		DefineCustomIntVariable(s->name, s->short_text, s->long_text, s->variable, s->boot, s->min, s->max,
								s->context, s->flags, NULL, NULL, NULL);
	}
	for (size_t i = 0; i < lengthof(string_settings); i++)
	{
		const StringSetting *s = &string_settings[i];

		DefineCustomStringVariable(s->name, s->short_text, s->long_text, s->variable, s->boot,
								   PGC_POSTMASTER, s->flags, s->check, NULL, NULL);
	}
	for (size_t i = 0; i < lengthof(bool_settings); i++)
	{
		const BoolSetting *s = &bool_settings[i];

		DefineCustomBoolVariable(s->name, s->short_text, s->long_text, s->variable,
								 server_setting_is_on(s->server_setting), PGC_SIGHUP, 0, NULL, NULL, NULL);
	}
}
