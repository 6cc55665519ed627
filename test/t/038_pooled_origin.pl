# An origin that is itself a transaction pooler (PgBouncer; Neon's is one): recognised at creation, and used without relying on a session.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my ($pgbouncer) = grep { -x $_ } qw(/usr/sbin/pgbouncer /usr/bin/pgbouncer);
plan skip_all => 'pgbouncer is not installed' unless $pgbouncer;

my $gateway = Gateway->new(create => 0);
my $folder = PostgreSQL::Test::Utils::tempdir();
my $port = PostgreSQL::Test::Cluster::get_free_port();
my ($user, $password) = ('behind', 'secret');
$gateway->{origin}->safe_psql('postgres', "CREATE ROLE $user LOGIN PASSWORD '$password'; CREATE DATABASE behind OWNER $user");
open(my $ini, '>', "$folder/pgbouncer.ini") or die $!;
print $ini "[databases]\nbehind = host=127.0.0.1 port=", $gateway->{origin}->port, " dbname=behind user=$user password=$password\n",
	"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port=$port\nunix_socket_dir=\nauth_type=plain\nauth_file=$folder/users\npool_mode=transaction\n",
	"default_pool_size=2\nlogfile=$folder/log\npidfile=$folder/pid\n";
close $ini;
open(my $users, '>', "$folder/users") or die $!;
print $users qq{"$user" "$password"\n};
close $users;
PostgreSQL::Test::Utils::system_or_bail($pgbouncer, '-d', "$folder/pgbouncer.ini");
Gateway::wait_until(sub { -s "$folder/pid" ? 1 : 0 }, 1);
END { if ($folder && open(my $pid, '<', "$folder/pid")) { kill 'INT', <$pid> + 0; } }

$gateway->sql("SELECT hyperpool.create_origin('app', 'host=127.0.0.1 port=$port dbname=behind user=$user password=$password sslmode=disable', allow_trust => true)");
is($gateway->{region}->safe_psql('postgres', q{SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = 'app' AND option_name = 'pooled'}), 'true', 'recognised as pooled');
$gateway->sql('GRANT USAGE ON FOREIGN SERVER app TO PUBLIC');
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 1), 1, 'clients may enter');

my @clients = map { $gateway->client } 1 .. 4;
is($_->value('SELECT 1'), '1', 'a query') for @clients;
$_->query('CREATE TABLE t (i int)') for $clients[0];
for my $round (1 .. 5)
{
	for my $c (@clients)
	{
		$c->put_raw(RawClient::message('P', "s$round\0SELECT $round\0\0\0") . RawClient::message('S', ''));
		is($c->answer->{error}, undef, "a named statement is prepared ($round)");
		$c->put_raw(RawClient::message('B', "\0s$round\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''));
		is(RawClient::outcome($c->answer), $round, 'and used');
	}
}
$clients[0]->query('BEGIN');
$clients[0]->query('INSERT INTO t VALUES (1)');
is($clients[1]->value('SELECT count(*) FROM t'), '0', 'transactions are apart');
$clients[0]->query('COMMIT');
is($clients[1]->value('SELECT count(*) FROM t'), '1', 'and commit');
$gateway->is_unharmed('afterwards');
done_testing();
