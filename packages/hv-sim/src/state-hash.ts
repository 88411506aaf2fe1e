import { PAGE } from './memory/frames.ts';
import type { World } from './world.ts';

/** Mixes the whole state into a fresh hash: the pulse, every owned page, every table that is not in pages. */
export function stateHash(world: World): number {
  const { frames, pulse } = world;
  const before = pulse.hash;
  for (let mfn = 0; mfn < frames.end; mfn++) {
    if (!frames.valid(mfn) || frames.owner[mfn]! < 0) continue;
    pulse.note(mfn, frames.owner[mfn]!);
    pulse.note(frames.refsOf(mfn), frames.writersOf(mfn));
    pulse.noteBytes(frames.viewsOf(mfn).u32, frames.offsetOf(mfn) >>> 2, PAGE / 4);
  }
  for (const core of world.parties) {
    if (core === undefined) continue;
    for (let ref = 0; ref < core.grants.entries; ref++) if (core.grants.pinOf(ref) !== 0) pulse.note(ref, core.grants.pinOf(ref));
    for (let handle = 0; handle < core.maptrack.size; handle++) {
      if (core.maptrack.flagsOf(handle) !== 0) pulse.note(handle, core.maptrack.refOf(handle));
    }
  }
  pulse.noteText(world.store.export({ permissions: true }));
  pulse.noteExact(world.clock.now);
  world.clock.each((domid, due) => {
    pulse.note(domid, 0);
    pulse.noteExact(due);
  });
  const hash = pulse.hash;
  pulse.hash = before;
  return hash >>> 0;
}
