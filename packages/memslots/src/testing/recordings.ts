import { type Fields, Model, type ModelConfig } from './model.ts';

/** A source of numbers in [0, 1): seeded by the caller. */
export type Random = () => number;

/** What a generated recording is made of. */
export interface RecordingOptions {
  readonly seed: number;
  readonly operations: number;
  /** Differences from 509 user slots, 2 address spaces, no cap, dirty logs cleared by reading. */
  readonly config?: Partial<ModelConfig>;
  /** Where frames lie: `low` in a few thousand, `wide` over the whole 2^52, `edges` at its ends and at the limits. Mixed unless given. */
  readonly frames?: 'low' | 'wide' | 'edges';
  /** Ids used; all unless given. Few ids mean many changes of the same slots. */
  readonly ids?: number;
}

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** A small seeded generator (mulberry32). */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Author {
  readonly #random: Random;
  readonly #options: RecordingOptions;
  readonly #config: ModelConfig;
  readonly #model: Model;

  constructor(options: RecordingOptions) {
    this.#options = options;
    this.#random = seeded(options.seed);
    this.#config = {
      pageSize: 4096,
      userMemSlots: 509,
      memSlotsNum: 512,
      addressSpaces: 2,
      maxPagesPerSlot: '0x7fffffff',
      userAddrLimit: '0x7ffffffff000',
      maxGfn: null,
      manualDirtyLogProtect: 0,
      ...options.config,
    };
    this.#model = new Model(this.#config);
  }

  *lines(): Generator<string, undefined, undefined> {
    const { seed, operations } = this.#options;
    const header = { format: 'hv-trace/1', subsystem: 'memslots', source: 'the plain model', name: `generated-${seed}`, seed };
    yield JSON.stringify({ ...header, config: this.#config });
    for (let i = 1; i <= operations; i++) {
      if (i % 25 === 0 || i === operations) {
        for (let asId = 0; asId < this.#config.addressSpaces; asId++) {
          yield JSON.stringify({ op: 'checkpoint', asId, ...this.#model.answer('checkpoint', { asId }) });
        }
      }
      const [op, args] = this.#operation();
      yield JSON.stringify({ op, args, ...this.#model.answer(op, args) });
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }

  #operation(): [string, Fields] {
    const asId = this.#below(this.#config.addressSpaces);
    const roll = this.#random();
    if (roll < 0.012) return this.#bulk(asId);
    if (roll < 0.42) return [this.#random() < 0.9 ? 'setUserMemoryRegion' : 'setMemoryRegion', this.#region(asId)];
    if (roll < 0.72) {
      return [
        this.#pick(['gfnToMemslot', 'gfnToMemslot', 'gfnToHva', 'gfnToHvaProt', 'isVisibleGfn']),
        { asId, gfn: hex(this.#frame(asId)) },
      ];
    }
    if (roll < 0.8) return ['hvaRange', this.#hostRange(asId)];
    if (roll < 0.9) return ['markPageDirty', { asId, gfn: hex(this.#page(asId)) }];
    const slot = this.#random() < 0.8 ? this.#someId(asId) : this.#id();
    if (roll < 0.95) return ['getDirtyLog', { slot, asId: this.#random() < 0.97 ? asId : 7 }];
    const firstPage = this.#pick([0, 0, 64, 64, 128, 63, 65, 4096]);
    const range = this.#model.ranges(asId).find(({ id }) => id === slot);
    const rest = Math.max(0, Number(range?.pages ?? 100n) - firstPage);
    const numPages = Math.min(1 << 20, this.#pick([rest, rest, rest + 1, 64, 65, 128, Math.floor(rest / 64) * 64]));
    const bits: [number, number][] = [];
    for (let at = this.#below(40), words = Math.ceil(numPages / 64) * 64; at < words && bits.length < 8; ) {
      const count = Math.min(words - at, 1 + this.#below(90));
      bits.push([at, count]);
      at += count + 1 + this.#below(200);
    }
    return ['clearDirtyLog', { slot, asId, firstPage: hex(BigInt(firstPage)), numPages, bits }];
  }

  /** Many at once; some of a bulk may overlap each other or be refused, which its count tells. */
  #bulk(asId: number): [string, Fields] {
    const count = 1 + this.#below(40);
    const firstSlot = this.#below(this.#config.userMemSlots);
    const order = { mul: this.#pick([1, 7, count + 1, 12345]), add: this.#below(100) };
    if (this.#random() < 0.4) return ['bulkDelete', { asId, firstSlot, count, ...order }];
    const npages = this.#pick([1, 4, 64, 65]);
    const strideGfn = hex(BigInt(npages + this.#pick([0, 0, 1, 2, -1])));
    const baseGfn = hex(this.#frame(asId));
    const userspaceAddr = hex(this.#host());
    return ['bulkCreate', { asId, firstSlot, count, baseGfn, npages, strideGfn, userspaceAddr, flags: this.#pick([0, 0, 1, 3]), ...order }];
  }

  #id(): number {
    const { userMemSlots, memSlotsNum } = this.#config;
    const roll = this.#random();
    if (roll < 0.9) return this.#below(Math.min(this.#options.ids ?? userMemSlots, userMemSlots));
    return this.#pick([userMemSlots - 1, userMemSlots, memSlotsNum - 1, memSlotsNum, 65535]);
  }

  #someId(asId: number): number {
    const ranges = this.#model.ranges(asId);
    return ranges.length === 0 ? this.#id() : this.#pick(ranges).id;
  }

  /** A region: often aimed at a slot there is, sometimes spoilt in one field or two. */
  #region(asId: number): Fields {
    const ranges = this.#model.ranges(asId);
    const old = ranges.length > 0 && this.#random() < 0.5 ? this.#pick(ranges) : undefined;
    const flags = this.#pick([0, 0, 0, 1, 1, 2, 3]);
    const region = {
      slot: old?.id ?? this.#id(),
      asId,
      flags: old === undefined || this.#random() < 0.2 ? flags : (old.flags & 2) | (flags & 1),
      guestPhysAddr: old !== undefined && this.#random() < 0.35 ? old.base * 4096n : this.#frame(asId) * 4096n,
      memorySize: (old?.pages ?? this.#pages()) * 4096n,
      userspaceAddr: old?.host ?? this.#host(),
    };
    if (this.#random() < (old === undefined ? 0.04 : 0.2)) region.memorySize = 0n;
    while (this.#random() < 0.12) this.#spoil(region);
    // The model keeps an initially full log as a set of pages, which has an end.
    if (this.#config.manualDirtyLogProtect === 3 && BigInt.asUintN(64, region.memorySize) >= 1n << 32n && region.flags <= 3)
      region.flags &= 2;
    const wrap = (value: bigint): string => hex(BigInt.asUintN(64, value));
    const fields: Fields = {
      ...region,
      guestPhysAddr: wrap(region.guestPhysAddr),
      memorySize: wrap(region.memorySize),
      userspaceAddr: wrap(region.userspaceAddr),
    };
    if (this.#random() < 0.08) fields['prepareError'] = this.#pick([-12, -22, -17]);
    return fields;
  }

  #spoil(region: { slot: number; asId: number; flags: number; guestPhysAddr: bigint; memorySize: bigint; userspaceAddr: bigint }): void {
    const odd = this.#pick([1n, 0x800n, 0xfffn, 0x1000n, -0x1000n]);
    const end = this.#pick([1n << 64n, 1n << 63n, 1n << 53n, 1n << 52n, BigInt(this.#config.userAddrLimit)]);
    const spoils: (() => void)[] = [
      () => (region.slot = this.#pick([this.#config.userMemSlots, this.#config.memSlotsNum, 65535])),
      () => (region.asId = this.#pick([this.#config.addressSpaces, 65535])),
      () => (region.flags = this.#pick([4, 8, 0x80000000, 0xffffffff, 2, 3])),
      () => (region.guestPhysAddr += odd),
      () => (region.memorySize += odd),
      () => (region.userspaceAddr += odd),
      () => (region.guestPhysAddr = end - region.memorySize + this.#pick([0n, 0n, 0x1000n, -0x1000n])),
      () => (region.memorySize = end - region.guestPhysAddr + this.#pick([0n, 0x1000n, -0x1000n])),
      () => (region.userspaceAddr = end - region.memorySize + this.#pick([0n, 0n, 0x1000n, -0x1000n])),
      () => (region.memorySize = (BigInt(this.#config.maxPagesPerSlot) + this.#pick([0n, 1n, -1n])) * 4096n),
    ];
    this.#pick(spoils)();
  }

  #pages(): bigint {
    const roll = this.#random();
    if (roll < 0.3) return 1n;
    if (roll < 0.9) return BigInt(1 + this.#below(200));
    // An initially full log of a huge slot would be written out bit by bit in the model.
    return this.#config.manualDirtyLogProtect === 3 ? 4096n : BigInt(Math.floor(2 ** (this.#random() * 31)));
  }

  #host(): bigint {
    const start = 0x7f00_0000_0000n;
    const roll = this.#random();
    if (roll < 0.8) return start + BigInt(this.#below(2000)) * 4096n;
    if (roll < 0.9) return 0n;
    return BigInt(this.#config.userAddrLimit) - BigInt(this.#below(20)) * 4096n;
  }

  /** A frame: mostly at a border of a slot there is, or one off. */
  #frame(asId: number): bigint {
    const ranges = this.#model.ranges(asId);
    if (ranges.length > 0 && this.#random() < 0.55) {
      const { base, pages } = this.#pick(ranges);
      const at = this.#pick([base, base + pages, base + pages / 2n]) + this.#pick([0n, 0n, 1n, -1n, -pages]);
      return BigInt.asUintN(52, at);
    }
    const kind = this.#options.frames ?? this.#pick(['low', 'low', 'wide', 'edges'] as const);
    if (kind === 'low') return BigInt(this.#below(6000));
    if (kind === 'wide') return (BigInt(this.#below(2 ** 26)) << 26n) | BigInt(this.#below(2 ** 26));
    const cap = this.#config.maxGfn === null ? (1n << 40n) - 1n : BigInt(this.#config.maxGfn);
    const edge = this.#pick([0n, 1n << 52n, cap, 1n << 31n, 1n << 32n, 1n << 51n]);
    return BigInt.asUintN(52, edge + BigInt(this.#below(7)) - 3n);
  }

  /** A page inside a slot with a dirty log, where there is one. */
  #page(asId: number): bigint {
    const logged = this.#model.ranges(asId).filter(({ flags }) => (flags & 1) !== 0);
    if (logged.length === 0 || this.#random() < 0.2) return this.#frame(asId);
    const { base, pages } = this.#pick(logged);
    return base + BigInt(this.#below(Math.min(Number(pages), 1 << 24)));
  }

  #hostRange(asId: number): Fields {
    const ranges = this.#model.ranges(asId);
    let start = this.#host();
    if (ranges.length > 0 && this.#random() < 0.8) {
      const { host, pages } = this.#pick(ranges);
      start = this.#pick([host, host + pages * 4096n]) + this.#pick([0n, 0n, 1n, -1n, 0x1000n, -0x1000n, 0x7ffn]);
    }
    const end = this.#pick([start + 1n, start + 0x1000n, start + BigInt(this.#below(1 << 22)), start, start - 1n, (1n << 64n) - 1n]);
    return { start: hex(BigInt.asUintN(64, start)), end: hex(BigInt.asUintN(64, end)) };
  }
}

/**
 * A recording made by the plain model from a seed: lines as `replay` reads them. Operations aim at borders, limits and wraps, are spoilt in every field,
 * and carry events, so that whoever replays it is checked step by step.
 */
export function generateRecording(options: RecordingOptions): Iterable<string> {
  return new Author(options).lines();
}
