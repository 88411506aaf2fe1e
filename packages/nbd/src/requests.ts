import { Cmd, CmdFlag, Errno } from './constants.ts';
import type { NbdTarget } from './types.ts';

const allowedFlags: Readonly<Record<number, number>> = {
  [Cmd.READ]: CmdFlag.DF,
  [Cmd.WRITE]: CmdFlag.FUA,
  [Cmd.FLUSH]: 0,
  [Cmd.TRIM]: CmdFlag.FUA,
  [Cmd.WRITE_ZEROES]: CmdFlag.FUA | CmdFlag.NO_HOLE | CmdFlag.FAST_ZERO,
  [Cmd.BLOCK_STATUS]: CmdFlag.REQ_ONE,
};

/** What was agreed with a client. */
export interface Terms {
  readonly target: NbdTarget;
  readonly structured: boolean;
  readonly allocation: boolean;
  readonly requestBytes: number;
}

/** Why a request is refused, as the wire's error number, or 0. A refusal never costs the connection. */
export function refusalOf(type: number, flags: number, offset: number, bytes: number, terms: Terms): number {
  const { target } = terms;
  const allowed = allowedFlags[type];
  if (allowed === undefined || (flags & ~allowed) !== 0) return Errno.EINVAL;
  if (type === Cmd.FLUSH) return target.flush ? 0 : Errno.EINVAL;
  const changes = type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES;
  if (changes && (target.readonly === true || !target.write)) return Errno.EPERM;
  if (type === Cmd.TRIM && !target.trim) return Errno.EINVAL;
  if (type === Cmd.WRITE_ZEROES && !target.writeZeroes) return Errno.EINVAL;
  if ((flags & CmdFlag.FAST_ZERO) !== 0 && target.fastZeroes !== true) return Errno.ENOTSUP;
  if ((flags & CmdFlag.FUA) !== 0 && !target.flush) return Errno.EINVAL;
  if ((flags & CmdFlag.DF) !== 0 && !terms.structured) return Errno.EINVAL;
  if (type === Cmd.BLOCK_STATUS && !terms.allocation) return Errno.EINVAL;
  if (bytes === 0) return Errno.EINVAL;
  if (offset + bytes > target.sizeBytes) return type === Cmd.WRITE || type === Cmd.WRITE_ZEROES ? Errno.ENOSPC : Errno.EINVAL;
  if ((type === Cmd.READ || type === Cmd.WRITE) && bytes > terms.requestBytes) return Errno.EINVAL;
  return 0;
}
