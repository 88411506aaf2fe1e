import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';

/**
 * Facts about one domain's grant table. `owner` is the domain whose table it is. Facts are emitted only while somebody listens
 * to their type.
 */
export interface GnttabEvents {
  /** References left the free list: `count` in a row from `gref` on, or a private list of `count` that starts with `gref`. */
  'gnttab:allocated': { owner: DomId; gref: Gref; count: number; consecutive: boolean };
  /** A reference was taken from a private list. */
  'gnttab:claimed': { owner: DomId; gref: Gref };
  /** A reference went back to a private list. */
  'gnttab:released': { owner: DomId; gref: Gref };
  /** References came back to the free list, as `gnttab:allocated`; `gref` is the new head of the free list. */
  'gnttab:freed': { owner: DomId; gref: Gref; count: number };
  /** The table grew to `frames` frames of `entries` references in all. */
  'gnttab:grown': { owner: DomId; frames: number; entries: number };
  /** The free list was put in ascending order to find `count` in a row; `first` is undefined when there was no place. */
  'gnttab:rebuilt': { owner: DomId; count: number; first: Gref | undefined };
  /** A free callback fired. */
  'gnttab:free-callback': { owner: DomId; count: number; free: number; callback: object };
  /** An entry was published. `gfn` is undefined for a transitive one. */
  'gnttab:granted': { owner: DomId; peer: DomId; gref: Gref; gfn: Gfn | undefined; readonly: boolean };
  /** An entry was closed; the peer has no mapping. */
  'gnttab:ended': { owner: DomId; peer: DomId; gref: Gref };
  /** An end found the entry in use; nothing was given back. */
  'gnttab:busy': { owner: DomId; peer: DomId; gref: Gref };
  /** The end of a busy entry was put off; `page` is held meanwhile, undefined when there is none. */
  'gnttab:deferred': { owner: DomId; peer: DomId; gref: Gref; page: Gfn | undefined };
  /** A deferred end was carried out and the reference freed. */
  'gnttab:deferred-freed': { owner: DomId; gref: Gref; page: Gfn | undefined };
  /** A deferred end failed for the 60th time; said once. */
  'gnttab:still-pending': { owner: DomId; peer: DomId; gref: Gref };
  /** A busy entry that could not be queued: its reference and page are lost for good. */
  'gnttab:leaked': { owner: DomId; peer: DomId; gref: Gref };
  /** A page of `peer` was mapped at virtual frame `vfn`. */
  'gnttab:mapped': { owner: DomId; peer: DomId; gref: Gref; vfn: number; handle: number };
  /** The page at virtual frame `vfn` was unmapped. */
  'gnttab:unmapped': { owner: DomId; vfn: number; handle: number };
  /** An asynchronous unmap was put off for `delayMs` because a page is in use. */
  'gnttab:unmap-retry': { owner: DomId; batch: object; age: number; delayMs: number };
  /** An asynchronous unmap was carried out. */
  'gnttab:unmap-done': { owner: DomId; batch: object; age: number; result: number };
  /** Elements of a map or copy batch that met GNTST_eagain are tried again after `delayMs`. */
  'gnttab:eagain': { owner: DomId; count: number; delayMs: number };
  /** The entries' layout changed; every reference is free again. */
  'gnttab:version-changed': { owner: DomId; version: 1 | 2; entries: number };
}
