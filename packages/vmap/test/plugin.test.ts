import { createEventBus } from '@paravirt/event-bus';
import { createPageHeap, createPageTable, createVmap, type VmapEvents, vmap } from '@paravirt/vmap';
import { describe, expect, expectTypeOf, it } from 'vitest';

const START = 0xffff_82c0_0000_0000n;
const regions = [{ name: 'default', start: START, pages: 256 }];

describe('the plugin', () => {
  it('names what it requires, and gives everything back when it is detached', () => {
    const record = vmap({ regions });
    expect(record).toMatchObject({ name: 'vmap', requires: ['bus', 'pageTable', 'pages'] });
    const pageTable = createPageTable();
    const pages = createPageHeap();
    const { api, detach } = record.attach({ bus: createEventBus<VmapEvents>(), pageTable, pages });
    api.vmalloc(3 * 4096);
    api.vmap([1, 2, 3]);
    api.vmallocAt(START + 0x4000_0000n, 8192);
    expect([pages.live, pageTable.mapped]).toEqual([6, 9]);
    detach();
    expect([pages.live, pageTable.mapped, pageTable.tables]).toEqual([0, 0, 0]);
  });

  it('attaches whole or not at all', () => {
    const pageTable = createPageTable();
    const pages = createPageHeap({ pages: 1 });
    const two = [...regions, { name: 'xen', start: START + 0x1_0000_0000n, pages: 64 }];
    expect(() => vmap({ regions: two }).attach({ bus: createEventBus<VmapEvents>(), pageTable, pages })).toThrow('no page for the bitmap');
    expect([pages.live, pageTable.mapped]).toEqual([0, 0]);
  });

  it('tells what was mapped and unmapped, after it happened, and nothing of raw address space', () => {
    const bus = createEventBus<VmapEvents>();
    const facts: unknown[] = [];
    const pageTable = createPageTable();
    for (const type of ['vmap:mapped', 'vmap:unmapped'] as const) {
      bus.on(type).subscribe((fact) => facts.push([type, fact, pageTable.translate(fact.vfn) >= 0]));
    }
    const { api } = vmap({ regions, compat: 'xen' }).attach({ bus, pageTable, pages: createPageHeap() });
    const area = api.vmap([5], { owner: 'apic' })!;
    const vfn = Number(area >> 12n);
    api.vmFree(api.vmAlloc(4));
    api.vunmap(area);
    const outside = api.vmallocAt(START + 0x4000_0000n, 1)!.va;
    api.vfree(outside);
    const forwarded = api.vmallocCb(4096, (frames) => api.vmap(frames))!.va;
    api.vfree(forwarded);
    const fact = { vfn, pages: 1, kind: 'vmap', region: 'default', owner: 'apic' };
    const far = { vfn: Number(outside >> 12n), pages: 1, kind: 'outside', region: null, owner: null };
    expect(facts).toEqual([
      ['vmap:mapped', fact, true],
      ['vmap:unmapped', fact, false],
      ['vmap:mapped', far, true],
      ['vmap:unmapped', far, false],
      ['vmap:mapped', { ...fact, owner: null }, true],
      ['vmap:unmapped', { ...fact, kind: 'vmalloc', owner: null }, false],
    ]);
  });
});

describe('the types', () => {
  it('know that strict mode throws where compat mode answers null', () => {
    const setup = { regions, pageTable: createPageTable(), pages: createPageHeap() };
    const strict = createVmap(setup);
    expectTypeOf(strict.vmalloc(1)).toEqualTypeOf<bigint>();
    expectTypeOf(strict.vmallocCb(1, null).frames).toEqualTypeOf<readonly number[]>();
    const compat = createVmap({ ...setup, pageTable: createPageTable(), compat: 'xen' });
    expectTypeOf(compat.vmalloc(1)).toEqualTypeOf<bigint | null>();
    expect(compat.vmAlloc(1, { region: 'absent' })).toBeNull();
  });
});
