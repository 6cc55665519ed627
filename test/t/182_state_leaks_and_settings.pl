# Settings and session state on one link: what a client has set in whatever way is neither the next one's nor lost to itself, and nothing that the origin's users have made steers
# what hyperpool asks for its own sake. Cases 14 to 17 of docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

my $gateway = Cached::start(options => q{pool_size => 1, max_age => '1h'}, make => q{
CREATE TABLE kept (i int); INSERT INTO kept VALUES (1);
CREATE FUNCTION set_it(name text, value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN set_config(name, value, false); END $$;
CREATE PROCEDURE call_it(name text, value text) LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config(name, value, false); END $$});
my $origin = $gateway->{origin};
$origin->safe_psql('app', 'CREATE ROLE helper; GRANT helper TO app');
my $direct = $gateway->direct(database => 'app');

sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }
sub literal { my ($t) = @_; return q{'} . $t =~ s/'/''/gr . q{'}; }

# The lines of one that the other has not.
sub differences
{
	my ($got, $wanted) = @_;
	my %known = map { $_ => 1 } split /\n/, $wanted;
	return join "\n", grep { !$known{$_} } split /\n/, $got;
}

# ---- case 14: every setting that a user may set, to another value, in every way ----
my $all = q{SELECT string_agg(name || '=' || coalesce(setting, ''), E'\n' ORDER BY name) || E'\n' || current_user || ' ' || session_user FROM pg_catalog.pg_settings WHERE name NOT IN ('transaction_isolation', 'application_name') AND name !~ '^plpgsql'};
my %special = (DateStyle => 'German, YMD', TimeZone => 'Asia/Kathmandu', search_path => 'pg_catalog, "odd ""one"""', client_encoding => 'LATIN1', default_text_search_config => 'pg_catalog.german', lc_messages => 'C',
	lc_monetary => 'C', lc_numeric => 'C', lc_time => 'C', backtrace_functions => undef, timezone_abbreviations => 'India', default_tablespace => 'pg_default', temp_tablespaces => 'pg_default', xmlbinary => 'hex', transaction_deferrable => undef,
	transaction_isolation => undef, transaction_read_only => undef, application_name => undef, geqo_seed => '0.5', createrole_self_grant => 'set', default_transaction_isolation => 'serializable');

# Another value that the setting takes; times are long ones.
sub another_value
{
	my ($name, $value, $type, $min, $max, $values) = @_;
	return $special{$name} if exists $special{$name};
	return $value eq 'on' ? 'off' : 'on' if $type eq 'bool';
	return (grep { $_ ne $value } split /,/, $values =~ tr/{}"//dr)[0] if $type eq 'enum';
	return undef if $type eq 'string';
	return 3_000_000 if $name =~ /timeout|interval/ && $max > 3_000_000;
	return $value + 1 <= $max ? $value + 1 : $value - 1;
}
my %other;
for my $row (@{ $direct->query(q{SELECT name, setting, vartype, min_val, max_val, enumvals::text FROM pg_settings WHERE context = 'user' AND name !~ '^plpgsql'})->{rows} })
{
	my $value = another_value(@$row);
	next if !defined $value;
	# what the server refuses here, and what would hide the others from us
	$other{ $row->[0] } = $value if !$direct->query('BEGIN; SET ' . $row->[0] . ' = ' . ($row->[0] =~ /search_path|DateStyle/ ? $value : literal($value)) . '; ROLLBACK')->{error};
	$direct->query('ROLLBACK');
}
cmp_ok(scalar(keys %other), '>=', 100, 'case 14: ' . keys(%other) . ' settings are to be set');
my @names = sort keys %other;
my $is_list = qr/^(search_path|DateStyle)$/;
my %way = (
	'SET' => [ map { "SET $_ = " . (/$is_list/ ? $other{$_} : literal($other{$_})) } @names ],
	'SET in a transaction' => [ 'BEGIN', (map { "SET $_ = " . (/$is_list/ ? $other{$_} : literal($other{$_})) } @names), 'COMMIT' ],
	'SET SESSION, in one string' => [ join '; ', map { "SET SESSION $_ = " . (/$is_list/ ? $other{$_} : literal($other{$_})) } grep { !/conforming|client_encoding/ } @names ],
	'set_config' => [ map { 'SELECT pg_catalog.set_config(' . literal($_) . ', ' . literal($other{$_}) . ', false)' } @names ],
	'a function' => [ map { 'SELECT public.set_it(' . literal($_) . ', ' . literal($other{$_}) . ')' } @names ],
	'CALL' => [ map { 'CALL public.call_it(' . literal($_) . ', ' . literal($other{$_}) . ')' } @names ],
	'DO' => [ map { 'DO $$ BEGIN PERFORM pg_catalog.set_config(' . literal($_) . ', ' . literal($other{$_}) . ', false); END $$' } @names ],
);
my $fresh = $gateway->client->value($all);
is(differences($fresh, $direct->value($all)), '', 'case 14: a new session has what a direct connection has');
for my $way (sort keys %way)
{
	my ($setter, $beside, $itself) = ($gateway->client, $gateway->client, $gateway->direct(database => 'app'));
	my @failed = grep { $setter->query($_)->{error} } @{ $way{$way} };
	is(scalar @failed, 0, "case 14: $way: all are set") or diag(join '; ', @failed);
	is(differences($beside->value($all), $fresh), '', "case 14: $way: another client on the same link has none of it");
	if ($way =~ /^(SET|set_config)/)
	{
		$itself->query($_) for @{ $way{$way} };
		is(differences($setter->value($all), $itself->value($all)), '', "case 14: $way: the client itself has all of it, as directly");
		is(differences($setter->value($all), $itself->value($all)), '', "case 14: $way: and keeps it");
	}
	$setter->query('SET ROLE helper');
	$setter->vanish;
	is(differences($beside->value($all), $fresh), '', "case 14: $way: nor when its client has gone");
	is(differences($gateway->client->value($all), $fresh), '', "case 14: $way: nor does a new one");
	$beside->terminate;
}
{
	# what pg_dump sets, above all an empty search_path
	my $output = '';
	ok(IPC::Run::run([ 'pg_dump', '--schema-only', '-d', $gateway->connstr ], '<', \undef, '>&', \$output), 'case 14: pg_dump through the gateway') or diag($output);
	like($output, qr/CREATE TABLE public\.kept/, 'case 14: has dumped');
	is(differences($gateway->client->value($all), $fresh), '', 'case 14: pg_dump leaves nothing behind');
}

# ---- case 15: what is set, undone, reset and reported, while another client has the link in between ----
my %session = (
	'undone' => [ 'SET TimeZone = $$Asia/Tokyo$$', 'BEGIN', 'SET TimeZone = $$UTC$$', 'SET work_mem = 100', 'SHOW TimeZone', 'ROLLBACK', 'SHOW TimeZone', 'SHOW work_mem' ],
	'undone by an error' => [ 'SET DateStyle = German; SELECT 1/0', 'SHOW DateStyle', 'BEGIN', 'SET DateStyle = German', 'SELEC', 'COMMIT', 'SHOW DateStyle' ],
	'local' => [ 'BEGIN', 'SET LOCAL IntervalStyle = iso_8601', q{SELECT interval '1 day'}, 'COMMIT', q{SELECT interval '1 day'}, 'SET LOCAL IntervalStyle = iso_8601', 'SHOW IntervalStyle' ],
	'savepoints' => [ 'BEGIN', 'SET work_mem = 101', 'SAVEPOINT a', 'SET work_mem = 102', 'SET LOCAL statement_timeout = 50000', 'ROLLBACK TO a', 'SHOW work_mem', 'SAVEPOINT b', 'SET work_mem = 103', 'RELEASE b', 'COMMIT', 'SHOW work_mem', 'SHOW statement_timeout' ],
	'local over session' => [ 'BEGIN', 'SET work_mem = 104', 'SET LOCAL work_mem = 105', 'SHOW work_mem', 'COMMIT', 'SHOW work_mem' ],
	'RESET ALL' => [ 'SET work_mem = 106', 'SET TimeZone = $$Asia/Tokyo$$', 'SET search_path = pg_catalog', 'RESET ALL', 'SHOW work_mem', 'SHOW TimeZone', 'SHOW search_path', 'SHOW DateStyle' ],
	'RESET' => [ 'SET DateStyle = SQL', 'RESET DateStyle', 'SHOW DateStyle', 'SET DateStyle TO DEFAULT', 'SHOW DateStyle', 'SET TIME ZONE LOCAL', 'SHOW TimeZone' ],
	'DISCARD ALL' => [ 'SET work_mem = 107', 'SET ROLE helper', 'DISCARD ALL', 'SHOW work_mem', 'SELECT current_user', 'SHOW DateStyle' ],
	'unchanged' => [ 'SET TimeZone = $$UTC$$', 'SET TimeZone = $$UTC$$', 'SET DateStyle = ISO', 'SET client_encoding = UTF8', 'SHOW TimeZone' ],
	'not reported' => [ 'SHOW lock_timeout', 'SET lock_timeout = 5000', 'SHOW lock_timeout', 'RESET lock_timeout', 'SHOW lock_timeout', 'SHOW geqo' ],
	'unknown' => [ 'SHOW fifteen.x', 'SELECT current_setting($$fifteen.x$$, true)', 'SET fifteen.x = $$ab$$', 'SHOW fifteen.x', 'RESET fifteen.x', 'SHOW fifteen.x', 'SET not_there = 1', 'SET fifteen = 1' ],
	'by functions' => [ 'SELECT set_config($$work_mem$$, $$108$$, false)', 'SHOW work_mem', 'BEGIN', 'SELECT set_config($$work_mem$$, $$109$$, true)', 'SHOW work_mem', 'COMMIT', 'SHOW work_mem', 'UPDATE kept SET i = i + 0 WHERE set_config($$work_mem$$, $$110$$, false) > $$$$', 'SHOW work_mem' ],
	'roles' => [ 'SET ROLE helper', 'SELECT current_user', 'BEGIN', 'SET LOCAL ROLE NONE', 'SELECT current_user', 'COMMIT', 'SELECT current_user', 'RESET ROLE', 'SELECT current_user', 'SET ROLE not_there', 'SET SESSION AUTHORIZATION helper', 'SELECT session_user' ],
	'names' => [ 'SET NAMES LATIN1', 'SHOW client_encoding', 'SET SCHEMA $$pg_catalog$$', 'SHOW search_path', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY', 'SHOW transaction_read_only', 'SET XML OPTION DOCUMENT', 'SHOW xmloption', 'SET SEED TO 0.5', 'RESET ALL' ],
	'chained' => [ 'BEGIN', 'SET LOCAL work_mem = 111', 'COMMIT AND CHAIN', 'SHOW work_mem', 'SET work_mem = 112', 'ROLLBACK AND CHAIN', 'SHOW work_mem', 'COMMIT' ],
);
my %given = ('nothing' => {}, 'options' => { options => '-c work_mem=99 -c DateStyle=German -c geqo=off', TimeZone => 'Europe/Berlin' });
my $neighbour = $gateway->client(parameters => { TimeZone => 'Asia/Kolkata', options => '-c work_mem=77 -c search_path=information_schema' });
for my $given (sort keys %given)
{
	for my $what (sort keys %session)
	{
		for my $form ('simple', 'extended')
		{
			my ($through, $there) = ($gateway->client(parameters => $given{$given}), $gateway->direct(database => 'app', parameters => $given{$given}));
			my @differ;
			for my $sql (@{ $session{$what} })
			{
				next if $form eq 'extended' && $sql =~ /;/;
				my $messages = $form eq 'simple' ? simple($sql) : RawClient::extended_messages($sql);
				my ($got, $wanted) = map { $_->conversation($messages, 1) } $through, $there;
				push @differ, "$sql\n  through $got\n  direct  $wanted" if $got ne $wanted;
				next if $through->{status} ne 'I' || $what eq 'unknown' || $sql =~ /SEED/;    # those bind or close the link
				my $own = $neighbour->conversation(simple('SHOW TimeZone'), 1);
				push @differ, "after $sql the neighbour has another TimeZone" if $own !~ /41736961/;
			}
			is(join("\n", @differ), '', "case 15: $what, $form, given $given: as on a direct connection");
			$_->terminate for $through, $there;
		}
	}
}
{
	my ($one, $two) = map { $gateway->client } 1 .. 2;
	$one->query(q{SET fifteen.secret = 'x'});
	$two->ask(q{SELECT current_setting('fifteen.secret')});
	$one->terminate;
	is(RawClient::outcome($two->answer), '42704', 'case 15: a custom setting of another client has never been heard of');
	$two->terminate;
}
$neighbour->terminate;

# ---- case 16: everything hyperpool asks for itself, with names of a user's in front of PostgreSQL's ----
$origin->safe_psql('app', q{
SET ROLE app;
CREATE SCHEMA evil;
CREATE FUNCTION evil.said(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE LOG 'STEERED by %', what; RETURN what; END $$;
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.said('set_config') $$;
CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT evil.said('current_setting') $$;
CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.said('current_setting, 2') $$;
CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS $$ SELECT pg_catalog.length(evil.said('pg_backend_pid')) $$;
CREATE FUNCTION evil.pg_advisory_unlock_all() RETURNS void LANGUAGE sql AS $$ SELECT evil.said('unlock_all') $$;
CREATE FUNCTION evil.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('recovery') IS NULL $$;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT evil.said('now')::timestamptz $$;
CREATE FUNCTION evil.version() RETURNS text LANGUAGE sql AS $$ SELECT evil.said('version') $$;
CREATE FUNCTION evil.count(text) RETURNS bigint LANGUAGE sql AS $$ SELECT pg_catalog.length(evil.said('count'))::bigint $$;
CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('=') IS NULL $$;
CREATE FUNCTION evil.same_name(name, name) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('= of names') IS NULL $$;
CREATE FUNCTION evil.same_name_text(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('= of name and text') IS NULL $$;
CREATE FUNCTION evil.same_oid(oid, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('= of OIDs') IS NULL $$;
CREATE FUNCTION evil.same_char("char", "char") RETURNS boolean LANGUAGE sql AS $$ SELECT evil.said('= of letters') IS NULL $$;
CREATE FUNCTION evil.join(text, text) RETURNS text LANGUAGE sql AS $$ SELECT evil.said('||') $$;
CREATE OPERATOR evil.= (FUNCTION = evil.same, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR evil.= (FUNCTION = evil.same_name, LEFTARG = name, RIGHTARG = name);
CREATE OPERATOR evil.= (FUNCTION = evil.same_name_text, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR evil.= (FUNCTION = evil.same_oid, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR evil.= (FUNCTION = evil.same_char, LEFTARG = "char", RIGHTARG = "char");
CREATE OPERATOR evil.<> (FUNCTION = evil.same_name_text, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR evil.~ (FUNCTION = evil.same_name_text, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR evil.!~ (FUNCTION = evil.same_name_text, LEFTARG = name, RIGHTARG = text);
CREATE OPERATOR evil.|| (FUNCTION = evil.join, LEFTARG = text, RIGHTARG = text);
CREATE VIEW evil.pg_settings AS SELECT evil.said('pg_settings') AS name, 'x'::text AS setting, 'session'::text AS source;
CREATE VIEW evil.pg_class AS SELECT evil.said('pg_class') AS relname, 1::oid AS oid;
CREATE VIEW evil.pg_roles AS SELECT evil.said('pg_roles') AS rolname;
CREATE VIEW evil.pg_stat_activity AS SELECT evil.said('pg_stat_activity') AS query, 1 AS pid;
CREATE VIEW evil.pg_database AS SELECT evil.said('pg_database') AS datname, 1::oid AS oid;
RESET ROLE;
ALTER ROLE app SET search_path = evil, pg_catalog, public});
sub steered { return join ' ', PostgreSQL::Test::Utils::slurp_file($origin->logfile) =~ /LOG:  STEERED by (.*)$/mg; }
{
	my $victim = $gateway->direct(database => 'app');
	$victim->query($_) for 'SELECT now()', q{SELECT set_config('work_mem', '99', false) FROM pg_settings WHERE name = 'x'::text};
	is(steered(), 'now =', 'case 16: the trap works: a direct connection walks into it') or diag(steered());
}
my $before = steered();
$gateway->learn('app');
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
is($gateway->sql(q{SELECT count(*) > 0 FROM hyperpool.check_origin('app')}), 't', 'case 16: check_origin');
$gateway->create('trapped', q{cache => true, pool_size => 4});
for my $given ({}, { search_path => 'evil, pg_catalog' }, { options => '-c search_path=evil,pg_catalog -c TimeZone=Asia/Tokyo' }, { DateStyle => 'German' })
{
	my ($one, $two) = map { $gateway->client(parameters => $given, database => 'trapped') } 1 .. 2;
	my $other = $gateway->client(database => 'trapped');
	for my $sql ('SET work_mem = 200', 'SELECT i FROM public.kept', 'SET ROLE helper', 'RESET ROLE', 'SELECT i FROM public.kept', 'BEGIN; SET LOCAL work_mem = 201; COMMIT', 'LISTEN x', 'SET search_path = evil, pg_catalog', 'INSERT INTO public.kept VALUES (5)',
		'DO $$ BEGIN PERFORM pg_catalog.set_config($a$work_mem$a$, $a$5MB$a$, false); END $$', 'DELETE FROM public.kept WHERE i OPERATOR(pg_catalog.=) 5', 'DISCARD ALL')
	{
		my ($got) = map { $_->query($sql) } $one, $two, $other;
		is($got->{error}, undef, "case 16: $sql") or diag(RawClient::error_text($got));
	}
	$one->put_raw(RawClient::extended_messages('SELECT i FROM public.kept')), $one->answer for 1 .. 3;
	$two->ask('SELECT pg_catalog.pg_sleep(60)');
	$gateway->wait_for(q{SELECT count(*) > 0 FROM hyperpool.clients WHERE state = 'active'}, 't', 3);
	$two->cancel;
	$two->answer;
	$_->vanish for $one, $two;
	$other->value('SELECT 1') for 1 .. 3;
	$other->terminate;
}
$gateway->sql(q{SELECT hyperpool.refresh_catalog('trapped'); SELECT * FROM hyperpool.explain_query('trapped', 'SELECT i FROM kept')});
is(steered(), $before, 'case 16: nothing hyperpool asks was steered by it');

# what stands in startup values is data
my $tell = q{SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting('a.b', true)};
for my $value (q{x'; SELECT evil.said('injected'); --}, q{x\\'; SELECT evil.said('injected'); --}, q{"a"";b", $$x$$}, q{x, y'}, q{E'\\047'}, qq{x\n; SELECT evil.said('injected')}, q{")"; SELECT evil.said('injected')}, 'x' x 300, q{''}, q{})
{
	for my $as ('search_path', 'a.b', 'options')
	{
		my $given = $as eq 'options' ? { options => '-c a.b=' . $value =~ s/([\\ ])/\\$1/gr } : { $as => $value };
		my @told;
		for my $c ($gateway->client(database => 'trapped', parameters => $given, may_fail => 1), $gateway->direct(database => 'app', parameters => $given, may_fail => 1))
		{
			my $error = $c->{greeting}{error};
			push @told, $error ? "refused $error->{C} $error->{M}" : $c->value($tell);
		}
		is($told[0], $told[1], "case 16: $as = " . substr($value, 0, 40) =~ s/\n/ /r . ': as on a direct connection');
	}
}
is(steered(), $before, 'case 16: and none of it was run');
$origin->safe_psql('app', 'ALTER ROLE app RESET search_path; DROP SCHEMA evil CASCADE');
$gateway->learn('app');
$gateway->sql(q{SELECT hyperpool.restart_origin('app')});

# ---- case 17: a client that is killed with all that binds a link; its backend is gone, or clean ----
my @state = ('SELECT pg_advisory_lock(17)', q{CREATE TEMP TABLE secret AS SELECT 'password' AS t}, 'LISTEN whispers', 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1', 'PREPARE mine AS SELECT 5', q{SET my.secret = 'x'});
my $clean = q{SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), to_regclass('secret') IS NULL, (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_cursors WHERE name = 'mine'),
	(SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'), coalesce(current_setting('my.secret', true), ''), (SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE relname = 'kept' AND mode = 'AccessExclusiveLock')};
my %when = ('idle' => '', 'in a transaction' => "BEGIN; LOCK TABLE kept;\n", 'while a query runs' => "SELECT pg_sleep(300);\n", 'while it copies' => "COPY kept FROM STDIN;\n1\n");
for my $when (sort keys %when)
{
	my ($in, $out) = ('', '');
	my $psql = IPC::Run::start([ 'psql', '-X', '-q', '-d', $gateway->connstr ], '<pipe', \*IN, '>', \$out, '2>&1');
	IN->autoflush(1);
	print IN join(";\n", @state) . ";\n\\echo all is set\n";
	Gateway::wait_until(sub { $psql->pump_nb; $out =~ /all is set/ ? 1 : 0 }, 1) eq '1' or diag($out);
	is($gateway->sql(q{SELECT sv_bound FROM hyperpool.pools WHERE origin = 'app'}), '1', "case 17: killed $when: its link is bound to it");
	print IN $when{$when};
	$gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE origin = 'app' AND state = 'active'}, '1', 3) if $when =~ /runs|copies/;
	my $next = $gateway->client;
	$next->ask($clean);
	ok(!$next->is_answered(0.3), "case 17: killed $when: who comes waits for as long as it is alive");
	$psql->signal('KILL');
	is(RawClient::outcome($next->answer), '0|t|0|0|0||0', "case 17: killed $when: then the next finds nothing of it");
	eval { $psql->finish };
	close IN;
	$next->terminate;
}
{
	# given back by hand
	my ($one, $two) = map { $gateway->client } 1 .. 2;
	$one->query($_) for @state;
	$two->ask($clean);
	ok(!$two->is_answered(0.3), 'case 17: bound');
	$one->query('DISCARD ALL');
	is(RawClient::outcome($two->answer), '0|t|0|0|0||0', 'case 17: DISCARD ALL gives the link back, clean');
	is($one->value('SELECT 17'), '17', 'case 17: and its client goes on');
}

is($gateway->wait_for(q{SELECT sv_bound FROM hyperpool.pools WHERE origin = 'app'}, '0'), '0', 'nothing is bound in the end');
$gateway->is_unharmed('afterwards');
done_testing();
