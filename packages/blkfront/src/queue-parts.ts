import type { EventBus, EventPorts } from '@paravirt/event-bus';
import type { Port } from '@paravirt/event-bus/contract';
import type { FrontRing } from '@paravirt/xen-abi';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import type { GrefPool } from './gref-pool.ts';
import type { PinnedTable } from './pinned.ts';
import type { SegmentWriter } from './segments.ts';
import type { Shadows } from './shadows.ts';
import type { OnDone, QueueFigures } from './types.ts';

/** A request taken off a dead ring, to be issued again on the next. */
export interface Carried {
  /** The ring that it stood on, and its slot there. */
  readonly queue: number;
  readonly id: number;
  readonly op: number;
  readonly sector: number;
  readonly count: number;
  readonly done: number;
  readonly follow: number;
  readonly gfns: ArrayLike<number> | null;
  readonly bytes: Uint8Array | null;
  readonly start: number;
  readonly cookie: number;
  readonly sink: OnDone;
}

/** Whether a request's data lies in one of `frames`. */
export function touches({ gfns, start, count }: Pick<Carried, 'gfns' | 'start' | 'count'>, frames: ReadonlySet<number>): boolean {
  if (gfns === null) return false;
  const end = Math.min(gfns.length, Math.ceil((start + count * 512) / 4096));
  for (let i = start >>> 12; i < end; i++) if (frames.has(gfns[i]!)) return true;
  return false;
}

/** A request that is over, for those who watch. */
export interface Completion {
  readonly queue: number;
  readonly op: number;
  /** Sectors of 512 bytes; both 0 for a flush. */
  readonly sector: number;
  readonly sectors: number;
  /** 0 or a negative errno. */
  readonly status: number;
}

/** What a queue works with, made anew for every connection. */
export interface QueueParts {
  readonly index: number;
  readonly path: string;
  readonly handle: number;
  readonly ring: FrontRing;
  readonly port: Port;
  readonly events: EventPorts;
  readonly shadows: Shadows;
  readonly segments: SegmentWriter;
  readonly refs: GrefPool;
  readonly pinned: PinnedTable;
  readonly features: Features;
  readonly figures: QueueFigures;
  readonly bus: EventBus<BlkfrontEvents> | undefined;
  /** Whether data must pass through pages of the driver's own. */
  readonly bounceAll: boolean;
  readonly persistent: boolean;
  readonly maxSegments: number;
  /** The backend lied: the device is over. */
  readonly onBroken: (reason: string) => void;
  /** Requests completed, or references came free: who was refused may try again. */
  readonly onRoom: (queue: number) => void;
  /** References or pages ran out. */
  readonly onDry: (queue: number, what: 'references' | 'pages') => void;
  /** Who listens to completions; null costs one branch. */
  readonly tap: { completed: ((completion: Completion) => void) | null };
  /** More was answered than one turn may handle: call `poll` again, later. */
  readonly onBacklog: (queue: number) => void;
}
