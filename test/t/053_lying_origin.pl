# An origin whose every answer may be a lie: bytes changed, messages lost, doubled, put in, cut off, in logins, answers and the catalog alike. It harms its own
# clients alone: those of another origin, in the same workers, get what they should, and no process ends. (case 21 of docs/testing.md)
# HP_FUZZ_SECONDS: how long (10); SEED: which chance.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;
use RawClient;
use Rubbish qw();
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{HP_FUZZ_SECONDS} || 10;
my $seed = $ENV{SEED} || 53;
srand($seed);
note("seed $seed, $seconds seconds");

my $gateway = Gateway->new(workers => 2, create => 0);
$gateway->create('app', 'cache => true');
my $origin = $gateway->{origin};

# ---- the liar: a relay to the true origin ----

my $lies = 0;    # 1 once it may lie: not while the origin is created

sub change_stream
{
	my ($c, $bytes) = @_;
	if (!$c->{in})
	{
		# the login is let through to its ReadyForQuery, mostly
		$c->{login} .= $bytes;
		$c->{in} = 1 if $c->{login} =~ /Z\x00\x00\x00\x05I/ || rand() < 0.02;
		return $bytes unless $c->{in} && rand() < 0.1;
	}
	return $bytes if rand() < 0.85;
	my @messages = Rubbish::messages($bytes) or return $bytes;
	return rand() < 0.1 ? '' : Rubbish::mutated(\@messages, \@messages);
}

sub open_pair
{
	my ($listener, $pairs) = @_;
	my $near = $listener->accept or return;
	my $far = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $origin->port) or return;
	my $c = { in => 0, login => '' };
	$pairs->{ fileno $near } = { to => $far, from => $near, c => $c };
	$pairs->{ fileno $far } = { to => $near, from => $far, c => $c, lies => 1 };
}

# One that reads nothing must not hold up the others: what it does not take within a moment it does not get.
sub pass_on
{
	my ($pair, $lying) = @_;
	my $n = sysread($pair->{from}, my $bytes, 65536) or return 0;
	$bytes = change_stream($pair->{c}, $bytes) if $lying && $pair->{lies};
	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		return 0 unless IO::Select->new($pair->{to})->can_write(0.5);
		my $written = syswrite($pair->{to}, $bytes, 65536) or return 0;
		$bytes = substr($bytes, $written);
	}
	return !($lying && $pair->{lies} && rand() < 0.005);
}

sub lie_for_ever
{
	my ($listener) = @_;
	my %pairs;
	local $SIG{USR1} = sub { $lies = 1 };
	local $SIG{USR2} = sub { $lies = 0 };
	while (1)
	{
		for my $socket (IO::Select->new($listener, map { $_->{from} } values %pairs)->can_read)
		{
			if ($socket == $listener)
			{
				open_pair($listener, \%pairs);
				next;
			}
			my $pair = $pairs{ fileno $socket } or next;
			next if pass_on($pair, $lies);
			delete $pairs{ fileno $_ } for $pair->{from}, $pair->{to};
			close $_ for $pair->{from}, $pair->{to};
		}
	}
}

my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1') or die "listen: $!";
my $liar = fork() // die "fork: $!";
if ($liar == 0)
{
	eval { lie_for_ever($listener) };
	POSIX::_exit(0);
}

# ---- the gateway and those who use it ----

my @traces = Rubbish::record($origin, 'app', 5);
$gateway->{relay_port} = $listener->sockport;
$gateway->{connection} = 'sslmode=disable gssencmode=disable connect_timeout=5';
$gateway->create('liar', q{cache => true, pool_size => 6, query_timeout => '2s', min_pool_size => 1});
kill 'USR1', $liar;

my $started = $gateway->sql('SELECT pg_postmaster_start_time()');
my @processes = $gateway->worker_pids;
my $scout = $gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool scout'});
my ($answered, $ended, $asked, $looks) = (0, 0, 0, 0);
my @wrong;
my $healthy = $gateway->client(database => 'app');

sub ask_healthy
{
	my $token = 'h' . ++$asked;
	my $got = $asked % 2 ? $healthy->value("SELECT '$token'") : RawClient::outcome($healthy->extended('SELECT $1', $token));
	push @wrong, "$token: $got" if $got ne $token;
}

# Whole conversations, as they were; whatever comes back is read and no matter.
sub believer
{
	my $client = eval { RawClient->new(port => $gateway->{port}, login => 0) } or return;
	$client->put_raw(RawClient::startup_packet(user => 'app', database => 'liar') . (rand() < 0.5 ? Rubbish::pick(@traces)->{sent} : questions()), 1);
	return { client => $client, until => time() + 0.3 + rand };
}

sub questions { return join '', map { RawClient::message('Q', "SELECT generate_series(1, " . int(rand 200) . ")\0") . RawClient::extended_messages('SELECT $1::int', int rand 100) } 1 .. 10; }

sub read_on
{
	my ($b) = @_;
	my $open = $b->{client}->pull;
	$answered += () = $b->{client}{in} =~ /Z\x00\x00\x00\x05[ITE]/g;
	$b->{client}{in} = '';
	return 1 if $open && time() < $b->{until};
	$b->{client}->vanish;
	$ended++;
	return 0;
}

my $until = time() + $seconds;
my $look_at = 0;
my @running;
while (time() < $until)
{
	push @running, believer() while @running < 8;
	@running = grep { defined && read_on($_) } @running;
	ask_healthy();
	next if time() < $look_at;
	$gateway->try_sql(q{SET statement_timeout = '1s'; SELECT hyperpool.refresh_catalog('liar')});
	$looks++;
	$look_at = time() + 2;
}
$_->{client}->vanish for @running;

# ---- what must be ----
note("$ended clients of the liar, $answered answers; $asked questions of the healthy, $looks looks at the catalog");
is(scalar @wrong, 0, "a client of another origin asked $asked times and was answered rightly") or diag(join("\n", @wrong));
cmp_ok($ended, '>', $seconds, 'clients of the liar came and went');
cmp_ok($answered, '>', $seconds, 'and were answered now and then');
is($gateway->sql('SELECT pg_postmaster_start_time()'), $started, 'the instance was not restarted');
is(join(' ', $gateway->worker_pids), "@processes", 'nor a worker');
is($gateway->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool scout'}), $scout, 'nor the scout');
my $log = PostgreSQL::Test::Utils::slurp_file($gateway->{region}->logfile);
like($log, qr/origin "liar" sent an unexpected message|impossible length/, 'lies were seen');
kill 'USR2', $liar;
is(Gateway::wait_until(sub { my $c = eval { $gateway->client(database => 'liar') }; $c ? $c->value('SELECT 77') : 'no' }, '77', 30), '77', 'once it tells the truth again it is served again');
is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE origin = 'liar' AND state <> 'idle'}, '0'), '0', 'nobody is left over');
$gateway->is_unharmed('afterwards');
kill 'TERM', $liar;
waitpid($liar, 0);
done_testing();
