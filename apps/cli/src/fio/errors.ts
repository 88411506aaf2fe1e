import { CliError, exitCodes } from '../errors.ts';

/** A job file that cannot be run as it stands; the message names the line, the key and what is allowed. */
export class JobError extends CliError {
  constructor(message: string) {
    super(message, exitCodes.failed);
  }
}
