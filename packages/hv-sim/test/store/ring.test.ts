import { domId } from '@paravirt/event-bus/contract';
import type { StoreLimits } from '@paravirt/hv-sim';
import { createStore } from '@paravirt/hv-sim';
import { XENSTORE, XS_TYPE, xsTypeName } from '@paravirt/xen-abi';
import { describe, expect, it } from 'vitest';
import { RingGuest, text } from './ring-guest.ts';

const DOM0 = domId(0);
const DOM1 = domId(1);
const DOM2 = domId(2);
const { READ, WRITE, MKDIR, RM, DIRECTORY, DIRECTORY_PART, GET_PERMS, SET_PERMS, WATCH, UNWATCH, RESET_WATCHES } = XS_TYPE;
const { TRANSACTION_START, TRANSACTION_END, INTRODUCE, RELEASE, GET_DOMAIN_PATH, IS_DOMAIN_INTRODUCED, CONTROL } = XS_TYPE;

function fixture(limits: Partial<StoreLimits> = {}) {
  const work: (() => void)[] = [];
  const store = createStore({ enqueue: (item) => work.push(item), limits });
  const tools = store.connect(DOM0);
  for (const domid of [DOM1, DOM2]) {
    tools.mkdir(`/local/domain/${domid}`);
    tools.setPermissions(`/local/domain/${domid}`, [{ domid, access: 'none' }]);
    store.introduce(domid);
  }
  const open = (domid = DOM1) => {
    const guest = new RingGuest();
    const rings = { count: 0 };
    const ring = store.openRing(domid, guest.page, () => {
      rings.count += 1;
    });
    const ask = (type: number, payload: string, txId = 0): string => text(guest.ask(ring, type, payload, txId));
    return { guest, ring, rings, ask };
  };
  return { store, tools, open, work };
}

describe('requests of a guest', () => {
  it('write, read, list, make and remove nodes', () => {
    const { open, tools } = fixture();
    const { ask } = open();
    expect(ask(WRITE, 'data/a\0one')).toBe('WRITE OK|');
    expect(ask(WRITE, '/local/domain/1/data/b\0')).toBe('WRITE OK|');
    expect(ask(MKDIR, 'data/c\0')).toBe('MKDIR OK|');
    expect(ask(MKDIR, 'data/a\0')).toBe('MKDIR OK|');
    expect(ask(READ, 'data/a\0')).toBe('READ one');
    expect(ask(DIRECTORY, 'data\0')).toBe('DIRECTORY a|b|c|');
    expect(ask(DIRECTORY, 'data/a\0')).toBe('DIRECTORY ');
    expect(ask(RM, 'data/a\0')).toBe('RM OK|');
    expect(ask(RM, 'data/a\0')).toBe('RM OK|');
    expect(ask(RM, 'none/a\0')).toBe('ERROR ENOENT|');
    expect(ask(READ, 'data/a\0')).toBe('ERROR ENOENT|');
    expect(ask(RM, '/\0')).toBe('ERROR EACCES|');
    expect(tools.list('/local/domain/1/data')).toEqual(['b', 'c']);
  });

  it('carry values of any bytes', () => {
    const { open, tools } = fixture();
    const { ask } = open();
    const all = Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join('');
    ask(WRITE, `data\0${all}`);
    expect(ask(READ, 'data\0')).toBe(`READ ${all.replaceAll('\0', '|')}`);
    ask(WRITE, 'data\0\xc3\xa4');
    expect(tools.read('/local/domain/1/data')).toBe('ä');
  });

  it('read and set permissions, as owner', () => {
    const { open, tools } = fixture();
    const { ask } = open();
    ask(WRITE, 'data\0x');
    expect(ask(GET_PERMS, 'data\0')).toBe('GET_PERMS n1|');
    expect(ask(SET_PERMS, 'data\0n1\0r2\0b0\0w3\0')).toBe('SET_PERMS OK|');
    expect(ask(GET_PERMS, 'data\0')).toBe('GET_PERMS n1|r2|b0|w3|');
    expect(ask(SET_PERMS, 'data\0n2\0')).toBe('ERROR EPERM|');
    expect(ask(SET_PERMS, 'data\0x1\0')).toBe('ERROR EINVAL|');
    expect(ask(SET_PERMS, 'data\0')).toBe('ERROR EINVAL|');
    expect(ask(SET_PERMS, 'data\0n1\0r2\0r3\0r4\0r5\0r6\0')).toBe('ERROR ENOSPC|');
    expect(ask(SET_PERMS, '/tool\0n1\0')).toBe('ERROR EACCES|');
    expect(ask(SET_PERMS, '@releaseDomain\0n0\0r1\0')).toBe('ERROR EACCES|');
    const other = open(DOM2);
    expect(other.ask(READ, '/local/domain/1/data\0')).toBe('READ x');
    expect(other.ask(WRITE, '/local/domain/1/data\0y')).toBe('ERROR EACCES|');
    expect(other.ask(READ, '/local/domain/1/none\0')).toBe('ERROR EACCES|');
    tools.setPermissions('/local/domain/1/data', [{ domid: DOM2, access: 'none' }]);
    expect(ask(GET_PERMS, 'data\0')).toBe('ERROR EACCES|');
  });

  it('ask for a domain’s path, and for no more about domains', () => {
    const { open } = fixture();
    const { ask } = open();
    expect(ask(GET_DOMAIN_PATH, '77\0')).toBe('GET_DOMAIN_PATH /local/domain/77|');
    for (const type of [CONTROL, INTRODUCE, RELEASE, IS_DOMAIN_INTRODUCED, XS_TYPE.SET_TARGET, XS_TYPE.RESUME]) {
      expect(ask(type, '2\x007\x003\0'), xsTypeName(type)).toBe('ERROR EACCES|');
    }
  });

  it('introduce and release domains for the privileged domain', () => {
    const { open, store, tools } = fixture();
    const { ask, guest } = open(DOM0);
    expect(ask(WATCH, '@introduceDomain\0in\0')).toBe('WATCH OK|');
    expect(ask(WATCH, '@releaseDomain\0out\0')).toBe('WATCH OK|');
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT @introduceDomain|in|', 'WATCH_EVENT @releaseDomain|out|']);
    expect(ask(IS_DOMAIN_INTRODUCED, '9\0')).toBe('IS_DOMAIN_INTRODUCED F|');
    expect(ask(INTRODUCE, '9\x00123\x005\0')).toBe('INTRODUCE OK|');
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT @introduceDomain|in|']);
    expect(ask(IS_DOMAIN_INTRODUCED, '9\0')).toBe('IS_DOMAIN_INTRODUCED T|');
    expect(ask(INTRODUCE, '9\x00123\0')).toBe('ERROR EINVAL|');
    expect(ask(INTRODUCE, '10\x00123\x000\0')).toBe('ERROR EINVAL|');
    expect(ask(XS_TYPE.SET_TARGET, '9\x002\0')).toBe('SET_TARGET OK|');
    expect(ask(XS_TYPE.RESUME, '9\0')).toBe('RESUME OK|');
    tools.write('/local/domain/9/x', '');
    expect(ask(RELEASE, '9\0')).toBe('RELEASE OK|');
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT @releaseDomain|out|']);
    expect(store.isIntroduced(domId(9))).toBe(false);
    expect(ask(RELEASE, '9\0')).toBe('ERROR ENOENT|');
    expect(ask(RELEASE, '0\0')).toBe('ERROR EINVAL|');
    expect(ask(CONTROL, 'check\0')).toBe('ERROR EINVAL|');
  });

  it('are refused by name when they are malformed or unknown', () => {
    const { open } = fixture();
    const { ask } = open();
    const bad: [number, string][] = [
      [READ, ''],
      [READ, 'data'],
      [READ, 'a\0b\0'],
      [READ, '\0'],
      [READ, 'a//b\0'],
      [READ, '@releaseDomain\0'],
      [WRITE, 'data'],
      [WRITE, ''],
      [WATCH, 'data\0'],
      [WATCH, 'data\0token'],
      [WATCH, 'a b\0token\0'],
      [UNWATCH, 'data\0'],
      [TRANSACTION_END, 'X\0'],
      [GET_DOMAIN_PATH, ''],
      [DIRECTORY_PART, 'data\0'],
    ];
    for (const [type, payload] of bad) {
      expect(ask(type, payload), `${xsTypeName(type)} ${JSON.stringify(payload)}`).toBe('ERROR EINVAL|');
    }
    for (const type of [XS_TYPE.WATCH_EVENT, XS_TYPE.ERROR, 20, 23, 26, 27, 65535, 2 ** 32 - 1])
      expect(ask(type, '')).toBe('ERROR ENOSYS|');
  });

  it('get back their own ids, in an error too', () => {
    const { open } = fixture();
    const { guest, ring } = open();
    guest.put(READ, 'none\0');
    guest.put(READ, 'none\0', 77);
    guest.push();
    ring.rung();
    expect(guest.take().map(({ type, reqId, txId, text: errno }) => [type, reqId, txId, errno])).toEqual([
      [XS_TYPE.ERROR, 1, 0, 'ENOENT\0'],
      [XS_TYPE.ERROR, 2, 77, 'ENOENT\0'],
    ]);
  });

  it('list a long directory in parts, with a generation that shows a change', () => {
    const { open, tools } = fixture();
    const { ask, guest, ring } = open();
    const names = Array.from({ length: 800 }, (_, i) => `node-number-${i}`);
    for (const name of names) tools.mkdir(`/local/domain/1/long/${name}`);
    expect(ask(DIRECTORY, 'long\0')).toBe('ERROR E2BIG|');
    const collect = (): { list: string; generations: Set<string>; parts: number } => {
      let list = '';
      let parts = 0;
      const generations = new Set<string>();
      for (;;) {
        const answer = guest.ask(ring, DIRECTORY_PART, `long\0${list.length}\0`);
        expect(answer.text.length).toBeLessThanOrEqual(XENSTORE.PAYLOAD_MAX);
        const head = answer.text.indexOf('\0') + 1;
        generations.add(answer.text.slice(0, head));
        const part = answer.text.slice(head);
        parts += 1;
        if (part.endsWith('\0\0') || part === '\0') return { list: list + part.slice(0, -1), generations, parts };
        list += part;
      }
    };
    const whole = collect();
    expect(whole.list.split('\0').slice(0, -1)).toEqual(names);
    expect(whole.generations.size).toBe(1);
    expect(whole.parts).toBeGreaterThan(2);
    tools.mkdir('/local/domain/1/long/one-more');
    expect([...collect().generations]).not.toEqual([...whole.generations]);
    expect(ask(DIRECTORY_PART, 'long\x0099999999\0')).toMatch(/^DIRECTORY_PART \d+\|\|$/);
  });
});

describe('transactions of a guest', () => {
  it('commit, abort, conflict and end', () => {
    const { open, tools } = fixture();
    const { ask } = open();
    expect(ask(TRANSACTION_START, '\0')).toBe('TRANSACTION_START 1|');
    expect(ask(WRITE, 'data\0x', 1)).toBe('WRITE OK|');
    expect(ask(READ, 'data\0')).toBe('ERROR ENOENT|');
    expect(ask(READ, 'data\0', 1)).toBe('READ x');
    expect(ask(TRANSACTION_START, '\0', 1)).toBe('ERROR EBUSY|');
    expect(ask(TRANSACTION_END, 'T\0', 1)).toBe('TRANSACTION_END OK|');
    expect(ask(TRANSACTION_END, 'T\0', 1)).toBe('ERROR ENOENT|');
    expect(ask(READ, 'data\0')).toBe('READ x');
    expect(ask(TRANSACTION_START, '\0')).toBe('TRANSACTION_START 2|');
    ask(WRITE, 'data\0y', 2);
    tools.write('/local/domain/1/data', 'z');
    expect(ask(TRANSACTION_END, 'T\0', 2)).toBe('ERROR EAGAIN|');
    expect(ask(TRANSACTION_START, '\0')).toBe('TRANSACTION_START 3|');
    ask(WRITE, 'data\0y', 3);
    expect(ask(TRANSACTION_END, 'F\0', 3)).toBe('TRANSACTION_END OK|');
    expect(ask(READ, 'data\0')).toBe('READ z');
    expect(ask(TRANSACTION_END, 'T\0')).toBe('ERROR ENOENT|');
  });

  it('are bounded in number', () => {
    const { open } = fixture();
    const { ask } = open();
    for (let i = 1; i <= 10; i += 1) expect(ask(TRANSACTION_START, '\0')).toBe(`TRANSACTION_START ${i}|`);
    expect(ask(TRANSACTION_START, '\0')).toBe('ERROR ENOSPC|');
    expect(ask(RESET_WATCHES, '\0')).toBe('RESET_WATCHES OK|');
    expect(ask(TRANSACTION_START, '\0')).toBe('TRANSACTION_START 11|');
  });
});

describe('watches of a guest', () => {
  it('answer first and tell then, relative as they were asked for', () => {
    const { open, tools } = fixture();
    const { guest, ring, rings, ask } = open();
    ask(WATCH, 'data\0t1\0');
    ask(WATCH, '/local/domain/1/data\0t2\0');
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT data|t1|', 'WATCH_EVENT /local/domain/1/data|t2|']);
    const before = rings.count;
    tools.write('/local/domain/1/data/x', '1');
    expect(rings.count).toBe(before + 2);
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT data/x|t1|', 'WATCH_EVENT /local/domain/1/data/x|t2|']);
    expect(ask(UNWATCH, 'data\0t1\0')).toBe('UNWATCH OK|');
    expect(ask(UNWATCH, 'data\0t1\0')).toBe('ERROR ENOENT|');
    expect(ask(WATCH, '/local/domain/1/data\0t2\0')).toBe('ERROR EEXIST|');
    // Its own change comes before the answer to the request that made it.
    guest.put(WRITE, 'data/y\x001');
    guest.push();
    ring.rung();
    expect(guest.take().map(text)).toEqual(['WATCH_EVENT /local/domain/1/data/y|t2|', 'WRITE OK|']);
  });

  it('do not grow a queue that nobody reads, however often one path is written', () => {
    const { open, tools, store } = fixture({ events: 64 });
    const { guest, ring, ask } = open();
    ask(WATCH, 'data\0t\0');
    guest.take();
    for (let i = 0; i < 10_000; i += 1) tools.write('/local/domain/1/data/x', `${i}`);
    expect(ring.waiting).toBeLessThan(64);
    for (let i = 0; i < 1000; i += 1) tools.write(`/local/domain/1/data/n${i % 200}`, '');
    expect(ring.waiting).toBeLessThanOrEqual(65);
    expect(store.usage(DOM1).events).toBeLessThanOrEqual(65);
    const seen: string[] = [];
    for (let round = 0; round < 100; round += 1) {
      seen.push(...guest.take().map(text));
      ring.rung();
    }
    // Past the bound one event stands for all: look at the whole.
    expect(seen).toContain('WATCH_EVENT data|t|');
    expect(ring.waiting).toBe(0);
  });
});

describe('the ring', () => {
  it('carries messages across its wrap and in pieces of any size', () => {
    const { open } = fixture();
    for (const [chunk, take] of [
      [1, 1],
      [3, 1024],
      [17, 5],
      [1024, 1024],
    ] as const) {
      const { guest, ring } = open();
      guest.page.views.u32.fill(0xffff_fe00, (guest.page.offset + 2048) / 4, (guest.page.offset + 2064) / 4);
      const value = 'v'.repeat(1500);
      const expected: string[] = [];
      const answers: string[] = [];
      for (let i = 0; i < 5; i += 1) {
        guest.put(WRITE, `data/${i}\0${value}${i}`);
        guest.put(READ, `data/${i}\0`);
        expected.push('WRITE OK|', `READ ${value}${i}`);
      }
      for (let round = 0; round < 200_000 && answers.length < expected.length; round += 1) {
        guest.push(chunk);
        ring.rung();
        answers.push(...guest.take(take).map(text));
      }
      expect(answers).toEqual(expected);
      expect(guest.requests.prod).toBeLessThan(0x1_0000);
    }
  });

  it('stops reading a guest that does not read, and goes on when it does', () => {
    const { open } = fixture({ outstanding: 4 });
    const { guest, ring } = open();
    guest.put(WRITE, `data\0${'v'.repeat(1000)}`);
    while (guest.unsent.length > 0) {
      guest.push();
      ring.rung();
    }
    for (let i = 0; i < 40; i += 1) guest.put(READ, 'data\0');
    guest.push();
    ring.rung();
    expect(ring.waiting).toBeLessThanOrEqual(5);
    expect(guest.requests.readable()).toBeGreaterThan(0);
    const answers: string[] = [];
    for (let round = 0; round < 1000 && answers.length < 41; round += 1) {
      answers.push(...guest.take().map(text));
      guest.push();
      ring.rung();
    }
    expect(answers).toHaveLength(41);
  });

  it('rings only when bytes moved', () => {
    const { open } = fixture();
    const { guest, ring, rings } = open();
    ring.rung();
    expect(rings.count).toBe(0);
    guest.put(READ, 'x\0');
    guest.push(5);
    ring.rung();
    expect(rings.count).toBe(1);
    ring.rung();
    expect(rings.count).toBe(1);
  });

  const page = (guest: RingGuest) => guest.page.views.u32.subarray((guest.page.offset + 2048) / 4, (guest.page.offset + 2080) / 4);

  it.each([
    ['a request index too far ahead', (words: Uint32Array) => words.fill(1025, 1, 2)],
    ['a request index behind', (words: Uint32Array) => words.fill(5, 0, 1)],
    ['a request index 2^31 ahead', (words: Uint32Array) => words.fill(0x8000_0000, 1, 2)],
    ['a response index ahead of the store', (words: Uint32Array) => words.fill(1, 2, 3)],
  ])('is not listened to again after %s', (_, scribble) => {
    const { open, store, tools } = fixture();
    const { guest, ring, ask } = open();
    ask(WATCH, 'data\0t\0');
    ask(TRANSACTION_START, '\0');
    guest.take();
    page(guest).fill(0, 0, 4);
    scribble(page(guest));
    ring.rung();
    tools.write('/local/domain/1/data', 'x');
    expect(ring.ignored).toBe(XENSTORE.ERROR_RINGIDX);
    expect(page(guest)[6]).toBe(XENSTORE.ERROR_RINGIDX);
    expect(store.usage(DOM1)).toMatchObject({ watches: 0, transactions: 0, events: 0 });
    page(guest).fill(0, 0, 4);
    guest.put(READ, 'data\0');
    guest.push();
    ring.rung();
    expect(guest.requests.readable()).toBeGreaterThan(0);
    ring.reset();
    expect(ask(READ, 'data\0')).toBe('READ x');
  });

  it('is not listened to again after a message that claims more than 4096 bytes', () => {
    const { open, tools } = fixture();
    const { guest, ring } = open();
    for (const length of [4097, 0xffff_ffff]) {
      guest.requests.write(
        Uint8Array.of(2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, length & 255, (length >>> 8) & 255, (length >>> 16) & 255, length >>> 24),
      );
      ring.rung();
      expect(ring.ignored).toBe(XENSTORE.ERROR_PROTO);
      expect(page(guest)[6]).toBe(XENSTORE.ERROR_PROTO);
      ring.reset();
    }
    tools.write('/local/domain/1/data', 'x');
    expect(guest.take()).toEqual([]);
  });

  it('takes a message of exactly 4096 bytes', () => {
    const { open } = fixture({ nodeBytes: 8192 });
    const { guest, ring } = open();
    const answer = guest.ask(ring, WRITE, `data\0${'v'.repeat(4096 - 5)}`);
    expect(text(answer)).toBe('WRITE OK|');
    expect(guest.ask(ring, READ, 'data\0').text).toHaveLength(4091);
  });

  it('ends with its domain', () => {
    const { open, store, tools } = fixture();
    const { guest, ring, ask } = open();
    ask(WATCH, 'data\0t\0');
    guest.take();
    store.release(DOM1);
    guest.put(READ, '/\0');
    guest.push();
    ring.rung();
    expect(guest.take()).toEqual([]);
    tools.write('/local/domain/1/data', '');
    expect(guest.take()).toEqual([]);
    expect(store.usage(DOM1)).toEqual({ nodes: 0, watches: 0, transactions: 0, connections: 0, events: 0 });
  });

  it('starts anew when its domain is introduced again', () => {
    const { open } = fixture();
    const one = open(DOM1);
    const tools = open(DOM0);
    one.ask(WATCH, 'data\0t\0');
    one.guest.take();
    one.guest.put(READ, 'data\0');
    one.guest.push(7);
    one.ring.rung();
    expect(tools.ask(INTRODUCE, '1\x00123\x005\0')).toBe('INTRODUCE OK|');
    expect([...page(one.guest).subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    one.guest.unsent.length = 0;
    expect(one.ask(WRITE, 'data\0x')).toBe('WRITE OK|');
    expect(one.guest.take()).toEqual([]);
  });

  it('survives any bytes at all', () => {
    const { open } = fixture();
    let state = 12345;
    const random = (): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return state >>> 16;
    };
    for (let round = 0; round < 300; round += 1) {
      const { guest, ring } = open();
      const bytes = new Uint8Array(1 + (random() % 1024));
      for (let i = 0; i < bytes.length; i += 1) bytes[i] = random() % 3 === 0 ? random() : random() % 30;
      guest.requests.write(bytes);
      ring.rung();
      guest.take();
      for (let word = 0; word < 4; word += 1) if (random() % 2 === 0) page(guest)[word] = random() % 2000;
      ring.rung();
      ring.close();
    }
  });
});
