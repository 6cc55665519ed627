-- Origins and credentials as SQL sees them: options, bounds, rights. The origin is this very server, by its Unix socket.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS hyperpool CASCADE;
RESET client_min_messages;
CREATE EXTENSION hyperpool;
SELECT format('host=%s port=%s dbname=postgres user=%s', current_setting('unix_socket_directories'), current_setting('port'), current_user) AS self \gset

-- made, shown, checked
SELECT hyperpool.create_origin('self', :'self', pool_size => 5, idle_timeout => '90s');
SELECT name, dbname, sslmode, pool_size, min_pool_size, pool_mode, queue_timeout, idle_timeout, max_lifetime, connect_timeout, cache, max_age, stale_while_revalidate, stale_if_error, max_result_size, allow_trust, pooled, gateway, paused
  FROM hyperpool.origins \gx
SELECT step, ok, milliseconds >= 0 AS timed FROM hyperpool.check_origin('self');
SELECT o.option_name, o.option_value FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o
  WHERE s.srvname = 'self' AND o.option_name NOT IN ('host', 'port') ORDER BY 1;
SELECT hyperpool.create_origin('self', :'self');

-- a failure leaves nothing
SELECT hyperpool.create_origin('gone', :'self' || ' dbname=nowhere');
SELECT hyperpool.create_origin('gone', 'host=127.0.0.1 port=1 user=x password=secret');
SELECT hyperpool.create_origin('gone', 'postgresql://app:secret@[::1');
SELECT hyperpool.create_origin('', :'self');
SELECT hyperpool.create_origin(NULL, :'self');
SELECT count(*) FROM hyperpool.origins WHERE name <> 'self';

-- changed; what is null stays
SELECT hyperpool.alter_origin('self', query_timeout => '1.5s', cache => false, allow_trust => true);
SELECT query_timeout, cache, allow_trust, pool_size FROM hyperpool.origins;
SELECT hyperpool.alter_origin('self', 'application_name=gateway connect_timeout=7');
SELECT connect_timeout FROM hyperpool.origins;
SELECT hyperpool.alter_origin('self', pool_size => 0);
SELECT hyperpool.alter_origin('self', min_pool_size => 6);
SELECT hyperpool.alter_origin('self', pool_mode => 'sometimes');
SELECT hyperpool.alter_origin('self', max_age => '-1s');
SELECT hyperpool.alter_origin('self', max_lifetime => '2 years');
SELECT hyperpool.alter_origin('none', pool_size => 1);

-- PostgreSQL's own commands do as well, under the same checks
ALTER SERVER self OPTIONS (SET pool_size '3', ADD keepalives_idle '30');
ALTER SERVER self OPTIONS (SET pool_size 'three');
ALTER SERVER self OPTIONS (SET queue_timeout 'soon');
ALTER SERVER self OPTIONS (ADD password 'secret');
ALTER SERVER self OPTIONS (ADD speed '11');
ALTER SERVER self OPTIONS (DROP host);
ALTER FOREIGN DATA WRAPPER hyperpool OPTIONS (ADD speed '11');
CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (password 'secret');
CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS ("user" 'x', colour 'blue');
SELECT pool_size FROM hyperpool.origins;

-- credentials
CREATE ROLE regress_hyperpool LOGIN;
SELECT hyperpool.set_credential('self', 'regress_hyperpool', current_user, NULL);
SELECT usename, 'password_required=false' = ANY (umoptions) AS trusted FROM pg_user_mappings WHERE srvname = 'self' ORDER BY 1;
SELECT hyperpool.drop_credential('self', 'regress_hyperpool');
SELECT hyperpool.drop_credential('self', 'regress_hyperpool');
SELECT hyperpool.set_credential('self', 'regress_nobody', 'x', 'y');

-- in service: the commit has waited for the manager
SELECT hyperpool.pause_origin('self');
SELECT paused FROM hyperpool.origins;
SELECT hyperpool.resume_origin('self');
SELECT hyperpool.restart_origin('self');
SELECT paused FROM hyperpool.origins;

-- nothing is given to everybody
SET ROLE regress_hyperpool;
SELECT * FROM hyperpool.origins;
RESET ROLE;
GRANT USAGE ON SCHEMA hyperpool TO regress_hyperpool;
SET ROLE regress_hyperpool;
SELECT hyperpool.check_origin('self');
SELECT * FROM hyperpool.origins;
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hyperpool TO regress_hyperpool;
GRANT USAGE ON FOREIGN DATA WRAPPER hyperpool TO regress_hyperpool;
SET ROLE regress_hyperpool;
SELECT hyperpool.alter_origin('self', pool_size => 1);
SELECT hyperpool.create_origin('mine', 'host=/tmp user=x password=y');
SELECT hyperpool.create_origin('mine', 'host=127.0.0.1 sslkey=/etc/x user=x password=y');
SELECT hyperpool.create_origin('mine', 'host=127.0.0.1 port=1 user=x');
RESET ROLE;

-- every function and view has a comment, and none is PUBLIC's
SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'hyperpool'::regnamespace
  AND (obj_description(p.oid, 'pg_proc') IS NULL OR has_function_privilege('public', p.oid, 'EXECUTE'));
SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'hyperpool'::regnamespace
  AND (obj_description(c.oid, 'pg_class') IS NULL OR has_table_privilege('public', c.oid, 'SELECT'));

SELECT hyperpool.drop_origin('self');
SELECT count(*) FROM pg_user_mappings;
DROP OWNED BY regress_hyperpool;
DROP ROLE regress_hyperpool;
