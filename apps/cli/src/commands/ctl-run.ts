import { connect } from 'node:net';
import type { CliContext } from '../context.ts';
import { CliError, exitCodes, systemReason } from '../errors.ts';
import type { ControlAnswer, ControlRequest } from '../serve/control.ts';
import { checkSocketPath } from '../serve/socket-path.ts';
import type { CtlFlags } from './ctl.ts';

/** One request, one answer. */
function ask(path: string, request: ControlRequest): Promise<ControlAnswer> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8');
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end < 0) return;
      socket.destroy();
      resolve(JSON.parse(text.slice(0, end)) as ControlAnswer);
    });
    socket.once('error', (error) =>
      reject(new CliError(`${path}: ${systemReason(error)}; is hvsim serve running with --control?`, exitCodes.usage)),
    );
    socket.once('end', () => reject(new CliError(`${path}: the server closed without an answer`)));
  });
}

/** `hvsim ctl COMMAND...` */
export async function ctl(this: CliContext, flags: CtlFlags, command: string, ...args: string[]): Promise<void> {
  checkSocketPath('control', flags.control);
  const answer = await ask(flags.control, { command, export: flags.export, args });
  if (!answer.ok) throw new CliError(answer.error ?? 'refused');
  this.process.stdout.write(`${JSON.stringify(answer.result, null, 2)}\n`);
}
