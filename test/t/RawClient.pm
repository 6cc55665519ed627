# RawClient: one connection, spoken to message by message, that never blocks for longer than it is told. Many of them can be
# waited for at once, so a test can hold forty clients in one process and see who was answered when.
# It knows trust and no other way to log in.
package RawClient;

use strict;
use warnings;

use Carp qw(croak);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

our $patience = 20;    # seconds: for what should have come long before

sub connection
{
	my (%o) = @_;
	return IO::Socket::UNIX->new(Peer => "$o{socket_dir}/.s.PGSQL.$o{port}") if $o{socket_dir};
	return IO::Socket::INET->new(PeerAddr => $o{host} // '127.0.0.1', PeerPort => $o{port}, Proto => 'tcp', $o{from} ? (LocalAddr => $o{from}) : ());
}

# port, host (127.0.0.1) or socket_dir, from (the address it comes from), user, database, parameters => { name => value }; login => 0: connects and says nothing;
# greeting => 0: asks for a login and does not wait for it.
sub new
{
	my ($class, %o) = @_;
	my $socket = connection(%o) or croak "no connection to port $o{port}: " . ($@ || $!);
	my $self = bless { %o, socket => $socket, in => '', status => '', parameter => {} }, $class;

	$socket->blocking(0);
	return $self if defined $o{login} && !$o{login};
	$self->put_raw(startup_packet(user => $o{user}, database => $o{database}, %{ $o{parameters} // {} }));
	return $self if defined $o{greeting} && !$o{greeting};
	$self->{greeting} = $self->answer($o{seconds} // $patience);
	croak 'login: ' . error_text($self->{greeting}) if !$self->{greeting}{done} && !$o{may_fail};
	return $self;
}

sub startup_packet
{
	my (%parameters) = @_;
	my $body = pack('N', 0x00030000);
	$body .= pack('Z*Z*', $_, $parameters{$_}) for sort keys %parameters;
	$body .= "\0";
	return pack('N', 4 + length $body) . $body;
}

sub message
{
	my ($type, $body) = @_;
	return $type . pack('N', 4 + length $body) . $body;
}

# ---- bytes ----

# Writes all of it; false if the other side has closed or takes nothing for too long.
sub put_raw
{
	my ($self, $bytes, $seconds) = @_;
	my $select = IO::Select->new($self->{socket});
	my $deadline = time() + ($seconds // $patience);
	my $sent = 0;

	local $SIG{PIPE} = 'IGNORE';
	while ($sent < length $bytes)
	{
		my $left = $deadline - time();
		return 0 if $left <= 0;
		next unless $select->can_write($left);
		my $n = syswrite($self->{socket}, $bytes, length($bytes) - $sent, $sent);
		return 0 if !defined $n && !$!{EAGAIN};
		$sent += $n // 0;
	}
	return 1;
}

sub put { my ($self, $type, $body) = @_; return $self->put_raw(message($type, $body)); }

# Reads what is there; false at the end of the stream.
sub pull
{
	my ($self) = @_;
	return 0 if $self->{closed};
	while (1)
	{
		my $n = sysread($self->{socket}, $self->{in}, 262144, length $self->{in});
		return 1 if !defined $n && $!{EAGAIN};
		if (!$n)
		{
			$self->{closed} = 1;
			return 0;
		}
		return 1 if $n < 262144;
	}
}

# ---- messages ----

# Takes the next whole message off what has been read: (type, body), or nothing.
sub take
{
	my ($self) = @_;
	return if length $self->{in} < 5;
	my ($type, $length) = unpack('aN', $self->{in});
	return if length $self->{in} < 1 + $length;
	my $body = substr($self->{in}, 5, $length - 4);
	substr($self->{in}, 0, 1 + $length, '');	# from the front: perl moves a pointer, not the rest
	return ($type, $body);
}

sub fields
{
	my ($body) = @_;
	my %field;
	for my $part (split /\0/, $body)
	{
		$field{$1} = $2 if $part =~ /^(.)(.*)$/s;
	}
	return \%field;
}

sub row
{
	my ($body) = @_;
	my ($count, $at, @values) = (unpack('n', $body), 2);
	for (1 .. $count)
	{
		my $length = unpack('l>', substr($body, $at, 4));
		$at += 4;
		push @values, $length < 0 ? undef : substr($body, $at, $length);
		$at += $length if $length > 0;
	}
	return \@values;
}

my %note = (
	E => sub { my ($a, $body) = @_; $a->{error} //= fields($body); },
	D => sub { my ($a, $body) = @_; push @{ $a->{rows} }, row($body); },
	C => sub { my ($a, $body) = @_; push @{ $a->{tags} }, unpack('Z*', $body); },
	N => sub { my ($a, $body) = @_; push @{ $a->{notices} }, fields($body); },
	A => sub { my ($a, $body) = @_; push @{ $a->{notifications} }, [ unpack('NZ*Z*', $body) ]; },
	S => sub { my ($a, $body, $self) = @_; my ($name, $value) = unpack('Z*Z*', $body); $self->{parameter}{$name} = $value; },
	K => sub { my ($a, $body, $self) = @_; $self->{pid} = unpack('N', $body); $self->{key} = $body; },
	Z => sub { my ($a, $body, $self) = @_; $self->{status} = $a->{status} = $body; $a->{done} = 1; },
);

sub fresh { return { rows => [], tags => [], notices => [], notifications => [], types => '' }; }

# Goes on with the answer that is coming in; true when it is complete or the stream has ended.
sub advance
{
	my ($self) = @_;
	my $answer = $self->{coming} //= fresh();
	return 1 if $answer->{complete};
	while (my ($type, $body) = $self->take)
	{
		$answer->{types} .= $type;
		$note{$type}->($answer, $body, $self) if $note{$type};
		$answer->{copy} .= $body if $type eq 'd';
		$answer->{complete} = $type eq 'Z' || ($type =~ /[GH]/ && $self->{stop_at_copy});
		return 1 if $answer->{complete};
	}
	$answer->{complete} = $answer->{closed} = 1 if $self->{closed};
	return $answer->{closed};
}

# Waits until each of them has a complete answer (or has been closed); the answers in order. One that has not by then
# lacks both `done` and `closed`, and goes on coming.
sub answers
{
	my ($seconds, @clients) = @_;
	my $deadline = time() + $seconds;
	my %open = map { fileno($_->{socket}) => $_ } grep { !$_->advance } @clients;

	while (%open && (my $left = $deadline - time()) > 0)
	{
		my $select = IO::Select->new(map { $_->{socket} } values %open);
		for my $socket ($select->can_read($left))
		{
			my $client = $open{ fileno($socket) };
			$client->pull;
			next unless $client->advance;
			$client->{coming}{at} = time();
			delete $open{ fileno($socket) };
		}
	}
	return map { $_->finish } @clients;
}

sub finish
{
	my ($self) = @_;
	my $answer = $self->{coming};
	delete $self->{coming} if $answer->{complete};
	return $answer;
}

# ---- asking ----

sub answer { my ($self, $seconds) = @_; return (answers($seconds // $patience, $self))[0]; }
sub ask { my ($self, $sql) = @_; return $self->put('Q', "$sql\0"); }
sub query { my ($self, $sql, $seconds) = @_; $self->ask($sql); return $self->answer($seconds); }

# Is there an answer already, or does one come within so many seconds?
sub is_answered
{
	my ($self, $seconds) = @_;
	return 1 if $self->advance;
	return 0 unless IO::Select->new($self->{socket})->can_read($seconds // 0);
	$self->pull;
	return $self->advance ? 1 : 0;
}

# The extended messages of one statement and its Sync; values are texts.
sub extended_messages
{
	my ($sql, @values) = @_;
	return message('P', "\0$sql\0\0\0")
	  . message('B', "\0\0\0\0" . pack('n', scalar @values) . join('', map { pack('l>/a', $_) } @values) . "\0\0")
	  . message('D', "P\0") . message('E', "\0\0\0\0\0") . message('S', '');
}

sub extended
{
	my ($self, $sql, @values) = @_;
	$self->put_raw(extended_messages($sql, @values));
	return $self->answer;
}

sub error_text
{
	my ($answer) = @_;
	return "$answer->{error}{V} $answer->{error}{C} $answer->{error}{M}" if $answer->{error};
	return 'closed' if $answer->{closed};
	return $answer->{done} ? 'no error' : 'no answer';
}

# What a test compares: the SQLSTATE, 'closed', 'no answer', or all rows as text.
sub outcome
{
	my ($answer) = @_;
	return $answer->{error}{C} if $answer->{error};
	return 'closed' if $answer->{closed};
	return 'no answer' unless $answer->{done};
	return join("\n", map { join('|', map { $_ // '' } @$_) } @{ $answer->{rows} });
}

sub value { my ($self, $sql) = @_; return outcome($self->query($sql)); }

# Says these bytes and tells every message that comes, up to so many ReadyForQuery, so that two connections to one database can be compared: bodies in hex, of
# errors and notices severity, SQLSTATE, text and position. Settings that are reported one after another are in the order in which a backend came to change them: sorted here.
sub conversation
{
	my ($self, $bytes, $readies, $seconds) = @_;
	my @told;
	my $deadline = time() + ($seconds // $patience);
	$self->put_raw($bytes);
	while ($readies > 0)
	{
		my ($type, $body) = $self->take;
		if (!defined $type)
		{
			my $left = $deadline - time();
			return join ' ', @told, 'silence' if $left <= 0;
			return join ' ', @told, 'end' if $self->{closed};
			IO::Select->new($self->{socket})->can_read($left);
			$self->pull;
			next;
		}
		$self->{status} = $body if $type eq 'Z';
		$readies-- if $type eq 'Z';
		push @told, "$type:" . ($type =~ /[EN]/ ? join '/', map { $_ // '' } @{ fields($body) }{qw(S C M P)} : unpack('H*', $body));
		my $first = $#told;
		$first-- while $first > 0 && $told[ $first - 1 ] =~ /^S:/;
		@told[ $first .. $#told ] = sort @told[ $first .. $#told ] if $type eq 'S';
	}
	return join ' ', @told;
}

# ---- the end ----

sub terminate { my ($self) = @_; $self->put('X', ''); close $self->{socket}; }
sub vanish { my ($self) = @_; close $self->{socket}; }

sub reset
{
	my ($self) = @_;
	setsockopt($self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close $self->{socket};
}

# Has the other side closed within so many seconds? What it said before stays in `in`.
sub is_closed
{
	my ($self, $seconds) = @_;
	my $deadline = time() + ($seconds // $patience);
	my $select = IO::Select->new($self->{socket});
	while ($self->pull)
	{
		my $left = $deadline - time();
		return 0 if $left <= 0;
		$select->can_read($left);
	}
	return 1;
}

# A CancelRequest for this client (key_body: another key), by a connection of its own; returns when that was taken.
sub cancel
{
	my ($self, $key_body) = @_;
	my $other = RawClient->new(port => $self->{port}, socket_dir => $self->{socket_dir}, login => 0);
	my $key = $key_body // $self->{key};
	$other->put_raw(pack('NN', 8 + length $key, 80877102) . $key);
	my $taken = $other->is_closed;
	close $other->{socket};
	return $taken;
}

1;
