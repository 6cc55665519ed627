# What stands beside the workers comes to a halt or goes: the manager or the scout is stopped for a while, the extension is dropped, or updated, with clients connected. Workers serve
# on by what they were told last; what changes meanwhile is told, or heeded later.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Faults qw(nothing_is_left);
use Gateway;
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(options => 'pool_size => 6, cache => true');
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables; CREATE TABLE counted AS SELECT 1 AS i");
Cached::learn($gateway);
my $descriptors = Faults::other_descriptors($gateway);
my %pid = map { $_ => $gateway->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool $_'") } qw(manager scout);
my $stopped;
END { kill 'CONT', $stopped if $stopped; }

sub stop { my ($kind) = @_; $stopped = $pid{$kind}; kill('STOP', $stopped) or die "kill: $!"; }
sub go_on { kill('CONT', $stopped) or die "kill: $!"; undef $stopped; }
sub restart_links { $gateway->sql(q{SELECT hyperpool.restart_origin('app')}); }

# ---- the manager stands still ----
my $crowd = Faults->new($gateway, clients => 8);
$crowd->run(0.4, sub { stop('manager'); }, \&restart_links);
is($crowd->all_are_served, '', 'the manager stands still: all are served, on new links');
is($gateway->client->value('SELECT 1'), '1', 'the manager stands still: new clients are let in');
my $string = $gateway->connection_string;
my ($out, $err) = $gateway->try_sql("SELECT hyperpool.create_origin('late', '$string', allow_trust => true); GRANT USAGE ON FOREIGN SERVER late TO PUBLIC");
like($err, qr/WARNING:  the change of origins is stored, but not yet in service/, 'the manager stands still: who changes an origin is warned');
is(eval { $gateway->client(database => 'late'); 1 } ? 'in' : ($@ =~ /FATAL (\w+)/)[0] // $@, '28000', 'the manager stands still: the new origin is not known yet');
is($gateway->sql('SELECT count(*) FROM hyperpool.origins'), '2', 'the manager stands still: views can be read');
go_on();
is(Gateway::wait_until(sub { $gateway->can_enter('late') }, 1), 1, 'the manager goes on: so does the new origin');
$crowd->go;
$crowd->is_right($origin, 'the manager stood still', qr/^none$/);

# ---- the scout stands still: no new facts, so after a while nothing is cached, and nothing wrong is said ----
my $client = $gateway->client;
is((Cached::warm($gateway, $client, 'SELECT i FROM counted'))[0], 'hit', 'a read comes from the cache');
$crowd = Faults->new($gateway, clients => 8, first => 10);
$crowd->run(0.4, sub { stop('scout'); }, \&restart_links);
is($crowd->all_are_served, '', 'the scout stands still: all are served, on new links');
my $said = '';
$crowd->rest;
Gateway::wait_until(sub { $said = (Cached::ask($gateway, $client, 'SELECT i FROM counted'))[0]; return $said =~ /hit/ ? 0 : 1; }, 1, 30);
unlike($said, qr/hit/, 'the scout stands still: after a while the cache is not trusted any more');
$client->query('UPDATE counted SET i = 2');
is($client->value('SELECT i FROM counted'), '2', 'the scout stands still: reads tell the present');
($out, $err) = $gateway->try_sql(q{SELECT hyperpool.refresh_catalog('app', '1s')});
like($err, qr/was not read in time/, 'the scout stands still: who asks for its look is told');
go_on();
is(Gateway::wait_until(sub { ($gateway->try_sql(q{SELECT hyperpool.refresh_catalog('app')}))[1] }, ''), '', 'the scout goes on');
is(join('|', Cached::warm($gateway, $client, 'SELECT i FROM counted')), 'hit|2', 'the scout goes on: the cache is used again');
$crowd->go;
$crowd->is_right($origin, 'the scout stood still', qr/^none$/);

# ---- ALTER EXTENSION UPDATE ----
SKIP:
{
	my $folder = extension_folder();
	skip "no version can be added to $folder", 5 unless -w $folder;
	my $script = "$folder/hyperpool--1.0--1.0.faults.sql";
	END { unlink $script if $script; }
	open my $file, '>', $script or die "$script: $!";
	print $file "CREATE FUNCTION hyperpool.of_the_update() RETURNS int LANGUAGE sql AS 'SELECT 1';\nDROP VIEW hyperpool.rules;\nCREATE VIEW hyperpool.rules AS SELECT 1 AS one;\n";
	close $file;
	$crowd = Faults->new($gateway, clients => 8, first => 20);
	$crowd->run(0.4, sub { $gateway->sql(q{ALTER EXTENSION hyperpool UPDATE TO '1.0.faults'}); });
	is($crowd->all_are_served, '', 'ALTER EXTENSION UPDATE: all are served');
	is($gateway->sql('SELECT hyperpool.of_the_update(), (SELECT one FROM hyperpool.rules), (SELECT healthy FROM hyperpool.status())'), '1|1|t', 'ALTER EXTENSION UPDATE: it is another version');
	$crowd->go;
	$crowd->is_right($origin, 'ALTER EXTENSION UPDATE', qr/^none$/);
}

sub extension_folder
{
	my $config = slurp_file($ENV{TEMP_CONFIG});
	my ($share) = `${\($ENV{PG_CONFIG} // "pg_config")} --sharedir` =~ /(.*)/;
	return "$1/extension" if $config =~ /^extension_control_path = '([^:']*)/m;
	return $config =~ /^extension_destdir = '(.*)'/m ? "$1$share/extension" : "$share/extension";
}

# ---- DROP EXTENSION ----
$crowd = Faults->new($gateway, clients => 8, first => 30);
my $busy = $gateway->client;
$busy->query("BEGIN; INSERT INTO ledger VALUES (-1, 1)");
($out, $err) = $gateway->try_sql('DROP EXTENSION hyperpool');
like($err, qr/other objects depend on it/, 'DROP EXTENSION: not while there are origins');
$gateway->sql('BEGIN; DROP EXTENSION hyperpool CASCADE; ROLLBACK');
$crowd->run(0.4, sub { $gateway->sql('DROP EXTENSION hyperpool CASCADE'); });
$crowd->rest;
is($busy->query('COMMIT')->{tags}[0] // 'no COMMIT', 'COMMIT', 'DROP EXTENSION: an open transaction may end');
# plain SQL waits for no manager, which looks once a second
is(Gateway::wait_until(sub { $gateway->can_enter('app') }, 0), 0, 'DROP EXTENSION: nobody is let in');
like(eval { $gateway->client; 1 } ? 'in' : $@, qr/FATAL (3D000|28000) /, 'DROP EXTENSION: and is told why');
like(RawClient::error_text($busy->query('SELECT 1')), qr/FATAL 57P01 .*origin "app" was dropped/, 'DROP EXTENSION: who was connected is told');
is(join('', $gateway->try_sql('SELECT count(*) FROM hyperpool.clients')) =~ /does not exist/ ? 'gone' : 'there', 'gone', 'DROP EXTENSION: its views are gone');
is(Gateway::wait_until(sub { $gateway->links_at_origin }, '0'), '0', 'DROP EXTENSION: no link is left at the origin');
$gateway->sql('CREATE EXTENSION hyperpool');
$gateway->create('app', 'pool_size => 6, cache => true');
is($crowd->all_are_served, '', 'created anew: all are served again');
$crowd->go;
$crowd->is_right($origin, 'DROP EXTENSION', qr/^(57P01|3D000|28000|42501)$/);
nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
