# Live: a player that takes its script line by line, from the generator, the shrinker and the recorder.
#
# It answers: what does PostgreSQL itself say to these lines, and by which command does a script wait for just that? It owns one
# player process on a direct connection by Unix socket. It never judges, and knows nothing of the gateway.
package Live;

use strict;
use warnings;
use IPC::Open3 qw(open3);

# target: conninfo with a Unix socket; its user must be allowed to see pg_stat_activity.
sub new
{
	my ($class, $player, $target) = @_;
	my $self = bless {}, $class;
	open(my $nowhere, '>', '/dev/null') or die "/dev/null: $!\n";
	$self->{pid} = open3($self->{in}, $self->{out}, '>&' . fileno($nowhere), $player, '--target', $target, '--live', 1, '-');
	return $self;
}

sub tell
{
	my ($self, $line) = @_;
	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$line\n";
}

# (how a script waits for what has come: "expect Z 2", "send", "locked"; the lines of the trace). Dies when the play has ended.
sub settle
{
	my ($self) = @_;
	my @trace;
	local $SIG{PIPE} = 'IGNORE';
	$self->tell('settle');
	$self->{in}->flush;
	my $out = $self->{out};
	while (my $line = <$out>)
	{
		chomp $line;
		return ($1, @trace) if $line =~ /^== (expect .*|send|locked)$/;
		push @trace, $line;
	}
	die "the live player has stopped\n";
}

# Ends the play: the teardown is run.
sub finish
{
	my ($self) = @_;
	return if !$self->{pid};
	my $out = $self->{out};
	local $SIG{PIPE} = 'IGNORE';
	close $self->{in};
	my @rest = <$out>;
	close $out;
	waitpid($self->{pid}, 0);
	$self->{pid} = undef;
	return $? == 0;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	$self->finish;
}

# The script in which each "settle" is replaced by the command that waits for what PostgreSQL has said there. undef: it cannot
# be played (it waits for a lock, say). What comes after the end of a connection is left out.
sub settled
{
	my ($player, $target, @lines) = @_;
	my $live = Live->new($player, $target);
	my (@script, %ended);
	my $name = '';
	for my $line (@lines)
	{
		$name = $1 if $line =~ /^@(\w+)/ || $line =~ /^(?:connect|open) (\w+)/;
		next if $ended{$name} && $line !~ /^(?:setup|teardown|allow|links|#)/;
		if ($line ne 'settle')
		{
			push @script, $line;
			$live->tell($line);
			next;
		}
		my ($how) = eval { $live->settle } or return undef;
		return undef if $how eq 'locked';
		push @script, $how;
		$ended{$name} = 1 if $how eq 'expect closed';
	}
	return $live->finish ? \@script : undef;
}

1;
