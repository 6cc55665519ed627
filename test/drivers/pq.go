// pq.go - lib/pq under database/sql: its own protocol code in Go, the unnamed statement in two exchanges, named statements, COPY.
// README.md has the list of checks.
package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
)

var ctx = context.Background()

// A connection of its own, behind a pool of one.
func connect(options string) (*sql.DB, *sql.Conn) {
	db, err := sql.Open("postgres", options)
	must(err)
	db.SetMaxOpenConns(1)
	c, err := db.Conn(ctx)
	if err != nil {
		db.Close()
	}
	must(err)
	return db, c
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(name string, work func(c *sql.Conn) any) {
	defer func() {
		if e := recover(); e != nil {
			fmt.Printf("not ok - %s: %v\n", name, e)
		}
	}()
	db, c := connect("")
	defer db.Close()
	defer c.Close()
	fmt.Printf("ok - %s: %v\n", name, work(c))
}

func stateOf(err error) string {
	var p *pq.Error
	if errors.As(err, &p) {
		return string(p.Code)
	}
	return fmt.Sprint(err)
}

func do(c *sql.Conn, text string, values ...any) int64 {
	r, err := c.ExecContext(ctx, text, values...)
	must(err)
	n, _ := r.RowsAffected()
	return n
}

func one[T any](c *sql.Conn, text string, values ...any) (v T) {
	must(c.QueryRowContext(ctx, text, values...).Scan(&v))
	return
}

// All rows, each as its values.
func all(c *sql.Conn, text string, values ...any) (out []string) {
	rows, err := c.QueryContext(ctx, text, values...)
	must(err)
	defer rows.Close()
	columns, err := rows.Columns()
	must(err)
	for rows.Next() {
		row := make([]any, len(columns))
		places := make([]any, len(columns))
		for i := range row {
			places[i] = &row[i]
		}
		must(rows.Scan(places...))
		for i, v := range row {
			if b, isBytes := v.([]byte); isBytes {
				row[i] = string(b)
			}
		}
		out = append(out, fmt.Sprint(row...))
	}
	must(rows.Err())
	return
}

func login(c *sql.Conn) any {
	return all(c, "SELECT current_user, current_database()")
}

func simple(c *sql.Conn) any {
	rows, err := c.QueryContext(ctx, "SELECT 1; SELECT 'two'; SELECT 3 WHERE false")
	must(err)
	defer rows.Close()
	sets, n := 1, 0
	for {
		for rows.Next() {
			n++
		}
		if !rows.NextResultSet() {
			break
		}
		sets++
	}
	must(rows.Err())
	return []int{sets, n}
}

func types(c *sql.Conn) any {
	rows, err := c.QueryContext(ctx, "SELECT $1::int2, $2::int8, $3::numeric, $4::float8, $5::bool, $6::text, $7::bytea, $8::date, $9::timestamptz, $10::int4[], $11::text, $12::uuid",
		7, int64(1)<<53+1, "12345.6789", 0.1, true, "Grüße 'x' \\ %", []byte{0, 255, 16}, "2024-02-29",
		time.Date(2024, 2, 29, 23, 59, 58, 123456000, time.UTC), pq.Array([]int{1, 2, 3}), nil, "12345678-1234-1234-1234-123456789abc")
	must(err)
	defer rows.Close()
	kinds, err := rows.ColumnTypes()
	must(err)
	row := make([]any, len(kinds))
	places := make([]any, len(kinds))
	out := []string{}
	for i := range row {
		places[i] = &row[i]
	}
	rows.Next()
	must(rows.Scan(places...))
	for i, k := range kinds {
		if t, isTime := row[i].(time.Time); isTime {
			row[i] = t.UTC().Format(time.RFC3339Nano)
		}
		out = append(out, fmt.Sprintf("%s %v", k.DatabaseTypeName(), row[i]))
	}
	return out
}

func prepared(c *sql.Conn) any {
	total := 0
	for i := 0; i < 20; i++ {
		s, err := c.PrepareContext(ctx, fmt.Sprintf("SELECT $1::int4 + %d", i))
		must(err)
		for j := 0; j < 5; j++ {
			var v int
			must(s.QueryRow(j).Scan(&v))
			total += v
		}
		if i%2 == 0 {
			must(s.Close())
		}
	}
	do(c, "PREPARE by_hand AS SELECT $1::int4 * 2")
	total += one[int](c, "EXECUTE by_hand(21)")
	do(c, "DEALLOCATE by_hand")
	return total
}

func transaction(c *sql.Conn) any {
	do(c, "DROP TABLE IF EXISTS visits")
	do(c, "CREATE TABLE visits (id int PRIMARY KEY, page text)")
	t, err := c.BeginTx(ctx, nil)
	must(err)
	for _, text := range []string{"INSERT INTO visits VALUES (1, 'kept')", "SAVEPOINT s", "DELETE FROM visits", "ROLLBACK TO s"} {
		_, err = t.Exec(text)
		must(err)
	}
	must(t.Commit())
	t, err = c.BeginTx(ctx, nil)
	must(err)
	_, err = t.Exec("INSERT INTO visits VALUES (2, $1)", "gone")
	must(err)
	must(t.Rollback())
	t, err = c.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable, ReadOnly: true})
	must(err)
	var level string
	must(t.QueryRow("SHOW transaction_isolation").Scan(&level))
	_, err = t.Exec("DELETE FROM visits")
	must(t.Rollback())
	return []any{all(c, "SELECT * FROM visits"), level, stateOf(err)}
}

func failing(c *sql.Conn) any {
	states := []string{}
	fails := func(text string, values ...any) {
		_, err := c.ExecContext(ctx, text, values...)
		states = append(states, stateOf(err))
	}
	fails("SELEC 1")
	fails("INSERT INTO visits VALUES ($1, 'again')", 1)
	fails("SELECT 1 / $1::int4", 0)
	fails("SELECT $1::int4", "x")
	do(c, "BEGIN")
	fails("SELECT * FROM not_there")
	fails("SELECT $1::int4", 1)
	do(c, "ROLLBACK")
	return append(states, one[string](c, "SELECT 'still here'"))
}

func plan(c *sql.Conn) any {
	do(c, "DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
	s, err := c.PrepareContext(ctx, "SELECT * FROM changing WHERE a = $1")
	must(err)
	var a int
	must(s.QueryRow(1).Scan(&a))
	do(c, "ALTER TABLE changing ADD COLUMN b text")
	err = s.QueryRow(1).Scan(&a)
	must(s.Close())
	return []any{a, stateOf(err), all(c, "SELECT * FROM changing WHERE a = $1", 1)}
}

func copying(c *sql.Conn) any {
	load := func(rows int, bad bool) error {
		t, err := c.BeginTx(ctx, nil)
		must(err)
		s, err := t.Prepare(pq.CopyIn("visits", "id", "page"))
		must(err)
		for i := 100; i < 100+rows; i++ {
			if _, err = s.Exec(i, fmt.Sprintf("page\t%d", i)); err != nil {
				break
			}
		}
		if bad {
			_, _ = s.Exec("x", "y")
		}
		_, err = s.Exec()
		_ = s.Close()
		if err != nil {
			must(t.Rollback())
			return err
		}
		return t.Commit()
	}
	must(load(1000, false))
	return []any{stateOf(load(0, true)), all(c, "SELECT count(*), max(page) FROM visits")}
}

func large(c *sql.Conn) any {
	text := one[string](c, "SELECT $1::text", strings.Repeat("ä", 1000000))
	rows := all(c, "SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i")
	return []any{len(text), fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(rows, ""))))[:12], len(rows)}
}

func settings(c *sql.Conn) any {
	do(c, "SET TIME ZONE 'Asia/Tokyo'")
	do(c, "SET search_path TO pg_catalog, public")
	db, other := connect("search_path=public options='-c work_mem=3MB'")
	defer db.Close()
	return []any{all(c, "SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')"),
		all(other, "SELECT current_setting('search_path'), current_setting('work_mem')")}
}

func notice(c *sql.Conn) any {
	said := []string{}
	must(c.Raw(func(raw any) error {
		pq.SetNoticeHandler(raw.(driver.Conn), func(n *pq.Error) { said = append(said, n.Message) })
		return nil
	}))
	do(c, "DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
	return said
}

func cancel(c *sql.Conn) any {
	short, end := context.WithTimeout(ctx, 400*time.Millisecond)
	defer end()
	db, other := connect("")
	defer db.Close()
	began := time.Now()
	_, err := other.ExecContext(short, "SELECT pg_sleep(30)")
	return []any{err != nil, time.Since(began) < 20*time.Second, one[int](c, "SELECT 42")}
}

func short_connections(c *sql.Conn) any {
	total := 0
	for i := 0; i < 30; i++ {
		db, other := connect("")
		total += one[int](other, "SELECT $1::int4", i)
		other.Close()
		db.Close()
	}
	return total
}

func at_once(c *sql.Conn) any {
	var group sync.WaitGroup
	good := make(chan bool, 80)
	for n := 0; n < 8; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			db, mine := connect("")
			defer db.Close()
			for i := 0; i < 10; i++ {
				var before, after int
				t, err := mine.BeginTx(ctx, nil)
				must(err)
				must(t.QueryRow("SELECT pg_backend_pid()").Scan(&before))
				_, err = t.Exec("UPDATE visits SET page = page || '.' WHERE id = $1", 100+n)
				must(err)
				must(t.QueryRow("SELECT pg_backend_pid()").Scan(&after))
				must(t.Commit())
				good <- before == after
			}
		}(n)
	}
	group.Wait()
	close(good)
	same := 0
	for g := range good {
		if g {
			same++
		}
	}
	return []any{same, one[int](c, "SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107")}
}

func main() {
	check("login", login)
	check("simple", simple)
	check("types", types)
	check("prepared", prepared)
	check("transaction", transaction)
	check("errors", failing)
	check("plan", plan)
	check("copy", copying)
	check("large", large)
	check("settings", settings)
	check("notice", notice)
	check("cancel", cancel)
	check("short_connections", short_connections)
	check("at_once", at_once)
}
