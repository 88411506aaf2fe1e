import { projectConfig } from 'paravirt-vitest-config';

export default projectConfig('example-plugin-disk');
