# Real conversations gone wrong, by a dozen clients at once, while healthy ones of the same pool go on and check every value they get back. (case 21 of docs/testing.md)
# HP_FUZZ_SECONDS: how long (10); SEED: which chance.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Rubbish qw();
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{HP_FUZZ_SECONDS} || 10;
my $seed = $ENV{SEED} || 52;
srand($seed);
note("seed $seed, $seconds seconds");

my $gateway = Gateway->new(workers => 2, create => 0, settings => "authentication_timeout = 5s\nhyperpool.max_clients = 200");
# with a cache; without; and far away, with so few links that reads have to share them
my @origins = ([ 'app', 'cache => true, pool_size => 12' ], [ 'plain', 'cache => false, pool_size => 12' ], [ 'narrow', 'cache => false, pool_size => 4' ]);
$gateway->create(@$_) for @origins[ 0, 1 ];
$gateway->start_relay;
$gateway->create(@{ $origins[2] });
my $origin = $gateway->{origin};
$origin->safe_psql('app', q{SET ROLE app; CREATE TABLE hp_healthy (client int, token text); INSERT INTO hp_healthy SELECT i, 'x' FROM generate_series(1, 12) i});
$origin->append_conf('postgresql.conf', "statement_timeout = 2s\nidle_in_transaction_session_timeout = 2s\nlog_min_messages = fatal");
$origin->reload;

my @traces = Rubbish::record($origin, 'app', 8);
$gateway->learn('app', 'narrow');
$gateway->move_away(200, 'narrow');
$gateway->ask_until_shared($gateway->client(database => 'narrow'), RawClient::extended_messages('SELECT token FROM hp_healthy WHERE client = $1', 1));
cmp_ok(scalar @traces, '>', 5, @traces . ' conversations to start from');
my $started = $gateway->sql('SELECT pg_postmaster_start_time()');
my @processes = $gateway->worker_pids;
my %said;    # what came of rubbish

# ---- the healthy ones ----

# Each has a row of its own and a token that changes; whatever it reads must be its own, as it wrote it last, in a session of its own settings.
my @healthy = map { { id => $_, origin => $origins[ (0, 1, 2, 2)[ $_ % 4 ] ][0], token => 'x', asked => 0, lost => 0 } } 1 .. 12;
my @wrong;
my %meant = map { $_ => 1 } qw(08006 08007 57P01 25P03 57014 53300 closed);    # what the others may cause: a link or a lock is lost, a value is not

sub connect_healthy
{
	my ($h) = @_;
	$h->{client} = eval { $gateway->client(database => $h->{origin}, parameters => { options => "-c geqo_threshold=1$h->{id}" }) };
	$h->{lost}++ unless $h->{client};
}

sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }

my @questions = (
	sub { my ($h, $t) = @_; return (simple("SELECT '$t' || current_setting('geqo_threshold')"), "${t}1$h->{id}"); },
	sub { my ($h, $t) = @_; return (RawClient::extended_messages('SELECT $1 || $2', $t, $h->{id}), "$t$h->{id}"); },
	sub { return (simple("SELECT current_user, current_setting('search_path'), current_setting('statement_timeout')"), 'app|"$user", public|2s'); },
	(sub { my ($h) = @_; return (RawClient::extended_messages('SELECT token FROM hp_healthy WHERE client = $1', $h->{id}), $h->{token}); }) x 2,
	(sub { my ($h) = @_; return (simple("SELECT token, client FROM hp_healthy WHERE client = $h->{id}"), "$h->{token}|$h->{id}"); }) x 2,
	sub { my ($h, $t) = @_; return (simple("UPDATE hp_healthy SET token = '$t' WHERE client = $h->{id} RETURNING token"), $t, 'write'); },
);

sub ask_healthy
{
	my ($h) = @_;
	connect_healthy($h) if !$h->{client};
	return if !$h->{client};
	@$h{qw(said wanted write)} = Rubbish::pick(@questions)->($h, sprintf('t%d_%d', $h->{id}, ++$h->{asked}));
	$h->{client}->put_raw($h->{said});
	$h->{since} = time();
}

sub judge
{
	my ($h, $answer) = @_;
	my $got = RawClient::outcome($answer);
	my $said = delete $h->{said};
	$h->{token} = $h->{wanted} if $h->{write} && $got eq $h->{wanted};
	return if $got eq $h->{wanted};
	push @wrong, "client $h->{id} of $h->{origin}, " . ($said =~ s/[^ -~]+/ /gr) . ": $got, not $h->{wanted}" . ($answer->{error} ? ' ' . RawClient::error_text($answer) : '') unless $meant{$got};
	$h->{lost}++;
	$h->{token} = $origin->safe_psql('app', "SELECT token FROM hp_healthy WHERE client = $h->{id}") if $h->{write};
	$h->{client} = undef if $answer->{closed} || !$answer->{done};
}

# All of them have a question out, and get the next when it is answered.
sub attend_healthy
{
	my ($h) = @_;
	return ask_healthy($h) if !$h->{said};
	judge($h, $h->{client}->answer(0)) if $h->{client}->is_answered(0) || time() > $h->{since} + 30;
}

# ---- the others ----

# What was sent lately, to be found when a process dies of it.
my $inputs = "$ENV{TESTLOGDIR}/052_inputs";
my @sent;

sub keep
{
	push @sent, unpack('H*', $_[0]);
	return if @sent < 200;
	open(my $file, '>', $inputs) or die "$inputs: $!";
	print $file "$_\n" for @sent;
	close $file;
	splice @sent, 0, 100;
}

sub rubbish_client
{
	my $login = rand() < 0.8;
	my $database = Rubbish::pick(qw(app plain narrow narrow none));
	my $client = eval { RawClient->new(port => $gateway->{port}, login => 0) } or return;
	my @messages = Rubbish::messages(Rubbish::pick(@traces)->{sent});
	my @others = Rubbish::messages(Rubbish::pick(@traces)->{sent});
	my $startup = RawClient::startup_packet(user => 'app', database => $database);
	my $bytes = Rubbish::mutated(\@messages, \@others);
	$bytes = $login ? $startup . $bytes : Rubbish::mutated([$startup], \@others) . $bytes;
	keep($bytes);
	return { client => $client, bytes => $bytes, until => time() + 0.2 + rand(0.6) };
}

# Goes on writing and reading a little; false when it has come to its end.
sub go_on
{
	my ($r) = @_;
	my $client = $r->{client};
	my $open = $client->pull;
	while (my ($type, $body) = $client->take)
	{
		$said{$type}++;
		$said{ RawClient::fields($body)->{C} // 'none' }++ if $type eq 'E';
	}
	$client->{in} = '' if length $client->{in} > 1000000;
	if (length $r->{bytes})
	{
		my $n = rand() < 0.5 ? 1 + int rand 20 : 1 + int rand 20000;
		local $SIG{PIPE} = 'IGNORE';
		my $written = syswrite($client->{socket}, $r->{bytes}, $n);
		$r->{bytes} = $written ? substr($r->{bytes}, $written) : $!{EAGAIN} ? $r->{bytes} : '';
	}
	return $open && time() < $r->{until};
}

sub leave
{
	my ($r) = @_;
	my $how = rand();
	return $how < 0.3 ? $r->{client}->reset : $how < 0.5 ? $r->{client}->terminate : $r->{client}->vanish;
}

my $shared_before = $gateway->sql('SELECT sum(shared) FROM hyperpool.stat_origins');
my $memory = Gateway::private_memory($processes[0]);
my $until = time() + $seconds;
my $count = 0;
my @running;
while (time() < $until)
{
	push @running, rubbish_client() while @running < 12;
	@running = grep { defined } @running;
	for my $r (@running)
	{
		next if go_on($r);
		leave($r);
		$count++;
		$r = undef;
	}
	@running = grep { defined } @running;
	attend_healthy($_) for @healthy;
}
leave($_) for @running;
$_->{said} && judge($_, $_->{client}->answer(30)) for @healthy;

# ---- what must be ----
my ($asked, $lost) = (0, 0);
$asked += $_->{asked}, $lost += $_->{lost} for @healthy;
note("$count clients of rubbish; " . join(', ', map { "$_ $said{$_}" } sort keys %said));
is(scalar @wrong, 0, "healthy clients asked $asked times and got no wrong answer, though $lost were lost") or diag(join("\n", @wrong[ 0 .. ($#wrong > 20 ? 20 : $#wrong) ]));
cmp_ok($count, '>', $seconds, "$count clients of rubbish");
cmp_ok($lost * 5, '<', $asked + 50, 'most questions of healthy clients were answered');
my $shared = $gateway->sql('SELECT sum(shared) FROM hyperpool.stat_origins');
# how many depends on how often the rubbish makes the catalog suspect; t/150 and t/151 are about sharing
note(($shared - $shared_before) . ' reads shared a link');
ok($said{$_}, "rubbish got as far as an answer of type $_") for qw(Z E C D T 1 2);
is($gateway->sql('SELECT pg_postmaster_start_time()'), $started, 'the instance was not restarted');
is(join(' ', $gateway->worker_pids), "@processes", 'nor a worker');
$_->{client} && $_->{client}->terminate for @healthy;
is($gateway->wait_for('SELECT sum(cl_waiting + cl_active) FROM hyperpool.pools', '0'), '0', 'nobody is left over');
is($gateway->wait_for('SELECT count(*) FROM hyperpool.clients', '0'), '0', 'no client either') or diag($gateway->sql('SELECT * FROM hyperpool.clients'), "\n", $gateway->sql('SELECT * FROM hyperpool.links'), "\n",
	$origin->safe_psql('app', q{SELECT pid, state, wait_event, state_change, query FROM pg_stat_activity WHERE datname = 'app'}));
cmp_ok(Gateway::private_memory($processes[0]) - $memory, '<', 40000 + 1000 * $seconds, 'memory did not run away');
$gateway->{region}->safe_psql('postgres', 'SELECT 1');
my $log = PostgreSQL::Test::Utils::slurp_file($gateway->{region}->logfile);
unlike($log, qr/terminated by signal|TRAP:|PANIC:|server process .* exited|background worker "hyperpool [^"]*" \(PID \d+\) exited/, 'no process died');
$_->{client} = undef for @healthy;
ask_healthy($_) for @healthy;
judge($_, $_->{client}->answer(20)) for @healthy;
is(scalar @wrong, 0, 'and it serves');
done_testing();
