import { projectConfig } from 'paravirt-vitest-config';

export default projectConfig('example-dump-tool');
