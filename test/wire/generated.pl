#!/usr/bin/perl
#
# generated.pl: the oracle with conversations nobody has written. Makes each from a seed, in talk with PostgreSQL itself
# (Conversation.pm), plays it directly and by each way through the gateway, and wants the same answers. A difference is made as
# short as it will get, and printed as a script that can be kept in scripts/.
#
# Usage: generated.pl [--seeds 1-50,77] [--fresh N] [--seconds N] [--through CONNINFO …] [--connections N] [--steps N] [--together N] [--repeat N]
#                     [--calm] [--known] [--first] [--keep FOLDER] | --shrink SCRIPT
#   --seeds        these, always
#   --fresh        and then seeds from N on, while there is time
#   --seconds      stops beginning fresh ones after that long (60)
#   --through      a way through the gateway (HP_GATEWAY); several: what is made from a seed is played by each
#   --connections  of one conversation: 1 to N (1)
#   --steps        of one conversation: how many times it waits for an answer (12)
#   --together     so many conversations at once, each with what it alone may see (1)
#   --repeat       plays of each between one setup and one teardown (1): the second finds a cache warm
#   --calm         nothing that may be DDL, so that the gateway knows the catalog all the time: else it shares no links and caches nothing
#   --known        says too what is known to differ and waits for a mend
#   --first        ends with the first that differs; without patience, and without making it shorter
#   --keep         where scripts that failed are written
#   --shrink       a script that differs, to be made shorter, and nothing else
#
# Environment: that of run.pl (in HP_READY_QUERY, %s is the database of the way), and
#   HP_SHRINK_SECONDS  how long to try to make a failing script shorter (60); the first three that fail
#   HP_LIVE        conninfo of the origin by its Unix socket, for making conversations
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Conversation;
use Getopt::Long qw(GetOptions);
use List::Util qw(max min);
use Live;
use Oracle;
use Test::More;
use Time::HiRes qw(time);

my %o = (seeds => '', seconds => 60, connections => 1, steps => 12, together => 1, repeat => 1);
my (@rules, $player, %count);
our @through;
my $patience_in_shrinking = $ENV{HP_SHRINK_SECONDS} // 60;
my $may_be_shrunk = 3;

# ---- one script ----

sub path_of { my ($name) = @_; return scratch() . "/$name.wire"; }

sub repeated { return $o{repeat} > 1 ? ('--repeat', $o{repeat}, '--stay', 1) : (); }

sub name_of { my ($through) = @_; return $through =~ /\bdbname=(\S+)/ ? $1 : $through; }

# How what is made for a play gets to the origin, and how the gateway is told of it.
sub setup_options
{
	my ($through) = @_;
	my @way = setting('HP_SETUP', 'direct') eq 'gateway' ? ('--setup', $through) : ();
	push @way, '--ready', $ENV{HP_READY}, '--ready-query', $ENV{HP_READY_QUERY} =~ s/%s/name_of($through)/er if setting('HP_READY', undef);
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

# What PostgreSQL itself says comes at once, or, when it is asked again, perhaps not at all: with many it is this that takes the time.
sub patience_for_direct { return $o{repeat} > 1 ? 1000 : max(3000, $ENV{HP_TIMEOUT}); }

sub play_direct
{
	my ($path) = @_;
	local $ENV{HP_TIMEOUT} = patience_for_direct();
	return play($player, $ENV{HP_DIRECT}, $path, repeated());
}

# Does the script wait for what will not come the second time, such as the success of an insert? Then nothing is said about it.
sub cannot_be_repeated { my ($direct) = @_; return $o{repeat} > 1 && $direct->{status} != 0; }

sub are_alike
{
	my ($direct, $gateway, $for_it) = @_;
	return !$gateway->{left} && $direct->{status} == 0 && $gateway->{status} == 0 && same($for_it, $direct->{lines}, $gateway->{lines});
}

# (did the plays end well and alike, direct, gateway, rules), by the first way where they did not; undef: it cannot be played.
sub judge
{
	my ($path) = @_;
	my $direct = play_direct($path);
	return undef if cannot_be_repeated($direct);
	note_version(@{ $direct->{lines} });
	my @for_it = rules_of_script($path, @rules);
	my $gateway;
	for my $through (@through)
	{
		$gateway = play($player, $through, $path, repeated(), setup_options($through));
		@$gateway{qw(way left)} = ($through, something_is_left());
		return (0, $direct, $gateway, \@for_it) if !are_alike($direct, $gateway, \@for_it);
	}
	return (1, $direct, $gateway, \@for_it);
}

# The same, but the machine may have been too slow to answer in time: then once more, with patience.
sub judge_patiently
{
	my ($path) = @_;
	my ($alike, @plays) = judge($path);
	return ($alike, @plays) if $alike || !@plays || $o{first} || ($plays[0]{status} == 0 && $plays[1]{status} == 0);
	local $ENV{HP_TIMEOUT} = 4 * $ENV{HP_TIMEOUT};
	return judge($path);
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

# What is left, if it still fails in the same way, in so many tries.
sub still_fails
{
	my ($tries, $signature, $left, @end) = @_;
	my $script = Live::settled($player, $ENV{HP_LIVE}, @$left, @end) or return undef;
	spew(path_of('smaller'), @$script);
	for (1 .. $tries)
	{
		# each on new links: what the one before has left there is not its doing
		play($player, $ENV{HP_DIRECT}, path_of('clean'));
		my ($alike, @plays) = judge(path_of('smaller'));
		return $left if defined $alike && !$alike && $plays[0]{status} == 0 && signature(@plays) eq $signature;
	}
	return undef;
}

# Drops runs of lines, long ones first, then shorter ones, as long as it still fails.
sub shrunk
{
	my ($signature, @lines) = @_;
	my $until = time() + $patience_in_shrinking;
	# how it leaves stays as it is: the end of a half-said batch is another matter
	my @end;
	unshift @end, pop @lines while @lines && grep { $_ eq '# leaves' } @lines;
	local $ENV{HP_TIMEOUT} = min(1500, $ENV{HP_TIMEOUT});
	my $tries = (2 == grep { still_fails(1, $signature, \@lines, @end) } 1 .. 2) ? 1 : 4;
	for (my $size = int(@lines / 2) || 1; $size >= 1; $size = int($size / 2))
	{
		for (my $from = 0; $from < @lines && time() < $until;)
		{
			my %without = map { $_ => 1 } grep { $_ < @lines && !is_fixed($lines[$_]) } $from .. $from + $size - 1;
			my $left = %without ? still_fails($tries, $signature, [ map { $without{$_} ? () : $lines[$_] } 0 .. $#lines ], @end) : undef;
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
	show_plays(@plays) if @plays && !$alike;
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
	spew(path_of("$seed.talk"), grep { !/^(?:setup|teardown)/ } @script);
	return $c;
}

sub try_alone
{
	my ($seed) = @_;
	my $c = conversation($seed) or return $count{'wait for themselves'}++;
	my ($alike, @plays) = judge_patiently(path_of($seed));
	return $count{ defined $alike ? 'alike' : 'cannot be repeated' }++ if !@plays || $alike;
	$count{differ}++;
	ok(0, "seed $seed by " . name_of($plays[1]{way}) . ': ' . signature(@plays));
	return if $o{first} || --$may_be_shrunk < 0;
	show_plays(@plays);
	spew("$o{keep}/seed_${seed}_whole.wire", @{ $c->{script} }) if $o{keep};
	local @through = ($plays[1]{way});
	show_script("seed_$seed", "seed $seed, as short as it got", shrunk(signature(@plays), @{ $c->{lines} }));
	return;
}

sub shrink_script
{
	my ($path) = @_;
	my @lines = map { /^(?:expect .*|send)$/ ? 'settle' : $_ } split /\n/, slurp($path);
	my ($alike, @plays) = judge($path);
	ok($alike, $path) and return;
	return diag('it cannot be repeated') if !@plays;
	show_script('shrunk', 'as short as it got', shrunk(signature(@plays), @lines));
}

# ---- several at once ----

# What everybody's script needs, made or taken away again by the way of the gateway's clients.
sub prepare
{
	my ($part, $through, @seeds) = @_;
	spew(path_of($part), map { s/^teardown/setup/r } grep { /^$part/ } map { split /\n/, slurp(path_of($_)) } @seeds);
	my $play = play($player, $ENV{HP_DIRECT}, path_of($part), '--repeat', 1, setup_options($through));
	warn "@seeds, $part: $play->{errors}" if $play->{status} != 0;
}

# Starts a play and gives what it will print.
sub start_play
{
	my ($target, $name) = @_;
	my @command = player_command($player, $target, path_of($name), '--repeat', $o{repeat}, '--stay', 1);
	my $pid = open(my $out, '-|') // die "fork: $!\n";
	return $out if $pid;
	open(STDERR, '>', scratch() . "/$name.errors");
	exec @command;
	exit 3;
}

# Plays all at the same time; gives the plays, in order.
sub plays_at_once
{
	my ($target, @names) = @_;
	my @running = map { start_play($target, $_) } @names;
	my @plays;
	for my $i (0 .. $#names)
	{
		my $out = $running[$i];
		chomp(my @lines = <$out>);
		close $out;
		push @plays, { lines => \@lines, status => $?, errors => slurp(scratch() . "/$names[$i].errors"), way => $target };
	}
	return @plays;
}

# Those whose answers differ when all are played at once, with what was played. direct: by seed, what PostgreSQL itself has said.
sub judge_together_by
{
	my ($through, $direct, @seeds) = @_;
	prepare('setup', $through, @seeds);
	my @plays = plays_at_once($through, map { "$_.talk" } @seeds);
	my $left = something_is_left();
	prepare('teardown', $through, @seeds);
	my @bad;
	for my $i (0 .. $#seeds)
	{
		my @for_it = rules_of_script(path_of($seeds[$i]), @rules);
		$plays[$i]{left} = $left;
		push @bad, [ $seeds[$i], $direct->{ $seeds[$i] }, $plays[$i], \@for_it ] if !are_alike($direct->{ $seeds[$i] }, $plays[$i], \@for_it);
	}
	return @bad;
}

# The same by every way; where the machine may have been too slow, once more.
sub judge_together
{
	my ($direct, @seeds) = @_;
	my @all;
	for my $through (@through)
	{
		my @bad = judge_together_by($through, $direct, @seeds);
		if (!$o{first} && grep { $_->[2]{status} != 0 || $_->[2]{left} } @bad)
		{
			local $ENV{HP_TIMEOUT} = 4 * $ENV{HP_TIMEOUT};
			@bad = judge_together_by($through, $direct, @seeds);
		}
		push @all, @bad;
		last if @bad && $o{first};
	}
	return @all;
}

sub fails_together
{
	my ($direct, $bad, @others) = @_;
	for (1 .. 3)
	{
		return 1 if grep { $_->[0] == $bad } judge_together($direct, $bad, @others);
	}
	return 0;
}

# The fewest companions with which it still fails.
sub company_of
{
	my ($direct, $bad, @others) = @_;
	my $until = time() + $patience_in_shrinking;
	for my $one (@others)
	{
		my @left = grep { $_ != $one } @others;
		@others = @left if time() < $until && fails_together($direct, $bad, @left);
	}
	return @others;
}

sub explain_together
{
	my ($conversations, $direct, $seeds, $bad) = @_;
	my ($seed, @plays) = @$bad;
	local @through = ($plays[1]{way});
	show_plays(@plays);
	my ($alike, @alone) = judge(path_of($seed));
	return show_script("seed_$seed", "seed $seed differs alone too; as short as it got", shrunk(signature(@alone), @{ $conversations->{$seed}{lines} })) if @alone && !$alike;
	my @others = company_of($direct, $seed, grep { $_ != $seed } @$seeds);
	diag("with @others at the same time; not alone");
	spew("$o{keep}/together_${seed}_$_.wire", split /\n/, slurp(path_of($_))) for $o{keep} ? ($seed, @others) : ();
}

# The conversations of those that can be had, and what PostgreSQL itself says in them.
sub conversations
{
	my (@seeds) = @_;
	my %conversations = map { my $c = conversation($_); $c ? ($_ => $c) : () } @seeds;
	my @had = grep { $conversations{$_} } @seeds;
	local $ENV{HP_TIMEOUT} = patience_for_direct();
	my %direct;
	@direct{@had} = plays_at_once($ENV{HP_DIRECT}, @had);
	my @again = grep { !cannot_be_repeated($direct{$_}) } @had;
	note_version(@{ $direct{ $again[0] }{lines} }) if @again;
	$count{'wait for themselves'} += @seeds - @had if @seeds > @had;
	$count{'cannot be repeated'} += @had - @again if @had > @again;
	return (\%conversations, \%direct, @again);
}

sub try_together
{
	my ($conversations, $direct, @seeds) = conversations(@_);
	my @bad = judge_together($direct, @seeds);
	my %bad = map { $_->[0] => 1 } @bad;
	$count{alike} += grep { !$bad{$_} } @seeds;
	$count{differ} += keys %bad if %bad;
	ok(0, "seed $_->[0], among @seeds, by " . name_of($_->[2]{way}) . ': ' . signature(@$_[1 .. 3])) for @bad;
	for (@bad)
	{
		explain_together($conversations, $direct, \@seeds, $_) if !$o{first} && --$may_be_shrunk >= 0;
	}
	return;
}

# ---- all ----

sub seeds
{
	return map { /^(\d+)-(\d+)$/ ? ($1 .. $2) : $_ } split /,/, $o{seeds};
}

# The next ones to try at once.
sub next_seeds
{
	my ($seeds) = @_;
	my @next = splice @$seeds, 0, $o{together};
	push @next, $o{fresh}++ while !@$seeds && @next < $o{together} && $o{fresh};
	return @next;
}

sub try_all
{
	my $ends = time() + $o{seconds};
	my @seeds = seeds();
	while (@seeds || ($o{fresh} && time() < $ends))
	{
		my @now = next_seeds(\@seeds);
		$o{together} > 1 ? try_together(@now) : try_alone(@now);
		unlink map { path_of($_), path_of("$_.talk") } @now;
		last if $o{first} && $count{differ};
	}
	diag(join ', ', map { "$count{$_} $_" } sort keys %count);
	ok($count{alike} || $count{differ} || $o{first}, 'conversations were had');
}

sub main
{
	GetOptions(\%o, 'seeds=s', 'fresh=i', 'seconds=i', 'through=s@', 'connections=i', 'steps=i', 'together=i', 'repeat=i', 'keep=s', 'known', 'first',
		'shrink=s', 'calm') or die "see the head of $0\n";
	@through = @{ $o{through} // [ setting('HP_GATEWAY', undef) // die "HP_GATEWAY must be set\n" ] };
	@rules = map { -e $_ ? read_rules($_) : () } setting('HP_RULES', "$FindBin::RealBin/rules"), "$FindBin::RealBin/known/rules";
	$player = setting('HP_PLAYER', undef) // built('player');
	$ENV{HP_TIMEOUT} //= 5000;
	$ENV{HP_CONTROL} = $ENV{HP_LIVE};
	spew(path_of('left'), qq{wait "select count(*) from $links and state <> 'idle'" "0"});
	spew(path_of('clean'), qq{control "select pg_terminate_backend(pid) from $links"}, qq{wait "select count(*) from $links" "0"});
	$o{shrink} ? shrink_script($o{shrink}) : try_all();
	done_testing();
}

main();
