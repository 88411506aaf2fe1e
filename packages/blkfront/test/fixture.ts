import { type BlkfrontOptions, BlockDevice } from '../src/index.ts';
import { Loopback, type LoopbackOptions, World, type WorldOptions } from '../src/testing.ts';

export interface Fixture {
  world: World;
  back: Loopback;
  dev: BlockDevice;
  /** Runs everything until nothing is left. */
  run(): void;
}

/** A frontend and a loopback backend, not connected yet. */
export function pair(front: Partial<BlkfrontOptions> = {}, back: LoopbackOptions = {}, world: WorldOptions = {}): Fixture {
  const w = new World(world);
  const b = new Loopback(w, back).start();
  const dev = new BlockDevice({ device: 51712, ...front }, w.surroundings);
  return { world: w, back: b, dev, run: () => w.time.run() };
}

/** The same, connected. */
export function connected(front: Partial<BlkfrontOptions> = {}, back: LoopbackOptions = {}, world: WorldOptions = {}): Fixture {
  const fixture = pair(front, back, world);
  fixture.dev.connectSync();
  return fixture;
}

/** Runs the world until the promise settles: time in these tests is the world's. */
export async function settled<T>(world: World, promise: Promise<T>): Promise<T> {
  let over = false;
  const watched = promise.finally(() => {
    over = true;
  });
  watched.catch(() => undefined);
  for (let i = 0; !over && i < 100_000; i++) {
    world.time.settle();
    for (let turn = 0; turn < 4 && !over; turn++) await Promise.resolve();
    if (!over && !world.time.step()) {
      for (let turn = 0; turn < 16 && !over; turn++) await Promise.resolve();
      if (!over && !world.time.step()) throw new Error('nothing is left to run and the promise has not settled');
    }
  }
  return watched;
}

export const noLeaks = { pages: 0, references: 0, ports: 0, watches: 0, mappings: 0, timers: 0, transactions: 0 };

export function pattern(bytes: number, seed: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let x = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < bytes; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x & 0xff;
  }
  return out;
}
