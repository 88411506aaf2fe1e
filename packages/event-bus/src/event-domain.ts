import type { DomId } from './contract.ts';
import type { EventDomainOptions, WordViews } from './types.ts';

/** The states of a port. The numbers are ours; what a guest sees is `PortStatus`. */
export const FREE = 0;
export const RESERVED = 1;
export const UNBOUND = 2;
export const INTERDOMAIN = 3;
export const PIRQ = 4;
export const VIRQ = 5;
export const IPI = 6;
export type ChannelState = typeof FREE | typeof RESERVED | typeof UNBOUND | typeof INTERDOMAIN | typeof PIRQ | typeof VIRQ | typeof IPI;

/** One port of one domain. Made once for a number and reused, so that ringing it touches no fresh object. */
export class Channel {
  // What a ring or a delivery uses stands first and together: with many ports a channel comes from far memory every time.
  readonly domain: EventDomain;
  /** INTERDOMAIN: the other end. */
  remote: Channel | undefined = undefined;
  handler: (() => void) | undefined = undefined;
  /** The u32 word of `evtchn_pending` with the port's bit, and how far `evtchn_mask`'s is from it. */
  readonly pendingWord: number;
  readonly maskWord: number;
  readonly bit: number;
  /** The word of `evtchn_pending_sel` with the port's group, and its bit. */
  readonly selWord: number;
  readonly selBit: number;
  readonly port: number;
  state: ChannelState = FREE;
  /** UNBOUND: who may bind. PIRQ, VIRQ: the interrupt's number. */
  detail = 0;
  /** Moves on with every handler, so that an old registration cannot end a later one. */
  registrations = 0;

  constructor(domain: EventDomain, port: number) {
    this.domain = domain;
    this.port = port;
    this.pendingWord = domain.pendingWord + (port >>> 5);
    this.maskWord = domain.maskWord + (port >>> 5);
    this.bit = 1 << (port & 31);
    const group = port >>> domain.groupShift;
    this.selWord = domain.selWord + (group >>> 5);
    this.selBit = 1 << (group & 31);
  }
}

/** The same number, as a small integer to the engine where it is one: arithmetic on a large address leaves it in floating point. */
function small(value: number): number {
  const whole = value | 0;
  return whole === value ? whole : value;
}

/** One domain's ports and where its words stand. */
export class EventDomain {
  // What a ring or a delivery uses stands first and together: with many domains it comes from far memory every time.
  readonly views: WordViews;
  readonly upcallPendingByte: number;
  readonly upcallMaskByte: number;
  /** In the upcall queue, or nothing to deliver. */
  scheduled = false;
  polling = false;
  readonly domid: DomId;
  entry: (() => void) | undefined = undefined;
  upcalls = 0;
  handled = 0;
  readonly selWord: number;
  readonly selWords: number;
  /** The words of the ports under one selector bit: 1 or 2. */
  readonly groupWords: number;
  readonly pendingWord: number;
  readonly maskWord: number;
  /** By port, dense from 0; a number past its end was never allocated. */
  readonly channels: Channel[] = [];
  sent = 0;
  merged = 0;
  dropped = 0;
  /** log2 of the ports under one selector bit: 5 or 6. */
  readonly groupShift: number;
  /** Port numbers are below this. */
  readonly portCount: number;
  readonly pirqs: number;
  /** No port below this is free. */
  lowestFree = 1;
  /** By virtual and physical interrupt: the port, 0 when none. */
  readonly virqPorts: Uint16Array = new Uint16Array(24);
  readonly pirqPorts: Map<number, number> = new Map();
  dead = false;

  constructor({ domid, views, offset, layout, portMax = Number.POSITIVE_INFINITY, pirqs = 0 }: EventDomainOptions) {
    const { wordBits } = layout;
    this.domid = domid;
    this.views = views;
    this.groupShift = wordBits === 64 ? 6 : 5;
    this.groupWords = wordBits === 64 ? 2 : 1;
    this.pendingWord = small((offset + layout.pending) / 4);
    this.maskWord = small((offset + layout.mask) / 4);
    this.selWord = small((offset + layout.pendingSel) / 4);
    this.selWords = wordBits === 64 ? 2 : 1;
    this.upcallPendingByte = small(offset + layout.upcallPending);
    this.upcallMaskByte = small(offset + layout.upcallMask);
    this.portCount = Math.min(wordBits * wordBits, portMax + 1);
    this.pirqs = pirqs;
    const reserved = new Channel(this, 0);
    reserved.state = RESERVED;
    this.channels.push(reserved);
  }

  /** The lowest free port, claimed by its caller through its state; undefined when there is none. */
  findFree(): Channel | undefined {
    const { channels, portCount } = this;
    let port = this.lowestFree;
    while (port < channels.length && channels[port]!.state !== FREE) port += 1;
    this.lowestFree = port;
    if (port >= portCount) return undefined;
    if (port === channels.length) channels.push(new Channel(this, port));
    return channels[port];
  }

  free(channel: Channel): void {
    // A stale pending bit would greet whoever gets the number next.
    this.views.u32[channel.pendingWord]! &= ~channel.bit;
    channel.state = FREE;
    channel.remote = undefined;
    channel.detail = 0;
    channel.handler = undefined;
    channel.registrations += 1;
    if (channel.port < this.lowestFree) this.lowestFree = channel.port;
  }
}
