// The page of one call: asks for /call.json each second, and draws how media of each source came since
// then. Counts are of all the time that somebody looks; figures are made here, of two of them.
'use strict';

const EVERY_MS = 1000;
// Seconds of the past that are drawn: the least of these that all of it fits in, in four parts.
const SPANS = [20, 60, 120];
const KEPT = 150;
const HEIGHT = 180;

// By source: points of the three plots. The last answer, for differences.
let sources = new Map();
let before = null;
let timer = null;
let redraw = () => {};

const key = ({ from, peer, ssrc }) => `${from} ${peer} ${ssrc}`;
const side = ({ from }) => (from === 'client' ? 'in' : 'out');
const hex = (ssrc) => `0x${ssrc.toString(16).padStart(8, '0')}`;
const percent = (share) => `${(share * 100).toFixed(1)} %`;

function verdict(text, kind) {
  $('state').textContent = text;
  $('state').className = `pill ${kind}`;
}

// What has come of a source since it was asked for last.
function since(then, now, seconds) {
  const grown = (name) => Math.max(0, now[name] - (then ? then[name] : 0));
  const [packets, lost] = [grown('packets'), grown('lost')];
  return { rate: grown('bytes') / seconds, loss: packets + lost ? lost / (packets + lost) : 0,
    jitter: now.jitter_us === null ? null : now.jitter_us / 1000 };
}

function add(answer) {
  const time = answer.time_ms / 1000;
  const known = new Map((before?.streams ?? []).map((stream) => [key(stream), stream]));
  // A look that began anew counts from 0.
  const fresh = !before || answer.looking_ms < before.looking_ms;
  const seconds = before ? (answer.time_ms - before.time_ms) / 1000 : 0;
  for (const stream of answer.streams ?? []) {
    const name = key(stream);
    const source = sources.get(name) ?? { kind: side(stream), rate: [], loss: [], jitter: [] };
    sources.set(name, source);
    if (!fresh && seconds > 0) {
      const figures = since(known.get(name), stream, seconds);
      for (const [figure, value] of Object.entries(figures)) {
        if (value !== null) source[figure] = [...source[figure], [time, value]].slice(-KEPT);
      }
      source.now = figures;
    }
  }
  before = answer;
}

// The least top of a scale that is not below what is shown, and its text.
const SCALES = {
  rate: { top: (most) => roof(Math.max(500, most)), text: (value) => mark(bits(value)) },
  loss: { top: (most) => [0.04, 0.2, 1].find((share) => share >= most), text: percent },
  jitter: { top: (most) => roof(Math.max(4, most)), text: (value) => `${value} ms` },
};

function plot(figure, now) {
  const { top, text } = SCALES[figure];
  const area = box(figure, { left: 78, right: 16, height: HEIGHT });
  const points = [...sources.values()].flatMap((source) => source[figure]);
  const age = Math.max(0, ...points.map(([time]) => now - time));
  const span = SPANS.find((known) => known >= age) ?? SPANS[SPANS.length - 1];
  const values = points.filter(([time]) => now - time <= span).map(([, value]) => value);
  const most = top(Math.max(0, ...values));
  const drawn = grid(area, (share) => text(most * share)).concat(times(area, span, 4));
  for (const source of sources.values()) {
    drawn.push(curve(source[figure], area, now, span, most, source.kind));
  }
  draw(figure, area, drawn);
}

function show(answer) {
  add(answer);
  verdict('looking', 'good');
  $('call').hidden = false;
  $('verdict').textContent = answer.unseen ?? answer.verdict ?? 'too little has come to tell yet';
  const dropped = Object.entries(answer.drops).map(([reason, n]) => `${reason} ${count(n)}`).join(', ');
  fill('about', [['allocation', answer.allocation], ['user', answer.user], ['client', answer.client],
    ['relayed at', answer.relayed.join(', ')], ['for', duration(answer.age_ms / 1000)],
    ['from the client', `${count(answer.client_packets)} packets, ${bytes(answer.client_bytes)}`],
    ['from peers', `${count(answer.peer_packets)} packets, ${bytes(answer.peer_bytes)}`],
    ['dropped', dropped || 'nothing']].map((cells) => row(cells)), '');
  fill('sources', (answer.streams ?? []).map((stream) => {
    const now = sources.get(key(stream))?.now;
    const figures = now ? [`${bits(now.rate)}`, `${percent(now.loss)} lost`,
      now.jitter === null ? '' : `jitter ${now.jitter.toFixed(1)} ms`].filter(Boolean).join(', ') : '';
    return row([stream.from === 'client' ? `client to ${stream.peer}` : `${stream.peer} to the client`,
      `SSRC ${hex(stream.ssrc)}, type ${stream.payload_type}`, figures]);
  }), 'no RTP so far');
  redraw = () => Object.keys(SCALES).forEach((figure) => plot(figure, answer.time_ms / 1000));
  redraw();
  document.body.dataset.shown = String(Number(document.body.dataset.shown ?? 0) + 1);
}

async function ask(query) {
  const response = await fetch(`/call.json${query}`,
    { headers: { Authorization: `Bearer ${$('token').value}` } });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function refresh(id) {
  try {
    show(await ask(`?id=${encodeURIComponent(id)}`));
    timer = setTimeout(refresh, EVERY_MS, id);
  } catch (error) {
    verdict('over', 'bad');
    $('said').textContent = error.message;
  }
}

function look(id) {
  clearTimeout(timer);
  [sources, before] = [new Map(), null];
  $('id').value = id;
  $('said').textContent = '';
  refresh(id);
}

async function list() {
  try {
    const { total, allocations } = await ask('');
    $('said').textContent = `${count(allocations.length)} of ${count(total)}, most bytes first`;
    $('found').hidden = false;
    fill('allocations', allocations.map(({ allocation, user, client, bytes: relayed }) => {
      const tr = row([allocation, user, client, bytes(relayed)]);
      const button = document.createElement('button');
      button.textContent = allocation;
      button.addEventListener('click', () => look(allocation));
      tr.firstChild.replaceChildren(button);
      return tr;
    }), 'there is none');
  } catch (error) {
    $('said').textContent = error.message;
  }
}

$('form').addEventListener('submit', (event) => {
  event.preventDefault();
  look($('id').value.trim());
});
$('list').addEventListener('click', list);
window.addEventListener('resize', () => redraw());
