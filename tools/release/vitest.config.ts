import { projectConfig } from 'paravirt-vitest-config';

// Whole releases are rehearsed: minutes on a busy machine.
export default projectConfig('release', { testTimeout: 600_000, hookTimeout: 120_000 });
