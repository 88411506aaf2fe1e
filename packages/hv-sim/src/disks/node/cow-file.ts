import { type CowDisk, cowDisk } from '../cow-disk.ts';
import { type FileDiskOptions, fileDisk } from './file-disk.ts';

/**
 * Makes a copy-on-write disk over a raw file, which is opened for reading only and stays as it is.
 * @throws {DiskError} `bad-option`, `bad-file`.
 */
export function cowFileDisk(options: Omit<FileDiskOptions, 'readonly' | 'create'>): CowDisk {
  return cowDisk({ base: fileDisk({ ...options, readonly: true }) });
}
