import type { DomId } from '@paravirt/event-bus/contract';
import { errnoOf, sharedInfoOffsets } from '@paravirt/xen-abi';
import type { Subscription } from 'rxjs';
import { SHARED_INFO } from '../boot.ts';
import type { DomainCore } from '../domain.ts';
import { HvError } from '../errors.ts';
import type { World } from '../world.ts';
import type { GuestBytes } from './guest-struct.ts';

const EFAULT = -errnoOf('EFAULT');
const EINVAL = -errnoOf('EINVAL');
const NS_PER_TICK = 1_000_000;
const VIRQ_TIMER = 0;
/** Ports that one poll may name. @see xen/common/sched/core.c, do_poll */
const POLL_MAX = 128;

/** @see xen/include/public/sched.h */
const SCHEDOP = { yield: 0, block: 1, shutdown: 2, poll: 3 } as const;

/** `sched_op` and `set_timer_op`: how a guest waits. While it waits the rest of the machine is stepped from inside its call. */
export class SchedDoor {
  readonly #bytes: GuestBytes;
  readonly #core: DomainCore;
  readonly #world: World;
  #timer: Subscription | undefined;

  constructor(bytes: GuestBytes, core: DomainCore, world: World) {
    this.#bytes = bytes;
    this.#core = core;
    this.#world = world;
  }

  call(command: number, address: number): number {
    switch (command) {
      case SCHEDOP.yield:
        this.#world.loop.step();
        this.#core.mustLive();
        return 0;
      case SCHEDOP.block:
        return this.#block();
      case SCHEDOP.shutdown:
        return this.#shutdown(address);
      case SCHEDOP.poll:
        return this.#poll(address);
      default:
        return -errnoOf('ENOSYS');
    }
  }

  #wait(condition: () => boolean): void {
    const core = this.#core;
    const held = this.#world.loop.runUntil(() => !core.alive || condition(), this.#world.loop.stepsMax);
    core.mustLive();
    if (!held) throw new HvError({ code: 'blocked-forever', domid: core.id });
    this.writeTime();
  }

  #upcallPending(): boolean {
    const { views, offset } = this.#core.boot[SHARED_INFO]!;
    return views.u8[offset + sharedInfoOffsets(this.#core.abi).upcallPending] !== 0;
  }

  /** Lets upcalls through and waits for one: it has been delivered when this returns, as for a guest that was woken by it. */
  #block(): number {
    const { channels } = this.#world;
    const id = this.#core.id as DomId;
    const before = channels.counts(id).upcalls;
    this.#core.ports.enableUpcalls();
    this.#wait(() => channels.counts(id).upcalls !== before);
    return 0;
  }

  #shutdown(address: number): number {
    const reason = this.#bytes.number(address, 4);
    if (reason < 0) return EFAULT;
    const core = this.#core;
    core.state = 'shutdown';
    core.agent.paused = true;
    this.#world.loop.queue.remove(core.agent);
    if (this.#world.bus.observed('hv:shutdown')) this.#world.bus.emit('hv:shutdown', { domid: core.id as DomId, reason });
    return 0;
  }

  /** `struct sched_poll`: a pointer to ports, their number, a deadline in nanoseconds of system time (0: none). */
  #poll(address: number): number {
    const narrow = this.#bytes.wordBytes === 4;
    const list = this.#bytes.number(address, this.#bytes.wordBytes);
    const count = this.#bytes.number(address + (narrow ? 4 : 8), 4);
    const deadline = this.#bytes.number(address + (narrow ? 8 : 16), 8);
    if (list < 0 || count < 0 || deadline < 0) return EFAULT;
    if (count > POLL_MAX) return EINVAL;
    const ports: number[] = [];
    for (let i = 0; i < count; i++) {
      const port = this.#bytes.number(list + i * 4, 4);
      if (port < 0) return EFAULT;
      if (port === 0 || port >= this.#core.ports.portCount) return EINVAL;
      ports.push(port);
    }
    const { channels, clock } = this.#world;
    const id = this.#core.id as DomId;
    const before = channels.counts(id).upcalls;
    const words = this.#core.ports;
    const rung = (): boolean =>
      ports.some((port) => words.isPending(port as Parameters<typeof words.isPending>[0])) || channels.counts(id).upcalls !== before;
    if (rung() || this.#upcallPending()) return 0;
    let expired = false;
    const due = deadline / NS_PER_TICK;
    const timer =
      deadline === 0
        ? undefined
        : this.#core.scheduler.schedule(() => {
            expired = true;
          }, due - clock.now);
    channels.poll(id, true);
    try {
      this.#wait(() => expired || rung());
    } finally {
      timer?.unsubscribe();
      if (this.#core.alive) channels.poll(id, false);
    }
    return 0;
  }

  /** @param deadline nanoseconds of system time; 0 cancels. */
  setTimer(deadline: number): number {
    this.#timer?.unsubscribe();
    this.#timer = undefined;
    if (deadline === 0) return 0;
    const { clock, channels } = this.#world;
    this.#timer = this.#core.scheduler.schedule(
      () => {
        this.#timer = undefined;
        this.writeTime();
        channels.raiseVirq(this.#core.id as DomId, VIRQ_TIMER);
      },
      deadline / NS_PER_TICK - clock.now,
    );
    return 0;
  }

  /**
   * Brings `vcpu_time_info` up to date: a counter of one tick a nanosecond, so that a guest that reads no counter has the time of
   * its last hypercall or timer.
   */
  writeTime(): void {
    const { views, offset } = this.#core.boot[SHARED_INFO]!;
    const at = offset + sharedInfoOffsets(this.#core.abi).time;
    const { u32, u8 } = views;
    const word = at >>> 2;
    const ns = Math.floor(this.#world.clock.now * NS_PER_TICK);
    u32[word] = (u32[word]! + 1) >>> 0;
    u32[word + 2] = ns >>> 0;
    u32[word + 3] = Math.floor(ns / 0x1_0000_0000);
    u32[word + 4] = ns >>> 0;
    u32[word + 5] = Math.floor(ns / 0x1_0000_0000);
    u32[word + 6] = 0x8000_0000;
    u8[at + 28] = 1;
    u32[word] = (u32[word]! + 1) >>> 0;
  }
}
