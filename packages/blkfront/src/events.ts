import type { Gref } from '@paravirt/event-bus/contract';
import type { DeviceState } from './types.ts';

/** The facts this package emits, each guarded by `observed`: a branch when nobody listens. */
export interface BlkfrontEvents {
  /** The device reached another state. `path` is its store folder; `reason` says why where it was not asked for. */
  'blkfront:state': { readonly path: string; readonly state: DeviceState; readonly before: DeviceState; readonly reason: string };
  /** The frontend wrote its xenbus state (0 to 8). */
  'xenbus:state': { readonly path: string; readonly state: number };
  /** A request was put on a ring: `op` as in `OP`, sectors of 512 bytes, `id` of its slot in the driver. */
  'blkfront:requested': {
    readonly path: string;
    readonly queue: number;
    readonly id: number;
    readonly op: number;
    readonly sector: number;
    readonly sectors: number;
    readonly segments: number;
  };
  /** A request is over: `status` 0 or a negative errno. */
  'blkfront:completed': {
    readonly path: string;
    readonly queue: number;
    readonly id: number;
    readonly op: number;
    readonly status: number;
  };
  /** The disk has another size, in sectors of 512 bytes. */
  'blkfront:resized': { readonly path: string; readonly before: number; readonly sectors: number };
  /** A request is over but the backend still maps this page: do not reuse it before `blkfront:returned` names the reference. */
  'blkfront:quarantined': { readonly path: string; readonly gref: Gref; readonly gfn: number };
  'blkfront:returned': { readonly path: string; readonly gref: Gref; readonly gfn: number };
}
