# create_origin and its kin really connect: each way to fail has an error of its own, and nothing is left behind.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IO::Socket::INET;
use LoginClient qw(make_certificates);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

# ---- an origin with TLS, one without, one that is no PostgreSQL, one that never answers ----
my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);

sub make_origin
{
	my ($name, $more) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nlisten_addresses = '127.0.0.1'\n$more");
	unlink $node->data_dir . '/pg_hba.conf';
	$node->append_conf('pg_hba.conf', <<'HBA');
local all all trust
host all trusty all trust
host all locked all reject
host all all all scram-sha-256
HBA
	$node->start;
	$node->safe_psql('postgres', q{
CREATE ROLE app LOGIN PASSWORD 'sesame';
CREATE ROLE trusty LOGIN;
CREATE ROLE locked LOGIN;
CREATE DATABASE app OWNER app});
	return $node;
}

my $tls = make_origin('tls', "ssl = on\nssl_cert_file = '$certificates/server.crt'\nssl_key_file = '$certificates/server.key'\n");
my $plain = make_origin('plain', "ssl = off\n");
my ($tls_port, $plain_port) = ($tls->port, $plain->port);
my $free_port = PostgreSQL::Test::Cluster::get_free_port();

# Says nothing: connections end in its backlog.
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0) or die "listen: $!";
my $silent_port = $silent->sockport;

my $gateway = PostgreSQL::Test::Cluster->new('gateway');
my $port = PostgreSQL::Test::Cluster::get_free_port();
$gateway->init;
$gateway->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'hyperpool'
hyperpool.port = $port
hyperpool.listen_addresses = '127.0.0.1'
hyperpool.database = 'postgres'
log_statement = none
});
$gateway->start;
$gateway->safe_psql('postgres', 'CREATE EXTENSION hyperpool');

# As a role of the gateway; (SQLSTATE, all of the error), or ('', answer).
sub ask
{
	my ($sql, $role) = @_;
	my ($out, $err);
	my $before = defined $role ? "SET ROLE $role;\n" : '';
	$gateway->psql('postgres', "\\set VERBOSITY verbose\n$before$sql", stdout => \$out, stderr => \$err, on_error_stop => 1);
	return $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/ ? ($1, $err) : ('', $out);
}

sub counts
{
	return $gateway->safe_psql('postgres',
		q{SELECT (SELECT count(*) FROM pg_foreign_server) || ' ' || (SELECT count(*) FROM pg_user_mapping)});
}

sub fails
{
	my ($what, $string, $sqlstate, $message, $hint) = @_;
	my ($got, $text) = ask("SELECT hyperpool.create_origin('far', '$string')");
	is($got, $sqlstate, "$what: SQLSTATE");
	like($text, $message, "$what: message");
	like($text, $hint, "$what: hint") if $hint;
	unlike($text, qr/sesame|open-it/, "$what: no password in the error");
	is(counts(), '0 0', "$what: nothing is left behind");
}

my $good = "user=app password=sesame dbname=app";

# ---- what can go wrong ----
fails('no such host', "host=no-such-host.invalid $good", '08001', qr/could not resolve host name "no-such-host.invalid" of origin "far"/, qr/HINT/);
fails('refused', "host=127.0.0.1 port=$free_port $good", '08004', qr/origin "far" refuses connections at 127.0.0.1 port $free_port/, qr/listens/);
fails('no answer', "host=127.0.0.1 port=$silent_port connect_timeout=1 $good", '08001', qr/accepts connections at 127.0.0.1 port $silent_port but says nothing/, qr/connect_timeout/);
fails('no answer, no TLS asked', "host=127.0.0.1 port=$silent_port sslmode=disable connect_timeout=1 $good",
	'08001', qr/did not finish the login in time/, qr/connect_timeout/);
fails('no TLS', "host=127.0.0.1 port=$plain_port sslmode=require $good", '08001', qr/origin "far" offers no TLS, but sslmode is require/, qr/sslmode=prefer/);
fails('not trusted', "host=localhost hostaddr=127.0.0.1 port=$tls_port sslmode=verify-ca sslrootcert=$certificates/other_ca.crt $good",
	'08001', qr/the certificate of origin "far" is not trusted/, qr/by sslrootcert/);
fails('wrong password', "host=127.0.0.1 port=$tls_port user=app password=open-it dbname=app", '28P01', qr/password authentication failed for user "app" at origin "far"/, qr/set_credential/);
fails('no password', "host=127.0.0.1 port=$tls_port user=app dbname=app", '28P01', qr/asks for a password/, qr/password/);
fails('not let in', "host=127.0.0.1 port=$tls_port user=locked password=sesame dbname=app", '28000', qr/does not let user "locked" in/, qr/pg_hba.conf/);
fails('no such database', "host=127.0.0.1 port=$tls_port user=app password=sesame dbname=nowhere", '3D000', qr/database "nowhere" does not exist at origin "far"/, qr/dbname/);
fails('unreadable string', "host=127.0.0.1 port=$tls_port password=sesame dbname", '22023', qr/connection string for origin "far" cannot be read/, qr/URI/);
fails('unknown option', "host=127.0.0.1 speed=11 $good", '22023', qr/cannot be read/);
fails('an option of the function', "host=127.0.0.1 pool_size=3 $good", '22023', qr/cannot be read/, qr/pool_size, are arguments/);
fails('a password that needs encoding', "postgresql://app:se/same\@127.0.0.1/app", 'HV00J', qr/a credential needs a user/, qr/percent-encoded/);
fails('no user', "host=127.0.0.1 port=$tls_port password=sesame", 'HV00J', qr/a credential needs a user/, qr/user=/);
fails('no host', "port=$tls_port $good", 'HV00J', qr/an origin needs a host/, qr/host=/);
fails('replication', "host=127.0.0.1 replication=database $good", 'HV00D', qr/no option "replication"/);

# Something else answers there: it hangs up at the first bytes.
my $other = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0) or die "listen: $!";
my $other_port = $other->sockport;
my $child = fork();
if ($child == 0)
{
	while (my $client = $other->accept) { $client->print("HTTP/1.1 400\r\n"); close $client; }
	POSIX::_exit(0);
}
fails('not PostgreSQL', "host=127.0.0.1 port=$other_port $good", '08P01', qr/does not speak PostgreSQL's protocol/, qr/host and port/);
kill 'KILL', $child;
waitpid $child, 0;

# One whose words are no text in a database of UTF8: they come as far as they can be kept in a row, or sent as an error.
my $odd = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => 0) or die "listen: $!";
my $odd_port = $odd->sockport;
$child = fork();
if ($child == 0)
{
	my $said = "SFATAL\0C28000\0Mg\xff\xfett\0\0";
	while (my $client = $odd->accept) { sysread($client, my $startup, 1000) and $client->print('E' . pack('N', 4 + length $said) . $said); close $client; }
	POSIX::_exit(0);
}
$gateway->safe_psql('postgres', q{CREATE DATABASE utf8 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0});
$gateway->safe_psql('utf8', qq{CREATE EXTENSION hyperpool; CREATE SERVER odd FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1', port '$odd_port', sslmode 'disable');
CREATE USER MAPPING FOR PUBLIC SERVER odd OPTIONS ("user" 'app', password 'sesame')});
is($gateway->safe_psql('utf8', q{SELECT convert_from(convert_to(message, 'UTF8'), 'UTF8') ~ 'g\?\?tt' FROM hyperpool.check_origin('odd') WHERE NOT ok}), 't', 'check_origin: words of an origin that are no text here');
my (undef, undef, $refused) = $gateway->psql('utf8', q{SET client_encoding = 'LATIN1'; SELECT hyperpool.alter_origin('odd', 'port=' || (SELECT port FROM hyperpool.origins))});
like($refused, qr/origin "odd" does not let user "app" in/, 'and as an error');
(undef, undef, $refused) = $gateway->psql('utf8', q{SET client_encoding = 'LATIN1'; ALTER SERVER odd OPTIONS (ADD rules '} . "\xe9" x 50 . q{')});
like($refused, qr/option "rules" of an origin cannot be read at "\xe9{20}"/, 'nor is a character cut in two');
$gateway->safe_psql('postgres', 'DROP DATABASE utf8');
kill 'KILL', $child;
waitpid $child, 0;

# ---- certificates: trusted by its own file, for another name, for no name ----
my $trusted = "hostaddr=127.0.0.1 port=$tls_port sslrootcert=$certificates/ca.crt";
fails('another name', "host=other.example $trusted sslmode=verify-full $good", '08001', qr/certificate of origin "far" is for another host name/, qr/verify-ca/);
is((ask("SELECT hyperpool.create_origin('verified', 'host=other.example $trusted sslmode=verify-ca $good')"))[0], '', 'verify-ca needs no name');
is($gateway->safe_psql('postgres', "SELECT string_agg(step, ' ') FROM hyperpool.check_origin('verified') WHERE ok"),
	'resolve TCP TLS authentication query', 'check_origin names every step');
like($gateway->safe_psql('postgres', "SELECT message FROM hyperpool.check_origin('verified') WHERE step = 'TLS'"), qr/^TLSv1/, 'and says which TLS');
$gateway->safe_psql('postgres', "SELECT hyperpool.drop_origin('verified')");
is(counts(), '0 0', 'drop_origin takes its credentials along');

# ---- a good one, by URI; it is in service when the commit returns ----
is((ask("SELECT hyperpool.create_origin('far', 'postgresql://app:sesame\@127.0.0.1:$plain_port/app', pool_size => 7, queue_timeout => '250ms')"))[0], '', 'created');
is($gateway->safe_psql('postgres', 'SELECT name, host, port, dbname, pool_size, queue_timeout, paused FROM hyperpool.origins'),
	"far|127.0.0.1|$plain_port|app|7|00:00:00.25|f", 'the view shows it');
is((ask("SELECT hyperpool.pause_origin('far')"))[0], '', 'published at once: it can be paused');
is($gateway->safe_psql('postgres', 'SELECT paused FROM hyperpool.origins'), 't', 'paused');
is((ask("SELECT hyperpool.resume_origin('far')"))[0], '', 'resumed');
is((ask("SELECT hyperpool.create_origin('far', 'host=127.0.0.1 $good')"))[0], '42710', 'a second one of the name is refused');

# ---- alter_origin: good changes stay, bad ones change nothing ----
is((ask("SELECT hyperpool.alter_origin('far', pool_size => 9)"))[0], '', 'altered without connecting');
my ($state, $text) = ask("SELECT hyperpool.alter_origin('far', 'port=$free_port', pool_size => 3)");
is($state, '08004', 'a connection option that does not work is refused');
($state, $text) = ask("SELECT hyperpool.alter_origin('far', 'password=open-it')");
is($state, '28P01', 'and so is a wrong password');
is($gateway->safe_psql('postgres', 'SELECT port, pool_size FROM hyperpool.origins'), "$plain_port|9", 'the former values stay');
is($gateway->safe_psql('postgres', "SELECT bool_and(ok) FROM hyperpool.check_origin('far')"), 't', 'and work');
is((ask("SELECT hyperpool.alter_origin('far', min_pool_size => 10)"))[0], '22023', 'min_pool_size above pool_size is refused');
is((ask("SELECT hyperpool.alter_origin('far', pool_mode => 'sometimes')"))[0], '22023', 'an unknown pool_mode is refused');
is((ask("SELECT hyperpool.alter_origin('far', query_timeout => '-1s')"))[0], '22023', 'a negative time is refused');
is((ask("SELECT hyperpool.alter_origin('far', 'port=$tls_port sslmode=require')"))[0], '', 'moved to the other origin');
is((ask("SELECT hyperpool.alter_origin('near', pool_size => 1)"))[0], '42704', 'no such origin');

# ---- rights ----
$gateway->safe_psql('postgres', q{
CREATE ROLE dev LOGIN;
GRANT USAGE ON SCHEMA hyperpool TO dev});
is((ask("SELECT hyperpool.create_origin('mine', 'host=127.0.0.1 port=$plain_port $good')", 'dev'))[0], '42501', 'EXECUTE is not given to everybody');
$gateway->safe_psql('postgres', 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hyperpool TO dev');
is((ask("SELECT hyperpool.create_origin('mine', 'host=127.0.0.1 port=$free_port $good')", 'dev'))[0], '42501', 'nor USAGE of the wrapper: no probing without it');
$gateway->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER hyperpool TO dev');
is((ask("SELECT hyperpool.create_origin('mine', 'host=127.0.0.1 port=$plain_port $good')", 'dev'))[0], '', 'with both it may');
is($gateway->safe_psql('postgres', "SELECT 'password_required=true' = ANY (umoptions) FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = umserver WHERE srvname = 'mine'"),
	't', 'its credential must be used with its password');
is((ask("SELECT hyperpool.create_origin('t', 'host=127.0.0.1 port=$plain_port user=trusty password=any dbname=app')", 'dev'))[0], '2F003', 'where the origin does not ask for the password');
is((ask("SELECT hyperpool.create_origin('t', 'host=127.0.0.1 port=$plain_port user=trusty dbname=app')", 'dev'))[0], '2F003', 'or none is given, it is refused');
for my $option ("host=/tmp", "host=127.0.0.1,", "hostaddr=127.0.0.1,", "host=127.0.0.1 sslrootcert=/etc/passwd", "host=127.0.0.1 sslkey=/x", "host=127.0.0.1 passfile=/x", "host=127.0.0.1 service=x", "host=127.0.0.1 gssencmode=prefer")
{
	($state, $text) = ask("SELECT hyperpool.create_origin('t', '$option port=$plain_port $good')", 'dev');
	is($state, '42501', "for superusers only: $option");
	like($text, qr/only superusers may set/, 'and says so');
}
is((ask("SELECT hyperpool.alter_origin('far', pool_size => 1)", 'dev'))[0], '42501', q{another's origin is not altered});
is((ask("SELECT hyperpool.check_origin('far')", 'dev'))[0], '42501', 'nor checked');
is((ask("SELECT hyperpool.pause_origin('far')", 'dev'))[0], '42501', 'nor paused');
is((ask("SELECT hyperpool.drop_origin('far')", 'dev'))[0], '42501', 'nor dropped');
is((ask("ALTER USER MAPPING FOR public SERVER mine OPTIONS (SET password_required 'false')", 'dev'))[0], '42501', 'password_required=false is a superuser\'s');
is((ask("ALTER SERVER mine OPTIONS (ADD password 'sesame')", 'dev'))[0], 'HV00D', 'no password in a server, where all may read it');

# ---- credentials ----
is((ask("SELECT hyperpool.set_credential('far', 'dev', 'app', 'open-it')"))[0], '28P01', 'a wrong password is found at once');
is((ask("SELECT hyperpool.set_credential('far', 'dev', 'app', 'sesame')"))[0], '', 'set_credential');
is((ask("SELECT hyperpool.set_credential('far', 'nobody', 'app', 'sesame')"))[0], '42704', 'for a role that is not there');
is((ask("SELECT hyperpool.drop_credential('far', 'dev')"))[0], '', 'drop_credential');
is((ask("SELECT hyperpool.drop_credential('far', 'dev')"))[0], '42704', 'once');

# ---- an origin that is itself a gateway, here this one ----
my $admin = $gateway->safe_psql('postgres', 'SELECT current_user');
is((ask("SELECT hyperpool.alter_origin('far', allow_trust => true)"))[0], '', 'clients of a trust line may use far');
$gateway->safe_psql('postgres', "SELECT hyperpool.create_origin('tier', 'host=127.0.0.1 port=$port dbname=far user=$admin')");
is($gateway->safe_psql('postgres', 'SELECT string_agg(name, $$ $$) FROM hyperpool.origins WHERE gateway AND NOT pooled'), 'tier', 'a gateway is recognised');

# ---- the server's log holds no password, except what log_statement would show ----
my $log = PostgreSQL::Test::Utils::slurp_file($gateway->logfile);
unlike($log, qr/open-it/, 'failed statements are not logged with their text');

# ---- DROP EXTENSION and back ----
$gateway->safe_psql('postgres', 'DROP EXTENSION hyperpool CASCADE');
$gateway->safe_psql('postgres', 'CREATE EXTENSION hyperpool');
Time::HiRes::sleep(1.5);    # the manager hears of it by itself
is((ask("SELECT hyperpool.create_origin('far', 'host=127.0.0.1 port=$plain_port $good')"))[0], '', 'made again');
is((ask("SELECT hyperpool.pause_origin('far')"))[0], '', 'and in service');

done_testing();
