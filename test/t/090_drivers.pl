# Real drivers, by the scripts of test/drivers: what each says through the gateway is what it says on a direct connection.
# The login is by SCRAM over TLS, the pool has two links. A driver that is not installed is skipped.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Drivers;
use Gateway;
use LoginClient qw(make_certificates write_file);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $scratch = PostgreSQL::Test::Utils::tempdir();

# ---- an origin and a gateway, the database and the origin of one name ----

sub start_with_password
{
	my ($name, $settings) = @_;
	my $node = Gateway::start_instance($name, "ssl = on\nssl_cert_file = '$scratch/server.crt'\nssl_key_file = '$scratch/server.key'\n$settings");
	$node->safe_psql('postgres', "SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'sesame'");
	write_file($node->data_dir . '/pg_hba.conf', "local all all trust\nhostssl shop app 127.0.0.1/32 scram-sha-256\n");
	$node->reload;
	return $node;
}

make_certificates($scratch);
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $origin = start_with_password('origin', "shared_preload_libraries = ''\n");
my $region = start_with_password('region', "shared_preload_libraries = 'hyperpool'\nhyperpool.port = $port\n"
	  . "hyperpool.listen_addresses = '127.0.0.1'\nhyperpool.directory_refresh = 1s\n");
my $origin_port = $origin->port;
$origin->safe_psql('postgres', 'CREATE DATABASE shop OWNER app');
$region->safe_psql('postgres', qq{
CREATE EXTENSION hyperpool;
SELECT hyperpool.create_origin('shop', 'host=127.0.0.1 port=$origin_port user=app password=sesame dbname=shop sslmode=require', pool_size => 2);
GRANT USAGE ON FOREIGN SERVER shop TO app});

# ---- running ----

# (its output, what it said besides, whether it ended well)
sub run_at
{
	my ($at, $command, $folder) = @_;
	local %ENV = (%ENV, PGHOST => '127.0.0.1', PGPORT => $at, PGUSER => 'app', PGPASSWORD => 'sesame', PGDATABASE => 'shop',
		PGSSLMODE => 'require', PGCONNECT_TIMEOUT => 10);
	return Drivers::run($command, $folder);
}

# By name what each check said; what it said may have several lines.
sub checks_in
{
	my ($out) = @_;
	return map { /^(?:not )?ok - (\w+):/ ? ($1 => $_) : () } split /\n(?=ok - |not ok - )/, $out;
}

sub compare_driver
{
	my ($name, $command, $folder) = @_;
	my ($out, $err, $well) = run_at($origin_port, $command, $folder);
	my %direct = checks_in($out);

	ok($well && %direct && $out !~ /^not ok/m, "$name: a direct connection") or diag($out, $err);
	($out, $err, $well) = run_at($port, $command, $folder);
	my %gateway = checks_in($out);
	ok($well, "$name: ends well") or diag($err);
	is($gateway{$_}, $direct{$_}, "$name: $_") for sort keys %direct;
}

for my $name (Drivers::names())
{
	my ($command, $folder) = Drivers::command_of($name);
	if ($command)
	{
		compare_driver($name, $command, $folder);
		next;
	}
  SKIP: { skip("$name is not installed", 1); }
}

unlike(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/terminated by signal|TRAP:|PANIC:/, 'no process died');
done_testing();
