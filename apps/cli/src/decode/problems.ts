import type { Problem, ProblemKind } from './types.ts';

/** So many of one kind in one file are told one by one; a page of random bytes would fill the screen. */
const SAME_KIND_MAX = 20;

/** Collects what does not fit together, bounded. */
export class Problems {
  private readonly list: Problem[] = [];
  private readonly counts = new Map<string, number>();

  add(capture: string, file: string, kind: ProblemKind, message: string): void {
    const key = JSON.stringify([capture, file, kind]);
    const count = (this.counts.get(key) ?? 0) + 1;
    this.counts.set(key, count);
    if (count <= SAME_KIND_MAX) this.list.push({ capture, file, kind, message });
  }

  /** Everything found, what was cut off counted at the end. */
  all(): Problem[] {
    const cut = [...this.counts].filter(([, count]) => count > SAME_KIND_MAX);
    const rest = cut.map(([key, count]): Problem => {
      const [capture, file, kind] = JSON.parse(key) as [string, string, ProblemKind];
      return { capture, file, kind, message: `and ${count - SAME_KIND_MAX} more of this kind` };
    });
    return [...this.list, ...rest];
  }
}

/** Problems of one capture. */
export type Report = (file: string, kind: ProblemKind, message: string) => void;
