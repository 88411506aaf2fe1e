import { isConfigurable } from './load.ts';
import type { HvsimConfig } from './schema.ts';

const kebab = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** Whether the command line gives a flag itself: `--name`, `--name=x`, `--no-name`, or the name in camel case. */
function given(args: readonly string[], key: string): boolean {
  const names = [kebab(key), key].flatMap((name) => [`--${name}`, `--no-${name}`]);
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? undefined : end).some((arg) => names.includes(arg.split('=')[0] as string));
}

/** Adds a command's flags from the configuration where the command line does not give them. */
export function applyConfig(argv: readonly string[], config: HvsimConfig): string[] {
  const [command, ...args] = argv;
  if (!isConfigurable(command)) return [...argv];
  const added: string[] = [];
  const flags: Record<string, unknown> = { ...config[command] };
  if (command === 'run' || command === 'serve') flags['plugin'] ??= config.plugin;
  for (const [key, value] of Object.entries(flags)) {
    if (value === undefined || given(args, key)) continue;
    if (typeof value === 'boolean') added.push(value ? `--${kebab(key)}` : `--no-${kebab(key)}`);
    else for (const each of Array.isArray(value) ? value : [value]) added.push(`--${kebab(key)}`, String(each));
  }
  return [command, ...added, ...args];
}
