// An authority that a browser trusts: in a certificate store of NSS, which Firefox keeps in its profile
// and Chromium on Linux in ~/.pki/nssdb. certutil is from Debian's libnss3-tools.
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

// Makes the store in that directory; without an authority there is nothing to trust in it.
export async function trust(directory, authority) {
  if (!authority) return;
  await mkdir(directory, { recursive: true });
  const store = ['-d', `sql:${directory}`];
  await run('certutil', [...store, '-N', '--empty-password']);
  await run('certutil', [...store, '-A', '-t', 'C,,', '-n', 'authority', '-i', authority]);
}
