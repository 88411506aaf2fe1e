import type { StoreAccess, StorePermission } from './types.ts';

export const READ = 1;
export const WRITE = 2;
/** Everything, and the right to change permissions. */
export const OWNER = 4;
export const ALL: number = READ | WRITE | OWNER;

/** One permission: a domain and a mask of READ and WRITE. The first of a node's names the owner. */
export interface Perm {
  readonly domid: number;
  readonly mask: number;
}

/** One node. `frozen` once a transaction has seen it: whoever changes it then copies it first. */
export interface StoreNode {
  /** One character a byte. */
  value: string;
  ascii: boolean;
  perms: readonly Perm[];
  /** The store's generation when the permissions were given: a domain born later is not meant by them. */
  permsAt: number;
  /** Names, oldest first; null until there was one. */
  children: Set<string> | null;
  /** Bytes of the children's names with a NUL each. */
  childBytes: number;
  generation: number;
  frozen: boolean;
}

export function newNode(perms: readonly Perm[], generation: number): StoreNode {
  return { value: '', ascii: true, perms, permsAt: generation, children: null, childBytes: 0, generation, frozen: false };
}

export function copyNode(node: StoreNode): StoreNode {
  return { ...node, children: node.children === null ? null : new Set(node.children), frozen: false };
}

/** Bytes of the original's record: header, 8 for each permission, value, children. @see xenstored, struct xs_tdb_record_hdr */
export function recordBytes(node: StoreNode): number {
  return 24 + 8 * node.perms.length + node.value.length + node.childBytes;
}

const LETTERS = ['n', 'r', 'w', 'b'] as const;
const ACCESSES: readonly StoreAccess[] = ['none', 'read', 'write', 'both'];

/** `r6`: the wire's and the tools' spelling. */
export function spellPerm({ domid, mask }: Perm): string {
  return `${LETTERS[mask]}${domid}`;
}

/** Undefined when it is no permission. */
export function parsePerm(text: string): Perm | undefined {
  const mask = LETTERS.indexOf(text[0] as (typeof LETTERS)[number]);
  const domid = /^\d{1,5}$/.test(text.slice(1)) ? Number(text.slice(1)) : -1;
  return mask < 0 || domid < 0 || domid > 0xffff ? undefined : { domid, mask };
}

export function toPermission({ domid, mask }: Perm): StorePermission {
  return { domid: domid as StorePermission['domid'], access: ACCESSES[mask]! };
}

/** Undefined when it is no permission. */
export function fromPermission({ domid, access }: StorePermission): Perm | undefined {
  const mask = ACCESSES.indexOf(access);
  return mask < 0 || !Number.isInteger(domid) || domid < 0 || domid > 0xffff ? undefined : { domid, mask };
}
