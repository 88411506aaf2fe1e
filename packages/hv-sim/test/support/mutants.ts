import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCES = join(HERE, '../../src');
const MUTANTS = join(HERE, '../.mutants');

/** The public surface of the package, whichever copy of it. */
export type HvSim = typeof import('../../src/index.ts');

/** One guard of the sources and what stands there without it. */
export interface Mutation {
  /** Below `src/`. */
  readonly file: string;
  /**
   * Pairs of text: each must stand in the file, or in the third, exactly once, so that a guard that moves or goes is noticed.
   */
  readonly edits: readonly (readonly [guard: string, without: string, file?: string])[];
}

/**
 * Loads a copy of the package's sources in which one guard is missing.
 * @throws when the guard does not stand where the mutation says.
 */
export async function loadMutant(name: string, mutation: Mutation): Promise<HvSim> {
  const folder = join(MUTANTS, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(SOURCES, folder, { recursive: true });
  for (const [guard, without, file = mutation.file] of mutation.edits) {
    const path = join(folder, file);
    const text = readFileSync(path, 'utf8');
    const found = text.split(guard).length - 1;
    if (found !== 1) throw new Error(`${file} holds the guard ${found} times: ${guard}`);
    writeFileSync(
      path,
      text.replace(guard, () => without),
    );
  }
  return (await import(/* @vite-ignore */ join(folder, 'index.ts'))) as HvSim;
}

/** Takes all copies away. */
export function dropMutants(): void {
  rmSync(MUTANTS, { recursive: true, force: true });
}
