# query_timeout, idle_transaction_timeout and connect_timeout: each ends what takes too long, says so, and nothing else.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => q{pool_size => 2, query_timeout => '1s', connect_timeout => '2s'});
my $client = $gateway->client;
my $other = $gateway->client;

# ---- query_timeout ----
my $began = time();
my $answer = $client->query('SELECT pg_sleep(30)');
is($answer->{error}{C}, '57014', 'query_timeout ends a query');
like($answer->{error}{M}, qr/query_timeout of origin "app"/, 'and names itself');
cmp_ok(time() - $began, '>=', 0.9, 'not before its time');
cmp_ok(time() - $began, '<', 10, 'nor long after');
is($client->{status}, 'I', 'the client may go on');
is($client->value('SELECT 1'), '1', 'and does');
is($client->extended('SELECT pg_sleep(30)')->{error}{C}, '57014', 'an extended one too');
$client->query('BEGIN');
is($client->query('SELECT pg_sleep(30)')->{error}{C}, '57014', 'in a transaction');
is($client->{status}, 'E', 'which has failed');
$client->query('ROLLBACK');
is($gateway->counter('query_timeouts'), '3', 'they are counted');
is($client->value('SELECT pg_sleep(0.3), 2'), '|2', 'a quick one is not ended');
is((scalar grep { $client->value('SELECT pg_sleep(0.2)') ne '' } 1 .. 7), 0, 'nor many that take longer together');
$client->query("BEGIN; SELECT 'hold'");
sleep 1.5;
is($client->value('SELECT 3'), '3', 'an idle transaction is none of its business');
$client->query('COMMIT');
is($gateway->{origin}->safe_psql('app', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'sleep.30'  AND pid <> pg_backend_pid()}), '0', 'the origin has stopped too');

# ---- idle_transaction_timeout ----
$gateway->alter(q{query_timeout => '0', idle_transaction_timeout => '1s'});
$gateway->wait_for('SELECT idle_transaction_timeout FROM hyperpool.origins', '00:00:01');
is(Gateway::wait_until(sub { RawClient::outcome($other->query('SELECT pg_sleep(1.5), 4')) }, '|4'), '|4', 'query_timeout is off again');
$client->query('BEGIN; CREATE TABLE idle (i int)');
ok($client->is_closed(15), 'idle_transaction_timeout ends the connection');
$client->advance;
is($client->{coming}{error}{C}, '25P03', 'with the reason');
like($client->{coming}{error}{M}, qr/idle_transaction_timeout of origin "app"/, 'which it names');
is($client->{coming}{error}{S}, 'FATAL', 'as a FATAL');
is(Gateway::wait_until(sub { $other->value(q{SELECT to_regclass('idle') IS NULL AND NOT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = relation WHERE relname = 'idle')}) }, 't'), 't', 'and its transaction is rolled back');
is($gateway->counter('idle_transaction_timeouts'), '1', 'it is counted');
$other->query('BEGIN');
for (1 .. 4)
{
	sleep 0.4;
	$other->value('SELECT 1');
}
is($other->value('SELECT pg_sleep(1.5), 5'), '|5', 'a transaction that is not idle goes on, as long as it likes');
$other->query('COMMIT');
sleep 1.5;
is($other->value('SELECT 6'), '6', 'a client without a transaction may be idle');
$client = $gateway->client;
$client->put_raw(RawClient::message('P', "\0SELECT 1\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0") . RawClient::message('H', ''));
ok($client->is_closed(15), 'Parse, Flush and silence keep a link no longer either');
like($client->{in}, qr/25P03/, 'with the same reason');

my $sets = 'UPDATE locked SET i = 2';
$other->query('CREATE TABLE locked AS SELECT 1 AS i');
for my $half ([ 'a batch neither flushed nor synced', RawClient::message('P', "\0$sets\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") ],
	[ 'half a message', RawClient::message('P', "\0SELECT \$1\0\0\0") . 'B' . pack('N', 200_000) . "\0\0" . 'x' x 100_000 ])
{
	my ($what, $bytes) = @$half;
	$client = $gateway->client;
	$client->put_raw($bytes);
	ok($client->is_closed(15), "$what, and silence");
	like($client->{in}, qr/25P03/, 'with the same reason');
}
is($other->query('UPDATE locked SET i = 3', 10)->{tags}[0], 'UPDATE 1', 'its locks are gone');
$client = $gateway->client;
$client->put_raw(RawClient::message('P', "\0SELECT pg_sleep(2)\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('H', ''));
ok(!$client->is_closed(1.8), 'who has flushed waits for an answer');
$client->vanish;

# who copies is not silent while the origin takes nothing
$client = $gateway->client;
$client->ask('COPY locked FROM STDIN');
IO::Select->new($client->{socket})->can_read(20);
$gateway->relay('stall');
$client->put_raw(RawClient::message('d', "1\n" x 4000) x 4000, 2);
ok(!$client->is_closed(2.5), 'a copy that the origin does not take is not taken for silence');
$gateway->relay('resume');
$client->vanish;
is(Gateway::wait_until(sub { $other->value(q{SELECT count(*) FROM pg_stat_activity WHERE query ~ '^COPY'}) }, '0'), '0', 'and ends with its client');

# ---- connect_timeout, to an origin that accepts and then is silent ----
$gateway->alter(q{idle_transaction_timeout => '0', queue_timeout => '30s'});
$gateway->relay('stall');
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
$gateway->wait_for('SELECT sv_idle FROM hyperpool.pools', '0');    # the worker has heard of it
for my $turn (1, 2)
{
	$began = time();
	my $failed = $other->query('SELECT 7', 40);
	my $told = RawClient::error_text($failed);
	like($failed->{error}{C} // '', qr/^08/, "an origin that says nothing: $told");
	like($failed->{error}{M} // '', qr/time/i, 'a link is not opened in time') if $turn == 2;
	cmp_ok(time() - $began, '<', 20, 'the client is told long before queue_timeout');
}
cmp_ok($gateway->counter('links_failed'), '>=', 1, 'it is counted');
$gateway->relay('resume');
is(Gateway::wait_until(sub { $other->value('SELECT 8') }, '8'), '8', 'recovers without help');

# ---- the path breaks ----
$gateway->relay('reset');
is(Gateway::wait_until(sub { $other->value('SELECT 9') }, '9'), '9', 'connections reset: recovers without help');

# ---- the path is cut and nobody says so: query_timeout is what finds it ----
$gateway->alter(q{query_timeout => '1s'});
is(Gateway::wait_until(sub { $other->value('SELECT pg_sleep(1.3)') }, '57014'), '57014', 'query_timeout is on again');
$gateway->wait_for('SELECT sv_active FROM hyperpool.pools', '0');    # all links lie idle
$gateway->relay('half-open');
$other->ask('SELECT 10');
like(RawClient::outcome($other->answer(15)), qr/^(57014|08\w\w\w|10)$/, 'half-open: not in silence');
$gateway->relay('reset');
is(Gateway::wait_until(sub { my $c = $gateway->client; my $value = RawClient::outcome($c->query('SELECT 11', 5)); $c->vanish; $value }, '11'), '11', 'and when the path says so: recovers without help');
$gateway->is_unharmed('afterwards');
done_testing();
