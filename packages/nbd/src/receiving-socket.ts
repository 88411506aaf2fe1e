import { Buffer } from 'node:buffer';
import { Socket, type SocketConstructorOpts } from 'node:net';

/** More than a Unix socket holds: a batch of writes comes in one piece. */
const RECEIVE_BYTES = 256 * 1024;
/** Memory for one read where the target needs what was read for longer; as much as Node would take. */
const SPARE_BYTES = 64 * 1024;

const memory = (bytes: number): Uint8Array => new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);

/** What Node keeps behind a socket: known well enough to ask for, not documented. */
interface Handle {
  readonly useUserBuffer?: unknown;
}

interface Behind {
  _handle?: Handle | null;
}

/**
 * A socket that stands in for `accepted`, which must be paused, and reads into one buffer again and again. Node gives every read 64 KiB of
 * fresh memory, which at one small request a read costs more than to serve it; a client's socket can be told of a buffer of its
 * own (`onread`), but not one that a server accepted, unless its handle is put into a socket made so. Where Node does not let
 * that happen, `accepted` itself is returned, and reads as ever.
 *
 * @param take is given what was read; true: it is kept and the next read needs other memory, false: nothing is kept any more.
 */
export function receivingSocket(accepted: Socket, take: (chunk: Uint8Array) => boolean): Socket {
  const handle = (accepted as Behind)._handle;
  if (typeof handle?.useUserBuffer !== 'function') return accepted;
  const own = memory(RECEIVE_BYTES);
  let current = own;
  let kept = false;
  /** What was read last, and the buffer that it lies in. */
  let chunk: Uint8Array | undefined;
  let whole: Uint8Array | undefined;
  const onread = {
    // Node asks before the first read and after each; undefined: the same as before.
    buffer: (): Uint8Array | undefined => {
      if (kept) current = memory(SPARE_BYTES);
      else if (current === own && chunk !== undefined) return undefined;
      else current = own;
      return current;
    },
    callback(bytes: number, buffer: Uint8Array): boolean {
      // The requests of a client that waits for each answer are all of one length.
      if (chunk === undefined || whole !== buffer || chunk.length !== bytes) {
        whole = buffer;
        chunk = buffer.subarray(0, bytes);
      }
      kept = take(chunk);
      return true;
    },
  };
  const socket = new Socket({ handle, onread, manualStart: true } as unknown as SocketConstructorOpts);
  if ((socket as Behind)._handle !== handle) return accepted;
  // Without its handle it is only what the listener counts as a connection: both end together.
  (accepted as Behind)._handle = null;
  accepted.once('close', () => socket.destroy());
  socket.once('close', () => accepted.destroy());
  return socket;
}
