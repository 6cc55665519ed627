# Faults: a crowd of clients that go on asking while something breaks, and keep an account. Each of their answers carries the client's own token; every write is noted as
# confirmed, denied or unknown by what its client was told. In the end the table must hold all that was confirmed, nothing that was denied, of the unknown what it may, and nothing twice.
package Faults;

use strict;
use warnings;

use Exporter 'import';
use IO::Select;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(nothing_is_left);

our $tables = q{CREATE TABLE ledger (client int, turn int, note text); CREATE INDEX ON ledger (client);
CREATE TABLE kv AS SELECT i AS k, 'value-' || i AS v FROM generate_series(1, 100) i};

# How the answers to what breaks may begin: the origin is lost or cannot be reached (08), ends or starts (57P01, 57P02, 57P03), and what follows in a
# transaction that has failed.
our $broken = qr/^(08001|08006|08007|57P01|57P02|57P03|25P02)$/;

# gateway; clients (10); kinds: those of %steps below; database (app), port; name: of the crowd, if there are several of one ledger; slow: seconds that each write takes at the origin.
sub new
{
	my ($class, $gateway, %o) = @_;
	my $self = bless { gateway => $gateway, codes => {}, silent => 0, closed => 0, wrong => [], unhinted => {}, %o }, $class;

	$self->{slow} //= 0.01;
	$self->{first} //= 0;
	$self->{kinds} //= [qw(read lookup write lookup count lookup extended lookup transaction lookup copy)];
	$self->{clients} = [ map { { number => $self->{first} + $_, turn => 0, confirmed => {}, denied => {}, unknown => {} } } 1 .. $o{clients} // 10 ];
	$self->enter($_) for @{ $self->{clients} };
	return $self;
}

# ---- what one client does: a step is what is sent, and what the answer means ----

sub message { return RawClient::message(@_); }
sub simple { my ($sql) = @_; return message('Q', "$sql\0"); }

sub next_write
{
	my ($c) = @_;
	my $turn = ++$c->{turn};
	push @{ $c->{pending} }, $turn;
	return $turn;
}

# Each returns the steps of one undertaking: [ bytes, check ]; check->(answer) is what is wrong with an answer that has no error, or ''.
my %steps = (
	read => sub {
		my ($self, $c) = @_;
		my $token = "r$c->{number}-" . ++$c->{asked};
		return [ simple("SELECT '$token'"), sub { return is_row($_[0], $token); } ];
	},
	# each time another text: it rides on a link with those of others
	lookup => sub {
		my ($self, $c) = @_;
		my ($token, $k) = ("l$c->{number}-" . ++$c->{asked}, 1 + $c->{asked} % 100);
		return [ simple("SELECT v || ' for $token' FROM kv WHERE k = $k"), sub { return is_row($_[0], "value-$k for $token"); } ];
	},
	# the same text each time, so that a cache may answer: then the number must be right all the same
	count => sub {
		my ($self, $c) = @_;
		my ($least, $most) = (scalar keys %{ $c->{confirmed} }, keys(%{ $c->{confirmed} }) + keys %{ $c->{unknown} });
		return [ simple("SELECT 'c$c->{number}', count(*) FROM ledger WHERE client = $c->{number}"), sub {
			my ($token, $n) = @{ $_[0]{rows}[0] // [] };
			return ($token // '') eq "c$c->{number}" && $n >= $least && $n <= $most ? '' : 'c' . ($token // '') . ' ' . ($n // '') . ", not $least to $most";
		} ];
	},
	write => sub {
		my ($self, $c) = @_;
		my $turn = next_write($c);
		return [ simple("INSERT INTO ledger SELECT $c->{number}, $turn, 'w' FROM pg_sleep($self->{slow})"), sub { return is_tag($_[0], 'INSERT 0 1'); } ];
	},
	extended => sub {
		my ($self, $c) = @_;
		my $turn = next_write($c);
		my $token = "x$c->{number}-$turn";
		return [ RawClient::extended_messages("INSERT INTO ledger SELECT \$1::int, \$2::int, \$3 FROM pg_sleep($self->{slow}) RETURNING note", $c->{number}, $turn, $token),
			sub { return is_row($_[0], $token); } ];
	},
	transaction => sub {
		my ($self, $c) = @_;
		my @turns = map { next_write($c) } 1 .. 2;
		return [ simple('BEGIN'), sub { return is_tag($_[0], 'BEGIN'); } ],
		  (map { my $turn = $_; [ simple("INSERT INTO ledger VALUES ($c->{number}, $turn, 't')"), sub { return is_tag($_[0], 'INSERT 0 1'); } ] } @turns),
		  [ simple('COMMIT'), sub { return is_tag($_[0], 'COMMIT'); } ];
	},
	copy => sub {
		my ($self, $c) = @_;
		my @turns = map { next_write($c) } 1 .. 3;
		my $data = join '', map { "$c->{number}\t$_\tc\n" } @turns;
		return [ simple('COPY ledger FROM STDIN'), sub { return $_[0]{types} =~ /G$/ ? '' : "no copy: $_[0]{types}"; }, 'copy' ],
		  [ message('d', $data) . message('c', ''), sub { return is_tag($_[0], 'COPY 3'); } ];
	},
);

sub is_row { my ($answer, $token) = @_; my $got = $answer->{rows}[0][0] // 'nothing'; return $got eq $token && @{ $answer->{rows} } == 1 ? '' : "$got, not $token"; }
sub is_tag { my ($answer, $tag) = @_; my $got = $answer->{tags}[0] // 'nothing'; return $got eq $tag ? '' : "$got, not $tag"; }

# ---- coming and going ----

sub enter
{
	my ($self, $c) = @_;
	my $gateway = $self->{gateway};

	$c->{steps} = [];
	$c->{pending} = [];
	$c->{connection} = eval { RawClient->new(port => $self->{port} // $gateway->{port}, user => 'app', database => $self->{database} // 'app', greeting => 0) };
	$c->{entering} = $c->{connection} ? 1 : 0;
	$c->{again_at} = time() + 0.1;
	$c->{asked_at} = time();
}

# What was in flight is unknown; who is let go comes again.
sub leave
{
	my ($self, $c) = @_;
	$c->{unknown}{$_} = 1 for @{ $c->{pending} };
	close $c->{connection}{socket} if $c->{connection};
	delete $c->{connection};
	$c->{again_at} = time() + 0.1;
	$c->{pending} = $c->{steps} = [];
}

# ---- the account ----

sub settle
{
	my ($c, $how) = @_;
	$c->{$how}{$_} = 1 for @{ $c->{pending} };
	$c->{pending} = [];
	$c->{steps} = [];
}

sub note_error
{
	my ($self, $c, $error) = @_;
	$self->{codes}{ $error->{C} }++;
	# its own errors of class 08 say what to do; those of the origin come as they are
	$self->{unhinted}{"$error->{C} $error->{M}"} = 1 if $error->{C} =~ /^08/ && !$error->{H};
}

# After an error the writes of this undertaking have not happened, but for 08007; an open transaction is ended.
sub on_error
{
	my ($self, $c, $answer) = @_;
	$self->note_error($c, $answer->{error});
	$c->{last_error} = $answer->{error};
	my $ends = ($answer->{status} // '') ne 'I';
	settle($c, $answer->{error}{C} eq '08007' ? 'unknown' : 'denied');
	unshift @{ $c->{steps} }, [ simple('ROLLBACK'), sub { return ''; } ] if $ends;
}

sub on_answer
{
	my ($self, $c, $answer) = @_;
	my $step = $c->{step};

	if ($c->{entering})
	{
		$c->{entering} = 0;
		$self->note_error($c, $answer->{error}) if $answer->{error};
		$self->leave($c) if $answer->{closed};
		return;
	}
	if ($answer->{closed})
	{
		$self->note_error($c, $answer->{error}) if $answer->{error};
		$self->{closed}++;
		$self->leave($c);
		return;
	}
	return $self->on_error($c, $answer) if $answer->{error};
	my $wrong = $step->[1]->($answer);
	# a transaction that has failed ends as a failed one does
	if ($wrong && $wrong =~ /^ROLLBACK, not COMMIT/)
	{
		settle($c, 'denied');
		return;
	}
	push @{ $self->{wrong} }, "client $c->{number}: $wrong" if $wrong;
	$self->{answers}++;
	settle($c, 'confirmed') unless @{ $c->{steps} };
}

# ---- the loop ----

sub ask
{
	my ($self, $c) = @_;
	my $kinds = $self->{kinds};

	$c->{steps} = [ $steps{ $kinds->[ $c->{round}++ % @$kinds ] }->($self, $c) ] unless @{ $c->{steps} };
	$c->{step} = shift @{ $c->{steps} };
	$c->{asked_at} = time();
	$c->{connection}{stop_at_copy} = ($c->{step}[2] // '') eq 'copy';
	delete $c->{connection}{coming};
	$c->{connection}->put_raw($c->{step}[0], 1);
	$c->{waits} = 1;
}

# One look at everybody: who has an answer goes on (if there is to be more), who was let go comes again.
sub turn
{
	my ($self, $more, $seconds) = @_;
	my @here;

	for my $c (@{ $self->{clients} })
	{
		$self->enter($c) if !$c->{connection} && $more && time() >= $c->{again_at};
		next unless $c->{connection};
		$self->ask($c) if !$c->{waits} && !$c->{entering} && ($more || @{ $c->{steps} });
		push @here, $c if $c->{connection} && ($c->{waits} || $c->{entering});
	}
	my %by = map { fileno($_->{connection}{socket}) => $_ } @here;
	# an answer may lie here already: behind a CopyInResponse the end of the copy, when its link was lost
	my @ready = grep { $_->{connection}->advance } @here;
	@ready = map { $by{ fileno $_ } } IO::Select->new(map { $_->{connection}{socket} } @here)->can_read($seconds) unless @ready;
	for my $c (@ready)
	{
		$c->{connection}->pull;
		next unless $c->{connection}->advance;
		my $answer = $c->{connection}->finish;
		delete $c->{connection}{coming};
		$c->{waits} = 0;
		$self->on_answer($c, $answer);
	}
	return scalar @here;
}

sub go_on
{
	my ($self, $seconds) = @_;
	my $until = time() + $seconds;
	while (time() < $until) { $self->turn(1, 0.05) or sleep 0.02; }
}

# They ask for half of so many seconds, then while what breaks is done step by step, then for the other half.
sub run
{
	my ($self, $seconds, @steps) = @_;

	$self->go_on($seconds / 2);
	for my $step (@steps)
	{
		$step->();
		$self->go_on(0.15);
	}
	$self->go_on($seconds / 2);
}

# They go on until something is true.
sub run_until
{
	my ($self, $done, $seconds) = @_;
	my $deadline = time() + ($seconds // 20);
	my $got;

	while (!($got = $done->()) && time() < $deadline)
	{
		$self->go_on(0.2);
	}
	return $got;
}

# Each of them has had a write confirmed since now: clients that were connected go on, others are in again. Then they rest.
sub all_are_served
{
	my ($self, $seconds) = @_;
	my %before = map { $_->{number} => scalar keys %{ $_->{confirmed} } } @{ $self->{clients} };
	my $behind = sub { return grep { keys %{ $_->{confirmed} } == $before{ $_->{number} } } @{ $self->{clients} }; };

	$self->run_until(sub { return !$behind->(); }, $seconds // 20);
	$self->rest;
	return join ' ', map { $_->{number} } $behind->();
}

# What is under way comes to its end, and nothing more is asked.
sub rest
{
	my ($self, $seconds) = @_;
	my $deadline = time() + ($seconds // 20);

	while (time() < $deadline)
	{
		last unless $self->turn(0, 0.05);
	}
	for my $c (grep { $_->{waits} } @{ $self->{clients} })
	{
		$self->{silent}++;
		diag("client $c->{number} waits since " . sprintf('%.1f s', time() - $c->{asked_at}) . ": $c->{step}[0]") unless $c->{entering};
		$self->leave($c);
		$c->{waits} = 0;
	}
}

sub go
{
	my ($self) = @_;
	$self->rest;
	for my $c (grep { $_->{connection} } @{ $self->{clients} })
	{
		$c->{connection}->terminate;
		delete $c->{connection};
	}
}

sub total { my ($self, $how) = @_; my $n = 0; $n += keys %{ $_->{$how} } for @{ $self->{clients} }; return $n; }
sub keys_of { my ($self, $how) = @_; return map { my $c = $_; map { "$c->{number}-$_" } keys %{ $c->{$how} } } @{ $self->{clients} }; }

# Holds the account against the table, which is read from the node (the origin) itself.
sub is_right
{
	my ($self, $node, $what, $codes) = @_;
	my ($from, $to) = ($self->{clients}[0]{number}, $self->{clients}[-1]{number});
	my (%there, @twice);

	$codes //= $broken;
	for my $key (split /\n/, $node->safe_psql('app', "SELECT client || '-' || turn FROM ledger WHERE client BETWEEN $from AND $to"))
	{
		push @twice, $key if $there{$key}++;
	}
	my %unknown = map { $_ => 1 } $self->keys_of('unknown');
	my %confirmed = map { $_ => 1 } $self->keys_of('confirmed');
	note(sprintf '%s: %d answers, %d writes confirmed, %d denied, %d unknown; %d connections lost; errors: %s', $what, $self->{answers} // 0, $self->total('confirmed'),
		$self->total('denied'), $self->total('unknown'), $self->{closed}, join(', ', map { "$_ ($self->{codes}{$_})" } sort keys %{ $self->{codes} }) || 'none');
	is(join("\n", @{ $self->{wrong} }), '', "$what: every answer is its own client's");
	is($self->{silent}, 0, "$what: nobody is left without an answer");
	is(list(grep { !$there{$_} } keys %confirmed), '', "$what: all that was confirmed is there");
	is(list(grep { $there{$_} } $self->keys_of('denied')), '', "$what: nothing that was denied is");
	is(list(grep { !$confirmed{$_} && !$unknown{$_} } keys %there), '', "$what: of the rest only what was said to be unknown");
	is(list(@twice), '', "$what: nothing was done twice");
	is(list(grep { $_ !~ $codes } keys %{ $self->{codes} }), '', "$what: every error is one of those that should be");
	is(join("\n", keys %{ $self->{unhinted} }), '', "$what: errors of a lost connection come with a hint");
}

sub list { my @some = sort @_; return join ' ', @some > 10 ? (@some[ 0 .. 9 ], '... ' . @some) : @some; }

# ---- what is left behind ----

# Descriptors of the workers that are neither a client nor a link of theirs.
sub other_descriptors
{
	my ($gateway) = @_;
	my $n = 0;
	for my $pid ($gateway->worker_pids)
	{
		opendir my $folder, "/proc/$pid/fd" or next;
		$n += grep { /^\d+$/ } readdir $folder;
		closedir $folder;
	}
	return $n - $gateway->sql('SELECT (SELECT count(*) FROM hyperpool.clients) + (SELECT count(*) FROM hyperpool.links)');
}

# With nobody at work: no client waits or is half gone, no link is in anybody's hands, none is at the origin that hyperpool does not know of. before: other_descriptors of then.
sub nothing_is_left
{
	my ($gateway, $what, $before) = @_;
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state <> 'idle'}, '0', 30), '0', "$what: no client waits, or is half gone");
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.links WHERE state NOT IN ('idle', 'shared')}, '0', 30), '0', "$what: no link is in use");
	is($gateway->wait_for(q{SELECT coalesce(sum(cl_active + cl_waiting), 0) FROM hyperpool.pools}, '0'), '0', "$what: nor does a pool think so");
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.pools WHERE sv_idle + sv_active > pool_size}, '0'), '0', "$what: no pool is larger than it should be");
	is(Gateway::wait_until(sub { return $gateway->links_at_origin - $gateway->sql('SELECT count(*) FROM hyperpool.links'); }, 0), 0, "$what: the origin knows the same links") if $gateway->{origin};
	return unless defined $before;
	my $now;
	Gateway::wait_until(sub { $now = other_descriptors($gateway); return $now <= $before ? 1 : 0; }, 1);
	cmp_ok($now, '<=', $before, "$what: no descriptor was lost") or diag join "\n", map { readlink $_ // () } map { glob "/proc/$_/fd/*" } $gateway->worker_pids;
}

1;
