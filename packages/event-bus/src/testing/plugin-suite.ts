import { type Attached, missing, type Plugin } from '../contract.ts';
import { type SuiteTools, same } from './check.ts';

/** One fresh trial of a plugin. */
export interface PluginFixture<Deps extends object, Api> {
  readonly plugin: Plugin<Deps, Api>;
  readonly deps: Deps;
  /**
   * What the plugin holds of its surroundings, as plain data: open ports, granted entries, subscriptions, frames. It must be the
   * same after `detach` as before `attach`.
   */
  held(): unknown;
  /** Uses what is attached a little, so that there is something to give back. */
  use?(api: Api): void;
}

/** How many calls into its dependencies an `attach` may make before the suite stops looking for one that succeeds. */
const CALLS_MAX = 2000;

/**
 * What a host expects of every plugin: what it requires is said as data, it attaches whole or not at all, and gives back all it
 * held. `make` gives a fresh fixture each time.
 */
export function pluginSuite<Deps extends object, Api>(
  { describe, it }: SuiteTools,
  name: string,
  make: () => PluginFixture<Deps, Api>,
): void {
  describe(`${name} as a plugin`, () => {
    it('has a name, and requires each dependency once', () => {
      const { plugin, deps } = make();
      if (plugin.name === '') throw new Error('the name is empty');
      same([...new Set(plugin.requires)], plugin.requires, 'requires');
      same(missing(plugin, deps), [], 'what the fixture lacks');
    });

    it('says what is missing before it is attached', () => {
      const { plugin, deps } = make();
      for (const dep of plugin.requires) {
        const { [dep]: _, ...rest } = deps;
        same(missing(plugin, rest), [dep], `missing without ${dep}`);
      }
      same(missing(plugin, {}), plugin.requires, 'missing without any');
    });

    it('uses no dependency that it does not require', () => {
      const { plugin, deps, held } = make();
      const before = JSON.stringify(held());
      const only = Object.fromEntries(plugin.requires.map((dep) => [dep, deps[dep]])) as Deps;
      plugin.attach(only).detach();
      same(JSON.stringify(held()), before, 'held');
    });

    it('gives back all it holds when it is detached, and attaches again', () => {
      const { plugin, deps, held, use } = make();
      const before = JSON.stringify(held());
      for (const round of ['first', 'second']) {
        const attached = plugin.attach(deps);
        use?.(attached.api);
        attached.detach();
        same(JSON.stringify(held()), before, `held after the ${round} round`);
      }
    });

    it('undoes everything when any call of its attach fails', () => {
      for (let failing = 1; failing <= CALLS_MAX; failing += 1) {
        const { plugin, deps, held } = make();
        const before = JSON.stringify(held());
        const trial = failingDeps(plugin, deps, failing);
        let attached: Attached<Api> | undefined;
        try {
          attached = plugin.attach(trial.deps);
          trial.disarm();
        } catch (error) {
          if (!trial.failed()) throw error;
          same(JSON.stringify(held()), before, `held after call ${failing} (${trial.failed()}) failed`);
          continue;
        }
        attached.detach();
        // Past its last call; or the plugin lives without what that call would have given, and keeps its rules too.
        same(JSON.stringify(held()), before, `held after the round that call ${failing} of ${trial.calls()} did not end`);
        if (trial.calls() < failing) return;
      }
      throw new Error(`attach makes more than ${CALLS_MAX} calls`);
    });
  });
}

/** The dependencies with every method watched: call number `failing` throws before it does anything. */
function failingDeps<Deps extends object>(
  plugin: Plugin<Deps, unknown>,
  deps: Deps,
  failing: number,
): { deps: Deps; failed(): string | undefined; calls(): number; disarm(): void } {
  let calls = 0;
  let failed: string | undefined;
  let armed = true;
  const watched = <T extends object>(dep: string, target: T): T =>
    new Proxy(target, {
      get(real, key) {
        const value: unknown = Reflect.get(real, key, real);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          if (armed) calls += 1;
          if (armed && calls === failing) {
            armed = false;
            failed = `${dep}.${String(key)}`;
            throw new Error(`${failed} fails`);
          }
          return Reflect.apply(value, real, args);
        };
      },
    });
  const copies = plugin.requires.map((dep) => {
    const value = deps[dep];
    return [dep, typeof value === 'object' && value !== null ? watched(dep, value) : value];
  });
  const disarm = (): void => {
    armed = false;
  };
  return { deps: Object.fromEntries(copies) as Deps, failed: () => failed, calls: () => calls, disarm };
}
