# A cache that is killed: kill -9 of a worker under load empties it, and then the answers are right; a worker that ends in order costs nothing;
# without memory nothing is kept.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Cached::start(workers => 2, settings => "restart_after_crash = on\nhyperpool.drain_timeout = 1s\nhyperpool.cache_size = 32MB", options => q{max_age => '1h'}, make => q{
CREATE TABLE counted (i int PRIMARY KEY, v int); INSERT INTO counted SELECT i, 0 FROM generate_series(1, 50) i;
CREATE TABLE large AS SELECT i, repeat('x', 200000) AS t FROM generate_series(1, 5) i});
my $direct = $gateway->direct(database => 'app');

sub entries { my ($count) = eval { $gateway->try_sql('SELECT entries FROM hyperpool.stat_cache') }; return $count // ''; }
sub enter { my $client; return Gateway::wait_until(sub { $client = eval { $gateway->client(seconds => 5) }; $client ? 'in' : 'out' }, 'in', 30) eq 'in' ? $client : undef; }

# Clients that read small and large answers and write now and then, for so long; those that are cut off come again. Returns reads, and those that went back.
sub load
{
	my ($seconds, $meanwhile) = @_;
	my @clients = map { enter() } 1 .. 8;
	my (%seen, $reads, $back) = ();
	my $until = time() + $seconds;
	my $due = time() + $seconds / 3;
	my $value = $direct->value('SELECT max(v) FROM counted');
	($reads, $back) = (0, 0);
	while (time() < $until)
	{
		my $i = 1 + int rand 50;
		my $sql = rand() < 0.2 ? 'SELECT t FROM large WHERE i = ' . (1 + $i % 5) : "SELECT v FROM counted WHERE i = $i";
		my $floor = $seen{$i} // 0;
		if (defined $due && time() > $due)
		{
			$_->ask($sql) for grep { defined } @clients;
			$meanwhile->();
			undef $due;
		}
		else
		{
			$_->ask($sql) for grep { defined } @clients;
		}
		for my $c (0 .. $#clients)
		{
			my $answer = $clients[$c] ? ($clients[$c]->answer(15)) : { closed => 1 };
			if ($answer->{closed} || !$answer->{done})
			{
				$clients[$c] = enter();
				next;
			}
			next if $answer->{error} || $sql !~ /counted/;
			$reads++;
			my $got = $answer->{rows}[0][0];
			$back++ if $got < $floor;
			$seen{$i} = $got if $got > ($seen{$i} // 0);
		}
		if (rand() < 0.1 && $clients[0])
		{
			$value++;
			my $answer = $clients[0]->query("UPDATE counted SET v = $value WHERE i = $i AND v < $value", 15);
			$seen{$i} = $value if ($answer->{tags}[0] // '') eq 'UPDATE 1' && $answer->{done};
		}
	}
	$_->terminate for grep { defined } @clients;
	return ($reads, $back);
}

# ---- without an accident ----
my ($reads, $back) = load(3, sub { });
is($back, 0, "none of $reads reads goes back");
cmp_ok(entries(), '>', 10, 'there are entries');

# ---- a worker ends in order, or by an administrator: the cache stays, and nothing is left pinned ----
my $client = enter();
Cached::warm($gateway, $client, 'SELECT 17');
my ($pid) = $gateway->worker_pids;
($reads, $back) = load(4, sub { $gateway->sql("SELECT pg_terminate_backend($pid)") });
is($back, 0, "a worker was ended: none of $reads reads goes back");
is($gateway->wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'hyperpool worker' AND pid <> $pid", '2'), '2', 'another has taken its place');
cmp_ok(entries(), '>', 10, 'the entries are still there');
is($gateway->wait_for('SELECT pinned, flights FROM hyperpool.stat_cache', '0|0'), '0|0', 'no pin and no flight is left');
$client = enter();
is((Cached::ask($gateway, $client, 'SELECT 17'))[0], 'hit', 'one from before answers');

# ---- kill -9 ----
for my $turn (1 .. 2)
{
	my ($victim) = $gateway->worker_pids;
	($reads, $back) = load(8, sub { kill 'KILL', $victim });
	is($back, 0, "kill -9, turn $turn: none of $reads reads goes back");
	is(Gateway::wait_until(sub { my ($out) = eval { $gateway->try_sql('SELECT healthy FROM hyperpool.status()') }; $out // '' }, 't', 30), 't', 'the instance has recovered');
	$client = enter();
	Cached::learn($gateway);
	is((Cached::warm($gateway, $client, 'SELECT v FROM counted WHERE i = 1'))[0], 'hit', 'the cache works again');
	my @wrong = grep { $client->value("SELECT v FROM counted WHERE i = $_") ne $direct->value("SELECT v FROM counted WHERE i = $_") } 1 .. 50;
	is("@wrong", '', 'and tells the truth');
	is($gateway->sql('SELECT pinned, flights FROM hyperpool.stat_cache'), '0|0', 'no pin and no flight is left');
}
my $before = entries();
my ($victim) = $gateway->worker_pids;
kill 'KILL', $victim;
sleep 0.5;
is(Gateway::wait_until(sub { my ($out) = eval { $gateway->try_sql('SELECT healthy FROM hyperpool.status()') }; $out // '' }, 't', 30), 't', 'once more');
cmp_ok(entries(), '<', 5, "a restart begins with an empty cache: $before entries before");

# ---- who asks for long answers and does not read them holds half of the memory, not more ----
$client = enter();
Cached::learn($gateway);
my @long = map { "SELECT $_, i, repeat('x', 10000) FROM generate_series(1, 650) i" } 1 .. 3;
is((Cached::warm($gateway, $client, $_))[0], 'hit', 'a long answer is kept') for @long;
my @idle = map { enter() } @long;
$idle[$_]->ask($long[$_]) for 0 .. $#long;
is(Gateway::wait_until(sub { $gateway->sql('SELECT pinned FROM hyperpool.stat_cache') }, 2), 2, 'two of 6.5 MB of 32 MB are held for clients that do not read');
is($gateway->sql('SELECT pinned FROM hyperpool.stat_cache'), 2, 'the third is not');
is((Cached::warm($gateway, $client, 'SELECT v FROM counted WHERE i = 4'))[0], 'hit', 'a short one is given from the cache');
is(scalar @{ $_->answer(60)->{rows} }, 650, 'and when they read they get it all') for @idle;
is(Gateway::wait_until(sub { $gateway->sql('SELECT pinned FROM hyperpool.stat_cache') }, 0), 0, 'nothing is held');
$_->terminate for @idle, $client;

# ---- an orderly restart begins with an empty one too ----
$client = enter();
Cached::learn($gateway);
Cached::warm($gateway, $client, 'SELECT v FROM counted WHERE i = 2');
$direct->query('UPDATE counted SET v = v + 1000');
$gateway->{region}->restart;
$client = enter();
is($client->value('SELECT v FROM counted WHERE i = 2'), $direct->value('SELECT v FROM counted WHERE i = 2'), 'after a restart: the present');

# ---- no memory for it ----
$client->terminate;
$gateway->{region}->append_conf('postgresql.conf', 'hyperpool.cache_size = 0');
$gateway->{region}->restart;
$client = enter();
is(join(' ', map { join '|', Cached::ask($gateway, $client, 'SELECT 18') } 1 .. 3), 'disabled|18 disabled|18 disabled|18', 'hyperpool.cache_size = 0: nothing is kept');
$client->query('UPDATE counted SET v = 5000 WHERE i = 3');
is($client->value('SELECT v FROM counted WHERE i = 3'), '5000', 'writes and reads go on');

# ---- hardly any ----
$gateway->{region}->append_conf('postgresql.conf', 'hyperpool.cache_size = 1MB');
$gateway->{region}->restart;
$client = enter();
Cached::learn($gateway);
is((Cached::warm($gateway, $client, 'SELECT 19'))[0], 'hit', 'hyperpool.cache_size = 1MB: a small one is kept');
my $large = $direct->value('SELECT t FROM large WHERE i = 1');
for my $i (1 .. 300)
{
	my $value = $client->value("SELECT t || $i FROM large WHERE i = 1 + $i % 5");
	is(length $value, 200000 + length $i, "large ones, by turns: $i") if $i % 100 == 0;
}
is($gateway->sql('SELECT used <= size FROM hyperpool.stat_cache'), 't', 'within its bounds');

done_testing();
