import { refuse } from './errors.ts';
import { createMemslots } from './memslots.ts';
import { type Memslots, type MemslotsOptions, READONLY, type U64 } from './types.ts';

/** A row of a memory map. */
export interface LayoutRow {
  /** Guest physical address in bytes. */
  readonly gpa: U64;
  /** Bytes. */
  readonly size: U64;
  /** Host virtual address in bytes. */
  readonly hva: U64;
  readonly flags?: number;
  /** Address space, 0 unless given. */
  readonly asId?: number;
  /** Slot id; the lowest one free unless given. */
  readonly slot?: number;
}

/**
 * Memory slots with a map in place. Rows without an id take the lowest free one, in order.
 * @throws {MemslotsError} as `setUserMemoryRegion`, for the first row that is refused.
 */
export function fromLayout(layout: Iterable<LayoutRow>, options: MemslotsOptions = {}): Memslots {
  const memslots = createMemslots(options);
  const rows = [...layout];
  const taken = new Set(rows.flatMap(({ asId = 0, slot }) => (slot === undefined ? [] : [asId * 0x10000 + slot])));
  const next = new Map<number, number>();
  for (const { gpa, size, hva, flags = 0, asId = 0, slot } of rows) {
    let id = slot ?? next.get(asId) ?? 0;
    if (slot === undefined) {
      while (taken.has(asId * 0x10000 + id)) id += 1;
      next.set(asId, id + 1);
    } else if (asId < memslots.options.addressSpaces && memslots.slot(slot, asId) !== null) {
      refuse('bad-argument', 'slot', slot, 'one row a slot');
    }
    const change = memslots.setUserMemoryRegion({ slot: id, asId, flags, guestPhysAddr: gpa, memorySize: size, userspaceAddr: hva });
    if (change !== 'create') refuse('bad-argument', 'size', size, 'at least one page');
  }
  return memslots;
}

const GIB = 2 ** 30;

/**
 * The map of a PC: RAM from 0 to at most 3 GiB, a hole for PCI up to 4 GiB with read-only firmware at its end, the rest of the RAM above it.
 * The host's memory is one piece: all RAM, then the firmware.
 * @throws {MemslotsError} `bad-argument` for sizes that are no multiple of 4096.
 */
export function pcLayout(options: { ramBytes: number; hva: number; firmwareBytes?: number }): LayoutRow[] {
  const { ramBytes, hva, firmwareBytes = 256 * 1024 } = options;
  if (!Number.isSafeInteger(ramBytes) || ramBytes <= 0 || ramBytes % 4096 !== 0)
    refuse('bad-argument', 'ramBytes', ramBytes, 'a multiple of 4096');
  if (!Number.isSafeInteger(firmwareBytes) || firmwareBytes < 0 || firmwareBytes % 4096 !== 0 || firmwareBytes > GIB) {
    refuse('bad-argument', 'firmwareBytes', firmwareBytes, 'a multiple of 4096 up to 1 GiB');
  }
  const low = Math.min(ramBytes, 3 * GIB);
  const layout: LayoutRow[] = [{ gpa: 0, size: low, hva }];
  if (ramBytes > low) layout.push({ gpa: 4 * GIB, size: ramBytes - low, hva: hva + low });
  if (firmwareBytes > 0) layout.push({ gpa: 4 * GIB - firmwareBytes, size: firmwareBytes, hva: hva + ramBytes, flags: READONLY });
  return layout;
}
