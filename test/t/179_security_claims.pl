# The tests that docs/security.md names are there: in its tables, numbers are files of test/t, words of test/unit and test/fuzz; — is a claim that nothing tests.
use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";

sub is_there
{
	my ($name) = @_;
	my @files = $name =~ /^\d{3}$/ ? glob("$top/test/t/${name}_*.pl") : ("$top/test/unit/test_$name.c", "$top/test/fuzz/$name.c");
	return grep { -e } @files;
}

my ($columns, $claims) = (0, 0);    # of the table that is read, if its last is "test"
for my $line (split /\n/, PostgreSQL::Test::Utils::slurp_file("$top/docs/security.md"))
{
	my @cells = $line =~ /^\|(.*)\|$/ ? map { s/^\s+|\s+$//gr } split(/\|/, $1, -1) : ();
	$columns = $cells[-1] eq 'test' ? @cells : 0 if @cells && !$columns;
	$columns = 0 if !@cells;
	next if !$columns || $cells[-1] eq 'test' || $line =~ /^\|-/;
	next if $cells[-1] eq '' && $cells[0] ne '';    # what is the same as elsewhere
	my @missing = grep { !is_there($_) } $cells[-1] =~ /(\w+)/g;
	is("@missing", '', ($cells[0] || $cells[1]) . ": $cells[-1]");
	$claims++;
}
cmp_ok($claims, '>', 50, "$claims claims");
done_testing();
