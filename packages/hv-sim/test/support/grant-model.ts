import type { CopyOp, MemoryFrame } from '@paravirt/gnttab';
import { createMachine, type Domain, type Machine } from '../../src/index.ts';

export const RAM = 6;
export const HANDLES = 6;
export const FRAMES_MAX = 2;
const SELF = 0x7ff0;
const PAGE = 4096;

/** A mapping as the model remembers it. */
export interface Mapping {
  mapper: number;
  granter: number;
  ref: number;
  host: boolean;
  device: boolean;
  readonly: boolean;
  vfn: number;
  handle: number;
}

/** What was checked when a reference was first pinned. */
interface Active {
  domid: number;
  page: number;
}

/** A domain as the model remembers it. Pages are named by a number that is written into their first word. */
interface Party {
  id: number;
  face: Domain;
  state: 'running' | 'dying' | 'gone';
  version: 1 | 2;
  frames: number;
  table: MemoryFrame[];
  status: MemoryFrame[];
  /** gfn -> page */
  ram: Map<number, number>;
  active: Map<number, Active>;
  /** References whose flags their owner overwrote: their in-use bits are its own doing. */
  scribbled: Set<number>;
  /** Reserved references that were mapped when the layout changed: their in-use bits came over as their owner had left them. */
  carried: Set<number>;
}

const entriesOf = (party: Party): number => party.frames * (party.version === 1 ? 512 : 256);

/** A machine of three small domains beside a model of it in maps and arrays, which says what each call must answer. */
export class GrantModel {
  readonly machine: Machine;
  readonly parties: Party[] = [];
  mappings: Mapping[] = [];
  /** What was granted to whom, newest first, whether or not it still stands: where a schedule finds something worth mapping. */
  readonly offers: { granter: number; ref: number; peer: number }[] = [];
  #nextPage = 1;
  readonly freeAtStart: number;

  constructor(seed: number) {
    // One buffer, a buffer for each domain, or shared memory with its compare-and-swap.
    const bytes = 256 * PAGE;
    const memory = seed % 3 === 2 ? { memory: [{ buffer: new SharedArrayBuffer(bytes) }] } : { ramBytes: bytes };
    this.machine = createMachine({ seed, isolated: seed % 3 === 1, ...memory });
    this.freeAtStart = this.machine.freeFrames;
    for (let i = 0; i < 3; i++) this.parties.push(this.#create(i + 1));
  }

  #create(id: number): Party {
    const face = this.machine.createDomain({ id, pages: RAM, grantFramesMax: FRAMES_MAX, handlesMax: HANDLES, windowPages: 64 });
    const party: Party = {
      id,
      face,
      state: 'running',
      version: 1,
      frames: 1,
      table: [],
      status: [],
      ram: new Map(),
      active: new Map(),
      scribbled: new Set(),
      carried: new Set(),
    };
    face.hypercalls.setupTable(1, party.table);
    for (let gfn = 0; gfn < RAM; gfn++) this.#name(party, gfn);
    return party;
  }

  #name(party: Party, gfn: number): void {
    const page = this.#nextPage++;
    const frame = party.face.memory.frame(gfn);
    frame.views.u32[frame.offset >>> 2] = page;
    party.ram.set(gfn, page);
  }

  // -- bytes of the tables, read and written as their owner does

  word(party: Party, ref: number): { u32: Uint32Array; at: number } {
    const per = party.version === 1 ? 512 : 256;
    const frame = party.table[Math.floor(ref / per)]!;
    return { u32: frame.views.u32, at: (frame.offset >>> 2) + (ref % per) * (party.version === 1 ? 2 : 4) };
  }

  grant(party: Party, ref: number, peer: number, gfn: number, flags: number, extent = 0): void {
    if (party.state !== 'running' || ref >= entriesOf(party)) return;
    const { u32, at } = this.word(party, ref);
    if (party.version === 1) {
      u32[at + 1] = gfn;
      u32[at] = (peer << 16) | (flags & 0xff);
    } else {
      u32[at + 1] = extent;
      u32[at + 2] = gfn;
      u32[at + 3] = 0;
      u32[at] = (peer << 16) | flags;
    }
    party.scribbled.add(ref);
    this.offers.unshift({ granter: party.id, ref, peer });
    this.offers.length = Math.min(this.offers.length, 6);
  }

  #inUse(party: Party, ref: number): number {
    if (party.version === 1) {
      const { u32, at } = this.word(party, ref);
      return u32[at]! & 0x18;
    }
    const frame = party.status[0]!;
    return frame.views.u16[(frame.offset >>> 1) + ref]!;
  }

  // -- what the hypervisor must find

  #pins(party: Party, ref: number): { host: number; write: number; all: Mapping[] } {
    const all = this.mappings.filter((m) => m.granter === party.id && m.ref === ref);
    let host = 0;
    let write = 0;
    for (const m of all) {
      const kinds = (m.host ? 1 : 0) + (m.device ? 1 : 0);
      host += kinds;
      if (!m.readonly) write += kinds;
    }
    return { host, write, all };
  }

  #party(domid: number): Party | undefined {
    return this.parties.find((p) => p.id === domid && p.state !== 'gone');
  }

  /** Status that pinning must give: 0 with the page, or the refusal. */
  #claim(
    granter: Party,
    ref: number,
    domid: number,
    readonly: boolean,
    mapping: boolean,
    deep = true,
  ): { status: number; page: number; start: number; length: number } {
    const no = (status: number) => ({ status, page: -1, start: 0, length: 0 });
    if (ref >= entriesOf(granter)) return no(-3);
    const pins = this.#pins(granter, ref);
    const active = granter.active.get(ref);
    if (pins.host > 0 && active!.domid !== domid) return no(-1);
    if (pins.host > 0 && !(!readonly && pins.write === 0)) return { status: 0, page: active!.page, start: 0, length: PAGE };
    const { u32, at } = this.word(granter, ref);
    const header = u32[at]!;
    const type = header & 3;
    if (pins.host === 0) {
      if (header >>> 16 !== domid) return no(-1);
      const sub = (header & 0x100) !== 0;
      const whole = type === 1 && !(mapping && sub);
      if (!whole && !(granter.version === 2 && !mapping && type === 3)) return no(-1);
    }
    if (!readonly && (header & 4) !== 0) return no(-1);
    if (granter.version === 2 && type === 3 && !mapping) {
      if (!deep) return no(-1);
      const farId = u32[at + 1]! & 0xffff;
      const far = this.#party(farId);
      if (farId === granter.id || far === undefined) return no(-1);
      const claimed = this.#claim(far, u32[at + 2]!, granter.id, readonly, false, false);
      if (claimed.status !== 0) return claimed;
      if (pins.host > 0 && active!.page !== claimed.page) return no(-1);
      return claimed;
    }
    if (pins.host > 0) return { status: 0, page: active!.page, start: 0, length: PAGE };
    const gfn = granter.version === 1 ? u32[at + 1]! : u32[at + 3]! * 2 ** 32 + u32[at + 2]!;
    const page = granter.ram.get(gfn);
    if (page === undefined) return no(-9);
    if (granter.version === 2 && (header & 0x100) !== 0) {
      return { status: 0, page, start: u32[at + 1]! & 0xffff, length: u32[at + 1]! >>> 16 };
    }
    return { status: 0, page, start: 0, length: PAGE };
  }

  map(mapper: Party, granterId: number, ref: number, flags: number, vfn: number): { status: number; expected: number } {
    const op = { vfn, flags, ref, domid: granterId, status: 77, handle: -1, mfn: -1 };
    const expected = this.#expectMap(mapper, granterId, ref, flags, vfn);
    const result = mapper.face.hypercalls.map([op], 1);
    if (mapper.state !== 'running') return { status: result, expected: -3 };
    if (op.status === 0 && expected === 0) {
      const granter = this.#party(granterId)!;
      const claimed = this.#claim(granter, ref, mapper.id, (flags & 4) !== 0, true);
      void claimed;
      if (this.mappings.some((m) => m.mapper === mapper.id && m.handle === op.handle)) return { status: op.handle, expected: -1 };
      this.mappings.push({
        mapper: mapper.id,
        granter: granterId,
        ref,
        host: (flags & 2) !== 0,
        device: (flags & 1) !== 0,
        readonly: (flags & 4) !== 0,
        vfn,
        handle: op.handle,
      });
    }
    return { status: op.status, expected };
  }

  #expectMap(mapper: Party, granterId: number, ref: number, flags: number, vfn: number): number {
    if ((flags & 3) === 0) return -3;
    const granter = this.#party(granterId);
    if (granter === undefined) return -2;
    if ((flags & 2) !== 0 && vfn === 0) return -5;
    if (this.mappings.filter((m) => m.mapper === mapper.id).length >= HANDLES) return -13;
    const claimed = this.#claim(granter, ref, mapper.id, (flags & 4) !== 0, true);
    if (claimed.status !== 0) return claimed.status;
    if ((flags & 2) !== 0 && this.mappings.some((m) => m.mapper === mapper.id && m.host && m.vfn === vfn)) return -5;
    if (!granter.active.has(ref) || this.#pins(granter, ref).host === 0) granter.active.set(ref, { domid: mapper.id, page: claimed.page });
    if (granter.version === 2 || this.#pins(granter, ref).host === 0) granter.scribbled.delete(ref);
    return 0;
  }

  unmap(mapper: Party, handle: number, host: boolean, device: boolean): { status: number; expected: number } {
    const mapping = this.mappings.find((m) => m.mapper === mapper.id && m.handle === handle);
    const op = { vfn: host ? (mapping?.vfn ?? 40) : 0, handle, mfn: device ? this.#deviceMfn(mapping) : 0, status: 77 };
    const result = mapper.face.hypercalls.unmap([op], 1);
    if (mapper.state !== 'running') return { status: result, expected: -3 };
    if (mapping === undefined) return { status: op.status, expected: -4 };
    if (host && mapping.vfn !== 0) mapping.host = false;
    if (device) mapping.device = false;
    if (!mapping.host && !mapping.device) {
      this.mappings = this.mappings.filter((m) => m !== mapping);
      this.#settle();
    }
    return { status: op.status, expected: 0 };
  }

  /** The frame that a device mapping was told; the model asks the machine for the number only. */
  #deviceMfn(mapping: Mapping | undefined): number {
    if (mapping === undefined) return 1;
    const owner = this.parties.find((p) => p.id === mapping.granter && p.state !== 'gone')!;
    const page = owner.active.get(mapping.ref)!.page;
    for (const [gfn, named] of owner.ram) if (named === page) return owner.face.memory.mfnOf(gfn, false);
    return this.#lost.get(page) ?? 1;
  }

  /** Frames of pages that their owner has no more, by page: ballooned out while mapped. */
  readonly #lost: Map<number, number> = new Map();

  copy(caller: Party, source: CopyOp['source'], dest: CopyOp['dest'], bytes: number): { status: number; expected: number } {
    const op: CopyOp = { source, dest, bytes, status: 77 };
    const expected = this.#expectCopy(caller, op);
    const result = caller.face.hypercalls.copy([op], 1);
    if (caller.state !== 'running') return { status: result, expected: -3 };
    return { status: op.status, expected };
  }

  #expectCopy(caller: Party, op: CopyOp): number {
    if (op.bytes === 0) return 0;
    const sides: { start: number; length: number }[] = [];
    for (const ptr of [op.source, op.dest]) {
      if (!ptr.isRef && ptr.domid !== SELF && ptr.domid !== caller.id) return -8;
      if (ptr.domid !== SELF && this.#party(ptr.domid) === undefined) return -2;
    }
    for (const ptr of [op.source, op.dest]) {
      const readonly = ptr === op.source;
      const party = ptr.domid === SELF ? caller : this.#party(ptr.domid)!;
      if (!ptr.isRef) {
        if (!party.ram.has(ptr.frameOrRef)) return -9;
        sides.push({ start: 0, length: PAGE });
        continue;
      }
      // The same reference on both sides is pinned for reading before it is claimed for writing: the header is read again either way.
      const claimed = this.#claim(party, ptr.frameOrRef, caller.id, readonly, false);
      if (claimed.status !== 0) return claimed.status;
      sides.push(claimed);
    }
    for (const [i, ptr] of [op.source, op.dest].entries()) {
      if (ptr.offset + op.bytes > PAGE) return -10;
      void i;
    }
    for (const [i, ptr] of [op.source, op.dest].entries()) {
      const side = sides[i]!;
      if (ptr.offset < side.start || ptr.offset + op.bytes > side.start + side.length) return -1;
    }
    return 0;
  }

  setVersion(party: Party, version: 1 | 2): { status: number; expected: number } {
    let expected = 0;
    const pinned = (from: number): boolean => this.mappings.some((m) => m.granter === party.id && m.ref >= from);
    if (party.state !== 'running') expected = -3;
    else if (party.version !== version) {
      if (pinned(8)) expected = -16;
      else if (version === 1) {
        for (let ref = 0; ref < 8; ref++) {
          const { u32, at } = this.word(party, ref);
          const type = u32[at]! & 3;
          if (type === 3 || (type === 1 && u32[at + 3] !== 0)) expected = -34;
        }
      }
    }
    const status = party.face.hypercalls.setVersion(version);
    if (status === 0 && party.version !== version && party.state === 'running') {
      party.version = version;
      party.status = [];
      if (version === 2) party.face.hypercalls.getStatusFrames(1, party.status);
      party.scribbled.clear();
      for (let ref = 0; ref < 8; ref++) {
        party.scribbled.add(ref);
        if (this.#pins(party, ref).host > 0) party.carried.add(ref);
      }
    }
    return { status, expected };
  }

  grow(party: Party, frames: number): { status: number; expected: number } {
    const status = party.face.hypercalls.setupTable(frames, party.table);
    if (party.state !== 'running') return { status, expected: -2 };
    if (frames > FRAMES_MAX) return { status, expected: -1 };
    party.frames = Math.max(party.frames, frames);
    return { status, expected: 0 };
  }

  decrease(party: Party, gfn: number): { status: boolean; expected: boolean } {
    if (party.state !== 'running') return { status: true, expected: true };
    const page = party.ram.get(gfn);
    if (page !== undefined) this.#lost.set(page, party.face.memory.mfnOf(gfn, false));
    const status = party.face.memory.decrease(gfn);
    party.ram.delete(gfn);
    return { status, expected: page !== undefined };
  }

  populate(party: Party, gfn: number): { status: boolean; expected: boolean } {
    if (party.state !== 'running') return { status: true, expected: true };
    const wanted = gfn < RAM && !party.ram.has(gfn);
    const status = party.face.memory.populate(gfn);
    if (status) this.#name(party, gfn);
    return { status, expected: wanted };
  }

  kill(party: Party): void {
    if (party.state !== 'running') return;
    for (const [gfn, page] of party.ram) this.#lost.set(page, party.face.memory.mfnOf(gfn, false));
    this.machine.destroyDomain(party.face);
    party.state = 'dying';
    party.ram.clear();
    this.mappings = this.mappings.filter((m) => m.mapper !== party.id);
    this.#settle();
  }

  /** A dead domain goes with the last mapping of its pages. */
  #settle(): void {
    for (const party of this.parties) {
      if (party.state === 'dying' && !this.mappings.some((m) => m.granter === party.id)) party.state = 'gone';
    }
  }

  revive(index: number): void {
    if (this.parties[index]!.state === 'gone') this.parties[index] = this.#create(this.parties[index]!.id);
  }

  /** Everything that must agree after every step; throws a text where it does not. */
  check(): void {
    const ledger = this.machine.ledger();
    if (ledger.errors.length > 0) throw new Error(ledger.errors.join('; '));
    for (const party of this.parties) {
      const state = party.face.state;
      if (state !== party.state) throw new Error(`domain ${party.id} is ${state}, the model says ${party.state}`);
      if (party.state === 'gone') continue;
      this.#checkFlags(party);
      if (party.state === 'running') this.#checkAccess(party);
    }
  }

  #checkFlags(party: Party): void {
    if (party.state !== 'running') return;
    for (let ref = 0; ref < 16; ref++) {
      if (party.version === 1 && party.scribbled.has(ref)) continue;
      const { host, write } = this.#pins(party, ref);
      if (host === 0) party.carried.delete(ref);
      if (party.carried.has(ref)) continue;
      const expected = (host > 0 ? 8 : 0) | (write > 0 ? 16 : 0);
      const found = this.#inUse(party, ref);
      if (found !== expected) throw new Error(`reference ${ref} of domain ${party.id} has flags ${found}, the mappings say ${expected}`);
    }
  }

  /** Each page of the address space leads to the page that was granted, with the rights that were asked for, and to no other. */
  #checkAccess(party: Party): void {
    for (let vfn = 0; vfn < 12; vfn++) {
      const mapping = this.mappings.find((m) => m.mapper === party.id && m.host && m.vfn === vfn);
      let found = -1;
      try {
        const at = party.face.addressSpace.resolve(vfn, false);
        found = party.face.addressSpace.views.u32[at >>> 2]!;
      } catch {
        found = -1;
      }
      if (mapping === undefined) {
        if (found >= 0) throw new Error(`domain ${party.id} reads page ${found} at ${vfn}, where nothing is mapped`);
        continue;
      }
      const granter = this.parties.find((p) => p.id === mapping.granter && p.state !== 'gone')!;
      const page = granter.active.get(mapping.ref)!.page;
      if (found !== page) throw new Error(`domain ${party.id} reads page ${found} at ${vfn}, granted was ${page}`);
      let writable = true;
      try {
        party.face.addressSpace.resolve(vfn, true);
      } catch {
        writable = false;
      }
      if (writable === mapping.readonly) throw new Error(`domain ${party.id} may ${writable ? '' : 'not '}write at ${vfn}`);
    }
  }
}
