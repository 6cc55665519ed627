# A worker that ends is started again and serves; one that is killed takes the instance through its recovery, and then it serves too.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(workers => 2, settings => q{
restart_after_crash = on
hyperpool.drain_timeout = 3s
}, options => 'pool_size => 3');

sub serves
{
	my $client = eval { $gateway->client(seconds => 3) } or return 'no login';
	my $value = RawClient::outcome($client->query('SELECT 1', 5));
	$client->terminate;
	return $value;
}

# An answer from each worker: many connections, so that all have some.
sub all_serve
{
	return join ' ', grep { $_ ne '1' } map { serves() } 1 .. 12;
}

# ---- pg_terminate_backend ----
for my $kind ('worker', 'worker', 'manager', 'scout')
{
	my $idle = $gateway->client;
	my @busy = map { $gateway->client } 1 .. 3;    # most likely of both workers
	$_->query("BEGIN; SELECT 'hold'") for @busy;
	my $pid = $gateway->sql("SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'hyperpool $kind'");
	is($gateway->sql("SELECT pg_terminate_backend($pid)"), 't', "a $kind is ended");
	is(join(' ', map { $_->query('COMMIT', 10)->{tags}[0] // 'cut off' } @busy), 'COMMIT COMMIT COMMIT', 'transactions may end within drain_timeout');
	is($gateway->wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'hyperpool $kind' AND pid <> $pid", $kind eq 'worker' ? 2 : 1), $kind eq 'worker' ? 2 : 1, 'another takes its place');
	is(Gateway::wait_until(\&all_serve, '', 20), '', 'all serve');
	for my $client ($idle, @busy)
	{
		my $answer = $client->query('SELECT 1', 10);
		ok($answer->{done} || $answer->{closed}, 'a former client is told, or goes on');
		is($answer->{error}{C} // '57P01', '57P01', 'with the reason') if $answer->{closed};
	}
}
cmp_ok($gateway->links_at_origin, '<=', 3, 'no links are left over');
is($gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't'), 't', 'healthy');

# ---- the clients and links of a worker that has gone are gone from the views ----
is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.links l WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'hyperpool worker')}, '0'), '0', 'none without a worker');

# ---- kill -9 ----
my $client = $gateway->client;
$client->ask('SELECT pg_sleep(60)');
my ($pid) = $gateway->worker_pids;
kill 'KILL', $pid;
is(Gateway::wait_until(sub { my ($out) = eval { $gateway->try_sql('SELECT 1') }; $out // '' }, '1', 30), '1', 'the instance has recovered');
is(Gateway::wait_until(\&all_serve, '', 20), '', 'and the gateway serves again');
ok($client->is_closed(10), 'the client has been let go');
is($gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't'), 't', 'healthy');
is($gateway->sql('SELECT count(*) FROM hyperpool.origins'), '1', 'the origin is still there');
is(Gateway::wait_until(sub { $gateway->links_at_origin <= 3 ? 'yes' : 'no' }, 'yes', 20), 'yes', 'no links are left over at the origin');

# ---- an orderly restart of the instance, with clients connected ----
$client = $gateway->client;
$client->query("BEGIN; SELECT 'hold'");
my $began = time();
$gateway->{region}->restart;
cmp_ok(time() - $began, '<', 20, 'a restart does not wait for clients for ever');
is(Gateway::wait_until(\&all_serve, '', 20), '', 'it serves after a restart');
my $answer = $client->query('SELECT 1', 5);
ok($answer->{closed}, 'the former client was let go');
is($answer->{error}{C} // '57P01', '57P01', 'with the reason');

done_testing();
