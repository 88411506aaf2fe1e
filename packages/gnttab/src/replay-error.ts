/** Why a recording cannot be used. `line` counts from 1. */
export type ReplayFault =
  | { readonly code: 'bad-header'; readonly line: 1; readonly reason: string }
  | { readonly code: 'bad-line'; readonly line: number; readonly reason: string };

/** A recording that is not one, as opposed to one that differs. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError';
  readonly fault: ReplayFault;

  constructor(fault: ReplayFault, options?: ErrorOptions) {
    super(`line ${fault.line}: ${fault.reason}`, options);
    this.fault = fault;
  }
}
