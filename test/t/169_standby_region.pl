# A regional instance that is a hot standby serves as any other: by what its primary has replicated. It takes no changes itself and says so, goes on when its primary is gone, and
# when it is promoted nobody notices.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Cluster;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(options => 'pool_size => 6, cache => true', settings => "wal_level = replica\nmax_wal_senders = 5");
my ($origin, $primary) = ($gateway->{origin}, $gateway->{region});
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");

my $standby = PostgreSQL::Test::Cluster->new('standby');
my $port = PostgreSQL::Test::Cluster::get_free_port();
$primary->backup('standby');
$standby->init_from_backup($primary, 'standby', has_streaming => 1);
$standby->append_conf('postgresql.conf', "hyperpool.port = $port");
$standby->start;

# The same gateway, seen from the standby.
my $there = bless { %$gateway, region => $standby, port => $port }, 'Gateway';
delete @$there{qw(looker watcher)};

is($there->sql('SELECT pg_is_in_recovery()'), 't', 'a standby');
is(Gateway::wait_until(sub { $there->can_enter('app') }, 1), 1, 'clients are let in');
my $client = $there->client;
is($client->query('INSERT INTO ledger VALUES (-1, 1)')->{tags}[0], 'INSERT 0 1', 'they write at the origin');
is($client->value('SELECT count(*) FROM ledger WHERE client = -1'), '1', 'and read');
is($there->sql('SELECT healthy FROM hyperpool.status()'), 't', 'it is healthy');
is($there->sql('SELECT count(*) FROM hyperpool.clients'), '1', 'its views show its own clients');

# ---- changes come from the primary ----
for my $call (q{create_origin('no', 'host=127.0.0.1 user=app')}, q{alter_origin('app', pool_size => 3)}, q{drop_origin('app')}, q{set_credential('app', 'public', 'app', NULL)}, q{drop_credential('app', 'public')})
{
	my ($out, $err) = $there->try_sql("SELECT hyperpool.$call");
	like($err, qr/ERROR:  cannot execute changing an origin of hyperpool (during recovery|in a read-only transaction)/, "$call is refused");
}
my $string = $gateway->connection_string;
$gateway->sql("SELECT hyperpool.create_origin('more', '$string', allow_trust => true); GRANT USAGE ON FOREIGN SERVER more TO PUBLIC");
is(Gateway::wait_until(sub { $there->can_enter('more') }, 1), 1, 'an origin made at the primary serves here, too');
$gateway->sql('REVOKE USAGE ON FOREIGN SERVER more FROM PUBLIC');
is(Gateway::wait_until(sub { $there->can_enter('more') }, 0), 0, 'a right taken away there holds here');
is($there->sql(q{SELECT count(*) FROM hyperpool.check_origin('app') WHERE NOT ok}), '0', 'what changes nothing may be called: check_origin');
is(join('', $there->try_sql(q{SELECT hyperpool.pause_origin('app'); SELECT hyperpool.resume_origin('app'); SELECT hyperpool.restart_origin('app'); SELECT hyperpool.invalidate('app') >= 0})) =~ s/\s//gr, 't', 'pause, resume, restart, invalidate');

# ---- its primary is gone, then it is promoted, with clients ----
my $crowd = Faults->new($there, clients => 10);
$crowd->run(0.4, sub { $primary->stop('immediate'); });
is($crowd->all_are_served, '', 'its primary is gone: all are served');
$crowd->run(0.4, sub { $standby->promote; });
is($crowd->all_are_served, '', 'promoted: all are served');
is($there->sql('SELECT pg_is_in_recovery()'), 'f', 'it is a primary');
is($client->value('SELECT 7'), '7', 'a client from before goes on');
$crowd->go;
$crowd->is_right($origin, 'a standby', qr/^none$/);
is($crowd->{closed}, 0, 'no client was thrown out');
$there->sql("SELECT hyperpool.create_origin('own', '$string', allow_trust => true); GRANT USAGE ON FOREIGN SERVER own TO PUBLIC");
is(Gateway::wait_until(sub { $there->can_enter('own') }, 1), 1, 'it takes changes itself now');
$client->terminate;
nothing_is_left($there, 'afterwards');
$there->is_unharmed('afterwards');
done_testing();
