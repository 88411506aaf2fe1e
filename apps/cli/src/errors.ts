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
  EADDRINUSE: 'another program listens there; end it, or choose another address',
  EADDRNOTAVAIL: 'this machine has no such address',
  EAI_AGAIN: 'the name of the host cannot be looked up now',
  EBUSY: 'is in use',
  ECONNREFUSED: 'nobody listens there',
  ECONNRESET: 'the other side closed the connection',
  EDQUOT: 'disk quota exceeded',
  EEXIST: 'exists already',
  EFBIG: 'the file is too large for its file system',
  EINVAL: 'the system takes no such value',
  EIO: 'input/output error',
  EISDIR: 'is a directory',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files',
  ENAMETOOLONG: 'the name is too long',
  ENFILE: 'the system has too many open files',
  ENODEV: 'no such device',
  ENOENT: 'no such file or directory',
  ENOMEM: 'the system has no memory left',
  ENOSPC: 'no space left on device',
  ENOTDIR: 'a part of the path is not a directory',
  ENOTFOUND: 'no host has that name',
  ENOTSOCK: 'is no socket',
  ENXIO: 'no such device or address',
  EPERM: 'operation not permitted',
  EPIPE: 'the reader is gone',
  EROFS: 'the file system is read-only',
  ERR_ENCODING_INVALID_ENCODED_DATA: 'this is no text in UTF-8',
  ETIMEDOUT: 'no answer came in time',
  ETXTBSY: 'is a program that runs',
  Z_BUF_ERROR: 'the gzip data ends too early',
  Z_DATA_ERROR: 'the gzip data is damaged',
};

/** The system's own reason, in words: "no such file or directory". */
export function systemReason(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  const known = typeof code === 'string' ? systemMessages[code] : undefined;
  return known ?? (error instanceof Error && error.message !== '' ? error.message : String(code ?? error));
}

/** Turns an error of the operating system about `path` into one clear line. */
export function fileError(path: string, error: unknown, exitCode: number = exitCodes.failed): CliError {
  return new CliError(`${path}: ${systemReason(error)}`, exitCode, { cause: error });
}

/** Errors of the packages say what happened as data too; where their words are for programmers, these are for people. */
function refusalInWords(error: unknown): string | undefined {
  const { refusal } = (error ?? {}) as { refusal?: { code?: unknown; wanted?: unknown; free?: unknown } };
  if (refusal?.code !== 'out-of-memory') return undefined;
  return `the simulated machine's memory is used up (${refusal.wanted} pages wanted, ${refusal.free} free); take fewer queues, ring pages or pooled references`;
}

/** Without what a terminal would obey, and what was no text: both come from files that are something else. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufffd]/g, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
  });
}

/** An error's message on one line. */
export function messageOf(error: unknown): string {
  return refusalInWords(error) ?? printable((error instanceof Error ? error.message : String(error)).split('\n')[0] as string);
}

/** The line printed for whatever ended a command. A stack trace only where it was asked for with HVSIM_DEBUG. */
export function describeError(error: unknown, debug: boolean): string {
  if (debug && error instanceof Error) return error.stack ?? error.message;
  return `hvsim: ${messageOf(error)}`;
}
