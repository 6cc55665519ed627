# Writes by the routes that a cache overlooks, and answers that were on their way when the write came. What is read right after is what a direct connection reads.
# Cases 23, 24 and 25 of docs/testing.md; more routes are in 133_cache_writes and 137_cache_sql_objects.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $put = 'CREATE FUNCTION put_N(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = v + $1; RETURN 1; END $$';
my (@routes, $n);

# name, SQL that makes it (N: its number; each has a table t_N (i, v) and a function put_N(int) that adds to v, which is volatile), what the writer does:
# SQL, or code that is given the writer; root => SQL of a superuser
sub route
{
	my ($name, $make, $write, %more) = @_;
	$n++;
	my @write = ref $write eq 'ARRAY' ? @$write : $write;
	s/_N\b/_$n/g for $make, grep { !ref } @write, values %more;
	push @routes, { read => "SELECT v FROM t_$n WHERE i = 1", %more, name => $name, write => \@write, n => $n,
		make => "CREATE TABLE t_$n (i int PRIMARY KEY, v int); INSERT INTO t_$n VALUES (1, 0); " . $put =~ s/_N\b/_$n/gr . "; $make" };
	return;
}
sub table_of { my ($r) = @_; return "t_$r->{n}"; }

# Both names of the database: the one that learns it later would end what is cached in the middle of a case.
sub learn_both { my ($gateway) = @_; Cached::learn($gateway, $_) for 'app', 'near'; return; }

# ---- messages ----
sub parse { my ($name, $sql) = @_; return RawClient::message('P', "$name\0$sql\0\0\0"); }
sub bind_to { my ($portal, $name, @values) = @_; return RawClient::message('B', "$portal\0$name\0\0\0" . pack('n', scalar @values) . join('', map { pack('l>/a', $_) } @values) . "\0\0"); }
sub execute { my ($portal, $rows) = @_; return RawClient::message('E', "$portal\0" . pack('N', $rows // 0)); }
my ($sync, $flush) = map { RawClient::message($_, '') } 'S', 'H';
sub says { my ($w, $messages, $answers) = @_; $w->put_raw($messages); return map { $w->answer } 1 .. ($answers // 1); }

my $update = sub { my ($r) = @_; return 'UPDATE ' . table_of($r) . ' SET v = v + 1 RETURNING v'; };
route('RETURNING with a row limit', '', sub { my ($w, $r) = @_; says($w, parse('', $update->($r)) . bind_to('', '') . execute('', 1) . $sync); });
route('RETURNING with a row limit, suspended, closed', '', sub { my ($w, $r) = @_; says($w, parse('', $update->($r)) . bind_to('p', '') . execute('p', 1) . RawClient::message('C', "Pp\0") . $sync); });
route('a writing function with a row limit', '', sub { my ($w, $r) = @_; says($w, parse('', "SELECT put_$r->{n}(g) FROM generate_series(1, 5) g") . bind_to('p', '') . execute('p', 1) . execute('p', 2) . $sync); });
route('Bind without a new Parse', '', sub { my ($w, $r) = @_; says($w, parse('again', $update->($r)) . $sync); $w->value('SELECT 1') for 1 .. 2; says($w, bind_to('', 'again') . execute('') . $sync); says($w, RawClient::message('C', "Sagain\0") . $sync); });
route('a portal bound in one exchange, run in the next', '', sub { my ($w, $r) = @_; $w->query('BEGIN'); says($w, parse('', $update->($r)) . bind_to('p', '') . $sync); $w->query('SELECT 1'); says($w, execute('p') . $sync); $w->query('COMMIT'); });
route('a portal of a function, run in parts', '', sub { my ($w, $r) = @_; $w->query('BEGIN'); says($w, parse('', "SELECT put_$r->{n}(g) FROM generate_series(1, 5) g") . bind_to('p', '') . execute('p', 1) . $sync); says($w, execute('p', 1) . $sync) for 1 .. 2; $w->query('END'); });
for my $set ('SET', 'SET LOCAL')
{
	route("a string that ends elsewhere, behind $set in the same batch", '', sub { my ($w, $r) = @_; says($w, join('', map { parse('', $_) . bind_to('', '') . execute('') } 'BEGIN', "$set standard_conforming_strings = off", "SELECT 'x\\'', put_$r->{n}(1) --'", 'COMMIT') . $sync); $w->query('DISCARD ALL'); });
}
route('COMMIT in the batch of its write', '', sub { my ($w, $r) = @_; says($w, join('', map { parse('', $_) . bind_to('', '') . execute('') } 'BEGIN', $update->($r), 'COMMIT') . $sync); });
route('a batch that commits and then fails', '', sub { my ($w, $r) = @_; says($w, join('', map { parse('', $_) . bind_to('', '') . execute('') } 'BEGIN', $update->($r), 'COMMIT', 'SELECT not_there()') . $sync); });
route('a string that commits and then fails', '', sub { my ($w, $r) = @_; $w->query('BEGIN; ' . $update->($r) . '; COMMIT; SELECT not_there()'); });
route('COMMIT without BEGIN in a batch that fails', '', sub { my ($w, $r) = @_; says($w, join('', map { parse('', $_) . bind_to('', '') . execute('') } $update->($r), 'COMMIT', 'SELECT not_there()') . $sync); });
route('FunctionCall', '', sub { my ($w, $r) = @_; my $oid = $w->value("SELECT 'put_$r->{n}'::regproc::oid"); says($w, RawClient::message('F', pack('N n n n N N n', $oid, 1, 1, 1, 4, 7, 0))); });
route('EXECUTE of SQL by a Parse', '', sub { my ($w, $r) = @_; $w->query('PREPARE sqlp AS ' . $update->($r)); says($w, parse('', 'EXECUTE sqlp') . bind_to('', '') . execute('') . $sync); $w->query('DISCARD ALL'); });
route('COPY by extended messages', 'CREATE VIEW door_N AS SELECT i, v FROM t_N; CREATE FUNCTION by_door_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = NEW.v; RETURN NULL; END $$; CREATE TRIGGER d INSTEAD OF INSERT ON door_N FOR EACH ROW EXECUTE FUNCTION by_door_N()',
	sub { my ($w, $r) = @_; $w->{stop_at_copy} = 1; says($w, parse('', "COPY door_$r->{n} FROM STDIN") . bind_to('', '') . execute('') . $sync); $w->{stop_at_copy} = 0; says($w, RawClient::message('d', "1\t9\n") . RawClient::message('c', '') . $sync); });
route('Terminate behind the write', '', sub { my ($w, $r, $gateway) = @_; my $x = $gateway->client; $x->put_raw(RawClient::message('Q', $update->($r) . "\0") . RawClient::message('X', '')); $x->is_closed; });

# ---- statements ----
route("a function in $_->[0]", '', $_->[1])
  for [ 'LIMIT', 'SELECT 1 LIMIT put_N(1)' ], [ 'ORDER BY', 'SELECT 1 FROM (VALUES (1), (2)) x (a) ORDER BY put_N(a)' ], [ 'FILTER', 'SELECT count(*) FILTER (WHERE put_N(1) > 0)' ], [ 'VALUES', 'VALUES (put_N(1))' ],
  [ 'a window', 'SELECT sum(put_N(1)) OVER ()' ], [ 'LATERAL', 'SELECT * FROM (VALUES (1)) x (a), LATERAL put_N(a)' ], [ 'CASE', 'SELECT CASE WHEN true THEN put_N(1) ELSE 0 END' ], [ 'HAVING', 'SELECT 1 HAVING put_N(1) = 1' ],
  [ 'an array', 'SELECT (ARRAY[1, 2])[put_N(1)]' ], [ 'a CTE nobody reads', 'WITH w AS MATERIALIZED (SELECT put_N(1)) SELECT count(*) FROM w' ], [ 'COPY TO', 'COPY (SELECT put_N(1)) TO STDOUT' ], [ 'EXPLAIN ANALYZE', 'EXPLAIN (ANALYZE, TIMING off) SELECT put_N(1)' ],
  [ 'a set operation', 'SELECT 1 UNION ALL SELECT put_N(1)' ], [ 'TABLESAMPLE', 'SELECT * FROM unrelated TABLESAMPLE bernoulli (put_N(1))' ], [ 'SQL EXECUTE', [ 'PREPARE q AS SELECT $1::int', 'EXECUTE q (put_N(1))', 'DISCARD ALL' ] ], [ 'CALL', 'CALL nothing(put_N(1))' ],
  [ 'an argument by name', 'SELECT named(b => put_N(1), a => 2), 1' ], [ 'query_to_xml', q{SELECT length(query_to_xml('SELECT put_N(1)', false, false, '')::text)} ], [ 'ts_stat', q{SELECT count(*) FROM ts_stat('SELECT to_tsvector(put_N(1)::text)')} ], [ 'ts_rewrite', q{SELECT ts_rewrite('a'::tsquery, 'SELECT to_tsquery(''simple'', put_N(1)::text), to_tsquery(''simple'', ''b'')')} ],
  [ 'its escaped name', 'SELECT U&"\0070ut_N"(1)' ];
route('an open cursor of a function', '', [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT put_N(1)', 'MOVE ALL IN c', 'COMMIT' ]);
route('a cursor that is held', '', [ 'DECLARE held CURSOR WITH HOLD FOR SELECT put_N(1)', 'DISCARD ALL' ]);
route('SET inside the value of a write', '', 'UPDATE t_N SET v = v + 1 WHERE set_config($$my.x$$, $$1$$, true) = $$1$$');
route('UPDATE … FROM a writing CTE', 'CREATE TABLE o_N (v int)', 'WITH w AS (INSERT INTO o_N SELECT put_N(1) RETURNING v) SELECT count(*) FROM w');
route('ONLY, an alias, and another schema of the name', 'CREATE SCHEMA s_N; CREATE TABLE s_N.t_N (i int, v int)', 'UPDATE ONLY public.t_N AS s_N SET v = 4');
route('INSERT … ON CONFLICT with a function', '', 'INSERT INTO t_N AS x VALUES (1, 1) ON CONFLICT (i) DO UPDATE SET v = x.v + 10');
route('MERGE', 'CREATE VIEW m_N AS SELECT 1 AS i, 5 AS v', 'MERGE INTO t_N USING m_N m ON m.i = t_N.i WHEN MATCHED THEN UPDATE SET v = m.v WHEN NOT MATCHED THEN INSERT VALUES (m.i, m.v)');
route('nested functions', q{CREATE FUNCTION outer_N() RETURNS int LANGUAGE sql AS 'SELECT put_N(1)'}, 'SELECT outer_N()');
route('a procedure that commits by halves and fails', 'CREATE PROCEDURE half_N() LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = 1; COMMIT; UPDATE t_N SET v = 2; PERFORM not_there(); END $$', 'CALL half_N()', fails => 1);
route('a DO block that commits and fails', '', 'DO $$ BEGIN UPDATE t_N SET v = 1; COMMIT; EXECUTE $x$SELEC$x$; END $$', fails => 1);
route('a procedure in SQL that fails behind one that commits', 'CREATE PROCEDURE commits_N() LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = 1; COMMIT; RAISE undefined_table; END $$', 'CALL commits_N()', fails => 1);

# ---- objects ----
route('a default of a domain', 'CREATE DOMAIN d_N AS int DEFAULT put_N(1); CREATE TABLE with_d_N (d d_N, x int)', 'INSERT INTO with_d_N (x) VALUES (1)');
route('a check of a domain', 'CREATE DOMAIN d_N AS int CHECK (put_N(VALUE) > 0); CREATE TABLE with_d_N (d d_N)', 'INSERT INTO with_d_N VALUES (1)');
route('a check of a domain, by a cast', 'CREATE DOMAIN d_N AS int CHECK (put_N(VALUE) > 0)', 'SELECT 5::d_N');
route('a check of a domain, by an argument', 'CREATE DOMAIN d_N AS int CHECK (put_N(VALUE) > 0); CREATE FUNCTION of_d_N(d_N) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$', 'SELECT of_d_N(5)');
route('a check of a domain in an array, by a literal', 'CREATE DOMAIN d_N AS int CHECK (put_N(VALUE) > 0); CREATE TABLE with_d_N (d d_N[])', q{SELECT count(*) FROM with_d_N WHERE d = '{5}'});
route('a check of a domain in a row, by a literal', 'CREATE DOMAIN d_N AS int CHECK (put_N(VALUE) > 0); CREATE TYPE r_N AS (d d_N); CREATE TABLE with_d_N (r r_N)', q{SELECT coalesce((SELECT r FROM with_d_N), '(5)') IS NULL});
route('functional notation of a variadic function', 'CREATE FUNCTION many_N(VARIADIC anyarray) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN put_N(1); END $$', 'SELECT t_N.many_N FROM t_N');
route('a check of a table', 'CREATE TABLE c_N (x int CHECK (put_N(x) > 0))', 'INSERT INTO c_N VALUES (1)');
route('an assignment cast', 'CREATE TYPE y_N AS (x int); CREATE FUNCTION to_y_N(int) RETURNS y_N LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN row($1)::y_N; END $$; CREATE CAST (int AS y_N) WITH FUNCTION to_y_N(int) AS ASSIGNMENT; CREATE TABLE with_y_N (y y_N)', 'INSERT INTO with_y_N VALUES (1)');
route('a default of a partition', 'CREATE TABLE p_N (a int, b int) PARTITION BY LIST (a); CREATE TABLE p1_N PARTITION OF p_N (b DEFAULT put_N(1)) DEFAULT', 'INSERT INTO p1_N (a) VALUES (1)');
route('a trigger of a child', 'CREATE TABLE e_N (a int); CREATE TABLE f_N () INHERITS (e_N); INSERT INTO f_N VALUES (1); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$; CREATE TRIGGER g AFTER UPDATE ON f_N FOR EACH ROW EXECUTE FUNCTION g_N()', 'UPDATE e_N SET a = 2');
route('WHEN of a trigger', 'CREATE TABLE e_N (a int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER g AFTER INSERT ON e_N FOR EACH ROW WHEN (put_N(1) > 5) EXECUTE FUNCTION g_N()', 'INSERT INTO e_N VALUES (1)');
route('WITH CHECK of a policy', 'CREATE TABLE e_N (a int); ALTER TABLE e_N ENABLE ROW LEVEL SECURITY; ALTER TABLE e_N FORCE ROW LEVEL SECURITY; CREATE POLICY p ON e_N WITH CHECK (put_N(a) > 0)', 'INSERT INTO e_N VALUES (1)');
route('a TRUNCATE trigger', 'CREATE TABLE e_N (a int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$; CREATE TRIGGER g AFTER TRUNCATE ON e_N FOR EACH STATEMENT EXECUTE FUNCTION g_N()', 'TRUNCATE e_N');
route('a statement trigger that no row fires', 'CREATE TABLE e_N (a int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$; CREATE TRIGGER g AFTER DELETE ON e_N FOR EACH STATEMENT EXECUTE FUNCTION g_N()', 'DELETE FROM e_N');
route('a trigger that a key fires, deferred', 'CREATE TABLE k_N (k int PRIMARY KEY); CREATE TABLE h_N (k int REFERENCES k_N ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED); INSERT INTO k_N VALUES (1); INSERT INTO h_N VALUES (1); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER g AFTER DELETE ON h_N DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION g_N()', [ 'BEGIN', 'DELETE FROM k_N', 'SAVEPOINT s', 'SELECT 1', 'COMMIT' ]);
route('a deferred trigger, made immediate', 'CREATE TABLE e_N (a int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER g AFTER INSERT ON e_N DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION g_N()',
	[ 'BEGIN', 'INSERT INTO e_N VALUES (1)', 'SET CONSTRAINTS ALL IMMEDIATE', 'COMMIT' ]);
route('a rule on SELECT of another view', 'CREATE VIEW w_N AS SELECT put_N(1) AS x; CREATE VIEW ww_N AS SELECT x FROM w_N', 'SELECT 1 FROM ww_N');
route('an aggregate of a volatile function', 'CREATE FUNCTION s_N(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN put_N($2); END $$; CREATE AGGREGATE a_N(int) (SFUNC = s_N, STYPE = int, INITCOND = 0)', 'SELECT a_N(g) FROM generate_series(1, 3) g');
route('an operator of a row comparison', 'CREATE TYPE z_N AS (x int); CREATE FUNCTION less_N(z_N, z_N) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN true; END $$; CREATE OPERATOR <~ (FUNCTION = less_N, LEFTARG = z_N, RIGHTARG = z_N)', 'SELECT row(1)::z_N <~ row(2)::z_N');
route('DROP … CASCADE', 'CREATE TABLE kk_N (k int)', 'DROP TABLE t_N CASCADE; CREATE TABLE t_N AS SELECT 1 AS i, 77 AS v');
route('ALTER TABLE … SET SCHEMA', 'CREATE SCHEMA s_N; CREATE TABLE s_N.t_N AS SELECT 1 AS i, 88 AS v', 'BEGIN; ALTER TABLE t_N RENAME TO gone_N; ALTER TABLE s_N.t_N SET SCHEMA public; COMMIT');
route('ALTER SCHEMA RENAME', 'CREATE SCHEMA s_N; CREATE TABLE s_N.only_N AS SELECT 1 AS v; CREATE SCHEMA u_N; CREATE TABLE u_N.only_N AS SELECT 2 AS v', 'BEGIN; ALTER SCHEMA s_N RENAME TO x_N; ALTER SCHEMA u_N RENAME TO s_N; COMMIT', read => 'SELECT v FROM s_N.only_N');
route('a column made virtual by a function of its name', 'CREATE TABLE e_N (a int); INSERT INTO e_N VALUES (1); CREATE FUNCTION b_N(e_N) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 5 $$', 'CREATE OR REPLACE FUNCTION b_N(e_N) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 6 $$', read => 'SELECT e.b_N FROM e_N e');
route('a function becomes volatile', 'CREATE FUNCTION was_N() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 1 $$', [ 'CREATE OR REPLACE FUNCTION was_N() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN RETURN (SELECT v FROM t_N) + 1000; END $$', 'UPDATE t_N SET v = 3' ], read => 'SELECT was_N()', never => 1);
route('an operator becomes another', 'CREATE FUNCTION o1_N(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 1 $$; CREATE FUNCTION o2_N(int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT v FROM t_N $$; CREATE OPERATOR public.!~! (FUNCTION = o1_N, RIGHTARG = int)',
	'BEGIN; DROP OPERATOR public.!~! (NONE, int); CREATE OPERATOR public.!~! (FUNCTION = o2_N, RIGHTARG = int); COMMIT', read => 'SELECT !~! 4', never => 1);
route('a type is made anew', 'CREATE TYPE q_N AS ENUM ($$a$$, $$b$$)', 'BEGIN; DROP TYPE q_N; CREATE TYPE q_N AS ENUM ($$b$$, $$a$$); COMMIT', read => 'SELECT $$a$$::q_N < $$b$$::q_N');
route('a text search dictionary', 'CREATE TEXT SEARCH CONFIGURATION c_N (COPY = english)', 'ALTER TEXT SEARCH CONFIGURATION c_N ALTER MAPPING FOR asciiword WITH simple', read => q{SELECT to_tsvector('public.c_N', 'running cats')});
route('a collation made anew', 'CREATE COLLATION l_N (PROVIDER = libc, LOCALE = "C"); CREATE TABLE e_N (t text); INSERT INTO e_N VALUES ($$a$$), ($$B$$)', 'DROP COLLATION l_N; CREATE COLLATION l_N (PROVIDER = icu, LOCALE = $$en$$)', read => 'SELECT min(t COLLATE l_N) FROM e_N');

# ---- of a superuser ----
route('an event trigger, by a temporary table', 'CREATE FUNCTION noted_N() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = v + 1; END $$', 'CREATE TEMP TABLE fleeting_N (i int) ON COMMIT DROP', root => 'CREATE EVENT TRIGGER noted_N ON ddl_command_end WHEN TAG IN ($$CREATE TABLE$$) EXECUTE FUNCTION noted_N()', undo => 'DROP EVENT TRIGGER noted_N');
route('an event trigger, by SELECT INTO TEMP', 'CREATE FUNCTION noted_N() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = v + 1; END $$', 'SELECT 1 AS i INTO TEMP fleeting_N', root => 'CREATE EVENT TRIGGER noted_N ON ddl_command_end WHEN TAG IN ($$SELECT INTO$$) EXECUTE FUNCTION noted_N()', undo => 'DROP EVENT TRIGGER noted_N');
route('an event trigger, by a temporary view', 'CREATE FUNCTION noted_N() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE t_N SET v = v + 1; END $$', 'CREATE TEMP VIEW fleeting_N AS SELECT 1 AS i', root => 'CREATE EVENT TRIGGER noted_N ON ddl_command_start EXECUTE FUNCTION noted_N()', undo => 'DROP EVENT TRIGGER noted_N');
route('a foreign table that is this very table', '', 'UPDATE far_N SET v = v + 1', root => 'CREATE FOREIGN TABLE far_N (i int, v int) SERVER loop OPTIONS (table_name $$t_N$$)', by_root => 1);
route('a foreign partition', '', 'UPDATE fp_N SET v = v + 1', root => 'CREATE TABLE fp_N (i int, v int) PARTITION BY LIST (i); CREATE FOREIGN TABLE fp1_N PARTITION OF fp_N DEFAULT SERVER loop OPTIONS (table_name $$t_N$$)', by_root => 1);
route('dblink', '', q{SELECT dblink_exec('loop', 'UPDATE t_N SET v = v + 1')}, by_root => 1);
route('dblink, and then an error', '', q{CALL nothing(length(dblink_exec('loop', 'UPDATE t_N SET v = v + 1')) + has_table_privilege('nobody_at_all', 'unrelated', 'select')::int)}, fails => 1, by_root => 1);
route('dblink in a write, and then an error', '', q{DELETE FROM unrelated WHERE CASE WHEN dblink_exec('loop', 'UPDATE t_N SET v = v + 1') = 'UPDATE 1' THEN has_table_privilege('nobody_at_all', 'unrelated', CASE WHEN i > 0 THEN 'select' END) END}, fails => 1, by_root => 1);
route('a temporary table before the permanent one, with a trigger', 'CREATE TABLE over_N (i int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$',
	[ 'CREATE TEMP TABLE over_N (i int)', 'CREATE TRIGGER g AFTER INSERT ON over_N FOR EACH ROW EXECUTE FUNCTION g_N()' ], then => 'INSERT INTO over_N VALUES (1)', after => 'DISCARD ALL');
route('a temporary view before the permanent table', 'CREATE TABLE over_N (i int)', 'CREATE TEMP VIEW over_N AS SELECT put_N(1) AS i', then => 'SELECT i FROM over_N', after => 'DISCARD ALL');
route('a temporary view before the permanent table, to be written through', 'CREATE TABLE over_N (i int, v int)', 'CREATE TEMP VIEW over_N AS SELECT i, v FROM t_N', then => 'UPDATE over_N SET v = v + 1', after => 'DISCARD ALL');
route('a temporary default', 'CREATE TABLE over_N (i int, v int)', 'CREATE TEMP TABLE over_N (i int, v int DEFAULT put_N(1))', then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');

my $own = 'CREATE TEMP TABLE own_N (i int, v int DEFAULT put_N(1))';
# while the catalog is known: else the session would be taken for the worst
my $known = sub { my ($w, $r, $gateway) = @_; learn_both($gateway); };
route('a temporary domain', '', [ $known, 'CREATE DOMAIN pg_temp.own_N AS int CHECK (put_N(VALUE) > 0)' ], then => 'SELECT 5::own_N', after => 'DISCARD ALL');
route('a check of a domain with a name that is cut', 'CREATE DOMAIN ' . ('d' x 62) . "\xc3\xa9 AS int CHECK (put_N(VALUE) > 0)", 'SELECT 5::' . ('d' x 62) . "\xc3\xa9");
route('a function of a row with a name that is cut', 'CREATE FUNCTION ' . ('f' x 62) . "\xc3\xa9(unrelated) RETURNS int LANGUAGE plpgsql AS \$\$ BEGIN RETURN put_N(1); END \$\$", 'SELECT u.' . ('f' x 62) . "\xc3\xa9 FROM unrelated u");
my $maker = 'CREATE TABLE over_N (i int, v int); CREATE FUNCTION make_N() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE over_N (i int, v int DEFAULT put_N(1)); RETURN 1; END $$';
route('a temporary table that is given the name of a permanent one', 'CREATE TABLE over_N (i int, v int)', [ $known, $own, 'ALTER TABLE own_N RENAME TO over_N' ], then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');
route('a view that is temporary by what it shows', 'CREATE TABLE over_N (i int, v int)', [ $known, $own, 'INSERT INTO own_N VALUES (1, 1)', 'CREATE VIEW over_N AS SELECT put_N(1) AS i FROM own_N' ], then => 'SELECT i FROM over_N', after => 'DISCARD ALL');
route('a temporary table that becomes a child', 'CREATE TABLE over_N (i int, v int); CREATE FUNCTION g_N() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM put_N(1); RETURN NULL; END $$',
	[ $known, $own, 'INSERT INTO own_N VALUES (1, 1)', 'CREATE TRIGGER g AFTER UPDATE ON own_N FOR EACH ROW EXECUTE FUNCTION g_N()', 'ALTER TABLE own_N INHERIT over_N' ], then => 'UPDATE over_N SET i = 5', after => 'DISCARD ALL');
route('a temporary table by search_path', 'CREATE TABLE over_N (i int, v int)', [ 'LISTEN own_N', 'SET search_path = pg_temp, public', 'CREATE TABLE over_N (i int, v int DEFAULT put_N(1))' ], then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');
route('a temporary table that a function makes', $maker, [ 'LISTEN own_N', 'SELECT make_N()' ], then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');
route('a temporary table that a function makes, then bound', $maker, [ 'BEGIN', 'SELECT make_N()', 'LISTEN own_N', 'COMMIT' ], then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');
route('a temporary view that a function makes, read', 'CREATE TABLE over_N (i int); CREATE FUNCTION view_N() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP VIEW over_N AS SELECT put_N(1) AS i; RETURN 1; END $$',
	[ $known, 'LISTEN own_N', 'SELECT view_N()' ], then => 'SELECT i FROM over_N', after => 'DISCARD ALL');
route('a temporary domain that a function makes, cast to', 'CREATE DOMAIN over_N AS int; CREATE FUNCTION domain_N() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE DOMAIN pg_temp.over_N AS int CHECK (put_N(VALUE) > 0); RETURN 1; END $$',
	[ $known, 'LISTEN own_N', 'SELECT domain_N()' ], then => 'SELECT 5::over_N', after => 'DISCARD ALL');
route('a permanent table is made beside the temporary one', '', [ $known, 'CREATE TEMP TABLE over_N (i int, v int DEFAULT put_N(1))', sub { my ($w, $r, $gateway) = @_; Cached::at_origin($gateway, "CREATE TABLE over_$r->{n} (i int, v int)"); } ], then => 'INSERT INTO over_N (i) VALUES (1)', after => 'DISCARD ALL');

my $gateway = Cached::start(create => 0, workers => 2, relay => 1);
my $origin = $gateway->{origin};
my $root = q{CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink; GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'app', host '127.0.0.1', port '} . $origin->port . q{'); CREATE ROLE root LOGIN SUPERUSER; CREATE USER MAPPING FOR root SERVER loop OPTIONS (user 'app')};
$origin->safe_psql('app', $root);
Cached::at_origin($gateway, join ";\n", 'CREATE TABLE unrelated (i int); INSERT INTO unrelated VALUES (1); CREATE PROCEDURE nothing(int) LANGUAGE sql AS $$ SELECT 1 $$; CREATE FUNCTION named(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 + $2 $$',
	map { $_->{make} } @routes);
$gateway->create('app', q{cache => true, max_age => '1h', pool_size => 5});
{
	local $gateway->{relay_port};
	$gateway->create('near', q{cache => true, max_age => '1h', pool_size => 5});
	$gateway->sql(q{CREATE ROLE root LOGIN; SELECT hyperpool.set_credential('near', 'root', 'root', '')});
}
my ($reader, $direct, $master) = ($gateway->client, $gateway->direct(database => 'app'), RawClient->new(port => $origin->port, user => scalar getpwuid($>), database => 'app'));
my $unrelated = 'SELECT i FROM unrelated';
my $passed = 0;

sub warm_or_say { my ($what, $read) = @_; my ($said, $answer) = Cached::warm($gateway, $reader, $read); is($said, 'hit', "$what: cached") or diag(Cached::explained($gateway, $read, 'reason'), $answer); return $answer; }

for my $r (@routes)
{
	my $name = "case 23: $r->{name}";
	my $read = $r->{read};
	my $writer = $r->{by_root} ? $gateway->client(user => 'root', database => 'near') : $gateway->client;
	if ($r->{root})
	{
		my $made = $master->query($r->{root});
		ok(!$made->{error}, "$name: made") or diag(RawClient::error_text($made));
		learn_both($gateway);
	}
	my @write = @{ $r->{write} };
	my $write = sub {
		for my $one (@write)
		{
			my $answer = ref $one eq 'CODE' ? $one->($writer, $r, $gateway) : $writer->query($one);
			fail("$name: $one: " . RawClient::error_text($answer)) if !ref $one && !$r->{fails} && $answer->{error};
		}
	};
	if ($r->{then})
	{
		$write->();
		learn_both($gateway);
		@write = ($r->{then});
	}
	my $before = warm_or_say($name, $read);
	$write->();
	my ($said, $got) = Cached::ask($gateway, $reader, $read);
	my $truth = RawClient::outcome($direct->query($read));
	is($got, $truth, "$name: the new answer ($said)");
	isnt($truth, $before, "$name: something has changed");
	if ($r->{never})
	{
		Cached::warm($gateway, $reader, $unrelated);
		is(join(' ', map { (Cached::ask($gateway, $reader, $read))[0] } 1 .. 2), 'volatile volatile', "$name: and is not kept any more");
	}
	$writer->query($r->{after}) if $r->{after};
	$writer->terminate;
	$master->query($r->{undo}), learn_both($gateway) if $r->{undo};
}

# ---- case 24: an answer that is on its way, from the origin's snapshot to the gateway, while a write comes and goes by a shorter way ----
my $near = $gateway->client(database => 'near');
my @others = ($reader, $gateway->client, $near);
Cached::at_origin($gateway, 'CREATE TABLE raced (i int, v int); INSERT INTO raced VALUES (1, 0)');
learn_both($gateway);
sub raced { my ($what) = @_; return "SELECT v, '$what' FROM raced WHERE i = 1"; }
sub since { return $direct->value('SELECT clock_timestamp()'); }

# The origin has done it since then, and nobody has heard of it; the answer stands still.
sub is_on_its_way
{
	my ($sql, $since, $client) = @_;
	my $done = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'hyperpool' AND state = 'idle' AND query = \$x\$$sql\$x\$ AND query_start > '$since'";
	Gateway::wait_until(sub { $direct->value($done) }, 't');
	$gateway->relay('stall');
	return !$client || !$client->is_answered(0);
}

# Everybody reads the new value, and it is kept in the end.
sub all_read
{
	my ($what, $sql, $value) = @_;
	is(join(' ', map { $_->value($sql) } @others, @others), join(' ', ("$value|$what") x (2 * @others)), "case 24: $what: what was on its way has not been kept");
	is((Cached::warm($gateway, $reader, $sql))[1], "$value|$what", "case 24: $what: the new answer is");
	return;
}
my $version = 0;
my %race = (
	'a Query' => sub { $_[0]->ask($_[1]) },
	'extended messages' => sub { $_[0]->put_raw(RawClient::extended_messages($_[1])) },
	'a statement prepared before' => sub { $_[0]->put_raw(bind_to('', 'raced') . execute('') . $sync) },
	'one that others have joined' => sub { $_[0]->ask($_[1]); },
);
for my $what (sort keys %race)
{
	my $sql = raced($what);
	my $slow = $gateway->client;
	my @joined = $what =~ /joined/ ? map { $gateway->client } 1 .. 3 : ();
	$slow->put_raw(parse('raced', $sql) . $sync), $slow->answer if $what =~ /prepared/;
	my $raced = 0;
	for (1 .. 5)
	{
		$gateway->relay('rtt 600');
		my $since = since();
		$race{$what}->($slow, $sql);
		$_->ask($sql) for @joined;
		$raced = is_on_its_way($sql, $since, $slow);
		$near->query('UPDATE raced SET v = ' . ++$version);
		$raced &&= !$slow->is_answered(0);
		$gateway->relay($_) for 'resume', 'rtt 0';
		like(RawClient::outcome($slow->answer), qr/^\d+\|/, "case 24: $what: who has asked before is answered");
		RawClient::answers(20, @joined) if @joined;
		all_read($what, $sql, $version);
		last if $raced;
		$gateway->sql(qq{SELECT hyperpool.invalidate(query => \$q\$$sql\$q\$)});
	}
	ok($raced, "case 24: $what: the write was acknowledged while the answer was on its way");
	$_->terminate for $slow, @joined;
}

# in the background
{
	my $sql = raced('a refresh');
	$gateway->alter(q{max_age => '300ms', stale_while_revalidate => '1h'});
	Gateway::wait_until(sub { Cached::ask($gateway, $reader, $sql); sleep 0.4; my $before = $gateway->counter('cache_refreshed'); Cached::ask($gateway, $reader, $sql); $gateway->counter('cache_refreshed') > $before ? 1 : 0 }, 1);
	sleep 0.4;
	$gateway->relay('rtt 600');
	my ($since, $refreshed) = (since(), $gateway->counter('cache_refreshed'));
	is((Cached::ask($gateway, $reader, $sql))[1], "$version|a refresh", 'case 24: a refresh: an old answer meanwhile');
	is($gateway->counter('cache_refreshed'), $refreshed + 1, 'case 24: a refresh: it is under way');
	is_on_its_way($sql, $since);
	$near->query('UPDATE raced SET v = ' . ++$version);
	is($near->value($sql), "$version|a refresh", 'case 24: a refresh: by the shorter way the new value');
	$gateway->relay($_) for 'resume', 'rtt 0';
	all_read('a refresh', $sql, $version);
	$gateway->alter(q{max_age => '1h', stale_while_revalidate => '15s'});
}

# in a block of another snapshot
{
	my $sql = raced('a block');
	my $block = $gateway->client;
	$block->query($_) for 'BEGIN ISOLATION LEVEL REPEATABLE READ', $sql;
	$near->query('UPDATE raced SET v = ' . ++$version);
	is($block->value($sql), ($version - 1) . '|a block', 'case 24: a block: it goes on with its snapshot');
	is(RawClient::outcome($block->extended($sql)), ($version - 1) . '|a block', 'case 24: a block: in both forms');
	$block->query('COMMIT');
	all_read('a block', $sql, $version);
}

# the other way round: the write is done and not acknowledged; once one reader has seen it, nobody goes back
{
	my $sql = raced('a write on its way');
	all_read('a write on its way', $sql, $version);
	my @near = map { $gateway->client(database => 'near') } 1 .. 3;
	Cached::warm($gateway, $_, $sql) for @near;
	my $slow = $gateway->client;
	$slow->value('SELECT 1');
	$gateway->relay('rtt 600');
	$slow->ask('UPDATE raced SET v = ' . ++$version);
	Gateway::wait_until(sub { $near[0]->value($sql) }, "$version|a write on its way");
	my $raced = !$slow->is_answered(0);
	is(join(' ', map { $_->value($sql) } (@near) x 3), join(' ', ("$version|a write on its way") x 9), 'case 24: a write on its way: seen by one, seen by all');
	$gateway->relay('rtt 0');
	is($slow->answer->{tags}[0], 'UPDATE 1', 'case 24: a write on its way: it is acknowledged in the end' . ($raced ? ', after it was read' : ''));
	all_read('a write on its way', $sql, $version);
}

$gateway->is_unharmed('afterwards');
done_testing();
