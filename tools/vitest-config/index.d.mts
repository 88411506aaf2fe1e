import type { UserWorkspaceConfig } from 'vitest/config';

/**
 * What every package's tests share. Packages resolve each other by their sources, so no test needs a build;
 * threads, because starting a process for each file costs more than most files do.
 */
export function projectConfig(name: string, test?: UserWorkspaceConfig['test']): UserWorkspaceConfig;
