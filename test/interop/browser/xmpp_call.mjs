#!/usr/bin/env node
// The pages of examples/browser as two users have them: logged in to prosody, which makes
// credentials from the secret, they call each other through the TURN server under test.
//
//   xmpp_call.mjs call TURN_HOST TURN_PORT SECRET STATUS_URL DIRECTORY
//   xmpp_call.mjs refused …      the same with a secret that is not the server's: both are told
//   xmpp_call.mjs services …     what other servers tell of relays is understood as well
//   xmpp_call.mjs component … PORT   a call where prosody knows no secret, and the server under test
//                                is turn.localhost, by COMPONENT_SECRET, at this port (XEP-0114)
//
// STATUS_URL is the server's status page, which tells how many allocations there are; screenshots
// go to the directory. Ends with one line of figures and status 0, or with a sentence and status 1.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { CONFIG, start } from '../../../examples/browser/start.mjs';
import { launch } from './chromium.mjs';

// Ends a test that has failed, nothing else.
const LIMIT = 60_000;
const WANTED_FRAMES = 30;
const COMPONENT_SECRET = 'turnsecret';

function demand(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

// Peer connections are kept as the page makes them, for their statistics; the page knows nothing.
function keepConnections() {
  globalThis.connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      globalThis.connections.push(this);
    }
  };
}

// Of the latest connection: the candidates of both sides, the selected pair, and what was decoded.
function lookAtConnection() {
  const connection = globalThis.connections.at(-1);
  return connection.getStats().then((stats) => {
    const all = [...stats.values()];
    const pair = stats.get(all.find(({ type }) => type === 'transport')?.selectedCandidatePairId);
    const video = all.find(({ type, kind }) => type === 'inbound-rtp' && kind === 'video');
    return {
      policy: connection.getConfiguration().iceTransportPolicy,
      candidates: all.filter(({ type }) => /^(local|remote)-candidate$/.test(type))
        .map(({ type, candidateType }) => `${type} ${candidateType}`),
      pair: pair && { local: stats.get(pair.localCandidateId), remote: stats.get(pair.remoteCandidateId),
        bytesSent: pair.bytesSent, bytesReceived: pair.bytesReceived },
      frames: video?.framesDecoded ?? 0,
      size: `${video?.frameWidth}x${video?.frameHeight}`,
    };
  });
}

// Bob has no camera: he sends the test picture.
function hideCamera() {
  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('none here', 'NotFoundError'); };
}

async function openPage(browser, link, faults, ...scripts) {
  const page = await (await browser.newContext({ viewport: { width: 860, height: 1020 } })).newPage();
  page.setDefaultTimeout(LIMIT);
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
  for (const script of [keepConnections, ...scripts]) await page.addInitScript(script);
  await page.goto(link);
  await page.getByRole('button', { name: 'Log in' }).click();
  return page;
}

const contact = (page, user) => page.locator(`li[data-jid="${user}@localhost"]`);
const call = (page, user) => contact(page, user).getByRole('button', { name: 'Call' }).click();
const inState = (page, state) => page.locator(`#call[data-state="${state}"]`).waitFor({ state: 'attached' });
const says = (page, text) => page.locator('#problem', { hasText: text }).waitFor();
const click = (page, name) => page.getByRole('button', { name }).click();

// Statistics change without an event.
async function until(look, holds, what) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    demand(Date.now() < end, `${what}: ${JSON.stringify(seen)}`);
    await wait(100);
  }
}

async function allocations(status) {
  const response = await fetch(`${status}/status.json`);
  demand(response.ok, `the status page answers ${response.status}`);
  return (await response.json()).allocations;
}

// Some frames have been decoded, and later more of them.
async function decodes(page, name) {
  const look = () => page.evaluate(lookAtConnection);
  const { frames } = await until(look, (seen) => seen.frames > WANTED_FRAMES, `${name} decodes no video`);
  return until(look, (seen) => seen.frames > frames, `${name} has stopped at frame ${frames}`);
}

function judge(name, { policy, candidates, pair, size }) {
  demand(policy === 'relay', `the policy of ${name} is ${policy}`);
  demand(pair.local.candidateType === 'relay', `the local candidate of ${name} is ${pair.local.candidateType}`);
  demand(pair.remote.candidateType === 'relay', `the remote candidate of ${name} is ${pair.remote.candidateType}`);
  // A relayed address is peer reflexive to who hears from it before it is told.
  const others = candidates.filter((one) => !/relay$|^remote-candidate prflx$/.test(one));
  demand(others.length === 0, `${name} knows other candidates than relayed ones: ${others}`);
  demand(pair.bytesSent > 10_000 && pair.bytesReceived > 10_000,
    `the pair of ${name} carried ${pair.bytesSent} and ${pair.bytesReceived} bytes`);
  demand(/^[1-9]\d+x[1-9]\d+$/.test(size), `${name} sees a picture of ${size}`);
}

const place = ({ address, port }) => `${address}:${port}`;

async function callThrough(alice, bob, status, directory) {
  await call(alice, 'bob');
  await inState(bob, 'ringing');
  await inState(alice, 'calling');
  await click(bob, 'Answer');
  await Promise.all([alice, bob].map((page) => inState(page, 'connected')));
  const seen = [await decodes(alice, 'alice'), await decodes(bob, 'bob')];
  judge('alice', seen[0]);
  judge('bob', seen[1]);
  const [ours, theirs] = seen.map(({ pair }) => pair);
  demand(place(ours.local) === place(theirs.remote) && place(ours.remote) === place(theirs.local),
    `the pairs do not match: ${place(ours.local)} to ${place(ours.remote)}, ` +
    `${place(theirs.local)} to ${place(theirs.remote)}`);
  const held = await allocations(status);
  demand(held >= 2, `there are ${held} allocations during the call`);
  await until(() => alice.locator('#figures').innerText(), (text) => /\(relay\)[^]*frames decoded/.test(text),
    'alice is shown no figures');
  await alice.screenshot({ path: join(directory, 'call-alice.png') });
  await bob.screenshot({ path: join(directory, 'call-bob.png') });
  return { frames: seen.map(({ frames }) => frames), relayed: [place(ours.local), place(ours.remote)], held };
}

// What is hung up while an Allocate request is under way stays until it expires, for the browser
// never learns of it; so all candidates are awaited.
async function rings(bob, alice) {
  const gathering = () => bob.evaluate(() => globalThis.connections.at(-1).iceGatheringState);
  const before = await bob.evaluate(() => globalThis.connections.length);
  await call(bob, 'alice');
  await inState(alice, 'ringing');
  await until(() => bob.evaluate(() => globalThis.connections.length), (count) => count > before, 'bob has no connection');
  await until(gathering, (state) => state === 'complete', 'bob gathers for ever');
}

const nothingHeld = (status) =>
  until(() => allocations(status), (held) => held === 0, 'allocations stay after the call');

async function calls([alice, bob], status, directory) {
  const { frames, relayed, held } = await callThrough(alice, bob, status, directory);
  await click(alice, 'Hang up');
  await says(alice, 'you hung up');
  await says(bob, 'the other side hung up');
  await nothingHeld(status);

  // Bob calls back, is declined, and calls somebody who leaves.
  await rings(bob, alice);
  await click(alice, 'Decline');
  await says(bob, 'the other side hung up');
  await rings(bob, alice);
  await alice.close();
  await says(bob, 'the other side has gone');
  await contact(bob, 'alice').getByText('is not there').waitFor();
  await nothingHeld(status);
  return `frames decoded ${frames.join(' and ')}, relay ${relayed.join(' to ')}, ` +
    `${held} allocations and none afterwards`;
}

async function refused([alice, bob], status, directory) {
  await call(alice, 'bob');
  await says(alice, 'the relay gives no address (401 ');
  await alice.screenshot({ path: join(directory, 'refused-alice.png') });
  await says(bob, 'the other side hung up');
  demand(await allocations(status) === 0, 'there are allocations');
  return `${await alice.locator('#problem').innerText()}`;
}

async function users(browser, links, act) {
  const faults = [];
  const alice = await openPage(browser, links.alice, faults);
  await contact(alice, 'bob').getByText('is not there').waitFor();
  const bob = await openPage(browser, links.bob, faults, hideCamera);
  const said = await act([alice, bob]);
  demand(faults.length === 0, `the pages say: ${faults.join('; ')}`);
  return said;
}

// What a server answers, by who is asked and what for; and what is made of it.
const TOLD = [
  ['credentials with the services, an address of IPv6, no transport', {
    'here info': '<query><feature var="urn:xmpp:extdisco:2"/></query>',
    'here services': '<services><service type="stun" host="192.0.2.7" port="3478" transport="udp"/>' +
      '<service type="turn" host="2001:db8::1" port="3478" transport="udp" username="9:a@here" password="p"/>' +
      '<service type="turns" host="turn.example" username="9" password="q"/>' +
      '<service type="ftp" host="ftp.example" port="21"/></services>',
  }, [{ urls: 'stun:192.0.2.7:3478' },
    { urls: 'turn:[2001:db8::1]:3478?transport=udp', username: '9:a@here', credential: 'p' },
    { urls: 'turns:turn.example', username: '9', credential: 'q' }]],
  ['credentials on demand; who gives none is left out', {
    'here info': '<query><feature var="urn:xmpp:extdisco:2"/></query>',
    'here services': '<services><service type="turn" host="192.0.2.7" port="3478" transport="udp" restricted="1"/>' +
      '<service type="turn" host="192.0.2.8" port="3478" restricted="true"/></services>',
    'here credentials turn 192.0.2.7 3478':
      '<credentials><service type="turn" host="192.0.2.7" port="3478" username="9:x" password="p"/></credentials>',
  }, [{ urls: 'turn:192.0.2.7:3478?transport=udp', username: '9:x', credential: 'p' }]],
  ['a component that the domain lists, beside others', {
    'here info': '<query><feature var="jabber:iq:version"/></query>',
    'here items': '<query><item jid="rooms.here"/><item jid="gone.here"/><item jid="turn.here"/></query>',
    'rooms.here info': '<query/>',
    'turn.here info': '<query><feature var="urn:xmpp:extdisco:2"/></query>',
    'turn.here services':
      '<services><service type="turn" host="192.0.2.7" port="3478" transport="udp" username="9:x" password="p"/></services>',
  }, [{ urls: 'turn:192.0.2.7:3478?transport=udp', username: '9:x', credential: 'p' }]],
  ['nobody', { 'here info': '<query/>', 'here items': '<query/>' }, 'nobody at here tells of a relay (XEP-0215)'],
  ['an empty answer', {
    'here info': '<query><feature var="urn:xmpp:extdisco:2"/></query>', 'here services': '<services/>',
  }, 'here tells of no relay'],
];

// Runs in the page: a session that answers from the table, to what is really asked.
async function serversTold(answers) {
  const { iceServers } = await import('/services.js');
  const parse = (text) => new DOMParser().parseFromString(text, 'text/xml').documentElement;
  const iq = async (_type, to, payload) => {
    const asked = parse(payload.toString());
    const service = asked.querySelector('service');
    const what = /#(info|items)$/.exec(asked.namespaceURI)?.[1] ?? asked.localName;
    const more = service ? ['type', 'host', 'port'].map((name) => ` ${service.getAttribute(name)}`) : [];
    const answer = answers[`${to} ${what}${more.join('')}`];
    if (!answer) throw new Error('item not found');
    return parse(answer);
  };
  return iceServers({ domain: 'here', iq }).catch((error) => error.message);
}

async function services([alice]) {
  for (const [name, answers, wanted] of TOLD) {
    const seen = await alice.evaluate(serversTold, answers);
    demand(isDeepStrictEqual(seen, wanted), `${name}: ${JSON.stringify(seen)}`);
  }
  return `${TOLD.length} answers understood`;
}

// prosody as the example has it, but that it knows of no relay and has room for a component.
function withComponent(directory, port) {
  const changes = [
    [', "turn_external"', ''],
    ['"groups.txt"', JSON.stringify(join(dirname(CONFIG), 'groups.txt'))],
    [/turn_external_.*\n/g, ''],
    ['VirtualHost', `component_ports = { ${port} }\ncomponent_interfaces = { "127.0.0.1" }\nVirtualHost`],
    [/$/, `Component "turn.localhost"\n    component_secret = "${COMPONENT_SECRET}"\n`],
  ];
  const file = join(directory, 'component.cfg.lua');
  writeFileSync(file, changes.reduce((text, [from, to]) => text.replace(from, to), readFileSync(CONFIG, 'utf8')));
  return file;
}

// Runs in the page, as another client of the user that its form names.
async function serversFound() {
  const { Session } = await import('/xmpp.js');
  const { iceServers } = await import('/services.js');
  const { url, jid, password } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const session = await Session.login(url, jid, password);
  try {
    return await iceServers(session).catch((error) => error.message);
  } finally {
    session.logout();
  }
}

// The component connects when it finds that prosody is there.
async function component(pages, status, directory) {
  const [alice] = pages;
  const servers = await until(() => alice.evaluate(serversFound), Array.isArray, 'no component tells of a relay');
  const users = servers.map(({ username }) => username).filter(Boolean);
  demand(users.every((user) => /^\d+:alice@localhost$/.test(user)), `the credentials are for ${users}`);
  return calls(pages, status, directory);
}

const ACTS = { call: calls, component, refused, services };

async function main([act, host, port, secret, status, directory, componentPort]) {
  const closing = [];
  const interrupted = new Promise((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      process.once(signal, () => reject(new Error(`stopped by ${signal}`)));
    }
    // Who started this has ended.
    process.stdin.once('end', () => reject(new Error('nobody waits any more'))).resume();
  });
  const work = async () => {
    const { links, stop } = await start({
      STUN_SECRET: secret, TURN_HOST: host, TURN_PORT: port, PAGE_PORT: 0, XMPP_PORT: 0,
    }, componentPort ? withComponent(directory, componentPort) : CONFIG);
    closing.push(stop);
    const browser = await launch(LIMIT);
    closing.unshift(() => browser.close());
    return users(browser, links, (pages) => ACTS[act](pages, status, directory));
  };
  try {
    return await Promise.race([work(), interrupted]);
  } finally {
    for (const close of closing) await close();
  }
}

const args = process.argv.slice(2);
if (args.length !== (args[0] === 'component' ? 7 : 6) || !ACTS[args[0]]) {
  console.error('usage: xmpp_call.mjs call|refused|services TURN_HOST TURN_PORT SECRET STATUS_URL DIRECTORY\n' +
    '       xmpp_call.mjs component … PORT');
  process.exit(2);
}
main(args).then(
  (line) => console.log(`xmpp call: ok, ${line}`),
  (error) => {
    console.error(`xmpp call: FAILED: ${error.message}`);
    process.exitCode = 1;
  },
).finally(() => process.stdin.destroy());
