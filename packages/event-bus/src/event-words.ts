import type { EventDomainOptions, EventWordLayout, WordViews } from './types.ts';

/** Checks that a domain's words lie inside its views and on their natural boundaries. @throws {RangeError} */
export function checkLayout({ views, offset, layout }: Pick<EventDomainOptions, 'views' | 'offset' | 'layout'>): void {
  const { wordBits } = layout;
  if (wordBits !== 32 && wordBits !== 64) throw new RangeError(`wordBits is ${String(wordBits)}; allowed is 32 or 64`);
  const words = (wordBits * wordBits) / 8;
  checkField(views, 'pending', offset + layout.pending, words, 4);
  checkField(views, 'mask', offset + layout.mask, words, 4);
  checkField(views, 'pendingSel', offset + layout.pendingSel, wordBits / 8, 4);
  checkField(views, 'upcallPending', offset + layout.upcallPending, 1, 1);
  checkField(views, 'upcallMask', offset + layout.upcallMask, 1, 1);
}

function checkField(views: WordViews, name: string, at: number, bytes: number, align: number): void {
  const last = views.u8.length - bytes;
  if (!Number.isInteger(at) || at < 0 || at > last || at % align !== 0) {
    throw new RangeError(`${name} stands at byte ${at} of the views; allowed is a multiple of ${align} from 0 to ${last}`);
  }
}

/**
 * Event words in memory of their own, for those who have no shared info page: bytes, views and a layout, to be spread into
 * the options of `addDomain`.
 */
export function createEventWords(wordBits: 32 | 64 = 64): { views: WordViews; offset: number; layout: EventWordLayout } {
  const words = (wordBits * wordBits) / 8;
  const bytes = new ArrayBuffer(16 + 2 * words);
  return {
    views: { u8: new Uint8Array(bytes), u32: new Uint32Array(bytes) },
    offset: 0,
    layout: { wordBits, upcallPending: 0, upcallMask: 1, pendingSel: 8, pending: 16, mask: 16 + words },
  };
}
