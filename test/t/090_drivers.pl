# Real drivers, by the scripts of test/drivers: what each says through the gateway is what it says on a direct connection.
# The login is by SCRAM over TLS, the pool has two links. A driver that is not installed is skipped.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IPC::Run ();
use LoginClient qw(make_certificates write_file);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $scripts = abs_path("$FindBin::RealBin/../drivers");
my $scratch = PostgreSQL::Test::Utils::tempdir();
my $patience = 120;    # seconds, for one script
my $jar = '/usr/share/java/postgresql.jar';

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
	my ($out, $err, $well) = ('', '', 0);
	local %ENV = (%ENV, PGHOST => '127.0.0.1', PGPORT => $at, PGUSER => 'app', PGPASSWORD => 'sesame', PGDATABASE => 'shop',
		PGSSLMODE => 'require', PGCONNECT_TIMEOUT => 10);
	eval {
		$well = IPC::Run::run($command, '<', \undef, '>', \$out, '2>', \$err, init => sub { chdir($folder // $scratch) },
			IPC::Run::timeout($patience, exception => 'took too long'));
	};
	return ($out, $err . $@, $well);
}

sub works { return (run_at($origin_port, [@_]))[2]; }

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

# found: () when the driver is not here, else the command (and the folder to run it in)
sub try_driver
{
	my ($name, $found) = @_;
	my ($command, $folder) = $found->();
	if ($command)
	{
		compare_driver($name, $command, $folder);
		return;
	}
  SKIP: { skip("$name is not installed", 1); }
}

# ---- which are here? ----

sub with_python
{
	my ($script, $module) = @_;
	for my $python ('/usr/bin/python3', 'python3')
	{
		return [ $python, '-I', "$scripts/$script" ] if works($python, '-I', '-c', "import $module");
	}
	return;
}

sub with_node
{
	my ($script, $package) = @_;
	my $folder = "$scratch/$package";
	mkdir $folder;
	write_file("$folder/package.json", '{}');
	my ($out, $err, $well) = run_at($origin_port, [ 'npm', 'install', '--silent', '--no-audit', '--no-fund', '--no-package-lock',
		'--fetch-retries=0', $package ], $folder);
	return $well ? ([ 'node', "$scripts/$script" ], $folder) : ();
}

sub with_libpq
{
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	chomp(my ($headers, $libraries) = map { scalar `$pg_config --$_` } qw(includedir libdir));
	return works($ENV{CC} // 'gcc', '-o', "$scratch/libpq", "$scripts/libpq.c", "-I$headers", "-L$libraries", '-lpq')
	  ? ["$scratch/libpq"] : ();
}

# Debian's lib/pq lies in a GOPATH
sub with_go
{
	local %ENV = (%ENV, GO111MODULE => 'off', GOPATH => '/usr/share/gocode', GOCACHE => "$scratch/go_cache", GOTOOLCHAIN => 'local', CGO_ENABLED => 0);
	return works('go', 'build', '-o', "$scratch/pq", "$scripts/pq.go") ? ["$scratch/pq"] : ();
}

try_driver('psql', sub { return [ 'bash', "$scripts/psql.sh" ] });
try_driver('libpq', \&with_libpq);
try_driver('psycopg2', sub { with_python('psycopg2.py', 'psycopg2') });
try_driver('psycopg', sub { with_python('psycopg.py', 'psycopg') });
try_driver('asyncpg', sub { with_python('asyncpg.py', 'asyncpg') });
try_driver('pg8000', sub { with_python('pg8000.py', 'pg8000.native') });
try_driver('node-postgres', sub { with_node('pg.mjs', 'pg') });
try_driver('postgres.js', sub { with_node('postgres.mjs', 'postgres') });
try_driver('JDBC', sub { return -e $jar && works('javac', '-version') ? [ 'java', '-cp', $jar, "$scripts/jdbc.java" ] : () });
try_driver('lib/pq', \&with_go);
try_driver('DBD::Pg', sub { return works($^X, '-MDBD::Pg', '-e', '1') ? [ $^X, "$scripts/dbd.pl" ] : () });
try_driver('ruby-pg', sub { return works('ruby', '-rpg', '-e', '1') ? [ 'ruby', "$scripts/ruby_pg.rb" ] : () });
try_driver('PHP', sub {
	return works('php', '-r', 'exit(extension_loaded("pgsql") && extension_loaded("pdo_pgsql") ? 0 : 1);') ? [ 'php', "$scripts/php_pgsql.php" ] : ();
});

unlike(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/terminated by signal|TRAP:|PANIC:/, 'no process died');
done_testing();
