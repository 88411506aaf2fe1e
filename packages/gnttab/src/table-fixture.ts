import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { GNTMAP } from '@paravirt/xen-abi';
import type { GrantTable, GrantTableOptions } from './api.ts';
import type { GnttabEvents } from './events.ts';
import { type FakeDomain, FakeHypervisor, type FakeHypervisorOptions } from './fake-hypervisor.ts';
import { type Recorded, recorderBus } from './recorder.ts';
import { createGrantTable } from './table.ts';
import { TickScheduler } from './tick-scheduler.ts';
import type { MapOp, UnmapOp } from './types.ts';

export interface TableFixtureOptions extends GrantTableOptions, FakeHypervisorOptions {
  /** Whether facts are recorded. Default true; without, the table has no bus. */
  readonly record?: boolean;
}

/** How often a page is held, in the table's `PageUse`; a page that nobody touched counts 1. */
export interface PageCounts {
  /** Users of the page, 0 for one never counted. */
  get(page: number): number;
  /** Adds to the users of the page. */
  add(page: number, delta: number): void;
}

/** A domain with a grant table, and whatever it takes to use one. */
export interface TableFixture {
  readonly table: GrantTable;
  readonly clock: TickScheduler;
  readonly hypervisor: FakeHypervisor;
  /** The table's domain. */
  readonly guest: FakeDomain;
  readonly pages: PageCounts;
  /** The facts so far, in order. */
  readonly facts: Recorded<GnttabEvents>[];
  /** Types of the facts so far, without `gnttab:`. */
  factTypes(): string[];
  /** Maps a reference of the table as `peer`; gives the handle. @throws when the hypervisor refuses. */
  mapAs(peer: DomId, gref: Gref, readonly?: boolean): number;
  /** Ends a mapping made with `mapAs`. @throws when the hypervisor refuses. */
  unmapAs(peer: DomId, handle: number): void;
}

/** Makes a table over a hypervisor in memory, with a clock that moves when told to. */
export function tableFixture(options: TableFixtureOptions = {}): TableFixture {
  const { owner = 1 as DomId, record = true } = options;
  const hypervisor = new FakeHypervisor(options);
  const guest = hypervisor.domain(owner);
  const clock = new TickScheduler();
  const facts: Recorded<GnttabEvents>[] = [];
  const counts = new Map<number, number>();
  const pages: PageCounts = {
    get: (page) => counts.get(page) ?? 1,
    add: (page, delta) => counts.set(page, (counts.get(page) ?? 1) + delta),
  };
  const table = createGrantTable(
    { ...options, owner },
    {
      hypercalls: guest.hypercalls,
      scheduler: clock,
      ...(record ? { bus: recorderBus<GnttabEvents>((fact) => facts.push(fact)) } : {}),
      pages: { inUse: (page) => pages.get(page) > 1, hold: (page) => pages.add(page, 1), release: (page) => pages.add(page, -1) },
    },
  );
  // Handles count from the start in every domain.
  const place = (peer: number, handle: number): number => peer * 2 ** 32 + handle;
  const places = new Map<number, number>();
  let vfn = 0x1000;
  return {
    table,
    clock,
    hypervisor,
    guest,
    pages,
    facts,
    factTypes: () => facts.map(({ type }) => type.slice('gnttab:'.length)),
    mapAs(peer, gref, readonly = false) {
      const op = mapOp({ vfn: vfn++, ref: gref, domid: owner, readonly });
      hypervisor.domain(peer).hypercalls.map([op], 1);
      if (op.status !== 0) throw new Error(`mapping reference ${gref} as domain ${peer} gave status ${op.status}`);
      places.set(place(peer, op.handle), op.vfn);
      return op.handle;
    },
    unmapAs(peer, handle) {
      const op = unmapOp(places.get(place(peer, handle)) ?? 0, handle);
      hypervisor.domain(peer).hypercalls.unmap([op], 1);
      if (op.status !== 0) throw new Error(`unmapping handle ${handle} as domain ${peer} gave status ${op.status}`);
      places.delete(place(peer, handle));
    },
  };
}

/** An element of a map batch: a host mapping of `ref` of `domid` at `vfn`. */
export function mapOp(options: { readonly vfn: number; readonly ref: number; readonly domid: number; readonly readonly?: boolean }): MapOp {
  const { vfn, ref, domid, readonly = false } = options;
  const flags = readonly ? GNTMAP.host_map | GNTMAP.readonly : GNTMAP.host_map;
  return { vfn, flags, ref, domid, status: 0, handle: 0, mfn: 0 };
}

/** An element of an unmap batch. */
export function unmapOp(vfn: number, handle: number): UnmapOp {
  return { vfn, handle, status: 0 };
}

/** Fills a page of a domain's own memory. */
export function fillPage(domain: FakeDomain, gfn: Gfn, byte: number): void {
  const { views, offset } = domain.page(gfn);
  views.u8.fill(byte, offset, offset + 4096);
}
