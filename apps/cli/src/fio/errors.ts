import { CliError, exitCodes } from '../errors.ts';

/** A file that is no job file may be one long line. */
const MESSAGE_MAX = 300;

/** A job file that cannot be run as it stands; the message names the line, the key and what is allowed. */
export class JobError extends CliError {
  constructor(message: string) {
    super(message.length > MESSAGE_MAX ? `${message.slice(0, MESSAGE_MAX)}...` : message, exitCodes.failed);
  }

  /** Runs `read`, whose errors then begin with the place where they arose. */
  static at<T>(place: string, read: () => T): T {
    try {
      return read();
    } catch (error) {
      throw error instanceof JobError ? new JobError(`${place}: ${error.message}`) : error;
    }
  }
}
