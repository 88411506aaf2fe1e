import type { Gfn } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type BlkBuffer, BlockDevice } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';

/** A device whose buffers have pages of any numbers, and all the same bytes. */
function numbered(next: () => number) {
  const world = new World({ grants: 70_000 });
  new Loopback(world, { persistent: true }).start();
  let own = true;
  const back: number[] = [];
  const pages = {
    alloc: () => (own ? world.pages.alloc() : (next() as Gfn)),
    free: (gfn: Gfn) => (own ? world.pages.free(gfn) : void back.push(gfn)),
    frame: (gfn: Gfn) => world.pages.frame(own ? gfn : (0 as Gfn)),
  };
  const dev = new BlockDevice({ device: 51712 }, { ...world.surroundings, pages });
  dev.connectSync();
  own = false;
  return { world, dev, back };
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('alloc' as const), frames: fc.array(fc.nat(400), { minLength: 1, maxLength: 60 }) }),
  fc.record({ kind: fc.constant('free' as const), which: fc.nat() }),
);

/** Goal: whatever was forgotten before it, a page is known for granted until its buffer goes. Method: a set of the pages of the buffers. */
it('knows the pages of buffers that stand and no others, whatever came and went', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom(1, 128, 4096, 65_536), (steps, stride) => {
      const queue: number[] = [];
      const { world, dev, back } = numbered(() => queue.shift()!);
      const before = world.grants.taken;
      const granted = new Set<number>();
      const buffers: BlkBuffer[] = [];
      for (const one of steps) {
        if (one.kind === 'alloc') {
          queue.push(...new Set(one.frames.map((frame) => (frame + 1) * stride).filter((gfn) => !granted.has(gfn))));
          if (queue.length === 0) continue;
          const buffer = dev.allocBuffer(queue.length);
          for (const gfn of buffer.gfns) granted.add(gfn);
          buffers.push(buffer);
        } else if (buffers.length > 0) {
          const [buffer] = buffers.splice(one.which % buffers.length, 1) as [BlkBuffer];
          const gfns = [...buffer.gfns];
          for (const gfn of gfns) granted.delete(gfn);
          buffer.free();
          expect(back.splice(0)).toEqual(gfns);
        }
        for (let frame = 1; frame <= 401; frame++) expect(dev.device.isHeld(frame * stride)).toBe(granted.has(frame * stride));
        expect(world.grants.taken).toBe(before + granted.size);
      }
    }),
    { numRuns: process.env['PARAVIRT_FULL'] === undefined ? 100 : 2000 },
  );
});

it('gives back a buffer of 60,000 pages in a time that grows with its pages', { timeout: 3000 }, () => {
  let gfn = 1;
  const { dev, back } = numbered(() => gfn++);
  const buffer = dev.allocBuffer(60_000);
  buffer.free();
  expect(back).toHaveLength(60_000);
});
