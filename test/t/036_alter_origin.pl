# An origin or a password changed takes effect for new links without a restart; a dropped one refuses clients clearly.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Gateway->new(create => 0);
my ($origin, $region) = ($gateway->{origin}, $gateway->{region});
my $port = $origin->port;
$origin->safe_psql('postgres', q{
SET password_encryption = 'scram-sha-256';
CREATE ROLE keyed LOGIN PASSWORD 'first-secret';
CREATE ROLE reader LOGIN PASSWORD 'reader-secret';
CREATE DATABASE second OWNER keyed});
my $hba = PostgreSQL::Test::Utils::slurp_file($origin->data_dir . '/pg_hba.conf');
open my $file, '>', $origin->data_dir . '/pg_hba.conf' or die;
print $file "host all keyed,reader all scram-sha-256\n$hba";
close $file;
$origin->reload;

$region->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE careful LOGIN PASSWORD 'careful'});
my $regional_hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
open $file, '>', $region->data_dir . '/pg_hba.conf' or die;
print $file "host all careful all scram-sha-256\n$regional_hba";
close $file;
$region->reload;

my $string = "host=127.0.0.1 port=$port user=keyed dbname=app";
$gateway->sql("SELECT hyperpool.create_origin('app', '$string password=first-secret', allow_trust => true, pool_size => 2); GRANT USAGE ON FOREIGN SERVER app TO PUBLIC");
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
my $client = $gateway->client;
is($client->value('SELECT current_user'), 'keyed', 'in');

# ---- another password ----
$origin->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; ALTER ROLE keyed PASSWORD 'second-secret'});
is($client->value('SELECT 1'), '1', 'a link that is open stays open when the password changes at the origin');
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
is(Gateway::wait_until(sub { $client->value('SELECT 1') }, '28P01'), '28P01', "the origin's own error when the password is wrong");
my $answer = $client->query('SELECT 1');
like($answer->{error}{M}, qr/password authentication failed/, 'in its words');
unlike("$answer->{error}{M} $answer->{error}{H}", qr/secret/, 'without the password');
my ($out, $err) = $gateway->try_sql(q{SELECT hyperpool.set_credential('app', 'public', 'keyed', 'wrong-secret')});
like($err, qr/password authentication failed/, 'a wrong one is refused at once');
$gateway->sql(q{SELECT hyperpool.set_credential('app', 'public', 'keyed', 'second-secret')});
is(Gateway::wait_until(sub { $client->value('SELECT current_user') }, 'keyed', 10), 'keyed', 'the right one is used without a restart, by a client already connected');

# ---- another user ----
$gateway->sql(q{SELECT hyperpool.set_credential('app', 'public', 'reader', 'reader-secret')});
my $new = $gateway->client;
is(Gateway::wait_until(sub { $gateway->client->value('SELECT current_user') }, 'reader', 10), 'reader', 'another user for new clients');
is(Gateway::wait_until(sub { $client->value('SELECT current_user') }, 'reader', 10), 'reader', 'and for the former, from the next exchange on');
is($gateway->wait_for('SELECT string_agg(origin_user, $$ $$) FROM hyperpool.pools', 'reader', 10), 'reader', 'the former user has no pool any more: it would take one of max_pools');
$gateway->sql(q{CREATE ROLE special LOGIN; SELECT hyperpool.set_credential('app', 'special', 'keyed', 'second-secret')});
is(Gateway::wait_until(sub { my $c = eval { $gateway->client(user => 'special') }; $c ? $c->value('SELECT current_user') : '' }, 'keyed', 10), 'keyed', 'a credential of one role');
is($gateway->client->value('SELECT current_user'), 'reader', 'is not for others');
is($gateway->sql('SELECT count(*) FROM hyperpool.pools WHERE sv_idle + sv_active > 0'), '2', 'each user at the origin has a pool of its own');

# ---- another database ----
$client->query('BEGIN');
my $pid = $client->value('SELECT pg_backend_pid()');
$gateway->sql(q{SELECT hyperpool.alter_origin('app', 'dbname=second')});
is(Gateway::wait_until(sub { $gateway->client->value('SELECT current_database()') }, 'second', 10), 'second', 'another database for new clients');
is($client->value('SELECT current_database()'), 'app', 'a transaction goes on where it began');
$client->query('COMMIT');
is($client->value('SELECT current_database()'), 'second', 'then the client goes along');
is(Gateway::wait_until(sub { $gateway->links_at_origin }, '0', 10), '0', 'and the former links are closed');
($out, $err) = $gateway->try_sql(q{SELECT hyperpool.alter_origin('app', 'dbname=nowhere')});
like($err, qr/does not exist at origin/, 'one that is not there is refused');
is($client->value('SELECT current_database()'), 'second', 'and nothing has changed');

# ---- rights ----
$gateway->sql('REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC');
is(Gateway::wait_until(sub { eval { $gateway->client; 1 } ? 'in' : ($@ =~ /FATAL (\w+)/)[0] }, '42501', 10), '42501', 'without USAGE no new client');
like(RawClient::error_text($client->query('SELECT 1', 10)), qr/42501|closed/, 'nor the former ones any longer');
$gateway->sql('GRANT USAGE ON FOREIGN SERVER app TO PUBLIC');
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 1), 1, 'granted again');

# ---- allow_trust ----
$gateway->sql(q{SELECT hyperpool.alter_origin('app', allow_trust => false)});
is(Gateway::wait_until(sub { eval { $gateway->client; 1 } ? 'in' : ($@ =~ /FATAL (\w+)/)[0] }, '28000', 10), '28000', 'allow_trust off: a trust line lets nobody in');
$gateway->sql(q{SELECT hyperpool.alter_origin('app', allow_trust => true)});
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 1), 1, 'and on again');

# ---- renamed ----
$client = $gateway->client;
$gateway->sql('ALTER SERVER app RENAME TO moved');
is(Gateway::wait_until(sub { $gateway->can_enter('moved') }, 1), 1, 'a renamed origin has its new name');
$gateway->sql('ALTER SERVER moved RENAME TO app');
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 1), 1, 'and the former one again');

# ---- dropped ----
$client = $gateway->client;
my $busy = $gateway->client;
my $idle = $gateway->client;
$busy->query("BEGIN; SELECT 'hold'");
$client->value('SELECT 1');
$gateway->sql(q{SELECT hyperpool.drop_origin('app')});
is($busy->query('COMMIT')->{tags}[0] // 'no COMMIT', 'COMMIT', 'dropped: a transaction may end');
for my $gone ($client, $busy, $idle)
{
	my $told = $gone->query('SELECT 1', 15);
	like(RawClient::error_text($told), qr/FATAL 57P01 .*origin "app" was dropped/, 'dropped: a client is told') or diag(RawClient::error_text($told));
}
like(eval { $gateway->client; 1 } ? 'in' : $@, qr/FATAL (3D000|28000) .*origin "app"/, 'a new one is refused');
my ($nothing, $refused);
$region->psql('postgres', 'SELECT 1', connstr => "host=127.0.0.1 port=$gateway->{port} user=careful password=careful dbname=app", stdout => \$nothing, stderr => \$refused);
like($refused, qr/FATAL:  origin "app" does not exist/, 'and who has proved who he is, is told why');
is($gateway->wait_for('SELECT count(*) FROM hyperpool.links', '0', 10), '0', 'its links are gone');
is($gateway->wait_for('SELECT count(*) FROM hyperpool.pools', '0', 10), '0', 'and its pools');
is(Gateway::wait_until(sub { $origin->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename IN ('keyed', 'reader')}) }, '0', 10), '0', 'at the origin too');

# ---- created again under the same name ----
$gateway->sql("SELECT hyperpool.create_origin('app', '$string password=second-secret', allow_trust => true); GRANT USAGE ON FOREIGN SERVER app TO PUBLIC");
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 1), 1, 'created again');
is($gateway->client->value('SELECT current_user'), 'keyed', 'and in service');
is($gateway->counter('logins') > 0 ? 'counts' : 'none', 'counts', 'with counters of its own');

my $log = PostgreSQL::Test::Utils::slurp_file($region->logfile);
$log =~ s/^.*statement: .*$//mg;
unlike($log, qr/-secret/, 'no password in what hyperpool logs');
$gateway->is_unharmed('afterwards');
done_testing();
