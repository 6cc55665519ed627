# Every setting and every option of an origin has a test that names it, or stands here with the reason why not.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# name => why no test of behaviour names it
my %without = (
	'hyperpool.share_buffer' => 'of links that several clients share at once, which are not there yet',
	'hyperpool.tcp_user_timeout' => 'handed to the kernel as it is',
	'hyperpool.tcp_keepalives_idle' => 'handed to the kernel as it is',
);

my $node = PostgreSQL::Test::Cluster->new('region');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'hyperpool'\nhyperpool.port = "
	  . PostgreSQL::Test::Cluster::get_free_port() . "\nhyperpool.listen_addresses = '127.0.0.1'");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION hyperpool');

my @settings = split /\n/, $node->safe_psql('postgres', q{SELECT name FROM pg_settings WHERE name LIKE 'hyperpool.%' ORDER BY 1});
my @options = split /\n/, $node->safe_psql('postgres', q{
SELECT a FROM pg_proc, unnest(proargnames) a
WHERE pronamespace = 'hyperpool'::regnamespace AND proname = 'create_origin' AND a NOT IN ('name', 'connection_string')
ORDER BY 1});
cmp_ok(scalar(@settings), '>', 15, 'the settings are listed');
cmp_ok(scalar(@options), '>', 10, 'and the options');

my $own = "$FindBin::RealBin/$FindBin::RealScript";
my %text = map { $_ => PostgreSQL::Test::Utils::slurp_file($_) }
  grep { $_ ne $own } glob("$FindBin::RealBin/*.pl $FindBin::RealBin/*.pm $FindBin::RealBin/../../sql/*.sql");
delete $text{$_} for grep { /--/ } keys %text;

sub files_naming
{
	my ($name) = @_;
	return grep { $text{$_} =~ /\b\Q$name\E\b(?!\s*\()/ } sort keys %text;
}

for my $name (@settings, @options)
{
	my @files = map { s{.*/}{}r } files_naming($name);
	ok(@files || $without{$name}, "$name: " . (@files ? join ', ', @files : $without{$name} // 'no test names it'));
}

my %known = map { $_ => 1 } @settings, @options;
is(join(' ', grep { !$known{$_} } sort keys %without), '', 'no exception for what is not there');
done_testing();
