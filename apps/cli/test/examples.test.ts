import { type Command, run } from '@stricli/core';
import { describe, expect, it } from 'vitest';
import { app } from '../src/app.ts';
import type { CliContext } from '../src/context.ts';

type Entry = { readonly name: { readonly original: string }; readonly target: Command<CliContext>; readonly hidden: boolean };
const commands = (app.root as unknown as { getAllEntries(): readonly Entry[] }).getAllEntries().filter(({ hidden }) => !hidden);

async function told(target: Command<CliContext>, args: readonly string[]): Promise<{ code: unknown; text: string }> {
  let text = '';
  const output = {
    write(more: string) {
      text += more;
    },
  };
  const context: CliContext = { process: { stdout: output, stderr: output, env: {}, exitCode: null } };
  await run({ ...app, root: target }, args, context);
  return { code: context.process.exitCode, text };
}

/** The words after `hvsim VERB`, up to where the shell does something else. */
function words(line: string): string[] {
  const found = [...line.matchAll(/'([^']*)'|"([^"]*)"|[|>#)].*|[^\s|>#)]+/g)].map((match) => match[1] ?? match[2] ?? match[0]);
  const end = found.findIndex((word) => /^[|>#)]/.test(word));
  return found.slice(0, end < 0 ? undefined : end);
}

describe('the examples in the help', () => {
  it.each(commands.map(({ name, target }) => [name.original, target] as const))('of %s are taken by the command', async (verb, target) => {
    const { text } = await told(target, ['--help']);
    const pattern = new RegExp(`^ +(?:source <\\()?hvsim ${verb}\\b(.*)$`, 'gm');
    const examples = [...text.slice(text.indexOf('EXAMPLES')).matchAll(pattern)].map((match) => match[1] as string);
    expect(examples.length).toBeGreaterThan(0);
    const checked: Command<CliContext> = { ...target, loader: async () => () => {} };
    for (const line of examples) expect(await told(checked, words(line)), line).toEqual({ code: 0, text: '' });
  });
});
