# Requests that lie behind one another, and the names in them: what one client has begun, prepared, failed or left half said is neither lost nor the next one's. One link,
# or two where a statement meets a link that does not know it; with the cache and shared links on. Cases 8 to 13, 18 and 20 of docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

# a link keeps one statement, so each batch of two evicts
my $gateway = Cached::start(options => q{pool_size => 1, max_age => '1h'}, settings => 'hyperpool.max_prepared_statements = 1', make => q{
CREATE TABLE kv (k int PRIMARY KEY, v text);
INSERT INTO kv SELECT i, 'value-' || i FROM generate_series(1, 100) i;
CREATE TABLE kept (i int);
CREATE TABLE shape (i int, t text);
INSERT INTO shape VALUES (1, 'one');
CREATE SCHEMA a; CREATE TABLE a.here AS SELECT 'in a'::text AS t;
CREATE SCHEMA b; CREATE TABLE b.here AS SELECT 7::bigint AS n, 'in b'::text AS t});
$gateway->create('two', q{pool_size => 2, cache => true, max_age => '1h'});
Cached::learn($gateway, 'two');
my $direct = $gateway->direct(database => 'app');
my $watcher = $gateway->direct;

sub parse { my ($name, $sql) = @_; return RawClient::message('P', "$name\0$sql\0\0\0"); }
sub bind_to { my ($name, @values) = @_; return RawClient::message('B', "\0$name\0\0\0" . pack('n', scalar @values) . join('', map { pack('l>/a', $_) } @values) . "\0\0"); }
sub describe { my ($name) = @_; return RawClient::message('D', "S$name\0"); }
sub close_of { my ($name) = @_; return RawClient::message('C', "S$name\0"); }
sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }
my ($execute, $sync, $flush) = (RawClient::message('E', "\0\0\0\0\0"), RawClient::message('S', ''), RawClient::message('H', ''));
sub use_of { my ($name, @values) = @_; return bind_to($name, @values) . RawClient::message('D', "P\0") . $execute; }

sub says_the_same
{
	my ($what, $client, $messages, $readies) = @_;
	my $through = $client->conversation($messages, $readies);
	return is($through, $direct->conversation($messages, $readies), $what);
}

sub is_at_rest
{
	my ($what) = @_;
	return is(Gateway::wait_until(sub { $watcher->value(q{SELECT string_agg(DISTINCT state, ' ') FROM pg_stat_activity WHERE datname = 'app' AND application_name = 'hyperpool' AND state <> 'idle'}) }, ''), '', $what);
}

# ---- case 8: Close and Parse in one batch, when each statement drives out the one before it ----
my $client = $gateway->client;
my $next = $gateway->client;
my @batches = (
	parse('s1', 'SELECT 1') . close_of('s1') . parse('s2', 'SELECT 2') . close_of('s1') . $sync,
	parse('s1', 'SELECT $1::int') . parse('s3', 'SELECT $1::text') . use_of('s1', 5) . use_of('s3', 'x') . use_of('s1', 6) . $sync,
	close_of('s1') . parse('s1', q{SELECT 'new'}) . use_of('s1') . use_of('s3', 'y') . close_of('s3') . use_of('s2') . $sync,
	use_of('s2') . close_of('s2') . use_of('s2') . use_of('s1') . $sync,
	parse('s2', 'SELECT 1/0') . use_of('s2') . use_of('s1') . close_of('s1') . $sync,
	use_of('s1') . parse('s4', 'SELECT 4') . close_of('s1') . parse('s1', 'SELECT 44') . use_of('s4') . use_of('s1') . $sync,
	parse('s1', 'SELECT 45') . $sync,
	close_of('s1') . close_of('s2') . close_of('s4') . close_of('never') . $sync,
);
for my $turn (1, 2)
{
	says_the_same("case 8: batch $_ with one statement to a link, turn $turn", $client, $batches[ $_ - 1 ], 1) for 1 .. @batches;
	says_the_same("case 8: the next client finds nothing of it, turn $turn", $next, use_of('s1') . $sync . parse('s1', q{SELECT 'of the next'}) . use_of('s1') . $sync . close_of('s1') . $sync, 3);
}
# everybody's statement drives out everybody else's, all at once
my @crowd = map { $gateway->client } 1 .. 10;
for my $round (1 .. 5)
{
	$crowd[$_]->put_raw(parse("n$_", "SELECT v, $_ FROM kv WHERE k = \$1::int") . close_of('other') . use_of("n$_", $_ + 1) . $sync . use_of("n$_", $_ + 2) . close_of("n$_") . $sync) for 0 .. 9;
	my @got = map { join ' ', RawClient::outcome($crowd[$_]->answer), RawClient::outcome($crowd[$_]->answer) } 0 .. 9;
	is_deeply(\@got, [ map { 'value-' . ($_ + 1) . "|$_ value-" . ($_ + 2) . "|$_" } 0 .. 9 ], "case 8: ten clients drive out each other's statements, round $round");
}

# ---- case 9: a Parse that failed, was skipped, or whose client died before its Sync: name and text are free ----
my $text = q{SELECT v, 'nine' FROM kv WHERE k = $1::int};
my @half = (
	[ 'in a failed transaction', simple('BEGIN') . simple('SELECT 1/0') . parse('n', $text) . $sync, 3, simple('ROLLBACK'), 1 ],
	[ 'behind an error', parse('', 'SELEC') . parse('n', $text) . $sync, 1, '', 0 ],
	[ 'that is wrong', parse('n', 'SELECT v FROM not_there') . $sync, 1, '', 0 ],
	[ 'in a transaction rolled back', simple('BEGIN') . parse('n', $text) . $sync . simple('ROLLBACK') . close_of('n') . $sync, 4, '', 0 ],
);
for my $half (@half)
{
	my ($what, $messages, $readies, $then, $more) = @$half;
	says_the_same("case 9: a Parse $what", $client, $messages, $readies);
	says_the_same("case 9: a Parse $what: and its transaction ends", $client, $then, $more) if $more;
	says_the_same("case 9: a Parse $what: the text is free for others", $next, parse('n', $text) . use_of('n', 9) . $sync . close_of('n') . $sync, 2);
	says_the_same("case 9: a Parse $what: the name means nothing", $client, use_of('n', 9) . $sync, 1);
	says_the_same("case 9: a Parse $what: the name is free", $client, parse('n', $text) . use_of('n', 9) . $sync . close_of('n') . $sync, 2);
}
my $fresh = 0;
for my $how (qw(vanish reset terminate))
{
	for my $said (sub { parse('n', $_[0]) }, sub { parse('n', $_[0]) . $flush }, sub { parse('n', $_[0]) . bind_to('n', 1) }, sub { parse('n', $_[0]) . use_of('n', 1) . $flush }, sub { parse('', 'SELEC') . parse('n', $_[0]) }, sub { parse('n', $_[0]) . close_of('n') })
	{
		my $unseen = 'SELECT v, ' . ++$fresh . ' FROM kv WHERE k = $1::int';
		my $gone = $gateway->client;
		$gone->put_raw($said->($unseen));
		$gone->is_answered(0.02);
		$gone->$how;
		says_the_same("case 9: a client that dies before its Sync ($how, $fresh): the next prepares the same", $next, use_of('n', 3) . $sync . parse('n', $unseen) . use_of('n', 3) . $sync . close_of('n') . $sync, 3);
	}
}

# ---- case 10: made on one link, on the other Describe, Bind or Close comes first ----
my ($user, @holders) = map { $gateway->client(database => 'two') } 1 .. 3;
my %statement = ('with rows' => [ 'SELECT v FROM kv WHERE k = $1::int', 5 ], 'without' => [ 'UPDATE kv SET v = v WHERE k = $1::int', 6 ], 'without parameters' => ['SELECT 10 AS ten']);
sub pid_of { my ($c) = @_; return $c->value('SELECT pg_backend_pid() FROM kept RIGHT JOIN (SELECT 1) x ON true LIMIT 1'); }
my $turn = 0;
for my $kind (sort keys %statement)
{
	my ($sql, @values) = @{ $statement{$kind} };
	my %first = (
		'Describe' => sub { describe('m') },
		'Describe, then Bind' => sub { describe('m') . use_of('m', @values) },
		'Bind' => sub { use_of('m', @values) },
		'Close' => sub { close_of('m') },
		'Close and Parse' => sub { close_of('m') . parse('m', $_[0]) . describe('m') },
		'Parse of the name in use' => sub { parse('m', $_[0]) },
	);
	for my $what (sort keys %first)
	{
		$turn++;
		# a text of its own, so that no link has it yet
		my $own = "$sql /* $turn */";
		my $made_on = pid_of($user);
		says_the_same("case 10: $kind: prepared", $user, parse('m', $own) . use_of('m', @values) . $sync, 1);
		# the link that has it is another's now, and the other one is free
		$_->query('BEGIN; LOCK TABLE kept IN ACCESS SHARE MODE') for @holders;
		my ($holder) = grep { $_->value('SELECT pg_backend_pid()') eq $made_on } @holders;
		$_->query('ROLLBACK') for grep { !$holder || $_ != $holder } @holders;
		ok($holder, "case 10: $kind: the link that has it is taken") or next;
		says_the_same("case 10: $kind: $what first where the statement is not", $user, $first{$what}->($own) . $sync, 1);
		$holder->query('ROLLBACK');
		says_the_same("case 10: $kind: $what, and back", $user, close_of('m') . $sync . parse('m', $own) . describe('m') . $sync . close_of('m') . $sync, 3);
	}
}

# ---- case 11: BEGIN in a pipeline whose client dies at every boundary of its messages ----
my @pipeline = (simple('BEGIN'), simple('INSERT INTO kept VALUES (1)'), parse('p', 'INSERT INTO kept VALUES ($1::int)'), bind_to('p', 2), $execute, $sync,
	simple('SAVEPOINT s'), simple('SELECT 1/0'), simple('ROLLBACK TO s'), simple('BEGIN'), simple('SET LOCAL work_mem = 777'), simple('SELECT count(*) FROM kept'));
my $left = 0;
for my $how (qw(vanish reset terminate))
{
	for my $n (1 .. @pipeline)
	{
		my $gone = $gateway->client;
		$gone->put_raw(join '', @pipeline[ 0 .. $n - 1 ]);
		$gone->is_answered(0.01) if $n % 3 == 0;
		$gone->$how;
		my $got = $next->value(q{SELECT count(*), current_setting('work_mem'), pg_current_xact_id_if_assigned() IS NULL FROM kept});
		$left++ if $got ne '0|4MB|t';
		is($got, '0|4MB|t', "case 11: dead ($how) after message $n of a pipeline with a BEGIN: the next is in no transaction") if $got ne '0|4MB|t' || $n == @pipeline;
	}
	is_at_rest("case 11: $how: no transaction is left open");
}
is($left, 0, 'case 11: at every boundary');
says_the_same('case 11: the same pipeline, and its end: as on a direct connection', $client, join('', @pipeline) . simple('ROLLBACK') . close_of('p') . $sync, 11);
# transactions of many in one write, each of which must leave the link idle
$crowd[$_]->put_raw(simple('BEGIN') . simple("SELECT $_") . simple('COMMIT') . simple("SELECT 'after $_'")) for 0 .. 9;
is_deeply([ map { my $c = $_; join ',', map { RawClient::outcome($c->answer) } 1 .. 4 } @crowd ], [ map { ",$_,,after $_" } 0 .. 9 ], 'case 11: ten at once on one link: each in a transaction of its own');

# ---- case 12: the same text and name under other search_paths and roles ----
my ($in_a, $in_b) = map { $gateway->client(parameters => { search_path => $_ }) } 'a', 'b';
my ($direct_a, $direct_b) = map { $gateway->direct(database => 'app', parameters => { search_path => $_ }) } 'a', 'b';
my $here = 'SELECT * FROM here';
my @forms = (simple($here), parse('', $here) . use_of('') . $sync, describe('h') . use_of('h') . $sync, parse('', $here) . describe('') . $sync);
$_->put_raw(parse('h', $here) . $sync), $_->answer for $in_a, $in_b, $direct_a, $direct_b;
for my $round (1 .. 4)
{
	for my $form (0 .. $#forms)
	{
		# both at once, so that they meet on the link
		my @wanted = map { $_->conversation($forms[$form], 1) } $direct_a, $direct_b;
		$_->put_raw($forms[$form]) for $in_a, $in_b;
		is($in_a->conversation('', 1), $wanted[0], "case 12: form $form, round $round: its own table in a");
		is($in_b->conversation('', 1), $wanted[1], "case 12: form $form, round $round: and in b");
	}
}
$_->query('SET search_path = b') for $in_a, $direct_a;
is($in_a->conversation($forms[0] . $forms[1], 2), $direct_a->conversation($forms[0] . $forms[1], 2), 'case 12: one of them changes over');

# ---- case 13: DDL between executions: nobody stays broken, nobody reads a row by another description ----
my @readers = map { $gateway->client(database => 'two') } 1 .. 6;
my $shaper = $gateway->client(database => 'two');
my $star = 'SELECT * FROM shape';
for my $step ([ 'ALTER TABLE shape ADD COLUMN more int DEFAULT 5', "1|one|5" ], [ 'ALTER TABLE shape ALTER COLUMN i TYPE bigint', '1|one|5' ], [ 'ALTER TABLE shape DROP COLUMN t', '1|5' ])
{
	my ($ddl, $wanted) = @$step;
	for my $reader (@readers)
	{
		$reader->put_raw(close_of('d') . parse('d', $star) . describe('d') . use_of('d') . $sync);
		$reader->answer;
	}
	$readers[5]->query('BEGIN');
	is($shaper->query($ddl)->{error}, undef, "case 13: $ddl");
	for my $i (0 .. 4)
	{
		$readers[$i]->put_raw(bind_to('d') . $execute . $sync);
		is(RawClient::outcome($readers[$i]->answer), '0A000', "case 13: client $i: its statement is of before");
		$readers[$i]->put_raw(close_of('d') . parse('d', $star) . use_of('d') . $sync);
		is(RawClient::outcome($readers[$i]->answer), $wanted, "case 13: client $i: prepared anew it is whole again");
		is($readers[$i]->value($star), $wanted, "case 13: client $i: and a simple query always");
	}
	$readers[5]->put_raw(bind_to('d') . $execute . $sync);
	is(RawClient::outcome($readers[5]->answer) . $readers[5]->{status}, '0A000E', 'case 13: in a transaction the error is passed on, and the transaction has failed');
	is($readers[5]->value('SELECT 1'), '25P02', 'case 13: as it should');
	$readers[5]->query('ROLLBACK');
}

# of a table that has just been made it is not known yet that to read it writes nothing: no reason to let rows of another shape pass
my ($maker, $holder) = map { $gateway->client(database => 'two') } 1 .. 2;
my @of_fresh;
for my $n (1 .. 12)
{
	$maker->query("CREATE TABLE fresh_$n (i int); INSERT INTO fresh_$n VALUES (1)");
	$maker->put_raw(parse('fresh', "SELECT * FROM fresh_$n WHERE i = \$1") . describe('fresh') . $sync);
	$maker->answer;
	$holder->query('BEGIN; SELECT 1') if $n % 2;		# perhaps it has the link on which that is prepared
	$maker->query("ALTER TABLE fresh_$n ADD COLUMN t text");
	$holder->query('BEGIN; SELECT 1') if $n % 2 == 0;
	$maker->put_raw(bind_to('fresh', 1) . $execute . $sync);
	push @of_fresh, RawClient::outcome($maker->answer);
	$holder->query('COMMIT');
	$maker->put_raw(close_of('fresh') . $sync);
	$maker->answer;
}
is("@of_fresh", join(' ', ('0A000') x 12), 'case 13: a table made a moment ago, too');
$_->terminate for $maker, $holder;

# ---- case 18: the client goes at a byte of its login, of its request, of a large answer; from the origin and from the cache ----
my $large = q{SELECT repeat('x', 1000) FROM kv a, kv b LIMIT 1000};    # 1 MB
my $endless = q{SELECT repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, 1000000)};
my %request = (simple => sub { simple($_[0]) }, extended => sub { RawClient::extended_messages($_[0]) }, 'in a transaction' => sub { simple('BEGIN') . simple($_[0]) });
my $login = RawClient::startup_packet(user => 'app', database => 'app', options => '-c work_mem=5MB');
my $gone_in = 0;
sub read_bytes
{
	my ($c, $n) = @_;
	Gateway::wait_until(sub { $c->pull; length $c->{in} >= $n ? 1 : 0 }, 1, 10);
	return;
}
for my $n (0 .. length $login)
{
	next if $n > 12 && $n % 7;
	my $early = $gateway->client(login => 0);
	$early->put_raw(substr($login, 0, $n));
	$n % 2 ? $early->vanish : $early->reset;
	$gone_in++;
}
is($next->value('SELECT 18'), '18', "case 18: $gone_in clients gone at a byte of their login");
for my $form (sort keys %request)
{
	my $whole = $request{$form}->($large);
	for my $n (map { int(length($whole) * $_ / 9) } 0 .. 8)
	{
		my $c = $gateway->client;
		$c->put_raw(substr($whole, 0, $n));
		$n % 2 ? $c->vanish : $c->reset;
	}
	is($next->value('SELECT 18'), '18', "case 18: $form: gone at a byte of the request");
	for my $cached (0, 1)
	{
		my $sql = $cached ? $large : "$large OFFSET 0 /* $form */";
		Cached::warm($gateway, $next, $sql) if $cached && $form eq 'simple';
		my $ask = $request{$form}->($cached ? $sql : "/* hyperpool: cache=off */ $sql");
		for my $n (0, 1, 4, 5, 6, 33, 1000, 8191, 8192, 65_537, 300_001, 999_999, 1_010_900)
		{
			my $c = $gateway->client;
			$c->put_raw($ask);
			read_bytes($c, $n);
			$n % 2 ? $c->vanish : $c->reset;
		}
		is($next->value('SELECT 18'), '18', "case 18: $form: gone at a byte of the answer" . ($cached ? ' from the cache' : ''));
	}
	for my $n (0, 1, 3000, 20_000)
	{
		my $c = $gateway->client;
		$c->put_raw($request{$form}->($endless));
		read_bytes($c, $n);
		$n % 2 ? $c->vanish : $c->reset;
	}
	is($next->value('SELECT 18'), '18', "case 18: $form: gone in an answer without end: cancelled, and the one link is usable");
}
is_at_rest('case 18: nothing is at work for those who have gone');
$_->terminate for $client, @crowd, @readers, @holders, $user, $shaper, $in_a, $in_b;
is($gateway->wait_for(q{SELECT sum(cl_active), sum(cl_waiting), sum(sv_active), sum(sv_bound) FROM hyperpool.pools}, '0|0|0|0'), '0|0|0|0', 'case 18: and the views say so');
is($gateway->wait_for('SELECT pinned, flights FROM hyperpool.stat_cache', '0|0'), '0|0', 'case 18: no entry stays pinned');

# ---- case 20: what is answered for a BEGIN is what a direct connection says ----
my $virtual = $gateway->client;
for my $begin ('BEGIN', 'START TRANSACTION READ ONLY', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE')
{
	for my $form (sub { simple($_[0]) }, sub { RawClient::extended_messages($_[0]) })
	{
		for my $rest ([ 'SELECT 1/0', 'SELECT 1', 'ROLLBACK' ], ['COMMIT'], [ 'BEGIN', 'SELECT now() = now(), now() = statement_timestamp()', 'SHOW transaction_isolation', 'SHOW transaction_read_only', 'COMMIT' ],
			[ 'SAVEPOINT s', 'SELEC', 'ROLLBACK TO s', 'RELEASE s', 'SELECT v FROM kv WHERE k = 1', 'COMMIT AND CHAIN', 'SHOW transaction_isolation', 'ROLLBACK' ], [ 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'SHOW transaction_isolation', 'END' ])
		{
			says_the_same("case 20: $begin; " . join('; ', @$rest), $virtual, $form->($begin) . join('', map { $form->($_) } @$rest), 1 + @$rest);
			# and one after the other
			for my $sql ($begin, @$rest)
			{
				my $through = $virtual->conversation($form->($sql), 1);
				my $there = $direct->conversation($form->($sql), 1);
				is($through, $there, "case 20: $begin, one by one: $sql") if $through ne $there;
			}
		}
	}
}

$gateway->is_unharmed('afterwards');
done_testing();
