import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

const folder = new URL('./captures/', import.meta.url);

export const readCapture = (path: string): Uint8Array => new Uint8Array(gunzipSync(readFileSync(new URL(`${path}.gz`, folder))));

export interface ExpectedRequest {
  index: number;
  slot: number;
  operation: number;
  operationName: string;
  nrSegments: number;
  handle: number;
  id: number;
  sectorNumber: string;
  segments?: { gref: number; firstSect: number; lastSect: number }[];
  indirectOp?: number;
  indirectOpName?: string;
  indirectGrefs?: number[];
  indirectFile?: string;
  superseded?: true;
}

export interface ExpectedCapture {
  grantEntryCounts: { nonZero: number; valid: number };
  grantEntries: {
    ref: number;
    flags: number;
    type: string;
    readonly: boolean;
    reading: boolean;
    writing: boolean;
    domid: number;
    frame: string;
  }[];
  rings: {
    refs: number[];
    frames: string[];
    slots: number;
    reqProd: number;
    reqEvent: number;
    rspProd: number;
    rspEvent: number;
    unanswered: number;
    requests: ExpectedRequest[];
    responses: { index: number; slot: number; id: number; operation: number; operationName: string; status: number }[];
  }[];
  hidden?: { index: number; slot: number; residualSector: string; residualGrefs: number[] };
  xenstoreRing?: {
    reqCons: number;
    reqProd: number;
    rspCons: number;
    rspProd: number;
    serverFeatures: number;
    connection: number;
    error: number;
    requests: unknown[];
    responses: unknown[];
  };
}

export const expectedCaptures: Record<string, ExpectedCapture> = (
  JSON.parse(new TextDecoder().decode(readCapture('expected.json'))) as { captures: Record<string, ExpectedCapture> }
).captures;
