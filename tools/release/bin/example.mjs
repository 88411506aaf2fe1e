// Writes the README's example beside the manifest as example.mjs, before the package is packed: one line of the README then runs it.
import { writeFileSync } from 'node:fs';
import { exampleAsJavaScript, readmeExample } from '../lib/example.mjs';

writeFileSync('example.mjs', `// The example of README.md, as plain JavaScript.\n${await exampleAsJavaScript(readmeExample('.'))}`);
