// Cost of a request's four ring operations, beside a plain reader and writer with a DataView and fresh objects, and a bare
// copy of 4096 bytes, in the same run; where gcc is found also beside the same loop in C. Run after a build: `pnpm bench`.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = new URL('../dist/index.js', import.meta.url);
if (!existsSync(fileURLToPath(dist))) {
  console.error('dist/index.js is missing: build first (pnpm build)');
  process.exit(1);
}
const { BackRing, BLKIF_OP, BlockRequest, BlockResponse, FrontRing, pagesOfBytes, SharedRing } = await import(dist);

const DEPTH = 32;
const ROUNDS = 44;
const BATCH = 50_000;

/** Nanoseconds an operation, the least of the rounds: whatever else the machine does only adds to a time. */
function measure(operation, each) {
  for (let i = 0; i < 8; i++) operation(BATCH);
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    operation(BATCH);
    least = Math.min(least, Number(process.hrtime.bigint() - start) / (BATCH * each));
  }
  return least;
}

/** A batch of `DEPTH` requests over the ring and their responses back. */
function ringLoop(abi, pages, fill) {
  const shared = new SharedRing(abi, pagesOfBytes(new Uint8Array(pages * 4096)));
  const front = new FrontRing(shared);
  const back = new BackRing(shared);
  shared.init();
  const out = new BlockRequest();
  const request = new BlockRequest();
  const response = new BlockResponse();
  fill(out);
  return (batches) => {
    // Here, not outside: a captured variable that holds more than 31 bits is a fresh object each time it changes.
    let sum = 0;
    for (let batch = 0; batch < batches / DEPTH; batch++) {
      for (let i = 0; i < DEPTH; i++) {
        out.idLo = i;
        front.putRequest(out);
      }
      if (front.push()) sum++;
      for (let i = 0; i < DEPTH; i++) {
        back.getRequest(request);
        sum += request.sector;
        back.putResponse(request.idLo, request.idHi, request.operation, 0);
      }
      if (back.push()) sum++;
      for (let i = 0; i < DEPTH; i++) {
        front.getResponse(response);
        sum += response.status;
      }
      back.finalCheck();
      front.finalCheck();
    }
    return sum;
  };
}

const direct = (segments) => (request) => {
  request.operation = BLKIF_OP.WRITE;
  request.handle = 51712;
  request.setSector(2 ** 33 + 8);
  request.nrSegments = segments;
  for (let i = 0; i < segments; i++) request.setSegment(i, 8 + i, 0, 7);
};
const indirect = (request) => {
  request.operation = BLKIF_OP.INDIRECT;
  request.indirectOp = BLKIF_OP.WRITE;
  request.nrSegments = 256;
  request.setSector(2 ** 33);
  request.indirectGrefs[0] = 9;
};

/** The plain way: a DataView, a fresh object with bigints for each message. */
function plainLoop(segments) {
  const view = new DataView(new ArrayBuffer(4096));
  let sum = 0;
  return (batches) => {
    for (let batch = 0; batch < batches / DEPTH; batch++) {
      for (let i = 0; i < DEPTH; i++) {
        const at = 64 + i * 112;
        for (let byte = 0; byte < 112; byte += 4) view.setUint32(at + byte, 0, true);
        view.setUint8(at, 1);
        view.setUint8(at + 1, segments);
        view.setUint16(at + 2, 51712, true);
        view.setBigUint64(at + 8, BigInt(i), true);
        view.setBigUint64(at + 16, 8589934600n, true);
        for (let s = 0; s < segments; s++) {
          view.setUint32(at + 24 + s * 8, 8 + s, true);
          view.setUint8(at + 28 + s * 8, 0);
          view.setUint8(at + 29 + s * 8, 7);
        }
      }
      for (let i = 0; i < DEPTH; i++) {
        const at = 64 + i * 112;
        const request = {
          operation: view.getUint8(at),
          handle: view.getUint16(at + 2, true),
          id: view.getBigUint64(at + 8, true),
          sector: view.getBigUint64(at + 16, true),
          segments: Array.from({ length: view.getUint8(at + 1) }, (_, s) => ({
            gref: view.getUint32(at + 24 + s * 8, true),
            first: view.getUint8(at + 28 + s * 8),
            last: view.getUint8(at + 29 + s * 8),
          })),
        };
        sum += request.segments.length;
        view.setBigUint64(at, request.id, true);
        view.setUint8(at + 8, request.operation);
        view.setInt16(at + 10, 0, true);
      }
      for (let i = 0; i < DEPTH; i++) {
        const at = 64 + i * 112;
        const response = { id: view.getBigUint64(at, true), operation: view.getUint8(at + 8), status: view.getInt16(at + 10, true) };
        sum += response.status;
      }
    }
    return sum;
  };
}

function bareCopy() {
  const from = new Uint8Array(4096).fill(1);
  const into = new Uint8Array(4096);
  return (times) => {
    for (let i = 0; i < times; i++) into.set(from);
    return into[0];
  };
}

/** The same loop in C, built with gcc -O2, or null where there is no gcc. */
function inC() {
  const folder = mkdtempSync(join(tmpdir(), 'xen-abi-bench-'));
  try {
    const program = join(folder, 'ring');
    execFileSync('gcc', ['-O2', '-o', program, fileURLToPath(new URL('ring.c', import.meta.url))], { stdio: 'ignore' });
    return JSON.parse(execFileSync(program, { encoding: 'utf8' }));
  } catch {
    return null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const c = inC();
const rows = [
  ['4 KiB set of ready views (bare)', measure(bareCopy(), 1), null],
  ['request there and response back, 1 segment', measure(ringLoop('x86_64', 1, direct(1)), 1), c?.one ?? null],
  ['the same, plain: DataView, fresh objects', measure(plainLoop(1), 1), null],
  ['request there and response back, 11 segments', measure(ringLoop('x86_64', 1, direct(11)), 1), c?.eleven ?? null],
  ['the same, plain: DataView, fresh objects', measure(plainLoop(11), 1), null],
  ['1 segment, x86_32, two pages (a slot across them)', measure(ringLoop('x86_32', 2, direct(1)), 1), null],
  ['1 segment, sixteen pages', measure(ringLoop('x86_64', 16, direct(1)), 1), null],
  ['indirect request, there and back', measure(ringLoop('x86_64', 1, indirect), 1), null],
];

if (process.argv.includes('--json')) {
  const results = rows.map(([name, ns, gcc]) => ({ name, nanoseconds: Number(ns.toFixed(1)), gcc }));
  console.log(JSON.stringify({ package: '@paravirt/xen-abi', node: process.version, depth: DEPTH, results }));
} else {
  console.log(`ring operations, ${DEPTH} requests a batch, ns each (least of ${ROUNDS} rounds), Node ${process.version}\n`);
  for (const [name, ns, gcc] of rows) {
    console.log(`${name.padEnd(52)}${ns.toFixed(1).padStart(8)} ns${gcc === null ? '' : `   gcc -O2 ${gcc.toFixed(1)} ns`}`);
  }
}
