/** Bytes that a region of 16 Mi pages takes, half full of one-page areas: all of the heap and of array buffers, after less before. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createPageHeap, createPageTable, createVmap } from '../dist/index.js';

setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc');
const bytes = () => {
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

const pages = 16 * 1024 * 1024;
const pageTable = createPageTable();
const heap = createPageHeap();
const before = bytes();
const vmap = createVmap({ regions: [{ name: 'default', start: 0xffff_82c0_0000_0000n, pages }], pageTable, pages: heap });
const region = vmap.region('default');
let areas = 0;
while (region.vmAlloc(1) >= 0) areas++;
console.log(JSON.stringify({ areas, bytes: bytes() - before, kept: region.low }));
