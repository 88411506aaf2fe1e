// Plain JavaScript: a config file's imports are loaded by Node itself, which on version 20 reads no TypeScript.
import { defineProject } from 'vitest/config';

const conditions = ['@paravirt/source', 'module', 'node', 'development|production'];

export function projectConfig(name, test = {}) {
  return defineProject({
    ssr: { resolve: { conditions, externalConditions: conditions } },
    resolve: { conditions },
    test: { name, pool: 'threads', include: ['test/**/*.test.ts'], testTimeout: 60_000, ...test },
  });
}
