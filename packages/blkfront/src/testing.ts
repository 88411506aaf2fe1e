export { FakeGrants } from './testing/fake-grants.ts';
export { FakeStore, type StoreChange } from './testing/fake-store.ts';
export { FakeTime } from './testing/fake-time.ts';
export { Loopback, type LoopbackOptions, type SeenRequest } from './testing/loopback.ts';
export {
  blkfrontSuite,
  type Combination,
  combinations,
  coveringCombinations,
  describeCombination,
  optionsFor,
  type SuiteRig,
  type SuiteTools,
} from './testing/suite.ts';
export { FakeEvents, World, type WorldOptions } from './testing/world.ts';
