import { putU16, putU32, putU64, text, u16, u32, utf8 } from './bytes.ts';
import { HandshakeFlag, IHAVEOPT, Info, NBDMAGIC, OPTION_REPLY_MAGIC, Opt, Rep, STRING_BYTES_MAX, TransmissionFlag } from './constants.ts';
import type { NbdExport, NbdTarget } from './types.ts';

/** What a handshake ended with. */
export type HandshakeOutcome =
  | { readonly kind: 'more' }
  | { readonly kind: 'transmission'; readonly export: NbdExport; readonly structured: boolean; readonly allocation: boolean }
  /** The client said good-bye, or broke the protocol: send what was written, then close. */
  | { readonly kind: 'close' };

const more: HandshakeOutcome = { kind: 'more' };
const close: HandshakeOutcome = { kind: 'close' };

/** The only meta context there is, and the number it is known by on every connection. */
export const ALLOCATION_CONTEXT = 'base:allocation';
export const ALLOCATION_CONTEXT_ID = 1;

/** The longest option worth storing: a name, its length, and a few dozen info requests. Longer ones are skipped unread. */
const OPTION_BYTES_MAX = 2 * STRING_BYTES_MAX + 1024;

export function transmissionFlags(target: NbdTarget, structured: boolean): number {
  const writable = target.readonly !== true && target.write !== undefined;
  let flags: number = TransmissionFlag.HAS_FLAGS;
  if (!writable) flags |= TransmissionFlag.READ_ONLY;
  if (target.flush) flags |= TransmissionFlag.SEND_FLUSH;
  if (writable && target.flush) flags |= TransmissionFlag.SEND_FUA;
  if (writable && target.trim) flags |= TransmissionFlag.SEND_TRIM;
  if (writable && target.writeZeroes) flags |= TransmissionFlag.SEND_WRITE_ZEROES;
  if (writable && target.writeZeroes && target.fastZeroes === true) flags |= TransmissionFlag.SEND_FAST_ZERO;
  if (structured) flags |= TransmissionFlag.SEND_DF;
  if (target.multiConn === true) flags |= TransmissionFlag.CAN_MULTI_CONN;
  return flags;
}

/**
 * The fixed newstyle handshake of one connection, as a pure machine: bytes in, bytes out. It stores at most one option.
 * @see doc/proto.md of NetworkBlockDevice/nbd, "Newstyle negotiation" and "Option haggling"
 */
export class Handshake {
  readonly #exports: ReadonlyMap<string, NbdExport>;
  readonly #send: (bytes: Uint8Array) => void;
  readonly #requestBytesMax: number;
  #optionsLeft: number;
  #state: 'flags' | 'header' | 'option' | 'skip' = 'flags';
  #have: Uint8Array = new Uint8Array(16 + OPTION_BYTES_MAX);
  #filled = 0;
  #want = 4;
  #option = 0;
  #noZeroes = false;
  #structured = false;
  /** The export that `base:allocation` was chosen for; it holds for that one alone. */
  #allocationOf: NbdExport | undefined;

  constructor(
    exports: ReadonlyMap<string, NbdExport>,
    limits: { readonly options: number; readonly requestBytes: number },
    send: (bytes: Uint8Array) => void,
  ) {
    this.#exports = exports;
    this.#optionsLeft = limits.options;
    this.#requestBytesMax = limits.requestBytes;
    this.#send = send;
    const greeting = new Uint8Array(18);
    putU32(greeting, 0, NBDMAGIC[0]);
    putU32(greeting, 4, NBDMAGIC[1]);
    putU32(greeting, 8, IHAVEOPT[0]);
    putU32(greeting, 12, IHAVEOPT[1]);
    putU16(greeting, 16, HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES);
    send(greeting);
  }

  /** Takes bytes from `at` on; `used` says where the next phase's bytes begin. */
  feed(chunk: Uint8Array, at: number): { outcome: HandshakeOutcome; used: number } {
    while (at < chunk.length) {
      const take = Math.min(this.#want - this.#filled, chunk.length - at);
      if (this.#state !== 'skip') this.#have.set(chunk.subarray(at, at + take), this.#filled);
      this.#filled += take;
      at += take;
      while (this.#filled === this.#want) {
        this.#filled = 0;
        const outcome = this.#advance();
        if (outcome.kind !== 'more') return { outcome, used: at };
        if (this.#want > 0) break;
      }
    }
    return { outcome: more, used: at };
  }

  #expect(state: 'header' | 'option' | 'skip', bytes: number): HandshakeOutcome {
    this.#state = state;
    this.#want = bytes;
    return more;
  }

  #advance(): HandshakeOutcome {
    const have = this.#have;
    switch (this.#state) {
      case 'flags': {
        const flags = u32(have, 0);
        if ((flags & ~(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)) !== 0) return close;
        this.#noZeroes = (flags & HandshakeFlag.NO_ZEROES) !== 0;
        return this.#expect('header', 16);
      }
      case 'header': {
        if (u32(have, 0) !== IHAVEOPT[0] || u32(have, 4) !== IHAVEOPT[1]) return close;
        this.#option = u32(have, 8);
        const bytes = u32(have, 12);
        this.#optionsLeft -= 1;
        if (this.#optionsLeft < 0) return close;
        return bytes > OPTION_BYTES_MAX ? this.#expect('skip', bytes) : this.#expect('option', bytes);
      }
      case 'skip': {
        // EXPORT_NAME has no way to refuse but to close.
        if (this.#option === Opt.EXPORT_NAME) return close;
        this.#reply(Rep.ERR_TOO_BIG, utf8(`an option may have ${OPTION_BYTES_MAX} bytes`));
        return this.#expect('header', 16);
      }
      case 'option': {
        const outcome = this.#answer(have.subarray(0, this.#want));
        if (outcome.kind === 'more') this.#expect('header', 16);
        return outcome;
      }
    }
  }

  #reply(type: number, data: Uint8Array = new Uint8Array(0)): void {
    const bytes = new Uint8Array(20 + data.length);
    putU32(bytes, 0, OPTION_REPLY_MAGIC[0]);
    putU32(bytes, 4, OPTION_REPLY_MAGIC[1]);
    putU32(bytes, 8, this.#option);
    putU32(bytes, 12, type);
    putU32(bytes, 16, data.length);
    bytes.set(data, 20);
    this.#send(bytes);
  }

  #refuse(type: number, message: string): HandshakeOutcome {
    this.#reply(type, utf8(message));
    return more;
  }

  #answer(data: Uint8Array): HandshakeOutcome {
    switch (this.#option) {
      case Opt.EXPORT_NAME:
        return this.#exportName(data);
      case Opt.ABORT:
        this.#reply(Rep.ACK);
        return close;
      case Opt.LIST:
        return this.#list(data);
      case Opt.INFO:
      case Opt.GO:
        return this.#infoOrGo(data);
      case Opt.STRUCTURED_REPLY:
        if (data.length > 0) return this.#refuse(Rep.ERR_INVALID, 'STRUCTURED_REPLY carries no data');
        this.#structured = true;
        this.#reply(Rep.ACK);
        return more;
      case Opt.LIST_META_CONTEXT:
      case Opt.SET_META_CONTEXT:
        return this.#metaContext(data);
      default:
        return this.#refuse(Rep.ERR_UNSUP, `option ${this.#option} is not known here`);
    }
  }

  #transmission(found: NbdExport): HandshakeOutcome {
    return { kind: 'transmission', export: found, structured: this.#structured, allocation: this.#allocationOf === found };
  }

  #exportName(data: Uint8Array): HandshakeOutcome {
    const name = data.length > STRING_BYTES_MAX ? undefined : text(data);
    const found = name === undefined ? undefined : this.#exports.get(name);
    if (found === undefined) return close;
    const bytes = new Uint8Array(this.#noZeroes ? 10 : 134);
    putU64(bytes, 0, found.target.sizeBytes);
    putU16(bytes, 8, transmissionFlags(found.target, this.#structured));
    this.#send(bytes);
    return this.#transmission(found);
  }

  #list(data: Uint8Array): HandshakeOutcome {
    if (data.length > 0) return this.#refuse(Rep.ERR_INVALID, 'LIST carries no data');
    for (const { name, description } of this.#exports.values()) {
      const nameBytes = utf8(name);
      const rest = description === undefined ? new Uint8Array(0) : utf8(description);
      const bytes = new Uint8Array(4 + nameBytes.length + rest.length);
      putU32(bytes, 0, nameBytes.length);
      bytes.set(nameBytes, 4);
      bytes.set(rest, 4 + nameBytes.length);
      this.#reply(Rep.SERVER, bytes);
    }
    this.#reply(Rep.ACK);
    return more;
  }

  #infoOrGo(data: Uint8Array): HandshakeOutcome {
    const nameBytes = data.length >= 6 ? u32(data, 0) : -1;
    if (nameBytes < 0 || nameBytes > data.length - 6) return this.#refuse(Rep.ERR_INVALID, 'the name is longer than the option');
    const count = u16(data, 4 + nameBytes);
    if (data.length !== 6 + nameBytes + 2 * count) return this.#refuse(Rep.ERR_INVALID, 'the info requests do not fill the option');
    if (nameBytes > STRING_BYTES_MAX) return this.#refuse(Rep.ERR_TOO_BIG, `a name may have ${STRING_BYTES_MAX} bytes`);
    const name = text(data.subarray(4, 4 + nameBytes));
    const found = name === undefined ? undefined : this.#exports.get(name);
    if (found === undefined) return this.#refuse(Rep.ERR_UNKNOWN, 'no export of that name');
    const { target } = found;

    const size = new Uint8Array(12);
    putU16(size, 0, Info.EXPORT);
    putU64(size, 2, target.sizeBytes);
    putU16(size, 10, transmissionFlags(target, this.#structured));
    this.#reply(Rep.INFO, size);
    const wanted = new Set<number>();
    for (let index = 0; index < count; index += 1) wanted.add(u16(data, 6 + nameBytes + 2 * index));
    if (wanted.has(Info.NAME)) this.#info(Info.NAME, utf8(found.name));
    if (wanted.has(Info.DESCRIPTION) && found.description !== undefined) this.#info(Info.DESCRIPTION, utf8(found.description));
    if (wanted.has(Info.BLOCK_SIZE)) {
      const sizes = new Uint8Array(12);
      putU32(sizes, 0, target.blockBytes?.minimum ?? 1);
      putU32(sizes, 4, target.blockBytes?.preferred ?? 4096);
      putU32(sizes, 8, this.#requestBytesMax);
      this.#info(Info.BLOCK_SIZE, sizes);
    }
    this.#reply(Rep.ACK);
    return this.#option === Opt.GO ? this.#transmission(found) : more;
  }

  #info(type: number, value: Uint8Array): void {
    const bytes = new Uint8Array(2 + value.length);
    putU16(bytes, 0, type);
    bytes.set(value, 2);
    this.#reply(Rep.INFO, bytes);
  }

  #metaContext(data: Uint8Array): HandshakeOutcome {
    const setting = this.#option === Opt.SET_META_CONTEXT;
    if (setting) this.#allocationOf = undefined;
    if (!this.#structured) return this.#refuse(Rep.ERR_INVALID, 'STRUCTURED_REPLY comes first');
    const nameBytes = data.length >= 8 ? u32(data, 0) : -1;
    if (nameBytes < 0 || nameBytes > data.length - 8) return this.#refuse(Rep.ERR_INVALID, 'the name is longer than the option');
    const name = text(data.subarray(4, 4 + nameBytes));
    const count = u32(data, 4 + nameBytes);
    const queries: (string | undefined)[] = [];
    let at = 8 + nameBytes;
    for (let index = 0; index < count; index += 1) {
      const bytes = at + 4 <= data.length ? u32(data, at) : -1;
      if (bytes < 0 || bytes > data.length - at - 4) return this.#refuse(Rep.ERR_INVALID, 'a query is longer than the option');
      queries.push(text(data.subarray(at + 4, at + 4 + bytes)));
      at += 4 + bytes;
    }
    if (at !== data.length) return this.#refuse(Rep.ERR_INVALID, 'bytes after the last query');
    const found = name === undefined ? undefined : this.#exports.get(name);
    if (found === undefined) return this.#refuse(Rep.ERR_UNKNOWN, 'no export of that name');
    const asked = queries.includes(ALLOCATION_CONTEXT) || (!setting && (count === 0 || queries.includes('base:')));
    if (asked && found.target.extents) {
      const context = utf8(ALLOCATION_CONTEXT);
      const bytes = new Uint8Array(4 + context.length);
      putU32(bytes, 0, setting ? ALLOCATION_CONTEXT_ID : 0);
      bytes.set(context, 4);
      this.#reply(Rep.META_CONTEXT, bytes);
      if (setting) this.#allocationOf = found;
    }
    this.#reply(Rep.ACK);
    return more;
  }
}
