# Nobody gets an answer that was made for another: users, roles, databases, schemas and settings; and what was taken away is not shown any more. Case 22 of docs/testing.md; more in 184_cache_privileges.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Cached::start(create => 0, workers => 2, make => q{
CREATE TABLE mine (id int, owner text, made timestamptz, x bytea, f float8);
INSERT INTO mine VALUES (1, 'app', '2020-02-01 12:00:00+00', 'bytes', 0.1), (2, 'ann', '2020-02-01 12:00:00+00', 'bytes', 0.1), (3, 'ben', '2020-02-01 12:00:00+00', 'bytes', 0.1);
CREATE SCHEMA one; CREATE TABLE one.here AS SELECT 'one' AS t; GRANT USAGE ON SCHEMA one TO PUBLIC; GRANT SELECT ON one.here TO PUBLIC;
CREATE SCHEMA two; CREATE TABLE two.here AS SELECT 'two' AS t; GRANT USAGE ON SCHEMA two TO PUBLIC; GRANT SELECT ON two.here TO PUBLIC;
CREATE TABLE secret (t text); INSERT INTO secret VALUES ('secret')});
my $origin = $gateway->{origin};
$origin->safe_psql('postgres', 'CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE readers; GRANT readers TO app; CREATE DATABASE apart OWNER app');
$origin->safe_psql('apart', q{SET ROLE app; CREATE TABLE mine AS SELECT 100 AS id, 'apart'::text AS owner});
Cached::at_origin($gateway, q{
GRANT SELECT ON mine TO readers; GRANT SELECT ON mine, secret TO ann, ben;
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
ALTER TABLE mine FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON mine USING (owner = current_user)});
$gateway->sql('CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE cat LOGIN');
$gateway->create('app', q{cache => true, max_age => '1h'});
$gateway->create('again', q{cache => true, max_age => '1h'});
{
	my $string = $gateway->connection_string =~ s/dbname=app/dbname=apart/r;
	$gateway->sql("SELECT hyperpool.create_origin('apart', '$string', allow_trust => true, cache => true, max_age => '1h'); GRANT USAGE ON FOREIGN SERVER apart TO PUBLIC");
	Gateway::wait_until(sub { $gateway->can_enter('apart') }, 1);
}
for my $name ('app', 'again')
{
	# cat is ann at the origin
	$gateway->sql("SELECT hyperpool.set_credential('$name', '$_->[0]', '$_->[1]', '')") for [ 'ann', 'ann' ], [ 'ben', 'ben' ], [ 'cat', 'ann' ];
}
Cached::learn($gateway, $_) for 'app', 'again', 'apart';
my $direct = $gateway->direct(database => 'app');

# Clients that must never get each other's answers: each asks several times, by turns; then each is right, and all but the first of each were hits.
sub each_its_own
{
	my ($what, $sql, @pairs) = @_;    # [client, answer]
	my @wrong;
	for my $turn (1 .. 4)
	{
		for my $i (0 .. $#pairs)
		{
			my ($client, $wanted) = @{ $pairs[$i] };
			for my $got (map { s/\n/,/gr } $client->value($sql), RawClient::outcome($client->extended($sql)))
			{
				push @wrong, "client $i, turn $turn: $got, not $wanted" if $got ne $wanted;
			}
		}
	}
	is(join("\n", @wrong), '', "$what: each its own answer");
	for my $i (0 .. $#pairs)
	{
		is((Cached::warm($gateway, $pairs[$i][0], $sql))[0], 'hit', "$what: client $i, from the cache");
	}
	return;
}

# ---- users, origins, databases ----
my ($app, $ann, $ben, $cat) = map { $gateway->client(user => $_) } 'app', 'ann', 'ben', 'cat';
my $again = $gateway->client(database => 'again', user => 'ben');
my $apart = $gateway->client(database => 'apart');
each_its_own('users', 'SELECT id FROM mine', [ $app, '1' ], [ $ann, '2' ], [ $ben, '3' ], [ $cat, '2' ], [ $again, '3' ], [ $apart, '100' ]);
each_its_own('current_user', 'SELECT current_user', [ $app, 'app' ], [ $ann, 'ann' ], [ $ben, 'ben' ], [ $cat, 'ann' ]);
each_its_own('current_database()', 'SELECT current_database()', [ $app, 'app' ], [ $apart, 'apart' ]);

# ---- schemas and settings, given when connecting ----
sub with_option { my ($setting) = @_; return $gateway->client(parameters => { options => "-c $setting" }); }
my ($left, $right) = (with_option('search_path=one'), with_option('search_path=two,one'));
each_its_own('search_path', 'SELECT t FROM here', [ $left, 'one' ], [ $right, 'two' ]);
each_its_own('TimeZone', 'SELECT made FROM mine', [ $app, $app->value('SELECT made FROM mine') ], [ $gateway->client(parameters => { TimeZone => 'Asia/Tokyo' }), '2020-02-01 21:00:00+09' ],
	[ $gateway->client(parameters => { TimeZone => 'UTC' }), '2020-02-01 12:00:00+00' ]);
each_its_own('DateStyle', 'SELECT made::date FROM mine', [ $app, '2020-02-01' ], [ $gateway->client(parameters => { DateStyle => 'German' }), '01.02.2020' ], [ $gateway->client(parameters => { DateStyle => 'SQL, MDY' }), '02/01/2020' ]);
each_its_own('bytea_output', 'SELECT x FROM mine', [ $app, '\x6279746573' ], [ with_option('bytea_output=escape'), 'bytes' ]);
each_its_own('extra_float_digits', 'SELECT f / 3 FROM mine', [ $app, '0.03333333333333333' ], [ with_option('extra_float_digits=-10'), '0.033333' ]);
each_its_own('client_encoding', q{SELECT chr(233)}, [ $app, "\xc3\xa9" ], [ $gateway->client(parameters => { client_encoding => 'LATIN1' }), "\xe9" ]);

# ---- the same session changes them ----
my $client = $gateway->client;
my @steps = (
	[ 'SET search_path = one', 'SELECT t FROM here', 'one' ],
	[ 'SET search_path = two', 'SELECT t FROM here', 'two' ],
	[ 'SET search_path = one', 'SELECT t FROM here', 'one' ],
	[ q{SET TimeZone = 'Asia/Tokyo'}, 'SELECT made FROM public.mine', '2020-02-01 21:00:00+09' ],
	[ q{SET TimeZone = 'UTC'}, 'SELECT made FROM public.mine', '2020-02-01 12:00:00+00' ],
	[ q{SET DateStyle = 'German'}, 'SELECT made::date FROM public.mine', '01.02.2020' ],
	[ 'RESET DateStyle', 'SELECT made::date FROM public.mine', '2020-02-01' ],
	[ 'SET ROLE readers', 'SELECT count(*), current_user FROM public.mine', '0|readers' ],
	[ 'RESET ROLE', 'SELECT count(*), current_user FROM public.mine', '1|app' ],
	[ 'SET row_security = off', 'SELECT count(*) FROM public.mine', '42501' ],
	[ 'RESET row_security', 'SELECT count(*) FROM public.mine', '1' ],
	[ 'DISCARD ALL', 'SELECT t FROM one.here', 'one' ],
);
for my $turn (1 .. 3)
{
	my @wrong;
	for my $step (@steps)
	{
		my ($set, $sql, $wanted) = @$step;
		$client->query($set);
		for (1 .. 2)
		{
			my $got = $client->value($sql);
			push @wrong, "$set: $got, not $wanted" if $got ne $wanted;
		}
	}
	is(join("\n", @wrong), '', "SET in one session, turn $turn");
}
$client->query('BEGIN');
$client->query('SET LOCAL ROLE readers');
is($client->value('SELECT count(*) FROM mine'), '0', 'SET LOCAL ROLE');
$client->query('COMMIT');
is($client->value('SELECT count(*) FROM mine'), '1', 'and its end');
$client->query(q{SELECT set_config('search_path', 'two', false)});
is($client->value('SELECT t FROM here'), 'two', 'set_config');

# ---- rights taken away through the gateway: at once, for everybody ----
$client->terminate;
$client = $gateway->client;
my $secret = 'SELECT t FROM secret';
sub all_warm { Cached::warm($gateway, $_, $secret) for @_; return; }
my @takes = (
	[ 'REVOKE', 'REVOKE SELECT ON secret FROM ann', $ann, '42501', 'GRANT SELECT ON secret TO ann' ],
	[ 'a policy', 'ALTER TABLE secret ENABLE ROW LEVEL SECURITY', $ben, '', 'ALTER TABLE secret DISABLE ROW LEVEL SECURITY' ],
	[ 'of the owner', 'REVOKE SELECT ON secret FROM app', $app, '42501', 'GRANT SELECT ON secret TO app' ],
	[ 'a schema', 'REVOKE USAGE ON SCHEMA public FROM PUBLIC', $ann, '42P01', 'GRANT USAGE ON SCHEMA public TO PUBLIC' ],
	[ 'in a transaction', 'BEGIN; REVOKE SELECT ON secret FROM ann; COMMIT', $ann, '42501', 'GRANT SELECT ON secret TO ann' ],
	[ 'in a DO', 'DO $$ BEGIN REVOKE SELECT ON secret FROM ann; END $$', $ann, '42501', 'GRANT SELECT ON secret TO ann' ],
	[ 'a column', 'BEGIN; REVOKE SELECT ON secret FROM ann; GRANT SELECT (t) ON secret TO ann; COMMIT; BEGIN; REVOKE SELECT (t) ON secret FROM ann; COMMIT', $ann, '42501', 'GRANT SELECT ON secret TO ann' ],
);
for my $take (@takes)
{
	my ($what, $sql, $who, $wanted, $back) = @$take;
	all_warm($app, $ann, $ben);
	is($who->value($secret), 'secret', "$what: may read it");
	is($client->query($sql)->{error}, undef, "$what: taken away");
	is($who->value($secret), $wanted, "case 22: $what: not shown any more");
	is(RawClient::outcome($who->extended($secret)), $wanted, "$what: nor by extended messages");
	$client->query($back);
	is($who->value($secret), 'secret', "$what: and given back");
}
# a member of a role that loses it; ALTER ROLE … SET
# since 16 only who granted a role takes it away
$origin->safe_psql('postgres', 'ALTER ROLE app CREATEROLE; GRANT readers TO app WITH ADMIN OPTION; SET ROLE app; GRANT readers TO ann');
$origin->safe_psql('app', 'REVOKE SELECT ON secret FROM ann; GRANT SELECT ON secret TO readers');
Cached::learn($gateway);
Cached::warm($gateway, $ann, $secret);
is($ann->value($secret), 'secret', 'by a role');
is($client->query('REVOKE readers FROM ann')->{error}, undef, 'REVOKE of a role');
is($ann->value($secret), '42501', 'REVOKE of a role: not shown any more');

# ---- elsewhere: from the scout's next look ----
Cached::warm($gateway, $ben, $secret);
Cached::at_origin($gateway, 'REVOKE SELECT ON secret FROM ben');
Cached::learn($gateway);
is($ben->value($secret), '42501', 'REVOKE at the origin, then refresh_catalog');
Cached::at_origin($gateway, 'GRANT SELECT ON secret TO ben');
Cached::learn($gateway);
Cached::warm($gateway, $ben, $secret);
Cached::at_origin($gateway, 'ALTER TABLE secret ENABLE ROW LEVEL SECURITY');
is(Gateway::wait_until(sub { $ben->value($secret) eq '' ? 'empty' : 'rows' }, 'empty', 30), 'empty', 'a policy at the origin: the scout sees it by itself');

# ---- the same local role with another credential, the same origin made anew ----
Cached::warm($gateway, $cat, 'SELECT id FROM mine');
$gateway->sql(q{SELECT hyperpool.set_credential('app', 'cat', 'ben', '')});
is(Gateway::wait_until(sub { my $new = $gateway->client(user => 'cat'); my $got = $new->value('SELECT id FROM mine'); $new->terminate; $got }, '3'), '3', 'another credential: another answer');
$apart->value('SELECT id FROM mine') for 1 .. 2;
$gateway->sql(q{SELECT hyperpool.drop_origin('apart')});
$gateway->create('apart', q{cache => true, max_age => '1h'});
Cached::learn($gateway, 'apart');
is($gateway->client(database => 'apart')->value('SELECT id FROM mine'), '1', 'an origin made anew, for another database, under the former name');

$gateway->is_unharmed('afterwards');
done_testing();
