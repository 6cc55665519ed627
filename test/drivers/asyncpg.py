#!/usr/bin/python3 -I
"""asyncpg: its own protocol code, everything prepared and binary, statements cached, a reset query at the pool's release.
README.md has the list of checks."""
import asyncio
import datetime
import decimal
import io
import os
import ssl
import uuid

import asyncpg

tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE
wanted = False if os.environ.get("PGSSLMODE") == "disable" else tls


async def connect(**more):
    return await asyncpg.connect(ssl=wanted, **more)       # PGHOST and its kin


async def check(name, work):
    c = await connect()
    try:
        print(f"ok - {name}: {await work(c)!r}")
    except Exception as e:
        print(f"not ok - {name}: {type(e).__name__}: {e}")
    finally:
        await c.close()


async def state_of(work):
    try:
        await work
    except asyncpg.PostgresError as e:
        return e.sqlstate
    return "no error"


async def login(c):
    return tuple(await c.fetchrow("SELECT current_user, current_database()")), c.get_server_version()[:2], c.get_settings().client_encoding


async def simple(c):
    return await c.execute("CREATE TEMP TABLE t (i int) ON COMMIT DROP; SELECT 1; SELECT 2"), await c.fetchval("SELECT 3")


async def types(c):
    values = [7, -2000000, 2 ** 53 + 1, decimal.Decimal("12345.6789"), 0.1, True, "Grüße 'x' \\ %", b"\x00\xff\x10",
              datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 23, 59, 58, 123456, datetime.timezone.utc),
              datetime.timedelta(days=3, seconds=1), uuid.UUID(int=7), '{"a": [1, null]}', [1, 2, 3], None]
    casts = "int2 int4 int8 numeric float8 bool text bytea date timestamptz interval uuid jsonb int4[] text".split()
    text = "SELECT " + ", ".join(f"${i + 1}::{cast}" for i, cast in enumerate(casts))
    statement = await c.prepare(text)
    return tuple(await c.fetchrow(text, *values)), [t.name for t in statement.get_parameters()], [a.type.name for a in statement.get_attributes()]


async def user_types(c):
    await c.execute("DROP TYPE IF EXISTS place; CREATE TYPE place AS (x int, y int)")
    value = await c.fetchval("SELECT ROW(1, 2)::place")
    await c.execute("DROP TYPE place; CREATE TYPE place AS (x int, y int)")
    return tuple(value), tuple(await c.fetchval("SELECT ARRAY[ROW(3, 4)::place]"))


async def prepared(c):
    total = 0
    statement = await c.prepare("SELECT $1::int + 1")
    for i in range(30):
        total += await statement.fetchval(i) + await c.fetchval("SELECT $1::int", i)
    for i in range(150):
        total += await c.fetchval(f"SELECT $1::int + {i}", 1)
    await c.reload_schema_state()
    return total, await statement.fetchval(0)


async def transaction(c):
    await c.execute("DROP TABLE IF EXISTS visits; CREATE TABLE visits (id int PRIMARY KEY, page text)")
    async with c.transaction():
        await c.execute("INSERT INTO visits VALUES ($1, $2)", 1, "kept")
        inner = c.transaction()
        await inner.start()
        await c.execute("DELETE FROM visits")
        await inner.rollback()
    outer = c.transaction()
    await outer.start()
    await c.execute("INSERT INTO visits VALUES (2, 'gone')")
    await outer.rollback()
    async with c.transaction(isolation="serializable", readonly=True):
        rows = await c.fetch("SELECT id, page, current_setting('transaction_isolation') FROM visits")
    return [tuple(r) for r in rows]


async def errors(c):
    states = [await state_of(c.fetch("SELEC $1", 1)), await state_of(c.execute("INSERT INTO visits VALUES ($1, 'again')", 1))]
    for i in range(6):
        states.append(await state_of(c.fetch("SELECT 1 / $1::int", i % 2)))
    outer = c.transaction()
    await outer.start()
    states.append(await state_of(c.fetch("SELECT 1 / 0")))
    states.append(await state_of(c.fetch("SELECT 1")))
    await outer.rollback()
    return states, await c.fetchval("SELECT 'still here'")


async def plan(c):
    """A statement in use whose table changes: prepared anew when the server says so."""
    await c.execute("DROP TABLE IF EXISTS plans; CREATE TABLE plans AS SELECT * FROM visits")
    rows = [await c.fetchrow("SELECT * FROM plans")]
    for change in ("ADD note text", "DROP note"):
        await c.execute("ALTER TABLE plans " + change)
        rows.append(await c.fetchrow("SELECT * FROM plans"))
    return [tuple(r) for r in rows]


async def many(c):
    await c.executemany("INSERT INTO visits VALUES ($1, $2)", [(10 + i, "many") for i in range(80)])
    state = await state_of(c.executemany("INSERT INTO visits VALUES ($1, $2)", [(95, "rolled back"), (10, "there already")]))
    return state, await c.fetchval("SELECT count(*) FROM visits")


async def copy(c):
    done = await c.copy_records_to_table("visits", records=[(i, f"page {i}") for i in range(100, 1100)])
    out = io.BytesIO()
    await c.copy_from_query("SELECT * FROM visits WHERE id < $1 ORDER BY id DESC", 103, output=out)
    bad = await state_of(c.copy_to_table("visits", source=io.BytesIO(b"x\ty\n")))
    return done, out.getvalue()[:40], bad, await c.fetchval("SELECT 'still here'")


async def cursor(c):
    async with c.transaction():
        total = 0
        async for row in c.cursor("SELECT i, repeat('x', 100) FROM generate_series(1, $1) i", 1000, prefetch=100):
            total += row[0]
        return total


async def large(c):
    one = await c.fetchrow("SELECT $1::text, length($2)", "ä" * 1000000, "b" * 3000000)
    return len(one[0]), one[1], len(await c.fetch("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"))


async def settings(c):
    other = await connect(server_settings={"search_path": "pg_catalog, public", "timezone": "Asia/Tokyo"})
    values = await other.fetchrow("SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')")
    await other.execute("SET search_path TO public")
    more = await other.fetchval("SHOW search_path")
    await other.close()
    return tuple(values), more, await c.fetchval("SHOW timezone")


async def notice(c):
    heard = []
    c.add_log_listener(lambda _, message: heard.append((message.severity, message.message)))
    await c.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
    await asyncio.sleep(0.05)
    return heard


async def cancel(c):
    try:
        await c.fetchval("SELECT pg_sleep($1)", 10, timeout=0.3)
    except asyncio.TimeoutError:
        return "timeout", await c.fetchval("SELECT 'still here'")


async def short_connections(c):
    total = 0
    for i in range(30):
        one = await connect()
        total += await one.fetchval("SELECT $1::int", i)
        await one.close()
    return total


async def at_once(c):
    good = []

    async def work(pool, n):
        for i in range(10):
            async with pool.acquire() as mine, mine.transaction():
                before = await mine.fetchval("SELECT pg_backend_pid()")
                await mine.execute("UPDATE visits SET page = page || '.' WHERE id = $1", 100 + n)
                good.append(await mine.fetchval("SELECT pg_backend_pid()") == before)

    async with asyncpg.create_pool(ssl=wanted, min_size=6, max_size=6) as pool:
        await asyncio.gather(*(work(pool, n) for n in range(8)))
    return all(good), len(good), await c.fetchval("SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107")


async def main():
    for f in (login, simple, types, user_types, prepared, transaction, errors, plan, many, copy, cursor, large, settings, notice, cancel,
              short_connections, at_once):
        await check(f.__name__, f)


asyncio.run(main())
