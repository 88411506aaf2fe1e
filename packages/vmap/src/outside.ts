import { AddressMap } from './address-map.ts';
import type { AreaKind, MapFlags } from './types.ts';

/** Tag of an address whose size its area must be asked for. */
const ASK = -1;

/** An area outside the regions, and its node in the tree. */
export class OutsideArea {
  readonly vfn: number;
  /** Byte within the first page: the original keeps, and compares, whatever address the callback returned. */
  readonly offset: number;
  readonly pages: number;
  readonly kind: AreaKind;
  readonly owner: string | null;
  readonly flags: MapFlags;
  /** Position in time: the newest area has the highest. */
  serial = 0;
  /** Waits for a purge. */
  freed = false;
  /** The next older area at the same page. */
  older: OutsideArea | null = null;
  left: OutsideArea | null = null;
  right: OutsideArea | null = null;
  priority = 0;
  /** Of the subtree: first page, page past the last, and the widest hole between two of its areas. */
  min: number;
  max: number;
  gap = 0;

  constructor(vfn: number, offset: number, pages: number, kind: AreaKind, owner: string | null, flags: MapFlags) {
    this.vfn = vfn;
    this.offset = offset;
    this.pages = pages;
    this.kind = kind;
    this.owner = owner;
    this.flags = flags;
    this.min = vfn;
    this.max = vfn + pages;
  }

  get end(): number {
    return this.vfn + this.pages;
  }
}

/**
 * The areas outside: a stack for each address, since the original lets one address be used more than once, and a balanced tree (a
 * treap) in order of address, newest first. Costs: exact lookup O(1); insert, remove, `holding`, `meeting`, `after` and `firstFit`
 * O(log n), plus the number of areas that overlap there, which strict mode keeps at one.
 */
export class OutsideAreas {
  readonly #newest: AddressMap<OutsideArea> = new AddressMap();
  #root: OutsideArea | null = null;
  #serial = 0;
  /** State of the generator that balances the tree; nothing observable depends on it. */
  #priority = 0x2545_f491;

  count = 0;

  /** The newest area at exactly this address. */
  get(vfn: number, offset: number = 0): OutsideArea | null {
    let area = this.#newest.get(vfn) ?? null;
    while (area !== null && area.offset !== offset) area = area.older;
    return area;
  }

  /** Pages of the newest live area at exactly this address, 0 when there is none. */
  size(vfn: number, offset: number): number {
    if (this.count === 0) return 0;
    const pages = this.#newest.tag(vfn, 0);
    if (pages >= 0 && (offset === 0 || pages === 0)) return pages;
    const area = this.get(vfn, offset);
    return area === null || area.freed ? 0 : area.pages;
  }

  /** Marks an area that waits for a purge. */
  markFreed(area: OutsideArea): void {
    area.freed = true;
    if (this.#newest.get(area.vfn) === area) this.#setNewest(area);
  }

  #setNewest(area: OutsideArea): void {
    this.#newest.set(area.vfn, area, area.freed || area.offset !== 0 ? ASK : area.pages);
  }

  insert(area: OutsideArea): void {
    this.#priority ^= this.#priority << 13;
    this.#priority ^= this.#priority >>> 17;
    this.#priority ^= this.#priority << 5;
    area.priority = this.#priority >>> 0;
    area.serial = ++this.#serial;
    area.older = this.#newest.get(area.vfn) ?? null;
    this.#setNewest(area);
    this.#root = inserted(this.#root, area);
    this.count++;
  }

  remove(area: OutsideArea): void {
    const top = this.#newest.get(area.vfn)!;
    if (top === area) {
      if (area.older === null) this.#newest.delete(area.vfn);
      else this.#setNewest(area.older);
    } else {
      let newer = top;
      while (newer.older !== area) newer = newer.older!;
      newer.older = area.older;
    }
    this.#root = removed(this.#root, area);
    this.count--;
  }

  /** The newest area that holds the page `vfn`. */
  holding(vfn: number): OutsideArea | null {
    return newestHolding(this.#root, vfn, null);
  }

  /** The first area, in order of address, that has a page in [lo, hi). */
  meeting(lo: number, hi: number): OutsideArea | null {
    return firstMeeting(this.#root, lo, hi);
  }

  /** The next area in order of address, newest first where addresses are equal; null begins. */
  after(area: OutsideArea | null): OutsideArea | null {
    let found: OutsideArea | null = null;
    let node = this.#root;
    while (node !== null) {
      if (area === null || before(area, node)) {
        found = node;
        node = node.left;
      } else node = node.right;
    }
    return found;
  }

  /** The lowest multiple of `align` from `lo` on where `pages` pages meet no area and touch none. */
  firstFit(lo: number, pages: number, align: number): number {
    const search = { at: roundUp(lo, align), pages, align };
    fit(this.#root, search);
    return search.at;
  }

  /** All areas, newest first: the order of the original's list. */
  newestFirst(): OutsideArea[] {
    const list: OutsideArea[] = [];
    for (let area = this.after(null); area !== null; area = this.after(area)) list.push(area);
    return list.sort((a, b) => b.serial - a.serial);
  }
}

/** @param align a power of two. */
export function roundUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}

function before(a: OutsideArea, b: OutsideArea): boolean {
  return a.vfn < b.vfn || (a.vfn === b.vfn && a.serial > b.serial);
}

/** Derives what a node knows of its subtree. */
function settled(node: OutsideArea): OutsideArea {
  const { left, right } = node;
  let gap = 0;
  let max = node.end;
  node.min = node.vfn;
  if (left !== null) {
    node.min = left.min;
    gap = Math.max(left.gap, node.vfn - left.max);
    max = Math.max(max, left.max);
  }
  if (right !== null) {
    gap = Math.max(gap, right.gap, right.min - max);
    max = Math.max(max, right.max);
  }
  node.max = max;
  node.gap = gap;
  return node;
}

function inserted(node: OutsideArea | null, area: OutsideArea): OutsideArea {
  if (node === null) return settled(area);
  if (area.priority > node.priority) {
    split(node, area);
    return settled(area);
  }
  if (before(area, node)) node.left = inserted(node.left, area);
  else node.right = inserted(node.right, area);
  return settled(node);
}

/** Makes what is before `area` its left subtree, and what is after it its right. */
function split(node: OutsideArea | null, area: OutsideArea): void {
  if (node === null) {
    area.left = null;
    area.right = null;
  } else if (before(node, area)) {
    split(node.right, area);
    node.right = area.left;
    area.left = settled(node);
  } else {
    split(node.left, area);
    node.left = area.right;
    area.right = settled(node);
  }
}

function removed(node: OutsideArea | null, area: OutsideArea): OutsideArea | null {
  if (node === null) return null;
  if (node === area) return merged(node.left, node.right);
  if (before(area, node)) node.left = removed(node.left, area);
  else node.right = removed(node.right, area);
  return settled(node);
}

function merged(a: OutsideArea | null, b: OutsideArea | null): OutsideArea | null {
  if (a === null) return b;
  if (b === null) return a;
  if (a.priority > b.priority) {
    a.right = merged(a.right, b);
    return settled(a);
  }
  b.left = merged(a, b.left);
  return settled(b);
}

function newestHolding(node: OutsideArea | null, vfn: number, best: OutsideArea | null): OutsideArea | null {
  if (node === null || node.max <= vfn || node.min > vfn) return best;
  let found = newestHolding(node.left, vfn, best);
  if (node.vfn <= vfn) {
    if (node.end > vfn && (found === null || node.serial > found.serial)) found = node;
    found = newestHolding(node.right, vfn, found);
  }
  return found;
}

function firstMeeting(node: OutsideArea | null, lo: number, hi: number): OutsideArea | null {
  if (node === null || node.max <= lo || node.min >= hi) return null;
  const left = firstMeeting(node.left, lo, hi);
  if (left !== null) return left;
  if (node.vfn >= hi) return null;
  return node.end > lo && node.pages > 0 ? node : firstMeeting(node.right, lo, hi);
}

interface Search {
  at: number;
  readonly pages: number;
  readonly align: number;
}

/** Moves `at` up past the areas of the subtree. @returns true once a hole is found. */
function fit(node: OutsideArea | null, search: Search): boolean {
  if (node === null || node.max < search.at) return false;
  if (node.min > search.at + search.pages) return true;
  if (node.gap < search.pages + 2) {
    search.at = roundUp(node.max + 1, search.align);
    return false;
  }
  if (fit(node.left, search)) return true;
  if (node.vfn > search.at + search.pages) return true;
  if (node.end >= search.at) search.at = roundUp(node.end + 1, search.align);
  return fit(node.right, search);
}
