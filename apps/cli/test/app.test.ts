import { describe, expect, it } from 'vitest';
import { hvsim, plain } from './cli.ts';

describe('hvsim', () => {
  it.each([
    [['--help']],
    [['cp', '--help']],
    [['run', '--help']],
    [['serve', '--help']],
    [['ctl', '--help']],
    [['conform', '--help']],
    [['decode', '--help']],
    [['demo', '--help']],
  ])('answers %j with help that has no control codes when it is not read on a terminal', (args) => {
    const { status, stdout } = hvsim(args);
    expect(status).toBe(0);
    expect(stdout).toContain('USAGE');
    expect(plain(stdout)).toBe(true);
  });

  it('tells its version', () => {
    expect(hvsim(['--version']).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('suggests what was meant, and exits with 2', () => {
    const { status, stderr } = hvsim(['confrom']);
    expect(status).toBe(2);
    expect(stderr).toContain('did you mean `conform`');
  });

  it.each([
    [['run', '--queues', 'abc', 'x.fio'], '--queues is "abc"; allowed is a whole number from 1 to 64', 'run --help'],
    [['run', '--output-format', 'xml', 'x.fio'], '--output-format is "xml"; allowed is normal, json, json+, terse', 'run --help'],
    [['serve', '--ring-pages', '3'], '--ring-pages is "3"; allowed is 1, 2, 4, 8 or 16', 'serve --help'],
    [['completion', 'tcsh'], 'shell is "tcsh"; allowed is bash, zsh, fish', 'completion --help'],
    [['toaster'], 'no command "toaster"; there are cp, run, serve, ctl, decode, conform, demo, doctor, completion', '--help'],
  ])('says once what is wrong with %j, and where to read on', (args, message, help) => {
    expect(hvsim(args).stderr).toBe(`hvsim: ${message}\nhvsim: see "hvsim ${help}"\n`);
  });

  it('takes help for --help', () => {
    expect(hvsim(['help'])).toMatchObject({ status: 0, stdout: hvsim(['--help']).stdout, stderr: '' });
    expect(hvsim(['help', 'run'])).toMatchObject({ status: 0, stdout: hvsim(['run', '--help']).stdout, stderr: '' });
  });

  it('draws its demonstration without control codes, ends with the table, and gives the same for the same seed', () => {
    const first = hvsim(['demo', '--json']);
    expect(first.status).toBe(0);
    const { hostSeconds: _, ...one } = JSON.parse(first.stdout);
    const { hostSeconds: __, ...two } = JSON.parse(hvsim(['demo', '--json']).stdout);
    expect(two).toEqual(one);
    const text = hvsim(['demo']).stdout;
    expect(plain(text)).toBe(true);
    expect(text).toContain('latency of a request');
    expect(text).toContain('doorbells merged');
  });
});
