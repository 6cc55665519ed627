# What was readable and is not any more: the cache gives it to nobody, whoever took the right away, in whatever way, through the gateway or beside it. Each step is taken again on a
# direct connection, which says what is to be seen. Case 22 of docs/testing.md.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;

$Cached::patience = 60;    # each DDL is looked at first, and here all is to be a hit

# what => [ SQL that takes it away, SQL that gives it back, a read of ann's, what ann's read says then (undef: it is for the direct connection to say) ]
my @takes = (
	[ 'the table', 'REVOKE SELECT ON secret FROM ann', 'GRANT SELECT ON secret TO ann', 'SELECT t FROM secret', '42501' ],
	[ 'a column', 'REVOKE SELECT (t) ON columns FROM ann', 'GRANT SELECT (t) ON columns TO ann', 'SELECT t FROM columns', '42501' ],
	[ 'the schema', 'REVOKE USAGE ON SCHEMA inner_room FROM ann', 'GRANT USAGE ON SCHEMA inner_room TO ann', 'SELECT t FROM inner_room.things', '42501' ],
	[ 'a role', 'REVOKE readers FROM ann', 'GRANT readers TO ann', 'SELECT t FROM of_role', '42501' ],
	[ 'a role of the role', 'REVOKE deepest FROM readers', 'GRANT deepest TO readers', 'SELECT t FROM of_deepest', '42501' ],
	[ 'inheritance of roles', 'ALTER ROLE ann NOINHERIT', 'ALTER ROLE ann INHERIT', 'SELECT t FROM of_role', undef ],
	[ 'BYPASSRLS', 'ALTER ROLE ann NOBYPASSRLS', 'ALTER ROLE ann BYPASSRLS', 'SELECT count(*) FROM walled', '0' ],
	[ 'everything', 'REVOKE pg_read_all_data FROM ann', 'GRANT pg_read_all_data TO ann', 'SELECT t FROM by_all_data', '42501' ],
	[ 'PUBLIC', 'REVOKE SELECT ON public_thing FROM PUBLIC', 'GRANT SELECT ON public_thing TO PUBLIC', 'SELECT t FROM public_thing', '42501' ],
	[ 'row security', 'ALTER TABLE rows_of ENABLE ROW LEVEL SECURITY', 'ALTER TABLE rows_of DISABLE ROW LEVEL SECURITY', 'SELECT count(*) FROM rows_of', '0' ],
	[ 'a policy', 'DROP POLICY seen ON policed', 'CREATE POLICY seen ON policed USING (true)', 'SELECT count(*) FROM policed', '0' ],
	[ 'a policy, made tighter', q{ALTER POLICY mine ON tight USING (who = 'nobody')}, 'ALTER POLICY mine ON tight USING (who = current_user)', 'SELECT count(*) FROM tight', '0' ],
	[ 'a policy, restrictive', 'CREATE POLICY no ON restricted AS RESTRICTIVE USING (false)', 'DROP POLICY no ON restricted', 'SELECT count(*) FROM restricted', '0' ],
	[ q{what a policy asks}, q{DELETE FROM members WHERE who = 'ann'}, q{INSERT INTO members VALUES ('ann')}, 'SELECT count(*) FROM for_members', '0' ],
	[ q{the view's owner's right}, 'REVOKE SELECT ON under_view FROM keeper', 'GRANT SELECT ON under_view TO keeper', 'SELECT t FROM over_view', '42501' ],
	[ q{the view's owner}, 'ALTER VIEW owned_view OWNER TO nobody', 'ALTER VIEW owned_view OWNER TO keeper', 'SELECT t FROM owned_view', '42501' ],
	[ 'security_invoker', 'ALTER VIEW asked_view SET (security_invoker = true)', 'ALTER VIEW asked_view RESET (security_invoker)', 'SELECT t FROM asked_view', '42501' ],
	[ 'the view itself', 'CREATE OR REPLACE VIEW barred WITH (security_barrier) AS SELECT t FROM under_view WHERE false', 'CREATE OR REPLACE VIEW barred WITH (security_barrier) AS SELECT t FROM under_view', 'SELECT count(*) FROM barred', '0' ],
	[ 'EXECUTE', 'REVOKE EXECUTE ON FUNCTION tells() FROM PUBLIC', 'GRANT EXECUTE ON FUNCTION tells() TO PUBLIC', 'SELECT tells()', '42501' ],
	[ 'SECURITY DEFINER', 'ALTER FUNCTION lends() SECURITY INVOKER', 'ALTER FUNCTION lends() SECURITY DEFINER', 'SELECT lends()', '42501' ],
	[ 'the owner of a SECURITY DEFINER function', 'ALTER FUNCTION lends() OWNER TO nobody', 'ALTER FUNCTION lends() OWNER TO keeper', 'SELECT lends()', '42501' ],
	[ 'the owner', 'ALTER TABLE owned OWNER TO keeper', 'ALTER TABLE owned OWNER TO ann', 'SELECT t FROM owned', '42501' ],
	[ 'the matview', 'REVOKE SELECT ON frozen FROM ann', 'GRANT SELECT ON frozen TO ann', 'SELECT t FROM frozen', '42501' ],
	[ 'in a DO block', 'DO $$ BEGIN EXECUTE format($f$REVOKE SELECT ON %I FROM ann$f$, $t$secret$t$); END $$', 'GRANT SELECT ON secret TO ann', 'SELECT t FROM secret', '42501' ],
	[ 'in a procedure that commits', 'CALL takes_away()', 'GRANT SELECT ON secret TO ann', 'SELECT t FROM secret', '42501' ],
	[ 'in a transaction', 'BEGIN; SAVEPOINT s; REVOKE SELECT ON secret FROM ann; RELEASE s; COMMIT', 'GRANT SELECT ON secret TO ann', 'SELECT t FROM secret', '42501' ],
	[ 'by two-phase commit', [ 'BEGIN', 'REVOKE SELECT ON secret FROM ann', q{PREPARE TRANSACTION 'taken'}, q{COMMIT PREPARED 'taken'} ], 'GRANT SELECT ON secret TO ann', 'SELECT t FROM secret', '42501' ],
	[ 'REVOKE GRANT OPTION, cascading', 'REVOKE SELECT ON lent FROM lender CASCADE', 'GRANT SELECT ON lent TO lender WITH GRANT OPTION; SET ROLE lender; GRANT SELECT ON lent TO ann; RESET ROLE', 'SELECT t FROM lent', '42501' ],
	[ 'the type', 'ALTER TYPE feeling RENAME VALUE $$glad$$ TO $$sad$$', 'ALTER TYPE feeling RENAME VALUE $$sad$$ TO $$glad$$', 'SELECT f FROM feelings', 'sad' ],
	[ 'the database has another default', [ 'ALTER ROLE ann IN DATABASE app SET row_security = off' ], 'ALTER ROLE ann IN DATABASE app RESET row_security', 'SELECT t FROM secret', undef ],
	[ 'all that it has', 'DROP OWNED BY ann', 'GRANT SELECT ON secret TO ann; GRANT SELECT ON columns TO ann', 'SELECT t FROM secret', '42501' ],
);

my $gateway = Cached::start(create => 0, workers => 2, origin_settings => 'max_prepared_transactions = 5');
my $origin = $gateway->{origin};
$origin->safe_psql('app', q{
CREATE ROLE ann LOGIN BYPASSRLS; CREATE ROLE keeper; CREATE ROLE nobody; CREATE ROLE readers; CREATE ROLE deepest; CREATE ROLE root LOGIN SUPERUSER;
GRANT readers TO ann; GRANT deepest TO readers; GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC;
CREATE TABLE unrelated (i int); GRANT SELECT ON unrelated TO PUBLIC;
CREATE TABLE secret (t text); INSERT INTO secret VALUES ('secret'); GRANT SELECT ON secret TO ann;
CREATE TABLE columns (t text, u text); INSERT INTO columns VALUES ('column', 'other'); GRANT SELECT (t) ON columns TO ann;
CREATE SCHEMA inner_room; GRANT USAGE ON SCHEMA inner_room TO ann; CREATE TABLE inner_room.things AS SELECT 'thing' AS t; GRANT SELECT ON inner_room.things TO PUBLIC;
CREATE TABLE of_role AS SELECT 'of role' AS t; GRANT SELECT ON of_role TO readers;
CREATE TABLE of_deepest AS SELECT 'of deepest' AS t; GRANT SELECT ON of_deepest TO deepest;
CREATE TABLE walled AS SELECT 1 AS i; ALTER TABLE walled ENABLE ROW LEVEL SECURITY; GRANT SELECT ON walled TO ann;
CREATE TABLE by_all_data AS SELECT 'all data' AS t; GRANT pg_read_all_data TO ann;
CREATE TABLE public_thing AS SELECT 'public' AS t; GRANT SELECT ON public_thing TO PUBLIC;
CREATE TABLE under_view AS SELECT 'under' AS t; GRANT SELECT ON under_view TO keeper;
CREATE VIEW over_view AS SELECT t FROM under_view; ALTER VIEW over_view OWNER TO keeper; GRANT SELECT ON over_view TO ann;
CREATE VIEW owned_view AS SELECT t FROM under_view; ALTER VIEW owned_view OWNER TO keeper; GRANT SELECT ON owned_view TO ann;
CREATE VIEW asked_view AS SELECT t FROM under_view; ALTER VIEW asked_view OWNER TO keeper; GRANT SELECT ON asked_view TO ann;
CREATE VIEW barred WITH (security_barrier) AS SELECT t FROM under_view; GRANT SELECT ON barred TO ann;
CREATE FUNCTION tells() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'told'::text $$;
CREATE FUNCTION lends() RETURNS text LANGUAGE sql IMMUTABLE SECURITY DEFINER AS $$ SELECT t FROM under_view $$; ALTER FUNCTION lends() OWNER TO keeper;
CREATE TABLE owned AS SELECT 'owned' AS t; ALTER TABLE owned OWNER TO ann;
CREATE MATERIALIZED VIEW frozen AS SELECT 'frozen'::text AS t; GRANT SELECT ON frozen TO ann;
CREATE ROLE lender; CREATE TABLE lent AS SELECT 'lent' AS t; GRANT SELECT ON lent TO lender WITH GRANT OPTION; SET ROLE lender; GRANT SELECT ON lent TO ann; RESET ROLE;
CREATE TYPE feeling AS ENUM ('glad'); CREATE TABLE feelings AS SELECT 'glad'::feeling AS f; GRANT SELECT ON feelings TO ann;
CREATE PROCEDURE takes_away() LANGUAGE plpgsql AS $$ BEGIN REVOKE SELECT ON secret FROM ann; COMMIT; PERFORM 1; END $$});
$origin->safe_psql('app', 'REVOKE pg_read_all_data FROM ann');
# for row security ann must not pass it
my @with_rows = qw(rows_of policed tight restricted for_members);
$origin->safe_psql('app', join ';', map { "CREATE TABLE $_ AS SELECT 'ann'::name AS who; GRANT SELECT ON $_ TO ann" } @with_rows);
$origin->safe_psql('app', q{CREATE TABLE members AS SELECT 'ann'::name AS who; GRANT SELECT ON members TO ann;
ALTER TABLE policed ENABLE ROW LEVEL SECURITY; CREATE POLICY seen ON policed USING (true);
ALTER TABLE tight ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON tight USING (who = current_user);
ALTER TABLE restricted ENABLE ROW LEVEL SECURITY; CREATE POLICY yes ON restricted USING (true);
ALTER TABLE for_members ENABLE ROW LEVEL SECURITY; CREATE POLICY member ON for_members USING (EXISTS (SELECT FROM members m WHERE m.who = current_user))});

$gateway->sql('CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN');
$gateway->create('app', q{cache => true, max_age => '1h', pool_size => 5});
$gateway->create('other', q{cache => true, max_age => '1h', pool_size => 5});
$gateway->sql(q{SELECT hyperpool.set_credential(o, 'ann', 'ann', '') FROM unnest(ARRAY['app', 'other']) o; SELECT hyperpool.set_credential('other', 'app', 'root', '')});
Cached::learn($gateway, $_) for 'app', 'other';
my @ann = map { $gateway->client(user => 'ann') } 1 .. 3;
my $by_other = $gateway->client(user => 'ann', database => 'other');
my $root = $gateway->client(database => 'other');
my $beside = $gateway->direct(user => 'root', database => 'app');
my $direct = $gateway->direct(user => 'ann', database => 'app');
run_all($beside, 'ALTER ROLE ann NOBYPASSRLS');
is($root->value('SELECT current_user'), 'root', 'through the gateway the superuser of the origin');

sub run_all
{
	my ($who, $sql) = @_;
	for my $one (ref $sql ? @$sql : $sql)
	{
		my $answer = $who->query($one);
		is($answer->{error}, undef, $one) or diag(RawClient::error_text($answer)) if $answer->{error};
	}
	return;
}

sub prepared
{
	my ($client, $sql) = @_;
	$client->put_raw(RawClient::message('C', "Skept\0") . RawClient::message('P', "kept\0$sql\0\0\0") . RawClient::message('S', ''));
	$client->answer;
	return;
}
my $run_prepared = RawClient::message('B', "\0kept\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', '');

# Everybody who is ann, in every way, sees what a direct connection of hers does.
sub all_see
{
	my ($name, $read, $before, $wanted) = @_;
	my $truth = $direct->value($read);
	is($truth, $wanted, "$name: taken away") if defined $wanted;
	my @got = map { [ Cached::ask($gateway, $_, $read) ] } @ann[ 0, 2 ], $by_other;
	is(join(' ', map { $_->[1] } @got), join(' ', ($truth) x 3), "$name: nobody is shown it any more");
	is((scalar grep { $_->[1] eq $before && $_->[0] eq 'hit' } @got), 0, "$name: least of all from the cache") if $truth ne $before;
	is(RawClient::outcome($ann[1]->extended($read)), $truth, "$name: nor by extended messages");
	return $truth;
}

sub try_take
{
	my ($what, $away, $back, $read, $wanted) = @_;
	my $name = "case 22: $what";
	# who reads around row security at first must have BYPASSRLS, who is held by it must not
	run_all($root, 'ALTER ROLE ann BYPASSRLS') if $what eq 'BYPASSRLS';
	run_all($root, 'GRANT pg_read_all_data TO ann') if $what eq 'everything';
	my $before = $direct->value($read);
	prepared($ann[1], $read);
	is((Cached::warm($gateway, $ann[0], $read))[0], 'hit', "$name: cached") or diag(Cached::explained($gateway, $read, 'reason'), $before);
	run_all($root, $away);
	my $truth = all_see($name, $read, $before, $wanted);
	$ann[1]->put_raw($run_prepared);
	my $by_name = RawClient::outcome($ann[1]->answer);
	is($by_name, $truth, "$name: nor by a statement prepared before") unless $by_name eq '0A000';
	run_all($root, $back);
	run_all($root, 'ALTER ROLE ann NOBYPASSRLS') if $what eq 'BYPASSRLS';
	run_all($root, 'REVOKE pg_read_all_data FROM ann') if $what eq 'everything';
	return;
}
try_take(@$_) for grep { $_->[0] !~ /^all that/ } @takes;

# ---- all at once, beside the gateway: from its next look at the catalog on ----
my %once;
my @beside = grep { $_->[0] !~ /BYPASSRLS|everything|what a policy asks|^all that|inheritance|default/ && !$once{ $_->[3] }++ } @takes;
Cached::learn($gateway, $_) for 'app', 'other';
my %before = map { $_->[3] => $direct->value($_->[3]) } @beside;
is((Cached::warm($gateway, $ann[0], $_->[3]))[0], 'hit', "case 22: $_->[0], beside the gateway: cached") for @beside;
Cached::ask($gateway, $by_other, $_->[3]) for @beside;
run_all($beside, $_->[1]) for @beside;
Cached::learn($gateway, $_) for 'app', 'other';
all_see("case 22: $_->[0], beside the gateway", $_->[3], $before{ $_->[3] }, $_->[4]) for @beside;
run_all($beside, $_->[2]) for @beside;

Cached::learn($gateway, $_) for 'app', 'other';
try_take(@$_) for grep { $_->[0] =~ /^all that/ } @takes;

# ---- another name for the same role, and its end ----
Cached::learn($gateway, $_) for 'app', 'other';
{
	my $me = 'SELECT current_user, session_user';
	Cached::warm($gateway, $ann[0], $me);
	run_all($root, 'ALTER ROLE ann RENAME TO anne');
	is($ann[0]->value($me), $direct->value($me), 'case 22: the role has another name now');
	run_all($root, 'ALTER ROLE anne RENAME TO ann');
	is($ann[0]->value($me), 'ann|ann', 'case 22: and its own again');
}

# ---- at the gateway: the right to the origin, the credential, the local role; clients that are there already ----
my $secret = 'SELECT t FROM secret';
my %here = (
	'USAGE of the origin' => [ 'REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC', 'GRANT USAGE ON FOREIGN SERVER app TO PUBLIC' ],
	'the credential' => [ q{SELECT hyperpool.drop_credential('app', 'ann')}, q{SELECT hyperpool.set_credential('app', 'ann', 'ann', '')} ],
	'the credential, for one of less right' => [ q{SELECT hyperpool.set_credential('app', 'ann', 'nobody', '')}, q{SELECT hyperpool.set_credential('app', 'ann', 'ann', '')} ],
);
$origin->safe_psql('app', 'ALTER ROLE nobody LOGIN');
for my $what (sort keys %here)
{
	my ($away, $back) = @{ $here{$what} };
	Cached::learn($gateway);
	my $client = $gateway->client(user => 'ann');
	is((Cached::warm($gateway, $client, $secret))[1], 'secret', "case 22: $what: cached");
	$gateway->sql($away);
	my $got = Gateway::wait_until(sub { $client->{closed} ? 'nothing' : (RawClient::outcome($client->query($secret)) eq 'secret' ? 'secret' : 'nothing') }, 'nothing', 20);
	is($got, 'nothing', "case 22: $what: gone, for a client that is there already too");
	isnt(RawClient::outcome($client->query($secret)), 'secret', "case 22: $what: and it stays gone") for 1 .. ($client->{closed} ? 0 : 3);
	$gateway->sql($back);
	is(Gateway::wait_until(sub { my $c = eval { $gateway->client(user => 'ann') } or return ''; my $v = $c->value($secret); $c->terminate; $v }, 'secret'), 'secret', "case 22: $what: and given back");
}
{
	Cached::learn($gateway);
	my $client = $gateway->client(user => 'ben', may_fail => 1);
	is((Cached::warm($gateway, $client, 'SELECT i FROM unrelated'))[0], 'hit', 'case 22: a local role');
	$gateway->sql('DROP ROLE ben');
	my $gone = Gateway::wait_until(sub { $client->query('SELECT i FROM unrelated')->{error} || $client->{closed} ? 'gone' : 'there' }, 'gone', 20);
	is($gone, 'gone', 'case 22: that is dropped has nothing any more, cached or not');
}

$gateway->is_unharmed('afterwards');
done_testing();
