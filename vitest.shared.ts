import { defineProject, type UserWorkspaceConfig } from 'vitest/config';

/**
 * What every package's tests share. Packages resolve each other by their sources, so no test needs a build;
 * threads, because starting a process for each file costs more than most files do.
 */
export function projectConfig(name: string, test: UserWorkspaceConfig['test'] = {}): UserWorkspaceConfig {
  const conditions = ['@paravirt/source', 'module', 'node', 'development|production'];
  return defineProject({
    ssr: { resolve: { conditions, externalConditions: conditions } },
    resolve: { conditions },
    test: { name, pool: 'threads', include: ['test/**/*.test.ts'], testTimeout: 60_000, ...test },
  });
}
