# The regional instance is shut down under load, smart, fast and immediate, and the origin too. A shutdown ends within its limits whoever is connected and whatever the origin does;
# clients are told, transactions that end in time are whole, and after the start everything goes on.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use POSIX ();
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, workers => 2, settings => 'hyperpool.drain_timeout = 2s', options => 'pool_size => 6, cache => true');
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");

# pg_ctl beside this process, which goes on being the clients: (the process, when it began).
sub begin_stop
{
	my ($mode) = @_;
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>', '/dev/null';
		{ no warnings; exec('pg_ctl', '-D', $region->data_dir, '-m', $mode, '-t', 60, '-w', 'stop'); }
		POSIX::_exit(1);
	}
	return ($pid, time());
}

sub has_ended { my ($pid) = @_; return waitpid($pid, POSIX::WNOHANG()) == $pid; }

sub start_again
{
	delete @$gateway{qw(looker watcher)};
	$region->{_pid} = undef;
	$region->start;
	return Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
}

# ---- smart: waits for sessions of the server itself, not for clients of hyperpool ----
my $first = 0;
my $crowd = Faults->new($gateway, clients => 10);
my ($stop, $began, $took);
$crowd->run(0.5);
my $session = RawClient->new(port => $region->port, user => scalar getpwuid($>), database => 'postgres');
($stop, $began) = begin_stop('smart');
my $served_before = $crowd->total('confirmed');
$crowd->run(1);
ok(!has_ended($stop), 'smart: waits for a session of the server');
cmp_ok($crowd->total('confirmed'), '>', $served_before, 'smart: clients are served meanwhile');
$session->terminate;
$began = time();
ok($crowd->run_until(sub { return has_ended($stop); }, 30), 'smart: then the server stops');
cmp_ok(time() - $began, '<', 20, 'smart: within the time for transactions');
$crowd->run(0.3);
is(start_again(), 1, 'smart: started again');
is($crowd->all_are_served, '', 'smart: all are served again');
$crowd->go;
$crowd->is_right($origin, 'smart', qr/^57P0[13]$/);
is($crowd->{codes}{'57P01'} ? 'told' : 'not', 'told', 'smart: clients are told');

# ---- fast: those who are in a transaction may end it, one that never does is ended ----
$crowd = Faults->new($gateway, clients => 10, first => 10, kinds => [qw(transaction)]);
my $never = $gateway->client;
$never->query("BEGIN; INSERT INTO ledger VALUES (-1, 1)");
my $soon = $gateway->client;
$soon->query("BEGIN; INSERT INTO ledger VALUES (-2, 1)");
$crowd->run(0.5);
($stop, $began) = begin_stop('fast');
$crowd->run(0.5);
is($soon->query('COMMIT')->{tags}[0] // 'no COMMIT', 'COMMIT', 'fast: a transaction may end meanwhile');
ok($crowd->run_until(sub { return has_ended($stop); }, 30), 'fast: the server stops');
$took = time() - $began;
cmp_ok($took, '>=', 1.5, 'fast: not before drain_timeout, since one transaction is open');
cmp_ok($took, '<', 15, 'fast: but soon after');
like(RawClient::error_text($never->answer(5)), qr/FATAL 57P01 /, 'fast: who was in it is told');
is($origin->safe_psql('app', 'SELECT string_agg(client::text, $$ $$) FROM ledger WHERE client < 0'), '-2', 'fast: what was committed is there, what was not is not');
is(start_again(), 1, 'fast: started again');
is($crowd->all_are_served, '', 'fast: all are served again');
$crowd->go;
$crowd->is_right($origin, 'fast', qr/^57P0[13]$/);

# ---- fast, while the origin says nothing ----
$crowd = Faults->new($gateway, clients => 6, first => 20);
$crowd->run(0.3);
$gateway->relay('stall');
$crowd->run(0.3);
($stop, $began) = begin_stop('fast');
ok($crowd->run_until(sub { return has_ended($stop); }, 40), 'fast, with a silent origin: the server stops');
cmp_ok(time() - $began, '<', 20, 'fast, with a silent origin: soon after drain_timeout');
$gateway->relay('resume');
is(start_again(), 1, 'fast, with a silent origin: started again');
is($crowd->all_are_served, '', 'fast, with a silent origin: all are served again');
$crowd->go;
$crowd->is_right($origin, 'fast, with a silent origin', qr/^57P0[13]$/);

# ---- immediate: nobody is told, nothing is lost ----
$crowd = Faults->new($gateway, clients => 10, first => 30);
$crowd->run(0.5);
($stop, $began) = begin_stop('immediate');
ok($crowd->run_until(sub { return has_ended($stop); }, 30), 'immediate: the server stops');
is(start_again(), 1, 'immediate: started again');
is($crowd->all_are_served, '', 'immediate: all are served again');
$crowd->go;
$crowd->is_right($origin, 'immediate', qr/^57P0[13]$/);

# ---- the origin is restarted: as 035, with transactions, copies and a cache ----
$crowd = Faults->new($gateway, clients => 10, first => 40);
for my $mode (qw(fast immediate))
{
	$crowd->run(0.6, sub { $origin->stop($mode); $origin->start; });
	is($crowd->all_are_served, '', "the origin was restarted ($mode): all are served");
}
$crowd->go;
$crowd->is_right($origin, 'the origin was restarted');
is($crowd->{closed}, 0, 'the origin was restarted: no client is thrown out');
delete $gateway->{watcher};
nothing_is_left($gateway, 'afterwards');
done_testing();
