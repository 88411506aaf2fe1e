import { BufferPool } from './buffer-pool.ts';
import { utf8 } from './bytes.ts';
import { STRING_BYTES_MAX } from './constants.ts';
import { NbdError } from './errors.ts';
import { Handshake } from './handshake.ts';
import { Transmission } from './transmission.ts';
import type { NbdConnection, NbdCounters, NbdExport, NbdLimits, NbdStream, NbdTimer } from './types.ts';

/** Buffers kept for the next request, over all connections. */
const POOL_BYTES = 64 * 1024 * 1024;

/** The limits that stand unless told: 32 MiB a request, 64 MiB and 1024 requests a connection, 64 connections, 10 s for a handshake. */
export const defaultLimits: NbdLimits = {
  requestBytes: 32 * 1024 * 1024,
  connectionBytes: 64 * 1024 * 1024,
  connectionRequests: 1024,
  connections: 64,
  options: 64,
  handshakeMs: 10_000,
};

/** Options of a server; only `exports` has no default. */
export interface NbdServerOptions {
  readonly exports: readonly NbdExport[];
  readonly limits?: Partial<NbdLimits>;
  /** Ends handshakes that take too long. Without one they may take for ever. */
  readonly timer?: NbdTimer;
  /**
   * Told of what a target threw; the request was answered EIO, and the connection goes on. Without it the error is thrown where nobody
   * catches it: a rejection that nothing handles.
   */
  readonly onError?: (error: unknown) => void;
}

function throwOn(error: unknown): void {
  void Promise.resolve().then(() => {
    throw error;
  });
}

/** A server without sockets: byte streams in, byte streams out. `listen` of `@paravirt/nbd/node` puts it behind a socket. */
export interface NbdServer {
  readonly counters: Readonly<NbdCounters>;
  /**
   * Serves one client. Over the bound on connections the stream is destroyed and undefined returned.
   * The caller forwards the stream's life to what is returned.
   */
  accept(stream: NbdStream): NbdConnection | undefined;
  /** Takes no more requests; each connection ends when its requests are answered. */
  close(): void;
}

class Connection implements NbdConnection {
  readonly #stream: NbdStream;
  readonly #handshake: Handshake;
  readonly #begin: (handshake: { export: NbdExport; structured: boolean; allocation: boolean }) => Transmission;
  readonly #ended: () => void;
  #transmission: Transmission | undefined;
  #cancelTimer: () => void = () => {};
  #over = false;

  constructor(
    stream: NbdStream,
    exports: ReadonlyMap<string, NbdExport>,
    limits: NbdLimits,
    timer: NbdTimer | undefined,
    begin: (terms: { export: NbdExport; structured: boolean; allocation: boolean }) => Transmission,
    ended: () => void,
  ) {
    this.#stream = stream;
    this.#begin = begin;
    this.#ended = ended;
    this.#handshake = new Handshake(exports, limits, (bytes) => void stream.write(bytes, () => {}));
    if (timer) this.#cancelTimer = timer(limits.handshakeMs, () => stream.destroy());
  }

  data(chunk: Uint8Array): boolean {
    if (this.#over) return false;
    if (this.#transmission) return this.#transmission.data(chunk);
    const { outcome, used } = this.#handshake.feed(chunk, 0);
    if (outcome.kind === 'more') return false;
    this.#cancelTimer();
    if (outcome.kind === 'close') {
      this.#over = true;
      this.#stream.end();
      return false;
    }
    this.#transmission = this.#begin(outcome);
    return used < chunk.length && this.#transmission.data(chunk.subarray(used));
  }

  drained(): void {
    this.#transmission?.drained();
  }

  closed(): void {
    this.#cancelTimer();
    this.#over = true;
    this.#transmission?.closed();
    this.#ended();
  }

  leave(): void {
    if (this.#transmission) this.#transmission.leave();
    else {
      this.#over = true;
      this.#cancelTimer();
      this.#stream.end();
    }
  }
}

function checkedLimits(given: Partial<NbdLimits>): NbdLimits {
  const limits = { ...defaultLimits, ...given };
  for (const [argument, value] of Object.entries(limits)) {
    const most = argument === 'requestBytes' ? 0x7fff_ffff : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || value < 1 || value > most) {
      throw new NbdError({ code: 'bad-limit', argument, value, allowed: `a whole number from 1 to ${most}` });
    }
  }
  return limits;
}

function checkedExports(given: readonly NbdExport[]): ReadonlyMap<string, NbdExport> {
  const exports = new Map<string, NbdExport>();
  for (const each of given) {
    const bytes = utf8(each.name).length;
    if (bytes > STRING_BYTES_MAX)
      throw new NbdError({ code: 'bad-export', argument: 'name', value: each.name, allowed: `at most ${STRING_BYTES_MAX} bytes` });
    if (utf8(each.description ?? '').length > STRING_BYTES_MAX) {
      throw new NbdError({
        code: 'bad-export',
        argument: 'description',
        value: each.description ?? '',
        allowed: `at most ${STRING_BYTES_MAX} bytes`,
      });
    }
    const { sizeBytes } = each.target;
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
      throw new NbdError({
        code: 'bad-export',
        argument: 'sizeBytes',
        value: sizeBytes,
        allowed: 'a whole number of bytes from 0 to 2^53 - 1',
      });
    }
    if (exports.has(each.name)) throw new NbdError({ code: 'duplicate-export', name: each.name });
    exports.set(each.name, each);
  }
  return exports;
}

/**
 * A server of network block devices, without a socket: streams are handed to `accept`.
 * @throws {NbdError} `bad-export`, `duplicate-export`, `bad-limit`.
 * @see doc/proto.md of NetworkBlockDevice/nbd
 */
export function createNbdServer(options: NbdServerOptions): NbdServer {
  const limits = checkedLimits(options.limits ?? {});
  const exports = checkedExports(options.exports);
  const pool = new BufferPool(POOL_BYTES);
  const open = new Set<Connection>();
  let closing = false;
  const counters: NbdCounters = {
    connections: 0,
    connectionsOpen: 0,
    reads: 0,
    writes: 0,
    flushes: 0,
    trims: 0,
    zeroes: 0,
    statuses: 0,
    readBytes: 0,
    writtenBytes: 0,
    errors: 0,
    batches: 0,
  };
  return {
    counters,
    accept(stream) {
      if (closing || open.size >= limits.connections) {
        stream.destroy();
        return undefined;
      }
      counters.connections += 1;
      counters.connectionsOpen += 1;
      const connection: Connection = new Connection(
        stream,
        exports,
        limits,
        options.timer,
        (terms) => new Transmission({ ...terms, stream, limits, pool, counters, thrown: options.onError ?? throwOn }),
        () => {
          if (open.delete(connection)) counters.connectionsOpen -= 1;
        },
      );
      open.add(connection);
      return connection;
    },
    close() {
      closing = true;
      for (const connection of open) connection.leave();
    },
  };
}
