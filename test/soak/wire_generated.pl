# The oracle with clients nobody has written: conversations made from seeds (test/wire/generated.pl), alone and several at once, and many clients
# each of which knows what it must be told (test/wire/tokens.c). Over one, two and eight links, with and without sharing of links, with a cold and a
# warm cache; with cancels, stalled readers, vanishing clients, lock waits and links that die. Always the same seeds, and new ones in each run.
# HP_SOAK: so many seconds of each, with new seeds (make soak). Differences that wait for a mend are in test/wire/known.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../t";

use Gateway;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $wire = "$FindBin::RealBin/../wire";
my $scratch = PostgreSQL::Test::Utils::tempdir();
my $soak = $ENV{HP_SOAK};
# what fails is kept where the logs are
my $keep = $ENV{TESTLOGDIR} // $scratch;

my $gateway = Gateway->new(create => 0, relay => 1, rtt => 0);
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
$_->safe_psql('postgres', 'CREATE ROLE wire SUPERUSER LOGIN') for $origin, $region;
$origin->safe_psql('postgres', 'CREATE DATABASE wire OWNER wire');

# ---- ways through the gateway: an origin each ----

my $can_share = $gateway->sql(q{SELECT 'share' = ANY (proargnames) FROM pg_proc WHERE proname = 'create_origin'}) eq 't';

sub conninfo { my ($port, $database) = @_; return "host=127.0.0.1 port=$port dbname=$database user=wire"; }

sub way
{
	my (%way) = @_;
	my $name = join '_', "links$way{links}", $way{share} ? 'shared' : (), $way{cached} ? 'cached' : (), $way{relay} ? 'relay' : ();
	my $from = conninfo($way{relay} ? $gateway->{relay_port} : $origin->port, 'wire');
	my @options = ("pool_size => $way{links}", 'allow_trust => true', 'cache => ' . ($way{cached} ? 'true' : 'false'));
	push @options, 'share => ' . ($way{share} ? 'true' : 'false') if $can_share;
	$gateway->sql("SELECT hyperpool.create_origin('$name', '$from', " . join(', ', @options) . ')');
	return { %way, name => $name, through => conninfo($gateway->{port}, $name) };
}

my @ways;
for my $links (1, 2, 8)
{
	for my $share ($can_share ? (1, 0) : (0))
	{
		push @ways, way(links => $links, share => $share, cached => $_) for 0, 1;
	}
}
my $by_relay = way(links => 8, share => $can_share, cached => 1, relay => 1);

# ---- running ----

sub compile
{
	my ($name, @libraries) = @_;
	PostgreSQL::Test::Utils::system_or_bail('gcc', '-std=gnu11', '-O1', '-g', '-o', "$scratch/$name", "$wire/$name.c", @libraries);
	return "$scratch/$name";
}

my $tokens = compile('tokens', '-lpthread');
$ENV{HP_PLAYER} = compile('player', '-lssl', '-lcrypto');
$ENV{HP_DIRECT} = conninfo($origin->port, 'wire');
$ENV{HP_LIVE} = 'host=' . $origin->host . ' port=' . $origin->port . ' dbname=wire user=wire';

# (exit status, what it printed)
sub run
{
	my (@command) = @_;
	my $output = '';
	IPC::Run::run(\@command, '<', \undef, '>&', \$output);
	return ($? >> 8, $output);
}

sub learn_catalog { my ($way) = @_; $gateway->sql("SELECT hyperpool.refresh_catalog('$way->{name}')"); return; }

# The second play finds a warm cache, and statements that are known to be quick, so that they share links.
sub played_again
{
	my ($way) = @_;
	return () unless $way->{cached} || $way->{share};
	return (HP_SETUP => 'gateway', HP_READY => 'host=' . $region->host . ' port=' . $region->port . ' dbname=postgres user=wire',
		HP_READY_QUERY => "select hyperpool.refresh_catalog('$way->{name}')");
}

sub generated
{
	my ($way, @options) = @_;
	my %again = played_again($way);
	local @ENV{ keys %again } = values %again;
	local $ENV{HP_GATEWAY} = $way->{through};
	return run('perl', "$wire/generated.pl", '--keep', $keep, %again ? ('--repeat', 3) : (), @options);
}

sub is_alike
{
	my ($way, $what, $seeds, @options) = @_;
	my @fresh = $soak ? ('--fresh', '--seconds', $soak) : ();
	my ($status, $output) = generated($way, '--seeds', $seeds, @fresh, @options);
	my ($summary) = $output =~ /^# (\d+ .*)$/m;
	ok($status == 0, "$way->{name}, $what: " . ($summary // 'nothing')) or diag($output);
	return;
}

sub clients { my ($way, $seed, @options) = @_; learn_catalog($way); return run($tokens, '--direct', $ENV{HP_LIVE}, '--through', $way->{through}, '--seed', $seed, @options); }

sub are_told_right
{
	my ($way, $what, $seed, @options) = @_;
	my ($status, $output) = clients($way, $seed, '--seconds', $soak // 2, @options);
	my ($answers) = $output =~ /^answered (\d+)/m;
	ok($status == 0 && $answers, "$way->{name}, $what: " . ($answers // 0) . " answers (seed $seed)") or diag($output);
	return $output;
}

sub count_of { my ($way, $counter) = @_; return $gateway->sql("SELECT $counter FROM hyperpool.stat_origins WHERE origin = '$way->{name}'"); }

my @trouble = qw(--clients 10 --victims 3 --stallers 2 --leavers 2 --lockers 3);

# ---- as it is ----

my $fresh = 1000 + int rand 2**31;
note("new in this run: seeds from $fresh on");
my ($plain) = grep { $_->{links} == 8 && !$_->{cached} && !$_->{share} } @ways;
run($tokens, '--direct', $ENV{HP_LIVE}, '--setup');
is_alike($plain, 'one client', "1-15,$fresh");
is_alike($plain, 'a client with several connections', '16-21,' . ($fresh + 1), '--connections', 3);
my $at = 100;
for my $way (@ways)
{
	is_alike($way, 'six clients at once', join(',', $at .. $at + 4, $fresh + $at), '--together', 6);
	are_told_right($way, 'forty clients', $at, '--clients', 40);
	cmp_ok(count_of($way, 'shared'), '>', 10, 'links were shared') if $way->{share};
	cmp_ok(count_of($way, 'cache_hit'), '>', 10, 'answers came from the cache') if $way->{cached};
	$at += 5;
}
for my $way (grep { $_->{links} > 1 && $_->{cached} == $_->{share} } @ways)
{
	are_told_right($way, 'clients in trouble', $fresh, @trouble);
	like(are_told_right($way, 'clients whose links are ended', $fresh, '--kill', 50, @trouble), qr/^kills [1-9]/m, 'some were');
}
like(are_told_right($by_relay, 'clients whose links are reset', $fresh, '--reset', 150, '--control', $gateway->{relay_fifo}, @trouble), qr/^lost [1-9]/m, 'some were missed');

# ---- known differences: whoever mends one moves its script to scripts/ ----
sub still_differs
{
	my ($script) = @_;
	local $ENV{HP_TIMEOUT} = 1000;
	local $ENV{HP_GATEWAY} = $plain->{through};
	my ($status, $output) = run('perl', "$wire/run.pl", $script);
	isnt($status, 0, "$script is known to differ; if it does no more, it belongs to test/wire/scripts") or diag($output);
	$origin->safe_psql('wire', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL AND state <> 'idle'});
}

still_differs($_) for glob("$wire/known/*.wire");

# ---- broken on purpose ----
for my $fault ('lose_ready', 'swap_answers')
{
	$region->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'\n");
	$region->restart;
	$gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't');
	local $ENV{HP_TIMEOUT} = 500;
	for my $mode ([ 'one client of several connections', '--connections', 3, '--seeds', '1-3' ], [ 'six at once', '--together', 6, '--seeds', '1-6' ])
	{
		my ($what, @options) = @$mode;
		my ($status, $output) = generated($plain, '--no-shrinking', @options);
		isnt($status, 0, "$fault is caught: $what");
		like($output, qr/^not ok/m, 'by answers that differ');
	}
	my ($status, $output) = clients($plain, 1, '--seconds', 5, '--clients', 6, '--patience', 1000);
	is($status, 1, "$fault is caught: clients that know their answers");
	like($output, qr/^client \d+ .*(?:wanted|token|no answer)/m, 'by what one was told') or diag($output);
}

done_testing();
