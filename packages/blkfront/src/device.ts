import { type DomId, type Gfn, type Gref, InvariantError } from '@paravirt/event-bus/contract';
import { BLKIF_MAX_SEGMENTS_PER_REQUEST, XENBUS_STATE } from '@paravirt/xen-abi';
import { type BlkBuffer, Buffers } from './buffers.ts';
import { Connection, newFigures, type OpenQueue } from './connection.ts';
import { BlkfrontError, ERRNO } from './errors.ts';
import { type Features, noFeatures, readFeatures, readNode, readSectors } from './features.ts';
import { grantsOf } from './grants.ts';
import { type Ends, publish, readEnds, readState, readTransport, switchState, type Transport, unpublish, writeError } from './handshake.ts';
import { type CheckedOptions, checkOptions } from './options.ts';
import type { Carried, Completion, QueueParts } from './queue.ts';
import { Timers } from './timers.ts';
import type { BlkfrontOptions, BlkfrontSurroundings, BlkInfo, DeviceState, Grants, OnDone, PoolFigures, QueueFigures } from './types.ts';

/** After the last request, as many purges follow at most: a backend that keeps idle grants for minutes is waited for, no longer. */
const PURGES_AFTER_USE = 13;
/** Retries for want of pages, with nothing under way that could free one, before requests fail with -ENOMEM. */
const DRY_TRIES_MAX = 10;
const TICKS_BETWEEN_TRIES_MAX = 1000;

/**
 * The driver of one device: its connection by store states, its queues, and the plain calls of the hot path. Everything is
 * synchronous; what takes time goes on in upcalls, watches and timers. `BlockDevice` puts promises over it, `BlkDev` the calls of
 * uk_blkdev.
 */
export class Device {
  readonly path: string;
  readonly options: CheckedOptions;
  /** Completes every request of `submit`; set it before the first. It may submit again from inside. */
  onDone: OnDone = () => undefined;
  /** By queue; kept over reconnections. */
  readonly figures: QueueFigures[] = [];
  /** While set, upcalls go here instead of handling answers: for polled and interrupt-driven ports of drivers. */
  takeover: ((queue: number) => void) | null = null;
  readonly tap: { completed: ((completion: Completion) => void) | null } = { completed: null };
  readonly buffers: Buffers;
  private readonly surroundings: BlkfrontSurroundings & { readonly grants: Grants };
  private readonly timers: Timers;
  private readonly features: Features = noFeatures();
  private readonly stateListeners: Set<(state: DeviceState, reason: string) => void> = new Set();
  private readonly roomListeners: Set<(queue: number) => void> = new Set();
  private readonly idleUpcalls: number[] = [];
  private current: DeviceState = 'closed';
  private why = '';
  private known: BlkInfo | undefined;
  private ends: Ends | undefined;
  private transport: Transport | undefined;
  private connection: Connection | undefined;
  private carried: Carried[] = [];
  private watches: { unsubscribe(): void }[] = [];
  private freeWait: { unsubscribe(): void } | undefined;
  /** The backend was seen, so that its absence means that it went. */
  private seen = false;
  /** Closed was written so that a backend of an older connection lets go. */
  private lettingGo = false;
  private closeStep: 'drain' | 'closing' | 'closed' = 'drain';
  private byBackend = false;
  private purgesLeft = 0;
  private dryTries = 0;
  private quarantineWait = 0;

  /** @throws {BlkfrontError} `bad-argument`. */
  constructor(options: BlkfrontOptions, surroundings: BlkfrontSurroundings) {
    this.options = checkOptions(options);
    const { grants, scheduler } = surroundings;
    this.surroundings = { ...surroundings, grants: 'permit' in grants ? grants : grantsOf(grants, scheduler) };
    this.path = `device/vbd/${options.device}`;
    this.timers = new Timers(surroundings.scheduler);
    this.buffers = new Buffers(surroundings.pages, this.surroundings.grants);
  }

  get state(): DeviceState {
    return this.current;
  }

  /** Why the device reached its state, where that was not asked for. */
  get reason(): string {
    return this.why;
  }

  /** What the disk is; undefined before the first connection. Flags that the backend took back since are gone from it. */
  get info(): BlkInfo | undefined {
    const info = this.known;
    if (info === undefined) return undefined;
    const f = this.features;
    return { ...info, flush: f.flush ? 'flush' : f.barrier ? 'barrier' : 'none', discard: f.discard, discardSecure: f.discard && f.secure };
  }

  /** Requests taken and not completed. */
  get busy(): number {
    let busy = this.carried.length;
    if (this.connection !== undefined) for (const { ring } of this.connection.queues) busy += ring.busy;
    return busy;
  }

  get queueCount(): number {
    return this.connection?.queues.length ?? 0;
  }

  /** The blocking wait of the host, where it has one. */
  waitFor(condition: () => boolean): boolean {
    return this.surroundings.waitFor?.(condition) ?? condition();
  }

  get blocks(): boolean {
    return this.surroundings.waitFor !== undefined;
  }

  /** Figures of queue `queue`'s references; undefined while there is no connection. */
  poolFigures(queue = 0): PoolFigures | undefined {
    return this.connection?.queues[queue]?.refs.figures;
  }

  /** Whether the backend can still reach the page although no request uses it: do not put secrets there. */
  isHeld(gfn: number): boolean {
    return this.connection?.queues.some(({ refs }) => refs.holds(gfn as never)) ?? false;
  }

  onState(listener: (state: DeviceState, reason: string) => void): { unsubscribe(): void } {
    this.stateListeners.add(listener);
    return { unsubscribe: () => void this.stateListeners.delete(listener) };
  }

  /** Told when a queue that refused a request with -EBUSY can take one. */
  onRoom(listener: (queue: number) => void): { unsubscribe(): void } {
    this.roomListeners.add(listener);
    return { unsubscribe: () => void this.roomListeners.delete(listener) };
  }

  /** Pages for I/O without copies. @throws {BlkfrontError} `bad-argument`, `exhausted`. */
  allocBuffer(pages: number): BlkBuffer {
    return this.buffers.alloc(pages);
  }

  /**
   * Starts a request on `queue`. `gfns` are the frames of the buffer, `start` the byte in it at which the data begins, `count` the
   * sectors of 512 bytes; flush has none of them. `gfns` is the driver's until `onDone(cookie, status)`.
   * Cost: a few hundred nanoseconds; allocates nothing.
   * @param op one of `OP`.
   * @returns 0, or a negative errno with nothing done: -EBUSY (full, short of references, or not connected now; `onRoom` tells
   * when to try again), -ENODEV, -EINVAL, -EROFS, -EOPNOTSUPP, -ENOMEM.
   */
  submit(op: number, sector: number, gfns: ArrayLike<number> | null, start: number, count: number, cookie: number, queue = 0): number {
    return this.submitTo(queue, op, sector, gfns, null, start, count, cookie, this.onDone);
  }

  /** `submit` with bytes of the host instead of guest pages (copied through pages of the driver's own), and a completer of its own. */
  submitTo(
    queue: number,
    op: number,
    sector: number,
    gfns: ArrayLike<number> | null,
    bytes: Uint8Array | null,
    start: number,
    count: number,
    cookie: number,
    sink: OnDone,
  ): number {
    const ring = this.connection?.queues[queue]?.ring;
    if (ring === undefined) return this.absent();
    const status = ring.submit(op, sector, gfns, bytes, start, count, cookie, sink);
    if (status === ERRNO.EBUSY && this.dryTries > DRY_TRIES_MAX && this.busy === 0) return ERRNO.ENOMEM;
    return status;
  }

  /** Sectors of one request on the wire whose buffer starts on a page. */
  get maxPart(): number {
    return (this.known?.maxSegments ?? BLKIF_MAX_SEGMENTS_PER_REQUEST) * 8;
  }

  /** Holds requests back until `unplug`: a batch for one doorbell. */
  plug(queue = 0): void {
    this.connection?.queues[queue]?.ring.plug();
  }

  unplug(queue = 0): void {
    this.connection?.queues[queue]?.ring.unplug();
  }

  /** Handles the answers that are there. @returns how many. */
  poll(queue = 0): number {
    const ring = this.connection?.queues[queue]?.ring;
    if (ring === undefined) return 0;
    const handled = ring.poll();
    if (handled > 0) this.dryTries = 0;
    this.settle(queue);
    return handled;
  }

  /** Answers that wait on queue `queue`. */
  unconsumed(queue = 0): number {
    return this.connection?.queues[queue]?.ring.unconsumed ?? 0;
  }

  mask(queue: number): void {
    const port = this.connection?.queues[queue]?.ring.port;
    if (port !== undefined) this.surroundings.events.mask(port);
  }

  unmask(queue: number): void {
    const port = this.connection?.queues[queue]?.ring.port;
    if (port !== undefined) this.surroundings.events.unmask(port);
  }

  /**
   * Begins to connect: `onState` tells the rest.
   * @throws {BlkfrontError} `wrong-state` unless closed or broken; `bad-store`: the folder names no backend. Nothing changed then.
   */
  start(): void {
    this.require('start', ['closed', 'broken']);
    this.begin('');
  }

  /** Begins to close: requests under way are waited for, new ones refused. Idempotent. */
  stop(): void {
    if (this.current === 'closed' || this.current === 'broken' || this.current === 'closing') return;
    this.close(false, '');
  }

  /** Quiesces before the domain is saved or moved: requests under way are kept, new ones refused with -EBUSY. @throws {BlkfrontError} `wrong-state`. */
  suspend(): void {
    this.require('suspend', ['initialising', 'initialised', 'connected', 'lost']);
    this.connection?.queues.forEach(({ ring }) => {
      ring.poll();
      ring.refusal = ERRNO.EBUSY;
    });
    if (this.state !== 'connected' && this.state !== 'initialising' && this.state !== 'initialised' && this.state !== 'lost') return;
    this.connection?.silence();
    this.timers.clearAll();
    this.unwatch();
    this.change('suspended', '');
  }

  /**
   * Goes on after `suspend`: connects again, to whatever backend the folder names now, and issues every request that was under way
   * once more, in order. `cancelled`: the domain never left, so the rings go on as they are.
   * @throws {BlkfrontError} `wrong-state`, `bad-store`.
   */
  resume(cancelled = false): void {
    this.require('resume', ['suspended']);
    if (cancelled && this.connection !== undefined && this.connection.queues.length > 0) {
      this.connection.listen((queue) => this.upcall(queue));
      this.watchBackend();
      this.change('connected', 'suspend cancelled');
      for (let queue = 0; queue < this.queueCount; queue++) this.poll(queue);
      this.pump();
      return;
    }
    this.drop();
    this.begin('resumed');
  }

  /** Ends the device at once, without waiting for its backend; what that still maps goes as soon as it lets go. */
  destroy(): void {
    this.abandon('closed', '');
    this.buffers.destroy();
    this.timers.clearAll();
  }

  private begin(reason: string): void {
    const ends = readEnds(this.surroundings.store, this.path, this.options.device);
    this.ends = ends;
    this.seen = false;
    const { store } = this.surroundings;
    const backend = readState(store, ends.backend);
    // A backend that still serves an older connection must let go of it before it can take this one.
    this.lettingGo = backend === XENBUS_STATE.Connected || backend === XENBUS_STATE.Closing;
    if (this.lettingGo) switchState(store, this.path, XENBUS_STATE.Closed);
    else if (readState(store, this.path) !== XENBUS_STATE.Initialising) switchState(store, this.path, XENBUS_STATE.Initialising);
    this.timers.clear('lost');
    this.change('initialising', reason);
    this.watchBackend();
  }

  private watchBackend(): void {
    this.unwatch();
    if (this.ends === undefined) return;
    this.watches.push(this.surroundings.store.watch(`${this.ends.backend}/state`, () => this.guarded(() => this.onBackend())));
  }

  private unwatch(): void {
    for (const watch of this.watches) watch.unsubscribe();
    this.watches = [];
  }

  /** Whatever goes wrong with the peer or the store ends the device, never the domain. */
  private guarded(run: () => void): void {
    try {
      run();
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      const lied = error instanceof BlkfrontError && error.refusal.code === 'bad-store';
      this.abandon(lied ? 'broken' : 'closed', error instanceof Error ? error.message : String(error));
    }
  }

  private onBackend(): void {
    const { store } = this.surroundings;
    const state = readState(store, this.ends!.backend);
    if (state !== undefined && state !== XENBUS_STATE.Unknown) this.seen = true;
    switch (this.current) {
      case 'initialising':
        this.initialise(state);
        return;
      case 'initialised':
      case 'connected':
        if (state === XENBUS_STATE.Connected) {
          if (this.current === 'initialised') this.connect();
          else this.resize();
        } else if (state === XENBUS_STATE.Closing || state === XENBUS_STATE.Closed) this.close(true, 'the backend closed');
        else if (state === undefined) this.lose('the backend vanished');
        else if (state === XENBUS_STATE.Initialising || (state === XENBUS_STATE.InitWait && this.current === 'connected')) {
          this.lose('the backend started anew');
          this.begin('the backend started anew');
        }
        return;
      case 'closing':
        this.progress();
        return;
      case 'lost':
        if (state !== undefined && state !== XENBUS_STATE.Unknown) this.begin('the backend came back');
        return;
      default:
        return;
    }
  }

  private initialise(state: number | undefined): void {
    const { store } = this.surroundings;
    switch (state) {
      case undefined:
        if (this.seen) this.lose('the backend vanished');
        return;
      case XENBUS_STATE.Initialising:
      case XENBUS_STATE.InitWait:
      case XENBUS_STATE.Initialised:
        if (this.lettingGo) switchState(store, this.path, XENBUS_STATE.Initialising);
        this.lettingGo = false;
        if (state !== XENBUS_STATE.Initialising) this.publish();
        return;
      case XENBUS_STATE.Connected:
      case XENBUS_STATE.Closing:
        if (!this.lettingGo) switchState(store, this.path, XENBUS_STATE.Closed);
        this.lettingGo = true;
        return;
      case XENBUS_STATE.Closed:
        if (readNode(store, `${this.ends!.backend}/online`)?.trim() === '0') {
          this.abandon('closed', 'the backend is being taken away');
          return;
        }
        this.lettingGo = false;
        switchState(store, this.path, XENBUS_STATE.Initialising);
        return;
      default:
        return;
    }
  }

  private publish(): void {
    const { store } = this.surroundings;
    const { ringPages, queues, protocol, persistent } = this.options;
    const ends = this.ends!;
    this.transport = readTransport(store, this.path, ends.backend, ringPages, queues);
    while (this.figures.length < this.transport.queues) {
      this.figures.push(newFigures());
      this.idleUpcalls.push(0);
    }
    this.connection = new Connection({
      path: this.path,
      surroundings: this.surroundings,
      peer: ends.backendId as DomId,
      protocol,
      transport: this.transport,
      bus: this.surroundings.bus,
      figures: this.figures,
    });
    publish(store, this.path, this.connection.keys(), protocol, persistent);
    this.say(XENBUS_STATE.Initialised);
    this.change('initialised', '');
  }

  private connect(): void {
    const { store } = this.surroundings;
    const { options, features } = this;
    const ends = this.ends!;
    const transport = this.transport!;
    readFeatures(store, ends.backend, features);
    features.zeroByDiscard = options.discardZeroes && features.discard;
    const persistent = features.persistent && options.persistent;
    const indirect = Math.min(features.indirectSegments, options.maxSegments);
    const maxSegments = Math.max(BLKIF_MAX_SEGMENTS_PER_REQUEST, indirect);
    const connection = this.connection!;
    const hooks: Pick<QueueParts, 'onBroken' | 'onRoom' | 'onDry' | 'onBacklog' | 'tap'> = {
      onBroken: (reason) => this.abandon('broken', reason),
      onRoom: (queue) => this.tellRoom(queue),
      onDry: (queue, what) => this.dry(queue, what),
      onBacklog: (queue) => this.timers.set(`backlog ${queue}`, 0, () => void this.poll(queue)),
      tap: this.tap,
    };
    connection.open(
      {
        features,
        handle: ends.virtualDevice & 0xffff,
        maxSegments,
        persistent,
        poolRefs: options.poolRefs,
        poolOrder: options.poolOrder,
        pinned: this.buffers.table,
        sink: this.onDone,
        hooks,
        onHeld: (_queue, gref, gfn) => {
          const { bus } = this.surroundings;
          if (bus?.observed('blkfront:quarantined')) bus.emit('blkfront:quarantined', { path: this.path, gref, gfn });
        },
      },
      (queue) => this.upcall(queue),
    );
    if (persistent) this.buffers.attach(ends.backendId as DomId);
    this.known = {
      sectors: features.sectors,
      sectorBytes: features.sectorBytes,
      physicalSectorBytes: features.physicalSectorBytes,
      readonly: features.readonly,
      removable: features.removable,
      cdrom: features.cdrom,
      trusted: transport.trusted,
      queues: transport.queues,
      ringPages: transport.ringPages,
      slots: connection.slots,
      maxSegments,
      // A buffer that starts on any granule of its first page still spans no more pages than there are segments.
      maxSectors: (maxSegments - 1) * 8 + features.sectorBytes / 512,
      indirect: maxSegments > BLKIF_MAX_SEGMENTS_PER_REQUEST,
      persistent,
      flush: features.flush ? 'flush' : features.barrier ? 'barrier' : 'none',
      discard: features.discard,
      discardSecure: features.secure,
      discardGranularity: features.discardGranularity,
      discardAlignment: features.discardAlignment,
      protocol: options.protocol,
    };
    this.dryTries = 0;
    this.say(XENBUS_STATE.Connected);
    this.change('connected', '');
    this.pump();
  }

  private resize(): void {
    const before = this.features.sectors;
    const granule = this.features.sectorBytes / 512;
    const raw = readSectors(this.surroundings.store, this.ends!.backend);
    const sectors = raw - (raw % granule);
    if (sectors === before) return;
    this.features.sectors = sectors;
    this.known = { ...this.known!, sectors };
    const { bus } = this.surroundings;
    if (bus?.observed('blkfront:resized')) bus.emit('blkfront:resized', { path: this.path, before, sectors });
  }

  /** Requests of a former connection first, then everyone. */
  private pump(): void {
    const connection = this.connection;
    if (this.current !== 'connected' || connection === undefined) return;
    for (const { ring } of connection.queues) {
      ring.plug();
      while (this.carried.length > 0 && ring.adopt(this.carried[0]!)) this.carried.shift();
      ring.unplug();
    }
    if (this.carried.length > 0 || this.connection !== connection) return;
    for (const { ring } of connection.queues) {
      if (ring.refusal === 0) continue;
      ring.refusal = 0;
      this.tellRoom(ring.index);
    }
  }

  private upcall(queue: number): void {
    const figures = this.figures[queue]!;
    figures.upcalls++;
    if (this.takeover !== null) {
      this.takeover(queue);
      return;
    }
    const ring = this.connection?.queues[queue]?.ring;
    if (ring === undefined) return;
    if (ring.poll() > 0) {
      this.idleUpcalls[queue] = 0;
      this.dryTries = 0;
    } else {
      figures.spurious++;
      this.idleUpcalls[queue] = this.idleUpcalls[queue]! + 1;
      if (this.idleUpcalls[queue] >= this.options.stormUpcalls) this.calm(queue);
    }
    this.settle(queue);
  }

  /** A peer that rings for nothing is not listened to for a while. */
  private calm(queue: number): void {
    this.idleUpcalls[queue] = 0;
    this.mask(queue);
    this.timers.set(`storm ${queue}`, this.options.stormTicks, () => {
      this.unmask(queue);
      this.poll(queue);
    });
  }

  /** What follows from answers having been handled. */
  private settle(queue: number): void {
    const open = this.connection?.queues[queue];
    if (open === undefined) return;
    if (this.carried.length > 0) this.pump();
    if (this.current === 'closing') this.progress();
    if (open.refs.figures.quarantined > 0) this.quarantine(open);
    if (open.pages.idleGranted > 0 && this.purgesLeft !== PURGES_AFTER_USE) {
      this.purgesLeft = PURGES_AFTER_USE;
      if (!this.timers.isSet('purge')) this.timers.set('purge', this.options.purgeTicks, () => this.purge());
    }
  }

  private purge(): void {
    let idle = 0;
    for (const { pages } of this.connection?.queues ?? []) {
      pages.purge();
      idle += pages.idleGranted;
    }
    this.purgesLeft--;
    if (idle > 0 && this.purgesLeft > 0) this.timers.set('purge', this.options.purgeTicks, () => this.purge());
  }

  private quarantine({ refs, ring }: OpenQueue): void {
    if (refs.figures.quarantined > ring.shadows.slots * ring.shadows.maxSegments) {
      this.abandon('broken', `the backend keeps ${refs.figures.quarantined} pages of finished requests mapped`);
      return;
    }
    if (this.timers.isSet('quarantine')) return;
    this.quarantineWait = this.options.quarantineTicks;
    this.timers.set('quarantine', this.quarantineWait, () => this.retryQuarantine());
  }

  private retryQuarantine(): void {
    const queues = this.connection?.queues ?? [];
    let left = 0;
    for (const { refs, pages, ring } of queues) {
      refs.retry((gref, gfn, page) => {
        pages.returned(page);
        this.returned(gref, gfn);
      });
      left += refs.figures.quarantined;
      ring.retry();
    }
    if (left === 0) return;
    this.quarantineWait = Math.min(this.quarantineWait * 2, TICKS_BETWEEN_TRIES_MAX);
    this.timers.set('quarantine', this.quarantineWait, () => this.retryQuarantine());
  }

  private returned(gref: Gref, gfn: Gfn): void {
    const { bus } = this.surroundings;
    if (bus?.observed('blkfront:returned')) bus.emit('blkfront:returned', { path: this.path, gref, gfn });
  }

  /** A request could not have its references or pages: it is tried again when some come free, and now and then in any case. */
  private dry(_queue: number, what: 'references' | 'pages'): void {
    const retry = (): void => {
      for (const { ring } of this.connection?.queues ?? []) ring.retry();
    };
    if (what === 'references' && this.freeWait === undefined) {
      this.freeWait = this.surroundings.grants.whenFree(() => {
        this.freeWait = undefined;
        this.timers.set('free', 0, retry);
      }, 1);
    }
    if (what !== 'pages' || this.timers.isSet('dry')) return;
    if (this.dryTries++ < DRY_TRIES_MAX) {
      this.timers.set('dry', Math.min(this.options.quarantineTicks * 2 ** this.dryTries, TICKS_BETWEEN_TRIES_MAX), retry);
      return;
    }
    // Nobody gives a page back: what waits for one alone fails, rather than for ever.
    this.timers.set('dry', 0, () => {
      for (const { ring } of this.connection?.queues ?? []) ring.failStalled(ERRNO.ENOMEM);
    });
  }

  private lose(reason: string): void {
    this.drop();
    this.change('lost', reason);
    const { reconnectTicks } = this.options;
    if (reconnectTicks === 0) {
      this.abandon('closed', reason);
      return;
    }
    this.timers.set('lost', reconnectTicks, () => this.abandon('closed', `${reason} and did not come back`));
    // The toolstack may name another backend.
    const { store } = this.surroundings;
    this.watches.push(
      store.watch(`${this.path}/backend`, () =>
        this.guarded(() => {
          if (this.current === 'lost' && readNode(store, `${this.path}/backend`) !== this.ends?.backend) this.begin('another backend');
        }),
      ),
    );
  }

  /** Ends the connection and keeps its requests. */
  private drop(): void {
    this.timers.clearAll();
    this.freeWait?.unsubscribe();
    this.freeWait = undefined;
    const taken = this.connection?.destroy((_queue, gref, gfn) => this.returned(gref, gfn)) ?? [];
    this.connection = undefined;
    this.buffers.detach();
    this.carried = [...taken, ...this.carried];
  }

  private close(byBackend: boolean, reason: string): void {
    this.byBackend = byBackend;
    this.closeStep = 'drain';
    for (const { ring } of this.connection?.queues ?? []) ring.refusal = ERRNO.ENODEV;
    this.change('closing', reason);
    this.armClose();
    this.progress();
  }

  private armClose(): void {
    this.timers.set('close', this.options.closeTicks, () => {
      // Whoever does not answer in time is not waited for.
      if (this.closeStep === 'closed') this.finishClose();
      else this.advanceClose();
    });
  }

  /** Goes on with a close as far as the backend's state and the requests under way allow. */
  private progress(): void {
    if (this.current !== 'closing') return;
    const state = readState(this.surroundings.store, this.ends!.backend);
    const gone = state === undefined;
    if (this.closeStep === 'drain') {
      const idle = this.connection === undefined || this.connection.queues.every(({ ring }) => ring.busy === 0);
      if (!idle && !gone && state !== XENBUS_STATE.Closed) return;
      this.advanceClose();
      return;
    }
    if (this.closeStep === 'closing') {
      if (gone || state >= XENBUS_STATE.Closing) this.advanceClose();
      return;
    }
    if (gone || state === XENBUS_STATE.Closed || (state !== XENBUS_STATE.Closing && state !== XENBUS_STATE.Connected)) this.finishClose();
  }

  private advanceClose(): void {
    // A backend that began is answered with Closed at once, as real frontends do; otherwise Closing comes first.
    if (this.closeStep === 'drain' && !this.byBackend) {
      this.closeStep = 'closing';
      this.say(XENBUS_STATE.Closing);
    } else {
      this.closeStep = 'closed';
      this.say(XENBUS_STATE.Closed);
    }
    this.armClose();
    this.progress();
  }

  private finishClose(): void {
    const { store } = this.surroundings;
    const { byBackend, why } = this;
    const online = readNode(store, `${this.ends!.backend}/online`)?.trim();
    this.drop();
    this.unwatch();
    if (byBackend && online === '1' && this.options.reconnectTicks > 0) {
      // The host's driver restarts: the device comes back.
      this.guarded(() => this.begin(why));
      return;
    }
    try {
      unpublish(store, this.path);
    } catch {
      // The folder is the toolstack's as much as ours.
    }
    this.change('closed', why);
    this.failCarried(ERRNO.ENODEV);
  }

  /** Ends the device at once, whatever the other end does. */
  private abandon(last: 'closed' | 'broken', reason: string): void {
    if (this.current === 'closed' || this.current === 'broken') return;
    this.drop();
    this.unwatch();
    if (reason !== '') writeError(this.surroundings.store, this.path, reason);
    this.say(XENBUS_STATE.Closed);
    this.change(last, reason);
    this.failCarried(last === 'broken' ? ERRNO.EIO : ERRNO.ENODEV);
  }

  private failCarried(status: number): void {
    const carried = this.carried;
    this.carried = [];
    for (const { sink, cookie } of carried) sink(cookie, status);
    for (const listener of [...this.roomListeners]) listener(0);
  }

  private say(state: number): void {
    const { store, bus } = this.surroundings;
    try {
      if (!switchState(store, this.path, state)) return;
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      return;
    }
    if (bus?.observed('xenbus:state')) bus.emit('xenbus:state', { path: this.path, state });
  }

  private change(state: DeviceState, reason: string): void {
    const before = this.current;
    this.current = state;
    this.why = reason;
    const { bus } = this.surroundings;
    if (bus?.observed('blkfront:state')) bus.emit('blkfront:state', { path: this.path, state, before, reason });
    for (const listener of [...this.stateListeners]) listener(state, reason);
  }

  private tellRoom(queue: number): void {
    for (const listener of this.roomListeners) listener(queue);
  }

  private absent(): number {
    return this.current === 'closed' || this.current === 'broken' || this.current === 'closing' ? ERRNO.ENODEV : ERRNO.EBUSY;
  }

  private require(call: string, states: readonly DeviceState[]): void {
    if (!states.includes(this.current)) {
      throw new BlkfrontError({ code: 'wrong-state', call, state: this.current, allowed: states.join(', ') });
    }
  }
}
