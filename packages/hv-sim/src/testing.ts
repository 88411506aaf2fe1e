/**
 * For tests of users: a machine that is checked at the end, and what a host expects of every plugin. Needs no test tool.
 */

import type { Plugin } from '@paravirt/event-bus/contract';
import { type PluginFixture, pluginSuite, type SuiteTools } from '@paravirt/event-bus/testing';
import { HvError } from './errors.ts';
import type { Ledger } from './ledger.ts';
import { createMachine } from './machine.ts';
import type { Domain, Machine, MachineOptions } from './types.ts';

export { type PluginFixture, pluginSuite, type SuiteTools };

/**
 * Runs `body` with a machine and checks at the end that nothing is left over, that both books agree, that every requested fault
 * fired, and that every frame comes back when the domains are gone.
 * @throws {HvError} `leak`, `fault-never-fired`; what `body` throws goes first.
 */
export function withMachine<T>(options: MachineOptions, body: (machine: Machine) => T): T {
  const machine = createMachine(options);
  const free = machine.freeFrames;
  const result = body(machine);
  machine.expectNoLeaks();
  machine.close();
  const left = machine.freeFrames;
  if (left !== free) throw new HvError({ code: 'leak', leaks: [`${free - left} frames after the last domain was gone`] });
  return result;
}

/** What a plugin holds of a machine: the parts of the ledger that must be the same after `detach` as before `attach`. */
export function heldOf(machine: Pick<Machine, 'ledger'>): unknown {
  const { domains, timers, errors }: Ledger = machine.ledger();
  return {
    timers,
    errors,
    domains: domains.map(
      ({ domid, pagesLent, granted, pinned, handles, mappings, ports, watches, transactions, timers: set, pagesInUse }) => ({
        domid,
        pagesLent,
        granted,
        pinned,
        handles: handles.length,
        mappings,
        ports,
        watches,
        transactions,
        timers: set,
        pagesInUse,
      }),
    ),
  };
}

/** One fresh trial of a plugin on a machine of two domains. */
export interface MachinePlugin<Deps extends object, Api> {
  readonly plugin: Plugin<Deps, Api>;
  /** What the plugin is attached with, out of a privileged domain and a guest. */
  deps(machine: Machine, dom0: Domain, guest: Domain): Deps;
  /** Uses what is attached a little. */
  use?(api: Api): void;
}

/**
 * The plugin contract's suite on a machine: what the plugin holds is what the machine's ledger says.
 * @param make gives a fresh plugin each time.
 */
export function machinePluginSuite<Deps extends object, Api>(
  tools: SuiteTools,
  name: string,
  make: () => MachinePlugin<Deps, Api>,
  options: Partial<MachineOptions> = {},
): void {
  pluginSuite<Deps, Api>(tools, name, () => {
    const machine = createMachine({ seed: name, ramBytes: 4 * 2 ** 20, ...options });
    const dom0 = machine.createDomain({ id: 0, pages: 256 });
    const guest = machine.createDomain({ pages: 256 });
    const { plugin, deps, use } = make();
    return { plugin, deps: deps(machine, dom0, guest), held: () => heldOf(machine), ...(use === undefined ? {} : { use }) };
  });
}
