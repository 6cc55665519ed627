# A link that dies under an exchange: plain reads are asked again, writes have an unknown outcome, a transaction has failed; never silence.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(relay => 1, options => q{pool_size => 4});
my $client = $gateway->client;
$client->query('CREATE TABLE kept (i int)');

# The path breaks without a word of the origin once the query is at work there.
sub break_under
{
	my ($mark) = @_;
	Gateway::wait_until(sub { $gateway->{origin}->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%$mark%' AND pid <> pg_backend_pid()") }, '1');
	$gateway->relay('reset');
}

# ---- reads ----
$client->ask(q{SELECT 'mark_1', pg_sleep(1.5)});
break_under('mark_1');
is(RawClient::outcome($client->answer(20)), 'mark_1|', 'a plain read is asked again on another link');
like($gateway->counter('repeated'), qr/^[12]$/, 'which is counted');	# another link that lay idle may have been reset with it
$client->put_raw(join '', RawClient::extended_messages(q{SELECT 'mark_2', pg_sleep(1.5)}));
break_under('mark_2');
is(RawClient::outcome($client->answer(20)), 'mark_2|', 'an extended one too');
is($client->{status}, 'I', 'and the session goes on');

# ---- the origin ends the backend: perhaps somebody meant this very query ----
sub end_backend
{
	my ($mark) = @_;
	Gateway::wait_until(sub { $gateway->{origin}->safe_psql('postgres', "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%$mark%' AND pid <> pg_backend_pid()") }, '1');
}
$client->ask(q{SELECT 'mark_3', pg_sleep(30)});
end_backend('mark_3');
my $answer = $client->answer(20);
is($answer->{error}{C}, '57P01', 'ended by the administrator: the error of the origin');
is($answer->{error}{S}, 'ERROR', 'which ends the statement, not the connection');
is($client->value('SELECT 3'), '3', 'the client goes on');

# ---- a Query in a batch without a Sync is owed its ReadyForQuery all the same ----
sub unsynced { return substr(RawClient::extended_messages(@_), 0, -5); }
$client->put_raw(unsynced('BEGIN') . RawClient::message('Q', "SELECT 'mark_31', pg_sleep(30)\0"));
end_backend('mark_31');
is($client->answer(20)->{error}{C}, '57P01', 'a Query behind a BEGIN without a Sync is lost');
is($client->{status}, 'E', 'and the transaction has failed');
$client->query('ROLLBACK');
$client->put_raw(unsynced('SELECT 31') . RawClient::message('Q', "SELECT 'mark_32', pg_sleep(30)\0") . unsynced('SELECT 33'));
end_backend('mark_32');
is($client->answer(20)->{error}{C}, '57P01', 'a Query between two halves of a batch is lost');
$client->put('S', '');
is($client->answer(20)->{error}{C}, '08006', 'and so is the second half');
is($client->value('SELECT 34'), '34', 'the client goes on');

# ---- writes ----
$client->ask(q{INSERT INTO kept SELECT 4 FROM (SELECT 'mark_4', pg_sleep(1.5)) s});
break_under('mark_4');
$answer = $client->answer(20);
is($answer->{error}{C}, '08007', 'a write may or may not have happened');
is($client->{status}, 'I', 'and the client is outside a transaction');
cmp_ok($gateway->counter('unknown_outcomes'), '>=', 1, 'it is counted');
cmp_ok($client->value('SELECT count(*) FROM kept'), '<=', 1, 'it was not done twice');

# ---- a read behind a lost write: only the read is asked again ----
$client->query('TRUNCATE kept');
$client->ask(q{INSERT INTO kept SELECT 44 FROM (SELECT 'mark_44', pg_sleep(1.5)) s});
break_under('mark_44');
is($client->answer(20)->{error}{C}, '08007', 'another write is lost');
$client->ask(q{SELECT 'mark_45', pg_sleep(1.5)});
break_under('mark_45');
is(RawClient::outcome($client->answer(20)), 'mark_45|', 'the read behind it is asked again');
Gateway::wait_until(sub { $gateway->{origin}->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%mark_44%' AND pid <> pg_backend_pid()}) }, '0');
cmp_ok($client->value('SELECT count(*) FROM kept'), '<=', 1, 'and the write is not: it was done once or not at all');

# ---- a cancelled read is not asked again ----
$gateway->alter(q{query_timeout => '1s'});
$gateway->wait_for('SELECT query_timeout FROM hyperpool.origins', '00:00:01');
my $before = $gateway->counter('repeated');
is($client->query(q{SELECT 'mark_46', pg_sleep(30)}, 20)->{error}{C}, '57014', 'query_timeout ends a read');
is($gateway->counter('repeated'), $before, 'which is not asked again');
$gateway->alter(q{query_timeout => '0'});
$gateway->wait_for('SELECT query_timeout FROM hyperpool.origins', '00:00:00');

# ---- in a transaction ----
$client->query('BEGIN; INSERT INTO kept VALUES (5)');
$client->ask(q{SELECT 'mark_5', pg_sleep(1.5)});
break_under('mark_5');
$answer = $client->answer(20);
like($answer->{error}{C}, qr/^08/, 'a read in a transaction is not asked again');
is($client->{status}, 'E', 'the transaction has failed');
is($client->query('INSERT INTO kept VALUES (6)')->{error}{C}, '25P02', 'what follows in it is refused by the origin');
is($client->query('COMMIT')->{tags}[0], 'ROLLBACK', 'and it ends as a failed one does');
is($client->{status}, 'I', 'then all is well again');
is($client->value('SELECT count(*) FROM kept WHERE i IN (5, 6)'), '0', 'nothing of it was done');

# ---- behind the end of a transaction, in the same pipeline: outside of it again; within one that begins there: not ----
my $m = \&RawClient::message;
sub pipeline { return join '', map { $m->('Q', "$_\0") } @_; }

for ([ 'behind a transaction', 'II', 'BEGIN', 'SELECT 1', 'COMMIT', q{INSERT INTO kept SELECT 41 FROM (SELECT 'mark_6', pg_sleep(1.5)) s}, 'INSERT INTO kept VALUES (42)' ],
	[ 'with one behind it', 'IEE', q{INSERT INTO kept SELECT 41 FROM (SELECT 'mark_6', pg_sleep(1.5)) s}, 'BEGIN', 'INSERT INTO kept VALUES (42)' ])
{
	my ($what, $statuses, @pipeline) = @$_;
	$client->put_raw(pipeline(@pipeline));
	my $told = '';
	for (@pipeline)
	{
		break_under('mark_6') if /mark_6/;
		my $lost = $client->answer(20);
		$told .= $client->{status} if $lost->{error};
	}
	like($told, qr/^$statuses/, "a write lost $what: $told");
	$client->query('ROLLBACK') if $client->{status} ne 'I';
	is($client->value(q{SELECT 'goes on'}), 'goes on', 'and the client goes on');
	Gateway::wait_until(sub { $gateway->{origin}->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%mark_6%' AND pid <> pg_backend_pid()}) }, '0');
}

# ---- idle in a transaction ----
$client->query('BEGIN; INSERT INTO kept VALUES (7)');
$gateway->relay('reset');
sleep 0.3;
like($client->query('INSERT INTO kept VALUES (8)')->{error}{C}, qr/^08/, 'a transaction lost while idle is told at the next statement');
is($client->{status}, 'E', 'as a failed transaction');
$client->query('ROLLBACK');
is($client->value('SELECT count(*) FROM kept WHERE i IN (7, 8)'), '0', 'nothing of it was done');

# ---- something else is said before it is known that a copy was asked for: its data will never come ----
my $copy = $m->('Q', "COPY kept FROM STDIN\0");
my $set = $m->('Q', "SET work_mem = '1MB'; COPY kept FROM STDIN\0");
my $data = $m->('d', "60\n") . $m->('c', '');
my ($terminate, $query) = ($m->('X', ''), $m->('Q', "SELECT 1\0"));

sub extended_copy { my ($name, $then) = @_; return $m->('P', "$name\0COPY kept FROM STDIN\0\0\0") . $m->('B', "\0$name\0" . "\0" x 6) . $m->('E', "\0" x 5) . ($then // '') . $m->('S', ''); }

sub nobody_is_left
{
	my ($what) = @_;
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state IN ('closing', 'active')}, '0', 10), '0', "$what: no client is left");
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.links WHERE state = 'active'}, '0', 10), '0', "$what: and holds no link");
}

for ([ 'COPY and Terminate', $copy . $terminate ], [ 'an extended COPY and Terminate', extended_copy('') . $terminate ], [ 'COPY in a named statement, then a Query', extended_copy('copy1') . $query ],
	[ 'COPY in a named statement, then a Parse', extended_copy('copy2') . $m->('P', "\0SELECT 1\0\0\0") ], [ 'a SET and COPY, then a Query', $set . $query ])
{
	my ($what, $bytes) = @$_;
	my $leaver = $gateway->client;
	$leaver->put_raw($bytes);
	my $answer = $leaver->answer(10);
	ok($answer->{error} || $answer->{closed}, "$what in one segment: it fails");
	$leaver->vanish;
	nobody_is_left($what);
}
for ([ 'COPY, its data and Terminate', $copy . $data . $terminate ], [ 'COPY in a named statement, its data and a Query', extended_copy('copy3', $data) . $query ], [ 'a SET and COPY, its data and a Query', $set . $data . $query ])
{
	my ($what, $bytes) = @$_;
	my $leaver = $gateway->client;
	$leaver->put_raw($bytes);
	$leaver->is_closed(1);
	unlike($leaver->{in}, qr/E....SERROR/s, "$what in one segment: that is as it should be");
	$leaver->vanish;
	nobody_is_left($what);
}
is($client->value('SELECT count(*) FROM kept WHERE i = 60'), '3', 'only what was sent whole was copied');
$gateway->is_unharmed('afterwards');
done_testing();
