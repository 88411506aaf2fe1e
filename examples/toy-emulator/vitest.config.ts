import { projectConfig } from 'paravirt-vitest-config';

export default projectConfig('example-toy-emulator');
