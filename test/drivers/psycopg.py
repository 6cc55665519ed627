#!/usr/bin/python3 -I
"""psycopg 3: libpq, extended queries, statements prepared after some uses, pipelines.  README.md has the list of checks."""
import datetime
import decimal
import threading
import uuid

import psycopg
from psycopg.types.json import Jsonb


def connect(**more):
    return psycopg.connect("", **more)     # PGHOST and its kin


def check(name, work):
    c = connect()
    try:
        print(f"ok - {name}: {work(c)!r}")
    except Exception as e:
        print(f"not ok - {name}: {type(e).__name__}: {e}")
    finally:
        c.close()


def state_of(work):
    try:
        work()
    except psycopg.Error as e:
        return e.sqlstate
    return "no error"


def login(c):
    info = c.info
    return c.execute("SELECT current_user, current_database()").fetchone(), info.server_version, info.encoding, info.status.name


def simple(c):
    c.autocommit = True
    q = c.execute("SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i")
    first = q.fetchall()
    return first, q.nextset(), q.fetchall(), q.statusmessage


def types(c):
    values = [7, -2000000, 2 ** 53 + 1, decimal.Decimal("12345.6789"), 0.1, True, "Grüße 'x' \\ %", b"\x00\xff\x10",
              datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 23, 59, 58, 123456), datetime.timedelta(days=3, seconds=1),
              uuid.UUID(int=7), Jsonb({"a": [1, None]}), [1, 2, 3], None]
    text = "SELECT " + ", ".join(["%s"] * len(values))
    q = c.execute(text, values)
    return q.fetchone(), [d.type_code for d in q.description], c.execute(text, values, binary=True).fetchone()


def prepared(c):
    c.autocommit = True
    total = 0
    for i in range(30):
        total += c.execute("SELECT %s::int + 1", (i,), prepare=True).fetchone()[0]
        total += c.execute("SELECT %s::text", (i,)).fetchone()[0] == str(i)
    c.execute("DEALLOCATE ALL")
    names = c.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    return total, names


def many_statements(c):
    c.prepared_max = 20
    return sum(c.execute(f"SELECT %s::int + {i}", (1,), prepare=True).fetchone()[0] for i in range(100))


def transaction(c):
    c.execute("DROP TABLE IF EXISTS visits")
    c.execute("CREATE TABLE visits (id int PRIMARY KEY, page text)")
    c.commit()
    with c.transaction():
        c.execute("INSERT INTO visits VALUES (%s, %s)", (1, "kept"))
        with c.transaction(force_rollback=True):
            c.execute("DELETE FROM visits")
    c.execute("INSERT INTO visits VALUES (2, 'gone')")
    c.rollback()
    c.read_only = True
    c.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    rows = c.execute("SELECT id, page, current_setting('transaction_isolation') FROM visits").fetchall()
    return rows, state_of(lambda: c.execute("INSERT INTO visits VALUES (3, 'x')"))


def errors(c):
    states = [state_of(lambda: c.execute("SELEC %s", (1,))), state_of(lambda: c.execute("SELECT 1"))]
    c.rollback()
    states.append(state_of(lambda: c.execute("INSERT INTO visits VALUES (%s, 'again')", (1,))))
    c.rollback()
    for i in range(8):
        states.append(state_of(lambda: c.execute("SELECT 1 / %s::int", (i % 2,))))
        c.rollback()
    return states, c.execute("SELECT 'still here'").fetchone()


def pipeline(c):
    c.autocommit = True
    with c.pipeline() as p:
        queries = [c.execute("SELECT %s::int * 2", (i,)) for i in range(50)]
        with c.transaction():
            c.execute("INSERT INTO visits VALUES (50, 'from a pipeline')")
        p.sync()
        total = sum(q.fetchone()[0] for q in queries)

    def broken():
        with c.pipeline():
            c.execute("INSERT INTO visits VALUES (51, 'goes with the error')")
            c.execute("SELECT 1 / %s::int", (0,))
            c.execute("SELECT 'not run'")

    state = state_of(broken)
    with c.cursor() as q:
        q.executemany("INSERT INTO visits VALUES (%s, %s)", [(60 + i, "many") for i in range(20)])
    return total, state, c.execute("SELECT count(*), max(id) FROM visits").fetchone()


def copy(c):
    with c.cursor() as q:
        with q.copy("COPY visits FROM STDIN (FORMAT binary)") as to:
            to.set_types(["int4", "text"])
            for i in range(100, 1100):
                to.write_row((i, f"page {i}"))
        c.commit()
        with q.copy("COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT") as out:
            rows = [bytes(b) for b in out]

    def broken():
        with c.cursor().copy("COPY visits FROM STDIN") as to:
            to.write("x\ty\n")

    state = state_of(broken)
    c.rollback()

    def given_up():
        with c.cursor().copy("COPY visits FROM STDIN") as to:
            to.write("9999\ty\n")
            raise psycopg.DataError("no more")

    return rows[:3], state, state_of(given_up), c.info.transaction_status.name


def cursor(c):
    with c.cursor("walk") as walk:
        walk.itersize = 100
        walk.execute("SELECT i, repeat('x', 100) FROM generate_series(1, %s) i", (1000,))
        return sum(row[0] for row in walk), sum(row[0] for row in c.cursor().stream("SELECT generate_series(1, 1000)"))


def large(c):
    one = c.execute("SELECT %s::text, length(%s::text)", ("ä" * 1000000, "b" * 3000000)).fetchone()
    return len(one[0]), one[1], len(c.execute("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i").fetchall())


def settings(c):
    c.autocommit = True
    c.execute("SET TIME ZONE 'Asia/Tokyo'")
    c.execute("SELECT set_config('search_path', %s, false)", ("pg_catalog, public",))
    one = c.execute("SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')").fetchone()
    c.execute("SET client_encoding TO LATIN1")
    return one, c.execute("SELECT %s::text", ("ä",)).fetchone(), c.info.parameter_status("TimeZone"), c.info.encoding


def notice(c):
    heard = []
    c.add_notice_handler(lambda d: heard.append((d.severity, d.message_primary)))
    c.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
    return heard


def cancel(c):
    c.autocommit = True
    threading.Timer(0.3, c.cancel).start()
    state = state_of(lambda: c.execute("SELECT pg_sleep(%s)", (10,)))
    return state, c.execute("SELECT 'still here'").fetchone()


def short_connections(c):
    total = 0
    for i in range(30):
        with connect(autocommit=i % 2 == 0) as one:
            total += one.execute("SELECT %s::int", (i,), prepare=True).fetchone()[0]
    return total


def at_once(c):
    good = []

    def work(n):
        mine = connect()
        for i in range(10):
            before = mine.execute("SELECT pg_backend_pid()").fetchone()
            mine.execute("UPDATE visits SET page = page || '.' WHERE id = %s", (100 + n,))
            good.append(mine.execute("SELECT pg_backend_pid()").fetchone() == before)
            mine.commit()
        mine.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    return all(good), len(good), c.execute("SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107").fetchone()


for f in (login, simple, types, prepared, many_statements, transaction, errors, pipeline, copy, cursor, large, settings, notice, cancel,
          short_connections, at_once):
    check(f.__name__, f)
