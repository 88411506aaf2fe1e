/** Where a reference is in its life. `reserved`: 0 to 7, never handed out. `absent`: beyond the table. */
export type GrefState = 'free' | 'listed' | 'claimed' | 'granted' | 'busy' | 'deferred' | 'leaked' | 'reserved' | 'absent';

/** Why a call was refused, with the facts a caller acts on. */
export type GrantRefusal =
  /** No free references, or no place for so many in a row, and the table cannot grow. `status` is the hypervisor's if it refused the frame. */
  | {
      readonly code: 'exhausted';
      readonly requested: number;
      readonly free: number;
      readonly frames: number;
      readonly maxFrames: number;
      readonly status?: number;
    }
  /** An argument out of its range. */
  | { readonly code: 'bad-argument'; readonly argument: string; readonly value: unknown; readonly allowed: string }
  /** A reference in the wrong state for the call; `status` is GNTST_bad_gntref. */
  | {
      readonly code: 'bad-gref';
      readonly argument: string;
      readonly gref: number;
      readonly state: GrefState;
      readonly allowed: string;
      readonly status: -3;
    }
  /** The peer still maps the granted page. */
  | { readonly code: 'still-mapped'; readonly gref: number; readonly peer: number }
  /** A private list of another table, or one that was freed. */
  | { readonly code: 'bad-list'; readonly argument: string; readonly allowed: string }
  /** A batch that is already waiting to be unmapped. */
  | { readonly code: 'batch-pending'; readonly argument: string; readonly allowed: string }
  /** The layout cannot be switched while references are out. */
  | { readonly code: 'version-busy'; readonly version: 1 | 2; readonly outstanding: number }
  /** A form of entry that the table's version does not have. */
  | { readonly code: 'wrong-version'; readonly operation: string; readonly version: 1 | 2; readonly allowed: string }
  /** The hypervisor refused. `status` is a GNTST_* value or a negative errno. */
  | { readonly code: 'hypercall'; readonly call: string; readonly status: number }
  /** The table was closed. */
  | { readonly code: 'closed'; readonly operation: string };

/** A refusal of the grant table. Nothing has changed but what `refusal` and the called function's description say. */
export class GrantError extends Error {
  override readonly name = 'GrantError';
  readonly refusal: GrantRefusal;

  constructor(refusal: GrantRefusal, options?: ErrorOptions) {
    super(describe(refusal), options);
    this.refusal = refusal;
  }
}

/** Throws the refusal of an argument out of range. */
export function refuseArgument(argument: string, value: unknown, allowed: string): never {
  throw new GrantError({ code: 'bad-argument', argument, value, allowed });
}

function describe(refusal: GrantRefusal): string {
  switch (refusal.code) {
    case 'exhausted': {
      const { requested, free, frames, maxFrames, status } = refusal;
      const why = status === undefined ? '' : `; the hypervisor refused a frame with status ${status}`;
      return `${requested} grant references requested, ${free} free in ${frames} of ${maxFrames} frames${why}`;
    }
    case 'bad-argument':
      return `${refusal.argument} is ${String(refusal.value)}; allowed is ${refusal.allowed}`;
    case 'bad-gref':
      return `${refusal.argument} is ${refusal.gref}, which is ${refusal.state}; allowed is ${refusal.allowed}`;
    case 'still-mapped':
      return `gref ${refusal.gref} is still mapped by domain ${refusal.peer}; allowed is a reference that is not in use`;
    case 'bad-list':
    case 'batch-pending':
      return `${refusal.argument} cannot be used; allowed is ${refusal.allowed}`;
    case 'version-busy':
      return `version is ${refusal.version}; allowed only while no reference is out, and ${refusal.outstanding} are`;
    case 'wrong-version':
      return `${refusal.operation} on a table of version ${refusal.version}; allowed is ${refusal.allowed}`;
    case 'hypercall':
      return `the hypervisor refused ${refusal.call} with status ${refusal.status}`;
    case 'closed':
      return `${refusal.operation} on a closed grant table`;
  }
}
