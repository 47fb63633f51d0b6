// Headless Firefox driven by Marionette, its protocol for remote control: JSON over TCP, each message
// behind its length. It may use loopback addresses and needs nobody to allow it a camera. FIREFOX names
// another browser than Debian's.
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trust } from './trust.mjs';

const LOOK_MS = 50;

const PREFERENCES = {
  'marionette.port': 0,
  'media.navigator.streams.fake': true,
  'media.navigator.permission.disabled': true,
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
  'media.autoplay.default': 0,
  'network.proxy.type': 0,
  'app.update.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'toolkit.telemetry.reportingpolicy.firstRun': false,
};

class Marionette {
  constructor(socket) {
    this.socket = socket;
    this.read = Buffer.alloc(0);
    this.waiting = new Map();
    this.last = 0;
    socket.on('data', (data) => this.take(data));
    socket.on('close', () => this.fail(new Error('Firefox ended')));
    socket.on('error', (error) => this.fail(error));
  }

  take(data) {
    this.read = Buffer.concat([this.read, data]);
    for (;;) {
      const colon = this.read.indexOf(58);
      const length = Number(this.read.subarray(0, colon));
      if (colon < 0 || this.read.length < colon + 1 + length) return;
      const message = JSON.parse(this.read.subarray(colon + 1, colon + 1 + length));
      this.read = this.read.subarray(colon + 1 + length);
      if (Array.isArray(message)) this.answered(message);
    }
  }

  answered([, id, error, result]) {
    const { resolve, reject } = this.waiting.get(id);
    this.waiting.delete(id);
    if (error) reject(new Error(error.message));
    else resolve(result);
  }

  fail(error) {
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
  }

  ask(command, parameters = {}) {
    const text = JSON.stringify([0, this.last += 1, command, parameters]);
    return new Promise((resolve, reject) => {
      this.waiting.set(this.last, { resolve, reject });
      this.socket.write(`${Buffer.byteLength(text)}:${text}`);
    });
  }
}

// What playwright's page has of what is used here. A function is run in the page with one argument.
class Page {
  constructor(marionette) {
    this.marionette = marionette;
  }

  goto(url) { return this.marionette.ask('WebDriver:Navigate', { url }); }

  async evaluate(body, argument) {
    const script = `const done = arguments[arguments.length - 1];
      Promise.resolve((${body})(arguments[0])).then((v) => done({ v }), (e) => done({ e: e.message }));`;
    const { value } = await this.marionette.ask('WebDriver:ExecuteAsyncScript',
      { script, args: [argument ?? null], sandbox: null, newSandbox: false, scriptTimeout: 120000 });
    if (value.e) throw new Error(value.e);
    return value.v;
  }

  once() {}
}

async function port(profile, child) {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`Firefox ended with status ${child.exitCode}`);
    const text = await readFile(join(profile, 'MarionetteActivePort'), 'utf8').catch(() => '');
    if (text) return Number(text);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

// Of playwright's browser newPage and close.
export async function launch(_timeout, authority) {
  const profile = await mkdtemp(join(tmpdir(), 'firefox-'));
  await trust(profile, authority);
  const lines = Object.entries(PREFERENCES).map(([name, value]) =>
    `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`);
  await writeFile(join(profile, 'user.js'), lines.join(''));
  const child = spawn(process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    ['--headless', '--no-remote', '--marionette', '--profile', profile],
    { stdio: 'ignore', env: { ...process.env, HOME: profile } });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const close = async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const socket = connect(await port(profile, child), '127.0.0.1');
    const marionette = new Marionette(socket);
    await new Promise((resolve) => socket.once('connect', resolve));
    await marionette.ask('WebDriver:NewSession', { capabilities: {} });
    return { newPage: async () => new Page(marionette), close };
  } catch (error) {
    await close();
    throw error;
  }
}
