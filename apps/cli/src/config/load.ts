import { existsSync, readFileSync } from 'node:fs';
import { extname, join, resolve } from 'node:path';
import { CliError, exitCodes, systemReason } from '../errors.ts';
import type { HvsimConfig } from './schema.ts';

const names = ['hvsim.config.ts', 'hvsim.config.js', 'hvsim.config.json'];

type Configurable = 'cp' | 'demo' | 'run' | 'serve';

const configurables: readonly (string | undefined)[] = ['cp', 'demo', 'run', 'serve'] satisfies Configurable[];

/** Whether a configuration file may hold flags of the command. */
export const isConfigurable = (command: string | undefined): command is Configurable => configurables.includes(command);

/** The configuration file of a folder, if it has one. */
export function findConfig(folder: string): string | undefined {
  return names.map((name) => join(folder, name)).find((path) => existsSync(path));
}

async function content(path: string): Promise<unknown> {
  try {
    if (extname(path) === '.json') return JSON.parse(readFileSync(path, 'utf8'));
    // Node 20 loads no TypeScript; jiti does, and takes JavaScript of either kind too.
    const { createJiti } = await import('jiti');
    return await createJiti(import.meta.url).import(resolve(path), { default: true });
  } catch (error) {
    throw new CliError(`${path}: ${systemReason(error).split('\n')[0]}`, exitCodes.usage, { cause: error });
  }
}

/** Reads and checks a configuration file. @throws {CliError} naming the file, the key, and what is allowed. */
export async function loadConfig(path: string): Promise<HvsimConfig> {
  const [{ configSchema }, { getDotPath, safeParse }] = await Promise.all([import('./schema.ts'), import('valibot')]);
  const { success, output, issues } = safeParse(configSchema, await content(path));
  if (success) return output;
  const [issue] = issues;
  const key = getDotPath(issue) ?? '(the whole file)';
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    throw new CliError(`${path}: ${key} is no key that hvsim knows`, exitCodes.usage);
  }
  throw new CliError(`${path}: ${key} is ${issue.received}; allowed is ${issue.expected ?? issue.message}`, exitCodes.usage);
}
