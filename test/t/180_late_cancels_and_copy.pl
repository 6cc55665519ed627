# Cancels that arrive late over a long way, and copies that fail while their client goes on: the one link is the next client's as if nothing had been. Cases 1, 2, 4 and 5 of
# docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => 'pool_size => 1', settings => "hyperpool.worker_memory = '512MB'");
$gateway->{origin}->safe_psql('app', 'SET ROLE app; CREATE TABLE taken (i int PRIMARY KEY, t text); INSERT INTO taken VALUES (1, $$there$$)');
$gateway->learn('app');
my ($first, $second, $third) = map { $gateway->client } 1 .. 3;
my ($worker) = $gateway->worker_pids;

sub waiting { my ($n) = @_; return $gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'waiting'}, $n); }

# ---- case 1: the cancel is 600 ms on its way, so it arrives when its query has ended and the next client has the link ----
my $quick = 'SELECT count(*) FROM generate_series(1, 100000) i WHERE i % 7 > 0';
$_->query($quick) for ($first, $second) x 3;
$gateway->relay('rtt 400');
my %next = (
	'a statement of its own' => [ RawClient::message('Q', "SELECT pg_sleep(0.5), 'mine'\0"), '|mine' ],
	'extended messages' => [ RawClient::extended_messages(q{SELECT pg_sleep(0.5), $1::text}, 'mine'), '|mine' ],
	'a write' => [ RawClient::message('Q', "BEGIN; INSERT INTO taken SELECT 2, pg_sleep(0.5)::text; ROLLBACK; SELECT 'mine'\0"), 'mine' ],
	'a read that may share' => [ RawClient::message('Q', "$quick\0"), '85715' ],
);
my ($own, $hit) = (0, 0);
for my $what (sort keys %next)
{
	my ($messages, $wanted) = @{ $next{$what} };
	my $cancels = $gateway->counter('cancels');
	for my $after (0.35, 0.5, 0.6)
	{
		$first->ask('SELECT pg_sleep(0.3)');
		$second->put_raw($messages);
		sleep $after;
		$first->cancel;
		my ($mine, $next) = map { RawClient::outcome($_) } RawClient::answers(20, $first, $second);
		$own++ if $mine eq '57014';
		$hit++ if $next eq '57014';
		is($next, $wanted, "case 1: a cancel that is late by ${after}s, then $what: the next on the link is not hit");
		like($mine, qr/^(57014)?$/, 'and who asked for it has either answer');
	}
	cmp_ok($gateway->counter('cancels'), '>', $cancels, "case 1: $what: the cancels were sent");
}
is($hit, 0, "case 1: no cancel hit another client ($own met their own)");
$gateway->relay('rtt 0');

# ---- case 2: a queued one, in all forms; nobody else has anything of it ----
$first->query('BEGIN; SELECT 1');
my $simple = RawClient::message('Q', "SELECT 'one'\0");
my %queued = (
	'a Query' => [ $simple, '57014' ],
	'two in one write' => [ $simple . RawClient::message('Q', "SELECT 'two'\0"), '57014', 'two' ],
	'extended messages' => [ RawClient::extended_messages('SELECT $1::text', 'one'), '57014' ],
	'extended messages, twice' => [ RawClient::extended_messages('SELECT $1::text', 'one') . RawClient::extended_messages('SELECT $1::text', 'two'), '57014', 'two' ],
	'a transaction that has only begun' => [ RawClient::message('Q', "BEGIN\0") . $simple . RawClient::message('Q', "ROLLBACK\0"), '57014', '25P02', '' ],
);
for my $what (sort keys %queued)
{
	my ($messages, @wanted) = @{ $queued{$what} };
	# the BEGIN of a batch is sent, and waits, by itself
	@wanted = ('57014', 'one', '') if $what =~ /begun/;
	$second->put_raw($messages);
	waiting(1);
	$third->ask(q{SELECT 'third'});
	waiting(2);
	$second->cancel;
	is(RawClient::outcome($second->answer), $wanted[0], "case 2: queued, $what: cancelled at once");
	ok(!$third->is_answered(0.1), 'the one behind it waits on');
	$first->query('COMMIT');
	is(RawClient::outcome($second->answer), $wanted[$_], "case 2: queued, $what: its message " . ($_ + 1) . ' is not') for 1 .. $#wanted;
	is(RawClient::outcome($third->answer), 'third', 'and the one behind it has its turn');
	$second->query('ROLLBACK') if $second->{status} ne 'I';
	$first->query('BEGIN; SELECT 1');
}
# idle, idle in a transaction, failed in one: not a byte comes of it
for my $state ('T', 'E', 'I')
{
	$first->query($state eq 'E' ? 'SELECT 1/0' : 'ROLLBACK') if $state ne 'T';
	is($first->{status}, $state, "case 2: a client that is idle, state $state");
	$first->cancel for 1 .. 3;
	ok(!$first->is_answered(0.3) && $first->{in} eq '' && !$first->{closed}, 'is told nothing of its cancel');
	is($first->value($state eq 'E' ? 'ROLLBACK' : q{SELECT 'well'}), $state eq 'E' ? '' : 'well', 'and goes on');
	$first->query('BEGIN; SELECT 1/0') if $state eq 'E';
	$first->query('BEGIN; SELECT 1') if $state eq 'T';
}
is($first->{status}, 'I', 'and is idle in the end');

# ---- case 4: the first row is wrong, and the client streams on: 24 MB that nobody wants ----
my $row = "2\t" . 'x' x 99_000 . "\n";
my $stream = RawClient::message('d', $row) x 40;

sub begin_copy
{
	my ($client, $extended) = @_;
	$client->{stop_at_copy} = 1;
	if ($extended)
	{
		$client->put_raw(RawClient::message('P', "\0COPY taken FROM STDIN\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''));
	}
	else
	{
		$client->ask('COPY taken FROM STDIN');
	}
	my $answer = $client->answer;
	$client->{stop_at_copy} = 0;
	return $answer;
}

for my $form ('simple', 'extended')
{
	for my $where ('by itself', 'in a transaction')
	{
		my $name = "case 4: $form, $where";
		my $in_block = $where ne 'by itself';
		$first->query($_) for $in_block ? ('BEGIN', q{INSERT INTO taken VALUES (7, 'gone with it')}) : ();
		like(begin_copy($first, $form eq 'extended')->{types}, qr/G$/, "$name: the copy begins");
		my $memory = Gateway::private_memory($worker);
		$second->ask('SELECT count(*) FROM taken');
		$first->put_raw(RawClient::message('d', "1\tduplicate\n") . $stream);
		$first->put_raw($stream) for 1 .. 2;
		my $early = $form eq 'simple' && !$in_block;
		is($second->is_answered($early ? 20 : 0), $early ? 1 : 0, "$name: the link is " . ($early ? "another's though the client streams on" : 'still its own'));
		$first->put_raw($stream) for 1 .. 3;
		cmp_ok(Gateway::private_memory($worker) - $memory, '<', 20_000, "$name: what it streams is not kept");
		$first->put_raw(RawClient::message('c', '') . ($form eq 'extended' ? RawClient::message('S', '') : ''));
		is(RawClient::outcome($first->answer), '23505', "$name: it is told of the first row");
		is($first->{status}, $in_block ? 'E' : 'I', "$name: in the state of a direct connection");
		if ($in_block)
		{
			is($first->value('SELECT 1'), '25P02', "$name: the transaction has failed");
			$first->query('ROLLBACK');
		}
		is(RawClient::outcome($second->answer), '1', "$name: then the one link is usable at once, and the copy has left nothing");
		is($first->value('SELECT count(*) FROM taken'), '1', "$name: to its client too");
	}
}
# the client dies in the middle of its stream
for my $how (qw(vanish reset))
{
	my $dying = $gateway->client;
	begin_copy($dying);
	$dying->put_raw(RawClient::message('d', "1\tduplicate\n") . substr($stream, 0, 1_000_003));
	$dying->$how;
	is($second->value('SELECT count(*) FROM taken'), '1', "case 4: its client dies in the middle of a message ($how): the link is usable");
}

# ---- case 5: Sync and Flush within a copy: as many ReadyForQuery as on a direct connection ----
sub pieces { my @types = split //, shift; my %of = (S => '', H => '', c => '', d => "9\tnine\n"); return join '', map { RawClient::message($_, $of{$_}) } @types; }

# All messages that come until the copy and what is behind it are over.
sub copy_conversation
{
	my ($client, $said) = @_;
	my @types = (begin_copy($client, 1)->{types});
	$client->put_raw(pieces($said) . RawClient::message('Q', "SELECT 'end'\0"));
	my $answer;
	do
	{
		$answer = $client->answer;
		push @types, $answer->{types};
	} until (RawClient::outcome($answer) eq 'end' || !$answer->{done} || @types > 20);
	$client->query('DELETE FROM taken WHERE i = 9');
	return join ' ', @types;
}
my $direct = $gateway->direct(database => 'app');
for my $said ('dcS', 'SdcS', 'dSScS', 'HdHcHS', 'SHSHdSHcS', 'ScS', 'dcSS')
{
	is(copy_conversation($first, $said), copy_conversation($direct, $said), "case 5: $said within a copy: the messages of a direct connection");
}

is($direct->value(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hyperpool'}), '1', 'there is one link');
is(Gateway::wait_until(sub { $direct->value(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND state <> 'idle' AND pid <> pg_backend_pid()}) }, '0'), '0', 'and nothing is left at work');
$gateway->is_unharmed('afterwards');
done_testing();
