import { run } from '@stricli/core';
import { it } from 'vitest';
import { app } from '/work/main/apps/cli/src/app.ts';

it('x', async () => {
  let out = '',
    err = '';
  const context: any = {
    process: {
      stdout: {
        write: (t: string) => {
          out += t;
        },
      },
      stderr: {
        write: (t: string) => {
          err += t;
        },
      },
      env: {},
      exitCode: null,
    },
  };
  await run(app, ['decode', ...(process.env.ARGS ?? '').split(' ')], context);
  process.stdout.write(out + '\nERR ' + err + '\nCODE ' + context.process.exitCode + '\n');
});
