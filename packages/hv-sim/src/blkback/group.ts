import type { UnmapBatch, UnmapOp } from '@paravirt/gnttab';
import type { BackRequest } from './request.ts';

/** Requests of a group at most: what a ring of one page holds. */
export const GROUP_MAX = 32;

/** Who is told when the pages of a group are unmapped. */
export interface GroupOwner {
  groupDone(group: RequestGroup, result: number): void;
}

/**
 * Reads and writes that were taken one after the other in one turn, mapped in one batch, carried out in their order, and unmapped in
 * one batch: a hypercall for many requests costs each of them little. Used again when its pages are unmapped.
 */
export class RequestGroup {
  readonly requests: BackRequest[] = [];
  /** Requests that count in `requests`. */
  count = 0;
  /** The unmap operations of those that were carried out at once; each is its request's own. */
  readonly batch: UnmapBatch & { readonly ops: UnmapOp[] };
  /** Next of the idle ones. */
  next: RequestGroup | undefined = undefined;

  constructor(owner: GroupOwner) {
    this.batch = { ops: [], count: 0, done: (result) => owner.groupDone(this, result) };
  }

  add(request: BackRequest): void {
    this.requests[this.count++] = request;
  }

  /** Adds the request's unmap operations to the batch. */
  join(request: BackRequest): void {
    const { batch } = this;
    const { ops, count } = request.mapped;
    for (let i = 0; i < count; i++) batch.ops[batch.count++] = ops[i]!;
    this.add(request);
  }
}

/** The groups of one queue: the one that fills, and those that wait for pages in use or are idle. */
export class Groups {
  private readonly owner: GroupOwner;
  private idle: RequestGroup | undefined = undefined;
  /** The one that fills. */
  current: RequestGroup;

  constructor(owner: GroupOwner) {
    this.owner = owner;
    this.current = new RequestGroup(owner);
  }

  /** The current one has to wait: another takes its place. */
  setAside(): void {
    this.current = this.idle ?? new RequestGroup(this.owner);
    this.idle = this.current.next;
  }

  /** One that waited does no longer. */
  giveBack(group: RequestGroup): void {
    if (group === this.current) return;
    group.next = this.idle;
    this.idle = group;
  }
}
