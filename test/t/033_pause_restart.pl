# pause_origin, resume_origin, restart_origin, disconnect: clients wait, go on, keep their transactions, or go.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(workers => 2, options => q{pool_size => 4});
$gateway->create('other');
my @clients = map { $gateway->client } 1 .. 6;
$_->value('SELECT 1') for @clients;

# ---- pause ----
$clients[0]->query("BEGIN; SELECT 'hold'");
$gateway->sql(q{SELECT hyperpool.pause_origin('app')});
is($gateway->wait_for(q{SELECT paused FROM hyperpool.origins WHERE name = 'app'}, 't'), 't', 'the view says paused');
is($gateway->sql(q{SELECT bool_and(paused) FROM hyperpool.pools WHERE origin = 'app'}), 't', 'that of the pools too');
sleep 0.3;
$_->ask('SELECT 2') for @clients[ 1 .. 5 ];
ok(!(grep { $_->is_answered(0.1) } @clients[ 1 .. 5 ]), 'paused: nobody is served');
is($clients[0]->value('SELECT 3'), '3', 'but a transaction goes on');
is($clients[0]->query('COMMIT')->{tags}[0], 'COMMIT', 'and ends');
my $elsewhere = $gateway->client(database => 'other');
is($elsewhere->value('SELECT 4'), '4', 'another origin is not paused');
is($gateway->sql(q{SELECT sum(cl_waiting) FROM hyperpool.pools WHERE origin = 'app'}), '5', 'five wait');
$gateway->sql(q{SELECT hyperpool.resume_origin('app')});
is((scalar grep { RawClient::outcome($_) ne '2' } RawClient::answers(10, @clients[ 1 .. 5 ])), 0, 'resumed: all are served');
is($gateway->sql(q{SELECT paused FROM hyperpool.origins WHERE name = 'app'}), 'f', 'the view says so');

# ---- paused for longer than queue_timeout ----
$gateway->alter(q{queue_timeout => '1s'});
$gateway->sql(q{SELECT hyperpool.pause_origin('app')});
sleep 0.3;
my $answer = $clients[1]->query('SELECT 5');
is($answer->{error}{C}, '57P03', 'paused for too long: told so');
like($answer->{error}{M}, qr/origin "app" is paused/, 'by name');
like($answer->{error}{H} // '', qr/resume_origin/, 'and what ends it');
$clients[2]->ask('SELECT 5');
$clients[2]->is_answered(0.2);
$clients[2]->cancel;
is(RawClient::outcome($clients[2]->answer), '57014', 'one who waits can be cancelled');
$gateway->sql(q{SELECT hyperpool.resume_origin('app')});
is(Gateway::wait_until(sub { $clients[1]->value('SELECT 6') }, '6'), '6', 'and goes on');

# ---- restart ----
$gateway->sql(q{SELECT hyperpool.drop_origin('other')});    # its links go to the same database
$gateway->wait_for(q{SELECT count(*) FROM hyperpool.links WHERE origin IS DISTINCT FROM 'app'}, '0');
my $watcher = $gateway->direct;
sub pids { return map { split /\n/ } $watcher->value(q{SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend' AND application_name <> 'hyperpool scout'}); }
$_->ask('SELECT pg_sleep(0.1)') for @clients;
RawClient::answers(10, @clients);
$clients[0]->query('BEGIN');
my $own = $clients[0]->value('SELECT pg_backend_pid()');
my %before = map { $_ => 1 } pids();
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
is(Gateway::wait_until(sub { join ' ', grep { $before{$_} } pids() }, $own), $own, 'restart: every link is closed but that of a transaction');
is($clients[0]->value('SELECT pg_backend_pid()'), $own, 'which goes on');
$clients[0]->query('COMMIT');
is(Gateway::wait_until(sub { scalar grep { $before{$_} } pids() }, '0'), '0', 'then its link is closed too');
is((scalar grep { $_->value('SELECT 7') ne '7' } @clients), 0, 'clients have noticed nothing');

# ---- restart under load: no error at all ----
my $bad = 0;
for my $turn (1 .. 40)
{
	$_->ask('SELECT pg_sleep(0.005), 8') for @clients;
	$gateway->sql(q{SELECT hyperpool.restart_origin('app')}) if $turn % 8 == 0;
	$bad += grep { RawClient::outcome($_) ne '|8' } RawClient::answers(20, @clients);
}
is($bad, 0, 'restarts under load are not seen by clients');

# ---- disconnect ----
my $id = $gateway->sql('SELECT client_id FROM hyperpool.clients WHERE client_port = ' . $clients[3]->{socket}->sockport);
is($gateway->sql("SELECT hyperpool.disconnect($id)"), 't', 'disconnect');
ok($clients[3]->is_closed(10), 'the client is closed');
like($clients[3]->{in}, qr/FATAL\0.*57P01\0/s, 'with the reason');
is($gateway->wait_for("SELECT count(*) FROM hyperpool.clients WHERE client_id = $id", '0'), '0', 'and gone from the view');
is($gateway->sql("SELECT hyperpool.disconnect($id)"), 'f', 'a client that is not there');
is($gateway->sql('SELECT hyperpool.disconnect(-1)'), 'f', 'or cannot be');
$id = $gateway->sql('SELECT client_id FROM hyperpool.clients WHERE client_port = ' . $clients[4]->{socket}->sockport);
$clients[4]->ask('SELECT pg_sleep(60)');
$gateway->wait_for("SELECT state FROM hyperpool.clients WHERE client_id = $id", 'active');
$gateway->sql("SELECT hyperpool.disconnect($id)");
ok($clients[4]->is_closed(10), 'one whose query runs');
is(Gateway::wait_until(sub { $watcher->value(q{SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ 'sleep.60' AND pid <> pg_backend_pid()}) }, '0'), '0', 'the query is cancelled');
is($clients[5]->value('SELECT 9'), '9', 'the others stay');
# in the middle of a row nothing can be said that would not be read as the row's
my $within = $gateway->client;
$id = $gateway->sql('SELECT client_id FROM hyperpool.clients WHERE client_port = ' . $within->{socket}->sockport);
$within->ask(q{SELECT repeat('x', 50000000)});
ok(IO::Select->new($within->{socket})->can_read(60), 'a long row is on its way');
$gateway->sql("SELECT hyperpool.disconnect($id)");
ok($within->is_closed(20), 'the client is closed');
like($within->{in}, qr/x\z/, 'and the row ends as it stood');
my ($out, $err) = $gateway->try_sql(q{SELECT hyperpool.pause_origin('nowhere')});
like($err, qr/origin "nowhere" does not exist/, 'no such origin');
$gateway->is_unharmed('afterwards');
done_testing();
