# Clients are spread evenly over the workers, however they come, and again when some have left; cancel requests reach a client
# wherever it went. A worker that is not there, or takes nothing, harms nobody who went to another. No descriptor stays behind.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use List::Util qw(max min sum);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $sockets = PostgreSQL::Test::Utils::tempdir_short();
my $gateway = Gateway->new(workers => 3, options => 'pool_size => 6', settings => "hyperpool.unix_socket_directories = '$sockets'");
my %way = (TCP => {}, 'Unix socket' => { socket_dir => $sockets });

sub crowd { my ($how, $n) = @_; return map { $gateway->client(%$how) } 1 .. $n; }

# How many clients each worker has.
sub spread
{
	my %of = (0 => 0, 1 => 0, 2 => 0, map { split /\|/ } split /\n/, $gateway->sql('SELECT worker, count(*) FROM hyperpool.clients GROUP BY 1'));
	return map { $of{$_} } 0 .. 2;
}

sub is_even
{
	my ($what, $n) = @_;
	my @of = spread();
	is(sum(@of), $n, "$what: all $n are there");
	cmp_ok(max(@of) - min(@of), '<=', 2, "$what: spread evenly") or diag("@of");
}

sub all_gone
{
	$_->vanish for @_;
	is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '0'), '0', 'all have gone');
}

sub descriptors { return join ' ', map { my $pid = $_; scalar(() = glob "/proc/$pid/fd/*") } $gateway->worker_pids; }

sub worker_of { my ($client) = @_; return $gateway->sql("SELECT worker FROM hyperpool.clients WHERE client_port = " . $client->{socket}->sockport); }

# ---- sixty, one after the other ----
my $before;
for my $name (sort keys %way)
{
	# a link to the origin and what a login leaves open once and for all
	all_gone(crowd($way{$name}, 12));
	$before = descriptors();
	my @clients = crowd($way{$name}, 60);
	is_even($name, 60);
	is($gateway->sql('SELECT count(*) FROM hyperpool.clients WHERE ' . ($name eq 'TCP' ? "client_addr = '127.0.0.1' AND client_port > 0" : 'client_addr IS NULL')), '60', 'their addresses are known');
	is(join(' ', map { $_->value('SELECT 7') } @clients), join(' ', (7) x 60), 'all are served');

	# ---- those of one worker leave ----
	my $lost = $gateway->sql('SELECT count(*) FROM hyperpool.clients WHERE worker = 1');
	$gateway->sql('SELECT hyperpool.disconnect(client_id) FROM hyperpool.clients WHERE worker = 1');
	is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients', 60 - $lost), 60 - $lost, 'all clients of one worker have been sent away');
	my @again = crowd($way{$name}, $lost);
	is_even("$name, the same number again", 60);
	all_gone(@clients, @again);
	is(Gateway::wait_until(\&descriptors, $before), $before, 'no descriptor is left over in any worker');
}

# ---- a burst: nobody waits for one to be served before the next comes ----
my @burst = map { $gateway->client(socket_dir => $sockets, greeting => 0) } 1 .. 300;
my @greetings = RawClient::answers(20, @burst);
is((scalar grep { !$_->{done} } @greetings), 0, 'three hundred at once are all let in');
my @of = spread();
cmp_ok(min(@of), '>=', 60, 'and no worker has less than its part by far') or diag("@of");
all_gone(@burst);

# ---- cancel requests ----
my @sleepers = crowd({}, 6);
my %workers = map { worker_of($_) => 1 } @sleepers;
is(join(' ', sort keys %workers), '0 1 2', 'clients of each worker');
for my $client (@sleepers, @sleepers)
{
	$client->ask('SELECT pg_sleep(60)');
	$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'active'}, '1');
	$client->cancel;
	is(RawClient::outcome($client->answer), '57014', 'cancelled');
}
$_->vanish for @sleepers;

# ---- a worker that takes nothing: what fits into its socket waits, the others go on ----
my ($stopped) = grep { PostgreSQL::Test::Utils::slurp_file("/proc/$_/cmdline") =~ /hyperpool worker 2/ } $gateway->worker_pids;
$gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '0');
kill 'STOP', $stopped;
my @some = map { $gateway->client(socket_dir => $sockets, greeting => 0) } 1 .. 90;
@greetings = RawClient::answers(2, @some);
my $served = grep { $_->{done} } @greetings;
cmp_ok($served, '>=', 60, "a worker stands still: $served of 90 are served by the others");
cmp_ok($served, '<', 90, 'some wait for it');
kill 'CONT', $stopped;
my @waiting = grep { !$greetings[$_]{done} } 0 .. $#some;
is((scalar grep { !$_->{done} } RawClient::answers(10, @some[@waiting])), 0, 'they are served when it goes on');
all_gone(@some);

# ---- a worker that is not there ----
$gateway->sql("SELECT pg_terminate_backend($stopped)");
my @meanwhile = map { eval { $gateway->client(socket_dir => $sockets) } } 1 .. 30;
is(scalar(@meanwhile), 30, 'a worker ends: those who come are served by the others');
is($gateway->wait_for(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'hyperpool worker'}, '3'), '3', 'another takes its place');
push @meanwhile, crowd({ socket_dir => $sockets }, 1);
is(Gateway::wait_until(sub { (spread())[2] || (push(@meanwhile, crowd({ socket_dir => $sockets }, 1)), 0) }, 1), 1, 'and gets the next client');
push @meanwhile, crowd({ socket_dir => $sockets }, 60 - @meanwhile);
is_even('and gets its part of those who come then', 60);

$_->vanish for @meanwhile;
unlike(PostgreSQL::Test::Utils::slurp_file($gateway->{region}->logfile), qr/terminated by signal|TRAP:|PANIC:|could not accept a client/, 'no process died, no client was lost');
done_testing();
