import { BlockMap } from './block-map.ts';
import { createPicker } from './distribution.ts';
import type { Direction, JobOptions } from './options.ts';
import { directions } from './options.ts';
import { Random } from './random.ts';

/** The next request of a job, in bytes from the start of the disk. */
export interface NextIo {
  direction: Direction;
  offset: number;
  bytes: number;
}

const Purpose = { block: 1, size: 2, mix: 3, percent: 4 } as const;

/**
 * Decides where a job goes next. Random jobs visit every block once a pass, as fio does: a request starts at a free block and is cut
 * short where a visited one follows.
 */
export class Offsets {
  readonly #options: JobOptions;
  readonly #start: number;
  readonly #bytes: number;
  readonly #granule: number;
  readonly #map: BlockMap | undefined;
  readonly #pick: Readonly<Record<Direction, () => number>>;
  readonly #size: Random;
  readonly #mix: Random;
  readonly #percent: Random;
  readonly #position: Record<Direction, number> = { read: 0, write: 0, trim: 0 };
  #batchLeft = 0;
  /** `trimwrite`: the block just trimmed, which is written next. */
  #trimmed: NextIo | undefined;

  constructor(options: JobOptions, start: number, bytes: number, seed: number) {
    this.#options = options;
    this.#start = start;
    this.#bytes = bytes;
    const used = directions.filter((each) => (each === 'read' ? options.reads : each === 'write' ? options.writes : options.trims));
    const smallest = Math.min(...used.flatMap((each) => options.blockSizes[each].map((size) => size.bytes)));
    this.#granule = options.blockAlign ?? smallest;
    const blocks = Math.max(1, Math.floor(bytes / this.#granule));
    this.#map = options.random && options.randomMap ? new BlockMap(blocks) : undefined;
    const random = new Random(seed, Purpose.block);
    const picker = createPicker(options.distribution, blocks, random);
    this.#pick = { read: picker, write: picker, trim: picker };
    this.#size = new Random(seed, Purpose.size);
    this.#mix = new Random(seed, Purpose.mix);
    this.#percent = new Random(seed, Purpose.percent);
  }

  /** Begins the range again: every block is free, sequences start over. */
  rewind(): void {
    this.#map?.clear();
    for (const each of directions) this.#position[each] = 0;
  }

  /** Fills `out`. False: this pass has no block left. */
  next(out: NextIo): boolean {
    if (this.#trimmed) {
      Object.assign(out, this.#trimmed, { direction: 'write' });
      this.#trimmed = undefined;
      return true;
    }
    const direction = this.#direction();
    out.direction = direction;
    const bytes = this.#blockBytes(direction);
    const found = this.#goesRandom(direction) ? this.#random(direction, bytes, out) : this.#sequential(direction, bytes, out);
    if (found && this.#options.trimThenWrite) this.#trimmed = { ...out };
    return found;
  }

  #direction(): Direction {
    const { reads, writes, trims, readPercent } = this.#options;
    if (trims) return 'trim';
    if (reads && writes) return this.#mix.below(100) < readPercent ? 'read' : 'write';
    return reads ? 'read' : 'write';
  }

  #blockBytes(direction: Direction): number {
    const sizes = this.#options.blockSizes[direction];
    if (sizes.length === 1) return (sizes[0] as { bytes: number }).bytes;
    let left = this.#size.unit() * 100;
    for (const { bytes, weight } of sizes) {
      left -= weight;
      if (left < 0) return bytes;
    }
    return (sizes.at(-1) as { bytes: number }).bytes;
  }

  #goesRandom(direction: Direction): boolean {
    const { random, sequence, randomPercent } = this.#options;
    if (!random) return false;
    if (sequence > 1) {
      if (this.#batchLeft > 0) {
        this.#batchLeft -= 1;
        return false;
      }
      this.#batchLeft = sequence - 1;
      return true;
    }
    const percent = randomPercent[direction];
    return percent === 100 || this.#percent.below(100) < percent;
  }

  #random(direction: Direction, bytes: number, out: NextIo): boolean {
    let block = this.#pick[direction]();
    if (this.#map) {
      block = this.#map.isTaken(block) ? this.#map.nextFree(block) : block;
      if (block < 0) return false;
    }
    return this.#place(direction, block * this.#granule, bytes, out);
  }

  #sequential(direction: Direction, bytes: number, out: NextIo): boolean {
    let at = this.#position[direction];
    if (this.#map) {
      const blocks = this.#map.blocks;
      const from = Math.floor(at / this.#granule) % blocks;
      const block = this.#map.nextFree(from);
      if (block < 0) return false;
      at = block * this.#granule;
    } else if (at + bytes > this.#bytes) {
      // fio leaves out a last piece that is shorter than a block.
      if (this.#options.random) at = 0;
      else return false;
    }
    const found = this.#place(direction, at, bytes, out);
    if (!this.#options.random) this.#position[direction] += this.#options.sequence;
    return found;
  }

  #place(direction: Direction, at: number, bytes: number, out: NextIo): boolean {
    let length = Math.min(bytes, this.#bytes - at);
    if (this.#map) length = Math.min(length, this.#map.take(at / this.#granule, Math.ceil(length / this.#granule)) * this.#granule);
    if (length <= 0) return false;
    out.offset = this.#start + at;
    out.bytes = length;
    this.#position[direction] = at + length;
    return true;
  }
}
