import type { MemoryViews } from '@paravirt/gnttab';
import type { Random } from '../../time/random.ts';
import type { Disk, DiskWaiter } from '../disk.ts';
import { DiskError } from '../errors.ts';

/** What a rule applies to. `zero` is writing zeroes; `any` is all of them. */
export type DiskOp = 'read' | 'write' | 'flush' | 'discard' | 'zero' | 'any';

const OPS: readonly DiskOp[] = ['read', 'write', 'flush', 'discard', 'zero', 'any'];

/** When a filter's fault fires. With none of `probability` and `atReach` it fires at the first opportunity. */
export interface DiskFaultRule {
  /** Default `any`, as far as the filter concerns itself with it. */
  readonly op?: DiskOp;
  /** Names it in reports. Default: filter, operation and position. */
  readonly name?: string;
  /** Chance at each opportunity, 0 to 1. Needs the filter's `random`. */
  readonly probability?: number;
  /** Fires at this opportunity, counted from 1. */
  readonly atReach?: number;
  /** Fires at most so often. Default 1, or without limit with `probability`. */
  readonly times?: number;
  /** Only calls that touch a byte of `[offset, offset + bytes)`. Default: the whole disk. A flush touches every byte. */
  readonly offset?: number;
  readonly bytes?: number;
}

/** What became of a rule. */
export interface DiskFaultCount {
  readonly name: string;
  /** How often it was asked for; Infinity without limit. */
  readonly requested: number;
  /** Opportunities met. */
  readonly reached: number;
  readonly fired: number;
}

/** A disk in front of another one. Closing it closes that one too. */
export interface DiskFilter extends Disk {
  readonly inner: Disk;
  /** Off, it passes everything on. May be switched at any time. */
  enabled: boolean;
  /** Its faults, as they stand. Empty where it injects none. */
  readonly faults: readonly DiskFaultCount[];
}

/** Whether it is a number, and not below `least`. */
function within(value: number, least: number): boolean {
  return typeof value === 'number' && value >= least;
}

/** A rule at work. */
export class Trigger implements DiskFaultCount {
  readonly name: string;
  readonly requested: number;
  reached = 0;
  fired = 0;
  private readonly op: DiskOp;
  private readonly rule: DiskFaultRule;
  private readonly random: Random | undefined;
  private readonly first: number;
  private readonly end: number;

  /** @throws {DiskError} `bad-rule`. */
  constructor(filter: string, rule: DiskFaultRule, position: number, random: Random | undefined) {
    const { op = 'any', probability, atReach, times, offset = 0, bytes = Number.POSITIVE_INFINITY } = rule;
    const refuse = (key: string, value: unknown, allowed: string): never => {
      throw new DiskError({ code: 'bad-rule', filter, rule: `${key} ${String(value)}`, allowed });
    };
    if (!OPS.includes(op)) refuse('op', op, OPS.join(', '));
    if (probability !== undefined && !(within(probability, 0) && probability <= 1)) refuse('probability', probability, '0 to 1');
    if (probability !== undefined && random === undefined)
      refuse('probability', probability, 'a rule without one: the filter has no random');
    if (atReach !== undefined && !(Number.isInteger(atReach) && atReach >= 1)) refuse('atReach', atReach, 'a whole number from 1');
    if (times !== undefined && !within(times, 1)) refuse('times', times, '1 or more');
    if (!within(offset, 0)) refuse('offset', offset, '0 or more');
    if (!within(bytes, 0) || bytes === 0) refuse('bytes', bytes, 'more than 0');
    this.name = rule.name ?? `${filter}:${op}#${position}`;
    this.requested = times ?? (probability === undefined ? 1 : Number.POSITIVE_INFINITY);
    this.op = op;
    this.rule = rule;
    this.random = random?.split(this.name);
    this.first = offset;
    this.end = offset + bytes;
  }

  /** An opportunity: whether the fault fires. A few ns, nothing allocated. */
  fires(op: DiskOp, offset: number, bytes: number): boolean {
    if (this.op !== 'any' && this.op !== op) return false;
    if (op !== 'flush' && (offset >= this.end || offset + bytes <= this.first)) return false;
    this.reached++;
    if (this.fired >= this.requested) return false;
    const { atReach, probability } = this.rule;
    if (atReach !== undefined && this.reached < atReach) return false;
    if (probability !== undefined && this.random?.chance(probability) !== true) return false;
    this.fired++;
    return true;
  }
}

/** What a filter without rules did: it concerns itself with every call. */
export class Tally implements DiskFaultCount {
  readonly name: string;
  requested: number;
  reached = 0;
  fired = 0;

  constructor(name: string, requested: number) {
    this.name = name;
    this.requested = requested;
  }
}

/** Passes everything on: what filters are made from. */
export abstract class FilterBase<Fault extends DiskFaultCount = DiskFaultCount> implements DiskFilter {
  abstract readonly kind: string;
  readonly inner: Disk;
  enabled = true;
  readonly faults: readonly Fault[];

  constructor(inner: Disk, faults: readonly Fault[] = []) {
    this.inner = inner;
    this.faults = faults;
  }

  get name(): string {
    return `${this.kind}(${this.inner.name})`;
  }
  get sizeBytes(): number {
    return this.inner.sizeBytes;
  }
  get sectorBytes(): number {
    return this.inner.sectorBytes;
  }
  get physicalSectorBytes(): number {
    return this.inner.physicalSectorBytes;
  }
  get readonly(): boolean {
    return this.inner.readonly;
  }
  get discards(): boolean {
    return this.inner.discards;
  }
  get discardGranularityBytes(): number {
    return this.inner.discardGranularityBytes;
  }
  get discardAlignmentBytes(): number {
    return this.inner.discardAlignmentBytes;
  }
  get secureDiscards(): boolean {
    return this.inner.secureDiscards;
  }
  get volatileCache(): boolean {
    return this.inner.volatileCache;
  }
  get fua(): boolean {
    return this.inner.fua;
  }

  read(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.inner.read(views, address, offset, bytes, waiter);
  }
  write(views: MemoryViews, address: number, offset: number, bytes: number, waiter: DiskWaiter, fua: boolean): number {
    return this.inner.write(views, address, offset, bytes, waiter, fua);
  }
  flush(waiter: DiskWaiter): number {
    return this.inner.flush(waiter);
  }
  discard(offset: number, bytes: number, secure: boolean, waiter: DiskWaiter): number {
    return this.inner.discard(offset, bytes, secure, waiter);
  }
  writeZeroes(offset: number, bytes: number, waiter: DiskWaiter): number {
    return this.inner.writeZeroes(offset, bytes, waiter);
  }
  /** What is not known is not a hole. */
  extentAt(offset: number): number {
    return this.inner.extentAt?.(offset) ?? this.sizeBytes - offset;
  }
  onResize(handler: () => void): { unsubscribe(): void } {
    return this.inner.onResize?.(handler) ?? { unsubscribe: () => {} };
  }
  close(): void {
    this.inner.close();
  }
}

/** Makes the triggers of a filter's rules. @throws {DiskError} `bad-rule`. */
export function triggers(filter: string, rules: readonly DiskFaultRule[], random: Random | undefined): Trigger[] {
  return rules.map((rule, position) => new Trigger(filter, rule, position, random));
}

/** Memory of its own with the given bytes, for a filter that hands on something else than the guest's page. */
export function ownViews(bytes: number): MemoryViews {
  const buffer = new ArrayBuffer(Math.ceil(bytes / 4) * 4);
  return { u8: new Uint8Array(buffer), u16: new Uint16Array(buffer), u32: new Uint32Array(buffer) };
}

/** Every fault of a disk and of what stands behind it, outermost first. */
export function diskFaults(disk: Disk): readonly DiskFaultCount[] {
  const all: DiskFaultCount[] = [];
  for (let at: Disk | undefined = disk; at !== undefined; at = (at as Partial<DiskFilter>).inner) {
    all.push(...((at as Partial<DiskFilter>).faults ?? []));
  }
  return all;
}
