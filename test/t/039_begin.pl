# A BEGIN alone costs no trip and holds no link: it reaches the origin with the first statement. What can go wrong until then, and then. Case 20 of docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use List::Util qw(min);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Cached::start(relay => 1, make => 'CREATE TABLE kept (i int, v int); INSERT INTO kept VALUES (1, 10)', options => 'pool_size => 2',
	origin_settings => "wal_level = replica\nmax_wal_senders = 3\nlog_statement = all");
my $client = $gateway->client;
my $other = $gateway->client;
my $by_relay = RawClient->new(port => $gateway->{relay_port}, user => $Gateway::user, database => 'app');    # without the gateway
my $insert = 'INSERT INTO kept VALUES (2, 20)';

sub simple { my @texts = @_; return sub { my ($c) = @_; $c->query($_) for @texts; }; }
sub extended { my @texts = @_; return sub { my ($c) = @_; $c->extended($_) for @texts; }; }
sub in_one_write { my @texts = @_; return sub { my ($c) = @_; $c->put_raw(join '', map { RawClient::message('Q', "$_\0") } @texts); $c->answer for @texts; }; }

# ---- trips ----
sub trips_so_far
{
	$gateway->relay('summary');
	my $line = readline $gateway->{relay_out};
	return ($line =~ /trips (\d+)/)[0];
}

# The scout asks the origin something now and then: it can only add to the count, so the least of some is the truth.
sub trips
{
	my ($what, $of, $first) = @_;
	my @counts;
	for (1 .. 4)
	{
		$first->($of) if $first;
		my $before = trips_so_far();
		$what->($of);
		push @counts, trips_so_far() - $before;
	}
	return min(@counts);
}

$client->query($insert);    # a link is open
is(trips(simple('BEGIN', $insert, 'COMMIT'), $by_relay), 3, 'a direct connection: BEGIN, INSERT and COMMIT are three trips');
is(trips(simple('BEGIN', $insert, 'COMMIT'), $client), 2, 'case 20: through the gateway two');
is(trips(extended('BEGIN', $insert, 'COMMIT'), $client), 2, 'and two in the extended protocol');
is(trips(simple('BEGIN'), $client, sub { $client->query('ROLLBACK') }), 0, 'BEGIN costs none');
is(trips(simple('START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE', $insert, 'COMMIT'), $client, sub { $client->query('ROLLBACK') }), 2, 'nor does one with options');
is(trips(simple('BEGIN', 'COMMIT'), $client), 1, 'BEGIN and COMMIT are one');
is(trips(simple('BEGIN', "SELECT v FROM kept WHERE i = 1", $insert, 'COMMIT'), $client), 3, 'what stands in between costs its trip');
is(trips(in_one_write('BEGIN', $insert, 'COMMIT'), $client), 1, 'all three in one write are one');
is(trips(sub { $client->query('BEGIN'); in_one_write($insert, $insert, 'COMMIT')->($client) }, $client), 2, 'behind a BEGIN that may yet fail one is sent, then the others');
is(trips(simple('BEGIN; SELECT 1', 'COMMIT'), $client), 2, 'one string is sent as it is');
is(trips(simple('BEGIN' . ' ' x 2000), $client, sub { $client->query('ROLLBACK') }), 1, 'a long one is sent');
$client->query('ROLLBACK');
$client->query('SET client_min_messages = debug1');
is(trips(simple('BEGIN'), $client, sub { $client->query('ROLLBACK') }), 1, 'so is that of a client that wants to be told more');
$client->query('ROLLBACK');
$client->query('RESET client_min_messages');

# ---- what others see ----
my $row = sub { return 'client_port = ' . $_[0]->{socket}->sockport; };
my $state = sub { return $gateway->sql('SELECT state, link_id IS NULL FROM hyperpool.clients WHERE ' . $row->($_[0])); };
$client->query('BEGIN');
is($client->{status}, 'T', 'the client is in a transaction');
is($state->($client), 'idle in transaction|t', 'and idle in it, without a link');
is($gateway->sql('SELECT sv_active FROM hyperpool.pools'), '0', 'no link is taken');
$client->query('SELECT 1');
is($state->($client), 'idle in transaction|f', 'which it has after the first statement');
$client->query('COMMIT');
is($state->($client), 'idle|t', 'and not after the last');

# ---- the cache ----
my $read = 'SELECT v FROM kept WHERE i = 1';
is(join(' ', Cached::warm($gateway, $other, $read)), 'hit 10', 'a read that is in the cache');
$client->query('BEGIN');
is(join(' ', Cached::ask($gateway, $client, $read)), 'transaction 10', 'is not answered from there in a transaction');
$client->query('UPDATE kept SET v = 11 WHERE i = 1');
is((Cached::ask($gateway, $other, $read))[1], '10', 'what is written in it others do not see');
$client->query('COMMIT');
is((Cached::ask($gateway, $other, $read))[1], '11', 'until its COMMIT is answered');
is(Cached::said($gateway, sub { $client->query($_) for 'BEGIN', 'ROLLBACK' }), 'notaquery transaction', 'BEGIN counts as it would at the origin');

# ---- the link is lost ----
my $repeated = $gateway->counter('repeated');
$client->query('BEGIN');
$gateway->relay('reset');
sleep 0.3;
is($client->value($read), '11', 'links that break before the first statement are none of its business');
is($client->{status}, 'T', 'the transaction has begun on another');
is($client->query('COMMIT')->{tags}[0], 'COMMIT', 'and ends');

# BEGIN and what follows it are on their way when the path breaks.
sub lost_under_way
{
	my ($sql) = @_;
	$client->query('BEGIN');
	$gateway->relay('stall');
	$client->ask($sql);
	$client->is_answered(0.3);
	$gateway->relay('reset');
	$gateway->relay('resume');
	return $client->answer;
}
sub lost_at_work
{
	my ($mark, $sql) = @_;
	$client->query('BEGIN');
	$client->ask($sql);
	Gateway::wait_until(sub { $gateway->{origin}->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%$mark%' AND pid <> pg_backend_pid()") }, '1');
	$gateway->relay('reset');
	return $client->answer;
}
sub is_failed
{
	my ($answer, $code, $what) = @_;
	is($answer->{error}{C}, $code, "$what: the client is told");
	is($answer->{error}{S}, 'ERROR', "$what: it stays connected");
	is($client->{status}, 'E', "$what: the transaction has failed");
	is($client->query($insert)->{error}{C}, '25P02', "$what: nothing can follow in it");
	is($client->query('COMMIT')->{tags}[0], 'ROLLBACK', "$what: it ends as a failed one");
	is($client->{status}, 'I', "$what: and is over");
}
my $slow = q{SELECT 'mark_%d', pg_sleep(1.5)};
is_failed(lost_at_work('mark_1', sprintf $slow, 1), '08006', 'a read lost at work');
is_failed(lost_at_work('mark_2', q{INSERT INTO kept SELECT 3, 30 FROM (SELECT 'mark_2', pg_sleep(1.5)) s}), '08007', 'a write lost at work');
like(lost_under_way($read)->{error}{C}, qr/^08/, 'a read lost under way');
is($client->{status}, 'E', 'the transaction has failed');
$client->query('ROLLBACK');
is($gateway->counter('repeated'), $repeated, 'no read of a transaction was asked again');
is($client->value('SELECT count(*) FROM kept WHERE i = 3'), '0', 'nothing of it was done');

# ---- no link ----
$gateway->alter(q{pool_size => 1, queue_timeout => '1s'});
$gateway->wait_for('SELECT pool_size FROM hyperpool.pools', '1');
$other->query("BEGIN; SELECT 'hold'");
is($client->query('BEGIN')->{tags}[0], 'BEGIN', 'no link is free: BEGIN needs none');
is($client->query($read)->{error}{C}, '53300', 'the first statement waits for queue_timeout');
is($client->{status}, 'E', 'then the transaction has failed');
is($client->query('BEGIN')->{error}{C}, '53300', 'what follows waits too');
is($client->{status}, 'E', 'and it stays failed');
$other->query('COMMIT');
is($client->query($read)->{error}{C}, '25P02', 'with a link it is one at the origin');
$client->query('ROLLBACK');
is($client->{status}, 'I', 'which can be ended');

$other->query("BEGIN; SELECT 'hold'");
$client->extended('BEGIN');
$client->put_raw(RawClient::message('P', "\0$insert\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0"));
$client->is_answered(1.5);
$client->put_raw(RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''));
my $answer = $client->answer;
is("$answer->{types} $answer->{error}{C} $answer->{status}", 'EZ 53300 E', 'an extended exchange is refused as a whole');
$other->query('COMMIT');
$client->query('ROLLBACK');

$gateway->alter(q{queue_timeout => '15s'});
$other->query("BEGIN; SELECT 'hold'");
$client->query('BEGIN');
$client->ask($read);
is($gateway->wait_for('SELECT state FROM hyperpool.clients WHERE ' . $row->($client), 'waiting'), 'waiting', 'one that waits');
$client->cancel;
is($client->answer->{error}{C}, '57014', 'can be cancelled');
is($client->{status}, 'E', 'and its transaction has failed');
$other->query('COMMIT');
$client->query('ROLLBACK');
$client->query('BEGIN');
$client->cancel;
is($client->value($read), '11', 'a cancel while nothing is asked does nothing');
$client->query('COMMIT');

$gateway->alter(q{queue_timeout => '1s'});
$client->query('BEGIN');
$gateway->sql(q{SELECT hyperpool.pause_origin('app')});
sleep 0.3;
is($client->query($read)->{error}{C}, '57P03', 'the origin is paused');
is($client->{status}, 'E', 'the transaction has failed');
$gateway->sql(q{SELECT hyperpool.resume_origin('app')});
is(Gateway::wait_until(sub { $client->query('ROLLBACK')->{tags}[0] // '' }, 'ROLLBACK'), 'ROLLBACK', 'and is ended when that is over');
$gateway->alter(q{queue_timeout => '15s', pool_size => 2});

# ---- idle_transaction_timeout ----
$gateway->alter(q{idle_transaction_timeout => '1s'});
$gateway->wait_for('SELECT idle_transaction_timeout FROM hyperpool.origins', '00:00:01');
my $idle = $gateway->client;
Gateway::wait_until(sub { $idle->query('BEGIN'); $idle->is_closed(3) ? 'closed' : $idle->query('ROLLBACK') && '' }, 'closed');
$idle->advance;
is($idle->{coming}{error}{C}, '25P03', 'idle_transaction_timeout ends it as any other');
is($idle->{coming}{error}{S}, 'FATAL', 'with its connection');
$client->query('BEGIN');
for (1 .. 4)
{
	sleep 0.4;
	$client->put('S', '');
	is($client->answer->{status}, 'T', 'who says something is not idle');
}
is($client->value('SELECT pg_sleep(1.5), 5'), '|5', 'nor who runs something');
$client->query('COMMIT');
sleep 1.5;
is($client->value('SELECT 6'), '6', 'and without a transaction one may be');
$gateway->alter(q{idle_transaction_timeout => '0'});

# ---- sent away ----
$idle = $gateway->client;
$idle->query('BEGIN');
$gateway->sql('SELECT hyperpool.disconnect(client_id) FROM hyperpool.clients WHERE ' . $row->($idle));
ok($idle->is_closed(10), 'disconnect()');
like($idle->{in}, qr/FATAL\0.*57P01\0/s, 'says so');
$idle = $gateway->client;
$idle->query('BEGIN');
$gateway->sql('REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC');
ok($idle->is_closed(10), 'a transaction that has not begun at the origin does not keep a right that is gone');
like($idle->{in}, qr/FATAL\0.*42501\0/s, 'the client is told');
$gateway->sql('GRANT USAGE ON FOREIGN SERVER app TO PUBLIC');
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
($client, $other) = map { $gateway->client } 1 .. 2;

# ---- another pool mode meanwhile ----
$client->query('BEGIN');
$gateway->alter(q{pool_mode => 'session'});
$gateway->wait_for('SELECT pool_mode FROM hyperpool.pools', 'session');
is($client->value($read), '11', 'pool_mode session meanwhile: it is sent all the same');
is($client->{status}, 'T', 'in front of the first statement');
is($client->query('COMMIT')->{tags}[0], 'COMMIT', 'and ends');
$client->terminate;
$gateway->alter(q{pool_mode => 'transaction'});
$gateway->wait_for('SELECT pool_mode FROM hyperpool.pools', 'transaction');
$client = $gateway->client;

# ---- the origin refuses it: a standby stands in its place, and takes no SERIALIZABLE ----
$gateway->{origin}->backup('of_origin');
$client->value('SELECT 7');
my $serializable = 'BEGIN ISOLATION LEVEL SERIALIZABLE';
is($_->query($serializable)->{tags}[0], 'BEGIN', 'a primary would take it') for $client, $other;
my $standby = PostgreSQL::Test::Cluster->new('standby', port => $gateway->{origin}->port);
$standby->init_from_backup($gateway->{origin}, 'of_origin');
$standby->set_standby_mode;
$gateway->{origin}->stop('immediate');
$standby->start;
$answer = $client->query(q{SELECT 'never_run'});
is("$answer->{types} $answer->{error}{C} $answer->{error}{S} $answer->{status}", 'EZ 0A000 ERROR E', 'the standby does not: the first statement is told')
  or diag(RawClient::error_text($answer));
$other->put_raw(RawClient::extended_messages(q{SELECT 'never_run'}) . RawClient::message('Q', "SELECT 'behind it'\0"));
is(join(' ', map { my $a = $other->answer; "$a->{error}{C} $a->{status}" } 1 .. 2), '0A000 E 25P02 E', 'and the second finds a failed transaction');
unlike(PostgreSQL::Test::Utils::slurp_file($standby->logfile), qr/(statement|execute[^:]*): SELECT 'never_run'/, 'nothing ran outside of it');
like(PostgreSQL::Test::Utils::slurp_file($standby->logfile), qr/(statement|execute[^:]*): SELECT 'behind it'/, 'as the log would show');
for my $c ($client, $other)
{
	is($c->query('COMMIT')->{tags}[0], 'ROLLBACK', 'the transaction is ended');
	is($c->value('SELECT pg_is_in_recovery()'), 't', 'and the client goes on');
}
for my $sql ($serializable, 'START TRANSACTION READ WRITE')
{
	is($client->query($sql)->{error}{C}, '0A000', "a known standby is asked: $sql");
	is($client->{status}, 'I', 'and no transaction has begun');
}
is(trips(simple('BEGIN READ ONLY, ISOLATION LEVEL REPEATABLE READ'), $client, sub { $client->query('ROLLBACK') }), 0, 'others it takes too');
is($client->value('SHOW transaction_isolation'), 'repeatable read', 'with their options');
$client->query('COMMIT');
$gateway->is_unharmed('afterwards');
$_->terminate for $client, $other;
done_testing();
