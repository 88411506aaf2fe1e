const ROUNDS = 9;

/** Median of nanoseconds an item over rounds of `count` items, after two to warm up. */
export function measure(count, round) {
  const rounds = [];
  for (let i = -2; i < ROUNDS; i++) {
    const start = process.hrtime.bigint();
    round(count);
    if (i >= 0) rounds.push(Number(process.hrtime.bigint() - start) / count);
  }
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1];
}
