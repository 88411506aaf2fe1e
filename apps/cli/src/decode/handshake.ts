import type { CaptureFiles } from './files.ts';
import type { Report } from './problems.ts';
import type { HandshakeEvent, HandshakeParty, HandshakeReport } from './types.ts';

interface Message {
  readonly incoming: boolean;
  readonly connection: string;
  readonly time: string;
  readonly type: string;
  readonly payload: string;
}

const HEAD = /^(IN|OUT) (\S{1,32}) (\S{1,16}) (\d\d:\d\d:\d\d) ([A-Z_]{1,32}) \(/;
const CHANGES: ReadonlySet<string> = new Set(['WRITE', 'MKDIR', 'RM', 'SET_PERMS']);

function parse(text: string): { messages: Message[]; odd: number[] } {
  const messages: Message[] = [];
  const odd: number[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '') return;
    const match = HEAD.exec(line);
    const end = line.trimEnd();
    if (match && end.endsWith(')')) {
      const payload = end.slice(match[0].length, -1);
      messages.push({ incoming: match[1] === 'IN', connection: match[2]!, time: match[4]!, type: match[5]!, payload });
    } else odd.push(i + 1);
  });
  return { messages, odd };
}

/** The two folders of the device, as the trace names them by their whole paths. */
interface Ends {
  readonly frontend: number | null;
  readonly backend: number;
}

/** The pair of domains that the trace names most often: other guests' devices may be mentioned too. */
function endsOf(messages: readonly Message[]): Ends {
  const pairs = new Map<string, { ends: Ends; count: number }>();
  for (const { payload } of messages) {
    const whole = /\/local\/domain\/(\d+)\/backend\/(?:vbd|qdisk)\/(\d+)(?:\/| |$)/.exec(payload);
    const part = whole ? null : (/\/local\/domain\/(\d+)\/device\/vbd/.exec(payload) ?? /^backend\/(?:vbd|qdisk)\/(\d+)/.exec(payload));
    if (!whole && !part) continue;
    const ends = whole ? { backend: Number(whole[1]), frontend: Number(whole[2]) } : { backend: 0, frontend: Number(part![1]) };
    const key = `${ends.backend} ${ends.frontend}`;
    pairs.set(key, { ends, count: (pairs.get(key)?.count ?? 0) + (whole ? 2 : 1) });
  }
  const likeliest = [...pairs.values()].sort((a, b) => b.count - a.count)[0];
  return likeliest?.ends ?? { frontend: null, backend: 0 };
}

/** A path is relative to the home of the domain that speaks: only the frontend has a `device` folder, only the backend a `backend`. */
function absolute(path: string, ends: Ends): string {
  if (path.startsWith('/')) return path;
  const home = /^(device|data|control|attr|memory|cpu|store|console)(\/|$)/.test(path) ? ends.frontend : ends.backend;
  return `/local/domain/${home ?? 0}/${path}`;
}

function concerns(path: string, { frontend, backend }: Ends): boolean {
  const folders = [
    `/local/domain/${frontend}/device/vbd`,
    `/local/domain/${backend}/backend/vbd`,
    `/local/domain/${backend}/backend/qdisk`,
  ];
  return folders.some((folder) => {
    if (path === folder) return true;
    if (!path.startsWith(`${folder}/`)) return false;
    return folder.includes('/device/') || path.slice(folder.length + 1).split('/')[0] === String(frontend);
  });
}

/** Who a connection is, by what it alone writes. */
function partyByWrites(messages: readonly Message[], ends: Ends): Map<string, HandshakeParty> {
  const parties = new Map<string, HandshakeParty>();
  const front = `/local/domain/${ends.frontend}/device/vbd/`;
  for (const { incoming, connection, type, payload } of messages) {
    if (!incoming || type !== 'WRITE' || parties.has(connection)) continue;
    const written = payload.split(' ')[0]!;
    const path = absolute(written, ends);
    if (!concerns(path, ends)) continue;
    const key = path.split('/').at(-1)!;
    const relative = !written.startsWith('/');
    if (path.startsWith(front)) {
      // A driver names its keys by its own folder; the toolstack writes whole paths, and never a ring.
      if (relative || /^(ring-ref\d*|ring-page-order|event-channel|multi-queue-num-queues)$/.test(key)) parties.set(connection, 'frontend');
    } else if (/^(physical-device|physical-device-path|hotplug-status|hotplug-error|node)$/.test(key))
      parties.set(connection, 'hotplug-script');
    else if (
      relative ||
      /^(feature-|discard-(granularity|alignment|secure)|sectors$|sector-size|max-ring-page-order|multi-queue-max-queues)/.test(key)
    ) {
      parties.set(connection, 'backend');
    }
  }
  return parties;
}

function eventOf(message: Message, path: string, by: HandshakeParty, inTransaction: boolean): HandshakeEvent {
  const { time, type: op, payload } = message;
  // Each NUL of the wire is shown as a space, so a value that ends in spaces cannot be told from one that does not.
  const rest = payload.includes(' ') ? payload.slice(payload.indexOf(' ') + 1).trimEnd() : '';
  if (op === 'WRITE') return { time, by, op, path, value: rest, inTransaction };
  if (op === 'SET_PERMS') return { time, by, op, path, perms: rest.split(' ').filter(Boolean), inTransaction };
  return { time, by, op, path, inTransaction };
}

function eventsOf(messages: readonly Message[], ends: Ends, parties: ReadonlyMap<string, HandshakeParty>): HandshakeEvent[] {
  const open = new Map<string, number>();
  const events: HandshakeEvent[] = [];
  for (const message of messages) {
    const { incoming, connection, type, payload } = message;
    const count = open.get(connection) ?? 0;
    if (type === 'TRANSACTION_START' && !incoming) open.set(connection, count + 1);
    else if (type === 'TRANSACTION_END' && incoming) open.set(connection, Math.max(0, count - 1));
    else if (incoming && CHANGES.has(type)) {
      const path = absolute(payload.split(' ')[0]!, ends).replace(/(.)\/$/, '$1');
      if (concerns(path, ends)) events.push(eventOf(message, path, parties.get(connection) ?? 'toolstack', count > 0));
    }
  }
  return events;
}

/** Reads the traces of one guest. A driver keeps its connection from one trace to the next. */
export function decodeHandshakes(
  files: CaptureFiles,
  traces: readonly (readonly [file: string, name: string])[],
  report: Report,
): [name: string, HandshakeReport][] {
  const read = traces.flatMap(([file, name]) => {
    const text = files.text(file);
    if (text === null) return [];
    const { messages, odd } = parse(text);
    if (messages.length === 0) {
      report(
        file,
        'trace',
        `no line is a store message${odd.length > 0 ? ` (line ${odd[0]} is the first of ${odd.length} others)` : ': empty'}`,
      );
      return [];
    }
    if (odd.length > 0) report(file, 'trace', `${odd.length} lines are no store messages, the first is line ${odd[0]}`);
    const ends = endsOf(messages);
    return [{ file, name, messages, ends, parties: partyByWrites(messages, ends) }];
  });
  const kernels = new Map<string, HandshakeParty>();
  for (const { parties } of read) {
    for (const [connection, party] of parties) if (party === 'backend' || party === 'frontend') kernels.set(connection, party);
  }
  return read.map(({ file, name, messages, ends, parties }) => {
    const all = new Map([...kernels, ...parties]);
    const spoke = new Set(messages.map(({ connection }) => connection));
    const holder = (party: HandshakeParty): string | null =>
      [...all].find(([connection, who]) => who === party && spoke.has(connection))?.[0] ?? null;
    const connections = { backendKernel: holder('backend'), frontendKernel: holder('frontend') };
    return [name, { file, frontendDomid: ends.frontend, connections, events: eventsOf(messages, ends, all) }];
  });
}
