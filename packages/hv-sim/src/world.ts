import type { EventBus, EventChannels } from '@paravirt/event-bus';
import type { DomainCore } from './domain.ts';
import type { FaultPlan } from './faults/plan.ts';
import type { GrantCopies } from './grants/copy.ts';
import type { GrantMaps } from './grants/map.ts';
import type { GrantPolicy, GrantWorld } from './grants/party.ts';
import type { Frames } from './memory/frames.ts';
import type { RunLoop } from './run-loop.ts';
import type { Services } from './services.ts';
import type { XenStore } from './store/types.ts';
import type { Clock } from './time/clock.ts';
import type { Pulse } from './time/pulse.ts';
import type { Random } from './time/random.ts';
import type { Toolstack } from './toolstack.ts';
import type { MachineEvents } from './types.ts';

/** The parts of a machine, for the files that work on them. None of it is public. */
export interface World extends GrantWorld {
  readonly bus: EventBus<MachineEvents>;
  readonly pulse: Pulse;
  readonly clock: Clock;
  readonly loop: RunLoop;
  readonly frames: Frames;
  /** The heap of the machine's own memory. */
  readonly heap: number;
  /** Domains by domid, dying ones included. */
  readonly parties: (DomainCore | undefined)[];
  readonly policy: GrantPolicy;
  readonly maps: GrantMaps;
  readonly copies: GrantCopies;
  readonly channels: EventChannels;
  readonly store: XenStore;
  readonly services: Services;
  readonly toolstack: Toolstack;
  readonly faults: FaultPlan;
  random(domid: number, purpose: string): Random;
}
