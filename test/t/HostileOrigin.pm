# HostileOrigin: a server that speaks just enough of the protocol to harm whoever logs in to it. What it does is named by the database one asks for.
package HostileOrigin;

use strict;
use warnings;

use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);
use POSIX ();
use RawClient;
use Time::HiRes qw(sleep time);

my $patience = 30;    # seconds: then a connection is given up

# behaviours: by database name, each called with a connection when that was asked for; ahead: what is sent in one packet with the N that answers SSLRequest.
sub new
{
	my ($class, %o) = @_;
	my $listener = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1') or die "listen: $!";
	my $self = bless { %o, port => $listener->sockport }, $class;
	$self->{pid} = fork() // die "fork: $!";
	return $self if $self->{pid};
	setpgrp;    # so that all of it ends together
	local $SIG{CHLD} = 'IGNORE';
	while (my $socket = $listener->accept)
	{
		my $child = fork();
		next if !defined $child || $child;
		local $SIG{ALRM} = sub { POSIX::_exit(0) };
		local $SIG{PIPE} = sub { POSIX::_exit(0) };
		alarm $patience;
		eval { $self->serve($socket) };
		POSIX::_exit(0);
	}
	POSIX::_exit(0);
}

sub serve
{
	my ($self, $socket) = @_;
	my $c = { socket => $socket };
	my $packet = read_bytes($c, unpack('N', read_bytes($c, 4)) - 4);
	if ($packet eq pack('N', 80877103))
	{
		put($c, 'N' . ($self->{ahead} // ''));
		$packet = read_bytes($c, unpack('N', read_bytes($c, 4)) - 4);
	}
	my %parameters = split /\0/, substr($packet, 4);
	my $name = $parameters{database} // '';
	$self->{behaviours}{$name}->($c) if $self->{behaviours}{$name};
	return;
}

sub read_bytes
{
	my ($c, $n) = @_;
	my $bytes = '';
	while (length $bytes < $n)
	{
		sysread($c->{socket}, $bytes, $n - length $bytes, length $bytes) or die 'closed';
	}
	return $bytes;
}

sub read_message { my ($c) = @_; my ($type, $length) = unpack('aN', read_bytes($c, 5)); return ($type, read_bytes($c, $length - 4)); }

sub put
{
	my ($c, $bytes) = @_;
	while (length $bytes)
	{
		my $n = syswrite($c->{socket}, $bytes) or die 'closed';
		$bytes = substr($bytes, $n);
	}
	return;
}

sub authentication { my ($code, $rest) = @_; return RawClient::message('R', pack('N', $code) . ($rest // '')); }
sub error { my ($code, $text) = @_; return RawClient::message('E', "SFATAL\0VFATAL\0C$code\0M$text\0\0"); }
sub parameter { my ($name, $value) = @_; return RawClient::message('S', "$name\0$value\0"); }

# Asks for SCRAM; the nonce that was answered.
sub ask_scram
{
	my ($c, $ahead) = @_;
	put($c, authentication(10, "SCRAM-SHA-256\0\0") . ($ahead // ''));
	my (undef, $body) = read_message($c);
	return $body =~ /r=(.*)$/s ? $1 : die 'no nonce';
}

sub challenge { my ($nonce, $rounds) = @_; return authentication(11, "r=${nonce}more,s=" . encode_base64('salt', '') . ",i=$rounds"); }

sub DESTROY
{
	my ($self) = @_;
	return unless $self->{pid};
	local ($?, $!);
	kill 'TERM', -$self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
