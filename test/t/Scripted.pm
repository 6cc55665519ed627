# Scripted: the oracle with the scripts of test/wire, for 080_wire and 080_wire_cached.
#
# It answers: do the scripts get by each way through a gateway what PostgreSQL itself answers (test/wire/run.pl)? It owns an origin, a gateway with TLS and
# an origin of its own for each way: wide and narrow (twenty links, one), cached and cached_narrow.
package Scripted;

use strict;
use warnings;

use File::Basename qw(dirname);
use Gateway;
use IPC::Run ();
use LoginClient qw(make_certificates);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our $wire = dirname(__FILE__) . '/../wire';

sub new
{
	my ($class) = @_;
	my $certificates = PostgreSQL::Test::Utils::tempdir();
	make_certificates($certificates);
	my $gateway = Gateway->new(create => 0, settings => qq{
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
	my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
	my $self = bless { gateway => $gateway, origin => $origin, region => $region }, $class;

	# The scripts make roles, schemas and tables, and the gateway's user must own what it makes: one superuser on both sides.
	$_->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE wire SUPERUSER LOGIN PASSWORD 'wire'}) for $origin, $region;
	$origin->safe_psql('postgres', 'CREATE DATABASE wire OWNER wire');
	$origin->safe_psql('wire', 'SET ROLE wire; CREATE TABLE hpw_unrelated (i int)');
	my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
	LoginClient::write_file($region->data_dir . '/pg_hba.conf', "host wide,narrow,cached,cached_narrow wire 127.0.0.1/32 scram-sha-256\n$hba");
	$region->reload;
	my $from = 'host=127.0.0.1 port=' . $origin->port . ' dbname=wire user=wire password=wire';
	$gateway->sql("SELECT hyperpool.create_origin('$_->[0]', '$from', pool_size => $_->[1], cache => $_->[2])")
	  for [ 'wide', 20, 'false' ], [ 'narrow', 1, 'false' ], [ 'cached', 20, 'true' ], [ 'cached_narrow', 1, 'true' ];
	$ENV{HP_DIRECT} = $from;
	$ENV{HP_RELAY_PORT} = PostgreSQL::Test::Cluster::get_free_port();
	return $self;
}

sub through { my ($gateway, $origin_name) = @_; return "host=127.0.0.1 port=$gateway->{port} dbname=$origin_name user=wire password=wire"; }

# run.pl or selftest; its exit status and what it printed.
sub play
{
	my ($name, @scripts) = @_;
	my $output = '';
	IPC::Run::run([ 'perl', "$wire/$name", map { "$wire/scripts/$_.wire" } @scripts ], '<', \undef, '>&', \$output);
	return ($? >> 8, $output);
}

# All scripts, or those named. environment: of run.pl, and gateway: another than its own.
sub plays_alike
{
	my ($self, $what, $origin_name, $environment, @scripts) = @_;
	my %environment = %$environment;
	my $to = delete $environment{gateway} // $self->{gateway};
	local @ENV{ keys %environment } = values %environment;
	local $ENV{HP_GATEWAY} = through($to, $origin_name);
	my ($status, $output) = play('run.pl', @scripts);
	my @bad = $output =~ /^(not ok .*)$/mg;
	my @good = $output =~ /^(ok (?!.*# skip).*)$/mg;
	ok($status == 0 && @good >= (@scripts || 40) && !@bad, "$what: " . @good . ' plays are alike') or diag("exit status $status\n$output");
	return;
}

# Three plays between one setup and one teardown: what a script sets up goes through the gateway, and is known there before it is played. By the third the
# statements are known to be quick. counter: of stat_origins, that tells of what is to be used.
sub plays_alike_thrice
{
	my ($self, $counter, $what, $origin_name, $environment, @scripts) = @_;
	my ($gateway, $region) = @$self{qw(gateway region)};
	my $count = "SELECT $counter FROM hyperpool.stat_origins WHERE origin = '$origin_name'";
	my $before = $gateway->sql($count);
	$self->plays_alike($what, $origin_name, {
		HP_SETUP => 'gateway', HP_WRITE => 'insert into hpw_unrelated values (1)',
		HP_READY => 'host=127.0.0.1 port=' . $region->port . ' dbname=postgres user=wire', HP_READY_QUERY => "select hyperpool.refresh_catalog('$origin_name', '1 min')",
		HP_CHECK_RULES => 0, %$environment }, @scripts);
	my $more = $gateway->sql($count) - $before;
	cmp_ok($more, '>=', 3 * (@scripts || 100), "$what: $counter $more");
	return;
}

# A gateway that is broken on purpose differs.
sub is_caught
{
	my ($self, $fault, @scripts) = @_;
	my ($gateway, $region) = @$self{qw(gateway region)};
	$region->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'\n");
	$region->restart;
	$gateway->wait_for('SELECT healthy FROM hyperpool.status()', 't');
	local @ENV{qw(HP_TIMEOUT HP_GATEWAY)} = (1500, through($gateway, 'wide'));
	my ($status, $output) = play('run.pl', @scripts);
	isnt($status, 0, "$fault is caught");
	like($output, qr/^not ok/m, 'by a play that differs');
	return;
}

1;
