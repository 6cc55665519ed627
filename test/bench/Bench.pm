# Bench: what measurements share. A folder under /tmp that goes at the end with all that was started in it, CPU time from /proc, runs of
# pgbench, medians. It knows no pooler (Systems.pm does) and prints no result.
package Bench;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Select;
use List::Util qw(min sum0);
use POSIX qw(sysconf _SC_CLK_TCK WNOHANG);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(run slurp spill answer_of psql median percentile cpu cpu_of_family children_of processes_of start_program wait_for);

our $top = abs_path(dirname(__FILE__) . '/../..');
our $pg_config = $ENV{PG_CONFIG} // 'pg_config';
our $bindir = `$pg_config --bindir` =~ s/\n//r;
our ($place, $origin_pid);    # the folder; the postmaster of the origin, once there is one

my $name = 'bench';
my $tick = sysconf(_SC_CLK_TCK);
my $owner = $$;
my @ends;

# PostgreSQL does not run as root: the script again as the user of the tests, in a copy of the tree.
sub step_down
{
	my ($script, @arguments) = @_;
	return if $> != 0;
	chdir $top or die "$top: $!\n";
	exec 'test/tools/as-user', $script, @arguments or die "as-user: $!\n";
}

sub open_place
{
	($name) = @_;
	$place = tempdir("hyperpool-$name.XXXXXX", TMPDIR => 1, CLEANUP => 1);
	$SIG{INT} = $SIG{TERM} = sub { exit 1 };
	return $place;
}

# What is to be done when the program ends, however it does; the last first.
sub at_end { push @ends, @_; return; }

END
{
	if ($$ == $owner)
	{
		my $rc = $?;
		$_->() for reverse @ends;
		$? = $rc;
	}
}

sub run
{
	my (@command) = @_;
	system(@command) == 0 or die "$name: failed: @command\n";
	return;
}

sub slurp
{
	my ($path) = @_;
	open my $file, '<', $path or return undef;
	local $/;
	return <$file>;
}

# Appends.
sub spill
{
	my ($path, $text) = @_;
	open my $file, '>>', $path or die "$name: $path: $!\n";
	print $file $text;
	close $file;
	return;
}

# The first line a command prints, '' if there is none.
sub answer_of
{
	my ($command) = @_;
	my ($line) = split /\n/, `{ $command; } 2>/dev/null`;
	return $line // '';
}

sub psql
{
	my ($port, $database, @statements) = @_;
	run("$bindir/psql", qw(-X -q -o /dev/null -v ON_ERROR_STOP=1 -U bench -h), $place, '-p', $port, '-d', $database, map { ('-c', $_) } @statements);
	return;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return undef unless @sorted;
	return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

# Of a sorted list.
sub percentile
{
	my ($sorted, $part) = @_;
	return undef unless @$sorted;
	return $sorted->[ min($#$sorted, int($part * @$sorted)) ];
}

# ---- programs ----

# Ended by INT at the end.
sub start_program
{
	my ($log, @command) = @_;
	my $pid = fork() // die "$name: fork: $!\n";
	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		exec @command or POSIX::_exit(127);
	}
	at_end(sub { waitpid($pid, WNOHANG) == 0 && kill('INT', $pid) && waitpid($pid, 0) });    # unless it has ended before
	return $pid;
}

# The rights just granted, or the first processes, may take a moment.
sub wait_for
{
	my ($what, $connection) = @_;
	my $until = time() + 30;
	my $query = 'SELECT abalance FROM pgbench_accounts WHERE aid = 1';
	until (system("$bindir/psql -X -q -o /dev/null -c '$query' '$connection' 2>$place/wait.log") == 0)
	{
		die "$name: $what does not answer: " . slurp("$place/wait.log") if time() > $until;
		sleep 0.2;
	}
	return;
}

# ---- CPU ----

# (parent, user + system in seconds, that of its children that have ended). The scheduler's own account is in nanoseconds but of one thread,
# the other in ticks of 10 ms, which over hundreds of processes adds up to nonsense.
sub times_of
{
	my ($pid) = @_;
	my $stat = slurp("/proc/$pid/stat") // return;
	my @f = split ' ', $stat =~ s/^.*\)//sr;    # begins with the 3rd field
	my ($exact) = $f[17] == 1 ? split(' ', slurp("/proc/$pid/schedstat") // '') : ();    # the 20th: threads
	return ($f[1], $exact ? $exact / 1e9 : ($f[11] + $f[12]) / $tick, ($f[13] + $f[14]) / $tick);
}

sub children_of
{
	my ($pid) = @_;
	my $list = slurp("/proc/$pid/task/$pid/children");
	return split ' ', $list if defined $list;
	return grep { my ($parent) = times_of($_); defined $parent && $parent == $pid } map { m{(\d+)$} } glob '/proc/[0-9]*';
}

# The children of a process whose title matches.
sub processes_of
{
	my ($pid, $title) = @_;
	return grep { (slurp("/proc/$_/cmdline") // '') =~ $title } children_of($pid);
}

# A target's CPU seconds until now: of the processes that serve, where those are named, else of its process and all children.
sub cpu
{
	my ($target) = @_;
	return 0 unless $target->{pid};
	return cpu_of_family($target->{pid}) unless $target->{serving};
	return sum0(map { (times_of($_))[1] // 0 } @{ $target->{serving} });
}

# Children that end are counted by their parent.
sub cpu_of_family
{
	my ($pid) = @_;
	for (;;)
	{
		my (undef, $own, $ended) = times_of($pid);
		return 0 unless defined $own;
		my $sum = $own + $ended + sum0(map { (times_of($_))[1] // 0 } children_of($pid));
		my $ended_now = (times_of($pid))[2] // $ended;
		return $sum if $ended_now == $ended;    # else one may have been missed
	}
}

# ---- one run of pgbench ----

# load($target, %how): pgbench against the target, after up to a second that warms up and is not counted. How:
#   clients, seconds (whole), protocol (simple), scripts => [FILE@WEIGHT …]
#   link         plain (default), tls or unix
#   reconnect    a connection for each transaction
#   sampling     part of the transactions whose time is taken (1)
#   threads      of pgbench (2)
#   sessions     [{ environment } …]: instead of one pgbench as many, with clients shared out
#   only         percentiles of the script of that number alone
# Returns { tps, p50, p99, mean (ms), cpu, origin (µs a query) }; dies with pgbench's own words.
sub load
{
	my ($target, %how) = @_;
	my @sessions = @{ $how{sessions} // [ {} ] };
	my @runs = map { start_pgbench($target, $_, scalar @sessions, %how) } @sessions;
	my $seen = eval { watch($target, \@runs, $how{seconds}) };
	my $error = $@;
	finish($_) for @runs;
	check($target, $_) for @runs;
	die $error unless $seen;
	my $queries = $seen->{tps} * ($seen->{end} - $seen->{begin});
	die "$name: $target->{name}: no query was answered\n" unless $queries;
	my $times = $how{reconnect} ? cycles($seen, @runs) : latencies($seen, $how{only}, @runs);
	return {
		tps => $seen->{tps}, cpu => $target->{pid} ? 1e6 * $seen->{target} / $queries : undef, origin => $origin_pid ? 1e6 * $seen->{origin} / $queries : undef,
		p50 => percentile($times, 0.5), p99 => percentile($times, 0.99), mean => @$times ? sum0(@$times) / @$times : undef
	};
}

my $run_number = 0;
my $longest = 120;    # seconds of a run, with all its logins; ALRM ends it before, as if the time were over

sub start_pgbench
{
	my ($target, $environment, $share, %how) = @_;
	my $log = "$place/times." . $run_number++;
	my $clients = $how{clients} / $share;
	my @command = ("$bindir/pgbench", '-n', '-c', $clients, '-j', min($clients, $how{threads} // 2), '-M', $how{protocol} // 'simple',
		'-T', $longest, '-P', 1, '-l', "--log-prefix=$log", '--sampling-rate=' . ($how{sampling} // 1));
	push @command, '-C' if $how{reconnect};
	push @command, map { ('-f', $_) } @{ $how{scripts} };
	push @command, connection($target, $how{link} // 'plain');
	my $pid = open(my $out, '-|') // die "$name: fork: $!\n";
	if ($pid == 0)
	{
		open STDERR, '>&', \*STDOUT;
		@ENV{ keys %$environment } = values %$environment;
		exec @command or POSIX::_exit(127);
	}
	return { pid => $pid, out => $out, log => $log, clients => $clients, text => '', open => 1 };
}

# A target is { name, port, database, pid (undef: the origin itself), serving => [pids] (undef: pid and its children) }, and host and user if they are others.
sub connection
{
	my ($target, $link) = @_;
	my $port = $target->{port};
	my $where = $link eq 'unix' ? "host=$place port=$port" : 'host=' . ($target->{host} // '127.0.0.1') . " port=$port";
	$where .= ' gssencmode=disable sslmode=' . ($link eq 'tls' ? 'require' : 'disable');
	return "$where user=" . ($target->{user} // 'bench') . " dbname=$target->{database}";
}

# From the moment when all are warm to a report of progress $seconds later: when it was, the rate, the CPU seconds.
sub watch
{
	my ($target, $runs, $seconds) = @_;
	my $until = time() + $longest;
	read_some($runs, $until) while grep { !is_warm($_) } @$runs;
	my %seen = (begin => time(), target => -cpu($target), origin => $origin_pid ? -cpu_of_family($origin_pid) : 0);
	$_->{skip} = reports($_) for @$runs;
	read_some($runs, $until) while reports($runs->[0]) < $runs->[0]{skip} + $seconds;
	$seen{end} = time();
	$seen{target} += cpu($target);
	$seen{origin} += cpu_of_family($origin_pid) if $origin_pid;
	$seen{tps} = sum0(map { rate_of($_) } @$runs);
	kill 'ALRM', $_->{pid} for @$runs;
	read_some($runs, $until) while grep { $_->{open} } @$runs;
	return \%seen;
}

# pgbench reports once a second from its start, but not before all its clients have logged in: a first report that is late, or is of
# many clients, comes when the load has just begun.
sub is_warm
{
	my ($run) = @_;
	my @at = map { $_->[0] } progress_of($run);
	return 1 if @at && $at[0] < 1.05 && $run->{clients} < 100;
	return scalar grep { $at[$_] - $at[ $_ - 1 ] > 0.95 } 1 .. $#at;
}

# [second, tps] of each report.
sub progress_of
{
	my ($run) = @_;
	my @reports;
	push @reports, [ $1, $2 ] while $run->{text} =~ /^progress: ([\d.]+) s, ([\d.]+) tps.*\n/mg;
	return @reports;
}

sub reports { my ($run) = @_; return scalar(() = progress_of($run)); }

# Of the reports since it was warm; of one that made none meanwhile the last before.
sub rate_of
{
	my ($run) = @_;
	my @tps = map { $_->[1] } progress_of($run);
	my $first = min($run->{skip}, $#tps);
	return sum0(@tps[ $first .. $#tps ]) / ($#tps - $first + 1);
}

sub read_some
{
	my ($runs, $until) = @_;
	my %of = map { ($_->{out} => $_) } grep { $_->{open} } @$runs;
	die "$name: pgbench did not come to its end\n" if time() > $until || !%of;
	for my $out (IO::Select->new(map { $_->{out} } values %of)->can_read(1))
	{
		my $run = $of{$out};
		$run->{open} = sysread($out, $run->{text}, 65536, length $run->{text}) ? 1 : 0;
		die "$name: pgbench ended early\n" if !$run->{open} && !defined $run->{skip};
	}
	return;
}

sub finish
{
	my ($run) = @_;
	kill 'KILL', $run->{pid} if $run->{open};
	close $run->{out};    # waits for it
	$run->{rc} = $?;
	$run->{logs} = [ glob "$run->{log}.*" ];
	$run->{times} = join '', map { slurp($_) } @{ $run->{logs} };
	unlink @{ $run->{logs} };
	return;
}

sub check
{
	my ($target, $run) = @_;
	return if $run->{rc} == 0 && $run->{text} !~ /aborted/;
	my @errors = grep { /error|fatal|abort/i } split /\n/, $run->{text};
	die "$name: $target->{name}: " . ($errors[0] // $run->{text}) . "\n";
}

# What pgbench measured, in ms, sorted, of transactions that ended while it was watched.
sub latencies
{
	my ($seen, $only, @runs) = @_;
	my @times;
	for my $run (@runs)
	{
		for (split /\n/, $run->{times})
		{
			my (undef, undef, $time, $script, $second, $us) = split;
			next if !defined $us || $time =~ /\D/ || (defined $only && $script != $only);
			my $at = $second + $us / 1e6;
			push @times, $time / 1000 if $at >= $seen->{begin} && $at <= $seen->{end};
		}
	}
	return [ sort { $a <=> $b } @times ];
}

# With a connection for each transaction pgbench's time leaves out the connection: it is taken from one end to the next of a client.
sub cycles
{
	my ($seen, @runs) = @_;
	my @times;
	for my $run (@runs)
	{
		my %last;
		for (split /\n/, $run->{times})
		{
			my ($client, undef, undef, undef, $second, $us) = split;
			next unless defined $us;
			my $at = $second + $us / 1e6;
			push @times, 1000 * ($at - $last{$client}) if defined $last{$client} && $at >= $seen->{begin} && $at <= $seen->{end};
			$last{$client} = $at;
		}
	}
	return [ sort { $a <=> $b } @times ];
}

1;
