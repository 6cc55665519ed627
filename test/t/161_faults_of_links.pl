# Single links that break: while a long answer or a copy comes, while they are being opened, while they lie idle. What was cut is never taken for whole, who waits for a link
# is told why there is none, and an idle link that has ended is noticed by nobody.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => q{pool_size => 6, connect_timeout => '2s'});
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; CREATE TABLE large AS SELECT i, repeat(md5(i::text), 256) AS t FROM generate_series(1, 200) i");
my $descriptors = Faults::other_descriptors($gateway);

sub relay { $gateway->relay($_) for @_; }

# ---- a long answer and a copy are cut: never taken for whole ----
my $client = $gateway->client;
for my $cut (300, 8192, 100_000, 500_000)
{
	for my $how ("cut $cut", "truncate $cut")
	{
		for my $sql ('SELECT t FROM large', 'COPY large TO STDOUT')
		{
			Gateway::wait_until(sub { $client->value('SELECT 1') }, '1');
			relay($how);
			my $answer = $client->query($sql, 20);
			relay('cut off');
			my $told = RawClient::outcome($answer);
			like(substr($told, 0, 50), qr/^(08\w\w\w|closed)$/, "$how: $sql is not taken for whole");
			$client = $gateway->client if $answer->{closed};
		}
	}
}

# ---- links that are being opened ----
my $connect = sub { $gateway->sql(q{SELECT hyperpool.restart_origin('app')}); $gateway->wait_for('SELECT coalesce(sum(sv_idle + sv_active), 0) FROM hyperpool.pools', '0'); };
for my $fault ([ 'cut at login', 'cut 20', 'cut off' ], [ 'cut in the login packet', 'cut asked 30', 'cut off' ], [ 'ended at login', 'truncate 20', 'cut off' ], [ 'silent at login', 'stall answered', 'resume' ], [ 'deaf', 'deaf', 'accept' ])
{
	my ($what, $begin, $end) = @$fault;
	$connect->();
	relay($begin);
	my $began = time();
	my $told = $client->query('SELECT 2', 20);
	like(RawClient::outcome($told), qr/^08/, "$what: told " . RawClient::error_text($told));
	ok($told->{error}{H}, "$what: with a hint");
	cmp_ok(time() - $began, '<', 15, "$what: within connect_timeout");
	relay($end);
	is(Gateway::wait_until(sub { $client->value('SELECT 3') }, '3'), '3', "$what: then it goes on");
}
$connect->();
relay('drip 20');
is($client->value('SELECT 4'), '4', 'a login by small pieces succeeds');
relay('drip off');

# ---- an origin that hangs keeps nobody else waiting, not even the scout, which looks after all of them ----
{
	local $gateway->{relay_port} = $origin->port;
	$gateway->create('near', 'pool_size => 2');
}
$gateway->learn(qw(app near));
relay('deaf', 'reset');
my $asker = RawClient->new(port => $gateway->{region}->port, user => scalar getpwuid($>), database => 'postgres');
$asker->ask(q{SELECT hyperpool.refresh_catalog('app')});
sleep 0.3;
is(($gateway->try_sql(q{SELECT hyperpool.refresh_catalog('near', '30s')}))[1], '', 'while one origin hangs the catalog of another is read');
is(RawClient::outcome($asker->answer(20)), 'HV000', 'who asks for the one that hangs is told');
relay('accept');
is(Gateway::wait_until(sub { ($gateway->try_sql(q{SELECT hyperpool.refresh_catalog('app')}))[1] }, ''), '', 'then it is read again');
$asker->terminate;

# ---- idle links ----
my @clients = map { $gateway->client } 1 .. 4;
for my $how ('reset', 'truncate')
{
	$_->ask('SELECT pg_sleep(0.1), 5') for @clients;
	RawClient::answers(20, @clients);
	if ($how eq 'reset') { relay('reset'); }
	else
	{
		$origin->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND datname = 'app'});
		sleep 0.2;
	}
	is(join(' ', map { $_->value('SELECT 6') } @clients), '6 6 6 6', "idle links that end ($how) are noticed by nobody");
}

$_->terminate for @clients, $client;
nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
