# Cached: a Gateway with a cache in front of a database of one's own making, and how an exchange was answered.
package Cached;

use strict;
use warnings;

use Gateway;
use RawClient;
use Test::More ();
use Time::HiRes qw(sleep time);

our @statuses = qw(disabled hit miss uncacheable multiplestatements notaquery oversizedquery oversizedresult parseerror transaction volatile);
our $patience = 15;	# seconds, after which what is still no hit will be none
my $columns = join ', ', map { "cache_$_" } @statuses;

# make: SQL that the owner runs in the database first; options: of create_origin beside cache; all else as Gateway->new takes it.
sub start
{
	my (%o) = @_;
	my $options = 'cache => true' . ($o{options} ? ", $o{options}" : '');
	my $gateway = Gateway->new(%o, create => 0, options => $options);
	at_origin($gateway, $o{make}) if $o{make};
	$gateway->create('app', $options) unless defined $o{create} && !$o{create};
	learn($gateway) unless defined $o{create} && !$o{create};
	return $gateway;
}

# By the owner of the database, not through the gateway.
sub at_origin { my ($gateway, $sql) = @_; return $gateway->{origin}->safe_psql('app', "SET ROLE app; $sql"); }

# The gateway learns what was made at the origin.
sub learn { my ($gateway, $name) = @_; $gateway->learn($name // 'app'); return; }

sub counts { my ($gateway, $name) = @_; return split /\|/, $gateway->sql("SELECT $columns FROM hyperpool.stat_origins WHERE origin = '" . ($name // 'app') . "'"); }

# What the cache said of each exchange meanwhile ("hit", "miss hit", "" …), in the order of @statuses.
sub said
{
	my ($gateway, $what, $name) = @_;
	my @before = counts($gateway, $name);
	$what->();
	my @after = counts($gateway, $name);
	return join ' ', map { ($statuses[$_]) x ($after[$_] - $before[$_]) } 0 .. $#statuses;
}

# One read: (what the cache said, the answer).
sub ask
{
	my ($gateway, $client, $sql, @values) = @_;
	my $answer;
	my $said = said($gateway, sub { $answer = @values ? $client->extended($sql, @values) : $client->query($sql, 60) }, $client->{database});
	return ($said, RawClient::outcome($answer));
}

# Reads until the cache answers; what it said last, and the answer.
sub warm
{
	my ($gateway, $client, $sql, @values) = @_;
	my $deadline = time() + $patience;
	my ($said, $answer);
	do
	{
		($said, $answer) = ask($gateway, $client, $sql, @values);
		return ($said, $answer) if $said eq 'hit';
		sleep 0.05;
	} while (time() < $deadline);
	return ($said, $answer);
}

sub explained
{
	my ($gateway, $sql, $what) = @_;
	return $gateway->sql("SELECT $what FROM hyperpool.explain_query('app', \$the_text\$$sql\$the_text\$)");
}

1;
