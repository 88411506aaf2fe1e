import { decodeStruct, recentXsMessages, XENSTORE, XENSTORE_DOMAIN_INTERFACE, xsTypeName } from '@paravirt/xen-abi';
import type { CaptureFiles } from './files.ts';
import type { GrantTable } from './grant-table.ts';
import type { Report } from './problems.ts';
import type { StoreText } from './store-text.ts';
import type { StoreMessageReport, StoreRingReport } from './types.ts';

const FILE = 'xenstore-ring.bin';
/** The toolstack writes the store's page into entry 1 and the console's into entry 0. */
const STORE_REF = 1;
const CONSOLE_REF = 0;

function messages(window: Uint8Array, prod: number): StoreMessageReport[] {
  return recentXsMessages(window, prod).map(({ streamOffset, type, reqId, txId, payload }) => ({
    streamOffset,
    type,
    typeName: xsTypeName(type) ?? `unknown_${type}`,
    reqId,
    txId,
    payload: new TextDecoder().decode(payload),
  }));
}

/** The guest's store page: its indices, and the messages that are whole in it. */
export function decodeStorePage(files: CaptureFiles, report: Report): StoreRingReport | null {
  if (!files.has(FILE)) return null;
  const bytes = files.pages(FILE, "the store's page", 1, 1);
  if (!bytes) return null;
  const page = decodeStruct(XENSTORE_DOMAIN_INTERFACE, 'x86_64', bytes);
  const directions = [
    ['requests', page.req_prod, page.req_cons, page.req],
    ['responses', page.rsp_prod, page.rsp_cons, page.rsp],
  ] as const;
  for (const [name, prod, cons, window] of directions) {
    const held = (prod - cons) >>> 0;
    if (held > XENSTORE.RING_SIZE)
      report(FILE, 'index', `${name}: ${held} bytes unread between ${cons} and ${prod}; the ring has ${XENSTORE.RING_SIZE}`);
    if (prod > 0 && recentXsMessages(window, prod).length === 0 && window.some((byte) => byte !== 0)) {
      report(FILE, 'message', `${name}: no store message in the bytes before ${prod}`);
    }
  }
  if (page.connection > XENSTORE.RECONNECT) report(FILE, 'message', `connection is ${page.connection}, which means nothing`);
  if (page.error > XENSTORE.ERROR_PROTO) report(FILE, 'message', `error is ${page.error}, which means nothing`);
  return {
    file: FILE,
    ref: STORE_REF,
    reqCons: page.req_cons,
    reqProd: page.req_prod,
    rspCons: page.rsp_cons,
    rspProd: page.rsp_prod,
    serverFeatures: page.server_features,
    connection: page.connection,
    error: page.error,
    requests: messages(page.req, page.req_prod),
    responses: messages(page.rsp, page.rsp_prod),
  };
}

/** The store names the frames of the console's and the store's page; the toolstack's entries grant the same ones. */
export function checkReservedPages(nodes: StoreText, domid: number, table: GrantTable, report: Report): void {
  const pages: [string, number][] = [
    ['store', STORE_REF],
    ['console', CONSOLE_REF],
  ];
  for (const [name, ref] of pages) {
    const value = nodes.get(`/local/domain/${domid}/${name}/ring-ref`);
    const entry = table.entry(ref);
    if (value === undefined || !entry?.nonZero) continue;
    if (!/^\d+$/.test(value)) report('xenstore-ls.txt', 'store', `${name}/ring-ref is "${value}", not a frame number`);
    else if (BigInt(value) !== entry.frame) {
      const frame = `0x${entry.frame.toString(16)}`;
      report('xenstore-ls.txt', 'ring-ref', `${name}/ring-ref is frame 0x${BigInt(value).toString(16)}, entry ${ref} grants ${frame}`);
    }
  }
}
