import { createNbdServer, type NbdConnection, type NbdServer, type NbdServerOptions, type NbdTarget } from '../src/index.ts';

/** A disk in memory that answers at once, or, with `later`, when `settle` is called. */
export function memoryTarget(
  sizeBytes: number,
  options: { later?: boolean } = {},
): NbdTarget & { bytes: Uint8Array; settle(order?: number[]): void } {
  const bytes = new Uint8Array(sizeBytes);
  const touched = new Uint8Array(Math.ceil(sizeBytes / 4096));
  let waiting: (() => void)[] = [];
  const answer = (work: () => void, done: (errno: number) => void): void => {
    const run = (): void => {
      work();
      done(0);
    };
    if (options.later === true) waiting.push(run);
    else run();
  };
  return {
    bytes,
    sizeBytes,
    multiConn: true,
    fastZeroes: true,
    settle(order) {
      const due = order ? order.map((index) => waiting[index] as () => void) : waiting;
      waiting = order ? waiting.filter((_, index) => !order.includes(index)) : [];
      for (const run of due) run();
    },
    read: (offset, target, done) => answer(() => target.set(bytes.subarray(offset, offset + target.length)), done),
    write(offset, source, _fua, done) {
      answer(() => {
        bytes.set(source, offset);
        touched.fill(1, offset >> 12, ((offset + source.length - 1) >> 12) + 1);
      }, done);
    },
    flush: (done) => answer(() => {}, done),
    trim: (offset, length, _fua, done) => answer(() => bytes.fill(0, offset, offset + length), done),
    writeZeroes: (offset, length, _options, done) => answer(() => bytes.fill(0, offset, offset + length), done),
    extents(offset, length, add) {
      for (let at = offset; at < offset + length; ) {
        const end = Math.min((Math.floor(at / 4096) + 1) * 4096, offset + length);
        if (!add(end - at, touched[at >> 12] === 1 ? 0 : 3)) return;
        at = end;
      }
    },
  };
}

/** A client of one connection, byte by byte: what it sends goes straight into the server, what comes back piles up in `received`. */
export class Client {
  readonly server: NbdServer;
  received: Uint8Array = new Uint8Array(0);
  ended = false;
  destroyed = false;
  paused = false;
  writes = 0;
  readonly connection: NbdConnection;
  /** Callbacks of writes that the "socket" has not sent. */
  #held: (() => void)[] | undefined;

  constructor(options: NbdServerOptions | NbdServer) {
    this.server = 'accept' in options ? options : createNbdServer(options);
    const connection = this.server.accept({
      write: (bytes, written) => {
        this.writes += 1;
        const joined = new Uint8Array(this.received.length + bytes.length);
        joined.set(this.received);
        joined.set(bytes, this.received.length);
        this.received = joined;
        if (this.#held) {
          this.#held.push(written);
          return false;
        }
        written();
        return true;
      },
      pause: () => {
        this.paused = true;
      },
      resume: () => {
        this.paused = false;
      },
      end: () => {
        this.ended = true;
      },
      destroy: () => {
        this.destroyed = true;
      },
    });
    if (!connection) throw new Error('the server took no more connections');
    this.connection = connection;
  }

  /** From now on the client reads nothing. */
  stopReading(): void {
    this.#held = [];
  }

  readAgain(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const written of held) written();
    this.connection.drained();
  }

  send(...parts: (Uint8Array | readonly number[])[]): this {
    for (const part of parts) this.connection.data(part instanceof Uint8Array ? part : Uint8Array.from(part));
    return this;
  }

  /** Takes `count` bytes off the front of what came. */
  take(count: number): DataView {
    if (this.received.length < count) throw new Error(`${this.received.length} bytes came, ${count} wanted`);
    const bytes = this.received.slice(0, count);
    this.received = this.received.slice(count);
    return new DataView(bytes.buffer);
  }

  takeOptionReply(): { option: number; type: number; data: Uint8Array } {
    const head = this.take(20);
    if (head.getBigUint64(0) !== 0x0003e889045565a9n) throw new Error('not an option reply');
    return { option: head.getUint32(8), type: head.getUint32(12), data: new Uint8Array(this.take(head.getUint32(16)).buffer) };
  }

  takeSimple(): { error: number; handle: bigint } {
    const head = this.take(16);
    if (head.getUint32(0) !== 0x67446698) throw new Error(`not a simple reply: ${head.getUint32(0).toString(16)}`);
    return { error: head.getUint32(4), handle: head.getBigUint64(8) };
  }

  takeChunk(): { flags: number; type: number; handle: bigint; payload: DataView } {
    const head = this.take(20);
    if (head.getUint32(0) !== 0x668e33ef) throw new Error('not a structured reply');
    return { flags: head.getUint16(4), type: head.getUint16(6), handle: head.getBigUint64(8), payload: this.take(head.getUint32(16)) };
  }

  greet(flags = 3): this {
    const greeting = this.take(18);
    if (greeting.getBigUint64(0) !== 0x4e42444d41474943n || greeting.getBigUint64(8) !== 0x49484156454f5054n)
      throw new Error('no greeting');
    return this.send(be(flags, 4));
  }

  /** Into the transmission phase by GO. */
  go(options: { name?: string; structured?: boolean; allocation?: boolean } = {}): this {
    const name = new TextEncoder().encode(options.name ?? '');
    this.greet();
    if (options.structured === true) {
      this.send(option(8, []));
      this.takeOptionReply();
    }
    if (options.allocation === true) {
      const context = new TextEncoder().encode('base:allocation');
      this.send(option(10, [...be(name.length, 4), ...name, ...be(1, 4), ...be(context.length, 4), ...context]));
      this.takeOptionReply();
      this.takeOptionReply();
    }
    this.send(option(7, [...be(name.length, 4), ...name, 0, 0]));
    this.takeOptionReply();
    this.takeOptionReply();
    return this;
  }
}

export function be(value: number | bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Number((BigInt(value) >> BigInt(8 * (bytes - 1 - index))) & 0xffn));
}

export function option(number: number, data: readonly number[]): Uint8Array {
  return Uint8Array.from([...be(0x49484156454f5054n, 8), ...be(number, 4), ...be(data.length, 4), ...data]);
}

export interface RequestFields {
  type: number;
  offset?: number | bigint;
  length?: number;
  flags?: number;
  handle?: number | bigint;
  magic?: number;
}

export function request(fields: RequestFields): Uint8Array {
  const { type, offset = 0, length = 0, flags = 0, handle = 1, magic = 0x25609513 } = fields;
  return Uint8Array.from([...be(magic, 4), ...be(flags, 2), ...be(type, 2), ...be(handle, 8), ...be(offset, 8), ...be(length, 4)]);
}
