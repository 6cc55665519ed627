# What is asked again elsewhere, or cancelled before the origin has come to it, leaves its client's session as if it had not been asked: the names of its statements, its
# unnamed statement, its time limit. And what is parked for a client comes in order.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => 'pool_size => 3');
$gateway->{origin}->safe_psql('app', q{
SET ROLE app;
CREATE TABLE kv (k int PRIMARY KEY, v text);
INSERT INTO kv SELECT i, 'value-' || i FROM generate_series(1, 100) i;
CREATE TABLE locked (k int PRIMARY KEY, v text);
INSERT INTO locked SELECT i, 'locked-' || i FROM generate_series(1, 100) i;
});
$gateway->create('one', 'pool_size => 2');
$gateway->create('brief', q{pool_size => 2, query_timeout => '700ms'});
$gateway->learn(qw(app one brief));
$gateway->{watcher} = $gateway->direct;

sub warm { my ($client, @messages) = @_; $gateway->ask_until_shared($client, $_) for @messages; }
sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }
sub parse { my ($name, $sql) = @_; return RawClient::message('P', "$name\0$sql\0\0\0"); }
sub run { my ($name, $value) = @_; return RawClient::message('B', "\0$name\0\0\0" . pack('nl>/a', 1, $value) . "\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''); }
sub waits_for_lock { return $gateway->{watcher}->value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}); }
sub outcomes { my ($client, $n) = @_; return map { RawClient::outcome($client->answer) } 1 .. $n; }

my $blocked = simple('SELECT v FROM locked WHERE k = 7');
my $form = "SELECT v, '%s' FROM kv WHERE k = \$1::int";
sub text { my ($token) = @_; return sprintf($form, $token); }

# A read that waits for a lock, and right behind it, on the same link, what $client asks.
sub behind_blocked
{
	my ($client, @messages) = @_;
	my ($locker, $reader, $warmer) = map { $gateway->client(database => $client->{database}) } 1 .. 3;
	warm($warmer, $blocked);
	$locker->query('BEGIN; LOCK TABLE locked');
	$gateway->relay('stall');
	$reader->put_raw($blocked);
	$client->put_raw($_) for @messages;
	is($gateway->wait_for("SELECT cl_waiting FROM hyperpool.pools WHERE origin = '$client->{database}'", '0'), '0', 'nobody waits for a link');
	$gateway->relay('resume') if $client->{database} ne 'brief';
	return ($locker, $reader);
}

sub end_lock
{
	my ($locker, $reader, $expected) = @_;
	$locker->query('COMMIT');
	is(RawClient::outcome($reader->answer), $expected // 'locked-7', 'the one that stood still has its answer');
}

# all links are open: who is stalled cannot open one
for my $name ([ 'app', 3 ], [ 'one', 2 ], [ 'brief', 2 ])
{
	my @clients = map { $gateway->client(database => $name->[0]) } 1 .. $name->[1];
	$_->ask('SELECT pg_sleep(0.4)') for @clients;
	RawClient::answers(20, @clients);
}

my $warmer = $gateway->client;
warm($warmer, parse('', text($_)) . run('', 1)) for qw(a b);
warm($warmer, simple("SELECT v FROM kv WHERE k = 1"));

# ---- moved ----
{
	my $client = $gateway->client;
	my $moved = $gateway->counter('moved');
	my @stuck = behind_blocked($client, parse('mine', text('a')) . run('mine', 5));
	is(RawClient::outcome($client->answer), 'value-5|a', 'moved: a statement that is named there');
	cmp_ok($gateway->counter('moved'), '>', $moved, 'it was moved');
	end_lock(@stuck);
	$client->put_raw(run('mine', 6));
	is(RawClient::outcome($client->answer), 'value-6|a', 'the name is known');
}
for my $next ([ 'another unnamed statement', parse('', text('b')) . run('', 6), 'value-6|b' ], [ 'a Query, which takes the unnamed statement away', simple('SELECT v FROM kv WHERE k = 6'), 'value-6' ])
{
	my ($what, $messages, $expected) = @$next;
	my $client = $gateway->client;
	$client->put_raw(parse('', text('a')) . RawClient::message('S', ''));
	$client->answer;
	my @stuck = behind_blocked($client, run('', 5) . $messages);
	is_deeply([ outcomes($client, 2) ], [ 'value-5|a', $expected ], "moved: the unnamed statement, and behind it $what");
	end_lock(@stuck);
}
{
	my $client = $gateway->client;
	$client->put_raw(parse('', text('a')) . RawClient::message('S', ''));
	$client->answer;
	my @stuck = behind_blocked($client, substr(run('', 5), 0, -5) . parse('', text('b')) . RawClient::message('S', ''));
	is_deeply([ outcomes($client, 1) ], ['value-5|a'], 'moved: the unnamed statement, and another one parsed in the same exchange');
	end_lock(@stuck);
}

# ---- cancelled where the origin had not come to it ----
{
	my $client = $gateway->client(database => 'one');
	warm($gateway->client(database => 'one'), parse('', text('a')) . run('', 1));
	my @stuck = behind_blocked($client, parse('mine', text('a')) . run('mine', 5));
	sleep 0.1;
	$client->cancel;
	is(RawClient::outcome($client->answer), '57014', 'cancelled behind one that stands still');
	end_lock(@stuck);
	$client->put_raw(parse('mine', text('a')) . run('mine', 5));
	is(RawClient::outcome($client->answer), 'value-5|a', 'what it had named there it may name again');
}

# ---- parked, then cancelled itself ----
{
	my $client = $gateway->client(database => 'one');
	my $long = sub { my ($n) = @_; return simple("SELECT i, repeat('x', 10000) FROM generate_series(1, $n) i, kv WHERE kv.k = 1"); };
	warm($gateway->client(database => 'one'), $long->(2));
	my ($locker, $reader) = behind_blocked($client, $long->(60_000));
	sleep 0.1;
	$reader->cancel;
	is(RawClient::outcome($reader->answer), '57014', 'a neighbour is cancelled');
	sleep 0.1;
	$client->cancel;
	my $answer = $client->answer(60);
	ok($answer->{types} =~ /^TD*(CZ|EZ)$/, 'what was parked comes before the rest (' . length($answer->{types}) . ' messages)');
	my $at = 0;
	my $wrong = grep { $_->[0] != ++$at } @{ $answer->{rows} };
	is($wrong, 0, 'row by row');
	$locker->query('ROLLBACK');
}

# ---- the time limit of what stands behind one that was refused ----
{
	my $client = $gateway->client(database => 'brief');
	my @other = map { $gateway->client(database => 'brief') } 1 .. 2;
	warm($other[0], simple("SELECT v FROM kv WHERE k = 1"));
	my ($locker, $reader) = behind_blocked($client, simple('SELECT v FROM kv WHERE k = 1') . simple('SELECT v FROM kv WHERE k = 2'));
	is(RawClient::outcome($client->answer(3)), '57014', 'query_timeout of the first');
	is(RawClient::outcome($client->answer(3)), '57014', 'and of the one behind it');
	$gateway->relay('resume');
	$reader->answer;
	$locker->query('ROLLBACK');
}

$gateway->is_unharmed('asked again');
done_testing();
