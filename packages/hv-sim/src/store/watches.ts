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

/** How many paths' ancestors are kept. */
const ABOVE_MAX = 1024;
const ABOVE_DEPTH_MAX = 16;

/** All watches by path, so that a change asks only the paths at and above it. */
export class WatchIndex {
  readonly #byPath = new Map<string, Watch[]>();
  readonly #above = new Map<string, readonly string[]>();
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
    const paths = exact ? [path] : this.#upward(path);
    let found: Watch[] | undefined;
    let all: Watch[] | undefined;
    for (let i = 0; i < paths.length; i += 1) {
      const here = this.#byPath.get(paths[i]!);
      if (here === undefined) continue;
      if (found === undefined) found = here;
      else all = (all ?? found).concat(here);
    }
    if (found === undefined) return;
    // A copy: telling may end watches.
    all ??= found.slice();
    if (all.length > 1) all.sort((a, b) => a.session.order - b.session.order || a.order - b.order);
    for (const watch of all) visit(watch);
  }

  /** A path and those above it. Kept for paths that change often: cutting and hashing them costs more than looking them up. */
  #upward(path: string): readonly string[] {
    let paths = this.#above.get(path);
    if (paths === undefined) {
      const made = [path];
      for (let at = path; at !== '/' && !at.startsWith('@'); ) {
        at = parentPath(at);
        made.push(at);
      }
      paths = made;
      // A guest may nest as deep as a path is long; what real drivers use is shallow.
      if (made.length > ABOVE_DEPTH_MAX) return paths;
      if (this.#above.size === ABOVE_MAX) this.#above.clear();
      this.#above.set(path, paths);
    }
    return paths;
  }
}

/** The path of an event as the watch's owner sees it. */
export function toldPath(watch: Watch, path: string): string {
  return watch.prefix === 0 ? path : path.slice(watch.prefix);
}
