import {
  ABIS,
  type Abi,
  decodeStruct,
  EVTCHN_ALLOC_UNBOUND,
  EVTCHN_BIND_INTERDOMAIN,
  EVTCHN_BIND_VIRQ,
  EVTCHN_SEND,
  encodeStruct,
  GNTTAB_COPY,
  GNTTAB_MAP_GRANT_REF,
  GNTTAB_QUERY_SIZE,
  GNTTAB_SET_VERSION,
  GNTTAB_SETUP_TABLE,
  GNTTAB_UNMAP_GRANT_REF,
  START_INFO,
  type Struct,
  sharedInfoOffsets,
  sizeOf,
} from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { createMachine, type Domain, type Machine } from '../src/index.ts';

const SELF = 0x7ff0;

/** The interface has no start info page on Arm; the machine gives those guests the one of x86_64. */
const startAbi = (abi: Abi): Abi => (abi === 'arm64' ? 'x86_64' : abi);

/** The page of code: a guest that knows its start info page, loads, stores and hypercalls, and nothing else. */
class Guest {
  readonly cpu: Domain;
  readonly abi: Abi;
  readonly word: number;
  readonly info: { storePort: number; storePage: number; consolePort: number; consolePage: number; sharedInfo: number };
  /** Where it lays out arguments: the first page of its memory. */
  #stack = 0;

  constructor(cpu: Domain) {
    this.cpu = cpu;
    this.abi = cpu.abi;
    this.word = cpu.abi === 'x86_32' ? 4 : 8;
    const layout = startAbi(this.abi);
    const start = decodeStruct(START_INFO, layout, this.load(cpu.memory.specialGfn * 4096, sizeOf(START_INFO, layout)));
    this.info = {
      storePort: start.store_evtchn,
      storePage: Number(start.store_mfn) * 4096,
      consolePort: start['console.domU.evtchn'],
      consolePage: Number(start['console.domU.mfn']) * 4096,
      sharedInfo: Number(start.shared_info),
    };
  }

  load(address: number, bytes: number): Uint8Array {
    const into = new Uint8Array(bytes);
    this.cpu.memory.read(address, into);
    return into;
  }

  store(address: number, bytes: Uint8Array | readonly number[]): void {
    this.cpu.memory.write(address, Uint8Array.from(bytes));
  }

  load32(address: number): number {
    return new DataView(this.load(address, 4).buffer).getUint32(0, true);
  }

  store32(address: number, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.store(address, bytes);
  }

  /** Room for an argument, below 4096. */
  room(bytes: number): number {
    if (this.#stack + bytes > 4096) this.#stack = 0;
    const at = this.#stack;
    this.#stack += (bytes + 7) & ~7;
    return at;
  }

  /** A hypercall whose argument is a structure; its fields come back as they are after the call. */
  call<F extends object>(
    number: number,
    command: number,
    struct: Struct<F>,
    fields: Partial<Record<keyof F, number>>,
    count?: number,
  ): { result: number; out: F } {
    const at = this.room(sizeOf(struct, this.abi));
    this.store(at, encodeStruct(struct, this.abi, fields as never));
    const args = count === undefined ? [command, at] : [command, at, count];
    const result = this.cpu.hypercall(number, ...args);
    return { result, out: decodeStruct(struct, this.abi, this.load(at, sizeOf(struct, this.abi))) };
  }

  send(port: number): number {
    return this.call(32, 4, EVTCHN_SEND, { port }).result;
  }

  /** Masks a port, so that only its pending bit tells. */
  mask(port: number): void {
    const at = this.info.sharedInfo + sharedInfoOffsets(this.abi).evtchnMask + (port >> 3);
    this.store(at, [this.load(at, 1)[0]! | (1 << (port & 7))]);
  }

  /** Takes a port's pending bit. */
  pending(port: number): boolean {
    const at = this.info.sharedInfo + sharedInfoOffsets(this.abi).evtchnPending + (port >> 3);
    const byte = this.load(at, 1)[0]!;
    this.store(at, [byte & ~(1 << (port & 7))]);
    return (byte & (1 << (port & 7))) !== 0;
  }

  /** SCHEDOP_poll: waits for one of the ports, or until `deadline` (nanoseconds, 0: for ever). */
  poll(ports: readonly number[], deadline = 0): number {
    const list = this.room(ports.length * 4);
    ports.forEach((port, i) => {
      this.store32(list + i * 4, port);
    });
    const at = this.room(24);
    this.store(at, new Uint8Array(24));
    this.store32(at, list);
    this.store32(at + (this.word === 4 ? 4 : 8), ports.length);
    this.store32(at + (this.word === 4 ? 8 : 16), deadline >>> 0);
    this.store32(at + (this.word === 4 ? 12 : 20), Math.floor(deadline / 2 ** 32));
    return this.cpu.hypercall(29, 3, at);
  }

  /** Writes to the console's ring and rings. */
  print(text: string): void {
    const page = this.info.consolePage;
    const prod = this.load32(page + 3084);
    for (let i = 0; i < text.length; i++) this.store(page + 1024 + ((prod + i) & 2047), [text.charCodeAt(i)]);
    this.store32(page + 3084, prod + text.length);
    this.send(this.info.consolePort);
  }

  /** One request to the store over its ring, and the answer: type and payload. */
  ask(type: number, payload: string): { type: number; payload: string } {
    const page = this.info.storePage;
    this.mask(this.info.storePort);
    const bytes = new Uint8Array(16 + payload.length);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setUint32(4, 77, true);
    view.setUint32(12, payload.length, true);
    for (let i = 0; i < payload.length; i++) bytes[16 + i] = payload.charCodeAt(i);
    let prod = this.load32(page + 2052);
    for (const byte of bytes) this.store(page + (prod++ & 1023), [byte]);
    this.store32(page + 2052, prod);
    this.send(this.info.storePort);
    while ((this.load32(page + 2060) - this.load32(page + 2056)) >>> 0 < 16) {
      if (!this.pending(this.info.storePort)) this.poll([this.info.storePort]);
    }
    let cons = this.load32(page + 2056);
    const take = (count: number): Uint8Array => Uint8Array.from({ length: count }, () => this.load(page + 1024 + (cons++ & 1023), 1)[0]!);
    const head = new DataView(take(16).buffer);
    const answer = String.fromCharCode(...take(head.getUint32(12, true)));
    this.store32(page + 2056, cons);
    this.send(this.info.storePort);
    return { type: head.getUint32(0, true), payload: answer };
  }

  /** The frames of its grant table, where they stand in its own memory. */
  grantFrames(count: number): number[] {
    const list = this.room(count * 8);
    const { result, out } = this.call(20, 2, GNTTAB_SETUP_TABLE, { dom: SELF, nr_frames: count, frame_list: list }, 1);
    expect([result, out.status]).toEqual([0, 0]);
    return Array.from({ length: count }, (_, i) => this.load32(list + i * this.word) * 4096);
  }
}

function pairOf(abi: Abi): { machine: Machine; guest: Guest; dom0: Guest } {
  const machine = createMachine({ seed: 1, ramBytes: 4 * 2 ** 20 });
  const dom0 = new Guest(machine.createDomain({ id: 0, pages: 64 }));
  const guest = new Guest(machine.createDomain({ pages: 64, abi, name: 'tiny', commandLine: 'root=/dev/xvda' }));
  return { machine, guest, dom0 };
}

for (const abi of ABIS) {
  describe(`a guest of a page of code, ${abi}`, () => {
    it('finds its boot pages, its store and its console', () => {
      const { machine, guest } = pairOf(abi);
      const said: string[] = [];
      machine.bus.on('hv:console').subscribe(({ text }) => said.push(text));
      const layout = startAbi(abi);
      const start = decodeStruct(START_INFO, layout, guest.load(guest.cpu.memory.specialGfn * 4096, sizeOf(START_INFO, layout)));
      expect(Number(start.nr_pages)).toBe(64);
      const bytes = (field: ArrayLike<number>): string => String.fromCharCode(...Array.from(field)).replace(/\0.*$/s, '');
      expect(bytes(start.magic)).toBe(`xen-3.0-${abi}`);
      expect(bytes(start.cmd_line)).toBe('root=/dev/xvda');
      guest.print('hello, ');
      guest.print('world\n');
      machine.run();
      expect(said.join('')).toBe('hello, world\n');
      expect(guest.ask(2, 'name\0')).toEqual({ type: 2, payload: 'tiny' });
      expect(guest.ask(11, 'data/key\0value')).toEqual({ type: 11, payload: 'OK\0' });
      expect(machine.domain(0).store.read(`/local/domain/${guest.cpu.id}/data/key`)).toBe('value');
      // Not its own.
      expect(guest.ask(11, '/local/domain/0/name\0x')).toEqual({ type: 16, payload: 'EACCES\0' });
    });

    it('shares a page by its own hypercalls, and the other end maps it by its own', () => {
      const { machine, guest, dom0 } = pairOf(abi);
      const [table] = guest.grantFrames(1);
      // References 0 and 1 are the toolstack's: console and store.
      expect([0, 8].map((at) => guest.load32(table! + at) & 0xffff)).toEqual([1, 1]);
      expect(guest.load32(table! + 12) * 4096).toBe(guest.info.storePage);
      guest.store(5 * 4096, [1, 2, 3, 4]);
      guest.store32(table! + 8 * 8 + 4, 5);
      guest.store32(table! + 8 * 8, 1);
      const host = 0x40_0000;
      const map = dom0.call(20, 0, GNTTAB_MAP_GRANT_REF, { host_addr: host, flags: 2, ref: 8, dom: guest.cpu.id }, 1);
      expect([map.result, map.out.status]).toEqual([0, 0]);
      expect(guest.load32(table! + 8 * 8)).toBe(0x19);
      const seen = new Uint8Array(4);
      dom0.cpu.addressSpace.read(host, seen);
      expect([...seen]).toEqual([1, 2, 3, 4]);
      const unmap = dom0.call(20, 1, GNTTAB_UNMAP_GRANT_REF, { host_addr: host, handle: map.out.handle }, 1);
      expect([unmap.result, unmap.out.status]).toEqual([0, 0]);
      expect(guest.load32(table! + 8 * 8)).toBe(1);
      expect(() => dom0.cpu.addressSpace.read(host, seen)).toThrow(/domain 0 unmapped it \(grant-unmap\) at step/);
      // By copy: from the reference into a page of dom0's own.
      const copy = dom0.call(
        20,
        5,
        GNTTAB_COPY,
        { 'source.u.ref': 8, 'source.domid': guest.cpu.id, 'dest.u.gmfn': 9, 'dest.domid': SELF, 'dest.offset': 100, len: 4, flags: 1 },
        1,
      );
      expect([copy.result, copy.out.status]).toEqual([0, 0]);
      expect([...dom0.load(9 * 4096 + 100, 4)]).toEqual([1, 2, 3, 4]);
      const size = guest.call(20, 6, GNTTAB_QUERY_SIZE, { dom: SELF }, 1).out;
      expect([size.nr_frames, size.max_nr_frames, size.status]).toEqual([1, 64, 0]);
      expect(guest.call(20, 6, GNTTAB_QUERY_SIZE, { dom: 0 }, 1).out.status).toBe(-8);
      expect(dom0.call(20, 6, GNTTAB_QUERY_SIZE, { dom: guest.cpu.id }, 1).out.status).toBe(0);
      expect(guest.call(20, 8, GNTTAB_SET_VERSION, { version: 2 }).result).toBe(0);
      // Version 2 keeps the toolstack's entries, in its own layout.
      expect([guest.load32(table!) & 0xffff, guest.load32(table! + 8) * 4096]).toEqual([1, guest.info.consolePage]);
      machine.close();
    });

    it('rings and is rung, waits with a deadline, and has a timer', () => {
      const { machine, guest, dom0 } = pairOf(abi);
      const port = guest.call(32, 6, EVTCHN_ALLOC_UNBOUND, { dom: SELF, remote_dom: 0 }).out.port;
      guest.mask(port);
      const far = dom0.call(32, 0, EVTCHN_BIND_INTERDOMAIN, { remote_dom: guest.cpu.id, remote_port: port }).out.local_port;
      dom0.cpu.post(() => dom0.send(far));
      expect(guest.poll([port])).toBe(0);
      expect(guest.pending(port)).toBe(true);
      const before = machine.now;
      expect(guest.poll([port], 5_000_000)).toBe(0);
      expect(machine.now).toBe(before + 5);
      const timer = guest.call(32, 1, EVTCHN_BIND_VIRQ, { virq: 0, vcpu: 0 }).out.port;
      guest.mask(timer);
      const due = 50_000_000;
      expect(guest.word === 4 ? guest.cpu.hypercall(15, due, 0) : guest.cpu.hypercall(15, due)).toBe(0);
      guest.poll([timer]);
      expect(machine.now).toBe(50);
      expect(guest.pending(timer)).toBe(true);
      const time = guest.info.sharedInfo + sharedInfoOffsets(abi).time;
      expect(guest.load32(time + 16)).toBe(due);
      expect(guest.send(200)).toBe(-22);
      expect(guest.poll([4096])).toBe(-22);
    });

    it('gives pages back and takes them again', () => {
      const { machine, guest } = pairOf(abi);
      const free = machine.freeFrames;
      const list = guest.room(16);
      const at = guest.room(32);
      const reserve = (command: number, pages: readonly number[]): number => {
        pages.forEach((page, i) => {
          guest.store(list + i * guest.word, new Uint8Array(guest.word));
          guest.store32(list + i * guest.word, page);
        });
        guest.store(at, new Uint8Array(32));
        guest.store32(at, list);
        guest.store32(at + guest.word, pages.length);
        guest.store32(at + 2 * guest.word + 8, SELF);
        return guest.cpu.hypercall(12, command, at);
      };
      expect(reserve(1, [20, 21])).toBe(2);
      expect(machine.freeFrames).toBe(free + 2);
      expect(() => guest.load(20 * 4096, 1)).toThrow(/bad-gfn/);
      // The second is gone already.
      expect(reserve(1, [22, 21])).toBe(1);
      expect(reserve(6, [20, 21])).toBe(2);
      expect([...guest.load(20 * 4096, 2)]).toEqual([0, 0]);
      guest.store32(at, SELF);
      expect(guest.cpu.hypercall(12, 3, at)).toBe(63);
    });

    it('is told -ENOSYS by name, -EFAULT for bad addresses, and stops when it shuts down', () => {
      const { machine, guest } = pairOf(abi);
      const refused: string[] = [];
      machine.bus.on('hv:refused').subscribe(({ hypercall }) => refused.push(hypercall));
      expect([1, 17, 36, 99].map((number) => guest.cpu.hypercall(number, 0))).toEqual([-38, -38, -38, -38]);
      expect(guest.cpu.hypercall(20, 4, 0, 1)).toBe(-38);
      expect(refused).toEqual(['mmu_update', 'xen_version', 'domctl', 'hypercall 99', 'grant_table_op']);
      expect(guest.cpu.hypercall(20, 0, 2 ** 40, 1)).toBe(-14);
      expect(guest.cpu.hypercall(32, 4, 2 ** 40)).toBe(-14);
      expect(guest.cpu.hypercall(20, 2, 0, 2)).toBe(-22);
      const at = guest.room(4);
      guest.store32(at, 3);
      const reasons: number[] = [];
      machine.bus.on('hv:shutdown').subscribe(({ reason }) => reasons.push(reason));
      expect(guest.cpu.hypercall(29, 2, at)).toBe(0);
      expect(reasons).toEqual([3]);
      expect(guest.cpu.state).toBe('shutdown');
    });
  });
}
