import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import type { GrantTable } from './api.ts';
import { GrantError } from './errors.ts';
import type { GnttabEvents } from './events.ts';
import { FakeHypervisor } from './fake-hypervisor.ts';
import { type Recorded, recorderBus } from './recorder.ts';
import { ReplayError } from './replay-error.ts';
import { createGrantTable } from './table.ts';
import { TickScheduler } from './tick-scheduler.ts';
import type { FreeCallback, GrantHypercalls, GrantList, PageUse, UnmapBatch, UnmapOp } from './types.ts';

export interface Config {
  readonly version: 1 | 2;
  readonly maxFrames: number;
  readonly initialFrames: number;
  readonly reservedEntries: number;
  readonly hz: number;
  readonly pages: number;
  readonly freePerIteration: number;
}

type Args = Record<string, unknown>;
interface Outcome {
  ret: number | null;
  out?: object;
}

const ENOSPC = -28;
const OWNER = 1 as DomId;
/** A checkpoint spells a free list of at most this many members out. */
const LISTED_MAX = 200;

/** A domain with nothing but a grant table, a clock and counted pages, driven by the lines of a recording. */
export class ReplayMachine {
  private readonly config: Config;
  private clock!: TickScheduler;
  private table!: GrantTable;
  private hypervisor!: FakeHypervisor;
  private readonly pages: number[] = [];
  private readonly lists: Map<number, GrantList> = new Map();
  private readonly callbacks: Map<number, FreeCallback> = new Map();
  private readonly items: Map<object, number> = new Map();
  private readonly results: Map<readonly UnmapOp[], number> = new Map();
  private readonly batches: Map<number, UnmapBatch> = new Map();
  private events: object[] = [];
  private recordsFit = true;

  constructor(config: Config) {
    this.config = config;
    this.reset();
  }

  /** Carries a line out; gives what the recording says about it. */
  run(op: string, args: Args): object {
    if (op === 'checkpoint') return this.checkpoint();
    this.events = [];
    const { ret, out } = this.carryOut(op, args);
    return {
      ret,
      ...(out === undefined ? {} : { out }),
      ...(this.events.length === 0 ? {} : { events: this.events }),
      free: this.table.free,
    };
  }

  private carryOut(op: string, args: Args): Outcome {
    const { table } = this;
    switch (op) {
      case 'allocGrantReferences': {
        const list = whole(args, 'list');
        return orNoSpace(() => {
          const made = table.allocGrantReferences(whole(args, 'count'));
          this.lists.set(list, made);
          return { ret: 0, out: { head: made.head } };
        });
      }
      case 'claimGrantReference': {
        const list = this.list(args);
        const ret = table.claimGrantReference(list) ?? ENOSPC;
        return { ret, out: { head: list.head } };
      }
      case 'releaseGrantReference': {
        const list = this.list(args);
        table.releaseGrantReference(list, whole(args, 'ref') as Gref);
        return { ret: null, out: { head: list.head } };
      }
      case 'emptyGrantReferences':
        return { ret: table.emptyGrantReferences(this.list(args)) ? 1 : 0 };
      case 'freeGrantReferences':
        table.freeGrantReferences(this.list(args));
        this.lists.delete(whole(args, 'list'));
        return { ret: null };
      case 'freeGrantReference':
        table.freeGrantReference(whole(args, 'ref') as Gref);
        return { ret: null };
      case 'allocGrantReferenceSeq':
        return orNoSpace(() => ({ ret: 0, out: { first: table.allocGrantReferenceSeq(whole(args, 'count')) } }));
      case 'freeGrantReferenceSeq':
        table.freeGrantReferenceSeq(whole(args, 'first') as Gref, whole(args, 'count'));
        return { ret: null };
      case 'grantForeignAccess':
        return orNoSpace(() => {
          const peer = whole(args, 'domid') as DomId;
          const ret = table.grantForeignAccess({ peer, gfn: whole(args, 'frame') as Gfn, readonly: truth(args, 'readonly') });
          return { ret, out: this.entry(ret) };
        });
      case 'grantForeignAccessRef': {
        const ref = whole(args, 'ref') as Gref;
        table.publish(ref, whole(args, 'domid') as DomId, whole(args, 'frame') as Gfn, truth(args, 'readonly'));
        return { ret: null, out: this.entry(ref) };
      }
      case 'remoteFlags': {
        const ref = whole(args, 'ref') as Gref;
        this.hypervisor.domain(OWNER).changeFlags(ref, whole(args, 'set'), whole(args, 'clear'));
        return { ret: null, out: this.entry(ref) };
      }
      case 'endForeignAccessRef': {
        const ref = whole(args, 'ref') as Gref;
        const ret = table.tryEnd(ref) ? 1 : 0;
        return { ret, out: this.entry(ref) };
      }
      case 'tryEndForeignAccess': {
        const ref = whole(args, 'ref') as Gref;
        const ret = table.tryEndForeignAccess(ref) ? 1 : 0;
        return { ret, out: this.entry(ref) };
      }
      case 'endForeignAccess': {
        const ref = whole(args, 'ref') as Gref;
        this.recordsFit = !truth(args, 'allocFails');
        const page = args['page'] === null || args['page'] === undefined ? undefined : (whole(args, 'page') as Gfn);
        table.endForeignAccess(ref, page);
        this.recordsFit = true;
        return { ret: null, out: this.entry(ref) };
      }
      case 'requestFreeCallback':
        // The original's parameter has 16 bits.
        table.requestFreeCallback(this.callback(args), whole(args, 'count') & 0xffff);
        return { ret: null };
      case 'cancelFreeCallback':
        table.cancelFreeCallback(this.callback(args));
        return { ret: null };
      case 'pageRef': {
        const page = whole(args, 'page');
        this.count(page, whole(args, 'delta'));
        return { ret: this.pages[page]! };
      }
      case 'unmapRefsAsync':
        this.unmap(whole(args, 'item'), args['pages'], whole(args, 'hypercallRet'));
        return { ret: null };
      case 'advance':
        return { ret: this.clock.advance(whole(args, 'jiffies')) };
      case 'reset':
        this.reset();
        return { ret: null };
      default:
        return malformed(`op is ${op}, which is none of the operations`);
    }
  }

  private reset(): void {
    const { version, maxFrames, initialFrames, reservedEntries, freePerIteration, hz, pages } = this.config;
    this.clock = new TickScheduler(hz);
    this.hypervisor = new FakeHypervisor({ maxFrames, pages: 0 });
    this.lists.clear();
    this.callbacks.clear();
    this.items.clear();
    this.results.clear();
    this.batches.clear();
    this.pages.length = 0;
    for (let page = 0; page < pages; page++) this.pages.push(1);
    const real = this.hypervisor.domain(OWNER).hypercalls;
    const hypercalls: GrantHypercalls = {
      setupTable: (frames, out) => real.setupTable(frames, out),
      querySize: (out) => real.querySize(out),
      setVersion: (to) => real.setVersion(to),
      getStatusFrames: (frames, out) => real.getStatusFrames(frames, out),
      map: (ops, count) => real.map(ops, count),
      copy: (ops, count) => real.copy(ops, count),
      unmap: (ops, count) => {
        for (let i = 0; i < count; i++) ops[i]!.status = 0;
        return this.results.get(ops)!;
      },
    };
    const use: PageUse = {
      inUse: (page) => this.pages[page]! > 1,
      hold: (page) => this.count(page, 1),
      release: (page) => this.count(page, -1),
    };
    this.table = createGrantTable(
      { owner: OWNER, version, maxFrames, initialFrames, reservedEntries, freePerIteration, canDefer: () => this.recordsFit },
      { hypercalls, scheduler: this.clock, bus: recorderBus<GnttabEvents>((fact) => this.note(fact)), pages: use },
    );
  }

  private note({ type, data }: Recorded<GnttabEvents>): void {
    const t = this.clock.now();
    if (type === 'gnttab:deferred-freed') {
      const { gref: ref, page } = data as GnttabEvents[typeof type];
      this.events.push({ type: 'deferredFreed', t, ref, page: page ?? null });
    } else if (type === 'gnttab:still-pending') {
      this.events.push({ type: 'stillPending', t, ref: (data as GnttabEvents[typeof type]).gref });
    } else if (type === 'gnttab:leaked') {
      this.events.push({ type: 'leaked', t, ref: (data as GnttabEvents[typeof type]).gref });
    } else if (type === 'gnttab:unmap-retry') {
      const { batch, age, delayMs } = data as GnttabEvents[typeof type];
      this.events.push({ type: 'unmapRetry', t, item: this.items.get(batch), age, delay: this.clock.ticksOf(delayMs) });
    }
  }

  private unmap(item: number, pages: unknown, hypercallRet: number): void {
    if (!Array.isArray(pages)) malformed('args.pages is no array');
    const ops = pages.map((vfn: number) => ({ vfn, handle: 0, status: 0 }));
    const done = (result: number, age: number): void => {
      this.events.push({ type: 'unmapDone', t: this.clock.now(), item, age, result });
      this.results.delete(ops);
      this.items.delete(batch);
    };
    const batch: UnmapBatch = { ops, count: ops.length, done };
    this.batches.set(item, batch);
    this.results.set(ops, hypercallRet);
    this.items.set(batch, item);
    this.table.unmapRefsAsync(batch);
  }

  private checkpoint(): object {
    const { table } = this;
    const { frames, free, tailRun } = table.usage();
    const freeList = [...table.freeReferences()];
    const ids = new Map([...this.callbacks].map(([id, callback]) => [callback, id]));
    return {
      free,
      frames,
      jiffies: this.clock.now(),
      seqAvailable: tailRun,
      ...(freeList.length <= LISTED_MAX ? { freeList } : { freeListLength: freeList.length, freeListFnv1a: fnv1a(freeList) }),
      callbacks: table.waitingCallbacks().map((callback) => ids.get(callback)),
      deferred: table.deferredReferences(),
      ...(this.config.pages > 0 ? { pages: this.pages.slice(0, this.config.pages) } : {}),
    };
  }

  private list(args: Args): GrantList {
    const number = whole(args, 'list');
    return this.lists.get(number) ?? malformed(`args.list is ${number}, which does not exist`);
  }

  private callback(args: Args): FreeCallback {
    const id = whole(args, 'id');
    let callback = this.callbacks.get(id);
    if (callback === undefined) {
      callback = { notify: () => this.events.push({ type: 'freeCallback', t: this.clock.now(), id }) };
      this.callbacks.set(id, callback);
    }
    return callback;
  }

  private count(page: number, delta: number): void {
    this.pages[page] = (this.pages[page] ?? 1) + delta;
  }

  private entry(ref: Gref): object {
    let hex = '';
    for (const byte of this.table.entryBytes(ref)) hex += byte.toString(16).padStart(2, '0');
    return { entry: hex };
  }
}

function malformed(reason: string): never {
  throw new ReplayError({ code: 'bad-line', line: 0, reason });
}

function whole(args: Args, name: string): number {
  const value = args[name];
  return typeof value === 'number' && Number.isInteger(value)
    ? value
    : malformed(`args.${name} is ${String(value)}; allowed is a whole number`);
}

function truth(args: Args, name: string): boolean {
  return args[name] === 1 || args[name] === true;
}

function orNoSpace(call: () => Outcome): Outcome {
  try {
    return call();
  } catch (error) {
    if (error instanceof GrantError && error.refusal.code === 'exhausted') return { ret: ENOSPC };
    throw error;
  }
}

function fnv1a(references: readonly number[]): string {
  let hash = 2_166_136_261;
  for (const reference of references) {
    for (let shift = 0; shift < 32; shift += 8) hash = Math.imul(hash ^ ((reference >>> shift) & 0xff), 16_777_619);
  }
  return (hash >>> 0).toString(16).padStart(8, '0');
}
