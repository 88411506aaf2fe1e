import { JobError } from './errors.ts';
import { parseIolog } from './iolog.ts';
import type { Step } from './source.ts';
import type { IoKind } from './target.ts';

export type TraceFormat = 'iolog' | 'blkparse' | 'blktrace' | 'msr' | 'alibaba' | 'tencent' | 'spc';

const SECTOR = 512;

/** A request as a trace has it: time in nanoseconds on the trace's own clock. */
interface Traced {
  readonly atNs: number;
  readonly kind: IoKind;
  readonly offset: number;
  readonly bytes: number;
}

function number(text: string | undefined, format: string, line: number): number {
  const value = Number(text);
  if (text === undefined || text.trim() === '' || !Number.isFinite(value) || value < 0) {
    throw new JobError(`${format} trace line ${line}: ${JSON.stringify(text ?? '')} is not a number`);
  }
  return value;
}

/** From the trace's own clock to time since its first request; requests in order of time. */
function fromStart(requests: readonly Traced[]): readonly Step[] {
  const sorted = requests.map((each, index) => ({ each, index })).sort((a, b) => a.each.atNs - b.each.atNs || a.index - b.index);
  const first = sorted[0]?.each.atNs ?? 0;
  return sorted.map(({ each: { kind, offset, bytes, atNs } }) => ({ kind, offset, bytes, notBeforeNs: atNs - first }));
}

/** What RWBS letters ask for. A flush with data is the data's write. */
function kindOfRwbs(rwbs: string, sectors: number): IoKind | undefined {
  if (rwbs.includes('D')) return 'trim';
  if (rwbs.includes('W')) return sectors > 0 ? 'write' : 'sync';
  if (rwbs.includes('R')) return 'read';
  return rwbs.includes('F') ? 'sync' : undefined;
}

/**
 * blkparse's default text. What the device completed counts (`C`): its requests are whole, merges and splits are over. A request is
 * issued when it was sent to the device (`D`) where that is known, else when it was queued.
 */
function parseBlkparse(text: string): readonly Traced[] {
  const requests: Traced[] = [];
  const issued = new Map<string, number>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^CPU\d+ \(/.test(line)) break;
    const fields = /^\s*\d+,\d+\s+\d+\s+\d+\s+(\d+)\.(\d{9})\s+\d+\s+([A-Z])\s+([A-Z]+)(?:\s+(\d+)(?:\s+\+\s+(\d+))?)?/.exec(line);
    if (!fields) {
      if (line.trim() === '' || requests.length > 0 || issued.size > 0 || index > 0) continue;
      throw new JobError('blkparse trace line 1: not a line of blkparse');
    }
    const [, seconds, nanos, action, rwbs, sector, count] = fields as unknown as [string, string, string, string, string, string?, string?];
    const atNs = Number(seconds) * 1e9 + Number(nanos);
    const sectors = Number(count ?? 0);
    const key = `${sector ?? 0}:${rwbs.replace(/[^RWDF]/g, '')}`;
    if (action === 'D' || (action === 'Q' && !issued.has(key))) issued.set(key, atNs);
    if (action !== 'C') continue;
    const kind = kindOfRwbs(rwbs, sectors);
    if (kind === undefined) continue;
    requests.push({
      atNs: issued.get(key) ?? atNs,
      kind,
      offset: kind === 'sync' ? 0 : Number(sector ?? 0) * SECTOR,
      bytes: sectors * SECTOR,
    });
    issued.delete(key);
  }
  return requests;
}

const EVENT_COMPLETED = 8;
const EVENT_ISSUED = 7;
const CATEGORY = { write: 0x2, flush: 0x4, notify: 0x400, discard: 0x2000, read: 0x1, pc: 0x200 } as const;

/** blktrace's binary records, of one processor or of several files one behind the other; either byte order. */
function parseBlktrace(bytes: Uint8Array): readonly Traced[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const requests: Traced[] = [];
  const issued = new Map<string, number>();
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 48) throw new JobError(`blktrace: the record at byte ${at} is cut off`);
    const little = view.getUint32(at, true) >>> 8 === 0x656174;
    if (!little && view.getUint32(at, false) >>> 8 !== 0x656174) throw new JobError(`blktrace: no record at byte ${at}`);
    const atNs = Number(view.getBigUint64(at + 8, little));
    const sector = Number(view.getBigUint64(at + 16, little));
    const length = view.getUint32(at + 24, little);
    const action = view.getUint32(at + 28, little);
    at += 48 + view.getUint16(at + 46, little);
    const event = action & 0xffff;
    const category = action >>> 16;
    if ((category & (CATEGORY.notify | CATEGORY.pc)) !== 0) continue;
    const key = `${sector}:${category & (CATEGORY.write | CATEGORY.discard | CATEGORY.flush)}`;
    if (event === EVENT_ISSUED) issued.set(key, atNs);
    if (event !== EVENT_COMPLETED) continue;
    const discard = (category & CATEGORY.discard) !== 0;
    const write = (category & CATEGORY.write) !== 0;
    const kind: IoKind = discard ? 'trim' : length === 0 ? 'sync' : write ? 'write' : 'read';
    requests.push({ atNs: issued.get(key) ?? atNs, kind, offset: kind === 'sync' ? 0 : sector * SECTOR, bytes: length });
    issued.delete(key);
  }
  return requests;
}

type Row = (fields: readonly string[], line: number) => Omit<Traced, 'atNs'>;

function isRead(format: string, text: string | undefined, read: readonly string[], write: readonly string[], line: number): boolean {
  const value = (text ?? '').trim().toLowerCase();
  if (read.includes(value)) return true;
  if (write.includes(value)) return false;
  throw new JobError(`${format} trace line ${line}: ${JSON.stringify(text ?? '')} is neither a read nor a write`);
}

const rows: Readonly<
  Record<
    'msr' | 'alibaba' | 'tencent' | 'spc',
    { readonly columns: number; readonly time: number; readonly unitNs: number; readonly row: Row }
  >
> = {
  /** Timestamp (100 ns ticks), Hostname, DiskNumber, Type, Offset, Size, ResponseTime. */
  msr: {
    columns: 7,
    time: 0,
    unitNs: 100,
    row: (fields, line) => ({
      kind: isRead('MSR', fields[3], ['read', 'r'], ['write', 'w'], line) ? 'read' : 'write',
      offset: number(fields[4], 'MSR', line),
      bytes: number(fields[5], 'MSR', line),
    }),
  },
  /** device_id, opcode, offset, length, timestamp (microseconds). */
  alibaba: {
    columns: 5,
    time: 4,
    unitNs: 1000,
    row: (fields, line) => ({
      kind: isRead('Alibaba', fields[1], ['r'], ['w'], line) ? 'read' : 'write',
      offset: number(fields[2], 'Alibaba', line),
      bytes: number(fields[3], 'Alibaba', line),
    }),
  },
  /** Timestamp (seconds), Offset and Size (sectors), IOType (0 read, 1 write), VolumeID. */
  tencent: {
    columns: 5,
    time: 0,
    unitNs: 1e9,
    row: (fields, line) => ({
      kind: isRead('Tencent', fields[3], ['0'], ['1'], line) ? 'read' : 'write',
      offset: number(fields[1], 'Tencent', line) * SECTOR,
      bytes: number(fields[2], 'Tencent', line) * SECTOR,
    }),
  },
  /** ASU, LBA (sectors), Size (bytes), Opcode, Timestamp (seconds). */
  spc: {
    columns: 5,
    time: 4,
    unitNs: 1e9,
    row: (fields, line) => ({
      kind: isRead('SPC', fields[3], ['r'], ['w'], line) ? 'read' : 'write',
      offset: number(fields[1], 'SPC', line) * SECTOR,
      bytes: number(fields[2], 'SPC', line),
    }),
  },
};

/** Time since the first row, in the trace's unit. Ticks since 1601 do not fit a double, so the difference is taken before. */
function since(first: string, at: string): number {
  const whole = /^\d+$/;
  return whole.test(first) && whole.test(at) ? Number(BigInt(at) - BigInt(first)) : Number(at) - Number(first);
}

function parseCsv(format: keyof typeof rows, text: string): readonly Traced[] {
  const { columns, row, time, unitNs } = rows[format];
  const requests: Traced[] = [];
  let first: string | undefined;
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue;
    const fields = line.split(',');
    if (fields.length < columns) throw new JobError(`${format} trace line ${index + 1}: ${fields.length} columns, ${columns} wanted`);
    // A header line has letters where a number belongs.
    if (index === 0 && fields.every((field) => !/^\s*\d/.test(field))) continue;
    const at = (fields[time] as string).trim();
    number(at, format, index + 1);
    first ??= at;
    requests.push({ atNs: since(first, at) * unitNs, ...row(fields, index + 1) });
  }
  return requests;
}

/** Which format the bytes look like; the four CSV forms differ in where the letters stand. */
export function detectTrace(bytes: Uint8Array): TraceFormat {
  const head = new TextDecoder('latin1').decode(bytes.subarray(0, 4096));
  if (head.startsWith('fio version ')) return 'iolog';
  const magic = bytes.length >= 4 ? new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true) : 0;
  if (magic >>> 8 === 0x656174 || (bytes[0] === 0x65 && bytes[1] === 0x61 && bytes[2] === 0x74)) return 'blktrace';
  const line = head.split(/\r?\n/).find((each) => /\d/.test(each)) ?? '';
  if (/^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}/.test(line)) return 'blkparse';
  const fields = line.split(',').map((field) => field.trim());
  if (fields.length >= 7 && /^(read|write)$/i.test(fields[3] ?? '')) return 'msr';
  if (fields.length >= 5 && /^[rw]$/i.test(fields[1] ?? '')) return 'alibaba';
  if (fields.length >= 5 && /^[rw]$/i.test(fields[3] ?? '')) return 'spc';
  if (fields.length >= 5 && /^[01]$/.test(fields[3] ?? '')) return 'tencent';
  throw new JobError('this is no trace that is known: fio iolog 2 or 3, blkparse text, blktrace binary, MSR, Alibaba, Tencent or SPC CSV');
}

/** Reads a trace of any known format into requests that can be replayed. @throws {JobError} naming the line. */
export function parseTrace(bytes: Uint8Array, format: TraceFormat = detectTrace(bytes)): readonly Step[] {
  if (format === 'blktrace') return fromStart(parseBlktrace(bytes));
  const text = new TextDecoder().decode(bytes);
  if (format === 'iolog') return parseIolog(text);
  if (format === 'blkparse') return fromStart(parseBlkparse(text));
  return fromStart(parseCsv(format, text));
}
