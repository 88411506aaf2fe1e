import { buildCommand, type Command } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { CliError, exitCodes } from '../errors.ts';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

export const completionCommand: Command<CliContext> = buildCommand<Record<never, never>, [Shell], CliContext>({
  loader: async () => (await import('./completion-run.ts')).completion,
  parameters: {
    flags: {},
    positional: {
      kind: 'tuple',
      parameters: [
        {
          brief: 'bash, zsh or fish',
          placeholder: 'shell',
          proposeCompletions: (partial: string) => shells.filter((each) => each.startsWith(partial)),
          parse(text: string): Shell {
            const shell = shells.find((each) => each === text);
            if (!shell) throw new CliError(`shell is ${JSON.stringify(text)}; allowed is ${shells.join(', ')}`, exitCodes.usage);
            return shell;
          },
        },
      ],
    },
  },
  docs: {
    brief: 'Print the completion script of a shell',
    fullDescription: [
      'EXAMPLES',
      '  source <(hvsim completion bash)',
      '  hvsim completion zsh > ~/.zfunc/_hvsim    # a folder of $fpath',
      '  hvsim completion fish > ~/.config/fish/completions/hvsim.fish',
    ].join('\n'),
  },
});

/** What the scripts call: the words so far, the last of them unfinished. */
export const proposeCommand: Command<CliContext> = buildCommand<Record<never, never>, string[], CliContext>({
  loader: async () => (await import('./completion-run.ts')).propose,
  parameters: { flags: {}, positional: { kind: 'array', parameter: { brief: 'words', parse: String, placeholder: 'word' } } },
  docs: { brief: 'Propose completions of a command line' },
});
