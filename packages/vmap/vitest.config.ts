import { projectConfig } from 'paravirt-vitest-config';

// A full campaign takes minutes.
export default projectConfig('vmap', process.env['PARAVIRT_FULL'] ? { testTimeout: 1_800_000 } : {});
