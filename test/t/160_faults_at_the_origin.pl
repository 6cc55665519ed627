# The way to the origin breaks in every manner under clients that read, write, copy and are in transactions: connections reset, answers or requests that do not arrive,
# messages cut in the middle, a few bytes at a time, silence. Nobody gets what is another's, nothing that was confirmed is lost, and it goes on by itself.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, workers => 2, options => q{pool_size => 6, cache => true});
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
$gateway->learn('app');
my $descriptors = Faults::other_descriptors($gateway);

sub relay { $gateway->relay($_) for @_; }

# ---- under load; each fault with clients of its own ----
my @faults = (
	[ 'connections are reset', qw(reset reset) ],
	[ 'answers are lost', 'stall answered', 'reset', 'resume' ],
	[ 'requests are lost', 'stall asked', 'reset', 'resume' ],
	[ 'answers are cut in the middle', 'cut 7', 'cut 100', 'cut 333', 'cut 3000', 'cut off' ],
	[ 'requests are cut in the middle', 'cut asked 9', 'cut asked 100', 'cut asked 400', 'cut asked 3000', 'cut off' ],
	[ 'the streams end early', 'truncate 50', 'truncate 1000', 'truncate asked 60', 'truncate asked 2000', 'cut off' ],
	[ 'no new connections', 'refuse', 'reset', 'accept' ],
);
my $first = 0;
for my $fault (@faults)
{
	my ($what, @break) = @$fault;
	my $crowd = Faults->new($gateway, clients => 10, first => $first);
	$crowd->run(0.4, map { my $command = $_; sub { relay($command); } } @break);
	is($crowd->all_are_served, '', "$what: then all are served");
	$crowd->go;
	$crowd->is_right($origin, $what);
	is($crowd->{closed}, 0, "$what: no client is thrown out") unless $what =~ /^answers are cut|^the streams/;
	$first += 10;
}

# ---- what is only slow is no error ----
for my $slow ([ 'a few bytes at a time', 'drip 40', 'drip off' ], [ 'a second of silence', 'stall', 'resume' ])
{
	my ($what, $begin, $end) = @$slow;
	my $crowd = Faults->new($gateway, clients => 10, first => $first);
	$crowd->run(0.4, sub { relay($begin); }, sub { $crowd->go_on(1); }, sub { relay($end); });
	is($crowd->all_are_served, '', "$what: all are served");
	$crowd->go;
	$crowd->is_right($origin, $what, qr/^none$/);
	$first += 10;
}

# ---- half open: the origin is gone and the gateway is not told ----
$gateway->alter(q{query_timeout => '1s'});
$gateway->wait_for('SELECT query_timeout FROM hyperpool.origins', '00:00:01');
my $crowd = Faults->new($gateway, clients => 6, first => $first);
$crowd->run(0.4, sub { relay('half-open'); });
is($crowd->all_are_served(40), '', 'half open: query_timeout ends it, then all are served');
$crowd->go;
$crowd->is_right($origin, 'half open', qr/^(08001|08006|08007|57014|25P02)$/);

nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
