import { JobError } from './errors.ts';

/** A job as its file has it: keys in order, `true` for a key without a value; its own and those of the [global] sections before it. */
export interface JobSection {
  readonly name: string;
  /** Where it begins: the file, as it was named. */
  readonly file: string;
  readonly own: ReadonlyMap<string, string | true>;
  readonly globals: ReadonlyMap<string, string | true>;
}

export interface JobFileOptions {
  readonly env: Readonly<Partial<Record<string, string>>>;
  /** Reads the file that an `include` names. */
  readonly include?: (path: string) => string;
}

const INCLUDES_MAX = 16;

/** `${NAME}` from the environment; a name that is not set becomes nothing, as in fio. */
function expanded(text: string, env: JobFileOptions['env']): string {
  return text.replace(/\$\{([^}]*)\}/g, (_, name: string) => env[name] ?? '');
}

/** A job file as it was read. */
export interface JobText {
  readonly name: string;
  readonly text: string;
}

/** Reads job files, one behind the other. `;` and `#` begin a comment line; sections are `[name]`; [global] holds for the jobs after it. */
export function parseJobFiles(files: readonly JobText[], options: JobFileOptions): readonly JobSection[] {
  const jobs: JobSection[] = [];
  let globals = new Map<string, string | true>();
  let keys: Map<string, string | true> | undefined;

  const read = (file: string, content: string, depth: number): void => {
    if (depth > INCLUDES_MAX) throw new JobError(`${file}: include: files include each other more than ${INCLUDES_MAX} deep`);
    for (const [index, raw] of content.split(/\r?\n/).entries()) {
      const line = raw.trim();
      if (line === '' || line.startsWith(';') || line.startsWith('#')) continue;
      const section = /^\[(.*)\]$/.exec(line);
      const include = /^include\s+(.+)$/.exec(line);
      if (section) {
        const name = (section[1] as string).trim();
        if (name === 'global') {
          globals = new Map(globals);
          keys = globals;
        } else {
          keys = new Map();
          jobs.push({ name, file, own: keys, globals });
        }
      } else if (include) {
        if (!options.include) throw new JobError(`${file}: line ${index + 1}: include is not available here`);
        const path = (include[1] as string).trim();
        read(path, options.include(path), depth + 1);
      } else {
        if (!keys) throw new JobError(`${file}: line ${index + 1}: ${line}: a key before the first [section]`);
        const at = line.indexOf('=');
        const key = (at < 0 ? line : line.slice(0, at)).trim().toLowerCase();
        const value = at < 0 ? true : expanded(line.slice(at + 1).trim(), options.env);
        keys.set(key, value);
        if (keys === globals) continue;
      }
    }
  };
  for (const { name, text } of files) read(name, text, 0);
  if (jobs.length === 0)
    throw new JobError(`${files.map(({ name }) => name).join(', ')}: no job: a job file has at least one [name] section besides [global]`);
  return jobs;
}
