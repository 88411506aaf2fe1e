import type { Access, AreaKind } from './types.ts';

/** What lies at an address, for a refusal to name. Addresses are in hexadecimal, as `0xffff82c000002000`. */
export interface Occupant {
  readonly start: string;
  readonly pages: number;
  readonly kind: AreaKind | 'region' | 'freed';
  /** Null outside every region. */
  readonly region: string | null;
  readonly owner: string | null;
}

/** Why the allocator refused. Addresses are hexadecimal strings, so that a refusal can be printed as JSON. */
export type VmapRefusal =
  | { readonly code: 'bad-argument'; readonly argument: string; readonly value: string; readonly allowed: string }
  | { readonly code: 'bad-address'; readonly argument: string; readonly value: string; readonly allowed: string }
  | { readonly code: 'no-region'; readonly region: string; readonly known: readonly string[] }
  /** Nothing fits, even with the bitmap populated to the region's end. */
  | { readonly code: 'no-room'; readonly region: string; readonly pages: number; readonly align: number }
  /** A page (`page`), a bitmap page (`bitmap`) or a small allocation (`small`) could not be had. */
  | { readonly code: 'no-memory'; readonly what: 'page' | 'bitmap' | 'small'; readonly region: string | null }
  /** The page table, or the callback, did not map. */
  | { readonly code: 'map-failed'; readonly va: string | null; readonly region: string | null }
  /** No area starts at the address; `at` is what lies there: an area of which it is an inner page, one freed and not purged, or nothing. */
  | { readonly code: 'not-an-area'; readonly va: string; readonly region: string | null; readonly at: Occupant | null }
  | { readonly code: 'wrong-kind'; readonly va: string; readonly at: Occupant; readonly allowed: string }
  | { readonly code: 'overlap'; readonly va: string; readonly pages: number; readonly at: Occupant }
  /** It would touch a neighbour without a guard page between them. */
  | { readonly code: 'no-guard'; readonly va: string; readonly pages: number; readonly at: Occupant }
  | { readonly code: 'inside-region'; readonly va: string; readonly pages: number; readonly at: Occupant }
  /** `at` is the area that the access met, or that the guard page guards. */
  | {
      readonly code: 'fault';
      readonly va: string;
      readonly access: Access;
      readonly reason: 'guard' | 'unmapped' | 'read-only' | 'no-execute';
      readonly at: Occupant | null;
    }
  | { readonly code: 'closed' };

const place = (at: Occupant | null): string =>
  at === null
    ? 'nothing is there'
    : `there is ${at.kind} of ${at.pages} pages at ${at.start}${at.region === null ? '' : ` in region ${at.region}`}${
        at.owner === null ? '' : `, owned by ${at.owner}`
      }`;

function sentence(refusal: VmapRefusal): string {
  switch (refusal.code) {
    case 'bad-argument':
    case 'bad-address':
      return `${refusal.argument} is ${refusal.value}; allowed is ${refusal.allowed}`;
    case 'no-region':
      return `no region is named ${refusal.region}; there are ${refusal.known.join(', ') || 'none'}`;
    case 'no-room':
      return `region ${refusal.region} has no hole for ${refusal.pages} pages aligned to ${refusal.align}`;
    case 'no-memory':
      return `no ${refusal.what === 'small' ? 'small allocation' : `${refusal.what === 'bitmap' ? 'page for the bitmap' : 'page'}`} to be had${
        refusal.region === null ? '' : ` for region ${refusal.region}`
      }`;
    case 'map-failed':
      return `mapping failed at ${refusal.va ?? 'an address of the callback'}${refusal.region === null ? '' : ` in region ${refusal.region}`}`;
    case 'not-an-area':
      return `no area starts at ${refusal.va}: ${place(refusal.at)}`;
    case 'wrong-kind':
      return `${refusal.va} is not ${refusal.allowed}: ${place(refusal.at)}`;
    case 'overlap':
      return `${refusal.pages} pages at ${refusal.va} overlap: ${place(refusal.at)}`;
    case 'no-guard':
      return `${refusal.pages} pages at ${refusal.va} leave no guard page: ${place(refusal.at)}`;
    case 'inside-region':
      return `${refusal.pages} pages at ${refusal.va} are not outside: ${place(refusal.at)}`;
    case 'fault':
      return `${refusal.access} at ${refusal.va} faults (${refusal.reason}): ${place(refusal.at)}`;
    case 'closed':
      return 'the allocator is closed';
  }
}

/** The one error of this package; `refusal` says what was refused and what is there. Nothing has changed. */
export class VmapError extends Error {
  override readonly name = 'VmapError';
  readonly refusal: VmapRefusal;
  constructor(refusal: VmapRefusal, options?: ErrorOptions) {
    super(`vmap refused: ${sentence(refusal)}`, options);
    this.refusal = refusal;
  }
}
