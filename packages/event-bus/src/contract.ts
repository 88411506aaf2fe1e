/**
 * What a plugin and its host agree on: the brands that keep numbers apart, the shape of a plugin, and `invariant`.
 * This is the only home of brands; a package that needs one imports it from here as a type.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** A domain's number, 0 to 0x7fef (DOMID_FIRST_RESERVED - 1). */
export type DomId = Branded<'DomId'>;
/** A guest frame number: a page of 4096 bytes in one domain's own physical address space. Exact up to 2^52. */
export type Gfn = Branded<'Gfn'>;
/** A machine frame number: a page of 4096 bytes of the host's memory. */
export type Mfn = Branded<'Mfn'>;
/** A virtual frame number: a page of 4096 bytes in one domain's virtual address space. */
export type Vfn = Branded<'Vfn'>;
/** An entry number in one domain's grant table; never a byte offset. */
export type Gref = Branded<'Gref'>;
/** The hypervisor's name for one mapping of a grant. */
export type GrantHandle = Branded<'GrantHandle'>;
/** A domain's end of an event channel. */
export type Port = Branded<'Port'>;
/** A memory slot's id within its address space. */
export type SlotId = Branded<'SlotId'>;

function checked<T>(what: string, value: number, max: number): T {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${what} is ${value}; allowed is a whole number from 0 to ${max}`);
  }
  return value as T;
}

/** @throws {RangeError} unless `value` is a whole number from 0 to 0x7fff (reserved domids such as DOMID_SELF included). */
export const domId = (value: number): DomId => checked('domid', value, 0x7fff);
/** @throws {RangeError} unless `value` is a whole number from 0 to 2^52 - 1. */
export const gfn = (value: number): Gfn => checked('gfn', value, 2 ** 52 - 1);
/** @throws {RangeError} unless `value` is a whole number from 0 to 2^52 - 1. */
export const mfn = (value: number): Mfn => checked('mfn', value, 2 ** 52 - 1);
/** @throws {RangeError} unless `value` is a whole number from 0 to 2^52 - 1. */
export const vfn = (value: number): Vfn => checked('vfn', value, 2 ** 52 - 1);
/** @throws {RangeError} unless `value` is an unsigned 32-bit number. */
export const gref = (value: number): Gref => checked('gref', value, 0xffff_ffff);
/** @throws {RangeError} unless `value` is an unsigned 32-bit number. */
export const port = (value: number): Port => checked('port', value, 0xffff_ffff);
/** @throws {RangeError} unless `value` is a whole number from 0 to 65535. */
export const slotId = (value: number): SlotId => checked('slot id', value, 0xffff);

/** A plugin that is attached: what it offers, and how to take it off again. */
export interface Attached<Api> {
  readonly api: Api;
  /** Gives back everything the plugin holds. Called once. */
  detach(): void;
}

/**
 * A part that a host attaches: options are given to the factory that made the record, dependencies come with `attach`.
 * `requires` repeats the keys of `Deps` as data, so that a host can name what is missing before it attaches.
 */
export interface Plugin<Deps extends object, Api> {
  readonly name: string;
  readonly requires: readonly (keyof Deps & string)[];
  /** Either attaches whole or throws with everything undone. */
  attach(deps: Deps): Attached<Api>;
}

/** A broken promise inside the program: never a refusal, never caught on the way; whoever runs the queue rethrows it and stops. */
export class InvariantError extends Error {
  override readonly name = 'InvariantError';
}

/**
 * Stops the run when `condition` does not hold. The message is a thunk, because building a string costs more than the check.
 * @throws {InvariantError}
 */
export function invariant(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new InvariantError(message());
}

/** Of what a plugin requires, the names that `deps` lacks, in the plugin's order. A host refuses to attach unless it is empty. */
export function missing<Deps extends object>(plugin: Pick<Plugin<Deps, unknown>, 'requires'>, deps: object): (keyof Deps & string)[] {
  return plugin.requires.filter((name) => (deps as Record<string, unknown>)[name] === undefined);
}
