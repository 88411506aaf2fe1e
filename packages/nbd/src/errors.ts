/** Why a server could not be made or a name not be served. */
export type NbdRefusal =
  | { code: 'bad-export'; argument: string; value: string | number; allowed: string }
  | { code: 'duplicate-export'; name: string }
  | { code: 'bad-limit'; argument: string; value: number; allowed: string }
  | { code: 'not-loopback'; host: string }
  | { code: 'path-too-long'; path: string; bytes: number; bytesMax: number };

const words: { readonly [Code in NbdRefusal['code']]: (refusal: Extract<NbdRefusal, { code: Code }>) => string } = {
  'bad-export': ({ argument, value, allowed }) => `${argument} is ${JSON.stringify(value)}; allowed is ${allowed}`,
  'duplicate-export': ({ name }) => `two exports are named ${JSON.stringify(name)}`,
  'bad-limit': ({ argument, value, allowed }) => `limit ${argument} is ${value}; allowed is ${allowed}`,
  'not-loopback': ({ host }) => `host ${JSON.stringify(host)} is not loopback; pass allowRemote to listen there`,
  'path-too-long': ({ path, bytes, bytesMax }) =>
    `path ${JSON.stringify(path)} has ${bytes} bytes; a Unix socket's has ${bytesMax} at most, so name it from a folder near by`,
};

/** Thrown where a server or target is made wrongly; `refusal` says what, as data. Clients never cause one: theirs are the protocol's. */
export class NbdError extends Error {
  override readonly name = 'NbdError';
  readonly refusal: NbdRefusal;
  constructor(refusal: NbdRefusal, options?: ErrorOptions) {
    super((words[refusal.code] as (refusal: NbdRefusal) => string)(refusal), options);
    this.refusal = refusal;
  }
}
