/** What one domain holds, or what is held of it. Counts, but where a list says what. */
export interface LedgerEntry {
  readonly domid: number;
  readonly state: string;
  /** Frames it owns: all, and those among them that back its guest-physical memory, hold its grant table, or are its heap's. */
  readonly frames: { readonly owned: number; readonly ram: number; readonly tables: number; readonly heap: number };
  /** Pages of its RAM that drivers have borrowed. */
  readonly pagesLent: readonly number[];
  /** References whose entry grants something, reserved ones left out. */
  readonly granted: readonly number[];
  /** References that somebody has mapped or pinned. */
  readonly pinned: readonly number[];
  /** Handles it holds on others' grants. */
  readonly handles: readonly { readonly handle: number; readonly granter: number; readonly gref: number; readonly vfn: number }[];
  /** Pages mapped in its address space that are no grants. */
  readonly mappings: number;
  /** Ports open beyond those it had at boot. */
  readonly ports: readonly number[];
  readonly watches: number;
  readonly transactions: number;
  readonly timers: number;
  /** Pages that somebody says to use. */
  readonly pagesInUse: readonly number[];
  /** Plugins attached in it. */
  readonly plugins: readonly string[];
}

/** Who holds what, at one step. */
export interface Ledger {
  readonly step: number;
  readonly frames: { readonly total: number; readonly free: number; readonly hypervisor: number };
  readonly domains: readonly LedgerEntry[];
  /** Timers of the machine itself. */
  readonly timers: number;
  /** What does not add up: two books that disagree. Empty unless something inside is broken. */
  readonly errors: readonly string[];
}

/** Names everything that a domain should have given back. */
export function leftovers(ledger: Ledger): string[] {
  const left: string[] = [...ledger.errors];
  const some = (list: readonly unknown[]): string => `${list.slice(0, 8).join(', ')}${list.length > 8 ? ', ...' : ''}`;
  for (const entry of ledger.domains) {
    const say = (what: string): void => {
      left.push(`domain ${entry.domid} (${entry.state}): ${what}`);
    };
    const { granted, pinned, handles, pagesLent, ports, pagesInUse, plugins } = entry;
    if (granted.length > 0) say(`${granted.length} references granted: ${some(granted)}`);
    if (pinned.length > 0) say(`${pinned.length} references pinned by others: ${some(pinned)}`);
    if (handles.length > 0) {
      say(
        `${handles.length} handles held: ${some(handles.map((h) => `${h.handle} (reference ${h.gref} of domain ${h.granter} at page ${h.vfn})`))}`,
      );
    }
    if (pagesLent.length > 0) say(`${pagesLent.length} pages lent out: ${some(pagesLent)}`);
    if (entry.mappings > 0) say(`${entry.mappings} pages mapped`);
    if (entry.frames.heap > 0) say(`${entry.frames.heap} frames of its heap`);
    if (ports.length > 0) say(`${ports.length} ports open: ${some(ports)}`);
    if (entry.watches > 0) say(`${entry.watches} watches`);
    if (entry.transactions > 0) say(`${entry.transactions} store transactions open`);
    if (entry.timers > 0) say(`${entry.timers} timers set`);
    if (pagesInUse.length > 0) say(`${pagesInUse.length} pages in use: ${some(pagesInUse)}`);
    if (plugins.length > 0) say(`plugins attached: ${plugins.join(', ')}`);
    if (entry.state === 'dying') say(`${entry.frames.owned - entry.frames.tables} frames that others still hold`);
  }
  if (ledger.timers > 0) left.push(`the machine: ${ledger.timers} timers set`);
  return left;
}
