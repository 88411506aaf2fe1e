import { JobError } from './errors.ts';
import type { Step } from './source.ts';
import type { IoKind } from './target.ts';

const actions: Readonly<Record<string, IoKind | 'file' | 'wait'>> = {
  read: 'read',
  write: 'write',
  trim: 'trim',
  sync: 'sync',
  datasync: 'sync',
  add: 'file',
  open: 'file',
  close: 'file',
  wait: 'wait',
};
/** fio leaves out waits shorter than this. */
const WAIT_US_MIN = 100;

function whole(text: string | undefined, line: number): number {
  if (text === undefined || !/^\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new JobError(`iolog line ${line}: ${JSON.stringify(text ?? '')} is not a whole number`);
  }
  return Number(text);
}

/** Reads fio's own trace format, versions 2 (waits between requests) and 3 (each line timed, in microseconds). */
export function parseIolog(text: string): readonly Step[] {
  const lines = text.split(/\r?\n/);
  const version = /^fio version ([23]) iolog$/.exec(lines[0] ?? '')?.[1];
  if (version === undefined) throw new JobError('iolog line 1: "fio version 2 iolog" or "fio version 3 iolog" is read');
  const steps: Step[] = [];
  let atUs = 0;
  for (const [index, raw] of lines.entries()) {
    const line = raw.trim();
    if (index === 0 || line === '') continue;
    const fields = line.split(/\s+/);
    if (version === '3') atUs = whole(fields.shift(), index + 1);
    const kind = actions[fields[1] ?? ''];
    if (kind === undefined) throw new JobError(`iolog line ${index + 1}: unknown action ${JSON.stringify(fields[1] ?? '')}`);
    if (kind === 'file') continue;
    const first = whole(fields[2], index + 1);
    if (kind === 'wait') {
      if (first >= WAIT_US_MIN) atUs += first;
      continue;
    }
    const bytes = kind === 'sync' ? 0 : whole(fields[3], index + 1);
    steps.push({ kind, offset: kind === 'sync' ? 0 : first, bytes, notBeforeNs: atUs * 1000 });
  }
  return steps;
}

/** Writes version 3, as fio since 3.31, or version 2, which every fio reads. */
export class IologWriter {
  readonly #version: 2 | 3;
  readonly #file: string;
  readonly #write: (text: string) => void;
  #lastUs = 0;

  constructor(version: 2 | 3, file: string, write: (text: string) => void) {
    this.#version = version;
    this.#file = file;
    this.#write = write;
    write(`fio version ${version} iolog\n`);
    this.#line(0, 'add');
    this.#line(0, 'open');
  }

  io(kind: IoKind, offset: number, bytes: number, atNs: number): void {
    const us = Math.floor(atNs / 1000);
    if (this.#version === 2 && us - this.#lastUs >= WAIT_US_MIN) {
      this.#write(`${this.#file} wait ${us - this.#lastUs} 0\n`);
      this.#lastUs = us;
    }
    this.#line(us, `${kind} ${offset} ${bytes}`);
  }

  close(atNs: number): void {
    this.#line(Math.floor(atNs / 1000), 'close');
  }

  #line(us: number, rest: string): void {
    this.#write(this.#version === 3 ? `${us} ${this.#file} ${rest}\n` : `${this.#file} ${rest}\n`);
  }
}
