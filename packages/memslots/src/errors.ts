/** The errno names KVM answers with here. */
export type ErrnoName = 'ENOENT' | 'ENOMEM' | 'EBUSY' | 'EEXIST' | 'EINVAL' | 'EFAULT' | (string & {});

interface Refused<Code extends string, Errno extends ErrnoName> {
  /** Which check refused. */
  readonly code: Code;
  readonly errno: Errno;
  /** The number a system call returns: negated errno. */
  readonly ret: number;
  /** The argument the check looked at. */
  readonly argument: string;
  /** Its value, as text: numbers above 2^53 in hexadecimal. */
  readonly value: string;
  /** What would have been accepted. */
  readonly allowed: string;
}

/** Why a call was refused. Codes of `setUserMemoryRegion` stand in the order of their checks. */
export type MemslotsRefusal =
  | Refused<
      | 'slot-limit'
      | 'flags'
      | 'size-alignment'
      | 'gpa-alignment'
      | 'hva-alignment'
      | 'hva-range'
      | 'address-space'
      | 'gpa-wrap'
      | 'delete-absent'
      | 'too-many-pages'
      | 'changed-hva'
      | 'changed-size'
      | 'changed-readonly',
      'EINVAL'
    >
  | (Refused<'overlap', 'EEXIST'> & { readonly other: number })
  | Refused<'max-gfn', 'EINVAL'>
  | Refused<'prepare', ErrnoName>
  | Refused<'no-slot' | 'no-dirty-log', 'ENOENT'>
  | Refused<'first-page' | 'page-range' | 'bitmap-size', 'EINVAL'>
  | Refused<'hole' | 'write-protected' | 'outside-backing' | 'not-contiguous', 'EFAULT'>
  | Refused<'busy', 'EBUSY'>
  | Refused<'bad-argument', 'EINVAL'>;

/** The check that refused. */
export type MemslotsCheck = MemslotsRefusal['code'];

const NUMBERS: Readonly<Record<string, number>> = { ENOENT: -2, ENOMEM: -12, EFAULT: -14, EBUSY: -16, EEXIST: -17, EINVAL: -22 };
const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(NUMBERS).map(([name, ret]) => [ret, name]));

/** The errno name of a negated errno, `errno N` where this package has no name for it. */
const errnoName = (ret: number): ErrnoName => NAMES.get(ret) ?? `errno ${-ret}`;

/** The one error of this package; `refusal` says which check refused, with errno name and number, the argument, its value and what is allowed. */
export class MemslotsError extends Error {
  override readonly name = 'MemslotsError';
  readonly refusal: MemslotsRefusal;
  constructor(refusal: MemslotsRefusal, options?: ErrorOptions) {
    super(
      `memory slots refused (${refusal.errno}, ${refusal.ret}; ${refusal.code}): ${refusal.argument} is ${refusal.value}; allowed is ${refusal.allowed}`,
      options,
    );
    this.refusal = refusal;
  }
}

/** A value as the refusal shows it. */
export function shown(value: unknown): string {
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  return typeof value === 'number' && value > 0xffff ? `${value} (0x${value.toString(16)})` : String(value);
}

/** Builds and throws; never returns. Kept apart so that a check costs its caller one branch. */
export function refuse(
  code: MemslotsCheck,
  argument: string,
  value: unknown,
  allowed: string,
  extra?: { ret?: number; other?: number },
): never {
  const ret = extra?.ret ?? NUMBERS[ERRNO_OF[code] ?? 'EINVAL'] ?? -22;
  const refusal = {
    code,
    errno: errnoName(ret),
    ret,
    argument,
    value: shown(value),
    allowed,
    ...(extra?.other === undefined ? {} : { other: extra.other }),
  };
  throw new MemslotsError(refusal as MemslotsRefusal);
}

const ERRNO_OF: Readonly<Partial<Record<MemslotsCheck, string>>> = {
  overlap: 'EEXIST',
  'no-slot': 'ENOENT',
  'no-dirty-log': 'ENOENT',
  hole: 'EFAULT',
  'write-protected': 'EFAULT',
  'outside-backing': 'EFAULT',
  'not-contiguous': 'EFAULT',
  busy: 'EBUSY',
};
