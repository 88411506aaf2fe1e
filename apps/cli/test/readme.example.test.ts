import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bin, hvsim, itNeeds, scratch } from './cli.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const folder = scratch();

describe('the README', () => {
  itNeeds(['bash', 'fio'], 'has an example that runs as it stands', () => {
    const example = /## Use[\s\S]*?```sh\n([\s\S]*?)```/.exec(readme)?.[1] as string;
    const programs = join(folder, 'bin');
    mkdirSync(programs);
    writeFileSync(join(programs, 'npx'), `#!/bin/sh\nshift\nexec '${process.execPath}' '${bin}' "$@"\n`);
    chmodSync(join(programs, 'npx'), 0o755);
    // A person takes a moment between two lines.
    const script = example.replace(' &\n', ' &\nuntil [ -S disk.ctl ]; do sleep 0.05; done\n').replace('kill %1', 'kill %1; wait %1');
    const { status, stdout, stderr } = spawnSync('bash', ['-m', '-c', script], {
      cwd: folder,
      encoding: 'utf8',
      timeout: 60_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, PATH: `${programs}${delimiter}${process.env['PATH']}` },
    });
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('err= 0');
    expect(stdout).toContain('"written');
    expect(stdout).toContain('requests on the ring');
  });

  it('names every verb that the command has, and no other', () => {
    const verbs = [...hvsim(['--help']).stdout.matchAll(/^ {2}([a-z]+) {2,}\S/gm)].map(([, verb]) => verb);
    const told = [...readme.matchAll(/^\| `hvsim ([a-z]+)/gm)].map(([, verb]) => verb);
    expect(new Set(told)).toEqual(new Set(verbs));
  });
});
