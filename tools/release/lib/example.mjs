import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { transform } from 'esbuild';

/** A README has no example where one is due. */
export class ExampleError extends Error {
  /** @override */
  name = 'ExampleError';
}

/**
 * The example of a README: the first block of code under "## Use".
 * @param {string} folder a package
 * @returns {{ language: 'ts' | 'js' | 'sh', code: string }}
 */
export function readmeExample(folder) {
  const text = readFileSync(join(folder, 'README.md'), 'utf8');
  const use = /^## Use$/m.exec(text);
  if (use === null) throw new ExampleError(`${folder}/README.md has no "## Use"`);
  const block = /^```(ts|js|sh)\n([\s\S]*?)^```$/m.exec(text.slice(use.index));
  if (block === null) throw new ExampleError(`${folder}/README.md has no block of ts, js or sh under "## Use"`);
  return { language: /** @type {'ts' | 'js' | 'sh'} */ (block[1]), code: /** @type {string} */ (block[2]) };
}

/**
 * What a README lets a stranger paste first: its first block of shell, before "## Use" or, in a package of commands, there.
 * @param {string} folder a package
 */
export function readmeStart(folder) {
  const block = /^```sh\n([\s\S]*?)^```$/m.exec(readFileSync(join(folder, 'README.md'), 'utf8'));
  if (block === null) throw new ExampleError(`${folder}/README.md has no block of sh to begin with`);
  return /** @type {string} */ (block[1]);
}

/** @param {{ language: string, code: string }} example @returns {Promise<string>} the example as a module that Node runs */
export async function exampleAsJavaScript({ language, code }) {
  if (language === 'js') return code;
  return (await transform(code, { loader: 'ts', format: 'esm', target: 'es2023' })).code;
}
