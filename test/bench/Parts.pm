# Parts: what is measured. Each part is a list of groups; a group is a load and the systems it is run against in turns. Here stand the loads,
# the cells that are left out, and nothing about how a cell is measured (Bench.pm) or what runs (Systems.pm).
package Parts;

use strict;
use warnings;

use Bench;
use Systems;

our @names = qw(pooled reconnect cached mixed far transaction pair memory);

my @poolers = (qw(hyperpool exclusive pgbouncer), Systems::has_odyssey() ? 'odyssey' : (), 'pgpool');
my @all = ('direct', 'copy', @poolers);

# The scripts of a load, with weights.
my %script = (
	point => "\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
	hot => "\\set aid random(1, 1000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
	kb1 => "\\set id random(1, 100)\nSELECT kb1 FROM bodies WHERE id = :id;\n",
	kb100 => "\\set id random(1, 100)\nSELECT kb100 FROM bodies WHERE id = :id;\n",
	write => "\\set aid random(1, 100000)\n\\set delta random(-5000, 5000)\nUPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n",
	slow => "\\set aid random(1, 80000)\nSELECT sum(abalance) FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 20000;\n",
	sleep => "SELECT pg_sleep(0.02);\n",
	transaction => "BEGIN;\nINSERT INTO visits (page) VALUES ('/welcome');\nCOMMIT;\n",
);
my %load = (
	point => { scripts => ['point'] },
	hot => { scripts => ['hot'] },
	kb1 => { scripts => ['kb1'] },
	kb100 => { scripts => ['kb100'] },
	names => { scripts => ['point'], sessions => 32 },
	sleeping => { scripts => [ 'point@999', 'sleep@1' ], only => 0, sampling => 1 },
	mixed => { scripts => [ 'point@75', 'kb1@9', 'kb100@1', 'write@10', 'slow@5' ], only => 0, sessions => 32 },
	transaction => { scripts => ['transaction'] },
);
my @zones = qw(UTC Europe/Berlin America/New_York Asia/Tokyo);

sub write_scripts { spill("$Bench::place/$_.sql", $script{$_}) for keys %script; return; }

# What Bench::load needs to know of a cell's load.
sub load_of
{
	my ($cell) = @_;
	my $load = $load{ $cell->{load} };
	my @scripts = map { my ($name, $weight) = split /@/; "$Bench::place/$name.sql" . ($weight ? "\@$weight" : '') } @{ $load->{scripts} };
	my %how = (scripts => \@scripts, only => $load->{only});
	$how{sampling} = $load->{sampling} // ($load->{sessions} || $cell->{reconnect} || $cell->{origin} =~ /^\d/ || $cell->{clients} < 32 ? 1 : 0.1);
	$how{sessions} = [ map { { PGAPPNAME => "service $_", PGTZ => $zones[ $_ % @zones ] } } 1 .. $load->{sessions} ] if $load->{sessions};
	$how{threads} = $cell->{clients} / 10 if $cell->{origin} =~ /^\d/ && $cell->{clients} > 20;    # pgbench's logins over the distance
	return %how;
}

# [{ part, title, cells => [...] }, ...] of one part.
sub groups
{
	my ($part, $quick) = @_;
	my %of = (pooled => \&pooled, reconnect => \&reconnect, cached => \&cached, mixed => \&mixed, far => \&far, transaction => \&transaction);
	return $of{$part} ? $of{$part}->($quick) : ();
}

sub without { my ($name, @systems) = @_; return [ grep { $_ ne $name } @systems ]; }

sub group
{
	my ($part, $systems, %cell) = @_;
	my %defaults = (part => $part, protocol => 'simple', clients => 32, link => 'plain', origin => 'unix', cache => 0, load => 'point');
	my @cells = map { { %defaults, %cell, system => $_ } } @$systems;
	return { part => $part, cells => \@cells };
}

# TLS with 32 clients alone (the cost is of the bytes, not of the clients); extended with 32 alone and without TLS (it lies between the other two).
sub pooled
{
	my ($quick) = @_;
	my @groups = map { group('pooled', \@all, protocol => $_) } qw(simple extended prepared);
	my @few = qw(direct hyperpool pgbouncer);
	return (@groups, group('pooled', \@few, origin => 'tcp'), group('pooled', \@few, link => 'unix'), group('pooled', \@few, link => 'tls')) if $quick;
	push @groups, group('pooled', \@all, origin => 'tcp'), group('pooled', [ 'direct', @poolers ], link => 'unix');
	push @groups, group('pooled', [ 'direct', @{ without('exclusive', @poolers) } ], link => 'tls', protocol => $_) for qw(simple prepared);
	push @groups, group('pooled', without('exclusive', @all), clients => 1, protocol => $_) for qw(simple prepared);
	push @groups, group('pooled', \@all, clients => 500, protocol => $_) for qw(simple prepared);
	return @groups;
}

# With a connection for each query the protocol matters little: simple alone.
sub reconnect
{
	my ($quick) = @_;
	my @systems = @{ without('exclusive', @all) };
	my @tls = @{ without('copy', @systems) };
	my %how = (reconnect => 1);
	return (group('reconnect', \@systems, %how), group('reconnect', \@tls, %how, link => 'tls')) if $quick;
	return ((map { group('reconnect', \@systems, %how, clients => $_) } 1, 32, 500), (map { group('reconnect', \@tls, %how, clients => $_, link => 'tls') } 1, 32));
}

# Extended lies near the others (test/bench/hit measures it).
sub cached
{
	my ($quick) = @_;
	my @systems = qw(echo hyperpool pgpool direct);
	my %how = (load => 'hot', cache => 1);
	my @groups = map { group('cached', \@systems, %how, protocol => $_) } $quick ? 'simple' : qw(simple prepared);
	push @groups, group('cached', \@systems, %how, link => 'unix', protocol => $_) for $quick ? 'simple' : qw(simple prepared);
	push @groups, group('cached', [qw(echo hyperpool pgpool)], %how, link => 'tls') unless $quick;
	return @groups;
}

sub mixed
{
	my ($quick) = @_;
	return map { group('mixed', [ 'direct', @poolers ], load => $_) } $quick ? qw(sleeping mixed) : qw(names sleeping mixed kb1 kb100);
}

# Pgpool-II has a process, and a connection to the origin, for each client: not with 1,000.
sub far
{
	my ($quick) = @_;
	my %how = (seconds => 4);
	return group('far', [ 'direct', @{ without('pgpool', @poolers) } ], origin => 125, clients => 300) if $quick;
	return ((map { group('far', [ 'direct', @poolers ], %how, origin => $_, clients => 300) } 1, 30, 125),
		group('far', [ 'direct', @{ without('pgpool', @poolers) } ], %how, origin => 125, clients => 1000));
}

sub transaction
{
	my ($quick) = @_;
	my @systems = $quick ? qw(direct hyperpool pgbouncer) : ('direct', @{ without('exclusive', @poolers) });
	return group('transaction', \@systems, origin => 125, clients => 1, load => 'transaction', seconds => $quick ? 2 : 4);
}

1;
