import type { Gfn } from '@paravirt/event-bus/contract';
import { eventPortsSuite } from '@paravirt/event-bus/testing';
import { gnttab } from '@paravirt/gnttab';
import { type GuestSide, grantHypercallsSuite } from '@paravirt/gnttab/testing';
import { createVmap, type PageAllocator, type PageTable } from '@paravirt/vmap';
import { pageAllocatorCases, pageTableCases } from '@paravirt/vmap/testing';
import { describe, expect, it } from 'vitest';
import { createMachine, type Domain } from '../src/index.ts';
import { machinePluginSuite, withMachine } from '../src/testing.ts';

const tools = { describe, it, expect };

/** A domain as gnttab's suite has its sides. */
function side(domain: Domain): GuestSide {
  const gfns = [0, 1, 2].map(() => domain.pages.alloc()!) as [Gfn, Gfn, Gfn];
  const first = domain.addresses.alloc(4);
  return {
    domid: domain.id,
    hypercalls: domain.hypercalls,
    gfns,
    vfns: [first, first + 1, first + 2, first + 3],
    page(gfn) {
      const { views, offset } = domain.memory.frame(gfn);
      return views.u8.subarray(offset, offset + 4096);
    },
    mapped(vfn) {
      if (domain.addressSpace.translate(vfn) < 0) return undefined;
      const at = domain.addressSpace.resolve(vfn, false);
      return domain.addressSpace.views.u8.subarray(at, at + 4096);
    },
  };
}

for (const isolated of [false, true]) {
  grantHypercallsSuite(tools, `a machine with ${isolated ? 'a buffer for each domain' : 'one buffer'}`, () => {
    const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
    const granter = machine.createDomain({ pages: 16, grantFramesMax: 4, isolated });
    const grantee = machine.createDomain({ pages: 16, grantFramesMax: 4, isolated });
    return { granter: side(granter), grantee: side(grantee), scheduler: machine.scheduler };
  });
}

eventPortsSuite(tools, 'a machine’s domains', () => {
  const machine = createMachine({ seed: 1, ramBytes: 2 ** 20 });
  const front = machine.createDomain({ pages: 8 });
  const back = machine.createDomain({ pages: 8 });
  return { front: front.events, frontDomid: front.id, back: back.events, backDomid: back.id, run: () => machine.run() };
});

/** The suite names frames as it likes; here each name stands for a frame that the domain has. */
function pageTable(domain: Domain): PageTable {
  const frames = new Map<number, number>();
  const real = (name: number): number => {
    let mfn = frames.get(name);
    if (mfn === undefined) {
      mfn = domain.heap.alloc();
      frames.set(name, mfn);
    }
    return mfn;
  };
  return {
    map(vfn, mfn, count, flags) {
      for (let i = 0; i < count; i++) if (!domain.addressSpace.map(vfn + i, real(mfn + i), 1, flags)) return false;
      return true;
    },
    unmap: (vfn, count) => domain.addressSpace.unmap(vfn, count),
    translate(vfn) {
      const found = domain.addressSpace.translate(vfn);
      for (const [name, mfn] of frames) if (mfn === found) return name;
      return -1;
    },
  };
}

describe('vmap’s page table on a machine', () => {
  for (const { title, run } of pageTableCases) {
    it(title, () => {
      run(() => pageTable(createMachine({ seed: 1, ramBytes: 2 ** 20 }).createDomain({ pages: 8 })));
    });
  }
});

describe('vmap’s page allocator on a machine', () => {
  for (const { title, run } of pageAllocatorCases) {
    it(title, () => {
      run((): PageAllocator => createMachine({ seed: 1, ramBytes: 2 ** 20 }).createDomain({ pages: 8 }).heap);
    });
  }
});

describe('vmap on a machine', () => {
  it('runs on a domain’s page table and heap without an adapter', () => {
    withMachine({ seed: 1, ramBytes: 2 ** 20 }, (machine) => {
      const domain = machine.createDomain({ id: 0, pages: 8 });
      const before = machine.freeFrames;
      const vmap = createVmap({
        regions: [{ name: 'default', start: 0xffff_82c0_0000_0000n, pages: 64 }],
        pageTable: domain.addressSpace,
        pages: domain.heap,
      });
      const { va, frames } = vmap.vmallocAt(0xffff_82d0_0000_0000n, 3 * 4096);
      expect(frames).toHaveLength(3);
      domain.addressSpace.write(va + 4095n, new Uint8Array([1, 2]));
      expect(() => domain.addressSpace.resolve(Number(va / 4096n) + 3, false)).toThrow(/never mapped/);
      vmap.vfree(va);
      expect(() => domain.addressSpace.resolve(Number(va / 4096n), false)).toThrow(/domain 0 unmapped it \(unmap\) at step/);
      vmap.close();
      expect(machine.freeFrames).toBe(before);
    });
  });
});

machinePluginSuite(tools, 'gnttab on a machine', () => ({
  plugin: gnttab(),
  deps: (_machine, _dom0, guest) => ({ hypercalls: guest.hypercalls, scheduler: guest.scheduler }),
}));
