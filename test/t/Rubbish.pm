# Rubbish: traces of real conversations, and what becomes of them by chance. For the tests that fuzz a running gateway.
package Rubbish;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RawClient;
use Time::HiRes qw(time);

my $wire = abs_path(dirname(__FILE__) . '/../wire');

# What scripts do is done again a thousand times, by many at once: none that waits for another, ends sessions or moves gigabytes.
my %unfit = map { $_ => 1 } qw(terminated_by_origin roles listen_from_other settings_do_not_leak locks_between_clients advisory_locks cancel cancel_late
  timeouts large_values copy_in_large many_rows pipeline_many_syncs deep_pipeline_no_reading client_vanishes transactions_deferred);

# Plays scripts of test/wire at the origin, in an order by chance, for so many seconds, and keeps what was recorded: a list of
# { sent => bytes behind the startup packet, got => all bytes }. What the scripts set up stays there, so that what is said again finds it.
sub record
{
	my ($origin, $user, $seconds) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $from = 'host=127.0.0.1 port=' . $origin->port . " dbname=app user=$user";
	my $until = time() + $seconds;
	my $played = 0;

	for my $script (sort { $a->[1] <=> $b->[1] } map { [ $_, rand ] } glob("$wire/scripts/*.wire"))
	{
		# a slow machine plays some all the same
		last if time() > $until && $played >= 12;
		next if $unfit{ basename($script->[0], '.wire') };
		$played++;
		IPC::Run::run([ $ENV{HP_PLAYER}, '--target', $from, '--timeout', 2000, '--record', $folder, $script->[0] ], '>', '/dev/null', '2>', '/dev/null');
		set_up_again($origin, $user, $script->[0]);
	}
	my @traces = map { trace($_) } glob("$folder/*.sent");
	return grep { length $_->{sent} } @traces;
}

sub set_up_again
{
	my ($origin, $user, $script) = @_;
	my $text = PostgreSQL::Test::Utils::slurp_file($script);
	$origin->psql('app', $_ =~ s/\\"/"/gr, connstr => 'host=127.0.0.1 port=' . $origin->port . " dbname=app user=$user") for $text =~ /^setup "((?:[^"\\]|\\.)*)"$/mg;
}

sub trace
{
	my ($path) = @_;
	my $sent = PostgreSQL::Test::Utils::slurp_file($path);
	my $got = -e $path =~ s/sent$/got/r ? PostgreSQL::Test::Utils::slurp_file($path =~ s/sent$/got/r) : '';
	my $length = length $sent >= 4 ? unpack('N', $sent) : 0;
	return { sent => $length >= 8 && $length < length $sent ? substr($sent, $length, 100000) : '', got => substr($got, 0, 100000) };
}

# The messages of a stream; what is left of it, last, may be none.
sub messages
{
	my ($bytes) = @_;
	my @found;
	my $at = 0;
	while (length($bytes) - $at >= 5)
	{
		my $length = 1 + unpack('N', substr($bytes, $at + 1, 4));
		last if $length < 5 || $length > length($bytes) - $at;
		push @found, substr($bytes, $at, $length);
		$at += $length;
	}
	push @found, substr($bytes, $at) if $at < length $bytes;
	return @found;
}

# ---- chance ----

sub pick { return $_[ int rand @_ ]; }
sub noise { my ($n) = @_; return join '', map { chr int rand 256 } 1 .. $n; }

# One of the things that may happen to a list of messages; @others: of another stream.
my @changes = (
	sub { my ($m) = @_; my $i = int rand @$m; my $at = int rand length $m->[$i]; substr($m->[$i], $at, 1) = chr int rand 256; },	# a byte, headers too
	sub { my ($m) = @_; my $i = int rand @$m; my $at = int rand length $m->[$i]; substr($m->[$i], $at, 1) ^= chr(1 << int rand 8); },
	sub { my ($m) = @_; splice @$m, int rand @$m, 1; },
	sub { my ($m) = @_; splice @$m, int rand @$m, 0, pick(@$m); },    # again, somewhere
	sub { my ($m) = @_; my $i = int rand @$m; @$m[ $i, -1 ] = @$m[ -1, $i ]; },
	sub { my ($m, $others) = @_; splice @$m, int rand @$m, 0, @$others[ 0 .. int(rand @$others) ]; },
	sub { my ($m) = @_; my $i = int rand @$m; $m->[$i] = substr($m->[$i], 0, int rand length $m->[$i]); },    # the rest of the stream is out of step
	sub { my ($m) = @_; splice @$m, int rand @$m, 0, noise(1 + int rand 40); },
	sub { my ($m) = @_; splice @$m, int rand @$m, 0, RawClient::message(pick(split //, 'QPBEDCSHFdcfXpT?'), noise(int rand 30)); },
	sub { my ($m) = @_; splice @$m, int rand @$m, 0, RawClient::message(pick(qw(S H S H c d E B)), ''); },
	sub { my ($m) = @_; my $i = int rand @$m; substr($m->[$i], 1, 4) = pack('N', pick(0, 3, 4, 5, 10000, 0x7fffffff, 0xffffffff, int rand 5000)) if length $m->[$i] >= 5; },
	# a long one, of right length
	sub { my ($m) = @_; splice @$m, int rand @$m, 0, RawClient::message(pick(qw(Q P d B)), pick('', "\0") . 'x' x int(rand 100000) . pick('', "\0")); },
);

# The messages with a few changes, as bytes; now and then with none.
sub mutated
{
	my ($messages, $others) = @_;
	my @m = @$messages;
	for (1 .. int rand 5)
	{
		pick(@changes)->(\@m, $others);
		@m = grep { length } @m;
		last unless @m;
	}
	return join '', @m;
}

1;
