/** Who took a page out of an address space, and when. */
export interface Unmapped {
  /** The domain whose call unmapped it. */
  readonly by: number;
  /** What it did: `grant-unmap`, `unmap`, `replace`, `death` or `never` for a page that was never mapped. */
  readonly how: UnmapCause;
  /** `machine.steps` at that moment. */
  readonly step: number;
}

/** How a page left an address space. */
export type UnmapCause = 'never' | 'grant-unmap' | 'unmap' | 'replace' | 'death';

/** Why the machine refused. Every variant carries what a caller needs to act on it. */
export type HvRefusal =
  | { code: 'bad-argument'; argument: string; value: string; allowed: string }
  | { code: 'out-of-memory'; wanted: number; free: number }
  | { code: 'no-domain'; domid: number }
  | { code: 'dead-domain'; domid: number; state: string }
  | { code: 'bad-state'; domid: number; state: string; wanted: string }
  | { code: 'domid-taken'; domid: number }
  | { code: 'bad-gfn'; domid: number; gfn: number }
  | { code: 'readonly-gfn'; domid: number; gfn: number }
  | {
      code: 'page-fault';
      domid: number;
      vfn: number;
      access: 'read' | 'write';
      cause: 'unmapped' | 'readonly';
      /** The frame mapped there last, or -1. */
      mfn: number;
      unmapped: Unmapped;
    }
  | { code: 'missing-dependency'; plugin: string; missing: readonly string[] }
  | { code: 'blocked-forever'; domid: number }
  | { code: 'external-wait'; waitingFor: readonly string[] }
  | { code: 'too-many-steps'; steps: number }
  | { code: 'schedule-diverged'; at: number; wanted: number; runnable: readonly number[] }
  | { code: 'leak'; leaks: readonly string[] }
  | { code: 'fault-never-fired'; faults: readonly string[] }
  | { code: 'nondeterminism'; seed: string; step: number; first: string; second: string };

function say(refusal: HvRefusal): string {
  switch (refusal.code) {
    case 'bad-argument':
      return `${refusal.argument} is ${refusal.value}; allowed is ${refusal.allowed}`;
    case 'page-fault': {
      const { by, how, step } = refusal.unmapped;
      const why =
        refusal.cause === 'readonly'
          ? 'it is mapped read-only'
          : how === 'never'
            ? 'it was never mapped'
            : `domain ${by} unmapped it (${how}) at step ${step}`;
      return `domain ${refusal.domid} faulted on a ${refusal.access} of virtual page 0x${refusal.vfn.toString(16)} (frame ${refusal.mfn}): ${why}`;
    }
    case 'leak':
      return `${refusal.leaks.length} left over: ${refusal.leaks.join('; ')}`;
    case 'fault-never-fired':
      return `requested faults that never fired: ${refusal.faults.join(', ')}`;
    case 'missing-dependency':
      return `plugin ${refusal.plugin} lacks ${refusal.missing.join(', ')}`;
    case 'external-wait':
      return `cannot wait for what completes outside the run queue: ${refusal.waitingFor.join(', ')}`;
    default:
      return JSON.stringify(refusal);
  }
}

/** The machine's one error class; `refusal` says why, and nothing changed unless its docs say so. */
export class HvError extends Error {
  override readonly name = 'HvError';
  readonly refusal: HvRefusal;
  constructor(refusal: HvRefusal, options?: ErrorOptions) {
    super(`machine refused (${refusal.code}): ${say(refusal)}`, options);
    this.refusal = refusal;
  }
}

/** @throws {HvError} `bad-argument` unless `value` is a whole number in `[min, max]`. */
export function whole(argument: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new HvError({ code: 'bad-argument', argument, value: String(value), allowed: `a whole number from ${min} to ${max}` });
  }
  return value;
}
