export { cowFileDisk } from './disks/node/cow-file.ts';
export { type FileDiskOptions, fileDisk } from './disks/node/file-disk.ts';
export { type SparseDisk, sparseDisk } from './disks/node/sparse-disk.ts';
