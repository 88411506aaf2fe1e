import { CliError, exitCodes } from '../errors.ts';

/** Reads a flag's whole number. */
export function whole(name: string, min: number, max: number, allowed = `a whole number from ${min} to ${max}`): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new CliError(`--${name} is ${JSON.stringify(text)}; allowed is ${allowed}`, exitCodes.usage);
    }
    return value;
  };
}

/** Reads the `--seed` of every command that has one. */
export const seed: (text: string) => number = whole('seed', 0, Number.MAX_SAFE_INTEGER, 'a whole number from 0 to 2^53 - 1');
