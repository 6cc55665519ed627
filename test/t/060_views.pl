# The views: what they show is what is, who may read them, and that no password is in any.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Encode ();
use Gateway;
use PostgreSQL::Test::Utils ();
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(workers => 2, create => 0, options => 'pool_size => 3');
my $region = $gateway->{region};
$gateway->{connection} = 'password=top-secret';
$gateway->create('app');
my @clients = map { $gateway->client(parameters => { application_name => "test $_" }) } 1 .. 4;
$_->value('SELECT 1') for @clients;
my $key = sub { 'client_port = ' . $_[0]->{socket}->sockport };

# ---- clients ----
is($gateway->sql('SELECT count(*), count(DISTINCT client_id) FROM hyperpool.clients'), '4|4', 'clients: a row each');
is($gateway->sql('SELECT role, origin, state, bound, application_name, host(client_addr), tls, link_id IS NULL, exchanges, connect_time <= now(), state_since >= connect_time, worker IN (0, 1) FROM hyperpool.clients WHERE ' . $key->($clients[0])),
	'app|app|idle|f|test 1|127.0.0.1|f|t|1|t|t|t', 'an idle one');
$clients[0]->query("BEGIN; SELECT 'hold'");
$clients[1]->ask('SELECT pg_sleep(60)');
$gateway->wait_for('SELECT state FROM hyperpool.clients WHERE ' . $key->($clients[1]), 'active');
$clients[2]->query('LISTEN x');
$clients[3]->ask('SELECT 1');
is($gateway->wait_for(q{SELECT string_agg(state || CASE WHEN bound THEN ' bound' ELSE '' END, ', ' ORDER BY client_port = } . $clients[0]->{socket}->sockport . q{ DESC, application_name) FROM hyperpool.clients}, 'idle in transaction, active, idle bound, waiting'),
	'idle in transaction, active, idle bound, waiting', 'every state that a client is in');

# ---- links ----
is($gateway->sql('SELECT count(*), count(DISTINCT link_id), count(DISTINCT origin_pid), bool_and(origin = $$app$$ AND origin_user = $$app$$ AND NOT tls AND address ~ $$^127.0.0.1:\d+$$) FROM hyperpool.links'), '3|3|3|t', 'links: a row each');
my $pids = join ' ', split /\n/, $gateway->sql('SELECT origin_pid FROM hyperpool.links ORDER BY 1');
$gateway->links_at_origin;
is(join(' ', split /\n/, $gateway->{watcher}->value(q{SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend' AND application_name <> 'hyperpool scout' ORDER BY 1})), $pids, 'with the process ids of the origin');
is($gateway->sql('SELECT count(*) FROM hyperpool.links l JOIN hyperpool.clients c USING (client_id) WHERE c.link_id = l.link_id AND c.worker = l.worker'), '3', 'each with its client');
is($gateway->sql(q{SELECT count(*) FROM hyperpool.links WHERE state = 'active'}), '3', 'all of them at work');

# ---- pools ----
is($gateway->sql('SELECT origin, origin_user, pool_mode, cl_active, cl_waiting, sv_active, sv_idle, sv_login, sv_bound, maxwait > interval $$0$$, pool_size, paused FROM hyperpool.pools'),
	'app|app|transaction|3|1|3|0|0|1|t|3|f', 'pools') or diag($gateway->sql('SELECT * FROM hyperpool.pools'));
$clients[0]->query('COMMIT');
is(RawClient::outcome($clients[3]->answer), '1', 'the one that waited has its turn');
$clients[1]->cancel;
$clients[1]->answer;
$clients[2]->query('UNLISTEN *');
$clients[2]->terminate;
is($gateway->wait_for('SELECT cl_active, cl_waiting, sv_active, sv_bound FROM hyperpool.pools', '0|0|0|0'), '0|0|0|0', 'at rest');
is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '3'), '3', 'who has left is gone');

# ---- status and origins ----
is($gateway->sql('SELECT workers, clients, origins, healthy, max_clients, started_at < now() FROM hyperpool.status()'), '2|3|1|t|10000|t', 'status()');
is($gateway->sql('SELECT name, pool_size, pool_mode, paused, dbname FROM hyperpool.origins'), 'app|3|transaction|f|app', 'origins');

# ---- stat_origins: exact ----
sub counted
{
	my ($columns, $what) = @_;
	my @before = split /\|/, $gateway->sql("SELECT $columns FROM hyperpool.stat_origins");
	$what->();
	my @after = split /\|/, $gateway->sql("SELECT $columns FROM hyperpool.stat_origins");
	return join ' ', map { $after[$_] - $before[$_] } 0 .. $#before;
}
my $client = $clients[0];
is(counted('exchanges, transactions, errors, checkouts', sub { $client->value('SELECT 1') for 1 .. 10; }), '10 10 0 10', 'ten queries');
is(counted('exchanges, transactions, checkouts', sub { $client->query($_) for 'BEGIN', 'SELECT 1', 'COMMIT'; }), '3 1 1', 'a transaction of three');
is(counted('exchanges, errors', sub { $client->query('SELECT 1/0'); }), '1 1', 'an error');
is(counted('exchanges, binds, client_parses', sub { $client->extended('SELECT $1', 'x') for 1 .. 5; }), '5 5 5', 'five extended');
is(counted('logins', sub { $gateway->client->terminate for 1 .. 3; }), '3', 'logins');
is(counted('logins_failed', sub { eval { $gateway->client(user => 'nobody') } for 1 .. 2; }), '2', 'logins that failed');
is(counted('bytes_from_clients, bytes_to_origin', sub { $client->value(q{SELECT 'abcdef'}); }), (6 + length q{SELECT 'abcdef'}) . ' ' . (6 + length q{SELECT 'abcdef'}), 'bytes on their way to the origin');
is(counted('bytes_to_clients - bytes_from_origin', sub { $client->value('SELECT 1') for 1 .. 3; }), '0', 'and back');
is(counted('cancels', sub { $client->ask('SELECT pg_sleep(60)'); $gateway->wait_for('SELECT state FROM hyperpool.clients WHERE ' . $key->($client), 'active'); sleep 0.2; $client->cancel; $client->answer; }), '1', 'a cancel');
my ($wait, $query, $login) = split /\|/, $gateway->sql('SELECT wait_p50_ms <= wait_p90_ms AND wait_p90_ms <= wait_p99_ms, query_p50_ms <= query_p90_ms AND query_p90_ms <= query_p99_ms AND query_p50_ms > 0, login_p50_ms <= login_p90_ms AND login_p90_ms <= login_p99_ms AND login_p50_ms > 0 FROM hyperpool.stat_origins');
is("$wait $query $login", 't t t', 'percentiles are in order');
$gateway->sql(q{SELECT hyperpool.reset_stats('app')});
is($gateway->sql('SELECT exchanges, logins, errors, query_us, reset_time > now() - interval $$1 minute$$ FROM hyperpool.stat_origins'), '0|0|0|0|t', 'reset_stats(origin)');
$client->value('SELECT 1');
is($gateway->sql('SELECT exchanges FROM hyperpool.stat_origins'), '1', 'counts anew');
$gateway->sql('SELECT hyperpool.reset_stats()');
is($gateway->sql('SELECT exchanges FROM hyperpool.stat_origins'), '0', 'reset_stats()');

# ---- rights ----
my @views = qw(clients links pools stat_origins stat_logins origins);
$gateway->sql('CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor; CREATE ROLE nobody_special LOGIN');
for my $what ((map { "SELECT * FROM hyperpool.$_" } @views), 'SELECT * FROM hyperpool.status()')
{
	my ($out, $err) = $gateway->try_sql("SET ROLE monitor; $what");
	is($err, '', "pg_monitor may: $what");
	($out, $err) = $gateway->try_sql("SET ROLE nobody_special; $what");
	like($err, qr/permission denied/, "others may not: $what");
}
for my $what ('reset_stats()', 'disconnect(1)', q{pause_origin('app')}, q{restart_origin('app')})
{
	my ($out, $err) = $gateway->try_sql("SET ROLE monitor; SELECT hyperpool.$what");
	like($err, qr/permission denied/, "pg_monitor may not: $what");
}

# ---- no password in any of them, nor where everybody may look ----
for my $what (map({ "hyperpool.$_" } @views), 'pg_stat_activity', 'pg_settings', 'pg_foreign_server')
{
	unlike($gateway->sql("SELECT v::text FROM $what v WHERE v::text !~ 'v::text'"), qr/top-secret/, "no password in $what");
}
is($gateway->sql(q{SET ROLE monitor; SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ 'top-secret'}), '0', 'nor in pg_user_mappings for others');
# ---- the documents: every name that is there is in them, with its default, and no other ----
sub doc { return Encode::decode('UTF-8', PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/$_[0]")); }

my ($sql_page, $settings_page) = (doc('sql.md'), doc('settings.md'));
my @functions = split /\n/, $gateway->sql(q{SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'hyperpool'::regnamespace});
is(join(' ', grep { $sql_page !~ /\b$_\b/ } @functions), '', 'sql.md has every function');
my @columns = split /\n/, $gateway->sql(q{SELECT DISTINCT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'hyperpool'::regnamespace AND relkind = 'v' AND attnum > 0});
is(join(' ', grep { $sql_page !~ /`$_`/ } grep { !/^(?:wait|query|login)_p\d\d_ms$/ } @columns), '', 'and every column of the views');

my %bytes_or_ms = (kB => 1, MB => 1024, GB => 1024 * 1024, ms => 1, s => 1000);
sub plain { my ($value) = @_; return $value =~ /^(\d+) ?(kB|MB|GB|ms|s)$/ ? $1 * $bytes_or_ms{$2} : $value; }
my %default = $settings_page =~ /^\| `(hyperpool\.\w+)` \| ([^|]+?) \|/mg;
s/^`(.*)`$/$1/ || s/^not set$// || s/^as `(\w+)` at server start$/off/ for values %default;
my %boot = map { split /\|/, $_, 2 } split /\n/, $gateway->sql(q{SELECT name, boot_val || coalesce(unit, '') FROM pg_settings WHERE name LIKE 'hyperpool.%'});
is(join(' ', sort keys %default), join(' ', sort keys %boot), 'settings.md has every setting, and no other');
is(join(' ', grep { plain($boot{$_} // '') ne plain($default{$_}) } sort keys %default), '', 'with its default');
my @options = split /\n/, $gateway->sql(q{SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'create_origin' EXCEPT VALUES ('name'), ('connection_string'), ('for_role')});
is(join(' ', grep { $settings_page !~ /^\| `$_` \|/m } @options), '', 'and every option of an origin');

$gateway->is_unharmed('afterwards');
done_testing();
