/**
 * The console's page: two byte streams, each with an index for either end. Indices run freely through 32 bits.
 * @see xen/include/public/io/console.h, struct xencons_interface
 */

import type { MemoryFrame } from '@paravirt/gnttab';

/** One direction: where its bytes start in the page, how many there are (a power of two), and where its indices stand. */
export interface Stream {
  readonly data: number;
  readonly bytes: number;
  readonly cons: number;
  readonly prod: number;
}

/** From the backend to the guest: `in[1024]`, `in_cons`, `in_prod`. */
export const INPUT: Stream = { data: 0, bytes: 1024, cons: 3072, prod: 3076 };
/** From the guest to the backend: `out[2048]`, `out_cons`, `out_prod`. */
export const OUTPUT: Stream = { data: 1024, bytes: 2048, cons: 3080, prod: 3084 };

/** Where a page's bytes are; the views are fetched anew for each use. */
type Page = Pick<MemoryFrame, 'views' | 'offset'>;

/**
 * The end that writes. Its own index lives here, because the page is the peer's to scribble on; of the page it believes
 * the other index only, and that only within what the stream can hold.
 */
export class Writer {
  readonly #page: Page;
  readonly #stream: Stream;
  #prod = 0;

  constructor(page: Page, stream: Stream) {
    this.#page = page;
    this.#stream = stream;
    this.#prod = page.views.u32[(page.offset + stream.prod) / 4]!;
  }

  /** Bytes that fit now, or -1: the reader's index cannot be. */
  room(): number {
    const { views, offset } = this.#page;
    const used = (this.#prod - views.u32[(offset + this.#stream.cons) / 4]!) >>> 0;
    return used > this.#stream.bytes ? -1 : this.#stream.bytes - used;
  }

  /** Writes as much of `from` as fits, the index last. @returns the bytes written, or -1 as `room`. */
  write(from: Uint8Array): number {
    const room = this.room();
    if (room < 0) return -1;
    const count = Math.min(room, from.length);
    const { data, bytes, prod } = this.#stream;
    const { views, offset } = this.#page;
    const at = this.#prod % bytes;
    const first = Math.min(count, bytes - at);
    views.u8.set(from.subarray(0, first), offset + data + at);
    views.u8.set(from.subarray(first, count), offset + data);
    this.#prod = (this.#prod + count) >>> 0;
    views.u32[(offset + prod) / 4] = this.#prod;
    return count;
  }
}

/** The end that reads, as careful as {@link Writer}. */
export class Reader {
  readonly #page: Page;
  readonly #stream: Stream;
  #cons = 0;

  constructor(page: Page, stream: Stream) {
    this.#page = page;
    this.#stream = stream;
    this.#cons = page.views.u32[(page.offset + stream.cons) / 4]!;
  }

  /** Takes what is there, at most one stream's length, as a copy. @returns undefined: the writer's index cannot be. */
  read(): Uint8Array | undefined {
    const { data, bytes, cons, prod } = this.#stream;
    const { views, offset } = this.#page;
    const count = (views.u32[(offset + prod) / 4]! - this.#cons) >>> 0;
    if (count > bytes) return undefined;
    const into = new Uint8Array(count);
    const at = this.#cons % bytes;
    const first = Math.min(count, bytes - at);
    into.set(views.u8.subarray(offset + data + at, offset + data + at + first));
    into.set(views.u8.subarray(offset + data, offset + data + count - first), first);
    this.#cons = (this.#cons + count) >>> 0;
    views.u32[(offset + cons) / 4] = this.#cons;
    return into;
  }
}
