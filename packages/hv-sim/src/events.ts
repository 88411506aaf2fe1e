import type { DomId, GrantHandle, Gref, Port } from '@paravirt/event-bus/contract';

/** Facts about the machine. Plain data, past tense; each is emitted only when observed. */
export interface HvEvents {
  /** A domain exists and has not run. */
  'hv:created': { domid: DomId; pages: number };
  /** A domain's code will not run again; what it held is given back, what others hold of it stays. */
  'hv:destroyed': { domid: DomId; reason: string };
  /** The last page of a dead domain was given back: its domid may be used again. */
  'hv:gone': { domid: DomId };
  'hv:paused': { domid: DomId };
  'hv:unpaused': { domid: DomId };
  /** A hypercall that the machine does not have: -ENOSYS. `command` is its first argument. */
  'hv:refused': { domid: DomId; hypercall: string; command: number };
  /** A domain asked to be shut down. `reason` is the SHUTDOWN_* value. */
  'hv:shutdown': { domid: DomId; reason: number };
  /** One event was carried out. `domid` is -1 for the machine's own work. */
  'hv:stepped': { step: number; domid: number; kind: 'upcall' | 'timer' | 'task'; now: number };
  /** A grant was mapped. */
  'hv:mapped': { mapper: DomId; granter: DomId; gref: Gref; handle: GrantHandle; vfn: number; mfn: number; flags: number };
  /** A mapping went, wholly or in part. */
  'hv:unmapped': { mapper: DomId; granter: DomId; gref: Gref; handle: GrantHandle; vfn: number; mfn: number };
  /** Bytes were copied by grant. */
  'hv:copied': { by: DomId; bytes: number };
  /** A requested fault fired. */
  'hv:faulted': { fault: string; step: number };
  /** A domain wrote to its console. */
  'hv:console': { domid: DomId; text: string };
  /** A doorbell was rung through a fault filter: lost, late or doubled. */
  'hv:doorbell-faulted': { domid: DomId; port: Port; how: 'lost' | 'late' | 'doubled' };
}
