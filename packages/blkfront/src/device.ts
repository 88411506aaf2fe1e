import type { Unsubscribable } from '@paravirt/event-bus';
import { callable, flag, refuse, whole } from './arguments.ts';
import type { BlkBuffer } from './buffers.ts';
import { ERRNO } from './errors.ts';
import type { Ring } from './queue.ts';
import type { Completion } from './queue-parts.ts';
import { Session } from './session.ts';
import type { BlkfrontOptions, BlkfrontSurroundings, BlkInfo, DeviceState, FlushKind, OnDone, PoolFigures, QueueFigures } from './types.ts';

/**
 * The driver of one device: its connection by store states, its queues, and the plain calls of the hot path. Everything is
 * synchronous; what takes time goes on in upcalls, watches and timers. `BlockDevice` puts promises over it, `BlkDev` the calls of
 * uk_blkdev.
 */
export class Device {
  /** Completes every request of `submit`. It may submit again from inside, and must not throw. */
  onDone: OnDone = () => undefined;
  private readonly session: Session;
  /** The `info` last handed out, and what it was made of. */
  private told: BlkInfo | undefined;
  private toldOf: BlkInfo | undefined;
  private readonly sink: OnDone = (cookie, status) => this.onDone(cookie, status);

  /** @throws {BlkfrontError} `bad-argument`. */
  constructor(options: BlkfrontOptions, surroundings: BlkfrontSurroundings) {
    this.session = new Session(options, surroundings, this.sink);
  }

  /** The device's folder in the store, relative to the domain's home. */
  get path(): string {
    return this.session.path;
  }

  /** Where the device stands now. */
  get state(): DeviceState {
    return this.session.state;
  }

  /** Why the device reached its state, where that was not asked for. */
  get reason(): string {
    return this.session.reason;
  }

  /** What the disk is; undefined before the first connection. Flags that the backend took back since are gone from it. */
  get info(): BlkInfo | undefined {
    const { info, features: f } = this.session;
    if (info === undefined) return undefined;
    const flush: FlushKind = f.flush ? 'flush' : f.barrier ? 'barrier' : 'none';
    const secure = f.discard && f.secure;
    const { told } = this;
    if (told !== undefined && this.toldOf === info && told.flush === flush && told.discard === f.discard && told.discardSecure === secure) {
      return told;
    }
    this.toldOf = info;
    this.told = { ...info, flush, discard: f.discard, discardSecure: secure };
    return this.told;
  }

  /** Requests taken and not completed. */
  get busy(): number {
    let busy = this.session.carried.length;
    for (const { ring } of this.session.connection?.queues ?? []) busy += ring.busy;
    return busy;
  }

  /** Queues of the present connection; 0 where there is none. */
  get queueCount(): number {
    return this.session.connection?.queues.length ?? 0;
  }

  /** By queue; kept over reconnections. */
  get figures(): readonly QueueFigures[] {
    return this.session.figures;
  }

  /** Figures of queue `queue`'s references; undefined while there is no connection. @throws {BlkfrontError} `bad-argument`. */
  poolFigures(queue = 0): PoolFigures | undefined {
    this.checkQueue(queue);
    return this.session.connection?.queues[queue]?.refs.figures;
  }

  /**
   * Whether a backend can still reach the page although no request uses it: do not put secrets there. Of former connections too, and
   * true of the pages of a `BlkBuffer` as long as they stay granted.
   * @throws {BlkfrontError} `bad-argument`.
   */
  isHeld(gfn: number): boolean {
    if (!Number.isSafeInteger(gfn) || gfn < 0) refuse('gfn', gfn, 'a frame number from 0 on');
    const { held, buffers } = this.session;
    return held.has(gfn) || buffers.table.find(gfn) !== -1;
  }

  /** Told of each change of state, and why, in words. @throws {BlkfrontError} `bad-argument`. */
  onState(listener: (state: DeviceState, reason: string) => void): Unsubscribable {
    return this.session.stateListeners.add(callable('listener', listener));
  }

  /** Told when a queue that refused a request with -EBUSY can take one. @throws {BlkfrontError} `bad-argument`. */
  onRoom(listener: (queue: number) => void): Unsubscribable {
    return this.session.roomListeners.add(callable('listener', listener));
  }

  /** Told of every completion, at the cost of an object each. @throws {BlkfrontError} `bad-argument`. */
  onCompletion(listener: (completion: Completion) => void): Unsubscribable {
    return this.session.tap.add(callable('listener', listener));
  }

  /** Pages for I/O without copies. @throws {BlkfrontError} `bad-argument`, `exhausted`. */
  allocBuffer(pages: number): BlkBuffer {
    return this.session.buffers.alloc(pages);
  }

  /**
   * Starts a request on `queue`. `gfns` are the frames of the buffer, `start` the byte in it at which the data begins, `count` the
   * sectors of 512 bytes; a flush has none of them. `gfns` is the driver's until `onDone(cookie, status)`. One longer than a
   * request on the wire is carried out part by part.
   * Cost: a few hundred nanoseconds; allocates nothing.
   * @param op one of `OP`.
   * @returns 0, or a negative errno with nothing done: -EBUSY (full, short of references, or not connected now; `onRoom` tells
   * when to try again), -ENODEV, -EINVAL, -EROFS, -EOPNOTSUPP, -ENOMEM.
   */
  submit(op: number, sector: number, gfns: ArrayLike<number> | null, start: number, count: number, cookie: number, queue = 0): number {
    const { rings } = this.session;
    if (queue >>> 0 !== queue || queue >= rings.length) return this.absent(queue);
    const status = rings[queue]!.submit(op, sector, gfns, null, start, count, cookie, this.sink);
    return status === 0 ? 0 : this.refusal(status);
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
    const { rings } = this.session;
    if (queue >>> 0 !== queue || queue >= rings.length) return this.absent(queue);
    if (typeof sink !== 'function') return ERRNO.EINVAL;
    const status = rings[queue]!.submit(op, sector, gfns, bytes, start, count, cookie, sink);
    return status === 0 ? 0 : this.refusal(status);
  }

  /**
   * Takes back the requests of `cookie` and `sink` that stand on no ring: their connection is gone, and they wait for the next. They
   * are over without a call of `sink`. @returns how many.
   */
  takeBack(cookie: number, sink: OnDone): number {
    return this.session.takeBack(cookie, sink);
  }

  /** Sectors of one request on the wire whose buffer starts on a page. */
  get maxPart(): number {
    return (this.session.info?.maxSegments ?? 11) * 8;
  }

  /**
   * Holds requests back until `unplug`: a batch for one doorbell. Also over a new connection, until as many `unplug`s as `plug`s came.
   * @throws {BlkfrontError} `bad-argument`.
   */
  plug(queue = 0): void {
    const ring = this.ringOf(queue);
    const { plugs } = this.session;
    plugs[queue] = (plugs[queue] ?? 0) + 1;
    ring?.plug();
  }

  /** Publishes what `plug` held back, with one doorbell at most. Nothing where nothing was held. @throws {BlkfrontError} `bad-argument`. */
  unplug(queue = 0): void {
    const ring = this.ringOf(queue);
    const { plugs } = this.session;
    const held = plugs[queue] ?? 0;
    if (held === 0) return;
    plugs[queue] = held - 1;
    ring?.unplug();
  }

  /** Handles the answers that are there. @returns how many. @throws {BlkfrontError} `bad-argument`. */
  poll(queue = 0): number {
    this.checkQueue(queue);
    return this.session.poll(queue);
  }

  /** Answers that wait on queue `queue`. @throws {BlkfrontError} `bad-argument`. */
  unconsumed(queue = 0): number {
    return this.ringOf(queue)?.unconsumed ?? 0;
  }

  /** Whether queue `queue` has a free slot. @throws {BlkfrontError} `bad-argument`. */
  hasRoom(queue = 0): boolean {
    return this.ringOf(queue)?.room ?? false;
  }

  /** Masks the queue's port. @throws {BlkfrontError} `bad-argument`. */
  mask(queue: number): void {
    const port = this.ringOf(queue)?.port;
    if (port !== undefined) this.session.surroundings.events.mask(port);
  }

  /** Unmasks it; what is pending is raised again. @throws {BlkfrontError} `bad-argument`. */
  unmask(queue: number): void {
    const port = this.ringOf(queue)?.port;
    if (port !== undefined) this.session.surroundings.events.unmask(port);
  }

  /** While set, upcalls go to `handler` instead of handling answers: `poll` is its to call. null: as before. @throws {BlkfrontError} `bad-argument`. */
  setUpcall(handler: ((queue: number) => void) | null): void {
    this.session.takeover = handler === null ? null : callable('handler', handler);
  }

  /** Asks for so many queues at the next start, at most `queues` of the options. @throws {BlkfrontError} `bad-argument`. */
  setQueues(queues: number): void {
    this.session.queuesWanted = whole('queues', queues, 1, this.options.queues);
  }

  /** The options, with every default filled in. */
  get options(): Required<BlkfrontOptions> {
    return this.session.options;
  }

  /** What the driver runs in. */
  get surroundings(): BlkfrontSurroundings {
    return this.session.surroundings;
  }

  /** The blocking wait of the host, where it has one. @throws {BlkfrontError} `bad-argument`. */
  waitFor(condition: () => boolean): boolean {
    callable('condition', condition);
    return this.session.surroundings.waitFor?.(condition) ?? condition();
  }

  /** Whether the host can block. */
  get blocks(): boolean {
    return this.session.surroundings.waitFor !== undefined;
  }

  /**
   * Begins to connect: `onState` tells the rest.
   * @throws {BlkfrontError} `wrong-state` unless closed or broken; `bad-store`: the folder names no backend. Nothing changed then.
   */
  start(): void {
    this.session.start();
  }

  /** Begins to close: requests under way are waited for, new ones refused. Idempotent. */
  stop(): void {
    this.session.stop();
  }

  /** Quiesces before the domain is saved or moved: requests under way are kept, new ones refused with -EBUSY. @throws {BlkfrontError} `wrong-state`. */
  suspend(): void {
    this.session.suspend();
  }

  /**
   * Goes on after `suspend`: connects again, to whatever backend the folder names now, and issues every request that was under way
   * once more, in order. `cancelled`: the domain never left, so the rings go on as they are.
   * @throws {BlkfrontError} `wrong-state`, `bad-store`, `bad-argument`.
   */
  resume(cancelled = false): void {
    this.session.resume(flag('cancelled', cancelled));
  }

  /** Ends the connection at once, without waiting for its backend; what that still maps goes as soon as it lets go. Buffers stay. */
  abandon(): void {
    this.session.abandon('closed', '');
  }

  /** `abandon`, and every buffer goes too. */
  destroy(): void {
    this.abandon();
    this.session.buffers.destroy();
  }

  /** The same errno; of -EBUSY, until nobody can be waited for. */
  private refusal(status: number): number {
    if (status !== ERRNO.EBUSY) return status;
    return this.session.upkeep.starved && this.busy === 0 ? ERRNO.ENOMEM : ERRNO.EBUSY;
  }

  /** The ring of a queue; undefined where the connection has none of that number. */
  private ringOf(queue: number): Ring | undefined {
    this.checkQueue(queue);
    return this.session.rings[queue];
  }

  private checkQueue(queue: number): void {
    const { queues } = this.session.options;
    if (queue >>> 0 !== queue || queue >= queues) whole('queue', queue, 0, queues - 1);
  }

  private absent(queue: number): number {
    const { state, connection, options } = this.session;
    if (queue >>> 0 !== queue || queue >= options.queues) return ERRNO.EINVAL;
    if (connection !== undefined && connection.queues.length > 0 && queue >= connection.queues.length) return ERRNO.EINVAL;
    return state === 'closed' || state === 'broken' || state === 'closing' ? ERRNO.ENODEV : ERRNO.EBUSY;
  }
}
