import type { DomId } from '@paravirt/event-bus/contract';
import { tablesOf } from './death.ts';
import type { DomainCore } from './domain.ts';
import { DEVICE_MAP, DEVICE_READ, DEVICE_WRITE, HOST_MAP, HOST_READ, HOST_WRITE, READONLY, WRITE_PINS } from './grants/codes.ts';
import type { Ledger, LedgerEntry } from './ledger.ts';
import { OWNER_FREE, OWNER_XEN } from './memory/frames.ts';
import type { World } from './world.ts';

/** References that the toolstack grants at boot. */
const RESERVED = 8;

function entryOf(world: World, core: DomainCore): LedgerEntry {
  const granted: number[] = [];
  const pinned: number[] = [];
  const { grants, maptrack } = core;
  for (let ref = 0; ref < grants.entries; ref++) {
    if (core.alive && ref >= RESERVED && (grants.flagsOf(ref) & 3) !== 0) granted.push(ref);
    if (grants.pinOf(ref) !== 0) pinned.push(ref);
  }
  const handles: { handle: number; granter: number; gref: number; vfn: number }[] = [];
  for (let handle = 0; handle < maptrack.size; handle++) {
    if (maptrack.flagsOf(handle) === 0) continue;
    handles.push({ handle, granter: maptrack.domidOf(handle), gref: maptrack.refOf(handle), vfn: maptrack.vfnOf(handle) });
  }
  let mappings = -core.bookPages();
  core.space.each((_vfn, _mfn, grant) => {
    if (!grant) mappings++;
  });
  const pagesLent: number[] = [];
  core.pages.eachLent((gfn) => pagesLent.push(gfn));
  const ports: number[] = [];
  if (world.channels.hasDomain(core.id as DomId)) {
    world.channels.eachPort(core.id as DomId, (port) => {
      if (!core.bootPorts.includes(port)) ports.push(port);
    });
  }
  const usage = world.store.usage(core.id as DomId);
  const owned = world.frames.held[core.id]!;
  const tables = tablesOf(core);
  const ram = core.alive ? core.memory.populated + 4 : 0;
  return {
    domid: core.id,
    state: core.state,
    frames: { owned, ram, tables, heap: core.alive ? heapFrames(world, core) - core.bookPages() : 0 },
    pagesLent: core.alive ? pagesLent : [],
    granted,
    pinned,
    handles,
    mappings: core.alive ? mappings : 0,
    ports,
    watches: usage.watches,
    transactions: usage.transactions,
    timers: core.agent.timers,
    pagesInUse: core.alive ? core.pageUse.pages : [],
    plugins: core.plugins.names,
  };
}

/** Allocated frames that neither back guest-physical memory nor hold the grant table. */
function heapFrames(world: World, core: DomainCore): number {
  let allocated = 0;
  const { owner, allocated: held } = world.frames;
  for (let mfn = 0; mfn < world.frames.end; mfn++) if (owner[mfn] === core.id && held[mfn] === 1) allocated++;
  return allocated - core.memory.populated - 4 - tablesOf(core);
}

/**
 * Adds up everything twice: once as the books have it, once from what is there. Cost: a walk over all frames and all tables.
 */
export function takeStock(world: World): Ledger {
  const { frames } = world;
  const cores = world.parties.filter((core) => core !== undefined);
  const errors: string[] = [];
  const references = new Map<number, number>();
  const writers = new Map<number, number>();
  const mapped = new Map<number, number>();
  const add = (into: Map<number, number>, mfn: number, count: number): void => {
    into.set(mfn, (into.get(mfn) ?? 0) + count);
  };
  const pins = new Map<string, number>();
  for (const core of cores) {
    checkMapper(world, core, errors, pins, (mfn, kinds, writable) => {
      add(references, mfn, kinds);
      if (writable) add(writers, mfn, kinds);
    });
    core.space.each((_vfn, mfn, grant) => {
      add(mapped, mfn, 1);
      if (!grant) add(references, mfn, 1);
    });
  }
  for (const core of cores) checkGranter(core, errors, pins);
  let total = 0;
  let free = 0;
  let hypervisor = 0;
  for (const bank of frames.banks) {
    for (let mfn = bank.first; mfn < bank.first + bank.frames; mfn++) {
      total++;
      const owner = frames.owner[mfn]!;
      if (owner === OWNER_FREE) free++;
      else if (owner === OWNER_XEN) {
        hypervisor++;
        continue;
      }
      const wanted = frames.allocated[mfn]! + (references.get(mfn) ?? 0);
      if (frames.refsOf(mfn) !== wanted)
        errors.push(`frame ${mfn} of domain ${owner} counts ${frames.refsOf(mfn)} references, there are ${wanted}`);
      if (frames.writersOf(mfn) !== (writers.get(mfn) ?? 0)) {
        errors.push(`frame ${mfn} counts ${frames.writersOf(mfn)} writers, there are ${writers.get(mfn) ?? 0}`);
      }
      if (frames.mappedOf(mfn) !== (mapped.get(mfn) ?? 0)) {
        errors.push(`frame ${mfn} counts ${frames.mappedOf(mfn)} page-table entries, there are ${mapped.get(mfn) ?? 0}`);
      }
      if (owner === OWNER_FREE && frames.allocated[mfn] === 1 && frames.refsOf(mfn) === 0) frames.allocated[mfn] = 0;
    }
  }
  return {
    step: world.pulse.steps,
    frames: { total, free, hypervisor },
    domains: cores.map((core) => entryOf(world, core)),
    timers: world.loop.own.timers,
    errors,
  };
}

/** Every live handle must stand for a pin of the granter's and, where it is a host mapping, for an entry of the page table. */
function checkMapper(
  world: World,
  core: DomainCore,
  errors: string[],
  pins: Map<string, number>,
  count: (mfn: number, kinds: number, writable: boolean) => void,
): void {
  const { maptrack } = core;
  for (let handle = 0; handle < maptrack.size; handle++) {
    const flags = maptrack.flagsOf(handle);
    if (flags === 0) continue;
    const granter = world.parties[maptrack.domidOf(handle)];
    const ref = maptrack.refOf(handle);
    if (granter === undefined || granter.grants.pinOf(ref) === 0) {
      errors.push(
        `handle ${handle} of domain ${core.id} names reference ${ref} of domain ${maptrack.domidOf(handle)}, which is not pinned`,
      );
      continue;
    }
    const mfn = granter.grants.mfnOf(ref);
    const readonly = (flags & READONLY) !== 0;
    let pin = 0;
    let kinds = 0;
    if ((flags & HOST_MAP) !== 0) {
      pin += readonly ? HOST_READ : HOST_WRITE;
      kinds++;
      if (!core.space.holdsGrant(maptrack.vfnOf(handle), mfn)) {
        errors.push(`handle ${handle} of domain ${core.id} maps frame ${mfn} at page ${maptrack.vfnOf(handle)}, the page table does not`);
      }
    }
    if ((flags & DEVICE_MAP) !== 0) {
      pin += readonly ? DEVICE_READ : DEVICE_WRITE;
      kinds++;
    }
    count(mfn, kinds, !readonly);
    const key = `${granter.id}:${ref}`;
    pins.set(key, (pins.get(key) ?? 0) + pin);
  }
}

/** Every pin must be some handles', and the entry's in-use flags must say so. */
function checkGranter(core: DomainCore, errors: string[], pins: Map<string, number>): void {
  const { grants } = core;
  let pinned = 0;
  for (let ref = 0; ref < grants.entries; ref++) {
    const pin = grants.pinOf(ref);
    const wanted = pins.get(`${core.id}:${ref}`) ?? 0;
    if (pin !== wanted)
      errors.push(`reference ${ref} of domain ${core.id} is pinned ${pin.toString(16)}, its handles say ${wanted.toString(16)}`);
    if (pin === 0) continue;
    pinned++;
    const used = grants.inUseOf(ref) & 0x18;
    const should = 8 | ((pin & WRITE_PINS) === 0 ? 0 : 0x10);
    // The granter may scribble on its own flags under version 1; what is missing is its own doing, what is there too much is ours.
    if ((used & ~should) !== 0 && core.grants.version === 2) {
      errors.push(`reference ${ref} of domain ${core.id} says ${used.toString(16)} in use, its pin ${pin.toString(16)}`);
    }
  }
  if (pinned !== grants.pinned) errors.push(`domain ${core.id} counts ${grants.pinned} pinned references, there are ${pinned}`);
}
