// Headless Chromium that may use loopback addresses and needs nobody to allow it a camera.
// CHROMIUM names another browser than Debian's.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { trust } from './trust.mjs';

const FLAGS = [
  '--allow-loopback-in-peer-connection',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

// Signals are left to the caller, who closes the browser. Its home is its own, where an authority is to
// be trusted (a PEM file).
export async function launch(timeout, authority) {
  const home = await mkdtemp(join(tmpdir(), 'chromium-'));
  await trust(join(home, '.pki/nssdb'), authority);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: FLAGS,
    env: authority ? { ...process.env, HOME: home } : process.env,
    timeout,
    handleSIGINT: false,
    handleSIGTERM: false,
    handleSIGHUP: false,
  });
  browser.once('disconnected', () => rm(home, { recursive: true, force: true, maxRetries: 5 }));
  return browser;
}
