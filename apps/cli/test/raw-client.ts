import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** The least of an NBD client: GO on the default export, simple replies, requests written by hand. */
export class RawClient {
  readonly socket: Socket;
  #have: Buffer = Buffer.alloc(0);
  #wake: () => void = () => {};
  #handle = 0n;

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => {});
    this.socket.on('data', (chunk) => {
      this.#have = Buffer.concat([this.#have, chunk]);
      this.#wake();
    });
    this.socket.on('close', () => this.#wake());
  }

  async take(bytes: number): Promise<Buffer> {
    while (this.#have.length < bytes) {
      if (this.socket.destroyed) throw new Error(`the server closed with ${this.#have.length} of ${bytes} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#have.subarray(0, bytes);
    this.#have = this.#have.subarray(bytes);
    return taken;
  }

  /** The handshake, up to the first request. */
  async go(): Promise<void> {
    await this.take(18);
    const hello = Buffer.alloc(4 + 16 + 6);
    hello.writeUInt32BE(3, 0);
    hello.write('IHAVEOPT', 4, 'latin1');
    hello.writeUInt32BE(7, 12);
    hello.writeUInt32BE(6, 16);
    this.socket.write(hello);
    for (;;) {
      const head = await this.take(20);
      await this.take(head.readUInt32BE(16));
      if (head.readUInt32BE(12) === 1) return;
    }
  }

  /** Sends a request's header and data; returns its handle. */
  send(type: number, offset: number, bytes: number, data?: Uint8Array, flags = 0): bigint {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x25609513, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    this.#handle += 1n;
    header.writeBigUInt64BE(this.#handle, 8);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(bytes, 24);
    this.socket.write(header);
    if (data) this.socket.write(data);
    return this.#handle;
  }

  /** The next answer: whose it is and its error. Data of a read is the caller's to take. */
  async answer(): Promise<{ handle: bigint; errno: number }> {
    const head = await this.take(16);
    return { handle: head.readBigUInt64BE(8), errno: head.readUInt32BE(4) };
  }

  async write(offset: number, data: Uint8Array): Promise<number> {
    this.send(1, offset, data.length, data);
    return (await this.answer()).errno;
  }

  async flush(): Promise<number> {
    this.send(3, 0, 0);
    return (await this.answer()).errno;
  }

  async read(offset: number, bytes: number): Promise<Buffer> {
    this.send(0, offset, bytes);
    const { errno } = await this.answer();
    if (errno !== 0) throw new Error(`read failed with ${errno}`);
    return this.take(bytes);
  }

  async close(): Promise<void> {
    if (this.socket.destroyed) return;
    this.socket.destroy();
    await once(this.socket, 'close');
  }
}
