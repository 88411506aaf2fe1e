import type { DomId, Gfn } from '@paravirt/event-bus/contract';
import { GNTMAP, GNTST, GTF } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import type { GrantTable } from './api.ts';
import { createGrantTable } from './table.ts';
import { mapOp, unmapOp } from './table-fixture.ts';
import type { CopyOp, GrantHypercalls } from './types.ts';

/** What the suite needs of a test tool; vitest, jest and node:test with an `expect` fit. */
export interface SuiteTools {
  /** Makes a group of tests. */
  describe(title: string, body: () => void): void;
  /** Makes a test, which fails when its body throws. */
  it(title: string, body: () => void): void;
  /** Begins an assertion, which throws when it does not hold. */
  expect(actual: unknown): {
    /** The same value. */
    toBe(expected: unknown): void;
    /** Equal in every part. */
    toEqual(expected: unknown): void;
  };
}

/** One domain of the world under test. */
export interface GuestSide {
  readonly domid: DomId;
  readonly hypercalls: GrantHypercalls;
  /** Three frames of its own memory. */
  readonly gfns: readonly [Gfn, Gfn, Gfn];
  /** Four virtual frames where nothing is mapped yet. */
  readonly vfns: readonly [number, number, number, number];
  /** Bytes of one of its own frames, writable in place. */
  page(gfn: Gfn): Uint8Array;
  /** Bytes mapped at a virtual frame; undefined when nothing is. */
  mapped(vfn: number): Uint8Array | undefined;
}

/** Two domains of one hypervisor, fresh for every test. */
export interface GrantWorld {
  readonly granter: GuestSide;
  readonly grantee: GuestSide;
  readonly scheduler: SchedulerLike;
}

/**
 * The suite of `GrantHypercalls`: what a grant table counts on. Every implementation runs it against worlds of its own.
 * @param versions the entry layouts the hypervisor has.
 */
export function grantHypercallsSuite(
  tools: SuiteTools,
  name: string,
  makeWorld: () => GrantWorld,
  versions: readonly (1 | 2)[] = [1, 2],
): void {
  const { describe } = tools;
  for (const version of versions) describe(`grant hypercalls of ${name}, version ${version}`, () => suite(tools, makeWorld, version));
}

function suite({ it, expect }: SuiteTools, makeWorld: () => GrantWorld, version: 1 | 2): void {
  const start = (): GrantWorld & { table: GrantTable; grant(readonly: boolean): number } => {
    const world = makeWorld();
    const { granter, grantee, scheduler } = world;
    const table = createGrantTable({ owner: granter.domid, version }, { hypercalls: granter.hypercalls, scheduler });
    const grant = (readonly: boolean): number => table.grantForeignAccess({ peer: grantee.domid, gfn: granter.gfns[0], readonly });
    return { ...world, table, grant };
  };

  it('answers how long the table is and may get, and grows it on request', () => {
    const { granter } = start();
    const size = { frames: 0, maxFrames: 0 };
    expect(granter.hypercalls.querySize(size)).toBe(GNTST.okay);
    expect(size.frames >= 1 && size.maxFrames >= size.frames).toBe(true);
    const frames: [] = [];
    expect(granter.hypercalls.setupTable(size.maxFrames + 1, frames) < 0).toBe(true);
    if (size.maxFrames < 2) return;
    expect(granter.hypercalls.setupTable(2, frames)).toBe(GNTST.okay);
    expect(frames.length).toBe(2);
    granter.hypercalls.querySize(size);
    expect(size.frames >= 2).toBe(true);
  });

  it('maps a granted page, shows its bytes, and marks it in use until the last mapping goes', () => {
    const { granter, grantee, table, grant } = start();
    const ref = grant(false);
    const maps = [0, 1].map((i) => mapOp({ vfn: grantee.vfns[i]!, ref, domid: granter.domid }));
    expect(grantee.hypercalls.map(maps, 2)).toBe(0);
    expect(maps.map((op) => op.status)).toEqual([0, 0]);
    expect(maps[0]!.handle === maps[1]!.handle).toBe(false);
    granter.page(granter.gfns[0])[5] = 77;
    expect(grantee.mapped(grantee.vfns[0])?.[5]).toBe(77);
    const unmaps = maps.map((op) => unmapOp(op.vfn, op.handle));
    expect(table.isInUse(ref as never)).toBe(true);
    expect(table.tryEnd(ref as never)).toBe(false);
    expect(grantee.hypercalls.unmap(unmaps, 1)).toBe(0);
    expect(table.isInUse(ref as never)).toBe(true);
    expect(grantee.hypercalls.unmap([unmaps[1]!], 1)).toBe(0);
    expect(unmaps.map((op) => op.status)).toEqual([0, 0]);
    expect(table.isInUse(ref as never)).toBe(false);
    expect(table.tryEnd(ref as never)).toBe(true);
    expect(grantee.mapped(grantee.vfns[0])).toBe(undefined);
  });

  it('sets the reading bit for a read-only mapping and both for a writable one', () => {
    const { granter, grantee, table, grant } = start();
    const ref = grant(false);
    const uses = (): number => (version === 1 ? table.entryBytes(ref as never)[0]! & (GTF.reading | GTF.writing) : -1);
    const reading = mapOp({ vfn: grantee.vfns[0], ref, domid: granter.domid, readonly: true });
    const writing = mapOp({ vfn: grantee.vfns[1], ref, domid: granter.domid });
    grantee.hypercalls.map([reading], 1);
    if (version === 1) expect(uses()).toBe(GTF.reading);
    grantee.hypercalls.map([writing], 1);
    if (version === 1) expect(uses()).toBe(GTF.reading | GTF.writing);
    grantee.hypercalls.unmap([unmapOp(writing.vfn, writing.handle)], 1);
    if (version === 1) expect(uses()).toBe(GTF.reading);
    expect(table.isInUse(ref as never)).toBe(true);
    grantee.hypercalls.unmap([unmapOp(reading.vfn, reading.handle)], 1);
    expect(table.isInUse(ref as never)).toBe(false);
  });

  it('gives every element its own status and goes on after one that fails', () => {
    const { granter, grantee, grant } = start();
    const ref = grant(true);
    const ops = [
      mapOp({ vfn: grantee.vfns[0], ref, domid: granter.domid }),
      mapOp({ vfn: grantee.vfns[1], ref: 0x00ff_ffff, domid: granter.domid, readonly: true }),
      mapOp({ vfn: grantee.vfns[2], ref, domid: granter.domid, readonly: true }),
    ];
    for (const op of ops) op.status = 99;
    expect(grantee.hypercalls.map(ops, 3)).toBe(0);
    expect(ops[0]!.status < 0).toBe(true);
    expect(ops[1]!.status).toBe(GNTST.bad_gntref);
    expect(ops[2]!.status).toBe(GNTST.okay);
    grantee.hypercalls.unmap([unmapOp(ops[2]!.vfn, ops[2]!.handle)], 1);
  });

  it('touches no element beyond the count', () => {
    const { granter, grantee, grant } = start();
    const ref = grant(false);
    const ops = [0, 1].map((i) => mapOp({ vfn: grantee.vfns[i]!, ref, domid: granter.domid }));
    ops[1]!.status = 99;
    grantee.hypercalls.map(ops, 1);
    expect(ops.map((op) => op.status)).toEqual([0, 99]);
    grantee.hypercalls.unmap([unmapOp(ops[0]!.vfn, ops[0]!.handle)], 1);
  });

  it('refuses an entry that is closed, or open to another domain', () => {
    const { granter, grantee, table, grant } = start();
    const ref = grant(false);
    const op = mapOp({ vfn: grantee.vfns[0], ref, domid: granter.domid });
    table.tryEnd(ref as never);
    grantee.hypercalls.map([op], 1);
    expect(op.status < 0).toBe(true);
    table.publish(ref as never, granter.domid, granter.gfns[0], false);
    grantee.hypercalls.map([op], 1);
    expect(op.status < 0).toBe(true);
    expect(table.isInUse(ref as never)).toBe(false);
  });

  it('refuses a domain that is not there, and a handle that names nothing', () => {
    const { grantee } = start();
    const op = mapOp({ vfn: grantee.vfns[0], ref: 8, domid: 0x7ab });
    grantee.hypercalls.map([op], 1);
    expect(op.status).toBe(GNTST.bad_domain);
    const gone = unmapOp(grantee.vfns[0], 0x7fff_0000);
    grantee.hypercalls.unmap([gone], 1);
    expect(gone.status).toBe(GNTST.bad_handle);
  });

  it('unmaps a mapping once', () => {
    const { granter, grantee, grant } = start();
    const op = mapOp({ vfn: grantee.vfns[0], ref: grant(false), domid: granter.domid });
    grantee.hypercalls.map([op], 1);
    const twice = [unmapOp(op.vfn, op.handle), unmapOp(op.vfn, op.handle)];
    grantee.hypercalls.unmap(twice, 2);
    expect(twice.map((one) => one.status)).toEqual([GNTST.okay, GNTST.bad_handle]);
  });

  it('copies from and to references and own frames, within a page', () => {
    const { granter, grantee, grant, table } = start();
    const ref = grant(false);
    const own = grantee.gfns[0];
    granter.page(granter.gfns[0]).fill(3);
    grantee.page(own).fill(9);
    const op: CopyOp = {
      source: { isRef: true, frameOrRef: ref, domid: granter.domid, offset: 100 },
      dest: { isRef: false, frameOrRef: own, domid: grantee.domid, offset: 200 },
      bytes: 50,
      status: 99,
    };
    expect(grantee.hypercalls.copy([op], 1)).toBe(0);
    expect(op.status).toBe(GNTST.okay);
    const bytes = grantee.page(own);
    expect([bytes[199], bytes[200], bytes[249], bytes[250]]).toEqual([9, 3, 3, 9]);
    expect(table.isInUse(ref as never)).toBe(false);
    op.bytes = 4000;
    grantee.hypercalls.copy([op], 1);
    expect(op.status < 0).toBe(true);
  });

  it('refuses to copy into a read-only reference', () => {
    const { granter, grantee, grant } = start();
    const ref = grant(true);
    const before = granter.page(granter.gfns[0])[0];
    const op: CopyOp = {
      source: { isRef: false, frameOrRef: grantee.gfns[0], domid: grantee.domid, offset: 0 },
      dest: { isRef: true, frameOrRef: ref, domid: granter.domid, offset: 0 },
      bytes: 16,
      status: 99,
    };
    grantee.page(grantee.gfns[0]).fill((before ?? 0) + 1);
    grantee.hypercalls.copy([op], 1);
    expect(op.status < 0).toBe(true);
    expect(granter.page(granter.gfns[0])[0]).toBe(before);
  });

  it('refuses to switch the layout while a reference is mapped', () => {
    const { granter, grantee, grant } = start();
    const op = mapOp({ vfn: grantee.vfns[0], ref: grant(false), domid: granter.domid });
    grantee.hypercalls.map([op], 1);
    const other = version === 1 ? 2 : 1;
    expect(granter.hypercalls.setVersion(other) < 0).toBe(true);
    grantee.hypercalls.unmap([unmapOp(op.vfn, op.handle)], 1);
  });

  it('refuses a mapping that is neither for the host nor for a device', () => {
    const { granter, grantee, grant } = start();
    const op = mapOp({ vfn: grantee.vfns[0], ref: grant(false), domid: granter.domid });
    op.flags &= ~GNTMAP.host_map;
    grantee.hypercalls.map([op], 1);
    expect(op.status < 0).toBe(true);
  });
}
