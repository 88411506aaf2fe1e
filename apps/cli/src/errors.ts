/** Exit codes that scripts can rely on; `hvsim --help` lists them. */
export const exitCodes: { readonly ok: 0; readonly failed: 1; readonly usage: 2; readonly interrupted: 130 } = {
  /** Everything asked for was done. */
  ok: 0,
  /** It was done and something differed, or it could not be finished. */
  failed: 1,
  /** It could not begin: a wrong flag, a file that cannot be read. */
  usage: 2,
  /** Ctrl-C. */
  interrupted: 130,
};

/** What a person can act on: one line on stderr, no stack trace. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: number;
  constructor(message: string, exitCode: number = exitCodes.failed, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

const systemMessages: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EBUSY: 'is in use',
  EDQUOT: 'disk quota exceeded',
  EFBIG: 'the file is too large for its file system',
  EIO: 'input/output error',
  EISDIR: 'is a directory',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files',
  ENAMETOOLONG: 'the name is too long',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'a part of the path is not a directory',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
};

/** The system's own reason, in words: "no such file or directory". */
export function systemReason(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string') return systemMessages[code] ?? code;
  return error instanceof Error ? error.message : String(error);
}

/** Turns an error of the operating system about `path` into one clear line. */
export function fileError(path: string, error: unknown, exitCode: number = exitCodes.failed): CliError {
  return new CliError(`${path}: ${systemReason(error)}`, exitCode, { cause: error });
}

/** The line printed for whatever ended a command. A stack trace only where it was asked for with HVSIM_DEBUG. */
export function describeError(error: unknown, debug: boolean): string {
  if (debug && error instanceof Error) return error.stack ?? error.message;
  const message = (error instanceof Error ? error.message : String(error)).split('\n')[0];
  return `hvsim: ${message}`;
}
