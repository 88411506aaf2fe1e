import type { EventBus, EventPorts } from '@paravirt/event-bus';
import type { DomId, Port } from '@paravirt/event-bus/contract';
import type { SharedRing } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import type { Disk } from '../disks/disk.ts';
import type { DiskIo } from './disk-io.ts';
import type { BlkbackEvents } from './events.ts';
import type { QueueMappings } from './mapping.ts';
import type { BackQueue } from './queue.ts';
import type { TransferBatches } from './transfer-batch.ts';
import type { BlkbackCounters, LocatedPage, MappedMemory } from './types.ts';

/** What a queue works with; everything is its device's. */
export interface QueueSetup {
  readonly shared: SharedRing;
  /** Where the last backend stopped, as the ring said when it was mapped: this one goes on there. */
  readonly rspProd: number;
  readonly port: Port;
  readonly index: number;
  readonly frontend: DomId;
  readonly device: number;
  readonly disk: Disk;
  /** The disk's, or the device's `mode`. */
  readonly readonly: boolean;
  readonly mappings: QueueMappings;
  readonly io: DiskIo;
  readonly batches: TransferBatches;
  readonly memory: MappedMemory;
  readonly page: LocatedPage;
  readonly bus: EventBus<BlkbackEvents>;
  readonly events: EventPorts;
  readonly counters: BlkbackCounters;
  readonly indirectMax: number;
  readonly flush: boolean;
  readonly barrier: boolean;
  readonly discard: boolean;
  /** Asks for a turn. */
  readonly ready: (queue: BackQueue) => void;
  /** The queue has nothing under way any more. */
  readonly idle: () => void;
  /** The disk said that it cannot flush, for a flush (false) or a barrier (true): no longer offer it. */
  readonly unsupported: (barrier: boolean) => void;
  readonly scheduler: SchedulerLike;
  readonly persistentIdleTicks: number;
  /** Whether the ring is still mapped: a disk that outlives its domain finds that it is not, and its answer is nobody's. */
  readonly alive: () => boolean;
}
