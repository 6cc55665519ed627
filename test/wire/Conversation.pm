# Conversation: a random client, made from a seed.
#
# It answers: what might a client say next, sensible or not? It owns the vocabulary (SQL, and messages in the language of
# README.md) and a rough idea of where each connection stands, learnt from what PostgreSQL has just answered, so that it gets deep:
# into transactions, copies and suspended portals. Every text it asks for carries its token. It never says what docs/protocol.md
# lists as different, but for what it declares by "allow"; and never anything whose answer depends on time or on other clients.
package Conversation;

use strict;
use warnings;

# token: a word that no other conversation has; connections: how many it opens; steps: how many times it waits for an answer.
sub new
{
	my ($class, %o) = @_;
	my $self = bless { steps => 12, connections => 1, token => "t$o{seed}", %o }, $class;
	$self->{table} = "hpw_g_$self->{token}";
	$self->{allowed} = { 'parsed-when-used' => 1 };
	return $self;
}

# ---- chance ----

sub one { return $_[ int rand @_ ]; }

sub chance { my ($percent) = @_; return rand(100) < $percent; }

# weight => thing, weight => thing …
sub weighted
{
	my @pairs = @_;
	my $sum = 0;
	$sum += $pairs[ 2 * $_ ] for 0 .. $#pairs / 2;
	my $at = rand $sum;
	while (@pairs)
	{
		my ($weight, $thing) = splice @pairs, 0, 2;
		return $thing if ($at -= $weight) < 0;
	}
	return;
}

sub quoted
{
	my ($text) = @_;
	$text =~ s/([\\"])/\\$1/g;
	$text =~ s/\n/\\n/g;
	return "\"$text\"";
}

# ---- SQL ----

my @parameters = (
	[ timezone => "'Europe/Berlin'", "'UTC'", "'America/New_York'", '-3' ],
	[ datestyle => "'German'", "'SQL, DMY'", "'ISO'", 'postgres' ],
	[ intervalstyle => "'iso_8601'", "'postgres'" ],
	[ bytea_output => "'escape'", "'hex'" ],
	[ extra_float_digits => '0', '-10', '3' ],
	[ work_mem => "'5MB'", '8192' ],
	[ lock_timeout => "'17s'", '0' ],
	[ default_transaction_isolation => "'repeatable read'", "'read committed'" ],
	[ default_transaction_read_only => 'on', 'off' ],
	[ client_min_messages => 'warning', 'notice', 'error' ],
	[ standard_conforming_strings => 'off', 'on' ],
	[ client_encoding => "'LATIN1'", "'UTF8'" ],
	[ search_path => 'public', 'pg_catalog, public', '"$user", public', "'public'" ],
	[ application_name => "'given'", "'other name'" ],
	[ enable_seqscan => 'off', 'on' ],
);

sub set_of
{
	my ($parameter) = @_;
	my ($name, @values) = @$parameter;
	my $value = one(@values);
	return weighted(
		5 => "set $name = $value", 2 => "set $name to $value", 3 => "set local $name = $value", 1 => "set session $name = $value",
		2 => "reset $name", 1 => "set $name to default", 1 => "set $name = 'nonsense value'",
		2 => "select set_config('$name', " . ($value =~ /^'/ ? $value : "'$value'") . ', ' . one('true', 'false') . ')');
}

sub sql_set
{
	my ($self) = @_;
	return weighted(
		14 => set_of(one(@parameters)),
		1 => 'set time zone local', 1 => "set time zone 'Asia/Tokyo'", 1 => "set names 'UTF8'", 1 => 'reset all',
		1 => 'discard all', 1 => one('discard plans', 'discard sequences', 'discard temp'),
		1 => one('set role none', 'reset role', 'set session authorization default', 'reset session authorization'),
		1 => 'set transaction isolation level ' . one('serializable', 'repeatable read', 'read committed'),
		1 => 'set transaction read only',
		1 => 'set session characteristics as transaction ' . one('read only', 'read write', 'isolation level serializable'),
		1 => 'set constraints all deferred', 1 => 'set no_such_setting = 1', 1 => "set a.b = '$self->{token}'",
		3 => 'show ' . one(map { $_->[0] } grep { $_->[0] ne 'application_name' } @parameters));
}

sub sql_transaction
{
	my ($self) = @_;
	my $point = one('a', 'b');
	my $level = 'isolation level ' . one('serializable', 'repeatable read', 'read committed', 'read uncommitted');
	return weighted(
		8 => 'begin', 2 => one('start transaction', 'begin work', 'begin transaction'), 2 => "begin $level",
		1 => 'begin ' . one('read only', 'read write', 'deferrable', "$level, read only"), 1 => "start transaction $level read only",
		7 => one('commit', 'end', 'commit work', 'end transaction'), 5 => one('rollback', 'abort', 'rollback work'),
		1 => one('commit and chain', 'rollback and chain', 'commit and no chain'),
		4 => "savepoint $point", 3 => "rollback to savepoint $point", 2 => "release savepoint $point", 1 => "prepare transaction '$self->{token}'");
}

sub sql_read
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	return weighted(
		5 => "select '$t' as token, " . int(rand 4), 5 => "select i, v from $g order by i", 4 => "select i, v from $g where i = " . int(rand 6),
		2 => "select count(*), '$t' from $g", 2 => "table $g order by 1", 1 => "select max(v) from $g where v like '$t%'",
		3 => "select '$t-' || n from generate_series(1, " . one(0, 1, 2, 5, 9) . ') n',
		1 => "select '$t-' || n as big, repeat('$t', 40) from generate_series(1, " . one(300, 1500) . ') n',
		1 => "select repeat('$t ', " . one(1000, 20000) . ')',
		2 => "select timestamptz '2024-02-03 04:05:06+00', '$t'", 1 => "select date '2024-02-03', interval '1 day 02:03', 1.1::float8 / 3, '\\x$t'::text",
		1 => "select null, '', '$t'", 1 => "values ('$t', 1), ('$t', 2)", 1 => "select from $g", 1 => "with w as (select '$t' as x) select x from w",
		1 => "select * from $g a join $g b using (i) order by 1", 1 => "explain (costs off) select i from $g where v = '$t'",
		1 => "select i from $g order by i for update", 1 => "select pg_advisory_xact_lock(" . $self->{seed} % 1000 . ')',
		1 => "select '$t' where " . one('true', 'false'));
}

sub sql_write
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	my $i = int(rand 8);
	return weighted(
		5 => "insert into $g values ($i, '$t new')", 2 => "insert into $g values ($i, '$t') on conflict (i) do update set v = excluded.v || '+'",
		2 => "insert into $g values ($i, '$t') on conflict do nothing returning i, v", 4 => "update $g set v = v || '!' where i = $i",
		2 => "update $g set v = left(v, 20) where i < $i returning '$t', i", 3 => "delete from $g where i = $i", 1 => "delete from $g",
		1 => "insert into $g select n, '$t' || n from generate_series(20, 20 + $i) n", 1 => "truncate $g",
		1 => "with w as (update $g set v = '$t cte' where i = $i returning i) select i, '$t' from w",
		1 => "merge into $g using (values ($i, '$t')) m(i, v) on $g.i = m.i when matched then update set v = m.v when not matched then insert values (m.i, m.v)");
}

sub sql_error
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	return weighted(
		3 => 'selec', 3 => 'select 1/0', 2 => "select '$t'::int", 2 => 'select 10/(3-i) from generate_series(1,5) i',
		2 => "select nothing from $g", 1 => "select * from hpw_no_such_$t", 1 => "do \$\$ begin raise exception 'error $t'; end \$\$",
		1 => "insert into $g values (null, '$t')", 1 => "select no_such_function('$t')", 1 => "create table $g (i int)");
}

sub sql_other
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	my $q = one('q1', 'q2');
	my $c = one('c1', 'c2');
	return weighted(
		2 => "do \$\$ begin raise " . one('notice', 'warning') . " 'notice $t'; end \$\$", 1 => '', 1 => ' ; ', 1 => '-- nothing',
		2 => "declare $c cursor for select i, '$t' from generate_series(1, 5) i", 3 => "fetch " . one(1, 2, 'all', 'next', 'backward 1') . " from $c",
		1 => "move 1 in $c", 1 => one("close $c", 'close all'), 1 => "declare $c cursor with hold for select '$t' || i from generate_series(1, 3) i",
		1 => "prepare $q as select '$t', 1", 1 => "prepare $q (int) as select '$t', \$1 + 1", 2 => "execute $q" . one('', '(1)'),
		1 => one("deallocate $q", 'deallocate all'), 1 => one('execute ', 'deallocate ') . one('s1', 's2', 's3'),
		1 => "create temp table hpw_temp_$t (x text)", 1 => "insert into hpw_temp_$t values ('$t')", 1 => "select x from hpw_temp_$t order by x",
		1 => "alter table $g add column if not exists w int default 7", 1 => "alter table $g drop column if exists w",
		1 => "create table if not exists hpw_h_$t (x int)", 1 => "drop table if exists hpw_h_$t", 1 => "lock table $g in share mode",
		1 => "select pg_advisory_lock(" . $self->{seed} % 1000 . ')', 1 => "select pg_advisory_unlock_all()",
		1 => "listen hpw_$t", 1 => "notify hpw_$t, '$t'", 1 => 'unlisten *', 1 => "vacuum $g", 1 => "analyze $g",
		1 => "create or replace function hpw_f_$t(x int) returns text language sql as \$\$ select '$t-' || x \$\$", 1 => "select hpw_f_$t(3)");
}

sub sql_copy
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	# the gateway itself refuses what may not come during a copy
	$self->{allowed}{$_} = 1 for qw(copy-position gateway-source);
	return weighted(
		4 => "copy $g from stdin", 1 => "copy $g (v, i) from stdin (format csv)", 1 => "copy $g from stdin (format binary)",
		2 => "copy (select i, v from $g order by i) to stdout", 1 => "copy (select '$t' from generate_series(1, " . one(0, 3, 500) . ")) to stdout",
		1 => "copy (select i from $g order by i) to stdout (format binary)", 1 => "copy hpw_no_such_$t from stdin", 1 => "copy (select 1/0) to stdout");
}

# What nobody takes for DDL; the same reads again and again.
sub sql_calm
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	my $read = weighted(3 => "select '$t' as token, " . int(rand 3), 3 => "select i, v from $g order by i", 3 => "select i, v from $g where i = " . int(rand 3),
		2 => "select count(*), '$t' from $g", 1 => "values ('$t', 1), ('$t', 2)", 1 => "select timestamptz '2024-02-03 04:05:06+00', '$t'",
		1 => "select '$t-' || n from generate_series(1, " . one(0, 5) . ') n', 1 => "select 1.1::float8 / 3, interval '1 day 02:03', '$t'");
	return weighted(70 => $read, 8 => $self->sql_write, 8 => $self->sql_transaction, 4 => set_of($parameters[ int rand 5 ]), 4 => one('select 1/0', "select '$t'::int"));
}

# One statement, of any kind.
sub sql
{
	my ($self) = @_;
	return $self->sql_calm if $self->{calm};
	my $kind = weighted(30 => 'sql_read', 18 => 'sql_write', 20 => 'sql_transaction', 12 => 'sql_set', 9 => 'sql_error', 14 => 'sql_other', 4 => 'sql_copy');
	return $self->$kind;
}

# Of a simple Query: now and then several. What RESET returns to is put back only behind the string (reset-in-one-string).
sub sql_string
{
	my ($self) = @_;
	return $self->sql if chance(78);
	my @several = map { $self->sql } 1 .. one(2, 2, 3, 4);
	@several = grep { !/^(?:reset|discard|show)|to default/ } @several if $self->{startup};
	return join('; ', @several) . one('', ';');
}

# ---- statements with parameters: text, types to declare, values in text ----

sub with_parameters
{
	my ($self) = @_;
	my ($t, $g) = @$self{qw(token table)};
	my $n = int(rand 7);
	return @{ one(
			[ "select \$1::text || '-$t'", [], qq{"x$n"} ], [ "select i, v from $g where i = \$1", [23], $n ],
			[ "select i, v from $g where i > \$1 order by i", [], $n ], [ "insert into $g values (\$1, \$2)", [ 23, 25 ], $n, qq{"$t by bind"} ],
			[ "select \$1::int / \$2::int, '$t'", [], 7, one(0, 2) ], [ "select n, '$t' from generate_series(1, \$1::int) n", [], one(0, 3, 8) ],
			[ "select \$1, '$t'", [], qq{"$t"} ], [ "update $g set v = \$2 where i = \$1 returning i, v", [], $n, qq{"$t set"} ],
			[ "select \$2::text, \$1::date, '$t'", [ 1082, 25 ], '"2024-02-03"', qq{"$t"} ], [ "delete from $g where i = \$1", [0], $n ],
			[ "select '$t' as token, \$1::int + 1 as next", [23], $n ], [ "select 1/\$1, '$t'", [23], one(0, 1) ]) };
}

# ---- messages ----

sub remember
{
	my ($at, $name, @values) = @_;
	$at->{statements}{$name} = \@values;
}

sub parse
{
	my ($self, $at) = @_;
	my $name = one('""', '""', 's1', 's2', 's3');
	my ($text, $types, @values) = chance(55) ? $self->with_parameters : ($self->sql, []);
	# SQL names of statements are the client's only in a simple Query or an unnamed statement (deallocate-by-bind)
	$name = '""' if $text =~ /^(?:execute|deallocate|prepare)/;
	$text .= '; select 2' if chance(2);
	$types = [ one([99999], [23], [ 25, 25, 25 ]) ]->[0] if chance(4);
	my @lines = ("P $name " . quoted($text) . (@$types ? ' [' . join(' ', @$types) . ']' : ''));
	unshift @lines, "C S $name" if $name ne '""' && $at->{statements}{$name} && chance(60);
	remember($at, $name, @values);
	return @lines;
}

sub values_for
{
	my ($self, @values) = @_;
	return @values if chance(92);
	return weighted(3 => sub { map { 'null' } @values }, 1 => sub { (@values, '"more"') }, 1 => sub { () },
		2 => sub { map { '"' . $self->{token} . ' wrong"' } @values })->();
}

sub bind_of
{
	my ($self, $at, $portal) = @_;
	my $name = one('""', '""', '""', 's1', 's2', 's3');
	my @known = sort keys %{ $at->{statements} };
	$name = one(@known) if @known && chance(85);
	my @values = $self->values_for(@{ $at->{statements}{$name} || [] });
	my $formats = chance(6) ? one('[1]', '[0 1]', '[7]') : '[]';
	my $results = weighted(12 => '', 2 => ' [0]', 3 => ' [1]', 1 => ' [0 1]', 1 => ' [0 0 0]');
	return "B $portal $name $formats (" . join(' ', @values) . ")$results";
}

sub execute
{
	my ($self, $portal) = @_;
	return "E $portal " . weighted(10 => 0, 3 => 1, 3 => 2, 1 => 1000);
}

sub describe
{
	my ($self, $portal) = @_;
	return weighted(6 => "D P $portal", 3 => 'D S ' . one('""', 's1', 's2', 's3'), 1 => 'D P nowhere', 1 => 'D S nothing');
}

# Parse, Bind, Describe, Execute as drivers send them, with a part left out, doubled or changed now and then.
sub usual_extended
{
	my ($self, $at) = @_;
	my $portal = one('""', '""', '""', 'p1', 'p2');
	my @lines;
	push @lines, $self->parse($at) if chance(65);
	push @lines, $self->describe($portal) if chance(10);
	push @lines, $self->bind_of($at, $portal) if chance(95);
	push @lines, $self->describe($portal) if chance(45);
	push @lines, $self->execute($portal) if chance(94);
	push @lines, $self->execute($portal) if chance(12);
	push @lines, "C P $portal" if chance(12);
	push @lines, weighted(70 => 'S', 14 => 'H', 16 => ());
	return grep { defined } @lines;
}

sub odd_extended
{
	my ($self, $at) = @_;
	my $portal = one('""', 'p1', 'p2', 'p3');
	return weighted(
		3 => sub { $self->execute($portal) }, 2 => sub { $self->describe($portal) }, 2 => sub { $self->bind_of($at, $portal) },
		2 => sub { 'C ' . one('S', 'P') . ' ' . one('""', 's1', 's2', 'p1', 'p2') }, 2 => sub { 'S' }, 1 => sub { 'H' }, 1 => sub { ('S') x one(2, 3) },
		1 => sub { $self->parse($at) }, 1 => sub { 'F 1397 [' . one(0, 1) . '] (' . one('-7', 'i32:-7', 'null', '"x"') . ') ' . one(0, 1) })->();
}

sub copy_data
{
	my ($self) = @_;
	my $t = $self->{token};
	return weighted(
		6 => sub { map { "d \"" . int(rand 40) . "\\t$t copied\\n\"" } 1 .. one(1, 2, 5) }, 1 => sub { "d \"$t nonsense\\n\"" },
		1 => sub { "d \"41\\t\" + fill:30kB:x + \"\\n\"" }, 1 => sub { ("d \"4\"", "d \"2\\t$t cut\\n\"") }, 1 => sub { 'd ""' },
		1 => sub { "d \"$t,43\\n\"" }, 1 => sub { "d \"\\\\.\\n\"" }, 1 => sub { one('S', 'H') }, 5 => sub { 'c' }, 2 => sub { "f \"$t gives up\"" })->();
}

# What may not come during a copy; the end of the connection.
sub break_copy
{
	my ($self) = @_;
	return one('Q "select 1"', 'P "" "select 1"', 'X');
}

# ---- steps ----

# Where the connection stands now, by what was said last.
sub learn
{
	my ($at, @trace) = @_;
	for my $line (@trace)
	{
		next if $line !~ /^\w+< (\S)(?: (\S+))?/;
		my ($type, $first) = ($1, $2);
		if ($type eq 'Z')
		{
			$at->{status} = $first;
			$at->{copy} = 0;
		}
		$at->{copy} = $type eq 'G' if $type =~ /^[GEC]$/;
		$at->{failed} = $type eq 'E' if $type =~ /^[EZ]$/;
	}
}

sub some_messages
{
	my ($self, $at) = @_;
	return $self->copy_data if $at->{copy} && chance(85);
	return $self->break_copy if $at->{copy} && chance(8);
	return 'S' if $at->{open} && $at->{failed} && chance(50);
	if (($at->{status} // 'I') ne 'I' && chance($at->{status} eq 'E' ? 30 : 12))
	{
		return 'Q ' . quoted(one('commit', 'rollback', 'end', 'abort', 'rollback to savepoint a', 'rollback to savepoint b'));
	}
	return weighted(
		40 => sub { 'Q ' . quoted($self->sql_string) }, 40 => sub { $self->usual_extended($at) }, 14 => sub { $self->odd_extended($at) },
		2 => sub { $self->copy_data }, 1 => sub { ('S', 'S', 'H', 'S') })->();
}

# An open batch, after these lines?
sub batch_open
{
	my ($open, @lines) = @_;
	for (@lines)
	{
		$open = 1 if /^[PBDEC] /;
		$open = 0 if $_ eq 'S';
	}
	return $open;
}

sub say
{
	my ($self, @lines) = @_;
	push @{ $self->{lines} }, @lines;
	push @{ $self->{script} }, @lines;
	$self->{live}->tell($_) for @lines;
}

sub settle
{
	my ($self, $at) = @_;
	my ($how, @trace) = $self->{live}->settle;
	learn($at, @trace);
	push @{ $self->{lines} }, 'settle';
	push @{ $self->{script} }, $how;
	return $how;
}

sub open_connection
{
	my ($self, $name) = @_;
	my $startup = '';
	if (chance(25))
	{
		$startup = ' ' . join(' ', map { my ($n, @v) = @$_; my $v = one(@v); $v =~ s/^'|'$//g; "$n=\"" . ($v =~ s/(["])/\\$1/gr) . '"' }
			  (one(grep { $_->[0] !~ /^(?:application_name|client_encoding|default_transaction)/ } @parameters)));
		$self->{startup} = 1;
	}
	$self->say("connect $name$startup");
	$self->{at}{$name} = { name => $name, status => 'I', statements => {} };
	$self->settle($self->{at}{$name});
	$self->say('cut ' . (1 + int rand 1_000_000)) if chance(40);
}

# No transaction is open, and none of these opens one.
sub is_outside { my ($at, @messages) = @_; return $at->{status} eq 'I' && !grep { /^[QPBE] .*(?:begin|start|chain|s\d|p\d)/ } @messages; }

# PostgreSQL reads freed memory, and may crash, when the unnamed portal of a Query that failed within a transaction is executed or
# described: nothing of it is said unless it was bound in the same batch.
sub without_crash
{
	my ($self, $at, @messages) = @_;
	my $bound = is_outside($at, @messages);
	my @rest;
	for (@messages)
	{
		next if !$bound && /^(?:E|D P) ""/;
		push @rest, $_;
		$bound = 1 if /^B ""/;
		$bound = 0 if /^[SQ]/;
	}
	return @rest;
}

# ---- known differences ----
# docs/protocol.md, at its end, and known/; they are said only with {known}, as they would hide others.

sub without_known
{
	my ($self, $at, @messages) = @_;
	return @messages if $self->{known};
	if (!is_outside($at, @messages))
	{
		# reset-in-one-string, which is true of a transaction, too
		@messages = grep { !/^[QP] .*(?:\breset\b|discard all|to default|zone local)/ } @messages if $self->{startup};
		# describe_in_failed_transaction
		@messages = grep { !/^D S/ } @messages;
	}
	# deallocate_among_others
	@messages = grep { !/^Q .*(?:;.*(?:execute|deallocate) s\d|(?:execute|deallocate) s\d.*;)/ } @messages;
	# parsed_again_before_begin
	return grep { !/^P .*(?:isolation level|read only|read write|deferrable)/ } @messages;
}

sub step
{
	my ($self) = @_;
	my @names = sort keys %{ $self->{at} };
	my $at = $self->{at}{ one(@names) };
	my @messages = map { $self->some_messages($at) } 1 .. weighted(5 => 1, 3 => 2, 2 => 4, 1 => 7);
	$self->say("\@$at->{name}") if $self->{connections} > 1;
	push @messages, 'S', 'X' if !$at->{copy} && chance(1.5);
	@messages = $self->without_crash($at, $self->without_known($at, @messages));
	$at->{open} = batch_open($at->{open}, @messages);
	# who does not ask for it cannot count on hearing of an error, or of the beginning of much, before the end of the batch
	push @messages, 'H' if @messages && $at->{open} && $messages[-1] !~ /^[HQ]/;
	$self->say(@messages);
	my $how = $self->settle($at);
	die "waits for a lock\n" if $how eq 'locked';
	return if $how ne 'expect closed';
	delete $self->{at}{ $at->{name} };
	my $name = chr(ord('a') + $self->{opened}++ % 26);
	$self->open_connection($name);
}

# Leaves nothing half-said, most of the time.
sub leave
{
	my ($self) = @_;
	$self->say('# leaves');
	for my $name (sort keys %{ $self->{at} })
	{
		my $at = $self->{at}{$name};
		$self->say("\@$name") if $self->{connections} > 1;
		$self->say(one('c', 'f "the end"')) if $at->{copy};
		$self->say('S');
		$self->settle($at);
	}
}

# Talks to PostgreSQL. Gives the script; its lines with "settle" in each place where it waits for what PostgreSQL has to say are in {lines}.
sub talk
{
	my ($self) = @_;
	my $g = $self->{table};
	srand($self->{seed});
	$self->{lines} = [];
	$self->{script} = [];
	$self->say("setup \"drop table if exists $g, hpw_h_$self->{token}\"", "setup \"create table $g (i int primary key, v text)\"",
		"setup \"insert into $g select n, '$self->{token} ' || n from generate_series(1, 4) n\"",
		"teardown \"drop table if exists $g, hpw_h_$self->{token}\"", "teardown \"drop function if exists hpw_f_$self->{token}\"");
	$self->open_connection(chr(ord('a') + $self->{opened}++ % 26)) for 1 .. $self->{connections};
	$self->step for 1 .. $self->{steps};
	$self->leave;
	my @head = ("# Generated from seed $self->{seed}.", map { "allow $_" } sort keys %{ $self->{allowed} });
	push @head, "links $self->{connections}" if $self->{connections} > 1;
	unshift @{ $self->{$_} }, @head for qw(lines script);
	return @{ $self->{script} };
}

1;
