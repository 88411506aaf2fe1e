import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { hvsim, startHvsim } from './cli.ts';

/** `hvsim serve` in a folder of its own, on a Unix socket. */
export interface Serving {
  readonly folder: string;
  readonly uri: string;
  readonly child: ChildProcess;
  /** What it printed so far. */
  output(): string;
  ctl(...words: string[]): unknown;
  /** The same over one connection of the test's own, without a process for each command. */
  control(command: string, ...args: string[]): Promise<unknown>;
  /** Open descriptors, and resident memory in MiB. */
  usage(): { descriptors: number; residentMib: number };
  /** Ends it by a signal; resolves with its exit code. */
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  /** Takes the folder away too. */
  close(): Promise<void>;
}

/** Starts a server and waits until it says that it listens. */
export async function serving(args: readonly string[], folder: string = mkdtempSync(join(tmpdir(), 'hvsim-serve-'))): Promise<Serving> {
  const child = startHvsim(['serve', '--socket', 'disk.sock', '--control', 'disk.ctl', ...args], folder);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await vi.waitUntil(() => /serving|"uri"|hvsim:/.test(text) || child.exitCode !== null, { timeout: 30_000, interval: 10 });
  expect(text, 'what the server said').not.toContain('hvsim:');
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> => {
    if (child.exitCode === null) child.kill(signal);
    return exited;
  };
  return {
    folder,
    uri: `nbd+unix:///?socket=${join(folder, 'disk.sock')}`,
    child,
    output: () => text,
    ctl(...words) {
      const { status, stdout, stderr } = hvsim(['ctl', '--control', join(folder, 'disk.ctl'), ...words]);
      expect(status, stderr).toBe(0);
      return JSON.parse(stdout);
    },
    control: (command, ...args) =>
      new Promise((resolve, reject) => {
        const socket = connect(join(folder, 'disk.ctl'));
        let answer = '';
        socket.setEncoding('utf8').on('error', reject);
        socket.on('data', (chunk: string) => {
          answer += chunk;
          if (!answer.includes('\n')) return;
          socket.destroy();
          const { ok, result, error } = JSON.parse(answer);
          if (ok) resolve(result);
          else reject(new Error(error));
        });
        socket.write(`${JSON.stringify({ command, args })}\n`);
      }),
    usage() {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
      return {
        descriptors: readdirSync(`/proc/${child.pid}/fd`).length,
        residentMib: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024,
      };
    },
    stop,
    async close() {
      await stop('SIGKILL');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
