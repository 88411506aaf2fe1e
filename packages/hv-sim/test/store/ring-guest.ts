import { type MemoryPage, StoreRing, XS_TYPE, xsTypeName } from '@paravirt/xen-abi';

const HEADER = 16;

/** A message as a test sees it: `READ 3/0 "value"`. */
export interface Message {
  type: number;
  reqId: number;
  txId: number;
  text: string;
}

export const text = ({ type, text: payload }: Message): string => `${xsTypeName(type)} ${payload.replaceAll('\0', '|')}`;

/** The kernel's end of a store ring: its own page, and the stream of bytes that it writes and reads. */
export class RingGuest {
  readonly page: MemoryPage;
  readonly requests: StoreRing;
  readonly responses: StoreRing;
  /** Bytes that did not fit yet. */
  unsent: number[] = [];
  #received: number[] = [];
  /** Events that came with an answer. */
  #held: Message[] = [];
  #nextId: number;

  constructor(page: MemoryPage = freshPage(), firstId = 1) {
    this.#nextId = firstId;
    this.page = page;
    this.requests = new StoreRing(page, 'requests');
    this.responses = new StoreRing(page, 'responses');
  }

  /** Queues a request; `rung` of the store makes room. */
  put(type: number, payload: string, txId = 0): number {
    const reqId = this.#nextId++;
    this.unsent.push(...word(type), ...word(reqId), ...word(txId), ...word(payload.length));
    for (const char of payload) this.unsent.push(char.charCodeAt(0));
    return reqId;
  }

  /** Writes what fits into the ring, at most `most` bytes. */
  push(most = Number.POSITIVE_INFINITY): number {
    const count = this.requests.write(Uint8Array.from(this.unsent.slice(0, Math.min(most, 1024))));
    this.unsent.splice(0, count);
    return count;
  }

  /** Reads what is there, and gives the messages that are whole by now. */
  take(most = 1024): Message[] {
    const bytes = new Uint8Array(most);
    this.#received.push(...bytes.subarray(0, this.responses.read(bytes)));
    const messages = this.#held.splice(0);
    for (;;) {
      const length = at(this.#received, 12);
      if (this.#received.length < HEADER || this.#received.length < HEADER + length) return messages;
      const [type, reqId, txId] = [at(this.#received, 0), at(this.#received, 4), at(this.#received, 8)];
      const payload = String.fromCharCode(...this.#received.slice(HEADER, HEADER + length));
      this.#received.splice(0, HEADER + length);
      messages.push({ type, reqId, txId, text: payload });
    }
  }

  /** Sends one request and gives its answer; events that come with it are kept for `take`. */
  ask(store: { rung(): void }, type: number, payload: string, txId = 0): Message {
    const reqId = this.put(type, payload, txId);
    const kept: Message[] = [];
    for (let round = 0; round < 100; round += 1) {
      this.push();
      store.rung();
      const messages = this.take();
      const answer = messages.findIndex((message) => message.type !== XS_TYPE.WATCH_EVENT && message.reqId === reqId);
      kept.push(...messages);
      if (answer < 0) continue;
      const [found] = kept.splice(kept.length - messages.length + answer, 1);
      this.#held = kept;
      return found!;
    }
    throw new Error(`no answer to ${xsTypeName(type)} ${payload}`);
  }
}

function freshPage(): MemoryPage {
  const memory = new ArrayBuffer(8192);
  return { views: { u8: new Uint8Array(memory), u16: new Uint16Array(memory), u32: new Uint32Array(memory) }, offset: 4096 };
}

function word(value: number): number[] {
  return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
}

function at(bytes: number[], offset: number): number {
  return (
    ((bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8) | ((bytes[offset + 2] ?? 0) << 16) | ((bytes[offset + 3] ?? 0) << 24)) >>> 0
  );
}
