-- The cache as SQL sees it: options, rules, arguments, rights. What needs clients is in test/t/110_cache_sql.pl. The origin is this very server.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS hyperpool CASCADE;
RESET client_min_messages;
CREATE EXTENSION hyperpool;
SELECT format('host=%s port=%s dbname=postgres user=%s', current_setting('unix_socket_directories'), current_setting('port'), current_user) AS self \gset

-- options
SELECT hyperpool.create_origin('self', :'self', max_age => '30s', stale_if_error => '5min');
SELECT cache, max_age, stale_while_revalidate, stale_if_error, max_result_size FROM hyperpool.origins;
SELECT hyperpool.alter_origin('self', stale_while_revalidate => '0', max_result_size => 1000);
SELECT cache, max_age, stale_while_revalidate, stale_if_error, max_result_size FROM hyperpool.origins;
SELECT hyperpool.alter_origin('self', stale_if_error => '0');
SELECT stale_if_error FROM hyperpool.origins;
SELECT hyperpool.alter_origin('self', stale_if_error => '-1s');
SELECT hyperpool.alter_origin('self', stale_if_error => '2 years');
ALTER SERVER self OPTIONS (SET stale_if_error 'always');

-- rules: names as SQL writes them, the last word counts
SELECT hyperpool.set_rule('self', relation => 'Orders', cache => false);
SELECT hyperpool.set_rule('self', 'shop."Order Lines"', max_age => '5s');
SELECT hyperpool.set_rule('self', relation => '"odd""; name."', cache => true, max_age => '0');
SELECT hyperpool.set_rule('self', function => 'public.Audit', writes => false);
SELECT hyperpool.set_rule('self', function => 'orders', writes => true);
SELECT * FROM hyperpool.rules;
SELECT o.option_value FROM pg_foreign_server s, pg_options_to_table(s.srvoptions) o WHERE s.srvname = 'self' AND o.option_name = 'rules';
SELECT hyperpool.set_rule('self', relation => 'orders', max_age => '1h');
SELECT * FROM hyperpool.rules WHERE name = 'orders';
SELECT hyperpool.set_rule('self', relation => 'orders');
SELECT hyperpool.set_rule('self', relation => 'not.there');
SELECT hyperpool.set_rule('self', function => 'PUBLIC.audit');
SELECT kind, schema, name FROM hyperpool.rules;

-- what is no rule
SELECT hyperpool.set_rule('self');
SELECT hyperpool.set_rule('self', 'a', 'b', cache => true);
SELECT hyperpool.set_rule('self', 'a', writes => false);
SELECT hyperpool.set_rule('self', function => 'a', cache => false);
SELECT hyperpool.set_rule('self', function => 'a', max_age => '1s');
SELECT hyperpool.set_rule(NULL, 'a', cache => false);
SELECT hyperpool.set_rule('none', 'a', cache => false);
SELECT hyperpool.set_rule('self', 'a.b.c', cache => false);
SELECT hyperpool.set_rule('self', 'a b', cache => false);
SELECT hyperpool.set_rule('self', '', cache => false);
SELECT hyperpool.set_rule('self', 'a', max_age => '-1s');
SELECT hyperpool.set_rule('self', 'a', max_age => '2 years');

-- the option itself is checked, whoever writes it
ALTER SERVER self OPTIONS (SET rules 'relation "a" cache=off; function "f" writes=no ;');
SELECT kind, schema, name, cache, max_age, writes FROM hyperpool.rules;
ALTER SERVER self OPTIONS (SET rules 'relation a cache=off');
ALTER SERVER self OPTIONS (SET rules 'relation "a');
ALTER SERVER self OPTIONS (SET rules 'relation "a""');
ALTER SERVER self OPTIONS (SET rules 'relation "" cache=off');
ALTER SERVER self OPTIONS (SET rules 'relation "a"."b"."c" cache=off');
ALTER SERVER self OPTIONS (SET rules 'view "a" cache=off');
ALTER SERVER self OPTIONS (SET rules 'relation "a" writes=no');
ALTER SERVER self OPTIONS (SET rules 'function "a" cache=off');
ALTER SERVER self OPTIONS (SET rules 'relation "a" max_age=soon');
ALTER SERVER self OPTIONS (SET rules 'relation "a" cache=off;;');
\set VERBOSITY terse
DO $$ BEGIN EXECUTE 'ALTER SERVER self OPTIONS (SET rules ' || quote_literal(repeat('relation "a" cache=off;', 1001)) || ')'; END $$;
\set VERBOSITY default
SELECT count(*) FROM hyperpool.rules;
ALTER SERVER self OPTIONS (DROP rules);
SELECT count(*) FROM hyperpool.rules;

-- arguments
SELECT hyperpool.invalidate('none');
SELECT hyperpool.invalidate('self', 'a', 'SELECT 1');
SELECT hyperpool.invalidate(relation => 'a');
SELECT hyperpool.invalidate(query => 'SELECT 1');
SELECT hyperpool.invalidate();
SELECT hyperpool.invalidate('self');
SELECT hyperpool.invalidate('self', query => 'SELECT 1');
SELECT hyperpool.invalidate('self', 'a.b.c');
SELECT hyperpool.invalidate('self', 'a b');
SELECT hyperpool.explain_query('none', 'SELECT 1');
SELECT hyperpool.explain_query('self', NULL);
SELECT hyperpool.explain_query(NULL, 'SELECT 1');
SELECT hyperpool.refresh_catalog('none');
SELECT hyperpool.refresh_catalog('self', NULL);
SELECT hyperpool.refresh_catalog('self', '-1s');

-- views
SELECT * FROM hyperpool.cache_entries;
SELECT size > 0 AS size, entries, evictions, flights, pinned, hit_ratio FROM hyperpool.stat_cache;
SELECT cache_disabled, cache_hit, cache_miss, cache_uncacheable, cache_multiplestatements, cache_notaquery, cache_oversizedquery, cache_oversizedresult,
  cache_parseerror, cache_transaction, cache_volatile, cache_joined, cache_refreshed, cache_described, cache_saved_ms, cache_flushes, cache_hit_ratio
  FROM hyperpool.stat_origins \gx

-- rights
CREATE ROLE regress_hyperpool;
GRANT USAGE ON SCHEMA hyperpool TO regress_hyperpool;
SET ROLE regress_hyperpool;
SELECT hyperpool.set_rule('self', 'a', cache => false);
SELECT hyperpool.invalidate('self');
SELECT hyperpool.explain_query('self', 'SELECT 1');
SELECT hyperpool.refresh_catalog('self');
SELECT * FROM hyperpool.rules;
SELECT * FROM hyperpool.cache_entries;
SELECT * FROM hyperpool.stat_cache;
SELECT * FROM hyperpool.stat_queries;
RESET ROLE;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hyperpool TO regress_hyperpool;
SET ROLE regress_hyperpool;
SELECT hyperpool.set_rule('self', 'a', cache => false);
SELECT hyperpool.invalidate('self');
SELECT hyperpool.invalidate();
SELECT hyperpool.explain_query('self', 'SELECT 1');
SELECT hyperpool.refresh_catalog('self');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER self TO regress_hyperpool;
SET ROLE regress_hyperpool;
SELECT hyperpool.set_rule('self', 'a', cache => false);
SELECT hyperpool.invalidate('self');
SELECT hyperpool.invalidate();
RESET ROLE;
BEGIN READ ONLY;
SELECT hyperpool.set_rule('self', 'a', cache => false);
ROLLBACK;

SELECT hyperpool.drop_origin('self');
DROP OWNED BY regress_hyperpool;
DROP ROLE regress_hyperpool;
