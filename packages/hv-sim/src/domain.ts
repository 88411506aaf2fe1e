import type { DomainPorts } from '@paravirt/event-bus';
import type { DomId, Plugin } from '@paravirt/event-bus/contract';
import type { MemoryFrame } from '@paravirt/gnttab';
import type { PageAllocator } from '@paravirt/vmap';
import type { Abi } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import { HvError } from './errors.ts';
import { GrantTable } from './grants/grant-table.ts';
import type { DomainGrantHypercalls } from './grants/hypercalls.ts';
import { Maptrack } from './grants/maptrack.ts';
import type { Party } from './grants/party.ts';
import type { TableFrames } from './grants/version.ts';
import type { AddressSpace } from './memory/address-space.ts';
import { MemoryFace, SpaceFace } from './memory/faces.ts';
import type { Bank } from './memory/frames.ts';
import type { GuestMemory, GuestPageList } from './memory/guest-memory.ts';
import type { PageUses } from './page-use.ts';
import { PluginHost } from './plugin-host.ts';
import type { StoreConnection } from './store/types.ts';
import type { Random } from './time/random.ts';
import { Agent } from './time/run-queue.ts';
import type { Domain, DomainAddresses, DomainMemory, DomainPages, DomainPageUse, DomainSpace, DomainState } from './types.ts';

/** What the machine knows of a domain. The domain's own code sees `face`, and through it nothing of this. */
export class DomainCore implements Party {
  // What doorbells and mappings use stands first and together: with many domains it comes from far memory every time.
  readonly agent: Agent;
  readonly id: number;
  readonly grants: GrantTable;
  memory!: GuestMemory;
  /** Neither dying nor gone: a field, because every hypercall asks. */
  alive = true;
  readonly maptrack: Maptrack;
  space!: AddressSpace;
  readonly name: string;
  readonly abi: Abi;
  readonly privileged: boolean;
  readonly plugins: PluginHost = new PluginHost();
  readonly bank: Bank | undefined;
  readonly heap: number;
  readonly tableFrames: TableFrames;
  state: DomainState = 'running';
  /** Set while the domain is paused by `pause`; counts, as several may want it. */
  pauses = 0;
  /** Pages that the address book of `addresses` keeps for itself. */
  bookPages: () => number = () => 0;

  pages!: GuestPageList;
  pageUse!: PageUses;
  hypercalls!: DomainGrantHypercalls;
  ports!: DomainPorts;
  connection!: StoreConnection;
  scheduler!: SchedulerLike;
  allocator!: PageAllocator;
  addresses!: DomainAddresses;
  /** The boot pages, wherever the domain's memory slots put them meanwhile. */
  boot: readonly MemoryFrame[] = [];
  storePort = 0;
  consolePort = 0;
  /** Ports that were open at boot. */
  bootPorts: readonly number[] = [];
  /** The frames that are kept for the tables of a domain with a buffer of its own. */
  tableReserve: number[] = [];
  face!: Domain;
  /** Made at the first hypercall by number. */
  door: { call(number: number, args: readonly number[]): number } | undefined = undefined;

  constructor(options: {
    id: number;
    name: string;
    abi: Abi;
    privileged: boolean;
    grantFramesMax: number;
    handlesMax: number;
    bank: Bank | undefined;
    heap: number;
    tableFrames: (core: DomainCore) => TableFrames;
  }) {
    this.id = options.id;
    this.name = options.name;
    this.abi = options.abi;
    this.privileged = options.privileged;
    this.grants = new GrantTable(options.grantFramesMax);
    this.maptrack = new Maptrack(options.handlesMax);
    this.agent = new Agent(options.id);
    this.bank = options.bank;
    this.heap = options.heap;
    this.tableFrames = options.tableFrames(this);
  }

  /** @throws {HvError} `dead-domain` */
  mustLive(): void {
    if (!this.alive) throw new HvError({ code: 'dead-domain', domid: this.id, state: this.state });
  }
}

/** What a domain's face asks of the machine. */
export interface FaceMachine {
  random(domid: number, purpose: string): Random;
  post(core: DomainCore, work: () => void): void;
  waitFor(core: DomainCore, condition: () => boolean): boolean;
  hypercall(core: DomainCore, number: number, args: readonly number[]): number;
}

/** The capability that is handed to a domain's code. Its fields are private, so that nothing leads from it to the machine. */
export class DomainFace implements Domain {
  readonly #core: DomainCore;
  readonly #machine: FaceMachine;
  readonly id: DomId;
  readonly name: string;
  readonly abi: Abi;
  readonly privileged: boolean;
  readonly memory: DomainMemory;
  readonly pages: DomainPages;
  readonly heap: PageAllocator;
  readonly addressSpace: DomainSpace;
  readonly addresses: DomainAddresses;
  readonly pageUse: DomainPageUse;
  readonly hypercalls: DomainGrantHypercalls;
  readonly events: DomainPorts;
  readonly store: StoreConnection;
  readonly scheduler: SchedulerLike;
  readonly storePort: number;
  readonly consolePort: number;

  constructor(core: DomainCore, machine: FaceMachine) {
    this.#core = core;
    this.#machine = machine;
    this.id = core.id as DomId;
    this.name = core.name;
    this.abi = core.abi;
    this.privileged = core.privileged;
    this.memory = new MemoryFace(core.memory);
    this.pages = core.pages;
    this.heap = core.allocator;
    this.addressSpace = new SpaceFace(core.space);
    this.addresses = core.addresses;
    this.pageUse = core.pageUse;
    this.hypercalls = core.hypercalls;
    this.events = core.ports;
    this.store = core.connection;
    this.scheduler = core.scheduler;
    this.storePort = core.storePort;
    this.consolePort = core.consolePort;
  }

  get state(): DomainState {
    return this.#core.state;
  }

  random(purpose: string): Random {
    return this.#machine.random(this.id, purpose);
  }

  post(work: () => void): void {
    this.#core.mustLive();
    this.#machine.post(this.#core, work);
  }

  /** Handed on by itself, as its neighbours are: `{ pages, events, store, waitFor }`. */
  readonly waitFor = (condition: () => boolean): boolean => {
    this.#core.mustLive();
    return this.#machine.waitFor(this.#core, condition);
  };

  hypercall(number: number, ...args: number[]): number {
    this.#core.mustLive();
    return this.#machine.hypercall(this.#core, number, args);
  }

  use<Deps extends object, Api>(plugin: Plugin<Deps, Api>, deps: Deps): Api {
    this.#core.mustLive();
    return this.#core.plugins.use(plugin, deps);
  }

  detachAll(): void {
    this.#core.plugins.releaseAll();
  }
}
