import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: ['docs', 'packages/*', 'apps/*', 'e2e', 'examples/*', 'scripts', 'tools/release'],
    reporters: ['default', './tools/totals-reporter.mjs'],
  },
});
