// Headless Chromium that may use loopback addresses and needs nobody to allow it a camera.
// CHROMIUM names another browser than Debian's.
import { chromium } from 'playwright-core';

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

// Signals are left to the caller, who closes the browser.
export const launch = (timeout) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: FLAGS,
  timeout,
  handleSIGINT: false,
  handleSIGTERM: false,
  handleSIGHUP: false,
});
