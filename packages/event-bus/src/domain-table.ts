import type { EventDomain } from './event-domain.ts';

const CHUNK_BITS = 8;
const CHUNK = 1 << CHUNK_BITS;

/**
 * Domains by domid. Chunked arrays: a lookup costs less than in a map, which every delivery would feel, and one domain with a
 * high number does not cost a slot for each below it.
 */
export class DomainTable {
  readonly #chunks: ((EventDomain | undefined)[] | undefined)[] = [];

  get(domid: number): EventDomain | undefined {
    const chunk = this.#chunks[domid >>> CHUNK_BITS];
    return chunk === undefined ? undefined : chunk[domid & (CHUNK - 1)];
  }

  /** @param domid a whole number from 0 to 0x7fff. */
  set(domid: number, domain: EventDomain | undefined): void {
    const at = domid >>> CHUNK_BITS;
    while (this.#chunks.length <= at) this.#chunks.push(undefined);
    this.#chunks[at] ??= new Array<EventDomain | undefined>(CHUNK).fill(undefined);
    this.#chunks[at][domid & (CHUNK - 1)] = domain;
  }

  forEach(visit: (domain: EventDomain) => void): void {
    for (const chunk of this.#chunks) for (const domain of chunk ?? []) if (domain !== undefined) visit(domain);
  }
}
