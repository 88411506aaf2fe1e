// What the protocol costs without a socket: batches of requests into a server over memory, beside the bare copies of the same bytes.
//
//   node bench/index.mjs [--json]
import { parseArgs } from 'node:util';
import { createNbdServer } from '../dist/index.js';

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
const ROUNDS = 9;
const DISK_BYTES = 64 * 1024 * 1024;
const disk = new Uint8Array(DISK_BYTES);

/** A connection whose answers are counted and thrown away. */
function connection() {
  const target = {
    sizeBytes: DISK_BYTES,
    read(offset, into, done) {
      into.set(disk.subarray(offset, offset + into.length));
      done(0);
    },
    write(offset, from, _fua, done) {
      disk.set(from, offset);
      done(0);
    },
    flush: (done) => done(0),
  };
  const server = createNbdServer({ exports: [{ name: '', target }] });
  const stream = {
    write(_bytes, written) {
      written();
      return true;
    },
    pause() {},
    resume() {},
    end() {},
    destroy() {},
  };
  const client = server.accept(stream);
  const hello = Buffer.alloc(26);
  hello.writeUInt32BE(3, 0);
  hello.write('IHAVEOPT', 4, 'latin1');
  hello.writeUInt32BE(7, 12);
  hello.writeUInt32BE(6, 16);
  client.data(hello);
  return client;
}

/** `depth` requests one behind the other, as they come off a socket. */
function batch(type, bytes, depth) {
  const payload = type === 1 ? bytes : 0;
  const all = Buffer.alloc(depth * (28 + payload));
  for (let index = 0; index < depth; index += 1) {
    const at = index * (28 + payload);
    all.writeUInt32BE(0x25609513, at);
    all.writeUInt16BE(type, at + 6);
    all.writeUInt32BE(index, at + 12);
    all.writeBigUInt64BE(BigInt(((index * 7919) % (DISK_BYTES / bytes)) * bytes), at + 16);
    all.writeUInt32BE(bytes, at + 24);
  }
  return all;
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Nanoseconds of one call, the median of rounds that each last about 50 ms. */
function nanoseconds(work) {
  let calls = 1;
  for (let spent = 0; spent < 20; calls *= 2) {
    const began = performance.now();
    for (let call = 0; call < calls; call += 1) work();
    spent = performance.now() - began;
  }
  return median(
    Array.from({ length: ROUNDS }, () => {
      const began = performance.now();
      for (let call = 0; call < calls; call += 1) work();
      return ((performance.now() - began) * 1e6) / calls;
    }),
  );
}

const results = [];
for (const [name, type, bytes, depth] of [
  ['read 4 KiB, 32 in a batch', 0, 4096, 32],
  ['write 4 KiB, 32 in a batch', 1, 4096, 32],
  ['read 1 MiB, 8 in a batch', 0, 1 << 20, 8],
]) {
  const client = connection();
  const requests = batch(type, bytes, depth);
  const served = nanoseconds(() => client.data(requests)) / depth;
  const buffer = new Uint8Array(bytes * depth);
  const bare =
    nanoseconds(() => {
      for (let index = 0; index < depth; index += 1) {
        const offset = ((index * 7919) % (DISK_BYTES / bytes)) * bytes;
        buffer.set(disk.subarray(offset, offset + bytes), index * bytes);
      }
    }) / depth;
  results.push({ name, nanoseconds: Math.round(served), bareCopy: Math.round(bare), ratio: Number((served / bare).toFixed(2)) });
}
if (values.json) console.log(JSON.stringify(results, null, 2));
else
  for (const { name, nanoseconds: ns, bareCopy, ratio } of results)
    console.log(`${name}: ${ns} ns a request, bare copy ${bareCopy} ns, ${ratio} x`);
