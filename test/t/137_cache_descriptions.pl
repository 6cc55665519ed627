# The shape of an answer is the one its client was told: DDL between Describe and Execute, made through the gateway or directly at the origin, never lets a
# client decode rows of another shape. Binary results, by raw messages and by psycopg.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use RawClient;
use Test::More;

my $gateway = Cached::start(workers => 2, options => q{max_age => '1h'}, make => q{CREATE TABLE changing (i int, v int); INSERT INTO changing VALUES (1, 7)});
my $direct = $gateway->direct(database => 'app');
my ($ddl, $warmer) = ($gateway->client, $gateway->client);
my $sql = 'SELECT v FROM changing WHERE i = $1';

# A client that keeps what it was told: messages of a driver that describes once, then binds with binary results.
sub parse_and_describe
{
	my ($client, $name) = @_;
	$client->{told} = undef;
	$client->put_raw(RawClient::message('P', "$name\0$sql\0\0\0") . RawClient::message('D', "S$name\0") . RawClient::message('S', ''));
	take_shape($client);
	return $client->{told};
}

sub execute
{
	my ($client, $name, $describe) = @_;
	$client->put_raw(RawClient::message('B', "\0$name\0\0\0\0\1" . pack('N/a', '1') . pack('nn', 1, 1))
		  . ($describe ? RawClient::message('D', "P\0") : '') . RawClient::message('E', "\0\0\0\0\0") . RawClient::message('S', ''));
	return take_shape($client);
}

# Reads to the end of the exchange; a RowDescription is remembered as [type, size], rows are returned as they came.
sub take_shape
{
	my ($client) = @_;
	my %got = (rows => []);
	while (1)
	{
		$client->pull;
		while (my ($type, $body) = $client->take)
		{
			if ($type eq 'T')
			{
				my (undef, $at) = (0, 2 + index(substr($body, 2), "\0") + 1);
				$client->{told} = join ' ', unpack('x6 N n', substr($body, $at));
			}
			push @{ $got{rows} }, RawClient::row($body)->[0] if $type eq 'D';
			$got{error} //= RawClient::fields($body)->{C} if $type eq 'E';
			return \%got if $type eq 'Z';
		}
		return { error => 'closed' } if $client->{closed};
		IO::Select->new($client->{socket})->can_read(10) or return { error => 'no answer' };
	}
}

my %length = ('23 4' => 4, '20 8' => 8, '21 2' => 2, '701 8' => 8);

# Either an error that says so, or rows in the shape that the client was told last.
sub fits
{
	my ($what, $client, $got) = @_;
	my $size = $length{ $client->{told} // '' };
	my $said = $got->{error} // join ' ', map { length } @{ $got->{rows} };
	ok($got->{error} ? $got->{error} eq '0A000' : defined $size && $said eq $size, "$what: " . ($got->{error} ? $said : "$said bytes, as told")) or diag("told: " . ($client->{told} // 'nothing') . ", got: $said");
	return $got->{error} // '';
}

sub current_type { return $direct->value(q{SELECT atttypid FROM pg_attribute WHERE attrelid = 'changing'::regclass AND attname = 'v'}); }

my @types = ('bigint', 'int', 'smallint', 'double precision', 'int', 'bigint', 'int');
for my $where ('through the gateway', 'at the origin')
{
	my $alter = sub {
		my ($type) = @_;
		my $statement = "ALTER TABLE changing ALTER COLUMN v TYPE $type";
		$where eq 'at the origin' ? $direct->query($statement) : $ddl->query($statement);
	};
	my @clients = map { $gateway->client } 1 .. 4;
	parse_and_describe($_, 's') for @clients;
	execute($_, 's') for (@clients) x 2;
	for my $type (@types)
	{
		# descriptions and answers of the former shape are in the cache
		fits("$where, before $type", $_, execute($_, 's')) for @clients;
		$alter->($type);
		my $client = shift @clients;
		my $error = fits("$where, $type: bound as it was described", $client, execute($client, 's'));
		fits("$where, $type: bound again", $client, execute($client, 's'));
		# with a Describe in the same breath everything fits, whichever it is
		my $fresh = $gateway->client;
		parse_and_describe($fresh, '');
		fits("$where, $type: described anew", $fresh, execute($fresh, ''));
		$fresh->terminate;
		my $third = $clients[0];
		fits("$where, $type: portal described", $third, execute($third, 's', 1));
		# a plan that was described before goes on with an error until it is prepared anew
		my $after = $gateway->client;
		Cached::learn($gateway);
		parse_and_describe($after, 's');
		is((split / /, $after->{told})[0], current_type(), "$where, $type: what is described is what is");
		push @clients, $after;
		is((grep { $_ } map { my $new = $gateway->client; parse_and_describe($new, 's'); my $e = fits("$where, $type: a new client", $new, execute($new, 's')); $new->terminate; $e } 1 .. 2), 0, "$where, $type: works");
		for my $old (@clients[ 0 .. $#clients - 1 ])
		{
			fits("$where, $type: an old client", $old, execute($old, 's'));
			$old->put_raw(RawClient::message('C', "Ss\0") . RawClient::message('S', ''));
			take_shape($old);
			parse_and_describe($old, 's');
			is(fits("$where, $type: prepared anew", $old, execute($old, 's')), '', "$where, $type: prepared anew works");
		}
		$client->terminate;
	}
	$_->terminate for @clients;
}

# ---- described, then changed at the origin, then bound with no message between: the dangerous case, often ----
my ($misfits, $errors) = (0, 0);
for my $turn (1 .. 20)
{
	my $client = $gateway->client;
	parse_and_describe($client, '');
	execute($client, '');
	parse_and_describe($client, '');
	$direct->query('ALTER TABLE changing ALTER COLUMN v TYPE ' . ($turn % 2 ? 'bigint' : 'int'));
	my $got = execute($client, '');
	$errors++ if $got->{error};
	$misfits++ if $got->{error} ? $got->{error} ne '0A000' : length $got->{rows}[0] != $length{ $client->{told} };
	$client->terminate;
}
is($misfits, 0, "twenty times: never another shape ($errors errors that say so)");

# ---- psycopg, binary cursors ----
my $python = q{
import psycopg, sys
reader = psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=int(sys.argv[3]))
origin = psycopg.connect(sys.argv[2], autocommit=True)
cursor = reader.cursor(binary=True)
bad = 0
for turn in range(30):
    origin.execute("ALTER TABLE changing ALTER COLUMN v TYPE " + ("bigint", "int", "smallint")[turn % 3])
    for again in range(3):
        try:
            value = cursor.execute("SELECT v FROM changing WHERE i = %s", (1,)).fetchone()[0]
            if value != 7: bad += 1
        except psycopg.errors.FeatureNotSupported:
            reader.close()
            reader = psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=int(sys.argv[3]))
            cursor = reader.cursor(binary=True)
print(bad)
};
SKIP: {
	my $there = eval { IPC::Run::run([ '/usr/bin/python3', '-I', '-c', 'import psycopg' ], '<', \undef, '>&', \my $ignored) };
	skip('psycopg is not installed', 2) unless $there;
	for my $threshold (0, 1000)
	{
		my $output = '';
		IPC::Run::run([ '/usr/bin/python3', '-I', '-c', $python, $gateway->connstr . ' sslmode=disable', 'host=127.0.0.1 port=' . $gateway->{origin}->port . ' user=app dbname=app', $threshold ],
			'<', \undef, '>&', \$output, IPC::Run::timeout(60));
		is($output, "0\n", 'psycopg, ' . ($threshold ? 'unnamed' : 'prepared') . ': every value is 7');
	}
}

# ---- other things that change a shape ----
$direct->query($_) for 'CREATE TABLE star (a int, b int)', 'INSERT INTO star VALUES (1, 2)', 'CREATE VIEW over_star AS SELECT a FROM star';
Cached::learn($gateway);
Cached::warm($gateway, $warmer, 'SELECT * FROM star');
$direct->query('ALTER TABLE star ADD COLUMN c int DEFAULT 3');
Cached::learn($gateway);
is($warmer->value('SELECT * FROM star'), '1|2|3', 'a column more');
Cached::warm($gateway, $warmer, 'SELECT * FROM star');
$ddl->query('ALTER TABLE star DROP COLUMN b');
is($warmer->value('SELECT * FROM star'), '1|3', 'one less');
$ddl->query('ALTER TABLE star RENAME COLUMN c TO d');
is($warmer->query('SELECT * FROM star')->{rows}[0][1], '3', 'another name');
Cached::warm($gateway, $warmer, 'SELECT * FROM over_star');
$ddl->query('DROP VIEW over_star; CREATE VIEW over_star AS SELECT d FROM star');
is($warmer->value('SELECT * FROM over_star'), '3', 'another view');
$ddl->query(q{CREATE TYPE size AS ENUM ('s'); DROP VIEW over_star; CREATE VIEW over_star AS SELECT 's'::size AS d});
is($warmer->value('SELECT * FROM over_star'), 's', 'another type');
$ddl->query(q{ALTER TYPE size RENAME VALUE 's' TO 'small'});
is($warmer->value('SELECT * FROM over_star'), 'small', 'another label of an enum');

$gateway->is_unharmed('afterwards');
done_testing();
