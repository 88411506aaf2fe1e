import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { hvsim, itNeeds, plain, scratch } from './cli.ts';

const folder = scratch();
const workload = (name: string): string => fileURLToPath(new URL(`workloads/${name}`, import.meta.url));
let files = 0;
/** Writes a job file; returns its path. */
function job(text: string): string {
  files += 1;
  const path = join(folder, `job-${files}.fio`);
  writeFileSync(path, text);
  return path;
}

interface Direction {
  readonly total_ios: number;
  readonly io_bytes: number;
  readonly runtime: number;
  readonly [field: string]: unknown;
}
interface Job {
  readonly jobname: string;
  readonly error: number;
  readonly total_err?: number;
  readonly read: Direction;
  readonly write: Direction;
  readonly trim: Direction;
  readonly sync: { readonly total_ios: number };
  readonly [field: string]: unknown;
}
interface Report {
  readonly jobs: readonly Job[];
  readonly hvsim: {
    readonly filters: readonly { readonly counts: Record<'read' | 'write' | 'flush' | 'discard', { bytes: number; errors: number }> }[];
    readonly faults: readonly { readonly name: string; readonly fired: number }[];
    readonly requests: number;
  };
  readonly [field: string]: unknown;
}
function run(paths: readonly string[], flags: readonly string[] = [], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = hvsim(['run', '--json', ...flags, ...paths], { cwd: folder, env });
  const report = stdout.startsWith('{') ? (JSON.parse(stdout) as Report) : undefined;
  const named = (name: string): Job => report?.jobs.find(({ jobname }) => jobname === name) as Job;
  return { status, stdout, stderr, report: report as Report, named };
}

describe('the sample job files through hvsim run', () => {
  it('segment-pressure gives the counts that fio reports, whatever its uri', () => {
    const { status, named, stderr } = run([workload('segment-pressure.fio')]);
    expect(status, stderr).toBe(0);
    expect(named('direct-max').write.total_ios).toBe(1489);
    expect(named('just-over').write.total_ios).toBe(1365);
    expect(named('indirect').read.total_ios + named('indirect').write.total_ios).toBe(64);
    expect(named('one-sector').read.total_ios + named('one-sector').write.total_ios).toBe(8000);
    expect(named('discard-flush').trim.total_ios).toBe(500);
    expect(named('write-flush').write.total_ios).toBe(500);
  }, 60_000);

  it('integrity verifies every block', () => {
    const { status, named, stderr } = run([workload('integrity.fio')]);
    expect(status, stderr).toBe(0);
    for (const [name, count] of [
      ['seq-64k-crc32c', 256],
      ['rand-4k-crc32c', 4096],
      ['rand-pattern', 4096],
    ] as const)
      expect([named(name).write.total_ios, named(name).read.total_ios]).toEqual([count, count]);
    const { read, write } = named('rand-mixed-md5');
    expect(Math.abs(write.total_ios - 4622)).toBeLessThan(463);
    expect(read.total_ios).toBe(write.total_ios);
  }, 60_000);

  it('boot-then-oltp reads what fio reads, and ends its timed jobs in time', () => {
    const { status, named, stderr } = run([workload('boot-then-oltp.fio')]);
    expect(status, stderr).toBe(0);
    expect(Math.abs(named('boot').read.total_ios - 992)).toBeLessThan(100);
    for (const name of ['data', 'redo']) expect(named(name)['job_runtime']).toBeGreaterThanOrEqual(2990);
    expect(named('redo').sync.total_ios).toBeGreaterThan(0);
  }, 60_000);

  it('finds a corrupted block and exits 1', () => {
    const { status, report } = run([workload('integrity.fio')], ['--filter', 'corrupt=write:1%']);
    expect(status).toBe(1);
    expect(report.jobs.map(({ error }) => error)).toContain(84);
    expect(report.hvsim.faults[0]?.fired).toBeGreaterThan(0);
  }, 60_000);
});

describe('traces through hvsim run', () => {
  for (const [name, reads, writes, syncs, trims] of [
    ['mixed-xvda.v2.iolog', 27, 21, 4, 0],
    ['mixed-xvda.v3.iolog', 27, 21, 4, 0],
    ['xvda.blkparse.txt', 9, 4, 2, 5],
  ] as const) {
    it(`${name} replays to its counts`, () => {
      const { status, report, stderr } = run([job(`[replay]\nread_iolog=${workload(name)}\n`)], ['--disk', 'mem:1G']);
      expect(status, stderr).toBe(0);
      const { read, write, sync, trim } = report.jobs[0] as Job;
      expect([read.total_ios, write.total_ios, sync.total_ios, trim.total_ios]).toEqual([reads, writes, syncs, trims]);
    });
  }

  for (const version of ['2', '3']) {
    it(`of version ${version} are written, and replay to the same counts`, () => {
      const text = '[w]\nrw=randrw\nbs=4k\nsize=256k\nfsync=4\nrate_iops=500\nwrite_iolog=out.iolog\n';
      const first = run([job(text)], ['--iolog-version', version]);
      expect(first.status, first.stderr).toBe(0);
      const lines = readFileSync(join(folder, 'out.iolog'), 'utf8').trimEnd().split('\n');
      expect(lines[0]).toBe(`fio version ${version} iolog`);
      expect(lines.some((line) => / wait \d+/.test(line))).toBe(version === '2');
      const again = run([job('[r]\nread_iolog=out.iolog\n')]);
      const counts = ({ report }: ReturnType<typeof run>): unknown[] => {
        const { read, write, sync } = report.jobs[0] as Job;
        return [read.total_ios, write.total_ios, sync.total_ios, read.io_bytes, write.io_bytes];
      };
      expect(counts(again)).toEqual(counts(first));
    });
  }

  itNeeds(['fio'], 'that hvsim run writes are replayed by fio itself', () => {
    run([job('[w]\nrw=randrw\nbs=4k\nsize=256k\nfsync=4\nwrite_iolog=fio.iolog\n')]);
    const text = readFileSync(join(folder, 'fio.iolog'), 'utf8').replaceAll(' disk ', ' target.img ');
    writeFileSync(join(folder, 'fio.iolog'), text);
    writeFileSync(join(folder, 'target.img'), new Uint8Array(1 << 20));
    const { status, stdout, stderr } = spawnSync(
      'fio',
      ['--name=r', '--ioengine=psync', '--read_iolog=fio.iolog', '--replay_no_stall=1', '--output-format=json'],
      { cwd: folder, encoding: 'utf8', timeout: 30_000 },
    );
    expect(status, stderr).toBe(0);
    const [{ read, write }] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
    expect(read.total_ios + write.total_ios).toBe(64);
  });
});

const number = expect.any(Number);
const latency = { min: number, max: number, mean: number, stddev: number, N: number };
const direction = {
  ...Object.fromEntries(
    [
      'io_bytes io_kbytes bw_bytes bw iops runtime total_ios short_ios drop_ios bw_min bw_max bw_agg bw_mean bw_dev bw_samples',
      'iops_min iops_max iops_mean iops_stddev iops_samples',
    ]
      .join(' ')
      .split(' ')
      .map((field) => [field, number]),
  ),
  slat_ns: latency,
  clat_ns: expect.objectContaining(latency),
  lat_ns: latency,
};

describe('the JSON report', () => {
  const mix = '[global]\nsize=4m\n[mix]\nrw=randrw\nbs=4k\niodepth=4\nfsync=8\n[t]\nstonewall\nrw=randtrim\nbs=64k\nnumber_ios=10\n';

  it('has every field of fio that tools read, of the right type', () => {
    const { report, named } = run([job(mix)]);
    expect(report).toMatchObject({ 'fio version': 'fio-3.33', timestamp: number, timestamp_ms: number, time: expect.any(String) });
    expect(report['global options']).toEqual({ size: '4m' });
    const fields =
      'jobname groupid error eta elapsed job_runtime usr_cpu sys_cpu ctx majf minf latency_depth latency_target latency_percentile latency_window';
    for (const field of fields.split(' ')) expect(named('mix'), field).toHaveProperty(field, field === 'jobname' ? 'mix' : number);
    expect(named('mix')['job options']).toEqual({ name: 'mix', rw: 'randrw', bs: '4k', iodepth: '4', fsync: '8' });
    for (const each of ['read', 'write', 'trim'] as const) expect(named('mix')[each]).toMatchObject(direction);
    expect(named('mix').sync).toMatchObject({ total_ios: number, lat_ns: { ...latency, percentile: expect.any(Object) } });
    expect(Object.keys((named('mix').read['clat_ns'] as { percentile: object }).percentile)).toEqual(
      [1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99].map((each) => each.toFixed(6)),
    );
    const bounds = ['2', '4', '10', '20', '50', '100', '250', '500', '750', '1000'];
    const keys = (field: string): string[] => Object.keys(named('mix')[field] as object).sort();
    expect(keys('latency_ns')).toEqual([...bounds].sort());
    expect(keys('latency_us')).toEqual([...bounds].sort());
    expect(keys('latency_ms')).toEqual([...bounds, '2000', '>=2000'].sort());
    expect(keys('iodepth_level')).toEqual(['1', '2', '4', '8', '16', '32', '>=64'].sort());
    expect(keys('iodepth_submit')).toEqual(['0', '4', '8', '16', '32', '64', '>=64'].sort());
    expect(keys('iodepth_complete')).toEqual(keys('iodepth_submit'));
    expect(named('mix')).not.toHaveProperty('total_err');
  });

  it('has bytes and seconds that fit each other', () => {
    const { named } = run([job('[r]\nrw=read\nbs=64k\nsize=16m\niodepth=8\n')]);
    const { read } = named('r');
    expect(read).toMatchObject({ io_bytes: 16 << 20, io_kbytes: 16 << 10, total_ios: 256 });
    const { bw_bytes: bandwidth, bw, iops, runtime } = read as unknown as Record<string, number>;
    expect((bandwidth as number) / 1024).toBeCloseTo(bw as number, -1);
    expect((bandwidth as number) / 65_536).toBeCloseTo(iops as number, 0);
    expect(Math.abs((16 << 20) / (bandwidth as number) - (runtime as number) / 1e3)).toBeLessThan(0.001);
    const clat = read['clat_ns'] as { min: number; mean: number; max: number; percentile: Record<string, number> };
    expect(clat.min).toBeLessThanOrEqual(clat.mean);
    expect(clat.mean).toBeLessThanOrEqual(clat.max);
    expect(clat.percentile['50.000000']).toBeLessThanOrEqual(clat.percentile['99.000000'] as number);
  });

  it('agrees with what the disk counted', () => {
    const { report, named } = run([job(mix)], ['--filter', 'stats']);
    const { counts } = report.hvsim.filters[0] as Report['hvsim']['filters'][number];
    expect(counts.read.bytes).toBe(named('mix').read.io_bytes);
    expect(counts.write.bytes).toBe(named('mix').write.io_bytes);
    expect(counts.discard.bytes).toBe(named('t').trim.io_bytes);
  });

  it('is the same to the last byte for the same seed, and another for another seed', () => {
    const path = job(mix);
    const first = run([path], ['--seed', '7', '--queues', '2']).stdout;
    expect(run([path], ['--seed', '7', '--queues', '2']).stdout).toBe(first);
    expect(run([path], ['--seed', '8', '--queues', '2']).stdout).not.toBe(first);
  });

  itNeeds(['fio'], 'has every key that fio itself prints, of the same type', () => {
    const text = `[global]\nsize=1m\n[mix]\nrw=randrw\nbs=4k\nfsync=8\n[v]\nstonewall\nrw=write\nbs=16k\nverify=crc32c\n`;
    const { report } = run([job(text)]);
    const real = spawnSync('fio', ['--output-format=json', job(text.replace('[global]', '[global]\nioengine=psync\nfilename=real.img'))], {
      cwd: folder,
      encoding: 'utf8',
      timeout: 30_000,
    });
    const theirs = JSON.parse(real.stdout.slice(real.stdout.indexOf('{')));
    const missing: string[] = [];
    const compare = (a: unknown, b: unknown, path: string): void => {
      if (typeof a !== typeof b) missing.push(path);
      else if (typeof a === 'object' && a !== null) {
        for (const [key, value] of Object.entries(a)) compare(value, (b as Record<string, unknown>)[key], `${path}.${key}`);
      }
    };
    const { disk_util: _theirs, 'global options': _options, ...top } = theirs;
    compare(top, report, '');
    expect(missing).toEqual([]);
    for (const at of [0, 1]) {
      const { read, write } = report.jobs[at] as Job;
      expect(read.total_ios + write.total_ios).toBe(theirs.jobs[at].read.total_ios + theirs.jobs[at].write.total_ios);
    }
  });
});

describe('the other reports', () => {
  const text = '[a]\nrw=randread\nbs=4k\nsize=1m\n[b]\nrw=write\nbs=4k\nsize=1m\nstonewall\ndescription=words\n';

  it('terse has the fields of version 3, and the description behind them', () => {
    const { stdout } = hvsim(['run', '--output-format', 'terse', job(text)]);
    const lines = stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.split(';').length)).toEqual([121, 122]);
    expect(lines[0]).toMatch(/^3;fio-3\.33;a;0;0;1024;/);
    expect(lines[1]?.endsWith(';words')).toBe(true);
  });

  it("the summary is in fio's order, then comes what moved; without colours where there is no terminal", () => {
    const { stdout, status } = hvsim(['run', job(text)]);
    expect(status).toBe(0);
    const order = [
      'a: (groupid=0, jobs=1): err= 0',
      'read: IOPS=',
      'clat (',
      ' lat (',
      'clat percentiles',
      'IO depths',
      'submit',
      'complete',
      'issued rwts: total=256,0,0,0',
      'b: (groupid=1',
      'Run status group 0',
      'READ: bw=',
      'latency of a request',
      'requests on the ring',
      'grants',
      'doorbells',
    ];
    let at = 0;
    for (const part of order) {
      const found = stdout.indexOf(part, at);
      expect(found, `${part} after ${stdout.slice(Math.max(0, at - 40), at)}`).toBeGreaterThanOrEqual(0);
      at = found;
    }
    expect(plain(stdout)).toBe(true);
  });

  it('go to a file with --output, which is looked at before the run', () => {
    expect(hvsim(['run', '--output', join(folder, 'report.json'), '--json', job(text)])).toMatchObject({ status: 0, stdout: '' });
    expect(JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')).jobs).toHaveLength(2);
    expect(hvsim(['run', '--output', join(folder, 'none', 'report.json'), job(text)])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('no such file or directory'),
    });
  });
});

describe('errors of jobs', () => {
  const text = (more: string): string => `[e]\nrw=randread\nbs=4k\nsize=4m\n${more}`;

  it('end the job and exit 1, unless it goes on: then they are counted and it exits 0', () => {
    const ended = run([job(text(''))], ['--filter', 'error=read:5%']);
    expect([ended.status, ended.report.jobs[0]?.error]).toEqual([1, 5]);
    const went = run([job(text('continue_on_error=read\n'))], ['--filter', 'error=read:5%']);
    expect([went.status, went.report.jobs[0]?.error]).toEqual([0, 5]);
    expect(went.report.jobs[0]?.total_err).toBeGreaterThan(10);
    expect(went.report.jobs[0]).toHaveProperty('first_error', 5);
    const other = run([job(text('continue_on_error=write\n'))], ['--filter', 'error=read:5%']);
    expect(other.status).toBe(1);
  });

  for (const [title, file, message] of [
    ['an unknown key', '[a]\nrw=read\nbogus=1\n', /Bad option <bogus=1>/],
    ['a near miss, with the key that was meant', '[a]\nrw=read\nblocksise=4k\n', /did you mean blocksize|did you mean bs/],
    ['no job', '[global]\nrw=read\n', /no job/],
    ['a key before any section', 'rw=read\n', /before the first/],
    ['a mode that is none', '[a]\nrw=sideways\n', /rw=sideways/],
    ['a size that is none', '[a]\nsize=lots\n', /size=lots/],
    ['a block that is no multiple of the sector', '[a]\nrw=read\nbs=1000\n', /multiple/],
    ['an offset beyond the disk', '[a]\nrw=read\noffset=1t\n', /beyond the disk/],
    ['a block larger than the disk', '[a]\nrw=read\nbs=128m\n', /less than a block/],
    ['a trace that is not there', '[a]\nread_iolog=nowhere.iolog\n', /nowhere\.iolog: no such file/],
    ['a file that includes itself', `include loop.fio\n`, /include/],
  ] as const) {
    it(`${title}: one line, and no run`, () => {
      if (title.includes('includes itself')) writeFileSync(join(folder, 'loop.fio'), 'include loop.fio\n');
      const { status, stderr, stdout } = hvsim(['run', job(file)], { cwd: folder });
      expect([1, 2]).toContain(status);
      expect(stderr.trimEnd().split('\n').at(-1)).toMatch(message);
      expect(stderr).not.toMatch(/\bat .*\.js:\d+/);
      expect(stdout).toBe('');
    });
  }

  it('name the file and its own line, also in the second file and an included one', () => {
    const cwd = join(folder, 'named');
    mkdirSync(cwd);
    const good = '[a]\nrw=read\nsize=64k\n';
    for (const [name, content] of [
      ['good.fio', good],
      ['early.fio', '# nothing\nrw=read\n'],
      ['binary.fio', '\u0007\u001b[31m\u0000\u009b\n'],
      ['bytes.fio', new Uint8Array([0x5b, 0x61, 0x5d, 0x0a, 0xff, 0xfe, 0x1b, 0x63, 0x0a])],
      ['long.fio', `[a]\n${'\u0001'.repeat(3_000_000)}`],
      ['key.fio', '[k]\nrw=read\nbogus=1\n'],
      ['granule.fio', '[k]\nrw=read\nbs=1000\n'],
      ['outer.fio', `${good}include key.fio\n`],
      ['trace.fio', '[t]\nread_iolog=bad.log\n'],
      ['bad.log', 'fio version 3 iolog\n1 disk dance\n'],
    ] as const)
      writeFileSync(join(cwd, name), content);
    for (const [names, message] of [
      [['early.fio'], /^hvsim: early\.fio: line 2: rw=read: a key before the first \[section\]\n$/],
      [['binary.fio'], /^hvsim: binary\.fio: line 1: \\x07\\x1b\[31m\\x00\\x9b: a key before/],
      [['bytes.fio'], /^hvsim: bytes\.fio: Bad option <\\ufffd\\ufffd\\x1bc> in job a/],
      [['long.fio'], /^hvsim: long\.fio: Bad option <(\\x01)+\.\.\.\n$/],
      [['good.fio', 'key.fio'], /^hvsim: key\.fio: Bad option <bogus=1> in job k/],
      [['good.fio', 'granule.fio'], /^hvsim: granule\.fio: k: bs 1000 is no multiple/],
      [['outer.fio'], /^hvsim: key\.fio: Bad option <bogus=1>/],
      [['trace.fio'], /^hvsim: bad\.log: iolog line 2: unknown action "dance"/],
    ] as const) {
      const { stderr } = hvsim(['run', ...names], { cwd });
      expect(stderr).toMatch(message);
      expect(plain(stderr)).toBe(true);
      expect(stderr.length).toBeLessThan(2000);
    }
    expect(hvsim(['run', '--service-time=quick', 'good.fio'], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/^hvsim: --service-time=quick: a time is/),
    });
  });

  it('a read-only disk refuses writing jobs by name, and reads', () => {
    expect(run([job('[w]\nrw=write\nsize=1m\n')], ['--filter', 'readonly'])).toMatchObject({
      stderr: expect.stringContaining('w: the disk is read-only'),
    });
    expect(run([job('[r]\nrw=read\nsize=1m\n')], ['--filter', 'readonly']).status).toBe(0);
  });

  it('keys without an effect here are named once and ignored', () => {
    const { status, stderr } = run([job('[global]\nthread\ncpus_allowed=0\n[a]\nrw=read\nsize=64k\n[b]\nrw=read\nsize=64k\nthread\n')]);
    expect(status).toBe(0);
    expect(stderr.match(/thread/g)?.length ?? 0).toBeLessThanOrEqual(1);
    expect(stderr.match(/cpus_allowed/g)).toHaveLength(1);
  });
});

describe('keys of job files', () => {
  const all = [
    'ioengine=libaio direct=1 filename=x invalidate=1 unlink=1 exitall',
    'rw=randrw rwmixwrite=30 bs=4k,8k,16k iodepth=8 iodepth_batch=4 iodepth_batch_complete_min=2 iodepth_batch_complete_max=8 iodepth_low=4',
    'rate_iops=20000,20000 rate=,100m thinktime=10 thinktime_blocks=16 random_distribution=pareto:0.3 percentage_random=80 norandommap',
    'loops=2 startdelay=1 ramp_time=1 percentile_list=50:99 blockalign=4k latency_target=1ms latency_window=10ms latency_percentile=99',
    'description=all replay_no_stall=1 replay_redirect=/dev/x continue_on_error=all end_fsync=1 fdatasync=16',
  ].join(' ');

  it('of the first two tiers are understood without a word', () => {
    const { status, stderr, named } = run([job(`[all]\nsize=2m\n${all.split(' ').join('\n')}\n`)]);
    expect([status, stderr]).toEqual([0, '']);
    expect(named('all').read.total_ios).toBeGreaterThan(100);
    expect(named('all').sync.total_ios).toBeGreaterThan(1);
  });

  it('every rw mode does what it says', () => {
    const modes = 'read write randread randwrite rw readwrite randrw trim randtrim trimwrite randtrimwrite randread:4 read:4k'.split(' ');
    const { status, named } = run([job(modes.map((mode) => `[${mode}]\nrw=${mode}\nbs=4k\nsize=256k\n`).join(''))]);
    expect(status).toBe(0);
    for (const mode of modes) {
      const { read, write, trim } = named(mode);
      const name = mode.split(':')[0] as string;
      const kinds = [/read|rw$/.test(name), /write|rw$/.test(name), name.includes('trim')];
      expect(
        [read, write, trim].map(({ total_ios: count }) => count > 0),
        mode,
      ).toEqual(kinds);
    }
  });

  it('numjobs clones, group_reporting merges, exitall ends the others', () => {
    const { report } = run([job('[c]\nrw=read\nbs=4k\nsize=64k\nnumjobs=3\n')]);
    expect(report.jobs.map(({ read }) => read.total_ios)).toEqual([16, 16, 16]);
    const merged = run([job('[c]\nrw=read\nbs=4k\nsize=64k\nnumjobs=3\ngroup_reporting\n')]);
    expect(merged.report.jobs.map(({ read }) => read.total_ios)).toEqual([48]);
    const ended = run([job('[short]\nrw=read\nsize=64k\nexitall\n[long]\nrw=read\ntime_based\nruntime=1000\n')]);
    expect(ended.named('long')['job_runtime']).toBeLessThan(10_000);
  });

  it('reads disks of every kind', () => {
    for (const disk of ['null:64M', 'sparse:run.sparse,8M', 'file:run.img,8M', 'cow:run.img']) {
      const { status, named, stderr } = run([job('[k]\nrw=randwrite\nbs=4k\nsize=1m\n')], ['--disk', disk]);
      expect([status, named('k')?.write.total_ios], `${disk}: ${stderr}`).toEqual([0, 256]);
    }
  });

  it('runs on every shape of device', () => {
    const path = job('[v]\nrw=randwrite\nbssplit=512/30:4k/30:64k/20:1m/20\nsize=8m\niodepth=16\nverify=crc32c\n');
    for (const flags of [
      '--queues 4 --ring-pages 4',
      '--indirect 256',
      '--indirect 11 --pool full',
      '--abi x86_32',
      '--abi arm64',
      '--persistent',
      '--untrusted',
    ]) {
      const { status, stderr } = run([path], flags.split(' '));
      expect(status, `${flags}: ${stderr}`).toBe(0);
    }
  });
});
