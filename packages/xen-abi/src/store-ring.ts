import { XenAbiError } from './errors.ts';
import type { MemoryPage } from './memory.ts';
import { XENSTORE } from './store-constants.ts';

/** Which of the page's two byte rings: what the guest asks, or what the store answers. */
export type StoreRingDirection = 'requests' | 'responses';

/**
 * One direction of the store's ring page: 1024 bytes of stream between a producer and a consumer index that count bytes modulo
 * 2^32. Either end reads or writes with it; telling the peer is the caller's act.
 * @see xen/include/public/io/xs_wire.h, xenstore_domain_interface
 */
export class StoreRing {
  private readonly page: MemoryPage;
  private readonly data: number;
  private readonly consWord: number;

  constructor(page: MemoryPage, direction: StoreRingDirection) {
    this.page = page;
    this.data = page.offset + (direction === 'requests' ? 0 : XENSTORE.RING_SIZE);
    this.consWord = (page.offset >>> 2) + (direction === 'requests' ? 512 : 514);
  }

  /** Bytes consumed so far, modulo 2^32. */
  get cons(): number {
    return this.page.views.u32[this.consWord]!;
  }

  /** Bytes produced so far, modulo 2^32. */
  get prod(): number {
    return this.page.views.u32[this.consWord + 1]!;
  }

  /** Bytes written and not read. @throws {XenAbiError} `bad-index`: the indices are further apart than the ring is long. */
  readable(): number {
    const { cons, prod } = this;
    const bytes = (prod - cons) >>> 0;
    if (bytes > XENSTORE.RING_SIZE) {
      throw new XenAbiError({
        code: 'bad-index',
        what: "store ring's producer index",
        value: prod,
        allowed: `${cons} to ${(cons + XENSTORE.RING_SIZE) >>> 0}`,
      });
    }
    return bytes;
  }

  /** Bytes that may be written. @throws {XenAbiError} `bad-index`. */
  writable(): number {
    return XENSTORE.RING_SIZE - this.readable();
  }

  /** Takes up to `into.length - at` bytes. @returns how many. @throws {XenAbiError} `bad-index`. */
  read(into: Uint8Array, at = 0): number {
    const count = Math.min(this.readable(), into.length - at);
    const cons = this.cons;
    const u8 = this.page.views.u8;
    for (let i = 0; i < count; i++) into[at + i] = u8[this.data + ((cons + i) % XENSTORE.RING_SIZE)]!;
    this.page.views.u32[this.consWord] = cons + count;
    return count;
  }

  /** Writes as many bytes from `at` on as fit. @returns how many. @throws {XenAbiError} `bad-index`. */
  write(bytes: Uint8Array, at = 0): number {
    const count = Math.min(this.writable(), bytes.length - at);
    const prod = this.prod;
    const u8 = this.page.views.u8;
    for (let i = 0; i < count; i++) u8[this.data + ((prod + i) % XENSTORE.RING_SIZE)] = bytes[at + i]!;
    this.page.views.u32[this.consWord + 1] = prod + count;
    return count;
  }
}
