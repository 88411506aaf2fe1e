import type { CopyOp, MapOp } from '@paravirt/gnttab';
import {
  DOMID,
  errnoOf,
  GNTCOPY,
  GNTMAP,
  GNTST,
  GNTTAB_CACHE_FLUSH,
  GNTTAB_COPY,
  GNTTAB_GET_STATUS_FRAMES,
  GNTTAB_GET_VERSION,
  GNTTAB_MAP_GRANT_REF,
  GNTTAB_QUERY_SIZE,
  GNTTAB_SET_VERSION,
  GNTTAB_SETUP_TABLE,
  GNTTAB_SWAP_GRANT_REF,
  GNTTAB_UNMAP_AND_REPLACE,
  GNTTAB_UNMAP_GRANT_REF,
  GNTTABOP,
} from '@paravirt/xen-abi';
import type { DeviceUnmapOp, DomainGrantHypercalls, ReplaceOp, SwapOp } from '../grants/hypercalls.ts';
import { PAGE } from '../memory/frames.ts';
import { type GuestBytes, GuestStruct } from './guest-struct.ts';

const EFAULT = -errnoOf('EFAULT');
const EINVAL = -errnoOf('EINVAL');
/** Commands use the low bits; above them stands what only cache flushes take. */
const CMD_MASK = 0xfff;

/**
 * `grant_table_op`: argument structures in the guest's memory, one batch a call, each element copied before it is looked at and
 * its status written before the next.
 * @see xen/common/grant_table.c, do_grant_table_op
 */
export class GrantDoor {
  readonly #bytes: GuestBytes;
  readonly #calls: () => DomainGrantHypercalls;
  readonly #map: GuestStruct<NonNullable<(typeof GNTTAB_MAP_GRANT_REF)['fields']>>;
  readonly #mapOps: MapOp[] = [{ vfn: 0, flags: 0, ref: 0, domid: 0, status: 0, handle: 0, mfn: 0 }];
  readonly #unmapOps: Required<DeviceUnmapOp>[] = [{ vfn: 0, handle: 0, mfn: 0, status: 0 }];
  readonly #copyOps: CopyOp[] = [
    {
      source: { isRef: false, frameOrRef: 0, domid: 0, offset: 0 },
      dest: { isRef: false, frameOrRef: 0, domid: 0, offset: 0 },
      bytes: 0,
      status: 0,
    },
  ];

  constructor(bytes: GuestBytes, calls: () => DomainGrantHypercalls) {
    this.#bytes = bytes;
    this.#calls = calls;
    this.#map = new GuestStruct(GNTTAB_MAP_GRANT_REF, bytes);
  }

  call(command: number, address: number, count: number): number {
    if (count > 0x7fff_ffff) return EINVAL;
    const cmd = command & CMD_MASK;
    if (cmd !== GNTTABOP.cache_flush && command !== cmd) return EINVAL;
    switch (cmd) {
      case GNTTABOP.map_grant_ref:
        return this.#mapBatch(address, count);
      case GNTTABOP.unmap_grant_ref:
        return this.#unmapBatch(address, count);
      case GNTTABOP.unmap_and_replace:
        return this.#replaceBatch(address, count);
      case GNTTABOP.copy:
        return this.#copyBatch(address, count);
      case GNTTABOP.swap_grant_ref:
        return this.#swapBatch(address, count);
      case GNTTABOP.setup_table:
        return count === 1 ? this.#setup(address) : EINVAL;
      case GNTTABOP.query_size:
        return count === 1 ? this.#query(address) : EINVAL;
      case GNTTABOP.get_status_frames:
        return count === 1 ? this.#statusFrames(address) : EINVAL;
      case GNTTABOP.set_version:
        return this.#setVersion(address);
      case GNTTABOP.get_version:
        return this.#getVersion(address);
      case GNTTABOP.cache_flush:
        return this.#cacheFlush(address, count);
      default:
        return -errnoOf('ENOSYS');
    }
  }

  #mapBatch(address: number, count: number): number {
    const args = this.#map;
    const op = this.#mapOps[0]!;
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      const host = args.get('host_addr');
      op.flags = args.get('flags');
      op.ref = args.get('ref');
      op.domid = args.get('dom');
      // A host address inside a page names no page.
      const wantsHost = (op.flags & GNTMAP.host_map) !== 0;
      op.vfn = wantsHost && host % PAGE !== 0 ? 0 : Math.floor(host / PAGE);
      const result = this.#calls().map(this.#mapOps, 1);
      if (result !== 0) return result;
      if (op.status === GNTST.okay && !(args.store('handle', op.handle) && args.store('dev_bus_addr', op.mfn * PAGE))) return EFAULT;
      if (!args.store('status', op.status)) return EFAULT;
    }
    return 0;
  }

  #unmapBatch(address: number, count: number): number {
    const args = new GuestStruct(GNTTAB_UNMAP_GRANT_REF, this.#bytes);
    const op = this.#unmapOps[0]!;
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      op.vfn = pageOf(args.get('host_addr'));
      op.mfn = Math.floor(args.get('dev_bus_addr') / PAGE);
      op.handle = args.get('handle');
      const result = this.#calls().unmap(this.#unmapOps, 1);
      if (result !== 0) return result;
      if (!args.store('status', op.status)) return EFAULT;
    }
    return 0;
  }

  #replaceBatch(address: number, count: number): number {
    const args = new GuestStruct(GNTTAB_UNMAP_AND_REPLACE, this.#bytes);
    const op: ReplaceOp = { vfn: 0, newVfn: 0, handle: 0, status: 0 };
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      op.vfn = pageOf(args.get('host_addr'));
      op.newVfn = pageOf(args.get('new_addr'));
      op.handle = args.get('handle');
      const result = this.#calls().unmapAndReplace([op], 1);
      if (result !== 0) return result;
      if (!args.store('status', op.status)) return EFAULT;
    }
    return 0;
  }

  #copyBatch(address: number, count: number): number {
    const args = new GuestStruct(GNTTAB_COPY, this.#bytes);
    const op = this.#copyOps[0]!;
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      const flags = args.get('flags');
      op.source.isRef = (flags & GNTCOPY.source_gref) !== 0;
      op.source.frameOrRef = op.source.isRef ? args.get('source.u.ref') : args.get('source.u.gmfn');
      op.source.domid = args.get('source.domid');
      op.source.offset = args.get('source.offset');
      op.dest.isRef = (flags & GNTCOPY.dest_gref) !== 0;
      op.dest.frameOrRef = op.dest.isRef ? args.get('dest.u.ref') : args.get('dest.u.gmfn');
      op.dest.domid = args.get('dest.domid');
      op.dest.offset = args.get('dest.offset');
      op.bytes = args.get('len');
      // By frame number only for DOMID_SELF, and not for the caller's own number either.
      if ((!op.source.isRef && op.source.domid !== DOMID.SELF) || (!op.dest.isRef && op.dest.domid !== DOMID.SELF)) {
        op.status = op.bytes === 0 ? GNTST.okay : GNTST.permission_denied;
      } else {
        const result = this.#calls().copy(this.#copyOps, 1);
        if (result !== 0) return result;
      }
      if (!args.store('status', op.status)) return EFAULT;
    }
    return 0;
  }

  #swapBatch(address: number, count: number): number {
    const args = new GuestStruct(GNTTAB_SWAP_GRANT_REF, this.#bytes);
    const op: SwapOp = { refA: 0, refB: 0, status: 0 };
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      op.refA = args.get('ref_a');
      op.refB = args.get('ref_b');
      const result = this.#calls().swapRefs([op], 1);
      if (result !== 0) return result;
      if (!args.store('status', op.status)) return EFAULT;
    }
    return 0;
  }

  /** Frame numbers of the caller's memory into a list of its own words. @returns a status. */
  #storeFrames(list: number, gfns: readonly number[], bytesEach: number): number {
    for (let i = 0; i < gfns.length; i++) {
      if (bytesEach === 4 && gfns[i]! > 0xffff_ffff) return GNTST.address_too_big;
      if (!this.#bytes.setNumber(list + i * bytesEach, bytesEach, gfns[i]!)) return GNTST.bad_virt_addr;
    }
    return GNTST.okay;
  }

  #setup(address: number): number {
    const args = new GuestStruct(GNTTAB_SETUP_TABLE, this.#bytes);
    if (!args.load(address)) return EFAULT;
    const gfns: number[] = [];
    let status = this.#calls().setupTableOf(args.get('dom'), args.get('nr_frames'), gfns);
    if (status === GNTST.okay) status = this.#storeFrames(args.get('frame_list'), gfns, this.#bytes.wordBytes);
    return args.store('status', status) ? 0 : EFAULT;
  }

  #query(address: number): number {
    const args = new GuestStruct(GNTTAB_QUERY_SIZE, this.#bytes);
    if (!args.load(address)) return EFAULT;
    const size = { frames: 0, maxFrames: 0 };
    const status = this.#calls().querySizeOf(args.get('dom'), size);
    if (status === GNTST.okay && !(args.store('nr_frames', size.frames) && args.store('max_nr_frames', size.maxFrames))) return EFAULT;
    return args.store('status', status) ? 0 : EFAULT;
  }

  #statusFrames(address: number): number {
    const args = new GuestStruct(GNTTAB_GET_STATUS_FRAMES, this.#bytes);
    if (!args.load(address)) return EFAULT;
    const gfns: number[] = [];
    let status = this.#calls().getStatusFramesOf(args.get('dom'), args.get('nr_frames'), gfns);
    // The list holds 64-bit numbers on every target.
    if (status === GNTST.okay) status = this.#storeFrames(args.get('frame_list'), gfns, 8);
    return args.store('status', status) ? 0 : EFAULT;
  }

  #setVersion(address: number): number {
    const args = new GuestStruct(GNTTAB_SET_VERSION, this.#bytes);
    if (!args.load(address)) return EFAULT;
    const result = this.#calls().setVersion(args.get('version') as 1 | 2);
    return args.store('version', this.#calls().getVersion(DOMID.SELF)) ? result : EFAULT;
  }

  #getVersion(address: number): number {
    const args = new GuestStruct(GNTTAB_GET_VERSION, this.#bytes);
    if (!args.load(address)) return EFAULT;
    const version = this.#calls().getVersion(args.get('dom'));
    if (version < 0) return version;
    return args.store('version', version) ? 0 : EFAULT;
  }

  #cacheFlush(address: number, count: number): number {
    const args = new GuestStruct(GNTTAB_CACHE_FLUSH, this.#bytes);
    for (let i = 0; i < count; i++) {
      if (!args.load(address + i * args.size)) return EFAULT;
      const mfn = Math.floor(args.get('a.dev_bus_addr') / PAGE);
      const result = this.#calls().cacheFlush(mfn, args.get('offset'), args.get('length'), args.get('op'));
      if (result !== 0) return result;
    }
    return 0;
  }
}

/** The page of an address; an address inside a page names one that nothing can be mapped at. */
function pageOf(address: number): number {
  return address % PAGE === 0 ? address / PAGE : -1;
}
