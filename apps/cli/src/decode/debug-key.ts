import type { DumpedTableReport } from './types.ts';

/** One active entry of a grant table, as Xen's `g` key prints it. */
interface ActiveEntry {
  readonly ref: number;
  /** The domain that maps it. */
  readonly mapper: number;
  readonly mfn: number;
  /** The pin word, as printed. */
  readonly pin: string;
  /** The shared entry's domain, frame and flags (version 2: its status) at that moment. */
  readonly sharedDomid: number;
  readonly gmfn: number;
  readonly flags: number;
}

/** A domain's table in the dump. */
export interface DumpedTable {
  readonly domid: number;
  readonly version: number;
  readonly frames: number | null;
  readonly framesMax: number | null;
  readonly active: ReadonlyMap<number, ActiveEntry>;
}

const TABLE = /grant-table for remote d(?:om)?(\d+)\s*\(v(\d+)\)/;
const FRAMES = /(\d+) frames \((\d+) max\)/;
const ENTRY = /\[\s*(0x[0-9a-f]+|\d+)\]\s+(\d+)\s+0x([0-9a-f]+)\s+(0x[0-9a-f]+)\s+(\d+)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)/i;

/** Longer lines are not the dump's. */
const LINE_MAX = 400;

/** Parses the console's text after `xl debug-keys g`; lines of other origin are passed over. */
export function parseDebugKey(text: string): DumpedTable[] {
  const tables: DumpedTable[] = [];
  let active = new Map<number, ActiveEntry>();
  for (const whole of text.split('\n')) {
    const line = whole.slice(0, LINE_MAX);
    const table = TABLE.exec(line);
    if (table) {
      active = new Map();
      tables.push({ domid: Number(table[1]), version: Number(table[2]), frames: null, framesMax: null, active });
      continue;
    }
    const last = tables.at(-1);
    if (!last) continue;
    const frames = FRAMES.exec(line);
    if (frames) tables[tables.length - 1] = { ...last, frames: Number(frames[1]), framesMax: Number(frames[2]) };
    const entry = ENTRY.exec(line);
    if (!entry) continue;
    const ref = Number(entry[1]);
    active.set(ref, {
      ref,
      mapper: Number(entry[2]),
      mfn: Number.parseInt(entry[3]!, 16),
      pin: entry[4]!,
      sharedDomid: Number(entry[5]),
      gmfn: Number.parseInt(entry[6]!, 16),
      flags: Number.parseInt(entry[7]!, 16),
    });
  }
  return tables;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

export function dumpReport(tables: readonly DumpedTable[]): DumpedTableReport[] {
  return tables.map(({ domid, version, frames, framesMax, active }) => ({
    domid,
    version,
    frames,
    framesMax,
    entries: [...active.values()].map(({ ref, mapper, mfn, pin, sharedDomid, gmfn, flags }) => ({
      ref,
      mapper,
      mfn: hex(mfn),
      pin,
      domid: sharedDomid,
      gmfn: hex(gmfn),
      flags,
    })),
  }));
}
