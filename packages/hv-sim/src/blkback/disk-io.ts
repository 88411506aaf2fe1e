import { type Disk, LATER } from '../disks/disk.ts';
import type { BackRequest } from './request.ts';
import type { BlkbackCounters, LocatedPage, MappedMemory } from './types.ts';

/** Bytes of a sector on the wire, whatever the disk's sectors are. */
export const SECTOR = 512;
/** The same, and the disk's answer, as plain constants of this module: an exported or imported one is loaded at each use. */
const BYTES = 512;
const ASYNC = LATER;

/**
 * Hands a request's data to the disk, straight from or to the mapped pages. Segments that follow one another in memory, as machine
 * frames and not only as addresses, are one call. Stops at the first error; `request.waiting` counts the calls that answer later.
 */
export class DiskIo {
  private readonly memory: MappedMemory;
  private readonly page: LocatedPage;

  constructor(memory: MappedMemory, page: LocatedPage) {
    this.memory = memory;
    this.page = page;
  }

  transfer(request: BackRequest, disk: Disk, write: boolean, fua: boolean, counters: BlkbackCounters): void {
    const { vfns, firstSect, lastSect, segments } = request;
    const { memory, page } = this;
    let offset = request.sector * BYTES;
    memory.locate(vfns[0]!, !write, page);
    let { views } = page;
    let start = page.offset + firstSect[0]! * BYTES;
    if (segments === 1) {
      const bytes = request.sectors * BYTES;
      counters.diskCalls++;
      const answer = write ? disk.write(views, start, offset, bytes, request, fua) : disk.read(views, start, offset, bytes, request);
      if (answer !== 0) answered(request, answer);
      return;
    }
    let bytes = 0;
    for (let i = 0; ; ) {
      bytes += (lastSect[i]! - firstSect[i]! + 1) * BYTES;
      i++;
      let next = 0;
      if (i < segments) {
        memory.locate(vfns[i]!, !write, page);
        next = page.offset + firstSect[i]! * BYTES;
        if (page.views === views && next === start + bytes) continue;
      }
      counters.diskCalls++;
      const answer = write ? disk.write(views, start, offset, bytes, request, fua) : disk.read(views, start, offset, bytes, request);
      if (answer !== 0) {
        answered(request, answer);
        if (answer < 0) return;
      }
      if (i >= segments) return;
      views = page.views;
      start = next;
      offset += bytes;
      bytes = 0;
    }
  }
}

/** A call was not simply carried out. */
function answered(request: BackRequest, answer: number): void {
  if (answer === ASYNC) request.waiting++;
  else if (answer < 0 && request.error === 0) request.error = answer;
}
