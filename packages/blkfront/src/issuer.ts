import type { EventBus } from '@paravirt/event-bus';
import { BLKIF_DISCARD_SECURE, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BlockRequest, type FrontRing } from '@paravirt/xen-abi';
import type { BlkfrontEvents } from './events.ts';
import type { Features } from './features.ts';
import type { QueueParts } from './queue-parts.ts';
import type { SegmentWriter } from './segments.ts';
import { MODE, type Shadow, SLOT } from './shadows.ts';
import { OP, type QueueFigures } from './types.ts';

/** Puts requests of every kind on a ring, part by part where they are longer than the ring takes. */
export class Issuer {
  private readonly parts: QueueParts;
  private readonly ring: FrontRing;
  private readonly segments: SegmentWriter;
  private readonly features: Features;
  private readonly figures: QueueFigures;
  private readonly bus: EventBus<BlkfrontEvents> | undefined;
  private readonly wire: BlockRequest = new BlockRequest();

  constructor(parts: QueueParts) {
    this.parts = parts;
    this.ring = parts.ring;
    this.segments = parts.segments;
    this.features = parts.features;
    this.figures = parts.figures;
    this.bus = parts.bus;
    this.wire.handle = parts.handle;
  }

  /** Whether the driver reaches every page of a buffer that it would have to copy. */
  reaches(gfns: ArrayLike<number>, start: number, count: number): boolean {
    const { persistent, bounceAll } = this.parts;
    if (!persistent && !bounceAll && (start & this.features.alignMask) === 0) return true;
    return this.segments.allThere(gfns, start, count);
  }

  /** Puts the next part of a request on the ring. False when references or pages ran out, or a page is not there; nothing is held then. */
  issue(r: Shadow): boolean {
    const f = this.features;
    const wire = this.wire;
    const op = r.op;
    let operation: number = BLKIF_OP.READ;
    if (op === OP.FLUSH || r.follow === 2) {
      operation = f.flush ? BLKIF_OP.FLUSH_DISKCACHE : BLKIF_OP.WRITE_BARRIER;
      r.mode = MODE.NONE;
      wire.nrSegments = 0;
      // Linux leaves the sector of a request without data at -1.
      wire.setSectorHalves(0xffff_ffff, 0xffff_ffff);
    } else if (op === OP.DISCARD || op === OP.DISCARD_SECURE || (op === OP.WRITE_ZEROES && this.zeroesByDiscard(r) > 0)) {
      operation = BLKIF_OP.DISCARD;
      r.mode = MODE.NONE;
      r.chunk = op === OP.WRITE_ZEROES ? this.zeroesByDiscard(r) : r.count - r.done;
      wire.flag = op === OP.DISCARD_SECURE ? BLKIF_DISCARD_SECURE : 0;
      wire.setSector(r.sector + r.done);
      wire.setNrSectors(r.chunk);
    } else {
      let limit = this.parts.maxSegments;
      if (op !== OP.READ) operation = BLKIF_OP.WRITE;
      r.mode = this.modeOf(r);
      if (r.mode === MODE.ZERO && !this.segments.makeZeroPage()) return false;
      if (op === OP.WRITE_FUA && r.follow === 0) {
        const offset = r.mode === MODE.DIRECT || r.mode === MODE.PINNED ? r.start & 4095 : 0;
        const whole = offset + r.count * 512 <= BLKIF_MAX_SEGMENTS_PER_REQUEST * 4096;
        if (f.barrier && whole && r.done === 0) {
          operation = BLKIF_OP.WRITE_BARRIER;
          limit = BLKIF_MAX_SEGMENTS_PER_REQUEST;
        } else r.follow = 1;
      }
      if (!(op === OP.WRITE_ZEROES ? this.openZeroes(r, limit) : this.segments.open(r, limit, wire))) return false;
      // A durable write cut short for want of references cannot be one barrier.
      if (operation === BLKIF_OP.WRITE_BARRIER && r.chunk !== r.count) {
        operation = BLKIF_OP.WRITE;
        r.follow = 1;
      }
      const sector = r.sector + r.done;
      if ((sector | 0) === sector) {
        // Without the division that a sector beyond 2^31 needs.
        wire.sectorLo = sector;
        wire.sectorHi = 0;
      } else wire.setSector(sector);
    }
    r.wireOp = operation;
    wire.operation = operation;
    if (r.indirectPage !== -1) {
      wire.operation = BLKIF_OP.INDIRECT;
      wire.indirectOp = operation;
    }
    r.generation = this.parts.shadows.tick();
    wire.idLo = r.id;
    wire.idHi = r.generation;
    r.state = SLOT.ON_RING;
    this.ring.putRequest(wire);
    this.figures.requests++;
    if (this.bus?.observed('blkfront:requested')) this.tell(r);
    return true;
  }

  /**
   * Sectors from where a writing of zeroes stands that may be discarded instead: whole granules, because a backend may leave alone
   * whatever of a discard is none. 0 inside a granule, or where zeroes are written anyway.
   */
  private zeroesByDiscard(r: Shadow): number {
    const { zeroByDiscard, discard, discardGranularity, discardAlignment } = this.features;
    if (!zeroByDiscard || !discard) return 0;
    const granule = discardGranularity / 512;
    const from = r.sector + r.done - discardAlignment / 512;
    if (from < 0 || from % granule !== 0) return 0;
    const left = r.count - r.done;
    return left - (left % granule);
  }

  /** Opens what is written of zeroes: all of it, or no more than up to the granules that can be discarded. */
  private openZeroes(r: Shadow, limit: number): boolean {
    const { zeroByDiscard, discard, discardGranularity, discardAlignment } = this.features;
    const { count } = r;
    if (zeroByDiscard && discard) {
      const granule = discardGranularity / 512;
      const offset = discardAlignment / 512;
      const first = Math.ceil((r.sector + r.done - offset) / granule) * granule + offset;
      if (first + granule <= r.sector + count) r.count = first - r.sector;
    }
    const opened = this.segments.open(r, limit, this.wire);
    r.count = count;
    return opened;
  }

  private modeOf(r: Shadow): number {
    const { persistent, bounceAll } = this.parts;
    if (r.op === OP.WRITE_ZEROES) {
      // A buffer that came with it is not what is written.
      r.gfns = null;
      r.bytes = null;
      return persistent ? MODE.PERSISTENT : MODE.ZERO;
    }
    const { gfns, start } = r;
    if (!bounceAll && gfns !== null && (start & this.features.alignMask) === 0) {
      if (!persistent) return MODE.DIRECT;
      if (this.segments.allPinned(gfns, start, r.count)) return MODE.PINNED;
    }
    return persistent ? MODE.PERSISTENT : MODE.BOUNCED;
  }

  /** Tells that a request was put on the ring. */
  tell(r: Shadow): void {
    this.bus!.emit('blkfront:requested', {
      path: this.parts.path,
      queue: this.parts.index,
      id: r.id,
      op: r.op,
      sector: r.sector + r.done,
      sectors: r.mode === MODE.NONE && r.op === OP.FLUSH ? 0 : r.chunk,
      segments: r.segments,
    });
  }
}
