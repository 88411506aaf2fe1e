import { Allocator } from './allocator.ts';
import { Core } from './core.ts';
import { VmapError } from './errors.ts';
import { hexOf } from './space.ts';
import type { CompatOptions, RegionOptions, StrictOptions, Vmap } from './types.ts';

const LAZY_PAGES_MAX = 2 ** 20;

/**
 * Makes an allocator: strict by default, as recorded of the original with `compat: 'xen'`. Takes and maps the first pages of each
 * region's bitmap.
 * @throws {VmapError} `bad-argument`, `bad-address`, `overlap`: the options; `no-memory`, `map-failed`: a bitmap. Nothing is kept.
 */
export function createVmap(options: StrictOptions): Vmap;
export function createVmap(options: CompatOptions): Vmap<null>;
export function createVmap(options: StrictOptions | CompatOptions): Vmap | Vmap<null>;
export function createVmap(options: StrictOptions | CompatOptions): Vmap | Vmap<null> {
  const compat = 'compat' in options ? (options.compat as string | undefined) : undefined;
  const strict = 'strict' in options ? (options.strict as boolean | undefined) : undefined;
  const lazy = 'lazy' in options ? (options as StrictOptions).lazy : undefined;
  if (compat !== undefined && compat !== 'xen') refuse('compat', compat, "'xen'");
  if (strict === false && compat === undefined) refuse('strict', 'false', "true, or compat: 'xen' instead");
  if (strict === true && compat !== undefined) refuse('strict', 'true', "left out beside compat: 'xen'");
  if (lazy !== undefined) {
    if (compat !== undefined) refuse('lazy', 'given', 'left out beside compat, which frees as the original does');
    const { pagesMax } = lazy;
    if (!Number.isInteger(pagesMax) || pagesMax < 1 || pagesMax > LAZY_PAGES_MAX) {
      refuse('lazy.pagesMax', String(pagesMax), `a whole number from 1 to ${LAZY_PAGES_MAX}`);
    }
  }
  checkRegions(options.regions, compat === undefined);
  const core = new Core(options, compat === undefined, lazy?.pagesMax ?? 0);
  return new Allocator(core) as Vmap | Vmap<null>;
}

function refuse(argument: string, value: string, allowed: string): never {
  throw new VmapError({ code: 'bad-argument', argument, value, allowed });
}

function checkRegions(regions: readonly RegionOptions[], strict: boolean): void {
  const pagesMax = strict ? 2 ** 31 : 2 ** 32 - 32_768;
  for (const [i, { name, start, pages }] of regions.entries()) {
    if (typeof name !== 'string' || name === '') refuse(`regions[${i}].name`, String(name), 'a name');
    if (!Number.isInteger(pages) || pages < 1 || pages > pagesMax) {
      refuse(`regions[${i}].pages`, String(pages), `a whole number from 1 to ${pagesMax}`);
    }
    const end = typeof start === 'bigint' ? start + BigInt(pages) * 4096n : 0n;
    if (typeof start !== 'bigint' || start < 4096n || (start & 0xfffn) !== 0n || end > 2n ** 64n - 4096n) {
      const value = typeof start === 'bigint' ? hexOf(start) : String(start);
      throw new VmapError({
        code: 'bad-address',
        argument: `regions[${i}].start`,
        value,
        allowed: 'a multiple of 4096 with a page on both sides',
      });
    }
    for (const other of regions.slice(0, i)) {
      if (other.name === name) refuse(`regions[${i}].name`, name, `a name that no other region has`);
      const otherEnd = other.start + BigInt(other.pages) * 4096n;
      if (start < otherEnd && other.start < end) {
        const at = { start: hexOf(other.start), pages: other.pages, kind: 'region', region: other.name, owner: null } as const;
        throw new VmapError({ code: 'overlap', va: hexOf(start), pages, at });
      }
    }
  }
}
