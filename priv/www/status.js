// The status page: asks for /status.json every ten seconds and shows what is in it. Rates are made
// here, of two samples of the history; a counter that falls has begun anew with a new relay program.
'use strict';

const EVERY_MS = 10000;
// How much of the past the plot shows: the least of these that all of the history fits in, seconds, and
// in how many whole parts it is marked.
const SPANS = [{ span: 120, parts: 4 }, { span: 300, parts: 5 }, { span: 900, parts: 3 },
  { span: 1800, parts: 3 }, { span: 3600, parts: 4 }];
// Places in a sample of the history (meerkat_history.erl).
const TIME = 0, ALLOCATIONS = 1, CLIENT_IN = 2, CLIENT_OUT = 3;

// Bytes per second between each two samples, at the time of the later one.
function rates(history, place) {
  const points = [];
  for (let i = 1; i < history.length; i += 1) {
    const [before, after] = [history[i - 1], history[i]];
    const seconds = after[TIME] - before[TIME];
    if (seconds <= 0 || after[place] === null) continue;
    const fresh = before[place] === null || after[place] < before[place];
    points.push([after[TIME], (fresh ? after[place] : after[place] - before[place]) / seconds]);
  }
  return points;
}

const last = (points) => (points.length ? points[points.length - 1][1] : 0);

// The bound below which this share of all requests was answered, in ms; null beyond the last.
function quantile(durations, share) {
  const all = Object.values(durations);
  const total = all.reduce((sum, d) => sum + d.count, 0);
  if (total === 0) return undefined;
  const [first] = all;
  for (let i = 0; i < first.buckets.length; i += 1) {
    const below = all.reduce((sum, d) => sum + d.buckets[i][1], 0);
    if (below >= share * total) return first.buckets[i][0] / 1000;
  }
  return null;
}

// ------------------------------------------------------------------------------------ the plot

const HEIGHT = 260;

function plot(history, incoming, outgoing) {
  const area = box('plot', { left: 78, right: 52, height: HEIGHT });
  const now = history[history.length - 1][TIME];
  const age = now - history[0][TIME];
  const { span, parts } = SPANS.find((known) => known.span >= age) ?? SPANS[SPANS.length - 1];
  const held = history.map((sample) => [sample[TIME], sample[ALLOCATIONS]]);
  const highest = (points) => Math.max(0, ...points.map(([, value]) => value));
  // A scale below a kbit/s says nothing of a relay.
  const topRate = roof(Math.max(4000, highest(incoming) * 8, highest(outgoing) * 8)) / 8;
  const topHeld = roof(highest(held));
  const drawn = grid(area, (share) => mark(bits(topRate * share)), (share) => count(topHeld * share))
    .concat(times(area, span, parts));
  drawn.push(curve(held, area, now, span, topHeld, 'held'));
  drawn.push(curve(incoming, area, now, span, topRate, 'in'));
  drawn.push(curve(outgoing, area, now, span, topRate, 'out'));
  draw('plot', area, drawn);
}

// ------------------------------------------------------------------------------------ the page

// One a line: how clients reach it, and where.
function listeners({ listeners: udp, tcp_listeners: tcp, tls_listeners: tls, dtls_listeners: dtls }) {
  return Object.entries({ udp, tcp, tls, dtls })
    .flatMap(([transport, all]) => all.map((address) => `${transport} ${address}`)).join('\n');
}

const REASONS = {
  relay_down: 'the relay program does not answer',
  not_listening: 'not listening yet',
  draining: 'draining: no more allocations are taken',
  no_room: 'all allocations there can be are taken',
  no_ports: 'no relayed port is free',
  no_address: 'this machine does not have the address that clients are told',
  host_unknown: 'the kernel does not tell which addresses this machine has',
};

function verdict(text, kind) {
  $('state').textContent = text;
  $('state').className = `pill ${kind}`;
}

// Draws what was shown last again, for another width.
let redraw = () => {};

function show(status) {
  const { history, traffic } = status;
  const incoming = rates(history, CLIENT_IN);
  const outgoing = rates(history, CLIENT_OUT);
  verdict(status.ready ? 'serving' : status.draining ? 'draining' : 'not ready',
    status.ready ? 'good' : status.draining ? 'warn' : 'bad');
  $('reasons').textContent = status.not_ready.map((reason) => REASONS[reason] ?? reason).join('; ');
  $('allocations').textContent = count(status.allocations);
  $('allocations-max').textContent = `of at most ${count(status.max_allocations)}`;
  $('rate-in').textContent = bits(last(incoming));
  $('rate-out').textContent = bits(last(outgoing));
  $('total-in').textContent = traffic ? `${bytes(traffic.client_bytes)} in all` : '';
  $('total-out').textContent = traffic ? `${bytes(traffic.client_sent_bytes)} in all` : '';
  const [half, most] = [0.5, 0.99].map((share) => quantile(status.durations, share));
  const ms = (bound) => (bound === null ? 'more than 5 s' : `${bound} ms`);
  $('latency').textContent = half === undefined ? '–' : ms(most);
  $('latency-count').textContent = half === undefined ? 'none so far' : `99 %; half within ${ms(half)}`;
  redraw = () => plot(history, incoming, outgoing);
  redraw();

  const drops = Object.entries(status.drops ?? {}).sort((a, b) => b[1] - a[1]);
  fill('drops', drops.map(([reason, n]) => row([reason, status.drop_help[reason], count(n)])), 'none so far');
  fill('responses', status.responses.map(({ method, code, count: n }) =>
    row([String(method), String(code), count(n)])), 'none so far');
  fill('ports', status.pools.map(({ address, free, ports }) =>
    row([address, free === null ? '' : `${count(free)} of ${count(ports)} free`])), 'none');

  $('fleet-section').hidden = status.fleet === null;
  fill('fleet', (status.fleet ?? []).map(({ node, region, state, load }) =>
    row([node, region ?? '', state === 'missing' ? 'not there' : state,
      load === null ? '' : `${load} % full`])), '');

  const about = [['Meerkat', status.version], ['Erlang/OTP', status.otp], ['I/O', status.io_backend ?? '–'],
    ['running for', duration(status.uptime_s)], ['listening on', listeners(status) || 'nothing'],
    ['restarts of the relay', count(status.relay_restarts)]];
  for (const { names, file, days_left: days } of status.certificates) {
    about.push([`certificate of ${names[0] ?? file}`,
      days === undefined ? 'cannot be read' : days < 0 ? 'is over' : `${count(days)} days left`]);
  }
  for (const { file, days_left: days } of status.client_authorities) {
    about.push([`vouching for clients: ${file}`,
      days === undefined ? 'cannot be read' : days < 0 ? 'is over' : `${count(days)} days left`]);
  }
  if (status.peer_connections) about.push(['connections with peers over TCP', count(status.peer_connections)]);
  if (status.certificates_refused) about.push(['certificates not taken', status.certificates_refused]);
  for (const [program, { rss, cpu_ms: cpu, fds }] of Object.entries(status.processes)) {
    about.push([program, [rss && bytes(rss), cpu !== undefined && `${(cpu / 1000).toFixed(1)} s CPU`,
      fds && `${count(fds)} files`].filter(Boolean).join(', ')]);
  }
  fill('about', about.map((cells) => row(cells)), '');
  $('footer').textContent =
    `As of ${new Date(status.time * 1000).toLocaleTimeString()}. No user, client or peer is named here.`;
}

async function refresh() {
  try {
    const response = await fetch('/status.json');
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
    document.body.dataset.shown = String(Number(document.body.dataset.shown ?? 0) + 1);
  } catch (error) {
    verdict('no answer', 'bad');
    $('reasons').textContent = error.message;
  }
  setTimeout(refresh, EVERY_MS);
}

window.addEventListener('resize', () => redraw());
refresh();
