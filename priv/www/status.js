// The status page: asks for /status.json every ten seconds and shows what is in it. Rates are made
// here, of two samples of the history; a counter that falls has begun anew with a new relay program.
'use strict';

const EVERY_MS = 10000;
// How much of the past the plot shows: the least of these that all of the history fits in, seconds.
const SPANS = [120, 300, 900, 1800, 3600];
// Places in a sample of the history (meerkat_history.erl).
const TIME = 0, ALLOCATIONS = 1, CLIENT_IN = 2, CLIENT_OUT = 3;

const $ = (id) => document.getElementById(id);

function scaled(value, units, step) {
  let unit = 0;
  while (value >= step && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

const bits = (perSecond) => scaled(perSecond * 8, ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'], 1000);
const bytes = (n) => scaled(n, ['B', 'KiB', 'MiB', 'GiB', 'TiB'], 1024);
const count = (n) => n.toLocaleString('en');

function duration(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : `${minutes} min`;
}

// A row of cells; the last of several is a number.
function row(cells, title) {
  const tr = document.createElement('tr');
  cells.forEach((text, i) => {
    const td = document.createElement('td');
    td.textContent = text;
    if (i > 0 && i === cells.length - 1) td.className = 'n';
    tr.append(td);
  });
  if (title) tr.title = title;
  return tr;
}

function fill(id, rows, none) {
  $(id).replaceChildren(...(rows.length ? rows : [row([none])]));
}

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

const BOX = { left: 78, right: 908, top: 12, bottom: 232 };

function svg(name, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The least of 1, 2, 5, 10, ... that is not below.
function roof(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value);
}

function curve(points, now, span, top, kind) {
  const x = (time) => BOX.right - ((now - time) / span) * (BOX.right - BOX.left);
  const y = (value) => BOX.bottom - (value / top) * (BOX.bottom - BOX.top);
  const shown = points.filter(([time]) => now - time <= span);
  const path = shown.map(([time, value], i) => `${i ? 'L' : 'M'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
  return svg('path', { class: `curve ${kind}`, d: path.join(' '), 'data-points': shown.length });
}

function plot(history, incoming, outgoing) {
  const now = history[history.length - 1][TIME];
  const age = now - history[0][TIME];
  const span = SPANS.find((seconds) => seconds >= age) ?? SPANS[SPANS.length - 1];
  const held = history.map((sample) => [sample[TIME], sample[ALLOCATIONS]]);
  const highest = (points) => Math.max(0, ...points.map(([, value]) => value));
  const topRate = roof(Math.max(highest(incoming), highest(outgoing)) * 8) / 8;
  const topHeld = Math.max(4, roof(highest(held)));
  const parts = [];
  for (let i = 0; i <= 4; i += 1) {
    const y = BOX.bottom - (i / 4) * (BOX.bottom - BOX.top);
    parts.push(svg('line', { class: 'grid', x1: BOX.left, x2: BOX.right, y1: y, y2: y }));
    parts.push(svg('text', { x: BOX.left - 6, y: y + 4, 'text-anchor': 'end' }, bits((topRate * i) / 4)));
    parts.push(svg('text', { x: BOX.right + 6, y: y + 4 }, count((topHeld * i) / 4)));
  }
  for (let quarter = 4; quarter >= 0; quarter -= 1) {
    const x = BOX.right - (quarter / 4) * (BOX.right - BOX.left);
    const seconds = (span * quarter) / 4;
    const text = seconds === 0 ? 'now' : seconds % 60 ? `${seconds} s ago` : `${seconds / 60} min ago`;
    parts.push(svg('text', { x, y: BOX.bottom + 20, 'text-anchor': 'middle' }, text));
  }
  parts.push(curve(held, now, span, topHeld, 'held'));
  parts.push(curve(incoming, now, span, topRate, 'in'));
  parts.push(curve(outgoing, now, span, topRate, 'out'));
  $('plot').replaceChildren(...parts);
}

// ------------------------------------------------------------------------------------ the page

const REASONS = {
  relay_down: 'the relay program does not answer',
  not_listening: 'not listening yet',
  draining: 'draining: no more allocations are taken',
  no_room: 'all allocations there can be are taken',
  no_ports: 'no relayed port is free',
};

function verdict(text, kind) {
  $('state').textContent = text;
  $('state').className = `pill ${kind}`;
}

function show(status) {
  const { history, traffic } = status;
  const incoming = rates(history, CLIENT_IN);
  const outgoing = rates(history, CLIENT_OUT);
  verdict(status.ready ? 'serving' : status.draining ? 'draining' : 'not ready',
    status.ready ? 'good' : status.draining ? 'warn' : 'bad');
  $('reasons').textContent = status.not_ready.map((reason) => REASONS[reason] ?? reason).join('; ');
  $('allocations').textContent = count(status.allocations);
  $('allocations-max').textContent = `of ${count(status.max_allocations)} there can be`;
  $('rate-in').textContent = bits(last(incoming));
  $('rate-out').textContent = bits(last(outgoing));
  $('total-in').textContent = traffic ? `${bytes(traffic.client_bytes)} in all` : '';
  $('total-out').textContent = traffic ? `${bytes(traffic.client_sent_bytes)} in all` : '';
  const [half, most] = [0.5, 0.99].map((share) => quantile(status.durations, share));
  const ms = (bound) => (bound === null ? 'more than 5 s' : `${bound} ms`);
  $('latency').textContent = half === undefined ? '–' : ms(most);
  $('latency-count').textContent = half === undefined ? 'none so far' : `99 %; half within ${ms(half)}`;
  plot(history, incoming, outgoing);

  const drops = Object.entries(status.drops ?? {}).sort((a, b) => b[1] - a[1]);
  fill('drops', drops.map(([reason, n]) => row([reason, status.drop_help[reason], count(n)])), 'none so far');
  fill('responses', status.responses.map(({ method, code, count: n }) =>
    row([String(method), String(code), count(n)])), 'none so far');
  fill('ports', status.pools.map(({ address, free, ports }) =>
    row([address, free === null ? '' : `${count(free)} of ${count(ports)} free`])), 'none');

  const about = [['Meerkat', status.version], ['Erlang/OTP', status.otp], ['I/O', status.io_backend ?? '–'],
    ['running for', duration(status.uptime_s)], ['listening on', status.listeners.join(', ') || 'nothing'],
    ['restarts of the relay', count(status.relay_restarts)]];
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

refresh();
