import { END_OF_LIST } from './free-list.ts';
import type { GrantList } from './types.ts';

/** A private list: its members are linked like those of the free list. */
export class PrivateList implements GrantList {
  head: number;
  length: number;
  /** The table's free list; undefined once the list was freed. */
  owner: object | undefined;

  constructor(owner: object, head: number, length: number) {
    this.owner = owner;
    this.head = head;
    this.length = length;
  }

  close(): void {
    this.owner = undefined;
    this.head = END_OF_LIST;
    this.length = 0;
  }
}
