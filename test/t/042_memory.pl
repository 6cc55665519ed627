# A row and a parameter of 200 MB pass through a worker that grows by a few MB at most, also while the reader stalls; others go on meanwhile.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $size = 200 * 1024 * 1024;
my $limit = 8 * 1024;    # kB

# The relay lies before the origin "app"; "near" is the same database without it.
my $gateway = Gateway->new(relay => 1);
my $direct = $gateway->{origin}->port;
$gateway->sql("SELECT hyperpool.create_origin('near', 'host=127.0.0.1 port=$direct user=app dbname=app', allow_trust => true); GRANT USAGE ON FOREIGN SERVER near TO PUBLIC");
Gateway::wait_until(sub { $gateway->can_enter('near') }, 1);
my ($worker) = $gateway->worker_pids;
my $other = $gateway->client(database => 'near');
my $client = $gateway->client(database => 'near');
my $far = $gateway->client;

# What every worker has once it has served: an answer and a parameter of a few hundred kB each.
for ($client, $far)
{
	$_->query("SELECT repeat('x', 1000000)");
	$_->extended('SELECT length($1)', 'x' x 1000000);
}
my $base = Gateway::private_memory($worker);
my $most = 0;

sub look
{
	my $grown = Gateway::private_memory($worker) - $base;
	$most = $grown if $grown > $most;
}

# While one stalls: another is served all the time.
sub others_go_on
{
	my ($what, $seconds) = @_;
	my $until = time() + $seconds;
	my ($count, $bad) = (0, 0);
	while (time() < $until)
	{
		$bad++ if $other->value('SELECT 7') ne '7';
		$count++;
		look();
	}
	ok($bad == 0 && $count > 20, "$what: another client is served") or diag("$count answers, $bad bad");
}

# Reads n messages' worth of bytes without keeping them; how many bytes came until ReadyForQuery.
sub swallow
{
	my ($from, $messages) = @_;
	my $socket = $from->{socket};
	my ($bytes, $tail, $buffer) = (0, '');
	my $deadline = time() + 60;
	while (time() < $deadline)
	{
		next unless IO::Select->new($socket)->can_read(1);
		my $n = sysread($socket, $buffer, 1 << 20);
		last if defined $n && $n == 0;
		next unless $n;
		$bytes += $n;
		$tail = substr($tail . $buffer, -6);
		look() if $bytes % 7 == 0;
		return $bytes if $tail eq "Z\0\0\0\5I" && $bytes > 1000;
	}
	return -$bytes;
}

# ---- a row ----
$client->ask("SELECT repeat('x', $size)");
others_go_on('a row and a reader that stalls', 3);
cmp_ok($most, '<', $limit, "a row, stalled: the worker grew by $most kB");
cmp_ok(swallow($client), '>', $size, 'the row arrives');
look();
cmp_ok($most, '<', $limit, "a row: the worker grew by $most kB");
is($client->value('SELECT 1'), '1', 'and the client goes on');

# the same in the extended protocol, by a portal
$client->put_raw(RawClient::extended_messages("SELECT repeat('y', $size)"));
others_go_on('extended', 1);
cmp_ok(swallow($client), '>', $size, 'extended: the row arrives');
cmp_ok($most, '<', $limit, "extended: the worker grew by $most kB");

# ---- a parameter, to an origin that stops reading ----
$most = 0;
my $chunk = 'z' x (1 << 20);
my $sent = 0;
$far->put_raw(RawClient::message('P', "\0SELECT length(\$1)\0\0\0")
	  . 'B' . pack('N', 4 + 2 + 2 + 2 + 4 + $size + 2) . "\0\0" . pack('nn', 0, 1) . pack('N', $size));
for (1 .. 20) { $sent += length $chunk if $far->put_raw($chunk); }
$gateway->relay('stall');
my $accepted = 0;
my $rest = '';
my $until = time() + 2;
while (time() < $until)
{
	$rest = $chunk if $rest eq '';
	next unless IO::Select->new($far->{socket})->can_write(0.1);
	my $n = syswrite($far->{socket}, $rest) // 0;
	$accepted += $n;
	$rest = substr($rest, $n);
	look();
}
cmp_ok($accepted, '<', $size / 2, 'a stalled origin stalls the one who writes to it');
others_go_on('a parameter and an origin that stalls', 2);
cmp_ok($most, '<', $limit, "a parameter, stalled: the worker grew by $most kB");
$gateway->relay('resume');
$sent += $accepted;
while ($sent < $size)
{
	my $piece = $size - $sent < length $chunk ? substr($chunk, 0, $size - $sent) : $chunk;
	$far->put_raw($piece, 60) or last;
	$sent += length $piece;
	look() if $sent % 3 == 0;
}
$far->put_raw(pack('n', 0) . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''));
is(RawClient::outcome($far->answer(60)), $size, 'the parameter arrives');
look();
cmp_ok($most, '<', $limit, "a parameter: the worker grew by $most kB");

# ---- a text of 20 MB, which is more than is kept whole ----
is($client->value("SELECT length('" . 'q' x 20_000_000 . "')"), '20000000', 'a long text passes');
look();
cmp_ok($most, '<', $limit, "a long text: the worker grew by $most kB");

# ---- COPY in and out of 100 MB ----
$gateway->{origin}->safe_psql('app', 'CREATE TABLE lines (t text); GRANT ALL ON lines TO app');
$client->{stop_at_copy} = 1;
$client->query('COPY lines FROM STDIN');
$client->{stop_at_copy} = 0;
my $line = ('l' x 1023 . "\n") x 1024;
$client->put('d', $line) for 1 .. 100;
$client->put('c', '');
is(join(' ', @{ $client->answer(60)->{tags} }), 'COPY 102400', 'COPY in');
$client->ask('COPY lines TO STDOUT');
others_go_on('COPY out and a reader that stalls', 1);
cmp_ok(swallow($client), '>', 100 * 1024 * 1024, 'COPY out');
look();
cmp_ok($most, '<', $limit, "COPY: the worker grew by $most kB");

# ---- a reader that stalls and goes away ----
for my $gone (map { $gateway->client(database => 'near') } 1 .. 5)
{
	$gone->ask("SELECT repeat('x', 20000000)");
	$gone->is_answered(0.1);
	$gone->reset;
}
others_go_on('stalled readers that go away', 1);
cmp_ok($most, '<', $limit, "the worker grew by $most kB");

$gateway->is_unharmed('afterwards');
done_testing();
