import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { SOCKET_PATH_BYTES_MAX } from '@paravirt/nbd/node';
import { CliError, exitCodes, fileError } from '../errors.ts';

/** @throws {CliError} when no socket can have this path; the system would cut it off, or call a missing folder forbidden. */
export function checkSocketPath(flag: string, path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw new CliError(
      `--${flag} ${path}: the path has ${bytes} bytes; a socket's has ${SOCKET_PATH_BYTES_MAX} at most, so name it from a folder near by`,
      exitCodes.usage,
    );
  }
  const folder = dirname(path);
  let isFolder: boolean;
  try {
    isFolder = statSync(folder).isDirectory();
  } catch (error) {
    throw fileError(`--${flag} ${path}: ${folder}`, error, exitCodes.usage);
  }
  if (!isFolder) throw new CliError(`--${flag} ${path}: ${folder} is no folder`, exitCodes.usage);
}
