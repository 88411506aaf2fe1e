import type { CliContext } from '../context.ts';
import { decodeCapture } from '../decode/decode.ts';
import { printReport, problemLine } from '../decode/print.ts';
import { exitCodes } from '../errors.ts';
import { palette } from '../ui/palette.ts';
import type { DecodeFlags } from './decode.ts';

/** Rows of a table that a person reads. */
const ROWS_MAX = 40;

/** `hvsim decode DIR` */
export function decode(this: CliContext, flags: DecodeFlags, dir: string): void {
  const { stdout, stderr, env } = this.process;
  const report = decodeCapture(dir);
  if (flags.json) stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    const { bold, dim, yellow } = palette(stdout, env);
    const lines = printReport(report, {
      rows: flags.all ? Number.POSITIVE_INFINITY : ROWS_MAX,
      marks: { heading: bold, dim, warn: yellow },
    });
    stdout.write(`${lines.join('\n')}\n`);
  }
  for (const problem of report.problems) stderr.write(`hvsim: ${problemLine(problem)}\n`);
  const unreadable = report.problems.some(({ kind }) => kind === 'unreadable');
  this.process.exitCode = unreadable ? exitCodes.usage : report.problems.length > 0 ? exitCodes.failed : exitCodes.ok;
}
