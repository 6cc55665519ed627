# The oracle (test/wire): the same bytes get the same answers as on a direct connection, with one link and with many, with
# TLS and without, and through two gateways; and two gateways that are broken on purpose are caught. With a cache and on shared links: 080_wire_cached.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use Scripted;
use Test::More;

my $oracle = Scripted->new;

# Rules that no script needed fail the first run alone: the others may leave scripts out.
my %again = (HP_CHECK_RULES => 0);
$oracle->plays_alike('twenty links', 'wide', { HP_MODES => 'plain tls' });
$oracle->plays_alike('twenty links, every write cut in pieces', 'wide', { HP_MODES => 'split', %again });
$oracle->plays_alike('one link', 'narrow', { HP_MODES => 'plain', HP_LINKS => 1, %again });
$oracle->plays_alike('one link, TLS, twice each', 'narrow', { HP_MODES => 'tls', HP_LINKS => 1, HP_REPEAT => 2, %again });

# ---- through a second gateway, to which the first one is an origin: SCRAM and TLS between the two, and each with a cache ----
my $front = Gateway->new(create => 0, endpoint => $oracle->{gateway}, name => 'front');
$front->{region}->safe_psql('postgres', 'CREATE ROLE wire SUPERUSER LOGIN');
$front->sql("SELECT hyperpool.create_origin('chain', '" . Scripted::through($oracle->{gateway}, 'cached') . " sslmode=require', allow_trust => true)");
$oracle->plays_alike('two gateways', 'chain', { HP_MODES => 'plain', %again, gateway => $front });

# ---- and if not ----
my ($status, $output) = Scripted::play('selftest');
is($status, 0, 'the oracle finds small lies') or diag($output);
$oracle->is_caught('lose_ready', 'simple_query', 'simple_pipelined');
$oracle->is_caught('swap_answers', 'two_clients_write_read', 'locks_between_clients', 'listen_from_other');

done_testing();
