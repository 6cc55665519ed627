#!/usr/bin/env ruby
# ruby-pg: libpq, prepared statements by name, pipelines.  README.md has the list of checks.
require 'pg'

$stdout.sync = true

def connect(more = {})
  PG.connect(more)    # PGHOST and its kin
end

def check(name)
  c = connect
  c.set_notice_processor { |_| }
  puts "ok - #{name}: #{yield(c).inspect}"
rescue StandardError => e
  puts "not ok - #{name}: #{e.class}: #{e.message}"
ensure
  c&.close
end

def state_of
  yield
  'no error'
rescue PG::Error => e
  e.result&.error_field(PG::PG_DIAG_SQLSTATE) || e.message
end

check('login') { |c| [c.exec('SELECT current_user, current_database()').values, c.server_version, c.ssl_in_use?] }

check('simple') do |c|
  c.send_query("SELECT 1; SELECT 'two', i FROM generate_series(1, 3) i")
  all = []
  while (r = c.get_result)
    all << r.values
  end
  all
end

check('types') do |c|
  values = [7, -2_000_000, 2**53 + 1, '12345.6789', 0.1, true, "Grüße 'x' \\ %", { value: "\x00\xff\x10".b, format: 1 }, '2024-02-29',
            '2024-02-29 23:59:58.123456+00', '3 days 00:00:01', '00000000-0000-0000-0000-000000000007', '{"a": [1, null]}', '{1,2,3}', nil]
  casts = %w[int2 int4 int8 numeric float8 bool text bytea date timestamptz interval uuid jsonb int4[] text]
  text = "SELECT #{casts.each_with_index.map { |t, i| "$#{i + 1}::#{t}" }.join(', ')}"
  r = c.exec_params(text, values)
  [r.values, (0...r.nfields).map { |i| r.ftype(i) }, c.exec_params(text, values, 1).values]
end

check('prepared') do |c|
  total = 0
  c.prepare('plus', 'SELECT $1::int + 1')
  30.times do |i|
    c.prepare("plus #{i}", "SELECT $1::int + #{i}")
    total += c.exec_prepared('plus', [i]).getvalue(0, 0).to_i + c.exec_prepared("plus #{i}", [1]).getvalue(0, 0).to_i
  end
  described = c.describe_prepared('plus')
  c.exec('DEALLOCATE "plus 7"')
  c.exec_params('DEALLOCATE "plus 8"', [])
  [total, described.paramtype(0), described.ftype(0), c.exec('EXECUTE plus (41)').values,
   state_of { c.exec_prepared('plus 7', [1]) }, state_of { c.exec_prepared('plus 8', [1]) }, state_of { c.prepare('plus', 'SELECT 1') }]
end

check('transaction') do |c|
  c.exec('DROP TABLE IF EXISTS visits')
  c.exec('CREATE TABLE visits (id int PRIMARY KEY, page text)')
  c.transaction do
    c.exec_params('INSERT INTO visits VALUES ($1, $2)', [1, 'kept'])
    c.exec('SAVEPOINT s; DELETE FROM visits; ROLLBACK TO s')
  end
  begin
    c.transaction do
      c.exec("INSERT INTO visits VALUES (2, 'gone')")
      raise 'back'
    end
  rescue RuntimeError
    nil
  end
  c.exec('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
  [c.exec("SELECT id, page, current_setting('transaction_isolation') FROM visits").values,
   state_of { c.exec("INSERT INTO visits VALUES (3, 'x')") }, c.transaction_status]
end

check('errors') do |c|
  states = [state_of { c.exec('SELEC 1') }, state_of { c.exec_params('SELEC $1', [1]) },
            state_of { c.exec_params("INSERT INTO visits VALUES ($1, 'again')", [1]) }]
  c.prepare('divide', 'SELECT 1 / $1::int')
  6.times { |i| states << state_of { c.exec_prepared('divide', [i % 2]) } }
  c.exec('BEGIN')
  states << state_of { c.exec('SELECT 1 / 0') } << state_of { c.exec_params('SELECT $1::int', [1]) }
  c.exec('ROLLBACK')
  [states, c.exec("SELECT 'still here'").values]
end

check('plan') do |c|
  c.exec('DROP TABLE IF EXISTS plans; CREATE TABLE plans AS SELECT * FROM visits')
  c.prepare('all', 'SELECT * FROM plans WHERE id = $1')
  before = c.exec_prepared('all', [1]).values
  c.exec('ALTER TABLE plans ADD note text')
  states = [state_of { c.exec_prepared('all', [1]) }]
  c.exec('ALTER TABLE plans DROP note')
  [before, states, c.exec_prepared('all', [1]).values]
end

check('pipeline') do |c|
  c.enter_pipeline_mode
  40.times do |i|
    c.send_query_params(i % 10 == 9 ? 'SELECT 1 / $1::int' : 'SELECT $1::int * 2', [i % 10 == 9 ? 0 : i])
    c.pipeline_sync if i % 4 == 3
  end
  all = []
  syncs = 0
  while syncs < 10
    r = c.get_result or next
    syncs += 1 if r.result_status == PG::PGRES_PIPELINE_SYNC
    all << (r.result_status == PG::PGRES_TUPLES_OK ? r.getvalue(0, 0).to_i : r.res_status(r.result_status))
  end
  c.exit_pipeline_mode
  [all, c.exec("SELECT 'still here'").values]
end

check('copy') do |c|
  c.copy_data('COPY visits FROM STDIN') { 1000.times { |i| c.put_copy_data("#{100 + i}\tpage #{i}\n") } }
  rows = []
  c.copy_data('COPY (SELECT * FROM visits WHERE id < 103 ORDER BY id DESC) TO STDOUT') do
    while (row = c.get_copy_data)
      rows << row
    end
  end
  bad = state_of { c.copy_data('COPY visits FROM STDIN') { c.put_copy_data("x\ty\n") } }
  given_up = begin
    c.copy_data('COPY visits FROM STDIN') { raise 'no more' }
  rescue RuntimeError => e
    e.message
  end
  [rows, bad, given_up, c.exec('SELECT count(*) FROM visits').values]
end

check('rows_one_by_one') do |c|
  c.send_query("SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i")
  c.set_single_row_mode
  c.get_result.stream_each_row.sum { |row| row[0].to_i }
end

check('large') do |c|
  r = c.exec_params('SELECT $1::text, length($2)', ['ä' * 1_000_000, 'b' * 3_000_000])
  [r.getvalue(0, 0).length, r.getvalue(0, 1), c.exec("SELECT i, repeat('x', 50) FROM generate_series(1, 20000) i").ntuples]
end

check('settings') do |c|
  c.exec("SET TIME ZONE 'Asia/Tokyo'; SET search_path TO pg_catalog, public")
  other = connect(options: '-csearch_path=pg_catalog', client_encoding: 'LATIN1', application_name: 'check')
  more = [other.exec('SHOW search_path').values, other.get_client_encoding, other.parameter_status('client_encoding')]
  other.close
  c.set_client_encoding('LATIN1')
  [c.exec("SELECT '2024-01-01 00:00+00'::timestamptz::text, current_setting('search_path')").values, c.parameter_status('TimeZone'),
   c.exec("SELECT chr(228)").getvalue(0, 0).bytes, more]
end

check('notice') do |c|
  heard = []
  c.set_notice_processor { |message| heard << message }
  c.exec("DO $$ BEGIN RAISE NOTICE 'hear, hear'; END $$")
  heard
end

check('cancel') do |c|
  c.send_query('SELECT pg_sleep(10)')
  sleep 0.3
  refused = c.cancel
  [refused, state_of { c.get_last_result }, c.exec("SELECT 'still here'").values]
end

check('short_connections') do
  30.times.sum do |i|
    one = connect
    value = one.exec_params('SELECT $1::int', [i]).getvalue(0, 0).to_i
    one.close
    value
  end
end

check('at_once') do |c|
  good = Queue.new
  pid = ->(mine) { mine.exec('SELECT pg_backend_pid()').getvalue(0, 0) }
  8.times.map do |n|
    Thread.new do
      mine = connect
      10.times do
        mine.transaction do
          before = pid.call(mine)
          mine.exec_params("UPDATE visits SET page = page || '.' WHERE id = $1", [100 + n])
          good << (before == pid.call(mine))
        end
      end
      mine.close
    end
  end.each(&:join)
  [good.size, good.size.times.map { good.pop }.uniq, c.exec('SELECT sum(length(page)) FROM visits WHERE id BETWEEN 100 AND 107').values]
end
