import { END } from './free-list.ts';
import type { GrantList } from './types.ts';

/** What `head` is at the end of a list. @see Linux 6.6, drivers/xen/grant-table.c, GNTTAB_LIST_END */
export const END_OF_LIST = 0xffff_ffff;

/** A private list: its members are linked like those of the free list. */
export class PrivateList implements GrantList {
  /** The first member, or `END`. */
  first: number;
  length: number;
  /** The table's free list; undefined once the list was freed. */
  owner: object | undefined;

  constructor(owner: object, first: number, length: number) {
    this.owner = owner;
    this.first = first;
    this.length = length;
  }

  get head(): number {
    return this.first === END ? END_OF_LIST : this.first;
  }

  close(): void {
    this.owner = undefined;
    this.first = END;
    this.length = 0;
  }
}
