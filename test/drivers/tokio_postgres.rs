// tokio-postgres: its own protocol code, in Rust; binary, pipelined by whoever does not wait.  README.md has the list of checks.
use bytes::Bytes;
use futures_util::{future::try_join_all, pin_mut, SinkExt, StreamExt, TryStreamExt};
use std::env::var;
use std::time::Duration;
use tokio_postgres::{connect, types::Type, Client, Error, NoTls, SimpleQueryMessage};

async fn open() -> Result<(Client, tokio::task::JoinHandle<Result<(), Error>>), Error> {
    let v = |name| var(name).unwrap();
    let place = format!("host={} port={} user={} password={} dbname={}", v("PGHOST"), v("PGPORT"), v("PGUSER"), v("PGPASSWORD"), v("PGDATABASE"));
    let (client, connection) = connect(&place, NoTls).await?;
    Ok((client, tokio::spawn(connection)))
}

fn state_of<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "no error".to_string(),
        Err(e) => e.code().map_or(e.to_string(), |code| code.code().to_string()),
    }
}

async fn simple(c: &mut Client) -> Result<String, Error> {
    let answers = c.simple_query("SELECT 1 AS one, NULL; SELECT 'two'; CREATE TEMP TABLE t (i int) ON COMMIT DROP").await?;
    let told: Vec<String> = answers.iter().map(|answer| match answer {
        SimpleQueryMessage::Row(row) => format!("{:?}", row.get(0)),
        SimpleQueryMessage::CommandComplete(n) => n.to_string(),
        _ => "?".to_string(),
    }).collect();
    Ok(told.join(" "))
}

async fn types(c: &mut Client) -> Result<String, Error> {
    let row = c.query_one(
        "SELECT $1::int2, $2::int4, $3::int8, $4::float8, $5::bool, $6::text, $7::bytea, $8::int4[], $9::text",
        &[&7i16, &-2000000i32, &9007199254740993i64, &0.1f64, &true, &"Grüße 'x' \\ %", &&b"\x00\xff\x10"[..], &vec![1i32, 2, 3], &None::<String>],
    ).await?;
    let names: Vec<&str> = row.columns().iter().map(|column| column.type_().name()).collect();
    Ok(format!("{} {} {} {} {} {} {:?} {:?} {:?} {}", row.get::<_, i16>(0), row.get::<_, i32>(1), row.get::<_, i64>(2), row.get::<_, f64>(3), row.get::<_, bool>(4),
        row.get::<_, &str>(5), row.get::<_, &[u8]>(6), row.get::<_, Vec<i32>>(7), row.get::<_, Option<&str>>(8), names.join(",")))
}

async fn prepared(c: &mut Client) -> Result<String, Error> {
    let mut sum = 0;
    let add = c.prepare_typed("SELECT $1 + $2", &[Type::INT4, Type::INT4]).await?;
    for i in 0..10i32 {
        sum += c.query_one(&add, &[&i, &1i32]).await?.get::<_, i32>(0);
    }
    for i in 0..5i32 {
        let other = c.prepare(&format!("SELECT $1::int4 * {}", i)).await?;
        sum += c.query_one(&other, &[&10i32]).await?.get::<_, i32>(0);
    }
    let wrong = state_of(c.prepare("SELECT nothing FROM nowhere").await);
    Ok(format!("{} {} {}", sum, wrong, add.params().len()))
}

async fn transaction(c: &mut Client) -> Result<String, Error> {
    c.batch_execute("DROP TABLE IF EXISTS visits; CREATE TABLE visits (id int PRIMARY KEY, page text)").await?;
    let mut t = c.transaction().await?;
    t.execute("INSERT INTO visits VALUES ($1, $2)", &[&1i32, &"kept"]).await?;
    let s = t.transaction().await?;
    s.execute("DELETE FROM visits", &[]).await?;
    s.rollback().await?;
    t.commit().await?;
    let t = c.transaction().await?;
    t.execute("INSERT INTO visits VALUES (2, 'gone')", &[]).await?;
    t.rollback().await?;
    let t = c.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let refused = state_of(t.execute("DELETE FROM visits", &[]).await);
    drop(t);
    let rows = c.query("SELECT id, page FROM visits", &[]).await?;
    Ok(format!("{} {} {}", rows.len(), rows[0].get::<_, &str>(1), refused))
}

async fn errors(c: &mut Client) -> Result<String, Error> {
    let mut states = vec![state_of(c.query("SELEC 1", &[]).await), state_of(c.query("SELECT 1 / $1::int4", &[&0i32]).await),
        state_of(c.execute("INSERT INTO visits VALUES ($1, 'again')", &[&1i32]).await), state_of(c.batch_execute("SELECT 1; SELECT 1/0; SELECT 2").await)];
    let t = c.transaction().await?;
    states.push(state_of(t.query("SELECT 1 / 0", &[]).await));
    states.push(state_of(t.query("SELECT 1", &[]).await));
    states.push(state_of(t.commit().await));
    Ok(format!("{} {}", states.join(" "), c.query_one("SELECT 'still here'", &[]).await?.get::<_, &str>(0)))
}

async fn pipelined(c: &mut Client) -> Result<String, Error> {
    let twice = c.prepare("SELECT 2 * $1::int4").await?;
    let divided = c.prepare("SELECT 10 / $1::int4").await?;
    let rows = try_join_all((0..6i32).map(|i| { let twice = &twice; let c = &*c; async move { c.query_one(twice, &[&i]).await } })).await?;
    let sum: i32 = rows.iter().map(|row| row.get::<_, i32>(0)).sum();
    let five = 5i32;
    let zero = 0i32;
    let parameters: [[&(dyn tokio_postgres::types::ToSql + Sync); 1]; 3] = [[&five], [&zero], [&five]];
    let (a, b, d) = tokio::join!(c.query_one(&divided, &parameters[0]), c.query_one(&divided, &parameters[1]), c.query_one(&divided, &parameters[2]));
    Ok(format!("{} {} {} {}", sum, a?.get::<_, i32>(0), state_of(b), d?.get::<_, i32>(0)))
}

async fn copy(c: &mut Client) -> Result<String, Error> {
    let sink = c.copy_in("COPY visits FROM STDIN").await?;
    pin_mut!(sink);
    for i in 100..110 {
        sink.send(Bytes::from(format!("{}\tpage {}\n", i, i))).await?;
    }
    let taken = sink.finish().await?;
    let out: Vec<Bytes> = c.copy_out("COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT").await?.try_collect().await?;
    let sink = c.copy_in("COPY visits FROM STDIN").await?;
    pin_mut!(sink);
    let sent = sink.send(Bytes::from("x\ty\n")).await;
    let bad = state_of(sent.and(sink.finish().await));
    {
        let sink = c.copy_in::<_, Bytes>("COPY visits FROM STDIN").await?;
        pin_mut!(sink);
        sink.feed(Bytes::from("200\tgiven up\n")).await?;
    }
    let left = c.query_one("SELECT count(*) FROM visits WHERE id >= 100", &[]).await?;
    Ok(format!("{} {:?} {} {}", taken, out.concat(), bad, left.get::<_, i64>(0)))
}

async fn cursor(c: &mut Client) -> Result<String, Error> {
    let t = c.transaction().await?;
    let portal = t.bind("SELECT i FROM generate_series(1, 5) i", &[]).await?;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(t.query_portal(&portal, 2).await?.len());
    }
    t.commit().await?;
    Ok(format!("{:?}", told))
}

async fn rows_one_by_one(c: &mut Client) -> Result<String, Error> {
    let rows = c.query_raw("SELECT i FROM generate_series(1, 2000) i", std::iter::empty::<i32>()).await?;
    pin_mut!(rows);
    let mut sum = 0;
    while let Some(row) = rows.next().await {
        sum += row?.get::<_, i32>(0);
    }
    Ok(sum.to_string())
}

async fn settings(c: &mut Client) -> Result<String, Error> {
    c.batch_execute("SET TIME ZONE 'Asia/Tokyo'; SET search_path TO pg_catalog, public").await?;
    let row = c.query_one("SELECT CAST(CAST('2024-01-01 00:00+00' AS timestamptz) AS text), current_setting('search_path')", &[]).await?;
    Ok(format!("{} {}", row.get::<_, &str>(0), row.get::<_, &str>(1)))
}

async fn cancel(c: &mut Client) -> Result<String, Error> {
    let token = c.cancel_token();
    let (slept, _) = tokio::join!(c.query("SELECT pg_sleep(20)", &[]), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    });
    Ok(format!("{} {}", state_of(slept), c.query_one("SELECT 'still here'", &[]).await?.get::<_, &str>(0)))
}

macro_rules! check {
    ($name:ident) => {
        let (mut client, task) = open().await.unwrap();
        match $name(&mut client).await {
            Ok(said) => println!("ok - {}: {}", stringify!($name), said),
            Err(e) => println!("not ok - {}: {}", stringify!($name), e),
        }
        drop(client);
        let _ = task.await;
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    check!(simple);
    check!(types);
    check!(prepared);
    check!(transaction);
    check!(errors);
    check!(pipelined);
    check!(copy);
    check!(cursor);
    check!(rows_one_by_one);
    check!(settings);
    check!(cancel);
}
