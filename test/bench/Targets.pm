# Targets: what was set as a goal, what was measured, and whether it is met. Each target is a ratio or a time within one run.
package Targets;

use strict;
use warnings;

use Bench;

my $results;

# The markdown table, from what bench has measured.
sub table
{
	($results) = @_;
	my @rows = grep { defined } map { row_of($_) } targets();
	return '' unless @rows;
	return join "\n", '### Targets', '', '| what | target | measured | |', '|---|--:|--:|---|', @rows, '';
}

# [what, at most or at least, target, unit, measured (undef: could not be, with the reason)]
sub row_of
{
	my ($what, $sense, $target, $unit, $measured, $reason) = @{ $_[0] };
	my $bound = $sense eq 'least' ? 'at least' : 'at most';
	return defined $reason ? "| $what | $bound $target$unit | – | not measured: $reason |" : undef unless defined $measured;
	my $met = $sense eq 'least' ? $measured >= $target : $measured <= $target;
	my $by = $sense eq 'least' ? $target - $measured : $measured - $target;
	return sprintf '| %s | %s %s%s | %s%s | %s |', $what, $bound, $target, $unit, shown($measured), $unit, $met ? 'met' : '**missed by ' . shown($by) . "$unit**";
}

sub shown { my ($value) = @_; return abs($value) >= 100 ? sprintf('%.0f', $value) : sprintf('%.2f', $value); }

# ---- values ----

sub value
{
	my ($measure, %like) = @_;
	my ($cell) = grep { my $c = $_; !grep { ($c->{$_} // '') ne $like{$_} } keys %like } @{ $results->{cells} };
	return undef unless $cell;
	return median(grep { defined } map { $_->{$measure} } @{ $cell->{rounds} });
}

sub ratio
{
	my ($measure, $one, $other, %like) = @_;
	my ($above, $below) = map { value($measure, %like, system => $_) } $one, $other;
	return defined $above && $below ? $above / $below : undef;
}

# Why there is nothing to compare: what the cell says.
sub reason
{
	my (%like) = @_;
	my ($cell) = grep { my $c = $_; !grep { ($c->{$_} // '') ne $like{$_} } keys %like } @{ $results->{cells} };
	return $cell ? $cell->{missing} : undef;
}

# ---- the list ----

sub targets { return (pooled(), sleeping(), cached(), far(), trips(), latency()); }

sub pooled
{
	my %local = (part => 'pooled', clients => 32, link => 'plain', origin => 'unix');
	my %least = (simple => 1.05, extended => 1.1, prepared => 1.0);
	my @all = map { [ "32 clients by TCP, origin by Unix socket, $_: tps against direct", least => $least{$_}, '', ratio('tps', 'hyperpool', 'direct', %local, protocol => $_) ] } qw(simple extended prepared);
	push @all, [ 'the same, origin by TCP, simple', least => 0.95, '', ratio('tps', 'hyperpool', 'direct', %local, origin => 'tcp', protocol => 'simple') ];
	push @all, [ 'clients by Unix socket, simple: tps against direct by theirs', least => 1.15, '', ratio('tps', 'hyperpool', 'direct', %local, link => 'unix', protocol => 'simple') ];
	push @all, map { [ "pooler CPU a query against the byte copy's, $_", most => 0.7, '', ratio('cpu', 'hyperpool', 'copy', %local, protocol => $_) ] } qw(simple extended prepared);
	return @all;
}

sub sleeping
{
	return [ "one query in 1,000 sleeps 20 ms: p99 of the others against direct's", most => 1.0, '', ratio('p99', 'hyperpool', 'direct', part => 'mixed', load => 'sleeping') ];
}

sub cached
{
	my %hit = (part => 'cached', protocol => 'simple');
	my ($by_unix, $by_tcp) = map { value('cpu', %hit, system => 'hyperpool', link => $_) } qw(unix plain);
	return ([ "cache hit, CPU against the bare echo's", most => 1.2, '', ratio('cpu', 'hyperpool', 'echo', %hit, link => 'plain') ],
		[ "cache hit, tps against the bare echo's", least => 0.85, '', ratio('tps', 'hyperpool', 'echo', %hit, link => 'plain') ],
		[ 'cache hit by Unix socket, CPU against the same by TCP', most => 0.5, '', defined $by_unix && $by_tcp ? $by_unix / $by_tcp : undef ]);
}

sub far
{
	my %least = (300 => 14, 1000 => 45);
	my @all;
	for my $clients (300, 1000)
	{
		my %like = (part => 'far', origin => 125, clients => $clients);
		my $mean = value('mean', %like, system => 'hyperpool');
		push @all, [ "125 ms, 20 links, $clients clients: tps against one exchange at a time", least => $least{$clients}, '',
			ratio('tps', 'hyperpool', 'exclusive', %like), reason(%like, system => 'exclusive') ];
		push @all, [ "the same, mean latency", most => 131, ' ms', $mean ];
	}
	return @all;
}

sub trips
{
	my $ms = value('p50', part => 'transaction', system => 'hyperpool');
	my $pair = $results->{pair} // {};
	my ($pooled, $cached) = map { $_ ? median(@{ $_->{inside} }) : undef } @$pair{qw(pooled cached)};
	return ([ '125 ms, BEGIN; INSERT; COMMIT by a warm client', most => 2.1, ' trips', defined $ms ? $ms / 125 : undef ],
		[ 'the published pair over 125 ms, pooled: 2 trips and 10 ms', most => 260, ' ms', $pooled ],
		[ 'the published pair over 125 ms, cached: 1 trip and 10 ms', most => 135, ' ms', $cached ]);
}

sub latency
{
	my %local = (part => 'pooled', clients => 32, link => 'plain', origin => 'unix');
	return map { [ "p99 at 32 clients against PgBouncer's, $_", most => 1.0, '', ratio('p99', 'hyperpool', 'pgbouncer', %local, protocol => $_) ] } qw(simple extended);
}

1;
