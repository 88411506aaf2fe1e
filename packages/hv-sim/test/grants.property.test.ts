import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GrantModel, RAM } from './support/grant-model.ts';

const runs = process.env['PARAVIRT_FULL'] === undefined ? 100 : 3000;
/** Milliseconds after which a campaign on a slow machine ends with what it has seen. */
const limit = process.env['PARAVIRT_FULL'] === undefined ? 120_000 : 1_800_000;
const SELF = 0x7ff0;

/** Numbers from which an operation takes what it needs. */
const step = fc.tuple(fc.nat(15), fc.nat(2), fc.nat(3), fc.nat(1023), fc.nat(4095), fc.nat(0xffff));

/** Which answers were seen, so that a run that met nothing but refusals does not pass. */
const seen = new Map<string, number>();

function act(model: GrantModel, [kind, who, other, a, b, c]: [number, number, number, number, number, number]): void {
  const party = model.parties[who]!;
  // One in four peers does not exist.
  const peer = other === 3 ? 9 : model.parties[other]!.id;
  const ref = [8, 9, 10, 8, 9, 3, 300, 12][a % 8]!;
  // The last of them is no page of anybody.
  const gfn = b % (RAM + 1) === RAM ? 5000 : b % (RAM + 1);
  const says = (result: { status: number | boolean; expected: number | boolean }): void => {
    const key = `${kind}:${result.status}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    if (result.status !== result.expected) throw new Error(`answered ${result.status}, the model says ${result.expected}`);
  };
  switch (kind) {
    case 0:
    case 1:
    case 2:
      model.grant(party, ref, peer, gfn, 1 | (c & 4), 0);
      break;
    case 3:
      if (b % 2 === 0) {
        model.grant(party, ref, peer, gfn, 1, 0);
        break;
      }
      // Hostile: any flags, parts of pages, entries that lead elsewhere, over whatever was there.
      model.grant(party, ref, peer, c % 3 === 0 ? model.parties[(who + 1) % 3]!.id : gfn, c & 0x1e7, ((c & 0xff) << 16) | (b & 0xff));
      break;
    case 4:
      model.grant(party, ref, peer, [8, 9, 10][b % 3]!, 3, model.parties[c % 3]!.id);
      break;
    case 5:
    case 6:
    case 7:
    case 8: {
      const flags = [2, 2, 6, 2, 6, 1, 3, 7, 5, 0][b % 10]!;
      const offer = model.offers[a % 7];
      const mapper = model.parties.find((candidate) => candidate.id === offer?.peer);
      if (offer === undefined || mapper === undefined) says(model.map(party, peer, ref, flags, 1 + (c % 8)));
      else says(model.map(c % 9 === 0 ? party : mapper, offer.granter, offer.ref, flags, c % 50 === 0 ? 0 : 1 + (c % 8)));
      break;
    }
    case 9:
    case 10: {
      const mapping = model.mappings[a % Math.max(1, model.mappings.length)];
      const mapper = model.parties.find((candidate) => candidate.id === mapping?.mapper);
      if (mapping === undefined || mapper === undefined || c % 8 === 0) says(model.unmap(party, a % 12, b % 4 !== 0, b % 3 !== 0));
      else says(model.unmap(mapper, mapping.handle, b % 4 !== 0, b % 3 !== 0));
      break;
    }
    case 11:
    case 12: {
      const ptr = (n: number, offset: number) => {
        const offer = model.offers[n % 8];
        if (offer !== undefined) return { isRef: true, frameOrRef: offer.ref, domid: offer.granter, offset };
        if (n % 3 === 0)
          return { isRef: false, frameOrRef: n % (RAM + 2) >= RAM ? 5000 : n % (RAM + 2), domid: n % 11 === 0 ? peer : SELF, offset };
        return {
          isRef: true,
          frameOrRef: [8, 9, 10, 300, 5000][n % 5]!,
          domid: n % 7 === 0 ? SELF : n % 2 === 0 ? peer : model.parties[n % 3]!.id,
          offset,
        };
      };
      // Names of pages are in their first words: copies stay clear of them.
      const offset = 4 + (b % 64);
      const copier = model.parties.find((candidate) => candidate.id === model.offers[a % 8]?.peer) ?? party;
      says(model.copy(copier, ptr(a, offset), ptr(c, 4 + (c % 128)), b % 5 === 0 ? 4093 : b % 300));
      break;
    }
    case 13:
      says(model.setVersion(party, c % 2 === 0 ? 1 : 2));
      break;
    case 14:
      if (c % 3 === 0) says(model.grow(party, 1 + (a % 3)));
      else if (c % 3 === 1) says(model.decrease(party, gfn));
      else says(model.populate(party, gfn));
      break;
    default:
      if (c % 8 === 0) model.kill(party);
      else for (let index = 0; index < 3; index++) model.revive(index);
  }
}

/**
 * Goal: counts, flags and access rights agree at every step, no handle is given twice, no page is readable by whom it was not granted
 * to, nothing leaks. Method: three domains that grant, map, copy, unmap, change versions, balloon, die and come back in random order,
 * and rewrite entries behind the hypervisor's back, beside a model in maps that reads the same bytes.
 */
describe('the hypervisor’s side of grants', () => {
  it(
    `agrees with a model in maps after every step (${runs} schedules)`,
    () => {
      let steps = 0;
      fc.assert(
        fc.property(fc.array(step, { minLength: 40, maxLength: 160, size: 'max' }), fc.nat(), (script, seed) => {
          const model = new GrantModel(seed);
          for (const one of script) {
            act(model, one);
            model.check();
            steps++;
          }
          for (const party of model.parties) model.kill(party);
          expect(model.machine.freeFrames).toBe(model.freeAtStart);
        }),
        { numRuns: runs, interruptAfterTimeLimit: limit, markInterruptAsFailure: false },
      );
      expect(steps).toBeGreaterThanOrEqual(runs * 40);
      if (process.env['PARAVIRT_SEEN'] !== undefined) console.log(Object.fromEntries([...seen].sort()));
      for (const key of ['5:0', '5:-1', '5:-9', '5:-5', '9:0', '9:-4', '11:0', '11:-1', '11:-8', '13:0', '13:-16', '14:true', '14:0']) {
        expect(seen.get(key) ?? 0, key).toBeGreaterThan(0);
      }
    },
    2 * limit,
  );
});
