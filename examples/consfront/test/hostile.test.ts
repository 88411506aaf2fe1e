import type { Domain } from '@paravirt/hv-sim';
import { withMachine } from '@paravirt/hv-sim/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { consback, consfront, INPUT, OUTPUT } from '../src/index.ts';
import { backDeps, bytesOf, DOM0, frontDeps, twoDomains } from './computer.ts';

const MACHINE = { seed: 1, ramBytes: 4 * 2 ** 20 };
const folderOf = (guest: Domain): string => `/local/domain/${guest.id}/device/console/1`;

describe('a frontend whose backend lies', () => {
  it.each([
    ['writes more than there is room for', INPUT.prod, 1025, 'the backend wrote more bytes than there is room for'],
    ['writes backwards', INPUT.prod, 0xffff_ffff, 'the backend wrote more bytes than there is room for'],
    ['takes what was never written', OUTPUT.cons, 1, 'the backend took more bytes than were written'],
  ])('closes when it %s', (_what, index, value, problem) => {
    withMachine(MACHINE, (machine) => {
      const { dom0, guest } = twoDomains(machine);
      const { api: front, detach } = consfront().attach(frontDeps(guest));
      front.onInput(() => {});
      dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
      machine.run();
      // The backend has the guest's one page mapped, and could write anything there.
      const gfn = machine.ledger().domains.find(({ domid }) => domid === guest.id)!.pagesLent[0]!;
      const page = guest.memory.frame(gfn);
      page.views.u32[(page.offset + index) / 4] = value;
      front.onInput(() => {});
      front.write(bytesOf('x'));
      machine.run();
      expect([front.state, front.problem]).toEqual(['closed', problem]);
      detach();
      guest.detachAll();
      dom0.detachAll();
    });
  });
});

describe('a backend whose guest lies', () => {
  it.each([
    ['ring-ref', 'everything', 'ring-ref or port is not a number'],
    ['ring-ref', '4294967296', 'ring-ref or port is not a number'],
    ['ring-ref', '77', 'its page cannot be mapped: GNTST_general_error'],
    ['port', '-1', 'ring-ref or port is not a number'],
    ['port', '4000', /^its port cannot be bound: /],
  ])('does not connect when %s says %s, and does when it is mended', (key, value, problem) => {
    withMachine(MACHINE, (machine) => {
      const { dom0, guest } = twoDomains(machine);
      const front = consfront().attach(frontDeps(guest));
      const back = dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
      const honest = dom0.store.read(`${folderOf(guest)}/${key}`)!;
      guest.store.write(`${folderOf(guest)}/${key}`, value);
      machine.run();
      expect(back.state).toBe('waiting');
      expect(back.problem).toMatch(problem);
      expect(back.type(bytesOf('x'))).toBe(0);

      guest.store.write(`${folderOf(guest)}/${key}`, honest);
      guest.store.write(`${folderOf(guest)}/state`, '3');
      machine.run();
      expect([back.state, back.problem]).toEqual(['connected', undefined]);
      front.detach();
      machine.run();
      guest.detachAll();
      dom0.detachAll();
    });
  });

  /** Goal: whatever stands in the page, no more than a stream's length is taken at a time and nothing leaks. Method: random words. */
  it('takes no more than there can be, whatever the guest writes into the page', () => {
    const word = fc.oneof(fc.nat({ max: 4096 }), fc.integer({ min: 0, max: 0xffff_ffff }));
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(3072, 3076, 3080, 3084), word), { minLength: 1, maxLength: 12 }), (scribbles) => {
        withMachine(MACHINE, (machine) => {
          const { dom0, guest } = twoDomains(machine);
          const deps = frontDeps(guest);
          const gfn = guest.pages.alloc()!;
          const gref = deps.grants.grantForeignAccess({ peer: DOM0, gfn, readonly: false });
          const port = guest.events.allocUnbound(DOM0);
          for (const [key, value] of [
            ['ring-ref', gref],
            ['port', port],
            ['state', 3],
          ] as const) {
            guest.store.write(`${folderOf(guest)}/${key}`, String(value));
          }
          const back = dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
          back.onOutput((bytes) => expect(bytes.length).toBeLessThanOrEqual(OUTPUT.bytes));
          machine.run();
          const page = guest.pages.frame(gfn);
          for (const [at, value] of scribbles) {
            page.views.u32[(page.offset + at) / 4] = value;
            guest.events.send(port);
            machine.run();
            expect(back.type(bytesOf('x'.repeat(3000)))).toBeLessThanOrEqual(INPUT.bytes);
          }
          dom0.detachAll();
          guest.events.close(port);
          deps.grants.endForeignAccess(gref, gfn);
          machine.run();
          guest.detachAll();
        });
      }),
      { numRuns: 60 },
    );
  });
});
