import type { Port } from './contract.ts';
import type { Channel, EventDomain } from './event-domain.ts';
import type { EvtchnEvents } from './events.ts';
import type { EventBus, UpcallQueue } from './types.ts';

/** What happens to the words: setting bits, waking the domain, and the scan that a guest makes when it is woken. */
export class Doorbells {
  readonly #queue: UpcallQueue;
  readonly #bus: EventBus<EvtchnEvents> | undefined;

  constructor(queue: UpcallQueue, bus: EventBus<EvtchnEvents> | undefined) {
    this.#queue = queue;
    this.#bus = bus;
  }

  /** Scans a domain's words. @returns how many handlers ran. */
  deliver(domain: EventDomain): number {
    domain.scheduled = false;
    const { u8 } = domain.views;
    if (u8[domain.upcallPendingByte] === 0 || u8[domain.upcallMaskByte] !== 0) return 0;
    domain.upcalls += 1;
    if (domain.entry !== undefined) {
      domain.entry();
      return 0;
    }
    u8[domain.upcallPendingByte] = 0;
    const before = domain.handled;
    for (let i = 0; i < domain.selWords; i += 1) {
      const sel = domain.views.u32[domain.selWord + i]!;
      if (sel === 0) continue;
      domain.views.u32[domain.selWord + i] = 0;
      this.#deliverGroups(domain, i, sel);
    }
    return domain.handled - before;
  }

  /** False when it was pending already. */
  raise(channel: Channel): boolean {
    const { domain, bit } = channel;
    const { u32 } = domain.views;
    const pending = u32[channel.pendingWord]!;
    if ((pending & bit) !== 0) return false;
    u32[channel.pendingWord] = pending | bit;
    if ((u32[channel.maskWord]! & bit) === 0) this.#select(domain, channel.port);
    else if (domain.polling) this.#schedule(domain);
    return true;
  }

  unmask(domain: EventDomain, port: number): void {
    const { u32 } = domain.views;
    const word = port >>> 5;
    const bit = 1 << (port & 31);
    const was = u32[domain.maskWord + word]!;
    u32[domain.maskWord + word] = was & ~bit;
    if ((was & bit) !== 0 && (u32[domain.pendingWord + word]! & bit) !== 0) this.#select(domain, port);
  }

  /** Schedules what waits in the domain, unless its upcalls are masked. */
  wake(domain: EventDomain): void {
    const { u8 } = domain.views;
    if (domain.scheduled || u8[domain.upcallPendingByte] === 0 || u8[domain.upcallMaskByte] !== 0) return;
    domain.scheduled = true;
    this.#queue.schedule(domain.domid);
  }

  /** Lets a port through again whose pending bit nobody answered. */
  reraise(channel: Channel): void {
    const { u32 } = channel.domain.views;
    const deliverable = u32[channel.pendingWord]! & ~u32[channel.maskWord]! & channel.bit;
    if (deliverable !== 0) this.#select(channel.domain, channel.port);
  }

  #select(domain: EventDomain, port: number): void {
    const { u8, u32 } = domain.views;
    const group = port >>> domain.groupShift;
    u32[domain.selWord + (group >>> 5)]! |= 1 << (group & 31);
    u8[domain.upcallPendingByte] = 1;
    if (domain.polling || u8[domain.upcallMaskByte] === 0) this.#schedule(domain);
  }

  #schedule(domain: EventDomain): void {
    if (domain.scheduled) return;
    domain.scheduled = true;
    this.#queue.schedule(domain.domid);
  }

  /** The ports under the selector bits `sel` of selector word `index`. */
  #deliverGroups(domain: EventDomain, index: number, sel: number): void {
    const words = 1 << (domain.groupShift - 5);
    let rest = sel;
    let done = false;
    try {
      while (rest !== 0) {
        const group = index * 32 + (31 - Math.clz32(rest & -rest));
        for (let i = 0; i < words; i += 1) this.#deliverWord(domain, group * words + i);
        rest &= rest - 1;
      }
      done = true;
    } finally {
      // A handler threw: what was not looked at, and the rest of its word, stays selected.
      if (!done) {
        domain.views.u32[domain.selWord + index]! |= rest;
        domain.views.u8[domain.upcallPendingByte] = 1;
        this.wake(domain);
      }
    }
  }

  #deliverWord(domain: EventDomain, word: number): void {
    const { channels, pendingWord, maskWord } = domain;
    let bits = domain.views.u32[pendingWord + word]! & ~domain.views.u32[maskWord + word]!;
    while (bits !== 0) {
      const bit = bits & -bits;
      bits ^= bit;
      const channel = channels[word * 32 + (31 - Math.clz32(bit))];
      if (channel === undefined || channel.handler === undefined) continue;
      // An earlier handler may have masked, answered or closed it, or the memory may have grown.
      const { u32 } = domain.views;
      const pending = u32[pendingWord + word]!;
      if ((pending & ~u32[maskWord + word]! & bit) === 0) continue;
      u32[pendingWord + word] = pending & ~bit;
      domain.handled += 1;
      if (this.#bus?.observed('evtchn:delivered')) this.#bus.emit('evtchn:delivered', { domid: domain.domid, port: channel.port as Port });
      channel.handler();
    }
  }
}
