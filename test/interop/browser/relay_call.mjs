#!/usr/bin/env node
// A call in a headless browser which only the TURN server under test can carry:
// data channel both ways and video, relay candidates on both sides.
//
//   relay_call.mjs HOST PORT USER PASSWORD [udp|tcp|tls [AUTHORITY]]
//
// Then the transport between browser and server, and for TLS a PEM file with who
// vouches for the server.  BROWSER is chromium, the default, or firefox; FRAMES
// how many frames are to be decoded at least, 30.  Ends with one line of figures
// and status 0, or with a sentence and status 1.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const BROWSER = process.env.BROWSER ?? 'chromium';
const { launch } = await import(`./${BROWSER}.mjs`);

const LIMIT = 60_000;
const CLOSE_LIMIT = 5_000;
const WANTED_FRAMES = Number(process.env.FRAMES ?? 30);

const PAGES = {
  '/call.html': 'text/html; charset=utf-8',
  '/call.js': 'text/javascript; charset=utf-8',
};

// The page must come from a local address over HTTP, or there is no camera.
async function servePages() {
  const server = createServer(async (request, response) => {
    const type = PAGES[request.url];
    if (!type) return response.writeHead(404).end();
    const body = await readFile(new URL(`.${request.url}`, import.meta.url));
    response.writeHead(200, { 'Content-Type': type }).end(body);
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return server;
}

const place = ({ address, port }) => `${address}:${port}`;

function demand(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

// Both ends must have selected relay to relay, each the other's mirror image.
function judge({ toCallee, toCaller, frames, pairs }, url, transport) {
  // Firefox does not tell the server, only how it reaches it.
  const through = BROWSER === 'firefox' ? ({ relayProtocol }) => relayProtocol : (local) => local.url;
  const wanted = BROWSER === 'firefox' ? transport : url;
  demand(toCallee > 0 && toCaller > 0, 'no messages were exchanged');
  demand(frames > WANTED_FRAMES, `only ${frames} frames were decoded`);
  for (const { name, state, nominated, bytesSent, bytesReceived, local, remote } of pairs) {
    demand(state === 'succeeded' && nominated, `the pair selected by the ${name} is ${state}, nominated: ${nominated}`);
    demand(local.candidateType === 'relay', `the local candidate of the ${name} is ${local.candidateType}, not relay`);
    demand(remote.candidateType === 'relay', `the remote candidate of the ${name} is ${remote.candidateType}, not relay`);
    demand(through(local) === wanted, `the local candidate of the ${name} comes from ${through(local)}, not ${wanted}`);
    demand(bytesSent > 0 && bytesReceived > 0, `the pair selected by the ${name} carried nothing`);
  }
  const [caller, callee] = pairs;
  demand(place(caller.local) === place(callee.remote) && place(caller.remote) === place(callee.local),
    `the pairs do not match: ${place(caller.local)} to ${place(caller.remote)}, ` +
    `${place(callee.local)} to ${place(callee.remote)}`);
  return `browser: data channel ok, frames decoded ${frames}, ` +
    `local relay ${place(caller.local)}, remote relay ${place(caller.remote)}`;
}

async function call(page, iceServer, transport) {
  const pageFailed = new Promise((_, reject) => {
    page.once('pageerror', (error) => reject(new Error(`the page failed: ${error.message}`)));
    page.once('crash', () => reject(new Error('the page crashed')));
  });
  const done = page.evaluate(
    ([server, frames]) => globalThis.relayCall(server, frames).then(
      (result) => ({ result }),
      (error) => ({ error: error.message }),
    ),
    [iceServer, WANTED_FRAMES],
  );
  const { result, error } = await Promise.race([done, pageFailed]);
  demand(!error, error);
  return judge(result, iceServer.urls, transport);
}

function uri(host, port, transport) {
  const place = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return transport === 'tls' ? `turns:${place}?transport=tcp` : `turn:${place}?transport=${transport}`;
}

async function main([host, port, username, credential, transport = 'udp', authority]) {
  const iceServer = { urls: uri(host, port, transport), username, credential };
  const closing = [];
  let page;
  let timer;
  const interrupted = new Promise((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.once(signal, () => reject(new Error(`stopped by ${signal}`)));
    }
    timer = setTimeout(async () => {
      const stage = await Promise.race([
        page?.evaluate(() => globalThis.relayCallStage).catch(() => undefined),
        new Promise((resolve) => setTimeout(resolve, 1000)),
      ]);
      reject(new Error(`not done after ${LIMIT / 1000} seconds, still ${stage ?? 'starting the browser'}`));
      setTimeout(() => {
        console.error('browser: FAILED: out of time, and the browser does not close');
        process.exit(1);
      }, CLOSE_LIMIT).unref();
    }, LIMIT);
  });
  const work = async () => {
    const server = await servePages();
    closing.push(() => server.close());
    const browser = await launch(LIMIT, authority);
    closing.unshift(() => browser.close());
    page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/call.html`);
    return call(page, iceServer, transport);
  };
  try {
    return await Promise.race([work(), interrupted]);
  } finally {
    clearTimeout(timer);
    for (const close of closing) await close();
  }
}

const args = process.argv.slice(2);
if (args.length < 4 || args.length > 6 || !['udp', 'tcp', 'tls', undefined].includes(args[4])) {
  console.error('usage: relay_call.mjs HOST PORT USER PASSWORD [udp|tcp|tls [AUTHORITY]]');
  process.exit(2);
}
try {
  console.log(await main(args));
} catch (error) {
  console.error(`browser: FAILED: ${error.message}`);
  process.exitCode = 1;
}
