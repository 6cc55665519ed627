# Crowd: test/tools/crowd, told what to do line by line.
package Crowd;

use strict;
use warnings;

use IPC::Open2;

# port, user, database, query, ... as its options; tls => 1
sub new
{
	my ($class, %o) = @_;
	my @options = map { $_ eq 'tls' ? '--tls' : ("--$_" => $o{$_}) } grep { $o{$_} } sort keys %o;
	my $self = bless {}, $class;
	$self->{pid} = open2($self->{out}, $self->{in}, $ENV{CROWD}, @options);
	return $self;
}

# The numbers of its answer, by name.
sub tell
{
	my ($self, $command) = @_;
	print { $self->{in} } "$command\n";
	my $line = readline($self->{out}) // die "crowd has ended at \"$command\"";
	return { split ' ', $line };
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!);
	close $self->{in};
	waitpid $self->{pid}, 0;
}

1;
