import { FNV_OFFSET, fnv32, fnv64, Injection, LedgerHeap, LedgerTable } from './replay-ledger.ts';
import type { MapCallback, Vmap } from './types.ts';
import { createVmap } from './vmap.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Fields = { [key: string]: Json };

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, '0')}`;

/** A header or a line that is not of this format. */
export class Malformed extends Error {
  override readonly name = 'Malformed';
}

function fail(message: string): never {
  throw new Malformed(message);
}

function object(value: Json | undefined, what: string): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : fail(`${what} is no object`);
}

function number(value: Json | undefined, what: string): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : fail(`${what} is ${JSON.stringify(value)}, no count`);
}

function wide(value: Json | undefined, what: string): bigint {
  if (typeof value === 'string' && /^0x[0-9a-f]{1,16}$/.test(value)) return BigInt(value);
  return fail(`${what} is ${JSON.stringify(value)}, not hexadecimal of at most 64 bits`);
}

const address = (value: Json | undefined, what: string): bigint | null => (value === null ? null : wide(value, what));
const size = (value: Json | undefined): bigint => (typeof value === 'string' ? wide(value, 'size') : BigInt(number(value, 'size')));
const frame = (value: Json | undefined): number => Number(wide(value, 'a frame'));

/** A list of frames, where [frame, n] stands for n consecutive ones. */
export function frames(value: Json | undefined): number[] {
  if (!Array.isArray(value)) return fail('mfns is no list');
  const list: number[] = [];
  for (const element of value) {
    if (!Array.isArray(element)) list.push(frame(element));
    else for (let i = 0, n = number(element[1], 'a length'); i < n; i++) list.push(frame(element[0]) + i);
  }
  return list;
}

/** Frames as a recording writes them: three or more consecutive ones as a pair. */
export function packed(list: readonly number[]): Json {
  const out: Json[] = [];
  for (let i = 0; i < list.length; ) {
    let n = 1;
    while (list[i + n] === list[i]! + n) n++;
    if (n >= 3) out.push([hex(list[i]!), n]);
    else n = out.push(hex(list[i]!)) && 1;
    i += n;
  }
  return out;
}

/** An allocator as a recording's header describes it, and the outcome of each of the recording's lines. */
export class Player {
  readonly #injection: Injection = new Injection();
  readonly #heap: LedgerHeap;
  readonly #table: LedgerTable;
  readonly #vmap: Vmap<null>;
  readonly #lows: number[] = [];
  readonly #tops: number[] = [];
  /** The one-region source, whose checkpoints list the areas outside. */
  readonly #hasList: boolean;

  /** @throws {Malformed | VmapError} the header is not one of this format. */
  constructor(header: Fields) {
    const { format, subsystem, commit } = header;
    if (format !== 'hv-trace/1' || subsystem !== 'vmap') {
      fail(`format ${JSON.stringify(format)}, subsystem ${JSON.stringify(subsystem)}; allowed is hv-trace/1, vmap`);
    }
    const config = object(header['config'], 'config');
    if (config['pageSize'] !== 4096) fail('config.pageSize is not 4096');
    const heap = object(config['heap'], 'config.heap');
    const pages = heap['pages'] ?? null;
    this.#heap = new LedgerHeap(
      this.#injection,
      frame(heap['firstMfn']),
      pages === null ? Number.POSITIVE_INFINITY : number(pages, 'config.heap.pages'),
    );
    this.#table = new LedgerTable(this.#injection);
    this.#hasList = typeof commit === 'string' && commit.includes('+');
    const described = object(config['regions'], 'config.regions');
    // The original starts them in this order, whatever the order of the keys.
    const rank = (name: string): number => (name === 'default' ? 0 : name === 'xen' ? 1 : 2);
    const regions = Object.entries(described)
      .sort(([a], [b]) => rank(a) - rank(b))
      .map(([name, value]) => {
        const { start, pages } = object(value, `config.regions.${name}`);
        return { name, start: wide(start, 'start'), pages: number(pages, 'pages') };
      });
    const injection = this.#injection;
    injection.begin(-1, -1, -1);
    const smallAlloc = (): boolean => injection.smallAlloc();
    this.#vmap = createVmap({ regions, pageTable: this.#table, pages: this.#heap, smallAlloc, compat: 'xen' });
    for (const { low, top } of this.#vmap.regions) {
      this.#lows.push(low);
      this.#tops.push(top);
    }
  }

  /** What the line's operation does here, in the fields of the format. @throws {Malformed} a malformed line. */
  run(fields: Fields): Fields {
    const { op } = fields;
    if (op === 'checkpoint') return this.#checkpoint(fields['region'] ?? 'default', 'areaCount' in fields || this.#hasList);
    if (typeof op !== 'string') return fail('op is no string');
    const args = object(fields['args'], 'args');
    const inject = args['inject'] === undefined ? {} : object(args['inject'], 'inject');
    const at = (key: string): number => (inject[key] === undefined ? -1 : number(inject[key], `inject.${key}`));
    this.#injection.begin(at('heap'), at('map'), at('xmalloc'));
    const before = this.#vmap.counters;
    const { cleared } = this.#heap;
    const out = this.#perform(op, args);
    const after = this.#vmap.counters;
    if (op === 'vzalloc') out['zeroed'] = this.#heap.cleared - cleared - (after.bitmapPages - before.bitmapPages);
    out['warn'] = after.warnings - before.warnings;
    out['assert'] = after.assertions - before.assertions;
    for (const [i, region] of this.#vmap.regions.entries()) {
      const { name, low, top } = region;
      if (low !== this.#lows[i] || top !== this.#tops[i]) out[name] = [low, top];
      this.#lows[i] = low;
      this.#tops[i] = top;
    }
    return out;
  }

  #perform(op: string, args: Fields): Fields {
    const vmap = this.#vmap;
    const ret = (va: bigint | null): Fields => ({ ret: va === null ? null : hex(va) });
    switch (op) {
      case 'vmAlloc':
        return ret(vmap.vmAlloc(number(args['nr'], 'nr'), { align: number(args['align'] ?? 1, 'align'), region: this.#region(args) }));
      case 'vmFree':
        vmap.vmFree(address(args['va'], 'va'));
        return ret(null);
      case 'allocMany':
        return this.#allocMany(args);
      case 'freeMany': {
        const first = wide(args['first'], 'first');
        const stride = BigInt(number(args['stridePages'], 'stridePages')) * 4096n;
        const count = number(args['count'], 'count');
        for (let i = 0; i < count; i++) vmap.vmFree(first + BigInt(i) * stride);
        return ret(null);
      }
      case 'vmap': {
        const options = {
          granularity: number(args['granularity'] ?? 1, 'granularity'),
          align: number(args['align'] ?? 1, 'align'),
          region: this.#region(args),
        };
        return ret(vmap.vmap(frames(args['mfns']), options));
      }
      case 'vmapContig':
        return ret(vmap.vmapContig(frame(args['mfn']), number(args['nr'], 'nr'), { region: this.#region(args) }));
      case 'vunmap':
        vmap.vunmap(address(args['va'], 'va'));
        return ret(null);
      case 'vmSize':
        return { ret: vmap.vmSize(address(args['va'], 'va'), args['region'] === undefined ? undefined : this.#region(args)) };
      case 'vmapSize':
        return { ret: vmap.vmSize(address(args['va'], 'va')) };
      case 'vmalloc':
        return ret(vmap.vmalloc(size(args['size']), { region: this.#region(args) }));
      case 'vzalloc':
        return ret(vmap.vzalloc(size(args['size']), { region: this.#region(args) }));
      case 'vmallocXen':
        return ret(vmap.vmallocXen(size(args['size'])));
      case 'vfree':
        vmap.vfree(address(args['va'], 'va'));
        return ret(null);
      case 'vmallocCb':
        return this.#vmallocCb(args);
      case 'translate': {
        const mfn = vmap.translate(wide(args['va'], 'va'));
        return { ret: mfn < 0 ? null : hex(mfn) };
      }
      default:
        return fail(`op is ${JSON.stringify(op)}, which this format does not have`);
    }
  }

  #region(args: Fields): string {
    const name = args['region'] ?? 'default';
    return typeof name === 'string' ? name : fail('region is no string');
  }

  #allocMany(args: Fields): Fields {
    const nr = number(args['nr'], 'nr');
    const options = { align: number(args['align'] ?? 1, 'align'), region: this.#region(args) };
    const count = number(args['count'], 'count');
    let made = 0;
    let first: bigint | null = null;
    let last: bigint | null = null;
    let digest = FNV_OFFSET;
    for (let i = 0; i < count; i++) {
      const va = this.#vmap.vmAlloc(nr, options);
      digest = fnv64(digest, va === null ? 0 : Number(va >> 12n), 12);
      if (va === null) continue;
      made++;
      first ??= va;
      last = va;
    }
    return { ret: made, first: first === null ? null : hex(first), last: last === null ? null : hex(last), digest: hex32(digest) };
  }

  #vmallocCb(args: Fields): Fields {
    const table = this.#table;
    const { cb } = args;
    let calls = 0;
    let callback: MapCallback | null = null;
    if (cb === 'vmap') callback = (list) => this.#vmap.vmap(list);
    else if (cb !== 'none') {
      const va = address(object(cb, 'cb')['va'], 'cb.va');
      callback = (list) => {
        if (va === null) return null;
        const vfn = Number(va >> 12n);
        for (let i = 0; i < list.length; i++) {
          if (table.map(vfn + i, list[i]!, 1, { writable: true, executable: false })) continue;
          table.unmap(vfn, list.length);
          return null;
        }
        return va;
      };
    }
    const counted: MapCallback | null =
      callback === null
        ? null
        : (list) => {
            calls++;
            return callback(list);
          };
    const made = this.#vmap.vmallocCb(size(args['size']), counted);
    const out: Fields = { ret: made === null ? null : hex(made.va), cbCalls: calls };
    if (args['wantMfns'] === true) out['mfns'] = made === null ? null : packed(made.frames);
    return out;
  }

  #checkpoint(name: Json, listed: boolean): Fields {
    if (typeof name !== 'string') return fail('region is no string');
    const region = this.#vmap.regions.find((each) => each.name === name) ?? fail(`there is no region ${name}`);
    const bitmap: Json[] = [];
    let set = 0;
    let digest = FNV_OFFSET;
    region.eachRun((start, length) => {
      const below = Math.min(length, region.top - start);
      if (below <= 0) return;
      set += below;
      digest = fnv32(fnv32(digest, start), below);
      bitmap.push([start, below]);
    });
    const out: Fields = {
      region: name,
      low: region.low,
      top: region.top,
      end: region.pages,
      set,
      runs: bitmap.length,
      digest: hex32(digest),
      bitmap,
      heapLive: this.#heap.live,
      heapNext: this.#heap.next,
      mapped: this.#table.mapped,
      mapDigest: hex32(this.#table.digest),
    };
    if (listed) {
      const areas = this.#vmap.outsideNewestFirst();
      let hash = FNV_OFFSET;
      for (const { va, pages } of areas) {
        hash = fnv32(fnv32(fnv32(hash, Number(va & 0xffff_ffffn)), Number(va >> 32n)), pages);
      }
      out['areaCount'] = areas.length;
      out['areaDigest'] = hex32(hash);
      out['areas'] = areas.map(({ va, pages }) => [hex(va), pages]);
    }
    return out;
  }
}
