# Hundreds of idle clients on a few links: the memory of each is small, and comes back.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;

my $gateway = Gateway->new(options => 'pool_size => 3', settings => 'hyperpool.max_clients = 600');
my ($worker) = $gateway->worker_pids;

sub crowd { return map { my $c = $gateway->client; $c->value('SELECT 1'); $c } 1 .. shift; }

$_->terminate for crowd(50);
$gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '0');
my $before = Gateway::private_memory($worker);
my @clients = crowd(500);
my $each = (Gateway::private_memory($worker) - $before) / @clients;
note(sprintf 'a worker grows by %.2f kB for each idle client', $each);
cmp_ok($each, '<', 4, 'an idle client keeps little');
is($gateway->sql('SELECT clients FROM hyperpool.status()'), '500', 'all are there');
cmp_ok($gateway->links_at_origin, '<=', 3, 'on three links');

# after a large answer and a large question it is idle again, and keeps no buffers
$_->query(q{SELECT repeat('x', 300000), '} . 'y' x 30000 . q{'}) for @clients[ 0 .. 99 ];
my $after = (Gateway::private_memory($worker) - $before) / @clients;
cmp_ok($after, '<', 8, sprintf 'nor do those who had large answers: %.2f kB', $after);

# ---- max_clients ----
push @clients, crowd(100);
my $refused = eval { $gateway->client; 1 } ? 'in' : $@;
like($refused, qr/FATAL 53300 /, 'one more than hyperpool.max_clients is refused');
like($refused, qr/too many clients|max_clients/i, 'with the reason');
is($clients[0]->value('SELECT 2'), '2', 'the others stay');
(pop @clients)->terminate;
is(Gateway::wait_until(sub { eval { $gateway->client->terminate; 1 } ? 'in' : 'out' }, 'in'), 'in', 'when one has left, another may come');

$_->vanish for @clients;
is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '0'), '0', 'all have gone');
my @again = crowd(500);
cmp_ok((Gateway::private_memory($worker) - $before) / 500, '<', $each + 2, 'the same number again takes no more memory');
$gateway->is_unharmed('afterwards');
done_testing();
