import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { CliError, exitCodes, fileError, systemReason } from '../errors.ts';
import type { Problems } from './problems.ts';

/** A folder of one moment: the files of a capture, the traces of a guest, or both. */
export interface CaptureFolder {
  /** As it is named in the output: its path below the folder of captures. */
  readonly name: string;
  readonly path: string;
  /** Without the `.gz` of those that are packed. */
  readonly files: readonly string[];
  /** Which of them lie there as `.gz`. */
  readonly packed: ReadonlySet<string>;
}

/** The name under which a file of a capture lies in its folder. */
export const nameOf = (folder: CaptureFolder, file: string): string => (folder.packed.has(file) ? `${file}.gz` : file);

const MOMENT_FILE = /^(grant-frame-\d+|status-frame-\d+|ring|vbd-\d+-queue-\d+|xenstore-ring)\.bin$|^(gnttab-debugkey|xenstore-ls)\.txt$/;
const TRACE_FILE = /^handshake-(.+)\.trace\.txt$/;

/** How far below the given folder captures are looked for, and how many names are read: a capture is small. */
const DEPTH_MAX = 4;
const NAMES_MAX = 20_000;
const TEXT_BYTES_MAX = 64 * 1024 * 1024;

export const isMoment = (folder: CaptureFolder): boolean => folder.files.some((file) => MOMENT_FILE.test(file));
export const tracesOf = (folder: CaptureFolder): [file: string, name: string][] =>
  folder.files.flatMap((file) => {
    const name = TRACE_FILE.exec(file)?.[1];
    return name === undefined ? [] : [[file, name]];
  });

function listFolder(path: string): { files: string[]; packed: Set<string>; folders: string[] } {
  const found: string[] = [];
  const folders: string[] = [];
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) folders.push(entry.name);
    else found.push(entry.name);
  }
  const plain = new Set(found.filter((name) => !name.endsWith('.gz')));
  const packed = new Set(found.filter((name) => name.endsWith('.gz')).map((name) => name.slice(0, -3)));
  // What lies there both ways is read as it is.
  for (const name of plain) packed.delete(name);
  return { files: [...plain, ...packed].sort(), packed, folders: folders.sort() };
}

/**
 * The captures under `dir`: a folder of one moment, of one guest, or of several guests.
 * @throws {CliError} exit code 2: no such folder, not a folder, or nothing of a capture in it.
 */
export function findCaptures(dir: string, problems: Problems): CaptureFolder[] {
  let top: string;
  try {
    if (!statSync(dir).isDirectory()) throw new CliError(`${dir}: not a folder; a folder of a capture is read`, exitCodes.usage);
    top = basename(realpathSync(dir));
  } catch (error) {
    throw error instanceof CliError ? error : fileError(dir, error, exitCodes.usage);
  }
  const found: CaptureFolder[] = [];
  let names = 0;
  const walk = (path: string, below: string[], depth: number): void => {
    let listing: ReturnType<typeof listFolder>;
    try {
      listing = listFolder(path);
    } catch (error) {
      if (depth === 0) throw fileError(dir, error, exitCodes.usage);
      problems.add(below.join('/'), '', 'unreadable', `cannot be listed: ${systemReason(error)}`);
      return;
    }
    names += listing.files.length + listing.folders.length;
    if (names > NAMES_MAX) {
      throw new CliError(`${dir}: more than ${NAMES_MAX} names below it; name the folder of the captures itself`, exitCodes.usage);
    }
    const folder = { name: below.join('/'), path, files: listing.files, packed: listing.packed };
    if (isMoment(folder) || tracesOf(folder).length > 0) found.push(folder);
    if (depth < DEPTH_MAX) for (const name of listing.folders) walk(join(path, name), [...below, name], depth + 1);
  };
  walk(dir, [], 0);
  if (found.length === 0) {
    const wanted = 'grant-frame-0.bin, ring.bin, xenstore-ls.txt, handshake-boot.trace.txt';
    throw new CliError(`${dir}: no capture in this folder (files such as ${wanted})`, exitCodes.usage);
  }
  // A folder of captures may say so itself, by the expectations at its top.
  const guest = !['expected.json', 'expected.json.gz'].some((file) => existsSync(join(dir, file))) && isGuestFolder(found);
  return found.map((folder) => ({ ...folder, name: folder.name === '' ? top : guest ? `${top}/${folder.name}` : folder.name }));
}

/**
 * Whether the folder itself is a guest, whose moments are then named below it: it holds files of its own, or only moments
 * lie in it, side by side, that share a guest's name. A folder of several guests holds neither.
 */
function isGuestFolder(found: readonly CaptureFolder[]): boolean {
  if (found.some((folder) => folder.name === '')) return true;
  const nested = found.some((folder) => folder.name.includes('/') || tracesOf(folder).length > 0);
  if (nested) return false;
  const guests = new Set(found.map((folder) => guestOf(folder)));
  return guests.size === 1 && !guests.has(null);
}

/** The guest a moment's store text names: its domain number and name. */
function guestOf(folder: CaptureFolder): string | null {
  if (!folder.files.includes('xenstore-ls.txt')) return null;
  try {
    const bytes = bytesOf(folder, 'xenstore-ls.txt', TEXT_BYTES_MAX);
    if (typeof bytes === 'string') return null;
    return /^\/local\/domain\/[1-9]\d*\/name = ".*"/m.exec(new TextDecoder().decode(bytes))?.[0] ?? null;
  } catch {
    return null;
  }
}

/** A file's bytes, unpacked; or why it is not read. Throws what the system says. */
function bytesOf(folder: CaptureFolder, file: string, most: number): Uint8Array | string {
  const path = join(folder.path, nameOf(folder, file));
  const stat = statSync(path);
  // A pipe would block for ever, and a device need not end.
  if (!stat.isFile()) return 'not a plain file';
  if (stat.size > most) return `${stat.size} bytes`;
  const bytes = readFileSync(path);
  if (!folder.packed.has(file)) return new Uint8Array(bytes);
  try {
    return new Uint8Array(gunzipSync(bytes, { maxOutputLength: most }));
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE') return `more than ${most} bytes`;
    throw error;
  }
}

/** Reads the files of one capture; what cannot be read becomes a problem and null. */
export class CaptureFiles {
  readonly folder: CaptureFolder;
  private readonly problems: Problems;
  constructor(folder: CaptureFolder, problems: Problems) {
    this.folder = folder;
    this.problems = problems;
  }

  has(file: string): boolean {
    return this.folder.files.includes(file);
  }

  /** The files whose names match, with the pattern's numbers, in order of those. */
  numbered(pattern: RegExp): [file: string, ...numbers: number[]][] {
    const found = this.folder.files.flatMap((file): [string, ...number[]][] => {
      const match = pattern.exec(file);
      return match ? [[file, ...match.slice(1).map(Number)]] : [];
    });
    return found.sort((a, b) => Number(a[1]) - Number(b[1]) || Number(a[2] ?? 0) - Number(b[2] ?? 0));
  }

  /** Whole pages: `min` to `max` of them. */
  pages(file: string, what: string, min: number, max: number): Uint8Array | null {
    const wanted = min === max ? `${min * 4096}` : `a multiple of 4096, up to ${max * 4096}`;
    const bytes = this.read(file, max * 4096, `${what} has ${wanted}`);
    if (bytes === null) return null;
    if (bytes.length % 4096 === 0 && bytes.length >= min * 4096) return bytes;
    return this.refuse(file, `${bytes.length} bytes; ${what} has ${wanted}`);
  }

  text(file: string): string | null {
    const bytes = this.read(file, TEXT_BYTES_MAX, `at most ${TEXT_BYTES_MAX} are read`);
    return bytes === null ? null : new TextDecoder('utf-8').decode(bytes).replaceAll('\r', '');
  }

  private read(file: string, most: number, otherwise: string): Uint8Array | null {
    try {
      const bytes = bytesOf(this.folder, file, most);
      if (typeof bytes !== 'string') return bytes;
      return this.refuse(file, bytes.endsWith('bytes') ? `${bytes}; ${otherwise}` : bytes);
    } catch (error) {
      return this.refuse(file, systemReason(error));
    }
  }

  private refuse(file: string, message: string): null {
    this.problems.add(this.folder.name, nameOf(this.folder, file), 'unreadable', message);
    return null;
  }
}
