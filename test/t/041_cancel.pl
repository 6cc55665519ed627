# CancelRequest: a running, a queued, an idle client; a wrong key; one that comes late never hits another client. With two workers
# the request lands on either. A client that vanishes has its query cancelled. Cases 1, 2, 3 and 18 of docs/testing.md; over a long way: 180.
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

# ---- case 2: queued ----
my $holder = $gateway->client(database => 'one');
my $queued = $gateway->client(database => 'one');
starts_to_sleep($holder);
$queued->ask('SELECT 1');
$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'waiting'}, '1');
$queued->cancel;
is(RawClient::outcome($queued->answer), '57014', 'case 2: queued: cancelled, while nothing was asked of the origin');
ok(!$holder->is_answered(0.5), 'the one that runs goes on');
$queued->ask('SELECT 2');
$holder->cancel;
is(RawClient::outcome($holder->answer), '57014', 'until it is cancelled itself');
is(RawClient::outcome($queued->answer), '2', 'then the queued one has its turn');

# ---- case 2: idle; case 3: with a wrong key ----
ok($client->cancel, 'idle: the request is taken');
sleep 0.2;
is($client->value('SELECT pg_sleep(0.2), 3'), '|3', 'case 2: and has no effect on what comes later');
starts_to_sleep($client);
my ($pid, $secret) = unpack('Na*', $client->{key});
$client->cancel(pack('Na*', $pid, ~$secret));
$client->cancel(pack('Na*', $pid + 1, $secret));
$client->cancel(pack('Na*', 0, $secret));
ok(!$client->is_answered(1), 'case 3: a wrong key has no effect');
$client->cancel;
is(RawClient::outcome($client->answer), '57014', 'the right one has');

# ---- case 1: late: the link has another client by now ----
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
is($hits, 0, 'case 1: a late cancel never hits the next client on the same link');
is($wrong, 0, 'and everybody has an answer of their own');
is($gateway->sql(q{SELECT count(*) > 0 FROM hyperpool.stat_origins WHERE cancels > 0}), 't', 'cancels are counted');

# ---- case 18: vanished clients ----
for my $how (qw(vanish reset))
{
	my $gone = $gateway->client;
	starts_to_sleep($gone);
	$gone->$how;
	is(Gateway::wait_until(\&sleepers, '0'), '0', "case 18: $how: its query is cancelled");
}
my $gone = $gateway->client;
$gone->query('BEGIN; CREATE TABLE never (i int)');
starts_to_sleep($gone);
$gone->reset;
is(Gateway::wait_until(sub { $watcher->value(q{SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE datname = 'app' AND mode = 'AccessExclusiveLock'}) }, '0'),
	'0', 'and its transaction is rolled back');

# what lies behind it in a pipeline too, whenever the cancel comes
for my $turn (0 .. 9)
{
	my $pipeline = $gateway->client;
	$pipeline->put_raw(join '', map { RawClient::message('Q', "SELECT $_\0") } 1, 2, 'pg_sleep(60)', 3, 'pg_sleep(50)');
	sleep 0.0005 * $turn;
	$pipeline->reset;
}
is(Gateway::wait_until(\&sleepers, '0'), '0', 'case 18: of a pipeline all that is left is cancelled, not only what the first cancel met');

# ---- case 3: keys of before, of 32 bytes, cut and lengthened, by every listener ----
sub fire
{
	my ($key, %way) = @_;
	my $other = RawClient->new(port => $gateway->{port}, login => 0, %way);
	$other->put_raw(pack('NN', 8 + length $key, 80877102) . $key);
	$other->is_closed;
	close $other->{socket};
	return;
}
my @ways = ([], [ socket_dir => $gateway->{region}->host ]);

# The key of 3.2 is longer; the messages are the same.
sub newer_client
{
	my $newer = RawClient->new(port => $gateway->{port}, login => 0);
	my $body = pack('N', 0x00030002) . pack('Z*Z*Z*Z*', user => 'app', database => 'app') . "\0";
	$newer->put_raw(pack('N', 4 + length $body) . $body);
	$newer->answer;
	return $newer;
}
my $newer = newer_client();
is(length $newer->{key}, 4 + 32, 'case 3: a key of protocol 3.2');
my @stale = map { my $old = $_ % 2 ? $gateway->client : newer_client(); my $key = $old->{key}; $old->terminate; $key } 1 .. 8;
$gateway->wait_for('SELECT count(*) < 8 FROM hyperpool.clients', 't');
my @now = (newer_client(), map { $gateway->client } 1 .. 3);
starts_to_sleep($_) for @now;
for my $way (@ways)
{
	fire($_, @$way) for @stale;
	for my $victim (@now)
	{
		my ($number, $whole) = unpack('a4a*', $victim->{key});
		fire($number . unpack('x4a*', $_), @$way) for @stale;
		fire($_, @$way) for $number, $number . substr($whole, 0, 3), $number . $whole . "\0", $number . $whole . $whole, $number . substr($whole, 0, -1) . chr(ord(substr($whole, -1)) ^ 1), $number . ("\0" x length $whole), $victim->{key} . 'x' x 300;
	}
	fire(pack('Na32', 0x7fffffff, 'x' x 32), @$way);
}
ok(!(grep { $_->is_answered(0) } @now), 'case 3: keys of clients that have gone, and keys that are not whole, hit nobody');
fire($now[$_]->{key}, @{ $ways[ $_ % 2 ] }) for 0 .. 3;
is(join(' ', map { RawClient::outcome($_->answer) } @now), '57014 57014 57014 57014', 'case 3: those of 4 and of 32 bytes do their work, by every listener');
my @before = map { $_->{key} } @now;
$gateway->is_unharmed('afterwards');
$gateway->{region}->restart;
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
@now = (newer_client(), map { $gateway->client } 1 .. 3);
starts_to_sleep($_) for @now;
fire($_) for @before, @stale;
fire(substr($now[$_]->{key}, 0, 4) . substr($before[$_], 4)) for 0 .. 3;
ok(!(grep { $_->is_answered(0) } @now), 'case 3: after a restart the keys of before are worth nothing');
$now[$_]->cancel for 0 .. 3;
is(join(' ', map { RawClient::outcome($_->answer) } @now), '57014 57014 57014 57014', 'case 3: and the new ones are');
done_testing();
