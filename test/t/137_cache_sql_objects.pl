# Objects of every kind, a query and a write: the answer through the gateway (cold, warm, and after the write went through the gateway) is always
# that of a direct connection. What is not repeatable must not be kept at all. (case 23 of docs/testing.md)
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;

# name => { root: SQL by a superuser, make: SQL by the owner, set: of both sessions, read, write: through the gateway, same: the write need not show,
#   loose: may be kept or not, narrow: what is read from another table stays }
my (@cases, @never);
sub case { my ($name, %c) = @_; push @cases, { name => $name, %c }; return; }

# What must never be answered from the cache: name, SQL that makes it, the query; only, where asked for, what the query gives.
sub never { my ($name, $make, $read, %c) = @_; push @never, { name => $name, make => $make, read => $read, %c }; return; }

# ---- views ----
case('view over view over view', make => 'CREATE TABLE a1 (v int); INSERT INTO a1 VALUES (1); CREATE VIEW a2 AS SELECT * FROM a1; CREATE VIEW a3 AS SELECT v + 1 AS v FROM a2; CREATE VIEW a4 AS SELECT v FROM a3 WHERE v > 0',
	read => 'SELECT * FROM a4', write => 'UPDATE a1 SET v = 5', narrow => 1);
case('a view under it is replaced', make => 'CREATE VIEW b1 AS SELECT 1 AS v; CREATE VIEW b2 AS SELECT v FROM b1', read => 'TABLE b2', write => 'CREATE OR REPLACE VIEW b1 AS SELECT 2 AS v');
case('updatable view on an updatable view', make => 'CREATE TABLE c1 (i int, v int); INSERT INTO c1 VALUES (1, 1); CREATE VIEW c2 AS SELECT * FROM c1 WHERE i = 1; CREATE VIEW c3 AS SELECT v FROM c2',
	read => 'SELECT v FROM c1', write => 'UPDATE c3 SET v = 9', narrow => 1);
case('WITH CHECK OPTION and INSERT by a view', make => 'CREATE TABLE c4 (i int); CREATE VIEW c5 AS SELECT i FROM c4 WHERE i > 0 WITH CHECK OPTION', read => 'SELECT count(*) FROM c4', write => 'INSERT INTO c5 VALUES (1), (2)');
case('security_invoker', make => 'CREATE TABLE c6 (v int); INSERT INTO c6 VALUES (1); CREATE VIEW c7 WITH (security_invoker = true) AS SELECT v FROM c6', read => 'SELECT v FROM c7', write => 'REVOKE SELECT ON c6 FROM app');
case('a view with a subquery in its list', make => 'CREATE TABLE d1 (v int); INSERT INTO d1 VALUES (1); CREATE VIEW d2 AS SELECT (SELECT max(v) FROM d1) AS m', read => 'SELECT m FROM d2', write => 'INSERT INTO d1 VALUES (7)', narrow => 1);
case('a recursive view', make => 'CREATE TABLE d3 (i int, up int); INSERT INTO d3 VALUES (1, NULL), (2, 1); CREATE RECURSIVE VIEW d4 (i) AS SELECT i FROM d3 WHERE up IS NULL UNION ALL SELECT d3.i FROM d3 JOIN d4 ON d3.up = d4.i',
	read => 'SELECT count(*) FROM d4', write => 'INSERT INTO d3 VALUES (3, 2)');
case('INSTEAD OF INSERT', make => q{CREATE TABLE e1 (v int); CREATE VIEW e2 AS SELECT 0 AS v; CREATE FUNCTION e3() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO e1 VALUES (NEW.v); RETURN NEW; END $$;
	CREATE TRIGGER e3 INSTEAD OF INSERT ON e2 FOR EACH ROW EXECUTE FUNCTION e3()}, read => 'SELECT sum(v) FROM e1', write => 'INSERT INTO e2 VALUES (4)');
case('a rule that does something instead', make => 'CREATE TABLE e4 (v int); CREATE TABLE e5 (v int); CREATE RULE r AS ON INSERT TO e4 DO INSTEAD INSERT INTO e5 VALUES (NEW.v)', read => 'SELECT count(*) FROM e5', write => 'INSERT INTO e4 VALUES (1)');
case('a rule on a view', make => 'CREATE TABLE e6 (v int); INSERT INTO e6 VALUES (1); CREATE VIEW e7 AS SELECT 1 AS v; CREATE RULE r AS ON DELETE TO e7 DO INSTEAD DELETE FROM e6', read => 'SELECT count(*) FROM e6', write => 'DELETE FROM e7');
case('a materialized view over a view', make => 'CREATE TABLE f1 (v int); INSERT INTO f1 VALUES (1); CREATE VIEW f2 AS SELECT v FROM f1; CREATE MATERIALIZED VIEW f3 AS SELECT v FROM f2; CREATE UNIQUE INDEX ON f3 (v); UPDATE f1 SET v = 2',
	read => 'SELECT v FROM f3', write => 'REFRESH MATERIALIZED VIEW CONCURRENTLY f3');

# ---- functions ----
case('SQL function, immutable by its own account', make => q{CREATE TABLE g1 (v int); INSERT INTO g1 VALUES (1); CREATE FUNCTION g2() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT max(v) FROM g1'}, read => 'SELECT g2()', write => 'UPDATE g1 SET v = 2');
case('SQL function with a body of its own', make => q{CREATE TABLE g3 (v int); INSERT INTO g3 VALUES (1); CREATE FUNCTION g4() RETURNS int LANGUAGE sql STABLE RETURN (SELECT max(v) FROM g3)}, read => 'SELECT g4()', write => 'UPDATE g3 SET v = 2', loose => 1);
case('a view over such a function', make => q{CREATE TABLE g5 (v int); INSERT INTO g5 VALUES (1); CREATE FUNCTION g6() RETURNS SETOF g5 LANGUAGE sql IMMUTABLE AS 'SELECT * FROM g5'; CREATE VIEW g7 AS SELECT * FROM g6() x}, read => 'SELECT * FROM g7', write => 'UPDATE g5 SET v = 2');
case('functional notation', make => q{CREATE TABLE h1 (v int); INSERT INTO h1 VALUES (1); CREATE TABLE h2 (w int); INSERT INTO h2 VALUES (1); CREATE FUNCTION twice(h1) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.v * w FROM h2'},
	read => 'SELECT h1.twice, (h1).twice, twice(h1) FROM h1', write => 'UPDATE h2 SET w = 3');
case('functional notation, polymorphic', make => q{CREATE TABLE h3 (v int); INSERT INTO h3 VALUES (1); CREATE TABLE h4 (w int); INSERT INTO h4 VALUES (1); CREATE FUNCTION looks(anyelement) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(w) FROM h4'},
	read => 'SELECT x.looks FROM h3 x', write => 'INSERT INTO h4 VALUES (3)', loose => 1);
case('an aggregate of SQL functions', make => q{CREATE TABLE i1 (v int); INSERT INTO i1 VALUES (1); CREATE FUNCTION i2(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2 * (SELECT max(v) FROM i1)';
	CREATE AGGREGATE i3(int) (SFUNC = i2, STYPE = int, INITCOND = 0)}, read => 'SELECT i3(x) FROM generate_series(1, 3) x', write => 'UPDATE i1 SET v = 2');
case('an operator of an SQL function', make => q{CREATE TABLE i4 (v int); INSERT INTO i4 VALUES (1); CREATE FUNCTION i5(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 + $2 * (SELECT max(v) FROM i4); END';
	CREATE OPERATOR +* (FUNCTION = i5, LEFTARG = int, RIGHTARG = int)}, read => 'SELECT 1 +* 2', write => 'UPDATE i4 SET v = 2');
case('a default of an argument', make => q{CREATE TABLE i6 (v int); INSERT INTO i6 VALUES (1); CREATE FUNCTION i7() RETURNS int LANGUAGE sql STABLE AS 'SELECT max(v) FROM i6'; CREATE FUNCTION i8(int, b int DEFAULT i7()) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'},
	read => 'SELECT i8(1)', write => 'UPDATE i6 SET v = 2', loose => 1);
case('a set in FROM, LATERAL', make => 'CREATE TABLE j1 (v int); INSERT INTO j1 VALUES (2)', read => 'SELECT v, g FROM j1, LATERAL generate_series(1, v) g ORDER BY 2', write => 'UPDATE j1 SET v = 3', narrow => 1);
case('ROWS FROM, WITH ORDINALITY', make => q{CREATE TABLE j2 (v int[]); INSERT INTO j2 VALUES ('{1,2}')}, read => 'SELECT x.* FROM j2, ROWS FROM (unnest(v), generate_series(1, 2)) WITH ORDINALITY x', write => q{UPDATE j2 SET v = '{4,5}'});
case('SECURITY DEFINER', root => q{CREATE TABLE j3 (v int); INSERT INTO j3 VALUES (1); CREATE FUNCTION j4() RETURNS int LANGUAGE sql IMMUTABLE SECURITY DEFINER AS 'SELECT max(v) FROM j3'; CREATE PROCEDURE j5() LANGUAGE sql SECURITY DEFINER AS 'UPDATE j3 SET v = 8'},
	read => 'SELECT j4()', write => 'CALL j5()');
case('EXECUTE is taken away', root => q{CREATE FUNCTION j6() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; ALTER FUNCTION j6() OWNER TO app}, read => 'SELECT j6()', write => 'REVOKE EXECUTE ON FUNCTION j6() FROM PUBLIC, app');

# ---- types, casts, domains ----
case('a cast that is asked for, from a type of a user', root => q{CREATE TYPE k1 AS ENUM ('a', 'b'); CREATE TABLE k2 (k k1, rank int); INSERT INTO k2 VALUES ('a', 1); CREATE FUNCTION k3(k1) RETURNS int LANGUAGE sql STABLE AS 'SELECT rank FROM k2 WHERE k = $1';
	CREATE CAST (k1 AS int) WITH FUNCTION k3(k1); CREATE TABLE k4 (k k1); INSERT INTO k4 VALUES ('a'); GRANT ALL ON k2, k4 TO app}, read => 'SELECT k::int FROM k4', write => 'UPDATE k2 SET rank = 2', loose => 1);
case('a cast of a row', root => q{CREATE TABLE k5 (v int); INSERT INTO k5 VALUES (1); CREATE TABLE k6 (w int); INSERT INTO k6 VALUES (1); GRANT ALL ON k5, k6 TO app; CREATE FUNCTION k7(k5) RETURNS int LANGUAGE sql STABLE AS 'SELECT max(w) FROM k6';
	CREATE CAST (k5 AS int) WITH FUNCTION k7(k5) AS IMPLICIT}, read => 'SELECT k5::int, k5 + 1 FROM k5', write => 'UPDATE k6 SET w = 2', loose => 1);
case('a cast between built-in types', root => q{CREATE TABLE k8 (v int); INSERT INTO k8 VALUES (1); GRANT ALL ON k8 TO app; CREATE FUNCTION k9(text) RETURNS point LANGUAGE sql STABLE AS 'SELECT point(max(v), 0) FROM k8';
	CREATE CAST (text AS point) WITH FUNCTION k9(text)}, read => q{SELECT (x || '')::point FROM (VALUES ('a')) t (x)}, write => 'UPDATE k8 SET v = 2', loose => 1);
case('an implicit cast to a type of a user', make => q{CREATE TABLE l1 (v int); INSERT INTO l1 VALUES (1); CREATE TYPE l2 AS (x int); CREATE FUNCTION l3(int) RETURNS l2 LANGUAGE sql STABLE AS 'SELECT row(max(v))::l2 FROM l1';
	CREATE CAST (int AS l2) WITH FUNCTION l3(int) AS IMPLICIT; CREATE FUNCTION l4(l2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.x'}, read => 'SELECT l4(5)', write => 'UPDATE l1 SET v = 2', loose => 1);
case('ALTER TYPE ADD VALUE', make => q{CREATE TYPE m1 AS ENUM ('a', 'c')}, read => 'SELECT enum_range(NULL::m1)', write => q{ALTER TYPE m1 ADD VALUE 'b' BEFORE 'c'});
case('ALTER TYPE RENAME VALUE', make => q{CREATE TYPE m2 AS ENUM ('a', 'c'); CREATE TABLE m3 (m m2); INSERT INTO m3 VALUES ('a')}, read => 'SELECT m FROM m3', write => q{ALTER TYPE m2 RENAME VALUE 'a' TO 'z'});
case('ALTER TYPE ADD ATTRIBUTE', make => 'CREATE TYPE m4 AS (a int); CREATE TABLE m5 (m m4); INSERT INTO m5 VALUES (row(1))', read => 'SELECT m, (m).* FROM m5', write => 'ALTER TYPE m4 ADD ATTRIBUTE b text');
case('ALTER DOMAIN ADD CHECK', make => 'CREATE DOMAIN m6 AS int', read => 'SELECT 7::m6', write => 'ALTER DOMAIN m6 ADD CHECK (VALUE < 5)');
case('a domain that looks into a table', make => q{CREATE TABLE m7 (v int); INSERT INTO m7 VALUES (7); CREATE FUNCTION m8(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT EXISTS (SELECT FROM m7 WHERE v = $1)'; CREATE DOMAIN m9 AS int CHECK (m8(VALUE))},
	read => 'SELECT 7::m9', write => 'UPDATE m7 SET v = 8');
case('arrays of domains and of rows', make => q{CREATE DOMAIN n1 AS int CHECK (VALUE > 0); CREATE TYPE n2 AS (a n1, b text); CREATE TABLE n3 (x n1[], y n2[]); INSERT INTO n3 VALUES ('{1,2}', ARRAY[row(1, 'x')::n2])}, read => 'SELECT x[1], y[1].b, y FROM n3', write => q{UPDATE n3 SET x = '{5}'}, narrow => 1);
case('ranges', make => q{CREATE TYPE n4 AS RANGE (SUBTYPE = float8); CREATE TABLE n5 (r n4); INSERT INTO n5 VALUES ('[1,2)')}, read => 'SELECT r, r @> 1.5::float8, lower(r) FROM n5', write => q{UPDATE n5 SET r = '[5,6)'});
case('a collation', make => q{CREATE COLLATION n6 FROM "C"; CREATE TABLE n7 (t text COLLATE n6); INSERT INTO n7 VALUES ('b'), ('A')}, read => 'SELECT t FROM n7 ORDER BY t COLLATE n6', write => q{INSERT INTO n7 VALUES ('a')});
case('regclass in a column', make => 'CREATE TABLE n8 (); CREATE TABLE n9 (c regclass); INSERT INTO n9 VALUES ($$n8$$)', read => 'SELECT c FROM n9', write => 'ALTER TABLE n8 RENAME TO n8_b');

# ---- columns ----
case('a generated column', make => 'CREATE TABLE o1 (v int, w int GENERATED ALWAYS AS (v * 2) STORED); INSERT INTO o1 VALUES (1)', read => 'SELECT w FROM o1', write => 'UPDATE o1 SET v = 2', narrow => 1);
case('identity and defaults', make => q{CREATE TABLE o2 (i int GENERATED ALWAYS AS IDENTITY, t text DEFAULT upper('x'), at timestamptz DEFAULT now()); INSERT INTO o2 DEFAULT VALUES}, read => 'SELECT i, t FROM o2 ORDER BY i', write => 'INSERT INTO o2 DEFAULT VALUES', narrow => 1);
case('serial and RETURNING', make => 'CREATE TABLE o3 (i serial, v int)', read => 'SELECT count(*) FROM o3', write => 'INSERT INTO o3 (v) VALUES (1) RETURNING i', narrow => 1);
case('whole rows', make => 'CREATE TABLE o4 (a int, b text); INSERT INTO o4 VALUES (1, $$x$$)', read => 'SELECT o4, o4.*, row_to_json(o4), (o4).a FROM o4', write => 'UPDATE o4 SET b = $$y$$', narrow => 1);
case('a column added with a default', make => 'CREATE TABLE o5 (a int); INSERT INTO o5 VALUES (1)', read => 'SELECT o5 FROM o5', write => 'ALTER TABLE o5 ADD b int DEFAULT 3');
case('ctid and VACUUM FULL', make => 'CREATE TABLE o6 (a int); INSERT INTO o6 VALUES (1), (2); DELETE FROM o6 WHERE a = 1', read => 'SELECT ctid FROM o6', write => 'VACUUM FULL o6');
case('ctid and CLUSTER', make => 'CREATE TABLE o7 (a int PRIMARY KEY); INSERT INTO o7 VALUES (2), (1)', read => 'SELECT ctid FROM o7 WHERE a = 1', write => 'CLUSTER o7 USING o7_pkey');
case('tableoid', make => 'CREATE TABLE o8 (a int) PARTITION BY LIST (a); CREATE TABLE o8_1 PARTITION OF o8 FOR VALUES IN (1); CREATE TABLE o8_2 PARTITION OF o8 DEFAULT; INSERT INTO o8 VALUES (1)', read => 'SELECT tableoid::regclass FROM o8', write => 'UPDATE o8 SET a = 5', narrow => 1);

# ---- families ----
case('a partition detached', make => 'CREATE TABLE p1 (a int) PARTITION BY LIST (a); CREATE TABLE p1_1 PARTITION OF p1 DEFAULT; INSERT INTO p1 VALUES (1)', read => 'SELECT count(*) FROM p1', write => 'ALTER TABLE p1 DETACH PARTITION p1_1');
case('a partition attached, then written', make => 'CREATE TABLE p2 (a int) PARTITION BY LIST (a); CREATE TABLE p2_1 (a int)', read => 'SELECT count(*) FROM p2', write => [ 'ALTER TABLE p2 ATTACH PARTITION p2_1 DEFAULT', 'INSERT INTO p2_1 VALUES (1)' ]);
case('ALTER TABLE INHERIT', make => 'CREATE TABLE p3 (a int); CREATE TABLE p4 (a int); INSERT INTO p4 VALUES (1)', read => 'SELECT count(*) FROM p3', write => 'ALTER TABLE p4 INHERIT p3');
case('two parents', make => 'CREATE TABLE p5 (a int); CREATE TABLE p6 (b int); CREATE TABLE p7 () INHERITS (p5, p6); INSERT INTO p7 VALUES (1, 2)', read => 'SELECT a FROM p5', write => 'UPDATE p6 SET b = 3; DELETE FROM p6');
case('TRUNCATE of a partition', make => 'CREATE TABLE p8 (a int) PARTITION BY LIST (a); CREATE TABLE p8_1 PARTITION OF p8 DEFAULT; INSERT INTO p8 VALUES (1)', read => 'SELECT count(*) FROM p8', write => 'TRUNCATE p8_1');

# ---- keys, triggers ----
case('SET DEFAULT, then CASCADE further on', make => 'CREATE TABLE q1 (k int PRIMARY KEY); INSERT INTO q1 VALUES (0), (1); CREATE TABLE q2 (k int UNIQUE DEFAULT 0 REFERENCES q1 ON DELETE SET DEFAULT); INSERT INTO q2 VALUES (1);
	CREATE TABLE q3 (k int REFERENCES q2 (k) ON UPDATE CASCADE); INSERT INTO q3 VALUES (1)', read => 'SELECT k FROM q3', write => 'DELETE FROM q1 WHERE k = 1', narrow => 1);
case('a key to itself', make => 'CREATE TABLE q4 (i int PRIMARY KEY, up int REFERENCES q4 ON DELETE CASCADE); INSERT INTO q4 VALUES (1, NULL), (2, 1), (3, 2)', read => 'SELECT count(*) FROM q4', write => 'DELETE FROM q4 WHERE i = 1', narrow => 1);
case('a key of partitioned tables', make => 'CREATE TABLE q5 (i int PRIMARY KEY) PARTITION BY LIST (i); CREATE TABLE q5_1 PARTITION OF q5 DEFAULT; CREATE TABLE q6 (i int REFERENCES q5 ON DELETE SET NULL) PARTITION BY LIST (i);
	CREATE TABLE q6_1 PARTITION OF q6 DEFAULT; INSERT INTO q5 VALUES (1); INSERT INTO q6 VALUES (1)', read => 'SELECT count(i) FROM q6_1', write => 'DELETE FROM q5_1', narrow => 1);
case('a deferred constraint trigger', make => q{CREATE TABLE q7 (v int); CREATE TABLE q8 (v int); CREATE FUNCTION q9() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO q8 VALUES (NEW.v); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER q9 AFTER INSERT ON q7 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION q9()}, read => 'SELECT count(*) FROM q8', write => [ 'BEGIN', 'INSERT INTO q7 VALUES (1)', 'COMMIT' ]);
case('a trigger with a transition table', make => q{CREATE TABLE r1 (v int); CREATE TABLE r2 (n int); CREATE FUNCTION r3() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO r2 SELECT count(*) FROM fresh; RETURN NULL; END $$;
	CREATE TRIGGER r3 AFTER INSERT ON r1 REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION r3()}, read => 'SELECT sum(n) FROM r2', write => 'INSERT INTO r1 VALUES (1), (2)');
case('a trigger of a partition', make => q{CREATE TABLE r4 (v int) PARTITION BY LIST (v); CREATE TABLE r4_1 PARTITION OF r4 DEFAULT; CREATE TABLE r5 (v int); CREATE FUNCTION r6() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO r5 VALUES (1); RETURN NEW; END $$;
	CREATE TRIGGER r6 BEFORE INSERT ON r4_1 FOR EACH ROW EXECUTE FUNCTION r6()}, read => 'SELECT count(*) FROM r5', write => 'INSERT INTO r4 VALUES (1)');
case('a trigger on what a key cascades to', make => q{CREATE TABLE s1 (k int PRIMARY KEY); CREATE TABLE s2 (k int REFERENCES s1 ON DELETE CASCADE); CREATE TABLE s3 (v int); INSERT INTO s1 VALUES (1); INSERT INTO s2 VALUES (1);
	CREATE FUNCTION s4() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO s3 VALUES (1); RETURN NULL; END $$; CREATE TRIGGER s4 AFTER DELETE ON s2 FOR EACH ROW EXECUTE FUNCTION s4()}, read => 'SELECT count(*) FROM s3', write => 'DELETE FROM s1');
case('TRUNCATE CASCADE', make => 'CREATE TABLE s5 (k int PRIMARY KEY); CREATE TABLE s6 (k int REFERENCES s5); INSERT INTO s5 VALUES (1); INSERT INTO s6 VALUES (1)', read => 'SELECT count(*) FROM s6', write => 'TRUNCATE s5 CASCADE');

# ---- who may see what ----
case('a policy that asks another table', make => 'CREATE TABLE t1 (v int); INSERT INTO t1 VALUES (1); CREATE TABLE t2 (v int); INSERT INTO t2 VALUES (1), (2); ALTER TABLE t2 ENABLE ROW LEVEL SECURITY; ALTER TABLE t2 FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON t2 USING (v IN (SELECT v FROM t1))', read => 'SELECT count(*) FROM t2', write => 'INSERT INTO t1 VALUES (2)', narrow => 1);
case('a policy seen through a view', make => 'CREATE TABLE t3 (v int); INSERT INTO t3 VALUES (1); CREATE TABLE t4 (v int); INSERT INTO t4 VALUES (1), (2); ALTER TABLE t4 ENABLE ROW LEVEL SECURITY; ALTER TABLE t4 FORCE ROW LEVEL SECURITY;
	CREATE POLICY p ON t4 USING (EXISTS (SELECT FROM t3 WHERE t3.v = t4.v)); CREATE VIEW t5 AS SELECT v FROM t4', read => 'SELECT count(*) FROM t5', write => 'DELETE FROM t3');
case('DROP POLICY', make => 'CREATE TABLE t6 (v int); INSERT INTO t6 VALUES (1); ALTER TABLE t6 ENABLE ROW LEVEL SECURITY; ALTER TABLE t6 FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t6 USING (true)', read => 'SELECT count(*) FROM t6', write => 'DROP POLICY p ON t6');
case('REVOKE of a column', root => 'CREATE TABLE t7 (v int); GRANT SELECT (v) ON t7 TO app; ALTER TABLE t7 OWNER TO app', read => 'SELECT count(v) FROM t7', write => 'REVOKE ALL ON t7 FROM app; REVOKE ALL (v) ON t7 FROM app');
case('has_table_privilege', root => 'CREATE ROLE somebody', make => 'CREATE TABLE t8 ()', read => q{SELECT has_table_privilege('somebody', 't8', 'select')}, write => 'GRANT SELECT ON t8 TO somebody');
case('row_security', make => 'CREATE TABLE t9 (v int); INSERT INTO t9 VALUES (1); ALTER TABLE t9 ENABLE ROW LEVEL SECURITY; ALTER TABLE t9 FORCE ROW LEVEL SECURITY', read => 'SELECT count(*) FROM t9', write => [], set => 'SET row_security = off', same => 1, loose => 1);

# ---- texts of all kinds ----
my $plain = sub { return "CREATE TABLE $_[0] (i int PRIMARY KEY, v int); INSERT INTO $_[0] VALUES (1, 0), (2, 0)" };
case('a CTE that hides its table', make => $plain->('u1'), read => 'WITH u1 AS (SELECT v + 1 AS v FROM u1) SELECT sum(v) FROM u1', write => 'UPDATE u1 SET v = 4', narrow => 1);
case('a CTE, and the table by its schema', make => $plain->('u2'), read => 'WITH u2 AS (SELECT 1 AS v) SELECT sum(a.v + b.v) FROM u2 a, public.u2 b', write => 'UPDATE u2 SET v = 4', narrow => 1);
case('a CTE visible in one arm only', make => $plain->('u3'), read => '(WITH u3 AS (SELECT 1 AS v) SELECT v FROM u3) UNION ALL SELECT v FROM u3', write => 'UPDATE u3 SET v = 4', narrow => 1);
case('a CTE of an inner query', make => $plain->('u4'), read => 'SELECT (WITH u4 AS (SELECT 1 AS v) SELECT v FROM u4), max(v) FROM u4', write => 'UPDATE u4 SET v = 4', narrow => 1);
case('CTEs of writes', make => $plain->('u5') . ';' . $plain->('u6'), read => 'SELECT sum(v) FROM u6', write => 'WITH u6 AS (UPDATE u5 SET v = 1 RETURNING v), x AS (UPDATE public.u6 SET v = 2) SELECT * FROM u6', narrow => 1);
case('INSERT … SELECT from itself', make => $plain->('u7'), read => 'SELECT count(*) FROM u7', write => 'INSERT INTO u7 SELECT i + 2, v FROM u7', narrow => 1);
case('UPDATE … FROM, DELETE … USING', make => $plain->('u8') . ';' . $plain->('u9'), read => 'SELECT count(*), sum(v) FROM u8', write => [ 'UPDATE u8 SET v = u9.i FROM u9 WHERE u9.i = u8.i', 'DELETE FROM u8 USING u9 WHERE u8.i = u9.i AND u9.i = 1' ], narrow => 1);
case('ON CONFLICT', make => $plain->('v1'), read => 'SELECT v FROM v1 ORDER BY i', write => 'INSERT INTO v1 VALUES (1, 1) ON CONFLICT (i) DO UPDATE SET v = excluded.v + 5', narrow => 1);
case('VALUES, TABLE, no FROM', make => $plain->('v2'), read => 'SELECT * FROM (VALUES (1), (2)) x (i) JOIN (TABLE v2) y USING (i) ORDER BY 1', write => 'UPDATE v2 SET v = 6', narrow => 1);
case('names of many kinds', make => 'CREATE TABLE "Größe A" ("Wert.1" int); INSERT INTO "Größe A" VALUES (1)', read => 'SELECT "Wert.1" FROM "Größe A"', write => 'UPDATE "Größe A" SET "Wert.1" = 2', narrow => 1);
case('a name by U&', make => 'CREATE TABLE "dat\\a" (v int); INSERT INTO "dat\\a" VALUES (1)', read => 'SELECT v FROM U&"d\\0061t\\\\a"', write => 'UPDATE "dat\\a" SET v = 2', narrow => 1);
case('a name that is too long', make => 'CREATE TABLE ' . ('n' x 63) . ' (v int); INSERT INTO ' . ('n' x 63) . ' VALUES (1)', read => 'SELECT v FROM ' . ('n' x 80), write => 'UPDATE ' . ('n' x 70) . ' SET v = 2', loose => 1);
case('an alias like a table', make => $plain->('v3') . ';' . $plain->('v4'), read => 'SELECT v3.v FROM v4 v3 WHERE i = 1', write => 'UPDATE v4 v3 SET v = 3', narrow => 1);
case('a cursor', make => $plain->('v5'), read => 'SELECT v FROM v5 ORDER BY i', write => [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT * FROM v5 WHERE i = 2 FOR UPDATE', 'FETCH c', 'DELETE FROM v5 WHERE CURRENT OF c', 'COMMIT' ], narrow => 1);
case('a cursor WITH HOLD that writes', make => $plain->('v6') . q{; CREATE FUNCTION v7(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE v6 SET v = $1; RETURN 1; END $$},
	read => 'SELECT v FROM v6', write => [ 'BEGIN', 'DECLARE c CURSOR WITH HOLD FOR SELECT v7(5)', 'COMMIT', 'DISCARD ALL' ]);
case('EXPLAIN ANALYZE of a function', make => $plain->('v8') . q{; CREATE FUNCTION v9() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE v8 SET v = 7; RETURN 1; END $$}, read => 'SELECT v FROM v8', write => 'EXPLAIN ANALYZE SELECT v9()');
case('COPY of a query that writes', make => $plain->('w1'), read => 'SELECT v FROM w1', write => 'COPY (UPDATE w1 SET v = 3 RETURNING v) TO STDOUT', narrow => 1);
case('CREATE TABLE AS EXECUTE', make => $plain->('w2'), read => 'SELECT v FROM w2', write => [ 'PREPARE w AS UPDATE w2 SET v = 3 RETURNING v', 'EXECUTE w', 'DISCARD ALL' ]);
case('DO that does DDL', make => 'CREATE TABLE w3 (v int); INSERT INTO w3 VALUES (1)', read => 'SELECT * FROM w3', write => q{DO $$ BEGIN EXECUTE 'ALTER TABLE w3 ADD x int'; END $$});
case('UNION of types', make => $plain->('w4'), read => 'SELECT v FROM w4 UNION SELECT 1.5 ORDER BY 1', write => 'UPDATE w4 SET v = 8', narrow => 1);
case('XMLTABLE, GROUPING SETS, FILTER', make => $plain->('w5'), read => 'SELECT i, sum(v) FILTER (WHERE v > 0), grouping(i) FROM w5 GROUP BY GROUPING SETS ((i), ()) ORDER BY 1', write => 'UPDATE w5 SET v = 8', narrow => 1);
case('a temporary table does not stand for the permanent one', make => $plain->('w6'), read => 'SELECT sum(v) FROM w6', write => [ 'CREATE TEMP TABLE w6 (i int, v int)', 'INSERT INTO w6 VALUES (1, 100)', 'SELECT sum(v) FROM w6', 'DISCARD ALL' ], same => 1);

# ---- settings ----
case("with $_->[0]", make => '', set => "SET $_->[0]", read => $_->[1], write => [], same => 1)
  for [ q{TimeZone = 'Asia/Kolkata'}, q{SELECT '2020-01-01 00:00+00'::timestamptz, extract(hour FROM '2020-01-01 00:00+00'::timestamptz)} ], [ q{DateStyle = 'SQL, DMY'}, q{SELECT '03/04/2020'::date} ], [ 'IntervalStyle = iso_8601', q{SELECT interval '1 day 2 hours'} ],
  [ 'bytea_output = escape', q{SELECT 'x'::bytea} ], [ 'extra_float_digits = -5', 'SELECT 1::float8 / 3' ], [ q{lc_monetary = 'C'}, q{SELECT 12::money::text} ], [ 'search_path = information_schema, public', 'SELECT count(*) > 0 FROM tables' ],
  [ 'xmloption = document', q{SELECT xml_is_well_formed('a')} ], [ q{default_text_search_config = 'pg_catalog.german'}, q{SELECT to_tsvector('Die Katzen')} ], [ 'array_nulls = off', q{SELECT '{NULL}'::text[]} ], [ 'quote_all_identifiers = on', q{SELECT pg_get_viewdef('a2')} ];
case('with an UPDATE of pg_settings', make => '', set => q{UPDATE pg_settings SET setting = '-5' WHERE name = 'extra_float_digits'}, read => 'SELECT 1::float8 / 3', write => [], same => 1);
case('a text that differs by its backslashes', set => 'SET standard_conforming_strings = off', read => q{SELECT 'a\\x62', length('a\\x62')}, write => [], same => 1, loose => 1);

# ---- catalogs ----
case('pg_class', make => '', read => q{SELECT count(*) FROM pg_class WHERE relname ~ '^x1'}, write => 'CREATE TABLE x1 (); CREATE INDEX ON x1 ((1))');
case('information_schema', make => 'CREATE TABLE x2 (a int)', read => q{SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'x2' ORDER BY 1}, write => 'ALTER TABLE x2 ADD b text');
case('comments', make => 'CREATE TABLE x3 (a int)', read => q{SELECT obj_description('x3'::regclass)}, write => q{COMMENT ON TABLE x3 IS 'three'});
case('reltuples after ANALYZE', make => 'CREATE TABLE x4 AS SELECT generate_series(1, 50) a', read => q{SELECT reltuples FROM pg_class WHERE relname = 'x4'}, write => 'ANALYZE x4');
case('CREATE INDEX CONCURRENTLY', make => 'CREATE TABLE x5 (a int)', read => q{SELECT count(*) FROM pg_indexes WHERE tablename = 'x5'}, write => 'CREATE INDEX CONCURRENTLY x5_a ON x5 (a)');
case('statistics objects', make => 'CREATE TABLE x6 (a int, b int)', read => q{SELECT count(*) FROM pg_statistic_ext WHERE stxname = 'x6_s'}, write => 'CREATE STATISTICS x6_s ON a, b FROM x6', loose => 1);
case('publications', make => 'CREATE TABLE x7 (a int)', root => 'GRANT CREATE ON DATABASE app TO app', read => q{SELECT count(*) FROM pg_publication_tables WHERE tablename = 'x7'}, write => 'CREATE PUBLICATION x7_p FOR TABLE x7', loose => 1);
case('pg_get_viewdef', make => 'CREATE VIEW x8 AS SELECT 1 AS a', read => q{SELECT pg_get_viewdef('x8')}, write => 'CREATE OR REPLACE VIEW x8 AS SELECT 2 AS a');
case('to_regclass', make => '', read => q{SELECT to_regclass('x9')}, write => 'CREATE TABLE x9 ()');
case('current_schema', make => '', set => 'SET search_path = x10, public', read => 'SELECT current_schema()', write => 'CREATE SCHEMA x10');
case('temporary tables in the catalogs', make => '', read => q{SELECT count(*) FROM pg_class WHERE relname = 'x11'}, write => 'CREATE TEMP TABLE x11 ()');
case('temporary tables that go', make => '', read => q{SELECT count(*) FROM pg_class WHERE relname = 'x11'}, write => 'DISCARD TEMP');
case('ALTER ROLE SET', make => '', read => q{SELECT rolconfig FROM pg_roles WHERE rolname = 'app'}, write => q{ALTER ROLE app SET work_mem = '5MB'});
case('a sequence by its parameters', make => 'CREATE SEQUENCE y1', read => q{SELECT increment_by FROM pg_sequences WHERE sequencename = 'y1'}, write => 'ALTER SEQUENCE y1 INCREMENT 5', loose => 1);

# ---- what is not repeatable ----
never('random() in a view', 'CREATE VIEW z1 AS SELECT random() AS r', 'SELECT r FROM z1');
never('TABLESAMPLE', 'CREATE TABLE z2 AS SELECT generate_series(1, 2000) v', 'SELECT count(*) FROM z2 TABLESAMPLE bernoulli (50)');
never('TABLESAMPLE in a view', 'CREATE VIEW z3 AS SELECT count(*) FROM z2 TABLESAMPLE bernoulli (50)', 'SELECT * FROM z3');
never('TABLESAMPLE in a policy', 'CREATE TABLE z4 (v int); ALTER TABLE z4 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON z4 USING (v < (SELECT count(*) FROM z2 TABLESAMPLE system (50)))', 'SELECT * FROM z4');
never('a default of an argument: the clock', q{CREATE FUNCTION z5(int, at timestamptz DEFAULT clock_timestamp()) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $2::text'}, 'SELECT z5(1)');
never('a default of an argument: chance', q{CREATE FUNCTION z6(float8 DEFAULT random()) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'}, 'SELECT z6()');
never('a default of an argument: a sequence', q{CREATE SEQUENCE z7; CREATE FUNCTION z8(bigint DEFAULT nextval('z7')) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1'}, 'SELECT z8()');
never('now() in a domain', q{CREATE DOMAIN z9 AS text CHECK (VALUE < now()::text)}, q{SELECT '1'::z9});
never('the session', '', 'SELECT -pg_backend_pid()');    # a positive one may look like an SQLSTATE
never('a setting', '', q{SELECT current_setting('application_name')});
never('a setting in a view', q{CREATE VIEW z10 AS SELECT current_setting('my.x', true) AS x}, 'SELECT x FROM z10');
never('a setting in a policy', q{CREATE TABLE z11 (t text); ALTER TABLE z11 ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON z11 USING (t = current_setting('my.x', true))}, 'SELECT count(*) FROM z11');
never('transactions', '', 'SELECT pg_current_snapshot()');
never('sizes', 'CREATE TABLE z12 ()', q{SELECT pg_relation_size('z12')});
never('activity', '', 'SELECT count(*) FROM pg_stat_user_tables');
never('a sequence', 'CREATE SEQUENCE z13', 'SELECT last_value FROM z13');
never('pg_sequences', '', 'SELECT last_value FROM pg_sequences');
never('the clock in a date of text', '', q{SELECT '"today"'::jsonb, timestamptz ' NOW '});
never('the zone of a time of day', '', q{SELECT '04:05'::timetz});
never('SELECT FOR SHARE', '', 'SELECT v FROM z2 WHERE v = 1 FOR SHARE');
never('pg_stats', '', 'SELECT count(*) FROM pg_stats');
never('large objects', '', 'SELECT count(*) FROM pg_largeobject_metadata');

# ---- all of it ----
my $gateway = Cached::start(workers => 2, options => q{max_age => '1h'}, create => 0);
my $origin = $gateway->{origin};
$origin->safe_psql('app', 'CREATE TABLE unrelated (v int); INSERT INTO unrelated VALUES (1); GRANT ALL ON unrelated TO app; ALTER SCHEMA public OWNER TO app');
$origin->safe_psql('app', join ";\n", map { ($_->{root} // '', $_->{make} ? "SET ROLE app; $_->{make}; RESET ROLE" : '') } @cases, @never);
$gateway->create('app', q{cache => true, max_age => '1h'});
Cached::learn($gateway);
my ($reader, $writer, $direct) = ($gateway->client, $gateway->client, $gateway->direct(database => 'app'));
my $counts = RawClient->new(port => $gateway->{region}->port, user => scalar getpwuid($>), database => 'postgres');

sub hits { return $counts->value(q{SELECT cache_hit FROM hyperpool.stat_origins WHERE origin = 'app'}); }

# Was it a hit, and the answer.
sub ask
{
	my ($sql) = @_;
	my $before = hits();
	my $answer = RawClient::outcome($reader->query($sql));
	return (hits() > $before ? 1 : 0, $answer);
}

# In an answer of the database an OID or a name of a temporary schema may stand; none of these cases shows any.
sub truth { return RawClient::outcome($direct->query($_[0])); }

# After DDL nothing is kept until the catalog has been read anew; then what should not be kept would be.
sub known { is((warm('SELECT v FROM unrelated'))[0], 1, 'the catalog is known'); return; }

# Until it comes from the cache; never longer than the catalog takes to be read.
sub warm
{
	my ($sql, $loose) = @_;
	my ($hit, $answer);
	Gateway::wait_until(sub { ($hit, $answer) = ask($sql); $hit || $loose ? 1 : 0 }, 1, 10);
	return ($hit, $answer);
}

sub try_case
{
	my ($c) = @_;
	my ($name, $read) = @$c{qw(name read)};
	if ($c->{set})
	{
		$_->query($c->{set}) for $reader, $direct;
	}
	my $before = truth($read);
	known();
	is((ask($read))[1], $before, "$name: cold");
	my ($hit, $answer) = warm($read, $c->{loose});
	ok($hit, "$name: kept") or diag(Cached::explained($gateway, $read, 'reason')) unless $c->{loose};
	is($answer, $before, "$name: warm");
	for my $sql (ref $c->{write} ? @{ $c->{write} } : $c->{write})
	{
		my $done = $writer->query($sql);
		ok(!$done->{error}, "$name: written") or diag("$sql: " . RawClient::error_text($done));
	}
	my $after = truth($read);
	isnt($after, $before, "$name: something has changed") unless $c->{same};
	is((ask($read))[1], $after, "$name: after the write, turn $_") for 1, 2;
	is((ask('SELECT v FROM unrelated'))[0], 1, "$name: what it does not touch stays") if $c->{narrow};
	if ($c->{set})
	{
		$_->query('RESET ALL') for $reader, $direct;
	}
	return;
}

try_case($_) for @cases;
for my $c (@never)
{
	known();
	my @answers = map { [ ask($c->{read}) ] } 1 .. 3;
	is(join(' ', map { $_->[0] } @answers), '0 0 0', "$c->{name}: never kept");
	unlike($answers[0][1], qr/^(42|22)[0-9A-Z]{3}$/, "$c->{name}: answered");
}

# ---- what is not in the text of a read may leave its session changed: the next client gets a clean link ----
Cached::at_origin($gateway, q{
CREATE VIEW leak_1 AS SELECT set_config('search_path', 'elsewhere', false) AS s;
CREATE VIEW leak_2 AS SELECT now() AS n, set_config('search_path', 'elsewhere', false) AS s;
CREATE FUNCTION leak_f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config('search_path', 'elsewhere', false); END $$;
CREATE VIEW leak_3 AS SELECT leak_f() AS s;
CREATE FUNCTION leak_o(int, int) RETURNS text LANGUAGE sql AS 'SELECT leak_f()';
CREATE OPERATOR |*| (FUNCTION = leak_o, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION leak_n(unrelated) RETURNS text LANGUAGE sql AS 'SELECT leak_f()';
CREATE TABLE leak_t (v text);
CREATE TABLE leak_p (v text); INSERT INTO leak_p VALUES ('x'); ALTER TABLE leak_p ENABLE ROW LEVEL SECURITY; ALTER TABLE leak_p FORCE ROW LEVEL SECURITY; CREATE POLICY p ON leak_p USING (leak_f() > '')});
Cached::learn($gateway);
known();
for my $sql ('SELECT s FROM leak_1', 'SELECT s FROM leak_2', 'SELECT s FROM leak_3', 'INSERT INTO leak_t SELECT s FROM leak_2', 'SELECT 1 |*| 2', 'SELECT u.leak_n FROM unrelated u', 'SELECT * FROM leak_p')
{
	my @clients = map { $gateway->client } 1 .. 2;
	$clients[0]->query($sql);
	is($clients[$_]->value(q{SELECT current_setting('search_path')}), '"$user", public', "$sql: client $_ after it") for 1, 0;
	$_->terminate for @clients;
	known();
}

# ---- where a string ends is another matter for who has logged in with standard_conforming_strings = off, or has it by default ----
$origin->safe_psql('app', q{ALTER ROLE app SET standard_conforming_strings = off; ALTER ROLE app SET escape_string_warning = off});
Cached::learn($gateway);
for my $given ({}, { options => '-c standard_conforming_strings=off -c escape_string_warning=off' })
{
	my $other;
	Gateway::wait_until(sub { $other = $gateway->client(parameters => $given); $other->value('SHOW standard_conforming_strings') eq 'off' }, 1, 10);
	known();
	my @clock = map { $other->value(q{SELECT 'x\\'', clock_timestamp() --'}) } 1 .. 3;
	is(scalar(keys %{ { map { $_ => 1 } @clock } }), 3, 'a clock behind a string with a backslash is never kept: ' . join(' ', %$given)) or diag(join(' ', @clock));
	$other->terminate;
}
$origin->safe_psql('app', 'ALTER ROLE app RESET ALL');
Cached::learn($gateway);

# ---- what was made at the origin, by a session that goes on, counts as soon as a refresh was asked for ----
for my $sql (q{SELECT obj_description('a2'::regclass)}, q{SELECT count(*) FROM pg_index})
{
	warm($sql);
	$direct->query(q{COMMENT ON VIEW a2 IS 'new'; CREATE INDEX ON a1 (v)});
	Cached::learn($gateway);
	is((ask($sql))[1], truth($sql), "$sql: after a refresh");
}
$gateway->is_unharmed('all of it');
done_testing();
