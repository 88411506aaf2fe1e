import type { BufferPool } from './buffer-pool.ts';
import type { NbdStream, NbdTarget } from './types.ts';

const BLOCK_BYTES = 256 * 1024;
const REGIONS = 2048;
/** Data from this size on is worth a buffer of the target's own. */
export const LENT_BYTES_MIN: number = 64 * 1024;
const PAGE_BYTES = 4096;
const OPEN = 0;
const READY = 1;
const SENT = 2;

/** A buffer that replies are laid into one behind the other, so that a whole batch leaves in one write. */
class Block {
  readonly bytes: Uint8Array;
  /** It is the target's own memory, and goes back there. */
  readonly lent: boolean;
  readonly regionsMax: number;
  readonly at: Uint32Array;
  readonly length: Uint32Array;
  readonly state: Uint8Array;
  /** Views of what regions have for data, and of what was written last: a client's requests are often all alike. */
  readonly #views: (Uint8Array | undefined)[] = [];
  readonly #viewsAt: Uint32Array;
  #written: Uint8Array | undefined;
  #writtenAt = 0;
  regions = 0;
  /** Regions whose reply is not there yet: somebody may still write into them. */
  open = 0;
  used = 0;
  /** Everything before it is sent. */
  firstUnsent = 0;
  /** Writes the stream still holds. */
  writing = 0;

  constructor(bytes: Uint8Array, regionsMax: number, lent: boolean) {
    this.bytes = bytes;
    this.lent = lent;
    this.regionsMax = regionsMax;
    this.at = new Uint32Array(regionsMax);
    this.length = new Uint32Array(regionsMax);
    this.state = new Uint8Array(regionsMax);
    this.#viewsAt = new Uint32Array(regionsMax);
  }

  /** The `bytes` from `at` on, within region `index`. */
  view(index: number, at: number, bytes: number): Uint8Array {
    const known = this.#views[index];
    if (known !== undefined && known.length === bytes && this.#viewsAt[index] === at) return known;
    const made = this.bytes.subarray(at, at + bytes);
    this.#viewsAt[index] = at;
    this.#views[index] = made;
    return made;
  }

  /** As `view`, of what is to be written. */
  output(from: number, to: number): Uint8Array {
    if (this.#written === undefined || this.#writtenAt !== from || this.#written.length !== to - from) {
      this.#written = this.bytes.subarray(from, to);
      this.#writtenAt = from;
    }
    return this.#written;
  }
}

const nowhere = new Block(new Uint8Array(0), 0, false);

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
  readonly #target: Pick<NbdTarget, 'takeBuffer' | 'giveBuffer'>;
  readonly #sent: (bytes: number) => void;
  readonly #blocks: Block[] = [];
  /** A block of the usual size for when the last one is full. */
  #spare: Block | undefined;
  #ready = 0;
  #abandoned = false;

  constructor(stream: NbdStream, pool: BufferPool, target: Pick<NbdTarget, 'takeBuffer' | 'giveBuffer'>, sent: (bytes: number) => void) {
    this.#stream = stream;
    this.#pool = pool;
    this.#target = target;
    this.#sent = sent;
  }

  /**
   * As `reserve` for `header` bytes and `data` bytes behind them, the data where the target's own memory is and begins on a page, when
   * it lends some.
   */
  reserveData(header: number, data: number, out: Region): void {
    const lent = data >= LENT_BYTES_MIN ? this.#target.takeBuffer?.(PAGE_BYTES + data) : undefined;
    if (lent === undefined) {
      this.reserve(header + data, out);
      return;
    }
    const block = new Block(lent, 1, true);
    block.used = PAGE_BYTES - header;
    this.#blocks.push(block);
    this.#enter(block, header + data, out);
  }

  /** Fills `out` with room for `bytes`. */
  reserve(bytes: number, out: Region): void {
    let block = this.#blocks.at(-1);
    if (block === undefined || block.regions === block.regionsMax || block.used + bytes > block.bytes.length) {
      block = this.#spare ?? new Block(this.#pool.take(Math.max(BLOCK_BYTES, bytes)), bytes > BLOCK_BYTES ? 1 : REGIONS, false);
      if (bytes > block.bytes.length) block = new Block(this.#pool.take(bytes), 1, false);
      else this.#spare = undefined;
      this.#blocks.push(block);
    }
    this.#enter(block, bytes, out);
  }

  #enter(block: Block, bytes: number, out: Region): void {
    const index = block.regions;
    block.at[index] = block.used;
    block.length[index] = bytes;
    block.state[index] = OPEN;
    out.block = block;
    out.index = index;
    out.bytes = block.bytes;
    out.at = block.used;
    block.regions += 1;
    block.open += 1;
    block.used += bytes;
  }

  /** The reply is complete and takes `bytes` of what was reserved. */
  ready(region: Region, bytes: number): void {
    region.block.length[region.index] = bytes;
    region.block.state[region.index] = READY;
    region.block.open -= 1;
    this.#ready += 1;
  }

  /** Nobody waits for the reply any more, and nobody writes into it. */
  drop(region: Region): void {
    region.block.open -= 1;
    if (this.#abandoned) this.#giveBack();
  }

  /** The stream is closed: buffers go back as soon as the target is done with them. */
  abandon(): void {
    this.#abandoned = true;
    this.#giveBack();
  }

  #giveBack(): void {
    const blocks = this.#blocks;
    for (let index = blocks.length - 1; index >= 0; index -= 1) {
      const block = blocks[index] as Block;
      if (block.open > 0) continue;
      blocks.splice(index, 1);
      this.#give(block);
    }
  }

  #give(block: Block): void {
    if (block.lent) this.#target.giveBuffer?.(block.bytes);
    else this.#pool.give(block.bytes);
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
    return this.#stream.write(block.output(from, to), () => {
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
      if (block.regionsMax === REGIONS && (index === blocks.length - 1 || this.#spare === undefined)) {
        block.regions = 0;
        block.used = 0;
        block.firstUnsent = 0;
        if (index === blocks.length - 1) continue;
        this.#spare = block;
        blocks.splice(index, 1);
      } else {
        blocks.splice(index, 1);
        this.#give(block);
      }
    }
  }
}

/** The region's `bytes` from `skip` on: what a target fills. */
export function dataOf({ block, index, at }: Region, skip: number, bytes: number): Uint8Array {
  return block.view(index, at + skip, bytes);
}

/** A region object to be filled by `reserve`; a connection reuses them. */
export function emptyRegion(): Region {
  return { block: nowhere, index: 0, bytes: new Uint8Array(0), at: 0 };
}
