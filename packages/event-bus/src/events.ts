import type { DomId, Port } from './contract.ts';

/** Facts about event channels. All are plain data, in the past tense, and emitted only when observed. */
export interface EvtchnEvents {
  /** A port was allocated that `remote` may bind to. */
  'evtchn:allocated': { domid: DomId; port: Port; remote: DomId };
  /** A port was bound: to another domain's port, a virtual interrupt, itself, or a physical interrupt. */
  'evtchn:bound':
    | { kind: 'interdomain'; domid: DomId; port: Port; remote: DomId; remotePort: Port }
    | { kind: 'virq'; domid: DomId; port: Port; virq: number }
    | { kind: 'ipi'; domid: DomId; port: Port }
    | { kind: 'pirq'; domid: DomId; port: Port; pirq: number };
  /** A port was closed. With `remote`, that domain's `remotePort` became unbound by it. */
  'evtchn:closed': { domid: DomId; port: Port; remote?: DomId; remotePort?: Port };
  /** `domid` rang `port`. `merged`: the other end was pending already; `dropped`: there is no other end. */
  'evtchn:sent': { domid: DomId; port: Port; merged: boolean; dropped: boolean };
  /** The handler of `port` is about to run in `domid`. */
  'evtchn:delivered': { domid: DomId; port: Port };
}
