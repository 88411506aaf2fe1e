import { closeSync, lstatSync, openSync, rmSync, writeSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { availableParallelism } from 'node:os';
import { createNbdServer, NbdError } from '@paravirt/nbd';
import { type ListenAddress, listen } from '@paravirt/nbd/node';
import type { CliContext } from '../context.ts';
import { openDisk } from '../disk/open.ts';
import { CliError, describeError, exitCodes, fileError } from '../errors.ts';
import { figuresTable } from '../figures-table.ts';
import { IologWriter } from '../fio/iolog.ts';
import { driverOf, loadPlugins } from '../plugins.ts';
import { type Controlled, serveControl } from '../serve/control.ts';
import { HaltPoll } from '../serve/halt-poll.ts';
import { handshakeTimer } from '../serve/handshake-timer.ts';
import { serveDisk } from '../serve/served-disk.ts';
import { checkSocketPath } from '../serve/socket-path.ts';
import { grouped } from '../ui/table.ts';
import { deviceChoice } from './device-flags.ts';
import type { ServeFlags } from './serve.ts';

/** How long requests under way may take once the server is told to end. */
const LEAVE_MS = 3000;

function addressOf(flags: ServeFlags): ListenAddress {
  if (flags.socket !== undefined && flags.listen !== undefined)
    throw new CliError('--socket and --listen: give one of them', exitCodes.usage);
  if (flags.socket !== undefined) return { path: flags.socket };
  if (flags.listen === undefined) throw new CliError('where to listen? give --socket PATH or --listen 127.0.0.1:PORT', exitCodes.usage);
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(flags.listen);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new CliError(`--listen ${flags.listen}: write it as 127.0.0.1:PORT`, exitCodes.usage);
  return { host: (match[1] ?? match[2]) as string, port, allowRemote: flags.allowRemote };
}

/** Removes the socket that a server left behind when it was killed. One that answers is somebody's. */
async function clearSocket(path: string): Promise<void> {
  try {
    if (!lstatSync(path).isSocket()) throw new CliError(`${path}: exists and is no socket`, exitCodes.usage);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error instanceof CliError ? error : fileError(path, error, exitCodes.usage);
  }
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (alive) throw new CliError(`${path}: another server listens there`, exitCodes.usage);
  rmSync(path, { force: true });
}

function openLog(path: string, complain: (message: string) => void): { writer: IologWriter; close: () => void } {
  let fd: number;
  try {
    fd = openSync(path, 'w');
  } catch (error) {
    throw fileError(path, error, exitCodes.usage);
  }
  let pending = '';
  let failed = false;
  const flush = (): void => {
    try {
      if (pending !== '' && !failed) writeSync(fd, pending);
    } catch (error) {
      // The disk goes on being served; a record with a hole in it would be worse than a short one.
      failed = true;
      complain(`${fileError(path, error).message}; no more requests are recorded`);
    }
    pending = '';
  };
  const writer = new IologWriter(3, 'disk', (text) => {
    pending += text;
    if (pending.length > 65_536) flush();
  });
  const began = performance.now();
  return {
    writer,
    close() {
      writer.close((performance.now() - began) * 1e6);
      flush();
      closeSync(fd);
    },
  };
}

/** `hvsim serve` */
export async function serve(this: CliContext, flags: ServeFlags): Promise<void> {
  const { stdout, stderr, env } = this.process;
  const address = addressOf(flags);
  const specs = [{ name: '', disk: flags.disk }];
  for (const text of flags.export ?? []) {
    const at = text.indexOf('=');
    if (at < 1) throw new CliError(`--export ${text}: write it as NAME=DISK`, exitCodes.usage);
    specs.push({ name: text.slice(0, at), disk: text.slice(at + 1) });
  }
  if ('path' in address) checkSocketPath('socket', address.path);
  if (flags.control !== undefined) checkSocketPath('control', flags.control);
  if ('path' in address) await clearSocket(address.path);
  if (flags.control !== undefined) await clearSocket(flags.control);
  const log = flags.writeIolog === undefined ? undefined : openLog(flags.writeIolog, (message) => void stderr.write(`hvsim: ${message}\n`));

  const extensions = await loadPlugins(flags.plugin ?? []);
  const driver = driverOf(extensions, flags.driver);
  let stop: (error?: unknown) => void = () => {};
  const stopped = new Promise<unknown>((resolve) => {
    stop = resolve;
  });
  const onFailure = (error: unknown): void => stop(error);
  // On one processor the client could not run while the server waits for it.
  const poll = flags.poll && availableParallelism() > 1 ? new HaltPoll() : undefined;
  const targets: Controlled[] = specs.map(({ name, disk: spec }) => {
    const disk = openDisk({ disk: spec, filters: flags.filter ?? [], seed: flags.seed, extensions });
    const served = serveDisk({
      ...deviceChoice(flags),
      ...driver,
      disk,
      seed: flags.seed,
      poll,
      onFailure,
      ...(log && { log: log.writer }),
    });
    return { name, disk, served };
  });
  const server = createNbdServer({ exports: targets.map(({ name, served }) => ({ name, target: served.target })), timer: handshakeTimer });

  let listener: Server | undefined;
  let control: Server | undefined;
  try {
    listener = await listen(server, address);
    if (flags.control !== undefined) control = await serveControl(flags.control, targets, server);
  } catch (error) {
    const told = listener ? (flags.control as string) : 'path' in address ? address.path : `${address.host}:${address.port}`;
    listener?.close();
    if (error instanceof NbdError)
      throw new CliError(error.message.replace('allowRemote', '--allow-remote'), exitCodes.usage, { cause: error });
    throw fileError(told, error, exitCodes.usage);
  }
  const open = listener;
  const bound = open.address();
  const where =
    typeof bound === 'object' && bound !== null
      ? `nbd://${bound.address.includes(':') ? `[${bound.address}]` : bound.address}:${bound.port}`
      : `nbd+unix:///?socket=${bound}`;
  if (flags.json)
    stdout.write(
      `${JSON.stringify({ uri: where, exports: targets.map(({ name, served }) => ({ name, bytes: served.target.sizeBytes })) })}\n`,
    );
  else {
    for (const { name, served } of targets)
      stdout.write(`serving ${JSON.stringify(name)} (${grouped(served.target.sizeBytes)} bytes) at ${where}\n`);
    stdout.write('end with Ctrl-C\n');
  }

  // Once: a second signal ends the process at once.
  process.once('SIGINT', () => stop());
  process.once('SIGTERM', () => stop());
  const broken = await stopped;
  control?.close();
  const closed = new Promise<void>((resolve) => open.close(() => resolve()));
  server.close();
  // A client that takes no answers does not keep the server alive.
  if (broken === undefined) await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, LEAVE_MS).unref())]);
  let failed = false;
  for (const { name, served } of targets) {
    try {
      served.close();
    } catch (error) {
      failed = true;
      stderr.write(`${describeError(error, (env['HVSIM_DEBUG'] ?? '') !== '')} (export ${JSON.stringify(name)})\n`);
    }
  }
  log?.close();
  if ('path' in address) rmSync(address.path, { force: true });
  if (flags.control !== undefined) rmSync(flags.control, { force: true });
  const results = targets.map(({ name, served, disk }) => ({ name, ...served.stack.figures(), faults: disk.faults() }));
  if (flags.json) stdout.write(`${JSON.stringify({ nbd: server.counters, exports: results })}\n`);
  else {
    for (const { served } of targets) stdout.write(figuresTable(stdout, env, served.stack.figures()));
    const { reads, writes, flushes, errors } = server.counters;
    stdout.write(`${grouped(reads)} reads, ${grouped(writes)} writes, ${grouped(flushes)} flushes, ${grouped(errors)} errors\n`);
  }
  process.exit(failed ? exitCodes.failed : exitCodes.ok);
}
