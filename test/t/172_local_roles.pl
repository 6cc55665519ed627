# What roles of the regional server can do that are no superusers: nothing that was not granted; who owns an origin cannot make the server log in anywhere with its own
# identity; nobody can keep the directory from being published; and the functions take any argument there is.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Digest::MD5 qw(md5_hex);
use Gateway;
use IO::Socket::INET;
use LoginClient qw(make_certificates write_file);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

# Somebody who may create in public was there before the extension: operators that fit better than the built-in ones, and names like those of the catalogs.
my $gateway = bless {}, 'Gateway';
# The account of the region's server has a certificate, which libpq finds by itself.
my $home = PostgreSQL::Test::Utils::tempdir();
make_certificates($home, 'account');
mkdir "$home/.postgresql";
rename "$home/account.$_", "$home/.postgresql/postgresql.$_" for 'crt', 'key';
$gateway->{origin} = my $origin = Gateway::start_instance('origin', join("\n", q{shared_preload_libraries = ''}, 'ssl = on', "ssl_cert_file = '$home/server.crt'",
	"ssl_key_file = '$home/server.key'", "ssl_ca_file = '$home/ca.crt'"));
$gateway->{port} = PostgreSQL::Test::Cluster::get_free_port();
local $ENV{HOME} = $home;
$gateway->{region} = my $region = Gateway::start_instance('region', join("\n", q{shared_preload_libraries = 'hyperpool'}, "hyperpool.port = $gateway->{port}",
	q{hyperpool.listen_addresses = '127.0.0.1'}, 'hyperpool.directory_refresh = 1s', 'hyperpool.directory_size = 1MB', ''));
$origin->safe_psql('postgres', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'sesame'; CREATE ROLE other LOGIN PASSWORD 'open-it'; CREATE DATABASE app OWNER app});
write_file($origin->data_dir . '/pg_hba.conf', "local all all trust\nhost all app,other all scram-sha-256\n");
$origin->reload;
my $admin = $gateway->sql('SELECT current_user');
$gateway->sql(q{
CREATE FUNCTION public.steered(float8, int8) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$steered$$; END';
CREATE FUNCTION public.steered(float8, int4) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$steered$$; END';
CREATE FUNCTION public.steered(oid, int4) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$steered$$; END';
CREATE FUNCTION public.steered(name, text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$steered$$; END';
CREATE OPERATOR public./ (LEFTARG = float8, RIGHTARG = int8, FUNCTION = public.steered);
CREATE OPERATOR public./ (LEFTARG = float8, RIGHTARG = int4, FUNCTION = public.steered);
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = int4, FUNCTION = public.steered);
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.steered);
CREATE TABLE public.pg_foreign_server (oid oid); CREATE TABLE public.pg_authid (oid oid);
CREATE EXTENSION hyperpool});
my $far = 'host=127.0.0.1 port=' . $origin->port . ' dbname=app';
$gateway->sql(qq{SELECT hyperpool.create_origin('app', '$far user=app password=sesame', allow_trust => true, cache => true)});

# As a role, in a session of its own: the answer, or the SQLSTATE.
sub as
{
	my ($role, $sql) = @_;
	my ($out, $err);
	$region->psql('postgres', "\\set VERBOSITY verbose\nSET SESSION AUTHORIZATION $role;\n$sql", stdout => \$out, stderr => \$err, on_error_stop => 1);
	return $err =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}):/ ? $1 : $out;
}

sub enters
{
	my ($user, $name) = @_;
	my $client = eval { $gateway->client(user => $user, database => $name) } or return $@ =~ /FATAL (\w{5})/ ? $1 : $@;
	my $who = $client->value('SELECT current_user');
	$client->terminate;
	return $who;
}
sub comes_to { my ($wanted, @of) = @_; return Gateway::wait_until(sub { enters(@of) }, $wanted); }

# ---- what was there before the extension steers nothing ----
$gateway->sql('CREATE ROLE ann LOGIN; GRANT USAGE ON FOREIGN SERVER app TO ann');
is(comes_to('app', 'ann', 'app'), 'app', 'the manager reads the catalogs, whatever is in public');
for my $view (split /\n/, $gateway->sql(q{SELECT viewname FROM pg_views WHERE schemaname = 'hyperpool'}))
{
	my (undef, $err) = $gateway->try_sql("SET search_path = public, pg_catalog; SELECT * FROM hyperpool.$view");
	is($err, '', "nor does it steer hyperpool.$view");
}
is($gateway->sql(q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'hyperpool'::regnamespace AND (prosecdef OR lanname <> 'c')}),
	'', 'no function runs with the rights of its owner, none is SQL');

# ---- a role of which nothing is known ----
$gateway->sql('CREATE ROLE nobody_special LOGIN');
is($gateway->sql(q{SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc WHERE pronamespace = 'hyperpool'::regnamespace AND has_function_privilege('nobody_special', oid, 'EXECUTE')}),
	'', 'may execute no function');
is($gateway->sql(q{SELECT string_agg(relname, ', ') FROM pg_class WHERE relnamespace = 'hyperpool'::regnamespace AND has_table_privilege('nobody_special', oid, 'SELECT')}), '', 'may read no view');
is($gateway->sql(q{SELECT has_schema_privilege('nobody_special', 'hyperpool', 'USAGE'), has_foreign_data_wrapper_privilege('nobody_special', 'hyperpool', 'USAGE'), has_server_privilege('nobody_special', 'app', 'USAGE')}),
	'f|f|f', 'may use neither schema nor wrapper nor origin');
is(as('nobody_special', qq{CREATE SERVER s FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1')}), '42501', 'cannot have the server connect anywhere');
is(as('nobody_special', q{CREATE USER MAPPING FOR CURRENT_USER SERVER app OPTIONS (user 'other', password 'open-it')}), '42501', 'nor as somebody else to an origin');
is(comes_to('42501', 'nobody_special', 'app'), '42501', 'and no client of it is let in');
is(as('nobody_special', q{SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ 'sesame'}), '0', 'it sees no password');

# ---- USAGE of an origin ----
is(as('ann', q{SELECT count(*) FROM pg_user_mappings WHERE umoptions::text ~ 'sesame'}), '0', 'who may use an origin sees no password either');
is(as('ann', q{ALTER SERVER app OPTIONS (SET host '127.0.0.2')}), '42501', 'nor turns it elsewhere');
is(as('ann', q{CREATE USER MAPPING FOR PUBLIC SERVER app OPTIONS (user 'other', password 'open-it')}), '42501', 'nor to everybody');
is(as('ann', q{CREATE USER MAPPING FOR ann SERVER app OPTIONS (user 'other')}), '', 'it may have a credential of its own');
is(comes_to('2F003', 'ann', 'app'), '2F003', 'but no password, no link');
my $passwords = $region->data_dir . '/passwords';
write_file($passwords, "*:*:*:other:open-it\n");
chmod 0600, $passwords;
$gateway->sql(qq{ALTER SERVER app OPTIONS (ADD passfile '$passwords')});
is($gateway->sql(q{SELECT pg_sleep(2)}) . enters('ann', 'app'), '2F003', 'nor by a password file that a superuser has named for the origin: the user could be any of it');
$gateway->sql('ALTER SERVER app OPTIONS (DROP passfile)');
as('ann', q{ALTER USER MAPPING FOR ann SERVER app OPTIONS (ADD password 'wrong')});
is(comes_to('28P01', 'ann', 'app'), '28P01', 'nor with a wrong one');
as('ann', q{ALTER USER MAPPING FOR ann SERVER app OPTIONS (SET password 'open-it')});
is(comes_to('other', 'ann', 'app'), 'other', 'whoever knows the password of a user at the origin may be that user');
my $shown = q{SELECT coalesce(client_dn, 'none') FROM pg_stat_ssl WHERE pid = pg_backend_pid()};
like($gateway->client(user => $admin, database => 'app')->value($shown), qr/CN=account/, 'a credential of a superuser\'s comes with the certificate of the server\'s account');
is($gateway->client(user => 'ann', database => 'app')->value($shown), 'none', 'another\'s does not');
is(as('ann', q{ALTER USER MAPPING FOR ann SERVER app OPTIONS (ADD password_required 'false')}), '42501', 'password_required=false is a superuser\'s');

# ---- the owner of an origin who is no superuser ----
# The region itself trusts 127.0.0.1: whoever can have the server log in there as the superuser is one.
my $here = 'host=127.0.0.1 port=' . $region->port . ' dbname=postgres';
$gateway->sql(qq{CREATE ROLE dev LOGIN; GRANT USAGE ON SCHEMA hyperpool TO dev; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hyperpool TO dev; GRANT USAGE ON FOREIGN DATA WRAPPER hyperpool TO dev;
SELECT hyperpool.create_origin('theirs', '$far user=app password=sesame', allow_trust => true);
ALTER USER MAPPING FOR public SERVER theirs OPTIONS (SET user '$admin')});
is($gateway->sql(q{SELECT 'password_required=false' = ANY (umoptions) FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = umserver WHERE srvname = 'theirs'}), 't', 'a superuser has made the credential');
$gateway->sql(qq{SELECT hyperpool.alter_origin('theirs', '$here')});
$gateway->sql('GRANT USAGE ON FOREIGN SERVER theirs TO dev');
is(comes_to($admin, 'dev', 'theirs'), $admin, 'what a superuser owns may be trusted by its host');
$gateway->sql('ALTER SERVER theirs OWNER TO dev');
is(comes_to('2F003', 'dev', 'theirs'), '2F003', 'what another owns may not: its password must be asked for');
is(as('dev', qq{SELECT hyperpool.alter_origin('theirs', '$here')}), '2F003', 'alter_origin says so');
like(as('dev', q{SELECT message FROM hyperpool.check_origin('theirs') WHERE NOT ok}), qr/did not ask for the password/, 'and check_origin');
as('dev', 'ALTER SERVER theirs OPTIONS (SET host \'127.0.0.1\')');
is(enters('dev', 'theirs'), '2F003', 'nor by ALTER SERVER');
$gateway->sql(qq{ALTER SERVER theirs OWNER TO "$admin"; GRANT USAGE ON FOREIGN SERVER theirs TO dev});
is(comes_to($admin, 'dev', 'theirs'), $admin, 'it is the owner that counts');

# ---- a role that is changed while its client thinks about its proof ----
my $lines = $region->data_dir . '/pg_hba.conf';
write_file($lines, "host all late all md5\n" . PostgreSQL::Test::Utils::slurp_file($lines));
$region->reload;
$gateway->sql('GRANT USAGE ON FOREIGN SERVER app TO PUBLIC');
# A commit waits until all is published; the worker has taken it when somebody else has logged in.
sub publish { $gateway->sql(q{SELECT hyperpool.alter_origin('app', connect_timeout => '14s')}); enters('ann', 'app'); return; }
my $startup = pack('N', 0x30000) . "user\0late\0database\0app\0\0";
for my $case (['NOLOGIN', 'ALTER ROLE late NOLOGIN', '28000'], ['a limit', 'ALTER ROLE late CONNECTION LIMIT 0', '53300'], ['DROP ROLE', 'DROP ROLE late', '28000'])
{
	my ($name, $change, $code) = @$case;
	$gateway->sql(q{DROP ROLE IF EXISTS late; SET password_encryption = md5; CREATE ROLE late LOGIN PASSWORD 'x'});
	publish();
	my $salt = '';
	my $client;
	Gateway::wait_until(sub
	{
		$client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or return 'none';
		$client->syswrite(pack('N', 4 + length $startup) . $startup);
		sysread($client, my $asked, 13);
		return $asked =~ /^R.{4}\x00{3}\x05(.{4})$/s && ($salt = $1) ? 'md5' : 'other';
	}, 'md5');
	$gateway->sql($change);
	publish();
	my $proof = 'md5' . md5_hex(md5_hex('xlate') . $salt) . "\0";
	$client->syswrite('p' . pack('N', 4 + length $proof) . $proof);
	my $said = '';
	1 while $said !~ /Z\x00{3}\x05/ && sysread($client, $said, 4096, length $said);
	like($said, qr/FATAL\0C$code\0/, "$name between question and proof: not let in");
}
$gateway->sql('REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC');

# ---- the owner of the manager's database ----
$gateway->sql('CREATE ROLE dbo');
for my $setting ("role = 'dbo'", "session_authorization = 'dbo'")
{
	$region->safe_psql('template1', "ALTER DATABASE postgres OWNER TO dbo; SET SESSION AUTHORIZATION dbo; ALTER DATABASE postgres SET $setting");
	my $manager = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool manager'};
	my $pid = $region->safe_psql('template1', $manager);
	kill 'TERM', $pid;
	Gateway::wait_until(sub { my $now = $region->safe_psql('template1', $manager); $now ne '' && $now != $pid ? 'another' : 'none' }, 'another');
	$region->safe_psql('template1', 'ALTER ROLE ann NOLOGIN');
	is(comes_to('28000', 'ann', 'app'), '28000', "a database with $setting: the manager reads on");
	$region->safe_psql('template1', 'ALTER DATABASE postgres RESET ALL; ALTER ROLE ann LOGIN');
	is(comes_to('other', 'ann', 'app'), 'other', 'and publishes');
}

# ---- nobody fills the directory ----
is(as('ann', q{ALTER USER MAPPING FOR ann SERVER app OPTIONS (SET password '} . 'x' x 2_000_000 . q{')}), '22023', 'a password of 2 MB is refused');
is(as('ann', q{ALTER USER MAPPING FOR ann SERVER app OPTIONS (SET user '} . 'x' x 9000 . q{')}), '22023', 'a user of 9000 bytes');
is(as('dev', q{CREATE SERVER big FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1', options '} . 'x' x 2_000_000 . q{')}), '22023', 'an option of 2 MB');
is(as('dev', q{CREATE SERVER big FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1', pool_size '} . ' ' x 2_000_000 . q{5')}), '22023', 'a number behind 2 MB of blanks');
is(as('dev', q{CREATE SERVER big FOREIGN DATA WRAPPER hyperpool OPTIONS (host '127.0.0.1', rules '} . ' ' x 2_000_000 . q{')}), '22023', 'or rules that are 2 MB of them');
is(as('nobody_special', q{ALTER ROLE nobody_special PASSWORD 'SCRAM-SHA-256$4096:} . 'A' x 2_000_000 . '$' . 'A' x 43 . '=:' . 'A' x 43 . q{='}), $region->pg_version >= 18 ? '54000' : '',
	'a verifier of 2 MB is PostgreSQL\'s to refuse, or nobody\'s');
$gateway->sql('REVOKE USAGE ON FOREIGN SERVER app FROM ann');
is(comes_to('42501', 'ann', 'app'), '42501', 'a right that is taken away is heard of all the same');

# ---- any argument ----
my @calls = split /\n/, $gateway->sql(q{
SELECT format('SELECT * FROM hyperpool.%I(%s)', proname, (SELECT string_agg(v || '::' || format_type(t, NULL), ', ' ORDER BY o) FROM unnest(proargtypes::oid[]) WITH ORDINALITY AS a(t, o)
	CROSS JOIN LATERAL (SELECT CASE WHEN kind = 'null' THEN 'NULL' WHEN t = 'text'::regtype THEN CASE kind WHEN 'huge' THEN $$repeat('x"''\.,=;', 200000)$$ WHEN 'odd' THEN $$E'\001"'';\\'$$ ELSE $$''$$ END
		WHEN t IN ('int4'::regtype, 'oid'::regtype) THEN CASE kind WHEN 'huge' THEN '2147483647' WHEN 'odd' THEN '1' ELSE '0' END WHEN t = 'int8'::regtype THEN CASE kind WHEN 'huge' THEN '9223372036854775807' WHEN 'odd' THEN $$'-9223372036854775808'$$ ELSE '-1' END
		WHEN t = 'interval'::regtype THEN CASE kind WHEN 'huge' THEN $$'178000000 years'$$ WHEN 'odd' THEN $$'-178000000 years'$$ ELSE $$'0'$$ END WHEN t = 'bool'::regtype THEN 'true'
		WHEN t = 'text[]'::regtype THEN CASE kind WHEN 'huge' THEN $$array_fill('a=b'::text, array[100000])$$ WHEN 'odd' THEN $$'{{a,b},{=,NULL}}'$$ ELSE $$'{}'$$ END ELSE 'NULL' END) AS c(v)))
FROM pg_proc CROSS JOIN unnest('{null, empty, odd, huge}'::text[]) AS k(kind) WHERE pronamespace = 'hyperpool'::regnamespace ORDER BY 1});
cmp_ok(scalar @calls, '>', 100, 'all functions, four ways each: ' . scalar @calls . ' calls');
$region->psql('postgres', join(";\n", "SET statement_timeout = '20s'", @calls), on_error_stop => 0, stdout => \my $ignored, stderr => \my $errors);
unlike($errors, qr/XX000|server closed|terminated|connection .* lost/, 'no call ends the backend') or diag(substr($errors, 0, 2000));
is($gateway->sql('SELECT 1'), '1', 'the server stands');
my $log = PostgreSQL::Test::Utils::slurp_file($region->logfile);
unlike($log, qr/terminated by signal|TRAP:|PANIC:/, 'no process died');
unlike($log, qr/background worker "hyperpool (?!manager)[^"]*" \(PID \d+\) exited/, 'no worker ended');
done_testing();
