# Relay: test/tools/relay in front of a port of this machine: a way that can be made long, and that breaks as it is told.
package Relay;

use strict;
use warnings;

use IO::Handle;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);

# to: the port it leads to; rtt: milliseconds. It listens on a port of its own: {port}.
sub new
{
	my ($class, $to, $rtt) = @_;
	my $self = bless { fifo => PostgreSQL::Test::Utils::tempdir() . '/control' }, $class;

	$self->{pid} = open($self->{out}, '-|', $ENV{RELAY}, '--listen', '127.0.0.1:0', '--to', "127.0.0.1:$to", '--rtt-ms', $rtt // 0,
		'--control', $self->{fifo}) or die "relay: $!";
	my $line = readline $self->{out};
	($self->{port}) = $line =~ /:(\d+)/ or die "relay says: $line";
	open $self->{control}, '>', $self->{fifo} or die "$self->{fifo}: $!";
	$self->{control}->autoflush;
	return $self;
}

# One of the commands that relay.c lists (stall, resume, reset, cut 100 ...); it acts on it at once, give or take a turn.
sub tell
{
	my ($self, $command) = @_;
	print { $self->{control} } "$command\n";
	sleep 0.1;
}

sub DESTROY
{
	my ($self) = @_;
	return unless $self->{pid};
	local ($?, $!);
	kill 'TERM', $self->{pid};
	close $self->{out};
}

1;
