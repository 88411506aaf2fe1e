import type { DomId } from '@paravirt/event-bus/contract';
import { createVmap, type Vmap } from '@paravirt/vmap';
import { sharedInfoOffsets } from '@paravirt/xen-abi';
import { CONSOLE_RING, SHARED_INFO, START_INFO, STORE_RING, writeReservedGrants, writeStartInfo, writeWallClock } from './boot.ts';
import { DomainCore } from './domain.ts';
import { HvError, whole } from './errors.ts';
import { Hypercalls } from './grants/hypercalls.ts';
import { growTable, type TableFrames } from './grants/version.ts';
import { AddressSpace } from './memory/address-space.ts';
import { type Bank, type MemorySource, PAGE } from './memory/frames.ts';
import { GuestMemory, GuestPageList } from './memory/guest-memory.ts';
import { PageUses } from './page-use.ts';
import type { DomainAddresses, DomainOptions } from './types.ts';
import type { World } from './world.ts';

/** Virtual page at which a domain's own mappings begin. */
const ADDRESSES_FROM = 256;
/** Pages that a machine-wide domid space has: DOMID_FIRST_RESERVED less the services' own. */
export const DOMIDS_MAX = 0x7fe0;

/** The frames of a domain's grant table: from its heap, or those that were kept at their place in its own buffer. */
function tableFrames(world: World, core: DomainCore): TableFrames {
  const gfnOf = (kind: 'shared' | 'status', index: number): number =>
    (kind === 'shared' ? core.memory.grantGfn : core.memory.statusGfn) + index;
  return {
    take(kind, index) {
      // Not while the domain is being made: the frame that the toolstack's grants stand in is part of it.
      if (core.face !== undefined && world.faults.wants('ref-alloc') && world.faults.strike('ref-alloc', core.id) >= 0) return -1;
      const gfn = gfnOf(kind, index);
      const kept = core.tableReserve[gfn - core.memory.grantGfn];
      const mfn = kept ?? world.frames.alloc(core.heap, core.id);
      if (mfn < 0) return -1;
      if (kept !== undefined) world.frames.clear(kept);
      core.memory.place(gfn, mfn);
      return mfn;
    },
    give(kind, index, mfn) {
      core.memory.displace(gfnOf(kind, index));
      // A frame of the reserve stays there, for the next time.
      if (core.tableReserve.length === 0) world.frames.giveUp(mfn, core.id);
    },
  };
}

function ownBank(world: World, options: DomainOptions, others: number, ramPages: number): { bank: Bank; ramPages: number } | undefined {
  let source: MemorySource | undefined = options.memory;
  if (source === undefined && options.isolated === true) source = { buffer: new ArrayBuffer((ramPages + others) * PAGE) };
  if (source === undefined) return undefined;
  const heap = world.frames.addHeap();
  const bank = world.frames.addBank(source, heap, options.memoryPagesMax);
  const left = bank.frames - others;
  if (left < 1) {
    world.frames.dropBank(bank);
    throw new HvError({
      code: 'bad-argument',
      argument: 'memory bytes',
      value: String(bank.frames * PAGE),
      allowed: `at least ${(1 + others) * PAGE}: a page of RAM, and ${others} for boot, grant table and heap`,
    });
  }
  return { bank, ramPages: left };
}

/**
 * Makes a domain: memory, page table, grant table, event channels, store connection, boot pages. What cannot be had is refused
 * with everything undone.
 */
export function buildDomain(world: World, options: DomainOptions, id: number): DomainCore {
  const grantFramesMax = whole('grantFramesMax', options.grantFramesMax ?? 64, 1, 65_536);
  const statusFramesMax = Math.ceil(grantFramesMax / 8);
  const wanted = whole('pages', options.pages ?? 1024, 1, 2 ** 26);
  const handlesMax = whole('handlesMax', options.handlesMax ?? 262_144, 1, 2 ** 24);
  const windowPages = whole('windowPages', options.windowPages ?? 2 ** 20, 1, 2 ** 24);
  const words = sharedInfoOffsets(options.abi ?? 'x86_64');
  // The store's and the console's ports are the first two.
  if (options.portMax !== undefined) whole('portMax', options.portMax, 2, words.ports - 1);
  const heapPages = whole('heapPages', options.heapPages ?? 8, 0, 2 ** 26);
  const commandLine = options.commandLine ?? '';
  if (commandLine.length > 1023) {
    throw new HvError({
      code: 'bad-argument',
      argument: 'commandLine',
      value: `${commandLine.length} bytes`,
      allowed: 'at most 1023 bytes',
    });
  }
  whole('reservedPages', options.reservedPages ?? 0, 0, 2 ** 26);
  const own = ownBank(world, options, 4 + grantFramesMax + statusFramesMax + heapPages, wanted);
  const ramPages = own?.ramPages ?? wanted;
  const reservedPages = Math.min(options.reservedPages ?? 0, ramPages);
  const core = new DomainCore({
    id,
    name: options.name ?? `domain-${id}`,
    abi: options.abi ?? 'x86_64',
    privileged: options.privileged ?? id === 0,
    grantFramesMax,
    handlesMax,
    bank: own?.bank,
    heap: own?.bank.heap ?? world.heap,
    tableFrames: (self) => tableFrames(world, self),
  });
  const { frames } = world;
  const needed = ramPages + 5;
  if (own === undefined && frames.free(world.heap) < needed) {
    throw new HvError({ code: 'out-of-memory', wanted: needed, free: frames.free(world.heap) });
  }
  core.memory = new GuestMemory({
    domid: id,
    frames,
    heap: core.heap,
    ramPages,
    reservedPages,
    grantFramesMax,
    statusFramesMax,
    bank: own?.bank,
  });
  core.memory.populateAll();
  const special = core.memory.specialGfn;
  core.boot = [START_INFO, SHARED_INFO, STORE_RING, CONSOLE_RING].map((at) => {
    const mfn = frames.alloc(core.heap, id);
    core.memory.place(special + at, mfn);
    return frames.frame(mfn);
  });
  if (own !== undefined) {
    // The table's frames stand where the domain's own addresses have them, whenever they come into use.
    for (let i = 0; i < grantFramesMax + statusFramesMax; i++) core.tableReserve.push(frames.alloc(core.heap, id));
  }
  world.parties[id] = core;

  core.space = new AddressSpace({
    frames,
    now: world.pulse,
    domid: id,
    windowPages,
    chunksMax: 65_536,
  });
  core.pages = new GuestPageList(core.memory, frames, reservedPages);
  core.pageUse = new PageUses(core.pages);
  core.allocator = core.memory.allocator();
  core.addresses = addressesOf(core);
  core.scheduler = world.clock.schedulerFor(core.agent, () => core.alive);
  core.hypercalls = new Hypercalls({
    party: core,
    world,
    maps: world.maps,
    copies: world.copies,
    frames,
    bus: world.bus,
    pulse: world.pulse,
    tableFrames: (party) => (party as DomainCore).tableFrames,
    alive: options.memory === undefined ? () => core.alive : () => core.memory.refresh() >= 0 && core.alive,
  });
  growTable(core.grants, 1, core.tableFrames, frames);

  const shared = core.boot[SHARED_INFO]!;
  core.ports = world.channels.addDomain({
    domid: id as DomId,
    views: shared.views,
    offset: shared.offset,
    layout: {
      wordBits: words.wordBits,
      pending: words.evtchnPending,
      mask: words.evtchnMask,
      upcallPending: words.upcallPending,
      upcallMask: words.upcallMask,
      pendingSel: words.pendingSel,
    },
    ...(options.portMax === undefined ? {} : { portMax: options.portMax }),
  });
  world.store.introduce(id as DomId);
  core.connection = world.store.connect(id as DomId);
  world.services.bind(core);
  world.toolstack.announce(core);
  const open: number[] = [];
  world.channels.eachPort(id as DomId, (port) => open.push(port));
  core.bootPorts = open;

  const start = core.boot[START_INFO]!;
  writeStartInfo(start.views, start.offset, {
    abi: core.abi,
    pages: ramPages,
    sharedInfoGfn: special + SHARED_INFO,
    storeGfn: special + STORE_RING,
    storePort: core.storePort,
    consoleGfn: special + CONSOLE_RING,
    consolePort: core.consolePort,
    privileged: core.privileged,
    commandLine,
  });
  writeWallClock(shared.views, shared.offset, core.abi, world.clock.now);
  const table = frames.frame(core.grants.sharedMfn[0]!);
  writeReservedGrants(table.views, table.offset, 0, special + CONSOLE_RING, special + STORE_RING);
  return core;
}

/** Addresses for grant mappings: a vmap region over the window, made at first use. */
function addressesOf(core: DomainCore): DomainAddresses {
  let vmap: Vmap | undefined;
  const region = () => {
    if (vmap === undefined) {
      const made = createVmap({
        regions: [{ name: 'default', start: BigInt(ADDRESSES_FROM * PAGE), pages: 2 ** 20 - ADDRESSES_FROM }],
        pageTable: core.space,
        pages: core.allocator,
      });
      core.bookPages = () => made.counters.bitmapPages;
      vmap = made;
    }
    return vmap.region('default');
  };
  return {
    alloc: (pages) => region().vmAlloc(pages),
    free: (vfn) => {
      region().vmFree(vfn);
    },
  };
}
