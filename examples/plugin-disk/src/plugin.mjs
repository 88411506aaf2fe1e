// What `hvsim --plugin` loads: disks, filters and drivers under the names by which flags ask for them. The shapes are those of
// PluginModule in @paravirt/cli, Disk and DiskFilter in @paravirt/hv-sim, and Plugin in @paravirt/event-bus/contract.
import { blkfront, OP } from '@paravirt/blkfront';
import { DISK_ERRNO, memoryDisk } from '@paravirt/hv-sim';

const SECTOR = 512;

/**
 * `--disk numbered:SECTORS`: a disk each of whose sectors holds its own number, as 64 little-endian words, until it is written. What a
 * reader expects can be computed, so a misplaced sector shows where it came from.
 */
function numbered(argument) {
  const sectors = Number(argument);
  if (!Number.isInteger(sectors) || sectors < 1) throw new Error(`numbered:${argument}: write it as numbered:SECTORS`);
  const disk = memoryDisk({ sizeBytes: sectors * SECTOR });
  const views = { u8: new Uint8Array(SECTOR), u16: new Uint16Array(0), u32: new Uint32Array(0) };
  const words = new BigUint64Array(views.u8.buffer);
  for (let sector = 0; sector < sectors; sector += 1) {
    words.fill(BigInt(sector));
    disk.write(views, 0, sector * SECTOR, SECTOR, { done() {} }, false);
  }
  return disk;
}

/** `--filter worn=WRITES`: a sector takes so many writes, then fails with an input/output error, as flash does at its end. */
function worn(inner, { argument }) {
  const most = Number(argument || 1000);
  if (!Number.isInteger(most) || most < 1) throw new Error(`worn=${argument}: write it as worn=WRITES`);
  const writes = new Uint32Array(inner.sizeBytes / SECTOR);
  const count = { name: 'worn', requested: Number.POSITIVE_INFINITY, reached: 0, fired: 0 };
  const wears = (offset, bytes) => {
    count.reached += 1;
    let gone = false;
    for (let sector = offset / SECTOR; sector < (offset + bytes) / SECTOR; sector += 1) {
      writes[sector] += 1;
      gone ||= writes[sector] > most;
    }
    if (gone) count.fired += 1;
    return gone;
  };
  const filter = {
    inner,
    enabled: true,
    faults: [count],
    name: `worn(${inner.name})`,
    get sizeBytes() {
      return inner.sizeBytes;
    },
    write(views, address, offset, bytes, waiter, fua) {
      if (filter.enabled && wears(offset, bytes)) return -DISK_ERRNO.EIO;
      return inner.write(views, address, offset, bytes, waiter, fua);
    },
    writeZeroes(offset, bytes, waiter) {
      if (filter.enabled && wears(offset, bytes)) return -DISK_ERRNO.EIO;
      return inner.writeZeroes(offset, bytes, waiter);
    },
    read: (views, address, offset, bytes, waiter) => inner.read(views, address, offset, bytes, waiter),
    flush: (waiter) => inner.flush(waiter),
    discard: (offset, bytes, secure, waiter) => inner.discard(offset, bytes, secure, waiter),
    close: () => inner.close(),
    ...(inner.extentAt && { extentAt: (offset) => inner.extentAt(offset) }),
  };
  for (const key of [
    'sectorBytes',
    'physicalSectorBytes',
    'readonly',
    'discards',
    'discardGranularityBytes',
    'discardAlignmentBytes',
    'secureDiscards',
    'volatileCache',
    'fua',
  ])
    Object.defineProperty(filter, key, { get: () => inner[key], enumerable: true });
  return filter;
}

/**
 * `--driver one-at-a-time`: a frontend that has one request on the ring and no more, in the order in which they came: what a boot
 * loader's driver does. It drives a blkfront; a driver of your own would speak to the store, the grants and the ring itself, all of which
 * it is handed at `attach`.
 */
function oneAtATime({ device }) {
  const plugin = blkfront({ device, maxSegments: 11 });
  return {
    name: 'one-at-a-time',
    requires: ['bus', 'grants', 'pages', 'events', 'store', 'scheduler', 'waitFor'],
    attach(deps) {
      const { api, detach } = plugin.attach(deps);
      const waiting = [];
      let current;

      /** The next stretch of the current transfer, as long as one request may be. */
      const issue = () => {
        const { op, offset, bytes, length } = current;
        const sectors =
          bytes === null && op !== OP.WRITE_ZEROES ? length / SECTOR : Math.min(length / SECTOR - current.issued, api.device.maxPart);
        const from = current.issued;
        current.issued += sectors;
        const status = api.device.submitTo(0, op, offset / SECTOR + from, null, bytes, from * SECTOR, sectors, 0, answered);
        if (status !== 0) answered(0, status);
      };
      const answered = (_cookie, status) => {
        if (status === 0 && current.issued < current.length / SECTOR) {
          issue();
          return;
        }
        const { done } = current;
        current = undefined;
        done(status);
        move();
      };
      const move = () => {
        if (current || waiting.length === 0) return false;
        current = waiting.shift();
        issue();
        return true;
      };
      const add = (op, offset, length, bytes, done) => void waiting.push({ op, offset, length, bytes, done, issued: 0 });
      return {
        api: {
          connectSync: () => api.connectSync(),
          closeSync: () => api.closeSync(),
          bytes: {
            read: (offset, target, done) => add(OP.READ, offset, target.length, target, done),
            write: (offset, source, fua, done) => add(fua ? OP.WRITE_FUA : OP.WRITE, offset, source.length, source, done),
            flush: (done) => add(OP.FLUSH, 0, 0, null, done),
            discard: (offset, bytes, done) => add(OP.DISCARD, offset, bytes, null, done),
            writeZeroes: (offset, bytes, done) => add(OP.WRITE_ZEROES, offset, bytes, null, done),
            move,
          },
        },
        detach,
      };
    },
  };
}

export const disks = { numbered };
export const filters = { worn };
export const drivers = { 'one-at-a-time': oneAtATime };
