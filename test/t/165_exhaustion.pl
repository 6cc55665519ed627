# Descriptors and memory run out: a worker that may open few files lets in as many clients as it has files for and tells the next ones; files that are used up while it runs, and memory up to
# hyperpool.worker_memory, end no process and harm nobody who is connected. When there is room again all is well.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my ($prlimit) = grep { -x $_ } map { "$_/prlimit" } split /:/, $ENV{PATH};
plan skip_all => 'prlimit is not installed (util-linux)' unless $prlimit;

my $gateway = Gateway->new(settings => "hyperpool.max_clients = 500\nhyperpool.max_links = 100\nhyperpool.worker_memory = 64MB", options => q{pool_size => 8, cache => true});
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
# half a message may keep a link: not one of those that others wait for
$gateway->create('fat', 'pool_size => 2');
my $postmaster = (split /\n/, slurp_file($gateway->{region}->data_dir . '/postmaster.pid'))[0];


sub limit
{
	my ($pid, $files) = @_;
	system($prlimit, "--pid=$pid", "--nofile=$files") == 0 or die 'prlimit';
}

sub limit_memory
{
	my ($pid, $bytes) = @_;
	system($prlimit, "--pid=$pid", "--as=$bytes:unlimited") == 0 or die 'prlimit';
}

sub enters { my $client = eval { $gateway->client(seconds => 3) } or return 0; $client->terminate; return 1; }

# ---- files run out while it runs: no client can be accepted, no link opened, no file read at a reload ----
my $crowd = Faults->new($gateway, clients => 8);
$crowd->run_until(sub { return $crowd->total('confirmed') > 20; });
my $descriptors = Faults::other_descriptors($gateway);
my ($worker) = $gateway->worker_pids;
my $logged = -s $gateway->{region}->logfile;
$crowd->run(0.6, sub {
	limit($worker, "4:20000");
	$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
	$gateway->{region}->reload;
});
my $waiting = RawClient->new(port => $gateway->{port}, user => 'app', database => 'app', greeting => 0);
ok(!$waiting->is_answered(0.5), 'no files: a new client waits to be accepted');
$crowd->run_until(sub { return substr(slurp_file($gateway->{region}->logfile), $logged) =~ /could not accept a client.*open files/s; });
like(substr(slurp_file($gateway->{region}->logfile), $logged), qr/could not accept a client .*Too many open files.*HINT:  Raise the limit on open files/s, 'no files: the log says so, with a hint');
my $told = (grep { $_ } map { $_->{last_error} } @{ $crowd->{clients} })[0] // {};
like($told->{M} // '', qr/Too many open files/, "no files: who needs a link is told: $told->{M}");
limit($worker, '20000:20000');
is($crowd->all_are_served, '', 'files again: all are served');
ok(($waiting->answer)->{done}, 'files again: who waited is in');
$waiting->terminate;
$crowd->go;
$crowd->is_right($origin, 'no files', qr/^(08001|53000)$/);
is($crowd->{closed}, 0, 'no files: no client is thrown out');
nothing_is_left($gateway, 'no files', $descriptors);

my @fat;
# ---- the system gives no more memory, long before worker_memory is reached; a sanitizer ends a process that has no memory for itself ----
note 'malloc fails: left out, for the sanitizer needs memory of its own' if $ENV{CHECKER_LOGS};
for my $room ($ENV{CHECKER_LOGS} ? () : (8, 2, 0))
{
	my ($size) = slurp_file("/proc/$worker/status") =~ /^VmSize:\s+(\d+)/m;
	$crowd = Faults->new($gateway, clients => 8, first => 100 + 10 * $room);
	@fat = ();
	$crowd->run(0.4, sub { limit_memory($worker, ($size + 1024 * $room) * 1024); }, sub {
		for (1 .. 30)
		{
			my $client = eval { $gateway->client(database => 'fat', seconds => 1) } or next;
			push @fat, $client;
			$client->put_raw('P' . pack('N', 4 + 1_000_000) . 'x' x 900_000, 0.5);
		}
		my %told;
		for my $client (@fat)
		{
			$client->is_closed(0.1);
			$client->advance;
			$told{ RawClient::outcome($client->{coming}) }++;
		}
		cmp_ok($told{53200} // 0, '>', 0, "malloc fails, beyond $room MB: clients are told: " . join ', ', map { "$_ ($told{$_})" } sort keys %told);
	}, sub { $gateway->{region}->reload; });
	$_->vanish for @fat;
	$crowd->go_on(0.5);
	limit_memory($worker, 'unlimited');
	is($crowd->all_are_served, '', "malloc fails, beyond $room MB: then all are served");
	$crowd->go;
	$crowd->is_right($origin, "malloc fails, beyond $room MB", qr/^(53200|XX000|0800[67]|08001|53300)$/);
	nothing_is_left($gateway, "malloc fails, beyond $room MB", $descriptors);
}
$gateway->is_unharmed('no memory of the system');

# ---- memory runs out: messages whose end does not come ----
$crowd = Faults->new($gateway, clients => 8, first => 10);
@fat = ();
$crowd->run(0.6, sub {
	for (1 .. 150)
	{
		my $client = eval { $gateway->client(database => 'fat', seconds => 2) } or last;
		push @fat, $client;
		$client->put_raw('P' . pack('N', 4 + 1_000_000) . 'x' x 900_000, 1);
	}
});
my @kept = grep { !$_->is_closed(0.05) } @fat;
cmp_ok(scalar @kept, '<', 80, 'no memory: nobody more is let in, or who sends more is shown out (' . @kept . ' of ' . @fat . ' are there)');
cmp_ok(scalar @kept, '>', 40, 'no memory: but not before');
is($crowd->all_are_served, '', 'no memory: who is connected is served');
$_->vanish for @fat;
is(Gateway::wait_until(\&enters, 1, 30), 1, 'memory again: others may come');
$crowd->go;
$crowd->is_right($origin, 'no memory', qr/^none$/);
nothing_is_left($gateway, 'no memory', $descriptors);
$gateway->is_unharmed('files and memory');

# ---- the server may open few files: 328 leave 150 clients and 50 links ----
limit($postmaster, '328:328');
$logged = -s $gateway->{region}->logfile;
kill 'TERM', $worker;
$gateway->wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'hyperpool worker' AND pid <> $worker", '1');
is(Gateway::wait_until(\&enters, 1), 1, 'few files: the port is open');
like(substr(slurp_file($gateway->{region}->logfile), $logged), qr/accepts no more than 150 clients, as it may open no more than 328 files/, 'few files: the log says what that means');
my (@in, @out);
for my $n (1 .. 160)
{
	my $client = $gateway->client(may_fail => 1);
	$client->{greeting}{done} ? push @in, $client : push @out, $client->{greeting};
}
is(scalar @in, 150, 'few files: so many are let in');
is((join ' ', map { $_->{error}{C} // 'closed' } @out), '53300 ' x 9 . '53300', 'few files: the others are told');
like($out[0]{error}{D} . $out[0]{error}{H}, qr/open no more files.*limit on open files/, 'few files: with the reason and what to do');
$_->ask('SELECT pg_sleep(0.01), 7') for @in;
is(scalar(grep { RawClient::outcome($_) eq '|7' } RawClient::answers(30, @in)), 150, 'few files: those who are in are served');
$_->terminate for @in;
is(Gateway::wait_until(\&enters, 1), 1, 'few files: when they have left others may come');

$gateway->{region}->restart;
is(Gateway::wait_until(\&enters, 1), 1, 'enough of them again');
done_testing();
