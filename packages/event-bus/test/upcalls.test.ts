import { createEventChannels, createEventWords, createUpcallRunner, type EventWordLayout } from '@paravirt/event-bus';
import { domId } from '@paravirt/event-bus/contract';
import { describe, expect, it } from 'vitest';
import { channelsFixture, connect } from './channels-fixture.ts';

const DOM0 = domId(0);

/** The places of the x86_64 and x86_32 shared info page, and one with the words at an odd place of a larger memory. */
const PAGES: { name: string; offset: number; layout: EventWordLayout }[] = [
  {
    name: 'x86_64',
    offset: 4096,
    layout: { wordBits: 64, pending: 2048, mask: 2560, upcallPending: 0, upcallMask: 1, pendingSel: 8 },
  },
  {
    name: 'x86_32',
    offset: 8192,
    layout: { wordBits: 32, pending: 2048, mask: 2176, upcallPending: 0, upcallMask: 1, pendingSel: 4 },
  },
  { name: 'arm64', offset: 4, layout: { wordBits: 64, pending: 48, mask: 560, upcallPending: 0, upcallMask: 1, pendingSel: 8 } },
];

describe.each(PAGES)('the words of $name', ({ offset, layout }) => {
  const machine = () => {
    const memory = new ArrayBuffer(16384);
    const views = { u8: new Uint8Array(memory), u32: new Uint32Array(memory) };
    const runner = createUpcallRunner();
    const channels = createEventChannels({ queue: runner });
    const own = channels.addDomain({ domid: DOM0, views, offset, layout });
    const bytes = new DataView(memory, offset);
    return { memory, views, runner, channels, own, bytes };
  };

  it('are left alone when a handler that destroyed the domain throws', () => {
    const { memory, channels, own, runner } = machine();
    const port = own.bindIpi();
    own.onUpcall(port, () => {
      channels.removeDomain(DOM0);
      // The page is somebody else's from here on.
      new Uint8Array(memory).fill(0);
      throw new Error('from the handler');
    });
    channels.raise(DOM0, port);
    expect(() => runner.run(channels)).toThrow('from the handler');
    expect(new Uint8Array(memory).every((byte) => byte === 0)).toBe(true);
  });

  it.each([0x55, 0xff])('are left alone after a handler that destroyed the domain, whatever stands there then: %i', (byte) => {
    const { memory, channels, own, runner } = machine();
    const port = own.bindIpi();
    own.onUpcall(port, () => {
      channels.removeDomain(DOM0);
      new Uint8Array(memory).fill(byte);
    });
    channels.raise(DOM0, port);
    runner.run(channels);
    expect(new Uint8Array(memory).every((each) => each === byte)).toBe(true);
  });

  it('hold a pending bit, its selector and the upcall byte where a guest looks for them', () => {
    const { channels, own, bytes } = machine();
    const last = own.portCount - 1;
    const ports = Array.from({ length: last }, () => own.bindIpi());
    expect(ports.at(-1)).toBe(last);
    for (const port of [1, 31, 32, 63, 64, layout.wordBits, 1000, last]) {
      channels.raise(DOM0, port);
      const word = Math.floor(port / layout.wordBits);
      const at = layout.pending + Math.floor(port / 8);
      expect(bytes.getUint8(at) & (1 << (port % 8)), `pending bit of port ${port}`).not.toBe(0);
      expect(bytes.getUint8(layout.pendingSel + (word >> 3)) & (1 << (word % 8)), `selector bit of port ${port}`).not.toBe(0);
    }
    expect(bytes.getUint8(layout.upcallPending)).toBe(1);
  });

  it('are cleared word by word as they are delivered, lowest port first', () => {
    const { channels, runner, own, bytes } = machine();
    const seen: number[] = [];
    for (let i = 0; i < 900; i += 1) {
      const port = own.bindIpi();
      own.onUpcall(port, () => seen.push(port));
    }
    const rung = [899, 3, 64, 65, 31, 32, 500, 1];
    for (const port of rung) channels.raise(DOM0, port);
    runner.run(channels);
    expect(seen).toEqual([...rung].sort((a, b) => a - b));
    const pendingBytes = own.portCount / 8;
    for (let i = 0; i < pendingBytes; i += 1) expect(bytes.getUint8(layout.pending + i)).toBe(0);
    for (let i = 0; i < layout.wordBits / 8; i += 1) expect(bytes.getUint8(layout.pendingSel + i)).toBe(0);
    expect(bytes.getUint8(layout.upcallPending)).toBe(0);
  });

  it('are followed to new views when the memory grows, even from inside a handler', () => {
    const { memory, views, runner, channels, own } = machine();
    const calls: number[] = [];
    const ports = [own.bindIpi(), own.bindIpi()];
    own.onUpcall(ports[0]!, () => {
      calls.push(1);
      const grown = new ArrayBuffer(32768);
      new Uint8Array(grown).set(new Uint8Array(memory));
      views.u8 = new Uint8Array(grown);
      views.u32 = new Uint32Array(grown);
    });
    own.onUpcall(ports[1]!, () => calls.push(2));
    own.send(ports[0]!);
    own.send(ports[1]!);
    runner.run(channels);
    own.send(ports[1]!);
    runner.run(channels);
    expect(calls).toEqual([1, 2, 2]);
    expect(own.isPending(ports[1]!)).toBe(false);
  });

  it('harm only their own domain when it scribbles on them', () => {
    const { channels, runner, own, bytes } = machine();
    const port = own.bindIpi();
    let calls = 0;
    own.onUpcall(port, () => {
      calls += 1;
    });
    for (let i = 0; i < own.portCount / 8; i += 1) bytes.setUint8(layout.pending + i, 0xff);
    for (let i = 0; i < layout.wordBits / 8; i += 1) bytes.setUint8(layout.pendingSel + i, 0xff);
    bytes.setUint8(layout.upcallPending, 0xff);
    channels.kick(DOM0);
    expect(runner.run(channels)).toBe(1);
    expect(calls).toBe(1);
    // A selector without pending bits, pending bits without a selector: nothing to call.
    for (let i = 0; i < own.portCount / 8; i += 1) bytes.setUint8(layout.pending + i, 0);
    for (let i = 0; i < layout.wordBits / 8; i += 1) bytes.setUint8(layout.pendingSel + i, 0xff);
    bytes.setUint8(layout.upcallPending, 1);
    expect(channels.deliver(DOM0)).toBe(0);
    own.send(port);
    runner.run(channels);
    expect(calls).toBe(2);
  });
});

describe('the upcall queue', () => {
  it('is told of a domain once, however many of its ports are rung', () => {
    const { ports, waiting, run } = channelsFixture();
    const own = ports[0]!;
    const rung = Array.from({ length: 100 }, () => own.bindIpi());
    for (const port of rung) own.onUpcall(port, () => undefined);
    for (const port of rung) own.send(port);
    expect(waiting()).toBe(1);
    expect(run()).toBe(1);
    own.send(rung[0]!);
    expect(waiting()).toBe(1);
  });

  it('calls each handler once a delivery, and comes back for what was rung meanwhile', () => {
    const { channels, ports, waiting } = channelsFixture();
    const own = ports[0]!;
    const port = own.bindIpi();
    let calls = 0;
    own.onUpcall(port, () => {
      calls += 1;
      own.send(port);
    });
    own.send(port);
    expect([channels.deliver(DOM0), calls, waiting()]).toEqual([1, 1, 2]);
    expect([channels.deliver(DOM0), calls]).toEqual([1, 2]);
  });

  it('respects what an earlier handler did to a later port', () => {
    const { ports, run } = channelsFixture();
    const own = ports[0]!;
    const [first, masked, closed, answered] = [own.bindIpi(), own.bindIpi(), own.bindIpi(), own.bindIpi()];
    const calls: string[] = [];
    own.onUpcall(first, () => {
      own.mask(masked);
      own.close(closed);
      own.clearPending(answered);
    });
    own.onUpcall(masked, () => calls.push('masked'));
    own.onUpcall(closed, () => calls.push('closed'));
    own.onUpcall(answered, () => calls.push('answered'));
    for (const port of [first, masked, closed, answered]) own.send(port);
    run();
    expect(calls).toEqual([]);
    own.unmask(masked);
    run();
    expect(calls).toEqual(['masked']);
  });

  it("lets a handler's error out at once and loses nothing behind it", () => {
    const { ports, run } = channelsFixture();
    const own = ports[0]!;
    const calls: number[] = [];
    const rung = Array.from({ length: 200 }, () => own.bindIpi());
    for (const port of rung) {
      own.onUpcall(port, () => {
        calls.push(port);
        if (port === 3 || port === 70) throw new Error(`port ${port}`);
      });
    }
    for (const port of rung) own.send(port);
    expect(() => run()).toThrow('port 3');
    expect(calls).toEqual([1, 2, 3]);
    expect(() => run()).toThrow('port 70');
    run();
    expect(calls).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
  });

  it('holds everything back while upcalls are disabled', () => {
    const { channels, ports, run, waiting } = channelsFixture();
    const own = ports[0]!;
    const port = own.bindIpi();
    let calls = 0;
    own.onUpcall(port, () => {
      calls += 1;
    });
    own.disableUpcalls();
    own.send(port);
    channels.kick(DOM0);
    expect([run(), calls, waiting()]).toEqual([0, 0, 0]);
    own.enableUpcalls();
    expect(waiting()).toBe(1);
    run();
    expect(calls).toBe(1);
    own.disableUpcalls();
    own.enableUpcalls();
    expect(waiting()).toBe(0);
  });

  it('wakes a domain that polls even for a masked port', () => {
    const { channels, ports, waiting } = channelsFixture();
    const own = ports[0]!;
    const port = own.bindIpi();
    own.mask(port);
    own.send(port);
    expect(waiting()).toBe(0);
    own.clearPending(port);
    channels.poll(DOM0, true);
    own.send(port);
    expect(waiting()).toBe(1);
    expect(own.isPending(port)).toBe(true);
  });

  it('gives a guest its own entry, which finds the words as the hypervisor left them', () => {
    const { channels, ports, run } = channelsFixture();
    const own = ports[0]!;
    const port = own.bindIpi();
    let entries = 0;
    own.setUpcallEntry(() => {
      entries += 1;
      own.clearPending(port);
    });
    own.send(port);
    run();
    expect([entries, channels.counts(DOM0).upcalls]).toEqual([1, 1]);
  });

  it('passes by domains that are gone', () => {
    const { channels, ports, run } = channelsFixture();
    const { near, far } = connect(ports);
    ports[0]!.onUpcall(near, () => {
      throw new Error('called');
    });
    ports[1]!.send(far);
    channels.removeDomain(DOM0);
    run();
    expect(channels.trySend(DOM0, near)).toBe(-3);
    expect(channels.raiseVirq(DOM0, 0)).toBe(false);
    expect(channels.raise(DOM0, near)).toBe(false);
    channels.kick(DOM0);
    channels.poll(DOM0, true);
    // A new domain of that number starts afresh.
    const anew = channels.addDomain({ ...createEventWords(), domid: DOM0 });
    expect(anew.allocUnbound(DOM0)).toBe(near);
  });

  it('runs a bounded number of steps when told, first come first served', () => {
    const { ports, run, waiting } = channelsFixture({ domains: 3000 });
    const order: number[] = [];
    for (const own of ports) {
      const port = own.bindIpi();
      own.onUpcall(port, () => order.push(own.domid));
      own.send(port);
    }
    expect([run(2500), waiting()]).toEqual([2500, 500]);
    expect(run()).toBe(500);
    expect(order).toEqual(ports.map(({ domid }) => domid));
  });
});
