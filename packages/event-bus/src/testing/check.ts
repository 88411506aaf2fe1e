/** What a suite needs of a test tool: vitest, node:test and their like fit. */
export interface SuiteTools {
  /** Makes a group of tests. */
  describe(title: string, body: () => void): void;
  /** Makes a test, which fails when its body throws. */
  it(title: string, body: () => void): void;
}

/** Plain assertions, so that a suite runs under any test tool. */
export function same(actual: unknown, expected: unknown, what: string): void {
  const [left, right] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: expected ${right}, got ${left}`);
}

/** The refusal that `act` throws with the given errno name. */
export function refuses(act: () => unknown, errno: string, what: string): void {
  let refusal: unknown;
  try {
    act();
  } catch (error) {
    refusal = (error as { refusal?: { errno?: unknown } }).refusal?.errno ?? String(error);
  }
  same(refusal, errno, what);
}
