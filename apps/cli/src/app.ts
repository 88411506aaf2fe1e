import {
  type Application,
  ArgumentScannerError,
  buildApplication,
  buildRouteMap,
  formatMessageForArgumentScannerError,
  text_en,
} from '@stricli/core';
import { completionCommand, proposeCommand } from './commands/completion.ts';
import { conformCommand } from './commands/conform.ts';
import { cpCommand } from './commands/cp.ts';
import { ctlCommand } from './commands/ctl.ts';
import { decodeCommand } from './commands/decode.ts';
import { demoCommand } from './commands/demo.ts';
import { doctorCommand } from './commands/doctor.ts';
import { runCommand } from './commands/run.ts';
import { serveCommand } from './commands/serve.ts';
import type { CliContext } from './context.ts';
import { CliError, describeError, exitCodes, messageOf } from './errors.ts';
import { version } from './version.ts';

const debug = (): boolean => (process.env['HVSIM_DEBUG'] ?? '') !== '';

const root = buildRouteMap({
  routes: {
    cp: cpCommand,
    run: runCommand,
    serve: serveCommand,
    ctl: ctlCommand,
    decode: decodeCommand,
    conform: conformCommand,
    demo: demoCommand,
    doctor: doctorCommand,
    completion: completionCommand,
    __complete: proposeCommand,
  },
  docs: {
    hideRoute: { __complete: true },
    brief: 'A simulated hypervisor on the command line: real block driver code over grant tables, without a Xen host',
    fullDescription: [
      'hvsim runs a block frontend and a backend, in domains of their own, on a simulated hypervisor: every byte goes',
      'through a shared ring, granted pages and an event channel.',
      '',
      'CONFIGURATION  hvsim.config.ts, .js or .json in the current folder holds flags for cp, demo, run and serve; --config PATH',
      '  names another file, and the command line goes before it.',
      '',
      'EXIT CODES  0 done; 1 done and something differed or failed; 2 a wrong argument or unreadable input; 130 interrupted.',
      'NO_COLOR=1 turns colours off; HVSIM_DEBUG=1 adds stack traces to errors.',
    ].join('\n'),
  },
});

/** The commands that are told of. */
export const commandNames = (): string[] =>
  root
    .getAllEntries()
    .filter(({ hidden }) => !hidden)
    .map(({ name }) => name.original);

const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Why the arguments of a command were refused. */
function refusalOf(error: unknown): string {
  if (!(error instanceof ArgumentScannerError)) return text_en.exceptionWhileParsingArguments(error, false);
  return formatMessageForArgumentScannerError(error, {
    // Our own parsers name the flag, its value and what is allowed.
    ArgumentParseError: ({ exception, externalFlagNameOrPlaceholder: name, input }) =>
      exception instanceof CliError ? exception.message : `${flagOf(name)} is ${JSON.stringify(input)}: ${messageOf(exception)}`,
    EnumValidationError: ({ externalFlagName: name, input, values }) =>
      `${flagOf(name)} is ${JSON.stringify(input)}; allowed is ${values.join(', ')}`,
  });
}

export const app: Application<CliContext> = buildApplication<CliContext>(root, {
  name: 'hvsim',
  versionInfo: { currentVersion: version },
  scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
  localization: {
    text: {
      ...text_en,
      exceptionWhileParsingArguments: (error) => `hvsim: ${refusalOf(error)}`,
      noCommandRegisteredForInput: ({ input, corrections }) =>
        `hvsim: no command ${JSON.stringify(input)}; ${corrections.length > 0 ? `did you mean ${corrections.join(' or ')}?` : `there are ${commandNames().join(', ')}`}`,
      exceptionWhileRunningCommand: (error) => describeError(error, debug()),
      commandErrorResult: (error) => describeError(error, debug()),
      exceptionWhileLoadingCommandFunction: (error) => describeError(error, debug()),
    },
  },
  determineExitCode: (error) => (error instanceof CliError ? error.exitCode : exitCodes.failed),
});
