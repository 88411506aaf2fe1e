import type { DomId } from '@paravirt/event-bus/contract';
import {
  decodeXsMessage,
  encodeXsMessage,
  type MemoryPage,
  StoreRing,
  XENSTORE,
  XenAbiError,
  XS_HEADER_BYTES,
  XS_TYPE,
} from '@paravirt/xen-abi';
import type { StoreCore } from './core.ts';
import { type DomainActs, handleRequest, stringToBytes } from './requests.ts';
import { Session } from './session.ts';
import type { StoreRingConnection } from './types.ts';
import { toldPath, type Watch } from './watches.ts';

/** `xenstore_domain_interface.error`, in u32 words from the page's start; the consumer and producer indices begin at word 512. */
const ERROR_WORD = 518;
const INDEX_WORD = 512;

/** What waits to be written into the ring: an answer, or an event and whose it is. */
interface Outgoing {
  readonly bytes: Uint8Array;
  readonly watch: Watch | undefined;
  readonly path: string;
}

/**
 * The store's end of one domain's ring page. Requests are taken as bytes come, across the wrap and in pieces; answers and
 * events go out in the order in which they arose, as far as there is room.
 */
export class RingConnection implements StoreRingConnection {
  readonly domid: DomId;
  readonly #core: StoreCore;
  readonly #acts: DomainActs;
  readonly #page: MemoryPage;
  readonly #requests: StoreRing;
  readonly #responses: StoreRing;
  readonly #notify: () => void;
  readonly #onClose: () => void;
  /** The request that is being read. */
  readonly #in = new Uint8Array(XS_HEADER_BYTES + XENSTORE.PAYLOAD_MAX);
  #inBytes = 0;
  readonly #out: Outgoing[] = [];
  /** Bytes of the first outgoing message that are written. */
  #outBytes = 0;
  #answers = 0;
  #events = 0;
  #session: Session;
  #pumping = false;
  #resetting = false;
  #moved = false;
  #ignored = 0;

  constructor(core: StoreCore, domid: DomId, page: MemoryPage, acts: DomainActs, notify: () => void, onClose: () => void) {
    this.domid = domid;
    this.#core = core;
    this.#acts = acts;
    this.#page = page;
    this.#notify = notify;
    this.#onClose = onClose;
    this.#requests = new StoreRing(page, 'requests');
    this.#responses = new StoreRing(page, 'responses');
    this.#session = this.#newSession();
  }

  get ignored(): number {
    return this.#ignored;
  }

  get waiting(): number {
    return this.#out.length;
  }

  rung(): void {
    this.#work(() => this.#pump());
  }

  reset(): void {
    this.#forget();
    this.#ignored = 0;
    this.#resetting = true;
    this.#session.close();
    this.#resetting = false;
    this.#session = this.#newSession();
    const { views, offset } = this.#page;
    for (let i = 0; i < 4; i += 1) views.u32[(offset >>> 2) + INDEX_WORD + i] = 0;
    views.u32[(offset >>> 2) + ERROR_WORD] = XENSTORE.ERROR_NONE;
  }

  close(): void {
    this.#session.close();
  }

  #newSession(): Session {
    return new Session(
      this.#core,
      this.domid,
      (watch, path) => this.#tell(watch, path),
      () => this.#events,
      () => {
        this.#forget();
        // Closing to start anew is no end.
        if (!this.#resetting) this.#onClose();
      },
    );
  }

  /** Moves bytes unless someone further up already does, and rings the guest if any moved. */
  #work(move: () => void): void {
    if (this.#pumping || this.#session.closed || this.#ignored !== 0) return;
    this.#pumping = true;
    this.#moved = false;
    try {
      move();
    } catch (error) {
      if (!(error instanceof XenAbiError)) throw error;
      this.#ignore(error.refusal.code === 'bad-index' ? XENSTORE.ERROR_RINGIDX : XENSTORE.ERROR_PROTO);
    } finally {
      this.#pumping = false;
    }
    if (this.#moved) this.#notify();
  }

  #pump(): void {
    this.#flush();
    // A guest that does not read its answers is not read either.
    while (this.#answers < this.#core.limits.outstanding && this.#receive()) {
      const message = decodeXsMessage(this.#in.subarray(0, this.#inBytes));
      this.#inBytes = 0;
      if (message === null) continue;
      const { answer, after } = handleRequest(this.#session, this.#acts, message);
      // A request may have ended its own connection.
      if (this.#session.closed) return;
      const { reqId, txId } = message;
      const type = 'payload' in answer ? message.type : XS_TYPE.ERROR;
      const payload = stringToBytes('payload' in answer ? answer.payload : `${answer.errno}\0`);
      this.#out.push({ bytes: encodeXsMessage({ type, reqId, txId, payload }), watch: undefined, path: '' });
      this.#answers += 1;
      after?.();
      this.#flush();
    }
  }

  /** Takes bytes until one request is whole. False when there are no more. */
  #receive(): boolean {
    for (;;) {
      const need = this.#need();
      if (this.#inBytes === need) return true;
      const count = this.#requests.read(this.#in.subarray(0, need), this.#inBytes);
      if (count === 0) return false;
      this.#inBytes += count;
      this.#moved = true;
    }
  }

  /** How long the request is as far as is known: its header first, then all of it. @throws {XenAbiError} a length that is not allowed. */
  #need(): number {
    if (this.#inBytes < XS_HEADER_BYTES) return XS_HEADER_BYTES;
    const length = new DataView(this.#in.buffer).getUint32(12, true);
    // The codec's refusal is the one that counts.
    if (length > XENSTORE.PAYLOAD_MAX) decodeXsMessage(this.#in);
    return XS_HEADER_BYTES + length;
  }

  #flush(): void {
    for (let first = this.#out[0]; first !== undefined; first = this.#out[0]) {
      const count = this.#responses.write(first.bytes, this.#outBytes);
      if (count > 0) this.#moved = true;
      this.#outBytes += count;
      if (this.#outBytes < first.bytes.length) return;
      this.#out.shift();
      this.#outBytes = 0;
      if (first.watch === undefined) this.#answers -= 1;
      else {
        this.#events -= 1;
        first.watch.waiting.delete(first.path);
      }
    }
  }

  #tell(watch: Watch, path: string): void {
    if (this.#ignored !== 0) return;
    const told = stringToBytes(`${toldPath(watch, path)}\0${watch.token}\0`);
    const full = this.#events >= this.#core.limits.events || told.length > XENSTORE.PAYLOAD_MAX;
    const at = full ? watch.path : path;
    if ((full || !at.startsWith('@')) && watch.waiting.has(at)) return;
    watch.waiting.add(at);
    const payload = full ? stringToBytes(`${toldPath(watch, at)}\0${watch.token}\0`) : told;
    this.#out.push({ bytes: encodeXsMessage({ type: XS_TYPE.WATCH_EVENT, reqId: 0, txId: 0, payload }), watch, path: at });
    this.#events += 1;
    // Only what goes out: another domain's request is under way, and this one's wait for their own doorbell.
    this.#work(() => this.#flush());
  }

  /** The guest broke the protocol: it is told why in its page, loses its watches and transactions, and is not listened to again. */
  #ignore(error: number): void {
    this.#ignored = error;
    const { views, offset } = this.#page;
    views.u32[(offset >>> 2) + ERROR_WORD] = error;
    this.#session.reset();
    this.#forget();
    this.#moved = true;
    if (this.#core.bus?.observed('store:ignored')) this.#core.bus.emit('store:ignored', { domid: this.domid, error });
  }

  #forget(): void {
    for (const { watch, path } of this.#out) watch?.waiting.delete(path);
    this.#out.length = 0;
    this.#outBytes = 0;
    this.#inBytes = 0;
    this.#answers = 0;
    this.#events = 0;
  }
}
