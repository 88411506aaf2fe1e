import { type DomId, domId, type Port, port } from '../contract.ts';
import type { EventPorts } from '../types.ts';
import { refuses, type SuiteTools, same } from './check.ts';

/** Two domains that can ring each other, and how to let their handlers run. */
export interface EventPortsFixture {
  readonly front: EventPorts;
  readonly frontDomid: DomId;
  readonly back: EventPorts;
  readonly backDomid: DomId;
  /** Runs until nothing waits. */
  run(): void;
}

/** What every provider of `EventPorts` keeps. `make` gives a fresh fixture each time. */
export function eventPortsSuite({ describe, it }: SuiteTools, name: string, make: () => EventPortsFixture): void {
  const connected = (): EventPortsFixture & { near: Port; far: Port; calls: string[] } => {
    const fixture = make();
    const near = fixture.front.allocUnbound(fixture.backDomid);
    const far = fixture.back.bindInterdomain(fixture.frontDomid, near);
    const calls: string[] = [];
    fixture.back.clearPending(far);
    fixture.front.onUpcall(near, () => calls.push('front'));
    fixture.back.onUpcall(far, () => calls.push('back'));
    fixture.run();
    calls.length = 0;
    return { ...fixture, near, far, calls };
  };

  describe(`${name} as event ports`, () => {
    it('gives the lowest free port, never 0', () => {
      const { front, backDomid } = make();
      const ports = [front.allocUnbound(backDomid), front.allocUnbound(backDomid), front.allocUnbound(backDomid)];
      if (ports.includes(port(0))) throw new Error('port 0 was given out');
      front.close(ports[1]!);
      same(front.allocUnbound(backDomid), ports[1], 'the next port');
    });

    it('raises the near end when it binds, since rings before that are lost', () => {
      const { front, frontDomid, back, backDomid, run } = make();
      const near = front.allocUnbound(backDomid);
      front.send(near);
      const far = back.bindInterdomain(frontDomid, near);
      same([front.isPending(near), back.isPending(far)], [false, true], 'pending after the bind');
      let calls = 0;
      back.onUpcall(far, () => {
        calls += 1;
      });
      run();
      same(calls, 1, 'upcalls by the bind');
    });

    it('runs the handler from the run queue, never inside send', () => {
      const { front, near, calls, run } = connected();
      front.send(near);
      same(calls, [], 'handlers inside send');
      run();
      same(calls, ['back'], 'handlers after the run');
    });

    it('merges a thousand rings into one upcall', () => {
      const { back, far, calls, run } = connected();
      for (let i = 0; i < 1000; i += 1) back.send(far);
      run();
      same(calls, ['front'], 'upcalls');
    });

    it('loses no ring that comes while its handler runs', () => {
      const { front, back, backDomid, frontDomid, run } = make();
      const near = front.allocUnbound(backDomid);
      const far = back.bindInterdomain(frontDomid, near);
      back.clearPending(far);
      let left = 3;
      let calls = 0;
      front.onUpcall(near, () => {
        calls += 1;
        left -= 1;
        if (left > 0) back.send(far);
      });
      back.send(far);
      run();
      same(calls, 3, 'upcalls');
    });

    it('holds back a masked port and raises it when it is unmasked', () => {
      const { front, back, near, far, calls, run } = connected();
      front.mask(near);
      back.send(far);
      run();
      same([calls.length, front.isPending(near)], [0, true], 'while masked');
      front.unmask(near);
      same(calls, [], 'handlers inside unmask');
      run();
      same([calls, front.isPending(near)], [['front'], false], 'after the unmask');
    });

    it('keeps a ring for a handler that comes later', () => {
      const { front, frontDomid, back, backDomid, run } = make();
      const near = front.allocUnbound(backDomid);
      const far = back.bindInterdomain(frontDomid, near);
      back.send(far);
      run();
      let calls = 0;
      front.onUpcall(near, () => {
        calls += 1;
      });
      run();
      same(calls, 1, 'upcalls');
    });

    it('calls no handler after its registration ended', () => {
      const { front, frontDomid, back, backDomid, run } = make();
      const near = front.allocUnbound(backDomid);
      const far = back.bindInterdomain(frontDomid, near);
      let calls = 0;
      const registration = front.onUpcall(near, () => {
        calls += 1;
      });
      back.send(far);
      registration.unsubscribe();
      run();
      same(calls, 0, 'upcalls');
      front.clearPending(near);
      front.onUpcall(near, () => {
        calls += 10;
      });
      registration.unsubscribe();
      back.send(far);
      run();
      same(calls, 10, 'upcalls of the second registration');
    });

    it('leaves the far end unbound when the near end closes, to be bound again', () => {
      const { front, back, near, far, frontDomid, backDomid, run, calls } = connected();
      back.close(far);
      front.send(near);
      run();
      same(calls, [], 'handlers of a closed port');
      const again = back.bindInterdomain(frontDomid, near);
      back.send(again);
      run();
      same(calls, ['front'], 'handlers after binding again');
      refuses(() => back.bindInterdomain(frontDomid, near), 'EINVAL', 'binding what is bound');
      void backDomid;
    });

    it('refuses ports that are not open, by name', () => {
      const { front, frontDomid, back, near } = connected();
      for (const bad of [0, 4096, 2 ** 32, 2 ** 32 + near, -1, 1.5, Number.NaN]) {
        refuses(() => front.send(bad as Port), 'EINVAL', `send of port ${bad}`);
        refuses(() => front.close(bad as Port), 'EINVAL', `close of port ${bad}`);
        refuses(() => front.onUpcall(bad as Port, () => undefined), 'EINVAL', `handler of port ${bad}`);
        refuses(() => back.bindInterdomain(frontDomid, bad as Port), 'EINVAL', `bind to port ${bad}`);
      }
      refuses(() => back.bindInterdomain(domId(0x7dec), near), 'ESRCH', 'bind to a domain that is not there');
      refuses(() => front.onUpcall(near, () => undefined), 'EEXIST', 'a second handler');
    });

    it('lets nobody bind a port that was allocated for another', () => {
      const { front, frontDomid, back } = make();
      const near = front.allocUnbound(domId(0x7abc));
      refuses(() => back.bindInterdomain(frontDomid, near), 'EINVAL', "binding another's port");
    });
  });
}
