# How old an answer may be: max_age, stale_while_revalidate, stale_if_error, rules, hints and session settings. Rows are changed
# behind the gateway's back, so what is shown tells how old it is; ages are told apart by what is short and what is very long.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Cached::start(options => q{max_age => '1h', stale_while_revalidate => '0'}, make => q{
CREATE TABLE counted (v int); INSERT INTO counted VALUES (0);
CREATE TABLE ruled (v int); INSERT INTO ruled VALUES (0)});
my $client = $gateway->client;
my $direct = $gateway->direct(database => 'app');
my $read = 'SELECT v FROM counted';

# Behind its back: only time makes an entry too old.
sub change { $direct->query("UPDATE $_ SET v = v + 1") for 'counted', 'ruled'; return $direct->value('SELECT v FROM counted'); }
sub set_times { my ($options) = @_; $gateway->alter($options); Cached::warm($gateway, $client, $read); return; }

# ---- max_age ----
is((Cached::warm($gateway, $client, $read))[0], 'hit', 'cached');
my $now = change();
is(join('|', Cached::ask($gateway, $client, $read)), 'hit|' . ($now - 1), 'younger than max_age: the former answer');
set_times(q{max_age => '100ms'});
$now = change();
sleep 0.3;
is(join('|', Cached::ask($gateway, $client, $read)), "miss|$now", 'older: a new one');
set_times(q{max_age => '0'});
$now = change();
is((Cached::ask($gateway, $client, $read))[1], $now, 'max_age 0: always the present');

# ---- stale_while_revalidate: the former answer at once, a new one soon ----
set_times(q{max_age => '100ms', stale_while_revalidate => '1h'});
my $refreshed = $gateway->counter('cache_refreshed');
$now = change();
sleep 0.3;
is(join('|', Cached::ask($gateway, $client, $read)), 'hit|' . ($now - 1), 'stale: the former answer, from the cache');
is(Gateway::wait_until(sub { $client->value($read) }, $now, 10), $now, 'and soon the new one');
cmp_ok($gateway->counter('cache_refreshed'), '>', $refreshed, 'it came in the background');
$now = change();
sleep 0.3;
$client->query($read);
is(Gateway::wait_until(sub { $client->value('SELECT v FROM counted') }, $now, 10), $now, 'again and again');
$client->query('UPDATE counted SET v = 1000');
is($client->value($read), '1000', 'a write through the gateway is never stretched over');
$now = change();

# a refresh that is under way while a write comes does not bring back the former value: the checker's matter (120)

# ---- both, over ----
set_times(q{max_age => '50ms', stale_while_revalidate => '50ms'});
$now = change();
sleep 0.5;
is(join('|', Cached::ask($gateway, $client, $read)), "miss|$now", 'older than both: a miss');

# ---- a rule for a relation ----
set_times(q{max_age => '1h', stale_while_revalidate => '0'});
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'ruled', max_age => '100ms')});
Cached::warm($gateway, $client, $_) for $read, 'SELECT v FROM ruled';
$now = change();
sleep 0.3;
is((Cached::ask($gateway, $client, $read))[1], $now - 1, 'others are not concerned');
is((Cached::ask($gateway, $client, 'SELECT v FROM ruled'))[0], 'miss', 'its own max_age');
Cached::warm($gateway, $client, 'SELECT c.v FROM counted c, ruled r');
sleep 0.3;
is((Cached::ask($gateway, $client, 'SELECT c.v FROM counted c, ruled r'))[0], 'miss', 'the shortest counts');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'ruled', cache => false)});
is((Cached::ask($gateway, $client, 'SELECT v FROM ruled'))[0], 'disabled', 'or none at all');
$gateway->sql(q{SELECT hyperpool.set_rule('app', relation => 'ruled')});
is((Cached::warm($gateway, $client, 'SELECT v FROM ruled'))[0], 'hit', 'until the rule is taken away');

# ---- a hint ----
Cached::warm($gateway, $client, $read);
$now = change();
is(join('|', Cached::ask($gateway, $client, "/* hyperpool: cache=off */ $read")), "disabled|$now", 'cache=off: the present');
is((Cached::ask($gateway, $client, $read))[1], $now - 1, 'others go on');
is(join('|', Cached::ask($gateway, $client, "/* hyperpool: max_age=1h */ $read")), 'hit|' . ($now - 1), 'max_age=1h');
sleep 0.3;
is((Cached::ask($gateway, $client, "/* hyperpool: max_age=100ms */ $read"))[1], $now, 'max_age=100ms: nothing older');
is((Cached::ask($gateway, $client, $read))[1], $now, 'what it brought is for all');
is((Cached::ask($gateway, $client, '/* hyperpool: cache=off */ SELECT v FROM counted WHERE v >= $1', '0'))[0], 'disabled', 'in an extended query too');
is((Cached::ask($gateway, $client, "/* nothing about it */ $read"))[0], 'hit', 'any other comment changes nothing');

# ---- the session's settings: answered by the gateway ----
my $sent = $gateway->counter('bytes_to_origin');
is($client->query('SET hyperpool.cache = off')->{tags}[0], 'SET', 'SET hyperpool.cache');
is($gateway->counter('bytes_to_origin'), $sent, 'never reaches the origin');
is($client->value('SHOW hyperpool.cache'), 'off', 'SHOW');
$now = change();
is(join('|', Cached::ask($gateway, $client, $read)), "disabled|$now", 'off: the present');
my $other = $gateway->client;
is((Cached::ask($gateway, $other, $read))[0], 'hit', 'for this session alone');
is($client->query('RESET hyperpool.cache')->{tags}[0], 'RESET', 'RESET');
is((Cached::ask($gateway, $client, $read))[0], 'hit', 'on again');
is($client->value('SHOW hyperpool.cache'), 'on', 'SHOW says so');

is($client->extended(q{SET hyperpool.cache = off})->{tags}[0], 'SET', 'by extended messages');
is((Cached::ask($gateway, $client, $read))[0], 'disabled', 'the same');
is($client->extended('SHOW hyperpool.cache')->{rows}[0][0], 'off', 'SHOW too');
$client->extended('SET hyperpool.cache TO on');
is((Cached::ask($gateway, $client, $read))[0], 'hit', 'on');

$client->query(q{SET hyperpool.max_age = '100ms'});
$now = change();
sleep 0.3;
is((Cached::ask($gateway, $client, $read))[1], $now, 'SET hyperpool.max_age: nothing older');
like($client->value('SHOW hyperpool.max_age'), qr/^(100 ?ms|00:00:00.1)$/, 'SHOW');
$client->query('RESET hyperpool.max_age');
$now = change();
is((Cached::ask($gateway, $client, $read))[1], $now - 1, 'RESET');
for my $wrong (q{SET hyperpool.cache = 'perhaps'}, q{SET hyperpool.max_age = 'long'}, q{SET hyperpool.max_age = -1})
{
	my $answer = $client->query($wrong);
	like($answer->{error}{C} // '', qr/^(22023|42704)$/, "refused: $wrong");
}
is($client->value('SELECT 7'), '7', 'and the session goes on');
for my $before ([], ['SELECT 7'])
{
	my $where = @$before ? 'in a transaction' : 'in one that the origin has not seen yet';
	$client->query($_) for 'BEGIN', @$before;
	is($client->query(q{SET hyperpool.cache = 'perhaps'})->{status}, 'E', "refused $where: that has failed");
	is($client->value('SELECT 7'), '25P02', 'and stays so');
	is($client->query('COMMIT')->{tags}[0], 'ROLLBACK', 'to its end');
}
my $started = $gateway->client(parameters => { options => '-c hyperpool.cache=off' });
is((Cached::ask($gateway, $started, $read))[0], 'disabled', 'as a startup option');
$started->query('RESET hyperpool.cache');
is($started->value('SHOW hyperpool.cache'), 'off', 'which RESET goes back to');
$_->terminate for $other, $started;

# ---- the origin is down ----
$gateway->alter(q{max_age => '1h', stale_while_revalidate => '0', stale_if_error => '0'});
Cached::warm($gateway, $client, $read);
Cached::warm($gateway, $client, 'SELECT v FROM ruled');
my $value = $client->value($read);
$gateway->{origin}->stop('fast');
is(Gateway::wait_until(sub { $client->query('SELECT v + 1 FROM counted')->{error} ? 'down' : 'up' }, 'down'), 'down', 'the origin is down: its error for what is not there');
is($client->value($read), $value, 'what is there is given within max_age');
$client->query('UPDATE counted SET v = 5');
$gateway->{origin}->start;
Gateway::wait_until(sub { $client->value('SELECT 8') }, '8');
$direct = $gateway->direct(database => 'app');
Cached::learn($gateway);

$gateway->alter(q{max_age => '100ms'});
Cached::warm($gateway, $client, $read);
$gateway->{origin}->stop('fast');
sleep 0.3;
is(Gateway::wait_until(sub { $client->query($read)->{error}{C} // 'none' }, '08001', 30), '08001', 'older, and stale_if_error is off: the error of the origin');
$gateway->{origin}->start;
Gateway::wait_until(sub { $client->value('SELECT 8') }, '8');
Cached::learn($gateway);

$gateway->alter(q{max_age => '100ms', stale_if_error => '1h'});
Cached::warm($gateway, $client, $read);
$value = $client->value($read);
$gateway->{origin}->stop('fast');
sleep 0.3;
is(Gateway::wait_until(sub { $client->value($read) }, $value, 30), $value, 'stale_if_error: better old than nothing');
is(Gateway::wait_until(sub { (Cached::ask($gateway, $client, $read))[0] }, 'hit', 30), 'hit', 'counted as a hit');
is($client->query('SELECT v + 2 FROM counted')->{error}{C}, '08001', 'what is not there: the error');
$gateway->{origin}->start;
is(Gateway::wait_until(sub { $client->value('SELECT 8') }, '8'), '8', 'the origin is back');
$direct = $gateway->direct(database => 'app');
$now = change();
is(Gateway::wait_until(sub { $client->value($read) }, $now, 30), $now, 'and so is the present');

$gateway->is_unharmed('afterwards');
done_testing();
