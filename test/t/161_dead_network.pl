# The network to the origin dies and says nothing: no packet comes or goes, no connection is closed. TCP's own limits find it, if the origin has them: keepalives where the gateway waits, or
# does not even ask; tcp_user_timeout where what it has sent is not acknowledged. Needs a network of its own, which Linux gives to anybody unless it is forbidden.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

BEGIN
{
	# again, as the only one in a network where it may set addresses
	my @inside = qw(unshare --user --map-current-user --keep-caps --net);
	if (!$ENV{HP_OWN_NETWORK} && system("@inside ip link show lo >/dev/null 2>&1") == 0)
	{
		$ENV{HP_OWN_NETWORK} = 1;
		exec @inside, $^X, (map { "-I$_" } @INC), $0 or die "unshare: $!";
	}
}

use Faults qw(nothing_is_left);
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'no network of its own: unshare --user --net is forbidden or missing, or there is no ip' unless $ENV{HP_OWN_NETWORK};

my $address = '10.9.9.1';

sub ip { system("ip @_") == 0 or die "ip @_"; }
sub network_is_up { ip("route del blackhole $address/32") if $_[0]; ip("addr add $address/32 dev lo"); }
sub network_dies { ip("addr del $address/32 dev lo"); ip("route add blackhole $address/32"); }

ip('link set lo up');
network_is_up();
my $gateway = Gateway->new(create => 0, origin_settings => "listen_addresses = '127.0.0.1,$address'\ntcp_keepalives_idle = 1\ntcp_keepalives_interval = 1\ntcp_keepalives_count = 2\n", connection => "host=$address");
my $origin = $gateway->{origin};
$origin->append_conf('pg_hba.conf', "host all all $address/32 trust");
$origin->reload;
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
$gateway->create('app', q{pool_size => 3, connect_timeout => '2s'});
my $descriptors = Faults::other_descriptors($gateway);
my $client = $gateway->client;

sub served { return Gateway::wait_until(sub { my $c = $gateway->client; my $value = RawClient::outcome($c->query('SELECT 1', 10)); $c->terminate; return $value; }, '1', 40); }

sub set
{
	my ($options) = @_;
	$gateway->sql("SELECT hyperpool.alter_origin('app', '$options')");
	is(served(), '1', "with $options");
	is($client->value('SELECT 2'), '2', 'it is in force');
}

# Timers of the kernel for connections to the origin: 02 is a keepalive; in hundredths of a second.
sub keepalive_timers
{
	open my $file, '<', '/proc/net/tcp' or return;
	my $port = sprintf ':%04X', $origin->port;
	return map { /^\s*\d+: \w+:\w+ \w+$port 01 \S+ 02:(\w+)/ ? hex $1 : () } <$file>;
}

# All that was sent to the origin has been acknowledged: TCP puts that off for a moment, and keepalives are not for what is on its way.
sub all_has_arrived
{
	open my $file, '<', '/proc/net/tcp' or return 0;
	my $port = sprintf ':%04X', $origin->port;
	return !grep { /^\s*\d+: \w+:\w+ \w+$port 01 (\w+):/ && hex $1 > 0 } <$file>;
}

# ---- unless told otherwise ----
is($client->value('SELECT 3'), '3', 'a link');
my @timers = keepalive_timers();
cmp_ok(scalar @timers, '>', 0, 'links have keepalives');
is(scalar(grep { $_ > 6100 } @timers), 0, 'within a minute, not within the two hours of the system') or diag("@timers");

# ---- nothing is acknowledged: tcp_user_timeout ----
set('tcp_user_timeout=1500');
network_dies();
for my $ask ([ "INSERT INTO ledger VALUES (1, 1, '')", '08007', 'a write has an unknown outcome' ], [ 'SELECT 4', '08001', 'a read finds no other link' ])
{
	my ($sql, $code, $what) = @$ask;
	my $began = time();
	my $answer = $client->query($sql, 60);
	is(RawClient::outcome($answer), $code, "tcp_user_timeout: $what");
	ok($answer->{error}{H}, 'with a hint');
	cmp_ok(time() - $began, '<', 20, sprintf 'soon (%.1f s)', time() - $began);
}
network_is_up(1);
is(served(), '1', 'the network is back: served');
is($client->value('SELECT count(*) FROM ledger'), '0', 'the write had not arrived');

# ---- the origin is at work, and the answer does not come: keepalives ----
set('tcp_user_timeout=0 keepalives_idle=1 keepalives_interval=1 keepalives_count=2');
$client->ask("INSERT INTO ledger SELECT 2, 2, '' FROM pg_sleep(5)");
Gateway::wait_until(sub { $origin->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep.5' AND state = 'active' AND pid <> pg_backend_pid()}) }, '1');
Gateway::wait_until(\&all_has_arrived, '1');
network_dies();
my $began = time();
is(RawClient::outcome($client->answer(60)), '08007', 'keepalives: a write that is waited for has an unknown outcome');
cmp_ok(time() - $began, '<', 20, sprintf 'soon (%.1f s)', time() - $began);
network_is_up(1);
is(served(), '1', 'the network is back: served');

# ---- nothing is asked ----
my @clients = map { $gateway->client } 1 .. 3;
$_->ask('SELECT pg_sleep(0.2)') for @clients;
RawClient::answers(20, @clients);
is($gateway->sql('SELECT count(*) > 0 FROM hyperpool.links'), 't', 'links lie idle');
Gateway::wait_until(\&all_has_arrived, '1');
network_dies();
is($gateway->wait_for('SELECT count(*) FROM hyperpool.links', '0', 30), '0', 'keepalives: links that have died are found before anybody asks');
network_is_up(1);
is(join(' ', map { $_->value('SELECT 5') } @clients), '5 5 5', 'the network is back: nobody has noticed');

$_->terminate for @clients, $client;
nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
