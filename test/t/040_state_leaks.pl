# What a client leaves behind in its session at the origin never reaches the next one. There is one link, so the next client
# gets the very same, or waits until it is free. Cases 14 and 17 of docs/testing.md; more in 182.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;

my $gateway = Gateway->new(options => 'pool_size => 1');
$gateway->{origin}->safe_psql('app', q{
CREATE ROLE helper;
GRANT helper TO app;
GRANT ALL ON SCHEMA public TO app;
CREATE TABLE kept (i int);
GRANT ALL ON kept TO app;
CREATE SEQUENCE numbers;
GRANT ALL ON numbers TO app;
CREATE FUNCTION quietly() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('work_mem', '111kB', false);
	PERFORM pg_advisory_lock(77);
	CREATE TEMP TABLE IF NOT EXISTS secret (t text);
	EXECUTE 'LISTEN whispers';
	RETURN 1;
END$$;
CREATE FUNCTION quiet_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM quietly();
	RETURN NEW;
END$$;
CREATE TABLE watched (i int);
GRANT ALL ON watched TO app;
CREATE TRIGGER quiet BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION quiet_trigger()});

# Everything that must be as in a new session.
my $check = q{SELECT (SELECT count(*) FROM pg_listening_channels()) AS listening,
	(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory,
	(SELECT count(*) FROM pg_cursors WHERE name ~ 'mine') AS cursors,
	(SELECT count(*) FROM pg_prepared_statements WHERE name ~ 'mine') AS prepared,
	to_regclass('secret') IS NULL AS no_table,
	current_setting('work_mem') AS work_mem,
	current_setting('search_path') AS search_path,
	current_user, session_user,
	coalesce(current_setting('my.secret', true), '') AS custom,
	current_setting('transaction_read_only') AS read_only,
	current_setting('transaction_isolation') AS isolation,
	current_setting('statement_timeout') AS statement_timeout,
	(SELECT count(*) FROM kept) AS kept};
my $clean = $gateway->client->value($check);
is($clean, '0|0|0|0|t|4MB|"$user", public|app|app||off|read committed|0|0', 'a new session');

# name => [ what the client says, what it then sees of it itself (SQL => answer) or undef ]
my @cases = (
	[ 'LISTEN', ['LISTEN whispers'], 'SELECT * FROM pg_listening_channels()', 'whispers' ],
	[ 'advisory lock', ['SELECT pg_advisory_lock(42)'], 'SELECT pg_try_advisory_lock(42)', 't' ],
	[ 'WITH HOLD cursor', [ 'BEGIN', 'DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 3)', 'COMMIT' ], 'FETCH mine', '1' ],
	[ 'WITH HOLD cursor by itself', ['DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 3)'], 'FETCH mine', '1' ],
	[ 'temporary table', [q{CREATE TEMP TABLE secret AS SELECT 'password' AS t}], 'SELECT t FROM secret', 'password' ],
	[ 'SELECT INTO TEMP', [q{SELECT 'password' AS t INTO TEMP secret}], 'SELECT t FROM secret', 'password' ],
	[ 'SQL PREPARE', ['PREPARE mine AS SELECT 5'], 'EXECUTE mine', '5' ],
	[ 'SET', [q{SET work_mem = '123kB'}], 'SHOW work_mem', '123kB' ],
	[ 'SET search_path', [q{SET search_path = pg_catalog, "odd ""name"}], 'SHOW search_path', 'pg_catalog, "odd ""name"' ],
	[ 'SET in a transaction', [ 'BEGIN', q{SET work_mem = '124kB'}, 'COMMIT' ], 'SHOW work_mem', '124kB' ],
	[ 'SET in a string of several', [q{SELECT 1; SET work_mem = '125kB'; SELECT 2}], 'SHOW work_mem', '125kB' ],
	[ 'SET of a custom setting', [q{SET my.secret = 'x'}], 'SHOW my.secret', 'x' ],
	[ 'set_config', [q{SELECT set_config('my.secret', 'x', false), set_config('work_mem', '126kB', false)}], q{SELECT current_setting('my.secret')}, 'x' ],
	[ 'SET ROLE', ['SET ROLE helper'], 'SELECT current_user', 'helper' ],
	[ 'SET SESSION CHARACTERISTICS', ['SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE'], 'SHOW transaction_read_only', 'on' ],
	[ 'SET statement_timeout', [q{SET statement_timeout = '300s'}], 'SHOW statement_timeout', '5min' ],
	[ 'a sequence', [q{SELECT nextval('numbers')}], undef ],
	[ 'a function that does it all', ['SELECT quietly()'], undef ],
	[ 'a trigger that does it all', ['INSERT INTO watched VALUES (1)'], undef ],
	[ 'a DO block', ['DO $$ BEGIN PERFORM quietly(); END $$'], undef ],
	[ 'a transaction begun', [ 'BEGIN', 'INSERT INTO kept VALUES (1)', 'SAVEPOINT one' ], undef ],
	[ 'a failed transaction', [ 'BEGIN', 'INSERT INTO kept VALUES (1)', 'SELECT 1/0' ], undef ],
	[ 'SET LOCAL, transaction begun', [ 'BEGIN', q{SET LOCAL work_mem = '127kB'}, 'LOCK TABLE kept' ], undef ],
	[ 'a cursor, transaction begun', [ 'BEGIN', 'DECLARE mine CURSOR FOR SELECT * FROM kept' ], undef ],
);

# The next client may have to wait for as long as the first is connected, never longer.
sub next_client_is_clean
{
	my ($name, $how, $next) = @_;
	my $got = RawClient::outcome($next->answer);
	is($got, $clean, "case 17: $name, then the client $how: the next finds nothing");
}

my %ways = (
	'ends' => sub { $_[0]->terminate },
	'vanishes' => sub { $_[0]->vanish },
	'vanishes while its query runs' => sub { $_[0]->ask('SELECT pg_sleep(60)'); $_[0]->is_answered(0.05); $_[0]->reset; },
	'vanishes in the middle of a message' => sub { $_[0]->put_raw('Q' . pack('N', 1000) . 'SELECT'); $_[0]->vanish; },
);

for my $case (@cases)
{
	my ($name, $says, $own, $answer) = @$case;
	for my $how (sort keys %ways)
	{
		my $client = $gateway->client;
		$client->query($_) for @$says;
		is($client->value($own), $answer, "$name: is there for the client itself") if defined $own && $how eq 'ends';
		my $next = $gateway->client;
		$next->ask($check);
		# either it is answered meanwhile, beside the first, or it waits for it to leave
		if ($how eq 'ends' && $next->is_answered(0.05) && defined $own)
		{
			is($client->value($own), $answer, "$name: is still there after another client's turn");
		}
		$ways{$how}->($client);
		next_client_is_clean($name, $how, $next);
		is($next->value('SELECT lastval()'), '55000', "$name: no value of a sequence") if $name eq 'a sequence';
		$next->terminate;
	}
}

# ---- by extended messages too ----
for my $sql ('LISTEN whispers', 'SELECT pg_advisory_lock(43)', 'PREPARE mine AS SELECT 1', q{SET my.secret = 'x'}, 'CREATE TEMP TABLE secret ()', 'SELECT quietly()')
{
	my $client = $gateway->client;
	$client->extended($sql);
	my $next = $gateway->client;
	$next->put_raw(RawClient::extended_messages($check));
	$next->is_answered(0.05);
	$client->vanish;
	next_client_is_clean("$sql (extended)", 'vanishes', $next);
	$next->terminate;
}

# ---- a message of which half is said when its exchange has ended: the next client's bytes are not its rest ----
for my $how ('goes on', 'vanishes')
{
	my $client = $gateway->client;
	$client->{stop_at_copy} = 1;
	$client->query('COPY kept FROM STDIN');
	$client->{stop_at_copy} = 0;
	$client->put_raw(RawClient::message('d', "nonsense\n") . 'd' . pack('N', 4 + 500000) . 'x' x 100000);
	is(RawClient::outcome($client->answer), '22P02', 'COPY fails in the middle of a message');
	my $next = $gateway->client;
	$next->ask($check);
	$next->is_answered(0.3);    # it may have to wait for the rest
	$how eq 'vanishes' ? $client->vanish : $client->put_raw('x' x (500000 - 100000) . RawClient::message('c', ''));
	is(RawClient::outcome($next->answer), $clean, "the client $how: the next is answered, not swallowed");
	is($client->value('SELECT 6'), '6', 'and the first goes on after the rest of its message') if $how eq 'goes on';
	$_->terminate for $how eq 'goes on' ? $client : (), $next;
}

# ---- a name that differs in its escapes only is another name ----
$gateway->{origin}->safe_psql('app', q{CREATE FUNCTION pps(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN 1; END$$});
my $reader = $gateway->client;
is($reader->value(q{SELECT U&"\0061\0062\0073"(1)}), '1', 'abs, escaped');
is($reader->value(q{SELECT U&"\0070\0070\0073"(1)}), '1', 'a function that sets, escaped');
$reader->terminate;
my $after = $gateway->client;
unlike($after->value('SHOW search_path'), qr/evil/, 'what it has set is gone');
$after->terminate;

is($gateway->links_at_origin, '1', 'there was one link all the time');
$gateway->is_unharmed('afterwards');
done_testing();
