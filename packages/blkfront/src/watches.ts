import { InvariantError } from '@paravirt/event-bus/contract';
import type { Store } from './types.ts';

/** What a device watches: its backend's state, and while it has no connection which backend the toolstack names. */
export class Watches {
  private readonly store: Store;
  private state: { unsubscribe(): void } | undefined;
  private named: { unsubscribe(): void } | undefined;

  constructor(store: Store) {
    this.store = store;
  }

  /** Whether the backend's state is watched. */
  get live(): boolean {
    return this.state !== undefined;
  }

  /** Watches the state of `backend`, and that of no other any more. Throws the store's refusal; nothing is watched then. */
  backend(backend: string, changed: () => void): void {
    this.clear();
    this.state = this.store.watch(`${backend}/state`, changed);
  }

  /** Watches which backend the folder `path` names. */
  name(path: string, changed: () => void): void {
    try {
      this.named ??= this.store.watch(`${path}/backend`, changed);
    } catch (error) {
      // A domain has only so many watches: the one on the state does for the common course of things.
      if (error instanceof InvariantError) throw error;
    }
  }

  /** The backend is settled for the time of a connection. */
  nameSettled(): void {
    this.named?.unsubscribe();
    this.named = undefined;
  }

  clear(): void {
    this.nameSettled();
    this.state?.unsubscribe();
    this.state = undefined;
  }
}
