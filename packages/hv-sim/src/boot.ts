import type { MemoryViews } from '@paravirt/gnttab';
import { type Abi, GTF, SIF, sharedInfoOffsets, writeGrantV1 } from '@paravirt/xen-abi';

/** Position of the boot pages among the four special ones. */
export const START_INFO = 0;
export const SHARED_INFO = 1;
export const STORE_RING = 2;
export const CONSOLE_RING = 3;

/** What the start info page says. Frame numbers are the guest's own. */
export interface StartInfo {
  readonly abi: Abi;
  readonly pages: number;
  readonly sharedInfoGfn: number;
  readonly storeGfn: number;
  readonly storePort: number;
  readonly consoleGfn: number;
  readonly consolePort: number;
  readonly privileged: boolean;
  readonly commandLine: string;
}

/** Offsets of `start_info`, in words of the layout, after the 32 bytes of magic. @see xen.h, start_info */
const WIDE = { nrPages: 32, sharedInfo: 40, flags: 48, storeMfn: 56, storePort: 64, consoleMfn: 72, consolePort: 80, commandLine: 128 };
const NARROW = { nrPages: 32, sharedInfo: 36, flags: 40, storeMfn: 44, storePort: 48, consoleMfn: 52, consolePort: 56, commandLine: 80 };

/** Writes the start info page. The interface has none on Arm; there it has the layout of x86_64. The guest is auto-translated, so frames stand where a paravirtualised guest finds machine frames. */
export function writeStartInfo(views: MemoryViews, offset: number, info: StartInfo): void {
  const narrow = info.abi === 'x86_32';
  const at = narrow ? NARROW : WIDE;
  const { u8, u32 } = views;
  const magic = `xen-3.0-${info.abi}`;
  for (let i = 0; i < magic.length; i++) u8[offset + i] = magic.charCodeAt(i);
  const word = (where: number, value: number): void => {
    u32[(offset + where) >>> 2] = value;
    if (!narrow) u32[((offset + where) >>> 2) + 1] = Math.floor(value / 0x1_0000_0000);
  };
  word(at.nrPages, info.pages);
  word(at.sharedInfo, info.sharedInfoGfn * 4096);
  u32[(offset + at.flags) >>> 2] = info.privileged ? SIF.PRIVILEGED | SIF.INITDOMAIN : 0;
  word(at.storeMfn, info.storeGfn);
  u32[(offset + at.storePort) >>> 2] = info.storePort;
  word(at.consoleMfn, info.consoleGfn);
  u32[(offset + at.consolePort) >>> 2] = info.consolePort;
  const line = info.commandLine;
  for (let i = 0; i < line.length; i++) u8[offset + at.commandLine + i] = line.charCodeAt(i) & 0xff;
  u8[offset + at.commandLine + line.length] = 0;
}

/** Fills in the wall clock of the shared info page: virtual time counts from 1970. */
export function writeWallClock(views: MemoryViews, offset: number, abi: Abi, nowTicks: number): void {
  const at = sharedInfoOffsets(abi);
  const { u32 } = views;
  const seconds = Math.floor(nowTicks / 1000);
  u32[(offset + at.wcVersion) >>> 2]! += 1;
  u32[(offset + at.wcSec) >>> 2] = seconds;
  u32[(offset + at.wcNsec) >>> 2] = Math.round((nowTicks - seconds * 1000) * 1e6);
  u32[(offset + at.wcSecHi) >>> 2] = Math.floor(seconds / 0x1_0000_0000);
  u32[(offset + at.wcVersion) >>> 2]! += 1;
}

/** The toolstack's two grants: the console's page under reference 0, the store's under 1, both to `peer`. */
export function writeReservedGrants(views: MemoryViews, offset: number, peer: number, consoleGfn: number, storeGfn: number): void {
  writeGrantV1(views, offset, GTF.permit_access, peer, consoleGfn);
  writeGrantV1(views, offset + 8, GTF.permit_access, peer, storeGfn);
}
