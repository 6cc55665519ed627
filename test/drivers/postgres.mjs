#!/usr/bin/env node
// postgres.js (npm: postgres): its own protocol code, everything prepared, pipelined without asking.
// README.md has the list of checks.
import { createRequire } from 'node:module';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';

const postgres = createRequire(`${process.cwd()}/`)('postgres');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const connect = (more = {}) => postgres({ ssl: process.env.PGSSLMODE !== 'disable' && { rejectUnauthorized: false }, max: 1, onnotice: () => {}, ...more });

async function check(work)
{
	const sql = connect();
	try
	{
		console.log(`ok - ${work.name}: ${JSON.stringify(await work(sql))}`);
	}
	catch (e)
	{
		console.log(`not ok - ${work.name}: ${e}`);
	}
	await sql.end({ timeout: 5 });
}

const stateOf = promise => promise.then(() => 'no error', e => e.code);

async function login(sql)
{
	return sql`SELECT current_user, current_database()`;
}

async function simple(sql)
{
	return sql`SELECT 1 AS one; SELECT 'two' AS two, i FROM generate_series(1, 3) i`.simple();
}

async function types(sql)
{
	const rows = await sql`SELECT ${7}::int2 AS a, ${-2000000}::int4 AS b, ${'9007199254740993'}::int8 AS c, ${'12345.6789'}::numeric AS d,
		${0.1}::float8 AS e, ${true}::bool AS f, ${"Grüße 'x' \\ %"}::text AS g, ${Buffer.from([0, 255, 16])}::bytea AS h,
		${'2024-02-29'}::date AS i, ${new Date(Date.UTC(2024, 1, 29, 23, 59, 58, 123))}::timestamptz AS j,
		${'3 days 00:00:01'}::interval AS k, ${'00000000-0000-0000-0000-000000000007'}::uuid AS l, ${sql.json({ a: [1, null] })}::jsonb AS m,
		${[1, 2, 3]}::int4[] AS n, ${null}::text AS o`;
	return [rows[0], rows.columns.map(c => c.type), rows.statement.types];
}

async function prepared(sql)
{
	let total = 0;
	for (let i = 0; i < 30; i++)
	{
		total += (await sql`SELECT ${i}::int + 1 AS n`)[0].n;
		total += (await sql.unsafe(`SELECT $1::int + ${i} AS n`, [1], { prepare: true }))[0].n;
		total += (await sql.unsafe('SELECT $1::int AS n', [i]))[0].n;
	}
	const { types: wanted, columns } = await sql`SELECT ${1}::int8 AS n, ${'x'}::text AS t`.describe();
	return [total, wanted, columns.map(c => [c.name, c.type])];
}

async function transaction(sql)
{
	await sql`DROP TABLE IF EXISTS visits`;
	await sql`CREATE TABLE visits (id int PRIMARY KEY, page text)`;
	await sql.begin(async sql => {
		await sql`INSERT INTO visits ${sql([{ id: 1, page: 'kept' }])}`;
		await sql.savepoint(async sql => {
			await sql`DELETE FROM visits`;
			throw new Error('back');
		}).catch(() => {});
	});
	await sql.begin(async sql => {
		await sql`INSERT INTO visits VALUES (2, 'gone')`;
		throw new Error('back');
	}).catch(() => {});
	return sql.begin('ISOLATION LEVEL SERIALIZABLE READ ONLY', async sql => [
		await sql`SELECT id, page, current_setting('transaction_isolation') FROM visits`,
		await stateOf(sql.savepoint(sql => sql`INSERT INTO visits VALUES (3, 'x')`))]);
}

async function errors(sql)
{
	const states = [await stateOf(sql`SELEC 1`), await stateOf(sql`SELEC ${1}`), await stateOf(sql`INSERT INTO visits VALUES (${1}, 'again')`)];
	for (let i = 0; i < 6; i++)
		states.push(await stateOf(sql`SELECT 1 / ${i % 2}::int`));
	await sql.begin(async sql => {
		states.push(await stateOf(sql`SELECT 1 / 0`), await stateOf(sql`SELECT ${1}::int`));
	}).catch(e => states.push(e.code));
	return [states, await sql`SELECT 'still here' AS x`];
}

// A statement in use whose table changes: prepared anew when the server says so.
async function plan(sql)
{
	const select = () => sql`SELECT * FROM plans`;
	await sql`DROP TABLE IF EXISTS plans; CREATE TABLE plans AS SELECT * FROM visits`.simple();
	const rows = [await select()];
	for (const change of ['ADD note text', 'DROP note'])
	{
		await sql.unsafe(`ALTER TABLE plans ${change}`);
		rows.push(await select());
	}
	return rows;
}

// Sent without waiting for answers.
async function pipelined(sql)
{
	const results = await Promise.all([...Array(100).keys()].map(i => i % 20 == 19 ?
		stateOf(sql`SELECT ${i} / 0`) : i % 20 == 9 ? sql`INSERT INTO visits VALUES (${1000 + i}, 'p')` : sql`SELECT ${i}::int * 2 AS n`));
	const inOne = await sql.begin(sql => [sql`INSERT INTO visits VALUES (50, 'a')`, sql`INSERT INTO visits VALUES (51, 'b')`, sql`SELECT count(*) FROM visits`]);
	const failed = await stateOf(sql.begin(sql => [sql`INSERT INTO visits VALUES (52, 'a')`, sql`INSERT INTO visits VALUES (51, 'b')`, sql`SELECT 1`]));
	return [results.map(r => r[0]?.n ?? r), inOne[2], failed, await sql`SELECT count(*) FROM visits`];
}

async function copy(sql)
{
	const lines = [...Array(1000).keys()].map(i => `${100 + i + (i > 800 ? 2000 : 0)}\tpage ${i}\n`);
	await pipeline(Readable.from(lines), await sql`COPY visits FROM STDIN`.writable());
	let out = '';
	for await (const chunk of await sql`COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT`.readable())
		out += chunk;
	return [out, await sql`SELECT count(*) FROM visits`];
}

async function cursor(sql)
{
	let total = 0;
	await sql`SELECT i, repeat('x', 100) FROM generate_series(1, ${1000}) i`.cursor(100, rows => rows.forEach(r => total += r.i));
	for await (const rows of sql`SELECT i FROM generate_series(1, 1000) i`.cursor(300))
	{
		total += rows.length;
		if (total > 501000)
			break;
	}
	return [total, await sql`SELECT 'still here' AS x`];
}

async function large(sql)
{
	const [one] = await sql`SELECT ${'ä'.repeat(1000000)}::text AS a, length(${'b'.repeat(3000000)}) AS b`;
	return [one.a.length, one.b, (await sql`SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i`).count];
}

async function settings(sql)
{
	await sql`SET TIME ZONE 'Asia/Tokyo'`;
	await sql`SELECT set_config('search_path', ${'pg_catalog, public'}, false)`;
	const one = await sql`SELECT '2024-01-01 00:00+00'::timestamptz::text AS t, current_setting('search_path') AS p`;
	const other = connect({ connection: { search_path: 'pg_catalog', statement_timeout: 30000, application_name: 'check' } });
	const two = await other`SELECT current_setting('search_path') AS p, current_setting('statement_timeout') AS s`;
	await other.end();
	return [one, two];
}

async function notice()
{
	const heard = [];
	const sql = connect({ onnotice: n => heard.push([n.severity, n.message]) });
	await sql`DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$`;
	await sql.end();
	return heard;
}

async function cancel(sql)
{
	const waiting = sql`SELECT pg_sleep(${10})`;
	const state = stateOf(waiting);
	await sleep(300);
	waiting.cancel();
	return [await state, await sql`SELECT 'still here' AS x`];
}

async function shortConnections()
{
	let total = 0;
	for (let i = 0; i < 30; i++)
	{
		const one = connect();
		total += (await one`SELECT ${i}::int AS n`)[0].n;
		await one.end();
	}
	return total;
}

async function atOnce(c)
{
	const sql = connect({ max: 6 });
	const good = [];
	await c`UPDATE visits SET page = '' WHERE id BETWEEN 100 AND 107`;
	await Promise.all([...Array(80).keys()].map(n => sql.begin(async sql => {
		const [before] = await sql`SELECT pg_backend_pid() AS pid`;
		await sql`UPDATE visits SET page = page || '.' WHERE id = ${100 + n % 8}`;
		const [after] = await sql`SELECT pg_backend_pid() AS pid`;
		good.push(before.pid == after.pid);
	})));
	await sql.end();
	return [good.every(g => g), good.length, await c`SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107`];
}

for (const f of [login, simple, types, prepared, transaction, errors, plan, pipelined, copy, cursor, large, settings, notice,
	cancel, shortConnections, atOnce])
	await check(f);
