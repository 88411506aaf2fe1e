/** Tells the end of an operation: 0, or an errno of either sign. Called once, at once or later. */
export type Done = (errno: number) => void;

/** How a range is to be zeroed. */
export interface ZeroOptions {
  /** Durable before the answer. */
  readonly fua: boolean;
  /** The range must stay allocated. */
  readonly noHole: boolean;
  /** Answer ENOTSUP at once rather than write zeroes byte by byte. */
  readonly fast: boolean;
}

/** Adds the next extent; lengths in bytes from the start of the question, flags `Extent.HOLE | Extent.ZERO`. False: enough. */
export type AddExtent = (bytes: number, flags: number) => boolean;

/**
 * What a server serves. Offsets and lengths are bytes within `sizeBytes`, never zero. A method that is absent is not offered to
 * clients. Buffers belong to the target until it calls `done`. One that throws instead has failed the request, which is answered EIO.
 */
export interface NbdTarget {
  readonly sizeBytes: number;
  readonly readonly?: boolean;
  /** What clients are told of block sizes. Requests of any length arrive all the same; see `alignedTarget`. */
  readonly blockBytes?: { readonly minimum: number; readonly preferred: number };
  /** Whether a flush on one connection covers what was answered on the others. Only then are clients told they may use several. */
  readonly multiConn?: boolean;
  /** Whether `writeZeroes` with `fast` is understood. */
  readonly fastZeroes?: boolean;
  /** Fills `target` with the bytes from `offset` on. */
  read(offset: number, target: Uint8Array, done: Done): void;
  /** Writes `source` from `offset` on; with `fua`, durable before `done(0)`. */
  write?(offset: number, source: Uint8Array, fua: boolean, done: Done): void;
  /** Every write that was answered before is durable before `done(0)`. */
  flush?(done: Done): void;
  /** The bytes are not needed any more; they may read as anything afterwards. */
  trim?(offset: number, bytes: number, fua: boolean, done: Done): void;
  /** The bytes read as zeroes afterwards. */
  writeZeroes?(offset: number, bytes: number, options: ZeroOptions, done: Done): void;
  /** Describes `[offset, offset + bytes)` in order, without gaps. */
  extents?(offset: number, bytes: number, add: AddExtent): void;
  /**
   * Lends memory of the target's own, at least `bytes` long, for the data of a long read or write: the target finds it again in the
   * buffer that `read` and `write` are given, whose data then begins on a multiple of 4096 bytes of it. Undefined: none to lend now.
   */
  takeBuffer?(bytes: number): Uint8Array | undefined;
  /** Takes back what `takeBuffer` lent, once nobody reads or writes it any more. */
  giveBuffer?(buffer: Uint8Array): void;
  /** Called after each batch of requests: what was handed over since may now be submitted together. */
  kick?(): void;
}

/** A disk and what clients are told of it. */
export interface NbdExport {
  /** At most 4096 bytes of UTF-8; the empty name is the default export. */
  readonly name: string;
  readonly description?: string;
  readonly target: NbdTarget;
}

/** Bounds on what clients may cost. */
export interface NbdLimits {
  /** Longest read or write, bytes. Default 32 MiB, as clients assume. */
  readonly requestBytes: number;
  /** Payload of one connection that may be under way before the server stops reading from it. Default 64 MiB. */
  readonly connectionBytes: number;
  /** Requests of one connection under way before the server stops reading from it. Default 1024. */
  readonly connectionRequests: number;
  /** Connections at once. Default 64. */
  readonly connections: number;
  /** Options in one handshake. Default 64. */
  readonly options: number;
  /** Milliseconds in which a handshake must be over. Default 10,000. */
  readonly handshakeMs: number;
}

/** One client's byte stream, as the server needs it. */
export interface NbdStream {
  /** Takes the bytes as they are; they do not change until `written` is called. False: call back before more. */
  write(bytes: Uint8Array, written: () => void): boolean;
  /** Stops the calls of `data` until `resume`. */
  pause(): void;
  /** Lets `data` be called again. */
  resume(): void;
  /** Sends what was written, then closes. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What the server hands back for a stream: call these as the stream lives. */
export interface NbdConnection {
  /**
   * Bytes came from the client, in any division. True: `chunk` is still needed, and must not change. False: neither it nor any chunk
   * before it is needed any more, and their memory may be used again.
   */
  data(chunk: Uint8Array): boolean;
  /** The stream can take more. */
  drained(): void;
  /** The stream is gone, however it ended: what is under way is finished without an answer. Called once. */
  closed(): void;
}

/** Runs `work` once after `ms`; the returned function cancels. */
export type NbdTimer = (ms: number, work: () => void) => () => void;

/** What a server counted since it was made. */
export interface NbdCounters {
  connections: number;
  connectionsOpen: number;
  reads: number;
  writes: number;
  flushes: number;
  trims: number;
  zeroes: number;
  statuses: number;
  readBytes: number;
  writtenBytes: number;
  /** Requests answered with an error. */
  errors: number;
  /** Batches of replies written. */
  batches: number;
}
