# An origin that goes away: clear errors, back-off, recovery without help; clients stay connected, and what was in flight ends with
# an error that says whether it may have happened. Never in silence.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(options => 'pool_size => 5');
my $origin = $gateway->{origin};
$origin->safe_psql('app', 'CREATE TABLE done (client int, turn int); GRANT ALL ON done TO app');

# ---- stopped while nobody asks ----
my @clients = map { $gateway->client } 1 .. 8;
$_->value('SELECT 1') for @clients;
$origin->stop('fast');
my $began = time();
my $answer = $clients[0]->query('SELECT 1');
like(RawClient::error_text($answer), qr/^ERROR (08\w\w\w|57P01) /, 'an error of a lost connection');
$answer = $clients[0]->query('SELECT 1');
is($answer->{error}{S}, 'ERROR', 'the client is told, not thrown out');
is($answer->{error}{C}, '08001', 'with the SQLSTATE of a connection that cannot be made');
like($answer->{error}{M}, qr/refused/i, "and the reason: $answer->{error}{M}");
like($answer->{error}{M}, qr/origin "app"|port/, 'which names the origin or where it should be');
like($answer->{error}{H}, qr/check_origin/, 'and a hint');
cmp_ok(time() - $began, '<', 5, 'at once');

# ---- many who ask again at once do not storm the origin ----
my $failed_before = $gateway->counter('links_failed');
my ($asked, $bad) = (0, 0);
my $until = time() + 2;
while (time() < $until)
{
	for my $a (RawClient::answers(10, map { $_->ask('SELECT 1'); $_ } @clients))
	{
		$asked++;
		$bad++ if ($a->{error}{C} // '') !~ /^(08|57P03|57P01)/;
	}
}
is($bad, 0, "each of $asked requests gets the error of the origin");
my $attempts = $gateway->counter('links_failed') - $failed_before;
cmp_ok($attempts, '<', 60, 'but it was not tried each time');
cmp_ok($attempts, '<', $asked / 2, "$attempts attempts") if $asked > 100;

# ---- a login meanwhile ----
my $new = eval { $gateway->client };
is($new ? $new->query('SELECT 1')->{error}{C} : ($@ =~ /FATAL (\w+)/)[0], '08001', 'a new client is told the same');

# ---- back again ----
$origin->start;
is(Gateway::wait_until(sub { $clients[1]->value('SELECT 5') }, '5'), '5', 'recovers without help');
is((scalar grep { $_->value('SELECT 6') ne '6' } @clients), 0, 'for every client, on the same connection');

# ---- a transaction whose link is lost ----
my $client = $clients[0];
$client->query('BEGIN; INSERT INTO done VALUES (-1, 0)');
is($client->{status}, 'T', 'in a transaction');
$origin->restart;
Gateway::wait_until(sub { $clients[1]->value('SELECT 5') }, '5');
$answer = $client->query('INSERT INTO done VALUES (-1, 1)');
like($answer->{error}{C}, qr/^(08006|57P01|08007)$/, 'the transaction is over with an error');
isnt($client->{status}, 'T', 'and not open any more');
isnt($client->value('INSERT INTO done VALUES (-1, 2)'), '', 'nothing of it is done on its own') if $client->{status} eq 'E';
$client->query('ROLLBACK');
is($client->value('SELECT count(*) FROM done WHERE client = -1'), '0', 'nothing of it has stayed');

# ---- restarted under load, again and again ----
my (%confirmed, %denied, %unknown, %codes);
my ($silent, $closed) = (0, 0);
my %turn = map { $_ => 0 } 0 .. $#clients;

sub settle
{
	my ($i, $a) = @_;
	my $key = "$i-$turn{$i}";
	my $code = $a->{error} ? $a->{error}{C} : '';
	$codes{$code}++;
	if ($a->{closed}) { $closed++; }
	elsif (!$a->{done}) { $silent++; }
	elsif ($code eq '') { $confirmed{$key} = 1; }
	elsif ($code eq '08007') { $unknown{$key} = 1; }
	else { $denied{$key} = 1; }
}

for my $mode (qw(fast immediate))
{
	my $restarted = 0;
	my $end = time() + 3;
	while (time() < $end)
	{
		for my $i (0 .. $#clients)
		{
			$turn{$i}++;
			my $sql = "INSERT INTO done SELECT $i, $turn{$i} FROM pg_sleep(0.02)";
			$i % 2 ? $clients[$i]->ask($sql) : $clients[$i]->put_raw(RawClient::extended_messages($sql));
		}
		if ($restarted++ == 5)
		{
			$origin->stop($mode);
			$origin->start;
		}
		my @answers = RawClient::answers(15, @clients);
		settle($_, $answers[$_]) for 0 .. $#clients;
		last if $silent || $closed;
	}
}
is($silent, 0, 'no exchange ends in silence');
is($closed, 0, 'no client is thrown out');
note(join(', ', map { ($_ || 'done') . ": $codes{$_}" } sort keys %codes));
is((scalar grep { !/^(08007|08006|08001|57P01|57P02|57P03|)$/ } keys %codes), 0, 'every error is one of a lost origin') or diag(join ' ', keys %codes);
cmp_ok(scalar(keys %confirmed), '>', 50, 'most are done');

is(Gateway::wait_until(sub { $clients[0]->value('SELECT 5') }, '5'), '5', 'it serves again');
my %there = map { $_ => 1 } split /\n/, $origin->safe_psql('app', q{SELECT client || '-' || turn FROM done WHERE client >= 0});
is((scalar grep { !$there{$_} } keys %confirmed), 0, 'what was confirmed is there');
is((scalar grep { $there{$_} } keys %denied), 0, 'what was denied is not');
is((scalar grep { !$confirmed{$_} && !$unknown{$_} } keys %there), 0, 'and nothing else');
is($origin->safe_psql('app', 'SELECT count(*) FROM (SELECT 1 FROM done WHERE client >= 0 GROUP BY client, turn HAVING count(*) > 1) d'), '0', 'nothing was done twice');
cmp_ok($gateway->counter('links_lost'), '>', 0, 'lost links are counted');
is($gateway->counter('unknown_outcomes'), scalar(keys %unknown) + ($answer->{error}{C} eq '08007' ? 1 : 0), 'and unknown outcomes');

# ---- reads in flight ----
$_->ask('SELECT pg_sleep(0.5), 1') for @clients[ 0 .. 3 ];
sleep 0.1;
$origin->restart;
my @reads = map { RawClient::outcome($_) } RawClient::answers(20, @clients[ 0 .. 3 ]);
is((scalar grep { !/^(\|1|57P01|08006)$/ } @reads), 0, 'a read is answered or told the reason, never 08007') or diag("@reads");

$gateway->is_unharmed('afterwards');
done_testing();
