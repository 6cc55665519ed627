#!/usr/bin/env node
// node-postgres (npm: pg): its own protocol code, simple queries without parameters, named statements on request.
// README.md has the list of checks.
import { createRequire } from 'node:module';

const pg = createRequire(`${process.cwd()}/`)('pg');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const options = { ssl: process.env.PGSSLMODE !== 'disable' && { rejectUnauthorized: false } };		// and PGHOST and its kin

async function connect(more = {})
{
	const c = new pg.Client({ ...options, ...more });
	await c.connect();
	return c;
}

async function check(work)
{
	const c = await connect();
	try
	{
		console.log(`ok - ${work.name}: ${JSON.stringify(await work(c))}`);
	}
	catch (e)
	{
		console.log(`not ok - ${work.name}: ${e}`);
	}
	await c.end();
}

const stateOf = promise => promise.then(() => 'no error', e => e.code);

async function login(c)
{
	return (await c.query('SELECT current_user, current_database()')).rows;
}

async function simple(c)
{
	const results = await c.query("SELECT 1 AS one; SELECT 'two' AS two, i FROM generate_series(1, 3) i");
	return results.map(r => [r.command, r.rowCount, r.rows]);
}

async function types(c)
{
	const values = [7, -2000000, '9007199254740993', '12345.6789', 0.1, true, "Grüße 'x' \\ %", Buffer.from([0, 255, 16]),
		'2024-02-29', new Date(Date.UTC(2024, 1, 29, 23, 59, 58, 123)), '3 days 00:00:01', '00000000-0000-0000-0000-000000000007',
		{ a: [1, null] }, [1, 2, 3], null];
	const casts = 'int2 int4 int8 numeric float8 bool text bytea date timestamptz interval uuid jsonb int4[] text'.split(' ');
	const r = await c.query({ text: `SELECT ${casts.map((t, i) => `$${i + 1}::${t}`)}`, values, rowMode: 'array' });
	return [r.rows[0], r.fields.map(f => f.dataTypeID)];
}

async function prepared(c)
{
	let total = 0;
	for (let i = 0; i < 30; i++)
	{
		total += (await c.query({ name: 'plus', text: 'SELECT $1::int + 1 AS n', values: [i] })).rows[0].n;
		total += (await c.query({ name: `plus ${i}`, text: `SELECT $1::int + ${i} AS n`, values: [1] })).rows[0].n;
	}
	return total;
}

async function transaction(c)
{
	await c.query('DROP TABLE IF EXISTS visits');
	await c.query('CREATE TABLE visits (id int PRIMARY KEY, page text)');
	await c.query('BEGIN');
	await c.query('INSERT INTO visits VALUES ($1, $2)', [1, 'kept']);
	await c.query('SAVEPOINT s');
	await c.query('DELETE FROM visits');
	await c.query('ROLLBACK TO s');
	await c.query('COMMIT');
	await c.query('BEGIN');
	await c.query("INSERT INTO visits VALUES (2, 'gone')");
	await c.query('ROLLBACK');
	await c.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY');
	const { rows } = await c.query("SELECT id, page, current_setting('transaction_isolation') FROM visits");
	return [rows, await stateOf(c.query("INSERT INTO visits VALUES (3, 'x')"))];
}

async function errors(c)
{
	const states = [await stateOf(c.query('SELEC 1')), await stateOf(c.query('SELEC $1', [1])),
		await stateOf(c.query("INSERT INTO visits VALUES ($1, 'again')", [1]))];
	for (let i = 0; i < 6; i++)
		states.push(await stateOf(c.query({ name: 'divide', text: 'SELECT 1 / $1::int', values: [i % 2] })));
	await c.query('BEGIN');
	states.push(await stateOf(c.query('SELECT 1 / 0')), await stateOf(c.query('SELECT $1::int', [1])));
	await c.query('ROLLBACK');
	return [states, (await c.query("SELECT 'still here' AS x")).rows];
}

async function large(c)
{
	const { rows: [one] } = await c.query('SELECT $1::text AS a, length($2) AS b', ['ä'.repeat(1000000), 'b'.repeat(3000000)]);
	return [one.a.length, one.b, (await c.query("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i")).rowCount];
}

async function settings(c)
{
	await c.query("SET TIME ZONE 'Asia/Tokyo'");
	await c.query("SET search_path TO pg_catalog, public");
	const one = (await c.query("SELECT '2024-01-01 00:00+00'::timestamptz::text AS t, current_setting('search_path') AS p")).rows;
	const other = await connect({ options: '-c search_path=pg_catalog -c statement_timeout=30s', application_name: 'check' });
	const two = (await other.query("SELECT current_setting('search_path') AS p, current_setting('statement_timeout') AS s")).rows;
	await other.end();
	return [one, two];
}

async function notice(c)
{
	const heard = [];
	c.on('notice', n => heard.push([n.severity, n.message]));
	await c.query("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$");
	return heard;
}

async function cancel(c)
{
	const waiting = stateOf(c.query('SELECT pg_sleep(10)'));
	await sleep(300);
	const other = new pg.Connection(options);
	other.on('error', () => {});
	const ask = () => other.cancel(c.processID, c.secretKey);
	other.once('connect', () => options.ssl ? other.requestSsl() : ask());
	other.once('sslconnect', ask);
	other.connect(Number(process.env.PGPORT), process.env.PGHOST);
	return [await waiting, (await c.query("SELECT 'still here' AS x")).rows];
}

async function shortConnections()
{
	let total = 0;
	for (let i = 0; i < 30; i++)
	{
		const one = await connect();
		total += (await one.query('SELECT $1::int AS n', [i])).rows[0].n;
		await one.end();
	}
	return total;
}

async function atOnce(c)
{
	const pool = new pg.Pool({ ...options, max: 6 });
	const pid = async mine => (await mine.query('SELECT pg_backend_pid() AS pid')).rows[0].pid;
	const good = [];
	await c.query("INSERT INTO visits SELECT i, '' FROM generate_series(100, 107) i");
	await Promise.all([...Array(8).keys()].map(async n => {
		for (let i = 0; i < 10; i++)
		{
			const mine = await pool.connect();
			await mine.query('BEGIN');
			const before = await pid(mine);
			await mine.query("UPDATE visits SET page = page || '.' WHERE id = $1", [100 + n]);
			good.push(await pid(mine) == before);
			await mine.query('COMMIT');
			mine.release();
		}
	}));
	await pool.end();
	return [good.every(g => g), good.length, (await c.query('SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107')).rows];
}

for (const f of [login, simple, types, prepared, transaction, errors, large, settings, notice, cancel, shortConnections, atOnce])
	await check(f);
