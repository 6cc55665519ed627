# Two thousand clients, most of them idle, a thousand busy on twenty links: what each costs, that everybody is served, and that one
# role with many clients leaves another its part. Counts and memory only: how long it takes is not judged. (case 19 of docs/testing.md; 183 has more)
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Crowd;
use Gateway;
use List::Util qw(max min sum);
use Test::More;

my $many = 2000;
my $gateway = Gateway->new(workers => 2, options => 'pool_size => 20');
my @workers = $gateway->worker_pids;
$gateway->sql('CREATE ROLE modest LOGIN');
Gateway::wait_until(sub { eval { $gateway->client(user => 'modest')->terminate; 1 } ? 1 : 0 }, 1);

sub memory { return sum map { Gateway::private_memory($_) } @workers; }
sub crowd { return Crowd->new(port => $gateway->{port}, user => 'app', database => 'app', @_); }
sub clients { my ($n) = @_; return $gateway->wait_for('SELECT count(*) FROM hyperpool.clients', $n); }

# ---- idle ----
my $crowd = crowd();
$crowd->tell('connect 50');
$crowd->tell('ask 0 50 2');
my $before = memory();
is($crowd->tell("connect $many")->{connected}, $many, "$many more clients are let in");
my $each = (memory() - $before) / $many;
note(sprintf 'the workers grow by %.2f kB for each idle client', $each);
cmp_ok($each, '<', 2, 'an idle client costs less than 2 kB');
is(clients($many + 50), $many + 50, 'the view shows all');
my @of = split /\n/, $gateway->sql('SELECT count(*) FROM hyperpool.clients GROUP BY worker');
cmp_ok(max(@of) - min(@of), '<=', max(@of) / 8, 'the workers have equally many') or diag("@of");

# ---- busy: all at once, on the links that there are ----
my $asked = $crowd->tell("ask 0 $many 3");
is("$asked->{answers} $asked->{errors} $asked->{least}", 3 * $many . ' 0 3', 'each is answered three times');
cmp_ok($gateway->links_at_origin, '<=', 20, 'on twenty links');
$asked = $crowd->tell('ask 0 1000 20');
is("$asked->{answers} $asked->{errors} $asked->{least}", '20000 0 20', 'a thousand ask again and again, the others are idle');
cmp_ok((memory() - $before) / $many, '<', 2, 'afterwards nobody keeps more');

# ---- they leave, and as many come again ----
is($crowd->tell('leave 0 ' . ($many + 50))->{left}, $many + 50, 'all leave');
is(clients(0), 0, 'and are gone');
my $again = crowd();
$again->tell("connect $many");
cmp_ok((memory() - $before) / $many, '<', 2, 'the same number again takes no more memory');
undef $again;
clients(0);

# ---- fair between roles: nine hundred and eighty clients of one, twenty of another, queries that hold their links ----
my $busy = crowd(query => 'SELECT pg_sleep(0.005)');
$busy->tell('connect 980');
$busy->tell('connect 20 modest');
my $ran = $busy->tell('run 0 1000 4');
my $greedy = $busy->tell('sum 0 980')->{sum};
my $modest = $busy->tell('sum 980 1000')->{sum};
is($ran->{errors}, 0, 'no errors');
cmp_ok($ran->{least}, '>', 0, 'everybody is served');
note("$greedy answers for 980 clients, $modest for 20");
cmp_ok($modest / 20, '>', 5 * $greedy / 980, 'a client of the modest role waits far less than one of the greedy');
undef $busy;
clients(0);

# ---- TLS ----
SKIP:
{
	skip('this server has no TLS', 2) unless $gateway->{region}->safe_psql('postgres', 'SHOW ssl_library') eq 'OpenSSL';
	my $folder = $gateway->{region}->data_dir;
	system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout $folder/server.key -out $folder/server.crt 2>/dev/null") == 0
	  or skip('no openssl program', 2);
	chmod 0600, "$folder/server.key";
	$gateway->{region}->append_conf('postgresql.conf', "ssl = on\n");
	$gateway->{region}->reload;
	Gateway::wait_until(sub { crowd(tls => 1)->tell('connect 1')->{connected} }, 1);
	my $private = crowd(tls => 1);
	$private->tell('connect 50');
	$before = memory();
	is($private->tell('connect 300')->{connected}, 300, 'three hundred by TLS');
	$each = (memory() - $before) / 300;
	note(sprintf 'the workers grow by %.2f kB for each of them', $each);
	cmp_ok($each, '<', 32, 'what OpenSSL needs, and little more');
}

$gateway->is_unharmed('afterwards');
done_testing();
