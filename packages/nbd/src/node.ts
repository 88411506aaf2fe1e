import { Buffer } from 'node:buffer';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { NbdError } from './errors.ts';
import { receivingSocket } from './receiving-socket.ts';
import type { NbdServer } from './server.ts';
import type { NbdConnection, NbdStream } from './types.ts';

/** Where to listen. Other hosts than loopback are refused unless `allowRemote` says so in so many words. */
export type ListenAddress = { readonly path: string } | { readonly host: string; readonly port: number; readonly allowRemote?: boolean };

/** What the system's socket address has room for. Node cuts longer paths off and listens there. */
export const SOCKET_PATH_BYTES_MAX: number = process.platform === 'darwin' ? 103 : 107;

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** A socket as the server's stream. */
function streamOf(socket: Socket): NbdStream {
  let last: Uint8Array | undefined;
  let buffer: Buffer;
  return {
    write(bytes, written) {
      // The server hands over one and the same view of its memory while replies are alike, and Node wants a Buffer.
      if (bytes !== last) {
        last = bytes;
        buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      }
      return socket.write(buffer, (error) => {
        // After an error 'close' follows, which gives everything back at once.
        if (!error) written();
      });
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  };
}

function serve(server: NbdServer, socket: Socket): NbdConnection | undefined {
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  const connection = server.accept(streamOf(socket));
  if (!connection) return undefined;
  socket.on('data', (chunk: Uint8Array) => void connection.data(chunk));
  socket.on('drain', () => connection.drained());
  socket.on('close', () => connection.closed());
  // A client that sends FIN and reads no more: nbdkit and qemu-nbd take that as its end too.
  socket.on('end', () => socket.end());
  return connection;
}

/** Serves one socket until it closes. */
export function serveSocket(server: NbdServer, socket: Socket): void {
  serve(server, socket);
}

/**
 * Listens for clients of `server`. Resolves when clients can connect. The sockets of the listener's `connection` events tell that a
 * client is there, and closing them ends it; its bytes pass them by.
 * @throws {NbdError} `not-loopback`, `path-too-long`.
 */
export function listen(server: NbdServer, address: ListenAddress): Promise<Server> {
  if ('host' in address && address.allowRemote !== true && !isLoopback(address.host)) {
    throw new NbdError({ code: 'not-loopback', host: address.host });
  }
  if ('path' in address) {
    const bytes = Buffer.byteLength(address.path);
    if (bytes > SOCKET_PATH_BYTES_MAX) {
      throw new NbdError({ code: 'path-too-long', path: address.path, bytes, bytesMax: SOCKET_PATH_BYTES_MAX });
    }
  }
  const listener = createServer({ pauseOnConnect: true }, (accepted) => {
    let connection: NbdConnection | undefined;
    const socket = receivingSocket(accepted, (chunk) => connection?.data(chunk) === true);
    connection = serve(server, socket);
    socket.resume();
  });
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen('path' in address ? { path: address.path } : { host: address.host, port: address.port }, () => {
      listener.off('error', reject);
      resolve(listener);
    });
  });
}
