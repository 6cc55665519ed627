# Floods of logins: one address cannot take all places of those who are logging in, a wrong password is answered late and later, and who goes away meanwhile
# has its address keep the place. Others log in as always. Many lines of log are not written.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use LoginClient;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(settings => q{
hyperpool.login_backlog = 40
hyperpool.login_address_limit = 10
hyperpool.failed_login_delay = 200ms
authentication_timeout = 300s
});
my $region = $gateway->{region};
$gateway->sql(q{SET password_encryption = 'md5'; CREATE ROLE guessed LOGIN PASSWORD 'secret'});
my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
LoginClient::write_file($region->data_dir . '/pg_hba.conf', "host app guessed all md5\nhost app app all trust\n$hba");
$region->reload;

sub set
{
	my ($name, $value) = @_;
	$region->append_conf('postgresql.conf', "$name = $value");
	$region->reload;
	$gateway->wait_for("SHOW $name", $value);
	return;
}
sub silent { my ($from) = @_; return RawClient->new(port => $gateway->{port}, from => $from, login => 0); }
sub enters { my ($from) = @_; return eval { $gateway->client(from => $from, seconds => 20)->terminate; 1 } ? 'in' : $@; }
sub logins { my ($columns) = @_; return $gateway->sql("SELECT $columns FROM hyperpool.stat_logins"); }
sub log_lines { my ($pattern) = @_; my @lines = PostgreSQL::Test::Utils::slurp_file($region->logfile) =~ /$pattern/g; return scalar @lines; }

# Asked for an md5 password; it answers with a wrong one.
sub guess
{
	my ($from) = @_;
	my $client = silent($from);
	$client->put_raw(RawClient::startup_packet(user => 'guessed', database => 'app'));
	IO::Select->new($client->{socket})->can_read(10);
	$client->pull;
	return $client if $client->{in} !~ /^R\x00{3}\x0c\x00{3}\x05/;
	$client->{in} = '';
	$client->put('p', 'md5' . '0' x 32 . "\0");
	$client->{at} = time();
	return $client;
}

# How long the answer took, when it was the one due.
sub answered
{
	my ($client) = @_;
	$client->is_closed(30);
	my $took = time() - $client->{at};
	return $client->{in} =~ /C28P01\0/ ? $took : "something else: $client->{in}";
}
is(Gateway::wait_until(sub { my $c = guess('127.0.0.9'); defined $c->{at} ? 'asked' : 'not' }, 'asked'), 'asked', 'the lines of pg_hba.conf are there');
Gateway::wait_until(sub { logins('logging_in') }, '0');
Gateway::wait_until(sub { my $c = silent('127.0.0.9'); my $closed = $c->is_closed(0.1); $c->vanish; $closed ? 'no' : 'free' }, 'free');
Gateway::wait_until(sub { logins('logging_in') }, '0');

# ---- silence from one address ----
my $refused = logins('refused_address');
my @silent = map { silent('127.0.0.2') } 1 .. 30;
is(Gateway::wait_until(sub { scalar grep { $_->is_closed(0) } @silent }, '20'), '20', 'login_address_limit: ten of thirty stay');
my ($told) = grep { $_->{closed} } @silent;
like($told->{in}, qr/^E.*FATAL.*C53300\0M[^\0]*from your address.*login_address_limit/s, 'the others are told why');
is(logins('logging_in'), '10', 'they hold ten places');
is(logins("refused_address - $refused"), '20', 'and twenty are counted');
is(enters('127.0.0.1'), 'in', 'another address is not concerned');
like(enters('127.0.0.2'), qr/closed|53300/, 'this one is');
cmp_ok(log_lines(qr/login refused: too many clients are logging in from your address/), '<', 10, 'the log says so a few times');
like(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/From host "127.0.0.2"; \d+ others were refused/, 'and whom, and how often');

# ---- from many addresses: the backlog ----
push @silent, map { my $from = "127.0.0.$_"; map { silent($from) } 1 .. 10 } 3, 4, 5;
Gateway::wait_until(sub { logins('logging_in') }, '40');
is(logins('logging_in'), '40', 'four addresses fill the backlog');
my $late = silent('127.0.0.6');
ok($late->is_closed(20), 'then nobody else logs in');
like($late->{in}, qr/C53300\0Mtoo many clients are logging in\0/, 'and is told why');
cmp_ok(logins('refused_backlog'), '>=', 1, 'which is counted');
$_->vanish for @silent;
is(Gateway::wait_until(sub { logins('logging_in') }, '0'), '0', 'all have gone');
is(enters('127.0.0.2'), 'in', 'and whoever was refused may come');

# ---- who has logged in holds no place, though it waits for its origin ----
$gateway->sql(q{SELECT hyperpool.alter_origin('app', queue_timeout => '0'); SELECT hyperpool.pause_origin('app')});
my $in_login = q{SELECT count(*) FROM hyperpool.clients WHERE role = 'app' AND state = 'login'};
my @waiting;
while (@waiting < 15)
{
	push @waiting, $gateway->client(greeting => 0, parameters => { search_path => 's' . @waiting });
	$gateway->wait_for($in_login, scalar @waiting);		# their address may have ten that have not shown yet who they are
}
is($gateway->sql($in_login), '15', 'fifteen clients of a paused origin wait for its parameters');
is(logins('logging_in'), '0', 'they hold no place');
$gateway->sql(q{SELECT hyperpool.resume_origin('app')});
is(join(' ', map { $_->{done} // 'no' } RawClient::answers(20, @waiting)), join(' ', (1) x 15), 'and are let in when it goes on');
$_->terminate for @waiting;

# ---- wrong passwords ----
my $held = logins('held_back');
my @took = map { answered(guess('127.0.0.10')) } 1 .. 4;
my @least = (0.2, 0.4, 0.8, 1.6);
cmp_ok($took[$_], '>=', $least[$_] - 0.01, "failed_login_delay: answer $_ comes after $least[$_] s") for 0 .. 3;
is(logins("held_back - $held"), '4', 'held_back counts them');
my $waiting = guess('127.0.0.10');
is(enters('127.0.0.10'), 'in', 'who knows better is let in at once, from the same address');
ok(!$waiting->is_answered(0), 'while the wrong one waits');
cmp_ok(answered($waiting), '>=', 3.19, 'for 16 times as long as the first');
cmp_ok(answered(guess('127.0.0.11')), '>=', 0.19, 'another address begins anew');

# ---- guesses that do not wait for an answer ----
guess('127.0.0.10')->reset for 1 .. 10;
my $next = silent('127.0.0.10');
ok($next->is_closed(20), 'ten guesses that were broken off hold the places of their address');
like($next->{in}, qr/C53300\0/, 'the next is refused');
is(logins('logging_in'), '0', 'but no place of the backlog');
is($gateway->sql(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'login'}), '10', 'they are seen until their time is over');
is(enters('127.0.0.1'), 'in', 'others come and go');
is(Gateway::wait_until(sub { enters('127.0.0.10') }, 'in'), 'in', 'then the address may come again');

# ---- turned off ----
set('hyperpool.failed_login_delay', '0');
set('hyperpool.login_address_limit', '0');
Gateway::wait_until(sub { my $before = logins('held_back'); answered(guess('127.0.0.12')); logins("held_back - $before") }, '0');
@took = map { answered(guess('127.0.0.12')) } 1 .. 20;
cmp_ok((sort { $a <=> $b } @took)[10], '<', 0.2, 'failed_login_delay = 0: answers are not held back');
@silent = map { silent('127.0.0.2') } 1 .. 30;
sleep 0.3;
is(scalar(grep { $_->is_closed(0) } @silent), 0, 'login_address_limit = 0: thirty of one address may log in');
$_->vanish for @silent;
$gateway->sql('SELECT hyperpool.reset_stats()');
is(logins('refused_backlog, refused_address, held_back'), '0|0|0', 'reset_stats');
$gateway->is_unharmed('afterwards');
done_testing();
