import type { NbdTarget } from './types.ts';

/**
 * Completes a target with the size that its disk has at the time. Not by an accessor in the object's literal: V8 keeps such objects as
 * dictionaries, and several methods are looked up for each request.
 */
export function sizedTarget(disk: { readonly sizeBytes: number }, target: Omit<NbdTarget, 'sizeBytes'>): NbdTarget {
  return Object.defineProperty(target, 'sizeBytes', { get: () => disk.sizeBytes, enumerable: true }) as NbdTarget;
}
