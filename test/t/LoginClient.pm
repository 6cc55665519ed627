# LoginClient: a client that goes as far as the verdict of a login, from an address of one's choice, with or without TLS.
# It knows no password. Used to hold two ports against each other; libpq cannot choose the address it comes from.
package LoginClient;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use IPC::Run ();
use Time::HiRes ();

our @EXPORT_OK = qw(startup_packet read_messages login_verdict login_exchange hold_login raw_answer
  make_certificates encrypt_key make_crl write_file);

my $patience = 20;    # seconds

sub startup_packet
{
	my (%parameters) = @_;
	my $body = pack('N', 0x00030000);
	$body .= pack('Z*Z*', $_, $parameters{$_}) for sort keys %parameters;
	$body .= "\0";
	return pack('N', 4 + length $body) . $body;
}

# Splits what has arrived into [type, body] pairs; bytes of an unfinished message are left out.
sub read_messages
{
	my ($bytes) = @_;
	my @messages;
	while (length $bytes >= 5)
	{
		my ($type, $length) = unpack('aN', $bytes);
		last if $length < 4 || length $bytes < 1 + $length;
		push @messages, [ $type, substr($bytes, 5, $length - 4) ];
		$bytes = substr($bytes, 1 + $length);
	}
	return @messages;
}

sub error_text
{
	my ($body) = @_;
	my %field;
	for my $part (split /\0/, $body)
	{
		$field{$1} = $2 if $part =~ /^(.)(.*)$/s;
	}
	return "$field{V} $field{C} $field{M}";
}

# The verdict in what was received so far, or undef.
sub verdict_in
{
	my ($bytes) = @_;
	my $in = '';
	for my $message (read_messages($bytes))
	{
		my ($type, $body) = @$message;
		if ($type eq 'R')
		{
			my $code = unpack('N', $body);
			return 'asked for md5' if $code == 5;
			return 'asked for ' . join(' or ', split /\0/, substr($body, 4)) if $code == 10;
			return "asked for code $code" if $code != 0;
			$in = 'in, then ';
		}
		return $in . error_text($body) if $type eq 'E';
		return 'in' if $type eq 'Z';
	}
	return undef;
}

sub open_socket
{
	my ($c) = @_;
	return IO::Socket::UNIX->new(Peer => "$c->{socket_dir}/.s.PGSQL.$c->{port}") if $c->{type} eq 'socket';
	return IO::Socket::IP->new(
		PeerHost => ($c->{from} =~ /:/ ? '::1' : '127.0.0.1'),
		PeerPort => $c->{port},
		LocalHost => $c->{from},
		Type => IO::Socket::IP::SOCK_STREAM());
}

sub plain_verdict
{
	my ($c) = @_;
	my $socket = open_socket($c) or return "no connection: $@ $!";
	my $select = IO::Select->new($socket);
	my $deadline = Time::HiRes::time() + $patience;
	my $bytes = '';

	$socket->syswrite($c->{packet});
	while ((my $left = $deadline - Time::HiRes::time()) > 0)
	{
		next unless $select->can_read($left);
		my $got = sysread($socket, $bytes, 4096, length $bytes);
		my $verdict = verdict_in($bytes);
		return $verdict if defined $verdict;
		return 'closed without a verdict' unless $got;
	}
	return 'no verdict in time';
}

sub tls_verdict
{
	my ($c) = @_;
	my ($to, $from, $diagnostics) = ($c->{packet}, '', '');
	my $client = IPC::Run::start(
		[
			'openssl', 's_client', '-quiet',
			($c->{type} eq 'direct' ? () : ('-starttls', 'postgres')),
			'-connect', "127.0.0.1:$c->{port}", '-bind', "$c->{from}:0",
			@{ $c->{openssl_options} // [] }
		],
		'<', \$to, '>', \$from, '2>', \$diagnostics,
		my $timeout = IPC::Run::timeout($patience));
	my $verdict;

	eval {
		while ($client->pumpable && !defined $verdict)
		{
			$client->pump;
			$verdict = verdict_in($from);
		}
	};
	$client->kill_kill(grace => 1);
	return $verdict // "no verdict over TLS: $diagnostics";
}

# type: socket, plain, tls (by SSLRequest) or direct (TLS from the first byte); from: address the client comes from; port, socket_dir, user, database.
sub login_verdict
{
	my (%c) = @_;
	$c{packet} = startup_packet(user => $c{user}, database => $c{database});
	return $c{type} =~ /^(tls|direct)$/ ? tls_verdict(\%c) : plain_verdict(\%c);
}

# Waits for the next message; undef when the other side has closed or says nothing for long.
sub next_message
{
	my ($socket, $bytes) = @_;
	my $deadline = Time::HiRes::time() + $patience;
	my $select = IO::Select->new($socket);

	while (1)
	{
		my ($message) = read_messages($$bytes);
		if (defined $message)
		{
			$$bytes = substr($$bytes, 5 + length $message->[1]);
			return $message;
		}
		my $left = $deadline - Time::HiRes::time();
		return undef if $left <= 0 || !$select->can_read($left);
		return undef unless sysread($socket, $$bytes, 4096, length $$bytes);
	}
}

# Logs in without TLS and answers the server's questions with the given bodies, one after the other; one that is
# a function is called with what the server has sent. Returns the whole talk as one text.
sub login_exchange
{
	my ($port, $user, $database, @answers) = @_;
	my $socket = open_socket({ type => 'plain', from => '127.0.0.1', port => $port }) or return "no connection: $@ $!";
	my $bytes = '';
	my @talk;

	local $SIG{PIPE} = 'IGNORE';
	$socket->syswrite(startup_packet(user => $user, database => $database));
	while (my $message = next_message($socket, \$bytes))
	{
		my ($type, $body) = @$message;
		return join(' | ', @talk, error_text($body)) if $type eq 'E';
		return join(' | ', @talk, 'ready') if $type eq 'Z';
		next unless $type eq 'R';
		my $code = unpack('N', $body);
		push @talk, "R $code";
		next if $code == 0 || $code == 12;
		return join(' | ', @talk) unless @answers;
		my $answer = shift @answers;
		$answer = $answer->(substr($body, 4)) if ref $answer;
		$socket->syswrite('p' . pack('N', 4 + length $answer) . $answer);
	}
	return join(' | ', @talk, 'closed');
}

# A login that needs no password, kept open: (socket, verdict).
sub hold_login
{
	my ($port, $user, $database) = @_;
	my $socket = open_socket({ type => 'plain', from => '127.0.0.1', port => $port }) or return (undef, "no connection: $@");
	my $bytes = '';

	$socket->syswrite(startup_packet(user => $user, database => $database));
	while (my $message = next_message($socket, \$bytes))
	{
		return ($socket, 'in') if $message->[0] eq 'Z';
		return ($socket, error_text($message->[1])) if $message->[0] eq 'E';
	}
	return ($socket, 'closed');
}

# Sends the pieces, each after an answer to the one before; returns all that came back and whether the other side closed.
sub raw_answer
{
	my ($port, $seconds, @pieces) = @_;
	my $socket = open_socket({ type => 'plain', from => '127.0.0.1', port => $port }) or return ("no connection: $@", 1);
	my $deadline = Time::HiRes::time() + $seconds;
	my $select = IO::Select->new($socket);
	my $bytes = '';

	local $SIG{PIPE} = 'IGNORE';
	$socket->syswrite(shift @pieces) if @pieces;
	while ((my $left = $deadline - Time::HiRes::time()) > 0)
	{
		next unless $select->can_read($left);
		return ($bytes, 1) unless sysread($socket, $bytes, 4096, length $bytes);
		$socket->syswrite(shift @pieces) if @pieces;
	}
	return ($bytes, 0);
}

sub write_file
{
	my ($path, $text, $mode) = @_;
	open my $file, '>', $path or die "could not write $path: $!";
	print $file $text;
	close $file;
	chmod $mode, $path if defined $mode;
}

sub openssl
{
	my (@arguments) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'openssl', @arguments ], '<', \undef, '>', \$out, '2>', \$err)
	  or die "openssl @arguments: $err";
}

# In $dir: a CA, a certificate of the server for 127.0.0.1 and localhost, and one for each client name; a second
# CA that nobody knows signs "stranger". Names are files: ca.crt, server.crt, server.key, <client>.crt, <client>.key.
sub make_certificates
{
	my ($dir, @clients) = @_;
	my $serial = 1;

	for my $ca ('ca', 'other_ca')
	{
		openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=test $ca",
			'-keyout', "$dir/$ca.key", '-out', "$dir/$ca.crt");
	}
	write_file("$dir/server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n");
	for my $name ('server', @clients, 'stranger')
	{
		my $ca = $name eq 'stranger' ? 'other_ca' : 'ca';
		openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/O=test/CN=" . ($name eq 'server' ? 'localhost' : $name),
			'-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
		openssl('x509', '-req', '-in', "$dir/$name.csr", '-CA', "$dir/$ca.crt", '-CAkey', "$dir/$ca.key",
			'-set_serial', $serial++, '-days', '2', '-out', "$dir/$name.crt",
			($name eq 'server' ? ('-extfile', "$dir/server.ext") : ()));
		chmod 0600, "$dir/$name.key";
	}
}

sub encrypt_key
{
	my ($from, $to, $passphrase) = @_;
	openssl('rsa', '-aes256', '-in', $from, '-out', $to, '-passout', "pass:$passphrase");
	chmod 0600, $to;
}

# ca.crl: revokes the certificate of one client.
sub make_crl
{
	my ($dir, $client) = @_;
	my ($serial) = `openssl x509 -in $dir/$client.crt -noout -serial` =~ /=(\w+)/;

	write_file("$dir/index.txt", join("\t", 'R', '400101000000Z', '200101000000Z', $serial, 'unknown', "/CN=$client") . "\n");
	write_file("$dir/crl.cnf", "[ca]\ndefault_ca = d\n[d]\ndatabase = $dir/index.txt\ndefault_md = sha256\n");
	openssl('ca', '-config', "$dir/crl.cnf", '-gencrl', '-crldays', '2', '-keyfile', "$dir/ca.key", '-cert', "$dir/ca.crt",
		'-out', "$dir/ca.crl");
}

1;
