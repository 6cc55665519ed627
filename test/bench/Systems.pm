# Systems: who is measured. Starts an origin, hyperpool and its peers in Bench's folder, each when it is first asked for, and says how to reach them.
# All configuration stands here, so that it can be seen that nobody is tuned and another is not: everyone has 20 links where it can be told
# so, one process where it is made so, no log of connections, trust, and the same certificate.
package Systems;

use strict;
use warnings;

use Bench;
use Time::HiRes qw(sleep);

our $stage;                          # what make install DESTDIR= has filled
our $pool_size = 20;
our $max_clients = 12000;
our @distances = (1, 30, 125);       # ms of a round trip to the origin

my %port;                            # of what has a fixed one
my (%started, $direct);
my ($pgbouncer_program) = program('pgbouncer');
my ($pgpool_program) = program('pgpool');
my ($odyssey_program) = program('odyssey');

sub top { return $Bench::top }
sub place { return $Bench::place }

# ---- the origin, and what is there from the beginning ----

sub start
{
	my @names = (qw(origin regional gateway pgbouncer odyssey echo pair_pgbouncer), map { "relay$_" } @distances);
	@port{@names} = split ' ', `${\top}/test/tools/ports ${\scalar @names}`;
	make_certificate();
	start_origin();
	return;
}

# Where a peer is installed.
sub program { my ($name) = @_; return grep { -x } map { "$_/$name" } split(/:/, $ENV{PATH}), '/usr/sbin'; }

# An authority of its own, since the Workers runtime does not let certificates go unproven.
sub make_certificate
{
	my $place = place();
	my $curve = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
	spill("$place/san.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
	run("cd $place && { openssl req -x509 $curve -days 30 -subj '/CN=hyperpool bench CA' -keyout ca.key -out ca.crt"
		  . " && openssl req $curve -subj /CN=localhost -keyout server.key -out server.csr"
		  . ' && openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile san.ext -out server.crt; } 2>/dev/null');
	chmod 0600, "$place/server.key";
	return;
}

# A server in the folder; the process number of its postmaster. hba: lines before "everybody by trust".
sub start_instance
{
	my ($name, $port, $settings, $hba) = @_;
	my $place = place();
	my $data = "$place/$name";
	run("$Bench::bindir/initdb -D $data -U bench -A trust --no-sync -E UTF8 >/dev/null");
	spill("$data/postgresql.conf", <<~EOF);
		port = $port
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$place'
		fsync = off
		autovacuum = off
		ssl = on
		ssl_cert_file = '$place/server.crt'
		ssl_key_file = '$place/server.key'
		$settings
		EOF
	my $trust = slurp("$data/pg_hba.conf");
	unlink "$data/pg_hba.conf";
	spill("$data/pg_hba.conf", ($hba // '') . $trust);
	Bench::at_end(sub { system("$Bench::bindir/pg_ctl -D $data -m fast -w -t 30 stop >/dev/null") if -e "$data/postmaster.pid" });
	run("$Bench::bindir/pg_ctl -D $data -l $place/$name.log -w -t 60 start >/dev/null");
	return (split /\n/, slurp("$data/postmaster.pid"))[0];
}

sub start_origin
{
	my $hba = "hostssl app app 127.0.0.1/32 scram-sha-256\nhost app app 127.0.0.1/32 reject\n";
	my $place = place();
	$Bench::origin_pid = start_instance('origin', $port{origin}, "shared_preload_libraries = ''\nmax_connections = 3000", $hba);
	run("$Bench::bindir/createdb -h $place -p $port{origin} -U bench bench");
	run("$Bench::bindir/pgbench -h $place -p $port{origin} -U bench -i -q -s 1 bench >$place/init.log 2>&1");
	psql($port{origin}, 'bench', <<~EOF);
		CREATE TABLE bodies (id int PRIMARY KEY, kb1 text NOT NULL, kb100 text NOT NULL);
		ALTER TABLE bodies ALTER kb1 SET STORAGE external, ALTER kb100 SET STORAGE external;
		INSERT INTO bodies SELECT i, repeat('x', 1000), repeat('y', 100000) FROM generate_series(1, 100) i;
		CREATE TABLE visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, page text NOT NULL, at timestamptz NOT NULL DEFAULT now());
		EOF
	$direct = { name => 'direct', pid => undef, port => $port{origin}, database => 'bench' };
	return;
}

# ---- what a cell asks for ----

# The running system a cell is about: { name, pid, serving, port, database }. A cell says
#   system    direct, copy, hyperpool, exclusive (hyperpool without sharing), pgbouncer, odyssey, pgpool, echo
#   origin    how the system reaches it: unix, tcp, or a distance in ms
#   cache     answers may be kept
#   clients   Pgpool-II has a process for each
# Dies with the reason if it cannot be had.
sub target
{
	my ($cell) = @_;
	my %start = (
		direct => \&direct, copy => \&copy, hyperpool => \&hyperpool, exclusive => \&exclusive,
		pgbouncer => \&pgbouncer, odyssey => \&odyssey, pgpool => \&pgpool, echo => \&echo
	);
	my $with = { origin => 'unix', cache => 0, clients => 1, %$cell };
	return $start{ $cell->{system} }->($with);
}

# Why a cell is left out, or undef.
sub missing
{
	my ($cell) = @_;
	my $system = $cell->{system};
	return 'not installed' if $system eq 'pgbouncer' && !$pgbouncer_program || $system eq 'pgpool' && !$pgpool_program;
	return 'no prepared statements in transaction mode before 1.21' if $system eq 'pgbouncer' && ($cell->{protocol} // '') eq 'prepared' && pgbouncer_version() < 1.21;
	return 'this build has no option share' if $system eq 'exclusive' && !can_share();
	return 'the origin speaks no TLS on its Unix socket' if $system eq 'copy' && ($cell->{link} // '') eq 'tls';
	return undef;
}

sub once
{
	my ($key, $start) = @_;
	$started{$key} //= $start->();
	return $started{$key};
}

# Host and port by which the origin is reached.
sub origin_at
{
	my ($origin) = @_;
	return (place(), $port{origin}) if $origin eq 'unix';
	return ('127.0.0.1', $port{origin}) if $origin eq 'tcp';
	return ('127.0.0.1', relay($origin));
}

# A relay that is so many ms away from the origin; its port.
sub relay
{
	my ($distance) = @_;
	my $port = $port{"relay$distance"};
	once("relay $distance", sub {
		start_program(place() . "/relay$distance.log", top() . '/build/relay', '--listen', "127.0.0.1:$port", '--to', "127.0.0.1:$port{origin}", '--rtt-ms', $distance);
	});
	return $port;
}

sub answering
{
	my ($target) = @_;
	wait_for($target->{name}, Bench::connection($target, 'plain'));
	return $target;
}

# ---- direct, copy, echo ----

sub direct
{
	my ($with) = @_;
	return $direct if $with->{origin} !~ /^\d+$/;
	my $port = relay($with->{origin});
	return once("direct $port", sub { answering({ %$direct, port => $port }) });
}

# A program of this folder, compiled.
sub compiled
{
	my ($name, @libraries) = @_;
	my $out = place() . "/$name";
	my $include = answer_of("$Bench::pg_config --includedir");
	once("program $name", sub { run($ENV{CC} // 'gcc', '-std=gnu11', '-O2', "-I$include", '-o', $out, top() . "/test/bench/$name.c", @libraries); 1 });
	return $out;
}

sub copy
{
	my ($with) = @_;
	my ($host, $to) = origin_at($with->{origin});
	return once("copy $host", sub {
		my $port = `${\top}/test/tools/ports 1` + 0;
		my @to = $host =~ m{^/} ? ('--to-socket', "$host/.s.PGSQL.$to") : ('--to', $to);
		my $pid = start_program(place() . '/copy.log', compiled('copy'), '--port', $port, @to);
		answering({ name => 'copy', pid => $pid, port => $port, database => 'bench' });
	});
}

sub echo
{
	return once('echo', sub {
		my $place = place();
		my $pid = start_program("$place/echo.log", compiled('echo', '-lssl', '-lcrypto'), '--port', $port{echo}, '--socket', "$place/.s.PGSQL.$port{echo}",
			'--cert', "$place/server.crt", '--key', "$place/server.key");
		answering({ name => 'echo', pid => $pid, port => $port{echo}, database => 'bench' });
	});
}

# ---- hyperpool ----

sub regional
{
	return once('regional', sub {
		$stage && -d $stage or die "bench: nothing in build/stage: run `make stage` first\n";
		my $found = `PG_CONFIG='$Bench::pg_config' ${\top}/test/tools/test-config '$stage'`;
		my @settings = ("shared_preload_libraries = 'hyperpool'", "hyperpool.port = $port{gateway}", "hyperpool.listen_addresses = '127.0.0.1'",
			"hyperpool.max_clients = $max_clients");
		my $hba = "hostssl pair app 127.0.0.1/32 scram-sha-256\nhost pair app 127.0.0.1/32 reject\n";
		my $pid = start_instance('regional', $port{regional}, join("\n", $found, @settings), $hba);
		psql($port{regional}, 'postgres', 'CREATE EXTENSION hyperpool');
		$pid;
	});
}

# Whether create_origin knows the option.
sub can_share
{
	regional();
	once('share', sub { has_option('share') ? 'yes' : 'no' });
	return $started{share} eq 'yes';
}

sub has_option
{
	my ($option) = @_;
	my $query = "SELECT 1 FROM pg_proc WHERE pronamespace = 'hyperpool'::regnamespace AND proname = 'create_origin' AND '$option' = ANY (proargnames)";
	return answer_of("$Bench::bindir/psql -XAtq -h ${\place} -p $port{regional} -U bench -d postgres -c \"$query\"") eq '1';
}

sub hyperpool
{
	my ($with) = @_;
	my ($host, $to) = origin_at($with->{origin});
	my $name = join '_', 'at', $with->{origin}, $with->{cache} ? 'cached' : 'pooled', $with->{exclusive} ? 'exclusive' : ();
	return once("hyperpool $name", sub {
		my $pid = regional();
		my $options = 'allow_trust => true, max_age => \'1h\', pool_size => ' . $pool_size . ', cache => ' . ($with->{cache} ? 'true' : 'false');
		$options .= ', share => false' if $with->{exclusive};
		psql($port{regional}, 'postgres', "SELECT hyperpool.create_origin('$name', 'host=$host port=$to user=bench dbname=bench sslmode=disable', $options)");
		psql($port{regional}, 'postgres', "SELECT hyperpool.refresh_catalog('$name')") if $with->{cache};
		answering({ name => $name, pid => $pid, serving => [ processes_of($pid, qr/hyperpool/) ], port => $port{gateway}, database => $name });
	});
}

sub exclusive { my ($with) = @_; return hyperpool({ %$with, exclusive => 1 }); }

# ---- PgBouncer ----

sub pgbouncer_version { return (answer_of("$pgbouncer_program --version") =~ /(\d+\.\d+)/)[0] // 0; }

sub pgbouncer
{
	my ($with) = @_;
	relay($with->{origin}) if $with->{origin} =~ /^\d+$/;
	return once("pgbouncer $with->{origin}", sub {
		my $pid = once('pgbouncer', \&start_pgbouncer);
		answering({ name => 'pgbouncer', pid => $pid, port => $port{pgbouncer}, database => "at_$with->{origin}" });
	});
}

sub pgbouncer_database
{
	my ($origin) = @_;
	my ($host, $port) = $origin eq 'unix' ? (place(), $port{origin}) : ('127.0.0.1', $origin eq 'tcp' ? $port{origin} : $port{"relay$origin"});
	return "at_$origin = host=$host port=$port dbname=bench\n";
}

sub start_pgbouncer
{
	my $databases = join '', map { pgbouncer_database($_) } 'unix', 'tcp', @distances;
	return run_pgbouncer('pgbouncer', $port{pgbouncer}, $databases, 'auth_type = trust', '"bench" ""', 'client_tls_sslmode = allow', 'server_tls_sslmode = disable');
}

sub run_pgbouncer
{
	my ($name, $port, $databases, $auth, $users, @settings) = @_;
	my $place = place();
	my $settings = join "\n", @settings;
	my $prepared = pgbouncer_version() >= 1.21 ? 'max_prepared_statements = 200' : '';
	spill("$place/$name.users", "$users\n");
	spill("$place/$name.ini", <<~EOF);
		[databases]
		$databases
		[pgbouncer]
		listen_addr = 127.0.0.1
		listen_port = $port
		unix_socket_dir = $place
		$auth
		auth_file = $place/$name.users
		pool_mode = transaction
		default_pool_size = $pool_size
		max_client_conn = $max_clients
		log_connections = 0
		log_disconnections = 0
		client_tls_cert_file = $place/server.crt
		client_tls_key_file = $place/server.key
		$prepared
		$settings
		EOF
	return start_program("$place/$name.log", $pgbouncer_program, "$place/$name.ini");
}

# ---- Odyssey ----

sub has_odyssey { return defined $odyssey_program; }

# It takes the database from the name of its rule, as PgBouncer does.
sub odyssey
{
	my ($with) = @_;
	relay($with->{origin}) if $with->{origin} =~ /^\d+$/;
	return once("odyssey $with->{origin}", sub {
		my $pid = once('odyssey', \&start_odyssey);
		answering({ name => 'odyssey', pid => $pid, port => $port{odyssey}, database => "at_$with->{origin}" });
	});
}

sub odyssey_database
{
	my ($origin) = @_;
	my $port = $origin =~ /^\d+$/ ? $port{"relay$origin"} : $port{origin};
	my $host = $origin eq 'unix' ? '' : "host \"127.0.0.1\"";    # without a host: the socket in unix_socket_dir
	return <<~EOF;
		storage "at_$origin" {
			type "remote"
			$host
			port $port
		}
		database "at_$origin" {
			user "bench" {
				authentication "none"
				storage "at_$origin"
				storage_db "bench"
				pool "transaction"
				pool_size $pool_size
				pool_reserve_prepared_statement yes
				pool_discard no
			}
		}
		EOF
}

sub start_odyssey
{
	my $place = place();
	my $databases = join '', map { odyssey_database($_) } 'unix', 'tcp', @distances;
	spill("$place/odyssey.conf", <<~EOF);
		daemonize no
		unix_socket_dir "$place"
		unix_socket_mode "0600"
		locks_dir "$place"
		log_to_stdout yes
		log_format "%p %t %l %m\\n"
		log_session no
		log_stats no
		workers 1
		client_max $max_clients
		listen {
			host "127.0.0.1"
			port $port{odyssey}
			backlog 1024
			tls "allow"
			tls_cert_file "$place/server.crt"
			tls_key_file "$place/server.key"
		}
		listen {
			port $port{odyssey}
		}
		$databases
		EOF
	return start_program("$place/odyssey.log", $odyssey_program, "$place/odyssey.conf");
}

# ---- Pgpool-II ----

sub pgpool_version { return (answer_of("$pgpool_program --version 2>&1") =~ /version (\d+\.\d+)/)[0] // 0; }

# It has a process for each client it may have, and each keeps a connection of its own: so one for few clients and one for many.
sub pgpool
{
	my ($with) = @_;
	my $children = $with->{clients} <= 32 ? 40 : $with->{clients} + 8;
	my ($host, $port) = origin_at($with->{origin});
	return once("pgpool $with->{origin} $with->{cache} $children", sub { answering(start_pgpool("$with->{origin}_$with->{cache}_$children", $host, $port, $children, $with->{cache})) });
}

sub start_pgpool
{
	my ($name, $host, $to, $children, $cache) = @_;
	my $folder = place() . "/pgpool_$name";
	my ($port, $pcp) = split ' ', `${\top}/test/tools/ports 2`;
	my $sockets = pgpool_version() >= 4.4 ? 'unix_socket_directories' : 'socket_dir';
	my $tls = $host =~ m{^/} ? 'on' : 'off';    # else the way to the origin would have it too
	my $memory_cache = $cache ? 'on' : 'off';
	mkdir $folder;
	mkdir "$folder/oid";
	spill("$folder/pgpool.conf", <<~EOF);
		backend_clustering_mode = 'raw'
		listen_addresses = '127.0.0.1'
		port = $port
		$sockets = '${\place}'
		pcp_listen_addresses = '127.0.0.1'
		pcp_port = $pcp
		pcp_socket_dir = '$folder'
		wd_ipc_socket_dir = '$folder'
		pid_file_name = '$folder/pgpool.pid'
		logdir = '$folder'
		backend_hostname0 = '$host'
		backend_port0 = $to
		backend_flag0 = 'ALWAYS_PRIMARY'
		num_init_children = $children
		max_pool = 1
		connection_cache = on
		ssl = $tls
		ssl_cert = '${\place}/server.crt'
		ssl_key = '${\place}/server.key'
		memory_cache_enabled = $memory_cache
		memqcache_method = 'shmem'
		memqcache_expire = 0
		memqcache_oiddir = '$folder/oid'
		EOF
	my $pid = start_program("$folder/log", $pgpool_program, '-n', '-f', "$folder/pgpool.conf", '-F', "$folder/pcp.conf", '-a', "$folder/pool_hba.conf");
	return { name => 'pgpool', pid => $pid, port => $port, database => 'bench' };
}

# ---- the pair: TLS and SCRAM on every leg ----

# Names and connection URLs of the ways to an origin so many ms away.
sub pair_ways
{
	my ($distance) = @_;
	my $relay = relay($distance);
	my $secret = answer_of('openssl rand -hex 16');
	my $url = sub { my ($port, $database) = @_; "postgres://app:$secret\@localhost:$port/$database?sslmode=require" };
	pair_origin($secret);
	pair_hyperpool($secret, $relay);
	my @ways = ([ direct => $url->($relay, 'app') ]);
	if ($pgbouncer_program)
	{
		my $users = qq("app" "$secret");
		run_pgbouncer('pair_pgbouncer', $port{pair_pgbouncer}, "app = host=127.0.0.1 port=$relay dbname=app", 'auth_type = scram-sha-256', $users,
			'client_tls_sslmode = require', 'server_tls_sslmode = require');
		my $prepare = pgbouncer_version() < 1.21 ? '&prepare=false' : '';
		push @ways, [ pgbouncer => $url->($port{pair_pgbouncer}, 'app') . $prepare ];
	}
	push @ways, [ pooled => $url->($port{gateway}, 'pair') . '&hyperpool.cache=off' ], [ cached => $url->($port{gateway}, 'pair') ];
	return @ways;
}

sub pair_origin
{
	my ($secret) = @_;
	psql($port{origin}, 'postgres', "CREATE ROLE app LOGIN PASSWORD '$secret'", 'CREATE DATABASE app OWNER app');
	psql($port{origin}, 'app', <<~EOF);
		SET ROLE app;
		CREATE TABLE visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, page text NOT NULL, at timestamptz NOT NULL DEFAULT now());
		CREATE TABLE pages (path text PRIMARY KEY, title text NOT NULL);
		INSERT INTO pages VALUES ('/welcome', 'Welcome');
		EOF
	return;
}

sub pair_hyperpool
{
	my ($secret, $relay) = @_;
	regional();
	psql($port{regional}, 'postgres', "CREATE ROLE app LOGIN PASSWORD '$secret'",
		"SELECT hyperpool.create_origin('pair', 'host=127.0.0.1 port=$relay dbname=app user=app password=$secret sslmode=require', pool_size => $pool_size)",
		'GRANT USAGE ON FOREIGN SERVER pair TO app', "SELECT hyperpool.refresh_catalog('pair')");
	sleep 1.5;    # the right granted reaches the workers
	return;
}

# ---- what was measured ----

# [name, version] of all that took part or is missing.
sub versions
{
	my @versions = ([ 'PostgreSQL', answer_of("$Bench::bindir/postgres --version") =~ s/^postgres \(PostgreSQL\) //r ]);
	push @versions, [ 'PgBouncer', $pgbouncer_program ? pgbouncer_version() : 'not installed' ];
	push @versions, [ 'Pgpool-II', $pgpool_program ? answer_of("$pgpool_program --version 2>&1") =~ s/^.*version (\S+).*/$1/r : 'not installed' ];
	push @versions, [ 'Odyssey', $odyssey_program ? answer_of("$odyssey_program --version") =~ s/^\S* ?odyssey ?//ir : 'not packaged for this system: left out' ];
	return @versions;
}

1;
