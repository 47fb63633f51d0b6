// Gathers candidates with the servers given, lists them as they come, and says in words what works.
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

// A browser takes credentials with TURN and would not have them with STUN alone.
function iceServers(uris, username, credential) {
  const stun = uris.filter((uri) => /^stuns?:/i.test(uri));
  const turn = uris.filter((uri) => /^turns?:/i.test(uri));
  return [...stun.map((urls) => ({ urls })), ...turn.map((urls) => ({ urls, username, credential }))];
}

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

function problem({ url, errorCode, errorText, address, port }) {
  const from = address ? ` (from ${place({ address, port })})` : '';
  return `${url}${from}: error ${errorCode}${errorText ? ` “${errorText}”` : ''}: `
    + `${ERRORS[errorCode] ?? 'see RFC 8656'}`;
}

function judge(uris, candidates, errors, policy) {
  $('verdict').replaceChildren();
  const wanted = { srflx: uris.some((uri) => /^(stun|turn)s?:/i.test(uri)) && policy === 'all',
    relay: uris.some((uri) => /^turns?:/i.test(uri)) };
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
  for (const error of errors) say(error, candidates.some(({ type }) => type === 'relay') ? 'warn' : 'bad');
}

// Ends with gathering, or at the limit; candidates and errors found so far are kept either way.
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

async function run(event) {
  event.preventDefault();
  const uris = $('uris').value.split(/[\s,]+/).filter(Boolean);
  const policy = $('policy').value;
  const candidates = [];
  const errors = new Set();
  $('gather').disabled = true;
  $('outcome').hidden = $('found').hidden = false;
  $('verdict').replaceChildren();
  $('candidates').replaceChildren();
  delete document.body.dataset.done;
  say('gathering …', 'soft');
  try {
    if (!uris.length) throw new Error('name a server, such as turn:host:3478?transport=udp');
    const config = { iceServers: iceServers(uris, $('username').value, $('credential').value),
      iceTransportPolicy: policy };
    const how = await gather(config, (candidate, ms) => {
      const { type, protocol, relatedAddress, url } = candidate;
      candidates.push(candidate);
      const via = relatedAddress && relatedAddress !== '0.0.0.0' ? ` for ${relatedAddress}` : '';
      $('candidates').append(row([type, protocol, `${place(candidate)}${via}`, url ?? '',
        `${Math.round(ms)} ms`]));
    }, (error) => errors.add(problem(error)));
    if (!candidates.length) $('candidates').append(row(['none', '', '', '', '']));
    judge(uris, candidates, errors, policy);
    if (how === 'limit') say(`not done after ${LIMIT_MS / 1000} s: some server did not answer`, 'warn');
  } catch (error) {
    $('verdict').replaceChildren();
    say(error.message, 'bad');
  }
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

$('form').addEventListener('submit', run);
$('fetch').addEventListener('click', fetchCredentials);
