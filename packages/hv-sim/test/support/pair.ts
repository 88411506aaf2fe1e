import type { CopyOp, MapOp, MemoryFrame } from '@paravirt/gnttab';
import { GTF, writeGrantV1, writeGrantV2FullPage } from '@paravirt/xen-abi';
import type { Domain, Machine, MachineOptions } from '../../src/index.ts';
import type { HvSim } from './mutants.ts';

export const HOST = 2;
export const DEVICE = 1;
export const RO = 4;
export const SELF = 0x7ff0;

/** Two domains, the first of which grants to the second, and the calls in one line each. */
export interface Pair {
  readonly machine: Machine;
  readonly granter: Domain;
  readonly mapper: Domain;
  /** Writes an entry of the granter's table in the layout of its version. */
  grant(ref: number, gfn: number, flags?: number, peer?: number): void;
  /** GTF_reading and GTF_writing as the granter sees them. */
  inUse(ref: number): number;
  map(ref: number, flags: number, vfn: number): MapOp;
  unmap(handle: number, vfn: number, mfn?: number): number;
  copy(source: CopyOp['source'], dest: CopyOp['dest'], bytes: number): number;
  setVersion(version: 1 | 2): number;
  readonly table: MemoryFrame[];
  readonly status: MemoryFrame[];
}

/** Domains 1 (granter) and 2 (mapper) of 32 pages each. */
export function pair(hv: Pick<HvSim, 'createMachine'>, options: Partial<MachineOptions> = {}): Pair {
  const machine = hv.createMachine({ seed: 1, ramBytes: 2 ** 20, ...options });
  const granter = machine.createDomain({ pages: 32, grantFramesMax: 4 });
  const mapper = machine.createDomain({ pages: 32, grantFramesMax: 4 });
  const table: MemoryFrame[] = [];
  const status: MemoryFrame[] = [];
  granter.hypercalls.setupTable(1, table);
  let version = 1;
  return {
    machine,
    granter,
    mapper,
    table,
    status,
    grant(ref, gfn, flags = GTF.permit_access, peer = mapper.id) {
      if (version === 1) writeGrantV1(table[ref >>> 9]!.views, table[ref >>> 9]!.offset + (ref & 511) * 8, flags, peer, gfn);
      else writeGrantV2FullPage(table[ref >>> 8]!.views, table[ref >>> 8]!.offset + (ref & 255) * 16, flags, peer, gfn);
    },
    inUse(ref) {
      if (version === 1) return table[ref >>> 9]!.views.u16[(table[ref >>> 9]!.offset + (ref & 511) * 8) / 2]! & 0x18;
      return status[ref >>> 11]!.views.u16[status[ref >>> 11]!.offset / 2 + (ref & 2047)]!;
    },
    map(ref, flags, vfn) {
      const op = { vfn, flags, ref, domid: granter.id, status: 77, handle: -1, mfn: -1 };
      mapper.hypercalls.map([op], 1);
      return op;
    },
    unmap(handle, vfn, mfn = 0) {
      const op = { vfn, handle, mfn, status: 77 };
      mapper.hypercalls.unmap([op], 1);
      return op.status;
    },
    copy(source, dest, bytes) {
      const op = { source, dest, bytes, status: 77 };
      mapper.hypercalls.copy([op], 1);
      return op.status;
    },
    setVersion(wanted) {
      const result = granter.hypercalls.setVersion(wanted);
      if (result === 0) {
        version = wanted;
        status.length = 0;
        if (wanted === 2) granter.hypercalls.getStatusFrames(1, status);
      }
      return result;
    },
  };
}
