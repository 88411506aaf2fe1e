import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { XS_TYPE, type XsTypeName } from '@paravirt/xen-abi';

export function recording(name: string): Buffer {
  return gunzipSync(readFileSync(new URL(`./recordings/${name}.gz`, import.meta.url)));
}

/** A line of a recorded trace: a request, or an answer or event. */
export interface TraceLine {
  readonly line: number;
  readonly out: boolean;
  readonly connection: string;
  readonly type: XsTypeName;
  /** As printed: each NUL is a space. */
  readonly shown: string;
}

export function parseTrace(text: string): TraceLine[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, i) => {
      const match = /^(IN|OUT) (0x[0-9a-f]+) \d{8} [\d:]{8} ([A-Z_]+) \((.*)\)$/.exec(line);
      if (match === null) throw new Error(`line ${i + 1} is no message: ${line}`);
      const [, way, connection, type, shown] = match as unknown as [string, string, string, XsTypeName, string];
      if (XS_TYPE[type] === undefined) throw new Error(`line ${i + 1} has an unknown type ${type}`);
      return { line: i + 1, out: way === 'OUT', connection, type, shown };
    });
}

/** A request's payload: NULs were printed as spaces, and a written value has none of its own. */
export function payloadOf({ type, shown }: TraceLine): string {
  return type === 'WRITE' ? shown.replace(' ', '\0') : shown.replaceAll(' ', '\0');
}
