# An ERROR in the middle of a worker's work ends those whom it concerns, not the worker; a FATAL ends the worker, and another takes its place within a second. (hyperpool.test_fault raises
# them, wherever answers and requests are at work.) Nobody gets what is another's: what had been read of an answer when it happened is lost, and so is its place among others.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Utils;
use Test::More;

my $gateway = Gateway->new(options => 'pool_size => 4, cache => true');
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
my $first = 0;
my $descriptors = Faults::other_descriptors($gateway) + 2;

for my $fault (qw(raise_error raise_fatal))
{
	$region->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'");
	$region->restart;
	delete $gateway->{looker};
	Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
	$gateway->learn('app');
	my ($worker) = $gateway->worker_pids;
	my $crowd = Faults->new($gateway, clients => 12, first => $first);
	my $logged = sub { my @times = slurp_file($region->logfile) =~ /hyperpool.test_fault @{[ $fault eq 'raise_error' ? 'raises' : 'ends' ]}/g; return scalar @times; };
	$crowd->run_until(sub { return $logged->() >= ($fault eq 'raise_error' ? 40 : 2); }, 40);
	is($crowd->all_are_served, '', "$fault: all are served");
	$crowd->go;
	$crowd->is_right($origin, $fault, qr/^(08006|08007|XX000|57P01|25P02)$/);
	cmp_ok($logged->(), '>=', 2, "$fault: it was raised");
	my ($now) = $gateway->worker_pids;
	$fault eq 'raise_error' ? is($now, $worker, "$fault: the worker has gone on") : isnt($now, $worker, "$fault: another worker has taken its place");
	nothing_is_left($gateway, $fault, $descriptors);
	is($region->safe_psql('postgres', 'SELECT pg_postmaster_start_time() > now() - interval $$1 hour$$'), 't', "$fault: the instance is up");
	$first += 12;
}

# ---- would the account notice? ----
$region->append_conf('postgresql.conf', "hyperpool.test_fault = 'swap_answers'");
$region->restart;
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
my $crowd = Faults->new($gateway, clients => 12, first => $first);
$crowd->go_on(1);
cmp_ok(scalar @{ $crowd->{wrong} }, '>', 0, 'answers that go to others are noticed: ' . ($crowd->{wrong}[0] // 'none'));
unlike(slurp_file($region->logfile), qr/terminated by signal|TRAP:|PANIC:/, 'no process has crashed');
done_testing();
