// What the pages that draw share: text of numbers, rows of tables, and plots over time. It asks the
// server for nothing.
'use strict';

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

// 1.00 kbit/s of a scale is 1 kbit/s.
const mark = (text) => text.replace(/\.0+ /, ' ');
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

// The plot is drawn as wide as there is room: on a telephone letters keep their size and both scales
// stay in view.
const WIDTH_MIN = 300;
const WIDTH_MAX = 960;
const NARROW = 600;

// The room of the plot in that element, with so much beside it for scales.
function box(id, { left, right, height }) {
  const room = Math.floor($(id).parentElement.clientWidth);
  const width = Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, room));
  return { width, height, narrow: width < NARROW, left, right: width - right, top: 12, bottom: height - 28 };
}

function svg(name, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The least of 4, 8, 20, 40, 80, ... that is not below, so that quarters of it are whole.
function roof(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 4) / 4));
  return [4, 8, 20, 40].map((n) => n * power).find((n) => n >= value);
}

// Lines at quarters of a scale, with what stands at their left and, where there is another scale, at
// their right.
function grid({ left, right, top, bottom }, leftText, rightText) {
  const drawn = [];
  for (let i = 0; i <= 4; i += 1) {
    const y = bottom - (i / 4) * (bottom - top);
    drawn.push(svg('line', { class: 'grid', x1: left, x2: right, y1: y, y2: y }));
    drawn.push(svg('text', { x: left - 6, y: y + 4, 'text-anchor': 'end' }, leftText(i / 4)));
    if (rightText) drawn.push(svg('text', { x: right + 6, y: y + 4 }, rightText(i / 4)));
  }
  return drawn;
}

// The time below a plot, in so many parts.
function times({ left, right, bottom, narrow }, span, parts) {
  const drawn = [];
  for (let part = parts; part >= 0; part -= 1) {
    const x = right - (part / parts) * (right - left);
    drawn.push(svg('text', { class: 'time', x, y: bottom + 20, 'text-anchor': 'middle' },
      ago((span * part) / parts, narrow)));
  }
  return drawn;
}

function curve(points, { left, right, top, bottom }, now, span, most, kind) {
  const x = (time) => right - ((now - time) / span) * (right - left);
  const y = (value) => bottom - (value / most) * (bottom - top);
  const shown = points.filter(([time]) => now - time <= span);
  const path = shown.map(([time, value], i) => `${i ? 'L' : 'M'}${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
  return svg('path', { class: `curve ${kind}`, d: path.join(' '), 'data-points': shown.length });
}

function ago(seconds, narrow) {
  if (seconds === 0) return 'now';
  const text = seconds < 60 || seconds % 60 ? `${seconds} s` : `${seconds / 60} min`;
  return narrow ? text : `${text} ago`;
}

function draw(id, { width, height }, drawn) {
  $(id).setAttribute('viewBox', `0 0 ${width} ${height}`);
  $(id).replaceChildren(...drawn);
}
