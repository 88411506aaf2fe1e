import { MemslotsError } from './errors.ts';
import { createMemslots } from './memslots.ts';
import type { ChangeKind, MemoryRegion, Memslots, MemslotsHooks } from './types.ts';
import { HVA_BAD, HVA_RO_BAD } from './types.ts';

/** What {@link replay} found. */
export interface ReplayResult {
  /** Lines checked, the header apart. */
  operations: number;
  /** The first line that differs, or `null`. Line numbers begin at 1, with the header. */
  difference: { line: number; expected: string; actual: string } | null;
}

/** A recording that cannot be read: not a difference, a fault of the file. */
export class RecordingError extends Error {
  override readonly name = 'RecordingError';
  /** 1 for the header. */
  readonly line: number;
  constructor(line: number, message: string, options?: ErrorOptions) {
    super(`recording, line ${line}: ${message}`, options);
    this.line = line;
  }
}

/** Subsystems whose recordings {@link replay} reads. */
export const subsystems: readonly string[] = ['memslots'];

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type Fields = { [key: string]: Json };

const BIT_63 = 1n << 63n;
const hex = (value: number): string => `0x${BigInt(value).toString(16)}`;
const hva = (value: number): string => (value === HVA_BAD ? 'bad' : value === HVA_RO_BAD ? 'ro-bad' : hex(value));

function fieldsOf(text: string, line: number): Fields {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  } catch (cause) {
    throw new RecordingError(line, 'not JSON', { cause });
  }
  throw new RecordingError(line, 'not an object');
}

/** One machine and what its hooks saw during the present line. */
class Player {
  readonly #memslots: Memslots;
  #events: Json[] = [];
  #prepareError = 0;
  #line = 1;

  constructor(header: Fields) {
    const config = header['config'];
    if (header['format'] !== 'hv-trace/1')
      throw new RecordingError(1, `format is ${JSON.stringify(header['format'])}; allowed is hv-trace/1`);
    if (!subsystems.includes(String(header['subsystem']))) {
      throw new RecordingError(1, `subsystem is ${JSON.stringify(header['subsystem'])}; allowed is ${subsystems.join(', ')}`);
    }
    if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new RecordingError(1, 'no config');
    if (config['pageSize'] !== 4096) throw new RecordingError(1, `pageSize is ${JSON.stringify(config['pageSize'])}; allowed is 4096`);
    const userMemSlots = this.#number(config, 'userMemSlots');
    const hooks: MemslotsHooks = {
      install: (_, generation) => this.#events.push(['install', `0x${(BigInt(generation) | BIT_63).toString(16)}`]),
      generation: (_, generation) => this.#events.push(['generation', hex(generation)]),
      flush: (asId, { id, baseGfn }) => {
        const found = this.#memslots.gfnToMemslot(asId, baseGfn);
        const visible = this.#memslots.isVisibleGfn(asId, baseGfn);
        this.#events.push(['flush', id, hex(baseGfn), found < 0 ? null : found, hva(this.#memslots.gfnToHva(asId, baseGfn)), visible]);
      },
      prepare: ({ kind }) => {
        this.#events.push(['prepare', kind]);
        return this.#prepareError;
      },
      commit: ({ kind }) => this.#events.push(['commit', kind]),
    };
    try {
      this.#memslots = createMemslots({
        userMemSlots,
        internalSlots: this.#number(config, 'memSlotsNum') - userMemSlots,
        addressSpaces: this.#number(config, 'addressSpaces'),
        maxPagesPerSlot: this.#number(config, 'maxPagesPerSlot'),
        userAddrLimit: this.#wide(config, 'userAddrLimit'),
        // A cap beyond all frames is none.
        maxGfn:
          config['maxGfn'] === null || config['maxGfn'] === undefined ? null : Math.min(Number(this.#wide(config, 'maxGfn')), 2 ** 52),
        manualDirtyLogProtect: this.#number(config, 'manualDirtyLogProtect') as 0 | 1 | 3,
        hooks,
      });
    } catch (cause) {
      if (cause instanceof MemslotsError) throw new RecordingError(1, 'a configuration this package does not have', { cause });
      throw cause;
    }
  }

  /** Performs one line. @returns what it answers, by the names the recording uses. */
  perform(fields: Fields, line: number): Fields {
    this.#line = line;
    this.#events = [];
    const op = fields['op'];
    const args = op === 'checkpoint' ? fields : fields['args'];
    if (typeof args !== 'object' || args === null || Array.isArray(args)) throw new RecordingError(line, 'no args');
    const name = String(op);
    const operation = Object.hasOwn(this.#operations, name) ? this.#operations[name] : undefined;
    if (operation === undefined) throw new RecordingError(line, `no operation ${JSON.stringify(op)}`);
    try {
      return operation(args);
    } catch (error) {
      // Refusals that a recording may hold were turned into answers; what is left is no operation of these subsystems.
      if (error instanceof MemslotsError) throw new RecordingError(line, error.message, { cause: error });
      throw error;
    }
  }

  readonly #operations: { readonly [op: string]: (args: Fields) => Fields } = {
    setUserMemoryRegion: (args) => this.#set(args, (region) => this.#memslots.setUserMemoryRegion(region)),
    setMemoryRegion: (args) => this.#set(args, (region) => this.#memslots.setMemoryRegion(region)),
    gfnToMemslot: (args) => {
      const found = this.#memslots.gfnToMemslot(this.#number(args, 'asId'), this.#wide(args, 'gfn'));
      return { ret: found < 0 ? null : found };
    },
    gfnToHva: (args) => ({ ret: hva(this.#memslots.gfnToHva(this.#number(args, 'asId'), this.#wide(args, 'gfn'))) }),
    gfnToHvaProt: (args) => {
      const answer = this.#memslots.gfnToHvaProt(this.#number(args, 'asId'), this.#wide(args, 'gfn'));
      return { ret: hva(answer.hva), writable: answer.writable };
    },
    isVisibleGfn: (args) => ({ ret: this.#memslots.isVisibleGfn(this.#number(args, 'asId'), this.#wide(args, 'gfn')) }),
    hvaRange: (args) => {
      const hits = this.#memslots.hvaRange(this.#wide(args, 'start'), this.#wide(args, 'end'));
      return { ret: hits.map(({ asId, id, firstGfn, endGfn }) => [asId, id, hex(firstGfn), hex(endGfn)]) };
    },
    markPageDirty: (args) => {
      const gfn = this.#wide(args, 'gfn');
      this.#memslots.markPageDirty(this.#number(args, 'asId'), Number(gfn));
      return {};
    },
    getDirtyLog: (args) =>
      this.#errno(() => {
        const { bytes, runs } = this.#memslots.getDirtyLog(this.#number(args, 'slot'), this.#number(args, 'asId'));
        return { ret: 0, bytes, dirty: runs.map(([first, count]) => [first, count]) };
      }),
    clearDirtyLog: (args) =>
      this.#errno(() => {
        this.#memslots.clearDirtyLog({
          slot: this.#number(args, 'slot'),
          asId: this.#number(args, 'asId'),
          firstPage: this.#wide(args, 'firstPage'),
          numPages: this.#number(args, 'numPages'),
          runs: this.#runs(args, 'bits'),
        });
        return { ret: 0 };
      }),
    bulkCreate: (args) => {
      const { asId, firstSlot, count, npages, flags } = this.#numbers(args, 'asId', 'firstSlot', 'count', 'npages', 'flags');
      const base = BigInt(this.#wide(args, 'baseGfn'));
      const stride = BigInt(this.#wide(args, 'strideGfn'));
      const host = BigInt(this.#wide(args, 'userspaceAddr'));
      return this.#bulk(args, count, (i, p) => ({
        slot: firstSlot + i,
        asId,
        flags,
        guestPhysAddr: BigInt.asUintN(64, (base + BigInt(p) * stride) << 12n),
        memorySize: npages * 4096,
        userspaceAddr: BigInt.asUintN(64, host + BigInt(p) * BigInt(npages * 4096)),
      }));
    },
    bulkDelete: (args) => {
      const { asId, firstSlot, count } = this.#numbers(args, 'asId', 'firstSlot', 'count');
      return this.#bulk(args, count, (_, p) => ({ slot: firstSlot + p, asId, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 }));
    },
    checkpoint: (args) => {
      const asId = this.#number(args, 'asId');
      const slots = [...this.#memslots.slots(asId)];
      let digest = 0x811c9dc5;
      for (const { id, baseGfn, pages, flags } of slots) {
        const text = `${id}:${baseGfn.toString(16)}:${pages}:${flags};`;
        for (let i = 0; i < text.length; i++) digest = Math.imul(digest ^ text.charCodeAt(i), 0x01000193);
      }
      const rows = 'slots' in args ? { slots: slots.map(({ id, baseGfn, pages, flags }) => [id, hex(baseGfn), pages, flags]) } : {};
      return {
        ...rows,
        usedSlots: this.#memslots.usedSlots(asId),
        generation: hex(this.#memslots.generation(asId)),
        digest: `0x${(digest >>> 0).toString(16).padStart(8, '0')}`,
      };
    },
  };

  #set(args: Fields, call: (region: MemoryRegion) => ChangeKind): Fields {
    const region: MemoryRegion = {
      slot: this.#number(args, 'slot'),
      asId: this.#number(args, 'asId'),
      flags: this.#number(args, 'flags'),
      guestPhysAddr: this.#wide(args, 'guestPhysAddr'),
      memorySize: this.#wide(args, 'memorySize'),
      userspaceAddr: this.#wide(args, 'userspaceAddr'),
    };
    this.#prepareError = args['prepareError'] === undefined ? 0 : this.#number(args, 'prepareError');
    const answer = this.#errno(() => ({ ret: 0, change: call(region) }));
    return { change: 'none', ...answer, events: this.#events };
  }

  #bulk(args: Fields, count: number, region: (i: number, p: number) => MemoryRegion): Fields {
    const { mul, add } = this.#numbers(args, 'mul', 'add');
    this.#prepareError = 0;
    let passed = 0;
    for (let i = 0; i < count; i++) {
      const answer = this.#errno(() => {
        this.#memslots.setUserMemoryRegion(region(i, (i * mul + add) % count));
        return { ret: 0 };
      });
      if (answer['ret'] === 0) passed += 1;
    }
    return { ret: passed };
  }

  #errno(call: () => Fields): Fields {
    try {
      return call();
    } catch (error) {
      if (error instanceof MemslotsError && error.refusal.code !== 'bad-argument') return { ret: error.refusal.ret };
      throw error;
    }
  }

  #numbers<Key extends string>(args: Fields, ...keys: Key[]): Record<Key, number> {
    return Object.fromEntries(keys.map((key) => [key, this.#number(args, key)])) as Record<Key, number>;
  }

  /** A number that is exact, written either way. */
  #number(args: Fields, key: string): number {
    const value = args[key];
    const number = typeof value === 'string' ? Number(value) : value;
    if (typeof number === 'number' && Number.isSafeInteger(number)) return number;
    throw new RecordingError(this.#line, `${key} is ${JSON.stringify(value)}; allowed is a whole number`);
  }

  /** Any 64-bit number. Small ones as numbers, so that both kinds of argument are driven. */
  #wide(args: Fields, key: string): number | bigint {
    const value = args[key];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    if (typeof value !== 'string' || !/^0x[0-9a-f]{1,16}$/.test(value)) {
      throw new RecordingError(this.#line, `${key} is ${JSON.stringify(value)}; allowed is an unsigned 64-bit number`);
    }
    const wide = BigInt(value);
    return wide <= 2n ** 53n ? Number(wide) : wide;
  }

  #runs(args: Fields, key: string): [number, number][] {
    const value = args[key];
    if (!Array.isArray(value)) throw new RecordingError(this.#line, `${key} is no list of runs`);
    return value.map((run) => {
      if (Array.isArray(run) && run.length === 2 && run.every((part) => Number.isSafeInteger(part))) return run as [number, number];
      throw new RecordingError(this.#line, `${key} holds ${JSON.stringify(run)}; allowed is [first, count]`);
    });
  }
}

/** Deep equality by text, keys in the order of the recording. */
function shownAs(expected: Fields, answer: Fields): string {
  return JSON.stringify(Object.fromEntries(Object.keys(expected).map((key) => [key, answer[key] ?? null])));
}

/**
 * Replays a recording of the memory slots against this package, line by line, and stops at the first difference.
 * @param lines JSON, one object a line; the first is the header.
 * @throws {RecordingError} for a header or line that cannot be read.
 */
export function replay(lines: Iterable<string>, _needs?: { sha256(bytes: Uint8Array): string }): ReplayResult {
  let player: Player | undefined;
  let line = 0;
  let operations = 0;
  for (const text of lines) {
    line += 1;
    // The end of a file that ends in a line feed.
    if (text === '') continue;
    const fields = fieldsOf(text, line);
    if (player === undefined) {
      player = new Player(fields);
      continue;
    }
    operations += 1;
    const { op: _op, args: _args, ...expected } = fields;
    if (fields['op'] === 'checkpoint') delete expected['asId'];
    const actual = shownAs(expected, player.perform(fields, line));
    if (actual !== JSON.stringify(expected)) return { operations, difference: { line, expected: JSON.stringify(expected), actual } };
  }
  if (player === undefined) throw new RecordingError(1, 'no header');
  return { operations, difference: null };
}
