/* sql/hyperpool--1.0.sql */

\echo Use "CREATE EXTENSION hyperpool" to load this file. \quit

-- made here, not by the control file: a schema of that name that somebody has made before is an error
CREATE SCHEMA hyperpool;
COMMENT ON SCHEMA hyperpool IS 'hyperpool: origins, what acts on them, and what happens on them';

-- ---- origins are foreign servers of this wrapper, credentials their user mappings ----

CREATE FUNCTION hyperpool.validator(text[], oid)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_validator'
LANGUAGE C STRICT;
COMMENT ON FUNCTION hyperpool.validator(text[], oid) IS 'checks the options of origins and credentials';

CREATE FOREIGN DATA WRAPPER hyperpool NO HANDLER VALIDATOR hyperpool.validator;
COMMENT ON FOREIGN DATA WRAPPER hyperpool IS 'its servers are the origins of hyperpool, their user mappings the credentials';

CREATE FUNCTION hyperpool.create_origin(
    name text,
    connection_string text,
    for_role text DEFAULT 'public',
    pool_size integer DEFAULT 20,
    min_pool_size integer DEFAULT 0,
    pool_mode text DEFAULT 'transaction',
    queue_timeout interval DEFAULT '15s',
    idle_timeout interval DEFAULT '10min',
    max_lifetime interval DEFAULT '1h',
    query_timeout interval DEFAULT '0',
    idle_transaction_timeout interval DEFAULT '0',
    connect_timeout interval DEFAULT '15s',
    cache boolean DEFAULT true,
    max_age interval DEFAULT '60s',
    stale_while_revalidate interval DEFAULT '15s',
    stale_if_error interval DEFAULT '0',
    max_result_size bigint DEFAULT 52428800,
    allow_trust boolean DEFAULT false,
    share boolean DEFAULT true,
    share_depth integer DEFAULT 1024)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_create_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.create_origin(text, text, text, integer, integer, text, interval, interval, interval, interval, interval, interval, boolean, interval, interval, interval, bigint, boolean, boolean, integer)
IS 'connects, runs a test query, and makes an origin with a credential for one role or everybody';

CREATE FUNCTION hyperpool.alter_origin(
    name text,
    connection_string text DEFAULT NULL,
    for_role text DEFAULT 'public',
    pool_size integer DEFAULT NULL,
    min_pool_size integer DEFAULT NULL,
    pool_mode text DEFAULT NULL,
    queue_timeout interval DEFAULT NULL,
    idle_timeout interval DEFAULT NULL,
    max_lifetime interval DEFAULT NULL,
    query_timeout interval DEFAULT NULL,
    idle_transaction_timeout interval DEFAULT NULL,
    connect_timeout interval DEFAULT NULL,
    cache boolean DEFAULT NULL,
    max_age interval DEFAULT NULL,
    stale_while_revalidate interval DEFAULT NULL,
    stale_if_error interval DEFAULT NULL,
    max_result_size bigint DEFAULT NULL,
    allow_trust boolean DEFAULT NULL,
    share boolean DEFAULT NULL,
    share_depth integer DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_alter_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.alter_origin(text, text, text, integer, integer, text, interval, interval, interval, interval, interval, interval, boolean, interval, interval, interval, bigint, boolean, boolean, integer)
IS 'changes what is not null; the connection string adds to or replaces single options, and is tried first';

CREATE FUNCTION hyperpool.drop_origin(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_drop_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.drop_origin(text) IS 'drops an origin and its credentials';

CREATE FUNCTION hyperpool.set_credential(origin text, role text, "user" text, password text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_set_credential'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.set_credential(text, text, text, text)
IS 'makes or replaces the credential by which a local role (or public) uses an origin, and tries it';

CREATE FUNCTION hyperpool.drop_credential(origin text, role text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_drop_credential'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.drop_credential(text, text) IS 'drops the credential of a role (or public)';

CREATE FUNCTION hyperpool.check_origin(name text, OUT step text, OUT milliseconds double precision, OUT ok boolean, OUT message text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_check_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.check_origin(text) IS 'connects, and tells how long each step took and which one failed';

CREATE FUNCTION hyperpool.pause_origin(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_pause_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.pause_origin(text) IS 'lets no new exchange begin; clients wait';

CREATE FUNCTION hyperpool.resume_origin(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_resume_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.resume_origin(text) IS 'ends a pause';

CREATE FUNCTION hyperpool.restart_origin(name text)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_restart_origin'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.restart_origin(text) IS 'closes each link as soon as it is free; new ones are opened when needed';

CREATE FUNCTION hyperpool.is_paused(origin oid)
RETURNS boolean
AS 'MODULE_PATHNAME', 'hyperpool_is_paused'
LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION hyperpool.is_paused(oid) IS 'column paused of the view hyperpool.origins';

CREATE VIEW hyperpool.origins AS
SELECT s.srvname AS name,
    pg_catalog.pg_get_userbyid(s.srvowner) AS owner,
    o.given ->> 'host' AS host,
    o.given ->> 'hostaddr' AS hostaddr,
    COALESCE(o.given ->> 'port', '5432') AS port,
    o.given ->> 'dbname' AS dbname,
    COALESCE(o.given ->> 'sslmode', 'prefer') AS sslmode,
    COALESCE((o.given ->> 'pool_size')::integer, 20) AS pool_size,
    COALESCE((o.given ->> 'min_pool_size')::integer, 0) AS min_pool_size,
    COALESCE(o.given ->> 'pool_mode', 'transaction') AS pool_mode,
    COALESCE((o.given ->> 'queue_timeout')::interval, '15s') AS queue_timeout,
    COALESCE((o.given ->> 'idle_timeout')::interval, '10min') AS idle_timeout,
    COALESCE((o.given ->> 'max_lifetime')::interval, '1h') AS max_lifetime,
    COALESCE((o.given ->> 'query_timeout')::interval, '0') AS query_timeout,
    COALESCE((o.given ->> 'idle_transaction_timeout')::interval, '0') AS idle_transaction_timeout,
    COALESCE((o.given ->> 'connect_timeout')::interval, '15s') AS connect_timeout,
    COALESCE((o.given ->> 'cache')::boolean, true) AS cache,
    COALESCE((o.given ->> 'max_age')::interval, '60s') AS max_age,
    COALESCE((o.given ->> 'stale_while_revalidate')::interval, '15s') AS stale_while_revalidate,
    COALESCE((o.given ->> 'stale_if_error')::interval, '0') AS stale_if_error,
    COALESCE((o.given ->> 'max_result_size')::bigint, 52428800) AS max_result_size,
    COALESCE((o.given ->> 'allow_trust')::boolean, false) AS allow_trust,
    COALESCE((o.given ->> 'share')::boolean, true) AS share,
    COALESCE((o.given ->> 'share_depth')::integer, 1024) AS share_depth,
    COALESCE((o.given ->> 'pooled')::boolean, false) AS pooled,
    COALESCE((o.given ->> 'gateway')::boolean, false) AS gateway,
    hyperpool.is_paused(s.oid) AS paused
FROM pg_catalog.pg_foreign_server s
    JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
    CROSS JOIN LATERAL (
        SELECT COALESCE(pg_catalog.jsonb_object_agg(g.option_name, g.option_value), '{}') AS given
        FROM pg_catalog.pg_options_to_table(s.srvoptions) g) o
WHERE w.fdwname = 'hyperpool';
COMMENT ON VIEW hyperpool.origins IS 'origins with their options, no secrets';

REVOKE ALL ON FUNCTION
    hyperpool.validator(text[], oid),
    hyperpool.create_origin(text, text, text, integer, integer, text, interval, interval, interval, interval, interval, interval, boolean, interval, interval, interval, bigint, boolean, boolean, integer),
    hyperpool.alter_origin(text, text, text, integer, integer, text, interval, interval, interval, interval, interval, interval, boolean, interval, interval, interval, bigint, boolean, boolean, integer),
    hyperpool.drop_origin(text), hyperpool.set_credential(text, text, text, text), hyperpool.drop_credential(text, text),
    hyperpool.check_origin(text), hyperpool.pause_origin(text), hyperpool.resume_origin(text), hyperpool.restart_origin(text),
    hyperpool.is_paused(oid)
FROM PUBLIC;
REVOKE ALL ON hyperpool.origins FROM PUBLIC;
GRANT EXECUTE ON FUNCTION hyperpool.is_paused(oid) TO pg_monitor;
GRANT SELECT ON hyperpool.origins TO pg_monitor;

-- ---- statistics (the text of sql/statistics.part.sql) ----

-- The statistics views, the functions behind them, and the few that act on what they show.
-- Nothing is granted to PUBLIC; pg_monitor may look, only the owner may act until it grants that on.

CREATE FUNCTION hyperpool.get_clients(
    OUT client_id bigint,
    OUT role_oid oid,
    OUT origin_oid oid,
    OUT state text,
    OUT bound boolean,
    OUT application_name text,
    OUT client_addr text,
    OUT client_port integer,
    OUT tls boolean,
    OUT connect_time timestamptz,
    OUT state_since timestamptz,
    OUT exchanges bigint,
    OUT link_id bigint,
    OUT worker integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_clients'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_clients() IS 'rows of the view hyperpool.clients';

CREATE FUNCTION hyperpool.get_links(
    OUT link_id bigint,
    OUT origin_oid oid,
    OUT origin_user text,
    OUT state text,
    OUT origin_pid integer,
    OUT address text,
    OUT tls boolean,
    OUT connect_time timestamptz,
    OUT state_since timestamptz,
    OUT exchanges bigint,
    OUT statements integer,
    OUT settings_id bigint,
    OUT client_id bigint,
    OUT worker integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_links'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_links() IS 'rows of the view hyperpool.links';

CREATE FUNCTION hyperpool.get_pools(
    OUT origin_oid oid,
    OUT origin_user text,
    OUT pool_mode text,
    OUT cl_active integer,
    OUT cl_waiting integer,
    OUT sv_active integer,
    OUT sv_idle integer,
    OUT sv_login integer,
    OUT sv_bound integer,
    OUT maxwait interval,
    OUT pool_size integer,
    OUT paused boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_pools'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_pools() IS 'rows of the view hyperpool.pools';

CREATE FUNCTION hyperpool.get_stat_origins(
    OUT origin_oid oid,
    OUT logins bigint,
    OUT logins_failed bigint,
    OUT exchanges bigint,
    OUT transactions bigint,
    OUT errors bigint,
    OUT bytes_from_clients bigint,
    OUT bytes_to_clients bigint,
    OUT bytes_to_origin bigint,
    OUT bytes_from_origin bigint,
    OUT checkouts bigint,
    OUT waits bigint,
    OUT queue_timeouts bigint,
    OUT wait_us bigint,
    OUT query_us bigint,
    OUT transaction_us bigint,
    OUT links_opened bigint,
    OUT links_failed bigint,
    OUT links_lost bigint,
    OUT links_retired bigint,
    OUT resets bigint,
    OUT bound bigint,
    OUT client_parses bigint,
    OUT link_parses bigint,
    OUT binds bigint,
    OUT settings_applied bigint,
    OUT cancels bigint,
    OUT query_timeouts bigint,
    OUT idle_transaction_timeouts bigint,
    OUT repeated bigint,
    OUT shared bigint,
    OUT moved bigint,
    OUT unknown_outcomes bigint,
    OUT refused bigint,
    OUT notices_dropped bigint,
    OUT cache_disabled bigint,
    OUT cache_hit bigint,
    OUT cache_miss bigint,
    OUT cache_uncacheable bigint,
    OUT cache_multiplestatements bigint,
    OUT cache_notaquery bigint,
    OUT cache_oversizedquery bigint,
    OUT cache_oversizedresult bigint,
    OUT cache_parseerror bigint,
    OUT cache_transaction bigint,
    OUT cache_volatile bigint,
    OUT cache_joined bigint,
    OUT cache_refreshed bigint,
    OUT cache_described bigint,
    OUT cache_saved_us bigint,
    OUT cache_flushes bigint,
    OUT wait_p50_ms double precision,
    OUT wait_p90_ms double precision,
    OUT wait_p99_ms double precision,
    OUT query_p50_ms double precision,
    OUT query_p90_ms double precision,
    OUT query_p99_ms double precision,
    OUT login_p50_ms double precision,
    OUT login_p90_ms double precision,
    OUT login_p99_ms double precision,
    OUT facts text,
    OUT facts_failure text,
    OUT reset_time timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_stat_origins'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_stat_origins() IS 'rows of the view hyperpool.stat_origins';

CREATE FUNCTION hyperpool.get_stat_logins(
    OUT worker integer,
    OUT logging_in integer,
    OUT addresses integer,
    OUT refused_backlog bigint,
    OUT refused_address bigint,
    OUT held_back bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_stat_logins'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_stat_logins() IS 'rows of the view hyperpool.stat_logins';

CREATE FUNCTION hyperpool.status(
    OUT workers integer,
    OUT clients integer,
    OUT links integer,
    OUT origins integer,
    OUT max_clients integer,
    OUT started_at timestamptz,
    OUT healthy boolean,
    OUT directory_generation bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_status'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION hyperpool.status() IS 'one row: is hyperpool serving, and how many are there';

CREATE FUNCTION hyperpool.reset_stats(origin text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_reset_stats'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.reset_stats(text) IS 'sets the counters of an origin, or of all, to zero';

CREATE FUNCTION hyperpool.disconnect(client_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME', 'hyperpool_disconnect'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.disconnect(bigint) IS 'ends the connection of a client; false if there is no such client';

CREATE VIEW hyperpool.clients AS
SELECT
    c.client_id,
    r.rolname AS role,
    s.srvname AS origin,
    c.state,
    c.bound,
    c.application_name,
    c.client_addr::inet AS client_addr,
    c.client_port,
    c.tls,
    c.connect_time,
    c.state_since,
    c.exchanges,
    c.link_id,
    c.worker
FROM hyperpool.get_clients() c
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = c.role_oid
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = c.origin_oid;
COMMENT ON VIEW hyperpool.clients IS 'one row for each client';

CREATE VIEW hyperpool.links AS
SELECT
    l.link_id,
    s.srvname AS origin,
    l.origin_user,
    l.state,
    l.origin_pid,
    l.address,
    l.tls,
    l.connect_time,
    l.state_since,
    l.exchanges,
    l.statements,
    l.settings_id,
    l.client_id,
    l.worker
FROM hyperpool.get_links() l
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = l.origin_oid;
COMMENT ON VIEW hyperpool.links IS 'one row for each link to an origin';

CREATE VIEW hyperpool.pools AS
SELECT
    s.srvname AS origin,
    p.origin_user,
    p.pool_mode,
    p.cl_active,
    p.cl_waiting,
    p.sv_active,
    p.sv_idle,
    p.sv_login,
    p.sv_bound,
    p.maxwait,
    p.pool_size,
    p.paused
FROM hyperpool.get_pools() p
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = p.origin_oid;
COMMENT ON VIEW hyperpool.pools IS 'one row for each origin and user at that origin, all workers together';

CREATE VIEW hyperpool.stat_origins AS
SELECT
    s.srvname AS origin,
    o.logins,
    o.logins_failed,
    o.exchanges,
    o.transactions,
    o.errors,
    o.bytes_from_clients,
    o.bytes_to_clients,
    o.bytes_to_origin,
    o.bytes_from_origin,
    o.checkouts,
    o.waits,
    o.queue_timeouts,
    o.wait_us,
    o.query_us,
    o.transaction_us,
    o.links_opened,
    o.links_failed,
    o.links_lost,
    o.links_retired,
    o.resets,
    o.bound,
    o.client_parses,
    o.link_parses,
    o.binds,
    o.settings_applied,
    o.cancels,
    o.query_timeouts,
    o.idle_transaction_timeouts,
    o.repeated,
    o.shared,
    o.moved,
    o.unknown_outcomes,
    o.refused,
    o.notices_dropped,
    o.cache_disabled,
    o.cache_hit,
    o.cache_miss,
    o.cache_uncacheable,
    o.cache_multiplestatements,
    o.cache_notaquery,
    o.cache_oversizedquery,
    o.cache_oversizedresult,
    o.cache_parseerror,
    o.cache_transaction,
    o.cache_volatile,
    o.cache_joined,
    o.cache_refreshed,
    o.cache_described,
    o.cache_saved_us::double precision / 1000 AS cache_saved_ms,
    o.cache_flushes,
    o.cache_hit::double precision / NULLIF(o.cache_hit + o.cache_miss, 0) AS cache_hit_ratio,
    o.wait_p50_ms,
    o.wait_p90_ms,
    o.wait_p99_ms,
    o.query_p50_ms,
    o.query_p90_ms,
    o.query_p99_ms,
    o.login_p50_ms,
    o.login_p90_ms,
    o.login_p99_ms,
    o.facts,
    o.facts_failure,
    o.reset_time
FROM hyperpool.get_stat_origins() o
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = o.origin_oid;
COMMENT ON VIEW hyperpool.stat_origins IS 'counters of each origin since its reset_time, and percentiles in milliseconds';

CREATE VIEW hyperpool.stat_logins AS
SELECT
    l.worker,
    l.logging_in,
    l.addresses,
    l.refused_backlog,
    l.refused_address,
    l.held_back
FROM hyperpool.get_stat_logins() l;
COMMENT ON VIEW hyperpool.stat_logins IS 'one row for each worker: who is logging in to it, and who was turned away or kept waiting';

REVOKE ALL ON FUNCTION
    hyperpool.get_clients(), hyperpool.get_links(), hyperpool.get_pools(), hyperpool.get_stat_origins(), hyperpool.get_stat_logins(),
    hyperpool.status(), hyperpool.reset_stats(text), hyperpool.disconnect(bigint)
FROM PUBLIC;
REVOKE ALL ON hyperpool.clients, hyperpool.links, hyperpool.pools, hyperpool.stat_origins, hyperpool.stat_logins FROM PUBLIC;

-- a view calls its functions as whoever reads it
GRANT USAGE ON SCHEMA hyperpool TO pg_monitor;
GRANT EXECUTE ON FUNCTION
    hyperpool.get_clients(), hyperpool.get_links(), hyperpool.get_pools(), hyperpool.get_stat_origins(), hyperpool.get_stat_logins(),
    hyperpool.status()
TO pg_monitor;
GRANT SELECT ON hyperpool.clients, hyperpool.links, hyperpool.pools, hyperpool.stat_origins, hyperpool.stat_logins TO pg_monitor;

-- ---- the cache ----

-- Rules are an option of the server; a name as SQL writes it, folded unless quoted.
CREATE FUNCTION hyperpool.set_rule(
    origin text,
    relation text DEFAULT NULL,
    function text DEFAULT NULL,
    cache boolean DEFAULT NULL,
    max_age interval DEFAULT NULL,
    writes boolean DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_set_rule'
LANGUAGE C VOLATILE;
COMMENT ON FUNCTION hyperpool.set_rule(text, text, text, boolean, interval, boolean)
IS 'says how one relation of an origin is cached, or that one function writes nothing; takes the rule away if nothing is said';

CREATE FUNCTION hyperpool.get_rules(
    rules text,
    OUT kind text,
    OUT schema text,
    OUT name text,
    OUT cache boolean,
    OUT max_age interval,
    OUT writes boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_rules'
LANGUAGE C STRICT IMMUTABLE;
COMMENT ON FUNCTION hyperpool.get_rules(text) IS 'rows of the view hyperpool.rules';

CREATE FUNCTION hyperpool.invalidate(origin text DEFAULT NULL, relation text DEFAULT NULL, query text DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME', 'hyperpool_invalidate'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.invalidate(text, text, text)
IS 'removes what the cache holds of all origins, of one, of one relation or of one query; how many entries';

CREATE FUNCTION hyperpool.refresh_catalog(origin text, timeout interval DEFAULT '10s')
RETURNS void
AS 'MODULE_PATHNAME', 'hyperpool_refresh_catalog'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.refresh_catalog(text, interval) IS 'has the catalog of an origin looked at now, and waits until that is done';

CREATE FUNCTION hyperpool.explain_query(
    origin text,
    query text,
    OUT cacheable boolean,
    OUT reason text,
    OUT status text,
    OUT relations text[],
    OUT functions text[],
    OUT writes text,
    OUT max_age interval,
    OUT entries bigint,
    OUT age interval,
    OUT remaining interval,
    OUT facts text)
RETURNS record
AS 'MODULE_PATHNAME', 'hyperpool_explain_query'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.explain_query(text, text) IS 'is this text answered from the cache, and if not, why; the text is not run';

CREATE FUNCTION hyperpool.get_cache_entries(
    OUT origin_oid oid,
    OUT query text,
    OUT kind text,
    OUT bytes bigint,
    OUT occupied bigint,
    OUT age interval,
    OUT hits bigint,
    OUT valid boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_cache_entries'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_cache_entries() IS 'rows of the view hyperpool.cache_entries';

CREATE FUNCTION hyperpool.get_stat_cache(
    OUT size bigint,
    OUT used bigint,
    OUT value_bytes bigint,
    OUT entries bigint,
    OUT inserts bigint,
    OUT evictions bigint,
    OUT purged bigint,
    OUT outdated bigint,
    OUT too_large bigint,
    OUT joined bigint,
    OUT flights bigint,
    OUT pinned bigint,
    OUT hits bigint,
    OUT misses bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_stat_cache'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION hyperpool.get_stat_cache() IS 'the row of the view hyperpool.stat_cache';

CREATE FUNCTION hyperpool.get_stat_queries(
    OUT origin_oid oid,
    OUT role_oid oid,
    OUT query text,
    OUT calls bigint,
    OUT hits bigint,
    OUT misses bigint,
    OUT reasons text,
    OUT flushes bigint,
    OUT origin_ms double precision,
    OUT p50_ms double precision,
    OUT p99_ms double precision,
    OUT saved_ms double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_stat_queries'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_stat_queries() IS 'rows of the view hyperpool.stat_queries';

CREATE VIEW hyperpool.rules AS
SELECT s.srvname AS origin,
    r.kind,
    r.schema,
    r.name,
    r.cache,
    r.max_age,
    r.writes
FROM pg_catalog.pg_foreign_server s
    JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
    CROSS JOIN LATERAL pg_catalog.pg_options_to_table(s.srvoptions) g
    CROSS JOIN LATERAL hyperpool.get_rules(g.option_value) r
WHERE w.fdwname = 'hyperpool' AND g.option_name = 'rules';
COMMENT ON VIEW hyperpool.rules IS 'what set_rule has said of relations and functions of each origin';

CREATE VIEW hyperpool.cache_entries AS
SELECT
    s.srvname AS origin,
    e.query,
    e.kind,
    e.bytes,
    e.occupied,
    e.age,
    e.hits,
    e.valid
FROM hyperpool.get_cache_entries() e
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = e.origin_oid;
COMMENT ON VIEW hyperpool.cache_entries IS 'one row for each entry of the cache; texts for the role that asked';

CREATE VIEW hyperpool.stat_cache AS
SELECT
    c.size,
    c.used,
    c.value_bytes,
    (c.used - c.value_bytes)::double precision / NULLIF(c.value_bytes, 0) AS overhead_ratio,
    c.entries,
    c.inserts,
    c.evictions,
    c.purged,
    c.outdated,
    c.too_large,
    c.joined,
    c.flights,
    c.pinned,
    c.hits::double precision / NULLIF(c.hits + c.misses, 0) AS hit_ratio
FROM hyperpool.get_stat_cache() c;
COMMENT ON VIEW hyperpool.stat_cache IS 'one row: the memory of the cache, and how well it does';

CREATE VIEW hyperpool.stat_queries AS
SELECT
    s.srvname AS origin,
    r.rolname AS role,
    q.query,
    q.calls,
    q.hits,
    q.misses,
    q.reasons::jsonb AS reasons,
    q.flushes,
    q.origin_ms,
    q.p50_ms,
    q.p99_ms,
    q.saved_ms
FROM hyperpool.get_stat_queries() q
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = q.role_oid
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = q.origin_oid;
COMMENT ON VIEW hyperpool.stat_queries IS 'one row for each origin, role and normalised text: how often, from where, how long; texts for their own role';

REVOKE ALL ON FUNCTION
    hyperpool.set_rule(text, text, text, boolean, interval, boolean), hyperpool.get_rules(text),
    hyperpool.invalidate(text, text, text), hyperpool.refresh_catalog(text, interval), hyperpool.explain_query(text, text),
    hyperpool.get_cache_entries(), hyperpool.get_stat_cache(), hyperpool.get_stat_queries()
FROM PUBLIC;
REVOKE ALL ON hyperpool.rules, hyperpool.cache_entries, hyperpool.stat_cache, hyperpool.stat_queries FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    hyperpool.get_rules(text), hyperpool.get_cache_entries(), hyperpool.get_stat_cache(), hyperpool.get_stat_queries()
TO pg_monitor;
GRANT SELECT ON hyperpool.rules, hyperpool.cache_entries, hyperpool.stat_cache, hyperpool.stat_queries TO pg_monitor;

-- ---- how the gateway reads a text ----

CREATE FUNCTION hyperpool.analyze_text(sql text, OUT kind text, OUT effects text[])
RETURNS record
AS 'MODULE_PATHNAME', 'hyperpool_analyze_text'
LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION hyperpool.analyze_text(text) IS 'kind and effects of a query string, as the gateway sees them';
REVOKE ALL ON FUNCTION hyperpool.analyze_text(text) FROM PUBLIC;

CREATE FUNCTION hyperpool.analyze_mentions(sql text, OUT mentions text[], OUT flags text[])
RETURNS record
AS 'MODULE_PATHNAME', 'hyperpool_analyze_mentions'
LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION hyperpool.analyze_mentions(text) IS 'the names a query string speaks of, unresolved, and what else decides whether it is cached';
REVOKE ALL ON FUNCTION hyperpool.analyze_mentions(text) FROM PUBLIC;

CREATE FUNCTION hyperpool.normalise_text(sql text)
RETURNS text
AS 'MODULE_PATHNAME', 'hyperpool_normalise_text'
LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION hyperpool.normalise_text(text) IS 'a query string as stat_queries counts it: without comments, literals as $1, $2 ...';
REVOKE ALL ON FUNCTION hyperpool.normalise_text(text) FROM PUBLIC;

CREATE FUNCTION hyperpool.builtin_classes(OUT name text, OUT class text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_builtin_classes'
LANGUAGE C STRICT VOLATILE;
COMMENT ON FUNCTION hyperpool.builtin_classes() IS 'each function of pg_catalog that is not immutable, and what its answers depend on';
REVOKE ALL ON FUNCTION hyperpool.builtin_classes() FROM PUBLIC;
