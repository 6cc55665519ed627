# An origin of two hosts, target_session_attrs=read-write: the machine of the one is gone (nothing answers, nothing is refused) or its server has stopped, the standby on the other is
# promoted under load, and clients go on there. Replication is synchronous, so that what the origin has confirmed is on the standby.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Cluster;
use RawClient;
use Relay;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(create => 0, origin_settings => "wal_level = replica\nmax_wal_senders = 5\nwal_sender_timeout = 2s\n");
my $first_node = $gateway->{origin};
$first_node->safe_psql('app', "SET ROLE app; $Faults::tables");

sub standby_of
{
	my ($node, $name, %o) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name, %o);
	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->start;
	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	$node->reload;
	Gateway::wait_until(sub { $node->safe_psql('postgres', 'SELECT sync_state FROM pg_stat_replication') }, 'sync') eq 'sync' or die 'no synchronous standby';
	return $standby;
}

# Its own synchronous standby it has no longer.
sub promote
{
	my ($node) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM RESET synchronous_standby_names") if $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f';
	$node->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''");
	$node->promote;
	$node->reload;
}

my $second_node = standby_of($first_node, 'second');
my ($first_way, $second_way) = map { Relay->new($_->port) } $first_node, $second_node;
$gateway->{connection} = "host=127.0.0.1,127.0.0.1 port=$first_way->{port},$second_way->{port} target_session_attrs=read-write";
$gateway->create('app', q{pool_size => 6, cache => true, connect_timeout => '4s', query_timeout => '2s'});
my $descriptors = Faults::other_descriptors($gateway);
my $codes = qr/^(08001|08006|08007|57014|57P0[123]|25P02|53300)$/;

# ---- the machine of the first host is gone: its address is the first that is tried ----
my $crowd = Faults->new($gateway, clients => 10);
my $gone_at;
$crowd->run(0.6, sub {
	$first_way->tell('deaf');
	$first_way->tell('half-open');
	$first_node->stop('immediate');
	$gone_at = time();
	promote($second_node);
});
is($crowd->all_are_served(40), '', 'the first host is gone: all are served by the second');
note(sprintf 'after %.1f s', time() - $gone_at);
my $value = $gateway->client->value(q{SELECT current_setting('port')});
is($value, $second_node->port, 'on the second host');
$crowd->go;
$crowd->is_right($second_node, 'the first host is gone', $codes);
is($crowd->{closed}, 0, 'the first host is gone: no client was thrown out');

# ---- as long as it is gone: new links do not wait for it each time ----
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
$gateway->wait_for(q{SELECT coalesce(sum(sv_idle + sv_active), 0) FROM hyperpool.pools WHERE origin = 'app'}, '0');
my $began = time();
is($gateway->client->value('SELECT 1'), '1', 'a new link');
cmp_ok(time() - $began, '<', 1.9, 'does not wait for the host that is gone');
is($gateway->sql(q{SELECT bool_and(ok) FROM hyperpool.check_origin('app')}), 't', 'check_origin goes on to the host that is there');
is(join('', $gateway->try_sql(q{SELECT hyperpool.refresh_catalog('app', '60s')})), '', 'and the catalog is read there');
# writes whose end is only now known may have been DDL: then there is another look
is($gateway->wait_for(q{SELECT facts FROM hyperpool.stat_origins WHERE origin = 'app'}, 'fresh'), 'fresh', 'and known');

# ---- the second one stops behind a proxy that accepts and closes, the first is back as its standby and promoted ----
my $third_node = standby_of($second_node, 'third', port => $first_node->port);
$first_way->tell('accept');
$crowd = Faults->new($gateway, clients => 10, first => 10);
$crowd->run(0.6, sub {
	$second_way->tell($_) for 'truncate 1', 'reset';
	$second_node->stop('immediate');
	promote($third_node);
});
is($crowd->all_are_served(30), '', 'the second host stops: all are served by the first');
is($gateway->client->value(q{SELECT current_setting('port')}), $third_node->port, 'on the first host');
$crowd->go;
$crowd->is_right($third_node, 'the second host stops', $codes);
is($crowd->{closed}, 0, 'the second host stops: no client was thrown out');

$gateway->{origin} = $third_node;
delete $gateway->{watcher};
nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
