// Runs worker.mjs in the Workers runtime (workerd, by miniflare) over each way in turns.
//   node pair.mjs RUNS NAME=URL...          NODE_EXTRA_CA_CERTS names the authority of the servers' certificate
// Prints JSON: { name: { inside: [ms in the Worker, ...], outside: [ms from request to response, ...] } }, with "nothing": a request that asks no database.
// The first run of each way is not counted.
import { build } from 'esbuild'
import { Miniflare } from 'miniflare'

const [runs, ...args] = process.argv.slice(2)
const ways = [['nothing', ''], ...args.map((arg) => [arg.slice(0, arg.indexOf('=')), arg.slice(arg.indexOf('=') + 1)])]

const bundle = await build({
  entryPoints: ['worker.mjs'], bundle: true, write: false, format: 'esm', target: 'es2022',
  conditions: ['workerd'], external: ['cloudflare:*', 'node:*'], logLevel: 'error',
})
const miniflare = new Miniflare({
  modules: true, script: bundle.outputFiles[0].text, compatibilityDate: '2025-01-01', compatibilityFlags: ['nodejs_compat'],
})

async function pair(url) {
  const begin = performance.now()
  const response = await miniflare.dispatchFetch('http://pair/', { headers: { 'x-way': url } })
  if (!response.ok) throw new Error(await response.text())
  const { ms } = await response.json()
  return [ms, performance.now() - begin]
}

const times = Object.fromEntries(ways.map(([name]) => [name, { inside: [], outside: [] }]))
try {
  for (let run = 0; run <= Number(runs); run++)
    for (const [name, url] of ways) {
      const [inside, outside] = await pair(url).catch((error) => { throw new Error(`${name}: ${error.message}`) })
      if (run === 0) continue
      times[name].inside.push(inside)
      times[name].outside.push(outside)
    }
  console.log(JSON.stringify(times))
} finally {
  await miniflare.dispose()
}
