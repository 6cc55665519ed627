# What real drivers read is answered from the cache, in their default modes and in binary, and a write shows at once.
# Each script reads one value by a parameter, three times on one connection and once on another. A driver that is not installed is skipped.
use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use IPC::Run ();
use LoginClient qw(write_file);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $scratch = PostgreSQL::Test::Utils::tempdir();
my $jar = '/usr/share/java/postgresql.jar';
my $gateway = Cached::start(workers => 2, options => q{max_age => '1h'}, make => q{
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE small (i int PRIMARY KEY, v int, t text, n numeric, d timestamptz, a int[], m mood, j jsonb);
INSERT INTO small VALUES (1, 7, 'seven', 7.50, '2020-02-01 12:00:00+00', '{1,2}', 'good', '{"k": 1}')});
my $client = $gateway->client;

# ---- the scripts: each prints the four values in a line ----

my %script;
$script{'psql.sh'} = <<'END';
for i in 1 2; do
	if [ $i = 1 ]; then printf 'SELECT v, t, n, d, a, m, j FROM small WHERE i = 1;\n%.0s' 1 2 3 | psql -XqtA | cut -d'|' -f1
	else psql -XqtA -c 'SELECT v, t, n, d, a, m, j FROM small WHERE i = 1' | cut -d'|' -f1; fi
done | paste -sd' '
END
$script{'libpq.c'} = <<'END';
#include <stdio.h>
#include <arpa/inet.h>
#include <libpq-fe.h>
int main(int argc, char **argv)
{
	const char *one[] = {"1"};
	int binary = argc > 1;
	for (int c = 0; c < 2; c++)
	{
		PGconn *connection = PQconnectdb("");
		for (int i = 0; i < (c ? 1 : 3); i++)
		{
			PGresult *r = PQexecParams(connection, "SELECT v, t, n, d, a, m, j FROM small WHERE i = $1", 1, NULL, one, NULL, NULL, binary);
			if (PQntuples(r) == 1)
			{
				if (binary) printf("%d ", (int) ntohl(*(unsigned *) PQgetvalue(r, 0, 0)));
				else printf("%s ", PQgetvalue(r, 0, 0));
			}
			else printf("%s", PQerrorMessage(connection));
			PQclear(r);
		}
		PQfinish(connection);
	}
	return 0;
}
END
$script{'psycopg2.py'} = <<'END';
import psycopg2
for n in (3, 1):
    c = psycopg2.connect(""); c.autocommit = True; k = c.cursor()
    for _ in range(n):
        k.execute("SELECT v, t, n, d, a, m, j FROM small WHERE i = %s", (1,)); print(k.fetchone()[0], end=" ")
END
$script{'psycopg.py'} = <<'END';
import psycopg, sys
for n in (3, 1):
    c = psycopg.connect("", autocommit=True); k = c.cursor(binary=len(sys.argv) > 1)
    for _ in range(n):
        k.execute("SELECT v, t, n, d, a, m, j FROM small WHERE i = %s", (1,)); print(k.fetchone()[0], end=" ")
END
$script{'asyncpg.py'} = <<'END';
import asyncpg, asyncio
async def main():
    for n in (3, 1):
        c = await asyncpg.connect()
        for _ in range(n):
            print(await c.fetchval("SELECT v, t, n, d, a, m, j FROM small WHERE i = $1", 1), end=" ")
        await c.close()
asyncio.run(main())
END
$script{'pg8000.py'} = <<'END';
import os, pg8000.native as p
for n in (3, 1):
    c = p.Connection(os.environ["PGUSER"], host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), database=os.environ["PGDATABASE"])
    for _ in range(n):
        print(c.run("SELECT v, t, n, d, a, m, j FROM small WHERE i = :i", i=1)[0][0], end=" ")
END
$script{'pg.mjs'} = <<'END';
import pg from 'pg'
for (const n of [3, 1]) {
  const c = new pg.Client(); await c.connect()
  for (let i = 0; i < n; i++) process.stdout.write((await c.query({ text: 'SELECT v, t, n, d, a, m, j FROM small WHERE i = $1', values: [1], name: process.argv[2] })).rows[0].v + ' ')
  await c.end()
}
END
$script{'postgres.mjs'} = <<'END';
import postgres from 'postgres'
for (const n of [3, 1]) {
  const sql = postgres({ max: 1, prepare: process.argv[2] !== 'unnamed' })
  for (let i = 0; i < n; i++) process.stdout.write((await sql`SELECT v, t, n, d, a, m, j FROM small WHERE i = ${1}`)[0].v + ' ')
  await sql.end()
}
END
$script{'Reads.java'} = <<'END';
import java.sql.*;
public class Reads
{
	public static void main(String[] a) throws Exception
	{
		for (int n : new int[] {3, 1})
		{
			Connection c = DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
				+ "?sslmode=disable&user=" + System.getenv("PGUSER") + (a.length > 0 ? "&" + a[0] : ""));
			PreparedStatement s = c.prepareStatement("SELECT v, t, n, d, a, m, j FROM small WHERE i = ?");
			for (int i = 0; i < n; i++)
			{
				s.setInt(1, 1);
				ResultSet r = s.executeQuery();
				r.next();
				System.out.print(r.getInt(1) + " ");
			}
			c.close();
		}
	}
}
END
$script{'dbd.pl'} = <<'END';
use DBI;
for my $n (3, 1)
{
	my $c = DBI->connect("dbi:Pg:", "", "", { RaiseError => 1 });
	print +($c->selectrow_array('SELECT v, t, n, d, a, m, j FROM small WHERE i = ?', undef, 1))[0], ' ' for 1 .. $n;
}
END
$script{'ruby_pg.rb'} = <<'END';
require 'pg'
[3, 1].each do |n|
  c = PG.connect
  n.times { print c.exec_params('SELECT v, t, n, d, a, m, j FROM small WHERE i = $1', [1], ARGV[0] ? 1 : 0).then { |r| ARGV[0] ? r.getvalue(0, 0).unpack1('N') : r.getvalue(0, 0) }, ' ' }
end
END
$script{'php_pgsql.php'} = <<'END';
<?php
foreach ([3, 1] as $n) {
	$c = pg_connect("host=" . getenv("PGHOST"), PGSQL_CONNECT_FORCE_NEW);
	for ($i = 0; $i < $n; $i++) echo pg_fetch_row(pg_query_params($c, 'SELECT v, t, n, d, a, m, j FROM small WHERE i = $1', [1]))[0], ' ';
}
END
$script{'pdo.php'} = <<'END';
<?php
foreach ([3, 1] as $n) {
	$c = new PDO("pgsql:host=" . getenv("PGHOST") . ";port=" . getenv("PGPORT") . ";dbname=" . getenv("PGDATABASE"), getenv("PGUSER"));
	for ($i = 0; $i < $n; $i++) { $s = $c->prepare('SELECT v, t, n, d, a, m, j FROM small WHERE i = ?'); $s->execute([1]); echo $s->fetch()[0], ' '; }
}
END
$script{'pq.go'} = <<'END';
package main

import (
	"database/sql"
	"fmt"
	"os"

	_ "github.com/lib/pq"
)

func main() {
	const text = "SELECT v, t, n, d, a, m, j FROM small WHERE i = $1"
	options := "sslmode=disable"
	if len(os.Args) > 1 {
		options += " binary_parameters=yes"
	}
	for _, n := range []int{3, 1} {
		db, err := sql.Open("postgres", options)
		if err != nil {
			panic(err)
		}
		db.SetMaxOpenConns(1)
		for i := 0; i < n; i++ {
			var v int
			var rest [6]any
			if err := db.QueryRow(text, 1).Scan(&v, &rest[0], &rest[1], &rest[2], &rest[3], &rest[4], &rest[5]); err != nil {
				panic(err)
			}
			fmt.Print(v, " ")
		}
		db.Close()
	}
}
END
$script{'tokio_postgres.rs'} = <<'END';
use std::env::{args, var};

async fn reads() -> Result<(), tokio_postgres::Error> {
    const TEXT: &str = "SELECT v, t, n, d, a, m, j FROM small WHERE i = $1";
    let place = format!("host={} port={} user={} dbname={}", var("PGHOST").unwrap(), var("PGPORT").unwrap(), var("PGUSER").unwrap(), var("PGDATABASE").unwrap());
    for n in [3, 1] {
        let (client, connection) = tokio_postgres::connect(&place, tokio_postgres::NoTls).await?;
        let task = tokio::spawn(connection);
        let prepared = if args().len() > 1 { Some(client.prepare(TEXT).await?) } else { None };
        for _ in 0..n {
            let row = match &prepared {
                Some(statement) => client.query_one(statement, &[&1i32]).await?,
                None => client.query_one(TEXT, &[&1i32]).await?,
            };
            print!("{} ", row.get::<_, i32>(0));
        }
        drop(prepared);
        drop(client);
        let _ = task.await;
    }
    Ok(())
}

fn main() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(reads()).unwrap();
}
END
write_file("$scratch/$_", $script{$_}) for keys %script;

# ---- running ----

sub run_script
{
	my ($command, $folder) = @_;
	my ($out, $err, $well) = ('', '', 0);
	local %ENV = (%ENV, PGHOST => '127.0.0.1', PGPORT => $gateway->{port}, PGUSER => 'app', PGDATABASE => 'app', PGSSLMODE => 'disable', PGCONNECT_TIMEOUT => 10);
	delete $ENV{PGPASSWORD};
	eval {
		# ends what a compiler has begun, too
		$well = IPC::Run::run([ 'timeout', '-k', 5, 120, @$command ], '<', \undef, '>', \$out, '2>', \$err, init => sub { chdir($folder // $scratch) });
	};
	$out =~ s/\s+/ /g;
	$out =~ s/^ | $//g;
	return ($out, $err . $@, $well);
}

sub works { return (run_script([@_]))[2]; }

my $value = 7;
sub reads_are_hits
{
	my ($name, $command, $folder) = @_;
	# a driver may have been built for minutes: the scout has stopped looking, and the cache has nothing to go by until it does
	Cached::learn($gateway);
	my ($out, $err) = run_script($command, $folder);
	is($out, join(' ', ($value) x 4), "$name: reads") or diag($err);
	my $said = Cached::said($gateway, sub { ($out, $err) = run_script($command, $folder) });
	is($out, join(' ', ($value) x 4), "$name: reads again") or diag($err);
	cmp_ok(scalar(() = $said =~ /\bhit\b/g), '>=', 4, "$name: from the cache, all of them") or diag($said);
	$value++;
	$client->query("UPDATE small SET v = $value WHERE i = 1");
	($out, $err) = run_script($command, $folder);
	is($out, join(' ', ($value) x 4), "$name: the new value after a write") or diag($err);
}

# commands: [name, command …]; none: it is not here.
sub try_driver
{
	my ($name, @commands) = @_;
	unless (@commands)
	{
	  SKIP: { skip("$name is not installed", 1); }
		return;
	}
	reads_are_hits(@$_) for @commands;
}

sub with_python
{
	my ($module) = @_;
	for my $python ('/usr/bin/python3', 'python3')
	{
		return [ $python, '-I', "$scratch/$module.py" ] if works($python, '-I', '-c', 'import ' . ($module eq 'pg8000' ? 'pg8000.native' : $module));
	}
	return;
}

# the script beside the package, since it is found from there
sub with_node
{
	my ($script, $package) = @_;
	my $folder = "$scratch/node_$package";
	mkdir $folder;
	write_file("$folder/package.json", '{}');
	write_file("$folder/$script", $script{$script});
	my ($out, $err, $well) = run_script([ 'npm', 'install', '--silent', '--no-audit', '--no-fund', '--no-package-lock', '--fetch-retries=0', $package ], $folder);
	return $well ? ([ 'node', "$folder/$script" ], $folder) : ();
}

# Debian's lib/pq lies in a GOPATH
sub with_go
{
	local %ENV = (%ENV, GO111MODULE => 'off', GOPATH => '/usr/share/gocode', GOCACHE => "$scratch/go_cache", GOTOOLCHAIN => 'local', CGO_ENABLED => 0);
	return works('go', 'build', '-o', "$scratch/pq", "$scratch/pq.go") ? ["$scratch/pq"] : ();
}

# Debian's crates, or those of crates.io
sub with_cargo
{
	my $folder = "$scratch/cargo";
	my $crates = '/usr/share/cargo/registry';
	local %ENV = (%ENV, CARGO_HOME => "$folder/home", CARGO_TARGET_DIR => "$folder/target");
	return unless works('cargo', '--version');
	mkdir "$folder$_" for '', '/src', '/home';
	write_file("$folder/Cargo.toml", qq{[package]\nname = "reads"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n}
		. qq{tokio-postgres = "0.7"\ntokio = { version = "1", features = ["rt", "net", "time"] }\n});
	write_file("$folder/home/config.toml", qq{[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "$crates"\n}) if glob("$crates/tokio-postgres-*");
	write_file("$folder/src/main.rs", $script{'tokio_postgres.rs'});
	return works('cargo', 'build', '--quiet', '--manifest-path', "$folder/Cargo.toml") ? ["$folder/target/debug/reads"] : ();
}

try_driver('psql', [ 'psql', [ 'bash', "$scratch/psql.sh" ] ]);

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my ($headers, $libraries) = map { scalar `$pg_config --$_` } qw(includedir libdir));
my $compiled = works($ENV{CC} // 'gcc', '-o', "$scratch/libpq", "$scratch/libpq.c", "-I$headers", "-L$libraries", '-lpq');
try_driver('libpq', $compiled ? ([ 'libpq', ["$scratch/libpq"] ], [ 'libpq, binary', [ "$scratch/libpq", 'binary' ] ]) : ());

for my $module ('psycopg2', 'psycopg', 'asyncpg', 'pg8000')
{
	my $command = with_python($module);
	try_driver($module, $command ? ([ $module, $command ], $module eq 'psycopg' ? [ 'psycopg, binary', [ @$command, 'binary' ] ] : ()) : ());
}
my ($pg, $pg_folder) = with_node('pg.mjs', 'pg');
try_driver('node-postgres', $pg ? ([ 'node-postgres', $pg, $pg_folder ], [ 'node-postgres, named', [ @$pg, 'named' ], $pg_folder ]) : ());
my ($js, $js_folder) = with_node('postgres.mjs', 'postgres');
try_driver('postgres.js', $js ? ([ 'postgres.js', $js, $js_folder ], [ 'postgres.js, unnamed', [ @$js, 'unnamed' ], $js_folder ]) : ());
my @java = -e $jar && works('javac', '-version') ? ('java', '-cp', $jar, "$scratch/Reads.java") : ();
try_driver('JDBC', @java ? ([ 'JDBC', [@java] ], [ 'JDBC, binary at once', [ @java, 'prepareThreshold=-1' ] ], [ 'JDBC, simple', [ @java, 'preferQueryMode=simple' ] ]) : ());
my $go = with_go();
try_driver('lib/pq', $go ? ([ 'lib/pq', $go ], [ 'lib/pq, binary parameters', [ @$go, 'binary' ] ]) : ());
my $rust = with_cargo();
try_driver('tokio-postgres', $rust ? ([ 'tokio-postgres', $rust ], [ 'tokio-postgres, prepared', [ @$rust, 'prepared' ] ]) : ());
try_driver('DBD::Pg', works($^X, '-MDBD::Pg', '-e', '1') ? [ 'DBD::Pg', [ $^X, "$scratch/dbd.pl" ] ] : ());
try_driver('ruby-pg', works('ruby', '-rpg', '-e', '1') ? ([ 'ruby-pg', [ 'ruby', "$scratch/ruby_pg.rb" ] ], [ 'ruby-pg, binary', [ 'ruby', "$scratch/ruby_pg.rb", 'binary' ] ]) : ());
try_driver('PHP', works('php', '-r', 'exit(extension_loaded("pgsql") && extension_loaded("pdo_pgsql") ? 0 : 1);')
	? ([ 'PHP', [ 'php', "$scratch/php_pgsql.php" ] ], [ 'PDO', [ 'php', "$scratch/pdo.php" ] ]) : ());

# ---- descriptions: the round trip of a driver's Describe is answered too, and dropped with DDL ----
my $described = $gateway->counter('cache_described');
my $describe = RawClient::message('P', "\0SELECT t FROM small WHERE i = \$1\0\0\0") . RawClient::message('D', "S\0") . RawClient::message('S', '');
for (1 .. 3)
{
	$client->put_raw($describe);
	$client->answer;
}
cmp_ok($gateway->counter('cache_described'), '>=', $described + 2, 'a Describe of a known text is answered by the gateway');

$gateway->is_unharmed('afterwards');
done_testing();
