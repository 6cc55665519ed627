#!/usr/bin/perl
#
# generated.pl: the oracle with conversations nobody has written. Makes each from a seed, in talk with PostgreSQL itself
# (Conversation.pm), plays it directly and through the gateway, and wants the same answers. A difference is made as short as it
# will get, and printed as a script that can be kept in scripts/.
#
# Usage: generated.pl [--seeds 1-50,77] [--fresh] [--seconds N] [--connections N] [--steps N] [--together N] [--repeat N] [--no-shrinking] [--known] [--calm]
#                     [--keep FOLDER]
#   --seeds        these, always
#   --fresh        and then seeds that nobody has tried, while there is time
#   --seconds      stops beginning new ones after that long (60)
#   --connections  of one conversation: 1 to N (1)
#   --steps        of one conversation: how many times it waits for an answer (12)
#   --together     so many conversations at once, each with what it alone may see (1)
#   --repeat       plays of each between one setup and one teardown (1): the second finds a cache warm
#   --shrink       a script that differs, to be made shorter, and nothing else
#   --no-shrinking says that it differs, no more
#   --known        says too what is known to differ and waits for a mend
#   --calm         nothing that may be DDL, so that the gateway knows the catalog all the time: else it shares no links and caches nothing
#   --keep         where scripts that failed are written
#
# Environment: that of run.pl, and
#   HP_SHRINK_SECONDS  how long to try to make a failing script shorter (60)
#   HP_LIVE        conninfo of the origin by its Unix socket, for making conversations
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Conversation;
use Getopt::Long qw(GetOptions);
use Live;
use Oracle;
use Test::More;
use Time::HiRes qw(time);

my %o = (seeds => '', seconds => 60, connections => 1, steps => 12, together => 1, repeat => 1);
my (@rules, $player);
my $patience_in_shrinking = $ENV{HP_SHRINK_SECONDS} // 60;

# ---- one script ----

sub path_of { my ($name) = @_; return scratch() . "/$name.wire"; }

sub options { my ($side) = @_; return ($o{repeat} > 1 ? ('--repeat', $o{repeat}, '--stay', 1) : (), $side eq 'gateway' ? setup_options() : ()); }

sub setup_options
{
	my @way = setting('HP_SETUP', 'direct') eq 'gateway' ? ('--setup', $ENV{HP_GATEWAY}) : ();
	push @way, '--ready', $ENV{HP_READY}, '--ready-query', $ENV{HP_READY_QUERY} if setting('HP_READY', undef);
	return @way;
}

# What a client leaves at the origin when it has gone: nothing runs, no transaction is open.
my $links = "pg_stat_activity where datname = current_database() and client_addr is not null and application_name <> 'hyperpool scout'";

sub something_is_left
{
	my $play = play($player, $ENV{HP_DIRECT}, path_of('left'));
	return if $play->{status} == 0;
	play($player, $ENV{HP_DIRECT}, path_of('clean'));
	return "links are not idle: $play->{errors}";
}

# (did both plays end well and alike, direct, gateway, rules)
sub judge
{
	my ($path) = @_;
	my $direct = play($player, $ENV{HP_DIRECT}, $path, options('direct'));
	note_version(@{ $direct->{lines} });
	my $gateway = play($player, $ENV{HP_GATEWAY}, $path, options('gateway'));
	my @for_it = rules_of_script($path, @rules);
	my $left = something_is_left();
	$gateway->{left} = $left;
	my $alike = !$left && $direct->{status} == 0 && $gateway->{status} == 0 && same(\@for_it, $direct->{lines}, $gateway->{lines});
	return ($alike, $direct, $gateway, \@for_it);
}

# The same, but the machine may have been too slow to answer in time: then once more, with patience.
sub judge_patiently
{
	my ($path) = @_;
	my ($alike, @plays) = judge($path);
	return ($alike, @plays) if $alike || ($plays[0]{status} == 0 && $plays[1]{status} == 0);
	local $ENV{HP_TIMEOUT} = 4 * $ENV{HP_TIMEOUT};
	return judge($path);
}

sub judge_together_patiently
{
	my @bad = judge_together(@_);
	return @bad if !grep { $_->[1]{status} != 0 || $_->[2]{status} != 0 || $_->[2]{left} } @bad;
	local $ENV{HP_TIMEOUT} = 4 * $ENV{HP_TIMEOUT};
	return judge_together(@_);
}

# ---- shrinking ----

sub is_fixed { return $_[0] =~ /^(?:#|setup "(?:drop|create)|teardown|allow|links|connect)/; }

# What went wrong, in short, so that one difference does not turn into another while it is made shorter.
sub signature
{
	my ($direct, $gateway, $for_it) = @_;
	return 'left' if $gateway->{left};
	my ($one, $other) = map { [ normalised($for_it, @{ $_->{lines} }) ] } $direct, $gateway;
	my $i = 0;
	$i++ while $i < @$one && $i < @$other && ($one->[$i] eq $other->[$i] || $one->[$i] =~ /^==/);
	return join ' ', $gateway->{status}, map { /^\w+(. \S+(?: S="\w+".*?C="\w+")?)/ ? $1 : 'end' } map { $_->[$i] // '' } $one, $other;
}

# What is left, if it still fails in the same way.
sub still_fails
{
	my ($signature, $left, @end) = @_;
	my $script = Live::settled($player, $ENV{HP_LIVE}, @$left, @end) or return undef;
	spew(path_of('smaller'), @$script);
	# each try on new links: what the one before has left there is not its doing
	play($player, $ENV{HP_DIRECT}, path_of('clean'));
	my ($alike, @plays) = judge(path_of('smaller'));
	return !$alike && $plays[0]{status} == 0 && signature(@plays) eq $signature ? $left : undef;
}

# Drops runs of lines, long ones first, then shorter ones, as long as it still fails.
sub shrunk
{
	my ($signature, @lines) = @_;
	my $until = time() + $patience_in_shrinking;
	# how it leaves stays as it is: the end of a half-said batch is another matter
	my @end;
	unshift @end, pop @lines while @lines && grep { $_ eq '# leaves' } @lines;
	for (my $size = int(@lines / 2) || 1; $size >= 1; $size = int($size / 2))
	{
		for (my $from = 0; $from < @lines && time() < $until;)
		{
			my %without = map { $_ => 1 } grep { $_ < @lines && !is_fixed($lines[$_]) } $from .. $from + $size - 1;
			my $left = %without ? still_fails($signature, [ map { $without{$_} ? () : $lines[$_] } 0 .. $#lines ], @end) : undef;
			@lines = @$left if $left;
			$from += $size if !$left;
		}
	}
	return (@lines, @end);
}

sub show_plays
{
	my ($direct, $gateway, $for_it) = @_;
	diag("direct: $_") for split /\n/, $direct->{errors};
	diag("gateway: $_") for split /\n/, $gateway->{errors} . ($gateway->{left} // '');
	show_difference([ normalised($for_it, @{ $direct->{lines} }) ], [ normalised($for_it, @{ $gateway->{lines} }) ]);
}

sub show_script
{
	my ($name, $title, @lines) = @_;
	my $script = Live::settled($player, $ENV{HP_LIVE}, @lines) or return diag("$title: it cannot be played alone");
	spew(path_of('smaller'), @$script);
	spew("$o{keep}/$name.wire", @$script) if $o{keep};
	diag("$title:", map { "\n    $_" } @$script);
	my ($alike, @plays) = judge(path_of('smaller'));
	show_plays(@plays) if !$alike;
}

# ---- one seed ----

sub conversation
{
	my ($seed) = @_;
	my $live = Live->new($player, $ENV{HP_LIVE});
	my $c = Conversation->new(seed => $seed, live => $live, known => $o{known}, calm => $o{calm}, steps => $o{steps}, connections => 1 + $seed % $o{connections});
	my @script = eval { $c->talk };
	warn "seed $seed: $@" if $@ && $ENV{HP_VERBOSE};
	return undef if !@script;
	$live->finish or return undef;
	spew(path_of($seed), @script);
	write_parts($seed, @script);
	return $c;
}

sub try_alone
{
	my ($seed) = @_;
	my $c = conversation($seed) or return 'waits for itself';
	my ($alike, @plays) = judge_patiently(path_of($seed));
	return 'alike' if $alike;
	ok(0, "seed $seed: " . signature(@plays));
	show_plays(@plays);
	spew("$o{keep}/seed_${seed}_whole.wire", @{ $c->{script} }) if $o{keep};
	return 'differs' if $o{'no-shrinking'};
	show_script("seed_$seed", "seed $seed, as short as it got", shrunk(signature(@plays), @{ $c->{lines} }));
	return 'differs';
}

sub shrink_script
{
	my ($path) = @_;
	my @lines = map { /^(?:expect .*|send)$/ ? 'settle' : $_ } split /\n/, slurp($path);
	my ($alike, @plays) = judge($path);
	ok($alike, $path) and return;
	show_script('shrunk', 'as short as it got', shrunk(signature(@plays), @lines));
}

# ---- several at once ----

# The script in three: what is made for it, what it says, and what is taken away again.
sub write_parts
{
	my ($seed, @script) = @_;
	spew(path_of("$seed.before"), grep { /^setup/ } @script);
	spew(path_of("$seed.talk"), grep { !/^(?:setup|teardown)/ } @script);
	spew(path_of("$seed.after"), map { s/^teardown/setup/r } grep { /^teardown/ } @script);
}

# Everybody's, one after the other, by the way of the gateway's clients.
sub prepare
{
	my ($part, @seeds) = @_;
	for my $seed (@seeds)
	{
		my $play = play($player, $ENV{HP_DIRECT}, path_of("$seed.$part"), '--repeat', 1, setup_options());
		warn "seed $seed, $part: $play->{errors}" if $play->{status} != 0;
	}
}

# Starts a play and gives what it will print.
sub start_play
{
	my ($seed) = @_;
	my $errors = scratch() . "/$seed.errors";
	my @command = player_command($player, $ENV{HP_GATEWAY}, path_of("$seed.talk"), '--repeat', $o{repeat}, '--stay', 1);
	my $pid = open(my $out, '-|') // die "fork: $!\n";
	return $out if $pid;
	open(STDERR, '>', $errors);
	exec @command;
	exit 3;
}

# Plays each through the gateway at the same time; those whose answers differ, with what was played.
sub judge_together
{
	my (@seeds) = @_;
	prepare('before', @seeds);
	my %running = map { $_ => start_play($_) } @seeds;
	my %play;
	for my $seed (@seeds)
	{
		my $out = $running{$seed};
		chomp(my @lines = <$out>);
		close $out;
		$play{$seed} = { lines => \@lines, status => $?, errors => slurp(scratch() . "/$seed.errors") };
	}
	my $left = something_is_left();
	prepare('after', @seeds);
	my @bad;
	for my $seed (@seeds)
	{
		my $direct = play($player, $ENV{HP_DIRECT}, path_of($seed), options('direct'));
		my @for_it = rules_of_script(path_of($seed), @rules);
		$play{$seed}{left} = $left;
		next if !$left && $play{$seed}{status} == 0 && same(\@for_it, $direct->{lines}, $play{$seed}{lines});
		push @bad, [ $seed, $direct, $play{$seed}, \@for_it ];
	}
	return @bad;
}

sub fails_together
{
	my ($bad, @others) = @_;
	for (1 .. 3)
	{
		return 1 if grep { $_->[0] == $bad } judge_together($bad, @others);
	}
	return 0;
}

# The fewest companions with which it still fails.
sub company_of
{
	my ($bad, @others) = @_;
	my $until = time() + $patience_in_shrinking;
	for my $one (@others)
	{
		my @left = grep { $_ != $one } @others;
		@others = @left if time() < $until && fails_together($bad, @left);
	}
	return @others;
}

sub explain_together
{
	my ($seeds, $conversations, $bad) = @_;
	my ($seed, $direct, $gateway, $for_it) = @$bad;
	show_plays($direct, $gateway, $for_it);
	my ($alike, @plays) = judge(path_of($seed));
	return show_script("seed_$seed", 'it differs alone too; as short as it got', shrunk(signature(@plays), @{ $conversations->{$seed}{lines} })) if !$alike;
	my @others = company_of($seed, grep { $_ != $seed } @$seeds);
	diag("with @others at the same time; not alone");
	spew("$o{keep}/together_${seed}_$_.wire", split /\n/, slurp(path_of($_))) for $o{keep} ? ($seed, @others) : ();
}

sub try_together
{
	my (@seeds) = @_;
	my %conversations = map { $_ => conversation($_) } @seeds;
	@seeds = grep { $conversations{$_} } @seeds;
	my @bad = judge_together_patiently(@seeds) or return 'alike';
	ok(0, "seed $_->[0], among @seeds: " . signature(@$_[1 .. 3])) for @bad;
	return 'differ' if $o{'no-shrinking'};
	explain_together(\@seeds, \%conversations, $_) for @bad;
	return 'differ';
}

# ---- all ----

sub seeds
{
	return map { /^(\d+)-(\d+)$/ ? ($1 .. $2) : $_ } split /,/, $o{seeds};
}

# The next ones to try at once.
sub next_seeds
{
	my ($seeds, $fresh) = @_;
	my @next = splice @$seeds, 0, $o{together};
	push @next, $$fresh++ while !@$seeds && @next < $o{together} && $o{fresh};
	return @next;
}

sub main
{
	GetOptions(\%o, 'seeds=s', 'fresh', 'seconds=i', 'connections=i', 'steps=i', 'together=i', 'repeat=i', 'keep=s', 'known', 'no-shrinking', 'shrink=s', 'calm') or die "see the head of $0\n";
	@rules = map { -e $_ ? read_rules($_) : () } setting('HP_RULES', "$FindBin::RealBin/rules"), "$FindBin::RealBin/known/rules";
	$player = setting('HP_PLAYER', undef) // compiled('player');
	$ENV{HP_TIMEOUT} //= 5000;
	$ENV{HP_CONTROL} = $ENV{HP_LIVE};
	spew(path_of('left'), qq{wait "select count(*) from $links and state <> 'idle'" "0"});
	spew(path_of('clean'), qq{control "select pg_terminate_backend(pid) from $links"}, qq{wait "select count(*) from $links" "0"});
	if ($o{shrink})
	{
		shrink_script($o{shrink});
		return done_testing();
	}
	my $ends = time() + $o{seconds};
	my $fresh = 1000 + int(rand 2**31);
	my @seeds = seeds();
	my %count;
	while (@seeds || ($o{fresh} && time() < $ends))
	{
		my @now = next_seeds(\@seeds, \$fresh);
		$count{ $o{together} > 1 ? try_together(@now) : try_alone(@now) }++;
		unlink map { path_of($_), path_of("$_.before"), path_of("$_.talk"), path_of("$_.after") } @now;
	}
	diag(join ', ', map { "$count{$_} $_" } sort keys %count);
	ok($count{alike}, 'conversations were had');
	done_testing();
}

main();
