import { MemslotsError } from '../errors.ts';
import { HVA_BAD, HVA_RO_BAD, type Memslots } from '../types.ts';

/** What the suite needs of a test tool: vitest's, node's or anyone's. */
export interface SuiteNeeds {
  /** Makes a group of tests. */
  describe(title: string, body: () => void): void;
  /** Makes a test, which fails when its body throws. */
  it(title: string, body: () => void): void;
  /** An empty table with 509 user slots or more, two address spaces, no hooks that refuse. */
  create(): Memslots;
}

function equal(actual: unknown, expected: unknown, what: string): void {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== e) throw new Error(`${what}: ${a} instead of ${e}`);
}

function refused(call: () => unknown, code: string, ret: number): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof MemslotsError)) throw error;
    equal([error.refusal.code, error.refusal.ret], [code, ret], 'refusal');
    return;
  }
  throw new Error(`not refused, where ${code} was due`);
}

/** What whoever offers {@link Memslots} promises; a run of every implementation, ours or wrapped in another's machine. */
export function memslotsSuite({ describe, it, create }: SuiteNeeds): void {
  const HOST = 0x7f00_0000_0000;

  describe('memory slots', () => {
    it('translate the frames of a slot and no other', () => {
      const slots = create();
      slots.createSlot({ id: 3, baseGfn: 16, pages: 4, userspaceAddr: HOST });
      const seen = [15, 16, 19, 20].map((gfn) => slots.translate(0, gfn));
      equal(seen, [-1, HOST, HOST + 3 * 4096, -1], 'addresses');
      equal([slots.lookup(0, 16), slots.lookup(0, 20), slots.lookup(1, 16)], [3, -1, -1], 'ids');
    });

    it('refuse an overlap, a second time the same id elsewhere of another size, and a delete of nothing, and stay as they were', () => {
      const slots = create();
      slots.createSlot({ id: 0, baseGfn: 0, pages: 8, userspaceAddr: HOST });
      const generation = slots.generation(0);
      refused(() => slots.createSlot({ id: 1, baseGfn: 7, pages: 2, userspaceAddr: HOST }), 'overlap', -17);
      refused(() => slots.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0, memorySize: 4096, userspaceAddr: HOST }), 'changed-size', -22);
      refused(() => slots.deleteSlot(2), 'delete-absent', -22);
      equal([slots.generation(0), slots.usedSlots(0)], [generation, 1], 'generation and slots');
    });

    it('count the generation up by the address spaces at every publication', () => {
      const slots = create();
      const spaces = slots.options.addressSpaces;
      const seen = [slots.generation(1)];
      slots.createSlot({ id: 0, asId: 1, baseGfn: 0, pages: 1, userspaceAddr: HOST });
      seen.push(slots.generation(1));
      slots.moveSlot(0, 5, 1);
      seen.push(slots.generation(1));
      slots.setFlags(0, 1, 1);
      seen.push(slots.generation(1));
      slots.deleteSlot(0, 1);
      seen.push(slots.generation(1));
      equal(seen, [1, 1 + spaces, 1 + 3 * spaces, 1 + 4 * spaces, 1 + 6 * spaces], 'generations');
    });

    it('answer write and read translations of a read-only slot apart', () => {
      const slots = create();
      slots.createSlot({ id: 0, baseGfn: 0, pages: 1, userspaceAddr: HOST, flags: 2 });
      equal(
        [slots.gfnToHva(0, 0), slots.gfnToHva(0, 1), slots.translate(0, 0), slots.translateRead(0, 0)],
        [HVA_RO_BAD, HVA_BAD, -1, HOST],
        'hva',
      );
      equal(slots.gfnToHvaProt(0, 0), { hva: HOST, writable: false }, 'protection');
    });

    it('log the pages that were marked and no other, across a move', () => {
      const slots = create();
      slots.createSlot({ id: 0, baseGfn: 100, pages: 64 * 2 + 3, userspaceAddr: HOST, flags: 1 });
      for (const page of [0, 63, 64, 130]) slots.markPageDirty(0, 100 + page);
      slots.markPageDirty(0, 99);
      slots.markPageDirty(0, 231);
      slots.moveSlot(0, 1000);
      const { bytes, runs } = slots.getDirtyLog(0);
      equal(
        [bytes, runs],
        [
          24,
          [
            [0, 1],
            [63, 2],
            [130, 1],
          ],
        ],
        'dirty log',
      );
    });

    it('find slots by host address, those that share memory too', () => {
      const slots = create();
      slots.createSlot({ id: 0, baseGfn: 0, pages: 4, userspaceAddr: HOST });
      slots.createSlot({ id: 1, baseGfn: 50, pages: 4, userspaceAddr: HOST + 2 * 4096 });
      const hits = slots.hvaRange(HOST + 3 * 4096 + 1, HOST + 3 * 4096 + 2).map(({ id, firstGfn, endGfn }) => [id, firstGfn, endGfn]);
      equal(
        hits,
        [
          [1, 51, 52],
          [0, 3, 4],
        ],
        'hits',
      );
    });

    it('show a snapshot what was, and readers of now what is', () => {
      const slots = create();
      slots.createSlot({ id: 0, baseGfn: 0, pages: 4, userspaceAddr: HOST });
      const before = slots.snapshot();
      slots.moveSlot(0, 10);
      equal([before.gfnToMemslot(0), slots.lookup(0, 0), before.gfnToMemslot(10), slots.lookup(0, 10)], [0, -1, -1, 0], 'ids');
      before.release();
    });

    it('give rows from highest frame to lowest', () => {
      const slots = create();
      for (const [id, baseGfn] of [
        [7, 30],
        [2, 90],
        [5, 0],
      ] as const)
        slots.createSlot({ id, baseGfn, pages: 1, userspaceAddr: HOST });
      equal(
        [...slots.slots()].map(({ id }) => id),
        [2, 7, 5],
        'order',
      );
    });
  });
}
