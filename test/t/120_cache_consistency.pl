# Invariant 2: no read through the gateway shows what an acknowledged write has replaced, nor less than a read before it has shown.
# test/tools/checker writes registers by every route and reads them all the time, through two workers, two origins of one database
# (one of them far away) and links that are reset now and then. Two gateways that are broken on purpose are caught. (case 23, case 24 of docs/testing.md)
# CHECK_SECONDS is how long the long run takes (60).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $seconds = $ENV{CHECK_SECONDS} || 60;
my $scratch = PostgreSQL::Test::Utils::tempdir();

my $gateway = Gateway->new(
	create => 0, workers => 2, relay => 1, rtt => 3,
	origin_settings => 'max_prepared_transactions = 20');
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});

# The same database by another way, farther off.
my $far = bless { origin => $origin, rtt => 20 }, 'Gateway';
$far->start_relay;

# ---- the checker ----

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my ($headers, $libraries) = map { scalar `$pg_config --$_` } qw(includedir libdir));
PostgreSQL::Test::Utils::system_or_bail($ENV{CC} // 'gcc', '-std=gnu11', '-O2', '-o', "$scratch/checker", "$FindBin::RealBin/../tools/checker.c",
	"-I$headers", "-L$libraries", '-lpq', '-lpthread');

my $direct = 'host=127.0.0.1 port=' . $origin->port . ' user=app dbname=app';
$origin->safe_psql('postgres', 'CREATE ROLE visitor LOGIN');
PostgreSQL::Test::Utils::system_or_bail("$scratch/checker", '--setup', $direct);
# a copy that nobody writes to: what a cache that forgets nothing would show
$origin->safe_psql('postgres', 'CREATE DATABASE still TEMPLATE app OWNER app');

# Its exit status, its output, and what it counted.
sub check
{
	my (@options) = @_;
	my $output = '';
	IPC::Run::run([ "$scratch/checker", '--watch', $direct, @options ], '<', \undef, '>&', \$output, IPC::Run::timeout($seconds + 120));
	my %count = $output =~ /^(\w+) ([\d.]+)$/mg;
	my %route = $output =~ /^route (\w+) (\d+)$/mg;
	return ($? >> 8, $output, \%count, \%route);
}

my ($status, $output, $count, $route) = check('--through', $direct, '--through', $direct =~ s/dbname=app/dbname=still/r,
	'--seconds', 20, '--routes', 'first_origin', '--stop-at-violation');
is($status, 1, 'the checker sees a copy that stands still');
($status, $output, $count) = check('--through', $direct, '--seconds', 3);
ok($status == 0 && $count->{violations} == 0 && $count->{writes} > 50, "and nothing on a direct connection: $count->{writes} writes, $count->{reads} reads") or diag($output);

# ---- the gateway ----

$gateway->sql('CREATE ROLE visitor LOGIN');
$gateway->create('app', 'cache => true, pool_size => 20');
{
	# refreshed in the background all the time
	local $gateway->{relay_port} = $far->{relay_port};
	$gateway->create('far', q{cache => true, pool_size => 20, max_age => '300ms', stale_while_revalidate => '3s'});
}
$gateway->sql("SELECT hyperpool.set_credential('$_', 'visitor', 'visitor', '')") for 'app', 'far';
my @through = map { ('--through', $gateway->connstr($_)) } 'app', 'far';

# What clients asked of the cache, by what it said; sums over both origins.
my $said = q{SELECT coalesce(sum(value::numeric) FILTER (WHERE key = 'cache_hit'), 0), coalesce(sum(value::numeric), 0)
	FROM hyperpool.stat_origins s, jsonb_each_text(to_jsonb(s)) WHERE key ~ '^cache_' AND key !~ 'joined|refreshed|described|saved|flushes|ratio'};

# Facts of the origin are learnt after it was made: until then nothing is kept.
sub cache_is_warm
{
	my @clients = map { $gateway->client(database => $_) } 'app', 'far';
	for my $name ('app', 'far')
	{
		my $client = shift @clients;
		is(Gateway::wait_until(sub {
			$client->query('SELECT v FROM r_simple WHERE r = 2') for 1 .. 3;
			$gateway->sql("SELECT cache_hit > 0 FROM hyperpool.stat_origins WHERE origin = '$name'");
		}, 't', 150), 't', "$name: the cache answers");
		$client->terminate;
	}
}

cache_is_warm();
$gateway->sql('SELECT hyperpool.reset_stats()');
my $control = readlink("/proc/$$/fd/" . fileno($gateway->{relay_control}));
# Once is enough where the scout gets its turn: the load has statements after which it must look at the catalog again before anything is kept.
my ($hits, $all);
for (1 .. 3)
{
	($status, $output, $count, $route) = check(@through, '--second-user', 'visitor', '--seconds', $seconds, '--rest', 700, '--control', $control, '--reset-every', 9000);
	($hits, $all) = split /\|/, $gateway->sql($said);
	last if $status != 0 || $hits >= 100;
}

is($status, 0, 'the checker is content') or diag($output);
is($count->{violations}, 0, 'no violation');
cmp_ok($count->{writes}, '>=', 1000 * $seconds / 60, "$count->{writes} acknowledged writes");
is(join(' ', grep { !$route->{$_} } sort keys %$route), '', 'by every route');
cmp_ok($count->{unknown}, '>', 0, "$count->{unknown} more whose client did not wait or was not told");
cmp_ok($hits, '>=', 100, sprintf('%d of %d answers from the cache', $hits, $all));
cmp_ok($count->{read_errors}, '<', $count->{reads} / 100, "$count->{read_errors} of $count->{reads} reads failed") or diag($output);
cmp_ok($count->{write_errors}, '<', $count->{writes} / 20, "$count->{write_errors} writes were not confirmed") or diag($output);
note($output);
$gateway->is_unharmed('afterwards');

# ---- broken on purpose: the same short load is clean without the fault ----

sub restart_with
{
	my ($fault) = @_;
	$region->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'\n");
	$region->restart;
	$gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't');
	Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
	cache_is_warm();
}

my %load = (
	# between the answer of Execute and the Sync that commits, the old value is read and kept
	versions_at_complete => 'flush',
	# a read that is on its way while a write comes and goes by the shorter way
	versions_after_send => 'first_origin,simple',
);
for my $fault (sort keys %load)
{
	my @short = (@through, '--routes', $load{$fault}, '--stop-at-violation', '--seconds');
	restart_with('');
	($status, $output, $count) = check(@short, 5);
	is($status, 0, "without $fault: no violation in $count->{reads} reads, $count->{writes} writes") or diag($output);
	restart_with($fault);
	($status, $output, $count) = check(@short, 30);
	is($status, 1, "$fault is caught, after $count->{seconds} s") or diag($output);
	like($output, qr/^violation: route \w+: reader/m, 'with the register, the times and both values');
}

done_testing();
