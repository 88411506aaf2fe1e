import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bin, hvsim, itNeeds, plain, program, scratch, startHvsim } from './cli.ts';

const folder = scratch();
const verbs = ['cp', 'run', 'serve', 'ctl', 'decode', 'conform', 'demo', 'doctor', 'completion'];
let folders = 0;
/** A folder with these files in it. */
function folderWith(files: Record<string, string>): string {
  folders += 1;
  const path = join(folder, String(folders));
  mkdirSync(path);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(path, name), text);
  return path;
}
const job = '[r]\nrw=randread\nbs=4k\nsize=64k\n';

describe('help', () => {
  it('has examples for every verb, and the exit codes where they say more than failure', () => {
    const { stdout } = hvsim(['--help']);
    for (const verb of verbs) expect(stdout).toMatch(new RegExp(`^ {2}${verb} {2,}\\S`, 'm'));
    expect(stdout).toContain('EXIT CODES');
    for (const verb of verbs) {
      const own = hvsim([verb, '--help']).stdout;
      expect(own, verb).toContain('EXAMPLES');
      expect(own, verb).toContain(`hvsim ${verb}`);
      expect(plain(own)).toBe(true);
    }
  });

  it('suggests flags that were meant, and exits 2 for what it does not know', () => {
    const { status, stderr } = hvsim(['run', '--filtre', 'stats', 'x.fio']);
    expect([status, stderr]).toEqual([2, expect.stringContaining('--filter')]);
    for (const args of [
      ['run'],
      ['run', '--seed', 'x', 'a.fio'],
      ['serve', '--ring-pages', '3'],
      ['completion', 'tcsh'],
      ['run', 'nowhere.fio'],
    ])
      expect(hvsim(args, { cwd: folder }).status, args.join(' ')).toBe(2);
  });
});

describe('numbers', () => {
  it('of every command are refused by the name of their flag, with what is allowed', () => {
    for (const [args, flag, text] of [
      [['demo', '--seed', 'foo'], 'seed', 'foo'],
      [['demo', '--seed=-5'], 'seed', '-5'],
      [['demo', '--seed', ''], 'seed', ''],
      [['run', '--seed', '1.5', 'job.fio'], 'seed', '1.5'],
      [['serve', '--socket', 's', '--seed', 'foo'], 'seed', 'foo'],
      [['serve', '--socket', 's', '--seed', '9007199254740992'], 'seed', '9007199254740992'],
      [['cp', 'a', 'b', '--queues', '0x4'], 'queues', '0x4'],
      [['demo', '--queues', '65'], 'queues', '65'],
      [['demo', '--ring-pages', '3'], 'ring-pages', '3'],
      [['demo', '--indirect', '10'], 'indirect', '10'],
      [['demo', '--pool', 'all'], 'pool', 'all'],
    ] as const) {
      const { status, stdout, stderr } = hvsim(args, { cwd: folder });
      expect([status, stdout], args.join(' ')).toEqual([2, '']);
      expect(stderr).toContain(`--${flag} is ${JSON.stringify(text)}; allowed is `);
    }
  });
});

describe('completions', () => {
  const shellFolder = join(folder, 'bin');
  mkdirSync(shellFolder);
  writeFileSync(join(shellFolder, 'hvsim'), `#!/bin/sh\nexec '${process.execPath}' '${bin}' "$@"\n`);
  chmodSync(join(shellFolder, 'hvsim'), 0o755);
  const bash = (script: string): string => {
    const { stdout, stderr, status } = spawnSync('bash', ['--norc', '-c', script], {
      encoding: 'utf8',
      timeout: 60_000,
      env: { ...process.env, PATH: `${shellFolder}${delimiter}${process.env['PATH']}` },
    });
    expect(status, stderr).toBe(0);
    return stdout;
  };

  itNeeds(['bash'], 'of bash propose verbs, flags and values, as bash asks for them', () => {
    const found = bash(`source <(hvsim completion bash)
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _hvsim; echo "\${COMPREPLY[*]}"; }
ask hvsim se; ask hvsim ''; ask hvsim serve --so; ask hvsim run --output-format ''; ask hvsim completion b; ask hvsim nowhere x
complete -p hvsim`).split('\n');
    expect(found[0]).toBe('serve');
    expect(found[1]?.split(' ')).toEqual(expect.arrayContaining(verbs));
    expect(found[1]).not.toContain('__complete');
    expect(found[2]).toBe('--socket');
    expect(found[3]).toBe('normal json json+ terse');
    expect(found[4]).toBe('bash');
    expect(found[5]).toBe('');
    expect(found[6]).toContain('-F _hvsim hvsim');
  });

  it('of zsh and fish are scripts for their shells', () => {
    expect(hvsim(['completion', 'zsh']).stdout).toMatch(/^#compdef hvsim\n/);
    expect(hvsim(['completion', 'fish']).stdout).toContain('complete -c hvsim');
  });

  itNeeds(['bash'], 'of bash parse', () => {
    const path = join(folder, 'completion.bash');
    writeFileSync(path, hvsim(['completion', 'bash']).stdout);
    program('bash', ['-n', path]);
  });
});

describe('a configuration file', () => {
  for (const [name, text] of [
    ['hvsim.config.json', '{"run":{"disk":"null:8M","seed":5,"outputFormat":"json"}}'],
    ['hvsim.config.js', 'export default { run: { disk: "null:8M", seed: 5, outputFormat: "json" } };'],
    ['hvsim.config.ts', 'const seed: number = 5;\nexport default { run: { disk: "null:8M", seed, outputFormat: "json" } };'],
  ] as const) {
    it(`${name} gives a command its flags, unless the command line does`, () => {
      const cwd = folderWith({ [name]: text, 'job.fio': job, 'package.json': '{"type":"module"}' });
      const first = hvsim(['run', 'job.fio'], { cwd });
      expect(first.status, first.stderr).toBe(0);
      expect(JSON.parse(first.stdout).hvsim.seed).toBe(5);
      expect(JSON.parse(hvsim(['run', '--seed', '6', 'job.fio'], { cwd }).stdout).hvsim.seed).toBe(6);
    });
  }

  for (const [text, message] of [
    ['{"run":{"disc":"mem:1M"}}', 'hvsim.config.json: run.disc is no key that hvsim knows'],
    ['{"serve":{"ringPages":3}}', 'hvsim.config.json: serve.ringPages is 3'],
    ['{"run":{"queues":"two"}}', 'hvsim.config.json: run.queues is "two"'],
    ['{"run":3}', 'hvsim.config.json: run is 3'],
    ['{', 'hvsim.config.json: '],
  ] as const) {
    it(`${text} is refused by the name of the key`, () => {
      const { status, stderr } = hvsim(['run', 'job.fio'], { cwd: folderWith({ 'hvsim.config.json': text, 'job.fio': job }) });
      expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
      expect(stderr.trimEnd().split('\n')).toHaveLength(1);
    });
  }

  it('that does not load stops what it has flags for, and neither help nor version nor other commands', () => {
    const cwd = folderWith({ 'hvsim.config.js': 'export default {', 'job.fio': job });
    expect(hvsim(['run', 'job.fio'], { cwd }).status).toBe(2);
    for (const args of [['--version'], ['--help'], ['run', '--help'], ['completion', 'bash'], ['__complete', '--', 'run', '--config']]) {
      expect(hvsim(args, { cwd }), args.join(' ')).toMatchObject({ status: 0, stderr: '' });
    }
    expect(hvsim(['--help'], { cwd }).stdout).toContain('--config PATH');
  });

  it('can be another, by --config', () => {
    const cwd = folderWith({ 'mine.json': '{"run":{"outputFormat":"json","seed":9}}', 'job.fio': job });
    expect(JSON.parse(hvsim(['--config', 'mine.json', 'run', 'job.fio'], { cwd }).stdout).hvsim.seed).toBe(9);
    expect(hvsim(['run', 'job.fio', '--config=none.json'], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('none.json'),
    });
  });
});

describe('doctor', () => {
  it('says what is there and what is missing, with the package that brings it', () => {
    const { status, stdout } = hvsim(['doctor']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^found +node \d+/m);
    expect(stdout).toContain('apt-get install fio');
    expect(plain(stdout)).toBe(true);
    const { findings } = JSON.parse(hvsim(['doctor', '--json'], { env: { PATH: '/nowhere' } }).stdout);
    expect(findings.find(({ name }: { name: string }) => name === 'fio')).toMatchObject({ found: false, needed: false });
  });
});

describe('a run', () => {
  itNeeds(['bash'], 'whose reader closes the pipe early ends without a trace', () => {
    const cwd = folderWith({ 'job.fio': job });
    const { status, stdout, stderr } = spawnSync(
      'bash',
      ['-c', `'${process.execPath}' '${bin}' run --json job.fio | head -1; exit \${PIPESTATUS[0]}`],
      {
        cwd,
        encoding: 'utf8',
        timeout: 60_000,
      },
    );
    expect([status, stdout.trim(), stderr]).toEqual([0, '{', '']);
  });

  it.skipIf(!existsSync('/dev/full'))(
    'whose output finds no room fails in one line, and keeps its exit code where the messages do not',
    () => {
      const cwd = folderWith({ 'job.fio': job });
      const into = (redirection: string, ...args: string[]) =>
        spawnSync('sh', ['-c', `exec '${process.execPath}' '${bin}' "$@" ${redirection}`, 'sh', ...args], {
          cwd,
          encoding: 'utf8',
          timeout: 60_000,
        });
      for (const args of [['run', 'job.fio'], ['demo', '--json'], ['--help'], ['doctor']]) {
        const { status, stderr } = into('> /dev/full', ...args);
        expect([status, stderr], args.join(' ')).toEqual([1, 'hvsim: the output: no space left on device\n']);
      }
      expect(into('2> /dev/full', 'run', 'nowhere.fio').status).toBe(2);
      expect(into('2> /dev/full', 'bogus').status).toBe(2);
    },
  );

  const long = 'rw=randread\nbs=4k\nsize=8m\ntime_based\nruntime=1h\n';
  for (const [name, args, text] of [
    ['a busy one in virtual time', [], long],
    ['a busy one in real time', ['--wall'], long],
    ['one in real time that waits for its rate', ['--wall'], `${long}rate_iops=100\n`],
    ['one in real time that waits for its start', ['--wall'], `${long}startdelay=1h\n`],
  ] as const) {
    for (const [signal, wanted] of [
      ['SIGINT', 130],
      ['SIGTERM', 143],
    ] as const) {
      it(`ends soon with ${wanted} on ${signal}, and gives its files back: ${name}`, async () => {
        const cwd = folderWith({ 'job.fio': `[long]\n${text}write_iolog=out.log\n` });
        const child = startHvsim(['run', ...args, 'job.fio'], cwd);
        let stderr = '';
        child.stderr.on('data', (chunk) => {
          stderr += chunk;
        });
        let asked = 0;
        // Its log is there once it runs.
        const look = setInterval(() => {
          if (asked > 0 || !existsSync(join(cwd, 'out.log'))) return;
          asked = performance.now();
          setTimeout(() => child.kill(signal), 300);
        }, 20);
        const killer = setTimeout(() => child.kill('SIGKILL'), 20_000);
        const code = await new Promise((resolve) => child.once('exit', resolve));
        clearInterval(look);
        clearTimeout(killer);
        expect([code, stderr]).toEqual([wanted, 'hvsim: interrupted\n']);
        expect(performance.now() - asked).toBeLessThan(3000);
        expect(readFileSync(join(cwd, 'out.log'), 'utf8')).toMatch(/ close\n$/);
      });
    }
  }

  itNeeds(['script'], 'colours and draws a bar only on a terminal without NO_COLOR', () => {
    const cwd = folderWith({ 'job.fio': '[r]\nrw=randread\nbs=4k\nsize=32m\n' });
    const onTerminal = (env: Record<string, string>): string =>
      spawnSync('script', ['-qec', `'${process.execPath}' '${bin}' run job.fio`, '/dev/null'], {
        cwd,
        encoding: 'utf8',
        timeout: 60_000,
        env: { PATH: process.env['PATH'], TERM: 'xterm-256color', ...env },
      }).stdout;
    const colours = [31, 32, 33, 34, 35, 36, 90].map((code) => `\u001b[${code}m`);
    const plainRun = onTerminal({ NO_COLOR: '1' });
    for (const code of colours) expect(plainRun).not.toContain(code);
    expect(onTerminal({})).toMatch(/run \[/);
  });
});
