# Secrets: a client's password is nowhere, in no process of the gateway, log, view, title of a process; an origin's password is in no view, log or title, and gone from what the manager
# publishes, from the manager and from the worker when it has been replaced or dropped (PostgreSQL's own buffers keep the catalog's rows). Memory is read as a core dump would show it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use LoginClient qw(write_file);
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my %secret = (client => 'clients-own-word-7351', origin => 'origins-word-4488-one', next => 'origins-word-4488-two', bind => 'bound-value-9127');
my $gateway = Gateway->new(create => 0, settings => "hyperpool.log_connections = on\nlog_statement = none\nlog_min_duration_statement = -1\n");
my ($region, $origin) = ($gateway->{region}, $gateway->{origin});
$origin->safe_psql('postgres', "SET log_statement = 'none'; SET password_encryption = 'scram-sha-256'; ALTER ROLE app PASSWORD '$secret{origin}'");
write_file($origin->data_dir . '/pg_hba.conf', "local all all trust\nhost all app all scram-sha-256\n");
$origin->reload;
# not shown in pg_stat_activity, whose texts stay in shared memory after their session
$gateway->sql(qq{SET track_activities = off; SET password_encryption = 'scram-sha-256'; ALTER ROLE app PASSWORD '$secret{client}'});
my $hba = PostgreSQL::Test::Utils::slurp_file($region->data_dir . '/pg_hba.conf');
write_file($region->data_dir . '/pg_hba.conf', "host app app all scram-sha-256\n$hba");
$region->reload;
$gateway->{connection} = "password=$secret{origin}";
$gateway->sql("SELECT hyperpool.create_origin('app', '" . $gateway->connection_string . "', cache => true); GRANT USAGE ON FOREIGN SERVER app TO PUBLIC");

sub psql
{
	my ($password, $sql) = @_;
	local $ENV{PGPASSWORD} = $password;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-XAtqw', '-d', $gateway->connstr, '-c', $sql ], '<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60));
	return $out . $err;
}
is(Gateway::wait_until(sub { psql($secret{client}, 'SELECT 1') =~ /^1$/m ? 1 : 0 }, 1), 1, 'a client proves who it is by SCRAM');
like(psql("$secret{client}x", 'SELECT 1'), qr/password authentication failed/, 'another password is refused');
psql($secret{client}, "SELECT '$secret{bind}'") for 1 .. 3;

my %pids = map { split /\|/ } split /\n/, $gateway->sql(q{SELECT replace(backend_type, 'hyperpool ', ''), pid FROM pg_stat_activity WHERE backend_type LIKE 'hyperpool %'});
is(join(' ', sort keys %pids), 'manager scout worker', 'three processes');

# The mappings of a process that a core dump would hold, and those it would not (madvise: "dd"): [start, end, shared].
sub mappings
{
	my ($pid) = @_;
	my (@dumped, @left_out, $at);
	open my $smaps, '<', "/proc/$pid/smaps" or return;
	while (<$smaps>)
	{
		$at = [ hex $1, hex $2, $4 eq 's' ] if /^([0-9a-f]+)-([0-9a-f]+) (r..)(.)/;
		$at = undef if /^[0-9a-f]+-[0-9a-f]+ -/;
		push @{ /\bdd\b/ ? \@left_out : \@dumped }, $at if /^VmFlags:/ && $at;
	}
	return (\@dumped, \@left_out);
}

# How often each secret is found in the mappings.
sub found
{
	my ($pid, $mappings, @names) = @_;
	my %n = map { $_ => 0 } @names;
	open my $memory, '<', "/proc/$pid/mem" or return \%n;
	binmode $memory;
	for my $m (@$mappings)
	{
		my ($at, $rest) = ($m->[0], '');
		while ($at < $m->[1])
		{
			my $want = $m->[1] - $at < 1 << 22 ? $m->[1] - $at : 1 << 22;
			sysseek $memory, $at, 0 or last;
			my $n = sysread $memory, my $bytes, $want or last;
			$bytes = $rest . $bytes;
			for my $name (@names) { $n{$name}++ while $bytes =~ /\Q$secret{$name}\E/g; }
			$rest = substr $bytes, -40;
			$rest = '' if grep { index($rest, $secret{$_}) >= 0 } @names;
			$at += $n;
		}
	}
	return \%n;
}

SKIP:
{
	skip 'a sanitizer has terabytes of addresses of its own', 9 if $ENV{CHECKER_LOGS};
	my ($dumped, $left_out) = mappings($pids{worker});
	skip 'the memory of a process cannot be read here', 9 unless $dumped && @$dumped && open(my $try, '<', "/proc/$pids{worker}/mem");
	skip 'the kernel does not tell what a core dump leaves out', 9 unless grep { $_->[2] } @$left_out;
	# that it would be found, were it there
	is((found($pids{worker}, $left_out, 'origin')->{origin} > 0) ? 'found' : 'not', 'found', 'the password of the origin is published in memory that is left out of core dumps');
	for my $name (sort keys %pids)
	{
		my ($dumped, $left_out) = mappings($pids{$name});
		is(found($pids{$name}, $dumped, 'client')->{client} + found($pids{$name}, $left_out, 'client')->{client}, 0, "$name: the client's password is nowhere");
	}

	# ---- what the manager has read and is gone: credentials of all lengths ----
	my @held = map { "origins-word-4488-gone-" . 'z' x $_ } 1 .. 30;
	$secret{gone} = 'origins-word-4488-gone-z';
	$gateway->sql("SET log_statement = 'none'; CREATE ROLE held_$_; CREATE USER MAPPING FOR held_$_ SERVER app OPTIONS (user 'app', password '$held[$_ - 1]')") for 1 .. @held;
	is(Gateway::wait_until(sub { found($pids{manager}, [ grep { !$_->[2] } @{ (mappings($pids{manager}))[0] } ], 'gone')->{gone} > 0 ? 'found' : 'not' }, 'found'), 'found', 'the manager has read thirty passwords more');
	$gateway->sql("DROP USER MAPPING FOR held_$_ SERVER app; DROP ROLE held_$_") for 1 .. @held;
	is(Gateway::wait_until(sub { found($pids{manager}, [ grep { !$_->[2] } @{ (mappings($pids{manager}))[0] } ], 'gone')->{gone} }, '0'), '0', 'and when they are dropped its memory has none of them');

	# ---- replaced ----
	$origin->safe_psql('postgres', "SET log_statement = 'none'; ALTER ROLE app PASSWORD '$secret{next}'");
	$gateway->sql("SELECT hyperpool.set_credential('app', 'public', 'app', '$secret{next}')");
	$gateway->sql(q{SELECT hyperpool.restart_origin('app')});
	is(Gateway::wait_until(sub { psql($secret{client}, 'SELECT 2') =~ /^2$/m ? 2 : 0 }, 2), 2, 'a new password of the origin is in use');
	($dumped, $left_out) = mappings($pids{worker});
	is(Gateway::wait_until(sub { found($pids{worker}, $left_out, 'origin')->{origin} }, '0'), '0', 'the former one is gone from the area that is published');
	is(Gateway::wait_until(sub { found($pids{worker}, [ grep { !$_->[2] } @{ (mappings($pids{worker}))[0] } ], 'origin')->{origin} }, '0'), '0', 'and from the worker');
}

# ---- titles, views, logs ----
for my $pid (values %pids)
{
	unlike(PostgreSQL::Test::Utils::slurp_file("/proc/$pid/cmdline"), qr/word-/, 'no title of a process has one');
}
my $client = RawClient->new(port => $region->port, user => scalar getpwuid($>), database => 'postgres');
my $verifier = $gateway->sql(q{SELECT rolpassword FROM pg_authid WHERE rolname = 'app'});
for my $view (split /\n/, $gateway->sql(q{SELECT 'hyperpool.' || viewname FROM pg_views WHERE schemaname = 'hyperpool'}))
{
	my $all = $gateway->sql("SELECT v::text FROM $view v");
	unlike($all, qr/word-/, "no password in $view");
	is(index($all, $verifier), -1, "nor a verifier");
}
unlike($gateway->sql(q{SELECT string_agg(query, ' ') FROM hyperpool.stat_queries}), qr/$secret{bind}/, 'literals are not in stat_queries');
my $log = PostgreSQL::Test::Utils::slurp_file($region->logfile);
unlike($log, qr/word-/, 'nor is any in the log');
unlike($log, qr/$secret{bind}/, 'nor what clients ask');

# errors of functions that take a password
for my $call ("create_origin('x', 'host=127.0.0.1 port=1 user=a password=$secret{next}')", "alter_origin('app', 'host=127.0.0.1 port=1 password=$secret{next}')",
	"set_credential('nowhere', 'public', 'a', '$secret{next}')", "set_credential('app', 'no_such_role', 'a', '$secret{next}')", "create_origin('x', 'password=$secret{next} nonsense')")
{
	my (undef, $err) = $gateway->try_sql("SELECT hyperpool.$call");
	like($err, qr/ERROR/, 'an error');
	unlike($err =~ s/^(LINE \d+|STATEMENT):.*$//mgr, qr/word-/, 'without the password');
}
unlike(PostgreSQL::Test::Utils::slurp_file($region->logfile), qr/word-/, 'nor does the log have the failed statements');
$client->terminate;
my $unharmed = PostgreSQL::Test::Utils::slurp_file($region->logfile);
unlike($unharmed, qr/terminated by signal|TRAP:|PANIC:/, 'no process died');
done_testing();
