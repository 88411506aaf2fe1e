import { type Abi, BackRing, BLKIF_OP, BlockRequest, readIndirectSegments, type Segments, SharedRing } from '@paravirt/xen-abi';
import type { Store } from '../types.ts';
import type { World } from './world.ts';

/** What a loopback backend offers. Everything off by default but what the protocol demands, so that each key is asked for by name. */
export interface LoopbackOptions {
  readonly device?: number;
  /** Sectors of 512 bytes. Default 2048. */
  readonly sectors?: number;
  readonly sectorBytes?: number;
  /** undefined: the key is not written. */
  readonly maxQueues?: number;
  readonly maxRingOrder?: number;
  readonly indirect?: number;
  readonly persistent?: boolean;
  readonly flush?: boolean;
  readonly barrier?: boolean;
  readonly discard?: boolean;
  readonly discardGranularity?: number;
  readonly discardAlignment?: number;
  readonly secure?: boolean;
  /** `info`: VDISK_* bits. */
  readonly info?: number;
  readonly trusted?: boolean;
  /** Answer requests only in `release`. */
  readonly hold?: boolean;
}

/** A request as the loopback saw it, copied. */
export interface SeenRequest {
  readonly queue: number;
  readonly idLo: number;
  readonly idHi: number;
  /** As on the wire: 6 for indirect. */
  readonly operation: number;
  /** The inner one of an indirect request, else the same. */
  readonly inner: number;
  /** Infinity for a flush. */
  readonly sector: number;
  readonly nrSegments: number;
  readonly nrSectors: number;
  readonly flag: number;
  readonly handle: number;
  readonly segments: readonly { readonly gref: number; readonly first: number; readonly last: number }[];
  readonly indirectGrefs: readonly number[];
}

interface BackQueue {
  readonly ring: BackRing;
  readonly shared: SharedRing;
  readonly refs: number[];
  readonly bell: { ring(): void; close(): void };
}

/**
 * A small backend of the block protocol on a `World`: memory disk, all of the negotiation, direct and indirect requests,
 * persistent grants. It is honest unless told otherwise through its fields, and it keeps what it saw.
 */
export class Loopback {
  readonly path: string;
  readonly front: string;
  disk: Uint8Array;
  readonly seen: SeenRequest[] = [];
  readonly queues: BackQueue[] = [];
  /** Operations that answer EOPNOTSUPP, and requests that answer an error. */
  readonly unsupported: Set<number> = new Set();
  /** Asked of each request: true answers it with an error. */
  fail: (request: SeenRequest) => boolean = () => false;
  /** Keep every mapping for ever. */
  clings = false;
  /** Keep requests until `release`. */
  hold: boolean;
  /** Bytes that were read from or written to guest pages outside of granted sectors would show here; flushes and discards counted. */
  flushes = 0;
  discards = 0;
  errors: string[] = [];
  readonly held: SeenRequest[] = [];
  protocol = '';
  private readonly world: World;
  private readonly options: LoopbackOptions;
  private readonly store: Store;
  private readonly kept: Map<number, number> = new Map();
  private readonly clung: { gref: number; write: boolean }[] = [];
  private watch: { unsubscribe(): void } | undefined;
  private state = 0;
  sectors: number;
  /** Requests in a row that one wake-up answers before it rings. */
  persistent = false;

  constructor(world: World, options: LoopbackOptions = {}) {
    const { device = 51712, sectors = 2048, sectorBytes = 512 } = options;
    this.world = world;
    this.options = options;
    this.hold = options.hold ?? false;
    this.sectors = sectors;
    this.path = `/local/domain/${world.backendId}/backend/vbd/${world.guestId}/${device}`;
    this.front = `/local/domain/${world.guestId}/device/vbd/${device}`;
    this.store = world.store.connect(world.backendId);
    this.disk = new Uint8Array(sectors * 512);
    for (let i = 0; i < this.disk.length; i += 512) this.disk[i] = (i / 512) & 0xff;
    this.write(this.front, {
      backend: this.path,
      'backend-id': world.backendId,
      state: 1,
      'virtual-device': device,
      'device-type': 'disk',
      trusted: options.trusted === false ? 0 : 1,
    });
    this.write(this.path, { frontend: this.front, 'frontend-id': world.guestId, online: 1, state: 1, mode: 'w', sectorBytes });
    this.world.store.nodes.delete(`${this.path}/sectorBytes`);
  }

  /** Mappings that stand. */
  get mapped(): number {
    return this.kept.size + this.clung.length;
  }

  /** Offers the device and waits for its frontend. */
  start(): this {
    const { indirect, maxQueues, maxRingOrder } = this.options;
    if (indirect !== undefined) this.set('feature-max-indirect-segments', indirect);
    if (maxQueues !== undefined) this.set('multi-queue-max-queues', maxQueues);
    if (maxRingOrder !== undefined) this.set('max-ring-page-order', maxRingOrder);
    this.say(2);
    this.watch ??= this.store.watch(`${this.front}/state`, () => this.onFront());
    return this;
  }

  /** Writes the backend's state to the store. */
  say(state: number): void {
    this.state = state;
    this.store.write(`${this.path}/state`, String(state));
  }

  /** Writes a key of the backend's folder. */
  set(key: string, value: number | string): void {
    this.store.write(`${this.path}/${key}`, String(value));
  }

  /** Announces another size, as a real backend does: sectors, then the state again. */
  resize(sectors: number): void {
    if (sectors * 512 > this.disk.length) {
      const longer = new Uint8Array(sectors * 512);
      longer.set(this.disk);
      this.disk = longer;
    }
    this.sectors = sectors;
    this.set('sectors', sectors);
    this.say(4);
  }

  /** The toolstack detaches: one write after the other, as a trace has them. */
  detach(): void {
    this.set('online', 0);
    this.say(5);
  }

  /** The backend's domain dies: its folder goes, and every mapping with it. */
  die(): void {
    this.disconnect();
    this.watch?.unsubscribe();
    this.watch = undefined;
    this.store.remove(this.path);
  }

  /** A new backend over the same disk takes the dead one's place. */
  revive(): void {
    this.write(this.path, { frontend: this.front, 'frontend-id': this.world.guestId, online: 1, state: 1, mode: 'w' });
    this.start();
  }

  /** Answers what was held, in the order that `order` gives the indices. */
  release(order?: (count: number) => readonly number[]): void {
    const held = this.held.splice(0);
    const indices = order?.(held.length) ?? held.map((_, i) => i);
    for (const i of indices) this.answer(held[i]!, this.carryOut(held[i]!));
    this.pushAll();
  }

  /** Handles requests without a bell. */
  poll(queue: number): void {
    const q = this.queues[queue];
    if (q === undefined) return;
    const request = new BlockRequest();
    do {
      while (q.ring.unconsumed() > 0) {
        q.ring.getRequest(request);
        const seen = this.copy(queue, request);
        this.seen.push(seen);
        if (this.hold) this.held.push(seen);
        else this.answer(seen, this.carryOut(seen));
      }
      if (q.ring.push()) q.bell.ring();
    } while (q.ring.finalCheck() > 0);
  }

  /** Puts a response on the ring of its queue; `pushAll` publishes. */
  answer(seen: SeenRequest, status: number, over: { idLo?: number; idHi?: number; operation?: number } = {}): void {
    const q = this.queues[seen.queue];
    q?.ring.putResponse(over.idLo ?? seen.idLo, over.idHi ?? seen.idHi, over.operation ?? seen.inner, status);
  }

  /** Publishes the answers of every queue, and rings where the frontend asked for it. */
  pushAll(): void {
    for (const q of this.queues) if (q.ring.push()) q.bell.ring();
  }

  /** Gives every mapping back. */
  letGo(): void {
    for (const [gref] of this.kept) this.world.grants.unmap(gref, true);
    this.kept.clear();
    for (const { gref, write } of this.clung.splice(0)) this.world.grants.unmap(gref, write);
  }

  private write(folder: string, keys: Record<string, string | number>): void {
    for (const [key, value] of Object.entries(keys)) this.store.write(`${folder}/${key}`, String(value));
  }

  private onFront(): void {
    const front = Number(this.store.read(`${this.front}/state`) ?? 0);
    if (front === 1 && this.state === 6) this.say(2);
    else if ((front === 3 || front === 4) && this.state === 2) this.connect();
    else if (front === 5 && this.state !== 5 && this.state !== 6) this.say(5);
    else if ((front === 6 || front === 0) && this.state !== 6 && this.state !== 0) {
      this.disconnect();
      this.say(6);
    }
  }

  private connect(): void {
    const read = (key: string): string | undefined => this.store.read(`${this.front}/${key}`);
    this.protocol = read('protocol') ?? 'missing';
    const abi: Abi = this.protocol === 'x86_32-abi' ? 'x86_32' : this.protocol === 'arm-abi' ? 'arm64' : 'x86_64';
    this.persistent = this.options.persistent === true && read('feature-persistent') === '1';
    const count = Number(read('multi-queue-num-queues') ?? 1);
    const pages = 2 ** Number(read('ring-page-order') ?? 0);
    for (let i = 0; i < count; i++) {
      const folder = count === 1 ? '' : `queue-${i}/`;
      const refs = Array.from({ length: pages }, (_, page) =>
        Number(read(`${folder}${pages === 1 ? 'ring-ref' : `ring-ref${page}`}`) ?? 0),
      );
      const mapped: number[] = [];
      const frames = refs.map((ref) => {
        const gfn = this.world.grants.map(ref, this.world.backendId, true);
        if (gfn === -1) this.errors.push(`ring reference ${ref} is refused`);
        else mapped.push(ref);
        return this.world.pages.frame(Math.max(gfn, 0) as never);
      });
      const shared = new SharedRing(abi, frames);
      const bell = this.world.events.bind(Number(read(`${folder}event-channel`) ?? 0), () => this.poll(i));
      if (bell === undefined) {
        this.errors.push(`event channel of queue ${i} is refused`);
        for (const ref of mapped) this.world.grants.unmap(ref, true);
        continue;
      }
      this.queues.push({ ring: new BackRing(shared), shared, refs, bell });
    }
    const { options } = this;
    const key = (name: string, value: number | boolean | undefined): void => {
      if (value !== undefined) this.set(name, Number(value));
    };
    key('feature-flush-cache', options.flush);
    key('feature-barrier', options.barrier);
    if (options.discard === true) {
      key('discard-granularity', options.discardGranularity);
      key('discard-alignment', options.discardAlignment);
      key('discard-secure', options.secure);
    }
    key('feature-discard', options.discard);
    key('feature-persistent', options.persistent);
    this.set('sectors', this.sectors);
    this.set('info', options.info ?? 0);
    this.set('sector-size', options.sectorBytes ?? 512);
    this.set('physical-sector-size', options.sectorBytes ?? 512);
    this.say(4);
  }

  private disconnect(): void {
    if (!this.clings) this.letGo();
    for (const { refs, bell } of this.queues) {
      bell.close();
      for (const ref of refs) {
        if (this.clings) this.clung.push({ gref: ref, write: true });
        else this.world.grants.unmap(ref, true);
      }
    }
    this.queues.length = 0;
    this.held.length = 0;
  }

  private copy(queue: number, request: BlockRequest): SeenRequest {
    const indirect = request.operation === BLKIF_OP.INDIRECT;
    const count = request.operation === BLKIF_OP.DISCARD ? 0 : request.nrSegments;
    let from: Segments = request;
    const indirectGrefs = indirect ? [...request.indirectGrefs.subarray(0, Math.ceil(count / 512))] : [];
    if (indirect) {
      from = { grefs: new Uint32Array(count), firstSect: new Uint8Array(count), lastSect: new Uint8Array(count) };
      const gref = indirectGrefs[0] ?? 0;
      const gfn = this.map(gref, false);
      if (gfn !== -1) readIndirectSegments(this.world.pages.frame(gfn as never), count, from);
      this.unmap(gref, false, gfn);
    }
    const segments = Array.from({ length: Math.min(count, indirect ? 256 : 11) }, (_, i) => ({
      gref: from.grefs[i]!,
      first: from.firstSect[i]!,
      last: from.lastSect[i]!,
    }));
    return {
      queue,
      idLo: request.idLo,
      idHi: request.idHi,
      operation: request.operation,
      inner: indirect ? request.indirectOp : request.operation,
      sector: request.sector,
      nrSegments: count,
      nrSectors: request.operation === BLKIF_OP.DISCARD ? request.nrSectors : 0,
      flag: request.operation === BLKIF_OP.DISCARD ? request.flag : 0,
      handle: request.handle,
      segments,
      indirectGrefs,
    };
  }

  private map(gref: number, write: boolean): number {
    if (this.persistent) {
      const known = this.kept.get(gref);
      if (known !== undefined) return known;
      const gfn = this.world.grants.map(gref, this.world.backendId, true);
      if (gfn !== -1) this.kept.set(gref, gfn);
      return gfn;
    }
    return this.world.grants.map(gref, this.world.backendId, write);
  }

  private unmap(gref: number, write: boolean, gfn: number): void {
    if (gfn === -1 || this.persistent) return;
    if (this.clings) this.clung.push({ gref, write });
    else this.world.grants.unmap(gref, write);
  }

  /** Moves the data of a request. @returns the status that an honest backend answers. */
  carryOut(seen: SeenRequest): number {
    const { inner, sector } = seen;
    if (this.unsupported.has(inner)) return -2;
    if (this.fail(seen)) return -1;
    if (inner === BLKIF_OP.DISCARD) {
      if (sector + seen.nrSectors > this.sectors) return -1;
      this.discards++;
      this.disk.fill(0, sector * 512, (sector + seen.nrSectors) * 512);
      return 0;
    }
    if (inner === BLKIF_OP.FLUSH_DISKCACHE || (inner === BLKIF_OP.WRITE_BARRIER && seen.nrSegments === 0)) {
      this.flushes++;
      return 0;
    }
    if (inner !== BLKIF_OP.READ && inner !== BLKIF_OP.WRITE && inner !== BLKIF_OP.WRITE_BARRIER) return -2;
    const granule = (this.options.sectorBytes ?? 512) / 512;
    let at = sector;
    for (const { first, last } of seen.segments) {
      if (last > 7 || last < first || (last - first + 1) % granule !== 0 || first % granule !== 0) {
        this.errors.push(`segment ${first}-${last} is impossible or misaligned`);
        return -1;
      }
      at += last - first + 1;
    }
    if (at > this.sectors || sector % granule !== 0) {
      this.errors.push(`sectors ${sector} to ${at} are out of range or misaligned`);
      return -1;
    }
    let status = 0;
    let from = sector * 512;
    const write = inner === BLKIF_OP.READ;
    for (const { gref, first, last } of seen.segments) {
      const bytes = (last - first + 1) * 512;
      const gfn = this.map(gref, write);
      if (gfn === -1) {
        this.errors.push(`reference ${gref} is refused`);
        status = -1;
        continue;
      }
      const page = this.world.bytes(gfn);
      if (page.length === 0) {
        // A frame outside memory: a host refuses to map it.
        this.unmap(gref, write, gfn);
        status = -1;
        continue;
      }
      if (write) page.set(this.disk.subarray(from, from + bytes), first * 512);
      else this.disk.set(page.subarray(first * 512, first * 512 + bytes), from);
      from += bytes;
      this.unmap(gref, write, gfn);
    }
    return status;
  }
}
