import { accessSync, constants, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { CliContext } from '../context.ts';
import { exitCodes } from '../errors.ts';
import { palette } from '../ui/palette.ts';
import type { DoctorFlags } from './doctor.ts';

interface Finding {
  readonly name: string;
  readonly found: boolean;
  /** hvsim does not run without it. */
  readonly needed: boolean;
  readonly what: string;
}

/** Programs that people attach, and what brings them. */
const programs: readonly (readonly [name: string, packageName: string, what: string])[] = [
  ['mke2fs', 'e2fsprogs', 'makes file systems to carry'],
  ['e2fsck', 'e2fsprogs', 'checks them'],
  ['fio', 'fio', 'a client of hvsim serve, and what job files come from'],
  ['qemu-img', 'qemu-utils', 'a client of hvsim serve'],
  ['qemu-io', 'qemu-utils', 'a client of hvsim serve'],
  ['qemu-storage-daemon', 'qemu-system-common', 'a client of hvsim serve, and a FUSE bridge'],
  ['nbdinfo', 'libnbd-bin', 'a client of hvsim serve'],
  ['nbdcopy', 'libnbd-bin', 'a client of hvsim serve'],
  ['nbdfuse', 'libnbd-bin', 'shows a served disk as a file'],
  ['nbd-client', 'nbd-client', 'a client of hvsim serve'],
  ['nbdkit', 'nbdkit', 'the server that benches compare with'],
  ['blkparse', 'blktrace', 'makes traces that hvsim run replays'],
  ['gcc', 'gcc', 'builds the C programs that benches compare with'],
];

function hasProgram(name: string, path: string): boolean {
  return [...path.split(delimiter), '/usr/sbin', '/sbin'].some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return folder !== '';
    } catch {
      return false;
    }
  });
}

async function unixSockets(): Promise<boolean> {
  const folder = mkdtempSync(join(tmpdir(), 'hvsim-'));
  try {
    return await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen({ path: join(folder, 's') }, () => server.close(() => resolve(true)));
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `hvsim doctor` */
export async function doctor(this: CliContext, flags: DoctorFlags): Promise<void> {
  const { stdout, env } = this.process;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const findings: Finding[] = [
    { name: `node ${process.versions.node}`, found: major > 20 || (major === 20 && minor >= 19), needed: true, what: '20.19 or newer' },
    { name: 'unix sockets', found: await unixSockets(), needed: false, what: 'hvsim serve --socket; without them use --listen' },
    { name: '/dev/fuse', found: existsSync('/dev/fuse'), needed: false, what: 'nbdfuse' },
    ...programs.map(([name, packageName, what]) => ({
      name,
      found: hasProgram(name, env['PATH'] ?? ''),
      needed: false,
      what: `${what} (Debian: apt-get install ${packageName})`,
    })),
  ];
  if (flags.json) stdout.write(`${JSON.stringify({ findings }, null, 2)}\n`);
  else {
    const { green, red, yellow } = palette(stdout, env);
    for (const { name, found, needed, what } of findings) {
      const mark = found ? green('found  ') : needed ? red('missing') : yellow('missing');
      stdout.write(`${mark} ${name.padEnd(20)} ${what}\n`);
    }
  }
  this.process.exitCode = findings.every(({ found, needed }) => found || !needed) ? exitCodes.ok : exitCodes.failed;
}
