import type { World } from './world.ts';

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** The grant tables as text, in the layout of the hypervisor's debug key `g`. @see xen/common/grant_table.c, gnttab_usage_print */
export function dumpGrants(world: World): string {
  const lines = ["gnttab_usage_print_all [ key 'g' pressed"];
  for (const core of world.parties) {
    if (core === undefined) continue;
    const { grants, maptrack } = core;
    lines.push('      -------- active --------       -------- shared --------');
    lines.push('[ref] localdom mfn      pin          localdom gmfn     flags');
    lines.push(`grant-table for remote d${core.id} (v${grants.version})`);
    const trackFrames = Math.ceil(maptrack.size / 256);
    const trackMax = Math.ceil(maptrack.handlesMax / 256);
    lines.push(`  ${grants.frames} frames (${grants.framesMax} max), ${trackFrames} maptrack frames (${trackMax} max)`);
    let active = 0;
    for (let ref = 0; ref < grants.entries; ref++) {
      const pin = grants.pinOf(ref);
      if (pin === 0) continue;
      active++;
      const word = grants.wordOf(ref);
      const { u32 } = grants.viewsOf(ref);
      const frame = grants.version === 1 ? u32[word + 1]! : u32[word + 2]!;
      const flags = grants.version === 1 ? u32[word]! & 0xffff : grants.inUseOf(ref);
      const left = `[0x${hex(ref, 3)}] ${String(grants.holderOf(ref)).padStart(6)} 0x${hex(grants.mfnOf(ref), 5)} 0x${hex(pin, 8)}`;
      lines.push(`${left} ${String(u32[word]! >>> 16).padStart(10)} 0x${hex(frame, 6)} 0x${hex(flags, 2)}`);
    }
    if (active === 0) lines.push('no active grant table entries');
  }
  lines.push('gnttab_usage_print_all ] done');
  return lines.map((line) => `(XEN) ${line}\n`).join('');
}
