import { join } from 'node:path';
import { build } from 'esbuild';
import { readmeExample } from './example.mjs';
import { publishedPackages } from './packages.mjs';

/**
 * The example of a package's README as one module for a browser, made of the built packages. Whatever reaches for Node fails the bundle.
 * @param {string} root @param {string} folder
 * @returns {Promise<{ code: string, imports: string[] }>} imports: what is left to be brought from elsewhere
 */
export async function bundleExample(root, folder) {
  const example = readmeExample(join(root, folder));
  const { outputFiles, metafile } = await build({
    stdin: { contents: example.code, loader: /** @type {'ts' | 'js'} */ (example.language), resolveDir: join(root, folder) },
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2023',
    logLevel: 'silent',
    plugins: [publishedEntries(root)],
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports.map(({ path }) => path));
  return { code: outputFiles[0]?.text ?? '', imports };
}

/** Our packages by what their published manifests export: an example also names its own package. @param {string} root @returns {import('esbuild').Plugin} */
function publishedEntries(root) {
  const targets = new Map(
    publishedPackages(root).flatMap(({ name, folder, manifest }) =>
      Object.entries(manifest.publishConfig?.exports ?? {}).flatMap(([entry, target]) =>
        typeof target === 'string' ? [] : [/** @type {const} */ ([name + entry.slice(1), join(root, folder, target['default'] ?? '')])],
      ),
    ),
  );
  return {
    name: 'published-entries',
    setup({ onResolve }) {
      onResolve({ filter: /^@paravirt\// }, ({ path }) => {
        const target = targets.get(path);
        return target === undefined ? { errors: [{ text: `${path} is exported by no package` }] } : { path: target };
      });
    },
  };
}
