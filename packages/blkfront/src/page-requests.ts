import type { EventBus } from '@paravirt/event-bus';
import type { Gfn, Gref } from '@paravirt/event-bus/contract';
import { type FrontRing, RESPONSE } from '@paravirt/xen-abi';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import type { GrefPool } from './gref-pool.ts';
import type { PinnedTable } from './pinned.ts';
import type { QueueParts } from './queue-parts.ts';
import { MODE, type Shadow, type Shadows, SLOT } from './shadows.ts';
import { type OnDone, OP, type QueueFigures } from './types.ts';

// Of this module alone: what is imported is loaded from its module at every use.
const { READ, WRITE } = OP;
const { idHi: ID_HI, tail: TAIL, statusShift: STATUS_SHIFT } = RESPONSE;
/** Beside the operation in a row's first word, so that a read is not 0 either. */
const LIVE = 0x1000;

/** What `PageRequests.submit` answers: on the ring; nothing done, the request goes the longer way; nothing done for want of references. */
export const TAKEN = 0;
export const NOT_MINE = 1;
export const DRY = 2;

/**
 * Reads and writes within one page of the caller's that is neither copied nor divided, which is most of all requests: straight to the
 * ring, and from an answer that all went well straight to the caller. The way there is one body, because calls cost as much as what is
 * done here; the way back is done for many answers together.
 *
 * Such a request is kept in a row of eight numbers, half a cache line: 0 its operation and sectors (0: the row is empty), 1 its
 * generation, 2 its reference, 3 its sector, 4 its start, 5 its cookie, 6 what 0 was when its answer was taken. What 7 holds belongs to
 * the ring: the id of the first answer taken together with others in row 0, of the second in row 1. `at` brings a request into its
 * shadow for whatever else becomes of it. The words' numbers stand in the code as they are: what is put in place of a call is measured
 * with its names.
 */
export class PageRequests {
  private readonly rows: Int32Array;
  /**
   * What a row cannot hold, by id. Kept until the slot's next request here, which as a rule has the same buffer and the same
   * completer: a reference to an object costs more to write than to compare.
   */
  private readonly gfns: (ArrayLike<number> | null)[];
  private readonly sinks: (OnDone | null)[];
  /** The references of the answers taken together. */
  private readonly grefs: Uint32Array;
  private readonly parts: QueueParts;
  private readonly shadows: Shadows;
  private readonly ring: FrontRing;
  private readonly refs: GrefPool;
  private readonly pinned: PinnedTable;
  private readonly features: Features;
  private readonly figures: QueueFigures;
  private readonly tap: QueueParts['tap'];
  private readonly bus: EventBus<BlkfrontEvents> | undefined;
  private readonly handle: number;
  private readonly persistent: boolean;
  /** Whether a page of the caller's may go on the wire as it is. */
  private readonly unbounced: boolean;

  constructor(parts: QueueParts) {
    const { slots } = parts.shadows;
    this.parts = parts;
    this.rows = new Int32Array(slots * 8);
    this.grefs = new Uint32Array(slots);
    this.gfns = Array.from({ length: slots }, () => null);
    this.sinks = Array.from({ length: slots }, () => null);
    this.shadows = parts.shadows;
    this.ring = parts.ring;
    this.refs = parts.refs;
    this.pinned = parts.pinned;
    this.features = parts.features;
    this.figures = parts.figures;
    this.tap = parts.tap;
    this.bus = parts.bus;
    this.handle = parts.handle;
    this.persistent = parts.persistent;
    this.unbounced = !parts.bounceAll;
  }

  /** Puts a request on the ring that nobody watches. @returns `TAKEN`, `NOT_MINE` or `DRY`. */
  submit(op: number, sector: number, gfns: ArrayLike<number>, start: number, count: number, cookie: number, sink: OnDone): number {
    // What is a machine integer is known for one to the compiler from here on.
    const what = op | 0;
    const from = sector | 0;
    const sectors = count | 0;
    const at = start | 0;
    const mine = cookie | 0;
    const first = (at >>> 9) & 7;
    const f = this.features;
    if (
      (what !== READ && (what !== WRITE || f.readonly !== false)) ||
      what !== op ||
      from !== sector ||
      sectors !== count ||
      at !== start ||
      mine !== cookie ||
      from < 0 ||
      sectors <= 0 ||
      at < 0 ||
      from + sectors > f.sectors ||
      ((from | sectors) & f.granule) !== 0 ||
      (at & f.alignMask) !== 0 ||
      first + sectors > 8 ||
      at >>> 12 >= gfns.length ||
      this.unbounced !== true ||
      this.bus?.observed('blkfront:requested') === true
    ) {
      return NOT_MINE;
    }
    const gfn = gfns[at >>> 12]! as Gfn;
    // A frame that is none is found by the longer way, before anything is taken.
    if ((gfn | 0) !== gfn || gfn < 0) return NOT_MINE;
    const { shadows, rows, figures } = this;
    const id = shadows.takeId();
    if (id < 0) return NOT_MINE;
    const gref = (this.persistent === true ? this.pinned.find(gfn) : this.refs.lend(gfn, what !== READ)) | 0;
    if (gref === -1) {
      shadows.giveId(id);
      return this.persistent ? NOT_MINE : DRY;
    }
    const generation = shadows.tick();
    const row = id << 3;
    rows[row] = what | (sectors << 8) | LIVE;
    rows[row | 1] = generation;
    rows[row | 2] = gref;
    rows[row | 3] = from;
    rows[row | 4] = at;
    rows[row | 5] = mine;
    if (this.gfns[id] !== gfns) this.gfns[id] = gfns;
    if (this.sinks[id] !== sink) this.sinks[id] = sink;
    // A read and a write have the same numbers here and on the wire.
    this.ring.putPage(what, this.handle, id, generation, from, gref, first, first + sectors - 1);
    figures.segments++;
    figures.requests++;
    return TAKEN;
  }

  /**
   * Takes up to `most` answers from the ring as long as they are to requests of one page that went well, ends all their references, and
   * completes each; what else is there is left on the ring. A completer that throws does not keep the others from their answers: its
   * error is thrown on at the end. @returns how many.
   */
  completeAll(most: number): number {
    const taken = this.take(most);
    if (taken === 0) return 0;
    const { rows, sinks, shadows } = this;
    if (this.persistent !== true) this.close(taken);
    this.figures.responses += taken;
    let failed = false;
    let error: unknown;
    for (let i = 0; i < taken; i++) {
      const id = rows[(i << 3) | 7]!;
      const cookie = rows[(id << 3) | 5]!;
      const sink = sinks[id]!;
      if (this.tap.completed !== null || this.bus?.observed('blkfront:completed') === true) this.tell(id);
      shadows.giveId(id);
      try {
        sink(cookie, 0);
      } catch (thrown) {
        if (!failed) error = thrown;
        failed = true;
      }
    }
    if (failed) throw error;
    return taken;
  }

  /**
   * Reads answers, each word once, and notes which requests they end. Calls nothing, so that the compiler keeps what it knows of the
   * arrays from one answer to the next. @returns how many.
   */
  private take(most: number): number {
    const { ring, rows, grefs } = this;
    const { shared } = ring;
    const { words } = shared;
    const { slots } = this.shadows;
    const limit = Math.min(most, slots);
    let taken = 0;
    for (let cons = ring.rspCons | 0; taken < limit; taken++, cons++) {
      const at = shared.wordOf(cons);
      if (at < 0) break;
      const id = words[at]!;
      const generation = words[at + ID_HI]!;
      const tail = words[at + TAIL]! | 0;
      if (id >= slots || tail >> STATUS_SHIFT !== 0) break;
      const row = id << 3;
      const what = rows[row]!;
      if ((what & (LIVE | 0xff)) !== ((tail & 0xff) | LIVE) || rows[row | 1] !== generation) break;
      // From here on a second answer to it is one to nothing.
      rows[row] = 0;
      rows[row | 6] = what;
      rows[(taken << 3) | 7] = id;
      grefs[taken] = rows[row | 2]!;
    }
    if (taken > 0) ring.skipResponses(taken);
    return taken;
  }

  /** Closes the references of the answers just taken; one that the peer still maps is set aside. */
  private close(taken: number): void {
    const { refs, grefs, rows } = this;
    for (let i = refs.closeRun(grefs, 0, taken); i < taken; i += 1 + refs.closeRun(grefs, i + 1, taken - i - 1)) {
      const id = rows[(i << 3) | 7]!;
      refs.setAside(grefs[i]! as Gref, this.gfns[id]![rows[(id << 3) | 4]! >>> 12]! as Gfn, -1);
    }
  }

  private tell(id: number): void {
    const row = id << 3;
    const what = this.rows[row | 6]!;
    const op = what & 0xff;
    const { path, index: queue } = this.parts;
    this.tap.completed?.({ queue, op, sector: this.rows[row | 3]!, sectors: (what >>> 8) & 15, status: 0 });
    if (this.bus?.observed('blkfront:completed')) this.bus.emit('blkfront:completed', { path, queue, id, op, status: 0 });
  }

  /** A slot's shadow. What stood in its row goes on in there. */
  at(id: number): Shadow {
    const r = this.shadows.all[id]!;
    if (this.rows[id << 3] !== 0) this.unfold(r);
    return r;
  }

  private unfold(r: Shadow): void {
    const { rows, shadows } = this;
    const row = r.id << 3;
    const what = rows[row]!;
    r.state = SLOT.ON_RING;
    r.op = what & 0xff;
    r.wireOp = r.op;
    r.mode = this.persistent ? MODE.PINNED : MODE.DIRECT;
    r.sector = rows[row | 3]!;
    r.count = (what >>> 8) & 15;
    r.done = 0;
    r.chunk = r.count;
    r.start = rows[row | 4]!;
    r.cookie = rows[row | 5]!;
    r.follow = 0;
    r.segments = 1;
    r.generation = rows[row | 1]!;
    r.order = r.generation;
    r.gfns = this.gfns[r.id]!;
    r.bytes = null;
    r.sink = this.sinks[r.id]!;
    shadows.segRef[r.base] = rows[row | 2]!;
    rows[row] = 0;
  }
}
