// What runs in the Workers runtime: one INSERT, then one SELECT of another table, over a fresh connection, as in the comparison that
// Hyperdrive has published. The connection URL comes in a header; without one nothing is asked. Answers with the ms it took here (the runtime's clock moves
// with what comes in, so it has seen the last answer).
import postgres from 'postgres'

export default {
  async fetch(request) {
    const way = request.headers.get('x-way')
    if (!way) return Response.json({ ms: 0 })
    const begin = Date.now()
    const url = new URL(way)
    const prepare = url.searchParams.get('prepare') !== 'false'
    url.searchParams.delete('prepare')
    const sql = postgres(url.href, { max: 1, fetch_types: false, prepare, connect_timeout: 20 })
    const [made] = await sql`INSERT INTO visits (page) VALUES (${'/welcome'}) RETURNING id`
    const [seen] = await sql`SELECT title FROM pages WHERE path = ${'/welcome'}`
    const right = Number(made?.id) > 0 && seen?.title === 'Welcome'
    const ms = Date.now() - begin
    sql.end({ timeout: 1 }).catch(() => {})
    if (!right) return new Response('the answer is not what was written', { status: 500 })
    return Response.json({ ms })
  },
}
