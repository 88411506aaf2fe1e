import type { DomId, Gfn, Gref } from '@paravirt/event-bus/contract';
import { GTF } from '@paravirt/xen-abi';
import type { LiveEntry } from './api.ts';
import type { Entries } from './entries.ts';
import type { GrefState } from './errors.ts';
import type { FreeList } from './free-list.ts';

const STATE_NAMES: readonly GrefState[] = ['free', 'listed', 'claimed', 'granted', 'busy', 'deferred', 'leaked', 'reserved'];

/** The state of a reference, of one outside the table too. */
export function stateOf(list: FreeList, gref: number): GrefState {
  return Number.isInteger(gref) && gref >= 0 && gref < list.size ? STATE_NAMES[list.state[gref]!]! : 'absent';
}

/** Every published entry in ascending order. */
export function* liveEntries(list: FreeList, entries: Entries): IterableIterator<LiveEntry> {
  for (let gref = 0; gref < list.size; gref++) {
    const state = STATE_NAMES[list.state[gref]!]!;
    if (state !== 'granted' && state !== 'busy' && state !== 'deferred' && state !== 'leaked') continue;
    const flags = entries.flags(gref);
    const transitive = entries.version === 2 && (flags & GTF.type_mask) === GTF.transitive;
    const frame = transitive ? -1 : entries.frameOf(gref, flags);
    yield {
      gref: gref as Gref,
      peer: list.link[gref]! as DomId,
      flags,
      kind: transitive ? 'transitive' : (flags & GTF.sub_page) !== 0 && entries.version === 2 ? 'sub-page' : 'full-page',
      gfn: transitive ? undefined : (frame as Gfn),
      inUse: entries.inUse(gref),
      state,
    };
  }
}
