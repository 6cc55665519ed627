# pg_hba.conf: for each client the verdict at hyperpool's port equals the server's own, read from the same file.
# The regional instance has databases of the same names as its origins, so both ports are asked the same question.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use LoginClient qw(login_verdict make_certificates write_file);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

my @names = ('alpha', 'beta', 'staff', 'alice', 'bob', 'all');

my $origin = PostgreSQL::Test::Cluster->new('origin');
$origin->init;
$origin->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$origin->start;

my $gateway = PostgreSQL::Test::Cluster->new('gateway');
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);
$gateway->init;
$gateway->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'hyperpool'
hyperpool.port = $port
hyperpool.listen_addresses = '127.0.0.1,::1'
hyperpool.database = 'postgres'
hyperpool.directory_refresh = 1s
listen_addresses = '127.0.0.1,::1'
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
$gateway->start;

# ---- roles, databases, origins ----
my $admin = $gateway->safe_psql('postgres', 'SELECT current_user');
$gateway->safe_psql('postgres', q{
CREATE EXTENSION hyperpool;
SET password_encryption = 'scram-sha-256';
CREATE ROLE staff LOGIN PASSWORD 'staff';
CREATE ROLE alice LOGIN PASSWORD 'alice' IN ROLE staff;
CREATE ROLE carol LOGIN;
CREATE ROLE dave LOGIN SUPERUSER PASSWORD 'dave';
CREATE ROLE "Quoted" LOGIN PASSWORD 'quoted';
CREATE ROLE "all" LOGIN PASSWORD 'all';
CREATE ROLE nologin NOLOGIN;
SET password_encryption = 'md5';
CREATE ROLE bob LOGIN PASSWORD 'bob';
CREATE ROLE middle IN ROLE staff;
GRANT middle TO carol;
});
for my $name (@names)
{
	$gateway->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	$gateway->safe_psql('postgres', sprintf(
		q{SELECT hyperpool.create_origin('%s', 'host=%s port=%s user=%s dbname=postgres', allow_trust => true)},
		$name, $origin->host, $origin->port, $admin));
	$gateway->safe_psql('postgres', qq{GRANT USAGE ON FOREIGN SERVER "$name" TO PUBLIC});
}

sub verdict
{
	my ($at, $type, $from, $user, $database) = @_;
	return login_verdict(type => $type, from => $from, port => $at, socket_dir => $gateway->host,
		user => $user, database => $database);
}

# ---- files ----

# Two users that only this file tells apart: both ports have read the file when they are told apart there.
my $file_number = 0;

sub use_file
{
	my ($text) = @_;
	$file_number++;
	write_file($gateway->data_dir . '/pg_hba.conf',
		"local all $admin trust\n"
		  . "host alpha refused_$file_number 127.0.0.1/32 reject\n"
		  . "host alpha asked_$file_number 127.0.0.1/32 scram-sha-256\n" . $text);
	$gateway->reload;
	for my $at ($gateway->port, $port)
	{
		my $read = 0;
		for (1 .. 300)
		{
			$read = verdict($at, 'plain', '127.0.0.1', "refused_$file_number", 'alpha') =~ /rejects connection/
			  && verdict($at, 'plain', '127.0.0.1', "asked_$file_number", 'alpha') =~ /^asked for SCRAM/;
			last if $read;
			Time::HiRes::usleep(100_000);
		}
		die "pg_hba.conf number $file_number was not read at port $at" unless $read;
	}
}

# Rights and options of the origins arrive at the port a moment after they were given.
sub wait_for_origins
{
	use_file("host all dave 127.0.0.1/32 trust\n");
	for my $name (@names)
	{
		for (1 .. 150)
		{
			last if verdict($port, 'plain', '127.0.0.1', 'dave', $name) eq 'in';
			Time::HiRes::usleep(100_000);
		}
	}
}

wait_for_origins();
my $has_ipv6 = verdict($gateway->port, 'plain', '::1', 'ghost', 'ghost') !~ /^no connection/;
my $compared = 0;
my %seen;

# One clients line: type, address, then databases, then users (each with each).
sub compare
{
	my ($title, @clients) = @_;
	for my $line (@clients)
	{
		my ($type, $from, $databases, $users) = @$line;
		next if $from =~ /:/ && !$has_ipv6;
		for my $database (split / /, $databases)
		{
			for my $user (split / /, $users)
			{
				my $expected = verdict($gateway->port, $type, $from, $user, $database);
				my $got = verdict($port, $type, $from, $user, $database);
				is($got, $expected, "$title: $type from $from, database $database, user $user");
				fail("no verdict of the server itself: $expected") if $expected =~ /^(no connection|no verdict|closed)/;
				$compared++;
				$seen{ $expected =~ /rejects connection/ ? 'reject'
					: $expected =~ /no pg_hba.conf entry/ ? 'no entry'
					: $expected =~ /^asked/ ? $expected
					: $expected eq 'in' ? 'in' : 'other' }++;
			}
		}
	}
}

use_file(q{
local        alpha        all                        trust
local        all          bob                        md5
local        beta         all                        reject
hostnossl    alpha        all        127.0.0.1/32    scram-sha-256
hostssl      alpha        all        127.0.0.1/32    trust
hostssl      beta         all        127.0.0.0/8     md5
hostnossl    beta         all        127.0.0.0/8     reject
host         staff        all        samehost        trust
hostgssenc   all          all        all             trust
hostnogssenc alice        all        127.0.0.3/32    trust
});
compare('types',
	[ 'socket', 'local', 'alpha beta staff', 'alice bob ghost' ],
	[ 'plain', '127.0.0.1', 'alpha beta staff alice bob', 'alice bob ghost' ],
	[ 'plain', '127.0.0.3', 'alpha staff alice', 'alice' ],
	[ 'plain', '::1', 'alpha staff', 'alice' ],
	[ 'tls', '127.0.0.1', 'alpha beta staff alice', 'alice' ],
	[ 'tls', '127.0.0.1', 'beta', 'bob carol ghost' ],
	[ 'tls', '127.0.0.3', 'alpha beta alice', 'bob' ]);

write_file($gateway->data_dir . '/databases.txt', "alpha\nstaff\n");
use_file(q{
host    sameuser        all        127.0.0.1/32        trust
host    samerole        all        127.0.0.1/32        scram-sha-256
host    "all"           all        127.0.0.1/32        reject
host    alpha,beta      bob        127.0.0.1/32        md5
host    replication     all        127.0.0.1/32        trust
host    @databases.txt  all        127.0.0.2/32        trust
host    "@databases.txt" all       127.0.0.4/32        trust
host    all             bob        127.0.0.2/32        md5
});
compare('databases',
	[ 'plain', '127.0.0.1', 'alice bob staff all alpha', 'alice bob carol dave staff' ],
	[ 'plain', '127.0.0.2', 'alpha staff beta', 'bob' ],
	[ 'plain', '127.0.0.4', 'alpha', 'bob' ],
	[ 'tls', '127.0.0.1', 'alice', 'alice bob' ]);

use_file(q{
host    alpha   +staff              127.0.0.1/32    trust
host    beta    "+staff"            127.0.0.1/32    trust
host    beta    +middle,bob         127.0.0.1/32    scram-sha-256
host    all     "all"               127.0.0.1/32    reject
host    staff   Quoted              127.0.0.1/32    reject
host    staff   "Quoted"            127.0.0.1/32    trust
host    staff   quoted,nologin      127.0.0.1/32    trust
host    alpha   bob,dave            127.0.0.1/32    reject
host    alice   +nosuchgroup        127.0.0.1/32    trust
host    alice   all                 127.0.0.1/32    md5
});
compare('users',
	[ 'plain', '127.0.0.1', 'alpha beta', 'alice bob carol dave staff all ghost' ],
	[ 'plain', '127.0.0.1', 'staff', 'Quoted quoted nologin all alice' ],
	[ 'plain', '127.0.0.1', 'alice', 'alice bob carol dave ghost' ],
	[ 'tls', '127.0.0.1', 'alpha', 'carol dave' ]);

use_file(q{
host    alpha   all     127.0.0.9/32                    reject
host    alpha   all     127.0.0.8   255.255.255.248     trust
host    alpha   all     127.0.0.64/26                   md5
host    alpha   all     127.0.1.0/24                    scram-sha-256
host    alpha   all     ::1/128                         trust
host    beta    all     ::/0                            reject
host    beta    bob     samenet                         md5
host    beta    all     samehost                        trust
host    staff   all     all                             reject
host    bob     all     0.0.0.0/0                       trust
hostssl all     alice   127.0.0.0/8                     scram-sha-256
});
compare('addresses',
	[ 'plain', '127.0.0.7', 'alpha', 'bob' ],
	[ 'plain', '127.0.0.8', 'alpha', 'bob' ],
	[ 'plain', '127.0.0.9', 'alpha beta', 'bob' ],
	[ 'plain', '127.0.0.15', 'alpha', 'bob' ],
	[ 'plain', '127.0.0.16', 'alpha bob', 'bob' ],
	[ 'plain', '127.0.0.63', 'alpha', 'bob' ],
	[ 'plain', '127.0.0.64', 'alpha', 'bob alice' ],
	[ 'plain', '127.0.0.127', 'alpha', 'bob' ],
	[ 'plain', '127.0.0.128', 'alpha', 'bob' ],
	[ 'plain', '127.0.1.255', 'alpha beta', 'bob alice' ],
	[ 'plain', '127.0.0.1', 'beta staff bob all', 'alice bob' ],
	[ 'plain', '::1', 'alpha beta staff bob', 'bob' ],
	[ 'socket', 'local', 'alpha bob', 'bob' ],
	[ 'tls', '127.0.2.2', 'all beta', 'alice bob' ]);

SKIP:
{
	skip 'no regular expressions in pg_hba.conf before 16', 1 if $gateway->pg_version < 16;
	use_file(q{
host    /^al            /^[ac]       127.0.0.1/32    trust
host    "/^be,?t"       bob         127.0.0.1/32    reject
host    all             /o          127.0.0.1/32    md5
});
	compare('regular expressions',
		[ 'plain', '127.0.0.1', 'alpha beta all staff', 'alice bob carol dave ghost' ]);
}

cmp_ok($compared, '>=', 60, "$compared clients were compared");
for my $kind ('in', 'reject', 'no entry', 'asked for md5', 'asked for SCRAM-SHA-256')
{
	ok($seen{$kind}, "among them some with the verdict: $kind");
}

# ---- where hyperpool is stricter than the server, and says so ----

use_file(q{
host    alpha   all     localhost       trust
host    alpha   all     127.0.0.0/8     trust
host    beta    all     127.0.0.1/32    password
host    beta    bob     127.0.0.2/32    ident
local   beta    all                     peer
});
like(verdict($port, 'plain', '127.0.0.1', 'alice', 'alpha'), qr/^FATAL 28000 pg_hba.conf rejects connection/,
	'a line with a host name rejects all who reach it');
like(verdict($port, 'plain', '127.0.0.1', 'alice', 'beta'), qr/^FATAL 28000 .*"password"/,
	'a line with a method that is not done rejects, and names it');
like(verdict($port, 'plain', '127.0.0.2', 'bob', 'beta'), qr/^FATAL 28000 .*"ident"/, 'the same for ident');
like(verdict($port, 'socket', 'local', 'bob', 'beta'), qr/^FATAL 28000 .*"peer"/, 'the same for peer');

# ---- a file that does not parse keeps the lines that were read before ----

use_file(q{
host    alpha   all     127.0.0.1/32    trust
});
my $log_before = -s $gateway->logfile;
$gateway->append_conf('pg_hba.conf', "host alpha nonsense\nhost beta all 127.0.0.1/32 trust\n");
$gateway->reload;
$gateway->wait_for_log(qr/pg_hba\.conf/, $log_before);
Time::HiRes::sleep(1);
is(verdict($port, 'plain', '127.0.0.1', 'alice', 'alpha'), 'in', 'the old lines let in whom they let in');
like(verdict($port, 'plain', '127.0.0.1', 'alice', 'beta'), qr/no pg_hba.conf entry/, 'lines of the bad file do not count');

$gateway->stop;
$origin->stop;
done_testing();
