# What drivers say (test/wire/traces, recorded from them): the same bytes get the same answers as on a direct connection, by a link of their own and by
# a shared one, with a cache that is cold, warm, and out of date; and through two gateways.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Generated;
use Test::More;

my $oracle = Generated->new(links => [ 1, 8 ], chain => 1);
my @traces = glob("$Generated::wire/traces/*.wire") or die 'no traces';

for my $way (grep { $_->{cached} == $_->{share} } $oracle->ways(links => 1))
{
	$oracle->plays_alike('recorded from drivers', $way, $way->{cached} || $way->{share} ? 'cached' : 'plain', @traces);
	ok($oracle->are_used($way), "$way->{name} has been used for what it is there for") if $way->{cached} || $way->{share};
}
$oracle->plays_alike('recorded from drivers', $oracle->{by_chain}, 'plain', @traces);

done_testing();
