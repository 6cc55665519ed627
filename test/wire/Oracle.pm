# Oracle: plays scripts, and says whether two traces are the same but for the rules.
#
# It owns the table of rules, which of them was needed, and a temporary folder; it never decides what a test is.
# The environment is that of run.pl.
package Oracle;

use strict;
use warnings;
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use Test::More ();

our @EXPORT = qw(setting slurp spew scratch built read_rules rules_of_script is_for_origin note_version normalised same note_needed was_needed
  player_command play show_difference);

my $here = dirname(__FILE__);
my $scratch;
my %needed;
my $version;

sub setting
{
	my ($name, $otherwise) = @_;
	my $value = $ENV{$name};
	return defined $value && $value ne '' ? $value : $otherwise;
}

sub slurp
{
	my ($path) = @_;
	open(my $file, '<', $path) or die "$path: $!\n";
	local $/;
	my $text = <$file>;
	return defined $text ? $text : '';
}

sub spew
{
	my ($path, @lines) = @_;
	open(my $file, '>', $path) or die "$path: $!\n";
	print $file map { "$_\n" } @lines;
	close $file;
}

sub scratch { return $scratch //= tempdir(CLEANUP => 1); }

# The path of a program of this folder, made from its source.
# A program of the Makefile.
sub built
{
	my ($name) = @_;
	my $top = "$here/../..";
	system('make', '-s', '-C', $top, "build/$name") == 0 or die "$name does not compile\n";
	return "$top/build/$name";
}

# ---- rules ----

sub read_rules
{
	my ($path) = @_;
	my @rules;
	for my $block (split /\n\s*\n/, slurp($path))
	{
		my %rule = $block =~ /^(\w+): (.*)$/mg or next;
		die "$path: rule \"$rule{rule}\" lacks a field\n"
		  if grep { !defined $rule{$_} } qw(rule scope kind match why);
		die "$path: rule \"$rule{rule}\": unknown kind \"$rule{kind}\"\n"
		  if $rule{kind} !~ /^(mask|cut|number|drop|sort)$/;
		$rule{match} = qr/$rule{match}/;
		push @rules, \%rule;
	}
	return @rules;
}

# The origin's major version, as it tells at login.
sub note_version
{
	for my $line (@_)
	{
		$version //= $1 if $line =~ /^\w+< S server_version = "(\d+)/;
	}
}

sub is_for_origin
{
	my ($rule) = @_;
	return !defined $version || (($rule->{from} // 0) <= $version && $version <= ($rule->{until} // $version));
}

# The captured part of each match becomes whatever $replace makes of it.
sub replace_captures
{
	my ($line, $match, $replace) = @_;
	my $result = '';
	my $from = 0;
	while ($line =~ /$match/g)
	{
		next if !defined $1;
		$result .= substr($line, $from, $-[1] - $from) . $replace->($1);
		$from = $+[1];
	}
	return $result . substr($line, $from);
}

sub sort_runs
{
	my ($match, @lines) = @_;
	my (@result, @run);
	for my $line (@lines)
	{
		if ($line =~ $match)
		{
			push @run, $line;
			next;
		}
		push @result, sort(@run), $line;
		@run = ();
	}
	return (@result, sort @run);
}

sub apply_rule
{
	my ($rule, @lines) = @_;
	my $match = $rule->{match};
	my %numbers;
	return grep { $_ !~ $match } @lines if $rule->{kind} eq 'drop';
	return sort_runs($match, @lines) if $rule->{kind} eq 'sort';
	my %replace = (
		mask => sub { '*' },
		cut => sub { '' },
		number => sub { '#' . ($numbers{ $_[0] } //= 1 + keys %numbers) },
	);
	return map { replace_captures($_, $match, $replace{ $rule->{kind} }) } @lines;
}

sub normalised
{
	my ($rules, @lines) = @_;
	@lines = apply_rule($_, @lines) for @$rules;
	return @lines;
}

sub same
{
	my ($rules, $one, $other) = @_;
	return join("\n", normalised($rules, @$one)) eq join("\n", normalised($rules, @$other));
}

# A rule was needed if the traces differ without it.
sub note_needed
{
	my ($rules, $one, $other) = @_;
	for my $rule (@$rules)
	{
		next if $needed{ $rule->{rule} };
		my @others = grep { $_ != $rule } @$rules;
		$needed{ $rule->{rule} } = 1 if !same(\@others, $one, $other);
	}
}

sub was_needed { my ($rule) = @_; return $needed{ $rule->{rule} }; }

sub rules_of_script
{
	my ($script, @rules) = @_;
	my %allowed = map { $_ => 1 } map { split ' ' } slurp($script) =~ /^allow (.*)$/mg;
	my %known = map { $_->{rule} => 1 } @rules;
	die "$script: allows unknown rule \"$_\"\n" for grep { !$known{$_} } sort keys %allowed;
	return grep { is_for_origin($_) && ($_->{scope} eq 'global' || $allowed{ $_->{rule} }) } @rules;
}

# ---- plays ----

sub player_command
{
	my ($player, $target, $script, @options) = @_;
	return (
		$player, '--target', $target, '--control', setting('HP_CONTROL', $ENV{HP_DIRECT}),
		'--repeat', setting('HP_REPEAT', 1), '--timeout', setting('HP_TIMEOUT', 10000),
		@options, $script);
}

sub play
{
	my @command = player_command(@_);
	my $errors = scratch() . '/errors';
	open(my $saved, '>&', \*STDERR) or die "dup: $!\n";
	open(STDERR, '>', $errors) or die "$errors: $!\n";
	my $started = open(my $out, '-|', @command);
	open(STDERR, '>&', $saved) or die "dup: $!\n";
	die "player: $!\n" if !$started;
	chomp(my @lines = <$out>);
	close $out;
	my $status = $?;
	return { lines => \@lines, status => $status, errors => slurp($errors) };
}

sub show_difference
{
	my ($direct, $gateway) = @_;
	my $folder = scratch();
	spew("$folder/direct", @$direct);
	spew("$folder/gateway", @$gateway);
	my @diff = map { substr($_, 0, 300) } split /\n/, `diff -U4 -L direct -L gateway $folder/direct $folder/gateway`;
	@diff = (@diff[ 0 .. 59 ], '(more differences left out)') if @diff > 60;
	Test::More::diag($_) for @diff;
}

1;
