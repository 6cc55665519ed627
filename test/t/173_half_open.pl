# Logins that are begun and not ended: nothing said, SSLRequest or GSSENCRequest and silence, half a TLS hello, half a startup message, byte by byte, a password that never comes;
# and many clients that are idle by TLS. They end with authentication_timeout, hold little, and others are served meanwhile.
# HP_IDLE_TLS=10000: so many are idle. 044_crowd.pl has three hundred in every run.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Crowd;
use Gateway;
use IO::Select;
use LoginClient qw(make_certificates write_file);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $many = $ENV{HP_IDLE_TLS} || 0;
my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);
my $gateway = Gateway->new(settings => qq{
authentication_timeout = 3s
hyperpool.max_clients = 11000
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
my $region = $gateway->{region};
$gateway->sql(q{SET password_encryption = 'scram-sha-256'; CREATE ROLE careful LOGIN PASSWORD 'careful'});
my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
write_file($region->data_dir . '/pg_hba.conf', "host app careful all scram-sha-256\n$hba");
$region->reload;
my ($worker) = $gateway->worker_pids;
my $healthy = $gateway->client;
$healthy->value('SELECT 1');

sub connection { return RawClient->new(port => $gateway->{port}, from => '127.0.0.2', login => 0); }
sub said { my ($c, $bytes) = @_; $c->put_raw($bytes); return $c; }
sub answered { my ($c) = @_; IO::Select->new($c->{socket})->can_read(10); $c->pull; $c->{in} = ''; return $c; }

my $ssl = pack('NN', 8, 80877103);
my $startup = RawClient::startup_packet(user => 'careful', database => 'app');
# A client hello as openssl would begin it: of 512 bytes, 100 come.
my $hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . 'r' x 89;
my %ways = (
	'silence' => sub { connection() },
	'SSLRequest' => sub { answered(said(connection(), $ssl)) },
	'GSSENCRequest' => sub { answered(said(connection(), pack('NN', 8, 80877104))) },
	'half an SSLRequest' => sub { said(connection(), substr($ssl, 0, 5)) },
	'half a hello' => sub { said(answered(said(connection(), $ssl)), $hello) },
	'half a direct hello' => sub { said(connection(), $hello) },
	'half a startup message' => sub { said(connection(), substr($startup, 0, 20)) },
	'no password' => sub { answered(said(connection(), $startup)) },
	'half a password' => sub { said(answered(said(connection(), $startup)), 'p' . pack('N', 500) . 'SCRAM-SHA-256') },
);

# ---- twenty of each ----
Gateway::wait_until(sub { my $c = connection(); my $in = said($c, $startup)->is_answered(1); $c->{in} =~ /^R/ || $c->{coming}{types} ? 'asked' : '' }, 'asked', 5);
my $base = Gateway::private_memory($worker);
my @open = map { my $way = $_; map { $ways{$way}->() } 1 .. 20 } sort keys %ways;
is($healthy->value('SELECT 2'), '2', scalar(@open) . ' logins are begun: a client is served');
is($gateway->client->value('SELECT 3'), '3', 'and another let in');
my $grown = Gateway::private_memory($worker) - $base;
cmp_ok($grown, '<', 40 * @open, sprintf 'the worker grew by %.1f kB for each', $grown / @open);

# some come byte by byte: their time is the same
my @dripping = map { connection() } 1 .. 10;
my $i = 0;
my $until = time() + 30;
while (grep { !$_->is_closed(0) } @dripping)
{
	last if time() > $until;
	for my $c (grep { !$_->{closed} } @dripping) { syswrite($c->{socket}, substr($startup, $i % 10, 1)) if $i < 20; }
	$i++;
	sleep 0.2;
}
is(scalar(grep { !$_->{closed} } @dripping), 0, 'a startup message byte by byte has no more time than another');
is(scalar(grep { !$_->is_closed(20) } @open), 0, 'all have been ended');
is(Gateway::wait_until(sub { $gateway->sql('SELECT logging_in FROM hyperpool.stat_logins') }, '0'), '0', 'and hold no place');

# ---- idle by TLS ----
SKIP:
{
	skip('HP_IDLE_TLS is not set; 044_crowd.pl has three hundred', 3) unless $many;
	my $crowd = Crowd->new(port => $gateway->{port}, user => 'app', database => 'app', tls => 1, 'at-once' => 20);
	$crowd->tell('connect 20');
	$base = Gateway::private_memory($worker);
	is($crowd->tell("connect $many")->{connected}, $many, "$many clients are let in by TLS");
	$grown = Gateway::private_memory($worker) - $base;
	cmp_ok($grown / $many, '<', 30, sprintf 'each holds %.1f kB while idle', $grown / $many);
	is($healthy->value('SELECT 4'), '4', 'a client is served');
}

$gateway->is_unharmed('afterwards');
done_testing();
