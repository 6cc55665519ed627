#!/usr/bin/env php
<?php
// PHP's pgsql and PDO: libpq, prepared statements by name, persistent connections.  README.md has the list of checks.
error_reporting(E_ALL & ~E_WARNING & ~E_NOTICE);

function connect(string $more = '')
{
	return pg_connect("connect_timeout=10 $more", PGSQL_CONNECT_FORCE_NEW);		// PGHOST and its kin
}

function check(string $name, callable $work)
{
	$c = connect();
	try
	{
		printf("ok - %s: %s\n", $name, json_encode($work($c)));
	}
	catch (Throwable $e)
	{
		printf("not ok - %s: %s\n", $name, $e->getMessage());
	}
	pg_close($c);
}

function state_of($c, string $sql, array $values = null): string
{
	$values === null ? pg_send_query($c, $sql) : pg_send_query_params($c, $sql, $values);
	$state = '';
	while ($r = pg_get_result($c))
		$state = pg_result_error_field($r, PGSQL_DIAG_SQLSTATE) ?? 'no error';
	return $state;
}

function rows($c, string $sql, array $values = []): array
{
	return pg_fetch_all(pg_query_params($c, $sql, $values));
}

function pdo(array $options = []): PDO
{
	[$host, $port, $db] = [getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE')];
	return new PDO("pgsql:host=$host;port=$port;dbname=$db", getenv('PGUSER'), getenv('PGPASSWORD'), $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

check('login', fn($c) => [rows($c, 'SELECT current_user, current_database()'), pg_version($c)['server_encoding'], pg_ping($c)]);

check('simple', function ($c) {
	$all = [];
	pg_send_query($c, "SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i");
	while ($r = pg_get_result($c))
		$all[] = pg_fetch_all($r, PGSQL_NUM);
	return $all;
});

check('types', function ($c) {
	$values = [7, -2000000, '9007199254740993', '12345.6789', 0.1, 't', "Grüße 'x' \\ %", pg_escape_bytea($c, "\0\xff\x10"), '2024-02-29',
		'2024-02-29 23:59:58.123456+00', '3 days 00:00:01', '00000000-0000-0000-0000-000000000007', '{"a": [1, null]}', '{1,2,3}', null];
	$casts = explode(' ', 'int2 int4 int8 numeric float8 bool text bytea date timestamptz interval uuid jsonb int4[] text');
	$r = pg_query_params($c, 'SELECT ' . implode(', ', array_map(fn($t, $i) => '$' . ($i + 1) . "::$t", $casts, array_keys($casts))), $values);
	return [pg_fetch_row($r), array_map(fn($i) => pg_field_type($r, $i), array_keys($casts))];
});

check('prepared', function ($c) {
	$total = 0;
	pg_prepare($c, 'plus', 'SELECT $1::int + 1');
	for ($i = 0; $i < 30; $i++)
	{
		pg_prepare($c, "plus $i", "SELECT \$1::int + $i");
		$total += pg_fetch_result(pg_execute($c, 'plus', [$i]), 0) + pg_fetch_result(pg_execute($c, "plus $i", [1]), 0);
	}
	return [$total, state_of($c, 'DEALLOCATE "plus 7"'), pg_execute($c, 'plus 7', [1]) === false];
});

check('transaction', function ($c) {
	pg_query($c, 'DROP TABLE IF EXISTS visits; CREATE TABLE visits (id int PRIMARY KEY, page text)');
	pg_query($c, 'BEGIN');
	pg_insert($c, 'visits', ['id' => 1, 'page' => 'kept']);
	pg_query($c, 'SAVEPOINT s; DELETE FROM visits; ROLLBACK TO s');
	pg_query($c, 'COMMIT');
	pg_query($c, 'BEGIN');
	pg_query($c, "INSERT INTO visits VALUES (2, 'gone')");
	pg_query($c, 'ROLLBACK');
	pg_query($c, 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY');
	return [rows($c, "SELECT id, page, current_setting('transaction_isolation') FROM visits"), state_of($c, "INSERT INTO visits VALUES (3, 'x')")];
});

check('errors', function ($c) {
	$states = [state_of($c, 'SELEC 1'), state_of($c, 'SELEC $1', [1]), state_of($c, "INSERT INTO visits VALUES (\$1, 'again')", [1])];
	for ($i = 0; $i < 4; $i++)
		$states[] = state_of($c, 'SELECT 1 / $1::int', [$i % 2]);
	pg_query($c, 'BEGIN');
	array_push($states, state_of($c, 'SELECT 1 / 0'), state_of($c, 'SELECT $1::int', [1]));
	pg_query($c, 'ROLLBACK');
	return [$states, rows($c, "SELECT 'still here'")];
});

check('copy', function ($c) {
	pg_copy_from($c, 'visits', array_map(fn($i) => "$i\tpage $i\n", range(100, 1099)));
	return [array_slice(pg_copy_to($c, 'visits'), 0, 3), pg_copy_from($c, 'visits', ["x\ty\n"]), rows($c, 'SELECT count(*) FROM visits')];
});

check('pdo', function ($c) {
	$p = pdo();
	$s = $p->prepare('SELECT :a::int + 1, :b::text, :c::bool');
	$all = [];
	for ($i = 0; $i < 10; $i++)
	{
		$s->execute(['a' => $i, 'b' => "it's", 'c' => 1]);
		$all = $s->fetchAll(PDO::FETCH_NUM);
		$p->prepare("SELECT ?::int + $i")->execute([$i]);	// DEALLOCATE, as text, when it goes out of use
	}
	$p->beginTransaction();
	$p->exec("INSERT INTO visits VALUES (2, 'gone')");
	$p->rollBack();
	try
	{
		$p->prepare('INSERT INTO visits VALUES (?, ?)')->execute([1, 'again']);
	}
	catch (PDOException $e)
	{
		$all[] = $e->getCode();
	}
	$p->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
	$s = $p->prepare('SELECT ?, count(*) FROM visits');
	$s->execute(["it's"]);
	return [$all, $s->fetchAll(PDO::FETCH_NUM), $p->pgsqlCopyToArray('(SELECT 7)')];
});

check('large', function ($c) {
	$r = pg_query_params($c, 'SELECT $1::text, length($2)', [str_repeat('ä', 1000000), str_repeat('b', 3000000)]);
	[$a, $b] = pg_fetch_row($r);
	return [strlen($a), $b, pg_num_rows(pg_query($c, "SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"))];
});

check('large_object', function ($c) {
	pg_query($c, 'BEGIN');
	$lo = pg_lo_open($c, pg_lo_create($c), 'w+');
	pg_lo_write($lo, str_repeat('x', 10000));
	pg_lo_seek($lo, 5000);
	return strlen(pg_lo_read($lo, 9999));
});

check('settings', function ($c) {
	pg_query($c, "SET TIME ZONE 'Asia/Tokyo'; SET search_path TO pg_catalog, public");
	$other = connect("options='-csearch_path=pg_catalog' application_name=check");
	$path = rows($other, 'SHOW search_path');
	pg_close($other);
	pg_set_client_encoding($c, 'LATIN1');
	return [rows($c, "SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')"), pg_parameter_status($c, 'TimeZone'),
		bin2hex(rows($c, 'SELECT chr(228) AS x')[0]['x']), $path];
});

check('notice', function ($c) {
	pg_query($c, "DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$");
	return pg_last_notice($c);
});

check('cancel', function ($c) {
	pg_send_query($c, 'SELECT pg_sleep(10)');
	usleep(300000);
	return [pg_cancel_query($c), rows($c, "SELECT 'still here'")];
});

check('short_connections', function ($c) {
	$total = 0;
	for ($i = 0; $i < 30; $i++)
	{
		$one = $i % 2 ? connect() : pdo();
		$total += $i % 2 ? rows($one, 'SELECT $1::int AS n', [$i])[0]['n'] : $one->query("SELECT $i")->fetchColumn();
		$one = null;
	}
	return $total;
});

check('at_once', function ($c) {
	$all = array_map(fn($n) => connect(), range(0, 7));
	$good = 0;
	foreach ($all as $n => $mine)
		pg_send_query($mine, "BEGIN; UPDATE visits SET page = page || '.' WHERE id = 100 + $n; SELECT pg_sleep(0.05); COMMIT");
	foreach ($all as $mine)
		while ($r = pg_get_result($mine))
			$good += pg_result_status($r) == PGSQL_COMMAND_OK || pg_result_status($r) == PGSQL_TUPLES_OK;
	return [$good, rows($c, 'SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107')];
});
