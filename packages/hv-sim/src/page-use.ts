import { HvError } from './errors.ts';
import type { GuestPageList } from './memory/guest-memory.ts';
import type { DomainPageUse } from './types.ts';

/** Counts who uses the pages behind a domain's grants and mappings. */
export class PageUses implements DomainPageUse {
  readonly #users: Map<number, number> = new Map();
  readonly #holds: Map<number, number> = new Map();
  readonly #pages: GuestPageList;
  /** Asked by `inUse`: true says that a page is in use although nobody is. A fault injector's handle. */
  held: (vfn: number) => boolean = () => false;

  constructor(pages: GuestPageList) {
    this.#pages = pages;
  }

  use(vfn: number): void {
    this.#users.set(vfn, (this.#users.get(vfn) ?? 0) + 1);
  }

  unuse(vfn: number): void {
    const users = this.#users.get(vfn);
    if (users === undefined) throw new HvError({ code: 'bad-argument', argument: 'vfn', value: String(vfn), allowed: 'a page in use' });
    if (users === 1) this.#users.delete(vfn);
    else this.#users.set(vfn, users - 1);
  }

  inUse(vfn: number): boolean {
    return this.#users.has(vfn) || this.held(vfn);
  }

  hold(gfn: number): void {
    this.#holds.set(gfn, (this.#holds.get(gfn) ?? 0) + 1);
    this.#pages.hold(gfn);
  }

  release(gfn: number): void {
    const holds = this.#holds.get(gfn);
    if (holds === undefined)
      throw new HvError({ code: 'bad-argument', argument: 'gfn', value: String(gfn), allowed: 'a page that is held' });
    if (holds === 1) {
      this.#holds.delete(gfn);
      this.#pages.release(gfn);
    } else this.#holds.set(gfn, holds - 1);
  }

  /** Mapped pages in use and granted pages held. */
  get pages(): readonly number[] {
    return [...this.#users.keys(), ...this.#holds.keys()];
  }
}
