import { type BlkfrontEvents, type BlkfrontOptions, BlockDevice } from '@paravirt/blkfront';
import { createEventBus, type EventBus } from '@paravirt/event-bus';
import type { Gfn } from '@paravirt/event-bus/contract';
import { createGrantTable, type GnttabEvents, type GrantTable, type MemoryViews } from '@paravirt/gnttab';
import {
  type AttachedDisk,
  type AttachOptions,
  attachDisk,
  type BlkbackEvents,
  type BlkbackOptions,
  createMachine,
  type Disk,
  type DiskWaiter,
  type Domain,
  detachDisk,
  LATER,
  type Machine,
  type MachineEvents,
  type MachineOptions,
  memoryDisk,
  type ResizableDisk,
  type ServingHost,
  serveDisks,
} from '@paravirt/hv-sim';

export type Facts = MachineEvents & GnttabEvents & BlkfrontEvents & BlkbackEvents;

/** A disk that keeps what it is asked until told otherwise, and tells what it holds. */
export class HoldingDisk implements Disk {
  readonly name = 'holding(memory)';
  held = false;
  private readonly inner: ResizableDisk;
  private readonly machine: () => Machine;
  private readonly waiting: { run: () => number; waiter: DiskWaiter }[] = [];

  constructor(inner: ResizableDisk, machine: () => Machine) {
    this.inner = inner;
    this.machine = machine;
  }

  get sizeBytes(): number {
    return this.inner.sizeBytes;
  }
  get sectorBytes(): number {
    return this.inner.sectorBytes;
  }
  get physicalSectorBytes(): number {
    return this.inner.physicalSectorBytes;
  }
  get readonly(): boolean {
    return this.inner.readonly;
  }
  get discards(): boolean {
    return this.inner.discards;
  }
  get discardGranularityBytes(): number {
    return this.inner.discardGranularityBytes;
  }
  get discardAlignmentBytes(): number {
    return this.inner.discardAlignmentBytes;
  }
  get secureDiscards(): boolean {
    return this.inner.secureDiscards;
  }
  get volatileCache(): boolean {
    return this.inner.volatileCache;
  }
  get fua(): boolean {
    return this.inner.fua;
  }
  read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.pass(() => this.inner.read(views, address, offset, bytes, waiter), waiter);
  }
  write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    return this.pass(() => this.inner.write(views, address, offset, bytes, waiter, fua), waiter);
  }
  flush(waiter: DiskWaiter): number {
    return this.pass(() => this.inner.flush(waiter), waiter);
  }
  discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    return this.pass(() => this.inner.discard(offset, bytes, secure, waiter), waiter);
  }
  writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.pass(() => this.inner.writeZeroes(offset, bytes, waiter), waiter);
  }
  onResize(handler: () => void): { unsubscribe(): void } {
    return this.inner.onResize?.(handler) ?? { unsubscribe: () => undefined };
  }
  resize(sizeBytes: number): void {
    this.inner.resize(sizeBytes);
  }
  close(): void {
    this.inner.close();
  }

  release(): void {
    this.held = false;
    for (const { run, waiter } of this.waiting.splice(0)) this.machine().post(() => waiter.done(run()));
  }

  private pass(run: () => number, waiter: DiskWaiter): number {
    if (!this.held) return run();
    this.waiting.push({ run, waiter });
    return LATER;
  }
}

export interface StackOptions {
  readonly front?: Partial<BlkfrontOptions>;
  readonly blkback?: BlkbackOptions;
  readonly attach?: Partial<AttachOptions>;
  readonly machine?: Partial<MachineOptions>;
  readonly sectors?: number;
  readonly sectorBytes?: 512 | 4096;
  readonly guestPages?: number;
  readonly abi?: 'x86_64' | 'x86_32';
  readonly grantVersion?: 1 | 2;
  /** Puts something between the backend and its memory disk. */
  readonly wrap?: (disk: Disk, machine: Machine) => Disk;
}

/** A frontend and blkback on one machine, with a memory disk between them. Nothing is connected yet. */
export class Stack {
  readonly bus: EventBus<Facts>;
  readonly machine: Machine;
  readonly dom0: Domain;
  readonly guest: Domain;
  readonly host: ServingHost;
  readonly grants: GrantTable;
  readonly inner: ResizableDisk;
  readonly disk: HoldingDisk;
  readonly attached: AttachedDisk;
  readonly dev: BlockDevice;
  private readonly taken: Gfn[] = [];

  constructor(options: StackOptions = {}) {
    const { sectors = 8192, sectorBytes = 512, guestPages = 8192 } = options;
    this.bus = createEventBus<Facts>() as EventBus<Facts>;
    this.machine = createMachine({ seed: 1, ramBytes: (guestPages + 4096) * 4096, bus: this.bus, ...options.machine });
    this.dom0 = this.machine.createDomain({ id: 0, pages: 1024 });
    this.guest = this.machine.createDomain({ pages: guestPages, ...(options.abi && { abi: options.abi }) });
    this.host = serveDisks(this.dom0, { bus: this.bus, ...(options.blkback && { blkback: options.blkback }) });
    this.inner = memoryDisk({ sizeBytes: sectors * 512, sectorBytes });
    this.disk = new HoldingDisk(this.inner, () => this.machine);
    this.attached = attachDisk(this.host, {
      frontend: this.guest.id,
      disk: options.wrap?.(this.disk, this.machine) ?? this.disk,
      ...options.attach,
    });
    const { hypercalls, scheduler, pageUse, pages, events, store } = this.guest;
    this.grants = createGrantTable(
      { owner: this.guest.id, ...(options.grantVersion && { version: options.grantVersion }) },
      { hypercalls, scheduler, pages: pageUse, bus: this.bus },
    );
    this.dev = new BlockDevice(
      { device: 51712, ...options.front },
      { pages, grants: this.grants, events, store, scheduler, bus: this.bus, waitFor: (condition) => this.guest.waitFor(condition) },
    );
  }

  /** Runs what can run now, no timers. */
  run(ticks = 0): void {
    this.machine.run({ untilTicks: this.machine.now + ticks });
  }

  async settled<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    const watched = promise.finally(() => {
      over = true;
    });
    watched.catch(() => undefined);
    for (let i = 0; !over && i < 1_000_000; i++) {
      const ran = this.machine.run({ untilTicks: this.machine.now });
      for (let turn = 0; turn < 8 && !over; turn++) await Promise.resolve();
      if (over || ran > 0) continue;
      if (!this.machine.step()) {
        for (let turn = 0; turn < 32 && !over; turn++) await Promise.resolve();
        if (!over && this.machine.idle) throw new Error('nothing is left to run and the promise has not settled');
      }
    }
    return watched;
  }

  page(fill = 0): Gfn {
    const gfn = this.guest.pages.alloc();
    if (gfn === undefined) throw new Error('the guest is out of pages');
    this.taken.push(gfn);
    this.bytes(gfn).fill(fill);
    return gfn;
  }

  bytes(gfn: Gfn): Uint8Array {
    const { views, offset } = this.guest.memory.frame(gfn);
    return views.u8.subarray(offset, offset + 4096);
  }

  freePages(): void {
    for (const gfn of this.taken.splice(0)) this.guest.pages.free(gfn);
  }

  diskBytes(offset: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    const views = { u8: out, u16: new Uint16Array(out.buffer), u32: new Uint32Array(out.buffer) };
    this.inner.read(views, 0, offset, bytes, { done: () => undefined });
    return out;
  }

  front(key: string): string | undefined {
    return this.dom0.store.read(`${this.attached.frontendPath}/${key}`);
  }
  back(key: string): string | undefined {
    return this.dom0.store.read(`${this.attached.backendPath}/${key}`);
  }

  detach(): void {
    detachDisk(this.host, this.attached);
  }

  /** What the device left on either side, by name. */
  leftovers(): string[] {
    const ledger = this.machine.ledger();
    const left: string[] = [...ledger.errors];
    const say = (count: number, what: string): void => {
      if (count > 0) left.push(`${count} ${what}`);
    };
    const guest = ledger.domains.find(({ domid }) => domid === this.guest.id)!;
    const dom0 = ledger.domains.find(({ domid }) => domid === 0)!;
    const usage = this.grants.usage();
    say(guest.pagesLent.length, 'pages lent to the guest');
    say(usage.granted, 'references granted');
    say(usage.private, 'references taken');
    say(usage.deferred, 'references deferred');
    say(guest.ports.length, 'ports of the guest');
    say(guest.watches, 'watches of the guest');
    say(guest.transactions, 'transactions of the guest');
    say(guest.timers, 'timers of the guest');
    say(dom0.handles.length, 'handles of the backend');
    say(dom0.ports.length, 'ports of the backend');
    return left;
  }
}
