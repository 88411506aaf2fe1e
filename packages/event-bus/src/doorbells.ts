import type { Port } from './contract.ts';
import type { Channel, EventDomain } from './event-domain.ts';
import type { EvtchnEvents } from './events.ts';
import type { EventBus, UpcallQueue } from './types.ts';

/**
 * What happens to the words: setting bits, waking the domain, and the scan that a guest makes when it is woken. A word that is
 * read to be looped over is made signed first: the compiler would otherwise keep it as a floating-point number round the loop.
 */
export class Doorbells {
  private readonly queue: UpcallQueue;
  private readonly bus: EventBus<EvtchnEvents> | undefined;

  constructor(queue: UpcallQueue, bus: EventBus<EvtchnEvents> | undefined) {
    this.queue = queue;
    this.bus = bus;
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
    const { selWords } = domain;
    for (let i = 0; i < selWords; i += 1) {
      const { u32 } = domain.views;
      const at = domain.selWord + i;
      const sel = u32[at]! | 0;
      // A handler may have destroyed the domain: its words may be another's by now.
      if (sel === 0 || domain.dead) continue;
      u32[at] = 0;
      this.deliverGroups(domain, i, sel);
    }
    return domain.handled - before;
  }

  /** False when it was pending already. One flat body: it is half of what a doorbell costs. */
  raise(channel: Channel): boolean {
    const { domain, bit, pendingWord } = channel;
    const { u8, u32 } = domain.views;
    const pending = u32[pendingWord]!;
    if ((pending & bit) !== 0) return false;
    u32[pendingWord] = pending | bit;
    if ((u32[channel.maskWord]! & bit) !== 0) {
      if (domain.polling) this.schedule(domain);
      return true;
    }
    u32[channel.selWord]! |= channel.selBit;
    u8[domain.upcallPendingByte] = 1;
    if (!domain.scheduled && (u8[domain.upcallMaskByte] === 0 || domain.polling)) {
      domain.scheduled = true;
      this.queue.schedule(domain.domid);
    }
    return true;
  }

  unmask(domain: EventDomain, port: number): void {
    const { u32 } = domain.views;
    const word = port >>> 5;
    const bit = 1 << (port & 31);
    const was = u32[domain.maskWord + word]!;
    u32[domain.maskWord + word] = was & ~bit;
    if ((was & bit) !== 0 && (u32[domain.pendingWord + word]! & bit) !== 0) this.select(domain, port);
  }

  /** Schedules what waits in the domain, unless its upcalls are masked. */
  wake(domain: EventDomain): void {
    const { u8 } = domain.views;
    if (domain.scheduled || u8[domain.upcallPendingByte] === 0 || u8[domain.upcallMaskByte] !== 0) return;
    domain.scheduled = true;
    this.queue.schedule(domain.domid);
  }

  /** Lets a port through again whose pending bit nobody answered. */
  reraise(channel: Channel): void {
    const { u32 } = channel.domain.views;
    const deliverable = u32[channel.pendingWord]! & ~u32[channel.maskWord]! & channel.bit;
    if (deliverable !== 0) this.select(channel.domain, channel.port);
  }

  private select(domain: EventDomain, port: number): void {
    const { u8, u32 } = domain.views;
    const group = port >>> domain.groupShift;
    u32[domain.selWord + (group >>> 5)]! |= 1 << (group & 31);
    u8[domain.upcallPendingByte] = 1;
    if (domain.polling || u8[domain.upcallMaskByte] === 0) this.schedule(domain);
  }

  private schedule(domain: EventDomain): void {
    if (domain.scheduled) return;
    domain.scheduled = true;
    this.queue.schedule(domain.domid);
  }

  /** The ports under the selector bits `sel` of selector word `index`. */
  private deliverGroups(domain: EventDomain, index: number, sel: number): void {
    const { views, channels, groupWords } = domain;
    let rest = sel;
    try {
      while (rest !== 0) {
        let word = ((index << 5) + (31 - Math.clz32(rest & -rest))) * groupWords;
        for (const end = word + groupWords; word < end; word += 1) {
          const pendingWord = domain.pendingWord + word;
          const maskWord = domain.maskWord + word;
          let { u32 } = views;
          let pending = u32[pendingWord]! | 0;
          let bits = pending & ~u32[maskWord]!;
          while (bits !== 0) {
            const bit = bits & -bits;
            bits ^= bit;
            const port = (word << 5) + (31 - Math.clz32(bit));
            const handler = port < channels.length ? channels[port]!.handler : undefined;
            if (handler === undefined) continue;
            u32[pendingWord] = pending & ~bit;
            domain.handled += 1;
            if (this.bus?.observed('evtchn:delivered')) this.tellDelivered(domain, port);
            handler();
            if (bits === 0) break;
            // The handler may have masked, answered or closed others, or the memory may have grown.
            u32 = views.u32;
            pending = u32[pendingWord]! | 0;
            bits &= pending & ~u32[maskWord]!;
          }
        }
        rest &= rest - 1;
      }
    } catch (error) {
      // The words of a domain that its handler destroyed may be another's by now.
      if (domain.dead) throw error;
      // What was not looked at, and the rest of the handler's word, stays selected.
      views.u32[domain.selWord + index]! |= rest;
      views.u8[domain.upcallPendingByte] = 1;
      this.wake(domain);
      throw error;
    }
  }

  private tellDelivered({ domid }: EventDomain, port: number): void {
    this.bus!.emit('evtchn:delivered', { domid, port: port as Port });
  }
}
