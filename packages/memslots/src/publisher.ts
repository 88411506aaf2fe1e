import type { EventBus } from '@paravirt/event-bus';
import type { AddressSpace } from './address-space.ts';
import { refuse } from './errors.ts';
import type { MemslotsEvents } from './events.ts';
import type { Memslots, MemslotsHooks, PendingChange } from './types.ts';

/** The steps of a change that others see: generations, hooks and facts. */
export class Publisher {
  /** Whether a hook is being called: no change may begin. */
  busy = false;
  readonly #hooks: MemslotsHooks;
  readonly #hooked: boolean;
  readonly #bus: EventBus<MemslotsEvents>;
  readonly #name: string;
  /** What a publication adds to a generation. */
  readonly #step: number;

  constructor(hooks: MemslotsHooks, bus: EventBus<MemslotsEvents>, options: Memslots['options']) {
    this.#hooks = hooks;
    const { install, generation, flush, prepare, commit } = hooks;
    this.#hooked = [install, generation, flush, prepare, commit].some((hook) => hook !== undefined);
    this.#bus = bus;
    this.#name = options.name;
    this.#step = options.addressSpaces;
  }

  /** Whether anybody wants the change as an object. */
  told(): boolean {
    return this.#hooked || this.#bus.observed('memslots:changed');
  }

  flush(change: PendingChange): void {
    const hooks = this.#hooks;
    if (hooks.flush === undefined) return;
    this.busy = true;
    try {
      hooks.flush(change.asId, change.old!);
    } finally {
      this.busy = false;
    }
  }

  prepare(change: PendingChange): void {
    const hooks = this.#hooks;
    if (hooks.prepare === undefined) return;
    let ret: number;
    this.busy = true;
    try {
      ret = hooks.prepare(change) ?? 0;
    } finally {
      this.busy = false;
    }
    if (ret < 0) refuse('prepare', 'slot', (change.new ?? change.old)!.id, 'what the preparation step accepts', { ret });
  }

  /** Makes the present set current and gives it its number. */
  publish(space: AddressSpace): void {
    const old = space.generation;
    const hooks = this.#hooks;
    if (hooks.install === undefined && hooks.generation === undefined) {
      space.generation = old + this.#step;
      return;
    }
    this.busy = true;
    space.generation = -1 - old;
    try {
      hooks.install?.(space.asId, old);
    } finally {
      this.busy = false;
      space.generation = old + this.#step;
    }
    this.busy = true;
    try {
      hooks.generation?.(space.asId, space.generation);
    } finally {
      this.busy = false;
    }
  }

  /** The last publication of a change. It stands from here on, so whatever a hook throws, the rest are still told. */
  finish(space: AddressSpace, change: PendingChange | null): void {
    if (change === null) {
      this.publish(space);
      return;
    }
    try {
      this.publish(space);
    } finally {
      this.#tell(space, change);
    }
  }

  #tell(space: AddressSpace, change: PendingChange): void {
    const hooks = this.#hooks;
    const { generation } = space;
    this.busy = true;
    try {
      hooks.commit?.(change);
    } finally {
      this.busy = false;
      if (this.#bus.observed('memslots:changed')) {
        this.#bus.emit('memslots:changed', { source: this.#name, ...change, generation });
      }
    }
  }
}
