# Settings of the server that no other test of behaviour is about: each does what it says.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Socket::UNIX;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $sockets = PostgreSQL::Test::Utils::tempdir_short();
my $gateway = Gateway->new(options => q{pool_size => 3, queue_timeout => '2s'}, settings => qq{
hyperpool.unix_socket_directories = '$sockets'
hyperpool.max_links = 4
hyperpool.max_origins = 3
hyperpool.max_pools = 3
hyperpool.directory_size = 1MB
hyperpool.max_prepared_statements = 5
hyperpool.max_session_statements = 10
hyperpool.max_settings = 12
hyperpool.max_statement_size = 64kB
hyperpool.log_connections = on
hyperpool.log_disconnections = on
wal_level = replica
});
my $region = $gateway->{region};
my $client = $gateway->client;

sub refused { my ($made) = @_; return eval { $made->(); 1 } ? 'in' : $@; }
sub set
{
	my ($line) = @_;
	$region->append_conf('postgresql.conf', $line);
	$region->reload;
	my ($name, $value) = $line =~ /^(\S+) = '?(.*?)'?$/;
	$gateway->wait_for("SHOW $name", $value);
}

# ---- unix_socket_directories ----
ok(-S "$sockets/.s.PGSQL.$gateway->{port}", 'unix_socket_directories: the socket is there');
my $socket = IO::Socket::UNIX->new(Peer => "$sockets/.s.PGSQL.$gateway->{port}");
$socket->syswrite(RawClient::startup_packet(user => 'app', database => 'app'));
sysread($socket, my $first, 1);
is($first, 'R', 'and somebody answers');

# ---- max_prepared_statements: on a link, never more; the client keeps all its names ----
sub parse { my ($name, $sql) = @_; return RawClient::message('P', "$name\0$sql\0\0\0"); }
sub use_statement { my ($name) = @_; return RawClient::message('B', "\0$name\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''); }
my $kept = $gateway->client;
for my $i (1 .. 9)
{
	$kept->put_raw(parse("s$i", "SELECT $i") . use_statement("s$i"));
	$kept->answer;
}
my @values = map { $kept->put_raw(use_statement("s$_")); RawClient::outcome($kept->answer) } 1 .. 9;
is("@values", join(' ', 1 .. 9), 'max_prepared_statements: a client may use more than a link holds');
$kept->query('BEGIN');
cmp_ok($kept->value('SELECT count(*) FROM pg_prepared_statements'), '<=', 5, 'and the link holds no more');
$kept->query('COMMIT');

# ---- max_session_statements ----
my $many = $gateway->client;
my $answer;
for my $i (1 .. 12)
{
	$many->put_raw(parse("t$i", 'SELECT 1') . RawClient::message('S', ''));
	$answer = $many->answer;
	last if $answer->{error};
}
is($answer->{error}{C}, '53400', 'max_session_statements: an eleventh name is refused');
like($answer->{error}{H} // '', qr/hyperpool\.max_session_statements/, 'with a hint');
$many->vanish;

# ---- max_statement_size: a longer text works, by a link of its own ----
my $long = $gateway->client;
$long->put_raw(parse('long', "SELECT length('" . 'x' x 200000 . "')") . RawClient::message('S', ''));
$long->answer;
$long->put_raw(use_statement('long'));
is(RawClient::outcome($long->answer), '200000', 'max_statement_size: a longer text can be prepared');
is($gateway->sql('SELECT bound FROM hyperpool.clients WHERE client_port = ' . $long->{socket}->sockport), 't', 'and binds its link');
$long->terminate;
my $short = $gateway->client;
$short->put_raw(parse('short', "SELECT length('" . 'x' x 500 . "')") . RawClient::message('S', ''));
$short->answer;
is($gateway->sql('SELECT bound FROM hyperpool.clients WHERE client_port = ' . $short->{socket}->sockport), 'f', 'a shorter one does not');
$short->terminate;

# ---- max_settings ----
my @different;
my $told = '';
for my $i (1 .. 20)
{
	my $c = eval { $gateway->client(parameters => { search_path => "s$i" }) };
	$told = $@ if !$c;
	last if !$c;
	push @different, $c;
}
like($told, qr/FATAL 53400 /, 'max_settings: too many combinations are refused at login');
is($client->value('SELECT 2'), '2', 'the others go on');
$answer = $client->query(q{SET search_path = 'one_more'});
is($answer->{done}, 1, 'SET of one more is answered');
is($client->value('SHOW search_path'), 'one_more', 'and holds, if only on this link');
$client->terminate;
$_->terminate for @different;
$client = $gateway->client;

# ---- max_origins, max_pools, max_links ----
$gateway->create($_) for 'b', 'c';
my ($out, $err) = $gateway->try_sql("SELECT hyperpool.create_origin('d', '" . $gateway->connection_string . "')");
like($err, qr/max_origins/, 'max_origins: a fourth is refused, the setting is named');
is($gateway->sql('SELECT count(*) FROM hyperpool.origins'), '3', 'and nothing is left of it');
$told = refused(sub { $gateway->client(database => 'd') });
like($told, qr/FATAL (3D000|28000)/, 'a client is not let in to it');
like(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/too many origins.*?hyperpool\.max_origins/s, 'and the log says why');
$gateway->sql(q{SELECT hyperpool.drop_origin('d')}) if $gateway->sql(q{SELECT count(*) FROM hyperpool.origins WHERE name = 'd'}) eq '1';
$gateway->sql(q{CREATE ROLE special LOGIN; CREATE ROLE origin_user});
$gateway->{origin}->safe_psql('postgres', 'CREATE ROLE second LOGIN');
$gateway->sql(q{SELECT hyperpool.set_credential('app', 'special', 'second', NULL)});
$told = '';
Gateway::wait_until(sub { $told = refused(sub { $gateway->client(user => 'special') }); $told =~ /53400/ ? 1 : 0 }, 1, 5);
like($told, qr/FATAL 53400 .*pool/, 'max_pools: a fourth pool is refused') or diag($gateway->sql('SELECT * FROM hyperpool.pools'));

my @holders = map { my $c = $gateway->client; $c->query("BEGIN; SELECT 'hold'"); $c } 1 .. 3;
my @more = map { $gateway->client(database => 'b', may_fail => 1) } 1 .. 2;
$_->ask("BEGIN; SELECT 'hold'") for @more;
my @got = map { $_->{error} ? $_->{error}{C} : 'in' } RawClient::answers(10, @more);
is((scalar grep { $_ ne 'in' } @got) > 0 ? 1 : 0, 1, "max_links: there is no link beyond it (@got)");
cmp_ok($gateway->links_at_origin, '<=', 4, 'at the origin neither');
$_->terminate for @holders, @more;

# ---- log_connections, log_disconnections ----
my $log = PostgreSQL::Test::Utils::slurp_file($region->logfile);
ok($log =~ /hyperpool.*(?:connection|login).*app/i, 'log_connections');
ok($log =~ /hyperpool.*disconnection/i, 'log_disconnections');
set('hyperpool.log_connections = off');
set('hyperpool.log_disconnections = off');
Gateway::wait_until(sub { my $at = -s $region->logfile; $gateway->client->terminate; select undef, undef, undef, 0.2; substr(PostgreSQL::Test::Utils::slurp_file($region->logfile), $at) =~ /hyperpool.*connection (?:authori[sz]ed|received)/ ? 'logs' : 'silent' }, 'silent', 10);
my $at = -s $region->logfile;
$gateway->client->terminate;
select undef, undef, undef, 0.2;
unlike(substr(PostgreSQL::Test::Utils::slurp_file($region->logfile), $at), qr/hyperpool.*connection (?:authori[sz]ed|received)|disconnection/, 'neither when off');

# ---- login_backlog ----
set('hyperpool.login_backlog = 3');
my @half = map { RawClient->new(port => $gateway->{port}, login => 0) } 1 .. 8;
cmp_ok((scalar grep { $_->is_closed(0.2) } @half), '>=', 5, 'login_backlog: more who are only logging in are turned away');
$_->vanish for @half;
is(Gateway::wait_until(sub { refused(sub { $gateway->client->terminate }) }, 'in', 10), 'in', 'when they have gone, others may come');
set('hyperpool.login_backlog = 1000');

# ---- worker_memory: messages of which the end never comes are kept, but not without end ----
set('hyperpool.max_statement_size = 1MB');
set('hyperpool.worker_memory = 16MB');
my @fat;
$told = '';
for my $i (1 .. 200)
{
	my $c = eval { $gateway->client(seconds => 5) };
	$told = $@ if !$c;
	last if !$c;
	$c->put_raw('Q' . pack('N', 4 + 1_000_000) . 'x' x 900_000, 2);
	push @fat, $c;
}
my ($worker) = $gateway->worker_pids;
cmp_ok(Gateway::private_memory($worker), '<', 60 * 1024, 'worker_memory: at the cap nothing more is read');
is(Gateway::wait_until(sub { $client->value('SELECT 3') }, '3', 20), '3', 'the others are still served');
$_->vanish for @fat;
is(Gateway::wait_until(sub { refused(sub { $gateway->client->terminate }) }, 'in', 10), 'in', 'and afterwards all is well');

$gateway->is_unharmed('afterwards');

# ---- default_transaction_isolation: a standby has no serializable transactions, and the manager needs none ----
$region->append_conf('postgresql.conf', "default_transaction_isolation = 'serializable'\ndefault_transaction_deferrable = on");
$region->stop;
$region->set_standby_mode;
$region->start;
is(Gateway::wait_until(sub { refused(sub { $gateway->client->terminate }) }, 'in', 20), 'in', 'default_transaction_isolation = serializable: a gateway in front of a standby serves');
done_testing();
