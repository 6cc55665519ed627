# Shared links in trouble: a read that waits for a lock, cancels and time limits, a client that does not read, the death of a link with thirty exchanges on it, a
# backend ended by an administrator, clients that vanish. Whoever is not meant gets his own answer.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => 'pool_size => 3', settings => "hyperpool.share_buffer = '1MB'");
$gateway->{origin}->safe_psql('app', q{
SET ROLE app;
CREATE TABLE kv (k int PRIMARY KEY, v text);
INSERT INTO kv SELECT i, 'value-' || i FROM generate_series(1, 100) i;
CREATE TABLE locked (k int PRIMARY KEY, v text);
INSERT INTO locked SELECT i, 'locked-' || i FROM generate_series(1, 100) i;
});
$gateway->create('one', 'pool_size => 2');
$gateway->create('wide', 'pool_size => 10');
$gateway->create('brief', q{pool_size => 2, query_timeout => '700ms'});
$gateway->learn(qw(app one wide brief));

sub warm { my ($client, @sql) = @_; $gateway->ask_until_shared($client, RawClient::message('Q', "$_\0")) for @sql; }

my @ask = map { "SELECT v, $_ FROM kv WHERE k = $_" } 0 .. 50;
my $blocked = 'SELECT v FROM locked WHERE k = 7';
sub own { my ($i) = @_; return "value-$i|$i"; }

sub outcomes { return map { RawClient::outcome($_) } RawClient::answers(20, @_); }

sub waits_for_lock { return $gateway->{watcher}->value(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'}); }
$gateway->{watcher} = $gateway->direct;

# A client whose quick read stands still at the origin: somebody has locked the table.
sub stand_still
{
	my ($name) = @_;
	my ($locker, $reader) = map { $gateway->client(database => $name) } 1 .. 2;
	warm($reader, $blocked, $ask[1]);
	$locker->query('BEGIN; LOCK TABLE locked');
	$reader->ask($blocked);
	Gateway::wait_until(\&waits_for_lock, '1') eq '1' or die 'the reader does not wait';
	return ($locker, $reader);
}

# ---- a lock wait beside reads: they go elsewhere ----
{
	my ($locker, $reader) = stand_still('app');
	my @clients = map { $gateway->client } 1 .. 20;
	for my $round (1 .. 5)
	{
		$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 20;
		is_deeply([ outcomes(@clients) ], [ map { own($_) } 1 .. 20 ], "reads beside one that waits for a lock, round $round");
	}
	ok(!$reader->is_answered(0), 'which is still waiting');
	is($locker->value('COMMIT'), '', 'the lock is given up, on a link of its own');
	is(RawClient::outcome($reader->answer), 'locked-7', 'and the one that waited has its answer');
}

# ---- those who board before it is seen to stand still are moved ----
{
	my $before = $gateway->counter('moved');
	my @clients = map { $gateway->client } 1 .. 20;
	my ($locker, $reader) = stand_still('app');
	my @more = map { $gateway->client } 1 .. 3;
	# all in one turn, behind each other
	$gateway->relay('stall');
	$reader = $gateway->client;
	$reader->ask($blocked);
	$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 20;
	sleep 0.3;
	$gateway->relay('resume');
	is_deeply([ outcomes(@clients) ], [ map { own($_) } 1 .. 20 ], 'asked behind one that stands still: asked elsewhere');
	$locker->query('COMMIT');
	is(RawClient::outcome($reader->answer), 'locked-7', 'the one itself too');
	note('moved: ', $gateway->counter('moved') - $before);
}

# ---- cancels ----
{
	my ($locker, $reader) = stand_still('one');	# the other link is the locker's: nobody can be moved
	my @clients = map { $gateway->client(database => 'one') } 1 .. 6;
	$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 6;
	sleep 0.1;
	ok(!$clients[3]->is_answered(0.1), 'six stand behind one that waits for a lock');
	$clients[3]->cancel;
	is(RawClient::outcome($clients[3]->answer), '57014', 'one of them is cancelled: answered here');
	is($clients[3]{status}, 'I', 'and goes on');
	ok(!$reader->is_answered(0.1), 'the one before it is not touched');
	$reader->cancel;
	is(RawClient::outcome($reader->answer), '57014', 'the one that waits is cancelled at the origin');
	$clients[3]->ask($ask[4]);
	is_deeply([ outcomes(@clients) ], [ map { own($_) } 1 .. 6 ], 'all others have their answers');
	$locker->query('ROLLBACK');
}

# ---- a storm of cancels: who did not ask for it never sees one ----
for my $form (qw(simple extended))
{
	my @clients = map { $gateway->client(database => 'one') } 0 .. 19;
	my ($stray, $wrong, $own) = (0, 0, 0);
	my $messages = sub { my ($sql) = @_; return $form eq 'simple' ? RawClient::message('Q', "$sql\0") : RawClient::extended_messages($sql); };
	my @last;
	$gateway->ask_until_shared($clients[0], $messages->($ask[1]));
	for my $round (1 .. 40)
	{
		# a cancel that comes late may meet the next statement of its own client
		my %cancelled = map { $_ => 1 } @last;
		$clients[$_]->put_raw($messages->($_ % 4 ? $ask[$_] : "SELECT count(*) FROM kv a, kv b WHERE a.k = $_")) for 0 .. 19;
		@last = map { ($round * 7 + $_ * 5) % 20 } 0 .. 2;
		$clients[$_]->cancel for @last;
		$cancelled{$_} = 1 for @last;
		my @got = outcomes(@clients);
		for my $i (0 .. 19)
		{
			next if $got[$i] eq ($i % 4 ? own($i) : $i ? 100 : 0);
			if ($got[$i] eq '57014') { $cancelled{$i} ? $own++ : $stray++; }
			else { $wrong++; diag("client $i: $got[$i]"); }
		}
	}
	note("cancels that met their own statement: $own");
	is($stray, 0, "$form: a cancel meets nobody else");
	is($wrong, 0, "$form: and all answers are right");
}

# ---- query_timeout ----
{
	my ($locker, $reader) = stand_still('brief');
	my @clients = map { $gateway->client(database => 'brief') } 1 .. 3;
	$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 3;
	is(RawClient::outcome($reader->answer), '57014', 'query_timeout ends the one that waits');
	my %seen = map { $_ => 1 } outcomes(@clients);
	is(join(' ', grep { !/^value-\d\|\d$|^57014$/ } keys %seen), '', 'those behind it are answered, or timed out themselves');
	is($clients[0]->value($ask[9]), own(9), 'and go on');
	$locker->query('ROLLBACK');
}

# ---- a client that does not read its answer ----
{
	my @clients = map { $gateway->client } 1 .. 50;
	my $lazy = $gateway->client;
	my $read = sub { my ($n) = @_; return "SELECT repeat(v, $n) FROM kv WHERE k = 1"; };
	warm($clients[0], $read->(2), $ask[1]);
	# a statement known to be short has a long answer for once
	my $shared = $gateway->counter('shared');
	$lazy->ask($read->(3_000_000));
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'active'}, '1'), '1', 'a client does not read');
	for my $round (1 .. 5)
	{
		$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 50;
		is_deeply([ outcomes(@clients) ], [ map { own($_) } 1 .. 50 ], "fifty others are answered, round $round");
	}
	cmp_ok($gateway->counter('shared'), '>', $shared, 'on shared links');
	my $answer = $lazy->answer(60);
	is(length($answer->{rows}[0][0] // ''), 7 * 3_000_000, 'it has all of its answer when it reads');
	is($lazy->value('SELECT 1'), '1', 'and goes on');
}

# ---- links die with many exchanges on them: all at once, so that who goes from one to the next loses that one too ----
for (['app', 30], ['wide', 60])
{
	my ($name, $count) = @$_;
	my @clients = map { $gateway->client(database => $name) } 1 .. $count;
	warm($clients[0], $ask[1]);
	$gateway->move_away(600, $name);
	warm($clients[0], $ask[1]);
	for my $round (1 .. 2)
	{
		my $before = $gateway->counter('repeated', $name);
		$clients[ $_ - 1 ]->ask($ask[ ($_ - 1) % 50 + 1 ]) for 1 .. $count;
		Gateway::wait_until(sub { $gateway->look(qq{SELECT cl_active >= $count * 2 / 3 FROM hyperpool.pools WHERE origin = '$name'}) }, 't');
		$gateway->relay('reset');
		is_deeply([ outcomes(@clients) ], [ map { own(($_ - 1) % 50 + 1) } 1 .. $count ], "$name: links die with $count on them, round $round: all are asked again");
		cmp_ok($gateway->counter('repeated', $name) - $before, '>=', $count / 2, 'which is counted');
	}
	$gateway->move_away(0, $name);
}

# ---- an administrator ends the backend ----
{
	my ($locker, $reader) = stand_still('one');
	my @clients = map { $gateway->client(database => 'one') } 1 .. 6;
	$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 6;
	sleep 0.1;
	$gateway->{watcher}->value(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'});
	is(RawClient::outcome($reader->answer), '57P01', 'the read at work is told');
	is_deeply([ outcomes(@clients) ], [ map { own($_) } 1 .. 6 ], 'those behind it are asked again');
	$locker->query('ROLLBACK');
}

# ---- settings that the origin comes to refuse: they are one client's trouble ----
{
	$gateway->{origin}->safe_psql('app', 'CREATE TEXT SEARCH CONFIGURATION public.mine (COPY = simple)');
	my @clients = map { $gateway->client(database => 'one') } 1 .. 6;
	my $odd = $gateway->client(database => 'one', parameters => { default_text_search_config => 'public.mine' });
	is($odd->value($ask[9]), own(9), 'settings of its own');
	$gateway->{origin}->safe_psql('app', 'DROP TEXT SEARCH CONFIGURATION public.mine');
	my ($wrong, $told) = (0, 0);
	for my $round (1 .. 10)
	{
		# other links by now: each is to be brought into the settings
		$gateway->sql("SELECT hyperpool.restart_origin('one')") if $round % 3 == 1;
		$odd->ask($ask[9]);
		$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 6;
		my @got = outcomes(@clients);
		$wrong += grep { $got[ $_ - 1 ] ne own($_) } 1 .. 6;
		$told += RawClient::outcome($odd->answer) ne own(9);
	}
	cmp_ok($told, '>=', 1, "settings the origin refuses by now: their client is told ($told)");
	is($wrong, 0, 'nobody else is');
}

# ---- vanished clients ----
{
	my ($locker, $reader) = stand_still('one');
	my @clients = map { $gateway->client(database => 'one') } 1 .. 6;
	$clients[ $_ - 1 ]->ask($ask[$_]) for 1 .. 6;
	sleep 0.1;
	$clients[1]->vanish;
	$clients[4]->reset;
	$reader->vanish;
	is_deeply([ outcomes(@clients[ 0, 2, 3, 5 ]) ], [ map { own($_) } 1, 3, 4, 6 ], 'what a vanished client waits for is cancelled, and those behind it go on');
	$locker->query('ROLLBACK');
}

# ---- half an exchange never gets on a shared link ----
{
	my @clients = map { $gateway->client(database => 'one') } 1 .. 4;
	my $whole = RawClient::extended_messages('SELECT v, $1::text FROM kv WHERE k = $1::int', 9);
	$clients[0]->put_raw($whole), $clients[0]->answer for 1 .. 3;
	$clients[0]->put_raw(substr($whole, 0, length($whole) - 5));
	$clients[ $_ ]->ask($ask[$_]) for 1 .. 3;
	is_deeply([ outcomes(@clients[ 1 .. 3 ]) ], [ map { own($_) } 1 .. 3 ], 'a batch whose Sync does not come keeps nobody waiting');
	$clients[0]->put_raw(substr($whole, -5));
	is(RawClient::outcome($clients[0]->answer), 'value-9|9', 'and is answered when it comes');
}

$gateway->is_unharmed('shared links in trouble');
is(Gateway::wait_until(sub { $gateway->{watcher}->value(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND state <> 'idle'}) }, '0'), '0', 'nothing is left at work at the origin');
done_testing();
