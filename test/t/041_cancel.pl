# CancelRequest: a running, a queued, an idle client; a wrong key; one that comes late never hits another client. With two workers
# the request lands on either. A client that vanishes has its query cancelled.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(workers => 2, options => 'pool_size => 4');
$gateway->create('one', 'pool_size => 1');
my $watcher = $gateway->direct;

sub sleepers { return $watcher->value(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'pg_sleep' AND pid <> pg_backend_pid()}); }

sub starts_to_sleep
{
	my ($client, $messages) = @_;
	my $before = sleepers();
	$messages ? $client->put_raw($messages) : $client->ask('SELECT pg_sleep(60)');
	Gateway::wait_until(\&sleepers, $before + 1) eq $before + 1 or die 'the query does not run';
}

# ---- running ----
my $client = $gateway->client;
for my $turn (1 .. 8)
{
	starts_to_sleep($client);
	$client->cancel;
	is(RawClient::outcome($client->answer), '57014', "running, request $turn, whatever worker it lands on");
}
is($client->value('SELECT 1'), '1', 'the client goes on');
starts_to_sleep($client, RawClient::extended_messages('SELECT pg_sleep(60)'));
$client->cancel;
is(RawClient::outcome($client->answer), '57014', 'running, extended');
$client->query('BEGIN');
starts_to_sleep($client);
$client->cancel;
is(RawClient::outcome($client->answer), '57014', 'in a transaction');
is($client->{status}, 'E', 'which has then failed');
is($client->value('ROLLBACK'), '', 'and can be ended');
starts_to_sleep($client, RawClient::message('Q', "SELECT pg_sleep(60)\0") . RawClient::message('Q', "SELECT 'second'\0"));
$client->cancel;
is(RawClient::outcome($client->answer), '57014', 'pipelined: the first is cancelled');
is(RawClient::outcome($client->answer), 'second', 'the second is not');

# ---- queued ----
my $holder = $gateway->client(database => 'one');
my $queued = $gateway->client(database => 'one');
starts_to_sleep($holder);
$queued->ask('SELECT 1');
$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'waiting'}, '1');
$queued->cancel;
is(RawClient::outcome($queued->answer), '57014', 'queued: cancelled, while nothing was asked of the origin');
ok(!$holder->is_answered(0.5), 'the one that runs goes on');
$queued->ask('SELECT 2');
$holder->cancel;
is(RawClient::outcome($holder->answer), '57014', 'until it is cancelled itself');
is(RawClient::outcome($queued->answer), '2', 'then the queued one has its turn');

# ---- idle, and with a wrong key ----
ok($client->cancel, 'idle: the request is taken');
sleep 0.2;
is($client->value('SELECT pg_sleep(0.2), 3'), '|3', 'and has no effect on what comes later');
starts_to_sleep($client);
my ($pid, $secret) = unpack('Na*', $client->{key});
$client->cancel(pack('Na*', $pid, ~$secret));
$client->cancel(pack('Na*', $pid + 1, $secret));
$client->cancel(pack('Na*', 0, $secret));
ok(!$client->is_answered(1), 'a wrong key has no effect');
$client->cancel;
is(RawClient::outcome($client->answer), '57014', 'the right one has');

# ---- late: the link has another client by now ----
my ($hits, $own, $wrong) = (0, 0, 0);
for my $turn (1 .. 60)
{
	$holder->ask('SELECT pg_sleep(0.002)');
	$queued->ask('SELECT pg_sleep(0.01), 4');
	sleep 0.001 * ($turn % 6);
	$holder->cancel;
	my ($first, $second) = map { RawClient::outcome($_) } RawClient::answers(20, $holder, $queued);
	$own++ if $first eq '57014';
	$hits++ if $second eq '57014';
	$wrong++ if $second ne '|4' || $first !~ /^(57014)?$/;
}
note("60 cancels, $own in time");
is($hits, 0, 'a late cancel never hits the next client on the same link');
is($wrong, 0, 'and everybody has an answer of their own');
is($gateway->sql(q{SELECT count(*) > 0 FROM hyperpool.stat_origins WHERE cancels > 0}), 't', 'cancels are counted');

# ---- vanished clients ----
for my $how (qw(vanish reset))
{
	my $gone = $gateway->client;
	starts_to_sleep($gone);
	$gone->$how;
	is(Gateway::wait_until(\&sleepers, '0'), '0', "$how: its query is cancelled");
}
my $gone = $gateway->client;
$gone->query('BEGIN; CREATE TABLE never (i int)');
starts_to_sleep($gone);
$gone->reset;
is(Gateway::wait_until(sub { $watcher->value(q{SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = 'app' AND mode = 'AccessExclusiveLock'}) }, '0'),
	'0', 'and its transaction is rolled back');

$gateway->is_unharmed('afterwards');
done_testing();
