# The oracle (test/wire): the same bytes get the same answers as on a direct connection, with one link and with many, with
# TLS and without; and two gateways that are broken on purpose are caught.
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
LoginClient::write_file($region->data_dir . '/pg_hba.conf', "host wide,narrow wire 127.0.0.1/32 scram-sha-256\n$hba");
$region->reload;
my $from = 'host=127.0.0.1 port=' . $origin->port . ' dbname=wire user=wire password=wire';
$gateway->sql("SELECT hyperpool.create_origin('wide', '$from', pool_size => 20)");
$gateway->sql("SELECT hyperpool.create_origin('narrow', '$from', pool_size => 1)");

my $player = "$certificates/player";
PostgreSQL::Test::Utils::system_or_bail('gcc', '-O1', '-g', '-o', $player, "$wire/player.c", '-lssl', '-lcrypto');
$ENV{HP_PLAYER} = $player;
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

sub plays_alike
{
	my ($what, $origin_name, %environment) = @_;
	local @ENV{ keys %environment } = values %environment;
	local $ENV{HP_GATEWAY} = "host=127.0.0.1 port=$gateway->{port} dbname=$origin_name user=wire password=wire";
	my ($status, $output) = play("$wire/run.pl");
	my @bad = $output =~ /^(not ok .*)$/mg;
	my @good = $output =~ /^(ok .*)$/mg;
	ok($status == 0 && @good >= 40 && !@bad, "$what: " . @good . ' plays are alike') or diag("exit status $status\n$output");
	return;
}

# Rules that no script needed fail the first run alone: the others may leave scripts out.
plays_alike('twenty links', 'wide', HP_MODES => 'plain tls');
plays_alike('twenty links, every write cut in pieces', 'wide', HP_MODES => 'split', HP_CHECK_RULES => 0);
plays_alike('one link', 'narrow', HP_MODES => 'plain', HP_LINKS => 1, HP_CHECK_RULES => 0);
plays_alike('one link, TLS, twice each', 'narrow', HP_MODES => 'tls', HP_LINKS => 1, HP_REPEAT => 2, HP_CHECK_RULES => 0);

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
