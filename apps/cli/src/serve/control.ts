import { createServer, type Server } from 'node:net';
import type { VolatileCacheFilter } from '@paravirt/hv-sim';
import type { NbdServer } from '@paravirt/nbd';
import { filterReports, type OpenedDisk } from '../disk/open.ts';
import type { ServedDisk } from './served-disk.ts';

/** One export as the control socket reaches it. */
export interface Controlled {
  readonly name: string;
  readonly disk: OpenedDisk;
  readonly served: ServedDisk;
}

export interface ControlRequest {
  readonly command: string;
  readonly export?: string;
  readonly args?: readonly string[];
}

export interface ControlAnswer {
  readonly ok: boolean;
  readonly error?: string;
  readonly result?: unknown;
}

/** A line of the control socket is a request in JSON and its answer in JSON; no line is longer than this. */
const LINE_BYTES_MAX = 65_536;
/** Answers that wait for a client to take them. */
const ANSWERS_BYTES_MAX = 1 << 20;

class Refused extends Error {}

function filterOf({ disk }: Controlled, name: string | undefined) {
  const names = disk.filters.map((each) => each.name);
  const found = disk.filters.find((each) => each.name === name || each.name.split('=')[0] === name);
  if (!found)
    throw new Refused(`no filter ${JSON.stringify(name ?? '')}; there ${names.length === 0 ? 'is none' : `are ${names.join(', ')}`}`);
  return found.filter;
}

/** Grant references of the device: those that give access now (in requests, or kept mapped), and those in quarantine. */
function referencesOf({ stack: { device } }: ServedDisk): { live: number; quarantined: number } {
  const found = { live: 0, quarantined: 0 };
  for (let queue = 0; device && queue < device.device.queueCount; queue += 1) {
    const pool = device.device.poolFigures(queue);
    found.live += pool?.live ?? 0;
    found.quarantined += pool?.quarantined ?? 0;
  }
  return found;
}

/** What a user may do to a disk while a client is attached. */
const commands: Readonly<Record<string, (target: Controlled, args: readonly string[], server: NbdServer) => unknown>> = {
  /** `filter on|off NAME` */
  filter(target, [state, name]) {
    if (state !== 'on' && state !== 'off') throw new Refused('say "filter on NAME" or "filter off NAME"');
    const filter = filterOf(target, name);
    filter.enabled = state === 'on';
    target.served.forgetHoles();
    return { filter: name, enabled: filter.enabled };
  },
  pause({ served }) {
    served.pause();
    return { paused: true };
  },
  resume({ served }) {
    served.resume();
    return { paused: false };
  },
  /** `power-cut [random|none|all]`: what survives of what was not flushed. */
  'power-cut'(target, [survivors = 'random']) {
    if (survivors !== 'random' && survivors !== 'none' && survivors !== 'all') throw new Refused('survivors are random, none or all');
    const cache = filterOf(target, 'volatile-cache') as VolatileCacheFilter;
    target.served.forgetHoles();
    return cache.powerCut(survivors);
  },
  stats({ disk, served }, _args, server) {
    const { stack } = served;
    return {
      paused: served.paused,
      device: { state: stack.state(), ...stack.info },
      figures: served.stack.figures(),
      backend: { ...served.stack.blkback.counters },
      filters: filterReports(disk),
      references: referencesOf(served),
      buffersLent: served.buffersLent,
      faults: disk.faults(),
      nbd: { ...server.counters },
    };
  },
};

export const controlCommands: readonly string[] = Object.keys(commands);

/** @throws {Refused} when the line is no request. */
function requestOf(line: string): ControlRequest {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Refused('a request is a line of JSON');
  }
  const { command, export: name, args } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const wellFormed =
    typeof command === 'string' &&
    (name === undefined || typeof name === 'string') &&
    (args === undefined || (Array.isArray(args) && args.every((each) => typeof each === 'string')));
  if (!wellFormed) throw new Refused('a request is {"command":NAME,"export":NAME,"args":[WORDS]}; only the command must be there');
  return value as ControlRequest;
}

function answer(line: string, targets: readonly Controlled[], server: NbdServer): ControlAnswer {
  try {
    const request = requestOf(line);
    const command = Object.hasOwn(commands, request.command) ? commands[request.command] : undefined;
    if (!command) throw new Refused(`no command ${JSON.stringify(request.command)}; there are ${controlCommands.join(', ')}`);
    const target = targets.find(({ name }) => name === (request.export ?? ''));
    if (!target)
      throw new Refused(
        `no export ${JSON.stringify(request.export ?? '')}; there are ${targets.map(({ name }) => JSON.stringify(name)).join(', ')}`,
      );
    return { ok: true, result: command(target, request.args ?? [], server) };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? (error.message.split('\n')[0] as string) : String(error) };
  }
}

/** Serves the control socket: the owner's own, so its permissions are all that guards it. */
export function serveControl(path: string, targets: readonly Controlled[], server: NbdServer): Promise<Server> {
  const listener = createServer((socket) => {
    let pending = '';
    socket.setEncoding('utf8');
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      pending += chunk;
      for (let at = pending.indexOf('\n'); at >= 0; at = pending.indexOf('\n')) {
        const line = pending.slice(0, at);
        pending = pending.slice(at + 1);
        socket.write(`${JSON.stringify(answer(line, targets, server))}\n`);
      }
      // Neither a line without an end nor a client that takes no answers grows without bound.
      if (pending.length > LINE_BYTES_MAX || socket.writableLength > ANSWERS_BYTES_MAX) socket.destroy();
    });
  });
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen({ path }, () => resolve(listener));
  });
}
