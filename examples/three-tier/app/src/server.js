'use strict';
// A journal: entries in PostgreSQL, over HTTP. One process per replica, no framework.
//
//   GET  /         the page          GET /entries   the newest entries, as JSON
//   POST /entries  {"text": "..."}   GET /whoami    which replica, which version
//   GET  /healthz  200 while this replica can serve, the database included

const http = require('node:http');
const os = require('node:os');
const { Pool } = require('pg');
const { page } = require('./page.js');

const PORT = 3000;
const LARGEST_BODY = 64 * 1024;
const me = { hostname: os.hostname(), version: process.env.APP_VERSION };

const pool = new Pool({ max: 5, connectionTimeoutMillis: 2000, statement_timeout: 5000 });
// A connection that breaks while idle (the database restarts) is replaced by the pool.
pool.on('error', (error) => console.error(`database: ${error.message}`));

let leaving = false;

async function entries() {
  const { rows } = await pool.query(
    'SELECT id, text, written_by, written_at FROM entries ORDER BY id DESC LIMIT 50');
  return rows;
}

async function addEntry(request) {
  const { text } = JSON.parse(await body(request));
  if (typeof text !== 'string' || text.length < 1 || text.length > 500) {
    return [400, { error: 'text must have 1 to 500 characters' }];
  }
  const { rows } = await pool.query(
    'INSERT INTO entries (text, written_by) VALUES ($1, $2) RETURNING *', [text, me.hostname]);
  return [201, rows[0]];
}

async function healthy() {
  await pool.query('SELECT 1');
  return leaving ? [503, { status: 'leaving' }] : [200, { status: 'ok' }];
}

const routes = {
  'GET /': async () => [200, page(await entries(), me)],
  'GET /entries': async () => [200, await entries()],
  'POST /entries': addEntry,
  'GET /whoami': async () => [200, me],
  'GET /healthz': healthy,
};

async function body(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST_BODY) throw new SyntaxError('the body is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function answer(request) {
  const route = routes[`${request.method} ${request.url.split('?')[0]}`];
  if (!route) return [404, { error: 'not found' }];
  try {
    return await route(request);
  } catch (error) {
    if (error instanceof SyntaxError) return [400, { error: error.message }];
    console.error(`${request.method} ${request.url}: ${error.message}`);
    return [503, { error: 'the database cannot be reached' }];
  }
}

const server = http.createServer(async (request, response) => {
  const [status, content] = await answer(request);
  const html = typeof content === 'string';
  const text = html ? content : JSON.stringify(content);
  response.writeHead(status, {
    'content-type': html ? 'text/html; charset=utf-8' : 'application/json',
    'content-length': Buffer.byteLength(text),
    'x-served-by': me.hostname,
  });
  response.end(text);
});

// Stop taking connections, finish what has begun, then leave.
function leave(signal) {
  if (leaving) return;
  leaving = true;
  console.log(`${signal}: finishing open requests`);
  server.close(async () => {
    await pool.end();
    process.exit(0);
  });
  server.closeIdleConnections();
}
process.on('SIGTERM', leave);
process.on('SIGINT', leave);

server.listen(PORT, () => console.log(`${me.version} on ${me.hostname} listens on ${PORT}`));
