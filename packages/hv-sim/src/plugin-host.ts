import { type Attached, missing, type Plugin } from '@paravirt/event-bus/contract';
import { HvError } from './errors.ts';

interface Held {
  readonly name: string;
  readonly attached: Attached<unknown>;
}

/**
 * Attaches plugins and detaches them in reverse order. What a plugin requires is checked before it is attached, by name.
 * @see the contract: `@paravirt/event-bus/contract`
 */
export class PluginHost {
  readonly #held: Held[] = [];

  /**
   * @throws {HvError} `missing-dependency`, naming everything that is missing; nothing was attached.
   * @throws whatever `attach` throws; the plugin has undone what it did.
   */
  use<Deps extends object, Api>(plugin: Plugin<Deps, Api>, deps: Deps): Api {
    const lacking = missing(plugin, deps);
    if (lacking.length > 0) throw new HvError({ code: 'missing-dependency', plugin: plugin.name, missing: lacking });
    const attached = plugin.attach(deps);
    this.#held.push({ name: plugin.name, attached });
    return attached.api;
  }

  /** Takes the plugin with this API off, and no other. @returns false when there is none. */
  release(api: unknown): boolean {
    const at = this.#held.findLastIndex((held) => held.attached.api === api);
    if (at < 0) return false;
    const [held] = this.#held.splice(at, 1);
    held!.attached.detach();
    return true;
  }

  /** Takes every plugin off, the last attached first. One that throws does not keep the others; the first error is thrown at the end. */
  releaseAll(): void {
    let failed = false;
    let error: unknown;
    while (this.#held.length > 0) {
      const held = this.#held.pop()!;
      try {
        held.attached.detach();
      } catch (thrown) {
        if (!failed) error = thrown;
        failed = true;
      }
    }
    if (failed) throw error;
  }

  /** Forgets every plugin without detaching it: its domain died, and with it the code that would. */
  abandon(): void {
    this.#held.length = 0;
  }

  /** Names of what is attached, in order. */
  get names(): readonly string[] {
    return this.#held.map((held) => held.name);
  }
}
