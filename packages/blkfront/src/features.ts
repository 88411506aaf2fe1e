import { VDISK } from '@paravirt/xen-abi';
import { BlkfrontError } from './errors.ts';
import type { Store } from './types.ts';

/** What the backend offers, kept by the connection; the flags fall when it answers that it does not know an operation after all. */
export interface Features {
  /** Sectors of 512 bytes. */
  sectors: number;
  sectorBytes: number;
  physicalSectorBytes: number;
  /** Sectors of 512 bytes in a granule, less one. */
  granule: number;
  /** Bytes in a granule, less one: a buffer that starts off it is bounced. */
  alignMask: number;
  readonly: boolean;
  removable: boolean;
  cdrom: boolean;
  flush: boolean;
  barrier: boolean;
  discard: boolean;
  secure: boolean;
  discardGranularity: number;
  discardAlignment: number;
  persistent: boolean;
  /** Segments of an indirect request, 0 where there are none. */
  indirectSegments: number;
  /** Zeroes are written by discarding. */
  zeroByDiscard: boolean;
}

/** Features of a device that is not connected: everything is refused. */
export function noFeatures(): Features {
  return {
    // What every request is checked against comes first.
    sectors: 0,
    granule: 0,
    alignMask: 511,
    readonly: false,
    sectorBytes: 512,
    physicalSectorBytes: 512,
    removable: false,
    cdrom: false,
    flush: false,
    barrier: false,
    discard: false,
    secure: false,
    discardGranularity: 512,
    discardAlignment: 0,
    persistent: false,
    indirectSegments: 0,
    zeroByDiscard: false,
  };
}

/** Reads a node; what may not be read counts as absent, because a hostile owner can take the permission away at any time. */
export function readNode(store: Store, path: string): string | undefined {
  try {
    return store.read(path);
  } catch {
    return undefined;
  }
}

/** A whole number in decimal, at most `max`; `fallback` where the node is missing or holds anything else. */
export function readNumber(store: Store, path: string, fallback: number, max: number): number {
  const text = readNode(store, path);
  if (text === undefined || !/^\d{1,16}$/.test(text.trim())) return fallback;
  const value = Number(text);
  return value <= max ? value : fallback;
}

const SECTORS_MAX = 2 ** 53 - 1;
const SECTOR_SIZES = [512, 1024, 2048, 4096];

/** @throws {BlkfrontError} `bad-store` where the node is missing or not a number of sectors. */
export function readSectors(store: Store, backend: string): number {
  const path = `${backend}/sectors`;
  const value = readNumber(store, path, -1, SECTORS_MAX);
  if (value === -1) {
    throw new BlkfrontError({ code: 'bad-store', path, value: readNode(store, path), allowed: 'a whole number of sectors of 512 bytes' });
  }
  return value;
}

/**
 * Reads what the backend says of its disk, in the order in which Linux's frontend asks. Everything but the geometry is optional;
 * a value that no honest backend writes counts as absent.
 * @throws {BlkfrontError} `bad-store`: `sectors` or `sector-size` is missing or impossible.
 */
export function readFeatures(store: Store, backend: string, out: Features): void {
  const flag = (key: string): boolean => readNumber(store, `${backend}/${key}`, 0, SECTORS_MAX) !== 0;
  const sectors = readSectors(store, backend);
  const info = readNumber(store, `${backend}/info`, 0, 0xffff_ffff);
  const sizePath = `${backend}/sector-size`;
  const sectorBytes = readNumber(store, sizePath, -1, 4096);
  if (!SECTOR_SIZES.includes(sectorBytes)) {
    throw new BlkfrontError({ code: 'bad-store', path: sizePath, value: readNode(store, sizePath), allowed: SECTOR_SIZES.join(', ') });
  }
  out.sectorBytes = sectorBytes;
  out.granule = sectorBytes / 512 - 1;
  out.alignMask = sectorBytes - 1;
  // A last granule that is not whole cannot be addressed.
  out.sectors = sectors - (sectors % (sectorBytes / 512));
  out.physicalSectorBytes = Math.max(sectorBytes, readNumber(store, `${backend}/physical-sector-size`, sectorBytes, 1 << 30));
  out.readonly = (info & VDISK.READONLY) !== 0;
  out.removable = (info & VDISK.REMOVABLE) !== 0;
  out.cdrom = (info & VDISK.CDROM) !== 0;
  out.barrier = flag('feature-barrier');
  out.flush = flag('feature-flush-cache');
  out.discard = flag('feature-discard');
  out.secure = false;
  out.discardGranularity = sectorBytes;
  out.discardAlignment = 0;
  if (out.discard) {
    const granularity = readNumber(store, `${backend}/discard-granularity`, sectorBytes, SECTORS_MAX);
    out.discardGranularity = granularity >= sectorBytes && granularity % sectorBytes === 0 ? granularity : sectorBytes;
    const alignment = readNumber(store, `${backend}/discard-alignment`, 0, SECTORS_MAX);
    out.discardAlignment = alignment < out.discardGranularity && alignment % sectorBytes === 0 ? alignment : 0;
    out.secure = flag('discard-secure');
  }
  out.persistent = flag('feature-persistent');
  out.indirectSegments = readNumber(store, `${backend}/feature-max-indirect-segments`, 0, 0xffff_ffff);
}
