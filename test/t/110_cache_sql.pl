# The cache's functions and views: what they say is what is, what they remove is gone, and who may see what.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(
	settings => join("\n", 'hyperpool.cache_size = 8MB', 'hyperpool.facts_size = 4MB', 'hyperpool.query_stats = 100'),
	options => q{cache => true, max_age => '1h', stale_while_revalidate => '0', stale_if_error => '0'});

# Made at the origin, by its owner, not through the gateway.
sub at_origin { my ($sql) = @_; return $gateway->{origin}->safe_psql('app', "SET ROLE app; $sql"); }

at_origin(q{
CREATE TABLE goods (id int PRIMARY KEY, price int);
INSERT INTO goods SELECT i, 10 * i FROM generate_series(1, 100) i;
CREATE TABLE people (id int, name text);
INSERT INTO people VALUES (1, 'Ada');
CREATE VIEW cheap AS SELECT * FROM goods WHERE price < 50;
CREATE VIEW dice AS SELECT random() AS eyes;
CREATE SCHEMA shop;
CREATE TABLE shop."Order Lines" (id int);
CREATE FUNCTION quiet() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 7';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 2 * $1';
CREATE SEQUENCE numbers;
});
$gateway->learn('app');
is($gateway->sql('SELECT facts, facts_failure IS NULL FROM hyperpool.stat_origins'), 'fresh|t', 'refresh_catalog: the catalog is known');

my $client = $gateway->client;
my $goods = 'SELECT price FROM goods WHERE id = 1';
my $people = 'SELECT name FROM people';

sub counted
{
	my ($columns, $what) = @_;
	my @before = split /\|/, $gateway->sql("SELECT $columns FROM hyperpool.stat_origins");
	$what->();
	my @after = split /\|/, $gateway->sql("SELECT $columns FROM hyperpool.stat_origins");
	return join ' ', map { $after[$_] - $before[$_] } 0 .. $#before;
}

# How it is answered: hit, miss, ...
sub answered
{
	my ($sql, $who) = @_;
	my @statuses = qw(disabled hit miss uncacheable multiplestatements notaquery oversizedquery oversizedresult parseerror transaction volatile);
	my @n = split / /, counted(join(', ', map { "cache_$_" } @statuses), sub { ($who // $client)->query($sql); });
	return join ' ', map { ($statuses[$_]) x $n[$_] } 0 .. $#statuses;
}

sub explained
{
	my ($sql, $columns) = @_;
	$columns //= 'cacheable, status, relations, functions, writes';
	return $gateway->sql("SELECT $columns FROM hyperpool.explain_query('app', \$the_text\$$sql\$the_text\$)");
}

# ---- one counter for each status ----
is(answered($goods), 'miss', 'asked the first time');
is(answered($goods), 'hit', 'and the second');
is(answered("$goods; "), 'hit', 'what surrounds the text does not matter');
is(answered('SELECT random()'), 'volatile', 'volatile');
is(answered(q{SELECT nextval('numbers')}), 'volatile', 'so is a function that writes');
is(answered('SELECT * FROM nowhere'), 'uncacheable', 'uncacheable');
is(answered('SELECT 1; SELECT 2'), 'multiplestatements', 'multiplestatements');
is(answered('ANALYZE people'), 'notaquery', 'notaquery');
is(answered('SELEKT 1'), 'parseerror', 'parseerror');
my $long = q{SELECT '} . 'x' x 30000 . q{'};
is(answered($long), 'oversizedquery', 'oversizedquery') or diag(explained($long, 'reason'));
is(explained($long, 'cacheable, status'), 'f|oversizedquery', 'explain_query says so');
$client->query('BEGIN');
is(answered($goods), 'transaction', 'transaction');
$client->query('COMMIT');
$gateway->alter('max_result_size => 500');
$gateway->wait_for(q{SELECT max_result_size FROM hyperpool.origins}, '500');
is(answered('SELECT * FROM goods'), 'oversizedresult', 'oversizedresult, of max_result_size');
$gateway->alter('max_result_size => 52428800, cache => false');
is(answered($goods), 'disabled', 'disabled');
is(explained($goods, 'cacheable, status, reason'), q{f|disabled|the origin's option cache is off}, 'explain_query says so');
$gateway->alter('cache => true');

# ---- explain_query ----
$gateway->sql('SELECT hyperpool.invalidate()');
$client->value($goods);
is(explained($goods), 't|hit|{public.goods}|{}|nothing', 'a hit');
is(explained($goods, q{entries, max_age, age < '1 min', remaining > '59 min' AND remaining <= '1 h', facts}), '1|01:00:00|t|t|fresh', 'its entry');
is(explained("/* a comment */ $goods ;", 'status, entries'), 'hit|1', 'what surrounds the text does not matter');
is(explained("/* hyperpool: cache=off */ $goods", 'cacheable, status'), 'f|disabled', 'a hint');
is(explained("/* hyperpool: max_age=5s */ $goods", 'cacheable, max_age'), 't|00:00:05', 'another');
is(explained('SELECT id FROM goods', 'cacheable, status, entries, age IS NULL, remaining IS NULL'), 't|miss|0|t|t', 'not there yet');
is(explained('SELECT * FROM shop."Order Lines"', 'relations'), '{"shop.\"Order Lines\""}', 'names are quoted where needed');
is(explained('SELECT random(), twice(1), now(), upper(name) FROM people', 'cacheable, status, functions @> ARRAY[$$random$$, $$twice$$, $$now$$], cardinality(functions)'), 'f|volatile|t|3', 'functions at fault, all of them');
like(explained('SELECT random()', 'reason'), qr/not immutable.*random/, 'in words');
is(explained('SELECT * FROM dice', 'cacheable, status, writes'), 'f|volatile|nothing', 'inside a view too');
is(explained('UPDATE goods SET price = 1'), 'f|notaquery|{public.goods}|{}|relations', 'a write');
is(explained('CREATE TABLE x ()', 'cacheable, status, writes'), 'f|notaquery|anything', 'DDL');
is(explained('SELECT quiet()', 'cacheable, status, functions, writes'), 'f|volatile|{quiet}|anything', 'a volatile function of a user');
is(explained('SELECT * FROM nowhere', 'cacheable, status, relations'), 'f|uncacheable|{}', 'an unknown relation');
is(explained('SELECT * FROM goods FOR UPDATE', 'cacheable, status'), 'f|uncacheable', 'locking');
is(explained('SELEKT 1', 'cacheable, status'), 'f|parseerror', 'no SQL');
is(explained('SELECT 1; SELECT 2', 'cacheable, status'), 'f|multiplestatements', 'several statements');

# ---- cache_entries ----
$client->value($people);
is($gateway->sql(qq{SELECT kind, origin, valid, bytes > 0, occupied >= bytes, age < '1 min', hits FROM hyperpool.cache_entries WHERE query = '$people'}),
	'rows|app|t|t|t|t|0', 'an entry');
$client->value($people) for 1 .. 3;
is($gateway->sql(qq{SELECT hits FROM hyperpool.cache_entries WHERE query = '$people' AND kind = 'rows'}), '3', 'its hits');
is(RawClient::outcome($client->extended('SELECT name FROM people WHERE id = $1', '1')), 'Ada', 'a value');
is($gateway->sql(q{SELECT count(*) FROM hyperpool.cache_entries e WHERE query = 'SELECT name FROM people WHERE id = $1' AND kind = 'rows'}), '1', 'shows the text');
my $secret = 'a value that nobody may read';
$client->extended('SELECT id FROM people WHERE name = $1', $secret);
unlike($gateway->sql('SELECT e::text FROM hyperpool.cache_entries e'), qr/\Q$secret\E/, 'but no parameter');
$gateway->sql(q{CREATE ROLE monitor; GRANT pg_monitor TO monitor; CREATE ROLE outsider; CREATE ROLE insider;
GRANT USAGE ON SCHEMA hyperpool TO outsider, insider; GRANT SELECT ON hyperpool.cache_entries, hyperpool.stat_queries TO outsider, insider, app;
GRANT EXECUTE ON FUNCTION hyperpool.get_cache_entries(), hyperpool.get_stat_queries() TO outsider, insider, app; GRANT USAGE ON SCHEMA hyperpool TO app;
REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC; GRANT USAGE ON FOREIGN SERVER app TO app, insider});
my $texts = qq{SELECT count(*) > 0, bool_and(query = '<insufficient privilege>'), bool_or(query = '$people') FROM hyperpool.cache_entries};
is($gateway->sql("SET ROLE outsider; $texts"), 't|t|f', 'texts of entries: not of others');
is($gateway->sql("SET ROLE insider; $texts"), 't|t|f', 'nor with USAGE on the origin');
is($gateway->sql("SET ROLE app; $texts"), 't|f|t', 'but of its own role');
is($gateway->sql("SET ROLE monitor; $texts"), 't|f|t', 'and for pg_read_all_stats');

# ---- stat_cache ----
is($gateway->sql('SELECT size <= 8 * 1024 * 1024, used > 0, used >= value_bytes, overhead_ratio >= 0, entries = (SELECT count(*) FROM hyperpool.cache_entries), inserts >= entries, evictions, pinned, flights, hit_ratio BETWEEN 0 AND 1 FROM hyperpool.stat_cache'),
	't|t|t|t|t|t|0|0|0|t', 'stat_cache');

# ---- stat_queries ----
$gateway->sql('SELECT hyperpool.reset_stats()');
is($gateway->sql('SELECT count(*) FROM hyperpool.stat_queries'), '0', 'reset_stats() empties stat_queries');
is($gateway->sql('SELECT inserts FROM hyperpool.stat_cache'), '0', 'and the sums of stat_cache');
$client->value("SELECT price FROM goods WHERE id = $_") for 11, 12, 13, 11, 12, 11;
my $price = q{FROM hyperpool.stat_queries WHERE query = 'SELECT price FROM goods WHERE id = $1'};
is($gateway->sql("SELECT origin, role, calls, hits, misses, reasons, flushes, origin_ms > 0, p50_ms <= p99_ms, saved_ms > 0 $price"), 'app|app|6|3|3|{}|0|t|t|t', 'a row for texts that differ in literals');
$client->value('SELECT random()');
is($gateway->sql(q{SELECT calls, hits, misses, reasons ->> 'it calls a function that is not immutable' FROM hyperpool.stat_queries WHERE query LIKE '%random%'}), '1|0|0|1', 'why it went to the origin');
$client->value('SELECT quiet()');
is($gateway->sql(q{SELECT flushes FROM hyperpool.stat_queries WHERE query LIKE '%quiet%'}), '1', 'who flushed');
is($gateway->sql("SET ROLE app; SELECT count(*) $price"), '1', 'a role sees its own texts');
is($gateway->sql("SET ROLE insider; SELECT count(*) $price"), '0', 'no other does');
is($gateway->sql('SET ROLE outsider; SELECT count(*) > 0, bool_and(query = $$<insufficient privilege>$$) FROM hyperpool.stat_queries'), 't|t', 'but that there are some');
is($gateway->sql("SET ROLE monitor; SELECT count(*) $price"), '1', 'pg_read_all_stats all');

# ---- invalidate ----
# After quiet(), which may have done anything, nothing is kept until the scout has looked.
sub fill
{
	$gateway->wait_for('SELECT facts FROM hyperpool.stat_origins', 'fresh');
	$client->query($_) for $goods, $people, 'SELECT count(*) FROM cheap', 'SELECT 1';
	return;
}

sub stale { at_origin('UPDATE goods SET price = price + 1'); return at_origin($goods); }

fill();
my $new = stale();
isnt($client->value($goods), $new, 'a write made elsewhere is not seen');
is($gateway->sql(q{SELECT hyperpool.invalidate('app', 'goods') >= 2}), 't', 'invalidate(relation): the table and the view over it');
is($client->value($goods), $new, 'asked anew');
is(answered($people), 'hit', 'another relation is not touched');
fill();
is($gateway->sql(q{SELECT hyperpool.invalidate('app', 'Goods') >= 2}), 't', 'names are folded');
fill();
is($gateway->sql(q{SELECT hyperpool.invalidate('app', 'public.people') >= 1}), 't', 'with a schema');
is(answered($goods), 'hit', 'the others stay');
my ($out, $err) = $gateway->try_sql(q{SELECT hyperpool.invalidate('app', 'nowhere')});
like($err, qr/has no relation "nowhere"/, 'a relation that is not there');
fill();
$new = stale();
is($gateway->sql(qq{SELECT hyperpool.invalidate('app', query => ' $goods; /* the price */ ')}), '1', 'invalidate(query)');
is($client->value($goods), $new, 'asked anew');
is(answered($people), 'hit', 'another query is not touched');
fill();
my $entries = $gateway->sql('SELECT entries FROM hyperpool.stat_cache');
is($gateway->sql(q{SELECT hyperpool.invalidate('app')}), $entries, 'invalidate(origin)');
is(answered($people), 'miss', 'all are gone');
is($gateway->sql(q{SELECT hyperpool.invalidate()}), '1', 'invalidate(): the one that is left');
is($gateway->sql('SELECT count(*) FROM hyperpool.cache_entries'), '0', 'nothing is left');
is($gateway->sql(q{SELECT hyperpool.invalidate()}), '0', 'and nothing more to remove');
cmp_ok($gateway->sql('SELECT purged FROM hyperpool.stat_cache'), '>=', $entries, 'purged counts them');

# A read that is under way when invalidate is called: its answer goes to who asked, and to nobody else.
my $slow = 'SELECT count(*), max(a.price) FROM goods a, goods b, goods c, generate_series(1, 10) d WHERE a.price + b.price + c.price > d';
for my $arguments (q{'app'}, q{'app', 'goods'}, qq{'app', query => '$slow'}, '')
{
	my $other = $gateway->client;
	$other->ask($slow);
	$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'active'}, '1');
	$gateway->sql("SELECT hyperpool.invalidate($arguments)");
	$other->answer(120);
	is($gateway->sql(qq{SELECT count(*) FROM hyperpool.cache_entries WHERE query = '$slow' AND valid AND kind = 'rows'}), '0', "invalidate($arguments) in the middle of a read");
	$other->terminate;
}

# ---- rights ----
$gateway->sql('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hyperpool TO outsider, insider');
for my $what (q{invalidate('app')}, q{invalidate('app', 'goods')}, 'invalidate()', q{explain_query('app', 'SELECT 1')}, q{refresh_catalog('app')}, q{set_rule('app', 'goods', cache => false)})
{
	($out, $err) = $gateway->try_sql("SET ROLE monitor; SELECT hyperpool.$what");
	like($err, qr/permission denied for function/, "pg_monitor may not: $what");
	($out, $err) = $gateway->try_sql("SET ROLE outsider; SELECT hyperpool.$what");
	like($err, qr/permission denied for foreign server|must be owner/, "nor who may not use the origin: $what");
	($out, $err) = $gateway->try_sql("SET ROLE insider; SELECT hyperpool.$what");
	is($err =~ /must be owner/ ? 'owner' : $err, $what =~ /set_rule/ ? 'owner' : '', "who may use it: $what");
}
fill();
is(explained($goods, 'status, entries'), 'hit|1', 'an answer is there');
$gateway->sql(q{CREATE ROLE steward; CREATE ROLE auditor; GRANT app TO steward; GRANT insider TO auditor; GRANT pg_read_all_stats TO auditor;
GRANT EXECUTE ON FUNCTION hyperpool.explain_query(text, text) TO app});
my %told = (app => 'hit|1|f|f', steward => 'hit|1|f|f', auditor => 'hit|1|f|f', insider => 'miss|0|t|t');
for my $who (sort keys %told)
{
	is($gateway->sql("SET ROLE $who; SELECT status, entries, age IS NULL, remaining IS NULL FROM hyperpool.explain_query('app', '$goods')"), $told{$who}, "explain_query: what $who is told of it");
}
is($gateway->sql(qq{SET ROLE insider; SELECT query FROM hyperpool.cache_entries WHERE query = '$goods'}), '', 'nor by the view');
for my $view (qw(rules cache_entries stat_cache stat_queries))
{
	($out, $err) = $gateway->try_sql("SET ROLE monitor; SELECT * FROM hyperpool.$view");
	is($err, '', "pg_monitor reads $view");
}

# ---- rules ----
# The scout reads the catalog again when an origin has changed, and what was asked meanwhile is not kept.
sub settle
{
	$gateway->learn('app');
	$gateway->wait_for('SELECT facts FROM hyperpool.stat_origins', 'fresh');
	return;
}
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'people', cache => false)});
is(explained($people, 'cacheable, status, reason'), 'f|disabled|a rule excludes what it reads: people', 'a rule turns the cache off for a relation');
is(answered($people), 'disabled', 'clients meet it at once');
settle();
is(answered($goods), 'miss', 'other relations');
is(answered($goods), 'hit', 'are cached');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'public.people', cache => false), hyperpool.set_rule('app', relation => 'people')});
is(explained($people, 'status'), 'disabled', 'with a schema');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'public.people')});
is(explained($people, 'cacheable'), 't', 'the rule is gone');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'goods', max_age => '1s')});
is(explained($goods, 'max_age'), '00:00:01', 'max_age of a rule');
is(explained($people, 'max_age'), '01:00:00', 'is not for others');
settle();
$client->value($goods);
sleep 1.2;
is(answered($goods), 'miss', 'older than the rule says');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'goods')});
settle();

$client->query($people);
$client->query('SELECT quiet()');
isnt(answered($people), 'hit', 'a volatile function of a user may have written anything');
$gateway->sql(q{SELECT hyperpool.set_rule('app', function => 'quiet', writes => false)});
is(explained('SELECT quiet()', 'cacheable, functions, writes'), 'f|{quiet}|nothing', 'said to write nothing');
settle();
$client->query($people);
is(counted('cache_flushes', sub { $client->query('SELECT quiet()') }), '0', 'flushes nothing');
is(answered($people), 'hit', 'the entry is there');
is($gateway->sql('SELECT origin, kind, schema, name, cache, max_age, writes FROM hyperpool.rules'), 'app|function||quiet|||f', 'the view of the rules');

# ---- the catalog moves ----
at_origin('CREATE TABLE later (id int)');
$gateway->learn('app');
is(explained('SELECT * FROM later', 'cacheable, relations'), 't|{public.later}', 'refresh_catalog sees a new table');

# ---- the origin is down ----
$gateway->alter(q{max_age => '1s', stale_if_error => '1h'});
settle();
$client->value($people);
$gateway->sql("SELECT hyperpool.create_origin('unread', '" . $gateway->connection_string . "', allow_trust => true)");
$gateway->{origin}->stop('immediate');
($out, $err) = $gateway->try_sql(q{SELECT hyperpool.refresh_catalog('unread', '60s')});
like($err, qr/could not be read/, 'refresh_catalog fails where the very first look at an origin does');
$gateway->sql(q{SELECT hyperpool.drop_origin('unread')});
sleep 1.2;
is(Gateway::wait_until(sub { $client->value($people) }, 'Ada', 30), 'Ada', 'stale_if_error: an old entry is better than none');
($out, $err) = $gateway->try_sql(q{SELECT hyperpool.refresh_catalog('app', '5s')});
like($err, qr/could not be read|was not read in time/, 'refresh_catalog fails');
isnt($gateway->sql(q{SELECT facts FROM hyperpool.stat_origins}), 'unknown', 'what was known is not forgotten');
$gateway->{origin}->start;
$gateway->sql(q{SELECT hyperpool.refresh_catalog('app', '30s')});
is($gateway->wait_for('SELECT facts FROM hyperpool.stat_origins', 'fresh'), 'fresh', 'it is back');

# ---- no cache, no statistics ----
is(Gateway::wait_until(sub { $client->value('SELECT 42') }, '42'), '42', 'clients have their links again');
$gateway->is_unharmed('so far');
$client->terminate;
$gateway->{region}->append_conf('postgresql.conf', "hyperpool.cache_size = 0\nhyperpool.query_stats = 0");
$gateway->{region}->restart;
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
$client = $gateway->client;
is(answered($goods), 'disabled', 'hyperpool.cache_size = 0: nothing is cached');
is(explained($goods, 'cacheable, status, reason, entries'), 'f|disabled|hyperpool.cache_size is 0|0', 'explain_query says so');
is($gateway->sql('SELECT count(*) FROM hyperpool.cache_entries'), '0', 'no entries');
is($gateway->sql('SELECT size, used, entries FROM hyperpool.stat_cache'), '0|0|0', 'no memory');
is($gateway->sql('SELECT hyperpool.invalidate()'), '0', 'invalidate');
is($gateway->sql('SELECT count(*) FROM hyperpool.stat_queries'), '0', 'hyperpool.query_stats = 0: no rows');
$gateway->sql('SELECT hyperpool.reset_stats()');
is($client->value('SELECT 42'), '42', 'and it serves');
done_testing();
