#!/usr/bin/env bash
# psql: what an administrator does by hand.  README.md has the list of checks. What psql prints is the answer; it is
# compared with that of the direct connection.
set -uo pipefail
psql=${PSQL:-psql}

# check NAME: the input is a script for psql
check()
{
	local out
	out=$("$psql" -X -q -A -t -v VERBOSITY=verbose -v SHOW_CONTEXT=never -f - 2>&1 | sed -E 's/^psql:<stdin>:/line /; /^LOCATION:/d' | tr '\n' ';')
	echo "ok - $1: $out"
}

check login <<'SQL'
SELECT current_user, current_database();
SHOW server_version_num
\echo :SERVER_VERSION_NUM :ENCODING :USER
SQL

check simple <<'SQL'
SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i;
SELECT 1 \; SELECT 2 \; SELECT 3;
SELECT 7 AS seven \gset
SELECT :seven + 1;
SELECT 'SELECT ' || i FROM generate_series(1, 3) i \gexec
SELECT 1 AS a, 'x' AS b \gdesc
SQL

check transaction <<'SQL'
SET client_min_messages = warning; DROP TABLE IF EXISTS visits; RESET client_min_messages;
CREATE TABLE visits (id int PRIMARY KEY, page text);
BEGIN;
INSERT INTO visits VALUES (1, 'kept');
SAVEPOINT s;
DELETE FROM visits;
ROLLBACK TO s;
COMMIT;
\set AUTOCOMMIT off
INSERT INTO visits VALUES (2, 'gone');
ROLLBACK;
\set ON_ERROR_ROLLBACK on
INSERT INTO visits VALUES (3, 'kept too');
INSERT INTO visits VALUES (3, 'again');
COMMIT;
SELECT * FROM visits ORDER BY id;
SQL

check errors <<'SQL'
SELEC 1;
SELECT nothing FROM visits;
SELECT 1 / 0;
SELECT 'still here';
SQL

check prepared <<'SQL'
PREPARE plus (int) AS SELECT $1 + 1;
EXECUTE plus (41);
EXECUTE plus (42);
DEALLOCATE plus;
EXECUTE plus (1);
SQL

check copy <<'SQL'
\copy visits FROM PROGRAM 'seq 100 1099 | sed "s/.*/&\tpage &/"'
\copy (SELECT * FROM visits WHERE id < 103 ORDER BY id) TO STDOUT (FORMAT csv)
COPY visits FROM STDIN;
x	y
\.
SELECT count(*) FROM visits;
SQL

check cursor <<'SQL'
\set FETCH_COUNT 100
SELECT sum(i) FROM generate_series(1, 1000) i;
SELECT i FROM generate_series(1, 1000) i WHERE i % 333 = 0;
SQL

check describe <<'SQL'
\d visits
\dt visits
\df lower
\dn public
SQL

check large_object <<'SQL'
BEGIN;
SELECT lo_from_bytea(0, 'ten bytes!') AS lo \gset
\lo_export :lo /dev/null
SELECT length(lo_get(:lo));
ROLLBACK;
SQL

check settings <<'SQL'
SET TIME ZONE 'Asia/Tokyo';
SET search_path TO pg_catalog, public;
SELECT '2024-01-01 00:00+00'::timestamptz, current_setting('search_path');
\encoding LATIN1
SELECT ascii(chr(228)), current_setting('client_encoding');
RESET ALL;
SHOW TIME ZONE;
SQL

check notice <<'SQL'
DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$;
SQL

cancel()
{
	local began=$SECONDS
	# to psql alone: by its process group it would come twice, perhaps as one
	timeout --foreground -s INT 0.7 "$psql" -X -q -A -t -c 'SELECT pg_sleep(10)' 2>&1
	[ $((SECONDS - began)) -lt 5 ] && echo "soon"
}
echo "ok - cancel: $(cancel | tr '\n' ';')"

short=0
for i in {1..15}
do
	short=$((short + $("$psql" -X -A -t -c "SELECT $i")))
done
echo "ok - short_connections: $short"
