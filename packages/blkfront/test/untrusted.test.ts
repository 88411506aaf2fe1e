import { expect, it } from 'vitest';
import { OP } from '../src/index.ts';
import { connected, pattern } from './fixture.ts';

const SECRET = 0x5a;

/**
 * Goal: a backend that is not trusted never reaches a page of the caller's, a buffer's neither.
 * Method: every request that moves data through a buffer full of a secret, with a look at all open entries whenever the backend is at
 * work and whenever anything is granted.
 */
it('never grants a page of a buffer to a backend that is not trusted, and moves the right bytes', () => {
  for (const persistent of [false, true]) {
    for (const poolRefs of [0, 11, 'full'] as const) {
      const { world, back, dev } = connected({ persistent, poolRefs, maxSegments: 32 }, { trusted: false, persistent, indirect: 32 });
      const name = `${persistent ? 'persistent' : 'not persistent'}, pool of ${poolRefs}`;
      expect(dev.info).toMatchObject({ trusted: false, persistent });
      const buffer = dev.allocBuffer(24);
      const secrets = new Uint8Array(buffer.bytes).fill(SECRET);
      const frames = new Set<number>(buffer.gfns);
      const granted: number[] = [];
      const permit = world.grants.permit.bind(world.grants);
      world.grants.permit = (gref, peer, gfn, readonly) => {
        if (frames.has(gfn)) granted.push(gfn);
        permit(gref, peer, gfn, readonly);
      };
      let looks = 0;
      const look = (): void => {
        looks++;
        for (const gfn of world.grants.reachable()) if (frames.has(gfn)) granted.push(gfn);
      };
      const carry = back.carryOut.bind(back);
      back.carryOut = (seen) => {
        look();
        // No byte of the buffer but those that the request writes is in what it names.
        for (const gfn of seen.segments.map(({ gref }) => world.grants.words[gref * 2 + 1]!)) {
          if (world.bytes(gfn).includes(SECRET)) granted.push(gfn);
        }
        return carry(seen);
      };
      const done: number[] = [];
      dev.device.onDone = (_cookie, status) => done.push(status);
      look();
      // Of one page, of a few, indirect; on pages, on sectors, between sectors.
      for (const [start, count] of [
        [0, 8],
        [512, 1],
        [4096 * 3, 24],
        [4096 * 3 + 1024, 60],
        [0, 192],
        [1111, 20],
        [4096 - 100, 150],
      ] as const) {
        const bytes = pattern(count * 512, start + count).map((byte) => (byte === SECRET ? 0 : byte));
        for (const op of [OP.WRITE, OP.WRITE_FUA, OP.READ]) {
          buffer.write(secrets);
          back.disk.fill(0);
          if (op === OP.READ) back.disk.set(bytes, 512);
          else buffer.write(bytes, start);
          expect(dev.device.submit(op, 1, buffer.gfns, start, count, 1), name).toBe(0);
          world.time.settle();
          look();
          const got = new Uint8Array(bytes.length);
          if (op === OP.READ) buffer.read(got, start);
          else got.set(back.disk.subarray(512, 512 + bytes.length));
          expect(Buffer.compare(got, bytes), `${name}: ${op} at ${start}`).toBe(0);
          const around = new Uint8Array(buffer.bytes);
          buffer.read(around);
          around.fill(SECRET, start, start + bytes.length);
          expect(Buffer.compare(around, secrets)).toBe(0);
        }
      }
      // A second buffer and a second connection.
      for (const gfn of dev.allocBuffer(2).gfns) frames.add(gfn);
      look();
      back.die();
      back.revive();
      world.time.settle();
      expect(dev.state).toBe('connected');
      look();
      expect(granted, name).toEqual([]);
      expect(looks).toBeGreaterThan(40);
      expect(done).toEqual(new Array(21).fill(0));
      expect(back.errors).toEqual([]);
      expect(dev.device.isHeld(buffer.gfns[0]!)).toBe(false);
    }
  }
});
