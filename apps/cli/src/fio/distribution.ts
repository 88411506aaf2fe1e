import type { Distribution } from './options.ts';
import type { Random } from './random.ts';

/** Spreads ranks over the range, so that the hot blocks of a zipf or pareto job do not all lie at its start. */
function scatter(rank: number, blocks: number): number {
  // A multiplicative hash of the rank (Fibonacci hashing), folded into the range.
  const hashed = (Math.imul(rank & 0xffff_ffff, 0x9e37_79b9) >>> 0) ^ (Math.floor(rank / 0x1_0000_0000) >>> 0);
  return (hashed >>> 0) % blocks;
}

/** Draws block numbers in [0, blocks) by a distribution. */
export function createPicker(distribution: Distribution, blocks: number, random: Random): () => number {
  if (distribution.kind === 'random') return () => random.below(blocks);
  const { parameter } = distribution;
  switch (distribution.kind) {
    case 'zipf': {
      // The inverse of the continuous bounding curve (Gries' rejection-free approximation): exact enough for a workload, O(1).
      const power = 1 - parameter;
      const span = (blocks + 1) ** power - 1;
      return () => scatter(Math.min(blocks - 1, Math.floor((random.unit() * span + 1) ** (1 / power)) - 1), blocks);
    }
    case 'pareto': {
      const exponent = Math.log(parameter) / Math.log(1 - parameter);
      return () => scatter(Math.min(blocks - 1, Math.floor(blocks * random.unit() ** exponent)), blocks);
    }
    case 'normal': {
      const deviation = (parameter / 100) * blocks;
      return () => {
        for (let tries = 0; tries < 64; tries += 1) {
          const radius = Math.sqrt(-2 * Math.log(1 - random.unit()));
          const block = Math.floor(blocks / 2 + deviation * radius * Math.cos(2 * Math.PI * random.unit()));
          if (block >= 0 && block < blocks) return block;
        }
        return Math.floor(blocks / 2);
      };
    }
  }
}
