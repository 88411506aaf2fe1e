/** The errno names with which event channels refuse. */
export type EvtchnErrno = 'EPERM' | 'ENOENT' | 'ESRCH' | 'EEXIST' | 'EINVAL' | 'ENOSPC';

/** The negative status that a hypercall returns for each refusal. @see xen/include/public/errno.h */
export const EVTCHN_STATUS: { readonly [errno in EvtchnErrno]: number } = {
  EPERM: -1,
  ENOENT: -2,
  ESRCH: -3,
  EEXIST: -17,
  EINVAL: -22,
  ENOSPC: -28,
};

/** Why an event channel operation was refused: `argument` was `value`, and `allowed` says what would have been accepted. */
export interface EvtchnRefusal {
  readonly errno: EvtchnErrno;
  /** The operation, by Xen's name for it without `EVTCHNOP_`: `send`, `bind_interdomain` ... */
  readonly operation: string;
  /** The domain that asked. */
  readonly domid: number;
  readonly argument: string;
  readonly value: number;
  readonly allowed: string;
}

/** A refused event channel operation. Nothing has changed. */
export class EvtchnError extends Error {
  override readonly name = 'EvtchnError';
  readonly refusal: EvtchnRefusal;

  constructor(refusal: EvtchnRefusal, options?: ErrorOptions) {
    const { errno, operation, domid, argument, value, allowed } = refusal;
    super(`${operation} by domain ${domid}: ${errno}: ${argument} is ${value}; allowed is ${allowed}`, options);
    this.refusal = refusal;
  }

  /** The negative errno value that the hypercall returns. */
  get status(): number {
    return EVTCHN_STATUS[this.refusal.errno];
  }
}
