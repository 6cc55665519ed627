# What the cache keeps and what it does not, and that explain_query, the counters and the answers agree on it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;

my $gateway = Cached::start(options => q{max_age => '1h'}, make => q{
CREATE TABLE goods (id int PRIMARY KEY, name text, price numeric, made timestamptz, day date, tags text[], doc jsonb);
INSERT INTO goods SELECT i, 'thing ' || i, i * 1.5, '2020-01-01 00:00:00+00'::timestamptz + i * interval '1 hour', '2020-01-01'::date + i, ARRAY['a', 'b'], '{"k": [1, 2]}' FROM generate_series(1, 10) i;
CREATE VIEW cheap AS SELECT * FROM goods WHERE price < 5;
CREATE VIEW clock AS SELECT id, now() - made AS age FROM goods;
CREATE VIEW dice AS SELECT id, random() AS eyes FROM goods;
CREATE VIEW above_dice AS SELECT id FROM dice;
CREATE MATERIALIZED VIEW solid AS SELECT id, random() AS eyes FROM goods;
CREATE VIEW above_solid AS SELECT id, eyes FROM solid;
CREATE TABLE parts (id int, v int) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (1, 1);
CREATE SEQUENCE numbers;
CREATE FUNCTION pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION steady(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1 + 1';
CREATE FUNCTION loose(int) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN $1 + 1; END';
CREATE FUNCTION loose(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION age_of(goods) RETURNS interval LANGUAGE sql STABLE AS 'SELECT now() - $1.made';
CREATE OPERATOR @+ (FUNCTION = steady, RIGHTARG = int);
CREATE OPERATOR @++ (FUNCTION = pure, RIGHTARG = int);
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE DOMAIN recent AS date CHECK (VALUE > current_date - 36500);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a int, b text);
CREATE TABLE feelings (m mood, p pair, e even);
INSERT INTO feelings VALUES ('good', (1, 'x'), 2);
CREATE TABLE guarded (id int, owner text);
INSERT INTO guarded VALUES (1, 'app');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded USING (owner = current_user);
CREATE TABLE timed (id int, until timestamptz);
INSERT INTO timed VALUES (1, '2100-01-01');
ALTER TABLE timed ENABLE ROW LEVEL SECURITY;
ALTER TABLE timed FORCE ROW LEVEL SECURITY;
CREATE POLICY now ON timed USING (until > clock_timestamp());
RESET ROLE;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE far (id int) SERVER nowhere});
my ($client, $direct) = ($gateway->client, $gateway->direct(database => 'app'));

# While this file runs nothing comes of the first read of another database's catalog: the end says how that went.
$gateway->{origin}->safe_psql('postgres', 'CREATE DATABASE silent OWNER app');
my $blocker = $gateway->direct(user => scalar getpwuid($>), database => 'silent');
$blocker->query($_) for 'BEGIN', 'LOCK TABLE pg_policy IN ACCESS EXCLUSIVE MODE';
{
	local $gateway->{connection} = 'dbname=silent';
	$gateway->create('silent', 'cache => true');
}
# beside it, for pg_stat_activity stands still within a transaction
my $watcher = $gateway->direct(user => scalar getpwuid($>));
my $first;
Gateway::wait_until(sub {
	$gateway->try_sql(q{SELECT hyperpool.refresh_catalog('silent', '1ms')});
	$first = $watcher->value(q{SELECT pid FROM pg_stat_activity WHERE datname = 'silent' AND wait_event_type = 'Lock' ORDER BY backend_start LIMIT 1});
	$first ? 1 : 0;
}, 1);

sub explained { return Cached::explained($gateway, @_); }

# ---- kept: a hit the second time, in both protocols, and the answer of the database ----
my @kept = (
	'SELECT 1',
	'SELECT * FROM goods ORDER BY id',
	'TABLE cheap',
	'VALUES (1), (2)',
	'SELECT name FROM goods WHERE id = 3',
	'SELECT "name" FROM public."goods" WHERE id IN (1, 2) ORDER BY 1',
	'SELECT count(*), sum(price), avg(price), min(made), string_agg(name, $$,$$ ORDER BY id) FROM goods',
	'SELECT g.name, p.v FROM goods g LEFT JOIN parts p USING (id) ORDER BY g.id',
	'SELECT id, row_number() OVER (ORDER BY price DESC), lag(price) OVER w FROM goods WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 3 OFFSET 1',
	'WITH RECURSIVE t (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t',
	'WITH goods AS (SELECT 42 AS id) SELECT id FROM goods',
	'SELECT EXISTS (SELECT FROM goods WHERE id = 1), ARRAY(SELECT id FROM goods ORDER BY id), (SELECT max(id) FROM parts)',
	'SELECT to_char(made, $$YYYY-MM-DD$$), date_trunc($$day$$, made), extract(epoch FROM made) FROM goods ORDER BY id',
	'SELECT concat(id, name), format($$%s-%I$$, id, name), concat_ws($$,$$, id, name) FROM goods ORDER BY id',
	'SELECT json_agg(g ORDER BY id), jsonb_build_object($$a$$, 1), to_jsonb(row(1, 2)), row_to_json(row(1)) FROM goods g',
	'SELECT array_to_string(tags, $$,$$), tags[1], tags || $$c$$::text, doc -> $$k$$ ->> 0, doc @> $${"k": [1]}$$ FROM goods',
	'SELECT made::text, day::timestamptz::text, $$2020-02-02$$::date, price::text::numeric FROM goods ORDER BY id',
	'SELECT lower(name) LIKE $$thing%$$, name ~ $$^t$$, substring(name FROM 2 FOR 3), position($$h$$ IN name), upper(trim(name)) FROM goods ORDER BY id',
	'SELECT CASE WHEN id > 3 THEN $$x$$ ELSE $$y$$ END, coalesce(name, $$z$$), nullif(id, 3), greatest(id, 5) FROM goods ORDER BY id',
	'SELECT * FROM generate_series(1, 3) g, unnest(ARRAY[1, 2]) u',
	'SELECT interval $$1 day$$ + timestamp $$2020-01-01$$',
	'SELECT made AT TIME ZONE $$Asia/Tokyo$$ FROM goods ORDER BY id',
	'SELECT * FROM above_solid ORDER BY id',
	'SELECT eyes = eyes FROM solid',
	'SELECT pure(1)',
	'SELECT @++ 1',
	'SELECT m, p, (p).b, e, m::text, $$bad$$::mood FROM feelings',
	'SELECT 4::even',
	'SELECT id FROM guarded',
	'SELECT current_user, current_database(), current_schema()',
	'SELECT $$the word nowhere, todays and yesterdays$$',
	'SELECT id FROM parts_1 UNION ALL SELECT id FROM goods ORDER BY 1',
	'SELECT oid::regclass::text, relkind FROM pg_catalog.pg_class WHERE relname = $$goods$$',
	'SELECT count(*) FROM information_schema.columns WHERE table_name = $$goods$$',
	'SELECT typname, typarray FROM pg_type WHERE typname IN ($$mood$$, $$pair$$) ORDER BY 1',
	"/* a comment */ SELECT 1 -- and another\n;",
);
for my $sql (@kept)
{
	my $truth = RawClient::outcome($direct->query($sql));
	unlike($truth, qr/^[0-9A-Z]{5}$/, "kept: $sql") or next;
	is(explained($sql, 'cacheable, functions'), 't|{}', 'explain_query says so') or diag(explained($sql, 'reason'));
	my @simple = map { [ Cached::ask($gateway, $client, $sql) ] } 1 .. 2;
	is($simple[1][0], 'hit', 'simple: a hit the second time');
	my @extended = map { my $answer; my $said = Cached::said($gateway, sub { $answer = $client->extended($sql) }); [ $said, RawClient::outcome($answer) ] } 1 .. 2;
	is($extended[1][0], 'hit', 'extended: a hit the second time');
	is(join("\n", map { $_->[1] } @simple, @extended), join("\n", ($truth) x 4), 'always the answer of the database');
}

# ---- not kept: [text, status, what explain_query's reason says] ----
my @left = (
	[ 'SELECT now()', 'volatile', qr/now/ ],
	[ 'SELECT CURRENT_TIMESTAMP', 'volatile', qr/clock/ ],
	[ 'SELECT current_date - day FROM goods', 'volatile', qr/clock/ ],
	[ 'SELECT LOCALTIME', 'volatile', qr/clock/ ],
	[ q{SELECT 'now'::timestamptz}, 'volatile', qr/clock/ ],
	[ q{SELECT * FROM goods WHERE day > ' Yesterday '}, 'volatile', qr/clock/ ],
	[ q{SELECT date 'TODAY'}, 'volatile', qr/clock/ ],
	[ 'SELECT age(made) FROM goods', 'volatile', qr/age|clock/ ],
	[ 'SELECT * FROM clock', 'volatile', qr/now|clock/ ],
	[ 'SELECT random()', 'volatile', qr/random/ ],
	[ 'SELECT gen_random_uuid()', 'volatile', qr/gen_random_uuid/ ],
	[ 'SELECT clock_timestamp(), statement_timestamp(), timeofday()', 'volatile', qr/clock/ ],
	[ 'SELECT pg_backend_pid()', 'volatile', qr/pg_backend_pid/ ],
	[ 'SELECT inet_client_port()', 'volatile', qr/inet_client_port/ ],
	[ 'SELECT txid_current()', 'volatile', qr/txid_current/ ],
	[ q{SELECT nextval('numbers')}, 'volatile', qr/nextval/ ],
	[ q{SELECT lastval()}, 'volatile', qr/lastval/ ],
	[ q{SELECT set_config('my.x', '1', false)}, 'volatile', qr/set_config/ ],
	[ 'SELECT pg_advisory_lock(1), pg_advisory_unlock(1)', 'volatile', qr/pg_advisory/ ],
	[ 'SELECT pg_sleep(0)', 'volatile', qr/pg_sleep/ ],
	[ 'SELECT eyes FROM dice', 'volatile', qr/random|dice|not immutable/ ],
	[ 'SELECT id FROM above_dice', 'volatile', qr/random|dice|not immutable/ ],
	[ 'SELECT steady(1)', 'volatile', qr/steady/ ],
	[ 'SELECT loose(1)', 'volatile', qr/loose/ ],
	[ q{SELECT loose('one of its names is not immutable')}, 'volatile', qr/loose/ ],
	[ 'SELECT id FROM goods WHERE loose(id) > 3', 'volatile', qr/loose/ ],
	[ 'SELECT id FROM goods ORDER BY steady(id)', 'volatile', qr/steady/ ],
	[ 'SELECT @+ 1', 'volatile', qr/@\+/ ],
	[ q{SELECT '2020-01-01'::recent}, 'volatile', qr/recent/ ],
	[ 'SELECT g.age_of FROM goods g', 'volatile', qr/age_of/ ],
	[ 'SELECT id FROM timed', 'volatile', qr/clock_timestamp|timed|not immutable|clock/ ],
	[ 'SELECT * FROM goods FOR UPDATE', 'uncacheable', qr/lock/ ],
	[ 'SELECT * FROM (SELECT id FROM goods FOR SHARE) s', 'uncacheable', qr/lock/ ],
	[ 'SELECT last_value FROM numbers', 'uncacheable', qr/kind/ ],
	[ 'SELECT count(*) FROM pg_stat_activity', 'volatile', qr/pg_stat_activity/ ],
	[ 'SELECT count(*) FROM pg_locks', 'volatile', qr/pg_locks/ ],
	[ 'SELECT count(*) FROM pg_largeobject_metadata, pg_prepared_statements', 'uncacheable', qr/kind|pg_/ ],
	[ 'SELECT id FROM far', 'uncacheable', qr/kind/ ],
	[ 'SELECT * FROM not_there', 'uncacheable', qr/not_there/ ],
	[ 'SELECT not_there(1)', 'uncacheable', qr/not_there/ ],
	[ 'SELECT 1; SELECT 2', 'multiplestatements', qr/several/ ],
	[ 'INSERT INTO parts VALUES (7, 7)', 'notaquery', qr/plain read/ ],
	[ 'WITH w AS (DELETE FROM parts WHERE id = 7 RETURNING id) SELECT * FROM w', 'notaquery', qr/plain read/ ],
	[ 'EXPLAIN SELECT 1', 'notaquery', qr/plain read/ ],
	[ 'SHOW work_mem', 'notaquery', qr/plain read/ ],
	[ 'SELECT 1 AS i INTO made_by_into', 'notaquery', qr/plain read/ ],
	[ 'BEGIN; COMMIT', 'multiplestatements', qr/several/ ],
	[ 'SELEC 1', 'parseerror', qr/analysed/ ],
	[ '/* hyperpool: cache=off */ SELECT 1', 'disabled', qr/hint/ ],
);
for my $case (@left)
{
	my ($sql, $status, $reason) = @$case;
	is(explained($sql, 'cacheable, status'), "f|$status", "not kept: $sql");
	like(explained($sql, q{reason || ' ' || array_to_string(functions, ' ')}), $reason, 'explain_query says why');
	# each time another: what one of them has set may bind its link to it
	is(join(' ', map { my $asker = $gateway->client; my ($said) = Cached::ask($gateway, $asker, $sql); $asker->terminate; $said } 1 .. 2), "$status $status", 'and so do the counters, twice');
}

# ---- the date words in a parameter ----
my $day = 'SELECT count(*) FROM goods WHERE day < $1::date';
is(join(' ', map { (Cached::ask($gateway, $client, $day, '2020-01-05'))[0] } 1 .. 2), 'miss hit', 'a parameter that is a date');
is(join(' ', map { (Cached::ask($gateway, $client, $day, $_))[0] } ('tomorrow') x 2, (' Now') x 2), 'volatile volatile volatile volatile', 'one that is a word of time');

# ---- inside a transaction, with session state ----
Cached::warm($gateway, $client, 'SELECT 1');
$client->query('BEGIN');
is((Cached::ask($gateway, $client, 'SELECT 1'))[0], 'transaction', 'in a transaction');
$client->query('COMMIT');
is((Cached::ask($gateway, $client, 'SELECT 1'))[0], 'hit', 'and after it');
my $bound = $gateway->client;
$bound->query('CREATE TEMP TABLE goods AS SELECT 99 AS id');
is(join('|', Cached::ask($gateway, $bound, 'SELECT id FROM goods')), 'uncacheable|99', 'a session with a temporary table of that name');
is((Cached::ask($gateway, $client, 'SELECT count(*) FROM goods'))[1], '10', 'nobody else reads it');
$bound->query('DROP TABLE goods');
$bound->terminate;
Cached::learn($gateway);    # that was DDL

# ---- a function makes it, and was itself made a moment ago: what is known of the catalog does not speak of it ----
Cached::at_origin($gateway, 'CREATE TABLE looks (n int); INSERT INTO looks VALUES (0); CREATE FUNCTION look() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE looks SET n = n + 1; RETURN n FROM looks; END $$');
Cached::learn($gateway);
$bound = $gateway->client;
$bound->query($_) for 'LISTEN nothing', 'CREATE FUNCTION hide() RETURNS int LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP VIEW goods AS SELECT look() AS id; RETURN 1; END $$', 'SELECT hide()';
Cached::learn($gateway);
is((Cached::warm($gateway, $client, 'SELECT n FROM looks'))[1], '0', 'what the temporary view of a function will write');
is(join('|', Cached::ask($gateway, $bound, 'SELECT id FROM goods')), 'uncacheable|1', 'it is read at the origin');
is((Cached::ask($gateway, $client, 'SELECT n FROM looks'))[1], '1', 'and what was read before it is gone');
is((Cached::ask($gateway, $client, 'SELECT count(*) FROM goods'))[1], '10', 'nobody else reads the view');
$bound->terminate;
Cached::at_origin($gateway, 'DROP FUNCTION hide(); DROP FUNCTION look(); DROP TABLE looks');
Cached::learn($gateway);

# ---- too long ----
is((Cached::ask($gateway, $client, q{SELECT '} . 'x' x 30000 . q{'}))[0], 'oversizedquery', 'a long text');
is((Cached::ask($gateway, $client, 'SELECT length($1)', 'x' x 30000))[0], 'oversizedquery', 'a long parameter');

# ---- answers that are not kept ----
is(join(' ', map { (Cached::ask($gateway, $client, 'SELECT 1 / (id - 1) FROM goods'))[1] } 1 .. 2), '22012 22012', 'an error is not kept');
Cached::at_origin($gateway, q{CREATE FUNCTION noisy() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE NOTICE 'made'; RETURN 1; END $$});
Cached::learn($gateway);
is(join(' ', map { scalar @{ $client->query('SELECT noisy()')->{notices} } } 1 .. 3), '1 1 1', 'an answer with a notice comes with it each time');

# ---- names are not resolved: whoever is called so decides ----
is(explained('SELECT upper(name) FROM goods', 'cacheable'), 't', 'upper');
Cached::at_origin($gateway, q{CREATE SCHEMA other; CREATE FUNCTION other.upper(text) RETURNS text LANGUAGE sql VOLATILE AS 'SELECT $1'});
Cached::learn($gateway);
is(explained('SELECT upper(name) FROM goods', 'cacheable, status'), 'f|volatile', 'another upper, in a schema that may be in a search_path');
is(explained('SELECT pg_catalog.upper(name) FROM goods', 'cacheable'), 't', 'with its schema it is clear which');

# ---- facts that are not known ----
$gateway->{origin}->safe_psql('postgres', 'CREATE DATABASE empty OWNER app');
is($gateway->sql(q{SELECT count(*) FROM hyperpool.stat_origins WHERE facts = 'fresh'}), '1', 'the state of the facts is shown');

# ---- the option, at any time ----
$gateway->alter('cache => false');
is((Cached::ask($gateway, $client, 'SELECT 1'))[0], 'disabled', 'the origin says no');
$gateway->alter('cache => true');
is((Cached::warm($gateway, $client, 'SELECT 1'))[0], 'hit', 'and yes again');

# ---- a family so large that to walk it once for each of its members would leave no time for others ----
my $sum = join ' + ', map { "$_(i)" } qw(sqrt cbrt exp ln log sin cos tan cot asin acos atan sinh cosh tanh asinh acosh atanh degrees radians floor ceil round trunc abs sign sind cosd tand cotd);
Cached::at_origin($gateway, "CREATE TABLE broad (i float8, CHECK (($sum) IS NOT NULL)); " .
	  q{DO $$ BEGIN FOR n IN 1 .. 900 LOOP EXECUTE format('CREATE TABLE broad_%s () INHERITS (broad)', n); END LOOP; END $$; CREATE TABLE made_later (i int)});
Cached::learn($gateway);
is(explained('SELECT i FROM broad_900', 'cacheable'), 't', 'one of 900 children');
is(explained('INSERT INTO broad_900 VALUES (1)', 'writes'), 'relations', 'what is written with it is known');
is(explained('SELECT i FROM made_later', 'cacheable, writes'), 't|nothing', 'and so is what was made later');
Cached::at_origin($gateway, 'DROP TABLE broad CASCADE');

# ---- a database of single bytes, which folds letters beyond ASCII in its own way ----
$gateway->{origin}->safe_psql('postgres', q{CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0});
$gateway->{origin}->safe_psql('latin', qq{SET client_encoding = 'UTF8'; CREATE TABLE "\xc3\xa4pfel" (i int); CREATE TABLE birnen (i int); GRANT SELECT ON birnen, "\xc3\xa4pfel" TO PUBLIC});
{
	local $gateway->{connection} = 'dbname=latin';
	$gateway->create('latin', 'cache => true');
}
Cached::learn($gateway, 'latin');
my $latin = $gateway->client(database => 'latin', parameters => { client_encoding => 'UTF8' });
is((Cached::warm($gateway, $latin, 'SELECT i FROM birnen'))[0], 'hit', 'a name of ASCII in a LATIN1 database');
is(join(' ', map { (Cached::ask($gateway, $latin, qq{SELECT i FROM "\xc3\xa4pfel"}))[0] } 1 .. 2), 'parseerror parseerror', 'one beyond ASCII: the origin may read it otherwise');
$latin->terminate;

# ---- a read of which nothing comes: after 10 seconds it is given up, and the next has 20, for the origin may be slow ----
my $silent = qq{FROM (SELECT pid, clock_timestamp() - query_start AS since FROM pg_stat_activity WHERE datname = 'silent' AND wait_event_type = 'Lock'
	ORDER BY backend_start DESC LIMIT 1) newest WHERE pid <> $first AND since BETWEEN '12 s' AND '18 s'};
my $reader;
Gateway::wait_until(sub { $gateway->try_sql(q{SELECT hyperpool.refresh_catalog('silent', '1ms')}); $reader = $watcher->value("SELECT pid $silent"); $reader ? 1 : 0 }, 1, 150);
like($reader, qr{^\d+$}, 'one after the first has been silent for 12 seconds');
$blocker->query('COMMIT');
is($gateway->wait_for(q{SELECT facts FROM hyperpool.stat_origins WHERE origin = 'silent'}, 'fresh', 60), 'fresh', 'then its catalog is known');
my $scouts = q{SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE datname = 'silent' AND application_name = 'hyperpool scout'};
is(Gateway::wait_until(sub { $watcher->value($scouts) }, $reader), $reader, 'by the read that lasted so long');

$gateway->is_unharmed('afterwards');
done_testing();
