import { proposeCompletions } from '@stricli/core';
import type { CliContext } from '../context.ts';
import type { Shell } from './completion.ts';

const scripts: Readonly<Record<Shell, string>> = {
  bash: `_hvsim() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(hvsim __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _hvsim hvsim
`,
  zsh: `#compdef hvsim
_hvsim() {
  local -a found
  found=("\${(@f)$(hvsim __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found || _files
}
compdef _hvsim hvsim
`,
  fish: `function __hvsim_complete
  set -l words (commandline -opc) (commandline -ct)
  hvsim __complete -- $words[2..-1] 2>/dev/null
end
complete -c hvsim -a '(__hvsim_complete)'
`,
};

/** `hvsim completion SHELL` */
export function completion(this: CliContext, _flags: Record<never, never>, shell: Shell): void {
  this.process.stdout.write(scripts[shell]);
}

/** `hvsim __complete -- WORDS` */
export async function propose(this: CliContext, _flags: Record<never, never>, ...words: string[]): Promise<void> {
  const { app } = await import('../app.ts');
  const found = await proposeCompletions(app, words, this);
  const last = words.at(-1) ?? '';
  for (const { completion: word } of found) if (word.startsWith(last) && word !== '__complete') this.process.stdout.write(`${word}\n`);
}
