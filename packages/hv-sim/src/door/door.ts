import type { DomId } from '@paravirt/event-bus/contract';
import { errnoOf } from '@paravirt/xen-abi';
import type { DomainCore } from '../domain.ts';
import type { World } from '../world.ts';
import { EventDoor } from './event-door.ts';
import { GrantDoor } from './grant-door.ts';
import { GuestBytes } from './guest-struct.ts';
import { MemoryDoor } from './memory-door.ts';
import { CALLS, hypercallName } from './names.ts';
import { SchedDoor } from './sched-door.ts';

/** Most bytes of one write to the console. */
const CONSOLE_BYTES = 4096;

/** A domain's hypercalls by number: how a real guest drives the machine. Pointers are guest-physical addresses. */
export class Door {
  readonly #core: DomainCore;
  readonly #world: World;
  readonly #bytes: GuestBytes;
  readonly #grants: GrantDoor;
  readonly #events: EventDoor;
  readonly #sched: SchedDoor;
  readonly #memory: MemoryDoor;

  constructor(core: DomainCore, world: World) {
    this.#core = core;
    this.#world = world;
    this.#bytes = new GuestBytes(core.abi, core.memory);
    this.#grants = new GrantDoor(this.#bytes, () => core.hypercalls);
    this.#events = new EventDoor(this.#bytes, core, world.channels);
    this.#sched = new SchedDoor(this.#bytes, core, world);
    this.#memory = new MemoryDoor(this.#bytes, core, world);
  }

  /** @returns the result, or a negative errno: -ENOSYS for what the machine does not have, told by name as `hv:refused`. */
  call(number: number, args: readonly number[]): number {
    const [first = 0, second = 0, third = 0] = args;
    if (this.#core.state === 'shutdown') return -errnoOf('EINVAL');
    this.#core.memory.refresh();
    this.#sched.writeTime();
    const result = this.#dispatch(number, first, second, third);
    this.#world.pulse.note(number * 256 + (first & 0xff), result);
    return result;
  }

  #dispatch(number: number, first: number, second: number, third: number): number {
    let result: number;
    switch (number) {
      case CALLS.grant_table_op:
        result = this.#grants.call(first >>> 0, second, third >>> 0);
        break;
      case CALLS.event_channel_op:
        result = this.#events.call(first, second);
        break;
      case CALLS.sched_op:
        result = this.#sched.call(first, second);
        break;
      case CALLS.memory_op:
        result = this.#memory.call(first, second);
        break;
      case CALLS.set_timer_op:
        // 32-bit guests pass the two halves.
        return this.#sched.setTimer(this.#core.abi === 'x86_32' ? (second >>> 0) * 0x1_0000_0000 + (first >>> 0) : first);
      case CALLS.console_io:
        return this.#console(first, second, third);
      default:
        result = -errnoOf('ENOSYS');
    }
    if (result === -errnoOf('ENOSYS') && this.#world.bus.observed('hv:refused')) {
      this.#world.bus.emit('hv:refused', { domid: this.#core.id as DomId, hypercall: hypercallName(number), command: first });
    }
    return result;
  }

  /** CONSOLEIO_write (0) tells the text; CONSOLEIO_read (1) has nothing to give: input comes through the console's ring. */
  #console(command: number, count: number, address: number): number {
    if (command === 1) return 0;
    if (command !== 0) return -errnoOf('ENOSYS');
    if (!(count >= 0)) return -errnoOf('EINVAL');
    const bytes = new Uint8Array(Math.min(count, CONSOLE_BYTES));
    if (!this.#bytes.read(address, bytes)) return -errnoOf('EFAULT');
    let text = '';
    for (const byte of bytes) text += String.fromCharCode(byte);
    if (this.#world.bus.observed('hv:console')) this.#world.bus.emit('hv:console', { domid: this.#core.id as DomId, text });
    return 0;
  }
}

/** The door of a domain, made at its first hypercall. */
export function doorOf(world: World, core: DomainCore): { call(number: number, args: readonly number[]): number } {
  core.door ??= new Door(core, world);
  return core.door;
}
