import { type MemoryPage, PAGE_BYTES, pagesOfBytes } from './memory.ts';

/**
 * `count` pages of one memory, out of order and with a page between each two, as a guest may offer them for a ring; every byte
 * of theirs is `fill`, every other byte of the memory 0x3c, so that a write outside shows.
 */
export function scatteredPages(count: number, fill = 0): MemoryPage[] {
  const pages = pagesOfBytes(new Uint8Array((2 * count + 1) * PAGE_BYTES).fill(0x3c));
  const chosen: MemoryPage[] = [];
  for (let i = 0; i < count; i++) chosen.push(pages[2 * (count - i) - 1]!);
  for (const page of chosen) page.views.u8.fill(fill, page.offset, page.offset + PAGE_BYTES);
  return chosen;
}
