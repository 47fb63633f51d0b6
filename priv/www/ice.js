// Gathers candidates with each of the servers given, lists them and what fails as it comes, and says in
// words what works. The servers of the Meerkat that serves this page stand there already.
'use strict';

const LIMIT_MS = 20000;
const $ = (id) => document.getElementById(id);

function row(cells) {
  const tr = document.createElement('tr');
  cells.forEach((text, i) => {
    const td = document.createElement('td');
    td.textContent = text;
    if (i === cells.length - 1) td.className = 'n';
    tr.append(td);
  });
  return tr;
}

function say(text, kind) {
  const li = document.createElement('li');
  li.className = kind;
  li.textContent = text;
  $('verdict').append(li);
}

// Some browsers put the brackets there themselves.
const place = ({ address, port }) => (/^[^[].*:/.test(address) ? `[${address}]:${port}` : `${address}:${port}`);

const FORM = 'turn:host:3478?transport=udp or stun:host:3478';

// What is wrong with it, in words; undefined for one that the browser takes. Each is tried by itself: the
// browser would refuse all for one of them.
function mistake(uri) {
  if (!/^(stun|turn)s?:/i.test(uri)) return `${uri} is no STUN or TURN URI and is left out; one is like ${FORM}`;
  if (/^turns:.*[?]transport=udp/i.test(uri)) return `${uri} is left out: it is for DTLS, which no browser speaks`;
  try {
    new RTCPeerConnection({ iceServers: [server(uri, 'u', 'p')] }).close();
    return undefined;
  } catch {
    return `this browser cannot read ${uri}, which is left out; a URI is like ${FORM}`;
  }
}

// A browser takes credentials with TURN and would not have them with STUN alone.
const isTurn = (uri) => /^turns?:/i.test(uri);
const server = (urls, username, credential) => (isTurn(urls) ? { urls, username, credential } : { urls });

// What the fault is, for whom the number says little (RFC 8445 and RFC 8656; 701 is the browser's).
const ERRORS = {
  300: 'the server sends clients elsewhere: it is being drained',
  401: 'username or password is wrong, or the credentials have expired',
  403: 'the server forbids this',
  437: 'the server does not know this allocation',
  438: 'the nonce was stale and the browser did not try again',
  441: 'these credentials are not those of the allocation',
  486: 'this user has as many allocations as one may have',
  508: 'the server has no room, or is being drained',
  600: 'the server could not be reached',
  701: 'no answer: the port is closed on the way, the host is not there, or its name is unknown',
};

function problem(uri, { errorCode, errorText }) {
  return `${uri}: error ${errorCode}${errorText ? ` “${errorText}”` : ''}: ${ERRORS[errorCode] ?? 'see RFC 8656'}`;
}

// What came of all servers, above what was said of single ones.
function judge(uris, candidates, policy) {
  const single = [...$('verdict').children];
  $('verdict').replaceChildren();
  const wanted = { srflx: uris.some((uri) => /^(stun|turn)s?:/i.test(uri)) && policy === 'all',
    relay: uris.some(isTurn) };
  const of = (type) => candidates.filter((candidate) => candidate.type === type);
  if (wanted.relay) {
    const relayed = of('relay');
    if (relayed.length) say(`relay ok: media can go through ${relayed.map(place).join(', ')}`, 'good');
    else say('relay: none. This server would carry no media for this browser.', 'bad');
  }
  if (wanted.srflx) {
    const reflexive = of('srflx');
    if (reflexive.length) {
      say(`srflx ok: seen from outside this browser is ${reflexive.map(place).join(', ')}`, 'good');
    } else if (of('relay').length) {
      say('srflx: none of its own. A browser leaves it out when it is its host address: no NAT in between.', 'warn');
    } else {
      say('srflx: none. No server has told this browser its address.', 'bad');
    }
  }
  $('verdict').append(...single);
}

// With one server. Ends with gathering, or at the limit.
function gather(config, onCandidate, onError) {
  const started = performance.now();
  const pc = new RTCPeerConnection(config);
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve('limit'), LIMIT_MS);
    const end = (how) => {
      clearTimeout(timer);
      resolve(how);
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) onCandidate(candidate, performance.now() - started);
    };
    pc.onicecandidateerror = onError;
    pc.onicegatheringstatechange = () => {
      if (pc.iceGatheringState === 'complete') end('complete');
    };
    pc.createDataChannel('probe');
    pc.createOffer().then((offer) => pc.setLocalDescription(offer)).catch((error) => {
      clearTimeout(timer);
      reject(error);
    });
  }).finally(() => pc.close());
}

// One of the servers: its candidates, but for those that another brought, are listed, and its errors said.
async function ask(uri, { username, credential, policy }, candidates) {
  const errors = new Set();
  let answered = false;
  const how = await gather({ iceServers: [server(uri, username, credential)], iceTransportPolicy: policy },
    (candidate, ms) => {
      const { type, protocol, relatedAddress } = candidate;
      answered ||= type !== 'host';
      // Each connection has ports of its own for the same addresses of this machine.
      const key = `${type} ${protocol} ${type === 'host' ? candidate.address : place(candidate)}`;
      if (candidates.has(key)) return;
      candidates.set(key, candidate);
      const via = relatedAddress && relatedAddress !== '0.0.0.0' ? ` for ${relatedAddress}` : '';
      $('candidates').append(row([type, protocol, `${place(candidate)}${via}`, type === 'host' ? '' : uri,
        `${Math.round(ms)} ms`]));
    }, (error) => {
      const text = problem(uri, error);
      if (errors.has(text)) return;
      errors.add(text);
      say(text, answered ? 'warn' : 'bad');
    });
  if (how === 'limit' && !answered && !errors.size) say(`${uri}: no answer in ${LIMIT_MS / 1000} s`, 'bad');
}

async function run(event) {
  event.preventDefault();
  const given = $('uris').value.split(/[\s,]+/).filter(Boolean);
  const options = { username: $('username').value, credential: $('credential').value, policy: $('policy').value };
  const candidates = new Map();
  $('gather').disabled = true;
  $('outcome').hidden = $('found').hidden = false;
  $('verdict').replaceChildren();
  $('candidates').replaceChildren();
  $('progress').textContent = 'gathering …';
  delete document.body.dataset.done;
  try {
    if (!given.length) throw new Error(`name a server, such as ${FORM}`);
    const uris = given.filter((uri) => {
      const wrong = mistake(uri);
      if (wrong) say(wrong, 'bad');
      return !wrong;
    });
    // A browser would refuse a TURN server without.
    const asked = options.username && options.credential ? uris : uris.filter((uri) => !isTurn(uri));
    if (asked.length < uris.length) say('TURN servers need a username and a password and are left out', 'warn');
    await Promise.all(asked.map((uri) => ask(uri, options, candidates)));
    if (!candidates.size) $('candidates').append(row(['none', '', '', '', '']));
    judge(asked, [...candidates.values()], options.policy);
  } catch (error) {
    say(error.message, 'bad');
  }
  $('progress').textContent = '';
  $('gather').disabled = false;
  document.body.dataset.done = 'yes';
}

async function fetchCredentials() {
  $('fetched').textContent = '';
  try {
    const response = await fetch('/credentials?service=turn&username=ice-page&ttl=3600', {
      headers: { Authorization: `Bearer ${$('token').value}` } });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    $('uris').value = answer.uris.join(' ');
    $('username').value = answer.username;
    $('credential').value = answer.password;
    $('fetched').textContent = 'good for an hour';
  } catch (error) {
    $('fetched').textContent = error.message;
  }
}

// What this server tells its clients, without credentials.
async function fillIn() {
  try {
    const { uris } = await (await fetch('/status.json')).json();
    if (!$('uris').value) $('uris').value = uris.join(' ');
  } catch {
    // The field stays empty; its placeholder says what it takes.
  }
  document.body.dataset.filled = 'yes';
}

$('form').addEventListener('submit', run);
$('fetch').addEventListener('click', fetchCredentials);
fillIn();
