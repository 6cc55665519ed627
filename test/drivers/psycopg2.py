#!/usr/bin/python3 -I
"""psycopg2: libpq, simple queries, parameters put into the text by the client.  README.md has the list of checks."""
import datetime
import decimal
import io
import threading
import uuid

import psycopg2
import psycopg2.extras

psycopg2.extras.register_uuid()


def connect():
    return psycopg2.connect("")     # PGHOST and its kin


def check(name, work):
    c = connect()
    try:
        print(f"ok - {name}: {work(c, c.cursor())!r}")
    except Exception as e:
        print(f"not ok - {name}: {type(e).__name__}: {e}")
    finally:
        c.close()


def state_of(work):
    try:
        work()
    except psycopg2.Error as e:
        return e.pgcode
    return "no error"


def login(c, q):
    q.execute("SELECT current_user, current_database()")
    return q.fetchone(), c.server_version, c.encoding, c.info.ssl_in_use, c.info.status


def simple(c, q):
    c.autocommit = True
    q.execute("SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i")
    return q.fetchall(), q.rowcount, q.statusmessage


def types(c, q):
    values = [7, -2000000, 2 ** 53 + 1, decimal.Decimal("12345.6789"), 0.1, True, "Grüße 'x' \\ %", b"\x00\xff\x10",
              datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 23, 59, 58, 123456), datetime.timedelta(days=3, seconds=1),
              uuid.UUID(int=7), psycopg2.extras.Json({"a": [1, None]}), [1, 2, 3], None]
    q.execute("SELECT " + ", ".join(["%s"] * len(values)), values)
    row = [bytes(v) if isinstance(v, memoryview) else v for v in q.fetchone()]
    return row, [d.type_code for d in q.description]


def transaction(c, q):
    q.execute("DROP TABLE IF EXISTS visits")
    q.execute("CREATE TABLE visits (id int PRIMARY KEY, page text)")
    c.commit()
    q.execute("INSERT INTO visits VALUES (1, 'kept') RETURNING id")
    c.commit()
    q.execute("INSERT INTO visits VALUES (2, 'gone')")
    c.rollback()
    q.execute("SAVEPOINT s")
    q.execute("DELETE FROM visits")
    q.execute("ROLLBACK TO s")
    c.commit()
    c.set_session(isolation_level="SERIALIZABLE", readonly=True)
    q.execute("SELECT id, page, current_setting('transaction_isolation') FROM visits")
    return q.fetchall(), state_of(lambda: q.execute("INSERT INTO visits VALUES (3, 'x')"))


def errors(c, q):
    states = [state_of(lambda: q.execute("SELEC 1")), state_of(lambda: q.execute("SELECT 1"))]
    c.rollback()
    states.append(state_of(lambda: q.execute("INSERT INTO visits VALUES (1, 'again')")))
    c.rollback()
    states.append(state_of(lambda: q.execute("SELECT 1 / 0")))
    c.rollback()
    q.execute("SELECT 'still here'")
    return states, q.fetchone()


def copy(c, q):
    q.copy_from(io.StringIO("".join(f"{i}\tpage {i}\n" for i in range(100, 1100))), "visits")
    c.commit()
    out = io.StringIO()
    q.copy_expert("COPY (SELECT * FROM visits ORDER BY id) TO STDOUT", out)
    bad = state_of(lambda: q.copy_from(io.StringIO("x\ty\n"), "visits"))
    c.rollback()
    return len(out.getvalue()), out.getvalue()[:40], bad


def cursor(c, q):
    with c.cursor("walk") as walk:
        walk.itersize = 100
        walk.execute("SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i")
        return sum(row[0] for row in walk)


def large(c, q):
    q.execute("SELECT %s, length(%s)", ("ä" * 1000000, "b" * 3000000))
    one = q.fetchone()
    q.execute("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i")
    return len(one[0]), one[1], len(q.fetchall())


def large_object(c, q):
    lo = c.lobject(0, "wb")
    lo.write(b"x" * 10000)
    lo.seek(5000)
    rest = len(c.lobject(lo.oid, "rb").read())
    c.rollback()
    return rest


def settings(c, q):
    c.autocommit = True
    q.execute("SET TIME ZONE 'Asia/Tokyo'")
    q.execute("SET search_path TO pg_catalog, public")
    q.execute("SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')")
    one = q.fetchone()
    c.set_client_encoding("LATIN1")
    q.execute("SELECT 'ä'")
    return one, q.fetchone(), c.get_parameter_status("TimeZone"), c.encoding


def notice(c, q):
    q.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
    return c.notices


def cancel(c, q):
    c.autocommit = True
    threading.Timer(0.3, c.cancel).start()
    state = state_of(lambda: q.execute("SELECT pg_sleep(10)"))
    q.execute("SELECT 'still here'")
    return state, q.fetchone()


def short_connections(c, q):
    total = 0
    for i in range(30):
        with connect() as one, one.cursor() as p:
            p.execute("SELECT %s", (i,))
            total += p.fetchone()[0]
        one.close()
    return total


def at_once(c, q):
    good = []

    def work(n):
        mine = connect()
        p = mine.cursor()
        for i in range(10):
            p.execute("SELECT pg_backend_pid()")
            before = p.fetchone()
            p.execute("UPDATE visits SET page = page || '.' WHERE id = %s", (100 + n,))
            p.execute("SELECT pg_backend_pid()")
            good.append(p.fetchone() == before)
            mine.commit()
        mine.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    q.execute("SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107")
    return all(good), len(good), q.fetchone()


for f in (login, simple, types, transaction, errors, copy, cursor, large, large_object, settings, notice, cancel, short_connections, at_once):
    check(f.__name__, f)
