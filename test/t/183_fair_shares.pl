# Three roles and two workers want more links than there are: everybody gets a like share, nobody is forgotten, and sizes that contradict one another do not make links come and go.
# Case 19 of docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Crowd;
use Gateway;
use List::Util qw(max min);
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(workers => 2, options => 'pool_size => 10');
my @roles = qw(app busy third);
$gateway->sql("CREATE ROLE $_ LOGIN") for @roles[ 1, 2 ];
for my $role (@roles)
{
	is(Gateway::wait_until(sub { eval { $gateway->client(user => $role)->terminate; 1 } ? 1 : 0 }, 1), 1, "$role may enter");
}

# How many answers each role got, and each client, of a crowd of so many clients of each.
sub shares
{
	my ($database, $query, $seconds, @clients) = @_;
	my $crowd = Crowd->new(port => $gateway->{port}, user => 'app', database => $database, query => $query);
	my $from = 0;
	my @ranges;
	for my $i (0 .. $#clients)
	{
		is($crowd->tell("connect $clients[$i] $roles[$i]")->{connected}, $clients[$i], "$clients[$i] clients of $roles[$i]");
		push @ranges, [ $from, $from + $clients[$i] ];
		$from += $clients[$i];
	}
	my $ran = $crowd->tell("run 0 $from $seconds");
	is($ran->{errors}, 0, 'no errors');
	cmp_ok($ran->{least}, '>', 0, 'everybody was served');
	return map { $crowd->tell("sum $_->[0] $_->[1]")->{sum} } @ranges;
}

# ---- case 19: three times fifteen on ten links ----
my @got = shares('app', 'SELECT pg_sleep(0.01)', 4, 15, 15, 15);
note("answers: @got");
cmp_ok(max(@got), '<', 1.5 * min(@got), 'case 19: three roles with as many clients each have like shares');
cmp_ok($gateway->links_at_origin, '<=', 10, 'case 19: on ten links');

# ---- case 19: one role has thirty clients, another three: who has less asks no longer for it ----
@got = shares('app', 'SELECT pg_sleep(0.01)', 4, 30, 12, 3);
note("answers: @got");
cmp_ok($got[2] / 3, '>', 0.8 * $got[0] / 30, 'case 19: a client of a small role is served as often as one of a large role, or more often');
cmp_ok($got[0], '>', 0, 'case 19: and the large one is served');

# ---- case 19: fewer links than workers and roles; transactions that hold them ----
$gateway->create('narrow', 'pool_size => 1');
@got = shares('narrow', 'BEGIN; SELECT pg_sleep(0.003); COMMIT', 6, 5, 5, 5);
note("answers: @got");
cmp_ok(max(@got), '<', 3 * min(@got), 'case 19: one link, two workers, three roles: like shares');
is($gateway->{watcher}->value(q{SELECT count(*) < 13 FROM pg_stat_activity WHERE datname = 'app' AND application_name = 'hyperpool'}), 't', 'case 19: one link more');

# ---- case 19: min_pool_size above pool_size does not make links come and go ----
my ($done, $refused) = $gateway->try_sql(q{SELECT hyperpool.alter_origin('narrow', min_pool_size => 5, pool_size => 1)});
like($refused, qr/min_pool_size/, 'case 19: a minimum above the maximum is refused, and named');
$gateway->create('minimal', q{pool_size => 3, min_pool_size => 3, idle_timeout => '1s'});
is($gateway->wait_for(q{SELECT sum(sv_idle) FROM hyperpool.pools WHERE origin = 'minimal'}, '3'), '3', 'case 19: a minimum that is the maximum is filled');
my $opened = q{SELECT links_opened FROM hyperpool.stat_origins WHERE origin = 'minimal'};
is(Gateway::wait_until(sub { my $before = $gateway->sql($opened); sleep 3; $gateway->sql($opened) eq $before ? 1 : 0 }, 1), 1, 'case 19: and no link comes or goes, though they are idle for longer than idle_timeout');
is($gateway->client(database => 'minimal', user => 'busy')->value('SELECT 19'), '19', 'case 19: another role is served all the same');

# ---- case 19: at the cap of another: connections of the origin that are all taken ----
{
	my $client = $gateway->client;
	$gateway->{origin}->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT 0');
	$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
	$gateway->wait_for(q{SELECT coalesce(sum(sv_idle + sv_active), 0) FROM hyperpool.pools WHERE origin = 'app'}, '0');
	is(RawClient::outcome($client->query('SELECT 1')), '53300', 'case 19: no connection is to be had: its client is told so');
	$gateway->{origin}->safe_psql('postgres', 'ALTER ROLE app CONNECTION LIMIT -1');
	is(Gateway::wait_until(sub { RawClient::outcome($client->query('SELECT 2')) }, '2', 30), '2', 'case 19: and is served when there is one, without coming anew');
}

$gateway->is_unharmed('afterwards');
done_testing();
