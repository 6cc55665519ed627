# One request at the origin for many who ask the same at once; answers of one byte to 20 MB, and those that are too large to keep.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use IPC::Run ();
use LoginClient ();
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Cached::start(workers => 2, relay => 1, rtt => 0, settings => "hyperpool.cache_size = 128MB", origin_settings => "log_statement = 'all'", options => q{max_age => '1h', pool_size => 30}, make => q{
CREATE TABLE counted (v int, t text); INSERT INTO counted VALUES (1, 'x');
CREATE TABLE large (size int, t text); ALTER TABLE large ALTER COLUMN t SET STORAGE EXTERNAL});
my $direct = $gateway->direct(database => 'app');
my @clients = map { $gateway->client } 1 .. 20;

# How often the origin was asked this, by its log.
sub asked
{
	my ($sql) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($gateway->{origin}->logfile);
	return scalar(() = $log =~ /(?:statement|execute [^:\n]*): \Q$sql\E$/mg);
}

# ---- one flight: the relay keeps the answer back until all have asked ----
for my $form ('simple', 'extended')
{
	my $sql = "SELECT v, '$form' FROM counted WHERE v > 0";
	my $joined = $gateway->counter('cache_joined');
	my $got = Cached::said($gateway, sub {
		$gateway->relay('stall');
		$_->put_raw($form eq 'simple' ? RawClient::message('Q', "$sql\0") : RawClient::extended_messages($sql)) for @clients;
		sleep 0.5;
		$gateway->relay('resume');
		is(join(',', map { RawClient::outcome($_) } RawClient::answers(20, @clients)), join(',', ("1|$form") x 20), "$form: twenty answers");
	});
	is(asked($sql), 1, "$form: the origin was asked once");
	cmp_ok($gateway->counter('cache_joined') - $joined, '>=', 19, "$form: the others waited for it");
	note($got);
}

# ---- the one that asked goes away: the flight goes on for the others ----
{
	my $sql = 'SELECT v, 3 FROM counted WHERE v > 0';
	$gateway->relay('stall');
	my $first = $gateway->client;
	$first->ask($sql);
	sleep 0.3;
	$_->ask($sql) for @clients;
	sleep 0.3;
	$first->reset;
	sleep 0.3;
	$gateway->relay('resume');
	is(join(',', map { RawClient::outcome($_) } RawClient::answers(20, @clients)), join(',', ('1|3') x 20), 'the first has gone: the others are answered');
	cmp_ok(asked($sql), '<=', 2, 'without asking anew for each');
}

# ---- who does not take its answer keeps nobody waiting ----
{
	my $sql = q{SELECT v, repeat('x', 1000) FROM counted, generate_series(1, 30000) WHERE v > 0};
	my $idle = $gateway->client;
	$idle->ask($sql);
	sleep 1;
	$_->ask($sql) for @clients[ 0 .. 1 ];
	is(join(',', map { RawClient::outcome($_) ne '' ? 'answered' : 'not' } RawClient::answers(20, @clients[ 0 .. 1 ])), 'answered,answered', 'a client that does not read: others are answered');
	is($clients[2]->value('SELECT 6'), '6', 'in good order');
	isnt(RawClient::outcome($idle->answer(20)), '', 'and it gets its own when it reads');
}

# ---- an error is everybody's own ----
{
	my $sql = 'SELECT 1 / (v - 1) FROM counted';
	$gateway->relay('stall');
	$_->ask($sql) for @clients;
	sleep 0.3;
	$gateway->relay('resume');
	is(join(',', map { RawClient::outcome($_) } RawClient::answers(20, @clients)), join(',', ('22012') x 20), 'an error: everybody has it');
	is($_->value('SELECT 5'), '5', 'and goes on') for @clients[ 0 .. 2 ];
}

# ---- a write while they wait: who asked after it was acknowledged gets what it wrote ----
{
	my $sql = 'SELECT v, 4 FROM counted WHERE v > 0';
	my $reader = $gateway->client;
	my $writer = $gateway->client;
	$writer->value('SELECT 1');
	my $slow = q{SELECT v, 4, (SELECT count(*) FROM generate_series(1, 3000000)) FROM counted WHERE v > 0};
	$reader->ask($slow);
	Gateway::wait_until(sub { $direct->value(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT v, 4, (SELECT%' AND state = 'active'}) }, '1');
	$writer->query('UPDATE counted SET v = 2');
	my $late = $gateway->client;
	$late->ask($slow);
	like(RawClient::outcome($late->answer(60)), qr/^2\|4/, 'who asked after the write sees it');
	like(RawClient::outcome($reader->answer(60)), qr/^[12]\|4/, 'who asked before may see either');
	like($reader->value($slow), qr/^2\|4/, 'case 24: and what was on its way is not kept') for 1 .. 2;
	$writer->query('UPDATE counted SET v = 1');
	$_->terminate for $reader, $writer, $late;
}

# ---- those who wait and go away leave nothing behind ----
{
	my $sql = 'SELECT v, 5 FROM counted WHERE v > 0';
	$gateway->relay('stall');
	my @gone = map { $gateway->client } 1 .. 10;
	$_->ask($sql) for @gone;
	sleep 0.3;
	$_->reset for @gone;
	$gateway->relay('resume');
	is($clients[0]->value($sql), '1|5', 'all of them have gone: the next is answered');
	is($gateway->wait_for('SELECT flights, pinned FROM hyperpool.stat_cache', '0|0'), '0|0', 'no flight and no pin is left');
}

# ---- sizes ----
my @sizes = (1, 100, 1000, 8000, 65000, 300_000, 1_000_000, 5_000_000, 20_000_000);
Cached::at_origin($gateway, join '; ', map { "INSERT INTO large VALUES ($_, coalesce((SELECT string_agg(md5(i::text), '') FROM generate_series(1, $_ / 32) i), '') || repeat('x', $_ % 32))" } @sizes);
my $client = $gateway->client;
for my $size (@sizes)
{
	my $sql = "SELECT t FROM large WHERE size = $size";
	my $wanted = $direct->value($sql);
	is(length $wanted, $size, "$size bytes: at the origin");
	my @got = map { [ Cached::ask($gateway, $client, $sql) ] } 1 .. 3;
	is(join(' ', map { $_->[0] } @got), 'miss hit hit', "$size bytes: from the cache");
	ok(!(grep { $_->[1] ne $wanted } @got), "$size bytes: all of them, in order");
}
# a client that takes a large one slowly while others take it fast, and it is outdated meanwhile
my $huge = 'SELECT t FROM large WHERE size = 20000000';
my $truth = $direct->value($huge);
Cached::warm($gateway, $client, $huge);
my $lazy = $gateway->client;
$lazy->ask($huge);
sleep 0.3;
is($clients[1]->value('SELECT 6'), '6', 'a client that does not read holds up nobody');
$clients[1]->query(q{UPDATE large SET t = 'small' WHERE size = 20000000});
is($clients[2]->value($huge), 'small', 'the new one for others');
ok(RawClient::outcome($lazy->answer(60)) eq $truth, 'who was reading gets the rest of what he has begun');
my $leaver = $gateway->client;
Cached::warm($gateway, $client, 'SELECT t FROM large WHERE size = 5000000');
$leaver->ask('SELECT t FROM large WHERE size = 5000000');
$leaver->is_answered(0.05);
$leaver->reset;
is($gateway->wait_for('SELECT pinned FROM hyperpool.stat_cache', '0'), '0', 'who goes away in the middle leaves no pin');

my $rows = 'SELECT i, md5(i::text) FROM generate_series(1, 100000) i';
my $many = $direct->value($rows);
is(join(' ', map { my ($said, $got) = Cached::ask($gateway, $client, $rows); $got eq $many ? $said : 'other' } 1 .. 3), 'miss hit hit', 'a hundred thousand rows');

# ---- too large to keep ----
my $limit = 'SELECT t FROM large WHERE size = 65000';
$gateway->alter('max_result_size => 50000');
is(Gateway::wait_until(sub { (Cached::ask($gateway, $client, $limit))[0] }, 'oversizedresult', 15), 'oversizedresult', 'max_result_size');
is((Cached::ask($gateway, $client, $limit))[1], $direct->value($limit), 'passed on whole');
is((Cached::warm($gateway, $client, 'SELECT t FROM large WHERE size = 8000'))[0], 'hit', 'smaller ones are kept');
{
	$gateway->relay('stall');
	$_->ask($limit) for @clients;
	sleep 0.3;
	$gateway->relay('resume');
	my $whole = $direct->value($limit);
	ok(!(grep { RawClient::outcome($_) ne $whole } RawClient::answers(20, @clients)), 'twenty who ask for one at once: each is answered');
}
$gateway->alter('max_result_size => 52428800');

# ---- more than fits ----
my $evictions = $gateway->sql('SELECT evictions FROM hyperpool.stat_cache');
for my $i (1 .. 60)
{
	my $value = $client->value("SELECT t || $i FROM large WHERE size = 5000000");
	is(length $value, 5_000_000 + length $i, 'large ones, one after another') if $i % 20 == 0;
}
cmp_ok($gateway->sql('SELECT evictions FROM hyperpool.stat_cache'), '>', $evictions, 'older ones go');
is($gateway->sql('SELECT used <= size AND pinned = 0 AND flights = 0 FROM hyperpool.stat_cache'), 't', 'within cache_size');
is((Cached::warm($gateway, $client, 'SELECT 1 AS after_all'))[0], 'hit', 'and small ones find room');

# ---- writes without a pause, by two names of one database, do not keep the catalog unknown: of those that come during a look what they do follows from the look before ----
Cached::at_origin($gateway, 'CREATE TABLE busy (i int PRIMARY KEY, v int); INSERT INTO busy SELECT n, 0 FROM generate_series(1, 4) n');
$gateway->create($_, q{cache => true, pool_size => 8}) for 'busy', 'bustling';
my $script = PostgreSQL::Test::Utils::tempdir() . '/busy';
LoginClient::write_file($script, "\\set i :client_id + 1\nUPDATE busy SET v = v + 1 WHERE i = :i;\n");
my @writers = map { IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', 150, '-f', $script, '-h', '127.0.0.1', '-p', $gateway->{port}, '-U', 'app', $_ ], '<', \undef, '>', '/dev/null', '2>', '/dev/null') } 'busy', 'bustling';
my $facts = $gateway->wait_for(q{SELECT string_agg(facts, ' ') FROM hyperpool.stat_origins WHERE origin LIKE 'bu%'}, 'fresh fresh', 120);
is($facts, 'fresh fresh', 'writes without a pause: the catalog is known, by both names, while they go on');
is((scalar grep { $_->pumpable } @writers), 2, 'which they do');
$_->kill_kill for @writers;

$gateway->is_unharmed('afterwards');
done_testing();
