# pool_size caps all workers together: two of them, three links, forty clients. The connections at the origin are counted
# all the time, and no client waits for long; then all clients of one worker fall silent and the other gets the links.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use RawClient;
use Test::More;
use Time::HiRes qw(time);

my $gateway = Gateway->new(workers => 2, options => 'pool_size => 3');
my $watcher = $gateway->direct;
my @clients = map { $gateway->client } 1 .. 40;

my %worker_of = map { split /\|/ } split /\n/, $gateway->sql('SELECT client_port, worker FROM hyperpool.clients');
my @of_worker = ([], []);
push @{ $of_worker[ $worker_of{ $_->{socket}->sockport } ] }, $_ for @clients;
ok(@{ $of_worker[0] } > 0 && @{ $of_worker[1] } > 0, 'both workers have clients') or diag(scalar(@{ $of_worker[0] }) . ' and ' . scalar(@{ $of_worker[1] }));

# Keeps all of them asking for so many seconds.
sub load
{
	my ($seconds, @asking) = @_;
	my %seen = (most => 0, looks => 0, longest => 0, answers => 0, errors => {});
	my $until = time() + $seconds;
	my %by_fd = map { fileno($_->{socket}) => $_ } @asking, $watcher;
	my $select = IO::Select->new(map { $_->{socket} } @asking, $watcher);
	my %asked;

	my $ask = sub {
		my ($client) = @_;
		$asked{$client} = time();
		$client->ask($client == $watcher ? $Gateway::count_links : 'SELECT pg_sleep(0.01)');
	};
	my $note = sub {
		my ($client) = @_;
		my $answer = $client->finish;
		my $took = time() - $asked{$client};
		if ($client == $watcher)
		{
			my $count = RawClient::outcome($answer);
			$seen{looks}++;
			$seen{most} = $count if $count > $seen{most};
			return;
		}
		$seen{longest} = $took if $took > $seen{longest};
		$seen{answers}++;
		$seen{of}{$client}++;
		$seen{errors}{ RawClient::error_text($answer) }++ if $answer->{error} || $answer->{closed};
	};
	$ask->($_) for @asking, $watcher;
	my %open = %asked;
	while (%open)
	{
		my @ready = $select->can_read(20) or last;
		for my $socket (@ready)
		{
			my $client = $by_fd{ fileno($socket) };
			$client->pull;
			next unless $client->advance;
			$note->($client);
			$client->{closed} || time() > $until ? (delete $open{$client}, $select->remove($socket)) : $ask->($client);
		}
	}
	$seen{unanswered} = grep { $open{$_} } @asking;
	return \%seen;
}

my $seen = load(6, @clients);
cmp_ok($seen->{most}, '<=', 3, 'never a fourth connection at the origin');
cmp_ok($seen->{looks}, '>', 50, "looked $seen->{looks} times");
cmp_ok($seen->{longest}, '<', 2, 'no client waited 2 s');
is($seen->{unanswered}, 0, 'every client was answered');
is_deeply($seen->{errors}, {}, 'without an error');
is((scalar grep { ($seen->{of}{$_} // 0) < 5 } @clients), 0, 'and many times');
note(sprintf('%d answers, longest wait %.3f s', $seen->{answers}, $seen->{longest}));

# ---- one worker falls silent ----
for my $worker (0, 1)
{
	my @asking = @{ $of_worker[$worker] } > 4 ? @{ $of_worker[$worker] }[ 0 .. 3 ] : @{ $of_worker[$worker] };
	$seen = load(3, @asking);
	cmp_ok($seen->{most}, '<=', 3, "worker $worker alone: never a fourth connection");
	cmp_ok($seen->{longest}, '<', 2, 'no client waited 2 s');
	is($seen->{unanswered} + keys %{ $seen->{errors} }, 0, 'all were answered');
	is($gateway->sql("SELECT count(*) FROM hyperpool.links WHERE worker = $worker"), '3', 'and the links have moved to it') if @asking > 3;
}

# ---- a client of the silent worker is not forgotten ----
my $late = time();
my @last = RawClient::answers(20, map { $_->ask('SELECT 1'); $_ } @clients);
is((scalar grep { RawClient::outcome($_) ne '1' } @last), 0, 'all forty at once are answered');
cmp_ok(time() - $late, '<', 4, 'soon');

$gateway->is_unharmed('afterwards');
done_testing();
