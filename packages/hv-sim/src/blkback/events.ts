import type { DomId } from '@paravirt/event-bus/contract';
import type { Abi } from '@paravirt/xen-abi';

/** Facts about block backends. Plain data, past tense; each is emitted only when observed. */
export interface BlkbackEvents {
  /** A device reached a state (XenbusState) and wrote it. */
  'blkback:state': { frontend: DomId; device: number; state: number; before: number };
  /** The rings of a device are mapped and its ports bound. */
  'blkback:connected': {
    frontend: DomId;
    device: number;
    queues: number;
    ringPages: number;
    protocol: Abi;
    persistent: boolean;
  };
  /** Everything of a connection was given back. */
  'blkback:disconnected': { frontend: DomId; device: number };
  /** A request was taken from a ring and found good. `operation` is the inner one where it is indirect; sectors are of 512 bytes. */
  'blkback:requested': {
    frontend: DomId;
    device: number;
    queue: number;
    idLo: number;
    idHi: number;
    operation: number;
    sector: number;
    sectors: number;
    segments: number;
  };
  /** A request was answered: `status` is a BLKIF_RSP_*; `reason` says why not 0. */
  'blkback:completed': {
    frontend: DomId;
    device: number;
    queue: number;
    idLo: number;
    idHi: number;
    operation: number;
    status: number;
    reason: string;
  };
  /** A ring was stopped for good: the frontend published more requests than there are slots. */
  'blkback:halted': { frontend: DomId; device: number; queue: number; reqProd: number; rspProd: number; entries: number };
  /** The connection was refused; the reason stands in the store's error folder too. */
  'blkback:refused': { frontend: DomId; device: number; errno: number; reason: string };
  /** The disk has another size and the frontend was told. */
  'blkback:resized': { frontend: DomId; device: number; before: number; sectors: number };
  /** Persistent grants were given up: idle, or least recently used when there were too many. */
  'blkback:purged': { frontend: DomId; device: number; queue: number; grants: number };
}
