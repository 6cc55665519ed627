# The oracle (test/wire): the same bytes get the same answers as on a direct connection, with one link and with many, with
# TLS and without; with a cold, a warm and an outdated cache; through two gateways; and two gateways that are broken on purpose are caught.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IPC::Run ();
use LoginClient qw(make_certificates);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $wire = "$FindBin::RealBin/../wire";
my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);

my $gateway = Gateway->new(create => 0, settings => qq{
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});

# The scripts make roles, schemas and tables, and the gateway's user must own what it makes: one superuser on both sides.
$_->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE wire SUPERUSER LOGIN PASSWORD 'wire'}) for $origin, $region;
$origin->safe_psql('postgres', 'CREATE DATABASE wire OWNER wire');
my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
LoginClient::write_file($region->data_dir . '/pg_hba.conf', "host wide,narrow,cached,cached_narrow wire 127.0.0.1/32 scram-sha-256\n$hba");
$region->reload;
my $from = 'host=127.0.0.1 port=' . $origin->port . ' dbname=wire user=wire password=wire';
$gateway->sql("SELECT hyperpool.create_origin('wide', '$from', pool_size => 20, cache => false)");
$gateway->sql("SELECT hyperpool.create_origin('narrow', '$from', pool_size => 1, cache => false)");
$gateway->sql("SELECT hyperpool.create_origin('cached', '$from', pool_size => 20, cache => true)");
$gateway->sql("SELECT hyperpool.create_origin('cached_narrow', '$from', pool_size => 1, cache => true)");

$ENV{HP_DIRECT} = $from;
$ENV{HP_RELAY_PORT} = PostgreSQL::Test::Cluster::get_free_port();

# run.pl or selftest; its exit status and the lines it printed.
sub play
{
	my ($name, @scripts) = @_;
	my $output = '';
	IPC::Run::run([ 'perl', $name, map { "$wire/scripts/$_.wire" } @scripts ], '<', \undef, '>&', \$output);
	return ($? >> 8, $output);
}

sub through { my ($to, $origin_name) = @_; return "host=127.0.0.1 port=$to->{port} dbname=$origin_name user=wire password=wire"; }

sub plays_alike
{
	my ($what, $origin_name, $environment, @scripts) = @_;
	my $to = delete $environment->{gateway} // $gateway;
	local @ENV{ keys %$environment } = values %$environment;
	local $ENV{HP_GATEWAY} = through($to, $origin_name);
	my ($status, $output) = play("$wire/run.pl", @scripts);
	my @bad = $output =~ /^(not ok .*)$/mg;
	my @good = $output =~ /^(ok (?!.*# skip).*)$/mg;
	ok($status == 0 && @good >= (@scripts || 40) && !@bad, "$what: " . @good . ' plays are alike') or diag("exit status $status\n$output");
	return;
}

# Rules that no script needed fail the first run alone: the others may leave scripts out.
my %again = (HP_CHECK_RULES => 0);
plays_alike('twenty links', 'wide', { HP_MODES => 'plain tls' });
plays_alike('twenty links, every write cut in pieces', 'wide', { HP_MODES => 'split', %again });
plays_alike('one link', 'narrow', { HP_MODES => 'plain', HP_LINKS => 1, %again });
plays_alike('one link, TLS, twice each', 'narrow', { HP_MODES => 'tls', HP_LINKS => 1, HP_REPEAT => 2, %again });

# ---- three plays between one setup and one teardown: what a script sets up goes through the gateway, and is known there before it is played ----
sub plays_alike_thrice
{
	my ($counter, $what, $origin_name, $environment, @scripts) = @_;
	my $count = "SELECT $counter FROM hyperpool.stat_origins WHERE origin = '$origin_name'";
	my $before = $gateway->sql($count);
	plays_alike($what, $origin_name, {
		HP_SETUP => "gateway", HP_WRITE => 'insert into hpw_unrelated values (1)',
		HP_READY => 'host=127.0.0.1 port=' . $region->port . ' dbname=postgres user=wire', HP_READY_QUERY => "select hyperpool.refresh_catalog('$origin_name', '1 min')",
		%again, %$environment }, @scripts);
	my $more = $gateway->sql($count) - $before;
	cmp_ok($more, '>=', 3 * (@scripts || 100), "$what: $counter $more");
}

sub plays_alike_cached { plays_alike_thrice('cache_hit', @_); }
sub plays_alike_shared { plays_alike_thrice('shared', @_); }

$origin->safe_psql('wire', 'SET ROLE wire; CREATE TABLE hpw_unrelated (i int)');
my @about_caches = map { s{.*/}{}r =~ s/\.wire$//r } glob("$wire/scripts/cached_*.wire");
plays_alike_cached('a cache, cold and warm and after a write', 'cached', { HP_MODES => 'cached' });
plays_alike_cached('a cache, every write cut in pieces', 'cached', { HP_MODES => 'cached-split' }, grep { $_ ne 'cached_descriptions' } @about_caches);
plays_alike_cached('a cache and one link', 'cached_narrow', { HP_MODES => 'cached', HP_LINKS => 1 }, (grep { !/between_writes|transactions/ } @about_caches), 'plan_broken_by_ddl');

# ---- on shared links: by the third play the statements are known to be quick ----
plays_alike_shared('a shared link', 'narrow', { HP_MODES => 'cached', HP_LINKS => 1 });
plays_alike_shared('shared links, every write cut in pieces', 'wide', { HP_MODES => 'cached-split' }, (grep { $_ ne 'cached_descriptions' } @about_caches),
	qw(extended_basic extended_errors_phases extended_formats extended_named flush pipeline_mixed portal_lifetimes same_read_every_way search_path_same_text simple_pipelined statements_many terminate));

# ---- through a second gateway, to which the first one is an origin: SCRAM and TLS between the two, and each with a cache ----
my $front = Gateway->new(create => 0, endpoint => $gateway, name => 'front');
$front->{region}->safe_psql('postgres', 'CREATE ROLE wire SUPERUSER LOGIN');
$front->sql("SELECT hyperpool.create_origin('chain', '" . through($gateway, 'cached') . " sslmode=require', allow_trust => true)");
plays_alike('two gateways', 'chain', { HP_MODES => 'plain', %again, gateway => $front });

my ($status, $output) = play("$wire/selftest");
is($status, 0, 'the oracle finds small lies') or diag($output);

# ---- broken on purpose ----
sub is_caught
{
	my ($fault, @scripts) = @_;
	$region->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'\n");
	$region->restart;
	$gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't');
	local $ENV{HP_TIMEOUT} = 1500;
	local $ENV{HP_GATEWAY} = "host=127.0.0.1 port=$gateway->{port} dbname=wide user=wire password=wire";
	my ($fault_status, $fault_output) = play("$wire/run.pl", @scripts);
	isnt($fault_status, 0, "$fault is caught");
	like($fault_output, qr/^not ok/m, 'by a play that differs');
}

is_caught('lose_ready', 'simple_query', 'simple_pipelined');
is_caught('swap_answers', 'two_clients_write_read', 'locks_between_clients', 'listen_from_other');

done_testing();
