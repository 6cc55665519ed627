# Floods by clients that have logged in: statements that are named, or begun and not ended, by many at once; portals; settings; cancel requests, with keys made up and with
# the right one. Each has a limit; what a worker keeps does not go far beyond hyperpool.worker_memory, and somebody else is served all the time.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $cap = 16;    # MB
my $gateway = Gateway->new(options => 'pool_size => 8', settings => qq{
hyperpool.worker_memory = ${cap}MB
hyperpool.max_settings = 60
});
$gateway->create('near', 'pool_size => 2');
my $healthy = $gateway->client(database => 'near');
$healthy->value('SELECT 1');
my ($worker) = $gateway->worker_pids;

sub sync { return RawClient::message('S', ''); }
sub parse { my ($name, $sql) = @_; return RawClient::message('P', "$name\0$sql\0\0\0"); }
sub memory { return Gateway::private_memory($worker); }
sub others_go_on { my ($what) = @_; is($healthy->value("SELECT '$what'"), $what, "$what: another client is served"); return; }
sub all_gone { return $gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE origin = 'app'}, '0'); }

# What a worker has once it has served: its own buffers.
$gateway->client->query("SELECT repeat('x', 1000000)");
my $base = memory();

# ---- messages that are announced and dripped ----
my @clients = map { $gateway->client } 1 .. 60;
my $until = time() + 60;
for my $piece (1 .. 9)
{
	for my $client (@clients)
	{
		$client->put_raw($piece == 1 ? ('Q', 'P')[ @clients % 2 ] . pack('N', 1_000_000) . "x\0" . 'x' x 99_998 : 'x' x 100_000, 0.05);
	}
	last if time() > $until;
}
my $grown = (memory() - $base) / 1024;
cmp_ok($grown, '<', 2 * $cap, sprintf('sixty statements of 1 MB without an end: the worker grew by %.0f MB', $grown));
others_go_on('dripped');
$_->vanish for @clients;
is(all_gone(), '0', 'they have gone');

my $giant = $gateway->client;
$giant->put_raw('P' . pack('N', 0x3ffffff0) . "\0" . 'x' x 500_000);
others_go_on('a Parse of 1 GB');
$giant->vanish;
for my $length (0x3fffffff, 0x7fffffff)
{
	$giant = $gateway->client;
	$giant->put_raw('P' . pack('N', $length));
	ok($giant->is_closed(20), "a Parse of $length bytes is not begun");
}

# ---- named statements, long and many ----
@clients = map { $gateway->client } 1 .. 8;
my %ends;
for my $n (1 .. 110)
{
	for my $client (grep { !$_->{closed} } @clients)
	{
		$client->put_raw(parse("s$n", "SELECT /* $n $client->{socket} " . 'x' x 200_000 . ' */ 1') . sync(), 1);
		my $answer = $client->answer(20);
		next if $answer->{done} && !$answer->{error};
		$ends{ RawClient::outcome($answer) }++;
		$client->{closed} = 1;
	}
}
$grown = (memory() - $base) / 1024;
note(join ', ', map { "$_: $ends{$_}" } sort keys %ends);
cmp_ok($grown, '<', 4 * $cap, sprintf('statements of 200 kB under a thousand names, 190 MB: the worker grew by %.0f MB', $grown));
others_go_on('named statements');
$_->vanish for @clients;
is(all_gone(), '0', 'they have gone, too');
is($gateway->wait_for("SELECT coalesce(sum(statements), 0) * 200000 < $cap * 1024 * 1024 FROM hyperpool.links", 't'), 't', 'links keep no more of what they had prepared than there is memory for');
is($gateway->sql(q{SELECT count(*) FROM hyperpool.links WHERE state = 'resetting'}), '0', 'nor waits for an answer to what was never asked');
is(RawClient::outcome($gateway->client->extended('SELECT $1', 'again')), 'again', 'and others prepare theirs');

# ---- portals: they are the origin's, what is asked without an answer has a limit ----
my $client = $gateway->client;
$client->query('BEGIN');
$client->put_raw(parse('', 'SELECT generate_series(1, 10)') . join('', map { RawClient::message('B', "p$_\0\0\0\0\0\0\0\0") . RawClient::message('E', "p$_\0\0\0\0\1") } 1 .. 3000) . sync());
is(scalar(@{ $client->answer(60)->{rows} }), 3000, 'three thousand portals');
$client->query('ROLLBACK');
$client->put_raw(parse('', 'SELECT 1') . join('', map { RawClient::message('B', "q$_\0\0\0\0\0\0\0\0") } 1 .. 20000) . RawClient::message('H', ''), 30);
is(RawClient::outcome($client->answer(30)), '54000', 'twenty thousand messages without a Sync are too many');
others_go_on('portals');

# ---- settings: more combinations than a worker keeps ----
$client = $gateway->client;
my @refused = grep { my $answer = $client->query("SET flood.s$_ = '" . 'x' x 1000 . q{'}); $answer->{error} || !$answer->{done} } 1 .. 100;
is("@refused", '', 'a hundred settings of one client');
is(length $client->value('SHOW flood.s100'), 1000, 'they hold');
others_go_on('settings');
is($gateway->client->value('SELECT 1'), '1', 'and others log in');
@clients = grep { defined } map { my $i = $_; scalar eval { $gateway->client(parameters => { search_path => "flood$i" }) } } 1 .. 80;
cmp_ok(scalar @clients, '<', 80, 'combinations at login: refused from some number on');
is($gateway->client->value('SELECT 1'), '1', 'who brings none is let in all the same');
others_go_on('combinations');
$_->terminate for @clients;
$client->terminate;

# ---- cancel requests ----
my $sleeper = $gateway->client;
$sleeper->ask('SELECT pg_sleep(60)');
$gateway->wait_for(q{SELECT state FROM hyperpool.clients WHERE client_port = } . $sleeper->{socket}->sockport, 'active');
my ($pid) = unpack('N', $sleeper->{key});
for (1 .. 300)
{
	my $other = RawClient->new(port => $gateway->{port}, login => 0);
	$other->put_raw(pack('NNNN', 16, 80877102, $pid + int(rand 3), int rand 2**32));
	push @clients, $other;
	$_->vanish for splice @clients, 0, @clients > 50 ? @clients - 50 : 0;
}
ok(!$sleeper->is_answered(0), 'three hundred keys that were made up cancel nobody');
others_go_on('cancel requests');
$sleeper->cancel;
is(RawClient::outcome($sleeper->answer), '57014', 'the right one does');
my $key = pack('NN', 8 + length $sleeper->{key}, 80877102) . $sleeper->{key};
for (1 .. 300)
{
	my $other = RawClient->new(port => $gateway->{port}, login => 0);
	$other->put_raw($key);
	push @clients, $other;
	$_->vanish for splice @clients, 0, @clients > 50 ? @clients - 50 : 0;
}
others_go_on('the right key again and again');
is(Gateway::wait_until(sub { $sleeper->value('SELECT 5') }, '5'), '5', 'its own client goes on when it is over');

$grown = (memory() - $base) / 1024;
cmp_ok($grown, '<', 4 * $cap, sprintf('the worker has grown by %.0f MB', $grown));
$gateway->is_unharmed('afterwards');
done_testing();
