import type { DomId } from '@paravirt/event-bus/contract';
import { XENBUS_STATE, type XenbusState } from '@paravirt/xen-abi';

/** The store as both ends need it. Any connection of this shape will do, hv-sim's among them. */
export interface Store {
  read(path: string): string | undefined;
  write(path: string, value: string): void;
  remove(path: string): void;
  watch(path: string, handler: () => void): { unsubscribe(): void };
}

/** The store as a toolstack has it. */
export interface ToolstackStore extends Pick<Store, 'read' | 'write'> {
  mkdir(path: string): void;
  setPermissions(path: string, permissions: readonly { readonly domid: DomId; readonly access: 'none' | 'read' }[]): void;
}

/** What the peer wrote at `path`; undefined where there is nothing, or nothing that this domain may see. */
export function readNode(store: Pick<Store, 'read'>, path: string): string | undefined {
  try {
    return store.read(path);
  } catch {
    return undefined;
  }
}

/** A decimal number of 32 bits; undefined for everything else that a peer can write. */
export function readUnsigned(store: Pick<Store, 'read'>, path: string): number | undefined {
  const text = readNode(store, path);
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value <= 0xffff_ffff ? value : undefined;
}

/** A device's state; a folder that is gone, or says nothing that is a state, counts as closed. */
export function readState(store: Pick<Store, 'read'>, folder: string): XenbusState {
  const value = readUnsigned(store, `${folder}/state`);
  return Object.values(XENBUS_STATE).find((state) => state === value) ?? XENBUS_STATE.Closed;
}

/** Makes both folders of a console, as a toolstack does before either end runs. Each end may write its own and read the other's. */
export function addConsole(
  store: ToolstackStore,
  { frontend, backend, device = 1 }: { readonly frontend: DomId; readonly backend: DomId; readonly device?: number },
): void {
  const front = `/local/domain/${frontend}/device/console/${device}`;
  const back = `/local/domain/${backend}/backend/console/${frontend}/${device}`;
  for (const [folder, owner, reader] of [
    [front, frontend, backend],
    [back, backend, frontend],
  ] as const) {
    store.mkdir(folder);
    store.setPermissions(folder, [
      { domid: owner, access: 'none' },
      { domid: reader, access: 'read' },
    ]);
  }
  store.write(`${front}/backend`, back);
  store.write(`${front}/backend-id`, String(backend));
  store.write(`${back}/frontend`, front);
  store.write(`${back}/frontend-id`, String(frontend));
  store.write(`${back}/state`, String(XENBUS_STATE.Initialising));
  store.write(`${front}/state`, String(XENBUS_STATE.Initialising));
}
