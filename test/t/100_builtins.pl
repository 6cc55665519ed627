# core/builtin's table against the server's own pg_proc: each stable or volatile name is there, none that is immutable, and the classes hold.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('gateway');
$node->init;
$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'hyperpool'
hyperpool.port = @{[PostgreSQL::Test::Cluster::get_free_port()]}
hyperpool.listen_addresses = '127.0.0.1'
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION hyperpool');

my @rows = map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', 'SELECT name, class FROM hyperpool.builtin_classes()');
my %class = map { @$_ } @rows;
cmp_ok(scalar keys %class, '>', 700, 'there is a table');
is(scalar(grep { $rows[$_ - 1][0] ge $rows[$_][0] } 1 .. $#rows), 0, 'sorted as it is searched, each name once');

# name|worst volatility; what was made after initdb is not built in
my %volatility = map { split /\|/ } split /\n/, $node->safe_psql('postgres', q{
SELECT proname, CASE WHEN bool_or(provolatile = 'v') THEN 'v' WHEN bool_or(provolatile = 's') THEN 's' ELSE 'i' END
  FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND oid < 16384 GROUP BY proname});
cmp_ok(scalar keys %volatility, '>', 2000, 'and a catalog');

my @missing = grep { $volatility{$_} ne 'i' && !exists $class{$_} } sort keys %volatility;
is("@missing", '', 'each stable or volatile built-in has a class');
my @immutable = grep { exists $volatility{$_} && $volatility{$_} eq 'i' } sort keys %class;
is("@immutable", '', 'no name of the table is immutable here');
my @odd = grep { $class{$_} !~ /^(settings|catalog|time|session|other|writes)$/ } sort keys %class;
is("@odd", '', 'each has a class there is');

# Volatile, and yet the answer may be kept: one by one, and why.
my %kept = (
	amvalidate => 'reads catalogs',
	pg_partition_ancestors => 'reads catalogs',
	pg_partition_tree => 'reads catalogs',
	timezone => 'of time with time zone alone, whose type marks a text (13 and 14)');
my @kept = grep { ($volatility{$_} // '') eq 'v' && $class{$_} =~ /^(settings|catalog)$/ && !$kept{$_} } sort keys %class;
is("@kept", '', 'a volatile function is kept for a reason or not at all');

# What a function calls by name, or takes as text, decides for it.
my %must = (
	now => 'time', age => 'time', clock_timestamp => 'time', timestamptz_in => 'time',
	concat => 'settings', to_char => 'settings', date_trunc => 'settings', jsonb_agg => 'settings', timezone => 'settings',
	format_type => 'catalog', has_table_privilege => 'catalog', to_regclass => 'catalog', enum_in => 'catalog', pg_get_viewdef => 'catalog', to_tsvector => 'catalog',
	current_setting => 'session', pg_backend_pid => 'session', txid_current => 'session', inet_client_addr => 'session',
	random => 'other', nextval => 'other', pg_stat_get_numscans => 'other', pg_relation_size => 'other', lo_get => 'other', pg_read_file => 'other', pg_lock_status => 'other',
	query_to_xml => 'writes', table_to_xml => 'writes', ts_stat => 'writes', lo_put => 'writes', pg_import_system_collations => 'writes');
is($class{$_}, $must{$_}, "$_: $must{$_}") for sort keys %must;
ok(!exists $class{$_}, "$_ is immutable") for qw(lower abs count sum max array_agg string_agg length_of_nothing);

done_testing();
