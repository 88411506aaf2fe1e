import { type DomId, InvariantError } from '@paravirt/event-bus/contract';
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, XENBUS_STATE } from '@paravirt/xen-abi';
import { Buffers } from './buffers.ts';
import { CarriedTeller, takeOver } from './carried.ts';
import { Closing, type ClosingHost } from './closing.ts';
import { Connection, NO_RINGS, NONE_CARRIED, newFigures } from './connection.ts';
import { BlkfrontError, ERRNO } from './errors.ts';
import { type Features, noFeatures, readFeatures, readNode, readSectors } from './features.ts';
import { grantsOf } from './grants.ts';
import { announce, type Ends, publish, readEnds, readOnline, readState, readTransport, type Transport, unpublish } from './handshake.ts';
import { HeldFrames } from './held-frames.ts';
import { infoOf } from './info.ts';
import { Listeners, Tap } from './listeners.ts';
import { type CheckedOptions, checkOptions } from './options.ts';
import type { Ring } from './queue.ts';
import { type Carried, touches } from './queue-parts.ts';
import { Timers } from './timers.ts';
import type { BlkfrontOptions, BlkfrontSurroundings, BlkInfo, DeviceState, Grants, OnDone, QueueFigures } from './types.ts';
import { Upkeep } from './upkeep.ts';
import { Watches } from './watches.ts';

/**
 * The life of a device by store states: it connects, follows its backend through resizes, restarts and ends, and carries requests
 * from a dead connection to the next. `Device` is its public face.
 */
export class Session implements ClosingHost {
  // What each upcall and each request looks at stands first and together: with many devices it comes from far memory every time.
  takeover: ((queue: number) => void) | null = null;
  connection: Connection | undefined;
  /** The rings of the connection. */
  rings: readonly Ring[] = NO_RINGS;
  state: DeviceState = 'closed';
  /** Requests of a dead connection, in the order of issue. */
  carried: Carried[] = NONE_CARRIED;
  /** A buffer is to be given back as soon as no request uses it. */
  private leaving = false;
  readonly upkeep: Upkeep;
  readonly path: string;
  readonly options: CheckedOptions;
  readonly figures: QueueFigures[] = [];
  readonly buffers: Buffers;
  readonly held: HeldFrames = new HeldFrames();
  readonly features: Features = noFeatures();
  readonly tap: Tap = new Tap();
  readonly roomListeners: Listeners<(queue: number) => void> = new Listeners();
  readonly stateListeners: Listeners<(state: DeviceState, reason: string) => void> = new Listeners();
  readonly surroundings: BlkfrontSurroundings & { readonly grants: Grants };
  reason = '';
  info: BlkInfo | undefined;
  /** Queues to ask for: the option, until a driver configures fewer. */
  queuesWanted: number;
  /** By queue: how often a driver holds its requests back. */
  readonly plugs: number[] = [];
  private readonly sink: OnDone;
  private readonly teller: CarriedTeller;
  private readonly timers: Timers;
  private readonly patience: Timers;
  private ends: Ends | undefined;
  private transport: Transport | undefined;
  private readonly watches: Watches;
  /** The backend was seen, so that its absence means that it went. */
  private seen = false;
  /** Closed was written so that a backend of an older connection lets go. */
  private lettingGo = false;
  private readonly closing: Closing;

  /** @throws {BlkfrontError} `bad-argument`. */
  constructor(options: BlkfrontOptions, surroundings: BlkfrontSurroundings, sink: OnDone) {
    this.options = checkOptions(options);
    const { grants, scheduler, pages, events, bus } = surroundings;
    this.surroundings = { ...surroundings, grants: 'permit' in grants ? grants : grantsOf(grants, scheduler) };
    this.path = `device/vbd/${options.device}`;
    this.queuesWanted = this.options.queues;
    this.sink = sink;
    this.teller = new CarriedTeller(this.path, this.tap, bus);
    this.timers = new Timers(scheduler);
    this.patience = new Timers(scheduler);
    this.watches = new Watches(surroundings.store);
    this.closing = new Closing(this, this.timers, this.options.closeTicks);
    this.buffers = new Buffers(pages, this.surroundings.grants, this.held, (frames) => this.uses(frames));
    this.upkeep = new Upkeep({
      path: this.path,
      options: this.options,
      timers: this.timers,
      grants: this.surroundings.grants,
      held: this.held,
      events,
      bus,
      queues: () => this.connection?.queues ?? [],
      poll: (queue) => void this.poll(queue),
      onBroken: (reason) => this.abandon('broken', reason),
    });
  }

  start(): void {
    this.require('start', ['closed', 'broken']);
    this.begin('');
  }

  stop(): void {
    this.closing.wanted = true;
    if (this.state === 'closed' || this.state === 'broken' || this.state === 'closing') return;
    this.close(false, '');
  }

  suspend(): void {
    this.require('suspend', ['initialising', 'initialised', 'connected', 'lost']);
    const before: string = this.state;
    for (const { ring } of this.connection?.queues ?? []) {
      ring.refusal = ERRNO.EBUSY;
      // What is answered already is over and need not be issued again.
      ring.poll();
      // An answer may have ended the device, and who was told of one may have asked for its end.
      if (this.state !== before) return;
    }
    this.connection?.silence();
    this.upkeep.pause();
    this.watches.clear();
    this.change('suspended', '');
  }

  resume(cancelled: boolean): void {
    this.require('resume', ['suspended']);
    const { connection } = this;
    // The rings of a connection that the backend was asked to let go of are none to go on with.
    if (cancelled && !this.lettingGo && connection !== undefined && connection.queues.length > 0) {
      connection.listen(this);
      this.watchBackend();
      this.change('connected', 'suspend cancelled');
      // Who was told may have suspended it again.
      if (this.state === 'suspended') return;
      this.upkeep.goOn();
      for (let queue = 0; queue < connection.queues.length; queue++) this.poll(queue);
      this.pump();
      return;
    }
    this.begin('resumed');
  }

  /** Ends the device at once, whatever the other end does. */
  abandon(last: 'closed' | 'broken', reason: string): void {
    if (this.state === 'closed' || this.state === 'broken') return;
    this.drop();
    this.watches.clear();
    announce(this.surroundings, this.path, XENBUS_STATE.Closed, reason);
    this.change(last, reason);
    this.failCarried(last === 'broken' ? ERRNO.EIO : ERRNO.ENODEV);
  }

  /** Handles the answers of one queue that are there. */
  poll(queue: number): number {
    const ring = this.rings[queue];
    return ring === undefined ? 0 : this.handle(ring);
  }

  /** An upcall for a ring of the connection. */
  upcall(ring: Ring): void {
    ring.figures.upcalls++;
    if (this.takeover !== null) {
      this.takeover(ring.index);
      return;
    }
    if (this.connection === undefined || this.handle(ring) > 0 || this.connection === undefined) return;
    ring.figures.spurious++;
    this.upkeep.spurious(ring);
  }

  private handle(ring: Ring): number {
    const handled = ring.poll();
    if (handled > 0) this.upkeep.useful(ring);
    if (this.carried.length > 0) this.pump();
    if (this.state === 'closing') this.closing.progress();
    if (ring.unsettled) this.upkeep.settle(ring.index);
    if (this.leaving) this.letLeave();
    return handled;
  }

  private uses(frames: ReadonlySet<number>): boolean {
    const queues = this.connection?.queues ?? [];
    const used = queues.some(({ ring }) => ring.uses(frames)) || this.carried.some((request) => touches(request, frames));
    this.leaving ||= used;
    return used;
  }

  private letLeave(): void {
    this.leaving = false;
    this.buffers.settle();
  }

  private begin(reason: string): void {
    const { store } = this.surroundings;
    const ends = readEnds(store, this.path, this.options.device);
    // Before anything changes: the store may refuse it.
    this.watchBackend(ends);
    this.followName();
    this.ends = ends;
    const backend = readState(store, ends.backend);
    this.seen = backend !== undefined && backend !== XENBUS_STATE.Unknown;
    // A backend that still serves an older connection must let go of it before it can take this one. Until then the old rings and
    // references stay as they are: a request that it has yet to take must not meet a reference lent out again.
    this.lettingGo = backend === XENBUS_STATE.Connected || backend === XENBUS_STATE.Closing;
    if (!this.lettingGo) this.drop();
    if (this.lettingGo) this.say(XENBUS_STATE.Closed);
    else if (readState(store, this.path) !== XENBUS_STATE.Initialising) this.say(XENBUS_STATE.Initialising);
    if (reason !== '') this.limit(reason);
    this.change('initialising', reason);
  }

  private watchBackend(ends: Ends | undefined = this.ends): void {
    if (ends === undefined) return;
    this.watches.backend(ends.backend, () => {
      this.guarded(() => this.onBackend());
      // Outside of it: a completer that throws is no fault of the backend's.
      this.pump();
    });
  }

  /** The toolstack may name another backend while there is no connection. */
  private followName(): void {
    const another = (): void => {
      const { state, reason } = this;
      if (state !== 'lost' && state !== 'initialising') return;
      if (readNode(this.surroundings.store, `${this.path}/backend`) === this.ends?.backend) return;
      // A device that waits for its first connection may go on doing so for as long as it takes.
      this.begin(state === 'initialising' && reason === '' ? '' : 'another backend');
    };
    this.watches.name(this.path, () => this.guarded(another));
  }

  /** Whatever goes wrong with the peer or the store ends the device, never the domain. */
  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      const bad = error instanceof BlkfrontError && error.refusal.code === 'bad-store';
      // A folder that the toolstack took away is no lie of anybody.
      const taken = bad && readState(this.surroundings.store, this.path) === undefined;
      if (taken) this.abandon('closed', 'the device was taken away');
      else this.abandon(bad ? 'broken' : 'closed', error instanceof Error ? error.message : String(error));
    }
  }

  private onBackend(): void {
    const state = readState(this.surroundings.store, this.ends!.backend);
    if (state !== undefined && state !== XENBUS_STATE.Unknown) this.seen = true;
    switch (this.state) {
      case 'initialising':
        this.initialise(state);
        return;
      case 'initialised':
      case 'connected':
        if (state === XENBUS_STATE.Connected) {
          if (this.state === 'initialised') this.connect();
          else this.resize();
        } else if (state === XENBUS_STATE.Closing || state === XENBUS_STATE.Closed) this.close(true, 'the backend closed');
        else if (state === undefined) this.lose('the backend vanished');
        else if (state === XENBUS_STATE.Initialising || (state === XENBUS_STATE.InitWait && this.state === 'connected')) {
          this.drop();
          this.begin('the backend started anew');
        }
        return;
      case 'closing':
        this.closing.progress();
        return;
      case 'lost':
        if (state !== undefined && state !== XENBUS_STATE.Unknown) this.begin('the backend came back');
        return;
      default:
        return;
    }
  }

  private initialise(state: number | undefined): void {
    switch (state) {
      case undefined:
        if (this.seen) this.lose('the backend vanished');
        return;
      case XENBUS_STATE.Initialising:
      case XENBUS_STATE.InitWait:
      case XENBUS_STATE.Initialised:
        if (this.connection !== undefined) this.drop();
        if (this.lettingGo) this.say(XENBUS_STATE.Initialising);
        this.lettingGo = false;
        if (state !== XENBUS_STATE.Initialising) this.publish();
        return;
      case XENBUS_STATE.Connected:
      case XENBUS_STATE.Closing:
        if (!this.lettingGo) this.say(XENBUS_STATE.Closed);
        this.lettingGo = true;
        return;
      case XENBUS_STATE.Closed:
        if (readOnline(this.surroundings.store, this.ends) === '0') {
          this.abandon('closed', 'the backend is being taken away');
          return;
        }
        if (this.connection !== undefined) this.drop();
        this.lettingGo = false;
        this.say(XENBUS_STATE.Initialising);
        return;
      default:
        return;
    }
  }

  private publish(): void {
    const { store, bus } = this.surroundings;
    const { refusal } = this.held;
    if (refusal !== undefined) {
      this.abandon('broken', refusal);
      return;
    }
    const { ringPages, protocol, persistent } = this.options;
    const ends = this.ends!;
    const transport = readTransport(store, this.path, ends.backend, ringPages, this.queuesWanted);
    this.transport = transport;
    while (this.figures.length < transport.queues) this.figures.push(newFigures());
    const { path, surroundings, figures, held } = this;
    this.connection = new Connection({ path, surroundings, peer: ends.backendId as DomId, protocol, transport, bus, figures, held });
    publish(store, path, this.connection.keys(), protocol, persistent);
    this.watches.nameSettled();
    this.say(XENBUS_STATE.Initialised);
    this.change('initialised', '');
  }

  private connect(): void {
    const { options, features, upkeep } = this;
    const ends = this.ends!;
    const transport = this.transport!;
    const connection = this.connection!;
    readFeatures(this.surroundings.store, ends.backend, features);
    features.zeroByDiscard = options.discardZeroes && features.discard;
    const persistent = features.persistent && options.persistent;
    const maxSegments = Math.max(BLKIF_MAX_SEGMENTS_PER_REQUEST, Math.min(features.indirectSegments, options.maxSegments));
    connection.open(
      {
        features,
        handle: ends.virtualDevice & 0xffff,
        maxSegments,
        persistent,
        poolRefs: options.poolRefs,
        poolOrder: options.poolOrder,
        pinned: this.buffers.table,
        sink: this.sink,
        hooks: {
          onBroken: (reason) => this.abandon('broken', reason),
          onRoom: (queue) => this.tellRoom(queue),
          onDry: (queue, what) => upkeep.dry(queue, what),
          onBacklog: (queue) => this.timers.set(`backlog ${queue}`, 0, () => void this.poll(queue)),
          tap: this.tap,
        },
        onHeld: (_queue, gref, gfn) => upkeep.held(gref, gfn),
      },
      this,
    );
    this.rings = connection.rings;
    for (const ring of this.rings) for (let held = this.plugs[ring.index] ?? 0; held > 0; held--) ring.plug();
    if (persistent && transport.trusted) this.buffers.attach(ends.backendId as DomId);
    this.info = infoOf(features, transport, { slots: connection.slots, maxSegments, persistent, protocol: options.protocol });
    this.say(XENBUS_STATE.Connected);
    this.change('connected', '');
  }

  private resize(): void {
    const before = this.features.sectors;
    const raw = readSectors(this.surroundings.store, this.ends!.backend);
    const sectors = raw - (raw % (this.features.sectorBytes / 512));
    if (sectors === before) return;
    this.features.sectors = sectors;
    this.info = { ...this.info!, sectors };
    const { bus } = this.surroundings;
    if (bus?.observed('blkfront:resized')) bus.emit('blkfront:resized', { path: this.path, before, sectors });
  }

  /** Requests of a former connection first, then everyone. */
  private pump(): void {
    const { connection } = this;
    const live = (): boolean => this.connection === connection && this.state === 'connected';
    if (connection === undefined || !live()) return;
    const errors = takeOver(connection.rings, () => this.carried, live);
    if (this.carried.length === 0 && live()) {
      for (const ring of connection.rings.filter(({ refusal }) => refusal !== 0)) {
        ring.refusal = 0;
        this.tellRoom(ring.index);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  private lose(reason: string): void {
    this.drop();
    this.limit(reason);
    this.change('lost', reason);
    if (this.options.reconnectTicks === 0) this.abandon('closed', reason);
    if (this.state === 'lost') this.followName();
  }

  /** Whoever waits for another connection waits so long from the end of the last, whatever signs of life there are between. */
  private limit(reason: string): void {
    const { reconnectTicks } = this.options;
    if (reconnectTicks === 0 || this.patience.isSet('connect')) return;
    this.patience.set('connect', reconnectTicks, () => this.abandon('closed', `${reason}, and no connection came about in time`));
  }

  /** Ends the connection and keeps its requests. */
  private drop(): void {
    this.upkeep.clear();
    const taken = this.connection?.destroy((gref, gfn) => this.upkeep.returned(gref, gfn)) ?? [];
    this.connection = undefined;
    this.rings = NO_RINGS;
    this.buffers.detach();
    if (taken.length > 0) this.carried = [...taken, ...this.carried];
  }

  private close(byBackend: boolean, reason: string): void {
    const { state, closing } = this;
    closing.begin(byBackend);
    for (const { ring } of this.connection?.queues ?? []) ring.refusal = ERRNO.ENODEV;
    this.change('closing', reason);
    closing.arm();
    // A suspended device does not look at its backend; one that closes does.
    if (!this.watches.live) this.watchBackend();
    if (state === 'connected') closing.progress();
    else if (this.lettingGo) {
      // The old rings stay until the backend has said it too.
      closing.said();
      closing.progress();
    } else closing.advance();
  }

  backendState(): number | undefined {
    return this.ends === undefined ? undefined : readState(this.surroundings.store, this.ends.backend);
  }

  idle(): boolean {
    return this.connection === undefined || this.connection.queues.every(({ ring }) => ring.busy === 0);
  }

  closed(): void {
    const { reason } = this;
    const online = readOnline(this.surroundings.store, this.ends);
    this.drop();
    this.watches.clear();
    if (!this.closing.wanted && online === '1' && this.options.reconnectTicks > 0) {
      // The host's driver restarts: the device comes back.
      this.guarded(() => this.begin(reason));
      return;
    }
    unpublish(this.surroundings.store, this.path);
    this.change('closed', reason);
    this.failCarried(ERRNO.ENODEV);
  }

  /** Drops the carried requests of `cookie`, without a call of its `sink`. @returns how many. */
  takeBack(cookie: number, sink: OnDone): number {
    const mine = this.carried.filter((request) => request.cookie === cookie && request.sink === sink);
    if (mine.length > 0) this.carried = this.carried.filter((request) => !mine.includes(request));
    for (const request of mine) this.teller.tell(request, ERRNO.ENODEV);
    return mine.length;
  }

  private failCarried(status: number): void {
    this.teller.end(this.carried.splice(0), status);
    if (this.leaving) this.letLeave();
    this.tellRoom(0);
  }

  say(state: number): void {
    announce(this.surroundings, this.path, state);
  }

  private change(state: DeviceState, reason: string): void {
    const before = this.state;
    this.state = state;
    this.reason = reason;
    if (state !== 'lost' && state !== 'initialising' && state !== 'initialised') this.patience.clearAll();
    const { bus } = this.surroundings;
    if (bus?.observed('blkfront:state')) bus.emit('blkfront:state', { path: this.path, state, before, reason });
    for (const { call, live } of this.stateListeners.all) if (live) call(state, reason);
    if (this.leaving) this.letLeave();
  }

  private tellRoom(queue: number): void {
    for (const { call, live } of this.roomListeners.all) if (live) call(queue);
  }

  private require(call: string, states: readonly DeviceState[]): void {
    if (states.includes(this.state)) return;
    throw new BlkfrontError({ code: 'wrong-state', call, state: this.state, allowed: states.join(', ') });
  }
}
