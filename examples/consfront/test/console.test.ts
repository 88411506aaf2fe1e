import { explore, type Scenario } from '@paravirt/hv-sim';
import { machinePluginSuite, withMachine } from '@paravirt/hv-sim/testing';
import { describe, expect, it } from 'vitest';
import { addConsole, consback, consfront } from '../src/index.ts';
import { backDeps, bytesOf, DOM0, frontDeps, textOf, twoDomains, writeAll } from './computer.ts';

const RAM = { ramBytes: 4 * 2 ** 20 };

describe('the console', () => {
  it('carries what the guest prints and what is typed', () => {
    withMachine({ seed: 1, ...RAM }, (machine) => {
      const { dom0, guest } = twoDomains(machine);
      const { api: front, detach } = consfront().attach(frontDeps(guest));
      const back = dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
      let screen = '';
      let heard = '';
      back.onOutput((bytes) => {
        screen += textOf(bytes);
        if (screen.endsWith('login: ')) back.type(bytesOf('root\n'));
      });
      front.onInput((bytes) => {
        heard += textOf(bytes);
      });
      expect(front.write(bytesOf('login: '))).toBe(7);
      machine.run();
      expect({ front: front.state, back: back.state, screen, heard }).toEqual({
        front: 'connected',
        back: 'connected',
        screen: 'login: ',
        heard: 'root\n',
      });
      expect(dom0.store.read(`/local/domain/${guest.id}/device/console/1/state`)).toBe('4');

      // The page goes back when the backend has unmapped it: the grant table waits for that, so it is detached last.
      detach();
      machine.run();
      expect([back.state, guest.pages.lent]).toEqual(['waiting', 0]);
      guest.detachAll();
      dom0.detachAll();
    });
  });

  it('keeps every byte in order both ways, in every order of events and with more than the page holds', () => {
    const scenario: Scenario = (run) => {
      const machine = run.machine(RAM);
      const { dom0, guest } = twoDomains(machine);
      const { api: front, detach } = consfront().attach(frontDeps(guest));
      const back = dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
      const sent = Uint8Array.from({ length: 10_007 }, (_, i) => i % 251);
      const printed: number[] = [];
      const typed: number[] = [];
      back.onOutput((bytes) => printed.push(...bytes));
      front.onInput((bytes) => typed.push(...bytes));
      guest.post(() => writeAll(front, sent));
      machine.runUntil(() => back.state === 'connected');
      dom0.post(() => writeAll({ write: (bytes) => back.type(bytes), onRoom: (go) => back.onRoom(go) }, sent));
      machine.run();
      if (printed.join() !== sent.join() || typed.join() !== sent.join())
        throw new Error(`${printed.length} bytes printed, ${typed.length} typed`);
      detach();
      machine.run();
      guest.detachAll();
      dom0.detachAll();
      machine.expectNoLeaks();
    };
    expect(explore(scenario, { seeds: 40 })).toEqual({ runs: 40, failure: undefined });
  });

  it('is there for a backend that comes late, and again for a frontend that comes again', () => {
    withMachine({ seed: 1, ...RAM }, (machine) => {
      const { dom0, guest } = twoDomains(machine);
      const deps = frontDeps(guest);
      const first = consfront().attach(deps);
      expect(first.api.write(new Uint8Array(3000))).toBe(2048);
      machine.run();
      const back = dom0.use(consback({ frontend: guest.id }), backDeps(dom0));
      let bytes = 0;
      back.onOutput((some) => {
        bytes += some.length;
      });
      machine.run();
      expect([first.api.state, bytes]).toEqual(['connected', 2048]);

      // Leaves and comes again before the backend has run: the old page is given back when it is unmapped.
      first.detach();
      const second = consfront().attach(deps);
      second.api.write(bytesOf('here again'));
      machine.run();
      expect([first.api.state, second.api.state, back.state, bytes]).toEqual(['closed', 'connected', 'connected', 2058]);
      expect(guest.pages.lent).toBe(1);
      second.detach();
      machine.run();
      guest.detachAll();
      dom0.detachAll();
    });
  });

  it('closes when the backend leaves, and lets go of a guest that dies', () => {
    withMachine({ seed: 1, ...RAM }, (machine) => {
      const { dom0, guest } = twoDomains(machine);
      const other = machine.createDomain({ pages: 64 });
      addConsole(dom0.store, { frontend: other.id, backend: DOM0 });
      const front = guest.use(consfront(), frontDeps(guest));
      other.use(consfront(), frontDeps(other));
      const back = consback({ frontend: guest.id }).attach(backDeps(dom0));
      const otherBack = dom0.use(consback({ frontend: other.id }), backDeps(dom0));
      machine.run();
      expect([front.state, otherBack.state]).toEqual(['connected', 'connected']);

      back.detach();
      machine.destroyDomain(other);
      machine.run();
      expect([front.state, front.problem, otherBack.state]).toEqual(['closed', 'the backend left', 'waiting']);
      expect(front.write(bytesOf('anybody?'))).toBe(0);
      guest.detachAll();
      dom0.detachAll();
    });
  });

  machinePluginSuite({ describe, it }, 'the frontend', () => ({
    plugin: consfront(),
    deps(_machine, dom0, guest) {
      addConsole(dom0.store, { frontend: guest.id, backend: DOM0 });
      return frontDeps(guest);
    },
    use: (front) => front.write(bytesOf('hello')),
  }));
  machinePluginSuite({ describe, it }, 'the backend', () => ({
    plugin: consback({ frontend: 1 as typeof DOM0 }),
    deps(_machine, dom0, guest) {
      addConsole(dom0.store, { frontend: guest.id, backend: DOM0 });
      return backDeps(dom0);
    },
  }));
});
