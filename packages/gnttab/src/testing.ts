export { FakeDomain, FakeHypervisor, type FakeHypervisorOptions } from './fake-hypervisor.ts';
export { type GrantWorld, type GuestSide, grantHypercallsSuite, type SuiteTools } from './hypercalls-suite.ts';
export { ListModel } from './list-model.ts';
export { type Recorded, recorderBus } from './recorder.ts';
export {
  fillPage,
  mapOp,
  type PageCounts,
  type TableFixture,
  type TableFixtureOptions,
  tableFixture,
  unmapOp,
} from './table-fixture.ts';
export { TickScheduler } from './tick-scheduler.ts';
