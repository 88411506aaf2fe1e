import { projectConfig } from 'paravirt-vitest-config';

export default projectConfig('e2e');
