import type { Gfn } from '@paravirt/event-bus/contract';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type BlkBuffer, BlockDevice, type GuestPages, OP } from '../src/index.ts';
import { Loopback, World } from '../src/testing.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 300 : 20_000;
const OPS = [OP.READ, OP.WRITE, OP.WRITE_FUA, OP.WRITE_ZEROES];
const MAPPED = 0x18;

/** A guest that notes who has its pages, and a peer that maps and unmaps whatever it is let. */
class Watched {
  readonly world = new World({ pages: 400, grants: 300 });
  readonly faults: string[] = [];
  readonly pages: GuestPages;
  /** By frame that is taken: which taking of it this is. */
  private readonly turns: Map<number, number> = new Map();
  /** By reference that is mapped: the frame's turn when it was mapped first. */
  private readonly mappedIn: Map<number, number> = new Map();
  private readonly maps: { gref: number; write: boolean }[] = [];
  private turn = 0;

  constructor() {
    const { world, turns } = this;
    this.pages = {
      alloc: () => {
        const gfn = world.pages.alloc();
        if (gfn !== undefined) turns.set(gfn, ++this.turn);
        return gfn;
      },
      free: (gfn) => {
        if (world.grants.isOpen(gfn)) this.faults.push(`page ${gfn} is given back while it is open`);
        turns.delete(gfn);
        world.pages.free(gfn);
      },
      frame: (gfn) => world.pages.frame(gfn),
    };
    const { grants } = world;
    const map = grants.map.bind(grants);
    const unmap = grants.unmap.bind(grants);
    grants.map = (gref, peer, write) => {
      const gfn = map(gref, peer, write);
      if (gfn !== -1 && !this.mappedIn.has(gref)) this.mappedIn.set(gref, turns.get(gfn) ?? -1);
      return gfn;
    };
    grants.unmap = (gref, write) => {
      unmap(gref, write);
      if ((grants.words[gref * 2]! & MAPPED) === 0) this.mappedIn.delete(gref);
    };
  }

  /** Maps one of the open references. */
  map(pick: number, write: boolean): void {
    const { words, entries } = this.world.grants;
    const open: number[] = [];
    for (let gref = 8; gref < entries; gref++) if ((words[gref * 2]! & 1) !== 0) open.push(gref);
    const gref = open[pick % Math.max(1, open.length)];
    if (gref !== undefined && this.world.grants.map(gref, 0, write) !== -1) this.maps.push({ gref, write });
  }

  unmap(pick: number): void {
    const one = this.maps.splice(pick % Math.max(1, this.maps.length), 1)[0];
    if (one !== undefined) this.world.grants.unmap(one.gref, one.write);
  }

  unmapAll(): void {
    while (this.maps.length > 0) this.unmap(0);
  }

  /** Notes every page that is mapped and free, or somebody else's by now. */
  look(): void {
    const { words, entries } = this.world.grants;
    for (let gref = 8; gref < entries; gref++) {
      if ((words[gref * 2]! & MAPPED) === 0) continue;
      const gfn = words[gref * 2 + 1]!;
      if (!this.turns.has(gfn)) this.faults.push(`page ${gfn} is free and mapped`);
      else if (this.turns.get(gfn) !== this.mappedIn.get(gref)) this.faults.push(`page ${gfn} is used again and mapped`);
    }
  }
}

const kinds = [
  'submit',
  'submit',
  'submit',
  'submit',
  'submit',
  'submit buffer',
  'submit buffer',
  'submit buffer',
  'alloc buffer',
  'free buffer',
  'take page',
  'free page',
  'map',
  'map',
  'map',
  'unmap',
  'settle',
  'settle',
  'settle',
  'settle',
  'settle',
  'run',
  'hold',
  'release',
  'release',
  'suspend',
  'resume',
  'resume',
  'cancel suspend',
  'stop',
  'start',
  'start',
  'start',
  'start',
  'die',
  'revive',
  'revive',
  'revive',
  'backend closes',
  'cling',
  'let go',
  'lie',
  'trust',
  'destroy',
] as const;
const start = fc.oneof({ weight: 5, arbitrary: fc.nat(17).map((sector) => sector * 512) }, { weight: 1, arbitrary: fc.nat(9000) });
const step = fc.record({ kind: fc.constantFrom(...kinds), pick: fc.nat(), start, count: fc.integer({ min: 1, max: 100 }) });
const shape = fc.record({
  persistent: fc.boolean(),
  trusted: fc.nat(3).map((of4) => of4 > 0),
  poolRefs: fc.constantFrom(0, 2, 11),
  reconnectTicks: fc.constantFrom(0, 500),
});

/**
 * Goal: a page goes back to the guest only when no peer can reach it, whatever became of its request, its buffer or its connection, and
 * `isHeld` says of every other page whether it may.
 * Method: random calls and ends of connections, with a backend that maps and unmaps what it is let at random moments. The guest gives a
 * page of its own back when no request names it and `isHeld` does not.
 */
it(`gives no page back that a backend can reach: ${runs} schedules`, () => {
  fc.assert(
    fc.property(
      shape,
      fc.array(step, { minLength: 10, maxLength: 80, size: 'max' }),
      ({ persistent, trusted, poolRefs, reconnectTicks }, steps) => {
        const watched = new Watched();
        const { world, pages, faults } = watched;
        const back = new Loopback(world, { persistent, trusted, indirect: 16, flush: true, sectors: 256 }).start();
        const front = { device: 51712, poolRefs, reconnectTicks, maxSegments: 16, closeTicks: 50, quarantineTicks: 5, purgeTicks: 100 };
        const { device } = new BlockDevice(front, { ...world.surroundings, pages });
        const mine = Array.from({ length: 5 }, () => pages.alloc()!);
        const buffers: BlkBuffer[] = [device.allocBuffer(3)];
        const under = new Map<number, readonly number[]>();
        const idle = (gfn: number): boolean => ![...under.values()].some((gfns) => gfns.includes(gfn));
        const spared = (gfns: readonly number[]): void => {
          for (const gfn of gfns) {
            if (idle(gfn) && !device.isHeld(gfn) && world.grants.isOpen(gfn)) faults.push(`page ${gfn} is open and not said to be held`);
          }
        };
        device.onDone = (cookie) => {
          const gfns = under.get(cookie);
          under.delete(cookie);
          if (gfns === undefined) faults.push(`request ${cookie} ends twice`);
          else spared(gfns.filter((gfn) => mine.includes(gfn as Gfn)));
          watched.look();
        };
        let asked = 0;
        const submit = (gfns: readonly number[], pick: number, start: number, count: number): void => {
          const sectors = Math.min(count, Math.floor((gfns.length * 4096 - start) / 512));
          const cookie = asked++;
          if (sectors > 0 && device.submit(OPS[pick % OPS.length]!, pick % 150, gfns, start, sectors, cookie) === 0)
            under.set(cookie, gfns);
        };
        device.start();
        world.time.settle();
        back.hold = true;
        for (const { kind, pick, start, count } of steps) {
          switch (kind) {
            case 'submit':
              submit(mine.slice(pick % (mine.length + 1)), pick, start, count);
              break;
            case 'submit buffer': {
              const buffer = buffers[pick % Math.max(1, buffers.length)];
              if (buffer !== undefined) submit(buffer.gfns, pick, start, count);
              break;
            }
            case 'alloc buffer':
              if (buffers.length < 6) buffers.push(device.allocBuffer(1 + (pick % 4)));
              break;
            case 'free buffer':
              buffers.splice(pick % Math.max(1, buffers.length), 1)[0]?.free();
              break;
            case 'take page': {
              const gfn = pages.alloc();
              if (gfn !== undefined) mine.push(gfn);
              break;
            }
            case 'free page': {
              const gfn = mine[pick % Math.max(1, mine.length)];
              if (gfn === undefined || !idle(gfn) || device.isHeld(gfn)) break;
              mine.splice(mine.indexOf(gfn), 1);
              pages.free(gfn);
              break;
            }
            case 'map':
              watched.map(pick, pick % 3 === 0);
              break;
            case 'unmap':
              watched.unmap(pick);
              break;
            case 'settle':
              world.time.settle();
              break;
            case 'run':
              world.time.run(pick % 300);
              break;
            case 'hold':
              back.hold = pick % 2 === 0;
              break;
            case 'release':
              back.release();
              break;
            case 'suspend':
              if (['initialising', 'initialised', 'connected', 'lost'].includes(device.state)) device.suspend();
              break;
            case 'resume':
            case 'cancel suspend':
              if (device.state === 'suspended') device.resume(kind !== 'resume');
              break;
            case 'stop':
              device.stop();
              break;
            case 'start':
              if (device.state === 'closed' || device.state === 'broken') device.start();
              break;
            case 'die':
              if (world.store.nodes.has(`${back.path}/state`)) back.die();
              break;
            case 'revive':
              if (!world.store.nodes.has(`${back.path}/state`)) back.revive();
              break;
            case 'backend closes':
              if (world.store.nodes.has(`${back.path}/state`)) back.say(5);
              break;
            case 'cling':
              back.clings = !back.clings;
              break;
            case 'let go':
              back.letGo();
              break;
            case 'lie': {
              const seen = back.seen.at(-1);
              if (pick % 3 === 0 && seen !== undefined) back.answer(seen, 0, { operation: 77 });
              back.pushAll();
              break;
            }
            case 'trust':
              world.store.connect(0).write(`${back.front}/trusted`, String(pick % 2));
              break;
            default:
              if (pick % 4 === 0) {
                device.destroy();
                buffers.length = 0;
              }
          }
          watched.look();
          spared([...mine, ...buffers.flatMap(({ gfns }) => gfns)]);
          expect(faults).toEqual([]);
        }
        device.destroy();
        if (world.store.nodes.has(`${back.path}/state`)) back.die();
        world.time.settle();
        watched.look();
        back.letGo();
        watched.unmapAll();
        world.time.run(5000);
        expect(faults).toEqual([]);
        expect(under.size).toBe(0);
        for (const gfn of mine) {
          expect(device.isHeld(gfn)).toBe(false);
          pages.free(gfn);
        }
        expect(world.leaks()).toMatchObject({ pages: 0, references: 0, ports: 0, mappings: 0, timers: 0 });
      },
    ),
    { numRuns: runs },
  );
}, 900_000);
