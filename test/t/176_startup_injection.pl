# Parameters of the startup message with quotes, backslashes, semicolons and what else breaks out of a statement (CVE-2025-12819 and its like): nothing of them reaches an origin before the
# client has shown who it is; after that each has the same effect as on a direct connection, and none other.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use IO::Select;
use LoginClient qw(write_file);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $gateway = Gateway->new(settings => 'hyperpool.failed_login_delay = 0', origin_settings => 'log_statement = all');
my ($region, $origin) = ($gateway->{region}, $gateway->{origin});
$origin->safe_psql('app', q{SET ROLE app; CREATE TABLE treasure (t text); INSERT INTO treasure VALUES ('there');
CREATE SCHEMA evil; CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'DELETE FROM public.treasure; SELECT $$steered$$';
CREATE FUNCTION evil.pg_advisory_unlock_all() RETURNS void LANGUAGE sql AS 'DELETE FROM public.treasure';
CREATE FUNCTION evil.differs(text, text) RETURNS bool LANGUAGE sql AS 'DELETE FROM public.treasure; SELECT true';
CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.differs)});
$gateway->sql(q{SET password_encryption = 'md5'; CREATE ROLE careful LOGIN PASSWORD 'careful'});
my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
write_file($region->data_dir . '/pg_hba.conf', "host app careful all md5\n$hba");
$region->reload;

sub treasure { return $origin->safe_psql('app', 'SELECT string_agg(t, $$,$$) FROM treasure'); }

my $drop = q{DROP TABLE treasure; --};
my @parameters = (
	[ search_path => "public'; $drop" ],
	[ search_path => qq{public"; $drop} ],
	[ search_path => q{evil, pg_catalog, public} ],
	[ search_path => qq{"evil", "pub""lic", '} ],
	[ search_path => q{\\'; } . $drop ],
	[ search_path => q{public\\} ],
	[ search_path => q{$1} ],
	[ application_name => "x'; $drop" ],
	[ TimeZone => "UTC'; $drop" ],
	[ DateStyle => "ISO', false); $drop" ],
	[ client_encoding => "UTF8'; $drop" ],
	[ "search_path', 'public', false); $drop" => 'x' ],
	[ "evil.a'b" => "c'd" ],
	[ 'evil.setting' => "'; $drop" ],
	[ session_authorization => 'postgres' ],
	[ role => 'postgres' ],
	[ role => "none'; $drop" ],
	[ is_superuser => 'on' ],
	[ options => "-c search_path=evil\\ ,pg_catalog\\,public -c TimeZone=Asia/Tokyo" ],
	[ options => "-c search_path='; $drop" ],
	[ options => "--search_path=evil --role=postgres" ],
	[ options => "-c log_statement=none -c session_preload_libraries=evil" ],
	[ options => "-\\; $drop" ],
	[ options => '-c ' ],
);

# ---- before anybody has shown who they are ----
Gateway::wait_until(sub
{
	my $c = RawClient->new(port => $gateway->{port}, login => 0);
	$c->put_raw(RawClient::startup_packet(user => 'careful', database => 'app'));
	IO::Select->new($c->{socket})->can_read(10);
	$c->pull;
	$c->{in} =~ /^R\x00{3}\x0c/ ? 'asked' : '';
}, 'asked');
my $at = -s $origin->logfile;
for my $parameter (@parameters)
{
	my ($name, $value) = @$parameter;
	my $c = RawClient->new(port => $gateway->{port}, login => 0);
	$c->put_raw(RawClient::startup_packet(user => 'careful', database => 'app', $name => "unproven $value"));
	IO::Select->new($c->{socket})->can_read(10);
	$c->put('p', 'md5' . '0' x 32 . "\0");
	$c->is_closed(10);
}
my $logged = substr(PostgreSQL::Test::Utils::slurp_file($origin->logfile), $at);
unlike($logged, qr/unproven/, 'without a proof nothing of a startup message comes to the origin');
is($gateway->sql('SELECT count(*) FROM hyperpool.links'), $gateway->sql('SELECT count(*) FROM hyperpool.links WHERE exchanges >= 0'), 'links are as they were');

# ---- with a proof: as on a direct connection ----
my @asked = ('SHOW search_path', 'SHOW TimeZone', 'SHOW DateStyle', 'SELECT current_user, session_user', q{SELECT current_setting('evil.setting', true)}, 'SELECT t FROM public.treasure', 'SHOW client_encoding');
sub effect
{
	my ($make) = @_;
	my $client = eval { $make->() } or return $@ =~ /(FATAL|ERROR) (\w{5})/ ? "refused with $2" : "refused: $@";
	my @values = map { $client->value($_) } @asked;
	$client->terminate;
	return join ' | ', @values;
}
for my $parameter (@parameters)
{
	my ($name, $value) = @$parameter;
	my %given = (parameters => { $name => $value });
	my $direct = effect(sub { $gateway->direct(database => 'app', %given) });
	is(effect(sub { $gateway->client(%given) }), $direct, "$name = $value");
	is(effect(sub { $gateway->client }), effect(sub { $gateway->direct(database => 'app') }), 'and the next client finds nothing of it');
}

# ---- the gateway's own queries are not steered by a client's search_path ----
my $client = $gateway->client(parameters => { options => '-c search_path=evil,pg_catalog,public' });
$client->query(q{SET TimeZone = 'Asia/Tokyo'; SELECT pg_advisory_lock(1)});
$client->query(q{SET DateStyle = 'German'});
$client->query('BEGIN; SET LOCAL search_path = evil, pg_catalog; COMMIT');
$client->terminate;
is($gateway->client->value('SELECT t FROM treasure'), 'there', 'set_config, reset and the reading of settings are those of pg_catalog');
is(treasure(), 'there', 'nothing was dropped or deleted');
$gateway->is_unharmed('afterwards');
done_testing();
