# The limits of a pool: how many links, who waits and for how long, which link is used again, when links are opened and closed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(options => q{pool_size => 2, queue_timeout => '1min'});
my $region = $gateway->{region};
my @clients = map { $gateway->client } 1 .. 6;

sub pids { return join ' ', sort map { split /\n/ } $gateway->{watcher}->value(q{SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend' AND application_name <> 'hyperpool scout'}); }
sub links { return $gateway->links_at_origin; }

# ---- lazy ----
cmp_ok(links(), '<=', 1, 'a link for the first greeting, no more');
$_->value('SELECT 1') for @clients, @clients;
is(links(), '1', 'one is enough for those who ask one after the other');

# ---- pool_size: two have their links until the view has been looked at ----
$_->query("BEGIN; SELECT 'hold'") for @clients[ 0, 1 ];
$_->ask('SELECT pg_sleep(0.1), pg_backend_pid()') for @clients;
my @answers = RawClient::answers(20, @clients[ 0, 1 ]);
is($gateway->wait_for('SELECT cl_active, cl_waiting, sv_active, pool_size FROM hyperpool.pools', '2|4|2|2'), '2|4|2|2', 'two are served, four wait, and the view says so');
$_->query('COMMIT') for @clients[ 0, 1 ];
push @answers, RawClient::answers(20, @clients[ 2 .. 5 ]);
is((scalar grep { RawClient::outcome($_) !~ /^\|\d+$/ } @answers), 0, 'all get their turn');
my %pids = map { $_->{rows}[0][1] => 1 } @answers;
is(scalar(keys %pids), 2, 'on two links');
is(links(), '2', 'never more at the origin');

# ---- FIFO ----
$_->query("BEGIN; SELECT 'hold'") for @clients[ 0, 1 ];
my $queue = 0;
for my $waiting (@clients[ 2 .. 5 ])
{
	$waiting->ask('SELECT clock_timestamp()');
	$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'waiting'}, ++$queue);
}
$clients[0]->query('COMMIT');
my @times = map { RawClient::outcome($_) } RawClient::answers(20, @clients[ 2 .. 5 ]);
is("@times", join(' ', sort @times), 'first come, first served');

# ---- queue_timeout ----
$gateway->alter(q{queue_timeout => '1s'});
$clients[0]->query("BEGIN; SELECT 'hold'");
my $before = $gateway->counter('queue_timeouts');
my $began = time();
$clients[2]->ask('SELECT 1');
$clients[3]->put_raw(RawClient::extended_messages('SELECT 1'));
for my $answer (RawClient::answers(20, @clients[ 2, 3 ]))
{
	is($answer->{error}{C}, '53300', 'who waits too long is refused');
	like($answer->{error}{M}, qr/origin "app"/, 'the origin is named');
	like($answer->{error}{H}, qr/pool_size.*queue_timeout|queue_timeout.*pool_size/s, 'the hint names the options');
	is($answer->{status}, 'I', 'and may ask again');
}
cmp_ok(time() - $began, '>=', 0.9, 'not before its time');
is($gateway->counter('queue_timeouts') - $before, 2, 'both are counted');
$_->query('ROLLBACK') for @clients[ 0, 1 ];
is($clients[2]->value('SELECT 1'), '1', 'then there is a link again');

# ---- LIFO: of two idle links the one returned last ----
my %used = map { $clients[$_ % 6]->value('SELECT pg_backend_pid()') => 1 } 1 .. 12;
is(scalar(keys %used), 1, 'the same link is used again, the other rests');

# ---- queue_timeout 0: waits for ever ----
$gateway->alter(q{queue_timeout => '0'});
sleep 0.3;
$_->query("BEGIN; SELECT 'hold'") for @clients[ 0, 1 ];
$clients[2]->ask('SELECT 8');
ok(!$clients[2]->is_answered(2), 'queue_timeout 0: no end to the waiting');
$_->query('ROLLBACK') for @clients[ 0, 1 ];
is(RawClient::outcome($clients[2]->answer), '8', 'until there is a link');

# ---- pool_size, changed while in use ----
$gateway->alter('pool_size => 4');
is(Gateway::wait_until(sub { $_->ask('SELECT pg_sleep(0.05)') for @clients; RawClient::answers(20, @clients); links() }, '4'), '4', 'more links after pool_size was raised');
$gateway->alter('pool_size => 1');
is(Gateway::wait_until(sub { $_->ask('SELECT 1') for @clients; RawClient::answers(20, @clients); links() }, '1'), '1', 'fewer after it was lowered');

# ---- idle_timeout ----
$gateway->alter(q{pool_size => 3, idle_timeout => '1s'});
is(Gateway::wait_until(sub { $_->ask('SELECT pg_sleep(0.05)') for @clients; RawClient::answers(20, @clients); links() }, '3'), '3', 'three links');
is(Gateway::wait_until(\&links, '0', 15), '0', 'idle_timeout closes all');
is($clients[0]->value('SELECT 1'), '1', 'the next is opened when needed');

# ---- min_pool_size ----
$gateway->alter(q{min_pool_size => 2});
is(Gateway::wait_until(\&links, '2', 15), '2', 'min_pool_size: two are opened though nobody asks');
sleep 2.5;
is(links(), '2', 'and idle_timeout leaves them');
is($gateway->sql('SELECT sv_idle FROM hyperpool.pools'), '2', 'they are idle');

# ---- max_lifetime ----
$gateway->alter(q{idle_timeout => '10min', max_lifetime => '1s', min_pool_size => 1});
my $first = pids();
is(Gateway::wait_until(sub { my %now = map { $_ => 1 } split / /, pids(); (grep { $now{$_} } split / /, $first) ? 'old' : 'new' }, 'new', 15), 'new', 'max_lifetime: old links are replaced');
$clients[0]->query('BEGIN');
my $pid = $clients[0]->value('SELECT pg_backend_pid()');
sleep 2;
is($clients[0]->value('SELECT pg_backend_pid()'), $pid, 'but not in the middle of a transaction');
$clients[0]->query('COMMIT');
cmp_ok($gateway->counter('links_retired'), '>', 3, 'retired links are counted');

# ---- fair between roles: one that asks much does not starve one that asks little ----
$gateway->alter(q{pool_size => 1, min_pool_size => 0, max_lifetime => '1h'});
$region->safe_psql('postgres', 'CREATE ROLE quiet LOGIN');
my $quiet;
Gateway::wait_until(sub { $quiet = eval { $gateway->client(user => 'quiet') }; $quiet ? 1 : 0 }, 1);
$quiet->value('SELECT 1');
my @loud = (@clients, map { $gateway->client } 1 .. 14);
$_->ask('SELECT pg_sleep(0.1), clock_timestamp()') for @loud;
$gateway->wait_for(q{SELECT count(*) > 10 FROM hyperpool.clients WHERE state = 'waiting'}, 't');
$quiet->ask('SELECT pg_sleep(0), clock_timestamp()');
my @all = map { $_->{rows}[0][1] } RawClient::answers(20, $quiet, @loud);
my $own = shift @all;
cmp_ok((scalar grep { $_ gt $own } @all), '>', 5, 'a role that asks once is served before a role with twenty clients is through');

$gateway->is_unharmed('afterwards');
done_testing();
