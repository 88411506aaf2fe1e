// Ends a run with one line that scripts can read: the tests of all packages, summed.
export default class TotalsReporter {
  onTestRunEnd(modules, unhandledErrors) {
    let passed = 0;
    let failed = unhandledErrors.length;
    let skipped = 0;
    for (const module of modules) {
      const before = failed;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed += 1;
        else if (state === 'failed') failed += 1;
        else skipped += 1;
      }
      // A file that does not load has no tests, and must not count as nothing.
      if (module.state() === 'failed' && failed === before) failed += 1;
    }
    // The default reporter prints its own summary in the same hook; this line comes after it.
    process.once('exit', () => {
      process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
    });
  }
}
