import type { MemoryFrame, MemoryViews } from '@paravirt/gnttab';
import type { Memslots } from '@paravirt/memslots';
import type { MapFlags } from '@paravirt/vmap';
import type { DomainMemory, DomainSpace } from '../types.ts';
import type { AddressSpace } from './address-space.ts';
import type { GuestMemory } from './guest-memory.ts';

/** A domain's memory as its own code has it: nothing here takes a machine frame from the caller. */
export class MemoryFace implements DomainMemory {
  readonly #memory: GuestMemory;
  readonly ramPages: number;
  readonly specialGfn: number;
  readonly grantGfn: number;
  readonly statusGfn: number;
  readonly slots: Memslots;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
    this.ramPages = memory.ramPages;
    this.specialGfn = memory.specialGfn;
    this.grantGfn = memory.grantGfn;
    this.statusGfn = memory.statusGfn;
    this.slots = memory.slots;
  }

  get populated(): number {
    return this.#memory.populated;
  }
  frame(gfn: number): MemoryFrame {
    return this.#memory.frame(gfn);
  }
  locate(gfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void {
    this.#memory.locate(gfn, writable, out);
  }
  mfnOf(gfn: number, writing: boolean): number {
    return this.#memory.mfnOf(gfn, writing);
  }
  read(address: number, into: Uint8Array): void {
    this.#memory.read(address, into);
  }
  write(address: number, from: Uint8Array): void {
    this.#memory.write(address, from);
  }
  decrease(gfn: number): boolean {
    return this.#memory.decrease(gfn);
  }
  populate(gfn: number): boolean {
    return this.#memory.populate(gfn);
  }
  refresh(): number {
    return this.#memory.refresh();
  }
}

/** A domain's address space as its own code has it: ordinary mappings of its own frames, and reading through all of them. */
export class SpaceFace implements DomainSpace {
  readonly #space: AddressSpace;
  readonly domid: number;

  constructor(space: AddressSpace) {
    this.#space = space;
    this.domid = space.domid;
  }

  get views(): MemoryViews {
    return this.#space.views;
  }
  get pages(): number {
    return this.#space.pages;
  }
  resolve(vfn: number, writing: boolean): number {
    return this.#space.resolve(vfn, writing);
  }
  locate(vfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void {
    this.#space.locate(vfn, writable, out);
  }
  locateAll(vfns: readonly number[], writable: Uint8Array, count: number, offsets: number[]): MemoryViews | undefined {
    return this.#space.locateAll(vfns, writable, count, offsets);
  }
  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean {
    return this.#space.map(vfn, mfn, count, flags);
  }
  unmap(vfn: number, count: number): void {
    this.#space.unmap(vfn, count);
  }
  translate(vfn: number): number {
    return this.#space.translate(vfn);
  }
  read(address: number | bigint, into: Uint8Array): void {
    this.#space.read(address, into);
  }
  write(address: number | bigint, from: Uint8Array): void {
    this.#space.write(address, from);
  }
}
