import { createEventBus, type EvtchnEvents } from '@paravirt/event-bus';
import type { Gfn, Gref, Port } from '@paravirt/event-bus/contract';
import { createGrantTable, type GnttabEvents, type GrantTable, type MemoryFrame } from '@paravirt/gnttab';
import { type Abi, BLKIF_OP, BlockRequest, BlockResponse, FrontRing, SharedRing, writeIndirectSegment } from '@paravirt/xen-abi';
import {
  type AttachedDisk,
  type AttachOptions,
  attachDisk,
  type BlkbackDevice,
  type BlkbackEvents,
  type BlkbackOptions,
  createMachine,
  type Disk,
  type Domain,
  type Machine,
  type MachineEvents,
  type MachineOptions,
  memoryDisk,
  type ServingHost,
  serveDisks,
} from '../src/index.ts';

export type Facts = MachineEvents & BlkbackEvents & GnttabEvents & EvtchnEvents;

/** A machine with a backend in domain 0 and one guest, whose disk is attached. Nothing has run yet. */
export function fixture(
  options: {
    disk?: Disk;
    blkback?: BlkbackOptions;
    attach?: Partial<AttachOptions>;
    machine?: Partial<MachineOptions>;
    guestPages?: number;
    noAttach?: boolean;
  } = {},
): Fixture {
  const bus = createEventBus<Facts>();
  const machine = createMachine({ seed: 1, ramBytes: 16 * 2 ** 20, bus, ...options.machine });
  const dom0 = machine.createDomain({ id: 0, pages: 256 });
  const guest = machine.createDomain({ pages: options.guestPages ?? 1024 });
  const host = serveDisks(dom0, { bus, ...(options.blkback === undefined ? {} : { blkback: options.blkback }) });
  const disk = options.disk ?? memoryDisk({ sizeBytes: 16 * 2 ** 20 });
  const attached = options.noAttach === true ? undefined : attachDisk(host, { frontend: guest.id, disk, ...options.attach });
  return new Fixture(machine, bus, dom0, guest, host, disk, attached);
}

export class Fixture {
  readonly machine: Machine;
  readonly bus: ReturnType<typeof createEventBus<Facts>>;
  readonly dom0: Domain;
  readonly guest: Domain;
  readonly host: ServingHost;
  readonly disk: Disk;
  readonly attached: AttachedDisk | undefined;
  constructor(
    machine: Machine,
    bus: ReturnType<typeof createEventBus<Facts>>,
    dom0: Domain,
    guest: Domain,
    host: ServingHost,
    disk: Disk,
    attached: AttachedDisk | undefined,
  ) {
    this.machine = machine;
    this.bus = bus;
    this.dom0 = dom0;
    this.guest = guest;
    this.host = host;
    this.disk = disk;
    this.attached = attached;
  }

  get device(): BlkbackDevice {
    const device = this.host.blkback.device(this.guest.id, this.attached!.device);
    if (device === undefined) throw new Error('the device is gone');
    return device;
  }

  back(key: string): string | undefined {
    return this.dom0.store.read(`${this.attached!.backendPath}/${key}`);
  }
  front(key: string): string | undefined {
    return this.dom0.store.read(`${this.attached!.frontendPath}/${key}`);
  }

  /** A frontend of the test's own, connected. */
  connect(options: FrontOptions = {}): RawFront {
    const front = new RawFront(this.guest, this.attached!.frontendPath, options);
    this.machine.run({ untilTicks: this.machine.now });
    front.publish();
    this.machine.run({ untilTicks: this.machine.now });
    front.setState(4);
    this.machine.run({ untilTicks: this.machine.now });
    return front;
  }
}

export interface FrontOptions {
  readonly abi?: Abi;
  readonly protocol?: string | null;
  readonly queues?: number;
  readonly ringPages?: number;
  readonly persistent?: boolean;
  /** Where the rings' indices begin. */
  readonly start?: number;
}

export interface Answer {
  readonly id: number;
  readonly operation: number;
  readonly status: number;
}

interface FrontQueue {
  readonly gfns: Gfn[];
  readonly grefs: Gref[];
  readonly port: Port;
  readonly ring: FrontRing;
  readonly answers: Answer[];
}

/** A frontend that does what a test tells it, right or wrong, straight on the ring and the store. */
export class RawFront {
  readonly guest: Domain;
  readonly path: string;
  readonly grants: GrantTable;
  readonly options: FrontOptions;
  readonly queues: FrontQueue[] = [];
  readonly message: BlockRequest = new BlockRequest();
  readonly response: BlockResponse = new BlockResponse();
  private lastId = 0;
  private readonly held: Gref[] = [];

  constructor(guest: Domain, path: string, options: FrontOptions = {}, grants?: GrantTable) {
    this.guest = guest;
    this.path = path;
    this.options = options;
    this.grants = grants ?? createGrantTable({ owner: guest.id }, { hypercalls: guest.hypercalls, scheduler: guest.scheduler });
  }

  key(name: string, value: string | number): void {
    this.guest.store.write(`${this.path}/${name}`, String(value));
  }
  setState(state: number): void {
    this.key('state', state);
  }

  publish(state = 3): void {
    const { queues = 1, ringPages = 1, persistent = false, abi = 'x86_64', protocol } = this.options;
    for (let q = 0; q < queues; q++) this.queues.push(this.makeQueue(ringPages, abi));
    if (ringPages > 1) this.key('ring-page-order', Math.log2(ringPages));
    if (queues > 1) this.key('multi-queue-num-queues', queues);
    this.queues.forEach(({ grefs, port }, q) => {
      const prefix = queues > 1 ? `queue-${q}/` : '';
      if (ringPages === 1) this.key(`${prefix}ring-ref`, grefs[0]!);
      else for (let i = 0; i < ringPages; i++) this.key(`${prefix}ring-ref${i}`, grefs[i]!);
      this.key(`${prefix}event-channel`, port);
    });
    if (protocol !== null) this.key('protocol', protocol ?? (abi === 'x86_32' ? 'x86_32-abi' : 'x86_64-abi'));
    this.key('feature-persistent', persistent ? 1 : 0);
    this.setState(state);
  }

  private makeQueue(ringPages: number, abi: Abi): FrontQueue {
    const { guest } = this;
    const gfns: Gfn[] = [];
    const frames: MemoryFrame[] = [];
    for (let i = 0; i < ringPages; i++) {
      const gfn = guest.pages.alloc()!;
      gfns.push(gfn);
      frames.push(guest.memory.frame(gfn));
    }
    const grefs = gfns.map((gfn) => this.grants.grantForeignAccess({ peer: 0 as never, gfn, readonly: false }));
    const shared = new SharedRing(abi, frames);
    shared.init();
    const { start = 0 } = this.options;
    shared.reqProd = start;
    shared.rspProd = start;
    shared.reqEvent = start + 1;
    shared.rspEvent = start + 1;
    const port = guest.events.allocUnbound(0 as never);
    const queue: FrontQueue = { gfns, grefs, port, ring: new FrontRing(shared), answers: [] };
    queue.ring.attach(start);
    guest.events.onUpcall(port, () => this.drain(queue));
    return queue;
  }

  drain(queue: FrontQueue): void {
    const { ring } = queue;
    do {
      while (ring.unconsumed() > 0) {
        ring.getResponse(this.response);
        const { idLo, operation, status } = this.response;
        queue.answers.push({ id: idLo, operation, status });
      }
    } while (ring.finalCheck() > 0);
  }

  /** A page of the guest's, filled with one byte. */
  page(fill = 0): Gfn {
    const gfn = this.guest.pages.alloc()!;
    const { views, offset } = this.guest.memory.frame(gfn);
    views.u8.fill(fill, offset, offset + 4096);
    return gfn;
  }
  bytes(gfn: Gfn): Uint8Array {
    const { views, offset } = this.guest.memory.frame(gfn);
    return views.u8.subarray(offset, offset + 4096);
  }
  grant(gfn: Gfn, readonly = false): Gref {
    const gref = this.grants.grantForeignAccess({ peer: 0 as never, gfn, readonly });
    this.held.push(gref);
    return gref;
  }

  /** Puts a request on the ring; `segments` are [gref, first, last]. Returns its id. */
  put(
    operation: number,
    sector: number,
    segments: readonly (readonly [number, number, number])[] = [],
    change: (message: BlockRequest) => void = () => {},
    q = 0,
  ): number {
    const { message } = this;
    const id = ++this.lastId;
    message.operation = operation;
    message.handle = 51712;
    message.idLo = id;
    message.idHi = 0;
    message.flag = 0;
    message.setSector(sector);
    message.nrSegments = segments.length;
    for (const [i, [gref, first, last]] of segments.entries()) message.setSegment(i, gref, first, last);
    change(message);
    this.queues[q]!.ring.putRequest(message);
    return id;
  }

  discard(sector: number, sectors: number, flag = 0): number {
    return this.put(BLKIF_OP.DISCARD, sector, [], (message) => {
      message.flag = flag;
      message.setNrSectors(sectors);
    });
  }

  /** Puts an indirect request; its page of segments is made here. */
  indirect(operation: number, sector: number, segments: readonly (readonly [number, number, number])[], readonly = false): number {
    const gfn = this.page();
    for (const [i, [gref, first, last]] of segments.entries()) writeIndirectSegment(this.guest.memory.frame(gfn), i, gref, first, last);
    const gref = this.grant(gfn, readonly);
    return this.put(BLKIF_OP.INDIRECT, sector, [], (message) => {
      message.indirectOp = operation;
      message.nrSegments = segments.length;
      message.indirectGrefs[0] = gref;
    });
  }

  ring(q = 0): void {
    const queue = this.queues[q]!;
    if (queue.ring.push()) this.guest.events.send(queue.port);
  }
  answers(q = 0): Answer[] {
    return this.queues[q]!.answers.splice(0);
  }

  /** Ends every grant of data. What the backend still maps makes it throw. */
  releaseData(): void {
    for (const gref of this.held.splice(0)) this.end(gref);
  }
  /** Gives the rings back too: after the backend has let go of them. */
  release(): void {
    this.releaseData();
    for (const { gfns, grefs, port } of this.queues.splice(0)) {
      for (const gref of grefs) this.end(gref);
      for (const gfn of gfns) this.guest.pages.free(gfn);
      this.guest.events.close(port);
    }
  }
  private end(gref: Gref): void {
    if (!this.grants.tryEndForeignAccess(gref)) throw new Error(`reference ${gref} is still mapped`);
  }
}

/** The status of the answer to `id`, or undefined. */
export function statusOf(answers: readonly Answer[], id: number): number | undefined {
  return answers.find((answer) => answer.id === id)?.status;
}
