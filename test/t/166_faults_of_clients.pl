# The way between the clients and hyperpool breaks: reset, cut in the middle of a message, a few bytes at a time, silence, gone without a word, TLS that ends without saying so. What a
# client had not said whole is not done, nothing of it stays at the origin or in the gateway, and clients that are connected otherwise notice nothing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Faults qw(nothing_is_left);
use Gateway;
use IPC::Run ();
use LoginClient qw(make_certificates);
use PostgreSQL::Test::Utils;
use RawClient;
use Relay;
use Test::More;
use Time::HiRes qw(sleep time);

my $certificates = PostgreSQL::Test::Utils::tempdir();
make_certificates($certificates);
my $gateway = Gateway->new(options => q{pool_size => 8, cache => true, idle_transaction_timeout => '3s'},
	settings => "ssl = on\nssl_cert_file = '$certificates/server.crt'\nssl_key_file = '$certificates/server.key'");
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables; CREATE TABLE large AS SELECT i, repeat(md5(i::text), 256) AS t FROM generate_series(1, 200) i");
$gateway->learn('app');
my $way = Relay->new($gateway->{port});
my $descriptors = Faults::other_descriptors($gateway);

# ---- under load: some come by the way that breaks, others directly ----
my @faults = (
	[ 'connections are reset', qw(reset reset) ],
	[ 'answers are lost', 'stall answered', 'reset', 'resume' ],
	[ 'requests are lost', 'stall asked', 'reset', 'resume' ],
	[ 'answers are cut', 'cut 900', 'cut off' ],
	[ 'requests are cut', 'cut asked 100', 'cut asked 300', 'cut off' ],
	[ 'the streams end early', 'truncate 1000', 'truncate asked 200', 'cut off' ],
	[ 'they vanish without a word', 'vanish' ],
);
my $first = 0;
for my $fault (@faults)
{
	my ($what, @break) = @$fault;
	my $others = Faults->new($gateway, clients => 4, first => $first);
	my $crowd = Faults->new($gateway, clients => 10, first => $first + 4, port => $way->{port});
	$crowd->run(0.3, map { my $command = $_; sub { $way->tell($command); $others->go_on(0.1); } } @break);
	is($crowd->all_are_served . $others->all_are_served, '', "$what: then all are served");
	$_->go for $crowd, $others;
	$crowd->is_right($origin, $what, qr/^none$/);
	$others->is_right($origin, "the others, while $what", qr/^none$/);
	is($others->{closed}, 0, "the others, while $what: none is thrown out");
	$first += 14;
}
nothing_is_left($gateway, 'cut clients', $descriptors);

# ---- slow is no error ----
for my $slow ([ 'a few bytes at a time', 'drip 10', 'drip off' ], [ 'a second of silence', 'stall', 'resume' ])
{
	my ($what, $begin, $end) = @$slow;
	my $crowd = Faults->new($gateway, clients => 10, first => $first, port => $way->{port});
	$crowd->run(0.4, sub { $way->tell($begin); }, sub { $crowd->go_on(1); }, sub { $way->tell($end); });
	is($crowd->all_are_served, '', "$what: all are served");
	$crowd->go;
	$crowd->is_right($origin, $what, qr/^none$/);
	is($crowd->{closed}, 0, "$what: no client is lost");
	$first += 10;
}

# ---- who stops reading a long answer and goes on later has it whole ----
my $reader = $gateway->client(port => $way->{port});
$way->tell('stall answered');
$reader->ask('SELECT t FROM large');
is($gateway->client->value('SELECT 1'), '1', 'a client does not read: others are served');
$way->tell('resume');
my $answer = $reader->answer(30);
is(scalar @{ $answer->{rows} }, 200, 'it has all rows when it reads');
is(length join('', map { $_->[0] } @{ $answer->{rows} }), 200 * 32 * 256, 'whole ones');

# ---- who says its last word and then reads has its answer whole, where that came from the cache too ----
my $last = $gateway->client(socket_dir => $gateway->{region}->host);
is((Cached::warm($gateway, $last, 'SELECT t FROM large'))[0], 'hit', 'a long answer is in the cache');
$last->ask('SELECT t FROM large');
shutdown($last->{socket}, 1);
sleep 0.5;
is(scalar @{ $last->answer(30)->{rows} }, 200, 'a client closes its sending side and reads its answer later: it has all rows');
ok($last->is_closed(10), 'and then it is closed');

# ---- gone without a word, in a transaction: what limits it is idle_transaction_timeout ----
$reader->query('BEGIN');
$reader->query('INSERT INTO ledger VALUES (-1, 1)');
$way->tell('vanish');
is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'idle in transaction'}, '0', 20), '0', 'gone without a word in a transaction: ended by idle_transaction_timeout');
is($origin->safe_psql('app', 'SELECT count(*) FROM ledger WHERE client = -1'), '0', 'and rolled back');

# ---- TLS that ends without close_notify ----
# What psql says by a way that ends after so many bytes: (0 if all went well, its output).
sub psql_by_tls
{
	my ($cut, $input) = @_;
	my $file = "$certificates/input";
	LoginClient::write_file($file, $input);
	$way->tell($cut);
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', "host=127.0.0.1 port=$way->{port} user=app dbname=app sslmode=require" ], '<', $file, '>', \my $out, '2>', \my $errors,
		IPC::Run::timeout(60));
	my $code = $?;
	$way->tell('cut off');
	return ($code, $out);
}

my $copy = "SELECT 'in';\nCOPY ledger FROM STDIN;\n" . join('', map { "-2\t$_\t" . 'x' x 100 . "\n" } 1 .. 5000) . "\\.\nSELECT 'after';\n";
my $read = "SELECT 'in';\nSELECT t FROM large;\nSELECT 'after';\n";
for my $bytes (10_000, 50_000, 300_000)
{
	my ($code, $out) = psql_by_tls("truncate asked $bytes", $copy);
	isnt($code, 0, "TLS cut after $bytes bytes of a copy: the client is told");
	is($out, "in\n", 'and does not go on');
	is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients WHERE tls', '0'), '0', 'the gateway lets it go');
	is($origin->safe_psql('app', 'SELECT count(*) FROM ledger WHERE client = -2'), '0', 'nothing of the copy was taken');
	($code, $out) = psql_by_tls("truncate $bytes", $read);
	isnt($code, 0, "TLS cut after $bytes bytes of an answer: the client is told");
	unlike($out, qr/after/, 'and does not go on');
}
is((psql_by_tls('cut off', $copy))[0], 0, 'TLS that is not cut: all is well');
is($origin->safe_psql('app', 'SELECT count(*) FROM ledger WHERE client = -2'), '5000', 'and copied');

# ---- half a message and then the end, at each byte ----
my $whole = RawClient::message('Q', "INSERT INTO ledger VALUES (-3, 1)\0");
for my $bytes (1 .. length($whole) - 1)
{
	my $client = $gateway->client;
	$client->put_raw(substr($whole, 0, $bytes));
	$bytes % 2 ? $client->vanish : $client->reset;
}
nothing_is_left($gateway, 'half a message', $descriptors);
is($origin->safe_psql('app', 'SELECT count(*) FROM ledger WHERE client = -3'), '0', 'half a message does nothing, wherever it ends');
$gateway->is_unharmed('afterwards');
done_testing();
