import { GrantError, refuseArgument } from './errors.ts';
import { type FreeList, STATE } from './free-list.ts';
import { stateOf } from './introspection.ts';

/** Largest guest frame number, as `Gfn` has it. */
const FRAME_MAX = 2 ** 52 - 1;
const DOMID_MAX = 0x7fff;
const COUNT_MAX = 0xffff_ffff;

export function checkCount(argument: string, value: number): void {
  if (!Number.isInteger(value) || value < 1 || value > COUNT_MAX) {
    refuseArgument(argument, value, `a whole number from 1 to ${COUNT_MAX}`);
  }
}

export function checkPeer(argument: string, value: number): void {
  if ((value & DOMID_MAX) !== value) refuseArgument(argument, value, `a domid, 0 to ${DOMID_MAX}`);
}

export function checkFrame(argument: string, value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > FRAME_MAX) {
    refuseArgument(argument, value, `a frame number, 0 to ${FRAME_MAX}`);
  }
}

export function checkFlag(argument: string, value: boolean): void {
  if (value !== true && value !== false) refuseArgument(argument, value, 'true or false');
}

/** The elements of a batch that count must be there. */
export function checkBatch(ops: readonly unknown[], count: number): void {
  if (!Array.isArray(ops)) refuseArgument('ops', ops, 'an array');
  if (!Number.isInteger(count) || count < 0 || count > ops.length) {
    refuseArgument('count', count, `a whole number from 0 to ${ops.length}, the length of ops`);
  }
}

export function checkDone(argument: string, done: unknown): void {
  if (typeof done !== 'function') refuseArgument(argument, done, 'a function');
}

/** Throws the refusal of a reference in the wrong state. */
export function refuseGref(list: FreeList, argument: string, gref: number, allowed: string): never {
  throw new GrantError({ code: 'bad-gref', argument, gref, state: stateOf(list, gref), allowed, status: -3 });
}

export function isGranted(state: number | undefined): boolean {
  return state === STATE.granted || state === STATE.busy;
}
