# Reads that go on without a break on shared links starve nobody who needs a link alone: not where the other links are bound to their clients, nor where one stands
# still. Nor do they go on when they should stop: a paused origin, a right that is taken away.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep time);

my $gateway = Gateway->new(relay => 1, options => 'pool_size => 2');
$gateway->{origin}->safe_psql('app', q{
SET ROLE app;
CREATE TABLE kv (k int PRIMARY KEY, v text);
INSERT INTO kv SELECT i, 'value-' || i FROM generate_series(1, 100) i;
});
$gateway->learn('app');

sub simple { my ($sql) = @_; return RawClient::message('Q', "$sql\0"); }
sub read_of { my ($i) = @_; return simple("SELECT v, $i FROM kv WHERE k = $i"); }

my @readers = map { $gateway->client } 1 .. 12;
$gateway->ask_until_shared($readers[0], read_of(1));
# over a long way a link on which reads follow each other is never empty
$gateway->move_away(100, 'app');
$gateway->ask_until_shared($readers[0], read_of(1));

# All readers ask again and again, several exchanges in flight each, until done or for so many seconds.
sub read_on
{
	my ($seconds, $done) = @_;
	my $end = time() + $seconds;
	my %due;
	while (time() < $end && !$done->())
	{
		for my $i (0 .. $#readers)
		{
			next if $readers[$i]{closed};
			while (($due{$i} // 0) < 4) { $readers[$i]->put_raw(read_of($i + 1)); $due{$i}++; }
			while ($due{$i} && $readers[$i]->is_answered(0)) { $readers[$i]->finish; $due{$i}--; last if $readers[$i]{closed}; }
		}
	}
	for my $i (grep { !$readers[$_]{closed} } 0 .. $#readers) { $readers[$i]->answer for 1 .. $due{$i} // 0; }
	return $done->();
}

# ---- the other link is bound to its client ----
{
	my $listener = $gateway->client;
	$listener->query('LISTEN something');
	is($gateway->wait_for("SELECT sv_bound FROM hyperpool.pools WHERE origin = 'app'", '1'), '1', 'one of two links is bound');
	my $writer = $gateway->client;
	my $asked = 0;
	my $begun = time();
	ok(read_on(8, sub { $writer->ask('UPDATE kv SET v = v WHERE k = 100') if time() - $begun > 1 && !$asked++; return $asked && $writer->is_answered(0); }),
		'a write is served on the link that reads share');
	is($writer->answer->{tags}[0], 'UPDATE 1', 'and done');
	$listener->terminate;
}

# ---- the other link stands still: its client does not read ----
{
	$gateway->wait_for("SELECT sv_bound FROM hyperpool.pools WHERE origin = 'app'", '0');
	my $lazy = $gateway->client;
	my $long = sub { my ($n) = @_; return simple("SELECT repeat(v, $n) FROM kv WHERE k = 1"); };
	$gateway->ask_until_shared($readers[0], $long->(2));
	$lazy->put_raw($long->(3_000_000));
	is($gateway->wait_for(q{SELECT count(*) FROM hyperpool.clients WHERE state = 'active'}, '1'), '1', 'a client does not read');
	sleep 0.3;
	my $writer = $gateway->client;
	my $asked = 0;
	my $begun = time();
	ok(read_on(8, sub { $writer->ask('UPDATE kv SET v = v WHERE k = 100') if time() - $begun > 1 && !$asked++; return $asked && $writer->is_answered(0); }),
		'a write is served on the link that goes on');
	is($writer->answer->{tags}[0], 'UPDATE 1', 'and done');
	is(length($lazy->answer(60)->{rows}[0][0] // ''), 7 * 3_000_000, 'who did not read has his answer');
}

# ---- those behind a client that does not read are moved once, not onto the same link again ----
{
	my @others = @readers[ 0 .. 7 ];
	my $lazy = $gateway->client;
	my $long = sub { my ($n) = @_; return simple("SELECT repeat(v, $n), 'again' FROM kv WHERE k = 1"); };
	$gateway->ask_until_shared($readers[0], $long->(2));
	my $moved = $gateway->counter('moved');
	$lazy->put_raw($long->(3_000_000));
	$others[ $_ - 1 ]->put_raw(read_of($_)) for 1 .. 8;
	is_deeply([ map { RawClient::outcome($_) } RawClient::answers(20, @others) ], [ map { "value-$_|$_" } 1 .. 8 ], 'those behind a client that does not read are answered');
	$moved = $gateway->counter('moved') - $moved;
	cmp_ok($moved, '>', 0, 'they were moved');
	cmp_ok($moved, '<=', 8, "each once ($moved)");
	$lazy->answer(60);
}

# ---- a client that always has something in flight ----
{
	my $begun = time();
	my $paused = 0;
	my $count = sub { return $gateway->sql(q{SELECT shared FROM hyperpool.stat_origins WHERE origin = 'app'}); };
	my ($at, $later) = (0, 0);
	read_on(4, sub {
		return 1 if $later;
		my $for = time() - $begun;
		$gateway->sql("SELECT hyperpool.pause_origin('app')") if $for > 1 && !$paused++;
		$at = $count->() if $for > 2 && !$at;
		if ($at && $for > 3) { $later = $count->(); $gateway->sql("SELECT hyperpool.resume_origin('app')"); return 1; }
		return 0;
	});
	is($later - $at, 0, 'a pause stops clients that always have something in flight');
}
{
	my $begun = time();
	my $taken = 0;
	read_on(6, sub { $gateway->sql('REVOKE USAGE ON FOREIGN SERVER app FROM PUBLIC') if time() - $begun > 1 && !$taken++; return !grep { !$_->{closed} } @readers; });
	is(scalar(grep { !$_->{closed} } @readers), 0, 'a right that is taken away, too');
}

$gateway->sql('GRANT USAGE ON FOREIGN SERVER app TO PUBLIC');
Gateway::wait_until(sub { $gateway->can_enter('app') }, 1);
$gateway->is_unharmed('liveness');
done_testing();
