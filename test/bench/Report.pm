# Report: what was measured, as markdown tables and plots. It measures nothing: results.md and the plots follow from cells.json alone.
package Report;

use strict;
use warnings;

use Bench;
use List::Util qw(max min);
use Plot;
use Targets;

my ($results, @footnotes);

my @order = qw(echo direct copy hyperpool exclusive pgbouncer odyssey pgpool);
my %link = (plain => 'TCP', tls => 'TCP with TLS', unix => 'Unix socket');
my %load = (names => 'names and zones', sleeping => '1 in 1,000 sleeps', mixed => 'mixed', kb1 => '1 kB', kb100 => '100 kB');
my @loads = qw(names sleeping mixed kb1 kb100);

# Writes results.md and the plots into the folder; the text.
sub write_all
{
	($results, my $folder) = @_;
	@footnotes = ();
	unlink "$folder/results.md", glob "$folder/*.svg";
	my @plots = plots();
	for my $plot (@plots)
	{
		my ($name, $svg) = @$plot;
		spill("$folder/$name.svg", $svg);
	}
	my $text = text({ map { ($_->[0] => 1) } @plots });
	spill("$folder/results.md", $text);
	return $text;
}

# ---- values ----

# Median of one measure of a cell, undef if it has none.
sub value
{
	my ($cell, $measure) = @_;
	return undef unless $cell;
	return median(grep { defined } map { $_->{$measure} } @{ $cell->{rounds} });
}

sub cells
{
	my (%like) = @_;
	return grep { my $cell = $_; !grep { ($cell->{$_} // '') ne $like{$_} } keys %like } @{ $results->{cells} };
}

sub cell { my (%like) = @_; my ($cell) = cells(%like); return $cell; }

sub in_order
{
	my (@cells) = @_;
	my %place = map { $order[$_] => $_ } 0 .. $#order;
	return sort { $place{ $a->{system} } <=> $place{ $b->{system} } } @cells;
}

# ---- text ----

sub text
{
	my ($plot) = @_;
	my $picture = sub { my ($name, $alt) = @_; return $plot->{$name} ? "\n![$alt](bench/$name.svg)\n" : '' };
	my @text = (about());
	push @text, pooled($picture), reconnect($picture), cached($picture), mixed($picture), far($picture), transaction(), pair($picture), memory($picture);
	push @text, Targets::table($results);
	return join("\n", grep { length } @text) =~ s/\n{3,}/\n\n/gr;
}

sub about
{
	my $versions = join ', ', map { "$_->[0] $_->[1]" } @{ $results->{versions} };
	my @lines = ("$results->{machine}. $versions.", '');
	push @lines, sprintf '%s, up to a second of warming up and then %g s measured a cell (more over a distance), %d %s%s; figures are medians of the rounds. The whole took %.0f minutes.%s',
	  'Each cell is run once a round, the systems of a group in turns', $results->{seconds}, $results->{rounds}, $results->{rounds} == 1 ? 'round' : 'rounds',
	  $results->{partial} ? ' and a part of another' : '', $results->{minutes},
	  $results->{quick} ? ' **A quick run: one short round, for a first look only.**' : '';
	push @lines, '', @{ $results->{notes} } if @{ $results->{notes} };
	return join "\n", @lines, '';
}

sub number
{
	my ($value) = @_;
	return '–' unless defined $value;
	return sprintf('%.1fk', $value / 1000) if $value >= 10000;
	return sprintf('%.0f', $value) if $value >= 100;
	return sprintf('%.1f', $value) if $value >= 10;
	return sprintf('%.2f', $value);
}

sub ratio
{
	my ($value, $base) = @_;
	return defined $value && $base ? sprintf('%.2f', $value / $base) : '–';
}

# A row of dashes for what could not be measured; the reason stands below the table.
sub name_of
{
	my ($cell) = @_;
	my $name = $Plot::label{ $cell->{system} };
	return $name unless $cell->{missing};
	my $reason = "$name: $cell->{missing}";
	push @footnotes, $reason unless grep { $_ eq $reason } @footnotes;
	my ($number) = grep { $footnotes[ $_ - 1 ] eq $reason } 1 .. @footnotes;
	return "$name ($number)";
}

sub footnotes
{
	my $number = 1;
	my @lines = map { '(' . $number++ . ") $_." } @footnotes;
	@footnotes = ();
	return @lines ? "\n" . join("\n", map { "$_  " } @lines) . "\n" : '';
}

# The cells of a part as one table. base: the system whose tps is 1; columns: what tells the groups apart.
sub table
{
	my ($cells, $base, @columns) = @_;
	my @head = ((map { $_->[0] } @columns), 'system', 'tps', "× $Plot::label{$base}", 'p50 ms', 'p99 ms', 'pooler CPU µs', 'origin CPU µs');
	my @lines = (row(@head), '|' . ('---|' x (@columns + 1)) . ('--:|' x 6));
	my (%group, @groups);
	for my $cell (@$cells)
	{
		my $group = join ' | ', map { $_->[1]->($cell) } @columns;
		push @groups, $group unless $group{$group};
		push @{ $group{$group} }, $cell;
	}
	for my $group (@groups)
	{
		my ($one) = map { value($_, 'tps') } grep { $_->{system} eq $base } @{ $group{$group} };
		for my $cell (in_order(@{ $group{$group} }))
		{
			my $tps = value($cell, 'tps');
			push @lines, row($group, name_of($cell), number($tps), ratio($tps, $one), map { number(value($cell, $_)) } qw(p50 p99 cpu origin));
		}
	}
	return join("\n", @lines, '') . footnotes();
}

sub row { return '| ' . join(' | ', @_) . ' |'; }

my $protocol = [ protocol => sub { return $_[0]{protocol} } ];
my $clients = [ clients => sub { return $_[0]{clients} } ];
my $link_of = [ link => sub { return $link{ $_[0]{link} } } ];

sub section
{
	my ($title, $words, @rest) = @_;
	return join "\n", "### $title", '', $words, @rest;
}

sub pooled
{
	my ($picture) = @_;
	my @local = cells(part => 'pooled', origin => 'unix', link => 'plain');
	return '' unless @local;
	my @many = grep { $_->{clients} != 32 } @local;
	return section('Pooled reads, no cache', <<~EOF,
		`pgbench -S`'s query over 100,000 rows, connections kept. 20 links to the origin (direct and byte copy: one for each client; Pgpool-II: a process and a link for each client).
		The origin is reached by its Unix socket, clients come by TCP. **Pooler CPU** is user and system time of all its processes for each query, **origin CPU** that of the origin's.
		*Byte copy* is a proxy of one loop that only copies (`test/bench/copy.c`): less than that no pooler can do that sends each query on by itself.
		Left out: extended with 1 and with 500 clients and with TLS, TLS with 1 and with 500 clients, and hyperpool without sharing where there is one client or TLS.
		EOF
		$picture->('pooled-tps', 'Pooled reads a second, 32 clients'), $picture->('pooled-cpu', 'CPU of the pooler for each query, 32 clients'),
		"32 clients:\n", table([ grep { $_->{clients} == 32 } @local ], 'direct', $protocol),
		(@many ? ($picture->('clients', 'Pooled reads a second by number of clients'), "1 and 500 clients:\n", table(\@many, 'direct', $clients, $protocol)) : ()),
		"\nOther ways, 32 clients:\n",
		table([ cells(part => 'pooled', origin => 'tcp'), cells(part => 'pooled', link => 'unix'), cells(part => 'pooled', link => 'tls') ], 'direct',
			[ 'clients by' => $link_of->[1] ], [ 'origin by' => sub { return $_[0]{origin} eq 'tcp' ? 'TCP' : 'Unix socket' } ], $protocol));
}

sub reconnect
{
	my ($picture) = @_;
	my @cells = cells(part => 'reconnect') or return '';
	return section('A connection for each query', <<~EOF,
		`pgbench -C`, simple protocol, trust. Times are from the end of one query to the end of the next of the same client, so the connection is in them.
		Left out: the other protocols (a connection costs more than what tells them apart), TLS with 500 clients.
		EOF
		$picture->('reconnect', 'Connections with one query each, 32 clients'), table(\@cells, 'direct', $link_of, $clients));
}

sub cached
{
	my ($picture) = @_;
	my @cells = cells(part => 'cached') or return '';
	return section('Cached reads', <<~EOF,
		32 clients, 1,000 hot keys, all answers in the cache beforehand. The *bare echo* (`test/bench/echo.c`) is one loop that answers recorded bytes: what any answer over a socket costs at least.
		Origin CPU tells who answered: Pgpool-II's memory cache does not hit in the prepared protocol here. `make bench-hit` has more of this.
		EOF
		$picture->('cached', 'CPU for each cached read'), table(\@cells, 'echo', $link_of, $protocol));
}

sub mixed
{
	my ($picture) = @_;
	my @cells = cells(part => 'mixed') or return '';
	return section('Not only uniform clients', <<~EOF,
		32 clients by TCP, simple protocol, no cache.
		- *names and zones*: point reads; each client has an application_name of its own, and one of four TimeZones
		- *1 in 1,000 sleeps*: point reads, and one query in 1,000 that takes 20 ms; p50 and p99 are of the others
		- *mixed*: names and zones as above; 75 % point reads, 9 % answers of 1 kB and 1 % of 100 kB, 10 % writes, 5 % slow reads (20,000 rows); p50 and p99 are of the point reads
		- *1 kB*, *100 kB*: answers of that size alone
		EOF
		$picture->('mixed', 'Other loads, against direct'), table(\@cells, 'direct', [ load => sub { return $load{ $_[0]{load} } } ]));
}

sub far
{
	my ($picture) = @_;
	my @cells = cells(part => 'far') or return '';
	return section('A distant origin', <<~EOF,
		Single-row reads without cache through a relay that delays (`test/tools/relay.c`). 20 links, except direct and Pgpool-II: one for each client, opened beforehand.
		Left out: Pgpool-II with 1,000 clients (1,000 processes), 1,000 clients nearer than 125 ms, and fewer clients than links.
		EOF
		$picture->('far', 'Reads a second by distance, 300 clients'),
		table(\@cells, 'direct', [ 'distance ms' => sub { return $_[0]{origin} } ], $clients));
}

sub transaction
{
	my @cells = cells(part => 'transaction') or return '';
	my @lines = (row('system', 'median ms', 'round trips'), '|---|--:|--:|');
	for my $cell (in_order(@cells))
	{
		my $ms = value($cell, 'p50');
		push @lines, row(name_of($cell), number($ms), defined $ms ? sprintf('%.2f', $ms / 125) : '–');
	}
	return section('BEGIN; INSERT; COMMIT over 125 ms', "A client that is connected already, simple protocol, three messages.\n", join("\n", @lines, '') . footnotes());
}

sub pair
{
	my ($picture) = @_;
	my $pair = $results->{pair} or return '';
	my @lines = (row('way', 'median ms', 'fastest', 'slowest', 'round trips', 'request to response'), '|---|--:|--:|--:|--:|--:|');
	for my $way (grep { $pair->{$_} } qw(direct pgbouncer pooled cached))
	{
		my @ms = @{ $pair->{$way}{inside} };
		push @lines, row($Plot::label{$way}, (map { sprintf '%.0f', $_ } median(@ms), min(@ms), max(@ms)), sprintf('%.1f', median(@ms) / 125),
			sprintf('%.0f', median(@{ $pair->{$way}{outside} })));
	}
	push @lines, '', sprintf 'A request that asks no database takes %.1f ms from request to response.', median(@{ $pair->{nothing}{outside} });
	return section('The published pair: INSERT and SELECT by postgres.js in the Workers runtime, over 125 ms', <<~EOF,
		workerd (by miniflare) runs a Worker that opens a connection, inserts a row, and reads a row of another table; TLS and SCRAM on every leg; the time is taken in the Worker. Hyperdrive publishes 1200 ms
		directly, 500 ms pooled and 320 ms cached for such a pair between Chicago and London. PgBouncer before 1.21 gets unnamed statements (`prepare: false`), which are what it can do.
		EOF
		$picture->('pair', 'INSERT and SELECT from a Worker over 125 ms'), join("\n", @lines, ''));
}

sub memory
{
	my ($picture) = @_;
	my $memory = $results->{memory} or return '';
	my @lines = (row('system', 'link', 'clients', 'kB a client'), '|---|---|--:|--:|');
	push @lines, row(name_of($_), $link{ $_->{link} }, $_->{clients}, number($_->{kb})) for @$memory;
	return section('Memory of an idle client', <<~EOF,
		What clients that have asked once and then do nothing add to the memory of all processes of the system (Pss: private, and the share of what is shared). The kernel's sockets are not in it.
		Pgpool-II and the origin have a process for each client, so few clients are enough to see it. Pgpool-II's processes are started beforehand: what one takes before its first client is not in it.
		EOF
		$picture->('memory', 'Memory for each idle client'), join("\n", @lines, '') . footnotes());
}

# ---- plots ----

# [name, svg] of those there is something to show of.
sub plots
{
	my @poolers = qw(copy hyperpool exclusive pgbouncer odyssey pgpool);
	my @protocols = qw(simple extended prepared);
	my %local = (part => 'pooled', link => 'plain', origin => 'unix', clients => 32);
	my $of = sub { my ($measure, $like) = @_; return sub { my ($g, $system) = @_; return value(cell(%{ $like->($g) }, system => $system), $measure) } };
	my @plots = (
		[ 'pooled-tps' => bars('Pooled reads', 'pgbench -S, 32 clients by TCP, 20 links, no cache. Higher is better.', 'queries a second', \@protocols, [ 'direct', @poolers ],
			$of->('tps', sub { return { %local, protocol => $protocols[ $_[0] ] } })) ],
		[ 'pooled-cpu' => bars('What a pooler costs', 'CPU of the pooler for each query, 32 clients by TCP. Lower is better.', 'µs a query', \@protocols, \@poolers,
			$of->('cpu', sub { return { %local, protocol => $protocols[ $_[0] ] } })) ],
		[ clients => bars('From one client to 500', 'pgbench -S, simple protocol, by TCP. Higher is better.', 'queries a second', [ '1 client', '32 clients', '500 clients' ], [ 'direct', @poolers ],
			$of->('tps', sub { return { %local, clients => (1, 32, 500)[ $_[0] ], protocol => 'simple' } })) ],
		[ reconnect => bars('A connection for each query', 'pgbench -C, 32 clients. Higher is better, logarithmic.', 'connections a second', [ 'plain', 'TLS' ], [qw(direct copy hyperpool pgbouncer odyssey pgpool)],
			$of->('tps', sub { return { part => 'reconnect', clients => 32, link => (qw(plain tls))[ $_[0] ] } }), log => 1) ],
		[ cached => bars('A cached read', 'CPU of the answering processes, 32 clients, simple protocol. Lower is better.', 'µs a query', [ 'TCP', 'TCP with TLS', 'Unix socket' ], [qw(echo hyperpool pgpool)],
			$of->('cpu', sub { return { part => 'cached', protocol => 'simple', link => (qw(plain tls unix))[ $_[0] ] } })) ],
		[ far => bars('A distant origin', '300 clients, 20 links (direct, Pgpool-II: 300), no cache. Higher is better, logarithmic.', 'queries a second', [ '1 ms', '30 ms', '125 ms' ], [qw(direct hyperpool exclusive pgbouncer odyssey pgpool)],
			$of->('tps', sub { return { part => 'far', clients => 300, origin => (1, 30, 125)[ $_[0] ] } }), log => 1) ],
		[ mixed => bars('Not only uniform clients', 'Queries a second against direct, 32 clients. Higher is better.', 'times direct', [ @load{@loads} ], [qw(hyperpool exclusive pgbouncer odyssey pgpool)],
			\&against_direct, mark => 1) ],
		[ pair => bars('INSERT and SELECT from a Worker', 'A new connection over 125 ms, TLS and SCRAM on every leg. Lower is better.', 'ms', [''], [qw(direct pgbouncer pooled cached)],
			sub { return $results->{pair} && $results->{pair}{ $_[1] } ? median(@{ $results->{pair}{ $_[1] }{inside} }) : undef }) ],
		[ memory => bars('An idle client', 'Memory of all processes for each idle client. Lower is better, logarithmic.', 'kB', [ 'plain', 'TLS' ], [qw(hyperpool pgbouncer odyssey pgpool direct)],
			sub { my ($g, $s) = @_; return (map { $_->{kb} } grep { $_->{system} eq $s && $_->{link} eq (qw(plain tls))[$g] } @{ $results->{memory} // [] })[0] }, log => 1) ],
	);
	return grep { defined $_->[1] } @plots;
}

# Groups and systems that have no value at all take no room.
sub bars
{
	my ($title, $subtitle, $axis, $groups, $systems, $value, %how) = @_;
	my @shown = grep { my $g = $_; grep { defined $value->($g, $_) } @$systems } 0 .. $#$groups;
	my @systems = grep { my $s = $_; grep { defined $value->($_, $s) } @shown } @$systems;
	return undef unless @shown;
	return Plot::bars($title, subtitle => $subtitle, axis => $axis, groups => [ @$groups[@shown] ], systems => \@systems, %how,
		value => sub { my ($g, $system) = @_; return $value->($shown[$g], $system) });
}

sub against_direct
{
	my ($g, $system) = @_;
	my %like = (part => 'mixed', load => $loads[$g]);
	my $tps = value(cell(%like, system => $system), 'tps');
	my $direct = value(cell(%like, system => 'direct'), 'tps');
	return defined $tps && $direct ? $tps / $direct : undef;
}

1;
