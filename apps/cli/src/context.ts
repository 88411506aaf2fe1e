import type { CommandContext } from '@stricli/core';

/** A stream to write to, and whether a person sits behind it. */
export interface Output {
  write(text: string): void;
  readonly isTTY?: boolean;
  readonly columns?: number;
  getColorDepth?(env?: Readonly<Partial<Record<string, string>>>): number;
}

/** What a command knows of the process it runs in; tests pass their own. */
export interface CliContext extends CommandContext {
  readonly process: {
    readonly stdout: Output;
    readonly stderr: Output;
    readonly env: Readonly<Partial<Record<string, string>>>;
    exitCode?: number | string | null;
  };
}
