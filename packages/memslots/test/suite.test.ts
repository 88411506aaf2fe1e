import { describe, it } from 'vitest';
import { createMemslots } from '../src/index.ts';
import { memslotsSuite } from '../src/testing.ts';

memslotsSuite({ describe, it, create: () => createMemslots() });
