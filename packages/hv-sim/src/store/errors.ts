/** The error names that the store answers with. @see xen/include/public/io/xs_wire.h, xsd_errors */
export type StoreErrno = 'EINVAL' | 'EACCES' | 'EEXIST' | 'ENOENT' | 'ENOSPC' | 'EIO' | 'ENOSYS' | 'EBUSY' | 'EAGAIN' | 'E2BIG' | 'EPERM';

/** Why the store refused: `subject` is the path, transaction or domain that was named. */
export interface StoreRefusal {
  readonly errno: StoreErrno;
  /** `read`, `write`, `directory`, `mkdir`, `rm`, `get_perms`, `set_perms`, `watch`, `transaction_end` ... */
  readonly operation: string;
  /** The domain that asked. */
  readonly domid: number;
  readonly subject: string;
}

const MEANING: { readonly [errno in StoreErrno]: string } = {
  EINVAL:
    'it is malformed; allowed in a path are letters, digits, - / _ @, no empty name, at most 2048 characters below a domain and 3072 in all',
  EACCES: 'the domain may not',
  EEXIST: 'it is there already',
  ENOENT: 'there is none',
  ENOSPC: "the domain's limit is reached",
  EIO: 'the connection is broken',
  ENOSYS: 'there is no such request',
  EBUSY: 'a transaction is open already',
  EAGAIN: 'another changed what the transaction touched',
  E2BIG: 'it is longer than an answer may be, or more than the domain may have',
  EPERM: 'only the owner may',
};

/** A refusal of the store. Nothing has changed. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly refusal: StoreRefusal;

  constructor(refusal: StoreRefusal, options?: ErrorOptions) {
    const { errno, operation, domid, subject } = refusal;
    super(`store: ${operation} of ${subject} by domain ${domid}: ${errno}: ${MEANING[errno]}`, options);
    this.refusal = refusal;
  }
}
