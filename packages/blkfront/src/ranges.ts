import { object, refuse, signalOf } from './arguments.ts';
import type { BlockDevice } from './block-device.ts';
import { BlkfrontError } from './errors.ts';
import { notBytes } from './requests.ts';
import type { AbortSignalLike } from './types.ts';

/** How a long range is walked. */
export interface RangeOptions {
  /** Bytes of a piece, a multiple of the disk's sector size. Default 128 KiB. */
  readonly chunkBytes?: number;
  /** Pieces under way at once, 1 or more. Default 4. */
  readonly depth?: number;
  readonly signal?: AbortSignalLike;
}

/** A piece of a range. The bytes are the taker's. */
export interface RangeChunk {
  /** First sector of 512 bytes. */
  readonly sector: number;
  readonly bytes: Uint8Array;
}

const CHUNK_BYTES = 128 * 1024;
const DEPTH = 4;

function check(sector: number, sectors: number, options: RangeOptions, sectorBytes: number): { chunkBytes: number; depth: number } {
  const { chunkBytes = CHUNK_BYTES, depth = DEPTH } = object('options', options);
  signalOf(options);
  for (const [argument, value] of [
    ['sector', sector],
    ['sectors', sectors],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < 0 || (value * 512) % sectorBytes !== 0) {
      throw new BlkfrontError({ code: 'bad-argument', argument, value, allowed: `a multiple of ${sectorBytes / 512}` });
    }
  }
  if (!Number.isInteger(chunkBytes) || chunkBytes <= 0 || chunkBytes % sectorBytes !== 0) {
    throw new BlkfrontError({ code: 'bad-argument', argument: 'chunkBytes', value: chunkBytes, allowed: `a multiple of ${sectorBytes}` });
  }
  if (!Number.isInteger(depth) || depth < 1 || depth > 1024) {
    throw new BlkfrontError({ code: 'bad-argument', argument: 'depth', value: depth, allowed: '1 to 1024' });
  }
  return { chunkBytes, depth };
}

/** A failure of what is under way is told where it is awaited; one that nobody awaits any more is nobody's. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Reads ahead by `depth` pieces and no further than its consumer asks. */
export async function* readRange(
  dev: BlockDevice,
  sector: number,
  sectors: number,
  options: RangeOptions,
): AsyncIterableIterator<RangeChunk> {
  const { chunkBytes, depth } = check(sector, sectors, options, dev.info?.sectorBytes ?? 512);
  const wait = options.signal === undefined ? {} : { signal: options.signal };
  const ahead: { sector: number; read: Promise<Uint8Array> }[] = [];
  let next = sector;
  const end = sector + sectors;
  while (next < end || ahead.length > 0) {
    while (next < end && ahead.length < depth) {
      const count = Math.min(chunkBytes / 512, end - next);
      ahead.push({ sector: next, read: handled(dev.read(next, count * 512, wait)) });
      next += count;
    }
    const piece = ahead.shift()!;
    yield { sector: piece.sector, bytes: await piece.read };
  }
}

/** Writes pieces in order; the next piece is asked for when fewer than `depth` are under way. */
export async function writeRange(
  dev: BlockDevice,
  sector: number,
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: RangeOptions,
): Promise<number> {
  const iterable = object('pieces', pieces) as Partial<AsyncIterable<Uint8Array> & Iterable<Uint8Array>>;
  if (iterable[Symbol.iterator] === undefined && iterable[Symbol.asyncIterator] === undefined) refuse('pieces', pieces, 'an iterable');
  const { depth } = check(sector, 0, options, dev.info?.sectorBytes ?? 512);
  const wait = options.signal === undefined ? {} : { signal: options.signal };
  const under: Promise<void>[] = [];
  let next = sector;
  let bytes = 0;
  for await (const piece of pieces) {
    if (!(piece instanceof Uint8Array)) throw notBytes(piece);
    while (under.length >= depth) await under.shift();
    under.push(handled(dev.write(next, piece, wait)));
    next += piece.length / 512;
    bytes += piece.length;
  }
  while (under.length > 0) await under.shift();
  return bytes;
}
