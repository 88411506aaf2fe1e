import type { NbdTimer } from '@paravirt/nbd';

/** A timer on the host's clock; it keeps no process alive. */
export const handshakeTimer: NbdTimer = (ms, work) => {
  const timer = setTimeout(work, ms).unref();
  return () => clearTimeout(timer);
};
