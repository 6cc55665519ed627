#!/usr/bin/perl
#
# run.pl: the oracle. Plays every script against a direct PostgreSQL and through the gateway,
# compares the two traces message by message, and prints one TAP line a script and mode.
#
# Usage: run.pl [SCRIPT ...]		(no script: all of them, which is a full run)
#
# Environment:
#   HP_DIRECT       conninfo of the origin itself; its user must be allowed to create roles
#   HP_GATEWAY      conninfo of the same database through the gateway
#   HP_CONTROL      conninfo for setup, teardown and waiting (HP_DIRECT)
#   HP_SETUP        direct or gateway: the way that the setup of a play through the gateway goes (direct);
#                   with a result cache it must be gateway, as writes made elsewhere may be seen late
#   HP_MODES        modes, separated by spaces (plain): plain, tls (TLS to the gateway),
#                   split (every message cut into writes of 7 bytes), cached and cached-split (three
#                   plays between one setup and one teardown: a cache is cold, then warm, and before
#                   the third there is a write to a table of the script, by the way of the setup)
#   HP_READY        conninfo where HP_READY_QUERY is run before each play through the gateway, when a
#                   cache has to learn first what the setup has made (no query)
#   HP_WRITE        the write of cached modes for scripts that set up no table (none)
#   HP_REPEAT       plays of each script on each side (1)
#   HP_TIMEOUT      milliseconds an answer may take (10000)
#   HP_PLAYER       a player (that of the Makefile, build/player)
#   HP_RULES        the table of rules (rules, beside this file)
#   HP_CHECK_RULES  1 or 0: does a rule that nobody needed fail a full run?  (1, but 0 when both
#                   conninfos are the same)
#   HP_LINKS        links the gateway has to the origin; scripts that need more at once are skipped (all)
#   HP_SKIP         names of scripts to leave out, separated by spaces; then no run is full
use strict;
use warnings;
use File::Basename qw(basename dirname);
use FindBin;
use lib $FindBin::RealBin;
use Oracle;
use Test::More;

my $here = dirname(__FILE__);
my %more_options = (plain => [], tls => [], split => [ '--split', 7 ], cached => [], 'cached-split' => [ '--split', 7 ]);

sub show_failure
{
	my ($side, $play) = @_;
	diag("$side: exit status " . ($play->{status} >> 8) . ", signal " . ($play->{status} & 127)) if $play->{status};
	diag("$side: $_") for split /\n/, $play->{errors};
}

sub compare
{
	my ($name, $rules, $direct, $gateway) = @_;
	my @lines = ($direct->{lines}, $gateway->{lines});
	my $played = $direct->{status} == 0 && $gateway->{status} == 0;
	my $equal = same($rules, @lines);
	ok($played && $equal, $name);
	note_needed($rules, @lines) if $equal;
	show_failure('direct', $direct);
	show_failure('gateway', $gateway);
	show_difference([ normalised($rules, @{ $lines[0] }) ], [ normalised($rules, @{ $lines[1] }) ]) if !$equal;
}

# What a cached mode adds on both sides. The write takes away a row of the first table, whatever its columns are.
sub cached_options
{
	my ($text) = @_;
	my $unrelated = setting('HP_WRITE', undef);
	return ('--repeat', 3, defined $unrelated ? ('--write', $unrelated) : ()) if $text =~ /^afresh/m;
	my ($table) = $text =~ /^setup "create (?:unlogged )?table (?:if not exists )?(\w+)/mi;
	my $write = $table ? "delete from $table where ctid = (select min(ctid) from $table)" : $unrelated;
	return ('--repeat', 3, '--stay', 1, defined $write ? ('--write', $write) : ());
}

sub run_script
{
	my ($player, $script, $modes, @all_rules) = @_;
	my $name = basename($script, '.wire');
	my $text = slurp($script);
	my $least = $text =~ /^links (\d+)/m ? $1 : 1;
	my $most = $text =~ /^links at most (\d+)/m ? $1 : undef;
	my $there = setting('HP_LINKS', 1_000_000);
	if ($there < $least || (defined $most && $there > $most))
	{
		SKIP: { skip("$name is not for $there links", scalar @$modes); }
		return;
	}
	my %direct;
	for my $mode (@$modes)
	{
		my @same = $mode =~ /^cached/ ? cached_options($text) : ();
		my $direct = $direct{"@same"} //= play($player, $ENV{HP_DIRECT}, $script, @same);
		note_version(@{ $direct->{lines} });
		my @rules = rules_of_script($script, @all_rules);
		my $target = $ENV{HP_GATEWAY} . ($mode eq 'tls' ? ' sslmode=require' : '');
		my @setup = setting('HP_SETUP', 'direct') eq 'gateway' ? ('--setup', $ENV{HP_GATEWAY}) : ();
		push @setup, '--ready', $ENV{HP_READY}, '--ready-query', $ENV{HP_READY_QUERY} if setting('HP_READY', undef);
		my $gateway = play($player, $target, $script, @same, @setup, @{ $more_options{$mode} });
		compare("$name ($mode)", \@rules, $direct, $gateway);
	}
}

sub check_rules
{
	my (@rules) = @_;
	# one that depends on which link comes first may be needed now and then
	for my $rule (grep { is_for_origin($_) && !$_->{sometimes} } @rules)
	{
		ok(was_needed($rule), "rule $rule->{rule} was needed");
	}
}

sub main
{
	die "HP_DIRECT and HP_GATEWAY must be set\n" if !$ENV{HP_DIRECT} || !$ENV{HP_GATEWAY};
	my %skipped = map { $_ => 1 } split ' ', setting('HP_SKIP', '');
	my @modes = split ' ', setting('HP_MODES', 'plain');
	my @scripts = @ARGV ? @ARGV : glob("$here/scripts/*.wire");
	my @rules = read_rules(setting('HP_RULES', "$here/rules"));
	my $player = setting('HP_PLAYER', undef) // built('player');
	my $full = !@ARGV && !%skipped && setting('HP_CHECK_RULES', $ENV{HP_DIRECT} ne $ENV{HP_GATEWAY});
	for my $mode (@modes)
	{
		die "unknown mode \"$mode\"\n" if !$more_options{$mode};
	}
	run_script($player, $_, \@modes, @rules) for grep { !$skipped{ basename($_, '.wire') } } @scripts;
	check_rules(@rules) if $full;
	done_testing();
}

main();
