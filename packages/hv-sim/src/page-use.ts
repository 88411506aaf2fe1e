import type { UnmapOp } from '@paravirt/gnttab';
import { HvError } from './errors.ts';
import type { GuestPageList } from './memory/guest-memory.ts';
import type { DomainPageUse } from './types.ts';

/** Counts who uses the pages behind a domain's grants and mappings. */
export class PageUses implements DomainPageUse {
  readonly #users: Map<number, number> = new Map();
  readonly #pages: GuestPageList;
  /** Asked by `inUse`: true says that a page is in use although nobody is. A fault injector's handle. */
  held: ((vfn: number) => boolean) | undefined = undefined;

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
    if (this.#users.size > 0 && this.#users.has(vfn)) return true;
    return this.held?.(vfn) ?? false;
  }

  anyInUse(ops: readonly UnmapOp[], count: number): boolean {
    if (this.#users.size === 0 && this.held === undefined) return false;
    for (let i = 0; i < count; i++) if (this.inUse(ops[i]!.vfn)) return true;
    return false;
  }

  hold(gfn: number): void {
    this.#pages.hold(gfn);
  }

  release(gfn: number): void {
    this.#pages.release(gfn);
  }

  /** Mapped pages in use. */
  get pages(): readonly number[] {
    return [...this.#users.keys()];
  }
}
