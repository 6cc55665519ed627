# The oracle with clients nobody has written: conversations made from seeds (test/wire/generated.pl), alone and several at once, and a crowd in which
# each client knows what it must be told (test/wire/crowd.c). Over one, two and eight links, with and without sharing of links, with a cold and a
# warm cache; with cancels, stalled readers, vanishing clients, lock waits and links that die. Always the same seeds, and new ones in each run.
# HP_SOAK: so many seconds of each, all with new seeds (make soak).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

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

my $crowd = compile('crowd', '-lpthread');
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

sub learn_catalog { my ($way) = @_; $gateway->sql("SELECT hyperpool.refresh_catalog('$way->{name}')") if $way->{cached}; return; }

sub generated
{
	my ($way, @options) = @_;
	my %cached = $way->{cached} ? (HP_SETUP => 'gateway', HP_READY => 'host=' . $region->host . ' port=' . $region->port . ' dbname=postgres user=wire',
		HP_READY_QUERY => "select hyperpool.refresh_catalog('$way->{name}')") : ();
	local @ENV{ keys %cached } = values %cached;
	local $ENV{HP_GATEWAY} = $way->{through};
	return run('perl', "$wire/generated.pl", '--keep', $keep, $way->{cached} ? ('--repeat', 3) : (), @options);
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

sub crowd { my ($way, $seed, @options) = @_; learn_catalog($way); return run($crowd, '--direct', $ENV{HP_LIVE}, '--through', $way->{through}, '--seed', $seed, @options); }

my @everybody = qw(--clients 10 --victims 3 --stallers 2 --leavers 2 --lockers 3);

sub is_told_right
{
	my ($way, $what, $seed, @options) = @_;
	my ($status, $output) = crowd($way, $seed, '--seconds', $soak // 2, @everybody, @options);
	my ($answers) = $output =~ /^answered (\d+)/m;
	ok($status == 0 && $answers, "$way->{name}, a crowd$what: " . ($answers // 0) . " answers (seed $seed)") or diag($output);
	return $output;
}

# ---- as it is ----

my $fresh = 1000 + int rand 2**31;
note("new in this run: seeds from $fresh on");
my ($plain) = grep { $_->{links} == 8 && !$_->{cached} } @ways;
run($crowd, '--direct', $ENV{HP_LIVE}, '--setup');
is_alike($plain, 'one client', "1-15,$fresh");
is_alike($plain, 'a client with several connections', '16-21,' . ($fresh + 1), '--connections', 3);
my $at = 100;
for my $way (@ways)
{
	is_alike($way, 'six clients at once', join(',', $at .. $at + 4, $fresh + $at), '--together', 6);
	is_told_right($way, '', $at);
	$at += 5;
}
for my $way (grep { $_->{links} == 8 } @ways)
{
	my $output = is_told_right($way, ' whose links are ended', $fresh, '--kill', 50);
	like($output, qr/^kills [1-9]/m, 'some were');
}
like(is_told_right($by_relay, ' whose links are reset', $fresh, '--reset', 150, '--control', $gateway->{relay_fifo}), qr/^lost [1-9]/m, 'some were missed');

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
	my ($status, $output) = crowd($plain, 1, '--seconds', 5, '--clients', 6, '--patience', 1000);
	is($status, 1, "$fault is caught: a crowd");
	like($output, qr/^client \d+ .*(?:wanted|token|no answer)/m, 'by what one was told') or diag($output);
}

done_testing();
