#!/usr/bin/env node
// The server's own pages in headless Chromium.
//
//   pages.mjs status URL SCREENSHOT         one allocation and traffic are shown, and drops
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

// On a telephone nothing sticks out at the side; the picture of that is SCREENSHOT-narrow.
async function narrow(page, screenshot) {
  const wide = page.viewportSize();
  await page.setViewportSize({ width: 400, height: 900 });
  await page.screenshot({ path: screenshot.replace(/\.png$/, '-narrow.png'), fullPage: true });
  const needed = await page.locator('html').evaluate((html) => html.scrollWidth);
  demand(needed <= 400, `at 400 pixels the page is ${needed} wide`);
  await page.setViewportSize(wide);
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
  await narrow(page, screenshot);
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

async function gather(page) {
  await page.locator('#gather').click();
  await appears(page, 'body[data-done=yes]');
  return text(page, '#verdict');
}

async function ice(page, url, token, screenshot) {
  await page.goto(`${url}/ice`);
  await page.locator('#token').fill('no token of ours');
  await page.locator('#fetch').click();
  await appears(page, '#fetched:has-text("not the token")');
  await page.locator('#token').fill(token);
  await page.locator('#fetch').click();
  await appears(page, '#fetched:has-text("hour")');

  const verdict = await gather(page);
  await page.screenshot({ path: screenshot, fullPage: true });
  await narrow(page, screenshot);
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
      // Chromium reports any answer that is an error, as the one to a wrong token is.
      if (message.type() === 'error' && !message.text().includes('status of 401')) faults.push(message.text());
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith('data:')) faults.push(`asks for ${request.url()}`);
    });
    const said = await { status, ice }[what](page, url, ...rest);
    demand(faults.length === 0, faults.join('; '));
    return `${what} page: ok, ${said}`;
  } finally {
    await browser.close();
  }
}

const args = process.argv.slice(2);
if (!(args[0] === 'status' && args.length === 3) && !(args[0] === 'ice' && args.length === 4)) {
  console.error('usage: pages.mjs status URL SCREENSHOT | ice URL TOKEN SCREENSHOT');
  process.exit(2);
}
try {
  console.log(await main(args));
} catch (error) {
  console.error(`pages: FAILED: ${error.message}`);
  process.exitCode = 1;
}
