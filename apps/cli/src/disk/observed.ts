import { getSystemErrorName } from 'node:util';
import type { Disk } from '@paravirt/hv-sim';
import { systemReason } from '../errors.ts';

/**
 * Keeps what a disk that answers at once said last when it failed: the wire has one error code for everything, and a person wants to
 * be told "no space left on device".
 */
export function observedDisk(inner: Disk): { readonly disk: Disk; why(): string } {
  let last = 0;
  const noted = (status: number): number => {
    if (status < 0) last = status;
    return status;
  };
  const disk: Disk = {
    name: inner.name,
    get sizeBytes() {
      return inner.sizeBytes;
    },
    sectorBytes: inner.sectorBytes,
    physicalSectorBytes: inner.physicalSectorBytes,
    readonly: inner.readonly,
    discards: inner.discards,
    discardGranularityBytes: inner.discardGranularityBytes,
    discardAlignmentBytes: inner.discardAlignmentBytes,
    secureDiscards: inner.secureDiscards,
    volatileCache: inner.volatileCache,
    fua: inner.fua,
    read: (views, address, offset, bytes, waiter) => noted(inner.read(views, address, offset, bytes, waiter)),
    write: (views, address, offset, bytes, waiter, fua) => noted(inner.write(views, address, offset, bytes, waiter, fua)),
    flush: (waiter) => noted(inner.flush(waiter)),
    discard: (offset, bytes, secure, waiter) => noted(inner.discard(offset, bytes, secure, waiter)),
    writeZeroes: (offset, bytes, waiter) => noted(inner.writeZeroes(offset, bytes, waiter)),
    close: () => inner.close(),
  };
  return { disk, why: () => (last === 0 ? 'input/output error' : systemReason({ code: getSystemErrorName(last) })) };
}
