#!/usr/bin/python3 -I
"""pg8000: its own protocol code, pure Python, the unnamed statement.  README.md has the list of checks."""
import datetime
import decimal
import io
import os
import ssl
import threading

import pg8000

tls = ssl.create_default_context()
tls.check_hostname = False
tls.verify_mode = ssl.CERT_NONE
wanted = {} if os.environ.get("PGSSLMODE") == "disable" else {"ssl_context": tls}


def connect():
    e = os.environ
    return pg8000.connect(host=e["PGHOST"], port=int(e["PGPORT"]), user=e["PGUSER"], password=e["PGPASSWORD"], database=e["PGDATABASE"], **wanted)


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
    except pg8000.DatabaseError as e:
        return e.args[0]["C"] if isinstance(e.args[0], dict) else e.args[2]    # before 1.13
    return "no error"


def login(c, q):
    q.execute("SELECT current_user, current_database()")
    return q.fetchone()


def types(c, q):
    values = [7, -2000000, 2 ** 53 + 1, decimal.Decimal("12345.6789"), 0.1, True, "Grüße 'x' \\ %", b"\x00\xff\x10",
              datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 23, 59, 58, 123456), datetime.timedelta(days=3, seconds=1),
              [1, 2, 3], None]
    casts = "int2 int4 int8 numeric float8 bool text bytea date timestamp interval int4[] text".split()
    q.execute("SELECT " + ", ".join(f"CAST(%s AS {cast})" for cast in casts), values)
    return q.fetchone(), [d[1] for d in q.description]


def transaction(c, q):
    q.execute("DROP TABLE IF EXISTS visits")
    q.execute("CREATE TABLE visits (id int PRIMARY KEY, page text)")
    c.commit()
    q.execute("INSERT INTO visits VALUES (%s, %s)", (1, "kept"))
    q.execute("SAVEPOINT s")
    q.execute("DELETE FROM visits")
    q.execute("ROLLBACK TO s")
    c.commit()
    q.execute("INSERT INTO visits VALUES (2, 'gone')")
    c.rollback()
    q.execute("SELECT * FROM visits")
    return q.fetchall()


def many(c, q):
    total = 0
    c.autocommit = True
    for i in range(30):
        q.execute("SELECT CAST(%s AS int4) + 1", (i,))
        total += q.fetchone()[0]
    q.executemany("INSERT INTO visits VALUES (%s, %s)", [(10 + i, "many") for i in range(20)])
    q.execute("SELECT count(*) FROM visits")
    return total, q.fetchone()


def errors(c, q):
    states = [state_of(lambda: q.execute("SELEC 1")), state_of(lambda: q.execute("SELECT 1"))]
    c.rollback()
    states.append(state_of(lambda: q.execute("INSERT INTO visits VALUES (%s, 'again')", (1,))))
    c.rollback()
    q.execute("SELECT 'still here'")
    return states, q.fetchone()


def copy(c, q):
    q.execute("COPY visits FROM STDIN", stream=io.BytesIO(b"".join(b"%d\tpage %d\n" % (i, i) for i in range(100, 1100))))
    c.commit()
    out = io.BytesIO()
    q.execute("COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT", stream=out)
    bad = state_of(lambda: q.execute("COPY visits FROM STDIN", stream=io.BytesIO(b"x\ty\n")))
    c.rollback()
    return out.getvalue()[:40], bad


def large(c, q):
    q.execute("SELECT CAST(%s AS text), length(CAST(%s AS text))", ("ä" * 1000000, "b" * 3000000))
    one = q.fetchone()
    q.execute("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i")
    return len(one[0]), one[1], len(q.fetchall())


def settings(c, q):
    c.autocommit = True
    q.execute("SET TIME ZONE 'Asia/Tokyo'")
    q.execute("SET search_path TO pg_catalog, public")
    q.execute("SELECT CAST(CAST('2024-01-01 00:00+00' AS timestamptz) AS text), current_setting('search_path')")
    return q.fetchone()


def notice(c, q):
    q.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
    return [n[b"M"] for n in c.notices]


def short_connections(c, q):
    total = 0
    for i in range(30):
        one = connect()
        p = one.cursor()
        p.execute("SELECT CAST(%s AS int4)", (i,))
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


for f in (login, types, transaction, many, errors, copy, large, settings, notice, short_connections, at_once):
    check(f.__name__, f)
