import type { BufferPool } from './buffer-pool.ts';
import type { NbdStream } from './types.ts';

const BLOCK_BYTES = 256 * 1024;
const REGIONS = 2048;
const OPEN = 0;
const READY = 1;
const SENT = 2;

/** A buffer that replies are laid into one behind the other, so that a whole batch leaves in one write. */
class Block {
  readonly bytes: Uint8Array;
  readonly at: Uint32Array = new Uint32Array(REGIONS);
  readonly length: Uint32Array = new Uint32Array(REGIONS);
  readonly state: Uint8Array = new Uint8Array(REGIONS);
  regions = 0;
  used = 0;
  /** Everything before it is sent. */
  firstUnsent = 0;
  /** Writes the stream still holds. */
  writing = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** A stretch of a block reserved for one reply. */
export interface Region {
  block: Block;
  index: number;
  bytes: Uint8Array;
  at: number;
}

/**
 * The replies of one connection. A region is reserved when a request comes, so that a read lands where it leaves from; replies go
 * in any order, and neighbours that are ready go together.
 */
export class Replies {
  readonly #stream: NbdStream;
  readonly #pool: BufferPool;
  readonly #sent: (bytes: number) => void;
  readonly #blocks: Block[] = [];
  #ready = 0;

  constructor(stream: NbdStream, pool: BufferPool, sent: (bytes: number) => void) {
    this.#stream = stream;
    this.#pool = pool;
    this.#sent = sent;
  }

  /** Fills `out` with room for `bytes`. */
  reserve(bytes: number, out: Region): void {
    let block = this.#blocks.at(-1);
    if (block === undefined || block.regions === REGIONS || block.used + bytes > block.bytes.length) {
      block = new Block(this.#pool.take(Math.max(BLOCK_BYTES, bytes)));
      this.#blocks.push(block);
    }
    const index = block.regions;
    block.at[index] = block.used;
    block.length[index] = bytes;
    block.state[index] = OPEN;
    out.block = block;
    out.index = index;
    out.bytes = block.bytes;
    out.at = block.used;
    block.regions += 1;
    block.used += bytes;
  }

  /** The reply is complete and takes `bytes` of what was reserved. */
  ready(region: Region, bytes: number): void {
    region.block.length[region.index] = bytes;
    region.block.state[region.index] = READY;
    this.#ready += 1;
  }

  get pending(): boolean {
    return this.#ready > 0;
  }

  /** Writes everything that is ready. False: the stream wants a pause. Counts the writes into `batches`. */
  flush(batches: { batches: number }): boolean {
    if (this.#ready === 0) return true;
    let writable = true;
    this.#ready = 0;
    for (const block of this.#blocks) {
      for (let index = block.firstUnsent; index < block.regions; index += 1) {
        if (block.state[index] !== READY) continue;
        const from = block.at[index] as number;
        let to = from;
        while (index < block.regions && block.state[index] === READY && block.at[index] === to) {
          to += block.length[index] as number;
          block.state[index] = SENT;
          index += 1;
        }
        index -= 1;
        block.writing += 1;
        batches.batches += 1;
        writable = this.#write(block, from, to) && writable;
      }
      while (block.firstUnsent < block.regions && block.state[block.firstUnsent] === SENT) block.firstUnsent += 1;
    }
    this.#recycle();
    return writable;
  }

  #write(block: Block, from: number, to: number): boolean {
    return this.#stream.write(block.bytes.subarray(from, to), () => {
      block.writing -= 1;
      this.#recycle();
      this.#sent(to - from);
    });
  }

  /** Blocks with nothing open and nothing in the stream's hands go back; the last one starts over. */
  #recycle(): void {
    const blocks = this.#blocks;
    for (let index = blocks.length - 1; index >= 0; index -= 1) {
      const block = blocks[index] as Block;
      if (block.writing > 0 || block.firstUnsent < block.regions) continue;
      if (index === blocks.length - 1 && block.bytes.length === BLOCK_BYTES) {
        block.regions = 0;
        block.used = 0;
        block.firstUnsent = 0;
      } else {
        blocks.splice(index, 1);
        this.#pool.give(block.bytes);
      }
    }
  }
}

/** A region object to be filled by `reserve`; a connection reuses them. */
export function emptyRegion(): Region {
  return { block: new Block(new Uint8Array(0)), index: 0, bytes: new Uint8Array(0), at: 0 };
}
