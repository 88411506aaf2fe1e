/// <reference types="node" />
import { closeSync, constants, fdatasyncSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { MemoryViews } from '@paravirt/gnttab';
import { DISK_ERRNO, type ResizableDisk } from '../disk.ts';
import { DiskBase } from '../disk-base.ts';
import { checkedBytes, checkedFlag, checkedSector, DiskError } from '../errors.ts';

const SIZE_MAX: number = 2 ** 50;
/** Bytes that an unbuffered transfer moves at once. */
const BOUNCE_BYTES = 1 << 20;
const WASM_PAGE_BYTES = 65_536;

/** Options of `fileDisk`, `sparseDisk` and `cowFileDisk`. */
export interface FileDiskOptions {
  readonly path: string;
  /** Size of the disk. A file that is shorter is made longer, with a hole; one that is longer stays. Default: the file's, rounded up to sectors. */
  readonly sizeBytes?: number;
  /** Default 512. */
  readonly sectorBytes?: number;
  /** Opens the file for reading only. Default false. */
  readonly readonly?: boolean;
  /** Makes the file if there is none; `sizeBytes` must be given. Default false. */
  readonly create?: boolean;
  /** Bypasses the host's cache (O_DIRECT). Sectors must be as large as the host's. Default false. */
  readonly direct?: boolean;
}

/** The errno of what the file system threw, negated; -EIO where it has none. */
export function errnoOf(error: unknown): number {
  const errno = (error as { errno?: unknown }).errno;
  return typeof errno === 'number' && errno < 0 ? errno : -DISK_ERRNO.EIO;
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : String(error);
}

/**
 * Memory that starts on a page boundary, which O_DIRECT needs: only a WebAssembly memory does. Its type is not in this package's
 * library, so it is named here.
 */
function alignedBytes(bytes: number): Uint8Array {
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { Memory: new (options: { initial: number }) => { readonly buffer: ArrayBuffer } };
  };
  return new Uint8Array(new WebAssembly.Memory({ initial: Math.ceil(bytes / WASM_PAGE_BYTES) }).buffer, 0, bytes);
}

/** What file disks have in common: an open file, read and written by synchronous calls straight into memory. */
export abstract class OpenFile extends DiskBase implements ResizableDisk {
  abstract override readonly name: string;
  readonly readonly: boolean;
  readonly volatileCache = true;
  readonly fua = true;
  protected readonly fd: number;
  protected readonly path: string;
  private readonly bounce: Uint8Array | undefined;

  constructor(what: string, options: FileDiskOptions, discardBytes?: number) {
    const sector = checkedSector(what, 'sectorBytes', options.sectorBytes ?? 512);
    const { path } = options;
    const readonly = checkedFlag(what, 'readonly', options.readonly ?? false);
    const create = checkedFlag(what, 'create', options.create ?? false);
    const direct = checkedFlag(what, 'direct', options.direct ?? false);
    if (options.sizeBytes !== undefined) checkedBytes(what, 'sizeBytes', options.sizeBytes, sector, SIZE_MAX, sector);
    else if (create)
      throw new DiskError({ code: 'bad-option', disk: what, option: 'sizeBytes', value: 'missing', allowed: 'a size with create' });
    let flags = readonly ? constants.O_RDONLY : constants.O_RDWR;
    if (create) flags |= constants.O_CREAT;
    if (direct) flags |= constants.O_DIRECT;
    let fd: number;
    try {
      fd = openSync(path, flags, 0o644);
    } catch (error) {
      throw new DiskError({ code: 'bad-file', disk: what, path, reason: codeOf(error) }, { cause: error });
    }
    let size: number;
    let bounce: Uint8Array | undefined;
    try {
      size = openSize(what, fd, options, sector, readonly);
      if (direct) {
        bounce = alignedBytes(BOUNCE_BYTES);
        // A file system may take the flag and refuse the transfer: better now than at the first request.
        readSync(fd, bounce, 0, sector, 0);
      }
    } catch (error) {
      closeSync(fd);
      if (error instanceof DiskError) throw error;
      throw new DiskError({ code: 'bad-file', disk: what, path, reason: codeOf(error) }, { cause: error });
    }
    super(size, sector, sector, discardBytes ?? sector);
    this.readonly = readonly;
    this.fd = fd;
    this.path = path;
    this.bounce = bounce;
  }

  override read(views: MemoryViews, address: number, offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    try {
      this.readAt(views.u8, address, offset, bytes);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  override write(views: MemoryViews, address: number, offset: number, bytes: number, _waiter: unknown, fua: boolean): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    try {
      this.writeAt(views.u8, address, offset, bytes);
      if (fua) fdatasyncSync(this.fd);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  override flush(): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return 0;
    try {
      fdatasyncSync(this.fd);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  /** @throws {DiskError} `bad-option`, `bad-file`, `closed`. */
  resize(sizeBytes: number): void {
    checkedBytes(this.name, 'sizeBytes', sizeBytes, this.sectorBytes, SIZE_MAX, this.sectorBytes);
    if (this.closed) throw new DiskError({ code: 'closed', disk: this.name });
    try {
      ftruncateSync(this.fd, sizeBytes);
    } catch (error) {
      throw new DiskError({ code: 'bad-file', disk: this.name, path: this.path, reason: codeOf(error) }, { cause: error });
    }
    this.setSize(sizeBytes);
  }

  override close(): void {
    if (this.closed) return;
    super.close();
    closeSync(this.fd);
  }

  /** Reads whole, with zeroes behind the end of the file. Throws what the host throws. */
  protected readAt(into: Uint8Array, address: number, offset: number, bytes: number): void {
    let done = 0;
    while (done < bytes) {
      const bounce = this.bounce;
      const want = bounce === undefined ? bytes - done : Math.min(bytes - done, bounce.length);
      const got =
        bounce === undefined
          ? readSync(this.fd, into, address + done, want, offset + done)
          : readSync(this.fd, bounce, 0, want, offset + done);
      if (got === 0) {
        into.fill(0, address + done, address + bytes);
        return;
      }
      if (bounce !== undefined) into.set(bounce.subarray(0, got), address + done);
      done += got;
    }
  }

  /** Writes whole. Throws what the host throws. */
  protected writeAt(from: Uint8Array, address: number, offset: number, bytes: number): void {
    let done = 0;
    while (done < bytes) {
      const bounce = this.bounce;
      if (bounce === undefined) {
        done += writeSync(this.fd, from, address + done, bytes - done, offset + done);
        continue;
      }
      const want = Math.min(bytes - done, bounce.length);
      bounce.set(from.subarray(address + done, address + done + want));
      done += writeSync(this.fd, bounce, 0, want, offset + done);
    }
  }
}

function openSize(what: string, fd: number, options: FileDiskOptions, sector: number, readonly: boolean): number {
  const { path, sizeBytes } = options;
  const stat = fstatSync(fd);
  if (stat.isBlockDevice()) {
    if (sizeBytes === undefined) {
      throw new DiskError({ code: 'bad-option', disk: what, option: 'sizeBytes', value: 'missing', allowed: 'a size for a block device' });
    }
    return sizeBytes;
  }
  if (!stat.isFile()) throw new DiskError({ code: 'bad-file', disk: what, path, reason: stat.isDirectory() ? 'EISDIR' : 'not a file' });
  const size = sizeBytes ?? Math.ceil(stat.size / sector) * sector;
  if (size === 0) throw new DiskError({ code: 'bad-file', disk: what, path, reason: 'it is empty' });
  if (stat.size < size && sizeBytes !== undefined) {
    if (readonly)
      throw new DiskError({ code: 'bad-option', disk: what, option: 'sizeBytes', value: String(size), allowed: `at most ${stat.size}` });
    ftruncateSync(fd, size);
  }
  return size;
}

const ZEROES_BYTES = 1 << 16;

class FileDisk extends OpenFile {
  readonly name = 'file';
  readonly discards = false;
  readonly secureDiscards = false;
  private zeroes: Uint8Array | undefined;

  constructor(options: FileDiskOptions) {
    super('file disk', options);
  }

  override discard(): number {
    return -DISK_ERRNO.EOPNOTSUPP;
  }

  override writeZeroes(offset: number, bytes: number): number {
    if (this.closed) return -DISK_ERRNO.EBADF;
    if (this.readonly) return -DISK_ERRNO.EROFS;
    this.zeroes ??= new Uint8Array(ZEROES_BYTES);
    try {
      for (let done = 0; done < bytes; done += ZEROES_BYTES) {
        this.writeAt(this.zeroes, 0, offset + done, Math.min(ZEROES_BYTES, bytes - done));
      }
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }
}

/**
 * Makes a disk of a raw file, byte for byte, by synchronous calls. A last sector that the file does not fill reads as zeroes behind its
 * end, and a write there makes the file longer. `flush` is fdatasync; closing does not flush.
 * @throws {DiskError} `bad-option`, `bad-file`.
 */
export function fileDisk(options: FileDiskOptions): ResizableDisk {
  return new FileDisk(options);
}
