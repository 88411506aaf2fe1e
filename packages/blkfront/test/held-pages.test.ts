import { describe, expect, it } from 'vitest';
import { connected, noLeaks, settled } from './fixture.ts';

/** Frames that the backend has mapped now, those of the ring left out. */
function mapped({ world, back }: ReturnType<typeof connected>): number[] {
  const { words, entries } = world.grants;
  const rings = new Set(back.queues.flatMap(({ refs }) => refs));
  const frames: number[] = [];
  for (let gref = 8; gref < entries; gref++) {
    if (!rings.has(gref) && (words[gref * 2]! & 0x18) !== 0) frames.push(words[gref * 2 + 1]!);
  }
  return frames;
}

/** Takes every page that the guest has, as it would for something else. */
function takeAll({ world }: ReturnType<typeof connected>): Set<number> {
  const taken = new Set<number>();
  for (let gfn = world.pages.alloc(); gfn !== undefined; gfn = world.pages.alloc()) taken.add(gfn);
  return taken;
}

describe('the page of zeroes', () => {
  it('stays the driver’s while the backend holds on to it after the connection, and goes back when it lets go', async () => {
    const fixture = connected({ persistent: false, closeTicks: 50 });
    const { world, back, dev } = fixture;
    back.clings = true;
    await settled(world, dev.writeZeroes(0, 20));
    dev.device.stop();
    world.time.run(5000);
    expect(dev.state).toBe('closed');
    const held = mapped(fixture);
    expect(new Set(held).size).toBeGreaterThan(0);
    const taken = takeAll(fixture);
    expect(held.filter((gfn) => taken.has(gfn))).toEqual([]);
    for (const gfn of taken) world.pages.free(gfn as never);
    back.letGo();
    expect(world.leaks()).toEqual(noLeaks);
  });

  it('stays the driver’s when the device is destroyed under a request', () => {
    const fixture = connected({ persistent: false }, { hold: true });
    const { world, back, dev } = fixture;
    dev.writeZeroes(0, 20).catch(() => undefined);
    world.time.settle();
    const [first, second] = back.held[0]!.segments.map(({ gref }) => gref);
    for (const gref of [first!, second!]) world.grants.map(gref, 0, false);
    dev.device.destroy();
    back.die();
    const held = mapped(fixture);
    expect(held.length).toBe(2);
    world.grants.unmap(first!, false);
    expect(takeAll(fixture).has(held[0]!)).toBe(false);
    world.grants.unmap(second!, false);
    expect(world.pages.alloc()).toBe(held[0]);
  });
});
