// jdbc.java - the PostgreSQL JDBC driver: its own protocol code, statements prepared at the fifth use, batches.
// README.md has the list of checks. Run: java -cp postgresql.jar jdbc.java
import java.io.*;
import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;

class jdbc
{
	interface Work { Object of(Connection c) throws Exception; }

	static Connection connect(String... more) throws SQLException
	{
		Map<String, String> env = System.getenv();
		Properties p = new Properties();
		p.put("user", env.get("PGUSER"));
		p.put("password", env.get("PGPASSWORD"));
		p.put("sslmode", env.getOrDefault("PGSSLMODE", "require"));
		for (int i = 0; i < more.length; i += 2)
			p.put(more[i], more[i + 1]);
		return DriverManager.getConnection("jdbc:postgresql://" + env.get("PGHOST") + ":" + env.get("PGPORT") + "/" + env.get("PGDATABASE"), p);
	}

	static void check(String name, Work work) throws Exception
	{
		try (Connection c = connect())
		{
			System.out.println("ok - " + name + ": " + work.of(c));
		}
		catch (Exception e)
		{
			System.out.println("not ok - " + name + ": " + e);
		}
	}

	static Object one(Connection c, String sql, Object... values) throws SQLException
	{
		try (PreparedStatement s = c.prepareStatement(sql))
		{
			for (int i = 0; i < values.length; i++)
				s.setObject(i + 1, values[i]);
			return row(s.executeQuery());
		}
	}

	static List<Object> row(ResultSet r) throws SQLException
	{
		List<Object> all = new ArrayList<>();
		r.next();
		for (int i = 1; i <= r.getMetaData().getColumnCount(); i++)
		{
			Object value = r.getObject(i);
			all.add(value instanceof byte[] ? Arrays.toString((byte[]) value) : value);
		}
		return all;
	}

	static int run(Connection c, String sql) throws SQLException
	{
		try (Statement s = c.createStatement())
		{
			return s.executeUpdate(sql);
		}
	}

	static String stateOf(Connection c, String sql)
	{
		try (Statement s = c.createStatement())
		{
			s.execute(sql);
			return "no error";
		}
		catch (SQLException e)
		{
			return e.getSQLState();
		}
	}

	static Object login(Connection c) throws Exception
	{
		DatabaseMetaData m = c.getMetaData();
		return one(c, "SELECT current_user, current_database()") + " " + m.getDatabaseMajorVersion() + " " + c.isValid(5) + " " + c.getSchema();
	}

	static Object simple(Connection c) throws Exception
	{
		List<Object> all = new ArrayList<>();
		try (Statement s = c.createStatement())
		{
			for (boolean more = s.execute("SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i"); more; more = s.getMoreResults())
				all.add(row(s.getResultSet()));
		}
		try (Connection other = connect("preferQueryMode", "simple"))
		{
			all.add(one(other, "SELECT ?, ?::int", "it's", 7));
		}
		return all;
	}

	static Object types(Connection c) throws Exception
	{
		String casts = "int2 int4 int8 numeric float8 bool text bytea date timestamptz interval uuid jsonb int4[] text";
		String sql = "SELECT " + "?::" + casts.replace(" ", ", ?::");
		Object[] values = {(short) 7, -2000000, 9007199254740993L, new BigDecimal("12345.6789"), 0.1, true, "Grüße 'x' \\ %",
			new byte[] {0, -1, 16}, java.sql.Date.valueOf("2024-02-29"), Timestamp.valueOf("2024-02-29 23:59:58.123456"), "3 days 00:00:01",
			new UUID(0, 7), "{\"a\": [1, null]}", c.createArrayOf("int4", new Object[] {1, 2, 3}), null};
		Object first = one(c, sql, values);
		for (int i = 0; i < 6; i++)
			one(c, sql, values);
		return first + (first.toString().equals(one(c, sql, values).toString()) ? " in text and binary" : " but in binary " + one(c, sql, values));
	}

	static Object prepared(Connection c) throws Exception
	{
		int total = 0;
		try (PreparedStatement s = c.prepareStatement("SELECT ?::int + 1"))
		{
			for (int i = 0; i < 30; i++)
			{
				s.setInt(1, i);
				total += (int) row(s.executeQuery()).get(0);
				for (int j = 0; j < 6; j++)
					total += (int) ((List<?>) one(c, "SELECT ?::int + " + i, 1)).get(0);
			}
			return total + " " + s.getParameterMetaData().getParameterTypeName(1) + " " + s.getMetaData().getColumnTypeName(1);
		}
	}

	static Object transaction(Connection c) throws Exception
	{
		run(c, "DROP TABLE IF EXISTS visits");
		run(c, "CREATE TABLE visits (id int PRIMARY KEY, page text)");
		c.setAutoCommit(false);
		run(c, "INSERT INTO visits VALUES (1, 'kept')");
		Savepoint s = c.setSavepoint("s");
		run(c, "DELETE FROM visits");
		c.rollback(s);
		c.commit();
		run(c, "INSERT INTO visits VALUES (2, 'gone')");
		c.rollback();
		c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
		c.setReadOnly(true);
		return one(c, "SELECT id, page, current_setting('transaction_isolation') FROM visits") + " " +
			stateOf(c, "INSERT INTO visits VALUES (3, 'x')");
	}

	static Object errors(Connection c) throws Exception
	{
		List<Object> all = new ArrayList<>(List.of(stateOf(c, "SELEC 1"), stateOf(c, "INSERT INTO visits VALUES (1, 'again')")));
		try (PreparedStatement s = c.prepareStatement("SELECT 1 / ?"))
		{
			for (int i = 0; i < 12; i++)
			{
				s.setInt(1, i % 2);
				try
				{
					all.add(row(s.executeQuery()));
				}
				catch (SQLException e)
				{
					all.add(e.getSQLState());
				}
			}
		}
		c.setAutoCommit(false);
		all.add(stateOf(c, "SELECT 1 / 0"));
		all.add(stateOf(c, "SELECT 1"));
		c.rollback();
		return all + " " + one(c, "SELECT 'still here'");
	}

	// A statement in use whose table changes: the driver prepares it anew when the server says so.
	static Object plan(Connection c) throws Exception
	{
		List<Object> all = new ArrayList<>();
		run(c, "DROP TABLE IF EXISTS plans; CREATE TABLE plans AS SELECT * FROM visits");
		try (PreparedStatement s = c.prepareStatement("SELECT * FROM plans WHERE id = ?"))
		{
			s.setInt(1, 1);
			for (int i = 0; i < 8; i++)
				row(s.executeQuery());
			for (String change : List.of("ADD note text", "ALTER note TYPE varchar(9)", "DROP note"))
			{
				run(c, "ALTER TABLE plans " + change);
				all.add(row(s.executeQuery()));
			}
		}
		return all;
	}

	static Object batch(Connection c) throws Exception
	{
		int[] counts;
		String state = "no error";
		try (PreparedStatement s = c.prepareStatement("INSERT INTO visits VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS))
		{
			for (int i = 0; i < 300; i++)
			{
				s.setInt(1, 100 + i);
				s.setString(2, "page " + i);
				s.addBatch();
			}
			counts = s.executeBatch();
			for (int i : new int[] {500, 501, 100, 502})
			{
				s.setInt(1, i);
				s.setString(2, "x");
				s.addBatch();
			}
			s.executeBatch();
		}
		catch (BatchUpdateException e)
		{
			return e.getSQLState() + " " + one(c, "SELECT count(*), max(id) FROM visits");
		}
		return counts.length;
	}

	static Object copy(Connection c) throws Exception
	{
		var copies = c.unwrap(PGConnection.class).getCopyAPI();
		StringBuilder lines = new StringBuilder();
		for (int i = 1000; i < 2000; i++)
			lines.append(i).append("\tpage ").append(i).append("\n");
		long in = copies.copyIn("COPY visits FROM STDIN", new StringReader(lines.toString()));
		StringWriter out = new StringWriter();
		long rows = copies.copyOut("COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT", out);
		String state = "no error";
		try
		{
			copies.copyIn("COPY visits FROM STDIN", new StringReader("x\ty\n"));
		}
		catch (SQLException e)
		{
			state = e.getSQLState();
		}
		var given_up = copies.copyIn("COPY visits FROM STDIN");
		given_up.writeToCopy("9999\ty\n".getBytes(), 0, 7);
		given_up.cancelCopy();
		return in + " " + rows + " " + out.toString().replace("\n", ";") + " " + state + " " + one(c, "SELECT count(*) FROM visits");
	}

	static Object cursor(Connection c) throws Exception
	{
		long total = 0;
		c.setAutoCommit(false);
		try (PreparedStatement s = c.prepareStatement("SELECT i, repeat('x', 100) FROM generate_series(1, ?) i"))
		{
			s.setFetchSize(100);
			s.setInt(1, 1000);
			for (int j = 0; j < 7; j++)
			{
				ResultSet r = s.executeQuery();
				while (r.next())
				{
					total += r.getInt(1);
					if (r.getInt(1) % 250 == 0)
						one(c, "SELECT 'another in between'");
				}
			}
		}
		return total;
	}

	static Object large(Connection c) throws Exception
	{
		List<?> r = (List<?>) one(c, "SELECT ?::text, length(?)", "ä".repeat(1000000), "b".repeat(3000000));
		int rows = 0;
		try (Statement s = c.createStatement(); ResultSet all = s.executeQuery("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i"))
		{
			while (all.next())
				rows++;
		}
		return ((String) r.get(0)).length() + " " + r.get(1) + " " + rows;
	}

	static Object largeObject(Connection c) throws Exception
	{
		c.setAutoCommit(false);
		var lom = c.unwrap(PGConnection.class).getLargeObjectAPI();
		var lo = lom.open(lom.createLO());
		lo.write(new byte[10000]);
		lo.seek(5000);
		int rest = lo.read(9999).length;
		c.rollback();
		return rest;
	}

	static Object settings(Connection c) throws Exception
	{
		run(c, "SET TIME ZONE 'Asia/Tokyo'");
		c.setSchema("pg_catalog");
		try (Connection other = connect("options", "-c search_path=pg_catalog", "ApplicationName", "check", "currentSchema", "public"))
		{
			return one(c, "SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')") + " " +
				one(other, "SELECT current_setting('search_path')") + " " + other.getSchema();
		}
	}

	static Object notice(Connection c) throws Exception
	{
		try (Statement s = c.createStatement())
		{
			s.execute("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$");
			return s.getWarnings().getMessage();
		}
	}

	static Object cancel(Connection c) throws Exception
	{
		String state = "no error";
		try (Statement s = c.createStatement())
		{
			new java.util.Timer(true).schedule(new TimerTask()
			{
				public void run()
				{
					try { s.cancel(); } catch (SQLException e) { System.out.println("not ok - cancel: " + e); }
				}
			}, 300);
			s.execute("SELECT pg_sleep(10)");
		}
		catch (SQLException e)
		{
			state = e.getSQLState();
		}
		return state + " " + one(c, "SELECT 'still here'");
	}

	static Object shortConnections(Connection c) throws Exception
	{
		int total = 0;
		for (int i = 0; i < 30; i++)
		{
			try (Connection other = connect())
			{
				total += (int) ((List<?>) one(other, "SELECT ?::int", i)).get(0);
			}
		}
		return total;
	}

	static Object atOnce(Connection c) throws Exception
	{
		List<Object> good = Collections.synchronizedList(new ArrayList<>());
		List<Thread> threads = new ArrayList<>();
		run(c, "UPDATE visits SET page = '' WHERE id BETWEEN 100 AND 107");
		for (int t = 0; t < 8; t++)
		{
			int n = t;
			threads.add(new Thread(() -> {
				try (Connection mine = connect())
				{
					mine.setAutoCommit(false);
					for (int i = 0; i < 10; i++)
					{
						Object before = one(mine, "SELECT pg_backend_pid()");
						run(mine, "UPDATE visits SET page = page || '.' WHERE id = " + (100 + n));
						good.add(before.equals(one(mine, "SELECT pg_backend_pid()")));
						mine.commit();
					}
				}
				catch (SQLException e)
				{
					good.add(e.toString());
				}
			}));
		}
		threads.forEach(Thread::start);
		for (Thread t : threads)
			t.join();
		return good.size() + " " + new HashSet<>(good) + " " + one(c, "SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107");
	}

	public static void main(String[] args) throws Exception
	{
		check("login", jdbc::login);
		check("simple", jdbc::simple);
		check("types", jdbc::types);
		check("prepared", jdbc::prepared);
		check("transaction", jdbc::transaction);
		check("errors", jdbc::errors);
		check("plan", jdbc::plan);
		check("batch", jdbc::batch);
		check("copy", jdbc::copy);
		check("cursor", jdbc::cursor);
		check("large", jdbc::large);
		check("large_object", jdbc::largeObject);
		check("settings", jdbc::settings);
		check("notice", jdbc::notice);
		check("cancel", jdbc::cancel);
		check("short_connections", jdbc::shortConnections);
		check("at_once", jdbc::atOnce);
	}
}
