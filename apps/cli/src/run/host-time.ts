import type { TimeSource } from '@paravirt/hv-sim';

/** The host's clock for a machine that runs in real time. */
export const hostTime: TimeSource = {
  now: () => performance.now(),
  wakeIn(delay, wake) {
    if (delay <= 0) {
      const immediate = setImmediate(wake);
      return () => clearImmediate(immediate);
    }
    const timer = setTimeout(wake, delay);
    return () => clearTimeout(timer);
  },
};
