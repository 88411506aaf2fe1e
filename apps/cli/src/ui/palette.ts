import picocolors from 'picocolors';
import type { Output } from '../context.ts';

type Colors = ReturnType<typeof picocolors.createColors>;

/** Colours for a terminal that has them; none for a pipe, under NO_COLOR, or on a dumb terminal. */
export function palette(output: Output, env: Readonly<Partial<Record<string, string>>>): Colors {
  const wanted = output.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';
  return picocolors.createColors(wanted);
}
