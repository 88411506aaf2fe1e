import { parentPath } from './paths.ts';
import type { Session } from './session.ts';

/** A registered watch. */
export interface Watch {
  readonly session: Session;
  /** Absolute, or special. */
  readonly path: string;
  /** How many characters of a path are left out of its events: the home's of a relative watch. */
  readonly prefix: number;
  readonly token: string;
  /** Order of registration over all: the order of telling. */
  readonly order: number;
  /** What its events wait in: paths as they will be told. */
  readonly waiting: Set<string>;
  gone: boolean;
}

/** All watches by path, so that a change asks only the paths at and above it. */
export class WatchIndex {
  readonly #byPath = new Map<string, Watch[]>();
  #order = 0;

  add(session: Session, path: string, prefix: number, token: string): Watch {
    const watch: Watch = { session, path, prefix, token, order: this.#order++, waiting: new Set(), gone: false };
    const others = this.#byPath.get(path);
    if (others === undefined) this.#byPath.set(path, [watch]);
    else others.push(watch);
    return watch;
  }

  remove(watch: Watch): void {
    watch.gone = true;
    const others = this.#byPath.get(watch.path);
    if (others === undefined) return;
    others.splice(others.indexOf(watch), 1);
    if (others.length === 0) this.#byPath.delete(watch.path);
  }

  /** Tells `visit` of every watch that a change at `path` concerns: connections in order of opening, watches in order of registration. */
  match(path: string, exact: boolean, visit: (watch: Watch) => void): void {
    if (this.#byPath.size === 0) return;
    let found: Watch[] | undefined;
    let owned = false;
    for (let at = path; ; at = parentPath(at)) {
      const here = this.#byPath.get(at);
      if (here !== undefined) {
        if (found === undefined) found = here;
        else {
          found = found.concat(here);
          owned = true;
        }
      }
      if (exact || at === '/' || at.startsWith('@')) break;
    }
    if (found === undefined) return;
    const all = owned ? found : found.slice();
    if (all.length > 1) all.sort((a, b) => a.session.order - b.session.order || a.order - b.order);
    for (const watch of all) visit(watch);
  }
}

/** The path of an event as the watch's owner sees it. */
export function toldPath(watch: Watch, path: string): string {
  return watch.prefix === 0 ? path : path.slice(watch.prefix);
}
