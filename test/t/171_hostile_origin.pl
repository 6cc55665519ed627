# What an origin can do to the gateway in a login: a SCRAM challenge of two billion rounds, by TLS or not, in pieces or with its head sent ahead; parameters and notices without end;
# silence. Its own clients get an error; worker, scout and the backend of check_origin go on, and nothing of it fills memory or log.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use HostileOrigin;
use LoginClient qw(make_certificates write_file);
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $most = 2147483647;

sub proof_is_read
{
	my ($c) = @_;
	my ($type, $body) = HostileOrigin::read_message($c);
	HostileOrigin::put($c, HostileOrigin::error('28P01', $body =~ /,p=/ ? 'a proof was read' : 'no proof'));
	return;
}

my %behaviours;
%behaviours = (
	bearable => sub { my ($c) = @_; HostileOrigin::put($c, HostileOrigin::challenge(HostileOrigin::ask_scram($c), 5000)); proof_is_read($c); },
	hard => sub { my ($c) = @_; HostileOrigin::put($c, HostileOrigin::challenge(HostileOrigin::ask_scram($c), $most)); proof_is_read($c); },
	dripped => sub { my ($c) = @_; my $all = HostileOrigin::challenge(HostileOrigin::ask_scram($c), $most); for (split //, $all) { HostileOrigin::put($c, $_); sleep 0.005; } proof_is_read($c); },
	ahead => sub
	{
		my ($c) = @_;
		# the length of the nonce is known beforehand: libpq's has 24 characters
		my $head = substr(HostileOrigin::challenge('x' x 24, $most), 0, 11);
		my $nonce = HostileOrigin::ask_scram($c, $head);
		HostileOrigin::put($c, substr(HostileOrigin::challenge($nonce, $most), 11));
		proof_is_read($c);
	},
	# the question for SCRAM and the head came with the answer to SSLRequest
	early => sub
	{
		my ($c) = @_;
		my (undef, $body) = HostileOrigin::read_message($c);
		my ($nonce) = $body =~ /r=(.*)$/s;
		HostileOrigin::put($c, substr(HostileOrigin::challenge($nonce, $most), 11));
		proof_is_read($c);
	},
	parameters => sub
	{
		my ($c) = @_;
		HostileOrigin::put($c, HostileOrigin::authentication(0));
		HostileOrigin::put($c, HostileOrigin::parameter("p$_", 'x' x 20000)) for 1 .. 20000;
	},
	notices => sub
	{
		my ($c) = @_;
		HostileOrigin::put($c, HostileOrigin::authentication(0));
		HostileOrigin::put($c, RawClient::message('N', "SNOTICE\0C00000\0Mnoticed by nobody\0\0")) for 1 .. 100000;
	},
	# CVE-2026-6665: a nonce as long as the message may be, and longer
	nonce => sub { my ($c) = @_; HostileOrigin::put($c, HostileOrigin::challenge(HostileOrigin::ask_scram($c) . 'n' x 1900, 4096)); proof_is_read($c); },
	'longer nonce' => sub { my ($c) = @_; HostileOrigin::put($c, HostileOrigin::challenge(HostileOrigin::ask_scram($c) . 'n' x 100000, 4096)); proof_is_read($c); },
	# CVE-2026-6666: errors without an SQLSTATE, in the login and behind it
	'no code' => sub { my ($c) = @_; HostileOrigin::put($c, RawClient::message('E', "SFATAL\0\0")); },
	'no codes' => sub
	{
		my ($c) = @_;
		HostileOrigin::put($c, HostileOrigin::authentication(0) . HostileOrigin::parameter('server_version', '15.0') . HostileOrigin::parameter('client_encoding', 'UTF8')
			  . RawClient::message('K', pack('NN', 1, 2)) . RawClient::message('Z', 'I'));
		while (my ($type) = HostileOrigin::read_message($c))
		{
			HostileOrigin::put($c, RawClient::message('E', "\0") . RawClient::message('Z', 'I')) if $type =~ /[QS]/;
		}
	},
	'endless row' => sub
	{
		my ($c) = @_;
		HostileOrigin::put($c, HostileOrigin::authentication(0) . HostileOrigin::parameter('server_version', '15.0') . HostileOrigin::parameter('client_encoding', 'UTF8') . RawClient::message('Z', 'I'));
		HostileOrigin::read_message($c);
		HostileOrigin::put($c, RawClient::message('T', pack('n', 1) . "x\0" . pack('NnNnNn', 0, 0, 25, 65535, 0xffffffff, 0)) . 'D' . pack('NnN', 0x3ffffff0, 1, 0x3fffffe0));
		HostileOrigin::put($c, 'x' x 1_000_000) for 1 .. 1000;
	},
	# whatever is asked behind a SET, as what has been set
	'endless setting' => sub
	{
		my ($c) = @_;
		my $asked = '';
		HostileOrigin::put($c, HostileOrigin::authentication(0) . HostileOrigin::parameter('server_version', '15.0') . HostileOrigin::parameter('client_encoding', 'UTF8')
			  . RawClient::message('K', pack('NN', 1, 2)) . RawClient::message('Z', 'I'));
		while (my ($type, $body) = HostileOrigin::read_message($c))
		{
			HostileOrigin::put($c, RawClient::message('C', "SET\0") . RawClient::message('Z', 'I')) if $type eq 'Q';
			$asked .= $body;
			last if $type eq 'S' && $asked =~ /pg_settings/;
			HostileOrigin::put($c, RawClient::message('Z', 'I')) if $type eq 'S';
		}
		HostileOrigin::put($c, RawClient::message('1', '') . RawClient::message('2', '') . 'D' . pack('NnN', 0x3ffffff0, 2, 0x3fffffe0));
		HostileOrigin::put($c, 'x' x 1_000_000) for 1 .. 200;
		sleep 60;
	},
	# another proof than a password, at once or behind the answer to a challenge
	kerberos => sub { my ($c) = @_; HostileOrigin::put($c, HostileOrigin::authentication(7)); HostileOrigin::read_message($c); HostileOrigin::put($c, HostileOrigin::error('28P01', 'a ticket was read')); },
	'kerberos behind' => sub
	{
		my ($c) = @_;
		HostileOrigin::put($c, HostileOrigin::challenge(HostileOrigin::ask_scram($c), 4096));
		HostileOrigin::read_message($c);
		$behaviours{kerberos}->($c);
	},
	http => sub { my ($c) = @_; HostileOrigin::put($c, "HTTP/1.1 400 Bad Request\r\n\r\n"); },
	half => sub { my ($c) = @_; HostileOrigin::put($c, "R\0\0"); },
	silent => sub { sleep 60; },
);
my $plain = HostileOrigin->new(behaviours => \%behaviours);
my $early = HostileOrigin->new(behaviours => \%behaviours,
	ahead => HostileOrigin::authentication(10, "SCRAM-SHA-256\0\0") . substr(HostileOrigin::challenge('x' x 24, $most), 0, 11));

my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);
my $gateway = Gateway->new(create => 0, origin_settings => qq{
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
$gateway->create('app', 'cache => true');
my $region = $gateway->{region};

# Not by create_origin, which would try it.
sub make_origin
{
	my ($name, $hostile, $database, $user, $more) = @_;
	$more //= '';
	$gateway->sql(qq{CREATE SERVER "$name" FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1', port '$hostile->{port}', dbname '$database', connect_timeout '2s', allow_trust 'true'$more);
CREATE USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS (user '$user', password 'sesame', password_required 'false'); GRANT USAGE ON FOREIGN SERVER "$name" TO PUBLIC});
	return;
}
my @names = (qw(bearable hard dripped ahead early parameters notices nonce), 'longer nonce', 'no code', 'http', 'half', 'silent');
make_origin($_, $_ eq 'early' ? $early : $plain, $_, 'app') for @names;

# By TLS: PostgreSQL itself, with verifiers that somebody has made up.
my $origin = $gateway->{origin};
my $keys = encode_base64('salt', '') . '$' . join ':', map { encode_base64($_ x 32, '') } 'a', 'b';
for my $role ([ 'bearable', 5000 ], [ 'hard', $most ])
{
	# CREATE ROLE would compute it, to see whether the password is empty
	$origin->safe_psql('postgres', "CREATE ROLE $role->[0] LOGIN; UPDATE pg_authid SET rolpassword = 'SCRAM-SHA-256\$$role->[1]:$keys' WHERE rolname = '$role->[0]'");
	make_origin("tls $role->[0]", { port => $origin->port }, 'app', $role->[0], q{, sslmode 'require'});
}
my $hba = $origin->data_dir . '/pg_hba.conf';
write_file($hba, "hostssl all bearable,hard all scram-sha-256\n" . PostgreSQL::Test::Utils::slurp_file($hba));
$origin->reload;
$gateway->learn('app');
my ($worker) = $gateway->worker_pids;
my $scout = $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool scout'});
my $healthy = $gateway->client;
$healthy->value('SELECT 1');
my $before = Gateway::private_memory($worker);
my $scout_before = Gateway::private_memory($scout);

# What a client is told: it may have been told that the origin is not known yet.
sub told
{
	my ($name) = @_;
	my $text = '';
	Gateway::wait_until(sub
	{
		eval { $gateway->client(database => $name, seconds => 30); 1 } and die "somebody was let in to $name";
		$text = $@;
		return $text =~ /3D000|trust authentication is not allowed/ ? 'unknown' : 'known';
	}, 'known');
	return $text;
}

sub others_go_on
{
	my ($what) = @_;
	is($healthy->value("SELECT 'healthy'"), 'healthy', "$what: a client of another origin is served");
	is($gateway->sql(q{SELECT hyperpool.refresh_catalog('app', '60s')}), '', "$what: the scout is at work");
	return;
}

sub checked
{
	my ($name) = @_;
	return $gateway->sql(qq{SET statement_timeout = '20s'; SELECT message FROM hyperpool.check_origin('$name') WHERE NOT ok});
}

my %expected = (
	bearable => qr/28P01 (a proof was read|password authentication failed)/,
	hard => qr/53400 .*max_scram_iterations/,
	dripped => qr/53400 .*max_scram_iterations/,
	ahead => qr/53400 .*max_scram_iterations/,
	early => qr/08001 .*timeout|08P01/,
	parameters => qr/08P01 .*more in its login/,
	notices => qr/08P01 .*more in its login/,
	nonce => qr/28P01 a proof was read/,
	'longer nonce' => qr/08P01 .*no message of PostgreSQL/,
	'no code' => qr/FATAL \w{5} /,
	http => qr/08P01 .*no message of PostgreSQL/,
	half => qr/08001/,
	silent => qr/08001 .*timeout/,
);
for my $name (@names, 'tls bearable', 'tls hard')
{
	my $expected = $expected{ $name =~ s/^tls //r };
	like(told($name), $expected, "$name: what its clients are told");
	others_go_on($name);
	next if $name =~ /early|notices|nonce|code|http|half|silent/;
	like(checked($name), $name =~ /bearable/ ? qr/password authentication failed/ : $name =~ /parameters/ ? qr/more in its login/ : qr/max_scram_iterations/, "$name: check_origin has not computed either");
}
make_origin('no codes', $plain, 'no codes', 'app');
my $codeless;
Gateway::wait_until(sub { $codeless = eval { $gateway->client(database => 'no codes', seconds => 5) } ? 'in' : '' }, 'in');
is($codeless, 'in', 'an origin that answers with errors of no SQLSTATE lets its clients in');
my $client = $gateway->client(database => 'no codes');
ok($client->query("SELECT $_", 10), 'they get what it says') for 1 .. 3;
ok($client->extended('SELECT $1', 'x'), 'by extended messages, too');
others_go_on('no codes');
for my $name ('kerberos', 'kerberos behind')
{
	make_origin($name, $plain, $name, 'app');
	$gateway->sql(qq{ALTER USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS (SET password_required 'true')});
	like(told($name), qr/2F003 .*own identity/, "$name: the server's own identity is not for a credential that must use its password");
	like($gateway->sql(qq{SELECT coalesce(string_agg(message, ''), '') FROM hyperpool.check_origin('$name') WHERE NOT ok}), qr/own identity/, 'check_origin');
}
make_origin('endless setting', $plain, 'endless setting', 'app');
my $setting;
Gateway::wait_until(sub { $setting = eval { $gateway->client(database => 'endless setting', seconds => 5) } ? 'in' : '' }, 'in');
$client = $gateway->client(database => 'endless setting');
is($client->query('SET work_mem = 1000')->{tags}[0], 'SET', 'a SET');
is($gateway->wait_for(q{SELECT bytes_from_origin > 150000000 FROM hyperpool.stat_origins WHERE origin = 'endless setting'}, 't', 60), 't', 'whose settings are a row of a gigabyte');
my $kept = Gateway::private_memory($worker) - $before;
cmp_ok($kept, '<', 32 * 1024, "is not kept by the worker: $kept kB");
others_go_on('endless setting');
make_origin('endless row', $plain, 'endless row', 'app');
$gateway->wait_for(q{SELECT count(*) FROM hyperpool.stat_origins WHERE origin = 'endless row'}, '1');
$gateway->try_sql(q{SELECT hyperpool.refresh_catalog('endless row', '60s')});
is($gateway->wait_for(q{SELECT facts_failure ~ 'cannot allocate memory' FROM hyperpool.stat_origins WHERE origin = 'endless row'}, 't'), 't', 'a row of a gigabyte is not kept by the scout');
is($gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool scout'}), $scout, 'which goes on');

# ---- the scout, too: it is asked for their catalogs ----
$gateway->try_sql(qq{SELECT hyperpool.refresh_catalog('$_', '1s')}) for qw(hard dripped ahead parameters);
like($gateway->wait_for(q{SELECT facts_failure ~ 'max_scram_iterations' FROM hyperpool.stat_origins WHERE origin = 'hard'}, 't'), qr/t/, 'the scout has refused as well, and says so');
others_go_on('the scout');

# ---- the setting ----
$region->append_conf('postgresql.conf', 'hyperpool.max_scram_iterations = 4999');
$region->reload;
like(Gateway::wait_until(sub { told('bearable') =~ /53400/ ? 'refused' : 'tried' }, 'refused'), qr/refused/, 'hyperpool.max_scram_iterations: 5000 are too many by now');

my $grown = Gateway::private_memory($worker) - $before;
cmp_ok($grown, '<', 32 * 1024, "the worker grew by $grown kB");
$grown = Gateway::private_memory($scout) - $scout_before;
cmp_ok($grown, '<', 32 * 1024, "the scout grew by $grown kB");
unlike(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/noticed by nobody/, 'notices of a login are not in the log');
$gateway->is_unharmed('afterwards');
done_testing();
