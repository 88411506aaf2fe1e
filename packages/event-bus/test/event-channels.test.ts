import { createEventWords, EVTCHN_STATUS, EvtchnError } from '@paravirt/event-bus';
import { domId, port } from '@paravirt/event-bus/contract';
import { eventPortsSuite, recordBus } from '@paravirt/event-bus/testing';
import { describe, expect, it } from 'vitest';
import { channelsFixture, connect, DOMID_SELF } from './channels-fixture.ts';

const DOM0 = domId(0);
const DOM1 = domId(1);
const refusal = (errno: string, argument?: string) =>
  expect.objectContaining({ refusal: expect.objectContaining(argument === undefined ? { errno } : { errno, argument }) });

for (const wordBits of [64, 32] as const) {
  eventPortsSuite({ describe, it }, `a domain with ${wordBits}-bit words`, () => {
    const { ports, run } = channelsFixture({ wordBits });
    return { front: ports[0]!, frontDomid: DOM0, back: ports[1]!, backDomid: DOM1, run };
  });
}

describe('allocation', () => {
  it.each([
    [64, 4095],
    [32, 1023],
  ] as const)('with %i-bit words gives every port but 0, then refuses and changes nothing', (wordBits, count) => {
    const { ports, bus } = channelsFixture({ wordBits });
    const [own, other] = [ports[0]!, ports[1]!];
    for (let i = 1; i <= count; i += 1) expect(own.allocUnbound(DOM1)).toBe(i);
    const remote = other.allocUnbound(DOM0);
    const { facts } = recordBus(bus, ['evtchn:allocated', 'evtchn:bound']);
    for (const act of [() => own.allocUnbound(DOM1), () => own.bindInterdomain(DOM1, remote), () => own.bindVirq(0), () => own.bindIpi()]) {
      expect(act).toThrow(refusal('ENOSPC', 'open ports'));
    }
    expect(facts).toEqual([]);
    expect(other.status(remote)).toEqual({ status: 'unbound', remote: DOM0 });
    own.close(port(700));
    expect(own.bindVirq(0)).toBe(700);
  });

  it('stops at the limit that the domain was created with', () => {
    const { ports } = channelsFixture({ portMax: 3 });
    const own = ports[0]!;
    expect(own.portCount).toBe(4);
    for (let i = 1; i <= 3; i += 1) own.allocUnbound(DOM1);
    expect(() => own.allocUnbound(DOM1)).toThrow(refusal('ENOSPC'));
    expect(() => own.status(port(4))).toThrow(refusal('EINVAL'));
  });

  it('asks for no domain to be there, and takes DOMID_SELF for the asker', () => {
    const { ports } = channelsFixture();
    const own = ports[0]!;
    const later = own.allocUnbound(domId(77));
    const self = own.allocUnbound(DOMID_SELF);
    expect([own.status(later), own.status(self)]).toEqual([
      { status: 'unbound', remote: 77 },
      { status: 'unbound', remote: 0 },
    ]);
    const loop = own.bindInterdomain(DOMID_SELF, self);
    own.send(loop);
    expect([own.isPending(self), own.isPending(loop)]).toEqual([true, true]);
  });
});

describe('binding', () => {
  it('checks the domain, then for a free port, then the remote port', () => {
    const { ports } = channelsFixture({ portMax: 2 });
    const [own, other] = [ports[0]!, ports[1]!];
    const forOwn = other.allocUnbound(DOM0);
    const forAnother = other.allocUnbound(domId(9));
    expect(() => own.bindInterdomain(domId(9), forOwn)).toThrow(refusal('ESRCH', 'remote domid'));
    expect(() => own.bindInterdomain(DOM1, forAnother)).toThrow(refusal('EINVAL', 'remote port'));
    expect(() => own.bindInterdomain(DOM1, port(0))).toThrow(refusal('EINVAL', 'remote port'));
    expect(() => own.bindInterdomain(DOM1, port(3))).toThrow(refusal('EINVAL', 'remote port'));
    own.allocUnbound(DOM1);
    own.allocUnbound(DOM1);
    expect(() => own.bindInterdomain(DOM1, forAnother)).toThrow(refusal('ENOSPC'));
    expect(() => own.bindInterdomain(domId(9), forOwn)).toThrow(refusal('ESRCH'));
  });

  it('binds virtual interrupts once, and raises them only while bound', () => {
    const { channels, ports, run } = channelsFixture();
    const own = ports[0]!;
    expect(channels.raiseVirq(DOM0, 0)).toBe(false);
    const timer = own.bindVirq(0);
    expect(own.status(timer)).toEqual({ status: 'virq', virq: 0 });
    expect(() => own.bindVirq(0)).toThrow(refusal('EEXIST', 'virq'));
    expect(() => own.bindVirq(1, 1)).toThrow(refusal('ENOENT', 'vcpu'));
    for (const bad of [24, -1, 2 ** 32, 0.5]) expect(() => own.bindVirq(bad)).toThrow(refusal('EINVAL', 'virq'));
    let ticks = 0;
    own.onUpcall(timer, () => {
      ticks += 1;
    });
    expect(channels.raiseVirq(DOM0, 0)).toBe(true);
    expect(channels.raiseVirq(DOM0, 0)).toBe(true);
    run();
    expect(ticks).toBe(1);
    expect(() => own.send(timer)).toThrow(refusal('EINVAL'));
    own.close(timer);
    expect(channels.raiseVirq(DOM0, 0)).toBe(false);
    expect(own.bindVirq(0)).toBe(timer);
  });

  it('rings its own domain through an ipi port', () => {
    const { ports, run } = channelsFixture();
    const own = ports[0]!;
    const ipi = own.bindIpi();
    let calls = 0;
    own.onUpcall(ipi, () => {
      calls += 1;
    });
    own.send(ipi);
    run();
    expect([calls, own.status(ipi)]).toEqual([1, { status: 'ipi' }]);
    expect(() => own.bindIpi(1)).toThrow(refusal('ENOENT', 'vcpu'));
  });

  it('binds only those physical interrupts that the domain was given', () => {
    const { ports } = channelsFixture({ pirqs: 4 });
    const own = ports[0]!;
    const pirq = own.bindPirq(3);
    expect(own.status(pirq)).toEqual({ status: 'pirq', pirq: 3 });
    expect(() => own.bindPirq(3)).toThrow(refusal('EEXIST', 'pirq'));
    expect(() => own.bindPirq(4)).toThrow(refusal('EINVAL', 'pirq'));
    own.close(pirq);
    expect(own.bindPirq(3)).toBe(pirq);
  });

  it('moves a port to virtual CPU 0 at most', () => {
    const { ports } = channelsFixture();
    const own = ports[0]!;
    const unbound = own.allocUnbound(DOM1);
    own.bindVcpu(unbound, 0);
    expect(() => own.bindVcpu(unbound, 1)).toThrow(refusal('ENOENT', 'vcpu'));
    expect(() => own.bindVcpu(own.bindVirq(0), 0)).toThrow(refusal('EINVAL', 'port'));
    expect(() => own.bindVcpu(own.bindIpi(), 0)).toThrow(refusal('EINVAL', 'port'));
    expect(() => own.bindVcpu(port(99), 0)).toThrow(refusal('EINVAL', 'port'));
  });
});

describe('closing', () => {
  it('makes the other end unbound for the one that closed, and clears what was pending', () => {
    const { ports } = channelsFixture();
    const [own, other] = [ports[0]!, ports[1]!];
    const { near, far } = connect(ports);
    other.send(far);
    own.close(near);
    expect(own.isPending(near)).toBe(false);
    expect(own.status(near)).toEqual({ status: 'closed' });
    expect(other.status(far)).toEqual({ status: 'unbound', remote: DOM0 });
    other.send(far);
    const again = own.bindInterdomain(DOM1, far);
    expect(other.status(far)).toEqual({ status: 'interdomain', remote: DOM0, remotePort: again });
  });

  it('takes the handler along, so that the next owner of the number starts clean', () => {
    const { channels, ports, run } = channelsFixture();
    const own = ports[0]!;
    const first = own.allocUnbound(DOM1);
    const calls: string[] = [];
    const registration = own.onUpcall(first, () => calls.push('first'));
    own.mask(first);
    own.close(first);
    const second = own.allocUnbound(DOM1);
    expect(second).toBe(first);
    // The mask is the domain's own word, which the hypervisor leaves alone.
    expect(own.isMasked(second)).toBe(true);
    own.unmask(second);
    own.onUpcall(second, () => calls.push('second'));
    registration.unsubscribe();
    channels.raise(DOM0, second);
    run();
    expect(calls).toEqual(['second']);
  });

  it('refuses what is not open: closed, reserved, never there', () => {
    const { ports } = channelsFixture();
    const own = ports[0]!;
    const unbound = own.allocUnbound(DOM1);
    own.close(unbound);
    for (const bad of [unbound, port(0), port(5), port(2 ** 32 - 1)]) expect(() => own.close(bad)).toThrow(refusal('EINVAL', 'port'));
  });

  it('is done for every port by a reset, and by the death of the domain', () => {
    const { channels, ports, run } = channelsFixture();
    const [own, other] = [ports[0]!, ports[1]!];
    const { near, far } = connect(ports);
    own.bindVirq(3);
    own.reset();
    const left: number[] = [];
    channels.eachPort(DOM0, (open) => left.push(open));
    expect(left).toEqual([]);
    expect(other.status(far)).toMatchObject({ status: 'unbound' });
    expect(own.bindInterdomain(DOM1, far)).toBe(near);
    channels.removeDomain(DOM0);
    channels.removeDomain(DOM0);
    expect(channels.hasDomain(DOM0)).toBe(false);
    expect(other.status(far)).toEqual({ status: 'unbound', remote: 0 });
    other.send(far);
    expect(() => own.allocUnbound(DOM1)).toThrow(refusal('EINVAL'));
    expect(() => own.send(near)).toThrow(refusal('EINVAL'));
    expect(() => own.unmask(near)).toThrow(refusal('EINVAL'));
    expect(() => channels.domain(DOM0)).toThrow(refusal('ESRCH'));
    expect(() => other.bindInterdomain(DOM0, near)).toThrow(refusal('ESRCH'));
    run();
    expect(other.status(far)).toEqual({ status: 'unbound', remote: 0 });
  });
});

describe('status', () => {
  it('tells every kind of port apart', () => {
    const { channels, ports } = channelsFixture({ pirqs: 1 });
    const own = ports[0]!;
    const { near, far } = connect(ports);
    own.allocUnbound(DOM1);
    own.bindPirq(0);
    own.bindVirq(1);
    own.bindIpi();
    const seen: unknown[] = [];
    channels.eachPort(DOM0, (number, status) => seen.push([number, status.status]));
    expect(seen).toEqual([
      [near, 'interdomain'],
      [2, 'unbound'],
      [3, 'pirq'],
      [4, 'virq'],
      [5, 'ipi'],
    ]);
    expect(own.status(near)).toEqual({ status: 'interdomain', remote: DOM1, remotePort: far });
    expect(own.status(port(0))).toEqual({ status: 'closed' });
    expect(own.status(port(4095))).toEqual({ status: 'closed' });
    expect(() => own.status(port(4096))).toThrow(refusal('EINVAL'));
  });
});

describe('refusals', () => {
  it('name the operation, the argument, its value and what is allowed, and carry the status of the hypercall', () => {
    const { ports } = channelsFixture();
    let error: unknown;
    try {
      ports[0]!.send(port(9));
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(EvtchnError);
    expect((error as EvtchnError).message).toBe(
      'send by domain 0: EINVAL: port is 9; allowed is an unbound, interdomain or ipi port of the domain',
    );
    expect((error as EvtchnError).status).toBe(EVTCHN_STATUS.EINVAL);
    expect(EVTCHN_STATUS.EINVAL).toBe(-22);
  });

  it('are values, not exceptions, for a hypercall layer', () => {
    const { channels, ports } = channelsFixture();
    const { near } = connect(ports);
    expect(channels.trySend(DOM0, near)).toBe(0);
    for (const bad of [0, 77, 4096, 2 ** 32, 2 ** 32 + near, -1, 0.5, Number.NaN]) expect(channels.trySend(DOM0, bad)).toBe(-22);
    for (const nobody of [9, 256, 0x7fff, 2 ** 32, -1, 0.5]) expect(channels.trySend(nobody as never, near)).toBe(-3);
    expect(channels.tryUnmask(DOM0, near)).toBe(0);
    expect(channels.tryUnmask(DOM0, 4096)).toBe(-22);
    expect(channels.tryUnmask(domId(9), near)).toBe(-3);
  });

  it('keep a domid from being taken twice, and words from lying outside the views', () => {
    const { channels } = channelsFixture();
    const words = createEventWords(64);
    expect(() => channels.addDomain({ ...words, domid: DOM0 })).toThrow(refusal('EEXIST', 'domid'));
    const domid = domId(5);
    const bad = (part: object) => () => channels.addDomain({ ...words, domid, ...part } as never);
    expect(bad({ offset: 4 })).toThrow('mask stands at byte 532 of the views; allowed is a multiple of 4 from 0 to 528');
    expect(bad({ offset: -4 })).toThrow(RangeError);
    expect(bad({ offset: 2 })).toThrow(RangeError);
    expect(bad({ layout: { ...words.layout, wordBits: 16 } })).toThrow('wordBits is 16; allowed is 32 or 64');
    expect(bad({ layout: { ...words.layout, upcallMask: 1 << 20 } })).toThrow(RangeError);
    expect(bad({ portMax: -1 })).toThrow(RangeError);
    expect(bad({ domid: 0x7ff0 })).toThrow(RangeError);
    expect(bad({ domid: 2 ** 32 })).toThrow(RangeError);
    expect(channels.hasDomain(domid)).toBe(false);
  });

  it('let a domain name its own ports only', () => {
    const { ports } = channelsFixture({ domains: 3 });
    const { near, far } = connect(ports);
    const stranger = ports[2]!;
    for (const foreign of [near, far]) {
      expect(() => stranger.send(foreign)).toThrow(refusal('EINVAL'));
      expect(() => stranger.close(foreign)).toThrow(refusal('EINVAL'));
      stranger.unmask(foreign);
      stranger.mask(foreign);
      stranger.clearPending(foreign);
    }
    expect(() => stranger.bindInterdomain(DOM0, near)).toThrow(refusal('EINVAL'));
    expect(() => stranger.bindInterdomain(DOM1, far)).toThrow(refusal('EINVAL'));
    expect(ports[0]!.isMasked(near)).toBe(false);
    expect(ports[0]!.status(near)).toMatchObject({ status: 'interdomain' });
  });
});

describe('facts', () => {
  it('tell of allocation, binding, rings, delivery and closing', () => {
    const { ports, run, bus } = channelsFixture();
    const { facts } = recordBus(bus, ['evtchn:allocated', 'evtchn:bound', 'evtchn:sent', 'evtchn:delivered', 'evtchn:closed']);
    const [own, other] = [ports[0]!, ports[1]!];
    const { near, far } = connect(ports);
    own.onUpcall(near, () => undefined);
    other.send(far);
    other.send(far);
    run();
    own.bindVirq(0);
    own.close(near);
    other.send(far);
    other.close(far);
    expect(facts).toEqual([
      { type: 'evtchn:allocated', data: { domid: 0, port: near, remote: 1 } },
      { type: 'evtchn:bound', data: { kind: 'interdomain', domid: 1, port: far, remote: 0, remotePort: near } },
      { type: 'evtchn:sent', data: { domid: 1, port: far, merged: false, dropped: false } },
      { type: 'evtchn:sent', data: { domid: 1, port: far, merged: true, dropped: false } },
      { type: 'evtchn:delivered', data: { domid: 0, port: near } },
      { type: 'evtchn:bound', data: { kind: 'virq', domid: 0, port: 2, virq: 0 } },
      { type: 'evtchn:closed', data: { domid: 0, port: near, remote: 1, remotePort: far } },
      { type: 'evtchn:sent', data: { domid: 1, port: far, merged: false, dropped: true } },
      { type: 'evtchn:closed', data: { domid: 1, port: far } },
    ]);
  });

  it('are counted whether or not anyone listens', () => {
    const { channels, ports, run } = channelsFixture();
    const [own, other] = [ports[0]!, ports[1]!];
    const { near, far } = connect(ports);
    own.onUpcall(near, () => undefined);
    for (let i = 0; i < 1000; i += 1) other.send(far);
    run();
    own.close(near);
    other.send(far);
    expect(channels.counts(DOM1)).toMatchObject({ sent: 1001, merged: 999, dropped: 1 });
    expect(channels.counts(DOM0)).toMatchObject({ sent: 0, upcalls: 1, handled: 1 });
    channels.removeDomain(DOM1);
    expect(channels.totals()).toMatchObject({ sent: 1001, merged: 999, dropped: 1, handled: 1 });
    expect(() => channels.counts(DOM1)).toThrow(refusal('ESRCH'));
  });
});
