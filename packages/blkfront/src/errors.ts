import type { DeviceState } from './types.ts';

/** Why a call was refused; `switch` on `code` narrows what else is told. */
export type BlkfrontRefusal =
  /** An argument is not what the call takes. Nothing was done. */
  | { readonly code: 'bad-argument'; readonly argument: string; readonly value: unknown; readonly allowed: string }
  /** The device, or its driver, is in a state in which this call means nothing. */
  | { readonly code: 'wrong-state'; readonly call: string; readonly state: string; readonly allowed: string }
  /** The backend does not offer what was asked for. `errno` as a driver returns it. */
  | { readonly code: 'unsupported'; readonly what: string; readonly errno: -95 }
  /** Sectors beyond the end of the device. Units of 512 bytes. */
  | { readonly code: 'out-of-range'; readonly sector: number; readonly sectors: number; readonly capacity: number; readonly errno: -22 }
  | { readonly code: 'read-only'; readonly errno: -30 }
  /** The backend answered the request with an error. */
  | { readonly code: 'io'; readonly what: string; readonly sector: number; readonly sectors: number; readonly errno: number }
  /** The buffer was given back before all of the request was on a ring. */
  | { readonly code: 'freed'; readonly what: string; readonly sector: number; readonly sectors: number; readonly errno: -22 }
  /** The device went away before the request was answered: closed, lost, or switched off because its backend lied. */
  | { readonly code: 'gone'; readonly state: DeviceState; readonly reason: string; readonly errno: -19 }
  /** A store node that the handshake needs is missing or holds what no honest peer writes. */
  | { readonly code: 'bad-store'; readonly path: string; readonly value: string | undefined; readonly allowed: string }
  /** The guest has no page, reference or port left for the device. */
  | { readonly code: 'exhausted'; readonly what: 'pages' | 'references' | 'ports'; readonly needed: number }
  /** A wait ended because its clock or its caller ended it. */
  | { readonly code: 'timeout'; readonly waitingFor: string; readonly ticks: number }
  | { readonly code: 'aborted'; readonly waitingFor: string };

/** The one error of this package. What is refused has changed nothing. */
export class BlkfrontError extends Error {
  override readonly name = 'BlkfrontError';
  readonly refusal: BlkfrontRefusal;
  constructor(refusal: BlkfrontRefusal, options?: ErrorOptions) {
    super(`block device: ${describe(refusal)}`, options);
    this.refusal = refusal;
  }
}

function describe(refusal: BlkfrontRefusal): string {
  switch (refusal.code) {
    case 'bad-argument':
      return `${refusal.argument} is ${String(refusal.value)}; allowed: ${refusal.allowed}`;
    case 'wrong-state':
      return `${refusal.call} while ${refusal.state}; allowed: ${refusal.allowed}`;
    case 'unsupported':
      return `the backend does not offer ${refusal.what}`;
    case 'out-of-range':
      return `sectors ${refusal.sector}+${refusal.sectors} of a device of ${refusal.capacity}`;
    case 'read-only':
      return 'the disk is read-only';
    case 'io':
      return `${refusal.what} of sectors ${refusal.sector}+${refusal.sectors} failed with errno ${refusal.errno}`;
    case 'freed':
      return `the buffer of the ${refusal.what} of sectors ${refusal.sector}+${refusal.sectors} was freed before it was on a ring`;
    case 'gone':
      return `the device is ${refusal.state}: ${refusal.reason}`;
    case 'bad-store':
      return `store node ${refusal.path} is ${refusal.value === undefined ? 'missing' : JSON.stringify(refusal.value)}; allowed: ${refusal.allowed}`;
    case 'exhausted':
      return `no ${refusal.what} left (${refusal.needed} needed)`;
    case 'timeout':
      return `no ${refusal.waitingFor} within ${refusal.ticks} ticks`;
    case 'aborted':
      return `the caller gave up waiting for ${refusal.waitingFor}`;
  }
}

/** Errno values as this package returns them: negative. @see xen/include/public/errno.h */
export const ERRNO: {
  readonly EIO: -5;
  readonly EAGAIN: -11;
  readonly ENOMEM: -12;
  readonly EBUSY: -16;
  readonly ENODEV: -19;
  readonly EINVAL: -22;
  readonly EROFS: -30;
  readonly EOPNOTSUPP: -95;
  readonly ETIMEDOUT: -110;
  readonly EPERM: -1;
} = {
  EIO: -5,
  EAGAIN: -11,
  ENOMEM: -12,
  EBUSY: -16,
  ENODEV: -19,
  EINVAL: -22,
  EROFS: -30,
  EOPNOTSUPP: -95,
  ETIMEDOUT: -110,
  EPERM: -1,
};
