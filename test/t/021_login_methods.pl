# How a client proves who it is at hyperpool's port, and what it is told when it cannot: wherever the server can be asked the
# same, in the same words. The regional instance has a database alpha and an origin alpha, and one pg_hba.conf for both ports.
use strict;
use warnings;

use Digest::MD5 qw(md5_hex);
use FindBin;
use lib $FindBin::RealBin;

use LoginClient qw(startup_packet login_verdict login_exchange hold_login raw_answer
  make_certificates encrypt_key make_crl write_file);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

delete @ENV{qw(PGSSLMODE PGSSLCERT PGSSLKEY PGSSLROOTCERT PGCHANNELBINDING PGREQUIREAUTH PGPASSFILE)};

my $origin = PostgreSQL::Test::Cluster->new('origin');
$origin->init;
$origin->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$origin->start;

my $gateway = PostgreSQL::Test::Cluster->new('gateway');
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $certs = PostgreSQL::Test::Utils::tempdir();
make_certificates($certs, 'cert_user', 'full_user', 'dn', 'mapped');
$gateway->init;
$gateway->append_conf(
	'postgresql.conf', qq{
shared_preload_libraries = 'hyperpool'
hyperpool.port = $port
hyperpool.listen_addresses = '127.0.0.1'
hyperpool.database = 'postgres'
hyperpool.log_connections = on
hyperpool.failed_login_delay = 0
hyperpool.directory_refresh = 1s
listen_addresses = '127.0.0.1'
log_statement = none
ssl = on
ssl_cert_file = '$certs/server.crt'
ssl_key_file = '$certs/server.key'
ssl_ca_file = '$certs/ca.crt'
});
$gateway->start;

my $admin = $gateway->safe_psql('postgres', 'SELECT current_user');
my $connection = 'host=' . $origin->host . ' port=' . $origin->port . " user=$admin dbname=postgres";

$gateway->safe_psql('postgres', qq{
CREATE EXTENSION hyperpool;
CREATE DATABASE alpha;
CREATE DATABASE beta;
});
$gateway->safe_psql('postgres', qq{
SET password_encryption = 'scram-sha-256';
CREATE ROLE scram_user LOGIN PASSWORD 'secret_scram';
CREATE ROLE "Ünicode" LOGIN PASSWORD 'secret_\xc3\xa9';
CREATE ROLE md5_scram LOGIN PASSWORD 'secret_both';
CREATE ROLE cert_user LOGIN;
CREATE ROLE "CN=dn,O=test" LOGIN;
CREATE ROLE map_user LOGIN;
CREATE ROLE full_user LOGIN PASSWORD 'secret_full';
CREATE ROLE ca_user LOGIN PASSWORD 'secret_ca';
CREATE ROLE trust_user LOGIN;
CREATE ROLE limited_user LOGIN CONNECTION LIMIT 1;
CREATE ROLE closed_user LOGIN CONNECTION LIMIT 0 PASSWORD 'secret_closed';
CREATE ROLE nologin_user NOLOGIN PASSWORD 'secret_nologin';
CREATE ROLE nopassword_user LOGIN;
CREATE ROLE expired_user LOGIN PASSWORD 'secret_expired' VALID UNTIL '2001-01-01';
CREATE ROLE infinite_user LOGIN PASSWORD 'secret_infinite' VALID UNTIL 'infinity';
CREATE ROLE other_user LOGIN PASSWORD 'secret_other';
SET password_encryption = 'md5';
CREATE ROLE md5_user LOGIN PASSWORD 'secret_md5';
CREATE ROLE scram_md5 LOGIN PASSWORD 'secret_old';
SELECT hyperpool.create_origin('alpha', '$connection');
SELECT hyperpool.create_origin('beta', '$connection', allow_trust => true);
SELECT hyperpool.create_origin('gamma', '$connection');
SELECT hyperpool.create_origin('delta', '$connection', for_role => 'scram_user');
GRANT USAGE ON FOREIGN SERVER alpha, beta, delta TO PUBLIC;
});

# The number is in a rule that only the newest file has.
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
			my @verdicts = map {
				login_verdict(type => 'plain', from => '127.0.0.1', port => $at, user => $_ . "_$file_number", database => 'alpha')
			} ('refused', 'asked');
			$read = $verdicts[0] =~ /rejects connection/ && $verdicts[1] =~ /^asked for SCRAM/;
			last if $read;
			Time::HiRes::usleep(100_000);
		}
		die "pg_hba.conf number $file_number was not read at port $at" unless $read;
	}
}

write_file($gateway->data_dir . '/pg_ident.conf', "certmap mapped map_user\n");
use_file(q{
hostssl all cert_user,"CN=cert_user"      127.0.0.1/32  cert
hostssl all "CN=dn,O=test"                127.0.0.1/32  cert clientname=DN
hostssl all map_user                      127.0.0.1/32  cert map=certmap
hostssl all full_user                     127.0.0.1/32  scram-sha-256 clientcert=verify-full
hostssl all ca_user                       127.0.0.1/32  scram-sha-256 clientcert=verify-ca
host    all md5_user,md5_scram,md5_ghost  127.0.0.1/32  md5
host    all trust_user,limited_user       127.0.0.1/32  trust
host    all all                           127.0.0.1/32  scram-sha-256
});

# ---- libpq as the client ----

# What psql says: the rows, or the error without the port.
sub talk
{
	my ($at, $options, $password) = @_;
	my ($out, $err) = ('', '');
	local $ENV{PGPASSWORD} = $password // '';
	delete $ENV{PGPASSWORD} unless defined $password;
	local $ENV{PGPASSFILE} = "$certs/nowhere";
	local $ENV{PGSSLROOTCERT} = "$certs/ca.crt";
	local $ENV{HOME} = $certs;
	IPC::Run::run(
		[
			'psql', '-XAtqw', '-d', "hostaddr=127.0.0.1 host=localhost port=$at connect_timeout=20 $options",
			'-c', 'SELECT 1'
		],
		'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	$err =~ s/^psql: error: connection to server at [^:]*: //;
	$err =~ s/connection to server at [^:]*failed: //g;
	$err =~ s/\n(?:DETAIL|HINT):.*//sg;
	chomp($out, $err);
	return $err eq '' ? $out : $err;
}

# The answer at hyperpool's port matches, and is the server's own.
sub same
{
	my ($title, $options, $password, $pattern) = @_;
	my $got = talk($port, $options, $password);
	like($got, $pattern, $title);
	is($got, talk($gateway->port, $options, $password), "$title: in the words of the server");
}

sub only_here
{
	my ($title, $options, $password, $pattern) = @_;
	like(talk($port, $options, $password), $pattern, $title);
}

# The same after a change of roles or origins, which takes a moment to arrive.
sub soon_here
{
	my ($title, $options, $password, $pattern) = @_;
	my $got = '';
	for (1 .. 150)
	{
		$got = talk($port, $options, $password);
		last if $got =~ $pattern;
		Time::HiRes::usleep(100_000);
	}
	like($got, $pattern, $title);
}

my $in = qr/^1$/;
my $plain = 'sslmode=disable dbname=alpha';
my $tls = 'sslmode=require dbname=alpha';
my $failed = qr/^FATAL:  password authentication failed for user "/;

soon_here('the first login', "$plain user=scram_user", 'secret_scram', $in);
same('SCRAM-SHA-256', "$plain user=scram_user", 'secret_scram', $in);
same('SCRAM over TLS', "$tls user=scram_user channel_binding=disable", 'secret_scram', $in);
same('SCRAM-SHA-256-PLUS', "$tls user=scram_user channel_binding=require", 'secret_scram', $in);
same('SCRAM-SHA-256-PLUS, wrong password', "$tls user=scram_user channel_binding=require", 'wrong', $failed);
same('verify-full', "sslmode=verify-full dbname=alpha user=scram_user", 'secret_scram', $in);
same('a name and a password beyond ASCII', "$plain user=\xc3\x9cnicode", "secret_\xc3\xa9", $in);
same('md5 line, md5 password', "$plain user=md5_user", 'secret_md5', $in);
same('md5 line over TLS', "$tls user=md5_user", 'secret_md5', $in);
same('md5 line, SCRAM password', "$plain user=md5_scram", 'secret_both', $in);
same('VALID UNTIL infinity', "$plain user=infinite_user", 'secret_infinite', $in);

same('wrong password', "$plain user=scram_user", 'wrong', $failed);
same('wrong md5 password', "$plain user=md5_user", 'wrong', $failed);
same('wrong password, md5 line, SCRAM password', "$plain user=md5_scram", 'wrong', $failed);
same('an md5 password cannot do SCRAM', "$plain user=scram_md5", 'secret_old', $failed);
same('unknown role', "$plain user=ghost", 'anything', $failed);
same('unknown role, md5 line', "$plain user=md5_ghost", 'anything', $failed);
same('role without password', "$plain user=nopassword_user", 'anything', $failed);
same('VALID UNTIL past', "$plain user=expired_user", 'secret_expired', $failed);
same('no password given', "$plain user=scram_user", undef, qr/no password supplied/);
same('NOLOGIN', "$plain user=nologin_user", 'secret_nologin', qr/^FATAL:  role "nologin_user" is not permitted to log in$/);
same('NOLOGIN, wrong password', "$plain user=nologin_user", 'wrong', $failed);
same('CONNECTION LIMIT 0', "$plain user=closed_user", 'secret_closed', qr/^FATAL:  too many connections for role "closed_user"$/);

# ---- certificates ----
my $cert_of = sub { "sslcert=$certs/$_[0].crt sslkey=$certs/$_[0].key" };

same('cert', "$tls user=cert_user " . $cert_of->('cert_user'), undef, $in);
same('cert without a certificate', "$tls user=cert_user sslcert=/nowhere", undef, qr/requires a valid client certificate/);
same('cert of somebody else', "$tls user=cert_user " . $cert_of->('full_user'), undef,
	qr/certificate authentication failed for user "cert_user"/);
same('cert with a name that is a DN of the other form', "$tls user='CN=cert_user' " . $cert_of->('cert_user'), undef,
	qr/certificate authentication failed/);
same('cert clientname=DN', "$tls user='CN=dn,O=test' " . $cert_of->('dn'), undef, $in);
same('cert clientname=DN of somebody else', "$tls user='CN=dn,O=test' " . $cert_of->('cert_user'), undef,
	qr/certificate authentication failed/);
like(talk($gateway->port, "$tls user=map_user " . $cert_of->('mapped'), undef), $in, 'the server itself does maps');
only_here('cert map= is refused', "$tls user=map_user " . $cert_of->('mapped'), undef, qr/^FATAL:  .*"cert map="/);
only_here('a certificate of an unknown CA', "$tls user=cert_user " . $cert_of->('stranger'), undef, qr/unknown ca|closed|SSL error/);
same('verify-full', "$tls user=full_user " . $cert_of->('full_user'), 'secret_full', $in);
same('verify-full, wrong password', "$tls user=full_user " . $cert_of->('full_user'), 'wrong', $failed);
same('verify-full, name of somebody else', "$tls user=full_user " . $cert_of->('cert_user'), 'secret_full', $failed);
same('verify-full, no certificate', "$tls user=full_user sslcert=/nowhere", 'secret_full', qr/requires a valid client certificate/);
same('verify-ca, name of somebody else', "$tls user=ca_user " . $cert_of->('cert_user'), 'secret_ca', $in);
same('verify-ca, no certificate', "$tls user=ca_user sslcert=/nowhere", 'secret_ca', qr/requires a valid client certificate/);

# ---- origins, rights, credentials: said only to whom has proved who he is ----
only_here('no such origin', 'sslmode=disable dbname=nowhere user=scram_user', 'secret_scram', qr/^FATAL:  origin "nowhere" does not exist$/);
only_here('no such origin, wrong password', 'sslmode=disable dbname=nowhere user=scram_user', 'wrong', $failed);
only_here('no USAGE', 'sslmode=disable dbname=gamma user=scram_user', 'secret_scram', qr/^FATAL:  permission denied for origin "gamma"$/);
only_here('no USAGE, wrong password', 'sslmode=disable dbname=gamma user=scram_user', 'wrong', $failed);
only_here('no credential', 'sslmode=disable dbname=delta user=other_user', 'secret_other', qr/^FATAL:  no credential for origin "delta"$/);
only_here('own credential', 'sslmode=disable dbname=delta user=scram_user', 'secret_scram', $in);

# ---- trust ----
only_here('trust without allow_trust', "$plain user=trust_user", undef, qr/^FATAL:  trust authentication is not allowed for origin "alpha"$/);
only_here('trust, unknown origin', "sslmode=disable dbname=nowhere user=trust_user", undef, qr/^FATAL:  trust authentication is not allowed/);
same('trust with allow_trust', 'sslmode=disable dbname=beta user=trust_user', undef, $in);
$gateway->safe_psql('postgres', q{SELECT hyperpool.alter_origin('alpha', allow_trust => true)});
soon_here('trust after alter_origin', "$plain user=trust_user", undef, $in);
$gateway->safe_psql('postgres', q{SELECT hyperpool.alter_origin('alpha', allow_trust => false)});
soon_here('trust taken back', "$plain user=trust_user", undef, qr/trust authentication is not allowed/);

# ---- connection limit ----
for my $at ($gateway->port, $port)
{
	my ($held, $first) = hold_login($at, 'limited_user', 'beta');
	is($first, 'in', "port $at: the first connection of a role with CONNECTION LIMIT 1");
	is((hold_login($at, 'limited_user', 'beta'))[1], 'FATAL 53300 too many connections for role "limited_user"', 'not the second');
	close $held;
	my $again;
	for (1 .. 100)
	{
		my ($socket, $verdict) = hold_login($at, 'limited_user', 'beta');
		$again = $verdict;
		close $socket if $socket;
		last if $again eq 'in';
		Time::HiRes::usleep(100_000);
	}
	is($again, 'in', 'again when the first has left');
}

# ---- hostile password messages: no crash, and the server's words ----
sub first_message
{
	my ($mechanism, $message, $length) = @_;
	return "$mechanism\0" . pack('N', $length // length $message) . $message;
}

my %hostile = (
	'unknown mechanism' => first_message('SCRAM-SHA-1', 'n,,n=,r=abc'),
	'channel binding without TLS' => first_message('SCRAM-SHA-256-PLUS', 'p=tls-server-end-point,,n=,r=abc'),
	'empty message' => first_message('SCRAM-SHA-256', ''),
	'no nonce' => first_message('SCRAM-SHA-256', 'n,,n=,r='),
	'no attributes' => first_message('SCRAM-SHA-256', 'n,,'),
	'unknown flag' => first_message('SCRAM-SHA-256', 'x,,n=,r=abc'),
	'p flag' => first_message('SCRAM-SHA-256', 'p=tls-unique,,n=,r=abc'),
	'authorization identity' => first_message('SCRAM-SHA-256', 'n,a=bob,n=,r=abc'),
	'mandatory extension' => first_message('SCRAM-SHA-256', 'n,,m=x,n=,r=abc'),
	'embedded NUL' => first_message('SCRAM-SHA-256', "n,,n=,r=a\0bc"),
	'nonce that is not printable' => first_message('SCRAM-SHA-256', "n,,n=,r=a\x01bc"),
	'bytes beyond ASCII' => first_message('SCRAM-SHA-256', "\xff\xfe\xfd"),
	'only commas' => first_message('SCRAM-SHA-256', ',,,,,,'),
	'ends in the middle of an attribute' => first_message('SCRAM-SHA-256', 'n,,n'),
	'very long nonce' => first_message('SCRAM-SHA-256', 'n,,n=,r=' . 'x' x 900));
my %hostile_here = (
	'no NUL behind the mechanism' => 'SCRAM-SHA-256',
	'length beyond the message' => first_message('SCRAM-SHA-256', 'n,,n=,r=abc', 1000),
	'length short of the message' => first_message('SCRAM-SHA-256', 'n,,n=,r=abc', 3),
	'length of 2 GB' => first_message('SCRAM-SHA-256', 'n,,n=,r=abc', 0x7fffffff),
	'length of -2' => first_message('SCRAM-SHA-256', 'n,,n=,r=abc', 0xfffffffe),
	'nothing at all' => '',
	'too long' => first_message('SCRAM-SHA-256', 'n,,n=,r=' . 'x' x 3000));

# The second message, made of the server's nonce.
sub final_message
{
	my ($form) = @_;
	return sub {
		my ($challenge) = @_;
		my ($nonce) = $challenge =~ /r=([^,]*)/;
		return $form =~ s/NONCE/$nonce/r;
	};
}

my $good_first = first_message('SCRAM-SHA-256', 'n,,n=,r=abcdefgh');
my $some_proof = 'p=' . 'A' x 43 . '=';
my %hostile_final = (
	'wrong proof' => final_message("c=biws,r=NONCE,$some_proof"),
	'wrong nonce' => final_message("c=biws,r=xNONCE,$some_proof"),
	'nonce cut' => final_message("c=biws,r=abcdefgh,$some_proof"),
	'wrong channel binding' => final_message("c=eSws,r=NONCE,$some_proof"),
	'no proof' => final_message('c=biws,r=NONCE'),
	'short proof' => final_message('c=biws,r=NONCE,p=AAAA'),
	'proof that is not base64' => final_message('c=biws,r=NONCE,p=*'),
	'something behind the proof' => final_message("c=biws,r=NONCE,$some_proof,x=y"),
	'empty final message' => '',
	'the first message again' => $good_first);

for my $user ('scram_user', 'ghost', 'scram_md5')
{
	for my $name (sort keys %hostile)
	{
		is(login_exchange($port, $user, 'alpha', $hostile{$name}), login_exchange($gateway->port, $user, 'alpha', $hostile{$name}),
			"$user, $name");
	}
	for my $name (sort keys %hostile_here)
	{
		like(login_exchange($port, $user, 'alpha', $hostile_here{$name}), qr/^R 10 \| FATAL 08P01 /, "$user, $name");
	}
	for my $name (sort keys %hostile_final)
	{
		is(login_exchange($port, $user, 'alpha', $good_first, $hostile_final{$name}),
			login_exchange($gateway->port, $user, 'alpha', $good_first, $hostile_final{$name}), "$user, $name");
	}
}

# No initial response: the server asks for it, then goes on as usual.
is(login_exchange($port, 'scram_user', 'alpha', "SCRAM-SHA-256\0\xff\xff\xff\xff", 'n,,n=,r=abcdefgh', final_message("c=biws,r=NONCE,$some_proof")),
	'R 10 | R 11 | R 11 | FATAL 28P01 password authentication failed for user "scram_user"', 'no initial response');

my %hostile_md5 = (
	'empty body' => '', 'empty password' => "\0", 'no NUL' => 'md5', 'two strings' => "md5\0md5\0",
	'NULs' => "\0\0\0", 'not a hash' => "secret\0", 'a hash' => 'md5' . 'a' x 32 . "\0", 'long' => 'm' x 60000 . "\0");
for my $user ('md5_user')
{
	for my $name (sort keys %hostile_md5)
	{
		is(login_exchange($port, $user, 'alpha', $hostile_md5{$name}), login_exchange($gateway->port, $user, 'alpha', $hostile_md5{$name}),
			"$user, $name");
	}
}

# ---- origins, rights and roles change while the client thinks ----
$gateway->safe_psql('postgres', qq{
SELECT hyperpool.create_origin('epsilon', '$connection');
GRANT USAGE ON FOREIGN SERVER epsilon TO PUBLIC;
});
soon_here('a new origin', 'sslmode=disable dbname=epsilon user=md5_user', 'secret_md5', $in);
my $after = sub {
	my ($sql) = @_;
	return sub {
		my ($salt) = @_;
		$gateway->safe_psql('postgres', $sql);
		Time::HiRes::sleep(2);
		return 'md5' . md5_hex(md5_hex('secret_md5md5_user') . $salt) . "\0";
	};
};
is(login_exchange($port, 'md5_user', 'epsilon', $after->(q{SELECT hyperpool.alter_origin('epsilon', pool_size => 5)})),
	'R 5 | R 0 | ready', 'an origin altered during a login');
is(login_exchange($port, 'md5_user', 'epsilon', $after->(q{CREATE ROLE newcomer LOGIN})), 'R 5 | R 0 | ready', 'a role created during a login');
like(login_exchange($port, 'md5_user', 'epsilon', $after->(q{REVOKE USAGE ON FOREIGN SERVER epsilon FROM PUBLIC})),
	qr/^R 5 \| (?:R 0 \| )?FATAL (?:42501|57P01) /, 'USAGE taken away during a login');
$gateway->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER epsilon TO PUBLIC');
soon_here('USAGE is given again', 'sslmode=disable dbname=epsilon user=md5_user', 'secret_md5', $in);
like(login_exchange($port, 'md5_user', 'epsilon', $after->(q{DROP SERVER epsilon CASCADE})),
	qr/^R 5 \| (?:R 0 \| )?FATAL (?:3D000|57P01) /, 'the origin dropped during a login');

# ---- the first packets ----
my $ssl_request = pack('NN', 8, 80877103);
my $gss_request = pack('NN', 8, 80877104);
my $startup = startup_packet(user => 'scram_user', database => 'alpha');

is((raw_answer($port, 1, $gss_request))[0], 'N', 'GSSENCRequest is answered N');
like((raw_answer($port, 2, $gss_request, $startup))[0], qr/^NR.*SCRAM-SHA-256/s, 'and the login may go on in plain text');
is((raw_answer($port, 1, $gss_request, $ssl_request))[0], 'NS', 'or ask for TLS');
my ($answer, $closed) = raw_answer($port, 10, $ssl_request . $startup);
unlike($answer, qr/R\0\0\0/, 'plain text behind SSLRequest is not taken for a login');
ok($closed, 'it ends the connection');

my %direct = (from => '127.0.0.1', port => $port, user => 'scram_user', database => 'alpha');
is(login_verdict(%direct, type => 'direct', openssl_options => [ '-alpn', 'postgresql' ]),
	'asked for SCRAM-SHA-256-PLUS or SCRAM-SHA-256', 'TLS from the first byte, with ALPN');
like(login_verdict(%direct, type => 'direct', openssl_options => [ '-alpn', 'http/1.1' ]), qr/^no verdict over TLS/, 'not with another protocol');
unlike(login_verdict(%direct, type => 'direct'), qr/^(asked|in)/, 'nor without ALPN');
is(login_verdict(%direct, type => 'tls', openssl_options => [ '-alpn', 'postgresql' ]),
	'asked for SCRAM-SHA-256-PLUS or SCRAM-SHA-256', 'TLS by SSLRequest, with ALPN');
like(login_verdict(%direct, type => 'tls', openssl_options => [ '-alpn', 'http/1.1' ]), qr/^no verdict over TLS/, 'not with another protocol');
like(login_verdict(%direct, type => 'tls', openssl_options => ['-tls1_1']), qr/^no verdict over TLS/, 'ssl_min_protocol_version holds');

SKIP:
{
	my ($version) = `psql --version` =~ /(\d+)/;
	skip 'sslnegotiation=direct needs libpq 17', 1 if $version < 17;
	only_here('sslnegotiation=direct', "$tls user=scram_user sslnegotiation=direct", 'secret_scram', $in);
}

# ---- a new certificate counts after a reload, a bad one does not ----
my $key_of_other = $gateway->data_dir . '/loose.key';
write_file($key_of_other, PostgreSQL::Test::Utils::slurp_file("$certs/server.key"), 0644);
my $log_at = -s $gateway->logfile;
$gateway->append_conf('postgresql.conf', "ssl_key_file = '$key_of_other'");
$gateway->reload;
$gateway->wait_for_log(qr/hyperpool: SSL configuration was not reloaded/, $log_at);
only_here('the old TLS settings stay', "$tls user=scram_user", 'secret_scram', $in);
$gateway->append_conf('postgresql.conf', "ssl = off");
$gateway->reload;
soon_here('ssl = off', "$tls user=scram_user", 'secret_scram', qr/does not support SSL/);

# ---- each ssl_* setting has an effect ----
encrypt_key("$certs/server.key", "$certs/encrypted.key", 'passphrase_of_the_key');
make_crl($certs, 'cert_user');
system('openssl', 'genpkey', '-genparam', '-algorithm', 'DH', '-pkeyopt', 'group:ffdhe2048', '-out', "$certs/dh.pem") == 0 or die;
$gateway->append_conf(
	'postgresql.conf', qq{
ssl = on
ssl_key_file = '$certs/encrypted.key'
ssl_passphrase_command = 'echo passphrase_of_the_key'
ssl_max_protocol_version = 'TLSv1.2'
ssl_ciphers = 'DHE-RSA-AES256-GCM-SHA384'
ssl_dh_params_file = '$certs/dh.pem'
ssl_crl_file = '$certs/ca.crl'
});
$gateway->restart;
soon_here('the port is open again', "$tls user=scram_user", 'secret_scram', $in);
same('ssl_passphrase_command', "$tls user=scram_user channel_binding=require", 'secret_scram', $in);
like(PostgreSQL::Test::Utils::slurp_file($gateway->logfile),
	qr/user=scram_user origin=alpha SSL enabled \(TLSv1\.2, DHE-RSA-AES256-GCM-SHA384\)/, 'ssl_max_protocol_version and ssl_ciphers');
only_here('ssl_max_protocol_version', "$tls user=scram_user ssl_min_protocol_version=TLSv1.3", 'secret_scram', qr/SSL error/);
only_here('ssl_crl_file', "$tls user=cert_user " . $cert_of->('cert_user'), undef, qr/revoked/);
same('another certificate of the same CA', "$tls user='CN=dn,O=test' " . $cert_of->('dn'), undef, $in);
$log_at = -s $gateway->logfile;
$gateway->reload;
$gateway->wait_for_log(qr/hyperpool: private key file .* cannot be reloaded because it requires a passphrase/, $log_at);
only_here('the old key stays', "$tls user=scram_user", 'secret_scram', $in);
$gateway->append_conf('postgresql.conf', qq{
ssl_passphrase_command_supports_reload = on
ssl_max_protocol_version = ''
ssl_ciphers = 'HIGH'
ssl_crl_file = ''
});
$gateway->reload;
soon_here('ssl_passphrase_command_supports_reload', "$tls user=cert_user " . $cert_of->('cert_user'), undef, $in);

# ---- the log: told to the administrator, never the secrets ----
only_here('replication', "$plain user=scram_user replication=database", 'secret_scram', qr/^FATAL:  replication connections are not served/);
only_here('a setting the origin refuses', "$plain user=scram_user options='-c nonsense=1'", 'secret_scram', qr/^FATAL:  unrecognized configuration parameter/);
only_here('options that cannot be read', "$plain user=scram_user options='-Z'", 'secret_scram', qr/^FATAL:  /);
only_here('a name of two lines', "$plain user='two\nlines are forged'", 'anything', $failed);
# ---- certificates that are nobody's, many of them ----
my $before = -s $gateway->logfile;
my $strangers = Time::HiRes::time();
IPC::Run::run([ 'sh', '-c', "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do openssl s_client -starttls postgres -connect 127.0.0.1:$port -tls1_2 -cert $certs/stranger.crt -key $certs/stranger.key; done" ],
	'<', \undef, '>', \my $s_client, '2>&1');
$strangers = Time::HiRes::time() - $strangers;

my $log = PostgreSQL::Test::Utils::slurp_file($gateway->logfile);
like(substr($log, $before), qr/could not accept SSL connection: .*\n.*DETAIL:  Client certificate verification failed at depth \d/, 'log, a certificate of an unknown CA');
my $told = () = substr($log, $before) =~ /certificate verification failed/g;
cmp_ok($told, '<=', 2 + $strangers, "log, one a second: $told of 12");
like($log, qr/hyperpool: connection authorized: user=scram_user origin=alpha/, 'logins are logged');
like($log, qr/hyperpool: connection authorized: user=cert_user origin=alpha SSL enabled \(TLS/, 'with their TLS');
like($log, qr/login refused: password authentication failed for user "$_->[0]"\n.*DETAIL:  $_->[1]/, "log, $_->[0]")
  for ['ghost', 'The role does not exist'], ['nopassword_user', 'The user has no password assigned'],
	['expired_user', 'The user has an expired password'], ['scram_md5', '.*does not have a valid SCRAM secret'];
like($log, qr/login refused: $_->[0].*\n.*CONTEXT:  login from host "127\.0\.0\.1", user "scram_user", database "alpha"$/m, "log, $_->[1]")
  for ['replication connections are not served', 'replication'], ['unrecognized configuration parameter "nonsense"', 'a setting the origin refuses'],
	['invalid command-line argument', 'options that cannot be read'];
like($log, qr/login refused: password authentication failed for user "two\n\tlines are forged"\n/, 'log, a name of two lines');
unlike($log, qr/secret_(?:scram|md5|both|full|ca|nologin|expired|other)|passphrase_of|SCRAM-SHA-256\$|md5[0-9a-f]{32}/, 'no secret in the log');

unlike($log, qr/terminated by signal/, 'no process has crashed');

# ---- authentication_timeout, at every step ----
$gateway->append_conf('postgresql.conf', "authentication_timeout = 2s");
$gateway->reload;
Time::HiRes::sleep(2);
my %silent = (
	'nothing' => [''], 'half a startup packet' => [ substr($startup, 0, 10) ], 'a startup packet' => [$startup],
	'SSLRequest' => [$ssl_request], 'half a TLS handshake' => [ $ssl_request, "\x16\x03\x01\x02\x00\x01" ],
	'half a password message' => [ $startup, "p\0\0\1" ]);
for my $name (sort keys %silent)
{
	my $began = Time::HiRes::time();
	my ($said, $ended) = raw_answer($port, 15, @{ $silent{$name} });
	my $took = Time::HiRes::time() - $began;
	ok($ended && $took > 1, "authentication_timeout ends a client that sends $name, and then no more");
	like($said, qr/C57014\0/, 'which is told why') if $name =~ /a startup packet$/ && $name !~ /half/;
}
like(PostgreSQL::Test::Utils::slurp_file($gateway->logfile), qr/login refused: canceling authentication due to timeout$/m, 'the log says so');
is($gateway->safe_psql('postgres', 'SELECT 1'), '1', 'the instance lives');

$gateway->stop;
$origin->stop;
done_testing();
