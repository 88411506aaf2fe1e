import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMachine, HvError } from '../src/index.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 60 : 3000;
const PAGE = 4096;
const POISON = 0x5ec2e7;

/** Numbers that guests get wrong: small ones, sizes, limits, and anything. */
const word = fc.oneof(
  { weight: 6, arbitrary: fc.nat(16) },
  { weight: 2, arbitrary: fc.constantFrom(0x7ff0, 4095, 4096, 4097, 0x7fff_ffff, 0xffff_ffff, 512, 1024) },
  { weight: 2, arbitrary: fc.nat(0xffff) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff_ffff }) },
);
const call = fc.record({
  number: fc.constantFrom(12, 15, 18, 20, 20, 20, 20, 32, 32, 29, 1, 77),
  command: fc.nat(15),
  page: fc.nat(9),
  inPage: fc.constantFrom(0, 4, 8, 4080, 4095),
  count: fc.constantFrom(0, 1, 1, 2, 5, 0xffff_ffff),
  words: fc.array(word, { minLength: 12, maxLength: 12 }),
  /** Where in the grant frame the same words go, so that there is something to map. */
  entry: fc.nat(60),
});

/**
 * Goal: whatever a guest passes, the answer is a number, nobody else's memory is touched or seen, and the books agree. Method: two
 * hostile guests of either word width make random hypercalls on random argument bytes, and write the same bytes over their grant
 * entries; a third domain, which grants nothing, holds poison.
 */
describe('the hypercall door', () => {
  it(`answers anything with a number, and shows no byte of a domain that grants nothing (${runs} schedules)`, () => {
    const answers = new Map<string, number>();
    fc.assert(
      fc.property(fc.array(call, { minLength: 20, maxLength: 80, size: 'max' }), fc.nat(), (script, seed) => {
        const machine = createMachine({ seed, ramBytes: 256 * PAGE, isolated: seed % 2 === 1 });
        const free = machine.freeFrames;
        const guests = [0, 1].map((id) =>
          machine.createDomain({ id, pages: 8, abi: seed % 3 === 0 ? 'x86_32' : 'x86_64', grantFramesMax: 2, handlesMax: 8 }),
        );
        const victim = machine.createDomain({ id: 2, pages: 8 });
        const poison = new Uint8Array(8 * PAGE);
        new Uint32Array(poison.buffer).fill(POISON);
        victim.memory.write(0, poison);
        for (const [turn, { number, command, page, inPage, count, words, entry }] of script.entries()) {
          const guest = guests[turn % 2]!;
          if (guest.state !== 'running') continue;
          const bytes = new Uint8Array(Uint32Array.from(words).buffer);
          const address = page * PAGE + inPage;
          try {
            guest.memory.write(address, bytes);
            guest.memory.write(guest.memory.grantGfn * PAGE + entry * 8, bytes.subarray(0, 16));
          } catch (error) {
            if (!(error instanceof HvError)) throw error;
          }
          // Blocking calls wait for somebody: nobody would come. Polls are asked for with their own words.
          const safe = number === 29 && command === 1 ? 0 : command;
          let result: number;
          try {
            result = number === 15 ? guest.hypercall(number, words[0]! * 1000, 0) : guest.hypercall(number, safe, address, count);
          } catch (error) {
            if (!(error instanceof HvError) || error.refusal.code !== 'blocked-forever') throw error;
            result = -1;
          }
          expect(Number.isInteger(result)).toBe(true);
          const key = `${number}:${Math.sign(result)}`;
          answers.set(key, (answers.get(key) ?? 0) + 1);
          expect(machine.ledger().errors).toEqual([]);
        }
        machine.run({ untilTicks: machine.now + 10 });
        const found = new Uint8Array(8 * PAGE);
        victim.memory.read(0, found);
        expect(Buffer.compare(found, poison)).toBe(0);
        for (const guest of guests) {
          if (guest.state !== 'running' && guest.state !== 'shutdown') continue;
          for (let gfn = 0; gfn < 8; gfn++) {
            if (guest.memory.mfnOf(gfn, false) < 0) continue;
            const { views, offset } = guest.memory.frame(gfn);
            expect(views.u32.subarray(offset / 4, offset / 4 + 1024).includes(POISON)).toBe(false);
          }
        }
        for (const domain of machine.domains()) machine.destroyDomain(domain);
        expect(machine.freeFrames).toBe(free);
      }),
      { numRuns: runs, interruptAfterTimeLimit: 300_000, markInterruptAsFailure: false },
    );
    for (const key of ['20:0', '20:-1', '32:0', '32:-1', '12:1']) expect(answers.get(key) ?? 0, key).toBeGreaterThan(0);
  }, 600_000);
});
