import {
  GRANT_STATUS_PER_FRAME,
  GRANT_V1_BYTES,
  GRANT_V1_PER_FRAME,
  GRANT_V2_BYTES,
  GRANT_V2_PER_FRAME,
  GTF,
  grantDomid,
  grantFlags,
  grantStatus,
  grantV1Frame,
  grantV2Arm,
  grantV2FrameHi,
  grantV2FrameLo,
  grantV2Length,
  grantV2PageOffset,
  grantV2TransDomid,
  grantV2TransGref,
  type MemoryPage,
  pagesOfBytes,
} from '@paravirt/xen-abi';
import type { DumpedTable } from './debug-key.ts';
import type { CaptureFiles } from './files.ts';
import type { Report } from './problems.ts';
import type { CaptureReport, GrantEntryReport } from './types.ts';

/** An entry as the hypervisor would judge it. */
export interface GrantEntry {
  readonly ref: number;
  readonly flags: number;
  /** GTF_reading and GTF_writing: version 1 has them in the flags. */
  readonly status: number;
  readonly domid: number;
  readonly frame: bigint;
  readonly nonZero: boolean;
}

const TYPES = ['invalid', 'permit_access', 'accept_transfer', 'transitive'] as const;
const USED = GTF.reading | GTF.writing;

/** A guest's grant table, out of the frames that were captured. */
export class GrantTable {
  readonly version: 1 | 2;
  readonly frameFiles: readonly string[];
  readonly statusFiles: readonly string[];
  /** References the captured frames hold: 0 to this, but for frames that are missing. */
  readonly references: number;
  private readonly frames: ReadonlyMap<number, MemoryPage>;
  private readonly statuses: ReadonlyMap<number, MemoryPage>;
  private readonly backend: number;

  constructor(
    version: 1 | 2,
    backend: number,
    frames: ReadonlyMap<number, [string, MemoryPage]>,
    statuses: ReadonlyMap<number, [string, MemoryPage]>,
  ) {
    this.version = version;
    this.backend = backend;
    this.frameFiles = [...frames.values()].map(([file]) => file);
    this.statusFiles = [...statuses.values()].map(([file]) => file);
    this.frames = new Map([...frames].map(([number, [, page]]) => [number, page]));
    this.statuses = new Map([...statuses].map(([number, [, page]]) => [number, page]));
    this.references = (Math.max(-1, ...frames.keys()) + 1) * this.perFrame;
  }

  get perFrame(): number {
    return this.version === 1 ? GRANT_V1_PER_FRAME : GRANT_V2_PER_FRAME;
  }

  /** Null when its frame was not captured. */
  entry(ref: number): GrantEntry | null {
    const page = this.frames.get(Math.floor(ref / this.perFrame));
    if (!page) return null;
    const { views } = page;
    const bytes = this.version === 1 ? GRANT_V1_BYTES : GRANT_V2_BYTES;
    const at = page.offset + (ref % this.perFrame) * bytes;
    const flags = grantFlags(views, at);
    const status = this.version === 1 ? flags & USED : this.status(ref);
    const frame =
      this.version === 1 ? BigInt(grantV1Frame(views, at)) : (BigInt(grantV2FrameHi(views, at)) << 32n) | BigInt(grantV2FrameLo(views, at));
    const nonZero = status !== 0 || views.u8.subarray(at, at + bytes).some((byte) => byte !== 0);
    return { ref, flags, status, domid: grantDomid(views, at), frame, nonZero };
  }

  private status(ref: number): number {
    const page = this.statuses.get(Math.floor(ref / GRANT_STATUS_PER_FRAME));
    return page ? grantStatus(page.views, page.offset + (ref % GRANT_STATUS_PER_FRAME) * 2) : 0;
  }

  /**
   * Whether the backend may use the reference. With persistent grants of version 2 a frontend clears the header's flags while
   * the backend still maps the page, and uses the reference again: the status then says so.
   */
  granted(ref: number): boolean {
    const entry = this.entry(ref);
    if (!entry || entry.domid !== this.backend) return false;
    const type = entry.flags & GTF.type_mask;
    if (type === GTF.permit_access || type === GTF.transitive) return true;
    return this.version === 2 && type === GTF.invalid && (entry.status & USED) !== 0;
  }

  /** Whether the entry says that somebody maps it now. */
  mapped(ref: number): boolean {
    return ((this.entry(ref)?.status ?? 0) & USED) !== 0;
  }

  frameText(ref: number): string | null {
    const entry = this.entry(ref);
    return entry ? `0x${entry.frame.toString(16)}` : null;
  }

  *entries(): Generator<GrantEntry> {
    for (const number of this.frames.keys()) {
      for (let i = 0; i < this.perFrame; i++) {
        const entry = this.entry(number * this.perFrame + i);
        if (entry?.nonZero) yield entry;
      }
    }
  }

  private reportOf(entry: GrantEntry, dump: DumpedTable | null): GrantEntryReport {
    const { ref, flags, status, domid, frame } = entry;
    const common = {
      type: TYPES[flags & GTF.type_mask]!,
      readonly: (flags & GTF.readonly) !== 0,
      reading: (status & GTF.reading) !== 0,
      writing: (status & GTF.writing) !== 0,
      domid,
      frame: `0x${frame.toString(16)}`,
      activePin: dump?.active.get(ref)?.pin ?? null,
    };
    if (this.version === 1) return { ref, flags, ...common };
    return { ref, hdrFlags: flags, status, ...common, ...this.armOf(ref, flags) };
  }

  private armOf(ref: number, flags: number): Partial<GrantEntryReport> {
    const page = this.frames.get(Math.floor(ref / this.perFrame))!;
    const at = page.offset + (ref % this.perFrame) * GRANT_V2_BYTES;
    const arm = grantV2Arm(flags);
    if (arm === 'sub_page') return { pageOffset: grantV2PageOffset(page.views, at), length: grantV2Length(page.views, at) };
    if (arm === 'transitive') return { transDomid: grantV2TransDomid(page.views, at), transRef: grantV2TransGref(page.views, at) };
    return {};
  }

  report(
    dump: DumpedTable | null,
  ): Pick<CaptureReport, 'grantTableVersion' | 'grantFrames' | 'statusFrames' | 'grantEntryCounts' | 'grantEntries'> {
    const found = [...this.entries()];
    return {
      grantTableVersion: this.version,
      grantFrames: this.frameFiles.map((file) => ({ file })),
      ...(this.version === 2 ? { statusFrames: this.statusFiles.map((file) => ({ file })) } : {}),
      grantEntryCounts: {
        nonZero: found.length,
        valid: found.filter(({ flags }) => (flags & GTF.type_mask) !== GTF.invalid).length,
        activeInDump: dump ? dump.active.size : null,
      },
      grantEntries: found.map((entry) => this.reportOf(entry, dump)),
    };
  }
}

function numberedPages(files: CaptureFiles, pattern: RegExp, what: string): Map<number, [string, MemoryPage]> {
  const pages = new Map<number, [string, MemoryPage]>();
  for (const [file, number] of files.numbered(pattern)) {
    const bytes = files.pages(file, what, 1, 1);
    if (bytes) pages.set(number!, [file, pagesOfBytes(bytes)[0]!]);
  }
  return pages;
}

/** The table out of the capture's frames; its version is 2 where there are status frames or the hypervisor says so. */
export function readGrantTable(files: CaptureFiles, backend: number, dump: DumpedTable | null, report: Report): GrantTable {
  const frames = numberedPages(files, /^grant-frame-(\d+)\.bin$/, 'a grant frame');
  const statuses = numberedPages(files, /^status-frame-(\d+)\.bin$/, 'a status frame');
  const version = files.numbered(/^status-frame-(\d+)\.bin$/).length > 0 || dump?.version === 2 ? 2 : 1;
  const table = new GrantTable(version, backend, frames, statuses);
  if (dump && dump.version !== version) {
    report(
      'gnttab-debugkey.txt',
      'hypervisor',
      `the dump has a version ${dump.version} table; the status frames make it version ${version}`,
    );
  }
  if (version === 2 && statuses.size === 0)
    report('', 'unreadable', 'a version 2 table without status-frame-0.bin: who maps what is not known');
  for (let number = 0; number < table.references / table.perFrame; number++) {
    if (!frames.has(number)) report(`grant-frame-${number}.bin`, 'unreadable', 'missing, though later frames are there');
  }
  if (frames.size === 0) report('', 'unreadable', 'no grant frame: references cannot be checked');
  if (dump?.frames !== null && dump !== null && frames.size > 0 && dump.frames !== frames.size) {
    report('gnttab-debugkey.txt', 'hypervisor', `the dump says ${dump.frames} frames; ${frames.size} were captured`);
  }
  return table;
}

/** What of the table contradicts the hypervisor's dump, and entries that no driver writes. */
export function checkGrantTable(table: GrantTable, dump: DumpedTable | null, report: Report): void {
  const known = table.version === 1 ? 0x00ff : 0x01ff;
  for (const { ref, flags, status, domid } of table.entries()) {
    const file = table.frameFiles[Math.floor(ref / table.perFrame)] ?? '';
    if ((flags & ~known) !== 0) report(file, 'reference', `entry ${ref} has flags 0x${flags.toString(16)}: bits that mean nothing`);
    else if ((flags & GTF.type_mask) !== GTF.invalid && domid > 0x7ff0) {
      report(file, 'reference', `entry ${ref} grants to domain ${domid}, which cannot be`);
    }
    if (table.version === 2 && (status & ~USED) !== 0) {
      report(table.statusFiles[0] ?? '', 'reference', `entry ${ref} has status 0x${status.toString(16)}: bits that mean nothing`);
    }
  }
  if (!dump || table.references === 0) return;
  for (const active of dump.active.values()) {
    const entry = table.entry(active.ref);
    const say = (message: string): void => report('gnttab-debugkey.txt', 'hypervisor', `entry ${active.ref} ${message}`);
    if (!entry) {
      say('is mapped according to the dump, but its frame was not captured');
      continue;
    }
    if (entry.frame !== BigInt(active.gmfn)) say(`has frame 0x${entry.frame.toString(16)}, the dump has 0x${active.gmfn.toString(16)}`);
    if (entry.domid !== active.sharedDomid) say(`grants to domain ${entry.domid}, the dump has ${active.sharedDomid}`);
    const shown = table.version === 1 ? entry.flags : entry.status;
    if (shown !== active.flags) say(`has flags 0x${shown.toString(16)}, the dump has 0x${active.flags.toString(16)}`);
    // The pin word counts, from its low byte on: host writable, host read-only, device writable, device read-only.
    const pin = Number(active.pin);
    if ((pin & 0x00ff_00ff) !== 0 && (entry.flags & GTF.readonly) !== 0) say(`is read-only and mapped writable (pin ${active.pin})`);
    if (pin === 0) say('is listed as active with no pin');
  }
}
