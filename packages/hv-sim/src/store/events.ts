import type { DomId } from '@paravirt/event-bus/contract';

/** Facts about the store, in the order of the requests. All plain data, emitted only when observed. */
export interface StoreEvents {
  /** A request to change a node was accepted; inside transaction `transaction` (0: none) it counts only from the commit on. */
  'store:changed': {
    domid: DomId;
    change: 'write' | 'mkdir' | 'rm' | 'set-perms';
    path: string;
    /** The new value of a write, the permissions of a set-perms as in `n0,r6`. */
    value?: string;
    transaction: number;
  };
  /** A transaction was ended. `conflict`: it was refused with EAGAIN. */
  'store:ended': { domid: DomId; transaction: number; committed: boolean; conflict: boolean };
  'store:introduced': { domid: DomId };
  'store:released': { domid: DomId };
  /** A ring's guest broke the protocol and is ignored from now on; `error` is what stands in its page (`XENSTORE_ERROR_*`). */
  'store:ignored': { domid: DomId; error: number };
}
