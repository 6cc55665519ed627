# The origin is there and lets nobody in: it has as many connections as it takes, it is starting up, its certificate has expired. Clients that have links go on, the others get the
# origin's own reason and stay connected, and when the reason is gone so is the error. And a certificate of the regional instance is replaced under its clients.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Crowd;
use Faults qw(nothing_is_left);
use Gateway;
use LoginClient qw(make_certificates write_file);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir();
make_certificates($dir);
LoginClient::openssl('x509', '-req', '-in', "$dir/server.csr", '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key", '-set_serial', 4711, '-days', $_->[1], '-extfile', "$dir/server.ext", '-out', "$dir/$_->[0].crt")
  for [ expired => 0 ], [ renewed => 2 ];
system("cp $dir/server.crt $dir/at_origin.crt; cp $dir/server.crt $dir/at_region.crt") == 0 or die;

my $tls = "ssl = on\nssl_key_file = '$dir/server.key'";
my $gateway = Gateway->new(options => q{pool_size => 6, cache => true}, settings => "$tls\nssl_cert_file = '$dir/at_region.crt'",
	origin_settings => "$tls\nssl_cert_file = '$dir/at_origin.crt'\nwal_level = replica\nmax_connections = 24\nsuperuser_reserved_connections = 3\n",
	connection => "sslmode=verify-full sslrootcert=$dir/ca.crt");
my $origin = $gateway->{origin};
$origin->safe_psql('app', "SET ROLE app; $Faults::tables");
my $descriptors = Faults::other_descriptors($gateway);

sub reconnect { $gateway->sql(q{SELECT hyperpool.restart_origin('app')}); }

# ---- as many connections as it takes ----
my @greedy;
sub take_all
{
	# until nothing is left for half a second: links that are closed make room
	my $full_since;
	while (!$full_since || time() - $full_since < 0.5)
	{
		my $one = eval { $gateway->direct };
		push @greedy, $one if $one;
		$full_since = $one ? undef : $full_since // time();
		sleep 0.02;
	}
}

my $crowd = Faults->new($gateway, clients => 10);
$crowd->run(0.4, \&take_all);
is($crowd->all_are_served, '', 'no connection is left: clients are served on the links there are');
reconnect();
$gateway->wait_for('SELECT count(*) FROM hyperpool.links', '0');
take_all();
$crowd->run_until(sub { return $crowd->{codes}{53300}; });
cmp_ok($crowd->{codes}{53300} // 0, '>', 0, 'no connection is left for links: clients are told');
my ($told) = grep { $_ && $_->{C} eq '53300' } map { $_->{last_error} } @{ $crowd->{clients} };
like($told->{M} // '', qr/too many clients already|connection slots are reserved/, "in the words of the origin: $told->{M}");
like($told->{H} // '', qr/check_origin/, 'with a hint');
$_->vanish for @greedy;
is($crowd->all_are_served, '', 'connections again: all are served');
$crowd->go;
$crowd->is_right($origin, 'no connection was left', qr/^53300$/);
is($crowd->{closed}, 0, 'no connection was left: no client is thrown out');

# ---- its certificate has expired, and is renewed ----
Gateway::wait_until(sub { return system("openssl x509 -in $dir/expired.crt -noout -checkend 0 >/dev/null 2>&1") == 0 ? 'valid' : 'expired' }, 'expired');
$crowd = Faults->new($gateway, clients => 8, first => 10);
$crowd->run(0.4, sub { system('cp', "$dir/expired.crt", "$dir/at_origin.crt"); $origin->reload; });
is($crowd->all_are_served, '', 'an expired certificate: links that are open go on');
ok(!%{ $crowd->{codes} }, 'without an error');
# the origin heeds its reload when it likes
$crowd->run_until(sub { reconnect(); $crowd->go_on(0.2); return $crowd->{codes}{'08001'}; });
($told) = grep { $_ && $_->{C} eq '08001' } map { $_->{last_error} } @{ $crowd->{clients} };
like($told->{M} // '', qr/certificate/, 'an expired certificate: new links are refused' . ($told ? ": $told->{M}" : ''));
reconnect();
is(Gateway::wait_until(sub { my $late = $gateway->client(may_fail => 1, parameters => { DateStyle => 'German' }); return join ' ', map { $late->{greeting}{error}{$_} // 'none' } qw(C H); },
	'08001 hyperpool could not connect to the origin. SELECT * FROM hyperpool.check_origin(...) shows the steps.'),
	'08001 hyperpool could not connect to the origin. SELECT * FROM hyperpool.check_origin(...) shows the steps.', 'who logs in and needs a link for it is told the same');
my $step = $gateway->sql(q{SELECT step || ': ' || message FROM hyperpool.check_origin('app') WHERE NOT ok});
like($step, qr/^TLS: .*certificate/, "check_origin says so: $step");
system('cp', "$dir/renewed.crt", "$dir/at_origin.crt");
$origin->reload;
is($crowd->all_are_served, '', 'a renewed certificate: all are served');
$crowd->go;
$crowd->is_right($origin, 'an expired certificate', qr/^08001$/);
is($crowd->{closed}, 0, 'an expired certificate: no client is thrown out');

# ---- starting up: a standby that lets nobody in before it is promoted ----
sub control { system_or_bail('pg_ctl', '-D', $origin->data_dir, '-l', $origin->logfile, '-o', '--cluster-name=origin', @_); }

$crowd = Faults->new($gateway, clients => 8, first => 20);
$crowd->run(0.4, sub {
	$origin->append_conf('postgresql.conf', 'hot_standby = off');
	write_file($origin->data_dir . '/standby.signal', '');
	$origin->stop('fast');
	control('-W', 'start');
});
ok($crowd->run_until(sub { return $crowd->{codes}{'57P03'}; }), 'starting up: clients are told');
($told) = grep { $_ && $_->{C} eq '57P03' } map { $_->{last_error} } @{ $crowd->{clients} };
like($told->{M} // '', qr/starting up|not accepting connections|not yet accepting/, 'in the words of the origin');
control('-w', 'promote');
$origin->_update_pid(1);
is($crowd->all_are_served(30), '', 'started up: all are served');
$crowd->go;
$crowd->is_right($origin, 'starting up');
is($crowd->{closed}, 0, 'starting up: no client is thrown out');

# ---- a certificate of the regional instance is replaced under its clients, then by a file that is none ----
sub shown { return join '', `openssl s_client -starttls postgres -connect 127.0.0.1:$gateway->{port} </dev/null 2>/dev/null | openssl x509 -noout -serial 2>/dev/null` =~ /=0*(\w+)/; }
my $by_tls = Crowd->new(port => $gateway->{port}, user => 'app', database => 'app', query => 'SELECT 8', tls => 1);
is($by_tls->tell('connect 20')->{connected}, 20, 'twenty clients by TLS');
is(shown(), '1', 'they saw the first certificate');
system('cp', "$dir/renewed.crt", "$dir/at_region.crt");
$gateway->{region}->reload;
is(Gateway::wait_until(\&shown, '1267'), '1267', 'after a reload new clients see another one');
my $answers = $by_tls->tell('ask 0 20 1');
is("$answers->{answers} $answers->{errors}", '20 0', 'and those who are connected go on');
write_file("$dir/at_region.crt", 'no certificate');
my $log_at = -s $gateway->{region}->logfile;
$gateway->{region}->reload;
$gateway->{region}->wait_for_log(qr/hyperpool: .*SSL configuration was not reloaded/, $log_at);
is(shown(), '1267', 'a file that is no certificate: the former one stays');
$answers = $by_tls->tell('ask 0 20 1');
is("$answers->{answers} $answers->{errors}", '20 0', 'and clients go on');
$by_tls->tell('leave 0 20');

delete $gateway->{watcher};
nothing_is_left($gateway, 'afterwards', $descriptors);
$gateway->is_unharmed('afterwards');
done_testing();
