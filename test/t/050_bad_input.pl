# Bytes that no client should send: each gets a FATAL or ERROR or the end of its connection, within a time; nobody else notices. (case 21 of docs/testing.md)
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use LoginClient qw(make_certificates);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(time);

my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);
my $gateway = Gateway->new(settings => qq{
authentication_timeout = 1s
ssl = on
ssl_cert_file = '$certificates/server.crt'
ssl_key_file = '$certificates/server.key'
});
$gateway->sql(q{SET password_encryption = 'scram-sha-256'; CREATE ROLE careful LOGIN PASSWORD 'careful'; SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'old'});
my $hba = PostgreSQL::Test::Utils::slurp_file($gateway->{region}->data_dir . '/pg_hba.conf');
LoginClient::write_file($gateway->{region}->data_dir . '/pg_hba.conf', "host app careful all scram-sha-256\nhost app old all md5\n$hba");
$gateway->{region}->reload;
Gateway::wait_until(sub { substr(login_bytes('careful')->{in}, 0, 1) eq 'R' ? 'asked' : 'not' }, 'asked');

my $started = $gateway->sql('SELECT pg_postmaster_start_time()');
my @processes = $gateway->worker_pids;
my $healthy = $gateway->client;
my ($healthy_answers, $healthy_bad) = (0, 0);

sub others_go_on
{
	$healthy_bad++ if $healthy->value('SELECT 9') ne '9';
	$healthy_answers++;
}

sub connection { return RawClient->new(port => $gateway->{port}, login => 0); }

# What came back of the questions of authentication.
sub login_bytes
{
	my ($user) = @_;
	my $c = connection();
	$c->put_raw(RawClient::startup_packet(user => $user, database => 'app'));
	IO::Select->new($c->{socket})->can_read(5);
	$c->pull;
	return $c;
}

# Sends the bytes, on a new connection or one given; it must be closed in time. What was said before, as SQLSTATE or ''.
sub ends
{
	my ($what, $wanted, $bytes, $c) = @_;
	$c //= connection();
	$c->put_raw($bytes);
	my $closed = $c->is_closed(10);
	ok($closed, "$what: the connection ends");
	my $said = $c->{in} =~ /E....S(FATAL|ERROR)\0.*?\0C(\w{5})\0/s ? $2 : '';
	like($said, $wanted, "$what: says " . ($said || 'nothing'));
	others_go_on();
	return $c;
}

sub startup { return pack('N', 8 + length $_[1]) . pack('N', $_[0]) . $_[1]; }

# ---- startup packets ----
my $v3 = 0x00030000;
my $violation = qr/^08P01$/;
my $nothing = qr/^$|^08P01$/;
ends('length 0', $nothing, pack('N', 0));
ends('length 3', $nothing, pack('N', 3) . 'abc');
ends('length 7', $nothing, pack('N', 7) . 'abc');
ends('a giant length', $nothing, pack('N', 0x7fffffff));
ends('a negative length', $nothing, pack('N', 0xffffffff));
ends('a little over the limit', $nothing, pack('N', 10001));
ends('HTTP', $nothing, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
ends('no terminator', $violation, startup($v3, "user\0app\0database\0app"));
ends('a name without a value', $violation, startup($v3, "user\0"));
ends('bytes behind the end', $violation, startup($v3, "user\0app\0database\0app\0\0rubbish"));
ends('nothing at all', qr/^28000$|^08P01$/, startup($v3, "\0"));
ends('no user', qr/^28000$/, startup($v3, "database\0app\0\0"));
ends('an empty user', qr/^28000$/, startup($v3, "user\0\0database\0app\0\0"));
ends('protocol 2', qr/^0A000$/, startup(0x00020000, "user\0app\0\0"));
ends('protocol 4', qr/^0A000$/, startup(0x00040000, "user\0app\0\0"));
ends('no such origin', qr/^3D000$|^28000$/, startup($v3, "user\0app\0database\0" . 'x' x 5000 . "\0\0"));
ends('a long user', qr/^28\w\w\w$/, startup($v3, "user\0" . 'x' x 5000 . "\0database\0app\0\0"));
ends('bytes that are no UTF-8', qr/^28\w\w\w$|^3D000$/, startup($v3, "user\0\xff\xfe\x80\0database\0\xc0\x80\0\0"));
ends('a setting that is none', qr/^4\w{4}$|^2\w{4}$/, startup($v3, "user\0app\0database\0app\0no_such_setting\0x\0\0"));
ends('options that cannot be read', qr/^42601$|^4\w{4}$|^2\w{4}$/, startup($v3, "user\0app\0database\0app\0options\0--x\0\0"));
ends('replication', qr/^0A000$/, startup($v3, "user\0app\0database\0app\0replication\0true\0\0"));
ends('a cancel of the wrong length', qr/^$/, pack('NN', 12, 80877102) . 'abcd');
ends('a cancel with a giant key', $nothing, pack('NN', 8 + 5000, 80877102) . 'k' x 5000);
ends('silence', qr/^57014$|^$/, '');
ends('half a startup packet, then silence', qr/^57014$|^$/, substr(startup($v3, "user\0app\0\0"), 0, 9));

# ---- behind SSLRequest ----
my $ssl = pack('NN', 8, 80877103);
ends('plaintext in the same packet as SSLRequest', $nothing, $ssl . RawClient::startup_packet(user => 'app', database => 'app'));
my $c = connection();
$c->put_raw($ssl);
IO::Select->new($c->{socket})->can_read(5);
ends('plaintext behind SSLRequest', $nothing, RawClient::startup_packet(user => 'app', database => 'app'), $c);
$c = connection();
$c->put_raw($ssl);
IO::Select->new($c->{socket})->can_read(5);
ends('a TLS record of rubbish', qr/^$/, "\x16\x03\x01\x40\x00" . 'r' x 16384, $c);
ends('direct TLS of rubbish', qr/^$|^08P01$/, "\x16\x03\x01\x00\x05hello");
ends('SSLRequest twice', $nothing, $ssl . $ssl);
my $gss = pack('NN', 8, 80877104);
$c = connection();
$c->put_raw($gss);
IO::Select->new($c->{socket})->can_read(5);
ends('GSSENCRequest twice', qr/^0A000$|^08P01$/, $gss . $gss, $c);

# ---- authentication ----
sub p { return RawClient::message('p', $_[0]); }
ends('a Query instead of a password', qr/^08P01$/, RawClient::message('Q', "SELECT 1\0"), login_bytes('careful'));
ends('a password of a giant length', $nothing, 'p' . pack('N', 0x7fffffff), login_bytes('careful'));
ends('a password of length 0', $nothing, 'p' . pack('N', 0), login_bytes('careful'));
ends('a password of 100 kB', $nothing, p('x' x 100000), login_bytes('old'));
ends('an md5 answer that is none', qr/^28P01$/, p("hello\0"), login_bytes('old'));
ends('an empty md5 answer', qr/^28P01$/, p("\0"), login_bytes('old'));
ends('an md5 answer without an end', $violation, p('hello'), login_bytes('old'));
ends('an unknown mechanism', qr/^08P01$/, p("SCRAM-MD5\0" . pack('N', 3) . 'n,,'), login_bytes('careful'));
ends('a mechanism without an end', qr/^08P01$/, p('SCRAM-SHA-256'), login_bytes('careful'));
ends('a SASL length that lies', qr/^08P01$/, p("SCRAM-SHA-256\0" . pack('N', 5000) . 'n,,n=,r=x'), login_bytes('careful'));
ends('no initial SASL response, then silence', qr/^57014$/, p("SCRAM-SHA-256\0" . pack('N', 0xffffffff)), login_bytes('careful'));
ends('a negative SASL length', qr/^08P01$/, p("SCRAM-SHA-256\0" . pack('N', 0xfffffffe)), login_bytes('careful'));
ends('SCRAM rubbish', qr/^08P01$|^28P01$/, p("SCRAM-SHA-256\0" . pack('N', 7) . 'rubbish'), login_bytes('careful'));
ends('SCRAM with NUL', qr/^08P01$/, p("SCRAM-SHA-256\0" . pack('N', 11) . "n,,n=\0,r=xy"), login_bytes('careful'));
ends('PLUS without TLS', qr/^08P01$|^28\w\w\w$/, p("SCRAM-SHA-256-PLUS\0" . pack('N', 9) . 'y,,n=,r=x'), login_bytes('careful'));
$c = login_bytes('careful');
$c->put_raw(p("SCRAM-SHA-256\0" . pack('N', 32) . 'n,,n=,r=abcdefghijklmnopqrstuvwx'));
IO::Select->new($c->{socket})->can_read(5);
ends('a SCRAM proof that is none', qr/^08P01$|^28P01$/, p('c=biws,r=abcdefghijklmnopqrstuvwx,p=AAAA'), $c);
ends('one message instead of two', qr/^28P01$|^08P01$/, p("SCRAM-SHA-256\0" . pack('N', 9) . 'n,,n=,r=x') x 2, login_bytes('careful'));

# ---- after the login ----
ends('an unknown type', qr/^08P01$/, RawClient::message('y', 'what'), $gateway->client);
ends('type 0', qr/^08P01$/, RawClient::message("\0", ''), $gateway->client);
ends('type 255', qr/^08P01$/, RawClient::message("\xff", 'x' x 100), $gateway->client);
ends("a server's message", qr/^08P01$/, RawClient::message('T', "\0\0"), $gateway->client);
ends('a password again', qr/^08P01$/, p("secret\0"), $gateway->client);
ends("$_->[0]: length $_->[1]", $nothing, $_->[0] . pack('N', $_->[1]), $gateway->client)
  for map { my $type = $_; map { [ $type, $_ ] } 0, 3, 0xffffffff, 0x80000000 } qw(Q P B E D C S H F d c f X);

# ---- contents that lie: an ERROR, and the client goes on ----
sub goes_on
{
	my ($what, $sqlstate, $bytes) = @_;
	my $client = $gateway->client;
	$client->put_raw($bytes);
	my $answer = $client->answer(10);
	like($answer->{error}{C} // 'nothing', $sqlstate, $what);
	is($client->value('SELECT 3'), '3', "$what: and goes on") if !$answer->{closed};
	ok($answer->{done} || $answer->{closed}, "$what: not in silence");
	$client->terminate;
	others_go_on();
}
my $sync = RawClient::message('S', '');
goes_on('a Query without an end', qr/^08P01$/, RawClient::message('Q', 'SELECT 1'));
goes_on('a Query with bytes behind', qr/^08P01$/, RawClient::message('Q', "SELECT 1\0rest"));
goes_on('an empty Parse', qr/^08P01$/, RawClient::message('P', '') . $sync);
goes_on('a Parse that counts too many types', qr/^08P01$/, RawClient::message('P', "\0SELECT 1\0" . pack('n', 1000)) . $sync);
goes_on('an empty Bind', qr/^08P01$/, RawClient::message('B', '') . $sync);
goes_on('a Bind with 65535 formats', qr/^08P01$/, RawClient::message('P', "\0SELECT 1\0\0\0") . RawClient::message('B', "\0\0" . pack('n', 65535)) . $sync);
goes_on('a Bind whose value is longer than it', qr/^08P01$/, RawClient::message('P', "\0SELECT \$1\0\0\0") . RawClient::message('B', "\0\0" . pack('nnN', 0, 1, 0x7ffffff0) . 'x') . $sync);
goes_on('a Bind with a negative length', qr/^08P01$/, RawClient::message('P', "\0SELECT \$1\0\0\0") . RawClient::message('B', "\0\0" . pack('nnN', 0, 1, 0xfffffffe) . "\0\0") . $sync);
goes_on('an empty Execute', qr/^08P01$/, RawClient::message('E', '') . $sync);
goes_on('a Describe of nothing', qr/^08P01$/, RawClient::message('D', '') . $sync);
goes_on('a Describe of type X', qr/^08P01$/, RawClient::message('D', "X\0") . $sync);
goes_on('a Close of type X', qr/^08P01$/, RawClient::message('C', "X\0") . $sync);
goes_on('a FunctionCall of rubbish', qr/^08P01$/, RawClient::message('F', 'xx'));

# ---- seeded rubbish, as startup packets and behind a login ----
my $seed = $ENV{SEED} // 20240511;
srand($seed);
note("seed $seed");

sub rubbish
{
	my @types = split //, 'QPBEDCSHFdcfXpZTR';
	return join '', map { chr int rand 256 } 1 .. int rand 200 if rand() < 0.3;
	my $bytes = '';
	for (1 .. 1 + int rand 12)
	{
		my $body = rand() < 0.5 ? join('', map { chr int rand 256 } 1 .. int rand 60)
		  : (("\0SELECT \$1::int\0\0\0", "\0\0\0\0\0\1\0\0\0\1" . '5' . "\0\0", "S\0", "P\0", "\0\0\0\0\0", "SELECT 1\0", "BEGIN\0", '', "s\0SELECT 2\0\0\0")[ rand 9 ]);
		my $length = 4 + length $body;
		$length += int(rand 9) - 4 if rand() < 0.15;
		$length = int rand 2**32 if rand() < 0.03;
		$bytes .= $types[ rand @types ] . pack('N', $length & 0xffffffff) . $body;
	}
	return $bytes;
}

my $until = time() + 5;
my $count = 0;
my @held;
while (time() < $until || $count <= 100)
{
	my $client = rand() < 0.3 ? connection() : $gateway->client;
	$client->put_raw(rubbish(), 1);
	$client->is_answered(0);
	push @held, $client;
	shift(@held)->vanish if @held > 20;
	others_go_on() if ++$count % 5 == 0;
}
$_->vanish for @held;
note("$count clients full of rubbish");

# ---- the others ----
is($healthy_bad, 0, "a healthy client was served $healthy_answers times meanwhile");
is($gateway->sql('SELECT pg_postmaster_start_time()'), $started, 'the instance was not restarted');
is(join(' ', $gateway->worker_pids), "@processes", 'nor a worker');
is($gateway->wait_for('SELECT cl_waiting + cl_active FROM hyperpool.pools', '0'), '0', 'nobody is left over');
$gateway->is_unharmed('afterwards');
done_testing();
