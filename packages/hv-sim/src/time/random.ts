import { HvError } from '../errors.ts';

/** A seeded stream of numbers. Two streams of one seed and different purposes have nothing in common. */
export interface Random {
  /** An unsigned 32-bit number. */
  next(): number;
  /** A whole number from 0 to `bound - 1`, each as likely. @throws {HvError} `bad-argument` unless 1 <= bound <= 2^32. */
  below(bound: number): number;
  /** A number from 0 up to but not 1. */
  unit(): number;
  /** True with the given probability. */
  chance(probability: number): boolean;
  /** Shuffles in place. */
  shuffle<T>(items: T[]): T[];
  /** The stream of a narrower purpose; it draws nothing from this one. */
  split(purpose: string): Random;
}

/** Four words out of any text: FNV-1a, then mixed until every bit depends on every character. */
function wordsOf(text: string): [number, number, number, number] {
  let h = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    h = Math.imul(h ^ (unit & 0xff), 0x0100_0193);
    h = Math.imul(h ^ (unit >>> 8), 0x0100_0193);
  }
  const next = (): number => {
    h = (h + 0x9e37_79b9) | 0;
    let z = h;
    z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  return [next(), next(), next(), next() | 1];
}

/** xoshiro128**, by Blackman and Vigna, over four 32-bit words. */
class Xoshiro implements Random {
  readonly #name: string;
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(name: string) {
    this.#name = name;
    [this.#a, this.#b, this.#c, this.#d] = wordsOf(name);
  }

  next(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  below(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32) {
      throw new HvError({ code: 'bad-argument', argument: 'bound', value: String(bound), allowed: 'a whole number from 1 to 2^32' });
    }
    // Draws from the incomplete last stretch are thrown away, so that every value is as likely.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    let drawn = this.next();
    while (drawn >= limit) drawn = this.next();
    return drawn % bound;
  }

  unit(): number {
    return this.next() / 2 ** 32;
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const item = items[i]!;
      items[i] = items[j]!;
      items[j] = item;
    }
    return items;
  }

  split(purpose: string): Random {
    return new Xoshiro(`${this.#name}/${purpose}`);
  }
}

/**
 * A generator whose numbers depend on the seed alone. Split it by purpose: a draw for one does not move the others.
 * @throws {HvError} `bad-argument`: neither a string nor a finite number.
 */
export function createRandom(seed: number | string): Random {
  if (typeof seed !== 'string' && !Number.isFinite(seed)) {
    throw new HvError({ code: 'bad-argument', argument: 'seed', value: String(seed), allowed: 'a string or a finite number' });
  }
  return new Xoshiro(`${typeof seed}:${seed}`);
}
