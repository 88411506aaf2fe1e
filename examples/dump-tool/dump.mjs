#!/usr/bin/env node
// Reads frames of a guest's grant table, and the pages of a block ring, as files: raw or gzipped.

import { readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { grantReport, readGrants, ringReport } from './report.mjs';

const USAGE = 'usage: node dump.mjs --grants FILE [--grants FILE ...] [--version 1|2] [--ring FILE ...] [--abi x86_64|x86_32|arm64]';

/** @param {readonly string[]} files */
function pages(files) {
  const parts = files.map((file) => {
    const raw = readFileSync(file);
    const bytes = raw[0] === 0x1f && raw[1] === 0x8b ? gunzipSync(raw) : raw;
    if (bytes.length === 0 || bytes.length % 4096 !== 0) throw new Error(`${file} has ${bytes.length} bytes: not whole pages of 4096`);
    return bytes;
  });
  return new Uint8Array(Buffer.concat(parts));
}

/**
 * @param {readonly string[]} args
 * @returns {string} what the files say
 */
export function run(args) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      grants: { type: 'string', multiple: true },
      ring: { type: 'string', multiple: true },
      version: { type: 'string', default: '1' },
      abi: { type: 'string', default: 'x86_64' },
    },
  });
  const { grants: grantFiles = [], ring: ringFiles = [], version, abi } = values;
  if (grantFiles.length === 0 || (version !== '1' && version !== '2')) throw new Error(USAGE);
  if (abi !== 'x86_64' && abi !== 'x86_32' && abi !== 'arm64') throw new Error(USAGE);
  const frames = pages(grantFiles);
  const entries = frames.length / (version === '1' ? 8 : 16);
  const grants = readGrants(frames, version === '1' ? 1 : 2);
  const lines = grantReport(grants, entries);
  if (ringFiles.length > 0) lines.push(...ringReport(pages(ringFiles), abi, grants, entries));
  return lines.join('\n');
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    console.log(run(process.argv.slice(2)));
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 2;
  }
}
