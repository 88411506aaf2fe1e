import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BlkfrontSurroundings } from '@paravirt/blkfront';
import type { EventBus } from '@paravirt/event-bus';
import type { Plugin } from '@paravirt/event-bus/contract';
import type { GrantTable } from '@paravirt/gnttab';
import type { Disk, DiskFilter, Machine, Random } from '@paravirt/hv-sim';
import type { StackEvents } from './compose.ts';
import { CliError, exitCodes, messageOf } from './errors.ts';

/** Bytes of the host through a guest's device, with callbacks. Offsets and lengths are multiples of the sector. */
export interface ByteDevice {
  read(offset: number, target: Uint8Array, done: (errno: number) => void): void;
  write(offset: number, source: Uint8Array, fua: boolean, done: (errno: number) => void): void;
  flush(done: (errno: number) => void): void;
  discard(offset: number, bytes: number, done: (errno: number) => void): void;
  writeZeroes(offset: number, bytes: number, done: (errno: number) => void): void;
  /** Submits what was handed over and has room; true when anything was. */
  move(): boolean;
}

/** What a device tells of its disk. */
export interface DriverInfo {
  /** Of 512 bytes. */
  readonly sectors: number;
  readonly sectorBytes: number;
  readonly readonly: boolean;
  readonly discard: boolean;
}

/** A frontend of somebody else's, as the command line drives it. */
export interface GuestDriver {
  /** Connects; may wait by the `waitFor` of its surroundings. */
  connectSync(): DriverInfo;
  closeSync(): void;
  readonly bytes: ByteDevice;
}

/** What a driver is given besides its number: the surroundings of a blkfront, and the bus of everything. */
export type DriverDeps = Omit<BlkfrontSurroundings, 'grants' | 'bus'> & {
  readonly grants: GrantTable;
  readonly bus: EventBus<StackEvents>;
};

/** What a module of `--plugin` may export; each under the name by which flags ask for it. */
export interface PluginModule {
  /** `--disk NAME:ARGUMENT` */
  readonly disks?: Readonly<Record<string, (argument: string, given: { readonly random: Random }) => Disk>>;
  /** `--filter NAME=ARGUMENT` */
  readonly filters?: Readonly<
    Record<
      string,
      (
        inner: Disk,
        given: { readonly argument: string; readonly random: Random; readonly machine: Pick<Machine, 'scheduler'> },
      ) => DiskFilter
    >
  >;
  /** `--driver NAME` */
  readonly drivers?: Readonly<Record<string, (options: { readonly device: number }) => Plugin<DriverDeps, GuestDriver>>>;
}

/** Everything that plugins brought, by name. */
export type Extensions = Required<PluginModule>;

export const noExtensions: Extensions = { disks: {}, filters: {}, drivers: {} };

const kinds = ['disks', 'filters', 'drivers'] as const;

/** Loads `--plugin` modules. @throws {CliError} naming the module and what is wrong with it. */
export async function loadPlugins(paths: readonly string[]): Promise<Extensions> {
  const all: { disks: Record<string, never>; filters: Record<string, never>; drivers: Record<string, never> } = {
    disks: {},
    filters: {},
    drivers: {},
  };
  for (const path of paths) {
    // Node would tell which file of ours asked for it.
    if (!existsSync(path)) throw new CliError(`--plugin ${path}: no such file or directory`, exitCodes.usage);
    let module: Record<string, unknown>;
    try {
      module = (await import(pathToFileURL(resolve(path)).href)) as Record<string, unknown>;
    } catch (error) {
      throw new CliError(`--plugin ${path}: ${messageOf(error)}`, exitCodes.usage, { cause: error });
    }
    const source = (typeof module['default'] === 'object' && module['default'] !== null ? module['default'] : module) as Record<
      string,
      unknown
    >;
    let found = 0;
    for (const kind of kinds) {
      for (const [name, make] of Object.entries(source[kind] ?? {})) {
        if (typeof make !== 'function') throw new CliError(`--plugin ${path}: ${kind}.${name} is no function`, exitCodes.usage);
        if (Object.hasOwn(all[kind], name)) throw new CliError(`--plugin ${path}: ${kind}.${name} is there already`, exitCodes.usage);
        Object.assign(all[kind], { [name]: make });
        found += 1;
      }
    }
    if (found === 0) throw new CliError(`--plugin ${path}: it exports none of ${kinds.join(', ')}`, exitCodes.usage);
  }
  return all;
}

/** The driver that `--driver` names. @throws {CliError} naming the drivers there are. */
export function driverOf(extensions: Extensions, name: string | undefined): { driver?: Extensions['drivers'][string] } {
  if (name === undefined) return {};
  const driver = extensions.drivers[name];
  if (driver) return { driver };
  const names = Object.keys(extensions.drivers);
  throw new CliError(
    `--driver ${name}: no plugin brought it; ${names.length === 0 ? 'give --plugin PATH' : `there are ${names.join(', ')}`}`,
    exitCodes.usage,
  );
}
