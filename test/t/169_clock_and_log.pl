# The clock of the regional instance is set forward and back by a day, and its log can take nothing more, as on a full disk: neither is noticed by clients, no limit is reached early or
# late, and the cache goes by no clock that anybody can set.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $clock = PostgreSQL::Test::Utils::tempdir() . '/clock';

# In place: the server has the file in its memory.
sub set_clock
{
	my ($seconds) = @_;
	open(my $file, -e $clock ? '+<' : '+>', $clock) or die "$clock: $!";
	syswrite $file, pack('q', $seconds);
	close $file;
}

set_clock(0);
my $gateway = Gateway->new(options => q{pool_size => 6, cache => true, max_age => '2s', stale_while_revalidate => '0'}, settings => "hyperpool.log_connections = on\nhyperpool.log_disconnections = on");
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
$origin->safe_psql('app', "SET ROLE app; $Faults::tables; CREATE TABLE priced AS SELECT 1 AS price");
{
	local @ENV{qw(LD_PRELOAD HP_WALL_CLOCK)} = (join(' ', grep { defined } @ENV{qw(LD_PRELOAD WALL_CLOCK)}), $clock);	# a sanitizer's library stays the first
	$region->restart;
}
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
Cached::learn($gateway);
my $descriptors = Faults::other_descriptors($gateway);

sub day_there { return $gateway->sql('SELECT now()::date - date $$' . scalar($origin->safe_psql('postgres', 'SELECT now()::date')) . '$$'); }

# ---- the clock ----
my $first = 0;
for my $jump ([ 'a day forward', 86400, 1 ], [ 'back again', 0, 0 ], [ 'a day back', -86400, -1 ], [ 'and forward', 0, 0 ])
{
	my ($what, $seconds, $days) = @$jump;
	my $holder = $gateway->client;
	$holder->query('BEGIN; SELECT 1');
	my $reader = $gateway->client;
	my $price = Cached::at_origin($gateway, 'UPDATE priced SET price = price + 1 RETURNING price') =~ s/\n.*//sr;
	Gateway::wait_until(sub { (Cached::ask($gateway, $reader, 'SELECT price FROM priced'))[1] }, $price);
	is((Cached::warm($gateway, $reader, 'SELECT price FROM priced'))[0], 'hit', "$what: an entry");
	my $crowd = Faults->new($gateway, clients => 8, first => $first);
	$crowd->run(0.4, sub { set_clock($seconds); });
	is(day_there(), $days, "$what: the server has heard of it");
	is($crowd->all_are_served, '', "$what: all are served");
	is($holder->query('SELECT 2')->{status} // 'closed', 'T', "$what: a transaction goes on");
	Cached::at_origin($gateway, 'UPDATE priced SET price = price + 1');
	my $began = time();
	is(Gateway::wait_until(sub { $reader->value('SELECT price FROM priced') }, $price + 1, 20), $price + 1, "$what: a write from outside is seen");
	cmp_ok(time() - $began, '<', 10, "$what: when max_age is over");
	is($gateway->client->value('SELECT 3'), '3', "$what: new clients are let in");
	$crowd->go;
	$crowd->is_right($origin, $what, qr/^none$/);
	is($crowd->{closed}, 0, "$what: no client is thrown out");
	$_->terminate for $holder, $reader;
	$first += 8;
}
# A commit waits for the manager, which stands still, no longer than it may.
my ($manager) = $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool manager'});
my $committer = RawClient->new(port => $region->port, user => scalar getpwuid($>), database => 'postgres');
kill 'STOP', $manager;
$committer->ask(q{SELECT hyperpool.alter_origin('app', pool_size => 7)});
sleep 0.5;
set_clock(-86400);
is(RawClient::outcome($committer->answer(30)), '', 'set back while a commit waits: it does not wait for a day');
kill 'CONT', $manager;
set_clock(0);
$committer->terminate;
nothing_is_left($gateway, 'the clock', $descriptors);

# ---- the log ----
SKIP:
{
	my ($prlimit) = grep { -x $_ } map { "$_/prlimit" } split /:/, $ENV{PATH};
	skip 'prlimit is not installed (util-linux)', 1 unless $prlimit;
	my @processes = split /\n/, $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'hyperpool %'});
	my $limit = sub { for (@processes) { system($prlimit, "--pid=$_", "--fsize=$_[0]:unlimited") == 0 or die 'prlimit'; } };
	my $logged = sub { my @lines = slurp_file($region->logfile) =~ /hyperpool: disconnection/g; return scalar @lines; };
	is(Gateway::wait_until(sub { my $before = $logged->(); $gateway->client->terminate; sleep 0.2; return $logged->() > $before ? 'logged' : '' }, 'logged'), 'logged', 'the log: disconnections are logged');
	my $crowd = Faults->new($gateway, clients => 8, first => $first);
	my $before;
	$crowd->run(0.4, sub { $limit->(1); $before = $logged->(); }, sub { $gateway->client->terminate for 1 .. 50; });
	is($crowd->all_are_served, '', 'the log takes nothing: all are served');
	is($logged->(), $before, 'the log takes nothing: nothing was logged');
	$limit->('unlimited');
	$crowd->go;
	$crowd->is_right($origin, 'the log takes nothing', qr/^none$/);
	is($crowd->{closed}, 0, 'the log takes nothing: no client is thrown out');
	is(Gateway::wait_until(sub { $gateway->client->terminate; sleep 0.1; return $logged->() > $before ? 'logged' : '' }, 'logged'), 'logged', 'the log takes lines again');
	is(join(' ', split /\n/, $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'hyperpool %'})), "@processes", 'no process has ended');
}
nothing_is_left($gateway, 'afterwards', $descriptors);
is($gateway->client->value('SELECT 42'), '42', 'the gateway serves');
unlike(slurp_file($region->logfile), qr/terminated by signal|TRAP:|PANIC:/, 'no process has crashed');
done_testing();
