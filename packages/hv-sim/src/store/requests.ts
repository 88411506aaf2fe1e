import { XENSTORE, XS_TYPE, type XsMessage } from '@paravirt/xen-abi';
import type { StoreErrno } from './errors.ts';
import { type Perm, parsePerm, type StoreNode, spellPerm } from './node.ts';
import { homePath } from './paths.ts';
import type { Session } from './session.ts';
import { isAscii } from './text.ts';

/** What a request is answered with: the payload of a reply of the request's own type, or an error's name. */
export type Answer = { readonly payload: string } | { readonly errno: StoreErrno };

/** What the wire's toolstack requests do outside the tree. */
export interface DomainActs {
  introduce(domid: number): void;
  release(domid: number): boolean;
  isIntroduced(domid: number): boolean;
  setTarget(domid: number, target: number): void;
}

interface Request {
  readonly session: Session;
  readonly acts: DomainActs;
  readonly transaction: number;
  /** One character a byte. */
  readonly payload: string;
  /** Events that must come after the answer. */
  after: (() => void) | undefined;
}

type Handler = (request: Request) => Answer;

const OK: Answer = { payload: 'OK\0' };

function failed({ session }: Request): Answer {
  return { errno: session.errno };
}

/** The payload as exactly one string; undefined when it is not. */
function only({ payload }: Request): string | undefined {
  return payload !== '' && payload.indexOf('\0') === payload.length - 1 ? payload.slice(0, -1) : undefined;
}

/** The first `count` strings of a payload; undefined when there are fewer. */
function strings({ payload }: Request, count: number): string[] | undefined {
  const parts = payload.split('\0');
  // What follows the last NUL is no string.
  return parts.length > count ? parts.slice(0, count) : undefined;
}

/** A decimal number as C's `atoi` reads it. */
function number(text: string): number {
  return Number.parseInt(text, 10) || 0;
}

function onNode(answer: (node: StoreNode) => string): Handler {
  return (request) => {
    const path = only(request);
    if (path === undefined) return { errno: 'EINVAL' };
    const node = request.session.read(path, request.transaction);
    return node === undefined ? failed(request) : { payload: answer(node) };
  };
}

function names(node: StoreNode): string {
  let list = '';
  for (const name of node.children ?? []) list += `${name}\0`;
  return list;
}

/** A part of a long list: the node's generation, so that a reader sees a change between parts, and what fits of the rest. */
function directoryPart(request: Request): Answer {
  const args = strings(request, 2);
  if (args === undefined) return { errno: 'EINVAL' };
  const node = request.session.read(args[0]!, request.transaction);
  if (node === undefined) return failed(request);
  const head = `${node.generation}\0`;
  const list = names(node);
  const from = number(args[1]!);
  if (from < 0 || from >= list.length) return { payload: `${head}\0` };
  let to = Math.min(list.length, from + XENSTORE.PAYLOAD_MAX - head.length - 1);
  if (to < list.length) to = list.lastIndexOf('\0', to - 1) + 1;
  return { payload: `${head}${list.slice(from, to)}${to === list.length ? '\0' : ''}` };
}

function write(request: Request): Answer {
  const { payload, session, transaction } = request;
  const end = payload.indexOf('\0');
  if (end < 0) return { errno: 'EINVAL' };
  const value = payload.slice(end + 1);
  return session.write(payload.slice(0, end), value, isAscii(value), transaction) ? OK : failed(request);
}

function setPerms(request: Request): Answer {
  const { payload, session, transaction } = request;
  const parts = payload.split('\0').slice(0, -1);
  if (parts.length < 2) return { errno: 'EINVAL' };
  const perms = parts.slice(1).map(parsePerm);
  if (!session.privileged && perms.length > session.core.limits.permissions) return { errno: 'ENOSPC' };
  if (perms.includes(undefined)) return { errno: 'EINVAL' };
  return session.setPerms(parts[0]!, perms as Perm[], transaction) ? OK : failed(request);
}

function watch(request: Request): Answer {
  const args = strings(request, 2);
  if (args === undefined) return { errno: 'EINVAL' };
  const { session } = request;
  const made = session.watch(args[0]!, args[1]!);
  if (made === undefined) return failed(request);
  request.after = () => session.tell(made, made.path);
  return OK;
}

function unwatch(request: Request): Answer {
  const args = strings(request, 2);
  if (args === undefined) return { errno: 'EINVAL' };
  const found = request.session.findWatch(args[0]!, args[1]!);
  if (found === undefined) return failed(request);
  request.session.unwatch(found);
  return OK;
}

function onPath(act: (session: Session, path: string, transaction: number) => boolean): Handler {
  return (request) => {
    const path = only(request);
    if (path === undefined) return { errno: 'EINVAL' };
    return act(request.session, path, request.transaction) ? OK : failed(request);
  };
}

function transactionStart(request: Request): Answer {
  if (request.transaction !== 0) return { errno: 'EBUSY' };
  const id = request.session.begin();
  return id === 0 ? failed(request) : { payload: `${id}\0` };
}

function transactionEnd(request: Request): Answer {
  const verdict = only(request);
  if (verdict !== 'T' && verdict !== 'F') return { errno: 'EINVAL' };
  return request.session.end(request.transaction, verdict === 'T') ? OK : failed(request);
}

function getDomainPath(request: Request): Answer {
  const domid = only(request);
  return domid === undefined ? { errno: 'EINVAL' } : { payload: `${homePath(number(domid))}\0` };
}

function introduce(request: Request): Answer {
  const args = strings(request, 3);
  if (args === undefined || number(args[2]!) <= 0 || !isDomid(number(args[0]!))) return { errno: 'EINVAL' };
  request.acts.introduce(number(args[0]!));
  return OK;
}

function release(request: Request): Answer {
  const domid = number(only(request) ?? '');
  if (domid === 0 || !isDomid(domid)) return { errno: 'EINVAL' };
  return request.acts.release(domid) ? OK : { errno: 'ENOENT' };
}

function isDomainIntroduced(request: Request): Answer {
  const domid = only(request);
  return domid === undefined ? { errno: 'EINVAL' } : { payload: request.acts.isIntroduced(number(domid)) ? 'T\0' : 'F\0' };
}

function resume(request: Request): Answer {
  const domid = only(request);
  if (domid === undefined) return { errno: 'EINVAL' };
  return request.acts.isIntroduced(number(domid)) ? OK : { errno: 'ENOENT' };
}

function setTarget(request: Request): Answer {
  const args = strings(request, 2);
  if (args === undefined) return { errno: 'EINVAL' };
  const [domid, target] = [number(args[0]!), number(args[1]!)];
  if (!request.acts.isIntroduced(domid) || !request.acts.isIntroduced(target)) return { errno: 'ENOENT' };
  request.acts.setTarget(domid, target);
  return OK;
}

function resetWatches({ session }: Request): Answer {
  session.reset();
  return OK;
}

function isDomid(domid: number): boolean {
  return domid >= 0 && domid < 0x7ff0;
}

/** Requests by type: who may make them, and whether they look at the transaction that their header names. */
const REQUESTS: { readonly [type: number]: { readonly handle: Handler; readonly privileged?: true; readonly anywhere?: true } } = {
  // The original's control commands steer its own process; there is none here.
  [XS_TYPE.CONTROL]: { handle: () => ({ errno: 'EINVAL' }), privileged: true },
  [XS_TYPE.DIRECTORY]: { handle: onNode(names) },
  [XS_TYPE.DIRECTORY_PART]: { handle: directoryPart },
  [XS_TYPE.READ]: { handle: onNode((node) => node.value) },
  [XS_TYPE.GET_PERMS]: { handle: onNode((node) => node.perms.map((perm) => `${spellPerm(perm)}\0`).join('')) },
  [XS_TYPE.WATCH]: { handle: watch, anywhere: true },
  [XS_TYPE.UNWATCH]: { handle: unwatch, anywhere: true },
  [XS_TYPE.TRANSACTION_START]: { handle: transactionStart },
  [XS_TYPE.TRANSACTION_END]: { handle: transactionEnd },
  [XS_TYPE.INTRODUCE]: { handle: introduce, privileged: true },
  [XS_TYPE.RELEASE]: { handle: release, privileged: true },
  [XS_TYPE.GET_DOMAIN_PATH]: { handle: getDomainPath },
  [XS_TYPE.WRITE]: { handle: write },
  [XS_TYPE.MKDIR]: { handle: onPath((session, path, transaction) => session.mkdir(path, transaction)) },
  [XS_TYPE.RM]: { handle: onPath((session, path, transaction) => session.remove(path, transaction)) },
  [XS_TYPE.SET_PERMS]: { handle: setPerms },
  [XS_TYPE.IS_DOMAIN_INTRODUCED]: { handle: isDomainIntroduced, privileged: true },
  [XS_TYPE.RESUME]: { handle: resume, privileged: true },
  [XS_TYPE.SET_TARGET]: { handle: setTarget, privileged: true },
  [XS_TYPE.RESET_WATCHES]: { handle: resetWatches },
};

/** One character a byte. */
function bytesToString(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** The bytes of a text with one character a byte. */
export function stringToBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/**
 * Carries out one request of the wire. `after` is to be called when the answer is queued.
 * @see xen/include/public/io/xs_wire.h; docs/misc/xenstore.txt; xenstored of Xen 4.17 for errors and their order
 */
export function handleRequest(session: Session, acts: DomainActs, message: XsMessage): { answer: Answer; after: (() => void) | undefined } {
  const { type, txId } = message;
  const known = REQUESTS[type];
  const refuse = (errno: StoreErrno): { answer: Answer; after: undefined } => ({ answer: { errno }, after: undefined });
  if (known === undefined) return refuse('ENOSYS');
  if (known.privileged && !session.privileged) return refuse('EACCES');
  if (known.anywhere !== true && txId !== 0 && !session.transactions.has(txId)) return refuse('ENOENT');
  const request: Request = { session, acts, transaction: txId, payload: bytesToString(message.payload), after: undefined };
  const answer = known.handle(request);
  if ('payload' in answer && answer.payload.length > XENSTORE.PAYLOAD_MAX) return refuse('E2BIG');
  return { answer, after: request.after };
}
