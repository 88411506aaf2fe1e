/** Types for those who write a plugin or a configuration file of `hvsim`; the command line itself is `bin/hvsim.mjs`. */

export type { StackEvents } from './compose.ts';
export type { HvsimConfig } from './config/schema.ts';
export type { ByteDevice, DriverDeps, DriverInfo, GuestDriver, PluginModule } from './plugins.ts';
