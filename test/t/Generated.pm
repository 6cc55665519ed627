# Generated: the oracle with clients that nobody has written, for 081_wire_generated and make soak.
#
# It answers: do conversations made from seeds (test/wire/generated.pl) get by each way through a gateway what PostgreSQL itself answers, and do many clients
# at once, each of which knows what it must be told (test/wire/tokens.c), get just that? It owns an origin, a gateway with an origin of its own for each way
# (one, two and eight links; shared or not; cached or not), perhaps a second gateway in front of it, and what has been compiled. SEED says from where on seeds are new, so that a run can be repeated.
# It never counts on the machine's being quick: what must have happened is waited for.
package Generated;

use strict;
use warnings;

use File::Basename qw(dirname);
use Gateway;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our $wire = dirname(__FILE__) . '/../wire';

# links: of the ways (one, two and eight); relay: there is a way more, whose links can be reset; chain: and one through two gateways.
sub new
{
	my ($class, %o) = @_;
	my $gateway = Gateway->new(create => 0, relay => $o{relay}, rtt => 0);
	my $self = bless { gateway => $gateway, origin => $gateway->{origin}, region => $gateway->{region} }, $class;

	$_->safe_psql('postgres', 'CREATE ROLE wire SUPERUSER LOGIN') for $self->{origin}, $self->{region};
	$self->{origin}->safe_psql('postgres', 'CREATE DATABASE wire OWNER wire');
	for my $links (@{ $o{links} // [ 1, 2, 8 ] })
	{
		for my $share (0, 1)
		{
			push @{ $self->{ways} }, $self->way(links => $links, share => $share, cached => $_) for 0, 1;
		}
	}
	$self->{by_relay} = $self->way(links => 8, share => 1, cached => 1, relay => 1) if $o{relay};
	$self->{by_chain} = $self->chain(links => 8, share => 1, cached => 1) if $o{chain};
	$self->environment;
	$self->run($ENV{HP_TOKENS}, '--direct', $ENV{HP_LIVE}, '--setup');
	return $self;
}

# From where on seeds are new in this run (in CI always the same). Said aloud, so that it can be repeated.
sub fresh_seed
{
	my $fresh = $ENV{SEED} // ($ENV{CI} ? 1000 : 1000 + int rand 2**31);	# what lands is not to hang on chance
	diag("new seeds from $fresh on; SEED=$fresh repeats them");
	return $fresh;
}

# ---- ways through the gateway: an origin each ----

sub conninfo { my ($port, $database) = @_; return "host=127.0.0.1 port=$port dbname=$database user=wire"; }

sub way
{
	my ($self, %way) = @_;
	my $gateway = $self->{gateway};
	my $name = join '_', "links$way{links}", $way{share} ? 'shared' : (), $way{cached} ? 'cached' : (), $way{relay} ? 'relay' : ();
	my $from = conninfo($way{relay} ? $gateway->{relay_port} : $self->{origin}->port, 'wire');
	my $options = join ', ', "pool_size => $way{links}", 'allow_trust => true', "queue_timeout => '2min'", map { "$_->[0] => " . ($_->[1] ? 'true' : 'false') }
	  [ cache => $way{cached} ], [ share => $way{share} ];
	$gateway->sql("SELECT hyperpool.create_origin('$name', '$from', $options)");
	return { %way, name => $name, through => conninfo($gateway->{port}, $name), gateway => $gateway };
}

# Through a second gateway, whose origin is a way of the first.
sub chain
{
	my ($self, %way) = @_;
	my $front = Gateway->new(create => 0, endpoint => $self->{gateway}, name => 'front');
	my ($behind) = $self->ways(%way);
	$front->{region}->safe_psql('postgres', 'CREATE ROLE wire SUPERUSER LOGIN');
	$front->sql("SELECT hyperpool.create_origin('chain', '$behind->{through}', pool_size => 20, allow_trust => true, queue_timeout => '2min')");
	return { %way, name => 'chain', through => conninfo($front->{port}, 'chain'), gateway => $front, behind => $behind };
}

# Those of which all that is asked is so: ways(links => 8, cached => 0)
sub ways
{
	my ($self, %like) = @_;
	return grep { my $way = $_; !grep { $way->{$_} != $like{$_} } keys %like } @{ $self->{ways} };
}

sub names { return join ', ', map { $_->{name} } @_; }

sub count_of { my ($self, $way, $counter) = @_; return $way->{gateway}->sql("SELECT $counter FROM hyperpool.stat_origins WHERE origin = '$way->{name}'"); }

# Has each been used for what it is there for?
sub are_used
{
	my ($self, @ways) = @_;
	return !grep { ($_->{share} && $self->count_of($_, 'shared') < 20) || ($_->{cached} && $self->count_of($_, 'cache_hit') < 20) } @ways;
}

# ---- programs ----

sub environment
{
	my ($self) = @_;
	$ENV{HP_DIRECT} = conninfo($self->{origin}->port, 'wire');
	$ENV{HP_LIVE} = 'host=' . $self->{origin}->host . ' port=' . $self->{origin}->port . ' dbname=wire user=wire';
	$ENV{HP_TIMEOUT} = 10000;
	return;
}

# (exit status, what it printed)
sub run
{
	my ($self, @command) = @_;
	my $output = '';
	IPC::Run::run(\@command, '<', \undef, '>&', \$output);
	return ($? >> 8, $output);
}

# So that an origin with a cache, or shared links, knows the tables before each play: the second finds answers, and statements that are known to be quick.
sub known_before
{
	my ($self, $gateway) = @_;
	my $region = $gateway->{region};
	return (HP_SETUP => 'gateway', HP_READY => 'host=' . $region->host . ' port=' . $region->port . ' dbname=postgres user=wire',
		HP_READY_QUERY => q{select hyperpool.refresh_catalog('%s', '1 min')});
}

# ---- conversations ----

sub generated
{
	my ($self, $ways, @options) = @_;
	my %known = (grep { $_->{cached} || $_->{share} } @$ways) ? $self->known_before($ways->[0]{gateway}) : ();
	local @ENV{ keys %known } = values %known;
	return $self->run('perl', "$wire/generated.pl", (map { ('--through', $_->{through}) } @$ways), '--keep', $ENV{TESTLOGDIR} // PostgreSQL::Test::Utils::tempdir(),
		%known ? ('--repeat', 3) : (), @options);
}

# What differs is printed as a script.
sub is_alike
{
	my ($self, $what, $ways, @options) = @_;
	my ($status, $output) = $self->generated($ways, @options);
	my ($summary) = $output =~ /^# (\d+ .*)$/m;
	ok($status == 0, "$what, by " . names(@$ways) . ': ' . ($summary // 'nothing')) or diag($output);
	return;
}

# Scripts that are there.
sub plays_alike
{
	my ($self, $what, $way, $mode, @scripts) = @_;
	my %known = $way->{cached} || $way->{share} ? $self->known_before($way->{gateway}) : ();
	s/%s/$way->{name}/ for values %known;
	local @ENV{ keys %known } = values %known;
	local @ENV{qw(HP_GATEWAY HP_MODES HP_LINKS)} = ($way->{through}, $mode, $way->{links});
	my ($status, $output) = $self->run('perl', "$wire/run.pl", @scripts);
	my $good = () = $output =~ /^ok (?!.*# skip)/mg;
	ok($status == 0 && $good == @scripts, "$what, by $way->{name}: $good of " . @scripts . ' are alike') or diag($output);
	return;
}

# ---- clients that know their answers ----

sub clients
{
	my ($self, $ways, @options) = @_;
	$_->{gateway}->learn($_->{name}) for grep { $_ } map { ($_->{behind}, $_) } @$ways;
	return $self->run($ENV{HP_TOKENS}, '--direct', $ENV{HP_LIVE}, (map { ('--through', $_->{through}) } @$ways), '--patience', 60000, @options);
}

# For so many seconds, and on until it was enough, for three minutes at most. enough: of the sums of what has been counted.
sub are_told_right
{
	my ($self, $what, $ways, $seed, $seconds, $enough, @options) = @_;
	my $until = time() + 180 + $seconds;
	my (%sum, $status, $output);
	do
	{
		($status, $output) = $self->clients($ways, '--seed', $seed, '--seconds', $seconds, @options);
		$sum{$1} += $2 while $output =~ /^(\w+) (\d+)$/mg;
		$seed++;
	} while ($status == 0 && !$enough->(%sum) && time() < $until);
	my $counts = join ', ', map { "$_ $sum{$_}" } sort grep { $sum{$_} } keys %sum;
	ok($status == 0 && $sum{answered} && $enough->(%sum), "$what, by " . names(@$ways) . ": $counts (seed " . ($seed - 1) . ')') or diag($output);
	return;
}

# ---- broken on purpose ----

sub break
{
	my ($self, $fault) = @_;
	$self->{region}->append_conf('postgresql.conf', "hyperpool.test_fault = '$fault'\n");
	$self->{region}->restart;
	$self->{gateway}->wait_for('SELECT healthy FROM hyperpool.status()', 't');
	return;
}

# Every kind of client tells that something is wrong.
sub is_caught
{
	my ($self, $fault, @ways) = @_;
	$self->break($fault);
	local $ENV{HP_TIMEOUT} = 500;
	for my $way (@ways)
	{
		for my $mode ($way->{links} > 2 ? [ 'one client of several connections', '--connections', 3, '--seeds', '1-12' ] : (),
			[ 'six clients', '--together', 6, '--seeds', '1-6' ], [ 'six quiet clients', '--together', 6, '--calm', '--seeds', '1-6' ])
		{
			my ($who, @options) = @$mode;
			my ($status, $output) = $self->generated([$way], '--first', @options);
			ok($status != 0 && $output =~ /^not ok/m, "$fault, by $way->{name}, is noticed by $who") or diag($output);
		}
		my ($status, $output) = $self->clients([$way], '--seconds', 20, '--clients', 6, '--patience', 1000);
		ok($status && $output =~ /^client \d+ .*(?:wanted|token|no answer|closed)/m, "$fault, by $way->{name}, is noticed by clients that know their answers")
		  or diag($output);
	}
	return;
}

1;
