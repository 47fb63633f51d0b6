#!/usr/bin/env node
// Serves the page and runs a prosody for it, until it is interrupted. Meerkat runs elsewhere; both
// must know the same secret:
//
//   STUN_SECRET   the shared secret of Meerkat; nothing starts without
//   TURN_HOST     Meerkat's address (this machine's), as a browser reaches it
//   TURN_PORT     its port (3478)
//   PAGE_PORT     of the page (8080), XMPP_PORT of the WebSocket (5280), both on loopback; 0: any
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const START_MS = 20_000;
const USERS = ['alice', 'bob'];
export const CONFIG = fileURLToPath(new URL('prosody.cfg.lua', import.meta.url));
const STROPHE = new URL('node_modules/strophe.js/dist/strophe.esm.js', import.meta.url);

const FILES = Object.fromEntries([
  ['/', 'page/index.html', 'text/html'],
  ['/style.css', 'page/style.css', 'text/css'],
  ...['page', 'xmpp', 'services', 'call', 'media'].map((name) =>
    [`/${name}.js`, `page/${name}.js`, 'text/javascript']),
  ['/strophe.js', STROPHE, 'text/javascript'],
].map(([path, file, type]) => [path, { file: new URL(file, import.meta.url), type }]));

// Resolves with { links, stop }: links to the page, one for each user, with the form filled in.
// Settings are those above, config is for prosody; who calls must call stop().
export async function start(settings, config = CONFIG) {
  if (!existsSync(STROPHE)) throw new Error('its packages are not installed; `npm ci` does that');
  const data = mkdtempSync(join(tmpdir(), 'meerkat-example-'));
  const closing = [() => rmSync(data, { recursive: true, force: true })];
  const stop = async () => {
    for (const close of closing.splice(0).reverse()) await close();
  };
  try {
    const page = await listen(servePage(), settings.PAGE_PORT);
    closing.push(() => { page.closeAllConnections(); page.close(); });
    const xmppPort = await freePort(settings.XMPP_PORT);
    const env = { ...process.env, ...settings, XMPP_PORT: xmppPort, XMPP_DATA: data };
    const password = randomBytes(9).toString('base64url');
    for (const user of USERS) register(config, user, password, env);
    const log = join(data, 'prosody.log');
    const output = openSync(log, 'w');
    const prosody = spawn('prosody', ['-F', '--config', config], { env, stdio: ['ignore', output, output] });
    closing.push(() => stopped(prosody));
    await accepts(xmppPort, prosody).catch((error) => {
      throw new Error(`${error.message}:\n${readFileSync(log, 'utf8')}`);
    });
    const url = `ws://localhost:${xmppPort}/xmpp-websocket`;
    const link = (user) => `http://localhost:${page.address().port}/#` +
      new URLSearchParams({ jid: `${user}@localhost`, password, url });
    return { links: Object.fromEntries(USERS.map((user) => [user, link(user)])), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function servePage() {
  return createServer((request, response) => {
    const found = FILES[request.url.split('?')[0]];
    if (!found) return response.writeHead(404).end('There is nothing here.\n');
    response.writeHead(200, { 'Content-Type': `${found.type}; charset=utf-8`, 'Cache-Control': 'no-store' });
    response.end(readFileSync(found.file));
  });
}

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(port), '127.0.0.1', () => resolve(server));
  });
}

// Or a sentence: prosody would go on without, and somebody else be taken for it.
async function freePort(wanted) {
  const server = await listen(createServer(), wanted);
  const { port } = server.address();
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

// Into prosody's files; it need not run.
function register(config, user, password, env) {
  const args = ['--config', config, 'register', user, 'localhost', password];
  const { error, status, stdout, stderr } = spawnSync('prosodyctl', args, { env, encoding: 'utf8' });
  if (error?.code === 'ENOENT') throw new Error('there is no prosody on this machine');
  if (error) throw error;
  if (status !== 0) throw new Error(`prosody does not take a user:\n${stdout}${stderr}`);
}

// It does not tell when its port is open.
async function accepts(port, prosody) {
  const end = Date.now() + START_MS;
  let failed = null;
  prosody.once('error', (error) => { failed = error; });
  for (;;) {
    if (failed) throw failed;
    if (prosody.exitCode !== null) throw new Error(`prosody ended with status ${prosody.exitCode}`);
    if (await canConnect(port)) return;
    if (Date.now() > end) throw new Error(`prosody does not listen on port ${port}`);
    await wait(50);
  }
}

function canConnect(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => { socket.destroy(); resolve(true); });
    socket.once('error', () => resolve(false));
  });
}

function stopped(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null || !child.pid) return resolve();
    child.once('exit', resolve);
    child.kill('SIGTERM');
  });
}

// The first that is not loopback's: Chromium takes no relay on loopback.
function ownAddress() {
  const all = Object.values(networkInterfaces()).flat();
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}

async function main() {
  const settings = {
    STUN_SECRET: process.env.STUN_SECRET,
    TURN_HOST: process.env.TURN_HOST ?? ownAddress(),
    TURN_PORT: process.env.TURN_PORT ?? '3478',
    PAGE_PORT: process.env.PAGE_PORT ?? '8080',
    XMPP_PORT: process.env.XMPP_PORT ?? '5280',
  };
  if (!settings.STUN_SECRET) throw new Error('STUN_SECRET is not set: the shared secret that Meerkat was started with');
  const { links, stop } = await start(settings);
  console.log(`\nThe relay is turn:${settings.TURN_HOST}:${settings.TURN_PORT}. Open each in a window of its own, log in, and call:\n`);
  for (const [user, link] of Object.entries(links)) console.log(`  ${user.padEnd(5)}  ${link}`);
  console.log('\nCtrl-C stops it.');
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => stop());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  main().catch((error) => {
    console.error(`start: ${error.message}`);
    process.exitCode = 1;
  });
}
