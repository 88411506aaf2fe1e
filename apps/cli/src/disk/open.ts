import {
  corruptFilter,
  createRandom,
  type Disk,
  type DiskFaultCount,
  type DiskFilter,
  delayFilter,
  diskFaults,
  errorFilter,
  type Machine,
  memoryDisk,
  nullDisk,
  type OpStats,
  type Random,
  readonlyFilter,
  type StatsFilter,
  statsFilter,
  tornFilter,
  volatileCacheFilter,
} from '@paravirt/hv-sim';
import { cowFileDisk, fileDisk, sparseDisk } from '@paravirt/hv-sim/node';
import { CliError, exitCodes, fileError, messageOf } from '../errors.ts';
import { type Extensions, noExtensions } from '../plugins.ts';
import { type DiskSpec, type FilterSpec, parseDisk, parseFilter } from './spec.ts';

export interface DiskRequest {
  /** As `--disk`. */
  readonly disk: string;
  /** As `--filter`, the one next to the disk first. */
  readonly filters: readonly string[];
  readonly seed: number | string;
  /** What plugins brought. */
  readonly extensions?: Extensions;
}

/** A disk in front of which filters are put once there is a machine whose time they run in. */
export interface OpenedDisk {
  /** The disk without filters. */
  readonly base: Disk;
  /** Puts the filters in front; the outermost is what is attached. */
  build(machine: Pick<Machine, 'scheduler'>): Disk;
  /** Filters by the text that asked for them, outermost last; after `build`. */
  readonly filters: readonly { readonly name: string; readonly filter: DiskFilter }[];
  /** What faults were asked for, met and fired. */
  faults(): readonly DiskFaultCount[];
  close(): void;
}

function openBase(spec: DiskSpec): Disk {
  switch (spec.kind) {
    case 'mem':
      return memoryDisk({ sizeBytes: spec.bytes });
    case 'null':
      return nullDisk({ sizeBytes: spec.bytes });
    case 'file':
      return fileDisk({ path: spec.path, ...(spec.bytes !== undefined && { sizeBytes: spec.bytes, create: true }) });
    case 'sparse':
      return sparseDisk({ path: spec.path, ...(spec.bytes !== undefined && { sizeBytes: spec.bytes, create: true }) });
    case 'cow':
      return cowFileDisk({ path: spec.path, ...(spec.bytes !== undefined && { sizeBytes: spec.bytes }) });
  }
}

function filterOf(spec: FilterSpec, inner: Disk, machine: Pick<Machine, 'scheduler'>, random: Random): DiskFilter {
  switch (spec.kind) {
    case 'delay':
      return delayFilter(inner, {
        scheduler: machine.scheduler,
        readTicks: spec.readMs,
        writeTicks: spec.writeMs,
        flushTicks: spec.flushMs,
        discardTicks: spec.discardMs,
      });
    case 'error':
      return errorFilter(inner, { rules: [{ op: spec.on, probability: spec.rate }], random });
    case 'corrupt':
      return corruptFilter(inner, { rules: [{ op: spec.on, probability: spec.rate }], random });
    case 'torn':
      return tornFilter(inner, { rules: [{ op: 'write', probability: spec.rate }], random });
    case 'stats':
      return statsFilter(inner);
    case 'readonly':
      return readonlyFilter(inner);
    case 'volatile-cache':
      return volatileCacheFilter(inner, { random });
  }
}

type MakeFilter = (inner: Disk, machine: Pick<Machine, 'scheduler'>, random: Random) => DiskFilter;

function builtInFilter(spec: FilterSpec): MakeFilter {
  return (inner, machine, random) => filterOf(spec, inner, machine, random);
}

function pluginFilter(own: Extensions['filters'][string], name: string): MakeFilter {
  const argument = name.slice(name.split('=')[0]?.length ?? 0).replace(/^=/, '');
  return (inner, machine, random) => own(inner, { argument, random, machine });
}

/** One kind of operation as a `stats` filter counted it. Keys of `sizes` are bytes: calls from that size up to below twice that. */
export interface OperationCounts {
  readonly calls: number;
  readonly bytes: number;
  readonly errors: number;
  readonly sizes: Readonly<Record<string, number>>;
}

/** A filter, whether it is on, and what it counted where it counts. */
export interface FilterReport {
  readonly name: string;
  readonly enabled: boolean;
  readonly counts?: Readonly<Record<'read' | 'write' | 'flush' | 'discard' | 'zero', OperationCounts>>;
}

function countsOf({ calls, bytes, errors, sizes }: OpStats): OperationCounts {
  const bySize = [...sizes].map((count, power) => [String(2 ** power), count] as const).filter(([, count]) => count > 0);
  return { calls, bytes, errors, sizes: Object.fromEntries(bySize) };
}

/** What the filters of a disk tell of themselves. */
export function filterReports(disk: OpenedDisk): readonly FilterReport[] {
  return disk.filters.map(({ name, filter }) => {
    const { stats } = filter as Partial<StatsFilter>;
    const { enabled } = filter;
    if (stats === undefined) return { name, enabled };
    const { read, write, flush, discard, zero } = stats;
    return {
      name,
      enabled,
      counts: { read: countsOf(read), write: countsOf(write), flush: countsOf(flush), discard: countsOf(discard), zero: countsOf(zero) },
    };
  });
}

/** Opens what `--disk` and `--filter` say. @throws {CliError} naming the file or the option. */
export function openDisk(request: DiskRequest): OpenedDisk {
  const { disks, filters: ownFilters } = request.extensions ?? noExtensions;
  const random = createRandom(request.seed);
  const [ownName, ...argument] = request.disk.split(':');
  const ownDisk = disks[ownName as string];
  const spec = ownDisk ? undefined : parseDisk(request.disk);
  const specs = request.filters.map((name) => {
    const own = ownFilters[name.split('=')[0] as string];
    return { name, make: own ? pluginFilter(own, name) : builtInFilter(parseFilter(name)) };
  });
  let base: Disk;
  try {
    base = spec
      ? openBase(spec)
      : (ownDisk as NonNullable<typeof ownDisk>)(argument.join(':'), { random: random.split(`disk ${request.disk}`) });
  } catch (error) {
    if (spec && 'path' in spec) throw fileError(spec.path, (error as { cause?: unknown }).cause ?? error, exitCodes.usage);
    throw new CliError(`--disk ${request.disk}: ${messageOf(error)}`, exitCodes.usage, {
      cause: error,
    });
  }
  const filters: { name: string; filter: DiskFilter }[] = [];
  let outermost = base;
  return {
    base,
    filters,
    build(machine) {
      for (const [index, { name, make }] of specs.entries()) {
        const filter = make(outermost, machine, random.split(`filter ${index} ${name}`));
        filters.push({ name, filter });
        outermost = filter;
      }
      return outermost;
    },
    faults: () => diskFaults(outermost),
    close: () => outermost.close(),
  };
}
