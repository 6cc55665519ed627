// The pair that Hyperdrive's own comparison uses: one INSERT, then one SELECT, over a fresh connection each time. What the
// SELECT reads is not what the INSERT has changed: a cache that knows the difference may answer it.
//   node pair.mjs RTT_MS RUNS NAME=URL...
// Prints a table: median, fastest and slowest of the runs in ms, and the median in round trips.
import postgres from 'postgres'

const [rtt, runs, ...legs] = process.argv.slice(2)

async function pair(url) {
  const begin = performance.now()
  const sql = postgres(url, { max: 1, fetch_types: false, connect_timeout: 20, onnotice: () => {} })
  try {
    const [made] = await sql`INSERT INTO visits (page) VALUES (${'/welcome'}) RETURNING id`
    const [seen] = await sql`SELECT title FROM pages WHERE path = ${'/welcome'}`
    if (!(made?.id > 0) || seen?.title !== 'Welcome') throw new Error('the answer is not what was written')
    return performance.now() - begin
  } finally {
    await sql.end({ timeout: 1 })
  }
}

function median(sorted) {
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

async function measure(name, url) {
  const times = []
  process.stderr.write(`  ${name.padEnd(20)}`)
  for (let i = 0; i < Number(runs); i++) {
    times.push(await pair(url))
    process.stderr.write(` ${times.at(-1).toFixed(0)}`)
  }
  process.stderr.write(' ms\n')
  times.sort((a, b) => a - b)
  return { name, median: median(times), fastest: times[0], slowest: times.at(-1) }
}

const results = []
let failure
for (const leg of legs) {
  const cut = leg.indexOf('=')
  try {
    results.push(await measure(leg.slice(0, cut), leg.slice(cut + 1)))
  } catch (error) {
    failure = error
    process.stderr.write(` failed: ${error.code ?? ''} ${error.message}\n`)
  }
}

const cells = ['', 'median ms', 'fastest', 'slowest', 'round trips']
const line = (a) => '  ' + a[0].padEnd(20) + a.slice(1).map((c) => c.padStart(13)).join('')
console.log('\n' + line(cells))
for (const r of results)
  console.log(line([r.name, r.median.toFixed(0), r.fastest.toFixed(0), r.slowest.toFixed(0), (r.median / Number(rtt)).toFixed(1)]))
process.exit(failure ? 1 : 0)
