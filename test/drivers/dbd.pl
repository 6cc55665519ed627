#!/usr/bin/env perl
# DBD::Pg: libpq, statements prepared at the origin when they have parameters.  README.md has the list of checks.
use strict;
use warnings;

use DBI;
use DBD::Pg qw(:pg_types);
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

my $json = JSON::PP->new->canonical->ascii->allow_nonref;
$| = 1;

sub connection
{
	return DBI->connect("dbi:Pg:$_[0]", undef, undef, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1 });
}

sub check
{
	my ($name, $work) = @_;
	my $c = connection('');
	my @values = eval { $work->($c) };
	my $error = $@;
	$c->disconnect;
	print $error ? "not ok - $name: $error" : "ok - $name: " . $json->encode(\@values) . "\n";
}

sub state_of
{
	my ($c, $sql, @values) = @_;
	return eval { $c->do($sql, undef, @values); 1 } ? 'no error' : $c->state;
}

sub one { my ($c, $sql, @values) = @_; return $c->selectrow_arrayref($sql, undef, @values); }

check('login', sub { my $c = shift; (one($c, 'SELECT current_user, current_database()'), $c->{pg_server_version}, $c->ping) });

check('simple', sub {
	my $c = shift;
	$c->do("SELECT 1; SELECT 2");
	return $c->selectall_arrayref("SELECT 'two', i FROM generate_series(1, 3) i");
});

check('types', sub {
	my $c = shift;
	my @types = ([ int2 => 7 ], [ int4 => -2000000 ], [ int8 => '9007199254740993' ], [ numeric => '12345.6789' ], [ float8 => 0.1 ],
		[ bool => 1 ], [ text => "Gr\x{fc}\x{df}e 'x' \\ %" ], [ bytea => "\0\xff\x10" ], [ date => '2024-02-29' ],
		[ timestamptz => '2024-02-29 23:59:58.123456+00' ], [ interval => '3 days 00:00:01' ],
		[ uuid => '00000000-0000-0000-0000-000000000007' ], [ jsonb => '{"a": [1, null]}' ], [ 'int4[]' => [ 1, 2, 3 ] ], [ text => undef ]);
	my $s = $c->prepare('SELECT ' . join(', ', map { "?::$_->[0]" } @types));
	for my $i (1 .. @types)
	{
		$s->bind_param($i, $types[ $i - 1 ][1], $types[ $i - 1 ][0] eq 'bytea' ? { pg_type => PG_BYTEA } : undef);
	}
	$s->execute;
	return ($s->fetchrow_arrayref, $s->{pg_type});
});

check('prepared', sub {
	my $c = shift;
	my $total = 0;
	my $s = $c->prepare('SELECT ?::int + 1');
	my @others = map { $c->prepare("SELECT ?::int + $_") } 1 .. 40;
	for my $i (0 .. 29)
	{
		$s->execute($i);
		$total += $s->fetchrow_array;
		for my $other (@others) { $other->execute(1); $total += $other->fetchrow_array; }
	}
	undef @others;    # DEALLOCATE, as text
	return ($total, one($c, 'SELECT 1 + ?', 1));
});

check('transaction', sub {
	my $c = shift;
	$c->do('DROP TABLE IF EXISTS visits');
	$c->do('CREATE TABLE visits (id int PRIMARY KEY, page text)');
	$c->begin_work;
	$c->do('INSERT INTO visits VALUES (?, ?)', undef, 1, 'kept');
	$c->pg_savepoint('s');
	$c->do('DELETE FROM visits');
	$c->pg_rollback_to('s');
	$c->commit;
	$c->begin_work;
	$c->do("INSERT INTO visits VALUES (2, 'gone')");
	$c->rollback;
	$c->begin_work;
	$c->do('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY');
	return ($c->selectall_arrayref("SELECT id, page, current_setting('transaction_isolation') FROM visits"),
		state_of($c, "INSERT INTO visits VALUES (3, 'x')"));
});

check('errors', sub {
	my $c = shift;
	my @states = (state_of($c, 'SELEC 1'), state_of($c, 'SELEC ?', 1), state_of($c, "INSERT INTO visits VALUES (?, 'again')", 1));
	my $s = $c->prepare('SELECT 1 / ?::int');
	for my $i (0 .. 5)
	{
		push @states, eval { $s->execute($i % 2); $s->fetchrow_array } // $s->state;
	}
	$c->begin_work;
	push @states, state_of($c, 'SELECT 1 / 0'), state_of($c, 'SELECT ?::int', 1);
	$c->rollback;
	return (@states, one($c, "SELECT 'still here'"));
});

check('copy', sub {
	my $c = shift;
	$c->do('COPY visits FROM STDIN');
	$c->pg_putcopydata("$_\tpage $_\n") for 100 .. 1099;
	$c->pg_putcopyend;
	$c->do('COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT');
	my ($line, @lines) = ('');
	push @lines, $line while $c->pg_getcopydata($line) >= 0;
	$c->do('COPY visits FROM STDIN');
	$c->pg_putcopydata("x\ty\n");
	eval { $c->pg_putcopyend };
	return (@lines, $c->state, one($c, 'SELECT count(*) FROM visits'));
});

check('large', sub {
	my $c = shift;
	my $r = one($c, 'SELECT ?::text, length(?)', 'a' x 1000000, 'b' x 3000000);
	return (length $r->[0], $r->[1], scalar @{ $c->selectall_arrayref("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i") });
});

check('large_object', sub {
	my $c = shift;
	$c->begin_work;
	my $oid = $c->pg_lo_creat($c->{pg_INV_WRITE} | $c->{pg_INV_READ});
	my $lo = $c->pg_lo_open($oid, $c->{pg_INV_WRITE} | $c->{pg_INV_READ});
	$c->pg_lo_write($lo, 'x' x 10000, 10000);
	$c->pg_lo_lseek($lo, 5000, 0);
	my $buffer = '';
	my $read = $c->pg_lo_read($lo, $buffer, 9999);
	$c->rollback;
	return $read;
});

check('settings', sub {
	my $c = shift;
	$c->do("SET TIME ZONE 'Asia/Tokyo'");
	$c->do('SET search_path TO pg_catalog, public');
	my $other = connection('options=-csearch_path=pg_catalog');
	my $path = one($other, 'SHOW search_path');
	$other->disconnect;
	return (one($c, "SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')"), $path);
});

check('notice', sub {
	my $c = shift;
	my @heard;
	local $SIG{__WARN__} = sub { push @heard, @_ };
	local $c->{PrintWarn} = 1;
	$c->do("DO \$\$ BEGIN RAISE NOTICE 'hear, hear'; END \$\$");
	return map { /(NOTICE:.*)/ } @heard;
});

check('cancel', sub {
	my $c = shift;
	$c->do('SELECT pg_sleep(10)', { pg_async => PG_ASYNC });
	Time::HiRes::sleep(0.3);
	return ($c->pg_cancel, $c->state, one($c, "SELECT 'still here'"));
});

check('short_connections', sub {
	my $total = 0;
	for my $i (0 .. 29)
	{
		my $one = connection('');
		$total += one($one, 'SELECT ?::int', $i)->[0];
		$one->disconnect;
	}
	return $total;
});

check('at_once', sub {
	my $c = shift;
	my @children;
	for my $n (0 .. 7)
	{
		my $child = fork();
		if ($child == 0)
		{
			$c->{InactiveDestroy} = 1;
			my $mine = connection('');
			my $good = 1;
			for (1 .. 10)
			{
				$mine->begin_work;
				my $before = one($mine, 'SELECT pg_backend_pid()')->[0];
				$mine->do("UPDATE visits SET page = page || '.' WHERE id = ?", undef, 100 + $n);
				$good &&= one($mine, 'SELECT pg_backend_pid()')->[0] == $before;
				$mine->commit;
			}
			$mine->disconnect;
			POSIX::_exit($good ? 0 : 1);
		}
		push @children, $child;
	}
	my @ends = map { waitpid($_, 0); $? } @children;
	return (@ends, one($c, 'SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107'));
});
