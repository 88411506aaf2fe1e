/** What `XenAbiError` refuses; `what` names the argument, `value` is what was given, `allowed` says what would do. */
export type XenAbiRefusal =
  | { code: 'bad-abi'; what: string; value: string; allowed: string }
  | { code: 'bad-pages'; what: string; value: number; allowed: string }
  | { code: 'bad-index'; what: string; value: number; allowed: string }
  | { code: 'bad-value'; what: string; value: string; allowed: string }
  | { code: 'bad-field'; what: string; value: string; allowed: string }
  | { code: 'short-buffer'; what: string; value: number; allowed: string }
  | { code: 'bad-recording'; what: string; value: string; allowed: string };

/** The one error of this package. Nothing has been written when it is thrown. */
export class XenAbiError extends Error {
  override readonly name = 'XenAbiError';
  readonly refusal: XenAbiRefusal;
  constructor(refusal: XenAbiRefusal, options?: ErrorOptions) {
    super(`${refusal.what} is ${refusal.value}; allowed: ${refusal.allowed}`, options);
    this.refusal = refusal;
  }
}
