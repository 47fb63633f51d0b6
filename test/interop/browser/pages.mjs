#!/usr/bin/env node
// The server's own pages in headless Chromium.
//
//   pages.mjs status URL SCREENSHOT         one allocation and traffic are shown, and drops
//   pages.mjs idle URL LISTENERS SCREENSHOT a server without traffic, with so many listeners
//   pages.mjs call URL TOKEN SCREENSHOT     of the one allocation there is, whose client loses a tenth
//                                           of its media, the loss is drawn and said
//   pages.mjs ice URL TOKEN SCREENSHOT      credentials are fetched, a relayed candidate is found;
//                                           with a wrong password it says what is wrong
//
// Ends with one line and status 0, or with a sentence and status 1. A page that breaks a rule of
// its own content security policy, or asks for anything from elsewhere, fails.
import { launch } from './chromium.mjs';

const LIMIT = 90_000;

function demand(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

const text = (page, selector) => page.locator(selector).innerText();

// The page's policy forbids what would evaluate a text; a selector does not.
const appears = (page, selector) => page.locator(selector).waitFor({ state: 'attached', timeout: LIMIT });

// At no width anything sticks out, of the page or of one of its cards, light or dark; of each there is a
// picture, SCREENSHOT-WIDTH-SCHEME.
async function fits(page, screenshot) {
  const before = page.viewportSize();
  for (const width of [390, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: screenshot.replace(/\.png$/, `-${width}-${colorScheme}.png`), fullPage: true });
    }
    const needed = await page.locator('html').evaluate((html) => html.scrollWidth);
    demand(needed <= width, `at ${width} pixels the page is ${needed} wide`);
    for (const [place, over] of await page.locator('section, .cards > div').evaluateAll((cards) => cards
      .map((card) => [card.innerText.slice(0, 20), card.scrollWidth - card.clientWidth]))) {
      demand(over <= 0, `at ${width} pixels something sticks out of “${place}” by ${over}`);
    }
    await labelled(page, width);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(before);
}

// Marks of the plot lie in it, say something else each, and none of time covers another.
async function labelled(page, width) {
  const boxes = await page.locator('#plot text').evaluateAll((texts) => texts.map((text) => {
    const { left, right, top } = text.getBoundingClientRect();
    return { text: text.textContent, time: text.classList.contains('time'), left, right, top };
  }));
  for (const { text, left, right } of boxes) {
    demand(left >= 0 && right <= width, `at ${width} pixels the mark ${text} is cut`);
  }
  const times = boxes.filter(({ time }) => time);
  times.forEach(({ text, left }, i) => {
    const before = times[i - 1] ?? { text: 'the edge', right: 0 };
    demand(left > before.right, `at ${width} pixels ${text} covers ${before.text}`);
    demand(/^(now|\d+ (s|min)( ago)?)$/.test(text), `a mark of time is ${text}`);
  });
  const rates = boxes.filter(({ text }) => text.endsWith('bit/s')).map(({ text }) => text);
  demand(new Set(rates).size === rates.length, `marks of the rate are ${rates}`);
}

// Heights of a curve's points, all of which must be in the plot.
async function heights(page, kind) {
  const path = await page.locator(`#plot path.${kind}`).getAttribute('d');
  return [...path.matchAll(/[ML]([\d.-]+) ([\d.-]+)/g)].map(([, x, y]) => {
    demand(x >= 0 && x <= 960 && y >= 0 && y <= 260, `the curve ${kind} leaves the plot at ${x}, ${y}`);
    return Number(y);
  });
}

async function status(page, url, screenshot) {
  await page.goto(url);
  // Two samples and the present one: a curve with two points of traffic.
  await appears(page, '#plot path.in:not([data-points="0"]):not([data-points="1"])');
  await page.screenshot({ path: screenshot, fullPage: true });
  await fits(page, screenshot);
  demand(await text(page, '#allocations') === '1', `${await text(page, '#allocations')} allocations are shown`);
  demand(await text(page, '#state') === 'serving', `the state is ${await text(page, '#state')}`);
  demand(/^[1-9]/.test(await text(page, '#rate-in')), `the rate is ${await text(page, '#rate-in')}`);
  const [incoming, held] = [await heights(page, 'in'), await heights(page, 'held')];
  demand(new Set(incoming).size > 1, `the curve of traffic is flat: ${incoming}`);
  demand(held.every((y) => y === held[0]) && held[0] < 232, `the curve of allocations is not at 1: ${held}`);
  demand((await text(page, '#drops')).includes('no_channel'), `the drops are ${await text(page, '#drops')}`);
  demand((await text(page, '#responses')).includes('allocate'), 'no response is shown');
  demand((await text(page, '#about')).includes('Erlang/OTP'), 'no version is shown');
  return `${await text(page, '#rate-in')}, ${incoming.length} points`;
}

async function idle(page, url, listeners, screenshot) {
  await page.goto(url);
  await appears(page, '#plot path.in');
  await fits(page, screenshot);
  const shown = (await text(page, '#about')).match(/\b(udp|tcp|tls|dtls) \S+:\d+$/gm) ?? [];
  demand(shown.length === Number(listeners), `not all listeners are shown: ${await text(page, '#about')}`);
  return `${listeners} listeners`;
}

async function call(page, url, token, screenshot) {
  await page.goto(`${url}/call`);
  await page.locator('#token').fill('no token of ours');
  await page.locator('#list').click();
  await appears(page, '#said:has-text("not the token")');
  await page.locator('#token').fill(token);
  await page.locator('#list').click();
  await appears(page, '#allocations button');
  await page.locator('#allocations button').click();
  await appears(page, '#loss path.in:not([data-points="0"]):not([data-points="1"])');
  await appears(page, '#verdict:has-text("packets are lost before they reach us")');
  await fits(page, screenshot);
  const said = await text(page, '#verdict');
  demand(/^(9|1[01])\.\d % of the client's packets/.test(said), `the verdict is: ${said}`);
  demand((await text(page, '#about')).includes('alice'), `the call is ${await text(page, '#about')}`);
  const sources = await text(page, '#sources');
  demand(/SSRC 0x000a11ce, type 0/.test(sources) && /% lost/.test(sources), `the sources are: ${sources}`);
  await page.locator('#id').fill('9-9');
  await page.locator('#look').click();
  await appears(page, '#said:has-text("no such allocation")');
  return said;
}

async function gather(page) {
  await page.locator('#gather').click();
  await appears(page, 'body[data-done=yes]');
  return text(page, '#verdict');
}

async function ice(page, url, token, screenshot) {
  await page.goto(`${url}/ice`);
  // It knows its own server, and what no credentials are needed for.
  await appears(page, 'body[data-filled=yes]');
  const own = await page.locator('#uris').inputValue();
  demand(/^stun:127\.0\.0\.1:\d+ .*turn:127\.0\.0\.1:\d+\?transport=udp/.test(own), `it is filled with: ${own}`);
  demand((await gather(page)).includes('need a username'), 'nothing is said about TURN without credentials');
  await page.locator('#token').fill('no token of ours');
  await page.locator('#fetch').click();
  await appears(page, '#fetched:has-text("not the token")');
  await page.locator('#token').fill(token);
  await page.locator('#fetch').click();
  await appears(page, '#fetched:has-text("hour")');

  const verdict = await gather(page);
  await page.screenshot({ path: screenshot, fullPage: true });
  await fits(page, screenshot);
  demand(verdict.includes('relay ok'), `the verdict is: ${verdict}`);
  const rows = await page.locator('#candidates tr').allInnerTexts();
  demand(rows.some((row) => /^relay\s+udp\s+127\.0\.0\.1:\d+/.test(row)), `the candidates are: ${rows}`);
  demand(rows.some((row) => row.startsWith('host')), `there is no host candidate: ${rows}`);

  await page.locator('#policy').selectOption('relay');
  demand((await gather(page)).includes('relay ok'), 'the policy relay finds no relay');
  const only = await page.locator('#candidates tr').allInnerTexts();
  demand(only.every((row) => row.startsWith('relay')), `with the policy relay there are: ${only}`);

  await page.locator('#credential').fill('wrong');
  const refused = await gather(page);
  await page.screenshot({ path: screenshot.replace(/\.png$/, '-refused.png'), fullPage: true });
  demand(/relay: none/.test(refused) && /401/.test(refused) && /password is wrong/.test(refused),
    `with a wrong password the verdict is: ${refused}`);

  // One that is no URI, one that nobody answers at: each is named, and what is right is used.
  await page.locator('#uris').fill(`${own},trun:other stun:127.0.0.1:1 turn:`);
  await page.locator('#policy').selectOption('all');
  const mixed = await gather(page);
  await page.screenshot({ path: screenshot.replace(/\.png$/, '-mixed.png'), fullPage: true });
  demand(/trun:other is no STUN or TURN URI/.test(mixed) && /cannot read turn:/.test(mixed)
    && /stun:127\.0\.0\.1:1: (error 701|no answer)/.test(mixed) && /srflx/.test(mixed), `the verdict is: ${mixed}`);
  demand(!mixed.includes('from 0.0.0'), `an address that says nothing is shown: ${mixed}`);

  await page.locator('#uris').fill('');
  demand((await gather(page)).includes('name a server'), 'nothing is said about no server');
  return verdict.split('\n')[0];
}

async function main([what, url, ...rest]) {
  const browser = await launch(LIMIT);
  try {
    const page = await browser.newPage({ viewport: { width: 1100, height: 900 } });
    const faults = [];
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => {
      // Chromium reports any answer that is an error, as those to a wrong token or name are.
      if (message.type() === 'error' && !/status of 40[14]/.test(message.text())) faults.push(message.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith('data:')) faults.push(`asks for ${request.url()}`);
    });
    const said = await { status, idle, call, ice }[what](page, url, ...rest);
    demand(faults.length === 0, faults.join('; '));
    return `${what} page: ok, ${said}`;
  } finally {
    await browser.close();
  }
}

const args = process.argv.slice(2);
if (args.length !== { status: 3, idle: 4, call: 4, ice: 4 }[args[0]]) {
  console.error('usage: pages.mjs status URL SCREENSHOT | idle URL LISTENERS SCREENSHOT | call|ice URL TOKEN SCREENSHOT');
  process.exit(2);
}
try {
  console.log(await main(args));
} catch (error) {
  console.error(`pages: FAILED: ${error.message}`);
  process.exitCode = 1;
}
