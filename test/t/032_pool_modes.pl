# pool_mode: whose link is it, and for how long?
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;

my $gateway = Gateway->new(options => q{pool_size => 1, queue_timeout => '1s'});
$gateway->create('sessions', q{pool_size => 2, pool_mode => 'session', queue_timeout => '1s'});
$gateway->create('statements', q{pool_size => 1, pool_mode => 'statement', queue_timeout => '1s'});

sub pair { my ($origin) = @_; return map { $gateway->client(database => $origin) } 1 .. 2; }

# ---- transaction: the link is free as soon as the transaction ends ----
my ($one, $two) = pair('app');
is($one->value('SELECT pg_backend_pid()'), $two->value('SELECT pg_backend_pid()'), 'transaction: two clients share the link');
$one->query('BEGIN');
is($one->value('SELECT pg_backend_pid()'), $one->value('SELECT pg_backend_pid()'), 'a transaction keeps it');
is($two->value('SELECT 1'), '53300', 'and the other waits');
$one->query('COMMIT');
is($two->value('SELECT 1'), '1', 'until it ends');
is($gateway->sql(q{SELECT pool_mode FROM hyperpool.pools WHERE origin = 'app'}), 'transaction', 'the view says transaction');

# ---- session: the link stays for as long as the client ----
($one, $two) = pair('sessions');
my $pid = $one->value('SELECT pg_backend_pid()');
isnt($two->value('SELECT pg_backend_pid()'), $pid, 'session: each client has its own link');
is($one->value('SELECT pg_backend_pid()'), $pid, 'and keeps it');
$one->query('CREATE TEMP TABLE own AS SELECT 5 AS i');
$one->query('LISTEN bells');
$one->query(q{SET work_mem = '99kB'});
$one->query('PREPARE mine AS SELECT 6');
is(join(' ', map { $one->value($_) } 'SELECT i FROM own', 'SELECT * FROM pg_listening_channels()', 'SHOW work_mem', 'EXECUTE mine'), '5 bells 99kB 6', 'with all that it has made');
$two->query('NOTIFY bells');
is($one->query('SELECT 1')->{notifications}[0][1], 'bells', 'notifications come');
$two->query('NOTIFY bells');
ok(IO::Select->new($one->{socket})->can_read(10), 'also while it is idle');
my $third = eval { $gateway->client(database => 'sessions') };
is($third ? $third->value('SELECT 1') : '53300', '53300', 'a third waits in vain');
$one->terminate;
$third = $gateway->client(database => 'sessions');
my $check = q{SELECT to_regclass('own') IS NULL, count(*), current_setting('work_mem'), (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine') FROM pg_listening_channels()};
is($third->value($check), 't|0|4MB|0', 'when one has left, the next begins afresh');

# ---- statement: no transactions ----
($one, $two) = pair('statements');
is($one->value('SELECT pg_backend_pid()'), $two->value('SELECT pg_backend_pid()'), 'statement: two clients share the link');
is($one->value('SELECT 1; SELECT 2'), "1\n2", 'a string of several is fine');
$one->ask('BEGIN');
ok($one->is_closed(10), 'a transaction is not');
like($one->{in}, qr/25001/, 'with the reason');
like($one->{in}, qr/pool_mode/, 'and the option is named');
is($two->value('SELECT 3'), '3', 'the other goes on');
is($two->value('SELECT count(*) FROM pg_locks WHERE virtualtransaction IS NULL'), '0', 'outside a transaction');
is($two->extended('SELECT 4')->{rows}[0][0], '4', 'extended statements are fine');

# ---- changed while in use ----
$gateway->alter(q{pool_mode => 'session', pool_size => 3});
my $late = $gateway->client;
is(Gateway::wait_until(sub { $late->query(q{SET my.mark = 'x'}); $late->query('SELECT 1'); $gateway->sql(q{SELECT sv_bound FROM hyperpool.pools WHERE origin = 'app'}) }, '1'), '1', 'the new mode holds for clients already connected');
$gateway->is_unharmed('afterwards');
done_testing();
