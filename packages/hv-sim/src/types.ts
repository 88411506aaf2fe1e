import type { DomainPorts, DoorbellCounts, EventBus, EvtchnEvents } from '@paravirt/event-bus';
import type { DomId, Gfn, Plugin } from '@paravirt/event-bus/contract';
import type { MemoryFrame, MemoryViews, PageUse } from '@paravirt/gnttab';
import type { Memslots, MemslotsEvents } from '@paravirt/memslots';
import type { MapFlags, PageAllocator, PageTable } from '@paravirt/vmap';
import type { Abi } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import type { HvEvents } from './events.ts';
import type { FaultPlan, FaultRequest } from './faults/plan.ts';
import type { DomainGrantHypercalls } from './grants/hypercalls.ts';
import type { GrantPolicy } from './grants/party.ts';
import type { Ledger } from './ledger.ts';
import type { MemorySource } from './memory/frames.ts';
import type { StoreEvents } from './store/events.ts';
import type { StoreConnection, StoreLimits, XenStore } from './store/types.ts';
import type { TimeSource } from './time/clock.ts';
import type { Random } from './time/random.ts';
import type { RunOrder } from './time/run-queue.ts';

/** Everything that the machine and its parts tell. */
export type MachineEvents = HvEvents & EvtchnEvents & StoreEvents & MemslotsEvents;

/** What a domain is doing. A `dying` domain's code is gone; it stays until the last page that others hold is given back. */
export type DomainState = 'running' | 'paused' | 'shutdown' | 'dying' | 'gone';

/** Options of a machine; all but the seed have defaults. */
export interface MachineOptions {
  /** Decides everything that is left to chance. */
  readonly seed: number | string;
  /** Facts go here; a bus of its own unless given. */
  readonly bus?: EventBus<MachineEvents>;
  /** Bytes of machine memory in one buffer, a multiple of 4096. Default 64 MiB. */
  readonly ramBytes?: number;
  /** The machine's memory in buffers of the caller's, instead of `ramBytes`. */
  readonly memory?: readonly MemorySource[];
  /** Who runs next. Default `round-robin`. */
  readonly order?: RunOrder;
  /** Virtual milliseconds that a step takes. Default 0: time moves only when nobody can run. */
  readonly stepTicks?: number;
  /** Faults that may happen. Given, even as an empty list, it puts the fault filters in place. */
  readonly faults?: readonly FaultRequest[];
  /** What domains may do to each other's grants. Default: everything that a grant allows. */
  readonly policy?: GrantPolicy;
  /** Limits of the store for unprivileged domains. */
  readonly storeLimits?: Partial<StoreLimits>;
  /** Keeps who ran at each step, and the hash after it: `schedule` and `hashes`. */
  readonly record?: boolean;
  /** Whether domains have a buffer of their own unless their options say otherwise. Default false. */
  readonly isolated?: boolean;
  /** Steps that one `run` or `runUntil` may take. Default 10,000,000. */
  readonly stepsMax?: number;
}

/** Options of a domain. */
export interface DomainOptions {
  /** Its number; the next free one from 1 on unless given. 0 is the privileged domain. */
  readonly id?: number;
  readonly name?: string;
  /** Pages of RAM, taken from the machine's memory (or of a buffer of its own with `isolated`). Default 1024. */
  readonly pages?: number;
  /**
   * Gives the domain a buffer of its own, so that the views it is handed show nothing of anybody else. Without it frames come from
   * the machine's buffer, and whoever looks past a frame's end in its views sees others' memory, as on a bus without an MMU.
   */
  readonly isolated?: boolean;
  /** A buffer that the domain brings, which holds all it ever sees of its own memory: RAM, boot pages, grant frames. */
  readonly memory?: MemorySource;
  /** Pages that such a buffer may grow to. Default: what it has. */
  readonly memoryPagesMax?: number;
  /** Frames of a buffer of its own that its `heap` serves. Default 8; without such a buffer the heap is the machine's. */
  readonly heapPages?: number;
  /** RAM pages at the bottom that `pages.alloc` never gives: the domain's own code and data. Default 0. */
  readonly reservedPages?: number;
  /** Layout of everything in memory: 32 or 64-bit words. Default `x86_64`. */
  readonly abi?: Abi;
  /** Whether it may act on other domains. Default: only domain 0. */
  readonly privileged?: boolean;
  /** Frames of its grant table at most. Default 64. */
  readonly grantFramesMax?: number;
  /** Mappings it may hold at once. Default 262,144 (1,024 frames of maptrack). */
  readonly handlesMax?: number;
  /** Highest event-channel port. Default: what the words have room for. */
  readonly portMax?: number;
  /** Command line in the start info page, at most 1,023 bytes. */
  readonly commandLine?: string;
  /** Virtual pages of the fast part of its page table. Default 2^20. */
  readonly windowPages?: number;
}

/** What a domain may know of its own memory. */
export interface DomainMemory {
  /** RAM pages from gfn 0 on. */
  readonly ramPages: number;
  /** RAM pages that are populated. */
  readonly populated: number;
  /** First gfn of the four boot pages: start info, shared info, store ring, console ring. */
  readonly specialGfn: number;
  /** First gfn of the grant table's shared frames, and of its status frames. */
  readonly grantGfn: number;
  readonly statusGfn: number;
  /** The memory slots: ids 0 to 3 (and 4 on for memory that grew) are the machine's. */
  readonly slots: Memslots;
  /** Where a page's bytes are; one object a frame. @throws {HvError} `bad-gfn` */
  frame(gfn: number): MemoryFrame;
  /** The same into an object of the caller's. @throws {HvError} `bad-gfn`, `readonly-gfn` */
  locate(gfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void;
  /** The machine frame behind a page, or -1. Cost O(1). */
  mfnOf(gfn: number, writing: boolean): number;
  /** Copies bytes at a guest-physical address. @throws {HvError} `bad-gfn` */
  read(address: number, into: Uint8Array): void;
  /** @throws {HvError} `bad-gfn`, `readonly-gfn`; pages before the refused one are written. */
  write(address: number, from: Uint8Array): void;
  /** Balloons a page out. Whoever has it mapped keeps the frame until then. @returns false when it is not populated RAM. */
  decrease(gfn: number): boolean;
  /** Balloons a zeroed page in. @returns false when it is populated, no RAM, or the machine has no frame. */
  populate(gfn: number): boolean;
  /**
   * Looks whether the domain's own buffer was replaced by a larger one. The machine looks before each step and each hypercall of
   * the domain; code that grows its memory and goes on with frames it was handed calls this itself. @returns how many frames came.
   */
  refresh(): number;
}

/** The domain's pages as drivers borrow them. */
export interface DomainPages {
  /** Pages not lent out, ballooned ones included. */
  readonly available: number;
  /** Pages lent out. */
  readonly lent: number;
  /** A zeroed page that nobody else uses, or undefined. */
  alloc(): Gfn | undefined;
  /** @throws {HvError} `bad-argument`: not a page that is lent out. */
  free(gfn: Gfn): void;
  /** @throws {HvError} `bad-gfn` */
  frame(gfn: Gfn): MemoryFrame;
}

/** The domain's page table: ordinary mappings by `map` and `unmap`, grant mappings by hypercall. */
export interface DomainSpace extends PageTable {
  /** @throws {HvError} `bad-argument`: the count is no whole number from 0 to 2^52. */
  map(vfn: number, mfn: number, count: number, flags: MapFlags): boolean;
  /** Costs no more than there is page table. @throws {HvError} `bad-argument`: no range of whole page numbers below 2^52. */
  unmap(vfn: number, count: number): void;
  readonly domid: number;
  /** Views that the last `resolve` was for. */
  readonly views: MemoryViews;
  /** Pages mapped. */
  readonly pages: number;
  /**
   * Where a page's bytes are: an offset into `views`. Costs one array read for pages of the window; nothing is allocated.
   * @throws {HvError} `page-fault`, naming the page, who unmapped it and at which step.
   */
  resolve(vfn: number, writing: boolean): number;
  /** As `resolve`, into an object of the caller's. */
  locate(vfn: number, writable: boolean, out: { views: MemoryViews; offset: number }): void;
  /**
   * The first `count` of `vfns` in one go: `offsets[i]`, of a page to be written to where `writable[i]` is not 0. Never throws.
   * @returns the views that all offsets are in, or undefined where a page needs a closer look: one that is not mapped, lies beyond the
   * window, or in a memory of its own.
   */
  locateAll(vfns: readonly number[], writable: Uint8Array, count: number, offsets: number[]): MemoryViews | undefined;
  /** Copies bytes at a virtual address, a bigint where it is above 2^53. @throws {HvError} `page-fault` */
  read(address: number | bigint, into: Uint8Array): void;
  /** As `read`, the other way. @throws {HvError} `page-fault`; pages before the refused one are written. */
  write(address: number | bigint, from: Uint8Array): void;
}

/** Virtual pages nobody else of the domain uses: where grants can be mapped. */
export interface DomainAddresses {
  /** `pages` consecutive virtual frames with a guard page on both sides; the first, or -1. */
  alloc(pages: number): number;
  /** Gives back what `alloc` gave. @throws {VmapError} `not-an-area` */
  free(vfn: number): void;
}

/** Who uses pages, for safe unmapping: fits `PageUse` of gnttab. Counts are by virtual frame for mapped and by gfn for granted pages. */
export interface DomainPageUse extends PageUse {
  /** One more user of the mapped page, besides its owner. */
  use(vfn: number): void;
  /** One user less. @throws {HvError} `bad-argument`: nobody uses it. */
  unuse(vfn: number): void;
}

/**
 * A domain, as the code that runs in it has it: its own memory, grants, ports, store connection and time, and no way to anything
 * of another's. Everything refuses once the domain is dead: batch hypercalls with -ESRCH, the rest with `dead-domain`.
 */
export interface Domain {
  readonly id: DomId;
  readonly name: string;
  readonly abi: Abi;
  readonly state: DomainState;
  readonly privileged: boolean;
  readonly memory: DomainMemory;
  readonly pages: DomainPages;
  /** Frames for `vmap`: the domain's own, outside its guest-physical memory. */
  readonly heap: PageAllocator;
  readonly addressSpace: DomainSpace;
  readonly addresses: DomainAddresses;
  readonly pageUse: DomainPageUse;
  readonly hypercalls: DomainGrantHypercalls;
  readonly events: DomainPorts;
  readonly store: StoreConnection;
  /** The machine's clock; work runs as an event of this domain. Ticks are milliseconds. */
  readonly scheduler: SchedulerLike;
  /** Ports that the domain finds bound at boot. */
  readonly storePort: number;
  readonly consolePort: number;
  /** A stream of numbers of this domain's own. */
  random(purpose: string): Random;
  /** Runs `work` as an event of this domain. */
  post(work: () => void): void;
  /**
   * How a blocking call waits: steps the machine until `condition` holds.
   * @returns false when it can never hold: nothing is left to run.
   * @throws {HvError} `external-wait`, `too-many-steps`; `dead-domain` when the domain died meanwhile.
   */
  waitFor(condition: () => boolean): boolean;
  /** A hypercall by number; pointers are guest-physical addresses of argument bytes. @returns the result, or a negative errno. */
  hypercall(number: number, ...args: number[]): number;
  /** Attaches a plugin that lives in this domain. @throws {HvError} `missing-dependency` */
  use<Deps extends object, Api>(plugin: Plugin<Deps, Api>, deps: Deps): Api;
  /** Detaches the domain's plugins in reverse order, in its own time, before an orderly end. */
  detachAll(): void;
}

/** Work that completes outside the run queue: a file, a socket. While one is open, nothing may wait for it synchronously. */
export interface ExternalWork {
  /** The work is complete: `then` runs as an event of the machine, or of `domain`. Once. */
  done(then: () => void, domain?: Domain): void;
  /** Nothing will come. */
  cancel(): void;
}

/** A machine that runs by itself in real time. */
export interface Drive {
  /** Ends it; the machine can be stepped by hand again. */
  stop(): void;
  /** What stopped it: an error that a step threw. */
  readonly failure: unknown;
}

/** The machine: memory, domains, time, chance, and the run queue. For its owner; a domain gets its {@link Domain}. */
export interface Machine {
  readonly seed: number | string;
  readonly bus: EventBus<MachineEvents>;
  readonly store: XenStore;
  readonly faults: FaultPlan;
  /** The machine's clock as a scheduler; work runs as an event of the machine itself. Ticks are milliseconds. */
  readonly scheduler: SchedulerLike;
  /** Milliseconds since the machine was made. */
  readonly now: number;
  /** Steps taken. */
  readonly steps: number;
  /** Hash of everything that happened so far: who ran, when, and how each hypercall ended. Unsigned 32-bit. */
  readonly hash: number;
  /** Who ran, step by step, with `record`: domids, -1 for the machine. */
  readonly schedule: readonly number[];
  /** The hash after each step, with `record`. */
  readonly hashes: readonly number[];
  /** Machine frames that nobody has. */
  readonly freeFrames: number;
  /** Whether nobody can run and no timer is set. */
  readonly idle: boolean;
  /** Doorbells of all domains. */
  readonly doorbells: DoorbellCounts;

  /**
   * At most 2,047 domains live at once.
   * @throws {HvError} `domid-taken`; `out-of-memory`, with everything undone; `bad-argument`.
   */
  createDomain(options?: DomainOptions): Domain;
  /** @throws {HvError} `no-domain` */
  domain(domid: number): Domain;
  /** Domains that are not gone, by domid. */
  domains(): readonly Domain[];
  /** Holds the domain until it was unpaused as often as paused; what is rung or due meanwhile waits. @throws {HvError} `dead-domain` */
  pause(domain: Domain): void;
  /** Takes one `pause` back. @throws {HvError} `dead-domain`; `bad-state`: it is not paused. */
  unpause(domain: Domain): void;
  /** Ends a domain in order: its plugins are detached, then it is destroyed. */
  shutdown(domain: Domain): void;
  /** Ends a domain at once, as a crash does: none of its code runs again. */
  destroyDomain(domain: Domain): void;

  /** Attaches a plugin. @throws {HvError} `missing-dependency`, naming what is missing. */
  use<Deps extends object, Api>(plugin: Plugin<Deps, Api>, deps: Deps): Api;
  /** Detaches the plugin with this API. @returns false when there is none. */
  release(api: unknown): boolean;

  /** Runs one event. @returns false when there is nothing to run. What a handler throws leaves here; an invariant's error always does. */
  step(): boolean;
  /** Runs until nothing is left, timers included. @returns the steps taken. @throws {HvError} `too-many-steps` */
  run(options?: { stepsMax?: number; untilTicks?: number }): number;
  /**
   * Steps until `condition` holds; also from inside a domain's own call.
   * @returns false when nothing is left to run. @throws {HvError} `external-wait`: what would make it hold completes outside the run queue.
   */
  runUntil(condition: () => boolean, options?: { stepsMax?: number }): boolean;
  /** Runs `work` as an event of the machine. */
  post(work: () => void): void;
  /** Announces work that completes outside the run queue. */
  external(name: string): ExternalWork;
  /** Runs by itself in real time from now on. */
  drive(source: TimeSource): Drive;
  /** A stream of random numbers for one purpose. */
  random(purpose: string): Random;

  /** Mixes a number into the hash: what a scenario wants compared between runs. */
  observe(value: number): void;
  /** Hash of the whole state: every page of every domain, every table. Cost: a walk over memory. */
  stateHash(): number;
  /** Everything that is held, by owner. */
  ledger(): Ledger;
  /** @throws {HvError} `leak`, naming everything that is left over. */
  expectNoLeaks(): void;
  /** The grant tables as the hypervisor's debug key prints them. */
  dumpGrants(): string;
  /**
   * Detaches every plugin, ends every domain, and checks that no requested fault stayed unfired. Goes on when a plugin throws as it is
   * detached, and throws that at the end. @throws {HvError} `fault-never-fired`
   */
  close(): void;
}
