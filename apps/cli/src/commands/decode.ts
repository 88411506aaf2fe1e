import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';

export interface DecodeFlags {
  readonly json: boolean;
  readonly all: boolean;
}

export const decodeCommand: Command<CliContext> = buildCommand<DecodeFlags, [string], CliContext>({
  loader: async () => (await import('./decode-run.ts')).decode,
  parameters: {
    flags: {
      json: { kind: 'boolean', brief: 'Print one JSON object with everything', default: false },
      all: { kind: 'boolean', brief: 'Print every row of long tables', default: false },
    },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'A capture: a folder of one moment, of one guest, or of several guests', parse: String, placeholder: 'dir' }],
    },
  },
  docs: {
    brief: 'Read memory, store and hypervisor dumps of a real Xen host',
    fullDescription: [
      "Reads grant frames, block rings, pages of segments, the store page and listing, handshake traces and the hypervisor's",
      'grant dump, and tells what is granted, what is in flight, what is stale, and what does not fit together (on stderr).',
      '',
      'FILES  grant-frame-N.bin status-frame-N.bin ring.bin vbd-D-queue-Q.bin indirect-ref-G.bin data-ref-G.bin',
      '       xenstore-ring.bin xenstore-ls.txt gnttab-debugkey.txt handshake-NAME.trace.txt; none of them is required, and each may be a .gz',
      '',
      'EXAMPLES',
      '  hvsim decode captures/guest-a/inflight',
      '  hvsim decode captures --json | jq ".captures[].rings[].requests[] | select(.superseded | not)"',
      '',
      'EXIT CODES  0 everything fits together; 1 something does not; 2 a file or folder could not be read.',
    ].join('\n'),
  },
});
