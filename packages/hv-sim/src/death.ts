import type { DomId } from '@paravirt/event-bus/contract';
import type { DomainCore } from './domain.ts';
import { dropTable } from './grants/version.ts';
import type { World } from './world.ts';

/**
 * Ends a domain's life. The order is such that nothing dangles: first nothing of it runs any more, then nothing can reach it, then
 * it lets go of others' pages, and last of its own, which stay as long as others hold them.
 */
export function killDomain(world: World, core: DomainCore, reason: string): void {
  if (!core.alive) return;
  core.state = 'dying';
  core.alive = false;
  core.plugins.abandon();
  world.loop.queue.remove(core.agent);
  core.agent.clear();
  core.agent.paused = true;
  world.clock.dropAgent(core.agent);
  world.services.unbind(core.id);
  world.channels.removeDomain(core.id as DomId);
  core.connection.close();
  world.toolstack.withdraw(core.id);
  world.store.release(core.id as DomId);
  world.maps.releaseAll(core);
  core.space.destroy();
  core.memory.destroy();
  releaseHeap(world, core);
  if (world.bus.observed('hv:destroyed')) world.bus.emit('hv:destroyed', { domid: core.id as DomId, reason });
  settleDead(world, core);
}

/** Frames that the domain took for itself, outside its guest-physical memory. */
function releaseHeap(world: World, core: DomainCore): void {
  const { frames } = world;
  if (frames.held[core.id] === tablesOf(core)) return;
  const tables = new Set<number>(core.tableReserve);
  for (let i = 0; i < core.grants.frames; i++) tables.add(core.grants.sharedMfn[i]!);
  for (let i = 0; i < core.grants.statusFrames; i++) tables.add(core.grants.statusMfn[i]!);
  for (let mfn = 0; mfn < frames.end; mfn++) {
    if (frames.owner[mfn] === core.id && frames.allocated[mfn] === 1 && !tables.has(mfn)) frames.giveUp(mfn, core.id);
  }
}

/** Frames that hold the domain's grant table, or are kept for it. */
export function tablesOf(core: DomainCore): number {
  return core.tableReserve.length > 0 ? core.tableReserve.length : core.grants.frames + core.grants.statusFrames;
}

/** Whether the last page of a dead domain has come back; if so it goes, and its domid is free. */
export function settleDead(world: World, core: DomainCore): void {
  const { frames } = world;
  if (core.state !== 'dying' || core.grants.pinned > 0 || frames.held[core.id] !== tablesOf(core)) return;
  core.state = 'gone';
  if (core.tableReserve.length > 0) {
    for (const mfn of core.tableReserve) frames.giveUp(mfn, core.id);
    core.tableReserve = [];
  } else dropTable(core.grants, frames);
  if (core.bank !== undefined) frames.dropBank(core.bank);
  world.parties[core.id] = undefined;
  if (world.bus.observed('hv:gone')) world.bus.emit('hv:gone', { domid: core.id as DomId });
}
