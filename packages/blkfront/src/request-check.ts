import { ERRNO } from './errors.ts';
import type { Features } from './features.ts';
import { OP } from './types.ts';

const { DISCARD, DISCARD_SECURE, FLUSH, READ, WRITE, WRITE_FUA, WRITE_ZEROES } = OP;
const BYTES_MAX = 0x8000_0000;
/** The last frame that a grant table of either version takes. */
const FRAME_MAX = 0xffff_ffff;

/** Whether the device can carry a request out: 0, or the negative errno with which it is refused. */
export function checkRequest(
  f: Features,
  op: number,
  sector: number,
  gfns: ArrayLike<number> | null,
  bytes: Uint8Array | null,
  start: number,
  count: number,
): number {
  if (op === FLUSH) return f.flush || f.barrier || f.readonly ? 0 : ERRNO.EOPNOTSUPP;
  if (!(count > 0) || !(sector >= 0) || Math.floor(sector) !== sector || Math.floor(count) !== count) return ERRNO.EINVAL;
  if (!(sector + count <= f.sectors) || ((sector | count) & f.granule) !== 0) return ERRNO.EINVAL;
  if (op !== READ && f.readonly) return ERRNO.EROFS;
  if (op === READ || op === WRITE || op === WRITE_FUA) {
    if ((start | 0) !== start || start < 0) return ERRNO.EINVAL;
    const end = start + count * 512;
    // Whoever is not held to the types may bring what is no buffer.
    if (gfns === undefined || (bytes !== null && !(bytes instanceof Uint8Array))) return ERRNO.EINVAL;
    if (end > BYTES_MAX || end > (gfns !== null ? gfns.length * 4096 : bytes !== null ? bytes.length : 0)) return ERRNO.EINVAL;
    return gfns === null || areFrames(gfns, start >>> 12, Math.ceil(end / 4096)) ? 0 : ERRNO.EINVAL;
  }
  if (op === WRITE_ZEROES) return 0;
  if (op === DISCARD) return f.discard ? 0 : ERRNO.EOPNOTSUPP;
  if (op === DISCARD_SECURE) return f.discard && f.secure ? 0 : ERRNO.EOPNOTSUPP;
  return ERRNO.EINVAL;
}

/** What a grant table would refuse must not be found halfway through a request's pages. */
function areFrames(gfns: ArrayLike<number>, from: number, end: number): boolean {
  for (let i = from; i < end; i++) {
    const gfn = gfns[i]!;
    if (!(gfn >= 0 && gfn <= FRAME_MAX) || Math.floor(gfn) !== gfn) return false;
  }
  return true;
}
