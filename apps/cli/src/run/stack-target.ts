import type { Stack } from '../compose.ts';
import type { IoClock, IoTarget } from '../fio/target.ts';

/** The guest's device as a workload sees it. */
export function stackTarget(stack: Stack): IoTarget {
  const { bytes, info } = stack;
  return {
    sizeBytes: info.sectors * 512,
    readonly: info.readonly,
    kick: () => bytes.move(),
    submit(kind, offset, buffer, done) {
      switch (kind) {
        case 'read':
          bytes.read(offset, buffer, done);
          return;
        case 'write':
          bytes.write(offset, buffer, false, done);
          return;
        case 'trim':
          bytes.discard(offset, buffer.length, done);
          return;
        case 'sync':
          bytes.flush(done);
      }
    },
  };
}

/** The machine's own time, in nanoseconds; timers are events of the guest. */
export function virtualClock(stack: Stack): IoClock {
  const { machine, guest } = stack;
  return {
    now: () => machine.now * 1e6,
    after(ns, work) {
      const timer = guest.scheduler.schedule(work, ns / 1e6);
      return () => timer.unsubscribe();
    },
  };
}

/** The host's time, for a machine that is driven by it. */
export function wallClock(): IoClock {
  return {
    now: () => performance.now() * 1e6,
    after(ns, work) {
      // A run looks after itself while it lasts; what it waited for when it was interrupted keeps nothing alive.
      const timer = setTimeout(work, ns / 1e6).unref();
      return () => clearTimeout(timer);
    },
  };
}

/** What a request costs in virtual time on a disk that answers at once. */
export interface ServiceTime {
  readonly requestNs: number;
  readonly byteNs: number;
}

/** A fast drive: 5 us a request, 2 GB/s. */
export const defaultService: ServiceTime = { requestNs: 5000, byteNs: 0.5 };

/**
 * Lets virtual time pass: the disk serves one request after the other, each taking its time, so that depth, rates and limits in time
 * mean something. What the stack itself takes (a `delay` filter, say) counts as part of it.
 */
export function pacedTarget(target: IoTarget, clock: IoClock, service: ServiceTime): IoTarget {
  let busyUntil = 0;
  return {
    sizeBytes: target.sizeBytes,
    readonly: target.readonly,
    kick: () => target.kick(),
    submit(kind, offset, buffer, done) {
      const now = clock.now();
      const bytes = kind === 'read' || kind === 'write' ? buffer.length : 0;
      busyUntil = Math.max(busyUntil, now) + service.requestNs + bytes * service.byteNs;
      const due = busyUntil;
      target.submit(kind, offset, buffer, (errno) => {
        const left = due - clock.now();
        if (left > 0) clock.after(left, () => done(errno));
        else done(errno);
      });
    },
  };
}
