# An origin that is itself a gateway. A transaction pooler (PgBouncer; Neon's is one) is recognised at creation, and used without relying on a session. Another hyperpool
# is recognised as well: it keeps the session of each of its clients, so it is used like PostgreSQL itself. What it has lost of a session is
# noticed, and a write of which it does not know the outcome is in doubt here too. That what clients say is answered as directly is shown by 080 and 081.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $endpoint = Gateway->new(create => 0, name => 'endpoint');
my $origin = $endpoint->{origin};
my $m = \&RawClient::message;

sub option
{
	my ($gateway, $name, $option) = @_;
	return $gateway->sql("SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = '$name' AND option_name = '$option'");
}

# ---- a transaction pooler ----

my ($pgbouncer) = grep { -x $_ } qw(/usr/sbin/pgbouncer /usr/bin/pgbouncer);
my $folder;
END { if ($folder && open(my $pid, '<', "$folder/pid")) { kill 'INT', <$pid> + 0; } }

sub start_pgbouncer
{
	my ($user, $password) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	$folder = PostgreSQL::Test::Utils::tempdir();
	$origin->safe_psql('postgres', "CREATE ROLE $user LOGIN PASSWORD '$password'; CREATE DATABASE behind OWNER $user");
	open(my $ini, '>', "$folder/pgbouncer.ini") or die $!;
	print $ini "[databases]\nbehind = host=127.0.0.1 port=", $origin->port, " dbname=behind user=$user password=$password\n",
		"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=$port\nunix_socket_dir=\nauth_type=trust\nauth_file=$folder/users\npool_mode=transaction\n",
		"default_pool_size=2\nlogfile=$folder/log\npidfile=$folder/pid\n";
	close $ini;
	open(my $users, '>', "$folder/users") or die $!;
	print $users qq{"$user" "$password"\n};
	close $users;
	PostgreSQL::Test::Utils::system_or_bail($pgbouncer, '-d', "$folder/pgbouncer.ini");
	Gateway::wait_until(sub { -s "$folder/pid" ? 1 : 0 }, 1);
	return $port;
}

SKIP:
{
	skip 'pgbouncer is not installed', 1 unless $pgbouncer;

	my $port = start_pgbouncer('behind', 'secret');
	$endpoint->sql("SELECT hyperpool.create_origin('pooler', 'host=127.0.0.1 port=$port dbname=behind user=behind password=secret sslmode=disable', allow_trust => true)");
	is(option($endpoint, 'pooler', 'pooled'), 'true', 'recognised as pooled');
	$endpoint->sql('GRANT USAGE ON FOREIGN SERVER pooler TO PUBLIC');
	is(Gateway::wait_until(sub { $endpoint->can_enter('pooler') }, 1), 1, 'clients may enter');

	my @clients = map { $endpoint->client(database => 'pooler') } 1 .. 4;
	is($_->value('SELECT 1'), '1', 'a query') for @clients;
	is($clients[0]->value('SHOW hyperpool.client'), '0', 'no session is kept');
	$_->query('CREATE TABLE t (i int)') for $clients[0];
	for my $round (1 .. 5)
	{
		for my $c (@clients)
		{
			$c->put_raw($m->('P', "s$round\0SELECT $round\0\0\0") . $m->('S', ''));
			is($c->answer->{error}, undef, "a named statement is prepared ($round)");
			$c->put_raw($m->('B', "\0s$round\0\0\0\0\0\0\0") . $m->('E', "\0\0\0\0\0") . $m->('S', ''));
			is(RawClient::outcome($c->answer), $round, 'and used');
		}
	}
	$clients[0]->query('BEGIN');
	$clients[0]->query('INSERT INTO t VALUES (1)');
	is($clients[1]->value('SELECT count(*) FROM t'), '0', 'transactions are apart');
	$clients[0]->query('COMMIT');
	is($clients[1]->value('SELECT count(*) FROM t'), '1', 'and commit');

	# of the pooler's two sessions now the one is free, now the other
	my @holders = map { RawClient->new(port => $port, user => 'behind', database => 'behind') } 1, 2;
	my $holds = sub { $_[0]->query('BEGIN'); return $_[0]->value('SELECT pg_backend_pid()'); };
	my $asks = sub { $clients[0]->put_raw($_[0] . $m->('B', "\0\0\0\0\0\0\0\0") . $m->('E', "\0\0\0\0\0") . $m->('S', '')); return RawClient::outcome($clients[0]->answer); };
	my $first = $holds->($holders[0]);
	my $second = $asks->($m->('P', "\0SELECT pg_backend_pid()\0\0\0"));
	is($holds->($holders[1]), $second, 'the session in which an unnamed statement was prepared is held');
	$holders[0]->query('COMMIT');
	is($asks->(''), $first, 'it is there in the other one, too');
	$_->terminate for @holders;
}

# ---- another hyperpool ----

$endpoint->create('app', 'cache => true');
$endpoint->create('single', q{pool_size => 1, queue_timeout => '1s', share => false});
my $front = Gateway->new(create => 0, endpoint => $endpoint);
$front->create('app', 'cache => true');
$front->create('narrow', 'pool_size => 1, share => false');
$front->create('wide', 'pool_size => 4, share => false', 'single');
is(option($front, 'app', 'gateway') . '|' . option($front, 'app', 'pooled'), 'true|', 'recognised as a gateway, which is no pooler');

my $client = $front->client;
is($client->value('SHOW hyperpool.client'), $client->{pid}, 'a client may know that a hyperpool keeps its session');
is($client->query('SET hyperpool.client = 1')->{error}{C}, '55P02', 'and not change that');
is(join('|', @{ $client->{parameter} }{qw(server_version TimeZone)}), join('|', @{ $endpoint->client->{parameter} }{qw(server_version TimeZone)}), 'parameters come through');

# what one has set is not another's, on the one link that they have
my @two = map { $front->client(database => 'narrow') } 0, 1;
$two[0]->query("SET work_mem = '77MB'");
$two[0]->query('SET search_path = pg_catalog');
is($two[1]->value('SHOW work_mem') . $two[1]->value('SHOW search_path'), '4MB"$user", public', 'settings are their own');
is($two[0]->value('SHOW work_mem') . $two[0]->value('SHOW search_path'), '77MBpg_catalog', 'and kept');

# settings that are put on links bind none of the gateway behind: many of them get by on one
my @zones = map { $front->client(database => 'wide', parameters => { TimeZone => $_ }) } qw(Asia/Tokyo Europe/Berlin America/New_York);
is(join(' ', map { $_->value('SHOW TimeZone') } @zones, @zones), 'Asia/Tokyo Europe/Berlin America/New_York Asia/Tokyo Europe/Berlin America/New_York', 'three settings over four links and one');
is($endpoint->sql(q{SELECT sum(sv_bound) FROM hyperpool.pools WHERE origin = 'single'}), '0', 'nothing is bound');

# the gateway behind has no link
my $holder = $endpoint->client(database => 'single');
$holder->query('BEGIN');
$holder->query('SELECT 1');
is($zones[0]->query('SELECT 1')->{error}{C}, '53300', 'no link within queue_timeout of the endpoint');
$holder->query('ROLLBACK');
is($zones[0]->value('SELECT 2'), '2', 'the client goes on');

# names of statements where the endpoint's link is bound, as by a custom setting; and when that is lost
my $tenant = $front->client(database => 'narrow', parameters => { 'my.tenant' => '5' });
my $describe = sub { my ($name, $text) = @_; return $m->('P', "$name\0$text\0\0\0") . $m->('D', "S$name\0") . $m->('S', ''); };
my $use = sub { my ($name) = @_; $tenant->put_raw($m->('B', "\0$name\0\0\0\0\0\0\0") . $m->('E', "\0\0\0\0\0") . $m->('S', '')); return RawClient::outcome($tenant->answer); };
my $shows = q{SELECT current_setting('my.tenant')};
for my $name (qw(one two))
{
	$tenant->put_raw($describe->($name, "$shows /* $name */"));
	is($tenant->answer->{error}, undef, "statement $name is made");
	is($use->($name), '5', 'and used');
}
$origin->safe_psql('postgres', q{SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = 'app'});
like($use->('one'), qr/^0800[67]$/, 'what was bound for it is lost');
is($use->('one'), '5', 'its settings and statements are there again');
is($use->('two'), '5', 'all of them');

# ---- what is known of the catalog, and what is written ----

Cached::at_origin($front, 'CREATE TABLE kept (i int); INSERT INTO kept VALUES (1)');
Cached::learn($_) for $endpoint, $front;
my $read = 'SELECT count(*) FROM kept';
is(join(' ', Cached::warm($front, $client, $read)), 'hit 1', 'answers are kept in front');
$client->query('INSERT INTO kept VALUES (2)');
is($client->value($read), '2', 'until something is written');
is(join(' ', Cached::warm($front, $client, $read)), 'hit 2', 'and again');

# a write that the endpoint has lost is in doubt until no transaction is left that may be it
my $elder = RawClient->new(port => $origin->port, user => 'app', database => 'app');
$elder->query('BEGIN');
$elder->query('SELECT 1');
my $writer = $front->client;
$writer->ask('INSERT INTO kept SELECT 3 FROM pg_sleep(60)');
Gateway::wait_until(sub { $origin->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT INTO kept%'}) }, '1');
is($writer->answer->{error}{C}, '08007', 'a write of unknown outcome');
Cached::ask($front, $client, $read);
isnt((Cached::ask($front, $client, $read))[0], 'hit', 'nothing it may have changed is kept') for 1 .. 3;
$elder->query('ROLLBACK');
is((Cached::warm($front, $client, $read))[0], 'hit', 'until it is known to be over');

# ---- ends ----

$client->ask('SELECT pg_sleep(60)');
Gateway::wait_until(sub { $origin->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'}) }, '1');
$client->cancel;
is($client->answer->{error}{C}, '57014', 'a cancel reaches the origin');
$endpoint->{region}->restart;
is(Gateway::wait_until(sub { $client->value('SELECT 4') }, '4'), '4', 'served again when the endpoint is back');

# an origin that leads to itself is not crowded by its own links, and harms nobody
$front->create('loop', q{queue_timeout => '1s', connect_timeout => '1s'});
$front->sql("ALTER SERVER loop OPTIONS (SET port '$front->{port}', SET dbname 'loop')");
is(Gateway::wait_until(sub { $front->can_enter('loop') }, '0'), '0', 'nobody may enter where there is no origin at the end');
cmp_ok($front->sql(q{SELECT count(*) FROM hyperpool.clients WHERE origin = 'loop'}), '<=', 21, 'it has no more clients than links');
is($client->value('SELECT 5'), '5', 'others are served');
is(Gateway::wait_until(sub { $front->sql(q{SELECT count(*) FROM hyperpool.clients WHERE origin = 'loop'}) }, '0'), '0', 'and it comes to rest');

$front->is_unharmed('afterwards');
unlike(PostgreSQL::Test::Utils::slurp_file($endpoint->{region}->logfile), qr/terminated by signal|TRAP:|PANIC:/, 'nor has the endpoint come to harm');
done_testing();
