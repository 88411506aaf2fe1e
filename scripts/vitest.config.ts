import { projectConfig } from '../vitest.shared.ts';

export default projectConfig('scripts', { include: ['*.test.ts'] });
