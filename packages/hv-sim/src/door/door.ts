import type { DomainCore } from '../domain.ts';
import type { World } from '../world.ts';

/** The hypercalls of a domain by number. */
export interface Door {
  call(number: number, args: readonly number[]): number;
}

/** The door of a domain. */
export function doorOf(_world: World, _core: DomainCore): Door {
  return { call: () => -38 };
}
