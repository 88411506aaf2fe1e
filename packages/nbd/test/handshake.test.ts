import { describe, expect, it } from 'vitest';
import { createNbdServer, NbdError } from '../src/index.ts';
import { be, Client, memoryTarget, option } from './client.ts';

const exports = [
  { name: '', description: 'the default', target: memoryTarget(1 << 20) },
  { name: 'größe', target: { ...memoryTarget(8192), readonly: true } },
];
const nameBytes = (name: string): number[] => [...new TextEncoder().encode(name)];
const client = (): Client => new Client({ exports }).greet();

describe('the handshake', () => {
  it('greets with fixed newstyle and no zeroes', () => {
    const { received } = new Client({ exports });
    expect([...received.subarray(16)]).toEqual([0, 3]);
  });

  it('tells size, flags and block sizes on GO, and goes on to requests', () => {
    const each = client().send(option(7, [...be(0, 4), ...be(1, 2), ...be(3, 2)]));
    const size = each.takeOptionReply();
    expect(size).toMatchObject({ option: 7, type: 3 });
    // HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, FAST_ZERO
    expect([...size.data]).toEqual([...be(0, 2), ...be(1 << 20, 8), ...be(1 + 4 + 8 + 32 + 64 + 256 + 2048, 2)]);
    expect([...each.takeOptionReply().data]).toEqual([...be(3, 2), ...be(1, 4), ...be(4096, 4), ...be(32 << 20, 4)]);
    expect(each.takeOptionReply()).toMatchObject({ type: 1 });
    each.send([...be(0x25609513, 4), ...be(0, 2), ...be(3, 2), ...be(7, 8), ...be(0, 12)]);
    expect(each.takeSimple()).toEqual({ error: 0, handle: 7n });
  });

  it('stays in the handshake after INFO, and answers name and description when asked', () => {
    const each = client().send(option(6, [...be(0, 4), ...be(2, 2), ...be(1, 2), ...be(2, 2)]));
    each.takeOptionReply();
    expect([...each.takeOptionReply().data]).toEqual([0, 1]);
    expect([...each.takeOptionReply().data.subarray(2)]).toEqual(nameBytes('the default'));
    expect(each.takeOptionReply().type).toBe(1);
    each.send(option(2, []));
    expect(each.takeOptionReply().type).toBe(1);
    expect(each.ended).toBe(true);
  });

  it('lists every export with its description', () => {
    const each = client().send(option(3, []));
    expect([...each.takeOptionReply().data]).toEqual([...be(0, 4), ...nameBytes('the default')]);
    const second = each.takeOptionReply();
    expect(second.type).toBe(2);
    expect([...second.data]).toEqual([...be(nameBytes('größe').length, 4), ...nameBytes('größe')]);
    expect(each.takeOptionReply().type).toBe(1);
  });

  it('answers EXPORT_NAME with ten bytes, or with 124 zeroes more where the client did not decline them', () => {
    expect(client().send(option(1, nameBytes('größe'))).received.length).toBe(10);
    const old = new Client({ exports }).greet(1).send(option(1, []));
    expect(old.received.length).toBe(134);
    const view = old.take(134);
    expect(view.getBigUint64(0)).toBe(1n << 20n);
  });

  it('says that a read-only export is one', () => {
    const each = client().send(option(7, [...be(nameBytes('größe').length, 4), ...nameBytes('größe'), 0, 0]));
    expect((each.takeOptionReply().data[11] ?? 0) & 2).toBe(2);
  });

  it('refuses an unknown name and goes on; EXPORT_NAME of one ends the connection', () => {
    const each = client().send(option(7, [...be(1, 4), 0x78, 0, 0]));
    expect(each.takeOptionReply().type).toBe(0x80000006);
    each.send(option(1, [0x78]));
    expect(each.ended).toBe(true);
  });

  it('refuses what it does not know with UNSUP', () => {
    const each = client();
    for (const number of [4, 5, 11, 0xffffffff]) {
      each.send(option(number, [1, 2, 3]));
      expect(each.takeOptionReply()).toMatchObject({ option: number, type: 0x80000001 });
    }
  });

  it.each([
    ['a name longer than the option', option(7, [...be(100, 4), 0, 0])],
    ['info requests that do not fill the option', option(7, [...be(0, 4), ...be(2, 2), 0, 1])],
    ['a GO too short to hold anything', option(7, [0])],
    ['a LIST with data', option(3, [1])],
    ['a STRUCTURED_REPLY with data', option(8, [1])],
    ['a meta context before structured replies', option(10, [...be(0, 4), ...be(0, 4)])],
  ])('calls %s invalid and goes on', (_, bytes) => {
    const each = client().send(bytes);
    expect(each.takeOptionReply().type).toBe(0x80000003);
    expect(each.ended || each.destroyed).toBe(false);
  });

  it('passes over an option that is too long, without storing it', () => {
    const each = client().send([...be(0x49484156454f5054n, 8), ...be(7, 4), ...be(1_000_000, 4)]);
    for (let sent = 0; sent < 1_000_000; sent += 50_000) each.send(new Uint8Array(50_000));
    expect(each.takeOptionReply().type).toBe(0x80000009);
    each.send(option(3, []));
    expect(each.takeOptionReply().type).toBe(2);
  });

  it('offers base:allocation where the disk knows its holes', () => {
    const each = client().send(option(8, []));
    each.takeOptionReply();
    const query = nameBytes('base:allocation');
    each.send(option(9, [...be(0, 4), ...be(0, 4)]), option(10, [...be(0, 4), ...be(1, 4), ...be(query.length, 4), ...query]));
    expect(each.takeOptionReply()).toMatchObject({ option: 9, type: 4 });
    expect(each.takeOptionReply().type).toBe(1);
    expect([...each.takeOptionReply().data]).toEqual([...be(1, 4), ...query]);
    expect(each.takeOptionReply().type).toBe(1);
  });

  it('closes on wrong client flags, on a wrong option magic, and after too many options', () => {
    expect(new Client({ exports }).greet(0xff).ended).toBe(true);
    expect(client().send(new Uint8Array(16)).ended).toBe(true);
    const each = client();
    for (let count = 0; count < 64; count += 1) each.send(option(3, []));
    expect(each.ended).toBe(false);
    expect(each.send(option(3, [])).ended).toBe(true);
  });

  it('understands a handshake that comes byte by byte', () => {
    const each = new Client({ exports });
    const bytes = [...be(3, 4), ...option(8, []), ...option(3, []), ...option(7, [...be(0, 4), 0, 0])];
    for (const byte of bytes) each.send([byte]);
    each.take(18);
    expect([8, 3, 3, 3, 7, 7].map((number) => each.takeOptionReply().option === number)).not.toContain(false);
  });

  it('drops a client whose handshake takes too long, and leaves one alone that is through', () => {
    let fire: () => void = () => {};
    let cancelled = 0;
    const timer = (_ms: number, work: () => void): (() => void) => {
      fire = work;
      return () => {
        cancelled += 1;
      };
    };
    const slow = new Client({ exports, timer });
    fire();
    expect(slow.destroyed).toBe(true);
    new Client({ exports, timer }).go();
    expect(cancelled).toBe(1);
  });
});

describe('a server', () => {
  it('refuses names, sizes and limits that cannot be', () => {
    const target = memoryTarget(512);
    const refusal = (make: () => unknown): unknown => {
      try {
        make();
      } catch (error) {
        return error instanceof NbdError ? error.refusal.code : error;
      }
      return undefined;
    };
    expect(refusal(() => createNbdServer({ exports: [{ name: 'x'.repeat(4097), target }] }))).toBe('bad-export');
    expect(
      refusal(() =>
        createNbdServer({
          exports: [
            { name: 'a', target },
            { name: 'a', target },
          ],
        }),
      ),
    ).toBe('duplicate-export');
    expect(refusal(() => createNbdServer({ exports: [{ name: '', target: { ...target, sizeBytes: -1 } }] }))).toBe('bad-export');
    expect(refusal(() => createNbdServer({ exports: [], limits: { connections: 0 } }))).toBe('bad-limit');
  });

  it('takes no more connections than its limit, and counts those that close', () => {
    const server = createNbdServer({ exports, limits: { connections: 2 } });
    const first = new Client(server);
    new Client(server);
    expect(() => new Client(server)).toThrow('no more connections');
    first.connection.closed();
    new Client(server);
    expect(server.counters).toMatchObject({ connections: 3, connectionsOpen: 2 });
  });
});
