import type { DomId, Gfn } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';
import { refuse } from './arguments.ts';
import { BlkfrontError } from './errors.ts';
import type { HeldFrames } from './held-frames.ts';
import { PinnedTable } from './pinned.ts';
import type { Grants, GuestPages } from './types.ts';

/**
 * Guest pages for I/O without a copy: their frames go on the wire as they are, and under persistent grants they stay granted. A backend
 * that is not trusted never gets them: then they are copied as any other buffer is.
 */
export interface BlkBuffer {
  /** The pages, for `submit`; none once they went back, so that a request made too late is refused. */
  readonly gfns: readonly Gfn[];
  readonly bytes: number;
  /** Where page `i` is. @throws {BlkfrontError} `bad-argument` beyond the last. */
  frame(i: number): MemoryFrame;
  /** Copies bytes in, from `at` on. @throws {BlkfrontError} `bad-argument` beyond the end. */
  write(bytes: Uint8Array, at?: number): void;
  /** Copies `into.length` bytes out, from `at` on. @throws {BlkfrontError} `bad-argument` beyond the end. */
  read(into: Uint8Array, at?: number): void;
  /**
   * Gives the pages back: as soon as no request under way uses the buffer, and of them what the backend still maps as soon as it lets
   * go.
   */
  free(): void;
}

/** The buffers of one device, and under which references they are open. */
export class Buffers {
  readonly table: PinnedTable = new PinnedTable();
  private readonly pages: GuestPages;
  private readonly grants: Grants;
  private readonly held: HeldFrames;
  /** Whether a request under way moves data through one of the pages. */
  private readonly used: (frames: ReadonlySet<number>) => boolean;
  private readonly live: Set<Gfn[]> = new Set();
  /** Those of them that are given back as soon as no request uses them. */
  private readonly leaving: Map<Gfn[], ReadonlySet<number>> = new Map();
  private peer: DomId | undefined;

  constructor(pages: GuestPages, grants: Grants, held: HeldFrames, used: (frames: ReadonlySet<number>) => boolean) {
    this.pages = pages;
    this.grants = grants;
    this.held = held;
    this.used = used;
  }

  /** @throws {BlkfrontError} `bad-argument`, `exhausted`. */
  alloc(count: number): BlkBuffer {
    if (!Number.isInteger(count) || count < 1 || count > 0x80000) {
      throw new BlkfrontError({ code: 'bad-argument', argument: 'pages', value: count, allowed: '1 to 524288' });
    }
    const gfns: Gfn[] = [];
    const frames: MemoryFrame[] = [];
    for (let i = 0; i < count; i++) {
      const gfn = this.pages.alloc();
      if (gfn === undefined) {
        for (const taken of gfns) this.pages.free(taken);
        throw new BlkfrontError({ code: 'exhausted', what: 'pages', needed: count });
      }
      gfns.push(gfn);
      frames.push(this.pages.frame(gfn));
    }
    this.live.add(gfns);
    if (this.peer !== undefined) this.open(gfns, this.peer);
    const range = (name: string, bytes: Uint8Array, at: number): void => {
      if (!(bytes instanceof Uint8Array)) refuse(name, bytes, 'a Uint8Array');
      const { length } = bytes;
      if (gfns.length > 0 && Number.isInteger(at) && at >= 0 && at + length <= count * 4096) return;
      const allowed = gfns.length === 0 ? 'nothing: the buffer was given back' : `0 to ${count * 4096 - length}`;
      throw new BlkfrontError({ code: 'bad-argument', argument: 'at', value: at, allowed });
    };
    const each = (length: number, at: number, part: (views: Uint8Array, address: number, from: number, bytes: number) => void): void => {
      for (let done = 0; done < length; ) {
        const inPage = (at + done) % 4096;
        const bytes = Math.min(4096 - inPage, length - done);
        const { views, offset } = frames[Math.floor((at + done) / 4096)]!;
        part(views.u8, offset + inPage, done, bytes);
        done += bytes;
      }
    };
    return {
      gfns,
      bytes: count * 4096,
      frame: (i: number): MemoryFrame => frames[i] ?? refuse('i', i, `0 to ${count - 1}`),
      write: (bytes: Uint8Array, at = 0): void => {
        range('bytes', bytes, at);
        each(bytes.length, at, (u8, address, from, length) => u8.set(bytes.subarray(from, from + length), address));
      },
      read: (into: Uint8Array, at = 0): void => {
        range('into', into, at);
        each(into.length, at, (u8, address, from, length) => into.set(u8.subarray(address, address + length), from));
      },
      free: (): void => this.free(gfns),
    };
  }

  /** Opens every buffer to `peer`, under persistent grants. Pages for which no reference is left stay closed and are bounced. */
  attach(peer: DomId): void {
    this.peer = peer;
    for (const gfns of this.live) this.open(gfns, peer);
  }

  /** Closes every buffer; the pages stay their owners'. */
  detach(): void {
    this.peer = undefined;
    for (const gfns of this.live) for (const gfn of gfns) this.close(gfn);
  }

  /** Looks again at the buffers that were to be given back while requests used them. */
  settle(): void {
    for (const gfns of [...this.leaving.keys()]) this.free(gfns);
  }

  /** Gives every buffer back. */
  destroy(): void {
    for (const gfns of [...this.live]) this.free(gfns);
  }

  private open(gfns: readonly Gfn[], peer: DomId): void {
    for (const gfn of gfns) {
      const gref = this.grants.reserve();
      if (gref === -1) return;
      this.grants.permit(gref, peer, gfn, false);
      this.table.add(gfn, gref);
    }
  }

  private close(gfn: Gfn): void {
    const gref = this.table.find(gfn);
    if (gref === -1) return;
    this.table.remove(gfn);
    this.held.hold(gfn);
    this.grants.endLater(gref, () => this.held.letGo(gfn));
  }

  private free(gfns: Gfn[]): void {
    if (!this.live.has(gfns)) return;
    const frames = this.leaving.get(gfns) ?? new Set(gfns);
    if (this.used(frames)) {
      this.leaving.set(gfns, frames);
      return;
    }
    this.live.delete(gfns);
    this.leaving.delete(gfns);
    for (const gfn of gfns.splice(0)) {
      this.close(gfn);
      this.held.whenFree(gfn, () => this.pages.free(gfn));
    }
  }
}
