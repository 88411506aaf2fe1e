/**
 * The memory slots as plainly as they can be said: a list of ranges in bigint, searched from one end to the other, every rule spelt out beside its
 * number. It shares nothing with the package but the text of the rules, and answers operations of recordings, so that the two can be compared.
 */

/** Configuration of a recording's header. */
export interface ModelConfig {
  readonly pageSize: 4096;
  readonly userMemSlots: number;
  readonly memSlotsNum: number;
  readonly addressSpaces: number;
  readonly maxPagesPerSlot: string;
  readonly userAddrLimit: string;
  readonly maxGfn: string | null;
  readonly manualDirtyLogProtect: 0 | 1 | 3;
}

/** Arguments and answers as recordings write them. */
export type Fields = { [key: string]: unknown };

interface Range {
  id: number;
  base: bigint;
  pages: bigint;
  flags: number;
  host: bigint;
  dirty: Set<number> | null;
  invalid: boolean;
}

interface Space {
  ranges: Range[];
  generation: bigint;
}

const WRAP = 1n << 64n;
const BIT_63 = 1n << 63n;
const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** A plain model of one machine's memory slots. */
export class Model {
  readonly #config: ModelConfig;
  readonly #spaces: Space[];
  #events: unknown[] = [];

  constructor(config: ModelConfig) {
    this.#config = config;
    this.#spaces = Array.from({ length: config.addressSpaces }, (_, asId) => ({ ranges: [], generation: BigInt(asId) }));
  }

  /** Answers one operation: what a recording holds beside `op` and `args`. */
  answer(op: string, args: Fields): Fields {
    const asId = Number(args['asId'] ?? 0);
    const gfn = BigInt((args['gfn'] as string | undefined) ?? 0);
    switch (op) {
      case 'setUserMemoryRegion':
        return this.#set(args, true);
      case 'setMemoryRegion':
        return this.#set(args, false);
      case 'gfnToMemslot':
        return { ret: this.#find(asId, gfn)?.id ?? null };
      case 'gfnToHva':
        return { ret: this.#hva(asId, gfn, true) };
      case 'gfnToHvaProt': {
        const ret = this.#hva(asId, gfn, false);
        return { ret, writable: ret !== 'bad' && (this.#find(asId, gfn)!.flags & 2) === 0 };
      }
      case 'isVisibleGfn':
        return { ret: this.#visible(asId, gfn) };
      case 'hvaRange':
        return { ret: this.#hvaRange(BigInt(args['start'] as string), BigInt(args['end'] as string)) };
      case 'markPageDirty': {
        const range = this.#find(asId, gfn);
        range?.dirty?.add(Number(gfn - range.base));
        return {};
      }
      case 'getDirtyLog':
        return this.#getDirtyLog(Number(args['slot']), asId);
      case 'clearDirtyLog':
        return this.#clearDirtyLog(args, asId);
      case 'bulkCreate':
      case 'bulkDelete':
        return this.#bulk(op, args);
      default:
        return this.#checkpoint(asId);
    }
  }

  /** Ranges of an address space, highest first. */
  ranges(asId: number): readonly { id: number; base: bigint; pages: bigint; flags: number; host: bigint }[] {
    return [...this.#spaces[asId]!.ranges].sort((a, b) => (a.base < b.base ? 1 : -1));
  }

  #find(asId: number, gfn: bigint): Range | undefined {
    return this.#spaces[asId]!.ranges.find(({ base, pages }) => base <= gfn && gfn < base + pages);
  }

  #hva(asId: number, gfn: bigint, write: boolean): string {
    const range = this.#find(asId, gfn);
    if (range === undefined || range.invalid) return 'bad';
    if (write && (range.flags & 2) !== 0) return 'ro-bad';
    return hex(range.host + (gfn - range.base) * 4096n);
  }

  #visible(asId: number, gfn: bigint): boolean {
    const range = this.#find(asId, gfn);
    return range !== undefined && !range.invalid && range.id < this.#config.userMemSlots;
  }

  #hvaRange(start: bigint, end: bigint): unknown[] {
    const hits: unknown[] = [];
    if (start >= end) return hits;
    for (let asId = 0; asId < this.#spaces.length; asId++) {
      for (const { id, base, pages, host } of this.ranges(asId)) {
        const from = start > host ? start : host;
        const to = end < host + pages * 4096n ? end : host + pages * 4096n;
        if (from < to) hits.push([asId, id, hex(base + (from - host) / 4096n), hex(base + (to - host + 4095n) / 4096n)]);
      }
    }
    return hits;
  }

  #set(args: Fields, user: boolean): Fields {
    this.#events = [];
    const ret = this.#change(args, user);
    return { ret: typeof ret === 'number' ? ret : 0, change: typeof ret === 'number' ? 'none' : ret, events: this.#events };
  }

  #change(args: Fields, user: boolean): number | string {
    const id = Number(args['slot']);
    const asId = Number(args['asId']);
    const flags = Number(args['flags']);
    const gpa = BigInt(args['guestPhysAddr'] as string);
    const size = BigInt(args['memorySize'] as string);
    const host = BigInt(args['userspaceAddr'] as string);
    const { userMemSlots, memSlotsNum, addressSpaces, maxPagesPerSlot, userAddrLimit, maxGfn, manualDirtyLogProtect } = this.#config;
    if (user && id >= userMemSlots) return -22; // 1
    if (flags > 3) return -22; // 2
    if (size % 4096n !== 0n) return -22; // 3
    if (gpa % 4096n !== 0n) return -22; // 4
    if (host % 4096n !== 0n) return -22; // 5
    if (host + size >= WRAP || host + size > BigInt(userAddrLimit)) return -22;
    if (asId >= addressSpaces || id >= memSlotsNum) return -22; // 6
    if ((gpa + size) % WRAP < gpa) return -22; // 7
    const space = this.#spaces[asId]!;
    const old = space.ranges.find((range) => range.id === id);
    const base = gpa / 4096n;
    const pages = size / 4096n;
    let kind: string;
    if (size === 0n) {
      if (old === undefined) return -22; // 8
      kind = 'delete';
    } else {
      if (pages > BigInt(maxPagesPerSlot)) return -22; // 9
      if (old === undefined) kind = 'create';
      else {
        if (old.host !== host || old.pages !== pages || (old.flags & 2) !== (flags & 2)) return -22; // 10
        if (old.base !== base) kind = 'move';
        else if (old.flags !== flags) kind = 'flags';
        else return 'none';
      }
      if (kind === 'create' || kind === 'move') {
        for (const other of space.ranges) {
          if (other !== old && base < other.base + other.pages && other.base < base + pages) return -17; // 11
        }
      }
    }
    const twoSteps = kind === 'delete' || kind === 'move';
    if (twoSteps) {
      old!.invalid = true;
      this.#publish(space);
      const found = this.#find(asId, old!.base)?.id ?? null;
      this.#events.push(['flush', old!.id, hex(old!.base), found, this.#hva(asId, old!.base, true), this.#visible(asId, old!.base)]);
    }
    this.#events.push(['prepare', kind]);
    let error = Number(args['prepareError'] ?? 0);
    if (error === 0 && maxGfn !== null && (kind === 'create' || kind === 'move') && base + pages - 1n > BigInt(maxGfn)) error = -22;
    if (error !== 0) {
      if (twoSteps) {
        old!.invalid = false;
        this.#publish(space);
      }
      return error;
    }
    if (old !== undefined) space.ranges = space.ranges.filter((range) => range !== old);
    if (kind !== 'delete') {
      let dirty: Set<number> | null = null;
      if ((flags & 1) !== 0) {
        dirty = old?.dirty ?? new Set();
        if (!old?.dirty && manualDirtyLogProtect === 3) for (let page = 0; page < Number(pages); page++) dirty.add(page);
      }
      space.ranges.push({ id, base, pages, flags, host, dirty, invalid: false });
    }
    this.#publish(space);
    this.#events.push(['commit', kind]);
    return kind;
  }

  #publish(space: Space): void {
    this.#events.push(['install', hex(space.generation | BIT_63)]);
    space.generation += BigInt(this.#spaces.length);
    this.#events.push(['generation', hex(space.generation)]);
  }

  #getDirtyLog(id: number, asId: number): Fields {
    const range = this.#logged(id, asId);
    if (typeof range === 'number') return { ret: range };
    const dirty: [number, number][] = [];
    for (const page of [...range.dirty!].sort((a, b) => a - b)) {
      const last = dirty.at(-1);
      if (last !== undefined && last[0] + last[1] === page) last[1] += 1;
      else dirty.push([page, 1]);
    }
    if (this.#config.manualDirtyLogProtect === 0) range.dirty!.clear();
    return { ret: 0, bytes: Number((range.pages + 63n) / 64n) * 8, dirty };
  }

  #logged(id: number, asId: number): Range | number {
    if (asId >= this.#spaces.length || id >= this.#config.userMemSlots) return -22;
    const range = this.#spaces[asId]!.ranges.find((other) => other.id === id);
    return range?.dirty ? range : -2;
  }

  #clearDirtyLog(args: Fields, asId: number): Fields {
    const firstPage = BigInt(args['firstPage'] as string);
    const numPages = BigInt(args['numPages'] as number);
    const range = this.#logged(Number(args['slot']), asId);
    if (range === -22) return { ret: -22 };
    if (firstPage % 64n !== 0n) return { ret: -22 };
    if (typeof range === 'number') return { ret: range };
    const rest = range.pages - firstPage;
    if (rest < 0n || numPages > rest || (numPages < rest && numPages % 64n !== 0n)) return { ret: -22 };
    for (const [first, count] of args['bits'] as [number, number][]) {
      for (let bit = first; bit < first + count; bit++) range.dirty!.delete(Number(firstPage) + bit);
    }
    return { ret: 0 };
  }

  #bulk(op: string, args: Fields): Fields {
    const of = (key: string): number => Number(args[key] ?? 0);
    const count = of('count');
    let ret = 0;
    for (let i = 0; i < count; i++) {
      const p = (i * of('mul') + of('add')) % count;
      const region =
        op === 'bulkDelete'
          ? { slot: of('firstSlot') + p, flags: 0, guestPhysAddr: '0x0', memorySize: '0x0', userspaceAddr: '0x0' }
          : {
              slot: of('firstSlot') + i,
              flags: of('flags'),
              guestPhysAddr: hex(((BigInt(args['baseGfn'] as string) + BigInt(p) * BigInt(args['strideGfn'] as string)) * 4096n) % WRAP),
              memorySize: hex(BigInt(of('npages') * 4096)),
              userspaceAddr: hex((BigInt(args['userspaceAddr'] as string) + BigInt(p) * BigInt(of('npages') * 4096)) % WRAP),
            };
      if (this.#set({ ...region, asId: args['asId'] }, true)['ret'] === 0) ret += 1;
    }
    return { ret };
  }

  #checkpoint(asId: number): Fields {
    const ranges = this.ranges(asId);
    let digest = 0x811c9dc5n;
    for (const { id, base, pages, flags } of ranges) {
      for (const letter of `${id}:${base.toString(16)}:${pages}:${flags};`) {
        digest = ((digest ^ BigInt(letter.charCodeAt(0))) * 0x01000193n) % (1n << 32n);
      }
    }
    return {
      usedSlots: ranges.length,
      generation: hex(this.#spaces[asId]!.generation),
      digest: `0x${digest.toString(16).padStart(8, '0')}`,
      slots: ranges.map(({ id, base, pages, flags }) => [id, hex(base), Number(pages), flags]),
    };
  }
}
