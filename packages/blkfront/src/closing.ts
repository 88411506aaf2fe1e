import { XENBUS_STATE } from '@paravirt/xen-abi';
import type { Timers } from './timers.ts';

/** What a close asks of its device. */
export interface ClosingHost {
  /** The backend's state in the store; undefined where there is no backend. */
  backendState(): number | undefined;
  /** Whether no request is under way. */
  idle(): boolean;
  say(state: number): void;
  /** Both ends have said that they are closed, or the other does not answer. */
  closed(): void;
}

/** The handshake that ends a connection: what is under way ends first, then Closing, then Closed, each for no longer than `ticks`. */
export class Closing {
  /** The user asked for it, perhaps while the backend closed: the device does not come back. */
  wanted = false;
  /** The backend began it. */
  private byBackend = false;
  private step: 'drain' | 'closing' | 'closed' = 'drain';
  private readonly host: ClosingHost;
  private readonly timers: Timers;
  private readonly ticks: number;

  constructor(host: ClosingHost, timers: Timers, ticks: number) {
    this.host = host;
    this.timers = timers;
    this.ticks = ticks;
  }

  /** A close begins. */
  begin(byBackend: boolean): void {
    this.byBackend = byBackend;
    this.wanted = !byBackend;
    this.step = 'drain';
  }

  /** Closed is said already. */
  said(): void {
    this.step = 'closed';
  }

  /** Whoever does not answer in time is not waited for. */
  arm(): void {
    this.timers.set('close', this.ticks, () => {
      if (this.step === 'closed') this.host.closed();
      else this.advance();
    });
  }

  /** Goes on as far as the backend's state and the requests under way allow. */
  progress(): void {
    const { host } = this;
    const state = host.backendState();
    const gone = state === undefined;
    if (this.step === 'drain') {
      if (host.idle() || gone || state === XENBUS_STATE.Closed) this.advance();
      return;
    }
    if (this.step === 'closing') {
      if (gone || state >= XENBUS_STATE.Closing) this.advance();
      return;
    }
    if (gone || (state !== XENBUS_STATE.Closing && state !== XENBUS_STATE.Connected)) host.closed();
  }

  /** The next step, whatever the backend says. */
  advance(): void {
    // A backend that began is answered with Closed at once, as real frontends do; otherwise Closing comes first.
    if (this.step === 'drain' && !this.byBackend) {
      this.step = 'closing';
      this.host.say(XENBUS_STATE.Closing);
    } else {
      this.step = 'closed';
      this.host.say(XENBUS_STATE.Closed);
    }
    this.arm();
    this.progress();
  }
}
