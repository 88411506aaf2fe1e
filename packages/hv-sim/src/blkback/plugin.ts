import type { Attached, Plugin } from '@paravirt/event-bus/contract';
import { domId, invariant } from '@paravirt/event-bus/contract';
import { XENBUS_STATE } from '@paravirt/xen-abi';
import type { Disk } from '../disks/disk.ts';
import { sharedParts } from './connection.ts';
import { addCounters, blkbackCounters } from './counters.ts';
import { BackDevice } from './device.ts';
import { BlkbackError } from './errors.ts';
import { readNode, readUnsigned } from './handshake.ts';
import { blkbackSettings } from './options.ts';
import { Turns } from './turns.ts';
import type { Blkback, BlkbackCounters, BlkbackDeps, BlkbackDevice, BlkbackOptions } from './types.ts';

/** Where the backend's devices stand, under its domain's home. */
const FOLDER = 'backend/vbd';

/** `major:minor`, hexadecimal, as the hotplug script writes it. */
const PHYSICAL_DEVICE = /^[0-9a-f]{1,8}:[0-9a-f]{1,8}$/;

function numeric(name: string | undefined): number | undefined {
  return name !== undefined && /^\d{1,10}$/.test(name) ? Number(name) : undefined;
}

/**
 * The block backend as a plugin. It watches `backend/vbd` of its domain and serves every device that appears there; a device's disk
 * is the one added under its `physical-device`. Modelled on Linux 6.1, drivers/block/xen-blkback.
 * @throws {BlkbackError} `bad-option`.
 */
export function blkback(options: BlkbackOptions = {}): Plugin<BlkbackDeps, Blkback> {
  const settings = blkbackSettings(options);
  return {
    name: 'blkback',
    requires: ['bus', 'store', 'events', 'grants', 'addresses', 'memory', 'scheduler'],
    attach(deps: BlkbackDeps): Attached<Blkback> {
      const shared = sharedParts(deps, settings, new Turns(deps.scheduler, settings.turnCost));
      const disks = new Map<string, Disk>();
      const devices = new Map<string, BackDevice>();
      const retired = blkbackCounters();
      /** Until the first look at the folder is over, what stands there is from another life. */
      let adopting = settings.adopt;
      let detached = false;

      const probe = (frontend: number, device: number): void => {
        const path = `${FOLDER}/${frontend}/${device}`;
        const state = readUnsigned(deps.store, `${path}/state`);
        if (state === undefined) return;
        const left = adopting && (readUnsigned(deps.store, `${path}/online`) ?? 0) !== 0;
        if (state !== XENBUS_STATE.Initialising && !left) return;
        const frontendId = readUnsigned(deps.store, `${path}/frontend-id`);
        const frontendPath = readNode(deps.store, `${path}/frontend`);
        if (frontendId === undefined || frontendId > 0x7fff || frontendPath === undefined) return;
        const made = new BackDevice({
          shared,
          path,
          frontend: domId(frontendId),
          device,
          frontendPath,
          diskOf: (physicalDevice) => disks.get(physicalDevice),
          gone: (gone) => {
            invariant(devices.get(path) === gone, () => `${path} went twice`);
            devices.delete(path);
            addCounters(retired, gone.counters);
            // The folder may have begun anew meanwhile; one that it could not write to is not tried for ever.
            if (!detached && gone.state !== XENBUS_STATE.Initialising) look(frontend, device);
          },
        });
        devices.set(path, made);
        made.probe();
      };

      const look = (frontend: number, device: number): void => {
        const known = devices.get(`${FOLDER}/${frontend}/${device}`);
        if (known === undefined) probe(frontend, device);
        else if (readNode(deps.store, known.path) === undefined || known.replaced) known.remove();
      };

      const lookAtAll = (): void => {
        for (const known of [...devices.values()]) look(known.pathFrontend, known.device);
        for (const frontend of deps.store.list(FOLDER)) {
          const domid = numeric(frontend);
          if (domid === undefined) continue;
          for (const device of deps.store.list(`${FOLDER}/${frontend}`)) {
            const number = numeric(device);
            if (number !== undefined) look(domid, number);
          }
        }
      };

      const watch = deps.store.watch(FOLDER, (path) => {
        if (detached) return;
        const at = path.indexOf(FOLDER);
        const [frontend, device] = at < 0 ? [] : path.slice(at + FOLDER.length + 1).split('/');
        const domid = numeric(frontend);
        const number = numeric(device);
        if (domid === undefined || number === undefined) lookAtAll();
        else look(domid, number);
        adopting = false;
      });

      const api: Blkback = {
        addDisk(physicalDevice, disk) {
          if (!PHYSICAL_DEVICE.test(physicalDevice)) {
            const allowed = 'major:minor in hexadecimal, like 7:0';
            throw new BlkbackError({ code: 'bad-option', option: 'physicalDevice', value: physicalDevice, allowed });
          }
          const other = disks.get(physicalDevice);
          if (other !== undefined && other !== disk) throw new BlkbackError({ code: 'disk-taken', physicalDevice });
          disks.set(physicalDevice, disk);
          for (const device of devices.values()) device.diskAdded();
        },
        removeDisk(physicalDevice) {
          disks.delete(physicalDevice);
        },
        hasDisk: (physicalDevice) => disks.has(physicalDevice),
        device: (frontend, device) => devices.get(`${FOLDER}/${frontend}/${device}`),
        devices: (): readonly BlkbackDevice[] => [...devices.values()],
        get counters(): BlkbackCounters {
          const sum = { ...retired };
          for (const device of devices.values()) addCounters(sum, device.counters);
          return sum;
        },
      };
      return {
        api,
        detach: () => {
          detached = true;
          watch.unsubscribe();
          for (const device of [...devices.values()]) device.shutDown();
        },
      };
    },
  };
}
