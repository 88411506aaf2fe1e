import type { BufferPool } from './buffer-pool.ts';
import { putU32, u16, u32, u64 } from './bytes.ts';
import {
  Cmd,
  CmdFlag,
  Errno,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_BYTES,
  STRUCTURED_REPLY_BYTES,
  wireErrno,
} from './constants.ts';
import { ALLOCATION_CONTEXT_ID } from './handshake.ts';
import type { Pending } from './pending.ts';
import { DATA_CHUNK_BYTES, putData } from './read-reply.ts';
import { dataOf, emptyRegion, LENT_BYTES_MIN, Replies } from './replies.ts';
import { putChunk, putSimple } from './reply-headers.ts';
import { refusalOf, type Terms } from './requests.ts';
import { TargetCalls } from './target-calls.ts';
import type { NbdCounters, NbdExport, NbdLimits, NbdStream, NbdTarget } from './types.ts';

/**
 * A batch with this much data is handed over and answered in parts: the client takes in the first while the target works on the
 * next. Smaller batches are worth one write for all of their replies.
 */
const PART_BYTES = 256 * 1024;

export interface TransmissionOptions {
  readonly stream: NbdStream;
  readonly export: NbdExport;
  readonly structured: boolean;
  readonly allocation: boolean;
  readonly limits: NbdLimits;
  readonly pool: BufferPool;
  readonly counters: NbdCounters;
  /** Is given what the target threw. */
  readonly thrown: (error: unknown) => void;
}

/** The transmission phase of one connection. @see doc/proto.md of NetworkBlockDevice/nbd, "Transmission" */
export class Transmission {
  readonly #stream: NbdStream;
  readonly #target: NbdTarget;
  readonly #structured: boolean;
  readonly #terms: Terms;
  readonly #limits: NbdLimits;
  readonly #pool: BufferPool;
  readonly #counters: NbdCounters;
  readonly #calls: TargetCalls;
  readonly #replies: Replies;
  readonly #free: Pending[] = [];
  readonly #header: Uint8Array = new Uint8Array(REQUEST_BYTES);
  #headerFilled = 0;
  /** The write whose payload is still arriving. */
  #filling: Pending | undefined;
  #filled = 0;
  #fua = false;
  /** Data asked for since the target was last told to begin, bytes. */
  #unbegun = 0;
  /** Payload of a refused write that is still to be passed over. */
  #skip = 0;
  #rest: Uint8Array | undefined;
  /** Writes under way whose payload lies in what `data` was given. */
  #inChunks = 0;
  #inFlight = 0;
  #inFlightBytes = 0;
  #unsentBytes = 0;
  #writable = true;
  #paused = false;
  #parsing = false;
  #flushDue = false;
  #leaving = false;
  #dead = false;

  constructor(options: TransmissionOptions) {
    this.#stream = options.stream;
    this.#target = options.export.target;
    this.#structured = options.structured;
    this.#terms = {
      target: this.#target,
      structured: options.structured,
      allocation: options.allocation,
      requestBytes: options.limits.requestBytes,
    };
    this.#limits = options.limits;
    this.#pool = options.pool;
    this.#counters = options.counters;
    this.#calls = new TargetCalls(this.#target, options.thrown);
    this.#replies = new Replies(options.stream, options.pool, this.#target, (bytes) => {
      this.#unsentBytes -= bytes;
      this.#goOn();
    });
  }

  /** Requests the target has not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether `chunk` is still needed: a write's payload lies in it that the target has not done with, or requests not yet begun. */
  data(chunk: Uint8Array): boolean {
    if (this.#dead || this.#leaving) return this.#inChunks > 0;
    if (this.#rest === undefined) {
      this.#parse(chunk);
      return this.#rest !== undefined || this.#inChunks > 0;
    }
    // A stream may still deliver what it had read before it heard of the pause.
    const joined = new Uint8Array(this.#rest.length + chunk.length);
    joined.set(this.#rest);
    joined.set(chunk, this.#rest.length);
    this.#rest = joined;
    // What is still to be begun lies in a copy now, but not what is under way.
    return this.#inChunks > 0;
  }

  drained(): void {
    this.#writable = true;
    this.#goOn();
  }

  /** The client is gone: answers that still come are dropped. */
  closed(): void {
    this.#dead = true;
    this.#rest = undefined;
    this.#dropFilling();
    this.#replies.abandon();
  }

  /** Gives up a write whose payload will not come. */
  #dropFilling(): void {
    if (this.#filling) this.#release(this.#filling);
    this.#filling = undefined;
  }

  /** No more requests are taken; the stream ends when those under way are answered. */
  leave(): void {
    this.#leaving = true;
    this.#rest = undefined;
    this.#dropFilling();
    this.#endWhenIdle();
  }

  #endWhenIdle(): void {
    if (!this.#leaving || this.#dead || this.#parsing || this.#inFlight > 0 || this.#replies.pending) return;
    this.#dead = true;
    this.#stream.end();
    // What the client still sends is read and dropped, or it could not close for being in the middle of it.
    this.#stream.resume();
  }

  /** Whether another request may be begun. One is always allowed, so that the largest request passes any bound. */
  #full(): boolean {
    if (!this.#writable) return true;
    if (this.#inFlight === 0 && this.#unsentBytes === 0) return false;
    return this.#inFlight >= this.#limits.connectionRequests || this.#inFlightBytes + this.#unsentBytes >= this.#limits.connectionBytes;
  }

  #goOn(): void {
    if (this.#dead || this.#parsing || !this.#paused || this.#full()) return;
    this.#paused = false;
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest) this.#parse(rest);
    if (!this.#paused && !this.#dead) this.#stream.resume();
  }

  #parse(chunk: Uint8Array): void {
    this.#parsing = true;
    let at = 0;
    while (at < chunk.length && !this.#dead && !this.#leaving) {
      if (this.#unbegun >= PART_BYTES) {
        this.#unbegun = 0;
        this.#calls.kick();
        this.#flush();
      }
      if (this.#skip > 0) {
        const take = Math.min(this.#skip, chunk.length - at);
        this.#skip -= take;
        at += take;
      } else if (this.#filling) at = this.#fill(this.#filling, chunk, at);
      else if (this.#full()) {
        this.#rest = chunk.subarray(at);
        this.#paused = true;
        this.#stream.pause();
        break;
      } else if (this.#headerFilled === 0 && chunk.length - at >= REQUEST_BYTES) at = this.#request(chunk, at, chunk, at + REQUEST_BYTES);
      else {
        const take = Math.min(REQUEST_BYTES - this.#headerFilled, chunk.length - at);
        this.#header.set(chunk.subarray(at, at + take), this.#headerFilled);
        this.#headerFilled += take;
        at += take;
        if (this.#headerFilled === REQUEST_BYTES) {
          this.#headerFilled = 0;
          at = this.#request(this.#header, 0, chunk, at);
        }
      }
    }
    this.#unbegun = 0;
    this.#calls.kick();
    this.#parsing = false;
    this.#flush();
    this.#goOn();
  }

  /** Carries out the request whose header is at `head` of `header`; a write's payload begins at `at` of `chunk`. Returns where to go on. */
  #request(header: Uint8Array, head: number, chunk: Uint8Array, at: number): number {
    if (u32(header, head) !== REQUEST_MAGIC) {
      this.#dead = true;
      this.#stream.destroy();
      return at;
    }
    const flags = u16(header, head + 4);
    const type = u16(header, head + 6);
    const pending = this.#free.pop() ?? this.#fresh();
    pending.type = type;
    pending.handleHi = u32(header, head + 8);
    pending.handleLo = u32(header, head + 12);
    pending.offset = u64(header, head + 16);
    pending.bytes = u32(header, head + 24);
    pending.cost = 0;
    pending.sparse = false;
    pending.errno = 0;
    pending.open = true;
    this.#inFlight += 1;
    if (type === Cmd.DISC) {
      this.#release(pending);
      this.leave();
      return at;
    }
    const errno = refusalOf(type, flags, pending.offset, pending.bytes, this.#terms);
    if (errno !== 0) {
      if (type === Cmd.WRITE) this.#skip = pending.bytes;
      this.#reserveShort(pending);
      pending.done(errno);
      return at;
    }
    switch (type) {
      case Cmd.READ:
        this.#read(pending, flags);
        return at;
      case Cmd.WRITE:
        this.#fua = (flags & CmdFlag.FUA) !== 0;
        return this.#beginWrite(pending, chunk, at);
      case Cmd.BLOCK_STATUS:
        this.#blockStatus(pending, flags);
        return at;
      default:
        this.#simple(pending, flags);
        return at;
    }
  }

  // --- reads

  #read(pending: Pending, flags: number): void {
    this.#counters.reads += 1;
    this.#counters.readBytes += pending.bytes;
    if (!this.#structured) {
      this.#charge(pending, pending.bytes);
      this.#reserveData(pending, SIMPLE_REPLY_BYTES);
      putSimple(pending, pending.region, 0);
      this.#calls.read(pending, dataOf(pending.region, SIMPLE_REPLY_BYTES, pending.bytes));
      return;
    }
    pending.sparse = (flags & CmdFlag.DF) === 0 && this.#target.extents !== undefined;
    this.#charge(pending, pending.bytes);
    this.#reserveData(pending, DATA_CHUNK_BYTES);
    putData(pending, pending.region.at, pending.offset, pending.bytes, ReplyFlag.DONE);
    this.#calls.read(pending, dataOf(pending.region, DATA_CHUNK_BYTES, pending.bytes));
  }

  // --- writes

  #beginWrite(pending: Pending, chunk: Uint8Array, at: number): number {
    const { bytes } = pending;
    this.#charge(pending, bytes);
    if (chunk.length - at >= bytes) {
      pending.inChunk = true;
      this.#inChunks += 1;
      // Not `subarray`: of a Node Buffer, as sockets give, that makes another Buffer, which costs more than the copy of a page.
      this.#write(pending, new Uint8Array(chunk.buffer, chunk.byteOffset + at, bytes));
      return at + bytes;
    }
    const lent = bytes >= LENT_BYTES_MIN ? this.#target.takeBuffer?.(bytes) : undefined;
    pending.lent = lent !== undefined;
    pending.payload = lent ?? this.#pool.take(bytes);
    this.#filling = pending;
    this.#filled = 0;
    return this.#fill(pending, chunk, at);
  }

  #fill(pending: Pending, chunk: Uint8Array, at: number): number {
    const take = Math.min(pending.bytes - this.#filled, chunk.length - at);
    const payload = pending.payload as Uint8Array;
    payload.set(chunk.subarray(at, at + take), this.#filled);
    this.#filled += take;
    if (this.#filled === pending.bytes) {
      this.#filling = undefined;
      this.#write(pending, payload.subarray(0, pending.bytes));
    }
    return at + take;
  }

  #write(pending: Pending, source: Uint8Array): void {
    this.#counters.writes += 1;
    this.#counters.writtenBytes += pending.bytes;
    this.#reserveShort(pending);
    this.#calls.write(pending, source, this.#fua);
  }

  // --- the rest

  #simple(pending: Pending, flags: number): void {
    this.#reserveShort(pending);
    if (pending.type === Cmd.FLUSH) this.#counters.flushes += 1;
    else if (pending.type === Cmd.TRIM) this.#counters.trims += 1;
    else this.#counters.zeroes += 1;
    this.#calls.change(pending, flags);
  }

  #blockStatus(pending: Pending, flags: number): void {
    this.#counters.statuses += 1;
    const extents = this.#calls.allocation(pending, (flags & CmdFlag.REQ_ONE) !== 0);
    if (extents === undefined) {
      this.#reserveShort(pending);
      pending.done(Errno.EIO);
      return;
    }
    this.#reserve(pending, STRUCTURED_REPLY_BYTES + 4 + 8 * extents.length);
    const { bytes, at } = pending.region;
    putChunk(pending, bytes, at, ReplyFlag.DONE, ReplyType.BLOCK_STATUS, 4 + 8 * extents.length);
    putU32(bytes, at + STRUCTURED_REPLY_BYTES, ALLOCATION_CONTEXT_ID);
    for (const [index, [length, kind]] of extents.entries()) {
      putU32(bytes, at + STRUCTURED_REPLY_BYTES + 4 + 8 * index, length);
      putU32(bytes, at + STRUCTURED_REPLY_BYTES + 8 + 8 * index, kind);
    }
    pending.done(0);
  }

  // --- answers

  #fresh(): Pending {
    const pending: Pending = {
      type: 0,
      handleHi: 0,
      handleLo: 0,
      offset: 0,
      bytes: 0,
      cost: 0,
      region: emptyRegion(),
      replyBytes: 0,
      sparse: false,
      errno: 0,
      open: false,
      forsaken: false,
      payload: undefined,
      lent: false,
      inChunk: false,
      done: (errno) => this.#done(pending, errno),
    };
    return pending;
  }

  #charge(pending: Pending, bytes: number): void {
    pending.cost = bytes;
    this.#inFlightBytes += bytes;
    this.#unbegun += bytes;
  }

  #reserve(pending: Pending, bytes: number): void {
    pending.replyBytes = bytes;
    this.#replies.reserve(bytes, pending.region);
  }

  #reserveData(pending: Pending, header: number): void {
    pending.replyBytes = header + pending.bytes;
    this.#replies.reserveData(header, pending.bytes, pending.region);
  }

  /**
   * Room for the answer to anything that carries no data back: a simple reply, or a structured error. No more than that, because only
   * replies without a gap between them leave in one write.
   */
  #reserveShort(pending: Pending): void {
    this.#reserve(pending, this.#answersInChunks(pending) ? STRUCTURED_REPLY_BYTES + 6 : SIMPLE_REPLY_BYTES);
    pending.replyBytes = SIMPLE_REPLY_BYTES;
    putSimple(pending, pending.region, 0);
  }

  #answersInChunks({ type }: Pending): boolean {
    return this.#structured && (type === Cmd.READ || type === Cmd.BLOCK_STATUS);
  }

  #done(pending: Pending, errno: number): void {
    if (!pending.open) return;
    pending.open = false;
    pending.errno = errno;
    if (this.#dead) {
      this.#replies.drop(pending.region);
      this.#release(pending);
      return;
    }
    let bytes = pending.replyBytes;
    if (pending.errno !== 0) {
      this.#counters.errors += 1;
      const wire = wireErrno(pending.errno);
      if (this.#answersInChunks(pending)) {
        const region = pending.region;
        putChunk(pending, region.bytes, region.at, ReplyFlag.DONE, ReplyType.ERROR, 6);
        putU32(region.bytes, region.at + STRUCTURED_REPLY_BYTES, wire);
        region.bytes[region.at + STRUCTURED_REPLY_BYTES + 4] = 0;
        region.bytes[region.at + STRUCTURED_REPLY_BYTES + 5] = 0;
        bytes = STRUCTURED_REPLY_BYTES + 6;
      } else {
        putSimple(pending, pending.region, wire);
        bytes = SIMPLE_REPLY_BYTES;
      }
    } else if (pending.sparse) bytes = this.#calls.withHoles(pending);
    this.#unsentBytes += bytes;
    this.#replies.ready(pending.region, bytes);
    this.#release(pending);
    if (!this.#parsing) this.#flushSoon();
  }

  #release(pending: Pending): void {
    this.#inFlight -= 1;
    this.#inFlightBytes -= pending.cost;
    pending.cost = 0;
    if (pending.payload) {
      if (pending.lent) this.#target.giveBuffer?.(pending.payload);
      else this.#pool.give(pending.payload);
    }
    pending.payload = undefined;
    if (pending.inChunk) {
      pending.inChunk = false;
      this.#inChunks -= 1;
    }
    if (this.#free.length < this.#limits.connectionRequests && !pending.forsaken) this.#free.push(pending);
  }

  /** Answers that come one by one, from a later event, leave together at its end. */
  #flushSoon(): void {
    if (this.#flushDue) return;
    this.#flushDue = true;
    void Promise.resolve().then(() => {
      this.#flushDue = false;
      this.#flush();
      this.#goOn();
    });
  }

  #flush(): void {
    if (this.#dead) return;
    if (!this.#replies.flush(this.#counters)) this.#writable = false;
    this.#endWhenIdle();
  }
}
