import { createEventBus, createEventChannels, type DoorbellCounts, type EventBus } from '@paravirt/event-bus';
import type { DomId, Plugin } from '@paravirt/event-bus/contract';
import { checkAbi } from '@paravirt/xen-abi';
import type { SchedulerLike } from 'rxjs';
import { buildDomain, DOMIDS_MAX } from './build-domain.ts';
import { killDomain, settleDead } from './death.ts';
import { type DomainCore, DomainFace, type FaceMachine } from './domain.ts';
import { doorOf } from './door/door.ts';
import { dumpGrants } from './dump.ts';
import { HvError, whole } from './errors.ts';
import { armDomain, armMachine } from './faults/filters.ts';
import { FaultPlan } from './faults/plan.ts';
import { GrantCopies } from './grants/copy.ts';
import { GrantMaps } from './grants/map.ts';
import { type Ledger, leftovers } from './ledger.ts';
import { Frames, PAGE } from './memory/frames.ts';
import { PluginHost } from './plugin-host.ts';
import { RunLoop, Upcalls } from './run-loop.ts';
import { SERVICE_DOMID, Services } from './services.ts';
import { stateHash } from './state-hash.ts';
import { takeStock } from './stock.ts';
import { createStore } from './store/store.ts';
import type { XenStore } from './store/types.ts';
import { openStoreRing } from './store-ring.ts';
import { Clock, type TimeSource } from './time/clock.ts';
import { Pulse } from './time/pulse.ts';
import { createRandom, type Random } from './time/random.ts';
import { Agent, RunQueue } from './time/run-queue.ts';
import { Toolstack } from './toolstack.ts';
import type { Domain, DomainOptions, Drive, ExternalWork, Machine, MachineEvents, MachineOptions } from './types.ts';
import type { World } from './world.ts';

class SimulatedMachine implements Machine {
  readonly seed: number | string;
  readonly bus: EventBus<MachineEvents>;
  readonly scheduler: SchedulerLike;
  readonly #world: World;
  readonly #loop: RunLoop;
  readonly #plugins: PluginHost = new PluginHost();
  readonly #random: Random;
  readonly #cores: WeakMap<Domain, DomainCore> = new WeakMap();
  readonly #service: Agent = new Agent(SERVICE_DOMID);
  readonly #faceMachine: FaceMachine;
  readonly #isolated: boolean;
  /** Domains whose buffer may grow. */
  readonly #growing: Set<DomainCore> = new Set();
  #nextId = 1;

  constructor(options: MachineOptions) {
    this.seed = options.seed;
    this.#isolated = options.isolated ?? false;
    this.bus = options.bus ?? createEventBus<MachineEvents>();
    this.#random = createRandom(options.seed);
    const pulse = new Pulse();
    const clock = new Clock();
    const loop = new RunLoop({
      queue: new RunQueue(options.order ?? 'round-robin', this.#random.split('run-queue'), options.record ?? false),
      clock,
      pulse,
      bus: this.bus,
      stepTicks: options.stepTicks ?? 0,
      stepsMax: whole('stepsMax', options.stepsMax ?? 10_000_000, 1, Number.MAX_SAFE_INTEGER),
    });
    this.#loop = loop;
    const frames = new Frames();
    const heap = frames.addHeap();
    const memory = options.memory ?? [{ buffer: new ArrayBuffer(ramBytes(options.ramBytes)) }];
    for (const source of memory) frames.addBank(source, heap);
    const parties: (DomainCore | undefined)[] = [];
    const faults = new FaultPlan(options.faults, this.#random.split('faults'), pulse, this.bus);
    const channels = createEventChannels({ queue: new Upcalls(loop, parties, this.#service), bus: this.bus });
    loop.channels = channels;
    const store = createStore({
      enqueue: (work, domid) => loop.post(parties[domid]?.agent ?? loop.own, work),
      bus: this.bus,
      conflict: (domid) => faults.wants('store-conflict') && faults.strike('store-conflict', domid) >= 0,
      ...(options.storeLimits === undefined ? {} : { limits: options.storeLimits }),
    });
    const policy = options.policy ?? {};
    const grantWorld = { parties, policy };
    this.#world = {
      parties,
      policy,
      bus: this.bus,
      pulse,
      clock,
      loop,
      frames,
      heap,
      maps: new GrantMaps(grantWorld, frames),
      copies: new GrantCopies(grantWorld, frames),
      channels,
      store,
      faults,
      toolstack: new Toolstack(store.connect(0 as DomId)),
      services: new Services({
        channels,
        waiting: () => this.#service.waiting > 0,
        openStoreRing: (core, notify) => openStoreRing(store, core, notify),
        console: (core, text) => {
          if (this.bus.observed('hv:console')) this.bus.emit('hv:console', { domid: core.id as DomId, text });
        },
      }),
      random: (domid, purpose) => this.#random.split(`domain ${domid}`).split(purpose),
    };
    frames.onFreed = (_mfn, owner) => {
      const core = owner < 0 ? undefined : parties[owner];
      if (core?.state === 'dying') settleDead(this.#world, core);
    };
    this.scheduler = clock.schedulerFor(loop.own, () => true);
    this.#faceMachine = {
      random: this.#world.random,
      post: (core, work) => loop.post(core.agent, work),
      waitFor(core, condition) {
        const held = loop.runUntil(() => !core.alive || condition(), loop.stepsMax);
        core.mustLive();
        return held;
      },
      hypercall: (core, number, args) => doorOf(this.#world, core).call(number, args),
    };
    armMachine(this.#world, (core, how, ticks) => this.#strike(core, how, ticks));
  }

  get store(): XenStore {
    return this.#world.store;
  }

  get faults(): FaultPlan {
    return this.#world.faults;
  }

  get now(): number {
    return this.#world.clock.now;
  }

  get steps(): number {
    return this.#world.pulse.steps;
  }

  get hash(): number {
    return this.#world.pulse.hash >>> 0;
  }

  get schedule(): readonly number[] {
    return this.#loop.queue.record ?? [];
  }

  get hashes(): readonly number[] {
    return this.#loop.hashes ?? [];
  }

  get freeFrames(): number {
    return this.#world.frames.free(this.#world.heap);
  }

  get idle(): boolean {
    return this.#loop.idle;
  }

  get doorbells(): DoorbellCounts {
    return this.#world.channels.totals();
  }

  createDomain(options: DomainOptions = {}): Domain {
    if (options.abi !== undefined) checkAbi(options.abi);
    const id = this.#pickId(options.id);
    // Each living domain takes two ports of the store's and the console's daemons.
    if (this.#world.services.full) throw new HvError({ code: 'out-of-memory', wanted: 1, free: 0 });
    const core = buildDomain(this.#world, { isolated: this.#isolated, ...options }, id);
    if (options.id === undefined) this.#nextId = id + 1;
    armDomain(this.#world, core);
    if (options.memory !== undefined) this.#watchGrowth(core);
    const face = new DomainFace(core, this.#faceMachine);
    core.face = face;
    this.#cores.set(face, core);
    this.#world.pulse.note(id, core.memory.ramPages);
    if (this.bus.observed('hv:created')) this.bus.emit('hv:created', { domid: id as DomId, pages: core.memory.ramPages });
    return face;
  }

  /** A buffer that is replaced by a larger one leaves views of nothing behind: they are renewed before anybody runs. */
  #watchGrowth(core: DomainCore): void {
    this.#growing.add(core);
    this.#loop.beforeStep = () => {
      for (const grown of this.#growing) {
        if (grown.state === 'gone') this.#growing.delete(grown);
        else if (grown.alive) grown.memory.refresh();
      }
    };
  }

  #pickId(wanted: number | undefined): number {
    const { parties } = this.#world;
    if (wanted !== undefined) {
      whole('id', wanted, 0, DOMIDS_MAX - 1);
      if (parties[wanted] !== undefined) throw new HvError({ code: 'domid-taken', domid: wanted });
      return wanted;
    }
    for (let tries = 0; tries < DOMIDS_MAX - 1; tries++) {
      const id = ((this.#nextId - 1 + tries) % (DOMIDS_MAX - 1)) + 1;
      if (parties[id] === undefined) return id;
    }
    throw new HvError({ code: 'out-of-memory', wanted: 1, free: 0 });
  }

  #core(domain: Domain): DomainCore {
    const core = this.#cores.get(domain);
    if (core === undefined) throw new HvError({ code: 'no-domain', domid: domain.id });
    return core;
  }

  domain(domid: number): Domain {
    const core = this.#world.parties[domid];
    if (core === undefined) throw new HvError({ code: 'no-domain', domid });
    return core.face;
  }

  domains(): readonly Domain[] {
    return this.#world.parties.filter((core) => core !== undefined).map((core) => core.face);
  }

  pause(domain: Domain): void {
    const core = this.#core(domain);
    core.mustLive();
    if (core.pauses++ > 0) return;
    core.state = 'paused';
    core.agent.paused = true;
    this.#loop.queue.remove(core.agent);
    if (this.bus.observed('hv:paused')) this.bus.emit('hv:paused', { domid: domain.id });
  }

  unpause(domain: Domain): void {
    const core = this.#core(domain);
    core.mustLive();
    if (core.pauses === 0) throw new HvError({ code: 'bad-state', domid: domain.id, state: core.state, wanted: 'paused' });
    if (--core.pauses > 0) return;
    core.state = 'running';
    core.agent.paused = false;
    this.#loop.queue.add(core.agent);
    if (this.bus.observed('hv:unpaused')) this.bus.emit('hv:unpaused', { domid: domain.id });
  }

  shutdown(domain: Domain): void {
    const core = this.#core(domain);
    core.mustLive();
    try {
      core.plugins.releaseAll();
    } finally {
      killDomain(this.#world, core, 'shutdown');
    }
  }

  destroyDomain(domain: Domain): void {
    killDomain(this.#world, this.#core(domain), 'destroyed');
  }

  #strike(core: DomainCore, how: 'domain-paused' | 'domain-killed', ticks: number): void {
    if (how === 'domain-killed') {
      killDomain(this.#world, core, 'fault');
      return;
    }
    this.pause(core.face);
    this.scheduler.schedule(() => {
      if (core.alive && core.pauses > 0) this.unpause(core.face);
    }, ticks);
  }

  use<Deps extends object, Api>(plugin: Plugin<Deps, Api>, deps: Deps): Api {
    return this.#plugins.use(plugin, deps);
  }

  release(api: unknown): boolean {
    return this.#plugins.release(api);
  }

  step(): boolean {
    return this.#loop.step();
  }

  run({ stepsMax = this.#loop.stepsMax, untilTicks = Number.POSITIVE_INFINITY }: { stepsMax?: number; untilTicks?: number } = {}): number {
    return this.#loop.run(stepsMax, untilTicks);
  }

  runUntil(condition: () => boolean, { stepsMax = this.#loop.stepsMax }: { stepsMax?: number } = {}): boolean {
    return this.#loop.runUntil(condition, stepsMax);
  }

  post(work: () => void): void {
    this.#loop.post(this.#loop.own, work);
  }

  external(name: string): ExternalWork {
    return this.#loop.external(name, (then, domid) => {
      const core = domid === undefined ? undefined : this.#world.parties[domid];
      if (domid !== undefined && core?.alive !== true) return;
      this.#loop.post(core?.agent ?? this.#loop.own, then);
    });
  }

  drive(source: TimeSource): Drive {
    return this.#loop.drive(source);
  }

  random(purpose: string): Random {
    return this.#random.split(`user ${purpose}`);
  }

  observe(value: number): void {
    this.#world.pulse.noteExact(value);
  }

  stateHash(): number {
    return stateHash(this.#world);
  }

  ledger(): Ledger {
    return takeStock(this.#world);
  }

  expectNoLeaks(): void {
    const leaks = leftovers(this.ledger());
    if (leaks.length > 0) throw new HvError({ code: 'leak', leaks });
  }

  dumpGrants(): string {
    return dumpGrants(this.#world);
  }

  close(): void {
    const errors: unknown[] = [];
    const attempt = (act: () => void): void => {
      try {
        act();
      } catch (error) {
        errors.push(error);
      }
    };
    attempt(() => this.#plugins.releaseAll());
    for (const core of [...this.#world.parties]) if (core?.alive === true) attempt(() => this.shutdown(core.face));
    if (errors.length > 0) throw errors[0];
    this.#world.faults.expectAllFired();
  }
}

function ramBytes(bytes: number | undefined): number {
  const wanted = whole('ramBytes', bytes ?? 64 * 2 ** 20, 2 * PAGE, 2 ** 33);
  if (wanted % PAGE !== 0) {
    throw new HvError({ code: 'bad-argument', argument: 'ramBytes', value: String(wanted), allowed: 'a multiple of 4096' });
  }
  return wanted;
}

/**
 * Makes a machine with no domains. Everything that happens in it is decided by its seed and by what its owner calls.
 * @throws {HvError} `bad-argument`
 */
export function createMachine(options: MachineOptions): Machine {
  return new SimulatedMachine(options);
}

/** @throws {HvError} `leak`, naming everything that is left over: for the end of a test. */
export function expectNoLeaks(machine: Pick<Machine, 'expectNoLeaks'>): void {
  machine.expectNoLeaks();
}
