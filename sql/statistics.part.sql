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
    OUT unknown_outcomes bigint,
    OUT refused bigint,
    OUT notices_dropped bigint,
    OUT wait_p50_ms double precision,
    OUT wait_p90_ms double precision,
    OUT wait_p99_ms double precision,
    OUT query_p50_ms double precision,
    OUT query_p90_ms double precision,
    OUT query_p99_ms double precision,
    OUT login_p50_ms double precision,
    OUT login_p90_ms double precision,
    OUT login_p99_ms double precision,
    OUT reset_time timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'hyperpool_stat_origins'
LANGUAGE C STRICT VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION hyperpool.get_stat_origins() IS 'rows of the view hyperpool.stat_origins';

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
    o.unknown_outcomes,
    o.refused,
    o.notices_dropped,
    o.wait_p50_ms,
    o.wait_p90_ms,
    o.wait_p99_ms,
    o.query_p50_ms,
    o.query_p90_ms,
    o.query_p99_ms,
    o.login_p50_ms,
    o.login_p90_ms,
    o.login_p99_ms,
    o.reset_time
FROM hyperpool.get_stat_origins() o
    LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = o.origin_oid;
COMMENT ON VIEW hyperpool.stat_origins IS 'counters of each origin since its reset_time, and percentiles in milliseconds';

REVOKE ALL ON FUNCTION
    hyperpool.get_clients(), hyperpool.get_links(), hyperpool.get_pools(), hyperpool.get_stat_origins(),
    hyperpool.status(), hyperpool.reset_stats(text), hyperpool.disconnect(bigint)
FROM PUBLIC;
REVOKE ALL ON hyperpool.clients, hyperpool.links, hyperpool.pools, hyperpool.stat_origins FROM PUBLIC;

-- a view calls its functions as whoever reads it
GRANT USAGE ON SCHEMA hyperpool TO pg_monitor;
GRANT EXECUTE ON FUNCTION
    hyperpool.get_clients(), hyperpool.get_links(), hyperpool.get_pools(), hyperpool.get_stat_origins(),
    hyperpool.status()
TO pg_monitor;
GRANT SELECT ON hyperpool.clients, hyperpool.links, hyperpool.pools, hyperpool.stat_origins TO pg_monitor;
