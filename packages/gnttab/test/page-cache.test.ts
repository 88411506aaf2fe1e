import { describe, expect, it } from 'vitest';
import { createPageCache, type PageSource } from '../src/index.ts';

function source(pages: number): PageSource & { readonly back: number[] } {
  let next = 0;
  const back: number[] = [];
  return { back, alloc: () => (next < pages ? next++ : -1), free: (page) => back.push(page) };
}

describe('a page cache', () => {
  it('hands out kept pages before new ones, the last one kept first', () => {
    const cache = createPageCache(source(9));
    expect([cache.get(), cache.get()]).toEqual([0, 1]);
    cache.put(0);
    cache.put(1);
    expect(cache.size).toBe(2);
    expect([cache.get(), cache.get(), cache.get()]).toEqual([1, 0, 2]);
    expect(cache.size).toBe(0);
  });

  it('says when neither it nor the source has a page', () => {
    expect(createPageCache(source(0)).get()).toBe(-1);
  });

  it('gives pages back to the source when it shrinks, and what is too many when it is full', () => {
    const pages = source(99);
    const cache = createPageCache(pages, { max: 40 });
    const held = Array.from({ length: 42 }, () => cache.get());
    for (const page of held) cache.put(page);
    expect([cache.size, pages.back]).toEqual([40, [40, 41]]);
    cache.shrink(38);
    expect([cache.size, pages.back]).toEqual([38, [40, 41, 39, 38]]);
    cache.shrink(50);
    expect(cache.size).toBe(38);
  });

  it('refuses what is no page, no count and no limit', () => {
    const cache = createPageCache(source(1));
    expect(() => cache.put(-1)).toThrow('page is -1; allowed is a page number, a whole number from 0');
    expect(() => cache.put(0.5)).toThrow('page is 0.5');
    expect(() => cache.shrink(-1)).toThrow('keep is -1; allowed is a whole number from 0');
    expect(() => createPageCache(source(1), { max: -3 })).toThrow('max is -3; allowed is a whole number from 0');
    expect(cache.size).toBe(0);
  });
});
