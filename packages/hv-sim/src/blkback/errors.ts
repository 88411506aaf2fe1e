/** Why the backend refuses a call. What a frontend gets wrong is answered on the wire or in the store, never thrown. */
export type BlkbackRefusal =
  | { code: 'bad-option'; option: string; value: string; allowed: string }
  | { code: 'disk-taken'; physicalDevice: string }
  | { code: 'bad-device'; device: string; allowed: string }
  | { code: 'device-exists'; frontend: number; device: number }
  | { code: 'no-device'; frontend: number; device: number }
  /** Another changed the store at every attempt. */
  | { code: 'store-busy'; path: string };

function describe(refusal: BlkbackRefusal): string {
  switch (refusal.code) {
    case 'bad-option':
      return `${refusal.option} is ${refusal.value}; allowed is ${refusal.allowed}`;
    case 'disk-taken':
      return `physical device ${refusal.physicalDevice} has another disk`;
    case 'bad-device':
      return `device is ${refusal.device}; allowed is ${refusal.allowed}`;
    case 'device-exists':
      return `domain ${refusal.frontend} has a device ${refusal.device} already`;
    case 'store-busy':
      return `${refusal.path} could not be written: every transaction met a conflict`;
    case 'no-device':
      return `domain ${refusal.frontend} has no device ${refusal.device}`;
  }
}

/** Refusal of the block backend or of its toolstack calls. */
export class BlkbackError extends Error {
  override readonly name = 'BlkbackError';
  readonly refusal: BlkbackRefusal;
  constructor(refusal: BlkbackRefusal, options?: ErrorOptions) {
    super(`blkback refused: ${describe(refusal)}`, options);
    this.refusal = refusal;
  }
}

/** Whether `error` is a typed refusal of some part (a store, an event channel), which carries its `refusal`; anything else is a bug. */
export function isRefusal(error: unknown): error is Error {
  return error instanceof Error && 'refusal' in error;
}
