import type { Plugin } from '@paravirt/event-bus/contract';
import { BlockDevice } from './block-device.ts';
import { checkOptions } from './options.ts';
import type { BlkfrontOptions, BlkfrontSurroundings } from './types.ts';

/**
 * The driver of one virtual block device as a plugin of its guest. Attaching makes the device and changes nothing anywhere;
 * `api.connect()` connects it. Detaching closes it, in order where the host can block, and gives back everything.
 * @throws {BlkfrontError} `bad-argument`, naming the option.
 */
export function blkfront(options: BlkfrontOptions): Plugin<BlkfrontSurroundings, BlockDevice> {
  checkOptions(options);
  return {
    name: `blkfront ${options.device}`,
    requires: ['pages', 'grants', 'events', 'store', 'scheduler'],
    attach: (surroundings) => {
      const api = new BlockDevice(options, surroundings);
      return { api, detach: () => api.destroy() };
    },
  };
}
