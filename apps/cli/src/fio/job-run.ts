import type { JobOptions } from './options.ts';
import { Random } from './random.ts';
import type { IoSource, Step } from './source.ts';
import { JobStats } from './stats.ts';
import type { IoClock, IoKind, IoTarget } from './target.ts';
import { checkBlock, fillRandom, stampBlock } from './verify.ts';
import { type WrittenBlock, WrittenBlocks } from './written-blocks.ts';

/** What fio calls a block that does not verify: "illegal byte sequence". */
const EILSEQ = 84;

/** One request under way; a job has `iodepth` of them and reuses them. */
interface Slot {
  buffer: Uint8Array;
  kind: IoKind;
  offset: number;
  bytes: number;
  begun: number;
  submitted: number;
  /** The block a verifying read checks. */
  check: WrittenBlock | undefined;
  done: (errno: number) => void;
}

export interface JobRunOptions {
  readonly options: JobOptions;
  readonly source: IoSource;
  readonly target: IoTarget;
  readonly clock: IoClock;
  readonly seed: number;
  /** First byte of the job's range, and the smallest block: what overwritten blocks are told apart by. */
  readonly start: number;
  readonly granule: number;
  /** Told of each request as it goes out: `write_iolog`, the timeline. */
  readonly onIo?: (kind: IoKind, offset: number, bytes: number, atNs: number) => void;
  readonly onEnd: (run: JobRun) => void;
}

type Phase = 'waiting' | 'running' | 'verifying' | 'ended';

/** One clone of one job: keeps its queue full until its source, its time or an error ends it, then checks what it wrote. */
export class JobRun {
  readonly options: JobOptions;
  stats: JobStats = new JobStats();
  readonly #given: JobRunOptions;
  readonly #target: IoTarget;
  readonly #clock: IoClock;
  readonly #free: Slot[] = [];
  readonly #written: WrittenBlocks;
  readonly #seeds: Random;
  readonly #step: Step = { kind: 'read', offset: 0, bytes: 0, notBeforeNs: 0 };
  #haveStep = false;
  #phase: Phase = 'waiting';
  #inFlight = 0;
  /** Requests that ended since new ones were begun. */
  #reaped = 0;
  #depth: number;
  #startedAt = 0;
  #phaseAt = 0;
  #exhausted = false;
  #stopped = false;
  #ramping: boolean;
  /** `verify_backlog` is reached: writes under way end first, then what was written is checked, then writes go on. */
  #draining = false;
  #backlog = false;
  #endSyncDue: boolean;
  #sinceThink = 0;
  #holdUntil = 0;
  readonly #rateNext: Record<string, number> = { read: 0, write: 0, trim: 0 };
  #cancelWake: (() => void) | undefined;
  #pumping = false;
  #again = false;

  constructor(given: JobRunOptions) {
    this.#given = given;
    this.options = given.options;
    this.#target = given.target;
    this.#clock = given.clock;
    this.#depth = given.options.latencyTargetUs > 0 ? 1 : given.options.iodepth;
    this.#ramping = given.options.rampUs > 0;
    this.#endSyncDue = given.options.endFsync;
    this.#written = new WrittenBlocks(given.start, given.granule);
    this.#seeds = new Random(given.seed, 5);
    while (this.#free.length < given.options.iodepth) this.#free.push(this.#slot());
  }

  get ended(): boolean {
    return this.#phase === 'ended';
  }

  /** How much of the job is done, 0 to 1, by its time where that is limited, else by bytes; undefined where neither is known. */
  fraction(bytesTotal: number | undefined): number | undefined {
    if (this.#phase === 'ended') return 1;
    if (this.#phase === 'waiting') return 0;
    const { runtimeUs, rampUs } = this.options;
    const byTime = runtimeUs > 0 ? (this.#clock.now() - this.#startedAt) / ((runtimeUs + rampUs) * 1e3) : 0;
    if (runtimeUs <= 0 && !bytesTotal) return undefined;
    const { read, write, trim } = this.stats.by;
    const byBytes = bytesTotal ? (read.bytes + write.bytes + trim.bytes) / bytesTotal : 0;
    return Math.min(1, Math.max(byTime, byBytes));
  }

  start(): void {
    this.#startedAt = this.#clock.now();
    this.#phaseAt = this.#startedAt;
    this.#phase = 'running';
    const { rampUs } = this.options;
    if (rampUs > 0) {
      this.#clock.after(rampUs * 1e3, () => {
        const { error, errors, firstError, errorText, fatal } = this.stats;
        this.stats = Object.assign(new JobStats(), { error, errors, firstError, errorText, fatal });
        this.#ramping = false;
        this.#phaseAt = this.#clock.now();
      });
    }
    if (this.options.latencyTargetUs > 0) this.#adapt();
    this.pump();
  }

  /** No more requests; what is under way ends. */
  stop(): void {
    this.#stopped = true;
    this.#cancelWake?.();
    this.#cancelWake = undefined;
    this.pump();
  }

  /** Keeps the queue full. A target that answers at once comes back into `pump` from inside; that is one loop, not a recursion. */
  pump(): void {
    if (this.#pumping) {
      this.#again = true;
      return;
    }
    this.#pumping = true;
    do {
      this.#again = false;
      this.#fill();
    } while (this.#again);
    this.#pumping = false;
  }

  #fill(): void {
    if (this.#phase === 'waiting' || this.#phase === 'ended') return;
    let begun = 0;
    const room = this.#depth - this.#inFlight;
    const { batch, batchComplete, depthLow } = this.options;
    const wanted = room >= Math.min(batch, this.#depth) && this.#inFlight <= depthLow && this.#reaped >= batchComplete;
    if (wanted || this.#inFlight === 0) {
      this.#reaped = 0;
      while (this.#inFlight < this.#depth && this.#free.length > 0 && this.#issueNext()) begun += 1;
    }
    if (begun > 0) {
      this.stats.batch(this.stats.submit, begun);
      this.#target.kick();
      this.#again = true;
    } else if (this.#inFlight === 0 && !this.#cancelWake) this.#advance();
  }

  /** Begins one request if there is one and it may go now. */
  #issueNext(): boolean {
    if (this.#phase === 'verifying' || this.#backlog) return this.#issueCheck();
    if (this.#stopped || this.#exhausted || this.#draining) return false;
    const now = this.#clock.now();
    const { runtimeUs, rampUs } = this.options;
    const endsAt = runtimeUs > 0 ? this.#startedAt + (runtimeUs + rampUs) * 1e3 : Number.POSITIVE_INFINITY;
    if (now >= endsAt) {
      this.#exhausted = true;
      return false;
    }
    if (!this.#haveStep) {
      if (!this.#given.source.next(this.#step)) {
        this.#exhausted = true;
        return false;
      }
      this.#haveStep = true;
    }
    const due = Math.max(this.#holdUntil, this.#startedAt + this.#step.notBeforeNs, this.#rateNext[this.#step.kind] ?? 0);
    if (due > now) {
      this.#wakeAt(Math.min(due, endsAt));
      return false;
    }
    this.#haveStep = false;
    this.#begin(this.#step.kind, this.#step.offset, this.#step.bytes, undefined);
    return true;
  }

  #issueCheck(): boolean {
    if (this.#stopped) return false;
    const block = this.#written.take();
    if (!block) return false;
    this.#begin('read', block.offset, block.bytes, block);
    return true;
  }

  #wakeAt(at: number): void {
    if (this.#cancelWake) return;
    this.#cancelWake = this.#clock.after(Math.max(0, at - this.#clock.now()), () => {
      this.#cancelWake = undefined;
      this.pump();
    });
  }

  #begin(kind: IoKind, offset: number, bytes: number, check: WrittenBlock | undefined): void {
    const slot = this.#free.pop() as Slot;
    const { verify, verifyPattern, rateBytes, rateIops, thinkTimeUs, thinkBlocks, verifyOnly, verifyBacklog } = this.options;
    if (slot.buffer.length < bytes) {
      slot.buffer = new Uint8Array(bytes);
      this.#content(slot.buffer);
    }
    slot.kind = kind;
    slot.offset = offset;
    slot.bytes = bytes;
    slot.check = check;
    slot.begun = this.#clock.now();
    const buffer = slot.buffer.length === bytes ? slot.buffer : slot.buffer.subarray(0, bytes);
    if (kind === 'write' && verify) {
      const block = this.#written.add(offset, bytes, this.#seeds.next());
      stampBlock(verify, buffer, verifyPattern, block);
      if (verifyBacklog > 0 && this.#written.waiting >= verifyBacklog) this.#draining = true;
    }
    this.#inFlight += 1;
    this.stats.began(this.#inFlight);
    if (!check && kind !== 'sync') {
      const perIo = Math.max(rateIops[kind] > 0 ? 1e9 / rateIops[kind] : 0, rateBytes[kind] > 0 ? (bytes / rateBytes[kind]) * 1e9 : 0);
      if (perIo > 0) this.#rateNext[kind] = Math.max(this.#rateNext[kind] ?? 0, this.#startedAt) + perIo;
      this.#sinceThink += 1;
      if (thinkTimeUs > 0 && this.#sinceThink >= thinkBlocks) {
        this.#sinceThink = 0;
        this.#holdUntil = slot.begun + thinkTimeUs * 1e3;
      }
    }
    this.#given.onIo?.(kind, offset, bytes, slot.begun);
    slot.submitted = this.#clock.now();
    if (kind === 'write' && verifyOnly) slot.done(0);
    else this.#target.submit(kind, offset, buffer, slot.done);
  }

  /** What a write carries when nobody will check it: random bytes, as fio's buffers. */
  #content(buffer: Uint8Array): void {
    const { bufferPattern, zeroBuffers } = this.options;
    if (bufferPattern) for (let at = 0; at < buffer.length; at += 1) buffer[at] = bufferPattern[at % bufferPattern.length] as number;
    else if (!zeroBuffers) fillRandom(buffer, this.#seeds.next());
  }

  #slot(): Slot {
    const slot: Slot = {
      buffer: new Uint8Array(0),
      kind: 'read',
      offset: 0,
      bytes: 0,
      begun: 0,
      submitted: 0,
      check: undefined,
      done: (errno) => this.#done(slot, errno),
    };
    return slot;
  }

  #done(slot: Slot, errno: number): void {
    const now = this.#clock.now();
    this.#inFlight -= 1;
    this.#reaped += 1;
    this.stats.batch(this.stats.complete, 1);
    if (errno !== 0) this.#failed(slot.kind, Math.abs(errno), undefined);
    else {
      this.stats.ended(slot.kind, slot.bytes, slot.submitted - slot.begun, now - slot.submitted, now);
      if (slot.kind === 'read') this.#check(slot);
    }
    slot.check = undefined;
    this.#free.push(slot);
    this.pump();
  }

  #check(slot: Slot): void {
    const { verify, verifyPattern, writes, reads } = this.options;
    if (!verify || (!slot.check && (writes || !reads))) return;
    const wrong = checkBlock(verify, slot.buffer.subarray(0, slot.bytes), verifyPattern, slot.offset, slot.check?.generation);
    if (wrong !== undefined) this.#failed('verify', EILSEQ, `verify: ${wrong} at offset ${slot.offset}, length ${slot.bytes}`);
  }

  #failed(kind: IoKind | 'verify', errno: number, text: string | undefined): void {
    const { continueOn, verifyFatal } = this.options;
    this.stats.error ||= errno;
    this.stats.firstError ||= errno;
    this.stats.errors += 1;
    this.stats.errorText ??= text;
    if (kind === 'verify' ? !continueOn.verify : kind === 'read' ? !continueOn.read : !continueOn.write) this.stats.fatal = true;
    const goesOn = kind === 'verify' ? !verifyFatal || continueOn.verify : kind === 'read' ? continueOn.read : continueOn.write;
    if (!goesOn) this.#stopped = true;
  }

  /** Nothing is under way and nothing can be begun: on to the next phase. */
  #advance(): void {
    const { verify, doVerify, writes } = this.options;
    if (!this.#stopped && (this.#draining || this.#backlog)) {
      this.#backlog = this.#draining;
      this.#draining = false;
      this.#again = true;
      return;
    }
    if (this.#phase === 'running' && !this.#stopped && !this.#exhausted) return;
    if (this.#phase === 'running' && this.#endSyncDue && !this.#stopped) {
      this.#endSyncDue = false;
      this.#begin('sync', 0, 0, undefined);
      this.#target.kick();
      return;
    }
    this.#closePhase(this.#phase === 'verifying');
    if (this.#phase === 'running' && verify && doVerify && writes && !this.#stopped) {
      this.#backlog = false;
      this.#phase = 'verifying';
      this.#again = true;
      return;
    }
    this.#phase = 'ended';
    this.#cancelWake?.();
    this.#given.onEnd(this);
  }

  #closePhase(checking: boolean): void {
    const now = this.#clock.now();
    const elapsed = now - this.#phaseAt;
    this.#phaseAt = now;
    this.stats.elapsedNs += elapsed;
    if (this.#ramping) return;
    const { by } = this.stats;
    if (checking) by.read.runtimeNs += elapsed;
    else for (const each of Object.values(by)) if (each.ios > 0) each.runtimeNs += elapsed;
  }

  /** `latency_target`: the deepest queue whose latency stays below the target, looked for by doubling and stepping back. */
  #adapt(): void {
    const { latencyTargetUs, latencyWindowUs, latencyPercentile, iodepth } = this.options;
    let settled = false;
    let before = { ios: 0 };
    const step = (): void => {
      if (this.#phase !== 'running' || this.#stopped) return;
      const { read, write } = this.stats.by;
      const worst = Math.max(read.clat.percentile(latencyPercentile), write.clat.percentile(latencyPercentile));
      if (this.stats.totalIos > before.ios) {
        if (worst > latencyTargetUs * 1e3) {
          this.#depth = Math.max(1, Math.floor(this.#depth / 2));
          settled = true;
        } else if (!settled) this.#depth = Math.min(iodepth, this.#depth * 2);
      }
      before = { ios: this.stats.totalIos };
      this.#clock.after(latencyWindowUs * 1e3, step);
      this.pump();
    };
    this.#clock.after(latencyWindowUs * 1e3, step);
  }

  /** Queue depth in force: `iodepth`, or what `latency_target` found. */
  get depth(): number {
    return this.#depth;
  }
}
