export { alignedTarget } from './aligned-target.ts';
export { Errno, Extent } from './constants.ts';
export { NbdError, type NbdRefusal } from './errors.ts';
export { createNbdServer, defaultLimits, type NbdServer, type NbdServerOptions } from './server.ts';
export { type SimpleDisk, simpleTarget } from './simple-target.ts';
export type {
  AddExtent,
  Done,
  NbdConnection,
  NbdCounters,
  NbdExport,
  NbdLimits,
  NbdStream,
  NbdTarget,
  NbdTimer,
  ZeroOptions,
} from './types.ts';
