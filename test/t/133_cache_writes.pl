# After a write by any route, once it was acknowledged, the cache gives nothing that was read before; what the write cannot have touched stays.
# Case 23 of docs/testing.md; more routes in 184_cache_writes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Cached;
use Gateway;
use RawClient;
use Test::More;
use Time::HiRes qw(sleep);

# name => { make: SQL at the origin, read: SQL, write: simple queries, narrow: entries of other tables stay }
my @routes;
sub route { my ($name, %r) = @_; push @routes, { name => $name, %r, write => ref $r{write} ? $r{write} : [ $r{write} ] }; }

sub table { my ($t, $rest) = @_; return "CREATE TABLE $t (i int PRIMARY KEY, v int); INSERT INTO $t VALUES (1, 0), (2, 0); " . ($rest // ''); }

my $n = 0;
sub plain
{
	my ($name, $write, %r) = @_;
	my $t = 'plain_' . ++$n;
	$_ =~ s/\bT\b/$t/g for my @write = ref $write ? @$write : $write;
	route($name, make => table($t), read => "SELECT v FROM $t WHERE i = 1", write => \@write, narrow => 1, %r);
}

plain('UPDATE', 'UPDATE T SET v = 1 WHERE i = 1');
plain('DELETE', 'DELETE FROM T WHERE i = 1');
plain('INSERT ON CONFLICT', 'INSERT INTO T VALUES (1, 5) ON CONFLICT (i) DO UPDATE SET v = 5');
plain('MERGE', 'MERGE INTO T t USING (VALUES (1, 7)) s (i, v) ON t.i = s.i WHEN MATCHED THEN UPDATE SET v = s.v');
plain('a transaction', [ 'BEGIN', 'UPDATE T SET v = 1 WHERE i = 1', 'COMMIT' ]);
plain('a transaction in one string', 'BEGIN; UPDATE T SET v = 1 WHERE i = 1; COMMIT');
plain('END', [ 'START TRANSACTION', 'UPDATE T SET v = 1 WHERE i = 1', 'END' ]);
plain('COMMIT AND CHAIN', [ 'BEGIN', 'UPDATE T SET v = 1 WHERE i = 1', 'COMMIT AND CHAIN' ], after => ['ROLLBACK']);
plain('an implicit transaction', 'UPDATE T SET v = 1 WHERE i = 1; SELECT 1');
plain('after a savepoint rolled back', [ 'BEGIN', 'SAVEPOINT s', 'SELECT 1/0', 'ROLLBACK TO s', 'UPDATE T SET v = 1 WHERE i = 1', 'COMMIT' ]);
plain('WITH … UPDATE', 'WITH w AS (UPDATE T SET v = 1 WHERE i = 1 RETURNING v) SELECT * FROM w');
plain('WITH … DELETE, INSERT', 'WITH w AS (DELETE FROM T WHERE i = 1 RETURNING i) INSERT INTO T SELECT i + 10, 3 FROM w');
plain('EXPLAIN ANALYZE', 'EXPLAIN ANALYZE UPDATE T SET v = 1 WHERE i = 1', narrow => 0);
plain('TRUNCATE', 'TRUNCATE T', narrow => 0);
plain('SQL PREPARE and EXECUTE', [ 'PREPARE p AS UPDATE T SET v = $1 WHERE i = 1', 'EXECUTE p (4)', 'DEALLOCATE p' ], narrow => 0);
plain('DO', 'DO $$ BEGIN UPDATE T SET v = 1 WHERE i = 1; END $$', narrow => 0);
plain('DO with dynamic SQL', q{DO $$ BEGIN EXECUTE 'UPDATE ' || 'T' || ' SET v = 1 WHERE i = 1'; END $$}, narrow => 0);
plain('two-phase commit', [ 'BEGIN', 'UPDATE T SET v = 1 WHERE i = 1', q{PREPARE TRANSACTION 'one'}, q{COMMIT PREPARED 'one'} ], narrow => 0);
plain('ALTER TABLE', [ 'BEGIN', 'ALTER TABLE T DROP COLUMN v', 'ALTER TABLE T ADD COLUMN v int DEFAULT 8', 'COMMIT' ], narrow => 0);
plain('ALTER COLUMN TYPE USING', 'ALTER TABLE T ALTER COLUMN v TYPE text USING $$new$$', narrow => 0);
plain('DROP TABLE', 'DROP TABLE T', narrow => 0);
plain('RENAME of two tables', [ 'CREATE TABLE other_T (i int, v int)', 'INSERT INTO other_T VALUES (1, 9)', 'BEGIN; ALTER TABLE T RENAME TO gone_T; ALTER TABLE other_T RENAME TO T; COMMIT' ], narrow => 0);
plain('CREATE TABLE earlier in search_path', [ 'CREATE SCHEMA app', 'CREATE TABLE app.T AS SELECT 1 AS i, 11 AS v' ], after => ['DROP SCHEMA app CASCADE'], narrow => 0);
plain('CREATE TABLE AS does not write, then INSERT does', [ 'CREATE TABLE more_T AS SELECT 1 AS i', 'UPDATE T SET v = 2 WHERE i IN (SELECT i FROM more_T)' ], narrow => 0);
plain('CREATE POLICY', ['ALTER TABLE T ENABLE ROW LEVEL SECURITY; ALTER TABLE T FORCE ROW LEVEL SECURITY; CREATE POLICY none ON T USING (false)'], narrow => 0);
plain('a cursor', [ 'BEGIN', 'DECLARE c CURSOR FOR SELECT * FROM T WHERE i = 1 FOR UPDATE', 'FETCH c', 'UPDATE T SET v = 3 WHERE CURRENT OF c', 'COMMIT' ]);

route('a view on it', make => table('under', 'CREATE VIEW over AS SELECT i, v FROM under; CREATE VIEW above AS SELECT * FROM over WHERE i > 0'),
	read => 'SELECT v FROM above WHERE i = 1', write => 'UPDATE under SET v = 1 WHERE i = 1', narrow => 1);
route('an updatable view', make => table('based', 'CREATE VIEW door AS SELECT i, v FROM based'), read => 'SELECT v FROM based WHERE i = 1', write => 'UPDATE door SET v = 1 WHERE i = 1', narrow => 1);
route('a view with an INSTEAD OF trigger', make => table('instead', q{CREATE VIEW guarded AS SELECT i, v + 1 AS v FROM instead;
	CREATE FUNCTION do_instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE instead SET v = NEW.v; RETURN NEW; END $$;
	CREATE TRIGGER do_instead INSTEAD OF UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION do_instead()}),
	read => 'SELECT v FROM instead WHERE i = 1', write => 'UPDATE guarded SET v = 5');
route('a view replaced', make => 'CREATE VIEW changing AS SELECT 1 AS v', read => 'SELECT v FROM changing', write => 'CREATE OR REPLACE VIEW changing AS SELECT 2 AS v');
route('a partition', make => 'CREATE TABLE up (i int, v int) PARTITION BY LIST (i); CREATE TABLE up_1 PARTITION OF up DEFAULT; INSERT INTO up VALUES (1, 0)',
	read => 'SELECT v FROM up', write => 'UPDATE up_1 SET v = 1', narrow => 1);
route('a partitioned parent', make => 'CREATE TABLE down (i int, v int) PARTITION BY LIST (i); CREATE TABLE down_1 PARTITION OF down FOR VALUES IN (1) PARTITION BY LIST (v); CREATE TABLE down_11 PARTITION OF down_1 DEFAULT; INSERT INTO down VALUES (1, 0)',
	read => 'SELECT v FROM down_11', write => 'UPDATE down SET v = 1', narrow => 1);
route('a row that moves to another partition', make => 'CREATE TABLE move (i int, v int) PARTITION BY LIST (i); CREATE TABLE move_1 PARTITION OF move FOR VALUES IN (1); CREATE TABLE move_2 PARTITION OF move DEFAULT; INSERT INTO move VALUES (1, 0)',
	read => 'SELECT v FROM move_2', write => 'UPDATE move SET i = 2 WHERE i = 1', narrow => 1);
route('a partition attached', make => 'CREATE TABLE att (i int, v int) PARTITION BY LIST (i); CREATE TABLE att_1 (i int, v int); INSERT INTO att_1 VALUES (1, 1)',
	read => 'SELECT v FROM att', write => 'ALTER TABLE att ATTACH PARTITION att_1 DEFAULT', again => 'UPDATE att_1 SET v = 2');
route('a trigger that stamps the row', make => q{CREATE TABLE stamped (i int, v int, updated_at timestamptz, "updatedAt" timestamp); INSERT INTO stamped VALUES (1, 0);
	CREATE FUNCTION put_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.updated_at = now();
		new."updatedAt" := CURRENT_TIMESTAMP AT TIME ZONE 'utc';
		RETURN NEW;
	END $$; CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION put_stamp()},
	read => 'SELECT v FROM stamped', write => 'UPDATE stamped SET v = 1', narrow => 1);
route('a trigger that only looks like it', make => q{CREATE TABLE sly_stamp (i int, v int, at timestamptz); INSERT INTO sly_stamp VALUES (1, 0); CREATE TABLE behind_stamp (v int); INSERT INTO behind_stamp VALUES (0);
	CREATE FUNCTION put_sly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at = now(); UPDATE behind_stamp SET v = v + 1; RETURN NEW; END $$;
	CREATE TRIGGER stamp BEFORE UPDATE ON sly_stamp FOR EACH ROW EXECUTE FUNCTION put_sly()},
	read => 'SELECT v FROM behind_stamp', write => 'UPDATE sly_stamp SET v = 1');
route('an inherited table', make => 'CREATE TABLE elder (i int, v int); CREATE TABLE younger (x int) INHERITS (elder); INSERT INTO younger VALUES (1, 0)',
	read => 'SELECT v FROM elder', write => 'UPDATE younger SET v = 1', narrow => 1);
route('the parent of an inherited table', make => 'CREATE TABLE elder2 (i int, v int); CREATE TABLE younger2 () INHERITS (elder2); INSERT INTO younger2 VALUES (1, 0)',
	read => 'SELECT v FROM younger2', write => 'UPDATE elder2 SET v = 1', narrow => 1);
route('ON UPDATE CASCADE', make => 'CREATE TABLE keys (k int PRIMARY KEY); CREATE TABLE held (k int REFERENCES keys ON UPDATE CASCADE ON DELETE CASCADE); INSERT INTO keys VALUES (1); INSERT INTO held VALUES (1)',
	read => 'SELECT k FROM held', write => 'UPDATE keys SET k = 2', again => 'DELETE FROM keys', narrow => 1);
route('ON DELETE SET NULL, two steps away', make => 'CREATE TABLE k1 (k int PRIMARY KEY); CREATE TABLE k2 (k int PRIMARY KEY REFERENCES k1 ON DELETE CASCADE); CREATE TABLE k3 (k int REFERENCES k2 ON DELETE SET NULL); INSERT INTO k1 VALUES (1); INSERT INTO k2 VALUES (1); INSERT INTO k3 VALUES (1)',
	read => 'SELECT count(k) FROM k3', write => 'DELETE FROM k1', narrow => 1);
route('TRUNCATE CASCADE', make => 'CREATE TABLE tk (k int PRIMARY KEY); CREATE TABLE th (k int REFERENCES tk); INSERT INTO tk VALUES (1); INSERT INTO th VALUES (1)', read => 'SELECT count(*) FROM th', write => 'TRUNCATE tk CASCADE');
route('a trigger', make => table('noticed', q{CREATE TABLE log (v int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.v); RETURN NULL; END $$;
	CREATE TRIGGER note AFTER UPDATE ON noticed FOR EACH ROW EXECUTE FUNCTION note()}), read => 'SELECT count(*) FROM log', write => 'UPDATE noticed SET v = 1 WHERE i = 1');
route('trigger, cascade, partition, view', make => table('first', q{CREATE TABLE ck (k int PRIMARY KEY); INSERT INTO ck VALUES (0);
	CREATE TABLE cp (k int REFERENCES ck ON UPDATE CASCADE) PARTITION BY LIST (k); CREATE TABLE cp_1 PARTITION OF cp DEFAULT; INSERT INTO cp VALUES (0); CREATE VIEW cv AS SELECT k FROM cp;
	CREATE FUNCTION carry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE ck SET k = NEW.v; RETURN NULL; END $$; CREATE TRIGGER carry AFTER UPDATE ON first FOR EACH ROW EXECUTE FUNCTION carry()}),
	read => 'SELECT k FROM cv', write => 'UPDATE first SET v = 6 WHERE i = 1');
route('a rule', make => table('ruled', 'CREATE TABLE by_rule (v int); CREATE RULE also AS ON UPDATE TO ruled DO ALSO INSERT INTO by_rule VALUES (NEW.v)'), read => 'SELECT count(*) FROM by_rule', write => 'UPDATE ruled SET v = 1 WHERE i = 1');
route('a materialized view', make => table('source', 'CREATE MATERIALIZED VIEW kept AS SELECT i, v FROM source; CREATE VIEW kept_view AS SELECT * FROM kept'),
	read => 'SELECT v FROM kept_view WHERE i = 1', write => [ 'UPDATE source SET v = 1', 'REFRESH MATERIALIZED VIEW kept' ]);
route('a function in SQL', make => table('by_sql', 'CREATE FUNCTION put_sql(int) RETURNS void LANGUAGE sql AS $$ UPDATE by_sql SET v = $1 $$'), read => 'SELECT v FROM by_sql WHERE i = 1', write => 'SELECT put_sql(3)');
route('a function in plpgsql', make => table('by_plpgsql', 'CREATE FUNCTION put_plpgsql(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE by_plpgsql SET v = $1; RETURN 1; END $$'),
	read => 'SELECT v FROM by_plpgsql WHERE i = 1', write => 'SELECT * FROM put_plpgsql(3)');
route('a function in a WHERE', make => table('by_where', 'CREATE FUNCTION put_where(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN UPDATE by_where SET v = $1; RETURN true; END $$'),
	read => 'SELECT v FROM by_where WHERE i = 1', write => 'SELECT 1 WHERE put_where(3)');
route('an operator', make => table('by_operator', 'CREATE FUNCTION put_op(int, int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE by_operator SET v = $2; RETURN 1; END $$; CREATE OPERATOR <<<>>> (FUNCTION = put_op, LEFTARG = int, RIGHTARG = int)'),
	read => 'SELECT v FROM by_operator WHERE i = 1', write => 'SELECT 1 <<<>>> 4');
route('a volatile default', make => table('by_default', 'CREATE FUNCTION put_default() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE by_default SET v = 8; RETURN 1; END $$; CREATE TABLE filled (i int DEFAULT put_default(), j int)'),
	read => 'SELECT v FROM by_default WHERE i = 1', write => 'INSERT INTO filled (j) VALUES (1)');
route('a view that calls a function', make => table('by_view', 'CREATE FUNCTION put_view() RETURNS int LANGUAGE plpgsql AS $$ BEGIN UPDATE by_view SET v = 8; RETURN 1; END $$; CREATE VIEW sly AS SELECT put_view() AS done'),
	read => 'SELECT v FROM by_view WHERE i = 1', write => 'SELECT * FROM sly');
route('CALL with COMMIT inside', make => table('by_call', 'CREATE PROCEDURE put_call(int) LANGUAGE plpgsql AS $$ BEGIN UPDATE by_call SET v = $1; COMMIT; UPDATE by_call SET v = $1 + 1; END $$'),
	read => 'SELECT v FROM by_call WHERE i = 1', write => 'CALL put_call(5)');
route('a function replaced', make => 'CREATE FUNCTION constant() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 1 $$', read => 'SELECT constant()', write => 'CREATE OR REPLACE FUNCTION constant() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 2 $$');
route('an "immutable" function that reads a table', make => table('behind', 'CREATE FUNCTION peek() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN (SELECT v FROM behind WHERE i = 1); END $$'),
	read => 'SELECT peek()', write => 'UPDATE behind SET v = 4 WHERE i = 1');
route('more tables than an entry counts', make => join('; ', map { "CREATE TABLE many_$_ (v int); INSERT INTO many_$_ VALUES (0)" } 1 .. 20),
	read => 'SELECT ' . join(' + ', map { "many_$_.v" } 1 .. 20) . ' FROM ' . join(', ', map { "many_$_" } 1 .. 20), write => 'UPDATE many_17 SET v = 1');
route('the catalog', make => table('listed'), read => q{SELECT count(*) FROM pg_catalog.pg_class WHERE relname LIKE 'listed%'}, write => 'CREATE TABLE listed_too ()', again => 'DROP TABLE listed_too');
route('a domain', make => 'CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE TABLE smalls (v small); INSERT INTO smalls VALUES (1)', read => 'SELECT v FROM smalls', write => 'UPDATE smalls SET v = 2');

my $gateway = Cached::start(workers => 2, options => q{max_age => '1h'}, origin_settings => 'max_prepared_transactions = 5',
	make => table('unrelated') . 'CREATE TABLE copied (v int); ' . table('pipelined') . table('dead') . table('shared') . join(';', map { $_->{make} } @routes));
my ($reader, $writer, $direct) = ($gateway->client, $gateway->client, $gateway->direct(database => 'app'));
my $unrelated = 'SELECT v FROM unrelated WHERE i = 1';

# The read, as the database itself answers it.
sub shows_the_truth
{
	my ($what, $read, @values) = @_;
	my ($said, $answer) = Cached::ask($gateway, $reader, $read, @values);
	is($answer, RawClient::outcome(@values ? $direct->extended($read, @values) : $direct->query($read)), "case 23: $what: the new answer");
	isnt($said, 'hit', "$what: not from the cache");
	return $answer;
}

sub try_route
{
	my ($route) = @_;
	my ($name, $read) = @$route{qw(name read)};
	my ($said, $before) = Cached::warm($gateway, $reader, $read);
	is($said, 'hit', "$name: cached");
	Cached::warm($gateway, $reader, $unrelated);
	$writer->query($_) for @{ $route->{write} };
	isnt(shows_the_truth($name, $read), $before, "$name: something has changed");
	is((Cached::ask($gateway, $reader, $unrelated))[0], 'hit', "$name: what it does not touch stays") if $route->{narrow};
	$writer->query($_) for @{ $route->{after} // [] };
	return unless $route->{again};
	Cached::warm($gateway, $reader, $read);
	$writer->query($route->{again});
	shows_the_truth("$name, again", $read);
}

try_route($_) for @routes;

# ---- a slip of the pen changes nothing ----
Cached::learn($gateway);
Cached::warm($gateway, $reader, $unrelated);
for my $wrong ('SELEC 1', 'SELECT * FROM not_there', 'SELECT not_there(1)', 'INSERT INTO not_there VALUES (1)', 'UPDATE unrelated SET not_there = 1')
{
	$writer->query($wrong);
	is((Cached::ask($gateway, $reader, $unrelated))[0], 'hit', "$wrong: nothing is forgotten");
	$writer->extended($wrong);
	is((Cached::ask($gateway, $reader, $unrelated))[0], 'hit', 'nor in the extended form');
}
$writer->query('UPDATE unrelated SET v = v + 1 WHERE i = 1; SELEC 1');
is((Cached::ask($gateway, $reader, $unrelated))[1], $direct->value($unrelated), 'several statements, one of them wrong');
$writer->query('UPDATE unrelated SET v = v + 1 WHERE i = 1; SELECT not_there(1)');
is((Cached::ask($gateway, $reader, $unrelated))[1], $direct->value($unrelated), 'or unknown');

# ---- COPY ----
my $copied = 'SELECT count(*) FROM copied';
sub copy_in
{
	my (@lines) = @_;
	$writer->{stop_at_copy} = 1;
	$writer->query('COPY copied FROM STDIN');
	$writer->{stop_at_copy} = 0;
	$writer->put_raw(join '', map { RawClient::message('d', "$_\n") } @lines);
}
is((Cached::warm($gateway, $reader, $copied))[0], 'hit', 'COPY: cached');
copy_in(1, 2, 3);
$writer->put('c', '');
is($writer->answer->{tags}[0], 'COPY 3', 'COPY FROM');
is(shows_the_truth('COPY', $copied), '3', 'COPY: all rows');
copy_in(4);
$writer->put('f', "given up\0");
$writer->answer;
is((Cached::ask($gateway, $reader, $copied))[1], '3', 'COPY given up');

# ---- extended messages: the Sync commits, not the Execute ----
my $pipelined = 'SELECT v FROM pipelined WHERE i = 1';
sub pieces { my ($sql) = @_; return RawClient::message('P', "\0$sql\0\0\0") . RawClient::message('B', "\0\0\0\0\0\0\0\0") . RawClient::message('E', "\0\0\0\0\0"); }
my ($sync, $flush) = map { RawClient::message($_, '') } 'S', 'H';

Cached::warm($gateway, $reader, $pipelined);
$writer->extended('UPDATE pipelined SET v = $1 WHERE i = 1', '1');
is(shows_the_truth('extended', $pipelined), '1', 'extended: a parameter');

Cached::warm($gateway, $reader, $pipelined);
$writer->put_raw(pieces('UPDATE pipelined SET v = 2 WHERE i = 1') . $flush);
ok(Gateway::wait_until(sub { $writer->pull; $writer->{in} =~ /UPDATE 1/ ? 1 : 0 }, 1), 'Execute and Flush: CommandComplete has come');
my ($said, $answer) = Cached::ask($gateway, $reader, $pipelined);
is("$said $answer" =~ /^(hit|miss) 1$/ ? 'the former value' : "$said $answer", 'the former value', 'not committed yet') for 1 .. 2;
$reader->query($pipelined) for 1 .. 3;
$writer->put_raw($sync);
$writer->answer;
is(shows_the_truth('Flush, reads, Sync', $pipelined), '2', 'Flush before Sync: the new value');

Cached::warm($gateway, $reader, $pipelined);
$writer->put_raw(join '', map { pieces("UPDATE pipelined SET v = $_ WHERE i = 1") . $sync } 10 .. 14);
$writer->answer for 10 .. 14;
is(shows_the_truth('a pipeline', $pipelined), '14', 'pipelined writes: the last value');

Cached::warm($gateway, $reader, $pipelined);
$reader->put_raw(join '', map { pieces($_) . $sync } $pipelined, 'UPDATE pipelined SET v = 20 WHERE i = 1', $pipelined, 'UPDATE pipelined SET v = 21 WHERE i = 1', $pipelined);
is(join(' ', map { RawClient::outcome($reader->answer) || '-' } 1 .. 5), '14 - 20 - 21', 'reads and writes by turns in one pipeline');

Cached::warm($gateway, $reader, $pipelined);
$writer->put_raw(pieces('UPDATE pipelined SET v = 22 WHERE i = 1') . pieces('SELECT 1/0') . $sync);
$writer->answer;
is((Cached::ask($gateway, $reader, $pipelined))[1], '21', 'a batch that failed');

# ---- a transaction that is rolled back, and one that is not over ----
Cached::warm($gateway, $reader, $pipelined);
$writer->query($_) for 'BEGIN', 'UPDATE pipelined SET v = 30 WHERE i = 1';
is((Cached::warm($gateway, $reader, $pipelined))[1], '21', 'a write that is not committed does not show');
is((Cached::ask($gateway, $writer, $pipelined))[1], '30', 'but to its own transaction');
is((Cached::ask($gateway, $reader, $pipelined))[1], '21', 'to nobody else');
$writer->query('ROLLBACK');
is((Cached::ask($gateway, $writer, $pipelined))[1], '21', 'nor after ROLLBACK');

# ---- the writer dies ----
my $dead = 'SELECT v FROM dead WHERE i = 1';
my %deaths = (
	'after the statement was sent' => sub { $_[0]->ask('SELECT pg_sleep(0.5); UPDATE dead SET v = v + 1'); $_[0]->is_answered(0.1); $_[0]->reset; },
	'before the Sync' => sub { $_[0]->put_raw(pieces('UPDATE dead SET v = v + 1') . $flush); $_[0]->is_answered(0.3); $_[0]->vanish; },
	'in a transaction' => sub { $_[0]->query($_) for 'BEGIN', 'UPDATE dead SET v = v + 1'; $_[0]->vanish; },
	'with the COMMIT sent' => sub { $_[0]->query($_) for 'BEGIN', 'UPDATE dead SET v = v + 1'; $_[0]->ask('COMMIT'); $_[0]->reset; },
);
for my $how (sort keys %deaths)
{
	Cached::warm($gateway, $reader, $dead);
	$deaths{$how}->($gateway->client);
	my $running = q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND state <> 'idle' AND pid <> pg_backend_pid()};
	my $last = (Cached::ask($gateway, $reader, $dead))[1];
	my $older = 0;
	for (1 .. 200)
	{
		my $now = (Cached::ask($gateway, $reader, $dead))[1];
		$older++ if $now < $last;
		$last = $now;
		last if $_ > 20 && $direct->value($running) eq '0';
		sleep 0.02;
	}
	is($older, 0, "the writer dies $how: no read goes back");
	is((Cached::ask($gateway, $reader, $dead))[1], $direct->value($dead), "the writer dies $how: in the end the truth");
}

# ---- by another way ----
$gateway->{origin}->safe_psql('postgres', 'CREATE ROLE visitor LOGIN');
Cached::at_origin($gateway, 'GRANT ALL ON shared TO PUBLIC');
$gateway->sql('CREATE ROLE visitor LOGIN');
$gateway->create('second', 'cache => true');
$gateway->sql(q{SELECT hyperpool.set_credential('app', 'visitor', 'visitor', '')});
Cached::learn($gateway, $_) for 'app', 'second';
my $shared = 'SELECT v FROM shared WHERE i = 1';
my ($second, $visitor) = ($gateway->client(database => 'second'), $gateway->client(user => 'visitor'));
my @workers = map { $gateway->client } 1 .. 6;
my $value = 0;
for my $who ($second, $visitor, @workers)
{
	Cached::warm($gateway, $_, $shared) for $reader, $second, $visitor;
	$value++;
	$who->query("UPDATE shared SET v = $value WHERE i = 1");
	is(join(' ', map { $_->value($shared) } $reader, $second, $visitor, @workers), join(' ', ($value) x (3 + @workers)), "a write by another way ($value): nobody sees the former value");
}

# ---- elsewhere: DDL at the origin counts when the scout has looked ----
Cached::warm($gateway, $reader, $shared);
Cached::at_origin($gateway, 'ALTER TABLE shared ADD COLUMN w int; CREATE TABLE new_there AS SELECT 5 AS v');
Cached::learn($gateway);
is((Cached::ask($gateway, $reader, $shared))[0], 'miss', 'refresh_catalog: DDL made elsewhere outdates what was kept');
is((Cached::warm($gateway, $reader, 'SELECT v FROM new_there'))[0], 'hit', 'and what is new is known');
Cached::warm($gateway, $reader, $shared);
Cached::at_origin($gateway, 'CREATE OR REPLACE VIEW changing AS SELECT 77 AS v');
is(Gateway::wait_until(sub { $reader->value('SELECT v FROM changing') }, '77', 30), '77', 'the scout sees DDL by itself');
Cached::at_origin($gateway, 'CREATE FUNCTION on_shared() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE unrelated SET v = NEW.v; RETURN NULL; END $$; CREATE TRIGGER t AFTER UPDATE ON shared FOR EACH ROW EXECUTE FUNCTION on_shared()');
Cached::learn($gateway);
Cached::warm($gateway, $reader, $unrelated);
$writer->query('UPDATE shared SET v = 500 WHERE i = 1');
is(shows_the_truth('a trigger made elsewhere', $unrelated), '500', 'it is known what it writes');

# ---- DDL while the catalog is read for the first time: what was read of it before is not all there is ----
$gateway->{origin}->safe_psql('postgres', 'CREATE DATABASE late OWNER app');
$gateway->{origin}->safe_psql('late', q{SET ROLE app; CREATE TABLE early (v int); CREATE TABLE behind_early (v int);
	CREATE FUNCTION note_early() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO behind_early VALUES (NEW.v); RETURN NULL; END $$});
my ($blocker, $there) = ($gateway->direct(user => scalar getpwuid($>), database => 'late'), $gateway->direct(database => 'late'));
$blocker->query($_) for 'BEGIN', 'LOCK TABLE pg_policy IN ACCESS EXCLUSIVE MODE';
$gateway->sql("SELECT hyperpool.create_origin('late', '" . $gateway->connection_string =~ s/dbname=app/dbname=late/r
	  . q{', allow_trust => true, cache => true, max_age => '1h'); GRANT USAGE ON FOREIGN SERVER late TO PUBLIC});
Gateway::wait_until(sub { $gateway->can_enter('late') }, 1);
my ($late_reader, $late_writer) = map { $gateway->client(database => 'late') } 1, 2;
is(Gateway::wait_until(sub { $late_reader->value('SELECT 1'); $there->value(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'pg_policy'::regclass}) }, 1), '1', 'the catalog is being read');
$late_writer->query('CREATE TRIGGER t AFTER INSERT ON early FOR EACH ROW EXECUTE FUNCTION note_early()');
$blocker->query('COMMIT');
is((Cached::warm($gateway, $late_reader, 'SELECT count(*) FROM behind_early'))[0], 'hit', 'and is known by now');
$late_writer->query('INSERT INTO early VALUES (1)');
is((Cached::ask($gateway, $late_reader, 'SELECT count(*) FROM behind_early'))[1], '1', 'a trigger made meanwhile: it is known what it writes');

# ---- defaults of links to come ----
is((Cached::warm($gateway, $reader, q{SELECT current_setting('TimeZone'), '2020-01-01 12:00+00'::timestamptz}))[0] // '', 'volatile', 'a setting is not kept by name');
my $noon = q{SELECT '2020-01-01 12:00+00'::timestamptz};
Cached::warm($gateway, $reader, $noon);
$writer->query(q{ALTER ROLE app SET TimeZone = 'Asia/Tokyo'});
is(Gateway::wait_until(sub { $gateway->client->value($noon) }, '2020-01-01 21:00:00+09', 60), '2020-01-01 21:00:00+09', 'ALTER ROLE SET: links of before are closed, answers of before forgotten');
$writer->query('ALTER ROLE app RESET TimeZone');

$gateway->is_unharmed('afterwards');
done_testing();
