import { toldPath, type Watch } from './watches.ts';

/**
 * Watch events that wait for one connection, first in first out. An event equal to one that waits is not added, so a domain that
 * writes one path without end makes its watchers' queues no longer (XSA-349); past the bound a watch's events become one for its
 * own path. The special paths are told each time, since their watchers count them.
 */
export class EventQueue {
  readonly #max: number;
  #events: { watch: Watch; path: string }[] = [];

  constructor(max: number) {
    this.#max = max;
  }

  get length(): number {
    return this.#events.length;
  }

  /** Whether the event was added. */
  push(watch: Watch, path: string): boolean {
    const full = this.#events.length >= this.#max;
    const at = full ? watch.path : path;
    if ((full || !at.startsWith('@')) && watch.waiting.has(at)) return false;
    // Every watch has one event beyond the bound: its own path's. There are no more of those than watches.
    watch.waiting.add(at);
    this.#events.push({ watch, path: at });
    return true;
  }

  /** The next event of a watch that still stands: the watch, and the path as it is told. */
  shift(): { watch: Watch; told: string } | undefined {
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { watch, path } = next;
      watch.waiting.delete(path);
      if (!watch.gone) return { watch, told: toldPath(watch, path) };
    }
    return undefined;
  }

  /** Forgets events of watches that are gone. */
  prune(): void {
    this.#events = this.#events.filter(({ watch }) => !watch.gone);
  }
}
