import type { DeviceReport, StoreNodeReport } from './types.ts';

/** The store's nodes by path, as `xenstore-ls -fp` prints them. */
export type StoreText = ReadonlyMap<string, string>;

/** A line is a path, a value in quotes, and with `-p` the permissions in brackets. Plain searches: a line may be hostile. */
function parseLine(line: string): StoreNodeReport | null {
  const equals = line.indexOf(' = "');
  if (equals <= 0 || line[0] !== '/' || line.slice(0, equals).includes(' ')) return null;
  let rest = line.slice(equals + 4).trimEnd();
  const perms = rest.endsWith(')') ? rest.lastIndexOf('(') : -1;
  const permsText = perms > 0 ? rest.slice(perms + 1, -1) : '';
  if (perms > 0) rest = rest.slice(0, perms).trimEnd();
  if (!rest.endsWith('"')) return null;
  return { path: line.slice(0, equals), value: rest.slice(0, -1), ...(permsText === '' ? {} : { perms: permsText.split(',') }) };
}

/** Parses a listing. `odd` gives the numbers of the lines that are none. */
export function parseStoreText(text: string): { nodes: StoreText; listed: StoreNodeReport[]; odd: number[] } {
  const nodes = new Map<string, string>();
  const listed: StoreNodeReport[] = [];
  const odd: number[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '') return;
    const node = parseLine(line);
    if (node) {
      nodes.set(node.path, node.value);
      listed.push(node);
    } else odd.push(i + 1);
  });
  return { nodes, listed, odd };
}

/** The guest: the one domain in the listing that has a `device` folder or a name and is no backend. */
export function guestDomid(nodes: StoreText): number | null {
  for (const pattern of [/^\/local\/domain\/(\d+)\/device\/vbd(?:\/|$)/, /^\/local\/domain\/([1-9]\d*)\//]) {
    for (const path of nodes.keys()) {
      const match = pattern.exec(path);
      if (match) return Number(match[1]);
    }
  }
  return null;
}

function keysBelow(nodes: StoreText, path: string): Record<string, string> {
  const keys: Record<string, string> = {};
  for (const [node, value] of nodes) if (node.startsWith(`${path}/`)) keys[node.slice(path.length + 1)] = value;
  return keys;
}

const stateOf = (keys: Readonly<Record<string, string>>): number | null => {
  const state = keys['state'];
  return state !== undefined && /^\d$/.test(state) ? Number(state) : null;
};

/** The guest's block devices, in order of their numbers. */
export function blockDevices(nodes: StoreText, domid: number): DeviceReport[] {
  const numbers = new Set<number>();
  const prefix = `/local/domain/${domid}/device/vbd/`;
  for (const path of nodes.keys()) {
    const number = path.startsWith(prefix) ? /^\d+/.exec(path.slice(prefix.length))?.[0] : undefined;
    if (number !== undefined) numbers.add(Number(number));
  }
  return [...numbers]
    .sort((a, b) => a - b)
    .map((vbd) => {
      const path = `${prefix}${vbd}`;
      const frontend = keysBelow(nodes, path);
      const backendPath = frontend['backend'] ?? `/local/domain/${frontend['backend-id'] ?? 0}/backend/vbd/${domid}/${vbd}`;
      const backend = keysBelow(nodes, backendPath);
      return {
        vbd,
        name: backend['dev'] ?? null,
        frontend: { path, state: stateOf(frontend), keys: frontend },
        backend: { path: backendPath, state: stateOf(backend), keys: backend },
      };
    });
}

/** How many queues a device's frontend announced. */
export function queueCount(device: DeviceReport): number {
  const count = Number(device.frontend.keys['multi-queue-num-queues'] ?? 1);
  return Number.isInteger(count) && count >= 1 && count <= 1024 ? count : 1;
}

/** The ring references of a queue, in the order of the pages; empty when the frontend wrote none. */
export function ringRefs(device: DeviceReport, queue: number): number[] {
  const { keys } = device.frontend;
  const prefix = keys[`queue-${queue}/ring-ref`] !== undefined || keys[`queue-${queue}/ring-ref0`] !== undefined ? `queue-${queue}/` : '';
  if (prefix === '' && queue > 0) return [];
  const single = keys[`${prefix}ring-ref`];
  if (single !== undefined) return /^\d+$/.test(single) ? [Number(single)] : [];
  const refs: number[] = [];
  for (let page = 0; page < 16; page++) {
    const ref = keys[`${prefix}ring-ref${page}`];
    if (ref === undefined || !/^\d+$/.test(ref)) break;
    refs.push(Number(ref));
  }
  return refs;
}
