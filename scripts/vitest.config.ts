import { projectConfig } from 'paravirt-vitest-config';

export default projectConfig('scripts', { include: ['*.test.ts'] });
