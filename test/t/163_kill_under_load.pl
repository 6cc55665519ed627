# A process of hyperpool is killed under load: PostgreSQL restarts the instance, and the gateway is back within seconds. Nobody got a wrong answer, nothing that was confirmed
# is lost, and nothing of the former life is left at the origin.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(workers => 2, settings => 'restart_after_crash = on', options => 'pool_size => 6, cache => true');
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
$gateway->learn('app');

sub pid_of { my ($kind) = @_; return $gateway->look("SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'hyperpool $kind'"); }
sub is_up { my ($out) = eval { $gateway->try_sql('SELECT healthy FROM hyperpool.status()') }; return ($out // '') eq 't'; }

my $first = 0;
my $descriptors;
for my $kind (qw(worker manager scout worker))
{
	my $crowd = Faults->new($gateway, clients => 12, first => $first);
	my ($pid, $killed_at) = pid_of($kind);
	$crowd->run(0.6, sub { kill('KILL', $pid) or die "kill: $!"; $killed_at = time(); });
	is($crowd->all_are_served(30), '', "kill -9 of a $kind: then all are served, each by a new connection");
	note(sprintf 'after %.1f s', time() - $killed_at);
	$crowd->go;
	$crowd->is_right($origin, "kill -9 of a $kind", qr/^(57P0[123]|08006|08007|53300)$/);
	cmp_ok($crowd->{closed}, '>', 0, "kill -9 of a $kind: they were let go");
	delete $gateway->{looker};
	is(Gateway::wait_until(sub { is_up() ? 'up' : 'down' }, 'up', 30), 'up', "kill -9 of a $kind: healthy");
	nothing_is_left($gateway, "kill -9 of a $kind", $descriptors);
	$descriptors //= Faults::other_descriptors($gateway) + 2;
	$first += 12;
}
is($gateway->sql('SELECT count(*) FROM hyperpool.origins'), '1', 'the origin is still there');

# ---- the postmaster: nobody goes on without it ----
my @processes = split /\n/, $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'hyperpool %'});
my $crowd = Faults->new($gateway, clients => 12, first => $first);
delete @$gateway{qw(looker watcher)};
$crowd->run(0.6, sub { $gateway->{region}->kill9; });
is(Gateway::wait_until(sub { scalar grep { kill 0, $_ } @processes }, 0), 0, 'kill -9 of the postmaster: the processes of hyperpool end');
$gateway->{region}->start;
is($crowd->all_are_served(30), '', 'kill -9 of the postmaster: started again, all are served');
$crowd->go;
$crowd->is_right($origin, 'kill -9 of the postmaster', qr/^(57P0[123]|08006|08007|53300)$/);
nothing_is_left($gateway, 'kill -9 of the postmaster', $descriptors);
done_testing();
