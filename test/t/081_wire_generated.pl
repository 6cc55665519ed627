# The oracle with clients nobody has written: conversations made from seeds (test/wire/generated.pl), alone and several at once, and many clients
# each of which knows what it must be told (test/wire/tokens.c). Over one, two and eight links, with and without sharing of links, with a cold and a
# warm cache; with cancels, stalled readers, vanishing clients, lock waits and links that are ended. Always the same seeds, and some new ones in each
# run: SEED repeats them. Two gateways that are broken on purpose are caught. make soak does the same for longer.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Generated;
use Test::More;

my $oracle = Generated->new;
my $fresh = $oracle->fresh_seed;
my ($plain) = $oracle->ways(links => 8, share => 0, cached => 0);
my ($all) = $oracle->ways(links => 8, share => 1, cached => 1);

sub fresh_seeds { my ($from, $n) = @_; return ($fresh + $from) . '-' . ($fresh + $from + $n - 1); }

# ---- the same bytes, the same answers ----

$oracle->is_alike('one client', [$plain], '--seeds', '1-8,' . fresh_seeds(0, 1));
$oracle->is_alike('a client with several connections', [ $plain, $all ], '--connections', 3, '--seeds', '16-19,' . fresh_seeds(1, 1));
$oracle->is_alike('eight clients at once', [ $oracle->ways ], '--together', 8, '--seeds', '100-105,' . fresh_seeds(100, 2));
$oracle->is_alike('eight quiet clients at once', [ $oracle->ways(share => 1) ], '--together', 8, '--calm', '--seeds', '200-205,' . fresh_seeds(200, 2));

# ---- everybody his own answers ----

for my $links (1, 2, 8)
{
	my @ways = $oracle->ways(links => $links);
	$oracle->are_told_right('forty clients', \@ways, $fresh + $links, 2, sub { $oracle->are_used(@ways) }, '--clients', 40);
}
my @trouble = qw(--clients 10 --victims 3 --stallers 2 --leavers 2 --lockers 3);
my @many = $oracle->ways(links => 8);
$oracle->are_told_right('clients in trouble', \@many, $fresh, 2, sub { my %sum = @_; $sum{cancelled} }, @trouble);
$oracle->are_told_right('clients whose links are ended', \@many, $fresh, 2, sub { my %sum = @_; $sum{kills} > 5 && $sum{lost} }, '--kill', 50, @trouble);

# ---- and if not ----

$oracle->is_caught($_, $plain) for 'lose_ready', 'swap_answers';

done_testing();
