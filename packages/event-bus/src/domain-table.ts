import type { EventDomain } from './event-domain.ts';

const CHUNK_BITS = 8;
const CHUNK = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK - 1;

type Chunk = (EventDomain | undefined)[];

const emptyChunk = (): Chunk => new Array<EventDomain | undefined>(CHUNK).fill(undefined);

/**
 * Domains by domid. Chunked arrays: a lookup costs less than in a map, which every delivery would feel, and one domain with a
 * high number does not cost a slot for each below it. Most machines have only low numbers, so the first chunk is found at once.
 */
export class DomainTable {
  private readonly low: Chunk = emptyChunk();
  private readonly chunks: (Chunk | undefined)[] = [this.low];

  /** A domid from outside may be any number: 2^32 must not find domain 0. */
  get(domid: number): EventDomain | undefined {
    return domid >= 0 && domid < CHUNK ? this.low[domid] : this.high(domid);
  }

  private high(domid: number): EventDomain | undefined {
    const domain = this.chunks[domid >>> CHUNK_BITS]?.[domid & CHUNK_MASK];
    return domain?.domid === domid ? domain : undefined;
  }

  /** @param domid a whole number from 0 to 0x7fff. */
  set(domid: number, domain: EventDomain | undefined): void {
    const at = domid >>> CHUNK_BITS;
    while (this.chunks.length <= at) this.chunks.push(undefined);
    this.chunks[at] ??= emptyChunk();
    this.chunks[at][domid & CHUNK_MASK] = domain;
  }

  forEach(visit: (domain: EventDomain) => void): void {
    for (const chunk of this.chunks) for (const domain of chunk ?? []) if (domain !== undefined) visit(domain);
  }
}
