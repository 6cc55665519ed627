# Plain reads of many clients ride one link: all of them are at the origin at once, and each gets its own answer. In every form of the protocol and in mixed
# settings; what may not ride does not; the options are heeded.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;

my $gateway = Gateway->new(relay => 1, options => 'pool_size => 2');
$gateway->{origin}->safe_psql('app', q{
SET ROLE app;
CREATE TABLE kv (k int PRIMARY KEY, v text, at timestamptz DEFAULT '2024-07-01 12:00+00');
INSERT INTO kv SELECT i, 'value-' || i FROM generate_series(1, 100) i;
CREATE FUNCTION sets() RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT set_config('work_mem', '123kB', false) $$;
CREATE VIEW dirty AS SELECT k, sets() FROM kv;
});
$gateway->create('alone', 'pool_size => 2, share => false');
$gateway->create('shallow', 'pool_size => 1, share_depth => 3');
$gateway->learn(qw(app alone shallow));

sub at_once { my ($name) = @_; return $gateway->look("SELECT cl_active FROM hyperpool.pools WHERE origin = '$name'"); }

sub warm { my ($client, $messages) = @_; $gateway->ask_until_shared($client, $messages); }

sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }
sub bind_and_run { my ($name, $value) = @_; return RawClient::message('B', "\0$name\0\0\0" . pack('nl>/a', 1, $value) . "\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''); }

# ---- everybody at the origin at once, on few links ----
my @clients = map { $gateway->client } 1 .. 30;
my $read = sub { my ($i) = @_; return simple("SELECT v, $i FROM kv WHERE k = $i"); };
warm($clients[0], $read->(1));
$gateway->move_away(600, 'app');
warm($clients[0], $read->(1));
my $before = $gateway->counter('shared');
$clients[ $_ - 1 ]->put_raw($read->($_)) for 1 .. 30;
my $most = 0;
my $links = 0;
while (grep { !$_->is_answered(0) } @clients)
{
	my ($active, $shared) = split /\|/, $gateway->look(q{SELECT cl_active, (SELECT count(*) FROM hyperpool.links WHERE origin = 'app' AND state = 'shared') FROM hyperpool.pools WHERE origin = 'app'});
	$most = $active if $active > $most;
	$links = $shared if $shared > $links;
}
my @got = map { RawClient::outcome($_) } RawClient::answers(20, @clients);
is_deeply(\@got, [ map { "value-$_|$_" } 1 .. 30 ], 'thirty clients at once over two links: each has its own answer');
cmp_ok($most, '>', 2, "and more than two were under way at a time ($most)");
cmp_ok($links, '<=', 2, "on no more than two links ($links)");
cmp_ok($links, '>=', 1, 'which say that they are shared');
cmp_ok($gateway->counter('shared') - $before, '>=', 30, 'which is counted');
$gateway->move_away(0, 'app');
warm($clients[0], $read->(1));

# ---- in every form ----
warm($clients[0], RawClient::extended_messages('SELECT v, $1::text FROM kv WHERE k = $1::int', 1));
for my $client (@clients)
{
	$client->put_raw(RawClient::message('P', "mine\0SELECT v, \$1::text FROM kv WHERE k = \$1::int\0\0\0") . RawClient::message('D', "Smine\0") . RawClient::message('S', ''));
	$client->answer;
}
warm($clients[0], bind_and_run('mine', 1));
my %form = (
	simple => $read,
	extended => sub { my ($i) = @_; return RawClient::extended_messages('SELECT v, $1::text FROM kv WHERE k = $1::int', $i); },
	prepared => sub { my ($i) = @_; return bind_and_run('mine', $i); },
	'one after the other' => sub { my ($i) = @_; return $read->($i) . bind_and_run('mine', $i) . $read->($i); },
);
for my $name (sort keys %form)
{
	my $wrong = 0;
	my $shared = $gateway->counter('shared');
	for my $round (1 .. 5)
	{
		$clients[ $_ - 1 ]->put_raw($form{$name}->($_)) for 1 .. 30;
		for my $answer (1 .. ($name =~ /other/ ? 3 : 1))
		{
			@got = map { RawClient::outcome($_) } RawClient::answers(20, @clients);
			$wrong += grep { $got[ $_ - 1 ] ne "value-$_|$_" } 1 .. 30;
		}
	}
	is($wrong, 0, "$name: everybody has his own");
	cmp_ok($gateway->counter('shared') - $shared, '>=', 100, "$name: on shared links");
}

# ---- errors are one's own ----
$clients[0]->put_raw(simple('SELECT v, 1 / (k - k) FROM kv WHERE k = 1'));
$clients[0]->answer;
$clients[ $_ - 1 ]->put_raw($_ % 3 ? $read->($_) : simple("SELECT v, 1 / (k - k) FROM kv WHERE k = $_")) for 1 .. 30;
@got = map { RawClient::outcome($_) } RawClient::answers(20, @clients);
is_deeply(\@got, [ map { $_ % 3 ? "value-$_|$_" : '22012' } 1 .. 30 ], 'who asks wrongly has an error, nobody else');

# ---- the same new statement from all at once, good and bad ----
for my $column (qw(v nothing))
{
	my $parse = sub { my ($name) = @_; return RawClient::message('P', "$name\0SELECT $column, 'x' FROM kv WHERE k = \$1::int\0\0\0"); };
	$clients[0]->put_raw($parse->('first') . bind_and_run('first', 1));
	$clients[0]->answer;
	$gateway->sql("SELECT hyperpool.restart_origin('app')");
	$clients[ $_ - 1 ]->put_raw($parse->("again$column") . bind_and_run("again$column", $_)) for 1 .. 30;
	@got = map { RawClient::outcome($_) } RawClient::answers(20, @clients);
	is_deeply(\@got, [ map { $column eq 'v' ? "value-$_|x" : '42703' } 1 .. 30 ], "prepared by all at once: $column");
	$clients[ $_ - 1 ]->put_raw(bind_and_run("again$column", $_)) for 1 .. 30;
	@got = map { RawClient::outcome($_) } RawClient::answers(20, @clients);
	is_deeply(\@got, [ map { $column eq 'v' ? "value-$_|x" : '26000' } 1 .. 30 ], 'and used');
}

# ---- mixed settings ----
my @zones = (qw(UTC Asia/Tokyo America/New_York Europe/Berlin), 'Australia/Eucla');
my @there = map { $gateway->client(parameters => { TimeZone => $zones[ $_ % 5 ], application_name => "client $_" }) } 0 .. 29;
my @at = map { $there[$_]->value('SELECT at FROM kv WHERE k = 1') } 0 .. 4;
is(scalar(keys %{ { map { $_ => 1 } @at } }), 5, 'five zones show five times');
warm($there[0], simple('SELECT at FROM kv WHERE k = 1'));
my $wrong = 0;
$before = $gateway->counter('shared');
for my $round (1 .. 5)
{
	$_->ask('SELECT at FROM kv WHERE k = 1') for @there;
	@got = map { RawClient::outcome($_) } RawClient::answers(20, @there);
	$wrong += grep { $got[$_] ne $at[ $_ % 5 ] } 0 .. 29;
}
is($wrong, 0, 'mixed settings on two links: everybody has his own zone');
cmp_ok($gateway->counter('shared') - $before, '>=', 100, 'on shared links');

# ---- what does not ride ----
my $client = $clients[0];
for my $sql ('SELECT v FROM kv WHERE k = 1 FOR UPDATE', "UPDATE kv SET v = v WHERE k = 1", 'SELECT sets()', 'SELECT * FROM dirty WHERE k = 1', q{SELECT set_config('work_mem', '1MB', false)},
	'SELECT pg_advisory_lock(1), pg_advisory_unlock(1)', 'BEGIN; SELECT 1; COMMIT', 'SHOW work_mem', 'SELECT pg_sleep(0)')
{
	$client->query($sql) for 1 .. 2;
	my $shared = $gateway->counter('shared');
	$client->query($sql) for 1 .. 2;
	is($gateway->counter('shared'), $shared, "does not ride: $sql");
}
is($client->value('SELECT 1'), '1', 'the session is well');

# ---- share => false ----
my @two = map { $gateway->client(database => 'alone') } 1 .. 6;
$_->ask('SELECT pg_sleep(0.5)') for @two[ 0, 1 ];    # both links are open
RawClient::answers(20, @two[ 0, 1 ]);
$gateway->relay('stall');
$two[ $_ - 1 ]->put_raw($read->($_)) for 1 .. 6;
is($gateway->wait_for(q{SELECT cl_active || ' ' || cl_waiting FROM hyperpool.pools WHERE origin = 'alone'}, '2 4'), '2 4', 'share off: one exchange at a time on each link');
$gateway->relay('resume');
is_deeply([ map { RawClient::outcome($_) } RawClient::answers(20, @two) ], [ map { "value-$_|$_" } 1 .. 6 ], 'and all are answered');
is($gateway->sql(q{SELECT shared FROM hyperpool.stat_origins WHERE origin = 'alone'}), '0', 'none was shared');

# ---- share_depth ----
my @few = map { $gateway->client(database => 'shallow') } 1 .. 8;
warm($few[0], $read->(1));
$gateway->move_away(600, 'shallow');
warm($few[0], $read->(1));
$few[ $_ - 1 ]->put_raw($read->($_)) for 1 .. 8;
$most = 0;
while (grep { !$_->is_answered(0) } @few)
{
	my $active = at_once('shallow');
	$most = $active if $active > $most;
}
is_deeply([ map { RawClient::outcome($_) } RawClient::answers(20, @few) ], [ map { "value-$_|$_" } 1 .. 8 ], 'share_depth: all are answered');
is($most, 3, 'and no more than so many were on the link at a time');
$gateway->move_away(0, 'shallow');
warm($few[0], $read->(1));

# ---- who needs the only link alone has his turn, while reads go on without a break ----
my $writer = $gateway->client(database => 'shallow');
$writer->ask("UPDATE kv SET v = v WHERE k = 100");
my $rounds = 0;
my $written = 0;
while (!$written && $rounds++ < 400)
{
	$_->advance || $_->pull for @few;
	for my $i (1 .. 8)
	{
		my $reader = $few[ $i - 1 ];
		$reader->put_raw($read->($i)) if !$reader->{asked};
		$reader->{asked} = 1;
		if ($reader->is_answered(0.002))
		{
			$reader->answer;
			$reader->{asked} = 0;
		}
	}
	$written = $writer->is_answered(0);
}
ok($written, 'a write among reads without end is served');
is($writer->answer->{tags}[0], 'UPDATE 1', 'and done');
RawClient::answers(20, grep { $_->{asked} } @few);

# ---- a crowd from the first moment: how quick a statement is is learnt though all have waited for their link ----
$gateway->create('crowded', 'pool_size => 1');
$gateway->learn('crowded');
$gateway->move_away(20, 'crowded');
my @crowd = map { $gateway->client(database => 'crowded') } 1 .. 8;
my $learnt = $gateway->counter('shared', 'crowded');
for my $round (1 .. 100)
{
	$_->put_raw(simple('SELECT upper(v) FROM kv WHERE k = 7')) for grep { !$_->{asked} } @crowd;
	$_->{asked} = 1 for @crowd;
	select(undef, undef, undef, 0.005) until grep { $_->is_answered(0) } @crowd;
	for my $client (grep { $_->is_answered(0) } @crowd)
	{
		$client->answer;
		$client->{asked} = 0;
	}
	last if $gateway->counter('shared', 'crowded') - $learnt >= 20;
}
cmp_ok($gateway->counter('shared', 'crowded') - $learnt, '>=', 20, 'clients of whom one always waits come to share');
RawClient::answers(20, grep { $_->{asked} } @crowd);
$gateway->move_away(0, 'crowded');

# ---- who has come while the catalog was in doubt rides when it is known again, whoever waits among them for a link to himself ----
my ($scout) = split /\n/, $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool scout'});
END { kill('CONT', $scout) if $scout; }
$gateway->create('late', 'pool_size => 1');
$gateway->learn('late');
my @late = map { $gateway->client(database => 'late') } 1 .. 14;
warm($late[0], $form{$_}->(1)) for qw(simple extended);
my $facts = q{SELECT facts FROM hyperpool.stat_origins WHERE origin = 'late'};
kill('STOP', $scout);
$late[0]->query("BEGIN; SELECT 'hold'");
$gateway->wait_for("SELECT cl_active FROM hyperpool.pools WHERE origin = 'late'", '1');
$clients[0]->query('CREATE TABLE made (i int)');
is($gateway->wait_for($facts, 'suspect'), 'suspect', 'the catalog may have changed, and the scout stands still');
$before = $gateway->counter('shared', 'late');
$late[$_]->put_raw($_ == 7 ? simple("UPDATE kv SET v = v WHERE k = 7") : $form{ $_ % 2 ? 'simple' : 'extended' }->($_)) for 1 .. 13;
is($gateway->wait_for("SELECT cl_waiting FROM hyperpool.pools WHERE origin = 'late'", '13'), '13', 'meanwhile all wait for the only link');
kill('CONT', $scout);
is($gateway->wait_for($facts, 'fresh'), 'fresh', 'the scout has looked');
$late[0]->ask('COMMIT');
@got = map { $_->{tags}[0] =~ /^(COMMIT|UPDATE)/ ? $1 : RawClient::outcome($_) } RawClient::answers(20, @late);
is_deeply(\@got, [ 'COMMIT', map { $_ == 7 ? 'UPDATE' : "value-$_|$_" } 1 .. 13 ], 'all are answered');
is($gateway->counter('shared', 'late') - $before, 12, 'and all reads were on the shared link');

# ---- another pool mode meanwhile: what has not been looked at does not ride because the one before it did ----
$gateway->create('moded', 'pool_size => 2');
$gateway->learn('moded');
my $moded = $gateway->client(database => 'moded');
warm($moded, simple('SELECT v FROM kv WHERE k = 1'));
$gateway->sql("SELECT hyperpool.alter_origin('moded', pool_mode => 'session')");
$gateway->wait_for("SELECT pool_mode FROM hyperpool.pools WHERE origin = 'moded'", 'session');
$moded->query('CREATE TEMP TABLE own AS SELECT 5 AS i');
is($gateway->sql("SELECT sv_bound FROM hyperpool.pools WHERE origin = 'moded'"), '1', 'pool_mode session meanwhile: a temporary table has a link to itself');
is($moded->value('SELECT i FROM own'), '5', 'and stays with its client');
$moded->terminate;

$gateway->is_unharmed('sharing');
done_testing();
