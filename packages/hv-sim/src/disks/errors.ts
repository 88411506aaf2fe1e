/** Why a disk or a filter could not be made or changed. What a request meets is an errno, not one of these. */
export type DiskRefusal =
  /** An option outside what is allowed. */
  | { code: 'bad-option'; disk: string; option: string; value: string; allowed: string }
  /** A file cannot be used; `reason` is the host's word for it (`ENOENT`, `EISDIR`, ...). */
  | { code: 'bad-file'; disk: string; path: string; reason: string }
  /** The disk was closed. */
  | { code: 'closed'; disk: string }
  /** A disk answered a call with what is neither 0, nor a negative errno, nor `LATER`, or told that later; the request was failed with EIO. */
  | { code: 'bad-answer'; disk: string; answer: string }
  /** A fault was requested that cannot be (an unknown rule). */
  | { code: 'bad-rule'; filter: string; rule: string; allowed: string };

function describe(refusal: DiskRefusal): string {
  switch (refusal.code) {
    case 'bad-option':
      return `${refusal.disk}: ${refusal.option} is ${refusal.value}; allowed is ${refusal.allowed}`;
    case 'bad-file':
      return `${refusal.disk}: ${refusal.path} cannot be used: ${refusal.reason}`;
    case 'closed':
      return `${refusal.disk}: the disk is closed`;
    case 'bad-answer':
      return `${refusal.disk} answered ${refusal.answer}; allowed is 0, a negative errno or LATER`;
    case 'bad-rule':
      return `${refusal.filter}: no rule ${refusal.rule}; allowed is ${refusal.allowed}`;
  }
}

/** Refusal of a disk or filter. */
export class DiskError extends Error {
  override readonly name = 'DiskError';
  readonly refusal: DiskRefusal;
  constructor(refusal: DiskRefusal, options?: ErrorOptions) {
    super(describe(refusal), options);
    this.refusal = refusal;
  }
}

/** @throws {DiskError} `bad-option` unless `value` is a whole number of `[min, max]` and a multiple of `step`. */
export function checkedBytes(disk: string, option: string, value: number, min: number, max: number, step: number): number {
  if (!Number.isSafeInteger(value) || value < min || value > max || value % step !== 0) {
    const allowed = `a multiple of ${step} from ${min} to ${max}`;
    throw new DiskError({ code: 'bad-option', disk, option, value: String(value), allowed });
  }
  return value;
}

/** @throws {DiskError} `bad-option` unless `value` is 512 or 4096. */
export function checkedSector(disk: string, option: string, value: number): number {
  if (value !== 512 && value !== 4096) {
    throw new DiskError({ code: 'bad-option', disk, option, value: String(value), allowed: '512 or 4096' });
  }
  return value;
}

/** @throws {DiskError} `bad-option` unless `value` is true or false. */
export function checkedFlag(disk: string, option: string, value: boolean): boolean {
  if (typeof value !== 'boolean') throw new DiskError({ code: 'bad-option', disk, option, value: String(value), allowed: 'true or false' });
  return value;
}

/** @throws {DiskError} `bad-option` unless `value` is one of `choices`. */
export function checkedChoice<T extends string>(disk: string, option: string, value: T, choices: readonly T[]): T {
  if (!choices.includes(value))
    throw new DiskError({ code: 'bad-option', disk, option, value: String(value), allowed: choices.join(', ') });
  return value;
}
