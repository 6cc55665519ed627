# Drivers: which drivers are here, and how is the script of each (test/drivers) run?
package Drivers;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run ();
use PostgreSQL::Test::Utils;

my $scripts = abs_path(dirname(__FILE__) . '/../drivers');
my $scratch;
our $by_trust;	# they need not know SCRAM, nor TLS
my $patience = 120;    # seconds, for one command
my $jar = '/usr/share/java/postgresql.jar';

sub scratch { return $scratch //= PostgreSQL::Test::Utils::tempdir(); }

# (its output, what it said besides, whether it ended well)
sub run
{
	my ($command, $folder) = @_;
	my ($out, $err, $well) = ('', '', 0);
	eval {
		$well = IPC::Run::run($command, '<', \undef, '>', \$out, '2>', \$err, init => sub { chdir($folder // scratch()) },
			IPC::Run::timeout($patience, exception => 'took too long'));
	};
	return ($out, $err . $@, $well);
}

sub works { return (run([@_]))[2]; }

# ---- which are here? Each gives the command, and the folder to run it in, or () ----

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
	my $folder = scratch() . "/$package";
	mkdir $folder;
	open my $file, '>', "$folder/package.json" or die "$folder: $!";
	print $file '{}';
	close $file;
	my ($out, $err, $well) = run([ 'npm', 'install', '--silent', '--no-audit', '--no-fund', '--no-package-lock', '--fetch-retries=0', $package ], $folder);
	return $well ? ([ 'node', "$scripts/$script" ], $folder) : ();
}

sub with_libpq
{
	my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
	chomp(my ($headers, $libraries) = map { scalar `$pg_config --$_` } qw(includedir libdir));
	my $program = scratch() . '/libpq';
	return works($ENV{CC} // 'gcc', '-o', $program, "$scripts/libpq.c", "-I$headers", "-L$libraries", '-lpq') ? [$program] : ();
}

# Debian's lib/pq lies in a GOPATH
sub with_go
{
	local %ENV = (%ENV, GO111MODULE => 'off', GOPATH => '/usr/share/gocode', GOCACHE => scratch() . '/go_cache', GOTOOLCHAIN => 'local', CGO_ENABLED => 0);
	my $program = scratch() . '/pq';
	return works('go', 'build', '-o', $program, "$scripts/pq.go") ? [$program] : ();
}

# Debian's crates; they have no TLS for it
sub with_cargo
{
	my $crates = '/usr/share/cargo/registry';
	my $folder = scratch() . '/cargo';
	return if !$by_trust || !glob("$crates/tokio-postgres-*");
	mkdir "$folder$_" for '', '/home';
	my $is = qq{[package]\nname = "driver"\nversion = "1.0.0"\nedition = "2021"\n[[bin]]\nname = "driver"\npath = "$scripts/tokio_postgres.rs"\n[dependencies]\n}
	  . qq{bytes = "1"\nfutures-util = { version = "0.3", features = ["sink"] }\ntokio-postgres = "0.7"\n}
	  . qq{tokio = { version = "1", features = ["macros", "net", "rt", "time"] }\n};
	my $from = qq{[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "$crates"\n};
	for ([ "$folder/Cargo.toml", $is ], [ "$folder/home/config.toml", $from ])
	{
		my ($path, $text) = @$_;
		open my $file, '>', $path or die "$path: $!";
		print $file $text;
		close $file;
	}
	local %ENV = (%ENV, CARGO_HOME => "$folder/home", CARGO_TARGET_DIR => "$folder/target");
	return works('cargo', 'build', '--quiet', '--manifest-path', "$folder/Cargo.toml") ? ["$folder/target/debug/driver"] : ();
}

my @drivers = (
	[ 'psql', sub { return [ 'bash', "$scripts/psql.sh" ] } ],
	[ 'libpq', \&with_libpq ],
	[ 'psycopg2', sub { with_python('psycopg2.py', 'psycopg2') } ],
	[ 'psycopg', sub { with_python('psycopg.py', 'psycopg') } ],
	[ 'asyncpg', sub { with_python('asyncpg.py', 'asyncpg') } ],
	[ 'pg8000', sub { with_python('pg8000.py', $by_trust ? 'pg8000' : 'pg8000.native') } ],
	[ 'node-postgres', sub { with_node('pg.mjs', 'pg') } ],
	[ 'postgres.js', sub { with_node('postgres.mjs', 'postgres') } ],
	[ 'JDBC', sub { return -e $jar && works('javac', '-version') ? [ 'java', '-cp', $jar, "$scripts/jdbc.java" ] : () } ],
	[ 'lib/pq', \&with_go ],
	[ 'tokio-postgres', \&with_cargo ],
	[ 'DBD::Pg', sub { return works($^X, '-MDBD::Pg', '-e', '1') ? [ $^X, "$scripts/dbd.pl" ] : () } ],
	[ 'ruby-pg', sub { return works('ruby', '-rpg', '-e', '1') ? [ 'ruby', "$scripts/ruby_pg.rb" ] : () } ],
	[ 'PHP', sub {
		return works('php', '-r', 'exit(extension_loaded("pgsql") && extension_loaded("pdo_pgsql") ? 0 : 1);') ? [ 'php', "$scripts/php_pgsql.php" ] : ();
	} ]);

sub names { return map { $_->[0] } @drivers; }

# () when the driver is not here, else the command (and the folder to run it in)
sub command_of
{
	my ($name) = @_;
	my ($driver) = grep { $_->[0] eq $name } @drivers;
	return $driver->[1]->();
}

1;
